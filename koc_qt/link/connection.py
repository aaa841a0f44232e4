"""One connection of a client to the engine: a socket that is never reused, and news of how it fares."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

import msgspec
import zmq

from koc_qt.domain.errors import LinkError
from koc_qt.link.auth import Context, secure_client
from koc_qt.link.codec import MAX_FACT
from koc_qt.link.keys import KeyPair
from koc_qt.link.rendezvous import NoEngineError
from koc_qt.link.watch import Socket, SocketWatch

_HIGH_WATER = 128
_RECEIVE_BUFFER = 256 << 10  # bytes
_TURN_S = 0.004  # of reading, before other work of the loop gets its turn
_EVENTS = (
    zmq.EVENT_CLOSED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
)


class EngineAddress(msgspec.Struct, frozen=True):
    """Where an engine listens, and its public key (40 characters of Z85)."""

    endpoint: str
    server_key: str


class RefusedError(LinkError):
    """The engine is there and does not take this client."""


class Connection:
    """A DEALER socket with its monitor. `on_end` is told why it ended, at most once, and never after `close`."""

    def __init__(
        self,
        context: Context,
        address: EngineAddress,
        pair: KeyPair,
        on_body: Callable[[bytes], None],
        on_end: Callable[[LinkError], None],
    ) -> None:
        """Begin to connect, on the running loop. Raises zmq.ZMQError for an endpoint that is none."""
        self._address = address
        self._on_body = on_body
        self._on_end = on_end
        self._greeted = False
        self._closed = False
        self._socket: Socket = context.socket(zmq.DEALER)
        self._monitor: Socket = self._socket.get_monitor_socket(int(_EVENTS))
        try:
            self._configure(pair)
            self._socket.connect(address.endpoint)
        except zmq.ZMQError:
            self._close_sockets()
            raise
        self._loop = loop = asyncio.get_running_loop()
        self._watch = SocketWatch(loop, self._socket, self.drain)
        self._monitor_watch = SocketWatch(loop, self._monitor, self._drain_monitor)

    def _configure(self, pair: KeyPair) -> None:
        socket = self._socket
        socket.linger = 0
        socket.ipv6 = "[" in self._address.endpoint
        socket.sndhwm = socket.rcvhwm = _HIGH_WATER
        socket.setsockopt(zmq.RCVBUF, _RECEIVE_BUFFER)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_FACT)
        # A lost connection is a lost session: the client makes a new one, with a new snapshot. A socket that reconnects
        # by itself with a full queue can also abort the process (https://github.com/zeromq/libzmq/issues/3937).
        socket.setsockopt(zmq.RECONNECT_IVL, -1)
        secure_client(socket, pair, self._address.server_key.encode())

    def send(self, body: bytes) -> bool:
        """Queue a body; False when the queue is full or the connection is over."""
        if self._closed:
            return False
        try:
            self._socket.send(body, zmq.NOBLOCK)
        except zmq.Again:
            return False
        self._watch.recheck()
        return True

    def drain(self) -> None:
        """Hand over what has arrived; as much as fits into a turn of the loop, the rest in the next ones."""
        until_s = self._loop.time() + _TURN_S
        while self._read():
            if self._loop.time() >= until_s:
                if not self._closed:
                    self._watch.call_soon()
                return
        if not self._closed:
            self._watch.recheck()

    def _read(self) -> bool:
        """Hand over one body; False when none is there."""
        if self._closed:
            return False
        try:
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return False
        self._on_body(frames[0] if len(frames) == 1 else b"\xc1")  # a byte that msgpack never uses
        return True

    def close(self) -> None:
        """Let go of the sockets; safe to call twice, and from `on_body`."""
        if self._closed:
            return
        self._closed = True
        self._watch.close()
        self._monitor_watch.close()
        self._close_sockets()

    def _close_sockets(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)

    def _drain_monitor(self) -> None:
        while not self._closed:
            try:
                frames = self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                self._monitor_watch.recheck()
                return
            event, _ = struct.unpack("=hi", frames[0])
            self._happened(event & 0xFFFF)

    def _happened(self, event: int) -> None:
        at = self._address.endpoint
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._greeted = True
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._end(
                RefusedError(
                    f"the engine at {at} does not let this key in: carry it there (`koc keys export FILE`) "
                    "and let it in (`koc keys import NAME FILE`)"
                )
            )
        elif self._greeted:
            while self._read():  # its last words, and what came before them
                pass
            self._end(LinkError("the connection to the engine was lost"))
        elif event == zmq.EVENT_CLOSED:
            self._end(NoEngineError(f"nothing listens at {at}: the engine is not running"))
        else:
            self._end(LinkError(f"what listens at {at} is not the engine whose key we have"))

    def _end(self, error: LinkError) -> None:
        if not self._closed:
            self.close()
            self._on_end(error)
