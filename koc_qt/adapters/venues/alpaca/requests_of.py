"""Requests to Alpaca in threads of their own: bounded in time, behind one budget, counted by breakers, in our words.

https://docs.alpaca.markets/docs/usage-limits: 200 requests a minute and account for trading, as many for market data;
every answer tells how many are left, and when the minute is over.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from koc_qt.adapters.blocking_reader import still_running
from koc_qt.adapters.ccxt_client import LoopbackEndpoint, Timeouts, VenueClock
from koc_qt.adapters.ccxt_errors import Trouble
from koc_qt.adapters.rate_budget import Priority, RateBudget, Span
from koc_qt.adapters.venues.alpaca.errors import TITLE, PageError, TooLateError, diagnose, explain
from koc_qt.adapters.venues.alpaca.facts import time_ns
from koc_qt.domain.errors import HeldBack, VenueError, VenueUnavailable
from koc_qt.ports.clock import Clock
from koc_qt.ports.secrets import Credentials
from koc_qt.ports.venue import Departure
from koc_qt.resilience import OPEN, SAFE_TO_REREAD, Breaker, transient_retry
from koc_qt.scrub import register_secret

T = TypeVar("T")
Call = Callable[[Any], T]  # takes the vendor's client, in a thread

PER_MINUTE = 200
MINUTE = "minute"
TURN_S = 4.0  # how long a request may wait for its turn in the budget
_PAUSE_S = 10.0  # after 429 that names no end
_LONGEST_PAUSE_S = 3_600.0
LEAVE_S = 5.0  # the loop says much sooner, unless it hangs
_CLOSE_S = 1.0
_ORDER_THREADS, _QUERY_THREADS = 4, 3


def new_budget(clock: Clock) -> RateBudget:
    """Make what an account may ask of the trading, or of the data interface."""
    return RateBudget(TITLE, clock, (Span(MINUTE, PER_MINUTE, 60.0, by_weight=False),))


def keys_of(credentials: Credentials) -> tuple[str, str]:
    """Give key and secret without the blanks around them, and have them taken out of every text."""
    key, secret = (credentials.get(name, "").strip() for name in ("key", "secret"))
    for value in (key, secret):
        if value:
            register_secret(value)
    return key, secret


def row(value: object) -> dict[str, Any]:
    """Give an answer that must be an object. Raises PageError."""
    if not isinstance(value, dict):
        raise PageError(f"an answer that is no object: {str(value)[:100]!r}")
    return value


def rows(value: object) -> list[dict[str, Any]]:
    """Give an answer that must be a list of objects. Raises PageError."""
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise PageError(f"an answer that is no list: {str(value)[:100]!r}")
    return value


def get_row(path: str, parameters: dict[str, Any] | None = None) -> Call[dict[str, Any]]:
    """Ask for an object."""
    return lambda client: row(client.get(path, parameters))


def get_rows(path: str, parameters: dict[str, Any] | None = None) -> Call[list[dict[str, Any]]]:
    """Ask for a list of objects."""
    return lambda client: rows(client.get(path, parameters))


async def load_library() -> Any:
    """Import what touches the vendor's library, off the loop: it takes seconds the first time."""
    with_thread = ThreadPoolExecutor(1, thread_name_prefix="import")
    try:
        name = "koc_qt.adapters.venues.alpaca.library"
        return await asyncio.get_running_loop().run_in_executor(with_thread, importlib.import_module, name)
    finally:
        with_thread.shutdown(wait=False)


def _is_gone(departure: Departure | None) -> bool:
    """Tell whether a request may have been written, as far as its departure says."""
    return departure is None or departure.has_left


def _leave(departure: Departure, loop: asyncio.AbstractEventLoop) -> None:
    """Wait in a thread until a request may go. Raises HeldBack."""
    leaving = asyncio.run_coroutine_threadsafe(departure.leave(), loop)
    try:
        leaving.result(LEAVE_S)
    except (TimeoutError, CancelledError):
        leaving.cancel()
        raise HeldBack("it was not let go in time: nothing was sent") from None


class AlpacaRequests:
    """One of the vendor's clients: ``paper`` or ``live`` for an account, ``stocks`` or ``crypto`` for market data.

    Orders and cancels have threads of their own, so that they never wait behind queries.
    """

    def __init__(
        self,
        kind: str,
        keys: tuple[str, str],
        clock: Clock,
        endpoint: LoopbackEndpoint | None,
        timeouts: Timeouts,
        budget: RateBudget,
        queries: Breaker,
        orders: Breaker | None = None,
    ) -> None:
        self.kind = kind
        self.budget = budget
        self.queries = queries
        self.orders = orders or queries
        self.venue_clock = VenueClock(clock)
        self.spoke_ns = 0  # monotonic; the last answer
        self._keys = keys
        self._clock = clock
        self._endpoint = endpoint
        self._timeouts = timeouts
        self._library: Any = None
        self._client: Any = None
        self._threads: dict[str, ThreadPoolExecutor] = {}
        self._jobs: set[Future[Any]] = set()

    async def open(self) -> None:
        """Make the client; nothing is sent. Raises VenueUnavailable for keys that are none."""
        key, secret = self._keys
        if not key or not secret:
            raise VenueUnavailable(f"{TITLE} needs an API key ID and its secret; add them to the account")
        self._library = await load_library()
        self._client = self._library.rest_client(
            self.kind, key, secret, self._timeouts, self._endpoint, _ORDER_THREADS + _QUERY_THREADS
        )
        self._threads = {
            "orders": ThreadPoolExecutor(_ORDER_THREADS, thread_name_prefix="alpaca orders"),
            "queries": ThreadPoolExecutor(_QUERY_THREADS, thread_name_prefix="alpaca queries"),
        }

    async def close(self) -> None:
        """Let go of threads and connections. Safe to call twice.

        What is under way is waited for, but not for long, and then broken off.
        """
        threads, self._threads = self._threads, {}
        client, self._client = self._client, None
        for pool in threads.values():
            pool.shutdown(wait=False, cancel_futures=True)
        under_way = [asyncio.wrap_future(job) for job in self._jobs if not job.done()]
        if stuck := await still_running(under_way, _CLOSE_S):
            self._library.break_off(client)
            for future in await still_running(stuck, _CLOSE_S):
                future.cancel()
        if client is not None:
            client._session.close()

    # ---- requests ------------------------------------------------------------------------------------------------

    async def read(
        self,
        what: str,
        call: Call[T],
        *,
        priority: Priority = Priority.QUERY,
        attempts: int = 3,
        insist: bool = False,
    ) -> T:
        """Ask what changes nothing there, again where that can help. Raises VenueError.

        With `insist` Alpaca is asked, once, also while the breaker would have it left alone.
        """

        async def attempt() -> T:
            await self.budget.acquire(priority, within_s=TURN_S)
            return await self.queries.call(lambda: self._once("queries", what, call, has_effect=False), insist=insist)

        return await self._again(attempt, 1 if insist and self.queries.state == OPEN else attempts)

    async def order(self, what: str, call: Call[T], departure: Departure | None = None) -> T:
        """Send an order or its change, once; nothing is written before its departure, where it has one.

        Raises VenueRejected (a certain no), VenueUnavailable (certainly not sent, the breaker's refusal included) and
        VenueTimeout (not known).
        """
        await self.budget.acquire(Priority.ORDER, within_s=TURN_S)
        return await self.orders.call(lambda: self._once("orders", what, call, has_effect=True, departure=departure))

    async def cancel(self, what: str, call: Call[T]) -> T:
        """Send a cancel, again where that can help: twice does no harm. Raises VenueError."""

        async def attempt() -> T:
            await self.budget.acquire(Priority.CANCEL, within_s=TURN_S)
            return await self._once("orders", what, call, has_effect=True)

        return await self._again(attempt, 3)

    async def _again(self, attempt: Callable[[], Awaitable[T]], attempts: int) -> T:
        again = transient_retry(
            attempts=attempts,
            total_s=2 * self._timeouts.request_s,
            first_wait_s=self._timeouts.first_backoff_s,
            on=SAFE_TO_REREAD,
        )
        return await again(attempt)()

    async def _once(
        self, lane: str, what: str, call: Call[T], *, has_effect: bool, departure: Departure | None = None
    ) -> T:
        if self._client is None:
            raise VenueUnavailable(f"{TITLE} is not connected: nothing was sent")
        late_ns = self._clock.monotonic_ns() + round(self._timeouts.request_s * 1e9)
        leave = departure and partial(_leave, departure, asyncio.get_running_loop())
        job = self._threads[lane].submit(
            self._library.perform, call, self._client, lambda: self._clock.monotonic_ns() >= late_ns, leave
        )
        self._jobs = {each for each in self._jobs if not each.done()} | {job}
        try:
            async with asyncio.timeout(self._timeouts.request_s):
                answer = await asyncio.wrap_future(job)
        except TimeoutError as error:
            # what no thread has taken up yet is certain never to be sent
            cause = TooLateError("no thread was free in time") if job.cancel() else error
            raise self._in_our_words(what, cause, has_effect and _is_gone(departure)) from cause
        self._note(answer.status, answer.headers)
        if isinstance(answer.error, HeldBack):
            raise answer.error
        if answer.error is not None:
            raise self._in_our_words(what, answer.error, has_effect and _is_gone(departure)) from answer.error
        value: T = answer.value
        return value

    def _in_our_words(self, what: str, error: Exception, has_effect: bool) -> VenueError:
        pause_s = self.budget.held_s or None if diagnose(error) is Trouble.RATE else None
        return explain(what, error, has_effect=has_effect, pause_s=pause_s)

    def _note(self, status: int, headers: dict[str, str]) -> None:
        """Feed the budget: how much is used, and how long to wait after 429."""
        if not status:
            return
        self.spoke_ns = self._clock.monotonic_ns()
        limit, left = headers.get("x-ratelimit-limit", ""), headers.get("x-ratelimit-remaining", "")
        if status == 429:
            self.budget.hold(self._pause_s(headers))
        elif limit.isdigit() and left.isdigit():
            self.budget.told(MINUTE, min(int(limit) - int(left), PER_MINUTE))

    def _pause_s(self, headers: dict[str, str]) -> float:
        reset, after = headers.get("x-ratelimit-reset", ""), headers.get("retry-after", "")
        pause_s = _PAUSE_S
        if after.isdigit():
            pause_s = float(after)
        elif reset.isdigit():
            pause_s = int(reset) - self.venue_clock.time_ns() / 1e9
        return min(max(pause_s, 1.0), _LONGEST_PAUSE_S)

    async def ask_time(self, *, attempts: int = 3) -> dict[str, Any]:
        """Ask for the market's clock, set ours by it, and give what it says. Raises VenueError."""
        sent_ns = self._clock.monotonic_ns()
        told = await self.read("its time", get_row("/clock"), attempts=attempts)
        received_ns = self._clock.monotonic_ns()
        try:
            self.venue_clock.answered(time_ns(told.get("timestamp")), sent_ns, received_ns)
        except ValueError as error:
            raise VenueUnavailable(f"{TITLE} sent no time that can be read: {error}") from error
        return told
