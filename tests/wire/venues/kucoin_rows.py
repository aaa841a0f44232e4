"""How the simulated KuCoin writes things down: REST rows and frames of its WebSocket.

https://www.kucoin.com/docs-new/rest/spot-trading and https://www.kucoin.com/docs-new/websocket-api/base-info
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from koc_qt.domain.market import Book, BookLevel, Quote, Trade
from koc_qt.domain.orders import Liquidity, OrderStatus, OrderType
from tests.wire.core.history import Candle
from tests.wire.core.listings import Trading
from tests.wire.core.market import LiveMarket, book_changes
from tests.wire.core.orders import Happened, OrderUpdate, WireFill, WireOrder

MS = 1_000_000
_STOPS = (OrderType.STOP, OrderType.STOP_LIMIT)


def text(value: Decimal) -> str:
    """Write a number without trailing zeros."""
    return f"{value.normalize():f}" if value else "0"


def symbol_id(symbol: str) -> str:
    """Give the venue's name of a symbol: BTC-USDT."""
    return symbol.replace("/", "-")


def is_stop(order: WireOrder) -> bool:
    """Whether it is among the stop orders still."""
    return order.type in _STOPS and not order.extra.get("triggered")


def current_id(order: WireOrder) -> str:
    """Give the order's id: a stop order that has gone off is an order with one of its own."""
    return str(order.extra.get("triggered") or order.extra.get("stop_id") or order.id)


def symbol_row(market: LiveMarket) -> dict[str, Any]:
    """Describe a symbol."""
    listing = market.listing
    return {
        "symbol": symbol_id(listing.symbol),
        "name": symbol_id(listing.symbol),
        "baseCurrency": listing.base,
        "quoteCurrency": listing.quote,
        "feeCurrency": listing.quote,
        "market": "USDS",
        "baseMinSize": text(listing.min_quantity),
        "quoteMinSize": text(listing.min_notional),
        "baseMaxSize": text(listing.max_quantity or Decimal(10_000_000_000)),
        "quoteMaxSize": "99999999",
        "baseIncrement": text(listing.lot),
        "quoteIncrement": "0.000001",
        "priceIncrement": text(listing.tick),
        "priceLimitRate": "0.1",
        "minFunds": text(listing.min_notional),
        "isMarginEnabled": True,
        "enableTrading": market.trading is Trading.OPEN,
        "feeCategory": 1,
        "makerFeeCoefficient": "1.00",
        "takerFeeCoefficient": "1.00",
        "st": False,
    }


def ticker_row(market: LiveMarket, now_ns: int) -> dict[str, Any]:
    """Write a row of all tickers, with the symbol's fees."""
    quote, listing = market.quote(now_ns), market.listing
    return {
        "symbol": symbol_id(listing.symbol),
        "symbolName": symbol_id(listing.symbol),
        "buy": text(quote.bid),
        "bestBidSize": text(quote.bid_size),
        "sell": text(quote.ask),
        "bestAskSize": text(quote.ask_size),
        "changeRate": "0",
        "changePrice": "0",
        "high": text(market.last),
        "low": text(market.last),
        "vol": "1",
        "volValue": text(market.last),
        "last": text(market.last),
        "averagePrice": text(market.last),
        "takerFeeRate": text(listing.taker_fee),
        "makerFeeRate": text(listing.maker_fee),
        "takerCoefficient": "1",
        "makerCoefficient": "1",
    }


def currency_row(name: str) -> dict[str, Any]:
    """Describe a currency."""
    return {
        "currency": name,
        "name": name,
        "fullName": name,
        "precision": 8,
        "confirms": None,
        "contractAddress": None,
        "isMarginEnabled": True,
        "isDebitEnabled": True,
        "chains": [],
    }


def candle_row(candle: Candle) -> list[str]:
    """Write a candle: open and close come before high and low."""
    prices = [text(price) for price in (candle.open, candle.close, candle.high, candle.low)]
    turnover = (candle.high + candle.low) / 2 * candle.volume
    return [str(candle.open_ns // 1_000_000_000), *prices, text(candle.volume), text(turnover)]


def levels(side: tuple[BookLevel, ...]) -> list[list[str]]:
    """Write one side of a book."""
    return [[text(level.price), text(level.quantity)] for level in side]


def history_row(trade: Trade) -> dict[str, Any]:
    """Write a trade of the tape."""
    row = {"sequence": trade.trade_id, "price": text(trade.price), "size": text(trade.quantity)}
    return {**row, "side": trade.side.value, "time": trade.time_ns}


# ---- orders ---------------------------------------------------------------------------------------------------------


def _state(order: WireOrder) -> dict[str, Any]:
    active = order.is_open
    cancelled = order.status in (OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED)
    gone = order.remaining if cancelled else Decimal(0)
    return {
        "cancelExist": cancelled,
        "inOrderBook": active,
        "active": active,
        "cancelledSize": text(gone),
        "cancelledFunds": "0",
        "remainSize": text(order.remaining if active else Decimal(0)),
        "remainFunds": "0",
    }


def order_row(order: WireOrder, currency: str) -> dict[str, Any]:
    """Write an order as hf/orders does; `currency` is that of its fees."""
    kind = "market" if order.type in (OrderType.MARKET, OrderType.STOP) else "limit"
    return {
        "id": current_id(order),
        "symbol": symbol_id(order.symbol),
        "opType": "DEAL",
        "type": kind,
        "side": order.side.value,
        "price": text(order.price or Decimal(0)),
        "size": text(order.quantity),
        "funds": "0",
        "dealSize": text(order.filled),
        "dealFunds": text(order.notional),
        "fee": text(order.fee),
        "feeCurrency": currency,
        "stp": None,
        "timeInForce": order.time_in_force.value.upper() if kind == "limit" else "GTC",
        "postOnly": order.post_only,
        "hidden": False,
        "iceberg": False,
        "visibleSize": "0",
        "cancelAfter": 0,
        "channel": "API",
        "clientOid": order.client_id,
        "remark": None,
        "tags": None,
        "createdAt": order.created_ns // MS,
        "lastUpdatedAt": order.updated_ns // MS,
        "tradeType": "TRADE",
        "tax": "0",
        **_state(order),
    }


def stop_row(order: WireOrder, currency: str) -> dict[str, Any]:
    """Write a stop order that waits, has gone off or was cancelled."""
    gone_off = order.extra.get("triggered")
    status = "TRIGGERED" if gone_off else "NEW" if order.is_open else "CANCELLED"
    return {
        "id": order.extra["stop_id"],
        "symbol": symbol_id(order.symbol),
        "userId": "60fe4956c43cbc0006562c2c",
        "status": status,
        "type": "market" if order.type is OrderType.STOP else "limit",
        "side": order.side.value,
        "price": None if order.price is None else f"{order.price:.20f}",
        "size": f"{order.quantity:.20f}",
        "funds": None,
        "stp": None,
        "timeInForce": "GTC",
        "cancelAfter": -1,
        "postOnly": False,
        "hidden": False,
        "iceberg": False,
        "visibleSize": None,
        "channel": "API",
        "clientOid": order.client_id,
        "remark": None,
        "tags": None,
        "relatedNo": gone_off,
        "orderTime": order.created_ns,
        "domainId": "kucoin",
        "tradeSource": "USER",
        "tradeType": "TRADE",
        "feeCurrency": currency,
        "createdAt": order.created_ns // MS,
        "stop": "loss" if order.side.value == "sell" else "entry",
        "stopTriggerTime": order.extra.get("triggered_ms"),
        "stopPrice": f"{order.stop_price:.20f}",
    }


def fill_row(order: WireOrder, fill: WireFill) -> dict[str, Any]:
    """Write an execution as hf/fills does; `id` counts the account's, `tradeId` the symbol's."""
    return {
        "id": int(fill.id),
        "orderId": current_id(order),
        "counterOrderId": "6734d5dbf7d1d700073d1d34",
        "tradeId": int(fill.id) % 1_000_000_000,
        "symbol": symbol_id(order.symbol),
        "side": order.side.value,
        "liquidity": "maker" if fill.liquidity is Liquidity.MAKER else "taker",
        "type": "market" if order.type in (OrderType.MARKET, OrderType.STOP) else "limit",
        "forceTaker": False,
        "price": text(fill.price),
        "size": text(fill.quantity),
        "funds": text(fill.notional),
        "fee": text(fill.fee),
        "feeRate": "0.001",
        "feeCurrency": fill.fee_currency,
        "stop": "",
        "tradeType": "TRADE",
        "taxRate": "0",
        "tax": "0",
        "createdAt": fill.time_ns // MS,
    }


# ---- frames ---------------------------------------------------------------------------------------------------------


def frame(topic: str, subject: str, data: dict[str, Any], user: str = "") -> dict[str, Any]:
    """Write a message of a topic."""
    private = {"userId": user, "channelType": "private"} if user else {}
    return {"topic": topic, "type": "message", "subject": subject, **private, "data": data}


def match_frame(trade: Trade) -> dict[str, Any]:
    """Write a trade of the market."""
    name = symbol_id(trade.instrument.symbol)
    data = {
        "type": "match",
        "sequence": trade.trade_id,
        "symbol": name,
        "side": trade.side.value,
        "size": text(trade.quantity),
        "price": text(trade.price),
        "takerOrderId": "6734d5dbf7d1d700073d1d34",
        "makerOrderId": "6734d5db8ee5c90007da9bc8",
        "tradeId": trade.trade_id,
        "time": str(trade.time_ns),
    }
    return frame(f"/market/match:{name}", "trade.l3match", data)


def level1_frame(quote: Quote) -> dict[str, Any]:
    """Write the best bid and offer."""
    name = symbol_id(quote.instrument.symbol)
    data = {
        "asks": [text(quote.ask), text(quote.ask_size)],
        "bids": [text(quote.bid), text(quote.bid_size)],
        "timestamp": quote.time_ns // MS,
    }
    return frame(f"/spotMarket/level1:{name}", "level1", data)


def ticker_frame(quote: Quote, last: Decimal, sequence: int) -> dict[str, Any]:
    """Write the ticker."""
    name = symbol_id(quote.instrument.symbol)
    data = {
        "sequence": str(sequence),
        "price": text(last),
        "size": "0.001",
        "bestAsk": text(quote.ask),
        "bestAskSize": text(quote.ask_size),
        "bestBid": text(quote.bid),
        "bestBidSize": text(quote.bid_size),
        "Time": quote.time_ns // MS,
        "time": quote.time_ns // MS,
    }
    return frame(f"/market/ticker:{name}", "trade.ticker", data)


def depth_frame(book: Book, depth: int) -> dict[str, Any]:
    """Write the best levels, whole each time."""
    name = symbol_id(book.instrument.symbol)
    data = {"asks": levels(book.asks[:depth]), "bids": levels(book.bids[:depth]), "timestamp": book.time_ns // MS}
    return frame(f"/spotMarket/level2Depth{depth}:{name}", "level2", data)


def change_frame(before: Book, after: Book, first: int, last: int) -> dict[str, Any]:
    """Write the changes of a book."""
    name = symbol_id(after.instrument.symbol)
    bids, asks = ([[text(p), text(q), str(last)] for p, q in side] for side in book_changes(before, after))
    data = {
        "changes": {"asks": asks, "bids": bids},
        "sequenceStart": first,
        "sequenceEnd": last,
        "symbol": name,
        "time": after.time_ns // MS,
    }
    return frame(f"/market/level2:{name}", "trade.l2update", data)


def told(update: OrderUpdate) -> list[dict[str, Any]]:
    """Write what the topic of orders says of something that has happened, one frame's data each."""
    order, ts = update.order, update.time_ns
    kind = "market" if order.type in (OrderType.MARKET, OrderType.STOP) else "limit"
    base: dict[str, Any] = {
        "clientOid": order.client_id,
        "orderId": current_id(order),
        "orderTime": order.created_ns // MS,
        "orderType": kind,
        "originSize": text(order.quantity),
        "side": order.side.value,
        "symbol": symbol_id(order.symbol),
        "ts": ts,
    }
    sizes = {
        "size": text(order.quantity),
        "filledSize": text(order.filled),
        "remainSize": text(order.remaining),
        "canceledSize": "0",
        "price": text(order.price or Decimal(0)),
    }
    received = {**base, "type": "received", "status": "new"}
    opened = {**base, **sizes, "type": "open", "status": "open"}
    match update.what:
        case Happened.NEW | Happened.TRIGGERED:
            return [received, opened] if kind == "limit" else [received]
        case Happened.FILL:
            fill = update.fill
            assert fill is not None
            liquidity = "maker" if fill.liquidity is Liquidity.MAKER else "taker"
            matched = {
                **base,
                **sizes,
                "feeType": f"{liquidity}Fee",
                "liquidity": liquidity,
                "matchPrice": text(fill.price),
                "matchSize": text(fill.quantity),
                "tradeId": str(int(fill.id) % 1_000_000_000),
                "type": "match",
                "status": "match",
            }
            done = {**base, **sizes, "type": "filled", "status": "done"}
            return [matched, done] if order.status is OrderStatus.FILLED else [matched]
        case _:
            gone = {**sizes, "canceledSize": text(order.remaining), "remainSize": "0"}
            cancelled = {**base, **gone, "type": "canceled", "status": "done"}
            return [received, cancelled] if update.what is Happened.REJECTED else [cancelled]


def stop_told(order: WireOrder, kind: str, ts: int) -> dict[str, Any]:
    """Write what the topic of stop orders says: open, triggered or cancel."""
    data: dict[str, Any] = {
        "orderId": order.extra["stop_id"],
        "orderPrice": text(order.price or Decimal(0)),
        "orderType": "stop",
        "side": order.side.value,
        "size": text(order.quantity),
        "stop": "loss" if order.side.value == "sell" else "entry",
        "stopPrice": text(order.stop_price or Decimal(0)),
        "symbol": symbol_id(order.symbol),
        "tradeType": "TRADE",
        "type": kind,
        "createdAt": order.created_ns // MS,
        "ts": ts,
    }
    return {**data, "triggerSuccess": True} if kind == "triggered" else data
