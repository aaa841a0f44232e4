"""What processes use of the machine."""

from __future__ import annotations

from typing import Protocol

import msgspec


class ProcessUse(msgspec.Struct, frozen=True):
    """CPU in percent of one core since the last sample of the same process, and resident memory in bytes."""

    cpu_percent: float
    memory_bytes: int


class ProcessMeter(Protocol):
    """Reads them."""

    def sample(self, pid: int) -> ProcessUse | None:
        """Measure a process; None when it is gone."""
        ...
