"""Work in the background that belongs to a widget: the newest wins, and none outlives the widget."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from PySide6.QtCore import QObject

from koc_qt.domain.errors import KocError
from koc_qt.ui.desk import Desk


class Errand:
    """Runs one coroutine at a time: a new one ends the one before, and the end of `owner` ends the last."""

    def __init__(self, desk: Desk, owner: QObject) -> None:
        self._desk = desk
        self._task: asyncio.Task[Any] | None = None
        owner.destroyed.connect(self.cancel)

    @property
    def is_running(self) -> bool:
        """Whether one is under way."""
        return self._task is not None and not self._task.done()

    def start(self, work: Coroutine[Any, Any, Any], failed: Callable[[KocError], None] | None = None) -> None:
        """Run this from now on; a KocError of it goes to `failed`, or else to the person."""
        self.cancel()
        self._task = self._desk.start(work, failed=failed)
        self._task.add_done_callback(lambda _task: work.close())  # for one that was ended before it began

    def cancel(self) -> None:
        """End what is under way; safe when nothing is."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
