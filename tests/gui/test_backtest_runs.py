"""All runs in a table: searched, noted, deleted, used again, compared, and written to files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from PySide6.QtCore import QItemSelectionModel, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QMessageBox
from pytestqt.qtbot import QtBot

from koc_qt.domain.backtests import BY_COMMAND, BacktestSnapshot, Engine
from koc_qt.domain.state import JobState
from koc_qt.link.backtest_messages import DeleteBacktest, FetchBacktestPage, NoteBacktest
from koc_qt.link.messages import StartBacktest
from koc_qt.ui.backtests.compare import best_of
from koc_qt.ui.backtests.export import KINDS, Shown, proposed_name
from koc_qt.ui.backtests.history import finder
from koc_qt.ui.desk import Level
from koc_qt.ui.panels.backtest import BacktestPanel
from tests.conditions import PATIENCE
from tests.fakes.desk import FakeBench
from tests.gui.backtest_stage import (
    field,
    finish,
    panel_fixture,  # noqa: F401
    ready_fixture,  # noqa: F401
    result,
    start_fixture,  # noqa: F401
)

Start = Callable[[], str]
ADD = QItemSelectionModel.SelectionFlag.Select | QItemSelectionModel.SelectionFlag.Rows


@pytest.fixture
def three(ready: BacktestPanel, start: Start, fake: FakeBench, qtbot: QtBot) -> BacktestPanel:
    """Give a panel that shows three runs that are done, in the list of all."""
    for number in range(3):
        field(ready, "fast").setText(str(10 + number))
        key = start()
        made = finish(fake, key, 3 + number)
        fake.engine.backtest(key, statistics=made.statistics, name="SMA cross", started_ns=1_000 + number)
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.result)
    ready.bar.views["history"].click()
    qtbot.waitUntil(lambda: ready.history.model.rowCount() == 3)
    return ready


def refuse(box: QMessageBox | None) -> None:
    assert box is not None
    box.reject()


def select(panel: BacktestPanel, *rows: int) -> None:
    table = panel.history.table
    table.clearSelection()
    for row in rows:
        table.selectionModel().select(panel.history.model.index(row, 0), ADD)


def test_runs_of_the_command_line_are_told_from_those_of_the_engine(
    three: BacktestPanel, fake: FakeBench, qtbot: QtBot
) -> None:
    page, place = three.history, [column.name for column in three.history.model.columns].index("made_by")
    fake.engine.backtest("backtest-2", made_by=BY_COMMAND)
    qtbot.waitUntil(lambda: page.model.index(1, place).data() == "Command line")
    assert [page.model.index(row, place).data() for row in (0, 2)] == ["Engine", "Engine"]
    assert "koc backtest" in page.model.index(1, place).data(Qt.ItemDataRole.ToolTipRole)
    page.search.setText("command line")
    assert [run.backtest_id for run in page.model.records] == ["backtest-2"]


def test_runs_are_listed_the_newest_first_and_one_is_opened(three: BacktestPanel, qtbot: QtBot) -> None:
    page = three.history
    assert three.pages.currentWidget() is page
    assert [run.backtest_id for run in page.model.records] == ["backtest-3", "backtest-2", "backtest-1"]
    texts = {column.name: page.model.index(0, n).data() for n, column in enumerate(page.model.columns)}
    assert texts["strategy"] == "SMA cross"
    assert texts["trades"] == "4"
    assert texts["parameters"] == "fast 12"
    assert texts["engine"] == "Replay"
    page.table.opened.emit(page.model.record_at(2))
    qtbot.waitUntil(lambda: three.pages.currentWidget() is three.result)
    assert three._run_id == "backtest-1"
    assert not three.bar.views["history"].isChecked()


def test_the_button_goes_there_and_back(three: BacktestPanel, start: Start, qtbot: QtBot) -> None:
    three.bar.views["history"].click()
    assert three.pages.currentWidget() is three.result
    three.bar.views["history"].click()
    assert three.pages.currentWidget() is three.history
    start()  # a run that begins is looked at
    assert three.pages.currentWidget() is three.progress


def test_words_find_runs(three: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.backtest("backtest-2", note="too Nervous on Mondays")
    page = three.history
    page.search.setText("sma nervous")
    qtbot.waitUntil(lambda: [run.backtest_id for run in page.model.records] == ["backtest-2"])
    page.search.setText("fast 12")
    assert [run.backtest_id for run in page.model.records] == ["backtest-3"]
    page.search.setText("btc/usdt vectorbt")
    assert page.model.rowCount() == 0
    page.search.setText("  ")
    assert page.model.rowCount() == 3
    assert finder("") is None


def test_a_note_is_written_to_one_run(three: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    page = three.history
    assert not page.note.isEnabled()
    select(three, 0)
    page.note.setText("  best so far ")
    QTest.keyClick(page.note, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: fake.sent(NoteBacktest) == [NoteBacktest("backtest-3", "best so far")])
    qtbot.waitUntil(lambda: page.model.records[0].note == "best so far")
    select(three, 1)
    assert page.note.text() == ""
    page.note.editingFinished.emit()
    select(three, 0, 1)
    assert not page.note.isEnabled()
    assert len(fake.sent(NoteBacktest)) == 1


def test_runs_are_deleted_once_the_person_agrees(three: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    page = three.history

    def answer(role: QMessageBox.ButtonRole) -> None:
        page.delete_action.trigger()
        box = page.question.box
        assert box is not None
        assert "2 runs" in box.text()
        next(button for button in box.buttons() if box.buttonRole(button) is role).click()
        qtbot.waitUntil(lambda: page.question.box is None)

    select(three, 0, 2)
    answer(QMessageBox.ButtonRole.RejectRole)
    assert not fake.sent(DeleteBacktest)
    answer(QMessageBox.ButtonRole.DestructiveRole)
    qtbot.waitUntil(lambda: list(fake.desk.replica.backtests) == ["backtest-2"])
    qtbot.waitUntil(lambda: page.model.rowCount() == 1)
    assert three._run_id == "backtest-2"


def test_the_delete_key_is_that_of_the_table_alone(three: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    page = three.history
    fake.window.activateWindow()
    select(three, 0)
    page.search.setFocus()
    qtbot.waitUntil(page.search.hasFocus)
    QTest.keyClick(page.search, Qt.Key.Key_Delete)
    assert page.question.box is None
    page.table.setFocus()
    QTest.keyClick(page.table, Qt.Key.Key_Delete)
    refuse(page.question.box)
    qtbot.waitUntil(lambda: page.question.box is None)
    assert not fake.sent(DeleteBacktest)


def test_the_settings_of_a_run_go_to_the_form(three: BacktestPanel, qtbot: QtBot) -> None:
    select(three, 2)
    three.history.use_action.trigger()
    qtbot.waitUntil(lambda: "fast" in three.setup.parameters.fields and field(three, "fast").text() == "10")


def test_runs_side_by_side_show_what_differs(three: BacktestPanel, qtbot: QtBot) -> None:
    page = three.history
    select(three, 0)
    assert not page.compare.isEnabled()
    select(three, 0, 1, 2)
    assert page.compare.text() == "Compare 3"
    page.compare.click()
    qtbot.waitUntil(lambda: three.pages.currentWidget() is three.compared)
    shown = three.compared
    assert three.bar.views["history"].isChecked()
    assert [run.label for run in shown.runs] == ["1 fast 12", "2 fast 11", "3 fast 10"]
    captions = {row.caption: row for row in shown.model.rows}
    assert "Timeframe" not in captions  # the same in all
    assert captions["fast"].texts == ("12", "11", "10")
    assert captions["Closed trades"].texts == ("4", "3", "2")
    assert captions["Mean trade"].best
    at = next(n for n, row in enumerate(shown.model.rows) if row.caption == "Mean trade")
    best = next(iter(captions["Mean trade"].best))
    assert shown.model.index(at, best + 1).data(Qt.ItemDataRole.BackgroundRole) is not None
    shown.differing.click()
    assert "Timeframe" in {row.caption for row in shown.model.rows}
    assert "1 +" in shown.chart.value_text or "1 -" in shown.chart.value_text
    shown.table.copy()
    assert QGuiApplication.clipboard().text().startswith("\t1 fast 12\t2 fast 11\t")
    shown.back.click()
    assert three.pages.currentWidget() is page


def test_a_result_that_cannot_be_compared_is_said(three: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    del fake.engine.results["backtest-1"]
    select(three, 0, 2)
    three.history.compare.click()
    qtbot.waitUntil(lambda: bool(fake.texts))
    assert "no result" in fake.texts[0]
    assert three.pages.currentWidget() is three.history


def test_better_is_more_or_less_by_the_statistic() -> None:
    assert best_of("sharpe", [1.0, 2.0, None]) == {1}
    assert best_of("max_drawdown", [0.1, 0.2, 0.1]) == {0, 2}
    assert best_of("trades", [1.0, 2.0]) == frozenset()
    assert best_of("sharpe", [1.0, 1.0]) == best_of("sharpe", [None, float("nan"), 1.0]) == frozenset()


# ---- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", KINDS)
def test_a_run_is_written_whole(
    ready: BacktestPanel, start: Start, fake: FakeBench, qtbot: QtBot, tmp_path: Path, ending: str
) -> None:
    key = start()
    finish(fake, key)
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.result)
    shown = ready.result.result
    assert shown is not None
    ready.exporter.write(tmp_path / f"run{ending}", Shown(key, shown, "USDT"))
    qtbot.waitUntil(lambda: bool(fake.notices) and not ready.exporter.is_busy, timeout=round(20_000 * PATIENCE))
    assert fake.notices[-1].level is Level.INFO
    assert str(tmp_path) in fake.texts[-1]
    files = list(tmp_path.iterdir())
    assert files
    assert all(file.stat().st_size > 20 for file in files)


def test_a_file_that_cannot_be_written_is_said_in_a_sentence(
    ready: BacktestPanel, start: Start, fake: FakeBench, qtbot: QtBot, tmp_path: Path
) -> None:
    key = start()
    finish(fake, key)
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.result)
    shown = ready.result.result
    assert shown is not None
    (tmp_path / "file").write_text("in the way")
    ready.exporter.write(tmp_path / "file" / "run.json", Shown(key, shown, "USDT"))
    qtbot.waitUntil(lambda: bool(fake.notices), timeout=round(10_000 * PATIENCE))
    assert fake.notices[-1].level is Level.ERROR
    assert fake.texts[-1].startswith("The run was not written: ")


def test_the_place_of_a_file_is_asked_for(ready: BacktestPanel, start: Start, fake: FakeBench, qtbot: QtBot) -> None:
    key = start()
    assert not ready.bar.export.isEnabled()
    made = finish(fake, key)
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.result)
    assert ready.bar.export.isEnabled()
    assert proposed_name(made, ".html").startswith("sma_cross_BTC-USDT_5m_2023-")
    ready.bar.export_wanted.emit(".csv")
    dialog = ready.exporter.dialog
    assert dialog is not None
    assert dialog.defaultSuffix() == "csv"
    dialog.reject()
    qtbot.waitUntil(lambda: ready.exporter.dialog is None)
    assert not [sent for sent in fake.sent(FetchBacktestPage) if sent.records == "fills"]


def test_labels_name_engines(three: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    made = fake.engine.results["backtest-2"]
    spec = msgspec.structs.replace(made.spec, engine=Engine.VECTORBT)
    fake.engine.results["backtest-2"] = result(spec)
    fake.engine.backtest("backtest-2", note="again")
    select(three, 1, 2)
    three.history.compare.click()
    qtbot.waitUntil(lambda: three.pages.currentWidget() is three.compared)
    assert three.compared.runs[0].label == "1 again · vectorbt · fast 11"


def test_runs_that_run_cannot_be_deleted(three: BacktestPanel, start: Start, fake: FakeBench, qtbot: QtBot) -> None:
    key = start()
    three.bar.views["history"].click()
    qtbot.waitUntil(lambda: three.history.model.rowCount() == 4)
    row = three.history.model.row_of(key)
    assert row is not None
    select(three, row)
    assert not three.history.delete_action.isEnabled()
    run: BacktestSnapshot = fake.engine.backtests[key]
    assert run.state is JobState.RUNNING
    assert len(fake.sent(StartBacktest)) == 4
