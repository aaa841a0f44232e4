"""Indicators of volume."""

from __future__ import annotations

from koc_qt.domain.market import Bar, Trade
from koc_qt.sdk.indicators._base import CompensatedSum, Indicator, SlidingFold, number

_DAY_NS = 86_400_000_000_000


class OBV(Indicator):
    """On-balance volume: the volume of rising bars less that of falling ones; it starts as the first bar's volume."""

    def __init__(self) -> None:
        self._sum = CompensatedSum()
        self._previous_close: float | None = None

    def update(self, bar: Bar) -> float | None:
        """Take the next bar."""
        close = number(bar)
        previous, self._previous_close = self._previous_close, close
        direction = 1 if previous is None else (close > previous) - (close < previous)
        self.value = self._sum.add(direction * bar.volume)
        return self.value


_Turnover = tuple[float, float]  # price times volume, volume


def _add(a: _Turnover, b: _Turnover) -> _Turnover:
    return a[0] + b[0], a[1] + b[1]


class VWAP(Indicator):
    """Volume-weighted average price of bars (their typical price, (high + low + close) / 3) or of trades.

    Since the UTC day began, by the times of what it is given, or over the last `period` updates. None without volume.
    """

    def __init__(self, period: int | None = None) -> None:
        self._window: SlidingFold[_Turnover] | None = None if period is None else SlidingFold(period, _add)
        self._day = 0
        self._turnover, self._volume = CompensatedSum(), CompensatedSum()

    def update(self, value: Bar | Trade) -> float | None:
        """Take the next bar or trade."""
        if isinstance(value, Bar):
            price, volume = (value.high + value.low + number(value)) / 3.0, value.volume
            time_ns = value.open_time_ns
        else:
            price, volume, time_ns = number(value.price), float(value.quantity), value.time_ns
        fold = (
            self._since_day(price, volume, time_ns)
            if self._window is None
            else self._window.update((price * volume, volume))
        )
        self.value = fold[0] / fold[1] if fold and fold[1] else None
        return self.value

    def _since_day(self, price: float, volume: float, time_ns: int) -> _Turnover:
        day = time_ns // _DAY_NS
        if day != self._day:
            self._day = day
            self._turnover, self._volume = CompensatedSum(), CompensatedSum()
        return self._turnover.add(price * volume), self._volume.add(volume)
