"""The journal: every order, order event, fill and strategy, durable before anything depends on it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import msgspec

from koc_qt.domain.orders import Fill, Order, OrderEvent
from koc_qt.domain.state import StrategySpec


class OrderRecord(msgspec.Struct, frozen=True):
    """An order as it is after `event`; the event is None for the intent itself."""

    order: Order
    event: OrderEvent | None = None


class StrategyRecord(msgspec.Struct, frozen=True):
    """A strategy and whether the engine shall run it again after a crash."""

    spec: StrategySpec
    wanted: bool
    time_ns: int


class KillSwitchRecord(msgspec.Struct, frozen=True):
    """The kill switch was latched or released."""

    engaged: bool
    reason: str
    time_ns: int


JournalRecord = OrderRecord | StrategyRecord | KillSwitchRecord


class JournalState(msgspec.Struct, frozen=True):
    """All that the journal remembers, fills in the order in which they were recorded."""

    orders: tuple[Order, ...]
    fills: tuple[Fill, ...]
    strategies: tuple[StrategyRecord, ...]
    kill_switch: KillSwitchRecord | None


class Journal(Protocol):
    """Durable memory of the engine; only the engine that owns the profile writes it."""

    def write(self, records: Sequence[JournalRecord]) -> asyncio.Future[None]:
        """Begin to write all or nothing; the future is done once they survive a crash, and fails with StorageError.

        Cancelling it takes nothing back.
        """
        ...

    async def append(self, records: Sequence[JournalRecord]) -> None:
        """Write all or nothing; when it returns they survive a crash. Raises StorageError (full disk, permission)."""
        ...

    def load(self) -> JournalState:
        """Read everything. Raises StorageError."""
        ...

    async def close(self) -> None:
        """Finish writing and let go of the file. Safe to call twice."""
        ...
