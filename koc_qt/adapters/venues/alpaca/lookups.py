"""Asking Alpaca what became of orders, with those that replaced them and with their executions.

An order that was replaced has ended there, and the one in its place has an id, a client id and a filled quantity of its
own: here the chain of them is one order. Executions are account activities, which are listed by time alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from koc_qt.adapters.ccxt_errors import Trouble
from koc_qt.adapters.ccxt_facts import MalformedError
from koc_qt.adapters.event_outbox import EventOutbox
from koc_qt.adapters.order_tracker import OrderTracker, OrderUpdate, ending_of, fill_of
from koc_qt.adapters.venues.alpaca import facts
from koc_qt.adapters.venues.alpaca.errors import TITLE, trouble_of
from koc_qt.adapters.venues.alpaca.facts import Row
from koc_qt.adapters.venues.alpaca.family import Chain
from koc_qt.adapters.venues.alpaca.requests_of import AlpacaRequests, get_row, get_rows
from koc_qt.domain.errors import InvalidOrder, VenueError, VenueRejected, VenueUnavailable
from koc_qt.domain.exact import EXACT
from koc_qt.domain.orders import Order, OrderEvent, OrderReport, OrderStatus
from koc_qt.domain.venues import VenueTrade

POLL_S = 2.0  # open orders are asked for this often while the stream is down
AUDIT_S = 60.0  # and this often while it is up
GRACE_S = 0.2  # executions may be on their way still when a status counts them
EACH = 1  # up to so many open orders are asked for one by one, more by their list: 200 requests a minute are few
FILL_TRIES = 4  # an execution may be listed a moment later than it is counted
ACTIVITIES = 100  # a page
ORDERS = 500  # a page
_PAGES = 200  # more than a year of an active account; an end for a venue that gives the same page for ever
_CHAIN = 1_000  # orders that replaced one another
_MARGIN_NS = 1_000_000_000


class OrderLookups:
    """Looks orders up, and feeds tracker and outbox with what it finds.

    `is_stream_up` says whether the stream can be relied on. `on_chain` hears each order that was found, with those that
    replaced it, `on_row` each of the list of open orders; both give what is to be told. `on_problem` hears why asking
    failed.
    """

    def __init__(
        self,
        requests: AlpacaRequests,
        tracker: OrderTracker,
        outbox: EventOutbox,
        is_stream_up: Callable[[], bool],
        on_chain: Callable[[Order, Chain], list[OrderEvent]],
        on_problem: Callable[[str, Exception], None],
    ) -> None:
        self._requests = requests
        self._tracker = tracker
        self._outbox = outbox
        self._is_stream_up = is_stream_up
        self._on_chain = on_chain
        self._on_problem = on_problem
        self._on_row: Callable[[Row], list[OrderEvent]] = lambda _: []
        self._wake = asyncio.Event()
        self._look_at_all = False

    def listen(self, on_row: Callable[[Row], list[OrderEvent]]) -> None:
        """Let rows of the list of open orders be heard."""
        self._on_row = on_row

    def soon(self, *, everything: bool = False) -> None:
        """Look in a moment: at what is missing, or at every open order."""
        self._look_at_all = self._look_at_all or everything
        self._wake.set()

    async def run(self) -> None:
        """Look whenever that is due, until cancelled."""
        pause_s = 0.0
        while True:
            try:
                async with asyncio.timeout(AUDIT_S if self._is_stream_up() else POLL_S):
                    await self._wake.wait()
                await asyncio.sleep(max(GRACE_S, pause_s))
                everything = self._look_at_all
            except TimeoutError:
                everything = True
            self._wake.clear()
            self._look_at_all = False
            try:
                await self._round(everything=everything)
                pause_s = 0.0
            except (VenueError, MalformedError, InvalidOrder) as error:
                self._on_problem("polls", error)
                pause_s = min(max(2 * pause_s, POLL_S, getattr(error, "retry_after_s", None) or 0.0), AUDIT_S)
                self._look_at_all = self._look_at_all or everything
                self._wake.set()
            if self._tracker.missing():
                self._wake.set()

    async def _round(self, *, everything: bool) -> None:
        orders = self._tracker.open() if everything else self._tracker.missing()
        if len(orders) > EACH:
            orders = await self._changed(orders)
        for order in orders:
            await self.learn(order)

    async def _changed(self, orders: Sequence[Order]) -> list[Order]:
        """Take what the list of open orders says, and give those that it leaves open what became of."""
        working: set[str] = set()
        for row in await self.open_rows():
            self._outbox.post(self._on_row(row))
            working.add(facts.venue_id(row))
        missing = {order.client_order_id for order in self._tracker.missing()}
        keys = [(order, order.client_order_id) for order in orders]
        return [o for o, key in keys if key in missing or self._tracker.venue_order_id(key) not in working]

    async def learn(self, order: Order, *, insist: bool = False) -> OrderReport | None:
        """Look an order up with its executions, and take what that says. Raises VenueError, MalformedError.

        With `insist` also while the breaker would have the venue left alone.
        """
        key = order.client_order_id
        for attempt in range(FILL_TRIES):
            chain = await self._chain(order, insist=insist)
            if chain is None:
                return None
            update = facts.update(chain.last, chain.filled_before, self._requests.venue_clock.time_ns())
            trades = await self._executions(order, chain, insist=insist) if update.filled else []
            if _total(trades) >= (update.filled or 0):
                return self._take(order, msgspec.structs.replace(update, client_order_id=key), trades, chain)
            await asyncio.sleep(GRACE_S * 2**attempt)
        raise VenueUnavailable(f"{TITLE} does not list all executions of order {key} yet; it will be asked again")

    async def _chain(self, order: Order, *, insist: bool) -> Chain | None:
        """Follow an order to what it is now; None where Alpaca has never seen it."""
        key = order.client_order_id
        try:
            row = await self._requests.read(
                f"order {key}", get_row("/orders:by_client_order_id", {"client_order_id": key}), insist=insist
            )
            found = [row]
            while row.get("status") == "replaced" and row.get("replaced_by") and len(found) < _CHAIN:
                row = await self._requests.read(f"order {key}", get_row(f"/orders/{row['replaced_by']}"), insist=insist)
                found.append(row)
        except VenueRejected as error:
            if trouble_of(error) is Trouble.ABSENT:
                return None
            raise
        return Chain(tuple(found))

    async def _executions(self, order: Order, chain: Chain, *, insist: bool) -> list[VenueTrade]:
        began = chain.rows[0].get("submitted_at") or chain.rows[0].get("created_at")
        last = chain.last.get("updated_at") or chain.last.get("filled_at")
        until_ns = None if last is None else facts.time_ns(last) + 60 * _MARGIN_NS
        rows = await self.activities(facts.time_ns(began) - _MARGIN_NS, until_ns, insist=insist)
        makes_at = {facts.venue_id(row): facts.maker_price(row) for row in chain.rows}
        symbol, key = order.request.instrument.symbol, order.client_order_id
        return [
            facts.execution(row, symbol, key, makes_at[str(row.get("order_id"))])
            for row in rows
            if str(row.get("order_id")) in makes_at
        ]

    def _take(self, order: Order, update: OrderUpdate, trades: Sequence[VenueTrade], chain: Chain) -> OrderReport:
        """Say what was found, as events and as a report; who hears a thing twice ignores it."""
        key = order.client_order_id
        events: list[OrderEvent] = []
        for trade in trades:
            events += self._tracker.trade(trade)
        events += self._on_chain(order, chain)
        events += self._tracker.update(update)
        self._tracker.caught_up(key)
        self._outbox.post(events)
        quantity, price = facts.terms(chain.last, chain.filled_before)
        request = order.request
        if quantity is not None and quantity != request.quantity:
            request = msgspec.structs.replace(request, quantity=quantity)
        asked = self._tracker.is_cancel_asked(key)
        status, reason = ending_of(request, update, _total(trades), cancel_asked=asked)
        if status is OrderStatus.ACCEPTED:
            reason = update.reason
        return OrderReport(
            client_order_id=key,
            venue_order_id=update.venue_order_id,
            status=status,
            fills=tuple(fill_of(order, trade) for trade in trades),
            time_ns=update.time_ns,
            reason=reason,
            quantity=quantity,
            price=price,
        )

    # ---- lists ---------------------------------------------------------------------------------------------------

    async def open_rows(self) -> list[Row]:
        """Give every open order of the account, oldest first. Raises VenueError."""
        found: dict[str, Row] = {}
        after = ""
        for _ in range(_PAGES):
            asked: dict[str, Any] = {"status": "open", "limit": ORDERS, "direction": "asc", "nested": False}
            page = await self._requests.read(
                "the open orders", get_rows("/orders", {**asked, "after": after} if after else asked)
            )
            found |= {facts.venue_id(row): row for row in page}
            if len(page) < ORDERS:
                break
            after = str(page[-1].get("submitted_at"))
        return list(found.values())

    async def activities(self, since_ns: int, until_ns: int | None = None, *, insist: bool = False) -> list[Row]:
        """Give the account's executions since then, oldest first. Raises VenueError."""
        asked: dict[str, Any] = {
            "after": facts.rfc3339(since_ns - 1),  # what it names is left out
            "direction": "asc",
            "page_size": ACTIVITIES,
        }
        if until_ns is not None:
            asked["until"] = facts.rfc3339(until_ns)
        found: dict[str, Row] = {}
        for _ in range(_PAGES):
            page = await self._requests.read(
                "the executions", get_rows("/account/activities/FILL", dict(asked)), insist=insist
            )
            found |= {str(row.get("id")): row for row in page}
            if len(page) < ACTIVITIES:
                break
            asked["page_token"] = str(page[-1].get("id"))
        return list(found.values())


def _total(trades: Sequence[VenueTrade]) -> Decimal:
    total = Decimal(0)
    for trade in trades:
        total = EXACT.add(total, trade.quantity)
    return total
