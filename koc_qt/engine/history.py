"""Bars of the past: from the store where it has them, from the venue where it has not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from loguru import logger

from koc_qt.domain.bars import resample, validate_bars
from koc_qt.domain.errors import BadBars, StorageError, VenueRejected, VenueTimeout
from koc_qt.domain.market import Bar
from koc_qt.domain.state import StoredSeries
from koc_qt.domain.timeframes import DAY_NS, SECOND_NS, bar_open_ns, duration_ns, is_multiple
from koc_qt.ports.bars import BarSeries, BarStore, Columns, Span, columns_of
from koc_qt.ports.clock import Clock
from koc_qt.ports.venue import MarketDataVenue

PAGE_TIMEOUT_S = 60.0
SERIES_LISTED = 2_000
# A turn at a series ends, and what it fetched is written, at whichever of these comes first.
_TURN_BARS = 20_000
_TURN_NS = 2 * SECOND_NS
# A bar that the venue does not give this soon after its close may still come: its absence is not remembered yet.
_SETTLE_NS = 120 * SECOND_NS
# How far `last` looks back for markets that pause: overnight, over a long weekend, or, by days, over weekends alone.
_WIDENINGS = (1, 4, 16)
_WIDENINGS_OF_DAYS = (1, 2)
_WIDEST_AT_LEAST_NS = 7 * DAY_NS
_EARLIEST_NS = -70 * 366 * DAY_NS  # no bars are older, and no file is made for what is before

Progress = Callable[[float, int], None]
T = TypeVar("T")


@dataclass
class _Turn:
    """What one turn got: valid bars, and how far (UTC ns) the series is now known."""

    known_until_ns: int
    ended: bool = False
    bars: list[Bar] = field(default_factory=list)


class HistoryService:
    """Gives bars of any span and fetches only what is missing. All methods run on the engine's loop.

    Callers of one series take turns, a few pages each: what one fetched the next need not, and a short request never
    waits for the end of a long one. Cancelling keeps what was fetched.
    """

    def __init__(self, store: BarStore, venues: Mapping[str, MarketDataVenue], clock: Clock) -> None:
        self._store = store
        self._venues = venues
        self._clock = clock
        self._turns: dict[BarSeries, asyncio.Lock] = {}
        self._listing = asyncio.Lock()

    async def bars(self, series: BarSeries, span: Span, progress: Progress | None = None) -> Sequence[Bar]:
        """Give the closed bars that open within the span, oldest first.

        `progress` is told the fraction done, from 0 to 1, and the number of bars fetched so far. Raises VenueError,
        BadBars naming the row of a page that was refused (what came before it is kept), BadTimeframe, StorageError.
        """
        source = self.source(series)
        span = self.closed(series, span)
        await self.fill(series, span, progress)
        if source == series:
            return await self._stored(partial(self._store.read, series, span))
        known = await self._stored(partial(self._store.covered, source, span))
        shorter = await self._stored(partial(self._store.read, source, span))
        until_ns = known[-1].until_ns if known else span.since_ns
        return await asyncio.to_thread(resample, shorter, series.timeframe, until_ns=until_ns)

    async def columns(self, series: BarSeries, span: Span) -> Columns:
        """Give what `bars` gives, in columns."""
        if self.source(series) != series:
            return await asyncio.to_thread(columns_of, await self.bars(series, span))
        span = self.closed(series, span)
        await self.fill(series, span)
        return await self._stored(partial(self._store.columns, series, span))

    async def last(self, series: BarSeries, count: int) -> Sequence[Bar]:
        """Give the newest `count` closed bars, fewer where the market has no more within a reasonable time back.

        Raises as `bars` does.
        """
        if count < 1:
            return []
        until_ns = self.closed_until_ns(series)
        length_ns = duration_ns(series.timeframe)
        widenings = _WIDENINGS if length_ns < DAY_NS else _WIDENINGS_OF_DAYS
        bars: Sequence[Bar] = ()
        for widening in widenings:
            width_ns = widening * count * length_ns
            if widening == widenings[-1]:
                width_ns = max(width_ns, _WIDEST_AT_LEAST_NS)
            bars = await self.bars(series, Span(until_ns - width_ns, until_ns))
            if len(bars) >= count:
                break
        return bars[-count:]

    async def fill(self, series: BarSeries, span: Span, progress: Progress | None = None) -> int:
        """Fetch what the store lacks of the span, read nothing, and give the number of bars fetched.

        Raises as `bars` does.
        """
        source = self.source(series)
        venue = self._venue(series)
        span = self.closed(series, span)
        position_ns, fetched = span.since_ns, 0
        while position_ns < span.until_ns:
            async with self._turns.setdefault(source, asyncio.Lock()):
                gap = await self._first_gap(source, Span(position_ns, span.until_ns))
                if gap is None:
                    break
                turn = await self._take_turn(venue, source, gap)
            fetched += len(turn.bars)
            position_ns = gap.until_ns if turn.ended else turn.known_until_ns
            if progress is not None:
                progress((position_ns - span.since_ns) / (span.until_ns - span.since_ns), fetched)
        if progress is not None:
            progress(1.0, fetched)
        return fetched

    async def stored(self) -> Sequence[StoredSeries]:
        """List the series that the store has, at most SERIES_LISTED. Raises StorageError."""
        async with self._listing:  # it reads every file: one at a time is enough
            return await asyncio.to_thread(self._store.series, SERIES_LISTED)

    def source(self, series: BarSeries) -> BarSeries:
        """Give the series that is asked of the venue and kept: this one, or the longest that makes up its bars.

        Raises BadTimeframe, and VenueRejected for an unknown venue and a timeframe that none of its own makes up.
        """
        venue = self._venue(series)
        duration_ns(series.timeframe)
        if series.timeframe in venue.timeframes:
            return series
        fitting = [own for own in venue.timeframes if is_multiple(series.timeframe, own)]
        if not fitting:
            raise VenueRejected(
                f"{venue.name} has no {series.timeframe!r} bars and none that they could be made of; "
                f"it has {', '.join(venue.timeframes)}"
            )
        return BarSeries(series.instrument, max(fitting, key=duration_ns))

    def closed(self, series: BarSeries, span: Span) -> Span:
        """Give the span moved to whole bars that have closed by the venue's clock; empty where there are none."""
        since_ns = _next_open_ns(max(span.since_ns, _EARLIEST_NS), series.timeframe)
        until_ns = min(_next_open_ns(span.until_ns, series.timeframe), self.closed_until_ns(series))
        return Span(since_ns, max(since_ns, until_ns))

    def closed_until_ns(self, series: BarSeries) -> int:
        """Give the end of the newest closed bar by the venue's clock. Raises VenueRejected, BadTimeframe."""
        return bar_open_ns(self._venue(series).time_ns(), series.timeframe)

    def _venue(self, series: BarSeries) -> MarketDataVenue:
        venue = self._venues.get(series.instrument.venue)
        if venue is None:
            known = ", ".join(self._venues) or "none"
            raise VenueRejected(f"there is no venue {series.instrument.venue!r} to ask for history; there are: {known}")
        return venue

    async def _first_gap(self, series: BarSeries, span: Span) -> Span | None:
        position_ns = span.since_ns
        for known in await self._stored(partial(self._store.covered, series, span)):
            if known.since_ns > position_ns:
                return Span(position_ns, known.since_ns)
            position_ns = known.until_ns
        return Span(position_ns, span.until_ns) if position_ns < span.until_ns else None

    async def _take_turn(self, venue: MarketDataVenue, series: BarSeries, gap: Span) -> _Turn:
        """Fetch some pages of the gap, and write what came whatever ends it: the turn's limit, an error, a cancel."""
        turn = _Turn(gap.since_ns)
        started_ns = self._clock.monotonic_ns()
        try:
            await self._fetch(venue, series, gap, turn, started_ns + _TURN_NS)
        finally:
            if turn.known_until_ns > gap.since_ns:
                known = Span(gap.since_ns, turn.known_until_ns)
                await asyncio.to_thread(self._store.write, series, turn.bars, known)
                elapsed_s = (self._clock.monotonic_ns() - started_ns) / SECOND_NS
                logger.debug(
                    "history: {} bars of {} {} in {:.2f} s",
                    len(turn.bars), series.instrument, series.timeframe, elapsed_s,
                )  # fmt: skip
        return turn

    async def _fetch(self, venue: MarketDataVenue, series: BarSeries, gap: Span, turn: _Turn, deadline_ns: int) -> None:
        pages = venue.fetch_bars(series.instrument.symbol, series.timeframe, gap.since_ns, gap.until_ns)
        try:
            # Each turn gets somewhere: only one that has bars is cut short.
            while not turn.bars or (len(turn.bars) < _TURN_BARS and self._clock.monotonic_ns() < deadline_ns):
                page = await _next_page(pages, series)
                if page is None:
                    settled_ns = bar_open_ns(venue.time_ns() - _SETTLE_NS, series.timeframe)
                    turn.known_until_ns = max(turn.known_until_ns, min(gap.until_ns, settled_ns))
                    turn.ended = True
                    return
                if page:
                    _check_page(page, series, Span(turn.known_until_ns, gap.until_ns))
                    turn.bars.extend(page)
                    turn.known_until_ns = _next_open_ns(page[-1].open_time_ns + 1, series.timeframe)
        finally:
            if isinstance(pages, AsyncGenerator):
                await pages.aclose()

    async def _stored(self, read: Callable[[], T]) -> T:
        """Read from the store; a damaged file is set aside by the first attempt, and counts as absent in the second."""
        try:
            return await asyncio.to_thread(read)
        except StorageError as error:
            logger.warning("{}", error)
            return await asyncio.to_thread(read)


async def _next_page(pages: AsyncIterator[Sequence[Bar]], series: BarSeries) -> Sequence[Bar] | None:
    try:
        async with asyncio.timeout(PAGE_TIMEOUT_S):
            return await anext(pages, None)
    except TimeoutError:
        raise VenueTimeout(
            f"{series.instrument.venue} gave no bars of {series.instrument.symbol} {series.timeframe} within "
            f"{PAGE_TIMEOUT_S:g} s; what came before is kept, try again later"
        ) from None


def _check_page(page: Sequence[Bar], series: BarSeries, expected: Span) -> None:
    """Refuse a page that cannot be believed, or is not what was asked for."""
    source = f"{series.instrument.venue} sent bars that cannot be used"
    try:
        validate_bars(page, series.timeframe)
    except BadBars as error:
        raise BadBars(f"{source}: {error}") from error
    for row in (0, len(page) - 1):
        bar = page[row]
        if bar.instrument != series.instrument:
            raise BadBars(f"{source}: row {row} is of {bar.instrument}, not of {series.instrument}")
        if not expected.since_ns <= bar.open_time_ns < expected.until_ns:
            raise BadBars(
                f"{source}: {series.instrument} {series.timeframe}, row {row} opens at {bar.open_time_ns} ns, outside "
                f"the rest of the span that was asked for ({expected.since_ns} to {expected.until_ns} ns)"
            )


def _next_open_ns(time_ns: int, timeframe: str) -> int:
    """Give the first opening time at or after `time_ns`."""
    opening_ns = bar_open_ns(time_ns, timeframe)
    return opening_ns if opening_ns == time_ns else opening_ns + duration_ns(timeframe)
