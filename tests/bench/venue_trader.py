"""Trades without end: now an order that fills at once, now one that waits and is cancelled."""

from __future__ import annotations

from decimal import Decimal

from koc_qt.domain.market import Quote, Trade
from koc_qt.sdk import OrderHandle, Strategy, param

AT_ONCE = 6  # orders under way at a time
PATIENCE = 40  # turns after which an order that still works is cancelled


class VenueTrader(Strategy):
    """Keeps a few orders going, whatever becomes of the connection."""

    rate = param(8.0, help="orders a second")

    def on_start(self) -> None:
        self.quote: Quote | None = None
        self.open: list[tuple[OrderHandle, int]] = []  # and the turn after which it is cancelled
        self.turn = 0
        self.set_timer(1 / self.rate)

    def on_quote(self, quote: Quote) -> None:
        self.quote = quote

    def on_trade(self, trade: Trade) -> None:
        pass

    def on_timer(self) -> None:
        self.turn += 1
        self.open = [(order, until) for order, until in self.open if order.is_open]
        for order, until in self.open:
            if self.turn > until and order.status in ("accepted", "partially_filled") and not order.cancel_requested:
                self.cancel(order)
        if self.quote is None or len(self.open) >= AT_ONCE:
            return
        kind, bid = self.turn % 4, self.quote.bid
        if kind == 0:
            self.open.append((self.buy("0.001", price=bid * Decimal("1.01")), self.turn + PATIENCE))
        elif kind == 2:
            self.open.append((self.sell("0.001", price=bid * Decimal("0.99")), self.turn + PATIENCE))
        else:
            self.open.append((self.buy("0.001", price=bid * Decimal("0.9")), self.turn + 2))
