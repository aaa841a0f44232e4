"""Sending with the order ticket: as it is written, once, and what is said when it fails or costs real money."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QMessageBox
from pytestqt.qtbot import QtBot

from koc_qt.domain.errors import KocError, LinkError, NotSent
from koc_qt.domain.market import Side
from koc_qt.domain.orders import OrderRequest, OrderStatus, OrderType, TimeInForce
from koc_qt.domain.state import TradingMode
from koc_qt.link.messages import SubmitOrder
from koc_qt.ui.panels.ticket import TicketPanel
from koc_qt.ui.panels.ticket_draft import Field
from koc_qt.ui.panels.ticket_sending import NOT_KNOWN, REST_MS
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC
from tests.gui.ticket_stage import (
    D,
    Ticket,
    ticket_fixture,  # noqa: F401
)


def requesting(fake: FakeBench, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Have orders end in an error; everything else is as ever."""
    real = fake.client.request

    async def request(command: Any, *, timeout_s: float = 10.0) -> Any:
        if isinstance(command, SubmitOrder):
            await asyncio.sleep(0)
            raise error
        return await real(command, timeout_s=timeout_s)

    monkeypatch.setattr(fake.client, "request", request)


# ---- sending --------------------------------------------------------------------------------------------------------


def test_a_market_order_is_sent_as_it_is_written(ticket: Ticket) -> None:
    ticket.type_in(Field.QUANTITY, "0.5")
    assert ticket.form.send.text() == "Buy 0.5 BTC"
    assert ticket.form.worth.text() == "50.00 USDT"
    assert ticket.form.fee.text() == "0.0500 USDT · taker 0.1 %"
    ticket.click()
    assert ticket.until_sent() == OrderRequest(BTC, Side.BUY, OrderType.MARKET, D("0.5"))
    assert ticket.orders[0].account_id == "paper"
    assert ticket.answer == "Order K00001 is working at the venue"


def test_the_answer_is_followed_until_the_order_ends(ticket: Ticket, fake: FakeBench, qtbot: QtBot) -> None:
    ticket.type_in(Field.QUANTITY, "0.5")
    ticket.click()
    ticket.until_sent()
    order = fake.engine.orders["K00001"]
    for status, words in (
        (OrderStatus.SUBMITTED, "Order K00001 is on its way"),
        (OrderStatus.UNKNOWN, "Order K00001 has had no answer of the venue yet; the engine looks it up"),
        (OrderStatus.REJECTED, "Order K00001 was rejected: too small"),
        (OrderStatus.EXPIRED, "Order K00001 expired, 0 of 0.5 filled: too small"),
        (OrderStatus.CANCELED, "Order K00001 was cancelled, 0 of 0.5 filled: too small"),
    ):
        reason = "too small" if status.is_terminal else ""
        fake.engine._put(msgspec.structs.replace(order, status=status, reason=reason))
        qtbot.waitUntil(lambda words=words: ticket.answer == words)
    fake.engine._put(
        msgspec.structs.replace(
            order, status=OrderStatus.PARTIALLY_FILLED, filled_quantity=D("0.2"), average_price=D("99.123456")
        )
    )
    qtbot.waitUntil(lambda: ticket.answer == "Order K00001 is filled in part, 0.2 of 0.5 at 99.1235")
    fake.engine.fill("K00001", "99.5")
    qtbot.waitUntil(lambda: ticket.answer == "Order K00001 is filled, 0.5 at 99.5")


@pytest.mark.parametrize(
    ("kind", "price", "stop"),
    [
        (OrderType.LIMIT, "98.5", None),
        (OrderType.STOP, None, "101"),
        (OrderType.STOP_LIMIT, "101.25", "101"),
    ],
)
def test_each_type_has_its_fields(ticket: Ticket, kind: OrderType, price: str | None, stop: str | None) -> None:
    ticket.choose(kind)
    assert ticket.form.rows[Field.PRICE].isVisible() == (price is not None)
    assert ticket.form.rows[Field.STOP].isVisible() == (stop is not None)
    assert ticket.form.time.isVisible() == (price is not None)
    assert ticket.form.post_only.isVisible() == (kind is OrderType.LIMIT)
    if price is not None:
        ticket.type_in(Field.PRICE, price)
    if stop is not None:
        ticket.type_in(Field.STOP, stop)
    ticket.type_in(Field.QUANTITY, "1")
    ticket.form.reduce_only.click()
    ticket.click()
    wanted = OrderRequest(
        BTC,
        Side.BUY,
        kind,
        D(1),
        D(price) if price else None,
        D(stop) if stop else None,
        reduce_only=True,
    )
    assert ticket.until_sent() == wanted


def test_what_is_hidden_is_not_sent(ticket: Ticket) -> None:
    ticket.choose(OrderType.LIMIT)
    ticket.type_in(Field.PRICE, "98")
    ticket.form.post_only.click()
    ticket.form.time.choose(TimeInForce.FOK)
    ticket.choose(OrderType.MARKET)
    ticket.type_in(Field.QUANTITY, "1")
    ticket.click()
    assert ticket.until_sent() == OrderRequest(BTC, Side.BUY, OrderType.MARKET, D(1))


def test_post_only_and_time_in_force_are_held_against_each_other(ticket: Ticket) -> None:
    ticket.choose(OrderType.LIMIT)
    ticket.type_in(Field.PRICE, "98")
    ticket.type_in(Field.QUANTITY, "1")
    ticket.form.post_only.click()
    ticket.form.time.choose(TimeInForce.IOC)
    ticket.click()
    assert ticket.problem(Field.FLAGS) == "Post-only needs a limit order that is good till cancelled"
    assert not ticket.orders
    ticket.form.time.choose(TimeInForce.GTC)
    ticket.click()
    assert ticket.until_sent().post_only


@pytest.mark.parametrize("how", ["double click", "keys", "click and keys"])
def test_twice_in_a_moment_sends_once(ticket: Ticket, qtbot: QtBot, how: str) -> None:
    ticket.panel.sending._rest.setInterval(600_000)  # a machine may stop for longer than the moment is
    ticket.type_in(Field.QUANTITY, "0.5")
    send = ticket.form.send
    if how == "double click":
        QTest.mouseClick(send, Qt.MouseButton.LeftButton)
        qtbot.waitUntil(lambda: len(ticket.orders) == 1 and not ticket.panel.sending.is_sending)
        QTest.mouseDClick(send, Qt.MouseButton.LeftButton)  # the engine has answered in between
        QTest.mouseClick(send, Qt.MouseButton.LeftButton)
    else:
        field = ticket.form.numbers[Field.QUANTITY]
        qtbot.keyClick(field, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
        if how == "keys":
            qtbot.keyClick(field, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
        else:
            ticket.click()
    assert not send.isEnabled()
    ticket.panel.sending._rest.setInterval(REST_MS)
    qtbot.waitUntil(send.isEnabled)
    assert len(ticket.orders) == 1
    ticket.click()
    ticket.until_sent(2)


def test_nothing_is_sent_while_the_answer_is_awaited(
    ticket: Ticket, fake: FakeBench, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, gate = fake.client.request, asyncio.Event()

    async def slow(command: Any, *, timeout_s: float = 10.0) -> Any:
        if isinstance(command, SubmitOrder):
            await gate.wait()
        return await real(command, timeout_s=timeout_s)

    monkeypatch.setattr(fake.client, "request", slow)
    ticket.type_in(Field.QUANTITY, "0.5")
    ticket.click()
    qtbot.waitUntil(lambda: not ticket.panel.sending._rest.isActive())
    assert ticket.form.send.text() == "Sending…"
    assert not ticket.form.send.isEnabled()
    ticket.panel.send()
    gate.set()
    ticket.until_sent()
    assert ticket.form.send.text() == "Buy 0.5 BTC"


def test_enter_in_a_field_sends_nothing(ticket: Ticket, qtbot: QtBot) -> None:
    ticket.choose(OrderType.LIMIT)
    ticket.type_in(Field.PRICE, "98")
    ticket.type_in(Field.QUANTITY, "1")
    line = ticket.form.picker.lineEdit()
    assert line is not None
    for field in (*ticket.form.numbers.values(), line):
        field.setFocus()
        qtbot.keyClick(field, Qt.Key.Key_Return)
        qtbot.keyClick(field, Qt.Key.Key_Enter)
    assert not ticket.panel.sending.is_busy
    field = ticket.form.numbers[Field.PRICE]
    field.setFocus()
    qtbot.keyClick(field, Qt.Key.Key_Enter, Qt.KeyboardModifier.ControlModifier)
    ticket.until_sent()


# ---- what can go wrong ----------------------------------------------------------------------------------------------


def test_a_refusal_is_said_in_place(ticket: Ticket, fake: FakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    requesting(fake, monkeypatch, KocError("65,000 orders are open: <b>cancel</b> some first"))
    ticket.type_in(Field.QUANTITY, "0.5")
    ticket.click()
    ticket.qtbot.waitUntil(
        lambda: ticket.answer == "The order was refused: 65,000 orders are open: <b>cancel</b> some first"
    )
    assert ticket.form.answer.textFormat() is Qt.TextFormat.PlainText
    assert not fake.notices
    ticket.qtbot.waitUntil(ticket.form.send.isEnabled)


@pytest.mark.parametrize(
    "reason",
    [
        "The engine was asked to place the order and has not answered within 30 s; it may still do it",
        "the connection to the engine was lost before the answer; it was not sent back",
    ],
)
def test_an_unknown_end_is_called_unknown(
    ticket: Ticket, fake: FakeBench, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    requesting(fake, monkeypatch, LinkError(reason))
    ticket.type_in(Field.QUANTITY, "0.5")
    ticket.click()
    ticket.qtbot.waitUntil(lambda: ticket.answer.startswith(NOT_KNOWN))
    assert ticket.answer.lower().endswith(reason.lower())
    assert fake.texts == [NOT_KNOWN]
    ticket.type_in(Field.QUANTITY, "0.6")
    assert ticket.answer.startswith(NOT_KNOWN)  # it stays until the next order


def test_what_was_certainly_not_sent_is_said_so(
    ticket: Ticket, fake: FakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "The engine was not asked to place the order: it takes no commands now, or is gone; try again"
    requesting(fake, monkeypatch, NotSent(words))
    ticket.type_in(Field.QUANTITY, "0.5")
    ticket.click()
    ticket.qtbot.waitUntil(lambda: ticket.answer == words)
    assert not fake.notices


@pytest.mark.expected_warnings("the window failed at something")
def test_an_error_that_nobody_foresaw_leaves_it_unknown(
    ticket: Ticket, fake: FakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    requesting(fake, monkeypatch, RuntimeError("what is this"))
    ticket.type_in(Field.QUANTITY, "0.5")
    ticket.click()
    ticket.qtbot.waitUntil(lambda: ticket.answer == f"{NOT_KNOWN}\nRuntimeError: what is this")
    ticket.qtbot.waitUntil(ticket.form.send.isEnabled)


@pytest.mark.parametrize("goes", ["hidden", "retired", "deleted"])
def test_the_end_is_told_when_the_ticket_is_gone(
    ticket: Ticket, fake: FakeBench, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, goes: str
) -> None:
    requesting(fake, monkeypatch, KocError("no"))
    ticket.type_in(Field.QUANTITY, "0.5")
    ticket.click()
    if goes == "hidden":
        ticket.panel.hide()
    else:
        ticket.panel.retire()
        if goes == "deleted":
            ticket.panel.deleteLater()
    qtbot.waitUntil(lambda: fake.texts == ["The order was refused: no"])


def test_without_the_engine_nothing_can_be_sent_and_it_says_why(ticket: Ticket, fake: FakeBench, qtbot: QtBot) -> None:
    ticket.type_in(Field.QUANTITY, "0.5")
    fake.client.lose("the engine has been silent for 2 s")
    assert not ticket.form.send.isEnabled()
    assert ticket.form._trouble.isVisible()
    assert ticket.form._trouble_text.text() == "Not connected: the engine has been silent for 2 s"
    assert not ticket.form.quotes.bid.isEnabled()  # a price of earlier is not taken
    qtbot.keyClick(ticket.form.numbers[Field.QUANTITY], Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    ticket.panel.send()
    fake.client.connect()
    qtbot.waitUntil(ticket.form.send.isEnabled)
    assert ticket.form.numbers[Field.QUANTITY].text() == "0.5"
    assert not ticket.form._trouble.isVisible()
    qtbot.waitUntil(lambda: fake.bench.streams.is_flowing(BTC))
    assert not ticket.orders


def test_the_kill_switch_bars_orders(ticket: Ticket, fake: FakeBench, qtbot: QtBot) -> None:
    ticket.type_in(Field.QUANTITY, "0.5")
    fake.engine.pulse(kill_switch=True, kill_reason="pressed")
    qtbot.waitUntil(lambda: not ticket.form.send.isEnabled())
    assert "kill switch is engaged (pressed)" in ticket.form._trouble_text.text()
    ticket.panel.send()
    assert not ticket.orders
    fake.engine.pulse(kill_switch=False, kill_reason="")
    qtbot.waitUntil(ticket.form.send.isEnabled)


# ---- real money -----------------------------------------------------------------------------------------------------


def live(ticket: Ticket) -> QMessageBox:
    """Press Send with real money, and give the question."""
    ticket.account(mode=TradingMode.LIVE)
    ticket.qtbot.waitUntil(lambda: ticket.form.mode.text() == "Live")
    ticket.type_in(Field.QUANTITY, "0.5")
    ticket.click()
    box = ticket.panel.findChild(QMessageBox)
    assert isinstance(box, QMessageBox)
    return box


def press(box: QMessageBox, role: QMessageBox.ButtonRole) -> None:
    """Press the button of a role."""
    next(button for button in box.buttons() if box.buttonRole(button) is role).click()


def test_real_money_is_asked_for_and_sent_once(ticket: Ticket) -> None:
    box = live(ticket)
    assert "Buy 0.5 BTC at the market" in box.informativeText()
    assert "sim:BTC/USDT on the live account paper" in box.informativeText()
    assert box.defaultButton() is box.button(QMessageBox.StandardButton.Cancel)
    assert not ticket.form.send.isEnabled()
    ticket.panel.send()
    assert not ticket.orders
    ticket.form.numbers[Field.QUANTITY].setText("9")  # what was agreed to is what is sent
    press(box, QMessageBox.ButtonRole.AcceptRole)
    assert ticket.until_sent().quantity == D("0.5")


@pytest.mark.parametrize("how", ["cancel", "escape", "enter"])
def test_real_money_not_agreed_to_is_not_sent(ticket: Ticket, how: str) -> None:
    box = live(ticket)
    if how == "cancel":
        press(box, QMessageBox.ButtonRole.RejectRole)
    else:
        ticket.qtbot.keyClick(box, Qt.Key.Key_Escape if how == "escape" else Qt.Key.Key_Return)
    ticket.qtbot.waitUntil(ticket.form.send.isEnabled)
    assert not ticket.orders
    assert ticket.answer == ""


def test_agreed_to_too_late_is_not_sent(ticket: Ticket, fake: FakeBench) -> None:
    box = live(ticket)
    fake.engine.pulse(kill_switch=True, kill_reason="pressed")
    ticket.qtbot.waitUntil(lambda: ticket.form._trouble.isVisible())
    press(box, QMessageBox.ButtonRole.AcceptRole)
    assert ticket.answer.startswith("The order was not sent. The kill switch is engaged")
    assert not ticket.orders


def test_no_account_with_real_money_is_chosen_unasked(fake: FakeBench, qtbot: QtBot) -> None:
    snapshot = fake.engine.snapshot()
    real = msgspec.structs.replace(snapshot.accounts[0], account_id="real", mode=TradingMode.LIVE)
    fake.desk.take(msgspec.structs.replace(snapshot, accounts=(real,)))
    panel = TicketPanel(fake.bench, fake.window)
    fake.window.show()
    assert panel.form.account.value() == ""
    fake.requests.open_ticket(BTC)
    panel.send()
    assert panel.form.rows[Field.ACCOUNT].problem.text() == "Choose an account"
    panel.form.account.choose("real")
    panel.form.account.activated.emit(0)
    assert panel.form.mode.text() == "Live"
    assert panel.state()["account"] == "real"
