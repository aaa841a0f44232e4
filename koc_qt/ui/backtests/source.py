"""A strategy's file with one line brought out: to see what decided something."""

from __future__ import annotations

from pathlib import PurePath

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QTextCursor, QTextFormat
from PySide6.QtWidgets import QDialog, QLabel, QPlainTextEdit, QTextEdit, QVBoxLayout, QWidget

from koc_qt.ui.theme import Theme, code_font, style_as

_SIZE_PX = (760, 520)


class SourceDialog(QDialog):
    """Shows a file to read, with a line selected; lines are counted from 1."""

    def __init__(self, theme: Theme, parent: QWidget, path: str, source: str, line: int, why: str) -> None:
        super().__init__(parent)
        self._theme = theme
        self.line = line
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(f"{PurePath(path).name}, line {line}")
        self.resize(*_SIZE_PX)
        column = QVBoxLayout(self)
        self.why = QLabel(why, self)
        self.why.setTextFormat(Qt.TextFormat.PlainText)
        self.why.setWordWrap(True)
        style_as(self.why, tone="muted")
        self.text = QPlainTextEdit(self)
        self.text.setReadOnly(True)
        self.text.setFont(code_font())
        self.text.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.text.setAccessibleName(path)
        lines = source.splitlines()
        digits = len(str(len(lines)))
        self.text.setPlainText("\n".join(f"{number:>{digits}}  {text}" for number, text in enumerate(lines, 1)))
        column.addWidget(self.why)
        column.addWidget(self.text, 1)
        theme.changed.connect(self._bring_out)
        self._bring_out()

    def _bring_out(self) -> None:
        """Select the line and put it in sight."""
        block = self.text.document().findBlockByNumber(self.line - 1)
        cursor = QTextCursor(block)
        selection = QTextEdit.ExtraSelection()
        selection.cursor = cursor
        selection.format.setBackground(QColor(self._theme.colors.selection))
        selection.format.setProperty(QTextFormat.Property.FullWidthSelection, True)
        self.text.setExtraSelections([selection])
        self.text.setTextCursor(cursor)
        self.text.centerCursor()
