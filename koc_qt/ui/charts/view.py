"""The pyqtgraph view that holds the plot, and what the mouse does on it."""

from __future__ import annotations

from collections.abc import Callable

import pyqtgraph as pg
from PySide6.QtCore import QEvent, QPointF, Qt, Signal
from PySide6.QtGui import QContextMenuEvent, QHelpEvent, QMouseEvent, QPainter, QPaintEvent, QWheelEvent
from PySide6.QtWidgets import QFrame, QGraphicsItem, QGraphicsView, QStyleOptionGraphicsItem, QToolTip, QWidget

from koc_qt.ui.late_paint import LatePaint

pg.setConfigOptions(antialias=False, useOpenGL=False)

_WHEEL_ZOOM = 1.0015  # an eighth of a degree: a notch of 120 makes a fifth


class PlotArea(pg.ViewBox):  # type: ignore[misc]  # pyqtgraph is untyped
    """A view box that holds ranges and pyqtgraph items in bar index and price; it draws nothing itself."""

    def __init__(self) -> None:
        super().__init__(enableMouse=False, enableMenu=False, border=None, defaultPadding=0.0)
        self.disableAutoRange()
        # The viewport ends where the plot ends, so that clipping once more would only cost time.
        self.setFlag(QGraphicsItem.GraphicsItemFlag.ItemClipsChildrenToShape, False)
        self.setFlag(QGraphicsItem.GraphicsItemFlag.ItemHasNoContents)
        self.borderRect.hide()

    def paint(self, painter: QPainter, option: QStyleOptionGraphicsItem, widget: QWidget | None = None) -> None:
        """Draw nothing."""


class ChartView(pg.GraphicsView):  # type: ignore[misc]  # pyqtgraph is untyped
    """The plot's viewport. Gestures leave as signals, in logical pixels; the keyboard belongs to the chart."""

    panned = Signal(float, float)
    zoomed = Signal(float, float)  # by a factor, around a pixel from the left
    stretched = Signal(float, float)  # prices by a factor, around a pixel from above
    hovered = Signal(object)  # QPointF, or None when the mouse left
    reset_wanted = Signal()

    def __init__(self, parent: QWidget, before_paint: Callable[[], None], tooltip_at: Callable[[QPointF], str]) -> None:
        super().__init__(parent, useOpenGL=False, background=None)
        self._before_paint = before_paint
        self._tooltip_at = tooltip_at
        self._dragged_from: QPointF | None = None
        self.plot = PlotArea()
        self.setCentralItem(self.plot)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setCacheMode(QGraphicsView.CacheModeFlag.CacheNone)
        self.setOptimizationFlag(QGraphicsView.OptimizationFlag.DontSavePainterState)
        self.setOptimizationFlag(QGraphicsView.OptimizationFlag.DontAdjustForAntialiasing)
        self.setCursor(Qt.CursorShape.CrossCursor)
        self.viewport().setCursor(Qt.CursorShape.CrossCursor)
        # Files are dropped on the window: what is dragged over a chart must reach it.
        self.setAcceptDrops(False)
        self.viewport().setAcceptDrops(False)
        self.viewport().setMouseTracking(True)
        self._late = LatePaint(self.viewport())

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Bring everything up to date first, or do all of it a turn later."""
        if self._late.waits(event):
            return
        self._before_paint()
        super().paintEvent(event)

    def viewportEvent(self, event: QEvent) -> bool:  # noqa: N802
        """Show what is known of the fill below the mouse."""
        if event.type() == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            text = self._tooltip_at(QPointF(event.pos()))
            if text:
                QToolTip.showText(event.globalPos(), text, self.viewport())
            else:
                QToolTip.hideText()
            return True
        if event.type() == QEvent.Type.Leave:
            self.hovered.emit(None)
        return bool(super().viewportEvent(event))

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Take hold of the bars."""
        if event.button() in (Qt.MouseButton.LeftButton, Qt.MouseButton.MiddleButton):
            self._dragged_from = event.position()
            self.viewport().setCursor(Qt.CursorShape.ClosedHandCursor)
            self.parentWidget().setFocus(Qt.FocusReason.MouseFocusReason)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Drag, or only look."""
        at = event.position()
        if self._dragged_from is not None:
            moved = at - self._dragged_from
            self._dragged_from = at
            self.panned.emit(moved.x(), moved.y())
        self.hovered.emit(at)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Let go."""
        self._dragged_from = None
        self.viewport().setCursor(Qt.CursorShape.CrossCursor)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Fit the prices again."""
        self.reset_wanted.emit()

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802
        """Zoom around the mouse; with Ctrl the prices, with Shift or sideways move through time."""
        turned, at = event.angleDelta(), event.position()
        sideways = turned.x() or (turned.y() if event.modifiers() & Qt.KeyboardModifier.ShiftModifier else 0)
        if event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self.stretched.emit(_WHEEL_ZOOM ** turned.y(), at.y())
        elif sideways:
            self.panned.emit(sideways / 2, 0.0)
        else:
            self.zoomed.emit(_WHEEL_ZOOM ** turned.y(), at.x())
        event.accept()

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:  # noqa: N802
        """Leave it to the dock around the chart."""
        event.ignore()

    def leaveEvent(self, event: QEvent) -> None:  # noqa: N802
        """Keep pyqtgraph's scene out of it."""
