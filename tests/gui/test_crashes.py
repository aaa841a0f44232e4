"""Crash reports in the window: the notice, the dialog, and what is in the Help menu."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import shiboken6
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QToolButton
from pytestqt.qtbot import QtBot

from koc_qt.adapters.crash_reports import CrashReports
from koc_qt.paths import Paths
from koc_qt.ui.crashes import CrashDialog, CrashWatch
from koc_qt.ui.memory import MemoryFile
from koc_qt.ui.panel_list import chart_maker
from koc_qt.ui.window import FRAME_ROOM, MainWindow
from tests.fakes.desk import FakeBench


@pytest.fixture
def window(fake: FakeBench, tmp_path: Path) -> Iterator[MainWindow]:
    """Give a window without panels."""
    window = MainWindow(
        fake.desk, fake.theme, MemoryFile(tmp_path / "window.json"), lambda bench, monitor: (), chart_maker
    )
    window.show()
    yield window
    window.close_now()
    shiboken6.delete(window)


def write(profile: Paths, part: str, text: str, *, has_ended: bool) -> None:
    CrashReports(profile).write(part, RuntimeError(text), has_ended=has_ended)


def dialog_of(window: MainWindow, qtbot: QtBot) -> CrashDialog:
    window.actions_.run("help.crashes")
    qtbot.waitUntil(lambda: window.findChild(CrashDialog) is not None)
    dialog = window.findChild(CrashDialog)
    assert isinstance(dialog, CrashDialog)
    return dialog


def test_new_reports_are_told_of_once_and_shown(window: MainWindow, profile: Paths, qtbot: QtBot) -> None:
    watch = CrashWatch(window, CrashReports(profile))
    write(profile, "engine", "boom", has_ended=True)
    watch.came.emit()
    watch.came.emit()
    qtbot.waitUntil(lambda: bool(window.notices.texts))
    (text,) = window.notices.texts
    assert text.startswith("K.O.C. ended unexpectedly (the engine, ")
    assert text.endswith("A report was written on this machine, and sent nowhere.")
    write(profile, "window", "bang", has_ended=False)
    write(profile, "window", "bang", has_ended=False)
    watch.came.emit()
    qtbot.waitUntil(lambda: len(window.notices.texts) == 2)
    assert window.notices.texts[1].startswith("An error in K.O.C. itself (the window, ")
    assert "2 reports were" in window.notices.texts[1]
    show = next(each for each in window.notices.findChildren(QToolButton) if each.text() == "Show")
    show.click()
    qtbot.waitUntil(lambda: window.findChild(CrashDialog) is not None)


def test_reports_are_read_copied_and_deleted(window: MainWindow, profile: Paths, qtbot: QtBot) -> None:
    CrashWatch(window, CrashReports(profile))
    write(profile, "engine", "first", has_ended=True)
    write(profile, "window", "second", has_ended=False)
    dialog = dialog_of(window, qtbot)
    assert [dialog.list.item(row).text()[18:] for row in range(2)] == ["Error in the window", "The engine ended"]
    assert "RuntimeError: second" in dialog.text.toPlainText()
    dialog.copy.click()
    assert "RuntimeError: second" in QGuiApplication.clipboard().text()
    dialog.delete_.click()
    assert "RuntimeError: first" in dialog.text.toPlainText()
    assert [report.part for report in CrashReports(profile).reports()] == ["engine"]
    assert not dialog.empty.isVisible()
    dialog.activateWindow()
    qtbot.waitUntil(dialog.isActiveWindow)
    dialog.list.setFocus()
    for _ in range(2):  # one too many
        QTest.keyClick(dialog.list, Qt.Key.Key_Delete)
    assert dialog.text.toPlainText() == ""
    assert dialog.empty.isVisible()
    assert not dialog.list.isVisible()
    assert not dialog.delete_.isEnabled()
    assert CrashReports(profile).reports() == []


def test_without_reports_it_says_so(window: MainWindow, profile: Paths, qtbot: QtBot) -> None:
    CrashWatch(window, CrashReports(profile))
    dialog = dialog_of(window, qtbot)
    assert dialog.empty.isVisible()
    assert "nothing has gone wrong" in dialog.empty.text()
    assert not dialog.copy.isEnabled()
    names = [action.objectName() for action in window._menus["&Help"].actions()]
    assert names[-2:] == ["help.crashes", "help.about"]


def test_on_a_small_screen_all_of_the_window_can_be_reached(window: MainWindow) -> None:
    room = window.screen().availableSize() - FRAME_ROOM
    assert window.minimumWidth() <= room.width()
    assert window.minimumHeight() <= room.height()
    window.resize(800, 560)
    assert window.width() == 800
    kill = window.header.kill
    assert window.rect().contains(kill.mapTo(window, kill.rect().bottomRight()))
