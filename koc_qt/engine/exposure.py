"""Keeps the market streaming for everything that depends on it: open orders, and positions that have to be valued."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

from loguru import logger

from koc_qt.domain.errors import KocError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.engine.bus import Bus
from koc_qt.engine.market_data import MarketData
from koc_qt.engine.store import Store
from koc_qt.link.messages import OrderChanged, PositionChanged

OWNER = "exposure"
START_TIMEOUT_S = 15.0
RETRY_PAUSES_S = (1.0, 5.0, 15.0, 60.0)  # the last one repeats


class Exposure:
    """Holds the streams of instruments with open orders or a position, whether or not their strategies still run.

    One that cannot be streamed is tried again, and logged once for each reason.
    """

    def __init__(
        self, store: Store, bus: Bus, market_data: MarketData, spawn: Callable[[Coroutine[Any, Any, None]], None]
    ) -> None:
        self._store = store
        self._market_data = market_data
        self._spawn = spawn
        self._wanted: dict[InstrumentId, asyncio.Event] = {}  # set once it streams, or is not wanted any more
        bus.subscribe(OrderChanged, lambda fact: self._look(fact.order.request.instrument))
        bus.subscribe(PositionChanged, lambda fact: self._look(fact.position.instrument))

    async def start(self) -> None:
        """Hold what the journal remembers; what cannot be streamed in time is logged and held as soon as it can be."""
        instruments = {order.request.instrument for order in self._store.open_orders()}
        instruments |= {key[2] for key, position in self._store.positions.items() if position.quantity}
        for instrument in instruments:
            self._look(instrument)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_TIMEOUT_S):
                for streams in list(self._wanted.values()):
                    await streams.wait()

    def _look(self, instrument: InstrumentId) -> None:
        is_exposed = self._is_exposed(instrument)
        if is_exposed and instrument not in self._wanted:
            streams = self._wanted[instrument] = asyncio.Event()
            self._spawn(self._hold(instrument, streams))
        elif not is_exposed and instrument in self._wanted:
            self._wanted.pop(instrument).set()
            self._spawn(self._release(instrument))

    def _is_exposed(self, instrument: InstrumentId) -> bool:
        return any(order.request.instrument == instrument for order in self._store.open_orders()) or any(
            key[2] == instrument and position.quantity for key, position in self._store.positions.items()
        )

    async def _hold(self, instrument: InstrumentId, streams: asyncio.Event) -> None:
        said, pauses_s = "", itertools.chain(RETRY_PAUSES_S, itertools.repeat(RETRY_PAUSES_S[-1]))
        while True:
            try:
                await self._market_data.hold(instrument, OWNER)
            except KocError as error:
                if str(error) != said:
                    said = str(error)
                    logger.error("{} has open orders or a position, but cannot be streamed: {}", instrument, said)
            else:
                streams.set()
                await self._release(instrument)  # where it was closed while the stream was being opened
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(next(pauses_s)):
                    await streams.wait()
                    return

    async def _release(self, instrument: InstrumentId) -> None:
        if instrument not in self._wanted:
            await self._market_data.release(instrument, OWNER)
