"""The one door through which orders go out, and the one place where what venues say changes them.

An intent is durable in the journal before it is sent. What a venue says goes to the journal, then to the store, then to
the bus. An order whose answer never came is UNKNOWN: it is looked up by its client id, never sent again.
"""

from __future__ import annotations

import asyncio
import random
import string
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from loguru import logger

from koc_qt.domain.errors import (
    InvalidOrder,
    InvalidTransition,
    KocError,
    RiskRefused,
    StorageError,
    VenueError,
    VenueRejected,
    VenueTimeout,
    VenueUnavailable,
)
from koc_qt.domain.market import Side
from koc_qt.domain.order_state import apply, events_from_report
from koc_qt.domain.orders import (
    CancelRejected,
    CancelRequested,
    Order,
    OrderCanceled,
    OrderEvent,
    OrderFilled,
    OrderRejected,
    OrderReport,
    OrderRequest,
    OrderSubmitted,
    OrderUnknown,
)
from koc_qt.domain.risk import RiskContext, RiskLimits, check
from koc_qt.engine.bus import Bus
from koc_qt.engine.kill_switch import KillSwitch
from koc_qt.engine.latency import LatencyBook
from koc_qt.engine.ledger import Ledger
from koc_qt.engine.store import Store
from koc_qt.link.messages import FillRecorded, OrderChanged, PositionChanged
from koc_qt.ports.clock import Clock
from koc_qt.ports.journal import Journal, OrderRecord
from koc_qt.ports.venue import TradingVenue

SUBMIT_TIMEOUT_S = 10.0
EVENTS_LIMIT = 50_000  # venue events waiting for the journal; above it no new orders; events are kept
LOOKUP_DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # the last one repeats
LOOKUPS_BEFORE_ABSENT = 3  # a venue may need a moment to know an order that it took
RETRY_JOURNAL_S = 1.0


class OrderService:
    """Sole owner of orders."""

    def __init__(
        self,
        store: Store,
        bus: Bus,
        journal: Journal,
        clock: Clock,
        ledger: Ledger,
        venues: Mapping[str, TradingVenue],
        kill_switch: KillSwitch,
        limits: RiskLimits,
        latencies: LatencyBook,
        rng: random.Random,
        lookup_delays_s: Sequence[float] = LOOKUP_DELAYS_S,
    ) -> None:
        self._store = store
        self._bus = bus
        self._journal = journal
        self._clock = clock
        self._ledger = ledger
        self._venues = venues
        self._kill_switch = kill_switch
        self._limits = limits
        self._latencies = latencies
        self._lookup_delays_s = tuple(lookup_delays_s)
        self._session = "".join(rng.choices(string.ascii_lowercase + string.digits, k=6))
        self._count = 0
        self._working: dict[str, Order] = {}  # newest state of open orders, durable or not
        self._unsent: dict[str, Order] = {}  # passed the risk gate, intent not durable yet
        self._unwritten: deque[OrderRecord] = deque()  # happened, but not durable yet: nobody has been told
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._recent: dict[str, deque[int]] = {}
        self._lookups: dict[str, asyncio.Task[None]] = {}
        self._pump_task: asyncio.Task[None] | None = None
        self.journal_ok = True

    def start(self) -> None:
        """Begin to process what venues say."""
        self._pump_task = asyncio.create_task(self._pump(), name="orders-pump")

    async def close(self) -> None:
        """Stop looking orders up, and end once everything heard so far is in the journal or it cannot be written."""
        for task in list(self._lookups.values()):
            task.cancel()
        await asyncio.gather(*self._lookups.values(), return_exceptions=True)
        if self._pump_task is None:
            return
        if self.journal_ok:
            await self._idle.wait()
        self._pump_task.cancel()
        await asyncio.gather(self._pump_task, return_exceptions=True)
        self._pump_task = None

    async def settle(self) -> None:
        """Wait until everything heard so far is durable and published."""
        await self._idle.wait()

    # ---- going out ------------------------------------------------------------------------------------------------

    async def submit(
        self,
        request: OrderRequest,
        strategy_id: str,
        account_id: str,
        on_named: Callable[[str], None] | None = None,
    ) -> Order:
        """Check, journal and send an order; returns it as it stood when the venue had answered or could not be heard.

        `on_named` is given the client order id before anything is published about it. Raises InvalidOrder, RiskRefused
        or StorageError when it was refused here: then nothing was sent, and there is no order. What the venue says of
        it, rejection included, arrives as OrderChanged on the bus.
        """
        began_ns = self._clock.monotonic_ns()
        venue = self._venues.get(account_id)
        if venue is None:
            connected = ", ".join(sorted(self._venues)) or "none"
            raise InvalidOrder(f"account {account_id!r} is not connected; connected are: {connected}")
        if venue.venue != request.instrument.venue:
            raise InvalidOrder(f"account {account_id!r} trades on {venue.venue}, not {request.instrument}")
        self._check_risk(request, strategy_id, account_id)
        order = self._new_order(request, strategy_id, account_id)
        if on_named is not None:
            on_named(order.client_order_id)
        submitted = OrderSubmitted(order.client_order_id, order.created_ns)
        sent = apply(order, submitted)
        self._unsent[order.client_order_id] = sent
        try:
            await self._write([OrderRecord(order), OrderRecord(sent, submitted)])
        finally:
            del self._unsent[order.client_order_id]
        self._working[order.client_order_id] = sent
        self._show(sent)
        self._latencies.began(order.client_order_id, strategy_id, began_ns)
        if self._kill_switch.engaged:  # latched while the intent was being written
            self.receive(OrderRejected(order.client_order_id, self._time_ns(account_id), self._kill_switch.refusal))
        else:
            await self._send(venue, sent)
        return self._working.get(order.client_order_id, sent)

    async def _send(self, venue: TradingVenue, order: Order) -> None:
        key, refused = order.client_order_id, None
        try:
            async with asyncio.timeout(SUBMIT_TIMEOUT_S):
                await venue.submit(order)
        except (VenueRejected, VenueUnavailable) as error:
            refused = str(error)
        except asyncio.CancelledError:
            self._lose(order, "the engine was stopping while the venue had not answered")
            raise
        except (TimeoutError, VenueTimeout) as error:
            self._lose(order, str(error) or f"no answer within {SUBMIT_TIMEOUT_S:g} s")
        except Exception as error:
            logger.exception("sending order {} failed in a way nobody foresaw; it will be looked up", key)
            self._lose(order, f"{type(error).__name__} while sending")
        if refused is not None:
            self.receive(OrderRejected(key, venue.time_ns(), refused))

    async def cancel(self, client_order_id: str) -> None:
        """Ask the venue to cancel an order; no matter when it ended already. Raises InvalidOrder, StorageError."""
        order = self._working.get(client_order_id) or self._store.order(client_order_id)
        if order is None:
            raise InvalidOrder(f"there is no order {client_order_id!r}")
        if not order.is_open or order.cancel_requested:
            return
        self.receive(CancelRequested(client_order_id, self._time_ns(order.account_id)))
        await self._send_cancel(order)

    async def _send_cancel(self, order: Order) -> None:
        client_order_id = order.client_order_id
        try:
            venue = self._venues.get(order.account_id)
            if venue is None:
                raise VenueUnavailable(f"account {order.account_id!r} is not connected")
            async with asyncio.timeout(SUBMIT_TIMEOUT_S):
                await venue.cancel(order)
        except (VenueError, TimeoutError) as error:
            reason = str(error) or f"no answer within {SUBMIT_TIMEOUT_S:g} s"
            self.receive(CancelRejected(client_order_id, self._time_ns(order.account_id), reason))

    async def cancel_all(self, strategy_id: str | None = None) -> int:
        """Cancel every open order of one strategy or all; gives how many were asked for. Failures are logged."""
        orders = self._store.open_orders(strategy_id)
        outcomes = await asyncio.gather(
            *(self.cancel(order.client_order_id) for order in orders), return_exceptions=True
        )
        for order, outcome in zip(orders, outcomes, strict=True):
            if isinstance(outcome, KocError):
                logger.error("order {} could not be cancelled: {}", order.client_order_id, outcome)
            elif isinstance(outcome, BaseException):
                raise outcome
        return len(orders)

    def _check_risk(self, request: OrderRequest, strategy_id: str, account_id: str) -> None:
        instrument = self._store.instrument(request.instrument)
        if instrument is None:
            raise InvalidOrder(f"{request.instrument} is not known: its venue is not connected, or has no such symbol")
        if len(self._unwritten) >= EVENTS_LIMIT:
            raise RiskRefused(f"{EVENTS_LIMIT} venue events wait for the journal: no new orders until they are written")
        open_orders = [*self._store.open_orders(strategy_id)]
        open_orders += [order for order in self._unsent.values() if order.strategy_id == strategy_id]
        pending = {Side.BUY: Decimal(0), Side.SELL: Decimal(0)}
        for order in open_orders:
            if order.request.instrument == request.instrument:
                pending[order.request.side] += order.remaining
        context = RiskContext(
            instrument=instrument,
            reference_price=self._store.mark(request.instrument),
            position_quantity=self._ledger.position(strategy_id, account_id, request.instrument).quantity,
            open_buy_quantity=pending[Side.BUY],
            open_sell_quantity=pending[Side.SELL],
            open_orders=len(open_orders),
            orders_last_minute=self._orders_last_minute(strategy_id),
            daily_pnl=self._ledger.daily_pnl(strategy_id),
            kill_switch=self._kill_switch.engaged,
            kill_reason=self._kill_switch.reason,
        )
        check(request, context, self._limits)
        self._recent[strategy_id].append(self._clock.monotonic_ns())

    def _orders_last_minute(self, strategy_id: str) -> int:
        recent = self._recent.setdefault(strategy_id, deque())
        since_ns = self._clock.monotonic_ns() - 60_000_000_000
        while recent and recent[0] < since_ns:
            recent.popleft()
        return len(recent)

    def _new_order(self, request: OrderRequest, strategy_id: str, account_id: str) -> Order:
        now_ns = self._time_ns(account_id)
        self._count += 1
        # the time keeps ids apart across restarts, the session's letters across engines on one account;
        # Binance takes 36 characters at most
        client_order_id = f"koc{self._clock.time_ns() // 1_000_000:x}{self._session}{self._count:x}"
        return Order(client_order_id, strategy_id, account_id, request, created_ns=now_ns, updated_ns=now_ns)

    # ---- coming back ----------------------------------------------------------------------------------------------

    def receive(self, event: OrderEvent) -> None:
        """Take what a venue says; the sink of every trading venue. Never blocks, never raises."""
        self._latencies.answered(event)
        key = event.client_order_id
        before = self._working.get(key) or self._store.order(key)
        if before is None:
            logger.error("a venue spoke of an order that is not ours: {}", event)
            return
        try:
            after = apply(before, event)
        except InvalidTransition as error:
            logger.error("order {}: {}", key, error)
            return
        if after is not before:
            self._working[key] = after
            self._unwritten.append(OrderRecord(after, event))
            self._idle.clear()
            self._wake.set()

    async def _pump(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._unwritten:
                records = list(self._unwritten)
                await self._write_until_written(records)
                for record in records:
                    self._unwritten.popleft()
                    self._publish(record)
            self._idle.set()

    async def _write_until_written(self, records: list[OrderRecord]) -> None:
        while True:
            try:
                await self._write(records)
            except StorageError as error:
                logger.error("{} order events wait for the journal: {}", len(records), error)
                await asyncio.sleep(RETRY_JOURNAL_S)
            else:
                return

    async def _write(self, records: Sequence[OrderRecord]) -> None:
        try:
            await self._journal.append(records)
        except StorageError:
            self.journal_ok = False
            raise
        self.journal_ok = True

    def _publish(self, record: OrderRecord) -> None:
        order, event = record.order, record.event
        if isinstance(event, OrderFilled) and self._ledger.record(event.fill):
            position = self._ledger.position(order.strategy_id, order.account_id, order.request.instrument)
            self._show(order)
            self._bus.publish(FillRecorded(event.fill))
            self._bus.publish(PositionChanged(self._ledger.snapshot(position)))
        else:
            self._show(order)
        if not order.is_open and self._working.get(order.client_order_id) is order:
            del self._working[order.client_order_id]
        if isinstance(event, OrderUnknown):
            self._look_up(order)

    def _show(self, order: Order) -> None:
        self._store.put_order(order)
        self._bus.publish(OrderChanged(order))

    # ---- orders whose fate is not known ------------------------------------------------------------------------------

    def restore(self, orders: Sequence[Order]) -> None:
        """Remember the journal's orders; `reconcile` then asks the venues about the open ones."""
        for order in orders:
            self._store.put_order(order)
            if order.is_open:
                self._working[order.client_order_id] = order

    async def reconcile(self, account_id: str) -> None:
        """Ask an account's venue about every order that is open as far as we know."""
        for order in self._store.open_orders():
            if order.account_id == account_id:
                self._look_up(order)
        lookups = [
            self._lookups[o.client_order_id] for o in self._store.open_orders() if o.client_order_id in self._lookups
        ]
        if lookups:
            await asyncio.wait(lookups, timeout=SUBMIT_TIMEOUT_S)

    def _lose(self, order: Order, reason: str) -> None:
        self.receive(OrderUnknown(order.client_order_id, self._time_ns(order.account_id), reason))

    def _time_ns(self, account_id: str) -> int:
        """Give the time by the clock that stamps the account's orders, its venue's; ours while it is not connected."""
        venue = self._venues.get(account_id)
        return self._clock.time_ns() if venue is None else venue.time_ns()

    def _look_up(self, order: Order) -> None:
        key = order.client_order_id
        if key not in self._lookups and order.account_id in self._venues:
            task = asyncio.create_task(self._look_up_until_known(key, order.account_id), name=f"lookup-{key}")
            self._lookups[key] = task
            task.add_done_callback(lambda _: self._lookups.pop(key, None))

    async def _look_up_until_known(self, key: str, account_id: str) -> None:
        absent = tries = 0
        while True:
            order = self._working.get(key)
            if order is None or not order.is_open:
                return
            try:
                async with asyncio.timeout(SUBMIT_TIMEOUT_S):
                    report = await self._venues[account_id].find_order(order)
            except (VenueError, TimeoutError) as error:
                logger.warning("order {} could not be looked up: {}", key, str(error) or "no answer")
            else:
                if report is not None:
                    self._take_report(self._working.get(key, order), report)
                    now = self._working.get(key)
                    if now is None or not now.is_open:
                        return
                    if not report.status.is_terminal:
                        if now.cancel_requested:  # that request may have been lost as well: nobody else asks again
                            await self._send_cancel(now)
                        return
                    # it ended there, but not all of its fills have been told yet
                elif (absent := absent + 1) >= LOOKUPS_BEFORE_ABSENT:
                    self.receive(self._absence(order))
                    return
            await asyncio.sleep(self._lookup_delays_s[min(tries, len(self._lookup_delays_s) - 1)])
            tries += 1

    def _take_report(self, order: Order, report: OrderReport) -> None:
        try:
            events = events_from_report(order, report, self._time_ns(order.account_id))
        except InvalidTransition as error:
            logger.error("order {}: what its venue reports cannot be: {}", order.client_order_id, error)
            return
        for event in events:
            self.receive(event)

    def _absence(self, order: Order) -> OrderEvent:
        now_ns = self._time_ns(order.account_id)
        if order.venue_order_id:
            return OrderCanceled(order.client_order_id, now_ns, "the venue no longer knows this order")
        return OrderRejected(order.client_order_id, now_ns, "the venue never received this order")
