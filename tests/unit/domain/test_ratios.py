"""Risk and reward of a curve, by hand-made numbers; an independent library's are in tests/unit/test_reference.py."""

from __future__ import annotations

import math
import statistics as reference
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.domain.ratios import against, drawdowns, growth, ratios, returns_of, total
from koc_qt.domain.timeframes import DAY_NS, YEAR_NS

ALL = "volatility", "sharpe", "sortino", "value_at_risk", "expected_shortfall", "skewness", "kurtosis"


def walk(count: int, seed: int = 1) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return 100.0 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0.0, 0.01, count)))


@pytest.mark.parametrize("count", [0, 1, 4_096, 8_191, 8_192, 50_001])
def test_a_sum_is_exact_or_next_to_it(count: int) -> None:
    values = np.random.default_rng(count).normal(0.0, 1.0, count)
    exact = math.fsum(values.tolist())
    if count < 8_192:
        assert total(values) == exact
    else:
        assert total(values) == pytest.approx(exact, rel=1e-13, abs=1e-12)


def test_a_sum_leaves_what_it_adds_alone() -> None:
    values = np.ones(20_000)
    assert (total(values), values.min(), values.max()) == (20_000.0, 1.0, 1.0)


def test_returns_and_growth() -> None:
    assert returns_of(np.array([100.0, 110.0, 99.0])).tolist() == pytest.approx([0.1, -0.1])
    assert growth(100.0, 121.0, round(2 * YEAR_NS)) == pytest.approx(0.1)
    assert growth(100.0, 121.0, DAY_NS - 1) is None
    assert growth(100.0, 0.0, DAY_NS) is None
    assert growth(1.0, 1e9, DAY_NS) is None


def test_drawdowns() -> None:
    found = drawdowns(np.arange(6) * DAY_NS, np.array([100.0, 120.0, 90.0, 108.0, 120.0, 114.0]))
    assert found == pytest.approx(
        {
            "max_drawdown": 0.25,
            "max_drawdown_s": 3 * 86_400,
            "ulcer_index": math.sqrt((0.25**2 + 0.1**2 + 0.05**2) / 5),
            "fall": 30.0,
        }
    )
    assert drawdowns(np.array([7]), np.array([100.0])) == {
        "max_drawdown": 0.0, "max_drawdown_s": 0.0, "ulcer_index": 0.0, "fall": 0.0,
    }  # fmt: skip


@given(st.lists(st.integers(1, 6), min_size=1, max_size=40))
def test_the_longest_drawdown_as_a_loop_finds_it(values: list[int]) -> None:
    longest, peak, since, is_below = 0, 0, 0, False
    for time, value in enumerate(values):
        if value < peak:
            is_below = True
            continue
        if is_below:
            longest = max(longest, time - since)
        peak, since, is_below = value, time, False
    if is_below:
        longest = max(longest, len(values) - 1 - since)
    found = drawdowns(np.arange(len(values)) * 1_000_000_000, np.array(values, np.float64))
    assert found["max_drawdown_s"] == longest


def test_the_tail_and_the_shape_of_returns() -> None:
    curve = walk(101)
    returns = [later / earlier - 1.0 for earlier, later in pairwise(curve.tolist())]
    values = ratios(curve, 100 * DAY_NS, 0.0)
    ranked = sorted(returns)
    quantile = ranked[4] + 0.95 * (ranked[5] - ranked[4])  # row 4.95 of 0 to 99
    assert values["value_at_risk"] == pytest.approx(-quantile)
    assert values["expected_shortfall"] == pytest.approx(-reference.fmean(ranked[:5]))
    mean, n = reference.fmean(returns), len(returns)
    second, third, fourth = (sum((each - mean) ** power for each in returns) / n for power in (2, 3, 4))
    assert values["skewness"] == pytest.approx(third / second**1.5 * math.sqrt(n * (n - 1)) / (n - 2))
    excess = fourth / second**2 - 3
    assert values["kurtosis"] == pytest.approx((n - 1) * ((n + 1) * excess + 6) / ((n - 2) * (n - 3)))


def test_what_cannot_be_told_is_none() -> None:
    assert ratios(np.array([100.0, 101.0]), DAY_NS, 0.0) == dict.fromkeys(ALL)
    assert ratios(np.array([100.0, 0.0, 5.0, 6.0]), DAY_NS, 0.0) == dict.fromkeys(ALL)
    short = ratios(walk(20), DAY_NS - 1, 0.0)  # 19 periods within a day
    assert {name for name, value in short.items() if value is not None} == {"skewness", "kurtosis"}
    still = ratios(np.full(30, 100.0), 30 * DAY_NS, 0.0)
    assert {name: value for name, value in still.items() if value is not None} == {
        "volatility": 0.0, "value_at_risk": 0.0, "expected_shortfall": 0.0,
    }  # fmt: skip
    few = ratios(walk(4), 3 * DAY_NS, 0.0)
    assert (few["skewness"], few["kurtosis"]) == (None, None)
    assert few["volatility"] is not None


def test_a_curve_that_is_twice_the_market() -> None:
    market = walk(200)
    returns = returns_of(market)
    ours = 100.0 * np.cumprod(np.concatenate(([1.0], 1.0 + 2.0 * returns + 0.001)))
    values = against(ours, market, 199 * DAY_NS, 0.0)
    assert values["beta"] == pytest.approx(2.0)
    assert values["alpha"] == pytest.approx(0.365_25, rel=1e-6)
    assert values["correlation"] == pytest.approx(1.0)
    above = [each + 0.001 for each in returns.tolist()]
    expected = reference.fmean(above) / reference.stdev(above) * math.sqrt(365.25)
    assert values["information_ratio"] == pytest.approx(expected)


def test_there_must_be_a_market_to_hold_it_against() -> None:
    nothing = dict.fromkeys(("alpha", "beta", "correlation", "information_ratio"))
    curve = walk(5)
    for benchmark in (curve[:0], np.full(5, 100.0), curve - curve.min(), np.full(5, np.nan)):
        assert against(curve, benchmark, 4 * DAY_NS, 0.0) == nothing
    assert against(curve, walk(5, 2), DAY_NS - 1, 0.0) == nothing
    assert against(curve - curve.min(), curve, DAY_NS, 0.0) == nothing
    assert against(curve[:2], curve[:2], DAY_NS, 0.0) == nothing
    same = against(curve, curve, 4 * DAY_NS, 0.0)
    assert (same["beta"], same["alpha"], same["information_ratio"]) == (1.0, 0.0, None)
    cash = against(np.full(5, 100.0), curve, 4 * DAY_NS, 0.0)
    assert (cash["beta"], cash["correlation"]) == (0.0, None)
