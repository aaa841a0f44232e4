"""What a venue knows at one moment of a replay: its order book, its trades, and the candles they make."""

from __future__ import annotations

from bisect import bisect_left
from decimal import Decimal
from typing import Any

from tests.wire.recording import Frame

_LONGEST_TAPE = 500_000  # trades kept for REST; a replay that loops for days forgets the oldest
_MONDAY_MS = 4 * 86_400_000

INTERVALS_MS = {
    **{f"{n}s": n * 1_000 for n in (1,)},
    **{f"{n}m": n * 60_000 for n in (1, 3, 5, 15, 30)},
    **{f"{n}h": n * 3_600_000 for n in (1, 2, 4, 6, 8, 12)},
    **{"1d": 86_400_000, "3d": 3 * 86_400_000, "1w": 7 * 86_400_000},
}


class Market:
    """Grows with every frame that is applied; answers as Binance's REST does."""

    def __init__(self, symbol: str, snapshot: dict[str, Any]) -> None:
        self.symbol = symbol
        self.tape: list[dict[str, Any]] = []
        self.update_id: int = snapshot["lastUpdateId"]
        self._bids: dict[Decimal, list[str]] = {}
        self._asks: dict[Decimal, list[str]] = {}
        self._set(snapshot["bids"], snapshot["asks"])

    def apply(self, frame: Frame) -> None:
        """Take a frame in."""
        if frame.kind == "trade":
            self.tape.append(frame.data)
            if len(self.tape) > _LONGEST_TAPE:
                del self.tape[: _LONGEST_TAPE // 10]
        elif frame.kind == "depth@100ms":
            self._set(frame.data["b"], frame.data["a"])
            self.update_id = frame.data["u"]

    def _set(self, bids: list[list[str]], asks: list[list[str]]) -> None:
        for side, rows in ((self._bids, bids), (self._asks, asks)):
            for price, quantity in rows:
                if Decimal(quantity):
                    side[Decimal(price)] = [price, quantity]
                else:
                    side.pop(Decimal(price), None)

    def depth(self, limit: int) -> dict[str, Any]:
        """Answer GET /api/v3/depth."""
        bids = [self._bids[price] for price in sorted(self._bids, reverse=True)[:limit]]
        asks = [self._asks[price] for price in sorted(self._asks)[:limit]]
        return {"lastUpdateId": self.update_id, "bids": bids, "asks": asks}

    def depth_event_to(self, snapshot: dict[str, Any], time_ms: int) -> dict[str, Any]:
        """Make the depth event that leads from this book to `snapshot`, whose update id comes later."""
        changes: dict[str, list[list[str]]] = {}
        for name, side, rows in (("b", self._bids, snapshot["bids"]), ("a", self._asks, snapshot["asks"])):
            wanted = {Decimal(price) for price, _ in rows}
            changes[name] = [*rows, *([row[0], "0.00000000"] for price, row in side.items() if price not in wanted)]
        first, last = self.update_id + 1, snapshot["lastUpdateId"]
        return {"e": "depthUpdate", "E": time_ms, "s": self.symbol, "U": first, "u": last, **changes}

    def trades(self, limit: int) -> list[dict[str, Any]]:
        """Answer GET /api/v3/trades."""
        return [
            {
                "id": trade["t"],
                "price": trade["p"],
                "qty": trade["q"],
                "quoteQty": str(Decimal(trade["p"]) * Decimal(trade["q"])),
                "time": trade["T"],
                "isBuyerMaker": trade["m"],
                "isBestMatch": True,
            }
            for trade in self.tape[-limit:]
        ]

    def klines(
        self, interval: str, start_ms: int | None, end_ms: int | None, limit: int, now_ms: int
    ) -> list[list[Any]]:
        """Answer GET /api/v3/klines: also the candle that is not closed yet, and flat ones where nobody traded.

        As at Binance the bounds are about opening times, and without a start the newest are given.
        """
        if not self.tape:
            return []
        length = INTERVALS_MS[interval]
        origin = _MONDAY_MS if interval == "1w" else 0
        first = _floor(self.tape[0]["T"], length, origin)
        last = _floor(min(now_ms, now_ms if end_ms is None else end_ms), length, origin)
        if start_ms is not None:
            first = max(first, _floor(start_ms + length - 1, length, origin))
            last = min(last, first + (limit - 1) * length)
        else:
            first = max(first, last - (limit - 1) * length)
        rows: list[list[Any]] = []
        at = bisect_left(self.tape, first, key=lambda trade: trade["T"])
        close = self.tape[at - 1]["p"] if at else self.tape[0]["p"]
        for open_ms in range(first, last + 1, length):
            until = at
            while until < len(self.tape) and self.tape[until]["T"] < open_ms + length:
                until += 1
            rows.append(_candle(open_ms, length, self.tape[at:until], close))
            close, at = rows[-1][4], until
        return rows


def _floor(time_ms: int, length: int, origin: int) -> int:
    return time_ms - (time_ms - origin) % length


def _candle(open_ms: int, length: int, trades: list[dict[str, Any]], last_close: str) -> list[Any]:
    prices = [trade["p"] for trade in trades] or [last_close]
    sizes = [(Decimal(trade["p"]), Decimal(trade["q"]), trade["m"]) for trade in trades]
    volume = sum((q for _, q, _ in sizes), Decimal(0))
    turnover = sum((p * q for p, q, _ in sizes), Decimal(0))
    bought = sum((q for _, q, by_seller in sizes if not by_seller), Decimal(0))
    paid = sum((p * q for p, q, by_seller in sizes if not by_seller), Decimal(0))
    high, low = max(prices, key=Decimal), min(prices, key=Decimal)
    amounts = [f"{amount:.8f}" for amount in (volume, turnover, bought, paid)]
    ohlcv = [prices[0], high, low, prices[-1], amounts[0]]
    return [open_ms, *ohlcv, open_ms + length - 1, amounts[1], len(trades), amounts[2], amounts[3], "0"]
