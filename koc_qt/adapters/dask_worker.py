"""Runs on the workers of a Dask cluster: each keeps sandboxed processes beside it, which evaluate combinations.

Dask carries the names of these functions and bytes in msgpack, nothing else: what a strategy says is never unpickled.
The cluster's machines need this program installed, in the same version.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from typing import Any, TypeVar

import msgspec

from koc_qt.adapters.sandbox import SandboxSettings
from koc_qt.adapters.worker_command import start_worker, worker_command, worker_environment
from koc_qt.sdk.channel import (
    Failed,
    FrameReader,
    LoadFailed,
    Ready,
    ReplayEnd,
    StartSweep,
    SweepLoaded,
    WorkerMessage,
    decode_worker,
    frame,
)
from koc_qt.sdk.machine_code import is_for_this_machine
from koc_qt.sdk.sweep_messages import EvaluateTrials, SweepReady, TrialFound, TrialsEvaluated
from koc_qt.version import __version__

SILENCE_LIMIT_S = 60.0
START_LIMIT_S = 120.0
IDLE_LIMIT_S = 600.0  # a process that nobody asks anything any more, as when its study's engine was killed, is ended
_MODULES = ("koc_qt.worker.sweep", "llvmlite.binding")

M = TypeVar("M", bound=msgspec.Struct)


class Setup(msgspec.Struct, frozen=True):
    """What a process needs before it can evaluate: the message that starts the sweep, and the frames of its bars."""

    start: StartSweep
    bars: bytes


class Answer(msgspec.Struct, frozen=True):
    """What came of a batch, as far as the process came; `lost` says how it ended, `refused` why its file is no use."""

    trials: list[TrialFound]
    lost: str = ""
    refused: str = ""


class _Lost(Exception):
    """The process is gone."""


class _Refused(Exception):
    """The file cannot be used."""


_processes: dict[tuple[str, int], _Process] = {}
_lock = threading.Lock()


def evaluate(study: str, slot: int, setup: bytes, batch: bytes) -> bytes:
    """Evaluate an EvaluateTrials in the process of a study's slot, started if need be; gives an Answer."""
    asked = msgspec.msgpack.decode(batch, type=EvaluateTrials)
    found: list[TrialFound] = []
    try:
        with _lock:
            process = _processes.get((study, slot))
        if process is None:
            process = _Process(msgspec.msgpack.decode(setup, type=Setup))
            with _lock:
                _processes[study, slot] = process
        process.evaluate(asked, found)
    except _Refused as refusal:
        _end(study, slot)
        return msgspec.msgpack.encode(Answer(found, refused=str(refusal)))
    except (_Lost, OSError) as loss:
        _end(study, slot)
        return msgspec.msgpack.encode(Answer(found, lost=str(loss)))
    return msgspec.msgpack.encode(Answer(found))


def version() -> str:
    """Give the version of this program that the worker has."""
    return __version__


def release(study: str) -> None:
    """End all processes of a study."""
    with _lock:
        slots = [slot for name, slot in _processes if name == study]
    for slot in slots:
        _end(study, slot)


def _end(study: str, slot: int) -> None:
    with _lock:
        process = _processes.pop((study, slot), None)
    if process is not None:
        process.close()


class _Process:
    """A sandboxed process on a socket pair; the thread that uses it waits. Raises _Lost, _Refused, OSError."""

    def __init__(self, setup: Setup) -> None:
        ours, theirs = socket.socketpair()
        self._channel = ours
        self._reader = FrameReader()
        self._heard: list[WorkerMessage] = []
        settings = msgspec.json.encode(SandboxSettings(preimport=_MODULES)).decode()
        try:
            self._process = start_worker(theirs, ["--settings", settings], worker_command(), worker_environment())
        except BaseException:
            ours.close()
            theirs.close()
            raise
        self._far_end = theirs
        self._idle = threading.Timer(IDLE_LIMIT_S, self.close)
        self._idle.daemon = True
        with contextlib.ExitStack() as undoing:  # a process that cannot be used must not be left running
            undoing.callback(self.close)
            self._load(setup)
            undoing.pop_all()

    def _load(self, setup: Setup) -> None:
        self._next(Ready, START_LIMIT_S)
        self._far_end.close()
        self._channel.sendall(frame(msgspec.structs.replace(setup.start, kernel=_kernel(setup.start.kernel))))
        self._next(SweepLoaded, START_LIMIT_S)
        self._channel.settimeout(START_LIMIT_S)
        self._channel.sendall(setup.bars)
        self._channel.sendall(frame(ReplayEnd()))
        self._next(SweepReady, START_LIMIT_S)
        self._idle.start()

    def evaluate(self, asked: EvaluateTrials, found: list[TrialFound]) -> None:
        """Evaluate combinations and put what comes into `found`."""
        self._idle.cancel()
        self._channel.settimeout(SILENCE_LIMIT_S)
        self._channel.sendall(frame(asked))
        while len(found) < len(asked.trials):
            found += self._next(TrialsEvaluated, SILENCE_LIMIT_S).trials
        self._idle = threading.Timer(IDLE_LIMIT_S, self.close)
        self._idle.daemon = True
        self._idle.start()

    def close(self) -> None:
        """End it."""
        self._idle.cancel()
        self._far_end.close()
        self._process.kill()
        self._process.wait()
        self._channel.close()

    def _next(self, kind: type[M], patience_s: float) -> M:
        self._channel.settimeout(patience_s)
        while True:
            while self._heard:
                message = self._heard.pop(0)
                if isinstance(message, kind):
                    return message
                if isinstance(message, Failed | LoadFailed):
                    raise _Refused(message.reason)
            try:
                data = self._channel.recv(1 << 16)
            except TimeoutError:
                raise _Lost(f"its process said nothing for {patience_s:g} s: is there an endless loop?") from None
            if not data:
                raise _Lost(f"its process ended with exit code {self._code()}")
            try:
                self._heard += map(decode_worker, self._reader.feed(data))
            except (ValueError, msgspec.DecodeError) as error:
                raise _Lost(f"its process sent garbage: {error}") from error

    def _code(self) -> Any:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(5)
        return "none"


def _kernel(shipped: bytes) -> bytes:
    """Give machine code for this machine: what was shipped where that is of the same kind, else compiled here."""
    if not shipped or is_for_this_machine(shipped):
        return shipped
    from koc_qt.adapters.sweep_kernel_file import compile_here

    return compile_here()
