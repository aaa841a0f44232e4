"""Changing a working order by hand: where the venue can, within the market's rules, once."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from koc_qt.domain.errors import KocError, LinkError, NotSent
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Order, OrderRequest, OrderStatus, OrderType
from koc_qt.domain.state import TradingMode
from koc_qt.link.messages import AmendOrder, Command, OrderChanged
from koc_qt.ui.panels.orders import ALL, OrdersPanel
from koc_qt.ui.panels.orders_change import ChangeForm, read_change, why_no_change
from koc_qt.ui.panels.ticket_numbers import BadNumber
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC

D = Decimal
RULES = Instrument(
    BTC, "BTC", "USDT", D("0.01"), D("0.001"), min_quantity=D("0.01"), max_quantity=D(10), min_notional=D(5)
)


def limit(kind: OrderType = OrderType.LIMIT, **changes: Any) -> OrderRequest:
    stop = D(95) if kind in (OrderType.STOP, OrderType.STOP_LIMIT) else None
    price = D(90) if kind in (OrderType.LIMIT, OrderType.STOP_LIMIT) else None
    return msgspec.structs.replace(OrderRequest(BTC, Side.BUY, kind, D(1), price, stop), **changes)


@pytest.fixture
def panel(fake: FakeBench, qtbot: QtBot) -> OrdersPanel:
    fake.engine.instruments = [RULES]
    fake.client.connect()
    panel = OrdersPanel(fake.bench, fake.window)
    fake.window.resize(1000, 300)
    panel.resize(1000, 300)
    fake.window.show()
    fake.desk.venues.ask()
    qtbot.waitUntil(lambda: bool(fake.desk.venues.known))
    return panel


def placed(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot, request: OrderRequest | None = None) -> Order:
    """Place an order, and select it in the table."""
    order = fake.engine.place(request or limit())
    qtbot.waitUntil(lambda: order.client_order_id in panel.desk.replica.open_orders)
    qtbot.waitUntil(lambda: panel.open.records.total == len(panel.desk.replica.open_orders))
    panel.open.records.flush()
    panel.open.selectRow(0)
    return order


def opened(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot, request: OrderRequest | None = None) -> ChangeForm:
    """Place an order and open its form, as Enter does."""
    order = placed(panel, fake, qtbot, request)
    qtbot.waitUntil(panel.change.isEnabled)
    qtbot.keyClick(panel.open, Qt.Key.Key_Return)
    form = panel.changer.forms[order.client_order_id]
    qtbot.waitUntil(form.isVisible)
    return form


def change(fake: FakeBench, order: Order, **changes: Any) -> None:
    fake.engine.orders[order.client_order_id] = msgspec.structs.replace(order, **changes)
    fake.engine.publish(OrderChanged(fake.engine.orders[order.client_order_id]))


def test_enter_opens_the_form_and_sends_what_is_different(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    form = opened(panel, fake, qtbot)
    assert not form.isModal()
    assert (form.quantity.text(), form.price.text()) == ("1", "90.00")
    assert form.problem.text() == "Enter another quantity or price"
    assert not form.yes_button.isEnabled()
    form.price.setText("91.5")
    assert form.yes_button.isEnabled()
    qtbot.mouseClick(form.yes_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not panel.changer.forms)
    assert fake.sent(AmendOrder) == [AmendOrder(form.order.client_order_id, None, D("91.5"))]
    qtbot.waitUntil(lambda: next(iter(panel.desk.replica.open_orders.values())).request.price == D("91.5"))
    assert fake.texts == []


def test_real_money_is_said_to_be(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    assert opened(panel, fake, qtbot).yes_button.property("role") == "primary"
    panel.changer.retire()
    fake.engine.orders.clear()
    fake.client.connect()
    fake.engine.accounts.change("paper", mode=TradingMode.LIVE)
    qtbot.waitUntil(lambda: fake.desk.replica.accounts["paper"].mode is TradingMode.LIVE)
    form = opened(panel, fake, qtbot)
    assert form.yes_button.property("role") == "danger"
    assert "This order is of real money." in [label.text() for label in form.body.findChildren(type(form.problem))]


def test_both_can_be_changed_and_arrows_step_on_the_grid(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    form = opened(panel, fake, qtbot)
    qtbot.keyClick(form.price, Qt.Key.Key_Up)
    qtbot.keyClick(form.quantity, Qt.Key.Key_Down)
    assert (form.quantity.text(), form.price.text()) == ("0.999", "90.01")
    form.agree()
    form.agree()  # of a double click
    qtbot.waitUntil(lambda: not panel.changer.forms)
    assert fake.sent(AmendOrder) == [AmendOrder(form.order.client_order_id, D("0.999"), D("90.01"))]


def test_a_stop_has_no_price_to_change(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    form = opened(panel, fake, qtbot, limit(OrderType.STOP))
    assert not form.price.isVisible()
    form.quantity.setText("2")
    form.agree()
    qtbot.waitUntil(lambda: fake.sent(AmendOrder) == [AmendOrder(form.order.client_order_id, D(2), None)])


@pytest.mark.parametrize(
    ("quantity", "price", "words"),
    [
        ("", "90", "Enter a quantity"),
        ("1", "", "Enter a price"),
        ("abc", "90", "Quantity: Not a number: write digits and a point, such as 1234.5"),
        ("1.0005", "90", "Quantity: not a multiple of 0.001; the nearest is 1"),
        ("1", "90.001", "Price: not a multiple of 0.01; the nearest is 90.00"),
        ("0.25", "90", "0.25 of it is filled already: more than that, or cancel it"),
        ("11", "90", "Quantity: the most is 10 BTC"),
        ("0.3", "0.01", "The least is worth 5 USDT"),
        ("1", "-90", "Price: Must be above zero; the side is chosen above"),
    ],
)
def test_what_cannot_be_is_said(quantity: str, price: str, words: str) -> None:
    order = Order("K1", "manual", "paper", limit(), 1, 1, OrderStatus.PARTIALLY_FILLED, filled_quantity=D("0.25"))
    with pytest.raises(BadNumber) as raised:
        read_change(order, RULES, quantity, price)
    assert str(raised.value) == words


def test_only_what_works_can_be_changed(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    order = placed(panel, fake, qtbot)
    for changes, words in (
        ({"status": OrderStatus.FILLED}, "It is filled already"),
        ({"status": OrderStatus.UNKNOWN}, "The venue has not answered to it yet"),
        ({"cancel_requested": True}, "It is being cancelled"),
        ({"amending": limit(quantity=D(2))}, "A change of it is on its way already"),
        ({"account_id": "gone"}, "Its account gone is gone"),
    ):
        assert why_no_change(msgspec.structs.replace(order, **changes), fake.desk) == words
    assert why_no_change(order, fake.desk) == ""
    fake.engine.accounts.change("paper", venue="binance", mode=TradingMode.LIVE)
    qtbot.waitUntil(lambda: "Binance cannot change" in why_no_change(order, fake.desk))


def test_where_nothing_can_be_changed_enter_shows_the_chart(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.accounts.change("paper", venue="binance", mode=TradingMode.TESTNET)
    placed(panel, fake, qtbot)
    qtbot.waitUntil(lambda: "Binance cannot change a working order" in panel.change.toolTip())
    with qtbot.waitSignal(fake.requests.chart_wanted):
        qtbot.keyClick(panel.open, Qt.Key.Key_Return)
    assert not panel.changer.forms


def test_one_order_at_a_time(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    placed(panel, fake, qtbot)
    placed(panel, fake, qtbot)
    panel.open.selectAll()
    qtbot.waitUntil(lambda: "Select one open order" in panel.change.toolTip())
    assert not panel.change.isEnabled()
    panel.tabs.setCurrentIndex(3)
    assert panel.tab == ALL
    panel.all.selectRow(0)
    qtbot.waitUntil(panel.change.isEnabled)


def test_a_refusal_is_said_in_place_and_nothing_is_lost(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    form = opened(panel, fake, qtbot)
    form.price.setText("95")
    fake.engine.amend = refusing(KocError("the risk limits refuse it"))  # type: ignore[method-assign]
    form.agree()
    qtbot.waitUntil(lambda: form.problem.text() == "The risk limits refuse it")
    assert form.price.text() == "95"
    assert form.yes_button.isEnabled()


def refusing(error: KocError) -> Any:
    def refuse(*_: object) -> None:
        raise error

    return refuse


@pytest.mark.parametrize(
    ("error", "is_unclear"), [(LinkError("no answer within 30 s"), True), (NotSent("not asked"), False)]
)
def test_whether_it_was_done_is_said_honestly(
    panel: OrdersPanel,
    fake: FakeBench,
    qtbot: QtBot,
    monkeypatch: pytest.MonkeyPatch,
    error: KocError,
    is_unclear: bool,
) -> None:
    form = opened(panel, fake, qtbot)

    async def lose(_command: Command, *, timeout_s: float = 10.0) -> Any:
        raise error

    monkeypatch.setattr(fake.client, "request", lose)
    form.quantity.setText("2")
    form.agree()
    qtbot.waitUntil(lambda: not form.is_busy)
    assert form.problem.text().startswith("It is not known whether") is is_unclear


def test_the_form_follows_the_order(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    form = opened(panel, fake, qtbot)
    form.quantity.setText("0.5")
    assert form.yes_button.isEnabled()
    change(fake, form.order, status=OrderStatus.PARTIALLY_FILLED, filled_quantity=D("0.6"), filled_notional=D(54))
    qtbot.waitUntil(lambda: not form.yes_button.isEnabled())
    assert form.filled.text().startswith("0.6 of it is filled")
    assert form.quantity.text() == "0.5"
    change(fake, form.order, status=OrderStatus.CANCELED)
    qtbot.waitUntil(lambda: not panel.changer.forms)
    assert fake.texts == [f"Order {form.order.client_order_id} is cancelled and cannot be changed."]


def test_without_an_engine_or_with_the_kill_switch_nothing_is_sent(
    panel: OrdersPanel, fake: FakeBench, qtbot: QtBot
) -> None:
    form = opened(panel, fake, qtbot)
    form.quantity.setText("2")
    fake.client.lose("gone")
    qtbot.waitUntil(lambda: form.problem.text() == "There is no engine: gone")
    form.agree()
    fake.client.connect()
    fake.engine.pulse(kill_switch=True)
    qtbot.waitUntil(lambda: form.problem.text() == "The kill switch is engaged: release it to trade")
    form.agree()
    assert fake.sent(AmendOrder) == []
    panel.retire()
    assert not panel.changer.forms


def test_rules_that_are_not_known_yet_are_looked_up(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    order = placed(panel, fake, qtbot)
    panel.desk.replica.instruments.clear()  # as for a venue that came after the connection
    panel.changer.open(order)
    qtbot.waitUntil(lambda: bool(panel.changer.forms))
    assert panel.changer.forms[order.client_order_id].rules == RULES
    panel.changer.retire()
    fake.engine.instruments = []
    panel.changer.open(order)
    qtbot.waitUntil(lambda: fake.texts == ["there is no sim:BTC/USDT"])
    assert not panel.changer.forms
