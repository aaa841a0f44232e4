"""The asyncio loop of a process with Qt: made, closed, and ended in the thread that made it."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import Context
from types import ModuleType
from typing import Any

import shiboken6
from PySide6.QtCore import QCoreApplication, QObject, Qt, QTimerEvent, Signal

TURN_S = 0.002  # callbacks run for at most so long at a stretch; then Qt's own events get their turn
_CANCELLED_KEPT = 100  # timers; more are swept out once they may be the larger part
_DAY_MS = 86_400_000  # the longest that a Qt timer is asked for


@contextlib.contextmanager
def _without_a_desktop() -> Iterator[None]:
    """Let qasync be imported without QtGui and QtWidgets, which it names and, given an application, never uses.

    They take 12 MB and load OpenGL, X11 and D-Bus, which a server does not have. Whoever imports them later gets them.
    """
    stand_ins = {name: ModuleType(name) for name in ("PySide6.QtGui", "PySide6.QtWidgets") if name not in sys.modules}
    for module in stand_ins.values():
        module.__dict__["QApplication"] = QCoreApplication
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]


with _without_a_desktop():
    from qasync import QEventLoop


class _Turns(QObject):
    """Callbacks that are due, and those that will be: in all two Qt timers, whatever there is to do."""

    _woken = Signal()

    def __init__(self, waits: Callable[[], bool] | None) -> None:
        super().__init__()
        self._waits = waits
        self._due: deque[asyncio.Handle] = deque()
        self._later: list[asyncio.TimerHandle] = []
        self._cancelled = 0  # timers cancelled since the last sweep
        self._due_timer = self._later_timer = 0
        self._wakes_s = math.inf  # when `_later_timer` goes off
        self._waking = False  # a thread's word is on its way
        self._ended = False
        self._lock = threading.Lock()  # no thread may speak to what is being deleted
        self._woken.connect(self._wake_up, Qt.ConnectionType.QueuedConnection)

    def soon(self, handle: asyncio.Handle) -> None:
        """Have it run in the next turn."""
        self._due.append(handle)
        if not self._due_timer:
            self._due_timer = self.startTimer(0)

    def from_thread(self, handle: asyncio.Handle) -> None:
        """Have it run in the next turn; from any thread. Raises RuntimeError once the loop has ended."""
        with self._lock:
            if self._ended:
                raise RuntimeError("Event loop is closed")
            self._due.append(handle)
            if not self._waking:
                self._waking = True
                self._woken.emit()

    def later(self, handle: asyncio.TimerHandle) -> None:
        """Have it run at its time."""
        heapq.heappush(self._later, handle)
        if handle.when() < self._wakes_s:
            self._wake_at(handle.when())

    def note_cancelled(self) -> None:
        """Note that a timer will not be run: most timeouts end so, long before their time."""
        self._cancelled += 1
        if self._cancelled > max(_CANCELLED_KEPT, len(self._later) // 2):
            self._later = [each for each in self._later if not each.cancelled()]
            heapq.heapify(self._later)
            self._cancelled = 0

    def end(self) -> None:
        """Run nothing any more, and go."""
        with self._lock:
            self._ended = True
            self._due.clear()
            self._later.clear()
        shiboken6.delete(self)

    def timerEvent(self, event: QTimerEvent) -> None:  # noqa: N802 - Qt's name
        """Run what was due when the turn began, or see what has become due."""
        self.killTimer(event.timerId())
        if event.timerId() == self._later_timer:
            self._later_timer = 0
            self._look()
        elif self._waits is not None and self._waits():
            self._due_timer = self.startTimer(0)
        else:
            self._due_timer = 0
            self._run_due()

    def _wake_up(self) -> None:
        self._waking = False
        if self._due and not self._due_timer:
            self._due_timer = self.startTimer(0)

    def _run_due(self) -> None:
        due, until_s = self._due, time.monotonic() + TURN_S
        if len(due) > 1:
            # Qt does not repeat a timer that is being handled: the rest would wait for a callback that runs a loop of
            # its own, as a file dialog does
            self._due_timer = self.startTimer(0)
        while due:
            handle = due.popleft()
            if not handle.cancelled():
                handle._run()
            if time.monotonic() > until_s:
                break
        if due and not self._due_timer:
            self._due_timer = self.startTimer(0)
        elif self._due_timer and not due:
            self.killTimer(self._due_timer)
            self._due_timer = 0

    def _look(self) -> None:
        now_s, later = time.monotonic(), self._later
        while later and (later[0].cancelled() or later[0].when() <= now_s):
            handle = heapq.heappop(later)
            if not handle.cancelled():
                self.soon(handle)
        self._wake_at(later[0].when() if later else math.inf)

    def _wake_at(self, when_s: float) -> None:
        if self._later_timer:
            self.killTimer(self._later_timer)
            self._later_timer = 0
        self._wakes_s = when_s
        if when_s < math.inf:
            left_ms = max(math.ceil((when_s - time.monotonic()) * 1000), 0)
            self._later_timer = self.startTimer(min(left_ms, _DAY_MS), Qt.TimerType.PreciseTimer)


class _Loop(QEventLoop):  # type: ignore[misc]  # qasync has no types
    """qasync's loop with its callbacks run in turns: qasync starts and ends a Qt timer for every one of them.

    With a stream of 1,000 messages a second that is a third of a processor, and every step of an order waits for it.
    """

    def __init__(self, application: QCoreApplication, waits: Callable[[], bool] | None) -> None:
        self.turns = _Turns(waits)
        super().__init__(application)

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:
        """Run a callback in the next turn."""
        handle = asyncio.Handle(callback, args, self, context)
        self.turns.soon(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Run a callback in the next turn; from any thread. Raises RuntimeError once the loop is closed."""
        handle = asyncio.Handle(callback, args, self, context)
        self.turns.from_thread(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run a callback after a delay, in seconds."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run a callback at a time of the loop's clock."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.turns.later(handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self.turns.note_cancelled()

    def _add_callback(self, handle: asyncio.Handle, delay: float = 0) -> asyncio.Handle:
        self.turns.soon(handle)  # from signal handlers and notifiers, which never wait
        return handle


@contextlib.contextmanager
def qt_loop(application: QCoreApplication, waits: Callable[[], bool] | None = None) -> Iterator[QEventLoop]:
    """Give an asyncio loop on the application's own, closed afterwards.

    `waits` is asked before callbacks are run, whether they shall wait for another turn of the loop, as Qt has used this
    one up; it must not say so for ever.

    A closed loop must not leave Qt timers to Python's garbage collector. That runs in whichever thread happens to
    allocate; Qt cannot stop timers from another thread than theirs, and calls what is gone when they are due: a
    segmentation fault. So they end here.
    """
    loop = _Loop(application, waits)
    timers = loop._timer  # qasync's own, of no more use
    for each in (timers, loop.turns):
        each.setParent(application)  # what has a parent is no garbage, however this block is left
    try:
        with contextlib.closing(loop):
            yield loop
    finally:
        loop.turns.end()
        shiboken6.delete(timers)
