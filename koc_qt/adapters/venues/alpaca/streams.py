"""The stream of an account's trade updates: what it says, and whether it can be relied on.

https://docs.alpaca.markets/docs/websocket-streaming
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from koc_qt.adapters.ccxt_client import LoopbackEndpoint, Timeouts
from koc_qt.adapters.venues.alpaca.errors import TITLE, explain
from koc_qt.adapters.venues.alpaca.requests_of import load_library
from koc_qt.ports.clock import Clock
from koc_qt.resilience import Backoff

_STEADY_NS = 10_000_000_000  # a connection that lived this long has earned a quick reconnect
_START_S = 3.0  # so long connecting waits for it
_TRADE_UPDATES = "trade_updates"


class TradeUpdates:
    """Runs the stream until closed. `on_change(up, reason)` hears when it comes up or goes down.

    `on_update` takes the data of each update, `on_unreadable` what cannot be read.
    """

    def __init__(
        self,
        clock: Clock,
        timeouts: Timeouts,
        on_update: Callable[[Mapping[str, Any]], None],
        on_unreadable: Callable[[Exception], None],
        on_change: Callable[[bool, str], None],
    ) -> None:
        self._clock = clock
        self._timeouts = timeouts
        self._on_update = on_update
        self._on_unreadable = on_unreadable
        self._on_change = on_change
        self._backoff = Backoff(timeouts.first_backoff_s, timeouts.max_backoff_s)
        self._library: Any = None
        self._stream: Any = None
        self._task: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()  # it is up, or has failed
        self._told: bool | None = None
        self._up_ns = 0
        self.up = False

    async def start(self, paper: bool, keys: tuple[str, str], endpoint: LoopbackEndpoint | None) -> None:
        """Start, and wait until it is up or has failed once, but not for long: polling stands in for it meanwhile."""
        self._library = library = await load_library()
        self._stream = library.trading_stream(paper, *keys, self._timeouts, endpoint, self)
        self._task = asyncio.create_task(library.run_stream(self._stream), name=f"{TITLE} trade updates")
        try:
            async with asyncio.timeout(min(self._timeouts.dial_s, _START_S)):
                await self._settled.wait()
        except TimeoutError:
            self._say(False, f"{TITLE}'s stream of trade updates does not answer; orders are asked for meanwhile")

    async def close(self) -> None:
        """End it. Safe to call twice."""
        task, self._task = self._task, None
        self.up = False
        if task is not None:
            await self._library.end_stream(self._stream, task)

    # what the stream tells (library.StreamEar)

    def is_open(self) -> None:
        """Connected; it is up once it listens."""

    def message(self, message: dict[str, Any]) -> None:
        """Take a message."""
        stream, data = message.get("stream"), message.get("data")
        if stream == _TRADE_UPDATES and isinstance(data, Mapping):
            self._on_update(data)
        elif stream == "listening" and isinstance(data, Mapping):
            listens = _TRADE_UPDATES in (data.get("streams") or ())
            self._say(listens, "" if listens else f"{TITLE} does not stream trade updates: {data.get('error', '')}")

    def caught_up(self) -> None:
        """Nothing waits for that."""

    def unreadable(self, error: Exception) -> None:
        """Take note of what is no message."""
        self._on_unreadable(error)

    def is_lost(self, error: Exception | None) -> None:
        """Take note that the connection was lost."""
        if self.up and self._clock.monotonic_ns() - self._up_ns > _STEADY_NS:
            self._backoff.reset()
        self._say(False, str(explain("the stream of trade updates", error or ConnectionError("it was closed"))))

    def pause_s(self) -> float:
        """Give how long to wait before the next attempt."""
        return self._backoff.next_s()

    def _say(self, up: bool, reason: str) -> None:
        self.up = up
        if up:
            self._up_ns = self._clock.monotonic_ns()
        self._settled.set()
        if self._told is not up:
            self._told = up
            self._on_change(up, reason)
