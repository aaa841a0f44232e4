"""The small form that changes a working order: another quantity or price, checked by the market's rules, sent once."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext

from PySide6.QtWidgets import QGridLayout, QLabel, QWidget

from koc_qt.domain.errors import KocError, LinkError, NotSent
from koc_qt.domain.exact import EXACT
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.orders import Order, OrderStatus
from koc_qt.domain.state import TradingMode
from koc_qt.link.messages import AmendOrder
from koc_qt.ui.account_form.dialog import AccountDialog
from koc_qt.ui.bench import Bench
from koc_qt.ui.desk import Desk, Frame
from koc_qt.ui.errands import Errand
from koc_qt.ui.formats import quantity
from koc_qt.ui.modes import account_name
from koc_qt.ui.panels.orders_columns import side_word, status_word
from koc_qt.ui.panels.ticket_draft import LIMITED, plain, price_text, stepped
from koc_qt.ui.panels.ticket_fields import NumberField
from koc_qt.ui.panels.ticket_market import fetch_rules
from koc_qt.ui.panels.ticket_numbers import BadNumber, read_amount
from koc_qt.ui.theme import style_as

CHANGE_TIMEOUT_S = 30.0
NOT_KNOWN = "It is not known whether the order was changed: the engine looks it up, and the table shows what it finds"
_UNHEARD = (OrderStatus.NEW, OrderStatus.SUBMITTED, OrderStatus.UNKNOWN)


def why_no_change(order: Order, desk: Desk) -> str:
    """Say why an order cannot be changed now; empty where it can."""
    if not order.is_open:
        return f"It is {status_word(order).lower()} already"
    if order.status in _UNHEARD:
        return "The venue has not answered to it yet"
    if order.cancel_requested:
        return "It is being cancelled"
    if order.amending is not None:
        return "A change of it is on its way already"
    account = desk.replica.accounts.get(order.account_id)
    if account is None:
        return f"Its account {order.account_id} is gone"
    if not desk.venues.offer(account).amend:
        return f"{desk.venues.title(account.venue)} cannot change a working order: cancel it, and place another one"
    return ""


@dataclass(frozen=True)
class Change:
    """What the fields amount to: None leaves a value as it is."""

    quantity: Decimal | None
    price: Decimal | None


def read_change(order: Order, rules: Instrument, quantity_text: str, price_text_: str) -> Change:
    """Read the fields and hold them against the market's rules. Raises BadNumber with a sentence."""
    request = order.request
    with localcontext(EXACT):
        wanted = _read("Quantity", quantity_text)
        if wanted % rules.lot_size:
            nearest = rules.round_quantity(wanted) or rules.ceil_quantity(wanted)
            raise BadNumber(f"Quantity: not a multiple of {plain(rules.lot_size)}; the nearest is {plain(nearest)}")
        if wanted <= order.filled_quantity:
            raise BadNumber(f"{quantity(order.filled_quantity)} of it is filled already: more than that, or cancel it")
        if wanted < rules.min_quantity:
            raise BadNumber(f"Quantity: the least is {plain(rules.ceil_quantity(rules.min_quantity))} {rules.base}")
        if rules.max_quantity is not None and wanted > rules.max_quantity:
            raise BadNumber(f"Quantity: the most is {plain(rules.round_quantity(rules.max_quantity))} {rules.base}")
        price = request.price
        if request.type in LIMITED:
            price = _read("Price", price_text_)
            if price % rules.tick_size:
                nearest = rules.round_price(price) or rules.ceil_price(price)
                raise BadNumber(f"Price: not a multiple of {plain(rules.tick_size)}; the nearest is {nearest:,f}")
            if wanted * price < rules.min_notional:
                raise BadNumber(f"The least is worth {plain(rules.min_notional)} {rules.quote}")
        return Change(
            wanted if wanted != request.quantity else None,
            price if price is not None and price != request.price else None,
        )


def _read(name: str, text: str) -> Decimal:
    if not text.strip():
        raise BadNumber(f"Enter a {name.lower()}")
    try:
        return read_amount(text)
    except BadNumber as error:
        raise BadNumber(f"{name}: {error}") from None


class ChangeForm(AccountDialog):
    """Changes one order; it closes by itself once the order has ended or somebody else changes it."""

    WIDTH = 340

    def __init__(self, bench: Bench, order: Order, rules: Instrument, parent: QWidget | None = None) -> None:
        super().__init__(bench, f"Change {order.request.instrument.symbol}", "Change the order", parent)
        self.setObjectName("change-order")
        self.order, self.rules = order, rules
        request = order.request
        kind = request.type.value.replace("_", "-")
        self.words(f"{side_word(request.side)} {quantity(request.quantity)} {rules.base}, {kind}", None, "title")
        account = bench.desk.replica.accounts.get(order.account_id)
        where = account_name(account) if account is not None else order.account_id
        self.filled = self.words("", "muted")
        self.words(f"{where} · {order.strategy_id} · {order.client_order_id}", "muted", "small")
        if account is not None and account.mode is TradingMode.LIVE:
            self.words("This order is of real money.", "danger")
            style_as(self.yes_button, role="danger")
        grid = QGridLayout()
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(6)
        grid.setColumnStretch(1, 1)
        self.column.addLayout(grid)
        self.quantity = self._field(grid, 0, "Quantity", plain(request.quantity), rules.base)
        price = price_text(request.price, rules) if request.price is not None else ""
        self.price = self._field(grid, 1, "Price", price, rules.quote, shown=request.type in LIMITED)
        self.quantity.stepped.connect(lambda by: self._step_quantity(by))
        self.price.stepped.connect(lambda by: self.price.setText(stepped(rules, self.price.text(), by)))
        self.column.addStretch(1)
        self._desk.framed.connect(self._on_frame)
        self._show_filled()
        self.judge()
        first = self.price if request.type in LIMITED else self.quantity
        first.setFocus()
        first.selectAll()

    def _field(
        self, grid: QGridLayout, row: int, name: str, text: str, unit: str, *, shown: bool = True
    ) -> NumberField:
        caption, field, label = QLabel(name, self.body), NumberField(name, self.body), QLabel(unit, self.body)
        field.setText(text)
        style_as(label, tone="muted")
        caption.setBuddy(field)
        for place, widget in enumerate((caption, field, label)):
            grid.addWidget(widget, row, place)
            widget.setVisible(shown)
        field.textChanged.connect(lambda _text: self.judge())
        return field

    def _step_quantity(self, by: int) -> None:
        try:
            value = read_amount(self.quantity.text())
        except BadNumber:
            return
        with localcontext(EXACT):
            moved = self.rules.round_quantity(value) + self.rules.lot_size * by
            if moved > self.order.filled_quantity:
                self.quantity.setText(plain(moved))

    def _change(self) -> Change:
        return read_change(self.order, self.rules, self.quantity.text(), self.price.text())

    def obstacle(self) -> str:
        """Say what is wrong; empty where nothing is."""
        engine = self._desk.replica.engine
        if engine is not None and engine.kill_switch:
            return "The kill switch is engaged: release it to trade"
        if obstacle := why_no_change(self.order, self._desk):
            return obstacle
        try:
            change = self._change()
        except BadNumber as error:
            return str(error)
        return "" if change != Change(None, None) else "Enter another quantity or price"

    def agree(self) -> None:
        """Send the change, once."""
        if not self.is_busy and not self.obstacle() and self._desk.is_connected:
            self.run(self._send, "Changing the order…")

    async def _send(self) -> None:
        change = self._change()
        command = AmendOrder(self.order.client_order_id, change.quantity, change.price)
        await self._desk.request(command, timeout_s=CHANGE_TIMEOUT_S)
        self.accept()

    def failed(self, error: KocError) -> None:
        """Say what went wrong, or that nobody knows."""
        is_unclear = isinstance(error, LinkError) and not isinstance(error, NotSent)
        self.say(f"{NOT_KNOWN}.\n{error}" if is_unclear else str(error))

    def stopped(self) -> None:
        """Say that nobody waits any more."""
        self.say(NOT_KNOWN, "warning")

    def _show_filled(self) -> None:
        order = self.order
        text = f"{quantity(order.filled_quantity)} of it is filled: the quantity is the total, with that."
        self.filled.say(text if order.filled_quantity else "", "muted")

    def _on_frame(self, frame: Frame) -> None:
        if not (frame.snapshot or frame.engine or self.order.client_order_id in frame.orders):
            return
        known = self._desk.replica.orders.get(self.order.client_order_id)
        if known is None or known == self.order:
            if frame.snapshot or frame.engine:
                self._judge_quietly()
            return
        self.order = known
        self._show_filled()
        if not known.is_open and not self.is_busy:
            self._desk.notify(f"Order {known.client_order_id} is {status_word(known).lower()} and cannot be changed.")
            super().reject()
            return
        self._judge_quietly()

    def _judge_quietly(self) -> None:
        """Judge anew, but leave what the engine said of a failure until the person changes something."""
        if self.problem.property("tone") != "danger" or not self.problem.text():
            self.judge()


class Changer:
    """Opens one form an order."""

    def __init__(self, bench: Bench, owner: QWidget) -> None:
        self._bench = bench
        self._owner = owner
        self._lookup = Errand(bench.desk, owner)
        self.forms: dict[str, ChangeForm] = {}

    def open(self, order: Order) -> None:
        """Show the form for an order, the one that is there where there is one, once the market's rules are known."""
        rules = self._bench.desk.replica.instruments.get(order.request.instrument)
        if rules is not None:
            self._open(order, rules)
        else:  # its venue has come since the connection is there
            self._lookup.start(self._look_up(order))

    async def _look_up(self, order: Order) -> None:
        self._open(order, await fetch_rules(self._bench.desk, order.request.instrument))

    def _open(self, order: Order, rules: Instrument) -> None:
        key = order.client_order_id
        form = self.forms.get(key)
        if form is None:
            form = self.forms[key] = ChangeForm(self._bench, order, rules, self._owner.window())
            form.finished.connect(lambda _result: self._closed(key))
            form.open()
        else:
            form.raise_()
            form.activateWindow()

    def _closed(self, key: str) -> None:
        form = self.forms.pop(key, None)
        if form is not None:
            form.deleteLater()

    def retire(self) -> None:
        """Close everything."""
        self._lookup.cancel()
        for form in list(self.forms.values()):
            form.done(0)
