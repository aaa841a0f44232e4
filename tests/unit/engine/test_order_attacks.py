"""What is done to orders at the worst moment: cancels that come before the venue knows an order, bugs in an adapter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from koc_qt.domain.errors import VenueRejected, VenueTimeout, VenueUnavailable
from koc_qt.domain.orders import Order, OrderReport, OrderStatus
from koc_qt.engine.order_lookups import LOOKUPS_BEFORE_ABSENT
from tests.conditions import until
from tests.fakes.trading import NOW_NS, FakeTradingVenue, limit_buy, market_buy
from tests.unit.engine.test_orders import Desk


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    await desk.venue.connect(desk.orders.receive)
    desk.orders.start()
    yield desk
    await desk.orders.close()


async def test_an_order_that_is_cancelled_before_it_has_arrived_does_not_stay(desk: Desk) -> None:
    desk.venue.hold = asyncio.Event()
    sending = asyncio.create_task(desk.orders.submit(limit_buy(), "sma", "sim"))
    await until(lambda: desk.store.open_orders(), what="the order to be sent")
    desk.venue.refuse_cancel = VenueRejected("unknown order")
    assert await desk.orders.cancel_all() == 1
    desk.venue.refuse_cancel = None
    desk.venue.hold.set()
    order = await sending
    assert (await desk.ends(order.client_order_id)).status is OrderStatus.CANCELED
    assert desk.venue.canceled == [order.client_order_id]


@pytest.mark.expected_warnings("could not be looked up")
async def test_an_order_that_is_cancelled_while_it_is_unknown_does_not_stay_when_it_is_found(desk: Desk) -> None:
    desk.venue.lose_answer = VenueTimeout("no answer")
    desk.venue.refuse_lookup = [VenueTimeout("not now")] * 3
    order = await desk.orders.submit(limit_buy(), "sma", "sim")
    desk.venue.refuse_cancel = VenueRejected("unknown order")
    await desk.orders.cancel(order.client_order_id)
    desk.venue.refuse_cancel = None
    assert (await desk.ends(order.client_order_id)).status is OrderStatus.CANCELED


async def test_a_cancel_that_came_too_early_is_forgotten_with_its_order(desk: Desk) -> None:
    desk.venue.hold = asyncio.Event()
    desk.venue.refuse_cancel = VenueRejected("unknown order")
    sending = asyncio.create_task(desk.orders.submit(limit_buy(), "sma", "sim"))
    await until(lambda: desk.store.open_orders(), what="the order to be sent")
    await desk.orders.cancel_all()
    desk.venue.refuse_submit = VenueRejected("too small")
    desk.venue.hold.set()
    order = await sending
    assert (await desk.ends(order.client_order_id)).status is OrderStatus.REJECTED
    assert desk.venue.canceled == []


@pytest.mark.expected_warnings("in a way nobody foresaw")
async def test_a_bug_while_an_order_is_looked_up_does_not_end_the_looking(desk: Desk) -> None:
    desk.venue.lose_answer = VenueTimeout("no answer")
    desk.venue.refuse_lookup = [KeyError("a bug in an adapter")]
    order = await desk.orders.submit(market_buy(), "sma", "sim")
    assert (await desk.ends(order.client_order_id)).status is OrderStatus.FILLED


@pytest.mark.expected_warnings("in a way nobody foresaw")
async def test_a_bug_while_an_order_is_cancelled_leaves_it_to_be_cancelled_again(desk: Desk) -> None:
    order = await desk.orders.submit(limit_buy(), "sma", "sim")
    desk.venue.refuse_cancel = ZeroDivisionError("a bug in an adapter")
    await desk.orders.cancel(order.client_order_id)
    await desk.orders.settle()
    working: Order = desk.order(order.client_order_id)
    assert (working.is_open, working.cancel_requested) == (True, False)
    assert "ZeroDivisionError" in working.reason
    desk.venue.refuse_cancel = None
    await desk.orders.cancel(order.client_order_id)
    assert (await desk.ends(order.client_order_id)).status is OrderStatus.CANCELED


async def test_what_should_have_ended_during_an_outage_ends_after_it(desk: Desk) -> None:
    attended = await desk.orders.submit(limit_buy(), "other", "sim")
    left = await desk.orders.submit(limit_buy(), "sma", "sim")
    desk.venue.refuse_cancel = VenueUnavailable("no network")
    assert await desk.orders.cancel_all("sma") == 1
    await desk.orders.cancel(attended.client_order_id)
    await desk.orders.settle()
    assert desk.order(left.client_order_id).is_open
    desk.venue.refuse_cancel = None
    await desk.orders.reconcile("sim")
    assert (await desk.ends(left.client_order_id)).status is OrderStatus.CANCELED
    await desk.orders.reconcile("sim")
    await desk.orders.settle()
    assert desk.order(attended.client_order_id).is_open, "whoever asked was told that it failed, and may want it now"
    assert desk.venue.canceled == [left.client_order_id]


class SlowVenue(FakeTradingVenue):
    """A venue behind a network on which orders may be on their way for seconds; its time is what a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.late_s, self.now_ns = 10.0, NOW_NS

    def time_ns(self) -> int:
        """Give the time."""
        return self.now_ns


@pytest.mark.parametrize("arrives", [True, False])
async def test_an_order_that_may_still_arrive_is_not_given_up(arrives: bool) -> None:
    desk = Desk(venue=SlowVenue())
    venue = desk.venue
    assert isinstance(venue, SlowVenue)
    await venue.connect(desk.orders.receive)
    desk.orders.start()
    venue.lose_answer = VenueTimeout("the connection broke off")
    order = await desk.orders.submit(limit_buy(), "sma", "sim")
    key = order.client_order_id
    report: OrderReport = venue.reports.pop(key)  # it is on its way
    venue.now_ns += 9_900_000_000
    await until(lambda: len(venue.looked_up) > 3 * LOOKUPS_BEFORE_ABSENT, what="many look-ups")
    assert desk.order(key).status is OrderStatus.UNKNOWN
    if arrives:
        venue.reports[key] = report
    venue.now_ns += 200_000_000
    ends = OrderStatus.ACCEPTED if arrives else OrderStatus.REJECTED
    await until(lambda: desk.order(key).status is ends, what=f"the order to be {ends}")
    await desk.orders.close()


async def test_an_order_from_the_future_of_our_own_market_is_given_up_like_any_other(desk: Desk) -> None:
    """A simulated market at another speed begins at another time: what was on its way in the old one never arrives."""
    ahead_ns = NOW_NS + 3_600_000_000_000
    order = Order(
        "o1", "sma", "sim", limit_buy(), created_ns=ahead_ns, updated_ns=ahead_ns, status=OrderStatus.SUBMITTED
    )
    desk.orders.restore([order])
    desk.venue.late_s = 0.0
    await desk.orders.reconcile("sim")
    assert (await desk.ends("o1")).status is OrderStatus.REJECTED
