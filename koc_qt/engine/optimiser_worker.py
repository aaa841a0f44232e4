"""A sandboxed process that evaluates combinations, as a study sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

import msgspec
from loguru import logger

from koc_qt.domain.errors import StrategyError
from koc_qt.domain.optimisation import CHECKPOINTS, TrialState
from koc_qt.domain.performance import STATISTICS
from koc_qt.engine.patience import LOAD_TIMEOUT_S, READY_TIMEOUT_S
from koc_qt.engine.strategy_words import LONGEST_REASON, clip
from koc_qt.ports.studies import RunnerLost, Told
from koc_qt.ports.workers import WorkerExit, WorkerHandle, WorkerLauncher, WorkerNeeds
from koc_qt.sdk.channel import (
    Describe,
    Described,
    Failed,
    HostMessage,
    LoadFailed,
    Ready,
    ReplayBars,
    ReplayEnd,
    ReplayProgress,
    StartSweep,
    SweepLoaded,
    WorkerMessage,
)
from koc_qt.sdk.sweep_messages import EvaluateTrials, SweepReady, TrialAsked, TrialFound, TrialsEvaluated

IN_FLIGHT = 4  # messages of bars that it has not taken yet
SILENCE_LIMIT_S = 60.0  # for a process that evaluates and says nothing
NEEDS = WorkerNeeds(("koc_qt.worker.sweep", "llvmlite.binding"))
_QUEUE = 10_000  # messages that nobody has read; beyond it the process says more than it can have found
_LONGEST_REASON = 1_000
UNSOUND = "says what it was not asked"
_STATES = frozenset(TrialState)

M = TypeVar("M", bound=msgspec.Struct)


class SweepWorker:
    """Implements ports/studies.py TrialRunner: launch, describe, load, supply, then evaluate as often as one likes.

    All but `close` raise RunnerLost where the process is gone, and StrategyError for what its file does wrong.
    """

    batch_s = 0.5

    def __init__(self, silence_limit_s: float = SILENCE_LIMIT_S) -> None:
        self._silence_limit_s = silence_limit_s
        self._heard: asyncio.Queue[WorkerMessage | WorkerExit] = asyncio.Queue(_QUEUE)
        self._handle: WorkerHandle | None = None
        self._ended = asyncio.Event()

    @property
    def pid(self) -> int:
        """Its process id."""
        return 0 if self._handle is None else self._handle.pid

    async def launch(self, launcher: WorkerLauncher, label: str) -> None:
        """Start the process."""
        self._handle = await launcher.launch(label, self._receive, self._exited, NEEDS)
        await self._next(Ready, READY_TIMEOUT_S, "its process was not ready")

    async def describe(self, source: bytes, filename: str) -> Described:
        """Say what a file declares."""
        self._send(Describe(source, filename))
        return await self._next(Described, LOAD_TIMEOUT_S, "is there an endless loop at the top of the file?")

    async def load(self, start: StartSweep) -> SweepLoaded:
        """Load a file."""
        self._send(start)
        return await self._next(SweepLoaded, LOAD_TIMEOUT_S, "is there an endless loop in on_start?")

    async def supply(self, bars: AsyncIterator[Sequence[ReplayBars]]) -> SweepReady:
        """Send all bars, as it keeps up."""
        sent = taken = 0
        async for messages in bars:
            for message in messages:
                while sent - taken >= IN_FLIGHT:
                    taken = (await self._next(ReplayProgress, self._silence_limit_s, "it took no bars")).chunks
                self._send(message)
                sent += 1
        self._send(ReplayEnd())
        while taken < sent:
            taken = (await self._next(ReplayProgress, self._silence_limit_s, "it took no bars")).chunks
        return await self._next(SweepReady, LOAD_TIMEOUT_S, "it had the bars and was not ready")

    async def evaluate(self, trials: Sequence[TrialAsked], floors: Sequence[float], told: Told) -> None:
        """Evaluate combinations."""
        self._send(EvaluateTrials(list(trials), list(floors)))
        left = [trial.number for trial in trials]
        while left:
            found = (await self._next(TrialsEvaluated, self._silence_limit_s, "is there an endless loop?")).trials
            if not is_sound(found, left):
                self._kill(UNSOUND)
                raise RunnerLost(f"its process {UNSOUND}")
            del left[: len(found)]
            if found:
                told(found)

    async def close(self) -> None:
        """End the process, and wait until it has; it has nothing left to say."""
        if self._handle is not None:
            self._kill("the study has no more use for it")
            try:
                async with asyncio.timeout(READY_TIMEOUT_S):
                    await self._ended.wait()
            except TimeoutError:
                logger.error("process {} of a study does not end", self.pid)

    # ---- inside

    def _kill(self, reason: str) -> None:
        if self._handle is not None:
            self._handle.kill(reason)

    def _send(self, message: HostMessage) -> None:
        assert self._handle is not None  # noqa: S101 (for the type checker)
        try:
            self._handle.send(message)
        except (ValueError, TypeError, OverflowError) as error:
            raise StrategyError(f"it cannot be handed to its process: {error}") from error

    def _receive(self, message: WorkerMessage) -> None:
        try:
            self._heard.put_nowait(message)
        except asyncio.QueueFull:
            self._kill("says more than it can have found")

    def _exited(self, ending: WorkerExit) -> None:
        self._ended.set()
        if self._heard.full():
            self._heard.get_nowait()
        self._heard.put_nowait(ending)

    async def _next(self, kind: type[M], patience_s: float, complaint: str) -> M:
        """Wait for a message; others than those that end everything are no news."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + patience_s
        while True:
            try:
                async with asyncio.timeout_at(deadline_s):
                    message = await self._heard.get()
            except TimeoutError:
                self._kill(f"said nothing for {patience_s:g} s")
                raise RunnerLost(f"its process said nothing for {patience_s:g} s: {complaint}") from None
            if isinstance(message, kind):
                return message
            match message:
                case LoadFailed(reason, line):
                    where = f" (line {line})" if line and f"line {line}" not in reason else ""
                    raise StrategyError(f"{clip(reason, LONGEST_REASON)}{where}")
                case Failed(reason):
                    raise StrategyError(clip(reason, LONGEST_REASON))
                case WorkerExit(_, _, reason):
                    raise RunnerLost(f"its process {reason or 'ended by itself'}")


def is_sound(found: Sequence[TrialFound], asked: Sequence[int]) -> bool:
    """Whether a process may have found this of the combinations asked; a strategy can write to its channel too."""
    numbers = [trial.number for trial in found]
    return numbers == list(asked[: len(numbers)]) and all(map(_is_sound, found))


def _is_sound(found: TrialFound) -> bool:
    return (
        found.state in _STATES
        and found.statistics.keys() <= STATISTICS.keys()
        and len(found.reason) <= _LONGEST_REASON
        and len(found.equity) <= CHECKPOINTS
    )
