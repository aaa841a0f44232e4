"""Yahoo Finance through yfinance, led to a loopback server, keeps the market data contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from koc_qt.adapters.ccxt_client import Timeouts
from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.venues.yahoo import ABILITIES, YahooVenue
from tests.conditions import until
from tests.contract.market_data_venue import Market, MarketDataVenueContract
from tests.wire.hang_up import until_hung_up
from tests.wire.loopback import LoopbackServer
from tests.wire.venues.yahoo import make_exchange, make_site

QUICK = Timeouts(first_backoff_s=0.02, max_backoff_s=0.1, request_s=10.0)
DAY_NS = 86_400_000_000_000


class TestYahooVenue(MarketDataVenueContract):
    @pytest_asyncio.fixture
    async def market(self, tmp_path: Path) -> AsyncIterator[Market]:
        clock = SystemClock()
        exchange = make_exchange(clock, rate=100.0)
        async with LoopbackServer(make_site(exchange), tmp_path) as server:
            venue = YahooVenue(clock, server.endpoint, timeouts=QUICK)
            live = exchange.market("AAPL")

            async def flow() -> None:
                sequence = live.sequence
                await until(lambda: live.sequence > sequence + 5, what="the market to go on")

            now_ns = exchange.time_ns()
            today_ns = now_ns - now_ns % DAY_NS
            yield Market(venue, "AAPL", "1d", (today_ns - 120 * DAY_NS, today_ns - 10 * DAY_NS), flow, ABILITIES)
            await venue.close()
            await until_hung_up(server)
