"""How Coinbase writes products, orders, fills, accounts and the frames of its streams."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from koc_qt.domain.market import Book, Quote, Side, Trade
from koc_qt.domain.orders import OrderStatus, OrderType
from koc_qt.domain.timeframes import SECOND_NS
from tests.wire.core.accounts import User
from tests.wire.core.history import Candle
from tests.wire.core.listings import Trading
from tests.wire.core.market import LiveMarket, book_changes
from tests.wire.core.orders import WireFill, WireOrder

_FIAT = {"USD", "EUR", "GBP"}
_STATUS = {
    OrderStatus.ACCEPTED: "OPEN",
    OrderStatus.TRIGGERED: "OPEN",
    OrderStatus.PARTIALLY_FILLED: "OPEN",
    OrderStatus.FILLED: "FILLED",
    OrderStatus.CANCELED: "CANCELLED",
    OrderStatus.EXPIRED: "CANCELLED",
    OrderStatus.REJECTED: "FAILED",
}
_FORCES = {
    "market_market_ioc": "IMMEDIATE_OR_CANCEL",
    "sor_limit_ioc": "IMMEDIATE_OR_CANCEL",
    "limit_limit_fok": "FILL_OR_KILL",
}
_TYPES = {OrderType.MARKET: "MARKET", OrderType.LIMIT: "LIMIT", OrderType.STOP_LIMIT: "STOP_LIMIT"}
ACCOUNT_NAMESPACE = "8bfc20d7-f7c6-4422-bf07-8243ca4169fe"


def product_id(symbol: str) -> str:
    """Give the venue's name of a symbol."""
    return symbol.replace("/", "-")


def stamp(time_ns: int) -> str:
    """Write a time as the venue does: with microseconds, in UTC."""
    moment = datetime.fromtimestamp(time_ns // SECOND_NS, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ns % SECOND_NS // 1000:06d}Z"


def time_of(text: str | None, otherwise_ns: int) -> int:
    """Read a time, nanoseconds."""
    if not text:
        return otherwise_ns
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return round(moment.timestamp() * 1000) * 1_000_000


def plain(value: Decimal) -> str:
    """Write an amount without zeros at its end."""
    text = f"{value:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def product_row(market: LiveMarket, aliases: dict[str, str]) -> dict[str, Any]:
    """Write a product; `aliases` are products whose market data is another one's."""
    listing, name = market.listing, product_id(market.listing.symbol)
    closed = market.trading is not Trading.OPEN
    return {
        "product_id": name,
        "price": plain(market.last),
        "price_percentage_change_24h": "0.5",
        "volume_24h": "1200.5",
        "volume_percentage_change_24h": "1.2",
        "base_increment": plain(listing.lot),
        "quote_increment": plain(listing.tick),
        "quote_min_size": plain(listing.min_notional),
        "quote_max_size": "150000000",
        "base_min_size": plain(listing.min_quantity),
        "base_max_size": plain(listing.max_quantity),
        "base_name": listing.base,
        "quote_name": listing.quote,
        "watched": False,
        "is_disabled": False,
        "new": False,
        "status": "online",
        "cancel_only": False,
        "limit_only": False,
        "post_only": False,
        "trading_disabled": closed,
        "auction_mode": False,
        "product_type": "SPOT",
        "quote_currency_id": listing.quote,
        "base_currency_id": listing.base,
        "fcm_trading_session_details": None,
        "mid_market_price": "",
        "alias": aliases.get(name, ""),
        "alias_to": sorted(alias for alias, meant in aliases.items() if meant == name),
        "base_display_symbol": listing.base,
        "quote_display_symbol": listing.quote,
        "view_only": False,
        "price_increment": plain(listing.tick),
        "display_name": name,
        "product_venue": "CBE",
    }


def candle_row(candle: Candle) -> dict[str, str]:
    """Write a candle; its time in seconds."""
    return {
        "start": str(candle.open_ns // SECOND_NS),
        "low": plain(candle.low),
        "high": plain(candle.high),
        "open": plain(candle.open),
        "close": plain(candle.close),
        "volume": plain(candle.volume),
    }


def trade_row(trade: Trade, name: str) -> dict[str, str]:
    """Write a trade of the market; its side is the maker's."""
    return {
        "trade_id": trade.trade_id,
        "product_id": name,
        "price": plain(trade.price),
        "size": plain(trade.quantity),
        "time": stamp(trade.time_ns),
        "side": "SELL" if trade.side is Side.BUY else "BUY",
    }


def pricebook(name: str, book: Book, limit: int) -> dict[str, Any]:
    """Write a book."""
    sides = {
        side: [{"price": plain(each.price), "size": plain(each.quantity)} for each in getattr(book, side)[:limit]]
        for side in ("bids", "asks")
    }
    return {"product_id": name, **sides, "time": stamp(book.time_ns)}


def updates(before: Book | None, after: Book) -> list[dict[str, str]]:
    """Write what leads from one book to the next; all of it where there was none."""
    time = stamp(after.time_ns)
    return [
        {"side": side, "event_time": time, "price_level": plain(price), "new_quantity": plain(size)}
        for side, changes in zip(("bid", "offer"), book_changes(before, after), strict=True)
        for price, size in changes
    ]


def ticker(name: str, market: LiveMarket, quote: Quote) -> dict[str, str]:
    """Write a ticker."""
    return {
        "type": "ticker",
        "product_id": name,
        "price": plain(market.last),
        "volume_24_h": "1200.5",
        "low_24_h": plain(market.last),
        "high_24_h": plain(market.last),
        "low_52_w": plain(market.last),
        "high_52_w": plain(market.last),
        "price_percent_chg_24_h": "0.5",
        "best_bid": plain(quote.bid),
        "best_bid_quantity": plain(quote.bid_size),
        "best_ask": plain(quote.ask),
        "best_ask_quantity": plain(quote.ask_size),
    }


def account_row(user: User, currency: str, number: int) -> dict[str, Any]:
    """Write an account: there is one a currency."""
    held = user.balances()[currency]
    kind = "ACCOUNT_TYPE_FIAT" if currency in _FIAT else "ACCOUNT_TYPE_CRYPTO"
    made = "2021-05-31T09:59:59.000Z"
    return {
        "uuid": f"{ACCOUNT_NAMESPACE[:-4]}{number:04d}",
        "name": f"{currency} Wallet",
        "currency": currency,
        "available_balance": {"value": plain(held.total - held.locked), "currency": currency},
        "default": False,
        "active": True,
        "created_at": made,
        "updated_at": made,
        "deleted_at": None,
        "type": kind,
        "ready": True,
        "hold": {"value": plain(held.locked), "currency": currency},
        "retail_portfolio_id": ACCOUNT_NAMESPACE,
        "platform": "ACCOUNT_PLATFORM_CONSUMER",
    }


def kind_of(order: WireOrder) -> str:
    """Name an order's configuration; one that was made by hand has none of its own."""
    given = order.extra.get("kind")
    if given or order.type is OrderType.MARKET:
        return given or "market_market_ioc"
    return "stop_limit_stop_limit_gtc" if order.type is OrderType.STOP_LIMIT else "limit_limit_gtc"


def _configuration(order: WireOrder) -> dict[str, Any]:
    if "configuration" in order.extra:
        return dict(order.extra["configuration"])
    values = {"base_size": order.quantity, "limit_price": order.price, "stop_price": order.stop_price}
    return {name: plain(value) for name, value in values.items() if value is not None}


def _last_fill(order: WireOrder) -> str | None:
    return stamp(order.fills[-1].time_ns) if order.fills else None


def order_row(order: WireOrder) -> dict[str, Any]:
    """Write an order as REST has it; its configuration stays what was sent, changes are in its history."""
    kind = kind_of(order)
    return {
        "order_id": order.id,
        "product_id": product_id(order.symbol),
        "user_id": order.user.name,
        "order_configuration": {kind: _configuration(order)},
        "side": order.side.value.upper(),
        "client_order_id": order.client_id,
        "status": _STATUS[order.status],
        "time_in_force": _FORCES.get(kind, "GOOD_UNTIL_CANCELLED"),
        "created_time": stamp(order.created_ns),
        "completion_percentage": plain(order.filled / order.quantity * 100),
        "filled_size": plain(order.filled),
        "average_filled_price": plain(order.average or Decimal(0)),
        "fee": "",
        "number_of_fills": str(len(order.fills)),
        "filled_value": plain(order.notional),
        "pending_cancel": False,
        "size_in_quote": order.cost is not None,
        "total_fees": plain(order.fee),
        "size_inclusive_of_fees": order.cost is not None,
        "total_value_after_fees": plain(order.notional + order.fee * order.side.sign),
        "trigger_status": _trigger(order),
        "order_type": _TYPES[order.type],
        "reject_reason": "REJECT_REASON_UNSPECIFIED",
        "settled": not order.is_open,
        "product_type": "SPOT",
        "reject_message": "",
        "cancel_message": order.reason if order.status is OrderStatus.CANCELED else "",
        "order_placement_source": "RETAIL_ADVANCED",
        "outstanding_hold_amount": "0",
        "is_liquidation": False,
        "last_fill_time": _last_fill(order),
        "edit_history": order.extra.get("edits", []),
        "leverage": "",
        "margin_type": "UNKNOWN_MARGIN_TYPE",
        "retail_portfolio_id": ACCOUNT_NAMESPACE,
    }


def _trigger(order: WireOrder) -> str:
    if order.stop_price is None:
        return "INVALID_ORDER_TYPE"
    waits = order.status is OrderStatus.ACCEPTED or (not order.extra.get("triggered") and not order.fills)
    return "STOP_PENDING" if waits else "STOP_TRIGGERED"


def order_event(order: WireOrder) -> dict[str, Any]:
    """Write an order as the user channel has it."""
    kind = {"MARKET": "Market", "LIMIT": "Limit", "STOP_LIMIT": "Stop Limit"}[_TYPES[order.type]]
    return {
        "avg_price": plain(order.average or Decimal(0)),
        "cancel_reason": order.reason if order.status is OrderStatus.CANCELED else "",
        "client_order_id": order.client_id,
        "completion_percentage": plain(order.filled / order.quantity * 100),
        "contract_expiry_type": "UNKNOWN_CONTRACT_EXPIRY_TYPE",
        "cumulative_quantity": plain(order.filled),
        "filled_value": plain(order.notional),
        "leaves_quantity": plain(order.remaining if order.is_open else Decimal(0)),
        "limit_price": plain(order.price) if order.price is not None else "",
        "number_of_fills": str(len(order.fills)),
        "order_id": order.id,
        "order_side": order.side.value.upper(),
        "order_type": kind,
        "outstanding_hold_amount": "0",
        "post_only": str(order.post_only).lower(),
        "product_id": product_id(order.symbol),
        "product_type": "SPOT",
        "reject_reason": "",
        "retail_portfolio_id": ACCOUNT_NAMESPACE,
        "risk_managed_by": "UNKNOWN_RISK_MANAGEMENT_TYPE",
        "status": _STATUS[order.status],
        "stop_price": plain(order.stop_price) if order.stop_price is not None else "",
        "time_in_force": _FORCES.get(kind_of(order), "GOOD_UNTIL_CANCELLED"),
        "total_fees": plain(order.fee),
        "total_value_after_fees": plain(order.notional + order.fee * order.side.sign),
        "trigger_status": _trigger(order),
        "creation_time": stamp(order.created_ns),
        "end_time": "0001-01-01T00:00:00Z",
        "start_time": "0001-01-01T00:00:00Z",
    }


def fill_row(order: WireOrder, fill: WireFill) -> dict[str, Any]:
    """Write an execution."""
    return {
        "entry_id": f"entry-{fill.id}",
        "trade_id": fill.id,
        "order_id": order.id,
        "trade_time": stamp(fill.time_ns),
        "trade_type": "FILL",
        "price": plain(fill.price),
        "size": plain(fill.notional if order.cost is not None else fill.quantity),
        "commission": plain(fill.fee),
        "product_id": product_id(order.symbol),
        "sequence_timestamp": stamp(fill.time_ns),
        "liquidity_indicator": fill.liquidity.value.upper(),
        "size_in_quote": order.cost is not None,
        "user_id": order.user.name,
        "side": order.side.value.upper(),
        "retail_portfolio_id": ACCOUNT_NAMESPACE,
    }


def page(rows: Iterable[Any], cursor: str | None, limit: int) -> tuple[list[Any], str]:
    """Cut a page out, and name the next one; empty at the end."""
    listed, begins = list(rows), int(cursor or 0)
    ends = begins + limit
    return listed[begins:ends], str(ends) if ends < len(listed) else ""
