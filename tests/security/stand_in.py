"""A worker that does what it is told: it stands in for the strategy runtime behind the real lock-down.

A Describe carries Python source with a function `attack`, which is called and may use `channel`; what it gives back, or
how it failed, is answered as a LogLine. A StopRun ends it. All else is answered by its type's name, as an echo.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from koc_qt.sdk.channel import Describe, FrameReader, LogLine, Ready, Stopped, StopRun, decode_host, frame
from koc_qt.wiring.worker import serve


def outcome(source: str, channel: socket.socket | None = None) -> str:
    """Run an attack; the outcome begins with ``done``, or with ``failed`` and the error's type."""
    namespace: dict[str, Any] = {"channel": channel}
    try:
        exec(compile(source, "attack.py", "exec"), namespace)
        return f"done: {namespace['attack']()}"
    except Exception as error:
        return f"failed: {type(error).__name__}: {error}"


def run(channel: socket.socket, ready: Ready) -> int:
    """Answer the host until it goes away or says stop."""
    channel.sendall(frame(ready))
    reader = FrameReader()
    while data := channel.recv(65536):
        for body in reader.feed(data):
            message = decode_host(body)
            if isinstance(message, StopRun):
                channel.sendall(frame(Stopped(message.reason)))
                return 0
            text = (
                outcome(message.source.decode(), channel) if isinstance(message, Describe) else type(message).__name__
            )
            channel.sendall(frame(LogLine("INFO", text)))
    return 0


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1:], run))
