"""The venues' side of a back-test: accounts, the orders on their way and at work, holdings and what they earned."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from random import Random
from typing import Protocol

import msgspec

from koc_qt.domain.bars import resample
from koc_qt.domain.errors import BadTimeframe, InvalidOrder, RiskRefused, StrategyError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar, Side
from koc_qt.domain.matching import FillModel, MatchingEngine
from koc_qt.domain.matching.blotter import venue_order_id
from koc_qt.domain.order_state import apply
from koc_qt.domain.orders import (
    AmendRequested,
    CancelRequested,
    Fill,
    Order,
    OrderEvent,
    OrderFilled,
    OrderRequest,
    OrderStatus,
)
from koc_qt.domain.positions import Position
from koc_qt.domain.risk import RiskContext, RiskLimits, check
from koc_qt.domain.state import Balance
from koc_qt.domain.trips import TripBook
from koc_qt.sdk.channel import Amend, Cancel, PositionState, ReplayBars, RequestHistory, StartReplay, Submit
from koc_qt.sdk.orders import to_decimal
from koc_qt.sdk.session import HISTORY_LIMIT, Session
from koc_qt.worker.replay_context import ReplayContext

ACCOUNT = "backtest"  # of every order and fill, and the strategy's id
ORDERS_A_MOMENT = 1_000  # orders and cancels from one bar's close to the next: more is a strategy that answers itself
FILLS_KEPT = 10_000  # of a result, the first ones
FRESH_FILLS = 256
_ACCEPTED = OrderStatus.ACCEPTED
_ZERO = Decimal(0)
_FREE = Decimal(10) ** 60
_NO_LIMITS = RiskLimits(
    max_order_notional=_FREE,
    max_position_notional=_FREE,
    max_open_orders=10**9,
    max_orders_per_minute=10**9,
    price_collar=_FREE,
    max_daily_loss=_FREE,
)


def shares(start: StartReplay) -> dict[str, Decimal]:
    """Give each venue's account its share of the cash."""
    venues = tuple(dict.fromkeys(rules.id.venue for rules in start.instruments))
    share = start.cash if len(venues) == 1 else (start.cash / len(venues)).quantize(Decimal("1e-8"))
    return dict.fromkeys(venues, share) | {venues[0]: start.cash - share * (len(venues) - 1)}


class Venue(Protocol):
    """What executes orders: ours is MatchingEngine, whose words these are."""

    @property
    def free(self) -> dict[str, Decimal]:
        """What of the account's balances no order reserves, by currency."""
        ...

    def submit(self, order: Order, now_ns: int) -> Sequence[OrderEvent]:
        """Send an order."""
        ...

    def cancel(self, client_order_id: str, now_ns: int) -> Sequence[OrderEvent]:
        """Ask for a cancel."""
        ...

    def amend(
        self, client_order_id: str, quantity: Decimal, price: Decimal | None, now_ns: int
    ) -> Sequence[OrderEvent]:
        """Ask for another total quantity and limit."""
        ...

    def on_bar(self, bar: Bar) -> Sequence[OrderEvent]:
        """Let orders meet a bar, and give what came of it."""
        ...


class ReplayDesk:
    """Does what the strategy asks of its context, and tells the session what comes of it.

    `closes`, `quantities` and `base` value what there is: `base` is all money but the worth of the holdings at their
    last closes. `before_fill` is called before any of these is changed by a fill. A market order that nothing happens
    to but to be filled by the next bar takes a short cut (MatchingEngine.waits_alone).
    """

    takes_short_cuts = True  # tests hold the results against those without

    def __init__(
        self, start: StartReplay, session: Session, context: ReplayContext, before_fill: Callable[[], None]
    ) -> None:
        self._fills: list[Fill] = []
        self._fill_count = 0
        self._traded = 0.0
        self._trips = TripBook()
        self._fresh: list[Fill] = []  # not yet in any of these: many in a row go quicker than one now and then
        self.placed = 0  # since the last close
        self.closes = [math.nan] * len(start.instruments)
        self.quantities = [0.0] * len(start.instruments)
        self.base = self._cash = float(start.cash)
        self._start = start
        self._session = session
        self._context = context
        self._before_fill = before_fill
        self._venues: dict[str, Venue] = {}
        self._with_volume: set[str] = set()
        self._by_row: list[Venue] = []
        self._engines: list[MatchingEngine | None] = [None] * len(start.instruments)  # by row, those that are ours
        self._alone: Order | None = None  # accepted, and the only one: its venue does not know it yet
        self._executed: OrderFilled | None = None  # what became of it, which is still to be heard
        self._orders: dict[str, Order] = {}  # open
        self._requests: dict[str, int] = {}  # client order id of an open order -> the session's request id
        self._placed_ever = 0
        self._positions = {rules.id: Position(ACCOUNT, ACCOUNT, rules) for rules in start.instruments}
        self._rows = {rules.id: row for row, rules in enumerate(start.instruments)}
        self._bases = [0.0] * len(start.instruments)  # profit of a holding, less its price times quantity

    def note_volume(self, bars: ReplayBars) -> None:
        """Look at which venues' series have volume."""
        rules = self._start.instruments
        self._with_volume |= {rules[row].id.venue for row, volume in zip(bars.row, bars.volume, strict=True) if volume}

    def open_accounts(self, bars: ReplayBars) -> None:
        """Make the venues' accounts once there are bars, which tell whether a venue's series have volume."""
        if self._venues:
            return
        self.note_volume(bars)
        start = self._start
        instruments = start.instruments
        for venue, cash in shares(start).items():
            model = FillModel(
                latency_ns=start.latency_ns,
                slippage_fraction=start.slippage + start.spread / 2,
                slippage_ticks=start.slippage_ticks,
                bar_volume_fraction=start.volume_fraction if venue in self._with_volume else None,
                maker_fee=start.fee,
                taker_fee=start.fee,
            )
            engine = MatchingEngine(
                [rules for rules in instruments if rules.id.venue == venue],
                [Balance(instruments[0].quote, cash)],
                model,
                ACCOUNT,
                Random(start.seed),  # noqa: S311 (repeatable on purpose)
                allow_short=start.allow_short,
            )
            self._venues[venue] = engine
            if self.takes_short_cuts:
                self._engines = [
                    engine if rules.id.venue == venue else known
                    for rules, known in zip(instruments, self._engines, strict=True)
                ]
        self._by_row = [self._venues[rules.id.venue] for rules in instruments]

    @property
    def is_idle(self) -> bool:
        """Whether no order works or is on its way: a bar then changes nothing but what is known of the market."""
        return not self._orders

    def meet(self, row: int, bar: Bar) -> Sequence[OrderEvent]:
        """Let an instrument's orders meet its bar; what it did to them is still to be heard."""
        self.closes[row] = bar.close
        alone, engine = self._alone, self._engines[row]
        if alone is not None:
            fill = None
            if engine is not None and alone.request.instrument == bar.instrument:
                fill = engine.fill_alone(alone, bar)
            if fill is not None:
                self._alone, self._executed = None, OrderFilled(alone.client_order_id, fill.time_ns, fill)
                return (self._executed,)
            self._introduce()  # before a bar changes what the account was worth when it was accepted
        return self._by_row[row].on_bar(bar)

    def retire(self) -> None:
        """Cancel all orders, for nobody watches them any more."""
        for client_order_id in tuple(self._orders):
            self._cancel(client_order_id)

    def _introduce(self) -> None:
        """Hand the order that was alone to its venue, which accepts it as was foreseen."""
        order, self._alone = self._alone, None
        if order is not None:
            self.hear(self._venues[order.request.instrument.venue].submit(order, order.created_ns))

    # ---- orders -----------------------------------------------------------------------------------------------------

    def answer_all(self) -> None:
        """Do what the strategy has asked for, and what it asks for in answer to that."""
        outbox = self._context.outbox
        while outbox:
            message = outbox.popleft()
            self.placed += 1
            if self.placed > ORDERS_A_MOMENT:
                raise StrategyError(
                    f"the strategy asked for more than {ORDERS_A_MOMENT:,} orders, changes, cancels and histories "
                    "between two bars: does it place an order in answer to each refusal?"
                )
            if isinstance(message, Submit):
                self._submit(message.request_id, message.request)
            elif isinstance(message, Cancel):
                self._cancel(message.client_order_id)
            elif isinstance(message, Amend):
                self._amend(message)
            else:
                self._give_history(message)

    def _submit(self, request_id: int, request: OrderRequest) -> None:
        now_ns = self._context.time_ns
        is_alone = not self._orders and self._waits_alone(request, now_ns)
        if not is_alone:
            self._introduce()
            try:
                self._check(request)
            except (InvalidOrder, RiskRefused) as error:
                self._session.on_order_update(request_id, None, str(error))
                return
        self._placed_ever += 1
        key = f"bt{self._placed_ever}"
        self._requests[key] = request_id
        if not is_alone or self._session.hears_orders:
            order = Order(key, ACCOUNT, ACCOUNT, request, now_ns, now_ns, OrderStatus.SUBMITTED)
            self._orders[key] = order
            self._session.on_order_update(request_id, order)
        if not is_alone:
            self.hear(self._venues[request.instrument.venue].submit(order, now_ns))
            return
        accepted = Order(key, ACCOUNT, ACCOUNT, request, now_ns, now_ns, _ACCEPTED, venue_order_id(key))
        self._orders[key] = self._alone = accepted
        self._session.on_order_update(request_id, accepted)

    def _waits_alone(self, request: OrderRequest, now_ns: int) -> bool:
        """Whether `_check` surely lets a market order pass and its venue, where no other order is, does so too."""
        row = self._rows[request.instrument]
        engine, close = self._engines[row], self.closes[row]
        if engine is None or not close > 0:
            return False
        quantity = request.quantity
        least = self._start.instruments[row].min_notional
        if least and float(quantity) * close < 1.001 * float(least):  # near it the exact figures decide
            return False
        if request.reduce_only:
            held = self._positions[request.instrument].quantity
            if quantity > (-held if request.side is Side.BUY else held):
                return False
        return engine.waits_alone(request, now_ns)

    def _check(self, request: OrderRequest, changed: Order | None = None) -> None:
        """Refuse what the live engine refuses, the limits of a profile aside. Raises InvalidOrder, RiskRefused."""
        row = self._rows[request.instrument]
        buying = selling = _ZERO
        for order in self._orders.values():
            if order.request.instrument == request.instrument and order is not changed:
                if order.request.side is Side.BUY:
                    buying += order.remaining
                else:
                    selling += order.remaining
        close = self.closes[row]
        context = RiskContext(
            instrument=self._start.instruments[row],
            reference_price=None if math.isnan(close) else to_decimal(close),
            position_quantity=self._positions[request.instrument].quantity,
            open_buy_quantity=buying,
            open_sell_quantity=selling,
            open_orders=len(self._orders),
            orders_last_minute=0,
            daily_pnl=_ZERO,
            filled_quantity=_ZERO if changed is None else changed.filled_quantity,
        )
        check(request, context, _NO_LIMITS)

    def _cancel(self, client_order_id: str) -> None:
        self._introduce()
        order = self._orders.get(client_order_id)
        if order is None or order.cancel_requested:
            return
        now_ns = self._context.time_ns
        self.hear((CancelRequested(client_order_id, now_ns),))
        self.hear(self._venues[order.request.instrument.venue].cancel(client_order_id, now_ns))

    def _amend(self, asked: Amend) -> None:
        self._introduce()
        order = self._orders.get(asked.client_order_id)
        if order is None or order.cancel_requested:
            return
        key, now_ns = order.client_order_id, self._context.time_ns
        request = msgspec.structs.replace(order.request, quantity=asked.quantity, price=asked.price)
        try:
            if request.quantity <= order.filled_quantity:
                raise InvalidOrder(f"{order.filled_quantity:f} of order {key} is filled already: cancel the rest")
            self._check(request, order)
        except (InvalidOrder, RiskRefused) as error:
            self._session.on_order_update(self._requests[key], msgspec.structs.replace(order, reason=str(error)))
            return
        self.hear((AmendRequested(key, now_ns, request.quantity, request.price),))
        self.hear(self._venues[request.instrument.venue].amend(key, request.quantity, request.price, now_ns))

    def hear(self, events: Iterable[OrderEvent]) -> None:
        """Apply what the account says and tell the strategy, in the order in which the live engine does."""
        for event in events:
            key = event.client_order_id
            if event is self._executed:
                self._hear_executed(self._executed)
                continue
            before = self._orders.get(key)
            if before is None:
                continue  # a cancel that came too late
            order = apply(before, event)
            if order is before:
                continue
            request_id = self._requests[key]
            if order.is_open:
                self._orders[key] = order
            else:
                del self._orders[key], self._requests[key]
            if isinstance(event, OrderFilled):
                fill = event.fill
                self.book(fill)
                self._session.on_order_update(request_id, order)
                self._session.on_fill(request_id, fill, self._holding(fill.instrument), self._by_row[0].free)
            else:
                self._session.on_order_update(request_id, order)

    def _hear_executed(self, event: OrderFilled) -> None:
        """Tell of an order that was alone and is filled: all there is to it."""
        fill, key = event.fill, event.client_order_id
        self._executed = None
        del self._orders[key]
        self.book(fill)
        holding, free = self._holding(fill.instrument), self._by_row[0].free
        self._session.on_whole_fill(self._requests.pop(key), fill, holding, free)

    @property
    def fills(self) -> list[Fill]:
        """The first FILLS_KEPT fills."""
        self._count_fresh()
        return self._fills

    @property
    def fill_count(self) -> int:
        """How many fills there were."""
        self._count_fresh()
        return self._fill_count

    @property
    def traded(self) -> float:
        """Price times quantity of all fills."""
        self._count_fresh()
        return self._traded

    @property
    def trips(self) -> TripBook:
        """The trades that the fills make."""
        self._count_fresh()
        return self._trips

    def _count_fresh(self) -> None:
        for fill in self._fresh:
            self._trips.add(fill)
            self._traded += float(fill.price * fill.quantity)
        self._fill_count += len(self._fresh)
        self._fills += self._fresh[: FILLS_KEPT - len(self._fills)]
        self._fresh.clear()

    def book(self, fill: Fill) -> None:
        """Count a fill in."""
        position, row = self._positions[fill.instrument], self._rows[fill.instrument]
        self._before_fill()
        position.apply(fill)
        self._fresh.append(fill)
        if len(self._fresh) == FRESH_FILLS:
            self._count_fresh()
        self.quantities[row] = float(position.quantity)
        self._bases[row] = float(position.paid_out)
        self.base = math.fsum((self._cash, *self._bases))

    def _holding(self, instrument: InstrumentId) -> PositionState:
        held = self._positions[instrument]
        return PositionState(instrument, held.quantity, held.average_price, held.realised_pnl, held.fees)

    def _give_history(self, asked: RequestHistory) -> None:
        seen = self._session.seen_bars(HISTORY_LIMIT, None, asked.instrument)
        try:
            bars = resample(seen, asked.timeframe, until_ns=self._context.time_ns)
        except BadTimeframe:
            has = f"a back-test on bars of {seen[0].timeframe} has none of {asked.timeframe}, only of whole multiples"
            self._session.on_history(asked.request_id, (), has)
            return
        if bars and bars[0].open_time_ns < seen[0].open_time_ns:
            del bars[0]  # its beginning was before the first bar that was seen
        self._session.on_history(asked.request_id, bars[-asked.count :])
