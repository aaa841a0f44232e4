"""The lines of the log as a model: bounded, in order of time, each once, and those that the filter lets through."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QAbstractListModel, QModelIndex, QObject, QPersistentModelIndex, Qt, Signal

from koc_qt.link.messages import LogRecorded
from koc_qt.ui.desk import LOG_KEPT
from koc_qt.ui.formats import utc

Index = QModelIndex | QPersistentModelIndex
SEVERITY = {"TRACE": 0, "DEBUG": 1, "INFO": 2, "SUCCESS": 2, "WARNING": 3, "ERROR": 4, "CRITICAL": 5}
LINE_ROLE = Qt.ItemDataRole.UserRole
_NOTHING = QModelIndex()


@dataclass(frozen=True)
class LogFilter:
    """Which lines are shown: of this level or worse, of this source (empty for all), with this text in any case."""

    level: str = "TRACE"
    source: str = ""
    text: str = ""

    def lets(self, line: LogRecorded) -> bool:
        """Tell whether a line is shown; one of a level nobody knows counts as INFO."""
        return (
            SEVERITY.get(line.level, 2) >= SEVERITY.get(self.level, 0)
            and (not self.source or line.source == self.source)
            and (not self.text or self.text.casefold() in line.text.casefold())
        )


class LogModel(QAbstractListModel):
    """Keeps the newest `limit` lines; `evicted` brings how many shown rows made way at the top."""

    evicted = Signal(int)
    sources_changed = Signal()

    def __init__(self, parent: QObject | None = None, *, limit: int = LOG_KEPT) -> None:
        super().__init__(parent)
        self._limit = limit
        self._lines: list[LogRecorded] = []
        self._known: set[LogRecorded] = set()
        self._shown: list[LogRecorded] = []
        self.filter = LogFilter()
        self.sources: list[str] = []

    @property
    def total(self) -> int:
        """How many lines are kept."""
        return len(self._lines)

    @property
    def shown(self) -> Sequence[LogRecorded]:
        """What the filter lets through, oldest first."""
        return self._shown

    def add(self, lines: Iterable[LogRecorded]) -> None:
        """Take lines over that are not there yet; those that are older than the newest find their place."""
        fresh = [line for line in dict.fromkeys(lines) if line not in self._known][-self._limit :]
        if not fresh:
            return
        fresh.sort(key=_time_ns)
        self._note_sources(fresh)
        if self._lines and fresh[0].time_ns < self._lines[-1].time_ns:
            self._rebuild(sorted([*self._lines, *fresh], key=_time_ns)[-self._limit :])
            return
        self._lines += fresh
        self._known.update(fresh)
        passing = [line for line in fresh if self.filter.lets(line)]
        if passing:
            at = len(self._shown)
            self.beginInsertRows(_NOTHING, at, at + len(passing) - 1)
            self._shown += passing
            self.endInsertRows()
        self._evict(len(self._lines) - self._limit)

    def set_filter(self, wanted: LogFilter) -> None:
        """Show other lines."""
        if wanted != self.filter:
            self.filter = wanted
            self._rebuild(self._lines)

    def row_of(self, line: LogRecorded | None) -> int:
        """Find a line among those shown; -1 where it is not."""
        return self._shown.index(line) if line is not None and line in self._known and line in self._shown else -1

    def _evict(self, count: int) -> None:
        if count <= 0:
            return
        gone, self._lines = self._lines[:count], self._lines[count:]
        self._known.difference_update(gone)
        rows = sum(map(self.filter.lets, gone))
        if rows:
            self.beginRemoveRows(_NOTHING, 0, rows - 1)
            del self._shown[:rows]
            self.endRemoveRows()
            self.evicted.emit(rows)

    def _rebuild(self, lines: list[LogRecorded]) -> None:
        self.beginResetModel()
        self._lines = lines
        self._known = set(lines)
        self._shown = [line for line in lines if self.filter.lets(line)]
        self.endResetModel()

    def _note_sources(self, lines: Iterable[LogRecorded]) -> None:
        fresh = {line.source for line in lines}.difference(self.sources)
        for source in fresh:
            insort(self.sources, source)
        if fresh:
            self.sources_changed.emit()

    # ---- Qt's calls -------------------------------------------------------------------------------------------------

    def rowCount(self, parent: Index = _NOTHING) -> int:  # noqa: N802 - Qt's name
        """Count the lines shown."""
        return 0 if parent.isValid() else len(self._shown)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Give a line to the delegate, to tooltips and to screen readers."""
        if not index.isValid() or index.row() >= len(self._shown):
            return None
        line = self._shown[index.row()]
        if role == LINE_ROLE:
            return line
        if role == Qt.ItemDataRole.DisplayRole:
            return line.text
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return f"{line.level} {line.source}: {line.text}"
        if role == Qt.ItemDataRole.ToolTipRole:
            return utc(line.time_ns)
        return None


def as_text(lines: Iterable[LogRecorded]) -> str:
    """Write lines as they are copied and saved: time in UTC first; line breaks within one are indented."""
    return "".join(
        f"{utc(line.time_ns)}  {line.level:<8} {line.source}: " + line.text.replace("\n", "\n    ") + "\n"
        for line in lines
    )


def _time_ns(line: LogRecorded) -> int:
    return line.time_ns
