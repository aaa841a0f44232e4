"""Binance keeps the trading contract, over the venue's wire protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest_asyncio

from koc_qt.adapters.ccxt_client import Timeouts
from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.venues.binance import ABILITIES, BinanceTrading
from koc_qt.domain.state import TradingMode
from koc_qt.ports.secrets import Credentials
from tests.contract.trading_venue import TradingDesk, TradingVenueContract
from tests.wire.loopback import LoopbackServer
from tests.wire.venues.binance import add_person, make_exchange, make_site

QUICK = Timeouts(first_backoff_s=0.02, max_backoff_s=0.1, request_s=10.0)


class TestBinanceTradingVenue(TradingVenueContract):
    @pytest_asyncio.fixture
    async def desk(self, tmp_path: Path) -> AsyncIterator[TradingDesk]:
        clock = SystemClock()
        exchange = make_exchange(clock)
        owned = add_person(exchange)
        async with LoopbackServer(make_site(exchange), tmp_path) as server:
            keys = Credentials({"key": owned.key, "secret": owned.secret})
            venue = BinanceTrading("binance-1", keys, TradingMode.LIVE, clock, server.endpoint, timeouts=QUICK)

            async def show(bid: Decimal, ask: Decimal, size: Decimal) -> None:
                exchange.show("BTC/USDT", bid, ask, size)

            instrument = exchange.market("BTC/USDT").listing.instrument("binance")
            yield TradingDesk(venue, instrument, Decimal("0.5"), show, ABILITIES)
            await venue.close()
