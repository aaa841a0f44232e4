"""How files of bars are read: their increments of price and quantity, and what becomes of rows that are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QCheckBox, QLineEdit, QVBoxLayout, QWidget

from koc_qt.domain.backtests import BacktestSpec
from koc_qt.ui.panels.backtest_fields import Cells, Field, read_number

_CELL_PX = 112
_FINE = "As fine as can be"


class ReadingFields(QWidget):
    """Two fields and a box; `changed` says that something in them was."""

    changed = Signal()

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        cells = Cells(_CELL_PX, self, most=2)
        self.fields = {
            "tick": Field("Tick", cells, tip="The increment of prices in these files, such as 0.01"),
            "lot": Field("Lot", cells, tip="The increment of quantities, such as 1 for shares"),
        }
        self.edits = {name: field.hold(QLineEdit(field)) for name, field in self.fields.items()}
        for name, edit in self.edits.items():
            edit.setPlaceholderText(_FINE)
            edit.textChanged.connect(lambda _text, name=name: self._edited(name))
            cells.add(self.fields[name])
        self.skip_bad = QCheckBox("Leave out rows that are wrong", self)
        self.skip_bad.setToolTip("Such as a high below the low. Otherwise the first of them ends the run, and is named")
        self.skip_bad.toggled.connect(lambda _on: self.changed.emit())
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 0)
        column.setSpacing(4)
        column.addWidget(cells)
        column.addWidget(self.skip_bad)

    def check(self) -> dict[str, Any] | None:
        """Give the fields of a BacktestSpec; None, and a mark, where something is wrong."""
        for name, problem in self._problems():
            self.fields[name].set_problem(problem)
        if any(field.problem for field in self.fields.values()):
            return None
        return {name: _size(edit.text()) for name, edit in self.edits.items()} | {"skip_bad": self.skip_bad.isChecked()}

    def take(self, spec: BacktestSpec) -> None:
        """Hold what a run was made with."""
        sizes = {"tick": spec.tick, "lot": spec.lot}
        texts = {name: "" if size is None else f"{size:f}" for name, size in sizes.items()}
        self.restore(texts | {"skip_bad": spec.skip_bad})

    def state(self) -> dict[str, Any]:
        """Give what was typed."""
        texts: dict[str, Any] = {name: edit.text() for name, edit in self.edits.items()}
        return texts | {"skip_bad": self.skip_bad.isChecked()}

    def restore(self, state: Any) -> None:
        """Take that over, as far as it can be read."""
        if not isinstance(state, dict):
            return
        for name, edit in self.edits.items():
            if isinstance(text := state.get(name), str):
                edit.setText(text)
        if isinstance(skip := state.get("skip_bad"), bool):
            self.skip_bad.setChecked(skip)

    def _problems(self) -> Iterator[tuple[str, str]]:
        for name, edit in self.edits.items():
            size = _size(edit.text())
            is_wrong = bool(edit.text().strip()) and (size is None or not 0 < size < 10**15)
            yield name, "A number above zero, or nothing" if is_wrong else ""

    def _edited(self, name: str) -> None:
        self.fields[name].set_problem("")
        self.changed.emit()


def _size(text: str) -> Decimal | None:
    return read_number(text) if text.strip() else None
