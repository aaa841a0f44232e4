"""An order ticket on a fake engine, and somebody who uses it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Quote
from koc_qt.domain.orders import OrderRequest, OrderType
from koc_qt.link.messages import AccountChanged, QuoteChanged, SubmitOrder
from koc_qt.ui.panels.ticket import TicketPanel
from koc_qt.ui.panels.ticket_draft import Field
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC, START_NS

D = Decimal
QUICK_MS = 20  # where a test is not about a pause
ETH = InstrumentId("sim", "ETH/USDT")
RULES = Instrument(
    BTC, "BTC", "USDT", D("0.01"), D("0.0001"), min_notional=D(5), maker_fee=D("0.0002"), taker_fee=D("0.001")
)
ETH_RULES = Instrument(ETH, "ETH", "USDT", D("0.01"), D("0.001"))
FAR = InstrumentId("elsewhere", "BTC/USDT")
FAR_RULES = msgspec.structs.replace(RULES, id=FAR)


class Ticket:
    """A ticket as a person uses it."""

    def __init__(self, fake: FakeBench, qtbot: QtBot, panel: TicketPanel) -> None:
        self.fake, self.qtbot, self.panel = fake, qtbot, panel
        self.form = panel.form

    def type_in(self, where: Field, text: str) -> None:
        """Type a number, and leave the field."""
        field = self.form.numbers[where]
        field.setFocus()
        field.selectAll()
        field.clear()
        if text.isascii():
            self.qtbot.keyClicks(field, text)
        else:  # which QTest has no keys for
            QApplication.clipboard().setText(text)
            field.paste()
        field.editingFinished.emit()

    def choose(self, kind: OrderType) -> None:
        """Choose a type, as a click in the list does."""
        self.form.type.choose(kind)
        self.form.type.activated.emit(self.form.type.currentIndex())

    def click(self) -> None:
        """Press Send."""
        self.qtbot.mouseClick(self.form.send, Qt.MouseButton.LeftButton)

    def quote(self, bid: str = "99.00", ask: str = "100.00", instrument: InstrumentId = BTC) -> None:
        """Have the market move, and the ticket see it."""
        self.fake.engine.publish(QuoteChanged(Quote(instrument, START_NS, D(bid), D(1), D(ask), D(1))))
        shown = self.panel.form.quotes.ask
        self.qtbot.waitUntil(lambda: shown._price == D(ask) and shown.isEnabled())

    def problem(self, where: Field) -> str:
        """Give what is said beneath a field."""
        label = self.form.rows[where].problem
        return label.text() if label.isVisible() else ""

    @property
    def answer(self) -> str:
        """What is said over the button."""
        return self.form.answer.text() if self.form.answer.isVisible() else ""

    @property
    def orders(self) -> list[SubmitOrder]:
        """What the engine was sent."""
        return self.fake.sent(SubmitOrder)

    def until_sent(self, count: int = 1) -> OrderRequest:
        """Wait until the engine has so many orders, and it was said."""
        self.qtbot.waitUntil(lambda: len(self.orders) == count and not self.panel.sending.is_busy)
        return self.orders[-1].request

    def account(self, **changes: Any) -> None:
        """Change the account, or add another one."""
        plain = self.fake.engine.snapshot().accounts[0]
        changed = msgspec.structs.replace(plain, **changes)
        self.fake.engine.publish(AccountChanged(changed))
        self.qtbot.waitUntil(lambda: self.panel.desk.replica.accounts[changed.account_id] == changed)
        self.qtbot.waitUntil(lambda: self.form.account.findData(changed.account_id) >= 0)


@pytest.fixture(name="ticket")
def ticket_fixture(fake: FakeBench, qtbot: QtBot) -> Iterator[Ticket]:
    """Give a ticket for BTC/USDT at 99 to 100."""
    fake.engine.instruments = [RULES, ETH_RULES, FAR_RULES]
    fake.client.connect()
    panel = TicketPanel(fake.bench, fake.window)
    panel._quotes.setInterval(0)
    panel.sending._rest.setInterval(QUICK_MS)
    fake.window.resize(300, 420)
    panel.resize(300, 420)
    fake.window.show()
    fake.requests.open_ticket(BTC)
    ticket = Ticket(fake, qtbot, panel)
    qtbot.waitUntil(lambda: fake.bench.streams.is_flowing(BTC))
    ticket.quote()
    yield ticket
    QApplication.processEvents()
