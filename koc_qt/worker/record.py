"""The record of a back-test, whatever engine ran it: what went in, as hashes, and what came out of it, as results."""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Mapping, Sequence
from itertools import compress
from typing import TYPE_CHECKING

import msgspec

from koc_qt.domain.backtests import Provenance, RoundTrip
from koc_qt.domain.data_hash import COLUMNS, DataHash, hash_of, little_endian
from koc_qt.domain.orders import Fill
from koc_qt.domain.performance import statistics
from koc_qt.domain.timeframes import duration_ns
from koc_qt.sdk.channel import ReplayBars, ReplayDone, StartReplay
from koc_qt.version import __version__
from koc_qt.worker.bar_check import BarCheck

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CURVE_POINTS = 4_000  # of the equity curve that is handed out
# hashed by itself; where it lies; what is told besides; what of a session is no setting
_NOT_SETTINGS = frozenset({"source", "filename", "trace", "recorded", "session"})


class Outcome(msgspec.Struct, frozen=True):
    """What an engine found. `fills` are the first ones of `fill_count`, `trips` all trades, for the other two see
    domain/performance.py. `times_ns` and `equity` are the whole curve.
    """

    times_ns: Sequence[int]
    equity: Sequence[float]
    trips: list[RoundTrip]
    fills: list[Fill]
    fill_count: int
    traded: float
    prices: tuple[float, float] | None


class Record:
    """Takes every message of bars before the engine does, and makes the results at the end. `timeframe` is the run's.

    Memory: 40 bytes for each bar of the run.
    """

    def __init__(self, start: StartReplay, timeframe: str) -> None:
        self._start = start
        self._timeframe = timeframe
        self._check = BarCheck(start.instruments, timeframe)
        self._hash = DataHash([str(rules.id) for rules in start.instruments], timeframe)
        kinds = [kind for name, kind in COLUMNS.items() if name not in ("row", "volume")]
        self._paths = [[array(kind) for kind in kinds] for _ in start.instruments]  # time, open, high, low, close

    def take(self, bars: ReplayBars) -> None:
        """Count bars in. Raises BadBars for those that cannot be believed."""
        import numpy as np

        columns = {name: array(kind, getattr(bars, name)) for name, kind in COLUMNS.items()}
        kinds = {"q": np.int64, "d": np.float64}
        self._check.look(bars, {name: np.frombuffer(each, kinds[each.typecode]) for name, each in columns.items()})
        self._hash.take(columns, warmup=bars.warmup)
        if bars.warmup:
            return
        path_columns = [column for name, column in columns.items() if name not in ("row", "volume")]
        for row, path in enumerate(self._paths):
            mine = None if len(self._paths) == 1 else [number == row for number in bars.row]
            for kept, column in zip(path, path_columns, strict=True):
                kept.extend(column if mine is None else array(column.typecode, compress(column, mine)))

    def done(self, outcome: Outcome, versions: Mapping[str, str]) -> tuple[ReplayDone, list[RoundTrip]]:
        """Give the last message of a run, and all its trades with how far they were behind and ahead.

        `versions` are those of the engine's own libraries, by name.
        """
        import numpy as np  # takes long to load, and a strategy may do without it

        from koc_qt.domain import curves
        from koc_qt.domain.excursions import Path, with_excursions

        ids = [rules.id for rules in self._start.instruments]
        trips = with_excursions(
            outcome.trips, {key: Path(*path[:4]) for key, path in zip(ids, self._paths, strict=True)}
        )
        benchmark = self._benchmark(outcome)
        figures = statistics(
            outcome.times_ns,
            outcome.equity,
            trips,
            fills=outcome.fill_count,
            traded=outcome.traded,
            prices=outcome.prices,
            benchmark=benchmark.tolist(),
        )
        rows = curves.thin_rows(outcome.equity, CURVE_POINTS)
        done = ReplayDone(
            bars=len(outcome.equity) - 1,
            equity_ns=[outcome.times_ns[row] for row in rows],
            equity=[outcome.equity[row] for row in rows],
            statistics=figures,
            benchmark=benchmark[rows].tolist(),
            months=curves.months(outcome.times_ns, outcome.equity),
            provenance=Provenance(
                data=self._hash.hexdigest(),
                strategy=hashlib.sha256(self._start.source).hexdigest(),
                settings=self._settings(),
                result=_result(outcome, figures),
                versions={
                    "koc": __version__,
                    "python": ".".join(map(str, sys.version_info[:3])),
                    "numpy": np.__version__,
                    "engine": self._start.engine.value,
                    **versions,
                },
            ),
        )
        return done, trips

    def _benchmark(self, outcome: Outcome) -> NDArray[np.float64]:
        """Give what holding the first instrument would have made at each point of the curve."""
        import numpy as np

        from koc_qt.domain import curves

        path = self._paths[0]
        closing_ns = np.asarray(path[0], np.int64) + duration_ns(self._timeframe)
        closes = np.append(np.asarray(path[4], np.float64), np.nan)  # the last of which stands for none
        rows = np.searchsorted(closing_ns, np.asarray(outcome.times_ns, np.int64), "right") - 1
        opening = None if outcome.prices is None else outcome.prices[0]
        return curves.benchmark(float(self._start.cash), opening, closes[rows].tolist())

    def _settings(self) -> str:
        fields = msgspec.structs.asdict(self._start)
        return hash_of({name: value for name, value in fields.items() if name not in _NOT_SETTINGS})


def _result(outcome: Outcome, figures: Mapping[str, float | None]) -> str:
    curve = [
        hashlib.sha256(little_endian(array(kind, column))).hexdigest()
        for kind, column in (("q", outcome.times_ns), ("d", outcome.equity))
    ]
    return hash_of([outcome.fills, outcome.fill_count, curve, figures])
