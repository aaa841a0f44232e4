"""Momentum. `update` takes a number or a bar (its close), or a bar where highs and lows matter."""

from __future__ import annotations

from collections import deque

from koc_qt.domain.market import Bar
from koc_qt.sdk.indicators._base import (
    Indicator,
    Price,
    SlidingExtreme,
    WilderAverage,
    checked_period,
    number,
    true_range,
)
from koc_qt.sdk.indicators.averages import SMA


class RSI(Indicator):
    """Wilder's relative strength index, 0 to 100, after period + 1 prices; as in TA-Lib 0 while nothing has moved."""

    def __init__(self, period: int = 14) -> None:
        self._gains, self._losses = WilderAverage(checked_period(period, 2)), WilderAverage(period)
        self._previous: float | None = None

    def update(self, value: Price) -> float | None:
        """Take the next price."""
        price = number(value)
        previous, self._previous = self._previous, price
        if previous is None:
            return None
        change = price - previous
        gain = self._gains.update(max(change, 0.0))
        loss = self._losses.update(max(-change, 0.0))
        if gain is not None and loss is not None:
            self.value = 100.0 * gain / (gain + loss) if gain + loss else 0.0
        return self.value


class ROC(Indicator):
    """Rate of change: percent from the price `period` updates ago; 0 where that price was 0, as in TA-Lib."""

    def __init__(self, period: int = 10) -> None:
        self._prices: deque[float] = deque(maxlen=checked_period(period) + 1)

    def update(self, value: Price) -> float | None:
        """Take the next price."""
        price = number(value)
        self._prices.append(price)
        if len(self._prices) == self._prices.maxlen:
            before = self._prices[0]
            self.value = (price / before - 1.0) * 100.0 if before else 0.0
        return self.value


class Stochastic(Indicator):
    """Slow stochastic oscillator, 0 to 100: `value` is %K, smoothed over `smooth`, and `d` its mean over `signal`.

    Both begin together. As in TA-Lib the raw %K is 0 while high and low of the whole window are one price.
    """

    lines = ("value", "d")

    def __init__(self, period: int = 14, smooth: int = 3, signal: int = 3) -> None:
        self._high, self._low = SlidingExtreme(period, 1), SlidingExtreme(period, -1)
        self._k, self._d = SMA(smooth), SMA(signal)
        self.d: float | None = None

    def update(self, bar: Bar) -> float | None:
        """Take the next bar."""
        number(bar)
        high, low = self._high.update(bar.high), self._low.update(bar.low)
        if high is None or low is None:
            return None
        k = self._k.update(100.0 * (bar.close - low) / (high - low) if high > low else 0.0)
        if k is None:
            return None
        self.d = self._d.update(k)
        self.value = None if self.d is None else k
        return self.value


class ADX(Indicator):
    """Wilder's average directional index, 0 to 100, with `plus_di` and `minus_di`; first after 2 * period bars.

    Seeded as in TA-Lib: movements are summed over period - 1 bars before the smoothing begins. A bar without any
    movement leaves the index as it was.
    """

    lines = ("value", "plus_di", "minus_di")

    def __init__(self, period: int = 14) -> None:
        self._period = checked_period(period, 2)
        self._previous: Bar | None = None
        self._steps = 0
        self._range = self._plus = self._minus = 0.0
        self._dx_sum = 0.0
        self.plus_di: float | None = None
        self.minus_di: float | None = None

    def update(self, bar: Bar) -> float | None:
        """Take the next bar."""
        number(bar)
        previous, self._previous = self._previous, bar
        if previous is None:
            return None
        self._steps += 1
        self._smooth(bar, previous)
        if self._steps < self._period:
            return None
        self._index(self._directional_index())
        return self.value

    def _smooth(self, bar: Bar, previous: Bar) -> None:
        up, down = bar.high - previous.high, previous.low - bar.low
        keep = 1.0 if self._steps < self._period else 1.0 - 1.0 / self._period
        self._range = self._range * keep + true_range(bar, previous.close)
        self._plus = self._plus * keep + (up if up > 0 and up > down else 0.0)
        self._minus = self._minus * keep + (down if down > 0 and down > up else 0.0)

    def _directional_index(self) -> float | None:
        if not self._range:
            return None
        self.plus_di, self.minus_di = 100.0 * self._plus / self._range, 100.0 * self._minus / self._range
        total = self.plus_di + self.minus_di
        return 100.0 * abs(self.plus_di - self.minus_di) / total if total else None

    def _index(self, dx: float | None) -> None:
        if self.value is not None:
            if dx is not None:
                self.value = (self.value * (self._period - 1) + dx) / self._period
            return
        self._dx_sum += dx or 0.0
        if self._steps == 2 * self._period - 1:
            self.value = self._dx_sum / self._period
