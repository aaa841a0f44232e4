"""Records by key, in the order that the person chose. What changes between two looks at the screen is shown at once."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Container, Hashable, Iterable, Iterator, Sequence, Set
from itertools import count, islice
from typing import Any, Final, Generic, TypeVar

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt, QTimer, Signal
from PySide6.QtGui import QColor

from koc_qt.ui.icons import icon
from koc_qt.ui.slices import Slices, let_go
from koc_qt.ui.tables.columns import Column
from koc_qt.ui.theme import Theme, number_font

R = TypeVar("R")
Key = Hashable
Index = QModelIndex | QPersistentModelIndex
# A row that is shown: its sort key of two parts, its number by arrival, and then, which no comparison ever reaches as
# numbers differ, key and record. Rows are kept in this order and looked up by it.
Row = tuple[bool, Any, int, Key, R]
_KEY: Final = 3
_RECORD: Final = 4

PERIOD_MS = 90  # about 11 times a second
_MANY = 100  # changed rows, above which all are laid out anew: what Qt does for a single one is slow
_MOVING = 8  # the same for rows that come, go or move, which is slower still
_SLICE = 250  # records
_AT_ONCE = 400  # records that are laid out at once, not in slices
_MOST_TEXTS = 2_000  # rows whose texts are kept; those in sight are quickly written again
_WRITTEN_AT_ONCE = 10  # rows
_SCANNED = 16  # rows are looked through in the time that it takes to look one up
_NONE = QModelIndex()
# as numbers, as which Qt brings them: comparing enums takes ten times as long
_DISPLAY, _ALIGNMENT, _FOREGROUND, _TOOL_TIP, _DECORATION, _FONT = (
    int(role)
    for role in (
        Qt.ItemDataRole.DisplayRole,
        Qt.ItemDataRole.TextAlignmentRole,
        Qt.ItemDataRole.ForegroundRole,
        Qt.ItemDataRole.ToolTipRole,
        Qt.ItemDataRole.DecorationRole,
        Qt.ItemDataRole.FontRole,
    )
)


class RecordModel(QAbstractTableModel, Generic[R]):
    """Shows records; `put`, `remove` and `reset` may be called as often as anything happens.

    At most `limit` records are kept: the oldest by first `put` make way. Changes are applied in a batch, some ten
    times a second, and not at all while `pause(True)`; rows keep their place while their sort key stays, and equals are
    in order of arrival. More than some thousand rows are laid out in slices (`is_busy`); until that is done the rows
    are shown as they were. `laying_out` and `laid_out` come before and after all rows change their places at once.
    """

    laying_out = Signal()
    laid_out = Signal()

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
        self._arrivals = count()
        self._records: dict[Key, tuple[int, R]] = {}  # as they are, with their numbers
        self._rows: list[Row[R]] = []  # as they are shown, but ascending
        self._shown: dict[Key, Row[R]] = {}  # the same
        self._reversed = descending  # whether they are shown from the end
        self._texts: dict[Key, tuple[R, tuple[str, ...]]] = {}  # of what was painted, with the record they are of
        self._dirty: dict[Key, None] = {}
        self._rebuild = False
        self._paused = False
        self._planned = False
        self.in_sight = 0  # rows that fit into the view
        names = [column.name for column in self.columns]
        self._sort = names.index(sort_by) if sort_by else -1
        self._descending = descending
        self._filter: Callable[[R], bool] | None = None
        self._numbers = number_font()
        sides = Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignRight
        self._sides = [sides[column.right] | Qt.AlignmentFlag.AlignVCenter for column in self.columns]
        self._slices = Slices(self)
        self._gone: list[Any] = []  # what nobody needs any more
        self._letting_go = Slices(self)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(PERIOD_MS)
        self._timer.timeout.connect(self.flush)
        theme.changed.connect(self._theme_changed)

    # ---- for whoever has the records --------------------------------------------------------------------------------

    def reset(self, records: Iterable[tuple[Key, R]]) -> None:
        """Show these records alone; shown at once, or in a moment where they are many."""
        self._let_go(self._records.values())
        self._records = {key: (number, record) for number, (key, record) in zip(self._arrivals, records, strict=False)}
        excess = len(self._records) - self._limit
        for key in list(islice(self._records, max(0, excess))):
            del self._records[key]
        self._texts.clear()
        self._lay_out_anew()

    def put(self, key: Key, record: R) -> None:
        """Add or change a record."""
        known = self._records.get(key)
        self._records[key] = (next(self._arrivals) if known is None else known[0], record)
        self._mark(key)
        if len(self._records) > self._limit:
            oldest = next(iter(self._records))
            del self._records[oldest]
            self._mark(oldest)

    def remove(self, key: Key) -> None:
        """Take a record away; nothing happens where there is none."""
        if self._records.pop(key, None) is not None:
            self._mark(key)

    def retain(self, keys: Container[Key]) -> None:
        """Take away whatever is not among these."""
        for key in [key for key in self._records if key not in keys]:
            self.remove(key)

    def refresh(self) -> None:
        """Read every cell anew, such as ages that grow by themselves."""
        self._dirty.update(dict.fromkeys(self._records))
        self._plan()

    def set_filter(self, accept: Callable[[R], bool] | None) -> None:
        """Show those records alone that this accepts; at once, or in a moment where there are many."""
        self._filter = accept
        self._lay_out_anew()

    def pause(self, paused: bool) -> None:
        """Show nothing new for as long, such as while nobody sees the table."""
        self._paused = paused
        if paused:
            self._timer.stop()
            self._planned = False
            self._slices.cancel()
        elif self._dirty or self._rebuild:
            self.flush()

    def record_at(self, row: int) -> R | None:
        """Give the record of a row as it is shown."""
        return self._row(row)[_RECORD] if 0 <= row < len(self._rows) else None

    def key_at(self, row: int) -> Key | None:
        """Give the key of a row."""
        return self._row(row)[_KEY] if 0 <= row < len(self._rows) else None

    def row_of(self, key: Key) -> int | None:
        """Give the row of a key; None where it is not shown."""
        shown = self._shown.get(key)
        return None if shown is None else self._turned(self._at(shown))

    def keys_between(self, first: int, stop: int) -> list[Key]:
        """Give the keys of some rows that follow each other."""
        rows = self._rows[::-1][first:stop] if self._reversed else self._rows[first:stop]
        return [row[_KEY] for row in rows]

    def rows_of(self, keys: Set[Key]) -> list[int]:
        """Give the rows of those keys that are shown, in their order."""
        if len(keys) < len(self._rows) // _SCANNED:
            return sorted(row for key in keys if (row := self.row_of(key)) is not None)
        return [row for row, key in enumerate(self.keys_between(0, len(self._rows))) if key in keys]

    @property
    def records(self) -> list[R]:
        """The records that are shown, in their order."""
        return [row[_RECORD] for row in (reversed(self._rows) if self._reversed else self._rows)]

    @property
    def total(self) -> int:
        """How many records there are, those that the filter hides among them."""
        return len(self._records)

    @property
    def is_busy(self) -> bool:
        """Whether rows are being laid out, and what is shown is what was."""
        return self._slices.is_busy

    # ---- bringing the rows up to date -------------------------------------------------------------------------------

    def _mark(self, key: Key) -> None:
        self._dirty[key] = None
        if not self._planned:
            self._plan()

    def _plan(self) -> None:
        if not self._planned and not self._paused:
            self._planned = True
            self._timer.start()

    def _lay_out_anew(self) -> None:
        self._rebuild = True
        if not self._paused:
            self._slices.cancel()  # it went by what is no longer so
            self.flush()

    def flush(self) -> None:
        """Show every change now; where they are thousands, in a moment."""
        self._timer.stop()
        self._planned = False
        if self._slices.is_busy:
            return  # what changed since it began follows when it has ended
        if self._rebuild:
            is_as_it_came = self._sort < 0 and self._filter is None  # which takes no time to speak of
            self._slices.start(self._place([], self._records), at_once=is_as_it_came or len(self._records) <= _AT_ONCE)
        elif len(self._dirty) > _MANY or not self._apply_changes():
            changed, here = self._dirty.copy(), len(self._rows)
            kept = [row for row in self._rows if row[_KEY] not in changed]
            self._slices.start(self._place(kept, changed), at_once=here + len(changed) <= _AT_ONCE)

    def _made(self, key: Key) -> Row[R] | None:
        """Give the row of a record as it is; None where there is none, or the filter hides it."""
        known = self._records.get(key)
        if known is None or not (self._filter is None or self._filter(known[1])):
            return None
        number, record = known
        has_value, value = self.columns[self._sort].sort_key(record) if self._sort >= 0 else (False, None)
        return has_value, value, number, key, record

    def _apply_changes(self) -> bool:
        """Show the changes one by one, unless too many rows change their places: then nothing is done."""
        changes = [(key, self._shown.get(key), self._made(key)) for key in self._dirty]
        if sum(_moves(before, after) for _, before, after in changes) > _MOVING:
            return False
        self._dirty.clear()
        changed: list[Key] = []
        for key, before, after in changes:
            if before is None:
                self._texts.pop(key, None)
                if after is not None:
                    self._insert(after)
            elif after is None:
                self._delete(before)
            else:
                self._replace(before, after)
                if self._looks_other(before[_RECORD], after[_RECORD], key):
                    changed.append(key)
        for key in changed:
            row = self.row_of(key)
            if row is not None:
                self.dataChanged.emit(self.index(row, 0), self.index(row, len(self.columns) - 1))
        return True

    def _looks_other(self, before: R, after: R, key: Key) -> bool:
        """Whether a row must be painted anew; where its texts are not known, nobody can tell."""
        known = self._texts.get(key)
        if known is None:
            return True
        texts = self._texts_of(after)
        self._texts[key] = after, texts
        return texts != known[1] or self._looks_of(before) != self._looks_of(after)

    def _looks_of(self, record: R) -> list[str | None]:
        """Give what a row wears besides its texts."""
        return [look(record) for column in self.columns for look in (column.tone, column.pill, column.icon) if look]

    def _texts_of(self, record: R) -> tuple[str, ...]:
        return tuple(column.text(record) for column in self.columns)

    def _insert(self, row: Row[R]) -> None:
        at = self._at(row)
        place = len(self._rows) - at if self._reversed else at
        self.beginInsertRows(_NONE, place, place)
        self._rows.insert(at, row)
        self._shown[row[_KEY]] = row
        self.endInsertRows()

    def _delete(self, row: Row[R]) -> None:
        at = self._at(row)
        place = self._turned(at)
        self.beginRemoveRows(_NONE, place, place)
        del self._rows[at]
        del self._shown[row[_KEY]]
        self._texts.pop(row[_KEY], None)
        self.endRemoveRows()

    def _replace(self, before: Row[R], after: Row[R]) -> None:
        """Put a row where its new sort key belongs; whoever selected it has it selected still."""
        at = self._at(before)
        to = self._at(after)
        to -= to > at  # as counted without it
        if to == at:
            self._rows[at] = self._shown[after[_KEY]] = after
            return
        source, place = self._turned(at), self._turned(to)
        target = place if place < source else place + 1  # as Qt counts: with the row still where it was
        self.beginMoveRows(_NONE, source, source, _NONE, target)
        del self._rows[at]
        self._rows.insert(to, after)
        self._shown[after[_KEY]] = after
        self.endMoveRows()

    # ---- all rows at once -------------------------------------------------------------------------------------------

    def _place(self, kept: list[Row[R]], keys: Iterable[Key]) -> Iterator[None]:
        """Put the records of these keys among rows that stay, and show them: in slices, of which the last shows."""
        runs, rest, descending = [], iter(list(keys)), self._descending
        while some := list(islice(rest, _SLICE)):
            run = [row for key in some if (row := self._made(key)) is not None]
            run.sort()
            runs.append(run)
            yield
        runs.append(kept)
        while len(runs) > 1:
            merged = []
            for left, right in zip(runs[::2], [*runs[1::2], []], strict=False):
                left += right
                left.sort()  # which is quick with two lists that are sorted
                merged.append(left)
                yield
            runs = merged
        shown = {row[_KEY]: row for row in runs[0]}
        yield
        yield from self._write(runs[0][: -self.in_sight - 1 : -1] if descending else runs[0][: self.in_sight])
        former = self._rows
        self._show(runs[0], shown, descending)
        self._let_go(former)

    def _write(self, rows: list[Row[R]]) -> Iterator[None]:
        """Write what will be painted first: in the same turn as its painting it would take twice as long."""
        for number, (*_, key, record) in enumerate(rows, 1):
            known = self._texts.get(key)
            if known is None or known[0] is not record:
                self._texts[key] = record, self._texts_of(record)
            if number % _WRITTEN_AT_ONCE == 0:
                yield

    def _let_go(self, things: Collection[Any]) -> None:
        """End what is not needed any more without keeping anybody waiting."""
        self._gone.extend(things)
        if not self._letting_go.is_busy:
            self._letting_go.start(let_go(self._gone), at_once=len(self._gone) <= _AT_ONCE)

    def _show(self, rows: list[Row[R]], shown: dict[Key, Row[R]], descending: bool) -> None:
        """Show these rows in one change of layout; whoever holds an index keeps its record."""
        self.laying_out.emit()
        self.layoutAboutToBeChanged.emit()
        before = self.persistentIndexList()
        keys = [self.key_at(index.row()) for index in before]
        self._rows, self._shown, self._reversed = rows, shown, descending
        if len(self._texts) > _MOST_TEXTS:
            self._texts.clear()
        for key in self._texts.keys() & self._dirty.keys():
            del self._texts[key]
        after = [
            _NONE if (row := self.row_of(key)) is None else self.index(row, index.column())
            for key, index in zip(keys, before, strict=True)
        ]
        self.changePersistentIndexList(before, after)
        self._rebuild = False
        self._dirty = {key: None for key in self._dirty if not self._is_shown(key)}
        self.layoutChanged.emit()
        self.laid_out.emit()
        if self._dirty:
            self._plan()

    def _is_shown(self, key: Key) -> bool:
        """Whether a record is shown, or hidden, as it is now: it may have changed since it was put in its place."""
        known, shown = self._records.get(key), self._shown.get(key)
        if known is None or shown is None:
            return known is None and shown is None
        return known[1] is shown[_RECORD]

    def _row(self, row: int) -> Row[R]:
        return self._rows[-1 - row if self._reversed else row]

    def _at(self, row: Row[R]) -> int:
        """Give where a row is, or would be, among those that are kept."""
        return bisect_left(self._rows, row[:_KEY])

    def _turned(self, at: int) -> int:
        """Give the row that is shown of one that is kept, or the other way round."""
        return len(self._rows) - 1 - at if self._reversed else at

    # ---- what Qt asks -----------------------------------------------------------------------------------------------

    def rowCount(self, parent: Index = _NONE) -> int:  # noqa: N802 - Qt's name
        """Give the number of rows."""
        return 0 if parent.isValid() else len(self._rows)

    def columnCount(self, parent: Index = _NONE) -> int:  # noqa: N802 - Qt's name
        """Give the number of columns."""
        return 0 if parent.isValid() else len(self.columns)

    def data(self, index: Index, role: int = _DISPLAY) -> Any:
        """Give what a cell shows."""
        at = index.row()
        if not 0 <= at < len(self._rows):
            return None
        place = index.column()
        if role == _ALIGNMENT:
            return self._sides[place]
        column = self.columns[place]
        if role == _FONT:
            return self._numbers if column.right else None
        *_, key, record = self._row(at)
        if role == _DISPLAY:
            known = self._texts.get(key)
            if known is None or known[0] is not record:
                known = self._texts[key] = record, self._texts_of(record)
            return known[1][place]
        if role == _FOREGROUND:
            tone = column.tone(record) if column.tone is not None else None
            return QColor(getattr(self._theme.colors, tone)) if tone else None
        if role == _DECORATION:
            name = column.icon(record) if column.icon is not None else None
            return icon(name, self._theme) if name else None
        if role == _TOOL_TIP:
            return column.tip(record) if column.tip is not None else column.text(record)
        return None

    def headerData(  # noqa: N802 - Qt's name
        self, section: int, orientation: Qt.Orientation, role: int = _DISPLAY
    ) -> Any:
        """Give a column's title."""
        if orientation is not Qt.Orientation.Horizontal or not 0 <= section < len(self.columns):
            return None
        column = self.columns[section]
        if role == _DISPLAY:
            return column.title
        if role == _TOOL_TIP:
            return column.title_tip or column.title
        return self._sides[section] if role == _ALIGNMENT else None

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column from now on; -1 is the order of arrival."""
        descending = order is Qt.SortOrder.DescendingOrder
        is_turned = column == self._sort and not self._rebuild and not self.is_busy
        self._sort, self._descending = column, descending
        if is_turned:
            self._show(self._rows, self._shown, descending)
        else:
            self._lay_out_anew()

    @property
    def sorted_by(self) -> tuple[int, Qt.SortOrder]:
        """The column that rows are sorted by, -1 for none, and which way."""
        order = Qt.SortOrder.DescendingOrder if self._descending else Qt.SortOrder.AscendingOrder
        return self._sort, order

    def _theme_changed(self) -> None:
        if self._rows:
            self.dataChanged.emit(self.index(0, 0), self.index(len(self._rows) - 1, len(self.columns) - 1))


def _moves(before: Row[Any] | None, after: Row[Any] | None) -> bool:
    """Whether a row comes, goes or may change its place."""
    if before is None or after is None:
        return before is not after
    return before[:_KEY] != after[:_KEY]
