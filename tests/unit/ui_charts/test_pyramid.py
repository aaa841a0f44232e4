"""The pyramid against brute force, whatever way its bars came."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.ui.charts.pyramid import Pyramid
from koc_qt.ui.charts.series import BarColumns, BarSeries


def some_bars(count: int, start: int = 0) -> BarColumns:
    chance = np.random.default_rng(1_000_000 + count + start)
    close = chance.normal(100, 10, count)
    opened = chance.normal(100, 10, count)
    high, low = np.maximum(opened, close) + chance.random(count), np.minimum(opened, close) - chance.random(count)
    times = np.arange(start, start + count)
    return BarColumns.of(times, opened, high, low, close, chance.random(count))


def check(series: BarSeries, pyramid: Pyramid) -> None:
    """Compare every node of every level with the bars it stands for."""
    for level in range(pyramid.top + 1):
        size, count = 1 << level, pyramid.count(level)
        assert count == math.ceil(len(series) / size)
        nodes = pyramid.nodes(level, 0, count)
        for node in range(count):
            part = slice(node * size, (node + 1) * size)
            assert nodes.open[node] == series.open[part][0]
            assert nodes.close[node] == series.close[part][-1]
            assert nodes.high[node] == series.high[part].max()
            assert nodes.low[node] == series.low[part].min()
            assert nodes.volume[node] == pytest.approx(series.volume[part].sum())


@given(st.integers(0, 400), st.lists(st.sampled_from(["append", "last", "older", "prepend", "merge"]), max_size=25))
def test_every_change_keeps_it_right(count: int, changes: list[str]) -> None:
    series = BarSeries()
    series.set(some_bars(count))
    pyramid = Pyramid(series)
    pyramid.refresh(0)
    for number, change in enumerate(changes):
        price = 100.0 + 30 * math.sin(number)
        bar = (price, price + 1, price - 1, price, 1.0)
        if change == "append" or not len(series):
            next_ns = int(series.open_time_ns[-1]) + 1 if len(series) else 0
            pyramid.touch(series.upsert(next_ns, bar))
        elif change == "last":
            pyramid.touch(series.upsert(int(series.open_time_ns[-1]), bar))
        elif change == "older":
            pyramid.touch(series.upsert(int(series.open_time_ns[len(series) // 3]), bar))
        elif change == "prepend":
            series.prepend(some_bars(37, int(series.open_time_ns[0]) - 37))
            pyramid.refresh(0)
        else:
            pyramid.refresh(series.merge(some_bars(20, int(series.open_time_ns[len(series) // 2]))))
    check(series, pyramid)


def test_appending_bar_by_bar_across_many_levels() -> None:
    series, pyramid = BarSeries(), None
    pyramid = Pyramid(series)
    bars = some_bars(1100)
    for row in range(len(bars)):
        values = bars.values[:, row].tolist()
        pyramid.touch(series.upsert(int(bars.open_time_ns[row]), tuple(values)))
        if row in (0, 1, 63, 64, 65, 128, 129, 513, 1024):
            check(series, pyramid)
    check(series, pyramid)
    assert pyramid.top == 5


def test_a_series_that_shrinks_loses_levels() -> None:
    series = BarSeries()
    pyramid = Pyramid(series)
    series.set(some_bars(1000))
    pyramid.refresh(0)
    series.set(some_bars(10))
    pyramid.refresh(0)
    assert pyramid.top == 0
    check(series, pyramid)


def test_nodes_are_cut_to_those_there_are() -> None:
    series = BarSeries()
    pyramid = Pyramid(series)
    assert len(pyramid.nodes(0, -5, 5)) == 0
    assert pyramid.extremes() == (0.0, 0.0)
    series.set(some_bars(300))
    pyramid.refresh(0)
    for level in range(pyramid.top + 1):
        assert len(pyramid.nodes(level, -10, 10_000)) == pyramid.count(level)
        assert len(pyramid.nodes(level, 10_000, 20_000)) == 0
        assert len(pyramid.nodes(level, 5, 2)) == 0
    assert pyramid.extremes() == (series.low.min(), series.high.max())


@given(st.floats(1e-4, 50))
def test_the_level_is_the_finest_of_two_pixels_a_node(spacing_px: float) -> None:
    series = BarSeries()
    pyramid = Pyramid(series)
    series.set(some_bars(3000))
    pyramid.refresh(0)
    level = pyramid.level_for(spacing_px)
    assert spacing_px * 2**level >= 2.0 or level == pyramid.top
    assert level == 0 or spacing_px * 2 ** (level - 1) < 2.0
