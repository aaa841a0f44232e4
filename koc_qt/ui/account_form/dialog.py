"""What all dialogs about accounts are made of: a sheet that scrolls, and beneath it what is wrong or under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from PySide6.QtCore import QSize, Qt, QTimer
from PySide6.QtGui import QCloseEvent, QShowEvent
from PySide6.QtWidgets import (
    QDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from koc_qt.domain.errors import KocError
from koc_qt.ui.bench import Bench
from koc_qt.ui.errands import Errand
from koc_qt.ui.focus import StaysInSight
from koc_qt.ui.panels.ticket_fields import Message
from koc_qt.ui.theme import style_as

MARGIN_PX = 16
STOPPED = "You do not wait any more. The engine may still do it: the account's card shows how it stands."


class AccountDialog(QDialog):
    """Shown with `open`, it blocks nothing. One thing is under way at a time; Cancel ends the wait for it, then closes.

    A failure is said in place and what was filled in stays; `forget` is called when the dialog closes.
    """

    WIDTH = 460
    LEAVE = "Cancel"

    def __init__(self, bench: Bench, title: str, yes: str, parent: QWidget | None, *, role: str = "primary") -> None:
        super().__init__(parent)
        self._bench = bench
        self._desk = bench.desk
        self._work = Errand(bench.desk, self)
        self._waits = ""  # for what
        self.is_made = True  # with all that is in it
        self.setWindowTitle(title)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        self.sheet = QScrollArea(self)
        self.sheet.setWidgetResizable(True)
        self.sheet.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.sheet.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.body = QWidget(self.sheet.viewport())
        self.sheet.setWidget(self.body)
        StaysInSight(self.sheet)
        self.column = QVBoxLayout(self.body)
        self.column.setContentsMargins(MARGIN_PX, 14, MARGIN_PX, 10)
        self.column.setSpacing(8)
        whole.addWidget(self.sheet, 1)
        line = QFrame(self)
        line.setFrameShape(QFrame.Shape.HLine)
        whole.addWidget(line)
        whole.addLayout(self._foot(yes, role))
        self._fitting = QTimer(self)
        self._fitting.setSingleShot(True)
        self._fitting.setInterval(0)
        self._fitting.timeout.connect(self._fit)
        self._desk.linked.connect(self._linked)

    def _foot(self, yes: str, role: str) -> QVBoxLayout:
        foot = QVBoxLayout()
        foot.setContentsMargins(MARGIN_PX, 10, MARGIN_PX, 12)
        foot.setSpacing(8)
        self.bar = QProgressBar(self)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(6)
        self.bar.hide()
        self.problem = Message(self)
        self.problem.MOST = 1_000
        foot.addWidget(self.bar)
        foot.addWidget(self.problem)
        self.buttons = QHBoxLayout()
        self.buttons.setSpacing(8)
        self.buttons.addStretch(1)
        self.cancel_button = QPushButton(self.LEAVE, self)
        self.yes_button = QPushButton(yes, self)
        style_as(self.yes_button, role=role)
        self.yes_button.setDefault(True)
        self.cancel_button.setAutoDefault(False)
        for button in (self.cancel_button, self.yes_button):
            self.buttons.addWidget(button)
        self.cancel_button.clicked.connect(self.reject)
        self.yes_button.clicked.connect(self.agree)
        foot.addLayout(self.buttons)
        return foot

    # ---- for those that are made of it -------------------------------------------------------------------------------

    def agree(self) -> None:
        """Do what the dialog is for."""
        raise NotImplementedError

    def obstacle(self) -> str:
        """Say what is missing or in the way; empty where nothing is."""
        return ""

    def forget(self) -> None:
        """Wipe what nobody is to find in a closed dialog."""

    def words(self, text: str = "", tone: str | None = None, face: str | None = None) -> Message:
        """Add a sentence to the sheet."""
        label = Message(self.body, face)
        label.MOST = 2_000
        label.say(text, tone)
        self.column.addWidget(label)
        return label

    def section(self, text: str) -> QLabel:
        """Add the title of a part to the sheet."""
        label = QLabel(text, self.body)
        label.setContentsMargins(0, 8, 0, 0)
        font = label.font()
        font.setBold(True)
        label.setFont(font)
        self.column.addWidget(label)
        return label

    def parts(self) -> Iterator[None]:
        """Make what is in it, a part a step, where that takes long; most are made at once."""
        return iter(())

    @property
    def is_busy(self) -> bool:
        """Whether something is under way."""
        return bool(self._waits)

    def _linked(self) -> None:
        if self.is_made:
            self.judge()

    def judge(self) -> None:
        """Show what is missing, and offer to go on where nothing is."""
        if self.is_busy:
            return
        reason = self.obstacle() if self._desk.is_connected else f"There is no engine: {self._desk.link_reason}"
        self.say(reason, "warning")
        self.yes_button.setEnabled(not reason)

    def say(self, text: str, tone: str = "danger") -> None:
        """Say something above the buttons."""
        self.problem.say(text[:1].upper() + text[1:], tone)
        self.refit()

    def run(self, work: Callable[[], Coroutine[Any, Any, Any]], words: str) -> None:
        """Begin something, unless something is under way."""
        if self.is_busy:
            return
        self._waits = words
        self._show_wait()
        self._work.start(self._see_through(work))

    async def _see_through(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        try:
            await work()
        except KocError as error:
            self._settle()
            self.failed(error)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._settle()
            self.say(f"An error in the window itself, {type(error).__name__}: the log has more")
            raise
        else:
            self._settle()

    def failed(self, error: KocError) -> None:
        """Say what went wrong."""
        self.say(str(error))

    def progress(self, text: str) -> None:
        """Say how far it is."""
        if self.is_busy:
            self.say(text, "muted")

    def _settle(self) -> None:
        self._waits = ""
        self._show_wait()

    def _show_wait(self) -> None:
        waits = self.is_busy
        self.bar.setRange(0, 0 if waits else 1)  # one that nobody sees costs nothing
        self.bar.setVisible(waits)
        self.body.setEnabled(not waits)
        self.cancel_button.setText("Stop waiting" if waits else self.LEAVE)
        self.yes_button.setEnabled(not waits)
        for button in self.side_buttons():
            button.setEnabled(not waits)
        if waits:
            self.say(self._waits, "muted")
        else:
            self.judge()

    def side_buttons(self) -> list[QPushButton]:
        """Give the buttons besides the two that every dialog has."""
        return []

    # ---- size --------------------------------------------------------------------------------------------------------

    def refit(self) -> None:
        """Grow, once, where what is shown needs more room."""
        if self.isVisible():
            self._fitting.start()

    def _fit(self) -> None:
        content = self.body
        has_width = content.hasHeightForWidth()
        content_px = content.heightForWidth(self.width()) if has_width else content.sizeHint().height()
        layout = self.layout()
        foot_px = (layout.sizeHint().height() if layout is not None else 0) - self.sheet.sizeHint().height()
        foot_px += max(0, self.problem.heightForWidth(self.width() - 2 * MARGIN_PX) - self.problem.sizeHint().height())
        area = self.screen().availableGeometry()
        wanted = QSize(max(self.WIDTH, self.width()), content_px + foot_px + 4)
        size = wanted.boundedTo(area.size() * 0.94)
        if size.height() > self.height():
            self.resize(size)
            below = self.frameGeometry().bottom() - area.bottom()
            if below > 0:
                self.move(self.x(), max(area.top(), self.y() - below))

    # ---- Qt's calls --------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Show it in front. Qt's own `open` would block the window, and the kill switch with it."""
        self.resize(self.WIDTH, 120)
        self._fit()  # first: where it comes up, in the middle of the window, follows from its size
        self.show()
        self.raise_()
        self.activateWindow()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Be as large as the content."""
        super().showEvent(event)
        self._fit()
        self._fitting.start()

    def reject(self) -> None:
        """End the wait for what is under way; close where nothing is."""
        if self.is_busy:
            self._work.cancel()
            self._settle()
            self.stopped()
        else:
            super().reject()

    def stopped(self) -> None:
        """Say that nobody waits any more."""
        self.say(STOPPED, "warning")

    def done(self, result: int) -> None:
        """Close, and keep nothing."""
        self._work.cancel()
        self._waits = ""
        self.bar.setRange(0, 1)
        self.forget()
        super().done(result)

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 - Qt's name
        """Close, whatever is under way: the engine does not need this dialog for it."""
        self._work.cancel()
        self._waits = ""
        super().closeEvent(event)
