"""ccxt's own exchange objects as this program needs them: watched over, on a session of ours, led where we say.

A subclass adds what ccxt lacks in a process that runs for months: a message that cannot be read does not end a stream
in silence, every task can be ended, reconnecting is paced by us, and every answer's headers are seen.

ccxt reads a trade or a quote into some thirty fields by way of floats, which takes a tenth of a millisecond; of a busy
market's thousands a second that would fill a core. Venues' modules read those alone themselves, and hand them over by
`take_trades` and `take_quote`; whatever is not exactly as expected goes ccxt's way.
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from decimal import localcontext
from typing import TYPE_CHECKING, Any

import msgspec

from koc_qt.domain.errors import ConfigError
from koc_qt.ports.venue import depart

if TYPE_CHECKING:
    import aiohttp

_EPOCH, _MS = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
NOT_AS_EXPECTED = (KeyError, TypeError, ValueError, IndexError, AttributeError)  # a message that ccxt had better read
KEEP_ALIVE_S = 75.0  # an idle connection is kept as long as venues keep it; aiohttp would let go after 15 s


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


class Watcher:
    """Whoever awaits a stream; ccxt's `watch_*` leaves here which connection it uses."""

    url: str = ""


WATCHER: ContextVar[Watcher | None] = ContextVar("WATCHER", default=None)


class TaskKeeper:
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


def make_tls(endpoint: LoopbackEndpoint | None) -> ssl.SSLContext:
    """Trust the usual authorities, or the loopback's alone. Raises ConfigError."""
    import certifi

    try:
        return ssl.create_default_context(cafile=endpoint.ca_file if endpoint else certifi.where())
    except (OSError, ssl.SSLError) as error:
        where = endpoint.ca_file if endpoint else certifi.where()
        raise ConfigError(f"{where} cannot be read as a file of CA certificates: {error}") from error


def make_session(endpoint: LoopbackEndpoint | None, tls: ssl.SSLContext) -> aiohttp.ClientSession:
    """Make the session that ccxt uses for requests and streams; orders wait in it for their departure."""
    import aiohttp

    class Departing(aiohttp.ClientRequest):
        """A request that is whole, signed, and has its connection: what is left is to write it."""

        async def send(self, conn: Any) -> aiohttp.ClientResponse:
            """Write it once it may go. Raises HeldBack."""
            await depart()
            return await super().send(conn)

    resolver: Any = _Resolver(endpoint) if endpoint else None
    connector = aiohttp.TCPConnector(ssl=tls, resolver=resolver, keepalive_timeout=KEEP_ALIVE_S)
    return aiohttp.ClientSession(connector=connector, request_class=Departing)


def exchange_class(exchange_id: str, additions: Callable[[Any], Any] | None = None) -> Any:
    """Import ccxt, which takes the better part of a second, and give the venue's class with our additions.

    `additions` gives a subclass of the class that it is given: what a venue's module mends.
    """
    original: Any = getattr(importlib.import_module(f"ccxt.pro.{exchange_id}"), exchange_id)
    if additions is not None:
        original = additions(original)
    errors: Any = importlib.import_module("ccxt.base.errors")
    rounding: Any = importlib.import_module("ccxt.base.decimal_to_precision")
    new_trades: Any = importlib.import_module("ccxt.async_support.base.ws.cache").ArrayCache

    class Watched(original):  # type: ignore[misc]
        """ccxt's class, watched over."""

        heard: Callable[[str], None]
        unreadable: Callable[[Exception], None]
        answered: Callable[[int, Mapping[str, str]], None] | None = None  # each answer's status and headers
        venue_ms: Callable[[], int] | None = None  # the venue's clock, by which requests are signed
        last_nonce = 0

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.decimal_to_precision = _aside(rounding.decimal_to_precision)

        def client(self, url: str) -> Any:
            """Give the connection, hardened: ccxt ends its receive loop without a word when a message raises."""
            connection = super().client(url)
            if "handle_text_or_binary_message" not in vars(connection):
                read, take_text = connection.handle_text_or_binary_message, getattr(self, "take_text", None)

                def read_safely(data: Any) -> None:
                    try:
                        if take_text is None or not take_text(connection, data):
                            read(data)
                    except Exception as error:  # whatever ccxt trips over, the stream goes on
                        self.unreadable(error)
                    else:
                        self.heard(url)

                connection.handle_text_or_binary_message = read_safely
                promise = connection.future

                def future(message_hash: str) -> Any:
                    """Make a future whose failure is no news where nobody waits any more."""
                    made = promise(message_hash)
                    made.add_done_callback(_retrieve)
                    return made

                connection.future = future
            return connection

        def take_trades(self, client: Any, name: str, symbol: str, trades: Iterable[Sequence[Any]]) -> None:
            """Put trades (id, milliseconds, side, price, amount) with those that nobody has read yet.

            `name` is what their watchers wait for.
            """
            kept = self.trades.get(symbol)
            if kept is None:
                kept = self.trades[symbol] = new_trades(self.options["tradesLimit"])
            for trade_id, time_ms, side, price, amount in trades:
                told = {"symbol": symbol, "id": str(trade_id or ""), "timestamp": time_ms, "side": side}
                kept.append({**told, "price": plain(price), "amount": plain(amount)})
            client.resolve(kept, name)

        def take_quote(
            self, client: Any, name: str, kept: dict[str, Any], symbol: str, quote: Mapping[str, Any]
        ) -> None:
            """Put a quote in its predecessor's place; `name` is what its watchers wait for."""
            sizes = {key: plain(value) for key, value in quote.items()}
            kept[symbol] = told = {"symbol": symbol, "timestamp": None, **sizes}
            client.resolve(told, name)

        def spot_symbol(self, market_id: str) -> str:
            """Give the symbol of a spot market's id. Raises KeyError, ValueError."""
            [market] = [each for each in self.markets_by_id[market_id] if each["spot"]]
            return str(market["symbol"])

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

        def milliseconds(self) -> int:
            """Give the venue's time: every signature carries it, and this machine's clock may be wrong."""
            return self.venue_ms() if self.venue_ms is not None else int(super().milliseconds())

        def seconds(self) -> int:
            """Give the venue's time."""
            return self.milliseconds() // 1000

        def nonce(self) -> int:
            """Give a number that is above every earlier one, though the clock be set back."""
            if self.venue_ms is None:
                return int(super().nonce())
            self.last_nonce = max(self.milliseconds(), self.last_nonce + 1)
            return self.last_nonce

        def on_rest_response(self, code: int, reason: str, url: str, method: str, headers: Any, *args: Any) -> Any:
            """Refuse web pages and the like, of which ccxt would make an empty answer."""
            if self.answered is not None:
                self.answered(code, {str(name).lower(): str(value) for name, value in headers.items()})
            body = super().on_rest_response(code, reason, url, method, headers, *args)
            if code < 400 and not (body.startswith(("{", "[")) and body.endswith(("}", "]"))):
                raise errors.ExchangeNotAvailable(f"{url} answered with {body[:40]!r} instead of data")
            return body

        def parse_ohlcvs(self, ohlcvs: Any, market: Any = None, timeframe: str = "1m", *_: Any, **__: Any) -> Any:
            """Leave every row in: ccxt's filter by time would drop those that have none without a word."""
            return super().parse_ohlcvs(ohlcvs, market, timeframe)

    return Watched


def plain(number: Any) -> Any:
    """Give a number that is text without the zeros at its end."""
    return number.rstrip("0").rstrip(".") if isinstance(number, str) and "." in number else number


def iso_ms(text: str) -> int:
    """Give a time such as 2023-09-25T07:49:37.708706Z in whole milliseconds. Raises ValueError, TypeError."""
    return (datetime.fromisoformat(text) - _EPOCH) // _MS


def _aside(rounds: Callable[..., str]) -> Callable[..., str]:
    """Let ccxt round in a decimal context of its own: it changes those of the thread, and leaves them so."""

    def rounds_aside(*args: Any, **kwargs: Any) -> str:
        with localcontext():
            return rounds(*args, **kwargs)

    return rounds_aside


def _retrieve(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


def _note(url: str) -> None:
    watcher = WATCHER.get()
    if watcher is not None:
        watcher.url = url
