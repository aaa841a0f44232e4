"""Studies: started, queued, stopped, resumed; every one that was begun is in the store, and so are its trials."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, assert_never

import msgspec
from loguru import logger

from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.errors import KocError, StrategyError
from koc_qt.domain.optimisation import StudySnapshot, StudySpec, Trial
from koc_qt.domain.state import JobState
from koc_qt.engine.backtest_feed import Prepared, RunServices
from koc_qt.engine.optimiser_leases import StudyWatch
from koc_qt.engine.optimiser_origin import check_origin, origin_of
from koc_qt.engine.optimiser_study import MakeSampler, Study
from koc_qt.link.optimiser_messages import (
    DeleteStudy,
    FetchTrials,
    ResumeStudy,
    StartStudy,
    StopStudy,
    StudyChanged,
    StudyCommand,
    StudyDeleted,
    StudyFact,
    TrialsPage,
)
from koc_qt.ports.studies import Crew, KeptStudy, LeaseLost, StudyStore

AT_ONCE = 1  # studies, for each has every core
WAITING_LIMIT = 8  # studies that wait for their turn; more are refused
LISTED = 50  # studies that clients are told of, the newest
PAGE_LIMIT = 1_000  # trials in one answer
PUBLISH_S = 0.1  # progress is told ten times a second at most
KEPT_S = 1.0  # and written once a second, which is the sign of life for other processes
LOAD_AFTER_S = 1.0  # the library behind the store takes a quarter of a second to load
LOOK_S = 2.0  # between two looks at what other processes do
LOOK_AGAIN_S = 30.0  # where the store cannot be read
WATCH_S = 0.25  # while somebody waits for a silent process to be given up
ENGINE_ENDED = "the engine ended while it ran: it can be resumed"
OWNER_ENDED = "its process ended while it ran: it can be resumed"

Prepare = Callable[[BacktestSpec], Awaitable[Prepared]]
"""Gives a run that can be started. Raises KocError."""

Publish = Callable[[StudyFact], None]


class Optimiser:
    """Sole owner of studies. `open_store` blocks and is called in a thread, once; so is everything of the store."""

    def __init__(
        self,
        services: RunServices,
        prepare: Prepare,
        open_store: Callable[[], StudyStore],
        make_sampler: MakeSampler,
        kernel: Callable[[], Awaitable[bytes]],
        publish: Publish,
        *,
        processes: int,
        make_crew: Callable[[str], Crew] | None = None,
    ) -> None:
        self._services, self._prepare, self._open_store = services, prepare, open_store
        self._make_sampler, self._kernel, self._publish = make_sampler, kernel, publish
        self._processes, self._make_crew = processes, make_crew
        self._opening = asyncio.Lock()
        self._beginning = asyncio.Lock()  # of studies, one after the other, and none while all is closed
        self._store: StudyStore | None = None
        self._watch = StudyWatch(services.clock)
        self._leases: dict[str, str] = {}  # that this process holds, by study
        self._snapshots: dict[str, StudySnapshot] = {}  # oldest first
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopping: dict[str, str] = {}  # why, by study
        self._published_ns: dict[str, int] = {}  # monotonic
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._is_closed = False

    @property
    def all(self) -> tuple[StudySnapshot, ...]:
        """The newest studies that are known, oldest first; those of earlier engines once `load` is done."""
        return tuple(self._snapshots.values())[-LISTED:]

    async def execute(self, command: StudyCommand) -> Any:
        """Do what a client asks; gives the reply's value. Raises KocError."""
        match command:
            case StartStudy(spec):
                return await self.start(spec)
            case StopStudy(study_id):
                return await self.stop(study_id)
            case ResumeStudy(study_id):
                return await self.resume(study_id)
            case DeleteStudy(study_id):
                return await self.delete(study_id)
            case FetchTrials(study_id, after, limit, statistics):
                trials = await self.trials(study_id, after, limit)
                return msgspec.Raw(await asyncio.to_thread(_page, trials, statistics, len(trials) < limit))
            case _:
                assert_never(command)

    async def load(self) -> None:
        """Take in what other engines and the command line did; what they run no more is stopped. Raises StorageError.

        A study that changed is shown, one that was deleted is not any more.
        """
        store = await self._opened()
        is_buried = True
        while is_buried:  # which is another change
            is_buried = False
            for kept in await self._watch.look(store):
                if kept.study.study_id not in self._tasks and self._snapshots.get(kept.study.study_id) != kept.study:
                    self._show(kept.study)
            for kept in self._watch.all():
                if kept.study.state is JobState.RUNNING and kept.study.study_id not in self._tasks:
                    is_buried = await self._bury(store, kept) or is_buried
        for key in self._snapshots.keys() - set(self._watch.ids) - self._tasks.keys():
            del self._snapshots[key]
            self._publish(StudyDeleted(key))

    async def _bury(self, store: StudyStore, kept: KeptStudy) -> bool:
        """Stop a study whose process is gone, or silent for long; False where it is not, or somebody was quicker."""
        if not await asyncio.to_thread(self._watch.is_free, kept):
            return False
        lease = await asyncio.to_thread(store.take, kept)
        if lease:
            stopped = msgspec.structs.replace(kept.study, state=JobState.STOPPED, reason=OWNER_ENDED, owner="")
            calm = msgspec.structs.replace(stopped, stage="", processes=0, remaining_s=None)
            await asyncio.to_thread(store.end, calm, lease)
        return bool(lease)

    async def keep_watch(self, is_there: Callable[[], bool]) -> None:
        """Load again and again, from a while after the start on, as soon as there is a store; ends when cancelled."""
        is_said = False
        await asyncio.sleep(LOAD_AFTER_S)
        while True:
            pause_s = LOOK_S
            try:
                if self._store is not None or is_there():
                    await self.load()
                    is_said = False
            except KocError as error:
                if not is_said:
                    logger.warning("{}", error)
                is_said, pause_s = True, LOOK_AGAIN_S
            await asyncio.sleep(pause_s)

    async def start(self, spec: StudySpec) -> str:
        """Start a study, or let it wait for its turn; give its id.

        Raises StrategyError for a file that cannot be read and when too many wait, ConfigError, InvalidOrder for
        symbols that are not there, BadTimeframe, VenueUnavailable, StorageError.
        """
        while True:  # until no other process has taken the id since it was read which ones there are
            await self.load()
            numbers = [int(found[1]) for key in self._watch.ids if (found := re.fullmatch(r"study-(\d+)", key))]
            study_id = f"study-{max(numbers, default=0) + 1}"
            if await self._begin(study_id, spec, None):
                return study_id

    async def resume(self, study_id: str) -> None:
        """Go on with a study that did not come to its end.

        One whose process is silent, and not known to have ended, is watched for up to SILENT_S first. Raises as `start`
        does, and StrategyError where it is done, where another process runs it, and where something that its trials
        were made from changed; then all stays as it is.
        """
        await self.load()
        known = await self._at_rest(study_id)
        if known.state is JobState.DONE:
            raise StrategyError(f"{study_id} is done: there is nothing left to try")
        known = await self._free(study_id)
        if not await self._begin(study_id, known.spec, known):
            raise StrategyError(f"another process was quicker to go on with {study_id}, or to delete it")

    async def stop(self, study_id: str, reason: str = "stopped by its owner") -> None:
        """Stop a study at once, and keep what it found; one that is over stays as it is.

        Raises StrategyError, also for one that another process runs.
        """
        self._check_ours(self._find(study_id))
        task = self._tasks.get(study_id)
        if task is not None:
            self._stopping.setdefault(study_id, reason)
            task.cancel()
            await asyncio.wait([task])

    def study(self, study_id: str) -> StudySnapshot:
        """Give how far a study is that was loaded. Raises StrategyError."""
        return self._find(study_id)

    async def trials(self, study_id: str, after: int, limit: int) -> list[Trial]:
        """Give the trials whose numbers are above `after`, at most `limit`. Raises StrategyError, StorageError."""
        self._find(study_id)
        if not 1 <= limit <= PAGE_LIMIT:
            raise StrategyError(f"ask for 1 to {PAGE_LIMIT:,} trials, not {limit:,}")
        return await asyncio.to_thread((await self._opened()).page, study_id, after, limit)

    async def delete(self, study_id: str) -> None:
        """Forget a study that is over. Raises StrategyError, StorageError."""
        await self.load()
        self._check_ours(await self._at_rest(study_id))
        await self.load()  # again: its end may have been written since
        store = await self._opened()
        lease = await self._lease(store, study_id)
        if not lease:
            raise StrategyError(f"{study_id} has just changed: look at it again, then delete it")
        await asyncio.to_thread(store.delete, study_id, lease)
        self._leases.pop(study_id, None)
        if self._snapshots.pop(study_id, None) is not None:
            self._publish(StudyDeleted(study_id))

    async def close(self) -> None:
        """Stop all studies, keep what they found, let go of the store; no more can be started."""
        self._is_closed = True
        async with self._beginning:
            await asyncio.gather(*(self.stop(study_id, ENGINE_ENDED) for study_id in list(self._tasks)))
        if self._store is not None:
            await asyncio.to_thread(self._store.close)

    # ---- inside

    async def _opened(self) -> StudyStore:
        async with self._opening:
            if self._store is None:
                self._store = await asyncio.to_thread(self._open_store)
            return self._store

    async def _begin(self, study_id: str, spec: StudySpec, known: StudySnapshot | None) -> bool:
        """Begin a study, or go on with a known one; False where the id of a new one is taken."""
        base, source, instruments, services, _ = await self._prepare(spec.base)
        spec = msgspec.structs.replace(spec, base=base)
        if known is not None:
            data = "" if known.origin is None else known.origin.data  # the bars themselves are read later
            check_origin(known, await asyncio.to_thread(origin_of, spec, source, instruments, data))
        store = await self._opened()
        study = Study(
            study_id,
            spec,
            source,
            instruments,
            services,
            store,
            self._make_sampler,
            self._kernel,
            self._changed,
            processes=self._processes,
            make_crew=self._make_crew,
            known=known,
        )
        async with self._beginning:
            self._check_room(study_id)
            if known is None:
                study.lease = await asyncio.to_thread(store.begin, study.snapshot())
            else:
                study.lease = await self._lease(store, study_id)
            if not study.lease:
                return False
            self._leases[study_id] = study.lease
            if len(self._tasks) >= AT_ONCE:
                study.reason = "waits for its turn: one study runs at once"
            self._show(study.snapshot())
            task = asyncio.create_task(self._run(study, store), name=study_id)
            self._tasks[study_id] = task
            task.add_done_callback(partial(self._landed, study))
        return True

    async def _lease(self, store: StudyStore, study_id: str) -> str:
        """Give the lease of a study that nobody runs; empty where somebody was quicker."""
        if study_id in self._leases:  # its end could not be written
            return self._leases[study_id]
        kept = self._watch.kept(study_id)
        if kept is None or not await asyncio.to_thread(self._watch.is_free, kept):
            return ""
        return await asyncio.to_thread(store.take, kept)

    async def _free(self, study_id: str) -> StudySnapshot:
        """Wait until it is known that nobody runs a study. Raises StrategyError where somebody does."""
        kept = self._watch.kept(study_id)
        first = kept
        while kept is not None and study_id not in self._leases:
            if await asyncio.to_thread(self._watch.is_free, kept):
                break
            if first is None or kept.revision != first.revision:
                self._check_ours(kept.study)
            await asyncio.sleep(WATCH_S)
            await self.load()
            kept = self._watch.kept(study_id)
        return self._find(study_id)

    async def _run(self, study: Study, store: StudyStore) -> None:
        """Play a study, and show and keep how it ended."""
        keeping = asyncio.create_task(self._keep(study, store))
        try:
            await asyncio.to_thread(store.put, study.snapshot(), study.lease)
            async with self._turns:
                study.reason = ""
                self._changed(study, True)
                await study.play()
            study.end(JobState.DONE, "")
        except asyncio.CancelledError:
            study.end(JobState.STOPPED, self._stopping.get(study.study_id, "stopped"))
        except LeaseLost as error:
            study.end(JobState.STOPPED, str(error))
        except KocError as error:
            study.end(JobState.FAILED, str(error))
        except Exception as error:
            logger.exception("{} failed in a way nobody foresaw", study.study_id)
            study.end(JobState.FAILED, f"internal error of the engine ({type(error).__name__}), its log says more")
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await self._let_go(study, store)
        logger.info("{} of {} is {}: {}", study.study_id, Path(study.spec.base.path).name, study.state, study.reason)

    async def _let_go(self, study: Study, store: StudyStore) -> None:
        """Keep how a study ended, for others to go on with."""
        try:
            await asyncio.to_thread(store.end, study.snapshot(), study.lease)
        except LeaseLost as error:
            logger.warning("{}", error)
        except KocError as error:
            logger.error("{}", error)
            return  # the lease is still ours
        self._leases.pop(study.study_id, None)
        self._watch.forget(study.study_id)

    def _landed(self, study: Study, task: asyncio.Task[None]) -> None:
        """Show the end also of one that was stopped before it began."""
        self._tasks.pop(study.study_id, None)
        reason = self._stopping.pop(study.study_id, "stopped")
        if study.state is JobState.RUNNING:
            error = None if task.cancelled() else task.exception()
            study.end(JobState.STOPPED if error is None else JobState.FAILED, reason if error is None else str(error))

    async def _keep(self, study: Study, store: StudyStore) -> None:
        """Write how far a study is, for whoever finds it when this process was killed."""
        while True:
            await asyncio.sleep(KEPT_S)
            try:
                await asyncio.to_thread(store.put, study.snapshot(), study.lease)
            except LeaseLost as error:
                self._stopping.setdefault(study.study_id, str(error))
                self._tasks[study.study_id].cancel()
                return
            except KocError as error:
                logger.warning("{}", error)

    def _check_ours(self, study: StudySnapshot) -> None:
        """Raise StrategyError for a study that another process runs."""
        if study.state is JobState.RUNNING and study.study_id not in self._tasks:
            who = study.owner or "another process"
            raise StrategyError(f"{study.study_id} is run by {who}: stop it there, or wait for its end")

    def _check_room(self, study_id: str) -> None:
        if self._is_closed:
            raise StrategyError("the engine is stopping: it starts no study any more")
        if study_id in self._tasks:
            raise StrategyError(f"{study_id} is running")
        if len(self._tasks) >= AT_ONCE + WAITING_LIMIT:
            raise StrategyError(f"{WAITING_LIMIT} studies wait for their turn already: let one end, or stop one")

    async def _at_rest(self, study_id: str) -> StudySnapshot:
        """Give a study that does not run, once all of it is kept. Raises StrategyError for one that does."""
        task = self._tasks.get(study_id)
        if task is not None and self._find(study_id).state is JobState.RUNNING:
            raise StrategyError(f"{study_id} is running: stop it first")
        if task is not None:
            await asyncio.wait([task])
        return self._find(study_id)

    def _find(self, study_id: str) -> StudySnapshot:
        found = self._snapshots.get(study_id)
        if found is None:
            known = ", ".join(list(self._snapshots)[-10:]) or "none"
            raise StrategyError(f"there is no study {study_id!r}; there are: {known}")
        return found

    def _changed(self, study: Study, must: bool) -> None:
        """Tell how far a study is; progress at most ten times a second, changes of state always."""
        now_ns = self._services.clock.monotonic_ns()
        if must or now_ns - self._published_ns.get(study.study_id, -(10**12)) >= PUBLISH_S * 1e9:
            self._published_ns[study.study_id] = now_ns
            self._show(study.snapshot())

    def _show(self, snapshot: StudySnapshot) -> None:
        self._snapshots[snapshot.study_id] = snapshot
        self._publish(StudyChanged(snapshot))


def _page(trials: list[Trial], statistics: tuple[str, ...], is_last: bool) -> bytes:
    if statistics:
        trials = [
            msgspec.structs.replace(trial, statistics={name: trial.statistics.get(name) for name in statistics})
            for trial in trials
        ]
    return msgspec.msgpack.encode(TrialsPage(trials, is_last))
