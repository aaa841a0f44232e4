from __future__ import annotations

import msgspec
import pytest

from koc_qt.domain.errors import InvalidTransition
from koc_qt.domain.market import Side
from koc_qt.domain.order_state import apply, events_from_report
from koc_qt.domain.orders import (
    AmendRejected,
    AmendRequested,
    CancelRejected,
    CancelRequested,
    Order,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderReinstated,
    OrderRejected,
    OrderReport,
    OrderStatus,
    OrderSubmitted,
    OrderTriggered,
    OrderType,
    OrderUnknown,
)
from tests.unit.domain.examples import ETH, D, fill, filled, order, request

S = OrderStatus
SUBMITTED = OrderSubmitted("koc1", 2)
UNKNOWN = OrderUnknown("koc1", 3, "no answer")
ACCEPTED = OrderAccepted("koc1", 4, "v1")
TRIGGERED = OrderTriggered("koc1", 4)
REJECTED = OrderRejected("koc1", 6, "no funds")
CANCELED = OrderCanceled("koc1", 7, "asked to")
EXPIRED = OrderExpired("koc1", 7, "immediate or cancel")
REINSTATED = OrderReinstated("koc1", 8, "v1", "it works after all")
CANCEL_REQUESTED = CancelRequested("koc1", 6)
CANCEL_REJECTED = CancelRejected("koc1", 7, "too late")
AMEND_UP = AmendRequested("koc1", 6, D(20), D(99))
AMEND_DOWN = AmendRequested("koc1", 6, D(5), D(100))
AMENDED_UP = OrderAmended("koc1", 8, D(20), D(99))
AMENDED_DOWN = OrderAmended("koc1", 8, D(5), D(100))
AMEND_REJECTED = AmendRejected("koc1", 8, "too late to change it")
PART = filled("f1", "4")
REST = filled("f2", "6", "110")

STOP = request(type=OrderType.STOP, stop_price=D(90))


def after(*events: OrderEvent, start: Order | None = None) -> Order:
    now = start if start is not None else order()
    for event in events:
        now = apply(now, event)
    return now


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ([SUBMITTED], S.SUBMITTED),
        ([SUBMITTED, ACCEPTED], S.ACCEPTED),
        ([SUBMITTED, ACCEPTED, PART], S.PARTIALLY_FILLED),
        ([SUBMITTED, ACCEPTED, PART, REST], S.FILLED),
        ([SUBMITTED, REJECTED], S.REJECTED),
        ([SUBMITTED, ACCEPTED, REJECTED], S.REJECTED),  # brokers accept first and ask the exchange then
        ([SUBMITTED, ACCEPTED, CANCELED], S.CANCELED),
        ([SUBMITTED, ACCEPTED, PART, CANCELED], S.CANCELED),
        ([SUBMITTED, ACCEPTED, PART, EXPIRED], S.EXPIRED),
        ([SUBMITTED, UNKNOWN], S.UNKNOWN),
        ([UNKNOWN], S.UNKNOWN),
        ([SUBMITTED, UNKNOWN, ACCEPTED], S.ACCEPTED),
        ([SUBMITTED, UNKNOWN, PART], S.PARTIALLY_FILLED),
        ([SUBMITTED, UNKNOWN, REST, PART], S.FILLED),
        ([SUBMITTED, UNKNOWN, CANCELED], S.CANCELED),
        ([SUBMITTED, UNKNOWN, EXPIRED], S.EXPIRED),
        ([SUBMITTED, UNKNOWN, REJECTED], S.REJECTED),
        ([REJECTED], S.REJECTED),
        ([CANCELED], S.CANCELED),
        # out of order, or repeated
        ([SUBMITTED, PART, ACCEPTED], S.PARTIALLY_FILLED),
        ([SUBMITTED, PART, REST, ACCEPTED], S.FILLED),
        ([SUBMITTED, PART, UNKNOWN], S.PARTIALLY_FILLED),
        ([SUBMITTED, PART, REST, UNKNOWN], S.FILLED),
        ([ACCEPTED, SUBMITTED], S.ACCEPTED),
        ([PART, REST, SUBMITTED], S.FILLED),
        ([SUBMITTED, CANCELED, ACCEPTED], S.CANCELED),
        # late fills
        ([SUBMITTED, ACCEPTED, CANCELED, PART], S.CANCELED),
        ([SUBMITTED, ACCEPTED, CANCELED, PART, REST], S.FILLED),
        ([SUBMITTED, ACCEPTED, EXPIRED, PART], S.EXPIRED),
        ([SUBMITTED, REJECTED, PART], S.REJECTED),
        ([SUBMITTED, REJECTED, PART, REST], S.FILLED),
        # another ending adds nothing
        ([PART, REST, CANCELED], S.FILLED),
        ([PART, REST, EXPIRED], S.FILLED),
        ([CANCELED, EXPIRED], S.CANCELED),
        ([CANCELED, REJECTED], S.CANCELED),
        ([REJECTED, CANCELED], S.REJECTED),
        ([REJECTED, PART, REJECTED], S.REJECTED),
        # at the venue after all
        ([SUBMITTED, REJECTED, REINSTATED], S.ACCEPTED),
        ([SUBMITTED, REJECTED, PART, REINSTATED], S.PARTIALLY_FILLED),
        ([SUBMITTED, REJECTED, REINSTATED, PART, REST], S.FILLED),
        ([SUBMITTED, REJECTED, REINSTATED, ACCEPTED], S.ACCEPTED),
        ([SUBMITTED, REJECTED, REINSTATED, CANCEL_REQUESTED, CANCELED], S.CANCELED),
        ([SUBMITTED, ACCEPTED, CANCELED, REINSTATED], S.ACCEPTED),
        ([SUBMITTED, ACCEPTED, PART, EXPIRED, REINSTATED], S.PARTIALLY_FILLED),
        # changed
        ([ACCEPTED, AMEND_UP, AMENDED_UP], S.ACCEPTED),
        ([SUBMITTED, UNKNOWN, AMENDED_UP], S.ACCEPTED),
        ([ACCEPTED, AMEND_UP, AMENDED_UP, PART, REST], S.PARTIALLY_FILLED),
        ([ACCEPTED, AMENDED_DOWN, PART, filled("f2", "1")], S.FILLED),
        ([ACCEPTED, PART, OrderAmended("koc1", 8, D(4), D(100))], S.FILLED),
        ([ACCEPTED, PART, REST, AMEND_REJECTED], S.FILLED),
        ([ACCEPTED, PART, REST, AMEND_UP], S.FILLED),
        ([ACCEPTED, CANCELED, AMENDED_UP], S.CANCELED),
        ([ACCEPTED, REJECTED, AMENDED_UP], S.REJECTED),
        # filled as it was while the change was on its way
        ([ACCEPTED, AMEND_DOWN, PART, REST], S.FILLED),
        ([ACCEPTED, AMEND_UP, PART, REST], S.PARTIALLY_FILLED),
        ([ACCEPTED, AMEND_UP, PART, REST, AMEND_REJECTED], S.FILLED),
        ([ACCEPTED, AMEND_UP, PART, REST, AMENDED_UP], S.PARTIALLY_FILLED),
        ([ACCEPTED, AMEND_UP, PART, REST, OrderAmended("koc1", 8, D(10), D(99))], S.FILLED),
        ([ACCEPTED, AMEND_UP, PART, REST, filled("f3", "1")], S.PARTIALLY_FILLED),
        ([ACCEPTED, AMEND_UP, PART, REST, filled("f3", "10")], S.FILLED),
    ],
)
def test_the_path_of_an_order(events, status):
    assert after(*events).status is status


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ([SUBMITTED, ACCEPTED, TRIGGERED], S.TRIGGERED),
        ([SUBMITTED, TRIGGERED], S.TRIGGERED),
        ([SUBMITTED, TRIGGERED, ACCEPTED], S.TRIGGERED),
        ([SUBMITTED, TRIGGERED, PART, TRIGGERED], S.PARTIALLY_FILLED),
        ([SUBMITTED, TRIGGERED, CANCELED, TRIGGERED], S.CANCELED),
        ([SUBMITTED, TRIGGERED, REJECTED], S.REJECTED),
    ],
)
def test_the_path_of_a_stop_order(events, status):
    assert after(*events, start=order(request=STOP)).status is status


@pytest.mark.parametrize(
    ("before", "event"),
    [
        ([SUBMITTED], SUBMITTED),
        ([SUBMITTED, UNKNOWN], UNKNOWN),
        ([SUBMITTED, ACCEPTED], ACCEPTED),
        ([SUBMITTED, ACCEPTED], OrderAccepted("koc1", 9, "")),
        ([SUBMITTED, ACCEPTED], UNKNOWN),
        ([SUBMITTED, ACCEPTED, PART], PART),
        ([SUBMITTED, ACCEPTED, PART], filled("f1", "6", "999", time_ns=99)),  # known by its id alone
        ([SUBMITTED, ACCEPTED, PART, REST], PART),
        ([SUBMITTED, CANCELED], CANCELED),
        ([SUBMITTED, CANCELED, PART], PART),
        ([SUBMITTED, ACCEPTED, REJECTED], ACCEPTED),
        ([REJECTED], REJECTED),
        ([ACCEPTED], REINSTATED),
        ([ACCEPTED, CANCEL_REQUESTED], CANCEL_REQUESTED),
        ([ACCEPTED], CANCEL_REJECTED),
        ([ACCEPTED, PART, REST], CANCEL_REQUESTED),  # the fill won the race
        ([ACCEPTED, PART, REST], CANCEL_REJECTED),
        ([ACCEPTED, AMEND_UP], AMEND_UP),
        ([ACCEPTED, AMENDED_UP], AMENDED_UP),
        ([ACCEPTED], OrderAmended("koc1", 9, D("10.0"), D(100), "v1")),
        ([ACCEPTED, AMEND_REJECTED], AMEND_REJECTED),
        ([ACCEPTED, CANCELED], AMEND_UP),
        ([ACCEPTED, CANCELED], AMENDED_UP),
        ([ACCEPTED, CANCELED], AMEND_REJECTED),
        ([ACCEPTED, PART, REST], AMENDED_DOWN),
        ([ACCEPTED, AMEND_UP, filled("f1", "12")], AMENDED_UP),  # the fill has proved it
    ],
)
def test_what_adds_nothing_gives_the_identical_order(before, event):
    now = after(*before)
    assert apply(now, event) is now


@pytest.mark.parametrize(
    ("before", "event", "text"),
    [
        ([], OrderAccepted("koc2", 4, "v1"), "the event is of order koc2, not of koc1"),
        ([ACCEPTED, PART], filled("f9", "6.001"), "fill f9 of 6.001 would fill 10.001 of order koc1, which is for 10"),
        ([ACCEPTED, PART, REST], filled("f9", "0.1"), "would fill 10.1 of order koc1"),
        ([ACCEPTED, CANCELED, PART], filled("f9", "7"), "would fill 11 of order koc1"),
        ([ACCEPTED], filled("f9", client_order_id="koc2"), "fill f9 is of order koc2, order koc1 of koc1"),
        ([ACCEPTED], filled("f9", instrument=ETH), "is of instrument sim:ETH/USDT, order koc1 of sim:BTC/USDT"),
        ([ACCEPTED], filled("f9", side=Side.SELL), "is of side sell, order koc1 of buy"),
        ([ACCEPTED], filled("f9", strategy_id="x"), "is of strategy x, order koc1 of sma"),
        ([ACCEPTED], filled("f9", account_id="x"), "is of account x, order koc1 of paper"),
        ([ACCEPTED], OrderAccepted("koc1", 5, "v2"), "accepted as v1 and again as v2: it may be at the venue twice"),
        ([ACCEPTED, PART, REST], OrderAccepted("koc1", 5, "v2"), "it may be at the venue twice"),
        ([SUBMITTED, REJECTED], ACCEPTED, "was rejected, yet the venue accepted it as v1"),
        ([SUBMITTED, REJECTED], OrderAccepted("koc1", 5, ""), "was rejected, yet the venue accepted it$"),
        ([ACCEPTED, PART], REJECTED, r"was rejected \(no funds\), yet 4 of it is filled"),
        ([ACCEPTED, PART, REST], REJECTED, r"was rejected \(no funds\), yet 10 of it is filled"),
        ([ACCEPTED, PART, REST], REINSTATED, "koc1 is filled: there is nothing of it to reinstate"),
        ([SUBMITTED, UNKNOWN], SUBMITTED, "koc1 is unknown: it must not be sent again"),
        ([CANCELED], SUBMITTED, "koc1 is canceled: it must not be sent again"),
        ([REJECTED], SUBMITTED, "koc1 is rejected: it must not be sent again"),
        ([EXPIRED], SUBMITTED, "koc1 is expired: it must not be sent again"),
        ([ACCEPTED], TRIGGERED, "limit order koc1 has no stop price to trigger it"),
        ([ACCEPTED, PART], OrderAmended("koc1", 8, D(3), D(100)), "koc1 was changed to 3, yet 4 of it is filled"),
        ([ACCEPTED, PART], AmendRequested("koc1", 8, D(3), D(100)), "koc1 was changed to 3, yet 4 of it is filled"),
        (
            [ACCEPTED],
            OrderAmended("koc1", 8, D(9), None),
            "koc1 cannot be changed to that: a limit order needs a price",
        ),
        ([ACCEPTED], AmendRequested("koc1", 8, D(0), D(1)), "koc1 cannot be changed to that: quantity must be"),
        ([SUBMITTED, REJECTED], AMENDED_UP, "was rejected, yet the venue changed it"),
        ([ACCEPTED, PART, REST], AMENDED_UP, "was filled with 10, yet the venue made it one for 20: cancel the rest"),
        ([ACCEPTED, AMEND_UP, PART], filled("f9", "17"), "would fill 21 of order koc1, which is for 10"),
    ],
)
def test_contradictions_are_refused_with_a_sentence(before, event, text):
    now = after(*before)
    with pytest.raises(InvalidTransition, match=text):
        apply(now, event)


def test_a_rejected_stop_cannot_trigger():
    with pytest.raises(InvalidTransition, match="koc1 was rejected, yet the venue triggered it"):
        after(REJECTED, TRIGGERED, start=order(request=STOP))


def test_what_is_no_event_at_all_is_a_programming_error():
    with pytest.raises(AssertionError, match="OrderReport"):
        apply(order(), report(S.ACCEPTED))


def test_fills_add_up_exactly_and_the_average_is_weighted_by_quantity():
    done = after(SUBMITTED, ACCEPTED, PART, REST)
    assert done.filled_quantity == 10
    assert done.filled_notional == 4 * 100 + 6 * 110
    assert done.average_price == 106
    assert done.fill_ids == ("f1", "f2")
    assert done.remaining == 0


def test_the_average_is_rounded_once_at_the_end():
    thirds = [filled(str(n), "1", price) for n, price in enumerate(["1", "1", "2", "2", "3", "3", "1", "1", "1", "1"])]
    assert after(*thirds[:3]).average_price == D("1.333333333333333333333333333")
    assert after(*thirds).average_price == D("1.6")


def test_the_venue_s_id_is_kept_however_late_it_comes():
    assert after(SUBMITTED, ACCEPTED).venue_order_id == "v1"
    assert after(SUBMITTED, OrderAccepted("koc1", 4, ""), ACCEPTED).venue_order_id == "v1"
    assert after(SUBMITTED, PART, REST, ACCEPTED).venue_order_id == "v1"
    assert after(SUBMITTED, CANCELED, ACCEPTED).venue_order_id == "v1"


def test_a_cancel_is_pending_until_it_is_answered_or_the_order_is_over():
    pending = after(SUBMITTED, ACCEPTED, CANCEL_REQUESTED)
    assert pending.cancel_requested
    assert pending.status is S.ACCEPTED
    refused = after(CANCEL_REJECTED, start=pending)
    assert (refused.cancel_requested, refused.status, refused.reason) == (False, S.ACCEPTED, "too late")
    assert after(PART, start=pending).cancel_requested
    assert not after(PART, REST, start=pending).cancel_requested
    assert not after(CANCELED, start=pending).cancel_requested
    assert not after(REJECTED, start=pending).cancel_requested


def test_a_change_is_pending_until_it_is_answered_or_the_order_is_over():
    pending = after(SUBMITTED, ACCEPTED, CANCEL_REQUESTED, AMEND_UP)
    assert pending.amending == request(quantity="20", price="99")
    assert (pending.request, pending.updated_ns) == (request(quantity="10", price="100"), 6)
    refused = after(AMEND_REJECTED, start=pending)
    assert (refused.amending, refused.request, refused.reason) == (None, pending.request, "too late to change it")
    assert (refused.cancel_requested, refused.updated_ns, refused.status) == (True, 8, S.ACCEPTED)
    changed = after(AMENDED_UP, start=refused)
    assert (changed.amending, changed.request, changed.reason) == (None, request(quantity="20", price="99"), "")
    assert after(PART, start=pending).amending is not None
    for ending in (CANCELED, REJECTED, filled("f1", "20")):
        assert after(ending, start=pending).amending is None


def test_a_changed_order_keeps_what_was_filled_and_may_have_another_id():
    changed = after(ACCEPTED, PART, CANCEL_REQUESTED, OrderAmended("koc1", 8, D(6), D(101), "v2"))
    assert (changed.venue_order_id, changed.filled_quantity, changed.remaining) == ("v2", 4, 2)
    assert (changed.fill_ids, changed.updated_ns, changed.cancel_requested) == (("f1",), 8, True)
    assert not after(OrderAmended("koc1", 9, D(4), D(101)), start=changed).cancel_requested
    assert after(OrderAmended("koc1", 9, D(6), D(101), "v3"), start=changed).venue_order_id == "v3"


def test_a_stop_keeps_its_stop_price_when_its_quantity_changes():
    changed = after(ACCEPTED, OrderAmended("koc1", 8, D(3), None), start=order(request=STOP))
    assert (changed.request.quantity, changed.request.stop_price, changed.request.price) == (3, 90, None)


def test_a_reinstated_order_has_the_id_and_the_reason_of_its_finding():
    found = after(SUBMITTED, REJECTED, REINSTATED)
    assert (found.venue_order_id, found.reason, found.updated_ns) == ("v1", "it works after all", 8)
    assert after(ACCEPTED, CANCELED, OrderReinstated("koc1", 8, "", "")).venue_order_id == "v1"


def test_the_reason_is_that_of_the_present_status():
    assert after(SUBMITTED, UNKNOWN).reason == "no answer"
    assert after(SUBMITTED, UNKNOWN, ACCEPTED).reason == ""
    assert after(SUBMITTED, UNKNOWN, PART).reason == ""
    assert after(SUBMITTED, CANCELED, PART).reason == "asked to"
    assert after(SUBMITTED, CANCELED, PART, REST).reason == ""


def test_the_time_of_the_last_change_never_runs_backwards():
    assert after(SUBMITTED, CANCELED).updated_ns == 7
    assert after(SUBMITTED, CANCELED, PART).updated_ns == 7
    assert after(SUBMITTED, CANCELED, ACCEPTED).updated_ns == 7
    assert after(CANCEL_REQUESTED, ACCEPTED, SUBMITTED).updated_ns == 6


# ---- reports -------------------------------------------------------------------------------------------------------


def report(status: OrderStatus, *fills: str, venue_order_id: str = "v1", reason: str = "") -> OrderReport:
    made = tuple(fill(f"f{n}", quantity, time_ns=n) for n, quantity in enumerate(fills, 1))
    return OrderReport("koc1", venue_order_id, status, tuple(reversed(made)), time_ns=50, reason=reason)


def told(
    status: OrderStatus, *fills: str, before: tuple[OrderEvent, ...] = (SUBMITTED, UNKNOWN), **fields: str
) -> Order:
    now = after(*before)
    return after(*events_from_report(now, report(status, *fills, **fields), 60), start=now)


@pytest.mark.parametrize(
    ("status", "fills", "outcome"),
    [
        (S.ACCEPTED, [], S.ACCEPTED),
        (S.PARTIALLY_FILLED, ["4"], S.PARTIALLY_FILLED),
        (S.FILLED, ["4", "6"], S.FILLED),
        (S.CANCELED, ["4"], S.CANCELED),
        (S.CANCELED, ["4", "6"], S.FILLED),
        (S.EXPIRED, [], S.EXPIRED),
        (S.REJECTED, [], S.REJECTED),
        (S.NEW, [], S.ACCEPTED),  # it has an id of the venue's
        (S.FILLED, ["4"], S.PARTIALLY_FILLED),  # a fill is missing: the order stays open
        (S.FILLED, [], S.ACCEPTED),
    ],
)
def test_a_report_resolves_an_unknown_order(status, fills, outcome):
    now = told(status, *fills)
    assert now.status is outcome
    assert now.fill_ids == tuple(f"f{n}" for n in range(1, len(fills) + 1))
    assert now.updated_ns == 60
    assert events_from_report(now, report(status, *fills), 61) == []


def test_a_report_brings_only_what_is_missing():
    now = after(SUBMITTED, ACCEPTED, PART)
    (missing,) = events_from_report(now, report(S.PARTIALLY_FILLED, "4", "5"), 60)
    assert missing == OrderFilled("koc1", 60, fill("f2", "5", time_ns=2))


def test_a_report_from_before_the_venue_knows_is_no_news():
    now = after(SUBMITTED, UNKNOWN)
    assert events_from_report(now, report(S.UNKNOWN, venue_order_id=""), 60) == []
    assert events_from_report(now, report(S.SUBMITTED, venue_order_id=""), 60) == []


def test_a_report_keeps_the_venue_s_reason():
    assert told(S.REJECTED, reason="no funds").reason == "no funds"
    assert told(S.CANCELED, reason="by the venue").reason == "by the venue"
    assert told(S.EXPIRED, reason="fill or kill").reason == "fill or kill"


def test_a_report_triggers_a_stop_once():
    now = after(SUBMITTED, UNKNOWN, start=order(request=STOP))
    events = events_from_report(now, report(S.TRIGGERED), 60)
    assert events == [OrderAccepted("koc1", 60, "v1"), OrderTriggered("koc1", 60)]
    assert events_from_report(after(*events, start=now), report(S.TRIGGERED), 61) == []


def amended_report(status: OrderStatus, quantity: str, *fills: str, venue_order_id: str = "v1") -> OrderReport:
    said = report(status, *fills, venue_order_id=venue_order_id)
    return msgspec.structs.replace(said, quantity=D(quantity), price=D(99))


def test_a_report_tells_of_a_change_before_the_fills_that_follow_from_it():
    now = after(SUBMITTED, ACCEPTED, AMEND_UP)
    said = amended_report(S.PARTIALLY_FILLED, "20", "4", "9", venue_order_id="v2")
    first, *fills = events_from_report(now, said, 60)
    assert first == OrderAmended("koc1", 60, D(20), D(99), "v2")
    changed = after(first, *fills, start=now)
    assert (changed.status, changed.remaining, changed.venue_order_id) == (S.PARTIALLY_FILLED, 7, "v2")
    assert changed.amending is None
    assert events_from_report(changed, said, 61) == []


def test_a_report_changes_an_order_whose_acceptance_was_never_heard():
    now = after(SUBMITTED, UNKNOWN)
    events = events_from_report(now, amended_report(S.ACCEPTED, "20"), 60)
    assert events == [OrderAccepted("koc1", 60, "v1"), OrderAmended("koc1", 60, D(20), D(99), "v1")]


def test_a_report_that_says_the_same_or_nothing_of_the_quantity_changes_nothing():
    now = after(SUBMITTED, ACCEPTED, AMEND_UP)
    assert events_from_report(now, report(S.ACCEPTED), 60) == []
    same = msgspec.structs.replace(report(S.ACCEPTED), quantity=D("10.00"), price=D(100))
    assert events_from_report(now, same, 60) == []
    stop = after(SUBMITTED, ACCEPTED, start=order(request=STOP))
    assert events_from_report(stop, msgspec.structs.replace(same, price=D(95)), 60) == []  # it has no limit
    with pytest.raises(InvalidTransition, match="twice"):
        events_from_report(now, msgspec.structs.replace(same, venue_order_id="v2"), 60)


def test_a_report_of_the_end_ends_the_change_as_well():
    now = after(SUBMITTED, ACCEPTED, AMEND_UP, PART)
    filled_as_it_was = after(*events_from_report(now, report(S.FILLED, "4", "6"), 60), start=now)
    assert (filled_as_it_was.status, filled_as_it_was.amending) == (S.FILLED, None)
    changed = after(*events_from_report(now, amended_report(S.FILLED, "20", "4", "16"), 60), start=now)
    assert (changed.status, changed.filled_quantity) == (S.FILLED, 20)
    assert after(*events_from_report(now, report(S.CANCELED, "4"), 60), start=now).amending is None
    unsent = after(SUBMITTED)
    assert events_from_report(unsent, amended_report(S.REJECTED, "20"), 60) == [OrderRejected("koc1", 60, "")]


def test_a_report_that_lags_behind_changes_nothing():
    now = after(SUBMITTED, ACCEPTED, PART, CANCELED)
    assert events_from_report(now, report(S.ACCEPTED), 60) == []


@pytest.mark.parametrize(
    ("before", "said", "text"),
    [
        ((SUBMITTED, REJECTED), report(S.ACCEPTED), "was rejected, yet the venue accepted it as v1"),
        ((ACCEPTED, PART), report(S.REJECTED), "yet 4 of it is filled"),
        ((ACCEPTED,), report(S.ACCEPTED, venue_order_id="v2"), "it may be at the venue twice"),
        ((), OrderReport("koc2", "", S.ACCEPTED, (), 0), "the report is of order koc2, not of koc1"),
    ],
)
def test_a_report_that_contradicts_the_order_is_refused(before, said, text):
    with pytest.raises(InvalidTransition, match=text):
        events_from_report(after(*before), said, 60)
