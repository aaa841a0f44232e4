"""What every source of market data shares: it is connected once, within a time or not at all, and counts what is none.

How a bar's end is waited for is the same everywhere too.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import ClassVar

from koc_qt.adapters.ccxt_client import LoopbackEndpoint, Timeouts
from koc_qt.domain.errors import VenueRejected, VenueTimeout, VenueUnavailable
from koc_qt.domain.timeframes import bar_open_ns
from koc_qt.ports.clock import Clock
from koc_qt.ports.venue import MarketSink
from koc_qt.resilience import Breaker


class DataSource:
    """Implements of ports.venue.MarketDataVenue what is alike everywhere; a subclass says how the venue is spoken to.

    `refused` counts messages that were no fact, by kind; they go no further.
    """

    SETTLED_NS: ClassVar[int]  # a bar is asked for this long after its end: late trades, and our error about the clock

    def __init__(
        self, clock: Clock, endpoint: LoopbackEndpoint | None, breaker: Breaker | None, timeouts: Timeouts | None
    ) -> None:
        self._clock = clock
        self._endpoint = endpoint
        self._timeouts = timeouts or Timeouts()
        self._breaker = breaker or Breaker(self.name, clock)
        self._sink: MarketSink | None = None
        self._opening: asyncio.Task[None] | None = None
        self.refused: Counter[str] = Counter()
        self.last_refusal = ""

    @property
    def name(self) -> str:
        """The venue part of its instruments' ids."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """What sentences call it."""
        return self.name

    @property
    def breaker_state(self) -> str:
        """The circuit breaker's state: closed, open or half-open."""
        return self._breaker.state

    def time_ns(self) -> int:
        """UTC nanoseconds at the venue, as well as they are known."""
        raise NotImplementedError

    async def _open(self) -> None:
        """Make the client, set the clock, load what is listed. Raises VenueError, ConfigError."""
        raise NotImplementedError

    async def close(self) -> None:
        """End every stream and connection. Safe to call twice, and while connecting."""
        raise NotImplementedError

    async def connect(self, sink: MarketSink) -> None:
        """Make the client ready, set the clock, load what is listed. Raises VenueUnavailable, ConfigError."""
        if self._opening is not None:
            raise VenueUnavailable(f"{self.title} is connected or connecting already")
        self._sink = sink
        self._opening = asyncio.create_task(self._open(), name=f"connect {self.name}")
        try:
            async with asyncio.timeout(self._timeouts.connect_s):
                await self._opening
        except asyncio.CancelledError:
            await self.close()
            if cancelled_by_its_owner():
                raise
            raise VenueUnavailable(f"{self.title} was closed while it was connecting") from None
        except (TimeoutError, VenueTimeout, VenueRejected) as error:
            await self.close()
            reason = str(error) or f"nothing came within {self._timeouts.connect_s:g} s"
            raise VenueUnavailable(f"{self.title} cannot be connected to: {reason}") from error
        except Exception:
            await self.close()
            raise

    async def _stop_opening(self) -> None:
        """Break off connecting, and let it be begun anew."""
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)

    async def _settled(self, timeframe: str, until_ns: int) -> int:
        """Give the end of what is closed, waiting the moment until the newest bar can change no more."""
        open_ns = bar_open_ns(self.time_ns(), timeframe)
        if until_ns < open_ns:
            return until_ns
        await asyncio.sleep(max(0, open_ns + self.SETTLED_NS - self.time_ns()) / 1e9)
        return min(until_ns, open_ns)

    def refuse(self, kind: str, what: object) -> None:
        """Count what is no fact."""
        self.refused[kind] += 1
        self.last_refusal = f"{kind}: {what}"


def cancelled_by_its_owner() -> bool:
    """Tell a cancelled task from one whose awaited future was cancelled by others, as ccxt does with connections."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
