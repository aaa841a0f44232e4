"""What shall be searched: ranges of the declared parameters, how, for what, and under which condition."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFrame,
    QGridLayout,
    QLabel,
    QLineEdit,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.errors import ConfigError
from koc_qt.domain.optimisation import Method, Objective, ParameterRange, StudySpec, grid_size
from koc_qt.domain.performance import STATISTICS
from koc_qt.sdk.channel import ParameterInfo
from koc_qt.ui.backtests.small import Elided, heading
from koc_qt.ui.backtests.words import caption
from koc_qt.ui.panels.backtest_fields import Cells, Field, WheelGuard, read_number
from koc_qt.ui.slices import Slices
from koc_qt.ui.theme import style_as

METHODS = {
    Method.GRID: ("Grid", "Every combination"),
    Method.RANDOM: ("Random", "Combinations by chance"),
    Method.BAYESIAN: ("Bayesian", "Combinations chosen by what was learnt from those before"),
}
_NONE = ""  # no second objective
_FIRST_STEPS = 10  # of a range that is proposed
_PARTS = ("low", "high", "step")


class RangeRow:
    """The editors of one parameter's range: whether it is searched, and from where to where in what steps."""

    def __init__(self, info: ParameterInfo, grid: QGridLayout, row: int, parent: QWidget) -> None:
        self.info = info
        self.wanted = QCheckBox(info.name, parent)
        self.wanted.setToolTip(info.help)
        self.edits: dict[str, QLineEdit] = {}
        grid.addWidget(self.wanted, row, 0)
        if self.choices:
            text = Elided(", ".join(map(str, self.choices)), parent)
            style_as(text, tone="muted")
            grid.addWidget(text, row, 1, 1, 3)
            self.wanted.setChecked(False)
            return
        for column, (part, value) in enumerate(zip(_PARTS, proposed(info), strict=True), 1):
            edit = self.edits[part] = QLineEdit("" if value is None else f"{value:.12g}", parent)
            edit.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            edit.setAccessibleName(f"{info.name}, {part}")
            edit.setMaxLength(40)
            edit.setMinimumWidth(44)
            edit.setCursorPosition(0)
            edit.textEdited.connect(lambda _text: self.wanted.setChecked(True))
            grid.addWidget(edit, row, column)
        self.wanted.setChecked(info.low is not None and info.high is not None)

    @property
    def choices(self) -> tuple[Any, ...]:
        """What it may be, where that is no number."""
        return (False, True) if self.info.kind == "bool" else tuple(self.info.choices)

    def range(self) -> ParameterRange:
        """Give the range. Raises ConfigError where something in it is wrong."""
        name, is_whole = self.info.name, self.info.kind == "int"
        if self.choices:
            return ParameterRange(name, choices=self.choices)
        numbers: dict[str, float | None] = {}
        for part, edit in self.edits.items():
            text = edit.text().strip()
            number = read_number(text)
            if number is None and (text or part != "step"):
                raise ConfigError(f"{name}: {text!r} is no number" if text else f"{name}: from where to where?")
            numbers[part] = None if number is None else float(number)
        low, high, step = (numbers[part] for part in _PARTS)
        return ParameterRange(name, low, high, step, whole=is_whole)


def proposed(info: ParameterInfo) -> tuple[float | None, float | None, float | None]:
    """Propose a range around the default: from half of it to double, within its bounds, in round steps."""
    default = float(info.default) if isinstance(info.default, int | float) else 0.0
    low, high = sorted((default / 2, default * 2)) if default else (0.0, 1.0)
    low = max(low, -math.inf if info.low is None else info.low)
    high = min(high, math.inf if info.high is None else info.high)
    if info.kind == "int":
        low, high = math.floor(low), math.ceil(high)
    step = info.step or round_step((high - low) / _FIRST_STEPS)
    if info.kind == "int":
        step = max(1.0, float(round(step)))
    return low, max(high, low), step or None


def round_step(raw: float) -> float:
    """Give 1, 2 or 5 times a power of ten, at least so much; 0 for nothing."""
    if raw <= 0:
        return 0.0
    magnitude = 10.0 ** math.floor(math.log10(raw))
    return next(factor * magnitude for factor in (1.0, 2.0, 5.0, 10.0) if factor * magnitude >= raw * (1 - 1e-9))


class SearchForm(QScrollArea):
    """The form; `changed` says that it may be another search. Its widgets are made by `parts`."""

    changed = Signal()

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.rows: list[RangeRow] = []
        self._declared: tuple[ParameterInfo, ...] = ()  # what there are rows for
        self._offered: tuple[ParameterInfo, ...] = ()
        self._slices = Slices(self)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setAccessibleName("What to search")

    def parts(self) -> Iterator[None]:
        """Make room for the ranges, then the other fields."""
        self._inside = inside = QWidget(self.viewport())
        self.setWidget(inside)
        column = QVBoxLayout(inside)
        column.setContentsMargins(10, 6, 10, 8)
        column.setSpacing(6)
        self.none = QLabel("Choose a strategy that declares parameters", inside)
        self.none.setWordWrap(True)
        style_as(self.none, tone="muted")
        column.addWidget(self.none)
        self._ranges = QWidget(inside)
        self._grid = QGridLayout(self._ranges)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(6)
        self._grid.setVerticalSpacing(4)
        self._grid.setColumnStretch(0, 2)
        for place in (1, 2, 3):
            self._grid.setColumnStretch(place, 1)
        column.addWidget(self._ranges)
        yield
        guard = WheelGuard(self)
        cells = Cells(104, inside, most=6)
        column.addWidget(cells)
        self.method = self._combo(cells, "Method", guard)
        for method, (text, tip) in METHODS.items():
            self.method.addItem(text, str(method))
            self.method.setItemData(self.method.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
        self.trials = self._edit(cells, "Trials", "200", "How many combinations are tried; a grid tries all")
        self.objective = self._combo(cells, "Best by", guard)
        self.second = self._combo(cells, "And by", guard)
        self.second.addItem("nothing else", _NONE)
        for name in STATISTICS:
            for box in (self.objective, self.second):
                box.addItem(caption(name).text, name)
                box.setItemData(box.count() - 1, caption(name).meaning, Qt.ItemDataRole.ToolTipRole)
        self.objective.setCurrentIndex(self.objective.findData("sharpe"))
        yield
        where = "Combinations that do not fulfil it are left out, such as fast < slow"
        self.constraint = self._edit(cells, "Only where", "", where, "fast < slow", span=2)
        self.processes = self._edit(cells, "Processes", "", "How many runs at once", "every core")
        cluster = "The address of a Dask scheduler that runs the trials, such as tcp://10.0.0.5:8786"
        self.cluster = self._edit(cells, "Dask cluster", "", cluster, "this machine", span=2)
        prune = Field(" ", cells, tip="Give runs up half-way that are worse than most were there")
        self.prune = prune.hold(QCheckBox("Prune", prune))
        self.prune.setAccessibleName("Prune")
        cells.add(prune)
        column.addStretch(1)
        for edit in (self.trials, self.constraint, self.processes, self.cluster):
            edit.textChanged.connect(lambda _text: self.changed.emit())
        for box in (self.method, self.objective, self.second):
            box.activated.connect(lambda _row: self.changed.emit())
        self.prune.toggled.connect(lambda _on: self.changed.emit())

    def _combo(self, cells: Cells, text: str, guard: WheelGuard) -> QComboBox:
        field = Field(text, cells)
        box = field.hold(QComboBox(field))
        box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        box.setMinimumContentsLength(7)
        guard.watch(box)
        cells.add(field)
        return box

    def _edit(
        self, cells: Cells, text: str, value: str, tip: str, placeholder: str = "", *, span: int = 1
    ) -> QLineEdit:
        field = Field(text, cells, tip=tip)
        edit = field.hold(QLineEdit(value, field))
        edit.setPlaceholderText(placeholder)
        edit.setMaxLength(400)
        cells.add(field, span)
        return edit

    # ---- parameters -------------------------------------------------------------------------------------------------

    def offer(self, declared: Sequence[ParameterInfo]) -> None:
        """Have a row for each parameter that can be searched, once somebody looks.

        Those that are there stay where the same is declared.
        """
        if tuple(declared) != self._offered:
            self._offered = tuple(declared)
            if self.isVisible():
                self._slices.start(self._build())

    @property
    def is_busy(self) -> bool:
        """Whether rows are still to be made."""
        return self._slices.is_busy

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Make the rows that are due."""
        super().showEvent(event)
        if self._offered != self._declared:
            self._slices.start(self._build())

    def _build(self) -> Iterator[None]:
        """Make the rows, one a step."""
        declared = self._declared = self._offered
        while (item := self._grid.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.hide()
                widget.deleteLater()
        searchable = [info for info in declared if info.kind != "str"]
        self.none.setVisible(not searchable)
        self.rows = []
        if searchable:
            self._grid.addWidget(heading("Parameters", self._ranges), 0, 0)
            for place, text in enumerate(("From", "To", "Step"), 1):
                title = QLabel(text, self._ranges)
                style_as(title, face="small", tone="muted")
                self._grid.addWidget(title, 0, place)
        for number, info in enumerate(searchable, 1):
            row = RangeRow(info, self._grid, number, self._ranges)
            row.wanted.toggled.connect(lambda _on: self.changed.emit())
            for edit in row.edits.values():
                edit.textChanged.connect(lambda _text: self.changed.emit())
            for widget in (row.wanted, *row.edits.values()):
                widget.ensurePolished()  # now, and not for all of them when they are shown
            self.rows.append(row)
            yield
        self.changed.emit()

    # ---- values -----------------------------------------------------------------------------------------------------

    def spec(self, base: BacktestSpec) -> StudySpec:
        """Give the search of this run. Raises ConfigError with a sentence where something is wrong or missing."""
        ranges = tuple(row.range() for row in self.rows if row.wanted.isChecked())
        if not ranges:
            raise ConfigError("Choose at least one parameter to search")
        searched = {each.name for each in ranges}
        fixed = {name: value for name, value in base.parameters.items() if name not in searched}
        method = Method(str(self.method.currentData()))
        names = [str(box.currentData()) for box in (self.objective, self.second)]
        return StudySpec(
            base=msgspec.structs.replace(base, parameters=fixed),
            ranges=ranges,
            constraints=tuple(text.strip() for text in self.constraint.text().split(",") if text.strip()),
            objectives=tuple(Objective.parse(name) for name in names if name != _NONE),
            method=method,
            trials=None if method is Method.GRID else _whole(self.trials.text(), "Trials", 1),
            prune=self.prune.isChecked(),
            processes=_whole(self.processes.text() or "0", "Processes", 0),
            cluster=self.cluster.text().strip(),
        )

    def size_text(self) -> str:
        """Say how many combinations there are, or what is wrong."""
        try:
            ranges = [row.range() for row in self.rows if row.wanted.isChecked()]
        except ConfigError as error:
            return str(error)
        if not ranges:
            return ""
        size = grid_size(ranges)
        if size is None:
            return "Endless combinations: a range has no steps"
        return f"{size:,} combination{'' if size == 1 else 's'}"

    # ---- remembering ------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Give what was typed besides the ranges."""
        return {
            "method": self.method.currentData(),
            "trials": self.trials.text(),
            "objective": self.objective.currentData(),
            "second": self.second.currentData(),
            "constraint": self.constraint.text(),
            "processes": self.processes.text(),
            "cluster": self.cluster.text(),
            "prune": self.prune.isChecked(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take that over, as far as it can be read."""
        for name in ("method", "objective", "second"):
            box: QComboBox = getattr(self, name)
            row = box.findData(state.get(name)) if isinstance(state.get(name), str) else -1
            if row >= 0:
                box.setCurrentIndex(row)
        for name in ("trials", "constraint", "processes", "cluster"):
            if isinstance(text := state.get(name), str):
                getattr(self, name).setText(text)
        if isinstance(prune := state.get("prune"), bool):
            self.prune.setChecked(prune)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for little: it scrolls."""
        return QSize(180, 60)


def _whole(text: str, name: str, least: int) -> int:
    number = read_number(text)
    if number is None or number != number.to_integral_value() or number < least:
        raise ConfigError(f"{name}: a whole number from {least}, not {text.strip() or 'nothing'}")
    return int(number)
