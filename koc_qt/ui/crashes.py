"""Crash reports in the window: a quiet notice of new ones, and a dialog that shows them all. Nothing is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QSignalBlocker, Qt, QUrl, Signal
from PySide6.QtGui import QDesktopServices, QGuiApplication, QKeySequence, QShortcut
from PySide6.QtWidgets import (
    QDialog,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QPlainTextEdit,
    QPushButton,
    QSplitter,
    QVBoxLayout,
)

from koc_qt.domain.errors import KocError
from koc_qt.ports.crash_reports import CrashReport, CrashShelf
from koc_qt.ui.actions import Command
from koc_qt.ui.desk import Level, Notice
from koc_qt.ui.palette import KeysDelegate
from koc_qt.ui.theme import code_font, style_as

if TYPE_CHECKING:
    from koc_qt.ui.window import MainWindow

_WIDTH, _HEIGHT = 940, 540
_PARTS = {"window": "the window", "engine": "the engine", "command": "a command"}


class CrashWatch(QObject):
    """Tells the person of new reports, of this process and of others; `came` may be emitted in any thread."""

    came = Signal()

    def __init__(self, window: MainWindow, shelf: CrashShelf) -> None:
        super().__init__(window)
        self._window = window
        self._shelf = shelf
        self._is_looking = self._is_wanted = False
        self.came.connect(self.look, Qt.ConnectionType.QueuedConnection)
        window.bench.desk.linked.connect(self._linked)
        window.workspace.filled.connect(self.look)
        command = Command("help.crashes", "Crash &reports…", "&Help", "file", tip="What went wrong in K.O.C. itself")
        window.actions_.add(command, self.show_reports)

    def look(self) -> None:
        """See whether there are new reports."""
        self._is_wanted = True
        if not self._is_looking:
            self._is_looking = True
            self._window.bench.desk.start(self._look())

    def show_reports(self) -> None:
        """Show all that are there."""
        self._window.bench.desk.start(self._show_reports())

    def _linked(self) -> None:
        if self._window.bench.desk.is_connected:  # perhaps with an engine that was started after a crash
            self.look()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._is_wanted:
                self._is_wanted = False
                new = await loop.run_in_executor(None, self._shelf.take_new)
                if new:
                    remedies = (("Show", self.show_reports), ("Open folder", self._open_folder))
                    self._window.notices.show_notice(Notice(Level.WARNING, notice_of(new)), remedies)
        finally:
            self._is_looking = False

    async def _show_reports(self) -> None:
        loop = asyncio.get_running_loop()
        reports = await loop.run_in_executor(None, self._shelf.reports)
        dialog = CrashDialog(self._window, self._shelf, reports)
        dialog.open()

    def _open_folder(self) -> None:
        open_folder(self._window, self._shelf.folder)


class CrashDialog(QDialog):
    """The reports on the left, the chosen one on the right. Goes when it is closed."""

    def __init__(self, window: MainWindow, shelf: CrashShelf, reports: Sequence[CrashReport]) -> None:
        super().__init__(window)
        self._window = window
        self._shelf = shelf
        self._names = [report.name for report in reports]
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Crash reports")
        said = QLabel(
            "What went wrong in K.O.C. itself. Reports stay on this machine: nobody is sent them. Keys and passwords "
            "are taken out of them; look at one before you pass it on. Times are UTC.",
            self,
        )
        said.setWordWrap(True)
        style_as(said, tone="muted")
        self.list = QListWidget()
        self.list.setAccessibleName("Crash reports")
        self.list.addItems([title_of(report) for report in reports])
        self.list.setUniformItemSizes(True)
        self.list.setItemDelegate(KeysDelegate(window.bench.theme, self.list))
        delete = QShortcut(QKeySequence(Qt.Key.Key_Delete), self.list, self._delete)
        delete.setContext(Qt.ShortcutContext.WidgetShortcut)
        self.text = QPlainTextEdit()
        self.text.setReadOnly(True)
        self.text.setAccessibleName("Report")
        self.text.setFont(code_font())
        self.text.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.empty = QLabel("There are none: nothing has gone wrong so far.", self)
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        style_as(self.empty, tone="muted")
        split = self._split = QSplitter(self)
        split.addWidget(self.list)
        split.addWidget(self.text)
        split.setStretchFactor(1, 1)
        split.setSizes([290, _WIDTH - 290])
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 14, 16, 14)
        column.setSpacing(10)
        column.addWidget(said)
        column.addWidget(split, 1)
        column.addWidget(self.empty, 1)
        column.addLayout(self._buttons())
        self.list.currentRowChanged.connect(self._show)
        self.list.setCurrentRow(0 if reports else -1)
        self._enable()
        room = window.size()
        self.resize(min(_WIDTH, room.width() - 40), min(_HEIGHT, room.height() - 40))

    def _buttons(self) -> QHBoxLayout:
        self.copy = QPushButton("Copy")
        self.delete_ = QPushButton("Delete")
        folder = QPushButton("Open folder")
        close = QPushButton("Close")
        close.setDefault(True)
        self.copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(self.text.toPlainText()))
        self.delete_.clicked.connect(self._delete)
        folder.clicked.connect(lambda: open_folder(self._window, self._shelf.folder))
        close.clicked.connect(self.accept)
        row = QHBoxLayout()
        for button in (self.copy, self.delete_, folder):
            row.addWidget(button)
        row.addStretch(1)
        row.addWidget(close)
        return row

    def _show(self, row: int) -> None:
        if row < 0:
            self.text.clear()
            return
        try:
            self.text.setPlainText(self._shelf.read(self._names[row]))
        except KocError as error:
            self.text.setPlainText(str(error))

    def _delete(self) -> None:
        row = self.list.currentRow()
        if row < 0:
            return
        try:
            self._shelf.delete(self._names[row])
        except KocError as error:
            self.text.setPlainText(str(error))
            return
        with QSignalBlocker(self.list):  # it tells of rows that are not those any more
            del self._names[row]
            self.list.takeItem(row)
        self._show(self.list.currentRow())
        self._enable()

    def _enable(self) -> None:
        has_any = bool(self._names)
        for button in (self.copy, self.delete_):
            button.setEnabled(has_any)
        self._split.setVisible(has_any)
        self.empty.setVisible(not has_any)


def title_of(report: CrashReport) -> str:
    """Say in a line which report it is."""
    part = _PARTS.get(report.part, report.part)
    words = f"{part} ended" if report.has_ended else f"error in {part}"
    return f"{_time(report)}  {words[0].upper()}{words[1:]}"


def notice_of(reports: Sequence[CrashReport]) -> str:
    """Say what happened, in a sentence or two."""
    newest = next((report for report in reports if report.has_ended), reports[0])
    part = _PARTS.get(newest.part, newest.part)
    if newest.has_ended:
        text = f"K.O.C. ended unexpectedly ({part}, {_time(newest)} UTC)."
    else:
        text = f"An error in K.O.C. itself ({part}, {_time(newest)} UTC); it goes on."
    kept = "A report was" if len(reports) == 1 else f"{len(reports)} reports were"
    return f"{text} {kept} written on this machine, and sent nowhere."


def open_folder(window: MainWindow, folder: Path) -> None:
    """Show a folder in the system's own program for that, or say why not."""
    if not folder.is_dir():
        window.bench.desk.notify(f"There is no folder {folder} yet", Level.WARNING)
    elif not QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder))):
        window.bench.desk.notify(f"This system has no program that opens the folder {folder}", Level.WARNING)


def _time(report: CrashReport) -> str:
    return f"{datetime.fromtimestamp(report.time_ns // 1_000_000_000, UTC):%Y-%m-%d %H:%M}"
