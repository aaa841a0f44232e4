"""The trials of a study in a table, the best first. A click takes one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from koc_qt.domain.optimisation import Objective, StudySpec, Trial, TrialState
from koc_qt.ui import formats
from koc_qt.ui.backtests.trial_data import objective_name, objective_text, value_text
from koc_qt.ui.backtests.words import caption, statistic_text
from koc_qt.ui.tables.columns import Column
from koc_qt.ui.tables.model import RecordModel
from koc_qt.ui.tables.view import RecordTable
from koc_qt.ui.theme import Theme

MOST_TRIALS = 20_000
ALSO = ("return", "max_drawdown", "sharpe", "trades")  # statistics beside the objectives
_STATES = {
    TrialState.DONE: "neutral",
    TrialState.INFEASIBLE: "warning",
    TrialState.FAILED: "danger",
    TrialState.PRUNED: "info",
}


def trial_columns(names: Iterable[str], objectives: tuple[Objective, ...]) -> tuple[Column[Trial], ...]:
    """Give the columns: what came of a trial first, then its parameters, then the rest."""
    held = {each.statistic for each in objectives}
    return (
        Column("number", "#", lambda trial: f"{trial.number:,}", lambda trial: trial.number, right=True, width=5),
        *(
            Column(
                f"objective {each.statistic}",
                objective_name(each),
                partial(_objective_text, each),
                partial(_objective_value, each),
                right=True,
                width=14,
                title_tip=caption(each.statistic).meaning,
            )
            for each in objectives
        ),
        *(
            Column(
                f"parameter {name}",
                name,
                partial(_parameter_text, name),
                partial(_parameter_value, name),
                right=True,
                width=8,
            )
            for name in names
        ),
        *(
            Column(
                name,
                caption(name).text,
                partial(_statistic_text, name),
                partial(_statistic, name),
                right=True,
                width=11,
                title_tip=caption(name).meaning,
            )
            for name in ALSO
            if name not in held
        ),
        Column(
            "state",
            "State",
            lambda trial: trial.state.value,
            tip=lambda trial: trial.reason or trial.state.value,
            pill=lambda trial: _STATES[trial.state],
            width=11,
        ),
        Column("took", "Took", lambda trial: formats.duration(trial.seconds), lambda trial: trial.seconds, right=True),
        Column("reason", "Why", lambda trial: trial.reason, width=24),
    )


def _objective_text(objective: Objective, trial: Trial) -> str:
    return objective_text(objective, trial.value(objective))


def _objective_value(objective: Objective, trial: Trial) -> float | None:
    return trial.value(objective)


def _parameter_text(name: str, trial: Trial) -> str:
    value = trial.parameters.get(name)
    return formats.DASH if value is None else value_text(value)


def _parameter_value(name: str, trial: Trial) -> tuple[bool, float, str] | None:
    """Give what sorts a parameter's values, numbers before words."""
    value = trial.parameters.get(name)
    if value is None:
        return None
    is_number = isinstance(value, int | float)
    return not is_number, float(value) if is_number else 0.0, str(value)


def _statistic(name: str, trial: Trial) -> float | None:
    return trial.statistics.get(name)


def _statistic_text(name: str, trial: Trial) -> str:
    return statistic_text(name, trial.statistics.get(name), "", 2)


class TrialsView(QWidget):
    """The table; one study's has other columns than another's, so it is made anew for each kind.

    `taken` brings the number of a trial.
    """

    taken = Signal(int)

    def __init__(self, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self._theme = theme
        self._kind: tuple[object, ...] = ()
        self.model: RecordModel[Trial] | None = None
        self.table: RecordTable[Trial] | None = None
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)

    def show_trials(self, spec: StudySpec, names: list[str], trials: Mapping[int, Trial], *, is_new: bool) -> None:
        """Show these trials; with `is_new` they are of another study than before."""
        kind = (tuple(names), spec.objectives)
        if kind != self._kind or self.model is None:
            self._make(names, spec)
            self._kind = kind
            is_new = True
        assert self.model is not None  # noqa: S101 - it was made above
        if is_new:
            self.model.reset(trials.items())
        else:
            for number, trial in trials.items():
                self.model.put(number, trial)

    def _make(self, names: list[str], spec: StudySpec) -> None:
        """Make a table of other columns, sorted by the first objective, the best first."""
        if self.table is not None and self.model is not None:
            self._column.removeWidget(self.table)
            self.table.hide()
            self.table.deleteLater()
            self.model.deleteLater()
        first = spec.objectives[0]
        self.model = RecordModel(
            trial_columns(names, spec.objectives),
            self._theme,
            self,
            sort_by=f"objective {first.statistic}",
            descending=first.maximise,
            limit=MOST_TRIALS,
        )
        self.table = RecordTable(self.model, self._theme, self, empty="No trial is over yet")
        self.table.setAccessibleName("Trials")
        self._column.addWidget(self.table)
        self.table.opened.connect(lambda trial: self.taken.emit(trial.number))
        self.table.clicked.connect(self._clicked)

    def _clicked(self, index: object) -> None:
        trial = self.table.current() if self.table is not None else None
        if trial is not None:
            self.taken.emit(trial.number)
