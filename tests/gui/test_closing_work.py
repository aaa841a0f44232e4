"""Closing the window while it builds: asked first, the build stopped in order, nothing left behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import shiboken6
from PySide6.QtCore import QCoreApplication, QEvent, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from koc_qt.ui.bench import Bench
from koc_qt.ui.memory import Memory, MemoryFile
from koc_qt.ui.panel_list import chart_maker
from koc_qt.ui.panels.deploy import DeployPanel
from koc_qt.ui.panels.deploy_build_run import Phase
from koc_qt.ui.window import MainWindow
from koc_qt.ui.workspace import PanelKind
from tests.conditions import PATIENCE
from tests.fakes.desk import FakeBench
from tests.gui.build_script import BuildScript

BUILDING = """
if check:
    end()
def stop(*_):
    open(os.path.join(folder, "asked"), "w").close()
    wait_for("undone")
    end(130)
signal.signal(signal.SIGINT, stop)
plan(60); stage(1, "running")
wait_for("go")
result(); end()
"""


@pytest.fixture
def script(tmp_path: Path) -> BuildScript:
    return BuildScript(tmp_path, BUILDING)


@pytest.fixture
def window(fake: FakeBench, script: BuildScript, qtbot: QtBot, tmp_path: Path) -> Iterator[MainWindow]:
    """Give a window whose only panel builds; nothing is asked about the engine."""
    file = MemoryFile(tmp_path / "window.json")
    file.write(Memory(on_close="keep"))

    def deploy(bench: Bench, parent: QWidget) -> DeployPanel:
        return DeployPanel(bench, [sys.executable, "-S", "-c", ""], {}, parent, find_place=script.place)

    shown = MainWindow(
        fake.desk,
        fake.theme,
        file,
        lambda bench, monitor: (PanelKind("deploy", "Deploy", "deploy", lambda parent: deploy(bench, parent)),),
        chart_maker,
    )
    for name in list(shown.workspace.charts):
        shown.workspace.charts[name].close()
    shown.show()
    with qtbot.waitSignal(shown.workspace.filled, timeout=round(10_000 * PATIENCE)):
        shown.start()
    yield shown
    if shiboken6.isValid(shown):
        script.allow("undone")
        shown.close_now()
        shiboken6.delete(shown)


def building(window: MainWindow, qtbot: QtBot) -> DeployPanel:
    panel = window.workspace.panel("deploy")
    assert isinstance(panel, DeployPanel)
    panel.installers.buttons["ubuntu"].click()
    qtbot.waitUntil(lambda: panel.run.book.running() is not None)
    return panel


def closed_of(window: MainWindow) -> list[bool]:
    closed: list[bool] = []
    window.closed.connect(lambda: closed.append(True))
    return closed


def test_one_is_asked_and_the_build_is_stopped_in_order(window: MainWindow, script: BuildScript, qtbot: QtBot) -> None:
    panel, closed = building(window, qtbot), closed_of(window)
    window.close()
    dialog = window.work_guard.dialog
    assert dialog is not None
    assert dialog.question.text() == "Building for Ubuntu: stop it?"
    window.close()
    assert window.work_guard.dialog is dialog  # one question at a time
    dialog.stop.click()
    assert dialog.question.text() == "Stopping the build…"
    qtbot.waitUntil(lambda: (script.folder / "asked").exists())
    assert closed == []
    script.allow("undone")
    qtbot.waitUntil(lambda: closed == [True])
    assert panel.run.phase is Phase.CANCELLED
    assert window.work_guard.dialog is None


def test_going_on_leaves_everything_as_it_is(window: MainWindow, script: BuildScript, qtbot: QtBot) -> None:
    panel, closed = building(window, qtbot), closed_of(window)
    window.close()
    dialog = window.work_guard.dialog
    assert dialog is not None
    QTest.keyClick(dialog, Qt.Key.Key_Escape)
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    assert window.work_guard.dialog is None
    assert not panel.run.is_stopping
    script.allow("go")
    qtbot.waitUntil(lambda: panel.run.phase is Phase.DONE)
    assert closed == []
    assert window.isVisible()


def test_one_that_ends_by_itself_meanwhile_closes_the_window(
    window: MainWindow, script: BuildScript, qtbot: QtBot
) -> None:
    panel, closed = building(window, qtbot), closed_of(window)
    window.close()
    script.allow("go")
    qtbot.waitUntil(lambda: closed == [True])
    assert panel.run.phase is Phase.DONE


def test_one_may_stay_while_it_is_being_stopped(window: MainWindow, script: BuildScript, qtbot: QtBot) -> None:
    panel, closed = building(window, qtbot), closed_of(window)
    window.close()
    dialog = window.work_guard.dialog
    assert dialog is not None
    dialog.stop.click()
    dialog.go_on.click()
    script.allow("undone")
    qtbot.waitUntil(lambda: panel.run.phase is Phase.CANCELLED)
    assert closed == []


def test_a_signal_stops_it_without_a_question(window: MainWindow, script: BuildScript, qtbot: QtBot) -> None:
    panel, closed = building(window, qtbot), closed_of(window)
    window.close_now()
    window.close_now()
    assert window.work_guard.dialog is None
    assert panel.run.is_stopping
    script.allow("undone")
    qtbot.waitUntil(lambda: closed == [True])


def test_a_window_that_is_gone_takes_the_build_along(window: MainWindow, script: BuildScript, qtbot: QtBot) -> None:
    building(window, qtbot)
    script.allow("undone")
    window.monitor.stop()  # as closing does
    shiboken6.delete(window)  # the rails look for the process
    assert (script.folder / "asked").exists()
