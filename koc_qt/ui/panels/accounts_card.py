"""The card of one account: where its orders go, what it does, what is wrong with it, and what is in it."""

from __future__ import annotations

import time
from decimal import Decimal

from PySide6.QtCore import QEvent, QPoint, QSize, Qt, Signal
from PySide6.QtGui import QContextMenuEvent, QFocusEvent, QMouseEvent, QResizeEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from koc_qt.domain.state import AccountActivity, AccountSnapshot, TradingMode, VenueState
from koc_qt.domain.venues import VenueAbilities
from koc_qt.link.replica import Replica
from koc_qt.ui.formats import clock, utc
from koc_qt.ui.icons import icon
from koc_qt.ui.modes import WHAT, account_name, mode_pill, mode_word
from koc_qt.ui.panels.accounts_words import (
    REMEDIES,
    activity_words,
    holding_words,
    limits_words,
    risk_words_of,
    terms_words,
    trouble,
)
from koc_qt.ui.panels.accounts_worth import Holding, worths
from koc_qt.ui.panels.orders_columns import amount
from koc_qt.ui.panels.ticket_fields import Message
from koc_qt.ui.tables.columns import Column
from koc_qt.ui.tables.model import RecordModel
from koc_qt.ui.tables.view import ROW_PX, RecordTable
from koc_qt.ui.theme import Theme, number_font, style_as

MOST_ROWS = 12  # of a card; more are scrolled to
_TONES = {
    VenueState.CONNECTING: "info",
    VenueState.CONNECTED: "muted",
    VenueState.INTERRUPTED: "warning",
    VenueState.DISCONNECTED: "danger",
}
_COLUMNS = (
    Column[Holding]("currency", "Currency", lambda held: held.balance.currency, width=7),
    Column[Holding](
        "total", "Total", lambda held: _figure(held, held.balance.total), lambda held: held.balance.total, right=True,
        tip=lambda held: f"{held.balance.total:f} {held.balance.currency}",
    ),
    Column[Holding](
        "locked", "Locked", lambda held: _figure(held, held.balance.locked), lambda held: held.balance.locked,
        right=True, tone=lambda held: None if held.balance.locked else "muted",
        tip=lambda held: f"{held.balance.locked:f} {held.balance.currency} reserved by open orders",
    ),
    Column[Holding](
        "free", "Free", lambda held: _figure(held, held.free), lambda held: held.free, right=True,
        tip=lambda held: f"{held.free:f} {held.balance.currency} can be traded with",
    ),
    Column[Holding]("value", "Value", lambda held: held.words, lambda held: held.value_key, right=True,
                    tip=lambda held: held.why, width=14),
)  # fmt: skip


class AccountCard(QFrame):
    """One account. `menu_wanted` brings where on the screen, `remedy_wanted` the name of what helps."""

    menu_wanted = Signal(QPoint)
    remedy_wanted = Signal(str)
    touched = Signal()

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._name = ""
        self._account: AccountSnapshot | None = None
        self._remedy = ""
        self._told_s = 0.0  # by the monotonic clock, when the account was last heard of
        self._holdings: list[Holding] | None = None
        self._widths: list[int] = []  # that the columns want, which takes long to find out
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 4)
        column.setSpacing(4)
        top = QHBoxLayout()
        top.setSpacing(6)
        column.addLayout(top)
        self._make_top(top, theme)
        self._make_words(column)
        self.worth = QLabel(self)
        self.worth.setFont(number_font())
        style_as(self.worth, face="value")
        self.model: RecordModel[Holding] = RecordModel(_COLUMNS, theme, self)
        self.table: RecordTable[Holding] = RecordTable(self.model, theme, self, empty="Nothing in it")
        self.table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.positions = Message(self, "small")
        self.terms = Message(self, "small")
        self.limits = Message(self, "small")
        self.risk = Message(self, "small")
        self.line = QFrame(self)
        self.line.setFrameShape(QFrame.Shape.HLine)
        for widget in (self.worth, self.table, self.positions, self.terms, self.limits, self.risk, self.line):
            column.addWidget(widget)

    def _make_top(self, top: QHBoxLayout, theme: Theme) -> None:
        self.name = QLabel(self)
        self.name.setTextFormat(Qt.TextFormat.PlainText)
        self.name.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        style_as(self.name, face="title")
        self.mode = QLabel(self)
        self.more = QToolButton(self)
        self.more.setIcon(icon("more", theme))
        self.more.setIconSize(QSize(16, 16))
        self.more.clicked.connect(lambda: self.menu_wanted.emit(self.more.mapToGlobal(self.more.rect().bottomLeft())))
        top.addWidget(self.name, 1)
        top.addWidget(self.mode)
        top.addWidget(self.more)

    def _make_words(self, column: QVBoxLayout) -> None:
        line = QHBoxLayout()
        line.setSpacing(8)
        column.addLayout(line)
        self.state = Message(self)
        self.activity = QLabel(self)
        self.activity.setTextFormat(Qt.TextFormat.PlainText)
        line.addWidget(self.state, 1)
        line.addWidget(self.activity, 0, Qt.AlignmentFlag.AlignTop)
        self.trouble = Message(self)
        self.trouble.MOST = 800
        self.remedy = QPushButton(self)
        self.remedy.hide()
        self.remedy.setAccessibleName("What helps")
        self.remedy.clicked.connect(lambda: self.remedy_wanted.emit(self._remedy))
        column.addWidget(self.trouble)
        column.addWidget(self.remedy, 0, Qt.AlignmentFlag.AlignLeft)

    @property
    def stops(self) -> tuple[QWidget, ...]:
        """What the Tab key stops at, from the top down."""
        return self.more, self.remedy, self.table

    # ---- showing -----------------------------------------------------------------------------------------------------

    def show_account(self, account: AccountSnapshot, abilities: VenueAbilities | None, replica: Replica) -> None:
        """Show an account as it is now, its currencies at the prices that are known."""
        if account is not self._account:
            self._account, self._told_s = account, time.monotonic()
        self._name = account_name(account)
        self.name.setToolTip(f"{self._name} ({account.account_id})" if account.label else account.account_id)
        self.more.setToolTip(f"What can be done with {self._name}")
        self.more.setAccessibleName(self.more.toolTip())
        self.mode.setText("LIVE" if account.mode is TradingMode.LIVE else mode_word(account.mode))
        self.mode.setToolTip(WHAT[account.mode])
        is_real = account.mode is TradingMode.LIVE and account.enabled
        style_as(self.mode, pill="real-money" if is_real else mode_pill(account.mode))
        self._show_state(account, abilities, replica)
        self._show_money(account, replica)
        positions = holding_words(account)
        self.positions.say(f"Positions: {positions}" if positions else "", None)
        self.positions.setToolTip(holding_words(account, 1_000) if positions else "")
        self.terms.say(terms_words(account, abilities), "muted")
        self.show_limits(replica)

    def show_limits(self, replica: Replica) -> None:
        """Show how much the venue and the engine let the account do."""
        if self._account is not None:
            words, tone, tip = limits_words(self._account, replica.limits.get(self._account.account_id))
            self.limits.say(words, tone)
            self.limits.setToolTip(tip)
            words, tip = risk_words_of(self._account, replica.risk)
            self.risk.say(words, "muted")
            self.risk.setToolTip(tip)

    def _show_state(self, account: AccountSnapshot, abilities: VenueAbilities | None, replica: Replica) -> None:
        title = abilities.title if abilities is not None else account.venue
        state = account.state.value if account.enabled else "switched off"
        self.state.say(f"{title} · {state}", _TONES[account.state] if account.enabled else "muted")
        self.state.setToolTip(f"Since {clock(account.time_ns)} ({utc(account.time_ns)})")
        self.tick()
        found = trouble(account, abilities, replica.venues.get(account.venue))
        self.trouble.say(found.text if found is not None else "", found.tone if found is not None else None)
        self._remedy = found.remedy if found is not None else ""
        self.remedy.setText(REMEDIES.get(self._remedy, ""))
        self.remedy.setAccessibleName(f"{self.remedy.text() or 'What helps'}: {self._name}")
        self.remedy.setVisible(bool(self._remedy))

    def tick(self) -> bool:
        """Show how long a rate block lasts still; gives whether one does."""
        account = self._account
        if account is None:
            return False
        left_s = account.held_s - (time.monotonic() - self._told_s)
        words, pill, tip = activity_words(account, left_s)
        if self.activity.text() != words:
            self.activity.setText(words)
        self.activity.setToolTip(tip)
        style_as(self.activity, pill=pill)
        does_nothing = account.activity is AccountActivity.IDLE and account.state is not VenueState.CONNECTED
        self.activity.setVisible(account.enabled and account.mode is not TradingMode.DATA and not does_nothing)
        return account.activity is AccountActivity.RATE_LIMITED and left_s > 0

    def _show_money(self, account: AccountSnapshot, replica: Replica) -> None:
        balances = [balance for balance in account.balances if balance.total or balance.locked]
        holdings, total = worths(account.venue, balances, replica)
        currency = holdings[0].unit if holdings else ""
        if total is not None:
            about = "≈ " if any(held.balance.currency != currency for held in holdings) else ""
            self.worth.setText(f"{about}{amount(total.value, currency)} {currency}")
        elif currency:
            self.worth.setText(f"Values in {currency}, where a price is known")
        style_as(
            self.worth, face="value" if total is not None else "small", tone=None if total is not None else "muted"
        )
        self.worth.setToolTip("All of it at the present prices, before fees" if total is not None else "")
        self.worth.setVisible(bool(currency))
        self._show_holdings(holdings)
        is_usable = account.state is not VenueState.DISCONNECTED and account.mode is not TradingMode.DATA
        self.table.setVisible(bool(holdings) or is_usable)
        self.table.setAccessibleName(f"Balances of {self._name}")

    def _show_holdings(self, holdings: list[Holding]) -> None:
        if holdings == self._holdings:
            self._fit()
            return
        self._holdings = holdings
        known = {holding.balance.currency: holding for holding in holdings}
        if {held.balance.currency for held in self.model.records} - known.keys():
            self.model.reset(known.items())
        else:
            for currency, holding in known.items():
                self.model.put(currency, holding)
        self.model.flush()
        self._measure()
        self._fit()

    def _measure(self) -> None:
        metrics = self.table.fontMetrics()
        self._widths = [
            max(self.table.sizeHintForColumn(place) + 4, metrics.horizontalAdvance(column.title) + 16)
            for place, column in enumerate(_COLUMNS)
        ]
        rows = min(max(1, self.model.total), MOST_ROWS)
        self.table.setFixedHeight(self.table.horizontalHeader().sizeHint().height() + rows * ROW_PX + 2)

    def _fit(self) -> None:
        """Show what there is room for."""
        name_px = self.width() - self.mode.sizeHint().width() - self.more.sizeHint().width() - 14
        self.name.setText(self.name.fontMetrics().elidedText(self._name, Qt.TextElideMode.ElideRight, name_px))
        scroll_px = self.table.verticalScrollBar().sizeHint().width() if self.model.total > MOST_ROWS else 0
        room, widths = self.width() - scroll_px, self._widths
        hidden: set[int] = set()
        for name in ("free", "locked"):
            place = [column.name for column in _COLUMNS].index(name)
            shown_px = sum(width for n, width in enumerate(widths) if n not in hidden)
            if shown_px > room or not any(held.balance.locked for held in self.model.records):
                hidden.add(place)
        spare = max(0, room - sum(width for n, width in enumerate(widths) if n not in hidden))
        for place, width in enumerate(widths):
            self.table.setColumnHidden(place, place in hidden)
            if place not in hidden:
                self.table.setColumnWidth(place, width + spare // (len(_COLUMNS) - len(hidden)))

    # ---- Qt's calls --------------------------------------------------------------------------------------------------

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Fit the columns anew."""
        super().resizeEvent(event)
        self._fit()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802 - Qt's name
        """Measure anew in another font."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange and self._widths:
            self._measure()
            self._fit()

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:  # noqa: N802 - Qt's name
        """Offer what can be done."""
        self.touched.emit()
        self.menu_wanted.emit(event.globalPos())

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802 - Qt's name
        """Be the one that commands are about."""
        super().mousePressEvent(event)
        self.touched.emit()

    def focusInEvent(self, event: QFocusEvent) -> None:  # noqa: N802 - Qt's name
        """Be the one that commands are about."""
        super().focusInEvent(event)
        self.touched.emit()


def _figure(held: Holding, value: Decimal) -> str:
    return amount(value, held.balance.currency)
