"""Orders at the door: their request is made ready while the journal writes, and leaves after it or never."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from koc_qt.domain.errors import HeldBack, StorageError, VenueRejected, VenueTimeout, VenueUnavailable
from koc_qt.domain.latency import Stage
from koc_qt.domain.orders import Order, OrderRejected, OrderStatus
from koc_qt.engine import order_intents, order_requests
from koc_qt.engine.order_intents import Intent
from koc_qt.ports.venue import DEPARTURE, depart
from tests.conditions import until
from tests.fakes.trading import NOW_NS, FakeTradingVenue, limit_buy, market_buy
from tests.unit.engine.test_orders import Desk

CANCELED, REJECTED, SUBMITTED = OrderStatus.CANCELED, OrderStatus.REJECTED, OrderStatus.SUBMITTED


class DoorVenue(FakeTradingVenue):
    """A venue whose requests wait at the door; `asked` has the orders that it was to take, sent or not."""

    def __init__(self) -> None:
        super().__init__()
        self.holds_at_door = True
        self.asked: list[str] = []

    async def submit(self, order: Order) -> None:
        """Note that a request is made ready."""
        self.asked.append(order.client_order_id)
        await super().submit(order)


class DoorDesk(Desk):
    """An order service on such a venue, whose journal holds what it is to write until `write`."""

    venue: DoorVenue

    def __init__(self) -> None:
        super().__init__(venue=DoorVenue())
        self.gate = self.journal.gate = asyncio.Event()

    def write(self) -> None:
        """Let the journal write."""
        self.gate.set()

    async def at_door(self) -> tuple[asyncio.Task[Order], str]:
        """Send an order, and wait until its intent is being written; gives its id."""
        named: list[str] = []
        sending = asyncio.create_task(self.orders.submit(market_buy(), "sma", "sim", named.append))
        await until(lambda: self.journal.waiting, what="an intent on its way to the journal")
        if self.venue.holds_at_door:
            await until(lambda: self.venue.asked, what="the request to be made ready")
        return sending, named[0]


@pytest.fixture
async def desk() -> AsyncIterator[DoorDesk]:
    desk = DoorDesk()
    await desk.venue.connect(desk.orders.receive)
    desk.orders.start()
    yield desk
    desk.journal.failing = ""
    desk.write()
    await desk.orders.close()


@pytest.fixture(params=[True, False], ids=["holds", "does not hold"])
async def any_desk(desk: DoorDesk, request: pytest.FixtureRequest) -> DoorDesk:
    desk.venue.holds_at_door = request.param
    return desk


async def test_a_request_is_ready_before_the_intent_is_durable_and_leaves_after_it(desk: DoorDesk) -> None:
    sending, key = await desk.at_door()
    assert (desk.venue.submitted, desk.store.order(key), desk.facts) == ([], None, [])
    assert [order.client_order_id for order in desk.orders.pending("sim")] == [key]
    desk.write()
    await sending
    assert (await desk.ends(key)).status is OrderStatus.FILLED
    assert [order.client_order_id for order in desk.venue.submitted] == [key]
    assert desk.statuses() == [SUBMITTED, OrderStatus.ACCEPTED, OrderStatus.FILLED]
    assert DEPARTURE.get() is None


async def test_a_venue_that_does_not_hold_at_the_door_is_asked_once_the_intent_is_durable(desk: DoorDesk) -> None:
    desk.venue.holds_at_door = False
    sending, key = await desk.at_door()
    assert desk.venue.asked == []
    desk.write()
    await sending
    assert desk.venue.asked == [key]


@pytest.mark.parametrize("what", ["kill switch", "hold"])
async def test_what_forbids_it_meanwhile_keeps_it_from_leaving(any_desk: DoorDesk, what: str) -> None:
    desk = any_desk
    sending, key = await desk.at_door()
    if what == "hold":
        desk.orders.hold("sim", "the account is being closed")
    else:
        desk.switch.engaged, desk.switch.reason = True, "panic"
    desk.write()
    await sending
    ended = await desk.ends(key)
    assert ended.status is REJECTED
    assert ("panic" if what == "kill switch" else "being closed") in ended.reason
    assert (desk.venue.submitted, desk.venue.looked_up) == ([], [])


async def test_what_the_journal_does_not_take_is_never_sent_and_was_no_order(any_desk: DoorDesk) -> None:
    desk = any_desk
    sending, key = await desk.at_door()
    desk.journal.failing = "disk full"
    desk.write()
    with pytest.raises(StorageError, match="disk full"):
        await sending
    desk.orders.receive(OrderRejected(key, NOW_NS, "a word that comes late"))
    assert (desk.venue.submitted, desk.store.order(key), desk.facts) == ([], None, [])
    assert not desk.orders.journal_ok
    desk.journal.failing = ""
    await desk.ends((await desk.orders.submit(market_buy(), "sma", "sim")).client_order_id)
    assert desk.orders.journal_ok


@pytest.mark.parametrize("fails", [False, True])
async def test_what_is_said_of_an_order_before_it_is_durable_waits_for_that(desk: DoorDesk, fails: bool) -> None:
    desk.venue.refuse_submit = VenueRejected("between two steps")
    sending, key = await desk.at_door()
    desk.venue.say(OrderRejected(key, NOW_NS, "said by a message"))
    assert desk.store.order(key) is None
    desk.journal.failing = "disk full" if fails else ""
    desk.write()
    if fails:
        with pytest.raises(StorageError, match="disk full"):
            await sending
        assert (desk.store.order(key), desk.facts) == (None, [])
    else:
        await sending
        assert (await desk.ends(key)).reason == "said by a message"
        assert desk.statuses() == [SUBMITTED, REJECTED]


async def test_a_refusal_waits_until_the_order_is_durable(desk: DoorDesk) -> None:
    desk.venue.refuse_submit = VenueUnavailable("breaker is open")
    sending, key = await desk.at_door()
    desk.write()
    await sending
    assert (await desk.ends(key)).reason == "breaker is open"
    assert desk.statuses() == [SUBMITTED, REJECTED]


async def test_a_request_that_waits_for_a_slow_disk_is_made_anew(
    desk: DoorDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_intents, "PATIENCE_S", 0.001)
    sending, key = await desk.at_door()
    await until(lambda: key not in desk.orders._requests, what="the request to be given up")
    assert desk.venue.asked == [key]
    desk.write()
    await sending
    assert (await desk.ends(key)).status is OrderStatus.FILLED
    assert (desk.venue.asked, len(desk.venue.submitted)) == ([key, key], 1)


async def test_a_disk_that_hangs_is_not_waited_for_for_ever_and_nothing_is_sent_when_it_goes_on(
    any_desk: DoorDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = any_desk
    monkeypatch.setattr(order_intents, "PATIENCE_S", 0.001)
    monkeypatch.setattr(order_intents, "WRITE_TIMEOUT_S", 0.01)
    sending, key = await desk.at_door()
    with pytest.raises(StorageError, match=f"does not take order {key}: nothing was sent"):
        await sending
    assert [order.client_order_id for order in desk.orders.pending("sim")] == [key]
    desk.write()
    await until(lambda: desk.store.order(key), what="the intent to be durable after all")
    assert (await desk.ends(key)).reason == "it was given up before it was sent"
    assert desk.venue.submitted == []


async def test_who_sends_is_stopped_while_the_request_is_at_the_door(any_desk: DoorDesk) -> None:
    desk = any_desk
    sending, key = await desk.at_door()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    desk.write()
    await until(lambda: desk.store.order(key), what="the intent to be durable")
    assert (await desk.ends(key)).status is REJECTED
    assert (desk.venue.submitted, desk.venue.looked_up) == ([], [])


async def test_the_end_waits_for_what_is_being_written(desk: DoorDesk) -> None:
    sending, key = await desk.at_door()
    sending.cancel()
    closing = asyncio.create_task(desk.orders.close())
    await asyncio.gather(sending, return_exceptions=True)
    assert not closing.done()
    desk.write()
    await closing
    assert desk.order(key).status is REJECTED
    assert desk.statuses() == [SUBMITTED, REJECTED]


async def test_an_order_that_is_cancelled_before_it_is_durable_never_leaves(any_desk: DoorDesk) -> None:
    desk = any_desk
    sending, key = await desk.at_door()
    await desk.orders.cancel(key)
    desk.write()
    await sending
    ended = await desk.ends(key)
    assert (ended.status, ended.reason) == (CANCELED, "it was cancelled before it was sent")
    assert (desk.venue.submitted, desk.venue.canceled) == ([], [])


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ZeroDivisionError("a bug"), marks=pytest.mark.expected_warnings("in a way nobody foresaw")),
        VenueTimeout("no answer"),
    ],
)
async def test_what_goes_wrong_before_the_door_has_sent_nothing(desk: DoorDesk, error: Exception) -> None:
    desk.venue.refuse_submit = error
    sending, key = await desk.at_door()
    desk.write()
    await sending
    ended = await desk.ends(key)
    assert ended.status is REJECTED
    assert ended.reason.startswith("it was not sent: ")
    assert desk.venue.looked_up == []


async def test_a_venue_that_is_silent_before_the_door_has_got_nothing(
    desk: DoorDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_requests, "SUBMIT_TIMEOUT_S", 0.01)
    desk.venue.hold = asyncio.Event()
    desk.write()
    order = await desk.orders.submit(market_buy(), "sma", "sim")
    assert "it was not sent: no answer" in (await desk.ends(order.client_order_id)).reason
    desk.venue.hold.set()
    assert (desk.venue.submitted, desk.venue.looked_up) == ([], [])


async def test_an_order_that_has_left_and_is_not_answered_is_looked_up(desk: DoorDesk) -> None:
    desk.venue.lose_answer = VenueTimeout("no answer")
    desk.write()
    order = await desk.orders.submit(market_buy(), "sma", "sim")
    assert (await desk.ends(order.client_order_id)).status is OrderStatus.FILLED
    assert desk.venue.looked_up == [order.client_order_id]


async def test_the_stages_of_an_order_are_told_in_their_order(desk: DoorDesk) -> None:
    sending, key = await desk.at_door()
    desk.clock.advance(0.004)
    desk.write()
    await sending
    await desk.ends(key)
    stages = {each.stage: each.p50_ms for each in desk.latencies.snapshot().stages}
    assert (stages[Stage.JOURNAL], stages[Stage.SENT]) == (4.0, 0.0)


async def test_who_left_may_leave_again_whatever_forbids_it_since() -> None:
    written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    written.set_result(None)
    forbidden, left = [""], list[str]()
    order = Order("o1", "sma", "sim", limit_buy(), created_ns=1, updated_ns=1)
    intent = Intent(order, written, lambda: forbidden[0], lambda: left.append("left"))
    intent.is_settled = True
    forbidden[0] = "not now"
    with pytest.raises(HeldBack, match="not now"):
        await intent.leave()
    forbidden[0] = ""
    await intent.leave()
    forbidden[0] = "too late"
    await intent.leave()
    assert (left, intent.withdraw("too late")) == (["left"], False)


async def test_what_has_no_departure_goes_at_once() -> None:
    await depart()
    assert DEPARTURE.get() is None
