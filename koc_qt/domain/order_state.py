"""The one state machine of an order: what each event makes of it.

Venues repeat events, send them out of order, and report fills after a cancel. So the rule is: what a venue says is
believed as long as it does not contradict what it proved before, nothing goes backwards, and what adds nothing gives
back the very same object.

- NEW -> SUBMITTED -> ACCEPTED -> TRIGGERED -> PARTIALLY_FILLED, each step may be left out; UNKNOWN resolves to any of
  them and to every ending.
- FILLED, CANCELED, EXPIRED and REJECTED are final, with two exceptions: a fill that was reported late counts, and one
  that completes the quantity makes the order FILLED; and what was called over short of its quantity works again when
  it is reinstated, for which its venue has to be asked first.
- An amendment gives a working order another total quantity and limit. While one that asks for more is on its way, the
  old quantity does not make the order FILLED, and a fill beyond it proves that the venue has made the change.
- InvalidTransition is for contradictions that somebody has to look at: they leave the order as it is.
"""

from __future__ import annotations

from decimal import Decimal
from typing import assert_never

import msgspec

from koc_qt.domain.errors import InvalidOrder, InvalidTransition
from koc_qt.domain.exact import add, multiply, quotient
from koc_qt.domain.orders import (
    AmendRejected,
    AmendRequested,
    CancelRejected,
    CancelRequested,
    Fill,
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
    OrderRequest,
    OrderStatus,
    OrderSubmitted,
    OrderTriggered,
    OrderType,
    OrderUnknown,
)

_UNHEARD = (OrderStatus.NEW, OrderStatus.SUBMITTED, OrderStatus.UNKNOWN)  # the venue has not spoken yet
_DEAD = (OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED)
_FILLED, _PARTIALLY_FILLED = OrderStatus.FILLED, OrderStatus.PARTIALLY_FILLED


def apply(order: Order, event: OrderEvent) -> Order:
    """Give the order after the event; the identical object where the event adds nothing.

    `updated_ns` never runs backwards. A fill whose id is known already is ignored, whatever else it says.
    Raises InvalidTransition where event and order contradict each other:

    - the event is for another order, or the fill for another instrument, side, strategy or account;
    - fills beyond the order's quantity;
    - a rejection of an order that has fills, or an acceptance or trigger of a rejected one;
    - an acceptance under a second venue order id;
    - a trigger of an order without a stop price;
    - an amendment below what is filled, to what no such order can be, or of an order that was rejected; and one to more
      of an order that is FILLED, for then the rest works at the venue;
    - submitting what is UNKNOWN or over: that could place it twice;
    - reinstating what is FILLED.
    """
    if event.client_order_id != order.client_order_id:
        _require_id("event", event.client_order_id, order)
    match event:
        case OrderFilled():
            return _filled(order, event)
        case OrderAccepted():
            return _accepted(order, event)
        case OrderSubmitted():
            return _submitted(order, event)
        case OrderUnknown():
            return _moved(order, event, OrderStatus.UNKNOWN, event.reason) if order.status in _UNHEARD else order
        case OrderTriggered():
            return _triggered(order, event)
        case OrderReinstated():
            return _reinstated(order, event)
        case OrderCanceled():
            return _ended(order, event, OrderStatus.CANCELED)
        case OrderExpired():
            return _ended(order, event, OrderStatus.EXPIRED)
        case OrderRejected():
            return _rejected(order, event)
        case CancelRequested():
            return _cancel_flag(order, event, requested=True, reason=order.reason)
        case CancelRejected():
            return _cancel_flag(order, event, requested=False, reason=event.reason)
        case AmendRequested():
            return _amend_requested(order, event)
        case OrderAmended():
            return _amended(order, event)
        case AmendRejected():
            return _amend_rejected(order, event)
        case _:
            assert_never(event)


def events_from_report(order: Order, report: OrderReport, time_ns: int) -> list[OrderEvent]:
    """Give the events that bring our order up to what the venue says of it, in the order to apply them.

    Another quantity or limit comes first, then missing fills, then the status; an empty list means that there is no
    news. `time_ns` becomes the time of every event (each fill keeps its own). Each event is sure to apply. Only fills
    that the report lists are counted: a report of FILLED with fills missing leaves the order open, so ask again. Raises
    InvalidTransition where the report contradicts the order, as `apply` does.
    """
    _require_id("report", report.client_order_id, order)
    news: list[OrderEvent] = []
    for event in _told(order, report, time_ns):
        after = apply(order, event)
        if after is not order:
            news.append(event)
            order = after
    return news


def _require_id(what: str, client_order_id: str, order: Order) -> None:
    if client_order_id != order.client_order_id:
        raise InvalidTransition(f"the {what} is of order {client_order_id}, not of {order.client_order_id}")


def _told(order: Order, report: OrderReport, time_ns: int) -> list[OrderEvent]:
    """Give all that a report says, known or not."""
    key = report.client_order_id
    told: list[OrderEvent] = []
    amended = _amendment(order, report, time_ns)
    if report.status is not OrderStatus.REJECTED and (report.venue_order_id or report.status not in _UNHEARD):
        # what was amended may have another id since
        known = order.venue_order_id if amended else ""
        told.append(OrderAccepted(key, time_ns, known or report.venue_order_id))
    if amended:
        told.append(amended)
    if report.status is OrderStatus.TRIGGERED:
        told.append(OrderTriggered(key, time_ns))
    told += [OrderFilled(key, time_ns, fill) for fill in sorted(report.fills, key=lambda fill: fill.time_ns)]
    if report.status is OrderStatus.CANCELED:
        told.append(OrderCanceled(key, time_ns, report.reason))
    elif report.status is OrderStatus.EXPIRED:
        told.append(OrderExpired(key, time_ns, report.reason))
    elif report.status is OrderStatus.REJECTED:
        told.append(OrderRejected(key, time_ns, report.reason))
    elif report.status is OrderStatus.FILLED and order.amending is not None and not amended:
        told.append(AmendRejected(key, time_ns, "it was filled before it could be changed"))
    return told


def _amendment(order: Order, report: OrderReport, time_ns: int) -> OrderAmended | None:
    """Give the change of quantity or limit that a report shows, None without one."""
    request = order.request
    quantity = request.quantity if report.quantity is None else report.quantity
    price = request.price if request.price is None or report.price is None else report.price
    if report.status is OrderStatus.REJECTED or (quantity, price) == (request.quantity, request.price):
        return None
    return OrderAmended(report.client_order_id, time_ns, quantity, price, report.venue_order_id)


def _moved(order: Order, event: OrderEvent, status: OrderStatus, reason: str = "") -> Order:
    if status is order.status:
        return order
    return msgspec.structs.replace(
        order,
        status=status,
        reason=reason,
        cancel_requested=order.cancel_requested and not status.is_terminal,
        amending=None if status.is_terminal else order.amending,
        updated_ns=max(order.updated_ns, event.time_ns),
    )


def _submitted(order: Order, event: OrderSubmitted) -> Order:
    if order.status is OrderStatus.UNKNOWN or order.status in _DEAD:
        raise InvalidTransition(f"order {order.client_order_id} is {order.status}: it must not be sent again")
    return _moved(order, event, OrderStatus.SUBMITTED) if order.status is OrderStatus.NEW else order


def _accepted(order: Order, event: OrderAccepted) -> Order:
    known, told = order.venue_order_id, event.venue_order_id
    if known and told and known != told:
        raise InvalidTransition(
            f"order {order.client_order_id} was accepted as {known} and again as {told}: it may be at the venue twice"
        )
    if order.status is OrderStatus.REJECTED and not known:
        raise InvalidTransition(
            f"order {order.client_order_id} was rejected, yet the venue accepted it{' as ' + told if told else ''}"
        )
    updated_ns = max(order.updated_ns, event.time_ns)
    if order.status in _UNHEARD:
        return msgspec.structs.replace(
            order,
            status=OrderStatus.ACCEPTED,
            venue_order_id=known or told,
            reason="",
            updated_ns=updated_ns,
        )
    if told and not known:
        return msgspec.structs.replace(order, venue_order_id=told, updated_ns=updated_ns)
    return order


def _triggered(order: Order, event: OrderTriggered) -> Order:
    if order.request.type not in (OrderType.STOP, OrderType.STOP_LIMIT):
        raise InvalidTransition(f"{order.request.type} order {order.client_order_id} has no stop price to trigger it")
    if order.status is OrderStatus.REJECTED:
        raise InvalidTransition(f"order {order.client_order_id} was rejected, yet the venue triggered it")
    if order.status in _UNHEARD or order.status is OrderStatus.ACCEPTED:
        return _moved(order, event, OrderStatus.TRIGGERED)
    return order


def _filled(order: Order, event: OrderFilled) -> Order:
    fill = event.fill
    if fill.fill_id in order.fill_ids:
        return order
    _require_same(order, fill)
    quantity = add(order.filled_quantity, fill.quantity)
    request, amending = order.request, order.amending
    if amending is not None and request.quantity < quantity <= amending.quantity:
        request, amending = amending, None
    if quantity > request.quantity:
        raise InvalidTransition(
            f"fill {fill.fill_id} of {fill.quantity} would fill {quantity} of order {order.client_order_id}, "
            f"which is for {request.quantity}"
        )
    notional = add(order.filled_notional, multiply(fill.price, fill.quantity))
    status = order.status
    if quantity == request.quantity and (amending is None or amending.quantity <= quantity):
        status = _FILLED
    elif not status.is_terminal:
        status = _PARTIALLY_FILLED
    is_over, updated_ns = status.is_terminal, order.updated_ns
    return Order(  # every field: replace() takes several times as long, and no event is as frequent
        order.client_order_id,
        order.strategy_id,
        order.account_id,
        request,
        order.created_ns,
        updated_ns if updated_ns > event.time_ns else event.time_ns,
        status,
        order.venue_order_id,
        quantity,
        quotient(notional, quantity),
        (*order.fill_ids, fill.fill_id),
        order.cancel_requested and not is_over,
        order.reason if status in _DEAD else "",
        notional,
        None if is_over else amending,
    )


def _require_same(order: Order, fill: Fill) -> None:
    request = order.request
    if (
        fill.client_order_id == order.client_order_id
        and fill.instrument == request.instrument
        and fill.side is request.side
        and fill.strategy_id == order.strategy_id
        and fill.account_id == order.account_id
    ):
        return
    told_all = (fill.client_order_id, fill.instrument, fill.side, fill.strategy_id, fill.account_id)
    ours_all = (order.client_order_id, request.instrument, request.side, order.strategy_id, order.account_id)
    names = ("order", "instrument", "side", "strategy", "account")
    pairs = zip(names, told_all, ours_all, strict=True)
    what, told, ours = next(pair for pair in pairs if pair[1] != pair[2])
    raise InvalidTransition(f"fill {fill.fill_id} is of {what} {told}, order {order.client_order_id} of {ours}")


def _ended(order: Order, event: OrderCanceled | OrderExpired, status: OrderStatus) -> Order:
    return order if order.status.is_terminal else _moved(order, event, status, event.reason)


def _rejected(order: Order, event: OrderRejected) -> Order:
    if order.filled_quantity and order.status is not OrderStatus.REJECTED:
        raise InvalidTransition(
            f"order {order.client_order_id} was rejected ({event.reason}), yet {order.filled_quantity} of it is filled"
        )
    return order if order.status.is_terminal else _moved(order, event, OrderStatus.REJECTED, event.reason)


def _reinstated(order: Order, event: OrderReinstated) -> Order:
    if order.status is OrderStatus.FILLED:
        raise InvalidTransition(f"order {order.client_order_id} is filled: there is nothing of it to reinstate")
    if order.is_open:
        return order
    status = OrderStatus.PARTIALLY_FILLED if order.filled_quantity else OrderStatus.ACCEPTED
    order = msgspec.structs.replace(order, venue_order_id=event.venue_order_id or order.venue_order_id)
    return _moved(order, event, status, event.reason)


def _cancel_flag(order: Order, event: CancelRequested | CancelRejected, *, requested: bool, reason: str) -> Order:
    if order.cancel_requested is requested or order.status.is_terminal:
        return order
    return msgspec.structs.replace(
        order, cancel_requested=requested, reason=reason, updated_ns=max(order.updated_ns, event.time_ns)
    )


def _amend_requested(order: Order, event: AmendRequested) -> Order:
    if order.status.is_terminal:
        return order
    amending = _changed(order, event.quantity, event.price)
    if amending == order.amending:
        return order
    return msgspec.structs.replace(order, amending=amending, updated_ns=max(order.updated_ns, event.time_ns))


def _amended(order: Order, event: OrderAmended) -> Order:
    key = order.client_order_id
    if order.status is OrderStatus.REJECTED and not order.venue_order_id:
        raise InvalidTransition(f"order {key} was rejected, yet the venue changed it")
    if order.status is OrderStatus.FILLED and event.quantity > order.filled_quantity:
        raise InvalidTransition(
            f"order {key} was filled with {order.filled_quantity}, yet the venue made it one for {event.quantity}: "
            "cancel the rest at the venue"
        )
    if order.status.is_terminal:
        return order
    request = _changed(order, event.quantity, event.price)
    venue_order_id = event.venue_order_id or order.venue_order_id
    if (request, venue_order_id, None) == (order.request, order.venue_order_id, order.amending):
        return order
    status = OrderStatus.ACCEPTED if order.status in _UNHEARD else order.status
    order = msgspec.structs.replace(order, request=request, venue_order_id=venue_order_id, status=status)
    return _settled(order, event, "")


def _amend_rejected(order: Order, event: AmendRejected) -> Order:
    if order.status.is_terminal or (order.amending is None and order.reason == event.reason):
        return order
    return _settled(order, event, event.reason)


def _settled(order: Order, event: OrderAmended | AmendRejected, reason: str) -> Order:
    """Give the order with no change on its way; it is over if nothing is left of the quantity that it has now."""
    is_filled = order.filled_quantity == order.request.quantity
    return msgspec.structs.replace(
        order,
        status=OrderStatus.FILLED if is_filled else order.status,
        amending=None,
        cancel_requested=order.cancel_requested and not is_filled,
        reason="" if is_filled else reason,
        updated_ns=max(order.updated_ns, event.time_ns),
    )


def _changed(order: Order, quantity: Decimal, price: Decimal | None) -> OrderRequest:
    """Give the request with another total quantity and limit. Raises InvalidTransition where it cannot have them."""
    if quantity < order.filled_quantity:
        raise InvalidTransition(
            f"order {order.client_order_id} was changed to {quantity}, yet {order.filled_quantity} of it is filled"
        )
    try:
        return msgspec.structs.replace(order.request, quantity=quantity, price=price)
    except InvalidOrder as error:
        raise InvalidTransition(f"order {order.client_order_id} cannot be changed to that: {error}") from error
