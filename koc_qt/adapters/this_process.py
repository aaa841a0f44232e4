"""Which process this is, so that another one can tell later whether it still runs."""

from __future__ import annotations

import os
import platform
import time
from functools import cache
from pathlib import Path

import msgspec
import psutil

_BOOT, _NAMESPACE = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
_CLOCK_SLACK_S = 60.0  # a clock that was set may put a process's start so much after its own word


class ProcessMark(msgspec.Struct, frozen=True):
    """A process: `name` in words, its `machine` since it was started, its number there, and a time (UTC seconds) at
    which it ran.
    """

    name: str
    machine: str
    pid: int
    seen_s: float

    def is_gone(self) -> bool:
        """Whether it has certainly ended; False also for one on another machine, or in another container."""
        if self.machine != this_machine():
            return False
        try:
            process = psutil.Process(self.pid)
            is_other = process.create_time() > self.seen_s + _CLOCK_SLACK_S  # its number was given to another one
            return bool(is_other or process.status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return not psutil.pid_exists(self.pid)  # one that may not be looked at is there all the same
        except psutil.AccessDenied:
            return False


def this_process(role: str) -> ProcessMark:
    """Give the mark of this process; `role` is what it is called."""
    pid = os.getpid()
    name = f"{role}, process {pid} on {platform.node() or 'this machine'}"
    return ProcessMark(name, this_machine(), pid, time.time())


@cache
def this_machine() -> str:
    """Name where numbers of processes mean what they mean here: the machine as it was started, and the container."""
    try:
        return f"{platform.node()} {_BOOT.read_text().strip()} {_NAMESPACE.readlink()}"
    except OSError:  # this is not Linux
        return platform.node()
