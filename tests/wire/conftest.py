"""A loopback Binance and a venue that is led to it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from koc_qt.adapters.ccxt_client import Timeouts
from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.venues.binance import BinanceVenue
from koc_qt.domain.market import MarketEvent, StreamState, StreamStatus
from koc_qt.engine import latency
from koc_qt.resilience import Breaker
from tests.wire.binance import BinanceSite
from tests.wire.loopback import LoopbackServer
from tests.wire.recording import RECORDED, Recording, load
from tests.wire.synthetic import synthetic

E = TypeVar("E")
QUICK = Timeouts(first_backoff_s=0.02, max_backoff_s=0.1, request_s=5.0)


class QuickBinance(BinanceVenue):
    """Spaces its requests less than a real venue wants them."""

    SETTINGS: ClassVar[Mapping[str, Any]] = {**BinanceVenue.SETTINGS, "rateLimit": 5}


class Heard:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[MarketEvent] = []

    def __call__(self, event: MarketEvent) -> None:
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        """Give the events of one type."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def states(self) -> list[StreamState]:
        """The stream's states in order."""
        return [status.state for status in self.of(StreamStatus)]


class Bench:
    """A loopback server and a venue connected to it, with what the venue says."""

    def __init__(self, server: LoopbackServer, site: BinanceSite, venue: BinanceVenue) -> None:
        self.server = server
        self.site = site
        self.venue = venue
        self.heard = Heard()


@pytest.fixture(autouse=True)
def _slow_orders_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test fail by the engine's own warning that an order was slow: this machine may be busy."""
    monkeypatch.setattr(latency, "SLOW_MS", math.inf)


MakeBench = Callable[..., Awaitable[Bench]]


@cache
def twenty_seconds() -> Recording:
    """Make up a market once for all benches; nobody changes it."""
    return synthetic(seed=1, seconds=20)


@pytest.fixture
async def make_bench(tmp_path: Path) -> AsyncIterator[MakeBench]:
    """Make benches; whatever they hold is closed in the end."""
    async with AsyncExitStack() as stack:

        async def make(
            recording: Recording | None = None,
            *,
            timeouts: Timeouts = QUICK,
            breaker: Breaker | None = None,
            connect: bool = True,
            **options: Any,
        ) -> Bench:
            site = BinanceSite(recording or twenty_seconds(), **options)
            server = await stack.enter_async_context(LoopbackServer(site, tmp_path))
            bench = Bench(server, site, QuickBinance(SystemClock(), server.endpoint, breaker, timeouts))
            stack.push_async_callback(bench.venue.close)
            stack.push_async_callback(site.replay.stop)  # first: nobody writes to who has just gone
            if connect:
                await bench.venue.connect(bench.heard)
            return bench

        yield make


@pytest.fixture(scope="session", params=["recorded", "synthetic"])
def minute(request: pytest.FixtureRequest) -> Recording:
    """The first minute of the real recording, and its made-up twin."""
    if request.param == "synthetic":
        return synthetic(seed=2, seconds=60)
    if not RECORDED.exists():
        pytest.skip(f"no recorded market data at {RECORDED.parent}; the synthetic twin runs instead")
    return load(RECORDED).until(60)
