"""Probabilistic and deflated Sharpe ratios, held against the values that their authors published."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from koc_qt.domain.deflated_sharpe import (
    Moments,
    deflated_sharpe,
    even_returns,
    expected_best,
    moments,
    probabilistic_sharpe,
    variance_of,
)

# Bailey and Lopez de Prado 2014, "A numerical example": 2.5 a year of 250 days, five years, the trials' variance is
# one half a year, skewness -3, kurtosis 10.
FOUND = Moments(1250, 2.5 / math.sqrt(250), -3.0, 10.0)
VARIANCE = 0.5 / 250


def test_the_published_example_of_the_deflated_ratio() -> None:
    assert expected_best(100, VARIANCE) == pytest.approx(0.1132, abs=5e-5)
    assert deflated_sharpe(FOUND, 100, VARIANCE) == pytest.approx(0.9004, abs=5e-5)
    assert deflated_sharpe(FOUND, 46, VARIANCE) == pytest.approx(0.9505, abs=5e-5)
    normal = Moments(1250, FOUND.sharpe, 0.0, 3.0)
    assert deflated_sharpe(normal, 88, VARIANCE) == pytest.approx(0.9505, abs=5e-5)


def test_the_published_example_of_the_probabilistic_ratio() -> None:
    """Bailey and Lopez de Prado 2012: two years of months with a ratio of 0.458 each."""
    assert probabilistic_sharpe(Moments(24, 0.458, 0.0, 3.0)) == pytest.approx(0.982, abs=5e-4)
    assert probabilistic_sharpe(Moments(24, 0.458, -2.448, 10.164)) == pytest.approx(0.913, abs=5e-4)
    assert probabilistic_sharpe(Moments(24, 0.458, 0.0, 3.0), 0.458) == pytest.approx(0.5)


def test_one_trial_deflates_nothing_and_more_do_more() -> None:
    assert deflated_sharpe(FOUND, 1, VARIANCE) == probabilistic_sharpe(FOUND)
    values = [expected_best(trials, VARIANCE) for trials in (1, 2, 10, 100, 10_000)]
    assert values == sorted(values)
    rng = random.Random(1)  # the formula is an approximation of the mean of the largest of so many normal values
    largest = statistics.fmean(max(rng.gauss(0, 1) for _ in range(100)) for _ in range(2_000))
    assert expected_best(100, 1.0) == pytest.approx(largest, rel=0.03)
    with pytest.raises(ValueError, match="0 trials"):
        expected_best(0, 1.0)
    with pytest.raises(ValueError, match="variance -1"):
        expected_best(2, -1.0)


def test_where_the_formula_has_no_value() -> None:
    assert probabilistic_sharpe(Moments(100, 1.0, 3.0, 1.0)) is None
    assert probabilistic_sharpe(Moments(1, 1.0, 0.0, 3.0)) is None


def test_moments_of_returns() -> None:
    found = moments([1.0, 2.0, 3.0, 10.0])
    assert found is not None
    assert found.count == 4
    assert found.sharpe == pytest.approx(4.0 / statistics.stdev([1.0, 2.0, 3.0, 10.0]))
    # mean 4; deviations -3 -2 -1 6: squares 50, cubes 180, fourth powers 1394
    assert found.skewness == pytest.approx(180 / 4 / 12.5**1.5)
    assert found.kurtosis == pytest.approx(1394 / 4 / 12.5**2)
    assert moments([1.0, 2.0]) is None
    assert moments([0.1, 0.1, 0.1, 0.1]) is None
    assert moments([0.0, 0.0, 0.0]) is None


def test_variance_of_trials() -> None:
    assert variance_of([1.0]) == 0.0
    assert variance_of([1.0, 2.0, 4.0]) == pytest.approx(statistics.variance([1.0, 2.0, 4.0]))


def test_a_thinned_curve_is_cut_into_even_periods() -> None:
    assert even_returns([0, 1, 2, 3, 4], [100.0, 110.0, 99.0, 99.0, 198.0], 10) == pytest.approx([0.1, -0.1, 0.0, 1.0])
    assert even_returns([0, 1, 2, 3, 4], [100.0, 110.0, 99.0, 99.0, 198.0], 2) == pytest.approx([-0.01, 1.0])
    uneven = even_returns([0, 1, 9, 10], [100.0, 110.0, 121.0, 121.0], 2)
    assert uneven == pytest.approx([0.1, 0.1])
    assert even_returns([0], [1.0], 5) == []
    assert even_returns([3, 3], [1.0, 2.0], 5) == []
    assert even_returns([0, 1, 2], [1.0, 0.0, 2.0], 5) == []
    assert even_returns([0, 1, 2], [1.0, math.nan, 2.0], 5) == []
    with pytest.raises(ValueError, match="0 periods"):
        even_returns([0, 1], [1.0, 1.0], 0)
