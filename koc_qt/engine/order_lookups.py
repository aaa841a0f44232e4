"""Asks venues what became of orders whose fate is not known: by their client ids, until the venue has said it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from loguru import logger

from koc_qt.domain.errors import InvalidTransition, VenueError
from koc_qt.domain.order_state import events_from_report
from koc_qt.domain.orders import AmendRejected, Order, OrderCanceled, OrderEvent, OrderRejected, OrderReport
from koc_qt.ports.venue import TradingVenue

LOOKUP_DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # the last one repeats
LOOKUP_TIMEOUT_S = 10.0
LOOKUPS_BEFORE_ABSENT = 3  # a venue may need a moment to know an order that it took, or to show a change


class OrderLookups:
    """One lookup an order at a time.

    `newest` gives an order as it is now, `is_sending` whether a request about it is under way, so that nothing can be
    concluded yet; `receive` takes what was found, and `send_cancel` asks again for a cancel that may have been lost.
    """

    def __init__(
        self,
        venues: Mapping[str, TradingVenue],
        newest: Callable[[str], Order | None],
        is_sending: Callable[[str], bool],
        receive: Callable[[OrderEvent], None],
        send_cancel: Callable[[Order], Awaitable[None]],
        delays_s: Sequence[float],
    ) -> None:
        self._venues = venues
        self._newest = newest
        self._is_sending = is_sending
        self._receive = receive
        self._send_cancel = send_cancel
        self.delays_s = tuple(delays_s)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._is_closed = False

    def __len__(self) -> int:
        """How many orders are being looked up."""
        return len(self._tasks)

    def look_up(self, order: Order) -> None:
        """Begin to ask about an order, unless that is under way or its account is not connected."""
        key = order.client_order_id
        if key in self._tasks or order.account_id not in self._venues or self._is_closed:
            return
        task = asyncio.create_task(self._ask_until_known(key, self._venues[order.account_id]), name=f"lookup-{key}")
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

    async def _ask_until_known(self, key: str, venue: TradingVenue) -> None:
        doubts, tries = _Doubts(), 0
        while (asked := self._newest(key)) is not None and asked.is_open:
            if not self._is_sending(key):
                try:
                    async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                        report = await venue.find_order(asked)
                except (VenueError, TimeoutError) as error:
                    logger.warning("order {} could not be looked up: {}", key, str(error) or "no answer")
                except Exception:
                    logger.exception("looking order {} up failed in a way nobody foresaw; it is tried again", key)
                else:
                    if report is None and not asked.venue_order_id and _may_still_arrive(asked, venue):
                        doubts.absent += 1
                    elif await self._conclude(asked, report, venue.time_ns(), doubts):
                        return
            await asyncio.sleep(self.delays_s[min(tries, len(self.delays_s) - 1)])
            tries += 1

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


@dataclass
class _Doubts:
    """How often the venue has said of an order that it is not there, or not changed."""

    absent: int = 0
    unchanged: int = 0


def _may_still_arrive(order: Order, venue: TradingVenue) -> bool:
    """Whether an order that a venue does not know may be on its way; never to one of ours, whose clock may jump."""
    return venue.late_s > 0 and venue.time_ns() - order.created_ns < venue.late_s * 1e9


def _absence(order: Order, now_ns: int) -> OrderEvent:
    if order.venue_order_id:
        return OrderCanceled(order.client_order_id, now_ns, "the venue no longer knows this order")
    return OrderRejected(order.client_order_id, now_ns, "the venue never received this order")
