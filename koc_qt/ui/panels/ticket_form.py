"""The order ticket's widgets, laid out; what they mean is the panel's matter."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from PySide6.QtCore import QEvent, Qt
from PySide6.QtWidgets import (
    QApplication,
    QButtonGroup,
    QCheckBox,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from koc_qt.domain.instruments import Instrument
from koc_qt.domain.market import Side
from koc_qt.domain.orders import TimeInForce
from koc_qt.domain.state import TradingMode
from koc_qt.ui import formats
from koc_qt.ui.desk import Desk
from koc_qt.ui.panels.ticket_draft import TIME_NAMES, TYPE_NAMES, Field
from koc_qt.ui.panels.ticket_fields import CAPTION_PX, GAP_PX, Choice, Message, NumberField, QuoteStrip, Row
from koc_qt.ui.symbols import SymbolPicker
from koc_qt.ui.theme import number_font, style_as

SHARES = (25, 50, 75, 100)
SIDE_PX = 34
MARGIN_PX = 10


class TicketForm:
    """Fills a widget: on top why nothing can be sent, fields that scroll, and always in sight the answer and Send."""

    def __init__(self, desk: Desk, parent: QWidget) -> None:
        self.account = Choice({})
        self.account.setPlaceholderText("Choose an account")
        self.account.setAccessibleName("Account")
        self.mode = QLabel()
        self.account_hint = Message()
        style_as(self.account_hint, face="small")
        self.picker = SymbolPicker(desk)
        self.picker.setMinimumWidth(90)
        self.quotes = QuoteStrip()
        self.sides = {side: self._side_button(side) for side in Side}
        self.type = Choice(TYPE_NAMES)
        self.type.setAccessibleName("Order type")
        self.time = Choice({each: each.value.upper() for each in TimeInForce}, TIME_NAMES)
        self.time.setAccessibleName("Time in force")
        self.numbers = {
            Field.PRICE: NumberField("Price"),
            Field.STOP: NumberField("Stop price"),
            Field.QUANTITY: NumberField("Quantity"),
        }
        self.unit = QPushButton()
        self.price_units = {where: QLabel() for where in (Field.PRICE, Field.STOP)}
        self.shares = {percent: QPushButton(f"{percent} %") for percent in SHARES}
        self.post_only = QCheckBox("Post-only")
        self.post_only.setToolTip("Refused by the venue if it would trade at once: always the maker's fee")
        self.reduce_only = QCheckBox("Reduce-only")
        self.reduce_only.setToolTip("Never opens or grows a position: refused if it could")
        self.free, self.worth, self.fee = (self._figure() for _ in range(3))
        self.answer = Message()
        self.send = QPushButton()
        self.send.setFixedHeight(SIDE_PX)
        self.send.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._trouble = QFrame()
        self._trouble_text = Message()
        self.rows = self._make_rows()
        self._lay_out(parent)
        self.choose_side(Side.BUY)

    # ---- making -----------------------------------------------------------------------------------------------------

    def _side_button(self, side: Side) -> QPushButton:
        button = QPushButton(side.value.capitalize())
        button.setCheckable(True)
        button.setFixedHeight(SIDE_PX)
        button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        return button

    def _figure(self) -> QLabel:
        figure = QLabel(formats.DASH)
        figure.setFont(number_font())
        figure.setAlignment(Qt.AlignmentFlag.AlignRight)
        figure.setMinimumWidth(1)
        figure.setTextFormat(Qt.TextFormat.PlainText)
        return figure

    def _make_rows(self) -> dict[Field, Row]:
        self._type_row = Row("Type", self.type, self.time)
        for unit in (*self.price_units.values(), self.unit):
            unit.setFixedWidth(62)
        for label in self.price_units.values():
            style_as(label, tone="muted")
            label.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.unit.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        flags = QWidget()
        line = QHBoxLayout(flags)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(12)
        line.addWidget(self.post_only)
        line.addWidget(self.reduce_only)
        line.addStretch(1)
        return {
            Field.ACCOUNT: Row("Account", self.account, self.mode),
            Field.SYMBOL: Row("Symbol", self.picker),
            Field.PRICE: Row("Price", self.numbers[Field.PRICE], self.price_units[Field.PRICE]),
            Field.STOP: Row("Stop at", self.numbers[Field.STOP], self.price_units[Field.STOP]),
            Field.QUANTITY: Row("Quantity", self.numbers[Field.QUANTITY], self.unit),
            Field.FLAGS: Row("", flags),
        }

    def _lay_out(self, parent: QWidget) -> None:
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(MARGIN_PX, 8, MARGIN_PX, 6)
        column.setSpacing(GAP_PX)
        column.addWidget(self.rows[Field.ACCOUNT])
        column.addWidget(self.account_hint)
        column.addWidget(self.rows[Field.SYMBOL])
        column.addWidget(self.quotes)
        column.addLayout(self._sides())
        column.addWidget(self._type_row)
        for where in (Field.PRICE, Field.STOP, Field.QUANTITY):
            column.addWidget(self.rows[where])
        column.addLayout(self._shares())
        column.addWidget(self.rows[Field.FLAGS])
        column.addLayout(self._estimates())
        column.addStretch(1)
        self._scroll = QScrollArea()
        self._scroll.setWidgetResizable(True)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._scroll.setWidget(content)
        strip = QVBoxLayout(self._trouble)
        strip.setContentsMargins(MARGIN_PX, 5, MARGIN_PX, 5)
        strip.addWidget(self._trouble_text)
        foot = QVBoxLayout()
        foot.setContentsMargins(MARGIN_PX, 8, MARGIN_PX, MARGIN_PX)
        foot.setSpacing(GAP_PX)
        foot.addWidget(self.answer)
        foot.addWidget(self.send)
        whole = QVBoxLayout(parent)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        whole.addWidget(self._trouble)
        whole.addWidget(self._scroll, 1)
        edge = QFrame()
        edge.setFrameShape(QFrame.Shape.HLine)
        whole.addWidget(edge)
        whole.addLayout(foot)
        self._order_tabs(parent)

    def _sides(self) -> QHBoxLayout:
        line = QHBoxLayout()
        line.setSpacing(GAP_PX)
        self._group = QButtonGroup(self.send)
        for button in self.sides.values():
            self._group.addButton(button)
            line.addWidget(button, 1)
        return line

    def _shares(self) -> QHBoxLayout:
        line = QHBoxLayout()
        line.setContentsMargins(CAPTION_PX + GAP_PX, 0, 0, 0)
        line.setSpacing(4)
        for percent, button in self.shares.items():
            button.setStyleSheet("padding: 3px 0; font-size: 11px;")  # four in a narrow dock
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            button.setToolTip(f"{percent} % of what is free in the account")
            line.addWidget(button, 1)
        return line

    def _estimates(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setContentsMargins(0, 2, 0, 0)
        grid.setHorizontalSpacing(GAP_PX)
        grid.setVerticalSpacing(2)
        grid.setColumnStretch(1, 1)
        for row, (caption, figure) in enumerate(
            (("Available", self.free), ("Worth about", self.worth), ("Fee about", self.fee))
        ):
            label = QLabel(caption)
            style_as(label, tone="muted")
            grid.addWidget(label, row, 0)
            grid.addWidget(figure, row, 1)
        return grid

    def _order_tabs(self, parent: QWidget) -> None:
        stops: list[QWidget] = [self.account, self.picker, self.quotes.bid, self.quotes.ask, *self.sides.values()]
        stops += [self.type, self.time, *self.numbers.values(), self.unit, *self.shares.values()]
        stops += [self.post_only, self.reduce_only, self.send]
        for first, second in pairwise(stops):
            QWidget.setTabOrder(first, second)
        parent.setFocusProxy(self.numbers[Field.QUANTITY])

    # ---- showing ----------------------------------------------------------------------------------------------------

    def set_accounts(self, account_ids: Sequence[str]) -> None:
        """List these accounts; the choice is made by `account.choose`."""
        if [self.account.itemData(row) for row in range(self.account.count())] != list(account_ids):
            self.account.clear()
            for account_id in account_ids:
                self.account.addItem(account_id, account_id)

    def show_mode(self, mode: TradingMode | None) -> None:
        """Show where the account's orders go."""
        style_as(self.mode, pill=mode.value if mode is not None else None)
        QApplication.sendEvent(self.mode, QEvent(QEvent.Type.StyleChange))  # has its frame measured anew
        self.mode.setText(mode.value.capitalize() if mode is not None else "")
        self.mode.setVisible(mode is not None)

    def choose_side(self, side: Side) -> None:
        """Show a side as chosen: only that one wears its colour."""
        for each, button in self.sides.items():
            button.setChecked(each is side)
            style_as(button, role=each.value if each is side else None)

    def show_rows(self, *, is_limited: bool, is_stopped: bool, may_post: bool) -> None:
        """Show the fields that the type of order needs."""
        self.rows[Field.PRICE].setVisible(is_limited)
        self.rows[Field.STOP].setVisible(is_stopped)
        self.time.setVisible(is_limited)
        self.post_only.setVisible(may_post)

    def show_units(self, rules: Instrument | None, *, is_amount: bool) -> None:
        """Name the currencies; without them there are no shares to take either."""
        base, quote = (rules.base, rules.quote) if rules is not None else ("", "")
        unit, other = (quote, base) if is_amount else (base, quote)
        if self.unit.text() != unit or not unit:
            self.unit.setText(unit)
            self.unit.setToolTip(f"In {unit}; click to enter it in {other}")
            self.unit.setAccessibleName(f"Quantity in {unit}")
        self.unit.setVisible(bool(unit))
        for label in self.price_units.values():
            label.setText(quote)
        for button in self.shares.values():
            button.setEnabled(bool(unit))

    def is_typing_symbol(self) -> bool:
        """Whether the symbol field is being edited, or holds what is no symbol."""
        line = self.picker.lineEdit()
        has_focus = line is not None and line.hasFocus()
        return has_focus or (self.picker.instrument() is None and bool(self.picker.currentText()))

    def show_trouble(self, text: str, tone: str) -> None:
        """Show why nothing can be sent, or nothing."""
        style_as(self._trouble, strip=tone or None)
        self._trouble_text.say(text, tone)
        self._trouble.setVisible(bool(text))

    def show_estimates(self, free: str, worth: str, fee: str) -> None:
        """Show what there is, and what the order takes."""
        for label, text in ((self.free, free), (self.worth, worth), (self.fee, fee)):
            if label.text() != text:
                label.setText(text)
                label.setToolTip(text)

    def focus_on(self, where: Field) -> None:
        """Bring a field into sight, with the cursor in it."""
        widgets: dict[Field, QWidget] = {
            Field.ACCOUNT: self.account,
            Field.SYMBOL: self.picker,
            Field.FLAGS: self.post_only,
            **self.numbers,
        }
        widgets[where].setFocus(Qt.FocusReason.OtherFocusReason)
        if where in self.numbers:
            self.numbers[where].selectAll()
        self._scroll.ensureWidgetVisible(self.rows[where], 0, 8)
