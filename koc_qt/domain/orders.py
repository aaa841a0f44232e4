"""Orders, their events and fills. How an event changes an order: domain/order_state.py."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec

from koc_qt.domain.errors import InvalidOrder
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Side


class OrderType(StrEnum):
    """How an order's price is decided."""

    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"
    STOP_LIMIT = "stop_limit"


class TimeInForce(StrEnum):
    """How long an order works: till cancelled, or now in part (IOC) or whole (FOK) or never."""

    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"


class Liquidity(StrEnum):
    """Whether a fill made or took liquidity."""

    MAKER = "maker"
    TAKER = "taker"


class OrderStatus(StrEnum):
    """Where an order is in its life.

    NEW: the intent is in the journal, nothing was sent. SUBMITTED: sent, no answer yet. UNKNOWN: the answer never came.
    ACCEPTED: working at the venue. TRIGGERED: a stop whose price was reached. PARTIALLY_FILLED: working, part done.
    FILLED, CANCELED, REJECTED and EXPIRED are terminal.
    """

    NEW = "new"
    SUBMITTED = "submitted"
    UNKNOWN = "unknown"
    ACCEPTED = "accepted"
    TRIGGERED = "triggered"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELED = "canceled"
    REJECTED = "rejected"
    EXPIRED = "expired"

    is_terminal: bool  # whether nothing more is expected of the venue


TERMINAL = frozenset({OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.REJECTED, OrderStatus.EXPIRED})
for _status in OrderStatus:
    _status.is_terminal = _status in TERMINAL  # asked for very often, and a property takes ten times as long


_MAX_DIGITS = 18  # before the point; keeps every sum and product of amounts exact, see domain/exact.py
_MAX_DECIMALS = 50  # after the point; a quotient of two numbers has some 28


def _require_amount(name: str, value: Decimal) -> None:
    written = str(value)
    if value and len(written) <= _MAX_DIGITS and written[0].isdigit() and "E" not in written:
        return  # a plain number above zero, too short for too many digits or decimals
    if not (value.is_finite() and value > 0):
        raise InvalidOrder(f"{name} must be a number above zero, not {value:.10g}")
    if value.adjusted() >= _MAX_DIGITS:
        raise InvalidOrder(f"{name} must be below 1e{_MAX_DIGITS}, not {value:.10g}")
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -_MAX_DECIMALS:
        raise InvalidOrder(f"{name} must have at most {_MAX_DECIMALS} decimals, not {-exponent}")


# Requests, fills and orders are kept by the ten thousand and cannot be part of a cycle: with `gc=False` the garbage
# collector, which would stop a process for 10 ms to look at them all, leaves them alone.


class OrderRequest(msgspec.Struct, frozen=True, gc=False):
    """What somebody asks for: `quantity` in base units, limit `price` and trigger `stop_price` in quote currency.

    Raises InvalidOrder where the fields contradict each other or are absurdly large; the instrument's own rules are
    checked by domain/risk.py.
    """

    instrument: InstrumentId
    side: Side
    type: OrderType
    quantity: Decimal
    price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    post_only: bool = False
    reduce_only: bool = False

    def __post_init__(self) -> None:
        _require_amount("quantity", self.quantity)
        if self.price is not None:
            _require_amount("price", self.price)
        if self.stop_price is not None:
            _require_amount("stop_price", self.stop_price)
        limit = self.type in (OrderType.LIMIT, OrderType.STOP_LIMIT)
        stop = self.type in (OrderType.STOP, OrderType.STOP_LIMIT)
        if limit and self.price is None:
            raise InvalidOrder(f"a {self.type} order needs a price")
        if not limit and self.price is not None:
            raise InvalidOrder(f"a {self.type} order takes no price")
        if stop and self.stop_price is None:
            raise InvalidOrder(f"a {self.type} order needs a stop price")
        if not stop and self.stop_price is not None:
            raise InvalidOrder(f"a {self.type} order takes no stop price")
        if self.post_only and (self.type is not OrderType.LIMIT or self.time_in_force is not TimeInForce.GTC):
            raise InvalidOrder("post-only needs a limit order that is good till cancelled")


class Fill(msgspec.Struct, frozen=True, gc=False):
    """One execution. `fill_id` is the venue's trade id, unique within an account; `fee` is a cost when positive.

    Raises InvalidOrder unless price and quantity are above zero and the fee is a number.
    """

    fill_id: str
    client_order_id: str
    strategy_id: str
    account_id: str
    instrument: InstrumentId
    side: Side
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_currency: str
    liquidity: Liquidity
    time_ns: int

    def __post_init__(self) -> None:
        if not self.fill_id:
            raise InvalidOrder(f"a fill of order {self.client_order_id} has no id")
        _require_amount("a fill's price", self.price)
        _require_amount("a fill's quantity", self.quantity)
        if not self.fee.is_finite():
            raise InvalidOrder(f"a fill's fee must be a number, not {self.fee}")


class Order(msgspec.Struct, frozen=True, gc=False):
    """An order as the engine knows it; every change makes a new one. Times are UTC nanoseconds.

    `filled_notional` is the exact sum of price times quantity of its fills; `average_price` is that over
    `filled_quantity`, rounded once, half to even, to 28 significant digits. `amending` is what the order is to become
    while a change is on its way to the venue.
    """

    client_order_id: str
    strategy_id: str
    account_id: str
    request: OrderRequest
    created_ns: int
    updated_ns: int
    status: OrderStatus = OrderStatus.NEW
    venue_order_id: str = ""
    filled_quantity: Decimal = Decimal(0)
    average_price: Decimal | None = None
    fill_ids: tuple[str, ...] = ()
    cancel_requested: bool = False
    reason: str = ""
    filled_notional: Decimal = Decimal(0)
    amending: OrderRequest | None = None

    @property
    def remaining(self) -> Decimal:
        """Quantity not filled yet."""
        return self.request.quantity - self.filled_quantity

    @property
    def most_remaining(self) -> Decimal:
        """Quantity that may still be filled, whether or not a change that is on its way is made."""
        most = self.request.quantity if self.amending is None else max(self.request.quantity, self.amending.quantity)
        return most - self.filled_quantity

    @property
    def is_open(self) -> bool:
        """Whether the venue may still do something with it."""
        return not self.status.is_terminal


class OrderSubmitted(msgspec.Struct, frozen=True, tag="submitted"):
    """The order is on its way to the venue."""

    client_order_id: str
    time_ns: int


class OrderUnknown(msgspec.Struct, frozen=True, tag="unknown"):
    """The venue's answer never came; the order will be looked up by its client id."""

    client_order_id: str
    time_ns: int
    reason: str


class OrderAccepted(msgspec.Struct, frozen=True, tag="accepted"):
    """The venue took the order."""

    client_order_id: str
    time_ns: int
    venue_order_id: str


class OrderTriggered(msgspec.Struct, frozen=True, tag="triggered"):
    """The stop price was reached."""

    client_order_id: str
    time_ns: int


class OrderFilled(msgspec.Struct, frozen=True, tag="filled"):
    """Part or all of the order was executed."""

    client_order_id: str
    time_ns: int
    fill: Fill


class OrderRejected(msgspec.Struct, frozen=True, tag="rejected"):
    """The order never worked at the venue."""

    client_order_id: str
    time_ns: int
    reason: str


class OrderReinstated(msgspec.Struct, frozen=True, tag="reinstated"):
    """The order works at the venue after all, or was executed there, though it was called over."""

    client_order_id: str
    time_ns: int
    venue_order_id: str
    reason: str


class OrderCanceled(msgspec.Struct, frozen=True, tag="canceled"):
    """The rest of the order works no longer."""

    client_order_id: str
    time_ns: int
    reason: str = ""


class OrderExpired(msgspec.Struct, frozen=True, tag="expired"):
    """What IOC or FOK could not fill at once is gone."""

    client_order_id: str
    time_ns: int
    reason: str = ""


class CancelRequested(msgspec.Struct, frozen=True, tag="cancel_requested"):
    """A cancel is on its way to the venue."""

    client_order_id: str
    time_ns: int


class CancelRejected(msgspec.Struct, frozen=True, tag="cancel_rejected"):
    """The venue refused the cancel; the order is as it was."""

    client_order_id: str
    time_ns: int
    reason: str


class AmendRequested(msgspec.Struct, frozen=True, tag="amend_requested"):
    """A change is on its way to the venue: the total `quantity` and limit `price` that the order is to have."""

    client_order_id: str
    time_ns: int
    quantity: Decimal
    price: Decimal | None


class OrderAmended(msgspec.Struct, frozen=True, tag="amended"):
    """The venue changed a working order: its total `quantity` and limit `price` from now on, None without a limit.

    `venue_order_id` is the new one where the venue put another order in its place, else empty.
    """

    client_order_id: str
    time_ns: int
    quantity: Decimal
    price: Decimal | None
    venue_order_id: str = ""


class AmendRejected(msgspec.Struct, frozen=True, tag="amend_rejected"):
    """The venue refused to change the order, which is as it was."""

    client_order_id: str
    time_ns: int
    reason: str


OrderEvent = (
    OrderSubmitted
    | OrderUnknown
    | OrderAccepted
    | OrderTriggered
    | OrderFilled
    | OrderRejected
    | OrderReinstated
    | OrderCanceled
    | OrderExpired
    | CancelRequested
    | CancelRejected
    | AmendRequested
    | OrderAmended
    | AmendRejected
)


class OrderReport(msgspec.Struct, frozen=True):
    """What a venue says about one order when asked.

    `quantity` is its present total, filled part included, and `price` its present limit; None where it tells none.
    """

    client_order_id: str
    venue_order_id: str
    status: OrderStatus
    fills: tuple[Fill, ...]
    time_ns: int
    reason: str = ""
    quantity: Decimal | None = None
    price: Decimal | None = None
