"""Market time that runs faster or slower than the wall's."""

from __future__ import annotations

import math
from fractions import Fraction

from koc_qt.domain.errors import ConfigError
from koc_qt.ports.clock import Clock

_DAY_NS = 86_400_000_000_000
_WEEK_NS = 7 * _DAY_NS
_FIRST_MONDAY_NS = 4 * _DAY_NS  # 1970-01-05
MAX_SPEED = 3600.0


class SimulatedClock:
    """Implements ports/clock.py: market time = `anchor_market_ns` + (wall time - `anchor_wall_ns`) * `speed`.

    Two clocks with the same three numbers agree always, also in another process; with speed 1 and equal anchors market
    time is wall time. Raises ConfigError for a speed that is not above 0 and at most 3600.
    """

    def __init__(self, wall: Clock, anchor_wall_ns: int, anchor_market_ns: int, speed: float = 1.0) -> None:
        if not math.isfinite(speed) or not 0 < speed <= MAX_SPEED:
            raise ConfigError(f"a simulated market's speed must be above 0 and at most {MAX_SPEED:g}, not {speed:g}")
        self._wall = wall
        self._anchor_wall_ns = anchor_wall_ns
        self._anchor_market_ns = anchor_market_ns
        # A fraction, because a float of nanoseconds since 1970 is 256 ns coarse and would put times out of order.
        self._speed = Fraction(speed).limit_denominator(1_000_000)
        self.speed = speed

    def time_ns(self) -> int:
        """Market time, UTC nanoseconds since 1970."""
        return self._anchor_market_ns + self._scaled(self._wall.time_ns() - self._anchor_wall_ns)

    def monotonic_ns(self) -> int:
        """Nanoseconds of market time that never run backwards."""
        return self._scaled(self._wall.monotonic_ns())

    def _scaled(self, wall_ns: int) -> int:
        return wall_ns * self._speed.numerator // self._speed.denominator


def week_start_ns(time_ns: int) -> int:
    """Give the Monday 00:00 UTC at or before `time_ns`."""
    return time_ns - (time_ns - _FIRST_MONDAY_NS) % _WEEK_NS
