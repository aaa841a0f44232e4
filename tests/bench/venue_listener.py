"""Stamps the trades that it hears."""

from __future__ import annotations

import json
import time

from koc_qt.domain.market import Quote, Trade
from koc_qt.sdk import Strategy, param


class VenueListener(Strategy):
    """Says rows of trade ids and when they came, monotonic nanoseconds, and in the end how many it heard."""

    every = param(1, help="says every so manieth trade")

    def on_start(self) -> None:
        self.rows: list[tuple[str, int]] = []
        self.trades = 0

    def on_quote(self, quote: Quote) -> None:
        pass

    def on_trade(self, trade: Trade) -> None:
        now_ns = time.monotonic_ns()
        self.trades += 1
        if self.trades % self.every == 0:
            self.rows.append((trade.trade_id, now_ns))
            if len(self.rows) >= 50:
                self.log.info(json.dumps(self.rows))
                self.rows = []

    def on_stop(self) -> None:
        self.log.info(json.dumps([*self.rows, ("heard", self.trades)]))
