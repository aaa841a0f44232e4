"""A journal in memory that can be told to fail."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from koc_qt.domain.errors import StorageError
from koc_qt.domain.orders import Fill, Order, OrderFilled
from koc_qt.ports.journal import JournalRecord, JournalState, KillSwitchRecord, OrderRecord, StrategyRecord


class MemoryJournal:
    """Implements ports/journal.py; `failing` makes every append raise.

    `gate` holds appends until it is set, and `waiting` counts those that it holds.
    """

    def __init__(self) -> None:
        self.records: list[JournalRecord] = []
        self.failing = ""
        self.gate: asyncio.Event | None = None
        self.waiting = 0
        self.closed = False

    def write(self, records: Sequence[JournalRecord]) -> asyncio.Future[None]:
        """Begin to remember."""
        return asyncio.ensure_future(self.append(records))

    async def append(self, records: Sequence[JournalRecord]) -> None:
        """Remember, or raise what it was told to."""
        if self.gate is not None:
            self.waiting += 1
            await self.gate.wait()
            self.waiting -= 1
        await asyncio.sleep(0)
        if self.failing:
            raise StorageError(self.failing)
        self.records += records

    def load(self) -> JournalState:
        """Give what a file would."""
        orders: dict[str, Order] = {}
        fills: dict[tuple[str, str], Fill] = {}
        strategies: dict[str, StrategyRecord] = {}
        switch: KillSwitchRecord | None = None
        for record in self.records:
            if isinstance(record, OrderRecord):
                orders[record.order.client_order_id] = record.order
                if isinstance(record.event, OrderFilled):
                    fills[record.event.fill.account_id, record.event.fill.fill_id] = record.event.fill
            elif isinstance(record, StrategyRecord):
                strategies[record.spec.strategy_id] = record
            else:
                switch = record
        return JournalState(tuple(orders.values()), tuple(fills.values()), tuple(strategies.values()), switch)

    async def close(self) -> None:
        """Note that it was closed."""
        self.closed = True
