"""Where the labels of price and date axes go and what they say; no Qt. Dates are local, or UTC for days and longer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial

import numpy as np

from koc_qt.ui.charts.series import BarSeries

MAX_LABELS = 10
_SECOND_NS = 1_000_000_000
_DAY_S = 86_400
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# Seconds of each step; from 30 days on, months and years by the calendar.
_STEPS_S = (1, 5, 15, 30, 60, 300, 900, 1800, 3600, 10_800, 21_600, 43_200, *(_DAY_S * n for n in (1, 2, 4, 7)))
_MONTH_DAYS = 31
_STEPS_MONTHS = (1, 3, 6, 12, 24, 60, 120, 240, 600, 1200)


@dataclass(frozen=True, slots=True)
class TimeTick:
    """A label of the date axis: the bar index it belongs to; `major` where a day, month or year begins."""

    index: int
    text: str
    major: bool


def price_step(span: float, height_px: float, decimals: int, min_px: float = 42.0) -> float:
    """The step between labels, 1, 2 or 5 times a power of ten: `min_px` apart, at most MAX_LABELS, at least a tick."""
    labels = max(min(height_px / min_px, MAX_LABELS - 1), 1.0)
    raw = max(span / labels, 10.0**-decimals)
    magnitude = 10.0 ** math.floor(math.log10(raw) + 1e-9)
    for factor in (1.0, 2.0, 5.0):
        if factor * magnitude >= raw * (1 - 1e-9):
            return factor * magnitude
    return 10.0 * magnitude


def price_ticks(low: float, high: float, height_px: float, decimals: int) -> list[float]:
    """The prices to label between two edges; none where the edges are no range."""
    if not (math.isfinite(low) and math.isfinite(high) and high > low):
        return []
    step = price_step(high - low, height_px, decimals)
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [(first + number) * step for number in range(min(count, MAX_LABELS + 1))]


def price_text(price: float, decimals: int) -> str:
    """A price with thousands separators, never minus zero."""
    text = f"{price:,.{decimals}f}"
    return text[1:] if text.startswith("-") and not any(digit in text for digit in "123456789") else text


def amount_text(amount: float) -> str:
    """A volume in at most five characters and a letter: 12.3K, 4.56M."""
    for limit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(amount) >= limit * 0.99995:
            return f"{amount / limit:.4g}{letter}"
    return f"{amount:.4g}"


def zone_for(interval_ns: int, zone: tzinfo | None) -> tzinfo | None:
    """Days and longer bars begin by UTC: in another zone they would carry the wrong date."""
    return UTC if interval_ns >= _DAY_S * _SECOND_NS else zone


def local_time(time_ns: int, zone: tzinfo | None) -> datetime:
    """A time on the person's clock (`zone` None), or another's; by UTC where the system's library cannot tell."""
    try:
        return datetime.fromtimestamp(time_ns // _SECOND_NS, zone)
    except (OSError, OverflowError, ValueError):
        seconds = min(max(time_ns // _SECOND_NS, -62_135_596_800), 253_402_300_799)
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


def moment_text(time_ns: int, interval_ns: int, zone: tzinfo | None) -> str:
    """A bar's opening for people: 'Thu 8 Aug 2024 14:05', without the hour for bars of a day."""
    when = local_time(time_ns, zone_for(interval_ns, zone))
    date = f"{_DAYS[when.weekday()]} {when.day} {_MONTHS[when.month - 1]} {when.year}"
    if interval_ns >= _DAY_S * _SECOND_NS:
        return date
    return f"{date} {when:%H:%M:%S}" if interval_ns < 60 * _SECOND_NS else f"{date} {when:%H:%M}"


def time_ticks(
    bars: BarSeries, left: float, right: float, width_px: float, zone: tzinfo | None, min_px: float = 80.0
) -> list[TimeTick]:
    """Label the bars between two indices: the first bar of each round interval, so that gaps take no room.

    Labels are `min_px` apart and MAX_LABELS at most; where two would touch, the greater beginning wins.
    """
    first, last = max(math.ceil(left), 0), min(math.floor(right), len(bars) - 1)
    if last < first or right <= left:
        return []
    zone = zone_for(bars.interval_ns, zone)
    min_bars = max(min_px, width_px / MAX_LABELS) * (right - left) / width_px
    following, step_days = _calendar(bars, first, last, min_bars)
    found = _beginnings(bars, first, last, following, zone)
    ranked = [_label(bars, index, step_days, zone) for index in found]
    return _apart(ranked, min_bars)


Following = Callable[[datetime], datetime]


def _calendar(bars: BarSeries, first: int, last: int, min_bars: float) -> tuple[Following, int]:
    """Choose the step; give what finds the next beginning, and its days: 0 for hours and less, 31 for months."""
    trading_s = bars.interval_ns / _SECOND_NS * min_bars
    if last > first:
        wall_s = (bars.time_ns(last) - bars.time_ns(first)) / (last - first) / _SECOND_NS * min_bars
    else:
        wall_s = trading_s
    for step in _STEPS_S:
        if step < _DAY_S and step >= trading_s:
            return partial(_next_of_day, step_s=step), 0
        if step >= _DAY_S and step >= wall_s:
            return partial(_next_days, days=step // _DAY_S), step // _DAY_S
    months = next((each for each in _STEPS_MONTHS if each * 30 * _DAY_S >= wall_s), _STEPS_MONTHS[-1])
    return partial(_next_months, months=months), _MONTH_DAYS


def _next_of_day(when: datetime, step_s: int) -> datetime:
    midnight = when.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    passed = when.hour * 3600 + when.minute * 60 + when.second
    return midnight + timedelta(seconds=(passed // step_s + 1) * step_s)


def _next_days(when: datetime, days: int) -> datetime:
    ordinal = when.toordinal() - 1  # so that a multiple of seven is a Monday
    beginning = ordinal // days * days + days + 1
    midnight = when.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    return midnight + timedelta(days=beginning - when.toordinal())


def _next_months(when: datetime, months: int) -> datetime:
    number = (when.year * 12 + when.month - 1) // months * months + months
    return when.replace(
        year=min(number // 12, 9999), month=number % 12 + 1, day=1, hour=0, minute=0, second=0, microsecond=0, fold=0
    )


def _beginnings(bars: BarSeries, first: int, last: int, following: Following, zone: tzinfo | None) -> list[int]:
    """Find the first bar of each interval; at most a few times as many as labels fit, however irregular the bars."""
    times = bars.open_time_ns
    found: list[int] = []
    index = max(first - 1, 0)
    if index == 0 == first:
        found.append(0)
    while len(found) < 8 * MAX_LABELS:
        when = local_time(int(times[index]), zone)
        beginning = following(when)
        # Where clocks are set back, an hour comes twice and the next beginning may lie in the past.
        while (begins_ns := int(beginning.timestamp()) * _SECOND_NS) <= times[index]:
            beginning = following(beginning)
        index = int(np.searchsorted(times, begins_ns, side="left"))
        if index > last:
            break
        found.append(index)
    return found


def _label(bars: BarSeries, index: int, step_days: int, zone: tzinfo | None) -> TimeTick:
    when = local_time(bars.time_ns(index), zone)
    before = local_time(bars.time_ns(index - 1), zone) if index else None
    new_year = before is None or before.year != when.year
    new_month = new_year or (before is not None and before.month != when.month)
    new_day = before is None or before.date() != when.date()
    day = f"{when.day} {_MONTHS[when.month - 1]}"
    if step_days == _MONTH_DAYS:
        return TimeTick(index, str(when.year) if new_year else _MONTHS[when.month - 1], new_year)
    if step_days:
        # Where steps are longer than a day, the month's first label stands for its beginning.
        begins = new_month or when.day <= step_days
        return TimeTick(index, f"{day} {when.year}" if begins and when.month == 1 else day, begins)
    if new_day:
        return TimeTick(index, day, major=True)
    return TimeTick(index, f"{when:%H:%M:%S}" if when.second else f"{when:%H:%M}", major=False)


def _apart(ticks: list[TimeTick], min_bars: float) -> list[TimeTick]:
    """Drop labels that would touch, lesser ones first."""
    kept: list[TimeTick] = []
    for tick in sorted(ticks, key=lambda each: not each.major):
        if all(abs(tick.index - other.index) >= min_bars * 0.75 for other in kept):
            kept.append(tick)
    return sorted(kept, key=lambda each: each.index)
