"""What every venue that speaks through ccxt.pro shares: the connection, its errors in our words, the venue's clock."""

from __future__ import annotations

import asyncio
import importlib
import math
import sys
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from koc_qt.adapters.ccxt_errors import explain
from koc_qt.adapters.ccxt_exchange import (
    WATCHER,
    LoopbackEndpoint,
    TaskKeeper,
    Watcher,
    exchange_class,
    make_session,
    make_tls,
)
from koc_qt.domain.errors import VenueError, VenueUnavailable
from koc_qt.ports.clock import Clock
from koc_qt.resilience import SAFE_TO_REREAD, Breaker, transient_retry

if TYPE_CHECKING:
    import aiohttp

__all__ = ["WATCHER", "CcxtClient", "LoopbackEndpoint", "Timeouts", "VenueClock", "Watcher"]

T = TypeVar("T")

_PAUSE_S = 10.0  # after 429 or 418 without Retry-After
_LONGEST_PAUSE_S = 86_400.0


class Timeouts(msgspec.Struct, frozen=True):
    """How long anything may take, in seconds. `silence_s` is how long a stream of quotes or book may say nothing."""

    connect_s: float = 30.0
    request_s: float = 10.0
    dial_s: float = 10.0
    ping_s: float = 10.0
    silence_s: float = 30.0
    trade_silence_s: float = 300.0  # a thin market may go without a trade for long; pings notice a dead connection
    unsubscribe_s: float = 2.0
    first_backoff_s: float = 0.5
    max_backoff_s: float = 30.0


class VenueClock:
    """The venue's clock as well as it is known: set by asking, moved on by events that come from its future.

    It runs on the monotonic clock, so that setting this machine's clock does not move it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead_ns = clock.time_ns() - clock.monotonic_ns()

    def time_ns(self) -> int:
        """UTC nanoseconds since 1970 at the venue."""
        return self._clock.monotonic_ns() + self._ahead_ns

    def answered(self, venue_ns: int, sent_ns: int, received_ns: int) -> None:
        """Set it: the venue said `venue_ns` between two instants of the monotonic clock."""
        self._ahead_ns = venue_ns - (sent_ns + received_ns) // 2

    def saw(self, event_ns: int) -> None:
        """Note an event's time: the venue's clock cannot be behind what the venue has done."""
        self._ahead_ns = max(self._ahead_ns, event_ns - self._clock.monotonic_ns())


async def _off_the_loop(function: Callable[[], T]) -> T:
    """Run a slow import in a thread of its own, so that the loop goes on meanwhile."""
    with_thread = ThreadPoolExecutor(1, thread_name_prefix="import")
    try:
        return await asyncio.get_running_loop().run_in_executor(with_thread, function)
    finally:
        with_thread.shutdown(wait=False)


class CcxtClient:
    """One ccxt exchange object, its session, and requests that are bounded, retried and counted by the breaker."""

    def __init__(self, venue: str, clock: Clock, breaker: Breaker, timeouts: Timeouts) -> None:
        self.venue = venue
        self.breaker = breaker
        self._clock = clock
        self._timeouts = timeouts
        self._exchange: Any = None
        self._session: aiohttp.ClientSession | None = None
        self._tasks: TaskKeeper | None = None
        self._held_until_ns = 0  # monotonic; the venue asked to be left alone until then

    async def open(
        self,
        exchange_id: str,
        options: Mapping[str, Any],
        endpoint: LoopbackEndpoint | None,
        heard: Callable[[str], None],
        unreadable: Callable[[Exception], None],
        additions: Callable[[Any], Any] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Make the exchange object; nothing is sent yet. Raises ConfigError.

        `heard` is called with a connection's URL for each message on it, `unreadable` for each that ccxt fails on.
        `additions` makes a subclass of the venue's class, `settings` are ccxt's own, keys among them.
        """
        if f"ccxt.pro.{exchange_id}" not in sys.modules:
            await _off_the_loop(lambda: importlib.import_module(f"ccxt.pro.{exchange_id}"))
        tls = make_tls(endpoint)
        self._session = make_session(endpoint, tls)
        self._tasks = TaskKeeper(asyncio.get_running_loop())
        streaming = {"keepAlive": round(self._timeouts.ping_s * 1000), "maxPingPongMisses": 2}
        ours = {
            **(settings or {}),
            "session": self._session,
            "asyncio_loop": self._tasks,
            "timeout": round(self._timeouts.request_s * 1000),
            "streaming": streaming,
            "options": {**options, "ws": {"connectionTimeout": max(1000, round(self._timeouts.dial_s * 1000))}},
            "timeout_on_exit": 0,
        }
        self._exchange = exchange_class(exchange_id, additions)(ours)
        self._exchange.ssl_context = tls
        self._exchange.heard, self._exchange.unreadable = heard, unreadable
        self._exchange.answered = self._answered

    @property
    def exchange(self) -> Any:
        """The ccxt object. Raises VenueUnavailable while not connected."""
        if self._exchange is None:
            raise VenueUnavailable(f"{self.venue} is not connected; connect first")
        return self._exchange

    async def close(self) -> None:
        """End streams, requests and the session. Safe to call twice."""
        exchange, session, tasks = self._exchange, self._session, self._tasks
        self._exchange = self._session = self._tasks = None
        if session is not None:
            await session.close()  # first: ccxt would wait ten seconds for a silent venue to say goodbye
        if exchange is not None:
            await exchange.close()
        if tasks is not None:
            await tasks.end()

    async def read(self, what: str, call: Callable[[Any], Awaitable[T]], *, attempts: int = 4) -> T:
        """Ask the venue something that changes nothing there, trying again where that can help. Raises VenueError."""

        async def request() -> T:
            return await self._once(what, call)

        async def attempt() -> T:
            self._refuse_while_held()
            return await self.breaker.call(request)

        longest_s = self._timeouts.request_s * 2
        again = transient_retry(
            attempts=attempts, total_s=longest_s, first_wait_s=self._timeouts.first_backoff_s, on=SAFE_TO_REREAD
        )
        return await again(attempt)()

    async def _once(self, what: str, call: Callable[[Any], Awaitable[T]]) -> T:
        exchange = self.exchange
        try:
            async with asyncio.timeout(self._timeouts.request_s):
                return await call(exchange)
        except Exception as error:
            raise self.in_our_words(what, error) from error

    def in_our_words(self, what: str, error: Exception) -> VenueError:
        """Say a failure of ccxt as one of ours; `what` names the request. Keeps the pause that a venue asks for."""
        pause = math.ceil(max(self._held_s(), 0.0)) or None
        return explain(self.venue, what, error, pause_s=pause)

    def is_unknown_symbol(self, error: Exception) -> bool:
        """Tell whether the venue says that it has no such symbol (any more)."""
        import ccxt

        return isinstance(error, ccxt.BadSymbol)

    def drop(self, url: str, why: str) -> None:
        """Give a connection up, as if the network had; all who watch it get an error and reconnect."""
        import ccxt

        connection = self._connection(url)
        if connection is not None:
            connection.on_error(ccxt.RequestTimeout(f"{url}: {why}"))

    def drop_if_idle(self, url: str) -> None:
        """Give a connection up on which nothing is subscribed any more."""
        connection = self._connection(url)
        if connection is not None and not connection.subscriptions:
            self.drop(url, "nobody needs it")

    def _connection(self, url: str) -> Any:
        return self._exchange.clients.get(url) if self._exchange is not None else None

    def _answered(self, status: int, headers: Mapping[str, str]) -> None:
        """Leave the venue alone for as long as it asks: going on after 429 is what gets an address banned (418)."""
        if status in (418, 429):
            self._held_until_ns = self._clock.monotonic_ns() + round(pause_s(headers) * 1e9)

    def _held_s(self) -> float:
        return (self._held_until_ns - self._clock.monotonic_ns()) / 1e9

    def _refuse_while_held(self) -> None:
        left_s = self._held_s()
        if left_s > 0:
            raise _after(VenueUnavailable(f"{self.venue} asked us to wait; {left_s:.0f} s are left"), left_s)


def pause_s(headers: Mapping[str, str]) -> float:
    """Give for how many seconds an answer's headers (names in lower case) ask to be left alone."""
    try:
        asked_s = float(headers.get("retry-after", ""))
    except ValueError:
        return _PAUSE_S
    return min(max(asked_s, 1.0), _LONGEST_PAUSE_S) if asked_s == asked_s else _PAUSE_S


def _after(error: VenueUnavailable, pause: float) -> VenueUnavailable:
    error.retry_after_s = pause
    return error
