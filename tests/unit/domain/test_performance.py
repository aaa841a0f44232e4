"""Statistics by hand-made numbers, trades made of fills, and what must hold for any run."""

from __future__ import annotations

import math
import statistics as reference
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.domain.backtests import RoundTrip
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Fill, Liquidity
from koc_qt.domain.performance import STATISTICS, statistics
from koc_qt.domain.positions import Position
from koc_qt.domain.timeframes import DAY_NS, SECOND_NS, YEAR_NS
from koc_qt.domain.trips import TripBook, round_trips

BTC = InstrumentId("sim", "BTC/USDT")
ETH = InstrumentId("sim", "ETH/USDT")
HOUR_NS = 3_600 * SECOND_NS


def fill(
    side: Side, quantity: str, price: str, time_ns: int = 0, fee: str = "0", instrument: InstrumentId = BTC
) -> Fill:
    fill_id = f"{time_ns}-{side}-{quantity}-{price}"
    amounts = (Decimal(price), Decimal(quantity), Decimal(fee))
    return Fill(fill_id, "o", "s", "a", instrument, side, *amounts, "USDT", Liquidity.TAKER, time_ns)


def trip(
    pnl: float,
    entry_ns: int = 0,
    exit_ns: int | None = HOUR_NS,
    fees: float = 0.0,
    mae: float | None = None,
    mfe: float | None = None,
) -> RoundTrip:
    exit_price = None if exit_ns is None else 100.0 + pnl
    return RoundTrip(BTC, 1.0, entry_ns, 100.0, exit_ns, exit_price, fees, pnl, mae, mfe)


def daily(*equity: float) -> tuple[list[int], list[float]]:
    return [day * DAY_NS for day in range(len(equity))], list(equity)


def figures(
    curve: tuple[list[int], list[float]],
    trips: list[RoundTrip] | None = None,
    *,
    fills: int = 0,
    traded: float = 0.0,
    prices: tuple[float, float] | None = None,
    benchmark: Sequence[float] = (),
    risk_free: float = 0.0,
) -> dict[str, float | None]:
    return statistics(
        *curve, trips or [], fills=fills, traded=traded, prices=prices, benchmark=benchmark, risk_free=risk_free
    )


# ---- statistics


def test_every_statistic_is_there_in_the_order_in_which_it_is_shown() -> None:
    assert list(figures(daily(100.0, 110.0))) == list(STATISTICS)


def test_returns_over_a_year() -> None:
    year = round(YEAR_NS)
    values = figures(([0, year // 2, year], [100.0, 110.0, 121.0]), prices=(50.0, 60.0))
    assert values["final_equity"] == 121.0
    assert values["net_profit"] == 21.0
    assert values["return"] == pytest.approx(0.21)
    assert values["cagr"] == pytest.approx(0.21)
    assert values["buy_and_hold"] == pytest.approx(0.2)
    assert values["max_drawdown"] == 0.0
    assert values["max_drawdown_s"] == 0.0
    assert values["calmar"] is None  # nothing to divide by
    assert values["sortino"] is None  # no period lost anything
    assert values["sharpe"] is None  # both periods gained the same


def test_risk_is_annualised_by_the_periods_of_the_curve() -> None:
    equity = [100.0, 101.0, 99.0, 104.0, 103.0]
    values = figures(daily(*equity))
    returns = [later / earlier - 1 for earlier, later in pairwise(equity)]
    root = math.sqrt(365.25)
    mean, deviation = reference.fmean(returns), reference.stdev(returns)
    downside = math.sqrt(sum(min(each, 0.0) ** 2 for each in returns) / len(returns))
    assert values["volatility"] == pytest.approx(deviation * root)
    assert values["sharpe"] == pytest.approx(mean / deviation * root)
    assert values["sortino"] == pytest.approx(mean / downside * root)
    assert values["cagr"] == pytest.approx(1.03 ** (365.25 / 4) - 1)
    assert values["calmar"] == pytest.approx(values["cagr"] / (2 / 101))


def test_the_deepest_fall_and_the_longest_one_need_not_be_the_same() -> None:
    values = figures(daily(100.0, 50.0, 101.0, 100.0, 99.0, 100.5, 102.0, 90.0))
    assert values["max_drawdown"] == pytest.approx(0.5)
    assert values["max_drawdown_s"] == 4 * 86_400
    assert figures(daily(100.0, 99.0, 98.0, 97.0))["max_drawdown_s"] == 3 * 86_400  # until the end


def test_too_little_to_say() -> None:
    alone = figures(([5], [100.0]))
    assert {name for name, value in alone.items() if value is not None} == {
        "final_equity", "net_profit", "return", "max_drawdown", "max_drawdown_s", "trades", "open_trades", "turnover",
        "fees", "fills", "ulcer_index", "winning_run", "losing_run",
    }  # fmt: skip
    short = figures(([0, HOUR_NS], [100.0, 110.0]))
    assert (short["cagr"], short["volatility"]) == (None, None)
    still = figures(daily(100.0, 100.0, 100.0, 100.0))
    assert (still["volatility"], still["sharpe"], still["sortino"]) == (0.0, None, None)


def test_ruin_is_told_by_what_can_still_be_told() -> None:
    values = figures(daily(100.0, -20.0, 10.0, -5.0))
    assert values["return"] == pytest.approx(-1.05)
    assert values["max_drawdown"] == pytest.approx(1.2)
    assert [values[name] for name in ("cagr", "volatility", "sharpe", "sortino", "calmar")] == [None] * 5


def test_a_rate_that_no_float_can_hold_is_none() -> None:
    assert figures(daily(1.0, 1_000.0))["cagr"] is None


def test_odds_count_closed_trades_alone() -> None:
    trips = [trip(10.0, fees=1.0), trip(-5.0), trip(0.0), trip(99.0, exit_ns=None, fees=2.0)]
    values = figures(daily(100.0, 105.0), trips, fills=7, traded=410.0)
    assert (values["trades"], values["open_trades"], values["fills"]) == (3.0, 1.0, 7.0)
    assert values["win_rate"] == pytest.approx(1 / 3)
    assert values["profit_factor"] == pytest.approx(2.0)
    assert values["expectancy"] == pytest.approx(5 / 3)
    assert values["fees"] == 3.0
    assert values["turnover"] == pytest.approx(4.0)
    assert figures(daily(100.0, 105.0), [trip(5.0)])["profit_factor"] is None
    assert figures(daily(100.0, 95.0), [trip(-5.0)])["profit_factor"] == 0.0


def test_what_winners_and_losers_are_like() -> None:
    pnls = [10.0, 20.0, -5.0, -5.0, 0.0, -20.0, 30.0]
    trips = [trip(pnl, 0, (row + 1) * HOUR_NS, mae=-2.0 * row, mfe=1.0 * row) for row, pnl in enumerate(pnls)]
    values = figures(daily(100.0, 130.0), [*trips, trip(99.0, 0, None)])
    assert values["average_win"] == pytest.approx(20.0)
    assert values["average_loss"] == pytest.approx(-10.0)
    assert values["payoff_ratio"] == pytest.approx(2.0)
    assert (values["best_trade"], values["worst_trade"]) == (30.0, -20.0)
    assert (values["winning_run"], values["losing_run"]) == (2.0, 2.0)  # a trade of nothing ends both
    assert values["average_trade_s"] == pytest.approx(4 * 3_600)
    assert values["longest_trade_s"] == pytest.approx(7 * 3_600)
    assert (values["average_mae"], values["average_mfe"]) == (-6.0, 3.0)
    assert values["kelly"] == pytest.approx(3 / 7 - 4 / 7 / 2)
    assert values["sqn"] == pytest.approx(reference.fmean(pnls) / reference.stdev(pnls) * math.sqrt(7))


def test_trades_of_one_kind_have_no_ratio() -> None:
    won = figures(daily(100.0, 105.0), [trip(5.0), trip(5.0)])
    assert (won["average_win"], won["average_loss"], won["payoff_ratio"], won["kelly"]) == (5.0, None, None, None)
    assert won["sqn"] is None  # they do not differ
    assert won["average_mae"] is None  # nobody looked
    lost = figures(daily(100.0, 105.0), [trip(-5.0)])
    assert (lost["average_win"], lost["average_loss"], lost["sqn"]) == (None, -5.0, None)


def test_a_risk_free_rate_is_earned_in_every_period() -> None:
    equity = [100.0, 101.0, 99.0, 104.0, 103.0]
    values = figures(daily(*equity), risk_free=0.05, benchmark=[10.0, 10.2, 10.1, 10.3, 10.2])
    rate = 1.05 ** (1 / 365.25) - 1
    above = [later / earlier - 1 - rate for earlier, later in pairwise(equity)]
    downside = math.sqrt(sum(min(each, 0.0) ** 2 for each in above) / len(above))
    assert values["sharpe"] == pytest.approx(reference.fmean(above) / reference.stdev(above) * math.sqrt(365.25))
    assert values["sortino"] == pytest.approx(reference.fmean(above) / downside * math.sqrt(365.25))
    assert values["volatility"] == figures(daily(*equity))["volatility"]
    assert values["beta"] is not None
    market = [10.2 / 10 - 1, 10.1 / 10.2 - 1, 10.3 / 10.1 - 1, 10.2 / 10.3 - 1]
    expected = reference.fmean(above) - values["beta"] * (reference.fmean(market) - rate)
    assert values["alpha"] == pytest.approx(expected * 365.25)
    with pytest.raises(ValueError, match="above -1"):
        figures(daily(100.0, 101.0), risk_free=-1.0)


def test_exposure_counts_time_once() -> None:
    trips = [
        trip(1.0, 0, 6 * HOUR_NS),
        trip(1.0, 2 * HOUR_NS, 4 * HOUR_NS),  # within
        trip(1.0, 5 * HOUR_NS, 8 * HOUR_NS),  # overlaps
        trip(1.0, 10 * HOUR_NS, 11 * HOUR_NS),
        trip(1.0, 21 * HOUR_NS, None),
    ]
    assert figures(daily(100.0, 105.0), trips)["exposure"] == pytest.approx(12 / 24)


def test_a_curve_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="1 times and 2 values"):
        figures(([0], [100.0, 101.0]))
    with pytest.raises(ValueError, match="0 times and 0 values"):
        figures(([], []))
    with pytest.raises(ValueError, match="begins above zero"):
        figures(([0], [0.0]))


# ---- trades


def test_a_trade_lasts_from_flat_to_flat() -> None:
    fills = [
        fill(Side.BUY, "1", "100", 1, "0.1"),
        fill(Side.BUY, "3", "104", 2, "0.3"),
        fill(Side.SELL, "2", "110", 3, "0.2"),
        fill(Side.SELL, "2", "90", 4, "0.2"),
    ]
    [only] = round_trips(fills)
    assert (only.instrument, only.quantity, only.entry_ns, only.exit_ns) == (BTC, 4.0, 1, 4)
    assert (only.entry_price, only.exit_price) == (103.0, 100.0)
    assert only.fees == 0.8
    assert only.pnl == -12.8


def test_a_reversal_is_two_trades_that_share_the_fee() -> None:
    fills = [
        fill(Side.SELL, "1", "100", 1, "0.1"),
        fill(Side.BUY, "4", "90", 2, "0.4"),
        fill(Side.SELL, "3", "95", 3, "0.3"),
    ]
    short, long = round_trips(fills)
    assert (short.quantity, short.entry_ns, short.exit_ns, short.fees, short.pnl) == (-1.0, 1, 2, 0.2, 9.8)
    assert (long.quantity, long.entry_ns, long.exit_ns, long.fees, long.pnl) == (3.0, 2, 3, 0.6, 14.4)


def test_what_is_open_is_valued_at_its_mark() -> None:
    fills = [
        fill(Side.BUY, "2", "100", 1, "0.2"),
        fill(Side.SELL, "1", "50", 1, "0.1", ETH),
        fill(Side.SELL, "1", "110", 2, "0.1"),
    ]
    book = TripBook()
    for each in fills:
        book.add(each)
    long, short = book.trips({BTC: 120.0})
    assert (long.quantity, long.exit_ns, long.exit_price, long.pnl) == (2.0, None, None, 29.7)
    assert (short.quantity, short.entry_price, short.exit_ns, short.pnl) == (-1.0, 50.0, None, -0.1)


def test_trades_come_in_the_order_of_their_ends() -> None:
    fills = [
        fill(Side.BUY, "1", "100", 1),
        fill(Side.BUY, "1", "50", 2, instrument=ETH),
        fill(Side.SELL, "1", "51", 3, instrument=ETH),
        fill(Side.SELL, "1", "101", 4),
    ]
    assert [each.instrument for each in round_trips(fills)] == [ETH, BTC]


moves = st.tuples(
    st.sampled_from(list(Side)),
    st.decimals("0.001", "50", places=3),
    st.decimals("0.01", "90000", places=2),
    st.decimals("-1", "5", places=7),
    st.sampled_from([BTC, ETH]),
)


@given(st.lists(moves, max_size=40), st.floats(0.01, 90_000.0), st.floats(0.01, 90_000.0))
def test_the_trades_together_earn_what_the_account_earned(
    made: list[tuple[Side, Decimal, Decimal, Decimal, InstrumentId]], btc: float, eth: float
) -> None:
    fills = [
        fill(side, str(quantity), str(price), number, str(fee), instrument)
        for number, (side, quantity, price, fee, instrument) in enumerate(made)
    ]
    marks = {BTC: btc, ETH: eth}
    earned = Decimal(0)
    for key, mark in marks.items():
        rules = Instrument(key, key.symbol[:3], "USDT", Decimal("0.01"), Decimal("0.001"))
        position = Position("s", "a", rules)
        for each in fills:
            if each.instrument == key:
                position.apply(each)
        earned += position.realised_pnl + position.unrealised_pnl(Decimal(repr(mark))) - position.fees
    trips = round_trips(fills, marks)
    turned_over = float(sum(each.price * each.quantity for each in fills))
    rounding = 1e-9 + 1e-12 * turned_over
    assert math.fsum(each.pnl for each in trips) == pytest.approx(float(earned), rel=1e-9, abs=rounding)
    assert math.fsum(each.fees for each in trips) == pytest.approx(float(sum(each.fee for each in fills)), abs=1e-9)
    assert all(each.entry_ns <= each.exit_ns for each in trips if each.exit_ns is not None)
    assert sum(each.exit_ns is None for each in trips) <= 2


def test_what_happened_within_a_day_says_nothing_about_a_year() -> None:
    hour_ns = 3_600 * 1_000_000_000
    curve = [100.0 + n % 3 for n in range(25)]
    for length, known in ((24, False), (25, True)):
        times = [n * hour_ns for n in range(length)]
        values = statistics(times, curve[:length], [], fills=0, traded=0.0)
        yearly = [values[name] for name in ("cagr", "volatility", "sharpe", "sortino")]
        assert all(value is not None for value in yearly) == known
