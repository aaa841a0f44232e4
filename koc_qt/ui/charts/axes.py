"""Price and date axes: plain widgets beside the plot, with at most ten labels whose texts are laid out once."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import QEvent, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QWheelEvent
from PySide6.QtWidgets import QWidget

from koc_qt.ui.charts.candles import Picture
from koc_qt.ui.charts.colors import text_on
from koc_qt.ui.charts.texts import TextCache, axis_font
from koc_qt.ui.charts.ticks import price_text

_PAD_PX = 6
_DRAG_ZOOM = 1.01  # a pixel


@dataclass(frozen=True, slots=True)
class PriceTag:
    """A price to point out on the axis, with an optional second line."""

    price: float
    color: QColor
    note: str = ""


class PriceAxis(QWidget):
    """The right axis. Its owner sets the width by `wanted_width`; tags lie over labels, the crosshair's over all."""

    stretched = Signal(float, float)  # by a factor, around a pixel
    reset_wanted = Signal()

    def __init__(self, picture: Picture, parent: QWidget) -> None:
        super().__init__(parent)
        self._picture = picture
        self.texts = TextCache(axis_font(self.font()))
        self.tags: list[PriceTag] = []
        self.crosshair_y: float | None = None
        self._drag_y: float | None = None
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setCursor(Qt.CursorShape.SizeVerCursor)
        self.setAccessibleName("Price axis")

    def wanted_width(self, extremes: tuple[float, float]) -> int:
        """Room for the longest price around two; it changes with the number of digits alone, not with each price."""
        digits = max(len(price_text(each * 1.05, self._picture.decimals)) for each in extremes)
        return max(round(self.texts.size("0" * digits).width()) + 2 * _PAD_PX, 44)

    def set_crosshair(self, y: float | None) -> None:
        """Tag the price at a pixel, or none."""
        if y != self.crosshair_y:
            self.crosshair_y = y
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw labels and tags."""
        self._picture.freshen()
        frame, colors, decimals = self._picture.frame, self._picture.colors, self._picture.decimals
        painter = QPainter(self)
        painter.fillRect(event.rect(), colors.background)
        painter.fillRect(QRectF(0, 0, 1, self.height()), colors.border)
        painter.setPen(colors.muted)
        height = self.texts.height
        for price in frame.price_marks:
            y = frame.y_of(price)
            if height / 2 <= y <= self.height() - height / 2:
                self.texts.draw(painter, _PAD_PX, round(y - height / 2), price_text(price, decimals))
        for tag, box in self.placed_tags():
            self._draw_tag(painter, box, price_text(tag.price, decimals), tag.color, tag.note)
        if self.crosshair_y is not None:
            price = frame.price_at(self.crosshair_y)
            self._draw_tag(painter, self._box(self.crosshair_y, 1), price_text(price, decimals), colors.tag, "")
        painter.end()

    def placed_tags(self) -> list[tuple[PriceTag, QRectF]]:
        """Where each tag in sight goes: the first given at its price, later ones aside where they would cover one."""
        placed: list[tuple[PriceTag, QRectF]] = []
        for tag in self.tags:
            y = self._picture.frame.y_of(tag.price)
            if not 0 <= y <= self.height():
                continue
            box = self._box(y, 2 if tag.note else 1)
            for other, taken in sorted(placed, key=lambda each: abs(each[1].center().y() - y)):
                if box.intersects(taken.adjusted(0, 0.5, 0, -0.5)):
                    if tag.price > other.price:
                        box.moveBottom(taken.top())
                    else:
                        box.moveTop(taken.bottom())
            placed.append((tag, box))
        return placed

    def _box(self, y: float, lines: int) -> QRectF:
        height = self.texts.height
        top = round(min(max(y - height / 2 - 1, 0), self.height() - height * lines - 2))
        return QRectF(1, top, self.width() - 1, round(height * lines) + 2)

    def _draw_tag(self, painter: QPainter, box: QRectF, text: str, color: QColor, note: str) -> None:
        painter.fillRect(box, color)
        painter.setPen(text_on(color))
        self.texts.draw(painter, _PAD_PX, box.top() + 1, text)
        if note:
            self.texts.draw(painter, _PAD_PX, box.top() + self.texts.height, note)

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Begin to stretch."""
        if event.button() == Qt.MouseButton.LeftButton:
            self._drag_y = event.position().y()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Stretch around the middle."""
        if self._drag_y is not None:
            self.stretched.emit(_DRAG_ZOOM ** (self._drag_y - event.position().y()), self.height() / 2)
            self._drag_y = event.position().y()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """End it."""
        self._drag_y = None

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Go back to the automatic scale."""
        self.reset_wanted.emit()

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802
        """Stretch around the mouse."""
        self.stretched.emit(1.0015 ** event.angleDelta().y(), event.position().y())
        event.accept()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        """Follow the font."""
        if event.type() == QEvent.Type.FontChange:
            self.texts.set_font(axis_font(self.font()))
        super().changeEvent(event)


class DateAxis(QWidget):
    """The lower axis, in local time; beginnings of days, months and years are bold."""

    zoomed = Signal(float, float)  # by a factor, around a pixel

    def __init__(self, picture: Picture, parent: QWidget) -> None:
        super().__init__(parent)
        self._picture = picture
        self.texts = TextCache(axis_font(self.font()))
        self._crosshair: tuple[float, str] | None = None
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setAccessibleName("Date axis")

    def wanted_height(self) -> int:
        """One line and its margins."""
        return round(self.texts.height) + 6

    def set_crosshair(self, at: tuple[float, str] | None) -> None:
        """Tag a pixel with a text, or nothing."""
        if at != self._crosshair:
            self._crosshair = at
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw labels and the tag."""
        self._picture.freshen()
        frame, colors = self._picture.frame, self._picture.colors
        painter = QPainter(self)
        painter.fillRect(event.rect(), colors.background)
        painter.fillRect(QRectF(0, 0, self.width(), 1), colors.border)
        for tick in frame.time_marks:
            width = self.texts.size(tick.text, bold=tick.major).width()
            left = round(frame.x_of(tick.index) - width / 2)
            if left >= 2 and left + width <= self.width() - 2:
                painter.setPen(colors.text if tick.major else colors.muted)
                self.texts.draw(painter, left, 4, tick.text, bold=tick.major)
        if self._crosshair is not None:
            x, text = self._crosshair
            width = self.texts.size(text).width() + 2 * _PAD_PX
            left = round(min(max(x - width / 2, 0), max(self.width() - width, 0)))
            painter.fillRect(QRectF(left, 1, width, self.height() - 1), colors.tag)
            painter.setPen(colors.tag_text)
            self.texts.draw(painter, left + _PAD_PX, 4, text)
        painter.end()

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802
        """Zoom around the mouse."""
        self.zoomed.emit(1.0015 ** event.angleDelta().y(), event.position().x())
        event.accept()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        """Follow the font."""
        if event.type() == QEvent.Type.FontChange:
            self.texts.set_font(axis_font(self.font()))
        super().changeEvent(event)
