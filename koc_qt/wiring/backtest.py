"""Composition root of back-tests without an engine, as the command line runs them.

    def work():                       # a coroutine function
        async with venue_bench(config, paths, symbols) as bench:      # or file_bench(config, files)
            return await run(bench, spec)

    result = on_qt(work)

A bench has what a run needs: where workers come from, history, and the rules of its symbols.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from PySide6.QtCore import QCoreApplication

from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.sandbox import SandboxSettings
from koc_qt.adapters.worker_process import QProcessWorkerLauncher
from koc_qt.config import Config
from koc_qt.domain.backtests import BacktestResult, BacktestSpec, RoundTrip
from koc_qt.domain.errors import KocError, VenueRejected
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.orders import Fill
from koc_qt.domain.state import JobState
from koc_qt.engine.backtest_feed import BarHistory
from koc_qt.engine.backtest_run import BacktestRun, StoredResult
from koc_qt.engine.strategy_file import read_source
from koc_qt.link.messages import BacktestHead
from koc_qt.paths import Paths
from koc_qt.ports.clock import Clock
from koc_qt.ports.venue import MarketDataVenue, OpenCatalogue
from koc_qt.sdk.channel import Described
from koc_qt.wiring.qt_loop import qt_loop
from koc_qt.wiring.signals import handled

_BEAT_S = 0.1  # Python hears signals between two of its own steps: Qt's loop would let them wait
T = TypeVar("T")


@dataclass(frozen=True)
class Bench:
    """What runs back-tests: RunServices, and the rules of its symbols in the order in which they were named.

    `now_ns` is what time it is (UTC ns): that of the venue, and for files when the last bar closes. For files there
    are also phrases on the data that a person should know, the length of their bars, and when the first opens.
    """

    clock: Clock
    launcher: QProcessWorkerLauncher
    history: BarHistory
    instruments: tuple[Instrument, ...]
    now_ns: int
    notes: tuple[str, ...] = ()
    timeframe: str = ""
    since_ns: int | None = None


@dataclass(frozen=True)
class DataFile:
    """A file of bars and what it is of; `tick` and `lot` are None for such as round nothing that matters."""

    path: Path
    instrument: InstrumentId
    timeframe: str = ""  # of its bars, where there is one alone; else as most of them are apart
    tick: Decimal | None = None
    lot: Decimal | None = None
    skip_bad: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a run, and what its file declares."""

    described: Described
    result: BacktestResult


def on_qt(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in this process, which has no loop yet. Raises KeyboardInterrupt when it was interrupted."""
    app = QCoreApplication.instance() or QCoreApplication(sys.argv[:1])
    # Python's own threads: Qt's would call back into a loop that is gone
    with qt_loop(app) as loop, ThreadPoolExecutor(4, "back-test") as threads:
        asyncio.set_event_loop(loop)
        loop.set_default_executor(threads)
        done: tuple[T] | None = loop.run_until_complete(_interruptible(work))
    if done is None:
        raise KeyboardInterrupt
    return done[0]


@contextlib.asynccontextmanager
async def venue_bench(config: Config, paths: Paths, symbols: Sequence[InstrumentId]) -> AsyncIterator[Bench]:
    """Give a bench on the profile's stored bars, and on the venues for what they lack. Raises KocError."""
    from koc_qt.engine.history import HistoryService
    from koc_qt.wiring.venues import make_bar_store, make_data_venue

    clock = SystemClock()
    async with contextlib.AsyncExitStack() as stack:
        launcher = await _launcher(config, stack)
        venues: dict[str, MarketDataVenue] = {}
        for name in dict.fromkeys(symbol.venue for symbol in symbols):
            venues[name] = make_data_venue(name, config, paths, clock)
            stack.push_async_callback(venues[name].close)
        await asyncio.gather(*(venue.connect(lambda _event: None) for venue in venues.values()))
        rules = tuple([await find_rules(venues[symbol.venue], symbol.symbol) for symbol in symbols])
        history = HistoryService(make_bar_store(config, paths), venues, clock)
        yield Bench(clock, launcher, history, rules, max(venue.time_ns() for venue in venues.values()))


@contextlib.asynccontextmanager
async def file_bench(config: Config, files: Sequence[DataFile]) -> AsyncIterator[Bench]:
    """Give a bench on files, for which no venue and no network is needed. Raises BadBars, BadTimeframe, InvalidOrder.

    The files' bars must be of one length.
    """
    from koc_qt.adapters.loose_file import read_loose
    from koc_qt.adapters.loose_history import FileHistory, file_rules

    async with contextlib.AsyncExitStack() as stack:
        launcher = await _launcher(config, stack)
        read = [
            await asyncio.to_thread(read_loose, file.path, file.timeframe, skip_bad=file.skip_bad) for file in files
        ]
        rules = tuple(
            file_rules(file.instrument, bars.columns, file.tick, file.lot)
            for file, bars in zip(files, read, strict=True)
        )
        history = FileHistory({file.instrument: bars for file, bars in zip(files, read, strict=True)})
        notes = tuple(f"{bars.path.name}: {note}" for bars in read for note in bars.notes)
        timeframe, since_ns, until_ns = history.extent()
        yield Bench(SystemClock(), launcher, history, rules, until_ns, notes, timeframe, since_ns)


async def run(
    bench: Bench,
    spec: BacktestSpec,
    changed: Callable[[BacktestRun, bool], None] = lambda _run, _must: None,
    ended: Callable[[BacktestRun], None] = lambda _run: None,
) -> Outcome:
    """Run one back-test to its end; `changed` hears of progress, as BacktestRun says, and `ended` of any end.

    Raises StrategyError with the strategy's own mistake, and what its history raises.
    """
    source = await asyncio.to_thread(read_source, spec.path)
    running = BacktestRun("bt-1", spec, source, bench.instruments, bench, changed)
    try:
        await running.play()
    except KocError as error:
        running.end(JobState.FAILED, str(error))
        raise
    except asyncio.CancelledError:
        running.end(JobState.STOPPED, "stopped by its owner")
        raise
    else:
        running.end(JobState.DONE, "")
    finally:
        if running.state is not JobState.RUNNING:
            ended(running)
    described, stored = running.described, running.result
    assert described is not None and stored is not None  # noqa: S101, PT018 - it has ended well
    return Outcome(described, await asyncio.to_thread(read_result, stored))


def read_result(stored: StoredResult) -> BacktestResult:
    """Give a result in one piece."""
    result = msgspec.msgpack.decode(stored.head, type=BacktestHead).result
    trades = [trip for page in stored.trades for trip in msgspec.msgpack.decode(page, type=list[RoundTrip])]
    fills = [fill for page in stored.fills for fill in msgspec.msgpack.decode(page, type=list[Fill])]
    return msgspec.structs.replace(result, trades=trades, fills=fills)


async def find_rules(venue: MarketDataVenue, symbol: str) -> Instrument:
    """Give a venue's rules for a symbol. Raises VenueError; VenueRejected names some that are like it."""
    listed = {rules.id.symbol: rules for rules in await venue.instruments()}
    if symbol in listed:
        return listed[symbol]
    if isinstance(venue, OpenCatalogue):
        return await venue.find(symbol)
    close = get_close_matches(symbol.upper(), listed, n=3, cutoff=0.5) or list(listed)[:5]
    raise VenueRejected(f"{venue.name} has no symbol {symbol!r}; it has, for example, {', '.join(close)}")


async def _launcher(config: Config, stack: contextlib.AsyncExitStack) -> QProcessWorkerLauncher:
    limits = SandboxSettings(address_space_bytes=config.engine.workers.memory_mb << 20)
    launcher = QProcessWorkerLauncher(limits, refills=False)
    stack.push_async_callback(launcher.close)
    launcher.warm_up()  # it starts while history is looked for
    return launcher


async def _interruptible(work: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T] | None:
    """Give what the work gives; None where a signal has cancelled it."""
    loop = asyncio.get_running_loop()
    working = asyncio.ensure_future(work())
    signals: list[int] = []

    def received(number: int, _: object) -> None:
        if not signals:  # a second one must not cancel the cleaning up
            loop.call_soon_threadsafe(working.cancel)
        signals.append(number)

    with handled(received):
        try:
            while not working.done():
                await asyncio.wait([working], timeout=_BEAT_S)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
    return None if signals and working.cancelled() else (working.result(),)
