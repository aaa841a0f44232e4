"""The engine's messages to a worker that has nothing else to wait for."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import msgspec

from koc_qt.sdk.channel import FrameReader, HostMessage, decode_host
from koc_qt.worker.outbox import EngineGone, Outbox
from koc_qt.worker.replay_channel import ProtocolError

_READ_SIZE = 1 << 18
_LONGEST_WAIT_S = 60.0


def messages(channel: socket.socket, outbox: Outbox) -> Iterator[HostMessage]:
    """Give messages as they come, and send what waits meanwhile.

    Raises EngineGone when the engine closes the channel, ProtocolError on what cannot be understood.
    """
    reader = FrameReader()
    while True:
        outbox.flush()
        writers = [channel] if outbox.pending else []
        readable, _, _ = select.select([channel], writers, [], _LONGEST_WAIT_S)
        if not readable:
            continue
        try:
            for body in reader.feed(_read(channel)):
                yield decode_host(body)
        except (msgspec.DecodeError, ValueError) as error:
            raise ProtocolError(str(error)) from error


def _read(channel: socket.socket) -> bytes:
    try:
        data = channel.recv(_READ_SIZE)
    except BlockingIOError:
        return b""
    except OSError as error:
        raise EngineGone(str(error)) from error
    if not data:
        raise EngineGone("the engine closed the channel")
    return data
