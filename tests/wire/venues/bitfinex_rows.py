"""How Bitfinex writes pairs, orders, trades, wallets and books: arrays of numbers, whose places have a meaning."""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from koc_qt.domain.market import Book, Quote, Side, Trade
from koc_qt.domain.orders import Liquidity, OrderStatus, OrderType, TimeInForce
from tests.wire.core.accounts import User
from tests.wire.core.history import Candle
from tests.wire.core.market import LiveMarket, book_changes
from tests.wire.core.orders import WireFill, WireOrder

MS = 1_000_000
CHECKED_LEVELS = 25
_CURRENCIES = {"USDT": "UST"}
POST_ONLY, STATUS = 4096, 13


def currency(name: str) -> str:
    """Give the venue's name of a currency."""
    return _CURRENCIES.get(name, name)


def pair(symbol: str) -> str:
    """Give the venue's name of a pair: a colon parts names that are longer than three letters."""
    base, quote = (currency(part) for part in symbol.split("/"))
    return f"{base}{quote}" if len(base) == len(quote) == 3 else f"{base}:{quote}"


def number(value: Decimal | None) -> float | int:
    """Give an amount as JSON has it."""
    if value is None:
        return 0
    return int(value) if value == value.to_integral_value() else float(value)


def plain(value: Decimal) -> str:
    """Write an amount as a checksum has it."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def pair_row(market: LiveMarket) -> list[Any]:
    """Write a pair of pub:info:pair."""
    listing = market.listing
    sizes = [plain(listing.min_quantity), plain(listing.max_quantity)]
    return [pair(listing.symbol), [None, None, None, *sizes, None, None, None, 0.2, 0.1, None, None]]


def ticker_row(market: LiveMarket, quote: Quote) -> list[Any]:
    """Write a ticker; the sizes are sums over 25 levels."""
    book = market.book(quote.time_ns)
    bids, asks = (sum((level.quantity for level in side), Decimal(0)) for side in (book.bids, book.asks))
    best = [number(quote.bid), number(bids), number(quote.ask), number(asks)]
    last = number(market.last)
    return [*best, 12.5, 0.002, last, 1200.5, last, last]


def candle_row(candle: Candle) -> list[Any]:
    """Write a candle: opening time, open, close, high, low, volume."""
    prices = (candle.open, candle.close, candle.high, candle.low, candle.volume)
    return [candle.open_ns // MS, *(number(value) for value in prices)]


def tape_row(trade: Trade) -> list[Any]:
    """Write a trade of the market: what was sold is below zero."""
    sign = 1 if trade.side is Side.BUY else -1
    return [int(trade.trade_id), trade.time_ns // MS, number(sign * trade.quantity), number(trade.price)]


def book_rows(book: Book, length: int) -> list[list[Any]]:
    """Write a book: price, number of orders, amount, which is below zero for what is offered."""
    bids = [[number(level.price), 1, number(level.quantity)] for level in book.bids[:length]]
    return bids + [[number(level.price), 1, number(-level.quantity)] for level in book.asks[:length]]


def book_steps(before: Book, after: Book, length: int) -> Iterator[list[Any]]:
    """Write what leads from one book to the next, a level each; a price without orders is gone."""
    cut = [Book(each.instrument, each.time_ns, each.bids[:length], each.asks[:length]) for each in (before, after)]
    changes = [(sign, *change) for sign, side in zip((1, -1), book_changes(*cut), strict=True) for change in side]
    for sign, price, size in sorted(changes, key=lambda change: change[2] > 0):  # first what is gone
        yield [number(price), 1, number(sign * size)] if size else [number(price), 0, sign]


def checksum(book: Book) -> int:
    """Give the signed CRC-32 over the best 25 levels: price and amount of a bid, then of an ask."""
    parts: list[str] = []
    for at in range(CHECKED_LEVELS):
        if at < len(book.bids):
            parts += [plain(book.bids[at].price), plain(book.bids[at].quantity)]
        if at < len(book.asks):
            parts += [plain(book.asks[at].price), plain(-book.asks[at].quantity)]
    unsigned = binascii.crc32(":".join(parts).encode())
    return unsigned - (1 << 32) if unsigned >= 1 << 31 else unsigned


def type_of(order: WireOrder) -> str:
    """Name an order's type, which changes when a stop goes off."""
    if order.extra.get("triggered"):
        return "EXCHANGE LIMIT" if order.type is OrderType.STOP_LIMIT else "EXCHANGE MARKET"
    if order.time_in_force is not TimeInForce.GTC and order.type is OrderType.LIMIT:
        return f"EXCHANGE {order.time_in_force.value.upper()}"
    return f"EXCHANGE {order.type.value.upper().replace('_', ' ')}"


def status_of(order: WireOrder) -> str:
    """Write an order's status with what was executed."""
    average = plain(order.average.quantize(Decimal("1e-8"))) if order.average is not None else ""
    done = f"@ {average}({plain(order.filled)})"
    partly = f"PARTIALLY FILLED {done}" if order.filled else ""
    if order.status is OrderStatus.FILLED:
        return f"EXECUTED {done}"
    if not order.status.is_terminal:
        return partly or "ACTIVE"
    words = "CANCELED"
    if order.status is OrderStatus.REJECTED:
        words = "POSTONLY CANCELED"
    elif order.status is OrderStatus.EXPIRED and order.type is OrderType.LIMIT:
        words = "FILLORKILL CANCELED" if order.time_in_force is TimeInForce.FOK else "IOC CANCELED"
    return f"{words} was: {partly}" if partly else words


def order_row(order: WireOrder) -> list[Any]:
    """Write an order; the price of a stop that waits is its trigger."""
    sign = order.side.sign
    triggered = order.extra.get("triggered")
    stop = None if triggered else order.stop_price
    before = f"EXCHANGE {order.type.value.upper().replace('_', ' ')}" if triggered else None
    row: list[Any] = [
        int(order.id),
        None,
        order.extra.get("cid"),
        f"t{pair(order.symbol)}",
        order.created_ns // MS,
        order.updated_ns // MS,
        number(sign * order.remaining),
        number(sign * order.quantity),
        type_of(order),
        before,
        None,
        None,
        POST_ONLY if order.post_only else 0,
        status_of(order),
        None,
        None,
        number(order.price if stop is None else stop),
        number(order.average.quantize(Decimal("1e-8")) if order.average is not None else None),
        0,
        number(order.price) if stop is not None and order.price is not None else 0,
        *(None, None, None),
        0,
        0,
        None,
        *(None, None),
        "API>BFX",
        *(None, None),
        {"$F7": 1} if order.post_only else {},
    ]
    return row


def trade_row(order: WireOrder, fill: WireFill, *, with_fee: bool = True) -> list[Any]:
    """Write an execution; its fee is below zero, and is told by the second of its two messages alone."""
    fee = [number(-fill.fee), currency(fill.fee_currency)] if with_fee else [None, None]
    return [
        int(fill.id),
        f"t{pair(order.symbol)}",
        fill.time_ns // MS,
        int(order.id),
        number(order.side.sign * fill.quantity),
        number(fill.price),
        type_of(order),
        number(order.price),
        1 if fill.liquidity is Liquidity.MAKER else -1,
        *fee,
        order.extra.get("cid"),
    ]


def wallet_row(user: User, name: str) -> list[Any]:
    """Write a wallet."""
    held = user.balances()[name]
    return ["exchange", currency(name), number(held.total), 0, number(held.total - held.locked), None, None]
