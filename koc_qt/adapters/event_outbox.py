"""Order events on their way to the engine: in order, and never from inside a call that the engine makes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from koc_qt.domain.orders import OrderEvent
from koc_qt.ports.venue import OrderSink


class EventOutbox:
    """Hands events to the sink one after the other. What comes while there is no sink waits for one."""

    def __init__(self) -> None:
        self._sink: OrderSink | None = None
        self._waiting: deque[OrderEvent] = deque()
        self._delivery: asyncio.Handle | None = None
        self._delivering = False

    def open(self, sink: OrderSink) -> None:
        """Deliver to this sink from now on."""
        self._sink = sink
        self.deliver()

    def close(self) -> None:
        """Deliver what waits, and then no more. Safe to call twice."""
        self.deliver()
        self._sink = None

    def post(self, events: Iterable[OrderEvent]) -> None:
        """Deliver in the loop's next round, once the caller has its answer."""
        self._waiting.extend(events)
        if self._waiting and self._delivery is None and self._sink is not None:
            self._delivery = asyncio.get_running_loop().call_soon(self.deliver)

    def deliver(self, events: Iterable[OrderEvent] = ()) -> None:
        """Deliver at once, what waits first; a call from inside the sink leaves that to the outer one."""
        self._waiting.extend(events)
        if self._delivery is not None:
            self._delivery.cancel()
            self._delivery = None
        sink = self._sink
        if self._delivering or sink is None:
            return
        self._delivering = True
        try:
            while self._waiting:
                sink(self._waiting.popleft())
        finally:
            self._delivering = False
