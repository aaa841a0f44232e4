"""The statistics of a run by name: what people call each, what it is, and how it is to be shown.

The formulas are in domain/performance.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Unit(StrEnum):
    """How a statistic is to be shown."""

    AMOUNT = "amount"  # in quote currency
    FRACTION = "fraction"  # 0.05 is 5 %
    RATIO = "ratio"  # a plain number
    COUNT = "count"
    SECONDS = "seconds"


class Figure(NamedTuple):
    """A statistic: what people call it, what it is, why there may be none, and whether its sign is a gain or a loss."""

    text: str
    unit: Unit
    meaning: str
    why_none: str = "Too little happened to say"
    is_signed: bool = False


_FEW = "Needs at least three points of equity that move and stay above zero, and a day or more"
_DAY = "Needs a day or more"
_TAIL = "Needs 20 bars or more, and equity above zero"
_SHAPE = "Needs at least four points of equity that move and stay above zero"
_NO_TRADE = "No trade was closed"
_MARKET = "Needs prices of the first symbol that move, and a day or more"

_AMOUNT, _FRACTION, _RATIO, _COUNT, _SECONDS = Unit

_RETURN = {
    "net_profit": Figure("Net profit", _AMOUNT, "Final equity less the cash at the beginning", is_signed=True),
    "return": Figure("Return", _FRACTION, "Net profit over the cash at the beginning", is_signed=True),
    "cagr": Figure("Return a year", _FRACTION, "The yearly growth that gives this return (CAGR)", _DAY, True),
    "final_equity": Figure("Final equity", _AMOUNT, "Cash and holdings at the end, holdings at their last close"),
    "fees": Figure("Fees", _AMOUNT, "Paid for all fills; below zero where rebates were more"),
    "turnover": Figure("Turnover", _RATIO, "All that was bought and sold, over the mean equity"),
    "exposure": Figure("Time in the market", _FRACTION, "Share of the time during which anything was held"),
}
_RISK = {
    "max_drawdown": Figure(
        "Deepest drawdown", _FRACTION, "Deepest fall below an earlier peak, as a share of that peak"
    ),
    "max_drawdown_s": Figure(
        "Longest drawdown", _SECONDS, "Longest time from a peak until it was reached again, or the end"
    ),
    "volatility": Figure("Volatility a year", _FRACTION, "Standard deviation of the returns, annualised", _FEW),
    "sharpe": Figure("Sharpe ratio", _RATIO, "Mean return over its standard deviation, annualised", _FEW),
    "sortino": Figure(
        "Sortino ratio", _RATIO, "Mean return over its downside deviation, annualised", "Needs three points and a loss"
    ),
    "calmar": Figure(
        "Calmar ratio", _RATIO, "Return a year over the deepest drawdown", "Needs a day or more, and a drawdown"
    ),
    "recovery_factor": Figure(
        "Recovery factor", _RATIO, "Net profit over the deepest fall in money", "There was no drawdown"
    ),
    "ulcer_index": Figure("Ulcer index", _FRACTION, "Root mean square of the drawdowns: their depth and their length"),
    "value_at_risk": Figure("Value at risk", _FRACTION, "What one bar in twenty loses, or more (95 %)", _TAIL),
    "expected_shortfall": Figure("Expected shortfall", _FRACTION, "What such bars lose on average (95 %)", _TAIL),
    "skewness": Figure(
        "Skewness", _RATIO, "Below zero: the rare large returns are losses; above: they are gains", _SHAPE
    ),
    "kurtosis": Figure(
        "Excess kurtosis", _RATIO, "Above zero: extreme returns are more frequent than chance alone makes them", _SHAPE
    ),
}
_MARKET_FIGURES = {
    "buy_and_hold": Figure(
        "Buy and hold",
        _FRACTION,
        "What the first symbol's price did from the first open to the last close, without costs",
        is_signed=True,
    ),
    "alpha": Figure("Alpha", _FRACTION, "Return a year that the market's does not explain", _MARKET, True),
    "beta": Figure("Beta", _RATIO, "How much it moves when the first symbol's price moves by one", _MARKET),
    "correlation": Figure("Correlation", _RATIO, "With the first symbol's price: 1 together, -1 opposite", _MARKET),
    "information_ratio": Figure(
        "Information ratio", _RATIO, "Mean return above buy and hold over its deviation, annualised", _MARKET
    ),
}
_TRADES = {
    "trades": Figure("Closed trades", _COUNT, "From flat until flat or reversed"),
    "open_trades": Figure(
        "Open at the end", _COUNT, "Trades that were not closed, valued at the last close"
    ),
    "win_rate": Figure("Winners", _FRACTION, "Share of the closed trades with a profit after fees", _NO_TRADE),
    "profit_factor": Figure(
        "Profit factor", _RATIO, "Gains of the winners over losses of the losers", "No closed trade lost anything"
    ),
    "expectancy": Figure("Mean trade", _AMOUNT, "Mean profit of the closed trades after fees", _NO_TRADE, True),
    "average_win": Figure("Mean winner", _AMOUNT, "Mean profit of the winners", "No trade won anything", True),
    "average_loss": Figure("Mean loser", _AMOUNT, "Mean loss of the losers", "No closed trade lost anything", True),
    "payoff_ratio": Figure("Payoff ratio", _RATIO, "Mean winner over mean loser", "Needs winners and losers"),
    "best_trade": Figure("Best trade", _AMOUNT, "Highest profit of a closed trade", _NO_TRADE, True),
    "worst_trade": Figure("Worst trade", _AMOUNT, "Lowest profit of a closed trade", _NO_TRADE, True),
    "winning_run": Figure("Longest winning run", _COUNT, "Most winners in a row"),
    "losing_run": Figure("Longest losing run", _COUNT, "Most losers in a row"),
    "average_trade_s": Figure("Mean length", _SECONDS, "Mean time that closed trades lasted", _NO_TRADE),
    "longest_trade_s": Figure("Longest trade", _SECONDS, "Longest time that a closed trade lasted", _NO_TRADE),
    "average_mae": Figure(
        "Mean worst point", _AMOUNT, "How far closed trades were behind at their worst, on average (MAE)", _NO_TRADE
    ),
    "average_mfe": Figure(
        "Mean best point", _AMOUNT, "How far closed trades were ahead at their best, on average (MFE)", _NO_TRADE
    ),
    "kelly": Figure("Kelly share", _FRACTION, "Stake that would have grown fastest, by winners and payoff ratio",
                    "Needs winners and losers"),
    "sqn": Figure("System quality", _RATIO, "Mean trade over its deviation, times the root of their number (SQN)",
                  "Needs two closed trades that differ"),
    "fills": Figure("Fills", _COUNT, "Executions"),
}  # fmt: skip

GROUPS: Mapping[str, Mapping[str, Figure]] = {
    "Return": _RETURN,
    "Risk": _RISK,
    "Trades": _TRADES,
    "Market": _MARKET_FIGURES,
}
"""The statistics in the groups and the order in which they are shown."""

FIGURES: Mapping[str, Figure] = {name: figure for group in GROUPS.values() for name, figure in group.items()}
"""Every statistic by name."""
