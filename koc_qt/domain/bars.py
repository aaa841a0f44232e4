"""Bars: built from trades, checked, made longer, and put together. All times are UTC nanoseconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import chain, groupby

from koc_qt.domain.errors import BadBars, BadTimeframe
from koc_qt.domain.exact import EXACT
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar, Trade
from koc_qt.domain.timeframes import SECOND_NS, bar_open_ns, duration_ns, is_multiple

_ZERO = Decimal(0)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class BarBuilder:
    """Makes the bars of one instrument and timeframe from its trades, fed in the order in which they happened.

    An interval without trades makes no bar. Open and close are the first and last trade fed, volume is summed exactly
    and rounded once, to float. A trade older than the forming bar, or than the end of the last closed one, comes too
    late to be merged: it is counted in `late` and left out. Raises BadTimeframe.
    """

    def __init__(self, instrument: InstrumentId, timeframe: str) -> None:
        self._instrument = instrument
        self._timeframe = timeframe
        self._duration_ns = duration_ns(timeframe)
        self._from_ns: int | None = None  # opening of the forming bar, or end of the last closed one
        self._end_ns = 0
        self._trading = False  # whether a bar is forming; open to volume mean nothing otherwise
        self._open = self._high = self._low = self._close = 0.0
        self._volume = _ZERO
        self.late = 0

    def add(self, trade: Trade) -> Sequence[Bar]:
        """Take a trade; give the bar that it closed, if any. Raises ValueError for a trade of another instrument."""
        if trade.instrument is not self._instrument and trade.instrument != self._instrument:
            raise ValueError(f"a trade of {trade.instrument} was fed to the bars of {self._instrument}")
        time_ns = trade.time_ns
        if self._from_ns is not None and time_ns < self._from_ns:
            self.late += 1
            return ()
        price = float(trade.price)
        if self._trading and time_ns < self._end_ns:
            if price > self._high:
                self._high = price
            elif price < self._low:
                self._low = price
            self._close = price
            self._volume = EXACT.add(self._volume, trade.quantity)
            return ()
        closed = self._take()
        self._from_ns = bar_open_ns(time_ns, self._timeframe)
        self._end_ns = self._from_ns + self._duration_ns
        self._trading = True
        self._open = self._high = self._low = self._close = price
        self._volume = trade.quantity
        return closed

    def close_until(self, time_ns: int) -> Sequence[Bar]:
        """Close the forming bar if it ends at or before `time_ns`: the market's clock has come that far."""
        return self._take() if self._end_ns <= time_ns else ()

    @property
    def forming(self) -> Bar | None:
        """The bar of the present interval as it stands; None before its first trade."""
        if not self._trading or self._from_ns is None:
            return None
        return Bar(
            self._instrument,
            self._timeframe,
            self._from_ns,
            self._open,
            self._high,
            self._low,
            self._close,
            float(self._volume),
        )

    def _take(self) -> Sequence[Bar]:
        bar = self.forming
        if bar is None:
            return ()
        self._trading = False
        self._from_ns = self._end_ns
        return (bar,)


def validate_bars(bars: Sequence[Bar], timeframe: str) -> None:
    """Check that bars can be believed. Raises BadTimeframe, and BadBars naming the first bad row, which counts from 0.

    All are of one instrument and of `timeframe`, open on its grid, ascend without a double; prices are finite and above
    zero with low <= open, close <= high; volume is finite and not below zero. Gaps are allowed: markets pause.
    """
    duration_ns(timeframe)
    previous: Bar | None = None
    for row, bar in enumerate(bars):
        fault = _fault(bar, timeframe) or (previous is not None and _disorder(previous, bar))
        if fault:
            raise BadBars(f"{bar.instrument} {timeframe}, row {row}, opening at {_utc(bar.open_time_ns)}: {fault}")
        previous = bar


def _fault(bar: Bar, timeframe: str) -> str:
    """Say what is wrong with a bar by itself, if anything."""
    low, high = bar.low, bar.high
    fault = ""
    if bar.timeframe != timeframe:
        fault = f"it is a bar of {bar.timeframe}"
    elif not all(map(math.isfinite, (bar.open, high, low, bar.close, bar.volume))):
        fault = f"open {bar.open}, high {high}, low {low}, close {bar.close}, volume {bar.volume} are not all numbers"
    elif low <= 0:
        fault = f"its low {low} is not above zero"
    elif not (low <= bar.open <= high and low <= bar.close <= high):
        fault = f"open {bar.open} and close {bar.close} are not between low {low} and high {high}"
    elif bar.volume < 0:
        fault = f"its volume {bar.volume} is below zero"
    elif bar_open_ns(bar.open_time_ns, timeframe) != bar.open_time_ns:
        fault = f"bars of {timeframe} open at {_utc(bar_open_ns(bar.open_time_ns, timeframe))} and so on (UTC)"
    return fault


def _disorder(previous: Bar, bar: Bar) -> str:
    """Say why a bar cannot follow another, if it cannot."""
    fault = ""
    if bar.instrument != previous.instrument:
        fault = f"the rows before it are of {previous.instrument}"
    elif bar.open_time_ns == previous.open_time_ns:
        fault = "the row before it opens at the same time"
    elif bar.open_time_ns < previous.open_time_ns:
        fault = f"the row before it opens later, at {_utc(previous.open_time_ns)}"
    return fault


def resample(bars: Sequence[Bar], timeframe: str, *, until_ns: int | None = None) -> list[Bar]:
    """Give bars of a longer timeframe, made of valid bars of one series; same timeframe, same bars.

    A last group that may still grow is left out: one that ends after `until_ns`, the time up to which `bars` are known
    to be complete. That is the last bar's end unless given; give it where the market may have paused at the end, and
    the group's end or later to get an incomplete group as it stands. The first group is made of what is there, so let
    `bars` begin where a longer bar opens. An interval without bars makes none. Volume is rounded once.
    Raises BadTimeframe where `timeframe` is not a multiple of the bars' own.
    """
    if not bars:
        return []
    own = bars[0].timeframe
    if not is_multiple(timeframe, own):
        raise BadTimeframe(f"bars of {timeframe} cannot be made of bars of {own}: choose a whole multiple")
    if until_ns is None:
        until_ns = bars[-1].open_time_ns + duration_ns(own)
    last_open_ns = until_ns - duration_ns(timeframe)
    longer = []
    for open_time_ns, rows in groupby(bars, lambda bar: bar_open_ns(bar.open_time_ns, timeframe)):
        if open_time_ns <= last_open_ns:
            longer.append(_joined(list(rows), timeframe, open_time_ns))
    return longer


def _joined(bars: list[Bar], timeframe: str, open_time_ns: int) -> Bar:
    return Bar(
        bars[0].instrument,
        timeframe,
        open_time_ns,
        bars[0].open,
        max(bar.high for bar in bars),
        min(bar.low for bar in bars),
        bars[-1].close,
        math.fsum(bar.volume for bar in bars),
    )


def merge(older: Sequence[Bar], newer: Sequence[Bar]) -> list[Bar]:
    """Put two stretches of one series together, such as history and the live stream; ascending, no bar twice.

    Where both have a bar, that of `newer` is taken. Raises BadBars where they are of different series.
    """
    if older and newer:
        ours, theirs = (f"{first.instrument} {first.timeframe}" for first in (older[0], newer[0]))
        if ours != theirs:
            raise BadBars(f"bars of {ours} and {theirs} cannot be merged")
    by_time = {bar.open_time_ns: bar for bar in chain(older, newer)}
    return [by_time[time_ns] for time_ns in sorted(by_time)]


def _utc(time_ns: int) -> str:
    """Write a time for a person, to the nanosecond where it needs that; one outside the calendar as a plain number."""
    seconds, rest = divmod(time_ns, SECOND_NS)
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return f"{time_ns} ns"
    return f"{moment:%Y-%m-%d %H:%M:%S}{f'.{rest:09}' if rest else ''}"
