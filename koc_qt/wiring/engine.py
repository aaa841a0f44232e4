"""Composition root of the engine process: every service with its adapters, the order in which they start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
from collections.abc import Callable, Coroutine
from typing import Any, get_args

import msgspec
import zmq
from loguru import logger
from PySide6.QtCore import QCoreApplication

from koc_qt.accounts_file import AccountsFile, with_accounts
from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.process_guard import forbid_core_dumps
from koc_qt.adapters.process_meter import PsutilMeter
from koc_qt.adapters.sandbox import SandboxSettings
from koc_qt.adapters.secrets import Choice, choose_store
from koc_qt.adapters.sqlite_journal import SqliteJournal, read_journal
from koc_qt.adapters.worker_process import QProcessWorkerLauncher
from koc_qt.config import Config
from koc_qt.domain.errors import KocError, LinkError
from koc_qt.domain.state import EngineState, StrategySpec
from koc_qt.domain.timeframes import bar_open_ns
from koc_qt.engine.account_commands import AccountCommands
from koc_qt.engine.account_limits import AccountLimitsWatch
from koc_qt.engine.account_opening import Guards
from koc_qt.engine.account_registry import AccountRegistry
from koc_qt.engine.accounts import Accounts
from koc_qt.engine.backtests import Backtests
from koc_qt.engine.bus import Bus
from koc_qt.engine.catalogue import Catalogue
from koc_qt.engine.commands import Commands
from koc_qt.engine.downloads import Downloads
from koc_qt.engine.drift_sessions import Sessions
from koc_qt.engine.exposure import Exposure
from koc_qt.engine.history import HistoryService
from koc_qt.engine.kill_switch import KillSwitch
from koc_qt.engine.latency import LatencyBook
from koc_qt.engine.ledger import DAY_NS, Ledger
from koc_qt.engine.listing import Listing
from koc_qt.engine.log_book import LogBook
from koc_qt.engine.market_data import MarketData
from koc_qt.engine.orders import OrderService
from koc_qt.engine.owed_cancels import cancels_done
from koc_qt.engine.plain_keys import PlainKeyMover
from koc_qt.engine.scheduler import DailyTimes, Scheduler
from koc_qt.engine.secrets import SecretsDesk
from koc_qt.engine.services import Services
from koc_qt.engine.store import Store
from koc_qt.engine.strategies import RestartPolicy, StrategyHost
from koc_qt.engine.strategy_library import StrategyLibrary
from koc_qt.engine.telemetry import Telemetry
from koc_qt.engine.trust import TrustService
from koc_qt.link import messages
from koc_qt.link.auth import Gatekeeper
from koc_qt.link.keys import ProfileKeys, load_or_create_keys
from koc_qt.link.rendezvous import EngineInfo, ProfileLock, remove_engine_info, write_engine_info
from koc_qt.link.server import LinkServer
from koc_qt.link.telemetry import TelemetryPublisher
from koc_qt.paths import Paths
from koc_qt.ports.bars import BarSeries, Span
from koc_qt.ports.venue import TradingVenue
from koc_qt.version import __version__
from koc_qt.wiring.accounts import EngineFactory, fills_of_present_modes, key_fields, market_speed, own_accounts
from koc_qt.wiring.bar_files import BarFiles
from koc_qt.wiring.optimiser import engine_optimiser
from koc_qt.wiring.qt_loop import qt_loop
from koc_qt.wiring.signals import stop_signals
from koc_qt.wiring.startup import configured, is_same, with_venues_in_use
from koc_qt.wiring.upgrading import bring_up_to_date
from koc_qt.wiring.venues import make_bar_store, make_data_venues
from koc_qt.wiring.warm_up import prepare_installed_copy

Observer = Callable[["Engine"], Coroutine[Any, Any, None]]

ACCOUNTS_TIMEOUT_S = 10.0  # how long the start waits for accounts; the simulated ones take no time
STEP_TIMEOUT_S = 15.0  # for each step of stopping
DRIFT_AT = "00:15"  # UTC, daily: when the day's bars have settled
CANCELS_TIMEOUT_S = 3.0  # how long stopping waits for venues to say that orders are cancelled
_NOT_FROM_THE_BUS = (  # what the link says itself, and lines of the log, whose book tells them
    messages.Welcome,
    messages.Refused,
    messages.Snapshot,
    messages.HistoryPage,
    messages.Resync,
    messages.Reply,
    messages.EngineStopped,
    messages.LogRecorded,
)
PUBLISHED = tuple(kind for kind in get_args(messages.Fact) if kind not in _NOT_FROM_THE_BUS)


class EngineOptions(msgspec.Struct, frozen=True):
    """What the command line adds to the configuration; strategies are started once the engine runs."""

    strategies: tuple[StrategySpec, ...] = ()
    duration_s: float | None = None


class Resources(msgspec.Struct, frozen=True):
    """What has to be opened before an engine can be made, and closed after it."""

    journal: SqliteJournal
    keys: ProfileKeys
    context: zmq.Context[Any]
    publisher: TelemetryPublisher


class Engine:
    """One engine on one profile: `start`, `serve` and `stop` once each, on the loop that made it."""

    def __init__(self, paths: Paths, config: Config, options: EngineOptions, resources: Resources) -> None:
        self._remembered = resources.journal.load()
        config = with_venues_in_use(with_accounts(config, paths), paths, self._remembered)
        self.paths, self.config, self.options = paths, config, options
        self.store, self.bus, self.clock = Store(), Bus(), SystemClock()
        self._stop_asked = asyncio.Event()
        self._stop_reason = ""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._starts: list[asyncio.Task[None]] = []
        self._wanted: list[StrategySpec] = []  # ran when the engine died
        self._keys = resources.keys
        self._publisher = resources.publisher
        rng = random.Random()  # noqa: S311 - ids and jitter, nothing secret

        self._data_venues = make_data_venues(config, paths, self.clock)
        self._trading: dict[str, TradingVenue] = {}  # the accounts that are open, by id
        self._settled: set[str] = set()  # accounts whose unattended orders were seen to

        self.ledger = Ledger(self.store, self.clock)
        self.kill_switch = KillSwitch(resources.journal, self.clock)
        latencies = LatencyBook(self.clock)
        self.history = HistoryService(make_bar_store(config, paths), self._data_venues, self.clock)
        self.market_data = MarketData(self.store, self.bus, self.clock, self._data_venues, self.history)
        self.orders = OrderService(
            self.store,
            self.bus,
            resources.journal,
            self.clock,
            self.ledger,
            self._trading,
            self.kill_switch,
            config.risk,
            latencies,
            rng,
        )
        self.limits = AccountLimitsWatch(self.store, self.bus, self._trading)
        self.accounts = Accounts(self.store, self.bus, self.clock, {}, self._trading, self._settle_account)

        self._gatekeeper = Gatekeeper(resources.context, resources.keys)
        self.telemetry = Telemetry(
            self.store,
            self.bus,
            self.clock,
            self.ledger,
            self.orders,
            self.market_data,
            self.kill_switch,
            latencies,
            PsutilMeter(),
            self._publisher,
        )
        workers = config.engine.workers
        self._launcher = QProcessWorkerLauncher(SandboxSettings(address_space_bytes=workers.memory_mb << 20))
        sessions = Sessions()
        services = Services(
            store=self.store,
            bus=self.bus,
            clock=self.clock,
            ledger=self.ledger,
            orders=self.orders,
            market_data=self.market_data,
            history=self.history,
            launcher=self._launcher,
            heartbeat=self.telemetry.heartbeat,
            spawn=self._spawn,
            clock_speed=lambda venue: market_speed(venue, config.simulator),
            seed=config.simulator.seed,
            heartbeat_s=config.engine.heartbeat_s,
            risk=config.risk,
            open_files=BarFiles().open,
            saw_bar=sessions.saw,
            begin_tape=sessions.begin_tape,
        )
        self.exposure = Exposure(self.store, self.bus, self.market_data, self._spawn)
        policy = RestartPolicy(workers.max_restarts, 600.0, workers.backoff_s, workers.backoff_max_s)
        self.host = StrategyHost(services, self.accounts, resources.journal, self.kill_switch, rng, policy)
        self.registry = self._make_registry()
        self._plain_keys = PlainKeyMover(self.registry)
        self.downloads = Downloads(self.store, self.bus, self.clock, self.market_data, self.history)
        self.backtests = Backtests(services, paths.backtests)
        self._spawn(self.backtests.keep_watch())
        self.trust = TrustService(services, paths.trust, sessions)
        self.optimiser = engine_optimiser(services, paths, config)
        self.log_book = LogBook(self.clock, lambda line: self._link.publish(line))
        self.listing = Listing(self.store, self.bus)
        self.commands = Commands(
            services,
            self.host,
            self.kill_switch,
            self.telemetry,
            self.ask_to_stop,
            catalogue=Catalogue(self.store, self.market_data),
            listing=self.listing,
            downloads=self.downloads,
            backtests=self.backtests,
            trust=self.trust,
            optimiser=self.optimiser,
            library=StrategyLibrary(paths.strategies),
            log_book=self.log_book,
            account_commands=AccountCommands(self.store, self.registry, self._plain_keys).execute,
        )
        self._link = LinkServer(resources.context, config.engine.link.endpoint, resources.keys, self.commands)
        self._scheduler = Scheduler()
        self._connect_bus()

    # ---- start, serve, stop ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bring everything up; raises KocError, with nothing left behind, when that cannot be."""
        self.log_book.start()
        self.kill_switch.restore(self._remembered.kill_switch)
        await self._plain_keys.read({order.account_id for order in self._remembered.orders})
        self.ledger.restore(fills_of_present_modes(self._remembered, self.registry))
        self.orders.restore(self._remembered.orders)
        self._wanted = self.host.restore(self._remembered.strategies)
        self.orders.start()
        self._gatekeeper.start()
        self._link.start()
        await self.market_data.start()
        self.accounts.start()
        self.limits.start()
        await self._open_accounts()
        await self.exposure.start()
        self.telemetry.state = EngineState.RUNNING
        self.telemetry.show(self.host)
        self.telemetry.start(self.host)
        self._launcher.warm_up()
        self._plan()
        self._announce()
        self._spawn(prepare_installed_copy(self.paths, self.config, self.store))
        self._starts = [asyncio.create_task(self._start_strategy(spec)) for spec in self._to_start(self._wanted)]
        for task in self._starts:
            self._keep(task)

    async def serve(self) -> str:
        """Run until somebody asks to stop, or the time is over; gives the reason."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.options.duration_s):
                await self._stop_asked.wait()
        return self._stop_reason or f"ran for {self.options.duration_s:g} s, as asked"

    def ask_to_stop(self, reason: str) -> None:
        """Let `serve` return; from any task of the loop."""
        self._stop_reason = self._stop_reason or reason
        self._stop_asked.set()

    async def stop(self, reason: str) -> None:
        """Stop strategies, write everything down, close everything. Every step is tried whatever the others do."""
        logger.info("stopping: {}", reason)
        self.telemetry.state, self.telemetry.reason = EngineState.STOPPING, reason
        self._scheduler.close()
        for task in self._starts:  # one that still waits for its venue must not start behind our back
            task.cancel()
        await asyncio.gather(*self._starts, return_exceptions=True)
        for step in (
            self.host.stop_all(f"the engine stops: {reason}"),
            self.downloads.close(),
            self.backtests.close(),
            self.trust.close(),
            self.optimiser.close(),
            self._settle(),
            self._link.close(reason),
            self.telemetry.close(),
            self._launcher.close(),
            self.registry.close(),
            self.limits.close(),
            self.accounts.close(),
            self.market_data.close(),
            self.orders.close(),
        ):
            try:
                async with asyncio.timeout(STEP_TIMEOUT_S):
                    await step
            except Exception as error:
                logger.error("a step of stopping failed: {}: {}", type(error).__name__, error)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.listing.close()
        self.registry.secrets.close()
        self._gatekeeper.close()
        self.log_book.close()
        with contextlib.suppress(LinkError):
            remove_engine_info(self.paths.run)

    async def _settle(self) -> None:
        """Let the last orders end, and that be published, while venues and windows still listen."""
        if self.orders.journal_ok:
            await self.orders.settle()
            await cancels_done(self.store, self.bus, CANCELS_TIMEOUT_S)
        self.telemetry.show(self.host)

    async def _open_accounts(self) -> None:
        """Open every account; those whose market or venue is out of reach are opened once it is not."""
        tasks = self.registry.open_all()
        for task in tasks:
            task.add_done_callback(self._landed)  # one that fails is logged, and stops no other
        if tasks:
            await asyncio.wait(tasks, timeout=ACCOUNTS_TIMEOUT_S)

    async def _settle_account(self, account_id: str) -> None:
        """Ask what became of an account's open orders; those that nobody attends to any more are cancelled, once.

        While all trading is halted that is done each time, before anything is asked: the venue may have been out of
        reach when it was.
        """
        if self.kill_switch.engaged:
            await self._cancel_unattended(account_id)
        await self.orders.reconcile(account_id)
        if account_id not in self._settled or self.kill_switch.engaged:
            self._settled.add(account_id)
            await self._cancel_unattended(account_id)

    def _make_registry(self) -> AccountRegistry:
        """Put together what keeps accounts."""
        config, paths = self.config, self.paths
        factory = EngineFactory(
            config,
            paths,
            self.clock,
            self.store,
            self.bus,
            self.market_data,
            self._data_venues,
            self._remembered,
            lambda: read_journal(paths.journal),
            lambda venue: self.registry.data_credentials(venue),
        )
        own = own_accounts(config, self._data_venues)
        modes = {account.id: account.mode for account in own}

        def choose() -> Choice:
            forbid_core_dumps()  # what opens a file of keys opens those for live trading too
            return choose_store(paths, key_fields(factory.abilities), modes)

        return AccountRegistry(
            self.store,
            self.bus,
            self.clock,
            self.ledger,
            self.orders,
            self.accounts,
            self.host,
            self._trading,
            SecretsDesk(choose),
            factory,
            AccountsFile(paths.accounts_file),
            Guards(forbid_core_dumps, factory.fills, self._settle_account),
            own,
        )

    async def _cancel_unattended(self, account_id: str) -> None:
        """Cancel what the engine died before it could cancel: orders whose strategy was stopped, all when halted."""
        attended = {messages.MANUAL, *(spec.strategy_id for spec in self._wanted)}
        for order in self.store.open_orders():
            if order.account_id == account_id and (self.kill_switch.engaged or order.strategy_id not in attended):
                logger.info("order {} was left open by {}: cancelled", order.client_order_id, order.strategy_id)
                try:
                    await self.orders.cancel(order.client_order_id)
                except KocError as error:
                    logger.error("order {} could not be cancelled: {}", order.client_order_id, error)

    def _announce(self) -> None:
        write_engine_info(
            self.paths.run,
            EngineInfo(
                pid=os.getpid(),
                version=__version__,
                protocol=messages.PROTOCOL,
                link=self._link.endpoint,
                telemetry=self._publisher.endpoint,
                server_key=self._keys.engine.public.decode(),
                started_ns=self.clock.time_ns(),
            ),
        )

    # ---- strategies --------------------------------------------------------------------------------------------------

    def _to_start(self, wanted: list[StrategySpec]) -> list[StrategySpec]:
        """What ran when the engine died, what the configuration starts, and what the command line asks for."""
        specs = list(wanted)
        if wanted:
            names = ", ".join(spec.strategy_id for spec in wanted)
            logger.info("running again, as when the engine last ended out of order: {}", names)
        now_ns = self.clock.time_ns()
        due = [times.spec for times in self._daily_times() if times.includes(now_ns)]
        auto = [configured(entry, self.config, self.paths) for entry in self.config.strategies if entry.autostart]
        for spec in [*auto, *due, *self.options.strategies]:
            if not any(is_same(spec, other) for other in specs):
                specs.append(spec)
        return specs

    async def _start_strategy(self, spec: StrategySpec) -> None:
        try:
            for instrument in spec.instruments:
                await self.market_data.wait_ready(instrument.venue)
            await self.host.start(spec)
        except KocError as error:
            logger.error("{}", error)

    def _daily_times(self) -> list[DailyTimes]:
        return [
            DailyTimes(configured(entry, self.config, self.paths), entry.start, entry.stop)
            for entry in self.config.strategies
        ]

    def _plan(self) -> None:
        self._scheduler.daily(DRIFT_AT, "measure drift", self.trust.drift.measure_all)
        self._scheduler.start(
            self._daily_times(),
            self.host.start,
            self.host.stop,
            self.config.scheduler.data_refresh,
            self._refresh_history,
        )

    async def _refresh_history(self) -> None:
        """Bring the last day of every series in use up to date."""
        for managed in self.host.managed.values():
            timeframe = managed.spec.timeframe or "1m"
            for instrument in managed.spec.instruments:
                now_ns = self.market_data.time_ns(instrument.venue)
                span = Span(bar_open_ns(now_ns - DAY_NS, timeframe), bar_open_ns(now_ns, timeframe))
                await self.history.bars(BarSeries(instrument, timeframe), span)

    # ---- wires -------------------------------------------------------------------------------------------------------

    def _connect_bus(self) -> None:
        """Let windows hear every fact."""
        kind: type[Any]
        for kind in PUBLISHED:
            self.bus.subscribe(kind, self._link.publish)
        self.bus.subscribe(messages.LogRecorded, self.log_book.record)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._keep(asyncio.create_task(coroutine))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.opt(exception=error).error("a task of the engine failed: {}", error)


async def run(paths: Paths, config: Config, options: EngineOptions, observe: Observer) -> str:
    """Run an engine on the running loop, `observe` beside it; give why it stopped. Raises KocError."""
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(ProfileLock(paths.engine_lock))
        bring_up_to_date(paths)
        keys = load_or_create_keys(paths.keys)
        context: zmq.Context[Any] = stack.enter_context(zmq.Context())
        endpoint = config.engine.telemetry.endpoint
        publisher = TelemetryPublisher(context, endpoint, keys)
        stack.callback(publisher.close)
        journal = SqliteJournal(paths.journal)
        stack.push_async_callback(journal.close)
        engine = Engine(paths, config, options, Resources(journal, keys, context, publisher))
        stack.enter_context(stop_signals(asyncio.get_running_loop(), engine.ask_to_stop))
        reason = "it could not start"
        observing: asyncio.Future[None] | None = None
        try:
            await engine.start()
            observing = asyncio.ensure_future(observe(engine))
            reason = await engine.serve()
        finally:
            await engine.stop(reason)
            if observing is not None:
                observing.cancel()
                await asyncio.gather(observing, return_exceptions=True)
        return reason


def main(paths: Paths, config: Config, options: EngineOptions, observe: Observer) -> str:
    """Run an engine in this process, which has no loop yet, and give why it stopped. Raises KocError."""
    app = QCoreApplication.instance() or QCoreApplication(sys.argv[:1])
    with qt_loop(app) as loop:
        asyncio.set_event_loop(loop)
        reason: str = loop.run_until_complete(run(paths, config, options, observe))
        return reason
