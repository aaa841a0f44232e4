"""Polygon.io (Massive) by its vendor's client, led to a loopback server, keeps the market data contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from koc_qt.adapters.ccxt_client import Timeouts
from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.venues.polygon import ABILITIES, PolygonVenue
from koc_qt.ports.secrets import Credentials
from tests.conditions import until
from tests.contract.market_data_venue import Market, MarketDataVenueContract
from tests.wire.hang_up import until_hung_up
from tests.wire.loopback import LoopbackServer
from tests.wire.venues.polygon import add_person, make_exchange, make_site

QUICK = Timeouts(first_backoff_s=0.02, max_backoff_s=0.1, request_s=10.0)
MINUTE_NS = 60_000_000_000


class TestPolygonVenue(MarketDataVenueContract):
    @pytest_asyncio.fixture
    async def market(self, tmp_path: Path) -> AsyncIterator[Market]:
        clock = SystemClock()
        exchange = make_exchange(clock, rate=100.0)
        key = add_person(exchange)
        async with LoopbackServer(make_site(exchange), tmp_path) as server:
            venue = PolygonVenue(clock, Credentials({"key": f" {key.key}\n"}), server.endpoint, timeouts=QUICK)
            live = exchange.market("AAPL")

            async def flow() -> None:
                sequence = live.sequence
                await until(lambda: live.sequence > sequence + 5, what="the market to go on")

            now_ns = exchange.time_ns()
            history = (now_ns - 120 * MINUTE_NS, now_ns - 10 * MINUTE_NS)
            yield Market(venue, "AAPL", "1m", history, flow, ABILITIES)
            await venue.close()
            await until_hung_up(server)
