"""One build of installers after the other: what is missing first, then the build, all of it read a little at a time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from enum import StrEnum
from time import perf_counter_ns

from PySide6.QtCore import QObject, QTimer, Signal

from koc_qt.ui.panels.deploy_build_book import Book
from koc_qt.ui.panels.deploy_build_events import MOST_ROWS, Failed, Lines, LogLine, Plan, event_of, shown
from koc_qt.ui.panels.deploy_build_place import Place, build_place
from koc_qt.ui.panels.deploy_build_process import BuildProcess
from koc_qt.ui.turns import Patience

LINES_KEPT = 5_000  # of the log; the whole of it is in the file that the build writes
STOP_S = 30.0  # that a build may take to end in order
_TICK_MS = 30
_BUSY_MS = 4
_BUDGET_NS = 3_000_000  # a turn of the window's loop
_KILL_AGAIN_S = 2.0
_LATE_OUTPUT_S = 2.0  # after its end, while what it started still holds its output
_WORDS_KEPT = 300  # characters


class Phase(StrEnum):
    """What is under way, or how the last came out."""

    IDLE = "idle"
    CHECKING = "checking"
    FETCHING = "fetching"
    BUILDING = "building"
    MISSING = "missing"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


AT_WORK = (Phase.CHECKING, Phase.FETCHING, Phase.BUILDING)


class BuildRun(QObject):
    """Runs one target at a time. Of one that is told to stop and does not within `stop_s`, everything is killed.

    `changed` is emitted when the phase or the book has changed, `logged` brings a list of new lines; both come at most
    once a tick. The end of this object ends the process: in order, if that takes moments alone.
    """

    changed = Signal()
    logged = Signal(list)

    def __init__(
        self,
        parent: QObject,
        *,
        find: Callable[[], Place] = build_place,
        clock_s: Callable[[], float] = time.monotonic,
        stop_s: float = STOP_S,
    ) -> None:
        super().__init__(parent)
        self._find = find
        self._clock_s = clock_s
        self._stop_s = stop_s
        self.phase = Phase.IDLE
        self.target = ""
        self.with_test = False
        self.is_stopping = False
        self.book = Book(clock_s)
        self.began_s = 0.0
        self.took_s = 0.0
        self._lines = Lines()
        self._unread: Iterator[bytes] = iter(())
        self._fresh: deque[str] = deque(maxlen=LINES_KEPT)
        self._last_words = ""
        self._has_news = False
        self._is_read = False
        self._kill_at_s = 0.0
        self._ended_s: float | None = None
        self._patience = Patience()
        self._held: list[BuildProcess] = []  # the one that runs; a list that what ends it shares
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._tick)
        held = self._held
        self.destroyed.connect(lambda: _end(held))

    @property
    def is_running(self) -> bool:
        """Whether something is under way."""
        return self.phase in AT_WORK

    def elapsed_s(self) -> float:
        """How long it has been at work, or was."""
        return self._clock_s() - self.began_s if self.is_running else self.took_s

    def place(self) -> Place:
        """Find where installers are built from, now."""
        return self._find()

    def start(self, target: str, *, with_test: bool = False) -> None:
        """See what is missing; where nothing is, build. Does nothing while something is under way."""
        if not self.is_running:
            self.target, self.with_test = target, with_test
            self.is_stopping = False
            self._begin(Phase.CHECKING, "--check")

    def fetch(self, *, with_test: bool = False) -> None:
        """Fetch what is missing and can be fetched, and build where nothing is missing then."""
        if not self.is_running and self.target:
            self.with_test, self.is_stopping = with_test, False
            self._begin(Phase.FETCHING, "--fetch")

    def cancel(self) -> None:
        """Have it end in order; by force where it does not."""
        if self.is_running and not self.is_stopping:
            self.is_stopping = True
            self._kill_at_s = self._clock_s() + self._stop_s
            for process in self._held:
                process.interrupt()
            self.changed.emit()

    # ---- one process ------------------------------------------------------------------------------------------------

    def _begin(self, phase: Phase, *options: str) -> None:
        self.book = Book(self._clock_s)
        self._lines, self._unread, self._is_read = Lines(), iter(()), False
        self._last_words, self._ended_s = "", None
        self.began_s = self._clock_s()
        place = self.place()
        if place.problem:
            self._fail(place.problem)
            return
        tested = ["--test"] if self.with_test else []
        try:
            process = BuildProcess([*place.command, self.target, *options, *tested, "--json"], place.folder)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self._fail(f"{place.command[0]} could not be started: {reason}")
            return
        self.phase = phase
        self._held.append(process)
        self._timer.start(_TICK_MS)
        self.changed.emit()

    def _fail(self, words: str, advice: str = "") -> None:
        self.book.failure = self.book.failure or Failed(words, advice=advice)
        self._become(Phase.FAILED)

    def _become(self, phase: Phase) -> None:
        self.took_s = self._clock_s() - self.began_s
        self.phase = phase
        self._has_news = False
        self._flush()
        self.changed.emit()

    def _tick(self) -> None:
        if self._patience.waits():
            return
        process = self._held[0]
        is_busy = self._read(process)
        if self.is_stopping and self._clock_s() > self._kill_at_s:
            self._kill_at_s = self._clock_s() + _KILL_AGAIN_S
            process.kill()
        if process.code() is not None and ((self._is_read and not is_busy) or self._is_late()):
            self._timer.stop()
            self._take_last()
            process.close()
            self._held.clear()
            self._ended(process.code() or 0)
            return
        self._timer.setInterval(_BUSY_MS if is_busy else _TICK_MS)
        self._flush()
        if self._has_news:
            self._has_news = False
            self.changed.emit()

    def _is_late(self) -> bool:
        """Whether the process ended a while ago, and something that it started still holds its output."""
        if self._ended_s is None:
            self._ended_s = self._clock_s()
        return self._clock_s() - self._ended_s > _LATE_OUTPUT_S

    def _read(self, process: BuildProcess) -> bool:
        """Read for some milliseconds; True where there may be more."""
        until_ns = perf_counter_ns() + _BUDGET_NS
        while perf_counter_ns() < until_ns:
            line = next(self._unread, None)
            if line is not None:
                self._take(line)
                continue
            data = None if self._is_read else process.read()
            if not data:
                self._is_read = self._is_read or data == b""
                return False
            self._unread = self._lines.feed(data)
        return True

    def _take_last(self) -> None:
        if line := self._lines.last():
            self._take(line)

    def _take(self, line: bytes) -> None:
        event = event_of(line)
        if isinstance(event, LogLine):
            for text in event.text.splitlines()[:MOST_ROWS] or [""]:
                self._fresh.append(shown(text))
            self._last_words = self._fresh[-1] or self._last_words
        else:
            self.book.take(event)
            self._has_news = True
            if isinstance(event, Plan) and self.phase is Phase.FETCHING:
                self.phase = Phase.BUILDING  # all that was missing is there, and it goes on by itself

    def _flush(self) -> None:
        if self._fresh:
            lines = list(self._fresh)
            self._fresh.clear()
            self.logged.emit(lines)

    # ---- what comes next --------------------------------------------------------------------------------------------

    def _ended(self, code: int) -> None:
        phase, book = self.phase, self.book
        book.stop(is_cancelled=self.is_stopping)
        is_good = code == 0 and book.is_ok is True and book.failure is None
        if phase is Phase.BUILDING and is_good and book.results:
            self._become(Phase.DONE)
        elif self.is_stopping:
            self._become(Phase.CANCELLED)
        elif book.needs and book.failure is None:
            self._become(Phase.MISSING)
        elif not is_good:
            self._fail(self._why(code))
        elif phase is Phase.CHECKING:
            self._begin(Phase.BUILDING)
        else:
            self._fail("The build says that it is done, and names no file that it made.")

    def _why(self, code: int) -> str:
        """Say how it ended where it has not said so itself."""
        what = {Phase.CHECKING: "check", Phase.FETCHING: "fetching"}.get(self.phase, "build")
        if code < 0:
            how = f"was killed from outside (signal {-code}); the machine may have run out of memory"
        elif self.book.is_ok is None:
            how = f"broke off with code {code}"
        else:
            how = f"failed with code {code}"
        said = f". The last it said: {self._last_words[:_WORDS_KEPT]}" if self._last_words else " and said nothing"
        return f"The {what} {how}{said}"


def _end(processes: list[BuildProcess]) -> None:
    """End what runs when whoever reads it goes."""
    for process in processes:
        process.end()
