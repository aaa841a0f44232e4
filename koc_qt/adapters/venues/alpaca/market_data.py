"""Market data of Alpaca: trades and quotes of US stocks (from IEX) and of crypto, and bars.

https://docs.alpaca.markets/docs/streaming-market-data, /docs/real-time-stock-pricing-data, /docs/real-time-crypto-
pricing-data; bars: https://docs.alpaca.markets/reference/stockbars and /reference/cryptobars-1. Each of the two streams
is one connection, for a plan allows no second one; they are made with the first symbol and end with the last.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from decimal import Decimal
from difflib import get_close_matches
from functools import partial
from typing import Any, ClassVar

from koc_qt.adapters.ccxt_client import LoopbackEndpoint, Timeouts
from koc_qt.adapters.ccxt_facts import MalformedError
from koc_qt.adapters.data_source import DataSource
from koc_qt.adapters.rate_budget import Priority
from koc_qt.adapters.venues.alpaca import facts
from koc_qt.adapters.venues.alpaca.abilities import ABILITIES, TIMEFRAMES, is_crypto
from koc_qt.adapters.venues.alpaca.bars import collect_days, page_request
from koc_qt.adapters.venues.alpaca.errors import TITLE, explain
from koc_qt.adapters.venues.alpaca.requests_of import AlpacaRequests, get_row, keys_of, load_library, new_budget, rows
from koc_qt.domain.errors import BadBars, VenueRejected, VenueUnavailable
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.market import Bar, Quote, StreamState, StreamStatus, Trade
from koc_qt.domain.state import TradingMode
from koc_qt.domain.timeframes import bar_open_ns, duration_ns
from koc_qt.ports.clock import Clock
from koc_qt.ports.secrets import Credentials
from koc_qt.ports.venue import MarketSink
from koc_qt.resilience import Backoff, Breaker

_STEADY_NS = 10_000_000_000  # a connection that lived this long has earned a quick reconnect
_FARTHEST_FUTURE_NS = 86_400_000_000_000
_SYMBOL_LIMIT = 405  # the error's code
_CRYPTO, _STOCKS = "crypto", "stocks"


class _Symbol:
    """A symbol that is streamed, and what is needed to tell its facts apart."""

    def __init__(self, instrument: Instrument) -> None:
        self.id = instrument.id
        self.state: StreamState | None = None
        self.quote: Quote | None = None
        self.untold: Mapping[str, Any] | None = None  # the newest quote, until what has come with it was read
        self.price: Decimal | None = None
        self.last_trade: tuple[str, int] | None = None


class _Feed:
    """One of the two connections: a library's stream, its task, and whether the venue has confirmed what is wanted."""

    def __init__(self, venue: AlpacaVenue, crypto: bool, timeouts: Timeouts, clock: Clock) -> None:
        self._venue = venue
        self.crypto = crypto
        self._clock = clock
        self._backoff = Backoff(timeouts.first_backoff_s, timeouts.max_backoff_s)
        self._opened_ns = 0
        self.stream: Any = None
        self.task: asyncio.Task[None] | None = None
        self.retry: asyncio.Task[None] | None = None
        self.up = False
        self.untold: dict[str, _Symbol] = {}  # symbols of which a quote was not told yet

    # what the stream tells (library.StreamEar)

    def is_open(self) -> None:
        self.up = True
        self._opened_ns = self._clock.monotonic_ns()

    def message(self, message: dict[str, Any]) -> None:
        self._venue.heard(self, message)

    def caught_up(self) -> None:
        self._venue.tell_quotes(self)

    def unreadable(self, error: Exception) -> None:
        self._venue.refuse("unreadable", error)

    def is_lost(self, error: Exception | None) -> None:
        if self.up and self._clock.monotonic_ns() - self._opened_ns > _STEADY_NS:
            self._backoff.reset()
        self.up = False
        reason = "its connection was lost" if error is None else str(explain("its market data stream", error))
        self._venue.interrupted(self, reason)

    def pause_s(self) -> float:
        return self._backoff.next_s()


class AlpacaVenue(DataSource):
    """Implements ports.venue.MarketDataVenue for US stocks and crypto at Alpaca.

    Everything needs keys, any will do: those of paper trading as well. `mode` says whose they are, TESTNET for paper
    trading and LIVE; where it is DATA, their own first letters do. `refused` counts messages that were no fact, by kind
    (trades, quotes, market, unreadable); they go no further.
    """

    ABILITIES = ABILITIES
    SETTLED_NS: ClassVar[int] = 1_000_000_000

    def __init__(
        self,
        clock: Clock,
        credentials: Credentials | None = None,
        endpoint: LoopbackEndpoint | None = None,
        breaker: Breaker | None = None,
        timeouts: Timeouts | None = None,
        *,
        mode: TradingMode = TradingMode.DATA,
    ) -> None:
        super().__init__(clock, endpoint, breaker, timeouts)
        self._keys = keys_of(credentials or Credentials({}))
        is_paper = mode is TradingMode.TESTNET or (mode is not TradingMode.LIVE and self._keys[0].startswith("PK"))
        budget = new_budget(clock)
        self._account = self._requests("paper" if is_paper else "live", new_budget(clock))
        self._data = {kind: self._requests(kind, budget) for kind in (_STOCKS, _CRYPTO)}
        self._library: Any = None
        self._instruments: dict[str, Instrument] = {}
        self._symbols: dict[str, _Symbol] = {}
        self._feeds: dict[bool, _Feed] = {}

    def _requests(self, kind: str, budget: Any) -> AlpacaRequests:
        return AlpacaRequests(kind, self._keys, self._clock, self._endpoint, self._timeouts, budget, self._breaker)

    @property
    def name(self) -> str:
        """The venue part of its instruments' ids."""
        return ABILITIES.venue

    @property
    def title(self) -> str:
        """What sentences call it."""
        return TITLE

    @property
    def timeframes(self) -> Sequence[str]:
        """The timeframes that fetch_bars takes, shortest first."""
        return TIMEFRAMES

    def time_ns(self) -> int:
        """UTC nanoseconds at the venue: its own answer on connecting, moved on by the newest event."""
        return self._account.venue_clock.time_ns()

    # ---- connection ----------------------------------------------------------------------------------------------

    async def connect(self, sink: MarketSink) -> None:
        """Load the instruments and set the venue's clock. Raises VenueUnavailable, also where there are no keys."""
        if self._opening is None and not all(self._keys):
            raise VenueUnavailable(
                f"{TITLE} gives market data to those alone who have keys, which cost nothing: make some for paper "
                f"trading at {ABILITIES.keys_page} and add them as an account"
            )
        await super().connect(sink)

    async def _open(self) -> None:
        self._library = await load_library()
        for requests in (self._account, *self._data.values()):
            await requests.open()
        await self._account.ask_time()
        found: dict[str, Instrument] = {}
        for kind in ("us_equity", "crypto"):  # without a class only stocks would be listed
            asked = {"status": "active", "asset_class": kind}
            # read in the thread: thousands of assets would hold up the loop
            listed, refused = await self._account.read(
                "the list of instruments", partial(_read_instruments, asked), priority=Priority.DATA
            )
            found |= listed
            for text in refused:
                self.refuse("market", MalformedError(text))
        if not found:
            raise VenueUnavailable(f"{TITLE} lists no instrument that can be traded; its answer is of no use")
        self._instruments = found

    async def close(self) -> None:
        """End every stream and connection. Safe to call twice, and while connecting."""
        await self._stop_opening()
        for symbol in list(self._symbols):
            self._say(self._symbols.pop(symbol), StreamState.ENDED, "closed")
        feeds, self._feeds = list(self._feeds.values()), {}
        for feed in feeds:
            await self._end(feed)
        for requests in (self._account, *self._data.values()):
            await requests.close()
        self._instruments = {}

    async def instruments(self) -> Sequence[Instrument]:
        """All assets that trade, with their rules. Raises VenueUnavailable while not connected."""
        self._require_connected()
        return list(self._instruments.values())

    def _require_connected(self) -> None:
        if not self._instruments:
            raise VenueUnavailable(f"{TITLE} is not connected; connect first")

    def _known(self, symbol: str) -> Instrument:
        instrument = self._instruments.get(symbol)
        if instrument is None:
            near = get_close_matches(symbol.upper(), self._instruments, 1)
            hint = f"did you mean {near[0]}?" if near else "write it as AAPL for a stock, or BTC/USD for crypto"
            raise VenueRejected(f"{TITLE} does not trade {symbol!r}; {hint}")
        return instrument

    # ---- bars ----------------------------------------------------------------------------------------------------

    async def fetch_bars(
        self, symbol: str, timeframe: str, since_ns: int, until_ns: int
    ) -> AsyncIterator[Sequence[Bar]]:
        """Give the venue's closed bars with since <= open time < until, oldest first, a page at a time.

        Intervals without a trade have none. Raises VenueRejected for a symbol or timeframe that it does not have,
        BadBars for a page that is none.
        """
        self._require_connected()
        instrument = self._known(symbol)
        if timeframe not in TIMEFRAMES:
            raise VenueRejected(f"{TITLE} has no bars of {timeframe!r}; it has {', '.join(TIMEFRAMES)}")
        end_ns = await self._settled(timeframe, until_ns)
        if is_crypto(symbol) and timeframe == "1d":  # its own days begin at midnight in Chicago
            hours = self._pages(instrument, "1h", bar_open_ns(since_ns + duration_ns("1d") - 1, "1d"), end_ns)
            async for days in collect_days(hours):
                yield days
            return
        async for bars in self._pages(instrument, timeframe, since_ns, end_ns):
            yield bars

    async def _pages(
        self, instrument: Instrument, timeframe: str, since_ns: int, end_ns: int
    ) -> AsyncIterator[list[Bar]]:
        symbol = instrument.id.symbol
        requests = self._data[_CRYPTO if is_crypto(symbol) else _STOCKS]
        token, last_ns = "", -1
        while since_ns < end_ns:
            path, parameters = page_request(symbol, timeframe, since_ns, end_ns, token)
            told = await requests.read(
                f"{timeframe} bars of {instrument.id}", get_row(path, parameters), priority=Priority.DATA
            )
            try:
                bars = _read_page(instrument, timeframe, told, last_ns)
            except (MalformedError, TypeError, AttributeError) as error:
                raise BadBars(f"{instrument.id} {timeframe}: {error}") from error
            if bars:
                last_ns = bars[-1].open_time_ns
                chosen = [bar for bar in bars if since_ns <= bar.open_time_ns < end_ns]
                if chosen:
                    yield chosen
            token = str(told.get("next_page_token") or "")
            if not token or last_ns >= end_ns:
                return

    # ---- streams -------------------------------------------------------------------------------------------------

    async def subscribe(self, symbol: str) -> None:
        """Stream trades and quotes of `symbol`, such as ``AAPL`` or ``BTC/USD``, into the sink; there is no book.

        Raises VenueRejected for a symbol that does not trade here, VenueUnavailable while not connected.
        """
        self._require_connected()
        if symbol in self._symbols:
            return
        self._symbols[symbol] = _Symbol(self._known(symbol))
        feed = self._feed(is_crypto(symbol))
        self._library.want(feed.stream, symbol)
        if feed.task is None:
            feed.task = asyncio.create_task(
                self._run(feed), name=f"{self.name} {'crypto' if feed.crypto else 'stocks'}"
            )
        else:
            await self._tell(feed)

    async def unsubscribe(self, symbol: str) -> None:
        """Stop streaming `symbol`; unknown ones are ignored."""
        known = self._symbols.pop(symbol, None)
        if known is None:
            return
        self._say(known, StreamState.ENDED, "unsubscribed")
        crypto = is_crypto(symbol)
        feed = self._feeds.get(crypto)
        if feed is None:
            return
        self._library.forget(feed.stream, symbol)
        if self._of(feed):
            await self._tell(feed, symbol)
        else:
            del self._feeds[crypto]
            await self._end(feed)

    def _of(self, feed: _Feed) -> list[_Symbol]:
        """Give what a feed streams, in the order of subscribing."""
        return [known for symbol, known in self._symbols.items() if is_crypto(symbol) is feed.crypto]

    def _feed(self, crypto: bool) -> _Feed:
        feed = self._feeds.get(crypto)
        if feed is None:
            feed = self._feeds[crypto] = _Feed(self, crypto, self._timeouts, self._clock)
            feed.stream = self._library.market_stream(crypto, *self._keys, self._timeouts, self._endpoint, feed)
        return feed

    async def _run(self, feed: _Feed) -> None:
        await self._library.run_stream(feed.stream)
        # it ends by itself where the keys' plan does not have this feed
        for known in self._of(feed):
            del self._symbols[known.id.symbol]
            self._say(known, StreamState.ENDED, f"{TITLE}'s plan of these keys has no such stream")
        if self._feeds.get(feed.crypto) is feed:
            del self._feeds[feed.crypto]

    async def _tell(self, feed: _Feed, gone: str = "") -> None:
        """Say what is wanted, or `gone`; a connection that is not up yet begins with all that is wanted then."""
        if not feed.up:
            return
        try:
            async with asyncio.timeout(self._timeouts.unsubscribe_s):
                if gone:
                    await self._library.unsubscribe(feed.stream, gone)
                else:
                    await self._library.subscribe(feed.stream)
        except Exception as error:
            feed.is_lost(error)
            self._library.drop(feed.stream)

    async def _end(self, feed: _Feed) -> None:
        if feed.retry is not None:
            feed.retry.cancel()
            await asyncio.gather(feed.retry, return_exceptions=True)
        if feed.task is not None:
            await self._library.end_stream(feed.stream, feed.task)

    def heard(self, feed: _Feed, message: Mapping[str, Any]) -> None:
        """Take a message of a stream."""
        kind = message.get("T")
        if kind == "subscription":
            self._confirmed(feed, message)
        elif kind == "error":
            self._complained(feed, message)
        elif (known := self._symbols.get(str(message.get("S")))) is None:
            return
        elif kind == "q":  # of several that come at once the newest counts, and what a trade met
            known.untold = message
            feed.untold[known.id.symbol] = known
        elif kind == "t":
            self._tell_quote(known)
            self._deliver(known, "trades", message)

    def tell_quotes(self, feed: _Feed) -> None:
        """Tell the quotes that wait: all that has come so far was read."""
        for symbol, known in feed.untold.items():
            if self._symbols.get(symbol) is known:
                self._tell_quote(known)
        feed.untold.clear()

    def _tell_quote(self, known: _Symbol) -> None:
        message, known.untold = known.untold, None
        if message is not None:
            self._deliver(known, "quotes", message)

    def _deliver(self, known: _Symbol, kind: str, message: Mapping[str, Any]) -> None:
        try:
            event = self._trade(known, message) if kind == "trades" else self._quote(known, message)
        except (MalformedError, KeyError, TypeError) as error:
            self.refuse(kind, error)
            return
        if event is not None:
            self._account.venue_clock.saw(event.time_ns)
            if self._sink is not None:
                self._sink(event)

    def _trade(self, known: _Symbol, message: Mapping[str, Any]) -> Trade | None:
        read = facts.trade(known.id, message, known.quote, known.price)
        self._require_past(read.time_ns)
        if known.last_trade == (read.trade_id, read.time_ns):
            return None  # said twice
        known.last_trade, known.price = (read.trade_id, read.time_ns), read.price
        return read

    def _quote(self, known: _Symbol, message: Mapping[str, Any]) -> Quote:
        read = facts.quote(known.id, message)
        self._require_past(read.time_ns)
        if known.quote is not None and read.time_ns < known.quote.time_ns:
            raise MalformedError("an older quote after a newer one")
        known.quote = read
        return read

    def _require_past(self, at_ns: int) -> None:
        if at_ns > self.time_ns() + _FARTHEST_FUTURE_NS:
            raise MalformedError(f"from the future: {at_ns} ns")

    def _confirmed(self, feed: _Feed, message: Mapping[str, Any]) -> None:
        streamed = set(message.get("trades") or ()) & set(message.get("quotes") or ())
        for known in self._of(feed):
            if known.id.symbol in streamed:
                self._say(known, StreamState.CONNECTED)

    def _complained(self, feed: _Feed, message: Mapping[str, Any]) -> None:
        error = VenueRejected(f"{message.get('msg')} ({message.get('code')})")
        self.refuse("errors", error)
        if message.get("code") != _SYMBOL_LIMIT:
            return
        refused = [known for known in self._of(feed) if known.state is not StreamState.CONNECTED]
        if refused:  # the newest goes; the others are asked for again, as the whole request was refused
            known = refused[-1]
            reason = f"{TITLE}'s plan of these keys streams no more symbols at once ({message.get('msg')})"
            del self._symbols[known.id.symbol]
            self._say(known, StreamState.ENDED, reason)
            self._library.forget(feed.stream, known.id.symbol)
        if refused[:-1]:
            feed.retry = asyncio.create_task(self._tell(feed), name=f"{self.name} fewer symbols")

    def interrupted(self, feed: _Feed, reason: str) -> None:
        """Take note that a connection was lost."""
        for known in self._of(feed):
            known.quote = known.price = known.untold = None
            self._say(known, StreamState.INTERRUPTED, reason)

    def _say(self, known: _Symbol, state: StreamState, reason: str = "") -> None:
        if known.state in (state, StreamState.ENDED):
            return
        known.state = state
        if self._sink is not None:
            self._sink(StreamStatus(known.id, self.time_ns(), state, reason))


def _read_instruments(asked: dict[str, str], client: Any) -> tuple[dict[str, Instrument], list[str]]:
    return facts.instruments(rows(client.get("/assets", asked)))


def _read_page(instrument: Instrument, timeframe: str, told: Mapping[str, Any], last_ns: int) -> list[Bar]:
    bars: list[Bar] = []
    for row in (told.get("bars") or {}).get(instrument.id.symbol) or ():
        bar = facts.bar(instrument.id, timeframe, row)
        if bar.open_time_ns <= last_ns:
            raise MalformedError(f"the bar of {row.get('t')} comes after a later one")
        last_ns = bar.open_time_ns
        bars.append(bar)
    return bars
