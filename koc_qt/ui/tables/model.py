"""Records by key, in the order that the person chose. What changes between two looks at the screen is shown at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt, QTimer
from PySide6.QtGui import QColor

from koc_qt.ui.icons import icon
from koc_qt.ui.tables.columns import Column
from koc_qt.ui.theme import Theme, number_font

R = TypeVar("R")
Key = Hashable
Index = QModelIndex | QPersistentModelIndex

PERIOD_MS = 90  # about 11 times a second
_MANY = 200  # changed rows, above which everything is built anew in one go
PILL_ROLE = Qt.ItemDataRole.UserRole + 1
_NONE = QModelIndex()


class RecordModel(QAbstractTableModel, Generic[R]):
    """Shows records; `put`, `remove` and `reset` may be called as often as anything happens.

    At most `limit` records are kept: the oldest by first `put` make way. Changes are applied in a batch, some ten
    times a second, and not at all while `pause(True)`; rows keep their place while their sort key stays.
    """

    def __init__(
        self,
        columns: Sequence[Column[R]],
        theme: Theme,
        parent: QObject | None = None,
        *,
        sort_by: str = "",
        descending: bool = False,
        limit: int = 10_000,
    ) -> None:
        super().__init__(parent)
        self.columns = tuple(columns)
        self._theme = theme
        self._limit = limit
        self._records: dict[Key, R] = {}  # as they are
        self._rows: list[Key] = []  # as they are shown
        self._shown: dict[Key, R] = {}
        self._texts: dict[Key, tuple[str, ...]] = {}
        self._dirty: dict[Key, None] = {}
        self._rebuild = False
        self._paused = False
        names = [column.name for column in self.columns]
        self._sort = names.index(sort_by) if sort_by else -1
        self._descending = descending
        self._filter: Callable[[R], bool] | None = None
        self._numbers = number_font()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(PERIOD_MS)
        self._timer.timeout.connect(self.flush)
        theme.changed.connect(self._theme_changed)

    # ---- for whoever has the records --------------------------------------------------------------------------------

    def reset(self, records: Iterable[tuple[Key, R]]) -> None:
        """Show these records alone; shown at once."""
        self._records = dict(records)
        while len(self._records) > self._limit:
            del self._records[next(iter(self._records))]
        self._texts.clear()  # of records that may be others now
        self._rebuild = True
        if not self._paused:
            self.flush()

    def put(self, key: Key, record: R) -> None:
        """Add or change a record."""
        self._records[key] = record
        self._mark(key)
        if len(self._records) > self._limit:
            oldest = next(iter(self._records))
            del self._records[oldest]
            self._mark(oldest)

    def remove(self, key: Key) -> None:
        """Take a record away; nothing happens where there is none."""
        if self._records.pop(key, None) is not None:
            self._mark(key)

    def refresh(self) -> None:
        """Read every cell anew, such as ages that grow by themselves."""
        self._dirty.update(dict.fromkeys(self._records))
        self._plan()

    def set_filter(self, accept: Callable[[R], bool] | None) -> None:
        """Show those records alone that this accepts."""
        self._filter = accept
        self._rebuild = True
        if not self._paused:
            self.flush()

    def pause(self, paused: bool) -> None:
        """Show nothing new for as long, such as while nobody sees the table."""
        self._paused = paused
        if not paused and (self._dirty or self._rebuild):
            self.flush()

    def record_at(self, row: int) -> R | None:
        """Give the record of a row as it is shown."""
        return self._shown.get(self._rows[row]) if 0 <= row < len(self._rows) else None

    def key_at(self, row: int) -> Key | None:
        """Give the key of a row."""
        return self._rows[row] if 0 <= row < len(self._rows) else None

    def row_of(self, key: Key) -> int | None:
        """Give the row of a key; None where it is not shown."""
        try:
            return self._rows.index(key)
        except ValueError:
            return None

    @property
    def records(self) -> list[R]:
        """The records that are shown, in their order."""
        return [self._shown[key] for key in self._rows]

    @property
    def total(self) -> int:
        """How many records there are, those that the filter hides among them."""
        return len(self._records)

    # ---- bringing the rows up to date -------------------------------------------------------------------------------

    def _mark(self, key: Key) -> None:
        self._dirty[key] = None
        self._plan()

    def _plan(self) -> None:
        if not self._timer.isActive() and not self._paused:
            self._timer.start()

    def flush(self) -> None:
        """Show every change now."""
        self._timer.stop()
        if self._rebuild or len(self._dirty) > max(_MANY, len(self._rows) // 2):
            self._build_anew()
        else:
            self._apply_changes()
        self._dirty.clear()
        self._rebuild = False

    def _apply_changes(self) -> None:
        changed: list[Key] = []
        for key in self._dirty:
            record = self._records.get(key)
            known = key in self._shown
            if record is None or not (self._filter is None or self._filter(record)):
                if known:
                    self._delete(self._rows.index(key))
            elif not known:
                self._insert(key, record)
            else:
                before, self._shown[key] = self._shown[key], record
                if self._sort_key(record) != self._sort_key(before):
                    self._move(key, record)
                texts = self._texts_of(record)
                if texts != self._texts.get(key) or self._looks_of(record) != self._looks_of(before):
                    self._texts[key] = texts
                    changed.append(key)
        for key in changed:
            row = self._rows.index(key)
            self.dataChanged.emit(self.index(row, 0), self.index(row, len(self.columns) - 1))

    def _looks_of(self, record: R) -> list[str | None]:
        """Give what a row wears besides its texts."""
        return [look(record) for column in self.columns for look in (column.tone, column.pill, column.icon) if look]

    def _move(self, key: Key, record: R) -> None:
        """Put a row where its new sort key belongs; whoever selected it has it selected still."""
        row = self._rows.index(key)
        del self._rows[row]
        place = self._place(record)
        self._rows.insert(row, key)
        if place == row:
            return
        target = place if place < row else place + 1  # as Qt counts: with the row still where it was
        self.beginMoveRows(_NONE, row, row, _NONE, target)
        del self._rows[row]
        self._rows.insert(place, key)
        self.endMoveRows()

    def _build_anew(self) -> None:
        """Lay all rows out in one change of layout; whoever holds an index keeps its record."""
        self.layoutAboutToBeChanged.emit()
        before = self.persistentIndexList()
        keys = [self._rows[index.row()] for index in before]
        records = self._records
        self._rows = [key for key, record in records.items() if self._filter is None or self._filter(record)]
        if self._descending:
            self._rows.reverse()  # equals: the newest first, as when they come one by one
        if self._sort >= 0:
            self._rows.sort(key=lambda key: self._sort_key(records[key]), reverse=self._descending)
        self._shown = {key: records[key] for key in self._rows}
        self._texts = {key: self._texts[key] for key in self._rows if key in self._texts and key not in self._dirty}
        places = {key: row for row, key in enumerate(self._rows)} if keys else {}
        after = [
            self.index(places[key], index.column()) if key in places else QModelIndex()
            for key, index in zip(keys, before, strict=True)
        ]
        self.changePersistentIndexList(before, after)
        self.layoutChanged.emit()

    def _sort_key(self, record: R) -> Any:
        return self.columns[self._sort].sort_key(record) if self._sort >= 0 else ()

    def _texts_of(self, record: R) -> tuple[str, ...]:
        return tuple(column.text(record) for column in self.columns)

    def _insert(self, key: Key, record: R) -> None:
        row = self._place(record)
        self.beginInsertRows(_NONE, row, row)
        self._rows.insert(row, key)
        self._shown[key] = record
        self._texts[key] = self._texts_of(record)
        self.endInsertRows()

    def _place(self, record: R) -> int:
        """Find the row of a record that has none; among equals the newest comes last, or first where reversed."""
        if self._sort < 0:
            return 0 if self._descending else len(self._rows)
        wanted = self._sort_key(record)
        if not self._descending:
            return bisect_right(self._rows, wanted, key=lambda key: self._sort_key(self._shown[key]))
        low, high = 0, len(self._rows)
        while low < high:
            middle = (low + high) // 2
            if self._sort_key(self._shown[self._rows[middle]]) > wanted:
                low = middle + 1
            else:
                high = middle
        return low

    def _delete(self, row: int) -> None:
        self.beginRemoveRows(_NONE, row, row)
        key = self._rows.pop(row)
        del self._shown[key]
        self._texts.pop(key, None)
        self.endRemoveRows()

    # ---- what Qt asks -----------------------------------------------------------------------------------------------

    def rowCount(self, parent: Index = _NONE) -> int:  # noqa: N802 - Qt's name
        """Give the number of rows."""
        return 0 if parent.isValid() else len(self._rows)

    def columnCount(self, parent: Index = _NONE) -> int:  # noqa: N802 - Qt's name
        """Give the number of columns."""
        return 0 if parent.isValid() else len(self.columns)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Give what a cell shows."""
        row = index.row()
        if not index.isValid() or row >= len(self._rows):
            return None
        key, column = self._rows[row], self.columns[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            texts = self._texts.get(key)
            if texts is None:
                texts = self._texts[key] = self._texts_of(self._shown[key])
            return texts[index.column()]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            side = Qt.AlignmentFlag.AlignRight if column.right else Qt.AlignmentFlag.AlignLeft
            return side | Qt.AlignmentFlag.AlignVCenter
        record = self._shown[key]
        if role == Qt.ItemDataRole.ForegroundRole and column.tone is not None and (tone := column.tone(record)):
            return QColor(getattr(self._theme.colors, tone))
        if role == Qt.ItemDataRole.ToolTipRole:
            return column.tip(record) if column.tip is not None else self._texts_of(record)[index.column()]
        if role == Qt.ItemDataRole.DecorationRole and column.icon is not None and (name := column.icon(record)):
            return icon(name, self._theme)
        if role == Qt.ItemDataRole.FontRole and column.right:
            return self._numbers
        if role == PILL_ROLE and column.pill is not None:
            return column.pill(record)
        return None

    def headerData(  # noqa: N802 - Qt's name
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Give a column's title."""
        if orientation is not Qt.Orientation.Horizontal or not 0 <= section < len(self.columns):
            return None
        column = self.columns[section]
        if role == Qt.ItemDataRole.DisplayRole:
            return column.title
        if role == Qt.ItemDataRole.ToolTipRole:
            return column.title_tip or column.title
        if role == Qt.ItemDataRole.TextAlignmentRole:
            side = Qt.AlignmentFlag.AlignRight if column.right else Qt.AlignmentFlag.AlignLeft
            return side | Qt.AlignmentFlag.AlignVCenter
        return None

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column from now on; -1 is the order of arrival."""
        self._sort, self._descending = column, order is Qt.SortOrder.DescendingOrder
        self._rebuild = True
        self.flush()

    @property
    def sorted_by(self) -> tuple[int, Qt.SortOrder]:
        """The column that rows are sorted by, -1 for none, and which way."""
        order = Qt.SortOrder.DescendingOrder if self._descending else Qt.SortOrder.AscendingOrder
        return self._sort, order

    def _theme_changed(self) -> None:
        if self._rows:
            self.dataChanged.emit(self.index(0, 0), self.index(len(self._rows) - 1, len(self.columns) - 1))
