"""Whether a strategy's results can be believed: checks made of many back-tests, queued, stopped, and kept on disk."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, assert_never

import msgspec
from loguru import logger

from koc_qt.domain.backtests import BacktestSnapshot, Engine
from koc_qt.domain.errors import KocError, StorageError, StrategyError
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.percentages import percentage
from koc_qt.domain.state import JobState
from koc_qt.domain.trust import Check, TrustSnapshot, TrustSpec
from koc_qt.domain.trust_report import TrustReport, overall
from koc_qt.engine.backtest_feed import RunServices
from koc_qt.engine.backtest_run import PUBLISH_S, SILENCE_LIMIT_S
from koc_qt.engine.backtests import prepare
from koc_qt.engine.drift import DriftMonitor
from koc_qt.engine.drift_replay import SessionReplays
from koc_qt.engine.drift_sessions import Sessions
from koc_qt.engine.job_ending import play_to_end
from koc_qt.engine.services import Services
from koc_qt.engine.strategy_words import LONGEST_REASON, clip, name_of
from koc_qt.engine.told_tape import ToldTapes
from koc_qt.engine.trust_checks import TrustChecks
from koc_qt.engine.trust_files import JsonFolder, StoredTrust
from koc_qt.engine.trust_history import SharedHistory
from koc_qt.engine.trust_runs import TrustRuns
from koc_qt.engine.trust_scope import bounded, runs_of, scope_of
from koc_qt.engine.trust_tape import SessionTape
from koc_qt.link.trust_messages import CheckDrift, FetchTrust, StartTrust, StopTrust, TrustChanged, TrustCommand
from koc_qt.ports.bars import Span

WAITING_LIMIT = 4  # checks that wait for their turn; more are refused
_ID = re.compile(r"trust-([1-9][0-9]{0,8})", re.ASCII)
_FIELDS = {
    Check.LOOKAHEAD: "lookahead",
    Check.WARMUP: "warmup",
    Check.PARITY: "certificate",
    Check.SHARPE: "sharpe",
    Check.MONTE_CARLO: "monte_carlo",
    Check.WALK_FORWARD: "walk_forward",
}


class TrustJob:
    """The checks of one strategy; `play` makes them all, and cancelling that ends their processes.

    `changed` is called when there is something new to show: with True for changes of state, which nobody may miss.
    `replays` run sessions of strategies once more; None where there are no sessions.
    """

    def __init__(
        self,
        trust_id: str,
        spec: TrustSpec,
        source: bytes,
        instruments: tuple[Instrument, ...],
        services: RunServices,
        changed: Callable[[TrustJob, bool], None],
        silence_limit_s: float = SILENCE_LIMIT_S,
        replays: SessionReplays | None = None,
    ) -> None:
        self.trust_id = trust_id
        self.state = JobState.RUNNING
        self.reason = ""
        self.report = TrustReport(spec, strategy=hashlib.sha256(source).hexdigest())
        self._instruments = instruments
        self._services = services
        self._changed = changed
        self._replays = replays
        self._runs = TrustRuns(source, instruments, services, self._run_ended, silence_limit_s)
        self._stage = ""
        self._done = 0  # runs
        self._planned = 0  # not known yet
        self._started_ns = services.clock.time_ns()
        self._ended_ns: int | None = None

    def snapshot(self) -> TrustSnapshot:
        """How far it is."""
        report = self.report
        return TrustSnapshot(
            trust_id=self.trust_id,
            spec=report.spec,
            state=self.state,
            reason=self.reason,
            stage=self._stage,
            progress=1.0 if self.state is JobState.DONE else self._progress(),
            runs=self._done,
            verdict=overall(report),
            verdicts=report.verdicts,
            started_ns=self._started_ns,
            time_ns=self._services.clock.time_ns() if self._ended_ns is None else self._ended_ns,
        )

    def _progress(self) -> float:
        return min(self._done / self._planned, 1.0) if self._planned else 0.0

    def end(self, state: JobState, reason: str) -> None:
        """Show that it is over."""
        self.state, self.reason, self._stage = state, clip(reason, LONGEST_REASON), ""
        self._ended_ns = self._services.clock.time_ns()
        self._changed(self, True)

    async def play(self) -> None:
        """Make the checks. One that fails does not stop the others; raises KocError where the first run fails."""
        spec = self.report.spec
        whole = msgspec.structs.replace(spec.backtest, engine=Engine.REPLAY)
        self._enter("first run")
        backtest, scope = await scope_of(spec, whole, self._runs, self._services, self._first_told)
        spec = msgspec.structs.replace(spec, backtest=backtest)
        self.report = msgspec.structs.replace(self.report, scope=scope)
        began_s = asyncio.get_running_loop().time()
        history = SharedHistory(self._services.history, Span(backtest.since_ns, backtest.until_ns))
        first = await self._runs.run(backtest, history, trace=True, told=self._first_told)
        self.reason = ""
        fills = len(first.result.fills)
        self.report = msgspec.structs.replace(self.report, name=name_of(first.described.name), fills=fills)
        checks = TrustChecks(spec, first, self._runs, history, self._instruments, self._replays)
        made: dict[Check, Callable[[], Awaitable[Any]]] = {
            Check.LOOKAHEAD: checks.lookahead,
            Check.WARMUP: checks.warmup,
            Check.PARITY: checks.parity,
            Check.SHARPE: checks.sharpe,
            Check.MONTE_CARLO: checks.monte_carlo,
            Check.WALK_FORWARD: checks.walk_forward,
        }
        wanted = [check for check in Check if check in spec.checks]
        self._planned = 1 + sum(runs_of(check, spec, checks.grid_size) for check in wanted)
        for check in wanted:
            self._enter(str(check))
            try:
                async with bounded(spec, asyncio.get_running_loop().time() - began_s):
                    found = await made[check]()
            except KocError as error:
                failed = {**self.report.failed, str(check): clip(str(error), LONGEST_REASON)}
                self.report = msgspec.structs.replace(self.report, failed=failed)
            else:
                self.report = msgspec.structs.replace(self.report, **{_FIELDS[check]: found})

    def _first_told(self, run: BacktestSnapshot) -> None:
        """Say how far the history is, which may take long to be fetched, and the first run."""
        if run.stage:
            self.reason = f"{run.stage}: {percentage(run.progress)}"
            self._changed(self, False)

    def _enter(self, stage: str) -> None:
        self._stage = stage
        self._changed(self, True)

    def _run_ended(self) -> None:
        self._done += 1
        self._changed(self, False)


class TrustService:
    """Sole owner of checks. One strategy is checked at a time; `folder` keeps what was found."""

    def __init__(
        self, services: Services, folder: Path, sessions: Sessions, *, silence_limit_s: float = SILENCE_LIMIT_S
    ) -> None:
        self._services = services
        tape = SessionTape(services.store, services.bus, sessions, services.market_data.time_ns)
        self._tapes = sessions.tapes = ToldTapes(
            folder / "sessions", services.store, services.bus, services.market_data.time_ns
        )
        self._replays = SessionReplays(services, sessions, tape, self._tapes, silence_limit_s=silence_limit_s)
        self.drift = DriftMonitor(services, folder, sessions, silence_limit_s=silence_limit_s)
        self._silence_limit_s = silence_limit_s
        self._files = JsonFolder(folder, StoredTrust, _ID.pattern)
        self._over = self._files.load()
        self._jobs: dict[str, TrustJob] = {}  # those that are not over
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._published_ns: dict[str, int] = {}  # monotonic
        self._last = max(map(_number, self._files.names()), default=0)
        self._turn = asyncio.Lock()
        self._disk = asyncio.Lock()
        self._is_closed = False

    @property
    def all(self) -> tuple[TrustSnapshot, ...]:
        """All checks that are known, oldest first."""
        shown = {key: stored.snapshot for key, stored in self._over.items()}
        shown |= {key: job.snapshot() for key, job in self._jobs.items()}
        return tuple(shown[key] for key in sorted(shown, key=_number))

    async def execute(self, command: TrustCommand) -> Any:
        """Do what a client asks; gives the reply's value. Raises KocError."""
        match command:
            case StartTrust(spec):
                return await self.start(spec)
            case StopTrust(trust_id):
                return await self.stop(trust_id)
            case FetchTrust(trust_id):
                return msgspec.to_builtins(self.report(trust_id))
            case CheckDrift(strategy_id):
                return self.drift.ask(strategy_id)
            case _:
                assert_never(command)

    async def start(self, spec: TrustSpec) -> str:
        """Begin checks, or let them wait for their turn; give their id. Raises as Backtests.start does."""
        made = await prepare(spec.backtest, self._services)
        if self._is_closed:
            raise StrategyError("the engine is stopping: it checks no strategy any more")
        if len(self._tasks) > WAITING_LIMIT:
            raise StrategyError(f"{WAITING_LIMIT} strategies wait to be checked already: let one end, or stop one")
        self._last += 1
        key = f"trust-{self._last}"
        spec = msgspec.structs.replace(spec, backtest=made.spec)
        job = TrustJob(
            key,
            spec,
            made.source,
            made.instruments,
            made.services,
            self._publish,
            self._silence_limit_s,
            self._replays,
        )
        self._jobs[key] = job
        if self._turn.locked():
            job.reason = "waits for its turn: one strategy is checked at a time"
        self._publish(job, True)
        task = self._tasks[key] = asyncio.create_task(self._run(job), name=key)
        task.add_done_callback(lambda _: self._tasks.pop(key, None))
        return key

    async def stop(self, trust_id: str, reason: str = "stopped by its owner") -> None:
        """Stop checks at once; what they found is kept. Raises StrategyError for an unknown id."""
        job, task = self._jobs.get(trust_id), self._tasks.get(trust_id)
        if job is None or task is None:
            self.report(trust_id)
            return
        if job.state is JobState.RUNNING:
            job.end(JobState.STOPPED, reason)
        task.cancel()
        await asyncio.wait([task])
        if trust_id in self._jobs:  # it had not even begun
            await self._keep(job)

    def report(self, trust_id: str) -> TrustReport:
        """Give what checks have found so far. Raises StrategyError for an unknown id."""
        if trust_id in self._jobs:
            return self._jobs[trust_id].report
        stored = self._over.get(trust_id)
        if stored is None:
            known = ", ".join(each.trust_id for each in self.all) or "none"
            raise StrategyError(f"there are no checks {trust_id!r} any more; there are: {known}")
        return stored.report

    async def close(self) -> None:
        """Stop everything; no more can be started."""
        self._is_closed = True
        await self.drift.close()
        await asyncio.gather(*(self.stop(trust_id, "the engine stopped") for trust_id in list(self._tasks)))
        await self._tapes.close()

    # ---- inside

    async def _run(self, job: TrustJob) -> None:
        try:
            async with self._turn:
                if job.state is JobState.RUNNING:
                    await self._play(job)
        finally:
            await self._keep(job)

    async def _play(self, job: TrustJob) -> None:
        what = f"the checks {job.trust_id} of {Path(job.report.spec.backtest.path).name}"
        job.reason = ""
        if await play_to_end(job, what):
            logger.info("{} are done: {}", what, overall(job.report))

    async def _keep(self, job: TrustJob) -> None:
        """Write down checks that are over; older ones make way."""
        key, stored = job.trust_id, StoredTrust(job.snapshot(), job.report)
        async with self._disk:
            self._over[key] = stored
            self._jobs.pop(key, None)
            self._published_ns.pop(key, None)
            try:
                gone = await asyncio.to_thread(self._files.keep, key, stored)
            except StorageError as error:
                logger.warning("{}", error)
                gone = []
        for old in gone:
            self._over.pop(old, None)

    def _publish(self, job: TrustJob, must: bool) -> None:
        """Tell how far checks are; progress at most ten times a second, changes of state always."""
        now_ns = self._services.clock.monotonic_ns()
        if must or now_ns - self._published_ns.get(job.trust_id, -(10**12)) >= PUBLISH_S * 1e9:
            self._published_ns[job.trust_id] = now_ns
            self._services.bus.publish(TrustChanged(job.snapshot()))


def _number(trust_id: str) -> int:
    found = _ID.fullmatch(trust_id)
    return int(found[1]) if found else 0
