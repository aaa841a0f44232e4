"""What a strategy holds of an order that it placed, and how its numbers become exact ones."""

from __future__ import annotations

import operator
from decimal import Decimal, InvalidOperation
from typing import Any, SupportsFloat, SupportsIndex

import msgspec

from koc_qt.domain.errors import InvalidOrder
from koc_qt.domain.exact import EXACT, multiply, quotient
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Fill, Order, OrderRequest, OrderStatus, OrderType, TimeInForce

Number = Decimal | int | float | str | SupportsFloat | SupportsIndex

_LARGEST_EXPONENT = 50  # more is no amount of anything, and would overflow the rounding
REQUESTS_KEPT = 256  # of an instrument, to be given again
_UNCHANGING = frozenset({str, Decimal, float, int})
_BUY, _FILLED = Side.BUY, OrderStatus.FILLED
_ZERO = Decimal(0)
_FLOAT_DIGITS = 15  # what a double holds for certain: 2.4 / 3 means 0.8, not 0.7999999999999999


def to_decimal(value: Number, what: str = "number") -> Decimal:
    """Read a number exactly; a float counts with 15 significant digits. Raises InvalidOrder when it is none."""
    try:
        number = value if isinstance(value, Decimal) else _read(value)
    except (InvalidOperation, TypeError, ValueError, OverflowError):
        number = None
    if number is None or not number.is_finite() or number.adjusted() > _LARGEST_EXPONENT:
        raise InvalidOrder(f"{what} must be a number, not {value!r:.80}")
    return number


def _read(value: Any) -> Decimal | None:
    if type(value) is float:
        return Decimal(f"{value:.{_FLOAT_DIGITS}g}")
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return Decimal(value.strip())
    if not isinstance(value, float) and hasattr(value, "__index__"):
        return Decimal(operator.index(value))
    return Decimal(f"{float(value):.{_FLOAT_DIGITS}g}")


def build_request(
    instrument: Instrument,
    side: Side,
    quantity: Number,
    price: Number | None,
    stop: Number | None,
    time_in_force: TimeInForce | str,
    post_only: bool,
    reduce_only: bool,
) -> OrderRequest:
    """Build the request that keeps the instrument's grids and never asks for more than the author did.

    Quantity is rounded down to the lot; a limit to the passive tick (a buy down, a sell up), a stop to the later one
    (a buy up, a sell down). Raises InvalidOrder when nothing is left or fields contradict each other.
    """
    return OrderRequest(
        instrument.id,
        side,
        _TYPES[price is not None, stop is not None],
        _whole_lots(instrument, to_decimal(quantity, "quantity")),
        None if price is None else _on_tick(instrument, to_decimal(price, "price"), up=side is Side.SELL),
        None if stop is None else _on_tick(instrument, to_decimal(stop, "stop"), up=side is Side.BUY),
        time_in_force if type(time_in_force) is TimeInForce else _time_in_force(time_in_force),
        post_only,
        reduce_only,
    )


def amended(
    instrument: Instrument, request: OrderRequest, quantity: Number | None, price: Number | None
) -> OrderRequest:
    """Give what an order becomes with another total quantity or limit, rounded as build_request does.

    Raises InvalidOrder when nothing is left, or the order has no limit to change.
    """
    lots = request.quantity if quantity is None else _whole_lots(instrument, to_decimal(quantity, "quantity"))
    limit = request.price
    if price is not None:
        limit = _on_tick(instrument, to_decimal(price, "price"), up=request.side is Side.SELL)
    return msgspec.structs.replace(request, quantity=lots, price=limit)


class MarketRequests:
    """Builds requests at the market for one instrument; what was asked for lately is not read and rounded again.

    Most strategies ask for the same few quantities over and over.
    """

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self._known: dict[tuple[object, ...], OrderRequest] = {}  # by how it was asked for, the newest REQUESTS_KEPT

    def build(self, side: Side, quantity: Number, reduce_only: bool) -> OrderRequest:
        """Give what `build_request` gives. Raises InvalidOrder."""
        kind = type(quantity)  # 0.1 and Decimal(0.1) are equal, and two quantities
        if kind not in _UNCHANGING or (kind is Decimal and not quantity.is_finite()):  # type: ignore[union-attr]
            return self._built(side, quantity, reduce_only)
        asked = (kind, quantity, side is _BUY, reduce_only)
        request = self._known.get(asked)
        if request is None:
            request = self._built(side, quantity, reduce_only)
            if len(self._known) == REQUESTS_KEPT:
                self._known.clear()
            self._known[asked] = request
        return request

    def _built(self, side: Side, quantity: Number, reduce_only: bool) -> OrderRequest:
        return build_request(self._instrument, side, quantity, None, None, TimeInForce.GTC, False, reduce_only)


_TYPES = {
    (False, False): OrderType.MARKET,
    (True, False): OrderType.LIMIT,
    (False, True): OrderType.STOP,
    (True, True): OrderType.STOP_LIMIT,
}


def _whole_lots(instrument: Instrument, quantity: Decimal) -> Decimal:
    lots = instrument.round_quantity(quantity)
    if quantity > 0 and not lots:
        raise InvalidOrder(
            f"{quantity} {instrument.base} is less than one lot of {instrument.id} ({instrument.lot_size})"
        )
    return lots


def _on_tick(instrument: Instrument, price: Decimal, *, up: bool) -> Decimal:
    rounded = instrument.ceil_price(price) if up else instrument.floor_price(price)
    if price > 0 and not rounded:
        raise InvalidOrder(f"a price of {price} is less than one tick of {instrument.id} ({instrument.tick_size})")
    return rounded


def smallest_quantity(instrument: Instrument, price: Decimal) -> Decimal:
    """Give the least quantity that keeps lot, minimum quantity and minimum notional at `price`. Raises InvalidOrder."""
    if price <= 0:
        raise InvalidOrder(f"price must be above zero, not {price}")
    least = max(instrument.lot_size, instrument.min_quantity, EXACT.divide(instrument.min_notional, price))
    lots = instrument.round_quantity(least)
    return lots if lots >= least else lots + instrument.lot_size


def _time_in_force(value: TimeInForce | str) -> TimeInForce:
    try:
        return TimeInForce(value.lower())
    except ValueError:
        raise InvalidOrder(f"time_in_force must be gtc, ioc or fok, not {value!r}") from None


class OrderHandle:
    """An order of the strategy. It updates by itself; read it whenever you like.

    `filled` is in base units, `average_price` in quote currency and None before the first fill. An order that was
    refused at once (during warm-up, or by a risk limit) has the status REJECTED and a `reason`.
    """

    __slots__ = (
        "_average_price",
        "_filled",
        "_notional_seen",
        "_seen",
        "_seen_ids",
        "_whole",
        "amend_requested",
        "cancel_requested",
        "client_order_id",
        "reason",
        "request",
        "request_id",
        "status",
    )

    def __init__(self, request: OrderRequest, request_id: int) -> None:
        self.request = request
        self.request_id = request_id
        self.client_order_id = ""
        self.status = OrderStatus.NEW
        self.reason = ""
        self.cancel_requested = False
        self.amend_requested = False
        self._filled = _ZERO
        self._average_price: Decimal | None = None
        self._whole: Fill | None = None  # that has executed all of it, whose price nobody has asked for yet
        self._seen = _ZERO
        self._notional_seen = _ZERO
        self._seen_ids: set[str] = set()

    @classmethod
    def of_earlier_worker(cls, order: Order) -> OrderHandle:
        """Take over an order that was open when this worker started; its fills so far are in the position already."""
        handle = cls(order.request, 0)
        handle._seen = order.filled_quantity
        handle._notional_seen = order.filled_quantity * (order.average_price or 0)
        handle._seen_ids = set(order.fill_ids)
        handle.update(order)
        handle.cancel_requested = handle.amend_requested = (
            False  # what an earlier worker asked for may have been lost: it may be asked again
        )
        return handle

    def update(self, order: Order) -> None:
        """Take what the engine says about it."""
        self.client_order_id = order.client_order_id
        self.request = order.request
        self.amend_requested = order.amending is not None
        self.status = order.status
        self.reason = order.reason or self.reason
        self.cancel_requested = order.cancel_requested
        self._filled = order.filled_quantity
        self._average_price, self._whole = order.average_price, None

    def execute(self, fill: Fill) -> None:
        """Take what `update` takes once a fill has executed all of a working order at once."""
        self.status = _FILLED
        self.amend_requested = self.cancel_requested = False
        self._filled = fill.quantity
        self._whole = fill

    def reject(self, reason: str) -> None:
        """Note that it never became an order."""
        self.status = OrderStatus.REJECTED
        self.reason = reason

    def add_fill(self, fill: Fill) -> bool:
        """Note a fill; False when it was known already."""
        if fill.fill_id in self._seen_ids:
            return False
        self._seen_ids.add(fill.fill_id)
        self._seen += fill.quantity
        self._notional_seen += fill.quantity * fill.price
        return True

    @property
    def instrument(self) -> InstrumentId:
        """What it buys or sells."""
        return self.request.instrument

    @property
    def side(self) -> Side:
        """BUY or SELL."""
        return self.request.side

    @property
    def type(self) -> OrderType:
        """MARKET, LIMIT, STOP or STOP_LIMIT."""
        return self.request.type

    @property
    def quantity(self) -> Decimal:
        """Base units that were asked for, after rounding to the lot; those of a change once it is made."""
        return self.request.quantity

    @property
    def price(self) -> Decimal | None:
        """Its limit, after rounding to the tick; None for a market or stop order."""
        return self.request.price

    @property
    def filled(self) -> Decimal:
        """Base units bought or sold so far."""
        return max(self._filled, self._seen)

    @property
    def remaining(self) -> Decimal:
        """Base units not filled."""
        return self.quantity - self.filled

    @property
    def average_price(self) -> Decimal | None:
        """Average price of what was filled, None before the first fill."""
        if self._seen > self._filled:
            return self._notional_seen / self._seen
        if self._whole is not None:
            return quotient(multiply(self._whole.price, self._whole.quantity), self._whole.quantity)
        return self._average_price

    @property
    def is_open(self) -> bool:
        """Whether more may come of it. It turns false only once position() holds all of its fills."""
        return not self.status.is_terminal or self._seen < self._filled

    def __repr__(self) -> str:
        at = "" if self.price is None else f" at {self.price}"
        return f"<{self.side} {self.quantity} {self.instrument}{at}: {self.status}, {self.filled} filled>"
