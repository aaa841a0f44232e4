"""KuCoin keeps the contracts of market data and of trading, over the venue's wire protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest_asyncio

from koc_qt.adapters.ccxt_client import Timeouts
from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.venues.kucoin import ABILITIES, KucoinTrading, KucoinVenue
from koc_qt.domain.state import TradingMode
from koc_qt.ports.secrets import Credentials
from tests.conditions import until
from tests.contract.market_data_venue import Market, MarketDataVenueContract
from tests.contract.trading_venue import TradingDesk, TradingVenueContract
from tests.wire.loopback import LoopbackServer
from tests.wire.venues.kucoin import add_person, make_exchange, make_site

QUICK = Timeouts(first_backoff_s=0.02, max_backoff_s=0.1, request_s=10.0)
MINUTE_NS = 60_000_000_000


class TestKucoinVenue(MarketDataVenueContract):
    @pytest_asyncio.fixture
    async def market(self, tmp_path: Path) -> AsyncIterator[Market]:
        clock = SystemClock()
        exchange = make_exchange(clock, rate=100.0)
        async with LoopbackServer(make_site(exchange), tmp_path) as server:
            venue = KucoinVenue(clock, server.endpoint, timeouts=QUICK)
            live = exchange.market("BTC/USDT")

            async def flow() -> None:
                sequence = live.sequence
                await until(lambda: live.sequence > sequence + 5, what="the market to go on")

            now_ns = exchange.time_ns()
            yield Market(venue, "BTC/USDT", "1m", (now_ns - 120 * MINUTE_NS, now_ns - 10 * MINUTE_NS), flow)
            await venue.close()


class TestKucoinTrading(TradingVenueContract):
    @pytest_asyncio.fixture
    async def desk(self, tmp_path: Path) -> AsyncIterator[TradingDesk]:
        clock = SystemClock()
        exchange = make_exchange(clock)
        owned = add_person(exchange)
        async with LoopbackServer(make_site(exchange), tmp_path) as server:
            keys = Credentials({"key": owned.key, "secret": owned.secret, "passphrase": owned.passphrase})
            venue = KucoinTrading("kucoin-1", keys, TradingMode.LIVE, clock, server.endpoint, timeouts=QUICK)

            async def show(bid: Decimal, ask: Decimal, size: Decimal) -> None:
                exchange.show("BTC/USDT", bid, ask, size)

            instrument = exchange.market("BTC/USDT").listing.instrument("kucoin")
            yield TradingDesk(venue, instrument, Decimal("0.5"), show, ABILITIES)
            await venue.close()
