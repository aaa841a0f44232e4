"""What part is shown: nobody gets lost, zooming keeps what is below the mouse, prices fit between their margins."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.ui.charts.scales import PriceScale, TimeScale


def scale(count: int = 1000, width: int = 800) -> TimeScale:
    made = TimeScale(count=count, width=width)
    made.to_newest()
    return made


def test_the_newest_bar_is_in_sight_with_room_to_grow() -> None:
    shown = scale()
    assert shown.newest_visible
    assert 12 <= 800 - shown.x_of(999) <= 80


def test_zooming_keeps_the_bar_below_the_mouse() -> None:
    shown = scale()
    shown.pan_px(500)
    before = shown.index_at(300)
    shown.zoom(1.5, 300)
    assert shown.index_at(300) == pytest.approx(before)
    assert shown.spacing == pytest.approx(7 * 1.5)


GESTURE = st.one_of(
    st.tuples(st.just("pan_px"), st.floats(-1e6, 1e6)),
    st.tuples(st.just("zoom"), st.floats(0.01, 100), st.floats(0, 800)),
    st.tuples(st.just("centre"), st.floats(-1e7, 1e7)),
    st.tuples(st.just("show"), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)),
    st.tuples(st.just("resize"), st.integers(-5, 4000)),
    st.tuples(st.just("to_newest")),
    st.tuples(st.just("to_oldest")),
)


@given(st.integers(0, 1_000_000), st.lists(GESTURE, max_size=30))
def test_bars_stay_in_sight_whatever_one_does(count: int, gestures: list[tuple[str, float]]) -> None:
    shown = scale(count)
    for name, *arguments in gestures:
        getattr(shown, name)(*arguments)
        assert math.isfinite(shown.left)
        assert math.isfinite(shown.right)
        assert shown.right > shown.left
        assert 0 < shown.spacing <= 60
        if count:
            assert shown.left <= count - 1
            assert shown.right >= -0.5


def test_one_can_see_all_of_a_million_bars() -> None:
    shown = scale(1_000_000)
    shown.show(0, 999_999)
    assert shown.left == pytest.approx(-0.5)
    assert shown.right == pytest.approx(999_999.5)


@given(st.floats(1e-9, 1e9), st.floats(0, 1e6))
def test_prices_fit_between_their_margins(low: float, span: float) -> None:
    prices = PriceScale()
    prices.fit(low, low + span, 500, 40, 400)
    assert prices.high > prices.low
    if span > low * 1e-6:
        per_px = (prices.high - prices.low) / 500
        assert (prices.high - (low + span)) / per_px == pytest.approx(40, abs=0.01)
        assert (prices.high - low) / per_px == pytest.approx(400, abs=0.01)


def test_prices_move_and_stretch_by_hand_within_reason() -> None:
    prices = PriceScale(100, 200)
    prices.pan_px(50, 100)
    assert (prices.low, prices.high, prices.auto) == (150, 250, False)
    prices.zoom(2, 50, 100)
    assert (prices.low, prices.high) == (175, 225)
    for _ in range(500):
        prices.zoom(10, 50, 100)
    assert prices.high > prices.low
    for _ in range(500):
        prices.zoom(0.1, 50, 100)
    assert math.isfinite(prices.high - prices.low)
