"""Painting that is put off while a turn of the loop is used up already."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import pytest
from PySide6.QtCore import QPoint
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPixmap
from PySide6.QtWidgets import QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from koc_qt.ui import turns
from koc_qt.ui.late_paint import LatePaint

S = TypeVar("S", bound="Sheet")


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


class Rows(Sheet):
    """Paints itself in rows of ten pixels, three a turn."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.scrolled = QPoint()
        self.painted: list[tuple[int, int]] = []  # from where to where

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        self.asked += 1
        region = self._late.portion(event, 3, 10, self.scrolled)
        if region.isEmpty():
            return
        self.paints += 1
        area = region.boundingRect()
        self.painted.append((area.top(), area.bottom() + 1))
        painter = QPainter(self)
        painter.fillRect(area, self.color)
        painter.end()


@pytest.fixture(autouse=True)
def unknown_turns() -> Iterator[None]:
    yield
    turns.turn_began(is_known=False)


def shown(qtbot: QtBot, kind: type[S]) -> S:
    window = QWidget()
    qtbot.addWidget(window)
    window.resize(200, 100)
    column = QVBoxLayout(window)
    column.setContentsMargins(0, 0, 0, 0)
    made = kind(window)
    column.addWidget(made)
    window.show()
    qtbot.waitUntil(lambda: made.paints > 0)
    made.outer = window  # which lives as long as somebody has it
    return made


@pytest.fixture
def sheet(qtbot: QtBot) -> Sheet:
    return shown(qtbot, Sheet)


@pytest.fixture
def rows(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> Rows:
    monkeypatch.setattr(turns, "USED_NS", 10**18)  # no turn ever is
    made = shown(qtbot, Rows)
    assert made.painted == [(0, 100)]  # it was nowhere before: whatever the turn, all of it is painted
    made.painted.clear()
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


def test_rows_are_painted_some_in_a_turn_until_all_are(rows: Rows, qtbot: QtBot) -> None:
    turns.turn_began()
    rows.color = QColor("lime")
    rows.repaint()
    assert rows.painted == [(0, 30)]
    qtbot.waitUntil(lambda: rows.painted[-1][1] == 100)
    assert rows.painted == [(0, 30), (30, 60), (60, 90), (90, 100)]
    turns.turn_began(is_known=False)
    assert QPixmap(rows.grab()).toImage().pixelColor(5, 95) == QColor("lime")


def test_a_row_is_never_cut_in_two(rows: Rows) -> None:
    turns.turn_began()
    rows.scrolled = QPoint(0, 4)
    rows.repaint()
    assert rows.painted == [(0, 100)]  # whoever scrolls sees all of it at once
    rows.repaint()
    assert rows.painted[-1] == (0, 26)
    rows.repaint(0, 50, 200, 50)
    assert rows.painted[-1] == (50, 76)


def test_little_is_painted_at_once_and_so_is_all_where_nobody_says_when_turns_begin(rows: Rows) -> None:
    turns.turn_began()
    rows.repaint(0, 20, 200, 30)
    assert rows.painted == [(20, 50)]
    turns.turn_began(is_known=False)
    rows.repaint()
    assert rows.painted[-1] == (0, 100)


def test_what_waited_while_it_was_scrolled_is_painted_wherever_it_is_by_then(rows: Rows, qtbot: QtBot) -> None:
    turns.turn_began()
    rows.repaint()
    rows.scrolled = QPoint(0, 50)  # as when the pixels were moved up, those that waited too
    rows.repaint(0, 95, 200, 5)
    rows.painted.clear()
    qtbot.waitUntil(lambda: sum(bottom - top for top, bottom in rows.painted) == 100)
    assert (rows.painted[0][0], rows.painted[-1][1]) == (0, 100)
