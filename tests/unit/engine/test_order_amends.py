"""Orders that are changed: what is checked and written first, and what becomes of changes that nobody answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import msgspec
import pytest

from koc_qt.domain.errors import InvalidOrder, RiskRefused, StorageError, VenueRejected, VenueTimeout, VenueUnavailable
from koc_qt.domain.orders import (
    AmendRejected,
    AmendRequested,
    CancelRequested,
    Order,
    OrderCanceled,
    OrderFilled,
    OrderReport,
    OrderStatus,
)
from koc_qt.domain.risk import RiskLimits
from koc_qt.engine import orders as orders_module
from koc_qt.engine.order_lookups import LOOKUPS_BEFORE_ABSENT
from koc_qt.ports.journal import OrderRecord
from tests.conditions import until
from tests.fakes.trading import BTC, NOW_NS, fill_of, limit_buy, market_buy
from tests.unit.engine.test_orders import Desk


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk(RiskLimits(max_position_notional=Decimal(1000)))
    await desk.venue.connect(desk.orders.receive)
    desk.orders.start()
    yield desk
    desk.journal.failing = ""
    desk.journal.gate = None
    await desk.orders.close()


async def works(desk: Desk, quantity: str = "1", price: str = "99") -> str:
    """Place a limit order that the venue has accepted; gives its id."""
    order = await desk.orders.submit(limit_buy(quantity, price), "sma", "sim")
    await desk.orders.settle()
    assert desk.order(order.client_order_id).status is OrderStatus.ACCEPTED
    return order.client_order_id


def told(desk: Desk, key: str) -> list[type]:
    return [
        type(record.event)
        for record in desk.journal.records
        if isinstance(record, OrderRecord) and record.order.client_order_id == key
    ]


async def test_an_order_is_changed_once_the_intent_is_durable(desk: Desk) -> None:
    key = await works(desk)
    desk.journal.gate = asyncio.Event()
    changing = asyncio.create_task(desk.orders.amend(key, Decimal(2), Decimal(98)))
    await until(lambda: desk.orders._amends, what="a change on its way to the journal")
    assert desk.venue.amended == []
    desk.journal.gate.set()
    changed = await changing
    assert (changed.request.quantity, changed.request.price) == (Decimal(2), Decimal(98))
    await desk.orders.settle()
    assert desk.order(key) == changed
    assert told(desk, key)[-2] is AmendRequested
    assert desk.venue.amended == [(key, Decimal(2), Decimal(98))]


async def test_what_is_not_given_stays_and_nothing_new_is_not_sent(desk: Desk) -> None:
    key = await works(desk)
    assert (await desk.orders.amend(key, quantity=Decimal(3))).request.price == 99
    assert (await desk.orders.amend(key, price=Decimal(97))).request.quantity == 3
    await desk.orders.amend(key, Decimal("3.0"), Decimal("97.00"))
    assert desk.venue.amended == [(key, Decimal(3), Decimal(99)), (key, Decimal(3), Decimal(97))]


async def test_what_cannot_be_changed_is_refused_with_the_reason(desk: Desk) -> None:
    with pytest.raises(InvalidOrder, match="there is no order 'nope'"):
        await desk.orders.amend("nope", Decimal(1))
    done = await desk.orders.submit(market_buy(), "sma", "sim")
    await desk.ends(done.client_order_id)
    with pytest.raises(InvalidOrder, match="is filled already and cannot be changed"):
        await desk.orders.amend(done.client_order_id, Decimal(1))
    key = await works(desk)
    with pytest.raises(InvalidOrder, match="price must be a number above zero"):
        await desk.orders.amend(key, price=Decimal(0))
    desk.venue.say(CancelRequested(key, NOW_NS))
    with pytest.raises(InvalidOrder, match=r"a cancel of order .* is on its way"):
        await desk.orders.amend(key, Decimal(2))
    for status, text in ((OrderStatus.SUBMITTED, "has not answered"), (OrderStatus.ACCEPTED, "is not connected")):
        elsewhere = Order("kocold", "sma", "elsewhere", limit_buy(), created_ns=1, updated_ns=1, status=status)
        desk.orders.restore([elsewhere])
        with pytest.raises(InvalidOrder, match=text):
            await desk.orders.amend("kocold", Decimal(2))
    assert desk.venue.amended == []


async def test_one_change_at_a_time(desk: Desk) -> None:
    key = await works(desk)
    desk.venue.hold = asyncio.Event()
    changing = asyncio.create_task(desk.orders.amend(key, Decimal(2)))
    await until(lambda: desk.venue.amended, what="the change to be sent")
    with pytest.raises(InvalidOrder, match=r"a change of order .* is on its way"):
        await desk.orders.amend(key, Decimal(3))
    desk.venue.hold.set()
    assert (await changing).request.quantity == 2


async def test_no_less_than_what_is_filled(desk: Desk) -> None:
    key = await works(desk)
    desk.venue.say(OrderFilled(key, NOW_NS, fill_of(desk.order(key), "0.4")))
    await desk.orders.settle()
    with pytest.raises(InvalidOrder, match=r"0\.4 of order .* is filled already: cancel the rest"):
        await desk.orders.amend(key, Decimal("0.4"))
    changed = await desk.orders.amend(key, Decimal("0.5"))
    assert (changed.status, changed.remaining) == (OrderStatus.PARTIALLY_FILLED, Decimal("0.1"))


async def test_the_risk_of_the_new_order_counts_in_place_of_the_old_one(desk: Desk) -> None:
    key = await works(desk, "6")
    desk.venue.say(OrderFilled(key, NOW_NS, fill_of(desk.order(key), "5")))
    await desk.orders.settle()
    other = await works(desk, "2")
    with pytest.raises(RiskRefused, match=r"the position would be 12 BTC"):
        await desk.orders.amend(key, Decimal(10))
    await desk.orders.amend(key, Decimal(8))
    await desk.orders.amend(key, Decimal(7))
    await desk.orders.settle()
    with pytest.raises(RiskRefused, match=r"more than 5\.00 % beyond the price"):
        await desk.orders.amend(other, price=Decimal(106))
    assert desk.ledger.position("sma", "sim", BTC).quantity == 5


async def test_a_change_to_more_counts_before_the_venue_has_made_it(desk: Desk) -> None:
    key = await works(desk)
    desk.venue.hold = asyncio.Event()
    changing = asyncio.create_task(desk.orders.amend(key, Decimal(9)))
    await until(lambda: desk.orders._amends or desk.venue.amended, what="the change to begin")
    with pytest.raises(RiskRefused, match="the position would be 11 BTC"):
        await desk.orders.submit(limit_buy("2"), "sma", "sim")
    desk.venue.hold.set()
    await changing


async def test_changes_count_as_orders_of_the_last_minute(desk: Desk) -> None:
    key = await works(desk)
    desk.orders._gate._limits = RiskLimits(max_orders_per_minute=2)
    await desk.orders.amend(key, Decimal(2))
    with pytest.raises(RiskRefused, match="2 orders were placed in the last minute"):
        await desk.orders.amend(key, Decimal(3))


@pytest.mark.parametrize("error", [VenueRejected("too late"), VenueUnavailable("no connection"), VenueRejected()])
async def test_what_was_certainly_not_changed_is_as_it_was(desk: Desk, error: Exception) -> None:
    key = await works(desk)
    desk.venue.refuse_amend = error
    order = await desk.orders.amend(key, Decimal(2))
    assert (order.request.quantity, order.amending) == (Decimal(1), None)
    assert order.reason == (str(error) or "VenueRejected")
    assert desk.venue.looked_up == []
    desk.venue.refuse_amend = None
    assert (await desk.orders.amend(key, Decimal(2))).reason == ""


@pytest.mark.expected_warnings("whether order .* was changed is not known .*: it is looked up")
@pytest.mark.parametrize("error", [VenueTimeout("no answer"), TimeoutError()])
async def test_a_change_that_nobody_answered_is_looked_up_and_found(desk: Desk, error: Exception) -> None:
    key = await works(desk)
    desk.venue.lose_answer = error
    assert (await desk.orders.amend(key, Decimal(2), Decimal(98))).amending is not None
    await until(lambda: desk.order(key).request.quantity == 2, what="the change to be found")
    assert (desk.order(key).request.price, desk.order(key).amending) == (Decimal(98), None)
    assert len(desk.venue.amended) == 1


@pytest.mark.expected_warnings("is not known", "failed in a way nobody foresaw")
async def test_a_change_that_was_never_made_is_given_up_after_some_lookups(desk: Desk) -> None:
    key = await works(desk)
    desk.venue.refuse_amend = ZeroDivisionError()
    await desk.orders.amend(key, Decimal(2))
    await until(lambda: desk.order(key).reason, what="the change to be given up")
    order = desk.order(key)
    assert (order.status, order.amending, order.reason) == (
        OrderStatus.ACCEPTED,
        None,
        "the venue never made this change",
    )
    assert len(desk.venue.looked_up) == LOOKUPS_BEFORE_ABSENT


async def test_nothing_is_concluded_while_a_change_is_being_sent(desk: Desk) -> None:
    key = await works(desk)
    desk.venue.hold = asyncio.Event()
    changing = asyncio.create_task(desk.orders.amend(key, Decimal(2)))
    await until(lambda: desk.venue.amended, what="the change to be sent")
    reconciling = asyncio.create_task(desk.orders.reconcile("sim"))
    await until(lambda: len(desk.orders._lookups), what="the lookup to begin")
    desk.venue.hold.set()
    await changing
    await reconciling
    assert desk.order(key).request.quantity == 2
    assert desk.order(key).reason == ""


async def test_nothing_is_concluded_while_an_order_is_being_sent(desk: Desk) -> None:
    desk.venue.hold = asyncio.Event()
    sending = asyncio.create_task(desk.orders.submit(limit_buy(), "sma", "sim"))
    await until(lambda: desk.store.open_orders(), what="the order to be sent")
    reconciling = asyncio.create_task(desk.orders.reconcile("sim"))
    await until(lambda: len(desk.orders._lookups), what="the lookup to begin")
    desk.venue.hold.set()
    order = await sending
    await reconciling
    assert desk.order(order.client_order_id).status is OrderStatus.ACCEPTED


async def test_a_report_from_before_a_change_is_not_believed(desk: Desk) -> None:
    key = await works(desk)
    old = OrderReport(key, f"v-{key}", OrderStatus.ACCEPTED, (), NOW_NS, quantity=Decimal(1), price=Decimal(99))
    asked, answers = asyncio.Event(), asyncio.Event()
    find_order = desk.venue.find_order

    async def slow(order: Order) -> OrderReport | None:
        if asked.is_set():
            return await find_order(order)
        asked.set()
        await answers.wait()
        return old

    desk.venue.find_order = slow  # type: ignore[method-assign]
    reconciling = asyncio.create_task(desk.orders.reconcile("sim"))
    await asked.wait()
    await desk.orders.amend(key, Decimal(2))
    answers.set()
    await reconciling
    assert desk.order(key).request.quantity == 2


async def test_a_change_that_was_on_its_way_in_a_crash_is_looked_up(desk: Desk) -> None:
    order = Order("kocold", "sma", "sim", limit_buy(), created_ns=1, updated_ns=1, status=OrderStatus.ACCEPTED)
    to = msgspec.structs.replace(order.request, quantity=Decimal(2))
    desk.orders.restore([msgspec.structs.replace(order, amending=to, venue_order_id="v1", cancel_requested=True)])
    desk.venue.reports["kocold"] = OrderReport("kocold", "v1", OrderStatus.ACCEPTED, (), NOW_NS, quantity=Decimal(2))
    await desk.orders.reconcile("sim")
    ended = await desk.ends("kocold")
    assert (ended.request, ended.status) == (to, OrderStatus.CANCELED)
    assert desk.venue.canceled == ["kocold"]


async def test_an_order_that_ends_before_the_change_is_sent_is_left_alone(desk: Desk) -> None:
    key = await works(desk)
    desk.journal.gate = asyncio.Event()
    changing = asyncio.create_task(desk.orders.amend(key, Decimal(2)))
    await until(lambda: desk.orders._amends, what="a change on its way to the journal")
    desk.venue.say(OrderCanceled(key, NOW_NS))
    desk.journal.gate.set()
    assert (await changing).status is OrderStatus.CANCELED
    assert desk.venue.amended == []


async def test_the_kill_switch_stops_a_change_that_is_being_written(desk: Desk) -> None:
    key = await works(desk)
    desk.journal.gate = asyncio.Event()
    changing = asyncio.create_task(desk.orders.amend(key, Decimal(2)))
    await until(lambda: desk.orders._amends, what="a change on its way to the journal")
    desk.journal.gate.set()
    await desk.switch.engage("enough")
    order = await changing
    assert (order.amending, desk.venue.amended) == (None, [])
    assert "enough" in order.reason
    with pytest.raises(RiskRefused, match="kill switch"):
        await desk.orders.amend(key, Decimal(2))


@pytest.mark.expected_warnings("wait for the journal")
async def test_a_change_that_the_journal_does_not_take_is_not_sent(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders_module, "SUBMIT_TIMEOUT_S", 0.01)
    monkeypatch.setattr(orders_module, "RETRY_JOURNAL_S", 0.001)
    key = await works(desk)
    desk.journal.failing = "disk full"
    with pytest.raises(StorageError, match=r"the journal does not take the change of order .*: nothing was sent"):
        await desk.orders.amend(key, Decimal(2))
    desk.journal.failing = ""
    await desk.orders.settle()
    assert told(desk, key)[-2:] == [AmendRequested, AmendRejected]
    assert (desk.order(key).request.quantity, desk.order(key).amending) == (Decimal(1), None)
    assert desk.venue.amended == []


async def test_a_change_that_is_given_up_before_it_was_sent_leaves_the_order(desk: Desk) -> None:
    key = await works(desk)
    desk.journal.gate = asyncio.Event()
    changing = asyncio.create_task(desk.orders.amend(key, Decimal(2)))
    await until(lambda: desk.orders._amends, what="a change on its way to the journal")
    changing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await changing
    desk.journal.gate.set()
    await desk.orders.settle()
    assert (desk.order(key).amending, desk.venue.amended) == (None, [])


@pytest.mark.expected_warnings("is not known")
async def test_a_change_that_is_given_up_while_it_is_sent_is_looked_up(desk: Desk) -> None:
    key = await works(desk)
    desk.venue.hold = asyncio.Event()
    changing = asyncio.create_task(desk.orders.amend(key, Decimal(2)))
    await until(lambda: desk.venue.amended, what="the change to be sent")
    changing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await changing
    await until(lambda: desk.order(key).amending is None, what="the outcome")
    assert len(desk.venue.looked_up) == LOOKUPS_BEFORE_ABSENT


async def test_an_order_that_is_cancelled_before_the_change_is_sent_is_not_changed(desk: Desk) -> None:
    key = await works(desk)
    desk.journal.gate = asyncio.Event()
    changing = asyncio.create_task(desk.orders.amend(key, Decimal(2)))
    await until(lambda: desk.orders._amends, what="a change on its way to the journal")
    desk.venue.say(CancelRequested(key, NOW_NS))
    desk.journal.gate.set()
    order = await changing
    assert (order.amending, order.reason, desk.venue.amended) == (None, "it is being cancelled", [])


@pytest.mark.parametrize("refused", [True, False])
async def test_a_cancel_that_meets_a_change_is_asked_again_after_it(desk: Desk, refused: bool) -> None:
    """Some venues put another order in the place of the changed one: a cancel of the old one comes to nothing."""
    key = await works(desk)
    desk.venue.hold = asyncio.Event()
    changing = asyncio.create_task(desk.orders.amend(key, Decimal(2)))
    await until(lambda: desk.venue.amended, what="the change to be sent")
    desk.venue.refuse_cancel = VenueRejected("there is another in its place") if refused else None
    await desk.orders.cancel(key)
    await desk.orders.settle()
    assert desk.order(key).is_open is refused
    desk.venue.refuse_cancel = None
    desk.venue.hold.set()
    await changing
    assert (await desk.ends(key)).status is OrderStatus.CANCELED
    assert not desk.orders._overtaken


async def test_a_cancel_that_meets_the_submit_is_asked_once(desk: Desk) -> None:
    desk.venue.hold = asyncio.Event()
    desk.venue.refuse_cancel = VenueRejected("unknown order")
    sending = asyncio.create_task(desk.orders.submit(limit_buy(), "sma", "sim"))
    await until(lambda: desk.store.open_orders(), what="the order to be sent")
    key = desk.store.open_orders()[0].client_order_id
    await desk.orders.cancel(key)
    desk.venue.hold.set()
    await sending
    desk.venue.refuse_cancel = None
    await desk.orders.settle()
    await desk.orders.amend(key, Decimal(2))
    await desk.orders.settle()
    assert (desk.order(key).is_open, desk.venue.canceled) == (True, [])


async def test_nothing_is_looked_up_after_the_end(desk: Desk) -> None:
    key = await works(desk)
    await desk.orders.close()
    await desk.orders.reconcile("sim")
    assert desk.venue.looked_up == []
    assert desk.order(key).is_open
