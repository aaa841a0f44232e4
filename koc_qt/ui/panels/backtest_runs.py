"""The runs of this session: each in a line, and how far one is while it runs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import PurePath

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from koc_qt.domain.backtests import BacktestSnapshot
from koc_qt.domain.state import JobState
from koc_qt.domain.timeframes import DAY_NS, SECOND_NS
from koc_qt.reports.words import money_decimals
from koc_qt.ui import formats
from koc_qt.ui.icons import icon
from koc_qt.ui.panels.backtest_fields import Cells
from koc_qt.ui.tables.columns import tone_of_sign
from koc_qt.ui.theme import Theme, number_font, style_as

_STAGES = {"history": "Getting the history", "run": "Running"}
PILLS = {JobState.RUNNING: "info", JobState.DONE: "neutral", JobState.FAILED: "danger", JobState.STOPPED: "warning"}


def run_text(run: BacktestSnapshot) -> str:
    """Give a run in a line: strategy, what came of it, market and range."""
    spec = run.spec
    symbols = spec.instruments[0].symbol + (f" +{len(spec.instruments) - 1}" if len(spec.instruments) > 1 else "")
    name = PurePath(spec.path.replace("\\", "/")).stem
    return f"{name}  {outcome(run)} · {symbols} {spec.timeframe} · {range_text(spec.since_ns, spec.until_ns)}"


def outcome(run: BacktestSnapshot) -> str:
    """Give the return of a run that is done, or what it does instead."""
    if run.state is JobState.DONE:
        return formats.percent(gain(run), signed=True)
    if run.state is JobState.RUNNING:
        return formats.percent(run.progress, 0) if run.stage == "run" else _STAGES.get(run.stage, "waiting").lower()
    return run.state.value


def gain(run: BacktestSnapshot) -> float | None:
    """Give the return so far as a fraction; None while there is no equity."""
    return None if run.equity is None else run.equity / float(run.spec.cash) - 1.0


def range_text(since_ns: int, until_ns: int) -> str:
    """Give a range of UTC times in short."""
    since, until = (datetime.fromtimestamp(time_ns // SECOND_NS, UTC) for time_ns in (since_ns, until_ns))
    if until_ns - since_ns < 3 * DAY_NS:
        return f"{since:%b %d %H:%M} + {formats.duration((until_ns - since_ns) / SECOND_NS)}"
    return f"{since:%Y-%m-%d} to {until:%Y-%m-%d}"


class ProgressView(QWidget):
    """How far a run is. `stop_wanted` says that the person has seen enough."""

    stop_wanted = Signal()

    def __init__(self, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self.stage = QLabel(self)
        self.stage.setTextFormat(Qt.TextFormat.PlainText)
        self.stage.setWordWrap(True)
        self.stage.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        style_as(self.stage, face="title")
        self.stop = QPushButton("Stop", self)
        self.stop.setIcon(icon("stop", theme))
        self.stop.clicked.connect(lambda _checked: self.stop_wanted.emit())
        self.bar = QProgressBar(self)
        self.bar.setRange(0, 1_000)
        self.bar.setAccessibleName("Progress")
        row = QHBoxLayout()
        row.addWidget(self.stage, 1)
        row.addWidget(self.stop)
        cells = Cells(120, self, most=4)
        self.bars, self.until = self._figure(cells, "Bars"), self._figure(cells, "Up to")
        self.equity, self.remaining = self._figure(cells, "Equity"), self._figure(cells, "Remaining")
        column = QVBoxLayout(self)
        column.setContentsMargins(14, 12, 14, 12)
        column.setSpacing(10)
        column.addLayout(row)
        column.addWidget(self.bar)
        column.addWidget(cells)
        column.addStretch(1)

    def _figure(self, cells: Cells, caption: str) -> QLabel:
        figure = QWidget(cells)
        title, value = QLabel(caption, figure), QLabel(figure)
        style_as(title, face="small", tone="muted")
        value.setFont(number_font())
        value.setTextFormat(Qt.TextFormat.PlainText)
        value.setAccessibleName(caption)
        column = QVBoxLayout(figure)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(1)
        column.addWidget(title)
        column.addWidget(value)
        cells.add(figure)
        return value

    def show_run(self, run: BacktestSnapshot) -> None:
        """Show how far this one is."""
        stage = _STAGES.get(run.stage, "")
        waiting = run.reason[:1].upper() + run.reason[1:] or "Starting"
        self.stage.setText(stage or waiting)
        self.bar.setValue(round(1_000 * min(max(run.progress, 0.0), 1.0)) if stage else 0)
        self.bars.setText(f"{run.bars:,}" if run.bars else formats.DASH)
        self.until.setText(formats.date(run.position_ns))
        self.until.setToolTip(formats.utc(run.position_ns))
        text = formats.money(run.equity, money_decimals(run.spec.cash))
        share = gain(run)
        self.equity.setText(text if share is None else f"{text}  ({formats.percent(share, signed=True)})")
        style_as(self.equity, tone=tone_of_sign(share))
        self.remaining.setText(formats.duration(run.remaining_s))
