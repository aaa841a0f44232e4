"""Alpaca keeps both contracts over its wire protocol: stocks and crypto, live and its own paper trading."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from koc_qt.adapters.ccxt_client import Timeouts
from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.venues.alpaca import ABILITIES, AlpacaTrading, AlpacaVenue
from koc_qt.domain.market import Book, StreamState, StreamStatus
from koc_qt.domain.orders import OrderType, TimeInForce
from koc_qt.domain.state import TradingMode
from koc_qt.domain.timeframes import SECOND_NS
from koc_qt.domain.venues import VenueAbilities
from koc_qt.ports.secrets import Credentials
from tests.conditions import until
from tests.contract.market_data_venue import Market, MarketDataVenueContract
from tests.contract.trading_venue import TradingDesk, TradingVenueContract
from tests.wire.loopback import LoopbackServer
from tests.wire.venues.alpaca import add_person, make_exchange, make_site

QUICK = Timeouts(first_backoff_s=0.02, max_backoff_s=0.1, request_s=10.0)
CRYPTO = msgspec.structs.replace(
    ABILITIES,
    title="Alpaca's crypto",
    order_types=(OrderType.MARKET, OrderType.LIMIT, OrderType.STOP_LIMIT),
    time_in_force=(TimeInForce.GTC, TimeInForce.IOC),
)


@dataclass(frozen=True)
class Place:
    """A market, how much of it is traded in the tests, and where."""

    symbol: str
    lot: str
    mode: TradingMode
    abilities: VenueAbilities


PLACES = (
    Place("AAPL", "5", TradingMode.TESTNET, ABILITIES),
    Place("BTC/USD", "0.5", TradingMode.LIVE, CRYPTO),
)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.symbol)
class TestAlpacaTrading(TradingVenueContract):
    @pytest_asyncio.fixture
    async def desk(self, place: Place, tmp_path: Path) -> AsyncIterator[TradingDesk]:
        clock = SystemClock()
        exchange = make_exchange(clock)
        owned = add_person(exchange, test_network=place.mode is TradingMode.TESTNET)
        async with LoopbackServer(make_site(exchange), tmp_path) as server:
            keys = Credentials({"key": owned.key, "secret": owned.secret})
            venue = AlpacaTrading("alpaca-1", keys, place.mode, clock, server.endpoint, timeouts=QUICK)

            async def show(bid: Decimal, ask: Decimal, size: Decimal) -> None:
                exchange.show(place.symbol, bid, ask, size)

            instrument = exchange.market(place.symbol).listing.instrument("alpaca")
            yield TradingDesk(venue, instrument, Decimal(place.lot), show, place.abilities)
            await venue.close()


@dataclass
class BooklessMarket(Market):
    """Alpaca has no books: what a test waits for of them is there from the beginning."""

    booked: list[Any] = field(default_factory=list)


@pytest.mark.parametrize("symbol", ["AAPL", "BTC/USD"])
class TestAlpacaVenue(MarketDataVenueContract):
    @pytest_asyncio.fixture
    async def market(self, symbol: str, tmp_path: Path) -> AsyncIterator[Market]:
        clock = SystemClock()
        exchange = make_exchange(clock, rate=100.0)
        owned = add_person(exchange, test_network=True)
        async with LoopbackServer(make_site(exchange), tmp_path) as server:
            keys = Credentials({"key": owned.key, "secret": owned.secret})
            venue = AlpacaVenue(clock, keys, server.endpoint, timeouts=QUICK)

            async def flow() -> None:
                moved = exchange.market(symbol).sequence
                await until(lambda: exchange.market(symbol).sequence > moved + 5, what="the market to go on")

            until_ns = clock.time_ns() - 3_600 * SECOND_NS
            yield Market(venue, symbol, "1m", (until_ns - 7_200 * SECOND_NS, until_ns), flow)
            await venue.close()

    @staticmethod
    async def _stream(market: Market, *, trades: int, quotes: int, books: int) -> None:
        """Stream without the books, which Alpaca has not."""
        await MarketDataVenueContract._stream(market, trades=trades, quotes=quotes, books=0)
        assert market.of(Book) == []
        assert StreamState.CONNECTED in [status.state for status in market.of(StreamStatus)]
