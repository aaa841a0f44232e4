"""What strategies that run have seen, warm-up and bars that closed live: a back-test can be given the very same ones.

Bars are kept a series, not a strategy: what closed live is the same for all. They are in memory alone: after a restart
of the engine a strategy begins a session anew.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

import numpy as np

from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.engine.told_files import PieceHead
from koc_qt.engine.told_tape import ToldTape, ToldTapes
from koc_qt.ports.bars import BarSeries, Columns

BARS_KEPT = 20_000  # of a series, the newest: a megabyte; of minutes two weeks, of seconds five hours
SESSIONS_KEPT = 1_000  # strategies; the session that began first makes way


class SeenSeries:
    """The newest bars of a series that closed live, in order."""

    def __init__(self) -> None:
        self._times = array("q")
        self._values = [array("d") for _ in range(5)]

    def add(self, bar: Bar) -> None:
        """Keep a bar, once; the oldest make way now and then."""
        if self._times and bar.open_time_ns <= self._times[-1]:
            return
        self._times.append(bar.open_time_ns)
        for column, value in zip(self._values, (bar.open, bar.high, bar.low, bar.close, bar.volume), strict=True):
            column.append(value)
        if len(self._times) >= BARS_KEPT + max(BARS_KEPT // 10, 1):
            old = len(self._times) - BARS_KEPT
            del self._times[:old]
            for column in self._values:
                del column[:old]

    def columns(self) -> Columns:
        """Give them all, as arrays of their own."""
        return Columns(np.array(self._times, np.int64), *(np.array(column, np.float64) for column in self._values))


class Session:
    """One run of a strategy: since when it has seen which instruments live. Times are openings, UTC nanoseconds."""

    def __init__(self, owner: str, timeframe: str) -> None:
        self.owner = owner
        self.timeframe = timeframe
        self.first_ns: dict[InstrumentId, int] = {}


class Sessions:
    """The present or last session of every strategy; `saw` is told of every bar that one is sent."""

    def __init__(self) -> None:
        self.tapes: ToldTapes | None = None  # of strategies that hear quotes or trades
        self.instruments: set[InstrumentId] = set()  # of which a strategy was ever sent a bar
        self._sessions: dict[str, Session] = {}
        self._series: dict[BarSeries, SeenSeries] = {}

    def saw(self, strategy_id: str, owner: str, bar: Bar, warmup: bool) -> None:
        """Note that a strategy was sent a bar. `owner` is another one for each of its runs."""
        self.instruments.add(bar.instrument)
        self._series.setdefault(BarSeries(bar.instrument, bar.timeframe), SeenSeries()).add(bar)
        if warmup:
            return
        session = self._sessions.get(strategy_id)
        if session is None or session.owner != owner:
            self._sessions.pop(strategy_id, None)
            session = self._sessions[strategy_id] = Session(owner, bar.timeframe)
            self._forget_old()
        session.first_ns.setdefault(bar.instrument, bar.open_time_ns)

    def begin_tape(
        self, head: Callable[[int], PieceHead], kinds: Sequence[str], instruments: Sequence[InstrumentId]
    ) -> ToldTape | None:
        """Record what a run is told, where there are tapes."""
        return None if self.tapes is None else self.tapes.begin(head, kinds, instruments)

    def get(self, strategy_id: str) -> Session | None:
        """Give a strategy's session; None where it has seen nothing yet."""
        return self._sessions.get(strategy_id)

    def bars(self, series: BarSeries) -> Columns | None:
        """Give what was seen of a series, warm-up too; None where nothing was."""
        seen = self._series.get(series)
        return None if seen is None else seen.columns()

    def _forget_old(self) -> None:
        while len(self._sessions) > SESSIONS_KEPT:
            del self._sessions[next(iter(self._sessions))]
            used = {
                BarSeries(instrument, session.timeframe)
                for session in self._sessions.values()
                for instrument in session.first_ns
            }
            self._series = {series: seen for series, seen in self._series.items() if series in used}
