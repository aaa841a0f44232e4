"""The strategy host: starts and stops strategies, restarts the ones that fail, within limits."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import msgspec
from loguru import logger

from koc_qt.domain.errors import KocError, StorageError, StrategyError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.state import StrategySpec, StrategyState
from koc_qt.domain.timeframes import duration_ns
from koc_qt.engine.accounts import Accounts
from koc_qt.engine.kill_switch import KillSwitch
from koc_qt.engine.services import Services
from koc_qt.engine.strategy_run import LOAD_TIMEOUT_S, STOP_GRACE_S, Pulse, StrategyRun, read_source
from koc_qt.ports.journal import Journal, StrategyRecord
from koc_qt.ports.workers import WorkerExit
from koc_qt.sdk.channel import Describe, Described, LoadFailed, Ready, WorkerMessage

SOURCE_LIMIT = 512 * 1024  # bytes; a frame to the worker holds 1 MiB


class RestartPolicy(msgspec.Struct, frozen=True):
    """A strategy that fails is restarted after a growing, jittered pause, at most `limit` times in `window_s`."""

    limit: int = 5
    window_s: float = 600.0
    first_pause_s: float = 1.0
    longest_pause_s: float = 60.0


class Managed:
    """A strategy that the host knows, running or not."""

    def __init__(self, spec: StrategySpec) -> None:
        self.spec = spec
        self.name = Path(spec.path).stem
        self.state = StrategyState.STOPPED
        self.reason = ""
        self.run: StrategyRun | None = None
        self.pulse = Pulse()  # of the present run, or the last one
        self.started_ns: int | None = None
        self.restarts = 0
        self.wanted = False
        self.failures: deque[int] = deque()
        self.pause: asyncio.Task[None] | None = None

    @property
    def is_active(self) -> bool:
        """Whether it runs or will run again by itself."""
        return self.state not in (StrategyState.STOPPED, StrategyState.FAILED)


class StrategyHost:
    """Sole owner of strategies and their processes."""

    def __init__(
        self,
        services: Services,
        accounts: Accounts,
        journal: Journal,
        kill_switch: KillSwitch,
        rng: random.Random,
        policy: RestartPolicy | None = None,
    ) -> None:
        self._services = services
        self._accounts = accounts
        self._journal = journal
        self._kill_switch = kill_switch
        self._rng = rng
        self._policy = policy or RestartPolicy()
        self.managed: dict[str, Managed] = {}
        self.changed = asyncio.Event()  # a state changed: telemetry shows it at once

    def restore(self, records: Iterable[StrategyRecord]) -> list[StrategySpec]:
        """Take the journal's strategies as stopped; gives those that ran when the engine died."""
        wanted = []
        for record in records:
            self.managed[record.spec.strategy_id] = Managed(record.spec)
            if record.wanted:
                wanted.append(record.spec)
        return wanted

    async def start(self, spec: StrategySpec) -> str:
        """Start a strategy and give its id; a spec that names one that runs already is refused.

        Raises StrategyError, InvalidOrder, VenueError, StorageError.
        """
        if self._kill_switch.engaged:
            raise StrategyError(f"{Path(spec.path).name} was not started: {self._kill_switch.refusal}")
        if not spec.instruments:
            raise StrategyError(f"{Path(spec.path).name} needs at least one symbol to run on")
        if spec.timeframe:
            duration_ns(spec.timeframe)
        for instrument in spec.instruments:
            self._accounts.route(spec.account_id, instrument)
        spec = msgspec.structs.replace(spec, path=await asyncio.to_thread(_absolute, spec.path))
        if not spec.strategy_id:
            spec = msgspec.structs.replace(spec, strategy_id=self._choose_id(spec))
        known = self.managed.get(spec.strategy_id)
        if known is not None and known.is_active:
            raise StrategyError(f"{spec.strategy_id} is {known.state} already")
        source = await asyncio.to_thread(read_source, spec.path, SOURCE_LIMIT)
        managed = self.managed[spec.strategy_id] = Managed(spec)
        await self._remember(managed, wanted=True)
        await self._launch(managed, source)
        return spec.strategy_id

    async def stop(self, strategy_id: str, reason: str = "stopped by its owner", grace_s: float = STOP_GRACE_S) -> None:
        """Stop a strategy in order and cancel its open orders; positions stay.

        Raises StrategyError for an unknown one.
        """
        managed = self.managed.get(strategy_id)
        if managed is None:
            raise StrategyError(f"there is no strategy {strategy_id!r}; there are: {', '.join(self.managed) or 'none'}")
        try:
            await self._remember(managed, wanted=False)
        except StorageError as error:
            logger.error("{} stops, but would start again after a crash: {}", strategy_id, error)
        if managed.pause is not None:
            managed.pause.cancel()
            managed.pause = None
            self._set(managed, StrategyState.STOPPED, reason)
        run = managed.run
        if run is not None:
            self._set(managed, StrategyState.STOPPING, reason)
            await run.stop(reason, grace_s)
        if managed.is_active:
            self._set(managed, StrategyState.STOPPED, reason)
        await self._services.orders.cancel_all(strategy_id)

    async def stop_all(self, reason: str, grace_s: float = STOP_GRACE_S) -> None:
        """Stop everything that runs or waits to run."""
        active = [key for key, managed in self.managed.items() if managed.is_active]
        outcomes = await asyncio.gather(*(self.stop(key, reason, grace_s) for key in active), return_exceptions=True)
        for key, outcome in zip(active, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                logger.error("{} did not stop in order: {}", key, outcome)

    async def describe(self, path: str) -> Described:
        """Read what a strategy file declares, in a sandboxed process.

        Raises StrategyError with the line where known.
        """
        source = await asyncio.to_thread(read_source, path, SOURCE_LIMIT)
        answer: asyncio.Future[Described | LoadFailed | WorkerExit] = asyncio.get_running_loop().create_future()

        def receive(message: WorkerMessage) -> None:
            if isinstance(message, Ready):
                handle.send(Describe(source, Path(path).name))
            elif isinstance(message, Described | LoadFailed) and not answer.done():
                answer.set_result(message)

        def exited(ending: WorkerExit) -> None:
            if not answer.done():
                answer.set_result(ending)

        handle = await self._services.launcher.launch(f"describe {Path(path).name}", receive, exited)
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_S):
                result = await answer
        except TimeoutError:
            raise StrategyError(
                f"{path} was not read within {LOAD_TIMEOUT_S:g} s: is there an endless loop in it?"
            ) from None
        finally:
            handle.kill("described")
        if isinstance(result, LoadFailed):
            where = f", line {result.line}" if result.line else ""
            raise StrategyError(f"{path}{where}: {result.reason}")
        if isinstance(result, WorkerExit):
            raise StrategyError(f"{path} could not be read: {result.reason}")
        return result

    def check_heartbeats(self) -> None:
        """End the workers whose heartbeats stay away."""
        now_ns = self._services.clock.monotonic_ns()
        for managed in self.managed.values():
            if managed.run is not None:
                managed.run.check_heartbeat(now_ns)

    # ---- one strategy's ups and downs --------------------------------------------------------------------------------

    async def _launch(self, managed: Managed, source: bytes) -> None:
        self._set(managed, StrategyState.STARTING, "")
        managed.started_ns = self._services.clock.time_ns()
        run = managed.run = StrategyRun(
            managed.spec,
            source,
            self._services,
            partial(self._accounts.route, managed.spec.account_id),
            lambda state, reason: self._set(managed, state, reason),
            lambda reason, crashed, curable: self._ended(managed, run, reason, crashed, curable),
        )
        managed.pulse = run.pulse
        try:
            await run.start()
        except KocError as error:
            managed.run = None
            run.abandon()
            self._set(managed, StrategyState.FAILED, str(error))
            raise

    def _ended(self, managed: Managed, run: StrategyRun, reason: str, crashed: bool, curable: bool) -> None:
        if managed.run is not run:
            return
        managed.run = None
        if not crashed:
            self._set(managed, StrategyState.STOPPED, reason)
            return
        logger.bind(strategy=managed.spec.strategy_id).error("{} failed: {}", managed.spec.strategy_id, reason)
        now_ns = self._services.clock.monotonic_ns()
        managed.failures.append(now_ns)
        while managed.failures and (now_ns - managed.failures[0]) / 1e9 > self._policy.window_s:
            managed.failures.popleft()
        if not curable or len(managed.failures) > self._policy.limit:
            if curable:
                reason = f"{reason}; given up after {self._policy.limit} restarts in {self._policy.window_s:g} s"
            self._set(managed, StrategyState.FAILED, reason)
            self._services.spawn(self._give_up(managed))
            return
        pause_s = min(self._policy.first_pause_s * 2 ** (len(managed.failures) - 1), self._policy.longest_pause_s)
        pause_s *= self._rng.uniform(0.8, 1.2)
        self._set(managed, StrategyState.BACKING_OFF, f"{reason}; starts again in {pause_s:.1f} s")
        managed.pause = asyncio.create_task(self._restart(managed, pause_s), name=f"restart-{managed.spec.strategy_id}")

    async def _restart(self, managed: Managed, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        managed.pause = None
        managed.restarts += 1
        try:
            source = await asyncio.to_thread(read_source, managed.spec.path, SOURCE_LIMIT)
            await self._launch(managed, source)
        except KocError as error:
            self._set(managed, StrategyState.FAILED, str(error))
            await self._give_up(managed)

    async def _give_up(self, managed: Managed) -> None:
        """A strategy that nobody watches any more leaves no open orders behind."""
        try:
            await self._remember(managed, wanted=False)
        except StorageError as error:
            logger.error("{} has failed, but would start again after a crash: {}", managed.spec.strategy_id, error)
        await self._services.orders.cancel_all(managed.spec.strategy_id)

    def _set(self, managed: Managed, state: StrategyState, reason: str) -> None:
        managed.state, managed.reason = state, reason
        self.changed.set()

    async def _remember(self, managed: Managed, *, wanted: bool) -> None:
        managed.wanted = wanted
        await self._journal.append([StrategyRecord(managed.spec, wanted, self._services.clock.time_ns())])

    def _choose_id(self, spec: StrategySpec) -> str:
        """Give the file's name, again for the same file on the same market, so that its positions stay its own."""
        stem, number = Path(spec.path).stem, 1
        while True:
            candidate = stem if number == 1 else f"{stem}-{number}"
            known = self.managed.get(candidate)
            if known is None or (not known.is_active and _same_market(known.spec, spec)):
                return candidate
            number += 1


def _absolute(path: str) -> str:
    return str(Path(path).absolute())


def _same_market(one: StrategySpec, other: StrategySpec) -> bool:
    def key(spec: StrategySpec) -> tuple[str, str, tuple[InstrumentId, ...]]:
        return (spec.path, spec.account_id, spec.instruments)

    return key(one) == key(other)
