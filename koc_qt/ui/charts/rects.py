"""Many filled rectangles in one call: an int32 array that Qt reads as an array of QRect."""

from __future__ import annotations

from typing import cast

import numpy as np
import shiboken6
from numpy.typing import NDArray
from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QColor, QPainter

Pixels = NDArray[np.int32]


class RectBuffer:
    """Rows of left, top, right, bottom in physical pixels, edges included, as QRect keeps them in memory."""

    def __init__(self) -> None:
        self._rows: Pixels = np.empty((0, 4), np.int32)

    def rows(self, count: int) -> Pixels:
        """Give room for `count` rectangles; what is drawn next is what the caller writes there."""
        if count > len(self._rows):
            self._rows = np.empty((count + count // 2 + 64, 4), np.int32)
        return self._rows[:count]

    def draw(self, painter: QPainter, start: int, stop: int, color: QColor) -> None:
        """Fill the rectangles [start, stop). The painter must be in physical pixels."""
        if stop <= start:
            return
        # The wrapper neither owns nor copies: it is used within this call, while the array is alive.
        first = cast(QRect, shiboken6.wrapInstance(self._rows[start:].ctypes.data, QRect))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(color)
        painter.drawRects(first, stop - start)


def to_physical(painter: QPainter, dpr: float) -> None:
    """Let one unit of the painter be one pixel of the screen, so that edges are crisp at any scaling."""
    painter.resetTransform()
    if dpr != 1.0:
        painter.scale(1 / dpr, 1 / dpr)
