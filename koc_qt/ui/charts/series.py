"""A growable store of bars in columns: cheap to append to at either end, and read as plain numpy views."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MIN_ROOM = 1024
_FALLBACK_INTERVAL_NS = 60_000_000_000
_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME = range(5)


@dataclass(frozen=True, eq=False, slots=True)
class BarColumns:
    """Bars as six columns of one length, oldest first; times are UTC nanoseconds of each bar's opening.

    Make one with `of`, which checks. A volume that is not a number is drawn as none.
    """

    open_time_ns: Ints
    values: Floats  # shape (5, n): open, high, low, close, volume

    @classmethod
    def of(
        cls,
        open_time_ns: ArrayLike,
        open: ArrayLike,
        high: ArrayLike,
        low: ArrayLike,
        close: ArrayLike,
        volume: ArrayLike,
    ) -> BarColumns:
        """Check and copy columns. Raise ValueError where lengths differ, times do not rise or a price is no number."""
        times = np.asarray(open_time_ns, dtype=np.int64)
        columns = [np.asarray(each, dtype=np.float64) for each in (open, high, low, close, volume)]
        if times.ndim != 1 or any(each.shape != times.shape for each in columns):
            shapes = ", ".join(str(each.shape) for each in (times, *columns))
            raise ValueError(f"the columns of bars must be one-dimensional and of one length; these have {shapes}")
        wrong = np.flatnonzero(times[1:] <= times[:-1])
        if len(wrong):
            row = int(wrong[0]) + 1
            raise ValueError(
                f"bars must be in order of time: row {row} opens at {times[row]} ns, "
                f"not after the row before it, {times[row - 1]} ns"
            )
        values = np.stack(columns) if len(times) else np.empty((5, 0))
        bad = np.flatnonzero(~np.isfinite(values[:_VOLUME]).all(axis=0))
        if len(bad):
            row = int(bad[0])
            raise ValueError(f"the bar of {times[row]} ns has a price that is not a number: {values[:_VOLUME, row]}")
        volumes = values[_VOLUME]
        volumes[~np.isfinite(volumes)] = 0.0
        return cls(times.copy(), values)

    def __len__(self) -> int:
        return len(self.open_time_ns)

    def rows(self, start: int, stop: int) -> BarColumns:
        """Give the rows of [start, stop) as views."""
        return BarColumns(self.open_time_ns[start:stop], self.values[:, start:stop])


class BarSeries:
    """Bars in order of time, each opening time once, without gaps of index; index 0 is the oldest.

    Both ends have room to grow, so that appending and prepending cost what is added (amortised). Nothing goes in out of
    order by accident: `upsert` refuses a time between two bars, and `merge` is the way to fill a gap.
    """

    def __init__(self) -> None:
        self._times: Ints = np.empty(0, np.int64)
        self._values: Floats = np.empty((5, 0))
        self._start = 0
        self._stop = 0
        self._interval_ns = _FALLBACK_INTERVAL_NS

    def __len__(self) -> int:
        return self._stop - self._start

    @property
    def open_time_ns(self) -> Ints:
        """Opening times, UTC nanoseconds."""
        return self._times[self._start : self._stop]

    @property
    def open(self) -> Floats:
        """Opening prices."""
        return self._values[_OPEN, self._start : self._stop]

    @property
    def high(self) -> Floats:
        """Highest prices."""
        return self._values[_HIGH, self._start : self._stop]

    @property
    def low(self) -> Floats:
        """Lowest prices."""
        return self._values[_LOW, self._start : self._stop]

    @property
    def close(self) -> Floats:
        """Closing prices."""
        return self._values[_CLOSE, self._start : self._stop]

    @property
    def volume(self) -> Floats:
        """Volumes in base units."""
        return self._values[_VOLUME, self._start : self._stop]

    @property
    def interval_ns(self) -> int:
        """The usual time between two bars' openings: the median of the last 256; a minute while unknown."""
        return self._interval_ns

    def bar(self, index: int) -> tuple[float, float, float, float, float]:
        """Open, high, low, close, volume of one bar, counted from the oldest. Raise IndexError outside."""
        if not 0 <= index < len(self):
            raise IndexError(f"there is no bar {index} among {len(self)}")
        values: list[float] = self._values[:, self._start + index].tolist()
        return values[0], values[1], values[2], values[3], values[4]

    def time_ns(self, index: int) -> int:
        """Opening time of a bar; outside the series, what it would be if bars went on at the usual interval."""
        count = len(self)
        if count == 0:
            return index * self._interval_ns
        nearest = min(max(index, 0), count - 1)
        return int(self._times[self._start + nearest]) + (index - nearest) * self._interval_ns

    def index_at(self, time_ns: int) -> int:
        """The bar that was open at a time: the last that opens at or before it; -1 before the first."""
        return int(np.searchsorted(self.open_time_ns, time_ns, side="right")) - 1

    def set(self, columns: BarColumns) -> None:
        """Forget all bars and take these."""
        self._start = self._stop = 0
        self._times, self._values = np.empty(0, np.int64), np.empty((5, 0))
        self._reserve(0, len(columns))
        self._write(self._stop, columns)
        self._stop += len(columns)
        self._measure_interval()

    def upsert(self, open_time_ns: int, values: tuple[float, float, float, float, float]) -> int:
        """Append a bar, or replace the one of the same opening time; give its index.

        Raise ValueError for a price that is not a number, and for a time between two bars or before the first.
        """
        if not np.isfinite(values[:_VOLUME]).all():
            raise ValueError(f"the bar of {open_time_ns} ns has a price that is not a number: {values[:_VOLUME]}")
        index = self.index_at(open_time_ns)
        if index == len(self) - 1 and (index < 0 or self.open_time_ns[index] != open_time_ns):
            self._reserve(0, 1)
            index, self._stop = index + 1, self._stop + 1
            self._times[self._stop - 1] = open_time_ns
            if len(self) <= 256:
                self._measure_interval()
        elif index < 0 or self.open_time_ns[index] != open_time_ns:
            raise ValueError(f"there is no bar that opens at {open_time_ns} ns, and newer ones are there: merge it")
        at = self._start + index
        self._values[:, at] = values
        if not np.isfinite(values[_VOLUME]):
            self._values[_VOLUME, at] = 0.0
        return index

    def prepend(self, columns: BarColumns) -> int:
        """Add older bars; rows that do not open before the first bar are left out. Give how many were added."""
        count = len(columns)
        if len(self):
            count = int(np.searchsorted(columns.open_time_ns, self.open_time_ns[0], side="left"))
        self._reserve(count, 0)
        self._start -= count
        self._write(self._start, columns.rows(0, count))
        self._measure_interval()
        return count

    def merge(self, columns: BarColumns) -> int:
        """Let these rows be all the bars from their first to their last time; give the first index that may differ."""
        if len(columns) == 0:
            return len(self)
        times = self.open_time_ns
        first = int(np.searchsorted(times, columns.open_time_ns[0], side="left"))
        after = int(np.searchsorted(times, columns.open_time_ns[-1], side="right"))
        newer = BarColumns(times[after:].copy(), self._values[:, self._start + after : self._stop].copy())
        self._stop = self._start + first
        for part in (columns, newer):
            self._reserve(0, len(part))
            self._write(self._stop, part)
            self._stop += len(part)
        self._measure_interval()
        return first

    def _write(self, at: int, columns: BarColumns) -> None:
        self._times[at : at + len(columns)] = columns.open_time_ns
        self._values[:, at : at + len(columns)] = columns.values

    def _reserve(self, before: int, after: int) -> None:
        """Make room; each time something must move, room for half as many bars again comes with it."""
        capacity = len(self._times)
        if before <= self._start and after <= capacity - self._stop:
            return
        count = len(self)
        room = _MIN_ROOM + (count + before + after) // 2
        start = before + room if before > self._start else self._start
        times = np.empty(start + count + after + room, np.int64)
        values = np.empty((5, len(times)))
        times[start : start + count] = self.open_time_ns
        values[:, start : start + count] = self._values[:, self._start : self._stop]
        self._times, self._values = times, values
        self._start, self._stop = start, start + count

    def _measure_interval(self) -> None:
        steps = np.diff(self.open_time_ns[-257:])
        self._interval_ns = int(np.median(steps)) if len(steps) else _FALLBACK_INTERVAL_NS
