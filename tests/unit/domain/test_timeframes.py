from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.domain.errors import BadTimeframe
from koc_qt.domain.timeframes import DAY_NS, SECOND_NS, bar_open_ns, duration_ns, is_multiple

frames = st.builds("{}{}".format, st.integers(1, 52), st.sampled_from("smhdw"))
times = st.integers(-(10**18), 4 * 10**18)


def ns(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp()) * SECOND_NS


@pytest.mark.parametrize(
    ("timeframe", "seconds"),
    [
        ("1s", 1),
        ("90s", 90),
        ("1m", 60),
        ("15m", 900),
        ("4h", 14_400),
        ("1d", 86_400),
        ("1w", 604_800),
        ("366d", 31_622_400),
    ],
)
def test_a_timeframe_has_a_length(timeframe, seconds):
    assert duration_ns(timeframe) == seconds * SECOND_NS


@pytest.mark.parametrize(
    "timeframe",
    [
        "",
        "m",
        "5",
        "0m",
        "05m",
        "1M",
        "1 m",
        "-1m",
        "1.5h",
        "1y",
        "m1",
        "1m\n",
        "٣m",
        "367d",
        "99999999w",
        "9" * 99 + "s",
    ],
)
def test_what_is_not_a_timeframe_is_refused(timeframe):
    for use in (duration_ns, lambda text: bar_open_ns(0, text), lambda text: is_multiple(text, "1m")):
        with pytest.raises(BadTimeframe, match="is not a timeframe: write a whole number and s, m, h, d or w"):
            use(timeframe)


def test_bars_open_on_the_utc_grid():
    moment = ns(2019, 10, 11, 13, 47, 59) + 999_999_999  # a Friday
    assert bar_open_ns(moment, "1m") == ns(2019, 10, 11, 13, 47)
    assert bar_open_ns(moment, "15m") == ns(2019, 10, 11, 13, 45)
    assert bar_open_ns(moment, "4h") == ns(2019, 10, 11, 12)
    assert bar_open_ns(moment, "1d") == ns(2019, 10, 11)
    assert bar_open_ns(moment, "1w") == ns(2019, 10, 7)  # a Monday
    assert bar_open_ns(ns(2019, 10, 7), "1w") == ns(2019, 10, 7)
    assert bar_open_ns(ns(2019, 10, 7) - 1, "1w") == ns(2019, 9, 30)
    assert bar_open_ns(-1, "1d") == -DAY_NS  # before 1970


@given(time_ns=times, timeframe=frames)
def test_every_instant_is_in_exactly_one_bar(time_ns, timeframe):
    opening = bar_open_ns(time_ns, timeframe)
    assert opening <= time_ns < opening + duration_ns(timeframe)
    assert bar_open_ns(opening, timeframe) == opening
    if timeframe.endswith("w"):
        assert (opening - ns(1970, 1, 5)) % (7 * DAY_NS) == 0


def test_weeks_and_days_that_share_a_length_but_not_a_grid_are_told_apart():
    assert is_multiple("1w", "1d")
    assert is_multiple("2w", "1w")
    assert is_multiple("1m", "60s")
    assert is_multiple("1m", "1m")
    assert not is_multiple("1w", "7d")
    assert not is_multiple("1w", "3d")
    assert not is_multiple("1m", "5m")
    assert not is_multiple("7m", "2m")


@given(longer=frames, shorter=frames, time_ns=times)
def test_a_multiple_opens_only_where_the_shorter_one_opens(longer, shorter, time_ns):
    if is_multiple(longer, shorter):
        opening = bar_open_ns(time_ns, longer)
        assert bar_open_ns(opening, shorter) == opening
        assert bar_open_ns(bar_open_ns(time_ns, shorter), longer) == opening
