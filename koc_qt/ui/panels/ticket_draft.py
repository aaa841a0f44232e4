"""What an order ticket's fields amount to: the order, its worth and fee, and what is wrong with which field."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal, localcontext
from enum import StrEnum

from koc_qt.domain.errors import InvalidOrder
from koc_qt.domain.exact import EXACT
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Liquidity, Order, OrderRequest, OrderStatus, OrderType, TimeInForce
from koc_qt.domain.state import AccountSnapshot
from koc_qt.ui import formats
from koc_qt.ui.panels.ticket_numbers import BadNumber, read_amount

LIMITED = (OrderType.LIMIT, OrderType.STOP_LIMIT)
STOPPED = (OrderType.STOP, OrderType.STOP_LIMIT)
TYPE_NAMES = {
    OrderType.MARKET: "Market",
    OrderType.LIMIT: "Limit",
    OrderType.STOP: "Stop",
    OrderType.STOP_LIMIT: "Stop-limit",
}
TIME_NAMES = {
    TimeInForce.GTC: "Good till cancelled",
    TimeInForce.IOC: "Immediate or cancel: what cannot be filled at once is dropped",
    TimeInForce.FOK: "Fill or kill: filled at once and whole, or not at all",
}


class Field(StrEnum):
    """Where a problem is shown, in the order in which the ticket shows them."""

    ACCOUNT = "account"
    SYMBOL = "symbol"
    PRICE = "price"
    STOP = "stop"
    QUANTITY = "quantity"
    FLAGS = "flags"


@dataclass(frozen=True)
class Entry:
    """What is in the fields. `quantity` is in base units, or in quote currency where `is_amount`.

    `bid` and `ask` are the newest of a market that streams, None where they are not known.
    """

    rules: Instrument
    side: Side
    type: OrderType
    quantity: str
    price: str = ""
    stop_price: str = ""
    is_amount: bool = False
    time_in_force: TimeInForce = TimeInForce.GTC
    post_only: bool = False
    reduce_only: bool = False
    bid: Decimal | None = None
    ask: Decimal | None = None


@dataclass
class Draft:
    """What they amount to. `request` is there when nothing is wrong or missing; estimates as far as they are known.

    `reference` is the price that the order probably trades at, `notional` and `fee` are in quote currency.
    """

    liquidity: Liquidity = Liquidity.TAKER
    fee_rate: Decimal = Decimal(0)
    quantity: Decimal | None = None
    reference: Decimal | None = None
    notional: Decimal | None = None
    fee: Decimal | None = None
    request: OrderRequest | None = None
    problems: dict[Field, str] = field(default_factory=dict)
    missing: dict[Field, str] = field(default_factory=dict)


def examine(entry: Entry) -> Draft:
    """Read the fields, hold them against the instrument's rules, and estimate."""
    with localcontext(EXACT):
        draft = Draft()
        price = stop = None
        if entry.type in LIMITED:
            price = _price(draft, Field.PRICE, entry.price, "Enter a price", entry.rules)
        if entry.type in STOPPED:
            stop = _price(draft, Field.STOP, entry.stop_price, "Enter a stop price", entry.rules)
        market = entry.ask if entry.side is Side.BUY else entry.bid
        market = market if market is not None and market > 0 else None
        if entry.type in LIMITED:
            draft.reference = price
        else:
            draft.reference = stop if entry.type is OrderType.STOP else market
        draft.liquidity = _liquidity(entry, price)
        is_maker = draft.liquidity is Liquidity.MAKER
        draft.fee_rate = entry.rules.maker_fee if is_maker else entry.rules.taker_fee
        draft.quantity = _quantity(draft, entry)
        if draft.quantity is not None and draft.reference is not None:
            draft.notional = draft.quantity * draft.reference
            draft.fee = draft.notional * draft.fee_rate
        if draft.quantity is not None and not (draft.problems or draft.missing):
            try:
                draft.request = _request(entry, draft.quantity, price, stop)
            except InvalidOrder as error:
                text = str(error)
                draft.problems[Field.FLAGS] = text[:1].upper() + text[1:]
        return draft


def _request(entry: Entry, quantity: Decimal, price: Decimal | None, stop: Decimal | None) -> OrderRequest:
    return OrderRequest(
        entry.rules.id,
        entry.side,
        entry.type,
        quantity,
        price,
        stop,
        entry.time_in_force if entry.type in LIMITED else TimeInForce.GTC,
        entry.post_only and entry.type is OrderType.LIMIT,
        entry.reduce_only,
    )


def _read(draft: Draft, where: Field, text: str, missing: str) -> Decimal | None:
    if not text.strip():
        draft.missing[where] = missing
        return None
    try:
        return read_amount(text)
    except BadNumber as error:
        draft.problems[where] = str(error)
        return None


def _price(draft: Draft, where: Field, text: str, missing: str, rules: Instrument) -> Decimal | None:
    value = _read(draft, where, text, missing)
    if value is not None and value % rules.tick_size:
        nearest = rules.round_price(value) or rules.ceil_price(value)
        draft.problems[where] = f"Not a multiple of {plain(rules.tick_size)}: the nearest is {nearest:,f}"
        return None
    return value


def _quantity(draft: Draft, entry: Entry) -> Decimal | None:
    """Give the quantity in base units where it obeys the rules."""
    rules = entry.rules
    unit = rules.quote if entry.is_amount else rules.base
    value = _read(draft, Field.QUANTITY, entry.quantity, f"Enter how much, in {unit}")
    if value is None:
        return None
    if entry.is_amount:
        if draft.reference is None:
            if not {Field.PRICE, Field.STOP} & (draft.problems.keys() | draft.missing.keys()):
                draft.problems[Field.QUANTITY] = f"No price is known yet: enter the quantity in {rules.base}"
            return None
        value = rules.round_quantity(value / draft.reference)
        if not value:
            least = f"{plain(rules.lot_size)} {rules.base}"
            draft.problems[Field.QUANTITY] = f"This is worth less than the smallest step of {least}"
            return None
    problem = _quantity_problem(rules, value, draft.reference)
    if problem:
        draft.problems[Field.QUANTITY] = problem
        return None
    return value


def _quantity_problem(rules: Instrument, value: Decimal, reference: Decimal | None) -> str:
    if value % rules.lot_size:
        nearest = rules.round_quantity(value) or rules.ceil_quantity(value)
        return f"Not a multiple of {plain(rules.lot_size)}: the nearest is {plain(nearest)}"
    if value < rules.min_quantity:
        return f"The least is {plain(rules.ceil_quantity(rules.min_quantity))} {rules.base}"
    if rules.max_quantity is not None and value > rules.max_quantity:
        return f"The most is {plain(rules.round_quantity(rules.max_quantity))} {rules.base}"
    if reference is not None and value * reference < rules.min_notional:
        least = rules.ceil_quantity(rules.min_notional / reference)
        return f"The least is worth {plain(rules.min_notional)} {rules.quote}, {plain(least)} {rules.base} here"
    return ""


def _liquidity(entry: Entry, price: Decimal | None) -> Liquidity:
    """Say which fee is likely: a limit order that rests pays the maker's, one that crosses the taker's."""
    if entry.type is not OrderType.LIMIT or entry.time_in_force is not TimeInForce.GTC:
        return Liquidity.TAKER
    if not entry.post_only and price is not None:
        if entry.side is Side.BUY and entry.ask is not None and price >= entry.ask:
            return Liquidity.TAKER
        if entry.side is Side.SELL and entry.bid is not None and price <= entry.bid:
            return Liquidity.TAKER
    return Liquidity.MAKER


def share_text(entry: Entry, draft: Draft, percent: int, account: AccountSnapshot | None) -> str:
    """Give the quantity field's text for a share of what is free: in whole lots, and a buy leaves room for the fee.

    Raises BadNumber with the reason why there is none.
    """
    rules, is_sell = entry.rules, entry.side is Side.SELL
    currency = rules.base if is_sell else rules.quote
    held = free_balance(account, currency)
    with localcontext(EXACT):
        if held <= 0:
            raise BadNumber(f"The account has no free {currency}")
        part = held * percent / 100
        if not is_sell or entry.is_amount:
            if draft.reference is None:
                raise BadNumber("No price is known yet: enter one, or wait for the market")
            if not is_sell:
                part = part / (draft.reference * (1 + max(draft.fee_rate, Decimal(0))))
        quantity = rules.round_quantity(part)
        if rules.max_quantity is not None:
            quantity = min(quantity, rules.round_quantity(rules.max_quantity))
        if quantity <= 0:
            raise BadNumber(f"{percent} % of {formats.quantity(held)} {currency} is less than one step of the quantity")
        if entry.is_amount and draft.reference is not None:
            return _amount_text(quantity * draft.reference, rules)
        return plain(quantity)


def free_balance(account: AccountSnapshot | None, currency: str) -> Decimal:
    """Give what an account has of a currency and open orders do not hold."""
    with localcontext(EXACT):
        balances = account.balances if account is not None else ()
        return sum((each.total - each.locked for each in balances if each.currency == currency), Decimal(0))


def stepped(rules: Instrument, text: str, by: int) -> str:
    """Give a price some ticks away, on the grid; the same text where there is no such price."""
    try:
        value = read_amount(text)
    except BadNumber:
        return text
    with localcontext(EXACT):
        moved = rules.round_price(value) + rules.tick_size * by
        return price_text(moved, rules) if moved > 0 else text


def converted(entry: Entry, draft: Draft, to_amount: bool) -> str:
    """Give the quantity field's text in the other unit; empty where it cannot be told."""
    try:
        value = read_amount(entry.quantity)
    except BadNumber:
        return ""
    if draft.reference is None:
        return ""
    with localcontext(EXACT):
        if to_amount:
            return _amount_text(value * draft.reference, entry.rules)
        return plain(entry.rules.round_quantity(value / draft.reference))


def _amount_text(value: Decimal, rules: Instrument) -> str:
    """Write an amount of quote currency into a field: rounded up, so that the quantity it came from is kept."""
    step = Decimal(1).scaleb(-max(2, formats.decimals_of(rules.tick_size) + formats.decimals_of(rules.lot_size)))
    return plain(value.quantize(step, ROUND_CEILING, EXACT))


def price_text(price: Decimal, rules: Instrument | None) -> str:
    """Write a price into a field, with all decimals of its tick where it is on the grid."""
    with localcontext(EXACT):
        if rules is None or price % rules.tick_size:
            return plain(price)
        return formats.price(price, rules.tick_size).replace(",", "")


def money(value: Decimal | None, rules: Instrument, extra: int = 0) -> str:
    """Show an amount of quote currency with about as many decimals as prices have."""
    with localcontext(EXACT):  # rounding needs room for all digits
        return formats.money(value, max(2, formats.decimals_of(rules.tick_size)) + extra)


def plain(value: Decimal) -> str:
    """Write a number as a field takes it: without an exponent, without zeros at its end, without separators."""
    return formats.quantity(value).replace(",", "")


def describe(request: OrderRequest, rules: Instrument) -> str:
    """Say in full what will be sent."""
    with localcontext(EXACT):
        return _describe(request, rules)


def _describe(request: OrderRequest, rules: Instrument) -> str:
    parts = [f"{request.side.capitalize()} {formats.quantity(request.quantity)} {rules.base}"]
    if request.price is not None:
        parts.append(f"at {formats.price(request.price, rules.tick_size)} {rules.quote} or better")
    else:
        parts.append("at the market")
    if request.stop_price is not None:
        parts.append(f"once {formats.price(request.stop_price, rules.tick_size)} is reached")
    text = " ".join(parts)
    if request.price is not None:
        text += f", {TIME_NAMES[request.time_in_force].partition(':')[0].lower()}"
    return text + (", post-only" if request.post_only else "") + (", reduce-only" if request.reduce_only else "")


def progress(order: Order, rules: Instrument | None) -> tuple[str, str]:
    """Say how an order stands, and in which tone."""
    reason = f": {order.reason}" if order.reason else ""
    tick = rules.tick_size if rules is not None else None
    done = f"{formats.quantity(order.filled_quantity)} of {formats.quantity(order.request.quantity)}"
    at = f" at {_average(order.average_price, tick)}" if order.average_price is not None else ""
    words, tone = {
        OrderStatus.NEW: ("is on its way", "info"),
        OrderStatus.SUBMITTED: ("is on its way", "info"),
        OrderStatus.UNKNOWN: (f"has had no answer of the venue yet; the engine looks it up{reason}", "warning"),
        OrderStatus.ACCEPTED: ("is working at the venue", "info"),
        OrderStatus.TRIGGERED: ("was triggered", "info"),
        OrderStatus.PARTIALLY_FILLED: (f"is filled in part, {done}{at}", "info"),
        OrderStatus.FILLED: (f"is filled, {formats.quantity(order.filled_quantity)}{at}", "profit"),
        OrderStatus.CANCELED: (f"was cancelled, {done} filled{reason}", "warning"),
        OrderStatus.REJECTED: (f"was rejected{reason}", "danger"),
        OrderStatus.EXPIRED: (f"expired, {done} filled{reason}", "warning"),
    }[order.status]
    return f"Order {order.client_order_id} {words}", tone


def _average(price: Decimal, tick: Decimal | None) -> str:
    """Show an average, which has no tick, to two decimals more than one."""
    with localcontext(EXACT):
        return formats.quantity(round(price, formats.decimals_of(tick) + 2)) if tick is not None else f"{price:,f}"
