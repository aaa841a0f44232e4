"""The back-test panel: what to run on which history, how far it is, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSpacerItem,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from koc_qt.domain.backtests import BacktestSnapshot, BacktestSpec, RoundTrip
from koc_qt.domain.errors import KocError
from koc_qt.domain.state import JobState
from koc_qt.link.messages import StartBacktest, StopBacktest
from koc_qt.link.results import fetch_result
from koc_qt.ui.actions import Command
from koc_qt.ui.backtests.splitter import ShapedSplitter
from koc_qt.ui.bench import Bench, MarkedTrips, Panel
from koc_qt.ui.desk import Frame
from koc_qt.ui.errands import Errand
from koc_qt.ui.panels.backtest_fields import WheelGuard
from koc_qt.ui.panels.backtest_result import ResultView
from koc_qt.ui.panels.backtest_runs import PILLS, ProgressView, run_text
from koc_qt.ui.panels.backtest_setup import BacktestSetup
from koc_qt.ui.theme import style_as

START_TIMEOUT_S = 30.0
RESULT_TIMEOUT_S = 30.0
COMMAND = "backtest.run"
_WIDE_PX = 560  # from which setup and result have room side by side
_SETUP_PX = 330
_FIXED, _GROWING = QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Expanding
_EMPTY = (
    "Choose a strategy, a symbol and a range, then press Run.\n"
    "Its equity, statistics and trades appear here; nothing is traded."
)


class MessageView(QWidget):
    """Words in the place of a result, with a button where something can be done."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.title, self.text = QLabel(self), QLabel(self)
        style_as(self.title, face="title")
        self.text.setWordWrap(True)
        self.text.setTextFormat(Qt.TextFormat.PlainText)
        self.text.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self.retry = QPushButton("Try again", self)
        row = QHBoxLayout()
        row.addWidget(self.retry)
        row.addStretch(1)
        self._above = QSpacerItem(0, 0, QSizePolicy.Policy.Minimum, _GROWING)
        self._column = column = QVBoxLayout(self)
        column.setContentsMargins(14, 12, 14, 12)
        column.setSpacing(8)
        column.addItem(self._above)
        column.addWidget(self.title)
        column.addWidget(self.text)
        column.addLayout(row)
        column.addItem(QSpacerItem(0, 0, QSizePolicy.Policy.Minimum, _GROWING))

    def say(self, title: str, text: str, *, tone: str | None = None, can_retry: bool = False) -> None:
        """Say this."""
        self.title.setText(title)
        self.title.setVisible(bool(title))
        self.text.setText(text)
        style_as(self.title, tone=tone)
        style_as(self.text, tone=None if title else "muted")
        self.text.setAlignment(Qt.AlignmentFlag.AlignLeft if title else Qt.AlignmentFlag.AlignCenter)
        self._above.changeSize(0, 0, QSizePolicy.Policy.Minimum, _FIXED if title else _GROWING)
        self._column.invalidate()
        self.retry.setVisible(can_retry)


class BacktestPanel(Panel):
    """Setup on one side, the runs of this session and the result of one of them on the other."""

    NAME: ClassVar[str] = "backtest"
    TITLE: ClassVar[str] = "Back-test"
    ICON: ClassVar[str] = "backtest"

    def __init__(
        self, bench: Bench, parent: QWidget | None = None, *, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        super().__init__(bench, parent)
        self._clock_ns = clock_ns
        self._run_id = ""  # the run that is looked at
        self._awaited = ""  # one that was started, until it is heard of
        self._loaded: tuple[str, int] | None = None  # id and start of the run whose result is shown
        self._fetched: tuple[str, int] | None = None  # the one whose result was asked for last
        self._wants_run = False  # once what was typed has been looked up
        self._starting = Errand(self.desk, self)
        self._fetching = Errand(self.desk, self)
        self.make()

    def parts(self) -> Iterator[None]:
        """Make the setup, then the list of runs with a page for each of the states of one."""
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        self.splitter = ShapedSplitter(self, wide_px=_WIDE_PX, kept_px=_SETUP_PX)
        whole.addWidget(self.splitter)
        self.setup = BacktestSetup(self.bench, self._clock_ns, self.splitter)
        self.setup.setMinimumSize(236, 110)
        right = QWidget(self.splitter)
        right.setMinimumSize(200, 110)
        self.splitter.keep(0)
        yield from self.setup.parts()
        yield
        column = QVBoxLayout(right)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        self._make_bar(right)
        column.addWidget(self.bar)
        self.pages = QStackedWidget(right)
        column.addWidget(self.pages, 1)
        yield
        self.message = MessageView(self.pages)
        self.progress = ProgressView(self.bench.theme, self.pages)
        self.result = ResultView(self.bench, self.pages)
        for page in (self.message, self.progress, self.result):
            self.pages.addWidget(page)
        yield
        yield from self.result.parts()
        yield
        self._connect()
        self._show_runs()

    def _make_bar(self, parent: QWidget) -> None:
        self.bar = QWidget(parent)
        row = QHBoxLayout(self.bar)
        row.setContentsMargins(8, 6, 8, 4)
        row.setSpacing(6)
        self.runs = QComboBox(self.bar)
        self.runs.setAccessibleName("Runs")
        self.runs.setToolTip("The back-tests of this engine, the newest first")
        self.runs.setMinimumContentsLength(12)
        self.runs.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        WheelGuard(self).watch(self.runs)
        self.pill = QLabel(self.bar)
        style_as(self.pill, pill="neutral")  # before it is shown first: later only the colours change, not the room
        row.addWidget(self.runs, 1)
        row.addWidget(self.pill)

    def _connect(self) -> None:
        self.setup.run_wanted.connect(self.run)
        self.setup.settled.connect(self._run_if_wanted)
        self.runs.activated.connect(lambda place: self.look_at(str(self.runs.itemData(place))))
        self.progress.stop_wanted.connect(self._stop)
        self.message.retry.clicked.connect(lambda _checked: self.look_at(self._run_id))
        self.result.trade_opened.connect(self._open_trade)
        self.result.marks_toggled.connect(lambda _on: self._mark(None))
        self.bench.requests.trips_marked.connect(self._marks_changed)
        self.bench.requests.backtest_offered.connect(self.offer)
        self.desk.framed.connect(self._on_frame)
        for keys in ("Ctrl+Return", "Ctrl+Enter"):
            shortcut = QShortcut(QKeySequence(keys), self)
            shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            shortcut.activated.connect(self.run)
        self.bench.actions.add(
            Command(COMMAND, "&Run the back-test", "&Trade", "backtest", tip="Run what the back-test panel holds"),
            self._run_from_afar,
        )

    # ---- for the window ---------------------------------------------------------------------------------------------

    def offer(self, path: str) -> None:
        """Put a strategy file in, and come to the front."""
        self.setup.offer(path)
        self.bench.requests.panel_wanted.emit(self.NAME)

    def state(self) -> dict[str, Any]:
        """Give what was chosen and typed, and how the room is shared."""
        return {
            "setup": self.setup.state(),
            "sizes": self.splitter.moved_to,
            "columns": self.result.trades.table.column_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take that over."""
        if isinstance(setup := state.get("setup"), dict):
            self.setup.restore(setup)
        self.splitter.restore_sizes(state.get("sizes"))
        if isinstance(columns := state.get("columns"), dict):
            self.result.trades.table.restore_columns(columns)

    def retire(self) -> None:
        """Take the command away, and no answer that is still on its way."""
        self._starting.cancel()
        self._fetching.cancel()
        self.bench.requests.mark(MarkedTrips())
        self.bench.actions.remove(COMMAND)

    # ---- running ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Start a back-test of what the form holds, as soon as what was typed has been looked up."""
        if not self.desk.is_connected or self._starting.is_running:
            return
        self._wants_run = True
        self.setup.settle()
        if self.setup.is_settling:
            self.setup.say("Looking up what you typed…")
        else:
            self._run_if_wanted()

    def _run_from_afar(self) -> None:
        self.bench.requests.panel_wanted.emit(self.NAME)
        self.run()

    def _run_if_wanted(self) -> None:
        if not self._wants_run or self.setup.is_settling:
            return
        self._wants_run = False
        specs = self.setup.specs()
        if specs:
            self.setup.run.setEnabled(False)
            self.setup.say("Starting…")
            self._starting.start(self._start(specs), self._refused)

    async def _start(self, specs: list[BacktestSpec]) -> None:
        for spec in reversed(specs):  # the first of them is looked at
            placed = await self.setup.placed(spec)
            self._awaited = str(await self.desk.request(StartBacktest(placed), timeout_s=START_TIMEOUT_S))
        self.setup.refresh()
        self._show_runs()

    def _refused(self, error: KocError) -> None:
        self.setup.refresh()
        self.setup.say(str(error), is_problem=True)

    def _stop(self) -> None:
        self.desk.send(StopBacktest(self._run_id))

    # ---- the runs ---------------------------------------------------------------------------------------------------

    def look_at(self, run_id: str) -> None:
        """Show another run."""
        self._run_id, self._fetched = run_id, None
        self.runs.setCurrentIndex(self.runs.findData(run_id))
        self._show_run()

    def _on_frame(self, frame: Frame) -> None:
        if frame.snapshot:
            self._fetched = None
        if frame.snapshot or frame.backtests:
            self._show_runs()

    def _show_runs(self) -> None:
        """Bring the list up to date, and what is shown of the chosen one."""
        runs = self.desk.replica.backtests
        keys = list(reversed(runs))
        if self._awaited in runs:
            self._run_id, self._awaited = self._awaited, ""
        if self._run_id not in runs:
            self._run_id = keys[0] if keys else ""
        if keys != [self.runs.itemData(place) for place in range(self.runs.count())]:
            self.runs.clear()
            for key in keys:
                self.runs.addItem(run_text(runs[key]), key)
        for place, key in enumerate(keys):
            text = run_text(runs[key])
            if self.runs.itemText(place) != text:
                self.runs.setItemText(place, text)
                self.runs.setItemData(place, text, Qt.ItemDataRole.ToolTipRole)
        self.runs.setCurrentIndex(self.runs.findData(self._run_id))
        self._show_run()

    def _show_run(self) -> None:
        run = self.desk.replica.backtests.get(self._run_id)
        self.bar.setVisible(run is not None)
        if run is None or run.state is not JobState.DONE:
            self._fetching.cancel()
            self._fetched = None
        if run is None:
            self._loaded = None
            self._say("", _EMPTY)
            return
        self.pill.setText(run.state.value)
        style_as(self.pill, pill=PILLS[run.state])
        if run.state is JobState.DONE:
            self._show_result(run)
            return
        if run.state is JobState.RUNNING:
            self.progress.show_run(run)
            self.pages.setCurrentWidget(self.progress)
        elif run.state is JobState.FAILED:
            self._say("The run failed", f"{run.reason}\n\nWhat you chose is still there: correct it, and run again.")
        else:
            self._say("The run was stopped", run.reason)

    def _say(self, title: str, text: str, *, can_retry: bool = False) -> None:
        self.message.say(title, text, tone="danger" if title and "stopped" not in title else None, can_retry=can_retry)
        self.pages.setCurrentWidget(self.message)

    # ---- the result -------------------------------------------------------------------------------------------------

    def _show_result(self, run: BacktestSnapshot) -> None:
        wanted = (run.backtest_id, run.started_ns)
        if wanted == self._loaded:
            self.pages.setCurrentWidget(self.result)
        elif wanted != self._fetched:  # one that did not come is asked for again by the person, or a new connection
            self._fetched = wanted
            self._say("", "Fetching the result…")
            self._fetching.start(self._fetch(wanted), self._not_fetched)

    async def _fetch(self, wanted: tuple[str, int]) -> None:
        result = await fetch_result(self.desk, wanted[0], timeout_s=RESULT_TIMEOUT_S)
        self._loaded = None
        await self.result.show_result(result)
        if self.bench.requests.marked:  # those of another run
            self._mark(None)
        self._loaded = wanted
        self.pages.setCurrentWidget(self.result)

    def _not_fetched(self, error: KocError) -> None:
        self._say("The result did not come", str(error), can_retry=True)

    def _open_trade(self, trip: RoundTrip) -> None:
        """Show a trade on a chart."""
        result = self.result.result
        if result is not None:
            self._mark(trip)
            self.bench.requests.open_chart(trip.instrument, result.timeframe)
            self.bench.requests.time_wanted.emit(trip.instrument, trip.entry_ns)

    def _mark(self, chosen: RoundTrip | None) -> None:
        """Have charts show the chosen trade, and all others of the run where that is wanted."""
        result = self.result.result
        if result is None:
            return
        trips = tuple(result.trades) if self.result.trades.mark.isChecked() else ()
        self.bench.requests.mark(MarkedTrips(result.name, trips, chosen))

    def _marks_changed(self) -> None:
        """Let the button go where a chart was told to remove the trades."""
        if not self.bench.requests.marked:
            self.result.trades.mark.setChecked(False)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for room for form and result."""
        return QSize(900, 260)
