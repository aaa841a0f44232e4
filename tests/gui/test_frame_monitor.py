"""The watch over the loop: what counts as a stall, what does not, and what the watch itself costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import shiboken6
from PySide6.QtCore import QEventLoop, QTimer
from PySide6.QtWidgets import QApplication, QDialog, QWidget
from pytestqt.qtbot import QtBot

from koc_qt.ui.frame_monitor import FrameMonitor, FrameStats, GlibProbe, HeartbeatProbe, TurnRecord

MS = 1_000_000
S = 1_000_000_000


def test_a_record_keeps_maxima_and_counts() -> None:
    record = TurnRecord(0)
    assert record.stats(0) == FrameStats()
    assert not record.add(10 * MS, 2 * MS)
    assert record.add(20 * MS, 17 * MS)
    assert not record.add(1 * S, 16 * MS)
    now = record.stats(1 * S)
    assert (now.longest_second_ms, now.longest_minute_ms, now.longest_ms) == (17.0, 17.0, 17.0)
    assert (now.turns, now.stalls, now.maxima_ms) == (3, 1, (17.0,))
    later = record.stats(3 * S)
    assert later.maxima_ms == (17.0, 16.0, 0.0)
    assert later.longest_second_ms == 0.0
    assert later.longest_minute_ms == 17.0
    assert record.stats(200 * S).longest_minute_ms == 0.0
    assert record.stats(200 * S).longest_ms == 17.0
    assert len(record.stats(10_000 * S).maxima_ms) == 120


def test_percentiles_are_of_all_turns() -> None:
    record = TurnRecord(0)
    for _ in range(985):
        record.add(0, MS // 2)
    for _ in range(15):
        record.add(0, 8 * MS)
    assert record.stats(0).p99_ms == pytest.approx(8.1, abs=0.3)
    for _ in range(100):
        record.add(0, 400 * MS)
    assert record.stats(0).p99_ms == 400.0


def test_paints_are_counted_by_whole_seconds() -> None:
    record = TurnRecord(0)
    for moment in range(30):
        record.painted(moment * MS)
    assert record.stats(MS).paints_per_s == 0
    record.painted(S + 1)
    assert record.stats(S + 2).paints_per_s == 30
    assert record.stats(2 * S).paints_per_s == 1
    assert record.stats(9 * S).paints_per_s == 0


def run_for(milliseconds: int) -> None:
    """Run a loop as the window does."""
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


def busy(milliseconds: float) -> None:
    until = time.perf_counter() + milliseconds / 1000
    while time.perf_counter() < until:
        pass


@pytest.fixture(params=["as the platform has it", "heartbeat"])
def probe(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "heartbeat":
        monkeypatch.setattr(GlibProbe, "suits", lambda: False)
    return str(request.param)


@contextmanager
def watching(monitor: FrameMonitor) -> Iterator[FrameMonitor]:
    monitor.start()
    assert monitor.is_running
    run_for(20)
    yield monitor
    monitor.stop()
    monitor.stop()
    shiboken6.delete(monitor)


@pytest.fixture
def began_s() -> float:
    """Give when the test began; name it before `monitor`."""
    return time.perf_counter()


@pytest.fixture
def monitor(qapp: QApplication, probe: str) -> Iterator[FrameMonitor]:
    with watching(FrameMonitor()) as monitor:
        yield monitor


class Hand:
    """A clock that only the test moves: what holds the machine up does not count."""

    def __init__(self) -> None:
        self.now_ns = 100 * S

    def pass_ms(self, milliseconds: int) -> None:
        self.now_ns += milliseconds * MS


@pytest.mark.parametrize("work", [busy, lambda ms: time.sleep(ms / 1000)], ids=["computing", "blocking"])
def test_a_turn_that_takes_long_is_a_stall(began_s: float, monitor: FrameMonitor, qtbot: QtBot, work: object) -> None:
    heard, worked = list[float](), list[object]()
    monitor.stalled.connect(heard.append)
    timer = QTimer()
    timer.timeout.connect(lambda: worked.append(work(60)))  # type: ignore[operator]
    timer.start(10)  # again and again: a busy machine may have held the loop up in the second before, which was told
    qtbot.waitUntil(lambda: bool(heard) and bool(worked) and monitor.stats().longest_ms >= 50)
    timer.stop()
    stats = monitor.stats()
    assert stats.longest_ms <= (time.perf_counter() - began_s) * 1_000
    assert stats.longest_minute_ms == stats.longest_ms >= stats.longest_second_ms
    assert 16 < heard[0] <= stats.longest_ms + 1e-9
    assert stats.stalls >= 1


def test_stalls_in_a_row_are_told_once_a_second(qapp: QApplication, probe: str, qtbot: QtBot) -> None:
    hand, heard, done = Hand(), list[float](), list[int]()

    def work(number: int) -> None:
        hand.pass_ms(40)
        done.append(number)

    with watching(FrameMonitor(clock_ns=lambda: hand.now_ns)) as monitor:
        monitor.stalled.connect(heard.append)
        for number in range(5):
            QTimer.singleShot(10 + number, lambda number=number: work(number))  # type: ignore[misc]
        qtbot.waitUntil(lambda: len(done) == 5 and bool(heard))
        run_for(20)
        stats = monitor.stats()
        assert len(heard) == 1
        assert 30 <= heard[0] <= 200
        assert stats.longest_ms == stats.longest_second_ms == stats.longest_minute_ms >= heard[0]
        hand.pass_ms(1_000)
        qtbot.waitUntil(lambda: len(heard) == 2)


def test_sleeping_and_nested_loops_are_no_stalls(monitor: FrameMonitor, qtbot: QtBot) -> None:
    dialog = QDialog()
    qtbot.addWidget(dialog)

    def stats() -> FrameStats:
        monitor.reset()
        QTimer.singleShot(0, lambda: run_for(120))
        QTimer.singleShot(30, dialog.exec)
        QTimer.singleShot(180, dialog.reject)
        run_for(220)
        return monitor.stats()

    # a busy machine may hold the loop up at any time, but not every time
    found = next((each for each in (stats() for _ in range(20)) if each.longest_ms < 60), None)
    assert found is not None, "a nested loop of 150 ms was taken for a stall"
    assert found.turns >= 3


def test_what_is_stopped_measures_nothing(monitor: FrameMonitor) -> None:
    monitor.stop()
    assert not monitor.is_running
    before = monitor.stats()
    QTimer.singleShot(0, lambda: busy(30))
    run_for(50)
    assert monitor.stats().turns == before.turns


def test_paints_of_a_window_are_counted(monitor: FrameMonitor, qtbot: QtBot) -> None:
    window = QWidget()
    qtbot.addWidget(window)
    window.show()
    qtbot.waitExposed(window)
    monitor.count_paints(window)
    timer = QTimer(window)
    timer.timeout.connect(window.update)
    timer.start(20)
    qtbot.waitUntil(lambda: monitor.stats().paints_per_s >= 5)
    timer.stop()


def test_the_watch_is_cheap(qapp: QApplication) -> None:
    """A turn costs a few microseconds more when it is watched: 50 allowed, for machines that do other things too."""
    monitor = FrameMonitor()
    monitor.start()
    try:
        began = time.process_time()
        loop, left, timer = QEventLoop(), [5_000], QTimer()

        def turn() -> None:
            left[0] -= 1
            if not left[0]:
                loop.quit()

        timer.timeout.connect(turn)
        timer.start(0)
        loop.exec()
        timer.stop()
        spent_us = (time.process_time() - began) / 5_000 * 1e6
    finally:
        monitor.stop()
        shiboken6.delete(monitor)
    assert spent_us < 50


def test_the_heartbeat_takes_a_suspended_machine_for_what_it_is(qapp: QApplication, qtbot: QtBot) -> None:
    now_ns, turns = [0], list[tuple[int, int]]()
    probe = HeartbeatProbe(lambda at, busy_ns: turns.append((at, busy_ns)), lambda: now_ns[0])
    probe.start()
    now_ns[0] = 3_600 * S
    qtbot.waitUntil(lambda: probe._last_ns == now_ns[0])
    assert turns == [] or turns[0][1] == 0
    probe.stop()
