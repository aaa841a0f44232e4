"""The line below a table that says the chosen row in words."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from koc_qt.ui.theme import style_as


class DetailLine(QFrame):
    """Shows words that can be selected and copied, and nothing where there are none."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        line = QFrame(self)
        line.setFrameShape(QFrame.Shape.HLine)
        self.words = QLabel(self)
        self.words.setTextFormat(Qt.TextFormat.PlainText)
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.words.setWordWrap(True)
        self.words.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        row = QHBoxLayout()
        row.setContentsMargins(8, 4, 8, 5)
        row.addWidget(self.words)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(line)
        column.addLayout(row)

    def say(self, text: str, tone: str = "muted") -> None:
        """Say this, in a tone of the style sheet."""
        if self.words.text() != text:
            self.words.setText(text)
        self.setVisible(bool(text))
        style_as(self.words, tone=tone)
