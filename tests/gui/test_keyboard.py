"""The window for whoever uses keys or a screen reader: mnemonics, shortcuts, names of buttons without words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import shiboken6
from PySide6.QtCore import QCoreApplication, QEvent, Qt
from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import QAbstractButton, QApplication, QDialogButtonBox, QLabel, QToolButton, QWidget
from pytestqt.qtbot import QtBot

from koc_qt.ui.memory import MemoryFile
from koc_qt.ui.panel_list import chart_maker, panel_kinds
from koc_qt.ui.shortcuts import ShortcutsDialog, sections
from koc_qt.ui.theme import ThemeChoice
from koc_qt.ui.window import MainWindow
from tests.fakes.desk import FakeBench

TITLE_BAR = ("qt_dockwidget_closebutton", "qt_dockwidget_floatbutton", "ScrollLeftButton", "ScrollRightButton")


@pytest.fixture
def window(fake: FakeBench, qapp: QApplication, qtbot: QtBot, tmp_path: Path) -> Iterator[MainWindow]:
    """Give the window with all its panels."""
    folders = {name: tmp_path / name.lower() for name in ("Configuration", "Data", "Strategies", "Logs")}
    window = MainWindow(
        fake.desk,
        fake.theme,
        MemoryFile(tmp_path / "window.json"),
        lambda bench, monitor: panel_kinds(bench, monitor, tmp_path / "strategies", ["true"], folders),
        chart_maker,
    )
    window.show()
    with qtbot.waitSignal(window.workspace.filled, timeout=30_000):
        window.start()
    yield window
    window.close_now()
    for _ in range(5):
        QCoreApplication.processEvents()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    shiboken6.delete(window)


def nameless(place: QWidget) -> list[str]:
    """Give the buttons without a word that neither a screen reader nor a tooltip names; Qt's own aside."""
    return [
        f"{type(each).__name__} {each.objectName()!r} in {type(each.parent()).__name__}"
        for each in place.findChildren(QAbstractButton)
        if not each.text() and not each.accessibleName() and not each.toolTip() and each.objectName() not in TITLE_BAR
        if not each.objectName().startswith("qt_")
        if type(each.parent()).__name__ not in ("QTableView", "QLineEdit", "RecordTable")
    ]


def test_every_button_has_a_name(window: MainWindow) -> None:
    assert len(window.findChildren(QAbstractButton)) > 60
    assert nameless(window) == []


def test_buttons_that_lose_their_words_keep_their_names(window: MainWindow) -> None:
    header = window.header
    for button in (header.start_all, header.stop_all, header.palette_button, header.kill, header.release):
        assert button.accessibleName()
    header.resize(800, header.height())
    assert header.start_all.toolButtonStyle() is Qt.ToolButtonStyle.ToolButtonIconOnly
    assert header.kill.toolButtonStyle() is Qt.ToolButtonStyle.ToolButtonTextBesideIcon
    header.resize(1400, header.height())
    assert header.start_all.toolButtonStyle() is Qt.ToolButtonStyle.ToolButtonTextBesideIcon


def test_mnemonics_are_unique_in_their_menu(window: MainWindow) -> None:
    for menu in window._menus.values():
        letters = Counter(
            QKeySequence.mnemonic(action.text()).toString() for action in menu.actions() if "&" in action.text()
        )
        assert {letter for letter, count in letters.items() if letter and count > 1} == set(), menu.title()


def test_no_key_has_two_meanings(window: MainWindow) -> None:
    keys = Counter(command.shortcut for command in window.actions_.commands.values() if command.shortcut)
    assert [key for key, count in keys.items() if count > 1] == []


def test_all_keys_are_listed(window: MainWindow, qtbot: QtBot) -> None:
    window.actions_.run("help.shortcuts")
    dialog = window.findChild(ShortcutsDialog)
    assert dialog is not None
    texts = {label.text() for label in dialog.findChildren(QLabel)}
    for command in window.actions_.commands.values():
        if command.shortcut:
            assert QKeySequence(command.shortcut).toString(QKeySequence.SequenceFormat.NativeText) in texts
    assert ("Ctrl+K", "Commands") in sections(window.actions_)["Help"]
    box = dialog.findChild(QDialogButtonBox)
    assert box is not None
    with qtbot.waitSignal(dialog.finished):
        box.button(QDialogButtonBox.StandardButton.Close).click()


@pytest.mark.parametrize("choice", [ThemeChoice.DARK, ThemeChoice.LIGHT])
def test_red_buttons_have_light_icons(window: MainWindow, fake: FakeBench, choice: ThemeChoice) -> None:
    fake.theme.set_choice(choice)
    for button in (window.header.kill, window.header.release):
        pixels = _colors(button)
        assert pixels, button.text()
        assert all(red > 200 and green > 200 and blue > 200 for red, green, blue in pixels)


def _colors(button: QToolButton) -> set[tuple[int, int, int]]:
    button.defaultAction().setEnabled(True)
    image = button.icon().pixmap(32, 32).toImage()
    points = [(x, y) for x in range(image.width()) for y in range(image.height())]
    found = [image.pixelColor(x, y) for x, y in points]
    return {(each.red(), each.green(), each.blue()) for each in found if each.alpha() > 200}
