"""One symbol's live market: a seeded walk with quotes, trades and a book, or what a test shows."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from itertools import takewhile

import numpy as np

from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Book, BookLevel, Quote, Side, Trade
from koc_qt.domain.timeframes import SECOND_NS, bar_open_ns, duration_ns
from tests.wire.core.history import MINUTE_NS, Bar, Candle, History
from tests.wire.core.listings import Listing, Trading

LEVELS = 25  # a side; the whole book of such a market
_BOOK_EVERY_NS = 100_000_000
_WARM_UP_NS = 2 * MINUTE_NS  # the walk begins so long before the first live moment, so that there are trades to ask for
_WARM_UP_RATE = 1.5  # at most: a quick market's two minutes would take longer to make than a test
_BEHIND_NS = 5 * SECOND_NS  # a pause longer than this (a machine that slept) is not made up for
_TAPE = 2_000
_SECONDS_KEPT = 100_000

MarketFact = Trade | Quote | Book


class LiveMarket:
    """Moves as time does; `rate` is its events a second (a quote each, and a trade with two of five).

    `sequence` counts every change of the book. While `held`, by `show`, nothing moves. `thin` bounds the size at every
    price, for partial fills. Times that it says are `skew_ns` ahead.
    """

    def __init__(self, listing: Listing, venue: str, seed: int, start_ns: int, rate: float = 4.0) -> None:
        self.listing = listing
        self.id = InstrumentId(venue, listing.symbol)
        self.trading = Trading.OPEN
        self.rate = rate
        self.held = False
        self.thin: Decimal | None = None
        self.skew_ns = 0
        self.sequence = start_ns // 1_000_000
        self.tape: deque[Trade] = deque(maxlen=_TAPE)
        self._history = History(listing, seed)
        self._rng = random.Random(f"{seed}/{listing.symbol}/live")
        self._key = self._rng.getrandbits(62)
        self._trade_number = start_ns // 1_000_000
        self._live_from_ns = start_ns - start_ns % MINUTE_NS - _WARM_UP_NS
        self._seconds: dict[int, Bar] = {}
        self._next_ns = self._live_from_ns
        self._book_ns = 0
        begins = np.array([self._live_from_ns // MINUTE_NS], dtype=np.int64)
        self._bid = int(self._history.ticks_at(begins)[0])
        self._ask = self._bid + 1
        worth = Decimal(5_000) if listing.quote.startswith("USD") else Decimal("0.1")
        self._typical_lots = float(worth / listing.price / listing.lot)
        self._shown: tuple[Decimal, Decimal, Decimal] | None = None
        for _ in self.advance(start_ns, catch_up=True):
            pass

    # ---- what is asked of it --------------------------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        """The time of its newest event, as it says it."""
        return self._next_ns + self.skew_ns

    @property
    def last(self) -> Decimal:
        """The newest trade's price, or the middle while a test shows another market."""
        if self._shown is not None:
            return self.listing.instrument(self.id.venue).round_price((self._shown[0] + self._shown[1]) / 2)
        return self.tape[-1].price

    def quote(self, time_ns: int) -> Quote:
        """Give the best bid and offer."""
        book = self.book(time_ns, 1)
        bid, ask = book.bids[0], book.asks[0]
        return Quote(self.id, time_ns, bid.price, bid.quantity, ask.price, ask.quantity)

    def book(self, time_ns: int, levels: int = LEVELS) -> Book:
        """Give the book, at most 25 levels a side."""
        if self._shown is not None:
            bid, ask, size = self._shown
            size = size if self.thin is None else min(size, self.thin)
            return Book(self.id, time_ns, (BookLevel(bid, size),), (BookLevel(ask, size),))
        bucket = (time_ns - self.skew_ns) // (5 * SECOND_NS)
        count = min(levels, LEVELS)
        bids = tuple(self._level(price, bucket) for price in range(self._bid, max(self._bid - count, 0), -1))
        return Book(self.id, time_ns, bids, tuple(self._level(self._ask + at, bucket) for at in range(count)))

    def _level(self, ticks: int, bucket: int) -> BookLevel:
        mixed = (ticks * 0x9E3779B97F4A7C15 ^ bucket * 0xD1B54A32D192ED03 ^ self._key) & (2**64 - 1)
        mixed = (mixed ^ mixed >> 29) * 0xBF58476D1CE4E5B9 & (2**64 - 1)
        size = self._size(0.1 + (mixed >> 11) / 2**53 * 2)
        return BookLevel(ticks * self.listing.tick, size if self.thin is None else min(size, self.thin))

    def _size(self, part: float) -> Decimal:
        """Give a part of a typical size: some thousands in quote currency, or a tenth where that is no money."""
        return max(int(self._typical_lots * part), 1) * self.listing.lot

    def candles(
        self,
        timeframe: str,
        since_ns: int,
        until_ns: int,
        *,
        limit: int | None = None,
        newest: bool = False,
        fill: bool = False,
    ) -> list[Candle]:
        """Give the candles with since <= open time < until that have begun, oldest first, the open one last.

        At most `limit`: the first ones, or the newest. Live intervals without a trade have none, or flat ones with
        `fill`.
        """
        step_ns = duration_ns(timeframe)
        until_ns = min(until_ns, self._next_ns + 1)
        if limit is not None and newest:
            since_ns = max(since_ns, until_ns - limit * step_ns)
        if limit is not None and not newest:
            first_ns = bar_open_ns(max(since_ns, self.listing.listed_ns) + step_ns - 1, timeframe)
            until_ns = min(until_ns, first_ns + limit * step_ns)
        bars = self._past(timeframe, since_ns, until_ns)
        for second, bar in self._live_since(bar_open_ns(max(since_ns, 0), timeframe)):
            open_ns = bar_open_ns(second, timeframe)
            if not since_ns <= open_ns < until_ns:
                continue
            if bars and bars[-1].open_ns == open_ns:
                bars[-1].add(bar)
            else:
                bars.append(Bar(open_ns, bar.open, bar.high, bar.low, bar.close, bar.lots, bar.trades))
        if fill:
            bars = _filled(bars, step_ns, until_ns)
        return [self._candle(bar) for bar in bars][-limit if limit is not None and newest else 0 : None]

    def _live_since(self, since_ns: int) -> list[tuple[int, Bar]]:
        newest_first = takewhile(lambda item: item[0] >= since_ns, reversed(self._seconds.items()))
        return list(newest_first)[::-1]

    def _past(self, timeframe: str, since_ns: int, until_ns: int) -> list[Bar]:
        live_ns = self._live_from_ns
        whole_ns = bar_open_ns(live_ns, timeframe)
        bars = self._history.bars(timeframe, since_ns, min(until_ns, whole_ns))
        if whole_ns < live_ns and since_ns <= whole_ns < until_ns:  # the candle in which the live market began
            parts = self._history.bars("1m", whole_ns, live_ns)
            for part in parts[1:]:
                parts[0].add(part)
            bars += parts[:1]
        return bars

    def _candle(self, bar: Bar) -> Candle:
        tick = self.listing.tick
        prices = (bar.open * tick, bar.high * tick, bar.low * tick, bar.close * tick)
        return Candle(bar.open_ns, *prices, bar.lots * self.listing.lot, bar.trades)

    # ---- how it moves ---------------------------------------------------------------------------------------------

    def show(self, bid: Decimal, ask: Decimal, size: Decimal) -> None:
        """Let this be the market, one price a side, until `release`."""
        self.held = True
        self._shown = (bid, ask, size)

    def release(self) -> None:
        """Let it move again, from where it was."""
        self.held, self._shown = False, None

    def advance(self, now_ns: int, *, catch_up: bool = False) -> Iterator[MarketFact]:
        """Give what has happened since; nothing while held, and not what was missed in a long pause."""
        if not catch_up and (self.held or self.trading is not Trading.OPEN or now_ns - self._next_ns > _BEHIND_NS):
            self._next_ns = max(self._next_ns, now_ns)
            return
        rate = min(self.rate, _WARM_UP_RATE) if catch_up else self.rate
        while self._next_ns <= now_ns:
            yield from self._step(self._next_ns, quiet=catch_up)
            self._next_ns += max(int(self._rng.uniform(0.5, 1.5) * SECOND_NS / rate), 1_000)

    def _step(self, time_ns: int, *, quiet: bool) -> Iterator[MarketFact]:
        rng = self._rng
        said_ns = time_ns + self.skew_ns
        if rng.random() < 0.4:
            yield self._trade(time_ns, said_ns)
        wide = max(self._bid // 20_000, 1)
        self._bid = max(self._bid + rng.randint(-wide, wide), 1)
        self._ask = self._bid + rng.randint(1, 2)
        self.sequence += 1
        if quiet:
            return
        yield self.quote(said_ns)
        if time_ns - self._book_ns >= _BOOK_EVERY_NS:
            self._book_ns = time_ns
            yield self.book(said_ns)

    def _trade(self, time_ns: int, said_ns: int) -> Trade:
        side = self._rng.choice((Side.BUY, Side.SELL))
        ticks = self._ask if side is Side.BUY else self._bid
        size = self._size(self._rng.uniform(0.02, 0.4))
        self._trade_number += 1
        second = time_ns - time_ns % SECOND_NS
        bar = Bar(second, ticks, ticks, ticks, ticks, int(size / self.listing.lot), 1)
        if second in self._seconds:
            self._seconds[second].add(bar)
        else:
            self._seconds[second] = bar
            if len(self._seconds) > _SECONDS_KEPT:
                del self._seconds[next(iter(self._seconds))]
        trade = Trade(self.id, said_ns, ticks * self.listing.tick, size, side, str(self._trade_number))
        self.tape.append(trade)
        return trade


Changes = list[tuple[Decimal, Decimal]]


def book_changes(before: Book | None, after: Book) -> tuple[Changes, Changes]:
    """Give prices with their new quantity (zero: gone) on either side, best first: what leads from one to the other."""
    sides: list[Changes] = []
    for name, falling in (("bids", True), ("asks", False)):
        old = {level.price: level.quantity for level in getattr(before, name, ())}
        new = {level.price: level.quantity for level in getattr(after, name)}
        changed = {price: size for price, size in new.items() if old.get(price) != size}
        changed |= {price: Decimal(0) for price in old.keys() - new.keys()}
        sides.append(sorted(changed.items(), reverse=falling))
    return sides[0], sides[1]


def _filled(bars: list[Bar], step_ns: int, until_ns: int) -> list[Bar]:
    whole: list[Bar] = []
    for bar in bars:
        while whole and whole[-1].open_ns + step_ns < bar.open_ns:
            whole.append(_flat(whole[-1], step_ns))
        whole.append(bar)
    while whole and whole[-1].open_ns + step_ns < until_ns:
        whole.append(_flat(whole[-1], step_ns))
    return whole


def _flat(bar: Bar, step_ns: int) -> Bar:
    return Bar(bar.open_ns + step_ns, bar.close, bar.close, bar.close, bar.close, 0, 0)
