"""Bitfinex keeps the contracts of market data and of trading, over the venue's wire protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest_asyncio

from koc_qt.adapters.ccxt_client import Timeouts
from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.venues.bitfinex import ABILITIES, BitfinexTrading, BitfinexVenue
from koc_qt.domain.state import TradingMode
from koc_qt.domain.timeframes import DAY_NS
from koc_qt.ports.secrets import Credentials
from tests.contract.market_data_venue import Market, MarketDataVenueContract
from tests.contract.trading_venue import TradingDesk, TradingVenueContract
from tests.wire.loopback import LoopbackServer
from tests.wire.venues.bitfinex import add_person, make_exchange, make_site

QUICK = Timeouts(first_backoff_s=0.02, max_backoff_s=0.1, request_s=10.0)


class TestBitfinexVenue(MarketDataVenueContract):
    @pytest_asyncio.fixture
    async def market(self, tmp_path: Path) -> AsyncIterator[Market]:
        clock = SystemClock()
        exchange = make_exchange(clock, rate=60)
        async with LoopbackServer(make_site(exchange), tmp_path) as server:
            venue = BitfinexVenue(clock, server.endpoint, timeouts=QUICK)
            until_ns = clock.time_ns() - DAY_NS
            span = (until_ns - 400 * 60_000_000_000, until_ns)
            yield Market(venue, "BTC/USD", "1m", span, lambda: asyncio.sleep(0.02))
            await venue.close()


class TestBitfinexTradingVenue(TradingVenueContract):
    @pytest_asyncio.fixture
    async def desk(self, tmp_path: Path) -> AsyncIterator[TradingDesk]:
        clock = SystemClock()
        exchange = make_exchange(clock)
        owned = add_person(exchange)
        async with LoopbackServer(make_site(exchange), tmp_path) as server:
            keys = Credentials({"key": owned.key, "secret": owned.secret})
            venue = BitfinexTrading("bitfinex-1", keys, TradingMode.LIVE, clock, server.endpoint, timeouts=QUICK)

            async def show(bid: Decimal, ask: Decimal, size: Decimal) -> None:
                exchange.show("SOL/USD", bid, ask, size)

            instrument = exchange.market("SOL/USD").listing.instrument("bitfinex")
            yield TradingDesk(venue, instrument, Decimal("0.5"), show, ABILITIES)
            await venue.close()
