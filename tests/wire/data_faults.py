"""What a venue and the network between may do to market data, whatever the dialect.

class TestData(DataFaults):                             # a venue's module joins by a subclass
    @pytest_asyncio.fixture
    async def data(self, tmp_path):
        async with open_data(KrakenVenue, kraken, tmp_path, "BTC/USD", "ETH/USD") as data: yield data
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from koc_qt.adapters.ccxt_client import Timeouts
from koc_qt.adapters.clock import SystemClock
from koc_qt.domain.errors import VenueError, VenueRejected, VenueUnavailable
from koc_qt.domain.market import Bar, Book, MarketEvent, Quote, StreamState, StreamStatus, Trade
from tests.conditions import PATIENCE, until
from tests.wire.exchange import Exchange
from tests.wire.loopback import LoopbackServer

E = TypeVar("E")
QUICK = Timeouts(first_backoff_s=0.02, max_backoff_s=0.1, request_s=10.0, dial_s=2.0, connect_s=30 * PATIENCE)
CONNECTED, INTERRUPTED, ENDED = StreamState.CONNECTED, StreamState.INTERRUPTED, StreamState.ENDED


class DataBench:
    """A loopback exchange that moves fast, and the adapter under test with all that it says of two symbols."""

    def __init__(self, server: LoopbackServer, exchange: Exchange, make: Callable[..., Any], *symbols: str) -> None:
        self.server = server
        self.site: Any = server.site
        self.exchange = exchange
        self.make = make
        self.symbol, self.other = symbols
        self.venue: Any = make()
        self.events: list[MarketEvent] = []
        self._waited_for = 0  # states

    async def connect(self) -> None:
        """Connect and subscribe to the first symbol."""
        await self.venue.connect(self.events.append)
        await self.venue.subscribe(self.symbol)
        await self.reaches(CONNECTED)

    def of(self, kind: type[E], symbol: str = "") -> list[E]:
        """Give the events of one kind of a symbol, by default the first."""
        return [e for e in self.events if isinstance(e, kind) and e.instrument.symbol == (symbol or self.symbol)]

    @property
    def states(self) -> list[StreamState]:
        """The states of the first symbol's stream."""
        return [status.state for status in self.of(StreamStatus)]

    async def reaches(self, state: StreamState) -> StreamStatus:
        """Wait until this state is told, or was since the one waited for last: an interruption may be over at once."""
        await until(lambda: state in self.states[self._waited_for :], what=f"the stream to be {state}")
        self._waited_for += self.states[self._waited_for :].index(state) + 1
        return self.of(StreamStatus)[self._waited_for - 1]

    async def goes_on(self, symbol: str = "") -> None:
        """Wait until more of everything has come."""
        before = [len(self.of(kind, symbol)) for kind in (Trade, Quote, Book)]
        await until(
            lambda: all(len(self.of(kind, symbol)) > n for kind, n in zip((Trade, Quote, Book), before, strict=True)),
            what="more trades, quotes and books",
        )

    async def bars(self, timeframe: str, since_ns: int, until_ns: int) -> list[Bar]:
        """Fetch all pages."""
        pages = [page async for page in self.venue.fetch_bars(self.symbol, timeframe, since_ns, until_ns)]
        assert all(pages)
        return [bar for page in pages for bar in page]


@asynccontextmanager
async def open_data(
    venue: Any, module: Any, folder: Path, *symbols: str, timeouts: Timeouts = QUICK, rate: float = 60.0
) -> AsyncIterator[DataBench]:
    """Serve a venue's dialect (`module` of tests.wire.venues) and make `venue`, a CcxtMarketData class."""
    clock = SystemClock()
    exchange = module.make_exchange(clock, rate=rate)
    made: list[Any] = []
    async with LoopbackServer(module.make_site(exchange), folder) as server:

        def make(**changed: Any) -> Any:
            made.append(venue(clock, server.endpoint, timeouts=msgspec.structs.replace(timeouts, **changed)))
            return made[-1]

        try:
            yield DataBench(server, exchange, make, *symbols)
        finally:
            for each in made:
                await each.close()


class DataFaults:
    """Tests of what a subclass's `data` fixture yields."""

    async def test_all_of_a_market_is_there_and_nothing_is_refused(self, data: DataBench) -> None:
        await data.connect()
        await data.goes_on()
        market = data.exchange.market(data.symbol)
        sent = {trade.trade_id: trade for trade in market.tape}
        for trade in data.of(Trade):
            there = sent[trade.trade_id]
            assert (trade.price, trade.quantity, trade.side) == (there.price, there.quantity, there.side)
            assert abs(trade.time_ns - there.time_ns) < 1_000_000
        assert max(len(book.bids) for book in data.of(Book)) == 20
        assert not data.venue.refused

    @pytest.mark.parametrize("mid_frame", [True, False])
    async def test_a_broken_connection_is_made_again(self, data: DataBench, mid_frame: bool) -> None:
        await data.connect()
        data.site.fault_drop("public", mid_frame=mid_frame)
        await data.reaches(INTERRUPTED)
        await data.reaches(CONNECTED)
        await data.goes_on()
        trades = data.of(Trade)
        assert len({trade.trade_id for trade in trades}) == len(trades)

    async def test_a_stream_that_falls_silent_is_made_again(self, data: DataBench) -> None:
        data.venue = data.make(silence_s=0.3, trade_silence_s=0.3)
        await data.connect()
        data.site.fault_silence()
        assert "silent" in (await data.reaches(INTERRUPTED)).reason
        data.site.fault_silence(public=False, private=False)
        await data.reaches(CONNECTED)
        await data.goes_on()

    async def test_garbage_ends_nothing(self, data: DataBench) -> None:
        await data.connect()
        data.site.fault_garbage()
        data.site.fault_garbage('["what", "is", "this"]')
        data.site.fault_garbage('{"channel":"trade","topic":"/market/match:BTC-USDT","type":"message","data":"x"}')
        await data.goes_on()
        assert data.states == [CONNECTED]
        assert data.venue.refused["unreadable"] > 0

    async def test_streams_that_are_refused_for_a_while_come_back(self, data: DataBench) -> None:
        await data.connect()
        data.site.fault_refuse_streams()
        data.site.fault_drop("public")
        await data.reaches(INTERRUPTED)
        data.site.fault_refuse_streams(False)
        await data.reaches(CONNECTED)
        await data.goes_on()

    async def test_a_symbol_goes_on_when_another_is_unsubscribed(self, data: DataBench) -> None:
        await data.connect()
        await data.venue.subscribe(data.other)
        await data.goes_on(data.other)
        await data.venue.unsubscribe(data.other)
        count = len(data.of(Quote, data.other))
        await data.goes_on()
        assert len(data.of(Quote, data.other)) == count
        assert data.states == [CONNECTED], "it was not interrupted for it"
        await data.venue.subscribe(data.other)
        await data.goes_on(data.other)

    async def test_the_last_symbol_takes_the_connection_with_it(self, data: DataBench) -> None:
        await data.connect()
        await data.venue.unsubscribe(data.symbol)
        await until(lambda: not data.site.channels, what="the connection to be closed")
        await data.venue.subscribe(data.symbol)
        await data.goes_on()

    async def test_a_symbol_that_is_delisted_ends(self, data: DataBench) -> None:
        data.venue = data.make(silence_s=0.3, trade_silence_s=0.3)
        await data.connect()
        data.site.fault_trading(data.symbol)
        assert "no longer has it" in (await data.reaches(ENDED)).reason

    @pytest.mark.parametrize("fault", ["html", "server_error", "maintenance", "rate_limit"])
    async def test_a_venue_that_cannot_be_used_says_why(self, data: DataBench, fault: str) -> None:
        words = {"html": "web page", "server_error": "may be down"}
        words |= {"maintenance": "maintenance", "rate_limit": "slow down"}
        data.venue = data.make(request_s=5.0)
        faults = {"rate_limit": {"times": 1000, "retry_after_s": 30}}
        getattr(data.site, f"fault_{fault}")(**faults.get(fault, {}))
        with pytest.raises(VenueUnavailable, match=words[fault]):
            await data.venue.connect(data.events.append)
        data.site.fault_clear()
        data.venue = data.make()
        await data.connect()

    async def test_an_hour_of_bars_is_that_of_the_market(self, data: DataBench) -> None:
        await data.venue.connect(data.events.append)
        now_ns = data.exchange.time_ns()
        since_ns, until_ns = now_ns - 5400 * 10**9, now_ns - 1800 * 10**9
        candles = data.exchange.market(data.symbol).candles("1m", since_ns, until_ns)
        bars = await data.bars("1m", since_ns, until_ns)
        assert [bar.open_time_ns for bar in bars] == [candle.open_ns for candle in candles]
        for bar, candle in zip(bars, candles, strict=True):
            told = (bar.open, bar.high, bar.low, bar.close, bar.volume)
            prices = (candle.open, candle.high, candle.low, candle.close, candle.volume)
            assert told == tuple(float(price) for price in prices)

    async def test_what_it_does_not_have_is_refused(self, data: DataBench) -> None:
        await data.venue.connect(data.events.append)
        for symbol in ("BTC-USD", "no/such"):
            with pytest.raises(VenueRejected, match="does not trade"):
                await data.venue.subscribe(symbol)

    async def test_it_can_be_used_again_after_it_could_not_connect(self, data: DataBench) -> None:
        await data.server.stop()
        with pytest.raises(VenueError):
            await data.venue.connect(data.events.append)
        await data.venue.close()
