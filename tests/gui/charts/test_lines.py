"""The equity line, and how long lines are thinned."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import QPoint
from PySide6.QtGui import QColor, QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget

from koc_qt.ui.charts.colors import dark_colors
from koc_qt.ui.charts.line_chart import LineChart
from koc_qt.ui.charts.thinning import thinned
from tests.gui.charts.conftest import MINUTE_NS, START_NS


def line(shown: Callable[[QWidget], None], count: int, width: int = 400, height: int = 200) -> LineChart:
    chart = LineChart(zone=UTC)
    chart.resize(width, height)
    chart.set_values(START_NS + np.arange(count) * MINUTE_NS, 1000 + np.arange(count, dtype=float))
    shown(chart)
    return chart


def has(image: QImage, color: QColor) -> bool:
    return any(image.pixel(x, y) == color.rgb() for x in range(image.width()) for y in range(image.height()))


def test_it_tells_the_last_value_or_the_one_below_the_mouse(shown: Callable[[QWidget], None]) -> None:
    chart = line(shown, 101)
    assert chart.value_text == "1,100.00 · Thu 8 Aug 2024 11:40"
    QTest.mouseMove(chart, QPoint(0, 50))
    QApplication.processEvents()
    assert chart.value_text == "1,000.00 · Thu 8 Aug 2024 10:00"
    assert has(chart.grab().toImage(), dark_colors().up)


@pytest.mark.parametrize("count", [0, 1, 2, 100_000])
@pytest.mark.parametrize(("width", "height"), [(80, 50), (160, 120), (900, 300)])
def test_every_size_and_length_is_painted(
    shown: Callable[[QWidget], None], count: int, width: int, height: int
) -> None:
    assert not line(shown, count, width, height).grab().isNull()


def test_values_that_are_no_numbers_are_refused(shown: Callable[[QWidget], None]) -> None:
    chart = line(shown, 3)
    with pytest.raises(ValueError, match="not a number"):
        chart.set_values([1, 2], [1.0, float("nan")])


@given(st.integers(1, 5000), st.integers(1, 200))
def test_thinning_keeps_ends_and_extremes(count: int, columns: int) -> None:
    values = np.random.default_rng(count).normal(0, 1, count)
    positions, kept = thinned(values, columns)
    assert len(kept) <= 4 * columns
    assert (kept == values[positions.astype(int)]).all()
    assert {0, count - 1, int(values.argmin()), int(values.argmax())} <= set(positions.astype(int).tolist())
    assert (np.diff(positions) > 0).all()
