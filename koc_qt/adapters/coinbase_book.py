"""Coinbase's level-2 channel: a book whose snapshot has tens of thousands of levels.

https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-channels#level2-channel. Read as ccxt
does, the four megabytes of one hold a loop up for 200 ms; read into what is needed of it, and kept as numbers instead
of lists of their own, for some 10 ms.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

_HEAD = 400  # characters in which a message of the channel says that it is one
_CHANNEL, _SNAPSHOT = '"l2_data"', '"snapshot"'
_BID = "bid"


class Level(msgspec.Struct, gc=False):
    """A price, and what there is now for it; nothing where that is zero."""

    side: Literal["bid", "offer"]
    price_level: Annotated[float, msgspec.Meta(gt=0)]
    new_quantity: Annotated[float, msgspec.Meta(ge=0)]


class Event(msgspec.Struct, gc=False):
    """Levels of a product: all of them (``snapshot``), or those that have changed."""

    type: str
    product_id: str
    updates: list[Level] = []


class _Message(msgspec.Struct):
    channel: str
    events: list[Event]
    timestamp: str
    sequence_num: int


_DECODER = msgspec.json.Decoder(_Message, strict=False)


def snapshot_of(text: object) -> dict[str, Any] | None:
    """Read a message whose `events` are Events if it is a snapshot; None for any other, or one that is odd."""
    if not isinstance(text, str) or _SNAPSHOT not in (head := text[:_HEAD]) or _CHANNEL not in head:
        return None
    try:
        return msgspec.structs.asdict(_DECODER.decode(text))
    except msgspec.DecodeError:
        return None


def event_of(told: Event | Mapping[str, Any]) -> Event:
    """Give an event of the channel as one. Raises msgspec.ValidationError."""
    return told if isinstance(told, Event) else msgspec.convert(told, Event, strict=False)


class BookSide:
    """One side of a book, best first: what ccxt's readers need of it."""

    def __init__(self, falling: bool) -> None:
        self._falling = falling
        self._prices: list[float] = []  # rising
        self._sizes: dict[float, float] = {}

    def replace(self, sizes: dict[float, float]) -> None:
        """Begin anew with these sizes by price."""
        for price in [price for price, size in sizes.items() if not size]:
            del sizes[price]
        self._sizes, self._prices = sizes, sorted(sizes)

    def store(self, price: float, size: float) -> None:
        """Let there be so much at a price from now on."""
        if not size:
            if self._sizes.pop(price, None) is not None:
                del self._prices[bisect_left(self._prices, price)]
            return
        if price not in self._sizes:
            insort(self._prices, price)
        self._sizes[price] = size

    def best(self, count: int) -> list[tuple[float, float]]:
        """Give the best levels, prices and sizes."""
        prices = self._prices[-count:][::-1] if self._falling else self._prices[:count]
        return [(price, self._sizes[price]) for price in prices]

    def __len__(self) -> int:
        return len(self._prices)

    def __getitem__(self, at: int | slice) -> Any:
        """Give a level, or the first so many of them."""
        if isinstance(at, slice):
            return self.best(len(self) if at.stop is None else at.stop)[at]
        return self.best(at + 1)[at]


class Level2Book(dict[str, Any]):
    """A book in ccxt's form (order book structure)."""

    def __init__(self, symbol: str) -> None:
        super().__init__(
            bids=BookSide(True), asks=BookSide(False), symbol=symbol, timestamp=None, datetime=None, nonce=None
        )

    def limit(self) -> Level2Book:
        """Give the book: it has no limit."""
        return self

    def take(self, event: Event, timestamp_ms: int | None) -> None:
        """Take an event of the channel."""
        bids, asks = self["bids"], self["asks"]
        self["timestamp"] = timestamp_ms
        if event.type == "snapshot":
            bids.replace({each.price_level: each.new_quantity for each in event.updates if each.side == _BID})
            asks.replace({each.price_level: each.new_quantity for each in event.updates if each.side != _BID})
            return
        for each in event.updates:
            (bids if each.side == _BID else asks).store(each.price_level, each.new_quantity)
