"""What is known of one instrument's market, and how much of what it shows we have used up already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from koc_qt.domain.exact import EXACT, quotient
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.market import Bar, Book, BookLevel, Quote, Side, Trade
from koc_qt.domain.matching.working import OpenOrders, WorkingOrder

_ZERO = Decimal(0)

Level = tuple[Decimal, Decimal]  # price and quantity


class Market:
    """One instrument's newest book, quote, trade and bar, and the account's open orders on it.

    The displayed ladder is the book, with a newer quote in place of its top: levels better than the quote are gone.
    `sweep` is the newest trade since ladder news; the levels that it must have used up are not available either.
    """

    __slots__ = (
        "_close",
        "_closed",
        "bar",
        "book",
        "has_ladder",
        "instrument",
        "orders",
        "quote",
        "sweep",
        "trade",
        "used_asks",
        "used_bids",
        "worn",
    )

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.orders = OpenOrders()
        self.quote: Quote | None = None
        self.book: Book | None = None
        self.has_ladder = False  # whether a quote or a book is known
        self.trade: Trade | None = None
        self.sweep: Trade | None = None
        self.bar: Bar | None = None
        self._closed: Bar | None = None  # whose close `_close` is
        self._close = _ZERO
        self.used_asks: dict[Decimal, Decimal] = {}
        self.used_bids: dict[Decimal, Decimal] = {}
        self.worn = False

    @property
    def has_ticks(self) -> bool:
        """Whether anything finer than bars is known."""
        return self.trade is not None or self.has_ladder

    @property
    def is_known(self) -> bool:
        """Whether anything at all is known."""
        return self.has_ticks or self.bar is not None

    def forget(self) -> None:
        """Forget everything, because data may be missing from here on; open orders stay."""
        self.quote = self.book = self.trade = self.sweep = self.bar = None
        self.has_ladder = False
        self.used_asks.clear()
        self.used_bids.clear()
        self.worn = False

    # ---- the ladder -----------------------------------------------------------------------------------------------

    def displayed(self, asks: bool) -> list[Level]:
        """Give one side's ladder as the venue shows it, best first."""
        levels: Sequence[BookLevel] = ()
        if self.book is not None:
            levels = self.book.asks if asks else self.book.bids
        quote = self.quote
        if quote is None:
            return [(level.price, level.quantity) for level in levels if level.quantity > 0]
        price, size = (quote.ask, quote.ask_size) if asks else (quote.bid, quote.bid_size)
        if price <= 0:  # this side of the market is empty
            return []
        ladder = [(price, size)] if size > 0 else []
        deeper = (level for level in levels if (level.price > price if asks else level.price < price))
        return ladder + [(level.price, level.quantity) for level in deeper if level.quantity > 0]

    def available(self, is_buy: bool) -> list[Level]:
        """Give what an order of this side could take, best first: displayed, less what is used up."""
        used = self.used_asks if is_buy else self.used_bids
        sweep = self._sweep(is_buy)
        if sweep is None and not used:
            return self.displayed(is_buy)
        levels = []
        for price, size in self.displayed(is_buy):
            if sweep is not None and (price < sweep.price if is_buy else price > sweep.price):
                continue
            if sweep is not None and price == sweep.price:
                size = EXACT.subtract(size, sweep.quantity)
            size = EXACT.subtract(size, used.get(price, _ZERO))
            if size > 0:
                levels.append((price, size))
        return levels

    def is_beyond(self, is_buy: bool, limit: Decimal) -> bool:
        """Whether not even the top of what is displayed is within a limit, used up or not; cheap, for frequent use."""
        if self.quote is not None:
            top = self.quote.ask if is_buy else self.quote.bid
        else:
            levels = () if self.book is None else self.book.asks if is_buy else self.book.bids
            if not levels:
                return True
            top = levels[0].price
        return top > limit if is_buy else top < limit

    def best(self, is_buy: bool) -> Decimal | None:
        """Give the best price that an order of this side could take, None without one."""
        if not self.has_ladder:
            return None
        levels = self.available(is_buy)
        return levels[0][0] if levels else None

    def _sweep(self, is_buy: bool) -> Trade | None:
        """Give the trade that took what an order of this side would take, if it is newer than the ladder."""
        sweep = self.sweep
        if sweep is None or (sweep.side is Side.BUY) is not is_buy:
            return None
        ladder = self.quote or self.book
        return sweep if ladder is not None and sweep.time_ns >= ladder.time_ns else None

    def consume(self, is_buy: bool, price: Decimal, quantity: Decimal) -> None:
        """Note that an order of this side took `quantity` of the level at `price`."""
        used = self.used_asks if is_buy else self.used_bids
        used[price] = EXACT.add(used.get(price, _ZERO), quantity)
        self.worn = True

    def refresh(self) -> None:
        """Reconsider what is used up after ladder news.

        The real market never saw our orders and shows the same size again. So a level stays used up as long as it is
        displayed: of a growing one the growth is new, of a shrinking one no more can be used up than is left, and one
        that vanished is forgotten.
        """
        for asks, used in ((True, self.used_asks), (False, self.used_bids)):
            if used:
                shown = dict(self.displayed(asks))
                for price in tuple(used):
                    if price in shown:
                        used[price] = min(used[price], shown[price])
                    else:
                        del used[price]
        self.worn = bool(self.used_asks or self.used_bids)

    def move_up(self, orders: Iterable[WorkingOrder], is_buy: bool) -> None:
        """Let resting orders of one side, best first, move up to what is displayed at their price.

        No more than that can be ahead of them. Below the deepest level nothing is known.
        """
        levels = self.displayed(not is_buy)
        if not levels:
            return
        sizes, deepest = dict(levels), levels[-1][0]
        for work in orders:
            limit = work.limit
            if limit is None or (limit < deepest if is_buy else limit > deepest):
                break
            if work.ahead is None or work.ahead:
                shown = sizes.get(limit, _ZERO)
                work.ahead = shown if work.ahead is None else min(work.ahead, shown)

    # ---- single prices --------------------------------------------------------------------------------------------

    @property
    def mark(self) -> Decimal | None:
        """The middle of the market, else the last trade, else the last bar's close; None when nothing is known."""
        if not self.has_ladder:
            return self.last
        bids, asks = self.displayed(asks=False), self.displayed(asks=True)
        if bids and asks:
            return quotient(EXACT.add(bids[0][0], asks[0][0]), Decimal(2))
        return self.last

    @property
    def last(self) -> Decimal | None:
        """The last trade's price, else the last bar's close; None when neither is known."""
        if self.trade is not None:
            return self.trade.price
        bar = self.bar
        if bar is None:
            return None
        if bar is not self._closed:
            self._closed, self._close = bar, exact_price(bar.close)
        return self._close

    def reaches(self, is_buy: bool, stop: Decimal) -> bool:
        """Whether a stop's price is reached by the last trade, else by what it would take, else by the last close."""
        price = self.trade.price if self.trade is not None else None
        if price is None and self.has_ladder:
            levels = self.displayed(is_buy)
            price = levels[0][0] if levels else None
        elif price is None:
            price = self.last
        if price is None:
            return False
        return price >= stop if is_buy else price <= stop


def exact_price(price: float) -> Decimal:
    """Give the decimal that a bar's float was written as."""
    return Decimal(repr(float(price)))
