"""The simulated market: a pure function of seed, venue, symbol and time, and a market worth trading."""

from __future__ import annotations

import numpy as np
import pytest

from koc_qt.adapters.venues.simulator.book import LEVELS, book_key, ladder
from koc_qt.adapters.venues.simulator.catalogue import LISTINGS, MIN_NOTIONAL, TAKER_FEE, Listing
from koc_qt.adapters.venues.simulator.fundamental import autoregressive, basis_day, fundamental_day
from koc_qt.adapters.venues.simulator.market import SymbolMarket
from koc_qt.adapters.venues.simulator.regimes import DAY_S, DailyAnchors, Regime, generator
from koc_qt.adapters.venues.simulator.tape import SLOT_NS, SLOTS_A_SECOND, Tape, make_tape, tape_columns
from koc_qt.domain.timeframes import SECOND_NS

SEED = 42
DAY = 1500
BTC = LISTINGS[0]
listings = pytest.mark.parametrize("listing", LISTINGS, ids=lambda listing: listing.symbol)


def same(one: Tape, other: Tape) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in Tape.__slots__)


def mid(tape: Tape) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Give the mid price in ticks at each second's start."""
    return tape.bid[::SLOTS_A_SECOND] + tape.width / 2


def test_a_day_is_the_same_whoever_asks_and_in_which_order() -> None:
    forwards, backwards = SymbolMarket(SEED, "sim", BTC), SymbolMarket(SEED, "sim", BTC)
    one = [forwards.tape(day) for day in (0, 1, DAY)]
    other = [backwards.tape(day) for day in (DAY, 1, 0)][::-1]
    assert all(map(same, one, other))


@pytest.mark.parametrize("other", [(SEED + 1, "sim", BTC), (SEED, "sim2", BTC), (SEED, "sim", LISTINGS[1])])
def test_seed_venue_and_symbol_each_make_another_market(other: tuple[int, str, Listing]) -> None:
    assert not same(SymbolMarket(SEED, "sim", BTC).make_tape(DAY), SymbolMarket(*other).make_tape(DAY))


def test_a_tape_is_remembered_and_old_ones_make_way() -> None:
    market = SymbolMarket(SEED, "sim", BTC)
    first = market.tape(1)
    assert market.tape(1) is first
    market.tape(2)
    market.tape(3)
    assert [market.has_tape(day) for day in (1, 2, 3)] == [False, True, True]


def test_daily_anchors_stay_when_more_days_are_asked_for() -> None:
    grown, whole = DailyAnchors(SEED, BTC), DailyAnchors(SEED, BTC)
    early = [grown.day(day) for day in range(0, 1000, 50)]
    grown.day(5000)
    whole.day(5000)
    assert early == [grown.day(day) for day in range(0, 1000, 50)] == [whole.day(day) for day in range(0, 1000, 50)]


@listings
def test_years_of_prices_stay_within_reason(listing: Listing) -> None:
    anchors = DailyAnchors(SEED, listing)
    prices = np.exp([anchors.day(day)[0] for day in range(3650)])
    assert 0.1 < prices.min() < 0.9
    assert 1.1 < prices.max() < 10


def test_every_regime_comes_and_calm_is_the_most_usual() -> None:
    anchors = DailyAnchors(SEED, BTC)
    counts = np.bincount([anchors.day(day)[2] for day in range(3650)], minlength=len(Regime))
    assert counts.min() > 20
    assert counts.argmax() == Regime.CALM


def test_symbols_move_together() -> None:
    anchors = [DailyAnchors(SEED, listing) for listing in LISTINGS[:2]]
    moves = [np.diff([one.day(day)[0] for day in range(1000)]) for one in anchors]
    assert 0.5 < np.corrcoef(moves)[0, 1] < 0.98


@listings
@pytest.mark.parametrize("venue", ["sim", "sim2"])
def test_days_join_without_a_jump(listing: Listing, venue: str) -> None:
    market = SymbolMarket(SEED, venue, listing)
    for day in (DAY, DAY + 1):
        before, after = mid(market.tape(day)), mid(market.tape(day + 1))
        assert abs(after[0] - before[-1]) <= max(1.0, 0.002 * before[-1])


@listings
def test_trades_lie_in_order_within_their_day_and_print_at_the_touch(listing: Listing) -> None:
    tape = SymbolMarket(SEED, "sim2", listing).make_tape(DAY)
    assert np.all(np.diff(tape.offset_ns) >= 0)
    assert tape.offset_ns[0] >= 0
    assert tape.offset_ns[-1] < DAY_S * SECOND_NS
    bid = tape.bid[tape.offset_ns // SLOT_NS]
    width = tape.width[tape.offset_ns // SECOND_NS]
    assert np.array_equal(tape.price, np.where(tape.bought, bid + width, bid))
    assert tape.width.min() >= 1
    assert tape.bid.min() >= 1


@listings
def test_trades_are_counted_to_their_seconds(listing: Listing) -> None:
    tape = SymbolMarket(SEED, "sim", listing).make_tape(DAY)
    counted = np.bincount(tape.offset_ns // SECOND_NS, minlength=DAY_S)
    assert np.array_equal(np.diff(tape.first), counted)
    assert tape.first[-1] == len(tape.price) == len(tape.lots) == len(tape.bought)


@listings
def test_trades_come_at_a_lively_pace_and_are_worth_the_minimum(listing: Listing) -> None:
    market = SymbolMarket(SEED, "sim", listing)
    tapes = [market.make_tape(day) for day in range(DAY, DAY + 5)]
    assert all(1.5 < len(tape.price) / DAY_S < 6 for tape in tapes)
    for tape in tapes:
        notional = tape.price * tape.lots.astype(float) / 10.0 ** (listing.price_digits + listing.lot_digits)
        assert notional.min() >= float(MIN_NOTIONAL) * 0.999


def test_buyers_are_more_when_the_price_rises() -> None:
    tape = SymbolMarket(SEED, "sim", BTC).make_tape(DAY)
    prices = mid(tape)
    second = tape.offset_ns // SECOND_NS
    inner = second < DAY_S - 1
    rising = prices[second[inner] + 1] > prices[second[inner]]
    bought = tape.bought[inner]
    assert bought[rising].mean() > 0.55 > 0.45 > bought[~rising].mean()


def test_activity_clusters_and_is_lowest_at_noon() -> None:
    market = SymbolMarket(SEED, "sim", BTC)
    hours = np.zeros(24)
    for day in range(DAY, DAY + 10):
        hours += np.diff(market.make_tape(day).first).reshape(24, -1).sum(axis=1)
    assert hours[[0, 23]].mean() > 1.3 * hours[11:13].mean()
    minutes = np.diff(market.make_tape(DAY).first).reshape(-1, 60).sum(axis=1)
    assert minutes.var() > 3 * minutes.mean()  # a Poisson process would have them equal


def test_wild_regimes_move_more_and_cost_more_spread() -> None:
    path = fundamental_day(SEED, "X", 1, 0.0, 0.0, Regime.CRASH, 0.05)
    moves = np.abs(np.diff(path.log_price))
    width = make_tape(generator(SEED, "test"), BTC, path, path.log_price).width
    calm, volatile, crash = (path.regime == regime for regime in (Regime.CALM, Regime.VOLATILE, Regime.CRASH))
    assert moves[crash].mean() > moves[volatile].mean() > 1.5 * moves[calm].mean()
    assert width[crash].mean() > width[volatile].mean() > 1.5 * width[calm].mean()


@pytest.mark.parametrize("regime", list(Regime))
def test_a_day_ends_at_its_anchors(regime: Regime) -> None:
    path = fundamental_day(SEED, "X", 7, 0.1, -0.05, regime, 0.04)
    assert path.log_price[0] == pytest.approx(0.1, abs=1e-12)
    assert path.log_price[-1] == pytest.approx(-0.05, abs=1e-12)
    assert len(path.log_price) == DAY_S + 1
    assert len(path.regime) == len(path.shock) == DAY_S


def test_the_second_venue_comes_back_to_the_first_and_now_and_then_leaves_it_by_more_than_the_fees() -> None:
    round_trip = 4 * float(TAKER_FEE)
    basis = np.concatenate([basis_day(SEED, "sim2", "BTC/USDT", day)[:-1] for day in range(20)])
    beyond = np.abs(basis) > round_trip
    assert 0.005 < beyond.mean() < 0.15
    assert np.median(np.abs(basis)) < round_trip / 4
    assert abs(basis.mean()) < 1e-4
    starts = np.flatnonzero(np.diff(beyond.astype(int)) == 1)
    assert len(starts) > 20 * 24  # at least once an hour
    back = [np.abs(basis[start : start + 900]).min() < round_trip / 4 for start in starts[:-10]]
    assert np.mean(back) > 0.95  # within a quarter of an hour


def test_the_basis_is_nothing_at_midnight() -> None:
    basis = basis_day(SEED, "sim2", "BTC/USDT", DAY)
    assert basis[0] == basis[-1] == 0.0


@pytest.mark.parametrize("length", [1, 2, 10, 97, 10_000])
def test_autoregression_by_blocks_is_the_plain_recursion(length: int) -> None:
    shocks = np.random.default_rng(1).standard_normal(length)
    phi = np.exp(-1 / 15.0)
    value, expected = 0.0, []
    for shock in shocks:
        value = phi * value + np.sqrt(1 - phi**2) * shock
        expected.append(value)
    assert autoregressive(shocks, 15.0) == pytest.approx(np.array(expected), abs=1e-12)


@pytest.mark.parametrize("step_s", [300, 3600, 14_400, DAY_S])
def test_longer_bars_are_the_same_from_minutes_and_from_trades(step_s: int) -> None:
    market = SymbolMarket(SEED, "sim", BTC)
    folded, direct = market.columns(DAY, step_s), tape_columns(market.make_tape(DAY), step_s)
    for name in ("bin", "open", "high", "low", "close", "volume"):
        assert np.array_equal(getattr(folded, name), getattr(direct, name)), name
    assert len(folded.bin) == DAY_S // step_s


def test_seconds_without_trades_have_no_bar() -> None:
    tape = SymbolMarket(SEED, "sim", BTC).make_tape(DAY)
    columns = tape_columns(tape, 1)
    assert np.array_equal(columns.bin, np.flatnonzero(np.diff(tape.first)))
    assert len(columns.bin) < DAY_S


def test_books_are_sane_at_every_width() -> None:
    bid = np.array([1000, 50_000, 6_400_000, 5])
    width = np.array([1, 3, 900, 1])
    levels = ladder(book_key(SEED, "sim", "X"), np.array([10, 20, 30, 40]), bid, bid + width, 100.0)
    assert levels.bid_price.shape == levels.ask_lots.shape == (4, LEVELS)
    assert np.array_equal(levels.bid_price[:, 0], bid)
    assert np.array_equal(levels.ask_price[:, 0], bid + width)
    assert np.all(np.diff(levels.ask_price) >= 1)
    assert np.all(np.diff(levels.bid_price[:3]) <= -1)
    assert levels.bid_price.min() >= 1
    assert min(levels.bid_lots.min(), levels.ask_lots.min()) >= 1


def test_what_rests_at_a_price_stays_for_a_while() -> None:
    key = book_key(SEED, "sim", "X")
    second = np.array([100, 104, 105])
    levels = ladder(key, second, np.full(3, 9_000), np.full(3, 9_002), 50.0)
    assert np.array_equal(levels.bid_lots[0], levels.bid_lots[1])
    assert not np.array_equal(levels.bid_lots[0], levels.bid_lots[2])
