"""Stamps its signals: an order far below the market at a steady pace, cancelled once it is accepted."""

from __future__ import annotations

import json
import time
from decimal import Decimal

from koc_qt.domain.market import Quote, Trade
from koc_qt.sdk import OrderHandle, Strategy, param


class VenueProbe(Strategy):
    """Says rows of when it wanted an order and when it knew it accepted, monotonic nanoseconds."""

    rate = param(25.0, help="orders a second, one at a time")

    def on_start(self) -> None:
        self.rows: list[tuple[int, int]] = []
        self.bid: Decimal | None = None
        self.order: OrderHandle | None = None
        self.signal_ns = 0
        self.is_known = False
        self.set_timer(1 / self.rate)

    def on_quote(self, quote: Quote) -> None:
        self.bid = quote.bid

    def on_trade(self, trade: Trade) -> None:
        pass

    def on_timer(self) -> None:
        if self.bid is None or self.order is not None:
            return
        self.is_known = False
        self.signal_ns = time.monotonic_ns()
        self.order = self.buy("0.001", price=self.bid * 9 / 10)

    def on_order(self, order: OrderHandle) -> None:
        now_ns = time.monotonic_ns()
        if order.status == "accepted" and not self.is_known:
            self.is_known = True
            self.rows.append((self.signal_ns, now_ns))
            self.cancel(order)
        if not order.is_open:
            self.order = None
            if order.status == "rejected":
                self.log.warning(order.reason)
            if len(self.rows) >= 20:
                self.say()

    def on_stop(self) -> None:
        self.say()

    def say(self) -> None:
        self.log.info(json.dumps(self.rows))
        self.rows = []
