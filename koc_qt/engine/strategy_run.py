"""One strategy's life: its worker process, what flows down its pipe and what comes back up."""

from __future__ import annotations

import asyncio
import itertools
import math
import re
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from loguru import logger

from koc_qt.domain.errors import InvalidOrder, KocError, StrategyError, VenueError, VenueRejected
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.orders import Order
from koc_qt.domain.state import Badge, StrategySpec
from koc_qt.engine.accounts import Accounts
from koc_qt.engine.patience import LOAD_TIMEOUT_S, READY_TIMEOUT_S
from koc_qt.engine.services import Services
from koc_qt.engine.strategy_feed import StrategyFeed, position_state
from koc_qt.engine.strategy_orders import StrategyOrders
from koc_qt.engine.strategy_words import LONGEST_REASON, StrategyLog, clip, name_of
from koc_qt.link.messages import FillRecorded, OrderChanged
from koc_qt.ports.bars import BarSeries
from koc_qt.ports.workers import WorkerExit, WorkerHandle
from koc_qt.sdk.channel import (
    Amend,
    Cancel,
    Described,
    Failed,
    FillUpdate,
    Heartbeat,
    HistoryBars,
    HostMessage,
    LoadFailed,
    LogLine,
    MetricValue,
    OrderUpdate,
    PositionState,
    Ready,
    RequestHistory,
    Running,
    StartRun,
    Stopped,
    StopRun,
    Submit,
    WorkerMessage,
)

STOP_GRACE_S = 5.0
LANDING_TIMEOUT_S = 11.0  # a little more than the order service gives a venue to answer
HUNG_AFTER_S = 10.0  # without a heartbeat
IN_FLIGHT_LIMIT = 200  # orders that wait for an answer; more are refused
QUESTIONS_LIMIT = 8  # history requests that wait for an answer; more are refused
METRICS_LIMIT = 100  # names a strategy may show
HISTORY_LIMIT = 5_000  # bars a request, as the SDK says: an answer fits one frame
REQUESTS_KEPT = 10_000  # request ids of orders; beyond it those of ended ones are forgotten

_RUNS = itertools.count(1)


class Pulse:
    """Counters of a run that telemetry reads."""

    def __init__(self) -> None:
        self.ticks = 0
        self.sent = 0
        self.beats = 0
        self.anomalies = 0
        self.is_overdue = False  # it was said that the next heartbeat stays away
        self.heartbeat_ns: int | None = None  # monotonic
        self.callback_us = 0
        self.lag_ms = 0.0
        self.metrics: dict[str, float] = {}
        self.badge = Badge.UNPROVEN
        self.badge_reason = ""
        self.proofs: dict[str, str] = {}


class StrategyRun:
    """One worker process from launch to exit; the host makes a new one for every restart.

    `on_running(name)` is told when the market flows, `on_end(reason, crashed, curable)` once, at the end; `curable` is
    false when a restart cannot help (the file is bad).
    After it nothing of this run is heard, but orders that are on their way go on: see `landed`.
    """

    def __init__(
        self,
        spec: StrategySpec,
        source: bytes,
        services: Services,
        accounts: Accounts,
        on_running: Callable[[str], None],
        on_end: Callable[[str, bool, bool], None],
    ) -> None:
        self.spec = spec
        self.pulse = Pulse()
        self.described: Described | None = None
        self._source = source
        self._services = services
        self._accounts = accounts
        self._on_running = on_running
        self._on_end = on_end
        self._handle: WorkerHandle | None = None
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()
        self._failure: Failed | LoadFailed | None = None
        self._stopping = ""
        self._log = StrategyLog(spec.strategy_id, services.bus, services.clock).write
        self._requests: dict[str, int] = {}  # client order id -> the worker's request id
        self._orders: set[asyncio.Task[None]] = set()  # these two outlive the run, until the venue has answered
        self._cancels: set[asyncio.Task[None]] = set()
        self._own_orders = StrategyOrders(spec.strategy_id, services, self._log, self._tell_order)
        self._questions = 0
        self._fills: deque[tuple[int, FillRecorded, PositionState]] = deque()  # to be told, with the money after them
        self._telling = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsubscribe: list[Callable[[], None]] = []
        # its own name a run: a release of the last run must not end the streams of this one
        self._owner = f"strategy:{spec.strategy_id}:{next(_RUNS)}"
        self._feed = StrategyFeed(spec, source, services, self._owner, self._send, self._log, self._route)

    @property
    def pid(self) -> int | None:
        """The worker's process id, None when there is none."""
        return self._handle.pid if self._handle is not None and not self._ended.is_set() else None

    # ---- start and stop ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Launch the worker and hand it the source.

        Raises StrategyError, also when it is stopped meanwhile, VenueError, InvalidOrder: then `abandon` it.
        """
        rules = tuple([await self._hold(instrument) for instrument in self.spec.instruments])
        handle = await self._services.launcher.launch(self.spec.strategy_id, self._receive, self._exited)
        self._handle = handle
        self._check_wanted()
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self._ready
        except TimeoutError:
            self.kill(f"was not ready within {READY_TIMEOUT_S:g} s")
            return
        cash = await self._accounts.cash(self.spec.account_id)
        self._check_wanted()
        if self._ended.is_set():
            return  # it died, and will be started again
        # from here to the end without a wait: what changes after the snapshot is told after it
        start = self._start_run(rules, cash)
        bus = self._services.bus
        self._unsubscribe.append(bus.subscribe(OrderChanged, self._order_changed))
        self._unsubscribe.append(bus.subscribe(FillRecorded, self._fill_recorded))
        try:
            handle.send(start)
        except (ValueError, TypeError, OverflowError) as error:
            raise StrategyError(f"{self.spec.strategy_id} cannot be handed to its worker: {error}") from error
        if not self._ended.is_set():
            self._spawn(self._watch_loading(), "loading")

    async def _hold(self, instrument: InstrumentId) -> Instrument:
        rules = await self._services.market_data.hold(instrument, self._owner)
        self._check_wanted()
        return rules

    def _check_wanted(self) -> None:
        if self._stopping:
            raise StrategyError(f"{self.spec.strategy_id} was stopped while it was starting: {self._stopping}")

    def _start_run(self, instruments: tuple[Instrument, ...], cash: dict[str, Any]) -> StartRun:
        key = self.spec.strategy_id
        positions = [self._services.ledger.position(key, self._route(rules.id), rules.id) for rules in instruments]
        return StartRun(
            strategy_id=key,
            source=self._source,
            filename=self.spec.path.replace("\\", "/").rsplit("/", 1)[-1],
            parameters=self.spec.parameters,
            instruments=instruments,
            timeframe=self.spec.timeframe,
            cash=cash,
            positions=tuple(map(position_state, positions)),
            open_orders=tuple(self._services.store.open_orders(key)),
            time_ns=self._services.market_data.time_ns(instruments[0].id.venue),
            seed=self._services.seed,
            heartbeat_s=self._services.heartbeat_s,
            clock_speed=self._services.clock_speed(instruments[0].id.venue),
        )

    def _route(self, instrument: InstrumentId) -> str:
        return self._accounts.route(self.spec.account_id, instrument)

    async def stop(self, reason: str, grace_s: float = STOP_GRACE_S) -> None:
        """Ask the strategy to stop, and end the process when it has not within `grace_s`."""
        self._stopping = clip(reason, LONGEST_REASON) or "stopped"
        if self._handle is None:
            self._finish(WorkerExit(False, None, self._stopping))
            return
        self._send(StopRun(self._stopping, grace_s))
        try:
            async with asyncio.timeout(grace_s):
                await self._ended.wait()
        except TimeoutError:
            self.kill(f"did not stop within {grace_s:g} s")
            try:
                async with asyncio.timeout(STOP_GRACE_S):
                    await self._ended.wait()
            except TimeoutError:
                logger.error("the process of {} was killed, but does not end", self.spec.strategy_id)

    def abandon(self) -> None:
        """Let go of everything after `start` has raised; nobody is told."""
        self._ended.set()
        self._let_go()
        self.kill("could not be started")

    def kill(self, reason: str) -> None:
        """End the process at once."""
        if self._handle is not None:
            self._handle.kill(reason)

    async def landed(self) -> None:
        """Wait until the orders and cancels that were on their way have an answer, or the venue's time for it is up."""
        if waiting := self._orders | self._cancels:
            await asyncio.wait(waiting, timeout=LANDING_TIMEOUT_S)

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

    async def _watch_exit(self) -> None:
        await asyncio.sleep(STOP_GRACE_S)
        self.kill(f"said that it ends, and did not within {STOP_GRACE_S:g} s")

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
            named = not failure.line or re.search(rf"\bline {failure.line}\b", failure.reason)  # by its writer
            where = "" if named else f" (line {failure.line})"
            self._on_end(f"{clip(failure.reason, LONGEST_REASON)}{where}", True, isinstance(failure, Failed))
        elif self._stopping:
            forced = f"; {ending.reason}" if ending.crashed else ""
            self._on_end(f"{self._stopping}{forced}", False, False)
        else:
            self._on_end(clip(ending.reason, LONGEST_REASON) or "the strategy ended by itself", True, True)

    def _let_go(self) -> None:
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        self._unsubscribe.clear()
        self._feed.close()
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        for instrument in self.spec.instruments:
            # not one of this run's own tasks: it has to outlive them
            self._services.spawn(self._services.market_data.release(instrument, self._owner))

    # ---- from the worker ---------------------------------------------------------------------------------------------

    def _receive(self, message: WorkerMessage) -> None:
        if self._ended.is_set():
            return  # the last words of a process that was given up
        match message:
            case Submit():
                self._take_order(message)
            case Cancel():
                self._keep(self._cancels, self._own_orders.cancel(message), "cancel")
            case Amend():
                self._keep(self._cancels, self._own_orders.amend(message), "amend")
            case Heartbeat():
                self._beat(message)
            case MetricValue():
                self._metric(message)
            case LogLine():
                self._log(message.level, message.text)
            case RequestHistory():
                self._take_question(message)
            case Ready():
                self.pulse.badge, self.pulse.badge_reason = message.badge, clip(message.badge_reason, LONGEST_REASON)
                self.pulse.proofs = message.proofs
                if not self._ready.done():
                    self._ready.set_result(None)
            case Running():
                self._begin(message.described)
            case Failed() | LoadFailed():
                self._fail(message)
            case Stopped():
                self._stopping = self._stopping or clip(message.reason, LONGEST_REASON) or "the strategy ended"
                self._spawn(self._watch_exit(), "exit")
            case _:
                pass  # Described answers Describe, which a run never sends

    def _begin(self, described: Described) -> None:
        if self.described is not None:
            self.kill("sent garbage: it said twice that it runs")
            return
        self.described = described
        self.pulse.heartbeat_ns = self._services.clock.monotonic_ns()
        self._spawn(self._stream(described), "streams")

    def _fail(self, failure: Failed | LoadFailed) -> None:
        self._failure = self._failure or failure
        if isinstance(failure, Failed):
            self._log("ERROR", f"{clip(failure.reason, LONGEST_REASON)}\n{failure.traceback}".rstrip())
        else:
            self.kill(clip(failure.reason, LONGEST_REASON))

    def _beat(self, beat: Heartbeat) -> None:
        if self.described is None:
            return  # nothing runs yet
        now_ns = self._services.clock.monotonic_ns()
        self._services.heartbeat(self.spec.strategy_id, beat, self.pulse, now_ns)
        self.pulse.heartbeat_ns = now_ns
        self.pulse.beats += 1
        self.pulse.ticks = beat.ticks
        self.pulse.callback_us = beat.callback_us
        self.pulse.lag_ms = beat.lag_ms

    def _metric(self, metric: MetricValue) -> None:
        """Show a number; one that is not finite takes the name from the table until it is."""
        name, metrics = name_of(metric.name), self.pulse.metrics
        if not math.isfinite(metric.value):
            metrics.pop(name, None)
        elif name in metrics or len(metrics) < METRICS_LIMIT:
            metrics[name] = metric.value

    # ---- orders and questions

    def _take_order(self, message: Submit) -> None:
        refusal = ""
        if self._stopping:
            refusal = f"the strategy is being stopped: {self._stopping}"
        elif self.described is None:
            refusal = "the strategy does not run yet"
        elif len(self._orders) >= IN_FLIGHT_LIMIT:
            refusal = f"{IN_FLIGHT_LIMIT} orders wait for an answer already"
        if refusal:
            self._send(OrderUpdate(message.request_id, None, refusal))
        else:
            self._keep(self._orders, self._submit(message), "order")

    async def _submit(self, message: Submit) -> None:
        request = message.request
        named: list[str] = []
        try:
            if self._stopping:
                raise InvalidOrder(f"the strategy is being stopped: {self._stopping}")
            if request.instrument not in self.spec.instruments:
                raise InvalidOrder(f"{request.instrument} is not one of this strategy's instruments")
            account_id = self._route(request.instrument)
            on_named = partial(self._name, message.request_id, named)
            await self._services.orders.submit(request, self.spec.strategy_id, account_id, on_named, message.signal_ns)
        except KocError as error:
            for client_order_id in named:
                self._requests.pop(client_order_id, None)
            self._send(OrderUpdate(message.request_id, None, str(error)))
        except Exception:
            if not named:  # else it may be on its way: the order service tells
                self._send(OrderUpdate(message.request_id, None, "internal error of the engine, its log says more"))
            raise

    def _name(self, request_id: int, named: list[str], client_order_id: str) -> None:
        named.append(client_order_id)
        self._requests[client_order_id] = request_id

    def _take_question(self, message: RequestHistory) -> None:
        if self._questions >= QUESTIONS_LIMIT:
            self._send(HistoryBars(message.request_id, (), f"{QUESTIONS_LIMIT} questions wait for an answer already"))
            return
        self._questions += 1
        self._spawn(self._answer(message), "history").add_done_callback(self._answered)

    def _answered(self, _: asyncio.Task[None]) -> None:
        self._questions -= 1

    async def _answer(self, message: RequestHistory) -> None:
        try:
            if message.instrument not in self.spec.instruments:
                raise InvalidOrder(f"{message.instrument} is not one of this strategy's instruments")
            count = max(1, min(message.count, HISTORY_LIMIT))
            bars = await self._services.history.last(BarSeries(message.instrument, message.timeframe), count)
            answer = HistoryBars(message.request_id, tuple(bars))
        except KocError as error:
            answer = HistoryBars(message.request_id, (), str(error))
        except Exception:
            self._send(HistoryBars(message.request_id, (), "internal error of the engine, its log says more"))
            raise
        self._send(answer)

    # ---- to the worker -----------------------------------------------------------------------------------------------

    def _send(self, message: HostMessage) -> None:
        if self._handle is None or self._ended.is_set():
            return
        self.pulse.sent += 1
        self._feed.note(message)
        try:
            self._handle.send(message)
        except ValueError as error:  # above the limit of a frame: it must not go on without it
            self.kill(f"cannot be told what it has to know: {error}")

    async def _stream(self, described: Described) -> None:
        try:
            await self._feed.start(described)
        except KocError as error:
            curable = isinstance(error, VenueError) and not isinstance(error, VenueRejected)
            self._failure = Failed(str(error), None, "") if curable else LoadFailed(str(error))
            self.kill(str(error))
            return
        if not self._stopping and not self._ended.is_set():
            self._on_running(name_of(described.name))

    def _order_changed(self, fact: OrderChanged) -> None:
        order = fact.order
        if order.strategy_id != self.spec.strategy_id:
            return
        self._tell_order(order)
        if not order.is_open and len(self._requests) > REQUESTS_KEPT:
            self._forget_requests()

    def _tell_order(self, order: Order) -> None:
        self._send(OrderUpdate(self._requests.get(order.client_order_id, 0), order))

    def _forget_requests(self) -> None:
        """Drop the ids of orders that ended long ago; a late fill of one then carries request id 0."""
        for key in list(self._requests)[: REQUESTS_KEPT // 2]:
            order = self._services.store.order(key)
            if order is None or not order.is_open:
                del self._requests[key]

    def _fill_recorded(self, fact: FillRecorded) -> None:
        fill = fact.fill
        if fill.strategy_id != self.spec.strategy_id:
            return
        position = self._services.ledger.position(fill.strategy_id, fill.account_id, fill.instrument)
        self._fills.append((self._requests.get(fill.client_order_id, 0), fact, position_state(position)))
        if not self._telling:
            self._telling = True
            self._spawn(self._tell_fills(), "fills")

    async def _tell_fills(self) -> None:
        """Tell of fills in their order, each with money that was read after it."""
        try:
            while self._fills:
                count = len(self._fills)
                cash = await self._accounts.cash(self.spec.account_id)
                for _ in range(count):
                    request_id, fact, position = self._fills.popleft()
                    self._send(FillUpdate(request_id, fact.fill, position, cash))
        finally:
            self._telling = False

    def _spawn(self, coroutine: Coroutine[Any, Any, None], what: str) -> asyncio.Task[None]:
        return self._keep(self._tasks, coroutine, what)

    def _keep(
        self, kept: set[asyncio.Task[None]], coroutine: Coroutine[Any, Any, None], what: str
    ) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine, name=f"{what}-{self.spec.strategy_id}")
        kept.add(task)
        task.add_done_callback(partial(self._task_done, kept))
        return task

    def _task_done(self, kept: set[asyncio.Task[None]], task: asyncio.Task[None]) -> None:
        kept.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.opt(exception=error).error("{} of {} failed", task.get_name(), self.spec.strategy_id)
