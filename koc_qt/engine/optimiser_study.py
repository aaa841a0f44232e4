"""One study: who evaluates its combinations, what they found, and what becomes of those whose process was lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

from loguru import logger

from koc_qt.domain.data_hash import DataHash
from koc_qt.domain.errors import KocError, StrategyError
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.optimisation import (
    Leaders,
    MedianFloor,
    StudySnapshot,
    StudySpec,
    Trial,
    TrialState,
    corners,
)
from koc_qt.domain.state import JobState
from koc_qt.engine.backtest_feed import BacktestFeed, RunServices
from koc_qt.engine.optimiser_board import Board
from koc_qt.engine.optimiser_origin import check_origin, data_of, origin_of
from koc_qt.engine.optimiser_ranges import check_fixed, resolved
from koc_qt.engine.optimiser_worker import SILENCE_LIMIT_S, UNSOUND, SweepWorker, is_sound
from koc_qt.engine.strategy_words import LONGEST_REASON, clip
from koc_qt.ports.bars import Span
from koc_qt.ports.studies import Crew, PlaceLost, RunnerLost, Sampler, StudyStore, TrialRunner
from koc_qt.sdk.channel import ReplayBars, StartReplay, StartSweep, frame
from koc_qt.sdk.sweep_messages import TrialAsked, TrialFound

BATCH_MOST = 2_000  # combinations; what is asked between two of them a process waits for
_VALUES_MOST = 10_000  # parameters in a batch: a frame of the channel holds them
KEPT_EVERY_S = 0.2  # what was found since is lost when this process is killed, and made again
DEATHS_IN_A_ROW = 12  # without a trial in between: something else than a combination is wrong
STARTS_IN_A_ROW = 3  # that fail
ATTEMPTS = 2
PLACES = 5  # lost with one combination alone before that is to blame
CREW_PATIENCE_S = 60.0  # for a worker to join a cluster that has lost all of its workers
_PAGE = 2_000  # trials of an earlier run, read at once

MakeSampler = Callable[[StudySpec], Sampler]
Changed = Callable[["Study", bool], None]


class Study:
    """The life of one study; `play` does it all. Cancelling that keeps what was found; `play` of another goes on.

    `known` is what an earlier run of the study left, whose trials are in the store. To write there it needs a `lease`.
    `changed` is called when there is something new to show: with True for changes of state, which nobody may miss.
    """

    def __init__(
        self,
        study_id: str,
        spec: StudySpec,
        source: bytes,
        instruments: tuple[Instrument, ...],
        services: RunServices,
        store: StudyStore,
        make_sampler: MakeSampler,
        kernel: Callable[[], Awaitable[bytes]],
        changed: Changed,
        *,
        processes: int,
        make_crew: Callable[[str], Crew] | None = None,
        known: StudySnapshot | None = None,
        silence_limit_s: float = SILENCE_LIMIT_S,
    ) -> None:
        self.study_id, self.spec = study_id, spec
        self.state, self.reason, self.stage = JobState.RUNNING, "", ""
        self._source, self._instruments, self._services = source, instruments, services
        self._store, self._make_sampler, self._kernel, self._changed = store, make_sampler, kernel, changed
        self._processes = spec.processes or processes
        self._crew = make_crew(spec.cluster) if spec.cluster and make_crew is not None else None
        self._silence_limit_s = silence_limit_s
        self._started_ns = services.clock.time_ns() if known is None else known.started_ns
        self._known, self.lease = known, ""
        self.origin = None if known is None else known.origin
        self._ended_ns: int | None = None
        self._digest = sha256(source).hexdigest()
        self._filename = Path(spec.base.path.replace("\\", "/")).name
        self._total: int | None = None
        self._counts: Counter[str] = Counter()
        self._leaders = Leaders(spec.objectives)
        self._floor = MedianFloor(float(spec.base.cash), spec.floor, median=spec.prune)
        self._start: StartSweep | None = None
        self._feed: BacktestFeed | None = None
        self._warmup_bars, self._timeframe = 0, ""
        self._is_read = self._has_begun = False  # its bars; and they are what they have to be
        self._waits_for = ""
        self._board: Board | None = None
        self._unkept: list[Trial] = []
        self._is_over = asyncio.Event()
        self._began_ns = 0  # monotonic, of the trials of this run
        self._made_here = 0
        self._deaths = self._failed_starts = 0
        self._working = 0

    def snapshot(self) -> StudySnapshot:
        """How far it is."""
        finished = self._counts.total()
        remaining_s = None
        if self.stage == "trials" and self._total and self._made_here:
            elapsed_s = (self._services.clock.monotonic_ns() - self._began_ns) / 1e9
            remaining_s = max(self._total - finished, 0) * elapsed_s / self._made_here
        return StudySnapshot(
            study_id=self.study_id,
            spec=self.spec,
            state=self.state,
            reason=self.reason,
            stage=self.stage,
            total=self._total,
            counts=dict(self._counts),
            best=self._leaders.best,
            front=self._leaders.front,
            processes=self._working,
            remaining_s=remaining_s,
            started_ns=self._started_ns,
            time_ns=self._services.clock.time_ns() if self._ended_ns is None else self._ended_ns,
            strategy=self._digest,
            owner=self._store.owner if self.state is JobState.RUNNING else "",
            origin=self.origin,
        )

    def end(self, state: JobState, reason: str) -> None:
        """Show that it is over."""
        self.state, self.reason, self.stage = state, clip(reason, LONGEST_REASON), ""
        self._ended_ns = self._services.clock.time_ns()
        self._changed(self, True)

    async def play(self) -> None:
        """Evaluate all combinations that have not been. Raises KocError where the study cannot go on."""
        worker = SweepWorker(self._silence_limit_s)
        runners: list[TrialRunner | None] = []
        try:
            await self._prepare(worker)
            if self._crew is None:
                runners = [worker, *await self._hire_all(worker)]
            else:
                await worker.close()
                self._processes = await self._crew.muster(self._started(), self._frames)
        except BaseException as error:
            await worker.close()
            await self._dismiss()
            if isinstance(error, RunnerLost):
                raise StrategyError(str(error)) from error
            raise
        assert self._board is not None  # noqa: S101 (for the type checker)
        self._enter("trials")
        self._began_ns = self._services.clock.monotonic_ns()
        keeping = asyncio.create_task(self._keep_on(), name=f"{self.study_id}-keeping")
        try:
            async with asyncio.TaskGroup() as group:
                if self._crew is None:
                    for number in range(self._processes):
                        group.create_task(self._work(number, runners[number] if number < len(runners) else None))
                else:
                    await self._use_crew(self._crew, group)
        except* Exception as failures:
            raise _first(failures) from None
        finally:
            self._is_over.set()
            await keeping
            await self._dismiss()
            await self._keep()

    async def _use_crew(self, crew: Crew, group: asyncio.TaskGroup) -> None:
        """Work with what a cluster has, and with what joins it later, until nothing is left to do.

        Raises StrategyError where all were lost and none came for CREW_PATIENCE_S.
        """
        assert self._board is not None  # noqa: S101 (for the type checker)
        working = {group.create_task(self._work(number, None)) for number in range(self._processes)}
        joining = group.create_task(crew.joined())
        try:
            while working or not self._board.is_over:
                patience_s = None if working else CREW_PATIENCE_S
                self._waits_for = "" if working else "all workers of the cluster were lost: waits for others"
                self._say(self._waits_for)
                done, _ = await asyncio.wait(
                    {*working, joining}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    raise StrategyError("all workers of the cluster were lost: resume the study when there are others")
                working -= done
                if joining in done:
                    count = joining.result()
                    working |= {group.create_task(self._work(self._processes + more, None)) for more in range(count)}
                    self._processes += count
                    joining = group.create_task(crew.joined())
        finally:
            joining.cancel()

    async def _dismiss(self) -> None:
        if self._crew is not None:
            await self._crew.close()

    # ---- before the first trial

    async def _prepare(self, worker: SweepWorker) -> None:
        """Load the file, settle what is searched, and have the history ready."""
        await worker.launch(self._services.launcher, f"study of {self._filename}")
        described = await worker.describe(self._source, self._filename)
        check_fixed(self.spec, described)
        self.spec = resolved(self.spec, described)
        sampler = await asyncio.to_thread(self._make_sampler, self.spec)
        await self._recall(sampler)
        self._total = await asyncio.to_thread(sampler.total)
        if self._total == 0:
            raise StrategyError("no combination fulfils the constraints: there is nothing to try")
        self._board = Board(sampler)
        self._start = self._message(await self._kernel())
        loaded = await worker.load(self._start)
        self._warmup_bars = loaded.warmup_bars
        span = Span(self.spec.base.since_ns, self.spec.base.until_ns)
        ids = [rules.id for rules in self._instruments]
        self._timeframe = loaded.described.timeframe
        self._feed = BacktestFeed(self._services.history, ids, self._timeframe, span)
        self._enter("history")
        await self._feed.fetch(lambda _fraction: self._changed(self, False))

    async def _hire_all(self, worker: SweepWorker) -> list[TrialRunner | None]:
        """Send the bars to the first process, and start the others meanwhile; none where one was lost."""
        count = self._processes if self._total is None else min(self._processes, self._total)
        hired: list[TrialRunner | None] = [None] * (count - 1)

        async def hire(place: int) -> None:
            hired[place] = await self._hire(place + 1)

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(worker.supply(self._bars()))
                for place in range(count - 1):
                    group.create_task(hire(place))
        except BaseException as error:
            await asyncio.gather(*(runner.close() for runner in hired if runner is not None))
            if isinstance(error, ExceptionGroup):
                raise _first(error) from None
            raise
        return hired

    async def _frames(self) -> bytes:
        """Give all bars as frames of the channel, for those that cannot be sent them one by one."""
        frames = bytearray()
        async for messages in self._bars():
            for message in messages:
                frames += frame(message)
        return bytes(frames)

    def _started(self) -> StartSweep:
        assert self._start is not None  # noqa: S101 (for the type checker)
        return self._start

    async def _recall(self, sampler: Sampler) -> None:
        """Take over what an earlier run of this study found."""
        after = -1
        while self._known is not None and (
            trials := await asyncio.to_thread(self._store.page, self.study_id, after, _PAGE)
        ):
            await asyncio.to_thread(sampler.tell, trials)
            for trial in trials:
                self._count(trial)
            after = trials[-1].number

    def _message(self, kernel: bytes) -> StartSweep:
        base = self.spec.base
        replay = StartReplay(
            source=self._source,
            filename=self._filename,
            parameters=base.parameters,
            instruments=self._instruments,
            timeframe=base.timeframe,
            since_ns=base.since_ns,
            cash=base.cash,
            fee=base.fee,
            slippage=base.slippage,
            seed=base.seed,
            allow_short=base.allow_short,
            spread=base.spread,
            slippage_ticks=base.slippage_ticks,
            latency_ns=base.latency_ns,
            volume_fraction=base.volume_fraction,
        )
        wanted = tuple(objective.statistic for objective in self.spec.objectives)
        return StartSweep(replay, corners(self.spec.ranges), wanted, kernel)

    async def _bars(self) -> AsyncIterator[Sequence[ReplayBars]]:
        """Read the bars anew for each process: that costs less than to have them all in memory here.

        They are hashed by whoever reads them first, and by those that do once trials are made. Raises StrategyError at
        their end where they are others than those that trials were made on.
        """
        assert self._feed is not None  # noqa: S101 (for the type checker)
        is_beside, self._is_read = self._is_read and not self._has_begun, True
        hashing = None if is_beside else DataHash([str(rules.id) for rules in self._instruments], self._timeframe)
        warmup = await self._feed.before(self._warmup_bars)
        if hashing is not None:
            await asyncio.to_thread(data_of, hashing, warmup)
        yield warmup
        async for messages in self._feed.pages():
            if hashing is not None:
                await asyncio.to_thread(data_of, hashing, messages)
            yield messages
        if hashing is not None:
            await self._agree(hashing.hexdigest())

    async def _agree(self, data: str) -> None:
        """Note what the trials are made from; refuse to make some from other things than those there are.

        That is in the store before any of them is: a process that is killed must not leave trials of unknown bars.
        """
        if self._has_begun:
            if self.origin is not None and data != self.origin.data:
                raise StrategyError("the bars changed while the study ran: something else writes to them")
            return
        now = await asyncio.to_thread(origin_of, self.spec, self._source, self._instruments, data)
        if self._known is not None:
            check_origin(self._known, now)
        self.origin, self._has_begun = now, True
        await asyncio.to_thread(self._store.put, self.snapshot(), self.lease)

    # ---- trials

    async def _work(self, number: int, runner: TrialRunner | None) -> None:
        """Evaluate combinations in one process, and in another when that is lost."""
        board, rate_hz = self._board, 0.0
        assert board is not None  # noqa: S101 (for the type checker)
        loop = asyncio.get_running_loop()
        self._working += 1
        try:
            while batch := await board.take(self._size(rate_hz, runner.batch_s if runner else 0.0)):
                left = list(batch)
                try:
                    if runner is None:
                        runner = await self._hire(number)
                    if runner is None:
                        board.again(batch)
                        if self._crew is not None:
                            return  # the others go on
                        continue
                    began_s = loop.time()
                    await runner.evaluate(batch, self._floor.floors(), partial(self._told, left))
                    rate_hz = len(batch) / max(loop.time() - began_s, 1e-6)
                except RunnerLost as lost:
                    rate_hz = 0.0
                    if runner is not None:
                        await runner.close()
                        runner = None
                    self._lost(board, left, lost)
                finally:
                    await board.over(len(batch))
        finally:
            self._working -= 1
            if runner is not None:
                await runner.close()

    async def _hire(self, number: int) -> TrialRunner | None:
        """Start another process; None where that was lost. Raises StrategyError, also after STARTS_IN_A_ROW."""
        if self._crew is not None:
            return await self._crew.hire()
        worker = SweepWorker(self._silence_limit_s)
        try:
            await worker.launch(self._services.launcher, f"study of {self._filename} {number + 1}")
            await worker.load(self._started())
            await worker.supply(self._bars())
        except RunnerLost as lost:
            await worker.close()
            self._failed_starts += 1
            if self._failed_starts >= STARTS_IN_A_ROW:
                raise StrategyError(f"no process can be started any more: {lost}") from lost
            return None
        except BaseException:
            await worker.close()
            raise
        self._failed_starts = 0
        return worker

    def _size(self, rate_hz: float, batch_s: float) -> int:
        """How many combinations make up a batch: few at first and near the end."""
        most = min(BATCH_MOST, _VALUES_MOST // max(len(self.spec.ranges), 1))
        size = min(max(int(rate_hz * batch_s), 1), most)
        if self._total is not None:
            left = self._total - self._counts.total()
            size = min(size, max(left // (2 * self._processes), 1))
        return size

    def _told(self, left: list[TrialAsked], found: Sequence[TrialFound]) -> None:
        """Take what came of the first ones of those that are left, and take them off. Raises RunnerLost."""
        if not is_sound(found, [trial.number for trial in left]):
            raise RunnerLost(f"its process {UNSOUND}")
        for trial, outcome in zip(left, found, strict=False):
            self._finish(
                Trial(
                    trial.number,
                    trial.parameters,
                    TrialState(outcome.state),
                    outcome.statistics,
                    outcome.reason,
                    outcome.seconds,
                )
            )
            self._floor.add(outcome.equity)
        del left[: len(found)]

    def _finish(self, trial: Trial) -> None:
        self._deaths = 0
        self._made_here += 1
        self._count(trial)
        self._unkept.append(trial)
        if self._board is not None:
            self._board.hear(trial)
        self._changed(self, False)

    def _count(self, trial: Trial) -> None:
        self._counts[trial.state.value] += 1
        self._leaders.add(trial)

    def _lost(self, board: Board, left: Sequence[TrialAsked], lost: RunnerLost) -> None:
        """Have what a lost process left made by others, in halves: so the one that kills it is found.

        A machine that is gone takes many processes along, and none of what they did need be to blame: only one that is
        there whenever machines go is. Raises StrategyError when processes are lost again and again without a result.
        """
        why, is_place = str(lost), isinstance(lost, PlaceLost)
        logger.warning("{}: {}; {} of its trials are made again", self.study_id, why, len(left))
        self._deaths += not is_place
        if self._deaths > DEATHS_IN_A_ROW:
            raise StrategyError(f"processes are lost one after the other: {why}")
        attempts = PLACES if is_place else ATTEMPTS
        if len(left) > 1:
            middle = len(left) // 2
            board.again(left[:middle])
            board.again(left[middle:])
        elif left and board.attempted(left[0].number) >= attempts:
            reason = clip(f"{why}, {attempts} times", LONGEST_REASON)
            self._finish(Trial(left[0].number, left[0].parameters, TrialState.FAILED, reason=reason))
        else:
            board.again(left)

    # ---- what is kept

    def _enter(self, stage: str) -> None:
        self.stage = stage
        self._changed(self, True)

    async def _keep_on(self) -> None:
        """Write now and then; what is wrong with that is shown, and ends the study only where it is so at the end."""
        while not self._is_over.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KEPT_EVERY_S):
                    await self._is_over.wait()
            try:
                await self._keep()
            except KocError as error:
                self._say(str(error))
            else:
                self._say(self._waits_for)

    def _say(self, reason: str) -> None:
        if reason != self.reason:
            self.reason = reason
            self._changed(self, True)

    async def _keep(self) -> None:
        """Write what was found since; what cannot be written is tried again with the next. Raises StorageError."""
        trials, self._unkept = self._unkept, []
        if not trials:
            return
        try:
            await asyncio.to_thread(self._store.add, self.study_id, self.lease, trials)
        except Exception:
            self._unkept = trials + self._unkept
            raise


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """Give the first error of some that came at once."""
    error: BaseException = failures
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
