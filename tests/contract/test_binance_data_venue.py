"""Binance over ccxt, led to a loopback server, keeps the market data contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path

import pytest_asyncio

from koc_qt.adapters.clock import SystemClock
from tests.conditions import until
from tests.contract.market_data_venue import Market, MarketDataVenueContract
from tests.wire.binance import BinanceSite
from tests.wire.conftest import QuickBinance
from tests.wire.loopback import LoopbackServer
from tests.wire.recording import Recording
from tests.wire.synthetic import synthetic


@cache
def recording() -> Recording:
    return synthetic(seed=7, seconds=240)


class TestBinanceVenue(MarketDataVenueContract):
    @pytest_asyncio.fixture
    async def market(self, tmp_path: Path) -> AsyncIterator[Market]:
        site = BinanceSite(recording(), speed=4, start_at_s=120)
        async with LoopbackServer(site, tmp_path) as server:
            venue = QuickBinance(SystemClock(), server.endpoint)

            async def flow() -> None:
                sent = site.replay.sent
                await until(lambda: site.replay.sent > sent + 5, what="the market to go on")

            since_ns = recording().first_ns
            yield Market(venue, "BTC/USDT", "1s", (since_ns, since_ns + 100_000_000_000), flow)
            await venue.close()
