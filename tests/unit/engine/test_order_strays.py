"""Orders that turn up at their venue after they were called over are counted, cancelled, and the person is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import msgspec
import pytest

from koc_qt.domain.errors import VenueRejected, VenueTimeout, VenueUnavailable
from koc_qt.domain.orders import (
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderReinstated,
    OrderReport,
    OrderStatus,
)
from koc_qt.domain.venues import VenueOrder
from koc_qt.engine.notices import NOTICES_KEPT, give_notice
from koc_qt.engine.order_lookups import LOOKUPS_BEFORE_ABSENT, OrdersListed
from koc_qt.link.messages import NoticeGiven
from koc_qt.ports.journal import OrderRecord
from tests.conditions import until
from tests.fakes.trading import NOW_NS, FakeTradingVenue, fill_of, limit_buy, market_buy
from tests.unit.engine.test_orders import Desk

ACCEPTED, CANCELED, FILLED, REJECTED = (
    OrderStatus.ACCEPTED,
    OrderStatus.CANCELED,
    OrderStatus.FILLED,
    OrderStatus.REJECTED,
)
LATER_NS = 60_000_000_000
pytestmark = pytest.mark.expected_warnings("order koc")


class Venue(FakeTradingVenue):
    """A venue that remembers what it has cancelled, and whose time is what a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = NOW_NS

    def time_ns(self) -> int:
        """Give the time."""
        return self.now_ns

    async def cancel(self, order: Order) -> None:
        """Cancel an order."""
        if self.hold is not None:
            await self.hold.wait()
        await super().cancel(order)
        key = order.client_order_id
        self.reports[key] = msgspec.structs.replace(self.reports[key], status=CANCELED)


class StrayDesk(Desk):
    """An order service on such a venue, and the notices that it gave."""

    venue: Venue

    def __init__(self) -> None:
        super().__init__(venue=Venue())
        self.notices: list[str] = []
        self.bus.subscribe(NoticeGiven, lambda fact: self.notices.append(fact.text))

    async def refused(self, order_type: str = "limit") -> Order:
        """Send an order that is refused."""
        self.venue.refuse_submit = VenueRejected("no funds")
        request = limit_buy() if order_type == "limit" else market_buy()
        order = await self.orders.submit(request, "sma", "sim")
        self.venue.refuse_submit = None
        return await self.ends(order.client_order_id)

    def found(self, order: Order, status: OrderStatus = ACCEPTED, *quantities: str) -> None:
        """Let the venue have an order after all."""
        key = order.client_order_id
        fills = tuple(fill_of(order, each, fill_id=f"f{number}") for number, each in enumerate(quantities))
        self.venue.reports[key] = OrderReport(key, f"v-{key}", status, fills, NOW_NS)

    def speaks(self, order: Order) -> None:
        """Let the venue speak of an order as one that it has."""
        self.venue.say(OrderAccepted(order.client_order_id, NOW_NS, f"v-{order.client_order_id}"))

    def lists(self, order: Order) -> None:
        """Let the venue list an order as one that works."""
        request = order.request
        listed = VenueOrder(
            f"v-{order.client_order_id}",
            order.client_order_id,
            request.instrument.symbol,
            request.side,
            request.type,
            request.quantity,
            Decimal(0),
            request.price,
            None,
            NOW_NS,
        )
        self.bus.publish(OrdersListed(order.account_id, (listed,)))

    async def is_settled(self) -> None:
        """Wait until nothing is looked up any more."""
        await until(lambda: not self.orders._lookups, what="the look-ups to end")
        await self.orders.settle()


@pytest.fixture
async def desk() -> AsyncIterator[StrayDesk]:
    desk = StrayDesk()
    await desk.venue.connect(desk.orders.receive)
    desk.orders.start()
    yield desk
    await desk.orders.close()


async def test_a_rejected_order_that_works_is_cancelled_and_said(desk: StrayDesk) -> None:
    order = await desk.refused()
    desk.found(order)
    desk.speaks(order)
    desk.speaks(order)
    await desk.is_settled()
    assert desk.order(order.client_order_id).status is CANCELED
    assert desk.venue.canceled == [order.client_order_id]
    assert desk.statuses()[-4:] == [REJECTED, ACCEPTED, ACCEPTED, CANCELED], "it counts as long as it works"
    [notice] = desk.notices
    assert notice.startswith(f"order {order.client_order_id} (buy 0.1 sim:BTC/USDT, account sim) works at its venue")
    assert notice.endswith("though it had been called rejected: no funds")
    assert desk.store.notices == [notice]
    events = [record.event for record in desk.journal.records if isinstance(record, OrderRecord)]
    reinstated = [event for event in events if isinstance(event, OrderReinstated)]
    assert len(reinstated) == 1, "the next engine knows of it"


async def test_what_a_stray_was_filled_with_is_in_the_positions(desk: StrayDesk) -> None:
    order = await desk.refused()
    desk.found(order, OrderStatus.PARTIALLY_FILLED, "0.03")
    desk.speaks(order)
    await desk.is_settled()
    now = desk.order(order.client_order_id)
    assert (now.status, now.filled_quantity) == (CANCELED, Decimal("0.03"))
    assert desk.ledger.position("sma", "sim", order.request.instrument).quantity == Decimal("0.03")
    assert "0.03 of it are in your positions now" in desk.notices[0]


async def test_a_rejected_order_that_was_executed_is_counted_and_said(desk: StrayDesk) -> None:
    order = await desk.refused("market")
    desk.found(order, FILLED, "0.1")
    desk.speaks(order)
    await desk.is_settled()
    assert desk.order(order.client_order_id).status is FILLED
    assert desk.ledger.position("sma", "sim", order.request.instrument).quantity == Decimal("0.1")
    assert "was executed at its venue, though it had been called rejected" in desk.notices[0]
    assert desk.venue.canceled == []


async def test_a_stray_is_asked_about_until_the_venue_answers_and_cancelled_until_it_is(desk: StrayDesk) -> None:
    order = await desk.refused()
    desk.found(order)
    desk.venue.refuse_lookup = [VenueTimeout("no answer"), VenueUnavailable("no network")]
    desk.venue.refuse_cancel = VenueUnavailable("no network")
    desk.speaks(order)
    await until(lambda: desk.order(order.client_order_id).is_open, what="the order to be reinstated")
    looked_up = len(desk.venue.looked_up)
    await until(lambda: len(desk.venue.looked_up) > looked_up + 2, what="more look-ups")
    desk.venue.refuse_cancel = None
    assert (await desk.ends(order.client_order_id)).status is CANCELED
    assert len(desk.notices) == 1


async def test_a_stray_that_vanishes_after_it_was_reinstated_has_ended(desk: StrayDesk) -> None:
    order = await desk.refused()
    desk.found(order)
    desk.venue.refuse_cancel = VenueRejected("unknown order")
    desk.speaks(order)
    await until(lambda: desk.order(order.client_order_id).is_open, what="the order to be reinstated")
    del desk.venue.reports[order.client_order_id]
    ended = await desk.ends(order.client_order_id)
    assert (ended.status, ended.reason) == (CANCELED, "the venue no longer knows this order")


async def test_a_word_that_nothing_bears_out_changes_nothing(desk: StrayDesk) -> None:
    order = await desk.refused()
    desk.speaks(order)
    await desk.is_settled()
    assert len(desk.venue.looked_up) == LOOKUPS_BEFORE_ABSENT
    desk.found(order, CANCELED)
    desk.speaks(order)
    await desk.is_settled()
    assert desk.order(order.client_order_id).status is REJECTED
    assert desk.notices == []


async def test_an_order_that_was_cancelled_and_is_listed_as_working_is_cancelled_again(desk: StrayDesk) -> None:
    order = await desk.orders.submit(limit_buy(), "sma", "sim")
    desk.venue.say(OrderCanceled(order.client_order_id, NOW_NS, "by the venue"))
    await desk.ends(order.client_order_id)
    desk.lists(order)
    await desk.is_settled()
    assert desk.venue.looked_up == [], "a list may be older than the cancel"
    desk.venue.now_ns += LATER_NS
    desk.lists(order)
    await desk.is_settled()
    assert desk.venue.canceled == [order.client_order_id]
    assert desk.order(order.client_order_id).status is CANCELED
    assert "though it had been called canceled: by the venue" in desk.notices[0]


async def test_fills_of_a_cancelled_order_that_nobody_told_are_counted(desk: StrayDesk) -> None:
    order = await desk.orders.submit(limit_buy(), "sma", "sim")
    desk.venue.say(OrderCanceled(order.client_order_id, NOW_NS))
    await desk.ends(order.client_order_id)
    desk.found(order, CANCELED, "0.04")
    desk.venue.now_ns += LATER_NS
    desk.lists(order)
    await desk.is_settled()
    now = desk.order(order.client_order_id)
    assert (now.status, now.filled_quantity) == (CANCELED, Decimal("0.04"))
    assert "0.04 of it are in your positions now" in desk.notices[0]


async def test_more_than_was_ordered_is_cancelled_and_said(desk: StrayDesk) -> None:
    order = await desk.orders.submit(market_buy(), "sma", "sim")
    await desk.ends(order.client_order_id)
    desk.found(order)
    desk.venue.now_ns += LATER_NS
    desk.lists(order)
    await desk.is_settled()
    assert desk.order(order.client_order_id).status is FILLED
    assert desk.venue.canceled == [order.client_order_id]
    assert "works at its venue and is being cancelled, though it had been called filled" in desk.notices[0]


async def test_orders_that_work_and_those_of_others_are_left_alone(desk: StrayDesk) -> None:
    working = await desk.orders.submit(limit_buy(), "sma", "sim")
    ended = await desk.refused()
    desk.venue.now_ns += LATER_NS
    desk.lists(working)
    desk.lists(msgspec.structs.replace(working, client_order_id="by-hand"))
    desk.lists(msgspec.structs.replace(ended, account_id="another"))
    desk.venue.say(OrderFilled(working.client_order_id, NOW_NS, fill_of(working, "5")))  # cannot be
    await desk.is_settled()
    assert desk.venue.looked_up == []
    assert desk.order(working.client_order_id).is_open


async def test_a_stray_is_not_asked_about_at_another_connection(desk: StrayDesk) -> None:
    order = await desk.refused()
    desk.found(order)
    desk.venue.refuse_lookup = [VenueTimeout("no answer")] * 1000
    desk.speaks(order)
    await until(lambda: desk.venue.looked_up, what="a look-up")
    del desk.orders._venues["sim"]  # type: ignore[attr-defined]
    await desk.is_settled()
    assert desk.order(order.client_order_id).status is REJECTED
    desk.speaks(order)
    await asyncio.sleep(0)
    assert not desk.orders._lookups


async def test_a_crash_while_a_stray_is_cancelled_leaves_nothing_behind(desk: StrayDesk) -> None:
    order = await desk.refused()
    desk.found(order)
    desk.venue.hold = asyncio.Event()
    desk.speaks(order)
    await until(lambda: desk.store.order(order.client_order_id).is_open, what="it to be reinstated")  # type: ignore[union-attr]
    newest = [record.order for record in desk.journal.records if isinstance(record, OrderRecord)][-1]
    after = StrayDesk()
    await after.venue.connect(after.orders.receive)
    after.orders.start()
    after.found(order)
    after.orders.restore([newest])
    await after.orders.reconcile("sim")
    assert (await after.ends(order.client_order_id)).status is CANCELED
    await after.orders.close()


def test_notices_are_kept_for_who_comes_later_the_newest_of_them(desk: StrayDesk) -> None:
    for number in range(NOTICES_KEPT + 5):
        give_notice(desk.store, desk.bus, f"order koc{number}")
    give_notice(desk.store, desk.bus, f"order koc{NOTICES_KEPT + 4}")
    assert len(desk.store.notices) == NOTICES_KEPT
    assert desk.store.notices[-1] == f"order koc{NOTICES_KEPT + 4}"
    assert len(desk.notices) == NOTICES_KEPT + 5
