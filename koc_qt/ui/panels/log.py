"""The log panel: what engine and strategies say, with filters, search, the whole of a long line, and a way out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from PySide6.QtCore import QModelIndex, QPoint, QSize, Qt, QTimer
from PySide6.QtGui import QGuiApplication, QKeySequence, QResizeEvent, QShortcut, QShowEvent
from PySide6.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QPlainTextEdit,
    QSplitter,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from koc_qt.domain.errors import KocError, StorageError
from koc_qt.link.messages import LogRecorded, ReadLog
from koc_qt.ui.bench import Bench, Panel
from koc_qt.ui.desk import LOG_KEPT, Frame
from koc_qt.ui.errands import Errand
from koc_qt.ui.formats import utc
from koc_qt.ui.icons import icon
from koc_qt.ui.opening import open_gently
from koc_qt.ui.panels.log_lines import SEVERITY, LogFilter, LogModel, as_text
from koc_qt.ui.panels.log_view import LogView, level_word
from koc_qt.ui.theme import code_font, number_font, style_as

READ_LINES = 500
FLUSH_MS = 80
FLUSH_LINES = 1_000
DETAIL_PX = 84
NARROW_PX = 560
_LEVELS = (("All levels", "TRACE"), ("Info and up", "INFO"), ("Warnings", "WARNING"), ("Errors", "ERROR"))
_ALL_SOURCES = "All sources"


class LogPanel(Panel):
    """Lists at most 5,000 lines, the newest at the end."""

    NAME = "log"
    TITLE = "Log"
    ICON = "log"

    def __init__(self, bench: Bench, parent: QWidget | None = None) -> None:
        super().__init__(bench, parent)
        self.model = LogModel(self)
        self._waiting: deque[LogRecorded] = deque(self.desk.logs, maxlen=LOG_KEPT)
        self._wanted_source = ""
        self._unseen = 0
        self._current: LogRecorded | None = None
        self._reading = Errand(self.desk, self)
        self._flush_timer = QTimer(self)
        self._flush_timer.setSingleShot(True)
        self._flush_timer.setInterval(FLUSH_MS)
        self._flush_timer.timeout.connect(self.flush)
        self.make()

    # ---- making -----------------------------------------------------------------------------------------------------

    def parts(self) -> Iterator[None]:
        """Make the line of filters, the lines and the detail."""
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        bar = QHBoxLayout()
        bar.setContentsMargins(8, 6, 8, 6)
        bar.setSpacing(6)
        column.addLayout(bar)
        self._make_filters(bar)
        yield
        self.follow = self._button("down", "Follow the newest line (End)", self)
        self.follow.setCheckable(True)
        self.follow.setChecked(True)
        self.follow.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        copy = self._button("copy", "Copy the chosen lines, or all that are shown", self)
        save = self._button("save", "Save the lines that are shown…", self)
        for button in (self.follow, copy, save):
            bar.addWidget(button)
        self.trouble = QLabel(self)
        self.trouble.setWordWrap(True)
        self.trouble.setContentsMargins(8, 0, 8, 6)
        style_as(self.trouble, tone="warning")
        self.trouble.hide()
        column.addWidget(self.trouble)
        self.splitter = QSplitter(Qt.Orientation.Vertical, self)
        self.splitter.setChildrenCollapsible(False)
        column.addWidget(self.splitter, 1)
        yield
        self.view = LogView(self.model, self.bench.theme, self.splitter)
        yield
        self.detail = self._make_detail(self.splitter)
        self.splitter.setStretchFactor(0, 1)
        self.detail.hide()
        self._connect(copy, save)
        yield
        self.flush()
        if self.desk.is_connected:
            self._read()

    def _make_filters(self, bar: QHBoxLayout) -> None:
        self.search = QLineEdit(self)
        self.search.setPlaceholderText("Search")
        self.search.setClearButtonEnabled(True)
        self.search.setAccessibleName("Search the log")
        self.search.addAction(icon("search", self.bench.theme, "muted"), QLineEdit.ActionPosition.LeadingPosition)
        self.level = QComboBox(self)
        self.level.setAccessibleName("Level")
        for words, level in _LEVELS:
            self.level.addItem(words, level)
        self.level.setToolTip("Lines of this level or worse")
        self.source = QComboBox(self)
        self.source.setAccessibleName("Source")
        self.source.addItem(_ALL_SOURCES, "")
        self.source.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.source.setMinimumContentsLength(9)
        self.count = QLabel(self)
        self.count.setFont(number_font())
        style_as(self.count, tone="muted", face="small")
        self.search.setMinimumWidth(100)
        bar.addWidget(self.search, 1)
        for widget in (self.level, self.source, self.count):
            bar.addWidget(widget)

    def _connect(self, copy: QToolButton, save: QToolButton) -> None:
        self.search.textChanged.connect(self._filter)
        self.level.currentIndexChanged.connect(self._filter)
        self.source.currentIndexChanged.connect(self._filter)
        self.follow.clicked.connect(self.view.set_follows)
        copy.clicked.connect(self.copy)
        save.clicked.connect(self.choose_file)
        self.model.sources_changed.connect(self._show_sources)
        self.view.following_changed.connect(self._show_counts)
        self.view.selectionModel().currentRowChanged.connect(self._choose)
        self.view.customContextMenuRequested.connect(self._show_menu)
        self._shortcut(QKeySequence.StandardKey.Copy, self.view, self.copy)
        self._shortcut(QKeySequence(Qt.Key.Key_End), self.view, lambda: self.view.set_follows(True))
        self._shortcut(QKeySequence(Qt.Key.Key_Escape), self, self._leave)
        self._shortcut(QKeySequence.StandardKey.Find, self, self.search.setFocus)
        self.desk.framed.connect(self._on_frame)

    # ---- what comes in ----------------------------------------------------------------------------------------------

    def _on_frame(self, frame: Frame) -> None:
        if frame.logs:
            self._waiting.extend(frame.logs)
            if self.isVisible() and not self._flush_timer.isActive():
                self._flush_timer.start()
        if frame.snapshot:
            self._read()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Show what came while nobody looked."""
        super().showEvent(event)
        self.flush()

    def flush(self) -> None:
        """Show what has come since the last time, of a burst a part after the other."""
        lines = [self._waiting.popleft() for _ in range(min(len(self._waiting), FLUSH_LINES))]
        before = self.model.rowCount()
        self._add(lines)
        if not self.view.follows:
            self._unseen += max(self.model.rowCount() - before, 0)
        self._show_counts()
        if self._waiting and self.isVisible():
            self._flush_timer.start()

    def _read(self) -> None:
        """Ask for what was logged before this connection."""
        self._reading.start(self._read_and_merge(), self._not_read)

    async def _read_and_merge(self) -> None:
        answer = await self.desk.request(ReadLog(READ_LINES))
        try:
            lines = msgspec.convert(answer, list[tuple[int, str, str, str]])
        except msgspec.ValidationError as error:
            raise KocError(f"the engine's answer cannot be read: {error}") from error
        self.trouble.hide()
        self._add([LogRecorded(*line) for line in lines])
        self._show_counts()

    def _not_read(self, error: KocError) -> None:
        if self.desk.is_connected:
            self.trouble.setText(f"Earlier lines are missing. {error}")
            self.trouble.show()

    def _add(self, lines: Sequence[LogRecorded]) -> None:
        rows = self.model.rowCount()
        current = self._current
        self.model.add(lines)
        if rows and current is not None and not self.view.currentIndex().isValid():  # merged: begun anew
            self._show_again(current)

    # ---- what is shown ----------------------------------------------------------------------------------------------

    def _filter(self) -> None:
        current = self._current
        self._wanted_source = self.source.currentData()
        self.view.lines_delegate.needle = self.search.text().strip()
        self.model.set_filter(LogFilter(self.level.currentData(), self._wanted_source, self.view.lines_delegate.needle))
        self._show_again(current)
        self._show_counts()
        self.view.viewport().update()

    def _show_again(self, line: LogRecorded | None) -> None:
        """Keep the chosen line in sight when other lines come and go around it."""
        row = self.model.row_of(line)
        if row >= 0:
            self.view.show_row(row)
        else:
            self._choose(QModelIndex())

    def _show_sources(self) -> None:
        self.view.lines_delegate.fit_sources(self.model.sources)
        self.source.blockSignals(True)
        self.source.clear()
        self.source.addItem(_ALL_SOURCES, "")
        wanted = {self._wanted_source} - {""}
        for source in sorted(wanted.union(self.model.sources)):
            self.source.addItem(source, source)
        self.source.setCurrentIndex(max(self.source.findData(self._wanted_source), 0))
        self.source.blockSignals(False)

    def _show_counts(self) -> None:
        shown, total = self.model.rowCount(), self.model.total
        if self.view.follows:
            self._unseen = 0
        self.follow.setChecked(self.view.follows)
        self.follow.setText(f"{self._unseen:,} new" if self._unseen else "Follow")
        self.count.setText(f"{shown:,} of {total:,}" if shown != total else f"{total:,} line{'s'[: total != 1]}")
        if total:
            self.view.empty_text = "No line matches. Clear the search, or choose other filters."
        elif self.desk.is_connected:
            self.view.empty_text = "Nothing has been logged yet."
        else:
            self.view.empty_text = "The log is shown when the engine is connected."
        if not shown:
            self.view.viewport().update()

    def _choose(self, index: QModelIndex) -> None:
        """Show the whole of a line."""
        row = index.row()
        self._current = self.model.shown[row] if 0 <= row < self.model.rowCount() else None
        line = self._current
        if line is None:
            self.detail.hide()
        else:
            self.view.set_follows(False)  # what is being read shall not run away
            self.detail_head.setText(f"{utc(line.time_ns)}  ·  {level_word(line.level)}  ·  {line.source}")
            self.detail_text.setPlainText(line.text)
            if self.detail.isHidden():
                self.detail.show()
                self.splitter.setSizes([max(self.splitter.height() - DETAIL_PX, DETAIL_PX), DETAIL_PX])
                self.view.scrollTo(index)

    def _make_detail(self, parent: QWidget) -> QFrame:
        detail = QFrame(parent)
        self.detail_head = QLabel(detail)
        self.detail_head.setFont(number_font())
        self.detail_head.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        style_as(self.detail_head, tone="muted", face="small")
        close = self._button("close", "Close (Esc)", detail)
        close.clicked.connect(self._leave)
        self.detail_text = QPlainTextEdit(detail)
        self.detail_text.setReadOnly(True)
        self.detail_text.setFont(code_font())
        self.detail_text.setMinimumHeight(34)
        self.detail_text.setAccessibleName("The whole line")
        style_as(self.detail_text, role="bare")
        head = QHBoxLayout()
        head.setContentsMargins(8, 2, 4, 0)
        head.addWidget(self.detail_head, 1)
        head.addWidget(close)
        column = QVBoxLayout(detail)
        column.setContentsMargins(0, 0, 0, 2)
        column.setSpacing(0)
        column.addLayout(head)
        text = QHBoxLayout()
        text.setContentsMargins(4, 0, 4, 0)
        text.addWidget(self.detail_text)
        column.addLayout(text)
        return detail

    def _leave(self) -> None:
        """Close the detail, or else end the search."""
        if self._current is not None:
            self.view.clearSelection()
            self.view.setCurrentIndex(QModelIndex())
        else:
            self.search.clear()

    # ---- taking it away ---------------------------------------------------------------------------------------------

    def copy(self) -> None:
        """Copy the chosen lines, or all that are shown."""
        QGuiApplication.clipboard().setText(as_text(self._chosen() or self.model.shown))

    def _chosen(self) -> list[LogRecorded]:
        rows = sorted(index.row() for index in self.view.selectionModel().selectedRows())
        return [self.model.shown[row] for row in rows]

    def choose_file(self) -> None:
        """Ask where the lines shall be saved."""
        dialog = QFileDialog(self, "Save the log", "koc-log.txt", "Text (*.txt);;All files (*)")
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setDefaultSuffix("txt")
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(lambda path: self.save(Path(path)))
        open_gently(dialog)

    def save(self, path: Path) -> None:
        """Write the lines that are shown to a file, which is replaced whole; says how it went."""
        self.desk.start(self._save(path, list(self.model.shown)))

    async def _save(self, path: Path, lines: Sequence[LogRecorded]) -> None:
        await asyncio.get_running_loop().run_in_executor(None, write_lines, path, lines)
        self.desk.notify(f"{len(lines):,} line{'s'[: len(lines) != 1]} of the log saved to {path}")

    def _show_menu(self, point: QPoint) -> None:
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        theme, line = self.bench.theme, self._current
        menu.addAction(icon("copy", theme), "Copy", self.copy)
        if line is not None and self.source.currentData() != line.source:
            menu.addAction(icon("filter", theme), f"Only {line.source}", lambda: self._show_only(line.source))
        menu.addAction(icon("save", theme), "Save as…", self.choose_file)
        menu.popup(self.view.viewport().mapToGlobal(point))

    def _show_only(self, source: str) -> None:
        self.source.setCurrentIndex(self.source.findData(source))

    # ---- memory -----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Give the filters; what was searched for is forgotten."""
        return {"level": self.level.currentData(), "source": self._wanted_source}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the filters over."""
        level, source = state.get("level"), state.get("source")
        if isinstance(level, str) and level in SEVERITY:
            self.level.setCurrentIndex(max(self.level.findData(level), 0))
        if isinstance(source, str):
            self._wanted_source = source
            self._show_sources()
            self._filter()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Leave out what a narrow panel has no room for."""
        super().resizeEvent(event)
        wide, style = self.width() >= NARROW_PX, Qt.ToolButtonStyle
        self.count.setVisible(wide)
        self.follow.setToolButtonStyle(style.ToolButtonTextBesideIcon if wide else style.ToolButtonIconOnly)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Fit narrow docks too."""
        return QSize(470, 120)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for room for some lines."""
        return QSize(700, 220)

    def _button(self, name: str, tip: str, parent: QWidget) -> QToolButton:
        button = QToolButton(parent)
        button.setIcon(icon(name, self.bench.theme))
        button.setIconSize(QSize(16, 16))
        button.setToolTip(tip)
        button.setAccessibleName(tip.rstrip("…"))
        return button

    def _shortcut(self, keys: QKeySequence | QKeySequence.StandardKey, owner: QWidget, run: Any) -> None:
        QShortcut(QKeySequence(keys), owner, run, context=Qt.ShortcutContext.WidgetWithChildrenShortcut)


def write_lines(path: Path, lines: Sequence[LogRecorded]) -> None:
    """Write lines to a file that is there whole or not at all. Raises StorageError. Blocks: call it in a thread."""
    temporary = ""
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}.", encoding="utf-8", errors="backslashreplace", delete=False
        ) as file:
            temporary = file.name
            file.write(as_text(lines))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        raise StorageError(f"the log was not saved to {path}: {error.strerror}. Choose another place") from error
