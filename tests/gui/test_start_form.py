"""The form that starts a strategy, on a fake engine: what it asks, what it refuses, what it sends, what it keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QMessageBox, QPushButton
from pytestqt.qtbot import QtBot

from koc_qt.domain.errors import KocError, StrategyError
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.state import AccountSnapshot, StrategySpec, StrategyState, TradingMode, VenueState
from koc_qt.link.messages import (
    AccountChanged,
    Command,
    DescribeStrategy,
    StartStrategy,
    StopStrategy,
    StoreStrategy,
)
from koc_qt.sdk.channel import Described, ParameterInfo
from koc_qt.ui.start_form.form import StartForm
from koc_qt.ui.start_form.parts import NumberBox
from tests.fakes.accounts import SIM
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC, BTC_RULES, strategy_snapshot

ETH = InstrumentId("sim", "ETH/USDT")
BTC_TOO = InstrumentId("sim-b", "BTC/USDT")
DESCRIBED = Described(
    "SMA cross",
    "Long while the fast average is above the slow one.\n\n<b>More</b> words.",
    (
        ParameterInfo("fast", "int", 5, 1, 500, None, (), "bars of the fast average"),
        ParameterInfo("notional", "float", 1_000.0, 1.0),
        ParameterInfo("ratio", "float", 0.5, 0.0, 1.0, 0.25),
        ParameterInfo("maker", "bool", True),
        ParameterInfo("side", "choice", "both", None, None, None, ("both", "long", "short")),
        ParameterInfo("note", "str", ""),
    ),
    "1s",
    ("bars",),
    1,
    20,
)


def rules(instrument: InstrumentId) -> Instrument:
    return msgspec.structs.replace(BTC_RULES, id=instrument)


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "sma_cross.py"
    file.write_text("x = 1\n\nclass Mine(Strategy)\n    pass\n")
    return str(file)


def show(fake: FakeBench, qtbot: QtBot, path: str, **options: Any) -> StartForm:
    """Open a form on an engine that describes files, and wait for its fields."""
    if fake.engine.described is None:
        fake.engine.described = DESCRIBED
    fake.engine.instruments = [BTC_RULES, rules(ETH), rules(BTC_TOO)]
    fake.client.connect()
    fake.window.show()
    form = StartForm(fake.bench, path, fake.window, **options)
    form.open()
    qtbot.waitUntil(lambda: form.sheet.isVisible() or form.trouble.isVisible())
    return form


def test_nothing_of_it_is_ever_a_window_of_its_own(fake: FakeBench, qtbot: QtBot, path: str, strays: list[str]) -> None:
    form = show(fake, qtbot, path)
    form.trouble.say("It cannot be started", "Something is wrong.", "x = 1")
    form.problem.say("")
    form.problem.say("One thing more")
    assert form.problem.isVisible()
    assert strays == []


def intercept(fake: FakeBench, answer: Callable[[Command], Any]) -> None:
    """Have the engine answer otherwise where `answer` gives something else than None."""
    plain = fake.engine.execute

    async def execute(command: Command, client_id: str) -> Any:
        given = answer(command)
        if asyncio.iscoroutine(given):
            given = await given
        if given is None:
            return await plain(command, client_id)
        fake.engine.commands.append((command, client_id))
        return given

    fake.engine.execute = execute  # type: ignore[method-assign]


def refuse(kind: type[Any], sentence: str) -> Callable[[Command], Any]:
    def answer(command: Command) -> Any:
        if isinstance(command, kind):
            raise StrategyError(sentence)
        return None

    return answer


def number(form: StartForm, name: str) -> NumberBox:
    assert form.parameters is not None
    control = form.parameters.fields[name]._control
    assert isinstance(control, NumberBox)
    return control


def type_number(form: StartForm, name: str, text: str) -> None:
    number(form, name).lineEdit().setText(text)


def test_the_defaults_start_at_once(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    form = show(fake, qtbot, path)
    panels: list[str] = []
    charts: list[tuple[InstrumentId, str]] = []
    fake.requests.panel_wanted.connect(panels.append)
    fake.requests.chart_wanted.connect(lambda instrument, timeframe: charts.append((instrument, timeframe)))
    assert fake.sent(DescribeStrategy) == [DescribeStrategy(path)]
    assert form.reason_not_to() == ""
    assert form.objectName() == "start-form"
    assert not form.isModal()  # the kill switch stays in reach
    assert "Start" in [button.text() for button in form.findChildren(QPushButton)]
    with qtbot.waitSignal(form.started) as started:
        QTest.mouseClick(form.start_button, Qt.MouseButton.LeftButton)
    assert fake.sent(StartStrategy) == [StartStrategy(StrategySpec("", path, "paper", (BTC,), "1s", {}))]
    assert started.args == [""]
    assert panels == ["telemetry"]
    assert fake.texts == ["SMA cross runs as "]  # the fake engine chooses no id
    assert charts == [(BTC, "1s")]
    assert not form.isVisible()


def test_what_was_changed_is_sent_and_nothing_else(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    form = show(fake, qtbot, path)
    assert form.parameters is not None
    assert form.market is not None
    type_number(form, "notional", "1.000000123456789")
    form.parameters.fields["maker"].set_value(False)
    form.parameters._field_edited()
    form.market.timeframe.setCurrentText("90s")
    form.market.pickers[0].set_text("eth/usdt")
    qtbot.waitUntil(lambda: form.reason_not_to() == "")
    form.activateWindow()
    qtbot.waitUntil(form.isActiveWindow)
    QTest.keyClick(form, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: bool(fake.sent(StartStrategy)))
    wanted = {"notional": 1.000000123456789, "maker": False}
    assert fake.sent(StartStrategy)[0].spec == StrategySpec("", path, "paper", (ETH,), "90s", wanted)
    qtbot.waitUntil(lambda: not form.isVisible())


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("fast", "900", "at most 500"),
        ("fast", "0", "at least 1"),
        ("fast", "2.5", "whole number"),
        ("fast", "", "whole number"),
        ("notional", "0,5", "must be a number"),
        ("notional", "nan", "must be a number"),
        ("ratio", "0.3", "steps of 0.25"),
    ],
)
def test_a_number_out_of_range_is_refused_in_place(
    fake: FakeBench, qtbot: QtBot, path: str, name: str, text: str, said: str
) -> None:
    form = show(fake, qtbot, path)
    assert form.parameters is not None
    type_number(form, name, text)
    assert said in form.parameters.fields[name].problem
    assert said in form.problem.text()
    assert not form.start_button.isEnabled()
    assert number(form, name).text() == text
    assert number(form, name).property("invalid") is True
    form.start()
    form.parameters.fields[name].reset_button.click()
    assert form.reason_not_to() == ""
    assert form.start_button.isEnabled()
    assert fake.sent(StartStrategy) == []
    form.reject()


def test_steps_keep_to_grid_and_range(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    form = show(fake, qtbot, path)
    fast, ratio, notional = number(form, "fast"), number(form, "ratio"), number(form, "notional")
    seen = []
    for box, start, steps in (
        (fast, "5", 1),
        (fast, "499", 10),
        (fast, "1", -1),
        (fast, "nonsense", 1),
        (fast, "1e9", -1),
        (ratio, "0.5", 1),
        (ratio, "0.3", 1),
        (ratio, "1", 1),
        (notional, "1000", 1),
        (notional, "0.1", -1),
    ):
        box.lineEdit().setText(start)
        box.stepBy(steps)
        seen.append(box.text())
    assert seen == ["6", "500", "1", "6", "500", "0.75", "0.5", "1", "1001", "1"]
    form.reject()


def test_the_wheel_changes_nothing_in_passing(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    form = show(fake, qtbot, path)
    assert form.market is not None
    for widget in (number(form, "fast"), form.market.timeframe, form.market.account):
        place = QPointF(widget.rect().center())
        wheel = QWheelEvent(
            place,
            QPointF(widget.mapToGlobal(place.toPoint())),
            QPoint(0, -120),
            QPoint(0, -120),
            Qt.MouseButton.NoButton,
            Qt.KeyboardModifier.NoModifier,
            Qt.ScrollPhase.NoScrollPhase,
            False,
        )
        QApplication.sendEvent(widget, wheel)
    assert number(form, "fast").text() == "5"
    assert form.market.timeframe_text() == "1s"
    form.reject()


def test_json_and_fields_follow_each_other(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    form = show(fake, qtbot, path)
    parameters = form.parameters
    assert parameters is not None
    type_number(form, "fast", "7")
    assert '"fast": 7' in parameters.json.toPlainText()
    parameters.json.setPlainText('{"fast": 9, "side": "short"}')
    assert number(form, "fast").text() == "9"
    assert parameters.values()["side"] == "short"
    parameters.json.setPlainText('{\n "fast": 9,\n "slo": 1}')
    assert "Line 3, column 2" in form.problem.text()
    assert "'slo'" in form.problem.text()
    assert number(form, "fast").text() == "9"
    assert not form.start_button.isEnabled()
    type_number(form, "fast", "11")
    assert form.reason_not_to() == ""
    assert '"fast": 11' in parameters.json.toPlainText()
    parameters.reset_all.click()
    assert number(form, "fast").text() == "5"
    assert '"fast": 5' in parameters.json.toPlainText()
    assert not parameters.reset_all.isEnabled()
    form.reject()


def test_enter_in_a_field_starts_nothing(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    form = show(fake, qtbot, path)
    box = number(form, "fast")
    box.setFocus()
    QTest.keyClick(box, Qt.Key.Key_Return)
    assert form.market is not None
    form.market.timeframe.setFocus()
    QTest.keyClick(form.market.timeframe, Qt.Key.Key_Return)
    assert fake.sent(StartStrategy) == []
    assert form.isVisible()
    form.reject()


def test_a_timeframe_that_is_none(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    form = show(fake, qtbot, path)
    assert form.market is not None
    form.market.timeframe.setCurrentText("5 minutes")
    assert "is not a timeframe" in form.problem.text()
    assert not form.start_button.isEnabled()
    form.market.timeframe.setCurrentText("5m")
    assert form.reason_not_to() == ""
    form.reject()


def test_two_symbols_of_two_venues(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    fake.engine.described = msgspec.structs.replace(DESCRIBED, instruments_wanted=2)
    form = show(fake, qtbot, path)
    assert form.market is not None
    first, second = form.market.pickers
    assert form.market.instruments() == (BTC,)
    assert "2 symbols" in form.problem.text()
    second.set_text("sim:BTC/USDT")
    qtbot.waitUntil(lambda: "chosen already" in form.problem.text())
    assert second.property("invalid") is True
    second.set_text("sim-b:BTC/USDT")
    qtbot.waitUntil(lambda: "no account in paper mode at sim-b" in form.problem.text())
    fake.engine.publish(AccountChanged(AccountSnapshot("b", "sim-b", TradingMode.PAPER, VenueState.CONNECTED, (), 0)))
    qtbot.waitUntil(lambda: form.reason_not_to() == "")
    assert form.market.instruments() == (BTC, BTC_TOO)
    assert first.instrument() == BTC
    form.reject()


def answer_box(qtbot: QtBot, form: StartForm, role: QMessageBox.ButtonRole) -> None:
    """Answer the question whether real money is meant."""
    box = form.findChild(QMessageBox, "confirm-live")
    assert isinstance(box, QMessageBox)
    assert box.isVisible()
    assert not box.isModal()
    assert "real" in box.informativeText()
    next(button for button in box.buttons() if box.buttonRole(button) is role).click()
    qtbot.waitUntil(lambda: form.findChild(QMessageBox, "confirm-live") is None)


def test_real_money_needs_a_yes(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    form = show(fake, qtbot, path)
    market = form.market
    assert market is not None
    fake.engine.publish(AccountChanged(AccountSnapshot("real", "sim", TradingMode.LIVE, VenueState.CONNECTED, (), 0)))
    qtbot.waitUntil(lambda: market.account.count() == 2)
    assert market.account_id() == "paper"
    market.account.setCurrentIndex(1)
    assert market.mode.text() == "Live"
    assert form.start_button.text() == "Start"
    assert form.start_button.property("role") == "danger"
    form.start_button.click()
    assert not form.start_button.isEnabled()
    form.start()  # while it asks, nothing starts
    answer_box(qtbot, form, QMessageBox.ButtonRole.RejectRole)
    assert fake.sent(StartStrategy) == []
    assert form.start_button.isEnabled()
    form.start_button.click()
    answer_box(qtbot, form, QMessageBox.ButtonRole.AcceptRole)
    qtbot.waitUntil(lambda: not form.isVisible())
    assert [command.spec.account_id for command in fake.sent(StartStrategy)] == ["real"]


def test_a_yes_to_real_money_counts_for_nothing_once_the_kill_switch_is_engaged(
    fake: FakeBench, qtbot: QtBot, path: str
) -> None:
    live = AccountSnapshot("real", "sim", TradingMode.LIVE, VenueState.CONNECTED, (), 0)
    form = show(fake, qtbot, path, remembered={"account": "real"})
    assert form.market is not None
    fake.engine.publish(AccountChanged(live))
    market = form.market
    qtbot.waitUntil(lambda: market.account.count() == 2)
    market.account.setCurrentIndex(1)
    form.start()
    fake.engine.pulse(kill_switch=True)
    answer_box(qtbot, form, QMessageBox.ButtonRole.AcceptRole)
    assert "kill switch" in form.problem.text()
    assert fake.sent(StartStrategy) == []
    form.reject()


def test_a_syntax_error_shows_its_line_until_it_is_mended(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    broken = [True]

    def answer(command: Command) -> Any:
        if isinstance(command, DescribeStrategy) and broken:
            raise StrategyError(f"{path}, line 3: syntax error in sma_cross.py, line 3: expected ':'")
        return None

    intercept(fake, answer)
    form = show(fake, qtbot, path)
    assert form.trouble.title.text() == "sma_cross.py cannot be started"
    assert form.trouble.words.text() == "Syntax error in sma_cross.py, line 3: expected ':'"
    assert form.trouble.code.toPlainText() == "3 | class Mine(Strategy)\n  | ^^^^^^^^^^^^^^^^^^^^"
    assert not form.start_button.isVisible()
    broken.clear()
    form.trouble.reload.click()
    qtbot.waitUntil(form.sheet.isVisible)
    assert form.reason_not_to() == ""
    form.reject()


def test_a_failed_start_loses_nothing(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    form = show(fake, qtbot, path)
    intercept(fake, refuse(StartStrategy, f"{path}: fast (7) must be below slow (5)"))
    type_number(form, "fast", "7")
    form.start()
    qtbot.waitUntil(lambda: "must be below" in form.problem.text())
    assert form.isVisible()
    assert number(form, "fast").text() == "7"
    assert form.start_button.isEnabled()
    form.read()
    qtbot.waitUntil(form.sheet.isVisible)
    assert number(form, "fast").text() == "7"
    form.reject()


def test_a_lost_engine_is_said_and_the_file_read_when_it_is_back(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    fake.client.lose("gone")
    fake.engine.described = DESCRIBED
    form = StartForm(fake.bench, path, fake.window)
    form.open()
    qtbot.waitUntil(form.trouble.isVisible)
    assert "was not read" in form.trouble.title.text()
    fake.client.connect()
    qtbot.waitUntil(form.sheet.isVisible)
    fake.client.lose("gone again")
    assert "gone again" in form.problem.text()
    assert not form.start_button.isEnabled()
    form.reject()


def test_the_kill_switch_forbids_a_start(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    form = show(fake, qtbot, path)
    fake.engine.pulse(kill_switch=True)
    qtbot.waitUntil(lambda: "kill switch" in form.problem.text())
    assert not form.start_button.isEnabled()
    form.reject()


def test_a_closed_form_waits_for_nothing(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    gate = asyncio.Event()
    intercept(fake, lambda command: gate.wait() if isinstance(command, DescribeStrategy) else None)
    fake.client.connect()
    form = StartForm(fake.bench, path, fake.window)
    form.show()
    assert form.reading.isVisible()
    assert "sma_cross.py" in form.reading.words.text()
    form.reject()
    qtbot.waitUntil(lambda: not form._work.is_running)
    assert not form.isVisible()


def test_a_file_that_is_gone(fake: FakeBench, qtbot: QtBot, tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.py")
    intercept(fake, refuse(DescribeStrategy, f"{gone} cannot be read: No such file or directory"))
    form = show(fake, qtbot, gone)
    assert "No such file" in form.trouble.words.text()
    form.reject()


def test_too_many_symbols_and_answers_of_another_kind(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    fake.engine.described = msgspec.structs.replace(DESCRIBED, instruments_wanted=10_000)
    form = show(fake, qtbot, path)
    assert "wants 10000 symbols" in form.trouble.words.text()
    form.reject()
    intercept(fake, lambda command: {"name": 1} if isinstance(command, DescribeStrategy) else None)
    form = show(fake, qtbot, path)
    assert "cannot be read" in form.trouble.words.text()
    form.reject()


def test_words_of_a_file_are_shown_as_they_are(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    fake.engine.described = msgspec.structs.replace(DESCRIBED, name="<h1>Rich</h1>", doc="<img src='http://x/y.png'>")
    form = show(fake, qtbot, path)
    shown = {each.text(): each.textFormat() for each in form.sheet.findChildren(type(form.problem))}
    assert shown["<h1>Rich</h1>"] is Qt.TextFormat.PlainText
    assert shown["<img src='http://x/y.png'>"] is Qt.TextFormat.PlainText
    form.reject()


def test_a_remote_engine_is_brought_the_file(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    fake.desk.use(fake.client, is_remote=True)
    source = Path(path).read_bytes()
    fake.engine.stored["sma_cross.py"] = b"another"
    form = show(fake, qtbot, path)
    assert fake.sent(DescribeStrategy) == [DescribeStrategy("sma_cross.py", source)]
    assert not form.replace_button.isVisible()
    form.start()
    qtbot.waitUntil(form.replace_button.isVisible)
    assert "another sma_cross.py" in form.problem.text()
    assert form.replace_button.text() == "Replace it"
    assert [command.replace for command in fake.sent(StoreStrategy)] == [False]
    form.replace_button.click()
    qtbot.waitUntil(lambda: not form.isVisible())
    assert fake.sent(StoreStrategy)[-1] == StoreStrategy("sma_cross.py", source, True)
    assert fake.sent(StartStrategy)[0].spec.path == "/engine/strategies/sma_cross.py"


def test_what_was_used_is_there_again(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    remembered = {
        "account": "paper",
        "symbols": ["sim:ETH/USDT"],
        "timeframe": "5m",
        "parameters": {"fast": 11, "gone": 1, "ratio": 7.0, "note": "x"},
    }
    form = show(fake, qtbot, path, remembered=remembered)
    assert form.market is not None
    assert form.market.instruments() == (ETH,)
    wanted = {"fast": 11, "notional": 1_000.0, "ratio": 0.5, "maker": True, "side": "both", "note": "x"}
    assert form.remember() == {**remembered, "parameters": wanted}
    form.reject()


@pytest.mark.parametrize(
    "remembered",
    [{"account": 7, "symbols": 3, "timeframe": [], "parameters": "x"}, {"symbols": ["", 1], "account": "?"}],
)
def test_what_cannot_be_remembered_is_left_out(
    fake: FakeBench, qtbot: QtBot, path: str, remembered: dict[str, Any]
) -> None:
    form = show(fake, qtbot, path, remembered=remembered)
    assert form.reason_not_to() == ""
    form.reject()


def test_a_running_strategy_is_stopped_and_started_with_other_parameters(
    fake: FakeBench, qtbot: QtBot, path: str
) -> None:
    spec = StrategySpec("sma-1", path, "paper", (BTC,), "1m", {"fast": 10})
    fake.engine.show(strategy_snapshot(spec=spec))
    form = show(fake, qtbot, "", spec=spec)
    assert number(form, "fast").text() == "10"
    assert form.start_button.text() == "Restart"
    assert "stopped first" in form.problem.text()
    type_number(form, "fast", "12")
    form.start()
    qtbot.waitUntil(lambda: not form.isVisible())
    kinds = [type(command) for command, _ in fake.engine.commands if isinstance(command, (StartStrategy, StopStrategy))]
    assert kinds == [StopStrategy, StartStrategy]
    assert fake.sent(StartStrategy)[0].spec == msgspec.structs.replace(spec, parameters={"fast": 12})


def test_a_stopped_one_is_started_again_under_its_name(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    spec = StrategySpec("sma-1", path, "paper", (BTC,), "1m", {})
    fake.engine.show(strategy_snapshot(spec=spec, state=StrategyState.STOPPED))
    form = show(fake, qtbot, "", spec=spec)
    form.start()
    qtbot.waitUntil(lambda: not form.isVisible())
    assert fake.sent(StopStrategy) == []
    assert fake.sent(StartStrategy)[0].spec.strategy_id == "sma-1"


def test_a_backtest_is_offered(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    form = show(fake, qtbot, path)
    offered: list[str] = []
    fake.requests.backtest_offered.connect(offered.append)
    form.backtest_button.click()
    assert offered == [path]
    assert not form.isVisible()


def test_nothing_closes_it_while_it_starts(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    form = show(fake, qtbot, path)
    gate = asyncio.Event()

    async def wait() -> str:
        await gate.wait()
        return "sma-1"

    intercept(fake, lambda command: wait() if isinstance(command, StartStrategy) else None)
    form.start()
    form.start()
    form.reject()
    form.close()
    assert form.isVisible()
    gate.set()
    qtbot.waitUntil(lambda: not form.isVisible())
    assert len(fake.sent(StartStrategy)) == 1


def test_it_fits_a_small_window(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    many = tuple(ParameterInfo(f"p{n}", "float", 1.0) for n in range(60))
    fake.engine.described = msgspec.structs.replace(DESCRIBED, parameters=many)
    fake.window.resize(1024, 700)
    form = show(fake, qtbot, path)
    assert form.height() <= 700
    qtbot.waitUntil(lambda: form.sheet.verticalScrollBar().maximum() > 0)
    assert form.rect().contains(form.start_button.mapTo(form, form.start_button.rect().bottomRight()))
    form.reject()


def test_many_fields_are_shown_one_after_the_other(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    many = tuple(ParameterInfo(f"p{n}", "float", 1.0) for n in range(30))
    fake.engine.described = msgspec.structs.replace(DESCRIBED, parameters=many)
    form = show(fake, qtbot, path)
    height = form.height()
    assert form.parameters is not None
    fields = list(form.parameters.fields.values())
    assert (len(fields), fields[0].isVisible(), fields[-1].isVisible()) == (30, True, False)
    fields[-1].set_value(2.5)
    assert form.parameters.values()["p29"] == 2.5  # they hold good all the same
    qtbot.waitUntil(fields[-1].isVisible)
    assert all(field.isVisible() for field in fields)
    assert form.height() == height  # room was left for them
    form.reject()


def test_reading_the_file_anew_while_fields_are_shown_shows_the_new_ones(
    fake: FakeBench, qtbot: QtBot, path: str
) -> None:
    many = tuple(ParameterInfo(f"p{n}", "float", 1.0) for n in range(30))
    fake.engine.described = msgspec.structs.replace(DESCRIBED, parameters=many)
    form = show(fake, qtbot, path)
    before = form.parameters
    fake.engine.described = msgspec.structs.replace(DESCRIBED, parameters=many[:20])
    form.read()
    qtbot.waitUntil(lambda: form.parameters is not before and form.sheet.isVisible())
    assert form.parameters is not None
    fields = form.parameters.fields
    qtbot.waitUntil(lambda: all(field.isVisible() for field in fields.values()))
    assert list(fields) == [f"p{n}" for n in range(20)]
    form.reject()


def test_money_is_no_float_anywhere(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    form = show(fake, qtbot, path)
    for text in ("0.1", "123456789.123456", "1e-9"):
        type_number(form, "notional", text)
        if Decimal(text) >= 1:
            assert Decimal(repr(number(form, "notional").value())) == Decimal(text)
    form.reject()


def test_an_error_of_the_engine_is_no_accident(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    def answer(command: Command) -> Any:
        if isinstance(command, DescribeStrategy):
            raise KocError("sma_cross.py could not be read: the process ran out of memory")
        return None

    intercept(fake, answer)
    form = show(fake, qtbot, path)
    assert "out of memory" in form.trouble.words.text()
    assert not form.trouble.code.isVisible()
    form.reject()


def test_a_form_that_grows_stays_on_the_screen(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    gate = asyncio.Event()

    async def late(command: Command) -> Any:
        await gate.wait()
        return None

    intercept(fake, lambda command: late(command) if isinstance(command, DescribeStrategy) else None)
    fake.engine.described = DESCRIBED
    fake.window.show()
    form = StartForm(fake.bench, path, fake.window)
    form.open()
    area = form.screen().availableGeometry()
    form.move(area.left(), area.bottom() - form.frameGeometry().height())
    gate.set()
    qtbot.waitUntil(form.sheet.isVisible)
    assert form.frameGeometry().bottom() <= area.bottom()
    assert form.frameGeometry().top() >= area.top()
    form.reject()


def test_only_accounts_that_take_orders_are_offered(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    plain = fake.engine.accounts.snapshots["paper"]
    more = {"off": {"enabled": False}, "data": {"mode": TradingMode.DATA}, "second": {"label": "The second"}}
    for account_id, changes in more.items():
        fake.engine.accounts.show(msgspec.structs.replace(plain, account_id=account_id, **changes))
    form = show(fake, qtbot, path)
    assert form.market is not None
    shown = [form.market.account.itemText(row) for row in range(form.market.account.count())]
    assert shown == ["paper  ·  sim", "The second  ·  sim"]
    form.close()


def test_a_timeframe_that_the_venue_has_no_history_of_is_warned_about(fake: FakeBench, qtbot: QtBot, path: str) -> None:
    fake.engine.accounts.abilities = (msgspec.structs.replace(SIM, timeframes=("1m", "1h")),)
    form = show(fake, qtbot, path)
    assert form.market is not None
    words = "Simulated market has no history that 1s bars can be made of: only live bars come"
    qtbot.waitUntil(lambda: form.market is not None and form.market.timeframe_words.text() == words)
    assert form.start_button.isEnabled()
    form.market.timeframe.setCurrentText("15m")  # of those of a minute
    assert form.market.timeframe_words.text() == "The strategy declares 1s"
    form.close()
