"""Back-tests of strategies that trade by signals: computed once, on all bars, then played like any other."""

from __future__ import annotations

from koc_qt.sdk import Bars, Signals, Strategy
from koc_qt.sdk.indicators import SMA
from koc_qt.worker.ahead import BarsAhead
from tests.unit.sdk.desk import BTC, OTHER
from tests.unit.worker.replays import SINCE_NS, Run, bars, flat, together, walk


class Cross(Strategy):
    warmup_bars = 0

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def signals(self, bars: Bars) -> Signals:
        self.lengths.append(len(bars))
        above = bars.column(SMA(3)) > bars.column(SMA(9))
        return Signals(above, ~above, 1.5)


class ByHand(Strategy):
    """Decide the same, bar by bar."""

    def on_start(self) -> None:
        self.fast, self.slow = SMA(3), SMA(9)

    def on_bar(self, bar: object) -> None:
        fast, slow = self.fast.update(bar), self.slow.update(bar)  # type: ignore[arg-type]
        if self.warming_up:
            return
        above = fast is not None and slow is not None and fast > slow
        if above and not self.position().quantity:
            self.buy(1.5)
        elif not above and self.position().quantity:
            self.close_position()


def test_signals_are_computed_once_and_trade_as_on_bar_would() -> None:
    candles = walk(600)
    parts = [bars(candles[:250]), bars(candles[250:], first=250)]
    by_signals, by_hand = Run(Cross()).play(*parts), Run(ByHand()).play(*parts)
    assert by_signals.strategy.lengths == [600]  # type: ignore[attr-defined]
    assert len(by_hand.fills) > 40
    assert by_signals.fills == by_hand.fills
    assert by_signals.replay.equity == by_hand.replay.equity
    assert by_signals.closes_seen == 600
    by_signals.check_money()


def test_warm_up_is_part_of_the_columns_only_where_it_is_wanted() -> None:
    class Warm(Cross):
        warmup_bars = 9

    class WarmByHand(ByHand):
        warmup_bars = 9

    candles = walk(200)
    parts = [bars(candles[:9], first=-9, warmup=True), bars(candles[9:])]
    cold, warm = Run(Cross()).play(*parts), Run(Warm()).play(*parts)
    assert cold.strategy.lengths == [191]  # type: ignore[attr-defined]
    assert warm.strategy.lengths == [200]  # type: ignore[attr-defined]
    assert warm.fills == Run(WarmByHand()).play(*parts).fills


def test_several_instruments_have_signals_of_their_own() -> None:
    class Pair(Cross):
        instruments_wanted = 2

    message = together(bars(walk(100)), bars(walk(90, seed=2), row=1))
    run = Run(Pair(), instruments=(BTC, OTHER)).play(message)
    assert run.strategy.lengths == [100, 90]  # type: ignore[attr-defined]
    assert {fill.instrument for fill in run.replay.fills} == {BTC.id, OTHER.id}


def test_no_bars_at_all_are_no_reason_to_fail() -> None:
    run = Run(Cross()).play()
    assert run.strategy.lengths == []  # type: ignore[attr-defined]
    assert not run.replay.bars


def test_bars_that_are_kept_come_out_as_they_went_in() -> None:
    ahead = BarsAhead()
    warm, first, second = bars(flat(1.0), first=-1, warmup=True), bars(walk(5)), bars(walk(3), first=5)
    for message in (warm, first, second):
        ahead.add(message)
    assert list(ahead.messages()) == [first, second]
    assert ahead.warmup_count() == 1
    [columns] = ahead.columns((BTC, OTHER), "1m")
    assert columns.close.tolist() == [1.0, *first.close, *second.close]
    assert columns.time_ns[1] == SINCE_NS
