"""The engine's end of a worker's channel, for tests: the worker runs in a thread, or in a process of its own."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from textwrap import dedent
from typing import Any, TypeVar

from koc_qt.domain.instruments import Instrument
from koc_qt.domain.state import Badge
from koc_qt.sdk.channel import (
    Failed,
    FrameReader,
    Heartbeat,
    HostMessage,
    LoadFailed,
    LogLine,
    Ready,
    Running,
    StartRun,
    WorkerMessage,
    decode_worker,
    frame,
)
from koc_qt.worker import run
from tests.conditions import PATIENCE, wait_until
from tests.unit.sdk.desk import BTC, START_NS

FILENAME = "mine.py"
READY = Ready(1, Badge.UNPROVEN, "a test", {})
PROCESS = """
import socket, sys
from koc_qt.domain.state import Badge
from koc_qt.sdk.channel import Ready
from koc_qt.worker import run
with socket.socket(fileno=int(sys.argv[1])) as channel:
    sys.exit(run(channel, Ready(1, Badge.UNPROVEN, "a test", {})))
"""

QUIET = """
from koc_qt.sdk import Strategy, param

class Mine(Strategy):
    '''Do nothing.'''
    size: float = param(1.0, low=0.5)
    def on_bar(self, bar): ...
"""

M = TypeVar("M")


def on_bar(*lines: str, more: str = "") -> str:
    """Give a strategy with this in its on_bar, which begins at line 5."""
    body = "".join(f"\n        {line}" for line in lines)
    return f"from koc_qt.sdk import Strategy\n\nclass Mine(Strategy):\n    def on_bar(self, bar):{body}\n{more}"


class Host:
    """Sends to the worker, and keeps all that it says."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.said: list[WorkerMessage] = []
        self.code: int | None = None
        self._reader = FrameReader()

    def send(self, *messages: HostMessage) -> None:
        """Send them; a worker that has ended meanwhile has said why, and that is what a test looks at."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.channel.sendall(b"".join(map(frame, messages)))

    def read(self, timeout_s: float = 0.05) -> bool:
        """Take what has come; False once the worker has closed its end."""
        self.channel.settimeout(timeout_s)
        try:
            data = self.channel.recv(1 << 16)
        except TimeoutError:
            return True
        except ConnectionError:
            return False
        self.said += map(decode_worker, self._reader.feed(data))
        return bool(data)

    def of(self, kind: type[M]) -> list[M]:
        return [message for message in self.said if isinstance(message, kind)]

    def wait_for(self, kind: type[M], condition: Callable[[M], bool] = lambda _: True, timeout_s: float = 10) -> M:
        """Give the first message of a kind that meets a condition."""
        deadline = time.monotonic() + timeout_s * PATIENCE
        while time.monotonic() < deadline:
            for message in self.of(kind):
                if condition(message):
                    return message
            assert self.read(), f"the worker ended without a {kind.__name__}; it said {self.said}"
        raise AssertionError(f"no {kind.__name__} within {timeout_s} s; the worker said {self.said}")

    def finish(self, timeout_s: float = 10) -> int:
        """Read to the end and give the exit code."""
        deadline = time.monotonic() + timeout_s * PATIENCE
        while self.read():
            assert time.monotonic() < deadline, f"the worker does not end; it said {self.said}"
        return wait_until(lambda: None if self.code is None else (self.code,), what="the exit code")[0]

    def start(self, source: str | bytes, *, wait: bool = True, **options: Any) -> None:
        """Send StartRun, and wait until the strategy is running."""
        self.send(start_run(source, **options))
        if wait:
            self.wait_for(Running)

    def lines(self) -> list[tuple[str, str]]:
        return [(line.level, line.text) for line in self.of(LogLine)]

    def failure(self) -> Failed:
        """Wait for the worker's failure."""
        failed = self.wait_for(Failed)
        assert self.finish() == 1
        return failed

    def load_failure(self) -> LoadFailed:
        """Wait for the worker's refusal to load."""
        failed = self.wait_for(LoadFailed)
        assert self.finish() == 1
        return failed

    @property
    def heartbeats(self) -> list[Heartbeat]:
        return self.of(Heartbeat)


def start_run(source: str | bytes, *, instruments: tuple[Instrument, ...] = (BTC,), **changes: Any) -> StartRun:
    fields: dict[str, Any] = {
        "strategy_id": "s",
        "source": source if isinstance(source, bytes) else dedent(source).encode(),
        "filename": FILENAME,
        "parameters": {},
        "instruments": instruments,
        "timeframe": "1m",
        "cash": {"USDT": Decimal(100_000)},
        "positions": (),
        "open_orders": (),
        "time_ns": START_NS,
        "seed": 1,
        "heartbeat_s": 1.0,
    }
    return StartRun(**fields | changes)


@contextmanager
def in_thread() -> Iterator[Host]:
    """Run a worker in a thread of this process; it has ended when this exits."""
    ours, theirs = socket.socketpair()
    host = Host(ours)

    def work() -> None:
        with theirs:
            host.code = run(theirs, READY)

    thread = threading.Thread(target=work, name="worker", daemon=True)
    thread.start()
    try:
        with ours:
            yield host
    finally:
        thread.join(10 * PATIENCE)
        assert not thread.is_alive(), "the worker does not end when its channel is closed"


@contextmanager
def in_process(*, address_space_mb: int = 0) -> Iterator[tuple[Host, subprocess.Popen[bytes]]]:
    """Run a worker in a process of its own; it is killed when this exits and it still runs."""
    ours, theirs = socket.socketpair()
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({address_space_mb << 20},) * 2)\n"
    code = (limit if address_space_mb else "") + PROCESS
    with ours:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-c", code, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        try:
            yield Host(ours), process
        finally:
            process.kill()
            process.wait(10 * PATIENCE)
