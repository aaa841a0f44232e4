"""What all indicators share, and windows that slide without losing digits.

A running sum from which old values are subtracted keeps the rounding errors of every value that ever passed, and one
large value ruins it for good. Windows here are queues of two stacks of partial folds (Tangwongsan et al., "General
Incremental Sliding-Window Aggregation", VLDB 2015): nothing is ever subtracted, and an update costs amortised O(1).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Generic, Self, TypeVar

from koc_qt.domain.errors import StrategyError
from koc_qt.domain.market import Bar

A = TypeVar("A")
Price = float | Decimal | Bar


class Indicator:
    """Has a `value`, None until enough was seen. `made_with` are the arguments that make another like it."""

    value: float | None = None
    made_with: tuple[tuple[Any, ...], tuple[tuple[str, Any], ...]]

    def __new__(cls, *arguments: Any, **named: Any) -> Self:
        """Note the arguments."""
        self = super().__new__(cls)
        self.made_with = arguments, tuple(named.items())
        return self

    @property
    def ready(self) -> bool:
        """Whether there is a value."""
        return self.value is not None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.value}>"


def number(value: Price) -> float:
    """Give a price as a float, of a bar its close. Raises StrategyError when it is not finite."""
    result = value.close if isinstance(value, Bar) else float(value)
    if not math.isfinite(result):
        raise StrategyError(f"an indicator cannot take {result}")
    return result


def checked_period(period: int, lowest: int = 1) -> int:
    """Give `period` back. Raises StrategyError below `lowest`."""
    if period < lowest:
        raise StrategyError(f"this indicator's period must be {lowest} or more, not {period}")
    return period


class SlidingFold(Generic[A]):
    """The last `period` values combined by an associative `combine(older, newer)`; None until there are that many."""

    def __init__(self, period: int, combine: Callable[[A, A], A]) -> None:
        self._period = checked_period(period)
        self._combine = combine
        self._front: list[A] = []  # each the fold of itself and of all newer ones of the front; the oldest last
        self._back: list[A] = []
        self._back_fold: A | None = None

    def update(self, item: A) -> A | None:
        """Take the newest value, let go of the oldest, and give the fold."""
        if len(self._front) + len(self._back) == self._period:
            if not self._front:
                self._flip()
            self._front.pop()
        self._back.append(item)
        self._back_fold = item if self._back_fold is None else self._combine(self._back_fold, item)
        if len(self._front) + len(self._back) < self._period:
            return None
        return self._combine(self._front[-1], self._back_fold) if self._front else self._back_fold

    def _flip(self) -> None:
        combine = self._combine
        fold = self._back.pop()
        self._front.append(fold)
        while self._back:
            fold = combine(self._back.pop(), fold)
            self._front.append(fold)
        self._back_fold = None


class SlidingExtreme:
    """The highest (`sign` 1) or lowest (-1) of the last `period` values; None until there are that many."""

    def __init__(self, period: int, sign: int) -> None:
        self._period = checked_period(period)
        self._sign = sign
        self._seen = 0
        self._candidates: deque[tuple[int, float]] = deque()  # falling; the first is the extreme

    def update(self, value: float) -> float | None:
        """Take the newest value and give the extreme."""
        key = value * self._sign
        candidates = self._candidates
        while candidates and candidates[-1][1] <= key:
            candidates.pop()
        candidates.append((self._seen, key))
        if candidates[0][0] <= self._seen - self._period:
            candidates.popleft()
        self._seen += 1
        return candidates[0][1] * self._sign if self._seen >= self._period else None


class WilderAverage:
    """Wilder's smoothing: the mean of the first `period` values, then each new one weighs 1/period."""

    def __init__(self, period: int) -> None:
        self._period = checked_period(period)
        self._seen = 0
        self._sum = 0.0
        self.value: float | None = None

    def update(self, value: float) -> float | None:
        """Take the next value and give the average."""
        if self.value is None:
            self._seen += 1
            self._sum += value
            if self._seen == self._period:
                self.value = self._sum / self._period
        else:
            self.value = (self.value * (self._period - 1) + value) / self._period
        return self.value


class CompensatedSum:
    """A sum that keeps what addition rounds away (Neumaier 1974)."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._lost = 0.0

    def add(self, value: float) -> float:
        """Add, and give the sum."""
        total = self._sum + value
        if abs(self._sum) >= abs(value):
            self._lost += (self._sum - total) + value
        else:
            self._lost += (value - total) + self._sum
        self._sum = total
        return total + self._lost


def true_range(bar: Bar, previous_close: float) -> float:
    """Give the bar's range with the gap from the previous close in it (Wilder)."""
    return max(bar.high - bar.low, abs(bar.high - previous_close), abs(bar.low - previous_close))
