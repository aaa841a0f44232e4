"""Regimes of the simulated market, and the daily process that everything within a day is bridged between.

A Markov chain of regimes (Hamilton 1989) sets each day's volatility and drift; the log price is drawn back weakly to
its long-run level. Regimes and a part of the shocks are common to all symbols, so that they move together.
"""

from __future__ import annotations

import zlib
from enum import IntEnum
from threading import Lock

import numpy as np
import numpy.typing as npt

from koc_qt.adapters.venues.simulator.catalogue import Listing
from koc_qt.domain.timeframes import DAY_NS, SECOND_NS

Floats = npt.NDArray[np.float64]

# Day numbers count from here: 2020-01-01T00:00Z, the day on which the simulated venues opened.
EPOCH_NS = 1_577_836_800_000_000_000
DAY_S = DAY_NS // SECOND_NS

_REVERSION = 0.012  # a day; half-life of 58 days
_DAILY_SIGMA = 0.024  # log return of a day, before regime and listing
_BLOCK_DAYS = 1024


class Regime(IntEnum):
    """How the market behaves, for a day or for some minutes of it."""

    CALM = 0
    TREND_UP = 1
    TREND_DOWN = 2
    VOLATILE = 3
    CRASH = 4


# Rows: today's regime; columns: tomorrow's.
_TRANSITION = np.array(
    [
        [0.880, 0.045, 0.035, 0.035, 0.005],
        [0.080, 0.840, 0.020, 0.050, 0.010],
        [0.080, 0.020, 0.820, 0.050, 0.030],
        [0.120, 0.060, 0.060, 0.720, 0.040],
        [0.050, 0.100, 0.150, 0.600, 0.100],
    ]
)
_DAY_VOLATILITY = np.array([0.75, 1.0, 1.0, 1.8, 2.6])
_DAY_DRIFT = np.array([0.0, 0.45, -0.45, 0.0, -1.6])  # in units of the day's volatility


def generator(seed: int, *keys: str | int) -> np.random.Generator:
    """Give the random stream named by `keys`, independent of all others of the same seed."""
    numbers = [zlib.crc32(key.encode()) if isinstance(key, str) else key for key in keys]
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, *numbers])))


class DailyAnchors:
    """Log price at each midnight, relative to the listing's long-run price, and each day's regime; grown on demand."""

    def __init__(self, seed: int, listing: Listing) -> None:
        self._seed = seed
        self._listing = listing
        self._lock = Lock()
        self._log_prices: Floats = np.zeros(1)
        self._regimes: npt.NDArray[np.int8] = np.zeros(0, dtype=np.int8)

    def day(self, day: int) -> tuple[float, float, Regime, float]:
        """Give the log price at the day's start and end, its regime, and its volatility (log return of a day)."""
        with self._lock:
            if day >= len(self._regimes):
                self._compute((day // _BLOCK_DAYS + 1) * _BLOCK_DAYS)
            regime = Regime(int(self._regimes[day]))
            sigma = _DAILY_SIGMA * self._listing.volatility * float(_DAY_VOLATILITY[regime])
            return float(self._log_prices[day]), float(self._log_prices[day + 1]), regime, sigma

    def _compute(self, days: int) -> None:
        # A longer draw from one stream begins with the shorter one, so growing changes no day that was given before.
        chain = generator(self._seed, "regimes").random(days)
        common = generator(self._seed, "market").standard_normal(days)
        own = generator(self._seed, "daily", self._listing.symbol).standard_normal(days)
        share = self._listing.market_share
        shocks = share * common + np.sqrt(1 - share**2) * own
        cumulative = np.cumsum(_TRANSITION, axis=1)
        regimes = np.zeros(days, dtype=np.int8)
        log_prices = np.zeros(days + 1)
        regime = int(Regime.CALM)
        for day in range(days):
            regime = min(int(np.searchsorted(cumulative[regime], chain[day], side="right")), len(Regime) - 1)
            regimes[day] = regime
            sigma = _DAILY_SIGMA * self._listing.volatility * _DAY_VOLATILITY[regime]
            move = sigma * (_DAY_DRIFT[regime] + shocks[day])
            log_prices[day + 1] = log_prices[day] * (1 - _REVERSION) + move
        self._regimes, self._log_prices = regimes, log_prices
