"""What Alpaca writes, turned into domain facts and back; past this module nobody sees its rows.

https://docs.alpaca.markets/reference for orders, positions, activities, assets and bars. Amounts of trading are text
and read digit for digit. Market data are binary numbers, of which the shortest decimal that means the same is taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from koc_qt.adapters.ccxt_facts import MalformedError, exact
from koc_qt.adapters.order_tracker import OrderUpdate
from koc_qt.adapters.venues.alpaca.abilities import is_crypto
from koc_qt.domain.errors import InvalidOrder
from koc_qt.domain.exact import EXACT
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar, Quote, Side, Trade
from koc_qt.domain.orders import Liquidity, Order, OrderRequest, OrderStatus, OrderType, TimeInForce
from koc_qt.domain.state import Balance
from koc_qt.domain.timeframes import bar_open_ns
from koc_qt.domain.venues import VenueOrder, VenuePosition, VenueTrade

Row = Mapping[str, Any]

VENUE = "alpaca"
CLIENT_ID_LIMIT = 128  # characters
MAKER_FEE, TAKER_FEE = Decimal("0.0015"), Decimal("0.0025")  # of crypto, below 100,000 USD a month
_ZERO = Decimal(0)
_LEAST = Decimal(1)  # USD that an order of crypto, or for a part of a share, has to be worth
_S_NS = 1_000_000_000
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)")
_SUFFIX = re.compile(r"~[0-9a-f]{6,}$")  # what sets an order that replaces ours apart from it
_ENDINGS = {
    "filled": OrderStatus.FILLED,
    "canceled": OrderStatus.CANCELED,
    "expired": OrderStatus.EXPIRED,
    "rejected": OrderStatus.REJECTED,
}
_WAITS = "the market is closed: Alpaca keeps the order until it opens"
_DAY_IS_OVER = "it was good for the day, which is over"


# ---- times and numbers -----------------------------------------------------------------------------------------------


def time_ns(value: object) -> int:
    """Read RFC 3339 with up to nine decimals, or a MessagePack timestamp, as UTC nanoseconds. Raises MalformedError."""
    if hasattr(value, "seconds") and hasattr(value, "nanoseconds"):
        return int(value.seconds) * _S_NS + int(value.nanoseconds)
    form = _TIME.fullmatch(value) if isinstance(value, str) else None
    if form is None:
        raise MalformedError(f"{value!r} is no time")
    zone = "+00:00" if form[3] == "Z" else form[3]
    try:
        seconds = int(datetime.fromisoformat(form[1] + zone).timestamp())
    except (ValueError, OverflowError) as error:
        raise MalformedError(f"{value!r} is no time") from error
    return seconds * _S_NS + int((form[2] or "0").ljust(9, "0"))


def rfc3339(at_ns: int) -> str:
    """Write a time in full."""
    return f"{datetime.fromtimestamp(at_ns // _S_NS, UTC):%Y-%m-%dT%H:%M:%S}.{at_ns % _S_NS:09d}Z"


def amount(row: Row, field: str) -> Decimal | None:
    """Give a number, or None where there is none. Raises MalformedError."""
    value = row.get(field)
    return None if value is None or value == "" else exact(value, field)


def _above_zero(row: Row, field: str) -> Decimal:
    number = exact(row.get(field), field)
    if number <= 0:
        raise MalformedError(f"{field} is {number}, not above zero")
    return number


def _side(row: Row) -> Side:
    side = str(row.get("side", "")).lower()
    if side not in ("buy", "sell", "sell_short"):
        raise MalformedError(f"side is {side!r}, neither buy nor sell")
    return Side.BUY if side == "buy" else Side.SELL


def plain(number: Decimal) -> str:
    """Write an amount for a request."""
    return f"{number:f}"


# ---- instruments and market data -------------------------------------------------------------------------------------


def instrument(row: Row) -> Instrument:
    """Read an asset's rules. Raises MalformedError."""
    symbol = str(row.get("symbol") or "")
    crypto = row.get("class", row.get("asset_class")) == "crypto"
    base, _, quote = symbol.partition("/")
    if not symbol or is_crypto(symbol) is not crypto:
        raise MalformedError(f"an asset called {symbol!r} of class {row.get('class')!r}")
    try:
        if crypto:
            return Instrument(
                InstrumentId(VENUE, symbol),
                base,
                quote,
                tick_size=_above_zero(row, "price_increment"),
                lot_size=_above_zero(row, "min_trade_increment"),
                min_quantity=_above_zero(row, "min_order_size"),
                min_notional=_LEAST if quote.startswith("USD") else _ZERO,
                maker_fee=MAKER_FEE,
                taker_fee=TAKER_FEE,
            )
        part = bool(row.get("fractionable"))
        lot = Decimal("0.000000001") if part else Decimal(1)
        least = _LEAST if part else _ZERO
        return Instrument(InstrumentId(VENUE, symbol), symbol, "USD", Decimal("0.01"), lot, lot, min_notional=least)
    except InvalidOrder as error:
        raise MalformedError(str(error)) from error


def instruments(rows: Iterable[Row]) -> tuple[dict[str, Instrument], list[str]]:
    """Read all assets that trade, by symbol; and why others could not be read."""
    found: dict[str, Instrument] = {}
    refused: list[str] = []
    for row in rows:
        if row.get("tradable") and row.get("status") == "active":
            try:
                read = instrument(row)
            except MalformedError as error:
                refused.append(str(error))
            else:
                found[read.id.symbol] = read
    return found, refused


def bar(instrument_id: InstrumentId, timeframe: str, row: Row) -> Bar:
    """Read a bar. A day of a stock begins at midnight in New York there, here in UTC. Raises MalformedError."""
    open_ns = time_ns(row.get("t"))
    if timeframe == "1d" and not is_crypto(instrument_id.symbol):
        open_ns = bar_open_ns(open_ns, "1d")
    numbers = [float(exact(row.get(field), field)) for field in ("o", "h", "l", "c", "v")]
    return Bar(instrument_id, timeframe, open_ns, *numbers)


def trade(instrument_id: InstrumentId, row: Row, quote_before: Quote | None, price_before: Decimal | None) -> Trade:
    """Read a trade of a stream; who took is told for crypto alone, and guessed for stocks. Raises MalformedError.

    At the ask or above somebody bought, at the bid or below somebody sold, in between it goes by the last price.
    """
    price = _above_zero(row, "p")
    told = {"B": Side.BUY, "S": Side.SELL}.get(str(row.get("tks", "")))
    if row.get("i") is None:
        raise MalformedError("a trade without an id")
    if told is None:
        told = Side.BUY if price_before is None or price >= price_before else Side.SELL
        if quote_before is not None and (price >= quote_before.ask or price <= quote_before.bid):
            told = Side.BUY if price >= quote_before.ask else Side.SELL
    place = row.get("x")
    trade_id = f"{place}{row['i']}" if place else str(row["i"])
    return Trade(instrument_id, time_ns(row.get("t")), price, _above_zero(row, "s"), told, trade_id)


def quote(instrument_id: InstrumentId, row: Row) -> Quote:
    """Read a quote of a stream. Raises MalformedError, also for one without one of its sides, crossed or locked."""
    bid, ask = _above_zero(row, "bp"), _above_zero(row, "ap")
    if bid >= ask:
        raise MalformedError(f"crossed quote: bid {bid}, ask {ask}")
    at_ns = time_ns(row.get("t"))
    return Quote(instrument_id, at_ns, bid, _above_zero(row, "bs"), ask, _above_zero(row, "as"))


# ---- orders ----------------------------------------------------------------------------------------------------------


def order_body(order: Order) -> dict[str, Any]:
    """Write a new order as POST /v2/orders takes it. Raises InvalidOrder where it cannot be written.

    Stocks: what is for parts of a share, and what has nothing to wait for, is good for the day.
    """
    request = order.request
    _require_id(order.client_order_id)
    body: dict[str, Any] = {
        "symbol": request.instrument.symbol,
        "qty": plain(request.quantity),
        "side": request.side.value,
        "type": request.type.value,
        "time_in_force": _time_in_force(request),
        "client_order_id": order.client_order_id,
    }
    if request.price is not None:
        body["limit_price"] = plain(request.price)
    if request.stop_price is not None:
        body["stop_price"] = plain(request.stop_price)
    return body


def _time_in_force(request: OrderRequest) -> str:
    if is_crypto(request.instrument.symbol) or request.time_in_force is not TimeInForce.GTC:
        return request.time_in_force.value
    return "day" if request.type is OrderType.MARKET or request.quantity % 1 else "gtc"


def _require_id(client_order_id: str) -> None:
    if not 0 < len(client_order_id) <= CLIENT_ID_LIMIT:
        raise InvalidOrder(f"Alpaca takes ids of at most {CLIENT_ID_LIMIT} characters, not {len(client_order_id)}")


def replacing_id(client_order_id: str, at_ns: int) -> str:
    """Give an id for the order that is to replace ours: ids are never used twice. Raises InvalidOrder."""
    made = f"{_SUFFIX.sub('', client_order_id)}~{at_ns // 1000:x}"
    _require_id(made)
    return made


def our_id(row: Row) -> str:
    """Give our id of an order, also of one that replaced it."""
    return _SUFFIX.sub("", str(row.get("client_order_id") or ""))


def venue_id(row: Row) -> str:
    """Give an order's id at Alpaca. Raises MalformedError."""
    if not row.get("id"):
        raise MalformedError("an order without an id")
    return str(row["id"])


def filled_of(row: Row) -> Decimal:
    """Give what is executed of an order; of one that replaced another, that other's part is not in it."""
    return amount(row, "filled_qty") or _ZERO


def terms(row: Row, filled_before: Decimal) -> tuple[Decimal | None, Decimal | None]:
    """Give an order's total quantity, with what the orders before it have executed, and its limit."""
    quantity = amount(row, "qty")
    return None if quantity is None else EXACT.add(quantity, filled_before), amount(row, "limit_price")


def update(row: Row, filled_before: Decimal, otherwise_ns: int) -> OrderUpdate:
    """Read what an order's row says of its state. Raises MalformedError."""
    filled = EXACT.add(filled_of(row), filled_before)
    word = str(row.get("status") or "")
    status, reason = _ENDINGS.get(word), ""
    if status is None:
        status = OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.ACCEPTED
        reason = _WAITS if word == "accepted" and not is_crypto(str(row.get("symbol"))) else ""
    elif status is OrderStatus.EXPIRED:
        reason = _DAY_IS_OVER if row.get("time_in_force") == "day" else "Alpaca says that it has expired"
    times = (row.get(field) for field in ("updated_at", "submitted_at", "created_at"))
    at = next((value for value in times if value), None)
    return OrderUpdate(
        status=status,
        time_ns=time_ns(at) if at else otherwise_ns,
        client_order_id=our_id(row),
        venue_order_id=venue_id(row),
        filled=filled,
        reason=reason,
    )


def open_order(row: Row) -> VenueOrder:
    """Read an order that works. Raises MalformedError."""
    kind = str(row.get("type") or row.get("order_type") or "")
    kinds: dict[str, OrderType] = {each.value: each for each in OrderType}
    at = row.get("submitted_at") or row.get("created_at")
    return VenueOrder(
        venue_order_id=venue_id(row),
        client_order_id=our_id(row),
        symbol=str(row.get("symbol") or ""),
        side=_side(row),
        type=kinds.get(kind, OrderType.STOP),  # a trailing stop, made elsewhere
        quantity=amount(row, "qty") or filled_of(row),
        filled_quantity=filled_of(row),
        price=amount(row, "limit_price"),
        stop_price=amount(row, "stop_price"),
        time_ns=time_ns(at),
    )


# ---- executions ------------------------------------------------------------------------------------------------------


def maker_price(order: Row) -> Decimal | None:
    """Give the price at which an order's fills count as made: its limit, where it may rest. Raises MalformedError."""
    rests = order.get("type") == "limit" and order.get("time_in_force") in ("gtc", "day")
    return amount(order, "limit_price") if rests else None


def execution(
    row: Row, symbol: str, client_order_id: str, makes_at: Decimal | None, order: Row | None = None
) -> VenueTrade:
    """Read an execution: an activity, or with `order` the data of a trade update. Raises MalformedError.

    Its id is the order's with the quantity that it brought that to, for activities and updates have ids of their own.
    """
    order_id = venue_id(order) if order is not None else str(row.get("order_id") or "")
    total = filled_of(order) if order is not None else amount(row, "cum_qty")
    if not order_id or not total:
        raise MalformedError("an execution without its order's id and quantity")
    price, quantity = _above_zero(row, "price"), _above_zero(row, "qty")
    if quantity > total:
        raise MalformedError(f"an execution of {quantity} in an order with {total}")
    liquidity = Liquidity.MAKER if price == makes_at else Liquidity.TAKER
    rate = _ZERO if not is_crypto(symbol) else MAKER_FEE if liquidity is Liquidity.MAKER else TAKER_FEE
    return VenueTrade(
        fill_id=f"{order_id}:{total.normalize():f}",
        venue_order_id=order_id,
        client_order_id=client_order_id,
        symbol=symbol,
        side=_side(row if order is None else order),
        price=price,
        quantity=quantity,
        fee=EXACT.multiply(EXACT.multiply(price, quantity), rate),
        fee_currency=symbol.partition("/")[2] or "USD",
        liquidity=liquidity,
        time_ns=time_ns(row.get("transaction_time") or row.get("timestamp")),
    )


# ---- the account -----------------------------------------------------------------------------------------------------


def position(row: Row, pairs: Mapping[str, str]) -> VenuePosition:
    """Read a position; `pairs` gives a pair's symbol for its name without a slash. Raises MalformedError."""
    name = str(row.get("symbol") or "")
    quantity = exact(row.get("qty"), "qty")
    if row.get("side") == "short":
        quantity = -abs(quantity)
    return VenuePosition(pairs.get(name, name), quantity, amount(row, "avg_entry_price"))


def pairs_of(symbols: Iterable[str]) -> dict[str, str]:
    """Give pairs by their names without the slash, as positions have them."""
    return {symbol.replace("/", ""): symbol for symbol in symbols if is_crypto(symbol)}


def balances(account: Row, held: Iterable[Row], working: Iterable[Row], pairs: Mapping[str, str]) -> list[Balance]:
    """Give cash, and what is held, with what open orders reserve of either. Raises MalformedError.

    Shorts are left out: they are positions. A buy without a limit or stop reserves what Alpaca does not tell.
    """
    currency = str(account.get("currency") or "USD")
    reserved = _ZERO
    for row in working:
        price = amount(row, "limit_price") or amount(row, "stop_price")
        if _side(row) is Side.BUY and price is not None:
            left = EXACT.subtract(amount(row, "qty") or filled_of(row), filled_of(row))
            reserved = EXACT.add(reserved, EXACT.multiply(left, price))
    cash = exact(account.get("cash"), "cash")
    found = [Balance(currency, cash, min(reserved, max(cash, _ZERO)))]
    for row in held:
        read = position(row, pairs)
        free = amount(row, "qty_available")
        if read.quantity > 0:
            locked = _ZERO if free is None else max(EXACT.subtract(read.quantity, free), _ZERO)
            found.append(Balance(read.symbol.partition("/")[0], read.quantity, locked))
    return found
