"""What Polygon.io (Massive) sends, as domain facts; its names of stocks and pairs, and the rules of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from koc_qt.adapters.data_only import DAY_NS, MalformedError, Row
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Quote, Side, Trade

VENUE = "polygon"
MS_NS = 1_000_000
_TICKER = re.compile(r"[A-Z][A-Za-z0-9.]{0,11}", re.ASCII)
_PAIR = re.compile(r"([A-Z0-9]{1,12})/([A-Z]{3,4})", re.ASCII)
_CURRENCIES = ("USDT", "USD", "EUR", "GBP", "JPY", "AUD", "CAD", "BTC")
# Reported late or at a price that was agreed otherwise: they move neither high nor low nor last.
# https://massive.com/glossary/conditions-indicators
_NOT_THE_MARKET = frozenset({2, 7, 15, 16, 20, 21, 29, 38, 52, 53})
_SELL_SIDE, _BUY_SIDE = 1, 2  # conditions of crypto trades


def ticker_of(symbol: str) -> str | None:
    """Give the venue's name of a symbol; None where it can be none."""
    pair = _PAIR.fullmatch(symbol)
    if pair:
        return f"X:{pair[1]}{pair[2]}"
    return symbol if _TICKER.fullmatch(symbol) else None


def instrument_of(ticker: str, close: Any) -> Instrument | None:
    """Give the rules of a ticker; the venue states none, so that the tick follows from the price."""
    if ticker.startswith("X:"):
        pair = ticker.removeprefix("X:")
        quote = next((each for each in _CURRENCIES if pair.endswith(each) and pair != each), None)
        symbol = f"{pair.removesuffix(quote)}/{quote}" if quote else ""
        if quote is None or ticker_of(symbol) != ticker:
            return None
        is_small = isinstance(close, int | float) and close < 1
        tick = "0.00000001" if is_small or quote == "BTC" else "0.01"
        base = pair.removesuffix(quote)
        return Instrument(InstrumentId(VENUE, symbol), base, quote, Decimal(tick), Decimal("0.00000001"))
    if not _TICKER.fullmatch(ticker):
        return None
    tick = "0.0001" if isinstance(close, int | float) and close < 1 else "0.01"
    return Instrument(InstrumentId(VENUE, ticker), ticker, "USD", Decimal(tick), Decimal("0.000000001"))


def topics_of(symbol: str) -> tuple[str, str]:
    """Name what carries a symbol's trades, and its quotes."""
    if "/" in symbol:
        pair = symbol.replace("/", "-")
        return f"XT.{pair}", f"XQ.{pair}"
    return f"T.{symbol}", f"Q.{symbol}"


def bar_row(raw: Mapping[str, Any], *, by_day: bool) -> Row:
    """Give a bar's opening time and numbers."""
    open_ns = int(raw["t"]) * MS_NS
    if by_day:  # New York's midnight is UTC's morning of the same day
        open_ns -= open_ns % DAY_NS
    return open_ns, raw.get("o"), raw.get("h"), raw.get("l"), raw.get("c"), raw.get("v")


def above_zero(item: Mapping[str, Any], field: str) -> Decimal:
    """Give a price or size. Raises MalformedError."""
    value = item.get(field)
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not value > 0:
        raise MalformedError(f"{field} is {value!r}, not a number above zero")
    return Decimal(value)


def time_ns(item: Mapping[str, Any]) -> int:
    """Give a message's time, UTC nanoseconds. Raises MalformedError."""
    time_ms = item.get("t")
    if isinstance(time_ms, bool) or not isinstance(time_ms, int) or time_ms <= 0:
        raise MalformedError(f"t is {time_ms!r}, not milliseconds since 1970")
    return time_ms * MS_NS


def read_quote(instrument: InstrumentId, item: Mapping[str, Any]) -> Quote:
    """Read a best bid and offer. Raises MalformedError for one that is crossed or locked."""
    bid, ask = above_zero(item, "bp"), above_zero(item, "ap")
    if bid >= ask:
        raise MalformedError(f"crossed quote: bid {bid}, ask {ask}")
    return Quote(instrument, time_ns(item), bid, above_zero(item, "bs"), ask, above_zero(item, "as"))


def is_the_market(item: Mapping[str, Any]) -> bool:
    """Tell whether a trade is one that bars are made of."""
    return item["ev"] == "XT" or not _NOT_THE_MARKET.intersection(item.get("c") or ())


def read_trade(instrument: InstrumentId, item: Mapping[str, Any], guess: Side) -> Trade:
    """Read a trade; `guess` is its side where the venue tells none. Raises MalformedError.

    Shares that are not whole are in `ds`, https://massive.com/docs/websocket/stocks/trades
    """
    conditions, side = item.get("c") or (), guess
    if item["ev"] == "XT" and (_BUY_SIDE in conditions or _SELL_SIDE in conditions):
        side = Side.BUY if _BUY_SIDE in conditions else Side.SELL
    size = Decimal(str(item["ds"])) if item.get("ds") else above_zero(item, "s")
    if not size > 0:
        raise MalformedError(f"size {size}")
    trade_id = f"{item.get('x', '')}:{item['i']}"
    return Trade(instrument, time_ns(item), above_zero(item, "p"), size, side, trade_id)
