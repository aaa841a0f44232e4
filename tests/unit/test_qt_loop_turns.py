"""Callbacks run in turns on Qt's loop: in order, on time, from any thread, and never instead of Qt's own events."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from PySide6.QtCore import QCoreApplication, QEventLoop, QTimer

from koc_qt.wiring import qt_loop
from tests.conditions import until
from tests.qt_loop import run_on_qt


def test_callbacks_run_in_the_order_they_came_in(qapp: QCoreApplication) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        ran: list[int] = []
        for number in range(1_000):
            loop.call_soon(ran.append, number)
        loop.call_soon(ran.append, 1_001).cancel()
        await until(lambda: len(ran) == 1_000)
        assert ran == list(range(1_000))

    run_on_qt(qapp, scenario())


def test_timers_run_in_the_order_of_their_times_and_none_before_its_own(qapp: QCoreApplication) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        ran: list[tuple[float, float]] = []

        def note(when_s: float) -> None:
            ran.append((when_s, loop.time()))

        now_s = loop.time()
        times_s = [now_s + delay_s for delay_s in (0.05, 0.01, 0.03, 0.0, -1.0, 0.02)]
        for when_s in times_s:
            loop.call_at(when_s, note, when_s)
        await until(lambda: len(ran) == len(times_s))
        assert [when_s for when_s, _ in ran] == sorted(times_s)
        assert all(when_s <= at_s for when_s, at_s in ran)

    run_on_qt(qapp, scenario())


def test_cancelled_timeouts_are_not_kept_until_their_time(qapp: QCoreApplication) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        kept = loop.call_later(3_600, print)
        for _ in range(10_000):
            loop.call_later(3_600, print).cancel()
        assert isinstance(loop, qt_loop._Loop)
        assert len(loop.turns._later) < 500
        assert kept in loop.turns._later
        kept.cancel()
        await asyncio.wait_for(asyncio.sleep(0.001), 5)

    run_on_qt(qapp, scenario())


def test_qts_events_get_their_turn_beside_callbacks_that_never_rest(qapp: QCoreApplication) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        ticks: list[float] = []
        timer = QTimer()
        timer.timeout.connect(lambda: ticks.append(time.monotonic()))
        timer.start(0)

        def again() -> None:
            if timer.isActive():
                loop.call_soon(again)

        again()
        await until(lambda: len(ticks) >= 5)
        timer.stop()

    run_on_qt(qapp, scenario())


def test_a_loop_within_a_callback_holds_nothing_up(qapp: QCoreApplication) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        within = QEventLoop()
        ran: list[str] = []

        def dialog() -> None:
            ran.append("opened")
            within.exec()
            ran.append("closed")

        loop.call_soon(dialog)
        loop.call_soon(ran.append, "beside it")
        loop.call_later(0.001, within.quit)
        await until(lambda: "closed" in ran)
        assert ran == ["opened", "beside it", "closed"]

    run_on_qt(qapp, scenario())


def test_what_threads_say_is_heard_whole_and_in_each_ones_order(qapp: QCoreApplication) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        heard: dict[int, list[int]] = {thread: [] for thread in range(4)}

        def speak(thread: int) -> None:
            for number in range(2_000):
                loop.call_soon_threadsafe(heard[thread].append, number)

        threads = [threading.Thread(target=speak, args=(thread,)) for thread in heard]
        for thread in threads:
            thread.start()
        await until(lambda: all(len(each) == 2_000 for each in heard.values()))
        for thread in threads:
            thread.join()
        assert all(each == list(range(2_000)) for each in heard.values())

    run_on_qt(qapp, scenario())


def test_a_closed_loop_says_so_to_threads(qapp: QCoreApplication) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def scenario() -> None:
        loops.append(asyncio.get_running_loop())

    run_on_qt(qapp, scenario())
    with pytest.raises(RuntimeError, match="closed"):
        loops[0].call_soon_threadsafe(print)


def test_callbacks_wait_for_another_turn_where_this_one_is_used_up(qapp: QCoreApplication) -> None:
    answers = [True, True, False]
    asked: list[bool] = []
    ran: list[str] = []

    def waits() -> bool:
        asked.append(answers.pop(0) if answers else False)
        if asked[-1]:
            ran.append("waited")
        return asked[-1]

    with qt_loop.qt_loop(qapp, waits) as loop:
        loop.call_soon(ran.append, "first")
        loop.call_soon(ran.append, "second")
        loop.run_until_complete(asyncio.sleep(0.001))
    assert ran == ["waited", "waited", "first", "second"]
