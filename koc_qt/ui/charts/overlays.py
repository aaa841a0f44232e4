"""Small widgets over the plot: the bar's values, texts for an empty or ended chart, the way back to the newest bar.

They are opaque, so that what changes in them does not make the candles below be painted again.
"""

from __future__ import annotations

from PySide6.QtCore import QEvent, QPointF, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QAbstractButton, QWidget

from koc_qt.ui.charts.candles import Picture
from koc_qt.ui.charts.texts import TextCache, axis_font
from koc_qt.ui.charts.ticks import amount_text, price_text

_MARGIN_PX = 6
_GAP_PX = 9
_STEP_PX = 16


class Legend(QWidget):
    """Open, high, low, close, change to the bar before, and volume of one bar; as much of it as fits."""

    def __init__(self, picture: Picture, parent: QWidget) -> None:
        super().__init__(parent)
        self._picture = picture
        self._texts = TextCache(axis_font(self.font()))
        self._index = -1
        self._words: list[tuple[str, str]] = []
        self._rising = True
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.hide()

    @property
    def text(self) -> str:
        """What it says."""
        return " ".join(f"{label} {value}".strip() for label, value in self._words)

    def height_px(self) -> int:
        """How much room it takes above the candles."""
        return round(self._texts.height) + 4

    def show_bar(self, index: int, available: int) -> None:
        """Show a bar within so many logical pixels; hide where there is none, or no room for its close."""
        bars, decimals = self._picture.bars, self._picture.decimals
        self._words = []
        if 0 <= index < len(bars):
            opened, high, low, close, volume = bars.bar(index)
            before = bars.bar(index - 1)[3] if index else opened
            prices = [price_text(each, decimals) for each in (opened, high, low, close)]
            self._rising = close >= opened
            self._words = self._fitting(prices, _change_text(before, close), amount_text(volume), available)
        self.setVisible(bool(self._words))
        if self._words:
            # In steps, and without shrinking a little: each new width would have the candles below painted again.
            wanted = (round(self._width(self._words)) + 8 + _STEP_PX) // _STEP_PX * _STEP_PX
            if not wanted <= self.width() <= wanted + 3 * _STEP_PX or self.width() > available:
                self.resize(min(wanted, available), self.height_px())
            self.move(_MARGIN_PX, 3)
            self.update()

    def _fitting(self, prices: list[str], change: str, volume: str, available: int) -> list[tuple[str, str]]:
        close, moved = ("C", prices[3]), ("", change)
        high_low = [("H", prices[1]), ("L", prices[2])]
        choices = (
            [("O", prices[0]), *high_low, close, moved, ("V", volume)],
            [("O", prices[0]), *high_low, close, moved],
            [*high_low, close, moved],
            [close, moved],
            [close],
        )
        return next((each for each in choices if self._width(each) + 8 <= available), [])

    def _width(self, words: list[tuple[str, str]]) -> float:
        each = (
            self._texts.size(f"{label} ").width() * bool(label) + self._texts.size(value).width()
            for label, value in words
        )
        return sum(each) + _GAP_PX * (len(words) - 1)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw labels muted and values in the bar's colour."""
        colors = self._picture.colors
        painter = QPainter(self)
        painter.fillRect(self.rect(), colors.background)
        x = 4.0
        for label, value in self._words:
            if label:
                painter.setPen(colors.muted)
                self._texts.draw(painter, x, 2, f"{label} ")
                x += self._texts.size(f"{label} ").width()
            painter.setPen(colors.text if label == "V" else colors.up if self._rising else colors.down)
            self._texts.draw(painter, x, 2, value)
            x += self._texts.size(value).width() + _GAP_PX
        painter.end()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        """Follow the font."""
        if event.type() == QEvent.Type.FontChange:
            self._texts.set_font(axis_font(self.font()))
            self.resize(0, self.height_px())
        super().changeEvent(event)


def _change_text(before: float, now: float) -> str:
    if before <= 0:
        return ""
    return f"{(now / before - 1) * 100:+,.2f} %".replace("-", "\N{MINUS SIGN}")


class Message(QWidget):
    """A short text in the plot: centred and muted for an empty chart, in a box at the top for a fault."""

    def __init__(self, picture: Picture, parent: QWidget, *, fault: bool) -> None:
        super().__init__(parent)
        self._picture = picture
        self._fault = fault
        self.text = ""
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.hide()

    def place(self, text: str, plot: QRect, top: int = 0) -> None:
        """Show a text in a plot, below `top`; an empty text hides."""
        if text != self.text:
            self.text = text
            self.setAccessibleName(text)
            self.update()
        room = plot.adjusted(_MARGIN_PX, top + 4, -_MARGIN_PX, -4)
        self.setVisible(bool(text) and room.width() > 20 and room.height() > 10)
        wanted = self.fontMetrics().boundingRect(QRect(0, 0, max(room.width() - 20, 1), 10_000), self._flags, text)
        size = QSize(wanted.width() + 20, wanted.height() + 8).boundedTo(room.size())
        box = QRect(room.topLeft(), size)
        box.moveLeft(room.center().x() - size.width() // 2)
        if not self._fault:
            box.moveTop(room.center().y() - size.height() // 2)
        self.setGeometry(box)

    @property
    def _flags(self) -> int:
        return int(Qt.AlignmentFlag.AlignCenter) | int(Qt.TextFlag.TextWordWrap)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw the box and its text."""
        colors = self._picture.colors
        painter = QPainter(self)
        painter.fillRect(self.rect(), colors.fault if self._fault else colors.background)
        painter.setPen(colors.fault_text if self._fault else colors.muted)
        painter.drawText(self.rect().adjusted(8, 2, -8, -2), self._flags, self.text)
        painter.end()


class NewestButton(QAbstractButton):
    """A small button at the lower right that leads back to the newest bar."""

    SIZE_PX = 24

    def __init__(self, picture: Picture, parent: QWidget) -> None:
        super().__init__(parent)
        self._picture = picture
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # End does the same on the keyboard
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setToolTip("Go to the newest bar (End)")
        self.setAccessibleName("Go to the newest bar")
        self.resize(self.SIZE_PX, self.SIZE_PX)
        self.hide()

    def sizeHint(self) -> QSize:  # noqa: N802
        """A square that a finger can hit at 200 %."""
        return QSize(self.SIZE_PX, self.SIZE_PX)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw two chevrons to the right in a round box."""
        colors = self._picture.colors
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        fill = QColor(colors.tag)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(fill.lighter(125) if self.underMouse() or self.isDown() else fill)
        painter.drawRoundedRect(QRectF(self.rect()), 5, 5)
        painter.setPen(QPen(colors.tag_text, 1.6, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for x in (7.5, 12.5):
            painter.drawPolyline(QPolygonF([QPointF(x, 8), QPointF(x + 4, 12), QPointF(x, 16)]))
        painter.end()
