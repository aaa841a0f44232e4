"""Puts off what can be painted as well in the next turn of the loop: until then what was painted before stays in sight.

Whatever changes in one turn Qt paints in one go: four charts and a table that all change at once would take two turns'
time. Widgets that ask here first share them out. Whoever grabs one must not do so in a turn that is used up.
"""

from __future__ import annotations

from PySide6.QtCore import QObject, QPoint, QRect, QSize, Qt, QTimer
from PySide6.QtGui import QPaintEvent, QRegion
from PySide6.QtWidgets import QWidget

from koc_qt.ui.turns import Patience, is_known


class LatePaint(QObject):
    """Asked by the paint event of a widget, which must paint all of itself: nobody clears it before."""

    def __init__(self, widget: QWidget) -> None:
        super().__init__(widget)
        widget.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self._widget = widget
        self._patience = Patience()
        self._painted: tuple[QPoint, QSize] | None = None  # where in the window, and how large, it was at last
        self._scrolled = QPoint()
        self._waiting = QRegion()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._paint)

    def waits(self, event: QPaintEvent) -> bool:
        """Whether the turn is used up already, so that this is painted in another; what was moved is painted now."""
        place = self._widget.mapTo(self._widget.window(), QPoint()), self._widget.size()
        if place == self._painted and self._patience.waits():
            self._waiting += event.region()
            self._timer.start()
            return True
        self._painted = place
        return False

    def portion(self, event: QPaintEvent, rows: int, row_px: int, scrolled: QPoint) -> QRegion:
        """Give what to paint of rows in this turn: no more than so many of them; those below come in other turns.

        `scrolled` is how far: whoever scrolls, or moves it, sees all of that at once. What has waited meanwhile is
        painted wherever it is by then.
        """
        if scrolled != self._scrolled:
            self._scrolled, self._painted = scrolled, None
            if not self._waiting.isEmpty():
                self._waiting = QRegion(self._widget.rect())
        before = self._painted
        if self.waits(event):
            return QRegion()
        region = event.region()
        if self._painted != before or not is_known():
            return region
        area = region.boundingRect()
        top = area.top() - (area.top() + scrolled.y()) % row_px  # of the row that is there
        now = region.intersected(QRect(area.left(), area.top(), area.width(), top + rows * row_px - area.top()))
        if now != region:
            self._waiting += region.subtracted(now)
            self._timer.start()
        return now

    def _paint(self) -> None:
        region, self._waiting = self._waiting, QRegion()
        self._widget.update(region)
