"""What a stop waits for: venues' words on the orders that are being cancelled."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from koc_qt.domain.orders import Order, OrderStatus
from koc_qt.engine.bus import Bus
from koc_qt.engine.owed_cancels import cancels_done
from koc_qt.engine.store import Store
from koc_qt.link.messages import OrderChanged
from tests.fakes.trading import NOW_NS, limit_buy

WORKING = Order("one", "sma", "sim", limit_buy(), status=OrderStatus.ACCEPTED, created_ns=NOW_NS, updated_ns=NOW_NS)
GOING = msgspec.structs.replace(WORKING, client_order_id="two", cancel_requested=True)


async def test_orders_that_are_being_cancelled_are_waited_for_and_no_others() -> None:
    store, bus = Store(), Bus()
    store.put_order(WORKING)
    await cancels_done(store, bus, 0.0)
    store.put_order(GOING)
    waiting = asyncio.create_task(cancels_done(store, bus, 30.0))
    for order in (WORKING, msgspec.structs.replace(GOING, status=OrderStatus.CANCELED)):
        await asyncio.sleep(0)
        assert not waiting.done()
        store.put_order(order)
        bus.publish(OrderChanged(order))
    await waiting


@pytest.mark.expected_warnings("1 orders were to be cancelled, and their venue has not said within 0.02 s")
async def test_a_venue_that_says_nothing_holds_no_stop_up() -> None:
    store = Store()
    store.put_order(GOING)
    await cancels_done(store, Bus(), 0.02)
