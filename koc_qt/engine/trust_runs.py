"""The back-tests that checks are made of: some at once, each in a process of its own, none of them listed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from koc_qt.domain.backtests import BacktestResult, BacktestSnapshot, BacktestSpec, Engine, RoundTrip
from koc_qt.domain.errors import KocError
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.orders import Fill
from koc_qt.domain.trust import Placement
from koc_qt.engine.backtest_feed import BarHistory, HistoryServices, RunServices
from koc_qt.engine.backtest_run import SILENCE_LIMIT_S, BacktestRun, StoredResult
from koc_qt.engine.told_files import ToldSession
from koc_qt.link.messages import BacktestHead
from koc_qt.sdk.channel import Described
from koc_qt.sdk.recorded import RecordedOrder

RUNS_AT_ONCE = 2

MakeHistory = Callable[[], BarHistory]


class Outcome(msgspec.Struct, frozen=True):
    """What came of a run: its result with trades and fills, and its decisions where they were traced."""

    result: BacktestResult
    placements: tuple[Placement, ...]
    described: Described


class TrustRuns:
    """Runs one file on one set of instruments, RUNS_AT_ONCE at a time; `ended` is called after each."""

    def __init__(
        self,
        source: bytes,
        instruments: tuple[Instrument, ...],
        services: RunServices,
        ended: Callable[[], None],
        silence_limit_s: float = SILENCE_LIMIT_S,
    ) -> None:
        self._source = source
        self._instruments = instruments
        self._services = services
        self._ended = ended
        self._silence_limit_s = silence_limit_s
        self._turns = asyncio.Semaphore(RUNS_AT_ONCE)

    async def run(
        self,
        spec: BacktestSpec,
        history: BarHistory | MakeHistory,
        *,
        trace: bool = False,
        warmup_bars: int | None = None,
        records: bool = True,
        recorded: tuple[RecordedOrder, ...] = (),
        session: ToldSession | None = None,
        told: Callable[[BacktestSnapshot], None] = lambda _: None,
    ) -> Outcome:
        """Run to the end; without `records` trades and fills are left out, of which many runs have too many.

        A history that is to be made is made when its turn has come, in a thread, so that few are in memory. `told`
        hears how far it is. `recorded` is of a session that is run once more, `session` all of one.

        Raises as BacktestRun.play does; cancelling ends the process.
        """
        async with self._turns:
            if callable(history):
                history = await asyncio.to_thread(history)
            services = HistoryServices(self._services.clock, self._services.launcher, history)
            run = BacktestRun(
                "trust",
                spec,
                self._source,
                self._instruments,
                services,
                lambda changed, _must: told(changed.snapshot()),
                self._silence_limit_s,
                trace=trace,
                warmup_bars=warmup_bars,
                recorded=recorded,
                told=session,
            )
            try:
                await run.play()
            finally:
                self._ended()
        assert run.result is not None and run.described is not None  # noqa: S101, PT018 (for the type checker)
        result = await asyncio.to_thread(_read, run.result, records)
        return Outcome(result, tuple(run.placements), run.described)

    async def try_all(
        self,
        jobs: Sequence[tuple[BacktestSpec, BarHistory | MakeHistory]],
        *,
        trace: bool = False,
        warmup_bars: int | None = None,
    ) -> list[Outcome | str]:
        """Run several; in the place of each that fails stands why."""

        async def attempt(spec: BacktestSpec, history: BarHistory | MakeHistory) -> Outcome | str:
            try:
                return await self.run(spec, history, trace=trace, warmup_bars=warmup_bars, records=False)
            except KocError as error:
                return str(error)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(attempt(*job)) for job in jobs]
        return [task.result() for task in tasks]


def on_engine(spec: BacktestSpec, engine: Engine, **changes: Any) -> BacktestSpec:
    """Give the spec for another engine."""
    return msgspec.structs.replace(spec, engine=engine, **changes)


def _read(stored: StoredResult, records: bool) -> BacktestResult:
    head = msgspec.msgpack.decode(stored.head, type=BacktestHead)
    if not records:
        return head.result
    trades = [trade for page in stored.trades for trade in msgspec.msgpack.decode(page, type=list[RoundTrip])]
    fills = [fill for page in stored.fills for fill in msgspec.msgpack.decode(page, type=list[Fill])]
    return msgspec.structs.replace(head.result, trades=trades, fills=fills)
