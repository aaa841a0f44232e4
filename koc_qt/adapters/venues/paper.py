"""Paper trading: an account whose orders meet a real (or simulated) market that knows nothing of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

from koc_qt.domain.errors import ConfigError, VenueUnavailable
from koc_qt.domain.market import Book, MarketEvent, Quote, StreamState, StreamStatus, Trade
from koc_qt.domain.matching import MatchingEngine
from koc_qt.domain.orders import Fill, Liquidity, Order, OrderEvent, OrderReport
from koc_qt.domain.state import Balance
from koc_qt.domain.venues import ConnectionReport, Quota, VenueOrder, VenuePosition, VenueTrade
from koc_qt.ports.venue import OrderSink, StateSink, depart


class PaperVenue:
    """A TradingVenue over a matching engine; feed it the market's facts with `on_market`.

    `clock` gives the market's time in UTC nanoseconds: the market data venue's own clock, so that latency is measured
    in the market's time; `speed` is how many of its seconds pass in one of the event loop's. All calls come from the
    loop's thread.

    Events reach the sink one after the other, never from inside `submit` or `cancel`: what those cause at once is
    handed over in the loop's next round, or with the market's next fact. When a stream is interrupted its market is
    forgotten: orders on it are rejected, and nothing trades on stale prices, until data comes again.

    The newest 10,000 orders that ended can be looked up, besides all open ones. The journal is the venue's only durable
    memory: `restore` from it before connecting. An order that was on its way when the process ended never arrived.

    Raises ConfigError when `speed` is not above zero.
    """

    def __init__(self, venue: str, engine: MatchingEngine, clock: Callable[[], int], *, speed: float = 1.0) -> None:
        if not speed > 0:
            raise ConfigError(f"the speed of a market must be above zero, not {speed}")
        self.venue = venue
        self._engine = engine
        self._clock = clock
        self._speed = speed
        self._sink: OrderSink | None = None
        self._outbox: deque[OrderEvent] = deque()
        self._delivering = False
        self._delivery: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def account_id(self) -> str:
        """The account it trades for."""
        return self._engine.account_id

    @property
    def late_s(self) -> float:
        """Nothing is on its way here."""
        return 0.0

    @property
    def holds_at_door(self) -> bool:
        """There is nothing to make ready before an order goes."""
        return False

    @property
    def held_s(self) -> float:
        """No limits here."""
        return 0.0

    @property
    def quotas(self) -> Sequence[Quota]:
        """No limits here."""
        return ()

    def time_ns(self) -> int:
        """The market's time."""
        return self._clock()

    def restore(self, orders: Iterable[Order], fills: Iterable[Fill]) -> None:
        """Rebuild open orders and balances from the journal: once, before `connect`.

        Give all orders and fills; those of other accounts are ignored. What becomes of orders that cannot go on (see
        MatchingEngine.restore) is told on connect.
        """
        self._outbox.extend(self._engine.restore(orders, fills))

    async def connect(self, sink: OrderSink, on_state: StateSink | None = None) -> None:
        """Make ready to be used; events that wait, of a restored journal for instance, are handed over at once.

        There is no connection to lose: `on_state` is never called.
        """
        self._sink = sink
        self._engine.forget_market()
        self._deliver()
        self._arm()

    async def close(self) -> None:
        """Hand over what has happened and stop; orders stay as they are. Safe to call twice."""
        self._deliver()
        for handle in (self._delivery, self._timer):
            if handle is not None:
                handle.cancel()
        self._delivery = self._timer = None
        self._sink = None

    async def submit(self, order: Order) -> None:
        """Send an order; it takes effect after the fill model's latency. Raises VenueUnavailable when not connected."""
        self._require_connection()
        await depart()
        self._post(self._engine.submit(order, self._clock()))

    async def cancel(self, order: Order) -> None:
        """Ask for a cancel; it takes effect after the latency as well. Raises VenueUnavailable when not connected."""
        self._require_connection()
        self._post(self._engine.cancel(order.client_order_id, self._clock()))

    async def amend(self, order: Order, quantity: Decimal, price: Decimal | None) -> None:
        """Ask for another total quantity and limit; it takes effect after the latency as well.

        Raises VenueUnavailable when not connected.
        """
        self._require_connection()
        self._post(self._engine.amend(order.client_order_id, quantity, price, self._clock()))

    async def find_order(self, order: Order) -> OrderReport | None:
        """Look an order up in memory; SUBMITTED while it is on its way, None when it was never seen."""
        return self._engine.report(order.client_order_id)

    async def balances(self) -> Sequence[Balance]:
        """What is in the account, by currency."""
        return self._engine.balances

    async def positions(self) -> Sequence[VenuePosition]:
        """Nothing: a paper account has balances alone."""
        return ()

    async def open_orders(self) -> Sequence[VenueOrder]:
        """Give the orders that work; those on their way are not among them yet."""
        return self._engine.listings

    async def trades(self, since_ns: int) -> Sequence[VenueTrade]:
        """Give the executions of all orders that can be looked up, oldest first."""
        return self._engine.trades(since_ns)

    async def check(self) -> ConnectionReport:
        """Say what the account may do and has; nothing can be wrong with it."""
        return ConnectionReport(
            can_read=True,
            can_trade=True,
            maker_fee=self._engine.common_fee(Liquidity.MAKER),
            taker_fee=self._engine.common_fee(Liquidity.TAKER),
            balances=self._engine.balances,
        )

    def on_market(self, event: MarketEvent) -> None:
        """Let the market's fact meet the account's orders; ignored while not connected."""
        if self._sink is None:
            return
        engine = self._engine
        if engine.next_due_ns is not None:
            self._outbox.extend(engine.advance(self._clock()))
        match event:
            case Quote():
                self._outbox.extend(engine.on_quote(event))
            case Trade():
                self._outbox.extend(engine.on_trade(event))
            case Book():
                self._outbox.extend(engine.on_book(event))
            case StreamStatus(state=StreamState.INTERRUPTED | StreamState.ENDED):
                engine.forget_market(event.instrument)
        if self._outbox:
            self._deliver()

    # ---- delivery and time ----------------------------------------------------------------------------------------

    def _require_connection(self) -> None:
        if self._sink is None:
            raise VenueUnavailable(f"the paper account {self.account_id} is not connected: nothing was sent")

    def _post(self, events: Sequence[OrderEvent]) -> None:
        """Hand events over once the caller has its answer, and see that what is on its way arrives."""
        self._outbox.extend(events)
        if self._outbox and self._delivery is None:
            self._delivery = asyncio.get_running_loop().call_soon(self._deliver)
        self._arm()

    def _deliver(self) -> None:
        """Give the sink everything that waits, in order; a call from inside the sink leaves that to the outer one."""
        if self._delivery is not None:
            self._delivery.cancel()
            self._delivery = None
        sink = self._sink
        if self._delivering or sink is None:
            return
        self._delivering = True
        try:
            while self._outbox:
                sink(self._outbox.popleft())
        finally:
            self._delivering = False

    def _arm(self) -> None:
        """Set the timer to when the next order or cancel takes effect, so that a quiet market answers as well."""
        due_ns = self._engine.next_due_ns
        if due_ns is None or self._timer is not None:
            return
        model = self._engine.model
        # a clock that is set back must not hold an order up for longer than its latency
        wait_ns = min(max(due_ns - self._clock(), 0), model.latency_ns + model.latency_jitter_ns)
        self._timer = asyncio.get_running_loop().call_later(wait_ns / self._speed / 1e9, self._on_due, due_ns)

    def _on_due(self, due_ns: int) -> None:
        self._timer = None
        self._outbox.extend(self._engine.advance(max(self._clock(), due_ns)))
        self._deliver()
        self._arm()
