"""Asking a venue what became of orders: one that the engine asks for, and those of which streams left something out.

Orders whose status counts more than the executions that came are looked up a moment later. While the private streams
are down every open order is polled; while they are up a slow audit goes on, so that nothing lost stays unknown.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal

from loguru import logger

from koc_qt.adapters import ccxt_order_facts as facts
from koc_qt.adapters.ccxt_account import AccountClient
from koc_qt.adapters.ccxt_dialect import CcxtDialect, Raw
from koc_qt.adapters.ccxt_facts import MalformedError
from koc_qt.adapters.event_outbox import EventOutbox
from koc_qt.adapters.order_tracker import OrderTracker, OrderUpdate, ending_of, fill_of
from koc_qt.domain.errors import InvalidOrder, VenueError, VenueUnavailable
from koc_qt.domain.orders import Order, OrderEvent, OrderReport
from koc_qt.domain.venues import VenueTrade

AUDIT_S = 60.0  # open orders are asked for this often while the streams are up
ABSENCES = 20  # an order that was not found so often is not looked for any more
FILL_TRIES = 4
FILL_PAUSE_S = 0.2  # then twice as long; a venue may list an execution a moment later than it counts it


class OrderLookups:
    """Looks orders up, and feeds the tracker and the outbox with what it finds.

    `are_streams_up` says whether the streams can be relied on; `on_problem` hears why a round of asking failed.
    """

    def __init__(
        self,
        dialect: CcxtDialect,
        account: AccountClient,
        tracker: OrderTracker,
        outbox: EventOutbox,
        are_streams_up: Callable[[], bool],
        on_problem: Callable[[str, Exception], None],
    ) -> None:
        self._dialect = dialect
        self._account = account
        self._tracker = tracker
        self._outbox = outbox
        self._are_streams_up = are_streams_up
        self._on_problem = on_problem
        self._wake = asyncio.Event()
        self._look_at_all = False
        self._absences: Counter[str] = Counter()

    def soon(self, *, everything: bool = False) -> None:
        """Look in a moment: at what is missing, or at every open order."""
        self._look_at_all = self._look_at_all or everything
        self._wake.set()

    async def run(self) -> None:
        """Look whenever that is due, until cancelled."""
        pause_s = self._dialect.GRACE_S
        while True:
            try:
                async with asyncio.timeout(AUDIT_S if self._are_streams_up() else self._dialect.POLL_S):
                    await self._wake.wait()
                await asyncio.sleep(pause_s)
                everything = self._look_at_all
            except TimeoutError:
                everything = True
            self._wake.clear()
            self._look_at_all = False
            asked_s = await self._round(everything=everything)
            if asked_s is not None:
                self.soon(everything=everything)
                pause_s = min(max(2 * pause_s, self._dialect.POLL_S, asked_s), AUDIT_S)
            else:
                pause_s = self._dialect.POLL_S if everything else self._dialect.GRACE_S
                if self._tracker.missing():
                    self._wake.set()

    async def _round(self, *, everything: bool) -> float | None:
        """Ask once around; gives how many seconds to wait at least after a failure, None after none."""
        failure: float | None = None
        try:
            orders = self._tracker.open() if everything else self._tracker.missing()
            if len(orders) > self._dialect.POLLED_EACH:
                orders = await self._changed(orders)
        except Exception as error:
            return self._failed(error)
        for order in orders:
            try:
                await self.learn(order)
            except Exception as error:  # the others are looked up all the same
                failure = max(failure or 0.0, self._failed(error))
        self._outbox.deliver()
        return failure

    def _failed(self, error: Exception) -> float:
        if not isinstance(error, VenueError | MalformedError | InvalidOrder):
            logger.opt(exception=error).error("looking orders up failed in a way nobody foresaw; it goes on")
        self._on_problem("polls", error)
        return getattr(error, "retry_after_s", None) or 0.0

    async def _changed(self, orders: Sequence[Order]) -> list[Order]:
        """Take what the list of open orders says, and give those that it leaves open what became of."""
        listed = await self._account.read("open_orders", "the open orders", self._dialect.fetch_open_orders)
        for raw in listed:
            self._outbox.post(self._tracker.update(self._dialect.read_update(raw)))
        working = {str(raw.get("id")) for raw in listed}
        missing = {order.client_order_id for order in self._tracker.missing()}
        return [
            order
            for order in orders
            if order.client_order_id in missing or self._tracker.venue_order_id(order.client_order_id) not in working
        ]

    async def learn(self, order: Order, *, insist: bool = False) -> OrderReport | None:
        """Look an order up with its executions, and take what that says. Raises VenueError, MalformedError.

        With `insist` also while the breaker would have the venue left alone.
        """
        key = order.client_order_id
        venue_order_id = self._tracker.venue_order_id(key)
        for attempt in range(FILL_TRIES):
            raw = await self._account.read(
                "find", f"order {key}", lambda x: self._dialect.find_there(x, order, venue_order_id), insist=insist
            )
            if raw is None:
                self._miss(key)
                return None
            self._absences.pop(key, None)
            update = facts.named_update(self._dialect.read_update(raw), key)
            trades = [] if update.filled == 0 else await self._executions(order, raw, update, insist=insist)
            if sum((trade.quantity for trade in trades), Decimal(0)) >= (update.filled or 0):
                return self._take(order, update, trades, raw)
            await asyncio.sleep(FILL_PAUSE_S * 2**attempt)
        raise VenueUnavailable(f"the venue does not list all executions of order {key} yet; it will be asked again")

    def _miss(self, key: str) -> None:
        self._absences[key] += 1
        if self._absences[key] >= ABSENCES:
            del self._absences[key]
            self._tracker.absent(key)

    async def _executions(self, order: Order, raw: Raw, update: OrderUpdate, *, insist: bool) -> list[VenueTrade]:
        key = order.client_order_id
        listed = await self._account.read(
            "fills", f"the executions of {key}", lambda x: self._dialect.fetch_fills(x, order, raw), insist=insist
        )
        return [facts.named(self._dialect.read_execution(each), key, update.venue_order_id) for each in listed]

    def _take(self, order: Order, update: OrderUpdate, trades: Sequence[VenueTrade], raw: Raw) -> OrderReport:
        """Say what was found, as events and as a report; who hears a thing twice ignores it."""
        key = order.client_order_id
        events: list[OrderEvent] = []
        for trade in trades:
            events += self._tracker.trade(trade)
        events += self._tracker.update(update)
        self._tracker.caught_up(key)
        self._outbox.post(events)
        filled = sum((trade.quantity for trade in trades), Decimal(0))
        asked = self._tracker.is_cancel_asked(key)
        status, reason = ending_of(order.request, update, filled, cancel_asked=asked)
        quantity, price = (None, None)
        if self._dialect.ABILITIES.amend:
            quantity, price = facts.present_terms(order, raw)
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
