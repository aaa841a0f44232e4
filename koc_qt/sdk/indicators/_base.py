"""What all indicators share, and windows that slide without losing digits.

A running sum from which old values are subtracted keeps the rounding errors of every value that ever passed, and one
large value ruins it for good. Windows here are queues of two stacks of partial folds (Tangwongsan et al., "General
Incremental Sliding-Window Aggregation", VLDB 2015): nothing is ever subtracted, and an update costs amortised O(1).
"""

from __future__ import annotations

import math
import operator
from collections import deque
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import accumulate
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from koc_qt.domain.errors import StrategyError
from koc_qt.domain.market import Bar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

A = TypeVar("A")
Price = float | Decimal | Bar
Line = list[float | None]


class Stretch:
    """Bars of one instrument that follow each other, and their closes."""

    def __init__(self, bars: Sequence[Bar], close: Sequence[float], array: Floats | None = None) -> None:
        self.bars = bars
        self.close = close
        self._array = array

    @property
    def array(self) -> Floats:
        """The closes for numpy; made once."""
        if self._array is None:
            import numpy as np  # takes long to load, and live nobody needs it

            self._array = np.asarray(self.close, np.float64)
        return self._array

    @property
    def is_finite(self) -> bool:
        """Whether all closes are numbers, as bulk() wants them."""
        import numpy as np

        return bool(np.isfinite(self.array).all())


class Indicator:
    """Has a `value`, None until enough was seen. `made_with` are the arguments that make another like it.

    `lines` names the attributes in which it leaves what it computes.
    """

    lines: ClassVar[tuple[str, ...]] = ("value",)
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

    def update(self, value: Any, /) -> float | None:
        """Take the next price or bar, and give the value. Raises StrategyError when it is not finite."""
        raise StrategyError(f"{type(self).__name__} has no update(): an indicator takes each bar there")

    def bulk(self, bars: Stretch) -> Sequence[Line]:
        """Take many bars at once; give what update() would have left in each of `lines` after each, bit for bit."""
        update, lines = type(self).update, self.lines
        if len(lines) == 1:
            return ([update(self, bar) for bar in bars.bars],)
        columns: tuple[Line, ...] = tuple([] for _ in lines)
        for bar in bars.bars:
            update(self, bar)
            for name, column in zip(lines, columns, strict=True):
                column.append(getattr(self, name))
        return columns

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.value}>"


def lines_of(indicator: Indicator, bars: Stretch) -> Sequence[Line]:
    """Give what `bulk` does; the common one where a class changes update() and inherits another's bulk()."""
    kinds = type(indicator).__mro__
    update, bulk = (next(row for row, kind in enumerate(kinds) if name in vars(kind)) for name in ("update", "bulk"))
    return Indicator.bulk(indicator, bars) if update < bulk else indicator.bulk(bars)


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
    return int(period)  # True is one, which numpy does not take for a length


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


class SlidingSum(SlidingFold[float]):
    """The sum of the last `period` numbers."""

    def __init__(self, period: int) -> None:
        super().__init__(period, operator.add)

    def bulk(self, items: Floats) -> tuple[int, Floats]:
        """Take one or more numbers at once: for how many there is no sum, and those of the others, as update() does.

        Between two flips a fold is a sum of older numbers from the right and one of newer numbers from the left. numpy
        adds up one after the other too, and the order of two summands makes no difference.
        """
        import numpy as np

        period, back = self._period, self._back
        older: list[float] | None = None  # the front, the oldest first, as if nothing of it had gone yet
        if len(back) == period:  # the next update would flip
            older, back = [*accumulate(reversed(back))][::-1], []
        elif self._front:
            older = [math.nan] * len(back) + self._front[::-1]
        numbers = np.concatenate((np.array(back, np.float64), items))
        begin, count = len(back), len(numbers)
        blocks = -(-count // period)
        table = np.append(numbers, np.zeros(blocks * period - count)).reshape(blocks, period)
        left, right = np.cumsum(table, axis=1), np.empty_like(table)
        right[0] = math.nan if older is None else older
        right[1:] = np.cumsum(table[:-1, ::-1], axis=1)[:, ::-1]
        folds = left.copy()
        folds[:, :-1] += right[:, 1:]
        newest = count - (blocks - 1) * period  # numbers in the last block
        self._back, self._back_fold = table[-1, :newest].tolist(), float(left[-1, newest - 1])
        self._front = [] if older is None and blocks == 1 else right[-1, newest:][::-1].tolist()
        missing = max(min(period - 1, count) - begin, 0) if older is None else 0
        return missing, folds.ravel()[begin + missing : count]


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
