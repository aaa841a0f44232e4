"""A line as high as a row: the last minutes of a figure, without a chart library."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QPointF, QRect, QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPen, QPolygonF


def paint_sparkline(
    painter: QPainter,
    area: QRect,
    values: Sequence[float],
    color: str,
    zero_color: str = "",
    *,
    from_zero: bool = False,
) -> None:
    """Draw values from left to right over the whole of an area, the last with a dot.

    A line of zero is drawn in `zero_color` where zero lies between the values; with `from_zero` it is the bottom.
    Fewer than two values draw nothing.
    """
    if len(values) < 2:
        return
    low, high = min(values), max(values)
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    room = QRectF(area).adjusted(2, 4, -4, -4)
    step, scale = room.width() / (len(values) - 1), room.height() / (high - low) if high > low else 0.0
    bottom = room.bottom() if scale else room.center().y()
    points = [
        QPointF(room.left() + number * step, bottom - (value - low) * scale) for number, value in enumerate(values)
    ]
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    if zero_color and low < 0 < high:
        zero = bottom + low * scale
        painter.setPen(QPen(QColor(zero_color), 1, Qt.PenStyle.DotLine))
        painter.drawLine(QPointF(room.left(), zero), QPointF(room.right(), zero))
    painter.setPen(QPen(QColor(color), 1.3))
    painter.drawPolyline(QPolygonF(points))
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(color))
    painter.drawEllipse(points[-1], 2.0, 2.0)
    painter.restore()
