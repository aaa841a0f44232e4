"""What else could have come of a strategy: its trades in another order, other trades like them, other candles.

All of it is drawn from a random number generator that is handed in, so that the same seed gives the same again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from koc_qt.domain.fan import PERCENTILES, Fan, places_of, spread
from koc_qt.domain.percentages import percentage
from koc_qt.domain.trust import Verdict

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from koc_qt.domain.fan import Places

    Floats = npt.NDArray[np.float64]

DRAWS_LIMIT = 2_000_000  # trades drawn in all: a fifth of a second
_DRAWN_AT_ONCE = 100_000  # trades: some megabytes
_HIGHEST = 1e12  # of a price
_MORE = 1 + 1e-9  # times what was is more than that; what is less is rounding
_LEAST_TRADES = 10  # fewer say nothing about what others would do


class Distribution(msgspec.Struct, frozen=True):
    """What values are like: `percentiles` are those of PERCENTILES, interpolated between neighbours."""

    count: int
    mean: float
    lowest: float
    highest: float
    percentiles: tuple[float, ...]


class TradeDraws(msgspec.Struct, frozen=True):
    """What `draws` orders of trades come to, in quote currency; a drawdown is a fraction of the peak before it.

    `observed_*` is what was. `worse` is the share of draws with a deeper drawdown than that, `losing` that of draws
    which end below the cash, `ruined` that of draws which are at zero or below at some time. `fan` is how the draws
    went, each trade at the time of the one that was in its place.
    """

    draws: int
    trades: int
    final: Distribution
    drawdown: Distribution
    observed_final: float
    observed_drawdown: float
    worse: float
    losing: float
    ruined: float
    fan: Fan | None = None


class MonteCarlo(msgspec.Struct, frozen=True):
    """What all of it tells. None for what was not tried.

    `candles` and `jitter` are returns of runs, fractions, and their fans how these runs went.
    """

    verdict: Verdict
    sentence: str
    shuffled: TradeDraws | None = None
    bootstrapped: TradeDraws | None = None
    candles: Distribution | None = None
    jitter: Distribution | None = None
    candles_fan: Fan | None = None
    jitter_fan: Fan | None = None


class Candles(msgspec.Struct, frozen=True):
    """Columns of bars of one instrument, oldest first; times are openings in UTC nanoseconds."""

    time_ns: Sequence[int]
    open: Sequence[float]
    high: Sequence[float]
    low: Sequence[float]
    close: Sequence[float]
    volume: Sequence[float]


def distribution(values: Iterable[float]) -> Distribution | None:
    """Describe values; None where there are none."""
    ranked = sorted(values)
    if not ranked:
        return None
    found = tuple(_percentile(ranked, percent) for percent in PERCENTILES)
    return Distribution(len(ranked), math.fsum(ranked) / len(ranked), ranked[0], ranked[-1], found)


def draw_trades(
    pnls: Sequence[float],
    cash: float,
    draws: int,
    rng: Random,
    *,
    replace: bool,
    closed_ns: Sequence[int] = (),
    since_ns: int = 0,
) -> TradeDraws | None:
    """Draw trades `draws` times: each once in another order, or with `replace` as many of them at random.

    PnL is in quote currency after fees and is added up: sizes stay as they were. Fewer draws are made where DRAWS_LIMIT
    says so. None below some trades, of which nothing can be learnt. With `closed_ns`, when each trade was closed, in
    their order (UTC nanoseconds), there is a fan that begins at `since_ns`. Raises ValueError below one draw, and for
    cash of zero or below.
    """
    import numpy as np  # takes long to load, and who reads reports shall not wait for it

    if draws < 1 or not cash > 0:
        raise ValueError(f"{draws} draws of trades with {cash} to begin with")
    count = len(pnls)
    if count < _LEAST_TRADES:
        return None
    draws = max(1, min(draws, DRAWS_LIMIT // count))
    times_ns, places = places_of(closed_ns, since_ns) if closed_ns else ([], np.empty(0, np.int64))
    known = _curves(np.asarray(pnls, np.float64)[np.newaxis], cash, places)
    observed_final, observed_drawdown = float(known.final[0]), float(known.depth[0])
    finals: list[float] = []
    drawdowns: list[float] = []
    ruined = 0
    ways = np.empty((draws, len(places)))
    for drawn in _drawn(np.asarray(pnls, np.float64), draws, rng, replace):
        went = _curves(drawn, cash, places)
        ways[len(finals) : len(finals) + len(drawn)] = went.at
        finals += went.final.tolist()
        drawdowns += went.depth.tolist()
        ruined += int(np.count_nonzero(went.lowest <= 0))
    final_values, drawdown_values = distribution(finals), distribution(drawdowns)
    assert final_values is not None and drawdown_values is not None  # noqa: S101, PT018 (for the type checker)
    return TradeDraws(
        draws=draws,
        trades=count,
        final=final_values,
        drawdown=drawdown_values,
        observed_final=observed_final,
        observed_drawdown=observed_drawdown,
        worse=sum(each > observed_drawdown * _MORE for each in drawdowns) / draws,
        losing=sum(each < cash for each in finals) / draws,
        ruined=ruined / draws,
        fan=spread(ways, times_ns, known.at[0].tolist()) if times_ns else None,
    )


def judge(
    shuffled: TradeDraws | None,
    bootstrapped: TradeDraws | None,
    candles: Distribution | None = None,
    jitter: Distribution | None = None,
    *,
    candles_fan: Fan | None = None,
    jitter_fan: Fan | None = None,
) -> MonteCarlo:
    """Say what draws tell. RED: most draws, or most of the runs with other parameters, lose; AMBER: some do.

    NONE where there were too few trades to draw from, whatever else was tried.
    """
    notes: list[str] = []
    worry = 0.0
    if bootstrapped is not None:
        notes.append(
            f"Drawn again at random its trades lose in {percentage(bootstrapped.losing)} of {bootstrapped.draws:,} "
            f"draws; one in twenty falls {percentage(bootstrapped.drawdown.percentiles[-1], 1)} or more below its peak."
        )
        worry = bootstrapped.losing
    if shuffled is not None:
        notes.append(
            f"In another order {percentage(shuffled.worse)} of them fall deeper than the "
            f"{percentage(shuffled.observed_drawdown, 1)} seen."
        )
    if candles is not None:
        notes.append(
            f"On {candles.count} markets of shuffled candles it makes "
            f"{percentage(candles.percentiles[2], 2, signed=True)} at the median."
        )
    if jitter is not None:
        notes.append(
            f"With {jitter.count} neighbouring sets of parameters it makes "
            f"{percentage(jitter.percentiles[2], 2, signed=True)} at the median."
        )
        worry = max(worry, 0.5 if jitter.percentiles[2] <= 0 else 0.1 if jitter.percentiles[0] <= 0 else 0.0)
    found = (shuffled, bootstrapped, candles, jitter, candles_fan, jitter_fan)
    if bootstrapped is None:
        return MonteCarlo(Verdict.NONE, " ".join(["There are too few trades to draw from.", *notes]), *found)
    verdict = Verdict.RED if worry >= 0.5 else Verdict.AMBER if worry > 0.05 else Verdict.GREEN
    return MonteCarlo(verdict, " ".join(notes), *found)


def bootstrap_candles(candles: Candles, block: int, tick: float, rng: Random) -> Candles:
    """Give another market made of blocks of a real one: `block` bars that follow each other stay together.

    Each bar keeps its gap from the close before it, its shape and its volume; prices begin where the real ones do and
    are rounded to `tick`. Times stay. The first bar's gap is none. Blocks wrap around the end (circular block
    bootstrap, Politis and Romano 1992). Raises ValueError for a block below one bar.
    """
    if block < 1:
        raise ValueError(f"a block of {block} bars")
    count = len(candles.time_ns)
    rows: list[int] = []
    while len(rows) < count:
        begin = rng.randrange(count)
        rows += [(begin + number) % count for number in range(min(block, count - len(rows)))]
    return _rebuild(candles, rows, 0, tick, mirrored=False)


def other_future(candles: Candles, first: int, tick: float, rng: Random) -> Candles:
    """Give the same market up to row `first`, and another one from it on.

    What follows are the same bars in another order and upside down: a rise becomes a fall as steep.
    """
    rows = list(range(first, len(candles.time_ns)))
    rng.shuffle(rows)
    return _rebuild(candles, rows, first, tick, mirrored=True)


def jittered(
    value: float, share: float, rng: Random, *, low: float | None, high: float | None, step: float | None, whole: bool
) -> float:
    """Give a number near `value`: at most `share` of it away, one step at least, within its bounds and on its steps."""
    unit = step or (1.0 if whole else 0.0)
    reach = max(abs(value) * share, unit)
    moved = value + rng.uniform(-reach, reach)
    if unit:
        moved = value + round((moved - value) / unit) * unit
        moved = round(moved, 12)  # what adding steps leaves of rounding
    moved = max(moved, -math.inf if low is None else low)
    moved = min(moved, math.inf if high is None else high)
    return float(round(moved)) if whole else moved


# ---- inside ---------------------------------------------------------------------------------------------------------


def _percentile(ranked: Sequence[float], percent: float) -> float:
    place = (len(ranked) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ranked) - 1)
    return ranked[below] + (ranked[above] - ranked[below]) * (place - below)


def _drawn(pnls: Floats, draws: int, rng: Random, replace: bool) -> Iterator[Floats]:
    """Give draws, a row each, some at a time."""
    import numpy as np

    count = len(pnls)
    state = np.random.RandomState(rng.getrandbits(32))  # its numbers are the same in every version
    at_once = max(1, _DRAWN_AT_ONCE // count)
    for begin in range(0, draws, at_once):
        shape = (min(at_once, draws - begin), count)
        rows = state.randint(0, count, shape) if replace else np.argsort(state.random_sample(shape), axis=1)
        yield pnls[rows]


class _Ways(NamedTuple):
    """How each row of trades went: final equity, deepest drawdown as a fraction of its peak, lowest equity.

    `at` is what there was after so many trades, a column for each of the places that were asked for.
    """

    final: Floats
    depth: Floats
    lowest: Floats
    at: Floats


def _curves(pnls: Floats, cash: float, places: Places) -> _Ways:
    import numpy as np

    equity = cash + np.cumsum(pnls, axis=1)
    peak = np.maximum(np.maximum.accumulate(equity, axis=1), cash)
    at = np.where(places > 0, equity[:, places - 1], cash)
    return _Ways(equity[:, -1], ((peak - equity) / peak).max(axis=1), equity.min(axis=1), at)


def _rebuild(candles: Candles, rows: Sequence[int], first: int, tick: float, *, mirrored: bool) -> Candles:
    """Put bars of `rows` in the place of those from `first` on, each by its distance from the close before it."""
    import numpy as np

    prices = np.array([candles.open, candles.high, candles.low, candles.close], np.float64)
    volume = np.array(candles.volume, np.float64)
    if len(rows):
        taken = np.array(rows, np.int64)
        before = np.where(taken > 0, prices[3, taken - 1], prices[0, taken])
        shape = prices[:, taken] / before
        if mirrored:
            shape = 1.0 / shape[[0, 2, 1, 3]]
        start = prices[3, first - 1] if first else prices[0, 0]
        closes = np.clip(start * np.cumprod(shape[3]), tick, _HIGHEST)
        ticks = np.rint(np.concatenate(([start], closes[:-1])) * shape / tick)
        prices[:, first:] = np.round(np.clip(ticks, 1.0, _HIGHEST / tick) * tick, 12)
        volume[first:] = volume[taken]
    opening, high, low, close = prices.tolist()
    return Candles(candles.time_ns, opening, high, low, close, volume.tolist())
