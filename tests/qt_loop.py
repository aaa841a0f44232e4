"""A Qt event loop for tests of what lives on one: qasync over the application that pytest-qt keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from PySide6.QtCore import QCoreApplication

from koc_qt.wiring.qt_loop import qt_loop
from tests.conditions import PATIENCE

T = TypeVar("T")


def run_on_qt(application: QCoreApplication, coroutine: Coroutine[Any, Any, T], timeout_s: float = 60.0) -> T:
    """Run a coroutine on a fresh qasync loop and close it; an error that only the loop was told of is raised."""
    complaints: list[dict[str, Any]] = []
    with qt_loop(application) as loop:
        loop.set_exception_handler(lambda _loop, context: complaints.append(context))
        result = loop.run_until_complete(asyncio.wait_for(coroutine, timeout_s * PATIENCE))
    for complaint in complaints:
        raise complaint.get("exception") or AssertionError(complaint["message"])
    return result
