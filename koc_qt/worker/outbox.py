"""What the worker says: frames to the engine, and the strategy's prints as log lines."""

from __future__ import annotations

import io
import select
import socket
import threading
from collections.abc import Callable
from time import monotonic

from koc_qt.sdk.channel import LogLine, WorkerMessage, frame
from koc_qt.worker.failure import clean

BUFFER_LIMIT = 1 << 20  # bytes that wait for the engine; beyond it the strategy waits as well
STALL_LIMIT_S = 10.0  # an engine that reads nothing for so long is taken for dead
LOG_LINES_PER_S = 50
LOG_BURST = 200  # lines
LONGEST_LINE = 4_000  # characters


class EngineGone(BaseException):
    """The engine closed the channel, or does not read it. No Exception: a strategy must not catch it by accident."""


class Outbox:
    """Frames on their way to the engine, over a non-blocking socket. Only the worker's own thread sends."""

    def __init__(self, channel: socket.socket, *, stall_limit_s: float = STALL_LIMIT_S) -> None:
        self._channel = channel
        self._stall_limit_s = stall_limit_s
        self._buffer = bytearray()
        self._lock = threading.Lock()  # a strategy may print from a thread of its own
        self._progress_s = monotonic()

    @property
    def pending(self) -> int:
        """Bytes that the engine has not taken yet."""
        return len(self._buffer)

    def put(self, message: WorkerMessage) -> None:
        """Queue a message. Raises ValueError above the frame limit."""
        encoded = frame(message)
        with self._lock:
            if not self._buffer:
                self._progress_s = monotonic()
            self._buffer += encoded

    def flush(self) -> None:
        """Send what the engine takes at once; above BUFFER_LIMIT, wait for it to read. Raises EngineGone."""
        self._send()
        while len(self._buffer) > BUFFER_LIMIT:
            self._wait_writable(self._stall_limit_s)
            self._send()

    def drain(self, timeout_s: float) -> bool:
        """Send all, for at most `timeout_s`; whether that was enough. Raises EngineGone."""
        deadline_s = monotonic() + timeout_s
        self._send()
        while self._buffer and (left_s := deadline_s - monotonic()) > 0:
            self._wait_writable(left_s)
            self._send()
        return not self._buffer

    def _wait_writable(self, timeout_s: float) -> None:
        try:
            select.select([], [self._channel], [], timeout_s)
        except (OSError, ValueError) as error:
            raise EngineGone(f"the channel is closed: {error}") from error

    def _send(self) -> None:
        try:
            while self._buffer:
                with self._lock:
                    del self._buffer[: self._channel.send(self._buffer)]
                self._progress_s = monotonic()
        except BlockingIOError:
            if monotonic() - self._progress_s >= self._stall_limit_s:
                raise EngineGone(f"the engine has read nothing for {self._stall_limit_s:g} s") from None
        except OSError as error:
            raise EngineGone(f"the channel is closed: {error}") from error


class LogGate:
    """Lets LOG_LINES_PER_S lines a second through, LOG_BURST at once; what is beyond is dropped and counted."""

    def __init__(self, put: Callable[[WorkerMessage], None]) -> None:
        self._put = put
        self._tokens = float(LOG_BURST)
        self._filled_s = monotonic()
        self._dropped = 0

    def write(self, level: str, text: str) -> None:
        """Send a line, or count it as dropped."""
        if not self._take_token():
            self._dropped += 1
            return
        self._tell_dropped()
        self._put(LogLine(level, clean(text, LONGEST_LINE)))

    def settle(self, *, at_end: bool = False) -> None:
        """Say how many lines were dropped, once a line may pass again, or at the end."""
        if self._dropped and (at_end or self._take_token()):
            self._tell_dropped()

    def _tell_dropped(self) -> None:
        if self._dropped:
            text = f"{self._dropped} log lines were dropped: a strategy may write {LOG_LINES_PER_S} a second"
            self._dropped = 0
            self._put(LogLine("WARNING", text))

    def _take_token(self) -> bool:
        now_s = monotonic()
        self._tokens = min(LOG_BURST, self._tokens + (now_s - self._filled_s) * LOG_LINES_PER_S)
        self._filled_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class PrintStream(io.TextIOBase):
    """Stands for sys.stdout or sys.stderr: each line that is printed becomes a line of the log."""

    encoding = "utf-8"

    def __init__(self, write_line: Callable[[str, str], None], level: str) -> None:
        self._write_line = write_line
        self._level = level
        self._begun = ""

    def writable(self) -> bool:
        """Whether it can be written to."""
        return True

    def write(self, text: str) -> int:
        """Take text; lines go out as they are complete, or very long."""
        *lines, self._begun = (self._begun + text).split("\n")
        if len(self._begun) > LONGEST_LINE:
            lines.append(self._begun)
            self._begun = ""
        for line in lines:
            self._write_line(self._level, line)
        return len(text)

    def finish(self) -> None:
        """Send a line that was begun and never ended."""
        if self._begun:
            self._write_line(self._level, self._begun)
            self._begun = ""
