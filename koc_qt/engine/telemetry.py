"""The pulse of everything: heartbeats, rates, profit, load and latency, twice a second and on the telemetry bus."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Protocol

import msgspec
from loguru import logger

from koc_qt.domain.latency import LatencySnapshot
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
from koc_qt.engine.strategy_words import Allowance
from koc_qt.link.messages import EngineChanged, LatencyChanged, PositionChanged, StrategyChanged, VenueChanged
from koc_qt.ports.clock import Clock
from koc_qt.ports.processes import ProcessMeter
from koc_qt.sdk.channel import Heartbeat
from koc_qt.version import __version__

PERIOD_S = 0.5
FASTEST_BEAT_S = 0.05  # heartbeats closer together than this, or further apart than the next, are anomalies
SLOWEST_BEAT_S = 5.0
BEATS_PER_S = 20.0  # of a strategy that are published; what is beyond it is counted alone
BEATS_BURST = 100.0
STALLED_S = 1.0  # an engine that was this late has not read the heartbeats that came meanwhile


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
    """Heartbeats came too close together or too far apart; `interval_s` is so far, while the next is missing."""

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
        self._started_monotonic_ns = clock.monotonic_ns()
        self._lag_ms = 0.0
        self._rates: dict[str, tuple[int, int, float]] = {}  # messages sent, when (monotonic), rate then
        self._allowances: dict[str, Allowance] = {}
        self._task: asyncio.Task[None] | None = None
        self.state = EngineState.STARTING
        self.reason = ""
        latencies.on_measured = lambda latency: sink.publish(f"order_latency.{latency.strategy_id}", latency)
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
        was_overdue, pulse.is_overdue = pulse.is_overdue, False
        is_shown = self._allowance(strategy_id).take()
        if is_shown:
            seen = HeartbeatSeen(
                strategy_id, beat.sequence, interval_s, beat.ticks, beat.callback_us, beat.lag_ms, self._clock.time_ns()
            )
            self._sink.publish(f"heartbeat.{strategy_id}", seen)
        # the first interval runs from Running, not from a heartbeat
        if pulse.beats == 0 or interval_s is None or was_overdue or FASTEST_BEAT_S <= interval_s <= SLOWEST_BEAT_S:
            return
        what = "close together" if interval_s < FASTEST_BEAT_S else "far apart"
        reason = f"heartbeats {interval_s * 1000:.0f} ms apart: too {what}"
        self._anomaly(strategy_id, pulse, interval_s, reason, is_shown=is_shown)

    def _look_for_overdue(self, managed: Managed) -> None:
        """Say once, while it is so, that a heartbeat stays away."""
        pulse = managed.pulse
        if managed.run is None or pulse.heartbeat_ns is None or pulse.is_overdue:
            return
        age_s = (self._clock.monotonic_ns() - pulse.heartbeat_ns) / 1e9
        if age_s > SLOWEST_BEAT_S:
            pulse.is_overdue = True
            self._anomaly(managed.spec.strategy_id, pulse, age_s, f"no heartbeat for {age_s:.1f} s", is_shown=True)

    def _anomaly(self, strategy_id: str, pulse: Pulse, interval_s: float, reason: str, *, is_shown: bool) -> None:
        pulse.anomalies += 1
        if is_shown:
            seen = AnomalySeen(strategy_id, interval_s, reason, self._clock.time_ns())
            self._sink.publish(f"anomaly.{strategy_id}", seen)

    def _allowance(self, strategy_id: str) -> Allowance:
        allowance = self._allowances.get(strategy_id)
        if allowance is None:
            allowance = self._allowances[strategy_id] = Allowance(BEATS_PER_S, BEATS_BURST, self._clock)
        return allowance

    async def _run(self, host: StrategyHost) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + PERIOD_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await host.changed.wait()
            late_s = loop.time() - due  # below zero when a state changed before it was time
            self._lag_ms = late_s * 1000 if late_s >= 0 else self._lag_ms
            host.changed.clear()
            try:
                if late_s < STALLED_S:
                    self._check(host)
                self.show(host)
            except Exception:
                logger.exception("the engine's pulse cannot be shown")

    def _check(self, host: StrategyHost) -> None:
        for managed in host.managed.values():
            self._look_for_overdue(managed)
        host.check_heartbeats()

    def show(self, host: StrategyHost) -> None:
        """Publish every snapshot now."""
        self._market_data.refresh_venues()
        for managed in host.managed.values():
            strategy = self.strategy(managed)
            shown = self._store.strategies.get(strategy.spec.strategy_id)
            self._store.strategies[strategy.spec.strategy_id] = strategy
            if shown is None or msgspec.structs.replace(shown, time_ns=strategy.time_ns) != strategy:
                self._bus.publish(StrategyChanged(strategy))
            self._sink.publish(f"strategy.{strategy.spec.strategy_id}", strategy)
        for position in self._store.positions.values():
            if position.quantity:
                self._bus.publish(PositionChanged(self._ledger.snapshot(position)))
        engine = self.engine()
        self._store.engine = engine
        self._bus.publish(EngineChanged(engine))
        self._sink.publish("engine", engine)
        latency = self._latencies.news()
        if latency is not None:
            self._bus.publish(LatencyChanged(latency))
            self._sink.publish("latency", latency)

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
            uptime_s=(self._clock.monotonic_ns() - self._started_monotonic_ns) / 1e9,
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

    @property
    def latency(self) -> LatencySnapshot:
        """How long orders took so far."""
        return self._latencies.snapshot()

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
