"""What an equity curve tells, by hand-made numbers."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.domain.curves import benchmark, months, thin_rows, underwater
from koc_qt.domain.timeframes import DAY_NS


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000


def test_a_month_goes_from_the_last_value_before_it_to_its_own_last() -> None:
    times = [
        at(day) for day in ("2023-12-20", "2023-12-31", "2024-01-15", "2024-01-31T23:59:59", "2024-03-01T00:00:01")
    ]
    assert months(times, [100.0, 110.0, 90.0, 99.0, 198.0]) == pytest.approx(
        {"2023-12": 0.1, "2024-01": -0.1, "2024-03": 1.0}
    )


def test_the_close_of_a_months_last_bar_is_of_that_month() -> None:
    days = [at("2024-01-30"), at("2024-01-31"), at("2024-02-01"), at("2024-02-02")]
    assert months(days, [100.0, 101.0, 102.0, 103.0]) == pytest.approx({"2024-01": 0.02, "2024-02": 103 / 102 - 1})


def test_months_of_too_little() -> None:
    assert months([], []) == {}
    assert months([at("2024-01-31")], [100.0]) == {}
    ruined = [at("2024-01-30"), at("2024-01-31"), at("2024-02-03"), at("2024-03-03")]
    assert months(ruined, [100.0, -5.0, 10.0, 20.0]) == pytest.approx({"2024-01": -1.05, "2024-03": 1.0})


@given(st.lists(st.tuples(st.integers(1, 40), st.floats(1.0, 1e6)), min_size=1, max_size=60))
def test_months_compound_to_the_whole(steps: list[tuple[int, float]]) -> None:
    times, values = [at("1969-11-11")], [100.0]
    for days, value in steps:
        times.append(times[-1] + days * DAY_NS)
        values.append(value)
    found = months(times, values)
    assert list(found) == sorted(found)
    assert math.prod(1 + each for each in found.values()) == pytest.approx(values[-1] / values[0], rel=1e-9)


def test_buying_and_holding() -> None:
    nan = math.nan
    assert benchmark(1_000.0, 50.0, [nan, nan, 55.0, 40.0]).tolist() == pytest.approx(
        [1_000.0, 1_000.0, 1_100.0, 800.0]
    )
    assert benchmark(1_000.0, None, [nan, nan]).tolist() == [1_000.0, 1_000.0]


def test_under_water() -> None:
    assert underwater([100.0, 120.0, 90.0, 130.0, -13.0]).tolist() == pytest.approx([0.0, 0.0, -0.25, 0.0, -1.1])


def test_rows_of_a_thinned_curve() -> None:
    assert thin_rows([3.0, 1.0, 2.0], 4) == [0, 1, 2]
    assert thin_rows([0.0, 5.0, 1.0, -1.0, 2.0, 3.0], 4) == [0, 1, 3, 5]
    with pytest.raises(ValueError, match="3 points"):
        thin_rows([1.0], 3)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(4, 60))
def test_a_thinned_curve_keeps_its_ends_and_extremes(values: list[float], limit: int) -> None:
    rows = thin_rows(values, limit)
    kept = [values[row] for row in rows]
    assert len(rows) <= limit
    assert rows == sorted(set(rows))
    assert (rows[0], rows[-1]) == (0, len(values) - 1)
    assert (min(kept), max(kept)) == (min(values), max(values))
