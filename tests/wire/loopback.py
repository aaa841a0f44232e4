"""A TLS server on 127.0.0.1 that is every host of a venue at once, and what tests may have go wrong with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from aiohttp import WSCloseCode, web

from koc_qt.adapters.ccxt_client import LoopbackEndpoint
from tests.wire.authority import Authority, make_authority

_SLOWEST = 20_000  # messages that a client may be behind before it is cut off, as venues do


@dataclass
class RestFault:
    """What a path answers instead, `times` times."""

    path: str
    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1_000_000
    hang: bool = False


class Faults:
    """What goes wrong, now or until it is set back."""

    def __init__(self) -> None:
        self.rest: list[RestFault] = []
        self.silent = False
        self.refuse_streams = False
        self.hang_streams = False
        self.hidden_symbols: set[str] = set()

    def take(self, path: str) -> RestFault | None:
        """Give the fault for this path, if there is one left."""
        for fault in self.rest:
            if path.startswith(fault.path) and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    def clear(self) -> None:
        """All is well again."""
        self.__init__()  # type: ignore[misc]


class Socket(web.WebSocketResponse):
    """Pings nobody once it is closed, as aiohttp's own may where data came in the moment in which it was closed."""

    def _reset_heartbeat(self) -> None:
        if not self.closed:
            super()._reset_heartbeat()


class Stream:
    """One WebSocket connection: what it subscribed to, and a queue of limited length towards it."""

    lets_others_run = False  # between two messages; else what is queued goes out in one burst

    def __init__(self, request: web.Request, socket: web.WebSocketResponse, *, combined: bool) -> None:
        self.subscribed: dict[str, None] = {}
        self.combined = combined
        self.socket = socket
        self._transport = request.transport
        self._queue: asyncio.Queue[str | bytes] = asyncio.Queue(_SLOWEST)
        self._writer = asyncio.create_task(self._write(), name="stream writer")

    def send(self, data: str | bytes) -> None:
        """Queue a message, bytes as a binary one; a client that reads too slowly is cut off."""
        try:
            self._queue.put_nowait(data)
        except asyncio.QueueFull:
            self.cut()

    async def _write(self) -> None:
        while True:
            data = await self._queue.get()
            if self._is_lost():
                return
            try:
                await (self.socket.send_str(data) if isinstance(data, str) else self.socket.send_bytes(data))
            except ConnectionError:
                return
            if self.lets_others_run:
                await asyncio.sleep(0)  # TLS says only then that the other side is gone: asyncio warns of more writes

    def _is_lost(self) -> bool:
        """Whether the socket below TLS has found the other side gone; TLS hears of it in a turn of the loop alone."""
        below = getattr(getattr(self._transport, "_ssl_protocol", None), "_transport", None)
        return below is not None and below.is_closing()

    def cut(self, *, mid_frame: bool = False) -> None:
        """Break the connection as a network does, without goodbye, perhaps in the middle of a frame."""
        if self._transport is not None:
            if mid_frame:
                self._transport.write(b'\x81\x7e\x04\x00{"e":"trade","s":')
            self._transport.abort()

    async def close(self) -> None:
        """End the writer."""
        self._writer.cancel()
        await asyncio.gather(self._writer, return_exceptions=True)


class Site(Protocol):
    """A venue's side of the protocol."""

    hosts: Sequence[str]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request to any of the hosts."""
        ...

    async def stop(self) -> None:
        """End what runs."""
        ...


class LoopbackServer:
    """Serves a site over TLS at one port; `endpoint` is what clients need to come here.

    `POST /_wire/faults` with `{"method": name, ...}` reaches the site's `fault_<name>` from another process.
    """

    def __init__(self, site: Site, folder: Path, port: int = 0) -> None:
        self.site = site
        self.requests: list[str] = []
        self._folder = folder
        self._port = port
        self._runner: web.AppRunner | None = None
        self.authority: Authority | None = None  # may be another server's, so that clients trust this one too
        self.endpoint: LoopbackEndpoint

    async def start(self) -> LoopbackEndpoint:
        """Listen."""
        authority = self.authority = self.authority or make_authority(self._folder, self.site.hosts)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=authority.server_context)
        await site.start()
        port = self._runner.addresses[0][1]
        self.endpoint = LoopbackEndpoint("127.0.0.1", port, str(authority.ca_file))
        return self.endpoint

    async def stop(self) -> None:
        """Close every connection and the port."""
        try:
            await self.site.stop()
        finally:
            if self._runner is not None:
                await self._runner.cleanup()

    async def __aenter__(self) -> LoopbackServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/_wire/faults":
            return await self._inject(request)
        host = request.host.partition(":")[0]
        if host not in self.site.hosts:
            return web.Response(status=421, text=f"{host} is not served here")
        if len(self.requests) < 10_000:
            self.requests.append(f"{request.method} {request.path_qs}")
        return await self.site.handle(request)

    async def _inject(self, request: web.Request) -> web.StreamResponse:
        order: dict[str, Any] = await request.json()
        method = getattr(self.site, f"fault_{order.pop('method', '')}", None)
        if method is None:
            return web.Response(status=404, text="no such fault")
        return web.Response(text=json.dumps(method(**order)))


async def close_politely(socket: web.WebSocketResponse) -> None:
    """Say goodbye; not waiting for long."""
    await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the server ends", drain=False)
