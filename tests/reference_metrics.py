"""Statistics as an independent library computes them: quantstats, in a process of its own.

It loads matplotlib and seaborn, and warns; none of that shall be in the tests' own process. Reads curves as JSON from
its input (see tests/unit/test_reference_metrics.py) and writes figures as JSON. Where our convention is another, what
it gives is brought to ours, with the reason beside it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pandas as pd
import quantstats.stats as qs


def of_curve(curve: dict[str, Any]) -> dict[str, Any]:
    """Give the figures of an equity curve and its benchmark. `periods` is how many there are a year."""
    ends = pd.to_datetime(np.array(curve["times_ns"][1:]) - 1)  # a bar's close belongs to the month that it ends
    equity, market = np.array(curve["equity"]), np.array(curve["benchmark"])
    returns = pd.Series(equity[1:] / equity[:-1] - 1, index=ends)
    benchmark = pd.Series(market[1:] / market[:-1] - 1, index=ends)
    periods, count = curve["periods"], len(returns)
    raw = {"prepare_returns": False}
    greeks = qs.greeks(returns, benchmark, periods=periods, **raw)
    monthly = qs.monthly_returns(returns, eoy=False, **raw)
    months = [(year, number, value) for year, row in monthly.iterrows() for number, value in enumerate(row, 1)]
    return {
        "return": qs.comp(returns),
        "cagr": qs.cagr(returns, periods=periods),
        "volatility": qs.volatility(returns, periods=periods, **raw),
        "sharpe": qs.sharpe(returns, periods=periods),
        "sharpe at 3 %": qs.sharpe(returns, rf=0.03, periods=periods),
        "sortino": qs.sortino(returns, periods=periods),
        "sortino at 3 %": qs.sortino(returns, rf=0.03, periods=periods),
        "max_drawdown": -qs.max_drawdown(returns),  # ours has no sign
        "calmar": qs.calmar(returns, periods=periods, **raw),
        "ulcer_index": qs.ulcer_index(returns) * np.sqrt((count - 1) / count),  # theirs divides by one less
        "expected_shortfall": -qs.cvar(returns, method="historical", **raw),  # ours is a loss
        "value_at_risk": -returns.quantile(0.05),  # theirs is that of a normal distribution: pandas' own
        "skewness": qs.skew(returns, **raw),
        "kurtosis": qs.kurtosis(returns, **raw),
        "beta": greeks["beta"],
        "alpha": greeks["alpha"],
        "correlation": np.sign(greeks["beta"]) * np.sqrt(qs.r_squared(returns, benchmark, **raw)),
        "information_ratio": qs.information_ratio(returns, benchmark, **raw)
        * np.sqrt(periods),  # theirs is of a period
        "months": {f"{year}-{number:02}": value for year, number, value in months if value},  # 0 where there is none
    }


def of_trades(pnls: list[float]) -> dict[str, Any]:
    """Give the figures of trades: the library's are of returns, and the same whatever these are in."""
    scale = 1e-6  # what looks like prices would be taken for prices
    series = pd.Series(pnls, index=pd.date_range("2020-01-01", periods=len(pnls))) * scale
    raw = {"prepare_returns": False}
    return {
        "win_rate": qs.win_rate(series, **raw),
        "profit_factor": qs.profit_factor(series, **raw),
        "payoff_ratio": qs.payoff_ratio(series, **raw),
        "kelly": qs.kelly_criterion(series, **raw),
        "average_win": qs.avg_win(series, **raw) / scale,
        "average_loss": qs.avg_loss(series, **raw) / scale,
        "expectancy": qs.avg_return(series, **raw) / scale,  # of those that are not zero: so are all that it is given
        "best_trade": qs.best(series, **raw) / scale,
        "worst_trade": qs.worst(series, **raw) / scale,
        "winning_run": int(qs.consecutive_wins(series, **raw)),
        "losing_run": int(qs.consecutive_losses(series, **raw)),
    }


def main() -> None:
    """Answer for every curve by its name."""
    curves = json.load(sys.stdin)
    figures = {name: of_curve(curve) | of_trades(curve["pnls"]) for name, curve in curves.items()}
    json.dump(figures, sys.stdout, default=float)


if __name__ == "__main__":
    main()
