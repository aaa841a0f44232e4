"""Keeps the market streaming for everything that depends on it: open orders, and positions that have to be valued."""

from __future__ import annotations

import asyncio
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


class Exposure:
    """Holds the streams of instruments with open orders or a position, whether or not their strategies still run."""

    def __init__(
        self, store: Store, bus: Bus, market_data: MarketData, spawn: Callable[[Coroutine[Any, Any, None]], None]
    ) -> None:
        self._store = store
        self._market_data = market_data
        self._spawn = spawn
        self._held: set[InstrumentId] = set()
        bus.subscribe(OrderChanged, lambda fact: self._look(fact.order.request.instrument))
        bus.subscribe(PositionChanged, lambda fact: self._look(fact.position.instrument))

    async def start(self) -> None:
        """Hold what the journal remembers; what cannot be streamed in time is logged and held as soon as it can be."""
        instruments = {order.request.instrument for order in self._store.open_orders()}
        instruments |= {key[2] for key, position in self._store.positions.items() if position.quantity}
        self._held |= instruments
        tasks = [asyncio.create_task(self._hold(instrument)) for instrument in instruments]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=START_TIMEOUT_S)
            for task in late:
                self._spawn(_wait_for(task))

    def _look(self, instrument: InstrumentId) -> None:
        wanted = self._is_exposed(instrument)
        if wanted and instrument not in self._held:
            self._held.add(instrument)
            self._spawn(self._hold(instrument))
        elif not wanted and instrument in self._held:
            self._held.discard(instrument)
            self._spawn(self._market_data.release(instrument, OWNER))

    def _is_exposed(self, instrument: InstrumentId) -> bool:
        return any(order.request.instrument == instrument for order in self._store.open_orders()) or any(
            key[2] == instrument and position.quantity for key, position in self._store.positions.items()
        )

    async def _hold(self, instrument: InstrumentId) -> None:
        try:
            await self._market_data.hold(instrument, OWNER)
        except KocError as error:
            self._held.discard(instrument)
            logger.error("{} has open orders or a position, but cannot be streamed: {}", instrument, error)
        else:
            if instrument not in self._held:  # closed while the stream was being opened
                await self._market_data.release(instrument, OWNER)


async def _wait_for(task: asyncio.Task[None]) -> None:
    await task
