"""The execution side of any venue that ccxt speaks to; a venue's module says only what is particular to it.

How a venue is added: a subclass of CcxtTrading with the class variables of CcxtDialect (ccxt_dialect.py), and, where
ccxt or the venue is odd, its hooks, all of which have a default that goes by ccxt's unified methods.

How orders come back: the submit's answer, the private streams, polls and look-ups all feed one OrderTracker, and what
it makes of them goes to the sink in order. While the private streams are down, open orders are polled; a slow audit
goes on while they are up, so that nothing lost on the way stays unknown.
"""

from __future__ import annotations

import asyncio
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
from koc_qt.adapters.rate_budget import Priority, RateBudget
from koc_qt.adapters.trading_base import TradingBase
from koc_qt.domain.errors import InvalidOrder, KocError, VenueRejected, VenueUnavailable
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
from koc_qt.ports.venue import DEPARTURE
from koc_qt.resilience import Breakers

STREAMS_S = 5.0  # connecting waits so long for the private streams; polling stands in for them afterwards


class CcxtTrading(TradingBase, CcxtDialect):
    """Implements ports.venue.TradingVenue for one account at a ccxt exchange.

    `mode` says where orders go, and must be the mode that the credentials were kept for: LIVE or TESTNET. `refused`
    counts messages that were no fact. All calls come from the loop's thread. Raises ConfigError for another mode.
    """

    holds_at_door = True  # ccxt_exchange.make_session

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
        super().__init__(account_id, clock, timeouts)
        self._credentials = credentials
        self._endpoint = endpoint
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
        self._lookups = OrderLookups(
            self, self._account, self._tracker, self._outbox, lambda: self._streams.up, self._note
        )

    @property
    def budget(self) -> RateBudget:
        """What the account may still ask of its venue; `on_change` hears when the venue asks to be left alone."""
        return self._account.budget

    @property
    def breaker_states(self) -> dict[str, str]:
        """The states of the circuit breakers for orders and for queries."""
        return {"orders": self._account.orders.state, "queries": self._account.queries.state}

    def time_ns(self) -> int:
        """UTC nanoseconds at the venue, as well as they are known."""
        return self._account.venue_clock.time_ns()

    # ---- connection ----------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Load the markets and try the keys. Raises VenueError."""
        await self._account.open(self._heard, self._unreadable)
        await self.balances()

    async def listen(self) -> None:
        """Start the private streams, where there are some."""
        self._start(self._lookups.run(), "look after orders")
        if self.STREAMS:
            await self._streams.start(self._stream_coroutines(), min(self._timeouts.dial_s, STREAMS_S))
        else:
            self._tell_state(VenueState.CONNECTED, "")

    async def hang_up(self) -> None:
        """End the streams."""
        await self._streams.close()

    async def shut(self) -> None:
        """End the connection."""
        await self._account.close()

    # ---- orders --------------------------------------------------------------------------------------------------

    async def place(self, order: Order) -> None:
        """Send a new order, and post what is answered. Raises VenueUnavailable, VenueTimeout."""
        try:
            self.require_on_grid(self._account.exchange, order)
            raw = await self._account.order(
                "order", f"order {order.client_order_id}", lambda x: self.create_there(x, order), DEPARTURE.get()
            )
        except VenueRejected as error:
            self._outbox.post(self._tracker.refused(order.client_order_id, str(error), self.time_ns()))
        else:
            self._outbox.post(self._answer(order, raw))

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
