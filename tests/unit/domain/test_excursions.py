"""How far trades were behind and ahead: by hand, and against a loop over every bar."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest

from koc_qt.domain.backtests import RoundTrip
from koc_qt.domain.excursions import Path, with_excursions
from koc_qt.domain.instruments import InstrumentId

BTC = InstrumentId("sim", "BTC/USDT")
ETH = InstrumentId("sim", "ETH/USDT")

#            bar 0      1      2      3      4
PATH = Path(
    time_ns=[10, 20, 30, 40, 50],
    open=[100.0, 102.0, 104.0, 103.0, 101.0],
    high=[103.0, 109.0, 105.0, 106.0, 102.0],
    low=[99.0, 101.0, 97.0, 102.0, 90.0],
)


def trip(
    quantity: float,
    entry: tuple[int, float],
    leave: tuple[int, float] | None,
    instrument: InstrumentId = BTC,
) -> RoundTrip:
    exit_ns, exit_price = leave or (None, None)
    return RoundTrip(instrument, quantity, *entry, exit_ns, exit_price, 0.5, 0.0)


def only(trade: RoundTrip, path: Path = PATH) -> tuple[float | None, float | None]:
    [found] = with_excursions([trade], {BTC: path})
    return found.mae, found.mfe


def test_from_open_to_open_the_bar_of_the_exit_does_not_count() -> None:
    assert only(trip(2.0, (10, 100.0), (40, 103.0))) == (-6.0, 18.0)  # low of bar 2, high of bar 1
    assert only(trip(-2.0, (10, 100.0), (40, 103.0))) == (-18.0, 6.0)
    assert only(trip(1.0, (10, 100.0), (20, 102.0))) == (-1.0, 3.0)


def test_the_price_of_the_exit_counts() -> None:
    assert only(trip(1.0, (30, 104.0), (40, 107.0))) == (-7.0, 3.0)
    assert only(trip(1.0, (40, 103.0), (50, 80.0))) == (-23.0, 3.0)  # a stop far below: the price that it got


def test_what_was_entered_inside_a_bar_may_have_missed_its_better_extreme() -> None:
    assert only(trip(1.0, (20, 101.5), (30, 104.0))) == (-0.5, 2.5)  # a buy limit below the open: not the high of 109
    assert only(trip(-1.0, (30, 104.5), (40, 103.0))) == (-0.5, 1.5)  # a sell limit above it: not the low of 97
    assert only(trip(1.0, (22, 102.0), (30, 104.0))) == (-1.0, 2.0)  # by its time not at the open


def test_what_left_at_a_limit_may_have_seen_the_worse_extreme_before() -> None:
    assert only(trip(1.0, (40, 103.0), (50, 101.5))) == (-13.0, 3.0)  # the low of 90
    assert only(trip(1.0, (40, 103.0), (50, 100.0))) == (-3.0, 3.0)  # a stop left on the way down
    assert only(trip(1.0, (40, 103.0), (55, 100.0))) == (-13.0, 3.0)  # by its time not at the open


def test_a_trade_within_a_bar() -> None:
    assert only(trip(1.0, (20, 102.0), (20, 105.0))) == (-1.0, 3.0)
    assert only(trip(1.0, (20, 102.0), (20, 101.5))) == (-1.0, 0.0)


def test_an_open_trade_lasts_to_the_end() -> None:
    assert only(trip(1.0, (30, 104.0), None)) == (-14.0, 2.0)
    assert only(trip(1.0, (50, 101.0), None)) == (-11.0, 1.0)


def test_nobody_looked() -> None:
    assert only(trip(1.0, (9, 100.0), (40, 103.0))) == (None, None)  # began before the first bar
    assert only(trip(1.0, (10, 100.0), (40, 103.0)), Path([], [], [], [])) == (None, None)
    assert only(trip(1.0, (10, 100.0), None, ETH)) == (None, None)
    assert with_excursions([], {BTC: PATH}) == []


def test_zero_has_no_sign() -> None:
    flat = Path([10, 20], [100.0, 100.0], [100.0, 100.0], [100.0, 100.0])
    for quantity in (1.0, -1.0):
        mae, mfe = only(trip(quantity, (10, 100.0), (20, 100.0)), flat)
        assert mae == mfe == 0.0
        assert [math.copysign(1.0, value) for value in (mae, mfe)] == [1.0, 1.0]


def by_hand(trade: RoundTrip, path: Path) -> tuple[float, float]:
    """Follow the rule bar by bar."""
    sign = math.copysign(1.0, trade.quantity)
    behind, ahead = [0.0], [0.0]
    bounds = list(pairwise([*path.time_ns, 10**9]))
    for (opens_ns, ends_ns), opening, high, low in zip(bounds, path.open, path.high, path.low, strict=True):
        if trade.entry_ns >= ends_ns or (trade.exit_ns is not None and trade.exit_ns < opens_ns):
            continue
        worse, better = (low, high) if sign > 0 else (high, low)
        is_first = trade.entry_ns >= opens_ns
        is_last = trade.exit_ns is not None and trade.exit_ns < ends_ns
        if is_last:
            assert trade.exit_price is not None
            left = (trade.exit_price - trade.entry_price) * trade.quantity
            behind.append(left)
            ahead.append(left)
        at_open = trade.exit_ns == opens_ns and sign * ((trade.exit_price or 0.0) - opening) <= 0
        if is_first or not (is_last and at_open):
            behind.append((worse - trade.entry_price) * trade.quantity)
        began = trade.entry_ns == opens_ns and sign * (trade.entry_price - opening) >= 0
        if not is_last and (not is_first or began):
            ahead.append((better - trade.entry_price) * trade.quantity)
    return min(behind), max(ahead)


@pytest.mark.parametrize("seed", range(8))
def test_as_a_loop_over_every_bar(seed: int) -> None:
    rng = random.Random(seed)
    rows = []
    for number in range(60):
        low, high = sorted((rng.uniform(90, 110), rng.uniform(90, 110)))
        rows.append((10 * number, rng.uniform(low, high), high, low))
    path = Path(*(list(column) for column in zip(*rows, strict=True)))
    trades = []
    for _ in range(200):
        first, last = sorted((rng.randrange(60), rng.randrange(60)))
        begins, ends = (
            rng.choice([path.open[row], rng.uniform(path.low[row], path.high[row])]) for row in (first, last)
        )
        entry = (10 * first + (late := rng.choice([0, 0, 3])), begins)
        leave = None if rng.random() < 0.1 else (10 * last + max(late, rng.choice([0, 0, 7])), ends)
        trades.append(trip(rng.choice([-1, 1]) * rng.uniform(0.1, 3), entry, leave, rng.choice([BTC, ETH])))
    found = with_excursions(trades, {BTC: path})
    assert [each.instrument for each in found] == [each.instrument for each in trades]
    for before, after in zip(trades, found, strict=True):
        if before.instrument == ETH:
            assert after is before
        else:
            assert (after.mae, after.mfe) == pytest.approx(by_hand(before, path), rel=1e-12, abs=1e-12)
