"""New releases in the window: looked for on request, or once a day where the person wants it; never downloaded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from loguru import logger
from PySide6.QtCore import QObject, Qt, QTimer, QUrl
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QDialog, QHBoxLayout, QLabel, QPlainTextEdit, QPushButton, QVBoxLayout

from koc_qt.domain.errors import KocError
from koc_qt.domain.release import Release, ReleaseUntrusted
from koc_qt.ports.releases import ReleaseChecker
from koc_qt.ui.actions import Command
from koc_qt.ui.desk import Level, Notice
from koc_qt.ui.theme import style_as
from koc_qt.version import __version__

if TYPE_CHECKING:
    from koc_qt.ui.window import MainWindow

HOUR_MS = 3_600_000
_WIDTH, _HEIGHT = 520, 380

T = TypeVar("T")


class ReleaseWatch(QObject):
    """Looks for a newer release, and tells of it in a notice."""

    def __init__(self, window: MainWindow, checker: ReleaseChecker) -> None:
        super().__init__(window)
        self._window = window
        self._desk = window.bench.desk
        self._checker = checker
        self._is_looking = False
        self._told = ""  # the version that this window has told of by itself
        look = Command(
            "help.release", "Check for a new &release…", "&Help", "refresh", tip="Ask once, and say what came"
        )
        window.actions_.add(look, self.look)
        daily = Command("help.release.daily", "Check for new releases once a &day", "&Help")
        self.daily = window.actions_.add(daily, self._turn, checkable=True)
        self._timer = QTimer(self)
        self._timer.setInterval(HOUR_MS)
        self._timer.timeout.connect(self.look_if_due)
        window.workspace.filled.connect(self.start)

    def start(self) -> None:
        """Show whether it is wanted, and look where it is due: now, and every hour."""
        self._timer.start()
        self.look_if_due()

    def look(self) -> None:
        """Look because the person wants it."""
        if not self._is_looking:
            self._is_looking = True
            self._desk.start(self._look())

    def look_if_due(self) -> None:
        """Look where that is wanted, and was not done within a day."""
        if not self._is_looking:
            self._is_looking = True
            self._desk.start(self._look_if_due())

    async def _look(self) -> None:
        try:
            release = await _beside(self._checker.look)
        except ReleaseUntrusted as error:
            self._warn(error)
        else:
            if release is None:
                self._desk.notify(f"This is the newest release: {__version__}.")
            else:
                self._tell(release)
        finally:
            self._is_looking = False

    async def _look_if_due(self) -> None:
        try:
            is_on = await _beside(self._checker.is_on)
            self.daily.setChecked(is_on)
            if not is_on or not await _beside(self._checker.is_due):
                return
            release = await _beside(self._checker.look)
            if release is not None and release.version != self._told:
                self._tell(release)
        except ReleaseUntrusted as error:
            self._warn(error)
        except KocError as error:
            logger.info("no look for a newer release: {}", error)  # nobody has asked
        finally:
            self._is_looking = False

    def _tell(self, release: Release) -> None:
        self._told = release.version
        text = f"K.O.C. {release.version} of {release.released} is out; this is {__version__}."
        remedies = (
            ("What is new", partial(self._show, release)),
            ("Open its page", partial(open_page, self._window, release)),
        )
        self._window.notices.show_notice(Notice(Level.INFO, text), remedies)

    def _show(self, release: Release) -> None:
        ReleaseDialog(self._window, release).open()

    def _warn(self, error: ReleaseUntrusted) -> None:
        text = str(error)
        logger.warning("{}", text)
        self._window.notices.show_notice(Notice(Level.ERROR, f"{text[0].upper()}{text[1:]}."))

    def _turn(self) -> None:
        self._desk.start(self._keep(self.daily.isChecked()), failed=self._failed)

    async def _keep(self, is_on: bool) -> None:
        await _beside(partial(self._checker.turn, on=is_on))
        if is_on:
            self.look_if_due()

    def _failed(self, error: KocError) -> None:
        self.daily.setChecked(not self.daily.isChecked())
        self._desk.notify(str(error), Level.WARNING)


class ReleaseDialog(QDialog):
    """What the publisher says of a release: plain text. Goes when it is closed."""

    def __init__(self, window: MainWindow, release: Release) -> None:
        super().__init__(window)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("New release")
        title = QLabel(f"K.O.C. {release.version}", self)
        style_as(title, face="title")
        about = QLabel(f"Released on {release.released}; this is {__version__}. Nothing is downloaded from here.", self)
        about.setWordWrap(True)
        style_as(about, tone="muted")
        self.notes = QPlainTextEdit(release.notes or "Nothing is said about it.", self)
        self.notes.setReadOnly(True)
        self.notes.setAccessibleName("What is new")
        page = QLabel(release.page, self)
        page.setTextFormat(Qt.TextFormat.PlainText)
        page.setWordWrap(True)
        page.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        style_as(page, tone="muted")
        self.open_ = QPushButton("Open its page")
        style_as(self.open_, role="primary")
        self.open_.clicked.connect(lambda: open_page(window, release))
        close = QPushButton("Close")
        close.clicked.connect(self.accept)
        row = QHBoxLayout()
        row.addStretch(1)
        row.addWidget(close)
        row.addWidget(self.open_)
        column = QVBoxLayout(self)
        column.setContentsMargins(20, 18, 20, 16)
        column.setSpacing(10)
        for widget in (title, about):
            column.addWidget(widget)
        column.addWidget(self.notes, 1)
        column.addWidget(page)
        column.addLayout(row)
        room = window.size()
        self.resize(min(_WIDTH, room.width() - 40), min(_HEIGHT, room.height() - 40))


def open_page(window: MainWindow, release: Release) -> None:
    """Open a release's page in the person's browser, or say why not."""
    if not QDesktopServices.openUrl(QUrl(release.page, QUrl.ParsingMode.StrictMode)):
        window.bench.desk.notify(f"This system has no program that opens {release.page}", Level.WARNING)


async def _beside(call: Callable[[], T]) -> T:
    """Call it in a thread that keeps nobody from closing the window: a network may take its time."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, problem = None, None
        try:
            result = call()
        except Exception as error:
            problem = error
        try:
            loop.call_soon_threadsafe(settle, result, problem)
        except RuntimeError:  # the window is closed
            return

    threading.Thread(target=run, name="koc-release", daemon=True).start()
    return await done
