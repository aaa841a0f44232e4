"""What the window is told of crash reports, which adapters/crash_reports.py writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol


class CrashReport(NamedTuple):
    """A report: the part (window, engine, command), and whether the error ended it. Time in UTC nanoseconds."""

    name: str
    time_ns: int
    part: str
    has_ended: bool


class CrashShelf(Protocol):
    """Where reports are kept. Every method reads or writes files, and may be called in any thread."""

    @property
    def folder(self) -> Path:
        """The folder that they are in, which need not exist."""
        ...

    def reports(self) -> Sequence[CrashReport]:
        """Give all there are, the newest first."""
        ...

    def take_new(self) -> Sequence[CrashReport]:
        """Give those that were not given before, the newest first."""
        ...

    def read(self, name: str) -> str:
        """Give a report's text. Raises KocError."""
        ...

    def delete(self, name: str) -> None:
        """Remove a report; nothing happens where it is gone. Raises KocError."""
        ...
