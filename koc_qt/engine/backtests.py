"""Back-tests: started, queued, stopped, and kept on disk with their results and people's notes."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from pathlib import Path
from typing import Any, Literal, TypeVar, assert_never

import msgspec
from loguru import logger

from koc_qt.domain.backtests import BacktestSnapshot, BacktestSpec
from koc_qt.domain.errors import InvalidOrder, StorageError, StrategyError
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.state import JobState
from koc_qt.domain.timeframes import duration_ns
from koc_qt.engine.backtest_archive import RUNS_KEPT, BacktestArchive, number_of
from koc_qt.engine.backtest_feed import HistoryServices, Prepared
from koc_qt.engine.backtest_files import Reading, check_files, on_files
from koc_qt.engine.backtest_run import PUBLISH_S, SILENCE_LIMIT_S, BacktestRun, StoredResult
from koc_qt.engine.job_ending import play_to_end
from koc_qt.engine.services import Services
from koc_qt.engine.strategy_file import read_source
from koc_qt.link.backtest_messages import (
    BacktestChanged,
    BacktestCommand,
    BacktestDeleted,
    DeleteBacktest,
    FetchBacktest,
    FetchBacktestPage,
    ListBacktests,
    NoteBacktest,
    StartBacktest,
    StopBacktest,
)

AT_ONCE = 2  # runs, each in a process of its own
WAITING_LIMIT = 8  # runs that wait for their turn; more are refused
IN_MEMORY = 10  # results, those that were made or asked for last
SYMBOLS_LIMIT = 50
LOOK_S = 2.0  # between two looks at what other processes keep
NOTE_LIMIT = 2_000  # characters

T = TypeVar("T")


class Backtests:
    """Sole owner of back-tests and their processes.

    `folder` keeps runs that are over, as BacktestArchive says. What cannot be written there is in memory alone, and
    said in the log.
    """

    def __init__(self, services: Services, folder: Path, *, silence_limit_s: float = SILENCE_LIMIT_S) -> None:
        self._services = services
        self._silence_limit_s = silence_limit_s
        self._archive = BacktestArchive(folder)
        self._over = {past.backtest_id: past for past in self._archive.load()}
        self._last = 0  # the highest number that was given
        self._runs: dict[str, BacktestRun] = {}  # those that are not over
        self._results: OrderedDict[str, StoredResult] = OrderedDict()  # the one that was used last is the last
        self._notes: dict[str, str] = {}  # of runs that are not over
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._published_ns: dict[str, int] = {}  # monotonic
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._disk = asyncio.Lock()
        self._is_closed = False

    @property
    def all(self) -> tuple[BacktestSnapshot, ...]:
        """Every run that is known, oldest first."""
        running = {key: self._snapshot(run) for key, run in self._runs.items()}
        shown = self._over | running
        return tuple(shown[key] for key in sorted(shown, key=number_of))

    async def execute(self, command: BacktestCommand) -> Any:
        """Do what a client asks; gives the reply's value. Raises KocError."""
        match command:
            case StartBacktest(spec):
                return await self.start(spec)
            case StopBacktest(backtest_id):
                return await self.stop(backtest_id)
            case FetchBacktest(backtest_id):
                return await self.result(backtest_id)
            case FetchBacktestPage(backtest_id, records, page):
                return await self.page(backtest_id, records, page)
            case NoteBacktest(backtest_id, note):
                return await self.note(backtest_id, note)
            case DeleteBacktest(backtest_id):
                return await self.delete(backtest_id)
            case ListBacktests(text, limit):
                return msgspec.to_builtins(self.find(text)[: max(limit, 0)])
            case _:
                assert_never(command)

    async def start(self, spec: BacktestSpec) -> str:
        """Start a run, or let it wait for its turn; give its id.

        Raises StrategyError for a file that cannot be read and when too many wait, InvalidOrder for symbols that are
        not there, BadTimeframe, VenueUnavailable; BadBars for files that cannot be believed.
        """
        self._check_room()
        made = await prepare(spec, self._services)  # which may read a file for seconds: others have come meanwhile
        backtest_id = await self._claim()
        self._check_room()
        run = BacktestRun(
            backtest_id,
            made.spec,
            made.source,
            made.instruments,
            made.services,
            self._publish,
            self._silence_limit_s,
            notes=made.notes,
        )
        self._runs[backtest_id] = run
        if self._turns.locked():
            run.reason = f"waits for its turn: {AT_ONCE} back-tests run at once"
        self._publish(run, True)
        task = asyncio.create_task(self._run(run), name=f"backtest-{backtest_id}")
        self._tasks[backtest_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(backtest_id, None))
        return backtest_id

    async def stop(self, backtest_id: str, reason: str = "stopped by its owner") -> None:
        """Stop a run at once; one that is over stays as it is. Raises StrategyError for an unknown id."""
        run = self._find(backtest_id)
        task = self._tasks.get(backtest_id)
        if run is None or task is None:
            return
        if run.state is JobState.RUNNING:
            run.end(JobState.STOPPED, reason)
            task.cancel()
        await asyncio.wait([task])
        if backtest_id in self._runs:  # cancelled before its first step
            await self._keep(run)

    async def result(self, backtest_id: str) -> msgspec.Raw:
        """Give the BacktestHead of a run that is done, as msgpack.

        Raises StrategyError where there is none, StorageError where it cannot be read.
        """
        return msgspec.Raw((await self._stored(backtest_id)).head)

    async def page(self, backtest_id: str, records: Literal["trades", "fills"], page: int) -> msgspec.Raw:
        """Give a page of trades or fills, as msgpack; the first is 0. Raises as `result` does."""
        stored = await self._stored(backtest_id)
        pages = stored.trades if records == "trades" else stored.fills
        if not 0 <= page < len(pages):
            raise StrategyError(f"{backtest_id} has {len(pages)} pages of {records}, counted from 0: no page {page}")
        return msgspec.Raw(pages[page])

    def find(self, text: str = "") -> list[BacktestSnapshot]:
        """Give the runs that have every word of a text somewhere, capitals aside, newest first."""
        words = text.casefold().split()
        return [run for run in reversed(self.all) if not words or _has_all(run, words)]

    async def note(self, backtest_id: str, note: str) -> None:
        """Write a note to a run, in the place of the one that it has.

        Raises StrategyError for an unknown id and a note that is too long, StorageError where it cannot be kept.
        """
        if len(note) > NOTE_LIMIT:
            raise StrategyError(f"a note has at most {NOTE_LIMIT:,} characters, not {len(note):,}")
        async with self._disk:
            self._check_known(backtest_id)
            if backtest_id in self._over:
                noted = msgspec.structs.replace(self._over[backtest_id], note=note)
                await asyncio.to_thread(self._archive.change, noted)
                self._over[backtest_id] = noted
            else:
                self._notes[backtest_id] = note
                noted = self._snapshot(self._runs[backtest_id])
        self._services.bus.publish(BacktestChanged(noted))

    async def delete(self, backtest_id: str) -> None:
        """Forget a run that is over. Raises StrategyError for one that is not, or unknown, and StorageError."""
        async with self._disk:
            self._check_known(backtest_id)
            if backtest_id not in self._over:
                raise StrategyError(f"{backtest_id} is not over yet: stop it first")
            await asyncio.to_thread(self._archive.delete, backtest_id)
            self._forget(backtest_id)

    async def keep_watch(self) -> None:
        """List what the command line keeps, as it comes, and leave out what others delete; ends when cancelled."""
        is_said = False
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                async with self._disk:
                    look = await asyncio.to_thread(self._archive.look)
                    for over in look.changed:
                        self._over[over.backtest_id] = over
                        self._services.bus.publish(BacktestChanged(over))
                    for key in look.gone:
                        self._forget(key)
                is_said = False
            except StorageError as error:
                if not is_said:
                    logger.warning("{}", error)
                is_said = True

    async def close(self) -> None:
        """Stop all runs; no more can be started."""
        self._is_closed = True
        await asyncio.gather(*(self.stop(backtest_id, "the engine stopped") for backtest_id in list(self._tasks)))

    # ---- inside

    async def _run(self, run: BacktestRun) -> None:
        try:
            async with self._turns:
                if run.state is JobState.RUNNING:
                    await self._play(run)
        finally:
            await self._keep(run)

    async def _play(self, run: BacktestRun) -> None:
        what = f"back-test {run.backtest_id} of {Path(run.spec.path).name}"
        run.reason = ""
        self._publish(run, True)
        if await play_to_end(run, what):
            logger.info("{} is done", what)

    async def _keep(self, run: BacktestRun) -> None:
        """Write down a run that is over; older ones make way."""
        key = run.backtest_id
        if run.result is not None and run.state is JobState.DONE:
            self._remember(key, run.result)
        async with self._disk:
            over = self._snapshot(run)
            try:
                forgotten = await asyncio.to_thread(self._archive.keep, over, self._results.get(key))
            except StorageError as error:
                logger.warning("{}; {} is in memory alone, and gone when the engine ends", error, key)
                forgotten = list(self._over)[: max(len(self._over) + 1 - RUNS_KEPT, 0)]
            self._over[key] = over
            for table in (self._runs, self._notes, self._published_ns):
                table.pop(key, None)
            for old in forgotten:
                self._forget(old)

    def _forget(self, backtest_id: str) -> None:
        self._results.pop(backtest_id, None)
        if self._over.pop(backtest_id, None) is not None:
            self._services.bus.publish(BacktestDeleted(backtest_id))

    async def _claim(self) -> str:
        """Give the id of the next run; one of this engine alone where the disk takes nothing."""
        highest = max((self._last, *map(number_of, self._over)))
        async with self._disk:
            try:
                claimed = await asyncio.to_thread(self._archive.claim, highest)
            except StorageError as error:
                logger.debug("{}", error)  # it is said when the run cannot be kept
                claimed = f"bt-{highest + 1}"
        self._last = number_of(claimed)
        return claimed

    def _remember(self, backtest_id: str, result: StoredResult) -> None:
        self._results[backtest_id] = result
        self._results.move_to_end(backtest_id)
        while len(self._results) > IN_MEMORY:
            self._results.popitem(last=False)

    def _check_room(self) -> None:
        if self._is_closed:
            raise StrategyError("the engine is stopping: it starts no back-test any more")
        if len(self._tasks) >= AT_ONCE + WAITING_LIMIT:
            raise StrategyError(f"{WAITING_LIMIT} back-tests wait for their turn already: let one end, or stop one")

    async def _stored(self, backtest_id: str) -> StoredResult:
        self._check_known(backtest_id)
        run = self._over.get(backtest_id) or self._snapshot(self._runs[backtest_id])
        if run.state is not JobState.DONE:
            why = f": {run.reason}" if run.reason else ""
            raise StrategyError(f"{backtest_id} has no result, it is {run.state}{why}")
        found = self._results.get(backtest_id)
        if found is None:
            async with self._disk:
                found = await asyncio.to_thread(self._archive.result, backtest_id)
        if found is None:
            raise StrategyError(f"{backtest_id} has no result any more")
        self._remember(backtest_id, found)
        return found

    def _check_known(self, backtest_id: str) -> None:
        if backtest_id not in self._runs and backtest_id not in self._over:
            known = ", ".join(run.backtest_id for run in self.all[-10:]) or "none"
            raise StrategyError(f"there is no back-test {backtest_id!r} any more; there are: {known}")

    def _find(self, backtest_id: str) -> BacktestRun | None:
        """Give a run that is not over; None for one that is."""
        self._check_known(backtest_id)
        return self._runs.get(backtest_id)

    def _snapshot(self, run: BacktestRun) -> BacktestSnapshot:
        return msgspec.structs.replace(run.snapshot(), note=self._notes.get(run.backtest_id, ""))

    def _publish(self, run: BacktestRun, must: bool) -> None:
        """Tell how far a run is; progress at most ten times a second, changes of state always."""
        now_ns = self._services.clock.monotonic_ns()
        if must or now_ns - self._published_ns.get(run.backtest_id, -(10**12)) >= PUBLISH_S * 1e9:
            self._published_ns[run.backtest_id] = now_ns
            self._services.bus.publish(BacktestChanged(self._snapshot(run)))


async def prepare(spec: BacktestSpec, services: Services) -> Prepared:
    """Give a run that can be started.

    Raises StrategyError for a file that cannot be read, InvalidOrder for symbols that are not there, BadTimeframe,
    VenueUnavailable, BadBars for files that cannot be believed, ConfigError for what cannot be asked of them.
    """
    if len(set(spec.instruments)) < len(spec.instruments):
        raise StrategyError(f"the same symbol is given twice: {', '.join(map(str, spec.instruments))}")
    if len(spec.instruments) > SYMBOLS_LIMIT:
        raise StrategyError(f"a back-test takes {SYMBOLS_LIMIT} symbols, not {len(spec.instruments)}")
    if spec.timeframe:
        duration_ns(spec.timeframe)
    spec = msgspec.structs.replace(spec, path=await asyncio.to_thread(_absolute, spec.path))
    source = await asyncio.to_thread(read_source, spec.path)
    if spec.files:
        return await _prepare_on_files(spec, source, services)
    return Prepared(spec, source, tuple([await _rules(each, services) for each in spec.instruments]), services)


async def _prepare_on_files(spec: BacktestSpec, source: bytes, services: Services) -> Prepared:
    check_files(spec)
    files = tuple([await asyncio.to_thread(_absolute, file) for file in spec.files])
    reading = Reading(files, spec.instruments, spec.timeframe, spec.tick, spec.lot, spec.skip_bad)
    found = await services.open_files(reading)
    spec = on_files(msgspec.structs.replace(spec, files=files), found)
    own = HistoryServices(services.clock, services.launcher, found.history)
    return Prepared(spec, source, found.instruments, own, found.notes)


async def _rules(instrument: InstrumentId, services: Services) -> Instrument:
    await services.market_data.wait_ready(instrument.venue)
    rules = services.store.instrument(instrument)
    if rules is None:
        raise InvalidOrder(f"{instrument.venue} has no symbol {instrument.symbol!r}")
    return rules


def _absolute(path: str) -> str:
    return str(Path(path).absolute())


def _has_all(run: BacktestSnapshot, words: list[str]) -> bool:
    spec = run.spec
    said = [run.backtest_id, run.name, Path(spec.path).name, spec.timeframe, spec.engine, run.state, run.note]
    said += [str(instrument) for instrument in spec.instruments]
    said += [Path(file).name for file in spec.files]
    said += [f"{name}={value}" for name, value in spec.parameters.items()]
    text = " ".join(said).casefold()
    return all(word in text for word in words)
