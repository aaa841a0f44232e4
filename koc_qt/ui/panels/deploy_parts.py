"""Parts of the deploy panel: captions, lines to copy, the rows of a check."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QGuiApplication, QPalette
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from koc_qt.ui.icons import icon
from koc_qt.ui.panels.deploy_doctor import Check
from koc_qt.ui.theme import Theme, code_font, style_as

_LOOKS = {
    "ok": ("check", "profit", "Fine"),
    "warn": ("warning", "warning", "To know"),
    "fail": ("error", "danger", "Failed"),
}


def caption(text: str, parent: QWidget) -> QLabel:
    """Make a section's caption."""
    label = QLabel(text, parent)
    style_as(label, face="title")
    return label


def sentence(text: str, parent: QWidget, tone: str | None = None) -> QLabel:
    """Make text that wraps."""
    label = QLabel(text, parent)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setWordWrap(True)
    label.setMinimumWidth(40)
    if tone is not None:
        style_as(label, tone=tone)
    return label


def tool_button(name: str, tip: str, theme: Theme, parent: QWidget) -> QToolButton:
    """Make a button with an icon alone."""
    button = QToolButton(parent)
    button.setIcon(icon(name, theme))
    button.setIconSize(QSize(16, 16))
    button.setToolTip(tip)
    button.setAccessibleName(tip)
    return button


class CodeLine(QFrame):
    """Something to type elsewhere, with a button that copies it."""

    def __init__(self, text: str, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self.text = text
        self.setAutoFillBackground(True)
        self.setBackgroundRole(QPalette.ColorRole.AlternateBase)
        label = QLabel(text, self)
        label.setTextFormat(Qt.TextFormat.PlainText)
        label.setFont(code_font())
        label.setWordWrap(True)
        label.setMinimumWidth(40)
        label.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self.button = tool_button("copy", "Copy", theme, self)
        self.button.clicked.connect(self.copy)
        row = QHBoxLayout(self)
        row.setContentsMargins(8, 3, 3, 3)
        row.setSpacing(4)
        row.addWidget(label, 1)
        row.addWidget(self.button, 0, Qt.AlignmentFlag.AlignTop)

    def copy(self) -> None:
        """Put it on the clipboard."""
        QGuiApplication.clipboard().setText(self.text)


class CheckRow(QWidget):
    """What one look found."""

    def __init__(self, check: Check, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self._theme = theme
        self._name, role, words = _LOOKS.get(check.status, ("help", "muted", check.status))
        self._role = role
        mark = self._mark = QLabel(self)
        theme.changed.connect(self._show_mark)
        self._show_mark()
        mark.setToolTip(words)
        mark.setAccessibleName(words)
        mark.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Preferred)
        head = QLabel(check.name[:1].upper() + check.name[1:], self)
        column = QVBoxLayout()
        column.setSpacing(1)
        column.addWidget(head)
        column.addWidget(sentence(check.text, self, "muted"))
        if check.advice:
            column.addWidget(sentence(check.advice, self, role if check.status != "ok" else "muted"))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 2, 0, 2)
        row.setSpacing(8)
        row.addWidget(mark, 0, Qt.AlignmentFlag.AlignTop)
        row.addLayout(column, 1)

    def _show_mark(self) -> None:
        """Show the sign in the colours of the theme."""
        picture = icon(self._name, self._theme, self._role)
        self._mark.setPixmap(picture.pixmap(QSize(16, 16), self.devicePixelRatioF()))
