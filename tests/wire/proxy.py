"""A CONNECT proxy that leads every tunnel to one server, as a company's proxy that sees through nothing.

For clients that can be given a proxy but no other address: their URLs, TLS and certificates stay as in production.
"""

from __future__ import annotations

import asyncio

from koc_qt.adapters.ccxt_client import LoopbackEndpoint

_HEAD_LIMIT = 16_384
_CHUNK = 65_536


class ConnectProxy:
    """Listens on 127.0.0.1; `url` is what clients are given, `asked` the hosts and ports that they wanted."""

    def __init__(self, endpoint: LoopbackEndpoint) -> None:
        self._endpoint = endpoint
        self._server: asyncio.Server | None = None
        self._tunnels: set[asyncio.Task[None]] = set()
        self.asked: list[str] = []
        self.refuse = False  # answer 502, as a proxy does that cannot reach the other side
        self.url = ""

    async def __aenter__(self) -> ConnectProxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_HEAD_LIMIT)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for tunnel in list(self._tunnels):
            tunnel.cancel()
        await asyncio.gather(*self._tunnels, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tunnel = asyncio.create_task(self._serve(reader, writer), name="tunnel")
        self._tunnels.add(tunnel)
        tunnel.add_done_callback(self._tunnels.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._tunnel(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # one side hung up: so does the other
        finally:
            writer.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, target, _ = head.split(" ", 2)
        self.asked.append(target)
        if method != "CONNECT" or self.refuse:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        far_reader, far_writer = await asyncio.open_connection(self._endpoint.host, self._endpoint.port)
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            ways = [asyncio.create_task(_pour(reader, far_writer)), asyncio.create_task(_pour(far_reader, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            far_writer.close()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
