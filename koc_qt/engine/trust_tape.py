"""What the market told while orders of strategies were at work at their accounts: for a session that is replayed."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from decimal import Decimal

import msgspec

from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Book, BookLevel, Quote, Side, StreamState, StreamStatus, Trade
from koc_qt.domain.orders import Order, OrderStatus
from koc_qt.engine.bus import Bus
from koc_qt.engine.drift_sessions import Sessions
from koc_qt.engine.store import Store
from koc_qt.link.messages import BookChanged, OrderChanged, QuoteChanged, TradePrinted
from koc_qt.sdk.recorded import RecordedEvent, RecordedOrder

ORDERS_KEPT = 5_000  # of all strategies, the newest
EVENTS_OF_ORDERS = 10_000  # kept with them: some 30 MB with deep books, of which the oldest orders are forgotten
EVENTS_OF_ORDER = 300  # after its arrival; what rests for longer meets bars from then on
EVENTS_KEPT = 200  # of a market, the newest: an order is heard of once it is on disk, some milliseconds later
_DEPTH = 4  # times the order's size, and as many levels as follow, are kept of the side that it takes from: a newer
_TAKEN, _OWN = 20, 5  # quote may leave the best levels out. Of its own side only levels, in which it may queue
_ARRIVED = frozenset({OrderStatus.ACCEPTED, OrderStatus.TRIGGERED, OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED})


class _Followed(msgspec.Struct):
    """An order that has arrived."""

    order: Order
    time_ns: int
    events: list[RecordedEvent]
    told_after_ns: int = 0
    is_over: bool = False

    def record(self) -> RecordedOrder:
        request = self.order.request
        return RecordedOrder(request.instrument, request.side, self.time_ns, tuple(self.events), self.told_after_ns)


class SessionTape:
    """Listens to the markets that strategies are sent bars of, and to their orders; in memory alone.

    `time_ns` gives a venue's clock, which is that of its paper accounts: an order whose time has come acts before what
    is heard after that, however that is dated.
    """

    def __init__(self, store: Store, bus: Bus, sessions: Sessions, time_ns: Callable[[str], int]) -> None:
        self._store = store
        self._time_ns = time_ns
        self._sessions = sessions
        self._events: dict[InstrumentId, deque[RecordedEvent]] = {}
        self._orders: dict[str, _Followed] = {}  # by client order id, oldest first
        self._event_count = 0  # with these
        self._forgotten_ns: dict[str, int] = {}  # by strategy: when the newest order came that was forgotten
        self._open: defaultdict[InstrumentId, dict[str, _Followed]] = defaultdict(dict)
        bus.subscribe(QuoteChanged, lambda fact: self._note(fact.quote))
        bus.subscribe(BookChanged, lambda fact: self._note(fact.book))
        bus.subscribe(TradePrinted, lambda fact: self._note(fact.trade))
        bus.subscribe(StreamStatus, self._stream_changed)
        bus.subscribe(OrderChanged, lambda fact: self._order_changed(fact.order))

    def orders(self, strategy_id: str) -> tuple[RecordedOrder, ...]:
        """Give what is known of a strategy's orders, oldest first."""
        return tuple(each.record() for each in self._orders.values() if each.order.strategy_id == strategy_id)

    def known_since_ns(self, strategy_id: str) -> int:
        """Give since when no order of a strategy was forgotten; 0 where none ever was."""
        return self._forgotten_ns.get(strategy_id, -1) + 1

    def _note(self, told: Quote | Book | Trade) -> None:
        key = told.instrument
        if key not in self._sessions.instruments:
            return
        event = RecordedEvent(self._time_ns(key.venue), told)
        events = self._events.get(key)
        if events is None:
            events = self._events[key] = deque(self._known(key), EVENTS_KEPT)
        events.append(event)
        if followed := self._open.get(key):
            for order_id in tuple(followed):
                order = followed[order_id]
                self._add(order, event)
                if len(order.events) > EVENTS_OF_ORDER:
                    followed.pop(order_id, None)
            self._forget_old()

    def _known(self, key: InstrumentId) -> list[RecordedEvent]:
        """Give what was known of a market before it was listened to: when that was heard does not matter any more."""
        told = (self._store.trades.get(key), self._store.books.get(key), self._store.quotes.get(key))
        return sorted((RecordedEvent(each.time_ns, each) for each in told if each), key=lambda each: each.heard_ns)

    def _stream_changed(self, status: StreamStatus) -> None:
        """Forget a market that is interrupted: an account does so too."""
        if status.state is not StreamState.CONNECTED:
            self._events.pop(status.instrument, None)
            self._open.pop(status.instrument, None)

    def _order_changed(self, order: Order) -> None:
        """Follow an order from its arrival to its end."""
        key, instrument = order.client_order_id, order.request.instrument
        followed = self._orders.get(key)
        if followed is None:
            if instrument not in self._events or order.created_ns < self.known_since_ns(order.strategy_id):
                return
            if order.status is not OrderStatus.REJECTED and order.status not in _ARRIVED:
                return
            followed = self._orders[key] = _Followed(order, order.updated_ns, [])
            if order.status in _ARRIVED:
                self._begin(followed)
        if not order.is_open and not followed.is_over:
            self._end(followed, order)
        self._forget_old()

    def _begin(self, followed: _Followed) -> None:
        """Keep what the market had told when an order came, and what has been heard since."""
        instrument, time_ns = followed.order.request.instrument, followed.time_ns
        events = self._events[instrument]
        for event in (*state_at(events, time_ns), *(each for each in events if each.heard_ns >= time_ns)):
            self._add(followed, event)
        self._open[instrument][followed.order.client_order_id] = followed

    def _end(self, followed: _Followed, order: Order) -> None:
        """Keep nothing more for an order that has ended, nor what was heard between that and now."""
        followed.is_over, followed.told_after_ns = True, self._newest_bar_ns(order)
        kept = [each for each in followed.events if each.event.time_ns <= order.updated_ns]
        self._event_count -= len(followed.events) - len(kept)
        followed.events = kept
        self._open[order.request.instrument].pop(order.client_order_id, None)

    def _forget_old(self) -> None:
        while self._orders and (len(self._orders) > ORDERS_KEPT or self._event_count > EVENTS_OF_ORDERS):
            old = self._orders.pop(next(iter(self._orders)))
            order = old.order
            self._event_count -= len(old.events)
            self._open[order.request.instrument].pop(order.client_order_id, None)
            self._forgotten_ns[order.strategy_id] = max(old.time_ns, self._forgotten_ns.get(order.strategy_id, 0))

    def _newest_bar_ns(self, order: Order) -> int:
        """Give when the bar opened that the order's strategy was sent last, 0 where there is none."""
        session = self._sessions.get(order.strategy_id)
        bar = None if session is None else self._store.bars.get((order.request.instrument, session.timeframe))
        return 0 if bar is None else bar.open_time_ns

    def _add(self, followed: _Followed, heard: RecordedEvent) -> None:
        book, quantity = heard.event, followed.order.request.quantity * _DEPTH
        if isinstance(book, Book):
            if followed.order.request.side is Side.BUY:
                bids, asks = book.bids[:_OWN], _enough(book.asks, quantity)
            else:
                bids, asks = _enough(book.bids, quantity), book.asks[:_OWN]
            book = msgspec.structs.replace(book, bids=bids, asks=asks)
            heard = RecordedEvent(heard.heard_ns, book)
        followed.events.append(heard)
        self._event_count += 1


def state_at(events: Sequence[RecordedEvent] | deque[RecordedEvent], time_ns: int) -> list[RecordedEvent]:
    """Give what of a market's news makes up what was known of it just before a time: the newest of each kind."""
    newest: dict[type, RecordedEvent] = {}
    for heard in events:
        if heard.heard_ns >= time_ns:
            break
        kind = type(heard.event)
        if kind is Book:
            newest.pop(Quote, None)  # the book has its top
        newest.pop(kind, None)
        newest[kind] = heard
    return list(newest.values())


def _enough(levels: Sequence[BookLevel], quantity: Decimal) -> tuple[BookLevel, ...]:
    """Give the levels that a quantity needs, _TAKEN at least."""
    covered = Decimal(0)
    for number, level in enumerate(levels, start=1):
        covered += level.quantity
        if covered >= quantity and number >= _TAKEN:
            return tuple(levels[:number])
    return tuple(levels)
