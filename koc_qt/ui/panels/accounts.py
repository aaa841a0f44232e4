"""Accounts: in which mode each trades, whether it can, and what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from PySide6.QtCore import QSize, Qt, QTimer
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from koc_qt.domain.state import AccountSnapshot, TradingMode, VenueSnapshot, VenueState
from koc_qt.link.replica import Replica
from koc_qt.ui.bench import Bench, Panel
from koc_qt.ui.desk import Frame
from koc_qt.ui.formats import clock, utc
from koc_qt.ui.panels.accounts_worth import Holding, worths
from koc_qt.ui.panels.orders_columns import amount
from koc_qt.ui.tables import Column, RecordModel, RecordTable
from koc_qt.ui.tables.view import ROW_PX
from koc_qt.ui.theme import Theme, number_font, style_as

REFRESH_MS = 500
MOST_ROWS = 12  # of a card; more are scrolled to
_MODES = {
    TradingMode.SIMULATED: "Orders trade in a simulated market",
    TradingMode.PAPER: "Orders trade on paper, at the prices of a real market",
    TradingMode.TESTNET: "Orders go to the venue's test network: no real money",
    TradingMode.LIVE: "Orders go to the venue, with real money",
}
_TONES = {
    VenueState.CONNECTING: "info",
    VenueState.CONNECTED: "muted",
    VenueState.INTERRUPTED: "warning",
    VenueState.DISCONNECTED: "danger",
}
_BREAKERS = {
    "open": "Breaker open: requests are held back until the venue has recovered",
    "half-open": "Breaker half-open: one request is being tried",
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


class AccountsPanel(Panel):
    """A card for each account."""

    NAME = "accounts"
    TITLE = "Accounts"
    ICON = "account"

    def __init__(self, bench: Bench, parent: QWidget | None = None) -> None:
        super().__init__(bench, parent)
        self.cards: dict[str, AccountCard] = {}
        self.make()

    def parts(self) -> Iterator[None]:
        """Make the frame, then the cards."""
        self.offline = _words("warning", self)
        self.offline.setContentsMargins(8, 6, 8, 2)
        self.empty = _words("muted", self)
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.empty.setContentsMargins(16, 16, 16, 16)
        self.area = QScrollArea(self)
        self.area.setWidgetResizable(True)
        self.area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.area.setFrameShape(QFrame.Shape.NoFrame)
        self._inside = QWidget()
        self.area.setWidget(self._inside)
        self._column = QVBoxLayout(self._inside)
        self._column.setContentsMargins(8, 8, 8, 8)
        self._column.setSpacing(8)
        self._column.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.offline)
        column.addWidget(self.empty, 1)
        column.addWidget(self.area, 1)
        self._refreshing = QTimer(self)
        self._refreshing.setSingleShot(True)
        self._refreshing.setInterval(REFRESH_MS)
        self._refreshing.timeout.connect(self._show_cards)
        yield
        self.desk.framed.connect(self._on_frame)
        self.desk.linked.connect(self._show_connection)
        self._take_all()

    def _on_frame(self, frame: Frame) -> None:
        if frame.snapshot:
            self._take_all()
            return
        accounts = self.desk.replica.accounts
        if any(account_id not in self.cards for account_id in frame.accounts):
            self._take_all()
            return
        touched = [
            account_id
            for account_id in self.cards
            if account_id in frame.accounts or accounts[account_id].venue in frame.venues
        ]
        for account_id in touched:
            self._show_card(account_id)
        if frame.quotes and not self._refreshing.isActive():
            self._refreshing.start()

    def _take_all(self) -> None:
        """Have a card for every account there is, in their order."""
        accounts = self.desk.replica.accounts
        for account_id in [known for known in self.cards if known not in accounts]:
            self.cards.pop(account_id).deleteLater()
        for place, account_id in enumerate(accounts):
            if account_id not in self.cards:
                card = self.cards[account_id] = AccountCard(self.bench.theme, self._inside)
                self._column.insertWidget(place, card)
        for card in self.cards.values():
            card.line.setVisible(card is not list(self.cards.values())[-1])
        self._show_cards()
        self._show_connection()

    def _show_cards(self) -> None:
        for account_id in self.cards:
            self._show_card(account_id)

    def _show_card(self, account_id: str) -> None:
        self.cards[account_id].show_account(self.desk.replica.accounts[account_id], self.desk.replica)

    def _show_connection(self) -> None:
        is_connected = self.desk.is_connected
        self.offline.setText("Not connected to the engine: this is how it was")
        self.offline.setVisible(bool(self.cards) and not is_connected)
        self.empty.setText(
            "The engine has no accounts.\nIts configuration says which there are."
            if is_connected
            else "Waiting for the engine"
        )
        self.empty.setVisible(not self.cards)
        self.area.setVisible(bool(self.cards))

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for a narrow column."""
        return QSize(300, 400)


class AccountCard(QFrame):
    """One account."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._account_id = ""
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 4)
        column.setSpacing(4)
        top = QHBoxLayout()
        top.setSpacing(8)
        column.addLayout(top)
        self.name = QLabel(self)
        self.name.setTextFormat(Qt.TextFormat.PlainText)
        self.name.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        style_as(self.name, face="title")
        self.mode = QLabel(self)
        self.state = _words("muted", self)
        self.trouble = _words("warning", self)
        self.worth = QLabel(self)
        self.worth.setFont(number_font())
        style_as(self.worth, face="value")
        self.model: RecordModel[Holding] = RecordModel(_COLUMNS, theme, self)
        self.table: RecordTable[Holding] = RecordTable(self.model, theme, self, empty="Nothing in it")
        self.table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.line = QFrame(self)
        self.line.setFrameShape(QFrame.Shape.HLine)
        top.addWidget(self.name, 1)
        top.addWidget(self.mode)
        for widget in (self.state, self.trouble, self.worth, self.table, self.line):
            column.addWidget(widget)

    def show_account(self, account: AccountSnapshot, replica: Replica) -> None:
        """Show an account as it is now, its currencies at the prices that are known."""
        self._account_id = account.account_id
        self.name.setToolTip(account.account_id)
        self.mode.setText(account.mode.value.capitalize())
        self.mode.setToolTip(_MODES[account.mode])
        style_as(self.mode, pill=account.mode.value)
        self._show_state(account, replica.venues.get(account.venue))
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
        self.table.setAccessibleName(f"Balances of {account.account_id}")

    def _show_state(self, account: AccountSnapshot, venue: VenueSnapshot | None) -> None:
        self.state.setText(f"{account.venue} · {account.state.value}")
        self.state.setToolTip(f"Since {clock(account.time_ns)} ({utc(account.time_ns)})")
        style_as(self.state, tone=_TONES[account.state])
        lines = []
        if venue is None:
            lines.append(f"No market data of {account.venue}")
        else:
            if venue.state is not VenueState.CONNECTED:
                lines.append(f"Market data {venue.state.value}" + (f": {venue.reason}" if venue.reason else ""))
            if venue.breaker != "closed":
                lines.append(_BREAKERS.get(venue.breaker, f"Breaker {venue.breaker}"))
        self.trouble.setText("\n".join(lines))
        self.trouble.setVisible(bool(lines))

    def _show_holdings(self, holdings: list[Holding]) -> None:
        known = {holding.balance.currency: holding for holding in holdings}
        if {held.balance.currency for held in self.model.records} - known.keys():
            self.model.reset(known.items())
        else:
            for currency, holding in known.items():
                self.model.put(currency, holding)
        self.model.flush()
        self._fit()

    def _fit(self) -> None:
        """Show what there is room for, as high as there are rows."""
        name_px = self.width() - self.mode.sizeHint().width() - 8
        self.name.setText(self.name.fontMetrics().elidedText(self._account_id, Qt.TextElideMode.ElideRight, name_px))
        scroll_px = self.table.verticalScrollBar().sizeHint().width() if self.model.total > MOST_ROWS else 0
        room, metrics = self.width() - scroll_px, self.table.fontMetrics()
        widths = [
            max(self.table.sizeHintForColumn(place) + 4, metrics.horizontalAdvance(column.title) + 16)
            for place, column in enumerate(_COLUMNS)
        ]
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
        rows = min(max(1, self.model.total), MOST_ROWS)
        self.table.setFixedHeight(self.table.horizontalHeader().sizeHint().height() + rows * ROW_PX + 2)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Fit the columns anew."""
        super().resizeEvent(event)
        self._fit()


def _figure(held: Holding, value: Decimal) -> str:
    return amount(value, held.balance.currency)


def _words(tone: str, parent: QWidget) -> QLabel:
    label = QLabel(parent)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setWordWrap(True)
    style_as(label, tone=tone)
    return label
