"""How Alpaca writes orders, positions, assets, bars and stream messages.

https://docs.alpaca.markets/reference (trading and market data), /docs/real-time-stock-pricing-data and
/docs/websocket-streaming. Amounts of trading are text, those of market data are numbers.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgpack  # type: ignore[import-untyped]

from koc_qt.domain.market import Quote, Side, Trade
from koc_qt.domain.orders import OrderStatus, OrderType, TimeInForce
from tests.wire.core.accounts import User
from tests.wire.core.history import Candle
from tests.wire.core.listings import Listing, Trading
from tests.wire.core.orders import WireFill, WireOrder

LIVE, PAPER, DATA, STREAM = (f"{n}.alpaca.markets" for n in ("api", "paper-api", "data", "stream.data"))
_S = 1_000_000_000
_STATUS = {
    OrderStatus.ACCEPTED: "new",
    OrderStatus.TRIGGERED: "new",
    OrderStatus.FILLED: "filled",
    OrderStatus.CANCELED: "canceled",
    OrderStatus.REJECTED: "rejected",
}
ENDED = ("filled", "canceled", "expired", "replaced", "rejected")


def uuid_of(*parts: object) -> str:
    """Give an id that belongs to the parts."""
    return str(uuid.UUID(int=random.Random("/".join(map(str, parts))).getrandbits(128), version=4))


def stamp(time_ns: int | None) -> str | None:
    """Write a time as RFC 3339 with nanoseconds."""
    if time_ns is None:
        return None
    whole = datetime.fromtimestamp(time_ns // _S, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{time_ns % _S:09d}".rstrip("0").rstrip(".") + "Z"


def text(value: Decimal | None) -> str | None:
    """Write an amount without trailing zeros."""
    if value is None:
        return None
    short = value.normalize()
    return f"{short:f}"


@dataclass(eq=False)
class Ticket:
    """An order as Alpaca counts them: one that replaces another has an id and a filled quantity of its own.

    `core` is the exchange's order, None while the market is closed; fills from `first` to `last` are this ticket's.
    """

    id: str
    client_id: str
    user: User
    symbol: str
    side: Side
    type: OrderType
    quantity: Decimal | None
    notional: Decimal | None
    limit: Decimal | None
    stop: Decimal | None
    tif: str
    extended: bool
    created_ns: int
    core: WireOrder | None = None
    first: int = 0
    last: int | None = None
    fixed: str = ""  # a status that the exchange's order does not have
    replaces: str | None = None
    replaced_by: str | None = None
    times: dict[str, int] = field(default_factory=dict)

    @property
    def fills(self) -> list[WireFill]:
        """Its executions."""
        return [] if self.core is None else self.core.fills[self.first : self.last]

    @property
    def filled(self) -> Decimal:
        """Quantity executed."""
        return sum((fill.quantity for fill in self.fills), Decimal(0))

    @property
    def status(self) -> str:
        """Where it is in its life, in Alpaca's words."""
        if self.fixed or self.core is None:
            return self.fixed or "accepted"
        core = self.core.status
        if core is OrderStatus.EXPIRED:
            return "canceled"  # what ioc and fok leave
        if core is OrderStatus.PARTIALLY_FILLED:
            return "partially_filled" if self.filled else "new"
        return _STATUS[core]

    @property
    def is_open(self) -> bool:
        """Whether it works, or waits to."""
        return self.status not in ENDED


def asset_class(listing: Listing) -> str:
    """Give what kind of asset it is."""
    return "us_equity" if listing.stock else "crypto"


def order_row(ticket: Ticket, listing: Listing, status: str = "") -> dict[str, Any]:
    """Write an order; another `status` than its own for answers that are given before anything happens."""
    filled = Decimal(0) if status else ticket.filled
    spent = sum((fill.notional for fill in ticket.fills), Decimal(0))
    named = status or ticket.status
    return {
        "id": ticket.id,
        "client_order_id": ticket.client_id,
        "created_at": stamp(ticket.created_ns),
        "updated_at": stamp(max([ticket.created_ns, *ticket.times.values()])),
        "submitted_at": stamp(ticket.created_ns),
        "filled_at": stamp(ticket.times.get("filled")),
        "expired_at": stamp(ticket.times.get("expired")),
        "canceled_at": stamp(ticket.times.get("canceled")),
        "failed_at": stamp(ticket.times.get("rejected")),
        "replaced_at": stamp(ticket.times.get("replaced")),
        "replaced_by": ticket.replaced_by,
        "replaces": ticket.replaces,
        "asset_id": uuid_of("asset", ticket.symbol),
        "symbol": ticket.symbol,
        "asset_class": asset_class(listing),
        "notional": text(ticket.notional),
        "qty": None if ticket.notional is not None else text(ticket.quantity),
        "filled_qty": text(filled),
        "filled_avg_price": text(round(spent / filled, 9)) if filled else None,
        "order_class": "",
        "order_type": ticket.type.value,
        "type": ticket.type.value,
        "side": ticket.side.value,
        "position_intent": f"{ticket.side.value}_to_open",
        "time_in_force": ticket.tif,
        "limit_price": text(ticket.limit),
        "stop_price": text(ticket.stop),
        "status": named,
        "extended_hours": ticket.extended,
        "legs": None,
        "trail_percent": None,
        "trail_price": None,
        "hwm": None,
        "source": None,
    }


def activity_row(ticket: Ticket, fill: WireFill, total: Decimal, listing: Listing) -> dict[str, Any]:
    """Write an execution of /v2/account/activities/FILL; `total` is the quantity executed with it."""
    when = datetime.fromtimestamp(fill.time_ns // _S, UTC)
    left = Decimal(0) if ticket.quantity is None else ticket.quantity - total
    return {
        "id": f"{when:%Y%m%d%H%M%S}{fill.time_ns % _S // 1_000_000:03d}::{fill.id}",
        "activity_type": "FILL",
        "transaction_time": stamp(fill.time_ns),
        "type": "fill" if left <= 0 else "partial_fill",
        "price": text(fill.price),
        "qty": text(fill.quantity),
        "side": ticket.side.value,
        "symbol": ticket.symbol,
        "leaves_qty": text(left),
        "order_id": ticket.id,
        "cum_qty": text(total),
        "order_status": "filled" if left <= 0 else "partially_filled",
    }


def position_row(listing: Listing, held: Decimal, locked: Decimal, entry: Decimal, last: Decimal) -> dict[str, Any]:
    """Write a position; crypto has no slash here."""
    worth, cost = held * last, held * entry
    return {
        "asset_id": uuid_of("asset", listing.symbol),
        "symbol": listing.symbol.replace("/", ""),
        "exchange": "NASDAQ" if listing.stock else "CRYPTO",
        "asset_class": asset_class(listing),
        "asset_marginable": listing.stock,
        "qty": text(held),
        "qty_available": text(held - locked),
        "avg_entry_price": text(round(entry, 9)),
        "side": "long" if held > 0 else "short",
        "market_value": text(worth),
        "cost_basis": text(round(cost, 9)),
        "unrealized_pl": text(round(worth - cost, 9)),
        "current_price": text(last),
        "lastday_price": text(last),
        "change_today": "0",
    }


def asset_row(listing: Listing, trading: Trading, fractionable: bool) -> dict[str, Any]:
    """Write an asset; those of crypto have increments."""
    row: dict[str, Any] = {
        "id": uuid_of("asset", listing.symbol),
        "class": asset_class(listing),
        "exchange": "NASDAQ" if listing.stock else "CRYPTO",
        "symbol": listing.symbol,
        "name": f"{listing.base} of the simulated exchange",
        "status": "inactive" if trading is Trading.DELISTED else "active",
        "tradable": trading is not Trading.DELISTED,
        "marginable": listing.stock,
        "maintenance_margin_requirement": 30 if listing.stock else 100,
        "shortable": listing.stock,
        "easy_to_borrow": listing.stock,
        "fractionable": fractionable,
        "attributes": [],
    }
    if not listing.stock:
        increments = {"min_trade_increment": text(listing.lot), "price_increment": text(listing.tick)}
        row |= {"min_order_size": text(listing.min_quantity), **increments}
    return row


def bar_row(candle: Candle, open_ns: int) -> dict[str, Any]:
    """Write a bar of the data API."""
    prices = {"o": candle.open, "h": candle.high, "l": candle.low, "c": candle.close, "v": candle.volume}
    mean = (candle.high + candle.low) / 2
    numbers = {name: float(value) for name, value in prices.items()}
    return {"t": stamp(open_ns), **numbers, "n": candle.trades, "vw": float(mean)}


def trade_row(trade: Trade, *, stock: bool) -> dict[str, Any]:
    """Write a trade without its type, symbol and time; trades of stocks do not tell who was the taker."""
    row: dict[str, Any] = {"i": int(trade.trade_id), "p": float(trade.price), "s": float(trade.quantity)}
    if stock:
        return {**row, "x": "V", "c": ["@"], "z": "C"}
    return {**row, "tks": "B" if trade.side is Side.BUY else "S"}


def quote_row(quote: Quote, *, stock: bool) -> dict[str, Any]:
    """Write a quote without its type, symbol and time."""
    best = {"bp": quote.bid, "bs": quote.bid_size, "ap": quote.ask, "as": quote.ask_size}
    row = {name: float(value) for name, value in best.items()}
    return {**row, "bx": "V", "ax": "V", "c": ["R"], "z": "C"} if stock else row


def packed(messages: Any, binary: bool) -> str | bytes | Any:
    """Write messages as the connection wants them: MessagePack with its own kind of times, or as they are for JSON."""
    if not binary:
        return messages
    data: bytes = msgpack.packb([{**m, "t": _timestamp(m["t"])} if "t" in m else m for m in messages])
    return data


def _timestamp(time: str) -> msgpack.Timestamp:
    whole, _, part = time.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return msgpack.Timestamp(seconds, int(part.ljust(9, "0")) if part else 0)


def read_ns(value: str) -> int:
    """Read a time or a date as people write them in requests."""
    whole, _, part = value.replace("Z", "+00:00").partition(".")
    digits, zone = (part[:-6], part[-6:]) if part[-6:-5] in ("+", "-") else (part, "")
    moment = datetime.fromisoformat(whole + zone)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * _S + (int(digits.ljust(9, "0")[:9]) if digits else 0)


def core_tif(tif: str) -> TimeInForce:
    """Give the exchange's own word for how long an order works."""
    return TimeInForce(tif) if tif in ("ioc", "fok") else TimeInForce.GTC


def amount(fields: Mapping[str, Any], name: str) -> Decimal | None:
    """Read an amount of a request, which may be text or a number. Raises ValueError."""
    value = fields.get(name)
    if value is None or value == "":
        return None
    try:
        number = Decimal(str(value))
    except ArithmeticError:
        raise ValueError(f"{name} is not a number") from None
    if not number.is_finite() or number <= 0:
        raise ValueError(f"{name} must be > 0")
    return number
