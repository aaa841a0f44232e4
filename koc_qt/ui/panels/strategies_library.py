"""The strategy files that are at hand: the samples of the program, and the person's own folder."""

from __future__ import annotations

import asyncio
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QFileSystemWatcher, QObject, QTimer, Signal

from koc_qt.ui.desk import Desk
from koc_qt.ui.errands import Errand
from koc_qt.ui.file_names import told_apart
from koc_qt.ui.tables.columns import Column

HEAD_BYTES = 8 << 10  # of a file, in which its first words are looked for
MOST_FILES = 500  # a folder
SETTLE_MS = 250  # after a change: editors write in several steps
_LONGEST = 200
_OPENING = re.compile(r"""\s*[rRuU]?("{3}|'{3}|"|')""")


@dataclass(frozen=True)
class LibraryFile:
    """A strategy file; `about` is the first sentence of what it says of itself, empty where it says nothing.

    `name` is that of the file, with its folder where another has the same.
    """

    path: str
    about: str
    is_sample: bool
    name: str


FILE_COLUMNS: tuple[Column[LibraryFile], ...] = (
    Column(
        "file",
        "File",
        lambda file: file.name,
        tip=lambda file: f"{file.path}\n{'A sample of the program' if file.is_sample else 'In your own folder'}",
        icon=lambda file: "strategy" if file.is_sample else "file",
        width=19,
    ),
    Column("about", "What it does", lambda file: file.about, tone=lambda _file: "muted", width=10),
)


def first_words(text: str) -> str:
    """Give the first line of a Python source's docstring, or of its first class's. It is read as text, never run."""
    lines = text.removeprefix("\ufeff").splitlines()
    start = next((n for n, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), len(lines))
    found = _docstring(lines[start:])
    if found is None:
        heads = (n for n, line in enumerate(lines) if line.startswith("class ") and line.rstrip().endswith(":"))
        found = _docstring(lines[next(heads, len(lines)) + 1 :])
    words = " ".join((found or "").split())
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…"


def _docstring(lines: Sequence[str]) -> str | None:
    """Give the first line with words of the string that these lines begin with; None where they begin otherwise."""
    opening = _OPENING.match(lines[0]) if lines else None
    if opening is None:
        return None
    quotes = opening[1]
    for line in (lines[0][opening.end() :], *(lines[1:] if len(quotes) == 3 else ())):
        words, closing, _ = line.partition(quotes)
        if words.strip() or closing:
            return words
    return ""


def read_folders(folders: Sequence[tuple[Path, bool]]) -> list[LibraryFile]:
    """List the Python files of folders, each with whether it holds samples; for a thread, and at most so many.

    What cannot be read is listed without words: the form says why.
    """
    found: dict[str, tuple[str, bool]] = {}
    for folder, is_sample in folders:
        try:
            paths = sorted(path for path in folder.iterdir() if path.suffix == ".py" and path.name[:1] not in "_.")
        except OSError:
            continue  # it is not there yet, which is no fault: it is made with the first file
        for path in paths[:MOST_FILES]:
            try:
                if not stat.S_ISREG(path.stat().st_mode):
                    continue  # a pipe would never end
                with path.open("rb") as file:
                    about = first_words(file.read(HEAD_BYTES).decode("utf-8", errors="replace"))
            except OSError as error:
                about = f"It cannot be read: {error.strerror}"
            found[str(path)] = (about, is_sample)
    names = told_apart(found)
    return [LibraryFile(path, about, is_sample, names[path]) for path, (about, is_sample) in found.items()]


class Library(QObject):
    """Keeps the list up to date; `changed` says that `files` may differ. Reads beside the loop."""

    changed = Signal()

    def __init__(self, desk: Desk, folders: Sequence[tuple[Path, bool]], parent: QObject) -> None:
        super().__init__(parent)
        self.files: list[LibraryFile] = []
        self._folders = folders
        self._reading = Errand(desk, self)
        self._watcher = QFileSystemWatcher(self)
        self._watcher.directoryChanged.connect(self._touched)
        self._watcher.fileChanged.connect(self._touched)
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MS)
        self._settle.timeout.connect(self.read)

    def read(self) -> None:
        """Look at the folders anew."""
        self._reading.start(self._read())

    def retire(self) -> None:
        """Watch nothing any more."""
        self._settle.stop()
        self._reading.cancel()
        watched = [*self._watcher.directories(), *self._watcher.files()]
        if watched:
            self._watcher.removePaths(watched)

    async def _read(self) -> None:
        files, folders = await asyncio.to_thread(_look, self._folders)
        self._watch({*folders, *(file.path for file in files)})
        if files != self.files:
            self.files = files
            self.changed.emit()

    def _watch(self, wanted: set[str]) -> None:
        """Watch these folders, and the files for their words."""
        watched = {*self._watcher.directories(), *self._watcher.files()}
        if gone := sorted(watched - wanted):
            self._watcher.removePaths(gone)
        if new := sorted(wanted - watched):
            self._watcher.addPaths(new)

    def _touched(self, _path: str) -> None:
        self._settle.start()


def _look(folders: Sequence[tuple[Path, bool]]) -> tuple[list[LibraryFile], list[str]]:
    """Read folders, and find what to watch: the nearest one above where one is not there yet."""
    nearest = [next((each for each in (folder, *folder.parents) if each.is_dir()), None) for folder, _ in folders]
    return read_folders(folders), [str(each) for each in nearest if each is not None]
