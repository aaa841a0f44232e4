"""The machine's clock."""

from __future__ import annotations

import time


class SystemClock:
    """Implements ports/clock.py with the operating system's clocks."""

    def time_ns(self) -> int:
        """UTC nanoseconds since 1970."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """Nanoseconds that never run backwards."""
        return time.monotonic_ns()
