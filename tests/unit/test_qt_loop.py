"""What belongs to Qt ends in the main thread, whichever thread Python collects its garbage in.

Each scenario is a process of its own: what they guard against is a segmentation fault.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from koc_qt.adapters.qt_libraries import WINDOW_LIBRARIES, missing_libraries
from tests.conditions import PATIENCE

ROOT = Path(__file__).parents[2]

# Collects garbage where a journal's or a reader's thread would, had it happened to allocate at that moment.
PROLOGUE = """
import asyncio, gc, sys, threading, weakref
gc.disable()
from PySide6.QtCore import QCoreApplication
from koc_qt.adapters.worker_process import QProcessWorkerLauncher
from koc_qt.wiring.qt_loop import qt_loop

application = QCoreApplication([])

def collect():
    thread = threading.Thread(target=gc.collect)
    thread.start()
    thread.join()

def tell_if_closed(loop):  # a machine may take so long that the loop still runs
    if loop() is None or loop().is_closed():
        print("a closed loop went on")
"""

A_CLOSED_LOOP = """
def use():
    with qt_loop(application) as loop:
        loop.call_later(0.3, tell_if_closed, weakref.ref(loop))
        cancelled = loop.call_later(0.3, print, "what was cancelled came")
        cancelled.cancel()
        loop.run_until_complete(asyncio.wait_for(asyncio.sleep(0), 0.05))
    return weakref.ref(loop)

gone = use()
collect()
assert gone() is None
"""

A_LOOP_THAT_FAILED = """
class Wrong(Exception):
    pass

async def fail():
    raise Wrong

def use():
    try:
        with qt_loop(application) as loop:
            loop.call_later(0.3, tell_if_closed, weakref.ref(loop))
            loop.run_until_complete(fail())
    except Wrong:
        pass

use()
collect()
"""

# One worker has ended, one runs, one has not started; nobody holds any of them any more.
FORGOTTEN_WORKERS = """
async def use():
    launcher = QProcessWorkerLauncher(warm=2, command=[sys.executable, "-S", "-c", "import time; time.sleep(20)"])
    launcher.warm_up()
    ended, running = launcher._workers
    assert not await ended.start_error
    assert not await running.start_error
    ended.kill("no more needed")
    await ended.ended
    starting = launcher._spawn()
    gone = [weakref.ref(worker) for worker in (ended, running, starting)]
    for worker in (running, starting):
        worker._deadline.cancel()
    processes = [worker._process for worker in (running, starting)]
    del launcher, ended, running, starting, worker
    collect()
    assert [worker() for worker in gone] == [None] * 3
    await asyncio.sleep(0.1)
    for process in processes:
        process.kill()
        process.waitForFinished()

with qt_loop(application) as loop:
    loop.run_until_complete(use())
"""

EPILOGUE = """
with qt_loop(application) as loop:
    loop.run_until_complete(asyncio.sleep(0.6))
print("alive")
"""


@pytest.mark.parametrize(
    "scenario",
    [
        A_CLOSED_LOOP,
        A_LOOP_THAT_FAILED,
        pytest.param(
            FORGOTTEN_WORKERS,
            marks=pytest.mark.skipif(sys.platform == "win32", reason="the Windows launcher was never run"),
        ),
    ],
    ids=["a closed loop", "a loop that failed", "forgotten workers"],
)
def test_garbage_collected_in_another_thread_crashes_nothing(scenario: str) -> None:
    program = [sys.executable, "-X", "faulthandler", "-c", PROLOGUE + scenario + EPILOGUE]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=30 * PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
    # A forgotten worker's socket is closed under its notifier, which Qt says and switches off.
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("QSocketNotifier: Invalid socket")]
    assert complaints == []


A_LOOP_WITHOUT_A_DESKTOP = """
import asyncio, sys
from PySide6.QtCore import QCoreApplication
from koc_qt.wiring.qt_loop import qt_loop

with qt_loop(QCoreApplication([])) as loop:
    print(loop.run_until_complete(asyncio.sleep(0, "runs")))
print([name for name in sys.modules if name.startswith(("PySide6.QtGui", "PySide6.QtWidgets"))])
"""

A_LOOP_WITH_A_DESKTOP = """
import asyncio
from koc_qt.wiring.qt_loop import qt_loop
from PySide6.QtWidgets import QApplication

with qt_loop(QApplication(["koc", "-platform", "offscreen"])) as loop:
    print(loop.run_until_complete(asyncio.sleep(0, "runs")))
"""


def test_the_loop_needs_no_desktop() -> None:
    assert said_by(A_LOOP_WITHOUT_A_DESKTOP) == "runs\n[]\n"


@pytest.mark.skipif(bool(missing_libraries(WINDOW_LIBRARIES)), reason="libraries are missing that a window needs")
def test_the_loop_runs_a_windows_application_too() -> None:
    assert said_by(A_LOOP_WITH_A_DESKTOP) == "runs\n"


def said_by(program: str) -> str:
    """Run a program in a process of its own and give its output."""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30 * PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
