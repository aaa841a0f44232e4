"""Accounts of a real venue, with the real processes: keys over the link, orders through crashes, changes of mode."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from koc_qt.domain.orders import Order, OrderStatus
from koc_qt.domain.state import TradingMode
from koc_qt.link.messages import EngageKillSwitch
from tests.conditions import wait_until
from tests.e2e.account_desk import AccountDesk
from tests.e2e.exchange_process import Venue, venue
from tests.e2e.processes import EngineProcess, Profile, runs, trades

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

LIVE, TESTNET, PAPER = TradingMode.LIVE, TradingMode.TESTNET, TradingMode.PAPER


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Venue]:
    with venue(tmp_path / "venue") as place:
        yield place


@pytest.fixture
def desk(home: Profile, place: Venue) -> AccountDesk:
    return AccountDesk(home, place)


def kill_when(desk: AccountDesk, engine: EngineProcess, moment: str, rng: random.Random) -> list[Order]:
    """Let it trade a while, kill it when an order is at a moment, and give the orders that were open on the disk.

    The venue says nothing on its stream meanwhile, and the answer that would end the moment does not come: by chance
    because the request did not arrive, or because its answer was lost.
    """
    enough = len(desk.orders()) + rng.randint(6, 20)
    wait_until(lambda: len(desk.orders()) >= enough, timeout_s=30.0, what=f"{enough} orders")
    at: dict[str, tuple[str, Callable[[Order], bool]]] = {
        "just sent": ("place", lambda order: order.status is OrderStatus.SUBMITTED),
        "working": ("", lambda order: order.status is OrderStatus.ACCEPTED),
        "being cancelled": ("cancel", lambda order: order.cancel_requested),
    }
    what, is_there = at[moment]
    desk.place.ask("silence", public=False)
    if what:
        desk.place.ask("lose_answer", what=what, how="hang")
    wait_until(lambda: any(map(is_there, desk.open_orders())), timeout_s=20.0, what=f"an order that is {moment}")
    engine.kill()
    desk.place.ask("clear")
    return desk.open_orders()


def test_killed_at_any_moment_every_order_is_known_once(desk: AccountDesk) -> None:
    desk.place.start()
    rng = random.Random(4)
    with desk.engine() as engine:
        desk.add(TESTNET)
        desk.wait_connected(engine)
        desk.start_busy()
        engine.wait_for_status(trades("busy"), "trades")
        before = kill_when(desk, engine, "just sent", rng)
    with desk.engine() as engine:
        go_on(desk, engine, before)
        desk.go(LIVE)
        desk.check_books()
        assert not desk.place.books(LIVE)
        desk.wait_connected(engine)
        desk.start_busy()
        engine.wait_for_status(trades("busy"), "trades")
        before = kill_when(desk, engine, "being cancelled", rng)
    with desk.engine() as engine:
        go_on(desk, engine, before)
        before = kill_when(desk, engine, "working", rng)
    with desk.engine() as engine:
        go_on(desk, engine, before)
        desk.request(EngageKillSwitch("time to count"))
        desk.wait_ended()
        _, theirs = desk.check_books()
        assert {order["status"] for order in theirs.values()} <= {"filled", "canceled", "expired"}
        assert {"filled", "canceled"} <= {order["status"] for order in desk.place.books(LIVE).values()}
        assert engine.stop() == 0
    desk.check_books()


def go_on(desk: AccountDesk, engine: EngineProcess, before: list[Order]) -> None:
    """Hold that what was open when the engine died is known again, and that the strategy trades again."""
    assert before
    desk.wait_resolved(before)
    desk.wait_connected(engine)
    count = len(desk.home.journal().fills)
    engine.wait_for_status(runs("busy"), "the strategy to run")
    wait_until(lambda: len(desk.home.journal().fills) > count, timeout_s=30.0, what="new trades")
