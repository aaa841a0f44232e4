"""Where the bar-by-bar replay of a run is: which bars are shown, which fills, and which trade is open. No widgets."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec
import numpy as np

from koc_qt.domain.backtests import BacktestResult, RoundTrip
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.orders import Fill
from koc_qt.domain.timeframes import SECOND_NS, duration_ns
from koc_qt.ui.backtests.curves import Curve
from koc_qt.ui.charts.series import BarColumns, Ints

SPEEDS = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # bars a second
DEFAULT_SPEED = 10
_LOOKED_AT = 200  # bars, for the digits of prices
_REMEMBERED_BARS = 12  # for which a trade that has ended is still brought out


class Playback:
    """The bars of one instrument of a run, as far as they are there, and how many of them are shown.

    Times are UTC nanoseconds. A bar is shown when it has closed; what was done at its open is shown with it.
    """

    def __init__(self, result: BacktestResult, instrument: InstrumentId) -> None:
        self.instrument = instrument
        self.bar_ns = duration_ns(result.timeframe)
        self.since_ns, self.until_ns = result.spec.since_ns, result.spec.until_ns
        self.bars = BarColumns.of([], [], [], [], [], [])
        self.shown = 0
        self.speed = DEFAULT_SPEED
        self.equity = Curve.of("Equity", result.equity_ns, result.equity)
        self._trips = sorted((t for t in result.trades if t.instrument == instrument), key=lambda trip: trip.entry_ns)
        self._entries: Ints = np.fromiter((trip.entry_ns for trip in self._trips), np.int64, len(self._trips))
        fills = sorted((fill for fill in result.fills if fill.instrument == instrument), key=lambda fill: fill.time_ns)
        self._fills: tuple[Fill, ...] = tuple(fills)
        self._fill_times: Ints = np.fromiter((fill.time_ns for fill in fills), np.int64, len(fills))
        self._owed = 0.0  # bars that are due but for a fraction

    # ---- bars -------------------------------------------------------------------------------------------------------

    def add(self, rows: Sequence[Sequence[float]]) -> int:
        """Take more bars in, as they come: those that are known or outside the run are left out; give how many."""
        last_ns = int(self.bars.open_time_ns[-1]) if len(self.bars) else -1
        new = [row for row in rows if max(last_ns + 1, self.since_ns) <= row[0] < self.until_ns]
        if new:
            added = BarColumns.of(*zip(*new, strict=True))
            self.bars = BarColumns(
                np.concatenate((self.bars.open_time_ns, added.open_time_ns)),
                np.concatenate((self.bars.values, added.values), axis=1),
            )
        return len(new)

    def decimals(self) -> int:
        """Give how many decimals the first prices have, from 2 to 8, of their first six digits."""
        texts = (f"{Decimal(f'{price:.6g}'):f}" for price in self.bars.values[3][:_LOOKED_AT].tolist())
        return max([2, *(min(len(text.partition(".")[2]), 8) for text in texts)])

    @property
    def now_ns(self) -> int:
        """The moment that is shown: the close of the last bar."""
        return int(self.bars.open_time_ns[self.shown - 1]) + self.bar_ns if self.shown else self.since_ns

    @property
    def is_at_end(self) -> bool:
        """Whether every bar that is there is shown."""
        return self.shown >= len(self.bars)

    def due(self, elapsed_ns: int) -> int:
        """Give how many bars are due after so much more time; a fraction is carried on."""
        self._owed += self.speed * elapsed_ns / SECOND_NS
        whole = int(self._owed)
        self._owed -= whole
        return min(whole, len(self.bars) - self.shown)

    def place_of(self, time_ns: int) -> int:
        """Give how many bars are shown when the one of a time is the last."""
        return int(np.searchsorted(self.bars.open_time_ns, time_ns, side="right"))

    # ---- what happened ----------------------------------------------------------------------------------------------

    def fills_between(self, after_ns: int, before_ns: int) -> tuple[Fill, ...]:
        """Give the fills of a stretch, the beginning included and the end not."""
        first, stop = np.searchsorted(self._fill_times, (after_ns, before_ns))
        return self._fills[int(first) : int(stop)]

    def equity_so_far(self) -> Curve:
        """Give the curve up to the moment."""
        stop = int(np.searchsorted(self.equity.times_ns, self.now_ns, side="right"))
        return Curve(self.equity.name, self.equity.times_ns[:stop], self.equity.values[:stop])

    def next_entry_ns(self) -> int | None:
        """Give when the next trade begins; None where there is none."""
        place = int(np.searchsorted(self._entries, self.now_ns))
        return int(self._entries[place]) if place < len(self._entries) else None

    def trip_now(self) -> RoundTrip | None:
        """Give the trade that is open, at its present value before fees, or the one that has just ended; else None."""
        place = int(np.searchsorted(self._entries, self.now_ns)) - 1
        if place < 0 or not self.shown:
            return None
        trip = self._trips[place]
        if trip.exit_ns is not None and trip.exit_ns < self.now_ns:
            return trip if self.now_ns - trip.exit_ns <= _REMEMBERED_BARS * self.bar_ns else None
        close = float(self.bars.values[3][self.shown - 1])
        worth = (close - trip.entry_price) * trip.quantity
        return msgspec.structs.replace(trip, exit_ns=None, exit_price=None, pnl=worth)
