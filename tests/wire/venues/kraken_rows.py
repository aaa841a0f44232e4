"""How the simulated Kraken writes things down: REST rows and frames of its WebSocket v2.

https://docs.kraken.com/api-reference (REST) and https://docs.kraken.com/exchange/api-reference/spot-websocket-v2
"""

from __future__ import annotations

import zlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from koc_qt.domain.market import Book, BookLevel, Side
from koc_qt.domain.orders import Liquidity, OrderStatus, OrderType
from tests.wire.core.history import Candle
from tests.wire.core.listings import Listing, Trading
from tests.wire.core.market import LiveMarket, book_changes
from tests.wire.core.orders import Happened, OrderUpdate, WireFill, WireOrder

_CODES = {"BTC": ("XXBT", "XBT"), "ETH": ("XETH", "ETH"), "USD": ("ZUSD", "USD"), "EUR": ("ZEUR", "EUR")}
_STATUS = {Trading.OPEN: "online", Trading.CLOSED: "cancel_only"}
_STATES = {
    OrderStatus.FILLED: "closed",
    OrderStatus.CANCELED: "canceled",
    OrderStatus.EXPIRED: "canceled",
    OrderStatus.REJECTED: "canceled",
}
ORDER_TYPES = {
    "market": OrderType.MARKET,
    "limit": OrderType.LIMIT,
    "stop-loss": OrderType.STOP,
    "stop-loss-limit": OrderType.STOP_LIMIT,
}
_TYPE_NAMES = {kind: name for name, kind in ORDER_TYPES.items()}
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_ZERO = Decimal(0)

encode = msgspec.json.Encoder(decimal_format="number").encode  # frames have numbers, with their trailing zeros


def txid(letter: str, number: int) -> str:
    """Make an id such as OQCLML-BW3P3-BUCMWZ."""
    text = "".join(_LETTERS[number >> 5 * place & 31] for place in range(15, -1, -1))
    return f"{letter}{text[:5]}-{text[5:10]}-{text[10:]}"


def asset(currency: str) -> tuple[str, str]:
    """Give an asset's id and its other name: XXBT and XBT."""
    return _CODES.get(currency, (currency, currency))


def pair(symbol: str) -> tuple[str, str, str]:
    """Give a pair's id, its other name and its name in streams of old: XXBTZUSD, XBTUSD and XBT/USD."""
    base, quote = (asset(currency) for currency in symbol.split("/"))
    altname = base[1] + quote[1]
    is_old = all(currency in _CODES for currency in symbol.split("/"))
    return (base[0] + quote[0] if is_old else altname, altname, f"{base[1]}/{quote[1]}")


def decimals(listing: Listing) -> int:
    """Give the number of a price's decimals."""
    exponent = listing.tick.normalize().as_tuple().exponent
    return max(-int(exponent), 0)


def stamp(time_ns: int) -> str:
    """Write a time as streams do."""
    whole = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{time_ns % 1_000_000_000 // 1000:06d}Z"


def seconds(time_ns: int) -> float:
    """Write a time as REST does."""
    return time_ns // 1000 / 1e6


def pair_row(market: LiveMarket) -> dict[str, Any]:
    """Describe a pair."""
    listing = market.listing
    _, altname, wsname = pair(listing.symbol)
    fees = [[0, float(listing.taker_fee * 100)], [10_000, float(listing.taker_fee * 90)]]
    fees_maker = [[0, float(listing.maker_fee * 100)], [10_000, float(listing.maker_fee * 90)]]
    return {
        "altname": altname,
        "wsname": wsname,
        "aclass_base": "currency",
        "base": asset(listing.base)[0],
        "aclass_quote": "currency",
        "quote": asset(listing.quote)[0],
        "lot": "unit",
        "cost_decimals": 5,
        "pair_decimals": decimals(listing),
        "lot_decimals": 8,
        "lot_multiplier": 1,
        "leverage_buy": [2, 3],
        "leverage_sell": [2, 3],
        "fees": fees,
        "fees_maker": fees_maker,
        "fee_volume_currency": "ZUSD",
        "margin_call": 80,
        "margin_stop": 40,
        "ordermin": f"{listing.min_quantity:f}",
        "costmin": f"{listing.min_notional:f}",
        "tick_size": f"{listing.tick:f}",
        "status": _STATUS[market.trading],
    }


def asset_row(currency: str) -> dict[str, Any]:
    """Describe an asset."""
    money = currency in ("USD", "EUR")
    return {
        "aclass": "currency",
        "altname": asset(currency)[1],
        "decimals": 4 if money else 10,
        "display_decimals": 2 if money else 5,
        "status": "enabled",
    }


def candle_row(candle: Candle, places: int) -> list[Any]:
    """Write a candle; the mean stands for the volume-weighted price."""
    prices = [f"{price:.{places}f}" for price in (candle.open, candle.high, candle.low, candle.close)]
    mean = f"{(candle.high + candle.low) / 2:.{places}f}"
    return [candle.open_ns // 1_000_000_000, *prices, mean, f"{candle.volume:.8f}", candle.trades]


def ohlc_frame(symbol: str, interval: int, candle: Candle, now_ns: int, kind: str) -> dict[str, Any]:
    """Write a candle of the stream."""
    row = {
        "symbol": symbol,
        "open": candle.open,
        "high": candle.high,
        "low": candle.low,
        "close": candle.close,
        "trades": candle.trades,
        "volume": candle.volume,
        "vwap": (candle.high + candle.low) / 2,
        "interval_begin": stamp(candle.open_ns).replace("Z", "000Z"),
        "interval": interval,
        "timestamp": stamp(candle.open_ns + interval * 60_000_000_000),
    }
    return {"channel": "ohlc", "type": kind, "timestamp": stamp(now_ns), "data": [row]}


def ticker_frame(market: LiveMarket, now_ns: int, kind: str) -> dict[str, Any]:
    """Write the best prices, with the day's figures as the tape knows them."""
    quote, last = market.quote(now_ns), market.last
    row = {
        "symbol": market.listing.symbol,
        "bid": quote.bid,
        "bid_qty": quote.bid_size,
        "ask": quote.ask,
        "ask_qty": quote.ask_size,
        "last": last,
        "volume": sum((trade.quantity for trade in market.tape), _ZERO),
        "vwap": last,
        "low": last,
        "high": last,
        "change": _ZERO,
        "change_pct": _ZERO,
    }
    return {"channel": "ticker", "type": kind, "data": [row]}


def top(book: Book, depth: int) -> Book:
    """Give the best levels of a book."""
    return Book(book.instrument, book.time_ns, book.bids[:depth], book.asks[:depth])


def checksum(book: Book, places: int) -> int:
    """Give the CRC32 of the best ten levels: asks, then bids, prices and sizes without point and leading zeros."""
    text = "".join(
        f"{level.price:.{places}f}".replace(".", "").lstrip("0") + f"{level.quantity:.8f}".replace(".", "").lstrip("0")
        for level in (*book.asks[:10], *book.bids[:10])
    )
    return zlib.crc32(text.encode())


def book_frame(before: Book | None, after: Book, places: int) -> dict[str, Any] | None:
    """Write what leads from one book to the other, None for nothing; who listens cuts off what is beyond the depth."""
    symbol = after.instrument.symbol
    told = {"symbol": symbol, "checksum": checksum(after, places)}
    if before is None:
        sides = {name: [_row(level) for level in getattr(after, name)] for name in ("bids", "asks")}
        return {"channel": "book", "type": "snapshot", "data": [{**told, **sides}]}
    bids, asks = book_changes(before, after)
    low, high = after.bids[-1].price, after.asks[-1].price
    rows = {
        "bids": [{"price": price, "qty": size} for price, size in bids if size or price > low],
        "asks": [{"price": price, "qty": size} for price, size in asks if size or price < high],
    }
    if not rows["bids"] and not rows["asks"]:
        return None
    return {"channel": "book", "type": "update", "data": [{**told, **rows, "timestamp": stamp(after.time_ns)}]}


def _row(level: BookLevel) -> dict[str, Decimal]:
    return {"price": level.price, "qty": level.quantity}


# ---- orders ---------------------------------------------------------------------------------------------------------


def describe(order: WireOrder, places: int) -> str:
    """Say an order in words, as the answer to AddOrder does."""
    what = f"{order.side.value} {order.quantity:.8f} {pair(order.symbol)[1]} @"
    if order.type is OrderType.MARKET:
        return f"{what} market"
    if order.type is OrderType.LIMIT:
        return f"{what} limit {order.price:.{places}f}"
    limit = "" if order.price is None else f" -> limit {order.price:.{places}f}"
    return f"{what} stop loss {order.stop_price:.{places}f}{limit}"


def order_row(order: WireOrder, places: int, *, trades: bool = False) -> dict[str, Any]:
    """Write an order as OpenOrders, ClosedOrders and QueryOrders do."""
    first = order.stop_price if order.stop_price is not None else order.price
    second = order.price if order.stop_price is not None else None
    row: dict[str, Any] = {
        "refid": None,
        "userref": 0,
        **({"cl_ord_id": order.client_id} if order.client_id else {}),
        "status": _STATES.get(order.status, "open"),
        "opentm": seconds(order.created_ns),
        "starttm": 0,
        "expiretm": 0,
        "descr": {
            "pair": pair(order.symbol)[1],
            "type": order.side.value,
            "ordertype": _TYPE_NAMES[order.type],
            "price": f"{first:.{places}f}" if first is not None else "0",
            "price2": f"{second:.{places}f}" if second is not None else "0",
            "leverage": "none",
            "order": describe(order, places),
            "close": "",
        },
        "vol": f"{order.quantity:.8f}",
        "vol_exec": f"{order.filled:.8f}",
        "cost": f"{order.notional:.5f}",
        "fee": f"{order.fee:.5f}",
        "price": f"{order.average or _ZERO:.{places}f}",
        "stopprice": f"{_ZERO:.{places}f}",
        "limitprice": f"{_ZERO:.{places}f}",
        "misc": "stopped" if order.extra.get("triggered") else "",
        "oflags": "fciq,post" if order.post_only else "fciq",
    }
    if order.stop_price is not None:
        row["trigger"] = "last"
    if not order.is_open:
        row |= {"reason": order.reason or None, "closetm": seconds(order.updated_ns)}
    if trades and order.fills:
        row["trades"] = [fill.id for fill in order.fills]
    return row


def trade_row(order: WireOrder, fill: WireFill, places: int) -> dict[str, Any]:
    """Write an execution as TradesHistory and QueryTrades do."""
    return {
        "ordertxid": order.id,
        "postxid": txid("T", 7),
        "pair": pair(order.symbol)[0],
        "aclass": "forex",
        "time": seconds(fill.time_ns),
        "type": order.side.value,
        "ordertype": _TYPE_NAMES[order.type],
        "price": f"{fill.price:.{places}f}",
        "cost": f"{fill.notional:.8f}",
        "fee": f"{fill.fee:.8f}",
        "vol": f"{fill.quantity:.8f}",
        "margin": "0.00000",
        "leverage": "0",
        "misc": "",
        "trade_id": number_of(fill),
        "maker": fill.liquidity is Liquidity.MAKER,
    }


def number_of(fill: WireFill) -> int:
    """Give the number that the pair counts its trades with."""
    return zlib.crc32(fill.id.encode())


def whole_order(order: WireOrder) -> dict[str, Any]:
    """Write what streams say of an order that is new, or open when one subscribes."""
    force = order.time_in_force.value.upper()
    row = {
        "order_id": order.id,
        **({"cl_ord_id": order.client_id} if order.client_id else {}),
        "symbol": order.symbol,
        "order_qty": order.quantity,
        "cum_cost": order.notional,
        "cum_qty": order.filled,
        "time_in_force": force,
        "side": order.side.value,
        "order_type": _TYPE_NAMES[order.type],
        "order_userref": 0,
        "limit_price_type": "static",
        "fee_usd_equiv": _ZERO,
        "fee_ccy_pref": "fciq",
        "timestamp": stamp(order.created_ns),
    }
    if order.price is not None:
        row["limit_price"] = order.price
    if order.stop_price is not None:
        triggers = {"reference": "last", "price": order.stop_price, "price_type": "static"}
        row |= {"stop_price": order.stop_price, "triggers": {**triggers, "status": "untriggered"}}
    return row


def snapshot_order(order: WireOrder) -> dict[str, Any]:
    """Write an open order for who has just subscribed."""
    state = "partially_filled" if order.fills else "new"
    return {**whole_order(order), "exec_type": state if order.fills else "new", "order_status": state}


def execution(order: WireOrder, fill: WireFill) -> dict[str, Any]:
    """Write an execution; the order counts as partially filled still, also where nothing is left of it."""
    return {
        "order_id": order.id,
        **({"cl_ord_id": order.client_id} if order.client_id else {}),
        "exec_id": fill.id,
        "exec_type": "trade",
        "trade_id": number_of(fill),
        "symbol": order.symbol,
        "side": order.side.value,
        "last_qty": fill.quantity,
        "last_price": fill.price,
        "liquidity_ind": "m" if fill.liquidity is Liquidity.MAKER else "t",
        "cost": fill.notional,
        "order_userref": 0,
        "order_status": "partially_filled",
        "order_type": _TYPE_NAMES[order.type],
        "fee_usd_equiv": fill.fee,
        "fees": [{"asset": fill.fee_currency, "qty": fill.fee}],
        "timestamp": stamp(fill.time_ns),
    }


def _short(order: WireOrder, kind: str, time_ns: int) -> dict[str, Any]:
    """Write a change of state: no symbol, no side, no quantity."""
    return {
        "timestamp": stamp(time_ns),
        "order_status": kind,
        "exec_type": kind,
        "order_userref": 0,
        **({"cl_ord_id": order.client_id} if order.client_id else {}),
        "order_id": order.id,
    }


def told(update: OrderUpdate) -> list[dict[str, Any]]:
    """Write what the executions channel says of something that has happened, one frame each."""
    order, time_ns = update.order, update.time_ns
    sums = {
        "cum_qty": order.filled,
        "cum_cost": order.notional,
        "fee_usd_equiv": order.fee,
        "avg_price": order.average or _ZERO,
    }
    match update.what:
        case Happened.NEW:
            pending = {**whole_order(order), "exec_type": "pending_new", "order_status": "pending_new"}
            return [pending, _short(order, "new", time_ns)]
        case Happened.REJECTED:
            pending = {**whole_order(order), "exec_type": "pending_new", "order_status": "pending_new"}
            gone = {**_short(order, "canceled", time_ns), **sums, "cancel_reason": update.reason}
            return [pending, {**gone, "reason": update.reason}]
        case Happened.TRIGGERED:
            triggers = {"reference": "last", "price": order.stop_price, "price_type": "static", "status": "triggered"}
            return [{**_short(order, "new", time_ns), "exec_type": "status", "triggers": triggers}]
        case Happened.FILL:
            assert update.fill is not None
            frames = [execution(order, update.fill)]
            if order.status is OrderStatus.FILLED:
                frames.append({**_short(order, "filled", time_ns), **sums})
            return frames
        case Happened.AMENDED:
            changed = {"order_qty": order.quantity, "amended": True, "reason": "User requested"}
            limit = {} if order.price is None else {"limit_price": order.price}
            return [{**_short(order, "amended", time_ns), "order_status": "new", **changed, **limit}]
        case _:
            gone = {**_short(order, "canceled", time_ns), **sums}
            return [{**gone, "cancel_reason": order.reason, "reason": order.reason}]


def side_of(text: str | None) -> Side | None:
    """Read a side; None for what is none."""
    return {"buy": Side.BUY, "sell": Side.SELL}.get(text or "")
