"""The order ticket on a fake engine: filling in, checking, prices, accounts and symbols, what is remembered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QApplication, QDockWidget
from pytestqt.qtbot import QtBot

from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Side, StreamState
from koc_qt.domain.orders import OrderRequest, OrderType, TimeInForce
from koc_qt.domain.state import AccountSnapshot, Balance, TradingMode, VenueState
from koc_qt.link.account_messages import ListVenues
from koc_qt.link.messages import ListInstruments, SubmitOrder, Subscribe, Unsubscribe
from koc_qt.ui.panels.ticket import TicketPanel
from koc_qt.ui.panels.ticket_draft import Field
from tests.fakes.accounts import SIM
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC
from tests.gui.ticket_stage import (
    ETH,
    FAR,
    D,
    Ticket,
    ticket_fixture,  # noqa: F401
)

# ---- checks at the fields -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Enter how much, in BTC"),
        ("-1", "Must be above zero; the side is chosen above"),
        ("\u22121", "Must be above zero; the side is chosen above"),
        ("0", "Must be above zero"),
        ("0,5", "Write a point for decimals: 0.5"),
        ("1,234", "Write 1234 or 1.234: 1,234 can be read as either"),
        ("1e5", "Not a number: write digits and a point, such as 1234.5"),
        ("NaN", "Not a number: write digits and a point, such as 1234.5"),
        ("\u0661\u0662", "Not a number: write digits and a point, such as 1234.5"),
        ("9" * 19, "Too large: at most 18 digits before the point"),
        ("1" * 60, "This is too long for a number"),
        ("0.00005", "Not a multiple of 0.0001: the nearest is 0.0001"),
        ("0.12345", "Not a multiple of 0.0001: the nearest is 0.1234"),
        ("0.0001", "The least is worth 5 USDT, 0.05 BTC here"),
    ],
)
def test_a_quantity_that_will_not_do_is_named_at_its_field(ticket: Ticket, text: str, words: str) -> None:
    ticket.type_in(Field.QUANTITY, text)
    ticket.click()
    assert ticket.problem(Field.QUANTITY) == words
    assert ticket.form.numbers[Field.QUANTITY].property("invalid") is True
    assert ticket.form.numbers[Field.QUANTITY].hasFocus()
    assert not ticket.panel.sending.is_busy
    ticket.type_in(Field.QUANTITY, "1")
    assert ticket.problem(Field.QUANTITY) == ""
    assert not ticket.form.numbers[Field.QUANTITY].property("invalid")


def test_prices_are_on_the_grid(ticket: Ticket) -> None:
    ticket.choose(OrderType.STOP_LIMIT)
    ticket.type_in(Field.QUANTITY, "1")
    ticket.click()
    assert (ticket.problem(Field.PRICE), ticket.problem(Field.STOP)) == ("Enter a price", "Enter a stop price")
    assert ticket.form.numbers[Field.PRICE].hasFocus()
    ticket.type_in(Field.PRICE, "1,234.567")
    ticket.type_in(Field.STOP, "0.001")
    assert ticket.problem(Field.PRICE) == "Not a multiple of 0.01: the nearest is 1,234.57"
    assert ticket.problem(Field.STOP) == "Not a multiple of 0.01: the nearest is 0.01"


def test_separators_that_can_mean_one_thing_alone_are_taken(ticket: Ticket) -> None:
    ticket.choose(OrderType.LIMIT)
    ticket.type_in(Field.PRICE, "1,234.50")
    ticket.type_in(Field.QUANTITY, "1\u00a0000")
    ticket.click()
    request = ticket.until_sent()
    assert (request.price, request.quantity) == (D("1234.50"), D(1000))


def test_a_problem_waits_until_typing_pauses(ticket: Ticket, qtbot: QtBot) -> None:
    field = ticket.form.numbers[Field.QUANTITY]
    field.setFocus()
    qtbot.keyClicks(field, "0")
    assert ticket.problem(Field.QUANTITY) == ""
    qtbot.waitUntil(lambda: ticket.problem(Field.QUANTITY) == "Must be above zero")
    qtbot.keyClicks(field, ".5")
    assert ticket.problem(Field.QUANTITY) == ""


def test_the_largest_numbers_break_nothing(ticket: Ticket) -> None:
    ticket.choose(OrderType.LIMIT)
    ticket.type_in(Field.PRICE, "9" * 18 + ".99")
    ticket.type_in(Field.QUANTITY, "9" * 18 + ".9999")
    assert "e+" in ticket.form.worth.text()
    assert ticket.form.send.text() == "Buy BTC"
    ticket.click()
    assert ticket.until_sent().quantity == D("9" * 18 + ".9999")


# ---- prices of the market -------------------------------------------------------------------------------------------


def test_the_market_streams_while_the_ticket_is_seen(ticket: Ticket, fake: FakeBench, qtbot: QtBot) -> None:
    assert set(fake.sent(Subscribe)) == {Subscribe(BTC, ())}
    assert ticket.form.quotes.spread.text() == "1.00"
    ticket.panel.hide()
    qtbot.waitUntil(lambda: fake.sent(Unsubscribe) == [Unsubscribe(BTC)])
    ticket.panel.show()
    qtbot.waitUntil(lambda: fake.bench.streams.is_flowing(BTC))
    ticket.panel.retire()
    qtbot.waitUntil(lambda: len(fake.sent(Unsubscribe)) == 2)
    assert "ticket.buy" not in fake.bench.actions


def test_a_click_takes_a_price(ticket: Ticket, qtbot: QtBot) -> None:
    qtbot.mouseClick(ticket.form.quotes.bid, Qt.MouseButton.LeftButton)
    assert ticket.form.type.value() == OrderType.LIMIT
    assert ticket.form.numbers[Field.PRICE].text() == "99.00"
    ticket.choose(OrderType.STOP)
    qtbot.mouseClick(ticket.form.quotes.ask, Qt.MouseButton.LeftButton)
    assert ticket.form.numbers[Field.STOP].text() == "100.00"
    qtbot.keyClick(ticket.form.numbers[Field.STOP], Qt.Key.Key_Up)
    assert ticket.form.numbers[Field.STOP].text() == "100.01"
    qtbot.keyClick(ticket.form.numbers[Field.STOP], Qt.Key.Key_Down)
    qtbot.keyClick(ticket.form.numbers[Field.STOP], Qt.Key.Key_Down)
    assert ticket.form.numbers[Field.STOP].text() == "99.99"


def test_the_fee_is_the_makers_only_where_the_order_rests(ticket: Ticket) -> None:
    ticket.choose(OrderType.LIMIT)
    ticket.type_in(Field.QUANTITY, "1")
    ticket.type_in(Field.PRICE, "99.50")
    assert ticket.form.fee.text() == "0.0199 USDT · maker 0.02 %"
    ticket.type_in(Field.PRICE, "100")
    assert ticket.form.fee.text() == "0.1000 USDT · taker 0.1 %"
    ticket.form.post_only.click()
    assert "maker" in ticket.form.fee.text()
    ticket.panel.choose_side(Side.SELL)
    ticket.form.post_only.click()
    assert "maker" in ticket.form.fee.text()
    ticket.type_in(Field.PRICE, "99")
    assert "taker" in ticket.form.fee.text()


def test_a_market_that_stands_still_says_so_and_its_price_counts_no_more(
    ticket: Ticket, fake: FakeBench, qtbot: QtBot
) -> None:
    ticket.type_in(Field.QUANTITY, "1")
    fake.engine.stream(StreamState.INTERRUPTED, "the venue is away")
    qtbot.waitUntil(lambda: ticket.form.quotes.trouble.text() == "Prices are interrupted: the venue is away")
    assert not ticket.form.quotes.ask.isEnabled()
    assert ticket.form.worth.text() == "—"
    fake.engine.stream(StreamState.CONNECTED)
    qtbot.waitUntil(lambda: ticket.form.worth.text() == "100.00 USDT")


def test_a_price_of_earlier_is_not_a_price_of_now(ticket: Ticket, fake: FakeBench, qtbot: QtBot) -> None:
    ticket.type_in(Field.QUANTITY, "1")
    for goes, comes in ((ticket.panel.hide, ticket.panel.show), (fake.client.lose, fake.client.connect)):
        goes()
        qtbot.waitUntil(lambda goes=goes: goes == fake.client.lose or not fake.bench.streams.is_flowing(BTC))
        comes()
        qtbot.waitUntil(lambda: fake.bench.streams.is_flowing(BTC) and not ticket.form.quotes.ask.isEnabled())
        assert ticket.form.quotes.ask.value.text() == "100.00"
        assert ticket.form.worth.text() == "—"
        ticket.quote()
        assert ticket.form.worth.text() == "100.00 USDT"


def test_a_narrow_ticket_shows_every_digit(ticket: Ticket, fake: FakeBench) -> None:
    ticket.quote("1234567.89", "1234568.01")
    for width in (300, 260):
        fake.window.resize(width, 300)
        ticket.panel.resize(width, 300)
        QApplication.processEvents()
        for button, text in ((ticket.form.quotes.bid, "1,234,567.89"), (ticket.form.quotes.ask, "1,234,568.01")):
            assert button.value.text() == text
            assert button.value.fontMetrics().horizontalAdvance(text) <= button.value.width()
        assert ticket.form._scroll.horizontalScrollBar().maximum() == 0
        content = ticket.form._scroll.widget()
        viewport = ticket.form._scroll.viewport()
        assert content is not None
        assert viewport is not None
        assert content.width() <= viewport.width()
        assert ticket.form.send.isVisible()


# ---- how much -------------------------------------------------------------------------------------------------------


def test_a_quantity_can_be_an_amount_of_quote_currency(ticket: Ticket) -> None:
    ticket.type_in(Field.QUANTITY, "0.5")
    ticket.form.unit.click()
    assert (ticket.form.unit.text(), ticket.form.numbers[Field.QUANTITY].text()) == ("USDT", "50")
    ticket.form.unit.click()
    assert (ticket.form.unit.text(), ticket.form.numbers[Field.QUANTITY].text()) == ("BTC", "0.5")
    ticket.form.unit.click()
    ticket.type_in(Field.QUANTITY, "33.33")
    assert ticket.form.send.text() == "Buy 0.3333 BTC"
    ticket.panel.choose_side(Side.SELL)
    assert ticket.form.send.text() == "Sell 0.3366 BTC"
    ticket.type_in(Field.QUANTITY, "0.001")
    assert ticket.problem(Field.QUANTITY) == "This is worth less than the smallest step of 0.0001 BTC"
    ticket.type_in(Field.QUANTITY, "33.33")
    ticket.click()
    assert ticket.until_sent() == OrderRequest(BTC, Side.SELL, OrderType.MARKET, D("0.3366"))


def test_an_amount_without_a_price_is_refused(ticket: Ticket, fake: FakeBench, qtbot: QtBot) -> None:
    ticket.form.unit.click()
    ticket.type_in(Field.QUANTITY, "50")
    fake.engine.stream(StreamState.INTERRUPTED)
    qtbot.waitUntil(lambda: ticket.problem(Field.QUANTITY) == "No price is known yet: enter the quantity in BTC")
    ticket.click()
    assert not ticket.panel.sending.is_busy


@pytest.mark.parametrize(("percent", "quantity"), [(25, "24.975"), (50, "49.95"), (100, "99.9")])
def test_a_share_of_the_balance_leaves_room_for_the_fee(ticket: Ticket, percent: int, quantity: str) -> None:
    assert ticket.form.free.text() == "10,000 USDT"
    ticket.form.shares[percent].click()
    bought = D(ticket.form.numbers[Field.QUANTITY].text())
    assert D(quantity) <= bought < D(quantity) + D("0.01")
    assert bought * 100 * D("1.001") <= D(10_000) * percent / 100
    ticket.form.unit.click()
    ticket.form.shares[percent].click()
    assert D(ticket.form.numbers[Field.QUANTITY].text()) == bought * 100
    assert ticket.form.send.text() == f"Buy {bought.normalize():f} BTC"


def test_a_share_of_what_is_held_is_sold(ticket: Ticket) -> None:
    ticket.panel.choose_side(Side.SELL)
    ticket.form.shares[50].click()
    assert ticket.problem(Field.QUANTITY) == "The account has no free BTC"
    ticket.account(balances=(Balance("BTC", D("1.00019"), D("0.5")), Balance("USDT", D(7))))
    ticket.qtbot.waitUntil(lambda: ticket.form.free.text() == "0.50019 BTC")
    ticket.form.shares[100].click()
    assert ticket.form.numbers[Field.QUANTITY].text() == "0.5001"
    assert ticket.problem(Field.QUANTITY) == ""


def test_what_is_available_is_shown_without_noise_and_never_as_more(ticket: Ticket) -> None:
    free = ticket.form.free
    ticket.account(balances=(Balance("BTC", D("0.1234567899"), D(0)), Balance("USDT", D("99987.1299999999"), D(0))))
    ticket.qtbot.waitUntil(lambda: free.text() == "99,987.12 USDT")
    ticket.panel.choose_side(Side.SELL)
    assert free.text() == "0.12345678 BTC"


# ---- account and symbol ---------------------------------------------------------------------------------------------


def test_an_account_of_another_venue_is_refused(ticket: Ticket) -> None:
    ticket.account(account_id="far", venue="elsewhere", mode=TradingMode.LIVE)
    ticket.form.account.choose("far")
    ticket.form.account.activated.emit(1)
    ticket.type_in(Field.QUANTITY, "1")
    ticket.click()
    assert ticket.problem(Field.ACCOUNT) == "far trades at elsewhere, not at sim"
    assert ticket.form.account.hasFocus()
    assert not ticket.orders


def test_a_market_of_another_venue_takes_the_only_account_there_without_real_money(
    ticket: Ticket, fake: FakeBench
) -> None:
    ticket.account(account_id="real", venue="elsewhere", mode=TradingMode.LIVE)
    fake.requests.open_ticket(FAR)
    assert ticket.form.account.value() == "paper"
    assert ticket.problem(Field.ACCOUNT) == "paper trades at sim, not at elsewhere"
    fake.requests.open_ticket(BTC)
    ticket.account(account_id="test", venue="elsewhere", mode=TradingMode.TESTNET)
    fake.requests.open_ticket(FAR)
    assert ticket.form.account.value() == "test"
    assert ticket.problem(Field.ACCOUNT) == ""


def test_an_account_that_is_not_connected_says_so(ticket: Ticket) -> None:
    ticket.account(state=VenueState.INTERRUPTED)
    ticket.qtbot.waitUntil(
        lambda: ticket.form.account_hint.text() == "This account is interrupted: orders may be refused"
    )
    assert ticket.form.send.isEnabled()


def test_a_symbol_that_is_typed_is_traded(ticket: Ticket, qtbot: QtBot) -> None:
    ticket.type_in(Field.QUANTITY, "1")
    line = ticket.form.picker.lineEdit()
    assert line is not None
    line.setFocus()
    line.selectAll()
    qtbot.keyClicks(line, "eth/usdt")
    assert ticket.panel.market.instrument is None
    ticket.panel.send()
    assert ticket.problem(Field.SYMBOL) != ""
    qtbot.keyClick(line, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: ticket.panel.market.instrument == ETH)
    assert ticket.form.unit.text() == "ETH"
    assert ticket.form.numbers[Field.QUANTITY].text() == ""  # it was of BTC
    qtbot.keyClicks(line, "nonsense")
    qtbot.keyClick(line, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: "There is no symbol" in ticket.problem(Field.SYMBOL))
    assert not ticket.orders


def test_rules_that_the_snapshot_lacks_are_fetched(ticket: Ticket, fake: FakeBench, qtbot: QtBot) -> None:
    new = InstrumentId("sim", "NEW/USDT")
    fake.requests.open_ticket(new)
    qtbot.waitUntil(lambda: "there is no sim:NEW/USDT" in ticket.problem(Field.SYMBOL))
    assert ticket.form.send.text() == "Buy"
    fake.engine.instruments.append(Instrument(new, "NEW", "USDT", D(1), D(10)))
    ticket.click()  # asks again
    qtbot.waitUntil(lambda: ticket.form.unit.text() == "NEW")
    assert fake.sent(ListInstruments)[-1].text == "NEW/USDT"
    ticket.type_in(Field.QUANTITY, "15")
    assert ticket.problem(Field.QUANTITY) == "Not a multiple of 10: the nearest is 10"


def test_no_account_at_all_is_said(fake: FakeBench, qtbot: QtBot) -> None:
    fake.desk.take(msgspec.structs.replace(fake.engine.snapshot(), accounts=()))
    panel = TicketPanel(fake.bench, fake.window)
    fake.window.show()
    qtbot.waitUntil(lambda: panel.form.rows[Field.ACCOUNT].problem.text() == "There is no account yet")
    panel.send()
    assert not fake.sent(SubmitOrder)


# ---- what others ask for --------------------------------------------------------------------------------------------


def test_a_price_makes_it_a_limit_order_and_a_side_alone_a_market_order(ticket: Ticket, fake: FakeBench) -> None:
    shown: list[str] = []
    fake.requests.panel_wanted.connect(shown.append)
    fake.requests.open_ticket(BTC, Side.SELL, D("101.5"))
    assert ticket.form.type.value() == OrderType.LIMIT
    assert ticket.form.numbers[Field.PRICE].text() == "101.50"
    assert ticket.panel.side is Side.SELL
    assert ticket.form.numbers[Field.QUANTITY].hasFocus()
    assert shown == ["ticket"]
    fake.requests.open_ticket(ETH, Side.BUY)
    assert ticket.form.type.value() == OrderType.MARKET
    assert ticket.panel.market.instrument == ETH
    assert ticket.form.numbers[Field.PRICE].text() == ""
    ticket.choose(OrderType.STOP)
    fake.requests.open_ticket(ETH)
    assert ticket.form.type.value() == OrderType.STOP
    assert ticket.panel.side is Side.BUY


def test_it_follows_what_is_looked_at_unless_it_is_being_filled_in(ticket: Ticket, fake: FakeBench) -> None:
    follow: Callable[[InstrumentId], None] = fake.requests.instrument_chosen.emit
    follow(ETH)
    assert ticket.panel.market.instrument == ETH
    ticket.type_in(Field.QUANTITY, "1")
    follow(BTC)
    assert ticket.panel.market.instrument == ETH
    ticket.form.numbers[Field.QUANTITY].clear()
    follow(BTC)
    assert ticket.panel.market.instrument == BTC
    ticket.form.picker.setFocus()
    follow(ETH)
    assert ticket.panel.market.instrument == BTC
    ticket.type_in(Field.QUANTITY, "1")
    ticket.click()
    ticket.until_sent()
    follow(ETH)  # what was sent is done with
    assert ticket.panel.market.instrument == ETH


def test_commands_only_go_to_the_ticket(ticket: Ticket, fake: FakeBench) -> None:
    actions = fake.bench.actions
    assert actions.commands["ticket.buy"].menu == "&Trade"
    assert actions["ticket.sell"].shortcut().toString() == "Shift+F9"
    ticket.type_in(Field.QUANTITY, "1")
    ticket.form.account.setFocus()
    actions.run("ticket.sell")
    assert ticket.panel.side is Side.SELL
    assert ticket.form.numbers[Field.QUANTITY].hasFocus()
    assert ticket.form.numbers[Field.QUANTITY].selectedText() == "1"
    assert not ticket.panel.sending.is_busy
    actions.run("ticket.buy")
    assert ticket.panel.side is Side.BUY
    assert (ticket.form.sides[Side.BUY].property("role"), ticket.form.sides[Side.SELL].property("role")) == (
        "buy",
        None,
    )


# ---- what is remembered ---------------------------------------------------------------------------------------------


def test_it_is_there_again(ticket: Ticket, fake: FakeBench) -> None:
    ticket.choose(OrderType.STOP_LIMIT)
    ticket.form.time.choose(TimeInForce.IOC)
    ticket.form.unit.click()
    ticket.type_in(Field.QUANTITY, "1 234.5")
    state = msgspec.json.decode(msgspec.json.encode(ticket.panel.state()))
    assert state == {
        "account": "paper",
        "instrument": "sim:BTC/USDT",
        "type": "stop_limit",
        "quantity": "1 234.5",
        "in_quote": True,
        "time_in_force": "ioc",
    }
    ticket.panel.retire()
    again = TicketPanel(fake.bench, fake.window)
    again.restore(state)
    assert again.state() == state


def test_what_is_remembered_may_be_anything(ticket: Ticket) -> None:
    before = ticket.panel.state()
    for state in (
        {},
        {"account": 7, "instrument": 7, "type": 7, "quantity": 7.5e300, "time_in_force": None, "in_quote": "yes"},
        {"instrument": ":", "type": "soon", "quantity": "-1", "time_in_force": []},
        {"quantity": "1" * 10_000, "in_quote": True},
    ):
        ticket.panel.restore(state)
        assert ticket.panel.state() == before


def test_an_account_that_comes_later_is_chosen_again(ticket: Ticket) -> None:
    ticket.panel.restore({"account": "later", "instrument": str(BTC)})
    assert ticket.form.account.value() == ""
    assert ticket.problem(Field.ACCOUNT) == "There is no account later"
    ticket.account(account_id="later")
    assert ticket.form.account.value() == "later"
    assert ticket.problem(Field.ACCOUNT) == ""


# ---- keyboard and wheel ---------------------------------------------------------------------------------------------


def test_tab_goes_from_top_to_bottom(ticket: Ticket, qtbot: QtBot) -> None:
    ticket.choose(OrderType.LIMIT)
    form = ticket.form
    form.type.setFocus()
    for following in (form.time, form.numbers[Field.PRICE], form.numbers[Field.QUANTITY], form.unit, form.shares[25]):
        focus = QApplication.focusWidget()
        assert focus is not None
        qtbot.keyClick(focus, Qt.Key.Key_Tab)
        assert following.hasFocus()


def test_the_wheel_changes_no_order(ticket: Ticket) -> None:
    ticket.choose(OrderType.LIMIT)
    for choice in (ticket.form.type, ticket.form.time, ticket.form.account):
        before = choice.currentIndex()
        choice.setFocus()
        middle = choice.rect().center()
        event = QWheelEvent(
            middle.toPointF(),
            choice.mapToGlobal(middle).toPointF(),
            QPoint(0, 0),
            QPoint(0, -120),
            Qt.MouseButton.NoButton,
            Qt.KeyboardModifier.NoModifier,
            Qt.ScrollPhase.NoScrollPhase,
            False,
        )
        QApplication.sendEvent(choice, event)
        assert choice.currentIndex() == before


def test_accounts_are_listed_as_they_come(ticket: Ticket) -> None:
    ticket.account(account_id="second", mode=TradingMode.SIMULATED)
    accounts = ticket.panel.desk.replica.accounts
    assert isinstance(accounts["second"], AccountSnapshot)
    assert [ticket.form.account.itemText(row) for row in range(ticket.form.account.count())] == ["paper", "second"]
    assert ticket.form.account.value() == "paper"


# ---- made in steps --------------------------------------------------------------------------------------------------


def test_nothing_reaches_a_ticket_that_is_half_made(fake: FakeBench, qtbot: QtBot) -> None:
    fake.window.show()
    dock = QDockWidget(fake.window)
    panel = TicketPanel(replace(fake.bench, in_steps=True), dock)
    while panel.make_part():
        assert "ticket.buy" not in fake.bench.actions
        for change in (dock.show, dock.hide, fake.client.lose, fake.client.connect):
            change()
            QApplication.processEvents()
        fake.requests.open_ticket(BTC, Side.SELL)
        assert not panel.isVisible()
    assert panel.form.account.value() == "paper"
    assert not fake.sent(Subscribe)
    dock.setWidget(panel)
    dock.show()
    fake.bench.actions.run("ticket.sell")
    fake.requests.open_ticket(BTC, Side.SELL)
    assert panel.isVisible()
    assert panel.side is Side.SELL
    qtbot.waitUntil(lambda: fake.bench.streams.is_flowing(BTC))


# ---- what the venue can do ------------------------------------------------------------------------------------------


def offered(ticket: Ticket) -> tuple[list[str], list[str]]:
    form = ticket.form
    return [str(form.type.itemData(n)) for n in range(form.type.count())], [
        str(form.time.itemData(n)) for n in range(form.time.count())
    ]


def test_only_what_the_account_s_venue_can_do_is_offered(ticket: Ticket) -> None:
    ticket.choose(OrderType.STOP)
    ticket.form.reduce_only.setChecked(True)
    ticket.account(account_id="kc", venue="kucoin", mode=TradingMode.TESTNET)
    ticket.form.account.choose("kc")
    ticket.form.account.activated.emit(ticket.form.account.currentIndex())
    assert offered(ticket) == (["market", "limit"], ["gtc", "ioc"])
    assert ticket.form.type.value() == "market"
    assert not ticket.form.reduce_only.isVisible()
    ticket.choose(OrderType.LIMIT)
    assert not ticket.form.post_only.isVisible()
    ticket.form.account.choose("paper")
    ticket.form.account.activated.emit(ticket.form.account.currentIndex())
    assert offered(ticket)[0] == [each.value for each in OrderType]
    assert ticket.form.reduce_only.isVisible()
    assert len(ticket.fake.sent(ListVenues)) == 1


def test_a_flag_that_is_not_offered_is_not_sent(ticket: Ticket) -> None:
    ticket.form.reduce_only.setChecked(True)
    ticket.fake.engine.accounts.abilities = (
        msgspec.structs.replace(SIM, reduce_only=False, time_in_force=(), order_types=()),
    )
    ticket.fake.client.connect()
    ticket.panel.refresh()
    ticket.qtbot.waitUntil(lambda: not ticket.form.reduce_only.isVisible())
    assert offered(ticket) == ([each.value for each in OrderType], ["gtc"])
    ticket.qtbot.waitUntil(lambda: ticket.fake.bench.streams.is_flowing(BTC))
    ticket.quote()
    ticket.type_in(Field.QUANTITY, "1")
    ticket.click()
    assert not ticket.until_sent().reduce_only


def test_without_a_list_of_venues_everything_is_offered(ticket: Ticket) -> None:
    ticket.fake.engine.accounts.refusals[ListVenues] = "the engine is too old"
    ticket.fake.client.connect()
    ticket.panel.desk.venues.known.clear()
    ticket.panel.refresh()
    ticket.qtbot.waitUntil(lambda: ticket.panel.desk.venues.problem == "the engine is too old")
    ticket.panel.refresh()
    assert offered(ticket)[0] == [each.value for each in OrderType]
    assert ticket.fake.texts == []


def test_accounts_that_take_no_orders_are_not_offered(ticket: Ticket) -> None:
    ticket.account(account_id="second", label="Second")
    for changes in ({"enabled": False}, {"enabled": True, "mode": TradingMode.DATA}):
        ticket.fake.engine.accounts.change("paper", **changes)
        ticket.qtbot.waitUntil(lambda: ticket.form.account.findData("paper") < 0)
        assert ticket.form.account.itemText(ticket.form.account.findData("second")) == "Second"
        assert ticket.problem(Field.ACCOUNT) == "paper takes no orders: it is switched off, or for data alone"
        ticket.fake.engine.accounts.change("paper", enabled=True, mode=TradingMode.PAPER)
        ticket.qtbot.waitUntil(lambda: ticket.form.account.findData("paper") >= 0)
