"""Long lines, thinned to what pixels can show."""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import QPointF
from PySide6.QtGui import QPolygonF

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
