"""Makes consistent order events of what a venue says in pieces: repeated, out of order, by our id or by its own.

Pure: no I/O, no clock. An adapter tells it of every order before that is sent (`sending`), then all that it hears:
the submit's answer (`answered`, `refused`, `lost`), status updates (`update`), executions (`trade`), also those of
orders that were looked up. Each call gives the events that are due now, in the order in which to hand them over:

- OrderAccepted once, before anything else, and again with the venue's id where the first word told none; each fill
  once, by its id; OrderTriggered once.
- OrderCanceled, OrderExpired and OrderRejected once, and only after every fill that the venue counts in the order.
  Until those have come, the order is one of `missing`: ask the venue for its executions.
- What IOC, FOK and market orders leave unfilled has expired, unless a cancel was asked for.
- Nothing of an order before its submit has been answered, refused or lost: `released` gives what came meanwhile.

Words of which only the venue's id could be ours are held back while that of an order of ours is not known yet: at most
HELD_BACK of them, and none while every order of ours has one, for then they are somebody else's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from decimal import Decimal

import msgspec

from koc_qt.domain.exact import EXACT
from koc_qt.domain.orders import (
    Fill,
    Order,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderRequest,
    OrderStatus,
    OrderTriggered,
    OrderType,
    TimeInForce,
)
from koc_qt.domain.venues import VenueTrade

HELD_BACK = 1_000  # words; above it the oldest go, and orders that might have been meant are `missing`
REMEMBERED = 2_000  # ended orders, so that what is repeated of them is known as such

_ENDED = frozenset({OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED})
_UNHEARD = frozenset({OrderStatus.NEW, OrderStatus.SUBMITTED, OrderStatus.UNKNOWN})
_STOPS = (OrderType.STOP, OrderType.STOP_LIMIT)


class OrderUpdate(msgspec.Struct, frozen=True):
    """What a venue says of one order at `time_ns` (its clock, UTC). Ids are empty where it tells none.

    `status` is ACCEPTED, TRIGGERED, PARTIALLY_FILLED or a terminal one; FILLED is what the venue regards as done.
    `filled` is the quantity executed so far, None where it does not say: say it with every terminal status, for that is
    how missing fills are noticed.
    """

    status: OrderStatus
    time_ns: int
    client_order_id: str = ""
    venue_order_id: str = ""
    filled: Decimal | None = None
    reason: str = ""


def fill_of(order: Order, trade: VenueTrade) -> Fill:
    """Give an execution as a fill of our order. Raises InvalidOrder for one that is no fill."""
    return Fill(
        fill_id=trade.fill_id,
        client_order_id=order.client_order_id,
        strategy_id=order.strategy_id,
        account_id=order.account_id,
        instrument=order.request.instrument,
        side=order.request.side,
        price=trade.price,
        quantity=trade.quantity,
        fee=trade.fee,
        fee_currency=trade.fee_currency,
        liquidity=trade.liquidity,
        time_ns=trade.time_ns,
    )


def ending_of(
    request: OrderRequest, update: OrderUpdate, filled: Decimal, *, cancel_asked: bool
) -> tuple[OrderStatus, str]:
    """Give the status that an order of ours has after an update and `filled` of fills, and the reason.

    What a market order, IOC or FOK leaves unfilled has expired, unless a cancel was asked for; what the venue regards
    as done short of the quantity has expired as well; nothing that has fills was rejected.
    """
    status, reason = update.status, update.reason
    if filled >= request.quantity:
        return OrderStatus.FILLED, ""
    if status not in _ENDED:
        return (OrderStatus.PARTIALLY_FILLED, "") if filled else (status, reason)
    if status is OrderStatus.FILLED:
        return OrderStatus.EXPIRED, reason or f"the venue regards it as done at {filled} of {request.quantity}"
    if status is OrderStatus.REJECTED:
        return (OrderStatus.CANCELED, reason) if filled else (status, reason or "the venue gives no reason")
    at_once = request.type is OrderType.MARKET or request.time_in_force is not TimeInForce.GTC
    if status is OrderStatus.CANCELED and at_once and not cancel_asked:
        return OrderStatus.EXPIRED, reason
    return status, reason


class _Known:
    """An order of ours: what was heard of it, and what of that has been told."""

    def __init__(self, order: Order, dropped: int) -> None:
        self.order = order
        self.venue_order_id = ""
        self.in_flight = False
        self.is_amending = False
        self.old_ids: set[str] = set()  # of orders at the venue that an amendment replaced
        self.cancel_asked = order.cancel_requested
        self.accepted_ns: int | None = None
        self.accepted_told = order.status not in _UNHEARD
        self.told_id = order.venue_order_id
        self.triggered_ns: int | None = None
        self.triggered_told = order.status is OrderStatus.TRIGGERED
        self.fill_ids = set(order.fill_ids)
        self.fills: list[Fill] = []  # heard, not told
        self.filled = order.filled_quantity
        self.said_filled = order.filled_quantity
        self.ending: OrderUpdate | None = None
        self.ended_told = order.status in _ENDED
        self.dropped = dropped
        self.is_stale = False

    @property
    def key(self) -> str:
        return self.order.client_order_id

    @property
    def is_whole(self) -> bool:
        return self.filled >= self.order.request.quantity

    @property
    def is_over(self) -> bool:
        return self.ended_told or (self.is_whole and not self.fills)

    @property
    def is_missing_fills(self) -> bool:
        return self.filled < self.said_filled

    def hear(self, update: OrderUpdate) -> None:
        """Note a status; what is older than what is known adds nothing."""
        status = update.status
        if update.filled is not None:
            self.said_filled = max(self.said_filled, update.filled)
        elif status is OrderStatus.FILLED:
            self.said_filled = max(self.said_filled, self.order.request.quantity)
        if self.accepted_ns is None and status not in (OrderStatus.REJECTED, *_UNHEARD):
            self.accepted_ns = update.time_ns
        if status is OrderStatus.TRIGGERED and self.triggered_ns is None:
            self.triggered_ns = update.time_ns
        if status in _ENDED and self.ending is None and update.venue_order_id not in self.old_ids:
            self.ending = update

    def execute(self, trade: VenueTrade) -> None:
        """Note an execution. Raises InvalidOrder for one that is no fill."""
        if trade.fill_id in self.fill_ids:
            return
        fill = fill_of(self.order, trade)
        self.fill_ids.add(trade.fill_id)
        self.fills.append(fill)
        self.filled = EXACT.add(self.filled, trade.quantity)
        if self.accepted_ns is None:
            self.accepted_ns = trade.time_ns

    def news(self) -> list[OrderEvent]:
        """Give what can be told now, and take it as told."""
        if self.in_flight:
            return []
        told: list[OrderEvent] = []
        is_nameless = self.accepted_told and not self.told_id and bool(self.venue_order_id)
        if self.accepted_ns is not None and (not self.accepted_told or is_nameless):
            self.accepted_told, self.told_id = True, self.venue_order_id
            told.append(OrderAccepted(self.key, self.accepted_ns, self.venue_order_id))
        if self.triggered_ns is not None and not self.triggered_told and self.order.request.type in _STOPS:
            self.triggered_told = True
            told.append(OrderTriggered(self.key, self.triggered_ns))
        told += [OrderFilled(self.key, fill.time_ns, fill) for fill in self.fills]
        self.fills.clear()
        settled = not self.is_amending and not self.is_missing_fills
        if self.ending is not None and not self.ended_told and settled:
            self.ended_told = True
            if not self.is_whole:
                told.append(self._ended(self.ending))
        return told

    def _ended(self, ending: OrderUpdate) -> OrderEvent:
        status, reason = ending_of(self.order.request, ending, self.filled, cancel_asked=self.cancel_asked)
        if status is OrderStatus.REJECTED:
            return OrderRejected(self.key, ending.time_ns, reason)
        if status is OrderStatus.EXPIRED:
            return OrderExpired(self.key, ending.time_ns, reason)
        return OrderCanceled(self.key, ending.time_ns, reason)


class OrderTracker:
    """What is known of an account's orders; see the module for what it makes of it.

    `on_word` hears the client order id of every word that is about an order in flight: its venue has it.
    """

    def __init__(self, on_word: Callable[[str], None] | None = None) -> None:
        self._on_word = on_word
        self._known: dict[str, _Known] = {}
        self._by_venue_id: dict[str, str] = {}
        self._nameless: set[str] = set()  # not over, and the venue's id is not known
        self._early: deque[tuple[str, OrderUpdate | VenueTrade]] = deque()
        self._open: dict[str, _Known] = {}  # more is expected of them
        self._short: dict[str, _Known] = {}  # the venue counts more than it has told, or words of them went
        self._over: deque[str] = deque()
        self._dropped = 0

    # ---- our side ---------------------------------------------------------------------------------------------------

    def sending(self, order: Order) -> None:
        """Note an order that is about to be sent: nothing is told of it until `released`."""
        self.know(order)
        self._known[order.client_order_id].in_flight = True

    def know(self, order: Order) -> None:
        """Note an order of an earlier session, or its newest state: what the engine knows counts as told."""
        known = self._known.get(order.client_order_id)
        if known is None:
            known = self._known[order.client_order_id] = _Known(order, self._dropped)
            self._open[known.key] = known
            self._nameless.add(known.key)
        known.order = order
        known.cancel_asked = known.cancel_asked or order.cancel_requested
        if known.ended_told and order.status not in _ENDED:  # it was called over, and works after all
            known.ended_told, known.ending = False, None
            self._open[known.key] = known
            if not known.venue_order_id:
                self._nameless.add(known.key)
        self._name(known, order.venue_order_id)

    def cancelling(self, order: Order) -> None:
        """Note that a cancel is asked for: what ends now was cancelled, and has not expired."""
        self.know(order)
        self._known[order.client_order_id].cancel_asked = True

    def amending(self, client_order_id: str) -> None:
        """Note that a change is on its way: an end may be that of the order which the venue replaces."""
        known = self._known.get(client_order_id)
        if known is not None:
            known.is_amending = True

    def amended(self, event: OrderAmended) -> list[OrderEvent]:
        """Take the venue's answer to a change; fills may still come under the old id."""
        known = self._known.get(event.client_order_id)
        if known is None:
            return [event]
        request = msgspec.structs.replace(known.order.request, quantity=event.quantity, price=event.price)
        known.order = msgspec.structs.replace(known.order, request=request)
        if event.venue_order_id:
            old, known.venue_order_id = known.venue_order_id, event.venue_order_id
            known.old_ids.add(old)
            self._by_venue_id[event.venue_order_id] = known.key
            if known.ending is not None and known.ending.venue_order_id in known.old_ids:
                known.ending = None
        if not known.is_over:
            self._open[known.key] = known  # it had been filled up to its old quantity
        return [event, *self.amend_over(event.client_order_id)]

    def amend_over(self, client_order_id: str) -> list[OrderEvent]:
        """Give what was held back while a change was on its way: it was made, refused or lost."""
        known = self._known.get(client_order_id)
        if known is None:
            return []
        known.is_amending = False
        return self._news(known)

    def released(self, client_order_id: str) -> list[OrderEvent]:
        """Give what was heard of an order while it was in flight: its submit is over, however it ended."""
        known = self._known.get(client_order_id)
        if known is None:
            return []
        known.in_flight = False
        return self._news(known)

    def absent(self, client_order_id: str) -> None:
        """Expect no more of an order that the venue does not have; what it says of it all the same is told."""
        known = self._known.get(client_order_id)
        if known is not None:
            known.ended_told = True
            self._close(known)

    # ---- the venue's side -------------------------------------------------------------------------------------------

    def answered(self, client_order_id: str, venue_order_id: str, time_ns: int) -> list[OrderEvent]:
        """Take a submit's answer: the order was accepted as `venue_order_id`."""
        return self.update(OrderUpdate(OrderStatus.ACCEPTED, time_ns, client_order_id, venue_order_id))

    def refused(self, client_order_id: str, reason: str, time_ns: int) -> list[OrderEvent]:
        """Take a submit's refusal. It adds nothing where the venue spoke of the order as one that it has."""
        known = self._known.get(client_order_id)
        if known is None or known.accepted_ns is not None:
            return []
        return self.update(OrderUpdate(OrderStatus.REJECTED, time_ns, client_order_id, "", Decimal(0), reason))

    def update(self, update: OrderUpdate) -> list[OrderEvent]:
        """Take a status. Orders that are not ours give nothing."""
        known = self._whose(update.client_order_id, update.venue_order_id, update)
        if known is None:
            return []
        known.hear(update)
        return self._heard(known, update.venue_order_id)

    def trade(self, trade: VenueTrade) -> list[OrderEvent]:
        """Take an execution. Orders that are not ours give nothing. Raises InvalidOrder for one that is no fill."""
        known = self._whose(trade.client_order_id, trade.venue_order_id, trade)
        if known is None:
            return []
        known.execute(trade)
        return self._heard(known, trade.venue_order_id)

    # ---- what is known ----------------------------------------------------------------------------------------------

    def is_known(self, client_order_id: str) -> bool:
        """Tell whether it is an order of ours, as far as is remembered."""
        return client_order_id in self._known

    def is_accepted(self, client_order_id: str) -> bool:
        """Tell whether the venue has spoken of the order as one that it has."""
        known = self._known.get(client_order_id)
        return known is not None and (known.accepted_ns is not None or known.accepted_told)

    def is_cancel_asked(self, client_order_id: str) -> bool:
        """Tell whether a cancel was asked for."""
        known = self._known.get(client_order_id)
        return known is not None and known.cancel_asked

    def client_order_id(self, venue_order_id: str) -> str:
        """Give our id of the venue's order; empty where it is not ours."""
        return self._by_venue_id.get(venue_order_id, "")

    def venue_order_id(self, client_order_id: str) -> str:
        """Give the venue's id of our order; empty while it is not known."""
        known = self._known.get(client_order_id)
        return known.venue_order_id if known is not None else ""

    def order(self, client_order_id: str) -> Order | None:
        """Give the order as it was sent or last known to the engine."""
        known = self._known.get(client_order_id)
        return known.order if known is not None else None

    def symbols(self) -> list[str]:
        """Give the symbols of the orders that are remembered, each once."""
        return list(dict.fromkeys(known.order.request.instrument.symbol for known in self._known.values()))

    def open(self) -> list[Order]:
        """Give the orders of which more is expected, oldest first; those in flight are left out."""
        return [known.order for known in self._open.values() if not known.in_flight]

    def missing(self) -> list[Order]:
        """Give the orders whose executions are to be asked for: the venue counts more than it has told."""
        return [known.order for known in self._short.values()]

    def caught_up(self, client_order_id: str) -> None:
        """Note that an order's state and executions were just asked for and taken."""
        known = self._known.get(client_order_id)
        if known is not None:
            known.is_stale = False
            self._count(known)

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _count(self, known: _Known) -> None:
        """Keep the list of those that something is missing of."""
        if not known.in_flight and (known.is_missing_fills or known.is_stale):
            self._short[known.key] = known
        else:
            self._short.pop(known.key, None)

    def _whose(self, client_order_id: str, venue_order_id: str, word: OrderUpdate | VenueTrade) -> _Known | None:
        known = self._known.get(client_order_id) or self._known.get(self._by_venue_id.get(venue_order_id, ""))
        if known is None and venue_order_id and self._nameless:
            if len(self._early) >= HELD_BACK:
                self._early.popleft()
                self._dropped += 1
            self._early.append((venue_order_id, word))
        return known

    def _heard(self, known: _Known, venue_order_id: str) -> list[OrderEvent]:
        self._name(known, venue_order_id)
        if known.in_flight and self._on_word is not None and known.accepted_ns is not None:
            self._on_word(known.key)
        return self._news(known)

    def _name(self, known: _Known, venue_order_id: str) -> None:
        """Learn the venue's id, and with it whose the words are that were held back."""
        if not venue_order_id or known.venue_order_id:
            return
        self._nameless.discard(known.key)
        known.venue_order_id = venue_order_id
        self._by_venue_id[venue_order_id] = known.key
        known.is_stale = known.dropped != self._dropped
        meant = [word for named, word in self._early if named == venue_order_id]
        self._early = deque((n, w) for n, w in self._early if n != venue_order_id and self._nameless)
        for word in meant:
            known.hear(word) if isinstance(word, OrderUpdate) else known.execute(word)

    def _news(self, known: _Known) -> list[OrderEvent]:
        news = known.news()
        self._count(known)
        if known.is_over and not known.in_flight:
            self._close(known)
        return news

    def _close(self, known: _Known) -> None:
        """Remember an order of which no more is expected, for a while."""
        if self._open.pop(known.key, None) is None:
            return
        self._nameless.discard(known.key)
        if not self._nameless:
            self._early.clear()
        self._over.append(known.key)
        if len(self._over) > REMEMBERED and (oldest := self._over.popleft()) not in self._open:
            self._forget(oldest)

    def _forget(self, client_order_id: str) -> None:
        known = self._known.pop(client_order_id, None)
        if known is not None:
            self._short.pop(client_order_id, None)
            for venue_order_id in (known.venue_order_id, *known.old_ids):
                self._by_venue_id.pop(venue_order_id, None)
