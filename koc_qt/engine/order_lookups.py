"""Asks venues what became of orders: of those whose fate is not known, until the venue has said it, and of strays.

A stray was called over (rejected, never received, cancelled), and then its venue speaks of it as one that works. Its
venue is asked; what works is reinstated, so that it counts and is seen, and cancelled: whoever sent it was told that
it is over, and may have sent another since. The person is told as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from loguru import logger

from koc_qt.domain.errors import InvalidTransition, VenueError
from koc_qt.domain.order_state import events_from_report
from koc_qt.domain.orders import (
    AmendRejected,
    CancelRequested,
    Order,
    OrderCanceled,
    OrderEvent,
    OrderReinstated,
    OrderRejected,
    OrderReport,
    OrderStatus,
)
from koc_qt.domain.venues import VenueOrder
from koc_qt.engine.bus import Bus
from koc_qt.engine.notices import give_notice
from koc_qt.engine.store import Store
from koc_qt.ports.venue import TradingVenue

LOOKUP_DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # the last one repeats
LOOKUP_TIMEOUT_S = 10.0
LOOKUPS_BEFORE_ABSENT = 3  # a venue may need a moment to know an order that it took, or to show a change
LISTED_LATE_NS = 10_000_000_000  # a list may be older than what was heard of an order since


class OrdersListed(msgspec.Struct, frozen=True):
    """What a venue has just listed as working on an account; for the bus."""

    account_id: str
    orders: tuple[VenueOrder, ...]


class OrderLookups:
    """One lookup an order at a time.

    `newest` gives an order as it is now, `is_sending` whether a request about it is under way, so that nothing can be
    concluded yet; `receive` takes what was found, and `send_cancel` asks again for a cancel that may have been lost.
    """

    def __init__(
        self,
        store: Store,
        bus: Bus,
        venues: Mapping[str, TradingVenue],
        newest: Callable[[str], Order | None],
        is_sending: Callable[[str], bool],
        receive: Callable[[OrderEvent], None],
        send_cancel: Callable[[Order], Awaitable[None]],
        delays_s: Sequence[float],
    ) -> None:
        self._store = store
        self._bus = bus
        self._venues = venues
        self._newest = newest
        self._is_sending = is_sending
        self._receive = receive
        self._send_cancel = send_cancel
        self.delays_s = tuple(delays_s)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._is_closed = False
        bus.subscribe(OrdersListed, self._listed)

    def __len__(self) -> int:
        """How many orders are being looked up."""
        return len(self._tasks)

    def look_up(self, order: Order) -> None:
        """Begin to ask about an order, unless that is under way or its account is not connected."""
        self._begin(order, self._ask_until_known)

    def contradicted(self, order: Order, error: InvalidTransition) -> None:
        """Take note that a venue said what cannot be: of an order that was called over, it may be that it works."""
        if order.client_order_id not in self._tasks:
            logger.error("order {}: {}", order.client_order_id, error)
        if not order.is_open:
            self._begin(order, self._end_stray)

    def _listed(self, listed: OrdersListed) -> None:
        for each in listed.orders:
            order = self._newest(each.client_order_id)
            if order is None or order.is_open or order.account_id != listed.account_id:
                continue
            venue = self._venues.get(listed.account_id)
            if venue is not None and venue.time_ns() - order.updated_ns > LISTED_LATE_NS:
                self._begin(order, self._end_stray)

    def _begin(self, order: Order, ask: Callable[[str, TradingVenue], Coroutine[Any, Any, None]]) -> None:
        key = order.client_order_id
        if key in self._tasks or order.account_id not in self._venues or self._is_closed:
            return
        task = asyncio.create_task(ask(key, self._venues[order.account_id]), name=f"lookup-{key}")
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._tasks.pop(key, None))

    async def settle(self, orders: Sequence[Order]) -> None:
        """Ask about some orders, and wait a while for what becomes of that."""
        for order in orders:
            self.look_up(order)
        tasks = [self._tasks[order.client_order_id] for order in orders if order.client_order_id in self._tasks]
        if tasks:
            await asyncio.wait(tasks, timeout=LOOKUP_TIMEOUT_S)

    async def drop(self, orders: Iterable[Order]) -> None:
        """Stop asking about some orders."""
        keys = [order.client_order_id for order in orders]
        tasks = [self._tasks[key] for key in keys if key in self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Stop asking, for good."""
        self._is_closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- orders whose fate is not known ------------------------------------------------------------------------------

    async def _ask_until_known(self, key: str, venue: TradingVenue) -> None:
        doubts, tries = _Doubts(), 0
        while (asked := self._newest(key)) is not None and asked.is_open:
            if not self._is_sending(key) and (answer := await self._ask(asked, venue)) is not None:
                report = answer.report
                if report is None and not asked.venue_order_id and _may_still_arrive(asked, venue):
                    doubts.absent += 1
                elif await self._conclude(asked, report, venue.time_ns(), doubts):
                    return
            await self._pause(tries)
            tries += 1

    async def _ask(self, order: Order, venue: TradingVenue) -> _Answer | None:
        """Ask a venue about an order; None where it could not be asked."""
        key = order.client_order_id
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                return _Answer(await venue.find_order(order))
        except (VenueError, TimeoutError) as error:
            logger.warning("order {} could not be looked up: {}", key, str(error) or "no answer")
        except Exception:
            logger.exception("looking order {} up failed in a way nobody foresaw; it is tried again", key)
        return None

    async def _pause(self, tries: int) -> None:
        await asyncio.sleep(self.delays_s[min(tries, len(self.delays_s) - 1)])

    async def _conclude(self, asked: Order, report: OrderReport | None, now_ns: int, doubts: _Doubts) -> bool:
        """Take what the venue said of an order as it was when it was asked; whether that is all there is to know."""
        key = asked.client_order_id
        if report is None:
            doubts.absent += 1
            if doubts.absent >= LOOKUPS_BEFORE_ABSENT:
                self._receive(_absence(asked, now_ns))
            return doubts.absent >= LOOKUPS_BEFORE_ABSENT
        now = self._newest(key)
        if now is not None and (now.request, now.amending) != (asked.request, asked.amending):
            return False  # the report may be from before that change
        self._take(now or asked, report, now_ns)
        now = self._newest(key)
        if now is None or not now.is_open:
            return True
        if report.status.is_terminal:
            return False  # it ended there, but not all of its fills have been told yet
        if now.amending is not None:
            doubts.unchanged += 1
            if doubts.unchanged < LOOKUPS_BEFORE_ABSENT:
                return False
            self._receive(AmendRejected(key, now_ns, "the venue never made this change"))
        if now.cancel_requested:  # that request may have been lost as well: nobody else asks again
            await self._send_cancel(now)
        return True

    def _take(self, order: Order, report: OrderReport, now_ns: int) -> None:
        try:
            events = events_from_report(order, report, now_ns)
        except InvalidTransition as error:
            logger.error("order {}: what its venue reports cannot be: {}", order.client_order_id, error)
            return
        for event in events:
            self._receive(event)

    # ---- strays ------------------------------------------------------------------------------------------------------

    async def _end_stray(self, key: str, venue: TradingVenue) -> None:
        """Ask about an order that was called over until its venue says so too; cancel it as long as it does not."""
        doubts, tries = _Doubts(), 0
        while (asked := self._newest(key)) is not None and self._venues.get(asked.account_id) is venue:
            if doubts.is_reinstated and not asked.is_open:
                return
            answer = await self._ask(asked, venue)
            if answer is not None and await self._is_over(asked, answer.report, venue.time_ns(), doubts):
                return
            await self._pause(tries)
            tries += 1

    async def _is_over(self, asked: Order, report: OrderReport | None, now_ns: int, doubts: _Doubts) -> bool:
        """Take what a venue said of a stray; whether it has not got it, or no longer, and all of it is counted."""
        key = asked.client_order_id
        if asked.is_open:  # it was reinstated
            await self._conclude(asked, report, now_ns, doubts)
        elif report is None:
            doubts.absent += 1
            return doubts.absent >= LOOKUPS_BEFORE_ABSENT
        else:
            doubts.is_reinstated |= self._own_up(self._newest(key) or asked, report, now_ns)
        now = self._newest(key) or asked
        works = report is not None and not report.status.is_terminal
        if works and not now.cancel_requested and (now.is_open or now.status is OrderStatus.FILLED):
            self._receive(CancelRequested(key, now_ns))
            await self._send_cancel(self._newest(key) or now)
        return not works and not now.is_open

    def _own_up(self, order: Order, report: OrderReport, now_ns: int) -> bool:
        """Count an order that was called over for what it is, and tell the person; whether it is open again."""
        key, request, works = order.client_order_id, order.request, not report.status.is_terminal
        news = [fill for fill in report.fills if fill.fill_id not in order.fill_ids]
        if not works and not news:
            return False
        what = f"order {key} ({request.side} {request.quantity:f} {request.instrument}, account {order.account_id})"
        reason = f"it had been called {order.status}" + (f": {order.reason}" if order.reason else "")
        reinstates = order.status is not OrderStatus.FILLED and (works or order.status is OrderStatus.REJECTED)
        if reinstates:
            self._receive(OrderReinstated(key, now_ns, report.venue_order_id, reason))
        self._take(self._newest(key) or order, report, now_ns)
        fate = "works at its venue and is being cancelled" if works else "was executed at its venue"
        filled = f"; {sum(fill.quantity for fill in news):f} of it are in your positions now" if news else ""
        give_notice(self._store, self._bus, f"{what} {fate}, though {reason}{filled}")
        return reinstates


@dataclass
class _Doubts:
    """How often the venue has said of an order that it is not there, or not changed; whether it was called over."""

    absent: int = 0
    unchanged: int = 0
    is_reinstated: bool = False


@dataclass(frozen=True)
class _Answer:
    """What a venue said of an order; no report where it does not know it."""

    report: OrderReport | None


def _may_still_arrive(order: Order, venue: TradingVenue) -> bool:
    """Whether an order that a venue does not know may be on its way; never to one of ours, whose clock may jump."""
    return venue.late_s > 0 and venue.time_ns() - order.created_ns < venue.late_s * 1e9


def _absence(order: Order, now_ns: int) -> OrderEvent:
    if order.venue_order_id:
        return OrderCanceled(order.client_order_id, now_ns, "the venue no longer knows this order")
    return OrderRejected(order.client_order_id, now_ns, "the venue never received this order")
