"""ccxt's unified dicts turned into domain facts; past this module nobody sees a raw dict.

The structures are those of ccxt's manual (trade, ticker, order book, market and OHLCV structure). Whatever cannot be a
fact, such as a missing price, a negative size or a crossed quote, raises MalformedError with what was wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from koc_qt.domain.errors import InvalidOrder
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar, Book, BookLevel, Quote, Side, Trade

MS_NS = 1_000_000


class MalformedError(ValueError):
    """A message of the venue that is no fact; says what is wrong with it."""


def exact(value: object, what: str) -> Decimal:
    """Give the number that a float, int or text writes down, digit for digit. Raises MalformedError."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise MalformedError(f"{what} is {value!r}, not a number")
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise MalformedError(f"{what} is {value!r}, not a number") from None
    if not number.is_finite():
        raise MalformedError(f"{what} is {value!r}, not a finite number")
    return number


def _above_zero(raw: Mapping[str, Any], field: str) -> Decimal:
    number = exact(raw.get(field), field)
    if number <= 0:
        raise MalformedError(f"{field} is {number}, not above zero")
    return number


def _time_ns(raw: Mapping[str, Any], otherwise_ns: int | None = None) -> int:
    """Give the fact's time, which ccxt has in milliseconds, or `otherwise_ns` where the venue sends none."""
    time_ms = raw.get("timestamp")
    if time_ms is None and otherwise_ns is not None:
        return otherwise_ns
    if isinstance(time_ms, bool) or not isinstance(time_ms, int) or time_ms <= 0:
        raise MalformedError(f"timestamp is {time_ms!r}, not milliseconds since 1970")
    return time_ms * MS_NS


def trade(instrument: InstrumentId, raw: Mapping[str, Any]) -> Trade:
    """Read a trade. Raises MalformedError."""
    side, trade_id = raw.get("side"), raw.get("id")
    if side not in ("buy", "sell"):
        raise MalformedError(f"side is {side!r}, neither buy nor sell")
    if not trade_id:
        raise MalformedError("a trade without an id")
    return Trade(
        instrument=instrument,
        time_ns=_time_ns(raw),
        price=_above_zero(raw, "price"),
        quantity=_above_zero(raw, "amount"),
        side=Side(side),
        trade_id=str(trade_id),
    )


def quote(instrument: InstrumentId, raw: Mapping[str, Any], received_ns: int) -> Quote:
    """Read a ticker's best bid and offer. Raises MalformedError, also for one that is crossed or locked."""
    bid, ask = _above_zero(raw, "bid"), _above_zero(raw, "ask")
    if bid >= ask:
        raise MalformedError(f"crossed quote: bid {bid}, ask {ask}")
    return Quote(
        instrument=instrument,
        time_ns=_time_ns(raw, received_ns),
        bid=bid,
        bid_size=_above_zero(raw, "bidVolume"),
        ask=ask,
        ask_size=_above_zero(raw, "askVolume"),
    )


def book(instrument: InstrumentId, raw: Mapping[str, Any], depth: int, received_ns: int) -> Book:
    """Read the best `depth` levels of both sides. Raises MalformedError for levels out of order or sides that cross."""
    bids = _levels(raw["bids"][:depth], falling=True)
    asks = _levels(raw["asks"][:depth], falling=False)
    if bids and asks and bids[0].price >= asks[0].price:
        raise MalformedError(f"crossed book: bid {bids[0].price}, ask {asks[0].price}")
    return Book(instrument=instrument, time_ns=_time_ns(raw, received_ns), bids=bids, asks=asks)


def _levels(rows: Sequence[Sequence[Any]], *, falling: bool) -> tuple[BookLevel, ...]:
    levels: list[BookLevel] = []
    for row in rows:
        level = BookLevel(exact(row[0], "a level's price"), exact(row[1], "a level's size"))
        if level.price <= 0 or level.quantity <= 0:
            raise MalformedError(f"level {level.price} x {level.quantity} in the book")
        if levels and (level.price >= levels[-1].price if falling else level.price <= levels[-1].price):
            raise MalformedError(f"levels out of order: {level.price} after {levels[-1].price}")
        levels.append(level)
    return tuple(levels)


def bar(instrument: InstrumentId, timeframe: str, row: object) -> Bar:
    """Read a candle: opening time in milliseconds, open, high, low, close, volume. Raises MalformedError.

    Whether the prices make sense together is checked where bars are kept.
    """
    if not isinstance(row, list) or len(row) < 6 or isinstance(row[0], bool) or not isinstance(row[0], int):
        raise MalformedError(f"candle {row!r} has no opening time and five numbers")
    numbers = [float(exact(value, "a candle's number")) for value in row[1:6]]
    if not all(map(math.isfinite, numbers)):
        raise MalformedError(f"candle {row!r} has a number that is too large")
    return Bar(instrument, timeframe, row[0] * MS_NS, *numbers)


def instrument(venue: str, market: Mapping[str, Any]) -> Instrument:
    """Read a market's rules; ccxt must give its precisions as tick sizes. Raises MalformedError."""
    precision, limits = market["precision"], market["limits"]
    amount, cost = limits.get("amount") or {}, limits.get("cost") or {}
    try:
        return Instrument(
            id=InstrumentId(venue, market["symbol"]),
            base=market["base"],
            quote=market["quote"],
            tick_size=exact(precision.get("price"), "tick size"),
            lot_size=exact(precision.get("amount"), "lot size"),
            min_quantity=_limit(amount.get("min"), "smallest quantity"),
            max_quantity=_limit(amount.get("max"), "largest quantity") or None,
            min_notional=_limit(cost.get("min"), "smallest notional"),
            maker_fee=_limit(market.get("maker"), "maker fee"),
            taker_fee=_limit(market.get("taker"), "taker fee"),
        )
    except InvalidOrder as error:
        raise MalformedError(str(error)) from error


def _limit(value: object, what: str) -> Decimal:
    """Give a limit, zero where the venue states none; a fee may be below zero (a rebate)."""
    return Decimal(0) if value is None else exact(value, what)
