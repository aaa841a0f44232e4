"""Kraken: what goes wrong with orders, and what is odd about Kraken and ccxt's way with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from koc_qt.adapters.venues.kraken import KrakenTrading, kraken_id
from koc_qt.domain.orders import Order
from tests.wire.trading_bench import TradingBench, open_bench
from tests.wire.trading_faults import TradingFaults
from tests.wire.venues import kraken


class TestOrders(TradingFaults):
    ORDER = "/0/private/AddOrder"
    RIGHTS = "query-funds"

    @pytest_asyncio.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[TradingBench]:
        async with open_bench(KrakenTrading, kraken, tmp_path, "BTC/USD") as bench:
            yield bench

    def theirs(self, order: Order) -> str:
        return kraken_id(order.client_order_id)
