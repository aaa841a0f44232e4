"""The window for whoever uses keys or a screen reader: mnemonics, shortcuts, names of buttons without words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import shiboken6
from PySide6.QtCore import QCoreApplication, QEvent, QPoint, QRect, Qt
from PySide6.QtGui import QKeySequence, QRegion, QShortcut
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QApplication,
    QDialogButtonBox,
    QDockWidget,
    QToolButton,
    QWidget,
)
from pytestqt.qtbot import QtBot

from koc_qt.sdk.channel import Described, ParameterInfo
from koc_qt.ui.colors import LIGHT
from koc_qt.ui.focus import _Ring
from koc_qt.ui.memory import MemoryFile
from koc_qt.ui.palette import KEYS_ROLE
from koc_qt.ui.panel_list import chart_maker, panel_kinds
from koc_qt.ui.shortcuts import ShortcutsDialog, sections
from koc_qt.ui.start_form.form import StartForm
from koc_qt.ui.tables.view import RecordTable
from koc_qt.ui.theme import ThemeChoice
from koc_qt.ui.window import MainWindow
from tests.conditions import PATIENCE
from tests.fakes.desk import FakeBench

NATIVE = QKeySequence.SequenceFormat.NativeText
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
    with qtbot.waitSignal(window.workspace.filled, timeout=round(30_000 * PATIENCE)):
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


def test_all_keys_are_listed(window: MainWindow, fake: FakeBench, qtbot: QtBot) -> None:
    window.actions_.run("help.shortcuts")
    dialog = window.findChild(ShortcutsDialog)
    assert dialog is not None
    texts = {dialog.list.item(row).data(KEYS_ROLE) for row in range(dialog.list.count())}
    for command in window.actions_.commands.values():
        if command.shortcut:
            assert QKeySequence(command.shortcut).toString(NATIVE) in texts
    keys = [each.key().toString(NATIVE) for each in window.findChildren(QShortcut)]
    assert {"F5", "Ctrl+Return", "Ctrl+F", "Space"} & set(keys)
    assert set(keys) - texts <= {"Ctrl+Enter"}  # the other key of that name
    assert ("Ctrl+K", "Commands") in sections(window.actions_)["Help"]
    assert list(sections(window.actions_))[:7] == ["File", "Engine", "Trade", "Chart", "View", "Help", "In charts"]
    rows = [dialog.list.item(row) for row in range(dialog.list.count())]
    titles = [row for row in rows if not row.text().startswith(" ")]
    fake.theme.set_choice(ThemeChoice.LIGHT)
    assert {title.foreground().color().name() for title in titles} == {LIGHT.accent}
    box = dialog.findChild(QDialogButtonBox)
    assert box is not None
    with qtbot.waitSignal(dialog.finished):
        box.button(QDialogButtonBox.StandardButton.Close).click()


def test_every_panel_is_found_by_typing_its_name_and_reached(window: MainWindow, qtbot: QtBot) -> None:
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    window.workspace.docks["orders"].close()
    for typed, name in (("orders & pos", "orders"), ("telemetry", "telemetry"), ("show tick", "ticket")):
        window.palette_.open_over(window)
        window.palette_.query.setText(typed)
        assert window.palette_.list.item(0).text().startswith("Show ")
        QTest.keyClick(window.palette_.query, Qt.Key.Key_Return)
        dock = window.workspace.docks[name]
        qtbot.waitUntil(lambda dock=dock: not dock.visibleRegion().isEmpty())  # type: ignore[misc]
        QTest.keyClick(window, Qt.Key.Key_Tab)
        focused = window.focusWidget()
        assert focused is not None
        assert dock.isAncestorOf(focused), typed


def test_what_was_maximised_is_so_again_after_full_screen(window: MainWindow) -> None:
    window.setWindowState(Qt.WindowState.WindowMaximized)
    window.actions_.run("view.fullscreen")
    assert window.isFullScreen()
    window.actions_.run("view.fullscreen")
    assert not window.isFullScreen()
    assert window.isMaximized()


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


# ---- by Tab alone ---------------------------------------------------------------------------------------------------


@pytest.fixture
def styled(window: MainWindow, fake: FakeBench, qapp: QApplication, qtbot: QtBot) -> Iterator[MainWindow]:
    """Give the window as people see it, at the size that it has at first, in front."""
    font, palette, style = qapp.font(), qapp.palette(), qapp.style().objectName()
    fake.theme.apply(qapp)
    window.resize(1480, 900)
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    yield window
    qapp.setStyleSheet("")
    qapp.setStyle(style)
    qapp.setPalette(palette)
    qapp.setFont(font)


def walk(top: QWidget, qapp: QApplication, key: Qt.Key = Qt.Key.Key_Tab) -> list[QWidget]:
    """Press a key until the focus is where it was before; give where it has been."""
    stops: list[QWidget] = []
    for _ in range(400):
        QTest.keyClick(qapp.focusWidget() or top, key)
        focus = qapp.focusWidget()
        assert focus is not None
        if focus in stops:
            assert focus is stops[0], f"{named(focus)} is a trap"
            return stops
        stops.append(focus)
    raise AssertionError("the walk has no end")


def named(widget: QWidget) -> str:
    """Say which widget that is."""
    return f"{type(widget).__name__} {widget.accessibleName() or widget.toolTip()!r}"


def usable(place: QWidget) -> set[QWidget]:
    """Give the controls that the keyboard is meant to reach."""
    return {
        each
        for each in place.findChildren(QWidget)
        if each.focusPolicy().value & Qt.FocusPolicy.TabFocus.value
        and each.isVisible()
        and each.isEnabled()
        and each.focusProxy() is None
    }


def invisible(top: QWidget, stops: list[QWidget], qapp: QApplication) -> list[str]:
    """Walk once more, and give the stops that lie out of sight or do not look otherwise with the focus."""
    wrong = []
    stops[-1].setFocus(Qt.FocusReason.TabFocusReason)
    for stop in stops:
        QTest.keyClick(qapp.focusWidget() or top, Qt.Key.Key_Tab)
        assert qapp.focusWidget() is stop
        place = QRect(stop.mapTo(top, QPoint(0, 0)), stop.size())
        seen = QRegion(place).intersected(top.rect())
        area = stop.parentWidget()
        while area is not None and area is not top:
            seen = seen.intersected(QRect(area.mapTo(top, QPoint(0, 0)), area.size()))
            area = area.parentWidget()
        focused = top.grab(place).toImage()
        stop.clearFocus()
        if seen.isEmpty() or top.grab(place).toImage() == focused:
            wrong.append(named(stop))
        stop.setFocus(Qt.FocusReason.TabFocusReason)
    return wrong


def test_tab_goes_through_all_that_can_be_seen_and_back(styled: MainWindow, qapp: QApplication) -> None:
    styled.setFocus()
    there = walk(styled, qapp)
    styled.setFocus()
    back = walk(styled, qapp, Qt.Key.Key_Backtab)
    assert back == there[::-1]
    behind = [dock for dock in docks(styled) if dock.visibleRegion().isEmpty()]
    assert len(behind) >= 4
    hidden = {each for dock in behind for each in dock.findChildren(QWidget)}
    assert not hidden & set(there)
    assert usable(styled) - hidden == set(there)
    header = [stop for stop in there if styled.header.isAncestorOf(stop)]
    assert there[: len(header)] == header
    assert [stop.accessibleName() for stop in header] == ["Commands…", "Kill switch"]


def docks(window: MainWindow) -> list[QDockWidget]:
    """Give all docks."""
    return [*window.workspace.docks.values(), *window.workspace.charts.values()]


def test_the_focus_can_be_seen_everywhere(styled: MainWindow, qapp: QApplication) -> None:
    for dock in docks(styled):
        dock.show()
        dock.raise_()
        settle_until_seen(dock)
        styled.setFocus()
        stops = walk(styled, qapp)
        assert usable(dock) - set(stops) == set()
        if dock.objectName() != "deploy":  # nothing to press while no engine is on another machine
            assert usable(dock)
        assert invisible(styled, stops, qapp) == []


def settle_until_seen(dock: QDockWidget) -> None:
    """Let Qt lay it out."""
    for _ in range(50):
        QCoreApplication.processEvents()
        if not dock.visibleRegion().isEmpty():
            return
    raise AssertionError(f"{dock.objectName()} is not shown")


def test_docks_are_walked_from_the_top_down(styled: MainWindow, qapp: QApplication) -> None:
    wrong = []
    for dock in docks(styled):
        dock.raise_()
        settle_until_seen(dock)
        styled.setFocus()
        stops = [stop for stop in walk(styled, qapp) if dock.isAncestorOf(stop)]
        for first, second in pairwise(stops):
            before, after = (QRect(each.mapTo(dock, QPoint(0, 0)), each.size()) for each in (first, second))
            is_same_column = before.left() < after.right() and after.left() < before.right()
            if is_same_column and after.bottom() < before.top() and not first.isAncestorOf(second):
                wrong.append(f"{dock.objectName()}: {named(first)} before {named(second)}")
    assert wrong == []


def test_what_was_clicked_has_no_frame(styled: MainWindow, qapp: QApplication) -> None:
    table = next(each for each in styled.workspace.docks["orders"].findChildren(RecordTable) if each.isVisible())
    QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton)
    assert qapp.focusWidget() is table
    assert not table.findChildren(_Ring)
    QTest.keyClick(table, Qt.Key.Key_Tab)
    QTest.keyClick(qapp.focusWidget() or styled, Qt.Key.Key_Backtab)
    assert qapp.focusWidget() is table
    ring = table.findChild(_Ring)
    assert ring is not None
    table.resize(table.width() - 20, table.height())
    assert ring.geometry() == table.rect()
    QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton)
    assert shiboken6.isValid(table)


def test_a_floating_dock_keeps_the_focus_to_itself(styled: MainWindow, qapp: QApplication, qtbot: QtBot) -> None:
    dock = styled.workspace.docks["ticket"]
    dock.setFloating(True)
    dock.activateWindow()
    qtbot.waitUntil(dock.isActiveWindow)
    stops = walk(dock, qapp)
    assert usable(dock) == set(stops)
    styled.activateWindow()
    qtbot.waitUntil(styled.isActiveWindow)
    styled.setFocus()
    assert not set(stops) & set(walk(styled, qapp))


def test_the_start_form_is_walked_whole_and_in_sight(
    styled: MainWindow, fake: FakeBench, qapp: QApplication, qtbot: QtBot, tmp_path: Path
) -> None:
    file = tmp_path / "mine.py"
    file.write_text("x = 1\n")
    fake.engine.described = Described(
        "Mine",
        "Words.",
        (
            ParameterInfo("fast", "int", 5, 1, 500),
            ParameterInfo("maker", "bool", True),
            ParameterInfo("side", "choice", "both", None, None, None, ("both", "long")),
            ParameterInfo("note", "str", ""),
        ),
        "1s",
        ("bars",),
        1,
        20,
    )
    form = StartForm(fake.bench, str(file), styled)
    form.open()
    qtbot.waitUntil(form.sheet.isVisible)
    form.activateWindow()
    qtbot.waitUntil(form.isActiveWindow)
    stops = walk(form, qapp)
    assert usable(form) == set(stops)
    assert invisible(form, stops, qapp) == []
    form.reject()
