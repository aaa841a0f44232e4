"""A small table of texts that is as high as its rows, for findings within a page that scrolls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, QSize, Qt, Signal
from PySide6.QtGui import QAction, QColor, QGuiApplication, QKeySequence, QResizeEvent
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QSizePolicy, QTableView, QWidget

from koc_qt.ui.theme import Theme, number_font

_ROW_PX = 23
_LEAST_GROWN_PX = 130
_MOST_ROWS = 8  # in sight; the others are scrolled to
Index = QModelIndex | QPersistentModelIndex
_NONE = QModelIndex()


class Head(NamedTuple):
    """A column: its title, whether it holds numbers, and whether it takes what room is left."""

    title: str
    right: bool = False
    grows: bool = False


class Cell(NamedTuple):
    """A text, a tone of the theme or none, and a tooltip; without one the text is it."""

    text: str
    tone: str = ""
    tip: str = ""


class TextModel(QAbstractTableModel):
    """Rows of cells."""

    def __init__(self, heads: Sequence[Head], theme: Theme, parent: QObject) -> None:
        super().__init__(parent)
        self.heads = tuple(heads)
        self.rows: list[tuple[Cell, ...]] = []
        self._theme = theme
        self._numbers = number_font()

    def show_rows(self, rows: Sequence[tuple[Cell, ...]]) -> None:
        """Show these alone."""
        self.beginResetModel()
        self.rows = list(rows)
        self.endResetModel()

    def rowCount(self, parent: Index = _NONE) -> int:  # noqa: N802 - Qt's name
        """Give the number of rows."""
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: Index = _NONE) -> int:  # noqa: N802 - Qt's name
        """Give the number of columns."""
        return 0 if parent.isValid() else len(self.heads)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Give text and look of a cell."""
        if not index.isValid():
            return None
        cell, head = self.rows[index.row()][index.column()], self.heads[index.column()]
        match Qt.ItemDataRole(role):
            case Qt.ItemDataRole.DisplayRole:
                return cell.text
            case Qt.ItemDataRole.ToolTipRole:
                return cell.tip or cell.text
            case Qt.ItemDataRole.TextAlignmentRole:
                return _side(head)
            case Qt.ItemDataRole.FontRole if head.right:
                return self._numbers
            case Qt.ItemDataRole.ForegroundRole if cell.tone:
                return QColor(getattr(self._theme.colors, cell.tone))
        return None

    def headerData(  # noqa: N802 - Qt's name
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Give a column's title."""
        if orientation is not Qt.Orientation.Horizontal or not 0 <= section < len(self.heads):
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return self.heads[section].title
        return _side(self.heads[section]) if role == Qt.ItemDataRole.TextAlignmentRole else None


class TextTable(QTableView):
    """The table. `opened` brings the number of a row that was clicked, or on which Enter was pressed."""

    opened = Signal(int)

    def __init__(self, heads: Sequence[Head], theme: Theme, parent: QWidget, *, name: str) -> None:
        super().__init__(parent)
        self.texts = TextModel(heads, theme, self)
        self.setModel(self.texts)
        self.setAccessibleName(name)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setAlternatingRowColors(True)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.verticalHeader().hide()
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        self.verticalHeader().setDefaultSectionSize(_ROW_PX)
        header = self.horizontalHeader()
        header.setHighlightSections(False)
        self.clicked.connect(lambda index: self.opened.emit(index.row()))
        copy = QAction("&Copy all", self)
        copy.setShortcut(QKeySequence(QKeySequence.StandardKey.Copy))
        copy.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)
        copy.triggered.connect(self.copy)
        self.addAction(copy)
        self.activated.connect(lambda index: self.opened.emit(index.row()))
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.ActionsContextMenu)

    def show_rows(self, rows: Sequence[tuple[Cell, ...]]) -> None:
        """Show these, and be as high as they are."""
        self.texts.show_rows(rows)
        metrics = self.fontMetrics()
        for section, head in enumerate(self.texts.heads):
            if not head.grows:
                widest = max([head.title, *(row[section].text for row in rows)], key=metrics.horizontalAdvance)
                self.setColumnWidth(section, metrics.horizontalAdvance(widest) + 22)
        self._share()

    def _share(self) -> None:
        """Give the columns that grow what is left, and be higher where there is a bar to scroll with."""
        growing = [section for section, head in enumerate(self.texts.heads) if head.grows]
        taken = sum(self.columnWidth(n) for n, head in enumerate(self.texts.heads) if not head.grows)
        for section in growing:
            self.setColumnWidth(section, max((self.viewport().width() - taken) // len(growing), _LEAST_GROWN_PX))
        self.updateGeometry()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Share the room."""
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self._share()

    def copy(self) -> None:
        """Put all rows on the clipboard, as text that spreadsheets take."""
        lines = ["\t".join(head.title for head in self.texts.heads)]
        lines += ["\t".join(cell.text for cell in row) for row in self.texts.rows]
        QGuiApplication.clipboard().setText("\n".join(lines) + "\n")

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Be as high as the rows are, up to some."""
        rows = min(max(len(self.texts.rows), 1), _MOST_ROWS)
        is_wider = self.horizontalHeader().length() > self.viewport().width()
        bar = self.horizontalScrollBar().sizeHint().height() if is_wider else 0
        return QSize(300, self.horizontalHeader().sizeHint().height() + rows * _ROW_PX + 2 + bar)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Be as high, and narrow where there is little room."""
        return QSize(120, self.sizeHint().height())


def _side(head: Head) -> Qt.AlignmentFlag:
    return (Qt.AlignmentFlag.AlignRight if head.right else Qt.AlignmentFlag.AlignLeft) | Qt.AlignmentFlag.AlignVCenter
