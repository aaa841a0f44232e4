"""Market data of venues whose tickers are no quotes: told at trades alone, or with sizes that are sums of many levels.

There the book's best level is the quote, whenever it changes; the book is the one stream for both.
"""

from __future__ import annotations

from typing import Any

from koc_qt.adapters.ccxt_market_data import CcxtMarketData
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Book, BookLevel, Quote, StreamState


class CcxtBookQuotes(CcxtMarketData):
    """Market data over ccxt with quotes from books; see CcxtMarketData for what it takes and does."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        del self._watches["quotes"]
        self._best: dict[InstrumentId, tuple[BookLevel, BookLevel]] = {}

    async def _watch_book(self, exchange: Any, symbol: str) -> Any:
        """Wait for a book; while changes come one by one, its sides may cross for a moment."""
        while True:
            book = await exchange.watch_order_book(symbol)
            bids, asks = book["bids"], book["asks"]
            if not bids or not asks or bids[0][0] < asks[0][0]:
                return book

    def _fact(self, subscription: Any, stream: Any, raw: Any) -> Any:
        event = super()._fact(subscription, stream, raw)
        if isinstance(event, Book) and event.bids and event.asks and self._sink is not None:
            bid, ask = event.bids[0], event.asks[0]
            if self._best.get(event.instrument) != (bid, ask):
                self._best[event.instrument] = bid, ask
                best = (bid.price, bid.quantity, ask.price, ask.quantity)
                self._sink(Quote(event.instrument, event.time_ns, *best))
        return event

    def _say(self, subscription: Any, state: StreamState, reason: str = "") -> None:
        super()._say(subscription, state, reason)
        if state is not StreamState.CONNECTED:
            self._best.pop(subscription.instrument, None)  # whoever listens knows no quote any more
