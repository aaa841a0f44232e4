"""What happens to the window's own work, a build, when the window closes: asked, and stopped in order."""

from __future__ import annotations

from PySide6.QtCore import QObject
from PySide6.QtWidgets import QDialog, QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from koc_qt.ui.theme import style_as
from koc_qt.ui.work import Work

_BAR_PX = 6


class WorkGuard(QObject):
    """Keeps the window open until its work has ended, then closes it."""

    def __init__(self, window: QWidget, work: Work) -> None:
        super().__init__(window)
        self._window = window
        self._work = work
        self._is_closing = False
        self.dialog: WorkDialog | None = None
        work.changed.connect(self._on_change)

    def holds(self, *, may_ask: bool) -> bool:
        """Whether the window has to stay for now: the person is asked what becomes of the work, or it is stopped."""
        if not self._work.is_running:
            return False
        if self._is_closing:
            return True
        if not may_ask:
            self._is_closing = True
            self._work.stop()
        elif self.dialog is not None:
            self.dialog.raise_()
        else:
            self._ask()
        return True

    def _ask(self) -> None:
        self.dialog = WorkDialog(self._work.title, self._window)
        self.dialog.stop.clicked.connect(self._stop)
        self.dialog.finished.connect(self._forget)
        self.dialog.open()

    def _stop(self) -> None:
        self._is_closing = True
        if self.dialog is not None:
            self.dialog.show_stopping()
        self._work.stop()

    def _on_change(self) -> None:
        """Close when it has ended, also by itself, while the person was asked."""
        if not self._work.is_running and (self._is_closing or self.dialog is not None):
            self._is_closing = False
            if self.dialog is not None:
                self.dialog.accept()
            self._window.close()

    def _forget(self) -> None:
        """Stay open: Esc or the button; work that is being stopped already is not called back by it."""
        self._is_closing = False
        if self.dialog is not None:
            self.dialog.deleteLater()
            self.dialog = None


class WorkDialog(QDialog):
    """Asks whether the work is stopped; leaving it goes on as before."""

    def __init__(self, title: str, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Close K.O.C.")
        self.setModal(True)
        self.question = QLabel(f"{title}: stop it?", self)
        style_as(self.question, face="title")
        self.what = QLabel(
            "The build ends with the window. What is done of it is kept, and the next one goes on from there.", self
        )
        self.what.setWordWrap(True)
        self.what.setMinimumWidth(380)
        style_as(self.what, tone="muted")
        self.progress = QProgressBar(self)
        self.progress.setRange(0, 0)
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(_BAR_PX)
        style_as(self.progress, face="small")
        policy = self.progress.sizePolicy()
        policy.setRetainSizeWhenHidden(True)  # or the text would be squeezed when it comes
        self.progress.setSizePolicy(policy)
        self.progress.hide()
        self.stop = QPushButton("Stop it and close", self)
        self.go_on = QPushButton("Go on building", self)
        self.go_on.setDefault(True)
        style_as(self.go_on, role="primary")
        self.go_on.clicked.connect(self.reject)
        row = QHBoxLayout()
        row.addStretch(1)
        row.addWidget(self.stop)
        row.addWidget(self.go_on)
        column = QVBoxLayout(self)
        column.setContentsMargins(20, 18, 20, 16)
        column.setSpacing(12)
        for widget in (self.question, self.what, self.progress):
            column.addWidget(widget)
        column.addLayout(row)
        self.go_on.setFocus()

    def show_stopping(self) -> None:
        """Say that it is being stopped, which takes a moment."""
        self.question.setText("Stopping the build…")
        self.what.setText("What is at work is ended, and what it has mounted undone. The window closes then.")
        self.progress.show()
        self.stop.setEnabled(False)
        self.go_on.setText("Stay open")
