"""Processes that are to have only what others leave over of processor and disk."""

from __future__ import annotations

import contextlib
import sys

import psutil

_LOWEST_NICENESS = 19


def make_idle(pid: int) -> None:
    """Give a process the lowest priority there is; nothing happens where it has ended or the system refuses."""
    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(pid)
        if sys.platform == "win32":
            process.nice(psutil.IDLE_PRIORITY_CLASS)
            return
        process.nice(_LOWEST_NICENESS)
        if sys.platform == "linux":
            process.ionice(psutil.IOPRIO_CLASS_IDLE)
