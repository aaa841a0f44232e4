"""Work that can wait does so in a turn of the loop that is used up, and not for ever."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PySide6.QtCore import QObject
from pytestqt.qtbot import QtBot

from koc_qt.ui import turns
from koc_qt.ui.frame_monitor import FrameMonitor, GlibProbe
from koc_qt.ui.slices import Slices
from koc_qt.ui.turns import MOST_WAITS, USED_NS, Patience, turn_began


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.ns = 1

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(turns, "perf_counter_ns", clock)
    yield clock
    turn_began(is_known=False)


def test_nobody_waits_where_nothing_is_known(clock: Clock) -> None:
    clock.ns = 10 * USED_NS
    assert not Patience().waits()


def test_work_waits_in_a_turn_that_is_used_up_and_goes_on_in_the_next(clock: Clock) -> None:
    patience = Patience()
    turn_began()
    clock.ns += USED_NS
    assert not patience.waits()
    clock.ns += 1
    assert patience.waits()
    turn_began()
    assert not patience.waits()


def test_work_in_a_loop_that_is_always_busy_gets_its_turn(clock: Clock) -> None:
    patience = Patience()
    turn_began()
    clock.ns += USED_NS + 1
    waits = [patience.waits() for _ in range(2 * (MOST_WAITS + 1))]
    assert waits == 2 * [*[True] * MOST_WAITS, False]


def test_the_monitor_says_when_turns_begin(qtbot: QtBot) -> None:
    if not GlibProbe.suits():
        pytest.skip("only GLib says when a turn begins")
    owner = QObject()
    monitor, seen = FrameMonitor(owner), list[int | None]()

    def work() -> Iterator[None]:
        for _ in range(3):
            seen.append(turns._began_ns)
            yield

    monitor.start()
    slices = Slices(owner)
    slices.start(work())
    qtbot.waitUntil(lambda: not slices.is_busy)
    monitor.stop()
    assert len(seen) == 3
    assert None not in seen
    assert turns._began_ns is None
