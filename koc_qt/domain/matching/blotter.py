"""The account's orders and what became of them. Every order event is made here, and every change of the money."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from koc_qt.domain.exact import EXACT, multiply
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.matching.ledger import Ledger
from koc_qt.domain.matching.model import FillModel
from koc_qt.domain.matching.working import WorkingOrder
from koc_qt.domain.orders import (
    AmendRejected,
    CancelRejected,
    Fill,
    Liquidity,
    Order,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderReport,
    OrderStatus,
    OrderTriggered,
)

_TAKER = Liquidity.TAKER
REMEMBERED = 10_000  # ended orders that can still be asked for; the oldest are forgotten


class Blotter:
    """Keeps open orders, and the newest ended ones; `events` collects what happened until somebody takes it."""

    def __init__(self, account_id: str, ledger: Ledger, model: FillModel) -> None:
        self.account_id = account_id
        self.ledger = ledger
        self.model = model
        self.events: list[OrderEvent] = []
        self._open: dict[str, WorkingOrder] = {}
        self._ended: dict[str, OrderReport] = {}

    @property
    def has_open(self) -> bool:
        """Whether any order may still be filled."""
        return bool(self._open)

    @property
    def open_orders(self) -> tuple[WorkingOrder, ...]:
        """The orders that may still be filled, oldest first."""
        return tuple(self._open.values())

    def find(self, client_order_id: str) -> WorkingOrder | None:
        """Give an open order."""
        return self._open.get(client_order_id)

    def knows(self, client_order_id: str) -> bool:
        """Whether there is a report of an order."""
        return client_order_id in self._open or client_order_id in self._ended

    def report(self, client_order_id: str) -> OrderReport | None:
        """Say what is known of an order, open or ended; None when it was never seen or is forgotten."""
        work = self._open.get(client_order_id)
        return self._ended.get(client_order_id) if work is None else work.report()

    def executions(self, since_ns: int) -> list[tuple[str, Fill]]:
        """Give the fills of all known orders since then, oldest first, each with the venue's id of its order."""
        known = [(work.venue_order_id, work.fills) for work in self._open.values()]
        known += [(report.venue_order_id, list(report.fills)) for report in self._ended.values()]
        executions = [(order_id, fill) for order_id, fills in known for fill in fills if fill.time_ns >= since_ns]
        return sorted(executions, key=lambda execution: execution[1].time_ns)

    # ---- the life of an order -------------------------------------------------------------------------------------

    def reject(self, order: Order, reason: str, time_ns: int) -> None:
        """Refuse an order that never worked; one of an id that is known already changes nothing in what is known."""
        key = order.client_order_id
        self.events.append(OrderRejected(key, time_ns, reason))
        if self.report(key) is None:
            self._remember(_report(order, OrderStatus.REJECTED, (), time_ns, reason))

    def accept(self, work: WorkingOrder, time_ns: int) -> None:
        """Take an order on, and lock what it needs."""
        key = work.client_order_id
        work.venue_order_id = venue_order_id(key)
        work.status = OrderStatus.ACCEPTED
        work.updated_ns = time_ns
        self._open[key] = work
        self.ledger.reserve(work)
        self.events.append(OrderAccepted(key, time_ns, work.venue_order_id))

    def trigger(self, work: WorkingOrder, time_ns: int) -> None:
        """Note that the stop price was reached."""
        work.status = OrderStatus.TRIGGERED
        work.updated_ns = time_ns
        self.events.append(OrderTriggered(work.client_order_id, time_ns))

    def fill(self, work: WorkingOrder, price: Decimal, quantity: Decimal, liquidity: Liquidity, time_ns: int) -> None:
        """Execute part or all of an open order; the caller has made sure that the account can pay."""
        order, instrument = work.order, work.instrument
        rate = self.model.fee_rate(instrument, liquidity)
        fill = _fill(order, len(work.fills) + 1, instrument, price, quantity, rate, liquidity, time_ns)
        work.fills.append(fill)
        work.remaining = EXACT.subtract(work.remaining, quantity)
        work.updated_ns = time_ns
        self.ledger.book(fill, instrument.base, instrument.quote)
        self.events.append(OrderFilled(order.client_order_id, time_ns, fill))
        if work.remaining:
            work.status = OrderStatus.PARTIALLY_FILLED
            self.ledger.reserve(work)
        else:
            self._end(work, OrderStatus.FILLED)

    def cancel(self, work: WorkingOrder, reason: str, time_ns: int) -> None:
        """End the rest of an open order on request, or because it can no longer work."""
        work.updated_ns = time_ns
        work.reason = reason
        self._end(work, OrderStatus.CANCELED)
        self.events.append(OrderCanceled(work.client_order_id, time_ns, reason))

    def amend(self, work: WorkingOrder, changed: WorkingOrder, time_ns: int) -> None:
        """Give an open order what `changed` has, and lock what it needs then; without a rest it is filled."""
        work.become(changed)
        work.updated_ns = time_ns
        request = work.order.request
        self.events.append(OrderAmended(work.client_order_id, time_ns, request.quantity, request.price))
        if work.remaining:
            self.ledger.reserve(work)
        else:
            self._end(work, OrderStatus.FILLED)

    def expire(self, work: WorkingOrder, reason: str, time_ns: int) -> None:
        """End what could not be filled at once."""
        work.updated_ns = time_ns
        work.reason = reason
        self._end(work, OrderStatus.EXPIRED)
        self.events.append(OrderExpired(work.client_order_id, time_ns, reason))

    def refuse_cancel(self, client_order_id: str, time_ns: int) -> None:
        """Say why an order that is not open cannot be cancelled."""
        self.events.append(CancelRejected(client_order_id, time_ns, self._not_open(client_order_id)))

    def refuse_amend(self, client_order_id: str, time_ns: int, reason: str = "") -> None:
        """Say why an order cannot be changed; without a reason, because it is not open."""
        reason = reason or self._not_open(client_order_id)
        self.events.append(AmendRejected(client_order_id, time_ns, reason))

    def _not_open(self, client_order_id: str) -> str:
        ended = self._ended.get(client_order_id)
        return "unknown order" if ended is None else f"the order is already {ended.status.value}"

    # ---- what is remembered ---------------------------------------------------------------------------------------

    def restore(self, work: WorkingOrder, fills: Iterable[Fill]) -> None:
        """Take an order of an earlier run on as it was; its fills are in the balances already."""
        work.venue_order_id = work.order.venue_order_id or venue_order_id(work.client_order_id)
        work.status = work.order.status
        work.fills += fills
        for fill in work.fills:
            work.remaining = EXACT.subtract(work.remaining, fill.quantity)
        self._open[work.client_order_id] = work
        self.ledger.reserve(work)

    def remember(self, order: Order, fills: Iterable[Fill]) -> None:
        """Remember an order that ended in an earlier run."""
        self._remember(_report(order, order.status, fills, order.updated_ns, order.reason))

    def drop(self, order: Order, fills: Iterable[Fill], reason: str, time_ns: int) -> None:
        """Cancel an order of an earlier run that cannot be taken on."""
        self._remember(_report(order, OrderStatus.CANCELED, fills, time_ns, reason))
        self.events.append(OrderCanceled(order.client_order_id, time_ns, reason))

    def _end(self, work: WorkingOrder, status: OrderStatus) -> None:
        work.status = status
        work.market.orders.remove(work)
        self.ledger.release(work)
        del self._open[work.client_order_id]
        self._remember(work.report())

    def _remember(self, report: OrderReport) -> None:
        self._ended[report.client_order_id] = report
        if len(self._ended) > REMEMBERED:
            del self._ended[next(iter(self._ended))]


def _report(order: Order, status: OrderStatus, fills: Iterable[Fill], time_ns: int, reason: str) -> OrderReport:
    key, request = order.client_order_id, order.request
    return OrderReport(
        key, order.venue_order_id, status, tuple(fills), time_ns, reason, request.quantity, request.price
    )


def venue_order_id(client_order_id: str) -> str:
    """Give the venue's id of an order: derived from the client's, so that it is the same after a restart."""
    return f"paper-{client_order_id}"


def whole_fill(order: Order, instrument: Instrument, price: Decimal, fee_rate: Decimal, time_ns: int) -> Fill:
    """Give the fill of a taker that is executed whole at once."""
    return _fill(order, 1, instrument, price, order.request.quantity, fee_rate, _TAKER, time_ns)


def _fill(
    order: Order,
    number: int,
    instrument: Instrument,
    price: Decimal,
    quantity: Decimal,
    fee_rate: Decimal,
    liquidity: Liquidity,
    time_ns: int,
) -> Fill:
    return Fill(
        f"{order.client_order_id}-{number}",
        order.client_order_id,
        order.strategy_id,
        order.account_id,
        instrument.id,
        order.request.side,
        price,
        quantity,
        multiply(multiply(price, quantity), fee_rate),
        instrument.quote,
        liquidity,
        time_ns,
    )
