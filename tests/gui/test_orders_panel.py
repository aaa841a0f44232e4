"""Orders, positions and fills: what is shown, what can be done about it, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from PySide6.QtCore import QItemSelectionModel, QModelIndex, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication, QDockWidget, QMessageBox, QToolButton
from pytestqt.qtbot import QtBot

from koc_qt.domain.errors import RiskRefused
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Order, OrderRequest, OrderStatus, OrderType
from koc_qt.domain.state import PositionSnapshot, StrategyState
from koc_qt.link.messages import CancelAllOrders, CancelOrder, PositionChanged, SubmitOrder
from koc_qt.ui.panels.orders import ALL, FILLS, NARROW_PX, OPEN, POSITIONS, OrdersPanel
from koc_qt.ui.panels.orders_columns import amount
from koc_qt.ui.tables.view import RecordTable
from koc_qt.ui.theme import ThemeChoice
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC, START_NS, strategy_snapshot

ETH = InstrumentId("sim", "ETH/BTC")
ETH_RULES = Instrument(ETH, "ETH", "BTC", Decimal("0.00001"), Decimal("0.001"))


@pytest.fixture
def panel(fake: FakeBench) -> OrdersPanel:
    fake.engine.instruments.append(ETH_RULES)
    fake.client.connect()
    panel = OrdersPanel(fake.bench, fake.window)
    panel.resize(1000, 240)
    fake.window.show()
    panel.show()
    return panel


def show(panel: OrdersPanel, tab: str) -> RecordTable[Any]:
    panel.tabs.setCurrentIndex([OPEN, POSITIONS, FILLS, ALL].index(tab))
    return panel.tables[tab]


def row(table: RecordTable[Any], number: int = 0) -> dict[str, str]:
    model = table.records
    return {column.name: model.index(number, place).data() for place, column in enumerate(model.columns)}


def cell(table: RecordTable[Any], number: int, column: str, role: Qt.ItemDataRole) -> Any:
    place = [each.name for each in table.records.columns].index(column)
    return table.records.index(number, place).data(role)


def limit(price: str = "99.5", side: Side = Side.BUY, quantity: str = "2") -> OrderRequest:
    return OrderRequest(BTC, side, OrderType.LIMIT, Decimal(quantity), Decimal(price))


def change(fake: FakeBench, order: Order, **changes: Any) -> Order:
    return fake.engine._put(msgspec.structs.replace(order, **changes))


def hold(
    fake: FakeBench, quantity: str, *, strategy: str = "manual", instrument: InstrumentId = BTC, **changes: str
) -> None:
    money = {"realised_pnl": "0", "unrealised_pnl": "0", "fees": "0"} | changes
    held = Decimal(quantity)
    average = Decimal(100) if held else None
    amounts = {name: Decimal(value) for name, value in money.items()}
    position = PositionSnapshot(strategy, "paper", instrument, held, average, time_ns=START_NS, **amounts)
    fake.engine.publish(PositionChanged(position))


def question(panel: OrdersPanel) -> QMessageBox:
    box = panel.findChild(QMessageBox)
    assert isinstance(box, QMessageBox)
    return box


def answer(panel: OrdersPanel, qtbot: QtBot, role: QMessageBox.ButtonRole) -> None:
    box = question(panel)
    next(button for button in box.buttons() if box.buttonRole(button) is role).click()
    qtbot.waitUntil(lambda: panel.findChild(QMessageBox) is None)


YES, NO = QMessageBox.ButtonRole.AcceptRole, QMessageBox.ButtonRole.RejectRole


# ---- what is shown --------------------------------------------------------------------------------------------------


def test_an_order_comes_works_and_goes(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    assert panel.tabs.tabText(0) == "Open orders"
    order = fake.engine.place(limit("1234.5"))
    qtbot.waitUntil(lambda: panel.open.records.rowCount() == 1)
    shown = row(panel.open)
    assert shown["symbol"] == "BTC/USDT"
    assert (shown["side"], shown["type"], shown["quantity"], shown["filled"]) == ("Buy", "Limit", "2", "0 %")
    assert (shown["price"], shown["average"], shown["status"]) == ("1,234.50", "—", "Working")
    assert (shown["strategy"], shown["account"], shown["id"]) == ("manual", "paper", "K00001")
    assert panel.open.isColumnHidden(12)
    qtbot.waitUntil(lambda: panel.tabs.tabText(0) == "Open orders (1)")

    half = {"filled_quantity": Decimal(1), "average_price": Decimal("1234.4")}
    order = change(fake, order, status=OrderStatus.PARTIALLY_FILLED, **half)
    qtbot.waitUntil(lambda: row(panel.open)["filled"] == "50 %")
    assert row(panel.open)["average"] == "1,234.40"
    fake.engine.fill(order.client_order_id, "1234.4")
    qtbot.waitUntil(lambda: panel.open.records.rowCount() == 0)
    qtbot.waitUntil(
        lambda: [panel.tabs.tabText(n) for n in (0, 2, 3)] == ["Open orders", "Fills (1)", "All orders (1)"]
    )
    assert row(show(panel, ALL))["status"] == "Filled"
    fills = row(show(panel, FILLS))
    assert (fills["price"], fills["value"], fills["fee"]) == ("1,234.40", "2,468.80", "0.01 USDT")
    assert fills["liquidity"] == "Taker"


def test_stops_say_what_they_wait_for(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    stop = OrderRequest(BTC, Side.SELL, OrderType.STOP, Decimal(1), stop_price=Decimal(90))
    both = OrderRequest(BTC, Side.BUY, OrderType.STOP_LIMIT, Decimal(1), Decimal(111), Decimal(110))
    for request in (stop, both):
        fake.engine.place(request)
    qtbot.waitUntil(lambda: panel.open.records.rowCount() == 2)
    shown = [(row(panel.open, n)["price"], row(panel.open, n)["stop"]) for n in (0, 1)]
    assert shown == [("111.00", "110.00"), ("—", "90.00")]
    tips = [cell(panel.open, n, column, Qt.ItemDataRole.ToolTipRole) for n in (0, 1) for column in ("stop", "price")]
    assert tips == [
        "Waits until the price rises to 110.00",
        "Trades at 111.00 or below",
        "Waits until the price falls to 90.00",
        "Trades at whatever price the market has",
    ]
    assert row(panel.open)["type"] == "Stop limit"


def test_a_reason_is_in_the_tooltip(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    order = fake.engine.place()
    change(fake, order, status=OrderStatus.REJECTED, reason="the account has 3 USDT")
    table = show(panel, ALL)
    qtbot.waitUntil(lambda: table.records.rowCount() == 1)
    assert row(table)["status"] == "Rejected"
    assert cell(table, 0, "status", Qt.ItemDataRole.ToolTipRole) == "the account has 3 USDT"


def test_an_unknown_order_stands_out(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    order = fake.engine.place()
    order = change(fake, order, status=OrderStatus.UNKNOWN, reason="no answer within 10 s", cancel_requested=True)
    qtbot.waitUntil(lambda: panel.open.records.rowCount() == 1 and not panel.tabs.tabIcon(0).isNull())
    assert row(panel.open)["status"] == "Unknown"
    column = next(each for each in panel.open.records.columns if each.name == "status")
    assert column.pill is not None
    assert column.pill(order) == "warning"
    tip = cell(panel.open, 0, "status", Qt.ItemDataRole.ToolTipRole)
    for words in ("answer never came", "being looked up", "do not send it again", "no answer within 10 s"):
        assert words in tip
    assert "Unknown: 1." in panel.tabs.tabToolTip(0)
    change(fake, order, status=OrderStatus.ACCEPTED, cancel_requested=False)
    qtbot.waitUntil(lambda: panel.tabs.tabIcon(0).isNull())
    assert row(panel.open)["status"] == "Working"


def test_positions_with_their_profit(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    table = show(panel, POSITIONS)
    hold(fake, "-0.5", strategy="pairs", unrealised_pnl="1234.5", realised_pnl="-3", fees="0.25")
    qtbot.waitUntil(lambda: table.records.rowCount() == 2)
    shown = row(table, 1)
    assert (shown["side"], shown["quantity"], shown["average"]) == ("Short", "0.5", "100.00")
    assert (shown["unrealised"], shown["realised"], shown["fees"]) == ("+1,234.50", "-3.00", "0.25")
    assert shown["pnl"] == "+1,231.25"
    colors = fake.theme.colors
    assert cell(table, 1, "unrealised", Qt.ItemDataRole.ForegroundRole).name() == colors.profit
    assert cell(table, 1, "realised", Qt.ItemDataRole.ForegroundRole).name() == colors.loss
    assert cell(table, 1, "pnl", Qt.ItemDataRole.ToolTipRole).endswith("in USDT")


def test_flat_positions_are_hidden_until_asked_for(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    table = show(panel, POSITIONS)
    qtbot.waitUntil(lambda: table.records.rowCount() == 1)
    hold(fake, "0", strategy="sma-1", realised_pnl="5")
    qtbot.waitUntil(lambda: table.records.rowCount() == 0)
    qtbot.waitUntil(lambda: panel.tabs.tabText(1) == "Positions")
    panel.show_flat.click()
    assert row(table)["side"] == "Flat"
    assert row(table)["realised"] == "+5.00"


def test_sums_never_mix_currencies(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    hold(fake, "1", instrument=ETH, unrealised_pnl="0.0125", fees="0.00001")
    hold(fake, "0", strategy="other", realised_pnl="11", fees="1")
    hold(fake, "1", instrument=InstrumentId("gone", "X/USDT"), unrealised_pnl="7")
    qtbot.waitUntil(lambda: len(panel.footer.words) == 3)
    assert panel.footer.words == [
        "BTC: realised 0, unrealised +0.0125, fees 0.00001, PnL after fees +0.01249",
        "USDT: realised +10.00, unrealised 0.00, fees 1.50, PnL after fees +8.50",
        "gone:X/USDT: realised 0, unrealised +7, fees 0, PnL after fees +7",
    ]
    assert panel.footer.toolTip() == "\n".join(panel.footer.words)
    before = panel.footer.text()
    fake.theme.set_choice(ThemeChoice.LIGHT)
    assert panel.footer.text() != before


def test_many_currencies_leave_room_for_the_table(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    for number in range(5):
        hold(fake, "1", instrument=InstrumentId("gone", f"X{number}"))
    qtbot.waitUntil(lambda: len(panel.footer.words) == 6)
    assert "and 4 more currencies" in panel.footer.text()
    assert panel.footer.text().count("<br>") == 2


@pytest.mark.parametrize(
    ("value", "currency", "text"),
    [("1234.5", "USDT", "1,234.50"), ("0.00012", "BTC", "0.00012"), ("3", "BTC", "3"), ("0.000000001", "BTC", "0")],
)
def test_amounts_have_the_decimals_of_their_currency(value: str, currency: str, text: str) -> None:
    assert amount(Decimal(value), currency) == text


def test_a_late_panel_shows_what_was_before_it(fake: FakeBench) -> None:
    order = fake.engine.place()
    fake.engine.fill(order.client_order_id)
    fake.engine.place()
    panel = OrdersPanel(fake.bench, fake.window)
    assert [panel.tabs.tabText(n) for n in range(4)] == [
        "Open orders (1)", "Positions (1)", "Fills (1)", "All orders (2)",
    ]  # fmt: skip


def test_a_new_connection_shows_how_things_are_now(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    order = fake.engine.place()
    stays = fake.engine.place(limit())
    table = show(panel, ALL)
    qtbot.waitUntil(lambda: row(table, 1)["status"] == "Working" if table.records.rowCount() == 2 else False)
    fake.client.lose()
    fake.engine.fill(order.client_order_id)
    change(fake, stays, status=OrderStatus.PARTIALLY_FILLED, filled_quantity=Decimal(1))
    fake.client.connect()
    qtbot.waitUntil(lambda: row(table, 1)["status"] == "Filled")
    assert row(table, 0)["filled"] == "50 %"
    assert panel.open.records.total == 1
    assert panel.fills.records.total == 1


# ---- cancelling -----------------------------------------------------------------------------------------------------


def test_the_selected_orders_are_cancelled(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    for _ in range(3):
        fake.engine.place(limit())
    qtbot.waitUntil(lambda: panel.open.records.rowCount() == 3)
    assert not panel.cancel.isEnabled()
    assert panel.cancel.toolTip().endswith("Select an open order first")
    panel.open.selectRow(0)
    assert panel.cancel.isEnabled()
    fake.bench.actions.run("orders.cancel_selected")
    qtbot.waitUntil(lambda: panel.open.records.rowCount() == 2)
    assert fake.sent(CancelOrder) == [CancelOrder("K00003")]
    panel.open.selectRow(1)
    fake.window.activateWindow()
    panel.open.setFocus()
    qtbot.waitUntil(panel.open.hasFocus)
    qtbot.keyClick(panel.open, Qt.Key.Key_Delete)
    qtbot.waitUntil(lambda: panel.open.records.rowCount() == 1)
    assert fake.sent(CancelOrder)[1:] == [CancelOrder("K00001")]


def test_a_cancel_on_its_way_is_not_sent_again(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    first, second = fake.engine.place(limit()), fake.engine.place(limit())
    change(fake, first, cancel_requested=True)
    qtbot.waitUntil(lambda: panel.open.records.rowCount() == 2)
    assert row(panel.open, 1)["status"] == "Cancelling"
    panel.open.selectRow(1)
    assert not panel.cancel.isEnabled()
    assert "already" in panel.cancel.toolTip()
    panel.open.selectAll()
    panel.cancel.trigger()
    qtbot.waitUntil(lambda: bool(fake.sent(CancelOrder)))
    assert fake.sent(CancelOrder) == [CancelOrder(second.client_order_id)]


def test_what_ended_cannot_be_cancelled(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.fill(fake.engine.place().client_order_id)
    table = show(panel, ALL)
    qtbot.waitUntil(lambda: table.records.rowCount() == 1)
    table.selectRow(0)
    fake.window.activateWindow()
    table.setFocus()
    qtbot.waitUntil(table.hasFocus)
    qtbot.keyClick(table, Qt.Key.Key_Delete)
    assert not panel.cancel.isEnabled()
    assert not fake.sent(CancelOrder)


def test_the_next_order_is_not_chosen_when_the_chosen_one_goes(
    panel: OrdersPanel, fake: FakeBench, qtbot: QtBot
) -> None:
    for _ in range(3):
        fake.engine.place(limit())
    qtbot.waitUntil(lambda: panel.open.records.rowCount() == 3)
    panel.open.setFocus()
    panel.open.selectRow(1)
    fake.engine.fill("K00002")
    qtbot.waitUntil(lambda: panel.open.records.rowCount() == 2 and not panel.cancel.isEnabled())
    assert not panel.open.selected()
    panel.cancel.trigger()
    assert not fake.sent(CancelOrder)


def test_a_refused_cancel_is_said(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    order = fake.engine.place(limit())
    qtbot.waitUntil(lambda: panel.open.records.rowCount() == 1)
    panel.open.selectRow(0)
    del fake.engine.orders[order.client_order_id]
    panel.cancel.trigger()
    qtbot.waitUntil(lambda: fake.texts == ["there is no open order 'K00001'"])


def test_all_orders_are_cancelled_after_a_question(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    assert not panel.cancel_all.isEnabled()
    assert "No order is open" in panel.cancel_all.toolTip()
    fake.engine.place(limit())
    change(fake, fake.engine.place(limit()), strategy_id="sma-1")
    qtbot.waitUntil(panel.cancel_all.isEnabled)
    assert panel.cancel_all.shortcut().toString() == "Ctrl+Shift+X"
    panel.cancel_all.trigger()
    assert question(panel).text() == "Cancel all 2 open orders?"
    assert "of strategies" in question(panel).informativeText()
    panel.cancel_all.trigger()
    assert len(panel.findChildren(QMessageBox)) == 1
    answer(panel, qtbot, NO)
    assert not fake.sent(CancelAllOrders)
    panel.cancel_all.trigger()
    qtbot.keyClick(question(panel), Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: panel.findChild(QMessageBox) is None)
    assert not fake.sent(CancelAllOrders)
    panel.cancel_all.trigger()
    answer(panel, qtbot, YES)
    qtbot.waitUntil(lambda: panel.open.records.rowCount() == 0)
    assert len(fake.sent(CancelAllOrders)) == 1


def test_one_order_is_cancelled_without_a_question(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.place(limit())
    qtbot.waitUntil(panel.cancel_all.isEnabled)
    panel.cancel_all.trigger()
    assert panel.findChild(QMessageBox) is None
    qtbot.waitUntil(lambda: len(fake.sent(CancelAllOrders)) == 1)


# ---- closing --------------------------------------------------------------------------------------------------------


def select_manual(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot, quantity: str = "0.3") -> RecordTable[Any]:
    table = show(panel, POSITIONS)
    hold(fake, quantity)
    qtbot.waitUntil(lambda: any(each.strategy_id == "manual" for each in table.records.records))
    table.selectRow([each.strategy_id for each in table.records.records].index("manual"))
    return table


@pytest.mark.parametrize(("quantity", "side"), [("0.3", Side.SELL), ("-0.3", Side.BUY), ("0.30005", Side.SELL)])
def test_a_position_is_closed_at_the_market(
    panel: OrdersPanel, fake: FakeBench, qtbot: QtBot, quantity: str, side: Side
) -> None:
    select_manual(panel, fake, qtbot, quantity)
    fake.bench.actions.run("positions.close_selected")
    words = f"{side.value.capitalize()} 0.3 BTC/USDT at the market on paper"
    assert question(panel).informativeText() == words
    assert not fake.sent(SubmitOrder)
    answer(panel, qtbot, YES)
    wanted = OrderRequest(BTC, side, OrderType.MARKET, Decimal("0.3"), reduce_only=True)
    qtbot.waitUntil(lambda: fake.sent(SubmitOrder) == [SubmitOrder("paper", wanted)])


def test_what_is_less_than_a_lot_cannot_be_closed(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    """As a fee leaves it that was taken off what was bought."""
    select_manual(panel, fake, qtbot, "0.00005")
    qtbot.waitUntil(lambda: not panel.close_positions.isEnabled())
    assert panel.close_positions.toolTip().endswith("What is left of BTC/USDT is less than can be traded")


def test_a_close_that_is_refused_by_the_person_sends_nothing(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    select_manual(panel, fake, qtbot)
    panel.close_positions.trigger()
    answer(panel, qtbot, NO)
    assert not fake.sent(SubmitOrder)


def test_a_close_on_its_way_is_not_sent_again(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    select_manual(panel, fake, qtbot)
    panel.close_positions.trigger()
    answer(panel, qtbot, YES)
    panel.close_positions.trigger()  # before the engine has answered, or after: the order is open still
    qtbot.waitUntil(lambda: any("on its way already" in text for text in fake.texts))
    qtbot.waitUntil(lambda: panel.open.records.total == 1)
    panel.close_positions.trigger()
    assert len(fake.texts) == 2
    assert panel.findChild(QMessageBox) is None
    assert len(fake.sent(SubmitOrder)) == 1


def test_a_position_that_changed_meanwhile_is_left_alone(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    table = select_manual(panel, fake, qtbot)
    panel.close_positions.trigger()
    hold(fake, "0.1")
    qtbot.waitUntil(lambda: any(each.quantity == Decimal("0.1") for each in table.records.records))
    answer(panel, qtbot, YES)
    assert fake.texts == ["BTC/USDT was not closed: it was 0.3 when you were asked, and is 0.1 now"]
    assert not fake.sent(SubmitOrder)


def test_a_lost_engine_closes_nothing(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    select_manual(panel, fake, qtbot)
    panel.close_positions.trigger()
    fake.client.lose()
    answer(panel, qtbot, YES)
    assert fake.texts == ["BTC/USDT was not closed: there is no connection to the engine"]
    assert not panel.close_positions.isEnabled()
    assert not panel.cancel_all.isEnabled()
    assert panel.close_positions.toolTip().endswith("Not connected to the engine")


def test_a_close_that_the_engine_refuses_is_said_and_can_be_tried_again(
    panel: OrdersPanel, fake: FakeBench, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Order:
        raise RiskRefused("the kill switch is engaged")

    select_manual(panel, fake, qtbot)
    with monkeypatch.context() as patched:
        patched.setattr(fake.engine, "place", refuse)
        panel.close_positions.trigger()
        answer(panel, qtbot, YES)
        qtbot.waitUntil(lambda: fake.texts == ["Closing BTC/USDT: the kill switch is engaged"])
    panel.close_positions.trigger()
    answer(panel, qtbot, YES)
    qtbot.waitUntil(lambda: len(fake.engine.orders) == 1)


def test_a_flat_position_cannot_be_closed(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    table = show(panel, POSITIONS)
    panel.show_flat.click()
    hold(fake, "0")
    qtbot.waitUntil(lambda: table.records.rowCount() == 2)
    assert "Select a position first" in panel.close_positions.toolTip()
    table.selectRow([each.strategy_id for each in table.records.records].index("manual"))
    assert not panel.close_positions.isEnabled()
    assert "is flat" in panel.close_positions.toolTip()
    table.selectAll()
    panel.close_positions.trigger()
    assert "BTC/USDT is flat" in fake.texts[0]
    assert question(panel).text() == "Close this position?"
    answer(panel, qtbot, NO)


@pytest.mark.parametrize(
    ("state", "goes_on"),
    [
        (StrategyState.RUNNING, True),
        (StrategyState.STARTING, True),
        (StrategyState.BACKING_OFF, True),
        (StrategyState.STOPPING, False),
        (StrategyState.STOPPED, False),
        (StrategyState.FAILED, False),
    ],
)
def test_what_a_strategy_holds_is_closed_in_its_name(
    panel: OrdersPanel, fake: FakeBench, qtbot: QtBot, state: StrategyState, goes_on: bool
) -> None:
    table = show(panel, POSITIONS)
    fake.engine.show(strategy_snapshot("sma-1", state=state))
    hold(fake, "0.3", strategy="sma-1")
    qtbot.waitUntil(lambda: [each.quantity for each in table.records.records] == [Decimal("0.3")])
    qtbot.waitUntil(lambda: fake.desk.replica.strategies["sma-1"].state is state)
    table.selectRow(0)
    assert panel.close_positions.isEnabled()
    panel.close_positions.trigger()
    words, _, warning = question(panel).informativeText().partition("\n\n")
    assert words == "Sell 0.3 BTC/USDT of sma-1 at the market on paper"
    assert warning == ("sma-1 goes on and may open it again; stop it first if you do not want that." if goes_on else "")
    answer(panel, qtbot, YES)
    wanted = OrderRequest(BTC, Side.SELL, OrderType.MARKET, Decimal("0.3"), reduce_only=True)
    qtbot.waitUntil(lambda: fake.sent(SubmitOrder) == [SubmitOrder("paper", wanted, "sma-1")])
    qtbot.waitUntil(lambda: [order.strategy_id for order in fake.desk.replica.orders.values()] == ["sma-1"])
    panel.close_positions.trigger()
    assert fake.texts == ["A close of BTC/USDT on paper is on its way already"]


def test_a_close_on_its_way_holds_up_that_of_nobody_else(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    table = show(panel, POSITIONS)
    hold(fake, "1")
    qtbot.waitUntil(lambda: table.records.rowCount() == 2)
    table.selectAll()
    panel.close_positions.trigger()
    assert question(panel).text() == "Close 2 positions?"
    answer(panel, qtbot, YES)
    qtbot.waitUntil(lambda: {each.strategy_id for each in fake.sent(SubmitOrder)} == {"manual", "sma-1"})
    assert not fake.texts


def test_strategies_that_go_on_are_named_up_to_some(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    table = show(panel, POSITIONS)
    hold(fake, "0", strategy="sma-1")
    for name in ("a", "b", "c", "d"):
        fake.engine.show(strategy_snapshot(name))
        hold(fake, "1", strategy=name)
    fake.engine.show(strategy_snapshot("z", state=StrategyState.STOPPED))
    hold(fake, "1", strategy="z")
    qtbot.waitUntil(lambda: sorted(each.strategy_id for each in table.records.records) == ["a", "b", "c", "d", "z"])
    for count, named in ((2, "a and b"), (3, "a, b and c"), (5, "a, b and 2 more")):
        table.clearSelection()
        for number, position in enumerate(table.records.records):
            if position.strategy_id in "abcdz"[:count]:
                flags = QItemSelectionModel.SelectionFlag
                table.selectionModel().select(table.records.index(number, 0), flags.Select | flags.Rows)
        panel.close_positions.trigger()
        warning = question(panel).informativeText().partition("\n\n")[2]
        assert warning == f"{named} go on and may open theirs again; stop them first if you do not want that."
        answer(panel, qtbot, NO)


def test_many_positions_make_a_short_question(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    table = show(panel, POSITIONS)
    fake.engine.show(strategy_snapshot("sma-1"))
    for number in range(12):
        hold(fake, "1", instrument=InstrumentId("sim", f"X{number}/USDT"))
    qtbot.waitUntil(lambda: table.records.rowCount() == 13)
    table.selectAll()
    panel.close_positions.trigger()
    assert question(panel).text() == "Close 13 positions?"
    words, _, warning = question(panel).informativeText().partition("\n\n")
    assert words.endswith("\nand 6 more")
    assert warning.startswith("sma-1 goes on")
    answer(panel, qtbot, YES)
    qtbot.waitUntil(lambda: len(fake.sent(SubmitOrder)) == 13)


# ---- getting about --------------------------------------------------------------------------------------------------


def test_the_filter_applies_to_every_tab(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.place(limit())
    change(fake, fake.engine.place(limit()), strategy_id="sma-1")
    hold(fake, "1", instrument=ETH, strategy="pairs")
    qtbot.waitUntil(lambda: panel.open.records.rowCount() == 2 and len(panel.footer.words) == 2)
    panel.search.setText("SMA btc")
    qtbot.waitUntil(lambda: [each.strategy_id for each in panel.open.records.records] == ["sma-1"])
    assert [words.partition(":")[0] for words in panel.footer.words] == ["USDT"]
    assert panel.tabs.tabText(0) == "Open orders (2)"
    assert show(panel, ALL).records.rowCount() == 1
    assert [each.instrument for each in show(panel, POSITIONS).records.records] == [BTC]
    panel.search.setText("nobody")
    qtbot.waitUntil(lambda: panel.positions.records.rowCount() == 0)
    assert "nobody" in panel.positions._empty
    panel.search.clear()
    qtbot.waitUntil(lambda: panel.positions.records.rowCount() == 2)
    assert show(panel, OPEN).records.rowCount() == 2
    fake.engine.place(limit())
    qtbot.waitUntil(lambda: panel.open.records.rowCount() == 3)


def test_a_double_click_shows_the_chart_and_a_fills_moment(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    charts: list[tuple[InstrumentId, str]] = []
    times: list[tuple[InstrumentId, int]] = []
    fake.requests.chart_wanted.connect(lambda *what: charts.append(what))
    fake.requests.time_wanted.connect(lambda *what: times.append(what))
    fill = fake.engine.fill(fake.engine.place().client_order_id)
    fake.engine.place(limit())
    qtbot.waitUntil(lambda: panel.open.records.rowCount() == 1)
    panel.open.doubleClicked.emit(panel.open.records.index(0, 0))
    assert (charts, times) == ([(BTC, "")], [])
    table = show(panel, FILLS)
    table.doubleClicked.emit(table.records.index(0, 0))
    assert len(charts) == 2
    assert times == [(BTC, fill.time_ns)]


def test_the_menu_shows_copies_and_offers_the_ticket(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    charts: list[InstrumentId] = []
    tickets: list[tuple[InstrumentId, Side | None]] = []
    fake.requests.chart_wanted.connect(lambda instrument, _timeframe: charts.append(instrument))
    fake.requests.ticket_wanted.connect(lambda instrument, side, _price: tickets.append((instrument, side)))

    def entry(table: RecordTable[Any], text: str) -> Any:
        return next(action for action in table.actions() if action.text().replace("&", "") == text)

    for _ in range(2):
        fake.engine.place(limit())
    qtbot.waitUntil(lambda: panel.open.records.rowCount() == 2)
    assert not entry(panel.open, "Show on the chart").isEnabled()
    panel.open.selectAll()
    entry(panel.open, "Copy the id").trigger()
    assert QGuiApplication.clipboard().text() == "K00002\nK00001"
    panel.open.setCurrentIndex(panel.open.records.index(0, 0))
    entry(panel.open, "Show on the chart").trigger()
    assert charts == [BTC]
    fake.engine.fill("K00001")
    table = show(panel, FILLS)
    qtbot.waitUntil(lambda: table.records.rowCount() == 1)
    table.selectRow(0)
    entry(table, "Copy the id").trigger()
    assert QGuiApplication.clipboard().text() == "T00001"
    table = show(panel, POSITIONS)
    table.selectRow(0)
    entry(table, "Order ticket…").trigger()
    assert tickets == [(BTC, Side.SELL)]


def test_buttons_are_those_of_the_tab_and_lose_their_words_in_a_narrow_dock(panel: OrdersPanel) -> None:
    def shown() -> list[str]:
        buttons = panel.tabs.cornerWidget(Qt.Corner.TopRightCorner).findChildren(QToolButton)
        return [button.text() for button in buttons if button.isVisible() and button.objectName() != "clear"]

    names = {OPEN: ["Cancel", "Cancel all"], POSITIONS: ["Flat", "Close"], FILLS: [], ALL: ["Cancel", "Cancel all"]}
    for tab, wanted in names.items():
        show(panel, tab)
        assert [text for text in shown() if text] == wanted
    assert panel._buttons[0].toolButtonStyle() is Qt.ToolButtonStyle.ToolButtonTextBesideIcon
    panel.resize(NARROW_PX - 1, 220)
    assert panel._buttons[0].toolButtonStyle() is Qt.ToolButtonStyle.ToolButtonIconOnly


def test_what_was_arranged_is_remembered(panel: OrdersPanel, fake: FakeBench) -> None:
    show(panel, POSITIONS)
    panel.show_flat.click()
    panel.open.setColumnWidth(0, 133)
    panel.open.setColumnHidden(12, False)
    state = msgspec.json.decode(msgspec.json.encode(panel.state()))
    panel.retire()
    again = OrdersPanel(fake.bench, fake.window)
    again.restore(state)
    assert again.state() == state
    assert again.tab == POSITIONS
    assert not again.open.isColumnHidden(12)
    for nonsense in ({}, {"tab": 7, "columns": 3}, {"tab": ["open"], "columns": {"open": []}, "show_flat": "yes"}):
        again.restore(nonsense)
    assert again.tab == POSITIONS


def test_a_panel_that_goes_takes_its_commands_with_it(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    names = ("orders.cancel_selected", "orders.cancel_all", "positions.close_selected")
    assert all(fake.bench.actions.commands[name].menu == "&Trade" for name in names)
    for _ in range(2):
        panel.retire()
    assert not any(name in fake.bench.actions for name in names)
    fake.client.lose()
    fake.client.connect()
    order = fake.engine.place()
    qtbot.waitUntil(lambda: order.client_order_id in fake.desk.replica.orders)
    assert panel.open.records.total == 0


def test_a_burst_is_shown_in_few_steps(panel: OrdersPanel, fake: FakeBench, qtbot: QtBot) -> None:
    steps: list[QModelIndex] = []
    panel.open.records.rowsInserted.connect(lambda *_: steps.append(QModelIndex()))
    panel.open.records.layoutChanged.connect(lambda *_: steps.append(QModelIndex()))
    for _ in range(1_000):
        fake.engine.place(limit())
    qtbot.waitUntil(lambda: panel.open.records.rowCount() == 1_000)
    assert len(steps) < 10
    assert row(panel.open)["id"] == "K01000"


def test_nothing_reaches_a_panel_that_is_half_made(fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.place(limit())
    fake.window.show()
    dock = QDockWidget(fake.window)
    panel = OrdersPanel(replace(fake.bench, in_steps=True), dock)
    while panel.make_part():
        assert "orders.cancel_all" not in fake.bench.actions
        for change in (dock.show, dock.hide, fake.client.lose, fake.client.connect, fake.engine.place):
            change()
            QApplication.processEvents()
        assert not panel.isVisible()
    placed = panel.open.records.total
    assert placed == len(fake.engine.orders) > 1
    dock.setWidget(panel)
    dock.show()
    assert panel.isVisible()
    assert panel.open.records.rowCount() == placed
    fake.engine.place(limit())
    qtbot.waitUntil(lambda: panel.tabs.tabText(0) == f"Open orders ({placed + 1})")


def test_menus_begin_with_what_ends_something(panel: OrdersPanel) -> None:
    menus = {
        name: [each.text().replace("&", "") for each in table.actions()[1:]] for name, table in panel.tables.items()
    }
    of_orders = ["Cancel the selected orders", "Change the selected order…", "Show on the chart", "Copy the id"]
    assert menus == {
        OPEN: of_orders,
        POSITIONS: ["Close the selected positions…", "Order ticket…", "Show on the chart"],
        FILLS: ["Show on the chart", "Copy the id"],
        ALL: of_orders,
    }
