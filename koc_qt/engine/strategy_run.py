"""One strategy's life: its worker process, what flows down its pipe and what comes back up."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from loguru import logger

from koc_qt.domain.errors import InvalidOrder, KocError, StrategyError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.domain.positions import Position
from koc_qt.domain.state import Badge, StrategySpec, StrategyState
from koc_qt.engine.services import Services
from koc_qt.link.messages import BarChanged, FillRecorded, LogRecorded, OrderChanged, QuoteChanged, TradePrinted
from koc_qt.ports.bars import BarSeries
from koc_qt.ports.workers import WorkerExit, WorkerHandle
from koc_qt.sdk.channel import (
    BarClosed,
    Cancel,
    Described,
    Failed,
    FillUpdate,
    Heartbeat,
    HistoryBars,
    LoadFailed,
    LogLine,
    MetricValue,
    OrderUpdate,
    PositionState,
    QuoteUpdate,
    Ready,
    RequestHistory,
    Running,
    StartRun,
    Stopped,
    StopRun,
    Submit,
    TradeUpdate,
    WorkerMessage,
)

READY_TIMEOUT_S = 20.0
LOAD_TIMEOUT_S = 30.0
STOP_GRACE_S = 5.0
HUNG_AFTER_S = 10.0  # without a heartbeat
IN_FLIGHT_LIMIT = 200  # orders and history requests that wait for an answer; more are refused
METRICS_LIMIT = 100  # names a strategy may show
HISTORY_LIMIT = 4_000  # bars a request: an answer must fit one frame

_RUNS = itertools.count(1)


class Pulse:
    """Counters of a run that telemetry reads."""

    def __init__(self) -> None:
        self.ticks = 0
        self.sent = 0
        self.anomalies = 0
        self.heartbeat_ns: int | None = None  # monotonic
        self.callback_us = 0
        self.lag_ms = 0.0
        self.metrics: dict[str, float] = {}
        self.badge = Badge.UNPROVEN
        self.badge_reason = ""
        self.proofs: dict[str, str] = {}


class StrategyRun:
    """One worker process from launch to exit; the host makes a new one for every restart.

    `on_end(reason, crashed, curable)` is called once: `curable` is false when a restart cannot help (the file is bad).
    """

    def __init__(
        self,
        spec: StrategySpec,
        source: bytes,
        services: Services,
        route: Callable[[InstrumentId], str],
        on_state: Callable[[StrategyState, str], None],
        on_end: Callable[[str, bool, bool], None],
    ) -> None:
        self.spec = spec
        self.pulse = Pulse()
        self.described: Described | None = None
        self._source = source
        self._services = services
        self._route = route
        self._on_state = on_state
        self._on_end = on_end
        self._handle: WorkerHandle | None = None
        self._ready = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()
        self._failure: Failed | LoadFailed | None = None
        self._stopping = ""
        self._requests: dict[str, int] = {}  # client order id -> the worker's request id
        self._in_flight = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._unsubscribe: list[Callable[[], None]] = []
        # its own name a run: a release of the last run must not end the streams of this one
        self._owner = f"strategy:{spec.strategy_id}:{next(_RUNS)}"
        self._last_bar_ns: dict[InstrumentId, int] = {}
        self._backlog: dict[InstrumentId, list[Bar]] = {}

    @property
    def pid(self) -> int | None:
        """The worker's process id, None when there is none."""
        return self._handle.pid if self._handle is not None and not self._ended.is_set() else None

    @property
    def dropped(self) -> int:
        """Market messages that made way because the worker read too slowly."""
        return self._handle.dropped if self._handle is not None else 0

    # ---- start and stop ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Launch the worker and hand it the source. Raises StrategyError, VenueError, InvalidOrder."""
        instruments = tuple([await self._services.market_data.hold(i, self._owner) for i in self.spec.instruments])
        handle = await self._services.launcher.launch(self.spec.strategy_id, self._receive, self._exited)
        self._handle = handle
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self._ready
        except TimeoutError:
            self._handle.kill(f"was not ready within {READY_TIMEOUT_S:g} s")
            return
        if self._ended.is_set():
            return
        ledger, store = self._services.ledger, self._services.store
        orders = tuple(store.open_orders(self.spec.strategy_id))
        handle.send(
            StartRun(
                strategy_id=self.spec.strategy_id,
                source=self._source,
                filename=self.spec.path.replace("\\", "/").rsplit("/", 1)[-1],
                parameters=self.spec.parameters,
                instruments=instruments,
                timeframe=self.spec.timeframe,
                cash=self._cash(),
                positions=tuple(
                    _position_state(ledger.position(self.spec.strategy_id, self._route(i.id), i.id))
                    for i in instruments
                ),
                open_orders=orders,
                time_ns=self._services.market_data.time_ns(instruments[0].id.venue if instruments else ""),
                seed=self._services.seed,
                heartbeat_s=self._services.heartbeat_s,
            )
        )
        self._spawn(self._watch_loading(), "loading")

    async def stop(self, reason: str, grace_s: float = STOP_GRACE_S) -> None:
        """Ask the strategy to stop, and end the process when it has not within `grace_s`."""
        self._stopping = reason or "stopped"
        if self._handle is None:
            self._finish(WorkerExit(False, None, self._stopping))
            return
        self._handle.send(StopRun(self._stopping, grace_s))
        try:
            async with asyncio.timeout(grace_s):
                await self._ended.wait()
        except TimeoutError:
            self._handle.kill(f"did not stop within {grace_s:g} s")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_GRACE_S):
                    await self._ended.wait()

    def abandon(self) -> None:
        """Let go of everything after `start` has raised; nobody is told."""
        self._ended.set()
        self._let_go()
        self.kill("could not be started")

    def kill(self, reason: str) -> None:
        """End the process at once."""
        if self._handle is not None:
            self._handle.kill(reason)

    def check_heartbeat(self, now_ns: int) -> None:
        """End the process when its heartbeats stay away; it is then restarted within the limits."""
        last = self.pulse.heartbeat_ns
        if last is not None and not self._stopping and (now_ns - last) / 1e9 > HUNG_AFTER_S:
            self.pulse.heartbeat_ns = None
            self.kill(f"hung: no heartbeat for {HUNG_AFTER_S:g} s")

    async def _watch_loading(self) -> None:
        await asyncio.sleep(LOAD_TIMEOUT_S)
        if self.described is None:
            self.kill(f"was not running within {LOAD_TIMEOUT_S:g} s of its start: is there an endless loop in it?")

    def _exited(self, ending: WorkerExit) -> None:
        if not self._ready.done():
            self._ready.set_result(None)
        self._finish(ending)

    def _finish(self, ending: WorkerExit) -> None:
        if self._ended.is_set():
            return
        self._ended.set()
        self._let_go()
        failure = self._failure
        if failure is not None:
            where = f" (line {failure.line})" if failure.line else ""
            self._on_end(f"{failure.reason}{where}", True, isinstance(failure, Failed))
        elif self._stopping:
            forced = f"; {ending.reason}" if ending.crashed else ""
            self._on_end(f"{self._stopping}{forced}", False, False)
        else:
            self._on_end(ending.reason or "the strategy ended by itself", True, True)

    def _let_go(self) -> None:
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        for instrument in self.spec.instruments:
            # not one of this run's own tasks: it has to outlive them
            self._services.spawn(self._services.market_data.release(instrument, self._owner))

    # ---- from the worker ---------------------------------------------------------------------------------------------

    def _receive(self, message: WorkerMessage) -> None:
        match message:
            case Submit():
                self._limited(self._submit(message), message.request_id)
            case Cancel():
                self._spawn(self._cancel(message.client_order_id), "cancel")
            case Heartbeat():
                self._beat(message)
            case MetricValue():
                if message.name in self.pulse.metrics or len(self.pulse.metrics) < METRICS_LIMIT:
                    self.pulse.metrics[message.name[:64]] = message.value
            case LogLine():
                self._log(message.level, message.text)
            case RequestHistory():
                self._spawn(self._history(message), "history")
            case Ready():
                self.pulse.badge, self.pulse.badge_reason = message.badge, message.badge_reason
                self.pulse.proofs = message.proofs
                if not self._ready.done():
                    self._ready.set_result(None)
            case Running():
                self.described = message.described
                self.pulse.heartbeat_ns = self._services.clock.monotonic_ns()
                self._spawn(self._stream(message.described), "streams")
            case Failed() | LoadFailed():
                self._failure = message
                if isinstance(message, Failed):
                    self._log("ERROR", f"{message.reason}\n{message.traceback}".rstrip())
                else:
                    self.kill(message.reason)
            case Stopped():
                self._stopping = self._stopping or message.reason
            case Described():
                pass  # an answer to Describe, which a run never sends

    def _beat(self, beat: Heartbeat) -> None:
        now_ns = self._services.clock.monotonic_ns()
        self._services.heartbeat(self.spec.strategy_id, beat, self.pulse, now_ns)
        self.pulse.heartbeat_ns = now_ns
        self.pulse.ticks = beat.ticks
        self.pulse.callback_us = beat.callback_us
        self.pulse.lag_ms = beat.lag_ms

    def _log(self, level: str, text: str) -> None:
        level = level if level in ("DEBUG", "INFO", "WARNING", "ERROR") else "INFO"
        logger.bind(strategy=self.spec.strategy_id).log(level, "[{}] {}", self.spec.strategy_id, text)
        self._services.bus.publish(LogRecorded(self._services.clock.time_ns(), level, self.spec.strategy_id, text))

    def _limited(self, coroutine: Coroutine[Any, Any, None], request_id: int) -> None:
        if self._in_flight >= IN_FLIGHT_LIMIT:
            coroutine.close()
            self._send(OrderUpdate(request_id, None, f"{IN_FLIGHT_LIMIT} orders wait for an answer already"))
            return
        self._in_flight += 1
        self._spawn(coroutine, "order").add_done_callback(self._landed)

    def _landed(self, _: asyncio.Task[Any]) -> None:
        self._in_flight -= 1

    async def _submit(self, message: Submit) -> None:
        if self._stopping:
            self._send(OrderUpdate(message.request_id, None, f"the strategy is being stopped: {self._stopping}"))
            return
        try:
            if message.request.instrument not in self.spec.instruments:
                raise InvalidOrder(f"{message.request.instrument} is not one of this strategy's instruments")
            account_id = self._route(message.request.instrument)
            await self._services.orders.submit(
                message.request, self.spec.strategy_id, account_id, partial(self._named, message.request_id)
            )
        except KocError as error:
            self._send(OrderUpdate(message.request_id, None, str(error)))

    def _named(self, request_id: int, client_order_id: str) -> None:
        self._requests[client_order_id] = request_id

    async def _cancel(self, client_order_id: str) -> None:
        order = self._services.store.order(client_order_id)
        if order is None or order.strategy_id != self.spec.strategy_id:
            self._log("WARNING", f"asked to cancel {client_order_id!r}, which is not an order of this strategy")
            return
        try:
            await self._services.orders.cancel(client_order_id)
        except KocError as error:
            self._log("WARNING", f"order {client_order_id} could not be cancelled: {error}")

    async def _history(self, message: RequestHistory) -> None:
        try:
            if message.instrument not in self.spec.instruments:
                raise InvalidOrder(f"{message.instrument} is not one of this strategy's instruments")
            count = max(1, min(message.count, HISTORY_LIMIT))
            bars = await self._services.history.last(BarSeries(message.instrument, message.timeframe), count)
            self._send(HistoryBars(message.request_id, tuple(bars)))
        except KocError as error:
            self._send(HistoryBars(message.request_id, (), str(error)))

    # ---- to the worker -----------------------------------------------------------------------------------------------

    def _send(self, message: Any) -> None:
        if self._handle is not None and not self._ended.is_set():
            self.pulse.sent += 1
            self._handle.send(message)

    async def _stream(self, described: Described) -> None:
        """Warm the strategy up with history, then let the live market flow."""
        bus, mine = self._services.bus, set(self.spec.instruments)
        timeframe = self.spec.timeframe or described.timeframe
        self._listen(bus.subscribe(OrderChanged, self._order_changed))
        self._listen(bus.subscribe(FillRecorded, self._fill_recorded))
        if "bars" in described.subscriptions:
            self._listen(bus.subscribe(BarChanged, lambda fact: self._bar(fact, timeframe)))
            try:
                for instrument in self.spec.instruments:
                    self._backlog[instrument] = []
                    await self._services.market_data.hold_bars(instrument, timeframe, self._owner)
                for instrument in self.spec.instruments:
                    await self._warm_up(instrument, timeframe, described.warmup_bars)
            except KocError as error:
                self._failure = LoadFailed(str(error))
                self.kill(str(error))
                return
        if "quotes" in described.subscriptions:
            self._listen(
                bus.subscribe(
                    QuoteChanged, lambda f: self._send(QuoteUpdate(f.quote)) if f.quote.instrument in mine else None
                )
            )
        if "trades" in described.subscriptions:
            self._listen(
                bus.subscribe(
                    TradePrinted, lambda f: self._send(TradeUpdate(f.trade)) if f.trade.instrument in mine else None
                )
            )
        self._on_state(StrategyState.RUNNING, "")

    def _listen(self, unsubscribe: Callable[[], None]) -> None:
        if self._ended.is_set():
            unsubscribe()
        else:
            self._unsubscribe.append(unsubscribe)

    async def _warm_up(self, instrument: InstrumentId, timeframe: str, count: int) -> None:
        """Send `count` bars of history, then what closed live meanwhile; later bars go straight through."""
        if count > 0:
            try:
                past = await self._services.history.last(BarSeries(instrument, timeframe), count)
            except KocError as error:
                past = []
                self._log("WARNING", f"no history of {instrument} {timeframe} to warm up with: {error}")
            for bar in past:
                self._send_bar(bar, warmup=True)
        for bar in self._backlog.pop(instrument, []):
            self._send_bar(bar, warmup=False)

    def _bar(self, fact: BarChanged, timeframe: str) -> None:
        bar = fact.bar
        if not fact.closed or bar.timeframe != timeframe or bar.instrument not in self.spec.instruments:
            return
        backlog = self._backlog.get(bar.instrument)
        if backlog is not None:
            backlog.append(bar)
        else:
            self._send_bar(bar, warmup=False)

    def _send_bar(self, bar: Bar, *, warmup: bool) -> None:
        if bar.open_time_ns > self._last_bar_ns.get(bar.instrument, -1):
            self._last_bar_ns[bar.instrument] = bar.open_time_ns
            self._send(BarClosed(bar, warmup))

    def _order_changed(self, fact: OrderChanged) -> None:
        if fact.order.strategy_id == self.spec.strategy_id:
            self._send(OrderUpdate(self._requests.get(fact.order.client_order_id, 0), fact.order))
            if not fact.order.is_open and len(self._requests) > 10_000:
                self._forget_requests()

    def _forget_requests(self) -> None:
        """Drop the ids of orders that ended long ago; a late fill of one then carries request id 0."""
        for key in list(self._requests)[:5_000]:
            order = self._services.store.order(key)
            if order is None or not order.is_open:
                del self._requests[key]

    def _fill_recorded(self, fact: FillRecorded) -> None:
        fill = fact.fill
        if fill.strategy_id == self.spec.strategy_id:
            position = self._services.ledger.position(fill.strategy_id, fill.account_id, fill.instrument)
            request_id = self._requests.get(fill.client_order_id, 0)
            self._send(FillUpdate(request_id, fill, _position_state(position), self._cash()))

    def _cash(self) -> dict[str, Any]:
        account = self._services.store.accounts.get(self.spec.account_id)
        return {b.currency: b.total - b.locked for b in account.balances} if account else {}

    def _spawn(self, coroutine: Coroutine[Any, Any, None], what: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(coroutine, name=f"{what}-{self.spec.strategy_id}")
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.opt(exception=error).error("{} of {} failed", task.get_name(), self.spec.strategy_id)


def _position_state(position: Position) -> PositionState:
    return PositionState(
        position.instrument.id, position.quantity, position.average_price, position.realised_pnl, position.fees
    )


def read_source(path: str, limit_bytes: int) -> bytes:
    """Read a strategy file. Raises StrategyError, naming it, when it is absent, a folder, unreadable or too large."""
    file = Path(path)
    try:
        if file.is_dir():
            raise StrategyError(f"{file} is a folder: choose a strategy file (.py)")
        size = file.stat().st_size
        if size > limit_bytes:
            raise StrategyError(f"{file} has {size:,} bytes: a strategy file may have {limit_bytes:,}")
        source = file.read_bytes()
    except OSError as error:
        raise StrategyError(f"{file} cannot be read: {error.strerror or error}") from error
    if not source.strip():
        raise StrategyError(f"{file} is empty")
    return source
