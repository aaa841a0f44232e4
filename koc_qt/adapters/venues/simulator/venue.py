"""The simulated venue: implements ports/venue.py's MarketDataVenue over the simulated market."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from loguru import logger

from koc_qt.adapters.venues.simulator.book import book_key
from koc_qt.adapters.venues.simulator.catalogue import LISTINGS
from koc_qt.adapters.venues.simulator.clock import SimulatedClock, week_start_ns
from koc_qt.adapters.venues.simulator.market import SymbolMarket
from koc_qt.adapters.venues.simulator.regimes import EPOCH_NS
from koc_qt.adapters.venues.simulator.stream import SymbolStream
from koc_qt.adapters.venues.simulator.tape import Columns
from koc_qt.domain.errors import ConfigError, VenueRejected, VenueUnavailable
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar, StreamState, StreamStatus
from koc_qt.domain.timeframes import DAY_NS, SECOND_NS, bar_open_ns, duration_ns
from koc_qt.ports.clock import Clock
from koc_qt.ports.venue import MarketSink

DEFAULT_SEED = 20_240_808
# Goes up whenever the same seed gives another market, so that cached history of the old one is not taken for it.
MODEL_VERSION = 1

_TIMEFRAMES = ("1s", "5s", "15s", "30s", "1m", "5m", "15m", "30m", "1h", "4h", "1d")
_PAGE_BARS = 10_000
_PAGE_DAYS = 31
_BATCH = 200  # events given to the sink before the loop gets its turn
_SHORTEST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.1
_PREPARE_S = 60.0  # wall seconds ahead of midnight at which the next day is computed
# Later than this only when the machine slept or cannot keep up: then the stream is cut and goes on from now.
_CUT_S = 10.0


class SimulatorVenue:
    """A market that anybody can trade at any hour, without key and network.

    Two venues of one seed share each symbol's path; every name but `sim` trades at a basis to it. `clock` is the wall's
    and market time is SimulatedClock's with the given `speed`, anchored at `anchor_ns` (there wall and market time are
    equal; by default the Monday 00:00 UTC before construction, so that an engine that is restarted within the week
    finds the same market going on at any speed; with speed 1 the anchor has no effect).
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        *,
        seed: int = DEFAULT_SEED,
        speed: float = 1.0,
        anchor_ns: int | None = None,
    ) -> None:
        if seed < 0:
            raise ConfigError(f"the simulated market's seed must be zero or above, not {seed}")
        anchor_ns = week_start_ns(clock.time_ns()) if anchor_ns is None else anchor_ns
        self._name = name
        self._clock = SimulatedClock(clock, anchor_ns, anchor_ns, speed)
        self._seed = seed
        self._markets = {listing.symbol: SymbolMarket(seed, name, listing) for listing in LISTINGS}
        self._instruments = {listing.symbol: listing.instrument(name) for listing in LISTINGS}
        self._streams: dict[str, SymbolStream] = {}
        self._sink: MarketSink | None = None
        self._pump: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The venue part of its instruments' ids."""
        return self._name

    @property
    def breaker_state(self) -> str:
        """Always closed: there is no connection to lose."""
        return "closed"

    @property
    def clock(self) -> SimulatedClock:
        """Market time, for whoever must agree with this venue."""
        return self._clock

    @property
    def timeframes(self) -> Sequence[str]:
        """The timeframes that fetch_bars takes, shortest first."""
        return _TIMEFRAMES

    def time_ns(self) -> int:
        """Market time, UTC nanoseconds."""
        return self._clock.time_ns()

    async def connect(self, sink: MarketSink) -> None:
        """Take the sink; nothing streams before `subscribe`."""
        self._sink = sink

    async def close(self) -> None:
        """End every stream. Safe to call twice."""
        self._streams.clear()
        await self._stop_pump()
        self._sink = None

    async def instruments(self) -> Sequence[Instrument]:
        """All instruments with their rules."""
        return tuple(self._instruments.values())

    async def subscribe(self, symbol: str) -> None:
        """Stream quotes (4 a second), books (2 a second, ten levels) and trades of `symbol` from now on.

        Raises VenueRejected for an unknown symbol and VenueUnavailable before `connect`.
        """
        market = self._market(symbol)
        self._connected_sink(symbol)
        await asyncio.to_thread(market.tape, _day_of(self.time_ns()))
        sink = self._connected_sink(symbol)  # asked again: it may have been closed meanwhile
        if symbol in self._streams:
            return
        key = book_key(self._seed, self._name, symbol)
        now_ns = self.time_ns()
        self._streams[symbol] = SymbolStream(
            self._instruments[symbol], market.tape, key, market.listing.mean_trade_lots, now_ns
        )
        sink(StreamStatus(InstrumentId(self._name, symbol), now_ns, StreamState.CONNECTED))
        if self._pump is None:
            self._pump = asyncio.create_task(self._run(), name=f"{self._name} market")

    async def unsubscribe(self, symbol: str) -> None:
        """Stop streaming `symbol`; unknown ones are ignored."""
        self._streams.pop(symbol, None)
        if not self._streams:
            await self._stop_pump()

    def emit_due(self, until_ns: int | None = None, *, limit: int | None = None) -> int:
        """Give the sink all events due up to market time `until_ns` (now, when None), at most `limit`; return how many.

        Events of all symbols come in the order of their times. The live task calls this; so may a test or a replay.
        """
        until_ns = self.time_ns() if until_ns is None else until_ns
        emitted = 0
        while self._sink is not None and self._streams and (limit is None or emitted < limit):
            stream = min(self._streams.values(), key=_next_ns)
            if stream.next_ns > until_ns:
                break
            event = stream.pop(until_ns)
            if event is not None:
                self._sink(event)
                emitted += 1
        return emitted

    async def fetch_bars(
        self, symbol: str, timeframe: str, since_ns: int, until_ns: int
    ) -> AsyncIterator[Sequence[Bar]]:
        """Give closed bars with since <= open time < until, oldest first, in pages of at most 10,000.

        An interval without trades has no bar. Days are computed in a thread, one at a time: cancel it at any.
        Raises VenueRejected for an unknown symbol or timeframe.
        """
        market = self._market(symbol)
        if timeframe not in _TIMEFRAMES:
            raise VenueRejected(f"{self._name} has no {timeframe!r} bars; it has {', '.join(_TIMEFRAMES)}")
        since_ns = max(since_ns, EPOCH_NS)
        until_ns = min(until_ns, bar_open_ns(self.time_ns(), timeframe))
        if until_ns <= since_ns:
            return
        page: list[Bar] = []
        for days, day in enumerate(range(_day_of(since_ns), _day_of(until_ns - 1) + 1), start=1):
            page += await asyncio.to_thread(self._day_bars, market, timeframe, day, since_ns, until_ns)
            while len(page) >= _PAGE_BARS:
                yield page[:_PAGE_BARS]
                page = page[_PAGE_BARS:]
            if days % _PAGE_DAYS == 0 and page:
                yield page
                page = []
        if page:
            yield page

    def _day_bars(self, market: SymbolMarket, timeframe: str, day: int, since_ns: int, until_ns: int) -> list[Bar]:
        step_ns = duration_ns(timeframe)
        instrument = InstrumentId(self._name, market.listing.symbol)
        columns = market.columns(day, step_ns // SECOND_NS)
        opens_ns = EPOCH_NS + day * DAY_NS + columns.bin.astype("int64") * step_ns
        first, last = opens_ns.searchsorted([since_ns, until_ns]).tolist()
        prices, volumes = _floats(columns, market.listing.price_digits, market.listing.lot_digits)
        rows = zip(
            opens_ns[first:last].tolist(), *(column[first:last] for column in prices), volumes[first:last], strict=True
        )
        return [Bar(instrument, timeframe, *row) for row in rows]

    def _market(self, symbol: str) -> SymbolMarket:
        market = self._markets.get(symbol)
        if market is None:
            raise VenueRejected(f"{self._name} does not list {symbol!r}; it lists {', '.join(self._markets)}")
        return market

    def _connected_sink(self, symbol: str) -> MarketSink:
        if self._sink is None:
            raise VenueUnavailable(f"{self._name} is not connected: connect before subscribing to {symbol}")
        return self._sink

    async def _run(self) -> None:
        try:
            while True:
                await self._prepare_tapes()
                self._cut_when_far_behind()
                more = self.emit_due(limit=_BATCH) == _BATCH
                await asyncio.sleep(0 if more else self._pause_s())
        except Exception as error:
            logger.exception("the simulated market {} has stopped", self._name)
            self._tell_all(StreamState.ENDED, f"the simulated market failed: {error}")
            self._streams.clear()
            self._pump = None

    async def _prepare_tapes(self) -> None:
        """Compute this day's and, towards midnight, the next day's tapes off the loop."""
        now_ns = self.time_ns()
        ahead_ns = now_ns + int(_PREPARE_S * self._clock.speed * SECOND_NS)
        for day in {_day_of(now_ns), min(_day_of(ahead_ns), _day_of(now_ns) + 1)}:
            for symbol in list(self._streams):
                if not self._markets[symbol].has_tape(day):
                    await asyncio.to_thread(self._markets[symbol].tape, day)

    def _cut_when_far_behind(self) -> None:
        if not self._streams:
            return
        now_ns = self.time_ns()
        behind_s = (now_ns - min(map(_next_ns, self._streams.values()))) / SECOND_NS / self._clock.speed
        if behind_s > _CUT_S:
            self._tell_all(StreamState.INTERRUPTED, f"the stream was {behind_s:.0f} s late and goes on from now")
            for stream in self._streams.values():
                stream.seek(now_ns)
            self._tell_all(StreamState.CONNECTED, "")

    def _tell_all(self, state: StreamState, reason: str) -> None:
        for symbol in self._streams:
            if self._sink is not None:
                self._sink(StreamStatus(InstrumentId(self._name, symbol), self.time_ns(), state, reason))

    def _pause_s(self) -> float:
        """Wall seconds to the next event, within bounds."""
        next_ns = min(map(_next_ns, self._streams.values()), default=self.time_ns() + SECOND_NS)
        due_s = (next_ns - self.time_ns()) / SECOND_NS / self._clock.speed
        return min(max(due_s, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S)

    async def _stop_pump(self) -> None:
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.cancel()
            await asyncio.wait([pump])


def _next_ns(stream: SymbolStream) -> int:
    return stream.next_ns


def _day_of(time_ns: int) -> int:
    return max(time_ns - EPOCH_NS, 0) // DAY_NS


def _floats(columns: Columns, price_digits: int, lot_digits: int) -> tuple[list[list[float]], list[float]]:
    # Both operands are exact, so the division gives the float nearest to the exact decimal, as float(Decimal) does.
    prices = [
        (column / 10.0**price_digits).tolist() for column in (columns.open, columns.high, columns.low, columns.close)
    ]
    return prices, (columns.volume / 10.0**lot_digits).tolist()
