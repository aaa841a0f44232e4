"""Bars from files in the place of a market's: chosen on this machine, or named where the engine runs on another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath, PureWindowsPath
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from koc_qt.domain.backtests import FILE_VENUE
from koc_qt.domain.instruments import InstrumentId
from koc_qt.ui.desk import Desk, Level
from koc_qt.ui.icons import icon
from koc_qt.ui.opening import open_gently
from koc_qt.ui.panels.backtest_fields import Field
from koc_qt.ui.panels.backtest_reading import ReadingFields
from koc_qt.ui.theme import Theme, style_as

FILES_MOST = 50  # as many as the engine takes symbols
_ELSEWHERE = "The file must lie on the engine's machine: give its path there, several with ; between them."


class BarFiles(QWidget):
    """A button that turns to files; then their names, another choice, and the way back.

    `turned` says that it has turned to files, or back to symbols; `changed` that the files may be others now.
    """

    turned = Signal()
    changed = Signal()

    def __init__(self, desk: Desk, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self._desk = desk
        self._paths: tuple[str, ...] = ()
        self._names: dict[str, InstrumentId] = {}  # of files whose symbol was named
        self.is_on = False
        self.open = QPushButton("Bars from a file…", self)
        self.open.setIcon(icon("folder", theme))
        self.open.setToolTip("Run on a parquet or CSV file of bars in the place of a market's history")
        self.open.setAccessibleName("Bars from a file")
        style_as(self.open, role="flat")
        self.field = Field("Bars from a file", self)
        self.row = self.field.hold(QWidget(self.field))
        self.line = QLineEdit(self.row)
        self.line.setAccessibleName("Bars from a file")
        self.browse = _button("folder", theme, "Choose another file…", self.row)
        self.back = _button("close", theme, "Back to symbols", self.row)
        self.row.setFocusProxy(self.line)
        self.row.setAccessibleName("Bars from a file")
        self.elsewhere = QLabel(_ELSEWHERE, self)
        self.elsewhere.setWordWrap(True)
        style_as(self.elsewhere, face="small", tone="muted")
        self.reading = ReadingFields(self)
        self._arrange()
        self.open.clicked.connect(self._begin)
        self.browse.clicked.connect(self.open_dialog)
        self.back.clicked.connect(self.leave)
        self.line.textEdited.connect(self._edited)
        self.reading.changed.connect(self.changed)
        desk.linked.connect(self._show)
        self._show()

    def _arrange(self) -> None:
        row = QHBoxLayout(self.row)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        row.addWidget(self.line, 1)
        row.addWidget(self.browse)
        row.addWidget(self.back)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.open, 0, Qt.AlignmentFlag.AlignLeft)
        column.addWidget(self.field)
        column.addWidget(self.elsewhere)
        column.addWidget(self.reading)

    @property
    def paths(self) -> tuple[str, ...]:
        """The files, one a symbol; none while bars are a market's."""
        return self._paths if self.is_on else ()

    def choose(self, paths: Sequence[str], instruments: Sequence[InstrumentId] = ()) -> None:
        """Have these files, of these symbols where they were named."""
        self._paths = tuple(paths)[:FILES_MOST]
        self._names = dict(zip(self._paths, instruments, strict=False))
        self.field.set_problem("")
        self._turn(True)
        self.changed.emit()

    def offer(self, paths: Sequence[str]) -> None:
        """Have these files of this machine, or say that they are not where they are read."""
        if not self._desk.is_remote:
            self.choose(paths)
            return
        if not self.is_on:
            self.choose(())
        name = _name(paths[0]) if len(paths) == 1 else f"The {len(paths)} files"
        self._desk.notify(
            f"{name} cannot be used from here: the engine reads bars on its own machine. Copy the bars there, and give "
            "the path in the back-test panel.",
            Level.WARNING,
        )

    def leave(self) -> None:
        """Go back to symbols."""
        self._turn(False)

    def check(self, count: int) -> tuple[InstrumentId, ...] | None:
        """Give the symbols of as many files; None, and a mark, where something is wrong."""
        symbols = [self._names.get(path) or _symbol(path) for path in self._paths]
        problem = ""
        if not self._paths:
            problem = "Give the path of a file of bars" if self._desk.is_remote else "Choose a file of bars"
        elif len(symbols) != count:
            problem = f"The strategy runs on {_files(count)}, and here {'is' if len(symbols) == 1 else 'are'} "
            problem += _files(len(symbols))
        elif len(set(symbols)) < len(symbols):
            problem = "Two of the files have the same name"
        self.field.set_problem(problem)
        return None if problem else tuple(symbols)

    def restore(self, paths: Any) -> None:
        """Take over what was chosen once, as far as it can be read."""
        if isinstance(paths, list) and paths and all(isinstance(path, str) and path for path in paths):
            self.choose(paths)

    def open_dialog(self) -> None:
        """Ask for files."""
        dialog = QFileDialog(self.window(), "Choose a file of bars")
        dialog.setFileMode(QFileDialog.FileMode.ExistingFiles)
        dialog.setNameFilters(["Bars (*.parquet *.pq *.csv)", "All files (*)"])
        if self._paths:
            dialog.setDirectory(str(PurePath(self._paths[0]).parent))
        dialog.filesSelected.connect(self.choose)
        dialog.finished.connect(dialog.deleteLater)
        open_gently(dialog)

    # ---- inside

    def _begin(self) -> None:
        """Ask for a file of this machine, or have the path of one of the engine's typed."""
        if not self._desk.is_remote:
            self.open_dialog()
            return
        self.choose(())

    def _turn(self, is_on: bool) -> None:
        was_on, self.is_on = self.is_on, is_on
        (self.field if is_on else self.open).show()
        if any(widget.hasFocus() for widget in (self.open, self.line, self.browse, self.back)):
            (self.line if is_on else self.open).setFocus()  # before what has it goes: it must not wander on
        self._show()
        if is_on != was_on:
            self.turned.emit()

    def _edited(self, text: str) -> None:
        self._paths = tuple(filter(None, map(str.strip, text.split(";"))))[:FILES_MOST]
        self._names = {}
        self.field.set_problem("")
        self.changed.emit()

    def _show(self) -> None:
        is_remote = self._desk.is_remote
        self.open.setVisible(not self.is_on)
        self.field.setVisible(self.is_on)
        self.elsewhere.setVisible(self.is_on and is_remote)
        self.reading.setVisible(self.is_on)
        self.browse.setVisible(not is_remote)
        self.line.setReadOnly(not is_remote)
        self.line.setPlaceholderText("/path/there/bars.parquet" if is_remote else "")
        text = "; ".join(self._paths) if is_remote else ", ".join(map(_name, self._paths))
        if text != self.line.text():
            self.line.setText(text)
            self.line.setCursorPosition(0)
        self.line.setToolTip("\n".join(self._paths))


def _name(path: str) -> str:
    return PureWindowsPath(path).name  # which knows both kinds of slashes: the engine may run elsewhere


def _symbol(path: str) -> InstrumentId:
    """Give the symbol of a file that was not named, as the command line does."""
    return InstrumentId(FILE_VENUE, PureWindowsPath(path).stem.strip() or _name(path))


def _files(count: int) -> str:
    return "one file" if count == 1 else f"{count} files"


def _button(name: str, theme: Theme, tip: str, parent: QWidget) -> QToolButton:
    button = QToolButton(parent)
    button.setIcon(icon(name, theme))
    button.setToolTip(tip)
    button.setAccessibleName(tip.rstrip("…"))
    return button
