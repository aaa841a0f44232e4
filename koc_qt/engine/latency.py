"""How long orders take: from the moment the engine received the signal to the venue's first answer."""

from __future__ import annotations

from collections import deque

import msgspec

from koc_qt.domain.orders import OrderAccepted, OrderEvent, OrderFilled, OrderRejected
from koc_qt.ports.clock import Clock

KEPT = 1_000  # newest latencies a strategy and in all
IN_FLIGHT_LIMIT = 10_000  # oldest forgotten first: an order that is never answered must not keep its stamp for ever


class Percentiles(msgspec.Struct, frozen=True):
    """Milliseconds; None before the first measurement."""

    p50_ms: float | None
    p99_ms: float | None


class LatencyBook:
    """Keeps the newest order latencies, by strategy and in all."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began: dict[str, tuple[str, int]] = {}
        self._all: deque[float] = deque(maxlen=KEPT)
        self._by_strategy: dict[str, deque[float]] = {}

    def began(self, client_order_id: str, strategy_id: str, monotonic_ns: int) -> None:
        """Note when the signal for an order was received."""
        if len(self._began) >= IN_FLIGHT_LIMIT:
            del self._began[next(iter(self._began))]
        self._began[client_order_id] = (strategy_id, monotonic_ns)

    def answered(self, event: OrderEvent) -> None:
        """Note the venue's first answer to an order; other events are ignored."""
        if not isinstance(event, OrderAccepted | OrderFilled | OrderRejected):
            return
        began = self._began.pop(event.client_order_id, None)
        if began is None:
            return
        strategy_id, began_ns = began
        latency_ms = (self._clock.monotonic_ns() - began_ns) / 1e6
        self._all.append(latency_ms)
        self._by_strategy.setdefault(strategy_id, deque(maxlen=KEPT)).append(latency_ms)

    def percentiles(self, strategy_id: str | None = None) -> Percentiles:
        """The median and the 99th percentile of the newest latencies, of one strategy or all."""
        values = sorted(self._all if strategy_id is None else self._by_strategy.get(strategy_id, ()))
        if not values:
            return Percentiles(None, None)
        return Percentiles(_nearest_rank(values, 50), _nearest_rank(values, 99))


def _nearest_rank(ascending: list[float], percent: int) -> float:
    """Give the smallest value that at least `percent` of them do not exceed."""
    return ascending[max(0, -(-len(ascending) * percent // 100) - 1)]
