"""A strategy paper-trades on Binance's recorded market, and the engine is killed in the middle of it, in every way."""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from koc_qt.domain.orders import Order, OrderStatus
from koc_qt.ports.journal import JournalState
from tests.conditions import wait_until
from tests.e2e.books import (
    UNRESOLVED,
    check_books,
    check_grown,
    halt_and_count,
)
from tests.e2e.processes import STRATEGIES, EngineProcess, Profile, Status, runs, strategy, trades
from tests.wire.recording import RECORDED, Recording, load
from tests.wire.synthetic import synthetic

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ACCOUNT = "binance-paper"
BUSY = ("--account", ACCOUNT, "--symbol", "BTC/USDT", "--strategy", str(STRATEGIES / "busy.py"))
Wire = Callable[..., dict[str, Any]]

# What an order may be in the middle of when the engine dies.
MOMENTS: dict[str, Callable[[Order], bool]] = {
    "just sent": lambda order: order.status is OrderStatus.SUBMITTED,
    "working": lambda order: order.status is OrderStatus.ACCEPTED,
    "being cancelled": lambda order: order.cancel_requested and order.is_open,
}


def configure(home: Profile, venue: dict[str, Any]) -> None:
    home.configure(
        {
            "venues": {"binance": {"endpoint": f"{venue['host']}:{venue['port']}", "ca_file": venue["ca_file"]}},
            "accounts": [
                {"id": "sim", "venue": "sim", "mode": "simulated", "balances": {"USDT": 100_000}},
                # with a latency at which every look finds orders and cancels on their way
                {"id": ACCOUNT, "venue": "binance", "mode": "paper", "balances": {"USDT": 100_000}, "latency_ms": 150},
            ],
            "risk": {"max_orders_per_minute": 100_000},
            "engine": {"heartbeat_s": 0.2},
        }
    )


def price_range(recording: Recording) -> tuple[Decimal, Decimal]:
    """Give the lowest and highest price that the recorded market showed at its top."""
    quotes = [frame.data for frame in recording.of_kind("bookTicker")]
    return min(Decimal(quote["b"]) for quote in quotes), max(Decimal(quote["a"]) for quote in quotes)


def kill_in_the_middle(home: Profile, engine: EngineProcess, moment: str, rng: random.Random) -> JournalState:
    """Let it trade for a random while, kill it when an order is at a moment, and give what was on the disk."""
    enough = len(home.journal().orders) + rng.randint(4, 25)

    def look() -> bool:
        assert engine.process.poll() is None, engine.output
        orders = home.journal().orders
        return len(orders) >= enough and any(MOMENTS[moment](order) for order in orders if order.is_open)

    wait_until(look, timeout_s=60.0, what=f"{enough} orders, and one that is {moment}")
    engine.kill()
    return home.journal()


def trade_through_kills(home: Profile, recording: Recording, seed: int) -> None:
    rng = random.Random(seed)
    before = JournalState((), (), (), None)
    arguments: tuple[str, ...] = BUSY
    for moment in MOMENTS:
        with home.engine(*arguments) as engine:
            go_on(home, engine, before)
            before = kill_in_the_middle(home, engine, moment, rng)
        assert any(order.is_open for order in before.orders), "nothing was in the middle of anything"
        orders, fills = check_books(home)
        assert (len(orders), len(fills)) == (len(before.orders), len(before.fills))
        arguments = ()  # it was running when the engine died, and so goes on by itself
    finish(home, recording, before)


def go_on(home: Profile, engine: EngineProcess, before: JournalState) -> None:
    """Wait until the strategy trades, again if it did before, and hold that the crash has lost and left nothing."""
    was_open = {order.client_order_id for order in before.orders if order.is_open}

    def unresolved() -> list[Order]:
        return [o for o in home.journal().orders if o.client_order_id in was_open and o.status in UNRESOLVED]

    engine.wait_for_status(runs("busy"), "the strategy to run")
    wait_until(lambda: not unresolved(), what="every open order to be resolved or open again")
    engine.wait_for_status(trades("busy", len(before.fills)), "new trades")
    check_grown(before, home.journal())


def agrees(status: Status) -> bool:
    """Tell whether the strategy believes to hold what the engine says: never true again once a fill went astray."""
    busy = strategy(status, "busy")
    held = [Decimal(position["quantity"]) for position in busy["positions"]]
    return bool(held) and busy["metrics"].get("position") == float(sum(held))


def finish(home: Profile, recording: Recording, before: JournalState) -> None:
    """Start once more, halt all trading, and hold books, money and the strategy's own view against each other."""
    with home.engine() as engine:
        go_on(home, engine, before)
        engine.wait_for_status(agrees, "the strategy to hold what the engine says that it holds")
        halt_and_count(home, engine, ACCOUNT)
        assert engine.stop() == 0
    check_grown(before, home.journal())
    _, fills = check_books(home)
    low, high = price_range(recording)
    assert all(low <= Decimal(fill["price"]) <= high for fill in fills), (low, high, fills)
    assert len({fill["price"] for fill in fills}) > 1


def test_the_engine_is_killed_mid_trade(home: Profile, wire: Wire) -> None:
    """On the recorded market where the recording is beside the project, else on one that is made up."""
    source: tuple[str, ...] = ()
    recording = load(RECORDED) if RECORDED.exists() else synthetic(7, 60.0)
    if not RECORDED.exists():
        source = ("--synthetic", "--seed", "7", "--seconds", "60")
    configure(home, wire("--now", "--loop", *source, "--speed", "4"))
    trade_through_kills(home, recording, seed=1)
