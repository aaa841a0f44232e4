"""The back-test panel: what to run on which history, how far it is, and what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import QStackedWidget, QVBoxLayout, QWidget

from koc_qt.domain.backtests import BacktestResult, BacktestSnapshot, BacktestSpec, RoundTrip
from koc_qt.domain.errors import KocError, LinkError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.state import JobState
from koc_qt.link.backtest_messages import BacktestHead, FetchBacktest, StartBacktest, StopBacktest
from koc_qt.link.results import fetch_result
from koc_qt.ui.actions import Command
from koc_qt.ui.backtests.compare import ComparePage, labelled
from koc_qt.ui.backtests.export import KINDS, Exporter, Shown
from koc_qt.ui.backtests.history import HistoryPage
from koc_qt.ui.backtests.message import MessageView
from koc_qt.ui.backtests.optimise import OptimisePage
from koc_qt.ui.backtests.run_bar import RunBar
from koc_qt.ui.backtests.splitter import ShapedSplitter
from koc_qt.ui.backtests.trust_keeper import TrustKeeper
from koc_qt.ui.bench import Bench, MarkedTrips, Panel
from koc_qt.ui.desk import Frame
from koc_qt.ui.errands import Errand
from koc_qt.ui.loading import load_in_steps
from koc_qt.ui.panels.backtest_result import ResultView
from koc_qt.ui.panels.backtest_runs import ProgressView
from koc_qt.ui.panels.backtest_setup import BacktestSetup

if TYPE_CHECKING:
    from koc_qt.ui.backtests.player import PlayerPage

START_TIMEOUT_S = 30.0
RESULT_TIMEOUT_S = 30.0
COMMAND = "backtest.run"
_WIDE_PX = 560  # from which setup and result have room side by side
_SETUP_PX = 330
_EMPTY = (
    "Choose a strategy, a symbol or a file of bars, and a range, then press Run.\n"
    "Its equity, statistics and trades appear here; nothing is traded."
)


class BacktestPanel(Panel):
    """Setup on one side; on the other the result of one of the runs, the list of all, or several side by side."""

    NAME: ClassVar[str] = "backtest"
    TITLE: ClassVar[str] = "Back-test"
    ICON: ClassVar[str] = "backtest"

    def __init__(
        self, bench: Bench, parent: QWidget | None = None, *, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        super().__init__(bench, parent)
        self._clock_ns = clock_ns
        self._run_id = ""  # the run that is looked at
        self._view = ""  # what is looked at in its place
        self._awaited = ""  # one that was started, until it is heard of
        self._loaded: tuple[str, int] | None = None  # id and start of the run whose result is shown
        self._fetched: tuple[str, int] | None = None  # the one whose result was asked for last
        self._wants_run = False  # once what was typed has been looked up
        self._starting = Errand(self.desk, self)
        self._fetching = Errand(self.desk, self)
        self._comparing = Errand(self.desk, self)
        self.player: PlayerPage | None = None  # made when it is wanted first: it needs what takes long to load
        self.exporter = Exporter(self.desk, self, clock_ns=clock_ns)
        self.make()

    def parts(self) -> Iterator[None]:
        """Make the setup, then the line of runs with a page for each of the states of one, and the other views."""
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
        self.bar = RunBar(self.bench.theme, right, kinds=KINDS)
        column.addWidget(self.bar)
        self.pages = QStackedWidget(right)
        column.addWidget(self.pages, 1)
        yield
        self.message = MessageView(self.pages)
        self.progress = ProgressView(self.bench.theme, self.pages)
        self.result = ResultView(self.bench, self.pages)
        yield from self.result.parts()
        yield
        self.history = HistoryPage(self.bench, self.pages)
        yield
        self.compared = ComparePage(self.bench.theme, self.pages)
        yield
        self.optimise = OptimisePage(self.bench, self.pages, base=self._base, place=self.setup.placed)
        yield from self.optimise.parts()
        for page in (self.message, self.progress, self.result, self.history, self.compared, self.optimise):
            self.pages.addWidget(page)
        self.trust = TrustKeeper(self.desk, self.bench.theme, self.result.trust, self)
        yield
        self._connect()
        self.history.show_all(self.desk.replica.backtests)
        self._show_runs()

    def _connect(self) -> None:
        self.setup.run_wanted.connect(self.run)
        self.setup.settled.connect(self._run_if_wanted)
        self.bar.run_chosen.connect(self.look_at)
        self.bar.view_chosen.connect(self.show_view)
        self.bar.export_wanted.connect(self._export)
        self.bar.replay_wanted.connect(self._replay)
        self.progress.stop_wanted.connect(self._stop)
        self.message.retry.clicked.connect(lambda _checked: self.look_at(self._run_id))
        self.result.trade_opened.connect(self._open_trade)
        self.result.marks_toggled.connect(self._toggle_marks)
        self.history.opened.connect(self.look_at)
        self.history.compare_wanted.connect(self.compare)
        self.history.settings_wanted.connect(self.setup.take)
        self.optimise.settings_wanted.connect(self.setup.take)
        self.setup.settled.connect(lambda: self.optimise.offer(self.setup.described))
        self.compared.closed.connect(lambda: self.show_view("history"))
        self.bench.requests.trips_marked.connect(self._marks_changed)
        self.bench.requests.backtest_offered.connect(self.offer)
        self.bench.requests.bars_offered.connect(self.setup.bars.offer)
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
            "overview": self.result.overview.splitter.moved_to,
            "columns": self.result.trades.table.column_state(),
            "runs": self.history.table.column_state(),
            "search": self.optimise.state(),
            "check": self.result.trust.every.isChecked(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take that over."""
        if isinstance(setup := state.get("setup"), dict):
            self.setup.restore(setup)
        self.splitter.restore_sizes(state.get("sizes"))
        self.result.overview.splitter.restore_sizes(state.get("overview"))
        if isinstance(search := state.get("search"), dict):
            self.optimise.restore(search)
        if isinstance(check := state.get("check"), bool):
            self.result.trust.every.setChecked(check)
        for name, table in (("columns", self.result.trades.table), ("runs", self.history.table)):
            if isinstance(columns := state.get(name), dict):
                table.restore_columns(columns)

    def retire(self) -> None:
        """Take the command away, and no answer that is still on its way."""
        for errand in (self._starting, self._fetching, self._comparing):
            errand.cancel()
        self.exporter.stop()
        self.trust.close()
        self.optimise.close_down()
        if self.player is not None:
            self.player.stop()
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
            self.trust.expect(self._awaited)
        self.setup.refresh()
        self._show_runs()

    def _base(self) -> BacktestSpec | None:
        """Give the run whose parameters are to be searched; None, and marks in the form, where it is not complete."""
        return next(iter(self.setup.specs()), None)

    def _refused(self, error: KocError) -> None:
        self.setup.refresh()
        self.setup.say(str(error), is_problem=True)

    def _stop(self) -> None:
        self.desk.send(StopBacktest(self._run_id))

    # ---- the runs ---------------------------------------------------------------------------------------------------

    def look_at(self, run_id: str) -> None:
        """Show another run."""
        self._run_id, self._fetched = run_id, None
        self.show_view("")

    def show_view(self, name: str) -> None:
        """Show the list of all runs in the place of one, or with "" that one."""
        self._view = name
        self._comparing.cancel()
        if self.player is not None:
            self.player.stop()
        self._show_runs()

    def _on_frame(self, frame: Frame) -> None:
        if frame.snapshot:
            self._fetched = None
            self.history.show_all(self.desk.replica.backtests)
        elif frame.backtests:
            self.history.show_runs(self.desk.replica.backtests, frame.backtests)
        if frame.snapshot or frame.backtests:
            self._show_runs()
        if frame.snapshot or frame.studies:
            self.optimise.refresh()
        if frame.trust and not (frame.snapshot or frame.backtests):
            self.trust.look_at(self.desk.replica.backtests.get(self._run_id))
            self.bar.show_parity(self.trust.trust)

    def _show_runs(self) -> None:
        """Bring the list up to date, and what is shown of the chosen one."""
        runs = self.desk.replica.backtests
        if self._awaited in runs:
            self._run_id, self._awaited, self._view = self._awaited, "", ""
        if self._run_id not in runs:
            self._run_id = next(reversed(runs), "")
        self.trust.look_at(runs.get(self._run_id))
        self.bar.show_runs(runs, self._run_id)
        self.bar.show_parity(self.trust.trust)
        self.bar.show_view("history" if self._view == "compare" else self._view)
        if self._view == "history":
            self.pages.setCurrentWidget(self.history)
        elif self._view == "optimise":
            self.pages.setCurrentWidget(self.optimise)
        elif not self._view:
            self._show_run()

    def _show_run(self) -> None:
        run = self.desk.replica.backtests.get(self._run_id)
        if run is None or run.state is not JobState.DONE:
            self._fetching.cancel()
            self._fetched = None
        if run is None:
            self._loaded = None
            self._say("", _EMPTY)
        elif run.state is JobState.DONE:
            self._show_result(run)
        elif run.state is JobState.RUNNING:
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
        self._loaded = wanted
        if self.bench.requests.marked:  # those of another run
            self._mark(None)
        if not self._view:
            self.pages.setCurrentWidget(self.result)

    def _not_fetched(self, error: KocError) -> None:
        if not self._view:
            self._say("The result did not come", str(error), can_retry=True)

    def _export(self, ending: str) -> None:
        """Write the result that is shown to a file."""
        result = self.result.result
        if result is not None and self._loaded is not None and self._loaded[0] == self._run_id:
            self.exporter.ask(ending, Shown(self._run_id, result, self.result.currency, self.trust.report))

    def _replay(self) -> None:
        """Play the run bar by bar, its fills and all."""
        self._view = "replay"
        self._say("", "Fetching the run…")
        self._fetching.start(self._fetch_to_replay(self._run_id), self._not_replayed)

    async def _fetch_to_replay(self, run_id: str) -> None:
        result = await fetch_result(self.desk, run_id, with_fills=True, timeout_s=RESULT_TIMEOUT_S)
        if self.player is None:
            self.player = await self._make_player()
        self.pages.setCurrentWidget(self.player)
        run = self.desk.replica.backtests.get(run_id)
        self.player.show_run(result, run.started_ns if run is not None else None)
        self.player.play.setFocus()

    async def _make_player(self) -> PlayerPage:
        for _ in load_in_steps("koc_qt.ui.backtests.player"):
            await asyncio.sleep(0)
        from koc_qt.ui.backtests.player import PlayerPage

        page = PlayerPage(self.bench, self.pages)
        try:
            for _ in iter(page.make_part, False):
                await asyncio.sleep(0)
        except asyncio.CancelledError:  # the person has gone on meanwhile
            page.deleteLater()
            raise
        page.closed.connect(lambda: self.show_view(""))
        self.pages.addWidget(page)
        return page

    def _not_replayed(self, error: KocError) -> None:
        self.desk.notify(str(error))
        self.show_view("")

    # ---- several side by side ---------------------------------------------------------------------------------------

    def compare(self, run_ids: list[str]) -> None:
        """Show these runs side by side."""
        self._view = "compare"
        self._say("", "Fetching the results…")
        self._comparing.start(self._compare(run_ids), self._not_compared)

    async def _compare(self, run_ids: list[str]) -> None:
        results: list[BacktestResult] = []
        for run_id in run_ids:
            answer = await self.desk.request(FetchBacktest(run_id), timeout_s=RESULT_TIMEOUT_S)
            try:
                result = msgspec.convert(answer, BacktestHead).result
            except msgspec.ValidationError as error:
                raise LinkError(f"the engine's result cannot be read: {error}") from error
            results.append(result)
        replica = self.desk.replica.backtests
        notes = [run.note if (run := replica.get(run_id)) is not None else "" for run_id in run_ids]
        await self.compared.show_runs(labelled(results, notes), self.result.currency_of(results[0]))
        self.pages.setCurrentWidget(self.compared)

    def _not_compared(self, error: KocError) -> None:
        self.desk.notify(str(error))
        self.show_view("history")

    # ---- trades on charts -------------------------------------------------------------------------------------------

    def _open_trade(self, trip: RoundTrip) -> None:
        """Show a trade on a chart."""
        result = self.result.result
        if result is not None:
            self._mark(trip)
            self.result.overview.chart.point_at(trip.entry_ns)
            if result.spec.files:
                self._say_no_chart(trip.instrument)
            else:
                self.bench.requests.open_chart(trip.instrument, result.timeframe)

    def _toggle_marks(self, is_on: bool) -> None:
        result = self.result.result
        if is_on and result is not None and result.spec.files:
            self._say_no_chart(result.spec.instruments[0])
        self._mark(None)

    def _say_no_chart(self, instrument: InstrumentId) -> None:
        self.desk.notify(f"There is no chart of {instrument.symbol}, a file's: Replay shows its trades bar by bar.")

    def _mark(self, chosen: RoundTrip | None) -> None:
        """Have charts show the chosen trade, and all others of the run where that is wanted."""
        result = self.result.result
        if result is None:
            return
        trips = tuple(result.trades) if self.result.trades.mark.isChecked() else ()
        self.bench.requests.mark(MarkedTrips(result.name, result.timeframe, trips, chosen))

    def _marks_changed(self) -> None:
        """Let the button go where a chart was told to remove the trades."""
        if not self.bench.requests.marked:
            self.result.trades.mark.setChecked(False)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for room for form and result."""
        return QSize(900, 260)
