"""Lengths of bars: `1s`, `5m`, `4h`, `1d`, `1w`. Bars open on a grid that is the same everywhere: UTC."""

from __future__ import annotations

import re
from functools import lru_cache

from koc_qt.domain.errors import BadTimeframe

SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS
YEAR_NS = 365.25 * DAY_NS

_UNIT_NS = {"s": SECOND_NS, "m": 60 * SECOND_NS, "h": 3_600 * SECOND_NS, "d": DAY_NS, "w": 7 * DAY_NS}
_FORM = re.compile(r"([1-9][0-9]{0,7})([smhdw])", re.ASCII)
_LONGEST_NS = 366 * DAY_NS
_FIRST_MONDAY_NS = 4 * DAY_NS  # 1970-01-05; the epoch itself was a Thursday


@lru_cache(maxsize=256)
def duration_ns(timeframe: str) -> int:
    """Give the length of a bar in nanoseconds.

    Raises BadTimeframe unless `timeframe` is a whole number and one of s, m, h, d, w, and at most 366 days long.
    """
    form = _FORM.fullmatch(timeframe)
    duration = int(form[1]) * _UNIT_NS[form[2]] if form else 0
    if not 0 < duration <= _LONGEST_NS:
        raise BadTimeframe(
            f"{timeframe!r} is not a timeframe: write a whole number and s, m, h, d or w, at most 366 days, such as 5m"
        )
    return duration


@lru_cache(maxsize=256)
def _grid(timeframe: str) -> tuple[int, int]:
    """Give the bar's length and an instant at which one opens."""
    return duration_ns(timeframe), _FIRST_MONDAY_NS if timeframe.endswith("w") else 0


def bar_open_ns(time_ns: int, timeframe: str) -> int:
    """Give the opening time of the bar that `time_ns` falls into; both UTC nanoseconds.

    Bars are aligned to 1970-01-01 00:00 UTC, those of weeks to Monday 1970-01-05. Raises BadTimeframe.
    """
    duration, origin = _grid(timeframe)
    return time_ns - (time_ns - origin) % duration


@lru_cache(maxsize=1024)
def is_multiple(longer: str, shorter: str) -> bool:
    """Tell whether each bar of `longer` is made of whole bars of `shorter`. Raises BadTimeframe.

    True for a timeframe and itself; false for `1w` of `7d`, which open on different days.
    """
    long_ns, long_origin = _grid(longer)
    short_ns, short_origin = _grid(shorter)
    return long_ns % short_ns == 0 and (long_origin - short_origin) % short_ns == 0
