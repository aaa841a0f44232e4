"""Who may connect: CURVE on every socket, and the engine's answer to ZeroMQ's question about each key.

ZeroMQ asks over ZAP (https://rfc.zeromq.org/spec/27/) on a socket of the same context. Without a Gatekeeper in the
context the secured sockets let nobody in.
"""

from __future__ import annotations

import asyncio
from typing import Any

import zmq
from loguru import logger
from zmq.utils import z85

from koc_qt.domain.errors import LinkError
from koc_qt.link.keys import KeyPair, ProfileKeys, authorized_keys
from koc_qt.link.watch import Socket, SocketWatch

Context = zmq.Context[Any]

_ZAP_ENDPOINT = "inproc://zeromq.zap.01"
_ZAP_VERSION = b"1.0"
_DOMAIN = b"koc"
_HEARTBEAT_MS = 5_000
# A peer whose queue is full answers no heartbeats: a short patience would cut off whoever reads slowly.
_HEARTBEAT_TIMEOUT_MS = 30_000
_HANDSHAKE_MS = 5_000


def secure_server(socket: Socket, pair: KeyPair) -> None:
    """Make `socket` a CURVE server that asks the Gatekeeper about each client. Call it before bind."""
    socket.curve_server = True
    socket.curve_secretkey = pair.secret
    socket.zap_domain = _DOMAIN
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # no gatekeeper, no entry
    socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
    socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)


def secure_client(socket: Socket, pair: KeyPair, server_key: bytes) -> None:
    """Make `socket` a CURVE client of the engine whose public key is `server_key`. Call it before connect.

    It has no heartbeats of ZeroMQ's: a client that reads slowly would take the engine for dead, and libzmq 4.3.5 aborts
    a process whose socket reconnects by itself with a full queue (https://github.com/zeromq/libzmq/issues/3937).
    """
    socket.curve_serverkey = server_key
    socket.curve_publickey = pair.public
    socket.curve_secretkey = pair.secret
    socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)


def bind(socket: Socket, endpoint: str) -> str:
    """Bind, and give an endpoint for clients on this machine, with the port that was chosen. Raises LinkError."""
    socket.ipv6 = "[" in endpoint
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise LinkError(f"the engine cannot listen at {endpoint}: {error.strerror}; choose another endpoint") from error
    chosen = str(socket.getsockopt_string(zmq.LAST_ENDPOINT))
    return chosen.replace("://0.0.0.0:", "://127.0.0.1:")  # all interfaces: no address to connect to on Windows


class Gatekeeper:
    """Answers for one ZeroMQ context which client keys may enter; a key imported while it runs counts at once."""

    def __init__(self, context: Context, keys: ProfileKeys) -> None:
        self._context = context
        self._keys = keys
        self._socket: Socket | None = None
        self._watch: SocketWatch | None = None
        self._authorized: dict[bytes, str] = {}
        self.admitted = 0
        self.refused = 0

    def start(self) -> None:
        """Begin to answer, on the running loop. Raises LinkError where the authorised keys cannot be read."""
        self._authorized = authorized_keys(self._keys.folder)
        socket = self._context.socket(zmq.REP)
        socket.linger = 0
        try:
            bind(socket, _ZAP_ENDPOINT)
        except LinkError:
            socket.close()
            raise
        self._socket = socket
        self._watch = SocketWatch(asyncio.get_running_loop(), socket, self._drain)

    def close(self) -> None:
        """Answer no more, so that nobody new enters. Safe to call twice."""
        if self._watch is not None and self._socket is not None:
            self._watch.close()
            self._socket.close()
            self._watch = self._socket = None

    def _drain(self) -> None:
        while self._socket is not None:
            try:
                request = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            self._socket.send_multipart(self._answer(request))
        if self._watch is not None:
            self._watch.recheck()

    def _answer(self, request: list[bytes]) -> list[bytes]:
        # version, request id, domain, address, identity, mechanism, credentials
        number = request[1] if len(request) > 1 else b""
        name = self._name_of(request)
        if name is None:
            self.refused += 1
            address = request[3].decode(errors="replace") if len(request) > 3 else "an unknown address"
            logger.warning("refused a client at {}: its key is not among those in keys/authorized", address)
            return [_ZAP_VERSION, number, b"400", b"this key is not authorized", b"", b""]
        self.admitted += 1
        return [_ZAP_VERSION, number, b"200", b"", name.encode(), b""]

    def _name_of(self, request: list[bytes]) -> str | None:
        if len(request) != 7 or request[0] != _ZAP_VERSION or request[5] != b"CURVE" or len(request[6]) != 32:
            return None
        self._reload()
        return self._authorized.get(z85.encode(request[6]))

    def _reload(self) -> None:
        try:
            self._authorized = authorized_keys(self._keys.folder)
        except LinkError as error:
            logger.error("the authorised keys cannot be read, those known before still count: {}", error)
