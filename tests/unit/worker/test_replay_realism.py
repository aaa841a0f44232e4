"""What a back-test costs, and what it cannot do: prices, delays, volume, the path through a bar, and bad input."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from koc_qt.domain.errors import InvalidOrder, StrategyError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.sdk import OrderHandle, OrderStatus, Strategy
from koc_qt.sdk.indicators import EMA, SMA, Bollinger
from koc_qt.sdk.script import Api, Data
from koc_qt.worker.replay_desk import ReplayDesk
from tests.unit.sdk.desk import BTC, MINUTE_NS, instrument
from tests.unit.worker.replays import SINCE_NS, Run, bars, flat, together, walk

ETH = instrument(InstrumentId("sim", "ETH/USDT"))


class Plan(Strategy):
    """Do at each bar what is planned for it, by its number from 0."""

    def __init__(self, **acts: Callable[[Plan], Any]) -> None:
        self.acts = {int(name.removeprefix("at")): act for name, act in acts.items()}
        self.number = -1
        self.orders: list[OrderHandle] = []
        self.told: list[str] = []

    def on_bar(self, bar: Bar) -> None:
        self.number += 1
        made = self.acts.get(self.number, lambda _: None)(self)
        if isinstance(made, OrderHandle):
            self.orders.append(made)

    def on_order(self, order: OrderHandle) -> None:
        self.told.append(f"{self.number} {order.status}")


def bought(run: Run) -> list[tuple[str, str, int]]:
    return [(side, f"{price.normalize():f}", minute) for side, price, _, minute in run.fills]


ROUND_TRIP: dict[str, Callable[[Plan], Any]] = {"at0": lambda s: s.buy(1), "at2": lambda s: s.close_position()}


# ---- what it costs


def test_takers_pay_half_the_spread_on_either_side() -> None:
    run = Run(Plan(**ROUND_TRIP), spread=Decimal("0.002"), fee=Decimal(0)).play(bars(flat(100, 100, 100, 100)))
    assert bought(run) == [("buy", "100.1", 1), ("sell", "99.9", 3)]
    assert run.replay.equity[-1] == pytest.approx(10_000 - 0.2)
    run.check_money()


def test_slippage_in_fractions_and_in_ticks_adds_up_and_lands_on_the_tick_that_costs_more() -> None:
    costs = {"slippage": Decimal("0.00013"), "slippage_ticks": 3, "spread": Decimal("0.0002")}
    run = Run(Plan(**ROUND_TRIP), fee=Decimal(0), **costs).play(bars(flat(100, 100, 100, 100)))
    assert bought(run) == [("buy", "100.06", 1), ("sell", "99.94", 3)]  # 0.013 + 0.01 + 0.03, rounded away from 100


def test_makers_pay_neither_and_a_limit_bounds_what_a_taker_pays() -> None:
    costs = {"slippage_ticks": 50, "spread": Decimal("0.01"), "fee": Decimal(0)}
    resting = Run(Plan(at0=lambda s: s.buy(1, price=99)), **costs).play(bars([*flat(100), (100, 100, 98, 100)]))
    assert bought(resting) == [("buy", "99", 1)]
    crossing = Run(Plan(at0=lambda s: s.buy(1, price="100.3")), **costs).play(bars(flat(100, 100)))
    assert bought(crossing) == [("buy", "100.3", 1)]


@pytest.mark.parametrize(
    ("latency_ns", "minute"), [(0, 1), (1, 2), (MINUTE_NS, 2), (MINUTE_NS + 1, 3), (5 * MINUTE_NS, 6)]
)
def test_an_order_that_is_late_misses_the_bars_that_open_meanwhile(latency_ns: int, minute: int) -> None:
    run = Run(Plan(at0=lambda s: s.buy(1)), latency_ns=latency_ns).play(bars(flat(*range(100, 110))))
    assert bought(run) == [("buy", str(100 + minute), minute)]


def test_a_late_cancel_comes_after_the_fill() -> None:
    acts = {"at0": lambda s: s.buy(1, price=99), "at2": lambda s: s.cancel_all()}
    candles = [*flat(100, 100, 100), (100, 100, 98, 100), *flat(100, 100)]
    prompt, late = Plan(**acts), Plan(**acts)
    assert bought(Run(prompt).play(bars(candles))) == []
    assert prompt.orders[0].status is OrderStatus.CANCELED
    assert bought(Run(late, latency_ns=1).play(bars(candles))) == [("buy", "99", 3)]
    assert late.orders[0].status is OrderStatus.FILLED


def test_two_orders_share_one_bars_volume() -> None:
    def both(strategy: Plan) -> None:
        strategy.buy(1)
        strategy.buy(1)

    run = Run(Plan(at0=both), volume_fraction=Decimal("0.25"), allow_short=True).play(
        bars(flat(*[100] * 5), volume=3.0)
    )
    per_minute: dict[int, Decimal] = {}
    for _, _, quantity, minute in run.fills:
        per_minute[minute] = per_minute.get(minute, Decimal(0)) + quantity
    assert per_minute == {1: Decimal("0.75"), 2: Decimal("0.75"), 3: Decimal("0.5")}
    run.check_money()


# ---- inside a bar


BRACKET: dict[str, Callable[[Plan], Any]] = {
    "at0": lambda s: s.buy(1),
    "at1": lambda s: (s.sell(1, stop=95, reduce_only=True), s.sell("0.5", price=105)),
}


def test_a_bar_that_reaches_stop_and_target_hit_the_stop_first() -> None:
    candles = [*flat(100, 100), (100, 106, 94, 100), *flat(100)]
    assert bought(Run(Plan(**BRACKET)).play(bars(candles)))[:2] == [("buy", "100", 1), ("sell", "95", 2)]
    acts = {"at0": lambda s: s.sell(1), "at1": lambda s: s.buy(1, stop=105, reduce_only=True)}
    short = Run(Plan(**acts)).play(bars(candles))
    assert bought(short) == [("sell", "100", 1), ("buy", "105", 2)]


def test_a_bar_that_opens_beyond_a_stop_fills_it_at_the_open() -> None:
    run = Run(Plan(**BRACKET)).play(bars([*flat(100, 100), (90, 92, 89, 91)]))
    assert bought(run) == [("buy", "100", 1), ("sell", "90", 2)]


def test_a_limit_is_filled_at_its_price_and_not_by_a_touch() -> None:
    plan = {"at0": lambda s: s.buy(1, price=98)}
    assert bought(Run(Plan(**plan)).play(bars([*flat(100), (100, 101, 98, 99)]))) == []
    assert bought(Run(Plan(**plan)).play(bars([*flat(100), (100, 101, 97.99, 99)]))) == [("buy", "98", 1)]
    assert bought(Run(Plan(**plan)).play(bars([*flat(100), (97, 101, 96, 99)]))) == [("buy", "97", 1)]


def test_orders_wait_through_a_gap() -> None:
    run = Run(Plan(at0=lambda s: s.buy(1))).play(bars(flat(100)), bars(flat(150, 151), first=500))
    assert bought(run) == [("buy", "150", 500)]
    assert list(run.replay.times_ns)[1:] == [SINCE_NS + minute * MINUTE_NS for minute in (1, 501, 502)]


# ---- several symbols and timeframes


class Hedge(Strategy):
    """Sell the first instrument short, then buy as much of the second as the margin allows."""

    instruments_wanted = 2

    def on_start(self) -> None:
        self.told: list[str] = []

    def on_bar(self, bar: Bar) -> None:
        first, second = self.instruments
        if bar.instrument == second.id and not self.open_orders:
            if not self.holding(first):
                self.sell(40, instrument=first)
            elif not self.holding(second):
                self.buy(55, instrument=second)

    def on_order(self, order: OrderHandle) -> None:
        self.told.append(f"{order.status} {order.reason}".strip())


@pytest.mark.parametrize("short_cuts", [True, False])
def test_what_another_symbol_does_to_the_margin_after_an_order_was_accepted(
    short_cuts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReplayDesk, "takes_short_cuts", short_cuts)
    strategy = Hedge()
    sold = bars([*flat(100, 100), (100, 130, 100, 130), *flat(130)])
    run = Run(strategy, instruments=(BTC, ETH), fee=Decimal(0)).play(together(sold, bars(flat(*[100] * 4), row=1)))
    assert [(str(quantity), minute) for _, _, quantity, minute in run.fills] == [("40.00000", 1), ("36.00000", 2)]
    assert strategy.told[3:7] == [
        "submitted", "accepted", "partially_filled",
        "canceled insufficient margin: long and short together may be worth 1x the equity in USDT",
    ]  # fmt: skip


class Averages(Strategy):
    """Note declared indicators of two instruments beside those that it feeds by itself."""

    instruments_wanted = 2

    def on_start(self) -> None:
        first, second = self.instruments
        self.declared = [
            self.indicator(SMA(3)),
            self.indicator(EMA(4), instrument=second),
            self.indicator(Bollinger(3), instrument=second.id),
        ]
        self.own = [SMA(3), EMA(4), Bollinger(3)]
        self.kinds = [first.id, second.id, second.id]
        self.compared = 0
        self.heard: list[tuple[float | None, ...]] = []

    def on_bar(self, bar: Bar) -> None:
        for kind, own, declared in zip(self.kinds, self.own, self.declared, strict=True):
            if kind == bar.instrument:
                own.update(bar)
            assert [getattr(own, name) for name in own.lines] == [getattr(declared, name) for name in own.lines]
            self.compared += declared.ready
        if bar.open_time_ns % (7 * MINUTE_NS) == 0 and not self.open_orders:
            self.buy("0.1", instrument=bar.instrument)

    def on_order(self, order: OrderHandle) -> None:
        self.heard.append(tuple(each.value for each in self.declared))
        assert self.heard[-1] == tuple(each.value for each in self.own)


def test_declared_indicators_of_several_symbols_are_what_updates_give_also_between_bars() -> None:
    strategy = Averages()
    parts = [
        together(bars(walk(40, seed=begin), first=begin), bars(walk(33, seed=begin + 1), first=begin, row=1))
        for begin in (0, 40, 80)
    ]
    Run(strategy, instruments=(BTC, ETH)).play(*parts)
    assert strategy.compared > 500
    assert len(strategy.heard) > 20


class Declared(Strategy):
    """Note what is known of an average at each moment; `warmup_bars` may be set."""

    def on_start(self) -> None:
        self.average = self.indicator(SMA(2))
        self.seen: list[tuple[str, float | None]] = []

    def on_bar(self, bar: Bar) -> None:
        self.seen.append(("bar", self.average.value))
        if not self.holding() and not self.warming_up:
            self.buy(1)

    def on_order(self, order: OrderHandle) -> None:
        self.seen.append((str(order.status), self.average.value))


def test_what_is_computed_ahead_is_not_seen_ahead() -> None:
    strategy = Declared()
    Run(strategy).play(bars(flat(100, 102)), bars(flat(104, 106), first=2))
    assert strategy.seen == [
        ("bar", None), ("submitted", None), ("accepted", None),
        ("filled", None), ("bar", 101.0),
        ("bar", 103.0),
        ("bar", 105.0),
    ]  # fmt: skip
    again = Declared()
    Run(again).play(bars(flat(100)), bars(flat(102), first=1), bars(flat(104, 106), first=2))
    assert again.seen == strategy.seen
    warm = Declared()
    warm.warmup_bars = 2
    Run(warm).play(bars(flat(90, 92), first=-2, warmup=True), bars(flat(100)))
    assert warm.seen[:3] == [("bar", None), ("bar", 91.0), ("bar", 96.0)]


def test_an_average_of_what_is_no_number_is_said_at_its_bar() -> None:
    strategy = Declared()
    with pytest.raises(StrategyError, match="an indicator cannot take nan"):
        Run(strategy).play(bars([*flat(100, 102), (104, 104, 104, float("nan")), *flat(106)]))
    assert [what for what, _ in strategy.seen].count("bar") == 2


class Longer(Strategy):
    async def run(self, api: Api, data: Data) -> None:
        self.told: list[object] = []
        five = SMA(2)
        async for _ in data:
            whole = await api.history(2, "5m")
            self.told.append(tuple(bar.close for bar in whole))
            if len(whole) == 2 and len({*self.told[-2:]}) == 2:
                five.update(whole[-1])


def test_a_longer_timeframe_is_made_of_the_bars_that_were_seen() -> None:
    strategy = Longer()
    first = -(SINCE_NS // MINUTE_NS % 5)
    Run(strategy).play(bars(flat(*range(100, 117)), first=first))
    assert strategy.told[3:5] == [(), (104,)]
    assert strategy.told[8:10] == [(104,), (104, 109)]
    assert strategy.told[-1] == (109, 114)


def test_a_callback_that_asks_for_another_timeframe_is_told_how_to_get_it() -> None:
    run = Run(Plan(at0=lambda s: s.history(3, "5m")))
    with pytest.raises(StrategyError, match=r"use 'await api.history\(\)' in run\(\), or start the strategy with"):
        run.play(bars(flat(100)))


# ---- what cannot be


@pytest.mark.parametrize(
    ("quantity", "words"),
    [
        (0, "quantity must be a number above zero, not 0"),
        (-1, "quantity must be a number above zero, not -1"),
        (1e-9, "less than one lot"),
        (float("nan"), "quantity must be a number, not nan"),
        (float("inf"), "quantity must be a number, not inf"),
        ("1e40", "quantity must be below 1e18"),
        ("one", "quantity must be a number, not 'one'"),
    ],
)
def test_quantities_that_make_no_sense_are_refused_in_words(quantity: Any, words: str) -> None:
    said: list[str] = []

    def order(strategy: Plan) -> None:
        try:
            strategy.buy(quantity)
        except InvalidOrder as error:
            said.append(str(error))

    run = Run(Plan(at0=order)).play(bars(flat(100, 100)))
    assert len(said) == 1
    assert words in said[0]
    assert run.fills == []


def test_more_than_the_cash_is_refused_and_the_run_goes_on() -> None:
    strategy = Plan(at0=lambda s: s.buy(101), at1=lambda s: s.buy(99))
    run = Run(strategy, fee=Decimal(0)).play(bars(flat(100, 100, 100)))
    assert strategy.orders[0].status is OrderStatus.REJECTED
    assert "insufficient margin" in strategy.orders[0].reason
    assert bought(run) == [("buy", "100", 2)]
    cash = Plan(at0=lambda s: s.buy(101), at1=lambda s: s.sell(1))
    Run(cash, fee=Decimal(0), allow_short=False).play(bars(flat(100, 100, 100)))
    assert [order.reason for order in cash.orders] == [
        "insufficient funds: 10000 USDT free",
        "insufficient funds: 0 BTC free",
    ]


def test_what_the_next_open_makes_too_dear_is_filled_as_far_as_the_cash_goes() -> None:
    strategy = Plan(at0=lambda s: s.buy(99))
    run = Run(strategy, fee=Decimal(0)).play(bars([*flat(100), (125, 125, 125, 125)]))
    assert [(quantity, price) for _, price, quantity, _ in run.fills] == [(Decimal(80), Decimal(125))]
    assert strategy.orders[0].status is OrderStatus.CANCELED


def test_one_bar_and_none() -> None:
    one = Run(Plan(at0=lambda s: s.buy(1))).play(bars(flat(100)))
    assert (one.replay.bars, one.fills, one.replay.prices) == (1, [], (100, 100))
    none = Run(Plan()).play()
    assert (none.replay.bars, list(none.replay.equity), none.replay.prices) == (0, [10_000.0], None)


class Broken(Strategy):
    def on_bar(self, bar: Bar) -> None:
        if bar.close > 102:
            raise RuntimeError("half-way")


def test_a_strategy_that_raises_leaves_the_curve_up_to_the_bar_before() -> None:
    for together_or_alone in ([bars(flat(100, 101, 102, 103, 104))], [bars(flat(100 + k), first=k) for k in range(5)]):
        run = Run(Broken())
        with pytest.raises(RuntimeError, match="half-way"):
            run.play(*together_or_alone)
        assert run.replay.bars == 3
        assert run.replay.position_ns == SINCE_NS + 3 * MINUTE_NS


# ---- declared indicators: what is said where they are used wrongly


def test_indicators_are_declared_in_on_start_and_left_alone() -> None:
    class Late(Strategy):
        def on_bar(self, bar: Bar) -> None:
            self.indicator(SMA(3))

    class Twice(Declared):
        def on_start(self) -> None:
            super().on_start()
            self.indicator(self.average)

    class Fed(Declared):
        def on_bar(self, bar: Bar) -> None:
            self.average.update(bar)

    class Wrong(Strategy):
        def on_start(self) -> None:
            self.indicator(SMA)  # type: ignore[type-var]

        def on_bar(self, bar: Bar) -> None: ...

    class Scripted(Strategy):
        async def run(self, api: Api, data: Data) -> None: ...

        def on_start(self) -> None:
            self.indicator(SMA(3))

    for strategy, words in (
        (Late(), "declare SMA in on_start: bars have come already"),
        (Twice(), "this SMA was declared already"),
        (Fed(), "is told of each bar by itself"),
        (Wrong(), "takes one of koc_qt.sdk.indicators"),
        (Scripted(), r"in run\(\), call its update\(bar\)"),
    ):
        with pytest.raises(StrategyError, match=words):
            Run(strategy).play(bars(flat(100, 101)))
