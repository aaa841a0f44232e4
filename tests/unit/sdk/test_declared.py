"""Declared indicators, and what a strategy asks at every bar: live, as the engine's events come."""

from __future__ import annotations

from decimal import Decimal
from itertools import islice

import pytest

from koc_qt.domain.errors import StrategyError
from koc_qt.domain.market import Bar
from koc_qt.sdk import OrderHandle, Strategy
from koc_qt.sdk.indicators import SMA, Bollinger, Indicator
from koc_qt.sdk.script import Api, Data
from tests.unit.sdk.desk import BTC, BTC_ID, OTHER, OTHER_ID, Desk, bar, quote


class Crossing(Strategy):
    instruments_wanted = 2

    def on_start(self) -> None:
        self.fast = self.indicator(SMA(2))
        self.other = self.indicator(Bollinger(2), instrument=OTHER)
        self.seen: list[tuple[float | None, float | None, float | None]] = []

    def on_bar(self, bar: Bar) -> None:
        self.seen.append((self.fast.value, self.other.value, self.other.upper))


def crossing() -> tuple[Crossing, Desk]:
    strategy = Crossing()
    desk = Desk(strategy, instruments=(BTC, OTHER))
    desk.session.start()
    return strategy, desk


def test_a_declared_indicator_is_told_of_its_instruments_bars_before_the_strategy() -> None:
    strategy, desk = crossing()
    desk.session.on_bar(bar(10), warmup=True)
    desk.session.on_bar(bar(12, 1))
    desk.session.on_bar(bar(5, 1, OTHER_ID))
    desk.session.on_bar(bar(5, 2, OTHER_ID))
    assert strategy.seen == [(None, None, None), (11.0, None, None), (11.0, None, None), (11.0, 5.0, 5.0)]


def test_many_bars_at_once_are_the_same_and_not_known_before_they_are_told() -> None:
    strategy, desk = crossing()
    bars = [bar(10 + step, step) for step in range(4)]
    advances = desk.session.advances(BTC_ID, bars, [each.close for each in bars])
    tell = desk.session.teller(BTC_ID)
    for each in bars:
        before = strategy.fast.value
        for advance in advances:
            next(advance)
        assert strategy.fast.value != before or before is None
        tell(each)
    assert [fast for fast, _, _ in strategy.seen] == [None, 10.5, 11.5, 12.5]
    assert not strategy.warming_up
    assert [each.close for each in strategy.history(10)] == [10, 11, 12, 13]
    assert strategy.last_price() == 13
    assert desk.session.advances(OTHER_ID, [], []) != []


def test_many_bars_are_told_until_something_is_asked_for() -> None:
    class Buyer(Strategy):
        def on_bar(self, bar: Bar) -> None:
            if bar.close == 3:
                self.buy(10)
            if bar.close == 5:
                self.set_timer(60)

    strategy = Buyer()
    desk = Desk(strategy)
    desk.session.start()
    steps = iter([(bar(step, step),) for step in range(1, 8)])
    assert desk.session.tell_on(BTC_ID, steps, desk.submitted)
    assert [each.close for each in strategy.history(9)] == [1, 2, 3]
    desk.submitted.clear()
    assert desk.session.tell_on(BTC_ID, steps, desk.submitted)  # a timer, which wants to be looked after too
    assert strategy.last_price() == 5
    strategy.set_timer(None)
    assert not desk.session.tell_on(BTC_ID, steps, desk.submitted)
    assert strategy.last_price() == 7


def test_all_lines_of_all_indicators_go_on_with_the_bars() -> None:
    class Reader(Strategy):
        def on_start(self) -> None:
            self.declared = [self.indicator(each) for each in (SMA(2), SMA(3), Bollinger(2), Own())]
            self.own = [SMA(2), SMA(3), Bollinger(2), Own()]
            self.compared = 0

        def on_bar(self, bar: Bar) -> None:
            for declared, own in zip(self.declared, self.own, strict=True):
                own.update(bar)
                assert [getattr(declared, name) for name in own.lines] == [getattr(own, name) for name in own.lines]
                self.compared += 1

    strategy = Reader()
    desk = Desk(strategy)
    desk.session.start()
    for begin in (0, 5):
        bars = [bar(10 + step % 4, step) for step in range(begin, begin + 5)]
        advances = desk.session.advances(BTC_ID, bars, [each.close for each in bars])
        source = iter(bars)
        steps = zip(islice(source, 3), *advances, strict=False)
        assert not desk.session.tell_on(BTC_ID, steps, ())
        for each in source:  # the others one by one
            for advance in advances:
                next(advance)
            desk.session.teller(BTC_ID)(each)
    assert strategy.compared == 40


def test_where_a_close_is_no_number_the_bars_before_it_are_told() -> None:
    strategy, desk = crossing()
    bars = [bar(10), bar(11, 1), bar(float("nan"), 2)]
    [advance] = desk.session.advances(BTC_ID, bars, [each.close for each in bars])
    next(advance)
    next(advance)
    assert strategy.fast.value == 10.5
    with pytest.raises(StrategyError, match="an indicator cannot take nan"):
        next(advance)


def test_without_declared_indicators_there_is_nothing_to_advance() -> None:
    class Plain(Strategy):
        def on_bar(self, bar: Bar) -> None: ...

    desk = Desk(Plain())
    desk.session.start()
    assert desk.session.advances(BTC_ID, [bar(1)], [1.0]) == []


def test_a_script_is_told_of_bars_as_ever() -> None:
    class Reader(Strategy):
        async def run(self, api: Api, data: Data) -> None:
            self.closes = [(await data.bar()).close, (await data.bar()).close]

    strategy = Reader()
    desk = Desk(strategy)
    desk.session.start()
    tell = desk.session.teller(BTC_ID)
    tell(bar(1))
    tell(bar(2, 1))
    assert strategy.closes == [1, 2]


class Own(Indicator):
    """An author's own: the last close."""

    def update(self, value: Bar, /) -> float | None:
        self.value = value.close
        return self.value


@pytest.mark.parametrize("late", [False, True])
def test_where_a_declaration_cannot_be_it_is_said(late: bool) -> None:
    strategy, desk = crossing()
    own = strategy.indicator(Own())
    if late:
        desk.session.on_bar(bar(1))
        assert own.value == 1
        with pytest.raises(StrategyError, match="declare Own in on_start: bars have come already"):
            strategy.indicator(Own())
        return
    for indicator, words in (
        (own, "this Own was declared already: make another"),
        (SMA, "takes one of koc_qt.sdk.indicators, or a class derived from Indicator, not type"),
    ):
        with pytest.raises(StrategyError, match=words):
            strategy.indicator(indicator)  # type: ignore[type-var]
    with pytest.raises(StrategyError, match="is told of each bar by itself: read its value"):
        strategy.fast.update(1.0)
    with pytest.raises(StrategyError, match="started on"):
        strategy.indicator(SMA(3), instrument="sim:DOGE/USDT")


def test_run_feeds_its_own_indicators() -> None:
    class Scripted(Strategy):
        async def run(self, api: Api, data: Data) -> None: ...

        def on_start(self) -> None:
            self.indicator(SMA(3))

    with pytest.raises(StrategyError, match=r"in run\(\), call its update\(bar\)"):
        Desk(Scripted()).session.start()


# ---- what is asked at every bar


def test_what_is_held_is_known_without_its_price() -> None:
    strategy, desk = crossing()
    assert (strategy.holding(), strategy.holding("sim2:BTC/USDT")) == (0, 0)
    flat = strategy.position()
    desk.session.on_bar(bar(90))
    assert strategy.position() is flat  # of nothing the price makes no difference
    strategy.buy(2)
    desk.fill(1, Decimal(100), Decimal("1.5"))
    assert strategy.holding() == Decimal("1.5")
    desk.session.on_bar(bar(110, 1))
    assert strategy.position().unrealised_pnl == 15
    desk.session.on_bar(bar(120, 2))
    assert strategy.position().unrealised_pnl == 30
    desk.session.on_quote(quote(129, 131))
    assert strategy.position().unrealised_pnl == 45
    assert strategy.position(OTHER).is_flat


def test_before_it_runs_a_strategy_knows_nothing() -> None:
    with pytest.raises(StrategyError, match="not running yet"):
        Crossing().holding()


def test_a_callback_that_is_set_in_on_start_is_called() -> None:
    class Setter(Strategy):
        def on_start(self) -> None:
            self.states: list[str] = []
            self.on_order = self.note  # type: ignore[method-assign]

        def on_bar(self, bar: Bar) -> None: ...

        def note(self, order: OrderHandle) -> None:
            self.states.append(str(order.status))

    strategy = Setter()
    desk = Desk(strategy)
    desk.session.start()
    strategy.buy(1)
    desk.fill(1, Decimal(100))
    assert strategy.states[-1] == "filled"
