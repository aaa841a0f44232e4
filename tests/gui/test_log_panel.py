"""The log panel on a fake engine: bounds, filters, following, merging after a lost connection, copies and files."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFileDialog
from pytestqt.qtbot import QtBot

from koc_qt.domain.errors import KocError, StorageError
from koc_qt.link.messages import LogRecorded, ReadLog
from koc_qt.ui.desk import Frame, Level
from koc_qt.ui.panels.log import LogPanel, write_lines
from koc_qt.ui.panels.log_lines import LINE_ROLE, LogFilter, LogModel, as_text
from tests.fakes.desk import FakeBench
from tests.fakes.link import START_NS


def line(number: int, text: str = "", level: str = "INFO", source: str = "engine") -> LogRecorded:
    return LogRecorded(START_NS + number, level, source, text or f"line {number}")


def texts(panel: LogPanel) -> list[str]:
    return [each.text for each in panel.model.shown]


@pytest.fixture
def panel(fake: FakeBench, qtbot: QtBot) -> LogPanel:
    panel = LogPanel(fake.bench, fake.window)
    panel.resize(700, 220)
    fake.window.resize(700, 220)
    fake.window.show()
    qtbot.waitUntil(lambda: bool(fake.sent(ReadLog)) and not panel._reading.is_running)
    return panel


def test_a_model_is_bounded_and_keeps_each_line_once() -> None:
    model = LogModel(limit=5)
    evicted: list[int] = []
    model.evicted.connect(evicted.append)
    model.add([line(1), line(2), line(1)])
    model.add([line(2), line(3)])
    assert [each.text for each in model.shown] == ["line 1", "line 2", "line 3"]
    model.add([line(number) for number in range(4, 8)])
    assert [each.text for each in model.shown] == [f"line {number}" for number in range(3, 8)]
    assert evicted == [2]
    model.add(line(number) for number in range(100, 200))
    assert [each.time_ns - START_NS for each in model.shown] == [195, 196, 197, 198, 199]
    assert model.total == 5


def test_older_lines_find_their_place_and_old_ones_that_do_not_fit_stay_out() -> None:
    model = LogModel(limit=3)
    model.add([line(5), line(9)])
    model.add([line(1), line(7)])
    assert [each.time_ns - START_NS for each in model.shown] == [5, 7, 9]


def test_a_filter_holds_for_what_is_there_and_what_comes() -> None:
    model = LogModel(limit=10)
    model.add([line(1), line(2, "Straße", "ERROR"), line(3, level="DEBUG", source="sma-1")])
    model.set_filter(LogFilter("WARNING"))
    model.add([line(4, level="CRITICAL"), line(5)])
    assert [each.level for each in model.shown] == ["ERROR", "CRITICAL"]
    model.set_filter(LogFilter(source="sma-1"))
    assert [each.source for each in model.shown] == ["sma-1"]
    model.set_filter(LogFilter(text="STRASSE"))
    assert [each.text for each in model.shown] == ["Straße"]
    assert model.sources == ["engine", "sma-1"]


def test_evicted_lines_that_were_not_shown_move_nothing() -> None:
    model = LogModel(limit=2)
    evicted: list[int] = []
    model.evicted.connect(evicted.append)
    model.set_filter(LogFilter("ERROR"))
    model.add([line(1), line(2, level="ERROR")])
    model.add([line(3)])
    model.add([line(4)])
    assert evicted == [1]
    assert model.rowCount() == 0


def test_a_row_tells_screen_readers_and_tooltips() -> None:
    model = LogModel()
    model.add([line(1, "disk is full", "ERROR")])
    index = model.index(0, 0)
    assert index.data(LINE_ROLE) == line(1, "disk is full", "ERROR")
    assert index.data(Qt.ItemDataRole.AccessibleTextRole) == "ERROR engine: disk is full"
    assert index.data(Qt.ItemDataRole.ToolTipRole) == "2023-11-14 22:13:20.000 UTC"
    assert model.data(model.index(7, 0)) is None


def test_lines_come_in_and_are_followed(panel: LogPanel, fake: FakeBench, qtbot: QtBot) -> None:
    assert "Nothing has been logged" in panel.view.empty_text
    for number in range(60):
        fake.engine.log(f"number {number}")
    qtbot.waitUntil(lambda: panel.model.rowCount() == 60)
    bar = panel.view.verticalScrollBar()
    qtbot.waitUntil(lambda: bar.maximum() > 0 and bar.value() == bar.maximum())
    assert panel.count.text() == "60 lines"
    bar.setValue(3)
    assert not panel.view.follows
    assert not panel.follow.isChecked()
    for number in range(5):
        fake.engine.log(f"more {number}")
    qtbot.waitUntil(lambda: panel.follow.text() == "5 new")
    assert bar.value() == 3
    panel.follow.click()
    assert bar.value() == bar.maximum()
    assert panel.view.follows
    fake.engine.log("the end")
    qtbot.waitUntil(lambda: panel.model.rowCount() == 66 and bar.value() == bar.maximum())
    assert panel.follow.text() == "Follow"


def test_lines_that_are_laid_out_on_the_way_to_the_end_are_followed_too(
    panel: LogPanel, fake: FakeBench, qtbot: QtBot
) -> None:
    for number in range(60):
        fake.engine.log(f"number {number}")
    bar, view = panel.view.verticalScrollBar(), panel.view
    qtbot.waitUntil(lambda: bar.maximum() > 0 and bar.value() == bar.maximum())
    bar.setValue(3)
    longer = bar.maximum() + 5
    bar.valueChanged.disconnect(view._scrolled)
    bar.valueChanged.connect(lambda: bar.setMaximum(longer))  # as Qt's own view does, before ours hears of it
    bar.valueChanged.connect(view._scrolled)
    view.set_follows(True)
    assert (bar.value(), view.follows) == (longer, True)


def test_what_is_read_stays_in_place_while_old_lines_make_way(panel: LogPanel, fake: FakeBench, qtbot: QtBot) -> None:
    panel.model._limit = 100
    for number in range(100):
        fake.engine.log(f"number {number}")
    qtbot.waitUntil(lambda: panel.model.rowCount() == 100)
    bar = panel.view.verticalScrollBar()
    qtbot.waitUntil(lambda: bar.value() > 0)
    bar.setValue(50)
    for number in range(100, 110):
        fake.engine.log(f"number {number}")
    qtbot.waitUntil(lambda: texts(panel)[-1] == "number 109")
    assert bar.value() == 40
    assert panel.view.indexAt(panel.view.viewport().rect().topLeft()).data() == "number 50"


def test_each_connection_brings_what_was_missed(panel: LogPanel, fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.log("one")
    qtbot.waitUntil(lambda: texts(panel) == ["one"])
    fake.client.lose()
    fake.engine.log("two")
    fake.engine.log("three")
    fake.client.connect()
    fake.engine.log("four")
    qtbot.waitUntil(lambda: texts(panel) == ["one", "two", "three", "four"])


def test_a_late_panel_shows_what_was_before_it(fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.log("one")
    fake.engine.log("two")
    frames: list[Frame] = []
    fake.desk.framed.connect(frames.append)
    panel = LogPanel(fake.bench, fake.window)
    assert texts(panel) == ["one", "two"]
    qtbot.waitUntil(lambda: bool(frames) and bool(fake.sent(ReadLog)) and not panel._reading.is_running)
    assert texts(panel) == ["one", "two"]
    fake.engine.log("three")
    qtbot.waitUntil(lambda: bool(panel._waiting) and panel._waiting[-1].text == "three")
    assert texts(panel) == ["one", "two"], "a hidden panel works only when it is looked at"
    fake.window.show()
    qtbot.waitUntil(lambda: texts(panel) == ["one", "two", "three"])


def test_a_refused_history_is_said_in_place(fake: FakeBench, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(command: object, client_id: str) -> None:
        raise KocError("the log file cannot be read: Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(fake.engine, "execute", refuse)
        panel = LogPanel(fake.bench, fake.window)
        qtbot.waitUntil(lambda: "Permission denied" in panel.trouble.text())
        assert not panel.trouble.isHidden()
    fake.client.lose()
    fake.client.connect()
    qtbot.waitUntil(panel.trouble.isHidden)


def test_an_answer_of_another_shape_is_said(fake: FakeBench, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(command: object, client_id: str) -> object:
        return [{"surprise": 1}]

    monkeypatch.setattr(fake.engine, "execute", answer)
    panel = LogPanel(fake.bench, fake.window)
    qtbot.waitUntil(lambda: "cannot be read" in panel.trouble.text())


def test_search_filters_and_keeps_the_chosen_line_in_sight(panel: LogPanel, fake: FakeBench, qtbot: QtBot) -> None:
    for number in range(100):
        fake.engine.log(f"number {number}", "ERROR" if number % 10 == 0 else "INFO", f"source-{number % 3}")
    qtbot.waitUntil(lambda: panel.model.rowCount() == 100)
    panel.search.setText("NUMBER 5")
    assert len(texts(panel)) == 11
    assert panel.count.text() == "11 of 100"
    panel.view.show_row(3)
    assert "source-" in panel.detail_head.text()
    chosen = panel.detail_text.toPlainText()
    panel.search.clear()
    assert panel.view.currentIndex().data() == chosen
    assert not panel.view.follows
    panel.level.setCurrentIndex(panel.level.findData("ERROR"))
    assert len(texts(panel)) == 10
    panel.source.setCurrentIndex(panel.source.findData("source-1"))
    assert {each.source for each in panel.model.shown} == {"source-1"}
    assert panel.detail.isHidden() or panel.detail_text.toPlainText() in texts(panel)
    panel.search.setText("nothing has this")
    assert "No line matches" in panel.view.empty_text


def test_escape_closes_the_detail_then_the_search(panel: LogPanel, fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.log("Traceback\n  File x\nZeroDivisionError", "ERROR")
    qtbot.waitUntil(lambda: panel.model.rowCount() == 1)
    panel.search.setText("zero")
    panel.view.show_row(0)
    assert panel.detail_text.toPlainText().count("\n") == 2
    panel._leave()
    assert panel.detail.isHidden()
    panel._leave()
    assert panel.search.text() == ""


def test_copy_takes_the_chosen_lines_or_all(panel: LogPanel, fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.log("one")
    fake.engine.log("two\nlines")
    qtbot.waitUntil(lambda: panel.model.rowCount() == 2)
    panel.copy()
    assert QGuiApplication.clipboard().text() == as_text(fake.engine.lines)
    panel.view.selectRow(1)
    panel.copy()
    assert QGuiApplication.clipboard().text() == ("2023-11-14 22:13:20.000 UTC  INFO     engine: two\n    lines\n")
    QGuiApplication.clipboard().clear()


def test_save_writes_the_file_whole_and_says_so(panel: LogPanel, fake: FakeBench, qtbot: QtBot, tmp_path: Path) -> None:
    for number in range(3):
        fake.engine.log(f"number {number}")
    qtbot.waitUntil(lambda: panel.model.rowCount() == 3)
    target = tmp_path / "log.txt"
    target.write_text("older")
    panel.save(target)
    qtbot.waitUntil(lambda: bool(fake.notices))
    assert fake.texts == [f"3 lines of the log saved to {target}"]
    assert target.read_text("utf-8") == as_text(fake.engine.lines)
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_cannot_be_written_is_said_and_left_as_it_was(
    panel: LogPanel, fake: FakeBench, qtbot: QtBot, tmp_path: Path
) -> None:
    panel.save(tmp_path / "missing" / "log.txt")
    qtbot.waitUntil(lambda: bool(fake.notices))
    assert fake.notices[0].level is Level.ERROR
    assert "No such file" in fake.texts[0]
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="not saved"):
        write_lines(tmp_path / "folder", [line(1)])
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


def test_save_asks_for_a_place_without_stopping_the_loop(panel: LogPanel, qtbot: QtBot, tmp_path: Path) -> None:
    panel.choose_file()
    dialog = panel.findChild(QFileDialog)
    assert isinstance(dialog, QFileDialog)
    dialog.fileSelected.emit(str(tmp_path / "there.txt"))
    qtbot.waitUntil((tmp_path / "there.txt").exists)
    dialog.close()
    qtbot.waitUntil(lambda: panel.findChild(QFileDialog) is None)


def test_filters_are_remembered_and_nonsense_is_ignored(fake: FakeBench, panel: LogPanel, qtbot: QtBot) -> None:
    panel.restore({"level": "ERROR", "source": "sma-1"})
    assert panel.state() == {"level": "ERROR", "source": "sma-1"}
    other = LogPanel(fake.bench, fake.window)
    other.restore(panel.state())
    assert other.model.filter == LogFilter("ERROR", "sma-1")
    other.restore({"level": 7, "source": None, "more": []})
    assert other.state() == panel.state()
    qtbot.waitUntil(lambda: not other._reading.is_running)


def test_a_burst_of_ten_thousand_lines_does_not_hold_the_loop_up(
    panel: LogPanel, fake: FakeBench, qtbot: QtBot
) -> None:
    for _ in range(2):  # into an empty panel, and into a full one
        for number in range(10_000):
            fake.desk.take(line(len(fake.desk.logs) + number + panel.model.total * 10, f"burst {number}"))
        began = time.process_time()
        qtbot.waitUntil(lambda: panel.model.total == 5_000 and texts(panel)[-1] == "burst 9999")
        spent_ms = (time.process_time() - began) * 1000
        assert spent_ms < 400, "ten times what a quiet machine needs"
