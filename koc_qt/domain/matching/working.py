"""Orders that the matching engine works on, and the queues in which they wait, one set an instrument."""

from __future__ import annotations

from bisect import bisect_left, insort
from decimal import Decimal
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from koc_qt.domain.exact import EXACT
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Fill, Order, OrderReport, OrderStatus, TimeInForce
from koc_qt.domain.venues import VenueOrder

if TYPE_CHECKING:
    from koc_qt.domain.matching.market import Market

_ZERO = Decimal(0)
_NEVER_BELOW = Decimal("-Infinity")
_NEVER_ABOVE = Decimal("Infinity")
_INFINITE = float("inf")
_by_key = attrgetter("key")


class WorkingOrder:
    """An order at the venue, and after its end what is remembered of it.

    `ahead` is the displayed quantity that trades before it at its price, None while that is not known. `cover` is the
    part of `remaining` that reduces a holding, `locked_quote` the quote currency reserved for the rest.
    """

    __slots__ = (
        "ahead",
        "client_order_id",
        "cover",
        "fill_or_kill",
        "fills",
        "instrument",
        "is_buy",
        "is_immediate",
        "key",
        "limit",
        "lock_price",
        "locked_quote",
        "market",
        "order",
        "queue",
        "reason",
        "remaining",
        "sequence",
        "status",
        "stop",
        "updated_ns",
        "venue_order_id",
    )

    def __init__(self, order: Order, market: Market, sequence: int, lock_price: Decimal) -> None:
        request = order.request
        self.order = order
        self.client_order_id = order.client_order_id
        self.is_immediate = request.time_in_force is not TimeInForce.GTC  # what is not filled at once expires
        self.fill_or_kill = request.time_in_force is TimeInForce.FOK
        self.market = market
        self.instrument: Instrument = market.instrument
        self.sequence = sequence
        self.is_buy = request.side is Side.BUY
        self.limit = request.price
        self.stop = request.stop_price
        self.remaining = request.quantity
        self.lock_price = lock_price
        self.cover = _ZERO
        self.locked_quote = _ZERO
        self.ahead: Decimal | None = None
        self.status = OrderStatus.SUBMITTED
        self.fills: list[Fill] = []
        self.reason = ""
        self.updated_ns = order.updated_ns
        self.venue_order_id = ""
        self.queue: list[WorkingOrder] | None = None
        self.key: tuple[Decimal, int] = (_ZERO, sequence)

    @property
    def is_open(self) -> bool:
        """Whether it may still be filled."""
        return not self.status.is_terminal

    @property
    def filled(self) -> Decimal:
        """How much of it is filled."""
        return EXACT.subtract(self.order.request.quantity, self.remaining)

    def changed(self, quantity: Decimal, price: Decimal | None, sequence: int) -> WorkingOrder:
        """Give what it would be with another total quantity and limit, with what it has locked and in no queue.

        Raises InvalidOrder where such an order cannot be.
        """
        request = msgspec.structs.replace(self.order.request, quantity=quantity, price=price)
        order = msgspec.structs.replace(self.order, request=request)
        other = WorkingOrder(order, self.market, sequence, request.price or self.lock_price)
        other.remaining = EXACT.subtract(quantity, self.filled)
        other.cover, other.locked_quote = self.cover, self.locked_quote
        return other

    def become(self, other: WorkingOrder) -> None:
        """Take the quantity, limit and place in time of what `changed` gave."""
        self.order, self.limit, self.remaining = other.order, other.limit, other.remaining
        self.lock_price, self.sequence = other.lock_price, other.sequence

    def accepts(self, price: Decimal) -> bool:
        """Whether its limit allows a fill at `price`."""
        return self.limit is None or (price <= self.limit if self.is_buy else price >= self.limit)

    def report(self) -> OrderReport:
        """Say what became of it."""
        request = self.order.request
        return OrderReport(
            self.client_order_id,
            self.venue_order_id,
            self.status,
            tuple(self.fills),
            self.updated_ns,
            self.reason,
            request.quantity,
            request.price,
        )

    def listing(self) -> VenueOrder:
        """Say how it stands in the venue's list of open orders."""
        request = self.order.request
        return VenueOrder(
            venue_order_id=self.venue_order_id,
            client_order_id=self.client_order_id,
            symbol=request.instrument.symbol,
            side=request.side,
            type=request.type,
            quantity=request.quantity,
            filled_quantity=self.filled,
            price=self.limit,
            stop_price=self.stop,
            time_ns=self.order.created_ns,
        )


class OpenOrders:
    """One instrument's open orders, best price first in each queue, older first at one price.

    Limit orders rest in `buys` and `sells`; stops are armed in `stop_buys` and `stop_sells`, nearest trigger first;
    takers that need more market are in `waiting`. A price strictly between `lower` and `upper` reaches none.
    """

    __slots__ = (
        "buys",
        "idle",
        "lower",
        "lower_float",
        "sells",
        "stop_buys",
        "stop_sells",
        "upper",
        "upper_float",
        "waiting",
    )

    def __init__(self) -> None:
        self.buys: list[WorkingOrder] = []
        self.sells: list[WorkingOrder] = []
        self.stop_buys: list[WorkingOrder] = []
        self.stop_sells: list[WorkingOrder] = []
        self.waiting: list[WorkingOrder] = []
        self._bound()

    def rest(self, work: WorkingOrder, limit: Decimal) -> None:
        """Let it wait for the market to come to its limit."""
        self._put(work, self.buys if work.is_buy else self.sells, limit.copy_negate() if work.is_buy else limit)

    def arm(self, work: WorkingOrder, stop: Decimal) -> None:
        """Let it wait for its stop price."""
        self._put(work, self.stop_buys if work.is_buy else self.stop_sells, stop if work.is_buy else stop.copy_negate())

    def wait(self, work: WorkingOrder) -> None:
        """Let it wait for any market at all."""
        self._put(work, self.waiting, _ZERO)

    @property
    def has_priced(self) -> bool:
        """Whether any order waits for a price: a limit or a stop."""
        return bool(self.buys or self.sells or self.stop_buys or self.stop_sells)

    def remove(self, work: WorkingOrder) -> None:
        """Take it out of its queue, if it is in one."""
        queue = work.queue
        if queue is not None:
            if len(queue) == 1:
                queue.clear()
            else:
                del queue[bisect_left(queue, work.key, key=_by_key)]
            work.queue = None
            self._bound()

    def _put(self, work: WorkingOrder, queue: list[WorkingOrder], rank: Decimal) -> None:
        work.key = (rank, work.sequence)
        work.queue = queue
        if queue:
            insort(queue, work, key=_by_key)
        else:
            queue.append(work)
        self._bound()

    def _bound(self) -> None:
        has_priced = self.has_priced
        self.idle = not (self.waiting or has_priced)
        if self.waiting:
            self.lower, self.lower_float, self.upper, self.upper_float = (
                _NEVER_ABOVE,
                _INFINITE,
                _NEVER_BELOW,
                -_INFINITE,
            )
            return
        lower, upper = _NEVER_BELOW, _NEVER_ABOVE
        if has_priced:
            if self.buys:
                lower = self.buys[0].key[0].copy_negate()
            if self.stop_sells:
                lower = max(lower, self.stop_sells[0].key[0].copy_negate())
            if self.sells:
                upper = self.sells[0].key[0]
            if self.stop_buys:
                upper = min(upper, self.stop_buys[0].key[0])
        self.lower, self.upper = lower, upper
        # A bar's price is the shortest decimal of its float. Rounding keeps order, so floats compare as those do, but
        # for prices that share a float: these compare as equal, and equal counts as reached.
        self.lower_float, self.upper_float = float(lower), float(upper)
