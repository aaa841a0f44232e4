"""The order ticket's widgets, laid out; what they mean is the panel's matter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from koc_qt.ui.modes import mode_pill, mode_word
from koc_qt.ui.panels.ticket_draft import TIME_NAMES, TYPE_NAMES, Field
from koc_qt.ui.panels.ticket_fields import CAPTION_PX, GAP_PX, Choice, Message, NumberField, QuoteStrip, Row
from koc_qt.ui.symbols import SymbolPicker
from koc_qt.ui.theme import number_font, style_as
from koc_qt.ui.venues import Offer

SHARES = (25, 50, 75, 100)
SIDE_PX = 34
MARGIN_PX = 10
UNIT_PX = 62


class TicketForm:
    """Fills a widget: on top why nothing can be sent, fields that scroll, and always in sight the answer and Send.

    Its widgets are made by `parts`, in the order in which they are seen.
    """

    def __init__(self, desk: Desk, parent: QWidget) -> None:
        self._desk = desk
        self._parent = parent
        self.rows: dict[Field, Row] = {}
        self.numbers: dict[Field, NumberField] = {}
        self.price_units: dict[Field, QLabel] = {}

    # ---- making -----------------------------------------------------------------------------------------------------

    def parts(self) -> Iterator[None]:
        """Make the widgets, a few milliseconds of work at a time."""
        whole = QVBoxLayout(self._parent)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        self._make_trouble(whole)
        content, column = self._make_content(whole)
        yield
        yield from self._make_market(content, column)
        yield from self._make_order(content, column)
        self._make_shares(content, column)
        self._make_flags(content, column)
        yield
        column.addLayout(self._estimates(content))
        column.addStretch(1)
        self._make_foot(whole)
        self._order_tabs(self._parent)
        self.choose_side(Side.BUY)

    def _make_trouble(self, whole: QVBoxLayout) -> None:
        self._trouble = QFrame(self._parent)
        whole.addWidget(self._trouble)
        strip = QVBoxLayout(self._trouble)
        strip.setContentsMargins(MARGIN_PX, 5, MARGIN_PX, 5)
        self._trouble_text = Message(self._trouble)
        strip.addWidget(self._trouble_text)

    def _make_content(self, whole: QVBoxLayout) -> tuple[QWidget, QVBoxLayout]:
        """Make what scrolls, empty: all that is put into it has it for a parent from the beginning."""
        self._scroll = QScrollArea(self._parent)
        whole.addWidget(self._scroll, 1)
        self._scroll.setWidgetResizable(True)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        content = QWidget(self._scroll.viewport())
        self._scroll.setWidget(content)
        column = QVBoxLayout(content)
        column.setContentsMargins(MARGIN_PX, 8, MARGIN_PX, 6)
        column.setSpacing(GAP_PX)
        return content, column

    def _row(self, where: Field, caption: str, content: QWidget, column: QVBoxLayout) -> Row:
        row = self.rows[where] = Row(caption, content)
        column.addWidget(row)
        return row

    def _make_market(self, content: QWidget, column: QVBoxLayout) -> Iterator[None]:
        row = self._row(Field.ACCOUNT, "Account", content, column)
        self.account = Choice({}, row)
        self.account.setPlaceholderText("Choose an account")
        self.account.setAccessibleName("Account")
        self.mode = QLabel(row)
        row.fill(self.account, self.mode)
        self.account_hint = Message(content, "small")
        column.addWidget(self.account_hint)
        yield
        row = self._row(Field.SYMBOL, "Symbol", content, column)
        self.picker = SymbolPicker(self._desk, row)
        self.picker.setMinimumWidth(90)
        row.fill(self.picker)
        yield
        self.quotes = QuoteStrip(content)
        column.addWidget(self.quotes)
        yield

    def _make_order(self, content: QWidget, column: QVBoxLayout) -> Iterator[None]:
        column.addLayout(self._sides(content))
        row = Row("Type", content)
        column.addWidget(row)
        self.type = Choice(TYPE_NAMES, row)
        self.type.setAccessibleName("Order type")
        self.time = Choice({each: each.value.upper() for each in TimeInForce}, row, TIME_NAMES)
        self.time.setAccessibleName("Time in force")
        row.fill(self.type, self.time)
        yield
        for where, caption, name in (
            (Field.PRICE, "Price", "Price"),
            (Field.STOP, "Stop at", "Stop price"),
        ):
            row = self._row(where, caption, content, column)
            number = self.numbers[where] = NumberField(name, row)
            label = self.price_units[where] = QLabel(row)
            style_as(label, tone="muted")
            label.setAlignment(Qt.AlignmentFlag.AlignCenter)
            label.setFixedWidth(UNIT_PX)
            row.fill(number, label)
        yield
        row = self._row(Field.QUANTITY, "Quantity", content, column)
        number = self.numbers[Field.QUANTITY] = NumberField("Quantity", row)
        self.unit = QPushButton(row)
        self.unit.setFixedWidth(UNIT_PX)
        self.unit.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        row.fill(number, self.unit)

    def _sides(self, content: QWidget) -> QHBoxLayout:
        line = QHBoxLayout()
        line.setSpacing(GAP_PX)
        self.sides = {side: QPushButton(side.value.capitalize(), content) for side in Side}
        self._group = QButtonGroup(content)
        for button in self.sides.values():
            button.setCheckable(True)
            button.setFixedHeight(SIDE_PX)
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            self._group.addButton(button)
            line.addWidget(button, 1)
        return line

    def _make_shares(self, content: QWidget, column: QVBoxLayout) -> None:
        line = QHBoxLayout()
        column.addLayout(line)
        line.setContentsMargins(CAPTION_PX + GAP_PX, 0, 0, 0)
        line.setSpacing(4)
        self.shares = {percent: QPushButton(f"{percent} %", content) for percent in SHARES}
        for percent, button in self.shares.items():
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            style_as(button, face="small")  # four in a narrow dock
            button.setToolTip(f"{percent} % of what is free in the account")
            line.addWidget(button, 1)

    def _make_flags(self, content: QWidget, column: QVBoxLayout) -> None:
        row = self._row(Field.FLAGS, "", content, column)
        flags = QWidget(row)
        row.fill(flags)
        line = QHBoxLayout(flags)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(12)
        self.post_only = QCheckBox("Post-only", flags)
        self.post_only.setToolTip("Refused by the venue if it would trade at once: always the maker's fee")
        self.reduce_only = QCheckBox("Reduce-only", flags)
        self.reduce_only.setToolTip("Never opens or grows a position: refused if it could")
        line.addWidget(self.post_only)
        line.addWidget(self.reduce_only)
        line.addStretch(1)

    def _estimates(self, content: QWidget) -> QGridLayout:
        self.free, self.worth, self.fee = (self._figure(content) for _ in range(3))
        grid = QGridLayout()
        grid.setContentsMargins(0, 2, 0, 0)
        grid.setHorizontalSpacing(GAP_PX)
        grid.setVerticalSpacing(2)
        grid.setColumnStretch(1, 1)
        for row, (caption, figure) in enumerate(
            (("Available", self.free), ("Worth about", self.worth), ("Fee about", self.fee))
        ):
            label = QLabel(caption, content)
            style_as(label, tone="muted")
            grid.addWidget(label, row, 0)
            grid.addWidget(figure, row, 1)
        return grid

    def _figure(self, content: QWidget) -> QLabel:
        figure = QLabel(formats.DASH, content)
        figure.setFont(number_font())
        figure.setAlignment(Qt.AlignmentFlag.AlignRight)
        figure.setMinimumWidth(1)
        figure.setTextFormat(Qt.TextFormat.PlainText)
        return figure

    def _make_foot(self, whole: QVBoxLayout) -> None:
        edge = QFrame(self._parent)
        edge.setFrameShape(QFrame.Shape.HLine)
        whole.addWidget(edge)
        foot = QVBoxLayout()
        whole.addLayout(foot)
        foot.setContentsMargins(MARGIN_PX, 8, MARGIN_PX, MARGIN_PX)
        foot.setSpacing(GAP_PX)
        self.answer = Message(self._parent)
        self.send = QPushButton(self._parent)
        self.send.setFixedHeight(SIDE_PX)
        self.send.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        foot.addWidget(self.answer)
        foot.addWidget(self.send)

    def _order_tabs(self, parent: QWidget) -> None:
        stops: list[QWidget] = [self.account, self.picker, self.quotes.bid, self.quotes.ask, *self.sides.values()]
        stops += [self.type, self.time, *self.numbers.values(), self.unit, *self.shares.values()]
        stops += [self.post_only, self.reduce_only, self.send]
        for first, second in pairwise(stops):
            QWidget.setTabOrder(first, second)
        parent.setFocusProxy(self.numbers[Field.QUANTITY])

    # ---- showing ----------------------------------------------------------------------------------------------------

    def set_accounts(self, names: Mapping[str, str]) -> None:
        """List these accounts, named by their ids; the choice is made by `account.choose`."""
        shown = {self.account.itemData(row): self.account.itemText(row) for row in range(self.account.count())}
        if list(shown.items()) != list(names.items()):
            self.account.clear()
            for account_id, name in names.items():
                self.account.addItem(name, account_id)
                self.account.setItemData(self.account.count() - 1, account_id, Qt.ItemDataRole.ToolTipRole)

    def show_mode(self, mode: TradingMode | None) -> None:
        """Show where the account's orders go."""
        style_as(self.mode, pill=mode_pill(mode) if mode is not None else None)
        QApplication.sendEvent(self.mode, QEvent(QEvent.Type.StyleChange))  # has its frame measured anew
        self.mode.setText(mode_word(mode) if mode is not None else "")
        self.mode.setVisible(mode is not None)

    def choose_side(self, side: Side) -> None:
        """Show a side as chosen: only that one wears its colour."""
        for each, button in self.sides.items():
            button.setChecked(each is side)
            style_as(button, role=each.value if each is side else None)

    def show_offer(self, offer: Offer) -> None:
        """Offer what the account's venue can do, and nothing else."""
        self.type.offer(offer.types)
        self.time.offer(offer.times)
        self.reduce_only.setVisible(offer.reduce_only)

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
