"""ccxt's unified orders, trades and balances of an account, turned into domain facts; see ccxt_facts for markets.

The order client parses numbers as text (`number = str`), so that every amount is the venue's own, digit for digit.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from koc_qt.adapters.ccxt_facts import MS_NS, MalformedError, exact
from koc_qt.adapters.order_tracker import OrderUpdate
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Liquidity, Order, OrderStatus, OrderType
from koc_qt.domain.state import Balance
from koc_qt.domain.venues import VenueOrder, VenueTrade

_ZERO = Decimal(0)
_ENDINGS = {
    "closed": OrderStatus.FILLED,
    "canceled": OrderStatus.CANCELED,
    "cancelled": OrderStatus.CANCELED,
    "expired": OrderStatus.EXPIRED,
    "rejected": OrderStatus.REJECTED,
}


def amount(value: object, what: str) -> Decimal | None:
    """Give a number, or None where there is none. Raises MalformedError for what is neither."""
    return None if value is None or value == "" else exact(value, what)


def time_ns(raw: Mapping[str, Any], otherwise_ns: int, *fields: str) -> int:
    """Give the first of the fields that is a time, which ccxt has in milliseconds."""
    for field in fields or ("timestamp",):
        time_ms = raw.get(field)
        if isinstance(time_ms, int) and not isinstance(time_ms, bool) and time_ms > 0:
            return time_ms * MS_NS
    return otherwise_ns


def order_update(raw: Mapping[str, Any], now_ns: int) -> OrderUpdate:
    """Read what an order structure says of an order's state. Raises MalformedError for one that says nothing."""
    filled = amount(raw.get("filled"), "filled")
    status = _ENDINGS.get(str(raw.get("status") or ""))
    if status is None:
        status = OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.ACCEPTED
    venue_order_id, client_order_id = str(raw.get("id") or ""), str(raw.get("clientOrderId") or "")
    if not venue_order_id and not client_order_id:
        raise MalformedError("an order without an id")
    return OrderUpdate(
        status=status,
        time_ns=time_ns(raw, now_ns, "lastUpdateTimestamp", "lastTradeTimestamp", "timestamp"),
        client_order_id=client_order_id,
        venue_order_id=venue_order_id,
        filled=filled,
    )


def execution(raw: Mapping[str, Any], now_ns: int, fill_id: str = "") -> VenueTrade:
    """Read an execution; `fill_id` where the trade's own id is not unique in the account. Raises MalformedError."""
    side = str(raw.get("side") or "").lower()
    if side not in ("buy", "sell"):
        raise MalformedError(f"side is {side!r}, neither buy nor sell")
    fill_id = fill_id or str(raw.get("id") or "")
    if not fill_id:
        raise MalformedError("an execution without an id")
    cost, currency = _fee(raw)
    return VenueTrade(
        fill_id=fill_id,
        venue_order_id=str(raw.get("order") or ""),
        client_order_id=str(raw.get("clientOrderId") or ""),
        symbol=str(raw.get("symbol") or ""),
        side=Side(side),
        price=exact(raw.get("price"), "price"),
        quantity=exact(raw.get("amount"), "amount"),
        fee=cost,
        fee_currency=currency,
        liquidity=Liquidity.MAKER if raw.get("takerOrMaker") == "maker" else Liquidity.TAKER,
        time_ns=time_ns(raw, now_ns),
    )


def named(trade: VenueTrade, client_order_id: str, venue_order_id: str = "") -> VenueTrade:
    """Give an execution under our id, and the venue's where it told none."""
    return msgspec.structs.replace(
        trade,
        client_order_id=client_order_id or trade.client_order_id,
        venue_order_id=venue_order_id or trade.venue_order_id,
    )


def named_update(update: OrderUpdate, client_order_id: str) -> OrderUpdate:
    """Give a status under our id: a venue may tell none, or write it in a way of its own."""
    return msgspec.structs.replace(update, client_order_id=client_order_id)


def present_terms(order: Order, raw: Mapping[str, Any]) -> tuple[Decimal | None, Decimal | None]:
    """Give an order's present quantity and limit as its venue has them; None where it tells none."""
    price = None if order.request.price is None else amount(raw.get("price"), "price")
    return amount(raw.get("amount"), "amount") or None, price or None


def _fee(raw: Mapping[str, Any]) -> tuple[Decimal, str]:
    """Give a trade's fee; where it was paid in two currencies, the first that is not zero."""
    listed = [fee for fee in (raw.get("fee"), *(raw.get("fees") or [])) if isinstance(fee, Mapping)]
    for fee in listed:
        cost = amount(fee.get("cost"), "fee")
        if cost:
            return cost, str(fee.get("currency") or "")
    return _ZERO, str(listed[0].get("currency") or "") if listed else ""


def open_order(raw: Mapping[str, Any], now_ns: int) -> VenueOrder:
    """Read an order that works at the venue. Raises MalformedError."""
    stop = amount(raw.get("triggerPrice") or raw.get("stopPrice"), "stop price") or None
    price = amount(raw.get("price"), "price") or None
    kind = str(raw.get("type") or "").lower()
    is_market = kind == "market" or (kind != "limit" and price is None)
    if stop is not None:
        order_type = OrderType.STOP if is_market else OrderType.STOP_LIMIT
    else:
        order_type = OrderType.MARKET if is_market else OrderType.LIMIT
    return VenueOrder(
        venue_order_id=str(raw.get("id") or ""),
        client_order_id=str(raw.get("clientOrderId") or ""),
        symbol=str(raw.get("symbol") or ""),
        side=Side(str(raw.get("side") or "").lower()),
        type=order_type,
        quantity=exact(raw.get("amount"), "amount"),
        filled_quantity=amount(raw.get("filled"), "filled") or _ZERO,
        price=price,
        stop_price=stop,
        time_ns=time_ns(raw, now_ns),
    )


def balances(raw: Mapping[str, Any]) -> list[Balance]:
    """Read a balance structure, by currency; currencies of which there is nothing are left out."""
    found = []
    for currency, total in sorted((raw.get("total") or {}).items()):
        whole = amount(total, f"total of {currency}") or _ZERO
        locked = amount((raw.get("used") or {}).get(currency), f"locked {currency}") or _ZERO
        if whole or locked:
            found.append(Balance(currency, whole, locked))
    return found
