"""Incremental indicators: ``update(price or bar) -> float | None``, `.value`, `.ready`; amortised O(1) an update.

They agree with TA-Lib, its seeding included, to 1e-9, and do not drift over millions of updates. Where a formula would
divide by zero they give what TA-Lib gives; TA-Lib also takes anything below 1e-14 for zero, which these do not. What is
not finite is refused with a StrategyError, for it would stay in every exponential average for ever.
"""

from koc_qt.sdk.indicators._base import Indicator
from koc_qt.sdk.indicators.averages import EMA, MACD, SMA, WMA
from koc_qt.sdk.indicators.oscillators import ADX, ROC, RSI, Stochastic
from koc_qt.sdk.indicators.volatility import ATR, Bollinger, Donchian, Highest, Lowest, StdDev
from koc_qt.sdk.indicators.volume import OBV, VWAP

__all__ = [
    "ADX",
    "ATR",
    "EMA",
    "MACD",
    "OBV",
    "ROC",
    "RSI",
    "SMA",
    "VWAP",
    "WMA",
    "Bollinger",
    "Donchian",
    "Highest",
    "Indicator",
    "Lowest",
    "StdDev",
    "Stochastic",
]
