"""The strategy's way out of the worker: its orders, questions, logs and metrics become messages to the engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from threading import get_ident

from koc_qt.domain.errors import StrategyError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.orders import OrderRequest
from koc_qt.sdk.channel import Amend, Cancel, MetricValue, RequestHistory, Submit, WorkerMessage
from koc_qt.worker.failure import clean
from koc_qt.worker.outbox import LogGate, Outbox

METRIC_INTERVAL_NS = 100_000_000  # metrics go out ten times a second at most, the newest of each name
METRICS_LIMIT = 100  # names
_LONGEST_NAME = 64  # characters


class WorkerContext:
    """Implements sdk.context.Context over the channel. `clock` gives UTC nanoseconds, as the engine counts them."""

    def __init__(self, outbox: Outbox, logs: LogGate, clock: Callable[[], int]) -> None:
        self._outbox = outbox
        self._logs = logs
        self._clock = clock
        self._thread = get_ident()
        self._held: list[WorkerMessage] | None = []
        self._metrics: dict[str, float] = {}
        self._metric_names: set[str] = set()
        self._metrics_sent_ns = 0

    @property
    def time_ns(self) -> int:
        """UTC nanoseconds since 1970."""
        return self._clock()

    def submit(self, request_id: int, request: OrderRequest) -> None:
        """Send an order at once: the callback may have much to do yet."""
        self._send(Submit(request_id, request, time.monotonic_ns()))

    def cancel(self, client_order_id: str) -> None:
        """Send a cancel at once."""
        self._send(Cancel(client_order_id))

    def amend(self, client_order_id: str, quantity: Decimal, price: Decimal | None) -> None:
        """Send a change at once."""
        self._send(Amend(client_order_id, quantity, price))

    def request_history(self, request_id: int, instrument: InstrumentId, timeframe: str, count: int) -> None:
        """Ask the engine for bars."""
        self._send(RequestHistory(request_id, instrument, timeframe, count))

    def log(self, level: str, text: str) -> None:
        """Write a line, within the limits of LogGate."""
        self._logs.write(level, text)

    def metric(self, name: str, value: float) -> None:
        """Keep a number for the next sending of metrics. Raises StrategyError beyond METRICS_LIMIT names."""
        name = clean(str(name), _LONGEST_NAME)
        if name not in self._metric_names and len(self._metric_names) == METRICS_LIMIT:
            raise StrategyError(f"a strategy shows at most {METRICS_LIMIT} metrics; {name!r} is one too many")
        self._metric_names.add(name)
        self._metrics[name] = value

    def let_orders_go(self) -> None:
        """Send what on_start asked for; the engine takes orders only from a strategy that runs."""
        for message in self._held or ():
            self._outbox.put(message)
        self._held = None

    def send_metrics(self, now_ns: int, *, at_end: bool = False) -> None:
        """Send metrics that have changed, when it is time; `now_ns` is monotonic."""
        if self._metrics and (at_end or now_ns - self._metrics_sent_ns >= METRIC_INTERVAL_NS):
            self._metrics_sent_ns = now_ns
            metrics, self._metrics = self._metrics, {}
            for name, value in metrics.items():
                self._outbox.put(MetricValue(name, value))

    @property
    def metrics_due_ns(self) -> int | None:
        """When metrics should be sent, monotonic; None while there are none."""
        return self._metrics_sent_ns + METRIC_INTERVAL_NS if self._metrics else None

    def _send(self, message: WorkerMessage) -> None:
        if get_ident() != self._thread:
            raise StrategyError("orders and questions come from the strategy's callbacks, not from threads of its own")
        if self._held is None:
            self._outbox.put(message)
            self._outbox.flush()
        else:
            self._held.append(message)
