"""An equity line: one value over time with a filled area, axes and the value below the mouse. Needs no pyqtgraph."""

from __future__ import annotations

from datetime import tzinfo

import numpy as np
from numpy.typing import ArrayLike
from PySide6.QtCore import QEvent, QPointF, QRectF, Qt
from PySide6.QtGui import (
    QColor,
    QLinearGradient,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPolygonF,
    QResizeEvent,
)
from PySide6.QtWidgets import QWidget

from koc_qt.ui.charts.colors import ChartColors, dark_colors, text_on
from koc_qt.ui.charts.series import BarColumns, BarSeries, Floats
from koc_qt.ui.charts.texts import TextCache, axis_font
from koc_qt.ui.charts.thinning import polyline, thinned
from koc_qt.ui.charts.ticks import TimeTick, moment_text, price_text, price_ticks, time_ticks

_PAD_PX = 6
_TOP_PX = 12


class LineChart(QWidget):
    """Values over time, evenly spaced by index, all of them in sight. Above its first value the line is a gain."""

    def __init__(
        self, parent: QWidget | None = None, *, colors: ChartColors | None = None, zone: tzinfo | None = None
    ) -> None:
        super().__init__(parent)
        self._colors = colors or dark_colors()
        self._zone = zone
        self._bars = BarSeries()
        self._decimals = 2
        self._empty_text = "No result yet"
        self._hover: QPointF | None = None
        self._line = QPolygonF()
        self._marks: list[float] = []
        self._times: list[TimeTick] = []
        self._low, self._high = 0.0, 1.0
        self._plot = QRectF()
        self._texts = TextCache(axis_font(self.font()))
        self.setMouseTracking(True)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setMinimumSize(80, 50)
        self.setAccessibleName("Line chart")

    def set_values(self, time_ns: ArrayLike, values: ArrayLike) -> None:
        """Show values at UTC times, oldest first. Raise ValueError where `BarColumns.of` would."""
        column = np.asarray(values, dtype=np.float64)
        self._bars.set(BarColumns.of(time_ns, column, column, column, column, np.zeros_like(column)))
        self._work_out()

    def set_palette(self, colors: ChartColors) -> None:
        """Change all colours."""
        self._colors = colors
        self.update()

    def set_decimals(self, decimals: int) -> None:
        """Show values with so many decimals."""
        self._decimals = decimals
        self._work_out()

    def set_empty_text(self, text: str) -> None:
        """Say why there is no line."""
        self._empty_text = text
        self.update()

    @property
    def value_text(self) -> str:
        """What is said of the value below the mouse, or of the last."""
        count = len(self._bars)
        if count == 0:
            return ""
        index = count - 1 if self._hover is None else self._index_at(self._hover.x())
        when = moment_text(self._bars.time_ns(index), self._bars.interval_ns, self._zone)
        return f"{price_text(float(self._bars.close[index]), self._decimals)} · {when}"

    def _work_out(self) -> None:
        """Fit scales, thin the line: once a change of data or size, not once a paint."""
        values: Floats = self._bars.close
        self._line, self._marks, self._times = QPolygonF(), [], []
        if len(values):
            digits = max(len(price_text(float(each), self._decimals)) for each in (values.min(), values.max()))
            axis = round(self._texts.size("0" * digits).width()) + 2 * _PAD_PX if self.width() >= 140 else 0
            foot = round(self._texts.height) + 6
            self._plot = QRectF(0, 0, max(self.width() - axis, 1), max(self.height() - foot, 1))
            low, high = float(values.min()), float(values.max())
            pad = (high - low) * 0.06 or abs(high) * 1e-3 or 1.0
            per_px = (high - low + 2 * pad) / max(self._plot.height() - _TOP_PX, 1)
            self._low, self._high = low - pad, high + pad + _TOP_PX * per_px
            self._marks = price_ticks(self._low, self._high, self._plot.height(), self._decimals)
            self._times = time_ticks(self._bars, 0, len(values) - 1, self._plot.width(), self._zone)
            positions, shown = thinned(values, max(int(self._plot.width()), 1))
            ys = (self._high - shown) * (self._plot.height() / (self._high - self._low))
            self._line = polyline(positions * self._step, ys)
        self.update()

    @property
    def _step(self) -> float:
        return self._plot.width() / max(len(self._bars) - 1, 1)

    def _y_of(self, value: float) -> float:
        return (self._high - value) * self._plot.height() / (self._high - self._low)

    def _index_at(self, x: float) -> int:
        return min(max(round(x / self._step), 0), len(self._bars) - 1)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw grid, area, line, labels and the value."""
        colors = self._colors
        painter = QPainter(self)
        painter.fillRect(self.rect(), colors.background)
        if not len(self._bars):
            painter.setPen(colors.muted)
            flags = int(Qt.AlignmentFlag.AlignCenter) | int(Qt.TextFlag.TextWordWrap)
            painter.drawText(self.rect().adjusted(8, 4, -8, -4), flags, self._empty_text)
            painter.end()
            return
        self._paint_grid(painter)
        self._paint_line(painter)
        self._paint_value(painter)
        painter.end()

    def _paint_grid(self, painter: QPainter) -> None:
        colors, plot = self._colors, self._plot
        for value in self._marks:
            y = round(self._y_of(value))
            painter.fillRect(QRectF(0, y, plot.width(), 1), colors.grid)
            if plot.width() < self.width() and self._texts.height / 2 <= y <= plot.height() - self._texts.height / 2:
                painter.setPen(colors.muted)
                label = price_text(value, self._decimals)
                self._texts.draw(painter, plot.width() + _PAD_PX, round(y - self._texts.height / 2), label)
        for tick in self._times:
            x = round(tick.index * self._step)
            painter.fillRect(QRectF(x, 0, 1, plot.height()), colors.grid_major if tick.major else colors.grid)
            width = self._texts.size(tick.text, bold=tick.major).width()
            left = round(x - width / 2)
            if left >= 2 and left + width <= self.width() - 2:
                painter.setPen(colors.text if tick.major else colors.muted)
                self._texts.draw(painter, left, round(plot.height()) + 4, tick.text, bold=tick.major)
        painter.fillRect(QRectF(0, plot.height(), self.width(), 1), colors.border)
        if plot.width() < self.width():
            painter.fillRect(QRectF(plot.width(), 0, 1, plot.height()), colors.border)

    def _paint_line(self, painter: QPainter) -> None:
        gained = float(self._bars.close[-1]) >= float(self._bars.close[0])
        color = self._colors.up if gained else self._colors.down
        top, bottom = QColor(color), QColor(color)
        top.setAlphaF(0.30)
        bottom.setAlphaF(0.02)
        gradient = QLinearGradient(0, 0, 0, self._plot.height())
        gradient.setColorAt(0, top)
        gradient.setColorAt(1, bottom)
        area = QPolygonF(self._line)
        area.append(QPointF(self._line.last().x(), self._plot.height()))
        area.append(QPointF(self._line.first().x(), self._plot.height()))
        painter.save()
        painter.setClipRect(self._plot)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(gradient)
        painter.drawPolygon(area)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(color, 1.5))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPolyline(self._line)
        painter.restore()

    def _paint_value(self, painter: QPainter) -> None:
        colors, plot = self._colors, self._plot
        index = len(self._bars) - 1
        if self._hover is not None:
            index = self._index_at(self._hover.x())
            x, y = round(index * self._step), round(self._y_of(float(self._bars.close[index])))
            pen = QPen(colors.crosshair, 1)
            pen.setDashPattern([4, 4])
            painter.setPen(pen)
            painter.drawLine(x, 0, x, round(plot.height()))
            painter.setPen(QPen(colors.background, 1))
            painter.setBrush(colors.text)
            painter.drawEllipse(QPointF(x, y), 3, 3)
        if plot.width() < self.width():
            value = float(self._bars.close[index])
            gained = value >= float(self._bars.close[0])
            color = colors.tag if self._hover is not None else colors.up if gained else colors.down
            top = round(min(max(self._y_of(value) - self._texts.height / 2 - 1, 0), plot.height() - self._texts.height))
            painter.fillRect(QRectF(plot.width() + 1, top, self.width(), self._texts.height + 2), color)
            painter.setPen(text_on(color))
            self._texts.draw(painter, plot.width() + _PAD_PX, top + 1, price_text(value, self._decimals))
        text = self.value_text
        size = self._texts.size(text)
        if size.width() + 2 * _PAD_PX <= plot.width():
            painter.fillRect(QRectF(2, 2, size.width() + 8, size.height() + 2), colors.background)
            painter.setPen(colors.text)
            self._texts.draw(painter, _PAD_PX, 3, text)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Tell the value below."""
        self._hover = event.position() if self._plot.contains(event.position()) else None
        self.update()

    def leaveEvent(self, event: QEvent) -> None:  # noqa: N802
        """Tell the last value."""
        self._hover = None
        self.update()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """Fit the line."""
        super().resizeEvent(event)
        self._work_out()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        """Follow the font."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self._texts.set_font(axis_font(self.font()))
            self._work_out()
