"""All runs that the engine keeps, in a table: searched, noted, compared, used again, deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction, QKeySequence, QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QLineEdit, QPushButton, QVBoxLayout, QWidget

from koc_qt.domain.backtests import BY_COMMAND, BacktestSnapshot
from koc_qt.domain.state import JobState
from koc_qt.link.backtest_messages import DeleteBacktest, NoteBacktest
from koc_qt.reports.words import ENGINES
from koc_qt.ui import formats
from koc_qt.ui.backtests.small import Question
from koc_qt.ui.bench import Bench
from koc_qt.ui.icons import icon
from koc_qt.ui.panels.backtest_runs import PILLS, outcome, range_text
from koc_qt.ui.tables.columns import Column, tone_of_sign
from koc_qt.ui.tables.model import RecordModel
from koc_qt.ui.tables.view import RecordTable
from koc_qt.ui.theme import style_as

MOST_COMPARED = 8
_ROOM_PX = 150  # height from which there is room for a note
_LONGEST_NOTE = 1_000  # characters
_EMPTY = "Every run is kept here with its result, until you delete it."
_NONE_FOUND = "No run has all of these words."


def name_of(run: BacktestSnapshot) -> str:
    """Give the strategy's name, or its file's before that is known."""
    return run.name or PurePath(run.spec.path.replace("\\", "/")).stem


def figure(run: BacktestSnapshot, name: str) -> float | None:
    """Give a statistic of a run; None where it has none."""
    return run.statistics.get(name)


def run_columns() -> tuple[Column[BacktestSnapshot], ...]:
    """Give the columns of the table."""

    def share(name: str, title: str, tip: str, *, is_signed: bool = False, width: int = 9) -> Column[BacktestSnapshot]:
        return Column(
            name,
            title,
            lambda run: formats.percent(figure(run, name), signed=is_signed),
            lambda run: figure(run, name),
            right=True,
            tone=(lambda run: tone_of_sign(figure(run, name))) if is_signed else None,
            width=width,
            title_tip=tip,
        )

    def number(name: str, title: str, decimals: int, tip: str) -> Column[BacktestSnapshot]:
        return Column(
            name,
            title,
            lambda run: formats.money(figure(run, name), decimals),
            lambda run: figure(run, name),
            right=True,
            width=8,
            title_tip=tip,
        )

    return (
        Column(
            "started",
            "Started",
            lambda run: formats.date(run.started_ns),
            lambda run: run.started_ns,
            tip=lambda run: formats.utc(run.started_ns),
            width=17,
        ),
        Column("strategy", "Strategy", name_of, tip=lambda run: run.spec.path, width=18),
        Column("state", "State", _state, lambda run: run.state.value, pill=lambda run: PILLS[run.state], width=9),
        share("return", "Return", "Net profit over the cash at the beginning", is_signed=True),
        share("max_drawdown", "Drawdown", "The deepest fall below an earlier peak"),
        number("sharpe", "Sharpe", 2, "Mean return over its standard deviation, annualised"),
        number("trades", "Trades", 0, "Closed trades"),
        Column("made_by", "Made by", made_by, tip=_made_by_tip, width=13),
        Column("note", "Note", lambda run: run.note, tip=lambda run: run.note, width=24),
        Column("symbols", "Symbols", _symbols, tip=lambda run: ", ".join(map(str, run.spec.instruments)), width=14),
        Column("timeframe", "Bars", lambda run: run.spec.timeframe or formats.DASH, width=6),
        Column(
            "range",
            "Range",
            lambda run: range_text(run.spec.since_ns, run.spec.until_ns),
            lambda run: run.spec.since_ns,
            width=26,
        ),
        Column("engine", "Engine", lambda run: ENGINES[run.spec.engine], width=11),
        Column("parameters", "Parameters", parameters_text, tip=parameters_text, width=24),
    )


def _state(run: BacktestSnapshot) -> str:
    return outcome(run) if run.state is JobState.RUNNING else run.state.value


def _symbols(run: BacktestSnapshot) -> str:
    return ", ".join(each.symbol for each in run.spec.instruments)


def made_by(run: BacktestSnapshot) -> str:
    """Say what made a run."""
    return run.made_by.capitalize()


def _made_by_tip(run: BacktestSnapshot) -> str:
    return "koc backtest, in a terminal" if run.made_by == BY_COMMAND else "The engine, as a window asked it to"


def parameters_text(run: BacktestSnapshot) -> str:
    """Give the parameters that differ from the defaults."""
    return ", ".join(f"{name} {value}" for name, value in run.spec.parameters.items())


def finder(text: str) -> Callable[[BacktestSnapshot], bool] | None:
    """Give what accepts the runs that have every word of a text somewhere; None accepts all."""
    words = text.casefold().split()
    columns = run_columns()

    def accept(run: BacktestSnapshot) -> bool:
        parts = [run.spec.path, *(column.text(run) for column in columns if column.name != "started")]
        whole = " ".join([*parts, *map(str, run.spec.instruments)]).casefold()
        return all(word in whole for word in words)

    return accept if words else None


class HistoryPage(QWidget):
    """The table with a search above and the note of the chosen run below.

    `opened` brings the id of a run to look at, `compare_wanted` a list of ids, `settings_wanted` a BacktestSpec.
    """

    opened = Signal(str)
    compare_wanted = Signal(object)
    settings_wanted = Signal(object)

    def __init__(self, bench: Bench, parent: QWidget) -> None:
        super().__init__(parent)
        self._desk = bench.desk
        self.question = Question(self)
        self._noted = ""  # id of the run whose note is in the field
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        above = QHBoxLayout()
        above.setContentsMargins(8, 2, 8, 4)
        above.setSpacing(6)
        column.addLayout(above)
        self.search = QLineEdit(self)
        self.search.setPlaceholderText("Search: strategy, symbol, engine, note…")
        self.search.setAccessibleName("Search runs")
        self.search.setClearButtonEnabled(True)
        self.compare = QPushButton("Compare", self)
        self.compare.setToolTip(f"Show the chosen runs side by side, up to {MOST_COMPARED}")
        above.addWidget(self.search, 1)
        above.addWidget(self.compare)
        theme = bench.theme
        self.model: RecordModel[BacktestSnapshot] = RecordModel(
            run_columns(), theme, self, sort_by="started", descending=True
        )
        self.table: RecordTable[BacktestSnapshot] = RecordTable(self.model, theme, self, empty=_EMPTY)
        self.table.setAccessibleName("Runs")
        column.addWidget(self.table, 1)
        below = QHBoxLayout()
        below.setContentsMargins(8, 4, 8, 5)
        below.setSpacing(6)
        column.addLayout(below)
        self._caption = caption = QLabel("Note", self)
        style_as(caption, tone="muted")
        self.note = QLineEdit(self)
        self.note.setMaxLength(_LONGEST_NOTE)
        self.note.setAccessibleName("Note of the chosen run")
        caption.setBuddy(self.note)
        below.addWidget(caption)
        below.addWidget(self.note, 1)
        self.open_action = self._action("Show the &result", "chart", bench, self._open)
        self.use_action = self._action("&Use its settings", "edit", bench, self._use)
        self.delete_action = self._action("&Delete…", "trash", bench, self._ask_to_delete)
        self.delete_action.setShortcut(QKeySequence(QKeySequence.StandardKey.Delete))
        self.delete_action.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)  # not wherever in the window it is
        self.search.textChanged.connect(self._search)
        self.compare.clicked.connect(lambda _checked: self.compare_wanted.emit(self.chosen_done()))
        self.table.opened.connect(lambda run: self.opened.emit(run.backtest_id))
        self.table.picked.connect(self._picked)
        self.note.editingFinished.connect(self._write_note)
        self._picked()

    def _action(self, text: str, name: str, bench: Bench, call: Callable[[], None]) -> QAction:
        action = QAction(icon(name, bench.theme), text, self.table)
        action.triggered.connect(lambda _checked: call())
        self.table.addAction(action)
        return action

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Give all the room to the runs where there is little."""
        super().resizeEvent(event)
        for widget in (self._caption, self.note):
            widget.setVisible(self.height() >= _ROOM_PX)

    # ---- showing ----------------------------------------------------------------------------------------------------

    def show_runs(self, runs: Mapping[str, BacktestSnapshot], changed: Iterable[str]) -> None:
        """Bring those that changed up to date."""
        for key in changed:
            run = runs.get(key)
            if run is None:
                self.model.remove(key)
            else:
                self.model.put(key, run)
        self._picked()

    def show_all(self, runs: Mapping[str, BacktestSnapshot]) -> None:
        """Show these runs alone."""
        self.model.reset(runs.items())
        self._picked()

    def _search(self, text: str) -> None:
        self.model.set_filter(finder(text))
        self.table.set_empty_text(_NONE_FOUND if text.strip() else _EMPTY)

    def chosen_done(self) -> list[str]:
        """Give the ids of the chosen runs that have a result."""
        return [run.backtest_id for run in self.table.selected() if run.state is JobState.DONE][:MOST_COMPARED]

    def _picked(self) -> None:
        """Go by what is chosen."""
        chosen = self.table.selected()
        one = chosen[0] if len(chosen) == 1 else None
        count = len(self.chosen_done())
        self.compare.setText(f"Compare {count}" if count > 1 else "Compare")
        self.compare.setEnabled(count > 1)
        self.open_action.setEnabled(one is not None)
        self.use_action.setEnabled(one is not None)
        self.delete_action.setEnabled(any(run.state is not JobState.RUNNING for run in chosen))
        self.note.setEnabled(one is not None)
        key = one.backtest_id if one is not None else ""
        if key != self._noted:
            self._noted = key
            self.note.setText(one.note if one is not None else "")
            self.note.setCursorPosition(0)
        few = "Choose a run to write a note to it" if not chosen else "Choose one run alone to write a note to it"
        self.note.setPlaceholderText("" if one is not None else few)

    # ---- doing ------------------------------------------------------------------------------------------------------

    def _one(self) -> BacktestSnapshot | None:
        chosen = self.table.selected()
        return chosen[0] if len(chosen) == 1 else None

    def _open(self) -> None:
        run = self._one()
        if run is not None:
            self.opened.emit(run.backtest_id)

    def _use(self) -> None:
        run = self._one()
        if run is not None:
            self.settings_wanted.emit(run.spec)

    def _write_note(self) -> None:
        run = self._desk.replica.backtests.get(self._noted)
        text = self.note.text().strip()
        if run is not None and text != run.note:
            self._desk.send(NoteBacktest(run.backtest_id, text))

    def _ask_to_delete(self) -> None:
        """Delete the chosen runs once the person has agreed: it is for good."""
        over = [run.backtest_id for run in self.table.selected() if run.state is not JobState.RUNNING]
        if not over:
            return
        is_one = len(over) == 1
        self.question.ask(
            "Delete this run?" if is_one else f"Delete {len(over)} runs?",
            "Its result and its note are gone for good." if is_one else "Their results and notes are gone for good.",
            "Delete",
            lambda: self._delete(over),
        )

    def _delete(self, over: list[str]) -> None:
        for key in over:
            self._desk.send(DeleteBacktest(key))
