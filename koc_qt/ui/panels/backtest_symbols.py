"""The symbols that a back-test runs on: as many fields as the strategy wants, filled with a proposal."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from koc_qt.domain.errors import InvalidOrder
from koc_qt.domain.instruments import InstrumentId
from koc_qt.ui.desk import Desk
from koc_qt.ui.panels.backtest_fields import Cells, Field
from koc_qt.ui.symbols import SymbolPicker

SYMBOLS_MOST = 50  # as the engine takes them
_CELL_PX = 150


class SymbolFields(Cells):
    """Fields for symbols. `changed` says that one of them may be another now, or wrong."""

    changed = Signal()

    def __init__(self, desk: Desk, parent: QWidget) -> None:
        super().__init__(_CELL_PX, parent, most=3)
        self._desk = desk
        self._count = 0
        self._pickers: list[SymbolPicker] = []
        self._fields: list[Field] = []
        self.want(1)

    @property
    def pickers(self) -> list[SymbolPicker]:
        """Those that the strategy needs; others keep what they hold for one that needs more."""
        return self._pickers[: self._count]

    @property
    def fields(self) -> list[Field]:
        """The fields around them."""
        return self._fields[: self._count]

    @property
    def is_checking(self) -> bool:
        """Whether one is being looked up."""
        return any(picker.is_checking for picker in self.pickers)

    def settle(self) -> None:
        """Have what was typed looked up, as leaving a field does."""
        for picker in self.pickers:
            picker.settle()

    def want(self, count: int) -> None:
        """Have so many fields, one at least."""
        self._count = min(max(1, count), SYMBOLS_MOST)
        while len(self._pickers) < self._count:
            number = len(self._pickers) + 1
            field = Field("Symbol" if number == 1 else f"Symbol {number}", self)
            picker = field.hold(SymbolPicker(self._desk, field))
            picker.changed.connect(self._changed)
            self._pickers.append(picker)
            self._fields.append(field)
            self.add(field)
        for number, field in enumerate(self._fields):
            field.setVisible(number < self._count)
        self.arrange()

    def propose(self) -> None:
        """Put markets of one quote currency into what nobody has filled."""
        known = self._desk.replica.instruments.values()
        taken = self.chosen()
        quotes = {rules.quote for rules in known if rules.id in taken}
        for picker in self.pickers:
            if picker.instrument() is not None or picker.currentText():
                continue
            rules = next((each for each in known if each.id not in taken and quotes <= {each.quote}), None)
            if rules is None:
                return
            picker.set_instrument(rules.id)
            taken.append(rules.id)
            quotes.add(rules.quote)

    def chosen(self) -> list[InstrumentId]:
        """Give those that are there so far."""
        return [instrument for picker in self._pickers if (instrument := picker.instrument()) is not None]

    def check(self) -> tuple[InstrumentId, ...] | None:
        """Give the symbols, each once; None, and marks, where one is missing."""
        found: list[InstrumentId] = []
        for picker, field in zip(self.pickers, self.fields, strict=True):
            instrument = picker.instrument()
            if instrument is None:
                field.set_problem(picker.problem() or "Choose a symbol")
            elif instrument in found:
                field.set_problem(f"{instrument} is there twice")
            else:
                field.set_problem("")
                found.append(instrument)
        return tuple(found) if len(found) == self._count else None

    def restore(self, texts: Any) -> None:
        """Take over what was chosen once, as far as it can be read."""
        for number, text in enumerate(texts[:SYMBOLS_MOST] if isinstance(texts, list) else []):
            try:
                instrument = InstrumentId.parse(str(text))
            except InvalidOrder:
                continue
            self.want(max(number + 1, self._count))
            self._pickers[number].set_instrument(instrument)

    def _changed(self) -> None:
        for picker, field in zip(self._pickers, self._fields, strict=True):
            field.set_problem(picker.problem())
        self.changed.emit()
