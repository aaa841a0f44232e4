"""A table's rows: records by key, sorted and filtered here, with changes applied ten times a second at most."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from PySide6.QtCore import (
    QAbstractItemModel,
    QAbstractTableModel,
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    Qt,
    QTimer,
    Signal,
)
from PySide6.QtGui import QColor, QIcon

from koc_qt.ui.icons import icon
from koc_qt.ui.tables.column import Column
from koc_qt.ui.theme import Theme

R = TypeVar("R")
Index = QModelIndex | QPersistentModelIndex
RECORD_ROLE = int(Qt.ItemDataRole.UserRole)
PILL_ROLE = RECORD_ROLE + 1
BAR_ROLE = RECORD_ROLE + 2
BATCH_MS = 100
_RANGES = 32  # removed one by one; with more, what goes is gathered at the end first
_NO_PARENT = QModelIndex()
_ALIGNED = {
    False: Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter,
    True: Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter,
}


class RecordModel(QAbstractTableModel, Generic[R]):
    """Records by key, oldest first, of which those that pass the filter are shown, in the order of a column.

    `put` and `remove` only note what changed; it is applied together, at most once in `batch_ms`, and not at all while
    the model is inactive (its table hidden). `limit` records are kept, the oldest make way. `search` gives the text
    that the filter looks at, all cells by default. `applying` and `applied` frame a change of rows.
    """

    applying = Signal()
    applied = Signal()
    counted = Signal(int)  # how many records there are, shown or not, when that changed; also while inactive

    def __init__(
        self,
        columns: Sequence[Column[R]],
        theme: Theme,
        parent: QObject | None = None,
        *,
        limit: int = 10_000,
        search: Callable[[R], str] | None = None,
        batch_ms: int = BATCH_MS,
    ) -> None:
        super().__init__(parent)
        self.columns = tuple(columns)
        self._places = {column.name: place for place, column in enumerate(self.columns)}
        self._theme = theme
        self._limit = limit
        self._search = search
        self._records: dict[Hashable, R] = {}
        self._rows: list[Hashable] = []
        self._row_of: dict[Hashable, int] = {}
        self._dirty: set[Hashable] = set()
        self._texts: dict[Hashable, list[str | None]] = {}
        self._sort_keys: dict[Hashable, Any] = {}
        self._sort_place = -1
        self._descending = False
        self._words: list[str] = []
        self._accept: Callable[[R], bool] | None = None
        self._whole = False  # whether order and filter are to be reckoned anew for all
        self._is_active = True
        self._icons: dict[str, QIcon] = {}
        self._counted = 0
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(batch_ms)
        self._timer.timeout.connect(self.flush)
        theme.changed.connect(self._repaint)

    # ---- records ----------------------------------------------------------------------------------------------------

    def reset(self, records: Mapping[Any, R] | Iterable[tuple[Any, R]]) -> None:
        """Have these records and no others; rows whose key stays keep their selection. Shown at once."""
        new: dict[Hashable, R] = dict(records)
        for key in list(new)[: max(0, len(new) - self._limit)]:
            del new[key]
        self._dirty.update(self._records.keys() | new.keys())
        self._records = new
        self._texts.clear()
        self._sort_keys.clear()
        self._whole = True
        self.flush()
        self._count()

    def put(self, key: Hashable, record: R) -> None:
        """Add a record, or change it."""
        self._records[key] = record
        self._dirty.add(key)
        if len(self._records) > self._limit:
            oldest = next(iter(self._records))
            del self._records[oldest]
            self._dirty.add(oldest)
        self._plan()

    def remove(self, key: Hashable) -> None:
        """Take a record away; no matter when there is none."""
        if self._records.pop(key, None) is not None:
            self._dirty.add(key)
            self._plan()

    def touch(self) -> None:
        """Have every cell reckoned anew, as ages need it from time to time."""
        self._dirty.update(self._records)
        self._plan()

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, key: object) -> bool:
        return key in self._records

    @property
    def records(self) -> Mapping[Any, R]:
        """All records, shown or not, with what is not applied yet."""
        return self._records

    @property
    def shown(self) -> list[R]:
        """The records as they are shown, from the top."""
        return [self._records[key] for key in self._rows if key in self._records]

    def record(self, index: Index) -> R | None:
        """Give the record of a row; None where it has just been removed, or there is no such row."""
        return self._records.get(self._rows[index.row()]) if index.isValid() else None

    def key_of(self, index: Index) -> Any:
        """Give the key of a row; None for an invalid index."""
        return self._rows[index.row()] if index.isValid() else None

    def row_of(self, key: Hashable) -> int | None:
        """Give the row of a record; None while it is not shown."""
        return self._row_of.get(key)

    def place_of(self, column: str) -> int:
        """Give the number of a column. Raises KeyError."""
        return self._places[column]

    # ---- what is shown, and in which order -----------------------------------------------------------------------------

    def filter(self, text: str, accept: Callable[[R], bool] | None = None) -> None:
        """Show only records with every word of the text somewhere in them, in any case, and which `accept` takes."""
        words = text.casefold().split()
        if words != self._words or accept is not self._accept:
            self._words, self._accept = words, accept
            self._whole = True
            if self._is_active:
                self.flush()

    @property
    def is_filtered(self) -> bool:
        """Whether a filter is set."""
        return bool(self._words) or self._accept is not None

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Order the rows by a column; -1 leaves them as they came. Equal ones stay as they came."""
        descending = order == Qt.SortOrder.DescendingOrder
        if (column, descending) != (self._sort_place, self._descending):
            self._sort_place, self._descending = column, descending
            self._sort_keys.clear()
            self._whole = True
            if self._is_active:
                self.flush()

    def set_active(self, is_active: bool) -> None:
        """Apply changes from now on, what waited at once; or only note them."""
        self._is_active = is_active
        if is_active:
            self.flush()
        else:
            self._timer.stop()

    # ---- applying -----------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Apply what waits, now; nothing while inactive."""
        self._timer.stop()
        if not self._is_active or not (self._dirty or self._whole):
            return
        dirty, self._dirty = self._dirty, set()
        moved = self._whole
        self._whole = False
        for key in dirty:
            self._texts.pop(key, None)
            before = self._sort_keys.pop(key, None)
            is_shown = self._passes(key)
            if is_shown != (key in self._row_of) or (is_shown and self._sort_key(key) != before):
                moved = True
        if moved:
            self._arrange()
        rows = [row for key in dirty if (row := self._row_of.get(key)) is not None]
        if rows:
            self.dataChanged.emit(self.index(min(rows), 0), self.index(max(rows), len(self.columns) - 1))

    def _plan(self) -> None:
        self._count()
        if self._is_active and not self._timer.isActive():
            self._timer.start()

    def _count(self) -> None:
        if len(self._records) != self._counted:
            self._counted = len(self._records)
            self.counted.emit(self._counted)

    def _passes(self, key: Hashable) -> bool:
        record = self._records.get(key)
        if record is None or (self._accept is not None and not self._accept(record)):
            return False
        if not self._words:
            return True
        if self._search is not None:
            text = self._search(record).casefold()
        else:
            text = "\n".join(self._text(key, place) for place in range(len(self.columns))).casefold()
        return all(word in text for word in self._words)

    def _sort_key(self, key: Hashable) -> Any:
        if self._sort_place < 0:
            return None
        if key not in self._sort_keys:
            self._sort_keys[key] = self.columns[self._sort_place].sort_key(self._records[key])
        return self._sort_keys[key]

    def _ordered(self) -> list[Hashable]:
        shown = [key for key in self._records if self._passes(key)] if self.is_filtered else list(self._records)
        if self._sort_place < 0:
            return shown
        known = [key for key in shown if self._sort_key(key) is not None]
        known.sort(key=self._sort_keys.__getitem__, reverse=self._descending)
        return known + [key for key in shown if self._sort_keys[key] is None]

    def _arrange(self) -> None:
        """Bring the rows to their new order, so that views keep selection and current row."""
        target = self._ordered()
        if target == self._rows:
            return
        self.applying.emit()
        wanted = set(target)
        gone = [row for row, key in enumerate(self._rows) if key not in wanted]
        ranges = _ranges(gone)
        if len(ranges) > _RANGES:
            kept = [key for key in self._rows if key in wanted]
            self._permute(kept + [self._rows[row] for row in gone])
            ranges = [(len(kept), len(self._rows) - 1)]
        for first, last in reversed(ranges):
            self.beginRemoveRows(_NO_PARENT, first, last)
            self._set_rows(self._rows[:first] + self._rows[last + 1 :])
            self.endRemoveRows()
        new = [key for key in target if key not in self._row_of]
        if new:
            self.beginInsertRows(_NO_PARENT, len(self._rows), len(self._rows) + len(new) - 1)
            self._set_rows(self._rows + new)
            self.endInsertRows()
        self._permute(target)
        self.applied.emit()

    def _permute(self, target: list[Hashable]) -> None:
        if target == self._rows:
            return
        hint = QAbstractItemModel.LayoutChangeHint.VerticalSortHint
        self.layoutAboutToBeChanged.emit([], hint)
        before = self.persistentIndexList()
        keys = [self._rows[index.row()] for index in before]
        self._set_rows(target)
        after = [self.index(self._row_of[key], index.column()) for key, index in zip(keys, before, strict=True)]
        self.changePersistentIndexList(before, after)
        self.layoutChanged.emit([], hint)

    def _set_rows(self, rows: list[Hashable]) -> None:
        self._rows = rows
        self._row_of = {key: row for row, key in enumerate(rows)}

    def _repaint(self) -> None:
        if self._rows:
            self.dataChanged.emit(self.index(0, 0), self.index(len(self._rows) - 1, len(self.columns) - 1))

    # ---- what views ask -----------------------------------------------------------------------------------------------

    def rowCount(self, parent: Index = _NO_PARENT) -> int:  # noqa: N802 - Qt's name
        """Give the number of rows shown."""
        return 0 if parent.isValid() else len(self._rows)

    def columnCount(self, parent: Index = _NO_PARENT) -> int:  # noqa: N802 - Qt's name
        """Give the number of columns, hidden ones included."""
        return 0 if parent.isValid() else len(self.columns)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:  # noqa: N802 - Qt's name
        """Give a column's title, alignment and tip."""
        if orientation is not Qt.Orientation.Horizontal or not 0 <= section < len(self.columns):
            return None
        column = self.columns[section]
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return column.title
            case Qt.ItemDataRole.TextAlignmentRole:
                return _ALIGNED[column.align_right]
            case Qt.ItemDataRole.ToolTipRole:
                return column.title_tip or None
            case _:
                return None

    def data(self, index: Index, role: int = 0) -> Any:
        """Give what a cell shows."""
        key, place = self._rows[index.row()], index.column()
        record = self._records.get(key)
        if record is None:  # removed, and not applied yet
            return None
        column = self.columns[place]
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return self._text(key, place)
            case Qt.ItemDataRole.TextAlignmentRole:
                return _ALIGNED[column.align_right]
            case Qt.ItemDataRole.ForegroundRole:
                tone = column.tone(record) if column.tone is not None else None
                return QColor(getattr(self._theme.colors, tone)) if tone else None
            case Qt.ItemDataRole.ToolTipRole:
                return column.tip(record) or None if column.tip is not None else None
            case Qt.ItemDataRole.DecorationRole:
                name = column.icon(record) if column.icon is not None else None
                return self._icon(name) if name else None
            case _:
                return self._own_data(column, record, role)

    def _own_data(self, column: Column[R], record: R, role: int) -> Any:
        if role == RECORD_ROLE:
            return record
        if role == PILL_ROLE and column.pill is not None:
            return column.pill(record)
        if role == BAR_ROLE and column.bar is not None:
            return column.bar(record)
        return None

    def _text(self, key: Hashable, place: int) -> str:
        texts = self._texts.get(key)
        if texts is None:
            texts = self._texts[key] = [None] * len(self.columns)
        text = texts[place]
        if text is None:
            text = texts[place] = self.columns[place].text(self._records[key])
        return text

    def _icon(self, name: str) -> QIcon:
        if name not in self._icons:
            self._icons[name] = icon(name, self._theme)
        return self._icons[name]


def _ranges(rows: list[int]) -> list[tuple[int, int]]:
    """Join ascending numbers to ranges, both ends included."""
    ranges: list[tuple[int, int]] = []
    for row in rows:
        if ranges and ranges[-1][1] == row - 1:
            ranges[-1] = ranges[-1][0], row
        else:
            ranges.append((row, row))
    return ranges
