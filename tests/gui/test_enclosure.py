"""What happens in an enclosure stays there, unless it needs other room."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QEvent, QObject, QSize
from PySide6.QtWidgets import QApplication, QHBoxLayout, QLabel, QMainWindow, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from koc_qt.ui.enclosure import Enclosure


class Requests(QObject):
    """Counts how often a widget is laid out anew."""

    def __init__(self, widget: QWidget) -> None:
        super().__init__(widget)
        self.count = 0
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        self.count += event.type() is QEvent.Type.LayoutRequest
        return False


class Stage:
    """A window whose middle holds two labels in an enclosure."""

    def __init__(self, qtbot: QtBot, *, is_as_high_as_wanted: bool = False) -> None:
        self.window = QMainWindow()
        qtbot.addWidget(self.window)
        outside = QWidget(self.window)
        column = QVBoxLayout(outside)
        self.place = Enclosure(outside, is_as_high_as_wanted=is_as_high_as_wanted)
        column.addWidget(self.place)
        column.addStretch(1)
        self.inside = QWidget(self.place)
        self.row = QHBoxLayout(self.inside)
        self.labels = [QLabel("one", self.inside), QLabel("two", self.inside)]
        for label in self.labels:
            label.setMinimumWidth(10)
            self.row.addWidget(label)
        self.place.hold(self.inside)
        self.window.setCentralWidget(outside)
        self.window.resize(400, 300)
        self.window.show()
        qtbot.waitExposed(self.window)
        self.settle()
        self.requests = Requests(outside)

    def settle(self) -> None:
        """Handle what is posted, and what that posts."""
        for _ in range(10):
            QApplication.processEvents()


def test_a_text_that_changes_is_nobody_elses_business(qtbot: QtBot) -> None:
    stage = Stage(qtbot)
    assert stage.inside.size() == stage.place.size()
    before = stage.labels[1].x()
    stage.labels[0].setText("something far longer than one")
    stage.settle()
    assert stage.labels[1].x() > before  # inside, all is laid out
    assert stage.requests.count == 0


def test_what_needs_more_room_gets_it(qtbot: QtBot) -> None:
    stage = Stage(qtbot)
    stage.labels[0].setMinimumSize(QSize(600, 120))
    stage.settle()
    assert stage.requests.count > 0
    assert stage.place.minimumSizeHint().width() >= 600
    assert stage.place.height() >= 120
    assert stage.window.width() >= 600


@pytest.mark.parametrize("is_wanted", [False, True])
def test_the_height_that_is_wanted_counts_where_that_was_asked_for(qtbot: QtBot, is_wanted: bool) -> None:
    stage = Stage(qtbot, is_as_high_as_wanted=is_wanted)
    before = stage.place.height()
    stage.labels[0].setWordWrap(True)
    stage.labels[0].setText(" ".join(["words"] * 200))
    stage.settle()
    assert (stage.requests.count > 0) is is_wanted
    assert (stage.place.height() > before) is is_wanted


def test_what_changes_while_it_is_hidden_is_told_later(qtbot: QtBot) -> None:
    stage = Stage(qtbot)
    stage.place.hide()
    stage.settle()
    stage.labels[0].setMinimumHeight(150)
    stage.settle()
    stage.place.show()
    stage.settle()
    assert stage.place.height() >= 150


def test_one_that_holds_nothing_wants_nothing(qtbot: QtBot) -> None:
    window = QWidget()
    qtbot.addWidget(window)
    place = Enclosure(window)
    assert place.held is None
    assert not place.hasHeightForWidth()
    assert place.heightForWidth(100) == -1
    assert place.sizeHint() == QWidget(window).sizeHint()
