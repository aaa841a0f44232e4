"""The live log of a build: the newest lines, following their end until one scrolls up, and copied whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import QAbstractListModel, QModelIndex, QObject, QPersistentModelIndex, QSize, Qt, Signal
from PySide6.QtGui import QColor, QGuiApplication, QKeyEvent, QKeySequence, QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QFrame,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
    QWidget,
)

from koc_qt.ui.panels.deploy_build_run import LINES_KEPT
from koc_qt.ui.tables.following import FollowingTable
from koc_qt.ui.theme import Theme, code_font

ROW_PX = 18
SHOWN_ROWS = 9
Index = QModelIndex | QPersistentModelIndex
_NOTHING = QModelIndex()


class BuildLog(QAbstractListModel):
    """Keeps the newest `limit` lines; `evicted` brings how many made way at the top."""

    evicted = Signal(int)

    def __init__(self, parent: QObject | None = None, *, limit: int = LINES_KEPT) -> None:
        super().__init__(parent)
        self._limit = limit
        self._lines: list[str] = []
        self.total = 0  # that have come

    @property
    def lines(self) -> Sequence[str]:
        """What is kept, oldest first."""
        return self._lines

    def add(self, lines: Sequence[str]) -> None:
        """Take lines over."""
        self.total += len(lines)
        fresh = lines[-self._limit :]
        excess = len(self._lines) + len(fresh) - self._limit
        if len(fresh) == self._limit:
            self.beginResetModel()
            self._lines = list(fresh)
            self.endResetModel()
            return
        if excess > 0:
            self.beginRemoveRows(_NOTHING, 0, excess - 1)
            del self._lines[:excess]
            self.endRemoveRows()
            self.evicted.emit(excess)
        if fresh:
            at = len(self._lines)
            self.beginInsertRows(_NOTHING, at, at + len(fresh) - 1)
            self._lines += fresh
            self.endInsertRows()

    def clear(self) -> None:
        """Begin anew."""
        self.beginResetModel()
        self._lines, self.total = [], 0
        self.endResetModel()

    def rowCount(self, parent: Index = _NOTHING) -> int:  # noqa: N802 - Qt's name
        """Count the lines."""
        return 0 if parent.isValid() else len(self._lines)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Give a line; its tooltip has all of it."""
        known = index.isValid() and index.row() < len(self._lines)
        wanted = (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole, Qt.ItemDataRole.AccessibleTextRole)
        return self._lines[index.row()] if known and role in wanted else None


class _Line(QStyledItemDelegate):
    """Paints a line."""

    def __init__(self, theme: Theme, view: QTableView) -> None:
        super().__init__(view)
        self._theme = theme
        self._font = code_font()

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        """Paint it on one row."""
        colors, area = self._theme.colors, option.rect
        painter.save()
        if option.state & QStyle.StateFlag.State_Selected:
            painter.fillRect(area, QColor(colors.selection))
        painter.setFont(self._font)
        painter.setPen(QColor(colors.text))
        inside = area.adjusted(6, 0, -4, 0)
        text = painter.fontMetrics().elidedText(index.data(), Qt.TextElideMode.ElideRight, inside.width())
        painter.drawText(inside, Qt.AlignmentFlag.AlignVCenter.value | Qt.TextFlag.TextSingleLine.value, text)
        painter.restore()

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:  # noqa: N802 - Qt's name
        """Every row is as high as any other."""
        return QSize(0, ROW_PX)


class BuildLogView(FollowingTable):
    """Lines of a build, to be copied: those that are chosen, or all that are kept."""

    def __init__(self, model: BuildLog, theme: Theme, parent: QWidget) -> None:
        super().__init__(model, ROW_PX, parent)
        self._log = model
        self._theme = theme
        self.setItemDelegate(_Line(theme, self))
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setAccessibleName("Lines of the build's log")
        self.setFixedHeight(SHOWN_ROWS * ROW_PX)
        model.evicted.connect(self.keep_place)
        theme.changed.connect(self.viewport().update)

    def text(self) -> str:
        """Give the chosen lines, all that are kept where none is chosen."""
        rows = sorted(index.row() for index in self.selectionModel().selectedRows())
        lines = [self._log.lines[row] for row in rows] if rows else self._log.lines
        return "".join(f"{line}\n" for line in lines)

    def copy(self) -> None:
        """Put that on the clipboard."""
        QGuiApplication.clipboard().setText(self.text())

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Paint the lines on a ground of their own."""
        painter = QPainter(self.viewport())
        painter.fillRect(event.rect(), QColor(self._theme.colors.stripe))
        painter.end()
        super().paintEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """Copy by keys, and go on following with End."""
        if event.matches(QKeySequence.StandardKey.Copy):
            self.copy()
        elif event.key() == Qt.Key.Key_Escape:
            self.clearSelection()
        elif event.key() == Qt.Key.Key_End:
            self.set_follows(True)
        else:
            super().keyPressEvent(event)
