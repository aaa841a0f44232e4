"""How far trades were behind and ahead while they lasted, by the highs and lows of their bars.

A bar does not tell what came first, so the bars in which a trade began and ended count by a careful rule:

- Of the bar of the entry, the extreme against the trade always counts. The other counts only where the trade began at
  the bar's open: by its time, and at no better price than the open (better means a resting order, reached later).
- Of the bar of the exit, the extreme against the trade counts only where the trade did not end at the bar's open, told
  in the same way but from the other side: at the open or worse is a market order or a stop, which left before it got
  worse. The extreme for the trade never counts.
- The price at which it ended always counts, and every bar between counts with both extremes.

So a trade is never shown to have been less behind, or more ahead, than it may have been. Its quantity and prices are
those of the RoundTrip: one that was entered or left in parts counts as if all had been held at the mean entry price.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from koc_qt.domain.backtests import RoundTrip
from koc_qt.domain.instruments import InstrumentId

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class Path(NamedTuple):
    """What an instrument's price did: a value a bar, oldest first; `time_ns` are opening times in UTC nanoseconds."""

    time_ns: Sequence[int]
    open: Sequence[float]
    high: Sequence[float]
    low: Sequence[float]


def with_excursions(trips: Sequence[RoundTrip], paths: Mapping[InstrumentId, Path]) -> list[RoundTrip]:
    """Give the trades in their order, with `mae` and `mfe` in quote currency, before fees.

    Trades of instruments without a path, and those that began before their path does, stay as they are.
    """
    done = list(trips)
    for instrument, path in paths.items():
        rows = [row for row, trip in enumerate(trips) if trip.instrument == instrument]
        if rows and len(path.time_ns):
            worst, best, known = _extremes([trips[row] for row in rows], path)
            for row, mae, mfe, is_known in zip(rows, worst.tolist(), best.tolist(), known.tolist(), strict=True):
                if is_known:
                    done[row] = msgspec.structs.replace(trips[row], mae=mae, mfe=mfe)
    return done


def _extremes(trips: Sequence[RoundTrip], path: Path) -> tuple[Floats, Floats, Flags]:
    """Give how far each trade was behind and ahead, and whether its path is known."""
    times_ns, opens = np.asarray(path.time_ns, np.int64), np.asarray(path.open, np.float64)
    highs, lows = np.asarray(path.high, np.float64), np.asarray(path.low, np.float64)
    quantity = np.array([trip.quantity for trip in trips])
    entry_price = np.array([trip.entry_price for trip in trips])
    exit_price = np.array([np.nan if trip.exit_price is None else trip.exit_price for trip in trips])
    entry_ns = np.array([trip.entry_ns for trip in trips], np.int64)
    exit_ns = np.array([0 if trip.exit_ns is None else trip.exit_ns for trip in trips], np.int64)
    is_open, is_long = np.isnan(exit_price), quantity > 0
    first = np.searchsorted(times_ns, entry_ns, "right") - 1
    # One that is open lasts until after the last bar: none of them is the bar of its exit.
    last = np.where(is_open, len(times_ns), np.searchsorted(times_ns, exit_ns, "right") - 1)
    is_known = first >= 0
    first, last = np.maximum(first, 0), np.maximum(last, 0)
    ending = np.minimum(last, len(times_ns) - 1)
    sign = np.where(is_long, 1.0, -1.0)
    began_at_open = (times_ns[first] == entry_ns) & (sign * (entry_price - opens[first]) >= 0)
    ended_at_open = (times_ns[ending] == exit_ns) & (sign * (exit_price - opens[ending]) <= 0)
    lasted = last > first + 1  # there are bars between

    def gain(counts: Flags, if_long: Floats, if_short: Floats) -> Floats:
        return np.where(counts, (np.where(is_long, if_long, if_short) - entry_price) * quantity, 0.0)

    left = gain(~is_open, exit_price, exit_price)
    low, high = (_between(values, first + 1, last, of) for values, of in ((lows, np.minimum), (highs, np.maximum)))
    always = np.ones(len(trips), np.bool_)
    behind = [
        left,
        gain(always, lows[first], highs[first]),
        gain(lasted, low, high),
        gain(~is_open & ~ended_at_open, lows[ending], highs[ending]),
    ]
    ahead = [left, gain(began_at_open & (last > first), highs[first], lows[first]), gain(lasted, high, low)]
    return np.minimum(np.min(behind, axis=0), 0.0) + 0.0, np.maximum(np.max(ahead, axis=0), 0.0) + 0.0, is_known


def _between(values: Floats, begin: Ints, end: Ints, extreme: np.ufunc) -> Floats:
    """Give the extreme of values[begin:end] for each pair, anything where that is empty."""
    padded = np.append(values, values[-1])  # the ufunc wants rows that exist, also behind the last
    begin = np.minimum(begin, len(values))
    bounds = np.stack((begin, np.maximum(end, begin)), axis=1).ravel()
    found: Floats = extreme.reduceat(padded, bounds)[::2]
    return found
