"""Time as a port, so that a whole engine can be replayed."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def time_ns(self) -> int:
        """UTC nanoseconds since 1970."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds that never run backwards; for intervals and latencies only."""
        ...
