"""The telemetry panel: the pulse of the engine, of this window, and of each strategy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
from PySide6.QtCore import QSize, QTimer
from PySide6.QtGui import QAction, QHideEvent, QShowEvent
from PySide6.QtWidgets import QVBoxLayout, QWidget

from koc_qt.domain.errors import KocError, LinkError
from koc_qt.domain.state import StrategySnapshot, StrategyState
from koc_qt.link.messages import StartStrategy, StopStrategy
from koc_qt.ui.actions import Command
from koc_qt.ui.bench import Bench, Panel
from koc_qt.ui.desk import Frame
from koc_qt.ui.frame_monitor import FrameMonitor
from koc_qt.ui.icons import icon
from koc_qt.ui.panels.telemetry_cells import PulseDelegate
from koc_qt.ui.panels.telemetry_latency import LatencyTable, SideBySide
from koc_qt.ui.panels.telemetry_rows import (
    COLUMNS,
    ENGINE_KEY,
    WINDOW_KEY,
    History,
    Pulse,
    engine_pulse,
    metrics_text,
    strategy_pulse,
    window_pulse,
)
from koc_qt.ui.tables.detail import DetailLine
from koc_qt.ui.tables.model import RecordModel
from koc_qt.ui.tables.view import RecordTable

BEAT_MS = 1_000
STOP_TIMEOUT_S = 30.0
SHOW_LATENCY = "telemetry.latency"
_ENDED = (StrategyState.STOPPED, StrategyState.FAILED)


class TelemetryPanel(Panel):
    """One row each for the engine, this window and every strategy; the chosen one in words below."""

    NAME = "telemetry"
    TITLE = "Telemetry"
    ICON = "telemetry"

    def __init__(
        self,
        bench: Bench,
        monitor: FrameMonitor,
        parent: QWidget | None = None,
        *,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(bench, parent)
        self._monitor = monitor
        self._clock_s = clock_s
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first answer is always 0: from now on it counts from here
        self._own = (0.0, 0)
        self._heard_s: dict[tuple[str, str], float] = {}
        self._histories: dict[tuple[str, str], History] = {}
        self._timer = QTimer(self)
        self._timer.setInterval(BEAT_MS)
        self.make()

    def parts(self) -> Iterator[None]:
        """Make the table, then what stands below it."""
        bench = self.bench
        self.model: RecordModel[Pulse] = RecordModel(COLUMNS, bench.theme, self)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        self.splitter = SideBySide(self)
        column.addWidget(self.splitter, 1)
        self.table: RecordTable[Pulse] = RecordTable(
            self.model, bench.theme, self.splitter, empty="Waiting for the engine"
        )
        self.table.setItemDelegate(PulseDelegate(bench.theme, self.model, self.table))
        self.table.setAccessibleName("Telemetry")
        yield
        self.latency = LatencyTable(bench.theme, self.splitter)
        yield
        self.detail = DetailLine(self)
        column.addWidget(self.detail)
        self.stop = self._action("stop", "&Stop", self._stop)
        self.restart = self._action("refresh", "&Restart", self._restart)
        self.chart = self._action("chart", "Show its &chart", self._show_chart)
        self.table.picked.connect(self._picked)
        self.table.opened.connect(lambda _pulse: self._show_chart())
        self.show_latency = bench.actions.add(
            Command(SHOW_LATENCY, "Order late&ncy", "&View", "clock", tip="Show how long orders take, stage by stage"),
            lambda: self.splitter.want(self.show_latency.isChecked()),
            checkable=True,
        )
        self.show_latency.setChecked(True)
        yield
        self._timer.timeout.connect(self._beat)
        self.desk.framed.connect(self._on_frame)
        self.desk.linked.connect(self._beat)
        self._take_all()
        self._picked()

    # ---- what comes in ----------------------------------------------------------------------------------------------

    def _on_frame(self, frame: Frame) -> None:
        if frame.snapshot:
            self._take_all()
            return
        if frame.engine:
            self._take_engine()
        if frame.latency:
            self.latency.show_latency(self.desk.replica.latency)
        for strategy_id in frame.strategies:
            self._take_strategy(strategy_id)
        if frame.strategies:
            self._picked()

    def _take_all(self) -> None:
        """Begin anew with what the replica has; strategies that are gone go."""
        replica = self.desk.replica
        keys = {ENGINE_KEY, WINDOW_KEY, *(("strategy", strategy_id) for strategy_id in replica.strategies)}
        for key in [key for key in self._heard_s if key not in keys]:
            del self._heard_s[key]
            self._histories.pop(key, None)
            self.model.remove(key)
        self._take_engine()
        self._take_window()
        for strategy_id in replica.strategies:
            self._take_strategy(strategy_id)
        self.latency.show_latency(replica.latency)
        self._picked()

    def retire(self) -> None:
        """Take the command away."""
        self.bench.actions.remove(SHOW_LATENCY)

    def _take_engine(self) -> None:
        engine = self.desk.replica.engine
        if engine is not None:
            self._note(ENGINE_KEY, float(engine.pnl))
            self._put_engine()

    def _take_strategy(self, strategy_id: str) -> None:
        strategy = self.desk.replica.strategies.get(strategy_id)
        if strategy is not None:
            key = ("strategy", strategy_id)
            self._note(key, float(strategy.pnl))
            self.model.put(key, strategy_pulse(strategy, 0.0, self._histories[key].values))

    def _note(self, key: tuple[str, str], pnl: float) -> None:
        """Take down when it was heard of, and its PnL for the trend."""
        now_s = self._clock_s()
        self._heard_s[key] = now_s
        self._histories.setdefault(key, History()).take(pnl, now_s)

    # ---- once a second ----------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        """Count ages on, and look at this process."""
        with self._process.oneshot():
            self._own = (self._process.cpu_percent(), self._process.memory_info().rss)
        self._take_window()
        if self.desk.replica.engine is not None:
            self._put_engine()
        now_s = self._clock_s()
        for strategy_id, strategy in self.desk.replica.strategies.items():
            key = ("strategy", strategy_id)
            heard_s = self._heard_s.get(key)
            if heard_s is not None and now_s - heard_s >= 1.0:
                self.model.put(key, strategy_pulse(strategy, now_s - heard_s, self._histories[key].values))

    def _take_window(self) -> None:
        self._heard_s[WINDOW_KEY] = self._clock_s()
        self.model.put(WINDOW_KEY, window_pulse(self._monitor.stats(), *self._own))

    def _put_engine(self) -> None:
        engine = self.desk.replica.engine
        heard_s = self._heard_s.get(ENGINE_KEY)
        if engine is None or heard_s is None:
            return
        lost = "" if self.desk.is_connected else self.desk.last_words or self.desk.link_reason
        history = self._histories[ENGINE_KEY].values
        self.model.put(ENGINE_KEY, engine_pulse(engine, self._clock_s() - heard_s, history, lost))

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Count ages on while somebody looks."""
        super().showEvent(event)
        self._beat()
        self._timer.start()

    def hideEvent(self, event: QHideEvent) -> None:  # noqa: N802 - Qt's name
        """Rest."""
        super().hideEvent(event)
        self._timer.stop()

    # ---- the chosen row ---------------------------------------------------------------------------------------------

    def _picked(self) -> None:
        """Say the chosen row in words, and offer what can be done with it."""
        chosen = self._chosen_strategies()
        self.stop.setEnabled(any(strategy.state not in _ENDED for strategy in chosen))
        self.restart.setEnabled(bool(chosen))
        only_ended = bool(chosen) and all(strategy.state in _ENDED for strategy in chosen)
        self.restart.setText("&Start again" if only_ended else "&Restart")
        self.chart.setEnabled(len(chosen) == 1 and bool(chosen[0].spec.instruments))
        rows = self.table.selected()
        text = _in_words(rows[0]) if len(rows) == 1 else ""
        tone = rows[0].look if text else ""
        self.detail.say(text, tone if tone in ("danger", "warning") else "muted")

    def _chosen_strategies(self) -> list[StrategySnapshot]:
        """Give the chosen strategies as they are now."""
        known = self.desk.replica.strategies
        return [
            known[pulse.name] for pulse in self.table.selected() if pulse.strategy is not None and pulse.name in known
        ]

    def _stop(self) -> None:
        for strategy in self._chosen_strategies():
            if strategy.state not in _ENDED:
                strategy_id = strategy.spec.strategy_id
                self.desk.send(StopStrategy(strategy_id), f"{strategy_id} was stopped", timeout_s=STOP_TIMEOUT_S)

    def _restart(self) -> None:
        for strategy in self._chosen_strategies():
            self.desk.start(self._stop_and_start(strategy))

    async def _stop_and_start(self, strategy: StrategySnapshot) -> None:
        """Start a strategy anew from its file, which may have changed."""
        strategy_id, ran = strategy.spec.strategy_id, strategy.state not in _ENDED
        if ran:
            await self.desk.request(StopStrategy(strategy_id), timeout_s=STOP_TIMEOUT_S)
        try:
            await self.desk.request(StartStrategy(strategy.spec), timeout_s=STOP_TIMEOUT_S)
        except LinkError:
            raise  # whether it was started is not known
        except KocError as error:
            was = "was stopped and" if ran else "was"
            raise KocError(f"{strategy_id} {was} not started again: {error}") from error
        self.desk.notify(f"{strategy_id} was started again")

    def _show_chart(self) -> None:
        chosen = self._chosen_strategies()
        if len(chosen) == 1 and chosen[0].spec.instruments:
            self.bench.requests.open_chart(chosen[0].spec.instruments[0], chosen[0].spec.timeframe)

    def _action(self, name: str, text: str, run: Callable[[], None]) -> QAction:
        action = QAction(icon(name, self.bench.theme), text, self.table)
        action.triggered.connect(lambda _checked=False: run())
        self.table.addAction(action)
        return action

    # ---- memory -----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Give the columns' widths and order, and whether latencies are shown."""
        return {
            "columns": self.table.column_state(),
            "latency_columns": self.latency.column_state(),
            "latency": self.show_latency.isChecked(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take them over."""
        columns = state.get("columns")
        if isinstance(columns, dict):
            self.table.restore_columns(columns)
        if isinstance(columns := state.get("latency_columns"), dict):
            self.latency.restore_columns(columns)
        if isinstance(is_shown := state.get("latency"), bool):
            self.show_latency.setChecked(is_shown)
            self.splitter.want(is_shown)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for room for some rows."""
        return QSize(700, 220)


def _in_words(pulse: Pulse) -> str:
    """Say what does not fit into a cell."""
    words = [f"{pulse.name}: {pulse.reason or pulse.state.lower()}"]
    if pulse.badge_reason:
        words.append(f"Sandbox {pulse.badge}: {pulse.badge_reason}")
    if pulse.metrics:
        words.append(metrics_text(pulse))
    return "  ·  ".join(words)
