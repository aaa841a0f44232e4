"""Another theme for what is there already: in steps, to the last pixel, and for what is made meanwhile and later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest
import shiboken6
from PySide6.QtCore import Qt
from PySide6.QtGui import QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QApplication,
    QCheckBox,
    QComboBox,
    QDialog,
    QDockWidget,
    QFrame,
    QGridLayout,
    QGroupBox,
    QLabel,
    QLineEdit,
    QMainWindow,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QRadioButton,
    QScrollArea,
    QSlider,
    QSpinBox,
    QSplitter,
    QTableWidget,
    QTabWidget,
    QToolButton,
    QWidget,
)
from pytestqt.qtbot import QtBot

from koc_qt.ui import dressing
from koc_qt.ui.style_sheet import style_sheet
from koc_qt.ui.theme import Theme, ThemeChoice, style_as
from tests.conditions import PATIENCE

KINDS: tuple[Callable[[], QWidget], ...] = (
    QLabel, QLineEdit, QPushButton, QCheckBox, QComboBox, QSpinBox, QProgressBar, QToolButton, QPlainTextEdit,
    QRadioButton, QTableWidget, QSlider, QGroupBox, QFrame,
)  # fmt: skip
SOON_MS = round(30_000 * PATIENCE)  # on a machine that is busy with other things
ROUNDS = 4  # of one of each in a page


@pytest.fixture
def app(qapp: QApplication) -> Iterator[QApplication]:
    """Give the application, and undress it afterwards."""
    worn = (qapp.styleSheet(), qapp.palette(), qapp.font(), qapp.style().objectName())
    flash_ms = qapp.cursorFlashTime()
    qapp.setCursorFlashTime(0)  # pictures are compared
    yield qapp
    qapp.setCursorFlashTime(flash_ms)
    qapp.setStyleSheet(worn[0])
    qapp.setStyle(worn[3])
    qapp.setPalette(worn[1])
    qapp.setFont(worn[2])


class Stage:
    """A window with much in it: docks, a splitter, pages of a scroll area and of tabs, one of them hidden."""

    def __init__(self) -> None:
        self.window = QMainWindow()
        self.window.resize(900, 700)
        self.window.setStatusBar(self.window.statusBar())
        self.window.menuBar().addMenu("&File")
        self.dock = self._dock("One")
        self.splitter = QSplitter(self.dock)
        self.dock.setWidget(self.splitter)
        self.tabs = QTabWidget(self.splitter)
        self.tabs.addTab(_page(), "Shown")
        self.tabs.addTab(_page(), "Hidden")
        self.scroll = QScrollArea(self.splitter)
        self.inside = _page()
        self.scroll.setWidget(self.inside)
        self.other = self._dock("Two")
        self.other.setWidget(QLabel("Little"))
        self.window.show()

    def _dock(self, title: str) -> QDockWidget:
        dock = QDockWidget(title, self.window)
        self.window.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, dock)
        return dock

    def picture(self) -> QImage:
        QTest.qWait(0)
        return self.window.grab().toImage()

    def seen(self) -> QImage:
        """Give what is on the screen, painted anew or not."""
        return self.window.screen().grabWindow(self.window.winId()).toImage()


def _page() -> QWidget:
    page = QWidget()
    grid = QGridLayout(page)
    for row in range(ROUNDS):
        for column, kind in enumerate(KINDS):
            widget = kind()
            widget.setMaximumSize(70, 40)
            if isinstance(widget, QLabel | QPushButton | QCheckBox | QRadioButton):
                widget.setText("Text")
            if isinstance(widget, QLabel):
                style_as(widget, **[{"tone": "profit"}, {"pill": "live"}, {"face": "value"}, {}][row])
            if isinstance(widget, QPushButton):
                style_as(widget, role=["primary", "danger", "flat", None][row])
            widget.setEnabled(row != 2)
            grid.addWidget(widget, row, column)
    return page


@pytest.fixture
def stage(app: QApplication, theme: Theme) -> Iterator[Stage]:
    """Give a window that is dark."""
    made = Stage()
    yield made
    shiboken6.delete(made.window)


@pytest.fixture
def theme(app: QApplication) -> Iterator[Theme]:
    """Give the theme of the application, which is dark at first."""
    theme = Theme(ThemeChoice.DARK)
    theme.apply(app)
    yield theme
    theme.set_choice(ThemeChoice.DARK)
    shiboken6.delete(theme)


def wear(theme: Theme, choice: ThemeChoice, qtbot: QtBot) -> None:
    theme.set_choice(choice)
    qtbot.waitUntil(lambda: not theme.is_changing, timeout=SOON_MS)


def take_turns(until: Callable[[], bool]) -> None:
    """Let the loop turn, but no more than it must."""
    ends_s = monotonic() + SOON_MS / 1_000
    while not until():
        assert monotonic() < ends_s
        QApplication.processEvents()


def fresh(app: QApplication, choice: ThemeChoice) -> QImage:
    """Give the picture of a window that is made in a theme."""
    own = Theme(choice)
    own.apply(app)
    stage = Stage()
    picture = stage.picture()
    shiboken6.delete(stage.window)
    return picture


def test_it_looks_as_if_it_had_been_made_so(app: QApplication, stage: Stage, theme: Theme, qtbot: QtBot) -> None:
    dark = stage.picture()
    theme.set_choice(ThemeChoice.LIGHT)
    assert theme.is_changing  # in steps
    qtbot.waitUntil(lambda: not theme.is_changing, timeout=SOON_MS)
    light = stage.picture()
    wear(theme, ThemeChoice.DARK, qtbot)
    assert stage.picture() == dark
    assert light == fresh(app, ThemeChoice.LIGHT)
    assert light != dark


def test_what_comes_later_is_dressed_too(stage: Stage, theme: Theme, qtbot: QtBot) -> None:
    wear(theme, ThemeChoice.LIGHT, qtbot)
    label = QLabel("New", stage.inside)
    style_as(label, tone="profit")
    label.show()
    dialog = QDialog(stage.window)
    inner = QLabel("New", dialog)
    style_as(inner, tone="profit")
    dialog.show()
    plain = [each.palette().windowText().color().name() for each in (label, inner)]
    assert plain == [theme.colors.profit] * 2
    assert dialog.grab().toImage().pixelColor(1, 1).name() == theme.colors.window
    dialog.close()
    wear(theme, ThemeChoice.DARK, qtbot)
    assert label.palette().windowText().color().name() == theme.colors.profit


def test_nothing_stands_still_for_ever(stage: Stage, theme: Theme, qtbot: QtBot) -> None:
    theme.set_choice(ThemeChoice.LIGHT)
    assert not stage.dock.updatesEnabled()
    theme.set_choice(ThemeChoice.DARK)  # somebody tries them out
    theme.set_choice(ThemeChoice.LIGHT)
    shiboken6.delete(stage.other)
    shiboken6.delete(stage.inside)
    qtbot.waitUntil(lambda: not theme.is_changing, timeout=SOON_MS)
    assert stage.dock.updatesEnabled()
    assert stage.tabs.updatesEnabled()
    assert stage.window.updatesEnabled()


def test_docks_of_a_second_switch_stand_still_until_they_are_dressed(stage: Stage, theme: Theme, qtbot: QtBot) -> None:
    kept = QLabel("Kept from being painted by somebody else", stage.inside)
    kept.setUpdatesEnabled(False)
    theme.set_choice(ThemeChoice.LIGHT)
    take_turns(lambda: bool(stage.dock.property("dressedWithin")))  # it has begun
    theme.set_choice(ThemeChoice.DARK)
    assert not stage.dock.updatesEnabled()
    assert not stage.inside.updatesEnabled()
    qtbot.waitUntil(lambda: not theme.is_changing, timeout=SOON_MS)
    assert all(each.updatesEnabled() for each in stage.dock.findChildren(QWidget) if each is not kept)
    assert not kept.updatesEnabled()


def test_all_of_it_is_painted_and_after_a_switch_that_was_cut_short_too(
    stage: Stage, theme: Theme, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.inside.setAutoFillBackground(True)  # Qt passes by what is opaque
    monkeypatch.setattr(dressing, "STRIP_PX", 50)
    theme.set_choice(ThemeChoice.LIGHT)
    take_turns(stage.dock.updatesEnabled)  # some strips of it are painted
    for choice in (ThemeChoice.DARK, ThemeChoice.LIGHT):
        wear(theme, choice, qtbot)
        qtbot.waitUntil(lambda: stage.seen() == stage.picture().convertToFormat(stage.seen().format()))


def test_nothing_has_a_sheet_of_its_own_which_another_theme_would_replace() -> None:
    folder = Path(dressing.__file__).parent
    users = {path.name for path in folder.rglob("*.py") if ".setStyleSheet(" in path.read_text(encoding="utf-8")}
    assert users == {"dressing.py", "theme.py"}


def test_little_is_dressed_at_once(theme: Theme, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dressing, "PART_MOST", 10_000)
    label = QLabel("Little")
    qtbot.addWidget(label)
    style_as(label, tone="profit")
    label.ensurePolished()
    theme.set_choice(ThemeChoice.LIGHT)
    assert not theme.is_changing
    assert label.palette().windowText().color().name() == theme.colors.profit
    assert label.styleSheet() == style_sheet(theme.colors)
