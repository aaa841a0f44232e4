"""Words in the place of a result."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSizePolicy, QSpacerItem, QVBoxLayout, QWidget

from koc_qt.ui.theme import style_as

_FIXED, _GROWING = QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Expanding


class MessageView(QWidget):
    """Words in the place of a result, with a button where something can be done."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.title, self.text = QLabel(self), QLabel(self)
        style_as(self.title, face="title")
        self.text.setWordWrap(True)
        self.text.setTextFormat(Qt.TextFormat.PlainText)
        self.text.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self.retry = QPushButton("Try again", self)
        row = QHBoxLayout()
        row.addWidget(self.retry)
        row.addStretch(1)
        self._above = QSpacerItem(0, 0, QSizePolicy.Policy.Minimum, _GROWING)
        self._column = column = QVBoxLayout(self)
        column.setContentsMargins(14, 12, 14, 12)
        column.setSpacing(8)
        column.addItem(self._above)
        column.addWidget(self.title)
        column.addWidget(self.text)
        column.addLayout(row)
        column.addItem(QSpacerItem(0, 0, QSizePolicy.Policy.Minimum, _GROWING))

    def say(self, title: str, text: str, *, tone: str | None = None, can_retry: bool = False) -> None:
        """Say this."""
        self.title.setText(title)
        self.title.setVisible(bool(title))
        self.text.setText(text)
        style_as(self.title, tone=tone)
        style_as(self.text, tone=None if title else "muted")
        self.text.setAlignment(Qt.AlignmentFlag.AlignLeft if title else Qt.AlignmentFlag.AlignCenter)
        self._above.changeSize(0, 0, QSizePolicy.Policy.Minimum, _FIXED if title else _GROWING)
        self._column.invalidate()
        self.retry.setVisible(can_retry)
