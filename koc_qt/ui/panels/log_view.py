"""The list that shows the log: every line in one row, painted in one go, following the newest until one scrolls up."""

from __future__ import annotations

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRect, QSize, Qt
from PySide6.QtGui import QColor, QFontMetrics, QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
    QWidget,
)

from koc_qt.link.messages import LogRecorded
from koc_qt.ui.colors import Colors
from koc_qt.ui.formats import clock
from koc_qt.ui.panels.log_lines import LINE_ROLE, LogModel
from koc_qt.ui.tables.following import FollowingTable
from koc_qt.ui.theme import Theme, code_font, number_font

ROW_PX = 20
_LONGEST_PAINTED = 1_000  # characters of a line that are looked at to paint it
_GAP = 10
_TONES = {"WARNING": "warning", "ERROR": "danger", "CRITICAL": "danger", "SUCCESS": "profit"}
_WORDS = {"WARNING": "Warning", "ERROR": "Error", "CRITICAL": "Critical", "SUCCESS": "Success"}


def level_word(level: str) -> str:
    """Write a level for people."""
    return _WORDS.get(level, level.capitalize())


def level_color(level: str, colors: Colors) -> str:
    """Give the colour of a level's word."""
    color: str = getattr(colors, _TONES.get(level, "muted"))
    return color


class LogDelegate(QStyledItemDelegate):
    """Paints time, level, source and text; what is searched for is lit up."""

    def __init__(self, theme: Theme, view: QTableView) -> None:
        super().__init__(view)
        self._theme = theme
        self.needle = ""
        self.code = code_font()
        self.small = number_font(view.font())
        self.source_px = 40
        self._code_metrics = QFontMetrics(self.code)
        self._metrics = QFontMetrics(self.small)
        self._time_px = self._metrics.horizontalAdvance("00:00:00")
        self._level_px = max(self._metrics.horizontalAdvance(level_word(level)) for level in ("WARNING", "CRITICAL"))

    def fit_sources(self, sources: list[str]) -> None:
        """Make room for the names of sources, up to a limit."""
        widest = max((self._metrics.horizontalAdvance(source) for source in sources), default=40)
        self.source_px = min(max(widest, 40), 130)

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        """Paint one line."""
        line: LogRecorded | None = index.data(LINE_ROLE)
        if line is None:
            return
        colors, area = self._theme.colors, QRect(option.rect)
        state: QStyle.StateFlag = option.state
        painter.save()
        if state & QStyle.StateFlag.State_Selected:
            painter.fillRect(area, QColor(colors.selection))
        elif index.row() % 2:
            painter.fillRect(area, QColor(colors.stripe))
        color = level_color(line.level, colors)
        if line.level in ("ERROR", "CRITICAL"):
            painter.fillRect(area.x(), area.y(), 2, area.height(), QColor(color))
        time = clock(line.time_ns)
        time_px = self._time_px if len(time) == 8 else self._metrics.horizontalAdvance(time)
        painter.setFont(self.small)
        left = self._part(painter, area, 8, time_px, time, colors.muted)
        left = self._part(painter, area, left, self._level_px, level_word(line.level), color)
        source_px = min(self.source_px, area.width() // 5)
        source = self._metrics.elidedText(line.source, Qt.TextElideMode.ElideMiddle, source_px)
        left = self._part(painter, area, left, source_px, source, colors.muted)
        text = QRect(area.x() + left, area.y(), area.width() - left - 6, area.height())
        painter.setFont(self.code)
        self._paint_text(painter, text, line.text[:_LONGEST_PAINTED].replace("\n", " ↵ "))
        painter.restore()

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:  # noqa: N802
        """Every row is as high as any other."""
        return QSize(0, ROW_PX)

    def _part(self, painter: QPainter, area: QRect, left: int, width: int, text: str, color: str) -> int:
        painter.setPen(QColor(color))
        painter.drawText(
            QRect(area.x() + left, area.y(), width, area.height()), Qt.AlignmentFlag.AlignVCenter.value, text
        )
        return left + width + _GAP

    def _paint_text(self, painter: QPainter, area: QRect, text: str) -> None:
        colors = self._theme.colors
        shown = self._code_metrics.elidedText(text, Qt.TextElideMode.ElideRight, area.width())
        if self.needle:
            self._light_up(painter, area, text)
        painter.setPen(QColor(colors.text))
        painter.drawText(area, Qt.AlignmentFlag.AlignVCenter.value | Qt.TextFlag.TextSingleLine.value, shown)

    def _light_up(self, painter: QPainter, area: QRect, text: str) -> None:
        lit = QColor(self._theme.colors.warning)
        lit.setAlpha(90)
        low, needle = text.casefold(), self.needle.casefold()
        at = low.find(needle)
        while at >= 0:
            left = self._code_metrics.horizontalAdvance(text[:at])
            width = self._code_metrics.horizontalAdvance(text[at : at + len(needle)])
            match = QRect(area.x() + left - 1, area.y() + 2, width + 2, area.height() - 4)
            if match.left() > area.right():
                break
            painter.fillRect(match.intersected(area), lit)
            at = low.find(needle, at + len(needle))


class LogView(FollowingTable):
    """The engine's lines, or `empty_text` where there are none."""

    def __init__(self, model: LogModel, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(model, ROW_PX, parent)
        self._theme = theme
        self._lines = model
        self.empty_text = ""
        self.lines_delegate = LogDelegate(theme, self)
        self.setItemDelegate(self.lines_delegate)
        self.setAlternatingRowColors(False)  # the delegate paints its own
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.setAccessibleName("Log lines")
        model.evicted.connect(self.keep_place)
        theme.changed.connect(self.viewport().update)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Paint the lines, or why there are none."""
        super().paintEvent(event)
        if self.empty_text and not self._lines.rowCount():
            painter = QPainter(self.viewport())
            painter.setPen(QColor(self._theme.colors.muted))
            flags = Qt.AlignmentFlag.AlignCenter.value | Qt.TextFlag.TextWordWrap.value
            painter.drawText(self.viewport().rect().adjusted(16, 8, -16, -8), flags, self.empty_text)
            painter.end()
