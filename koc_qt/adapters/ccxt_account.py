"""One account's own connection to its venue: signed requests behind one budget, kept warm, by the venue's clock.

Requests are let through by urgency (cancels, orders, queries, data), counted by a breaker for orders and one for
queries, bounded in time, and fail in our words. Cancels pass an open breaker: they are what one wants most then.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec

from koc_qt.adapters.ccxt_client import CcxtClient, Timeouts, VenueClock, pause_s
from koc_qt.adapters.ccxt_errors import Hints, Trouble, diagnose, explain
from koc_qt.adapters.ccxt_exchange import LoopbackEndpoint
from koc_qt.adapters.rate_budget import Priority, RateBudget, Span
from koc_qt.domain.errors import ConfigError, HeldBack, VenueError, VenueRejected, VenueUnavailable
from koc_qt.domain.state import TradingMode
from koc_qt.ports.clock import Clock
from koc_qt.ports.venue import DEPARTURE, Departure
from koc_qt.resilience import OPEN, SAFE_TO_REREAD, Breakers, transient_retry

T = TypeVar("T")

WARM_S = 8.0  # an order finds a connection that was used at most so long ago
CLOCK_S = 60.0  # the venue's time is asked for this often
MARKETS_S = 3_600.0  # steps and symbols change now and then
TURN_S = 4.0  # how long a request may wait for its turn in the budget
_SLOW_NS = 500_000_000  # a round trip this slow says too little of the venue's time


class VenueFacts(msgspec.Struct, frozen=True):
    """What an account's connection needs to know of its venue; see CcxtTrading for each."""

    venue: str
    title: str
    exchange_id: str
    options: Mapping[str, Any]
    market_parameters: Mapping[str, Any]
    spans: Sequence[Span]
    weights: Mapping[str, int]
    hints: Hints
    additions: Callable[[Any], Any] | None
    in_order: bool = False


class Lane:
    """Lets one request through at a time, the most urgent of those that wait first."""

    def __init__(self) -> None:
        self._busy = False
        self._waiting: list[tuple[Priority, int, asyncio.Future[None]]] = []
        self._count = 0

    @asynccontextmanager
    async def turn(self, priority: Priority, within_s: float) -> AsyncIterator[None]:
        """Hold the lane. Raises VenueUnavailable, nothing sent, where the turn does not come in time."""
        if self._busy:
            await self._wait(priority, within_s)
        self._busy = True
        try:
            yield
        finally:
            self._next()

    async def _wait(self, priority: Priority, within_s: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._waiting, (priority, self._count, turn))
        try:
            async with asyncio.timeout(within_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._next()  # it was handed over to us at the very moment of giving up
            turn.cancel()
            if isinstance(error, TimeoutError):
                raise VenueUnavailable(f"requests before it took longer than {within_s:g} s; not sent") from error
            raise

    def _next(self) -> None:
        """Hand the lane over, still busy, or free it."""
        while self._waiting:
            *_, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._busy = False


class AccountClient:
    """The signed side of one account. `on_headers` sees every answer's headers, names in lower case."""

    def __init__(
        self,
        facts: VenueFacts,
        mode: TradingMode,
        keys: Mapping[str, str],
        clock: Clock,
        endpoint: LoopbackEndpoint | None,
        breakers: Breakers,
        timeouts: Timeouts,
        on_headers: Callable[[Mapping[str, str]], None],
        time_ms: Callable[[Any], Awaitable[int | None]],
    ) -> None:
        if mode not in (TradingMode.LIVE, TradingMode.TESTNET):
            raise ConfigError(f"an account in {mode} mode sends nothing to {facts.title}")
        self._facts = facts
        self._mode = mode
        self._keys = dict(keys)
        self._clock = clock
        self._endpoint = endpoint
        self._timeouts = timeouts
        self._on_headers = on_headers
        self._time_ms = time_ms
        self.orders = breakers.breaker(f"{facts.venue} orders")
        self.queries = breakers.breaker(f"{facts.venue} queries")
        self.budget = RateBudget(facts.venue, clock, facts.spans)
        self.venue_clock = VenueClock(clock)
        self._client = CcxtClient(facts.venue, clock, self.queries, timeouts)
        self._lane = Lane() if facts.in_order else None
        self._warmth: asyncio.Task[None] | None = None
        self._spoke_ns = 0  # monotonic; the last answer
        self._set_ns = -(10**18)  # monotonic; the venue's clock was set
        self._loaded_ns = 0  # monotonic; the markets
        self._resetting: asyncio.Task[None] | None = None

    @property
    def exchange(self) -> Any:
        """The ccxt object. Raises VenueUnavailable while not connected."""
        return self._client.exchange

    def drop(self, url: str, why: str) -> None:
        """Give a stream's connection up, as if the network had."""
        self._client.drop(url, why)

    async def open(self, heard: Callable[[str], None], unreadable: Callable[[Exception], None]) -> None:
        """Load the markets and set the clock. Raises VenueError, ConfigError."""
        facts = self._facts
        settings = {"enableRateLimit": False, "number": str, **self._keys}
        await self._client.open(
            facts.exchange_id, facts.options, self._endpoint, heard, unreadable, facts.additions, settings
        )
        exchange = self._client.exchange
        exchange.number = str  # amounts as the venue writes them, digit for digit
        exchange.answered = self._answered
        exchange.venue_ms = lambda: self.venue_clock.time_ns() // 1_000_000
        if self._mode is TradingMode.TESTNET:
            if not exchange.urls.get("test"):
                raise VenueRejected(f"{facts.title} has no testnet; use paper trading")
            exchange.set_sandbox_mode(True)
        await self.set_clock()
        await self._load_markets(attempts=3)
        self._warmth = asyncio.create_task(self._keep_warm(), name=f"keep {facts.venue} warm")

    async def close(self) -> None:
        """End what runs and the connections. Safe to call twice."""
        tasks = [task for task in (self._warmth, self._resetting) if task is not None]
        self._warmth = self._resetting = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.budget.close()
        await self._client.close()

    # ---- requests ------------------------------------------------------------------------------------------------

    async def read(
        self,
        kind: str,
        what: str,
        call: Callable[[Any], Awaitable[T]],
        *,
        priority: Priority = Priority.QUERY,
        attempts: int = 3,
        insist: bool = False,
    ) -> T:
        """Ask what changes nothing there, again where that can help. `kind` is one of WEIGHTS. Raises VenueError.

        With `insist` the venue is asked, once, also while the breaker would have it left alone.
        """

        async def attempt() -> T:
            await self.budget.acquire(priority, self._facts.weights.get(kind, 1), within_s=TURN_S)
            return await self.queries.call(lambda: self._in_turn(priority, what, call, has_effect=False), insist=insist)

        return await self._again(attempt, 1 if insist and self.queries.state == OPEN else attempts)

    async def order(
        self, kind: str, what: str, call: Callable[[Any], Awaitable[T]], departure: Departure | None = None
    ) -> T:
        """Send an order or its change, once; nothing is written before its departure, where it has one.

        Raises VenueRejected (a certain no), VenueUnavailable (certainly not sent, the breaker's refusal included) and
        VenueTimeout (not known).
        """
        await self.budget.acquire(Priority.ORDER, self._facts.weights.get(kind, 1), within_s=TURN_S)
        return await self.orders.call(
            lambda: self._in_turn(Priority.ORDER, what, call, has_effect=True, departure=departure)
        )

    async def cancel(self, what: str, call: Callable[[Any], Awaitable[T]]) -> T:
        """Send a cancel, again where that can help: twice does no harm. Raises VenueError."""

        async def attempt() -> T:
            await self.budget.acquire(Priority.CANCEL, self._facts.weights.get("cancel", 1), within_s=TURN_S)
            return await self._in_turn(Priority.CANCEL, what, call, has_effect=True)

        return await self._again(attempt, 3)

    async def _again(self, attempt: Callable[[], Awaitable[T]], attempts: int) -> T:
        again = transient_retry(
            attempts=attempts,
            total_s=self._timeouts.request_s,
            first_wait_s=self._timeouts.first_backoff_s,
            on=SAFE_TO_REREAD,
        )
        return await again(attempt)()

    async def _in_turn(
        self,
        priority: Priority,
        what: str,
        call: Callable[[Any], Awaitable[T]],
        *,
        has_effect: bool,
        departure: Departure | None = None,
    ) -> T:
        if self._lane is None:
            return await self._once(what, call, has_effect, departure)
        async with self._lane.turn(priority, TURN_S):
            return await self._once(what, call, has_effect, departure)

    async def _once(
        self, what: str, call: Callable[[Any], Awaitable[T]], has_effect: bool, departure: Departure | None
    ) -> T:
        exchange, before = self.exchange, DEPARTURE.set(departure)
        try:
            async with asyncio.timeout(self._timeouts.request_s):
                return await call(exchange)
        except HeldBack:
            raise
        except Exception as error:
            is_gone = departure is None or departure.has_left
            raise self.in_our_words(what, error, has_effect=has_effect and is_gone) from error
        finally:
            DEPARTURE.reset(before)

    def in_our_words(self, what: str, error: Exception, *, has_effect: bool = False) -> VenueError:
        """Say a failure of ccxt as one of ours, and do what it asks for: set the clock, wait."""
        trouble, pause = diagnose(error, self._facts.hints), None
        if trouble is Trouble.CLOCK:
            self._set_clock_soon()
        elif trouble is Trouble.RATE and not isinstance(error, VenueError):
            if self.budget.held_s == 0:
                self.budget.hold(pause_s({}))  # it asked in words of its own, not by 429
            pause = math.ceil(self.budget.held_s)
        return explain(self._facts.title, what, error, self._facts.hints, has_effect=has_effect, pause_s=pause)

    def trouble(self, error: VenueError) -> Trouble:
        """Say what an error of ours was made of."""
        return diagnose(error.__cause__ or error, self._facts.hints)

    def _answered(self, status: int, headers: Mapping[str, str]) -> None:
        self._spoke_ns = self._clock.monotonic_ns()
        if status in (418, 429):
            self.budget.hold(pause_s(headers))
        self._on_headers(headers)

    # ---- clock and warmth ----------------------------------------------------------------------------------------

    async def set_clock(self) -> None:
        """Ask for the venue's time twice: the first answer may have waited for a handshake. Raises VenueError."""
        samples: list[tuple[int, int, int]] = []
        for _ in range(2):
            sent_ns = self._clock.monotonic_ns()
            time_ms = await self.read("time", "its time", self._time_ms)
            if time_ms is not None:
                samples.append((time_ms * 1_000_000, sent_ns, self._clock.monotonic_ns()))
        if samples:
            self.venue_clock.answered(*min(samples, key=lambda sample: sample[2] - sample[1]))
        self._set_ns = self._clock.monotonic_ns()

    def _set_clock_soon(self) -> None:
        if self._resetting is None or self._resetting.done():
            self._resetting = asyncio.create_task(self._set_clock_quietly(), name=f"clock of {self._facts.venue}")

    async def _set_clock_quietly(self) -> None:
        try:
            await self.set_clock()
        except VenueError:
            self._set_ns = -(10**18)  # the next turn of `_keep_warm` tries again

    async def _keep_warm(self) -> None:
        """Use the connection before it is let go, and look at the venue's clock now and then."""
        slept_wall_ns, slept_ns = self._clock.time_ns(), self._clock.monotonic_ns()
        while True:
            await asyncio.sleep(WARM_S / 4)
            wall_ns, now_ns = self._clock.time_ns(), self._clock.monotonic_ns()
            woke = abs((wall_ns - slept_wall_ns) - (now_ns - slept_ns)) > 1_000_000_000  # the machine slept
            slept_wall_ns, slept_ns = wall_ns, now_ns
            if woke or now_ns - self._set_ns > CLOCK_S * 1e9:
                await self._set_clock_quietly()
            elif now_ns - self._loaded_ns > MARKETS_S * 1e9:
                await self._load_markets_quietly()
            elif now_ns - self._spoke_ns > (WARM_S - WARM_S / 4) * 1e9:
                await self._touch()

    async def _load_markets(self, attempts: int) -> None:
        parameters = dict(self._facts.market_parameters)
        await self.read(
            "markets",
            "the list of instruments",
            lambda x: x.load_markets(True, parameters),
            priority=Priority.DATA,
            attempts=attempts,
        )
        self._loaded_ns = self._clock.monotonic_ns()

    async def _load_markets_quietly(self) -> None:
        try:
            await self._load_markets(attempts=1)
        except VenueError:
            self._loaded_ns += round(MARKETS_S / 10 * 1e9)  # those of before go on; it is tried again a while later

    async def _touch(self) -> None:
        sent_ns = self._clock.monotonic_ns()
        try:
            time_ms = await self.read("time", "its time", self._time_ms, attempts=1)
        except VenueError:
            return  # whoever needs the venue next will say so, and the next turn tries again
        received_ns = self._clock.monotonic_ns()
        self._spoke_ns = received_ns
        if time_ms is not None and received_ns - sent_ns < _SLOW_NS:
            self.venue_clock.answered(time_ms * 1_000_000, sent_ns, received_ns)
