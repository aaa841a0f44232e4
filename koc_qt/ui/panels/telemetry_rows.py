"""The rows of the telemetry table: the engine, the window, and each strategy, as values ready to be shown."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from koc_qt.domain.state import Badge, EngineSnapshot, EngineState, StrategySnapshot, StrategyState
from koc_qt.ui.formats import DASH, duration, signed_money, size
from koc_qt.ui.frame_monitor import LIMIT_MS, FrameStats
from koc_qt.ui.tables.columns import Column, tone_of_sign

ENGINE_KEY, WINDOW_KEY = ("engine", ""), ("window", "")
LATE_S, SILENT_S = 3.0, 10.0
HISTORY_EVERY_S = 4.0
HISTORY_KEPT = 75  # five minutes

_STATES: dict[str, tuple[str, str]] = {
    EngineState.HALTED: ("Halted", "danger"),
    StrategyState.STARTING: ("Starting", "info"),
    StrategyState.RUNNING: ("Running", "profit"),
    StrategyState.STOPPING: ("Stopping", "warning"),
    StrategyState.STOPPED: ("Stopped", "neutral"),
    StrategyState.BACKING_OFF: ("Waiting", "warning"),
    StrategyState.FAILED: ("Failed", "danger"),
}
_BADGES = {
    Badge.ISOLATED_PLUS: "profit",
    Badge.ISOLATED: "profit",
    Badge.PARTIAL: "warning",
    Badge.UNPROTECTED: "danger",
    Badge.UNPROVEN: "neutral",
}


@dataclass(frozen=True)
class Pulse:
    """One row. What a row has not is None, or an empty text; `age_s` is in whole seconds, so that it changes rarely."""

    key: tuple[str, str]
    name: str
    state: str
    look: str  # a pill's
    reason: str
    age_s: int | None = None
    rate_hz: float | None = None
    ticks: int | None = None
    pnl: Any = None
    trades_per_hour: float | None = None
    trades: int | None = None
    cpu_percent: float | None = None
    memory_bytes: int | None = None
    latency_ms: tuple[float | None, float | None] = (None, None)
    badge: str = ""
    badge_look: str | None = None
    badge_reason: str = ""
    restarts: int | None = None
    anomalies: int | None = None
    metrics: tuple[tuple[str, float], ...] = ()
    history: tuple[float, ...] = ()
    tip: str = ""
    strategy: StrategySnapshot | None = None


class History:
    """The last minutes of a figure, taken down every four seconds at the most."""

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=HISTORY_KEPT)
        self._taken_s = float("-inf")
        self.values: tuple[float, ...] = ()

    def take(self, value: float, now_s: float) -> bool:
        """Take a value down when it is time; gives whether it was."""
        if now_s - self._taken_s < HISTORY_EVERY_S:
            return False
        self._taken_s = now_s
        self._values.append(value)
        self.values = tuple(self._values)
        return True


def strategy_pulse(strategy: StrategySnapshot, heard_ago_s: float, history: tuple[float, ...]) -> Pulse:
    """Make a strategy's row; `heard_ago_s` is how long ago the engine said so, by the window's own clock."""
    state, look = _STATES[strategy.state]
    alive = strategy.pid is not None
    age_s = None
    if alive and strategy.heartbeat_age_s is not None:
        age_s = int(strategy.heartbeat_age_s + heard_ago_s)
    return Pulse(
        key=("strategy", strategy.spec.strategy_id),
        name=strategy.spec.strategy_id,
        state=state,
        look=look,
        reason=strategy.reason,
        age_s=age_s,
        rate_hz=strategy.rate_hz if alive else None,
        ticks=strategy.ticks,
        pnl=strategy.pnl,
        trades_per_hour=strategy.trades_per_hour,
        trades=strategy.trades,
        cpu_percent=strategy.cpu_percent if alive else None,
        memory_bytes=strategy.memory_bytes if alive else None,
        latency_ms=(strategy.order_latency_p50_ms, strategy.order_latency_p99_ms),
        badge=strategy.badge,
        badge_look=_BADGES[strategy.badge],
        badge_reason=strategy.badge_reason,
        restarts=strategy.restarts,
        anomalies=strategy.anomalies,
        metrics=tuple(strategy.metrics.items()),
        history=history,
        tip=f"{strategy.name}, {strategy.spec.path}",
        strategy=strategy,
    )


def engine_pulse(engine: EngineSnapshot, heard_ago_s: float, history: tuple[float, ...], lost: str) -> Pulse:
    """Make the engine's row; `lost` says why there is no connection, and is empty while there is one."""
    state, look = _STATES[engine.state]
    reason = engine.kill_reason if engine.kill_switch else engine.reason
    if lost:
        state, look, reason = "No engine", "danger", lost
    elif not engine.journal_ok:
        look, reason = "danger", "the journal cannot be written"
    return Pulse(
        key=ENGINE_KEY,
        name="Engine",
        state=state,
        look=look,
        reason=reason,
        age_s=int(heard_ago_s),
        pnl=engine.pnl,
        trades_per_hour=engine.trades_per_hour,
        trades=engine.trades,
        cpu_percent=engine.cpu_percent,
        memory_bytes=engine.memory_bytes,
        latency_ms=(engine.order_latency_p50_ms, engine.order_latency_p99_ms),
        metrics=(("loop lag ms", engine.loop_lag_ms), ("open orders", float(engine.open_orders))),
        history=history,
        tip=f"Version {engine.version}, process {engine.pid}, up {duration(engine.uptime_s)}",
    )


def window_pulse(stats: FrameStats, cpu_percent: float, memory_bytes: int) -> Pulse:
    """Make the window's own row; its trend is the longest turn of the loop in each second of the last two minutes."""
    smooth = stats.longest_minute_ms <= LIMIT_MS
    return Pulse(
        key=WINDOW_KEY,
        name="This window",
        state="Smooth" if smooth else f"{stats.longest_minute_ms:,.0f} ms",
        look="profit" if smooth else "warning",
        reason=f"Longest turn of the loop in the last minute: {stats.longest_minute_ms:,.1f} ms, since the start "
        f"{stats.longest_ms:,.1f} ms; {stats.stalls:,} of {stats.turns:,} above {LIMIT_MS:g} ms",
        cpu_percent=cpu_percent,
        memory_bytes=memory_bytes,
        metrics=(
            ("longest ms, last second", stats.longest_second_ms),
            ("p99 ms", stats.p99_ms),
            ("paints/s", stats.paints_per_s),
        ),
        history=stats.maxima_ms,
        tip="How the window's own loop does",
    )


def age_tone(pulse: Pulse) -> str | None:
    """Give the tone of a heartbeat's age."""
    if pulse.age_s is None or pulse.age_s <= LATE_S:
        return None
    return "danger" if pulse.age_s > SILENT_S else "warning"


def latency_text(pulse: Pulse) -> str:
    """Write order latency as p50 / p99."""
    p50, p99 = pulse.latency_ms
    if p50 is None:
        return DASH
    return f"{p50:,.1f} / {p99:,.1f}" if p99 is not None else f"{p50:,.1f} / {DASH}"


def metrics_text(pulse: Pulse) -> str:
    """Write what a strategy measures itself."""
    return ", ".join(f"{name} {value:,.6g}" for name, value in pulse.metrics)


def trend_text(pulse: Pulse) -> str:
    """Write what the trend shows: a PnL's change, the longest turn of the window's loop."""
    if len(pulse.history) < 2:
        return ""
    if pulse.key == WINDOW_KEY:
        return f"{max(pulse.history):,.0f} ms"
    return signed_money(pulse.history[-1] - pulse.history[0])


def _count(value: int | None) -> str:
    return DASH if value is None else f"{value:,}"


def _figure(value: float | None, decimals: int) -> str:
    return DASH if value is None else f"{value:,.{decimals}f}"


def _age_text(pulse: Pulse) -> str:
    if pulse.age_s is None:
        return DASH
    return f"{pulse.age_s} s" if pulse.age_s < 60 else duration(pulse.age_s)


def _badge_tip(pulse: Pulse) -> str:
    return f"{pulse.badge.capitalize()}: {pulse.badge_reason}" if pulse.badge_reason else pulse.badge.capitalize()


COLUMNS: tuple[Column[Pulse], ...] = (
    Column("name", "Name", lambda p: p.name, width=20, tip=lambda p: p.tip),
    Column("state", "State", lambda p: p.state, width=12, pill=lambda p: p.look, tip=lambda p: p.reason or p.state),
    Column(
        "age",
        "Heartbeat",
        _age_text,
        lambda p: p.age_s,
        right=True,
        tone=age_tone,
        width=8,
        title_tip="How long ago the last sign of life came",
    ),
    Column(
        "pnl",
        "PnL",
        lambda p: signed_money(p.pnl),
        lambda p: p.pnl,
        right=True,
        width=11,
        tone=lambda p: tone_of_sign(p.pnl),
    ),
    Column("trend", "Trend", trend_text, lambda p: p.pnl, width=12, title_tip="PnL in the last five minutes"),
    Column(
        "trades_per_hour",
        "Trades/h",
        lambda p: _figure(p.trades_per_hour, 0),
        lambda p: p.trades_per_hour,
        right=True,
        width=7,
    ),
    Column(
        "latency",
        "Orders ms",
        latency_text,
        lambda p: p.latency_ms[0],
        right=True,
        width=10,
        title_tip="From the signal to the venue's acceptance, in milliseconds: median / 99th percentile",
    ),
    Column(
        "badge",
        "Sandbox",
        lambda p: p.badge.capitalize(),
        width=15,
        pill=lambda p: p.badge_look,
        tip=_badge_tip,
        title_tip="What the strategy's process has proved about its own confinement",
    ),
    Column("cpu", "CPU %", lambda p: _figure(p.cpu_percent, 1), lambda p: p.cpu_percent, right=True, width=6),
    Column("memory", "Memory", lambda p: size(p.memory_bytes), lambda p: p.memory_bytes, right=True, width=8),
    Column("rate", "Msg/s", lambda p: _figure(p.rate_hz, 1), lambda p: p.rate_hz, right=True, width=7),
    Column("ticks", "Ticks", lambda p: _count(p.ticks), lambda p: p.ticks, right=True, width=9),
    Column("trades", "Trades", lambda p: _count(p.trades), lambda p: p.trades, right=True, width=7),
    Column(
        "restarts",
        "Restarts",
        lambda p: _count(p.restarts),
        lambda p: p.restarts,
        right=True,
        width=7,
        tone=lambda p: "warning" if p.restarts else None,
    ),
    Column(
        "anomalies",
        "Anomalies",
        lambda p: _count(p.anomalies),
        lambda p: p.anomalies,
        right=True,
        width=8,
        tone=lambda p: "warning" if p.anomalies else None,
        title_tip="Market data that did not fit: late, doubled, impossible",
    ),
    Column("metrics", "Metrics", metrics_text, width=24, title_tip="What the strategy measures itself"),
)
