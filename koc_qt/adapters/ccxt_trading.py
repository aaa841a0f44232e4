"""The execution side of any venue that ccxt speaks to; a venue's module says only what is particular to it.

How a venue is added: a subclass of CcxtTrading with the class variables of CcxtDialect (ccxt_dialect.py), and, where
ccxt or the venue is odd, its hooks, all of which have a default that goes by ccxt's unified methods.

How orders come back: the submit's answer, the private streams, polls and look-ups all feed one OrderTracker, and what
it makes of them goes to the sink in order. While the private streams are down, open orders are polled; a slow audit
goes on while they are up, so that nothing lost on the way stays unknown.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

from koc_qt.adapters import ccxt_order_facts as facts
from koc_qt.adapters.ccxt_account import AccountClient, VenueFacts
from koc_qt.adapters.ccxt_check import check_account
from koc_qt.adapters.ccxt_client import Timeouts
from koc_qt.adapters.ccxt_dialect import CcxtDialect, Raw
from koc_qt.adapters.ccxt_errors import Trouble
from koc_qt.adapters.ccxt_exchange import LoopbackEndpoint
from koc_qt.adapters.ccxt_facts import MalformedError
from koc_qt.adapters.ccxt_lookups import OrderLookups
from koc_qt.adapters.ccxt_streams import PrivateStreams
from koc_qt.adapters.event_outbox import EventOutbox
from koc_qt.adapters.order_tracker import OrderTracker
from koc_qt.adapters.rate_budget import Budgeted, Priority, RateBudget
from koc_qt.domain.errors import InvalidOrder, KocError, VenueError, VenueRejected, VenueTimeout, VenueUnavailable
from koc_qt.domain.orders import (
    AmendRejected,
    CancelRejected,
    Order,
    OrderAmended,
    OrderEvent,
    OrderReport,
)
from koc_qt.domain.state import Balance, TradingMode, VenueState
from koc_qt.domain.venues import ConnectionReport, VenueOrder, VenuePosition, VenueTrade
from koc_qt.ports.clock import Clock
from koc_qt.ports.secrets import Credentials
from koc_qt.ports.venue import OrderSink, StateSink
from koc_qt.resilience import Breakers

# Binance takes a request for 10 s after it was signed, as ccxt asks it to; for the others this is a guess
LATE_S = 10.0
STREAMS_S = 5.0  # connecting waits so long for the private streams; polling stands in for them afterwards


class CcxtTrading(Budgeted, CcxtDialect):
    """Implements ports.venue.TradingVenue for one account at a ccxt exchange.

    `mode` says where orders go, and must be the mode that the credentials were kept for: LIVE or TESTNET. `refused`
    counts messages that were no fact. All calls come from the loop's thread. Raises ConfigError for another mode.
    """

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
        self._account_id = account_id
        self._credentials = credentials
        self._clock = clock
        self._endpoint = endpoint
        self._timeouts = timeouts or Timeouts()
        self.mode = mode
        venue_facts = VenueFacts(
            venue=self.ABILITIES.venue,
            title=self.ABILITIES.title,
            exchange_id=self.EXCHANGE_ID,
            options=self.OPTIONS,
            market_parameters=self.MARKET_PARAMETERS,
            spans=self.SPANS,
            weights=self.WEIGHTS,
            hints=self.HINTS,
            additions=self.additions,
            in_order=self.REQUESTS_IN_ORDER,
        )
        self._account = AccountClient(
            venue_facts,
            mode,
            self.ccxt_keys(credentials),
            clock,
            endpoint,
            breakers or Breakers(clock),
            self._timeouts,
            self.on_headers,
            self.fetch_time_ms,
        )
        self._streams = PrivateStreams(
            lambda: self._account.exchange, clock, self._timeouts, self._account.in_our_words, self._on_streams
        )
        self._tracker = OrderTracker(self._on_word)
        self._outbox = EventOutbox()
        self._lookups = OrderLookups(
            self, self._account, self._tracker, self._outbox, lambda: self._streams.up, self._note
        )
        self._on_state: StateSink | None = None
        self._opening = False
        self._connected = False
        self._words: dict[str, asyncio.Future[None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self.refused: Counter[str] = Counter()
        self.last_refusal = ""

    @property
    def account_id(self) -> str:
        """The account it trades for."""
        return self._account_id

    @property
    def venue(self) -> str:
        """The venue whose instruments it trades."""
        return self.ABILITIES.venue

    @property
    def budget(self) -> RateBudget:
        """What the account may still ask of its venue; `on_change` hears when the venue asks to be left alone."""
        return self._account.budget

    @property
    def breaker_states(self) -> dict[str, str]:
        """The states of the circuit breakers for orders and for queries."""
        return {"orders": self._account.orders.state, "queries": self._account.queries.state}

    @property
    def late_s(self) -> float:
        """Seconds for which an order that was sent may still arrive."""
        return LATE_S

    def time_ns(self) -> int:
        """UTC nanoseconds at the venue, as well as they are known."""
        return self._account.venue_clock.time_ns()

    # ---- connection ----------------------------------------------------------------------------------------------

    async def connect(self, sink: OrderSink, on_state: StateSink | None = None) -> None:
        """Load the markets, try the keys, and start the private streams; while connected, change the sinks alone.

        Raises VenueUnavailable, and VenueRejected where the keys are not accepted.
        """
        if self._connected:
            self._on_state = on_state
            self._outbox.open(sink)
            return
        if self._opening:
            raise VenueUnavailable(f"{self.ABILITIES.title} is connecting already")
        self._opening = True
        try:
            async with asyncio.timeout(self._timeouts.connect_s):
                await self._account.open(self._heard, self._unreadable)
                await self.balances()
        except (TimeoutError, VenueTimeout) as error:
            await self.close()
            reason = str(error) or f"nothing came within {self._timeouts.connect_s:g} s"
            raise VenueUnavailable(f"{self.ABILITIES.title} cannot be connected to: {reason}") from error
        except BaseException:
            await self.close()
            raise
        self._on_state, self._connected = on_state, True
        self._outbox.open(sink)
        self._start(self._lookups.run(), "look after orders")
        if self.STREAMS:
            await self._streams.start(self._stream_coroutines(), min(self._timeouts.dial_s, STREAMS_S))
        else:
            self._tell_state(VenueState.CONNECTED, "")

    async def close(self) -> None:
        """End connections; orders stay as they are. Safe to call twice."""
        self._outbox.close()
        self._connected = self._opening = False
        self._on_state = None
        await self._streams.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._account.close()

    def _require_connection(self) -> None:
        if not self._connected:
            raise VenueUnavailable(f"{self.ABILITIES.title} is not connected: nothing was sent")

    # ---- orders --------------------------------------------------------------------------------------------------

    async def submit(self, order: Order) -> None:
        """Send a new order. It is over with the venue's answer, or with the first word of it on a private stream.

        Raises VenueUnavailable when it was certainly not sent and VenueTimeout when that is not known.
        """
        self._require_connection()
        key = order.client_order_id
        self._tracker.sending(order)
        word = self._words[key] = asyncio.get_running_loop().create_future()
        sending = self._start(self._place(order), f"submit {key}")
        try:
            await asyncio.wait((sending, word), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                self._judge(key, sending)
        except asyncio.CancelledError:
            sending.cancel()
            raise
        finally:
            del self._words[key]
            self._outbox.post(self._tracker.released(key))

    async def _place(self, order: Order) -> None:
        try:
            self.require_on_grid(self._account.exchange, order)
            raw = await self._account.order(
                "order", f"order {order.client_order_id}", lambda x: self.create_there(x, order)
            )
        except VenueRejected as error:
            self._outbox.post(self._tracker.refused(order.client_order_id, str(error), self.time_ns()))
        else:
            self._outbox.post(self._answer(order, raw))

    def _judge(self, key: str, sending: asyncio.Task[None]) -> None:
        """Raise what became of a submit, unless the venue has spoken of the order by itself meanwhile."""
        try:
            if sending.cancelled():
                raise VenueTimeout(f"the connection was closed before {self.ABILITIES.title} had answered {key}")
            sending.result()
        except VenueError as error:
            if self._tracker.is_accepted(key):
                return
            if isinstance(error, VenueUnavailable):
                self._tracker.absent(key)
            raise

    def _on_word(self, client_order_id: str) -> None:
        word = self._words.get(client_order_id)
        if word is not None and not word.done():
            word.set_result(None)

    async def cancel(self, order: Order) -> None:
        """Ask for a cancel; the outcome comes through the sink. Raises VenueError."""
        self._require_connection()
        self._tracker.cancelling(order)
        key = order.client_order_id
        venue_order_id = self._tracker.venue_order_id(key)
        try:
            raw = await self._account.cancel(
                f"the cancel of {key}", lambda x: self.cancel_there(x, order, venue_order_id)
            )
        except VenueRejected as error:
            if self._account.trouble(error) is Trouble.ABSENT:
                self._lookups.soon(everything=True)  # it has ended, and perhaps nobody has heard how
            self._outbox.post([CancelRejected(key, self.time_ns(), str(error))])
        else:
            self._outbox.post(self._canceled(order, raw))

    async def amend(self, order: Order, quantity: Decimal, price: Decimal | None) -> None:
        """Ask for another total quantity and limit price; the outcome comes through the sink.

        Raises VenueError; VenueRejected where the venue cannot.
        """
        self._require_connection()
        if not self.ABILITIES.amend:
            raise VenueRejected(f"{self.ABILITIES.title} cannot change an order; cancel it and send another")
        key = order.client_order_id
        self._tracker.know(order)
        venue_order_id = self._tracker.venue_order_id(key)
        self._tracker.amending(key)
        try:
            raw = await self._account.order(
                "amend", f"the change of {key}", lambda x: self.amend_there(x, order, venue_order_id, quantity, price)
            )
        except VenueRejected as error:
            self._outbox.post([*self._tracker.amend_over(key), AmendRejected(key, self.time_ns(), str(error))])
        except BaseException:
            self._outbox.post(self._tracker.amend_over(key))
            raise
        else:
            told = str(raw.get("id") or "")
            new_id = told if told != venue_order_id else ""
            time_ns = facts.time_ns(raw, self.time_ns(), "lastUpdateTimestamp")
            self._outbox.post(self._tracker.amended(OrderAmended(key, time_ns, quantity, price, new_id)))

    async def find_order(self, order: Order) -> OrderReport | None:
        """Look one order up; None when the venue has never seen it. Raises VenueError.

        No breaker holds that up: money hangs on it, and who asks has a back-off.
        """
        self._require_connection()
        self._tracker.know(order)
        try:
            return await self._lookups.learn(order, insist=True)
        except (MalformedError, InvalidOrder) as error:
            raise VenueUnavailable(f"{self.ABILITIES.title} sent what cannot be read: {error}") from error

    # ---- the account ---------------------------------------------------------------------------------------------

    async def balances(self) -> Sequence[Balance]:
        """What is in the account. Raises VenueError."""
        # by the urgency of data: whoever asks often must not use up the room of looking orders up
        raw = await self._account.read("balances", "the balances", self.fetch_balances, priority=Priority.DATA)
        return facts.balances(raw)

    async def positions(self) -> Sequence[VenuePosition]:
        """Nothing: what a spot account holds is in its balances."""
        return ()

    async def open_orders(self) -> Sequence[VenueOrder]:
        """Every order that works on the account, also those that are not ours. Raises VenueError."""
        self._require_connection()
        listed = await self._account.read("open_orders", "the open orders", self.fetch_open_orders)
        return [facts.open_order(raw, self.time_ns()) for raw in listed]

    async def trades(self, since_ns: int) -> Sequence[VenueTrade]:
        """The account's executions since then, oldest first, also those that are not ours. Raises VenueError."""
        self._require_connection()
        listed = await self._account.read(
            "trades", "the executions", lambda x: self.fetch_trades(x, since_ns // 1_000_000)
        )
        unique: dict[str, VenueTrade] = {}
        for raw in listed:
            trade = self.read_execution(raw)
            if trade.time_ns >= since_ns:
                unique[trade.fill_id] = facts.named(trade, self._tracker.client_order_id(trade.venue_order_id))
        return sorted(unique.values(), key=lambda trade: trade.time_ns)

    def known_symbols(self) -> list[str]:
        """Give the symbols of the orders that are remembered."""
        return self._tracker.symbols()

    async def check(self) -> ConnectionReport:
        """Try the account's keys: permissions, clock, latency, fees. Needs no `connect`."""
        if self._connected:
            return await check_account(self, self._account, self._clock)
        trial = type(self)(
            self._account_id, self._credentials, self.mode, self._clock, self._endpoint, timeouts=self._timeouts
        )
        return await trial.check_alone()

    async def check_alone(self) -> ConnectionReport:
        """Try the keys on a connection for that alone."""
        try:
            async with asyncio.timeout(self._timeouts.connect_s):
                await self._account.open(self._heard, self._unreadable)
                return await check_account(self, self._account, self._clock)
        except TimeoutError:
            return ConnectionReport(f"{self.ABILITIES.title} did not answer within {self._timeouts.connect_s:g} s")
        except KocError as error:
            return ConnectionReport(str(error))
        finally:
            await self.close()

    # ---- what streams and polls bring ------------------------------------------------------------------------------

    def _stream_coroutines(self) -> dict[str, Callable[[Any], Awaitable[None]]]:
        known = {"orders": self._watch_orders, "trades": self._watch_trades}
        return {name: known[name] for name in self.STREAMS}

    async def _watch_orders(self, exchange: Any) -> None:
        while True:
            self.take_orders(await exchange.watch_orders())

    async def _watch_trades(self, exchange: Any) -> None:
        while True:
            self.take_trades(await exchange.watch_my_trades())

    def take_orders(self, listed: Iterable[Raw]) -> None:
        """Take order structures that a stream brought."""
        self._take("orders", listed, lambda raw: self._tracker.update(self.read_update(raw)))

    def take_trades(self, listed: Iterable[Raw]) -> None:
        """Take executions that a stream brought."""
        self._take("trades", listed, lambda raw: self._tracker.trade(self.read_execution(raw)))

    def _take(self, kind: str, listed: Iterable[Raw], read: Callable[[Raw], list[OrderEvent]]) -> None:
        self._streams.delivered(kind)
        for raw in listed:
            try:
                self._outbox.deliver(read(raw))
            except (MalformedError, InvalidOrder, KeyError, TypeError, ValueError) as error:
                self._note(kind, error)
                self._lookups.soon(everything=True)  # it may have been about an order
        if self._tracker.missing():
            self._lookups.soon()

    def _note(self, kind: str, error: Exception) -> None:
        self.refused[kind] += 1
        self.last_refusal = f"{kind}: {error}"

    def _answer(self, order: Order, raw: Raw) -> list[OrderEvent]:
        """Take a submit's answer: the id, and the state and executions where it tells them."""
        key, venue_order_id = order.client_order_id, str(raw.get("id") or "")
        time_ns = facts.time_ns(raw, self.time_ns(), "timestamp", "lastUpdateTimestamp")
        events = self._tracker.answered(key, venue_order_id, time_ns)
        known = {
            "symbol": order.request.instrument.symbol,
            "side": order.request.side,
            "timestamp": raw.get("timestamp"),
        }
        try:
            for trade in raw.get("trades") or ():
                whole = {**trade, **{name: trade.get(name) or value for name, value in known.items()}}
                events += self._tracker.trade(facts.named(self.read_execution(whole), key, venue_order_id))
            if raw.get("status"):
                events += self._tracker.update(facts.named_update(self.read_update(raw), key))
        except (MalformedError, InvalidOrder) as error:
            self._note("answers", error)  # it was accepted, whatever the rest says; the streams and look-ups tell it
            self._lookups.soon(everything=True)
        if self._tracker.missing() or not self._streams.up:
            self._lookups.soon(everything=True)
        return events

    def _canceled(self, order: Order, raw: Raw) -> list[OrderEvent]:
        """Take a cancel's answer: the final state, where it is told."""
        if raw.get("status"):
            return self._tracker.update(facts.named_update(self.read_update(raw), order.client_order_id))
        if not self._streams.up:
            self._lookups.soon(everything=True)
        return []

    # ---- state and delivery --------------------------------------------------------------------------------------

    def _heard(self, url: str) -> None:
        self._streams.heard(url)

    def _unreadable(self, error: Exception) -> None:
        self._note("unreadable", error)
        self._lookups.soon(everything=True)  # it may have been about an order

    def _on_streams(self, up: bool, reason: str) -> None:
        self._lookups.soon(everything=True)  # what was missed; or from now on, for the audit may be a minute away
        if up:
            self._tell_state(VenueState.CONNECTED, "")
        else:
            meanwhile = "open orders are asked for one by one until it is back"
            self._tell_state(VenueState.INTERRUPTED, f"{reason}; {meanwhile}")

    def _tell_state(self, state: VenueState, reason: str) -> None:
        if self._on_state is not None:
            asyncio.get_running_loop().call_soon(self._on_state, state, reason)

    def _start(self, coroutine: Any, name: str) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.create_task(coroutine, name=f"{name} ({self._account_id})")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.last_refusal = str(task.exception())  # whoever awaited it has been told
