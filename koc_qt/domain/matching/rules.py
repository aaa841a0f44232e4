"""Why a venue refuses an order before looking at funds: its instrument's rules and its own conditions."""

from __future__ import annotations

from decimal import Decimal

from koc_qt.domain.exact import EXACT
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.matching.market import Market
from koc_qt.domain.matching.working import WorkingOrder


def broken_rule(work: WorkingOrder) -> str:
    """Give the rule of the instrument that the order breaks, in words; empty when it keeps them all."""
    instrument, request = work.instrument, work.order.request
    quantity = request.quantity
    if instrument.round_quantity(quantity) != quantity:
        return f"lot size: quantity {quantity} is not a multiple of {instrument.lot_size}"
    if quantity < instrument.min_quantity:
        return f"minimum quantity: {quantity} is below {instrument.min_quantity}"
    if instrument.max_quantity is not None and quantity > instrument.max_quantity:
        return f"maximum quantity: {quantity} is above {instrument.max_quantity}"
    for name, price in (("price", request.price), ("stop price", request.stop_price)):
        if price is not None and _off_tick(instrument, price):
            return f"tick size: {name} {price} is not a multiple of {instrument.tick_size}"
    notional = EXACT.multiply(work.lock_price, quantity)
    if notional < instrument.min_notional:
        return f"minimum notional: {notional.normalize():f} {instrument.quote} is below {instrument.min_notional}"
    return ""


def would_take(market: Market, is_buy: bool, limit: Decimal) -> bool:
    """Whether a limit order would trade at once: it meets the ladder or, without one, is through the last price."""
    if market.has_ladder:
        best = market.best(is_buy)
        return best is not None and (best <= limit if is_buy else best >= limit)
    last = market.last
    return last is not None and (last < limit if is_buy else last > limit)


def _off_tick(instrument: Instrument, price: Decimal) -> bool:
    return instrument.round_price(price) != price
