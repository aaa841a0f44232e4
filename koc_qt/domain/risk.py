"""The gate before the wire: an instrument's rules, then the limits of the strategy. Money is in quote currency."""

from __future__ import annotations

from decimal import Decimal, getcontext, setcontext

import msgspec

from koc_qt.domain.errors import ConfigError, InvalidOrder, RiskRefused
from koc_qt.domain.exact import EXACT
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.market import Side
from koc_qt.domain.orders import OrderRequest


class RiskLimits(msgspec.Struct, frozen=True):
    """What one strategy may do; the defaults suit a paper account of some 100,000 in quote currency.

    `price_collar` is how far beyond the reference price, as a fraction of it, a limit may reach into the market.
    `max_daily_loss` is a positive amount; once lost, only orders that reduce a position pass. `allow_short` lets a
    position go below zero; a spot venue still refuses to sell what the account does not hold. Raises ConfigError.
    """

    max_order_notional: Decimal = Decimal(50_000)
    max_position_notional: Decimal = Decimal(100_000)
    max_open_orders: int = 50
    max_orders_per_minute: int = 300
    price_collar: Decimal = Decimal("0.05")
    max_daily_loss: Decimal = Decimal(5_000)
    allow_short: bool = True

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if not Decimal(value).is_finite() or value < 0:
                raise ConfigError(f"risk limit {name} must be a number, zero or more, not {value}")


class RiskContext(msgspec.Struct, frozen=True):
    """How things stand for a strategy when it asks for an order.

    `reference_price` is the market's present price, None while none is known. `position_quantity` is signed;
    `open_buy_quantity` and `open_sell_quantity` are what its open orders in this instrument have left to fill, both
    positive. `open_orders` and `orders_last_minute` count all its instruments. `daily_pnl` is after fees, negative for
    a loss. Where a working order is to be changed the request is what it is to become, the open quantities and counts
    are without it, and `filled_quantity` is what the position holds of it already.
    """

    instrument: Instrument
    reference_price: Decimal | None
    position_quantity: Decimal
    open_buy_quantity: Decimal
    open_sell_quantity: Decimal
    open_orders: int
    orders_last_minute: int
    daily_pnl: Decimal
    kill_switch: bool = False
    kill_reason: str = ""
    filled_quantity: Decimal = Decimal(0)


def check(request: OrderRequest, context: RiskContext, limits: RiskLimits) -> None:
    """Let an order pass or say why not.

    Raises InvalidOrder where the order breaks the instrument's rules, with the nearest legal value, and RiskRefused
    where the kill switch or a limit forbids it, with what would be allowed. The kill switch comes first and bars all.
    Open orders count as if they will be filled, so that no series of orders passes a limit that one could not.
    """
    if context.kill_switch:
        reason = f" ({context.kill_reason})" if context.kill_reason else ""
        raise RiskRefused(f"the kill switch is engaged{reason}: release it to trade again")
    if request.instrument != context.instrument.id:
        raise InvalidOrder(
            f"the order is for {request.instrument}, the rules given are those of {context.instrument.id}"
        )
    callers = getcontext()
    setcontext(EXACT)  # a tenth of what `localcontext` takes, which makes another one each time
    try:
        _check_instrument(request, context)
        _check_pace(context, limits)
        _check_exposure(request, context, limits)
        _check_collar(request, context, limits)
    finally:
        setcontext(callers)


# ---- the instrument's rules -----------------------------------------------------------------------------------------


def _check_instrument(request: OrderRequest, context: RiskContext) -> None:
    instrument, quantity = context.instrument, request.quantity
    for name, price in (("price", request.price), ("stop price", request.stop_price)):
        if price is not None and price % instrument.tick_size:
            nearest = instrument.round_price(price) or instrument.ceil_price(price)
            raise InvalidOrder(
                f"{name} {price:f} is not a multiple of the tick size {instrument.tick_size:f} of {instrument.id}: "
                f"the nearest is {nearest:f}"
            )
    if quantity % instrument.lot_size:
        raise InvalidOrder(
            f"quantity {quantity:f} is not a multiple of the lot size {instrument.lot_size:f} of {instrument.id}: "
            f"the nearest that is not more is {instrument.round_quantity(quantity):f}, "
            f"the least allowed {_least_quantity(instrument):f}"
        )
    if quantity < instrument.min_quantity:
        least = _least_quantity(instrument)
        raise InvalidOrder(f"quantity {quantity:f} is below the least for {instrument.id}, which is {least:f}")
    if instrument.max_quantity is not None and quantity > instrument.max_quantity:
        most = instrument.round_quantity(instrument.max_quantity)
        raise InvalidOrder(f"quantity {quantity:f} is above the most for {instrument.id}, which is {most:f}")
    price = request.price or request.stop_price or _reference(request, context)
    if quantity * price < instrument.min_notional:
        raise InvalidOrder(
            f"{quantity:f} at {price:f} is worth {quantity * price:f} {instrument.quote}, below the least of "
            f"{instrument.min_notional:f} for {instrument.id}: "
            f"the least quantity at this price is {instrument.ceil_quantity(instrument.min_notional / price):f}"
        )


def _least_quantity(instrument: Instrument) -> Decimal:
    return max(instrument.ceil_quantity(instrument.min_quantity), instrument.lot_size)


def _reference(request: OrderRequest, context: RiskContext) -> Decimal:
    if context.reference_price is None or context.reference_price <= 0:
        raise RiskRefused(
            f"no price of {request.instrument} is known yet, so the worth of a {request.type} order cannot be checked: "
            "wait for the market, or place a limit order"
        )
    return context.reference_price


# ---- the strategy's limits -----------------------------------------------------------------------------------------


def _check_pace(context: RiskContext, limits: RiskLimits) -> None:
    if context.open_orders >= limits.max_open_orders:
        raise RiskRefused(
            f"{context.open_orders} orders are open, the limit is {limits.max_open_orders}: cancel some first"
        )
    if context.orders_last_minute >= limits.max_orders_per_minute:
        raise RiskRefused(
            f"{context.orders_last_minute} orders were placed in the last minute, "
            f"the limit is {limits.max_orders_per_minute}: wait a little"
        )


def _check_exposure(request: OrderRequest, context: RiskContext, limits: RiskLimits) -> None:
    quantity, held = request.quantity - context.filled_quantity, context.position_quantity
    is_buy = request.side is Side.BUY
    pending = context.open_buy_quantity if is_buy else context.open_sell_quantity
    after = held + (pending + quantity) if is_buy else held - (pending + quantity)
    opposite = held < 0 if is_buy else held > 0
    reducible = max(abs(held) - pending, Decimal(0)) if opposite else Decimal(0)
    reduces = quantity <= reducible
    instrument = context.instrument
    if request.reduce_only and not reduces:
        raise RiskRefused(
            f"a reduce-only {request.side} of {quantity:f} could do more than close the position of {held:f} "
            f"{instrument.base}: with {pending:f} in open {request.side} orders, at most {reducible:f} is left to close"
        )
    price = _dearest(request, context)
    if request.quantity * price > limits.max_order_notional:
        most = instrument.round_quantity(limits.max_order_notional / price)
        raise RiskRefused(
            f"{request.quantity:f} at {price:f} is worth {request.quantity * price:f} {instrument.quote}, above the "
            f"order limit of {limits.max_order_notional:f}: the most at this price is {most:f}"
        )
    if reduces:
        return
    if context.daily_pnl <= -limits.max_daily_loss:
        raise RiskRefused(
            f"today's loss of {-context.daily_pnl:f} has reached the limit of {limits.max_daily_loss:f}: "
            "until midnight UTC only orders that reduce a position pass"
        )
    if after < 0 and request.side is Side.SELL and not limits.allow_short:
        raise RiskRefused(
            f"selling {quantity:f} would leave {after:f} {instrument.base}, and short positions are not allowed: "
            f"at most {reducible:f} can be sold"
        )
    if abs(after) * price > limits.max_position_notional:
        raise RiskRefused(
            f"with its open orders filled the position would be {after:f} {instrument.base}, worth "
            f"{abs(after) * price:f} {instrument.quote}: above the position limit of {limits.max_position_notional:f}"
        )


def _dearest(request: OrderRequest, context: RiskContext) -> Decimal:
    """Give the highest price at which the order is likely to trade: a buy never pays more than its limit."""
    if request.side is Side.BUY and request.price is not None:
        return request.price
    prices = (request.price, request.stop_price, context.reference_price)
    return max(price for price in prices if price is not None)


def _check_collar(request: OrderRequest, context: RiskContext, limits: RiskLimits) -> None:
    anchor = request.stop_price or context.reference_price  # a stop-limit works from its trigger on
    if request.price is None or not anchor:
        return
    bound = anchor * (1 + limits.price_collar * request.side.sign)
    if (request.price - bound) * request.side.sign > 0:
        instrument = context.instrument
        inside = instrument.floor_price(bound) if request.side is Side.BUY else instrument.ceil_price(bound)
        raise RiskRefused(
            f"a {request.side} at {request.price:f} is more than {limits.price_collar * 100:f} % beyond the price of "
            f"{anchor:f} in {instrument.id}, which looks like a slip: go no further than {inside:f}"
        )
