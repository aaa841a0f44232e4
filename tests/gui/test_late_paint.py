"""Painting that is put off while a turn of the loop is used up already."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPixmap
from PySide6.QtWidgets import QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from koc_qt.ui import turns
from koc_qt.ui.late_paint import LatePaint


class Sheet(QWidget):
    """Paints itself in one colour, and counts how often."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.color, self.paints, self.asked = QColor("red"), 0, 0
        self.outer = parent
        self._late = LatePaint(self)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        self.asked += 1
        if self._late.waits(event):
            return
        self.paints += 1
        painter = QPainter(self)
        painter.fillRect(event.rect(), self.color)
        painter.end()


@pytest.fixture(autouse=True)
def unknown_turns() -> Iterator[None]:
    yield
    turns.turn_began(is_known=False)


@pytest.fixture
def sheet(qtbot: QtBot) -> Sheet:
    window = QWidget()
    qtbot.addWidget(window)
    window.resize(200, 100)
    column = QVBoxLayout(window)
    made = Sheet(window)
    column.addWidget(made)
    window.show()
    qtbot.waitUntil(lambda: made.paints > 0)
    made.outer = window  # which lives as long as somebody has it
    return made


def used_up() -> None:
    turns._began_ns = 0  # that of the clock: long ago


def test_a_used_up_turn_keeps_what_was_painted_and_another_paints_it(sheet: Sheet, qtbot: QtBot) -> None:
    used_up()
    paints = sheet.paints
    sheet.color = QColor("lime")
    sheet.repaint()
    assert sheet.paints == paints
    turns.turn_began(is_known=False)
    qtbot.waitUntil(lambda: sheet.paints == paints + 1)
    assert QPixmap(sheet.grab()).toImage().pixelColor(5, 5) == QColor("lime")


def test_a_window_that_is_always_busy_is_painted_all_the_same(sheet: Sheet, qtbot: QtBot) -> None:
    used_up()
    paints, asked = sheet.paints, sheet.asked
    sheet.update()
    qtbot.waitUntil(lambda: sheet.paints == paints + 1)
    assert sheet.asked - asked == turns.MOST_WAITS + 1


def test_what_has_moved_is_painted_at_once(sheet: Sheet) -> None:
    used_up()
    paints = sheet.paints
    sheet.resize(50, 50)
    sheet.repaint()
    assert sheet.paints == paints + 1
    sheet.move(20, 20)
    sheet.repaint()
    assert sheet.paints == paints + 2
