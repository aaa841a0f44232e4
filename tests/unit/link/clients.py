"""Clients for the tests: what one has seen, and one that reads only when it is told to."""

from __future__ import annotations

import contextlib
from typing import Any

import zmq

from koc_qt.link.auth import secure_client
from koc_qt.link.codec import decode_fact, encode_command
from koc_qt.link.messages import (
    PROTOCOL,
    Command,
    Fact,
    FetchBars,
    Hello,
    Snapshot,
    Welcome,
)
from koc_qt.link.replica import Replica
from tests.conditions import until
from tests.fakes.link import BTC, FakeLink

FETCH = FetchBars(BTC, "1m", 10)


class Seen(list[Fact]):
    """Facts as they came, and a replica of them."""

    def __init__(self) -> None:
        super().__init__()
        self.replica = Replica()

    def __call__(self, fact: Fact) -> None:
        self.append(fact)
        self.replica.apply(fact)

    def of(self, kind: type[Any]) -> list[Any]:
        return [fact for fact in self if isinstance(fact, kind)]


class RawClient:
    """A client that sends and reads frames one at a time, and only when told to."""

    def __init__(self, link: FakeLink) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.reconnect_ivl = -1
        self.socket.rcvhwm = 10
        self.socket.setsockopt(zmq.RCVBUF, 16_384)
        secure_client(self.socket, link.keys.client, link.keys.engine.public)
        self.socket.connect(link.server.endpoint)
        self.number = 0

    def send(self, command: Command) -> int:
        self.number += 1
        self.socket.send(encode_command(self.number, command))
        return self.number

    async def body(self) -> bytes:
        async def arrived() -> list[bytes]:
            try:
                return self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return []

        return (await until(arrived, what="a frame"))[0]

    async def fact(self) -> tuple[int, Fact]:
        while True:
            body = await self.body()
            if body:
                envelope = decode_fact(body)
                return envelope.sequence, envelope.fact

    async def hello(self, name: str = "raw") -> None:
        self.send(Hello(PROTOCOL, "0", name))
        assert isinstance((await self.fact())[1], Welcome)
        assert isinstance((await self.fact())[1], Snapshot)

    def close(self) -> None:
        self.socket.close()
        self._context.term()


@contextlib.contextmanager
def raw(link: FakeLink) -> Any:
    client = RawClient(link)
    try:
        yield client
    finally:
        client.close()
