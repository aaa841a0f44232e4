"""A strategy that eats, spins, hides or outlives ends alone, and soon."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PySide6.QtCore import QCoreApplication

from koc_qt.adapters.sandbox import SandboxSettings
from tests.conditions import PATIENCE, until, wait_until
from tests.security.harness import Watched, in_worker, unlocked

SMALL = SandboxSettings(address_space_bytes=384 << 20)


def test_a_memory_bomb_hurts_the_worker_alone(qapp: QCoreApplication) -> None:
    source = """
def attack():
    eaten = []
    for _ in range(600): eaten.append(bytearray(1 << 20))
    return len(eaten)
"""

    async def use(worker: Watched) -> str:
        before = psutil.Process().memory_info().rss
        outcome = await worker.attack(source)
        assert psutil.Process().memory_info().rss - before < 64 << 20
        return outcome

    assert unlocked(source) == "done: 600"
    assert in_worker(qapp, use, settings=SMALL).startswith("failed: MemoryError")


def test_a_descriptor_bomb_is_bounded(qapp: QCoreApplication) -> None:
    source = "import os\ndef attack(): return len([os.dup(0) for _ in range(200)])"
    assert unlocked(source) == "done: 200"
    outcome = in_worker(qapp, lambda worker: worker.attack(source))
    assert outcome.startswith("failed: OSError: [Errno 24]"), outcome


def test_a_thread_bomb_is_bounded(qapp: QCoreApplication) -> None:
    source = """
import threading
def attack():
    over = threading.Event()
    threads = [threading.Thread(target=over.wait, daemon=True) for _ in range(400)]
    try:
        for thread in threads: thread.start()
    finally: over.set()
    return len(threads)
"""
    assert unlocked(source) == "done: 400"
    assert "can't start new thread" in in_worker(qapp, lambda worker: worker.attack(source), settings=SMALL)


@pytest.mark.parametrize(
    "how", ["while True: pass", "import time\n    while True: time.sleep(9)"], ids=["spin", "sleep"]
)
def test_a_worker_that_ignores_everything_can_be_killed(qapp: QCoreApplication, how: str) -> None:
    source = f"""
import signal
def attack():
    for number in range(1, 65):
        try: signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError): pass
    channel.sendall({_hello!r})
    {how}
"""

    async def use(worker: Watched) -> float:
        worker.order(source)
        await until(lambda: worker.lines)
        os.kill(worker.handle.pid, signal.SIGTERM)
        began = time.monotonic()
        worker.handle.kill("the test says so")
        assert (await worker.ended()).reason == "the test says so"
        return time.monotonic() - began

    assert in_worker(qapp, use) < 1.0 * PATIENCE


def _frame(text: str) -> bytes:
    from koc_qt.sdk.channel import LogLine, frame

    return frame(LogLine("INFO", text))


_hello = _frame("hello")

_HOST = """
import asyncio, sys
from PySide6.QtCore import QCoreApplication
from tests.qt_loop import run_on_qt
from tests.security.harness import locked_worker

async def scenario():
    async with locked_worker() as worker:
        worker.order(SOURCE)
        while not worker.lines: await asyncio.sleep(0.01)
        print(worker.handle.pid, flush=True)
        await asyncio.sleep(60)

run_on_qt(QCoreApplication([]), scenario())
"""

_ORPHAN = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal\\nsignal.signal(15, signal.SIG_IGN)\\nwhile 1: pass"])
print(child.pid, flush=True)
sys.stdin.read()
"""


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _child_of_killed_host(program: str) -> int:
    root = Path(__file__).parents[2]
    host = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root, text=True
    )
    with host:
        assert host.stdout
        pid = int(host.stdout.readline())
        assert _alive(pid)
        host.kill()
    return pid


def test_a_worker_dies_with_its_host() -> None:
    deaf = "import signal\ndef attack():\n  signal.signal(15, signal.SIG_IGN)"
    spin = f"{deaf}\n  channel.sendall({_hello!r})\n  while True: pass"
    pid = _child_of_killed_host(f"SOURCE = {spin!r}\n{_HOST}")
    began = time.monotonic()
    wait_until(lambda: not _alive(pid), timeout_s=1.0, what="the orphaned worker's end")
    print(f"worker gone {1e3 * (time.monotonic() - began):.1f} ms after its host")
    orphan = _child_of_killed_host(_ORPHAN)  # the control: an ordinary child stays
    try:
        assert _alive(orphan)
    finally:
        os.kill(orphan, signal.SIGKILL)
