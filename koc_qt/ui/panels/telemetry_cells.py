"""How the telemetry table's cells are painted: the short way, since some hundred of them change several times a second.

Asking a model role by role and letting the style lay every cell out takes ten times as long.
"""

from __future__ import annotations

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetrics, QPainter, QPen, QPixmap
from PySide6.QtWidgets import QStyle, QStyledItemDelegate, QStyleOptionViewItem, QWidget

from koc_qt.ui.panels.telemetry_rows import WINDOW_KEY, Pulse
from koc_qt.ui.sparkline import paint_sparkline
from koc_qt.ui.style_sheet import pill_colors
from koc_qt.ui.tables.columns import Column
from koc_qt.ui.tables.model import RecordModel
from koc_qt.ui.theme import Theme, number_font

_PAD = 6
_PILL_PX = 11
_PILLS_KEPT = 200
_RIGHT = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
_LEFT = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)


class PulseDelegate(QStyledItemDelegate):
    """Paints text, pills and trends straight from the rows."""

    def __init__(self, theme: Theme, model: RecordModel[Pulse], parent: QWidget) -> None:
        super().__init__(parent)
        self._theme = theme
        self._model = model
        self._colors: dict[str, QColor] = {}
        self._font = number_font(parent.font())
        self._pill_font = QFont(parent.font())
        self._pill_font.setPixelSize(_PILL_PX)
        self._pill_font.setBold(True)
        self._metrics = QFontMetrics(self._font)
        self._pill_metrics = QFontMetrics(self._pill_font)
        self._widest = self._metrics.horizontalAdvance("M")
        self._pills: dict[tuple[str, str, int, float], QPixmap] = {}
        theme.changed.connect(self._forget)

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        """Paint a cell."""
        pulse = self._model.record_at(index.row())
        if pulse is None:
            return
        column, area = self._model.columns[index.column()], option.rect
        if option.state & QStyle.StateFlag.State_Selected:
            painter.fillRect(area, self._color("selection"))
        if column.name == "trend":
            self._paint_trend(painter, area, pulse)
            return
        text = self._model.data(index)
        look = column.pill(pulse) if column.pill is not None else None
        if look:
            self._paint_pill(painter, area, text, look)
        elif text:
            self._paint_text(painter, area, text, column, pulse)

    def _paint_text(self, painter: QPainter, area: QRect, text: str, column: Column[Pulse], pulse: Pulse) -> None:
        tone = column.tone(pulse) if column.tone is not None else None
        room = area.adjusted(_PAD, 0, -_PAD, 0)
        if len(text) * self._widest > room.width():
            text = self._metrics.elidedText(text, Qt.TextElideMode.ElideRight, room.width())
        painter.setFont(self._font)
        painter.setPen(self._color(tone or "text"))
        painter.drawText(room, _RIGHT if column.right else _LEFT, text)

    def _paint_pill(self, painter: QPainter, area: QRect, text: str, look: str) -> None:
        ratio = painter.device().devicePixelRatioF()
        key = (text, look, area.width(), ratio)
        picture = self._pills.get(key)
        if picture is None:
            if len(self._pills) >= _PILLS_KEPT:
                self._pills.clear()
            picture = self._pills[key] = self._pill(text, look, QSize(area.width() - 8, area.height() - 6), ratio)
        painter.drawPixmap(area.x() + 4, area.y() + 3, picture)

    def _pill(self, text: str, look: str, room: QSize, ratio: float) -> QPixmap:
        """Paint a pill once for all cells that show it."""
        color, fill, edge = pill_colors(look, self._theme.colors)
        text = self._pill_metrics.elidedText(text, Qt.TextElideMode.ElideRight, room.width() - 12)
        width = max(min(room.width(), self._pill_metrics.horizontalAdvance(text) + 14), 1)
        picture = QPixmap(QSize(width, room.height()) * ratio)
        picture.setDevicePixelRatio(ratio)
        picture.fill(Qt.GlobalColor.transparent)
        box = QRectF(0.5, 0.5, width - 1, room.height() - 1)
        painter = QPainter(picture)
        painter.setFont(self._pill_font)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(QColor(edge), 1))
        painter.setBrush(QColor(fill))
        painter.drawRoundedRect(box, 4, 4)
        painter.setPen(QColor(color))
        painter.drawText(box, Qt.AlignmentFlag.AlignCenter, text)
        painter.end()
        return picture

    def _paint_trend(self, painter: QPainter, area: QRect, pulse: Pulse) -> None:
        colors = self._theme.colors
        if pulse.key == WINDOW_KEY:
            paint_sparkline(painter, area, pulse.history, colors.info, from_zero=True)
            return
        color = colors.profit if pulse.pnl > 0 else colors.loss if pulse.pnl < 0 else colors.muted
        if pulse.history and min(pulse.history) == max(pulse.history):
            color = colors.edge  # nothing happened
        paint_sparkline(painter, area, pulse.history, color, colors.edge)

    def _forget(self) -> None:
        self._colors.clear()
        self._pills.clear()

    def _color(self, name: str) -> QColor:
        if name not in self._colors:
            self._colors[name] = QColor(getattr(self._theme.colors, name))
        return self._colors[name]
