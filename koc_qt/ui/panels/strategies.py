"""Strategies: the files at hand, the form that starts one, and those that the engine knows, running or not."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QAction, QShowEvent
from PySide6.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QMessageBox,
    QPushButton,
    QSplitter,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from koc_qt.domain.errors import KocError, LinkError
from koc_qt.domain.state import StrategySnapshot, StrategySpec, TradingMode
from koc_qt.link.messages import StartStrategy, StopStrategy
from koc_qt.ui.actions import Command
from koc_qt.ui.bench import Bench, Panel
from koc_qt.ui.desk import Frame, Level
from koc_qt.ui.drops import judge_files
from koc_qt.ui.icons import icon
from koc_qt.ui.opening import open_gently
from koc_qt.ui.panels.strategies_drift import DriftKeeper
from koc_qt.ui.panels.strategies_drift_actions import DriftActions
from koc_qt.ui.panels.strategies_library import FILE_COLUMNS, Library, LibraryFile
from koc_qt.ui.panels.strategies_rows import FORMER_ORDERS, STATES, STRATEGY_COLUMNS, Known, in_words
from koc_qt.ui.resources import library_folder
from koc_qt.ui.start_form.form import StartForm
from koc_qt.ui.start_form.rules import is_active
from koc_qt.ui.tables.detail import DetailLine
from koc_qt.ui.tables.model import RecordModel
from koc_qt.ui.tables.view import RecordTable
from koc_qt.ui.theme import style_as

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
MOST_WAITING = 20  # forms; more files at once are refused
FORMS_KEPT = 50  # files whose filled-in form is remembered; the oldest makes way
_EMPTY = "Drop a strategy file anywhere on the window, or choose one above"
OPEN, START_ALL, STOP_ALL = "strategies.open", "strategies.start_all", "strategies.stop_all"


class StrategiesPanel(Panel):
    """The library above, the engine's strategies below. Forms open one after the other."""

    NAME = "strategies"
    TITLE = "Strategies"
    ICON = "strategy"

    def __init__(self, bench: Bench, own_folder: Path, parent: QWidget | None = None) -> None:
        super().__init__(bench, parent)
        self._waiting: deque[tuple[str, StrategySpec | None]] = deque()
        self._forms: dict[str, dict[str, Any]] = {}  # what was filled in, by path; the newest last
        self._starting: set[str] = set()
        self._is_retired = False
        self.form: StartForm | None = None
        self.drift = DriftKeeper(self.desk, self)
        samples = library_folder()
        folders = [(samples, True)] if samples is not None else []
        self.library = Library(self.desk, (*folders, (own_folder, False)), self)
        self._own_folder = own_folder
        self.make()

    # ---- making -----------------------------------------------------------------------------------------------------

    def parts(self) -> Iterator[None]:
        """Make the two halves, and what can be done in them."""
        theme = self.bench.theme
        self.splitter = QSplitter(Qt.Orientation.Vertical, self)
        self.splitter.setChildrenCollapsible(False)
        self.splitter.setHandleWidth(5)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(self.splitter)
        upper, lower = QWidget(self.splitter), QWidget(self.splitter)
        self.splitter.setStretchFactor(0, 2)
        self.splitter.setStretchFactor(1, 3)
        self.files = RecordModel(FILE_COLUMNS, theme, self)
        self.file_table = RecordTable(self.files, theme, upper, empty="No strategy files here yet")
        self.file_table.horizontalHeader().hide()
        self.file_table.setAccessibleName("Strategy files")
        self._make_file_actions()
        yield
        self.browse_button = QPushButton("Browse…", upper)
        self.browse_button.setIcon(icon("folder", theme))
        self.browse_button.setToolTip("Choose a strategy file (Ctrl+O)")
        self.browse_button.clicked.connect(self.browse)
        file_tools = [self._tool(each, upper) for each in (self._backtest_file, self._start_file)]
        self._lay_out(upper, self.browse_button, file_tools, self.file_table)
        yield
        self.model = RecordModel(STRATEGY_COLUMNS, theme, self, sort_by="strategy")
        self.table = RecordTable(self.model, theme, lower, empty=_EMPTY)
        self.table.setAccessibleName("Strategies that the engine knows")
        self.again = self._action("play", "&Start again", self.start_chosen)
        self.stop = self._action("stop", "S&top", self.stop_chosen)
        self.edit = self._action("edit", "&Edit…", self._edit)
        self.chart = self._action("chart", "Show &chart", self._show_chart)
        self.drift_actions = DriftActions(self.bench, self.drift, self._chosen, self)
        self.table.addActions([self.drift_actions.measure, self.drift_actions.show])
        yield
        caption = QLabel("Known to the engine", lower)
        style_as(caption, tone="muted")
        shown = (self.again, self.stop, self.edit, self.chart, self.drift_actions.show)
        tools = [self._tool(each, lower) for each in shown]
        column = self._lay_out(lower, caption, tools, self.table)
        self.detail = DetailLine(lower)
        column.addWidget(self.detail)
        yield
        self._make_commands()
        self._connect()
        yield
        self.library.read()
        self._show_all()
        self._judge_files()

    def _connect(self) -> None:
        self.library.changed.connect(self._show_files)
        self.file_table.opened.connect(lambda file: self.offer(file.path))
        self.file_table.picked.connect(self._judge_files)
        self.table.opened.connect(self._opened)
        self.table.picked.connect(self._picked)
        self.bench.requests.strategy_offered.connect(self.offer)
        self.desk.framed.connect(self._on_frame)
        self.desk.linked.connect(self._judge)
        self.drift.changed.connect(self._drift_changed)

    def _make_commands(self) -> None:
        add = self.bench.actions.add
        self._open = add(
            Command(
                OPEN,
                "&Open a strategy…",
                "&File",
                "folder",
                "Ctrl+O",
                "Choose a strategy file and set it up",
                leads=True,
            ),
            self.browse,
        )
        self._start_all = add(
            Command(START_ALL, "&Start all strategies", "&Trade", "play-all", tip="Start every known strategy again"),
            self.start_all,
        )
        self._stop_all = add(
            Command(
                STOP_ALL,
                "S&top all strategies",
                "&Trade",
                "stop-all",
                tip="Stop every strategy and cancel its orders; positions stay",
            ),
            self.stop_all,
        )

    def _make_file_actions(self) -> None:
        self._start_file = QAction(icon("play", self.bench.theme), "&Start…", self.file_table)
        self._start_file.triggered.connect(lambda _checked=False: self._with_file(self.offer))
        self._backtest_file = QAction(icon("backtest", self.bench.theme), "&Back-test…", self.file_table)
        self._backtest_file.triggered.connect(lambda _checked=False: self._with_file(self._backtest))
        for action in (self._start_file, self._backtest_file):
            action.setIconText(action.text().replace("&", ""))  # with its dots, for a button as well
            self.file_table.addAction(action)

    def _action(self, name: str, text: str, run: Callable[[], None]) -> QAction:
        action = QAction(icon(name, self.bench.theme), text, self.table)
        action.triggered.connect(lambda _checked=False: run())
        self.table.addAction(action)
        return action

    def _lay_out(self, half: QWidget, first: QWidget, tools: Sequence[QWidget], table: QWidget) -> QVBoxLayout:
        column = QVBoxLayout(half)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        row = QHBoxLayout()
        row.setContentsMargins(8, 4, 6, 4)
        row.setSpacing(2)
        row.addWidget(first)
        row.addStretch(1)
        for tool in tools:
            row.addWidget(tool)
        column.addLayout(row)
        column.addWidget(table, 1)
        for before, after in pairwise((first, *tools, table)):
            QWidget.setTabOrder(before, after)
        return column

    def _tool(self, action: QAction, parent: QWidget) -> QToolButton:
        button = QToolButton(parent)
        button.setDefaultAction(action)
        button.setIconSize(QSize(16, 16))
        button.setAutoRaise(True)
        button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        button.setAccessibleName(action.text().replace("&", ""))
        if action in (self._start_file, self._backtest_file):
            button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        return button

    # ---- files and forms --------------------------------------------------------------------------------------------

    def browse(self) -> None:
        """Ask for strategy files, and offer them."""
        dialog = QFileDialog(self.window(), "Choose a strategy")
        dialog.setFileMode(QFileDialog.FileMode.ExistingFiles)
        dialog.setNameFilters(["Strategies (*.py)", "All files (*)"])
        folder = self._own_folder if self._own_folder.is_dir() else library_folder()
        if folder is not None:
            dialog.setDirectory(str(folder))
        dialog.filesSelected.connect(self._browsed)
        dialog.finished.connect(dialog.deleteLater)
        open_gently(dialog)

    def _browsed(self, paths: list[str]) -> None:
        judged = judge_files(paths)
        if judged.refusal:
            self.desk.notify(judged.refusal, Level.WARNING)
        for path in judged.files:
            self.offer(path)

    def offer(self, path: str, spec: StrategySpec | None = None) -> None:
        """Show the form that starts this file, once the forms before it are done; with `spec` filled in from that."""
        if self._is_retired:
            return
        if self.form is not None and (self.form.path, self.form.spec) == (path, spec):
            self.form.open()
        elif (path, spec) in self._waiting:
            return
        elif len(self._waiting) >= MOST_WAITING:
            self.desk.notify(f"{Path(path).name} has to wait: {MOST_WAITING} other forms are open", Level.WARNING)
        else:
            self._waiting.append((path, spec))
            self._next_form()

    def _next_form(self) -> None:
        if self.form is not None or not self._waiting or self._is_retired:
            return
        path, spec = self._waiting.popleft()
        remembered = self._forms.get(path) if spec is None else None
        self.form = StartForm(self.bench, path, self, spec=spec, remembered=remembered)
        self.form.finished.connect(partial(self._form_over, self.form))
        self.form.open()

    def _form_over(self, form: StartForm, _result: int) -> None:
        filled_in = form.remember()
        if filled_in:
            self._forms.pop(form.path, None)
            self._forms[form.path] = filled_in
            while len(self._forms) > FORMS_KEPT:
                del self._forms[next(iter(self._forms))]
        form.deleteLater()
        self.form = None
        self._next_form()

    def _backtest(self, path: str) -> None:
        self.bench.requests.panel_wanted.emit("backtest")  # first: it may have to be made
        self.bench.requests.backtest_offered.emit(path)

    def _with_file(self, act: Callable[[str], None]) -> None:
        file = self.file_table.current()
        if file is not None:
            act(file.path)

    def _show_files(self) -> None:
        self.files.reset((file.path, file) for file in self.library.files)
        self._judge_files()

    def _judge_files(self) -> None:
        file: LibraryFile | None = self.file_table.current()
        for action in (self._start_file, self._backtest_file):
            action.setEnabled(file is not None)

    # ---- strategies -------------------------------------------------------------------------------------------------

    def _known(self) -> list[StrategySnapshot]:
        return list(self.desk.replica.strategies.values())

    def _chosen(self) -> list[StrategySnapshot]:
        """Give the chosen strategies as they are now."""
        known = self.desk.replica.strategies
        return [now for each in self.table.selected() if (now := known.get(each.spec.strategy_id)) is not None]

    def start_all(self) -> None:
        """Start every known strategy that is not active, as it was last; asks first where real money is at stake."""
        self._start(self._known())

    def stop_all(self) -> None:
        """Stop every strategy that runs or waits to run."""
        self._stop(self._known())

    def start_chosen(self) -> None:
        """Start the chosen strategies again."""
        self._start(self._chosen())

    def stop_chosen(self) -> None:
        """Stop the chosen strategies."""
        self._stop(self._chosen())

    def _start(self, strategies: Sequence[StrategySnapshot]) -> None:
        specs = [each.spec for each in strategies if not is_active(each)]
        accounts = self.desk.replica.accounts
        live = [
            spec
            for spec in specs
            if (account := accounts.get(spec.account_id)) is not None and account.mode is TradingMode.LIVE
        ]
        if live:
            self._confirm(specs, live)
        else:
            self._begin(specs)

    def _begin(self, specs: Sequence[StrategySpec]) -> None:
        for spec in specs:
            if spec.strategy_id not in self._starting:
                self._starting.add(spec.strategy_id)
                self.desk.start(self._start_one(spec))
        self._judge()

    async def _start_one(self, spec: StrategySpec) -> None:
        try:
            await self.desk.request(StartStrategy(spec), timeout_s=START_TIMEOUT_S)
        except LinkError:
            raise  # whether it was started is not known
        except KocError as error:
            raise KocError(f"{spec.strategy_id} was not started: {error}") from error
        finally:
            self._starting.discard(spec.strategy_id)
            if not self._is_retired:
                self._judge()
        self.desk.notify(f"{spec.strategy_id} was started again")

    def _confirm(self, specs: Sequence[StrategySpec], live: Sequence[StrategySpec]) -> None:
        """Ask whether real money is meant. The box is not modal: the kill switch stays in reach."""
        box = QMessageBox(self)
        box.setObjectName("confirm-live")
        box.setIcon(QMessageBox.Icon.Warning)
        box.setWindowTitle("K.O.C.")
        box.setTextFormat(Qt.TextFormat.PlainText)
        box.setText("Trade with real money?")
        names = ", ".join(f"{spec.strategy_id} on {spec.account_id}" for spec in live[:10])
        more = f" and {len(live) - 10} more" if len(live) > 10 else ""
        box.setInformativeText(f"With real money: {names}{more}.")
        agree = box.addButton("Start with real money", QMessageBox.ButtonRole.AcceptRole)
        style_as(agree, role="danger")
        cancel = box.addButton(QMessageBox.StandardButton.Cancel)
        box.setDefaultButton(cancel)
        box.setEscapeButton(cancel)
        agree.clicked.connect(lambda _checked=False: self._begin(specs))
        box.finished.connect(box.deleteLater)
        box.setModal(False)
        box.show()

    def _stop(self, strategies: Sequence[StrategySnapshot]) -> None:
        for each in strategies:
            if is_active(each):
                key = each.spec.strategy_id
                self.desk.send(StopStrategy(key), f"{key} was stopped", timeout_s=STOP_TIMEOUT_S)

    def _edit(self) -> None:
        chosen = self._chosen()
        if len(chosen) == 1:
            self.offer(chosen[0].spec.path, chosen[0].spec)

    def _opened(self, _strategy: StrategySnapshot) -> None:
        self._edit()

    def _show_chart(self) -> None:
        chosen = self._chosen()
        if len(chosen) == 1 and chosen[0].spec.instruments:
            spec = chosen[0].spec
            self.bench.requests.open_chart(spec.instruments[0], spec.timeframe)

    # ---- showing ----------------------------------------------------------------------------------------------------

    def _show_all(self) -> None:
        self.model.reset((key, self._record(each)) for key, each in self.desk.replica.strategies.items())
        self._judge()

    def _record(self, strategy: StrategySnapshot) -> Known:
        key = strategy.spec.strategy_id
        return Known(strategy, self.desk.replica.drift.get(key), self.drift.is_measured(key))

    def _put(self, key: str) -> None:
        strategy = self.desk.replica.strategies.get(key)
        if strategy is None:
            self.model.remove(key)
        else:
            self.model.put(key, self._record(strategy))

    def _on_frame(self, frame: Frame) -> None:
        if frame.snapshot or frame.drift:
            self.drift.look()
        if frame.snapshot:
            self._show_all()
            self.drift_actions.renew()
            return
        for key in frame.strategies | frame.drift:
            self._put(key)
        if frame.drift:
            self.drift_actions.renew()
        if frame.strategies or frame.engine or frame.accounts:
            self._judge()

    def _drift_changed(self, strategy_ids: set[str]) -> None:
        for key in strategy_ids:
            self._put(key)
        self._judge()
        self.drift_actions.renew()

    def _picked(self) -> None:
        self.drift.trouble = ""  # it was read
        self._judge()

    def _judge(self) -> None:
        """Enable what can be done, and say the chosen strategy in words."""
        is_connected, engine = self.desk.is_connected, self.desk.replica.engine
        may_start = is_connected and not (engine is not None and engine.kill_switch)
        chosen, known = self._chosen(), self._known()
        self._open.setEnabled(is_connected)
        self.browse_button.setEnabled(is_connected)
        self._start_all.setEnabled(may_start and any(self._can_start(each) for each in known))
        self._stop_all.setEnabled(is_connected and any(map(is_active, known)))
        self.again.setEnabled(may_start and any(self._can_start(each) for each in chosen))
        self.stop.setEnabled(is_connected and any(map(is_active, chosen)))
        self.edit.setEnabled(is_connected and len(chosen) == 1)
        self.chart.setEnabled(len(chosen) == 1 and bool(chosen[0].spec.instruments))
        self.drift_actions.judge(known)
        text = in_words(chosen[0]) if len(chosen) == 1 else ""
        look = STATES[chosen[0].state][1] if text else ""
        if self.drift.trouble:
            text, look = "\n".join(filter(None, (text, self.drift.trouble))), "danger"
        self.detail.say(text, look if look in ("danger", "warning") else "muted")

    def _can_start(self, strategy: StrategySnapshot) -> bool:
        return not is_active(strategy) and strategy.spec.strategy_id not in self._starting

    # ---- memory -----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Give the columns, how the room is divided, and what was filled in for the last files."""
        forms = dict(self._forms)
        if self.form is not None and (filled_in := self.form.remember()):
            forms.pop(self.form.path, None)
            forms[self.form.path] = filled_in
        return {
            "columns": self.table.column_state(),
            "sizes": self.splitter.sizes(),
            "forms": dict(list(forms.items())[-FORMS_KEPT:]),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take that over, as far as it can be read."""
        if isinstance(columns := state.get("columns"), dict):
            self.table.restore_columns(columns, FORMER_ORDERS)
        sizes = state.get("sizes")
        if (
            isinstance(sizes, list)
            and len(sizes) == 2
            and all(type(each) is int and 0 < each < 9_999 for each in sizes)
        ):
            self.splitter.setSizes(sizes)
        forms = state.get("forms")
        if isinstance(forms, dict):
            kept = [(path, form) for path, form in forms.items() if isinstance(path, str) and isinstance(form, dict)]
            self._forms = dict(kept[-FORMS_KEPT:])

    def retire(self) -> None:
        """Leave the menus, close the form and look at no folder any more."""
        self._is_retired = True
        self._waiting.clear()
        self.library.retire()
        for name in (OPEN, START_ALL, STOP_ALL):
            self.bench.actions.remove(name)
        if self.form is not None:
            self.form.hide()
        self.drift.retire()
        self.drift_actions.retire()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Look at the folders: not every file system tells of changes."""
        super().showEvent(event)
        self.library.read()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for what a dock at the side has."""
        return QSize(340, 420)
