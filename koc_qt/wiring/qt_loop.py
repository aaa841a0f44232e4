"""The asyncio loop of a process with Qt: made, closed, and ended in the thread that made it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import shiboken6
from PySide6.QtCore import QCoreApplication
from qasync import QEventLoop


@contextlib.contextmanager
def qt_loop(application: QCoreApplication) -> Iterator[QEventLoop]:
    """Give an asyncio loop on the application's own, closed afterwards.

    qasync leaves the Qt timers of a closed loop, those of cancelled timeouts among them, to Python's garbage collector.
    That runs in whichever thread happens to allocate; Qt cannot stop timers from another thread than theirs, and calls
    what is gone when they are due: a segmentation fault. So they end here.
    """
    loop = QEventLoop(application)
    timers = loop._timer
    timers.setParent(application)  # what has a parent is no garbage, however this block is left
    try:
        with contextlib.closing(loop):
            yield loop
    finally:
        shiboken6.delete(timers)
