"""Labels of the axes: round, few, apart, in local time, at the right bars."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.ui.charts.series import BarColumns, BarSeries
from koc_qt.ui.charts.ticks import (
    MAX_LABELS,
    amount_text,
    local_time,
    moment_text,
    price_text,
    price_ticks,
    time_ticks,
)

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")


def bars_at(moments: list[datetime]) -> BarSeries:
    ns = np.array([int(each.timestamp()) for each in moments], np.int64) * 1_000_000_000
    ones = np.ones(len(ns))
    series = BarSeries()
    series.set(BarColumns.of(ns, ones, ones, ones, ones, ones))
    return series


def every(start: datetime, step: timedelta, count: int) -> BarSeries:
    return bars_at([start + step * n for n in range(count)])


@given(st.floats(1e-6, 1e8), st.floats(1e-6, 1e8), st.floats(20, 3000), st.integers(0, 8))
def test_price_labels_are_few_round_and_inside(low: float, span: float, height_px: float, decimals: int) -> None:
    high = low + span
    marks = price_ticks(low, high, height_px, decimals)
    assert len(marks) <= MAX_LABELS + 1
    slack = span * 1e-6 + 10.0**-decimals * 1e-6
    assert all(low - slack <= each <= high + slack for each in marks)
    texts = [price_text(each, decimals) for each in marks]
    assert len(set(texts)) == len(texts)
    if span > 100 * 10.0**-decimals and height_px > 200:
        assert len(marks) >= 2


def test_no_labels_without_a_range() -> None:
    assert price_ticks(5, 5, 500, 2) == []
    assert price_ticks(float("nan"), 5, 500, 2) == []


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0"), (12.345, "12.35"), (999.96, "1K"), (12_345, "12.35K"), (4.56e6, "4.56M"), (7e9, "7B")],
)
def test_amounts_are_short(amount: float, text: str) -> None:
    assert amount_text(amount) == text


def test_prices_have_separators_and_no_minus_zero() -> None:
    assert price_text(64210.5, 2) == "64,210.50"
    assert price_text(-0.0001, 2) == "0.00"
    assert price_text(-1.5, 1) == "-1.5"


def test_minutes_are_labelled_at_round_times_and_days_stand_out() -> None:
    bars = every(datetime(2024, 8, 7, 22, 7, tzinfo=BERLIN), timedelta(minutes=1), 240)
    marks = time_ticks(bars, 0, 239, 800, BERLIN)
    shown = [(each.text, each.major) for each in marks]
    assert ("8 Aug", True) in shown
    assert ("23:00", False) in shown
    assert len(marks) <= MAX_LABELS
    for mark in marks[1:]:
        assert local_time(bars.time_ns(mark.index), BERLIN).minute % 15 == 0


def test_nights_take_no_room_and_the_first_bar_of_a_day_is_its_label() -> None:
    session = [
        datetime(2024, 8, day, 9, 30, tzinfo=NEW_YORK) + timedelta(minutes=5 * n)
        for day in (5, 6, 7, 8)
        for n in range(78)
    ]
    bars = bars_at(session)
    marks = time_ticks(bars, 0, len(session) - 1, 700, NEW_YORK)
    assert [each.text for each in marks if each.major] == ["5 Aug", "6 Aug", "7 Aug", "8 Aug"]
    assert [each.index for each in marks if each.major] == [0, 78, 156, 234]


def test_days_are_dated_by_utc_whatever_the_clock_on_the_wall() -> None:
    bars = every(datetime(2024, 1, 20, tzinfo=UTC), timedelta(days=1), 60)
    marks = time_ticks(bars, 0, 59, 900, NEW_YORK)
    assert [each.text for each in marks if each.major] == ["20 Jan 2024", "5 Feb", "4 Mar"]
    assert all(local_time(bars.time_ns(each.index), UTC).weekday() == 0 for each in marks[1:])
    assert moment_text(bars.time_ns(0), bars.interval_ns, NEW_YORK) == "Sat 20 Jan 2024"


def test_years_of_days_are_labelled_by_month_and_year() -> None:
    bars = every(datetime(2019, 6, 1, tzinfo=UTC), timedelta(days=1), 2000)
    marks = time_ticks(bars, 0, 1999, 1000, None)
    assert [each.text for each in marks if each.major][1:] == ["2020", "2021", "2022", "2023", "2024"]


def test_seconds_are_shown_for_seconds() -> None:
    bars = every(datetime(2024, 8, 8, 12, 0, 0, tzinfo=UTC), timedelta(seconds=1), 60)
    texts = [each.text for each in time_ticks(bars, 0, 59, 600, UTC)]
    assert "12:00:15" in texts
    assert moment_text(bars.time_ns(3), bars.interval_ns, UTC) == "Thu 8 Aug 2024 12:00:03"


def test_the_hour_that_comes_twice_ends() -> None:
    bars = every(datetime(2024, 10, 26, 22, 0, tzinfo=UTC), timedelta(minutes=1), 360)
    for width in (200, 800, 2400):
        marks = time_ticks(bars, 0, 359, width, BERLIN)
        assert [each.index for each in marks] == sorted({each.index for each in marks})
        assert len(marks) >= 1


@given(
    st.lists(st.integers(1, 10**9), min_size=1, max_size=300),
    st.floats(-50, 350),
    st.floats(0.5, 400),
    st.floats(50, 3000),
)
def test_labels_of_any_bars_are_few_apart_and_in_sight(
    gaps_s: list[int], left: float, window: float, width_px: float
) -> None:
    times = np.cumsum(np.array(gaps_s, np.int64) % 10**7 + 1) * 1_000_000_000
    ones = np.ones(len(times))
    bars = BarSeries()
    bars.set(BarColumns.of(times, ones, ones, ones, ones, ones))
    marks = time_ticks(bars, left, left + window, width_px, BERLIN)
    assert len(marks) <= MAX_LABELS * 2
    for mark in marks:
        assert left <= mark.index <= left + window
    for one, other in pairwise(marks):
        assert (other.index - one.index) * width_px / window >= 59


def test_panning_does_not_move_labels_between_bars() -> None:
    bars = every(datetime(2024, 8, 8, tzinfo=UTC), timedelta(minutes=1), 3000)
    seen: dict[int, str] = {}
    for shift in range(0, 300, 7):
        for mark in time_ticks(bars, 1000 + shift, 1300 + shift, 1000, UTC):
            assert seen.setdefault(mark.index, mark.text) == mark.text
            assert local_time(bars.time_ns(mark.index), UTC).minute % 30 == 0


def test_times_beyond_the_calendar_are_still_told() -> None:
    assert local_time(10**30, None).year == 9999
