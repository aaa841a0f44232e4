from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from koc_qt.domain.backtests import Engine
from koc_qt.domain.orders import OrderStatus
from koc_qt.sdk import Bar, Bars, Signals, Strategy, StrategyError
from koc_qt.sdk.channel import PositionState
from koc_qt.sdk.indicators import (
    ADX,
    ATR,
    EMA,
    MACD,
    OBV,
    RSI,
    SMA,
    VWAP,
    WMA,
    Bollinger,
    Donchian,
    Indicator,
    Stochastic,
)
from koc_qt.sdk.indicators._base import Line, Stretch
from koc_qt.sdk.signals import checked
from koc_qt.sdk.strategy import describe
from tests.unit.sdk.desk import BTC, BTC_ID, MINUTE_NS, OTHER, OTHER_ID, START_NS, Desk, bar

HELD = PositionState(BTC_ID, Decimal(2), Decimal(90), Decimal(0), Decimal(0))


def walk(count: int, seed: int = 1) -> list[Bar]:
    """Give a random walk on a grid of cents."""
    rng = np.random.default_rng(seed)
    close = np.round(100 + np.cumsum(rng.normal(0, 0.5, count)), 2)
    return [
        Bar(BTC_ID, "1m", START_NS + row * MINUTE_NS, price - 0.1, price + 0.3, price - 0.4, price, 1.0 + row % 7)
        for row, price in enumerate(close.tolist())
    ]


class Scripted(Strategy):
    """Signal what a test wrote down, by the number of the newest bar: E enters, X leaves, S and C short and cover."""

    def __init__(self, script: str = "", size: Any = 1.5) -> None:
        self.script, self.size, self.lengths = script, size, list[int]()

    def signals(self, bars: Bars) -> Signals:
        self.lengths.append(len(bars))
        words = self.script.split()
        rows = [words[int(time - START_NS) // MINUTE_NS] for time in bars.time_ns]
        entries, exits, shorts, covers = ([letter in row for row in rows] for letter in "EXSC")
        return Signals(entries, exits, self.size, shorts, covers)


def played(script: str, **options: Any) -> tuple[Desk, list[str]]:
    """Play flat bars at 100; give what was ordered at each close. Every order is filled before the next bar."""
    desk = Desk(Scripted(script), **options)
    desk.session.start()
    said = []
    for index in range(len(script.split())):
        before = len(desk.submitted)
        desk.session.on_bar(bar(100.0, index))
        orders = [request for _, request in desk.submitted[before:]]
        said.append(" ".join(f"{order.side} {order.quantity.normalize():f}" for order in orders))
        for request_id, _ in desk.waiting:
            desk.fill(request_id, Decimal(100))
    return desk, said


# ---- columns


def test_bars_are_columns_that_nobody_changes() -> None:
    made = Bars.of(walk(3))
    assert (made.instrument, made.timeframe, len(made)) == (BTC_ID, "1m", 3)
    assert made.time_ns.dtype == np.int64
    for name in ("open", "high", "low", "close", "volume"):
        assert getattr(made, name).dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            getattr(made, name)[0] = 1.0
    assert made.close.tolist() == [each.close for each in walk(3)]


@pytest.mark.parametrize("columns", [([],) * 6, ([1], [1.0], [1.0], [1.0], [1.0, 2.0], [1.0])])
def test_bars_need_rows_of_one_length(columns: Sequence[list[float]]) -> None:
    with pytest.raises(StrategyError, match="one length"):
        Bars(BTC_ID, "1m", *columns)
    with pytest.raises(StrategyError, match="no bars"):
        Bars.of([])


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: SMA(10), "value"),
        (lambda: SMA(1), "value"),
        (lambda: EMA(7), "value"),
        (lambda: WMA(9), "value"),
        (lambda: RSI(14), "value"),
        (lambda: MACD(3, 8, signal=4), "histogram"),
        (lambda: Bollinger(20, width=1.5), "upper"),
        (lambda: ATR(5), "value"),
        (lambda: ADX(5), "value"),
        (lambda: Donchian(4), "value"),
        (lambda: Stochastic(5), "value"),
        (lambda: OBV(), "value"),
        (lambda: VWAP(6), "value"),
    ],
)
def test_an_indicators_column_is_what_update_gives(make: Any, line: str) -> None:
    made = walk(200)
    one, expected = make(), []
    for each in made:
        one.update(each)
        value = getattr(one, line)
        expected.append(math.nan if value is None else value)
    column = Bars.of(made).column(make(), line)
    assert column.tobytes() == np.array(expected).tobytes()
    assert np.isfinite(column).sum() > 100


def test_a_column_is_computed_once_and_from_the_beginning() -> None:
    columns, used = Bars.of(walk(30)), SMA(5)
    for _ in range(9):
        used.update(1e6)
    assert columns.column(used) is columns.column(SMA(5))
    assert columns.column(SMA(5)) is not columns.column(SMA(6))
    assert used.value == 1e6  # what the strategy had is left alone
    with pytest.raises(StrategyError, match="SMA has no 'upper'"):
        columns.column(SMA(5), "upper")


class Range(Indicator):
    """Takes bars in its own ways."""

    def update(self, bar: Bar, /) -> float:
        self.value = bar.high - bar.low
        return self.value

    def bulk(self, bars: Stretch) -> list[Line]:
        rows = bars.bars
        return [[rows[0].high - rows[0].low, *(bar.high - bar.low for bar in rows[1 : len(rows)])]]


def test_an_indicator_of_ones_own_is_taken_at_its_word() -> None:
    made = walk(20)
    columns = Bars.of(made)
    assert columns.column(Range()).tolist() == [bar.high - bar.low for bar in made]
    assert columns.column(SMA(3), "ready").tolist() == [0.0, 0.0] + [1.0] * 18  # no line of it, and an attribute


def test_a_close_that_is_no_number_is_refused_as_update_does() -> None:
    made = [bar(100.0, 0), bar(math.nan, 1)]
    with pytest.raises(StrategyError, match="cannot take nan"):
        Bars.of(made).column(SMA(2))


# ---- signals


def test_signals_take_lists_arrays_and_series() -> None:
    signals = Signals([True, False], np.array([False, True]), pd.Series([1, 2]), short_exits=[True, True])
    assert signals.sizes.tolist() == [1.0, 2.0]
    assert signals.short_entries.tolist() == [False, False]
    assert signals.short_exits.tolist() == [True, True]
    with pytest.raises(ValueError, match="read-only"):
        signals.entries[0] = False


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (([1.0], [True]), "entries must be True or False for each bar"),
        ((pd.Series([True, False]).shift(1), [True, False]), "shift.. leaves nan"),
        (([0, 1], [True, False]), "not int64"),
        ((True, True), "entries must be one column, not one value"),
        (([[True], [True]], [True, True]), "not 2 x 1"),
        (([True, True], [True]), r"exits must have as many rows as entries \(2\), not 1"),
        (([True], [True], 1.0, [True, True]), "short_entries must have as many"),
        (([True], [True], "much"), "sizes must be numbers"),
        (([True], [True], [1.0, 2.0]), r"as many as entries \(1\), not 2"),
        (([False, True], [True, False], [0.0, 0.0]), r"above zero where an entry is, not 0.0 \(row 1"),
        (([False, False], [True, True], [1.0, math.nan], [False, True]), "not nan"),
        (([True], [False], math.inf), "not inf"),
        (([True], [False], -1), "not -1.0"),
    ],
)
def test_signals_that_make_no_sense_are_refused(arguments: Any, complaint: str) -> None:
    with pytest.raises(StrategyError, match=complaint):
        Signals(*arguments)


def test_sizes_matter_only_where_an_entry_is() -> None:
    assert Signals([False, True], [True, False], [math.nan, 2.0]).sizes[1] == 2.0


def test_what_signals_gives_is_checked() -> None:
    columns = Bars.of(walk(2))
    with pytest.raises(StrategyError, match=r"must give Signals\(entries, exits\), not tuple"):
        checked(([True], [True]), columns)
    with pytest.raises(StrategyError, match="gave 3 rows for 2 bars"):
        checked(Signals([True] * 3, [False] * 3), columns)


# ---- the class


def test_a_strategy_says_which_engines_can_run_it() -> None:
    class Plain(Strategy):
        def on_bar(self, bar: Bar) -> None: ...

    class Quotes(Strategy):
        def on_quote(self, quote: object) -> None: ...

    class Trades(Strategy):
        def on_trade(self, trade: object) -> None: ...

    class Both(Scripted):
        instruments_wanted = 2

    assert describe(Scripted).engines == (Engine.REPLAY, Engine.VECTORBT, Engine.BACKTRADER)
    assert describe(Scripted).subscriptions == ("bars",)
    assert describe(Plain).engines == (Engine.REPLAY, Engine.BACKTRADER)
    assert describe(Quotes).engines == (Engine.REPLAY, Engine.BACKTRADER)
    assert describe(Trades).engines == ()
    assert describe(Both).engines == (Engine.REPLAY, Engine.BACKTRADER)


def test_signals_are_no_coroutine_and_not_beside_run() -> None:
    async def coroutine(self: Strategy, *_: object) -> None: ...

    with pytest.raises(StrategyError, match=r"Made\.signals is async"):
        describe(type("Made", (Strategy,), {"signals": coroutine}))
    with pytest.raises(StrategyError, match="both run and signals"):
        describe(type("Made", (Scripted,), {"run": coroutine}))
    with pytest.raises(StrategyError, match="Strategy declares no signals"):
        Strategy().signals(Bars.of(walk(1)))


# ---- acting on them


def test_entries_when_flat_and_exits_when_held() -> None:
    desk, said = played("X E E . X X E")
    assert said == ["", "buy 1.5", "", "", "sell 1.5", "", "buy 1.5"]
    assert [request.reduce_only for _, request in desk.submitted] == [False, True, False]


def test_one_thing_is_done_at_a_bar() -> None:
    assert played("EX E EX E EX")[1] == ["", "buy 1.5", "sell 1.5", "buy 1.5", "sell 1.5"]
    assert played("SC SX SC SC")[1] == ["", "sell 1.5", "buy 1.5", ""]
    assert played("ES E")[1] == ["buy 1.5", ""]
    assert played("S E EC E")[1] == ["sell 1.5", "", "buy 1.5", "buy 1.5"]
    assert played("S SX . C")[1] == ["sell 1.5", "", "", "buy 1.5"]


def test_what_was_held_before_the_start_is_left_by_the_exit() -> None:
    assert played("E X", positions=[HELD])[1] == ["", "sell 2"]


def test_a_rest_too_small_to_be_sold_is_nothing() -> None:
    for rest in ("0.00002", "0.000001"):  # not worth enough, and less than a lot
        dust = PositionState(BTC_ID, Decimal(rest), Decimal(90), Decimal(0), Decimal(0))
        assert played("X E", positions=[dust])[1] == ["", "buy 1.5"]


def test_a_rest_that_is_just_large_enough_waits_for_its_exit() -> None:
    rest = PositionState(BTC_ID, Decimal("0.05"), Decimal(90), Decimal(0), Decimal(0))  # worth the least at 100
    assert played("E X", positions=[rest])[1] == ["", "sell 0.05"]


def test_history_that_warms_up_gives_no_orders_and_is_seen() -> None:
    class Warm(Scripted):
        warmup_bars = 2

    desk = Desk(Warm("E E E"))
    desk.session.on_bar(bar(100.0, 0), warmup=True)
    desk.session.on_bar(bar(100.0, 1), warmup=True)
    assert not desk.submitted
    desk.session.on_bar(bar(100.0, 2))
    assert len(desk.submitted) == 1
    assert desk.strategy.lengths == [3]  # type: ignore[attr-defined]


def test_an_exit_cancels_an_entry_that_still_works_and_closes_what_is_held() -> None:
    desk = Desk(Scripted("E . X . . E"))
    desk.session.on_bar(bar(100.0, 0))
    desk.update(1, OrderStatus.ACCEPTED)
    desk.fill(1, Decimal(100), Decimal("0.5"))
    for index in (1, 2, 3):
        desk.session.on_bar(bar(100.0, index))
    assert desk.cancels == ["koc-1"]
    assert len(desk.submitted) == 1  # while the cancel is on its way
    desk.update(1, OrderStatus.CANCELED, filled_quantity=Decimal("0.5"))
    desk.session.on_bar(bar(100.0, 4))
    assert [(str(request.side), request.quantity) for _, request in desk.submitted[1:]] == [("sell", Decimal("0.5"))]
    desk.session.on_bar(bar(100.0, 5))
    assert len(desk.submitted) == 2  # the entry is not heard while the exit works
    assert desk.cancels == ["koc-1"]


def test_an_exit_that_meets_nothing_any_more_is_forgotten() -> None:
    desk = Desk(Scripted("S C . S"))
    desk.session.on_bar(bar(100.0, 0))
    desk.update(1, OrderStatus.ACCEPTED)
    desk.session.on_bar(bar(100.0, 1))
    desk.update(1, OrderStatus.CANCELED)
    for index in (2, 3):
        desk.session.on_bar(bar(100.0, index))
    assert [str(request.side) for _, request in desk.submitted] == ["sell", "sell"]


def test_why_an_order_was_rejected_is_written() -> None:
    desk = Desk(Scripted("E"))
    desk.session.on_bar(bar(100.0, 0))
    desk.session.on_order_update(1, None, "too large")
    assert desk.lines == [("WARNING", "rejected: too large")]


def test_a_size_below_one_lot_is_no_reason_to_end() -> None:
    desk, said = played("E S .")
    assert said == ["buy 1.5", "", ""]
    desk = Desk(Scripted("E", 1e-9))
    desk.session.on_bar(bar(100.0, 0))
    assert not desk.submitted
    assert "less than one lot" in desk.lines[0][1]


def test_known_signals_are_computed_once_for_each_instrument() -> None:
    class Pair(Scripted):
        instruments_wanted = 2

    strategy = Pair("E . X")
    desk = Desk(strategy, instruments=(BTC, OTHER))
    trader = desk.session.signal_trader
    assert trader is not None
    columns = [[bar(100.0, index, key) for index in range(3)] for key in (BTC_ID, OTHER_ID)]
    for each in columns:
        assert len(trader.know(Bars.of(each))) == 3
    for first, second in zip(*columns, strict=True):
        desk.session.on_bar(first)
        desk.session.on_bar(second)
        for request_id, _ in desk.waiting:
            desk.fill(request_id, Decimal(100))
    assert strategy.lengths == [3, 3]
    assert [(str(request.instrument.venue), str(request.side)) for _, request in desk.submitted] == [
        ("sim", "buy"), ("sim2", "buy"), ("sim", "sell"), ("sim2", "sell"),
    ]  # fmt: skip


def test_bars_between_and_after_those_that_are_known_have_their_signals_too() -> None:
    strategy = Scripted(". . E .")
    desk = Desk(strategy)
    trader = desk.session.signal_trader
    assert trader is not None
    trader.know(Bars.of([bar(100.0, 0), bar(100.0, 2)]))
    for index in (2, 1, 3):
        desk.session.on_bar(bar(100.0, index))
    assert [request_id for request_id, _ in desk.submitted] == [1]
    assert strategy.lengths == [2, 2, 3]


def test_an_on_bar_of_ones_own_is_what_trades() -> None:
    class Own(Scripted):
        def on_bar(self, bar: Bar) -> None:
            self.sell(1)

    desk = Desk(Own("E"))
    desk.session.on_bar(bar(100.0))
    assert desk.session.signal_trader is None
    assert [str(request.side) for _, request in desk.submitted] == ["sell"]
    desk.update(1, OrderStatus.ACCEPTED)
    assert desk.strategy.lengths == []  # type: ignore[attr-defined]


def test_a_strategy_without_either_hears_bars_in_peace() -> None:
    class Listener(Strategy):
        subscriptions = ("bars",)

        def on_stop(self) -> None: ...

    desk = Desk(Listener())
    desk.session.on_bar(bar(100.0))
    assert not desk.submitted
