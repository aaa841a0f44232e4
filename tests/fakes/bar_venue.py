"""A venue that has the bars it was given, and counts what it was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from koc_qt.domain.errors import VenueRejected
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.market import Bar
from koc_qt.domain.timeframes import bar_open_ns
from koc_qt.ports.bars import Span
from koc_qt.ports.clock import Clock
from koc_qt.ports.venue import MarketSink


class BarVenue:
    """Implements ports.venue.MarketDataVenue for history alone; nothing streams.

    `bars` is what it has, by symbol and timeframe. `asked` lists the spans of fetch_bars, `given` counts bars given.
    A page waits for a permit of `gate` where there is one; `failures` maps a page's number, from 0, to its error.
    """

    def __init__(
        self, name: str, clock: Clock, instruments: Sequence[Instrument], timeframes: Sequence[str], page_bars: int = 10
    ) -> None:
        self._name = name
        self._clock = clock
        self._instruments = tuple(instruments)
        self._timeframes = tuple(timeframes)
        self._page_bars = page_bars
        self.bars: dict[tuple[str, str], list[Bar]] = {}
        self.asked: list[Span] = []
        self.given = 0
        self.pages = 0
        self.gate: asyncio.Semaphore | None = None
        self.failures: dict[int, Exception] = {}
        self.closed = False

    @property
    def name(self) -> str:
        """The venue part of its instruments' ids."""
        return self._name

    @property
    def breaker_state(self) -> str:
        """Always closed."""
        return "closed"

    @property
    def timeframes(self) -> Sequence[str]:
        """The timeframes that fetch_bars takes, shortest first."""
        return self._timeframes

    def time_ns(self) -> int:
        """UTC nanoseconds, by the clock it was given."""
        return self._clock.time_ns()

    async def connect(self, sink: MarketSink) -> None:
        """Do nothing: nothing streams."""

    async def close(self) -> None:
        """Note it."""
        self.closed = True

    async def instruments(self) -> Sequence[Instrument]:
        """All instruments with their rules."""
        return self._instruments

    async def subscribe(self, symbol: str) -> None:
        """Refuse: nothing streams."""
        raise VenueRejected(f"{self._name} does not stream {symbol}")

    async def unsubscribe(self, symbol: str) -> None:
        """Do nothing."""

    async def fetch_bars(
        self, symbol: str, timeframe: str, since_ns: int, until_ns: int
    ) -> AsyncIterator[Sequence[Bar]]:
        """Give its closed bars of the span in pages. Raises VenueRejected for a symbol or timeframe it has not."""
        if timeframe not in self._timeframes or symbol not in [one.id.symbol for one in self._instruments]:
            raise VenueRejected(f"{self._name} has no {timeframe} bars of {symbol}")
        self.asked.append(Span(since_ns, until_ns))
        end_ns = min(until_ns, bar_open_ns(self.time_ns(), timeframe))
        bars = [bar for bar in self.bars.get((symbol, timeframe), []) if since_ns <= bar.open_time_ns < end_ns]
        for first in range(0, len(bars), self._page_bars):
            if self.gate is not None:
                await self.gate.acquire()
            await asyncio.sleep(0)
            number, self.pages = self.pages, self.pages + 1
            if number in self.failures:
                raise self.failures[number]
            page = bars[first : first + self._page_bars]
            self.given += len(page)
            yield page
