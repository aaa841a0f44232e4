"""History for a back-test: fetched first, then read page by page and put into messages, so that little is in memory.

Where it comes from is behind BarHistory: the engine's HistoryService, or files that somebody brought. A gap is a gap:
an interval without a bar makes none, and nothing is filled in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.errors import StrategyError
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.timeframes import duration_ns
from koc_qt.ports.bars import BarSeries, Columns, Span
from koc_qt.ports.clock import Clock
from koc_qt.ports.workers import WorkerLauncher
from koc_qt.sdk.channel import ReplayBars

BARS_LIMIT = 5_000_000  # of all symbols of a run
WARMUP_LIMIT = 20_000  # bars of all symbols, as live
CHUNK_BARS = 4_096  # a message, some 230 kB
_PAGE_BARS = 20_000  # read from the store at once
# How far back warm-up looks for markets that pause: overnight, over a long weekend.
_WIDENINGS = (1, 4, 16)
_NO_TIMES, _NO_VALUES = np.zeros(0, np.int64), np.zeros(0)
_NONE = Columns(_NO_TIMES, _NO_VALUES, _NO_VALUES, _NO_VALUES, _NO_VALUES, _NO_VALUES)


class BarHistory(Protocol):
    """Valid bars of the past, closed ones alone. The methods raise as those of HistoryService do."""

    def closed(self, series: BarSeries, span: Span) -> Span:
        """Give the span moved to whole bars that have closed; empty where there are none."""
        ...

    async def fill(self, series: BarSeries, span: Span, progress: Callable[[float, int], None] | None = None) -> int:
        """Have the bars of the span ready; `progress` is told the fraction done and the bars fetched so far."""
        ...

    async def columns(self, series: BarSeries, span: Span) -> Columns:
        """Give the closed bars that open within the span."""
        ...


class RunServices(Protocol):
    """What a back-test needs of whoever runs it: the engine's Services, or less."""

    @property
    def clock(self) -> Clock:
        """When it began, and how long it takes."""
        ...

    @property
    def launcher(self) -> WorkerLauncher:
        """Where its process comes from."""
        ...

    @property
    def history(self) -> BarHistory:
        """Where its bars come from."""
        ...


@dataclass(frozen=True)
class HistoryServices:
    """Implements RunServices: someone's, with another history."""

    clock: Clock
    launcher: WorkerLauncher
    history: BarHistory


class Prepared(NamedTuple):
    """A run that can be started: its file's source, the rules of its instruments, and what it runs with.

    Of the spec path and files are absolute, and timeframe and range those of the files, where there are any. `notes`
    are phrases on these that a person should know.
    """

    spec: BacktestSpec
    source: bytes
    instruments: tuple[Instrument, ...]
    services: RunServices
    notes: tuple[str, ...] = ()


class BacktestFeed:
    """The bars of one run. Raises what its history does, and StrategyError for a range that has none."""

    def __init__(self, history: BarHistory, instruments: Sequence[InstrumentId], timeframe: str, span: Span) -> None:
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

    async def _newest_before(self, series: BarSeries, count: int) -> Columns:
        bars = _NONE
        for widening in _WIDENINGS:
            span = Span(self.since_ns - widening * count * self._bar_ns, self.since_ns)
            bars = await self._history.columns(series, span)
            if len(bars.open_time_ns) >= count:
                break
        return _newest(bars, count)

    async def pages(self) -> AsyncIterator[Sequence[ReplayBars]]:
        """Give the bars of the run in the order of time."""
        length_ns = max(1, _PAGE_BARS // len(self._series)) * self._bar_ns
        found = False
        for begin_ns in range(min(each.since_ns for each in self._spans), self.until_ns, length_ns):
            columns = []
            for series, span in zip(self._series, self._spans, strict=True):
                page = Span(max(begin_ns, span.since_ns), min(begin_ns + length_ns, span.until_ns))
                columns.append(await self._history.columns(series, page) if page.since_ns < page.until_ns else _NONE)
            messages = await asyncio.to_thread(_messages, columns, False)
            found = found or bool(messages)
            yield messages
        if not found:
            names = ", ".join(str(series.instrument) for series in self._series)
            raise StrategyError(f"there are no bars of {names} in that range: choose another, or another symbol")


def _newest(bars: Columns, count: int) -> Columns:
    times_ns, *values = bars
    return Columns(times_ns[-count:], *(each[-count:] for each in values))


def _messages(columns: Sequence[Columns], warmup: bool) -> list[ReplayBars]:
    """Put the bars of all symbols in the order of time, those of one moment in the order of the symbols."""
    rows = np.repeat(np.arange(len(columns)), [len(bars.open_time_ns) for bars in columns])
    merged = [np.concatenate(parts) for parts in zip(*columns, strict=True)]
    if len(columns) > 1:
        order = np.lexsort((rows, merged[0]))
        rows, merged = rows[order], [values[order] for values in merged]
    return [
        ReplayBars(warmup, rows[part].tolist(), *(values[part].tolist() for values in merged))
        for part in _parts(merged[0])
    ]


def _parts(times_ns: npt.NDArray[np.int64]) -> Iterator[slice]:
    """Cut into messages; what opens at the same time stays together."""
    begin = 0
    while begin < len(times_ns):
        last = times_ns[min(begin + CHUNK_BARS, len(times_ns)) - 1]
        end = int(np.searchsorted(times_ns, last, side="right"))
        yield slice(begin, end)
        begin = end
