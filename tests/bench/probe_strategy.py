"""Measures its own latencies: ticks that carry the time they left the engine, and orders from signal to acceptance."""

from __future__ import annotations

import time

from koc_qt.domain.market import Trade
from koc_qt.sdk import OrderHandle, Strategy

MARK = "bench-"


class Probe(Strategy):
    """Orders at every tenth marked tick, far below the market, and cancels once it is accepted."""

    def on_start(self) -> None:
        self.ticks_us: list[float] = []
        self.orders_us: list[float] = []
        self.signals: dict[int, int] = {}
        self.count = 0

    def on_trade(self, trade: Trade) -> None:
        if not trade.trade_id.startswith(MARK):
            return
        now_ns = time.monotonic_ns()
        self.ticks_us.append((now_ns - int(trade.trade_id.removeprefix(MARK))) / 1e3)
        self.count += 1
        if self.count % 10 == 0:
            signal_ns = time.monotonic_ns()
            order = self.buy("0.001", price=trade.price * 9 / 10)
            self.signals[id(order)] = signal_ns
        if self.count % 50 == 0:
            self.publish("tick", self.ticks_us)
            self.publish("order", self.orders_us)

    def on_order(self, order: OrderHandle) -> None:
        signal_ns = self.signals.get(id(order))
        if signal_ns is not None and order.status == "accepted":
            self.orders_us.append((time.monotonic_ns() - signal_ns) / 1e3)
            del self.signals[id(order)]
            self.cancel(order)

    def publish(self, name: str, values: list[float]) -> None:
        ordered = sorted(values)
        if ordered:
            self.metric(f"{name}_count", len(ordered))
            self.metric(f"{name}_p50_us", ordered[len(ordered) // 2])
            self.metric(f"{name}_p99_us", ordered[len(ordered) * 99 // 100])
