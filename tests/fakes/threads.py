"""Workers that are real but for their process: each runs in a thread of this one, one at a time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable

from koc_qt.domain.errors import EngineLacks
from koc_qt.domain.state import Badge
from koc_qt.ports.workers import WorkerExit, WorkerNeeds
from koc_qt.sdk.channel import FrameReader, HostMessage, Ready, WorkerMessage, decode_worker, frame
from koc_qt.worker import run
from tests.conditions import PATIENCE

_READ_SIZE = 1 << 20


class ThreadWorker:
    """Implements ports/workers.py WorkerHandle."""

    def __init__(
        self, pid: int, on_message: Callable[[WorkerMessage], None], on_exit: Callable[[WorkerExit], None]
    ) -> None:
        self.pid = pid
        self.dropped = 0
        self.ended = asyncio.Event()
        self._on_message = on_message
        self._on_exit = on_exit
        self._reader = FrameReader()
        self._ours, theirs = socket.socketpair()
        self._ours.settimeout(10 * PATIENCE)
        self._thread = threading.Thread(target=self._work, args=(theirs,), name=f"worker {pid}", daemon=True)
        self._thread.start()
        asyncio.get_running_loop().add_reader(self._ours, self._read)

    def send(self, message: HostMessage) -> None:
        """Write at once: the worker reads on in its thread, unless it has just ended, which is heard soon."""
        body = frame(message)
        if not self.ended.is_set():
            with contextlib.suppress(ConnectionError):
                self._ours.sendall(body)

    def kill(self, reason: str) -> None:
        """Close its channel, which ends it as soon as it looks."""
        self._end(WorkerExit(True, -9, reason))

    def _work(self, theirs: socket.socket) -> None:
        with theirs:
            run(theirs, Ready(self.pid, Badge.UNPROVEN, "a thread", {}))

    def _read(self) -> None:
        try:
            data = self._ours.recv(_READ_SIZE)
        except ConnectionError:
            data = b""
        for body in self._reader.feed(data):
            self._on_message(decode_worker(body))
        if not data:
            self._end(WorkerExit(False, 0, ""))

    def _end(self, ending: WorkerExit) -> None:
        if self.ended.is_set():
            return
        asyncio.get_running_loop().remove_reader(self._ours)
        self._ours.close()
        self._thread.join(10 * PATIENCE)
        assert not self._thread.is_alive(), "the worker does not end when its channel is closed"
        self.ended.set()
        self._on_exit(ending)


class ThreadLauncher:
    """Implements ports/workers.py WorkerLauncher; `launched` counts. What needs other libraries is refused."""

    def __init__(self) -> None:
        self.launched = 0
        self._workers: list[ThreadWorker] = []
        self._turn = asyncio.Lock()

    async def launch(
        self,
        label: str,
        on_message: Callable[[WorkerMessage], None],
        on_exit: Callable[[WorkerExit], None],
        needs: WorkerNeeds | None = None,
    ) -> ThreadWorker:
        """Start one when the one before it has ended: modules and streams are the process's."""
        if needs is not None:
            raise EngineLacks("its libraries are not installed here")
        async with self._turn:
            for worker in self._workers:
                await worker.ended.wait()
            self.launched += 1
            worker = ThreadWorker(self.launched, on_message, on_exit)
            self._workers = [worker]
            return worker

    async def close(self) -> None:
        """End what still runs."""
        for worker in self._workers:
            worker.kill("the test is over")
