"""Docks: their first arrangement, charts that come and go, and what is remembered."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import shiboken6
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication, QLabel, QMainWindow, QWidget
from pytestqt.qtbot import QtBot

from koc_qt.domain.instruments import InstrumentId
from koc_qt.ui.bench import Bench, Panel
from koc_qt.ui.memory import ChartMemory, Memory
from koc_qt.ui.workspace import DEFAULT_CHARTS, FILL_MS, MOST_CHARTS, PanelKind, Workspace
from tests.fakes.desk import FakeBench

BTC = InstrumentId("sim", "BTC/USDT")
NAMES = ("orders", "telemetry", "backtest", "log", "strategies", "accounts", "ticket", "data", "deploy", "mascot")


class Plain(Panel):
    """Remembers one value."""

    NAME, TITLE, ICON = "plain", "Plain", "chart"

    def __init__(self, bench: Bench, parent: QWidget | None = None) -> None:
        super().__init__(bench, parent)
        self.kept: dict[str, Any] = {}

    def state(self) -> dict[str, Any]:
        return self.kept

    def restore(self, state: dict[str, Any]) -> None:
        if state.get("bad"):
            raise ValueError("bad")
        self.kept = state
        self.setWindowTitle(str(state.get("instrument", "")))


Open = Callable[..., Workspace]


@pytest.fixture
def open_workspace(fake: FakeBench, qapp: QApplication, qtbot: QtBot) -> Iterator[Open]:
    windows: list[QMainWindow] = []

    def make(memory: Memory | None = None, names: tuple[str, ...] = NAMES) -> Workspace:
        window = QMainWindow()
        windows.append(window)
        window.resize(1400, 900)
        kinds = tuple(PanelKind(name, name.capitalize(), "chart", partial(Plain, fake.bench)) for name in names)
        workspace = Workspace(window, kinds, partial(Plain, fake.bench))
        workspace.open(memory or Memory())
        window.show()
        with qtbot.waitSignal(workspace.filled):
            workspace.start_filling()
        return workspace

    yield make
    for window in windows:
        shiboken6.delete(window)


def remembered(workspace: Workspace) -> Memory:
    memory = Memory()
    workspace.remember(memory)
    return memory


def test_at_first_every_panel_is_there_with_two_charts(open_workspace: Open) -> None:
    workspace = open_workspace()
    assert all(dock.panel is not None and not dock.isHidden() for dock in workspace.docks.values())
    assert [panel.state() for panel in workspace.chart_panels()] == [
        {"instrument": instrument, "timeframe": timeframe} for instrument, timeframe in DEFAULT_CHARTS
    ]
    left, right = workspace.charts.values()
    assert abs(left.width() - right.width()) < 40
    assert left.y() == right.y()


def test_the_layout_survives(open_workspace: Open) -> None:
    first = open_workspace()
    first.docks["log"].close()
    first.docks["ticket"].setFloating(True)
    first.panel("data").restore({"days": 7})  # type: ignore[union-attr]
    first.add_chart(BTC, "5m")
    memory = remembered(first)

    second = open_workspace(memory)
    assert second.docks["log"].isHidden()
    assert second.docks["ticket"].isFloating()
    assert second.panel("data").state() == {"days": 7}  # type: ignore[union-attr]
    assert [panel.state()["timeframe"] for panel in second.chart_panels()] == ["1s", "1m", "5m"]
    assert list(second.charts) == list(first.charts)

    second.reset()
    assert not second.docks["log"].isHidden()
    assert not second.docks["ticket"].isFloating()
    assert len(second.charts) == 2


@pytest.mark.parametrize("docks", ["not base64", "AAAA", "x" * 100_000])
def test_a_layout_that_is_none_gives_the_default(open_workspace: Open, docks: str) -> None:
    workspace = open_workspace(Memory(docks=docks, charts=[ChartMemory("chart-7", {"instrument": "sim:X/Y"})]))
    assert list(workspace.charts) == ["chart-1", "chart-2"]
    assert all(not dock.isHidden() for dock in workspace.docks.values())


@pytest.mark.expected_warnings("state of the panel data is of no use")
def test_a_state_that_a_panel_cannot_read_costs_nothing(open_workspace: Open) -> None:
    workspace = open_workspace(Memory(panels={"data": {"bad": True}, "gone": {"x": 1}}))
    assert workspace.panel("data") is not None


def test_charts_come_and_go(open_workspace: Open, qtbot: QtBot) -> None:
    workspace = open_workspace()
    dock = workspace.add_chart(BTC, "5m")
    assert dock is not None
    qtbot.waitUntil(lambda: dock.panel is not None)
    assert dock.windowTitle() == "sim:BTC/USDT"
    dock.close()
    assert list(workspace.charts) == ["chart-1", "chart-2"]
    while workspace.add_chart(BTC, "1m") is not None:
        pass
    assert len(workspace.charts) == MOST_CHARTS


@pytest.mark.parametrize(("height", "is_apart"), [(1_200, True), (500, False)])
def test_another_chart_has_half_the_room_or_is_a_tab(
    open_workspace: Open, qtbot: QtBot, height: int, is_apart: bool
) -> None:
    workspace = open_workspace()
    window = workspace.docks["log"].window()
    window.resize(900, height)
    dock = workspace.add_chart(BTC, "5m")
    assert dock is not None
    neighbour = workspace.charts["chart-2"]
    assert (neighbour not in window.tabifiedDockWidgets(dock)) is is_apart  # type: ignore[attr-defined]
    if is_apart:
        qtbot.waitUntil(lambda: dock.height() >= 200)
        assert abs(dock.height() - neighbour.height()) <= 2


@pytest.mark.expected_warnings("the panel broken cannot be shown")
def test_a_panel_that_cannot_be_made_leaves_the_others(fake: FakeBench, qtbot: QtBot) -> None:
    window = QMainWindow(fake.window)

    def fail(parent: QWidget) -> Panel:
        raise RuntimeError("no such thing")

    kinds = (
        PanelKind("broken", "Broken", "chart", fail),
        PanelKind("log", "Log", "chart", partial(Plain, fake.bench)),
    )
    workspace = Workspace(window, kinds, partial(Plain, fake.bench))
    workspace.open(Memory())
    with qtbot.waitSignal(workspace.filled):
        workspace.start_filling()
    assert workspace.panel("broken") is None
    assert "no such thing" in workspace.docks["broken"].widget().text()  # type: ignore[attr-defined]
    assert workspace.panel("log") is not None


def test_charts_are_made_first_and_what_a_panel_needs_is_loaded_before_it(fake: FakeBench, qtbot: QtBot) -> None:
    window = QMainWindow(fake.window)
    done: list[str] = []

    def load(name: str) -> Iterator[None]:
        for part in ("parts", "whole"):
            done.append(f"{name} {part}")
            yield

    def make(name: str, parent: QWidget) -> Panel:
        done.append(name)
        return Plain(fake.bench, parent)

    kinds = tuple(PanelKind(name, name, "chart", partial(make, name), partial(load, name)) for name in ("log", "data"))
    workspace = Workspace(window, kinds, partial(make, "chart"))
    workspace.open(Memory())
    with qtbot.waitSignal(workspace.filled):
        workspace.start_filling()
    assert done == ["chart", "chart", "log parts", "log whole", "log", "data parts", "data whole", "data"]


class Stepwise(Plain):
    """Has three parts; the last is never made where `ends_at` says so."""

    def __init__(self, bench: Bench, parent: QWidget | None = None, *, ends_at: int = 3) -> None:
        super().__init__(bench, parent)
        self.made: list[QLabel] = []
        self.retired = 0
        self._ends_at = ends_at
        self.make()

    def parts(self) -> Iterator[None]:
        for number in range(3):
            if number == self._ends_at:
                raise RuntimeError("the glue is out")
            self.made.append(QLabel(str(number), self))
            yield

    def restore(self, state: dict[str, Any]) -> None:
        assert len(self.made) == 3, "a panel gets its state back when it is whole"
        super().restore(state)

    def retire(self) -> None:
        self.retired += 1


def test_a_panel_made_alone_is_whole_at_once(fake: FakeBench) -> None:
    assert len(Stepwise(fake.bench, fake.window).made) == 3


def test_a_panel_is_made_in_steps_and_shown_whole(fake: FakeBench, qtbot: QtBot) -> None:
    window = QMainWindow(fake.window)
    bench = replace(fake.bench, in_steps=True)
    panels: list[Stepwise] = []

    def make(parent: QWidget) -> Panel:
        panels.append(Stepwise(bench, parent))
        assert not panels[-1].made
        return panels[-1]

    workspace = Workspace(window, (PanelKind("data", "Data", "chart", make),), partial(Plain, fake.bench))
    workspace.open(Memory(panels={"data": {"days": 3}}))
    with qtbot.waitSignal(workspace.filled):
        workspace.start_filling()
    assert workspace.panel("data") is panels[0]
    assert [label.text() for label in panels[0].made] == ["0", "1", "2"]
    assert panels[0].state() == {"days": 3}


@pytest.mark.expected_warnings("the panel data cannot be shown")
def test_a_panel_that_fails_half_way_leaves_the_others(fake: FakeBench, qtbot: QtBot) -> None:
    window = QMainWindow(fake.window)
    bench = replace(fake.bench, in_steps=True)
    kinds = (
        PanelKind("data", "Data", "chart", partial(Stepwise, bench, ends_at=2)),
        PanelKind("log", "Log", "chart", partial(Stepwise, bench)),
    )
    workspace = Workspace(window, kinds, partial(Plain, fake.bench))
    workspace.open(Memory())
    with qtbot.waitSignal(workspace.filled):
        workspace.start_filling()
    assert "the glue is out" in workspace.docks["data"].widget().text()  # type: ignore[attr-defined]
    assert workspace.panel("log") is not None


def test_a_chart_that_is_closed_while_it_is_made_lets_go(fake: FakeBench, qtbot: QtBot) -> None:
    window = QMainWindow(fake.window)
    bench = replace(fake.bench, in_steps=True)
    panels: list[Stepwise] = []

    class Closing(Stepwise):
        def restore(self, state: dict[str, Any]) -> None:
            super().restore(state)
            panels.append(self)
            if len(panels) == 1:
                QTimer.singleShot(0, workspace, next(iter(workspace.charts.values())).close)
                time.sleep(FILL_MS / 1e3)  # so that the loop turns before the panel is in its dock

    workspace = Workspace(window, (), partial(Closing, bench))
    workspace.open(Memory())
    with qtbot.waitSignal(workspace.filled):
        workspace.start_filling()
    assert [panel.retired for panel in panels] == [1, 0]
    assert len(workspace.charts) == 1
