"""One back-test: its worker process, the history that flows to it, and what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
from loguru import logger

from koc_qt.domain.backtests import BacktestResult, BacktestSnapshot, BacktestSpec, Engine, RoundTrip
from koc_qt.domain.errors import EngineLacks, StrategyError
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.orders import Fill
from koc_qt.domain.performance import STATISTICS
from koc_qt.domain.state import JobState
from koc_qt.domain.trust import DECISIONS_KEPT, LONGEST_DECISION, Placement
from koc_qt.engine.backtest_feed import BacktestFeed, RunServices
from koc_qt.engine.patience import LOAD_TIMEOUT_S, READY_TIMEOUT_S
from koc_qt.engine.strategy_words import LONGEST_REASON, clip, name_of
from koc_qt.engine.told_files import ToldSession
from koc_qt.link.messages import BacktestHead
from koc_qt.ports.bars import Span
from koc_qt.ports.workers import WorkerExit, WorkerHandle, WorkerNeeds
from koc_qt.sdk.channel import (
    Described,
    Failed,
    HostMessage,
    LoadFailed,
    Ready,
    ReplayDone,
    ReplayEnd,
    ReplayFills,
    ReplayLog,
    ReplayPlacements,
    ReplayProgress,
    ReplayTrades,
    Running,
    StartReplay,
    WorkerMessage,
)
from koc_qt.sdk.recorded import RecordedOrder

PUBLISH_S = 0.1  # progress is told ten times a second at most
IN_FLIGHT = 4  # messages of bars that the worker has not finished
PAGE = 500  # trades or fills in one answer: 1 to 4 ms to read
SILENCE_SAID_S = 5.0  # a run that says nothing for so long is shown to be silent, again and again
SILENCE_LIMIT_S = 60.0  # and ended after this
_KEPT_AT_MOST = 12_000  # fills or trades that a worker may hand out; ours hands out 10,000
_CURVE_AT_MOST = 10_000
_LINES_AT_MOST = 1_000
_SILENCE = "no word from the strategy"
_ENDLESS = "no bar was finished: is there an endless loop in a callback?"
_LIBRARIES_TIMEOUT_S = 150.0  # until a process that loads other people's engines is ready; its launcher is patient too
# What a process loads before it is locked down. Their own processes: no other has these libraries, or so much memory.
NEEDS = {
    Engine.VECTORBT: WorkerNeeds(("koc_qt.worker.engines.vectorbt",), 6 << 30),
    Engine.BACKTRADER: WorkerNeeds(("koc_qt.worker.engines.backtrader",), 4 << 30),
}


class StoredResult(msgspec.Struct, frozen=True):
    """What came of a run, as msgpack: it is kept for long and seldom asked for."""

    head: bytes  # a BacktestHead
    trades: tuple[bytes, ...]  # pages of RoundTrips
    fills: tuple[bytes, ...]  # pages of Fills


class BacktestRun:
    """The life of one run; `play` does it all, and cancelling that ends the process at once.

    `changed` is called when there is something new to show: with True for changes of state, which nobody may miss.
    With `trace` the strategy's decisions are kept in `placements`; `warmup_bars` are given it in the place of those
    that it asks for. `notes` on its bars are the first lines of the result's log. `recorded` is of a session that is
    run once more, and `told` all of one, which then needs no history.
    """

    def __init__(
        self,
        backtest_id: str,
        spec: BacktestSpec,
        source: bytes,
        instruments: tuple[Instrument, ...],
        services: RunServices,
        changed: Callable[[BacktestRun, bool], None],
        silence_limit_s: float = SILENCE_LIMIT_S,
        *,
        trace: bool = False,
        warmup_bars: int | None = None,
        notes: Sequence[str] = (),
        recorded: tuple[RecordedOrder, ...] = (),
        told: ToldSession | None = None,
    ) -> None:
        self.backtest_id = backtest_id
        self.spec = spec
        self.state = JobState.RUNNING
        self.reason = ""
        self.result: StoredResult | None = None
        self._statistics: dict[str, float | None] = {}
        self._source = source
        self._instruments = instruments
        self._services = services
        self._changed = changed
        self._silence_limit_s = silence_limit_s
        self._trace = trace
        self._warmup_bars = warmup_bars
        self._notes = notes
        self._recorded = recorded
        self._told = told
        self.placements: list[Placement] = []  # what the strategy decided, where it is traced
        self._started_ns = services.clock.time_ns()
        self._ended_ns: int | None = None
        self._stage = ""
        self._fraction = 0.0
        self._stage_began_ns = 0  # monotonic
        self._progress: ReplayProgress | None = None
        self._feed: BacktestFeed | None = None
        self._sent = 0  # messages of bars
        self._news = asyncio.Event()
        self._is_ready = False
        self._running: Running | None = None
        self._failure: Failed | LoadFailed | None = None
        self._exit: WorkerExit | None = None
        self._done: ReplayDone | None = None
        self._fills: list[Fill] = []
        self._trades: list[RoundTrip] = []
        self._lines: list[str] = []

    @property
    def described(self) -> Described | None:
        """What the file declares; None until it is loaded."""
        return None if self._running is None else self._running.described

    def snapshot(self) -> BacktestSnapshot:
        """How far it is."""
        progress, now_ns = self._progress, self._services.clock.monotonic_ns()
        remaining_s = None
        if self._stage and 0.0 < self._fraction < 1.0:
            elapsed_s = (now_ns - self._stage_began_ns) / 1e9
            remaining_s = elapsed_s / self._fraction - elapsed_s
        return BacktestSnapshot(
            backtest_id=self.backtest_id,
            spec=self.spec,
            state=self.state,
            reason=self.reason,
            stage=self._stage,
            progress=self._fraction,
            bars=0 if progress is None else progress.bars,
            position_ns=None if progress is None else progress.position_ns,
            equity=None if progress is None else progress.equity,
            remaining_s=remaining_s,
            started_ns=self._started_ns,
            time_ns=self._services.clock.time_ns() if self._ended_ns is None else self._ended_ns,
            name="" if self.described is None else name_of(self.described.name),
            statistics=self._statistics,
        )

    def end(self, state: JobState, reason: str) -> None:
        """Show that it is over."""
        self.state, self.reason = state, clip(reason, LONGEST_REASON)
        self._ended_ns = self._services.clock.time_ns()
        self._stage = ""
        if state is JobState.DONE:
            self._fraction = 1.0
        self._source = b""
        self._fills, self._trades, self._lines, self._done = [], [], [], None
        self._changed(self, True)

    async def play(self) -> None:
        """Run from launch to result.

        Raises StrategyError with the strategy's own mistake, and what HistoryService.bars raises.
        """
        name = Path(self.spec.path).name
        needs = NEEDS.get(self.spec.engine)
        handle = await self._services.launcher.launch(f"back-test {name}", self._receive, self._exited, needs)
        patience_s, silence = READY_TIMEOUT_S, _SILENCE
        if needs is not None:
            patience_s, silence = _LIBRARIES_TIMEOUT_S, f"its process has been loading {self.spec.engine}"
        try:
            await self._until(lambda: self._is_ready, patience_s, "its process was not ready", silence)
            await self._play(handle)
        finally:
            handle.kill("the back-test is over")

    async def _play(self, handle: WorkerHandle) -> None:
        self._send(handle, self._start())
        loading = "it was not loaded: is there an endless loop at the top of the file or in on_start?"
        await self._until(lambda: self._running is not None, LOAD_TIMEOUT_S, loading)
        assert self._running is not None  # noqa: S101 (for the type checker)
        if self._told is None:
            await self._send_history(handle, self._running.described)
        else:
            await self._send_session(handle, self._told.messages())
        self._send(handle, ReplayEnd())
        await self._until(lambda: self._done is not None, self._silence_limit_s, _ENDLESS)
        self.result = await asyncio.to_thread(self._encode)

    async def _send_session(self, handle: WorkerHandle, messages: Iterator[HostMessage]) -> None:
        self._enter("run")
        while (message := await asyncio.to_thread(next, messages, None)) is not None:
            await self._send_bars(handle, [message])

    async def _send_history(self, handle: WorkerHandle, described: Described) -> None:
        span = Span(self.spec.since_ns, self.spec.until_ns)
        ids = [rules.id for rules in self._instruments]
        self._feed = feed = BacktestFeed(self._services.history, ids, described.timeframe, span)
        self._enter("history")
        await feed.fetch(self._fetched)
        warmup = await feed.before(described.warmup_bars if self._warmup_bars is None else self._warmup_bars)
        self._enter("run")
        await self._send_bars(handle, warmup)
        async for messages in feed.pages():
            await self._send_bars(handle, messages)

    def _start(self) -> StartReplay:
        spec = self.spec
        return StartReplay(
            source=self._source,
            filename=Path(spec.path.replace("\\", "/")).name,
            parameters=spec.parameters,
            instruments=self._instruments,
            timeframe=spec.timeframe,
            since_ns=spec.since_ns,
            cash=spec.cash,
            fee=spec.fee,
            slippage=spec.slippage,
            seed=spec.seed,
            allow_short=spec.allow_short,
            engine=spec.engine,
            spread=spec.spread,
            slippage_ticks=spec.slippage_ticks,
            latency_ns=spec.latency_ns,
            volume_fraction=spec.volume_fraction,
            trace=self._trace,
            recorded=self._recorded,
            session=None if self._told is None else self._told.start,
        )

    async def _send_bars(self, handle: WorkerHandle, messages: Sequence[HostMessage]) -> None:
        """Send as the worker keeps up."""
        for message in messages:
            await self._until(self._has_room, self._silence_limit_s, _ENDLESS)
            self._send(handle, message)
            self._sent += 1

    def _has_room(self) -> bool:
        return self._sent - (0 if self._progress is None else self._progress.chunks) < IN_FLIGHT

    def _send(self, handle: WorkerHandle, message: HostMessage) -> None:
        try:
            handle.send(message)
        except (ValueError, TypeError, OverflowError) as error:
            raise StrategyError(f"it cannot be handed to its process: {error}") from error

    async def _until(
        self, is_there: Callable[[], bool], patience_s: float, complaint: str, silence: str = _SILENCE
    ) -> None:
        """Wait until a condition holds. Raises StrategyError when the run has failed or says nothing for too long."""
        loop = asyncio.get_running_loop()
        heard_s = loop.time()
        while not is_there():
            self._raise_failure()
            self._news.clear()
            left_s = heard_s + patience_s - loop.time()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, SILENCE_SAID_S)):
                    await self._news.wait()
            if self._news.is_set():  # also where it came in the very moment in which the time was over
                heard_s = loop.time()
                self._say("")
                continue
            silent_s = loop.time() - heard_s
            if silent_s >= patience_s:
                raise StrategyError(f"ended after {patience_s:g} s without a word: {complaint}")
            self._say(f"{silence} for {silent_s:.0f} s; it is ended after {patience_s:g} s")

    def _say(self, reason: str) -> None:
        if reason != self.reason:
            self.reason = reason
            self._changed(self, True)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            kind = EngineLacks if self._failure.lacks else StrategyError
            raise kind(_sentence(self._failure))
        if self._exit is not None:
            raise StrategyError(f"its process {self._exit.reason or 'ended before the run did'}")

    # ---- progress

    def _enter(self, stage: str) -> None:
        self._stage, self._fraction = stage, 0.0
        self._stage_began_ns = self._services.clock.monotonic_ns()
        self._changed(self, True)

    def _fetched(self, fraction: float) -> None:
        self._fraction = fraction
        self._changed(self, False)

    def _advance(self, progress: ReplayProgress) -> None:
        self._progress, feed = progress, self._feed
        if feed is not None:
            done = (progress.position_ns - feed.since_ns) / max(feed.until_ns - feed.since_ns, 1)
            self._fraction = min(max(done, 0.0), 1.0)
        self._changed(self, False)

    # ---- from the worker

    def _receive(self, message: WorkerMessage) -> None:
        if self.state is not JobState.RUNNING:
            return
        match message:
            case ReplayProgress():
                self._advance(message)
            case ReplayFills(fills):
                self._fills += fills
            case ReplayTrades(trades):
                self._trades += trades
            case ReplayPlacements(placements):
                if any(len(each.text) > LONGEST_DECISION for each in placements):
                    self._failure = LoadFailed("its process hands out decisions of more words than there are")
                self.placements += placements
            case ReplayLog(lines):
                self._lines += lines
            case ReplayDone():
                self._done = message
            case Ready():
                self._is_ready = True
            case Running():
                self._running = message
            case Failed() | LoadFailed():
                self._failure = self._failure or message
            case _:
                return  # what a replay never says is no news
        kept = max(len(self._fills), len(self._trades))
        curve, done = 0, self._done
        if done is not None:
            curve = max(len(done.equity), len(done.equity_ns), len(done.benchmark), len(done.months))
        too_many = len(self._lines) > _LINES_AT_MOST or len(self.placements) > DECISIONS_KEPT
        if too_many or kept > _KEPT_AT_MOST or curve > _CURVE_AT_MOST:
            self._failure = LoadFailed("its process hands out more than a back-test may")
        self._news.set()

    def _exited(self, ending: WorkerExit) -> None:
        self._exit = ending
        self._news.set()

    def _encode(self) -> StoredResult:
        done, running = self._done, self._running
        assert done is not None and running is not None  # noqa: S101, PT018 (for the type checker)
        taken = {name: running.parameters.get(name, value) for name, value in self.spec.parameters.items()}
        result = BacktestResult(
            spec=msgspec.structs.replace(self.spec, parameters=taken),  # in their own types: they may come as text
            name=name_of(running.described.name),
            timeframe=running.described.timeframe,
            bars=done.bars,
            equity_ns=done.equity_ns,
            equity=done.equity,
            trades=[],
            fills=[],
            statistics={name: done.statistics.get(name) for name in STATISTICS},
            log=[clip(line, LONGEST_REASON) for line in (*self._notes, *self._lines)],
            benchmark=done.benchmark,
            months=done.months,
            provenance=done.provenance,
        )
        self._statistics = result.statistics
        trades, fills = _pages(self._trades), _pages(self._fills)
        head = msgspec.msgpack.encode(BacktestHead(result, len(trades), len(fills)))
        size = len(head) + sum(map(len, trades + fills))
        logger.debug("{}: {} bars, {} bytes of results", self.backtest_id, done.bars, size)
        return StoredResult(head, trades, fills)


def _pages(records: Sequence[RoundTrip] | Sequence[Fill]) -> tuple[bytes, ...]:
    """Encode records, PAGE of them at a time."""
    return tuple(msgspec.msgpack.encode(records[start : start + PAGE]) for start in range(0, len(records), PAGE))


def _sentence(failure: Failed | LoadFailed) -> str:
    """Give the reason, with the line where it does not name it."""
    named = not failure.line or re.search(rf"\bline {failure.line}\b", failure.reason)
    return failure.reason if named else f"{failure.reason} (line {failure.line})"
