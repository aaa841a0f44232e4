"""The newest lines of the log, and their way to clients.

Lines of strategies come on the bus, those of the engine from the log itself, in any thread. What a strategy logs in a
loop must not drown the link, and never keeps the engine's own lines from it: each of the two has an allowance. A line
that telling clients causes is kept and not told, or it would cause the next one.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable

from koc_qt.domain.errors import InvalidOrder
from koc_qt.engine.strategy_words import LONGEST_LINE, SOURCE, Allowance, clip
from koc_qt.link.messages import LogRecorded
from koc_qt.logger import LogEntry, listen
from koc_qt.ports.clock import Clock
from koc_qt.scrub import scrub

ENGINE = "engine"
LINES_KEPT = 2_000
CHARACTERS_KEPT = 4_000_000  # of all lines together: an answer to a client has an end
LONGEST_TEXT = LONGEST_LINE + 100  # a strategy's line that was cut says how much was
LINES_PER_S = 50.0  # to clients, from the engine, and as many from all strategies together
LINES_BURST = 500.0
WAITING_LIMIT = 2_000  # lines of other threads that the loop has not taken yet
TELL_AFTER_S = 1.0  # how many were left out is said this long after the first of them, at the latest
_DETAILS = ("TRACE", "DEBUG")


class LogBook:
    """Keeps the newest lines and hands them to `publish`, on the loop that `start` was called on."""

    def __init__(self, clock: Clock, publish: Callable[[LogRecorded], None]) -> None:
        self._clock = clock
        self._publish = publish
        self._lines: deque[LogRecorded] = deque()
        self._characters = 0
        self._engine = _Gate("of the engine", clock)
        self._strategies = _Gate("of strategies", clock)
        self._lock = threading.RLock()  # guards the four below; a finaliser may log anywhere, also while it is held
        self._waiting: list[tuple[LogEntry, bool]] = []
        self._overflowed = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._end_listening: Callable[[], None] = _nothing
        self._telling: asyncio.TimerHandle | None = None
        self._is_publishing = False

    def start(self) -> None:
        """Take lines from now on, also those of the log, on the running loop."""
        with self._lock:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.get_ident()
        self._end_listening = listen(self.hear)

    def close(self) -> None:
        """Take no more lines. Safe to call twice."""
        self._end_listening()
        with self._lock:
            self._loop = None
            self._waiting.clear()
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None

    def hear(self, entry: LogEntry) -> None:
        """Take a line of the log; the log's listener, called in the thread that logs. Never blocks, raises or logs."""
        if entry.source == SOURCE or entry.level in _DETAILS:
            return  # a strategy's line comes on the bus as well, whatever the log's level
        with self._lock:
            if self._loop is None:
                return
            if len(self._waiting) >= WAITING_LIMIT:
                self._overflowed += 1
                return
            caused = self._is_publishing and threading.get_ident() == self._thread
            self._waiting.append((entry, caused))
            if len(self._waiting) == 1:  # else the loop knows
                # under the lock: `close` comes before the loop's end, and nothing is handed over after it
                self._loop.call_soon_threadsafe(self._take_waiting)

    def record(self, line: LogRecorded) -> None:
        """Take a strategy's line, on the loop."""
        scrubbed = LogRecorded(line.time_ns, line.level, line.source, scrub(line.text))
        self._take(scrubbed, self._strategies)

    def newest(self, count: int) -> list[tuple[int, str, str, str]]:
        """Give up to `count` of the newest lines, oldest first: time (UTC ns), level, source, text.

        Raises InvalidOrder on a count out of range.
        """
        if not 1 <= count <= LINES_KEPT:
            raise InvalidOrder(f"ask for 1 to {LINES_KEPT} lines of the log, not {count}")
        return [(line.time_ns, line.level, line.source, line.text) for line in list(self._lines)[-count:]]

    def _take_waiting(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
            overflowed, self._overflowed = self._overflowed, 0
        for entry, caused in waiting:
            self._take(LogRecorded(entry.time_ns, entry.level, ENGINE, entry.text), self._engine, quiet=caused)
        if overflowed:
            self._leave_out(self._engine, overflowed)

    def _take(self, line: LogRecorded, gate: _Gate, *, quiet: bool = False) -> None:
        if not gate.allowance.take():
            self._leave_out(gate, 1)
            return
        self._tell(gate)
        text = clip(line.text, LONGEST_TEXT).encode("utf-8", "replace").decode()  # half a surrogate has no bytes
        self._keep(LogRecorded(line.time_ns, line.level, line.source, text), quiet=quiet)

    def _leave_out(self, gate: _Gate, count: int) -> None:
        gate.left_out += count
        if self._telling is None and self._loop is not None:
            self._telling = self._loop.call_later(TELL_AFTER_S, self._tell_all)

    def _tell_all(self) -> None:
        self._telling = None
        for gate in (self._engine, self._strategies):
            self._tell(gate)

    def _tell(self, gate: _Gate) -> None:
        if gate.left_out:
            left_out, gate.left_out = gate.left_out, 0
            text = f"{left_out} lines {gate.whose} were left out: they came too fast. The log file has what was logged"
            self._keep(LogRecorded(self._clock.time_ns(), "WARNING", ENGINE, text), quiet=False)

    def _keep(self, line: LogRecorded, *, quiet: bool) -> None:
        self._lines.append(line)
        self._characters += len(line.text)
        while len(self._lines) > LINES_KEPT or self._characters > CHARACTERS_KEPT:
            self._characters -= len(self._lines.popleft().text)
        if quiet or self._is_publishing:
            return
        self._is_publishing = True
        try:
            self._publish(line)
        finally:
            self._is_publishing = False


class _Gate:
    """What one kind of source may still say, and how much of it was left out."""

    def __init__(self, whose: str, clock: Clock) -> None:
        self.whose = whose
        self.allowance = Allowance(LINES_PER_S, LINES_BURST, clock)
        self.left_out = 0


def _nothing() -> None:
    """End what was never begun."""
