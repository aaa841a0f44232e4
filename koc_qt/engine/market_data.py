"""Market data: who wants which stream, what came of it, and the bars built from it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from loguru import logger

from koc_qt.domain.errors import InvalidOrder, KocError, VenueError, VenueRejected, VenueTimeout, VenueUnavailable
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar, Book, MarketEvent, Quote, StreamState, StreamStatus, Trade
from koc_qt.domain.state import VenueSnapshot, VenueState
from koc_qt.domain.timeframes import duration_ns
from koc_qt.engine.bus import Bus
from koc_qt.engine.history import HistoryService
from koc_qt.engine.live_bars import LiveBars
from koc_qt.engine.notices import give_notice
from koc_qt.engine.store import Store
from koc_qt.link.messages import BarChanged, BookChanged, QuoteChanged, StreamChanged, TradePrinted, VenueChanged
from koc_qt.ports.clock import Clock
from koc_qt.ports.venue import MarketDataVenue, OpenCatalogue

TICK_S = 0.1  # how often bars are closed by the clock and forming bars are published
QUIET_NS = 1_000_000_000  # a bar without a next trade is closed by the clock after this long without any (real time)
LATE_NS = 150_000_000  # and this long (venue's time) after its end, for trades that are still on their way
CONNECT_TIMEOUT_S = 30.0
STREAM_TIMEOUT_S = 30.0  # for a venue to take a subscription, or its end
PRICE_TIMEOUT_S = 5.0
RECONNECT_DELAYS_S = (1.0, 2.0, 5.0, 10.0, 30.0)  # the last one repeats

F = TypeVar("F", Quote, Trade, Bar)
Listener = Callable[[Any], None]


class _Series:
    """Bars of one timeframe that somebody wants."""

    def __init__(self, live: LiveBars) -> None:
        self.live = live
        self.owners: set[str] = set()
        self.shown: Bar | None = None  # the forming bar that was published last


class _Stream:
    """One instrument's stream: who holds it, and what is built from it."""

    def __init__(self) -> None:
        self.owners: set[str] = set()
        self.is_open = False  # the venue was asked for it; only then are its events believed
        self.is_up: bool | None = None  # None until the venue has said
        self.down_reason = ""
        self.heard_ns = 0  # monotonic time of the last trade, or of its opening
        self.series: dict[str, _Series] = {}
        self.changing = asyncio.Lock()  # a subscription never overtakes the end of the one before


class MarketData:
    """Sole owner of streams, quotes and bars."""

    def __init__(
        self, store: Store, bus: Bus, clock: Clock, venues: Mapping[str, MarketDataVenue], history: HistoryService
    ) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._venues = venues
        self._history = history
        self._streams: dict[InstrumentId, _Stream] = {}
        self._listeners: dict[tuple[type[Any], InstrumentId], tuple[Listener, ...]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready: dict[str, asyncio.Event] = {name: asyncio.Event() for name in venues}
        self._is_closed = False
        self.ticks = 0

    async def start(self) -> None:
        """Connect every venue in the background, and keep trying."""
        for name in self._venues:
            self._spawn(self._connect(name), f"connect-{name}")
        self._spawn(self._tick_forever(), "market-data-tick")

    def is_ready(self, name: str) -> bool:
        """Whether a venue is there and has named its instruments."""
        return name in self._ready and self._ready[name].is_set()

    async def drop(self, name: str) -> None:
        """Give up a venue that never got connected, so that another can take its place."""
        if name not in self._ready or self.is_ready(name):
            return
        del self._ready[name]
        tasks = [task for task in self._tasks if task.get_name() == f"connect-{name}"]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._close(name)

    def connect(self, name: str) -> None:
        """Connect a venue that has come to `venues` since the start, and keep trying; known ones are left alone."""
        if name not in self._ready:
            self._ready[name] = asyncio.Event()
            self._spawn(self._connect(name), f"connect-{name}")

    async def close(self) -> None:
        """End all streams."""
        self._is_closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for stream in self._streams.values():
            for series in stream.series.values():
                series.live.close()
        self._streams.clear()
        await asyncio.gather(*(self._close(name) for name in self._venues))

    async def wait_ready(self, venue: str, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Wait until a venue has named its instruments.

        Raises VenueUnavailable after `timeout_s` or for an unknown venue.
        """
        ready = self._ready.get(venue)
        if ready is None:
            raise VenueUnavailable(f"there is no venue {venue!r}; there are: {', '.join(sorted(self._venues))}")
        try:
            async with asyncio.timeout(timeout_s):
                await ready.wait()
        except TimeoutError:
            state = self._store.venues.get(venue)
            raise VenueUnavailable(
                f"{venue} is not connected after {timeout_s:g} s: {(state and state.reason) or 'no answer'}"
            ) from None

    def time_ns(self, venue: str) -> int:
        """The venue's clock, UTC nanoseconds; ours for an unknown venue."""
        source = self._venues.get(venue)
        return source.time_ns() if source else self._clock.time_ns()

    # ---- who wants what ---------------------------------------------------------------------------------------------

    @property
    def venues(self) -> tuple[str, ...]:
        """The names of all venues, connected or not."""
        return tuple(self._venues)

    @property
    def held(self) -> dict[InstrumentId, frozenset[str]]:
        """Who holds which stream."""
        return {instrument: frozenset(stream.owners) for instrument, stream in self._streams.items()}

    async def hold(self, instrument: InstrumentId, owner: str) -> Instrument:
        """Stream an instrument for `owner` until it releases it; returns when the stream is asked for.

        Whoever is refused, or cancelled meanwhile, holds nothing. Raises VenueUnavailable, VenueRejected, VenueTimeout,
        and InvalidOrder for a symbol that the venue does not have.
        """
        await self.wait_ready(instrument.venue)
        rules = await self.look_up(instrument)
        if rules is None:
            raise InvalidOrder(f"{instrument.venue} has no symbol {instrument.symbol!r}{self._alike(instrument)}")
        if self._is_closed:
            raise VenueUnavailable(f"{instrument} cannot be streamed: the engine is stopping")
        stream = self._streams.setdefault(instrument, _Stream())
        held_before = owner in stream.owners
        stream.owners.add(owner)
        try:
            async with stream.changing:
                if not stream.is_open and stream.owners:
                    await self._open(instrument, stream)
        except BaseException:
            if not held_before:
                stream.owners.discard(owner)
            self._spawn(self._settle(instrument, stream), f"settle-{instrument}")
            raise
        return rules

    async def look_up(self, instrument: InstrumentId) -> Instrument | None:
        """Give an instrument's rules; a venue that lists only a part of what it has is asked. None for an unknown one.

        Raises VenueUnavailable and VenueTimeout where the venue does not answer.
        """
        known, venue = self._store.instrument(instrument), self._venues.get(instrument.venue)
        if known is not None or not isinstance(venue, OpenCatalogue):
            return known
        try:
            found = await venue.find(instrument.symbol)
        except VenueRejected:
            return None
        self._store.instruments[found.id] = found
        return found

    async def wait_priced(self, instrument: InstrumentId, timeout_s: float = PRICE_TIMEOUT_S) -> None:
        """Wait until a held instrument has a price, or the time is over: then whoever needs one says so."""
        if self._store.mark(instrument) is not None:
            return
        priced = asyncio.Event()

        def look(_: Quote | Trade) -> None:
            priced.set()

        ends = [self.listen(Quote, instrument, look), self.listen(Trade, instrument, look)]
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await priced.wait()
        finally:
            for end in ends:
                end()

    async def release(self, instrument: InstrumentId, owner: str) -> None:
        """Stop streaming for `owner`; the stream ends with its last holder."""
        stream = self._streams.get(instrument)
        if stream is None or owner not in stream.owners:
            return
        stream.owners.discard(owner)
        for timeframe in [*stream.series]:
            self._release_series(instrument, stream, timeframe, owner)
        await self._settle(instrument, stream)

    async def hold_bars(self, instrument: InstrumentId, timeframe: str, owner: str) -> None:
        """Build bars of an instrument for `owner`; they are published as BarChanged. Released with the instrument.

        Raises BadTimeframe, and what `hold` raises.
        """
        duration_ns(timeframe)
        await self.hold(instrument, owner)
        stream = self._streams.get(instrument)
        if stream is None or owner not in stream.owners:
            return  # released while it was being opened
        series = stream.series.get(timeframe)
        if series is None:
            now_ns = self.time_ns(instrument.venue)
            live = LiveBars(instrument, timeframe, self._history, self._bar_closed, now_ns)
            series = stream.series[timeframe] = _Series(live)
            if stream.is_up:
                live.connected(now_ns)
        series.owners.add(owner)

    def release_bars(self, instrument: InstrumentId, timeframe: str, owner: str) -> None:
        """Build these bars no more for `owner`, which goes on holding the instrument."""
        stream = self._streams.get(instrument)
        if stream is not None and timeframe in stream.series:
            self._release_series(instrument, stream, timeframe, owner)

    def listen(self, kind: type[F], instrument: InstrumentId, listener: Callable[[F], None]) -> Callable[[], None]:
        """Call `listener` with each Quote, Trade or closed Bar (of every timeframe) of an instrument, before the bus.

        The result ends it. A listener that raises is logged, and the others still run.
        """
        key: tuple[type[Any], InstrumentId] = (kind, instrument)
        self._listeners[key] = (*self._listeners.get(key, ()), listener)

        def end() -> None:
            left = tuple(other for other in self._listeners.get(key, ()) if other is not listener)
            if left:
                self._listeners[key] = left
            else:
                self._listeners.pop(key, None)

        return end

    def _release_series(self, instrument: InstrumentId, stream: _Stream, timeframe: str, owner: str) -> None:
        series = stream.series[timeframe]
        series.owners.discard(owner)
        if not series.owners:
            del stream.series[timeframe]
            series.live.close()
            self._store.bars.pop((instrument, timeframe), None)

    async def _open(self, instrument: InstrumentId, stream: _Stream) -> None:
        stream.is_open = True  # what it says while it is being opened counts
        stream.heard_ns = self._clock.monotonic_ns()
        try:
            async with asyncio.timeout(STREAM_TIMEOUT_S):
                await self._venues[instrument.venue].subscribe(instrument.symbol)
        except BaseException as error:
            stream.is_open = False
            if isinstance(error, TimeoutError):
                raise VenueTimeout(f"{instrument} was not streamed within {STREAM_TIMEOUT_S:g} s") from None
            raise

    async def _settle(self, instrument: InstrumentId, stream: _Stream) -> None:
        """End a stream that nobody holds; whoever wants it meanwhile waits, and then opens it again."""
        async with stream.changing:
            if stream.owners or self._streams.get(instrument) is not stream:
                return
            stream.is_open, stream.is_up, stream.down_reason = False, None, ""
            self._store.forget_market(instrument)
            self._store.streams.pop(instrument, None)
            ended = StreamStatus(instrument, self.time_ns(instrument.venue), StreamState.ENDED, "nobody follows it")
            self._bus.publish(ended)
            try:
                async with asyncio.timeout(STREAM_TIMEOUT_S):
                    await self._venues[instrument.venue].unsubscribe(instrument.symbol)
            except (VenueError, TimeoutError) as error:
                logger.warning("{} could not be unsubscribed: {}", instrument, str(error) or "no answer")
            if not stream.owners:
                self._streams.pop(instrument, None)

    def _alike(self, instrument: InstrumentId) -> str:
        same = sorted(i.symbol for i in self._store.instruments if i.venue == instrument.venue)
        wanted = instrument.symbol.replace("/", "").lower()
        alike = [symbol for symbol in same if symbol.replace("/", "").lower() == wanted] or same[:5]
        return f"; it has, for example, {', '.join(alike)}" if alike else ""

    # ---- what came of it ------------------------------------------------------------------------------------------

    def receive(self, event: MarketEvent) -> None:
        """Take an event; the sink of every market data venue. Never blocks, never raises."""
        instrument = event.instrument
        stream = self._streams.get(instrument)
        if stream is None or not stream.is_open:
            return
        self.ticks += 1
        if isinstance(event, Quote):
            self._store.quotes[instrument] = event
            self._tell(Quote, event)
            self._bus.publish(QuoteChanged(event))
        elif isinstance(event, Trade):
            self._store.trades[instrument] = event
            stream.heard_ns = self._clock.monotonic_ns()
            for series in [*stream.series.values()]:
                series.live.trade(event)
            self._tell(Trade, event)
            self._bus.publish(TradePrinted(event))
        elif isinstance(event, Book):
            self._store.books[instrument] = event
            self._bus.publish(BookChanged(event))
        else:
            self._stream_changed(event, stream)

    def _tell(self, kind: type, fact: Quote | Trade | Bar) -> None:
        for listener in self._listeners.get((kind, fact.instrument), ()):
            try:
                listener(fact)
            except Exception:
                logger.exception("a listener to {} failed; the others go on", fact.instrument)

    def _stream_changed(self, event: StreamStatus, stream: _Stream) -> None:
        stream.is_up = event.state is StreamState.CONNECTED
        stream.down_reason = "" if stream.is_up else f"{event.instrument}: {event.reason}"
        for series in stream.series.values():
            if event.state is StreamState.CONNECTED:
                series.live.connected(event.time_ns)
            elif event.state is StreamState.INTERRUPTED:
                series.live.interrupted(event.time_ns)
            else:
                series.live.ended(event.time_ns)
        if stream.is_up and event.reason:
            give_notice(
                self._store, self._bus, f"{event.instrument} is {event.reason}: its prices are not those of now"
            )
        if event.state is StreamState.ENDED:
            logger.warning("{} is no longer streamed: {}", event.instrument, event.reason)
            stream.is_open = False  # whoever wants it next asks for it again
            stream.down_reason = ""  # and the venue is well
        self._store.streams[event.instrument] = event
        self._bus.publish(event)
        self._bus.publish(StreamChanged(event))
        self._show_venue(event.instrument.venue)

    def _bar_closed(self, bar: Bar) -> None:
        self._store.bars[bar.instrument, bar.timeframe] = bar
        self._tell(Bar, bar)
        self._bus.publish(BarChanged(bar, True))

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            for instrument, stream in list(self._streams.items()):
                try:
                    self._tick(instrument, stream)
                except Exception:
                    logger.exception("the bars of {} cannot be closed", instrument)

    def _tick(self, instrument: InstrumentId, stream: _Stream) -> None:
        """Close what the clock has closed, and show what is forming."""
        if not stream.series:
            return
        trade = self._store.trades.get(instrument)
        if trade is None or self._clock.monotonic_ns() - stream.heard_ns > QUIET_NS:
            passed_ns = self.time_ns(instrument.venue) - LATE_NS
        else:
            passed_ns = trade.time_ns
        for series in [*stream.series.values()]:
            series.live.passed(passed_ns)
            forming = series.live.forming
            if forming is not None and forming != series.shown:
                series.shown = forming
                self._bus.publish(BarChanged(forming, False))

    # ---- venues --------------------------------------------------------------------------------------------------

    async def _connect(self, name: str) -> None:
        venue, tries = self._venues[name], 0
        self._show_venue(name, VenueState.CONNECTING)
        while True:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await venue.connect(self.receive)
                    instruments: Sequence[Instrument] = await venue.instruments()
            except Exception as error:
                reason = str(error) or f"no answer within {CONNECT_TIMEOUT_S:g} s"
                if not isinstance(error, KocError | TimeoutError):
                    reason = f"{type(error).__name__}: {reason}"
                    logger.exception("connecting to {} failed in a way nobody foresaw", name)
                delay_s = RECONNECT_DELAYS_S[min(tries, len(RECONNECT_DELAYS_S) - 1)]
                logger.warning("{} is out of reach, next try in {:g} s: {}", name, delay_s, reason)
                self._show_venue(name, VenueState.DISCONNECTED, reason)
                await self._close(name)  # it may have connected, and not have named its instruments
                await asyncio.sleep(delay_s)
                tries += 1
            else:
                self._store.instruments.update({instrument.id: instrument for instrument in instruments})
                self._ready[name].set()
                self._show_venue(name)
                return

    async def _close(self, name: str) -> None:
        try:
            await self._venues[name].close()
        except Exception:
            logger.exception("{} did not close in order", name)

    def _show_venue(self, name: str, state: VenueState | None = None, reason: str = "") -> None:
        """Publish a venue as it is; `state` is for one that is not connected."""
        snapshot = self._venue(name, state, reason)
        self._store.venues[name] = snapshot
        self._bus.publish(VenueChanged(snapshot))

    def _venue(self, name: str, state: VenueState | None, reason: str) -> VenueSnapshot:
        streams = [s for i, s in self._streams.items() if i.venue == name and s.owners]
        if state is None:
            reason = next((stream.down_reason for stream in streams if stream.down_reason), "")
            state = VenueState.INTERRUPTED if reason else VenueState.CONNECTED
        breaker = self._venues[name].breaker_state
        return VenueSnapshot(name, state, reason, len(streams), breaker, self._clock.time_ns())

    def refresh_venues(self) -> None:
        """Publish venues whose streams or breaker changed since they were last shown."""
        for name, shown in list(self._store.venues.items()):
            is_ready = self.is_ready(name)
            now = self._venue(name, None if is_ready else shown.state, shown.reason)
            if (now.state, now.reason, now.streams, now.breaker) != (
                shown.state, shown.reason, shown.streams, shown.breaker,
            ):  # fmt: skip
                self._store.venues[name] = now
                self._bus.publish(VenueChanged(now))

    def _spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.opt(exception=error).error("{} failed", task.get_name())
