"""Tells an asyncio loop, of any kind, when a ZeroMQ socket may have something to do.

A ZeroMQ socket's descriptor only says that its state changed (it is "edge-triggered", see ZMQ_FD in
https://api.zeromq.org/master:zmq-getsockopt): every call on the socket can swallow that signal. So the callback must
read until there is no more, and whoever sends calls `recheck` afterwards. zmq.asyncio is not used: on qasync it
starves the window, and it does not know Windows' proactor loops.
"""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from collections.abc import Callable
from typing import Any

import zmq

Socket = zmq.Socket[Any]

_LOOK_S = 1.0


class SocketWatch:
    """Calls `callback` on the loop when the socket may have become readable or writable. For the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, zmq_socket: Socket, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._socket = zmq_socket
        self._callback = callback
        self._pending: asyncio.Handle | None = None
        self._selector: _SelectThread | None = None
        self._descriptor = zmq_socket.fileno()
        try:
            loop.add_reader(self._descriptor, callback)
        except NotImplementedError:  # proactor loops
            self._selector = _SelectThread(loop, self._descriptor, callback)
        self.recheck()

    def recheck(self) -> None:
        """Schedule the callback when there is something to read whose signal may be gone."""
        if self._pending is None and int(self._socket.events) & zmq.POLLIN:
            self.call_soon()

    def call_soon(self) -> None:
        """Schedule the callback once, whatever the socket says."""
        if self._pending is None:
            self._pending = self._loop.call_soon(self._run)

    def close(self) -> None:
        """Stop watching; call it before the socket is closed. Safe to call twice."""
        if self._pending is not None:
            self._pending.cancel()
        if self._selector is not None:
            self._selector.close()
            self._selector = None
        elif self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
        self._descriptor = -1

    def _run(self) -> None:
        self._pending = None
        self._callback()


class _SelectThread:
    """Watches one descriptor from a thread; it never touches the socket itself, which belongs to the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, descriptor: int, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._callback = callback
        self._closing = threading.Event()
        self._handled = threading.Event()
        self._wake_read, self._wake_write = socket.socketpair()
        self._thread = threading.Thread(target=self._watch, name="koc-link-select", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        self._handled.set()
        self._wake_write.send(b"x")
        self._thread.join()
        self._wake_read.close()
        self._wake_write.close()

    def _watch(self) -> None:
        while not self._closing.is_set():
            select.select([self._descriptor, self._wake_read.fileno()], [], [])
            self._handled.clear()  # before the look at `_closing`, which close() sets before this event
            if self._closing.is_set():
                return
            try:
                self._loop.call_soon_threadsafe(self._handle)
            except RuntimeError:
                return  # the loop was closed under us
            # The descriptor stays ready until the callback has read the socket: wait for that.
            while not self._handled.wait(_LOOK_S):
                if self._loop.is_closed():
                    return

    def _handle(self) -> None:
        try:
            if not self._closing.is_set():
                self._callback()
        finally:
            self._handled.set()
