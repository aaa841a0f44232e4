"""backtrader held against the replay engine: orders of every kind, several symbols, and strategies that hear quotes."""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from koc_qt.domain.backtests import Engine
from koc_qt.domain.errors import EngineLacks
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.market import Quote
from koc_qt.sdk import Bar, OrderHandle, Strategy
from koc_qt.sdk.channel import ReplayBars
from koc_qt.worker.engines import backtrader as _backtrader  # noqa: F401 (as its process does, before any strategy)
from koc_qt.worker.engines import run_class
from koc_qt.worker.replay import Replay
from tests.unit.sdk.desk import BTC, OTHER
from tests.unit.worker.replays import Candle, bars, flat, start_replay, together, walk

pytestmark = pytest.mark.timeout(120)  # the library takes a second to load, on a busy machine many


class Ran:
    """A run on one engine, from start to end, and all that its strategy heard."""

    def __init__(self, engine: Engine, strategy: Strategy, *messages: ReplayBars, **options: Any) -> None:
        self.lines: list[str] = []
        self.strategy = strategy
        start = start_replay(engine=engine, **{"cash": Decimal(10**6)} | options)
        self.run: Replay = run_class(engine, type(strategy))(
            strategy, start, lambda _, level, text: self.lines.append(f"{level} {text}")
        )
        self.run.start()
        for message in messages:
            if message.warmup:
                self.run.warm_up(message)
            else:
                self.run.play(message, lambda: 100)
        self.run.play_kept(lambda: 100)
        self.run.finish()

    @property
    def fills(self) -> list[tuple[Any, ...]]:
        return [
            (
                fill.time_ns,
                fill.instrument,
                fill.side,
                fill.price,
                fill.quantity,
                fill.fee,
                fill.liquidity,
                fill.fill_id,
            )
            for fill in self.run.fills
        ]


def same(make: Callable[[], Strategy], *messages: ReplayBars, **options: Any) -> Ran:
    """Hold that backtrader gives what ours gives, and tells its strategy the same; give ours."""
    ours, theirs = (Ran(engine, make(), *messages, **options) for engine in (Engine.REPLAY, Engine.BACKTRADER))
    heard, expected = (getattr(ran.strategy, "heard", []) for ran in (theirs, ours))
    for number, (one, other) in enumerate(zip(heard, expected, strict=False)):
        assert one == other, number
    assert len(heard) == len(expected)
    assert theirs.fills == ours.fills
    assert theirs.run.trips.trips(theirs.run.marks) == ours.run.trips.trips(ours.run.marks)
    assert theirs.run.times_ns == ours.run.times_ns
    assert np.allclose(theirs.run.equity, ours.run.equity, rtol=1e-12, atol=0.0)
    assert theirs.run.prices == ours.run.prices
    assert theirs.lines == ours.lines
    return ours


class Everything(Strategy):
    """Orders at random whatever there is, at quotes and at bars, and notes what it is told."""

    kinds = ("market", "limit", "post", "ioc", "fok", "stop", "reduce", "cancel", "close")

    def __init__(self, seed: int, often: float = 0.5, size: float = 3.0) -> None:
        self.rng = random.Random(seed)
        self.often = often
        self.size = size
        self.heard: list[Any] = []

    def act(self, price: float) -> None:
        rng = self.rng
        rules = rng.choice(self.instruments)
        place = rng.choice((self.buy, self.sell))
        quantity = round(rng.uniform(0.06, self.size), 5)
        near = round(max(price * rng.uniform(0.99, 1.01), 0.01), 2)
        match rng.choice(self.kinds):
            case "market":
                place(quantity, instrument=rules)
            case "limit":
                place(quantity, price=near, instrument=rules)
            case "post":
                place(quantity, price=near, post_only=True, instrument=rules)
            case "ioc":
                place(quantity, price=near, time_in_force="ioc", instrument=rules)
            case "fok":
                place(quantity, price=near, time_in_force="fok", instrument=rules)
            case "stop":
                place(quantity, stop=near, instrument=rules)
            case "reduce":
                place(quantity, price=near, reduce_only=True, instrument=rules)
            case "cancel":
                self.cancel_all()
            case "close":
                self.close_position(rules)

    def on_bar(self, bar: Bar) -> None:
        self.note("bar")
        if self.rng.random() < self.often:
            self.act(bar.close)

    def on_order(self, order: OrderHandle) -> None:
        # the numbers of orders are given in the order in which they were placed
        self.heard.append((str(order.status), order.side, order.quantity, order.filled, order.reason))

    def on_fill(self, fill: Any) -> None:
        self.note(fill.fill_id)

    def note(self, what: str) -> None:
        holdings = tuple(self.position(rules).quantity for rules in self.instruments)
        self.heard.append((what, holdings, self.cash()))


class Listening(Everything):
    """The same, which hears quotes besides."""

    def on_quote(self, quote: Quote) -> None:
        self.heard.append(quote)
        if self.rng.random() < self.often:
            self.act(float(quote.bid))


class Pair(Listening):
    instruments_wanted = 2


def gaps(count: int, seed: int) -> list[Candle]:
    """Give a walk whose bars open anywhere near, and often have no body or no wick, so that prices tie."""
    rng = random.Random(seed)
    found = []
    for opening, high, low, close in walk(count, seed):
        opening = round(opening + rng.choice((0, 0, rng.gauss(0, 0.4))), 2)
        found.append((opening, max(opening, high), min(opening, low), close))
    return found


COSTS: dict[str, dict[str, Any]] = {
    "plain": {"volume_fraction": None},
    "scarce": {"volume_fraction": None, "cash": Decimal(400)},
    "no shorts": {"volume_fraction": None, "allow_short": False, "cash": Decimal(700)},
    "little volume": {"volume_fraction": Decimal("0.1")},
    "costly": {
        "volume_fraction": Decimal("0.1"), "spread": Decimal("0.001"), "slippage": Decimal("0.0003"),
        "slippage_ticks": 2, "fee": Decimal("0.0007"),
    },
}  # fmt: skip


@pytest.mark.parametrize("costs", COSTS)
@pytest.mark.parametrize("kind", [Everything, Listening])
@pytest.mark.parametrize("seed", range(2))
def test_orders_of_every_kind_are_executed_alike(kind: type[Everything], seed: int, costs: str) -> None:
    warm = bars(gaps(3, seed + 50), first=-3, warmup=True)
    volume = 12.0 if "volume_fraction" in COSTS[costs] and COSTS[costs]["volume_fraction"] else 1e6
    ours = same(lambda: kind(seed), warm, bars(gaps(150, seed), volume=volume), **COSTS[costs])
    assert len(ours.fills) > 20


@pytest.mark.parametrize("costs", COSTS)
@pytest.mark.parametrize("seed", range(2))
def test_two_venues_with_gaps_in_their_series(seed: int, costs: str) -> None:
    rng = random.Random(seed)
    parts = []
    for row in range(2):
        candles = gaps(150, seed)
        whole = bars(candles, row=row, volume=15.0)
        kept = [number for number in range(150) if rng.random() < 0.9]
        columns = ("row", "open_time_ns", "open", "high", "low", "close", "volume")
        parts.append(ReplayBars(False, *([getattr(whole, name)[number] for number in kept] for name in columns)))
    ours = same(lambda: Pair(seed, size=6.0), together(*parts), instruments=(BTC, OTHER), **COSTS[costs])
    assert len({fill[1] for fill in ours.fills}) == 2


@pytest.mark.parametrize("seed", range(12))
def test_what_takes_all_the_cash_to_the_last_digit_is_filled(seed: int) -> None:
    rng = random.Random(seed)
    price, quantity = rng.randrange(1_000, 20_000) / 100, Decimal(rng.randrange(100_000, 900_000)) / 100_000

    class All(Everything):
        def on_bar(self, bar: Bar) -> None:
            if not self.position().quantity:
                self.buy(quantity)

    cost = Decimal(str(price)) * quantity * Decimal("1.001")
    assert len(same(lambda: All(1, often=0), bars(flat(price, price, price)), cash=cost).fills) == 1
    short = cost - Decimal("1e-12")
    assert not same(lambda: All(1, often=0), bars(flat(price, price, price)), cash=short).fills


def test_what_is_asked_for_before_the_first_bar_meets_it() -> None:
    class Early(Everything):
        def on_start(self) -> None:
            self.buy(1)
            self.buy(1, price=90)

    ours = same(lambda: Early(1, often=0), bars(flat(100.0), first=-1, warmup=True), bars(walk(5)))
    assert len(ours.fills) == 1
    assert not same(lambda: Early(1, often=0), bars(walk(5))).fills  # nothing is known of the market yet


@pytest.mark.parametrize("engine", [Engine.REPLAY, Engine.BACKTRADER])
def test_a_series_without_a_bar_is_no_market(engine: Engine) -> None:
    class Both(Pair):
        def act(self, price: float) -> None:
            for rules in self.instruments:
                self.buy(1, instrument=rules)

    ran = Ran(engine, Both(1), bars(walk(9)), instruments=(BTC, OTHER))
    assert {fill[1] for fill in ran.fills} == {BTC.id}
    assert not Ran(engine, Both(1), instruments=(BTC, OTHER)).fills


def test_what_backtrader_cannot_do_is_refused() -> None:
    class Asks(Strategy):
        def __init__(self, action: Callable[[Strategy], object]) -> None:
            self.action = action

        def on_bar(self, bar: Bar) -> None:
            self.action(self)

        def on_order(self, order: OrderHandle) -> None:
            self.amend(order, quantity=1)

    with pytest.raises(EngineLacks, match="fills stop-limit orders by rules of its own"):
        Ran(Engine.BACKTRADER, Asks(lambda s: s.buy(1, price=90, stop=95)), bars(walk(5)))
    with pytest.raises(EngineLacks, match="backtrader changes no order"):
        Ran(Engine.BACKTRADER, Asks(lambda s: s.buy(2)), bars(walk(5)))
    with pytest.raises(EngineLacks, match="backtrader knows no latency, and 5 ms"):
        Ran(Engine.BACKTRADER, Asks(lambda s: s.buy(2)), latency_ns=5_000_000)


def rules_of(maker: str, taker: str) -> Instrument:
    return Instrument(
        BTC.id, BTC.base, BTC.quote, Decimal("0.01"), Decimal("0.00001"),
        maker_fee=Decimal(maker), taker_fee=Decimal(taker),
    )  # fmt: skip


def test_makers_and_takers_pay_their_own_fee() -> None:
    rules = rules_of("-0.0001", "0.0004")
    ours = same(lambda: Listening(3), bars(gaps(200, 3)), instruments=(rules,), volume_fraction=None)
    paid = {(str(fill[6]), fill[5] < 0) for fill in ours.fills}
    assert paid == {("maker", True), ("taker", False)}
