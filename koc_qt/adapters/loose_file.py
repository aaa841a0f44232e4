"""Bars from a file that somebody brought, parquet or CSV, looked through before anything is traded on them.

Columns are found by their names, capitals aside: `timestamp` (or datetime, open_time, time, date, or parquet's nameless
index), open, high, low, close, volume. Times are opening times: with a zone, or UTC; text in ISO 8601, or whole numbers
of seconds, milliseconds, microseconds or nanoseconds since 1970. What is done about what a file may hold:

- Rows in another order are sorted; a row that is there twice, the same to the last digit, counts once; a row without
  any price is no bar, so there is a gap; a volume that is missing is 0. All of this is said in `notes`.
- Bars of days that open at midnight, or with the session, of some place are those of the day that the file writes, and
  open when that day begins in UTC; this is said as well.
- Two rows of one time that differ, a price that is missing, not finite or not above zero, a high below the low or the
  like, a volume below zero, and a time off the grid of the bars: the file is refused and the row named (the first
  below the header is row 1), or such rows are left out and counted, where that is wanted.
- Gaps stay gaps.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from koc_qt.domain.errors import BadBars
from koc_qt.domain.timeframes import DAY_NS, SECOND_NS, bar_open_ns, duration_ns
from koc_qt.ports.bars import Columns

if TYPE_CHECKING:
    from koc_qt.ports.bars import Floats, Times

SIZE_LIMIT = 1 << 30  # bytes
_LENGTHS = (("w", 7 * DAY_NS), ("d", DAY_NS), ("h", 3_600 * SECOND_NS), ("m", 60 * SECOND_NS), ("s", SECOND_NS))
_PRICES = ("open", "high", "low", "close")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LooseBars:
    """The bars of a file, all valid, and what was done to it: phrases for a person."""

    path: Path
    timeframe: str
    columns: Columns
    notes: tuple[str, ...]


def read_loose(path: Path, timeframe: str = "", *, skip_bad: bool = False) -> LooseBars:
    """Read a file. `timeframe` is the length of its bars where there is one alone, which does not tell.

    With `skip_bad` rows that cannot be believed are left out and counted. Raises BadBars, which names the file and the
    row, and BadTimeframe.
    """
    _look_at(path)
    rows = _Rows.read(path)
    rows.leave_blanks()
    rows.sort()
    timeframe = rows.usual_length(timeframe)
    rows.check(timeframe, skip_bad=skip_bad)
    return LooseBars(path, timeframe, rows.columns(), tuple(rows.notes))


class _Rows:
    """The rows of a file on their way to be bars."""

    def __init__(self, path: Path, time_ns: Times, written_ns: Times, values: dict[str, Floats]) -> None:
        self._path = path
        self._number = np.arange(1, len(time_ns) + 1)
        self._time_ns = time_ns
        self._written_ns = written_ns  # as the clock of the file's zone shows it
        self._values = values
        self.notes: list[str] = []

    @classmethod
    def read(cls, path: Path) -> _Rows:
        import pyarrow as pa

        from koc_qt.adapters.loose_table import read_table

        try:
            table = read_table(path)
        except (OSError, pa.ArrowException, ValueError, MemoryError) as error:
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise BadBars(f"{path} cannot be read: {why[:300]}") from error
        rows = cls(path, table.time_ns, table.written_ns, table.values)
        rows.notes += table.notes
        return rows

    def columns(self) -> Columns:
        return Columns(self._time_ns, *(self._values[name] for name in Columns._fields[1:]))

    def leave_blanks(self) -> None:
        """Take rows without any price for gaps, and volume that is missing for none."""
        blank = np.logical_and.reduce([np.isnan(self._values[name]) for name in _PRICES])
        if blank.any():
            self.notes.append(f"{_rows(blank)} without any price left out")
            self._keep(~blank)
        volume = self._values.get("volume")
        if volume is None:
            self.notes.append("it has no volume: orders are filled whatever their size")
            self._values["volume"] = np.zeros(len(self._number))
        elif np.isnan(volume).any():
            self.notes.append(f"{_rows(np.isnan(volume))} without a volume, which is taken as 0")
            self._values["volume"] = np.nan_to_num(volume, posinf=np.inf, neginf=-np.inf)
        if not len(self._number):
            raise BadBars(f"{self._path} holds no bars: no row has a price")

    def sort(self) -> None:
        """Bring rows into the order of time, and drop those that are there twice."""
        if np.any(np.diff(self._time_ns) < 0):
            self.notes.append("its rows were not in the order of time: sorted")
            self._keep(np.argsort(self._time_ns, kind="stable"))
        again = self._repeats()
        for column in self._values.values():
            again[1:] &= (column[1:] == column[:-1]) | (np.isnan(column[1:]) & np.isnan(column[:-1]))
        if again.any():
            self.notes.append(f"{_rows(again)} that it has twice counted once")
            self._keep(~again)

    def usual_length(self, timeframe: str) -> str:
        """Give the timeframe by what most rows are apart, the given one for a single row. Raises BadBars."""
        steps, counts = np.unique(np.diff(self._time_ns), return_counts=True)
        counts = counts[steps > 0]
        steps = steps[steps > 0]
        if not len(steps) and timeframe:
            return timeframe
        if not len(steps):
            raise BadBars(f"{self._path} has one bar, which does not tell how long it lasts: say so with --timeframe")
        step_ns = int(steps[counts.argmax()])
        for unit, unit_ns in _LENGTHS:
            if step_ns % unit_ns == 0:
                return f"{step_ns // unit_ns}{unit}"
        raise BadBars(f"{self._path}: most of its rows are {step_ns / 1e9:g} s apart; bars last whole seconds")

    def check(self, timeframe: str, *, skip_bad: bool) -> None:
        """Refuse the file for the first row that cannot be believed, or leave such rows out. Raises BadBars."""
        self._move_to_days(timeframe)
        bad = self._bad(timeframe)
        if bad.any() and not skip_bad:
            row = int(bad.argmax())
            raise BadBars(
                f"{self._path}, row {self._number[row]:,} ({_utc(int(self._time_ns[row]))} UTC): "
                f"{self._fault(row, timeframe)}. Mend the file, or have such rows left out with --skip-bad"
                + (f" ({int(bad.sum()):,} of {len(bad):,})" if bad.sum() > 1 else "")
            )
        if bad.any():
            self.notes.append(f"{_rows(bad)} that cannot be believed left out")
            self._keep(~bad)
        if not len(self._number):
            raise BadBars(f"{self._path} holds no bars that can be believed")

    # ---- inside

    def _keep(self, which: Mask | npt.NDArray[np.intp]) -> None:
        self._number = self._number[which]
        self._time_ns = self._time_ns[which]
        self._written_ns = self._written_ns[which]
        self._values = {name: column[which] for name, column in self._values.items()}

    def _repeats(self) -> Mask:
        again = np.zeros(len(self._number), dtype=np.bool_)
        again[1:] = np.diff(self._time_ns) == 0
        return again

    def _move_to_days(self, timeframe: str) -> None:
        """Have bars of days that open at some other hour open with the day that the file writes."""
        if duration_ns(timeframe) % DAY_NS or not np.any(self._time_ns % DAY_NS):
            return
        self.notes.append("its days do not begin at midnight UTC: each bar is that of the day it is dated")
        self._time_ns = self._written_ns - self._written_ns % DAY_NS

    def _bad(self, timeframe: str) -> Mask:
        opening, high, low, close, volume = (self._values[name] for name in Columns._fields[1:])
        finite = np.logical_and.reduce([np.isfinite(column) for column in self._values.values()])
        with np.errstate(invalid="ignore"):
            sound = (
                (low > 0) & (volume >= 0) & (low <= np.minimum(opening, close)) & (high >= np.maximum(opening, close))
            )
        origin_ns = bar_open_ns(0, timeframe)
        on_grid = (self._time_ns - origin_ns) % duration_ns(timeframe) == 0
        bad: Mask = ~(finite & sound & on_grid) | self._repeats()
        return bad

    def _fault(self, row: int, timeframe: str) -> str:
        """Say what is wrong with a bad row."""
        opening, high, low, close, volume = (float(self._values[name][row]) for name in Columns._fields[1:])
        prices = f"open {opening:.10g}, high {high:.10g}, low {low:.10g}, close {close:.10g}"
        if not np.isfinite([opening, high, low, close, volume]).all():
            return f"{prices}, volume {volume:.10g} are not all numbers"
        if low <= 0:
            return f"its low {low:.10g} is not above zero"
        if volume < 0:
            return f"its volume {volume:.10g} is below zero"
        if not (low <= min(opening, close) and max(opening, close) <= high):
            return f"{prices}: open and close are not between low and high"
        time_ns = int(self._time_ns[row])
        if row and time_ns == self._time_ns[row - 1]:
            return f"row {self._number[row - 1]:,} opens at the same time with other prices"
        return f"bars of {timeframe} open at {_utc(bar_open_ns(time_ns, timeframe))} and so on, in UTC"


def _look_at(path: Path) -> None:
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        why = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise BadBars(f"{path} cannot be read: {why}") from error
    if stat.S_ISDIR(found.st_mode):
        raise BadBars(f"{path} is a folder: name a file with bars (.parquet or .csv)")
    if not stat.S_ISREG(found.st_mode):
        raise BadBars(f"{path} is a device or a pipe: name a file with bars (.parquet or .csv)")
    if not found.st_size:
        raise BadBars(f"{path} is empty")
    if found.st_size > SIZE_LIMIT:
        raise BadBars(f"{path} has {found.st_size / 1e9:.1f} GB; a file of bars may have {SIZE_LIMIT / 1e9:.1f} GB")


def _rows(which: Mask) -> str:
    count = int(which.sum())
    return "1 row" if count == 1 else f"{count:,} rows"


def _utc(time_ns: int) -> str:
    moment = _EPOCH + timedelta(microseconds=time_ns // 1000)
    return f"{moment:%Y-%m-%d %H:%M:%S}" + (f".{moment:%f}" if moment.microsecond else "")
