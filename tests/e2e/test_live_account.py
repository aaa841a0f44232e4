"""Accounts of a real venue, with the real processes: keys over the link, orders through crashes, changes of mode."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from koc_qt.domain.errors import KocError
from koc_qt.domain.orders import Order, OrderStatus
from koc_qt.domain.state import TradingMode
from koc_qt.link.account_messages import AddAccount, RemoveAccount, SwitchAccount, UpdateCredentials
from koc_qt.link.messages import EngageKillSwitch, OrderChanged
from tests.conditions import wait_until
from tests.e2e.account_desk import ACCOUNT, LABEL, AccountDesk, shown
from tests.e2e.exchange_process import Venue, venue
from tests.e2e.processes import EngineProcess, Profile, runs, strategy, trades

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


def test_whatever_the_network_does_no_order_is_lost_or_doubled(desk: AccountDesk) -> None:
    place = desk.place
    place.start()
    with desk.engine() as engine:
        desk.add(LIVE)
        desk.wait_connected(engine)
        with desk.home.listening() as facts:

            def history(order: Order) -> list[OrderStatus]:
                told = [fact.order for fact in facts if isinstance(fact, OrderChanged)]
                return [each.status for each in told if each.client_order_id == order.client_order_id]

            # accepted, and the answer never comes; nor does a word on the stream
            place.ask("silence", public=False)
            place.ask("lose_answer", what="place", how="hang")
            lost = desk.buy("60000")
            place.ask("clear")
            wait_until(lambda: history(lost)[-1] is OrderStatus.ACCEPTED, what="the order to be found")
            if OrderStatus.UNKNOWN in history(lost):
                assert history(lost) == [OrderStatus.SUBMITTED, OrderStatus.UNKNOWN, OrderStatus.ACCEPTED]
            else:  # the account's audit, which comes once a minute, found it before the answer was given up
                assert history(lost) == [OrderStatus.SUBMITTED, OrderStatus.ACCEPTED]

            # the user stream is cut in the middle of a frame, and what happens meanwhile is nowhere told
            place.ask("refuse_streams")
            assert place.ask("drop", kind="private")
            interrupted = engine.wait_for_status(
                lambda s: shown(s)["state"] == "interrupted", "the account to be interrupted"
            )
            assert "Binance" in shown(interrupted)["reason"]
            place.ask("show", symbol="BTC/USDT", bid="59000", ask="59500", size="5")
            wait_until(lambda: history(lost)[-1] is OrderStatus.FILLED, what="its fill to be found by asking")
            meanwhile = desk.buy()
            assert meanwhile.status is OrderStatus.FILLED
            place.ask("refuse_streams", refuse=False)
            desk.wait_connected(engine)

            # everything is told twice, and what was last comes first
            place.ask("duplicate")
            place.ask("reorder", frames=4)
            for _ in range(3):
                desk.buy()
            place.ask("clear")

            # the kill switch, while nothing can be cancelled; once the connection is back all is
            resting = [desk.buy(price) for price in ("50000", "50001", "50002")]
            place.ask("server_error", path="/api/v3/order")
            desk.request(EngageKillSwitch("enough"))
            assert len(desk.open_orders()) == len(resting)
            place.ask("clear")
            place.ask("lose_answer", what="cancel", how="drop")
            place.ask("drop", kind="private")
            desk.wait_ended()
            there = place.books()
            assert {there[order.client_order_id]["status"] for order in resting} == {"canceled"}
            with pytest.raises(KocError, match="kill switch"):
                desk.buy()
            assert len(desk.check_books()[0]) == 8
        assert engine.stop() == 0


def test_an_account_is_switched_to_paper_and_removed_without_its_live_keys(desk: AccountDesk) -> None:
    place = desk.place
    place.start()
    with desk.engine() as engine:
        desk.add(LIVE)
        desk.wait_connected(engine)
        desk.start_busy()
        engine.wait_for_status(trades("busy"), "trades")
        wait_until(lambda: len(desk.open_orders()) >= 3, what="orders that rest")
        desk.request(SwitchAccount(ACCOUNT, PAPER))
        sent = len(place.asked())
        status = desk.wait_connected(engine)
        assert (status["mode"], status["has_keys"]) == ("paper", False)
        assert not desk.open_orders()
        _, theirs = desk.check_books()
        assert all(order["status"] in ("filled", "canceled", "expired") for order in theirs.values())
        stopped = strategy(engine.wait_for_status(lambda _: True, "a status"), "busy")
        assert stopped["state"] == "stopped"
        assert "paper" in stopped["reason"]

        count = len(desk.home.journal().fills)
        desk.start_busy()
        wait_until(lambda: len(desk.home.journal().fills) > count + 1, timeout_s=30.0, what="trades on paper")
        assert place.asked()[sent:] == [], "an account on paper used its keys"

        desk.go(TESTNET)
        desk.wait_connected(engine)
        assert {each.key for each in place.asked()[sent:]} == {place.keys[TESTNET]["key"]}
        for typed in ("", ACCOUNT, LABEL.lower()):
            with pytest.raises(KocError, match="type the account's name"):
                desk.request(SwitchAccount(ACCOUNT, LIVE, typed))
        assert place.keys[LIVE]["key"] not in {each.key for each in place.asked()[sent:]}

        desk.buy("50000")
        with pytest.raises(KocError, match="in use"):
            desk.request(RemoveAccount(ACCOUNT))
        assert desk.kept() == place.keys
        desk.request(RemoveAccount(ACCOUNT, stop=True))
        sent = len(place.asked())
        assert desk.kept() == {}
        assert {order["status"] for order in place.books(TESTNET).values()} == {"canceled"}
        assert ACCOUNT not in desk.home.paths.accounts_file.read_text()
        with pytest.raises(KocError, match="choose another name"):
            desk.add(TESTNET)
        assert engine.stop() == 0
    assert place.asked()[sent:] == []


def test_without_a_network_and_with_wrong_keys_the_rest_goes_on(desk: AccountDesk) -> None:
    place = desk.place
    place.prepare()
    with desk.engine() as engine:
        limits = Path(f"/proc/{engine.pid}/limits").read_text()
        assert re.search(r"Max core file size +0 +0 ", limits), "a core file would have what opens the file of keys"
        desk.add(TESTNET)
        status = engine.wait_for_status(
            lambda s: shown(s)["state"] == "disconnected" and "binance" in shown(s)["reason"].lower(), "a reason"
        )
        assert shown(status, "sim")["state"] == "connected"
        place.start()
        desk.wait_connected(engine)
        assert desk.buy().status is OrderStatus.FILLED

        # a venue that says the keys aloud: nobody repeats them
        said = {"code": -1013, "msg": f"Filter failure: {place.keys[TESTNET]['key']} {place.keys[TESTNET]['secret']}"}
        place.ask("rest", path="/api/v3/order", status=400, body=json.dumps(said))
        with desk.home.listening() as facts:
            refused = desk.buy()
            place.ask("clear")
        assert (refused.status, "Filter failure: *** ***" in refused.reason) == (OrderStatus.REJECTED, True)
        files = [file.read_bytes() for file in desk.home.home.rglob("*") if file.is_file()]
        for value in place.keys[TESTNET].values():
            assert value not in repr(facts) + engine.output
            assert not any(value.encode() in content for content in files)

        right = place.keys[TESTNET]
        for wrong in ({**right, "secret": "x" * 64}, place.keys[LIVE], {**right, "key": "no key"}):
            desk.request(UpdateCredentials(ACCOUNT, wrong))
            status = engine.wait_for_status(lambda s: shown(s)["state"] == "disconnected", "the account to be closed")
            assert re.search("check (that )?key and secret", shown(status)["reason"])
            assert not any(value in shown(status)["reason"] for value in wrong.values())
            refused = desk.buy()
            assert (refused.status, "nothing was sent" in refused.reason) == (OrderStatus.REJECTED, True)
        desk.request(AddAccount("binance", TESTNET, "other", "", right))
        engine.wait_for_status(lambda s: shown(s, "other")["state"] == "connected", "another account to be connected")
        assert shown(status, "sim")["state"] == "connected"
        desk.request(UpdateCredentials(ACCOUNT, {name: f"  {value}\n" for name, value in right.items()}))
        desk.wait_connected(engine)
        assert desk.buy().status is OrderStatus.FILLED
        desk.check_books()
        assert engine.stop() == 0
