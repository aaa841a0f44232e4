"""The asyncio loop of a process with Qt: made, closed, and ended in the thread that made it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType

import shiboken6
from PySide6.QtCore import QCoreApplication


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
