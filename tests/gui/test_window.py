"""The whole window on a fake engine: every panel, every command, bad days and hostile input."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import shiboken6
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PySide6.QtCore import QCoreApplication, QEvent
from PySide6.QtWidgets import QApplication, QDialog, QToolButton
from pytestqt.qtbot import QtBot

from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.link.messages import EngageKillSwitch, EngineStopped, Shutdown
from koc_qt.ui.bench import Panel
from koc_qt.ui.closing import CloseDialog
from koc_qt.ui.desk import Level
from koc_qt.ui.memory import Memory, MemoryFile
from koc_qt.ui.panel_list import chart_maker, panel_kinds
from koc_qt.ui.panels.backtest import BacktestPanel
from koc_qt.ui.panels.chart import ChartPanel
from koc_qt.ui.window import DEFAULT_SIZE, FRAME_ROOM, Condition, MainWindow
from tests.conditions import PATIENCE
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC

Open = Callable[..., MainWindow]


@pytest.fixture
def open_window(fake: FakeBench, qapp: QApplication, qtbot: QtBot, tmp_path: Path) -> Iterator[Open]:
    """Give a function that shows the window, with all its panels, on what the memory's file holds."""
    windows: list[MainWindow] = []
    folders = {name: tmp_path / name.lower() for name in ("Configuration", "Data", "Strategies", "Logs")}

    def make(memory: Memory | None = None, keeper: Keeper | None = None) -> MainWindow:
        file = MemoryFile(tmp_path / "window.json")
        if memory is not None:
            file.write(memory)
        window = MainWindow(
            fake.desk,
            fake.theme,
            file,
            lambda bench, monitor: panel_kinds(bench, monitor, tmp_path / "strategies", ["true"], folders),
            chart_maker,
        )
        windows.append(window)
        if keeper is not None:
            window.use_keeper(keeper)
        window.show()
        with qtbot.waitSignal(window.workspace.filled, timeout=round(30_000 * PATIENCE)):
            window.start()
        return window

    yield make
    for window in windows:
        window.close_now()
        settle()
        shiboken6.delete(window)


class Keeper:
    """Keeps no engine, and says what it is told to."""

    def __init__(self) -> None:
        self.runs = True

    def condition(self) -> Condition | None:
        return None

    def start_engine(self) -> None:
        self.runs = True

    def may_run(self) -> bool:
        return self.runs

    def on_change(self, call: Callable[[], None]) -> None:
        """Never call it: nothing changes by itself."""


def settle() -> None:
    """Do what is waiting, deletions included."""
    for _ in range(5):
        QCoreApplication.processEvents()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


def dialogs() -> list[QDialog]:
    """Give the dialogs that are open."""
    return [each for each in QApplication.topLevelWidgets() if isinstance(each, QDialog) and each.isVisible()]


def panels(window: MainWindow) -> dict[str, Panel]:
    """Give every panel by the name of its dock."""
    docks = {**window.workspace.docks, **window.workspace.charts}
    return {name: dock.panel for name, dock in docks.items() if dock.panel is not None}


def test_no_widget_is_ever_a_window_of_its_own(open_window: Open, strays: list[str]) -> None:
    window = open_window()
    window.bench.desk.notify("This passes.")
    window.bench.desk.notify("This stays.", Level.ERROR)
    for command in ("accounts.add", "help.shortcuts", "help.about", "window.palette"):
        window.actions_.run(command)
        settle()
    assert len(dialogs()) == 3
    assert strays == []
    for dialog in dialogs():
        dialog.reject()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    | st.sampled_from(
        ["sim:BTC/USDT", "1m", ":", " :x", "x:", "1" * 400, "9e999999", "99999999999d", "0s", "-1m", "\0"]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


def test_whatever_a_layout_holds_no_panel_fails_at_it(open_window: Open, fake: FakeBench) -> None:
    window = open_window()
    names: dict[Panel, list[str]] = {}
    for panel in panels(window).values():
        more = {"columns", "level", "quick", "span", "form", "sizes", "instrument", "timeframe"}
        names[panel] = sorted(_keys(panel.state()) | more)
    kept = {panel: panel.state() for panel in names}
    values = st.dictionaries(st.integers(0, 99), JSON, max_size=6)  # numbers stand for each panel's own names

    @settings(max_examples=100, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(st.integers(0, 99), JSON | values, max_size=6))
    def restore(state: dict[int, Any]) -> None:
        for panel in names:
            panel.restore(kept[panel] | _named(state, names[panel]))
            panel.state()

    restore()
    settle()
    for panel in names:
        panel.restore(kept[panel])
    settle()
    assert not [text for text in fake.texts if "error in the window" in text]


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("data", {"form": {"symbol": " :x"}}),
        ("log", {"level": []}),
        ("backtest", {"setup": {"span": {"quick": {}}, "symbols": [[], " :x", None], "parameters": {"a": [1]}}}),
        ("ticket", {"instrument": [], "type": {}, "quantity": "1e9999999", "account": 7}),
        ("orders", {"tab": [], "columns": {"open": {"widths": "x", "order": [9, None], "sort": [[], {}]}}}),
        ("strategies", {"sizes": [10**30, -1], "forms": {"/x.py": {"values": 3}}, "columns": {"order": "abc"}}),
    ],
)
def test_what_a_hand_wrote_into_the_layout_is_passed_over(open_window: Open, name: str, state: dict[str, Any]) -> None:
    window = open_window(Memory(panels={name: state}))
    assert window.workspace.panel(name) is not None


def _named(state: Any, names: list[str]) -> Any:
    if not isinstance(state, dict):
        return state
    return {
        names[key % len(names)] if isinstance(key, int) else key: _named(value, names) for key, value in state.items()
    }


def _keys(state: Any) -> set[str]:
    if not isinstance(state, dict):
        return set()
    return set(state) | {key for value in state.values() for key in _keys(value)}


def test_every_command_runs_in_any_order(open_window: Open, fake: FakeBench, qtbot: QtBot) -> None:
    window = open_window()
    rng = random.Random(3)
    for _ in range(3):
        names = [name for name in window.actions_.commands if name != "window.close"]
        rng.shuffle(names)
        for name in names:
            if name in window.actions_:
                window.actions_.run(name)
            settle()
            for dialog in dialogs():
                dialog.reject()
            settle()
    assert not [text for text in fake.texts if "error in the window" in text]


def test_a_chart_that_comes_later_moves_nothing_and_offers_nothing_again(open_window: Open, qtbot: QtBot) -> None:
    window = open_window()
    filled: list[None] = []
    window.workspace.filled.connect(lambda: filled.append(None))
    chosen: list[InstrumentId] = []
    dock = window.workspace.add_chart(InstrumentId("sim", "SOL/USDT"), "5m")
    assert dock is not None
    window.bench.requests.instrument_chosen.connect(chosen.append)
    qtbot.waitUntil(lambda: dock.panel is not None)
    qtbot.waitUntil(lambda: not window.workspace._fill_timer.isActive())
    settle()
    assert not filled
    assert set(chosen) == {InstrumentId("sim", "SOL/USDT")}


# ---- the kill switch ------------------------------------------------------------------------------------------------


def kill_texts(window: MainWindow) -> list[str]:
    """Give what is said of the kill switch."""
    return [text for text in window.notices.texts if "ill switch" in text]


def remedy(window: MainWindow, words: str) -> QToolButton:
    """Give a button of a notice."""
    return next(each for each in window.notices.findChildren(QToolButton) if each.text() == words)


def test_files_that_are_dropped_while_panels_are_made_are_not_lost(
    open_window: Open, fake: FakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, offered = MainWindow.start, ["/bars/goog.csv"]

    def drop_and_start(window: MainWindow) -> None:
        window.drops.bars_dropped.emit(offered)
        start(window)

    monkeypatch.setattr(MainWindow, "start", drop_and_start)
    window = open_window()
    panel = window.workspace.panel("backtest")
    assert isinstance(panel, BacktestPanel)
    assert panel.setup.bars.paths == ("/bars/goog.csv",)
    assert not window.workspace.docks["backtest"].visibleRegion().isEmpty()
    window.drops.bars_dropped.emit(["/bars/spy.csv"])
    assert panel.setup.bars.paths == ("/bars/spy.csv",)


def test_a_kill_switch_that_nobody_heard_is_offered_again_when_the_engine_is_back(
    open_window: Open, fake: FakeBench, qtbot: QtBot
) -> None:
    window = open_window()
    fake.client.lose()
    for _ in range(2):
        window.actions_.run("engine.kill")
        assert len(kill_texts(window)) == 1
        assert "NOT engaged: there is no connection" in kill_texts(window)[0]
        assert not fake.sent(EngageKillSwitch)
    fake.client.connect()
    qtbot.waitUntil(lambda: kill_texts(window) == ["The engine answers again. The kill switch is still not engaged."])
    fake.client.lose()
    assert "NOT engaged: there is no connection" in kill_texts(window)[0]
    fake.client.connect()
    qtbot.waitUntil(lambda: "answers again" in kill_texts(window)[0])
    remedy(window, "Engage it").click()
    qtbot.waitUntil(lambda: len(fake.sent(EngageKillSwitch)) == 1)
    qtbot.waitUntil(lambda: len(kill_texts(window)) == 1 and "The kill switch is engaged" in kill_texts(window)[0])


def test_a_kill_switch_that_nobody_heard_can_be_left(open_window: Open, fake: FakeBench, qtbot: QtBot) -> None:
    window = open_window()
    fake.client.lose()
    window.actions_.run("engine.kill")
    fake.client.connect()
    qtbot.waitUntil(lambda: "answers again" in kill_texts(window)[0])
    remedy(window, "Leave it").click()
    assert kill_texts(window) == []
    fake.client.lose()
    fake.client.connect()
    settle()
    assert kill_texts(window) == []
    assert not fake.sent(EngageKillSwitch)


def test_nothing_is_offered_where_another_hand_engaged_it(open_window: Open, fake: FakeBench, qtbot: QtBot) -> None:
    window = open_window()
    fake.client.lose()
    window.actions_.run("engine.kill")
    fake.engine.pulse(kill_switch=True, kill_reason="by hand")
    fake.client.connect()
    qtbot.waitUntil(lambda: [text[:26] for text in kill_texts(window)] == ["The kill switch is engaged"])


# ---- closing --------------------------------------------------------------------------------------------------------


def question(window: MainWindow) -> CloseDialog:
    """Give the question that is open."""
    assert window._closing is not None
    return window._closing


def end_in_order(fake: FakeBench) -> None:
    """Have the engine stop as one that was told to."""
    fake.client._publish(EngineStopped("a client asked for it"))
    fake.client.lose()


def test_a_chart_that_is_opened_for_a_time_goes_there(open_window: Open, fake: FakeBench, qtbot: QtBot) -> None:
    first_ns = 1_699_999_980_000_000_000
    fake.engine.bars = [Bar(BTC, "5m", first_ns + n * 300_000_000_000, 1.0, 2.0, 1.0, 1.5, 1.0) for n in range(900)]
    window = open_window()
    window.bench.requests.open_chart(BTC, "5m")
    window.bench.requests.time_wanted.emit(BTC, first_ns + 450 * 300_000_000_000)
    qtbot.waitUntil(lambda: len(list(window.workspace.chart_panels())) == 3)
    panel = list(window.workspace.chart_panels())[-1]
    assert isinstance(panel, ChartPanel)
    qtbot.waitUntil(lambda: panel.chart.bar_count == 900)
    first, last = panel.chart.visible_range
    assert first < 450 < last < 890


def test_an_engine_that_was_told_to_stop_closes_the_window_when_it_has(
    open_window: Open, fake: FakeBench, qtbot: QtBot
) -> None:
    window = open_window()
    window.close()
    question(window).stop.click()
    qtbot.waitUntil(lambda: fake.sent(Shutdown) != [])
    assert window.isVisible()
    end_in_order(fake)
    qtbot.waitUntil(lambda: not window.isVisible())


def test_an_engine_that_crashes_while_it_stops_is_stopped_when_it_is_back(
    open_window: Open, fake: FakeBench, qtbot: QtBot
) -> None:
    window = open_window()
    window.close()
    question(window).stop.click()
    qtbot.waitUntil(lambda: fake.sent(Shutdown) != [])
    fake.client.lose()  # without a last word
    settle()
    assert window.isVisible()
    fake.client.connect()
    qtbot.waitUntil(lambda: len(fake.sent(Shutdown)) == 2)
    end_in_order(fake)
    qtbot.waitUntil(lambda: not window.isVisible())


def test_a_stop_that_is_cancelled_leaves_nothing_behind(open_window: Open, fake: FakeBench, qtbot: QtBot) -> None:
    window = open_window()
    window.close()
    question(window).stop.click()
    qtbot.waitUntil(lambda: fake.sent(Shutdown) != [])
    question(window).cancel.click()
    settle()
    end_in_order(fake)
    settle()
    assert window.isVisible()
    assert window._closing is None
    assert not [text for text in fake.texts if "error in the window" in text]


def test_an_engine_that_does_not_answer_is_not_left_running_without_a_word(
    open_window: Open, fake: FakeBench, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("koc_qt.ui.closing.STOP_TIMEOUT_S", 0.05)
    window = open_window(Memory(on_close="stop"), Keeper())
    fake.client.lose()
    window.close()
    assert "as soon as it does" in question(window).what.text()
    qtbot.waitUntil(lambda: "may go on trading" in question(window).what.text())
    assert window.isVisible()
    question(window).keep.click()
    assert not window.isVisible()


def test_where_no_engine_runs_nothing_is_asked(open_window: Open, fake: FakeBench) -> None:
    keeper = Keeper()
    window = open_window(Memory(on_close="stop"), keeper)
    fake.client.lose()
    keeper.runs = False
    window.close()
    assert not window.isVisible()


def test_nothing_looks_chosen_at_first(open_window: Open, qtbot: QtBot) -> None:
    window = open_window()
    window.activateWindow()
    qtbot.waitUntil(lambda: QApplication.activeWindow() is window)
    assert QApplication.focusWidget() in (None, window)
    window.focusNextPrevChild(True)
    assert QApplication.focusWidget() is not window


def test_a_strategy_is_opened_at_the_top_of_the_menu(open_window: Open) -> None:
    window = open_window()
    actions = window._menus["&File"].actions()
    assert actions[0].objectName() == "strategies.open"
    assert actions[1].isSeparator()
    assert actions[-1].objectName() == "window.close"


def test_a_remembered_keep_closes_at_once(open_window: Open, fake: FakeBench) -> None:
    window = open_window(Memory(on_close="keep"), Keeper())
    window.close()
    assert not window.isVisible()
    assert not fake.sent(Shutdown)


def test_a_remembered_stop_is_not_done_to_an_engine_on_another_machine(open_window: Open, fake: FakeBench) -> None:
    window = open_window(Memory(on_close="stop"))
    fake.desk.is_remote = True
    window.close()
    settle()
    assert question(window).stop.isEnabled()
    assert not fake.sent(Shutdown)


def test_a_first_window_leaves_room_for_its_frame(open_window: Open) -> None:
    """Else its lowest line, which says how the engine is, lies beneath the edge of the screen."""
    window = open_window()
    area = window.screen().availableGeometry()
    assert area.height() < DEFAULT_SIZE.height()
    assert area.height() - window.height() >= FRAME_ROOM.height()
