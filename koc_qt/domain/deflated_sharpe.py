"""How likely a Sharpe ratio is more than luck: the probabilistic and the deflated Sharpe ratio.

Sharpe ratios here are of one period: the mean of the periods' returns over their sample standard deviation, not
annualised, with a risk-free rate of 0.

Sources: D. H. Bailey and M. Lopez de Prado, "The Sharpe Ratio Efficient Frontier", Journal of Risk 15 (2012), and "The
Deflated Sharpe Ratio: Correcting for Selection Bias, Backtest Overfitting, and Non-Normality", Journal of Portfolio
Management 40 (2014).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from statistics import NormalDist

import msgspec

EULER = 0.5772156649015329  # Euler's and Mascheroni's constant
_NORMAL = NormalDist()
_NOISE = 1e-9  # a deviation below this share of the mean is what rounding leaves of none at all


class Moments(msgspec.Struct, frozen=True):
    """What the returns of `count` periods are like. `kurtosis` is 3 for normal ones."""

    count: int
    sharpe: float
    skewness: float
    kurtosis: float


def moments(returns: Sequence[float]) -> Moments | None:
    """Give the moments of returns; None of fewer than three, and where they do not differ.

    Skewness and kurtosis are those of the population: mean cubed and fourth deviation over the power of the root of
    the mean squared one.
    """
    count = len(returns)
    if count < 3:
        return None
    mean = math.fsum(returns) / count
    deviations = [each - mean for each in returns]
    variance = math.fsum(each**2 for each in deviations) / count
    if math.sqrt(variance) <= _NOISE * abs(mean):
        return None
    skewness = math.fsum(each**3 for each in deviations) / count / variance**1.5
    kurtosis = math.fsum(each**4 for each in deviations) / count / variance**2
    return Moments(count, mean / math.sqrt(variance * count / (count - 1)), skewness, kurtosis)


def probabilistic_sharpe(found: Moments, benchmark: float = 0.0) -> float | None:
    """Give the probability that the true Sharpe ratio is above `benchmark`; None where the formula has no value.

    PSR(SR*) = Z[(SR - SR*) sqrt(T - 1) / sqrt(1 - g3 SR + (g4 - 1) / 4 SR^2)], with Z the normal distribution, T the
    number of periods, g3 the skewness and g4 the kurtosis of their returns (2012, equation 11).
    """
    spread = 1.0 - found.skewness * found.sharpe + (found.kurtosis - 1.0) / 4.0 * found.sharpe**2
    if spread <= 0 or found.count < 2:
        return None
    return _NORMAL.cdf((found.sharpe - benchmark) * math.sqrt(found.count - 1) / math.sqrt(spread))


def expected_best(trials: int, variance: float) -> float:
    """Give the Sharpe ratio that the best of `trials` is expected to have by luck alone; 0 for one trial.

    SR0 = sqrt(V) ((1 - g) Z^-1[1 - 1/N] + g Z^-1[1 - 1/(N e)]), with g Euler's constant, N the number of independent
    trials and V the variance of their Sharpe ratios (2014, equation 1). Raises ValueError below one trial and for a
    variance below zero.
    """
    if trials < 1 or not variance >= 0:
        raise ValueError(f"{trials} trials with Sharpe ratios of variance {variance}")
    if trials == 1:
        return 0.0
    low, high = _NORMAL.inv_cdf(1.0 - 1.0 / trials), _NORMAL.inv_cdf(1.0 - 1.0 / (trials * math.e))
    return math.sqrt(variance) * ((1.0 - EULER) * low + EULER * high)


def deflated_sharpe(found: Moments, trials: int, variance: float) -> float | None:
    """Give the probability that the best of `trials` is better than luck: PSR(SR0), see `expected_best` (2014, 2).

    Raises ValueError as that does.
    """
    return probabilistic_sharpe(found, expected_best(trials, variance))


def variance_of(sharpes: Sequence[float]) -> float:
    """Give the sample variance of trials' Sharpe ratios; 0 of fewer than two."""
    count = len(sharpes)
    if count < 2:
        return 0.0
    mean = math.fsum(sharpes) / count
    return math.fsum((each - mean) ** 2 for each in sharpes) / (count - 1)


def even_returns(times_ns: Sequence[int], equity: Sequence[float], periods: int) -> list[float]:
    """Give the returns of at most `periods` stretches of equal length of an equity curve that may have been thinned.

    At each end stands the newest value by then. Nothing for a curve without length, or one that is ever at zero, below
    or no number. Raises ValueError for fewer than one period.
    """
    if periods < 1:
        raise ValueError(f"a curve cannot be cut into {periods} periods")
    if len(times_ns) < 2 or times_ns[-1] <= times_ns[0] or not all(0 < value < math.inf for value in equity):
        return []
    length_ns = times_ns[-1] - times_ns[0]
    count = min(periods, len(times_ns) - 1)
    ends = [times_ns[0] + length_ns * number // count for number in range(count + 1)]
    values = [equity[bisect_right(times_ns, end) - 1] for end in ends]
    return [later / earlier - 1.0 for earlier, later in pairwise(values)]
