"""The bars of a sweep: received once, kept as columns, given to every combination."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from koc_qt.domain.errors import StrategyError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.optimisation import CHECKPOINTS
from koc_qt.sdk.channel import ReplayBars
from koc_qt.sdk.indicators import EMA, SMA, Indicator
from koc_qt.sdk.signals import Bars
from koc_qt.worker.sweep_machine import Kernel

_FIELDS = ("row", "open_time_ns", "open", "high", "low", "close", "volume")
_KINDS = (np.int64, np.int64, *[np.float64] * 5)

Column = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


class SweepBars:
    """Takes ReplayBars messages; `settle` once all have come."""

    def __init__(self) -> None:
        self._parts: list[tuple[Column, ...]] = []
        self._warmup, self._has_begun = 0, False
        self._columns: tuple[Column, ...] = ()
        self._segments: list[ReplayBars] = []
        self.has_volume = False  # up to the run's first message, which is what the replay engine looks at

    def add(self, message: ReplayBars) -> None:
        """Take a message; those of warm-up come first."""
        part = tuple(np.asarray(getattr(message, name), kind) for name, kind in zip(_FIELDS, _KINDS, strict=True))
        if not self._has_begun:
            self.has_volume = self.has_volume or bool(np.any(part[-1]))
            self._has_begun = not message.warmup
        self._parts.append(part)
        if message.warmup:
            self._warmup += len(part[0])

    def settle(self) -> None:
        """Put the parts together. Raises StrategyError where no bar of the run came."""
        self._columns = tuple(np.concatenate(parts) for parts in zip(*self._parts, strict=True)) if self._parts else ()
        self._parts = []
        if not self._columns or len(self) == 0:
            raise StrategyError("there are no bars to run on")

    def __len__(self) -> int:
        """Count the bars of the run, of all instruments."""
        return len(self._columns[0]) - self._warmup

    def columns(self, *, warmup: bool) -> tuple[Column, ...]:
        """Give time, open, high, low, close and volume of a single instrument's bars, with warm-up or without."""
        begin = 0 if warmup else self._warmup
        return tuple(column[begin:] for column in self._columns[1:])

    def warmup(self) -> ReplayBars:
        """Give the bars before the run; it may have none."""
        return self._message(0, self._warmup, warmup=True)

    def segments(self) -> list[ReplayBars]:
        """Give the run's bars cut at its tenths; bars that open together stay together. Made once and kept."""
        if not self._segments:
            times, total = self._columns[1], len(self._columns[1])
            cuts = [self._warmup]
            for tenth in range(1, CHECKPOINTS + 1):
                cut = self._warmup + len(self) * tenth // (CHECKPOINTS + 1)
                while self._warmup < cut < total and times[cut] == times[cut - 1]:
                    cut += 1
                cuts.append(cut)
            cuts.append(total)
            self._segments = [self._message(*cuts[place : place + 2]) for place in range(len(cuts) - 1)]
        return self._segments

    def _message(self, begin: int, end: int, *, warmup: bool = False) -> ReplayBars:
        return ReplayBars(warmup, *(column[begin:end].tolist() for column in self._columns))


class SweptBars(Bars):
    """Bars whose newest columns are kept, as many as a number of bytes holds, and whose commonest are compiled."""

    def __init__(
        self, instrument: InstrumentId, timeframe: str, columns: Sequence[Column], kernel: Kernel, memory_bytes: int
    ) -> None:
        super().__init__(instrument, timeframe, *columns)
        self._kernel = kernel
        self._most = max(memory_bytes // (8 * len(self)), 2)

    def column(self, indicator: Indicator, line: str = "value") -> Floats:
        """Give an indicator's column, as Bars does; the one that was asked for longest ago makes way."""
        key = (type(indicator), *indicator.made_with, line)
        column = self._known.pop(key, None)
        if column is None:
            while len(self._known) >= self._most:
                del self._known[next(iter(self._known))]
            column = self._compiled(indicator) if line == "value" else None
        if column is None:
            self._compute(indicator, line)
            column = self._known.pop(key)
        self._known[key] = column
        return column

    def _compiled(self, indicator: Indicator) -> Floats | None:
        """Give the column of an average of which there is a compiled one; None for all others."""
        arguments, named = indicator.made_with
        given = (*arguments, *(value for _, value in named))
        if type(indicator) not in (SMA, EMA) or len(given) != 1 or type(given[0]) is not int:
            return None
        period, count = given[0], len(self)
        column = np.empty(count)
        column[: min(period - 1, count)] = np.nan
        if period > count:
            return column
        if type(indicator) is SMA:
            scratch = np.empty(period)
            self._kernel.average(count, period, self.close.ctypes.data, scratch.ctypes.data, column.ctypes.data)
        else:
            self._kernel.smoothed(count, period, self.close.ctypes.data, column.ctypes.data)
        column.flags.writeable = False
        return column
