"""How long each turn of the window's loop keeps it from the person: the watch over "nothing above 16 ms".

A turn is what the loop does between two looks at its inputs. Qt's own `awake` and `aboutToBlock` do not enclose it: on
Linux both of Qt's dispatchers call timers and sockets between the two. So it is measured elsewhere:

- where Qt runs on GLib, as it does on Linux desktops, around GLib's poll function, the one place where the loop sleeps
  (g_main_context_set_poll_func, GLib's reference manual). Exact, at 2 to 3 microseconds a turn; waiting for another
  thread to let go of Python counts as sleep;
- elsewhere by a heartbeat of 5 ms: what comes late was held up. Shows up to 5 ms less than there was.

Both see what matters to a person: a nested loop, a menu or a system's modal dialog goes on looking at its inputs, and
so is no stall.
"""

from __future__ import annotations

import atexit
import ctypes
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from PySide6.QtCore import QAbstractEventDispatcher, QEvent, QMetaObject, QObject, Qt, QTimer, Signal, Slot
from PySide6.QtWidgets import QWidget

from koc_qt.ui.turns import turn_began

LIMIT_MS = 16.0
KEPT_S = 120
HEARTBEAT_MS = 5
_MS = 1_000_000
_S = 1_000_000_000
_BUCKET_SHIFT = 18  # buckets of 2**18 ns, 0.26 ms; the last has all that is longer
_BUCKETS = 256
_ASLEEP_NS = 60 * _S  # a heartbeat that is later than this: the machine was suspended
_TELL_EVERY_NS = _S

Clock = Callable[[], int]
Turned = Callable[[int, int], None]


@dataclass(frozen=True)
class FrameStats:
    """How the loop does, in milliseconds a turn; `stalls` counts turns above 16 ms.

    `longest_second_ms` is that of the present and the last whole second; `maxima_ms` has the longest of each of the
    last 120 seconds, oldest first, without the present one. Counts, `longest_ms` and `p99_ms` are since the start.
    """

    longest_second_ms: float = 0.0
    longest_minute_ms: float = 0.0
    longest_ms: float = 0.0
    p99_ms: float = 0.0
    turns: int = 0
    stalls: int = 0
    paints_per_s: float = 0.0
    maxima_ms: tuple[float, ...] = ()


class TurnRecord:
    """Keeps what was measured: a maximum a second, and a histogram. Times are nanoseconds of any steady clock."""

    def __init__(self, now_ns: int) -> None:
        self._second = now_ns // _S
        self._max_ns = 0
        self._longest_ns = 0
        self._stalls = 0
        self._maxima_ms: deque[float] = deque(maxlen=KEPT_S)
        self._histogram = [0] * _BUCKETS
        self._paints = 0
        self._paints_last_s = 0

    def add(self, now_ns: int, busy_ns: int) -> bool:
        """Take a turn that ended now; gives whether it was a stall."""
        if now_ns // _S != self._second:
            self._roll(now_ns // _S)
        bucket = busy_ns >> _BUCKET_SHIFT
        self._histogram[bucket if bucket < _BUCKETS else -1] += 1
        if busy_ns > self._max_ns:
            self._max_ns = busy_ns
        if busy_ns <= LIMIT_MS * _MS:
            return False
        self._stalls += 1
        self._longest_ns = max(self._longest_ns, busy_ns)
        return True

    def painted(self, now_ns: int) -> None:
        """Count a paint."""
        if now_ns // _S != self._second:
            self._roll(now_ns // _S)
        self._paints += 1

    def stats(self, now_ns: int) -> FrameStats:
        """Give the figures as of now."""
        if now_ns // _S != self._second:
            self._roll(now_ns // _S)
        present = self._max_ns / _MS
        maxima = tuple(self._maxima_ms)
        return FrameStats(
            longest_second_ms=max((present, *maxima[-1:])),
            longest_minute_ms=max((present, *maxima[-60:])),
            longest_ms=max(self._longest_ns, self._max_ns) / _MS,
            p99_ms=self._p99_ms(),
            turns=sum(self._histogram),
            stalls=self._stalls,
            paints_per_s=float(self._paints_last_s),
            maxima_ms=maxima,
        )

    def _roll(self, second: int) -> None:
        """Begin a new second; those in which nothing was measured had nothing long in them."""
        self._longest_ns = max(self._longest_ns, self._max_ns)
        self._maxima_ms.append(self._max_ns / _MS)
        self._maxima_ms.extend([0.0] * min(second - self._second - 1, KEPT_S))
        self._paints_last_s = self._paints if second == self._second + 1 else 0
        self._second, self._max_ns, self._paints = second, 0, 0

    def _p99_ms(self) -> float:
        """Give the upper end of the bucket that holds the 99th of a hundred turns; of the last, the longest turn."""
        left = sum(self._histogram) * 0.99
        if not left:
            return 0.0
        for bucket, count in enumerate(self._histogram[:-1]):
            left -= count
            if left <= 0:
                return ((bucket + 1) << _BUCKET_SHIFT) / _MS
        return max(self._longest_ns, self._max_ns) / _MS


class Probe(Protocol):
    """Something that hears when turns begin and end."""

    def start(self) -> None:
        """Begin to measure the loop of this thread."""
        ...

    def stop(self) -> None:
        """Measure no more. Safe to call twice."""
        ...


class GlibProbe:
    """Measures between two calls of GLib's poll function. For the main thread, whose context GLib's default one is."""

    def __init__(self, turned: Turned, clock_ns: Clock) -> None:
        self._turned = turned
        self._clock_ns = clock_ns
        self._glib: Any = None
        self._context: int | None = None
        self._original: int | None = None
        self._hook: Any = None

    @staticmethod
    def suits() -> bool:
        """Whether this thread's loop is one of GLib's, and GLib can be reached."""
        dispatcher: QObject | None = QAbstractEventDispatcher.instance()
        meta: QMetaObject | None = dispatcher.metaObject() if dispatcher else None
        while meta:
            if meta.className() == "QEventDispatcherGlib":
                return _glib() is not None
            meta = meta.superClass()
        return False

    def start(self) -> None:
        """Put a poll function before GLib's own."""
        glib = _glib()
        if self._original is not None or glib is None:
            return
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)  # GPollFunc
        context, clock_ns, turned = glib.g_main_context_default(), self._clock_ns, self._turned
        original = glib.g_main_context_get_poll_func(context)
        wait = kind(original)
        since_ns = clock_ns()

        def poll(descriptors: int, count: int, timeout_ms: int) -> int:
            nonlocal since_ns
            now_ns = clock_ns()
            turned(now_ns, now_ns - since_ns)
            events: int = wait(descriptors, count, timeout_ms)
            since_ns = clock_ns()
            turn_began()
            return events

        self._hook = kind(poll)
        self._glib, self._context, self._original = glib, context, original
        glib.g_main_context_set_poll_func(context, ctypes.cast(self._hook, ctypes.c_void_p))
        atexit.register(self.stop)  # a hook must not outlive Python

    def stop(self) -> None:
        """Give GLib its own poll function back."""
        if self._original is None:
            return
        self._glib.g_main_context_set_poll_func(self._context, self._original)
        self._original = None
        turn_began(is_known=False)
        atexit.unregister(self.stop)


class HeartbeatProbe(QObject):
    """Measures how late a timer is."""

    def __init__(self, turned: Turned, clock_ns: Clock, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._turned = turned
        self._clock_ns = clock_ns
        self._last_ns = 0
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(HEARTBEAT_MS)
        self._timer.timeout.connect(self._beat)

    def start(self) -> None:
        """Begin."""
        self._last_ns = self._clock_ns()
        self._timer.start()

    def stop(self) -> None:
        """End."""
        self._timer.stop()

    @Slot()
    def _beat(self) -> None:
        now_ns = self._clock_ns()
        late_ns, self._last_ns = now_ns - self._last_ns - HEARTBEAT_MS * _MS, now_ns
        if late_ns < _ASLEEP_NS:
            self._turned(now_ns, max(late_ns, 0))


class FrameMonitor(QObject):
    """Watches the loop of the thread that starts it, the main one.

    `stalled` brings the milliseconds of a turn above 16 ms, at most once a second, soon after; `stats` has them all.
    """

    stalled = Signal(float)
    _noted = Signal(float)

    def __init__(self, parent: QObject | None = None, *, clock_ns: Clock = time.perf_counter_ns) -> None:
        super().__init__(parent)
        self._clock_ns = clock_ns
        self._record = TurnRecord(clock_ns())
        self._told_ns: int | None = None
        self._probe: Probe | None = None
        self.is_running = False
        # Queued: inside a poll function, which is between two turns, nobody's slot may run.
        self._noted.connect(self.stalled, Qt.ConnectionType.QueuedConnection)

    def start(self) -> None:
        """Begin to measure; what was measured before is kept. `stop` must follow."""
        if not self.is_running:
            self._probe = self._probe or self._choose()
            self._probe.start()
            self.is_running = True

    def stop(self) -> None:
        """Measure no more. Safe to call twice."""
        if self._probe is not None:
            self._probe.stop()
        self.is_running = False

    def reset(self) -> None:
        """Forget what was measured."""
        self._record = TurnRecord(self._clock_ns())

    def count_paints(self, window: QWidget) -> None:
        """Count how often a top-level window paints: its update requests, of which each stands for one paint."""
        window.installEventFilter(self)

    def stats(self) -> FrameStats:
        """Give the figures as of now."""
        return self._record.stats(self._clock_ns())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Count the update requests of windows."""
        if event.type() is QEvent.Type.UpdateRequest:
            self._record.painted(self._clock_ns())
        return False

    def _choose(self) -> Probe:
        if GlibProbe.suits():
            return GlibProbe(self._turned, self._clock_ns)
        return HeartbeatProbe(self._turned, self._clock_ns, self)

    def _turned(self, now_ns: int, busy_ns: int) -> None:
        if not self._record.add(now_ns, busy_ns):
            return
        if self._told_ns is None or now_ns - self._told_ns >= _TELL_EVERY_NS:
            self._told_ns = now_ns
            self._noted.emit(busy_ns / _MS)


def _glib() -> Any:
    """Give the GLib that Qt has loaded, with the types of what is used of it; None where there is none."""
    try:
        glib = ctypes.CDLL("libglib-2.0.so.0")
        glib.g_main_context_default.restype = ctypes.c_void_p
        glib.g_main_context_get_poll_func.restype = ctypes.c_void_p
        glib.g_main_context_get_poll_func.argtypes = [ctypes.c_void_p]
        glib.g_main_context_set_poll_func.restype = None
        glib.g_main_context_set_poll_func.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    except (OSError, AttributeError):
        return None
    return glib
