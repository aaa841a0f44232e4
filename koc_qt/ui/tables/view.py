"""A table of records as people expect one: sorted by a click, copied with Ctrl+C, columns moved, resized and hidden."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from itertools import groupby
from typing import Any, Generic, TypeVar

from PySide6.QtCore import (
    QItemSelection,
    QItemSelectionModel,
    QItemSelectionRange,
    QModelIndex,
    QPersistentModelIndex,
    QPoint,
    QRect,
    QRectF,
    QSignalBlocker,
    QSize,
    Qt,
    Signal,
)
from PySide6.QtGui import (
    QAction,
    QColor,
    QFont,
    QFontMetrics,
    QGuiApplication,
    QHideEvent,
    QKeyEvent,
    QKeySequence,
    QPainter,
    QPaintEvent,
    QPalette,
    QPen,
    QPixmap,
    QResizeEvent,
    QShowEvent,
)
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QMenu,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
    QWidget,
)

from koc_qt.ui.late_paint import LatePaint
from koc_qt.ui.style_sheet import pill_colors
from koc_qt.ui.tables.model import RecordModel
from koc_qt.ui.theme import Theme, number_font

R = TypeVar("R")
ROW_PX = 24
ROWS_A_TURN = 8  # are painted; more than that would take half of what a turn may take
_PAD_PX = 3  # beside a text
_RIGHT = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextSingleLine)
_LEFT = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextSingleLine)
_NARROWEST, _WIDEST = 36, 420  # pixels of a column at first
_MOST_PILLS = 200
_FOCUS, _SELECTED = QStyle.StateFlag.State_HasFocus.value, QStyle.StateFlag.State_Selected.value  # numbers: as flags,
# to look whether one is in another takes as long as to draw a word


class CellDelegate(QStyledItemDelegate):
    """Paints cells straight from the records, and a pill behind the text of those that ask for one.

    Having the style ask for role by role and lay each cell out takes four times as long; it still paints icons and the
    cell under the cursor.
    """

    def __init__(self, theme: Theme, model: RecordModel[Any], parent: QWidget) -> None:
        super().__init__(parent)
        self._theme = theme
        self._model = model
        self._numbers = number_font(parent.font())
        self._number_metrics = QFontMetrics(self._numbers)
        self._pills: dict[tuple[str, tuple[str, str, str], int, int, float], QPixmap] = {}
        self._pill_font = QFont(parent.font())
        self._pill_font.setPixelSize(11)
        self._pill_font.setBold(True)

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        """Paint a cell."""
        record, column = self._model.record_at(index.row()), self._model.columns[index.column()]
        if record is None:
            return
        look = column.pill(record) if column.pill is not None else None
        tone = column.tone(record) if column.tone is not None else None
        color = QColor(getattr(self._theme.colors, tone)) if tone else None
        state = option.state.value
        if not look and (column.icon is not None or state & _FOCUS):
            if color is not None:  # profit is green in a selected row too
                option.palette.setColor(QPalette.ColorRole.HighlightedText, color)
            super().paint(painter, option, index)
            return
        is_selected = bool(state & _SELECTED)
        if is_selected:
            painter.fillRect(option.rect, option.palette.highlight())
        text = self._model.data(index)
        if look:
            self._paint_pill(painter, option, text, look)
        elif text:
            role = QPalette.ColorRole.HighlightedText if is_selected else QPalette.ColorRole.Text
            room = option.rect.adjusted(_PAD_PX, 0, -_PAD_PX, 0)
            metrics = self._number_metrics if column.right else option.fontMetrics
            if "\n" in text or metrics.horizontalAdvance(text) > room.width():
                text = metrics.elidedText(" ".join(text.splitlines()), Qt.TextElideMode.ElideRight, room.width())
            painter.setFont(self._numbers if column.right else option.font)
            painter.setPen(color if color is not None else option.palette.color(role))
            painter.drawText(room, _RIGHT if column.right else _LEFT, text)

    def _paint_pill(self, painter: QPainter, option: QStyleOptionViewItem, text: str, look: str) -> None:
        room = option.rect.adjusted(4, 3, -4, -3)
        if room.width() > 0 and room.height() > 0:
            dpr = painter.device().devicePixelRatio()
            colors = pill_colors(look, self._theme.colors)
            painter.drawPixmap(room.topLeft(), self._pill(text, colors, room.size(), dpr))

    def _pill(self, text: str, colors: tuple[str, str, str], room: QSize, dpr: float) -> QPixmap:
        """Give a pill with its text: drawn once, since there are few that differ and each takes as long as a row."""
        key = (text, colors, room.width(), room.height(), dpr)
        if key not in self._pills:
            if len(self._pills) >= _MOST_PILLS:
                self._pills.clear()
            self._pills[key] = _draw_pill(text, colors, room, dpr, self._pill_font)
        return self._pills[key]


def _draw_pill(text: str, colors: tuple[str, str, str], room: QSize, dpr: float, font: QFont) -> QPixmap:
    color, fill, edge = colors
    metrics = QFontMetrics(font)
    text = metrics.elidedText(text, Qt.TextElideMode.ElideRight, room.width() - 12)
    width = min(room.width(), metrics.horizontalAdvance(text) + 14)
    pixmap = QPixmap(round(width * dpr), round(room.height() * dpr))
    pixmap.setDevicePixelRatio(dpr)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setFont(font)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    box = QRectF(0.5, 0.5, width - 1, room.height() - 1)
    painter.setPen(QPen(QColor(edge), 1))
    painter.setBrush(QColor(fill))
    painter.drawRoundedRect(box, 4, 4)
    painter.setPen(QColor(color))
    painter.drawText(box, Qt.AlignmentFlag.AlignCenter, text)
    painter.end()
    return pixmap


class RecordTable(QTableView, Generic[R]):
    """Shows a RecordModel. `opened` brings the record of a double click or Enter; `picked` says the selection changed.

    Add QActions with `addAction`: they are in the context menu of the rows.
    """

    opened = Signal(object)
    picked = Signal()

    def __init__(
        self, model: RecordModel[R], theme: Theme, parent: QWidget | None = None, *, empty: str = "Nothing here"
    ) -> None:
        super().__init__(parent)
        self.records = model
        self._theme = theme
        self._empty = empty
        self._late = LatePaint(self.viewport())
        self.setModel(model)
        self.setItemDelegate(CellDelegate(theme, model, self))
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setAlternatingRowColors(True)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.customContextMenuRequested.connect(self._show_menu)
        rows = self.verticalHeader()
        rows.hide()
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        rows.setDefaultSectionSize(ROW_PX)
        header = self.horizontalHeader()
        header.setHighlightSections(False)
        header.setSectionsMovable(True)
        header.setStretchLastSection(True)
        header.setMinimumSectionSize(_NARROWEST)
        header.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        header.customContextMenuRequested.connect(self._show_columns)
        column, order = model.sorted_by
        header.setSortIndicator(column, order)
        header.setSortIndicatorClearable(True)
        header.setSortIndicatorShown(True)
        header.setSectionsClickable(True)
        header.setSelectionModel(QItemSelectionModel(model, header))  # or it looks at each row to paint itself
        header.sortIndicatorChanged.connect(model.sort)
        self.selectionModel().selectionChanged.connect(lambda *_: self.picked.emit())
        self._kept: tuple[set[Hashable], Hashable | None, int] = (set(), None, 0)
        model.laying_out.connect(self._keep_selection)
        model.laid_out.connect(self._select_again)
        self.doubleClicked.connect(self._open)
        self._copy = QAction("&Copy", self)
        self._copy.setShortcut(QKeySequence(QKeySequence.StandardKey.Copy))
        self._copy.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)
        self._copy.triggered.connect(self.copy)
        self.addAction(self._copy)
        self._size_columns()

    # ---- for whoever owns it ----------------------------------------------------------------------------------------

    def selected(self) -> list[R]:
        """Give the selected records, in their order."""
        rows = sorted(index.row() for index in self.selectionModel().selectedRows())
        return [record for row in rows if (record := self.records.record_at(row)) is not None]

    def current(self) -> R | None:
        """Give the record under the cursor; None unless it is selected: nobody acts on what nobody chose."""
        index = self.currentIndex()
        chosen = index.isValid() and self.selectionModel().isRowSelected(index.row(), QModelIndex())
        return self.records.record_at(index.row()) if chosen else None

    def set_empty_text(self, text: str) -> None:
        """Say this where there are no rows."""
        self._empty = text
        self.viewport().update()

    def copy(self) -> None:
        """Put the selected rows on the clipboard, as text that spreadsheets take."""
        header = self.horizontalHeader()
        shown = [header.logicalIndex(place) for place in range(header.count())]
        shown = [column for column in shown if not self.isColumnHidden(column)]
        rows = sorted(index.row() for index in self.selectionModel().selectedRows())
        lines = ["\t".join(self.records.columns[column].title for column in shown)]
        lines += ["\t".join(_cell(self.records.index(row, column).data()) for column in shown) for row in rows]
        if rows:
            QGuiApplication.clipboard().setText("\n".join(lines) + "\n")

    def column_state(self) -> dict[str, Any]:
        """Give widths, order, and which columns are hidden."""
        header, columns = self.horizontalHeader(), self.records.columns
        order = [columns[header.logicalIndex(place)].name for place in range(len(columns))]
        widths = {
            column.name: header.sectionSize(n) for n, column in enumerate(columns) if not header.isSectionHidden(n)
        }
        hidden = [column.name for n, column in enumerate(columns) if header.isSectionHidden(n)]
        sort, direction = self.records.sorted_by
        by = columns[sort].name if sort >= 0 else ""
        return {
            "order": order,
            "default": [column.name for column in columns],  # of this version: whether anybody has moved one
            "widths": widths,
            "hidden": hidden,
            "sort": [by, direction is Qt.SortOrder.DescendingOrder],
        }

    def restore_columns(self, state: dict[str, Any], former: Sequence[Sequence[str]] = ()) -> None:
        """Take over what `column_state` gave, as far as it can be read and these columns are still there.

        Who has moved none gets the present order: one that was saved as it was then, or is one of the `former` orders
        of versions that did not say.
        """
        header = self.horizontalHeader()
        numbers = {column.name: n for n, column in enumerate(self.records.columns)}
        order, widths, hidden, sort = (state.get(key) for key in ("order", "widths", "hidden", "sort"))
        saved = list(dict.fromkeys(_list(order)))
        is_as_it_was = saved in (
            [list(each) for each in former] if "default" not in state else [_list(state["default"])]
        )
        for place, name in enumerate(_merged([] if is_as_it_was else saved, list(numbers))):
            header.moveSection(header.visualIndex(numbers[name]), place)
        for name, width in widths.items() if isinstance(widths, dict) else ():
            if name in numbers and isinstance(width, int) and width >= _NARROWEST:
                header.resizeSection(numbers[name], min(width, 2_000))
        if isinstance(hidden, list) and not set(numbers) <= set(_list(hidden)):
            for name, number in numbers.items():
                header.setSectionHidden(number, name in hidden)
        by, descending = (*_list(sort), None, None)[:2]
        if by in numbers:
            direction = Qt.SortOrder.DescendingOrder if descending else Qt.SortOrder.AscendingOrder
            header.setSortIndicator(numbers[by], direction)

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _keep_selection(self) -> None:
        """Note who is selected: Qt would do it cell by cell, and take rows that are new for selected where all were."""
        selection, current = self.selectionModel(), self.currentIndex()
        keys = {key for top, bottom in _spans(selection) for key in self.records.keys_between(top, bottom + 1)}
        key = self.records.key_at(current.row()) if current.isValid() else None
        self._kept = (keys, key, current.column())
        selection.reset()  # without a signal

    def _select_again(self) -> None:
        """Select the same records in their new places; `picked` where some are gone."""
        model, selection = self.records, self.selectionModel()
        keys, key, column = self._kept
        rows = model.rows_of(keys)
        chosen = QItemSelection()
        last = len(model.columns) - 1
        for first, end in _runs(rows):
            chosen.append(QItemSelectionRange(model.index(first, 0), model.index(end, last)))
        with QSignalBlocker(selection):  # for whoever listens nothing has changed; the view paints itself anew anyway
            selection.select(chosen, QItemSelectionModel.SelectionFlag.Select)
            row = model.row_of(key) if key is not None else None
            if row is not None:
                selection.setCurrentIndex(model.index(row, column), QItemSelectionModel.SelectionFlag.NoUpdate)
        if len(rows) < len(keys):
            self.picked.emit()

    def _size_columns(self) -> None:
        metrics = self.fontMetrics()
        character = metrics.averageCharWidth()
        for number, column in enumerate(self.records.columns):
            title = metrics.horizontalAdvance(column.title) + 26
            self.setColumnWidth(number, max(_NARROWEST, min(_WIDEST, max(column.width * character + 14, title))))
            self.setColumnHidden(number, column.hidden)

    def _open(self, index: QModelIndex) -> None:
        record = self.records.record_at(index.row())
        if record is not None:
            self.opened.emit(record)

    def _show_menu(self, position: QPoint) -> None:
        menu = QMenu(self)
        enabled = bool(self.selected())
        for action in self.actions():
            if action is not self._copy:
                menu.addAction(action)
        if not menu.isEmpty():
            menu.addSeparator()
        self._copy.setEnabled(enabled)
        menu.addAction(self._copy)
        menu.aboutToHide.connect(menu.deleteLater)
        menu.popup(self.viewport().mapToGlobal(position))

    def _show_columns(self, position: QPoint) -> None:
        menu = QMenu(self)
        for number, column in enumerate(self.records.columns):
            action = menu.addAction(column.title or column.name)
            action.setCheckable(True)
            action.setChecked(not self.isColumnHidden(number))
            last = sum(not self.isColumnHidden(n) for n in range(len(self.records.columns))) == 1
            action.setEnabled(not (last and not self.isColumnHidden(number)))
            action.toggled.connect(lambda shown, number=number: self.setColumnHidden(number, not shown))
        menu.aboutToHide.connect(menu.deleteLater)
        menu.popup(self.horizontalHeader().mapToGlobal(position))

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """Enter opens, Escape lets go of the selection."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.currentIndex().isValid():
            self._open(self.currentIndex())
            return
        if event.key() == Qt.Key.Key_Escape and self.selectionModel().hasSelection():
            self.clearSelection()
            return
        super().keyPressEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Say what is missing where there is nothing. All of it may come a turn later, and what is below in some."""
        scrolled = QPoint(self.horizontalOffset(), self.verticalOffset())
        region = self._late.portion(event, ROWS_A_TURN, ROW_PX, scrolled)
        if region.isEmpty():
            return
        painter = QPainter(self.viewport())
        painter.fillRect(region.boundingRect(), QColor(self._theme.colors.panel))
        painter.end()
        super().paintEvent(QPaintEvent(region))
        if self.records.rowCount() == 0 and self._empty:
            painter = QPainter(self.viewport())
            painter.setPen(QColor(self._theme.colors.muted))
            room: QRect = self.viewport().rect().adjusted(12, 8, -12, -8)
            flags, text = int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap), self._empty
            if painter.boundingRect(room, flags, text).height() > room.height() + 8:  # one line, rather than halves
                flags = int(Qt.AlignmentFlag.AlignCenter)
                text = painter.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, room.width())
            painter.drawText(room, flags, text)
            painter.end()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Catch up."""
        self.records.pause(False)
        super().showEvent(event)

    def hideEvent(self, event: QHideEvent) -> None:  # noqa: N802 - Qt's name
        """Rest."""
        super().hideEvent(event)
        self.records.pause(True)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Let the model know how much of it is seen."""
        super().resizeEvent(event)
        self.records.in_sight = self.viewport().height() // ROW_PX + 1

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for little: docks give what there is."""
        return QSize(320, 120)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Fit into a narrow dock."""
        return QSize(120, 60)


def _spans(selection: QItemSelectionModel) -> list[tuple[int, int]]:
    """Give first and last rows of what is selected."""
    ranges = selection.selection()
    return [(each.top(), each.bottom()) for each in map(ranges.at, range(ranges.size()))]


def _runs(rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Give first and last of rows that follow each other; they are in order."""
    for _, run in groupby(enumerate(rows), lambda each: each[1] - each[0]):
        found = [row for _, row in run]
        yield found[0], found[-1]


def _cell(value: Any) -> str:
    """Give a cell's text without what would break a row of a spreadsheet."""
    return " ".join(str(value).split())


def _merged(saved: Sequence[str], names: Sequence[str]) -> list[str]:
    """Give the columns in the saved order, those that it does not know behind the one that they stand behind now."""
    order = [name for name in saved if name in names]
    for place, name in enumerate(names):
        if name not in order:
            order.insert(order.index(names[place - 1]) + 1 if place else 0, name)
    return order


def _list(value: Any) -> list[Any]:
    """Give the texts of a list that somebody else wrote."""
    return [each for each in value if isinstance(each, (str, bool))] if isinstance(value, list) else []
