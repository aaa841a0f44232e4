"""Kraken keeps the contracts of market data and of trading, over the venue's wire protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest_asyncio

from koc_qt.adapters.ccxt_client import Timeouts
from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.venues.kraken import ABILITIES, KrakenTrading, KrakenVenue
from koc_qt.domain.state import TradingMode
from koc_qt.ports.secrets import Credentials
from tests.conditions import until
from tests.contract.market_data_venue import Market, MarketDataVenueContract
from tests.contract.trading_venue import TradingDesk, TradingVenueContract
from tests.wire.loopback import LoopbackServer
from tests.wire.venues.kraken import add_person, make_exchange, make_site

QUICK = Timeouts(first_backoff_s=0.02, max_backoff_s=0.1, request_s=10.0)
MINUTE_NS = 60_000_000_000


class TestKrakenVenue(MarketDataVenueContract):
    @pytest_asyncio.fixture
    async def market(self, tmp_path: Path) -> AsyncIterator[Market]:
        clock = SystemClock()
        exchange = make_exchange(clock, rate=100.0)
        async with LoopbackServer(make_site(exchange), tmp_path) as server:
            venue = KrakenVenue(clock, server.endpoint, timeouts=QUICK)
            live = exchange.market("BTC/USD")

            async def flow() -> None:
                sequence = live.sequence
                await until(lambda: live.sequence > sequence + 5, what="the market to go on")

            now_ns = exchange.time_ns()
            yield Market(venue, "BTC/USD", "1m", (now_ns - 120 * MINUTE_NS, now_ns - 10 * MINUTE_NS), flow)
            await venue.close()


class TestKrakenTrading(TradingVenueContract):
    @pytest_asyncio.fixture
    async def desk(self, tmp_path: Path) -> AsyncIterator[TradingDesk]:
        clock = SystemClock()
        exchange = make_exchange(clock)
        owned = add_person(exchange)
        async with LoopbackServer(make_site(exchange), tmp_path) as server:
            keys = Credentials({"key": owned.key, "secret": owned.secret})
            venue = KrakenTrading("kraken-1", keys, TradingMode.LIVE, clock, server.endpoint, timeouts=QUICK)

            async def show(bid: Decimal, ask: Decimal, size: Decimal) -> None:
                exchange.show("BTC/USD", bid, ask, size)

            instrument = exchange.market("BTC/USD").listing.instrument("kraken")
            yield TradingDesk(venue, instrument, Decimal("0.5"), show, ABILITIES)
            await venue.close()
