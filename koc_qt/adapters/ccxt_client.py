"""What every venue that speaks through ccxt.pro shares: the connection, its errors in our words, the venue's clock.

ccxt itself is used as it is; a subclass adds what its streams lack in a process that runs for months: a message that
cannot be read does not end a stream in silence, every task can be ended, and reconnecting is paced by us.
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
import sys
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from koc_qt.domain.errors import ConfigError, VenueError, VenueRejected, VenueTimeout, VenueUnavailable
from koc_qt.ports.clock import Clock
from koc_qt.resilience import SAFE_TO_REREAD, Breaker, transient_retry

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")

_LONGEST_TEXT = 300  # characters of a venue's own words that an error repeats


class LoopbackEndpoint(msgspec.Struct, frozen=True):
    """Where every host name of a venue leads instead of the internet, and the CA file that vouches for it.

    URLs, TLS and ports stay as they are, so that the client library behaves as it does in production.
    """

    host: str
    port: int
    ca_file: str

    @classmethod
    def parse(cls, address: str, ca_file: str) -> LoopbackEndpoint:
        """Read ``host:port``. Raises ConfigError."""
        host, colon, port = address.rpartition(":")
        if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError(f"{address!r} is not an address: write HOST:PORT, such as 127.0.0.1:8443")
        if not ca_file:
            raise ConfigError(f"resolving a venue to {address} needs the CA file that its certificate is signed by")
        return cls(host, int(port), ca_file)


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


class Watcher:
    """Whoever awaits a stream; ccxt's `watch_*` leaves here which connection it uses."""

    url: str = ""


WATCHER: ContextVar[Watcher | None] = ContextVar("WATCHER", default=None)


class _TaskKeeper:
    """The event loop as ccxt sees it: the same loop, but what is started on it can be ended again."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Task[Any]] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def create_task(self, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        """Start a task and remember it."""
        task = self._loop.create_task(coroutine, **options)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def end(self) -> None:
        """Cancel what still runs and wait for it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Resolver:
    """Leads every name to one address; an aiohttp resolver."""

    def __init__(self, endpoint: LoopbackEndpoint) -> None:
        self._endpoint = endpoint

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[dict[str, Any]]:
        """Answer with the loopback's address and port, whatever was asked for."""
        address = {"hostname": host, "host": self._endpoint.host, "port": self._endpoint.port}
        return [{**address, "family": family or 2, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        """Nothing is held."""


def _tls(endpoint: LoopbackEndpoint | None) -> ssl.SSLContext:
    import certifi

    try:
        return ssl.create_default_context(cafile=endpoint.ca_file if endpoint else certifi.where())
    except (OSError, ssl.SSLError) as error:
        where = endpoint.ca_file if endpoint else certifi.where()
        raise ConfigError(f"{where} cannot be read as a file of CA certificates: {error}") from error


def _session(endpoint: LoopbackEndpoint | None, tls: ssl.SSLContext) -> aiohttp.ClientSession:
    """Make the session that ccxt uses for requests and streams."""
    import aiohttp

    resolver: Any = _Resolver(endpoint) if endpoint else None
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls, resolver=resolver))


def _exchange_class(exchange_id: str) -> Any:
    """Import ccxt, which takes the better part of a second, and give the venue's class with our additions."""
    original: Any = getattr(importlib.import_module(f"ccxt.pro.{exchange_id}"), exchange_id)
    errors: Any = importlib.import_module("ccxt.base.errors")

    class Watched(original):  # type: ignore[misc]
        """ccxt's class, watched over."""

        heard: Callable[[str], None]
        unreadable: Callable[[Exception], None]

        def client(self, url: str) -> Any:
            """Give the connection, hardened: ccxt ends its receive loop without a word when a message raises."""
            connection = super().client(url)
            if "handle_text_or_binary_message" not in vars(connection):
                read = connection.handle_text_or_binary_message

                def read_safely(data: Any) -> None:
                    try:
                        read(data)
                    except Exception as error:  # whatever ccxt trips over, the stream goes on
                        self.unreadable(error)
                    else:
                        self.heard(url)

                connection.handle_text_or_binary_message = read_safely
            return connection

        def watch(self, url: str, *args: Any, **kwargs: Any) -> Any:
            """Leave word of the connection."""
            _note(url)
            return super().watch(url, *args, **kwargs)

        def watch_multiple(self, url: str, *args: Any, **kwargs: Any) -> Any:
            """Leave word of the connection."""
            _note(url)
            return super().watch_multiple(url, *args, **kwargs)

        def ws_dial_delay(self, url: str) -> float:
            """Dial at once: reconnects are paced by who asks for them."""
            return 0.0

        def on_rest_response(self, code: int, reason: str, url: str, *args: Any) -> Any:
            """Refuse web pages and the like, of which ccxt would make an empty answer."""
            body = super().on_rest_response(code, reason, url, *args)
            if code < 400 and not (body.startswith(("{", "[")) and body.endswith(("}", "]"))):
                raise errors.ExchangeNotAvailable(f"{url} answered with {body[:40]!r} instead of data")
            return body

        def parse_ohlcvs(self, ohlcvs: Any, market: Any = None, timeframe: str = "1m", *_: Any, **__: Any) -> Any:
            """Leave every row in: ccxt's filter by time would drop those that have none without a word."""
            return super().parse_ohlcvs(ohlcvs, market, timeframe)

    return Watched


def _note(url: str) -> None:
    watcher = WATCHER.get()
    if watcher is not None:
        watcher.url = url


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
        self._tasks: _TaskKeeper | None = None
        self._held_until_ns = 0  # monotonic; the venue asked to be left alone until then

    async def open(
        self,
        exchange_id: str,
        options: Mapping[str, Any],
        endpoint: LoopbackEndpoint | None,
        heard: Callable[[str], None],
        unreadable: Callable[[Exception], None],
    ) -> None:
        """Make the exchange object; nothing is sent yet. Raises ConfigError.

        `heard` is called with a connection's URL for each message on it, `unreadable` for each that ccxt fails on.
        """
        if f"ccxt.pro.{exchange_id}" not in sys.modules:
            await _off_the_loop(lambda: importlib.import_module(f"ccxt.pro.{exchange_id}"))
        tls = _tls(endpoint)
        self._session = _session(endpoint, tls)
        self._tasks = _TaskKeeper(asyncio.get_running_loop())
        streaming = {"keepAlive": round(self._timeouts.ping_s * 1000), "maxPingPongMisses": 2}
        config = {
            "session": self._session,
            "asyncio_loop": self._tasks,
            "timeout": round(self._timeouts.request_s * 1000),
            "streaming": streaming,
            "options": {**options, "ws": {"connectionTimeout": max(1000, round(self._timeouts.dial_s * 1000))}},
            "timeout_on_exit": 0,
        }
        self._exchange = _exchange_class(exchange_id)(config)
        self._exchange.ssl_context = tls
        self._exchange.heard, self._exchange.unreadable = heard, unreadable

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
        if isinstance(error, VenueError):
            return error
        import ccxt

        text = " ".join(str(error).split())[:_LONGEST_TEXT]
        if isinstance(error, ccxt.RequestTimeout | TimeoutError):
            return VenueTimeout(f"{self.venue} did not answer in time ({what})")
        if isinstance(error, ccxt.DDoSProtection | ccxt.RateLimitExceeded):
            return self._hold(what, text)
        if isinstance(error, ccxt.ExchangeError) and not isinstance(error, ccxt.ExchangeClosedByUser):
            return VenueRejected(f"{self.venue} refused {what}: {text}")
        if isinstance(error, ccxt.BaseError | OSError):
            return VenueUnavailable(f"{self.venue} cannot be reached ({what}): {text}")
        return VenueUnavailable(f"{self.venue} sent what cannot be read ({what}): {type(error).__name__}: {text}")

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

    def _hold(self, what: str, text: str) -> VenueUnavailable:
        """Leave the venue alone for as long as it asks: going on after 429 is what gets an address banned (418)."""
        headers = {str(k).lower(): v for k, v in (self.exchange.last_response_headers or {}).items()}
        try:
            pause_s = min(max(float(headers.get("retry-after", "")), 1.0), 86_400.0)
        except ValueError:
            pause_s = 10.0
        self._held_until_ns = self._clock.monotonic_ns() + round(pause_s * 1e9)
        return _after(
            VenueUnavailable(f"{self.venue} asks us to slow down and wait {pause_s:g} s ({what}): {text}"), pause_s
        )

    def _refuse_while_held(self) -> None:
        left_s = (self._held_until_ns - self._clock.monotonic_ns()) / 1e9
        if left_s > 0:
            raise _after(VenueUnavailable(f"{self.venue} asked us to wait; {left_s:.0f} s are left"), left_s)


def _after(error: VenueUnavailable, pause_s: float) -> VenueUnavailable:
    error.retry_after_s = pause_s
    return error
