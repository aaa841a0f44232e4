"""Worker processes that a test plays by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from koc_qt.domain.errors import StrategyError
from koc_qt.domain.state import Badge
from koc_qt.ports.workers import WorkerExit, WorkerNeeds
from koc_qt.sdk.channel import Described, HostMessage, Ready, Running, StartRun, Stopped, StopRun, WorkerMessage, frame

M = TypeVar("M")

DESCRIBED = Described("Test strategy", "", (), "1m", ("bars",), 1, 0)


class FakeWorker:
    """Implements ports/workers.py WorkerHandle; `say` speaks for the process, `end` ends it."""

    def __init__(
        self, pid: int, label: str, on_message: Callable[[WorkerMessage], None], on_exit: Callable[[WorkerExit], None]
    ) -> None:
        self.pid = pid
        self.needs: WorkerNeeds | None = None
        self.label = label
        self.dropped = 0
        self.received: list[HostMessage] = []
        self.killed = ""
        self.ended = False
        self.stops_in_order = True
        self._on_message = on_message
        self._on_exit = on_exit

    def send(self, message: HostMessage) -> None:
        """Take a message; a StopRun is obeyed at once unless `stops_in_order` is false.

        Raises ValueError for one above the channel's limit, as the real one does.
        """
        frame(message)
        if self.ended:
            return
        self.received.append(message)
        if isinstance(message, StopRun) and self.stops_in_order:
            self.say(Stopped(message.reason))
            self.end(WorkerExit(False, 0, ""))

    def kill(self, reason: str) -> None:
        """End with this reason."""
        self.killed = self.killed or reason
        self.end(WorkerExit(True, -9, reason))

    def say(self, message: WorkerMessage) -> None:
        """Speak for the process."""
        self._on_message(message)

    def end(self, ending: WorkerExit) -> None:
        """End the process, once."""
        if not self.ended:
            self.ended = True
            self._on_exit(ending)

    def got(self, kind: type[M]) -> list[M]:
        """The messages of one class that it was sent."""
        return [message for message in self.received if isinstance(message, kind)]

    def run(self, described: Described = DESCRIBED) -> None:
        """Say that the strategy runs."""
        self.say(Running(described, {}))


class FakeLauncher:
    """Implements ports/workers.py WorkerLauncher; every worker is ready at once, with an Isolated badge."""

    def __init__(self) -> None:
        self.workers: list[FakeWorker] = []
        self.ready = True
        self.runs_at_once: Described | None = None
        self.refuse = ""
        self.launching: asyncio.Event | None = None  # holds launches until it is set

    async def launch(
        self,
        label: str,
        on_message: Callable[[WorkerMessage], None],
        on_exit: Callable[[WorkerExit], None],
        needs: WorkerNeeds | None = None,
    ) -> FakeWorker:
        """Give a worker."""
        if self.launching is not None:
            await self.launching.wait()
        if self.refuse:
            raise StrategyError(self.refuse)
        worker = FakeWorker(1000 + len(self.workers), label, on_message, on_exit)
        worker.needs = needs
        self.workers.append(worker)
        if self.ready:
            worker.say(Ready(worker.pid, Badge.ISOLATED, "everything was proved", {}))
        if self.runs_at_once is not None:
            send = worker.send

            def running(message: HostMessage) -> None:
                send(message)
                if isinstance(message, StartRun) and self.runs_at_once is not None:
                    worker.run(self.runs_at_once)

            worker.send = running  # type: ignore[method-assign]
        return worker

    async def close(self) -> None:
        """End them all."""
        for worker in self.workers:
            worker.kill("the engine stops")
