"""What venues of data alone share: one stream for many symbols, bars in pages, instruments found when asked for.

A venue's module says how its bars are asked for, how its stream is opened, and what its errors mean.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, ClassVar

from koc_qt.adapters.blocking_reader import Reader, words
from koc_qt.adapters.ccxt_client import LoopbackEndpoint, Timeouts, VenueClock
from koc_qt.adapters.data_source import DataSource
from koc_qt.domain.errors import BadBars, VenueError, VenueRejected, VenueUnavailable
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar, Quote, Side, StreamState, StreamStatus, Trade
from koc_qt.domain.timeframes import bar_open_ns
from koc_qt.domain.venues import VenueAbilities
from koc_qt.ports.clock import Clock
from koc_qt.resilience import Backoff, Breaker

Row = tuple[int, Any, Any, Any, Any, Any]  # opening time in UTC ns; open, high, low, close, volume or None

S_NS = 1_000_000_000
DAY_NS = 86_400 * S_NS
_STEADY_NS = 10 * S_NS  # a stream that lived this long has earned a quick reconnect
_FARTHEST_FUTURE_NS = DAY_NS  # no event is from later than tomorrow
_CLOCK_ERROR_NS = 2 * S_NS  # what a time in whole seconds cannot tell from a right clock
_REMEMBERED_TRADES = 5_000  # ids a symbol
_MINUTE_NS = 60 * S_NS
_LATE_STEP_MIN = 5  # a delay that moves by less is the same one


class MalformedError(ValueError):
    """A message of the venue that is no fact; says what is wrong with it."""


Session = Callable[["SharedStream"], Awaitable[str]]


class SharedStream:
    """One connection that carries several symbols, there for as long as somebody follows one of them.

    `session` opens it, calls `up` for symbols that deliver, heeds `changed`, and gives the reason why it ended; without
    one it is simply called again. `was_interrupted` tells that it failed before.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        timeouts: Timeouts,
        session: Session,
        say: Callable[[str, StreamState, str], None],
    ) -> None:
        self.name = name
        self.symbols: dict[str, None] = {}
        self.changed = asyncio.Event()
        self.was_interrupted = False
        self._clock = clock
        self._timeouts = timeouts
        self._session = session
        self._say = say
        self._task: asyncio.Task[None] | None = None
        self._before: asyncio.Task[None] | None = None  # may still be closing its connection

    def add(self, symbol: str) -> None:
        """Follow a symbol."""
        self.symbols[symbol] = None
        self.changed.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=self.name)

    async def remove(self, symbol: str) -> None:
        """Follow it no more; the connection ends with the last one."""
        self.symbols.pop(symbol, None)
        self.changed.set()
        if not self.symbols:
            task, self._task = self._task, None
            if task is not None:
                self._before = task
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def up(self, symbols: Iterable[str]) -> None:
        """Tell that these deliver."""
        for symbol in symbols:
            if symbol in self.symbols:
                self._say(symbol, StreamState.CONNECTED, "")

    async def _run(self) -> None:
        if self._before is not None:
            await asyncio.wait([self._before])
        backoff = Backoff(self._timeouts.first_backoff_s, self._timeouts.max_backoff_s)
        while True:
            began_ns, pause_s = self._clock.monotonic_ns(), 0.0
            try:
                reason = await self._session(self)
            except VenueError as error:
                reason, pause_s = str(error), getattr(error, "retry_after_s", None) or 0.0
            except Exception as error:
                reason = f"{type(error).__name__}: {words(error)}"
            if not reason:
                continue
            self.was_interrupted = True
            for symbol in list(self.symbols):
                self._say(symbol, StreamState.INTERRUPTED, reason)
            if self._clock.monotonic_ns() - began_ns > _STEADY_NS:
                backoff.reset()
            await asyncio.sleep(max(backoff.next_s(), pause_s))


class Tape:
    """What was last seen of a symbol, to tell a trade's side, order quotes, and know a trade that comes again."""

    def __init__(self) -> None:
        self.quote: Quote | None = None
        self._price: Any = None
        self._side = Side.BUY
        self._seen: set[str] = set()
        self._in_order: deque[str] = deque()

    def side(self, price: Any) -> Side:
        """Guess the aggressor, whom the venue does not name: by the quote, or else by the price before (tick rule)."""
        if self.quote is not None and price >= self.quote.ask:
            self._side = Side.BUY
        elif self.quote is not None and price <= self.quote.bid:
            self._side = Side.SELL
        elif self._price is not None and price != self._price:
            self._side = Side.BUY if price > self._price else Side.SELL
        self._price = price
        return self._side

    def is_new(self, trade_id: str) -> bool:
        """Tell whether this trade comes for the first time, and remember it."""
        if trade_id in self._seen:
            return False
        if len(self._in_order) >= _REMEMBERED_TRADES:
            self._seen.discard(self._in_order.popleft())
        self._seen.add(trade_id)
        self._in_order.append(trade_id)
        return True

    def takes(self, quote: Quote) -> bool:
        """Keep a quote, unless it is older than the one before."""
        if self.quote is not None and quote.time_ns < self.quote.time_ns:
            return False
        self.quote = quote
        return True


class DataOnlyVenue(DataSource):
    """Implements ports.venue.MarketDataVenue but for what is the venue's own: see what raises NotImplementedError.

    `refused` counts messages and bars that were no fact, by kind; they go no further.
    """

    ABILITIES: ClassVar[VenueAbilities]
    SETTLED_NS: ClassVar[int] = 2 * S_NS  # a bar is asked for this long after its end: late trades, work of the venue
    THREADS: ClassVar[int] = 4

    def __init__(
        self, clock: Clock, endpoint: LoopbackEndpoint | None, breaker: Breaker | None, timeouts: Timeouts | None
    ) -> None:
        super().__init__(clock, endpoint, breaker, timeouts)
        self._venue_clock = VenueClock(clock)
        self._lag_ns = 0  # how much older than the present the newest data are
        self._reader: Reader | None = None
        self._instruments: dict[str, Instrument] = {}
        self._streams: dict[str, SharedStream] = {}
        self._states: dict[str, StreamState | None] = {}
        self._tapes: dict[str, Tape] = {}
        self._late_min: dict[str, int] = {}  # symbols whose news come late, and by how much

    @property
    def name(self) -> str:
        """The venue part of its instruments' ids."""
        return self.ABILITIES.venue

    @property
    def timeframes(self) -> Sequence[str]:
        """The timeframes that fetch_bars takes, shortest first."""
        return self.ABILITIES.timeframes

    def time_ns(self) -> int:
        """UTC nanoseconds at the venue; where its data come late, the time that they have reached."""
        return self._venue_clock.time_ns() - self._lag_ns

    # ---- what a venue does for itself -----------------------------------------------------------------------------

    async def open(self, reader: Reader) -> Mapping[str, Instrument]:
        """Import and make the client, set the clock, and give the instruments. Raises VenueError."""
        raise NotImplementedError

    def shut(self) -> None:
        """Let go of the client's connections, in a thread of the reader's; safe where nothing is open."""
        raise NotImplementedError

    def explain(self, what: str, error: Exception) -> VenueError:
        """Say what the client raised in our words."""
        raise NotImplementedError

    async def look_up(self, symbol: str) -> Instrument | None:
        """Ask for a symbol that is in no list; None where there is none. Raises VenueError."""
        raise NotImplementedError

    async def page(
        self, instrument: Instrument, timeframe: str, since_ns: int, end_ns: int
    ) -> tuple[Sequence[Row], int | None]:
        """Ask for rows with since <= open time < end, and where the next page begins, if there is one."""
        raise NotImplementedError

    def earliest_ns(self, timeframe: str) -> int:
        """Give how far back its bars reach, UTC nanoseconds."""
        raise NotImplementedError

    def stream_of(self, instrument: Instrument) -> str:
        """Name the connection that carries an instrument."""
        raise NotImplementedError

    async def session(self, stream: SharedStream) -> str:
        """See SharedStream."""
        raise NotImplementedError

    # ---- connecting -----------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        self._reader = Reader(self.name, self._clock, self._breaker, self._timeouts, self.explain, threads=self.THREADS)
        self._instruments = dict(await self.open(self._reader))

    async def close(self) -> None:
        """End every stream and connection. Safe to call twice, and while connecting."""
        for symbol in list(self._states):
            await self._stop(symbol, "closed")
        await self._stop_opening()
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.close(self.shut)
        self._instruments = {}

    def require_connected(self) -> Reader:
        """Give what asks the client. Raises VenueUnavailable while not connected."""
        if self._reader is None or not self._instruments:
            raise VenueUnavailable(f"{self.name} is not connected; connect first")
        return self._reader

    def heard_time(self, time_ns: int, sent_ns: int) -> None:
        """Set the clock by a time in whole seconds that came after `sent_ns` (monotonic), where it is clearly off."""
        middle_ns = time_ns + S_NS // 2
        if abs(middle_ns - self._venue_clock.time_ns()) > _CLOCK_ERROR_NS:
            self._venue_clock.answered(middle_ns, sent_ns, self._clock.monotonic_ns())

    # ---- instruments and bars -------------------------------------------------------------------------------------

    async def instruments(self) -> Sequence[Instrument]:
        """All that are listed or were found so far. Raises VenueUnavailable while not connected."""
        self.require_connected()
        return list(self._instruments.values())

    async def find(self, symbol: str) -> Instrument:
        """Give a symbol's rules, asking the venue where it is in no list. Raises VenueRejected for an unknown one."""
        self.require_connected()
        if symbol in self._instruments:
            return self._instruments[symbol]
        found = await self.look_up(symbol)
        if found is None:
            near = get_close_matches(symbol.upper(), self._instruments, 1)
            hint = f"did you mean {near[0]}?" if near else "check how the venue writes it"
            raise VenueRejected(f"{self.name} has no symbol {symbol!r}; {hint}")
        self._instruments[symbol] = found
        return found

    async def fetch_bars(
        self, symbol: str, timeframe: str, since_ns: int, until_ns: int
    ) -> AsyncIterator[Sequence[Bar]]:
        """Give the venue's closed bars with since <= open time < until, oldest first, a page at a time.

        What is older than the venue (or the plan) reaches is left out. Raises VenueRejected for a symbol or timeframe
        that it does not have, BadBars for a page that is none.
        """
        if timeframe not in self.timeframes:
            raise VenueRejected(f"{self.name} has no bars of {timeframe!r}; it has {', '.join(self.timeframes)}")
        instrument = await self.find(symbol)
        end_ns = await self._settled(timeframe, until_ns)
        next_ns: int | None = max(since_ns, self.earliest_ns(timeframe))
        while next_ns is not None and next_ns < end_ns:
            rows, following_ns = await self.page(instrument, timeframe, next_ns, end_ns)
            end_ns = min(end_ns, bar_open_ns(self.time_ns(), timeframe))  # it may have told that it is late
            bars = self._bars(instrument.id, timeframe, rows, next_ns, end_ns)
            if bars:
                yield bars
            if following_ns is not None and following_ns <= next_ns:
                raise BadBars(f"{instrument.id} {timeframe}: the page after {next_ns} ns begins no later than it")
            next_ns = following_ns

    def _bars(
        self, instrument: InstrumentId, timeframe: str, rows: Sequence[Row], since_ns: int, end_ns: int
    ) -> list[Bar]:
        """Keep the rows that are whole bars of the span: no nulls, and nothing that begins off the grid."""
        bars: list[Bar] = []
        for open_ns, *values in rows:
            if not since_ns <= open_ns < end_ns:
                continue
            if any(value is None for value in values):
                continue  # nothing was traded
            numbers = [float(value) for value in values]
            if bar_open_ns(open_ns, timeframe) != open_ns or not all(map(math.isfinite, numbers)):
                self.refuse("bar", f"{instrument} {timeframe} at {open_ns} ns: {numbers}")
                continue
            if bars and open_ns <= bars[-1].open_time_ns:
                raise BadBars(f"{instrument} {timeframe}: the bar of {open_ns} ns comes after a later one")
            bars.append(Bar(instrument, timeframe, open_ns, *numbers))
        return bars

    # ---- streams --------------------------------------------------------------------------------------------------

    async def subscribe(self, symbol: str) -> None:
        """Stream what there is of `symbol` into the sink. Raises VenueRejected for an unknown one, VenueUnavailable."""
        instrument = await self.find(symbol)
        if symbol in self._states:
            return
        self._states[symbol] = None
        self._tapes[symbol] = Tape()
        name = self.stream_of(instrument)
        if name not in self._streams:
            title = f"{self.name} {name}"
            self._streams[name] = SharedStream(title, self._clock, self._timeouts, self.session, self._say)
        self._streams[name].add(symbol)

    async def unsubscribe(self, symbol: str) -> None:
        """Stop streaming `symbol`; unknown ones are ignored."""
        await self._stop(symbol, "unsubscribed")

    async def _stop(self, symbol: str, reason: str) -> None:
        if symbol not in self._states:
            return
        self._say(symbol, StreamState.ENDED, reason)
        del self._states[symbol]
        self._tapes.pop(symbol, None)
        self._late_min.pop(symbol, None)
        for stream in self._streams.values():
            if symbol in stream.symbols:
                await stream.remove(symbol)

    def _say(self, symbol: str, state: StreamState, reason: str) -> None:
        if symbol not in self._states or self._states[symbol] is state:
            return
        self._states[symbol] = state
        if self._sink is not None:
            instrument = InstrumentId(self.name, symbol)
            reason = self._lateness(symbol) if state is StreamState.CONNECTED else reason
            self._sink(StreamStatus(instrument, self.time_ns(), state, reason))

    def is_late(self, symbol: str, minutes: int) -> None:
        """Say by how many minutes what is new of a symbol comes late, 0 for in time, where that has changed."""
        known = self._late_min.get(symbol, 0)
        if bool(minutes) is bool(known) and abs(minutes - known) < _LATE_STEP_MIN:
            return
        self._late_min[symbol] = minutes
        if self._states.get(symbol) is StreamState.CONNECTED:
            self._states[symbol] = None
            self._say(symbol, StreamState.CONNECTED, "")

    def _lateness(self, symbol: str) -> str:
        minutes = self._late_min.get(symbol) or self._lag_ns // _MINUTE_NS
        return f"delayed by {minutes} minutes" if minutes else ""

    def deliver(self, event: Trade | Quote) -> None:
        """Hand a fact on, unless it came before, is out of order, or its symbol is not followed."""
        tape = self._tapes.get(event.instrument.symbol)
        if tape is None or self._sink is None:
            return
        if event.time_ns > self._venue_clock.time_ns() + _FARTHEST_FUTURE_NS:
            self.refuse(type(event).__name__, f"from the future: {event.time_ns} ns")
            return
        self._venue_clock.saw(event.time_ns)
        if tape.is_new(event.trade_id) if isinstance(event, Trade) else tape.takes(event):
            self._sink(event)

    def tape(self, symbol: str) -> Tape | None:
        """Give what was last seen of a symbol that is followed."""
        return self._tapes.get(symbol)

    def refuse(self, kind: str, what: object) -> None:
        """Count what is no fact."""
        super().refuse(kind, words(what))
