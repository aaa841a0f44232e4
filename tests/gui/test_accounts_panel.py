"""Accounts: their mode, whether they can trade, what is in them, and what that is worth."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from koc_qt.domain.accounts import AccountLimits
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Quote
from koc_qt.domain.risk import RiskLimits
from koc_qt.domain.state import (
    AccountSnapshot,
    Balance,
    TradingMode,
    VenueSnapshot,
    VenueState,
)
from koc_qt.domain.venues import Quota
from koc_qt.link.account_messages import AccountLimitsChanged
from koc_qt.link.messages import AccountChanged, AccountRemoved, QuoteChanged, VenueChanged
from koc_qt.link.replica import Replica
from koc_qt.ui.panels.accounts import AccountsPanel
from koc_qt.ui.panels.accounts_card import MOST_ROWS, AccountCard
from koc_qt.ui.panels.accounts_worth import Worth, worths
from koc_qt.ui.theme import ThemeChoice
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC, BTC_RULES, START_NS

EUR = InstrumentId("sim", "BTC/EUR")
EUR_RULES = Instrument(EUR, "BTC", "EUR", Decimal("0.01"), Decimal("0.0001"))


@pytest.fixture
def panel(fake: FakeBench) -> AccountsPanel:
    panel = AccountsPanel(fake.bench, fake.window)
    panel.resize(300, 400)
    fake.window.show()
    panel.show()
    return panel


def account(
    account_id: str = "paper",
    *balances: Balance,
    venue: str = "sim",
    mode: TradingMode = TradingMode.PAPER,
    state: VenueState = VenueState.CONNECTED,
) -> AccountSnapshot:
    return AccountSnapshot(account_id, venue, mode, state, balances, START_NS)


def balance(currency: str, total: str, locked: str = "0") -> Balance:
    return Balance(currency, Decimal(total), Decimal(locked))


def quote(instrument: InstrumentId, bid: str, ask: str) -> Quote:
    return Quote(instrument, START_NS, Decimal(bid), Decimal(1), Decimal(ask), Decimal(1))


def texts(card: AccountCard) -> list[list[str]]:
    """Give the cells that are shown."""
    model = card.model
    return [
        [model.index(row, place).data() for place in range(model.columnCount()) if not card.table.isColumnHidden(place)]
        for row in range(model.rowCount())
    ]


def test_an_account_and_what_is_in_it(panel: AccountsPanel, qtbot: QtBot) -> None:
    card = panel.cards["paper"]
    qtbot.waitUntil(lambda: card.state.text() == "Simulated market · connected")
    assert (card.name.text(), card.mode.text(), card.activity.text()) == ("paper", "Paper", "Idle")
    assert card.mode.property("pill") == "paper"
    assert "on paper" in card.mode.toolTip()
    assert not card.trouble.isVisible()
    assert not card.remedy.isVisible()
    assert texts(card) == [["USDT", "10,000.00", "10,000.00"]]
    assert card.worth.text() == "10,000.00 USDT"
    assert not panel.empty.isVisible()


def test_balances_follow_and_are_valued(panel: AccountsPanel, fake: FakeBench, qtbot: QtBot) -> None:
    panel.resize(700, 400)
    card = panel.cards["paper"]
    held = (balance("USDT", "900", "100"), balance("BTC", "0.5"), balance("BNB", "0"))
    fake.engine.publish(AccountChanged(account("paper", *held)))
    qtbot.waitUntil(lambda: len(texts(card)) == 2)
    assert texts(card) == [["USDT", "900.00", "100.00", "800.00", "900.00"], ["BTC", "0.5", "0", "0.5", "—"]]
    assert card.worth.text() == "Values in USDT, where a price is known"
    fake.engine.publish(QuoteChanged(quote(BTC, "999", "1001")))
    qtbot.waitUntil(lambda: card.worth.text() == "≈ 1,400.00 USDT")
    assert texts(card)[1][-1] == "500.00"
    value = card.model.index(1, card.model.columnCount() - 1)
    assert value.data(Qt.ItemDataRole.ToolTipRole) == "At 1,000.00, the middle of sim:BTC/USDT"


def test_columns_make_way_in_a_narrow_dock(panel: AccountsPanel, fake: FakeBench, qtbot: QtBot) -> None:
    card = panel.cards["paper"]
    fake.engine.publish(AccountChanged(account("paper", balance("USDT", "1234567.89", "1234.56"))))
    qtbot.waitUntil(lambda: texts(card)[0][1] == "1,234,567.89")
    assert len(texts(card)[0]) == 3
    width = sum(card.table.columnWidth(n) for n in range(5) if not card.table.isColumnHidden(n))
    assert width <= card.table.viewport().width()
    panel.resize(800, 400)
    qtbot.waitUntil(lambda: texts(card)[0][2:4] == ["1,234.56", "1,233,333.33"])


def test_what_is_gone_from_an_account_goes(panel: AccountsPanel, fake: FakeBench, qtbot: QtBot) -> None:
    card = panel.cards["paper"]
    fake.engine.publish(AccountChanged(account("paper", balance("BTC", "1"))))
    qtbot.waitUntil(lambda: texts(card) == [["BTC", "1", "—"]])
    assert not card.worth.isVisible()
    fake.engine.publish(AccountChanged(account("paper")))
    qtbot.waitUntil(lambda: not texts(card))
    fake.engine.publish(AccountChanged(account("paper", *(balance(f"C{n}", "1") for n in range(30)))))
    qtbot.waitUntil(lambda: len(texts(card)) == 30)
    assert card.table.height() < 30 * 24
    assert card.table.height() > MOST_ROWS * 24


def test_accounts_come_and_go(panel: AccountsPanel, fake: FakeBench, qtbot: QtBot) -> None:
    name = "an-account-with-a-name-that-is-much-too-long-for-a-dock"
    fake.engine.publish(AccountChanged(account(name, venue="binance", mode=TradingMode.LIVE)))
    qtbot.waitUntil(lambda: len(panel.cards) == 2)
    card = panel.cards[name]
    qtbot.waitUntil(lambda: card.mode.text() == "LIVE")
    assert card.mode.property("pill") == "real-money"
    qtbot.waitUntil(lambda: card.name.text().endswith("…"))
    assert card.name.toolTip() == name
    assert card.y() < panel.add_button.y()
    fake.engine.publish(AccountRemoved(name))
    qtbot.waitUntil(lambda: list(panel.cards) == ["paper"])
    fake.engine.publish(AccountChanged(account(name)))
    qtbot.waitUntil(lambda: len(panel.cards) == 2)
    fake.client.connect()
    qtbot.waitUntil(lambda: list(panel.cards) == ["paper"])


def test_one_that_is_gone_before_its_frame_does_no_harm(panel: AccountsPanel, fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.accounts.snapshots.clear()
    fake.client.connect()
    panel.desk.venues.changed.emit()  # before the frame comes
    qtbot.waitUntil(lambda: not panel.cards)
    assert panel.empty.isVisible()


def test_a_venue_in_trouble_says_what_is_the_matter(panel: AccountsPanel, fake: FakeBench, qtbot: QtBot) -> None:
    card = panel.cards["paper"]
    fake.engine.publish(
        VenueChanged(VenueSnapshot("sim", VenueState.INTERRUPTED, "no answer for 5 s", 1, "open", START_NS))
    )
    qtbot.waitUntil(card.trouble.isVisible)
    assert card.trouble.text() == (
        "Market data interrupted: no answer for 5 s\nBreaker open: requests are held back until the venue has recovered"
    )
    fake.engine.publish(AccountChanged(account(state=VenueState.DISCONNECTED)))
    qtbot.waitUntil(lambda: card.state.text() == "Simulated market · disconnected")
    assert card.state.property("tone") == "danger"
    fake.engine.publish(VenueChanged(VenueSnapshot("sim", VenueState.CONNECTED, "", 1, "closed", START_NS)))
    fake.engine.publish(AccountChanged(account()))
    qtbot.waitUntil(lambda: not card.trouble.isVisible())
    fake.engine.publish(AccountChanged(account(venue="elsewhere")))
    qtbot.waitUntil(lambda: card.trouble.text() == "No market data of elsewhere")


def test_a_lost_engine_leaves_what_was_known(panel: AccountsPanel, fake: FakeBench) -> None:
    assert not panel.offline.isVisible()
    fake.client.lose()
    assert panel.offline.isVisible()
    assert texts(panel.cards["paper"])
    fake.client.connect()
    assert not panel.offline.isVisible()


def test_no_accounts(fake: FakeBench, qtbot: QtBot) -> None:
    fake.desk.replica.accounts.clear()
    panel = AccountsPanel(fake.bench, fake.window)
    fake.window.show()
    panel.show()
    assert panel.empty.isVisible()
    assert "needs no keys" in panel.empty_words.text()
    fake.client.lose()
    assert panel.empty_words.text() == "Waiting for the engine"
    assert not panel.empty_add.isVisible()
    fake.client.connect()
    qtbot.waitUntil(lambda: bool(panel.cards) and not panel.empty.isVisible())


@pytest.mark.parametrize("theme", [ThemeChoice.DARK, ThemeChoice.LIGHT])
@pytest.mark.parametrize("width", [120, 300, 900])
def test_any_size_is_painted(panel: AccountsPanel, fake: FakeBench, theme: ThemeChoice, width: int) -> None:
    fake.theme.set_choice(theme)
    panel.resize(width, 400)
    assert not panel.grab().isNull()


def test_what_venue_and_engine_let_an_account_do_is_shown(panel: AccountsPanel, fake: FakeBench, qtbot: QtBot) -> None:
    card = panel.cards["paper"]
    qtbot.waitUntil(lambda: card.risk.text() == "")  # of an engine that has not said
    quotas = (Quota("orders", 12, 100, 10.0), Quota("requests", 340, 6_000, 60.0))
    told, snapshot = AccountLimits("paper", quotas, can_withdraw=False), fake.engine.snapshot()
    with_risk = msgspec.structs.replace(snapshot, risk=RiskLimits(), limits=(told,))
    fake.engine.snapshot = lambda: with_risk  # type: ignore[method-assign]
    with qtbot.waitSignal(panel.desk.venues.changed):  # asked for again, and then every card is shown
        fake.client.connect()
    qtbot.waitUntil(lambda: card.limits.isVisible() and not panel._showing.is_busy and not panel._refreshing.isActive())
    words = "Orders: 12 of 100 in 10 s · Requests: 340 of 6,000 a minute · the key cannot withdraw"
    assert card.limits.text().replace("\xa0", " ") == words
    assert "cancels go out to the last" in card.limits.toolTip()
    risk = "Risk, each strategy: 50,000 an order · 100,000 a position · loss of 5,000 a day"
    assert card.risk.text().replace("\xa0", " ") == risk
    assert "300 orders a minute · 5 % beyond the price" in card.risk.toolTip()
    assert card.limits.property("tone") == "muted"

    shows: list[object] = []
    card.show_account = lambda *given: shows.append(given)  # type: ignore[method-assign]
    nearly = (msgspec.structs.replace(quotas[1], used=4_900),)
    fake.engine.publish(AccountLimitsChanged(AccountLimits("paper", nearly, can_withdraw=False)))
    qtbot.waitUntil(lambda: card.limits.property("tone") == "warning")
    fake.engine.publish(AccountLimitsChanged(AccountLimits("paper", (), can_withdraw=True)))
    qtbot.waitUntil(lambda: card.limits.text() == "The\xa0key\xa0may\xa0withdraw")
    assert "make one that may not" in card.limits.toolTip()
    fake.engine.publish(AccountLimitsChanged(AccountLimits("paper")))
    qtbot.waitUntil(lambda: not card.limits.isVisible())
    assert shows == [], "the rest of the card has nothing to do with it"


def test_an_account_that_takes_no_orders_has_no_limits(panel: AccountsPanel, fake: FakeBench, qtbot: QtBot) -> None:
    desk, limits = panel.desk.replica, AccountLimits("paper", (Quota("orders", 1, 2, 3.0),))
    desk.risk, desk.limits = RiskLimits(), {"paper": limits}
    fake.engine.publish(AccountChanged(account("paper", mode=TradingMode.DATA)))
    card = panel.cards["paper"]
    qtbot.waitUntil(lambda: card.limits.isVisible() and not card.risk.isVisible())
    fake.engine.publish(AccountChanged(msgspec.structs.replace(account("paper"), enabled=False)))
    qtbot.waitUntil(lambda: not card.limits.isVisible() and not card.risk.isVisible())


# ---- worth ----------------------------------------------------------------------------------------------------------


def replica_with(*quotes: Quote, rules: tuple[Instrument, ...] = (BTC_RULES, EUR_RULES)) -> Replica:
    replica = Replica()
    replica.instruments = {each.id: each for each in rules}
    replica.quotes = {each.instrument: each for each in quotes}
    return replica


def values(venue: str, replica: Replica, *balances: Balance) -> tuple[list[Any], Worth | None]:
    holdings, total = worths(venue, balances, replica)
    return [holding.worth for holding in holdings], total


def test_the_currency_that_people_reckon_in_is_preferred() -> None:
    replica = replica_with(quote(EUR, "899", "901"), quote(BTC, "999", "1001"))
    worth = Worth(Decimal(2_000), "USDT")
    assert values("sim", replica, balance("BTC", "2")) == ([worth], worth)


def test_amounts_of_two_currencies_are_never_added() -> None:
    replica = replica_with(quote(BTC, "999", "1001"))
    held = (balance("BTC", "1"), balance("EUR", "5"))
    found, total = values("sim", replica, *held)
    assert found == [Worth(Decimal(1_000), "USDT"), Worth(Decimal(5), "EUR")]
    assert total is None
    assert [holding.words for holding in worths("sim", held, replica)[0]] == ["1,000.00 USDT", "5.00 EUR"]


def test_what_has_no_price_has_no_worth() -> None:
    replica = replica_with(quote(BTC, "0", "1001"))
    assert values("sim", replica, balance("BTC", "1"), balance("USDT", "5")) == (
        [None, Worth(Decimal(5), "USDT")],
        None,
    )
    elsewhere = replica_with(quote(BTC, "9", "11"))
    assert values("elsewhere", elsewhere, balance("BTC", "1")) == ([None], None)
    held = (balance("BTC", "1"), balance("EUR", "3"), balance("USD", "2"))
    assert values("elsewhere", elsewhere, *held) == ([None, None, Worth(Decimal(2), "USD")], None)
    assert values("sim", replica) == ([], None)
    holding = worths("sim", [balance("BTC", "1")], replica)[0][0]
    assert holding.words == "—"
    assert holding.why == "No price of BTC is known: open a chart of it to see its worth"
