"""Changes of orders on their way: at Alpaca another order replaces the one that is to change.

https://docs.alpaca.markets/reference/patchorderbyorderid-1. The answer promises nothing: the replacement is made or
refused later, and the old order may be filled meanwhile. The new order's quantity is its own, on top of what was
executed of the old one: what is executed while the change is on its way would make the whole too large, and is taken
off again by a second change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from decimal import Decimal
from typing import Any

import msgspec

from koc_qt.adapters.ccxt_facts import MalformedError
from koc_qt.adapters.event_outbox import EventOutbox
from koc_qt.adapters.order_tracker import OrderTracker
from koc_qt.adapters.venues.alpaca import facts
from koc_qt.adapters.venues.alpaca.errors import TITLE
from koc_qt.adapters.venues.alpaca.facts import Row
from koc_qt.adapters.venues.alpaca.family import Chain, Family
from koc_qt.adapters.venues.alpaca.requests_of import AlpacaRequests, get_row, row
from koc_qt.domain.errors import InvalidOrder, VenueError, VenueRejected, VenueTimeout
from koc_qt.domain.exact import EXACT
from koc_qt.domain.orders import AmendRejected, Order, OrderAmended, OrderEvent, OrderReport

ASK_S = 2.0  # a change of which nothing was heard for so long is asked about, while the stream is up
ASK_DOWN_S = 0.5  # and while it is down; then at twice the time each
LONGEST_S = 30.0
_REFUSED = f"{TITLE} did not make the change; the order is as it was"
_OVER = ("filled", "canceled", "expired", "rejected")

Learn = Callable[[Order], Awaitable[OrderReport | None]]


class Change(msgspec.Struct):
    """A change that was asked for: the order to be replaced, and the total quantity and limit that are wanted.

    `left` is what the new order is for; `new_id` is empty until the venue has answered.
    """

    old_id: str
    quantity: Decimal
    price: Decimal | None
    left: Decimal
    new_id: str = ""


class OrderChanges:
    """Asks for changes, and tells what became of them. At most one an order is on its way."""

    def __init__(
        self,
        requests: AlpacaRequests,
        tracker: OrderTracker,
        outbox: EventOutbox,
        family: Family,
        is_stream_up: Callable[[], bool],
        start: Callable[[Coroutine[Any, Any, Any], str], object],
        on_problem: Callable[[str, Exception], None],
    ) -> None:
        self._requests = requests
        self._tracker = tracker
        self._outbox = outbox
        self._family = family
        self._is_stream_up = is_stream_up
        self._start = start
        self._on_problem = on_problem
        self._changes: dict[str, Change] = {}
        self.learn: Learn  # looks an order up; set by whoever makes both
        self.cancel: Callable[[Order], Awaitable[None]]

    def is_on_its_way(self, key: str) -> bool:
        """Tell whether a change of an order was asked for and not heard of."""
        return key in self._changes

    async def ask(self, order: Order, old_id: str, quantity: Decimal, price: Decimal | None) -> list[OrderEvent]:
        """Ask for another total quantity and limit; gives what is to be told at once, of a refusal.

        Raises VenueUnavailable and VenueTimeout, VenueRejected where a change is on its way, InvalidOrder.
        """
        key = order.client_order_id
        if key in self._changes:
            raise VenueRejected(f"{TITLE} is still at the last change of order {key}; wait for it")
        body = {"client_order_id": facts.replacing_id(key, self._now_ns())}
        self._tracker.amending(key)
        change = self._changes[key] = Change(old_id, quantity, price, quantity - order.filled_quantity)
        if quantity != order.request.quantity or order.filled_quantity:
            body["qty"] = facts.plain(change.left)  # without it the whole quantity would be asked for anew
        if price is not None:
            body["limit_price"] = facts.plain(price)
        try:
            answer = await self._requests.order(
                f"the change of {key}", lambda client: row(client.patch(f"/orders/{old_id}", body))
            )
        except VenueRejected as error:
            return self._refuse(key, str(error))
        except VenueTimeout:
            self._start(self._watch(key, change), f"change of {key}")  # it may have been made
            raise
        except BaseException:
            self._changes.pop(key, None)
            raise
        change.new_id = str(answer.get("id") or "")
        if self._changes.get(key) is change:  # else the stream was faster
            self._start(self._watch(key, change), f"change of {key}")
        return []

    def replaced(self, key: str, old: Row) -> list[OrderEvent]:
        """Take that an order has ended by being replaced. Raises MalformedError.

        Gives nothing where the change was not ours: the order that replaced it has to be asked for.
        """
        new_id, change = str(old.get("replaced_by") or ""), self._changes.get(key)
        if not new_id or change is None or change.old_id != facts.venue_id(old):
            return []
        self._family.follows(old, new_id, key)
        total = EXACT.add(self._family.before(new_id), change.left)
        return self._became(OrderAmended(key, self._now_ns(), total, change.price, new_id))

    def found(self, order: Order, chain: Chain) -> list[OrderEvent]:
        """Take an order as it was looked up, with all that replaced it. Raises MalformedError."""
        key = order.client_order_id
        self._family.note_chain(chain, key)
        new_id, known_id = facts.venue_id(chain.last), self._tracker.venue_order_id(key)
        if len(chain.rows) == 1 or new_id == known_id:
            return []
        quantity, price = facts.terms(chain.last, chain.filled_before)
        if quantity is None:
            raise MalformedError("an order without a quantity replaced another")
        return self._became(OrderAmended(key, self._now_ns(), quantity, price, new_id))

    def refused(self, key: str, order_id: str) -> list[OrderEvent]:
        """Take that the venue refused to replace an order; nothing where that was not ours."""
        change = self._changes.get(key)
        return [] if change is None or order_id not in (change.old_id, change.new_id) else self._refuse(key, _REFUSED)

    def is_replacement(self, key: str, order_id: str) -> bool:
        """Tell whether that is the order which is to replace ours."""
        change = self._changes.get(key)
        return change is not None and change.new_id == order_id

    def _became(self, event: OrderAmended) -> list[OrderEvent]:
        key = event.client_order_id
        if event.venue_order_id == self._tracker.venue_order_id(key):
            return []
        change = self._changes.pop(key, None)
        if change is not None and event.quantity > change.quantity:
            self._start(self._lessen(key, change.quantity), f"lessen {key}")
        return list(self._tracker.amended(event))

    def _refuse(self, key: str, reason: str) -> list[OrderEvent]:
        self._changes.pop(key, None)
        return [*self._tracker.amend_over(key), AmendRejected(key, self._now_ns(), reason)]

    def _now_ns(self) -> int:
        return self._requests.venue_clock.time_ns()

    async def _watch(self, key: str, change: Change) -> None:
        """Ask what became of a change as long as nothing is heard of it."""
        pause_s = ASK_S if self._is_stream_up() else ASK_DOWN_S
        while True:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_S)
            if self._changes.get(key) is not change:
                return
            try:
                await self._resolve(key, change)
            except (VenueError, MalformedError, InvalidOrder) as error:
                self._on_problem("changes", error)

    async def _resolve(self, key: str, change: Change) -> None:
        order = self._tracker.order(key)
        if order is None:
            self._changes.pop(key, None)
            return
        await self.learn(order)  # tells it where the order was replaced
        if self._changes.get(key) is not change:
            return
        old = await self._requests.read(f"order {key}", get_row(f"/orders/{change.old_id}"))
        state = new_state = str(old.get("status"))
        if change.new_id:
            new = await self._requests.read(f"order {key}", get_row(f"/orders/{change.new_id}"))
            new_state = str(new.get("status"))
        lost = not change.new_id and state not in ("pending_replace", "replaced")
        if self._changes.get(key) is change and state != "replaced" and (lost or new_state in _OVER or state in _OVER):
            self._outbox.post(self._refuse(key, _REFUSED))

    async def _lessen(self, key: str, quantity: Decimal) -> None:
        """Bring an order down to the total that was asked for."""
        order = self._tracker.order(key)
        try:
            report = None if order is None else await self.learn(order)
            if order is None or report is None or report.status.is_terminal:
                return
            filled = sum((fill.quantity for fill in report.fills), Decimal(0))
            order = msgspec.structs.replace(self._tracker.order(key) or order, filled_quantity=filled)
            if filled >= quantity:
                await self.cancel(order)
            else:
                self._outbox.post(await self.ask(order, report.venue_order_id, quantity, report.price))
        except (VenueError, MalformedError, InvalidOrder) as error:
            self._on_problem("changes", error)  # the order is larger than asked for, and known to be
