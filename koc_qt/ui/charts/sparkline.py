"""A line of values in a table cell, and what longer lines need too: thinning to what pixels can show."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from PySide6.QtCore import QPointF, QRectF
from PySide6.QtGui import QColor, QPainter, QPen, QPolygonF

from koc_qt.ui.charts.series import Floats


def thinned(values: Floats, columns: int) -> tuple[Floats, Floats]:
    """Positions and values of at most 4 points a pixel column: its first, lowest, highest and last value.

    A line through them looks the same as one through all of them. Values must be numbers.
    """
    count = len(values)
    if count <= 4 * columns:
        return np.arange(count, dtype=np.float64), values
    edges = np.linspace(0, count, columns + 1).astype(np.int64)
    chosen = np.empty((columns, 4), np.int64)
    for column in range(columns):
        part = values[edges[column] : edges[column + 1]]
        extremes = sorted((int(part.argmin()), int(part.argmax())))
        chosen[column] = edges[column] + np.array([0, *extremes, len(part) - 1])
    positions = np.unique(chosen)
    return positions.astype(np.float64), values[positions]


def polyline(xs: Floats, ys: Floats) -> QPolygonF:
    """A polygon of points."""
    return QPolygonF([QPointF(x, y) for x, y in zip(xs.tolist(), ys.tolist(), strict=True)])


def paint_sparkline(painter: QPainter, rect: QRectF, values: ArrayLike, colour: QColor) -> None:
    """Draw values, oldest first, from edge to edge of a cell; those that are no numbers are left out.

    A flat line runs through the middle; fewer than two values draw nothing. The painter is left as it was.
    """
    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if len(numbers) < 2 or rect.width() < 4 or rect.height() < 4:
        return
    inner = rect.adjusted(1.5, 1.5, -1.5, -1.5)
    positions, shown = thinned(numbers, max(int(inner.width()), 1))
    low, high = float(shown.min()), float(shown.max())
    span = high - low
    shares = (shown - low) / span if span > 0 else np.full(len(shown), 0.5)
    xs = inner.left() + positions * (inner.width() / (len(numbers) - 1))
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(colour, 1.2))
    painter.drawPolyline(polyline(xs, inner.bottom() - shares * inner.height()))
    painter.restore()
