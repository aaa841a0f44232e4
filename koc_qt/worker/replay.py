"""Runs a strategy on history: the class that trades live, on the matching engine that fills paper accounts.

The rules, the same as live wherever bars can tell:

- A bar is told when it has closed. An order placed then meets the next bar of its instrument: at the market it trades
  at that bar's open. What a bar did to orders is told at its close, before the bar itself; fills carry the time of its
  opening.
- Time goes from close to close: a timer that came due in between goes off at the next close, before that bar.
- Every venue has one account of its own, with an equal share of the cash. Its orders pass the instrument's rules, not
  the limits that a profile sets to its strategies. Profit and equity are in the one quote currency of all instruments.
- A strategy that trades by its signals alone is given all bars first: they are computed once, then it is played.
- What is held at the end stays open and is valued at the last close; orders that a strategy places in on_stop are not
  taken.

No clock, no input or output: the same bars and settings give the same run.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from random import Random

import msgspec

from koc_qt.domain.bars import resample
from koc_qt.domain.errors import BadTimeframe, InvalidOrder, RiskRefused, StrategyError
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar, Side
from koc_qt.domain.matching import FillModel, MatchingEngine
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
from koc_qt.domain.performance import TripBook
from koc_qt.domain.positions import Position
from koc_qt.domain.risk import RiskContext, RiskLimits, check
from koc_qt.domain.state import Balance
from koc_qt.domain.timeframes import duration_ns
from koc_qt.sdk.channel import Amend, Cancel, PositionState, ReplayBars, RequestHistory, StartReplay, Submit
from koc_qt.sdk.orders import to_decimal
from koc_qt.sdk.session import HISTORY_LIMIT, Session
from koc_qt.sdk.strategy import Strategy, overrides, subscriptions_of
from koc_qt.worker.ahead import BarsAhead

ACCOUNT = "backtest"  # of every order and fill, and the strategy's id
ORDERS_A_MOMENT = 1_000  # orders and cancels from one bar's close to the next: more is a strategy that answers itself
FILLS_KEPT = 10_000  # of a result, the first ones
_FREE = Decimal(10) ** 60
_NO_LIMITS = RiskLimits(
    max_order_notional=_FREE,
    max_position_notional=_FREE,
    max_open_orders=10**9,
    max_orders_per_minute=10**9,
    price_collar=_FREE,
    max_daily_loss=_FREE,
)

Message = Submit | Cancel | Amend | RequestHistory


class ReplayContext:
    """Implements sdk.context.Context: what the strategy asks waits in `outbox` until its callback has returned."""

    def __init__(self, time_ns: int, write: Callable[[int, str, str], None]) -> None:
        self.time_ns = time_ns
        self.outbox: deque[Message] = deque()
        self._write = write

    def submit(self, request_id: int, request: OrderRequest) -> None:
        """Place an order."""
        self.outbox.append(Submit(request_id, request))

    def cancel(self, client_order_id: str) -> None:
        """Cancel an order."""
        self.outbox.append(Cancel(client_order_id))

    def amend(self, client_order_id: str, quantity: Decimal, price: Decimal | None) -> None:
        """Change an order."""
        self.outbox.append(Amend(client_order_id, quantity, price))

    def request_history(self, request_id: int, instrument: InstrumentId, timeframe: str, count: int) -> None:
        """Ask for bars."""
        self.outbox.append(RequestHistory(request_id, instrument, timeframe, count))

    def log(self, level: str, text: str) -> None:
        """Write a line, with the time of the run."""
        self._write(self.time_ns, level, text)

    def metric(self, name: str, value: float) -> None:
        """Metrics are for people who watch a strategy live."""


class Replay:
    """One run, fed with `play`; money is in quote currency. Whatever the strategy raises comes out of the methods.

    `times_ns` and `equity` are the curve: the cash where the run begins, then what there was at each close.
    """

    def __init__(self, strategy: Strategy, start: StartReplay, write: Callable[[int, str, str], None]) -> None:
        _check(strategy, start)
        self.strategy = strategy
        self.times_ns, self.equity = array("q", [start.since_ns]), array("d", [float(start.cash)])
        self.fills: list[Fill] = []
        self.fill_count = 0
        self.traded = 0.0
        self._start = start
        self._context = ReplayContext(start.since_ns, write)
        venues = tuple(dict.fromkeys(rules.id.venue for rules in start.instruments))
        share = start.cash if len(venues) == 1 else (start.cash / len(venues)).quantize(Decimal("1e-8"))
        self._cash = dict.fromkeys(venues, share)
        self._cash[venues[0]] = start.cash - share * (len(venues) - 1)
        self._venues: dict[str, MatchingEngine] = {}
        self._session = Session(
            strategy,
            self._context,
            instruments=start.instruments,
            timeframe=start.timeframe or strategy.timeframe,
            cash={start.instruments[0].quote: self._cash[venues[0]]},
            seed=start.seed,
        )
        self._timeframe = strategy.timeframe
        self._bar_ns = duration_ns(strategy.timeframe)
        self._is_script = overrides(type(strategy), "run")
        self._ahead = None if self._session.signal_trader is None else BarsAhead()
        self._began = False
        self._stopped = False
        self._orders: dict[str, Order] = {}  # open
        self._requests: dict[str, int] = {}  # client order id of an open order -> the session's request id
        self._placed = 0  # since the last close
        self._placed_ever = 0
        self._positions = {rules.id: Position(ACCOUNT, ACCOUNT, rules) for rules in start.instruments}
        self._trips = TripBook()
        self._rows = {rules.id: row for row, rules in enumerate(start.instruments)}
        self._closes = [math.nan] * len(start.instruments)
        self._quantities = [0.0] * len(start.instruments)
        self._bases = [0.0] * len(start.instruments)  # profit of a holding, less its price times quantity
        self._base = float(start.cash)
        self._first_open: float | None = None

    @property
    def bars(self) -> int:
        """How many closes the curve has: bars of one instrument, moments of several."""
        return len(self.equity) - 1

    @property
    def position_ns(self) -> int:
        """The close that was reached."""
        return self.times_ns[-1]

    @property
    def time_ns(self) -> int:
        """The time that the strategy lives in."""
        return self._context.time_ns

    @property
    def prices(self) -> tuple[float, float] | None:
        """The first open and the last close of the first instrument; None without a bar of it."""
        return None if self._first_open is None else (self._first_open, self._closes[0])

    @property
    def marks(self) -> Mapping[InstrumentId, float]:
        """The last close of every instrument that had a bar."""
        return {key: self._closes[row] for key, row in self._rows.items() if not math.isnan(self._closes[row])}

    @property
    def trips(self) -> TripBook:
        """The trades that the fills make."""
        return self._trips

    # ---- what happens -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Call on_start, and run() up to its first wait. What it orders meets the first bar."""
        if unheard := [kind for kind in subscriptions_of(type(self.strategy)) if kind != "bars"]:
            self._context.log(
                "WARNING", f"a back-test has bars alone: the strategy hears no {' and no '.join(unheard)}"
            )
        self._session.start()

    def warm_up(self, bars: ReplayBars) -> None:
        """Take bars from before the run: the strategy sees those that it wants, orders meet none of them."""
        wanted = self.strategy.warmup_bars > 0
        if wanted and self._ahead is not None:
            self._ahead.add(bars)
        self._open_accounts(bars)
        for row, bar in _bars_of(bars, self._start.instruments, self._timeframe):
            self._venues[bar.instrument.venue].on_bar(bar)
            self._closes[row] = bar.close
            if wanted:
                self._session.on_bar(bar, warmup=True)
                self._answer_all()

    def play(self, bars: ReplayBars, each: Callable[[], None]) -> None:
        """Run on the next bars, with a call of `each` after every close; or keep them for `play_kept`, for signals."""
        if self._ahead is not None:
            self._ahead.add(bars)
            return
        if not self._began:
            self._began = True
            self._open_accounts(bars)
            self._answer_all()
        rows = _bars_of(bars, self._start.instruments, self._timeframe)
        if len(self._closes) == 1:
            self._play_one(rows, each)
        else:
            self._play_several(rows, each)

    def play_kept(self, each: Callable[[], None]) -> None:
        """Run on the bars that `play` has kept, now that these were all."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and self._session.signal_trader is not None:
            for columns in ahead.columns(self._start.instruments, self._timeframe):
                self._session.signal_trader.know(columns)
            for bars in ahead.messages():
                self.play(bars, each)

    def finish(self) -> None:
        """Call on_stop; what it orders is not taken."""
        self._session.stop()
        self._context.outbox.clear()

    def _play_one(self, rows: Iterable[tuple[int, Bar]], each: Callable[[], None]) -> None:
        """Run on one instrument: the hot path, nothing in it that is not needed for every bar."""
        venue, context, session = self._venues[self._start.instruments[0].id.venue], self._context, self._session
        bar_ns, outbox, closes, quantities = self._bar_ns, context.outbox, self._closes, self._quantities
        meet, tell, note_time, note_equity = venue.on_bar, session.on_bar, self.times_ns.append, self.equity.append
        if self._first_open is None:
            rows = self._with_first(rows)
        for _, bar in rows:
            events = meet(bar)
            context.time_ns = now_ns = bar.open_time_ns + bar_ns
            closes[0] = close = bar.close
            self._placed = 0
            if events:
                self._hear(events)
                self._answer_all()
            deadline_ns = session.next_deadline_ns
            if deadline_ns is not None and now_ns >= deadline_ns:
                session.on_time(now_ns)
                self._answer_all()
            tell(bar)
            if outbox:
                self._answer_all()
            if self._is_script and session.finished:
                self._retire()
            note_time(now_ns)
            note_equity(self._base + quantities[0] * close)
            each()

    def _play_several(self, rows: Iterable[tuple[int, Bar]], each: Callable[[], None]) -> None:
        moment: list[tuple[int, Bar]] = []
        for row, bar in rows:
            if moment and bar.open_time_ns != moment[0][1].open_time_ns:
                self._pass(moment)
                each()
                moment = []
            moment.append((row, bar))
        if moment:
            self._pass(moment)
            each()

    def _pass(self, moment: Sequence[tuple[int, Bar]]) -> None:
        """Let the bars of several instruments close together: first the orders meet them all, then they are told."""
        context, session = self._context, self._session
        events: list[OrderEvent] = []
        for row, bar in moment:
            events += self._venues[bar.instrument.venue].on_bar(bar)
            self._closes[row] = bar.close
            if row == 0 and self._first_open is None:
                self._first_open = bar.open
        context.time_ns = now_ns = moment[0][1].open_time_ns + self._bar_ns
        self._placed = 0
        self._hear(events)
        self._answer_all()
        deadline_ns = session.next_deadline_ns
        if deadline_ns is not None and now_ns >= deadline_ns:
            session.on_time(now_ns)
            self._answer_all()
        for _, bar in moment:
            session.on_bar(bar)
            self._answer_all()
        if session.finished:
            self._retire()
        self.times_ns.append(now_ns)
        held = (q * close for q, close in zip(self._quantities, self._closes, strict=True) if q)
        self.equity.append(self._base + math.fsum(held))

    def _with_first(self, rows: Iterable[tuple[int, Bar]]) -> Iterable[tuple[int, Bar]]:
        for row, bar in rows:
            if self._first_open is None:
                self._first_open = bar.open
            yield row, bar

    def _open_accounts(self, bars: ReplayBars) -> None:
        """Make the venues' accounts once there are bars, which tell whether a venue's series have volume."""
        if self._venues:
            return
        start = self._start
        instruments = start.instruments
        with_volume = {instruments[row].id.venue for row, volume in zip(bars.row, bars.volume, strict=True) if volume}
        for venue, cash in self._cash.items():
            model = FillModel(
                latency_ns=start.latency_ns,
                slippage_fraction=start.slippage + start.spread / 2,
                slippage_ticks=start.slippage_ticks,
                bar_volume_fraction=start.volume_fraction,
                maker_fee=start.fee,
                taker_fee=start.fee,
            )
            if venue not in with_volume:
                model = msgspec.structs.replace(model, bar_volume_fraction=None)
            self._venues[venue] = MatchingEngine(
                [rules for rules in instruments if rules.id.venue == venue],
                [Balance(instruments[0].quote, cash)],
                model,
                ACCOUNT,
                Random(start.seed),  # noqa: S311 (repeatable on purpose)
                allow_short=start.allow_short,
            )

    def _retire(self) -> None:
        """Once run() has returned nobody watches the orders: they are cancelled, as live."""
        if not self._stopped:
            self._stopped = True
            for client_order_id in tuple(self._orders):
                self._cancel(client_order_id)

    # ---- orders -----------------------------------------------------------------------------------------------------

    def _answer_all(self) -> None:
        """Do what the strategy has asked for, and what it asks for in answer to that."""
        outbox = self._context.outbox
        while outbox:
            message = outbox.popleft()
            self._placed += 1
            if self._placed > ORDERS_A_MOMENT:
                raise StrategyError(
                    f"the strategy asked for more than {ORDERS_A_MOMENT:,} orders, changes, cancels and histories "
                    "between two bars: does it place an order in answer to each refusal?"
                )
            match message:
                case Submit(request_id, request):
                    self._submit(request_id, request)
                case Cancel(client_order_id):
                    self._cancel(client_order_id)
                case Amend():
                    self._amend(message)
                case RequestHistory():
                    self._give_history(message)

    def _submit(self, request_id: int, request: OrderRequest) -> None:
        try:
            self._check(request)
        except (InvalidOrder, RiskRefused) as error:
            self._session.on_order_update(request_id, None, str(error))
            return
        now_ns = self._context.time_ns
        self._placed_ever += 1
        order = Order(f"bt{self._placed_ever}", ACCOUNT, ACCOUNT, request, now_ns, now_ns, OrderStatus.SUBMITTED)
        self._orders[order.client_order_id] = order
        self._requests[order.client_order_id] = request_id
        self._session.on_order_update(request_id, order)
        self._hear(self._venues[request.instrument.venue].submit(order, now_ns))

    def _check(self, request: OrderRequest, changed: Order | None = None) -> None:
        """Refuse what the live engine refuses, the limits of a profile aside. Raises InvalidOrder, RiskRefused."""
        row = self._rows[request.instrument]
        pending = {Side.BUY: Decimal(0), Side.SELL: Decimal(0)}
        for order in self._orders.values():
            if order.request.instrument == request.instrument and order is not changed:
                pending[order.request.side] += order.remaining
        close = self._closes[row]
        context = RiskContext(
            instrument=self._start.instruments[row],
            reference_price=None if math.isnan(close) else to_decimal(close),
            position_quantity=self._positions[request.instrument].quantity,
            open_buy_quantity=pending[Side.BUY],
            open_sell_quantity=pending[Side.SELL],
            open_orders=len(self._orders),
            orders_last_minute=0,
            daily_pnl=Decimal(0),
            filled_quantity=Decimal(0) if changed is None else changed.filled_quantity,
        )
        check(request, context, _NO_LIMITS)

    def _cancel(self, client_order_id: str) -> None:
        order = self._orders.get(client_order_id)
        if order is None or order.cancel_requested:
            return
        now_ns = self._context.time_ns
        self._hear((CancelRequested(client_order_id, now_ns),))
        self._hear(self._venues[order.request.instrument.venue].cancel(client_order_id, now_ns))

    def _amend(self, asked: Amend) -> None:
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
        self._hear((AmendRequested(key, now_ns, request.quantity, request.price),))
        self._hear(self._venues[request.instrument.venue].amend(key, request.quantity, request.price, now_ns))

    def _hear(self, events: Iterable[OrderEvent]) -> None:
        """Apply what the account says and tell the strategy, in the order in which the live engine does."""
        for event in events:
            key = event.client_order_id
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
                self._book(event.fill)
                self._session.on_order_update(request_id, order)
                self._session.on_fill(request_id, event.fill, self._holding(event.fill.instrument), self._money())
            else:
                self._session.on_order_update(request_id, order)

    def _book(self, fill: Fill) -> None:
        position, row = self._positions[fill.instrument], self._rows[fill.instrument]
        position.apply(fill)
        self._trips.add(fill)
        self.fill_count += 1
        self.traded += float(fill.price * fill.quantity)
        if len(self.fills) < FILLS_KEPT:
            self.fills.append(fill)
        self._quantities[row] = float(position.quantity)
        self._bases[row] = float(position.realised_pnl + position.unrealised_pnl(Decimal(0)) - position.fees)
        self._base = math.fsum((float(self._start.cash), *self._bases))

    def _holding(self, instrument: InstrumentId) -> PositionState:
        held = self._positions[instrument]
        return PositionState(instrument, held.quantity, held.average_price, held.realised_pnl, held.fees)

    def _money(self) -> dict[str, Decimal]:
        """Give the free money of the first instrument's account, as the live engine does."""
        balances = self._venues[self._start.instruments[0].id.venue].balances
        return {balance.currency: balance.total - balance.locked for balance in balances}

    def _give_history(self, asked: RequestHistory) -> None:
        seen = self._session.seen_bars(HISTORY_LIMIT, None, asked.instrument)
        try:
            bars = resample(seen, asked.timeframe, until_ns=self._context.time_ns)
        except BadTimeframe:
            has = f"a back-test on bars of {self._timeframe} has none of {asked.timeframe}, only of whole multiples"
            self._session.on_history(asked.request_id, (), has)
            return
        if bars and bars[0].open_time_ns < seen[0].open_time_ns:
            del bars[0]  # its beginning was before the first bar that was seen
        self._session.on_history(asked.request_id, bars[-asked.count :])


def _check(strategy: Strategy, start: StartReplay) -> None:
    """Refuse what a back-test on bars cannot do. Raises StrategyError."""
    wants = subscriptions_of(type(strategy))
    if "bars" not in wants:
        heard = " and ".join(wants) or "no market data"
        raise StrategyError(f"{type(strategy).__name__} listens to {heard}: a back-test has bars alone (on_bar)")
    quotes = dict.fromkeys(rules.quote for rules in start.instruments)
    if len(quotes) > 1:
        raise StrategyError(f"a back-test needs symbols of one quote currency, not of {' and '.join(quotes)}")


def _bars_of(bars: ReplayBars, instruments: tuple[Instrument, ...], timeframe: str) -> Iterable[tuple[int, Bar]]:
    ids = [rules.id for rules in instruments]
    columns = zip(bars.row, bars.open_time_ns, bars.open, bars.high, bars.low, bars.close, bars.volume, strict=True)
    for row, time_ns, opening, high, low, close, volume in columns:
        yield row, Bar(ids[row], timeframe, time_ns, opening, high, low, close, volume)
