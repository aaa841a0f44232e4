"""A market data venue and a bar store that a test fills by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal

from koc_qt.domain.errors import VenueRejected
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar, MarketEvent, Side, StreamState, StreamStatus, Trade
from koc_qt.domain.state import StoredSeries
from koc_qt.domain.timeframes import duration_ns
from koc_qt.ports.bars import BarSeries, Columns, Span, columns_of
from koc_qt.ports.clock import Clock
from koc_qt.ports.venue import MarketSink
from tests.fakes.trading import BTC, BTC_RULES

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS


def trade(time_ns: int, price: str = "100", quantity: str = "1", instrument: InstrumentId = BTC) -> Trade:
    """Give a buyer's trade."""
    return Trade(instrument, time_ns, Decimal(price), Decimal(quantity), Side.BUY, f"t{time_ns}")


def bars(first_ns: int, count: int, timeframe: str = "1m", instrument: InstrumentId = BTC) -> list[Bar]:
    """Give `count` bars, each a little higher than the last."""
    step = duration_ns(timeframe)
    return [
        Bar(instrument, timeframe, first_ns + n * step, 100.0 + n, 101.0 + n, 99.0 + n, 100.5 + n, 10.0)
        for n in range(count)
    ]


class FakeDataVenue:
    """Implements ports/venue.py MarketDataVenue; `publish` speaks for the venue, `history` is what it remembers.

    `answer`, `subscribing` and `unsubscribing` hold fetch_bars, subscribe and unsubscribe until they are set.
    """

    def __init__(self, clock: Clock, name: str = "sim", instruments: Sequence[Instrument] = (BTC_RULES,)) -> None:
        self.name = name
        self.breaker_state = "closed"
        self.timeframes: Sequence[str] = ("1s", "1m", "1h")
        self.history: list[Bar] = []
        self.subscribed: list[str] = []
        self.unsubscribed: list[str] = []
        self.fetched: list[tuple[str, str, int, int]] = []
        self.refuse_connect: list[Exception] = []
        self.refuse_subscribe: Exception | None = None
        self.refuse_fetch: Exception | None = None
        self.answer: asyncio.Event | None = None
        self.connects_streams = True
        self.subscribing: asyncio.Event | None = None
        self.unsubscribing: asyncio.Event | None = None
        self.closed = False
        self._clock = clock
        self._instruments = instruments
        self._sink: MarketSink | None = None

    def time_ns(self) -> int:
        """Give the test's clock."""
        return self._clock.time_ns()

    async def connect(self, sink: MarketSink) -> None:
        """Remember where events go."""
        if self.refuse_connect:
            raise self.refuse_connect.pop(0)
        self._sink = sink

    async def close(self) -> None:
        """Note that it was closed."""
        self.closed = True

    async def instruments(self) -> Sequence[Instrument]:
        """Give the instruments."""
        return self._instruments

    async def subscribe(self, symbol: str) -> None:
        """Note the subscription, and say that it is connected unless `connects_streams` is false."""
        if self.subscribing is not None:
            await self.subscribing.wait()
        if self.refuse_subscribe is not None:
            raise self.refuse_subscribe
        self.subscribed.append(symbol)
        if self.connects_streams:
            self.status(StreamState.CONNECTED, symbol=symbol)

    async def unsubscribe(self, symbol: str) -> None:
        """Note its end, say it, and wait for `unsubscribing` where there is one."""
        self.status(StreamState.ENDED, "unsubscribed", symbol=symbol)
        if self.unsubscribing is not None:
            await self.unsubscribing.wait()
        self.unsubscribed.append(symbol)

    def status(self, state: StreamState, reason: str = "", *, symbol: str = "BTC/USDT") -> None:
        """Say what a stream does."""
        self.publish(StreamStatus(InstrumentId(self.name, symbol), self.time_ns(), state, reason))

    async def fetch_bars(
        self, symbol: str, timeframe: str, since_ns: int, until_ns: int
    ) -> AsyncIterator[Sequence[Bar]]:
        """Give what it remembers of the span, once `answer` is set where there is one."""
        if timeframe not in self.timeframes:
            raise VenueRejected(f"{self.name} has no {timeframe} bars")
        self.fetched.append((symbol, timeframe, since_ns, until_ns))
        if self.answer is not None:
            await self.answer.wait()
        if self.refuse_fetch is not None:
            raise self.refuse_fetch
        found = [
            bar
            for bar in self.history
            if bar.instrument.symbol == symbol
            and bar.timeframe == timeframe
            and since_ns <= bar.open_time_ns < min(until_ns, self.time_ns() - duration_ns(timeframe) + 1)
        ]
        if found:
            yield found

    def publish(self, *events: MarketEvent) -> None:
        """Speak for the venue."""
        assert self._sink is not None
        for event in events:
            self._sink(event)


class MemoryBarStore:
    """Implements ports/bars.py BarStore."""

    def __init__(self) -> None:
        self._bars: dict[BarSeries, dict[int, Bar]] = {}
        self._covered: dict[BarSeries, list[Span]] = {}

    def read(self, series: BarSeries, span: Span) -> Sequence[Bar]:
        """Give the bars of the span."""
        kept = self._bars.get(series, {})
        return [kept[time] for time in sorted(kept) if span.since_ns <= time < span.until_ns]

    def columns(self, series: BarSeries, span: Span) -> Columns:
        """Give the bars of the span in columns."""
        return columns_of(self.read(series, span))

    def covered(self, series: BarSeries, span: Span) -> Sequence[Span]:
        """Give the covered parts of the span, merged."""
        merged: list[Span] = []
        for part in sorted(self._covered.get(series, [])):
            since, until = max(part.since_ns, span.since_ns), min(part.until_ns, span.until_ns)
            if since >= until:
                continue
            if merged and since <= merged[-1].until_ns:
                merged[-1] = Span(merged[-1].since_ns, max(merged[-1].until_ns, until))
            else:
                merged.append(Span(since, until))
        return merged

    def write(self, series: BarSeries, bars: Sequence[Bar], covered: Span) -> None:
        """Keep the bars and the span."""
        self._bars.setdefault(series, {}).update({bar.open_time_ns: bar for bar in bars})
        self._covered.setdefault(series, []).append(covered)

    def series(self, limit: int) -> Sequence[StoredSeries]:
        """List what is kept."""
        found = []
        for series in sorted(self._covered, key=lambda one: (one.instrument, duration_ns(one.timeframe)))[:limit]:
            since_ns = min(span.since_ns for span in self._covered[series])
            until_ns = max(span.until_ns for span in self._covered[series])
            bars = len(self._bars[series])
            found.append(StoredSeries(series.instrument, series.timeframe, since_ns, until_ns, bars, 40 * bars))
        return found
