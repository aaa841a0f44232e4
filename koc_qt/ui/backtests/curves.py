"""Curves over time as columns of numbers: thinned to pixels, with their drawdown, and dates for an axis. No widgets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import Enum

import numpy as np
from numpy.typing import ArrayLike

from koc_qt.domain.timeframes import DAY_NS, SECOND_NS
from koc_qt.ui.charts.series import Floats, Ints
from koc_qt.ui.charts.ticks import local_time

_POINTS_A_COLUMN = 4  # first, lowest, highest and last
_HOURS_S = (1, 5, 15, 60, 300, 900, 1_800, 3_600, 10_800, 21_600, 43_200)
_DAYS = (1, 2, 5, 10)
_MONTHS = (1, 3, 6, 12, 24, 60, 120, 240, 600, 1_200)
_MONTH_DAYS = 30
_MOST_MARKS = 60
MONTH_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Look(Enum):
    """How a curve is drawn."""

    GAIN = "gain"  # the run itself: in the colour of a profit or a loss, with an area below
    QUIET = "quiet"  # what it is held against: thin and grey
    OWN = "own"  # one of several, each in a colour of its own
    LINE = "line"  # the run itself, without an area: it would hide what lies below
    EDGE = "edge"  # of a band: faint, and all in one colour


@dataclass(frozen=True, eq=False)
class Curve:
    """Values at UTC times in nanoseconds, which rise. Make one with `of`, which checks."""

    name: str
    times_ns: Ints
    values: Floats
    look: Look = Look.GAIN

    @classmethod
    def of(cls, name: str, times_ns: ArrayLike, values: ArrayLike, look: Look = Look.GAIN) -> Curve:
        """Check and copy. Raises ValueError where lengths differ, times do not rise or a value is not a number."""
        times, column = np.asarray(times_ns, np.int64), np.asarray(values, np.float64)
        if times.ndim != 1 or times.shape != column.shape:
            raise ValueError(f"it has {times.size} times and {column.size} values")
        if (times[1:] <= times[:-1]).any():
            raise ValueError("its times are not in order")
        if not np.isfinite(column).all():
            raise ValueError("a value of it is not a number")
        return cls(name, times.copy(), column.copy(), look)

    def __len__(self) -> int:
        return len(self.times_ns)

    def at(self, time_ns: int) -> float | None:
        """Give the last value up to a time; None before the first."""
        index = int(np.searchsorted(self.times_ns, time_ns, side="right")) - 1
        return float(self.values[index]) if index >= 0 else None

    def drawdown(self) -> Curve:
        """Give how far each value is below the highest so far, as a fraction: 0 and below."""
        peaks = np.maximum(np.maximum.accumulate(self.values), 0.0) if len(self) else self.values
        falls = np.divide(self.values, peaks, out=np.ones_like(self.values), where=peaks > 0) - 1.0
        return Curve(self.name, self.times_ns, falls, self.look)

    def growth(self) -> Curve:
        """Give each value as a fraction above the first, such as 0.05; an empty curve where that is not above zero."""
        if not len(self) or self.values[0] <= 0:
            return Curve(self.name, self.times_ns[:0], self.values[:0], self.look)
        return Curve(self.name, self.times_ns, self.values / self.values[0] - 1.0, self.look)


def thinned(xs: Floats, ys: Floats) -> tuple[Floats, Floats]:
    """Leave what pixels can show: of each pixel column the first, lowest, highest and last point.

    `xs` are pixels that rise. A line through what is left looks as one through all.
    """
    if len(xs) < 2 or len(xs) <= _POINTS_A_COLUMN * (xs[-1] - xs[0] + 1):
        return xs, ys
    columns = np.floor(xs).astype(np.int64)
    starts = np.flatnonzero(np.diff(columns, prepend=columns[0] - 1))
    ends = np.append(starts[1:], len(xs)) - 1
    chosen = np.empty((len(starts), _POINTS_A_COLUMN))
    chosen[:, 0], chosen[:, 3] = ys[starts], ys[ends]
    chosen[:, 1], chosen[:, 2] = np.minimum.reduceat(ys, starts), np.maximum.reduceat(ys, starts)
    falls = chosen[:, 3] < chosen[:, 0]
    chosen[falls, 1], chosen[falls, 2] = chosen[falls, 2], chosen[falls, 1].copy()
    return np.repeat(columns[starts] + 0.5, _POINTS_A_COLUMN), chosen.ravel()


@dataclass(frozen=True, slots=True)
class DateMark:
    """A label of a date axis; `major` where a day, a month or a year begins."""

    time_ns: int
    text: str
    major: bool


def date_marks(
    since_ns: int, until_ns: int, width_px: float, zone: tzinfo | None = None, *, gap_px: float = 84.0
) -> list[DateMark]:
    """Label the round dates and times of a span, at least `gap_px` apart; none where it is no span."""
    if until_ns <= since_ns or width_px < gap_px:
        return []
    least_s = (until_ns - since_ns) / SECOND_NS * gap_px / width_px
    zone = UTC if least_s >= DAY_NS / SECOND_NS else zone
    step_s = next((each for each in _HOURS_S if each >= least_s), 0)
    days = 0 if step_s else next((each for each in _DAYS if each * DAY_NS / SECOND_NS >= least_s), _MONTH_DAYS)
    wanted_months = least_s * SECOND_NS / DAY_NS / _MONTH_DAYS
    months = next((each for each in _MONTHS if each >= wanted_months), _MONTHS[-1])
    marks: list[DateMark] = []
    when = _first(local_time(since_ns, zone), step_s, days, months)
    while len(marks) < _MOST_MARKS:
        time_ns = round(when.timestamp()) * SECOND_NS
        if time_ns >= until_ns or when.year > 9_000:
            break
        if time_ns >= since_ns and not (marks and time_ns <= marks[-1].time_ns):
            marks.append(_mark(when, time_ns, days, not marks))
        when = _following(when, step_s, days, months)
    return marks


def _first(when: datetime, step_s: int, days: int, months: int) -> datetime:
    """Give the round time at or before one."""
    midnight = when.replace(hour=0, minute=0, second=0, microsecond=0)
    if step_s:
        passed_s = when.hour * 3_600 + when.minute * 60 + when.second
        return midnight + timedelta(seconds=passed_s // step_s * step_s)
    if days < _MONTH_DAYS:
        return midnight.replace(day=1)
    number = (midnight.year * 12 + midnight.month - 1) // months * months
    return midnight.replace(year=max(number // 12, 1), month=number % 12 + 1, day=1)


def _following(when: datetime, step_s: int, days: int, months: int) -> datetime:
    if step_s:
        return when + timedelta(seconds=step_s)
    number = when.year * 12 + when.month - 1 + (months if days == _MONTH_DAYS else 1)
    beginning = when.replace(year=min(number // 12, 9_999), month=number % 12 + 1, day=1)
    if days == _MONTH_DAYS:
        return beginning
    later = when + timedelta(days=days)
    # a stub of a few days at a month's end would stand too close to its beginning
    return beginning if later.month != when.month or (beginning - later).days < days else later


def _mark(when: datetime, time_ns: int, days: int, is_first: bool) -> DateMark:
    month = MONTH_NAMES[when.month - 1]  # a date's own names are those of the system's language
    day = f"{when.day} {month}"
    is_midnight = not (when.hour or when.minute or when.second)
    if days == _MONTH_DAYS:
        begins = when.month == 1
        return DateMark(time_ns, f"{when:%Y}" if begins else f"{month} {when:%Y}" if is_first else month, begins)
    if days:
        begins = when.day == 1
        return DateMark(time_ns, f"{day} {when:%Y}" if is_first or (begins and when.month == 1) else day, begins)
    if is_midnight or is_first:
        return DateMark(time_ns, day if is_midnight else f"{day} {when:%H:%M}", is_midnight)
    return DateMark(time_ns, f"{when:%H:%M:%S}" if when.second else f"{when:%H:%M}", major=False)
