"""What an equity curve tells: months, drawdowns, and what buying and holding would have made instead.

Times are UTC nanoseconds; conventions are those of domain/performance.py. numpy takes long to load: import this module
where a curve is at hand, not before.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def months(times_ns: Sequence[int], equity: Sequence[float]) -> dict[str, float]:
    """Give the return of each month by "YYYY-MM" (UTC): from the last value before it to the last value in it.

    A value at the very moment when a month begins is the last of the month before, because a bar's value is that of
    its close. The first month is counted from the first value. A month without values is left out, as is one that
    began with nothing; without these two the months compound to the return of the whole.
    """
    values = np.asarray(equity, np.float64)
    if len(values) < 2:
        return {}
    ends_ns = np.asarray(times_ns, np.int64)[1:] - 1
    stamps = ends_ns.astype("datetime64[ns]").astype("datetime64[M]")
    last_rows = np.append(np.flatnonzero(stamps[1:] != stamps[:-1]), len(stamps) - 1)
    bases = np.concatenate((values[:1], values[1 + last_rows[:-1]]))
    finals = values[1 + last_rows]
    return {
        str(stamps[row]): final / base - 1.0
        for row, base, final in zip(last_rows, bases.tolist(), finals.tolist(), strict=True)
        if base > 0
    }


def benchmark(cash: float, opening: float | None, closes: Sequence[float]) -> Floats:
    """Give what the cash is worth at each point of a curve when all of it buys at `opening` and holds, without costs.

    `closes` has the price at each point, nan before there was one: until then, and where `opening` is None because
    there never was a price, the cash stays cash.
    """
    prices = np.asarray(closes, np.float64)
    if opening is None:
        return np.full(len(prices), cash)
    return np.where(np.isnan(prices), cash, cash * (prices / opening))


def underwater(equity: Sequence[float]) -> Floats:
    """Give how far each value is below the highest until then, as a fraction of that; 0 or below."""
    values = np.asarray(equity, np.float64)
    peaks = np.maximum.accumulate(values)
    return (values - peaks) / peaks


def thin_rows(values: Sequence[float], limit: int) -> list[int]:
    """Give at most `limit` rows of a curve: its first and last and those of the extremes of stretches between.

    Raises ValueError for a limit below 4.
    """
    if limit < 4:
        raise ValueError(f"a curve cannot be shown in {limit} points")
    count = len(values)
    if count <= limit:
        return list(range(count))
    array = np.asarray(values, np.float64)
    kept = {0, count - 1}
    stretches = (limit - 2) // 2
    bounds = [1 + (count - 2) * number // stretches for number in range(stretches + 1)]
    for begin, end in pairwise(bounds):
        kept.add(begin + int(array[begin:end].argmin()))
        kept.add(begin + int(array[begin:end].argmax()))
    return sorted(kept)
