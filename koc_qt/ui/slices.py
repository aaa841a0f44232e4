"""Long work of the window's thread, a few milliseconds a turn of the loop, so that nobody waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter_ns
from typing import Any, ClassVar

from PySide6.QtCore import QObject, QTimer

from koc_qt.ui.turns import Patience

BUDGET_NS = 3_000_000  # a turn: what else happens in it, painting above all, needs the rest of 16 ms
_SAME_TURN_NS = 500_000
_LET_GO = 500


def let_go(things: list[Any]) -> Iterator[None]:
    """Empty a list that was the last to hold thousands of objects: ending them takes as long as making them."""
    while things:
        del things[-_LET_GO:]
        yield


class Slices(QObject):
    """Carries one piece of work on, a generator that yields every millisecond or sooner; it ends with its parent.

    However many of these there are in a window, one alone works in a turn: the one that began keeps on until it has
    ended, and the others wait.
    """

    _latest: ClassVar[int] = 0  # whose turn it was, and until when
    _ended_ns: ClassVar[int] = 0

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._work: Iterator[None] | None = None
        self._patience = Patience()
        self._timer = QTimer(self)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._carry_on)

    @property
    def is_busy(self) -> bool:
        """Whether there is something left to do."""
        return self._work is not None

    def start(self, work: Iterator[None], *, at_once: bool = False) -> None:
        """Do this instead of what is left of anything before; `at_once` is for what is known to be little."""
        self.cancel()
        if at_once:
            for _ in work:
                pass
            return
        self._work = work
        self._timer.start()

    def cancel(self) -> None:
        """Leave the rest undone."""
        self._work = None
        self._timer.stop()

    def _carry_on(self) -> None:
        now_ns = perf_counter_ns()
        if Slices._latest != id(self) and now_ns - Slices._ended_ns < _SAME_TURN_NS:
            return
        if self._patience.waits():
            return
        until_ns, work = now_ns + BUDGET_NS, self._work
        try:
            while self._work is work and work is not None and perf_counter_ns() < until_ns:
                next(work)
        except BaseException as error:
            if self._work is work:  # it may have begun the next
                self.cancel()
            if not isinstance(error, StopIteration):
                raise
        finally:
            Slices._latest = id(self) if self.is_busy else 0
            Slices._ended_ns = perf_counter_ns()
