"""Lines of many points."""

from __future__ import annotations

from PySide6.QtCore import QPointF
from PySide6.QtGui import QPolygonF

from koc_qt.ui.charts.series import Floats


def polyline(xs: Floats, ys: Floats) -> QPolygonF:
    """A polygon of points."""
    return QPolygonF([QPointF(x, y) for x, y in zip(xs.tolist(), ys.tolist(), strict=True)])
