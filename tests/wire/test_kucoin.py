"""KuCoin: what goes wrong with orders, and what is odd about KuCoin and ccxt's way with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from koc_qt.adapters.venues.kucoin import KucoinTrading
from tests.wire.trading_bench import TradingBench, open_bench
from tests.wire.trading_faults import TradingFaults
from tests.wire.venues import kucoin


class TestOrders(TradingFaults):
    ORDER = "/api/v1/hf/orders"
    RIGHTS = "General"

    @pytest_asyncio.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[TradingBench]:
        async with open_bench(KucoinTrading, kucoin, tmp_path) as bench:
            yield bench
