"""The one door through which orders go out, and the one place where what venues say changes them.

An intent is durable in the journal before anything of the order is sent. What a venue says goes to the journal, then to
the store, then to the bus. An order whose answer never came is UNKNOWN: it is looked up by its client id, never sent
again.
"""

from __future__ import annotations

import asyncio
import random
import string
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial

from loguru import logger
from msgspec import structs

from koc_qt.domain.errors import (
    InvalidOrder,
    InvalidTransition,
    KocError,
    RiskRefused,
    StorageError,
    VenueError,
    VenueUnavailable,
)
from koc_qt.domain.latency import Stage
from koc_qt.domain.order_state import apply
from koc_qt.domain.orders import (
    AmendRejected,
    AmendRequested,
    CancelRejected,
    CancelRequested,
    Order,
    OrderCanceled,
    OrderEvent,
    OrderFilled,
    OrderRequest,
    OrderStatus,
    OrderSubmitted,
    OrderUnknown,
)
from koc_qt.domain.risk import RiskLimits
from koc_qt.engine.bus import Bus
from koc_qt.engine.kill_switch import KillSwitch
from koc_qt.engine.latency import LatencyBook
from koc_qt.engine.ledger import Ledger
from koc_qt.engine.order_intents import Intent, Intents
from koc_qt.engine.order_lookups import LOOKUP_DELAYS_S, OrderLookups
from koc_qt.engine.order_requests import SUBMIT_TIMEOUT_S, OrderRequests
from koc_qt.engine.owed_cancels import OwedCancels
from koc_qt.engine.risk_gate import RiskGate
from koc_qt.engine.store import Store
from koc_qt.link.messages import FillRecorded, OrderChanged, PositionChanged
from koc_qt.ports.clock import Clock
from koc_qt.ports.journal import Journal, OrderRecord
from koc_qt.ports.venue import TradingVenue

EVENTS_LIMIT = 50_000  # venue events waiting for the journal; above it no new orders; events are kept
RETRY_JOURNAL_S = 1.0
TELL_AFTER_S = 0.002
CANCELED_EARLY = "it was cancelled before it was sent"


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
        self._latencies = latencies
        self._session = "".join(rng.choices(string.ascii_lowercase + string.digits, k=6))
        self._count = 0
        self._working: dict[str, Order] = {}  # newest state of open orders, durable or not
        self._unsent = Intents(self._journal_is)  # passed the risk gate, intent not durable yet
        # durable, and being sent: the bus hears of it a moment later
        self._untold: dict[str, tuple[Order, asyncio.TimerHandle]] = {}
        self._unwritten: deque[OrderRecord] = deque()  # happened, but not durable yet: nobody has been told
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._gate = RiskGate(store, ledger, kill_switch, limits, clock)
        self._requests = OrderRequests(self.receive)
        self._overtaken: set[str] = set()  # cancelled while a change was being sent: asked again after it
        self._amends: dict[str, asyncio.Event] = {}  # changes whose intent is not durable yet
        self._held: dict[str, str] = {}  # accounts that take no orders, and why
        self._lookups = OrderLookups(
            store, bus, venues, self._newest, self._is_sending, self.receive, self._send_cancel, lookup_delays_s
        )
        self._owed = OwedCancels(self.cancel)
        self._pump_task: asyncio.Task[None] | None = None
        self.journal_ok = True

    def start(self) -> None:
        """Begin to process what venues say."""
        self._pump_task = asyncio.create_task(self._pump(), name="orders-pump")

    async def close(self) -> None:
        """Stop looking orders up, and end once everything heard so far is in the journal or it cannot be written."""
        await self._unsent.close()
        await self._lookups.close()
        await self._owed.close()
        for key in list(self._untold):
            self._tell(key)
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

    # ---- accounts that are being closed ---------------------------------------------------------------------------

    def hold(self, account_id: str, reason: str) -> None:
        """Refuse new orders of an account, and changes of its orders, until `release`; cancels go on."""
        self._held[account_id] = reason

    def release(self, account_id: str) -> None:
        """Take orders of an account again."""
        self._held.pop(account_id, None)

    def pending(self, account_id: str) -> list[Order]:
        """Orders of an account that have not ended, those included whose intent is still being written."""
        known = [*self._unsent.orders(), *self._working.values(), *self._store.open_orders()]
        newest = {order.client_order_id: self._newest(order.client_order_id) or order for order in known}
        return [order for order in newest.values() if order.account_id == account_id and order.is_open]

    async def let_go(self, account_id: str) -> None:
        """Ask no more about an account's orders: its venue is being closed. `reconcile` asks the next one."""
        await self._lookups.drop([order for order in self._store.open_orders() if order.account_id == account_id])

    # ---- going out ------------------------------------------------------------------------------------------------

    async def submit(
        self,
        request: OrderRequest,
        strategy_id: str,
        account_id: str,
        on_named: Callable[[str], None] | None = None,
        signal_ns: int | None = None,
    ) -> Order:
        """Check, journal and send an order; returns it as it stood when the venue had answered or could not be heard.

        `on_named` is given the client order id before anything is published about it; `signal_ns` is when the order was
        decided on (monotonic). Raises InvalidOrder, RiskRefused or StorageError when it was refused here: then nothing
        was sent, and there is no order. What the venue says, rejection included, is on the bus as OrderChanged.
        """
        began_ns = self._clock.monotonic_ns()
        venue = self._venues.get(account_id)
        if venue is None:
            connected = ", ".join(sorted(self._venues)) or "none"
            raise InvalidOrder(f"account {account_id!r} is not connected; connected are: {connected}")
        if account_id in self._held:
            raise InvalidOrder(self._held[account_id])
        if venue.venue != request.instrument.venue:
            raise InvalidOrder(f"account {account_id!r} trades on {venue.venue}, not {request.instrument}")
        self._check_risk(request, strategy_id, account_id)
        order = self._new_order(request, strategy_id, account_id)
        checked_ns = self._clock.monotonic_ns()
        if on_named is not None:
            on_named(order.client_order_id)
        submitted = OrderSubmitted(order.client_order_id, order.created_ns)
        sent = apply(order, submitted)
        intent = Intent(
            sent,
            self._journal.write([OrderRecord(order), OrderRecord(sent, submitted)]),
            partial(self._forbids, account_id),
            partial(self._latencies.reached, sent.client_order_id, Stage.SENT),
        )
        self._unsent.put(intent, partial(self._intended, began_ns, checked_ns, signal_ns))
        await self._requests.submit(venue, intent)
        return self._working.get(order.client_order_id, sent)

    def _forbids(self, account_id: str) -> str:
        """Say why nothing may be sent any more, though it could when the order passed the risk gate."""
        return self._kill_switch.refusal if self._kill_switch.engaged else self._held.get(account_id, "")

    def _intended(self, began_ns: int, checked_ns: int, signal_ns: int | None, intent: Intent) -> None:
        """Know an order whose intent is durable, and what has been said of it already."""
        order = intent.order
        self._working[order.client_order_id] = order
        self._latencies.began(order, began_ns, checked_ns, signal_ns)
        self._show_soon(order)
        for event in intent.early:
            self.receive(event)

    async def amend(self, client_order_id: str, quantity: Decimal | None = None, price: Decimal | None = None) -> Order:
        """Give a working order another total quantity or limit, None for the one that it has.

        Returns it as it stood when the venue had answered or could not be heard. Raises InvalidOrder, RiskRefused or
        StorageError when it was refused here: then nothing was sent. What the venue says of it, refusal included,
        arrives as OrderChanged on the bus.
        """
        order = self._changeable(client_order_id)
        asked = {"quantity": quantity, "price": price}
        request = structs.replace(order.request, **{name: value for name, value in asked.items() if value is not None})
        if request == order.request:
            return order
        if request.quantity <= order.filled_quantity:
            raise InvalidOrder(
                f"{order.filled_quantity:f} of order {client_order_id} is filled already: cancel the rest"
            )
        self._check_risk(request, order.strategy_id, order.account_id, order)
        await self._intend_change(order, request)
        now = self._newest(client_order_id) or order
        if now.amending != request:
            return now  # it ended while the intent was being written
        if refusal := self._forbids(order.account_id):
            self._refuse_change(order, refusal)
        elif now.cancel_requested:
            self._refuse_change(order, "it is being cancelled")
        else:
            await self._send_change(now, request)
        return self._newest(client_order_id) or order

    async def _send_change(self, order: Order, request: OrderRequest) -> None:
        key = order.client_order_id
        sent = self._venues[order.account_id].amend(order, request.quantity, request.price)
        try:
            refused = await self._requests.ask(key, sent, lambda reason: self._look_for_change(order, reason))
        finally:
            is_overtaken = key in self._overtaken
            self._overtaken.discard(key)
        if refused:
            self._refuse_change(order, refused)
        now = self._newest(key)
        if is_overtaken and now is not None and now.is_open:  # the cancel may have been refused because of the change
            self.receive(CancelRequested(key, self._time_ns(now.account_id)))
            await self._send_cancel(now)

    def _changeable(self, client_order_id: str) -> Order:
        """Give an order that the venue works on and nobody changes or cancels yet. Raises InvalidOrder."""
        order = self._newest(client_order_id)
        if order is None:
            raise InvalidOrder(f"there is no order {client_order_id!r}")
        if not order.is_open:
            raise InvalidOrder(f"order {client_order_id} is {order.status} already and cannot be changed")
        if order.status in (OrderStatus.NEW, OrderStatus.SUBMITTED, OrderStatus.UNKNOWN):
            raise InvalidOrder(f"the venue has not answered to order {client_order_id} yet: change it once it works")
        if order.cancel_requested or order.amending is not None:
            what = "cancel" if order.cancel_requested else "change"
            raise InvalidOrder(f"a {what} of order {client_order_id} is on its way: wait for the venue's answer")
        if order.account_id in self._held:
            raise InvalidOrder(self._held[order.account_id])
        if order.account_id not in self._venues:
            raise InvalidOrder(f"account {order.account_id!r} is not connected: order {client_order_id} stays as it is")
        return order

    async def _intend_change(self, order: Order, request: OrderRequest) -> None:
        """Return once the intent is durable. Raises StorageError when it cannot be."""
        key = order.client_order_id
        written = self._amends[key] = asyncio.Event()
        self.receive(AmendRequested(key, self._time_ns(order.account_id), request.quantity, request.price))
        try:
            async with asyncio.timeout(SUBMIT_TIMEOUT_S):
                await written.wait()
        except BaseException as error:
            self._refuse_change(order, "the journal did not take the change: nothing was sent")
            if isinstance(error, TimeoutError):
                raise StorageError(f"the journal does not take the change of order {key}: nothing was sent") from None
            raise
        finally:
            del self._amends[key]

    def _refuse_change(self, order: Order, reason: str) -> None:
        self.receive(AmendRejected(order.client_order_id, self._time_ns(order.account_id), reason))

    def _look_for_change(self, order: Order, reason: str) -> str:
        logger.warning("whether order {} was changed is not known ({}): it is looked up", order.client_order_id, reason)
        self._lookups.look_up(order)
        return ""

    async def cancel(self, client_order_id: str) -> None:
        """Ask the venue to cancel an order; no matter when it ended already. Raises InvalidOrder, StorageError."""
        unsent = self._unsent.get(client_order_id)
        if unsent is not None and unsent.withdraw(CANCELED_EARLY):
            self.receive(OrderCanceled(client_order_id, self._time_ns(unsent.order.account_id), CANCELED_EARLY))
            return
        order = self._newest(client_order_id)
        if order is None:
            raise InvalidOrder(f"there is no order {client_order_id!r}")
        if not order.is_open or order.cancel_requested:
            return
        if order.amending is not None and client_order_id in self._requests:
            self._overtaken.add(client_order_id)
        self.receive(CancelRequested(client_order_id, self._time_ns(order.account_id)))
        await self._send_cancel(order)

    async def _send_cancel(self, order: Order) -> None:
        key, venue = order.client_order_id, self._venues.get(order.account_id)
        try:
            if venue is None:
                raise VenueUnavailable(f"account {order.account_id!r} is not connected")
            async with asyncio.timeout(SUBMIT_TIMEOUT_S):
                await venue.cancel(order)
        except Exception as error:
            reason = str(error) or f"no answer within {SUBMIT_TIMEOUT_S:g} s"
            if not isinstance(error, VenueError | TimeoutError):
                logger.exception("the cancel of order {} failed in a way nobody foresaw", key)
                reason = f"{type(error).__name__} while cancelling"
            self.receive(CancelRejected(key, self._time_ns(order.account_id), reason))

    async def cancel_all(self, strategy_id: str | None = None) -> int:
        """Cancel all open orders, or a strategy's; those that fail are logged, and asked for again. Gives how many."""
        orders = self._store.open_orders(strategy_id)
        self._owed.promise(orders)
        outcomes = await asyncio.gather(
            *(self.cancel(order.client_order_id) for order in orders), return_exceptions=True
        )
        for order, outcome in zip(orders, outcomes, strict=True):
            if isinstance(outcome, KocError):
                logger.error("order {} could not be cancelled: {}", order.client_order_id, outcome)
            elif isinstance(outcome, BaseException):
                raise outcome
        return len(orders)

    def _check_risk(
        self, request: OrderRequest, strategy_id: str, account_id: str, changed: Order | None = None
    ) -> None:
        """Let a new order pass, or what `changed` is to become. Raises InvalidOrder and RiskRefused."""
        if len(self._unwritten) >= EVENTS_LIMIT:
            raise RiskRefused(f"{EVENTS_LIMIT} venue events wait for the journal: no new orders until they are written")
        shown = None if changed is None else self._store.order(changed.client_order_id)  # as the positions have it
        others = [order for order in self._store.open_orders(strategy_id) if order is not shown]
        others += [order for order in self._unsent.orders() if order.strategy_id == strategy_id]
        self._gate.let_through(request, strategy_id, account_id, others, self._working, shown)

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
        if self._unsent.keep(event):
            return
        self._latencies.answered(event)
        key = event.client_order_id
        before = self._newest(key)
        if before is None:
            logger.error("a venue spoke of an order that is not ours: {}", event)
            return
        try:
            after = apply(before, event)
        except InvalidTransition as error:
            self._lookups.contradicted(before, error)
            return
        if after is not before:
            self._working[key] = after
            self._owed.heard(event, after)
            self._unwritten.append(OrderRecord(after, event))
            self._idle.clear()
            self._wake.set()

    def _newest(self, client_order_id: str) -> Order | None:
        """Give an order as it is now, durable or not."""
        return self._working.get(client_order_id) or self._store.order(client_order_id)

    def _is_sending(self, client_order_id: str) -> bool:
        return client_order_id in self._requests or client_order_id in self._amends

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
            self._journal_is(False)
            raise
        self._journal_is(True)

    def _journal_is(self, ok: bool) -> None:
        self.journal_ok = ok

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
            self._lookups.look_up(order)
        elif isinstance(event, AmendRequested) and order.client_order_id in self._amends:
            self._amends[order.client_order_id].set()

    def _show(self, order: Order) -> None:
        self._tell(order.client_order_id)
        self._store.put_order(order)
        self._bus.publish(OrderChanged(order))

    def _show_soon(self, order: Order) -> None:
        """Know it at once, but tell of it a moment later: those who listen would hold its request up."""
        self._store.put_order(order)
        key = order.client_order_id
        self._untold[key] = order, asyncio.get_running_loop().call_later(TELL_AFTER_S, self._tell, key)

    def _tell(self, client_order_id: str) -> None:
        if client_order_id in self._untold:
            order, timer = self._untold.pop(client_order_id)
            timer.cancel()
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
        orders = [order for order in self._store.open_orders() if order.account_id == account_id]
        await self._lookups.settle(orders)
        self._owed.ask_for(orders)

    def _time_ns(self, account_id: str) -> int:
        """Give the time by the clock that stamps the account's orders, its venue's; ours while it is not connected."""
        venue = self._venues.get(account_id)
        return self._clock.time_ns() if venue is None else venue.time_ns()
