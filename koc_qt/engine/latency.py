"""How long orders take: from the strategy's signal to the venue's answer, and each stage of the way between."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable

import msgspec
from loguru import logger

from koc_qt.domain.latency import EDGES_MS, SLOW_MS, LatencySnapshot, OrderLatency, Stage, StageLatency
from koc_qt.domain.orders import (
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderRejected,
)
from koc_qt.ports.clock import Clock

KEPT = 1_000  # newest latencies a strategy, a stage and in all
IN_FLIGHT_LIMIT = 10_000  # oldest forgotten first: an order that is never answered must not keep its stamp for ever
LONGEST_SIGNAL_S = 60.0  # a strategy's stamp that says more is wrong: it is a stranger's word


class Percentiles(msgspec.Struct, frozen=True):
    """Milliseconds; None before the first measurement."""

    p50_ms: float | None
    p99_ms: float | None


class _Way(msgspec.Struct):
    """An order under way; times are monotonic nanoseconds."""

    client_order_id: str
    strategy_id: str
    account_id: str
    began_ns: int  # its signal
    last_ns: int
    stages_ms: dict[Stage, float] = {}


class _Figures:
    def __init__(self) -> None:
        self.newest: deque[float] = deque(maxlen=KEPT)
        self.buckets = [0] * (len(EDGES_MS) + 1)
        self.count = 0
        self.longest_ms = 0.0

    def add(self, milliseconds: float) -> None:
        self.newest.append(milliseconds)
        self.buckets[bisect_left(EDGES_MS, milliseconds)] += 1
        self.count += 1
        self.longest_ms = max(self.longest_ms, milliseconds)


class LatencyBook:
    """Keeps order latencies, by strategy, by stage and in all; `on_measured` hears of each order's.

    An order's way is `began`, `reached` for each stage of ours, then what the venue says. What is slower than 500 ms is
    logged as a warning that names the slowest stage.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ways: dict[str, _Way] = {}
        self._all: deque[float] = deque(maxlen=KEPT)
        self._by_strategy: dict[str, deque[float]] = {}
        self._stages = {stage: _Figures() for stage in Stage}
        self._slow = 0
        self._is_news = False
        self.on_measured: Callable[[OrderLatency], None] | None = None

    def began(self, order: Order, received_ns: int, checked_ns: int, signal_ns: int | None = None) -> None:
        """Note an order that has just been written down, and what lies behind it, by the monotonic clock.

        The engine received its signal, checked it, and wrote it to the journal until now; `signal_ns` is when a
        strategy on this machine gave it.
        """
        if len(self._ways) >= IN_FLIGHT_LIMIT:
            del self._ways[next(iter(self._ways))]
        key = order.client_order_id
        way = self._ways[key] = _Way(key, order.strategy_id, order.account_id, received_ns, received_ns, {})
        if signal_ns is not None and 0 <= received_ns - signal_ns <= LONGEST_SIGNAL_S * 1e9:
            way.began_ns = signal_ns
            self._note(way, Stage.SIGNAL, (received_ns - signal_ns) / 1e6)
        self.reached(key, Stage.RISK, checked_ns)
        self.reached(key, Stage.JOURNAL)

    def reached(self, client_order_id: str, stage: Stage, monotonic_ns: int | None = None) -> None:
        """Note that an order has a stage behind it, now or at a time; unknown orders are ignored, repetitions too."""
        way = self._ways.get(client_order_id)
        if way is None or stage in way.stages_ms:
            return
        now_ns = self._clock.monotonic_ns() if monotonic_ns is None else monotonic_ns
        self._note(way, stage, max(now_ns - way.last_ns, 0) / 1e6)
        way.last_ns = max(now_ns, way.last_ns)

    def answered(self, event: OrderEvent) -> None:
        """Note the venue's first answer to an order, and its first fill; what says neither is ignored."""
        way = self._ways.get(event.client_order_id)
        if way is None:
            return
        if isinstance(event, OrderCanceled | OrderExpired):
            del self._ways[event.client_order_id]  # nothing more is to come
            return
        if not isinstance(event, OrderAccepted | OrderFilled | OrderRejected):
            return
        if Stage.ACKNOWLEDGED not in way.stages_ms:
            self.reached(event.client_order_id, Stage.ACKNOWLEDGED)
            self._measured(way)
        if isinstance(event, OrderFilled):
            self.reached(event.client_order_id, Stage.FILLED)
            self._tell(way)
        if not isinstance(event, OrderAccepted):
            del self._ways[event.client_order_id]

    def percentiles(self, strategy_id: str | None = None) -> Percentiles:
        """The median and the 99th percentile of the newest latencies, of one strategy or all.

        From the engine's receipt of the signal to the venue's first answer.
        """
        values = sorted(self._all if strategy_id is None else self._by_strategy.get(strategy_id, ()))
        if not values:
            return Percentiles(None, None)
        return Percentiles(_nearest_rank(values, 50), _nearest_rank(values, 99))

    def news(self) -> LatencySnapshot | None:
        """Give the figures of every stage, where something was measured since the last time."""
        if not self._is_news:
            return None
        self._is_news = False
        return self.snapshot()

    def snapshot(self) -> LatencySnapshot:
        """Give the figures of every stage in which something was measured."""
        stages = []
        for stage, figures in self._stages.items():
            if figures.count:
                newest = sorted(figures.newest)
                percentiles = _nearest_rank(newest, 50), _nearest_rank(newest, 99)
                stages.append(
                    StageLatency(stage, figures.count, *percentiles, figures.longest_ms, tuple(figures.buckets))
                )
        return LatencySnapshot(tuple(stages), self._slow, self._clock.time_ns())

    def _note(self, way: _Way, stage: Stage, milliseconds: float) -> None:
        way.stages_ms[stage] = milliseconds
        self._stages[stage].add(milliseconds)
        self._is_news = True

    def _measured(self, way: _Way) -> None:
        total_ms = (way.last_ns - way.began_ns) / 1e6
        in_engine_ms = total_ms - way.stages_ms.get(Stage.SIGNAL, 0.0)
        self._all.append(in_engine_ms)
        self._by_strategy.setdefault(way.strategy_id, deque(maxlen=KEPT)).append(in_engine_ms)
        slowest = max(way.stages_ms, key=lambda stage: way.stages_ms[stage])
        self._note(way, Stage.TOTAL, total_ms)
        if total_ms > SLOW_MS:
            self._slow += 1
            logger.warning(
                "order {} of {} took {:.0f} ms from signal to acknowledgement, {:.0f} ms of it at the stage {!r}",
                way.client_order_id,
                way.strategy_id,
                total_ms,
                way.stages_ms[slowest],
                slowest.value,
            )
        self._tell(way)

    def _tell(self, way: _Way) -> None:
        if self.on_measured is not None:
            latency = OrderLatency(
                way.client_order_id, way.strategy_id, way.account_id, dict(way.stages_ms), self._clock.time_ns()
            )
            self.on_measured(latency)


def _nearest_rank(ascending: list[float], percent: int) -> float:
    """Give the smallest value that at least `percent` of them do not exceed."""
    return ascending[max(0, -(-len(ascending) * percent // 100) - 1)]
