"""The strategy host: starts and stops strategies, restarts the ones that fail, within limits."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import msgspec
from loguru import logger

from koc_qt.domain.errors import KocError, StorageError, StrategyError, VenueError, VenueRejected
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.state import StrategySpec, StrategyState
from koc_qt.domain.timeframes import duration_ns
from koc_qt.engine.accounts import Accounts
from koc_qt.engine.kill_switch import KillSwitch
from koc_qt.engine.patience import LOAD_TIMEOUT_S
from koc_qt.engine.services import Services
from koc_qt.engine.strategy_file import check_source, read_source
from koc_qt.engine.strategy_run import STOP_GRACE_S, Pulse, StrategyRun
from koc_qt.engine.strategy_words import LONGEST_NAME, LONGEST_REASON, clip, name_of
from koc_qt.link.messages import MANUAL
from koc_qt.ports.journal import Journal, StrategyRecord
from koc_qt.ports.workers import WorkerExit
from koc_qt.sdk.channel import Describe, Described, LoadFailed, Ready, WorkerMessage

DESCRIBERS = 2  # processes that read declarations at the same time; more wait


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
        self.name = name_of(Path(spec.path).stem)
        self.state = StrategyState.STOPPED
        self.reason = ""
        self.run: StrategyRun | None = None
        self.last: StrategyRun | None = None  # the newest run, over or not: its orders may still be on their way
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
        self._restarting: set[asyncio.Task[None]] = set()
        self._describing = asyncio.Semaphore(DESCRIBERS)

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

        Raises StrategyError, InvalidOrder, BadTimeframe, VenueError, StorageError.
        """
        name = Path(spec.path).name
        if self._kill_switch.engaged:
            raise StrategyError(f"{name} was not started: {self._kill_switch.refusal}")
        if not spec.instruments:
            raise StrategyError(f"{name} needs at least one symbol to run on")
        if len(set(spec.instruments)) < len(spec.instruments):
            raise StrategyError(f"{name} is given the same symbol twice: {', '.join(map(str, spec.instruments))}")
        if spec.timeframe:
            duration_ns(spec.timeframe)
        for instrument in spec.instruments:
            self._accounts.route(spec.account_id, instrument)
        spec = msgspec.structs.replace(spec, path=await asyncio.to_thread(_absolute, spec.path))
        spec = msgspec.structs.replace(spec, strategy_id=spec.strategy_id or self._choose_id(spec))
        _check_id(spec.strategy_id)
        known = self.managed.get(spec.strategy_id)
        if known is not None and known.is_active:
            raise StrategyError(f"{spec.strategy_id} is {known.state} already")
        managed = self.managed[spec.strategy_id] = Managed(spec)  # nobody else can start it from here on
        managed.wanted = True
        self._set(managed, StrategyState.STARTING, "")
        try:
            source = await asyncio.to_thread(read_source, spec.path)
            _check_wanted(managed)
            await self._remember(managed)
        except BaseException as error:
            if self._is_current(managed):
                self._put_back(managed, known, str(error))
            raise
        try:
            await self._launch(managed, source)
        except BaseException:
            self._services.spawn(self._give_up(managed))
            raise
        return spec.strategy_id

    async def stop(self, strategy_id: str, reason: str = "stopped by its owner", grace_s: float = STOP_GRACE_S) -> None:
        """Stop a strategy in order and cancel its open orders; positions stay.

        Raises StrategyError for an unknown one.
        """
        managed = self.managed.get(strategy_id)
        if managed is None:
            raise StrategyError(f"there is no strategy {strategy_id!r}; there are: {', '.join(self.managed) or 'none'}")
        managed.wanted = False  # before anything else: whatever is about to start it sees this
        reason, run = clip(reason, LONGEST_REASON), managed.run
        if managed.pause is not None:
            managed.pause.cancel()
            managed.pause = None
        if run is not None:
            self._set(managed, StrategyState.STOPPING, reason)
            await asyncio.gather(run.stop(reason, grace_s), self._forget(managed))
        if managed.is_active:
            self._set(managed, StrategyState.STOPPED, reason)
        if run is None:
            await self._forget(managed)
        await self._cancel_orders(managed)

    async def stop_all(self, reason: str, grace_s: float = STOP_GRACE_S) -> None:
        """Stop everything that runs or waits to run."""
        active = [key for key, managed in self.managed.items() if managed.is_active]
        outcomes = await asyncio.gather(*(self.stop(key, reason, grace_s) for key in active), return_exceptions=True)
        for key, outcome in zip(active, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                logger.error("{} did not stop in order: {}", key, outcome)

    async def describe(self, path: str, source: bytes | None = None) -> Described:
        """Read what a strategy file, or the `source` of one, declares, in a sandboxed process.

        Raises StrategyError with the line where known.
        """
        if source is None:
            source = await asyncio.to_thread(read_source, path)
        else:
            check_source(path, source)
        async with self._describing:
            result = await self._describe(path, source)
        if isinstance(result, LoadFailed):
            where = f", line {result.line}" if result.line else ""
            raise StrategyError(f"{path}{where}: {clip(result.reason, LONGEST_REASON)}")
        if isinstance(result, WorkerExit):
            raise StrategyError(f"{path} could not be read: {clip(result.reason, LONGEST_REASON)}")
        return result

    async def _describe(self, path: str, source: bytes) -> Described | LoadFailed | WorkerExit:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        answer: asyncio.Future[Described | LoadFailed | WorkerExit] = loop.create_future()

        def receive(message: WorkerMessage) -> None:
            if isinstance(message, Ready) and not ready.done():
                ready.set_result(None)
            elif isinstance(message, Described | LoadFailed) and not answer.done():
                answer.set_result(message)

        def exited(ending: WorkerExit) -> None:
            if not ready.done():
                ready.set_result(None)
            if not answer.done():
                answer.set_result(ending)

        handle = await self._services.launcher.launch(f"describe {Path(path).name}", receive, exited)
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_S):
                await ready
                handle.send(Describe(source, Path(path).name))
                return await answer
        except TimeoutError:
            raise StrategyError(
                f"{path} was not read within {LOAD_TIMEOUT_S:g} s: is there an endless loop in it?"
            ) from None
        finally:
            handle.kill("described")

    def check_heartbeats(self) -> None:
        """End the workers whose heartbeats stay away."""
        now_ns = self._services.clock.monotonic_ns()
        for managed in self.managed.values():
            if managed.run is not None:
                managed.run.check_heartbeat(now_ns)

    # ---- one strategy's ups and downs --------------------------------------------------------------------------------

    async def _launch(self, managed: Managed, source: bytes) -> None:
        key = managed.spec.strategy_id
        _check_wanted(managed)
        if self._kill_switch.engaged:
            self._set(managed, StrategyState.STOPPED, self._kill_switch.refusal)
            raise StrategyError(f"{key} was not started: {self._kill_switch.refusal}")
        self._set(managed, StrategyState.STARTING, "")
        managed.started_ns = self._services.clock.time_ns()
        run = managed.run = managed.last = StrategyRun(
            managed.spec,
            source,
            self._services,
            self._accounts,
            lambda name: self._running(managed, name),
            lambda reason, crashed, curable: self._ended(managed, reason, crashed, curable),
        )
        managed.pulse = run.pulse
        try:
            await run.start()
        except BaseException as error:
            if managed.run is run:
                managed.run = None
                self._set(managed, StrategyState.FAILED, str(error) or "its start was broken off")
            run.abandon()
            raise

    def _running(self, managed: Managed, name: str) -> None:
        managed.name = name or managed.name
        self._set(managed, StrategyState.RUNNING, "")

    def _ended(self, managed: Managed, reason: str, crashed: bool, curable: bool) -> None:
        managed.run = None
        if crashed:
            self._failed(managed, reason, curable)
            return
        self._set(managed, StrategyState.STOPPED, reason)
        if managed.wanted:  # it came to its end by itself
            self._services.spawn(self._give_up(managed))

    def _failed(self, managed: Managed, reason: str, curable: bool) -> None:
        """Start it again after a pause, or give it up."""
        key, policy = managed.spec.strategy_id, self._policy
        logger.bind(strategy=key).error("{} failed: {}", key, reason)
        now_ns = self._services.clock.monotonic_ns()
        managed.failures.append(now_ns)
        while (now_ns - managed.failures[0]) / 1e9 > policy.window_s:
            managed.failures.popleft()
        if not curable or len(managed.failures) > policy.limit:
            if curable:
                reason = f"{reason}; given up after {policy.limit} restarts in {policy.window_s:g} s"
            self._set(managed, StrategyState.FAILED, reason)
            self._services.spawn(self._give_up(managed))
            return
        pause_s = min(policy.first_pause_s * 2 ** (len(managed.failures) - 1), policy.longest_pause_s)
        pause_s *= self._rng.uniform(0.8, 1.2)
        self._set(managed, StrategyState.BACKING_OFF, f"{reason}; starts again in {pause_s:.1f} s")
        managed.pause = asyncio.create_task(self._restart(managed, pause_s), name=f"restart-{key}")
        self._restarting.add(managed.pause)
        managed.pause.add_done_callback(self._restarting.discard)

    async def _restart(self, managed: Managed, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        await self._landed(managed)  # so that the next run is told of every order that is open
        try:
            source = await asyncio.to_thread(read_source, managed.spec.path)
            managed.pause = None  # from here on there is a run to stop
            managed.restarts += 1
            await self._launch(managed, source)
        except KocError as error:
            if managed.state is StrategyState.STOPPED:  # by its owner, or by the kill switch
                await self._give_up(managed)
            else:
                is_outage = isinstance(error, VenueError) and not isinstance(error, VenueRejected)
                self._failed(managed, str(error), is_outage)
        except Exception as error:
            logger.exception("{} could not be started again, in a way nobody foresaw", managed.spec.strategy_id)
            self._failed(managed, f"{type(error).__name__}: {error}", False)

    async def _give_up(self, managed: Managed) -> None:
        """A strategy that nobody watches any more leaves no open orders behind."""
        managed.wanted = False
        await self._forget(managed)
        await self._cancel_orders(managed)

    async def _cancel_orders(self, managed: Managed) -> None:
        """Cancel what is open, and what turns out to be open once the venue has answered."""
        for wait in (False, True):
            if wait:
                await self._landed(managed)
            if self._is_current(managed) and not managed.is_active:  # else somebody has started it again
                await self._services.orders.cancel_all(managed.spec.strategy_id)

    async def _landed(self, managed: Managed) -> None:
        if managed.last is not None:
            await managed.last.landed()

    def _is_current(self, managed: Managed) -> bool:
        return self.managed.get(managed.spec.strategy_id) is managed

    def _put_back(self, managed: Managed, known: Managed | None, reason: str) -> None:
        """Have everything as it was before a start that came to nothing; a strategy that is new is shown as failed."""
        if known is not None:
            self.managed[managed.spec.strategy_id] = known
            self.changed.set()
        elif managed.is_active:  # it has been seen starting, and nobody can take that back from who saw it
            managed.wanted = False
            self._set(managed, StrategyState.FAILED, reason)

    async def _forget(self, managed: Managed) -> None:
        """Have the journal know that it shall not run again by itself."""
        if not self._is_current(managed):
            return
        try:
            await self._remember(managed)
        except StorageError as error:
            key = managed.spec.strategy_id
            logger.error("{} is over, but would start again after a crash of the engine: {}", key, error)

    def _set(self, managed: Managed, state: StrategyState, reason: str) -> None:
        managed.state, managed.reason = state, reason
        self.changed.set()

    async def _remember(self, managed: Managed) -> None:
        await self._journal.append([StrategyRecord(managed.spec, managed.wanted, self._services.clock.time_ns())])

    def _choose_id(self, spec: StrategySpec) -> str:
        """Give the file's name, again for the same file on the same market, so that its positions stay its own."""
        stem, number = name_of(Path(spec.path).stem)[: LONGEST_NAME - 6], 1
        while True:
            candidate = stem if number == 1 else f"{stem}-{number}"
            if candidate == MANUAL:
                candidate = f"{MANUAL}-strategy"
            known = self.managed.get(candidate)
            if known is None or (not known.is_active and _same_market(known.spec, spec)):
                return candidate
            number += 1


def _absolute(path: str) -> str:
    return str(Path(path).absolute())


def _check_wanted(managed: Managed) -> None:
    if not managed.wanted:
        raise StrategyError(f"{managed.spec.strategy_id} was stopped before it ran")


def _check_id(strategy_id: str) -> None:
    """Raise StrategyError for an id that cannot stand in a table, a topic or a log line."""
    if strategy_id == MANUAL:
        raise StrategyError(f"a strategy cannot be called {MANUAL!r}: orders placed by hand are")
    if strategy_id != name_of(strategy_id):
        raise StrategyError(
            f"{clip(strategy_id, LONGEST_NAME)!r} cannot be a strategy's id: use up to {LONGEST_NAME} letters on a line"
        )


def _same_market(one: StrategySpec, other: StrategySpec) -> bool:
    def key(spec: StrategySpec) -> tuple[str, str, tuple[InstrumentId, ...]]:
        return (spec.path, spec.account_id, spec.instruments)

    return key(one) == key(other)
