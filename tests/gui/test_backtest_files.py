"""The back-test panel on files of bars: chosen, named where the engine is elsewhere, run, and looked at."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from decimal import Decimal

import msgspec
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog, QWidget
from pytestqt.qtbot import QtBot

from koc_qt.domain.backtests import ALL_NS, FILE_VENUE, BacktestSpec
from koc_qt.domain.errors import BadBars
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.domain.timeframes import DAY_NS
from koc_qt.link.messages import Command, FetchBars, StartBacktest
from koc_qt.reports.words import settings
from koc_qt.ui.backtests.command import command_of
from koc_qt.ui.backtests.words import assumptions
from koc_qt.ui.panels.backtest import BacktestPanel
from koc_qt.ui.panels.backtest_span import OWN, WHOLE
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC, START_NS
from tests.gui.backtest_stage import (
    described,
    field,
    finish,
    panel_fixture,  # noqa: F401
    ready_fixture,  # noqa: F401
    result,
    trips,
)

GOOG = "/bars/us_GOOG_1d.parquet"
SPY = "/bars/us_SPY_1d.parquet"


def symbol(name: str = "us_GOOG_1d") -> InstrumentId:
    return InstrumentId(FILE_VENUE, name)


def started(panel: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> BacktestSpec:
    """Press Run, and give what the engine was asked for."""
    before = len(fake.sent(StartBacktest))
    panel.run()
    qtbot.waitUntil(lambda: len(fake.sent(StartBacktest)) > before)
    spec: BacktestSpec = fake.sent(StartBacktest)[-1].spec
    return spec


def ranges(panel: BacktestPanel) -> list[str]:
    box = panel.setup.span.quick
    return [box.itemText(row) for row in range(box.count())]


def test_a_file_takes_the_place_of_the_symbols_and_all_of_it_is_run(
    ready: BacktestPanel, fake: FakeBench, qtbot: QtBot
) -> None:
    setup, bars = ready.setup, ready.setup.bars
    assert bars.open.isVisible()
    assert not bars.field.isVisible()
    bars.open.setFocus()
    QTest.keyClick(bars.open, Qt.Key.Key_Space)
    dialog = ready.window().findChild(QFileDialog)
    assert dialog is not None
    assert dialog.nameFilters()[0] == "Bars (*.parquet *.pq *.csv)"
    dialog.filesSelected.emit([GOOG])
    dialog.reject()
    assert (bars.line.text(), bars.line.toolTip(), bars.line.isReadOnly()) == ("us_GOOG_1d.parquet", GOOG, True)
    assert not setup.symbols.isVisible()
    assert ready.window().focusWidget() is bars.line
    assert not bars.open.isVisible()
    assert not bars.elsewhere.isVisible()
    assert ranges(ready) == [WHOLE, OWN]
    assert setup.costs.edits["fee"].placeholderText() == "None"
    assert (setup.timeframe.currentText(), setup.timeframe_field.problem) == ("", "")
    spec = started(ready, fake, qtbot)
    assert (spec.files, spec.instruments, spec.timeframe) == ((GOOG,), (symbol(),), "")
    assert (spec.since_ns, spec.until_ns) == ALL_NS
    assert setup.state()["files"] == [GOOG]


def test_how_a_file_is_read_is_asked_for_and_remembered(ready: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    setup, reading = ready.setup, ready.setup.bars.reading
    assert not reading.isVisible()
    setup.bars.choose([GOOG])
    assert reading.isVisible()
    reading.edits["tick"].setText("a cent")
    reading.edits["lot"].setText("-1")
    assert setup.specs() == []
    assert setup.hint.text() == "Nothing was started. Tick: A number above zero, or nothing"
    assert reading.fields["lot"].problem == "A number above zero, or nothing"
    reading.edits["tick"].setText("0.01")
    reading.edits["lot"].setText("1,000")
    reading.skip_bad.click()
    spec = started(ready, fake, qtbot)
    assert (spec.tick, spec.lot, spec.skip_bad) == (Decimal("0.01"), Decimal(1_000), True)
    assert {"--tick 0.01", "--lot 1000", "--skip-bad"} <= {f"--{each}" for each in command_of(spec).split(" --")}
    assert {("Tick", "0.01"), ("Lot", "1,000"), ("Bad rows", "left out")} <= set(settings(result(spec)))
    state = setup.state()
    setup.bars.leave()
    assert (setup.specs()[0].tick, setup.specs()[0].skip_bad) == (None, False)
    setup.take(msgspec.structs.replace(spec, tick=None, lot=Decimal("1E-8"), skip_bad=False))
    assert (reading.edits["tick"].text(), reading.edits["lot"].text()) == ("", "0.00000001")
    assert not reading.skip_bad.isChecked()
    setup.restore(state)
    assert setup.specs()[0] == spec


def test_the_way_back_to_symbols(ready: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    setup = ready.setup
    before = setup.state()
    setup.bars.choose([GOOG])
    setup.bars.back.setFocus()
    QTest.keyClick(setup.bars.back, Qt.Key.Key_Space)
    assert setup.symbols.isVisible()
    assert QApplication.focusWidget() is setup.bars.open
    assert setup.state() == before
    assert setup.timeframe.currentText() == "5m"
    assert setup.span.quick.currentText() == "Last 90 days"
    spec = started(ready, fake, qtbot)
    assert (spec.files, spec.instruments, spec.timeframe) == ((), (BTC,), "5m")


def test_a_timeframe_and_a_range_of_ones_own(ready: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    setup = ready.setup
    setup.bars.choose([GOOG])
    setup.timeframe.setEditText("1w")
    setup.span.restore({"quick": OWN, "since_s": 86_400, "until_s": 10 * 86_400})
    ready.offer("/strategies/other.py")  # which declares 5m
    qtbot.waitUntil(lambda: setup.described is not None)
    spec = started(ready, fake, qtbot)
    assert (spec.timeframe, spec.since_ns, spec.until_ns) == ("1w", DAY_NS, 10 * DAY_NS)
    setup.timeframe.setEditText("often")
    assert setup.timeframe_field.problem
    assert setup.specs() == []
    setup.timeframe.setEditText("")
    assert [each.timeframe for each in setup.specs()] == [""]


def test_as_many_files_as_the_strategy_wants_each_with_a_name_of_its_own(
    ready: BacktestPanel, fake: FakeBench, qtbot: QtBot
) -> None:
    setup = ready.setup
    setup.bars.choose([GOOG, SPY])
    assert setup.specs() == []
    assert setup.bars.field.problem == "The strategy runs on one file, and here are 2 files"
    assert setup.hint.text().startswith("Nothing was started. Bars from a file: The strategy runs on one file")
    fake.engine.described = described(2)
    setup.file.again.click()
    qtbot.waitUntil(lambda: setup.described is not None and setup.described.instruments_wanted == 2)
    [spec] = setup.specs()
    assert (spec.files, spec.instruments) == ((GOOG, SPY), (symbol(), symbol("us_SPY_1d")))
    setup.bars.choose([GOOG, "/other/us_GOOG_1d.csv"])
    assert setup.specs() == []
    assert setup.bars.field.problem == "Two of the files have the same name"
    setup.bars.choose([GOOG])
    assert setup.specs() == []
    assert setup.bars.field.problem == "The strategy runs on 2 files, and here is one file"


def test_on_another_machine_a_path_there_is_typed(ready: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    fake.desk.is_remote = True
    setup, bars = ready.setup, ready.setup.bars
    bars.open.click()
    assert ready.window().findChild(QFileDialog) is None
    assert bars.elsewhere.isVisible()
    bars.line.setFocus()
    assert bars.elsewhere.text().startswith("The file must lie on the engine's machine")
    assert not bars.browse.isVisible()
    assert setup.specs() == []
    assert bars.field.problem == "Give the path of a file of bars"
    QTest.keyClicks(bars.line, r"C:\bars\us_GOOG_1d.parquet ; ")
    [spec] = setup.specs()
    assert (spec.files, spec.instruments) == ((r"C:\bars\us_GOOG_1d.parquet",), (symbol(),))


def test_what_was_chosen_is_remembered_and_taken_over_from_a_run(ready: BacktestPanel, fake: FakeBench) -> None:
    setup = ready.setup
    setup.bars.choose([GOOG])
    state = setup.state()
    setup.bars.leave()
    setup.restore(state)
    assert (setup.bars.paths, setup.span.quick.currentText()) == ((GOOG,), WHOLE)
    setup.restore({**state, "files": "nonsense"})
    named = InstrumentId("nasdaq", "GOOG")
    spec = BacktestSpec("/strategies/sma_cross.py", (named,), "1d", DAY_NS, 9 * DAY_NS, files=(SPY,))
    setup.take(spec)
    [again] = setup.specs()
    assert (again.files, again.instruments, again.timeframe) == ((SPY,), (named,), "1d")
    assert (again.since_ns, again.until_ns) == (DAY_NS, 9 * DAY_NS)
    setup.take(msgspec.structs.replace(spec, files=(), instruments=(BTC,)))
    assert (setup.bars.paths, setup.symbols.chosen()) == ((), [BTC])
    assert setup.timeframe.currentText() == "1d"


@pytest.fixture
def shown(ready: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> BacktestPanel:
    """Give a panel that shows what came of a run on a file, on which the engine has bars."""
    ready.setup.bars.choose([GOOG])
    ready.run()
    qtbot.waitUntil(lambda: ready._run_id == "backtest-1")
    run = fake.engine.backtests["backtest-1"]
    until_ns = START_NS + 90 * DAY_NS
    placed = msgspec.structs.replace(run.spec, timeframe="1d", since_ns=START_NS, until_ns=until_ns)
    fake.engine.backtest("backtest-1", spec=placed)
    trades = [msgspec.structs.replace(each, instrument=symbol()) for each in trips(3)]
    finish(fake, "backtest-1", trades=trades, timeframe="1d")
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.result)
    fake.engine.bars = [
        Bar(symbol(), "1d", START_NS + day * DAY_NS, 1.08431, 1.0952, 1.07, 1.08432, 1.0) for day in range(90)
    ]
    return ready


def test_a_trade_of_a_file_has_no_chart(shown: BacktestPanel, fake: FakeBench) -> None:
    charts: list[object] = []
    fake.requests.chart_wanted.connect(lambda *asked: charts.append(asked))
    trades = shown.result.result.trades if shown.result.result is not None else []
    before = len(fake.texts)
    shown.result.trade_opened.emit(trades[0])
    shown.result.trades.mark.click()
    assert charts == []
    said = "There is no chart of us_GOOG_1d, a file's: Replay shows its trades bar by bar."
    assert fake.texts[before:] == [said, said]


def test_a_run_on_a_file_is_replayed_from_it(shown: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    shown.bar.replay.click()
    qtbot.waitUntil(lambda: shown.player is not None and shown.player.chart.bar_count == 1)
    player = shown.player
    assert player is not None
    [asked] = fake.sent(FetchBars)
    begun_ns = fake.engine.backtests["backtest-1"].started_ns
    assert (asked.instrument, asked.timeframe, asked.file, asked.written_before_ns) == (symbol(), "1d", GOOG, begun_ns)
    assert player.chart._picture.decimals == 5  # as many as its prices have
    player.step_on()
    assert player.chart.bar_count == 2


def test_a_file_that_was_changed_is_not_replayed(
    shown: BacktestPanel, fake: FakeBench, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = fake.engine.execute

    async def refuse(command: Command, client_id: str) -> object:
        if isinstance(command, FetchBars):
            raise BadBars("us_GOOG_1d.parquet was written after the run")
        return await execute(command, client_id)

    monkeypatch.setattr(fake.engine, "execute", refuse)
    shown.bar.replay.click()
    qtbot.waitUntil(lambda: shown.player is not None and "was written after the run" in shown.player.chart._empty_text)


def test_files_that_are_dropped_take_the_place_of_the_symbols(ready: BacktestPanel, fake: FakeBench) -> None:
    fake.requests.bars_offered.emit([GOOG])
    assert ready.setup.bars.paths == (GOOG,)
    assert not ready.setup.symbols.isVisibleTo(ready)
    fake.requests.bars_offered.emit([SPY])
    assert ready.setup.bars.paths == (SPY,)


def test_files_of_this_machine_are_nothing_to_an_engine_elsewhere(ready: BacktestPanel, fake: FakeBench) -> None:
    fake.desk.is_remote = True
    ready.setup.bars.choose(["/there/spy.csv"])
    fake.requests.bars_offered.emit([GOOG])
    assert fake.texts[-1].startswith("us_GOOG_1d.parquet cannot be used from here: the engine reads bars on its own")
    assert ready.setup.bars.paths == ("/there/spy.csv",)
    ready.setup.bars.leave()
    fake.requests.bars_offered.emit([GOOG, SPY])
    assert fake.texts[-1].startswith("The 2 files cannot be used from here")
    assert ready.setup.bars.is_on  # where the path can be typed
    assert not ready.setup.bars.line.text()


def test_the_command_and_the_settings_name_the_file() -> None:
    spec = BacktestSpec("/my/sma.py", (symbol("a b"),), "1d", 0, DAY_NS, files=("/my bars/a b.csv",))
    words = shlex.split(command_of(spec))
    assert words[:7] == ["koc", "backtest", "/my/sma.py", "--data", "/my bars/a b.csv", "--symbol", "file:a b"]
    assert "no fees" in assumptions(result(spec))[0]
    assert "No order was filled" not in assumptions(result(spec))[0]
    idle = result(spec, statistics={"fills": 0})
    assert assumptions(idle)[0].startswith("No order was filled: the log may say why · ")
    assert {("Bars from", "/my bars/a b.csv"), ("Fee", "none")} <= set(settings(result(spec)))


@pytest.mark.parametrize("width", [236, 330, 600])
@pytest.mark.parametrize("turn", [lambda fake: None, lambda fake: setattr(fake.desk, "is_remote", True)])
def test_everything_fits_a_narrow_dock(
    ready: BacktestPanel, fake: FakeBench, qtbot: QtBot, width: int, turn: Callable[[FakeBench], None]
) -> None:
    turn(fake)
    ready.resize(width, 600)
    ready.setup.bars.choose([f"/bars/{'long_' * 30}name.parquet"])
    field(ready, "fast")
    bars = ready.setup.bars
    QApplication.sendPostedEvents()
    inside: list[QWidget] = [bars.line, bars.back]
    for widget in inside:
        right = widget.mapTo(ready.setup, widget.rect().topRight()).x()
        assert 0 < right < ready.setup.width()
