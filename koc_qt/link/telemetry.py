"""The telemetry bus: pulses on a ZeroMQ PUB socket, for any subscriber with a key. See docs/telemetry.md."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import zmq
from loguru import logger

from koc_qt.domain.errors import LinkError
from koc_qt.link.auth import Context, bind, secure_server
from koc_qt.link.keys import ProfileKeys
from koc_qt.link.watch import Socket

FORMAT = 1  # raised with every change that an older subscriber could not read
HIGH_WATER = 10_000  # messages that wait for one slow subscriber; newer ones are lost to it, as their numbers show


class Message(msgspec.Struct, frozen=True):
    """What a subscriber reads after the topic.

    `sequence` counts a topic's messages from 1 within one run of the engine, which `epoch_ns` (UTC nanoseconds of its
    start) names: a missing number is a lost message. `time_ns` is when it was published, UTC nanoseconds.
    """

    format: int
    epoch_ns: int
    topic: str
    sequence: int
    time_ns: int
    data: msgspec.Struct


class TelemetryPublisher:
    """Publishes to whoever listens; used from one thread. The context needs a Gatekeeper, or nobody is let in."""

    def __init__(
        self, context: Context, endpoint: str, keys: ProfileKeys, *, time_ns: Callable[[], int] = time.time_ns
    ) -> None:
        """Bind; `endpoint` then has the real port. Raises LinkError."""
        self.published = 0
        self._time_ns = time_ns
        self._epoch_ns = time_ns()
        self._sequences: dict[str, int] = {}
        self._encoder = msgspec.json.Encoder()
        self._socket: Socket = context.socket(zmq.PUB)
        self._socket.linger = 0
        self._socket.sndhwm = HIGH_WATER
        self._secure(keys)
        try:
            self.endpoint = bind(self._socket, endpoint)
        except LinkError:
            self._socket.close()
            raise

    def _secure(self, keys: ProfileKeys) -> None:
        secure_server(self._socket, keys.engine)

    def publish(self, topic: str, data: msgspec.Struct) -> None:
        """Send without blocking; never raises. A subscriber that does not keep up loses messages, and can tell."""
        if self._socket.closed:
            return
        sequence = self._sequences.get(topic, 0) + 1
        message = Message(FORMAT, self._epoch_ns, topic, sequence, self._time_ns(), data)
        try:
            self._socket.send_multipart([topic.encode(), self._encoder.encode(message)], zmq.NOBLOCK)
        except (TypeError, ValueError, OverflowError, zmq.ZMQError):
            logger.exception("telemetry on {} cannot be published", topic)
            return
        self._sequences[topic] = sequence
        self.published += 1

    def close(self) -> None:
        """Let go of the socket. Safe to call twice."""
        self._socket.close()
