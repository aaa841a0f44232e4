"""The kill switch: latches, survives restarts, and is released only by a person."""

from __future__ import annotations

from loguru import logger

from koc_qt.domain.errors import StorageError
from koc_qt.ports.clock import Clock
from koc_qt.ports.journal import Journal, KillSwitchRecord


class KillSwitch:
    """The latch alone; the commands service stops strategies and cancels orders when it is engaged."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self.engaged = False
        self.reason = ""

    @property
    def refusal(self) -> str:
        """What an order that comes now is told."""
        return f"the kill switch is engaged ({self.reason}): release it to trade again"

    def restore(self, record: KillSwitchRecord | None) -> None:
        """Take the journal's word after a restart."""
        if record is not None:
            self.engaged, self.reason = record.engaged, record.reason

    async def engage(self, reason: str) -> None:
        """Latch. It holds from this call on, whether or not the journal can be written."""
        self.engaged, self.reason = True, reason or "no reason given"
        try:
            await self._journal.append([KillSwitchRecord(True, self.reason, self._clock.time_ns())])
        except StorageError as error:
            logger.error("the kill switch is engaged, but would not survive a restart: {}", error)

    async def release(self) -> None:
        """Allow trading again. Raises StorageError, and stays latched, when that cannot be made durable."""
        await self._journal.append([KillSwitchRecord(False, "", self._clock.time_ns())])
        self.engaged, self.reason = False, ""
