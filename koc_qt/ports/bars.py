"""Where bars are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.domain.state import StoredSeries

if TYPE_CHECKING:  # who has no bars need not load numpy
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Times = npt.NDArray[np.int64]


class BarSeries(msgspec.Struct, frozen=True):
    """Which bars: an instrument and a timeframe."""

    instrument: InstrumentId
    timeframe: str


class Span(msgspec.Struct, frozen=True, order=True):
    """Half-open interval of UTC nanoseconds: since <= t < until."""

    since_ns: int
    until_ns: int


class Columns(NamedTuple):
    """Bars of one series as arrays of one length, oldest first; `open_time_ns` is in UTC nanoseconds."""

    open_time_ns: Times
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats


def columns_of(bars: Sequence[Bar]) -> Columns:
    """Take bars apart."""
    import numpy as np

    def column(name: str) -> Floats:
        return np.array([getattr(bar, name) for bar in bars], dtype=np.float64)

    times = np.array([bar.open_time_ns for bar in bars], dtype=np.int64)
    return Columns(times, *map(column, Columns._fields[1:]))


class BarStore(Protocol):
    """Bars on disk. A span is covered once its bars were asked for, even where the venue had none (no trades)."""

    def read(self, series: BarSeries, span: Span) -> Sequence[Bar]:
        """Give the bars of the span, oldest first. Raises StorageError."""
        ...

    def columns(self, series: BarSeries, span: Span) -> Columns:
        """Give what `read` gives, in columns. Raises StorageError."""
        ...

    def covered(self, series: BarSeries, span: Span) -> Sequence[Span]:
        """Give the covered parts of the span, merged, in order. Raises StorageError."""
        ...

    def write(self, series: BarSeries, bars: Sequence[Bar], covered: Span) -> None:
        """Merge valid bars in and mark the span covered, atomically a month. Raises BadBars, StorageError."""
        ...

    def series(self, limit: int) -> Sequence[StoredSeries]:
        """List what is kept, at most `limit` series, by venue, symbol and length of bars; damaged files do not count.

        Raises StorageError.
        """
        ...
