"""Accounts: in which mode each trades, whether it can, what is in it, and what can be done about it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

from PySide6.QtCore import QSize, Qt, QTimer
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPushButton, QScrollArea, QToolButton, QVBoxLayout, QWidget

from koc_qt.domain.state import VenueState
from koc_qt.ui.account_form.secrets_box import SecretsBox
from koc_qt.ui.actions import Command
from koc_qt.ui.bench import Bench, Panel
from koc_qt.ui.desk import Frame
from koc_qt.ui.icons import icon
from koc_qt.ui.modes import needs_keys
from koc_qt.ui.panels.accounts_actions import AccountActions
from koc_qt.ui.panels.accounts_card import AccountCard
from koc_qt.ui.panels.ticket_fields import Message
from koc_qt.ui.slices import Slices
from koc_qt.ui.theme import style_as

REFRESH_MS = 500
TICK_MS = 1_000
AT_ONCE = 3  # cards; more are shown some a turn of the loop
EMPTY = (
    "There is no account yet.\n\nA simulated or paper account needs no keys: add one, and try everything without risk."
)
HINT = (
    "No keys yet? Simulated and paper accounts need none: paper trades at the prices of a real market. Keys are for a "
    "venue's test network, for real money, and for some sources of market data."
)
_ADD = Command("accounts.add", "Add an acco&unt…", "&Trade", "account", tip="Add an account: on paper it needs no keys")
_OF_ONE = (
    Command("accounts.switch", "Switch the account's mode…", "", "refresh", tip="Of the account that was last clicked"),
    Command("accounts.test", "Test the account's connection", "", "link", tip="Of the account that was last clicked"),
    Command("accounts.keys", "Change the account's keys…", "", "shield", tip="Of the account that was last clicked"),
)


class AccountsPanel(Panel):
    """A card for each account, and above them what locked keys ask for."""

    NAME = "accounts"
    TITLE = "Accounts"
    ICON = "account"

    def __init__(self, bench: Bench, parent: QWidget | None = None) -> None:
        super().__init__(bench, parent)
        self.cards: dict[str, AccountCard] = {}
        self.account_actions = AccountActions(bench, self)
        self._touched = self._added = ""
        self._has_hint = True
        self._needed_keys = False
        self._filling, self._showing = Slices(self), Slices(self)
        self.make()

    def parts(self) -> Iterator[None]:
        """Make the frame, then the cards."""
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        self.offline = Message(self)
        self.offline.setContentsMargins(8, 6, 8, 2)
        column.addWidget(self.offline)
        self.secrets = SecretsBox(self.bench, self, takes_keys=False)
        column.addWidget(self.secrets)
        yield
        self._make_empty(column)
        yield
        self._make_area(column)
        yield
        self._make_hint()
        self._column.addStretch(1)
        yield
        for account_id in list(self.desk.replica.accounts):
            self._make_card(account_id)
            yield
        self._refreshing = self._timer(REFRESH_MS, self._show_cards)
        self._ticking = self._timer(TICK_MS, self._tick)
        self.bench.actions.add(_ADD, self.account_actions.add)
        for command in _OF_ONE:
            self.bench.actions.add(command, partial(self._run, command.name.removeprefix("accounts.")))
        self.desk.framed.connect(self._on_frame)
        self.desk.linked.connect(self._on_link)
        self.desk.venues.changed.connect(self._show_cards)
        self.account_actions.added.connect(self._bring_up)
        self._take_all()

    def _make_empty(self, column: QVBoxLayout) -> None:
        self.empty = QWidget(self)
        column.addWidget(self.empty, 1)
        inside = QVBoxLayout(self.empty)
        inside.setContentsMargins(16, 16, 16, 16)
        inside.setSpacing(12)
        self.empty_words = Message(self.empty)
        self.empty_words.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.empty_add = QPushButton("Add account…", self.empty)
        self.empty_add.setIcon(icon("plus", self.bench.theme, "on_fill"))
        style_as(self.empty_add, role="primary")
        self.empty_add.clicked.connect(self.account_actions.add)
        inside.addStretch(1)
        inside.addWidget(self.empty_words)
        inside.addWidget(self.empty_add, 0, Qt.AlignmentFlag.AlignHCenter)
        inside.addStretch(2)

    def _make_area(self, column: QVBoxLayout) -> None:
        self.area = QScrollArea(self)
        column.addWidget(self.area, 1)
        self.area.setWidgetResizable(True)
        self.area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.area.setFrameShape(QFrame.Shape.NoFrame)
        self._inside = QWidget(self.area.viewport())
        self.area.setWidget(self._inside)
        self._column = QVBoxLayout(self._inside)
        self._column.setContentsMargins(8, 8, 8, 8)
        self._column.setSpacing(8)
        self.add_button = QPushButton("Add account…", self._inside)
        self.add_button.setIcon(icon("plus", self.bench.theme))
        self.add_button.setToolTip(_ADD.tip)
        self.add_button.clicked.connect(self.account_actions.add)
        self._column.addWidget(self.add_button, 0, Qt.AlignmentFlag.AlignLeft)

    def _make_hint(self) -> None:
        self.hint = QWidget(self._inside)
        self._column.addWidget(self.hint)
        line = QHBoxLayout(self.hint)
        line.setContentsMargins(0, 0, 0, 0)
        words = Message(self.hint, "small")
        words.say(HINT, "muted")
        self.hint_cross = QToolButton(self.hint)
        self.hint_cross.setIcon(icon("close", self.bench.theme))
        self.hint_cross.setToolTip("Do not show this again")
        self.hint_cross.setAccessibleName("Do not show this again")
        self.hint_cross.clicked.connect(self._dismiss_hint)
        line.addWidget(words, 1)
        line.addWidget(self.hint_cross, 0, Qt.AlignmentFlag.AlignTop)

    def _timer(self, interval_ms: int, run: Any) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(interval_ms)
        timer.timeout.connect(run)
        return timer

    # ---- what comes in -----------------------------------------------------------------------------------------------

    def _on_link(self) -> None:
        self._needed_keys = False  # ask anew where keys are kept: the engine may be another one
        self._show_connection()

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
            if account_id in frame.accounts or (account_id in accounts and accounts[account_id].venue in frame.venues)
        ]
        for account_id in touched[:AT_ONCE]:
            self._show_card(account_id)
        if touched[AT_ONCE:]:
            self._show_cards()
        for account_id in frame.limits & self.cards.keys() - set(touched):
            self.cards[account_id].show_limits(self.desk.replica)
        if frame.accounts:
            self._show_connection()
        if frame.quotes and not self._refreshing.isActive():
            self._refreshing.start()

    def _take_all(self) -> None:
        """Have a card for every account there is, in their order."""
        accounts = self.desk.replica.accounts
        for account_id in [known for known in self.cards if known not in accounts]:
            gone = self.cards.pop(account_id)
            self._column.removeWidget(gone)
            gone.hide()
            gone.deleteLater()
        self.account_actions.forget_gone()
        is_little = len(accounts) <= AT_ONCE and all(account_id in self.cards for account_id in accounts)
        self._filling.start(self._fill(list(accounts)), at_once=is_little)

    def _fill(self, account_ids: list[str]) -> Iterator[None]:
        """Make the cards that are missing, each shown as soon as it is whole."""
        for place, account_id in enumerate(account_ids):
            card = self.cards.get(account_id)
            if card is None:
                card = self._make_card(account_id)
                yield
            self._show_card(account_id)
            yield
            if card.isHidden():
                yield from self._make_ready(card)
            if self._column.indexOf(card) != place:
                self._column.insertWidget(place, card)
                card.show()
                if place == 0:
                    self._show_connection()
                yield
        self.cards = {account_id: self.cards[account_id] for account_id in account_ids}
        stops = [stop for card in self.cards.values() for stop in card.stops]
        for first, second in pairwise([*stops, self.add_button, self.hint_cross]):
            QWidget.setTabOrder(first, second)
        self._show_connection()

    def _make_ready(self, card: AccountCard) -> Iterator[None]:
        """Style a card, and lay it out inside, so that the column has only to put it in its place."""
        for widget in (card, *card.findChildren(QWidget)):
            widget.ensurePolished()
        yield
        width = self._column.contentsRect().width()
        card.resize(width, card.heightForWidth(width))
        if (layout := card.layout()) is not None:
            layout.activate()
        yield

    def _make_card(self, account_id: str) -> AccountCard:
        card = self.cards[account_id] = AccountCard(self.bench.theme, self._inside)
        card.hide()
        card.menu_wanted.connect(partial(self.account_actions.pop_up, account_id))
        card.remedy_wanted.connect(lambda name: self.account_actions.run(name, account_id))
        card.touched.connect(partial(self._touch, account_id))
        return card

    def _touch(self, account_id: str) -> None:
        self._touched = account_id

    def _bring_up(self, account_id: str) -> None:
        """Show the card of an account that was added, once it is there."""
        self._added = account_id
        self.bench.requests.panel_wanted.emit(self.NAME)
        QTimer.singleShot(REFRESH_MS, self, self._scroll_to_added)

    def _scroll_to_added(self) -> None:
        card = self.cards.get(self._added)
        if card is not None:
            self.area.ensureWidgetVisible(card, 0, 8)
            self._touch(self._added)
            self._added = ""

    # ---- showing -----------------------------------------------------------------------------------------------------

    def _show_cards(self) -> None:
        if not self._showing.is_busy:
            self._showing.start(self._show_each(), at_once=len(self.cards) <= AT_ONCE)

    def _show_each(self) -> Iterator[None]:
        for account_id in list(self.cards):
            self._show_card(account_id)
            yield

    def _show_card(self, account_id: str) -> None:
        account, card = self.desk.replica.accounts.get(account_id), self.cards.get(account_id)
        if account is None or card is None:
            return  # it is gone, or about to go: the next frame says so
        card.show_account(account, self.desk.venues.of(account.venue), self.desk.replica)
        if card.tick() and not self._ticking.isActive():
            self._ticking.start()

    def _tick(self) -> None:
        """Count down what rate blocks last still."""
        held = [card for card in self.cards.values() if card.tick()]
        if held:
            self._ticking.start()

    def _show_connection(self) -> None:
        is_connected = self.desk.is_connected
        self.offline.say(
            "Not connected to the engine: this is how it was" if self.cards and not is_connected else "", "warning"
        )
        self.empty_words.say(EMPTY if is_connected else "Waiting for the engine", "muted")
        self.empty_add.setVisible(is_connected)
        self.empty.setVisible(not self.cards)
        self.area.setVisible(bool(self.cards))
        self.add_button.setEnabled(is_connected)
        for name in (_ADD.name, *(command.name for command in _OF_ONE)):
            self.bench.actions[name].setEnabled(is_connected and (name == _ADD.name or bool(self.cards)))
        accounts = self.desk.replica.accounts.values()
        self.hint.setVisible(self._has_hint and not any(each.has_keys for each in accounts))
        self._ask_for_keys()

    def _ask_for_keys(self) -> None:
        """See whether the keys are locked, once some account waits for its own: a keyring may ask its owner."""
        waits = any(
            each.enabled
            and each.state is VenueState.DISCONNECTED
            and (abilities := self.desk.venues.of(each.venue)) is not None
            and needs_keys(abilities, each.mode)
            for each in self.desk.replica.accounts.values()
        )
        if self.desk.is_connected and waits and not self._needed_keys:
            self.secrets.ask()
        elif not waits:
            self.secrets.hide()
        self._needed_keys = waits and self.desk.is_connected

    def _dismiss_hint(self) -> None:
        self._has_hint = False
        self.hint.hide()

    # ---- commands, memory, end ---------------------------------------------------------------------------------------

    def _run(self, name: str) -> None:
        account_id = self._touched if self._touched in self.cards else next(iter(self.cards), "")
        self.account_actions.run(name, account_id)

    def state(self) -> dict[str, Any]:
        """Give whether the hint for people without keys was put away."""
        return {} if self._has_hint else {"hint": False}

    def restore(self, state: dict[str, Any]) -> None:
        """Take it over."""
        self._has_hint = state.get("hint") is not False
        self._show_connection()

    def retire(self) -> None:
        """Close the dialogs, and take the commands away. Safe to call twice."""
        self.account_actions.retire()
        if _ADD.name not in self.bench.actions:
            return
        self.desk.framed.disconnect(self._on_frame)
        self.desk.linked.disconnect(self._on_link)
        self.desk.venues.changed.disconnect(self._show_cards)
        for command in (_ADD, *_OF_ONE):
            self.bench.actions.remove(command.name)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for a narrow column."""
        return QSize(300, 400)
