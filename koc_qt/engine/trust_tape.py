"""What the market told while orders of strategies were at work at their accounts: for a session that is replayed."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Book, BookLevel, Quote, StreamState, StreamStatus, Trade
from koc_qt.domain.orders import Order, OrderStatus
from koc_qt.engine.bus import Bus
from koc_qt.engine.drift_sessions import Sessions
from koc_qt.link.messages import BookChanged, OrderChanged, QuoteChanged, TradePrinted
from koc_qt.sdk.channel import RecordedOrder

Event = Quote | Book | Trade

ORDERS_KEPT = 1_500  # of a strategy, the newest
EVENTS_KEPT = 1_000  # of a market, the newest: an order is heard of once it is on disk, some milliseconds later
EVENTS_OF_ORDER = 300  # after its arrival; what rests for longer meets bars from then on
STRATEGIES_KEPT = 200
_DEPTH = 4  # times the order's size that is kept of a book's side
_ARRIVED = frozenset({OrderStatus.ACCEPTED, OrderStatus.TRIGGERED, OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED})


class _Followed(msgspec.Struct):
    """An order that has arrived."""

    order: Order
    time_ns: int
    events: list[Event]
    is_over: bool = False

    def record(self) -> RecordedOrder:
        request = self.order.request
        return RecordedOrder(request.instrument, request.side, self.time_ns, tuple(self.events))


class SessionTape:
    """Listens to the markets that strategies are sent bars of, and to their orders; in memory alone."""

    def __init__(self, bus: Bus, sessions: Sessions) -> None:
        self._instruments = sessions.instruments
        self._events: dict[InstrumentId, deque[Event]] = {}
        self._orders: dict[str, dict[str, _Followed]] = {}  # by strategy and order
        self._open: defaultdict[InstrumentId, dict[str, _Followed]] = defaultdict(dict)
        bus.subscribe(QuoteChanged, lambda fact: self._note(fact.quote))
        bus.subscribe(BookChanged, lambda fact: self._note(fact.book))
        bus.subscribe(TradePrinted, lambda fact: self._note(fact.trade))
        bus.subscribe(StreamStatus, self._stream_changed)
        bus.subscribe(OrderChanged, lambda fact: self._order_changed(fact.order))

    def orders(self, strategy_id: str) -> tuple[RecordedOrder, ...]:
        """Give what is known of a strategy's orders, oldest first."""
        return tuple(each.record() for each in self._orders.get(strategy_id, {}).values())

    def _note(self, event: Event) -> None:
        key = event.instrument
        if key not in self._instruments:
            return
        events = self._events.get(key)
        if events is None:
            events = self._events[key] = deque(maxlen=EVENTS_KEPT)
        events.append(event)
        if followed := self._open.get(key):
            for order_id in tuple(followed):
                self._add(followed[order_id], event)
                if len(followed[order_id].events) > EVENTS_OF_ORDER:
                    del followed[order_id]

    def _stream_changed(self, status: StreamStatus) -> None:
        """Forget a market that is interrupted: an account does so too."""
        if status.state is not StreamState.CONNECTED:
            self._events.pop(status.instrument, None)
            self._open.pop(status.instrument, None)

    def _order_changed(self, order: Order) -> None:
        """Follow an order from its arrival to its end."""
        key, instrument = order.client_order_id, order.request.instrument
        known = self._orders.get(order.strategy_id, {})
        followed = known.get(key)
        if followed is None and order.status in _ARRIVED and (events := self._events.get(instrument)):
            followed = self._begin(order, events)
        if followed is not None and not order.is_open and not followed.is_over:
            followed.is_over = True
            followed.events = [event for event in followed.events if event.time_ns <= order.updated_ns]
            self._open[instrument].pop(key, None)

    def _begin(self, order: Order, events: deque[Event]) -> _Followed:
        known = self._orders.pop(order.strategy_id, {})
        self._orders[order.strategy_id] = known  # the newest last
        followed = known[order.client_order_id] = _Followed(order, order.updated_ns, [])
        for event in (
            *state_at(events, order.updated_ns),
            *(each for each in events if each.time_ns >= order.updated_ns),
        ):
            self._add(followed, event)
        self._open[order.request.instrument][order.client_order_id] = followed
        for crowd, limit in ((known, ORDERS_KEPT), (self._orders, STRATEGIES_KEPT)):
            if len(crowd) > limit:
                del crowd[next(iter(crowd))]
        return followed

    def _add(self, followed: _Followed, event: Event) -> None:
        quantity = followed.order.request.quantity * _DEPTH
        if isinstance(event, Book):
            bids, asks = _enough(event.bids, quantity), _enough(event.asks, quantity)
            event = msgspec.structs.replace(event, bids=bids, asks=asks)
        followed.events.append(event)


def state_at(events: Sequence[Event] | deque[Event], time_ns: int) -> list[Event]:
    """Give what of a market's news makes up what was known of it just before a time: the newest of each kind."""
    newest: dict[type[Event], Event] = {}
    for event in events:
        if event.time_ns >= time_ns:
            break
        if isinstance(event, Book):
            newest.pop(Quote, None)  # the book has its top
        newest.pop(type(event), None)
        newest[type(event)] = event
    return list(newest.values())


def _enough(levels: Sequence[BookLevel], quantity: Decimal) -> tuple[BookLevel, ...]:
    """Give the levels that a quantity needs, one at least."""
    covered = Decimal(0)
    for number, level in enumerate(levels, start=1):
        covered += level.quantity
        if covered >= quantity:
            return tuple(levels[:number])
    return tuple(levels)
