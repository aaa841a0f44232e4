"""Where a window begins: its engine first, which loads on another core while this process loads asyncio, link and Qt.

So this module loads none of these; wiring/window_loop.py, which it loads then, does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from koc_qt.domain.errors import KocError
from koc_qt.paths import Paths, profile_paths
from koc_qt.scrub import scrub
from koc_qt.wiring.engine_process import let_go, spawn_where_none_runs
from koc_qt.wiring.garbage import Collector, collector_at_rest
from koc_qt.wiring.window_options import WindowOptions

if TYPE_CHECKING:
    from koc_qt.ui.window import MainWindow
    from koc_qt.wiring.window_loop import Observer

COLLECT_EVERY_MS = 10_000


def main(options: WindowOptions, paths: Paths | None = None, observe: Observer = lambda _window: None) -> int:
    """Show the window until it is closed; gives the exit code. `observe` is given the window once. Raises KocError."""
    with collector_at_rest() as collector, _signals() as ending:

        def shown(window: MainWindow) -> None:
            _collect_now_and_then(window, collector)
            observe(window)

        try:
            _run(options, paths or profile_paths(), shown, ending)
        except KocError as error:
            if is_alone():
                from koc_qt.ui.refusal import show_refusal

                show_refusal(scrub(str(error)), ending.closing)
            raise
    return 0


def is_alone() -> bool:
    """Whether nobody would see what is written to the terminal: an installed copy that was started by its icon."""
    is_seen = sys.stderr is not None and sys.stderr.isatty()
    return bool(getattr(sys, "frozen", False)) and not is_seen and os.environ.get("QT_QPA_PLATFORM") != "offscreen"


class Ending:
    """Remembers that the process was told to end, until there is a window that can be closed."""

    def __init__(self) -> None:
        self._is_wanted = False
        self._close: Callable[[], object] | None = None

    def want(self, _number: int, _frame: object) -> None:
        """Note it; handles signals."""
        self._is_wanted = True
        if self._close is not None:
            self._close()

    @contextlib.contextmanager
    def closing(self, close: Callable[[], object]) -> Iterator[None]:
        """Have this called from now on, at once where the signal has come already. It may be called twice."""
        self._close = close
        if self._is_wanted:
            close()
        try:
            yield
        finally:
            self._close = None


def _run(options: WindowOptions, paths: Paths, observe: Observer, ending: Ending) -> None:
    paths.ensure()
    # It begins once there is a window.
    spawned = spawn_where_none_runs(paths) if options.endpoint is None else None
    try:
        from koc_qt.wiring.window_loop import show

        show(options, paths, spawned, observe, ending)
    finally:
        if spawned is not None:
            let_go(spawned)


def _collect_now_and_then(window: MainWindow, collector: Collector) -> None:
    """Have the collector look, in turns of the loop that are not used up, once the window is filled."""
    from PySide6.QtCore import QTimer

    from koc_qt.ui.turns import Patience

    patience = Patience()

    def look() -> None:
        if patience.waits():
            QTimer.singleShot(0, window, look)
        else:
            collector.look()

    timer = QTimer(window)
    timer.setInterval(COLLECT_EVERY_MS)
    timer.timeout.connect(look)
    window.workspace.filled.connect(collector.loaded)
    window.workspace.filled.connect(timer.start)


@contextlib.contextmanager
def _signals() -> Iterator[Ending]:
    """Close the window, and the window alone, on Ctrl-C, SIGTERM and a terminal that is closed.

    From before Qt is loaded until it has ended: an exception out of nowhere makes it crash, or is lost in it.
    """
    ending = Ending()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, ending.want) for number in numbers}
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
