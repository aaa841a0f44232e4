"""Signals: a strategy's decisions for all bars at once, as columns; `Strategy.signals` takes Bars and gives Signals.

What is signalled at a bar's close is done at the next bar's open, in every engine by the same rules: an entry when
nothing is held, an exit when something is. Only one thing is done at a bar: while a long is held, its exit counts and
nothing else does, and so with a short; when both entries are signalled at once, the long one counts. An entry together
with the exit of its own side is none.

numpy is imported when the first columns are made, for the window and most strategies do without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

from koc_qt.domain.errors import StrategyError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.sdk.indicators import Indicator
from koc_qt.sdk.indicators._base import Stretch, lines_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Booleans = NDArray[np.bool_]

T = TypeVar("T", bound="np.generic")
_PRICES = ("open", "high", "low", "close", "volume")


class Bars:
    """The bars of one instrument as columns that cannot be written to, oldest first; at least one bar.

    `time_ns` is when each opened, int64 UTC nanoseconds; `open`, `high`, `low`, `close` and `volume` are float64.
    """

    def __init__(
        self,
        instrument: InstrumentId,
        timeframe: str,
        time_ns: ArrayLike,
        open: ArrayLike,
        high: ArrayLike,
        low: ArrayLike,
        close: ArrayLike,
        volume: ArrayLike,
    ) -> None:
        """Take columns; arrays of these types are shared, not copied.

        Raises StrategyError where they are empty or of several lengths.
        """
        import numpy as np

        self.instrument, self.timeframe = instrument, timeframe
        self.time_ns: NDArray[np.int64] = _sealed(np.asarray(time_ns, np.int64).view())
        columns = (_sealed(np.asarray(column, np.float64).view()) for column in (open, high, low, close, volume))
        self.open, self.high, self.low, self.close, self.volume = columns
        lengths = {len(self.time_ns), *(len(getattr(self, name)) for name in _PRICES)}
        if len(lengths) > 1 or not lengths.pop():
            raise StrategyError("the columns of bars must have one length, of one bar or more")
        self._known: dict[object, Floats] = {}

    @classmethod
    def of(cls, bars: Sequence[Bar]) -> Bars:
        """Put bars of one instrument and timeframe into columns. Raises StrategyError where there is none."""
        if not bars:
            raise StrategyError("there are no bars to put into columns")
        columns = ([getattr(bar, name) for bar in bars] for name in ("open_time_ns", *_PRICES))
        return cls(bars[-1].instrument, bars[-1].timeframe, *columns)

    def __len__(self) -> int:
        return len(self.time_ns)

    def column(self, indicator: Indicator, line: str = "value") -> Floats:
        """Give an indicator of koc_qt.sdk.indicators over these bars, nan until it is ready.

        It begins anew whatever it was given before, and each value is bit for bit what update(bar) leaves in its
        attribute `line`, such as the "upper" of Bollinger. The same indicator with the same arguments is computed once.
        """
        key = (type(indicator), *indicator.made_with, line)
        if key not in self._known:
            self._compute(indicator, line)
        return self._known[key]

    def _compute(self, indicator: Indicator, line: str) -> None:
        """Keep the indicator's lines, and `line` where that is none of these."""
        import numpy as np

        kind, (arguments, named) = type(indicator), indicator.made_with
        fresh: Indicator = kind(*arguments, **dict(named))
        if not hasattr(fresh, line):
            raise StrategyError(f"{kind.__name__} has no {line!r}")
        bars = _Rows(self)
        names = fresh.lines
        if line in names and np.isfinite(self.close).all():
            lines = lines_of(fresh, Stretch(bars, self.close.data))  # a view, whose items are Python's own numbers
        else:  # one by one; update() says so when it comes to a price that is none
            lines = [[_after(fresh, bar, line) for bar in bars]]
            names = (line,)
        for name, values in zip(names, lines, strict=True):
            self._known[(kind, *indicator.made_with, name)] = _sealed(np.array(values, np.float64))


class _Rows(Sequence[Bar]):
    """The rows of Bars as bars, made when they are asked for: most indicators want the closes alone."""

    def __init__(self, bars: Bars) -> None:
        self._columns = (bars.time_ns, bars.open, bars.high, bars.low, bars.close, bars.volume)
        self._made = partial(Bar, bars.instrument, bars.timeframe)

    def __len__(self) -> int:
        return len(self._columns[0])

    def __iter__(self) -> Iterator[Bar]:
        return map(self._made, *(column.data for column in self._columns))  # whose items are Python's own numbers

    @overload
    def __getitem__(self, row: int) -> Bar: ...

    @overload
    def __getitem__(self, row: slice) -> list[Bar]: ...

    def __getitem__(self, row: int | slice) -> Bar | list[Bar]:
        if isinstance(row, slice):
            return list(map(self._made, *(column.data[row] for column in self._columns)))
        return self._made(*(column.data[row] for column in self._columns))


def _after(indicator: Indicator, bar: Bar, line: str) -> float | None:
    indicator.update(bar)
    found: float | None = getattr(indicator, line)
    return found


class Signals:
    """When to enter and leave: boolean columns, as long as the bars. Lists, numpy arrays and pandas series will do.

    `sizes` are base units, one number or a column; each is that of an entry at its bar, and rounded down to the lot.
    Without `short_entries` and `short_exits` nothing is sold short. All are kept as columns that cannot be written to;
    of entries those that count, where there is no exit.
    """

    def __init__(
        self,
        entries: ArrayLike,
        exits: ArrayLike,
        sizes: ArrayLike = 1.0,
        short_entries: ArrayLike | None = None,
        short_exits: ArrayLike | None = None,
    ) -> None:
        """Raise StrategyError for columns of other types or of several lengths, and for sizes that are no amount."""
        import numpy as np

        wanted = _boolean(entries, "entries")
        count = len(wanted)
        self.exits = _boolean(exits, "exits", count)
        self.entries = _sealed(wanted & ~self.exits)
        none: Booleans = np.broadcast_to(np.False_, count)
        self.short_exits = none if short_exits is None else _boolean(short_exits, "short_exits", count)
        self.short_entries = none
        if short_entries is not None:
            self.short_entries = _sealed(_boolean(short_entries, "short_entries", count) & ~self.short_exits)
        self.sizes = self._amounts(sizes)

    def __len__(self) -> int:
        return len(self.entries)

    def _amounts(self, sizes: ArrayLike) -> Floats:
        import numpy as np

        given = np.asarray(sizes)
        if given.dtype.kind not in "iuf":
            raise StrategyError(f"sizes must be numbers, not {given.dtype}")
        if given.ndim and given.shape != (len(self),):
            raise StrategyError(f"sizes must be one number or as many as entries ({len(self):,}), not {_shape(given)}")
        if not given.ndim and 0 < float(given) < np.inf:
            return np.broadcast_to(np.float64(given), len(self))  # one number in memory: sweeps make thousands of these
        column = _sealed(np.array(np.broadcast_to(given, len(self)), np.float64))
        wanted = self.entries | self.short_entries
        wrong = np.flatnonzero(wanted & ~(np.isfinite(column) & (column > 0)))
        if len(wrong):
            size = column[wrong[0]]
            raise StrategyError(f"sizes must be above zero where an entry is, not {size} (row {wrong[0]:,}, from 0)")
        return column


def checked(signals: object, bars: Bars) -> Signals:
    """Give what a strategy's signals() gave. Raises StrategyError where that is nothing of the kind, or too short."""
    if not isinstance(signals, Signals):
        raise StrategyError(f"signals() must give Signals(entries, exits), not {type(signals).__name__}")
    if len(signals) != len(bars):
        raise StrategyError(f"signals() gave {len(signals):,} rows for {len(bars):,} bars: one is needed for each bar")
    return signals


def _boolean(column: ArrayLike, name: str, count: int | None = None) -> Booleans:
    import numpy as np

    given = np.asarray(column)
    if given.dtype != np.bool_:
        why = " (with gaps filled: shift() leaves nan)" if given.dtype.kind in "fO" else ""
        raise StrategyError(f"{name} must be True or False for each bar{why}, not {given.dtype}")
    if given.ndim != 1:
        raise StrategyError(f"{name} must be one column, not {_shape(given)}")
    if count is not None and len(given) != count:
        raise StrategyError(f"{name} must have as many rows as entries ({count:,}), not {len(given):,}")
    return _sealed(given.copy())


def _shape(given: NDArray[Any]) -> str:
    return " x ".join(f"{length:,}" for length in given.shape) or "one value"


def _sealed(column: NDArray[T]) -> NDArray[T]:
    column.flags.writeable = False
    return column
