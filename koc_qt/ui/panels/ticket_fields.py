"""The parts of the order ticket: captioned rows with room for a problem, number fields, the two prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from PySide6.QtCore import QSignalBlocker, QSize, Qt, Signal
from PySide6.QtGui import QFont, QFontMetrics, QKeyEvent, QResizeEvent, QWheelEvent
from PySide6.QtWidgets import (
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from koc_qt.domain.market import Quote
from koc_qt.ui import formats
from koc_qt.ui.theme import number_font, style_as

CAPTION_PX = 62
GAP_PX = 6
_VALUE_PX = 20
_PRICE_MARGIN_PX = 2
_PRICE_FONTS = (
    (16, QFont.Weight.DemiBold),
    (14, QFont.Weight.DemiBold),
    (12, QFont.Weight.DemiBold),
    (10, QFont.Weight.Normal),
)


class Message(QLabel):
    """A sentence of any length, shown as plain text, wrapped; it takes no room while it is empty."""

    MOST = 300  # characters; the tooltip has the rest

    def __init__(self, parent: QWidget, face: str | None = None) -> None:
        super().__init__(parent)
        style_as(self, face=face)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setWordWrap(True)
        self.setMinimumWidth(1)  # whatever the longest word is
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.hide()

    def say(self, text: str, tone: str | None = "danger") -> None:
        """Show a sentence, or nothing."""
        shown = text if len(text) <= self.MOST else text[: self.MOST].rstrip() + "…"
        if self.text() != shown:
            self.setText(shown)
        self.setToolTip(text if shown != text else "")
        style_as(self, tone=tone)
        self.setVisible(bool(text))


class Row(QWidget):
    """A caption, or none, what belongs to it, and beneath them what is wrong with it. `fill` it with children of it.

    The first of them gets the room, and is marked where something is wrong.
    """

    def __init__(self, caption: str, parent: QWidget) -> None:
        super().__init__(parent)
        self._line = QHBoxLayout()
        self._line.setSpacing(GAP_PX)
        self._marked: QWidget = self
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(GAP_PX)
        grid.setVerticalSpacing(2)
        grid.setColumnStretch(1, 1)
        if caption:
            grid.setColumnMinimumWidth(0, CAPTION_PX)
            label = QLabel(caption, self)
            style_as(label, tone="muted")
            grid.addWidget(label, 0, 0)
        grid.addLayout(self._line, 0, 1)
        self.problem = Message(self, "small")
        grid.addWidget(self.problem, 1, 1)

    def fill(self, first: QWidget, *others: QWidget) -> None:
        """Take the widgets from left to right."""
        self._marked = first
        self._line.addWidget(first, 1)
        for widget in others:
            self._line.addWidget(widget)

    def show_problem(self, text: str) -> None:
        """Mark it and say why, or lift that."""
        self.problem.say(text)
        style_as(self._marked, invalid=True if text else None)
        self._marked.setAccessibleDescription(text)


class Choice(QComboBox):
    """A list of values by name. The wheel scrolls what lies around it: it must not change an order in passing."""

    def __init__(self, names: Mapping[Any, str], parent: QWidget, tips: Mapping[Any, str] | None = None) -> None:
        super().__init__(parent)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(4)
        self.setMinimumWidth(64)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._names, self._tips = names, tips or {}
        self.offer(list(names))

    def offer(self, values: Sequence[Any]) -> None:
        """Have only these to choose from; a choice that is none of them gives way to the first."""
        if list(values) == [self.itemData(row) for row in range(self.count())]:
            return
        chosen = self.value()
        with QSignalBlocker(self):
            self.clear()
            for value in values:
                self.addItem(self._names[value], value)
                self.setItemData(self.count() - 1, self._tips.get(value), Qt.ItemDataRole.ToolTipRole)
            self.setCurrentIndex(max(0, self.findData(chosen)))

    def value(self) -> str:
        """Give what is chosen; empty for nothing."""
        return str(self.currentData() or "")

    def choose(self, value: str) -> None:
        """Choose a value, or nothing where there is no such value."""
        self.setCurrentIndex(self.findData(value))

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802 - Qt's name
        """Leave it to the ticket, which scrolls."""
        event.ignore()


class NumberField(QLineEdit):
    """A field for an exact number. Up and down ask for a step more and less."""

    stepped = Signal(int)

    def __init__(self, name: str, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.setFont(number_font())
        self.setMinimumWidth(60)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """Hear the arrow keys."""
        if event.key() in (Qt.Key.Key_Up, Qt.Key.Key_Down) and not self.isReadOnly():
            self.stepped.emit(1 if event.key() == Qt.Key.Key_Up else -1)
            return
        super().keyPressEvent(event)


class PriceButton(QPushButton):
    """The best bid or offer: a caption, a price, and a click that takes it over."""

    taken = Signal(object)  # Decimal
    resized = Signal()

    def __init__(self, caption: str, parent: QWidget) -> None:
        super().__init__(parent)
        self._caption = caption
        self._price: Decimal | None = None
        style_as(self, role="flat")
        label = QLabel(caption, self)
        style_as(label, tone="muted", face="small")
        self.value = QLabel(self)
        self.value.setFixedHeight(_VALUE_PX)
        column = QVBoxLayout(self)
        column.setContentsMargins(_PRICE_MARGIN_PX, 3, _PRICE_MARGIN_PX, 3)
        column.setSpacing(0)
        for each in (label, self.value):
            each.setAlignment(Qt.AlignmentFlag.AlignCenter)
            each.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
            each.setMinimumWidth(1)
            column.addWidget(each)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.clicked.connect(self._clicked)

    def show_price(self, price: Decimal | None, text: str, *, is_live: bool) -> None:
        """Show a price; one that is not live any more is shown as such, and cannot be taken."""
        self._price = price
        if self.value.text() != text:
            self.value.setText(text)
            self.setAccessibleName(f"{self._caption} {text}")
            self.setToolTip(f"{self._caption} {text}: click to take it as your price" if price is not None else "")
        style_as(self.value, tone=None if is_live else "muted")
        self.setEnabled(is_live and price is not None)

    def fits(self, font: QFont) -> bool:
        """Say whether the price can be shown whole in this font."""
        return QFontMetrics(font).horizontalAdvance(self.value.text()) <= self.width() - 2 * _PRICE_MARGIN_PX

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Give what the two labels need; a button would only ask for its own text."""
        layout = self.layout()
        return layout.sizeHint() if layout is not None else super().sizeHint()

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Be as high as the labels, and as narrow as need be."""
        return QSize(40, self.sizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Say so."""
        super().resizeEvent(event)
        self.resized.emit()

    def _clicked(self) -> None:
        if self._price is not None:
            self.taken.emit(self._price)


class QuoteStrip(QWidget):
    """Bid, spread and ask of a market. `taken` brings the price that was clicked."""

    taken = Signal(object)  # Decimal

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.bid = PriceButton("Bid", self)
        middle = QVBoxLayout()
        middle.setContentsMargins(0, 3, 0, 3)
        middle.setSpacing(0)
        self.spread = QLabel(formats.DASH, self)
        self.spread.setFont(number_font())
        self.spread.setFixedHeight(_VALUE_PX)
        for label in (QLabel("Spread", self), self.spread):
            style_as(label, tone="muted", face="small")
            label.setAlignment(Qt.AlignmentFlag.AlignCenter)
            middle.addWidget(label)
        self.ask = PriceButton("Ask", self)
        self.trouble = Message(self, "small")
        self.trouble.setAlignment(Qt.AlignmentFlag.AlignCenter)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        line = QHBoxLayout()
        column.addLayout(line)
        column.addWidget(self.trouble)
        line.setSpacing(2)
        line.addWidget(self.bid, 1)
        line.addLayout(middle)
        line.addWidget(self.ask, 1)
        self.bid.taken.connect(self.taken)
        self.ask.taken.connect(self.taken)
        self.bid.resized.connect(self._fit)
        self.ask.resized.connect(self._fit)
        self._fonts = [_price_font(size_px, weight) for size_px, weight in _PRICE_FONTS]

    def show_quote(self, quote: Quote | None, tick_size: Decimal | None, *, trouble: str, is_live: bool) -> None:
        """Show the newest quote, and why it stands still where it does."""
        if quote is None:
            self.bid.show_price(None, formats.DASH, is_live=False)
            self.ask.show_price(None, formats.DASH, is_live=False)
        else:
            self.bid.show_price(quote.bid, formats.price(quote.bid, tick_size), is_live=is_live)
            self.ask.show_price(quote.ask, formats.price(quote.ask, tick_size), is_live=is_live)
        text = formats.price(quote.spread if quote is not None else None, tick_size)
        if self.spread.text() != text:
            self.spread.setText(text)
        self.trouble.say(trouble, "warning")
        self._fit()

    def _fit(self) -> None:
        """Show both prices large where there is room, smaller where not: never without their first or last digits."""
        font = next((font for font in self._fonts if self.bid.fits(font) and self.ask.fits(font)), self._fonts[-1])
        for button in (self.bid, self.ask):
            if button.value.font() != font:
                button.value.setFont(font)


def _price_font(size_px: int, weight: QFont.Weight) -> QFont:
    font = number_font()
    font.setPixelSize(size_px)
    font.setWeight(weight)
    return font
