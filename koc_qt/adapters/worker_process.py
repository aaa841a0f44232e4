"""Starts worker processes through QProcess and carries their channel, on a Qt event loop (qasync).

Each worker gets one end of a socket pair and nothing else: null devices for its standard streams (QProcess would buffer
a flood without limit), a clean environment, and the sandbox that koc_qt/wiring/worker.py puts around it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from PySide6.QtCore import QCoreApplication, QProcess, QProcessEnvironment, QSocketNotifier

from koc_qt.adapters.sandbox import SandboxSettings
from koc_qt.adapters.sandbox.windows_job import Job, hold
from koc_qt.adapters.worker_command import worker_command as worker_command
from koc_qt.adapters.worker_command import worker_environment as worker_environment
from koc_qt.adapters.worker_flow import OutgoingQueue, TokenBucket, WorkerLimits
from koc_qt.domain.errors import StrategyError
from koc_qt.ports.workers import WorkerExit, WorkerNeeds
from koc_qt.sdk.channel import (
    Failed,
    FrameReader,
    HostMessage,
    QuoteUpdate,
    Ready,
    TradeUpdate,
    WorkerMessage,
    decode_worker,
    frame,
)

_READ_BYTES = 16 << 10  # a wake-up, so that one worker never holds the loop for long
_LAST_WORDS_BYTES = (
    4 << 20
)  # read at most this after a worker has ended: a child that it left may hold the channel open
_CLOSE_TIMEOUT_S = 5.0
_REFILL_AFTER_S = 0.5  # the strategy that was just launched has the processor first
_LIBRARIES_TIMEOUT_S = 120.0  # for a worker that loads some before it is ready: 6 s on a busy machine

MessageSink = Callable[[WorkerMessage], None]
ExitSink = Callable[[WorkerExit], None]


class _Worker:
    """One process and its channel; implements WorkerHandle."""

    def __init__(
        self,
        command: Sequence[str],
        settings: SandboxSettings,
        limits: WorkerLimits,
        on_end: Callable[[_Worker], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._limits = limits
        self._on_end = on_end
        self._on_message: MessageSink | None = None
        self._on_exit: ExitSink | None = None
        self.start_error: asyncio.Future[str] = self._loop.create_future()  # empty once it has started
        self.ended: asyncio.Future[WorkerExit] = self._loop.create_future()
        self.pid = 0
        self._job: Job | None = None

        self._is_ready = False
        self._unannounced: Ready | None = None
        self._reason = ""  # why we killed it, or why it says it must end
        self._killed = False
        self._finished: tuple[int, QProcess.ExitStatus] | None = None
        self._last_words_bytes = _LAST_WORDS_BYTES
        self._resume_timer: asyncio.Handle | None = None

        self._frames = FrameReader()
        self._bucket = TokenBucket(limits.messages_per_s, limits.burst, self._loop.time())
        self._outgoing = OutgoingQueue(limits.market_messages)
        self._socket, self._far_end = socket.socketpair()
        self._socket.setblocking(False)
        # Python's garbage collector runs in any thread, and Qt crashes on what ends in another than its own: the
        # application owns these, not Python, until `_end`.
        owner = QCoreApplication.instance()
        self._reader = QSocketNotifier(self._socket.fileno(), QSocketNotifier.Type.Read, owner)
        self._reader.activated.connect(self._on_readable)
        self._writer = QSocketNotifier(self._socket.fileno(), QSocketNotifier.Type.Write, owner)
        self._writer.setEnabled(False)
        self._writer.activated.connect(self._flush)
        self._deadline: asyncio.Handle = self._loop.call_later(limits.start_timeout_s, self._on_start_timeout)
        self._process = QProcess(owner)
        self._start(command, settings)

    def _start(self, command: Sequence[str], settings: SandboxSettings) -> None:
        process = self._process
        process.started.connect(self._on_started)
        process.errorOccurred.connect(self._on_error)
        process.finished.connect(self._on_finished)
        environment = QProcessEnvironment()
        for name, value in worker_environment().items():
            environment.insert(name, value)
        process.setProcessEnvironment(environment)
        process.setStandardOutputFile(QProcess.nullDevice())
        process.setStandardErrorFile(QProcess.nullDevice())
        if sys.platform == "win32":
            channel = "stdin"
        else:
            channel = str(self._far_end.fileno())
            process.setStandardInputFile(QProcess.nullDevice())
            parameters = QProcess.UnixProcessParameters()
            parameters.flags = QProcess.UnixProcessFlag.CreateNewSession
            process.setUnixProcessParameters(parameters)
            self._far_end.set_inheritable(True)
        limits = msgspec.json.encode(settings).decode()
        options = ["--channel", channel, "--parent", str(os.getpid()), "--settings", limits]
        process.start(command[0], [*command[1:], *options])
        if sys.platform != "win32":
            self._far_end.close()  # QProcess has forked by now

    # ---- what the strategy host sees ----------------------------------------------------------------------------

    def adopt(self, label: str, on_message: MessageSink, on_exit: ExitSink) -> None:
        """Give it its owner; Ready follows as the first message if it has come already."""
        self._process.setObjectName(label)
        self._on_message = on_message
        self._on_exit = on_exit
        if self.ended.done():
            self._loop.call_soon(self._guarded, on_exit, self.ended.result())
        elif self._unannounced is not None:
            self._loop.call_soon(self._announce)

    def send(self, message: HostMessage) -> None:
        """Queue a message, as WorkerHandle says; raises ValueError for one above the channel's limit."""
        data = frame(message)
        if self._killed or self._finished is not None:
            return
        self._outgoing.put(data, market=isinstance(message, QuoteUpdate | TradeUpdate))
        if not self._writer.isEnabled():
            self._flush()
        if self._outgoing.waiting_bytes > self._limits.queue_bytes:
            self.kill(f"does not read: {self._outgoing.waiting_bytes / 1e6:.1f} MB of messages wait for it")

    @property
    def dropped(self) -> int:
        """How many market messages made way."""
        return self._outgoing.dropped

    def kill(self, reason: str) -> None:
        """End it at once; nothing that it still has to say is heard."""
        if not self._killed and not self.ended.done():
            self._end_it(reason)

    def _end_it(self, reason: str) -> None:
        self._killed = True
        self._reason = reason
        self._stop_talking()
        self._process.kill()

    # ---- the process --------------------------------------------------------------------------------------------

    def _on_started(self) -> None:
        self.pid = self._process.processId()
        if sys.platform == "win32":
            # The far end stays open until the worker has opened its own copy of it. Run under Wine, not on Windows yet.
            self._job = hold(self.pid)  # before it has the channel, and with it anything to do
            self._process.write(self._far_end.share(self.pid))
            self._process.closeWriteChannel()
        if not self.start_error.done():
            self.start_error.set_result("")

    def _on_error(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart:
            self._loop.call_soon(self._end, WorkerExit(True, None, self._process.errorString() or "no reason given"))

    def _on_start_timeout(self) -> None:
        self.kill(f"was not ready within {self._limits.start_timeout_s:g} s")

    def _on_finished(self, code: int, status: QProcess.ExitStatus) -> None:
        self._finished = (code, status)
        self._stop_talking()
        self._loop.call_soon(
            self._hear_last_words
        )  # not here: the process may be deleted at the end, and this is its signal

    def _hear_last_words(self) -> None:
        if not self._killed and self._last_words_bytes > 0 and self._read():
            self._last_words_bytes -= _READ_BYTES
            self._loop.call_soon(self._hear_last_words)
        else:
            self._end(self._why_ended())

    def _why_ended(self) -> WorkerExit:
        code, status = self._finished or (0, QProcess.ExitStatus.CrashExit)
        if status == QProcess.ExitStatus.NormalExit:
            return WorkerExit(bool(self._reason) or code != 0, code, self._reason or f"ended with exit code {code}")
        return WorkerExit(True, -code, self._reason or _death(code))

    def _end(self, why: WorkerExit) -> None:
        if self.ended.done():
            return
        self._announce()
        self._stop_talking()
        self._deadline.cancel()
        for notifier in (self._reader, self._writer):
            notifier.deleteLater()
        self._socket.close()
        self._far_end.close()
        if self._job is not None:
            self._job.close()
        self._process.deleteLater()
        if not self.start_error.done():
            self.start_error.set_result(why.reason)
        self.ended.set_result(why)
        self._on_end(self)
        if self._on_exit is not None:
            self._guarded(self._on_exit, why)

    # ---- the channel --------------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        if not self._reader.isEnabled() or not self._read():
            return
        now_s = self._loop.time()
        wait_s = self._bucket.wait_s(now_s)
        if self._bucket.flooding_s(now_s) > self._limits.flood_s:
            self.kill(f"floods: it said more than {self._limits.messages_per_s:g} messages a second")
        elif wait_s > 0:
            self._reader.setEnabled(False)
            self._resume_timer = self._loop.call_later(wait_s, self._resume)

    def _resume(self) -> None:
        self._resume_timer = None
        self._reader.setEnabled(True)

    def _read(self) -> bool:
        """Read and handle a little; gives whether there may be more to come."""
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return self._finished is None
        except ConnectionError:
            data = b""  # it ended without reading all that we wrote
        if not data:
            self._on_channel_closed()
            return False
        try:
            frames = self._frames.feed(data)
        except ValueError as error:
            self._refuse(str(error))
            return False
        for body in frames:
            self._bucket.spend(len(body))
            self._handle(body)
            if self._killed:
                return False
        return True

    def _handle(self, body: bytes) -> None:
        try:
            message = decode_worker(body)
        except Exception as error:  # hostile bytes find every way to fail: recursion, overflow, our own value checks
            self._refuse(f"{type(error).__name__}: {error}")
            return
        if self._is_ready and not isinstance(message, Ready):
            self._deliver(message)
        elif self._is_ready:
            self._refuse("it said twice that it is ready")  # a strategy that would give itself a better badge
        elif isinstance(message, Ready):
            self._is_ready = True
            self._unannounced = message
            self._deadline.cancel()
            self._far_end.close()
            self._announce()
        elif isinstance(message, Failed):
            self._reason = message.reason
        else:
            self._refuse(f"{type(message).__name__} came before it was ready")

    def _refuse(self, why: str) -> None:
        self._end_it(f"sent garbage: {why}")

    def _announce(self) -> None:
        if self._unannounced is not None and self._on_message is not None and not self._killed:
            ready, self._unannounced = self._unannounced, None
            self._guarded(self._on_message, ready)

    def _deliver(self, message: WorkerMessage) -> None:
        if self._on_message is None:
            self._refuse(f"{type(message).__name__} came before it had anything to do")
            return
        self._announce()
        self._guarded(self._on_message, message)

    def _guarded(self, sink: Callable[[Any], None], value: msgspec.Struct) -> None:
        try:
            sink(value)
        except Exception as error:  # the host's own mistake is reported by its loop and stops no channel
            name = getattr(sink, "__qualname__", repr(sink))
            self._loop.call_exception_handler({"message": f"{name} raised on {value!r:.200}", "exception": error})

    def _flush(self) -> None:
        try:
            while head := self._outgoing.head():
                self._outgoing.written(self._socket.send(head))
        except BlockingIOError:
            self._writer.setEnabled(True)
            return
        except OSError:
            self._outgoing.clear()  # the far end is closed; the process's end will tell why
        self._writer.setEnabled(False)

    def _on_channel_closed(self) -> None:
        self._reader.setEnabled(False)
        if self._finished is None:
            self._deadline.cancel()
            self._deadline = self._loop.call_later(self._limits.exit_grace_s, self._on_overstay)

    def _on_overstay(self) -> None:
        self.kill("closed its channel and did not end")

    def _stop_talking(self) -> None:
        self._reader.setEnabled(False)
        self._writer.setEnabled(False)
        self._outgoing.clear()
        if self._resume_timer is not None:
            self._resume_timer.cancel()
            self._resume_timer = None


_HINTS = {
    "SIGKILL": "the system may have run out of memory",
    "SIGSYS": "it made a system call of another architecture",
    "SIGSEGV": "a library crashed, perhaps out of memory",
    "SIGABRT": "a library gave up, perhaps out of memory",
}


def _death(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"crashed with code {number}"
    hint = _HINTS.get(name)
    return f"was ended by {name}" + (f": {hint}" if hint else "")


class QProcessWorkerLauncher:
    """Implements WorkerLauncher; keeps `warm` workers started and locked down, so that a strategy runs at once.

    Without `refills` those that were launched are not replaced.
    """

    def __init__(
        self,
        settings: SandboxSettings | None = None,
        limits: WorkerLimits | None = None,
        *,
        warm: int = 1,
        refills: bool = True,
        command: Sequence[str] | None = None,
    ) -> None:
        self._settings = settings or SandboxSettings()
        self._limits = limits or WorkerLimits()
        self._warm_wanted = warm
        self._refills = refills
        self._command = list(command or worker_command())
        self._workers: list[_Worker] = []
        self._warm: list[_Worker] = []
        self._closed = False
        self._refill_timer: asyncio.Handle | None = None

    def warm_up(self) -> None:
        """Start as many idle workers as shall wait; one that dies is replaced after the next launch."""
        while len(self._warm) < self._warm_wanted and not self._closed:
            try:
                self._warm.append(self._spawn())
            except StrategyError:
                return  # the next launch tries again, and says so if it cannot either

    async def launch(
        self, label: str, on_message: MessageSink, on_exit: ExitSink, needs: WorkerNeeds | None = None
    ) -> _Worker:
        """Start one, as WorkerLauncher says. Raises StrategyError when the process cannot start."""
        if self._closed:
            raise StrategyError(f"{label} is not started: the engine is stopping")
        worker = self._warm.pop(0) if self._warm and needs is None else self._spawn(needs)
        try:
            start_error = await worker.start_error
        except asyncio.CancelledError:
            worker.kill("its start was cancelled")
            raise
        if start_error:
            raise StrategyError(f"{label}: the worker process {self._command[0]} could not be started: {start_error}")
        worker.adopt(label, on_message, on_exit)
        if not self._refills:
            return worker
        if self._refill_timer is not None:
            self._refill_timer.cancel()
        self._refill_timer = asyncio.get_running_loop().call_later(_REFILL_AFTER_S, self.warm_up)
        return worker

    async def close(self) -> None:
        """Kill what still runs and wait for it, for 5 seconds at most. Safe to call twice."""
        self._closed = True
        if self._refill_timer is not None:
            self._refill_timer.cancel()
        running = [worker.ended for worker in self._workers]
        for worker in list(self._workers):
            worker.kill("the engine stops")
        if running:
            await asyncio.wait(running, timeout=_CLOSE_TIMEOUT_S)

    def _spawn(self, needs: WorkerNeeds | None = None) -> _Worker:
        settings, limits = self._settings, self._limits
        if needs is not None:
            settings = msgspec.structs.replace(
                settings,
                preimport=(*settings.preimport, *needs.modules),
                address_space_bytes=max(settings.address_space_bytes, needs.memory_bytes),
            )
            patience_s = max(limits.start_timeout_s, _LIBRARIES_TIMEOUT_S)
            limits = msgspec.structs.replace(limits, start_timeout_s=patience_s)
        try:
            worker = _Worker(self._command, settings, limits, self._forget)
        except OSError as error:  # no descriptor is left for its channel
            raise StrategyError(f"a worker process could not be started: {error.strerror or error}") from error
        self._workers.append(worker)
        return worker

    def _forget(self, worker: _Worker) -> None:
        for group in (self._workers, self._warm):
            if worker in group:
                group.remove(worker)
