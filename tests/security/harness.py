"""Runs attack sources inside a locked worker, through the real launcher, and outside it as a control."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from koc_qt.adapters.sandbox import SandboxSettings
from koc_qt.adapters.worker_flow import WorkerLimits
from koc_qt.adapters.worker_process import QProcessWorkerLauncher
from koc_qt.ports.workers import WorkerExit, WorkerHandle, WorkerLauncher
from koc_qt.sdk.channel import Describe, LogLine, Ready, WorkerMessage
from tests.conditions import PATIENCE, until
from tests.qt_loop import run_on_qt

T = TypeVar("T")

# Given as source: the tests' folder is not among what a locked worker may read.
_STAND_IN = Path(__file__).with_name("stand_in.py").read_text()
STAND_IN = [sys.executable, "-P", "-s", "-B", "-c", _STAND_IN, "worker"]


class Watched:
    """A launched worker and all that it said."""

    handle: WorkerHandle

    def __init__(self) -> None:
        self.messages: list[WorkerMessage] = []
        self.exits: list[WorkerExit] = []

    @property
    def ready(self) -> Ready | None:
        """Its first message, once it has come."""
        first = self.messages[0] if self.messages else None
        return first if isinstance(first, Ready) else None

    @property
    def lines(self) -> list[str]:
        """The texts of its log lines."""
        return [message.text for message in self.messages if isinstance(message, LogLine)]

    async def become_ready(self) -> Ready:
        """Wait for its first message."""
        await until(lambda: self.messages or self.exits, what="the worker's first message")
        assert self.ready, self.exits
        return self.ready

    async def ended(self, timeout_s: float = 10.0) -> WorkerExit:
        """Wait for its end and give the reason."""
        await until(lambda: self.exits, timeout_s=timeout_s, what="the worker's end")
        return self.exits[0]

    def order(self, source: str) -> None:
        """Have it run an attack, without waiting."""
        self.handle.send(Describe(source.encode(), "attack.py"))

    async def attack(self, source: str, timeout_s: float = 20.0) -> str:
        """Have it run an attack and give the outcome."""
        before = len(self.lines)
        self.order(source)
        await until(lambda: len(self.lines) > before or self.exits, timeout_s=timeout_s, what="the attack's outcome")
        return self.lines[before] if len(self.lines) > before else f"ended: {self.exits[0].reason}"


async def watch(launcher: WorkerLauncher, label: str = "test") -> Watched:
    """Launch a worker and listen to it."""
    watched = Watched()
    watched.handle = await launcher.launch(label, watched.messages.append, watched.exits.append)
    return watched


def stand_in_launcher(
    settings: SandboxSettings | None = None, limits: WorkerLimits | None = None, *, warm: int = 0
) -> QProcessWorkerLauncher:
    """Make a launcher of stand-in workers."""
    return QProcessWorkerLauncher(settings, limits, warm=warm, command=STAND_IN)


@asynccontextmanager
async def locked_worker(
    settings: SandboxSettings | None = None, limits: WorkerLimits | None = None
) -> AsyncIterator[Watched]:
    """Give a locked, ready worker and end it afterwards."""
    launcher = stand_in_launcher(settings, limits)
    try:
        watched = await watch(launcher)
        await watched.become_ready()
        yield watched
    finally:
        await launcher.close()


def in_worker(application: Any, use: Callable[[Watched], Awaitable[T]], **options: Any) -> T:
    """Run `use` with a locked worker on a Qt loop."""

    async def scenario() -> T:
        async with locked_worker(**options) as watched:
            return await use(watched)

    return run_on_qt(application, scenario())


def source_with(body: str, **values: Any) -> str:
    """Put values in front of an attack's source, as constants."""
    return "\n".join(f"{name} = {json.loads(json.dumps(value))!r}" for name, value in values.items()) + "\n" + body


def unlocked(source: str) -> str:
    """Run an attack in an ordinary process and give the outcome."""
    program = _STAND_IN.replace('if __name__ == "__main__":', "if False:") + "\nprint(outcome(sys.stdin.read()))\n"
    done = subprocess.run(
        [sys.executable, "-c", program], input=source, capture_output=True, text=True, timeout=30 * PATIENCE, check=True
    )
    return done.stdout.strip()
