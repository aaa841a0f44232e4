"""Moving averages of prices. `update` takes a number or a bar (its close) and gives the average, or None."""

from __future__ import annotations

from collections.abc import Sequence

from koc_qt.sdk.indicators._base import Indicator, Line, Price, SlidingFold, SlidingSum, Stretch, checked_period, number


class SMA(Indicator):
    """Simple moving average: the mean of the last `period` prices."""

    def __init__(self, period: int) -> None:
        self._period = period
        self._sums = SlidingSum(period)

    def update(self, value: Price) -> float | None:
        """Take the next price."""
        total = self._sums.update(number(value))
        self.value = None if total is None else total / self._period
        return self.value

    def bulk(self, bars: Stretch) -> Sequence[Line]:
        """Take many bars at once."""
        if not bars.close:
            return ([],)
        missing, sums = self._sums.bulk(bars.array)
        line: Line = [None] * missing
        line += (sums / self._period).tolist()
        self.value = line[-1]
        return (line,)


class EMA(Indicator):
    """Exponential moving average with weight 2 / (period + 1); it starts as the mean of the first `period` prices."""

    def __init__(self, period: int) -> None:
        self._period = checked_period(period)
        self._weight = 2.0 / (period + 1)
        self._seen = 0
        self._sum = 0.0

    def update(self, value: Price) -> float | None:
        """Take the next price."""
        price = number(value)
        if self.value is None:
            self._seen += 1
            self._sum += price
            if self._seen == self._period:
                self.value = self._sum / self._period
        else:
            self.value += (price - self.value) * self._weight
        return self.value

    def bulk(self, bars: Stretch) -> Sequence[Line]:
        """Take many bars at once."""
        missing = 0 if self.ready else self._period - self._seen
        line: Line = [EMA.update(self, price) for price in bars.close[:missing]]
        if self.value is not None:
            value, weight = self.value, self._weight
            for price in bars.close[missing:]:
                value += (price - value) * weight
                line.append(value)
            self.value = value
        return (line,)


_Weighted = tuple[int, float, float]  # count, sum, and sum weighted 1 for the oldest to count for the newest


def _join(older: _Weighted, newer: _Weighted) -> _Weighted:
    return older[0] + newer[0], older[1] + newer[1], older[2] + newer[2] + older[0] * newer[1]


class WMA(Indicator):
    """Linearly weighted moving average: the newest of `period` prices weighs `period`, the oldest 1."""

    def __init__(self, period: int) -> None:
        self._total_weight = period * (period + 1) / 2
        self._sums: SlidingFold[_Weighted] = SlidingFold(period, _join)

    def update(self, value: Price) -> float | None:
        """Take the next price."""
        price = number(value)
        fold = self._sums.update((1, price, price))
        self.value = None if fold is None else fold[2] / self._total_weight
        return self.value


class MACD(Indicator):
    """Moving average convergence/divergence: `value` is EMA(fast) - EMA(slow), with its `signal` line and `histogram`.

    As in TA-Lib, and unlike two EMAs side by side, the fast average starts late: as the mean of the `fast` prices that
    end where the slow one starts. All three lines begin together, after slow + signal - 1 prices.
    """

    lines = ("value", "signal", "histogram")

    def __init__(self, fast: int = 12, slow: int = 26, signal: int = 9) -> None:
        checked_period(slow, checked_period(fast) + 1)
        self._skip = slow - fast
        self._fast, self._slow, self._signal = EMA(fast), EMA(slow), EMA(signal)
        self.signal: float | None = None
        self.histogram: float | None = None

    def update(self, value: Price) -> float | None:
        """Take the next price."""
        price = number(value)
        slow = self._slow.update(price)
        if self._skip:
            self._skip -= 1
            return None
        fast = self._fast.update(price)
        if fast is None or slow is None:
            return None
        line = fast - slow
        self.signal = self._signal.update(line)
        if self.signal is not None:
            self.value = line
            self.histogram = line - self.signal
        return self.value
