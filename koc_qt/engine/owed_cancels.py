"""Cancels that came too early: a venue that has not spoken of an order yet refuses to cancel it, and then takes it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from loguru import logger

from koc_qt.domain.errors import KocError
from koc_qt.domain.orders import CancelRejected, Order, OrderEvent, OrderStatus

_UNHEARD = frozenset({OrderStatus.NEW, OrderStatus.SUBMITTED, OrderStatus.UNKNOWN})


class OwedCancels:
    """Asks again for a cancel that was refused before the venue had spoken of its order, once it has; by `cancel`."""

    def __init__(self, cancel: Callable[[str], Awaitable[None]]) -> None:
        self._cancel = cancel
        self._owed: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def heard(self, event: OrderEvent, order: Order) -> None:
        """Take note of what has become of an order by an event."""
        key = order.client_order_id
        if order.status in _UNHEARD:
            if isinstance(event, CancelRejected):
                self._owed.add(key)
        elif key in self._owed:
            self._owed.discard(key)
            if order.is_open:
                task = asyncio.create_task(self._ask_again(key), name=f"cancel-{key}")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Ask no more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask_again(self, key: str) -> None:
        try:
            await self._cancel(key)
        except KocError as error:
            logger.error("order {} could not be cancelled: {}", key, error)
