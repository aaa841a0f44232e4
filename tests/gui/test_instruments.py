"""Rules of markets that come after the connection: tables, charts, tickets and forms go by them at once."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from koc_qt.domain.errors import VenueUnavailable
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Side
from koc_qt.domain.orders import OrderRequest, OrderType
from koc_qt.domain.state import VenueSnapshot, VenueState
from koc_qt.link.messages import Command, InstrumentsAdded, ListInstruments, QuoteChanged, VenueChanged
from koc_qt.ui.desk import Frame
from koc_qt.ui.panels.backtest import BacktestPanel
from koc_qt.ui.panels.chart import ChartPanel
from koc_qt.ui.panels.data import DataPanel
from koc_qt.ui.panels.orders import ALL, FILLS, OPEN, POSITIONS, OrdersPanel
from koc_qt.ui.panels.ticket import TicketPanel
from koc_qt.ui.start_form.market import MarketForm
from koc_qt.ui.symbols import SymbolPicker
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC, START_NS

LATE = InstrumentId("late", "ABC/USDT")
RULES = Instrument(LATE, "ABC", "USDT", Decimal("0.00001"), Decimal("0.001"))
BTC_RULES = Instrument(BTC, "BTC", "USDT", Decimal("0.0001"), Decimal("0.0001"))
JOINED = VenueChanged(VenueSnapshot("late", VenueState.CONNECTED, "", 0, "closed", START_NS))


def shown(panel: OrdersPanel, tab: str, column: str) -> list[str]:
    model = panel.tables[tab].records
    place = [each.name for each in model.columns].index(column)
    return [model.index(row, place).data() for row in range(model.rowCount())]


@pytest.fixture
def nothing_known(fake: FakeBench, qtbot: QtBot) -> FakeBench:
    """Give a bench whose engine has told no rules yet."""
    fake.engine.instruments = []
    fake.client.connect()
    fake.window.resize(900, 600)
    fake.window.show()
    qtbot.waitUntil(lambda: not fake.desk._timer.isActive())
    return fake


def test_tables_write_their_rows_anew(nothing_known: FakeBench, qtbot: QtBot) -> None:
    fake, engine = nothing_known, nothing_known.engine
    panel = OrdersPanel(fake.bench, fake.window)
    panel.resize(1000, 240)
    panel.show()
    engine.fill(engine.place().client_order_id, "99.5")
    engine.place(OrderRequest(BTC, Side.BUY, OrderType.LIMIT, Decimal(2), Decimal("98.5")))
    engine.place(OrderRequest(LATE, Side.BUY, OrderType.LIMIT, Decimal(2), Decimal("0.5")))
    for tab in (POSITIONS, FILLS, ALL, OPEN):
        panel.tabs.setCurrentIndex([OPEN, POSITIONS, FILLS, ALL].index(tab))
        qtbot.waitUntil(lambda tab=tab: panel.tables[tab].records.rowCount() > 0)  # type: ignore[misc]
        shown(panel, tab, "symbol")  # written once
    qtbot.waitUntil(lambda: shown(panel, OPEN, "price") == ["0.5", "98.5"])
    engine.publish(InstrumentsAdded((RULES, BTC_RULES)))
    qtbot.waitUntil(lambda: shown(panel, OPEN, "price") == ["0.50000", "98.5000"])
    for tab, column, wanted in (
        (POSITIONS, "average", ["100.0000"]),
        (FILLS, "price", ["99.5000"]),
        (ALL, "average", ["—", "—", "99.5000"]),
    ):
        panel.tabs.setCurrentIndex([OPEN, POSITIONS, FILLS, ALL].index(tab))
        qtbot.waitUntil(lambda t=tab, c=column, w=wanted: shown(panel, t, c) == w)  # type: ignore[misc]


def test_rules_that_are_known_are_no_news(nothing_known: FakeBench, qtbot: QtBot) -> None:
    frames: list[Frame] = []
    nothing_known.desk.framed.connect(frames.append)
    for _ in range(3):
        nothing_known.engine.publish(InstrumentsAdded((RULES,)))
    qtbot.waitUntil(lambda: bool(frames) and not nothing_known.desk._timer.isActive())
    nothing_known.engine.publish(InstrumentsAdded((RULES,)))
    assert not nothing_known.desk._timer.isActive()
    assert [frame.instruments for frame in frames if frame.instruments] == [{LATE}]


def test_a_chart_has_the_digits_of_its_market(nothing_known: FakeBench, qtbot: QtBot) -> None:
    panel = ChartPanel(nothing_known.bench, nothing_known.window)
    panel.restore({"instrument": str(BTC), "timeframe": "1m"})
    told: list[int] = []
    panel.chart.set_decimals = told.append  # type: ignore[method-assign,assignment]
    nothing_known.engine.publish(InstrumentsAdded((RULES,)))
    nothing_known.engine.publish(InstrumentsAdded((BTC_RULES,)))
    qtbot.waitUntil(lambda: told == [4])


@pytest.mark.parametrize("fact", [InstrumentsAdded((RULES,)), JOINED], ids=["rules", "venue"])
def test_a_ticket_that_could_not_learn_the_rules_has_them_when_the_venue_joins(
    nothing_known: FakeBench, qtbot: QtBot, fact: InstrumentsAdded | VenueChanged
) -> None:
    fake = nothing_known
    away(fake)
    panel = TicketPanel(fake.bench, fake.window)
    panel.show()
    fake.requests.ticket_wanted.emit(LATE, Side.BUY, None)
    qtbot.waitUntil(lambda: "did not come: late is not connected" in panel.market.problem)
    assert panel._entry() is None
    join(fake)
    fake.engine.publish(fact)
    qtbot.waitUntil(lambda: panel.market.rules() == RULES)
    fake.engine.publish(QuoteChanged(fake.engine.quote(1, LATE)))
    qtbot.waitUntil(lambda: panel._entry() is not None)
    panel.retire()


def away(fake: FakeBench) -> None:
    """Have the venue be out of reach."""
    answer = fake.engine.execute

    async def refuse(command: Command, client_id: str) -> Any:
        if isinstance(command, ListInstruments) and not fake.engine.instruments:
            raise VenueUnavailable("late is not connected after 8 s: no answer")
        return await answer(command, client_id)

    fake.engine.execute = refuse  # type: ignore[method-assign]


def join(fake: FakeBench) -> None:
    """Have it be there."""
    fake.engine.instruments = [RULES]


@pytest.mark.parametrize("fact", [InstrumentsAdded((RULES,)), JOINED], ids=["rules", "venue"])
def test_a_symbol_that_could_not_be_looked_up_is_when_the_venue_joins(
    nothing_known: FakeBench, qtbot: QtBot, fact: InstrumentsAdded | VenueChanged
) -> None:
    fake = nothing_known
    away(fake)
    picker = SymbolPicker(fake.desk, fake.window)
    picker.set_venue("late")
    picker.set_text("late:ABC/USDT")
    qtbot.waitUntil(lambda: "cannot be looked up" in picker.problem())
    fake.engine.publish(VenueChanged(VenueSnapshot("other", VenueState.CONNECTED, "", 0, "closed", START_NS)))
    asked = len(fake.sent(ListInstruments))
    join(fake)
    fake.engine.publish(fact)
    qtbot.waitUntil(lambda: picker.instrument() == LATE)
    assert len(fake.sent(ListInstruments)) <= asked + 1


@pytest.mark.parametrize("make", [DataPanel, BacktestPanel, MarketForm])
def test_forms_without_a_symbol_propose_one(nothing_known: FakeBench, qtbot: QtBot, make: Callable[..., Any]) -> None:
    form, picker = made(nothing_known, make)
    form.show()
    assert picker.currentText() == ""
    nothing_known.engine.publish(InstrumentsAdded((BTC_RULES,)))
    qtbot.waitUntil(lambda: picker.instrument() == BTC)


def made(fake: FakeBench, make: Callable[..., Any]) -> tuple[QWidget, SymbolPicker]:
    if make is DataPanel:
        panel = DataPanel(fake.bench, fake.window)
        return panel, panel.form.symbol
    if make is MarketForm:
        form = MarketForm(fake.desk, 1, "1m")
        form.setParent(fake.window)
        return form, form.pickers[0]
    tests = BacktestPanel(fake.bench, fake.window)
    return tests, tests.setup.symbols.pickers[0]
