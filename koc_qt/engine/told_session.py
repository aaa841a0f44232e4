"""A recorded session, read from its pieces: what its orders did and when, what was filled, and what the market was."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np

from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.orders import Fill, Order, OrderStatus
from koc_qt.engine.told_files import PieceHead, ToldSession, told_of
from koc_qt.ports.bars import BarSeries, Columns
from koc_qt.sdk.channel import FillUpdate, OrderUpdate, ReplayTold, SessionStart
from koc_qt.sdk.recorded import ReplayOrders, SessionOrder

_ORDERS_A_MESSAGE = 1_000
_UNHEARD = (OrderStatus.NEW, OrderStatus.SUBMITTED, OrderStatus.UNKNOWN)


class ReadSession(msgspec.Struct, frozen=True):
    """What is left of a session. Times are UTC nanoseconds, of the venues' clocks; `prices` are the middles of quotes.

    `settled_ns` is when the strategy first held nothing in it; None where it never did. `refusals` counts what the
    engine refused.
    """

    head: PieceHead
    files: tuple[Path, ...]
    orders: tuple[SessionOrder, ...]
    fills: tuple[Fill, ...]
    since_ns: int
    until_ns: int
    settled_ns: int | None
    refusals: int
    prices: dict[BarSeries, Columns]

    @property
    def is_whole(self) -> bool:
        """Whether it is there from its beginning."""
        return self.head.number == 0

    def told(self) -> ToldSession:
        """Give it as what a worker is to live through."""
        head = self.head
        start = SessionStart(head.balances, head.positions, head.open_orders, self.is_whole)
        return ToldSession(start, self._messages)

    def _messages(self) -> Iterator[ReplayOrders | ReplayTold]:
        for begin in range(0, len(self.orders), _ORDERS_A_MESSAGE):
            yield ReplayOrders(self.orders[begin : begin + _ORDERS_A_MESSAGE])
        for told in told_of(self.files):
            yield told
            if told.heard_ns[-1] >= self.until_ns:  # what has come since it was read is of no interest
                return


class _Orders:
    """Collects what is told of orders."""

    def __init__(self, earlier: Iterable[str]) -> None:
        self._earlier = frozenset(earlier)
        self._found: dict[str, SessionOrder] = {}
        self._newest: dict[str, Order] = {}
        self.refused: list[SessionOrder] = []

    @property
    def all(self) -> tuple[SessionOrder, ...]:
        return tuple(sorted((*self._found.values(), *self.refused), key=lambda each: each.request_id))

    def update(self, told: OrderUpdate, heard_ns: int) -> None:
        order = told.order
        if order is None:
            self.refused.append(SessionOrder(told.request_id, heard_ns))
            return
        key, request = order.client_order_id, order.request
        if key in self._earlier or (told.request_id == 0 and key not in self._found):
            return
        known = self._found.get(key)
        if known is None:
            known = SessionOrder(told.request_id, heard_ns, key, request.instrument, request.side)
            self._newest[key] = order
        changes, before = known.changes, self._newest[key].request
        if (request.quantity, request.price) != (before.quantity, before.price):
            changes = (*changes, (request.quantity, request.price, order.updated_ns))
        arrived_ns = known.arrived_ns
        if arrived_ns is None and order.status not in _UNHEARD:
            arrived_ns = order.updated_ns
        canceled_ns = order.updated_ns if order.status is OrderStatus.CANCELED else known.canceled_ns
        self._newest[key] = order
        self._found[key] = msgspec.structs.replace(
            known, arrived_ns=arrived_ns, canceled_ns=canceled_ns, changes=changes
        )

    def filled(self, fill: Fill) -> None:
        known = self._found.get(fill.client_order_id)
        if known is not None:
            self._found[fill.client_order_id] = msgspec.structs.replace(known, fills=known.fills + 1)


def read_session(head: PieceHead, files: list[Path]) -> ReadSession | None:
    """Read a session; None where nothing of it is left. Raises OSError, ValueError for what cannot be read."""
    ids = [rules.id for rules in head.instruments]
    orders = _Orders(order.client_order_id for order in head.open_orders)
    fills: dict[tuple[str, str], Fill] = {}
    times, mids = [array("q") for _ in ids], [array("d") for _ in ids]
    since_ns, until_ns = head.time_ns, 0
    for told in told_of(files):
        until_ns = max(until_ns, told.heard_ns[-1])
        for row, time_ns, bid, ask in zip(told.row, told.time_ns, told.bid, told.ask, strict=True):
            times[row].append(time_ns)
            mids[row].append((float(bid) + float(ask)) / 2)
        said = iter(told.said)
        for kind, heard_ns in zip(told.kinds, told.heard_ns, strict=True):
            what = next(said) if kind == "s" else None
            if isinstance(what, OrderUpdate):
                orders.update(what, heard_ns)
            elif isinstance(what, FillUpdate):
                fills.setdefault((what.fill.account_id, what.fill.fill_id), what.fill)
                orders.filled(what.fill)
    if not until_ns:
        return None
    return ReadSession(
        head=head,
        files=tuple(files),
        orders=orders.all,
        fills=tuple(sorted(fills.values(), key=lambda fill: fill.time_ns)),
        since_ns=since_ns,
        until_ns=until_ns,
        settled_ns=_settled_ns(head, fills.values(), since_ns),
        refusals=len(orders.refused),
        prices={
            BarSeries(key, head.timeframe): _columns(at, mid) for key, at, mid in zip(ids, times, mids, strict=True)
        },
    )


def _settled_ns(head: PieceHead, fills: Iterable[Fill], since_ns: int) -> int | None:
    """Give when nothing was held for the first time, but rests that cannot be sold."""
    held: defaultdict[InstrumentId, Decimal] = defaultdict(Decimal)
    held |= {each.instrument: each.quantity for each in head.positions}
    rules = {each.id: each for each in head.instruments}

    def is_flat() -> bool:
        return all(abs(quantity) < rules[key].lot_size for key, quantity in held.items())

    if is_flat():
        return since_ns
    for fill in sorted(fills, key=lambda fill: fill.time_ns):
        kept_back = fill.fee if fill.fee_currency == rules[fill.instrument].base else Decimal(0)
        held[fill.instrument] += fill.side.sign * fill.quantity - kept_back
        if is_flat():
            return fill.time_ns + 1
    return None


def _columns(times: array[int], mids: array[float]) -> Columns:
    prices = np.array(mids, np.float64)
    return Columns(np.array(times, np.int64), prices, prices, prices, prices, np.zeros(len(prices)))
