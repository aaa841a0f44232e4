"""Risk and reward of an equity curve, by itself and against a benchmark: the formulas are in domain/performance.py.

Vectors are computed value by value, and sums have a stated order, so that no figure depends on how wide a machine's
vectors are: the same curve gives the same figures, bit for bit, wherever powers are rounded alike.
"""

from __future__ import annotations

import math

import numpy as np

from koc_qt.domain.curves import Floats, Ints
from koc_qt.domain.timeframes import DAY_NS, SECOND_NS, YEAR_NS

_SHORTEST_YEARLY_NS = DAY_NS  # what happened within a day says nothing about a year
_NOISE = 1e-9  # a deviation below this share of the mean is what rounding leaves of none at all
_TAIL = 0.05  # the share of the periods that value at risk and expected shortfall are about
_FEWEST_FOR_TAIL = 20
_LANES = 4_096

Values = dict[str, float | None]


def total(values: Floats) -> float:
    """Add up, exactly but for the last rounding, up to 4,096 values; beyond, so many interleaved sums of them."""
    whole = len(values) // _LANES * _LANES
    if whole <= _LANES:
        return math.fsum(values.tolist())
    lanes = values[:_LANES].copy()
    for row in values[_LANES:whole].reshape(-1, _LANES):
        lanes += row
    return math.fsum([*lanes.tolist(), *values[whole:].tolist()])


def returns_of(values: Floats) -> Floats:
    """Give the return of each period: from each value to the next."""
    return values[1:] / values[:-1] - 1.0


def growth(first: float, final: float, length_ns: int) -> float | None:
    """Give the yearly growth; None for less than a day, for what ended in nothing, and for what no float can hold."""
    if length_ns < _SHORTEST_YEARLY_NS or final <= 0:
        return None
    try:
        return math.pow(final / first, YEAR_NS / length_ns) - 1.0
    except OverflowError:
        return None


def drawdowns(times_ns: Ints, equity: Floats) -> dict[str, float]:
    """Give max_drawdown, max_drawdown_s, ulcer_index, and `fall`, the deepest in money.

    A peak is above zero: the first value is the cash that a run begins with.
    """
    peaks = np.maximum.accumulate(equity)
    falls = peaks - equity
    depths = falls / peaks
    at_peak = np.append(np.flatnonzero(falls == 0), len(equity))
    is_below = np.diff(at_peak) > 1
    until = np.minimum(at_peak[1:], len(equity) - 1)  # reached again, or the end
    lengths_ns = (times_ns[until] - times_ns[at_peak[:-1]])[is_below]
    return {
        "max_drawdown": float(depths.max()),
        "max_drawdown_s": float(lengths_ns.max(initial=0)) / SECOND_NS,
        "ulcer_index": math.sqrt(total(depths * depths) / max(len(equity) - 1, 1)),
        "fall": float(falls.max()),
    }


def ratios(equity: Floats, length_ns: int, risk_free: float) -> Values:
    """Give volatility, sharpe, sortino, value_at_risk, expected_shortfall, skewness and kurtosis.

    None for those that cannot be told, and for all where equity was ever zero or less.
    """
    names = "volatility", "sharpe", "sortino", "value_at_risk", "expected_shortfall", "skewness", "kurtosis"
    values: Values = dict.fromkeys(names)
    count = len(equity) - 1
    if count < 2 or equity.min() <= 0:
        return values
    returns = returns_of(equity)
    mean = total(returns) / count
    differences = returns - mean
    squares = differences * differences
    variance = total(squares)
    deviation = math.sqrt(variance / (count - 1))
    moves = deviation > _NOISE * abs(mean)
    if length_ns >= _SHORTEST_YEARLY_NS:
        rate = _rate(risk_free, count, length_ns)
        losses = np.minimum(returns - rate, 0.0)
        downside = math.sqrt(total(losses * losses) / count)
        root = math.sqrt(count * YEAR_NS / length_ns)
        values["volatility"] = deviation * root
        if moves:
            values["sharpe"] = (mean - rate) / deviation * root
        if downside > 0:
            values["sortino"] = (mean - rate) / downside * root
    if moves and count > 3:
        values |= _shape(differences, squares, variance)
    if count >= _FEWEST_FOR_TAIL:
        worst = np.quantile(returns, _TAIL)
        tail = returns[returns <= worst]
        values |= {"value_at_risk": 0.0 - float(worst), "expected_shortfall": 0.0 - total(tail) / len(tail)}
    return values


def against(equity: Floats, benchmark: Floats, length_ns: int, risk_free: float) -> Values:
    """Give alpha, beta, correlation and information_ratio.

    None where there is no benchmark or one that does not move, for less than a day, and where a value is zero or less.
    """
    values: Values = dict.fromkeys(("alpha", "beta", "correlation", "information_ratio"))
    count = len(equity) - 1
    if count < 2 or len(benchmark) != len(equity) or length_ns < _SHORTEST_YEARLY_NS:
        return values
    if equity.min() <= 0 or not benchmark.min() > 0:
        return values
    ours, theirs = returns_of(equity), returns_of(benchmark)
    our_mean, their_mean = total(ours) / count, total(theirs) / count
    our_moves, their_moves = ours - our_mean, theirs - their_mean
    our_square, their_square = total(our_moves * our_moves), total(their_moves * their_moves)
    if math.sqrt(their_square / count) <= _NOISE * abs(their_mean):
        return values
    common = total(our_moves * their_moves)
    beta, rate = common / their_square, _rate(risk_free, count, length_ns)
    values["beta"] = beta
    values["alpha"] = (our_mean - rate - beta * (their_mean - rate)) * (count * YEAR_NS / length_ns)
    if math.sqrt(our_square / count) > _NOISE * abs(our_mean):
        values["correlation"] = common / math.sqrt(our_square * their_square)
    above = our_moves - their_moves
    deviation = math.sqrt(total(above * above) / (count - 1))
    if deviation > _NOISE * abs(our_mean - their_mean):
        root = math.sqrt(count * YEAR_NS / length_ns)
        values["information_ratio"] = (our_mean - their_mean) / deviation * root
    return values


def _rate(risk_free: float, count: int, length_ns: int) -> float:
    """Give what a yearly rate earns in a period, of which there are `count`."""
    return math.pow(1.0 + risk_free, length_ns / (count * YEAR_NS)) - 1.0


def _shape(differences: Floats, squares: Floats, variance: float) -> Values:
    """Give skewness and excess kurtosis as estimates for the population that the periods are a sample of."""
    n = len(differences)
    second, third, fourth = variance / n, total(squares * differences) / n, total(squares * squares) / n
    skewness = third / math.pow(second, 1.5) * math.sqrt(n * (n - 1)) / (n - 2)
    excess = fourth / (second * second) - 3.0
    return {"skewness": skewness, "kurtosis": (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * excess + 6.0)}
