"""A private stream that goes down when nothing has happened for a while: orders are asked for from then on."""

from __future__ import annotations

from pathlib import Path

from koc_qt.adapters.venues.binance import BinanceTrading
from koc_qt.domain.orders import OrderStatus
from koc_qt.domain.state import VenueState
from tests.conditions import until
from tests.wire.trading_bench import open_bench
from tests.wire.venues import binance


async def test_orders_are_polled_at_once_although_the_next_audit_is_far_away(tmp_path: Path) -> None:
    async with open_bench(BinanceTrading, binance, tmp_path) as bench:
        await bench.connect()
        await bench.until_state(VenueState.CONNECTED)
        order = await bench.rests(95)
        bench.site.fault_garbage()  # has it look at every order, once: it is at rest after that
        await until(lambda: bench.asked("GET /api/v3/order?"), what="the last look")
        asked = bench.asked("GET /api/v3/order?")
        bench.site.fault_refuse_streams()
        bench.site.fault_drop("private")
        await bench.until_state(VenueState.INTERRUPTED)
        bench.show(90, 91)
        await bench.reaches(order, OrderStatus.FILLED, timeout_s=5.0)
        assert bench.asked("GET /api/v3/order?") > asked
