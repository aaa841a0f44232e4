"""The price within a day, second by second: one path a symbol, shared by all simulated venues, and each one's basis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from koc_qt.adapters.venues.simulator.regimes import DAY_S, Floats, Regime, generator

_SEGMENT_S = 1200.0  # mean life of a regime within the day
_SHORTEST_SEGMENT_S = 60.0
_SEGMENTS = 400  # far more than a day needs
_NOISE_S = 15.0  # e-folding time of the transient part of the price
_TAPER_S = 120.0

# Rows: the day's regime; columns: chance of each regime for a segment of it.
_MIX = np.array(
    [
        [0.700, 0.130, 0.130, 0.038, 0.002],
        [0.400, 0.350, 0.120, 0.125, 0.005],
        [0.400, 0.120, 0.350, 0.115, 0.015],
        [0.250, 0.180, 0.180, 0.350, 0.040],
        [0.100, 0.120, 0.250, 0.330, 0.200],
    ]
)
_VOLATILITY = np.array([0.7, 0.9, 0.9, 1.6, 2.6])
_DRIFT = np.array([0.0, 1.2, -1.2, 0.0, -2.0])  # in volatilities of a mean segment, over a mean segment
_NOISE = np.array([0.8e-4, 1.0e-4, 1.0e-4, 2.0e-4, 4.0e-4])  # standard deviation, log price

# The second venue's basis: a slow wave, and dislocations that come suddenly and are traded away within minutes.
_BASIS_SIGMA = 2.5e-4
_BASIS_S = 300.0
_DISLOCATIONS_A_DAY = 200.0
_DISLOCATION_MIN = 8e-4
_DISLOCATION_MEAN = 13e-4  # beyond the minimum
_RISE_S = 6.0


@dataclass(frozen=True, slots=True)
class Fundamental:
    """A day of one symbol, second by second.

    `log_price` stands at each second's start and at the day's end (86,401 values); `regime` and `shock`, the second's
    move in units of its volatility, have 86,400.
    """

    log_price: Floats
    regime: npt.NDArray[np.int8]
    shock: Floats


def fundamental_day(
    seed: int, symbol: str, day: int, start: float, end: float, regime: Regime, sigma: float
) -> Fundamental:
    """Bridge from log price `start` to `end` with regime-switching volatility; `sigma` is the day's volatility."""
    rng = generator(seed, "path", symbol, day)
    regimes = _segments(rng, regime)
    shock = rng.standard_normal(DAY_S)
    step = sigma / np.sqrt(DAY_S) * _VOLATILITY[regimes]
    walk = _summed(step * (shock + _DRIFT[regimes] / np.sqrt(_SEGMENT_S)))
    # The correction that makes the walk end at its anchor is spread by variance: loud hours carry most of it.
    variance = _summed(step**2)
    bridge = start + walk + variance / variance[-1] * (end - start - walk[-1])
    noise = autoregressive(rng.standard_normal(DAY_S), _NOISE_S) * _NOISE[regimes] * _TAPER
    bridge[1:] += noise
    return Fundamental(bridge, regimes, shock)


def basis_day(seed: int, venue: str, symbol: str, day: int) -> Floats:
    """Give the log price of `venue` above the common path at 86,401 seconds; zero at both midnights."""
    rng = generator(seed, "basis", venue, symbol, day)
    basis = np.zeros(DAY_S + 1)
    basis[1:] = autoregressive(rng.standard_normal(DAY_S), _BASIS_S) * _BASIS_SIGMA
    count = int(rng.poisson(_DISLOCATIONS_A_DAY))
    starts = rng.integers(0, DAY_S, count)
    sizes = (_DISLOCATION_MIN + _DISLOCATION_MEAN * rng.standard_exponential(count)) * rng.choice((-1.0, 1.0), count)
    decays = rng.uniform(20.0, 150.0, count)
    for start, size, decay in zip(starts, sizes, decays, strict=True):
        age = np.arange(min(DAY_S + 1 - int(start), int(8 * decay)), dtype=np.float64)
        basis[start : start + len(age)] += size * np.minimum(age / _RISE_S, 1.0) * np.exp(-age / decay)
    basis[1:] *= _TAPER
    return basis


def autoregressive(shocks: Floats, e_folding_s: float) -> Floats:
    """Give the AR(1) process of unit variance driven by `shocks` of unit variance, beginning at zero.

    Computed as a square of blocks, all blocks' k-th element at once and then the carries from block to block: no BLAS,
    whose rounding depends on the machine's core count.
    """
    phi = float(np.exp(-1.0 / e_folding_s))
    side = int(np.ceil(np.sqrt(len(shocks))))
    blocks = np.zeros(side * side)
    blocks[: len(shocks)] = shocks * np.sqrt(1 - phi**2)
    columns = np.ascontiguousarray(blocks.reshape(side, side).T)
    for k in range(1, side):
        columns[k] += phi * columns[k - 1]
    powers = phi ** np.arange(1, side + 1)
    carry = np.zeros(side)
    for block in range(1, side):
        carry[block] = columns[-1, block - 1] + powers[-1] * carry[block - 1]
    columns += powers[:, None] * carry[None, :]
    return columns.T.reshape(-1)[: len(shocks)]


def _segments(rng: np.random.Generator, day_regime: Regime) -> npt.NDArray[np.int8]:
    lengths = _SHORTEST_SEGMENT_S + (_SEGMENT_S - _SHORTEST_SEGMENT_S) * rng.standard_exponential(_SEGMENTS)
    ends = np.minimum(np.cumsum(lengths), DAY_S).astype(np.int64)
    ends[-1] = DAY_S
    chosen = np.searchsorted(np.cumsum(_MIX[day_regime]), rng.random(_SEGMENTS), side="right")
    chosen = np.minimum(chosen, len(Regime) - 1).astype(np.int8)
    return np.repeat(chosen, np.diff(ends, prepend=0))


def _summed(steps: Floats) -> Floats:
    sums = np.zeros(len(steps) + 1)
    np.cumsum(steps, out=sums[1:])
    return sums


def _make_taper() -> Floats:
    second = np.arange(1, DAY_S + 1, dtype=np.float64)
    return np.minimum(1.0, np.minimum(second, DAY_S - second) / _TAPER_S)


# What is added to the path is zero at midnight, so that one day's end is the next day's beginning.
_TAPER = _make_taper()
