"""What a test may leave behind: nothing. Snapshots of threads, children, descriptors, tasks and Qt's objects, compared.

Descriptors and children are read from /proc and so are checked on Linux alone; the rest everywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conditions import PATIENCE

# A thread or child that was told to end may need a moment; what is still there after this is a leak.
GRACE_S = 3.0 * PATIENCE

# Opened once a process by libraries and kept for good.
_PROCESS_WIDE = ("/dev/urandom", "/dev/random", "/dev/null", "/proc/", "/sys/", "/usr/share/", "/dev/shm/")
_ALLOWED_CHILDREN = ("multiprocessing.resource_tracker", "multiprocessing/resource_tracker")


@dataclass(frozen=True)
class Held:
    """What this process holds at one moment; each maps an identity to a name for people."""

    threads: dict[int, str]
    children: dict[int, str]
    descriptors: dict[tuple[int, str], str]
    tasks: dict[int, str]
    qt_objects: dict[int, str]


@dataclass
class LoopLeaks:
    """What event loops still had when their runner closed them."""

    found: list[str] = field(default_factory=list)


def held() -> Held:
    """Take a snapshot."""
    return Held(_threads(), _children(), _descriptors(), _tasks(), _qt_objects())


def leaked_since(before: Held) -> list[str]:
    """Name what has come since `before` and has not gone within the grace period."""
    deadline = time.monotonic() + GRACE_S
    leaks = _new(before, held())
    if leaks:
        gc.collect()  # what only a reference cycle still holds is no leak
    while leaks and time.monotonic() < deadline:
        time.sleep(0.01)
        leaks = _new(before, held())
    return leaks


def _new(before: Held, after: Held) -> list[str]:
    descriptors = {key: name for key, name in after.descriptors.items() if key not in before.descriptors}
    for key in [key for key in descriptors if key[1] == "anon_inode:[eventfd]"][: _painting_threads()]:
        del descriptors[key]
    kinds: list[tuple[str, Any, Any]] = [
        ("thread", before.threads, after.threads),
        ("child process", before.children, after.children),
        ("descriptor", {}, descriptors),
        ("task", before.tasks, after.tasks),
        ("Qt object", before.qt_objects, after.qt_objects),
    ]
    return [f"{kind} {name}" for kind, old, new in kinds for key, name in new.items() if key not in old]


def _threads() -> dict[int, str]:
    return {id(thread): repr(thread.name) for thread in threading.enumerate() if thread.is_alive()}


def _children() -> dict[int, str]:
    pids: list[int] = []
    try:
        for task in Path("/proc/self/task").iterdir():
            pids += [int(pid) for pid in (task / "children").read_bytes().split()]
    except OSError:
        return {}
    named = {pid: _command_line(pid) for pid in pids}
    return {
        pid: f"{pid} ({name})" for pid, name in named.items() if not any(word in name for word in _ALLOWED_CHILDREN)
    }


def _command_line(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "gone"
    return b" ".join(words).decode(errors="replace").strip()[:200] or "ended, but nobody waited for it"


def _descriptors() -> dict[tuple[int, str], str]:
    found: dict[tuple[int, str], str] = {}
    try:
        links = list(Path("/proc/self/fd").iterdir())
    except OSError:
        return {}
    for link in links:
        try:
            target = str(link.readlink())
        except OSError:
            continue  # the listing's own descriptor
        if not target.startswith(_PROCESS_WIDE):
            found[int(link.name), target] = f"{link.name} -> {target}"
    return found


def _painting_threads() -> int:
    """Count the threads that Qt blends larger shapes in, with an eventfd each; it keeps them for half a minute."""
    count = 0
    with contextlib.suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            count += (task / "comm").read_bytes().startswith(b"Thread (pooled)")
    return count


def _tasks() -> dict[int, str]:
    # CPython keeps every task in one weak set: `_all_tasks` until 3.11, `_scheduled_tasks` since.
    every: Any = getattr(asyncio.tasks, "_scheduled_tasks", None) or getattr(asyncio.tasks, "_all_tasks", ())
    return {id(task): _task_name(task) for task in list(every) if not task.done()}


def _task_name(task: asyncio.Task[Any]) -> str:
    coroutine = task.get_coro()
    return f"{task.get_name()!r} ({getattr(coroutine, '__qualname__', coroutine)})"


def _qt_objects() -> dict[int, str]:
    """Name what Qt may still call: running timers, those of qasync's loops, notifiers, processes and threads."""
    core = sys.modules.get("PySide6.QtCore")
    if core is None:
        return {}
    loop_timers: Any = getattr(sys.modules.get("qasync"), "_SimpleTimer", ())
    active: dict[Any, Callable[[Any], bool]] = {
        core.QTimer: lambda timer: timer.isActive(),
        core.QSocketNotifier: lambda notifier: notifier.isEnabled(),
        core.QProcess: lambda process: process.state() != core.QProcess.ProcessState.NotRunning,
        core.QThread: lambda thread: thread.isRunning() and thread != core.QThread.currentThread(),
        loop_timers: lambda _timers: True,
    }
    kinds = tuple(active)
    wrappers = [each for each in sys.modules["shiboken6"].getAllValidWrappers() if isinstance(each, kinds)]
    return {
        id(each): repr(each)
        for each in wrappers
        if any(isinstance(each, kind) and may_be_called(each) for kind, may_be_called in active.items())
    }


@contextlib.contextmanager
def watched_loops() -> Iterator[LoopLeaks]:
    """Note the tasks and timers that asyncio.Runner would cancel without a word when it closes a loop.

    pytest-asyncio gives each test a Runner, which closes after the test's async fixtures: whatever is left then leaked.
    """
    leaks = LoopLeaks()
    original: Callable[[asyncio.AbstractEventLoop], None] = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined]

    def note_and_cancel(loop: asyncio.AbstractEventLoop) -> None:
        leaks.found += [f"task {_task_name(task)}" for task in asyncio.all_tasks(loop)]
        timers = getattr(loop, "_scheduled", ())
        leaks.found += [f"timer {timer!r}" for timer in timers if not timer.cancelled()]
        original(loop)

    asyncio.runners._cancel_all_tasks = note_and_cancel  # type: ignore[attr-defined]
    try:
        yield leaks
    finally:
        asyncio.runners._cancel_all_tasks = original  # type: ignore[attr-defined]
