"""Bars that several back-tests share: read once, held in memory, and given with changes to those that are to differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from koc_qt.domain.errors import StrategyError
from koc_qt.domain.monte_carlo import Candles
from koc_qt.engine.backtest_feed import BarHistory
from koc_qt.ports.bars import BarSeries, Columns, Span

BARS_LIMIT = 2_000_000  # of all symbols: 96 MB, and as much again for each market that differs


class SharedHistory:
    """Implements BarHistory: the bars of a span as they were when they were first asked for, however often that is.

    Bars from before the span come from where the others do, and are kept as well. Raises as that does, and
    StrategyError for more than BARS_LIMIT bars.
    """

    def __init__(self, source: BarHistory, span: Span) -> None:
        self._source = source
        self._span = span
        self._closed: dict[BarSeries, Span] = {}
        self._before: dict[BarSeries, Columns] = {}  # all that was asked for from before the span
        self._before_since_ns: dict[BarSeries, int] = {}
        self.run: dict[BarSeries, Columns] = {}

    def closed(self, series: BarSeries, span: Span) -> Span:
        """Give the span moved to whole bars that had closed when it was first asked for."""
        if series not in self._closed:
            self._closed[series] = self._source.closed(series, self._span)
        found = self._source.closed(series, span)
        until_ns = min(found.until_ns, self._closed[series].until_ns)
        return Span(found.since_ns, max(found.since_ns, until_ns))

    async def fill(self, series: BarSeries, span: Span, progress: Callable[[float, int], None] | None = None) -> int:
        """Read the bars of the whole span, once."""
        if series in self.run:
            if progress is not None:
                progress(1.0, 0)
            return 0
        whole = self._closed.get(series) or self._source.closed(series, self._span)
        fetched = await self._source.fill(series, whole, progress)
        columns = await self._source.columns(series, whole)
        if len(columns.open_time_ns) + sum(len(each.open_time_ns) for each in self.run.values()) > BARS_LIMIT:
            raise StrategyError(
                f"more than {BARS_LIMIT:,} bars are too many to check a strategy on: choose a shorter range, a longer "
                "timeframe or fewer symbols"
            )
        self.run[series] = columns
        return fetched

    async def columns(self, series: BarSeries, span: Span) -> Columns:
        """Give the bars that open within the span."""
        begin_ns = self._span.since_ns
        if series not in self.run:
            await self.fill(series, span)
        if span.since_ns < min(span.until_ns, begin_ns, self._before_since_ns.get(series, begin_ns)):
            self._before[series] = await self._source.columns(series, Span(span.since_ns, begin_ns))
            self._before_since_ns[series] = span.since_ns
        within = part(self.run[series], span)
        if series not in self._before or span.since_ns >= begin_ns:
            return within
        return joined(part(self._before[series], span), within)

    def bars_before(self, series: BarSeries) -> int:
        """Give how many bars from before the span were found so far."""
        before = self._before.get(series)
        return 0 if before is None else len(before.open_time_ns)

    def changed(
        self, run: Mapping[BarSeries, Columns], before: Mapping[BarSeries, Columns] | None = None
    ) -> SharedHistory:
        """Give a history in which some series have other bars within the span, and `before` it where those are given.

        What is given from before the span is all that there is, however much is asked for.
        """
        other = SharedHistory(self._source, self._span)
        other._closed, other._before, other._before_since_ns = self._closed, self._before, self._before_since_ns
        other.run = {**self.run, **run}
        for series, columns in (before or {}).items():
            if len(columns.open_time_ns):
                other._before = {**other._before, series: columns}
                other._before_since_ns = {**other._before_since_ns, series: 0}
        return other


def part(columns: Columns, span: Span) -> Columns:
    """Give the bars that open within a span."""
    begin, end = np.searchsorted(columns.open_time_ns, (span.since_ns, span.until_ns))
    return rows(columns, slice(int(begin), int(end)))


def rows(columns: Columns, which: slice) -> Columns:
    """Give some of the bars."""
    cut: Iterable[Any] = (values[which] for values in columns)
    return Columns(*cut)


def joined(first: Columns, then: Columns) -> Columns:
    """Give bars, and others after them."""
    both: Iterable[Any] = (np.concatenate(values) for values in zip(first, then, strict=True))
    return Columns(*both)


def as_candles(columns: Columns) -> Candles:
    """Give bars as Python's own numbers, with which single ones are reckoned faster."""
    return Candles(*(values.tolist() for values in columns))


def as_columns(candles: Candles) -> Columns:
    """Give bars as arrays."""
    values = (candles.open, candles.high, candles.low, candles.close, candles.volume)
    return Columns(np.array(candles.time_ns, np.int64), *(np.array(column, np.float64) for column in values))
