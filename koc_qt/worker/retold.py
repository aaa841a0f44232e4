"""A recorded session of a strategy that hears quotes, once more: it is told the same in the same order.

What it decides on that is its own doing again. Its orders meet the market that was recorded, in a matching engine, from
when those of the session did; what becomes of them is worked out there, and told when the session's worker heard as
much. So a session on paper comes out the same where class and account do what they did, and of one that does not, the
first difference is where they parted. From there on orders reach their account at once, and are heard of at once.

What the engine refused (limits of the profile, the kill switch) is refused again. Timers go off when they are due,
before what was told later: live, one that is due in the very moment of a quote may be called after it.
"""

from __future__ import annotations

from bisect import insort
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from random import Random

import msgspec

from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Book, Quote, Side, Trade
from koc_qt.domain.matching import FillModel, MatchingEngine
from koc_qt.domain.order_state import apply
from koc_qt.domain.orders import (
    AmendRequested,
    CancelRequested,
    Fill,
    Liquidity,
    Order,
    OrderEvent,
    OrderFilled,
    OrderRequest,
    OrderStatus,
)
from koc_qt.domain.timeframes import SECOND_NS
from koc_qt.sdk.channel import (
    Amend,
    BarClosed,
    FillUpdate,
    HistoryBars,
    OrderUpdate,
    PositionState,
    ReplayTold,
    SessionStart,
    StartReplay,
)
from koc_qt.sdk.recorded import ReplayOrders, SessionOrder
from koc_qt.sdk.session import Session
from koc_qt.sdk.strategy import Strategy
from koc_qt.worker.replay import Pause, Replay
from koc_qt.worker.replay_context import ReplayContext
from koc_qt.worker.replay_desk import ACCOUNT, ReplayDesk

_NEAR_NS = 5 * SECOND_NS  # in which an order of a replay that went another way is still one of the session
_NEVER_NS = 1 << 62
_ZERO = Decimal(0)
_ENDS = 9
_RANKS = {
    OrderStatus.NEW: 0,
    OrderStatus.SUBMITTED: 1,
    OrderStatus.UNKNOWN: 1,
    OrderStatus.ACCEPTED: 2,
    OrderStatus.TRIGGERED: 3,
    OrderStatus.PARTIALLY_FILLED: 4,
}

Event = Quote | Trade | Book
Mark = tuple[int, Decimal, bool]
"""How far an order is: the rank of its status, what of it is filled, and whether its cancel was asked for."""
_UNTOLD: Mark = (-1, _ZERO, False)


class _Errand(msgspec.Struct, frozen=True):
    """What is on its way to an account; the first that was sent comes first."""

    due_ns: int
    number: int
    run: Callable[[int], Sequence[OrderEvent]]


class RecordedMarket:
    """One venue's account and market: what was sent there takes effect when it did in the session."""

    def __init__(self, engine: MatchingEngine, hear: Callable[[Sequence[OrderEvent]], None]) -> None:
        self.engine = engine
        self._hear = hear
        self._errands: list[_Errand] = []
        self._sent = 0

    def send(self, due_ns: int, run: Callable[[int], Sequence[OrderEvent]]) -> None:
        """Have something done at a time; what is due already, with what comes next."""
        self._sent += 1
        insort(self._errands, _Errand(due_ns, self._sent, run), key=lambda each: (each.due_ns, each.number))

    def advance(self, now_ns: int) -> None:
        """Let happen what is due by a time."""
        while self._errands and self._errands[0].due_ns <= now_ns:
            errand = self._errands.pop(0)
            self._hear(errand.run(errand.due_ns))

    def meet(self, event: Event, heard_ns: int) -> None:
        """Let what is due happen, and then the account hear news."""
        self.advance(heard_ns)
        match event:
            case Quote():
                self._hear(self.engine.on_quote(event))
            case Trade():
                self._hear(self.engine.on_trade(event))
            case Book():
                self._hear(self.engine.on_book(event))


class _Hearing(msgspec.Struct):
    """What of an order is still to be told, and how far the session's worker had heard of it."""

    request_id: int
    came: SessionOrder | None
    orders: deque[Order]
    fills: deque[tuple[Fill, PositionState, dict[str, Decimal]]]
    mark: Mark = _UNTOLD
    fills_heard: int = 0
    fills_told: int = 0

    @property
    def is_over(self) -> bool:
        """Whether the session tells nothing more of it: what comes then is told at once."""
        return self.came is None or (self.mark[0] == _ENDS and self.fills_heard >= self.came.fills)

    def may_tell(self, order: Order) -> bool:
        rank, filled, is_canceling = self.mark
        if self.came is None or rank == _ENDS:
            return True
        known = _mark(order)
        return known[0] <= rank and known[1] <= filled and known[2] <= is_canceling


def _mark(order: Order) -> Mark:
    return _RANKS.get(order.status, _ENDS), order.filled_quantity, order.cancel_requested


class SessionOrders:
    """Finds to what the replay asks for what the session made of it."""

    def __init__(self, *, whole: bool) -> None:
        self._whole = whole  # until a decision differs: so far both count their requests alike
        self._by_request: dict[int, SessionOrder] = {}
        self._by_kind: defaultdict[tuple[InstrumentId, Side], deque[SessionOrder]] = defaultdict(deque)
        self._taken: set[int] = set()
        self.ids: set[str] = set()

    def add(self, orders: Iterable[SessionOrder]) -> None:
        """Know some more."""
        for each in orders:
            self._by_request[each.request_id] = each
            if each.instrument is not None and each.side is not None:
                self._by_kind[each.instrument, each.side].append(each)
                self.ids.add(each.client_order_id)

    def find(self, request_id: int, request: OrderRequest, now_ns: int) -> SessionOrder | None:
        """Give the session's order that a request is, each once; None where there was none."""
        found = self._by_request.get(request_id) if self._whole else None
        if found is None or (found.instrument is not None and not _is_same(found, request)):
            self._whole = False
            waiting = self._by_kind[request.instrument, request.side]
            while waiting and (waiting[0].told_ns < now_ns or waiting[0].request_id in self._taken):
                waiting.popleft()
            if not waiting or waiting[0].told_ns > now_ns + _NEAR_NS:
                return None
            found = waiting[0]
        self._taken.add(found.request_id)
        return found


def _is_same(known: SessionOrder, request: OrderRequest) -> bool:
    return (known.instrument, known.side) == (request.instrument, request.side)


class RetoldDesk(ReplayDesk):
    """A desk whose accounts live in a recorded market, and which tells of orders when the session's engine did."""

    takes_short_cuts = False

    def __init__(self, start: StartReplay, session: Session, context: ReplayContext, begun: SessionStart) -> None:
        super().__init__(start, session, context, lambda: None)
        self.session_orders = SessionOrders(whole=begun.whole)
        self._markets: dict[str, RecordedMarket] = {}
        self._hearings: dict[str, _Hearing] = {}  # by our id
        self._keys: dict[str, str] = {}  # the session's id of an order -> ours
        self._refusals: dict[int, str] = {}  # the session's request id of what it refused -> our id
        self._early: dict[str, tuple[Mark, int]] = {}  # heard of what was not asked for yet: how far, and fills
        self._refused_early: dict[int, str] = {}  # by the session's request id: why
        for venue in dict.fromkeys(rules.id.venue for rules in start.instruments):
            engine = MatchingEngine(
                [rules for rules in start.instruments if rules.id.venue == venue],
                begun.balances.get(venue, ()),
                FillModel(),
                ACCOUNT,
                Random(start.seed),  # noqa: S311 (repeatable on purpose)
                allow_short=start.allow_short,
            )
            self._markets[venue] = RecordedMarket(engine, self.hear)
        self._by_row = [self._markets[rules.id.venue].engine for rules in start.instruments]
        for held in begun.positions:
            self._hold(held)

    def _hold(self, held: PositionState) -> None:
        """Begin with what the session began with."""
        if not held.quantity:
            return
        side = Side.BUY if held.quantity > 0 else Side.SELL
        bought = Fill(
            fill_id="before", client_order_id="before", strategy_id=ACCOUNT, account_id=ACCOUNT,
            instrument=held.instrument, side=side, price=held.average_price or _ZERO, quantity=abs(held.quantity),
            fee=_ZERO, fee_currency="", liquidity=Liquidity.TAKER, time_ns=self._start.since_ns,
        )  # fmt: skip
        position, row = self._positions[held.instrument], self._rows[held.instrument]
        position.apply(bought)
        self.quantities[row] = float(position.quantity)

    # ---- the market -------------------------------------------------------------------------------------------------

    def meet_market(self, event: Event, heard_ns: int) -> None:
        """Let the accounts of a venue hear news."""
        row = self._rows.get(event.instrument)
        if row is not None:
            if isinstance(event, Quote):
                self.closes[row] = float(event.mid)
            self._markets[event.instrument.venue].meet(event, heard_ns)

    # ---- what the strategy asks for ---------------------------------------------------------------------------------

    def _submit(self, request_id: int, request: OrderRequest) -> None:
        now_ns = self._context.time_ns
        came = self.session_orders.find(request_id, request, now_ns)
        self._placed_ever += 1
        key = f"bt{self._placed_ever}"
        order = Order(key, ACCOUNT, ACCOUNT, request, now_ns, now_ns, OrderStatus.SUBMITTED)
        self._orders[key], self._requests[key] = order, request_id
        hearing = self._hearings[key] = _Hearing(request_id, came, deque([order]), deque())
        if came is not None and came.instrument is None:
            self._refusals[came.request_id] = key
            if came.request_id in self._refused_early:
                self._refuse(came.request_id, self._refused_early[came.request_id])
            return
        due_ns = now_ns
        if came is not None:
            self._keys[came.client_order_id] = key
            hearing.mark, hearing.fills_heard = self._early.pop(came.client_order_id, (hearing.mark, 0))
            due_ns = _NEVER_NS if came.arrived_ns is None else came.arrived_ns
        market = self._markets[request.instrument.venue]
        market.send(due_ns, lambda time_ns: market.engine.submit(order, time_ns))
        self._tell(hearing)

    def _cancel(self, client_order_id: str) -> None:
        order, hearing = self._orders.get(client_order_id), self._hearings.get(client_order_id)
        if order is None or hearing is None or order.cancel_requested:
            return
        now_ns, came = self._context.time_ns, hearing.came
        self.hear((CancelRequested(client_order_id, now_ns),))
        due_ns = now_ns
        if came is not None:  # one that came too late then comes too late again
            due_ns = _NEVER_NS if came.canceled_ns is None else came.canceled_ns
        market = self._markets[order.request.instrument.venue]
        market.send(due_ns, lambda time_ns: market.engine.cancel(client_order_id, time_ns))

    def _amend(self, asked: Amend) -> None:
        key = asked.client_order_id
        order, hearing = self._orders.get(key), self._hearings.get(key)
        if order is None or hearing is None or order.cancel_requested:
            return
        now_ns, came = self._context.time_ns, hearing.came
        self.hear((AmendRequested(key, now_ns, asked.quantity, asked.price),))
        due_ns = now_ns
        if came is not None:
            same = (at for quantity, price, at in came.changes if (quantity, price) == (asked.quantity, asked.price))
            due_ns = next(same, _NEVER_NS)
        market = self._markets[order.request.instrument.venue]
        market.send(due_ns, lambda time_ns: market.engine.amend(key, asked.quantity, asked.price, time_ns))

    # ---- what became of it ------------------------------------------------------------------------------------------

    def hear(self, events: Iterable[OrderEvent]) -> None:
        """Apply what accounts say; the strategy hears of it in its time."""
        for event in events:
            key = event.client_order_id
            before = self._orders.get(key)
            if before is None:
                continue  # a cancel that came too late
            order = apply(before, event)
            if order is before:
                continue
            if order.is_open:
                self._orders[key] = order
            else:
                del self._orders[key]
            hearing = self._hearings[key]
            hearing.orders.append(order)
            if isinstance(event, OrderFilled):
                fill = event.fill
                self.book(fill)
                free = self._markets[fill.instrument.venue].engine.free
                hearing.fills.append((fill, self._holding(fill.instrument), free))
            self._tell(hearing)

    def _tell(self, hearing: _Hearing) -> None:
        """Tell of an order what the session's worker had heard by now."""
        while hearing.orders and hearing.may_tell(hearing.orders[0]):
            self._session.on_order_update(hearing.request_id, hearing.orders.popleft())
        while hearing.fills and (hearing.fills_told < hearing.fills_heard or hearing.is_over):
            hearing.fills_told += 1
            fill, holding, free = hearing.fills.popleft()
            self._session.on_fill(hearing.request_id, fill, holding, free)

    def order_was_told(self, told: OrderUpdate) -> None:
        """Go on as far as the session's worker heard of an order here."""
        order = told.order
        if order is None:
            self._refuse(told.request_id, told.reason)
            return
        if order.client_order_id not in self.session_orders.ids:  # of an earlier worker
            self._session.on_order_update(0, order, told.reason)
            return
        self._markets[order.request.instrument.venue].advance(order.updated_ns)
        known = self._hearing_of(order.client_order_id)
        if known is None:
            _, fills = self._early.get(order.client_order_id, (None, 0))
            self._early[order.client_order_id] = (_mark(order), fills)
        else:
            known.mark = _mark(order)
            self._tell(known)

    def fill_was_told(self, told: FillUpdate) -> None:
        """Go on as far as the session's worker heard of a fill here."""
        live = told.fill
        if live.client_order_id not in self.session_orders.ids:
            fill = msgspec.structs.replace(live, strategy_id=ACCOUNT, account_id=ACCOUNT)
            self.book(fill)
            self._session.on_fill(0, fill, self._holding(fill.instrument), told.cash)
            return
        hearing = self._hearing_of(live.client_order_id)
        if hearing is None:
            mark, fills = self._early.get(live.client_order_id, (_UNTOLD, 0))
            self._early[live.client_order_id] = (mark, fills + 1)
        else:
            hearing.fills_heard += 1
            self._tell(hearing)

    def _refuse(self, request_id: int, reason: str) -> None:
        """Refuse what the session's engine refused, as soon as it was asked for."""
        key = self._refusals.pop(request_id, None)
        if key is None:
            self._refused_early[request_id] = reason
            return
        del self._orders[key]
        self._session.on_order_update(self._hearings.pop(key).request_id, None, reason)

    def _hearing_of(self, client_order_id: str) -> _Hearing | None:
        return self._hearings.get(self._keys.get(client_order_id, ""))


class RetoldReplay(Replay):
    """One run of a session that was recorded with all that its strategy was told."""

    HEARD = ("bars", "quotes", "trades")

    def __init__(self, strategy: Strategy, start: StartReplay, write: Callable[[int, str, str], None]) -> None:
        super().__init__(strategy, start, write)
        begun = start.session
        assert begun is not None  # noqa: S101 (for the type checker)
        first = start.instruments[0]
        self._session = Session(
            strategy,
            self._context,
            instruments=start.instruments,
            timeframe=self.timeframe,
            cash={each.currency: each.total - each.locked for each in begun.balances.get(first.id.venue, ())},
            positions=begun.positions,
            open_orders=begun.open_orders,
            seed=start.seed,
        )
        self._context.moment_ns = start.since_ns
        self._retold = self._desk = RetoldDesk(start, self._session, self._context, begun)
        self._ids = [rules.id for rules in start.instruments]

    def retell(self, message: ReplayOrders | ReplayTold, pause: Pause) -> None:
        """Know the session's orders, or live through some more of it."""
        if isinstance(message, ReplayOrders):
            self._retold.session_orders.add(message.orders)
            return
        left = 1
        for kind, heard_ns, content in _entries(message, self._ids):
            self._pass_time(heard_ns)
            self._live(kind, heard_ns, content)
            left -= 1
            if not left:
                left = pause()

    def _live(self, kind: str, heard_ns: int, content: object) -> None:
        desk, session = self._retold, self._session
        desk.placed = 0
        desk.answer_all()  # what it asked for in on_start, or when a timer went off
        match content:
            case Quote() | Trade() | Book():
                if self._first_open is None and isinstance(content, Quote) and content.instrument == self._ids[0]:
                    self._first_open = float(content.mid)
                desk.meet_market(content, heard_ns)
                if kind == "Q" and isinstance(content, Quote):
                    session.on_quote(content)
                elif kind == "T" and isinstance(content, Trade):
                    session.on_trade(content)
            case OrderUpdate():
                desk.order_was_told(content)
            case FillUpdate():
                desk.fill_was_told(content)
            case BarClosed(bar, warmup):
                session.on_bar(bar, warmup=warmup)
            case HistoryBars(request_id, bars, error):
                session.on_history(request_id, bars, error)
        desk.answer_all()

    def _pass_time(self, now_ns: int) -> None:
        """Let timers go off, and note now and then what there was."""
        session, context = self._session, self._context
        while (due_ns := session.next_deadline_ns) is not None and due_ns <= now_ns:
            context.moment_ns = max(context.time_ns, due_ns)
            session.on_time(due_ns)
            self._retold.placed = 0
            self._retold.answer_all()
            if session.next_deadline_ns == due_ns:
                break
        context.moment_ns = max(context.time_ns, now_ns)
        if context.moment_ns >= self._times_ns[-1] + self._bar_ns:
            held = zip(self._retold.quantities, self._retold.closes, strict=True)
            self._times_ns.append(context.moment_ns)
            self._equity.append(self._retold.base + sum(quantity * close for quantity, close in held if quantity))


def _entries(told: ReplayTold, ids: Sequence[InstrumentId]) -> Iterator[tuple[str, int, object]]:
    """Give the entries of a stretch, one after the other."""
    instruments = map(ids.__getitem__, told.row)
    quotes = map(Quote, instruments, told.time_ns, told.bid, told.bid_size, told.ask, told.ask_size)
    contents: dict[str, Iterator[object]] = {"q": quotes, "t": iter(told.trades), "b": iter(told.books)}
    contents |= {"Q": quotes, "T": contents["t"], "s": iter(told.said)}
    for kind, heard_ns in zip(told.kinds, told.heard_ns, strict=True):
        yield kind, heard_ns, next(contents[kind])
