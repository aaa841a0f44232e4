"""One account at Alpaca: live, or its own paper trading, which is our testnet.

https://docs.alpaca.markets/docs/orders-at-alpaca. How orders come back: the submit's answer, the stream of trade
updates, polls and look-ups all feed one OrderTracker, and what it makes of them goes to the sink in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TypeVar

from koc_qt.adapters.ccxt_client import LoopbackEndpoint, Timeouts
from koc_qt.adapters.ccxt_errors import Trouble
from koc_qt.adapters.ccxt_facts import MalformedError
from koc_qt.adapters.rate_budget import Priority, RateBudget
from koc_qt.adapters.trading_base import TradingBase
from koc_qt.adapters.venues.alpaca import facts
from koc_qt.adapters.venues.alpaca.abilities import ABILITIES, why_not
from koc_qt.adapters.venues.alpaca.changes import OrderChanges
from koc_qt.adapters.venues.alpaca.check import check_account
from koc_qt.adapters.venues.alpaca.errors import TITLE, trouble_of
from koc_qt.adapters.venues.alpaca.facts import Row
from koc_qt.adapters.venues.alpaca.family import Family
from koc_qt.adapters.venues.alpaca.lookups import OrderLookups
from koc_qt.adapters.venues.alpaca.requests_of import AlpacaRequests, get_row, get_rows, keys_of, new_budget, row
from koc_qt.adapters.venues.alpaca.streams import TradeUpdates
from koc_qt.adapters.venues.alpaca.updates import UpdateReader
from koc_qt.domain.errors import (
    ConfigError,
    InvalidOrder,
    KocError,
    VenueError,
    VenueRejected,
    VenueTimeout,
    VenueUnavailable,
)
from koc_qt.domain.orders import AmendRejected, CancelRejected, Order, OrderEvent, OrderReport
from koc_qt.domain.state import Balance, TradingMode, VenueState
from koc_qt.domain.venues import ConnectionReport, VenueOrder, VenuePosition, VenueTrade
from koc_qt.ports.clock import Clock
from koc_qt.ports.secrets import Credentials
from koc_qt.ports.venue import DEPARTURE
from koc_qt.resilience import Breakers

T = TypeVar("T")

WARM_S = 20.0  # an order finds a connection that was used at most so long ago
CLOCK_S = 60.0  # the venue's time is asked for this often


class AlpacaTrading(TradingBase):
    """Implements ports.venue.TradingVenue for one account at Alpaca.

    `mode` says where orders go, and must be the mode that the credentials were kept for: LIVE, or TESTNET for Alpaca's
    paper trading. `refused` counts messages that were no fact. All calls come from the loop's thread. Raises
    ConfigError for another mode.
    """

    ABILITIES = ABILITIES
    holds_at_door = True  # library._Connection

    def __init__(
        self,
        account_id: str,
        credentials: Credentials,
        mode: TradingMode,
        clock: Clock,
        endpoint: LoopbackEndpoint | None = None,
        *,
        breakers: Breakers | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        if mode not in (TradingMode.LIVE, TradingMode.TESTNET):
            raise ConfigError(f"an account in {mode} mode sends nothing to {TITLE}")
        super().__init__(account_id, clock, timeouts)
        self._credentials = credentials
        self.mode = mode
        self._endpoint = endpoint
        breakers = breakers or Breakers(clock)
        self._requests = AlpacaRequests(
            "paper" if mode is TradingMode.TESTNET else "live",
            keys_of(credentials),
            clock,
            endpoint,
            self._timeouts,
            new_budget(clock),
            breakers.breaker(f"{self.venue} queries"),
            breakers.breaker(f"{self.venue} orders"),
        )
        self._family = Family()
        self._changes = OrderChanges(
            self._requests,
            self._tracker,
            self._outbox,
            self._family,
            lambda: self._stream.up,
            self._start,
            self._note,
        )
        self._lookups = OrderLookups(
            self._requests, self._tracker, self._outbox, lambda: self._stream.up, self._changes.found, self._note
        )
        self._changes.learn, self._changes.cancel = self._lookups.learn, self.cancel
        self._updates = UpdateReader(
            self._tracker, self._outbox, self._family, self._changes, self._lookups, self.time_ns, self._note
        )
        self._updates.on_word = self._on_word
        self._lookups.listen(self._updates.take_row)
        self._stream = TradeUpdates(clock, self._timeouts, self._updates.take, self._on_unreadable, self._on_stream)
        self._pairs: dict[str, str] = {}

    @property
    def budget(self) -> RateBudget:
        """What the account may still ask of Alpaca; `on_change` hears when it asks to be left alone."""
        return self._requests.budget

    @property
    def breaker_states(self) -> dict[str, str]:
        """The states of the circuit breakers for orders and for queries."""
        return {"orders": self._requests.orders.state, "queries": self._requests.queries.state}

    def time_ns(self) -> int:
        """UTC nanoseconds at the venue, as well as they are known."""
        return self._requests.venue_clock.time_ns()

    # ---- connection ----------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Make the client, set the clock, try the keys, and learn what crypto is called. Raises VenueError."""
        await self._requests.open()
        await self._requests.ask_time()
        crypto = {"asset_class": "crypto", "status": "active"}
        listed = await self._requests.read("the list of crypto", get_rows("/assets", crypto))
        self._pairs = facts.pairs_of(str(each.get("symbol")) for each in listed)

    async def listen(self) -> None:
        """Start the stream of trade updates."""
        self._start(self._lookups.run(), "look after orders")
        self._start(self._keep_warm(), "keep warm")
        await self._stream.start(self.mode is TradingMode.TESTNET, keys_of(self._credentials), self._endpoint)

    async def hang_up(self) -> None:
        """End the stream."""
        await self._stream.close()

    async def shut(self) -> None:
        """End the connections."""
        self._requests.budget.close()
        await self._requests.close()

    async def _keep_warm(self) -> None:
        """Use the connection before it is let go, and look at the venue's clock now and then."""
        set_ns = self._clock.monotonic_ns()
        while True:
            await asyncio.sleep(WARM_S / 4)
            now_ns = self._clock.monotonic_ns()
            if now_ns - set_ns < CLOCK_S * 1e9 and now_ns - self._requests.spoke_ns < WARM_S * 0.75e9:
                continue
            set_ns = now_ns
            try:
                await self._requests.ask_time(attempts=1)
            except VenueError as error:
                self._note("clock", error)  # whoever needs the venue next will say so

    # ---- orders --------------------------------------------------------------------------------------------------

    async def place(self, order: Order) -> None:
        """Send a new order, and post what is answered. Raises VenueUnavailable, VenueTimeout."""
        key = order.client_order_id
        reason = why_not(order.request)
        try:
            body = facts.order_body(order)
            if order.request.reduce_only and not reason:
                reason = await self._why_not_reducing(order)
        except InvalidOrder as error:
            reason = str(error)
        if reason:
            self._outbox.post(self._tracker.refused(key, reason, self.time_ns()))
            return
        try:
            answer = await self._requests.order(
                f"order {key}", lambda client: row(client.post("/orders", body)), DEPARTURE.get()
            )
        except VenueRejected as error:
            self._outbox.post(self._tracker.refused(key, str(error), self.time_ns()))
        else:
            self._outbox.post(self._answered(key, answer))

    def _answered(self, key: str, answer: Row) -> list[OrderEvent]:
        """Take a submit's answer; it tells how the order was before it met the market."""
        try:
            self._family.note(answer, key)
            update = facts.update(answer, Decimal(0), self.time_ns())
            events = self._tracker.answered(key, update.venue_order_id, update.time_ns)
            if update.status.is_terminal:
                events += self._tracker.update(update)
        except MalformedError as error:
            self._note("answers", error)  # it was accepted, whatever the rest says
            self._lookups.soon(everything=True)
            return []
        if self._tracker.missing() or not self._stream.up:
            self._lookups.soon(everything=True)
        return events

    async def _why_not_reducing(self, order: Order) -> str:
        """Say why an order would open or turn a position; empty where it only reduces one. Raises VenueUnavailable."""
        request = order.request
        symbol = request.instrument.symbol
        try:
            held = {each.symbol: each.quantity for each in await self.positions()}.get(symbol, Decimal(0))
        except VenueError as error:
            raise VenueUnavailable(f"{error}; the order, which is to close a position, was not sent") from error
        if held * request.side.sign < 0 and request.quantity <= abs(held):
            return ""
        return f"it would not reduce what {TITLE} holds for the account: {held:f} {symbol}"

    async def cancel(self, order: Order) -> None:
        """Ask for a cancel; the outcome comes through the sink. Raises VenueError."""
        self._require_connection()
        self._tracker.cancelling(order)
        try:
            if not await self._cancel(order):
                await self._lookups.learn(order)  # another order took its place, which nobody has heard of
                await self._cancel(order)
        except VenueRejected as error:
            if trouble_of(error) is Trouble.ABSENT:
                self._lookups.soon(everything=True)  # it has ended, and perhaps nobody has heard how
            self._outbox.post([CancelRejected(order.client_order_id, self.time_ns(), str(error))])
        else:
            if not self._stream.up:
                self._lookups.soon(everything=True)

    async def _cancel(self, order: Order) -> bool:
        """Ask for a cancel; False where the order was replaced by one that is not known. Raises VenueError."""
        key = order.client_order_id
        order_id = await self._id_of(order, Priority.CANCEL)
        try:
            await self._requests.cancel(f"the cancel of {key}", lambda client: client.delete(f"/orders/{order_id}"))
        except VenueRejected as error:
            if '"replaced"' in str(error):
                return False
            raise
        return True

    async def _id_of(self, order: Order, priority: Priority) -> str:
        """Give the venue's id of an order, asking for it where it is not known. Raises VenueError."""
        key = order.client_order_id
        known = self._tracker.venue_order_id(key)
        if known:
            return known
        what, asking = f"order {key}", get_row("/orders:by_client_order_id", {"client_order_id": key})
        if priority is Priority.CANCEL:  # which no breaker holds up
            found = await self._requests.cancel(what, asking)
        else:
            found = await self._requests.read(what, asking, priority=priority)
        try:
            return facts.venue_id(found)
        except MalformedError as error:
            raise VenueUnavailable(f"{TITLE} sent what cannot be read: {error}") from error

    async def amend(self, order: Order, quantity: Decimal, price: Decimal | None) -> None:
        """Ask for another total quantity and limit price; the outcome comes through the sink.

        Raises VenueError; VenueRejected where a change is on its way already.
        """
        self._require_connection()
        self._tracker.know(order)
        key = order.client_order_id
        word = self._words[key] = asyncio.get_running_loop().create_future()
        self._updates.hold(key)
        asking = self._start(self._ask_change(order, quantity, price), f"change {key}")
        try:
            await asyncio.wait((asking, word), return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                self._outbox.post(asking.result())
            else:
                asking.add_done_callback(lambda task: self._asked(key, task))
        except asyncio.CancelledError:
            asking.cancel()
            raise
        finally:
            del self._words[key]
            if not self._changes.is_on_its_way(key):
                self._outbox.post(self._tracker.amend_over(key))
            self._outbox.post(self._updates.release(key))

    async def _ask_change(self, order: Order, quantity: Decimal, price: Decimal | None) -> list[OrderEvent]:
        try:
            order_id = await self._id_of(order, Priority.ORDER)
        except VenueTimeout as error:
            raise VenueUnavailable(f"{error}; the change was not sent") from error
        try:
            return await self._changes.ask(order, order_id, quantity, price)
        except InvalidOrder as error:
            raise VenueRejected(str(error)) from error

    def _asked(self, key: str, task: asyncio.Task[list[OrderEvent]]) -> None:
        """Tell what came of a change after `amend` was over; what is not known is looked up by itself."""
        if task.cancelled() or not self._connected:
            return
        error = task.exception()
        if error is None:
            self._outbox.post(task.result())
        elif isinstance(error, VenueUnavailable | VenueRejected):
            self._outbox.post([*self._tracker.amend_over(key), AmendRejected(key, self.time_ns(), str(error))])

    # ---- what is asked -------------------------------------------------------------------------------------------

    async def find_order(self, order: Order) -> OrderReport | None:
        """Look one order up; None when the venue has never seen it. Raises VenueError."""
        self._require_connection()
        if not self._tracker.is_known(order.client_order_id):
            self._tracker.know(order)
        try:
            return await self._lookups.learn(order, insist=True)  # money hangs on it, and who asks has a back-off
        except (MalformedError, InvalidOrder) as error:
            raise VenueUnavailable(f"{TITLE} sent what cannot be read: {error}") from error

    async def balances(self) -> Sequence[Balance]:
        """Cash and what is held; shorts are positions alone. Raises VenueError."""
        account = await self.account()
        held = await self._requests.read("the positions", get_rows("/positions"), priority=Priority.DATA)
        working = await self._lookups.open_rows()
        return self._readable(lambda: facts.balances(account, held, working, self._pairs))

    async def account(self) -> Row:
        """Give the account as Alpaca tells it. Raises VenueError."""
        return await self._requests.read("the account", get_row("/account"), priority=Priority.DATA)

    async def positions(self) -> Sequence[VenuePosition]:
        """What the account holds, shorts below zero. Raises VenueError."""
        held = await self._requests.read("the positions", get_rows("/positions"))
        return self._readable(lambda: [facts.position(each, self._pairs) for each in held])

    async def open_orders(self) -> Sequence[VenueOrder]:
        """Every order that works on the account, also those that are not ours. Raises VenueError."""
        self._require_connection()
        listed = await self._lookups.open_rows()
        return self._readable(lambda: [facts.open_order(each) for each in listed])

    async def trades(self, since_ns: int) -> Sequence[VenueTrade]:
        """The account's executions since then, oldest first, also those that are not ours. Raises VenueError."""
        self._require_connection()
        listed = await self._lookups.activities(since_ns)
        return self._readable(lambda: [self._read_activity(each) for each in listed])

    def _read_activity(self, activity: Row) -> VenueTrade:
        order_id, name = str(activity.get("order_id") or ""), str(activity.get("symbol") or "")
        symbol = self._pairs.get(name, name)
        return facts.execution(activity, symbol, self._family.key(order_id), self._family.makes_at(order_id))

    @staticmethod
    def _readable(read: Callable[[], T]) -> T:
        try:
            return read()
        except (MalformedError, InvalidOrder) as error:
            raise VenueUnavailable(f"{TITLE} sent what cannot be read: {error}") from error

    async def check(self) -> ConnectionReport:
        """Try the account's keys: permissions, clock, latency, fees. Needs no `connect`."""
        if self._connected:
            return await check_account(self._requests, self._clock, self.balances)
        trial = AlpacaTrading(
            self._account_id, self._credentials, self.mode, self._clock, self._endpoint, timeouts=self._timeouts
        )
        try:
            async with asyncio.timeout(self._timeouts.connect_s):
                await trial.open()
                return await check_account(trial._requests, self._clock, trial.balances)
        except TimeoutError:
            return ConnectionReport(f"{TITLE} did not answer within {self._timeouts.connect_s:g} s")
        except KocError as error:
            return ConnectionReport(str(error))
        finally:
            await trial.close()

    # ---- what the stream and polls bring -------------------------------------------------------------------------

    def _on_unreadable(self, error: Exception) -> None:
        self._note("unreadable", error)
        self._lookups.soon(everything=True)  # it may have been about an order

    def _on_stream(self, up: bool, reason: str) -> None:
        self._lookups.soon(everything=True)
        self._tell_state(VenueState.CONNECTED if up else VenueState.INTERRUPTED, reason)
