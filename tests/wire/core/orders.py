"""Orders and fills as an exchange keeps them, what it tells of them, and why it refuses one."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from koc_qt.domain.market import Side
from koc_qt.domain.orders import Liquidity, OrderStatus, OrderType, TimeInForce
from tests.wire.core.accounts import User


class Why(StrEnum):
    """Why something asked for is refused; a dialect has the venue's code and words for each."""

    UNKNOWN_SYMBOL = "unknown symbol"
    CLOSED = "market closed"
    TICK = "price not on the tick"
    LOT = "quantity not on the lot"
    TOO_SMALL = "quantity too small"
    TOO_LARGE = "quantity too large"
    NOTIONAL = "notional too small"
    FUNDS = "insufficient funds"
    DUPLICATE = "duplicate client order id"
    WOULD_TAKE = "post-only would take"
    NO_MARKET = "no market"
    REDUCE_ONLY = "reduce-only would not reduce"
    UNKNOWN_ORDER = "unknown order"
    NOT_OPEN = "order not open"
    BAD_AMEND = "not a change that can be made"
    INVALID = "contradicting fields"


class RefusedError(Exception):
    """The exchange says no: nothing has happened."""

    def __init__(self, why: Why, text: str = "") -> None:
        super().__init__(text or why.value)
        self.why = why


@dataclass(frozen=True)
class WireFill:
    """One execution; `fee` is a cost in `fee_currency`, the quote currency. Times are UTC nanoseconds."""

    id: str
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_currency: str
    liquidity: Liquidity
    time_ns: int

    @property
    def notional(self) -> Decimal:
        """Price times quantity."""
        return self.price * self.quantity


@dataclass(eq=False)
class WireOrder:
    """An order at the exchange; it changes as things happen. `extra` is the dialect's.

    `status` is one of ACCEPTED, TRIGGERED, PARTIALLY_FILLED, FILLED, CANCELED, EXPIRED and REJECTED.
    """

    id: str
    client_id: str
    user: User
    symbol: str
    side: Side
    type: OrderType
    quantity: Decimal
    price: Decimal | None
    stop_price: Decimal | None
    time_in_force: TimeInForce
    post_only: bool
    created_ns: int
    updated_ns: int
    cost: Decimal | None = None  # what a market order was to spend, where it was given that way
    status: OrderStatus = OrderStatus.ACCEPTED
    reason: str = ""
    fills: list[WireFill] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    engine_key: str = ""

    @property
    def filled(self) -> Decimal:
        """Quantity executed."""
        return sum((fill.quantity for fill in self.fills), Decimal(0))

    @property
    def remaining(self) -> Decimal:
        """Quantity not executed."""
        return self.quantity - self.filled

    @property
    def notional(self) -> Decimal:
        """What the executed part was worth."""
        return sum((fill.notional for fill in self.fills), Decimal(0))

    @property
    def average(self) -> Decimal | None:
        """The mean price of what is executed."""
        return self.notional / self.filled if self.fills else None

    @property
    def fee(self) -> Decimal:
        """The sum of its fees."""
        return sum((fill.fee for fill in self.fills), Decimal(0))

    @property
    def is_open(self) -> bool:
        """Whether more may come of it."""
        return not self.status.is_terminal


class Happened(StrEnum):
    """What an update is about."""

    NEW = "new"
    TRIGGERED = "triggered"
    FILL = "fill"
    CANCELED = "canceled"
    EXPIRED = "expired"
    AMENDED = "amended"
    REJECTED = "rejected"


@dataclass(frozen=True)
class OrderUpdate:
    """Something happened to an order, which is already as it is after it; `fill` with Happened.FILL alone."""

    what: Happened
    order: WireOrder
    time_ns: int
    fill: WireFill | None = None
    reason: str = ""
