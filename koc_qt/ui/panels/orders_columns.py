"""What the tables of orders, positions and fills show: columns, and the words for what an order is doing."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Fill, Order, OrderStatus, OrderType
from koc_qt.domain.state import PositionSnapshot
from koc_qt.ui.formats import clock, money, percent, price, quantity, signed_money, utc
from koc_qt.ui.tables.columns import Column, tone_of_sign

RulesOf = Callable[[InstrumentId], Instrument | None]

UNKNOWN_TIP = (
    "The venue's answer never came, so it is not known whether the order is there. "
    "It is being looked up: do not send it again."
)
_WORDS = {
    OrderStatus.NEW: "New",
    OrderStatus.SUBMITTED: "Sent",
    OrderStatus.UNKNOWN: "Unknown",
    OrderStatus.ACCEPTED: "Working",
    OrderStatus.TRIGGERED: "Triggered",
    OrderStatus.PARTIALLY_FILLED: "Part filled",
    OrderStatus.FILLED: "Filled",
    OrderStatus.CANCELED: "Cancelled",
    OrderStatus.REJECTED: "Rejected",
    OrderStatus.EXPIRED: "Expired",
}
_PILLS = {
    OrderStatus.UNKNOWN: "warning",
    OrderStatus.ACCEPTED: "info",
    OrderStatus.TRIGGERED: "info",
    OrderStatus.PARTIALLY_FILLED: "info",
    OrderStatus.FILLED: "profit",
    OrderStatus.REJECTED: "danger",
}
_TIPS = {
    OrderStatus.NEW: "Written down by the engine, not sent yet",
    OrderStatus.SUBMITTED: "On its way to the venue, which has not answered yet",
    OrderStatus.UNKNOWN: UNKNOWN_TIP,
    OrderStatus.ACCEPTED: "The venue has it and works it",
    OrderStatus.TRIGGERED: "Its stop price was reached",
    OrderStatus.PARTIALLY_FILLED: "Partly done; the rest goes on working",
}
# Amounts of these are written with cents; those of others, such as BTC, with the eight decimals that they have.
_IN_CENTS = frozenset(("USD", "USDT", "USDC", "FDUSD", "TUSD", "BUSD", "DAI", "EUR", "EURC", "GBP", "CHF", "JPY"))


def amount(value: Decimal, currency: str, *, signed: bool = False) -> str:
    """Write an amount of a currency, with its sign where it is a profit or a loss."""
    write = signed_money if signed else money
    if currency in _IN_CENTS:
        return write(value, 2)
    text = write(value, 8)
    return text.rstrip("0").rstrip(".") if "." in text else text


def when(time_ns: int) -> str:
    """Give the local time of day, with month and day where it is not today's."""
    text = clock(time_ns)
    return text if len(text) <= len("00:00:00") else text[len("2000-") : -len(":00")]


def status_word(order: Order) -> str:
    """Say what an order is doing; one that nobody knows of stays unknown, also while it is being cancelled."""
    if order.cancel_requested and order.is_open and order.status is not OrderStatus.UNKNOWN:
        return "Cancelling"
    if order.amending is not None and order.is_open and order.status is not OrderStatus.UNKNOWN:
        return "Changing"
    return _WORDS[order.status]


def status_pill(order: Order) -> str:
    """Give the look of that word."""
    return _PILLS.get(order.status, "neutral")


def status_tip(order: Order) -> str:
    """Say why an order is what it is."""
    lines = [_TIPS.get(order.status, ""), order.reason]
    if order.is_open and order.cancel_requested:
        lines.insert(0, "A cancel is on its way to the venue")
    elif order.is_open and order.amending is not None:
        lines.insert(0, "A change is on its way to the venue")
    return "\n".join(line for line in lines if line)


def side_word(side: Side) -> str:
    """Write a side for people."""
    return side.value.capitalize()


def side_tone(side: Side) -> str:
    """Give the tone of a side: green buys."""
    return "profit" if side is Side.BUY else "loss"


def _type_word(type_: OrderType) -> str:
    return type_.value.replace("_", " ").capitalize()


def order_columns(rules_of: RulesOf) -> tuple[Column[Order], ...]:
    """Give the columns of orders, with prices on the grid of their instruments."""

    def at(value: Decimal | None, order: Order) -> str:
        return price(value, _tick(rules_of(order.request.instrument)))

    def price_tip(order: Order) -> str:
        request = order.request
        if request.price is None:
            return "Trades at whatever price the market has"
        return f"Trades at {at(request.price, order)} or {'below' if request.side is Side.BUY else 'above'}"

    def stop_tip(order: Order) -> str:
        request = order.request
        if request.stop_price is None:
            return ""
        reached = "rises" if request.side is Side.BUY else "falls"
        return f"Waits until the price {reached} to {at(request.stop_price, order)}"

    return (
        Column("time", "Time", lambda o: when(o.created_ns), lambda o: o.created_ns, tip=_order_times, width=13),
        Column(
            "symbol", "Symbol", lambda o: o.request.instrument.symbol, tip=lambda o: str(o.request.instrument), width=12
        ),
        Column(
            "side", "Side", lambda o: side_word(o.request.side), tone=lambda o: side_tone(o.request.side), width=4
        ),
        Column("type", "Type", lambda o: _type_word(o.request.type), tip=_type_tip, width=10),
        Column(
            "quantity", "Quantity", lambda o: quantity(o.request.quantity), lambda o: o.request.quantity, right=True,
            tip=_filled_tip, width=8,
        ),
        Column("filled", "Filled", lambda o: percent(_share(o), 0), _share, right=True, tip=_filled_tip, width=6),
        Column(
            "price", "Price", lambda o: at(o.request.price, o), lambda o: o.request.price, right=True, tip=price_tip,
            width=12, title_tip="Limit price",
        ),
        Column(
            "stop", "Stop", lambda o: at(o.request.stop_price, o), lambda o: o.request.stop_price, right=True,
            tip=stop_tip, width=11, title_tip="The price that sets it off",
        ),
        Column("status", "Status", status_word, pill=status_pill, tip=status_tip, width=13),
        Column("average", "Average", lambda o: at(o.average_price, o), lambda o: o.average_price, right=True, width=13,
               title_tip="Average price of its fills"),
        Column("strategy", "Strategy", lambda o: o.strategy_id, width=14),
        Column("account", "Account", lambda o: o.account_id, width=9),
        Column("id", "Order id", lambda o: o.client_order_id, tip=_id_tip, width=20, hidden=True),
    )  # fmt: skip


def position_columns(rules_of: RulesOf) -> tuple[Column[PositionSnapshot], ...]:
    """Give the columns of positions; money is in the quote currency of each."""

    def earned(value: Decimal, position: PositionSnapshot) -> str:
        return amount(value, _quote(rules_of(position.instrument)), signed=True)

    def fees(position: PositionSnapshot) -> str:
        return amount(position.fees, _quote(rules_of(position.instrument)))

    def in_quote(what: str) -> Callable[[PositionSnapshot], str]:
        def tip(position: PositionSnapshot) -> str:
            rules = rules_of(position.instrument)
            return what if rules is None else f"{what}, in {rules.quote}"

        return tip

    return (
        Column("symbol", "Symbol", lambda p: p.instrument.symbol, tip=lambda p: str(p.instrument), width=12),
        Column("side", "Side", _holding, tone=lambda p: tone_of_sign(p.quantity), width=5),
        Column("quantity", "Quantity", lambda p: quantity(abs(p.quantity)), lambda p: p.quantity, right=True, width=9),
        Column(
            "average", "Average", lambda p: price(p.average_price, _tick(rules_of(p.instrument))),
            lambda p: p.average_price, right=True, width=13, title_tip="Average price of what is held",
        ),
        Column(
            "unrealised", "Unrealised", lambda p: earned(p.unrealised_pnl, p), lambda p: p.unrealised_pnl, right=True,
            width=11, tone=lambda p: tone_of_sign(p.unrealised_pnl), tip=in_quote("At the present price, before fees"),
        ),
        Column(
            "realised", "Realised", lambda p: earned(p.realised_pnl, p), lambda p: p.realised_pnl, right=True, width=11,
            tone=lambda p: tone_of_sign(p.realised_pnl), tip=in_quote("Of what was closed, before fees"),
        ),
        Column("fees", "Fees", fees, lambda p: p.fees, right=True, tip=in_quote("Fees paid"), width=8),
        Column(
            "pnl", "PnL", lambda p: earned(p.pnl, p), lambda p: p.pnl, right=True, width=11,
            tone=lambda p: tone_of_sign(p.pnl), tip=in_quote("Realised and unrealised, after fees"),
        ),
        Column("strategy", "Strategy", lambda p: p.strategy_id, width=14),
        Column("account", "Account", lambda p: p.account_id, width=9),
        Column(
            "time", "Changed", lambda p: when(p.time_ns), lambda p: p.time_ns, tip=lambda p: utc(p.time_ns), width=13,
            hidden=True,
        ),
    )  # fmt: skip


def fill_columns(rules_of: RulesOf) -> tuple[Column[Fill], ...]:
    """Give the columns of fills."""

    def price_text(fill: Fill) -> str:
        return price(fill.price, _tick(rules_of(fill.instrument)))

    def value_text(fill: Fill) -> str:
        return amount(fill.price * fill.quantity, _quote(rules_of(fill.instrument)))

    def value_tip(fill: Fill) -> str:
        rules = rules_of(fill.instrument)
        return "Price times quantity" if rules is None else f"Price times quantity, in {rules.quote}"

    return (
        Column("time", "Time", lambda f: when(f.time_ns), lambda f: f.time_ns, tip=lambda f: utc(f.time_ns), width=13),
        Column("symbol", "Symbol", lambda f: f.instrument.symbol, tip=lambda f: str(f.instrument), width=12),
        Column("side", "Side", lambda f: side_word(f.side), tone=lambda f: side_tone(f.side), width=4),
        Column("quantity", "Quantity", lambda f: quantity(f.quantity), lambda f: f.quantity, right=True, width=9),
        Column("price", "Price", price_text, lambda f: f.price, right=True, width=12),
        Column("value", "Value", value_text, lambda f: f.price * f.quantity, right=True, width=12, tip=value_tip),
        Column("fee", "Fee", _fee, lambda f: f.fee, right=True, tip=_fee_tip, width=12),
        Column("liquidity", "Role", lambda f: f.liquidity.value.capitalize(), width=6,
               title_tip="Maker: it rested in the book. Taker: it traded with what rested there"),
        Column("strategy", "Strategy", lambda f: f.strategy_id, width=14),
        Column("account", "Account", lambda f: f.account_id, width=9),
        Column("order", "Order id", lambda f: f.client_order_id, width=20, hidden=True),
        Column("id", "Fill id", lambda f: f.fill_id, width=14, hidden=True),
    )  # fmt: skip


def _tick(rules: Instrument | None) -> Decimal | None:
    return None if rules is None else rules.tick_size


def _quote(rules: Instrument | None) -> str:
    return rules.quote if rules is not None else ""


def _share(order: Order) -> float:
    return float(order.filled_quantity / order.request.quantity)


def _holding(position: PositionSnapshot) -> str:
    return "Flat" if not position.quantity else "Long" if position.quantity > 0 else "Short"


def _order_times(order: Order) -> str:
    return f"Placed {utc(order.created_ns)}\nChanged {utc(order.updated_ns)}"


def _type_tip(order: Order) -> str:
    request = order.request
    words = [_type_word(request.type), request.time_in_force.value.upper()]
    words += ["post only"] * request.post_only + ["reduce only"] * request.reduce_only
    return ", ".join(words)


def _filled_tip(order: Order) -> str:
    return f"{quantity(order.filled_quantity)} of {quantity(order.request.quantity)} filled"


def _id_tip(order: Order) -> str:
    return f"At the venue: {order.venue_order_id}" if order.venue_order_id else "The venue has given it no id"


def _fee(fill: Fill) -> str:
    return f"{quantity(round(fill.fee, 8))} {fill.fee_currency}"


def _fee_tip(fill: Fill) -> str:
    return f"{fill.fee:f} {fill.fee_currency}" + (", received" if fill.fee < 0 else "")
