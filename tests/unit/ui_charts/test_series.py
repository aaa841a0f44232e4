"""The column store: what it takes, what it refuses, and that it always equals a plain list of bars."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.ui.charts.series import BarColumns, BarSeries

Row = tuple[int, float, float, float, float, float]


def rows(times: list[int], seed: float = 100.0) -> list[Row]:
    return [(t, seed + t, seed + t + 2, seed + t - 2, seed + t + 1, float(t % 7)) for t in times]


def columns(bars: list[Row]) -> BarColumns:
    return BarColumns.of(*(list(each) for each in zip(*bars, strict=True))) if bars else BarColumns.of(*[[]] * 6)


def content(series: BarSeries) -> list[Row]:
    parts = (series.open_time_ns, series.open, series.high, series.low, series.close, series.volume)
    return list(zip(*(each.tolist() for each in parts), strict=True))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"open_time_ns": [1, 1]}, "row 1 opens at 1 ns, not after"),
        ({"open_time_ns": [2, 1]}, "must be in order of time"),
        ({"close": [1.0]}, "of one length"),
        ({"high": [1.0, float("nan")]}, "the bar of 2 ns has a price that is not a number"),
        ({"low": [float("-inf"), 1.0]}, "the bar of 1 ns"),
    ],
)
def test_bad_columns_are_refused_in_a_sentence(change: dict[str, list[float]], words: str) -> None:
    good: dict[str, list[float]] = {name: [1.0, 2.0] for name in ("open", "high", "low", "close", "volume")}
    with pytest.raises(ValueError, match=words):
        BarColumns.of(**{"open_time_ns": [1, 2], **good, **change})  # type: ignore[arg-type]


def test_volumes_that_are_no_number_count_as_none_and_the_callers_array_is_left_alone() -> None:
    volume = np.array([1.0, np.nan])
    made = BarColumns.of([1, 2], [1, 1], [1, 1], [1, 1], [1, 1], volume)
    assert made.values[4].tolist() == [1.0, 0.0]
    assert np.isnan(volume[1])


def test_a_time_between_two_bars_is_refused_and_changes_nothing() -> None:
    series = BarSeries()
    series.set(columns(rows([10, 20, 30])))
    before = content(series)
    for time_ns in (5, 25):
        with pytest.raises(ValueError, match="merge it"):
            series.upsert(time_ns, (1, 1, 1, 1, 1))
    with pytest.raises(ValueError, match="not a number"):
        series.upsert(40, (1, float("nan"), 1, 1, 1))
    assert content(series) == before


def test_an_older_bar_can_be_corrected() -> None:
    series = BarSeries()
    series.set(columns(rows([10, 20, 30])))
    assert series.upsert(20, (1, 2, 0, 1, 9)) == 1
    assert series.bar(1) == (1, 2, 0, 1, 9)
    with pytest.raises(IndexError):
        series.bar(3)


def test_prepending_leaves_out_what_is_there_already() -> None:
    series = BarSeries()
    series.set(columns(rows([30, 40])))
    assert series.prepend(columns(rows([10, 20, 30, 40]))) == 2
    assert content(series) == rows([10, 20, 30, 40])
    assert series.prepend(columns(rows([10, 30]))) == 0


def test_merging_fills_a_gap_and_keeps_what_is_newer() -> None:
    series = BarSeries()
    series.set(columns(rows([10, 20, 50, 60])))
    assert series.merge(columns(rows([20, 30, 40, 50], seed=7.0))) == 1
    assert content(series) == [*rows([10]), *rows([20, 30, 40, 50], seed=7.0), *rows([60])]
    assert series.merge(columns([])) == 6


def test_times_are_looked_up_and_go_on_outside() -> None:
    series = BarSeries()
    assert series.index_at(5) == -1
    series.set(columns(rows([100, 110, 120, 500, 510])))
    assert series.interval_ns == 10
    assert [series.index_at(t) for t in (99, 100, 119, 499, 10_000)] == [-1, 0, 1, 2, 4]
    assert [series.time_ns(i) for i in (-2, 0, 4, 6)] == [80, 100, 510, 530]


def test_appending_moves_the_arrays_seldom() -> None:
    series = BarSeries()
    homes = set()
    for n in range(20_000):
        series.upsert(n, (1, 1, 1, 1, 1))
        homes.add(series.open_time_ns.__array_interface__["data"][0])
    assert len(series) == 20_000
    assert len(homes) < 12


STEP = st.one_of(
    st.tuples(st.just("upsert"), st.integers(0, 60)),
    st.tuples(st.just("prepend"), st.lists(st.integers(-200, 60), unique=True, max_size=8).map(sorted)),
    st.tuples(st.just("merge"), st.lists(st.integers(-50, 80), unique=True, max_size=8).map(sorted)),
)


@given(st.lists(STEP, max_size=40))
def test_it_equals_a_plain_dictionary_of_bars(steps: list[tuple[str, object]]) -> None:
    series = BarSeries()
    plain: dict[int, Row] = {}
    for number, (kind, what) in enumerate(steps):
        if isinstance(what, int):
            bar = rows([what], seed=float(number))[0]
            if plain and what < max(plain) and what not in plain:
                with pytest.raises(ValueError, match="merge it"):
                    series.upsert(what, bar[1:])
                continue
            series.upsert(what, bar[1:])
            plain[what] = bar
        else:
            assert isinstance(what, list)
            given_rows = rows(what, seed=float(number))
            if kind == "prepend":
                kept = [each for each in given_rows if not plain or each[0] < min(plain)]
                assert series.prepend(columns(given_rows)) == len(kept)
                plain.update({each[0]: each for each in kept})
            elif what:
                series.merge(columns(given_rows))
                plain = {t: bar for t, bar in plain.items() if not what[0] <= t <= what[-1]}
                plain.update({each[0]: each for each in given_rows})
        assert content(series) == [plain[t] for t in sorted(plain)]
