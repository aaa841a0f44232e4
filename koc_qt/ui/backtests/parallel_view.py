"""Every trial as a line through its parameters to what came of it. A click takes the nearest line's trial."""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QPixmap, QPolygonF, QResizeEvent
from PySide6.QtWidgets import QWidget

from koc_qt.ui.backtests.trial_data import Lines
from koc_qt.ui.charts.series import Floats
from koc_qt.ui.charts.texts import TextCache, axis_font
from koc_qt.ui.colors import mix
from koc_qt.ui.theme import Theme

_PAD_PX = 8
_REACH_PX = 12.0
_FAINTEST, _STRONGEST = 0.12, 0.95


class ParallelView(QWidget):
    """Shows Lines; `taken` brings the number of the trial that was clicked."""

    taken = Signal(int)

    def __init__(self, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self._theme = theme
        self._lines: Lines | None = None
        self._near: int | None = None  # row of the line below the mouse
        self._picture: QPixmap | None = None
        self._texts = TextCache(axis_font(self.font()))
        self.setMouseTracking(True)
        self.setAccessibleName("Trials as lines through their parameters")
        self.setMinimumSize(160, 90)
        theme.changed.connect(self._repaint)

    def show_lines(self, lines: Lines | None) -> None:
        """Show other trials; None where there are none."""
        self._lines = lines if lines is not None and len(lines.numbers) and len(lines.scales) > 1 else None
        self._near = None
        self._repaint()

    def _repaint(self) -> None:
        self._picture = None
        self.update()

    # ---- where what is ----------------------------------------------------------------------------------------------

    def _room(self) -> QRectF:
        height = self._texts.height
        return QRectF(0, 2 * height + _PAD_PX + 4, self.width(), max(self.height() - 3 * height - 2 * _PAD_PX - 6, 1))

    def _xs(self, lines: Lines) -> Floats:
        """Give where the axes are: names at the ends keep within the widget."""
        first, last = (self._texts.size(lines.scales[n].name).width() / 2 + _PAD_PX for n in (0, -1))
        left, right = max(first, 28.0), self.width() - max(last, 28.0)
        return np.linspace(left, max(right, left + 1), len(lines.scales))

    def _ys(self, lines: Lines) -> Floats:
        room = self._room()
        ys: Floats = room.bottom() - lines.places * room.height()
        return ys

    def nearest(self, at: QPointF) -> int | None:
        """Give the row of the line nearest to a point, where one is near; of several the best."""
        lines = self._lines
        if lines is None:
            return None
        xs, ys = self._xs(lines), self._ys(lines)
        segment = int(np.clip(np.searchsorted(xs, at.x()) - 1, 0, len(xs) - 2))
        share = float(np.clip((at.x() - xs[segment]) / (xs[segment + 1] - xs[segment]), 0.0, 1.0))
        heights = ys[:, segment] * (1 - share) + ys[:, segment + 1] * share
        distances = np.abs(heights - at.y())
        row = len(distances) - 1 - int(np.argmin(distances[::-1]))
        return row if distances[row] <= _REACH_PX else None

    # ---- painting ---------------------------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Copy the lines, which are painted once, and bring out the one below the mouse."""
        ratio = self.devicePixelRatioF()
        if self._picture is None or self._picture.devicePixelRatio() != ratio:
            self._picture = QPixmap(self.size() * ratio)
            self._picture.setDevicePixelRatio(ratio)
            self._picture.fill(QColor(self._theme.colors.panel))
            with QPainter(self._picture) as still:
                self._paint_still(still)
        with QPainter(self) as painter:
            painter.drawPixmap(0, 0, self._picture)
            if self._lines is not None and self._near is not None:
                painter.setRenderHint(QPainter.RenderHint.Antialiasing)
                painter.setPen(QPen(QColor(self._theme.colors.accent), 2.5))
                painter.drawPolyline(self._polyline(self._lines, self._near))

    def _polyline(self, lines: Lines, row: int) -> QPolygonF:
        xs, ys = self._xs(lines).tolist(), self._ys(lines)[row].tolist()
        return QPolygonF([QPointF(x, y) for x, y in zip(xs, ys, strict=True)])

    def _paint_still(self, painter: QPainter) -> None:
        colors, lines = self._theme.colors, self._lines
        if lines is None:
            painter.setPen(QColor(colors.muted))
            flags = int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap)
            painter.drawText(self.rect().adjusted(8, 4, -8, -4), flags, "The lines appear with the first trials")
            return
        xs, ys = self._xs(lines).tolist(), self._ys(lines).tolist()
        for row, rank in enumerate(lines.ranks.tolist()):  # the best lie on top
            color = mix(colors.profit, colors.loss, rank)
            painter.setPen(QPen(QColor(mix(color, colors.panel, _FAINTEST + (_STRONGEST - _FAINTEST) * rank**3)), 1))
            painter.drawPolyline(QPolygonF([QPointF(x, y) for x, y in zip(xs, ys[row], strict=True)]))
        room, height = self._room(), self._texts.height
        for place, (x, scale) in enumerate(zip(xs, lines.scales, strict=True)):
            painter.fillRect(QRectF(round(x), room.top(), 1, room.height()), QColor(colors.edge))
            limit = (xs[1] - xs[0]) if len(xs) > 1 else self.width()
            painter.setPen(QColor(colors.text))
            self._label(painter, x, _PAD_PX / 2, scale.name, limit, place == len(xs) - 1)
            painter.setPen(QColor(colors.muted))
            self._label(painter, x, _PAD_PX / 2 + height + 2, scale.high, limit)
            self._label(painter, x, room.bottom() + 4, scale.low, limit)

    def _label(self, painter: QPainter, x: float, y: float, text: str, limit: float, is_bold: bool = False) -> None:
        """Draw a text around x, as much of it as there is room for."""
        font = self._texts.bold if is_bold else self._texts.font
        painter.setFont(font)
        fitted = painter.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, int(max(limit - 6, 20)))
        width = painter.fontMetrics().horizontalAdvance(fitted)
        left = min(max(x - width / 2, 2.0), max(self.width() - width - 2.0, 2.0))
        painter.drawText(QRectF(left, y, width + 2, self._texts.height + 2), int(Qt.AlignmentFlag.AlignLeft), fitted)

    # ---- the mouse --------------------------------------------------------------------------------------------------

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802 - Qt's name
        """Bring out the line below."""
        near = self.nearest(event.position())
        if near != self._near:
            self._near = near
            self.update()

    def leaveEvent(self, event: QEvent) -> None:  # noqa: N802 - Qt's name
        """Bring out none."""
        self._near = None
        self.update()

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802 - Qt's name
        """Take the line below."""
        row = self.nearest(event.position())
        if event.button() is Qt.MouseButton.LeftButton and row is not None and self._lines is not None:
            self.taken.emit(int(self._lines.numbers[row]))

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Paint anew."""
        super().resizeEvent(event)
        self._repaint()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for little."""
        return QSize(360, 220)
