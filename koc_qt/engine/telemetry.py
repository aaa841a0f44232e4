"""The pulse of everything: heartbeats, rates, profit, load and latency, twice a second and on the telemetry bus."""

from __future__ import annotations

import asyncio
import os
from typing import Protocol

import msgspec

from koc_qt.domain.state import EngineSnapshot, EngineState, StrategySnapshot
from koc_qt.engine.bus import Bus
from koc_qt.engine.kill_switch import KillSwitch
from koc_qt.engine.latency import LatencyBook
from koc_qt.engine.ledger import Ledger
from koc_qt.engine.market_data import MarketData
from koc_qt.engine.orders import OrderService
from koc_qt.engine.store import Store
from koc_qt.engine.strategies import Managed, StrategyHost
from koc_qt.engine.strategy_run import Pulse
from koc_qt.link.messages import EngineChanged, PositionChanged, StrategyChanged, VenueChanged
from koc_qt.ports.clock import Clock
from koc_qt.ports.processes import ProcessMeter
from koc_qt.sdk.channel import Heartbeat
from koc_qt.version import __version__

PERIOD_S = 0.5
FASTEST_BEAT_S = 0.05  # heartbeats closer together than this, or further apart than the next, are anomalies
SLOWEST_BEAT_S = 5.0


class HeartbeatSeen(msgspec.Struct, frozen=True):
    """A heartbeat arrived; `interval_s` is None for a run's first. `time_ns` is UTC."""

    strategy_id: str
    beat: int
    interval_s: float | None
    ticks: int
    callback_us: int
    lag_ms: float
    time_ns: int


class AnomalySeen(msgspec.Struct, frozen=True):
    """Heartbeats came too close together or too far apart."""

    strategy_id: str
    interval_s: float
    reason: str
    time_ns: int


class TelemetrySink(Protocol):
    """Where telemetry is published for any subscriber."""

    def publish(self, topic: str, message: msgspec.Struct) -> None:
        """Send without blocking; a subscriber that does not keep up loses messages, and sees it by their numbers."""
        ...


class Telemetry:
    """Sole owner of the strategies' and the engine's snapshots."""

    def __init__(
        self,
        store: Store,
        bus: Bus,
        clock: Clock,
        ledger: Ledger,
        orders: OrderService,
        market_data: MarketData,
        kill_switch: KillSwitch,
        latencies: LatencyBook,
        meter: ProcessMeter,
        sink: TelemetrySink,
    ) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._ledger = ledger
        self._orders = orders
        self._market_data = market_data
        self._kill_switch = kill_switch
        self._latencies = latencies
        self._meter = meter
        self._sink = sink
        self._started_ns = clock.time_ns()
        self._lag_ms = 0.0
        self._rates: dict[str, tuple[int, int, float]] = {}  # messages sent, when (monotonic), rate then
        self._task: asyncio.Task[None] | None = None
        self.state = EngineState.STARTING
        self.reason = ""
        bus.subscribe(VenueChanged, lambda fact: sink.publish(f"venue.{fact.venue.venue}", fact.venue))

    def start(self, host: StrategyHost) -> None:
        """Begin to show."""
        self._task = asyncio.create_task(self._run(host), name="telemetry")

    async def close(self) -> None:
        """Stop showing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def heartbeat(self, strategy_id: str, beat: Heartbeat, pulse: Pulse, monotonic_ns: int) -> None:
        """Take a heartbeat; `pulse` is as it was before it."""
        interval_s = None if pulse.heartbeat_ns is None else (monotonic_ns - pulse.heartbeat_ns) / 1e9
        now_ns = self._clock.time_ns()
        self._sink.publish(
            f"heartbeat.{strategy_id}",
            HeartbeatSeen(strategy_id, beat.sequence, interval_s, beat.ticks, beat.callback_us, beat.lag_ms, now_ns),
        )
        # the first interval runs from Running, not from a heartbeat
        if beat.sequence <= 1 or interval_s is None or FASTEST_BEAT_S <= interval_s <= SLOWEST_BEAT_S:
            return
        pulse.anomalies += 1
        what = "close together" if interval_s < FASTEST_BEAT_S else "far apart"
        reason = f"heartbeats {interval_s * 1000:.0f} ms apart: too {what}"
        self._sink.publish(f"anomaly.{strategy_id}", AnomalySeen(strategy_id, interval_s, reason, now_ns))

    async def _run(self, host: StrategyHost) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + PERIOD_S
            try:
                async with asyncio.timeout_at(due):
                    await host.changed.wait()
            except TimeoutError:
                self._lag_ms = max(0.0, (loop.time() - due) * 1000)
            host.changed.clear()
            host.check_heartbeats()
            self.show(host)

    def show(self, host: StrategyHost) -> None:
        """Publish every snapshot now."""
        self._market_data.refresh_venues()
        for managed in host.managed.values():
            strategy = self.strategy(managed)
            self._store.strategies[strategy.spec.strategy_id] = strategy
            self._bus.publish(StrategyChanged(strategy))
            self._sink.publish(f"strategy.{strategy.spec.strategy_id}", strategy)
        for position in self._store.positions.values():
            if position.quantity:
                self._bus.publish(PositionChanged(self._ledger.snapshot(position)))
        engine = self.engine()
        self._store.engine = engine
        self._bus.publish(EngineChanged(engine))
        self._sink.publish("engine", engine)

    def strategy(self, managed: Managed) -> StrategySnapshot:
        """A strategy's pulse as it is now."""
        key, run, pulse = managed.spec.strategy_id, managed.run, managed.pulse
        pid = run.pid if run is not None else None
        use = self._meter.sample(pid) if pid is not None else None
        realised, unrealised, fees = self._store.pnl(self._store.positions_of(key))
        latency = self._latencies.percentiles(key)
        now_ns, monotonic_ns = self._clock.time_ns(), self._clock.monotonic_ns()
        age_s = (
            (monotonic_ns - pulse.heartbeat_ns) / 1e9 if run is not None and pulse.heartbeat_ns is not None else None
        )
        described = run.described if run is not None else None
        if described is not None:
            managed.name = described.name
        return StrategySnapshot(
            spec=managed.spec,
            name=managed.name,
            state=managed.state,
            reason=managed.reason,
            pid=pid,
            badge=pulse.badge,
            badge_reason=pulse.badge_reason,
            restarts=managed.restarts,
            started_ns=managed.started_ns,
            heartbeat_age_s=age_s,
            rate_hz=self._rate(key, pulse, monotonic_ns),
            ticks=pulse.ticks,
            anomalies=pulse.anomalies,
            pnl=realised + unrealised - fees,
            realised_pnl=realised,
            unrealised_pnl=unrealised,
            fees=fees,
            trades=self._ledger.trades(key),
            trades_per_hour=self._ledger.trades_per_hour(key),
            orders=self._store.order_counts.get(key, 0),
            open_orders=len(self._store.open_orders(key)),
            cpu_percent=use.cpu_percent if use else 0.0,
            memory_bytes=use.memory_bytes if use else 0,
            order_latency_p50_ms=latency.p50_ms,
            order_latency_p99_ms=latency.p99_ms,
            metrics=dict(pulse.metrics),
            time_ns=now_ns,
        )

    def engine(self) -> EngineSnapshot:
        """The engine's pulse as it is now."""
        use = self._meter.sample(os.getpid())
        realised, unrealised, fees = self._store.pnl(self._store.positions.values())
        latency = self._latencies.percentiles()
        halted = self._kill_switch.engaged and self.state is EngineState.RUNNING
        now_ns = self._clock.time_ns()
        return EngineSnapshot(
            state=EngineState.HALTED if halted else self.state,
            reason=self._kill_switch.reason if halted else self.reason,
            version=__version__,
            pid=os.getpid(),
            started_ns=self._started_ns,
            uptime_s=(now_ns - self._started_ns) / 1e9,
            kill_switch=self._kill_switch.engaged,
            kill_reason=self._kill_switch.reason,
            pnl=realised + unrealised - fees,
            trades=self._ledger.trades(),
            trades_per_hour=self._ledger.trades_per_hour(),
            orders=sum(self._store.order_counts.values()),
            open_orders=len(self._store.open_orders()),
            cpu_percent=use.cpu_percent if use else 0.0,
            memory_bytes=use.memory_bytes if use else 0,
            loop_lag_ms=self._lag_ms,
            order_latency_p50_ms=latency.p50_ms,
            order_latency_p99_ms=latency.p99_ms,
            journal_ok=self._orders.journal_ok,
            time_ns=now_ns,
        )

    def _rate(self, key: str, pulse: Pulse, monotonic_ns: int) -> float:
        """Messages to the worker a second, over the time since the last look (half a second or a little less)."""
        sent, when_ns, rate = self._rates.get(key, (pulse.sent, monotonic_ns, 0.0))
        elapsed_s = (monotonic_ns - when_ns) / 1e9
        if elapsed_s >= PERIOD_S / 2:
            rate = max(0, pulse.sent - sent) / elapsed_s
            self._rates[key] = (pulse.sent, monotonic_ns, rate)
        else:
            self._rates.setdefault(key, (sent, when_ns, rate))
        return rate
