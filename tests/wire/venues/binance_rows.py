"""How Binance writes orders, trades, balances, symbols and events."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from koc_qt.domain.market import Side
from koc_qt.domain.orders import Liquidity, OrderStatus
from koc_qt.domain.timeframes import duration_ns
from tests.wire.core.accounts import READ, TRADE, WITHDRAW, ApiKey, User
from tests.wire.core.history import Candle
from tests.wire.core.market import LiveMarket
from tests.wire.core.orders import Happened, OrderUpdate, WireFill, WireOrder

MOST_AT_MARKET = Decimal(120)
MOST_ORDERS = 200
MS = 1_000_000
ORDER_TYPES = ("LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT")
PREVENTION = {"selfTradePreventionMode": "EXPIRE_MAKER"}
_STATUS = {
    OrderStatus.ACCEPTED: "NEW",
    OrderStatus.TRIGGERED: "NEW",
    OrderStatus.PARTIALLY_FILLED: "PARTIALLY_FILLED",
    OrderStatus.FILLED: "FILLED",
    OrderStatus.CANCELED: "CANCELED",
    OrderStatus.EXPIRED: "EXPIRED",
    OrderStatus.REJECTED: "REJECTED",
}
_EXECUTION = {
    Happened.NEW: "NEW",
    Happened.TRIGGERED: "NEW",
    Happened.FILL: "TRADE",
    Happened.CANCELED: "CANCELED",
    Happened.EXPIRED: "EXPIRED",
    Happened.AMENDED: "REPLACED",
    Happened.REJECTED: "REJECTED",
}


def symbol_id(symbol: str) -> str:
    """Give the venue's name of a symbol."""
    return symbol.replace("/", "")


def eight(value: Decimal) -> str:
    """Write an amount with eight decimals."""
    return f"{value:.8f}"


def candle_row(candle: Candle, length_ms: int) -> list[Any]:
    """Write a candle of /api/v3/klines; half of everything was bought by takers."""
    prices = [eight(price) for price in (candle.open, candle.high, candle.low, candle.close)]
    open_ms, turnover = candle.open_ns // MS, candle.volume * candle.close
    ends = [open_ms + length_ms - 1, eight(turnover), candle.trades]
    return [open_ms, *prices, eight(candle.volume), *ends, eight(candle.volume / 2), eight(turnover / 2), "0"]


def kline_event(name: str, interval: str, candle: Candle, time_ms: int, *, is_closed: bool) -> dict[str, Any]:
    """Write an event of a @kline stream."""
    prices = {"o": candle.open, "c": candle.close, "h": candle.high, "l": candle.low, "v": candle.volume}
    turnover = candle.volume * candle.close
    prices |= {"q": turnover, "V": candle.volume / 2, "Q": turnover / 2}
    end_ms = (candle.open_ns + duration_ns(interval)) // MS - 1
    kline = {"t": candle.open_ns // MS, "T": end_ms, "s": name, "i": interval, "f": -1, "L": -1, "B": "0"}
    kline |= {"n": candle.trades, "x": is_closed, **{key: eight(value) for key, value in prices.items()}}
    return {"e": "kline", "E": time_ms, "s": name, "k": kline}


def fill_row(fill: WireFill) -> dict[str, Any]:
    """Write an execution as the answer to an order has it."""
    amounts = {"price": eight(fill.price), "qty": eight(fill.quantity), "commission": eight(fill.fee)}
    return {**amounts, "commissionAsset": fill.fee_currency, "tradeId": int(fill.id)}


def levels(levels: Iterable[Any]) -> list[list[str]]:
    """Write one side of a book."""
    return [[eight(level.price), eight(level.quantity)] for level in levels]


def rates(maker: Decimal, taker: Decimal) -> dict[str, str]:
    """Write commission rates."""
    return {"maker": eight(maker), "taker": eight(taker), "buyer": "0.00000000", "seller": "0.00000000"}


def balance_row(user: User, currency: str, name: str, free: str, locked: str) -> dict[str, str]:
    """Write a balance under the names that the answer has for it."""
    balance = user.balances().get(currency)
    total, held = (balance.total, balance.locked) if balance else (Decimal(0), Decimal(0))
    return {**({name: currency} if name else {}), free: eight(total - held), locked: eight(held)}


def order_state(order: WireOrder) -> dict[str, Any]:
    """Write what all answers about an order have."""
    state = {
        "price": eight(order.price or Decimal(0)),
        "origQty": eight(order.quantity),
        "executedQty": eight(order.filled),
        "origQuoteOrderQty": eight(order.cost or Decimal(0)),
        "cummulativeQuoteQty": eight(order.notional),
        "status": _STATUS[order.status],
        "timeInForce": _force(order),
        "type": order.extra["type"],
        "side": order.side.value.upper(),
    }
    return state if order.stop_price is None else {**state, "stopPrice": eight(order.stop_price)}


def _force(order: WireOrder) -> str:
    """Give the time in force as the venue tells it: a market order's is GTC, though it never rests."""
    return "GTC" if order.extra["type"] == "MARKET" else order.time_in_force.value.upper()


def order_row(order: WireOrder) -> dict[str, Any]:
    """Write an order as it is listed."""
    return {
        "symbol": symbol_id(order.symbol),
        "orderId": int(order.id),
        "orderListId": -1,
        "clientOrderId": order.client_id,
        **order_state(order),
        "stopPrice": eight(order.stop_price or Decimal(0)),
        "icebergQty": "0.00000000",
        "time": order.created_ns // MS,
        "updateTime": order.updated_ns // MS,
        "isWorking": order.stop_price is None or order.status is not OrderStatus.ACCEPTED,
        "workingTime": order.created_ns // MS,
        **PREVENTION,
    }


def trade_row(order: WireOrder, fill: WireFill) -> dict[str, Any]:
    """Write an execution as it is listed."""
    return {
        "symbol": symbol_id(order.symbol),
        "id": int(fill.id),
        "orderId": int(order.id),
        "orderListId": -1,
        "price": eight(fill.price),
        "qty": eight(fill.quantity),
        "quoteQty": eight(fill.notional),
        "commission": eight(fill.fee),
        "commissionAsset": fill.fee_currency,
        "time": fill.time_ns // MS,
        "isBuyer": order.side is Side.BUY,
        "isMaker": fill.liquidity is Liquidity.MAKER,
        "isBestMatch": True,
    }


def report(update: OrderUpdate, now_ms: int) -> dict[str, Any]:
    """Write an executionReport; of a cancelled order `c` is the cancel's own id and `C` the order's."""
    order, fill, none = update.order, update.fill, Decimal(0)
    cancelled = update.what is Happened.CANCELED and "cancel_id" in order.extra
    return {
        "e": "executionReport",
        "E": now_ms,
        "s": symbol_id(order.symbol),
        "c": order.extra["cancel_id"] if cancelled else order.client_id,
        "S": order.side.value.upper(),
        "o": order.extra["type"],
        "f": _force(order),
        "q": eight(order.quantity),
        "p": eight(order.price or none),
        "P": eight(order.stop_price or none),
        "F": "0.00000000",
        "g": -1,
        "C": order.client_id if cancelled else "",
        "x": _EXECUTION[update.what],
        "X": _STATUS[order.status],
        "r": "NONE" if update.what is not Happened.REJECTED else "INSUFFICIENT_BALANCES",
        "i": int(order.id),
        "l": eight(fill.quantity if fill else none),
        "z": eight(order.filled),
        "L": eight(fill.price if fill else none),
        "n": eight(fill.fee) if fill else "0",
        "N": fill.fee_currency if fill else None,
        "T": update.time_ns // MS,
        "t": int(fill.id) if fill else -1,
        "I": int(order.id) * 2,
        "w": order.is_open and (order.stop_price is None or order.status is not OrderStatus.ACCEPTED),
        "m": fill is not None and fill.liquidity is Liquidity.MAKER,
        "M": fill is not None,
        "O": order.created_ns // MS,
        "Z": eight(order.notional),
        "Y": eight(fill.notional if fill else none),
        "Q": eight(order.cost or none),
        "W": order.created_ns // MS,
        "V": "EXPIRE_MAKER",
    }


def restrictions_row(key: ApiKey | None) -> dict[str, Any]:
    """Write what a key is allowed."""
    rights = key.permissions if key else set()
    allowed = {
        "enableReading": READ in rights,
        "enableSpotAndMarginTrading": TRADE in rights,
        "enableWithdrawals": WITHDRAW in rights,
    }
    never = (
        *("enableInternalTransfer", "enableMargin", "enableFutures", "permitsUniversalTransfer"),
        *("enableVanillaOptions", "enableFixApiTrade", "enableFixReadOnly", "enablePortfolioMarginTrading"),
    )
    made = {"ipRestrict": bool(key and key.ips), "createTime": 1_698_645_219_000}
    return {**made, **allowed, **dict.fromkeys(never, False)}


def symbol_row(market: LiveMarket, status: str) -> dict[str, Any]:
    """Write a symbol of exchangeInfo."""
    listing = market.listing
    prices = {"minPrice": eight(listing.tick), "maxPrice": "1000000.00000000", "tickSize": eight(listing.tick)}
    sizes = {"minQty": eight(listing.min_quantity), "maxQty": eight(listing.max_quantity)}
    market_sizes = {"minQty": "0.00000000", "maxQty": eight(MOST_AT_MARKET), "stepSize": "0.00000000"}
    worth = {"minNotional": eight(listing.min_notional), "applyMinToMarket": True, "maxNotional": "9000000.00000000"}
    return {
        "symbol": symbol_id(listing.symbol),
        "status": status,
        "baseAsset": listing.base,
        "baseAssetPrecision": 8,
        "quoteAsset": listing.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": list(ORDER_TYPES),
        "icebergAllowed": True,
        "ocoAllowed": True,
        "otoAllowed": True,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": True,
        "cancelReplaceAllowed": True,
        "amendAllowed": True,
        "isSpotTradingAllowed": status == "TRADING",
        "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", **prices},
            {"filterType": "LOT_SIZE", **sizes, "stepSize": eight(listing.lot)},
            {"filterType": "MARKET_LOT_SIZE", **market_sizes},
            {"filterType": "NOTIONAL", **worth, "applyMaxToMarket": False, "avgPriceMins": 5},
            {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": MOST_ORDERS},
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"],
    }
