"""Facts that a market publishes. Times are UTC nanoseconds since 1970; prices and sizes are exact."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec

from koc_qt.domain.instruments import InstrumentId


class Side(StrEnum):
    """The side of an order, or of a trade's aggressor."""

    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        """+1 for a buy, -1 for a sell."""
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        """The other side."""
        return Side.SELL if self is Side.BUY else Side.BUY


class Trade(msgspec.Struct, frozen=True, tag="trade"):
    """One trade that happened on the venue; `side` is the aggressor's."""

    instrument: InstrumentId
    time_ns: int
    price: Decimal
    quantity: Decimal
    side: Side
    trade_id: str


class Quote(msgspec.Struct, frozen=True, tag="quote"):
    """Best bid and offer. `time_ns` is the venue's time, or the time of receipt where it sends none."""

    instrument: InstrumentId
    time_ns: int
    bid: Decimal
    bid_size: Decimal
    ask: Decimal
    ask_size: Decimal

    @property
    def mid(self) -> Decimal:
        """Half-way between bid and ask."""
        return (self.bid + self.ask) / 2

    @property
    def spread(self) -> Decimal:
        """Ask less bid."""
        return self.ask - self.bid


class BookLevel(msgspec.Struct, frozen=True, array_like=True):
    """A price and the quantity resting there."""

    price: Decimal
    quantity: Decimal


class Book(msgspec.Struct, frozen=True, tag="book"):
    """The top levels of the order book, best first on both sides."""

    instrument: InstrumentId
    time_ns: int
    bids: tuple[BookLevel, ...]
    asks: tuple[BookLevel, ...]


class Bar(msgspec.Struct, frozen=True, tag="bar", gc=False):  # kept by the thousand: see domain/orders.py
    """Open, high, low, close and volume of one interval; `open_time_ns` is its opening time, UTC.

    Prices and volume are float64: bars are for charts and indicators, never for money.
    """

    instrument: InstrumentId
    timeframe: str
    open_time_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: float


class StreamState(StrEnum):
    """What a market stream is doing."""

    CONNECTED = "connected"
    INTERRUPTED = "interrupted"
    ENDED = "ended"


class StreamStatus(msgspec.Struct, frozen=True, tag="stream"):
    """A stream's state changed. After INTERRUPTED, data may be missing until CONNECTED; ENDED is final."""

    instrument: InstrumentId
    time_ns: int
    state: StreamState
    reason: str = ""


MarketEvent = Trade | Quote | Book | StreamStatus
