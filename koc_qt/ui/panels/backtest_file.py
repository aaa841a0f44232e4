"""The choice of a strategy file: the samples that come with the program, those offered lately, or any other."""

from __future__ import annotations

import asyncio
from pathlib import Path, PurePath

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QToolButton, QWidget

from koc_qt.domain.errors import StrategyError
from koc_qt.ui.file_names import told_apart
from koc_qt.ui.icons import icon
from koc_qt.ui.opening import open_gently
from koc_qt.ui.panels.backtest_fields import WheelGuard
from koc_qt.ui.resources import library_folder
from koc_qt.ui.theme import Theme

LIBRARY_MOST = 200
RECENT_MOST = 10
SOURCE_LIMIT = 512 * 1024  # bytes, as the engine takes them


class StrategyFile(QWidget):
    """A list of files. `chosen` says that it is another one now, `reread` that it is to be read again."""

    chosen = Signal()
    reread = Signal()

    def __init__(self, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self._recent: list[str] = []
        self._library = _library()
        self.path = ""
        self.box = QComboBox(self)
        self.box.setAccessibleName("Strategy")
        self.box.setPlaceholderText("Choose a strategy")
        self.box.setMinimumContentsLength(10)
        self.box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        WheelGuard(self).watch(self.box)
        self.browse = _button("folder", theme, "Choose another file…", self)
        self.again = _button("refresh", theme, "Read the file again", self)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        row.addWidget(self.box, 1)
        row.addWidget(self.browse)
        row.addWidget(self.again)
        self.setFocusProxy(self.box)
        self.setAccessibleName("Strategy")
        self.box.activated.connect(lambda row: self.choose(str(self.box.itemData(row) or "")))
        self.browse.clicked.connect(self.open_dialog)
        self.again.clicked.connect(lambda _checked: self.reread.emit())
        self._list()

    @property
    def stem(self) -> str:
        """The file's name without its ending."""
        return PurePath(self.path).stem

    def choose(self, path: str) -> None:
        """Have this file; one chosen again is read again."""
        if not path:
            self._list()
            return
        if path not in self._library:
            self._recent = [path, *(each for each in self._recent if each != path)][:RECENT_MOST]
        is_other = path != self.path
        self.path = path
        self._list()
        (self.chosen if is_other else self.reread).emit()

    def open_dialog(self) -> None:
        """Ask for a file."""
        dialog = QFileDialog(self.window(), "Choose a strategy")
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.setNameFilters(["Strategies (*.py)", "All files (*)"])
        if self.path:
            dialog.setDirectory(str(PurePath(self.path).parent))
        elif self._library:
            dialog.setDirectory(str(PurePath(self._library[0]).parent))
        dialog.fileSelected.connect(self.choose)
        dialog.finished.connect(dialog.deleteLater)
        open_gently(dialog)

    def _list(self) -> None:
        """Show the offered files first, then the samples."""
        self.box.blockSignals(True)
        self.box.clear()
        for path, name in told_apart((*self._recent, *self._library)).items():
            self.box.addItem(name, path)
            self.box.setItemData(self.box.count() - 1, path, Qt.ItemDataRole.ToolTipRole)
        if self._recent and self._library:
            self.box.insertSeparator(len(self._recent))
        self.box.setCurrentIndex(self.box.findData(self.path) if self.path else -1)
        self.box.setToolTip(self.path)
        self.box.blockSignals(False)
        self.again.setEnabled(bool(self.path))


async def read_file(path: str) -> bytes | None:
    """Read a strategy file of this machine, beside the loop; None where there is none here.

    Raises StrategyError for one that cannot be read or is too large.
    """
    return await asyncio.to_thread(_read, path)


def _read(path: str) -> bytes | None:
    file = Path(path)
    try:
        if not file.is_file():
            return None
        with file.open("rb") as stream:
            source = stream.read(SOURCE_LIMIT + 1)
    except OSError as error:
        raise StrategyError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(source) > SOURCE_LIMIT:
        raise StrategyError(f"{path} is larger than a strategy may be ({SOURCE_LIMIT // 1024} KiB)")
    return source


def _library() -> tuple[str, ...]:
    folder = library_folder()
    files = sorted(folder.glob("[!_]*.py"))[:LIBRARY_MOST] if folder is not None else []
    return tuple(str(file) for file in files)


def _button(name: str, theme: Theme, tip: str, parent: QWidget) -> QToolButton:
    button = QToolButton(parent)
    button.setIcon(icon(name, theme))
    button.setToolTip(tip)
    button.setAccessibleName(tip.rstrip("…"))
    return button
