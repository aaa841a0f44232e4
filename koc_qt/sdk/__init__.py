"""What a strategy file imports. Guide: docs/strategies.md; indicators: koc_qt.sdk.indicators."""

from koc_qt.domain.errors import InvalidOrder, StrategyError
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar, Quote, Side, Trade
from koc_qt.domain.orders import Fill, Liquidity, OrderStatus, OrderType, TimeInForce
from koc_qt.sdk.orders import OrderHandle
from koc_qt.sdk.parameters import param
from koc_qt.sdk.script import Api, Data
from koc_qt.sdk.signals import Bars, Signals
from koc_qt.sdk.strategy import Strategy
from koc_qt.sdk.trading import Position

__all__ = [
    "Api",
    "Bar",
    "Bars",
    "Data",
    "Fill",
    "Instrument",
    "InstrumentId",
    "InvalidOrder",
    "Liquidity",
    "OrderHandle",
    "OrderStatus",
    "OrderType",
    "Position",
    "Quote",
    "Side",
    "Signals",
    "Strategy",
    "StrategyError",
    "TimeInForce",
    "Trade",
    "param",
]
