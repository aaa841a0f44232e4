"""What an installed copy prepares in the background: once, when it is calm, never beside a strategy that runs."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from koc_qt.adapters import sweep_kernel_file
from koc_qt.adapters.process_priority import make_idle
from koc_qt.adapters.sweep_kernel_file import KernelFile
from koc_qt.config import Config, EngineConfig
from koc_qt.engine.store import Store
from koc_qt.paths import Paths
from koc_qt.wiring import warm_up as module
from koc_qt.wiring.warm_up import MOST_TRIES, prepare_installed_copy, warm_up
from tests.conditions import until


class Machine:
    """Says whether it is calm, and what processes compile: `program` is what each of them runs."""

    def __init__(self) -> None:
        self.calm = True
        self.program = "import sys; sys.stdout.write('code')"
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", self.program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.processes.append(process)
        return process


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    machine = Machine()
    monkeypatch.setattr(sweep_kernel_file, "_compiling", machine.start)
    yield machine
    assert all(process.poll() is not None for process in machine.processes), "no process is left behind"


async def soon(kernel: KernelFile, machine: Machine) -> None:
    await warm_up(kernel, lambda: machine.calm, calm_s=0.02, look_s=0.01)


async def test_it_is_compiled_once(machine: Machine, tmp_path: Path) -> None:
    kernel = KernelFile(tmp_path)
    assert not await kernel.is_there()
    await soon(kernel, machine)
    assert await kernel.is_there()
    assert await kernel.code() == b"code"
    await soon(kernel, machine)
    await soon(KernelFile(tmp_path), machine)
    assert len(machine.processes) == 1


async def test_it_waits_for_a_calm_moment(machine: Machine, tmp_path: Path) -> None:
    machine.calm = False
    looks: list[bool] = []

    def look() -> bool:
        looks.append(machine.calm)
        return machine.calm

    preparing = asyncio.create_task(warm_up(KernelFile(tmp_path), look, calm_s=0.02, look_s=0.005))
    await until(lambda: len(looks) > 5, what="looks")
    assert machine.processes == []
    machine.calm = True
    await asyncio.wait_for(preparing, 20)
    assert len(machine.processes) == 1


async def test_a_strategy_that_starts_ends_it_and_it_is_done_later(machine: Machine, tmp_path: Path) -> None:
    machine.program = "import threading; threading.Event().wait()"
    preparing = asyncio.create_task(soon(KernelFile(tmp_path), machine))
    await until(lambda: len(machine.processes) == 1, what="the process")
    await until(lambda: psutil.Process(machine.processes[0].pid).nice() == 19 or sys.platform == "win32")
    machine.calm = False
    await until(lambda: machine.processes[0].poll() is not None, what="its end")
    assert not await KernelFile(tmp_path).is_there()
    machine.program = "import sys; sys.stdout.write('code')"
    machine.calm = True
    await asyncio.wait_for(preparing, 20)
    assert await KernelFile(tmp_path).is_there()


async def test_a_cancel_leaves_no_process(machine: Machine, tmp_path: Path) -> None:
    machine.program = "import threading; threading.Event().wait()"
    preparing = asyncio.create_task(soon(KernelFile(tmp_path), machine))
    await until(lambda: len(machine.processes) == 1, what="the process")
    preparing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await preparing
    assert machine.processes[0].poll() is not None


@pytest.mark.expected_warnings("cannot be compiled here")
async def test_what_fails_is_not_tried_for_ever(machine: Machine, tmp_path: Path) -> None:
    machine.program = "raise SystemExit(3)"
    await asyncio.wait_for(soon(KernelFile(tmp_path), machine), 30)
    assert len(machine.processes) == MOST_TRIES


async def test_only_an_installed_copy_that_may(profile: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[bool] = []

    async def begin(kernel: KernelFile, is_calm: object) -> None:
        assert callable(is_calm)
        began.append(is_calm())

    store = Store()
    monkeypatch.setattr(module, "warm_up", begin)
    await prepare_installed_copy(profile, Config(), store)
    assert began == []
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    await prepare_installed_copy(profile, Config(engine=EngineConfig(warm_up=False)), store)
    assert began == []
    await prepare_installed_copy(profile, Config(), store)
    store.strategies["a"] = SimpleNamespace(pid=5)  # type: ignore[assignment]
    await prepare_installed_copy(profile, Config(), store)
    assert began == [True, False]


def test_a_process_that_is_gone_has_no_priority() -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL) as process:
        process.wait(20)
    make_idle(process.pid)
