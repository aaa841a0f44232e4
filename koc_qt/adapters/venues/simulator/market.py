"""The simulated market of one venue and symbol: any day of it, computed when it is asked for."""

from __future__ import annotations

from functools import lru_cache
from threading import Lock

from koc_qt.adapters.venues.simulator.catalogue import Listing
from koc_qt.adapters.venues.simulator.fundamental import basis_day, fundamental_day
from koc_qt.adapters.venues.simulator.regimes import DailyAnchors, generator
from koc_qt.adapters.venues.simulator.tape import Columns, Tape, make_tape, tape_columns

PRIMARY = "sim"
_TAPES_KEPT = 2  # 5 MB each: today's and tomorrow's
_MINUTE_DAYS_KEPT = 128  # 40 kB each
_MINUTE_S = 60


class SymbolMarket:
    """A pure function of seed, venue, symbol and day, with a small memory. Safe to call from any thread.

    Every venue but `sim` trades at a basis to the common path. The numbers are those of one minor release of numpy,
    whose random streams may change with the next: bars that are kept have to be told apart by it.
    """

    def __init__(self, seed: int, venue: str, listing: Listing) -> None:
        self.listing = listing
        self._seed = seed
        self._venue = venue
        self._anchors = DailyAnchors(seed, listing)
        self._lock = Lock()
        self._tapes: dict[int, Tape] = {}
        self._minutes = lru_cache(maxsize=_MINUTE_DAYS_KEPT)(self._make_minutes)

    def has_tape(self, day: int) -> bool:
        """Tell whether `tape` would give this day at once."""
        return day in self._tapes

    def tape(self, day: int) -> Tape:
        """Give the quotes and trades of day number `day`, and remember the last two days that were asked for."""
        tape = self._tapes.get(day)
        if tape is None:
            tape = self.make_tape(day)
            with self._lock:
                self._tapes[day] = tape
                while len(self._tapes) > _TAPES_KEPT:
                    del self._tapes[next(iter(self._tapes))]
        return tape

    def make_tape(self, day: int) -> Tape:
        """Compute the quotes and trades of day number `day` (days since regimes.EPOCH_NS), about 20 ms."""
        start, end, regime, sigma = self._anchors.day(day)
        path = fundamental_day(self._seed, self.listing.symbol, day, start, end, regime, sigma)
        log_price = path.log_price
        if self._venue != PRIMARY:
            log_price = log_price + basis_day(self._seed, self._venue, self.listing.symbol, day)
        return make_tape(
            generator(self._seed, "tape", self._venue, self.listing.symbol, day), self.listing, path, log_price
        )

    def columns(self, day: int, step_s: int) -> Columns:
        """Give the day's bars of `step_s` seconds, a divisor of a day."""
        if step_s % _MINUTE_S == 0:
            return self._minutes(day).folded(step_s // _MINUTE_S)
        return tape_columns(self.make_tape(day), step_s)

    def _make_minutes(self, day: int) -> Columns:
        # Past days pass through without pushing the live day's tape out of its memory.
        return tape_columns(self.make_tape(day), _MINUTE_S)
