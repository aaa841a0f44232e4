"""Cancels that are asked for again by themselves.

Those that came too early: a venue that has not spoken of an order yet refuses to cancel it, and then takes it. And
those of orders that are to end whatever happens (`promise`): their venue may have been out of reach. A cancel of one
order, whose failure was told, is not repeated behind anybody's back: the order may be wanted by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from loguru import logger

from koc_qt.domain.errors import KocError
from koc_qt.domain.orders import CancelRejected, Order, OrderEvent, OrderStatus
from koc_qt.engine.bus import Bus
from koc_qt.engine.store import Store
from koc_qt.link.messages import OrderChanged

_UNHEARD = frozenset({OrderStatus.NEW, OrderStatus.SUBMITTED, OrderStatus.UNKNOWN})


async def cancels_done(store: Store, bus: Bus, timeout_s: float) -> None:
    """Wait until venues have spoken of every order that is being cancelled; says how many are left when time is up."""

    def left() -> int:
        return sum(order.cancel_requested for order in store.open_orders())

    changed = asyncio.Event()
    unsubscribe = bus.subscribe(OrderChanged, lambda _fact: changed.set())
    try:
        async with asyncio.timeout(timeout_s):
            while left():
                changed.clear()
                await changed.wait()
    except TimeoutError:
        logger.warning("{} orders were to be cancelled, and their venue has not said within {:g} s", left(), timeout_s)
    finally:
        unsubscribe()


class OwedCancels:
    """Asks again by `cancel`: when the venue has spoken of an order, and at each `ask_for`."""

    def __init__(self, cancel: Callable[[str], Awaitable[None]]) -> None:
        self._cancel = cancel
        self._early: set[str] = set()  # refused, and the venue had not spoken of the order
        self._promised: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def heard(self, event: OrderEvent, order: Order) -> None:
        """Take note of what has become of an order by an event."""
        key = order.client_order_id
        if not order.is_open:
            self._early.discard(key)
            self._promised.discard(key)
        elif order.status in _UNHEARD:
            if isinstance(event, CancelRejected):
                self._early.add(key)
        elif key in self._early:
            self._early.discard(key)
            self._start(key)

    def promise(self, orders: Iterable[Order]) -> None:
        """Take note of orders that are to end, whatever becomes of the cancels that are asked for now."""
        self._promised.update(order.client_order_id for order in orders)

    def ask_for(self, orders: Iterable[Order]) -> None:
        """Ask again for those of the orders that should have ended."""
        for order in orders:
            if order.client_order_id in self._promised:
                self._start(order.client_order_id)

    async def close(self) -> None:
        """Ask no more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, key: str) -> None:
        task = asyncio.create_task(self._ask_again(key), name=f"cancel-{key}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask_again(self, key: str) -> None:
        try:
            await self._cancel(key)
        except KocError as error:
            logger.error("order {} could not be cancelled: {}", key, error)
