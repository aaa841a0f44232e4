"""Strategy processes, as the strategy host sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from koc_qt.sdk.channel import HostMessage, WorkerMessage


class WorkerExit(msgspec.Struct, frozen=True):
    """Why a worker process is no more. `crashed` is false only when it ended by itself with code 0."""

    crashed: bool
    code: int | None
    reason: str


class WorkerNeeds(msgspec.Struct, frozen=True):
    """What a worker is to have beyond the usual: `modules` that are loaded before it is locked down, and memory.

    `memory_bytes` is the most that it may map, never less than its launcher gives every worker.
    """

    modules: tuple[str, ...] = ()
    memory_bytes: int = 0


class WorkerHandle(Protocol):
    """A running worker process and its channel."""

    @property
    def pid(self) -> int:
        """Its process id."""
        ...

    def send(self, message: HostMessage) -> None:
        """Queue a message. Never blocks: when the worker reads too slowly, the oldest quotes and trades make way;
        all else is kept, up to the queue's limit, beyond which the worker is killed as not reading.
        """
        ...

    @property
    def dropped(self) -> int:
        """How many market messages made way."""
        ...

    def kill(self, reason: str) -> None:
        """End it at once; `on_exit` follows with this reason."""
        ...


class WorkerLauncher(Protocol):
    """Starts worker processes, locked down."""

    async def launch(
        self,
        label: str,
        on_message: Callable[[WorkerMessage], None],
        on_exit: Callable[[WorkerExit], None],
        needs: WorkerNeeds | None = None,
    ) -> WorkerHandle:
        """Start one. Its first message is Ready, with the badge that its self-test proved.

        `on_exit` is called exactly once, after the last message. Raises StrategyError when the process cannot start.
        """
        ...

    async def close(self) -> None:
        """Kill what still runs and wait for it."""
        ...
