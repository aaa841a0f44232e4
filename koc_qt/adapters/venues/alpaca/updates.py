"""Trade updates of the stream, told to the tracker: states, executions, and orders that take the place of others.

https://docs.alpaca.markets/docs/websocket-streaming lists the events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from koc_qt.adapters.ccxt_facts import MalformedError
from koc_qt.adapters.event_outbox import EventOutbox
from koc_qt.adapters.order_tracker import OrderTracker
from koc_qt.adapters.venues.alpaca import facts
from koc_qt.adapters.venues.alpaca.changes import OrderChanges
from koc_qt.adapters.venues.alpaca.errors import TITLE
from koc_qt.adapters.venues.alpaca.facts import Row
from koc_qt.adapters.venues.alpaca.family import Family
from koc_qt.adapters.venues.alpaca.lookups import OrderLookups
from koc_qt.domain.errors import InvalidOrder
from koc_qt.domain.orders import CancelRejected, OrderEvent

Update = Mapping[str, Any]


class UpdateReader:
    """Reads updates, and delivers what they tell. What cannot be read leads to asking for all open orders.

    Updates of an order that is `hold`ed wait for its release; `on_word` hears that there is one.
    """

    def __init__(
        self,
        tracker: OrderTracker,
        outbox: EventOutbox,
        family: Family,
        changes: OrderChanges,
        lookups: OrderLookups,
        time_ns: Callable[[], int],
        on_problem: Callable[[str, Exception], None],
    ) -> None:
        self._tracker = tracker
        self._outbox = outbox
        self._family = family
        self._changes = changes
        self._lookups = lookups
        self._time_ns = time_ns
        self._on_problem = on_problem
        self._held: dict[str, list[Update]] = {}
        self.on_word: Callable[[str], None] = lambda _: None

    def hold(self, key: str) -> None:
        """Tell nothing of an order: a call about it is under way."""
        self._held[key] = []

    def take_row(self, row: Row) -> list[OrderEvent]:
        """Take an order of a list, as it is now; gives what is to be told. Raises MalformedError."""
        key = self._key_of(row)
        is_replacement = self._changes.is_replacement(key, facts.venue_id(row))
        if not self._tracker.is_known(key) or is_replacement or not self._family.is_traced(row):
            return []
        return self._state("", row, key, {})

    def release(self, key: str) -> list[OrderEvent]:
        """Give what came meanwhile."""
        return [event for update in self._held.pop(key, ()) for event in self._read(update)]

    def take(self, update: Update) -> None:
        """Take an update."""
        told = update.get("order")
        key = self._key_of(told) if isinstance(told, Mapping) else ""
        if key in self._held:
            self._held[key].append(update)
            self.on_word(key)
        else:
            self._outbox.deliver(self._read(update))

    def _read(self, update: Update) -> list[OrderEvent]:
        events: list[OrderEvent] = []
        try:
            events = self._events(str(update.get("event") or ""), update["order"], update)
        except (MalformedError, InvalidOrder, KeyError, TypeError, AttributeError) as error:
            self._on_problem("orders", error)
            self._lookups.soon(everything=True)
        if self._tracker.missing():
            self._lookups.soon()
        return events

    def _key_of(self, told: Row) -> str:
        return self._family.key(str(told.get("id"))) or facts.our_id(told)

    def _events(self, event: str, told: Row, update: Update) -> list[OrderEvent]:
        order_id, key = facts.venue_id(told), self._key_of(told)
        if not self._tracker.is_known(key):
            return []
        if event == "order_cancel_rejected":
            return [CancelRejected(key, self._time_ns(), f"{TITLE} refused the cancel")]
        if event == "order_replace_rejected" or self._changes.is_replacement(key, order_id):
            self._lookups.soon(everything=True)
            is_refused = event in ("order_replace_rejected", "rejected")
            return self._changes.refused(key, order_id) if is_refused else []
        if not self._family.is_traced(told):
            self._lookups.soon(everything=True)  # it replaced one of which nothing was heard
            return []
        events = self._state(event, told, key, update)
        if event == "replaced":
            replaced = self._changes.replaced(key, told)
            if not replaced:
                self._lookups.soon(everything=True)
            events += replaced
        return events

    def _state(self, event: str, told: Row, key: str, update: Update) -> list[OrderEvent]:
        self._family.note(told, key)
        order_id, events = facts.venue_id(told), list[OrderEvent]()
        if event in ("fill", "partial_fill"):
            order = self._tracker.order(key)
            symbol = str(told.get("symbol")) if order is None else order.request.instrument.symbol
            makes_at = self._family.makes_at(order_id)
            events += self._tracker.trade(facts.execution(update, symbol, key, makes_at, order=told))
        state = facts.update(told, self._family.before(order_id), self._time_ns())
        return events + self._tracker.update(msgspec.structs.replace(state, client_order_id=key))
