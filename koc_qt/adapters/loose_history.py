"""Files that somebody brought as the history of a back-test, and the rules of what they hold."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal

import numpy as np

from koc_qt.adapters.loose_file import LooseBars
from koc_qt.domain.errors import BadTimeframe, InvalidOrder, VenueRejected
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.timeframes import bar_open_ns, duration_ns, is_multiple
from koc_qt.ports.bars import BarSeries, Columns, Span

_PAIR = re.compile(r"([A-Z][A-Z0-9]{1,9})[/-]([A-Z][A-Z0-9]{1,9})", re.ASCII)
_QUOTE = "USD"  # of a symbol that names none
_LOT = Decimal("1e-8")
_FINEST = 8  # decimals of a tick; where prices are far below 1, as many significant digits


class FileHistory:
    """Gives the bars of files, one a symbol, and longer ones made of them; all of them have closed."""

    def __init__(self, files: Mapping[InstrumentId, LooseBars]) -> None:
        self._files = dict(files)
        self._longer: dict[BarSeries, Columns] = {}

    def extent(self) -> tuple[str, int, int]:
        """Give the files' timeframe, the first opening and the last close. Raises BadTimeframe where that differs."""
        timeframes = dict.fromkeys(file.timeframe for file in self._files.values())
        if len(timeframes) > 1:
            each = ", ".join(f"{file.path.name} {file.timeframe}" for file in self._files.values())
            raise BadTimeframe(f"the files have bars of several lengths: {each}; bring files of one length")
        [timeframe] = timeframes
        times_ns = [file.columns.open_time_ns for file in self._files.values()]
        last_ns = max(int(each[-1]) for each in times_ns)
        return timeframe, min(int(each[0]) for each in times_ns), last_ns + duration_ns(timeframe)

    def closed(self, series: BarSeries, span: Span) -> Span:
        """Give the part of the span that the file has bars of, moved to whole bars; empty where there are none.

        Raises BadTimeframe for bars that cannot be made of the file's, VenueRejected for a symbol without a file.
        """
        times_ns = self._bars(series).open_time_ns
        if not len(times_ns):
            return Span(span.since_ns, span.since_ns)
        length_ns = duration_ns(series.timeframe)
        since_ns = max(_next_open_ns(span.since_ns, series.timeframe), int(times_ns[0]))
        until_ns = min(_next_open_ns(span.until_ns, series.timeframe), int(times_ns[-1]) + length_ns)
        return Span(since_ns, max(since_ns, until_ns))

    async def fill(self, series: BarSeries, span: Span, progress: Callable[[float, int], None] | None = None) -> int:
        """Everything is there already."""
        if progress is not None:
            progress(1.0, 0)
        return 0

    async def columns(self, series: BarSeries, span: Span) -> Columns:
        """Give the bars that open within the span. Raises as `closed` does."""
        times_ns, *values = self._bars(series)
        first, last = np.searchsorted(times_ns, [span.since_ns, span.until_ns])
        return Columns(times_ns[first:last], *(column[first:last] for column in values))

    def _bars(self, series: BarSeries) -> Columns:
        file = self._files.get(series.instrument)
        if file is None:
            raise VenueRejected(f"there is no file of {series.instrument}")
        if series.timeframe == file.timeframe:
            return file.columns
        if series not in self._longer:
            if not is_multiple(series.timeframe, file.timeframe):
                raise BadTimeframe(
                    f"{file.path} holds bars of {file.timeframe}: bars of {series.timeframe} cannot be made of them"
                )
            self._longer[series] = longer(file.columns, file.timeframe, series.timeframe)
        return self._longer[series]


def longer(bars: Columns, own: str, timeframe: str) -> Columns:
    """Make bars of a longer timeframe as domain/bars.py does; a last one that is not complete is left out."""
    length_ns, origin_ns = duration_ns(timeframe), bar_open_ns(0, timeframe)
    opens_ns = bars.open_time_ns - (bars.open_time_ns - origin_ns) % length_ns
    first = np.flatnonzero(np.diff(opens_ns, prepend=opens_ns[0] - 1))
    last = np.append(first[1:], len(opens_ns)) - 1
    made = Columns(
        opens_ns[first],
        bars.open[first],
        np.maximum.reduceat(bars.high, first),
        np.minimum.reduceat(bars.low, first),
        bars.close[last],
        np.add.reduceat(bars.volume, first),
    )
    known_until_ns = int(bars.open_time_ns[-1]) + duration_ns(own)
    whole = slice(None) if int(made.open_time_ns[-1]) + length_ns <= known_until_ns else slice(-1)
    times_ns, *values = made
    return Columns(times_ns[whole], *(column[whole] for column in values))


def file_rules(
    instrument: InstrumentId, bars: Columns, tick: Decimal | None = None, lot: Decimal | None = None
) -> Instrument:
    """Give the rules of what a file holds: by itself so fine that they round nothing that matters, and no fees.

    A symbol such as EUR-USD or BTC/USDT names base and quote; any other is quoted in US dollars. Raises InvalidOrder
    for a tick or a lot that is none, and for a tick above a price of the file: rounded to it that would be none.
    """
    lowest = float(bars.low.min())
    if tick is not None and tick > lowest:
        raise InvalidOrder(f"{instrument}: a tick of {tick} is above its lowest price, which is {lowest:.12g}")
    pair = _PAIR.fullmatch(instrument.symbol)
    base, quote = pair.groups() if pair else (instrument.symbol, _QUOTE)
    magnitude = math.floor(math.log10(lowest))
    finest = Decimal(1).scaleb(min(magnitude, 0) - _FINEST)
    return Instrument(instrument, base, quote, tick or finest, lot or _LOT)


def _next_open_ns(time_ns: int, timeframe: str) -> int:
    opening_ns = bar_open_ns(time_ns, timeframe)
    return opening_ns if opening_ns == time_ns else opening_ns + duration_ns(timeframe)
