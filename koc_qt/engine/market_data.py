"""Market data: who wants which stream, what came of it, and the bars built from it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence

from loguru import logger

from koc_qt.domain.errors import InvalidOrder, VenueError, VenueUnavailable
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar, Book, MarketEvent, Quote, StreamState, StreamStatus, Trade
from koc_qt.domain.state import VenueSnapshot, VenueState
from koc_qt.domain.timeframes import duration_ns
from koc_qt.engine.bus import Bus
from koc_qt.engine.history import HistoryService
from koc_qt.engine.live_bars import LiveBars
from koc_qt.engine.store import Store
from koc_qt.link.messages import BarChanged, BookChanged, QuoteChanged, TradePrinted, VenueChanged
from koc_qt.ports.clock import Clock
from koc_qt.ports.venue import MarketDataVenue

TICK_S = 0.1  # how often bars are closed by the clock and forming bars are published
QUIET_NS = 1_000_000_000  # a bar without a next trade is closed by the clock after this long without any (real time)
LATE_NS = 150_000_000  # and this long (venue's time) after its end, for trades that are still on their way
CONNECT_TIMEOUT_S = 30.0
PRICE_TIMEOUT_S = 5.0
RECONNECT_DELAYS_S = (1.0, 2.0, 5.0, 10.0, 30.0)  # the last one repeats


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
        self._holders: dict[InstrumentId, set[str]] = {}
        self._subscribing: dict[InstrumentId, asyncio.Task[None]] = {}
        self._bars: dict[tuple[InstrumentId, str], LiveBars] = {}
        self._bar_holders: dict[tuple[InstrumentId, str], set[str]] = {}
        self._shown: dict[tuple[InstrumentId, str], Bar | None] = {}
        self._heard_ns: dict[InstrumentId, int] = {}  # monotonic time of the last trade
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready: dict[str, asyncio.Event] = {name: asyncio.Event() for name in venues}
        self.ticks = 0

    async def start(self) -> None:
        """Connect every venue in the background, and keep trying."""
        for name in self._venues:
            self._spawn(self._connect(name), f"connect-{name}")
        self._spawn(self._tick_forever(), "market-data-tick")

    async def close(self) -> None:
        """End all streams."""
        tasks = [*self._tasks, *self._subscribing.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for bars in self._bars.values():
            bars.close()
        await asyncio.gather(*(venue.close() for venue in self._venues.values()), return_exceptions=True)

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
                f"{venue} is not connected after {timeout_s:g} s: {state.reason if state else 'no answer'}"
            ) from None

    def time_ns(self, venue: str) -> int:
        """The venue's clock, UTC nanoseconds; ours for an unknown venue."""
        source = self._venues.get(venue)
        return source.time_ns() if source else self._clock.time_ns()

    # ---- who wants what ---------------------------------------------------------------------------------------------

    async def hold(self, instrument: InstrumentId, owner: str) -> Instrument:
        """Stream an instrument for `owner` until it releases it; returns when the stream is asked for.

        Raises VenueUnavailable, VenueRejected, and InvalidOrder for a symbol that the venue does not have.
        """
        await self.wait_ready(instrument.venue)
        rules = self._store.instrument(instrument)
        if rules is None:
            raise InvalidOrder(f"{instrument.venue} has no symbol {instrument.symbol!r}{self._alike(instrument)}")
        holders = self._holders.setdefault(instrument, set())
        holders.add(owner)
        task = self._subscribing.get(instrument)
        if task is None:
            coroutine = self._venues[instrument.venue].subscribe(instrument.symbol)
            task = self._subscribing[instrument] = asyncio.create_task(coroutine, name=f"subscribe-{instrument}")
        try:
            await asyncio.shield(task)
        except VenueError:
            self._subscribing.pop(instrument, None)
            holders.discard(owner)
            raise
        return rules

    async def wait_priced(self, instrument: InstrumentId, timeout_s: float = PRICE_TIMEOUT_S) -> None:
        """Wait until a held instrument has a price, or the time is over: then whoever needs one says so."""
        if self._store.mark(instrument) is not None:
            return
        priced = asyncio.Event()

        def look(_: QuoteChanged | TradePrinted) -> None:
            if self._store.mark(instrument) is not None:
                priced.set()

        ends = [self._bus.subscribe(QuoteChanged, look), self._bus.subscribe(TradePrinted, look)]
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await priced.wait()
        finally:
            for end in ends:
                end()

    async def release(self, instrument: InstrumentId, owner: str) -> None:
        """Stop streaming for `owner`; the stream ends with its last holder."""
        holders = self._holders.get(instrument)
        if holders is None or owner not in holders:
            return
        holders.discard(owner)
        for key, owners in list(self._bar_holders.items()):
            if key[0] == instrument:
                owners.discard(owner)
                if not owners:
                    self._bars.pop(key).close()
                    del self._bar_holders[key]
                    self._shown.pop(key, None)
        if not holders:
            del self._holders[instrument]
            self._heard_ns.pop(instrument, None)
            self._subscribing.pop(instrument, None)
            self._store.quotes.pop(instrument, None)
            self._store.books.pop(instrument, None)
            await self._venues[instrument.venue].unsubscribe(instrument.symbol)

    async def hold_bars(self, instrument: InstrumentId, timeframe: str, owner: str) -> None:
        """Build bars of a held instrument for `owner`; they are published as BarChanged. Released with the instrument.

        Raises BadTimeframe, and what `hold` raises.
        """
        duration_ns(timeframe)
        await self.hold(instrument, owner)
        key = (instrument, timeframe)
        self._bar_holders.setdefault(key, set()).add(owner)
        if key not in self._bars:
            self._bars[key] = LiveBars(instrument, timeframe, self._history, self._bar_closed)
            self._bars[key].connected(self.time_ns(instrument.venue))

    def listen_bars(
        self, instrument: InstrumentId, timeframe: str, listener: Callable[[Bar], None]
    ) -> Callable[[], None]:
        """Call `listener` with each closed bar of a series; the result ends it."""

        def choose(fact: BarChanged) -> None:
            if fact.closed and fact.bar.timeframe == timeframe and fact.bar.instrument == instrument:
                listener(fact.bar)

        return self._bus.subscribe(BarChanged, choose)

    def _alike(self, instrument: InstrumentId) -> str:
        same = sorted(i.symbol for i in self._store.instruments if i.venue == instrument.venue)
        alike = [s for s in same if s.replace("/", "").lower() == instrument.symbol.replace("/", "").lower()] or same[
            :5
        ]
        return f"; it has, for example, {', '.join(alike)}" if alike else ""

    # ---- what came of it ------------------------------------------------------------------------------------------

    def receive(self, event: MarketEvent) -> None:
        """Take an event; the sink of every market data venue. Never blocks, never raises."""
        if event.instrument not in self._holders:
            return
        self.ticks += 1
        if isinstance(event, Trade):
            self._store.trades[event.instrument] = event
            self._heard_ns[event.instrument] = self._clock.monotonic_ns()
            for (instrument, _), bars in self._bars.items():
                if instrument == event.instrument:
                    bars.trade(event)
            self._bus.publish(TradePrinted(event))
        elif isinstance(event, Quote):
            self._store.quotes[event.instrument] = event
            self._bus.publish(QuoteChanged(event))
        elif isinstance(event, Book):
            self._store.books[event.instrument] = event
            self._bus.publish(BookChanged(event))
        else:
            self._stream_changed(event)

    def _stream_changed(self, event: StreamStatus) -> None:
        for (instrument, _), bars in self._bars.items():
            if instrument == event.instrument:
                if event.state is StreamState.CONNECTED:
                    bars.connected(event.time_ns)
                else:
                    bars.interrupted(event.time_ns)
        state = VenueState.CONNECTED if event.state is StreamState.CONNECTED else VenueState.INTERRUPTED
        if event.state is StreamState.ENDED:
            logger.warning("{} is no longer streamed: {}", event.instrument, event.reason)
            state = VenueState.CONNECTED
        self._bus.publish(event)
        self._show_venue(event.instrument.venue, state, event.reason)

    def _bar_closed(self, bar: Bar) -> None:
        self._store.bars[bar.instrument, bar.timeframe] = bar
        self._bus.publish(BarChanged(bar, True))

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now_ns = self._clock.monotonic_ns()
            for key, bars in list(self._bars.items()):
                trade = self._store.trades.get(key[0])
                if now_ns - self._heard_ns.setdefault(key[0], now_ns) > QUIET_NS:
                    bars.passed(self.time_ns(key[0].venue) - LATE_NS)
                elif trade is not None:
                    bars.passed(trade.time_ns)
                forming = bars.forming
                if forming is not None and forming is not self._shown.get(key):
                    self._shown[key] = forming
                    self._bus.publish(BarChanged(forming, False))

    # ---- venues --------------------------------------------------------------------------------------------------

    async def _connect(self, name: str) -> None:
        venue, tries = self._venues[name], 0
        self._show_venue(name, VenueState.CONNECTING, "")
        while True:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await venue.connect(self.receive)
                    instruments: Sequence[Instrument] = await venue.instruments()
            except (VenueError, TimeoutError) as error:
                reason = str(error) or f"no answer within {CONNECT_TIMEOUT_S:g} s"
                delay_s = RECONNECT_DELAYS_S[min(tries, len(RECONNECT_DELAYS_S) - 1)]
                logger.warning("{} is out of reach, next try in {:g} s: {}", name, delay_s, reason)
                self._show_venue(name, VenueState.DISCONNECTED, reason)
                await asyncio.sleep(delay_s)
                tries += 1
            else:
                self._store.instruments.update({instrument.id: instrument for instrument in instruments})
                self._show_venue(name, VenueState.CONNECTED, "")
                self._ready[name].set()
                return

    def _show_venue(self, name: str, state: VenueState, reason: str) -> None:
        venue = self._venues[name]
        streams = sum(1 for instrument in self._holders if instrument.venue == name)
        snapshot = VenueSnapshot(name, state, reason, streams, venue.breaker_state, self._clock.time_ns())
        self._store.venues[name] = snapshot
        self._bus.publish(VenueChanged(snapshot))

    def refresh_venues(self) -> None:
        """Publish venues whose streams or breaker changed since they were last shown."""
        for name, shown in list(self._store.venues.items()):
            streams = sum(1 for instrument in self._holders if instrument.venue == name)
            if (streams, self._venues[name].breaker_state) != (shown.streams, shown.breaker):
                self._show_venue(name, shown.state, shown.reason)

    def _spawn(self, coroutine: object, name: str) -> None:
        task: asyncio.Task[None] = asyncio.create_task(coroutine, name=name)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
