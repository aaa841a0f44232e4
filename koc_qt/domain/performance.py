"""How good a run was: statistics of an equity curve and of its trades.

Conventions, the same for all: money is in quote currency, times are UTC nanoseconds, a year has 365.25 days. The
risk-free rate is 0 unless one is given; one that is given is a yearly rate, and earns (1 + rate) ** (1 / periods a
year) - 1 in a period. A period is the step from one point of the equity curve to the next; the number of periods a year
is that of the curve itself (its steps over its length in years), so that markets which close at night are annualised
by the bars that they have. Returns are simple, not logarithmic. A value is None where there is too little to say.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from koc_qt.domain.backtests import RoundTrip
from koc_qt.domain.figures import FIGURES, Unit
from koc_qt.domain.timeframes import SECOND_NS

STATISTICS: Mapping[str, Unit] = {name: figure.unit for name, figure in FIGURES.items()}
"""Every statistic by name, in the order in which they are shown, with its unit.

Return
net_profit      final_equity less the equity at the beginning
return          net_profit over the equity at the beginning
cagr            (final / first) ** (1 / years) - 1; None for less than a day
final_equity    cash and holdings at the last point, holdings at their last close
fees            what was paid for all fills; negative where rebates were more
turnover        all that was bought and sold, at its price, over the mean equity
exposure        share of the time during which anything was held

Risk
max_drawdown    deepest fall below an earlier peak, as a fraction of that peak; 0 and above
max_drawdown_s  longest time from a peak until it was reached again, or until the end
volatility      sample standard deviation of the periods' returns, times the root of the periods a year; this and the
                two ratios that follow are None for less than a day, as cagr is
sharpe          mean of the periods' returns less the risk-free rate's, over their sample standard deviation,
                annualised by that root
sortino         the same over the downside deviation: the root of the mean of min(return - rate, 0) squared, all periods
calmar          cagr over max_drawdown
recovery_factor net_profit over the deepest fall below an earlier peak in money
ulcer_index     root of the sum of the squared drawdowns (fractions, at each point) over the number of periods
value_at_risk   historical, 95 %: minus the 5 % quantile of the periods' returns, interpolated linearly between the
                two nearest; of one period, not annualised; below zero where even that is a gain; None below 20 periods
expected_shortfall  minus the mean of the returns at or below that quantile
skewness        third moment over the deviation cubed, corrected for a sample: times sqrt(n (n-1)) / (n-2)
kurtosis        excess g = fourth moment over the variance squared, less 3, corrected for a sample:
                (n-1) ((n+1) g + 6) / ((n-2) (n-3)); 0 is that of a normal distribution

Trades (closed ones, unless said; a winner has a pnl above zero, a loser one below, after fees)
trades          round trips that were closed, and open_trades those that were open at the end
win_rate        winners over all closed
profit_factor   gains of the winners over losses of the losers; None without losses
expectancy      mean pnl
average_win     mean pnl of the winners; average_loss that of the losers, below zero
payoff_ratio    average_win over the size of average_loss
best_trade      highest pnl, and worst_trade the lowest
winning_run     most winners one after the other, in the order in which they ended; losing_run the same of losers
average_trade_s mean time from entry to exit, and longest_trade_s the longest
average_mae     mean of the trades' mae (domain/excursions.py), and average_mfe of their mfe; None where one is unknown
kelly           win_rate - (1 - win_rate) / payoff_ratio; below zero where nothing should have been staked
sqn             mean pnl over its sample standard deviation, times the root of the number of trades
fills           executions

Market (against the benchmark, which buys the first instrument at its first open and holds it, without costs)
buy_and_hold    return of the first instrument's price over the run, from the first open to the last close
beta            covariance of the periods' returns with the benchmark's, over the variance of the benchmark's
alpha           (mean return - rate - beta (benchmark's mean return - rate)) times the periods a year
correlation     that covariance over both standard deviations
information_ratio  mean of return less benchmark's return over the sample standard deviation of that, times the root of
                the periods a year
"""


def statistics(
    times_ns: Sequence[int],
    equity: Sequence[float],
    trips: Sequence[RoundTrip],
    *,
    fills: int,
    traded: float,
    prices: tuple[float, float] | None = None,
    benchmark: Sequence[float] = (),
    risk_free: float = 0.0,
) -> dict[str, float | None]:
    """Give every statistic of STATISTICS, by its name.

    `equity` has a value for each of `times_ns`, which ascend; the first is before anything was traded. `traded` is the
    sum of price times quantity of all fills; `prices` are the first open and the last close of the first instrument.
    `benchmark` has a value for each of `times_ns` as well (domain/curves.py), or none. `risk_free` is a yearly rate.
    Raises ValueError where the curve is empty, of two lengths or does not begin above zero, and for a rate of -1 and
    below.
    """
    import numpy as np  # takes long to load, and who needs the names alone shall not wait for it

    from koc_qt.domain import ratios

    if not len(equity) or len(equity) != len(times_ns):
        raise ValueError(f"an equity curve of {len(times_ns)} times and {len(equity)} values")
    if not equity[0] > 0:
        raise ValueError(f"an equity curve begins above zero, not at {equity[0]}")
    if not risk_free > -1:
        raise ValueError(f"a risk-free rate is above -1, not {risk_free}")
    curve, moments_ns = np.asarray(equity, np.float64), np.asarray(times_ns, np.int64)
    first, final, length_ns = float(equity[0]), float(equity[-1]), int(times_ns[-1] - times_ns[0])
    falls = ratios.drawdowns(moments_ns, curve)
    cagr = ratios.growth(first, final, length_ns)
    values: dict[str, float | None] = {
        "final_equity": final,
        "net_profit": final - first,
        "return": _over(final - first, first),
        "buy_and_hold": None if prices is None else _over(prices[1] - prices[0], prices[0]),
        "cagr": cagr,
        **ratios.ratios(curve, length_ns, risk_free),
        **ratios.against(curve, np.asarray(benchmark, np.float64), length_ns, risk_free),
        **falls,
        "calmar": None if cagr is None else _over(cagr, falls["max_drawdown"]),
        "recovery_factor": _over(final - first, falls["fall"]),
        **_odds([trip for trip in trips if trip.exit_ns is not None]),
        "open_trades": float(sum(trip.exit_ns is None for trip in trips)),
        "exposure": _over(_held_ns(trips, times_ns[-1]), length_ns),
        "turnover": _over(traded, ratios.total(curve) / len(curve)),
        "fees": math.fsum(trip.fees for trip in trips),
        "fills": float(fills),
    }
    return {name: values[name] for name in STATISTICS}


# ---- inside ---------------------------------------------------------------------------------------------------------


def _over(value: float, base: float) -> float | None:
    return value / base if base > 0 else None


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _odds(closed: Sequence[RoundTrip]) -> dict[str, float | None]:
    """Give what closed trades say."""
    pnls = [trip.pnl for trip in closed]
    lengths_s = [(trip.exit_ns - trip.entry_ns) / SECOND_NS for trip in closed if trip.exit_ns is not None]
    worst = [trip.mae for trip in closed if trip.mae is not None]
    best = [trip.mfe for trip in closed if trip.mfe is not None]
    gains, losses = [pnl for pnl in pnls if pnl > 0], [-pnl for pnl in pnls if pnl < 0]
    win_rate, average_win, average_loss = _over(len(gains), len(pnls)), _mean(gains), _mean(losses)
    payoff = None if average_win is None or average_loss is None else average_win / average_loss
    return {
        "trades": float(len(pnls)),
        "win_rate": win_rate,
        "profit_factor": _over(math.fsum(gains), math.fsum(losses)),
        "expectancy": _mean(pnls),
        "average_win": average_win,
        "average_loss": None if average_loss is None else -average_loss,
        "payoff_ratio": payoff,
        "best_trade": max(pnls, default=None),
        "worst_trade": min(pnls, default=None),
        "winning_run": float(_longest_run(pnl > 0 for pnl in pnls)),
        "losing_run": float(_longest_run(pnl < 0 for pnl in pnls)),
        "average_trade_s": _mean(lengths_s),
        "longest_trade_s": max(lengths_s, default=None),
        "average_mae": _mean(worst) if len(worst) == len(closed) else None,
        "average_mfe": _mean(best) if len(best) == len(closed) else None,
        "kelly": None if win_rate is None or payoff is None else win_rate - (1.0 - win_rate) / payoff,
        "sqn": _quality(pnls),
    }


def _quality(pnls: Sequence[float]) -> float | None:
    if len(pnls) < 2:
        return None
    mean = math.fsum(pnls) / len(pnls)
    deviation = math.sqrt(math.fsum((pnl - mean) ** 2 for pnl in pnls) / (len(pnls) - 1))
    return mean / deviation * math.sqrt(len(pnls)) if deviation > 1e-9 * abs(mean) else None


def _longest_run(flags: Iterable[bool]) -> int:
    longest = current = 0
    for flag in flags:
        current = current + 1 if flag else 0
        longest = max(longest, current)
    return longest


def _held_ns(trips: Sequence[RoundTrip], end_ns: int) -> int:
    """Give how long anything was held; trades that overlap count once."""
    held_ns, until_ns = 0, None
    for since_ns, exit_ns in sorted(
        (trip.entry_ns, end_ns if trip.exit_ns is None else trip.exit_ns) for trip in trips
    ):
        begin_ns = since_ns if until_ns is None else max(since_ns, until_ns)
        if exit_ns > begin_ns:
            held_ns += exit_ns - begin_ns
            until_ns = exit_ns
    return held_ns
