"""The order ticket: an account, a market, a side and how much; checked before it is sent, and sent once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QHideEvent, QKeySequence, QShortcut, QShowEvent
from PySide6.QtWidgets import QWidget

from koc_qt.domain.errors import InvalidOrder
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Side
from koc_qt.domain.orders import OrderType, TimeInForce
from koc_qt.domain.state import AccountSnapshot, TradingMode, VenueState
from koc_qt.link.messages import SubmitOrder
from koc_qt.ui import formats
from koc_qt.ui.actions import Command
from koc_qt.ui.bench import Bench, Panel
from koc_qt.ui.desk import Frame
from koc_qt.ui.modes import account_name, names_of, takes_orders
from koc_qt.ui.panels.ticket_draft import (
    LIMITED,
    STOPPED,
    Draft,
    Entry,
    Field,
    converted,
    examine,
    free_balance,
    money,
    plain,
    price_text,
    share_text,
    stepped,
)
from koc_qt.ui.panels.ticket_form import TicketForm
from koc_qt.ui.panels.ticket_market import TicketMarket
from koc_qt.ui.panels.ticket_numbers import MOST_CHARACTERS, BadNumber, read_amount
from koc_qt.ui.panels.ticket_sending import Sending
from koc_qt.ui.theme import style_as
from koc_qt.ui.venues import Offer

QUOTE_MS = 80  # between two paints of the prices
PAUSE_MS = 500  # of typing, before a problem is said
_KEYS = {Side.BUY: "F9", Side.SELL: "Shift+F9"}
_MENU_TEXTS = {Side.BUY: "&Buy…", Side.SELL: "Se&ll…"}  # S starts the strategies, in the same menu
_UNASKED_MODES = (TradingMode.SIMULATED, TradingMode.PAPER, TradingMode.TESTNET)  # no account with real money


class TicketPanel(Panel):
    """One order at a time. What is in the fields stays when the engine is lost; only sending is not possible then."""

    NAME: ClassVar[str] = "ticket"
    TITLE: ClassVar[str] = "Order ticket"
    ICON: ClassVar[str] = "ticket"

    def __init__(self, bench: Bench, parent: QWidget | None = None) -> None:
        super().__init__(bench, parent)
        self.market = TicketMarket(bench, self)
        self._account_id = ""  # as wished for; the engine may not have it at the moment
        self._is_amount = False
        self._is_edited = False  # since the last order: the ticket does not follow charts then
        self._is_pressed = False  # Send was: empty fields are named only after that
        self._typing: Field | None = None
        self._share_problem = ""
        self._offer = Offer()  # as at the last refresh
        self.make()

    def parts(self) -> Iterator[None]:
        """Make the form, then fill it; whoever may ask something of the ticket comes last."""
        self.form = TicketForm(self.desk, self)
        yield from self.form.parts()
        yield
        self.sending = Sending(self.desk, self.form.answer, self)
        self._quotes = self._timer(QUOTE_MS)
        self._pause = self._timer(PAUSE_MS)
        self._show_accounts()
        yield
        self.refresh()
        yield
        self._connect()
        self._add_commands()
        self._show_accounts()
        self.refresh()

    def _timer(self, interval_ms: int) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(interval_ms)
        timer.timeout.connect(self.refresh)
        return timer

    def _connect(self) -> None:
        form, requests = self.form, self.bench.requests
        form.account.activated.connect(self._account_chosen)
        form.picker.chosen.connect(self._symbol_chosen)
        form.picker.changed.connect(self._symbol_edited)
        form.quotes.taken.connect(self._take_price)
        for side, button in form.sides.items():
            button.clicked.connect(partial(self.choose_side, side))
        for where, number in form.numbers.items():
            number.textEdited.connect(partial(self._edited, where))
            number.editingFinished.connect(self._pause_over)
        for where in (Field.PRICE, Field.STOP):
            form.numbers[where].stepped.connect(partial(self._step_price, where))
        form.unit.clicked.connect(self._switch_unit)
        for percent, button in form.shares.items():
            button.clicked.connect(partial(self._take_share, percent))
        for plain_change in (
            form.type.activated,
            form.time.activated,
            form.post_only.clicked,
            form.reduce_only.clicked,
        ):
            plain_change.connect(self.refresh)
        form.send.clicked.connect(self.send)
        for keys in ("Ctrl+Return", "Ctrl+Enter"):
            shortcut = QShortcut(QKeySequence(keys), self)
            shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            shortcut.setAutoRepeat(False)
            shortcut.activated.connect(self.send)
        requests.ticket_wanted.connect(self._fill_in)
        requests.instrument_chosen.connect(self._follow)
        self.market.changed.connect(self.refresh)
        self.sending.changed.connect(self.refresh)
        self.sending.accepted.connect(self._accepted)
        self.desk.framed.connect(self._on_frame)
        self.desk.linked.connect(self.refresh)
        self.desk.venues.changed.connect(self.refresh)

    def _add_commands(self) -> None:
        for side, keys in _KEYS.items():
            tip = f"Go to the order ticket with {side.value} chosen; nothing is sent by it"
            command = Command(f"ticket.{side}", _MENU_TEXTS[side], "&Trade", "ticket", keys, tip)
            self.bench.actions.add(command, partial(self._open, side))

    # ---- what is remembered ------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Give account, symbol, type, quantity and its unit, time in force."""
        return {
            "account": self._account_id,
            "instrument": str(self.market.instrument or ""),
            "type": self.form.type.value(),
            "quantity": self.form.numbers[Field.QUANTITY].text()[:MOST_CHARACTERS],
            "in_quote": self._is_amount,
            "time_in_force": self.form.time.value(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Fill the ticket as it was; what cannot be read stays as it is."""
        account = state.get("account")
        self._account_id = account if isinstance(account, str) else ""
        self._show_accounts()
        with suppress(InvalidOrder):
            self._use(InstrumentId.parse(str(state.get("instrument"))))
        with suppress(ValueError):
            self.form.type.choose(OrderType(str(state.get("type"))))
        with suppress(ValueError):
            self.form.time.choose(TimeInForce(str(state.get("time_in_force"))))
        with suppress(BadNumber):
            text = str(state.get("quantity"))
            read_amount(text)
            self.form.numbers[Field.QUANTITY].setText(text)
            self._is_amount = state.get("in_quote") is True
        self.refresh()

    def retire(self) -> None:
        """Stream no more, and leave the menus. Of an order under way a notice still tells."""
        self.market.retire()
        self.sending.retire()
        for side in _KEYS:
            self.bench.actions.remove(f"ticket.{side}")

    # ---- account and market ------------------------------------------------------------------------------------------

    def _account(self) -> AccountSnapshot | None:
        return self.desk.replica.accounts.get(self.form.account.value())

    def _show_accounts(self) -> None:
        """List the accounts; the one that was wished for stays chosen, and none with real money is chosen unasked."""
        form = self.form
        form.set_accounts(names_of(filter(takes_orders, self.desk.replica.accounts.values())))
        if not self._account_id:
            self._account_id = next((each.account_id for each in self._unasked()), "")
        form.account.choose(self._account_id)
        account = self._account()
        form.show_mode(account.mode if account is not None else None)
        form.picker.set_venue(account.venue if account is not None else "")

    def _unasked(self, venue: str = "") -> list[AccountSnapshot]:
        accounts = self.desk.replica.accounts.values()
        usable = filter(takes_orders, accounts)
        fitting = [each for each in usable if each.mode in _UNASKED_MODES and venue in ("", each.venue)]
        return sorted(fitting, key=lambda each: _UNASKED_MODES.index(each.mode))

    def _account_chosen(self) -> None:
        self._account_id = self.form.account.value()
        self._show_accounts()
        self.refresh()

    def _suit_account(self, instrument: InstrumentId) -> None:
        """Change to the account that trades at the market's venue, where there is just one without real money."""
        account, fitting = self._account(), self._unasked(instrument.venue)
        if account is not None and account.venue != instrument.venue and len(fitting) == 1:
            self._account_id = fitting[0].account_id
            self._show_accounts()

    def _symbol_chosen(self, instrument: InstrumentId) -> None:
        self._use(instrument)
        self.refresh()

    def _symbol_edited(self) -> None:
        """Trade nothing while the field holds no symbol."""
        if self.form.picker.instrument() is None:
            self.market.use(None)
        self.refresh()

    def _use(self, instrument: InstrumentId) -> None:
        """Trade this market. Prices of another one are of no use, nor is a quantity of another currency."""
        if instrument == self.market.instrument:
            return
        for number in self.form.numbers.values():
            number.clear()
        self._is_edited = self._is_pressed = False
        self._share_problem = ""
        if self.form.picker.instrument() != instrument:
            self.form.picker.set_instrument(instrument)
        self.market.use(instrument)
        self._suit_account(instrument)

    # ---- what others ask for -----------------------------------------------------------------------------------------

    def _fill_in(self, instrument: InstrumentId, side: Side | None, price: Decimal | None) -> None:
        """Take what a chart or a table asks for: with a price it is a limit order, with a side alone a market order."""
        self._use(instrument)
        if price is not None:
            self.form.type.choose(OrderType.LIMIT)
            self.form.numbers[Field.PRICE].setText(price_text(price, self.market.rules()))
        elif side is not None:
            self.form.type.choose(OrderType.MARKET)
        self._open(side)

    def _follow(self, instrument: InstrumentId) -> None:
        """Show the market that the person looks at, unless the ticket is being filled in."""
        is_edited = self._is_edited and any(number.text() for number in self.form.numbers.values())
        if not (is_edited or self.form.is_typing_symbol() or self.sending.is_sending or self.sending.is_asking):
            self._use(instrument)
            self.refresh()

    def _open(self, side: Side | None) -> None:
        """Bring the ticket to the front, ready for a quantity."""
        if side is not None:
            self.form.choose_side(side)
        self.refresh()
        self.bench.requests.panel_wanted.emit(self.NAME)
        self.form.focus_on(Field.QUANTITY)

    # ---- filling in --------------------------------------------------------------------------------------------------

    @property
    def side(self) -> Side:
        """The side that is chosen."""
        return Side.SELL if self.form.sides[Side.SELL].isChecked() else Side.BUY

    def choose_side(self, side: Side, *_: object) -> None:
        """Buy or sell."""
        self.form.choose_side(side)
        self._share_problem = ""
        self.refresh()

    def _edited(self, where: Field, _text: str) -> None:
        self._is_edited = True
        self._typing = where
        self._share_problem = ""
        self._pause.start()
        self.refresh()

    def _pause_over(self) -> None:
        self._pause.stop()
        self.refresh()

    def _put(self, where: Field, text: str) -> None:
        self.form.numbers[where].setText(text)
        self._is_edited = True
        self._share_problem = ""
        self._pause_over()

    def _take_price(self, price: Decimal) -> None:
        """Take a price that was clicked; a market order becomes a limit order by it."""
        kind = OrderType(self.form.type.value())
        if kind is OrderType.MARKET:
            self.form.type.choose(OrderType.LIMIT)
        self._put(Field.STOP if kind is OrderType.STOP else Field.PRICE, price_text(price, self.market.rules()))

    def _step_price(self, where: Field, by: int) -> None:
        rules = self.market.rules()
        if rules is not None:
            self._put(where, stepped(rules, self.form.numbers[where].text(), by))

    def _switch_unit(self) -> None:
        """Enter the quantity in the other currency; what is there is converted."""
        entry = self._entry()
        self._is_amount = not self._is_amount
        if entry is not None:
            text = converted(entry, examine(entry), self._is_amount)
            self.form.numbers[Field.QUANTITY].setText(text)
        self._share_problem = ""
        self.refresh()

    def _take_share(self, percent: int, *_: object) -> None:
        entry = self._entry()
        if entry is None:
            return
        try:
            self._put(Field.QUANTITY, share_text(entry, examine(entry), percent, self._account()))
        except BadNumber as error:
            self._share_problem = str(error)
            self.refresh()

    def _entry(self) -> Entry | None:
        rules, quote, form = self.market.rules(), self.market.live_quote(), self.form
        if rules is None:
            return None
        return Entry(
            rules,
            self.side,
            OrderType(form.type.value()),
            form.numbers[Field.QUANTITY].text(),
            form.numbers[Field.PRICE].text(),
            form.numbers[Field.STOP].text(),
            self._is_amount,
            TimeInForce(form.time.value()),
            form.post_only.isChecked() and self._offer.post_only,
            form.reduce_only.isChecked() and self._offer.reduce_only,
            quote.bid if quote is not None else None,
            quote.ask if quote is not None else None,
        )

    # ---- sending -----------------------------------------------------------------------------------------------------

    def send(self) -> None:
        """Send what is in the fields, once, or say what is wrong with them."""
        if self.sending.is_busy or self.sending.trouble()[0]:
            return
        self._is_pressed = True
        self._share_problem = ""
        self._pause.stop()
        self.market.look_up()
        entry, account = self._entry(), self._account()
        draft = examine(entry) if entry is not None else None
        self.refresh()
        problems = self._problems(draft)
        if problems or entry is None or draft is None or draft.request is None or account is None:
            self.form.focus_on(next((where for where in Field if where in problems), Field.SYMBOL))
            return
        order = SubmitOrder(account.account_id, draft.request)
        if account.mode is TradingMode.LIVE:
            self.sending.confirm(order, entry.rules, draft)
        else:
            self.sending.submit(order)

    def _accepted(self) -> None:
        self._is_edited = self._is_pressed = False

    # ---- showing -----------------------------------------------------------------------------------------------------

    def _account_problem(self) -> str:
        account, accounts, market = self._account(), self.desk.replica.accounts, self.market.instrument
        if account is not None:
            if market is None or market.venue == account.venue:
                return ""
            return f"{account_name(account)} trades at {account.venue}, not at {market.venue}"
        if not self.desk.is_connected:
            return ""
        if not accounts:
            return "There is no account yet"
        if self._account_id in accounts:
            return f"{account_name(accounts[self._account_id])} takes no orders: it is switched off, or for data alone"
        if self._account_id:
            return f"There is no account {self._account_id}"
        return "Choose an account" if self._is_pressed else ""

    def _symbol_problem(self) -> str:
        picker = self.form.picker
        if picker.problem():
            return picker.problem()
        if self.market.instrument is None:
            waiting = "Being looked up…" if picker.is_checking else "Choose a symbol"
            return waiting if self._is_pressed else ""
        if self.market.rules() is not None:
            return ""
        return self.market.problem or ("The rules of this market are on their way" if self._is_pressed else "")

    def _problems(self, draft: Draft | None) -> dict[Field, str]:
        """Say what is wrong with which field; of empty ones only after an attempt to send."""
        found = {Field.ACCOUNT: self._account_problem(), Field.SYMBOL: self._symbol_problem()}
        if draft is not None:
            found |= draft.problems
            found |= draft.missing if self._is_pressed else {}
        if self._share_problem:
            found[Field.QUANTITY] = self._share_problem
        if self._typing is not None and self._pause.isActive():
            found.pop(self._typing, None)
        return {where: text for where, text in found.items() if text}

    def refresh(self) -> None:
        """Show what follows from the fields and from the market."""
        form, rules = self.form, self.market.rules()
        offer = self._offer = self.desk.venues.offer(self._account())
        form.show_offer(offer)
        entry = self._entry()
        draft = examine(entry) if entry is not None else Draft()
        kind = OrderType(form.type.value())
        may_post = kind is OrderType.LIMIT and offer.post_only
        form.show_rows(is_limited=kind in LIMITED, is_stopped=kind in STOPPED, may_post=may_post)
        form.show_units(rules, is_amount=self._is_amount)
        form.quotes.show_quote(
            self.market.quote(),
            rules.tick_size if rules is not None else None,
            trouble=self.market.trouble(),
            is_live=self.market.is_live(),
        )
        problems = self._problems(draft)
        for where, row in form.rows.items():
            row.show_problem(problems.get(where, ""))
        trouble, tone = self.sending.trouble()
        form.show_trouble(trouble, tone)
        self._show_account_state()
        self._show_estimates(draft, rules)
        form.send.setText(self._send_text(draft, rules))
        style_as(form.send, role=self.side.value)
        form.send.setEnabled(not trouble and not self.sending.is_busy)
        form.send.setToolTip(trouble or "Send the order (Ctrl+Enter)")

    def _show_account_state(self) -> None:
        account = self._account()
        is_fine = account is None or account.state is VenueState.CONNECTED or not self.desk.is_connected
        text = "" if is_fine or account is None else f"This account is {account.state}: orders may be refused"
        self.form.account_hint.say(text, "warning")

    def _show_estimates(self, draft: Draft, rules: Instrument | None) -> None:
        account = self._account()
        free = worth = fee = formats.DASH
        if rules is not None and account is not None:
            currency = rules.quote if self.side is Side.BUY else rules.base
            step, least = (rules.tick_size, 2) if self.side is Side.BUY else (rules.lot_size, 8)
            free = f"{formats.available(free_balance(account, currency), step, least)} {currency}"
        if rules is not None and draft.notional is not None:
            worth = f"{money(draft.notional, rules)} {rules.quote}"
            fee = f"{money(draft.fee, rules, 2)} {rules.quote} · {draft.liquidity} {plain(draft.fee_rate * 100)} %"
        self.form.show_estimates(free, worth, fee)

    def _send_text(self, draft: Draft, rules: Instrument | None) -> str:
        side = self.side.capitalize()
        if self.sending.is_sending:
            return "Sending…"
        if rules is None:
            return side
        text = f"{side} {formats.quantity(draft.quantity)} {rules.base}" if draft.quantity is not None else ""
        return text if text and len(text) <= 30 else f"{side} {rules.base}"

    # ---- what happens ------------------------------------------------------------------------------------------------

    def _on_frame(self, frame: Frame) -> None:
        if frame.snapshot or frame.accounts:
            self._show_accounts()
        if frame.snapshot or frame.accounts or frame.engine:
            self.refresh()
        elif self.market.instrument in frame.quotes and self.isVisible() and not self._quotes.isActive():
            self._quotes.start()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Watch the market while the ticket is seen."""
        super().showEvent(event)
        self.market.watch(is_watched=True)
        self.refresh()

    def hideEvent(self, event: QHideEvent) -> None:  # noqa: N802 - Qt's name
        """Let the market go."""
        super().hideEvent(event)
        self.market.watch(is_watched=False)
