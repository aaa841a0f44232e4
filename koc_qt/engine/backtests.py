"""Back-tests: started, queued, stopped, and the newest results kept in memory."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Literal

import msgspec
from loguru import logger

from koc_qt.domain.backtests import BacktestSnapshot, BacktestSpec
from koc_qt.domain.errors import InvalidOrder, KocError, StrategyError
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.state import JobState
from koc_qt.domain.timeframes import duration_ns
from koc_qt.engine.backtest_run import PUBLISH_S, SILENCE_LIMIT_S, BacktestRun, StoredResult
from koc_qt.engine.services import Services
from koc_qt.engine.strategy_file import read_source
from koc_qt.link.messages import BacktestChanged

AT_ONCE = 2  # runs, each in a process of its own
WAITING_LIMIT = 8  # runs that wait for their turn; more are refused
KEPT = 20  # runs whose results can be asked for, the newest; older ones that are over are forgotten
SYMBOLS_LIMIT = 50


class Backtests:
    """Sole owner of back-tests and their processes."""

    def __init__(self, services: Services, *, silence_limit_s: float = SILENCE_LIMIT_S) -> None:
        self._services = services
        self._silence_limit_s = silence_limit_s
        self._numbers = itertools.count(1)
        self._runs: dict[str, BacktestRun] = {}  # oldest first
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._published_ns: dict[str, int] = {}  # monotonic
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._is_closed = False

    @property
    def all(self) -> tuple[BacktestSnapshot, ...]:
        """Every run that is known, oldest first."""
        return tuple(run.snapshot() for run in self._runs.values())

    async def start(self, spec: BacktestSpec) -> str:
        """Start a run, or let it wait for its turn; give its id.

        Raises StrategyError for a file that cannot be read and when too many wait, InvalidOrder for symbols that are
        not there, BadTimeframe, VenueUnavailable.
        """
        if len(set(spec.instruments)) < len(spec.instruments):
            raise StrategyError(f"the same symbol is given twice: {', '.join(map(str, spec.instruments))}")
        if len(spec.instruments) > SYMBOLS_LIMIT:
            raise StrategyError(f"a back-test takes {SYMBOLS_LIMIT} symbols, not {len(spec.instruments)}")
        if spec.timeframe:
            duration_ns(spec.timeframe)
        spec = msgspec.structs.replace(spec, path=await asyncio.to_thread(_absolute, spec.path))
        source = await asyncio.to_thread(read_source, spec.path)
        instruments = tuple([await self._rules(instrument) for instrument in spec.instruments])
        self._check_room()
        backtest_id = f"bt-{next(self._numbers)}"
        run = BacktestRun(backtest_id, spec, source, instruments, self._services, self._publish, self._silence_limit_s)
        self._runs[backtest_id] = run
        self._forget_old()
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
        if task is None:
            return
        if run.state is JobState.RUNNING:
            run.end(JobState.STOPPED, reason)
        task.cancel()
        await asyncio.wait([task])

    def result(self, backtest_id: str) -> msgspec.Raw:
        """Give the BacktestHead of a run that is done, as msgpack. Raises StrategyError where there is none."""
        return msgspec.Raw(self._stored(backtest_id).head)

    def page(self, backtest_id: str, records: Literal["trades", "fills"], page: int) -> msgspec.Raw:
        """Give a page of trades or fills, as msgpack; the first is 0. Raises StrategyError where there is none."""
        stored = self._stored(backtest_id)
        pages = stored.trades if records == "trades" else stored.fills
        if not 0 <= page < len(pages):
            raise StrategyError(f"{backtest_id} has {len(pages)} pages of {records}, counted from 0: no page {page}")
        return msgspec.Raw(pages[page])

    async def close(self) -> None:
        """Stop all runs; no more can be started."""
        self._is_closed = True
        await asyncio.gather(*(self.stop(backtest_id, "the engine stopped") for backtest_id in list(self._tasks)))

    # ---- inside

    async def _run(self, run: BacktestRun) -> None:
        name = Path(run.spec.path).name
        async with self._turns:
            if run.state is not JobState.RUNNING:
                return
            run.reason = ""
            self._publish(run, True)
            try:
                await run.play()
            except KocError as error:
                run.end(JobState.FAILED, str(error))
                logger.info("back-test {} of {} failed: {}", run.backtest_id, name, run.reason)
            except Exception as error:
                logger.exception("back-test {} failed in a way nobody foresaw", run.backtest_id)
                run.end(JobState.FAILED, f"internal error of the engine ({type(error).__name__}), its log says more")
            else:
                run.end(JobState.DONE, "")
                logger.info("back-test {} of {} is done", run.backtest_id, name)

    async def _rules(self, instrument: InstrumentId) -> Instrument:
        await self._services.market_data.wait_ready(instrument.venue)
        rules = self._services.store.instrument(instrument)
        if rules is None:
            raise InvalidOrder(f"{instrument.venue} has no symbol {instrument.symbol!r}")
        return rules

    def _check_room(self) -> None:
        if self._is_closed:
            raise StrategyError("the engine is stopping: it starts no back-test any more")
        if len(self._tasks) >= AT_ONCE + WAITING_LIMIT:
            raise StrategyError(f"{WAITING_LIMIT} back-tests wait for their turn already: let one end, or stop one")

    def _stored(self, backtest_id: str) -> StoredResult:
        run = self._find(backtest_id)
        if run.result is None or run.state is not JobState.DONE:
            why = f": {run.reason}" if run.reason else ""
            raise StrategyError(f"{backtest_id} has no result, it is {run.state}{why}")
        return run.result

    def _find(self, backtest_id: str) -> BacktestRun:
        run = self._runs.get(backtest_id)
        if run is None:
            known = ", ".join(self._runs) or "none"
            raise StrategyError(f"there is no back-test {backtest_id!r} any more; there are: {known}")
        return run

    def _forget_old(self) -> None:
        over = [key for key, run in self._runs.items() if run.state is not JobState.RUNNING]
        for key in over[: max(len(self._runs) - KEPT, 0)]:
            del self._runs[key]
            self._published_ns.pop(key, None)

    def _publish(self, run: BacktestRun, must: bool) -> None:
        """Tell how far a run is; progress at most ten times a second, changes of state always."""
        now_ns = self._services.clock.monotonic_ns()
        if must or now_ns - self._published_ns.get(run.backtest_id, -(10**12)) >= PUBLISH_S * 1e9:
            self._published_ns[run.backtest_id] = now_ns
            self._services.bus.publish(BacktestChanged(run.snapshot()))


def _absolute(path: str) -> str:
    return str(Path(path).absolute())
