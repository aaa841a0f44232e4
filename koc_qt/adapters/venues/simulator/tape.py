"""One venue's day of one symbol: its quotes, four a second, and every trade. Prices in ticks, quantities in lots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from koc_qt.adapters.venues.simulator.catalogue import MIN_NOTIONAL, Listing
from koc_qt.adapters.venues.simulator.fundamental import Fundamental, autoregressive
from koc_qt.adapters.venues.simulator.regimes import DAY_S, Floats
from koc_qt.domain.timeframes import SECOND_NS

SLOTS_A_SECOND = 4
SLOT_NS = SECOND_NS // SLOTS_A_SECOND

_SPREAD = np.array([1.0e-4, 1.5e-4, 1.5e-4, 3.0e-4, 8.0e-4])  # fraction of the price, by regime
_ACTIVITY = np.array([0.85, 1.15, 1.15, 1.7, 2.6])
_TRADES_A_SECOND = 3.0
_BUSIEST = 14.0
_CLUSTER_S = 90.0  # e-folding time of activity
_LEAN = 0.2  # how much a move of one standard deviation shifts the chance that the aggressor bought

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Tape:
    """`bid` has a price for each quarter second of the day, `width` (ask less bid) one for each second.

    `first` gives for each second the index of its first trade, with the total at the end (86,401). Trades lie in the
    order of their times, `offset_ns` from midnight, and print at the bid or the ask of their quarter second.
    """

    bid: Ints
    width: Ints
    first: Ints
    offset_ns: npt.NDArray[np.int64]
    price: Ints
    lots: Ints
    bought: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Columns:
    """Bars of a day, those with trades alone; `bin` is the bar's number within the day."""

    bin: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: npt.NDArray[np.int64]

    def folded(self, factor: int) -> Columns:
        """Give bars `factor` times as long."""
        return _fold(self, self.bin // np.int32(factor))


def make_tape(rng: np.random.Generator, listing: Listing, path: Fundamental, log_price: Floats) -> Tape:
    """Quote and trade around `log_price` (86,401 values, relative to the listing's long-run price)."""
    ticks = listing.price * 10.0**listing.price_digits * np.exp(log_price)
    cluster = autoregressive(rng.standard_normal(DAY_S), _CLUSTER_S)

    width = ticks[:-1] * _SPREAD[path.regime] * np.exp(0.25 * cluster)
    width = np.maximum(np.rint(width), 1.0)
    slots = np.arange(SLOTS_A_SECOND) / SLOTS_A_SECOND
    mid = ticks[:-1, None] + np.diff(ticks)[:, None] * slots
    bid = np.maximum(np.floor(mid - width[:, None] / 2), 1.0).astype(np.int32).reshape(-1)
    width = width.astype(np.int32)

    counts = _trade_counts(rng, path, cluster)
    first = np.zeros(DAY_S + 1, dtype=np.int32)
    np.cumsum(counts, out=first[1:])
    total = int(first[-1])
    second = np.repeat(np.arange(DAY_S, dtype=np.int32), counts)
    # The k-th of a second's n trades falls at a random moment of the k-th of n equal parts: sorted without sorting.
    place = np.arange(total, dtype=np.int32) - first[second]
    within_ns = ((place + rng.random(total)) * (SECOND_NS / counts[second])).astype(np.int32)
    np.minimum(within_ns, SECOND_NS - 1, out=within_ns)
    bought = rng.random(total) < np.clip(0.5 + _LEAN * path.shock, 0.1, 0.9)[second]
    price = bid[second * SLOTS_A_SECOND + within_ns // np.int32(SLOT_NS)] + np.where(bought, width[second], 0)
    return Tape(
        bid=bid,
        width=width,
        first=first,
        offset_ns=second * np.int64(SECOND_NS) + within_ns,
        price=price.astype(np.int32),
        lots=_sizes(rng, total, listing, float(bid.min())),
        bought=bought,
    )


def tape_columns(tape: Tape, step_s: int) -> Columns:
    """Aggregate the trades into bars of `step_s` seconds."""
    counts = np.diff(tape.first[::step_s])
    bins = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    price = tape.price
    return _fold(Columns(bins, price, price, price, price, tape.lots.astype(np.int64)), bins)


def _trade_counts(rng: np.random.Generator, path: Fundamental, cluster: Floats) -> Ints:
    rate = _TRADES_A_SECOND * _DAILY_SHAPE * _ACTIVITY[path.regime] * np.exp(0.45 * cluster - 0.1)
    rate *= 0.75 + 0.3 * np.abs(path.shock)
    # Rounding a Poisson-like spread: as dispersed as arrivals are, at a quarter of a Poisson draw's cost.
    spread = rate + np.sqrt(rate) * rng.standard_normal(DAY_S)
    counts: Ints = np.clip(np.rint(spread), 0.0, _BUSIEST).astype(np.int32)
    return counts


def _sizes(rng: np.random.Generator, total: int, listing: Listing, lowest_ticks: float) -> Ints:
    # The square of an exponential has mean 2 and a heavy tail.
    drawn = rng.standard_exponential(total) ** 2 * (listing.mean_trade_lots / 2)
    lowest_price = lowest_ticks / 10.0**listing.price_digits
    smallest = np.ceil(float(MIN_NOTIONAL) / lowest_price * 10.0**listing.lot_digits)
    lots: Ints = (drawn + smallest).astype(np.int32)
    return lots


def _fold(bars: Columns, bins: Ints) -> Columns:
    starts = np.flatnonzero(np.diff(bins, prepend=-1))
    if not len(starts):
        return bars
    ends = np.append(starts[1:], len(bins)) - 1
    return Columns(
        bin=bins[starts],
        open=bars.open[starts],
        high=np.maximum.reduceat(bars.high, starts),
        low=np.minimum.reduceat(bars.low, starts),
        close=bars.close[ends],
        volume=np.add.reduceat(bars.volume, starts),
    )


# U-shaped: busiest around midnight UTC, quietest at noon.
_DAILY_SHAPE = 1.0 + 0.35 * np.cos(2 * np.pi * np.arange(DAY_S) / DAY_S)
