"""The dialog's other two faces: while a file is being read, and when it cannot be used."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPlainTextEdit, QProgressBar, QPushButton, QVBoxLayout, QWidget

from koc_qt.ui.icons import icon
from koc_qt.ui.start_form.parts import Words
from koc_qt.ui.theme import Theme, code_font, style_as


class Reading(QWidget):
    """A file is being read."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.words = Words(f"Reading {name} in a sandbox…")
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._bar.setFixedHeight(6)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 28, 16, 28)
        column.setSpacing(12)
        column.addWidget(self.words)
        column.addWidget(self._bar)
        column.addWidget(
            Words("What it declares is read in a process that has no network and no files.", "muted", "small")
        )
        column.addStretch(1)
        self.setAutoFillBackground(True)
        self.set_moving(False)

    def set_moving(self, moving: bool) -> None:
        """Let the bar move; one that nobody sees costs nothing."""
        self._bar.setRange(0, 0 if moving else 1)


class Trouble(QWidget):
    """What is wrong with a file, the line of it, and the way to read it again."""

    again = Signal()

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        sign = QLabel()
        sign.setPixmap(icon("error", theme, "danger").pixmap(20, 20))
        self.title = Words(face="title")
        self.words = Words()
        self.code = QPlainTextEdit()
        self.code.setReadOnly(True)
        self.code.setFont(code_font())
        self.code.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.code.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.code.document().setDocumentMargin(8)
        self.code.setAccessibleName("The line of the file")
        self.reload = QPushButton("Read again")
        self.reload.setIcon(icon("refresh", theme, "on_fill"))
        self.reload.setToolTip("Read the file again, once it is mended (F5)")
        self.reload.setAutoDefault(False)
        style_as(self.reload, role="primary")
        self.reload.clicked.connect(self.again)
        self._hint = Words("Mend the file in your editor, save it, then read it again.", "muted", "small")
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(sign, 0, Qt.AlignmentFlag.AlignTop)
        head.addWidget(self.title, 1)
        foot = QHBoxLayout()
        foot.addWidget(self._hint, 1)
        foot.addWidget(self.reload)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 16, 16, 8)
        column.setSpacing(10)
        column.addLayout(head)
        column.addWidget(self.words)
        column.addWidget(self.code)
        column.addLayout(foot)
        column.addStretch(1)
        self.setAutoFillBackground(True)

    def say(self, title: str, text: str, code: str = "", *, hint: bool = True) -> None:
        """Show what is wrong, with the lines of the file that it is about."""
        self.title.say(title)
        self.words.say(text)
        self.code.setPlainText(code)
        rows = code.count("\n") + 1
        self.code.setFixedHeight(rows * self.code.fontMetrics().lineSpacing() + 36)  # a scroll bar, where one is needed
        self.code.setVisible(bool(code))
        self._hint.setVisible(hint)
