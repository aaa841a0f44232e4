"""Pieces of the back-test panel's form: a field with its caption and what is wrong with it, and cells that reflow."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import TypeVar

from PySide6.QtCore import QEvent, QObject, QSize, Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QCheckBox, QComboBox, QGridLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from koc_qt.ui.theme import style_as
from koc_qt.ui.timeframe_choices import TIMEFRAMES

_GROUPED = re.compile(r"[+-]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]*)?", re.ASCII)
_LONGEST_NUMBER = 40  # characters
_GAP_PX = 8
_LINE_PX = 26  # the height of a field
E = TypeVar("E", bound=QWidget)


def read_number(text: str) -> Decimal | None:
    """Read a number as people type it, also with commas between thousands; None for anything else.

    A comma anywhere else is refused, not guessed at: 0,05 must not become 5.
    """
    text = text.strip().replace("\u00a0", "").replace(" ", "")
    if len(text) > _LONGEST_NUMBER or ("," in text and not _GROUPED.fullmatch(text)):
        return None
    try:
        number = Decimal(text.replace(",", ""))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


class Field(QWidget):
    """An editor below its caption; what is wrong with it, and a note, stand below. `hold` takes the editor, a child."""

    def __init__(self, caption: str, parent: QWidget, *, tip: str = "") -> None:
        super().__init__(parent)
        self.editor: QWidget = self
        self._tip = tip
        self.caption = QLabel(caption, self)
        self.caption.setTextFormat(Qt.TextFormat.PlainText)
        self.caption.setToolTip(tip)
        self.caption.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        style_as(self.caption, face="small", tone="muted")
        self.trouble = QLabel(self)
        self.trouble.setTextFormat(Qt.TextFormat.PlainText)
        self.trouble.setWordWrap(True)
        self.trouble.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        style_as(self.trouble, face="small", tone="danger")
        self.trouble.hide()
        self.note: QLabel | None = None
        self._column = column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.caption)
        column.addWidget(self.trouble)
        column.addStretch(1)

    def hold(self, editor: E) -> E:
        """Put the editor in its place."""
        self.editor = editor
        self.caption.setBuddy(editor)
        editor.setToolTip(self._tip)
        if isinstance(editor, QCheckBox):  # on a line with the fields beside it
            editor.setMinimumHeight(_LINE_PX)
        if not editor.accessibleName():
            editor.setAccessibleName(self.caption.text())
        self._column.insertWidget(1, editor)
        return editor

    @property
    def problem(self) -> str:
        """What is wrong; empty while nothing is."""
        return self.trouble.text()

    def set_problem(self, text: str) -> None:
        """Say what is wrong with the content; empty lifts it."""
        style_as(self.editor, invalid=True if text else None)
        self.editor.setToolTip(text or self._tip)
        self.editor.setAccessibleDescription(text or self._tip)
        self.trouble.setText(text)
        self.trouble.setVisible(bool(text))

    def set_note(self, text: str, tone: str = "muted") -> None:
        """Say what a person should know before they fill it in; empty says nothing any more."""
        if self.note is None:
            if not text:
                return
            self.note = QLabel(self)
            self.note.setTextFormat(Qt.TextFormat.PlainText)
            self.note.setWordWrap(True)
            self._column.insertWidget(self._column.count() - 1, self.note)
        self.note.setText(text)
        style_as(self.note, face="small", tone=tone)
        self.note.setVisible(bool(text))


class TimeframeField(Field):
    """The length of a bar: one of those that are proposed, or what is typed into the box."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__("Timeframe", parent, tip="Length of a bar: a whole number and s, m, h, d or w")
        self.box = self.hold(QComboBox(self))
        self.box.setEditable(True)
        self.box.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.box.addItems(list(TIMEFRAMES))
        self.box.setEditText("1m")
        self.box.setMinimumContentsLength(4)
        self.box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        WheelGuard(self).watch(self.box)
        self.is_optional = False

    def turn_to(self, text: str, *, is_optional: bool) -> None:
        """Hold this; one that is optional may be empty, for that of the file."""
        self.is_optional = is_optional
        line = self.box.lineEdit()
        if line is not None:
            line.setPlaceholderText("The file's" if is_optional else "")
        self.box.setEditText(text)

    @property
    def text(self) -> str:
        """What it holds, right or wrong."""
        return self.box.currentText().strip()


class Cells(QWidget):
    """Lays children of it out in as many columns as there is room for, each at least `cell_px` wide."""

    def __init__(self, cell_px: int, parent: QWidget, *, most: int = 4) -> None:
        super().__init__(parent)
        self._cell_px = cell_px
        self._most = most
        self._columns = 0
        self._place = 0, 0  # row and column of what comes next
        self._cells: list[tuple[QWidget, int]] = []
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(_GAP_PX)
        self._grid.setVerticalSpacing(6)

    def add(self, widget: QWidget, span: int = 1) -> None:
        """Add a child, `span` columns wide where there are as many."""
        cell = widget, span
        self._cells.append(cell)
        if self._fitting() == self._columns and _is_shown(cell):
            self._put(cell)
        else:
            self.arrange()

    def clear(self) -> None:
        """Delete every widget."""
        for widget, _ in self._cells:
            widget.hide()
            widget.deleteLater()
        self._cells.clear()
        self.arrange()

    @property
    def columns(self) -> int:
        """How many columns there are now."""
        return self._columns

    def arrange(self) -> None:
        """Lay out anew, such as after a widget was hidden."""
        while self._grid.takeAt(0) is not None:
            pass
        self._columns = self._fitting()
        self._place = 0, 0
        for cell in self._shown():
            self._put(cell)
        for number in range(self._most):
            self._grid.setColumnStretch(number, 1 if number < self._columns else 0)

    def _put(self, cell: tuple[QWidget, int]) -> None:
        """Put one more behind the last."""
        widget, wanted = cell
        row, column = self._place
        span = min(wanted, self._columns)
        if column + span > self._columns:
            row, column = row + 1, 0
        self._grid.addWidget(widget, row, column, 1, span)
        self._place = row, column + span

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Find the number of columns that fit."""
        super().resizeEvent(event)
        if self._fitting() != self._columns:
            self.arrange()

    def _shown(self) -> list[tuple[QWidget, int]]:
        return [cell for cell in self._cells if _is_shown(cell)]

    def _fitting(self) -> int:
        wanted = min(self._most, sum(span for _, span in self._shown()))
        return max(1, min(wanted, (self.width() + _GAP_PX) // (self._cell_px + _GAP_PX)))

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for one column's width."""
        return QSize(min(self._cell_px, 80), super().minimumSizeHint().height())


def _is_shown(cell: tuple[QWidget, int]) -> bool:
    by_hand = Qt.WidgetAttribute.WA_WState_ExplicitShowHide  # others are hidden until the whole is shown
    return not (cell[0].isHidden() and cell[0].testAttribute(by_hand))


class WheelGuard(QObject):
    """Keeps the mouse wheel from changing what it only passes over while it scrolls a form."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Leave the wheel to the form unless the field has the focus."""
        if event.type() == QEvent.Type.Wheel and isinstance(watched, QWidget) and not watched.hasFocus():
            event.ignore()
            return True
        return super().eventFilter(watched, event)

    def watch(self, widget: QWidget) -> None:
        """Guard this one."""
        widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        widget.installEventFilter(self)
