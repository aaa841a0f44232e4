"""History for a back-test: fetched first, then read page by page and put into messages, so that little is in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import chain

from koc_qt.domain.errors import StrategyError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.domain.timeframes import duration_ns
from koc_qt.engine.history import HistoryService
from koc_qt.ports.bars import BarSeries, Span
from koc_qt.sdk.channel import ReplayBars

BARS_LIMIT = 5_000_000  # of all symbols of a run
WARMUP_LIMIT = 20_000  # bars of all symbols, as live
CHUNK_BARS = 4_096  # a message, some 230 kB
_PAGE_BARS = 10_000  # read from the store at once
# How far back warm-up looks for markets that pause: overnight, over a long weekend.
_WIDENINGS = (1, 4, 16)


class BacktestFeed:
    """The bars of one run. Raises what HistoryService.bars does, and StrategyError for a range that has none."""

    def __init__(
        self, history: HistoryService, instruments: Sequence[InstrumentId], timeframe: str, span: Span
    ) -> None:
        self._history = history
        self._bar_ns = duration_ns(timeframe)
        self._series = [BarSeries(instrument, timeframe) for instrument in instruments]
        self._spans = [history.closed(series, span) for series in self._series]
        self.since_ns = span.since_ns
        self.until_ns = max(each.until_ns for each in self._spans)
        count = sum((each.until_ns - each.since_ns) // self._bar_ns for each in self._spans)
        if count > BARS_LIMIT:
            raise StrategyError(
                f"{count:,} bars of {timeframe} are more than a back-test takes ({BARS_LIMIT:,}): "
                "choose a shorter range, a longer timeframe or fewer symbols"
            )
        if not count:
            raise StrategyError(
                f"no bar of {timeframe} opens and closes within that range: choose a longer or earlier one"
            )

    async def fetch(self, progress: Callable[[float], None]) -> None:
        """Have the store filled with what it lacks; `progress` is told from 0 to 1."""
        for number, (series, span) in enumerate(zip(self._series, self._spans, strict=True)):

            def told(fraction: float, _: int, number: int = number) -> None:
                progress((number + fraction) / len(self._series))

            await self._history.fill(series, span, told)

    async def before(self, count: int) -> Sequence[ReplayBars]:
        """Give up to `count` bars of each symbol from before the run; one at least, which tells the price."""
        count = max(1, min(count, WARMUP_LIMIT // len(self._series)))
        columns = [await self._newest_before(series, count) for series in self._series]
        return await asyncio.to_thread(_messages, columns, True)

    async def _newest_before(self, series: BarSeries, count: int) -> Sequence[Bar]:
        bars: Sequence[Bar] = ()
        for widening in _WIDENINGS:
            span = Span(self.since_ns - widening * count * self._bar_ns, self.since_ns)
            bars = await self._history.bars(series, span)
            if len(bars) >= count:
                break
        return bars[-count:]

    async def pages(self) -> AsyncIterator[Sequence[ReplayBars]]:
        """Give the bars of the run in the order of time."""
        length_ns = max(1, _PAGE_BARS // len(self._series)) * self._bar_ns
        found = False
        for begin_ns in range(min(each.since_ns for each in self._spans), self.until_ns, length_ns):
            columns = []
            for series, span in zip(self._series, self._spans, strict=True):
                page = Span(max(begin_ns, span.since_ns), min(begin_ns + length_ns, span.until_ns))
                columns.append(await self._history.bars(series, page) if page.since_ns < page.until_ns else ())
            messages = await asyncio.to_thread(_messages, columns, False)
            found = found or bool(messages)
            yield messages
        if not found:
            names = ", ".join(str(series.instrument) for series in self._series)
            raise StrategyError(f"there are no bars of {names} in that range: choose another, or another symbol")


def _messages(columns: Sequence[Sequence[Bar]], warmup: bool) -> list[ReplayBars]:
    rows = list(chain.from_iterable(((row, bar) for bar in bars) for row, bars in enumerate(columns)))
    if len(columns) > 1:
        rows.sort(key=lambda row: (row[1].open_time_ns, row[0]))
    return [_message(part, warmup) for part in _parts(rows)]


def _parts(rows: list[tuple[int, Bar]]) -> Iterator[list[tuple[int, Bar]]]:
    """Cut into messages; what opens at the same time stays together."""
    begin = 0
    while begin < len(rows):
        end = min(begin + CHUNK_BARS, len(rows))
        while end < len(rows) and rows[end][1].open_time_ns == rows[end - 1][1].open_time_ns:
            end += 1
        yield rows[begin:end]
        begin = end


def _message(rows: list[tuple[int, Bar]], warmup: bool) -> ReplayBars:
    return ReplayBars(
        warmup,
        [row for row, _ in rows],
        [bar.open_time_ns for _, bar in rows],
        [bar.open for _, bar in rows],
        [bar.high for _, bar in rows],
        [bar.low for _, bar in rows],
        [bar.close for _, bar in rows],
        [bar.volume for _, bar in rows],
    )
