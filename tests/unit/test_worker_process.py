"""The launcher against real processes: what it passes on, what it refuses, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QCoreApplication, QObject

from koc_qt.adapters.worker_flow import WorkerLimits
from koc_qt.adapters.worker_process import QProcessWorkerLauncher, worker_command, worker_environment
from koc_qt.domain.errors import StrategyError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Quote
from koc_qt.ports.workers import WorkerExit
from koc_qt.sdk.channel import (
    MAX_FRAME,
    Describe,
    Described,
    Heartbeat,
    HistoryBars,
    LogLine,
    QuoteUpdate,
    Ready,
    Stopped,
    StopRun,
    WorkerMessage,
    frame,
)
from tests.conditions import PATIENCE, until
from tests.qt_loop import run_on_qt
from tests.security.harness import Watched, in_worker, stand_in_launcher, watch

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the Windows launcher was never run")

QUOTE = QuoteUpdate(Quote(InstrumentId("sim", "BTC/USDT"), 1, Decimal(1), Decimal(2), Decimal(3), Decimal(4)))


def test_ready_comes_first_then_answers_then_an_orderly_end(qapp: QCoreApplication) -> None:
    async def use(worker: Watched) -> WorkerExit:
        assert worker.ready
        assert worker.ready.pid == worker.handle.pid
        worker.handle.send(QUOTE)
        await until(lambda: worker.lines == ["QuoteUpdate"])
        worker.handle.send(StopRun("enough", 1.0))
        why = await worker.ended()
        assert worker.messages[-1] == Stopped("enough")
        return why

    assert in_worker(qapp, use) == WorkerExit(crashed=False, code=0, reason="ended with exit code 0")


@pytest.mark.parametrize(
    ("source", "code", "reason"),
    [
        ("import os\ndef attack(): os._exit(3)", 3, "ended with exit code 3"),
        ("import os\ndef attack(): os.abort()", -signal.SIGABRT, "was ended by SIGABRT: a library gave up"),
        (
            "import os\ndef attack(): os.kill(os.getpid(), 9)",
            -signal.SIGKILL,
            "SIGKILL: the system may have run out of",
        ),
        ("import ctypes\ndef attack(): ctypes.string_at(1)", -signal.SIGSEGV, "was ended by SIGSEGV"),
    ],
    ids=["exit", "abort", "kill", "segfault"],
)
def test_a_death_is_told_with_its_reason(qapp: QCoreApplication, source: str, code: int, reason: str) -> None:
    async def use(worker: Watched) -> WorkerExit:
        worker.order(source)
        return await worker.ended()

    why = in_worker(qapp, use)
    assert why.crashed
    assert why.code == code
    assert reason in why.reason


def test_kill_gives_its_reason_once_and_nothing_is_heard_afterwards(qapp: QCoreApplication) -> None:
    async def use(worker: Watched) -> list[WorkerExit]:
        worker.order("def attack():\n    while True: channel.sendall(line)".replace("line", repr(_line("spam"))))
        await until(lambda: worker.lines)
        worker.handle.kill("the person said so")
        heard = len(worker.messages)
        worker.handle.kill("again")
        worker.handle.send(QUOTE)
        await worker.ended()
        assert len(worker.messages) == heard
        return worker.exits

    exits = in_worker(qapp, use)
    assert [(why.crashed, why.reason) for why in exits] == [(True, "the person said so")]


def _line(text: str) -> bytes:
    return frame(LogLine("INFO", text))


def test_last_words_are_heard_before_the_end(qapp: QCoreApplication) -> None:
    async def scenario() -> int:
        launcher = stand_in_launcher()
        worker = Watched()
        ended_after: list[int] = []
        worker.handle = await launcher.launch(
            "test", worker.messages.append, lambda _why: ended_after.append(len(worker.lines))
        )
        worker.order(
            f"import os\ndef attack():\n  for _ in range(1500): channel.sendall({_line('word')!r})\n  os._exit(0)"
        )
        await until(lambda: ended_after)
        await launcher.close()
        return ended_after[0]

    assert run_on_qt(qapp, scenario()) == 1500


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"\0\0\0\5hello", "sent garbage"),
        (b"\0\0\0\0", "sent garbage"),
        (b"\xff\xff\xff\xff", "above the limit"),
        (frame(Ready(1, "isolated+", "", {})), "said twice that it is ready"),  # type: ignore[arg-type]
        ((100_000).to_bytes(4, "big") + b"\x91" * 100_000, "sent garbage"),
    ],
    ids=["no msgpack", "empty", "endless", "a forged badge", "deep nesting"],
)
def test_garbage_ends_the_worker(qapp: QCoreApplication, sent: bytes, reason: str) -> None:
    async def use(worker: Watched) -> WorkerExit:
        worker.order(f"import time\ndef attack():\n  channel.sendall({sent!r})\n  time.sleep(60)")
        return await worker.ended()

    why = in_worker(qapp, use)
    assert why.crashed
    assert reason in why.reason


def test_a_frame_that_never_ends_costs_no_more_than_a_frame(qapp: QCoreApplication) -> None:
    async def use(worker: Watched) -> None:
        worker.order(
            f"def attack():\n  channel.sendall(({MAX_FRAME}).to_bytes(4, 'big') + bytes(1000))\n  while 1: pass"
        )
        await asyncio.wait_for(_answers(worker), 10 * PATIENCE)
        worker.handle.kill("test is over")
        await worker.ended()

    async def _answers(worker: Watched) -> None:
        await until(lambda: _cpu_s(worker.handle.pid) > 0.2)
        assert not worker.exits

    in_worker(qapp, use)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_burst_is_slowed_down_and_a_flood_ends_the_worker(qapp: QCoreApplication) -> None:
    slow = WorkerLimits(messages_per_s=4000, burst=1000)
    flooded = WorkerLimits(messages_per_s=1000, burst=1000, flood_s=1.0)
    messages, one_read = 3500, (16 << 10) // len(_line("x"))  # the allowance may be overdrawn by one read

    async def burst(worker: Watched) -> float:
        began = time.monotonic()
        await worker.attack(f"def attack():\n  for _ in range({messages}): channel.sendall({_line('x')!r})")
        await until(lambda: worker.lines.count("x") == messages)
        return time.monotonic() - began

    async def flood(worker: Watched) -> WorkerExit:
        worker.order(f"def attack():\n  while True: channel.sendall({_line('x')!r})")
        ticks = 0

        async def breathe() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        breathing = asyncio.create_task(breathe())
        why = await worker.ended()
        breathing.cancel()
        assert ticks > 20, "the flood starved the loop"
        assert len(worker.lines) < 6000
        return why

    least_s = (messages - slow.burst - one_read) / slow.messages_per_s
    assert least_s > 0.4
    assert in_worker(qapp, burst, limits=slow) >= least_s
    why = in_worker(qapp, flood, limits=flooded)
    assert why.crashed
    assert why.reason.startswith("floods")


def test_a_slow_reader_loses_old_quotes_and_nothing_else(qapp: QCoreApplication) -> None:
    limits = WorkerLimits(market_messages=50, messages_per_s=1e6, burst=1e6)

    async def use(worker: Watched) -> None:
        worker.order("import time\ndef attack(): time.sleep(0.5)")
        for number in range(5000):
            worker.handle.send(QUOTE)
            if number % 1000 == 0:
                worker.handle.send(HistoryBars(number, ()))
        dropped = worker.handle.dropped
        assert dropped > 1000
        await until(lambda: len(worker.lines) == 1 + 5000 - dropped + 5)
        assert worker.lines.count("HistoryBars") == 5
        assert worker.handle.dropped == dropped

    in_worker(qapp, use, limits=limits)


def test_a_worker_that_never_reads_is_ended(qapp: QCoreApplication) -> None:
    async def use(worker: Watched) -> WorkerExit:
        worker.order("def attack():\n  while True: pass")
        while not worker.exits:
            worker.handle.send(HistoryBars(1, (), error="x" * 100_000))
            await asyncio.sleep(0)
        return worker.exits[0]

    assert in_worker(qapp, use, limits=WorkerLimits(queue_bytes=1 << 20)).reason.startswith("does not read: 1.")


def test_a_message_above_the_limit_is_the_senders_mistake(qapp: QCoreApplication) -> None:
    async def use(worker: Watched) -> None:
        with pytest.raises(ValueError, match="above the limit"):
            worker.handle.send(HistoryBars(1, (), error="x" * MAX_FRAME))
        assert await worker.attack("def attack(): return 'alive'") == "done: alive"

    in_worker(qapp, use)


def test_a_worker_that_hangs_up_and_stays_is_ended(qapp: QCoreApplication) -> None:
    async def use(worker: Watched) -> WorkerExit:
        worker.order("import socket, time\ndef attack():\n  channel.shutdown(socket.SHUT_RDWR)\n  time.sleep(60)")
        return await worker.ended()

    assert in_worker(qapp, use, limits=WorkerLimits(exit_grace_s=0.1)).reason == "closed its channel and did not end"


def _scenario(
    qapp: QCoreApplication, launcher_use: Callable[[QProcessWorkerLauncher], Awaitable[Any]], **how: Any
) -> Any:
    async def scenario() -> Any:
        launcher = QProcessWorkerLauncher(**how) if "command" in how else stand_in_launcher(**how)
        try:
            return await launcher_use(launcher)
        finally:
            await launcher.close()

    return run_on_qt(qapp, scenario())


def test_a_program_that_is_not_there_is_said_at_once(qapp: QCoreApplication) -> None:
    async def use(launcher: QProcessWorkerLauncher) -> None:
        exits: list[WorkerExit] = []
        with pytest.raises(StrategyError, match="could not be started"):
            await launcher.launch("sma", lambda _message: None, exits.append)
        assert not exits

    _scenario(qapp, use, command=["/nonexistent/koc"])


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("pass", "ended with exit code 0"),
        ("import sys; sys.exit(7)", "ended with exit code 7"),
        ("import time; time.sleep(60)", "was not ready within 0.3 s"),
        (
            "import sys, socket\nfrom koc_qt.sdk.channel import *\nimport time\n"
            "socket.socket(fileno=int(sys.argv[2])).sendall(frame(Stopped('')))\ntime.sleep(60)",
            "sent garbage: Stopped came before it was ready",
        ),
    ],
    ids=["ends", "fails", "hangs", "speaks too soon"],
)
def test_a_program_that_is_no_worker_has_a_reason(qapp: QCoreApplication, program: str, reason: str) -> None:
    async def use(launcher: QProcessWorkerLauncher) -> Watched:
        worker = await watch(launcher)
        await worker.ended()
        return worker

    hurried = WorkerLimits(start_timeout_s=0.3 if "0.3" in reason else 10)
    worker = _scenario(qapp, use, limits=hurried, command=[sys.executable, "-c", program])
    assert [why.reason for why in worker.exits] == [reason]
    assert worker.messages == []


def test_a_worker_that_cannot_lock_itself_down_says_why(qapp: QCoreApplication) -> None:
    program = (
        "import sys\nimport koc_qt.wiring.worker as w\n"
        "def broken(*_): raise OSError('the kernel said no')\n"
        "w.lock_down = broken\nsys.exit(w.serve(sys.argv[1:], None))"
    )

    async def use(launcher: QProcessWorkerLauncher) -> Watched:
        worker = await watch(launcher)
        await worker.ended()
        return worker

    worker = _scenario(qapp, use, command=[sys.executable, "-c", program])
    assert worker.messages == []
    assert worker.exits[0].crashed
    assert worker.exits[0].reason == "the worker could not lock itself down: the kernel said no"


def test_warm_workers_are_handed_out_and_replaced(qapp: QCoreApplication) -> None:
    async def use(launcher: QProcessWorkerLauncher) -> None:
        launcher.warm_up()
        first = await watch(launcher)
        await first.become_ready()
        await until(lambda: launcher._warm and launcher._warm[0]._unannounced, what="the next warm worker")
        warm = launcher._warm[0]
        second = Watched()
        began = time.perf_counter()
        second.handle = await launcher.launch("second", second.messages.append, second.exits.append)
        assert second.messages == [], "nothing is heard before the handle is there"
        assert second.handle.pid == warm.pid
        assert await second.attack("def attack(): return 1") == "done: 1"
        print(f"warm launch to strategy's answer: {(time.perf_counter() - began) * 1e3:.1f} ms")
        assert isinstance(second.messages[0], Ready)
        await until(lambda: launcher._warm and launcher._warm[0]._unannounced, what="its replacement")
        third = launcher._warm[0]
        os.kill(third.pid, signal.SIGKILL)
        await until(lambda: not launcher._warm, what="the dead worker to be forgotten")
        fourth = await watch(launcher)
        await fourth.become_ready()
        assert not fourth.exits

    _scenario(qapp, use, warm=1)


def test_close_ends_all_and_forbids_new_ones(qapp: QCoreApplication) -> None:
    async def use(launcher: QProcessWorkerLauncher) -> None:
        workers = [await watch(launcher) for _ in range(3)]
        for worker in workers:
            await worker.become_ready()
            worker.order("import signal\ndef attack():\n  signal.signal(15, signal.SIG_IGN)\n  while True: pass")
        pids = [worker.handle.pid for worker in workers]
        began = time.monotonic()
        await launcher.close()
        await launcher.close()
        assert time.monotonic() - began < 3 * PATIENCE
        assert [worker.exits[0].reason for worker in workers] == ["the engine stops"] * 3
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        with pytest.raises(StrategyError, match="stopping"):
            await launcher.launch("late", lambda _message: None, lambda _why: None)

    _scenario(qapp, use)


def test_the_real_program_reads_a_strategy_with_numpy(qapp: QCoreApplication) -> None:
    source = b"""
import numpy as np
import pandas as pd
from koc_qt.sdk import Strategy, param

class Mine(Strategy):
    '''Does nothing.'''
    length = param(int(np.ones(7).sum()), low=1, high=50)

    def on_bar(self, bar):
        pd.Series([bar.close]).mean()
"""

    async def use() -> Watched:
        launcher = QProcessWorkerLauncher(warm=0)
        try:
            worker = await watch(launcher)
            await worker.become_ready()
            worker.handle.send(Describe(source, "mine.py"))
            await until(lambda: len(worker.messages) > 1 or worker.exits)
            return worker
        finally:
            await launcher.close()

    worker = run_on_qt(qapp, use())
    answer = worker.messages[-1]
    assert isinstance(answer, Described), (answer, worker.exits)
    assert [(parameter.name, parameter.default) for parameter in answer.parameters] == [("length", 7)]


def test_a_host_with_many_descriptors_can_start_workers(qapp: QCoreApplication) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1500:
        pytest.skip(f"this user may have no more than {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1500), hard))
    held = [os.dup(0) for _ in range(1100)]
    try:
        echo = "import select\ndef attack(): return select.select([channel], [], [], 0)"
        assert in_worker(qapp, lambda worker: worker.attack(echo)) == "done: ([], [], [])"
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_cancelled_launch_leaves_no_process(qapp: QCoreApplication) -> None:
    async def use(launcher: QProcessWorkerLauncher) -> None:
        launching = asyncio.create_task(watch(launcher))
        await asyncio.sleep(0)
        launching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await launching
        await until(lambda: not launcher._workers)

    _scenario(qapp, use)


def test_a_sink_that_raises_is_reported_and_disturbs_nobody(qapp: QCoreApplication) -> None:
    heard: list[WorkerMessage] = []

    def sink(message: WorkerMessage) -> None:
        heard.append(message)
        if len(heard) == 1:
            raise ZeroDivisionError("the host's own mistake")

    async def use(launcher: QProcessWorkerLauncher) -> None:
        exits: list[WorkerExit] = []
        handle = await launcher.launch("test", sink, exits.append)
        await until(lambda: heard)
        handle.send(QUOTE)
        await until(lambda: len(heard) == 2)
        assert not exits

    with pytest.raises(ZeroDivisionError, match="the host's own mistake"):
        _scenario(qapp, use)
    assert isinstance(heard[1], LogLine)


def test_no_descriptor_is_left_behind(qapp: QCoreApplication) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def use(launcher: QProcessWorkerLauncher) -> None:
        before = 0
        for round_ in range(12):
            worker = await watch(launcher)
            if round_ % 2:
                await worker.become_ready()
            worker.handle.kill("next")
            await worker.ended()
            if round_ == 1:
                before = descriptors()
        await until(lambda: descriptors() <= before)

    _scenario(qapp, use)


def test_no_descriptor_left_for_a_worker_is_said(qapp: QCoreApplication, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> None:
        raise OSError(24, "Too many open files")

    async def scenario() -> None:
        launcher = QProcessWorkerLauncher()
        monkeypatch.setattr("koc_qt.adapters.worker_process.socket.socketpair", none_left)
        launcher.warm_up()
        with pytest.raises(StrategyError, match="could not be started: Too many open files"):
            await launcher.launch("sma", lambda message: None, lambda ending: None)
        monkeypatch.undo()
        await launcher.close()

    run_on_qt(qapp, scenario())


def test_a_worker_gets_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOC_HOME", "/somewhere")
    monkeypatch.setenv("BINANCE_SECRET", "canary")
    environment = worker_environment()
    assert not {"KOC_HOME", "BINANCE_SECRET", "PATH", "DBUS_SESSION_BUS_ADDRESS"} & environment.keys()
    assert environment["OPENBLAS_NUM_THREADS"] == "1"


def test_a_bundle_is_its_own_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker_command()[0] == sys.executable
    assert worker_command()[-1] == "worker"
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert worker_command() == [sys.executable, "worker"]
    assert worker_environment()["PYTHONPATH"] == ""


def test_an_environment_of_windows_is_left_for_the_interpreter_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its python.exe starts another process, and a channel that is shared with the first reaches nobody."""
    monkeypatch.setattr(sys, "_base_executable", r"C:\Python\python.exe", raising=False)
    assert worker_command()[0] == sys.executable
    monkeypatch.setattr(sys, "platform", "win32")
    assert worker_command()[0] == r"C:\Python\python.exe"


def test_many_void_calls_do_not_abort(qapp: QCoreApplication) -> None:
    """PySide6 6.12.0 on Python 3.11 loses a reference to None a void call, and aborts after some thousands."""
    thing = QObject()
    references = sys.getrefcount(None)
    for _ in range(20_000):
        thing.setObjectName("x")
    assert sys.getrefcount(None) > references - 1000


def test_heartbeats_flow_within_the_allowance(qapp: QCoreApplication) -> None:
    beat = frame(Heartbeat(1, 0, 0, 0.0))

    async def use(worker: Watched) -> None:
        await worker.attack(f"def attack():\n  for _ in range(200): channel.sendall({beat!r})")
        assert sum(isinstance(message, Heartbeat) for message in worker.messages) == 200

    in_worker(qapp, use)
