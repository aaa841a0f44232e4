"""Market data of any venue that ccxt.pro speaks to; a venue's module says only what is particular to it.

Every symbol has three streams (trades, quotes, book), each a task that awaits ccxt, delivers facts and, when its
connection is lost or silent, waits a random while, makes sure that the venue answers, and goes on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, ClassVar

import msgspec

from koc_qt.adapters import ccxt_facts as facts
from koc_qt.adapters.ccxt_client import WATCHER, CcxtClient, LoopbackEndpoint, Timeouts, VenueClock, Watcher
from koc_qt.adapters.ccxt_facts import MS_NS, MalformedError
from koc_qt.adapters.data_source import DataSource, cancelled_by_its_owner
from koc_qt.domain.errors import BadBars, VenueError, VenueRejected, VenueUnavailable
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar, Book, Quote, StreamState, StreamStatus, Trade
from koc_qt.domain.timeframes import duration_ns
from koc_qt.ports.clock import Clock
from koc_qt.resilience import Backoff, Breaker

BOOK_LEVELS = 20
_SNAPSHOT_LEVELS = 1_000  # what ccxt asks for
_REMEMBERED_TRADES = 5_000  # ids a symbol; ccxt itself holds the newest 1,000
_FRESH_NS = 1_000_000_000  # a venue that answered a moment ago is not asked again by the next stream
_STEADY_NS = 10_000_000_000  # a stream that lived this long has earned a quick reconnect
_CLOCK_ERROR_NS = 10_000_000_000  # times that we stamp ourselves are right within this
_FARTHEST_FUTURE_NS = 86_400_000_000_000  # no event is from later than tomorrow

Watch = Callable[[Any, str], Awaitable[Any]]


class _Stream(Watcher):
    """One of a symbol's streams; `up` while it delivers."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.up = False
        self._last_ns = 0

    def in_order(self, event: Quote | Book) -> Quote | Book:
        """Give the event, not before its predecessor: our estimate of the venue's clock stamps some of them."""
        if event.time_ns < self._last_ns <= event.time_ns + _CLOCK_ERROR_NS:
            return msgspec.structs.replace(event, time_ns=self._last_ns)
        self._last_ns = event.time_ns
        return event


class _Subscription:
    """A symbol that is being streamed."""

    def __init__(self, instrument: InstrumentId, kinds: Sequence[str]) -> None:
        self.instrument = instrument
        self.streams = [_Stream(kind) for kind in kinds]
        self.tasks: list[asyncio.Task[None]] = []
        self.state: StreamState | None = None
        self._seen: set[str] = set()
        self._in_order: deque[str] = deque()

    def is_new(self, trade_id: str) -> bool:
        """Tell whether this trade comes for the first time, and remember it."""
        if trade_id in self._seen:
            return False
        if len(self._in_order) >= _REMEMBERED_TRADES:
            self._seen.discard(self._in_order.popleft())
        self._seen.add(trade_id)
        self._in_order.append(trade_id)
        return True


def _inner_half(book: Any) -> tuple[float, float]:
    """Give the prices between which a book just fetched is complete, with half of its levels to spare."""
    bids, asks = book["bids"], book["asks"]
    whole = min(len(bids), len(asks)) < _SNAPSHOT_LEVELS // 2
    return (0.0, float("inf")) if whole else (bids[len(bids) // 2][0], asks[len(asks) // 2][0])


class CcxtMarketData(DataSource):
    """Implements ports.venue.MarketDataVenue for a ccxt.pro exchange: public data, no keys.

    `refused` counts messages that were no fact, by kind (trades, quotes, book, market, unreadable); they go no further.
    """

    NAME: ClassVar[str]
    EXCHANGE_ID: ClassVar[str]
    TIMEFRAMES: ClassVar[tuple[str, ...]]
    OPTIONS: ClassVar[Mapping[str, Any]] = {}
    SETTINGS: ClassVar[Mapping[str, Any]] = {}  # ccxt's own, beside its options
    MARKET_PARAMETERS: ClassVar[Mapping[str, Any]] = {}
    SETTLED_NS: ClassVar[int] = 250_000_000
    BARS_PER_PAGE: ClassVar[int] = 1000
    UNREAD_TRADES: ClassVar[int] = 20_000  # a symbol; should more come while the loop is busy, the stream says so

    def __init__(
        self,
        clock: Clock,
        endpoint: LoopbackEndpoint | None = None,
        breaker: Breaker | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        super().__init__(clock, endpoint, breaker, timeouts)
        self._client = CcxtClient(self.NAME, clock, self._breaker, self._timeouts)
        self._venue_clock = VenueClock(clock)
        self._answered_ns = -(10**18)  # monotonic; the last probe's
        self._probe: asyncio.Task[None] | None = None
        self._instruments: dict[str, Instrument] = {}
        self._subscriptions: dict[str, _Subscription] = {}
        self._known_range: dict[str, tuple[float, float]] = {}
        self._watches: dict[str, Watch] = {
            "trades": self._watch_trades,
            "quotes": self._watch_quote,
            "book": self._watch_book,
        }

    @property
    def name(self) -> str:
        """The venue part of its instruments' ids."""
        return self.NAME

    @property
    def timeframes(self) -> Sequence[str]:
        """The timeframes that fetch_bars takes, shortest first."""
        return self.TIMEFRAMES

    def time_ns(self) -> int:
        """UTC nanoseconds at the venue: its own answer on connecting, moved on by the newest event."""
        return self._venue_clock.time_ns()

    async def _open(self) -> None:
        options = {"tradesLimit": self.UNREAD_TRADES, **self.OPTIONS}
        await self._client.open(
            self.EXCHANGE_ID, options, self._endpoint, self._heard, self._unreadable, self._mended, self.SETTINGS
        )
        markets = await self._client.read(
            "the list of instruments", lambda exchange: exchange.load_markets(True, dict(self.MARKET_PARAMETERS))
        )
        self._instruments = self._read_markets(markets)
        if not self._instruments:
            raise VenueUnavailable(f"{self.NAME} lists no instrument that can be traded; its answer is of no use")
        await self._set_clock(attempts=4)

    def _read_markets(self, markets: Mapping[str, Any]) -> dict[str, Instrument]:
        found: dict[str, Instrument] = {}
        for market in markets.values():
            if market.get("spot") and market.get("active"):
                try:
                    found[market["symbol"]] = facts.instrument(self.NAME, market)
                except MalformedError as error:
                    self.refuse("market", error)
        return found

    async def _set_clock(self, attempts: int) -> None:
        """Ask for the time twice: the first answer may have waited for a handshake, or in ccxt's rate limiter."""
        samples: list[tuple[int, int, int]] = []
        for _ in range(2):
            sent_ns = self._clock.monotonic_ns()
            time_ms = await self._client.read("its time", lambda exchange: exchange.fetch_time(), attempts=attempts)
            if not isinstance(time_ms, int):
                raise VenueUnavailable(f"{self.NAME} sent {time_ms!r} as its time")
            samples.append((time_ms * MS_NS, sent_ns, self._clock.monotonic_ns()))
        self._venue_clock.answered(*min(samples, key=lambda sample: sample[2] - sample[1]))

    async def close(self) -> None:
        """End every stream and connection. Safe to call twice, and while connecting."""
        probe, self._probe = self._probe, None
        for symbol in list(self._subscriptions):
            await self._stop(symbol, "closed")
        await self._stop_opening()
        if probe is not None:
            probe.cancel()
            await asyncio.gather(probe, return_exceptions=True)
        await self._client.close()
        self._instruments = {}

    async def instruments(self) -> Sequence[Instrument]:
        """All spot instruments that trade, with their rules. Raises VenueUnavailable while not connected."""
        self._require_connected()
        return list(self._instruments.values())

    async def subscribe(self, symbol: str) -> None:
        """Stream trades, quotes and the best 20 levels of the book of `symbol`, such as ``BTC/USDT``, into the sink.

        Raises VenueRejected for a symbol that does not trade here, VenueUnavailable while not connected.
        """
        self._require_connected()
        if symbol in self._subscriptions:
            return
        instrument = self._known(symbol)
        subscription = _Subscription(instrument.id, list(self._watches))
        self._subscriptions[symbol] = subscription
        subscription.tasks = [
            asyncio.create_task(self._run(subscription, stream), name=f"{instrument.id} {stream.kind}")
            for stream in subscription.streams
        ]

    async def unsubscribe(self, symbol: str) -> None:
        """Stop streaming `symbol`; unknown ones are ignored."""
        subscription = await self._stop(symbol, "unsubscribed")
        if subscription is None:
            return
        urls = {stream.url for stream in subscription.streams}
        try:
            async with asyncio.timeout(self._timeouts.unsubscribe_s):
                await self._unwatch(self._client.exchange, symbol)
        except Exception as error:  # the venue did not confirm, or ccxt cannot: then the connections go
            for url in urls:
                self._client.drop(url, f"unsubscribing failed: {error}")
        else:
            for url in urls:
                self._client.drop_if_idle(url)

    async def fetch_bars(
        self, symbol: str, timeframe: str, since_ns: int, until_ns: int
    ) -> AsyncIterator[Sequence[Bar]]:
        """Give the venue's closed bars with since <= open time < until, oldest first, a page at a time.

        Raises VenueRejected for a symbol or timeframe that it does not have, BadBars for a page that is none.
        """
        self._require_connected()
        instrument = self._known(symbol).id
        if timeframe not in self.TIMEFRAMES:
            raise VenueRejected(f"{self.NAME} has no bars of {timeframe!r}; it has {', '.join(self.TIMEFRAMES)}")
        end_ns = await self._settled(timeframe, until_ns)
        next_ns = since_ns
        while next_ns < end_ns:
            bars = await self._page(instrument, timeframe, next_ns, end_ns)
            if bars:
                yield bars
                next_ns = bars[-1].open_time_ns + duration_ns(timeframe)
            else:
                next_ns = await self._after_gap(instrument, timeframe, next_ns, end_ns)

    async def _page(self, instrument: InstrumentId, timeframe: str, since_ns: int, end_ns: int) -> list[Bar]:
        since_ms, last_ms = -(-since_ns // MS_NS), (end_ns - 1) // MS_NS
        rows = await self._client.read(
            f"{timeframe} bars of {instrument}",
            lambda exchange: self._candles(exchange, instrument.symbol, timeframe, since_ms, last_ms),
        )
        bars: list[Bar] = []
        for row in rows:
            try:
                bar = facts.bar(instrument, timeframe, row)
            except MalformedError as error:
                raise BadBars(f"{instrument} {timeframe}: {error}") from error
            if bars and bar.open_time_ns <= bars[-1].open_time_ns:
                raise BadBars(f"{instrument} {timeframe}: the bar of {row[0]} ms comes after a later one")
            if since_ns <= bar.open_time_ns < end_ns:
                bars.append(bar)
        return bars

    # What a venue may do otherwise: what ccxt's class lacks, and how it is asked.

    def _mended(self, original: Any) -> Any:
        """Give ccxt's class of the venue, or a subclass that mends it."""
        return original

    async def _candles(self, exchange: Any, symbol: str, timeframe: str, since_ms: int, last_ms: int) -> Any:
        """Ask for a page of candles that open at `since_ms` or later, and where it can be told until `last_ms`."""
        return await exchange.fetch_ohlcv(symbol, timeframe, since_ms, self.BARS_PER_PAGE, {"until": last_ms})

    async def _after_gap(self, instrument: InstrumentId, timeframe: str, since_ns: int, end_ns: int) -> int:
        """Give where to go on after an empty page: by default its first candle would have come, whenever it was."""
        return end_ns

    async def _watch_trades(self, exchange: Any, symbol: str) -> Any:
        trades = list(await exchange.watch_trades(symbol))
        exchange.trades[symbol].clear()  # read; what is left in there is what nobody has seen
        return trades

    async def _watch_quote(self, exchange: Any, symbol: str) -> Any:
        await exchange.watch_bids_asks([symbol])
        return exchange.bidsasks[symbol]  # newer than what was awaited, when several came at once

    async def _watch_book(self, exchange: Any, symbol: str) -> Any:
        book = await exchange.watch_order_book(symbol)
        if book["bids"] and book["asks"]:
            # The snapshot has so many levels and no more; beyond them ccxt knows only what has changed since.
            low, high = self._known_range.setdefault(symbol, _inner_half(book))
            if book["bids"][0][0] < low or book["asks"][0][0] > high:
                del self._known_range[symbol]
                await exchange.un_watch_order_book(symbol)
                book = await exchange.watch_order_book(symbol)
        return book

    async def _unwatch(self, exchange: Any, symbol: str) -> None:
        await exchange.un_watch_trades(symbol)
        await exchange.un_watch_bids_asks([symbol])
        await exchange.un_watch_order_book(symbol)

    # Streams

    async def _run(self, subscription: _Subscription, stream: _Stream) -> None:
        WATCHER.set(stream)
        backoff = Backoff(self._timeouts.first_backoff_s, self._timeouts.max_backoff_s)
        while True:
            began_ns = self._clock.monotonic_ns()
            try:
                reason = await self._pump(subscription, stream)
            except asyncio.CancelledError:
                if cancelled_by_its_owner():
                    raise
                reason = "its connection was closed"  # ccxt cancels what is awaited when it gives a connection up
            except Exception as error:
                if self._client.is_unknown_symbol(error):
                    self._subscriptions.pop(subscription.instrument.symbol, None)
                    self._finish(subscription, f"{self.NAME} no longer has it: {error}", keep=asyncio.current_task())
                    return
                reason = str(self._client.in_our_words(stream.kind, error))
            stream.up = False
            self._say(subscription, StreamState.INTERRUPTED, reason)
            if self._clock.monotonic_ns() - began_ns > _STEADY_NS:
                backoff.reset()
            await asyncio.sleep(backoff.next_s())
            await self._until_it_answers()

    async def _pump(self, subscription: _Subscription, stream: _Stream) -> str:
        """Deliver until the stream says nothing for too long; gives the reason why it ended."""
        exchange, symbol = self._client.exchange, subscription.instrument.symbol
        watch = self._watches[stream.kind]
        limit_s = self._timeouts.trade_silence_s if stream.kind == "trades" else self._timeouts.silence_s
        good_ns = self._clock.monotonic_ns()
        while True:
            try:
                async with asyncio.timeout(limit_s) as silence:
                    raw = await watch(exchange, symbol)
            except TimeoutError:
                if not silence.expired():
                    raise
                self._client.drop(stream.url, f"silent for {limit_s:g} s")
                return f"{stream.kind}: silent for {limit_s:g} s"
            self._is_up(subscription, stream)
            if self._deliver(subscription, stream, raw) or stream.kind != "book":
                good_ns = self._clock.monotonic_ns()
            elif self._clock.monotonic_ns() - good_ns > limit_s * 1e9:  # only a new snapshot mends a book
                self._client.drop(stream.url, "its book is of no use")
                return f"{self.last_refusal}; no better one for {limit_s:g} s"
            if stream.kind == "trades" and len(raw) >= self.UNREAD_TRADES:
                return f"trades: {len(raw):,} came at once; older ones are lost"

    def _deliver(self, subscription: _Subscription, stream: _Stream, raw: Any) -> bool:
        """Hand on what can be read; gives whether anything could."""
        is_good = False
        for item in raw if stream.kind == "trades" else [raw]:
            try:
                event = self._fact(subscription, stream, item)
            except (MalformedError, KeyError, TypeError, IndexError) as error:
                self.refuse(stream.kind, error)
                continue
            is_good = True
            if event is not None and self._sink is not None:
                self._sink(event)
        return is_good

    def _fact(self, subscription: _Subscription, stream: _Stream, raw: Any) -> Trade | Quote | Book | None:
        """Read one message; None for a trade that was seen before. Raises MalformedError."""
        instrument, now_ns = subscription.instrument, self.time_ns()
        event: Trade | Quote | Book
        if stream.kind == "trades":
            event = facts.trade(instrument, raw)
        elif stream.kind == "quotes":
            event = facts.quote(instrument, raw, now_ns)
        else:
            event = facts.book(instrument, raw, BOOK_LEVELS, now_ns)
        if event.time_ns > now_ns + _FARTHEST_FUTURE_NS:
            raise MalformedError(f"from the future: {event.time_ns} ns")
        self._venue_clock.saw(event.time_ns)
        if isinstance(event, Trade):
            return event if subscription.is_new(event.trade_id) else None
        return stream.in_order(event)

    def _heard(self, url: str) -> None:
        """A connection spoke: what it carries is subscribed, though a thin market may have no trade to show for it."""
        for subscription in self._subscriptions.values():
            if subscription.state is not StreamState.CONNECTED:
                for stream in subscription.streams:
                    if stream.url == url and stream.kind != "book" and not stream.up:
                        self._is_up(subscription, stream)

    def _is_up(self, subscription: _Subscription, stream: _Stream) -> None:
        stream.up = True
        if all(each.up for each in subscription.streams):
            self._say(subscription, StreamState.CONNECTED)

    def _say(self, subscription: _Subscription, state: StreamState, reason: str = "") -> None:
        if subscription.state in (state, StreamState.ENDED):
            return
        subscription.state = state
        if self._sink is not None:
            self._sink(StreamStatus(subscription.instrument, self.time_ns(), state, reason))

    async def _stop(self, symbol: str, reason: str) -> _Subscription | None:
        subscription = self._subscriptions.pop(symbol, None)
        if subscription is not None:
            self._known_range.pop(symbol, None)
            self._finish(subscription, reason)
            await asyncio.gather(*subscription.tasks, return_exceptions=True)
        return subscription

    def _finish(self, subscription: _Subscription, reason: str, keep: asyncio.Task[Any] | None = None) -> None:
        for task in subscription.tasks:
            if task is not keep:
                task.cancel()
        self._say(subscription, StreamState.ENDED, reason)

    async def _until_it_answers(self) -> None:
        """Wait until the venue answers; one asks for all, so that an outage counts once for the breaker."""
        if self._clock.monotonic_ns() - self._answered_ns < _FRESH_NS:
            return
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._ask_until_it_answers(), name=f"probe {self.NAME}")
        await asyncio.shield(self._probe)

    async def _ask_until_it_answers(self) -> None:
        backoff = Backoff(self._timeouts.first_backoff_s, self._timeouts.max_backoff_s)
        while True:
            try:
                await self._set_clock(attempts=1)
            except VenueError as error:
                await asyncio.sleep(max(backoff.next_s(), getattr(error, "retry_after_s", None) or 0.0))
            else:
                self._answered_ns = self._clock.monotonic_ns()
                return

    # Small change

    def _require_connected(self) -> None:
        if not self._instruments:
            raise VenueUnavailable(f"{self.NAME} is not connected; connect first")

    def _known(self, symbol: str) -> Instrument:
        instrument = self._instruments.get(symbol)
        if instrument is None:
            near = get_close_matches(symbol.upper(), self._instruments, 1)
            hint = f"did you mean {near[0]}?" if near else "write it as BASE/QUOTE, such as BTC/USDT"
            raise VenueRejected(f"{self.NAME} does not trade {symbol!r}; {hint}")
        return instrument

    def _unreadable(self, error: Exception) -> None:
        self.refuse("unreadable", error)
