"""What every dialect shares: requests, connections, and what goes wrong with them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from aiohttp import WSMsgType, web

from tests.wire.core.accounts import User
from tests.wire.core.faults import FaultMethods
from tests.wire.core.market import MarketFact
from tests.wire.core.orders import OrderUpdate, WireFill, WireOrder
from tests.wire.exchange import DONE, Exchange
from tests.wire.loopback import Socket, Stream, close_politely

MAINTENANCE_PAGE = "<html><body><h1>503</h1>Down for maintenance, we are back soon.</body></html>"


def compact(data: Any) -> str:
    """Write JSON as venues do."""
    return json.dumps(data, separators=(",", ":"))


class Call:
    """A request with its body read; `raw_path` is path and query exactly as they were sent, for signatures.

    `ip` is 127.0.0.1 here; keys that allow other addresses alone are refused.
    """

    def __init__(self, request: web.Request, body: bytes) -> None:
        self.request = request
        self.body = body
        self.method = request.method
        self.host = request.host.partition(":")[0]
        self.path = request.path
        self.raw_path = request.raw_path
        self.query = request.query
        self.query_string = request.raw_path.partition("?")[2]
        self.headers = request.headers
        self.ip = request.remote or ""

    @property
    def text(self) -> str:
        """The body."""
        return self.body.decode()

    def json(self) -> Any:
        """Read the body as JSON, None where it is empty. Raises ValueError."""
        return json.loads(self.body) if self.body else None

    def form(self) -> dict[str, str]:
        """Read the body as a form."""
        return dict(parse_qsl(self.text, keep_blank_values=True))


class Channel(Stream):
    """One WebSocket connection. `user` is set once it is authenticated, `topics` by what it subscribed to."""

    lets_others_run = True

    def __init__(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        super().__init__(request, socket, combined=False)
        self.host = request.host.partition(":")[0]
        self.path = request.path
        self.query = request.query
        self.headers = request.headers
        self.ip = request.remote or ""
        self.user: User | None = None
        self.topics: dict[str, Any] = {}
        self.state: dict[str, Any] = {}
        self.held: list[str | bytes] = []  # private frames that are to go out last to first

    def is_of(self, kind: str) -> bool:
        """Whether it is of a kind: `private`, `public`, or what a topic contains; everything is of the empty kind."""
        if kind in ("private", "public"):
            return (self.user is not None) is (kind == "private")
        return not kind or any(kind in topic for topic in self.topics)


class Dialect(FaultMethods):
    """A venue's protocol over the exchange; implements tests.wire.loopback.Site. See tests/wire/exchange.py."""

    venue: ClassVar[str]
    hosts: Sequence[str]
    ping_s: ClassVar[float | None] = 20.0  # None where the venue sends no WebSocket pings

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.channels: set[Channel] = set()
        self.failures: list[Exception] = []  # of this dialect's own code; `stop` raises the first
        self._stopping = asyncio.Event()
        self._late: list[Call] = []  # on their way still
        exchange.listeners.append(self)

    # ---- what a dialect says for itself ---------------------------------------------------------------------------

    async def rest(self, call: Call) -> web.StreamResponse:
        """Answer a request."""
        raise NotImplementedError

    async def heard(self, channel: Channel, text: str) -> None:
        """Take a frame that a client sent."""
        raise NotImplementedError

    async def opened(self, channel: Channel) -> None:
        """Greet a client that has connected."""

    def may_open(self, request: web.Request) -> web.Response | None:
        """Refuse a connection before it is upgraded; None lets it in."""
        return None

    def limited(self, call: Call, retry_after_s: float, banned: bool) -> web.Response:
        """Turn a request away for its rate."""
        headers = {"Retry-After": f"{retry_after_s:.0f}"}
        return web.Response(status=418 if banned else 429, text="Too many requests", headers=headers)

    def maintenance(self, call: Call) -> web.Response:
        """Answer while the venue is down for maintenance."""
        return web.Response(status=503, text=MAINTENANCE_PAGE, content_type="text/html")

    def decoded(self, data: bytes) -> str:
        """Give a binary frame as the text that `heard` takes."""
        return data.decode()

    def on_order(self, update: OrderUpdate) -> None:
        """Tell the user's streams."""

    def on_fill(self, order: WireOrder, fill: WireFill) -> None:
        """Tell the user's streams, where fills have frames of their own."""

    def on_balance(self, user: User, currencies: set[str]) -> None:
        """Tell the user's streams."""

    def on_market(self, event: MarketFact) -> None:
        """Tell public streams."""

    # ---- what it uses ---------------------------------------------------------------------------------------------

    def json(self, data: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
        """Make an answer."""
        return web.Response(status=status, text=compact(data), content_type="application/json", headers=headers)

    def of_user(self, user: User, topic: str = "") -> Iterator[Channel]:
        """Give the user's connections, those with a topic where one is named."""
        return (c for c in list(self.channels) if c.user is user and (not topic or topic in c.topics))

    def with_topic(self, topic: str) -> Iterator[Channel]:
        """Give the connections that subscribed to a topic."""
        return (channel for channel in list(self.channels) if topic in channel.topics)

    def send(self, channel: Channel, data: Any) -> None:
        """Send a public frame; data is written as JSON unless it is text, or bytes for a binary frame."""
        if "public" not in self.faults.silent:
            channel.send(data if isinstance(data, str | bytes) else compact(data))

    def send_private(self, channel: Channel, data: Any) -> None:
        """Send a private frame, through silence, duplication and reordering."""
        if "private" in self.faults.silent:
            return
        text = data if isinstance(data, str | bytes) else compact(data)
        faults = self.faults
        if faults.reorder > 0:
            channel.held.append(text)
            faults.reorder -= 1
            if faults.reorder == 0:
                for each in self.channels:
                    while each.held:
                        each.send(each.held.pop())
            return
        channel.send(text)
        if faults.duplicates > 0:
            faults.duplicates -= 1
            channel.send(text)

    def reply(self, channel: Channel, data: Any) -> None:
        """Answer a frame, unless the answer to what it did is to be lost."""
        if self.faults.take_lost(DONE.get() or set()):
            if self.faults.lost_how == "drop":
                channel.cut()
            return
        channel.send(data if isinstance(data, str | bytes) else compact(data))

    # ---- tests.wire.loopback.Site ---------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer REST, or become a stream; faults first."""
        try:
            return await self._handled(request)
        except ConnectionError:  # the client hung up
            raise
        except Exception as error:
            self.failures.append(error)
            raise

    async def _handled(self, request: web.Request) -> web.StreamResponse:
        self.exchange.run()
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._stream(request)
        call = Call(request, await request.read())
        if request.transport is not None and call.method == "POST" and self.faults.take_late(call.path):
            self._late.append(call)
            request.transport.abort()
            return web.Response(status=503)
        answer = await self._faulty(call)
        if answer is not None:
            return answer
        done: set[str] = set()
        DONE.set(done)
        answer = await self.rest(call)
        if self.faults.take_lost(done):
            if self.faults.lost_how == "hang":
                await self._stopping.wait()  # the client will have hung up before
            elif request.transport is not None:
                request.transport.abort()
        return answer

    async def let_arrive(self) -> None:
        """Let requests arrive that stayed on their way; nobody waits for the answers any more."""
        late, self._late = self._late, []
        for call in late:
            await self.rest(call)

    async def _faulty(self, call: Call) -> web.StreamResponse | None:
        fault = self.faults.take(call.path)
        if fault is not None:
            if fault.hang:
                await self._stopping.wait()
            return web.Response(status=fault.status, text=fault.body, headers=fault.headers)
        if self.faults.maintenance:
            return self.maintenance(call)
        limited = self.faults.take_limited()
        return None if limited is None else self.limited(call, limited.retry_after_s, limited.banned)

    async def stop(self) -> None:
        """End the market and every connection. Raises what the dialect itself failed with, so that tests fail too."""
        self._stopping.set()
        try:
            await self.exchange.stop()
        finally:
            for channel in list(self.channels):
                await channel.close()
                await close_politely(channel.socket)
        if self.failures:
            raise self.failures[0]

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if self.faults.refuse_streams or self.faults.maintenance:
            return web.Response(status=503, text="<html><body><h1>503 Service Unavailable</h1></body></html>")
        if self.faults.hang_streams:
            await self._stopping.wait()
        refused = self.may_open(request)
        if refused is not None:
            return refused
        socket = Socket(heartbeat=self.ping_s, compress=False)
        try:
            await socket.prepare(request)
        except ConnectionError:  # the client hung up meanwhile
            return web.Response(status=400)
        channel = Channel(request, socket)
        self.channels.add(channel)
        try:
            await self.opened(channel)
            async for message in socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    DONE.set(set())
                    data = message.data
                    await self.heard(channel, data if isinstance(data, str) else self.decoded(data))
        finally:
            self.channels.discard(channel)
            await channel.close()
        return socket
