"""Looks at bars before a strategy does: one with a hole in it would spoil every figure after it without a word."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from koc_qt.domain.errors import BadBars
from koc_qt.domain.instruments import Instrument
from koc_qt.sdk.channel import ReplayBars

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VALUES = ("open", "high", "low", "close", "volume")


class BarCheck:
    """Sees every message of a run, in order. Whole columns at a time: it takes a hundredth of a microsecond a bar."""

    def __init__(self, instruments: tuple[Instrument, ...], timeframe: str) -> None:
        self._names = [f"{rules.id} {timeframe}" for rules in instruments]
        self._newest_ns: list[int | None] = [None] * len(instruments)

    def look(self, bars: ReplayBars, columns: Mapping[str, NDArray[Any]]) -> None:
        """Raise BadBars, naming the first bar that cannot be believed: prices and volume that are no number or below
        zero, a high or low that is none, a time that is not after the one before. `columns` are those of the message.
        """
        opening, high, low, close, volume = (columns[name] for name in _VALUES)
        good = (low > 0) & (low <= opening) & (opening <= high) & (low <= close) & (close <= high)
        good &= (high < math.inf) & (volume >= 0) & (volume < math.inf)
        if not good.all():
            row = int(good.argmin())
            self._refuse(bars, row, _fault({name: float(columns[name][row]) for name in _VALUES}))
        times_ns = columns["open_time_ns"]
        for number, newest_ns in enumerate(self._newest_ns):
            rows = (columns["row"] == number).nonzero()[0]
            if len(rows):
                self._look_at_times(bars, rows, times_ns[rows], newest_ns)
                self._newest_ns[number] = bars.open_time_ns[int(rows[-1])]

    def _look_at_times(
        self, bars: ReplayBars, rows: NDArray[Any], times_ns: NDArray[Any], newest_ns: int | None
    ) -> None:
        ascending = times_ns[1:] > times_ns[:-1]
        if newest_ns is not None and int(times_ns[0]) <= newest_ns:
            self._refuse(bars, int(rows[0]), f"a bar that opens at {_utc(newest_ns)} came before it")
        if not ascending.all():
            at = int(ascending.argmin())
            before_ns = int(times_ns[at])
            self._refuse(bars, int(rows[at + 1]), f"a bar that opens at {_utc(before_ns)} came before it")

    def _refuse(self, bars: ReplayBars, row: int, fault: str) -> None:
        name = self._names[bars.row[row]]
        raise BadBars(f"the bar of {name} that opens at {_utc(bars.open_time_ns[row])} cannot be played: {fault}")


def _fault(values: dict[str, float]) -> str:
    if not all(map(math.isfinite, values.values())):
        return f"{', '.join(f'{name} {value:g}' for name, value in values.items())} are not all numbers"
    if values["low"] <= 0:
        return f"its low {values['low']:g} is not above zero"
    if values["volume"] < 0:
        return f"its volume {values['volume']:g} is below zero"
    return (
        f"open {values['open']:g} and close {values['close']:g} are not between "
        f"low {values['low']:g} and high {values['high']:g}"
    )


def _utc(time_ns: int) -> str:
    return f"{_EPOCH + timedelta(microseconds=time_ns // 1_000):%Y-%m-%d %H:%M:%S}"
