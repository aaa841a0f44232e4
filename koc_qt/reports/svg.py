"""Drawing in SVG: scales with round ticks, axes, lines and areas. Everything is text, nothing is loaded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from html import escape
from typing import NamedTuple

from koc_qt.domain.timeframes import DAY_NS, SECOND_NS

_EPOCH = datetime(1970, 1, 1)
_HOUR_NS = 3_600 * SECOND_NS
_CLOCK_STEPS_NS = [
    step * unit
    for unit, steps in ((60 * SECOND_NS, (1, 2, 5, 10, 15, 30)), (_HOUR_NS, (1, 2, 3, 6, 12)), (DAY_NS, (1, 2, 5, 10)))
    for step in steps
]
_MONTH_STEPS = (1, 2, 3, 6, 12, 24, 60, 120, 240, 600)
MONTHS = (
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
)  # strftime's depend on where
_ENDLESS = 1e150  # differences of such values, and their squares, are numbers still
Tick = tuple[float, str]


class Box(NamedTuple):
    """A rectangle of a drawing, in its own units; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float


class Scale(NamedTuple):
    """Maps values from `low` to `high` to `begin` to `end`."""

    low: float
    high: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        """Give where a value lies."""
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)


def is_drawable(value: float | None) -> bool:
    """Tell whether a value has a place in a drawing: it is known, a number, and no endless one."""
    return value is not None and abs(value) < _ENDLESS


def spread(values: Iterable[float], *, zero: bool = False, margin: float = 0.04) -> tuple[float, float]:
    """Give the range of values with a margin, never an empty one; with `zero` it holds zero."""
    kept = [value for value in values if is_drawable(value)]
    low, high = (min(kept), max(kept)) if kept else (0.0, 1.0)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    room = (high - low) * margin or max(abs(high) * 0.01, 1e-9)
    return low - room, high + room


def round_ticks(low: float, high: float, most: int) -> list[float]:
    """Give at most `most` round values of a range that is not empty: multiples of 1, 2 or 5 and a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if (high - low) / step <= most)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def decimals_of(ticks: Sequence[float], scale: float = 1.0) -> int:
    """Give how many decimals tell ticks apart that are written times `scale`."""
    step = (ticks[1] - ticks[0] if len(ticks) > 1 else abs(ticks[0]) if ticks else 1.0) * scale
    return min(8, max(0, -math.floor(math.log10(step) + 1e-9))) if step > 0 else 0


def time_ticks(since_ns: int, until_ns: int, most: int) -> list[Tick]:
    """Give at most `most` round UTC times within a range, and how they are written."""
    for step_ns in _CLOCK_STEPS_NS:
        if (until_ns - since_ns) / step_ns <= most:
            clock = "" if step_ns >= DAY_NS else " %H:%M"
            first = -(-since_ns // step_ns)
            return [(at * step_ns, _written(at * step_ns, clock)) for at in range(first, until_ns // step_ns + 1)]
    begin, end = _EPOCH + timedelta(seconds=since_ns // SECOND_NS), _EPOCH + timedelta(seconds=until_ns // SECOND_NS)
    months = end.year * 12 + end.month - begin.year * 12 - begin.month
    step = next((step for step in _MONTH_STEPS if months / step <= most), _MONTH_STEPS[-1])
    ticks: list[Tick] = []
    for month in range(begin.year * 12 // step * step, end.year * 12 + 12, step):
        when = datetime(month // 12, month % 12 + 1, 1)
        time_ns = (when - _EPOCH).days * DAY_NS
        if since_ns <= time_ns <= until_ns:
            ticks.append((time_ns, f"{when:%Y}" if step >= 12 else f"{MONTHS[when.month - 1]} {when:%Y}"))
    return ticks


def _written(time_ns: int, clock: str) -> str:
    when = _EPOCH + timedelta(seconds=time_ns // SECOND_NS)
    return f"{when.day} {MONTHS[when.month - 1]}{when.strftime(clock)}"


def svg(width: int, height: int, title: str, parts: Iterable[str]) -> str:
    """Give a drawing that is as wide as it may be."""
    inside = "".join(parts)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg">{inside}</svg>'
    )


def text(x: float, y: float, words: str, *, at: str = "start", face: str = "tick") -> str:
    """Give words; `at` is start, middle or end."""
    return f'<text x="{_n(x)}" y="{_n(y)}" text-anchor="{at}" class="{face}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, face: str) -> str:
    """Give a straight line."""
    return f'<line x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}" class="{face}"/>'


def rect(box: Box, face: str, hint: str = "") -> str:
    """Give a filled rectangle; `hint` is said where a pointer rests on it."""
    said = f"<title>{escape(hint)}</title>" if hint else ""
    width, height = max(box.right - box.left, 0.0), max(box.bottom - box.top, 0.0)
    return (
        f'<rect x="{_n(box.left)}" y="{_n(box.top)}" width="{_n(width)}" height="{_n(height)}" class="{face}">'
        f"{said}</rect>"
    )


def circle(x: float, y: float, radius: float, face: str, hint: str) -> str:
    """Give a dot; `hint` is said where a pointer rests on it."""
    return f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}" class="{face}"><title>{escape(hint)}</title></circle>'


def path(points: Sequence[tuple[float, float]], face: str, base: float | None = None) -> str:
    """Give a line through points, or with a `base` the area between that height and the line."""
    if not points:
        return ""
    steps = "L".join(f"{_n(x)} {_n(y)}" for x, y in points)
    if base is None:
        return f'<path d="M{steps}" class="{face}"/>'
    return f'<path d="M{_n(points[0][0])} {_n(base)}L{steps}L{_n(points[-1][0])} {_n(base)}Z" class="{face}"/>'


def left_axis(box: Box, scale: Scale, ticks: Iterable[Tick]) -> list[str]:
    """Give grid lines across a box and what they stand for to the left of it."""
    parts = []
    for value, words in ticks:
        y = scale(value)
        parts += [line(box.left, y, box.right, y, "grid"), text(box.left - 8, y + 4, words, at="end")]
    return parts


def right_axis(box: Box, scale: Scale, ticks: Iterable[Tick]) -> list[str]:
    """Give what ticks stand for to the right of a box."""
    return [text(box.right + 8, scale(value) + 4, words) for value, words in ticks]


def bottom_axis(box: Box, scale: Scale, ticks: Iterable[Tick], *, words: bool = True) -> list[str]:
    """Give grid lines down a box and, where wanted, what they stand for below it."""
    parts = []
    for value, said in ticks:
        x = scale(value)
        parts.append(line(x, box.top, x, box.bottom, "grid"))
        if words:
            at = "end" if x > box.right - 20 else "start" if x < box.left + 20 else "middle"
            parts.append(text(x, box.bottom + 18, said, at=at))
    return parts


def _n(value: float) -> str:
    """Give a coordinate with a decimal at most."""
    return f"{value:.1f}".removesuffix(".0")
