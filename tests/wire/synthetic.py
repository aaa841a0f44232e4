"""A made-up Binance recording of the same form as a real one, from a seed: for machines that have no real one."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from tests.wire.recording import Recording, parse

START_NS = 1_723_161_254_000_000_000  # 2024-08-08T23:54:14Z
_VENUE_AHEAD_MS = 3
_LEVELS = 1_200
_DEPTH_EVERY_NS = 100_000_000


class _Book:
    """Both sides in ticks of 0.01 and lots of 0.00001; every change has a number, as at the venue."""

    def __init__(self, rng: random.Random, mid: int, most: int) -> None:
        self._rng = rng
        self._most = most
        self.update_id = 50_000_000_000
        self.sides: dict[str, dict[int, int]] = {
            "b": {mid - i: self._size() for i in range(1, _LEVELS)},
            "a": {mid + i: self._size() for i in range(_LEVELS)},
        }
        self.changed: dict[str, dict[int, int]] = {"b": {}, "a": {}}
        self.best = {"b": mid - 1, "a": mid}

    def _size(self) -> int:
        return self._rng.randint(50, self._most)

    def put(self, side: str, price: int, size: int) -> None:
        self.update_id += 1
        self.changed[side][price] = size
        better = max if side == "b" else min
        if size:
            self.sides[side][price] = size
            self.best[side] = better(self.best[side], price)
        elif self.sides[side].pop(price, None) and price == self.best[side]:
            self.best[side] = better(self.sides[side])

    def stir(self) -> None:
        """Add, change or cancel an order near the top; narrow a wide spread."""
        side = self._rng.choice("ba")
        best, toward = self.best[side], 1 if side == "b" else -1
        spread = self.best["a"] - self.best["b"]
        if spread > 1 and self._rng.random() < 0.5:
            self.put(side, best + toward, self._size())
        else:
            depth = min(int(self._rng.expovariate(0.1)), 500)
            gone = depth > 0 and self._rng.random() < 0.2
            self.put(side, best - toward * depth, 0 if gone else self._size())

    def take(self, side: str, size: int) -> list[tuple[int, int]]:
        """Trade `size` against `side`; gives price and size of every level touched."""
        fills: list[tuple[int, int]] = []
        while size > 0:
            price = self.best[side]
            filled = min(size, self.sides[side][price])
            self.put(side, price, self.sides[side][price] - filled)
            if price not in self.sides[side]:  # as many levels as before: the book has no end
                farthest = max(self.sides["a"]) + 1 if side == "a" else min(self.sides["b"]) - 1
                self.put(side, farthest, self._size())
            fills.append((price, filled))
            size -= filled
        return fills


def _price(ticks: int) -> str:
    return f"{ticks // 100}.{ticks % 100:02d}000000"


def _quantity(lots: int) -> str:
    return f"{lots // 100_000}.{lots % 100_000:05d}000"


def _rows(levels: dict[int, int], *, falling: bool = False) -> list[list[str]]:
    return [[_price(price), _quantity(levels[price])] for price in sorted(levels, reverse=falling)]


def lines(
    seed: int = 1,
    seconds: float = 60.0,
    symbol: str = "BTCUSDT",
    mid: int = 6_183_763,
    drift: float = 0.0,
    thin: bool = False,
) -> Iterator[str]:
    """Write a recording of `seconds`; `mid` in cents.

    `drift` from -1 to 1 makes one side's trades more frequent; in a `thin` book they move the price far.
    """
    rng = random.Random(seed)
    book = _Book(rng, mid, 4_000 if thin else 80_000)
    now_ns, end_ns, next_depth_ns = START_NS, START_NS + round(seconds * 1e9), START_NS + _DEPTH_EVERY_NS
    trade_id, first_id = 3_700_000_000, book.update_id + 1
    quote = (0, 0, 0, 0)

    def line(kind: str, data: dict[str, Any]) -> str:
        return f"{now_ns} " + json.dumps({"stream": f"{symbol.lower()}@{kind}", "data": data}, separators=(",", ":"))

    snapshot = {"lastUpdateId": book.update_id, "bids": _rows(book.sides["b"], falling=True)[:1000]}
    yield f"{now_ns} " + json.dumps({**snapshot, "asks": _rows(book.sides["a"])[:1000]}, separators=(",", ":"))
    while now_ns < end_ns:
        now_ns += round(rng.expovariate(1 / 15e6)) + 1
        time_ms = now_ns // 1_000_000 + _VENUE_AHEAD_MS
        if rng.random() < 0.35:
            side = "a" if rng.random() < 0.5 + drift / 2 else "b"
            for price, size in book.take(side, rng.randint(1, 3) * rng.choice((13, 700, 21_000))):
                trade_id += 1
                trade = {"e": "trade", "E": time_ms, "s": symbol, "t": trade_id, "p": _price(price)}
                yield line("trade", {**trade, "q": _quantity(size), "T": time_ms, "m": side == "b", "M": True})
        else:
            book.stir()
        bid, ask = book.best["b"], book.best["a"]
        newest = (bid, book.sides["b"][bid], ask, book.sides["a"][ask])
        if newest != quote:
            quote = newest
            best = {"b": _price(bid), "B": _quantity(quote[1]), "a": _price(ask), "A": _quantity(quote[3])}
            yield line("bookTicker", {"u": book.update_id, "s": symbol, **best})
        if now_ns >= next_depth_ns and book.update_id >= first_id:
            event = {"e": "depthUpdate", "E": time_ms, "s": symbol, "U": first_id, "u": book.update_id}
            changes = {"b": _rows(book.changed["b"], falling=True), "a": _rows(book.changed["a"])}
            yield line("depth@100ms", {**event, **changes})
            book.changed = {"b": {}, "a": {}}
            first_id, next_depth_ns = book.update_id + 1, now_ns + _DEPTH_EVERY_NS


def synthetic(seed: int = 1, seconds: float = 60.0, **options: Any) -> Recording:
    """Make a recording in memory; the same seed gives the same frames."""
    return parse(lines(seed, seconds, **options))
