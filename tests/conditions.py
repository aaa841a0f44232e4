"""Bounded waits for conditions, so that no test sleeps a fixed time.

    wait_until(lambda: path.exists(), what="the lock file")          in a plain test
    await until(lambda: len(fills) == 3, what="three fills")         in a coroutine; the condition may be one as well

Both give back the condition's first true value and raise AssertionError, with the last value seen, when time is up.
Where something must not have waited, `stopwatch` measures, without what a machine adds that stops everything.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar, cast

T = TypeVar("T")

# Slow and shared machines stretch every bound at once; no test is slower for it where the condition comes true.
PATIENCE = float(os.environ.get("KOC_TEST_PATIENCE", "1"))
_FIRST_PAUSE_S = 0.001
_LONGEST_PAUSE_S = 0.05
_HELD_UP_S = 1.0  # of a pause that a machine makes longer, so much counts: what is waited for was held up too
_TICK_S = 0.005


def _message(what: str, condition: object, timeout_s: float, last: object) -> str:
    name = what or getattr(condition, "__qualname__", repr(condition))
    return f"gave up after {timeout_s:g} s waiting for {name}; last value: {last!r}"


def _counted(paused_s: float, pause_s: float) -> float:
    """Give how much of a pause that began then counts as waiting."""
    return min(time.monotonic() - paused_s, pause_s + _HELD_UP_S)


def wait_until(condition: Callable[[], T], *, timeout_s: float = 10.0, what: str = "") -> T:
    """Call `condition` until it gives something true, and give that back. Raises AssertionError after `timeout_s`."""
    bound_s = timeout_s * PATIENCE
    waited_s, pause_s = 0.0, _FIRST_PAUSE_S
    while True:
        began_s = time.monotonic()
        value = condition()
        if value:
            return value
        paused_s = time.monotonic()
        waited_s += paused_s - began_s
        if waited_s >= bound_s:
            raise AssertionError(_message(what, condition, bound_s, value))
        time.sleep(pause_s)
        waited_s += _counted(paused_s, pause_s)
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)


async def until(condition: Callable[[], T | Awaitable[T]], *, timeout_s: float = 10.0, what: str = "") -> T:
    """As wait_until, letting the event loop run; `condition` may be a coroutine function."""
    bound_s = timeout_s * PATIENCE
    waited_s, pause_s = 0.0, _FIRST_PAUSE_S
    while True:
        began_s = time.monotonic()
        result = condition()
        value = cast(T, await result if inspect.isawaitable(result) else result)
        if value:
            return value
        paused_s = time.monotonic()
        waited_s += paused_s - began_s
        if waited_s >= bound_s:
            raise AssertionError(_message(what, condition, bound_s, value))
        await asyncio.sleep(pause_s)
        waited_s += _counted(paused_s, pause_s)
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)


@dataclass
class Stopwatch:
    """Seconds that the event loop had to itself, and those for which the machine held it up."""

    spent_s: float = 0.0
    held_up_s: float = 0.0


@asynccontextmanager
async def stopwatch() -> AsyncIterator[Stopwatch]:
    """Measure how long a block takes, and how much of that the machine stopped everything."""
    watch = Stopwatch()

    async def tick() -> None:
        while True:
            began_s = time.monotonic()
            await asyncio.sleep(_TICK_S)
            took_s = time.monotonic() - began_s
            watch.spent_s += min(took_s, 2 * _TICK_S)
            watch.held_up_s += max(took_s - 2 * _TICK_S, 0.0)

    ticking = asyncio.create_task(tick())
    try:
        yield watch
    finally:
        await asyncio.sleep(0)  # for the tick of a stop that was the last
        ticking.cancel()
        await asyncio.wait([ticking])
