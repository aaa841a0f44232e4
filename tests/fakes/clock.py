"""A clock that moves only when it is told to, and a leap of an event loop's own."""

from __future__ import annotations

import asyncio

import pytest

DEFAULT_START_NS = 1_700_000_000_000_000_000  # 2023-11-14T22:13:20Z


class FakeClock:
    """Implements ports.clock.Clock; both of its times advance together, by `advance` alone."""

    def __init__(self, start_ns: int = DEFAULT_START_NS) -> None:
        self._start_ns = start_ns
        self._elapsed_ns = 0

    def time_ns(self) -> int:
        """UTC nanoseconds since 1970."""
        return self._start_ns + self._elapsed_ns

    def monotonic_ns(self) -> int:
        """Nanoseconds since this clock was made."""
        return self._elapsed_ns

    def advance(self, seconds: float = 0.0, *, ns: int = 0) -> None:
        """Move forward by `seconds` and `ns` nanoseconds. Raises ValueError on a step back."""
        step_ns = round(seconds * 1e9) + ns
        if step_ns < 0:
            raise ValueError("a clock does not run backwards; use set_wall for a wall clock that is set")
        self._elapsed_ns += step_ns

    def set_wall(self, time_ns: int) -> None:
        """Set the wall clock alone, as NTP or a person does; the monotonic time goes on as it was."""
        self._start_ns = time_ns - self._elapsed_ns


def leap(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have the running event loop find that so much time has passed: what it was to do until then is due."""
    loop = asyncio.get_running_loop()
    time = loop.time
    monkeypatch.setattr(loop, "time", lambda: time() + seconds)
