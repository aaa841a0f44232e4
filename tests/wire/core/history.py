"""The past of a seeded market: candles of any length, a pure function of seed, symbol and time.

Minutes are the ground: open and close are the same function of time at either end, so that candles join; longer ones
are made of whole minutes, and a minute's seconds are a path through its open, high, low and close.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from koc_qt.domain.timeframes import SECOND_NS, bar_open_ns, duration_ns
from tests.wire.core.listings import Listing

MINUTE_NS = 60 * SECOND_NS
_OCTAVES = 11  # the slowest wave turns in two years
_WILDNESS = 0.0004  # standard move of a minute
_MOST_MINUTES = 40_000_000

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Candle:
    """One interval; prices in quote and volume in base currency, `open_ns` in UTC nanoseconds."""

    open_ns: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    trades: int


@dataclass
class Bar:
    """A candle in ticks and lots."""

    open_ns: int
    open: int
    high: int
    low: int
    close: int
    lots: int
    trades: int

    def add(self, later: Bar) -> None:
        """Go on with a bar that follows."""
        self.high, self.low, self.close = max(self.high, later.high), min(self.low, later.low), later.close
        self.lots += later.lots
        self.trades += later.trades


class History:
    """What was before a market's first live moment."""

    def __init__(self, listing: Listing, seed: int) -> None:
        self._listing = listing
        rng = random.Random(f"{seed}/{listing.symbol}")
        self._keys = [np.uint64(rng.getrandbits(63)) for _ in range(_OCTAVES + 4)]
        self._level = float(listing.price / listing.tick)
        self._mean_lots = max(float(Decimal(20_000) / listing.price / listing.lot), 1.0)

    def ticks_at(self, minutes: Ints) -> Ints:
        """Give the price at the beginning of minutes since 1970, in ticks."""
        walk = np.zeros(len(minutes))
        for octave in range(_OCTAVES):
            place = minutes / 4.0**octave
            left = np.floor(place)
            part = place - left
            part = part * part * (3 - 2 * part)
            ends = [_uniform(self._keys[octave], left.astype(np.int64) + step) * 2 - 1 for step in (0, 1)]
            walk += _WILDNESS * 2.0**octave * (ends[0] * (1 - part) + ends[1] * part)
        ticks: Ints = np.maximum(np.rint(self._level * np.exp(walk)), 1).astype(np.int64)
        return ticks

    def bars(self, timeframe: str, since_ns: int, until_ns: int) -> list[Bar]:
        """Give the bars with since <= open time < until, made of whole minutes (or of a minute's seconds)."""
        step_ns = duration_ns(timeframe)
        since_ns = max(since_ns, self._listing.listed_ns)
        first_ns = bar_open_ns(since_ns + step_ns - 1, timeframe)
        if until_ns <= first_ns:
            return []
        if step_ns < MINUTE_NS:
            return _folded(self._seconds(first_ns, until_ns), timeframe)
        until_ns = bar_open_ns(until_ns + step_ns - 1, timeframe)
        if (until_ns - first_ns) // MINUTE_NS > _MOST_MINUTES:
            raise ValueError(f"{timeframe} candles from {first_ns} to {until_ns} are too many at once")
        return self._long(first_ns, until_ns, step_ns)

    def _long(self, first_ns: int, until_ns: int, step_ns: int) -> list[Bar]:
        size = step_ns // MINUTE_NS
        page = max(200_000 // size, 1)
        bars: list[Bar] = []
        for start_ns in range(first_ns, until_ns, page * step_ns):
            count = min((until_ns - start_ns) // step_ns, page)
            columns = self.minutes(start_ns // MINUTE_NS, count * size)
            opens, highs, lows, closes, lots, trades = (column.reshape(count, size) for column in columns)
            rows = zip(
                opens[:, 0].tolist(),
                highs.max(axis=1).tolist(),
                lows.min(axis=1).tolist(),
                closes[:, -1].tolist(),
                lots.sum(axis=1).tolist(),
                trades.sum(axis=1).tolist(),
                strict=True,
            )
            bars += [Bar(start_ns + at * step_ns, *row) for at, row in enumerate(rows)]
        return bars

    def minutes(self, first: int, count: int) -> tuple[Ints, ...]:
        """Give open, high, low, close (ticks), volume (lots) and number of trades of minutes since 1970."""
        index = np.arange(first, first + count + 1, dtype=np.int64)
        ticks = self.ticks_at(index)
        index, opens, closes = index[:-1], ticks[:-1], ticks[1:]
        reach = opens * _WILDNESS
        up, down, size, many = (_uniform(key, index) for key in self._keys[_OCTAVES:])
        highs = np.maximum(opens, closes) + np.rint(up * reach).astype(np.int64)
        lows = np.maximum(np.minimum(opens, closes) - np.rint(down * reach).astype(np.int64), 1)
        lots = np.maximum(np.rint(self._mean_lots * -np.log1p(-size)), 60).astype(np.int64)
        trades = 60 + np.rint(many * 240).astype(np.int64)
        return opens, highs, lows, closes, lots, trades

    def _seconds(self, first_ns: int, until_ns: int) -> Iterator[Bar]:
        first, last = first_ns // MINUTE_NS, (until_ns - 1) // MINUTE_NS
        columns = [column.tolist() for column in self.minutes(first, last - first + 1)]
        for minute, row in enumerate(zip(*columns, strict=True), start=first):
            for bar in _within(minute, *row):
                if first_ns <= bar.open_ns < until_ns:
                    yield bar


def _within(minute: int, opened: int, high: int, low: int, close: int, lots: int, trades: int) -> Iterator[Bar]:
    """Give a minute's 60 seconds: straight from open to the extremes and to the close."""
    turns = [(0, opened), (20, low), (40, high), (60, close)]
    if close < opened:
        turns[1:3] = [(20, high), (40, low)]
    path: list[int] = []
    for (start, here), (end, there) in pairwise(turns):
        path += [here + (there - here) * (at - start) // (end - start) for at in range(start, end)]
    path.append(close)
    for second in range(60):
        ends = path[second], path[second + 1]
        shares = [whole * (second + 1) // 60 - whole * second // 60 for whole in (lots, trades)]
        yield Bar(minute * MINUTE_NS + second * SECOND_NS, ends[0], max(ends), min(ends), ends[1], shares[0], shares[1])


def _folded(bars: Iterator[Bar], timeframe: str) -> list[Bar]:
    found: list[Bar] = []
    for bar in bars:
        open_ns = bar_open_ns(bar.open_ns, timeframe)
        if found and found[-1].open_ns == open_ns:
            found[-1].add(bar)
        else:
            bar.open_ns = open_ns
            found.append(bar)
    return found


def _uniform(key: np.uint64, index: Ints) -> Floats:
    """Give numbers from 0 to below 1 that belong to the indices; by SplitMix64's finaliser, wrapping on purpose."""
    value = index.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    value += key
    value ^= value >> np.uint64(30)
    value *= np.uint64(0xBF58476D1CE4E5B9)
    value ^= value >> np.uint64(27)
    value *= np.uint64(0x94D049BB133111EB)
    value ^= value >> np.uint64(31)
    return (value >> np.uint64(11)).astype(np.float64) * 2.0**-53
