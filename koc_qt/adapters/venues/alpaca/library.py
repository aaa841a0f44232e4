"""All that touches the vendor's library (alpaca-py): import this in a thread, for it takes seconds.

The library is used as it is, with what it lacks added from outside. Its REST client has no time-outs, and repeats what
was answered with 429 or 504 by itself, new orders included: a mounted adapter gives every request its time, and
repeating is switched off. Its streams say nothing of connections that come and go: subclasses do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakSet

import msgpack  # type: ignore[import-untyped]
import msgspec
import websockets
from alpaca.common.rest import RESTClient
from alpaca.data.historical import CryptoHistoricalDataClient, StockHistoricalDataClient
from alpaca.data.live import CryptoDataStream, StockDataStream
from alpaca.trading.client import TradingClient
from alpaca.trading.stream import TradingStream
from certifi import where
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError

from koc_qt.adapters.ccxt_client import LoopbackEndpoint, Timeouts
from koc_qt.adapters.venues.alpaca.errors import PageError, TooLateError

__all__ = ["Answer", "RESTClient", "StreamEar", "market_stream", "perform", "rest_client", "trading_stream"]

logging.getLogger("alpaca").setLevel(logging.CRITICAL)  # it logs each lost connection with a traceback; we say it once
logging.getLogger("websockets").setLevel(logging.INFO)  # below, it logs every frame, and the first holds the keys

_TRUST = ssl.create_default_context(cafile=where())  # as the REST client has it; made here, for it takes a while
_LOOK_S = 5.0  # whether it is to stop, or was silent for too long
_MARKET_DATA = ("t", "q")  # trades and quotes, for nothing else is asked
_CLOSE_S = 0.5  # websockets waits up to five times that long for a goodbye


class Answer(msgspec.Struct, frozen=True):
    """What became of a request: its value, or why it failed; and the answer's headers, names in lower case."""

    value: Any = None
    error: Exception | None = None
    status: int = 0
    headers: dict[str, str] = {}


class _Turn(threading.local):
    """The request that this thread makes: until when it may be sent, what it waits for, and how it was answered."""

    def __init__(self) -> None:
        self.is_late: Callable[[], bool] | None = None
        self.leave: Callable[[], None] | None = None
        self.response: Response | None = None

    def begin(self, is_late: Callable[[], bool], leave: Callable[[], None] | None) -> None:
        self.is_late, self.leave, self.response = is_late, leave, None

    def end(self) -> Response | None:
        response, self.is_late, self.response = self.response, None, None
        return response


_turn = _Turn()


def perform(
    call: Callable[[RESTClient], Any],
    client: RESTClient,
    is_late: Callable[[], bool],
    leave: Callable[[], None] | None = None,
) -> Answer:
    """Make one request in this thread; nothing is sent once `is_late` says so, nor before `leave` has returned.

    Raises nothing but bugs.
    """
    _turn.begin(is_late, leave)
    value, failure = None, None
    try:
        if is_late():
            raise TooLateError("its turn came too late")
        value = call(client)
    except Exception as error:
        failure = error
    response = _turn.end()
    if response is None:
        return Answer(value, failure)
    response.raw.close()  # an error would keep its socket open for as long as it is kept itself
    headers = {name.lower(): text for name, text in response.headers.items()}
    return Answer(value, failure, response.status_code, headers)


class _Connection(HTTPSConnection):
    """A connection that is not used where making it took so long that nobody waits for the request any more."""

    def connect(self) -> None:
        """Connect. Raises NewConnectionError: nothing was sent."""
        super().connect()
        if _turn.is_late is not None and _turn.is_late():
            self.close()
            raise NewConnectionError(self, "connecting took too long")

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Write a request that is whole on a connection that is there, once it may go. Raises what keeps it back."""
        if _turn.leave is not None:
            _turn.leave()
        super().request(*args, **kwargs)


class _Pool(HTTPSConnectionPool):
    """Remembers the connections that requests are made on now, so that they can be broken off."""

    ConnectionCls = _Connection

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._made: WeakSet[Any] = WeakSet()

    def _new_conn(self) -> Any:
        made = super()._new_conn()
        self._made.add(made)
        return made

    def break_off(self) -> None:
        """End every connection under whoever waits on it."""
        for made in list(self._made):
            sock = made.sock
            if sock is not None:
                with contextlib.suppress(OSError):  # it has ended meanwhile
                    sock.shutdown(socket.SHUT_RDWR)


class _Adapter(HTTPAdapter):
    """Gives requests their time-outs, leads them to a loopback server, and notes how they were answered."""

    def __init__(self, timeouts: Timeouts, endpoint: LoopbackEndpoint | None, connections: int) -> None:
        self._timeouts = (timeouts.dial_s, timeouts.request_s)
        self._endpoint = endpoint
        super().__init__(pool_connections=1, pool_maxsize=connections, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools of our kind of connection."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {
            **self.poolmanager.pool_classes_by_scheme,
            "https": _Pool,
        }

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        """Say where to connect to; the certificate has to be the venue's in any case."""
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        if self._endpoint is None:
            return host, pool
        name = host["host"]
        led = {**host, "host": self._endpoint.host, "port": self._endpoint.port}
        return led, {**pool, "server_hostname": name, "assert_hostname": name}

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        """Send within the time. Raises PageError for a redirection, which the library would take for success."""
        kwargs["timeout"] = kwargs.get("timeout") or self._timeouts
        if self._endpoint is not None:
            kwargs["verify"] = self._endpoint.ca_file  # also where the environment names other authorities
            request.headers["Host"] = (request.url or "").split("/")[2]
        response = super().send(request, *args, **kwargs)
        _turn.response = response
        if 300 <= response.status_code < 400:
            raise PageError(f"a redirection to {response.headers.get('location', 'nowhere')[:100]}")
        return response

    def break_off(self) -> None:
        """End the requests that are under way."""
        pools: Any = self.poolmanager.pools
        for key in pools.keys():  # noqa: SIM118  # it is no mapping that can be iterated
            pools[key].break_off()

    def close(self) -> None:
        """Close every connection; urllib3 leaves that to whoever is the last to hold a pool, such as an old error."""
        pools = self.poolmanager.pools
        for key in pools.keys():  # noqa: SIM118  # it is no mapping that can be iterated
            pools[key].close()
        super().close()


def rest_client(
    kind: str, key: str, secret: str, timeouts: Timeouts, endpoint: LoopbackEndpoint | None, connections: int
) -> RESTClient:
    """Make a client: of the account (``paper``, ``live``) or of market data (``stocks``, ``crypto``)."""
    client: RESTClient
    if kind in ("paper", "live"):
        client = TradingClient(key, secret, paper=kind == "paper", raw_data=True)
    else:
        made = StockHistoricalDataClient if kind == "stocks" else CryptoHistoricalDataClient
        client = made(key, secret, raw_data=True)
    client._retry = 0  # nothing in its constructor can say so: zero there means three
    client._session.mount("https://", _Adapter(timeouts, endpoint, connections))
    return client


def break_off(client: RESTClient) -> None:
    """End the requests of a client that are under way."""
    adapter: Any = client._session.get_adapter("https://")
    adapter.break_off()


# ---- streams ---------------------------------------------------------------------------------------------------------


class StreamEar(Protocol):
    """Hears what becomes of a stream; called on the loop, and must not raise."""

    def is_open(self) -> None:
        """A connection was made and authenticated."""
        ...

    def message(self, message: dict[str, Any]) -> None:
        """The venue said something."""
        ...

    def caught_up(self) -> None:
        """All that has come so far was told."""
        ...

    def unreadable(self, error: Exception) -> None:
        """What came is no message; the connection stays."""
        ...

    def is_lost(self, error: Exception | None) -> None:
        """The connection was lost or could not be made; it is tried again after `pause_s`."""
        ...

    def pause_s(self) -> float:
        """Count a failure and give how long to wait after it."""
        ...


class _Told:
    """What a stream of the library tells besides, mixed in before it."""

    ear: StreamEar
    dial_s: float
    is_ended = False
    _trouble: Exception | None = None

    async def _start_ws(self) -> None:
        self._trouble = None
        try:
            async with asyncio.timeout(self.dial_s):  # the library would wait for a silent venue for ever
                await super()._start_ws()  # type: ignore[misc]
        except Exception as error:
            self._trouble = error
            raise
        self.ear.is_open()

    async def _consume(self) -> Any:
        try:
            is_mute = await super()._consume()  # type: ignore[misc]
        except (websockets.WebSocketException, OSError) as error:
            self._trouble = error
            raise
        except Exception as error:  # the library goes on with the next message
            self.ear.unreadable(error)
            raise
        if is_mute:
            self._trouble = TimeoutError("it was silent for too long")
        return is_mute

    async def _dispatch(self, msg: dict[str, Any]) -> None:
        if self.is_ended:  # the message came together with a cancel, which `asyncio.wait_for` has lost
            raise asyncio.CancelledError
        self.ear.message(msg)

    async def _wait_before_reconnect(self, retries: int) -> None:
        self.ear.is_lost(self._trouble)
        await asyncio.sleep(self.ear.pause_s())


class _Drained:
    """Takes all market data that has come at one go, where the library makes a task and a timer for each message."""

    ear: StreamEar

    async def _consume(self: Any) -> bool:
        """Take messages until the stream is to stop (False) or was silent for too long (True)."""
        loop = asyncio.get_running_loop()
        heard_s, self._data_received = loop.time(), False
        while self._stop_stream_queue.empty():
            silence_s = loop.time() - heard_s
            if self._data_timeout is not None and silence_s >= self._data_timeout:
                await self.close()
                return True
            try:
                async with asyncio.timeout(min(_LOOK_S, (self._data_timeout or silence_s + _LOOK_S) - silence_s)):
                    while self._stop_stream_queue.empty():
                        if self._take(await self._ws.recv()):
                            heard_s, self._data_received = loop.time(), True
            except TimeoutError:
                continue
        self._stop_stream_queue.get_nowait()
        await self.close()
        return False

    def _take(self: Any, frame: bytes) -> bool:
        """Tell what a frame says; whether any of it was market data."""
        is_data = False
        try:
            for message in msgpack.unpackb(frame):
                is_data |= message.get("T") in _MARKET_DATA and "S" in message
                self.ear.message(message)
        finally:
            if not self._ws.messages:
                self.ear.caught_up()
        return is_data


class _StockStream(_Told, _Drained, StockDataStream):
    pass


class _CryptoStream(_Told, _Drained, CryptoDataStream):
    pass


class _TradingStream(_Told, TradingStream):
    pass


def _parameters(timeouts: Timeouts, endpoint: LoopbackEndpoint | None) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "open_timeout": timeouts.dial_s,
        "close_timeout": _CLOSE_S,
        "ping_interval": timeouts.ping_s,
        "ping_timeout": timeouts.ping_s,
        "max_queue": 1024,
        "ssl": _TRUST,
    }
    if endpoint is not None:
        trust = ssl.create_default_context(cafile=endpoint.ca_file)
        parameters |= {"host": endpoint.host, "port": endpoint.port, "ssl": trust}
    return parameters


def market_stream(
    crypto: bool, key: str, secret: str, timeouts: Timeouts, endpoint: LoopbackEndpoint | None, ear: StreamEar
) -> Any:
    """Make a stream of trades and quotes: of stocks from IEX, or of crypto. Run it with `run_stream`."""
    parameters = _parameters(timeouts, endpoint)
    stream: Any
    if crypto:  # which trades at all hours: what is mute for so long is not quiet, but broken
        silence_s = timeouts.trade_silence_s
        stream = _CryptoStream(key, secret, raw_data=True, websocket_params=parameters, data_timeout=silence_s)
    else:
        stream = _StockStream(key, secret, raw_data=True, websocket_params=parameters)
    stream.ear, stream.dial_s = ear, timeouts.dial_s
    return stream


def trading_stream(
    paper: bool, key: str, secret: str, timeouts: Timeouts, endpoint: LoopbackEndpoint | None, ear: StreamEar
) -> Any:
    """Make the stream of an account's trade updates. Run it with `run_stream`."""
    parameters = _parameters(timeouts, endpoint)
    stream = _TradingStream(key, secret, paper=paper, raw_data=True, websocket_params=parameters)
    stream.ear, stream.dial_s = ear, timeouts.dial_s
    stream.subscribe_trade_updates(_unused)  # it does not start without; `message` hears everything before it
    return stream


async def _unused(_: object) -> None:
    """Stand for the handler that the library asks for."""


def want(stream: Any, symbol: str) -> None:
    """Note that trades and quotes of a symbol are wanted, for the next connection; see `subscribe`."""
    for channel in ("trades", "quotes"):
        stream._handlers[channel][symbol] = _unused


def forget(stream: Any, symbol: str) -> None:
    """Note that a symbol is not wanted any more, for the next connection."""
    for channel in ("trades", "quotes"):
        stream._handlers[channel].pop(symbol, None)


async def subscribe(stream: Any) -> None:
    """Ask a stream that is connected for all that is wanted.

    The library's own `subscribe_*` waits for this loop, from this loop, and loses what comes while it connects.
    """
    await stream._send_subscribe_msg()


async def unsubscribe(stream: Any, symbol: str) -> None:
    """Let go of a symbol on a stream that is connected."""
    for channel in ("trades", "quotes"):
        await stream._send_unsubscribe_msg(channel, [symbol])


def drop(stream: Any) -> None:
    """Give a stream's connection up, as if the network had: it reconnects."""
    transport = getattr(stream._ws, "transport", None)
    if transport is not None:
        transport.abort()


async def run_stream(stream: Any) -> None:
    """Run a stream until it is ended, reconnecting; it ends by itself where the keys' plan does not have it."""
    try:
        await stream._run_forever()
    finally:
        await stream.close()


async def end_stream(stream: Any, task: asyncio.Task[None]) -> None:
    """End a stream that `run_stream` runs in this task."""
    stream.is_ended = True
    await stream.stop_ws()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
