"""Where bars are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.domain.state import StoredSeries


class BarSeries(msgspec.Struct, frozen=True):
    """Which bars: an instrument and a timeframe."""

    instrument: InstrumentId
    timeframe: str


class Span(msgspec.Struct, frozen=True, order=True):
    """Half-open interval of UTC nanoseconds: since <= t < until."""

    since_ns: int
    until_ns: int


class BarStore(Protocol):
    """Bars on disk. A span is covered once its bars were asked for, even where the venue had none (no trades)."""

    def read(self, series: BarSeries, span: Span) -> Sequence[Bar]:
        """Give the bars of the span, oldest first. Raises StorageError."""
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
