"""The strategies panel on a fake engine: the library, forms one after the other, starting and stopping, memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QFileDialog, QMessageBox
from pytestqt.qtbot import QtBot

from koc_qt.domain.errors import StrategyError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.state import AccountSnapshot, StrategySpec, StrategyState, TradingMode, VenueState
from koc_qt.link.messages import AccountChanged, Command, StartStrategy, StopStrategy
from koc_qt.sdk.channel import Described, ParameterInfo
from koc_qt.ui.panels.strategies import FORMS_KEPT, MOST_WAITING, OPEN, START_ALL, STOP_ALL, StrategiesPanel
from koc_qt.ui.panels.strategies_library import HEAD_BYTES, first_words, read_folders
from koc_qt.ui.panels.strategies_rows import STATES, Known, symbols_of
from koc_qt.ui.resources import library_folder
from koc_qt.ui.start_form.form import StartForm
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC, strategy_snapshot

DESCRIBED = Described("SMA cross", "Long or flat.", (ParameterInfo("fast", "int", 5, 1, 500),), "1m", ("bars",), 1, 20)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "breakout.py").write_text('# mine\n"""Buys the breakout.\n\nMore words."""\nraise SystemExit\n')
    return folder


@pytest.fixture
def panel(fake: FakeBench, qtbot: QtBot, own: Path) -> StrategiesPanel:
    fake.engine.described = DESCRIBED
    panel = StrategiesPanel(fake.bench, own, fake.window)
    fake.window.resize(360, 420)
    panel.resize(360, 420)
    fake.window.show()
    qtbot.waitUntil(lambda: bool(panel.files.records))
    return panel


def ready_form(panel: StrategiesPanel, qtbot: QtBot) -> StartForm:
    """Wait until a form is open and has been read."""
    qtbot.waitUntil(lambda: panel.form is not None and panel.form.market is not None)
    assert panel.form is not None
    return panel.form


def known(fake: FakeBench, key: str, state: StrategyState, **changes: Any) -> StrategySpec:
    spec = StrategySpec(key, f"/strategies/{key}.py", "paper", (BTC,), "5m", {"fast": 9})
    spec = msgspec.structs.replace(spec, **{k: v for k, v in changes.items() if k == "account_id"})
    rest = {k: v for k, v in changes.items() if k != "account_id"}
    fake.engine.show(strategy_snapshot(key, spec=spec, state=state, **rest))
    return spec


def choose(panel: StrategiesPanel, qtbot: QtBot, key: str) -> None:
    qtbot.waitUntil(lambda: panel.model.row_of(key) is not None)
    row = panel.model.row_of(key)
    assert row is not None
    panel.table.selectRow(row)


# ---- files ----------------------------------------------------------------------------------------------------------


def test_samples_and_own_files_with_their_first_words(panel: StrategiesPanel, own: Path) -> None:
    shown = {file.name: file for file in panel.files.records}
    assert shown["breakout.py"].about == "Buys the breakout."
    assert not shown["breakout.py"].is_sample
    samples = library_folder()
    assert samples is not None
    assert {path.name for path in samples.glob("[!_.]*.py")} < set(shown)
    assert shown["sma_cross.py"].about.startswith("Moving-average cross: long while")


def test_the_list_follows_the_folder(panel: StrategiesPanel, own: Path, qtbot: QtBot) -> None:
    (own / "new.py").write_text('"""A new one."""\n')
    qtbot.waitUntil(lambda: "new.py" in [file.name for file in panel.files.records])
    (own / "breakout.py").write_text('"""Other words."""\n')
    qtbot.waitUntil(lambda: "Other words." in [file.about for file in panel.files.records])
    (own / "breakout.py").unlink()
    qtbot.waitUntil(lambda: "breakout.py" not in [file.name for file in panel.files.records])


def test_a_folder_that_comes_later(fake: FakeBench, qtbot: QtBot, tmp_path: Path) -> None:
    panel = StrategiesPanel(fake.bench, tmp_path / "deep" / "later", fake.window)
    fake.window.show()
    qtbot.waitUntil(lambda: bool(panel.files.records))
    (tmp_path / "deep" / "later").mkdir(parents=True)
    (tmp_path / "deep" / "later" / "late.py").write_text("x = 1\n")
    qtbot.waitUntil(lambda: "late.py" in [file.name for file in panel.files.records])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('"""One: two.\nThree."""', "One: two."),
        ("#!/usr/bin/env python\n# words\n\nr'''\n  Plain   words\n'''", "Plain words"),
        ("'single'\nx = 1", "single"),
        ("import os\n\n\nclass A(B):\n    '''Of the class.'''\n", "Of the class."),
        ("\ufeff'''With a mark.'''", "With a mark."),
        ("x = '''no words'''\n", ""),
        ("", ""),
        ('"""never ended', "never ended"),
        ('"""' + "w" * 300 + '"""', "w" * 200 + "…"),
        ("# " * 4_000 + "\n" * 100, ""),  # what makes careless patterns take forever
        (" " * 4_000 + "\n" + "#\n" * 2_000 + "'" * 2_000, ""),
        ('"""\n\nAfter a gap."""', "After a gap."),
        ('""""""\nx = 1', ""),
        ("class A(B):", ""),
    ],
)
def test_first_words_are_read_as_text(text: str, words: str) -> None:
    assert first_words(text) == words


def test_what_is_no_file_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "_hidden.py").write_text("")
    (tmp_path / "words.txt").write_text("")
    (tmp_path / "binary.py").write_bytes(bytes(range(256)) * (HEAD_BYTES // 16))
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.py")
    found = {file.name: file.about for file in read_folders([(tmp_path, False), (tmp_path / "none", True)])}
    assert found == {"binary.py": "", "gone.py": "It cannot be read: No such file or directory"}


def test_enter_and_the_buttons_open_the_form_or_the_back_test(
    panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot, own: Path
) -> None:
    assert not panel._start_file.isEnabled()
    row = panel.files.row_of(str(own / "breakout.py"))
    assert row is not None
    panel.file_table.selectRow(row)
    assert panel._start_file.isEnabled()
    wanted: list[str] = []
    fake.requests.panel_wanted.connect(wanted.append)
    fake.requests.backtest_offered.connect(wanted.append)
    panel._backtest_file.trigger()
    assert wanted == ["backtest", str(own / "breakout.py")]
    QTest.keyClick(panel.file_table, Qt.Key.Key_Return)
    form = ready_form(panel, qtbot)
    assert form.path == str(own / "breakout.py")
    form.reject()
    panel._start_file.trigger()
    ready_form(panel, qtbot).reject()
    qtbot.waitUntil(lambda: not panel.findChildren(StartForm))


def test_browsing_blocks_nothing_and_judges_what_was_chosen(
    panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot, own: Path
) -> None:
    fake.bench.actions.run(OPEN)
    dialog = fake.window.findChild(QFileDialog)
    assert isinstance(dialog, QFileDialog)
    dialog.filesSelected.emit([str(own)])
    assert "is a folder" in fake.texts[-1]
    assert panel.form is None
    dialog.filesSelected.emit([str(own / "breakout.py")])
    form = ready_form(panel, qtbot)
    assert form.path == str(own / "breakout.py")
    dialog.reject()
    form.reject()


# ---- forms ----------------------------------------------------------------------------------------------------------


def test_forms_come_one_after_the_other(panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot) -> None:
    for name in ("a", "b", "a", "b"):
        fake.requests.strategy_offered.emit(f"/strategies/{name}.py")
    first = ready_form(panel, qtbot)
    assert first.path == "/strategies/a.py"
    assert first.isVisible()
    assert not first.isModal()
    first.start()
    qtbot.waitUntil(lambda: panel.form is not None and panel.form.path == "/strategies/b.py")
    second = ready_form(panel, qtbot)
    second.reject()
    assert panel.form is None
    assert [command.spec.path for command in fake.sent(StartStrategy)] == ["/strategies/a.py"]


def test_too_many_forms_are_refused_in_words(panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot) -> None:
    for number in range(MOST_WAITING + 2):
        panel.offer(f"/strategies/s{number}.py")
    assert fake.texts == [f"s{MOST_WAITING + 1}.py has to wait: {MOST_WAITING} other forms are open"]
    panel.retire()
    assert panel.form is not None
    assert not panel.form.isVisible()
    panel.offer("/strategies/late.py")
    assert fake.window.findChildren(StartForm) == [panel.form]


def test_what_was_filled_in_is_there_again(panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot, own: Path) -> None:
    panel.offer("/strategies/a.py")
    form = ready_form(panel, qtbot)
    assert form.market is not None
    assert form.parameters is not None
    form.market.timeframe.setCurrentText("15m")
    form.parameters.set_values({"fast": 42})
    state = panel.state()  # the form is open still
    form.reject()
    assert panel.state() == state
    panel.retire()
    panel.deleteLater()
    other = StrategiesPanel(fake.bench, own, fake.window)
    other.restore(state)
    other.offer("/strategies/a.py")
    again = ready_form(other, qtbot)
    assert again.market is not None
    assert again.parameters is not None
    assert again.market.timeframe_text() == "15m"
    assert again.parameters.values() == {"fast": 42}
    again.reject()


def test_the_oldest_form_is_forgotten(panel: StrategiesPanel) -> None:
    panel.restore({"forms": {f"/s/{number}.py": {"timeframe": "1m"} for number in range(FORMS_KEPT + 9)}})
    kept = list(panel.state()["forms"])
    assert len(kept) == FORMS_KEPT
    assert kept[0] == "/s/9.py"


@pytest.mark.parametrize(
    "state",
    [
        {"columns": 3, "sizes": "x", "forms": [1]},
        {"columns": {"order": 5, "widths": [], "sort": {}}, "sizes": [1, -2], "forms": {"/a.py": 3}},
        {"sizes": [True, 3], "forms": {"/strategies/a.py": {"symbols": 4, "parameters": [], "account": {}}}},
    ],
)
def test_what_is_remembered_may_be_anything(panel: StrategiesPanel, qtbot: QtBot, state: dict[str, Any]) -> None:
    panel.restore(state)
    panel.offer("/strategies/a.py")
    form = ready_form(panel, qtbot)
    assert form.reason_not_to() == ""
    form.reject()


@pytest.mark.parametrize(
    "order",
    [
        ["strategy", "state", "pnl", "trades", "symbols", "timeframe"],  # before there was Drift
        ["strategy", "state", "pnl", "trades", "symbols", "timeframe", "drift"],  # opened since then
        ["strategy", "state", "drift", "pnl", "trades", "symbols", "timeframe"],  # when it came before the profit
    ],
)
def test_columns_that_nobody_moved_follow_the_present_order(panel: StrategiesPanel, order: list[str]) -> None:
    panel.restore({"columns": {"order": order, "hidden": []}})
    present = [column.name for column in panel.model.columns]
    assert panel.state()["columns"]["order"] == present
    moved = ["pnl", *(name for name in order if name != "pnl")]
    panel.restore({"columns": {"order": moved, "hidden": []}})
    kept = [name for name in panel.state()["columns"]["order"] if name in order]
    assert kept == moved


# ---- strategies -----------------------------------------------------------------------------------------------------


def test_what_is_known_is_shown(panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot) -> None:
    assert "Drop a strategy file anywhere" in panel.table._empty
    known(fake, "sma-1", StrategyState.RUNNING)
    known(fake, "sma-2", StrategyState.FAILED, reason="sma.py, line 4: division by zero")
    choose(panel, qtbot, "sma-2")
    row = panel.model.row_of("sma-1")
    assert row is not None
    texts = {column.name: panel.model.index(row, place).data() for place, column in enumerate(panel.model.columns)}
    assert texts == {
        "strategy": "sma-1",
        "state": "Running",
        "drift": "—",
        "pnl": "-1.50",
        "trades": "2",
        "symbols": "BTC/USDT",
        "timeframe": "5m",
    }
    assert panel.detail.words.text() == "sma-2: sma.py, line 4: division by zero"
    assert panel.detail.words.property("tone") == "danger"
    assert panel.detail.words.textInteractionFlags() & Qt.TextInteractionFlag.TextSelectableByMouse
    state = next(column for column in panel.model.columns if column.name == "state")
    assert state.tip is not None
    assert state.tip(Known(fake.engine.strategies["sma-2"])) == "sma.py, line 4: division by zero"
    known(fake, "sma-2", StrategyState.RUNNING)
    qtbot.waitUntil(lambda: not panel.detail.isVisible())  # there is no more to say than the table does
    known(fake, "sma-2", StrategyState.STOPPED, reason="stopped by its owner")
    qtbot.waitUntil(lambda: panel.detail.words.text() == "sma-2: stopped by its owner")
    assert panel.detail.isVisible()
    panel.table.clearSelection()
    assert not panel.detail.isVisible()


def test_every_state_has_its_look() -> None:
    assert {state: look for state, (_, look) in STATES.items()} == {
        StrategyState.STARTING: "warning",
        StrategyState.RUNNING: "profit",
        StrategyState.STOPPING: "warning",
        StrategyState.STOPPED: "neutral",
        StrategyState.BACKING_OFF: "warning",
        StrategyState.FAILED: "danger",
    }


def test_symbols_of_several_venues_are_told_apart() -> None:
    other = InstrumentId("sim-b", "BTC/USDT")
    strategy = strategy_snapshot()
    both = msgspec.structs.replace(strategy, spec=msgspec.structs.replace(strategy.spec, instruments=(BTC, other)))
    assert symbols_of(strategy) == "BTC/USDT"
    assert symbols_of(both) == f"{BTC}, {other}"


def test_buttons_do_what_makes_sense(panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot) -> None:
    assert not any(action.isEnabled() for action in (panel.again, panel.stop, panel.edit, panel.chart))
    running = known(fake, "runs", StrategyState.RUNNING)
    failed = known(fake, "failed", StrategyState.FAILED)
    choose(panel, qtbot, "runs")
    assert [action.isEnabled() for action in (panel.again, panel.stop, panel.edit, panel.chart)] == [
        False,
        True,
        True,
        True,
    ]
    charts: list[tuple[object, str]] = []
    fake.requests.chart_wanted.connect(lambda *what: charts.append(what))
    panel.chart.trigger()
    assert charts == [(BTC, "5m")]
    panel.stop.trigger()
    qtbot.waitUntil(lambda: "runs was stopped" in fake.texts)
    assert fake.sent(StopStrategy) == [StopStrategy("runs")]
    choose(panel, qtbot, "failed")
    assert panel.again.isEnabled()
    assert not panel.stop.isEnabled()
    panel.again.trigger()
    panel.start_chosen()  # at once again: it is on its way
    qtbot.waitUntil(lambda: "failed was started again" in fake.texts)
    assert [command.spec for command in fake.sent(StartStrategy)] == [failed]
    assert running.strategy_id == "runs"


def test_a_start_that_is_refused_says_which(
    panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(fake, "gone", StrategyState.STOPPED)
    execute = fake.engine.execute

    async def refuse(command: Command, client_id: str) -> object:
        if isinstance(command, StartStrategy):
            raise StrategyError(f"{command.spec.path} cannot be read: No such file or directory")
        return await execute(command, client_id)

    monkeypatch.setattr(fake.engine, "execute", refuse)
    choose(panel, qtbot, "gone")
    panel.again.trigger()
    qtbot.waitUntil(lambda: bool(fake.texts))
    assert fake.texts == [
        "gone was not started: /strategies/gone.py cannot be read: No such file or directory",
    ]
    qtbot.waitUntil(panel.again.isEnabled)


def test_edit_fills_the_form_in(panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot) -> None:
    spec = known(fake, "mine", StrategyState.STOPPED)
    choose(panel, qtbot, "mine")
    QTest.keyClick(panel.table, Qt.Key.Key_Return)
    form = ready_form(panel, qtbot)
    assert (form.path, form.spec) == (spec.path, spec)
    assert form.parameters is not None
    assert form.parameters.values() == {"fast": 9}
    form.start()
    qtbot.waitUntil(lambda: panel.form is None)
    assert [command.spec for command in fake.sent(StartStrategy)] == [spec]


def test_all_at_once(panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot) -> None:
    actions = fake.bench.actions
    assert not actions[START_ALL].isEnabled()
    assert not actions[STOP_ALL].isEnabled()
    for key, state in zip("abcdef", StrategyState, strict=True):
        known(fake, key, state)
    qtbot.waitUntil(lambda: len(panel.model.records) == 6)
    active = [key for key, state in zip("abcdef", StrategyState, strict=True) if state not in ("stopped", "failed")]
    actions.run(STOP_ALL)
    qtbot.waitUntil(lambda: len(fake.texts) == len(active))
    assert [command.strategy_id for command in fake.sent(StopStrategy)] == active
    qtbot.waitUntil(lambda: not actions[STOP_ALL].isEnabled())
    actions.run(START_ALL)
    actions.run(START_ALL)
    qtbot.waitUntil(lambda: len(fake.texts) == len(active) + 6)
    assert sorted(command.spec.strategy_id for command in fake.sent(StartStrategy)) == list("abcdef")
    qtbot.waitUntil(lambda: not actions[START_ALL].isEnabled())


def test_nothing_can_be_started_without_an_engine_or_with_the_kill_switch(
    panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot
) -> None:
    actions = fake.bench.actions
    known(fake, "mine", StrategyState.STOPPED)
    choose(panel, qtbot, "mine")
    assert actions[START_ALL].isEnabled()
    fake.engine.pulse(kill_switch=True)
    qtbot.waitUntil(lambda: not actions[START_ALL].isEnabled())
    assert not panel.again.isEnabled()
    fake.engine.pulse(kill_switch=False)
    qtbot.waitUntil(actions[START_ALL].isEnabled)
    fake.client.lose()
    assert not any(actions[name].isEnabled() for name in (OPEN, START_ALL, STOP_ALL))
    assert not panel.again.isEnabled()
    fake.client.connect()
    qtbot.waitUntil(actions[START_ALL].isEnabled)


def test_starting_all_asks_where_real_money_is_at_stake(panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.publish(AccountChanged(AccountSnapshot("real", "sim", TradingMode.LIVE, VenueState.CONNECTED, (), 0)))
    known(fake, "plain", StrategyState.STOPPED)
    known(fake, "rich", StrategyState.STOPPED, account_id="real")
    qtbot.waitUntil(lambda: len(panel.model.records) == 2)
    for role, count in ((QMessageBox.ButtonRole.RejectRole, 0), (QMessageBox.ButtonRole.AcceptRole, 2)):
        panel.start_all()
        box = panel.findChild(QMessageBox, "confirm-live")
        assert isinstance(box, QMessageBox)
        assert not box.isModal()
        assert box.informativeText() == "With real money: rich on real."
        next(button for button in box.buttons() if box.buttonRole(button) is role).click()
        qtbot.waitUntil(lambda: panel.findChild(QMessageBox, "confirm-live") is None)
        qtbot.waitUntil(lambda count=count: len(fake.texts) == count)  # type: ignore[misc]
        assert len(fake.sent(StartStrategy)) == count


def test_another_engine_knows_others(panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot) -> None:
    known(fake, "old", StrategyState.STOPPED)
    qtbot.waitUntil(lambda: panel.model.row_of("old") is not None)
    fake.client.lose()
    fake.engine.strategies.clear()
    fake.client.connect()
    qtbot.waitUntil(lambda: panel.model.row_of("old") is None)


def test_a_panel_made_late_and_a_retired_one(fake: FakeBench, qtbot: QtBot, own: Path) -> None:
    known(fake, "mine", StrategyState.RUNNING)
    qtbot.waitUntil(lambda: bool(fake.desk.replica.strategies))
    panel = StrategiesPanel(fake.bench, own, fake.window)
    assert panel.model.row_of("mine") is not None
    assert fake.bench.actions[STOP_ALL].isEnabled()
    qtbot.waitUntil(lambda: bool(panel.files.records))
    panel.retire()
    assert not any(name in fake.bench.actions for name in (OPEN, START_ALL, STOP_ALL))
    panel.deleteLater()
    again = StrategiesPanel(fake.bench, own, fake.window)
    assert fake.bench.actions[STOP_ALL].isEnabled()
    assert again.model.row_of("mine") is not None
    qtbot.waitUntil(lambda: bool(again.files.records))
