"""Ranges and deviations."""

from __future__ import annotations

import math

from koc_qt.domain.market import Bar
from koc_qt.sdk.indicators._base import (
    Indicator,
    Price,
    SlidingExtreme,
    SlidingFold,
    WilderAverage,
    number,
    true_range,
)


class ATR(Indicator):
    """Wilder's average true range; it starts after period + 1 bars as the mean of the true ranges."""

    def __init__(self, period: int = 14) -> None:
        self._average = WilderAverage(period)
        self._previous_close: float | None = None

    def update(self, bar: Bar) -> float | None:
        """Take the next bar."""
        close = number(bar)
        previous, self._previous_close = self._previous_close, close
        if previous is not None:
            self.value = self._average.update(true_range(bar, previous))
        return self.value


_Moments = tuple[int, float, float]  # count, mean, sum of squared deviations from it


def _merge(a: _Moments, b: _Moments) -> _Moments:
    # Chan, Golub, LeVeque 1979: no difference of large squares, so nothing cancels.
    count = a[0] + b[0]
    delta = b[1] - a[1]
    return count, a[1] + delta * b[0] / count, a[2] + b[2] + delta * delta * a[0] * b[0] / count


class StdDev(Indicator):
    """Population standard deviation of the last `period` prices (divided by `period`, as in TA-Lib), and `mean`."""

    lines = ("value", "mean")

    def __init__(self, period: int = 20) -> None:
        self._moments: SlidingFold[_Moments] = SlidingFold(period, _merge)
        self.mean: float | None = None

    def update(self, value: Price) -> float | None:
        """Take the next price."""
        fold = self._moments.update((1, number(value), 0.0))
        if fold is not None:
            self.mean = fold[1]
            self.value = math.sqrt(fold[2] / fold[0])
        return self.value


class Bollinger(Indicator):
    """Bollinger bands: `value` is the mean of `period` prices, `upper` and `lower` are `width` deviations from it."""

    lines = ("value", "upper", "lower")

    def __init__(self, period: int = 20, width: float = 2.0) -> None:
        self._deviation = StdDev(period)
        self._width = width
        self.upper: float | None = None
        self.lower: float | None = None

    def update(self, value: Price) -> float | None:
        """Take the next price."""
        deviation = self._deviation.update(value)
        mean = self._deviation.mean
        if deviation is not None and mean is not None:
            self.value = mean
            self.upper, self.lower = mean + self._width * deviation, mean - self._width * deviation
        return self.value


class Highest(Indicator):
    """The highest of the last `period` prices."""

    def __init__(self, period: int) -> None:
        self._extreme = SlidingExtreme(period, 1)

    def update(self, value: Price) -> float | None:
        """Take the next price."""
        self.value = self._extreme.update(number(value))
        return self.value


class Lowest(Indicator):
    """The lowest of the last `period` prices."""

    def __init__(self, period: int) -> None:
        self._extreme = SlidingExtreme(period, -1)

    def update(self, value: Price) -> float | None:
        """Take the next price."""
        self.value = self._extreme.update(number(value))
        return self.value


class Donchian(Indicator):
    """Donchian channel: the `upper` of the bars' highs, the `lower` of their lows, and `value` half-way between."""

    lines = ("value", "upper", "lower")

    def __init__(self, period: int = 20) -> None:
        self._high, self._low = SlidingExtreme(period, 1), SlidingExtreme(period, -1)
        self.upper: float | None = None
        self.lower: float | None = None

    def update(self, bar: Bar) -> float | None:
        """Take the next bar."""
        number(bar)
        self.upper, self.lower = self._high.update(bar.high), self._low.update(bar.low)
        if self.upper is not None and self.lower is not None:
            self.value = (self.upper + self.lower) / 2
        return self.value
