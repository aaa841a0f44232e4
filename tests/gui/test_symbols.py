"""The symbol field on a fake engine: matches, what is typed, what is refused."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLineEdit
from pytestqt.qtbot import QtBot

from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.link.messages import Command, ListInstruments
from koc_qt.ui.symbols import SymbolPicker
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC, BTC_RULES

ETH = InstrumentId("binance", "ETH/USDT")
PERPETUAL = InstrumentId("binance", "BTC/USDT:USDT")
BTC_TOO = InstrumentId("binance", "BTC/USDT")


def rules(instrument: InstrumentId) -> Instrument:
    return Instrument(instrument, instrument.symbol[:3], "USDT", Decimal("0.01"), Decimal("0.001"))


@pytest.fixture
def picker(fake: FakeBench, qtbot: QtBot) -> SymbolPicker:
    fake.engine.instruments = [BTC_RULES, rules(ETH), rules(PERPETUAL), rules(BTC_TOO)]
    fake.client.connect()
    picker = SymbolPicker(fake.desk, fake.window)
    fake.window.show()
    return picker


def field_of(picker: SymbolPicker) -> QLineEdit:
    field = picker.lineEdit()
    assert field is not None
    return field


def enter(qtbot: QtBot, picker: SymbolPicker, text: str) -> None:
    field = field_of(picker)
    field.setFocus()
    field.selectAll()
    qtbot.keyClicks(field, text)
    qtbot.keyClick(field, Qt.Key.Key_Return)


def test_a_full_name_in_any_case_is_taken(picker: SymbolPicker, qtbot: QtBot) -> None:
    chosen: list[InstrumentId] = []
    picker.chosen.connect(chosen.append)
    enter(qtbot, picker, "SIM:btc/usdt")
    qtbot.waitUntil(lambda: chosen == [BTC])
    assert picker.instrument() == BTC
    assert picker.currentText() == "sim:BTC/USDT"
    assert picker.rules() == BTC_RULES
    enter(qtbot, picker, "sim:BTC/USDT")
    assert picker.instrument() == BTC


def test_typing_offers_matches_which_the_keyboard_chooses(picker: SymbolPicker, qtbot: QtBot) -> None:
    field = field_of(picker)
    field.setFocus()
    qtbot.keyClicks(field, "eth")
    popup = picker._popup
    qtbot.waitUntil(popup.isVisible)
    assert picker._model.stringList() == [str(ETH)]
    qtbot.keyClick(popup, Qt.Key.Key_Down)
    qtbot.keyClick(popup, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: picker.instrument() == ETH)
    assert not popup.isVisible()


def test_the_arrow_and_the_down_key_list_everything(picker: SymbolPicker, qtbot: QtBot) -> None:
    picker.set_instrument(ETH)
    qtbot.keyClick(field_of(picker), Qt.Key.Key_Down)
    qtbot.waitUntil(picker._popup.isVisible)
    assert len(picker._model.stringList()) == 4
    qtbot.keyClick(picker._popup, Qt.Key.Key_Escape)
    assert picker.instrument() == ETH


def test_a_bare_symbol_of_several_venues_asks_which(picker: SymbolPicker, qtbot: QtBot) -> None:
    enter(qtbot, picker, "BTC/USDT")
    qtbot.waitUntil(lambda: bool(picker.problem()))
    assert "sim, binance" in picker.problem()
    assert picker.instrument() is None
    picker.set_venue("sim")
    picker.settle()
    qtbot.waitUntil(lambda: picker.instrument() == BTC)
    assert picker.problem() == ""


def test_a_symbol_with_a_colon_of_its_own(picker: SymbolPicker, qtbot: QtBot) -> None:
    enter(qtbot, picker, "BTC/USDT:USDT")
    qtbot.waitUntil(lambda: picker.instrument() == PERPETUAL)


def test_an_unknown_symbol_is_marked_until_it_is_mended(picker: SymbolPicker, qtbot: QtBot) -> None:
    changes: list[None] = []
    picker.changed.connect(lambda: changes.append(None))
    enter(qtbot, picker, "sim:NO/PE")
    qtbot.waitUntil(lambda: bool(picker.problem()))
    assert "NO/PE" in picker.problem()
    assert picker.property("invalid") is True
    assert picker.toolTip() == picker.problem()
    enter(qtbot, picker, str(BTC))
    qtbot.waitUntil(lambda: picker.instrument() == BTC)
    assert picker.property("invalid") is None
    assert picker.toolTip() == ""
    assert changes


def test_what_could_not_be_looked_up_is_looked_up_when_the_engine_is_back(
    picker: SymbolPicker, fake: FakeBench, qtbot: QtBot
) -> None:
    fake.desk.replica.instruments.clear()
    fake.client.lose()
    picker.set_text(str(ETH))
    qtbot.waitUntil(lambda: "cannot be looked up" in picker.problem())
    fake.client.connect()
    qtbot.waitUntil(lambda: picker.instrument() == ETH)


def test_a_stale_answer_is_not_shown(picker: SymbolPicker, fake: FakeBench, qtbot: QtBot) -> None:
    gate, answer = asyncio.Event(), fake.engine.execute

    async def slow_for_eth(command: Command, client_id: str) -> object:
        if isinstance(command, ListInstruments) and command.text == "ETH":
            fake.engine.commands.append((command, client_id))
            await gate.wait()
        return await answer(command, client_id)

    fake.engine.execute = slow_for_eth  # type: ignore[method-assign]
    picker._look_for("ETH")
    qtbot.waitUntil(lambda: ListInstruments("", "ETH", 50) in fake.sent(ListInstruments))
    field_of(picker).setFocus()
    picker._look_for("USDT:USDT")
    qtbot.waitUntil(lambda: picker._model.stringList() == [str(PERPETUAL)])
    gate.set()
    seen = len(fake.sent(ListInstruments))
    picker._look_for("BTC/USDT:")
    qtbot.waitUntil(lambda: len(fake.sent(ListInstruments)) > seen)
    assert picker._model.stringList() == [str(PERPETUAL)]


def test_an_empty_field_holds_nothing_and_is_no_mistake(picker: SymbolPicker, qtbot: QtBot) -> None:
    picker.set_instrument(BTC)
    field = field_of(picker)
    field.setFocus()
    field.selectAll()
    qtbot.keyClick(field, Qt.Key.Key_Delete)
    qtbot.keyClick(field, Qt.Key.Key_Return)
    assert picker.instrument() is None
    assert picker.problem() == ""


def test_a_reason_of_the_user_is_shown(picker: SymbolPicker) -> None:
    picker.set_instrument(BTC)
    picker.set_problem("the same symbol twice")
    assert picker.property("invalid") is True
    assert picker.instrument() == BTC
