"""The engine's one bus: facts by their class, from the service that owns them to whoever listens."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from loguru import logger

T = TypeVar("T")
Handler = Callable[[Any], None]

QUEUE_LIMIT = 100_000  # facts published from inside handlers and not yet delivered; more means handlers feed each other


class Bus:
    """Delivers a fact to the handlers of its class, in the order of subscription, before `publish` returns.

    A handler that raises is logged and the others still run. A fact published inside a handler is queued and delivered
    after the present one, so that all handlers see facts in one order.
    """

    def __init__(self) -> None:
        self._handlers: dict[type, tuple[Handler, ...]] = {}
        self._queue: deque[object] = deque()
        self._delivering = False

    def subscribe(self, kind: type[T], handler: Callable[[T], None]) -> Callable[[], None]:
        """Call `handler` with every fact of class `kind`; the result ends the subscription."""
        self._handlers[kind] = (*self._handlers.get(kind, ()), handler)

        def unsubscribe() -> None:
            self._handlers[kind] = tuple(h for h in self._handlers[kind] if h is not handler)

        return unsubscribe

    def publish(self, fact: object) -> None:
        """Deliver a fact. Raises RuntimeError when handlers publish without end."""
        if self._delivering:
            if len(self._queue) >= QUEUE_LIMIT:
                raise RuntimeError(f"the bus holds {QUEUE_LIMIT} undelivered facts: handlers feed each other")
            self._queue.append(fact)
            return
        self._delivering = True
        try:
            self._deliver(fact)
            while self._queue:
                self._deliver(self._queue.popleft())
        finally:
            self._delivering = False

    def _deliver(self, fact: object) -> None:
        for handler in self._handlers.get(type(fact), ()):
            try:
                handler(fact)
            except Exception:
                logger.exception("a listener of {} failed; the others go on", type(fact).__name__)
