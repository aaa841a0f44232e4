"""Orders between the risk gate and the door: the journal writes their intent while their request is made ready.

A request leaves once its order's intent is durable and nothing forbids it, never before. What has not left is certainly
not at its venue, however the request failed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from koc_qt.domain.errors import HeldBack, StorageError
from koc_qt.domain.orders import Order, OrderEvent

WRITE_TIMEOUT_S = 10.0
# So long a request that is ready waits at the door. Its signature grows old there, and where a venue takes one request
# at a time it is in the way of others, cancels among them.
PATIENCE_S = 0.25
FAILED_KEPT = 100


class Intent:
    """An order whose intent is being written. Implements ports.venue.Departure for its request.

    `forbidden` gives why it must not go, empty where nothing forbids it; `on_left` hears that it goes.
    """

    def __init__(
        self, order: Order, written: asyncio.Future[None], forbidden: Callable[[], str], on_left: Callable[[], None]
    ) -> None:
        self.order = order
        self.written = written
        self.is_settled = False  # durable, and known to be, or never to be
        self.early: list[OrderEvent] = []  # what was said of it before it was durable
        self.has_left = False
        self.is_late = False  # the request gave up waiting for the journal: it has to be made anew
        self._forbidden = forbidden
        self._on_left = on_left
        self._withdrawn = ""

    async def leave(self) -> None:
        """Wait until the request may go, and count it as gone. Raises HeldBack: it must not go."""
        if self.has_left:
            return  # the client library repeats what the venue did not take
        self.is_late = not await self._settles(PATIENCE_S)
        if self.is_late:
            raise HeldBack(f"the journal did not take it within {PATIENCE_S:g} s: nothing was sent")
        if self.written.exception() is not None:
            raise HeldBack("the journal did not take it: nothing was sent")
        reason = self._withdrawn or self._forbidden()
        if reason:
            raise HeldBack(reason)
        self.has_left = True
        self._on_left()

    def withdraw(self, reason: str) -> bool:
        """See to it that the request never leaves; False where it has left."""
        self._withdrawn = self._withdrawn or reason
        return not self.has_left

    async def durable(self) -> None:
        """Wait until the intent is durable. Raises StorageError where it cannot be, or is not in time."""
        if not await self._settles(WRITE_TIMEOUT_S):
            key = self.order.client_order_id
            raise StorageError(f"the journal does not take order {key}: nothing was sent. Look after the disk")
        self.written.result()

    async def _settles(self, within_s: float) -> bool:
        if not self.is_settled:
            await asyncio.wait((self.written,), timeout=within_s)
        return self.is_settled


class Intents:
    """The intents that are being written, by client order id, and the newest that could not be.

    `is_written` hears of each whether it could be, `taken` of each that is durable: before its request may leave.
    """

    def __init__(self, is_written: Callable[[bool], None]) -> None:
        self._is_written = is_written
        self._open: dict[str, Intent] = {}
        self._failed: deque[str] = deque(maxlen=FAILED_KEPT)

    def __len__(self) -> int:
        return len(self._open)

    def put(self, intent: Intent, taken: Callable[[Intent], None]) -> None:
        """Follow an intent; call this before anything waits for it."""
        self._open[intent.order.client_order_id] = intent
        intent.written.add_done_callback(lambda _: self._settled(intent, taken))

    def get(self, client_order_id: str) -> Intent | None:
        """Give an intent that is being written."""
        return self._open.get(client_order_id)

    def orders(self) -> list[Order]:
        """Give the orders whose intent is being written."""
        return [intent.order for intent in self._open.values()]

    def keep(self, event: OrderEvent) -> bool:
        """Take what is said of an order that is not durable: it waits until that is. False for all other orders."""
        key = event.client_order_id
        if key in self._open:
            self._open[key].early.append(event)
        return key in self._open or key in self._failed

    async def close(self) -> None:
        """Wait until nothing is being written any more, but no longer than a write may take."""
        if self._open:
            await asyncio.wait([intent.written for intent in self._open.values()], timeout=WRITE_TIMEOUT_S)

    def _settled(self, intent: Intent, taken: Callable[[Intent], None]) -> None:
        key = intent.order.client_order_id
        del self._open[key]
        intent.is_settled = True
        is_written = intent.written.exception() is None
        self._is_written(is_written)
        if is_written:
            taken(intent)
        else:
            self._failed.append(key)
