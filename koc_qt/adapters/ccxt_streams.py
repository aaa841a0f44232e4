"""An account's private streams: each a task that awaits ccxt, says when it is up or down, and reconnects by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from koc_qt.adapters.ccxt_client import Timeouts
from koc_qt.adapters.ccxt_exchange import WATCHER, Watcher
from koc_qt.domain.errors import VenueError
from koc_qt.ports.clock import Clock
from koc_qt.resilience import Backoff

_STEADY_NS = 10_000_000_000  # a stream that lived this long has earned a quick reconnect
_CONFIRM_S = 0.05  # a refusal of the subscription would have reached its stream by then


class _Stream(Watcher):
    def __init__(self, name: str, run: Callable[[Any], Awaitable[None]]) -> None:
        self.name = name
        self.run = run
        self.up = False
        self.running = False
        self.waiting = False  # for the venue's first word
        self.confirmation: asyncio.TimerHandle | None = None

    def forget_confirmation(self) -> None:
        """Stop waiting for a refusal that might still come."""
        if self.confirmation is not None:
            self.confirmation.cancel()
            self.confirmation = None


class PrivateStreams:
    """Runs streams until closed. `on_change(up, reason)` hears when all of them have come up, or one goes down.

    A stream's coroutine takes the ccxt object and ends by an error alone. It counts as up as soon as the venue has said
    something on its connection that did not end it.
    """

    def __init__(
        self,
        exchange: Callable[[], Any],
        clock: Clock,
        timeouts: Timeouts,
        in_our_words: Callable[[str, Exception], VenueError],
        on_change: Callable[[bool, str], None],
    ) -> None:
        self._exchange = exchange
        self._clock = clock
        self._timeouts = timeouts
        self._in_our_words = in_our_words
        self._on_change = on_change
        self._streams: list[_Stream] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._has_told = False
        self._settled = asyncio.Event()  # all are up, or one has failed

    @property
    def up(self) -> bool:
        """Whether every stream is up; never where there is none."""
        return bool(self._streams) and all(stream.up for stream in self._streams)

    async def start(self, streams: Mapping[str, Callable[[Any], Awaitable[None]]], within_s: float) -> None:
        """Start the streams, and wait until all are up or one has failed, but not for longer than `within_s`."""
        self._settled.clear()
        self._has_told = False
        self._streams = [_Stream(name, run) for name, run in streams.items()]
        self._tasks = [asyncio.create_task(self._run(s), name=f"private stream {s.name}") for s in self._streams]
        if self._streams:
            try:
                async with asyncio.timeout(within_s):
                    await self._settled.wait()
            except TimeoutError:
                return  # they go on trying; polling stands in for them meanwhile

    async def close(self) -> None:
        """End them. Safe to call twice."""
        for stream in self._streams:
            stream.forget_confirmation()
        tasks, self._tasks, self._streams = self._tasks, [], []
        self._settled.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def heard(self, url: str) -> None:
        """Take note that a connection spoke."""
        for stream in self._streams:
            if stream.url == url and not stream.up and stream.waiting:
                stream.waiting = False
                stream.confirmation = asyncio.get_running_loop().call_later(_CONFIRM_S, self._confirm, stream)

    def delivered(self, name: str) -> None:
        """Take note that a stream delivered."""
        for stream in self._streams:
            if stream.name == name and stream.running and not stream.up:
                self._is_up(stream)

    def _confirm(self, stream: _Stream) -> None:
        if not stream.up:
            self._is_up(stream)

    def _is_up(self, stream: _Stream) -> None:
        stream.up = True
        if self.up:
            self._settled.set()
            self._has_told = True
            self._on_change(True, "")

    def _is_down(self, stream: _Stream, reason: str) -> None:
        stream.forget_confirmation()
        were_up, stream.up = self.up, False
        stream.running = stream.waiting = False
        self._settled.set()
        if were_up or not self._has_told:
            self._has_told = True
            self._on_change(False, reason)

    async def _run(self, stream: _Stream) -> None:
        WATCHER.set(stream)
        backoff = Backoff(self._timeouts.first_backoff_s, self._timeouts.max_backoff_s)
        while True:
            began_ns = self._clock.monotonic_ns()
            stream.running = stream.waiting = True
            try:
                await stream.run(self._exchange())
                reason = f"{stream.name} ended"
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                reason = f"{stream.name}: the connection was closed"  # ccxt cancels what waits on it
            except Exception as error:
                reason = str(self._in_our_words(f"the private stream of {stream.name}", error))
            self._is_down(stream, reason)
            if self._clock.monotonic_ns() - began_ns > _STEADY_NS:
                backoff.reset()
            await asyncio.sleep(backoff.next_s())
