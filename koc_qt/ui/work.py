"""What the window itself is at work on, and would end with it: the mascot works along, and closing asks."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QObject, Signal


class Work(QObject):
    """One piece of work at a time; `changed` is emitted when it begins and when it has ended."""

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.title = ""  # such as "Building for Ubuntu"; empty while there is none
        self.done = 0  # how many pieces came to a good end
        self._stop: Callable[[], None] = _nothing

    @property
    def is_running(self) -> bool:
        """Whether there is work under way."""
        return bool(self.title)

    def begin(self, title: str, stop: Callable[[], None]) -> None:
        """Note that work has begun; `stop` ends it in order, and soon."""
        self.title, self._stop = title, stop
        self.changed.emit()

    def end(self, *, is_good: bool) -> None:
        """Note that it has ended; does nothing where there is none."""
        if self.is_running:
            self.title, self._stop = "", _nothing
            self.done += is_good
            self.changed.emit()

    def stop(self) -> None:
        """Have it stopped in order; `changed` tells when it has."""
        self._stop()


def _nothing() -> None:
    """Stop nothing: there is no work."""
