"""A whole engine on fakes: every service real, every outside thing played by the test."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import zmq

from koc_qt.adapters.study_store import open_study_store
from koc_qt.domain.risk import RiskLimits
from koc_qt.domain.state import EngineState, StrategySpec, StrategyState, TradingMode
from koc_qt.engine.accounts import AccountInfo, Accounts
from koc_qt.engine.backtests import Backtests, prepare
from koc_qt.engine.bus import Bus
from koc_qt.engine.catalogue import Catalogue
from koc_qt.engine.commands import Commands
from koc_qt.engine.downloads import Downloads
from koc_qt.engine.drift_sessions import Sessions
from koc_qt.engine.exposure import Exposure
from koc_qt.engine.history import HistoryService
from koc_qt.engine.kill_switch import KillSwitch
from koc_qt.engine.latency import LatencyBook
from koc_qt.engine.ledger import Ledger
from koc_qt.engine.listing import Listing
from koc_qt.engine.log_book import LogBook
from koc_qt.engine.market_data import MarketData
from koc_qt.engine.optimiser import Optimiser
from koc_qt.engine.optimiser_samplers import ListedSampler
from koc_qt.engine.orders import OrderService
from koc_qt.engine.services import Services
from koc_qt.engine.store import Store
from koc_qt.engine.strategies import RestartPolicy, StrategyHost
from koc_qt.engine.strategy_library import StrategyLibrary
from koc_qt.engine.telemetry import Telemetry
from koc_qt.engine.trust import TrustService
from koc_qt.link.keys import load_or_create_keys
from koc_qt.link.messages import LogRecorded
from koc_qt.link.telemetry import TelemetryPublisher
from koc_qt.ports.processes import ProcessUse
from koc_qt.wiring.bar_files import BarFiles
from tests.conditions import until
from tests.fakes.clock import FakeClock
from tests.fakes.journal import MemoryJournal
from tests.fakes.market import FakeDataVenue, MemoryBarStore
from tests.fakes.trading import BTC, BTC_RULES, ETH_RULES, FakeTradingVenue
from tests.fakes.workers import DESCRIBED, FakeLauncher, FakeWorker

POLICY = RestartPolicy(limit=2, window_s=600.0, first_pause_s=0.0, longest_pause_s=0.0)


class FakeMeter:
    """Implements ports/processes.py."""

    def sample(self, pid: int) -> ProcessUse | None:
        """Give the same for every process."""
        return ProcessUse(12.5, 50_000_000)


async def no_kernel() -> bytes:
    """Have everything replayed."""
    return b""


class EngineDesk:
    """Services as wiring/engine.py composes them, on fakes."""

    def __init__(self, folder: Path, policy: RestartPolicy = POLICY) -> None:
        self.folder = folder
        self.clock, self.journal, self.launcher = FakeClock(), MemoryJournal(), FakeLauncher()
        self.venue = FakeDataVenue(self.clock, instruments=(BTC_RULES, ETH_RULES))
        self.trading = FakeTradingVenue()
        self.store, self.bus = Store(), Bus()
        self.ledger = Ledger(self.store, self.clock)
        self.switch = KillSwitch(self.journal, self.clock)
        latencies = LatencyBook(self.clock)
        venues = {"sim": self.venue}
        self.history = HistoryService(MemoryBarStore(), venues, self.clock)
        self.market = MarketData(self.store, self.bus, self.clock, venues, self.history)
        self.orders = OrderService(
            self.store,
            self.bus,
            self.journal,
            self.clock,
            self.ledger,
            {"sim": self.trading},
            self.switch,
            RiskLimits(),
            latencies,
            random.Random(1),
            lookup_delays_s=(0.0, 0.001),
        )
        infos = {"sim": AccountInfo("sim", "sim", TradingMode.SIMULATED)}
        self.accounts = Accounts(self.store, self.bus, self.clock, infos, {"sim": self.trading})
        self.context: zmq.Context[Any] = zmq.Context()
        self.publisher = TelemetryPublisher(self.context, "tcp://127.0.0.1:*", load_or_create_keys(folder / "keys"))
        self.telemetry = Telemetry(
            self.store,
            self.bus,
            self.clock,
            self.ledger,
            self.orders,
            self.market,
            self.switch,
            latencies,
            FakeMeter(),
            self.publisher,
        )
        self.telemetry.state = EngineState.RUNNING
        self._tasks: set[asyncio.Task[Any]] = set()
        self.sessions = Sessions()
        self.services = Services(
            store=self.store,
            bus=self.bus,
            clock=self.clock,
            ledger=self.ledger,
            orders=self.orders,
            market_data=self.market,
            history=self.history,
            launcher=self.launcher,
            heartbeat=self.telemetry.heartbeat,
            spawn=self._spawn,
            clock_speed=lambda venue: 1.0,
            seed=7,
            heartbeat_s=0.5,
            risk=RiskLimits(),
            open_files=BarFiles().open,
            saw_bar=self.sessions.saw,
            begin_tape=self.sessions.begin_tape,
        )
        self.exposure = Exposure(self.store, self.bus, self.market, self._spawn)
        self.host = StrategyHost(self.services, self.accounts, self.journal, self.switch, random.Random(1), policy)
        self.stops: list[str] = []
        self.downloads = Downloads(self.store, self.bus, self.clock, self.market, self.history)
        self.backtests = Backtests(self.services, folder / "backtests", silence_limit_s=20.0)
        self.trust = TrustService(self.services, folder / "trust", self.sessions, silence_limit_s=20.0)
        self.optimiser = Optimiser(
            self.services,
            partial(prepare, services=self.services),
            lambda: open_study_store(folder / "studies.sqlite"),
            ListedSampler,
            no_kernel,
            self.bus.publish,
            processes=2,
        )
        self.told: list[LogRecorded] = []
        self.log_book = LogBook(self.clock, self.told.append)
        self.bus.subscribe(LogRecorded, self.log_book.record)
        self.listing = Listing(self.store, self.bus)
        self.commands = Commands(
            self.services,
            self.host,
            self.switch,
            self.telemetry,
            self.stops.append,
            catalogue=Catalogue(self.store, self.market, ready_timeout_s=0.05),
            listing=self.listing,
            downloads=self.downloads,
            backtests=self.backtests,
            trust=self.trust,
            optimiser=self.optimiser,
            library=StrategyLibrary(folder / "strategies"),
            log_book=self.log_book,
        )

    async def start(self) -> None:
        """Bring the services up."""
        self.log_book.start()
        self.orders.start()
        await self.market.start()
        self.accounts.start()
        await self.accounts.connect("sim", self.orders.receive)
        await self.market.wait_ready("sim")
        await self.exposure.start()

    async def close(self) -> None:
        """Take them down."""
        self.journal.failing = ""
        await self.host.stop_all("the test is over")
        await self.downloads.close()
        await self.backtests.close()
        await self.trust.close()
        await self.optimiser.close()
        await self.telemetry.close()
        await self.launcher.close()
        await self.accounts.close()
        await self.market.close()
        await self.orders.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.listing.close()
        self.log_book.close()
        self.publisher.close()
        self.context.term()

    def file(self, text: str = "class S: ...", name: str = "sma.py") -> str:
        """Write a strategy file and give its path."""
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def spec(self, **changes: Any) -> StrategySpec:
        """Give a spec of a file that exists."""
        values: dict[str, Any] = {
            "strategy_id": "",
            "path": self.file(),
            "account_id": "sim",
            "instruments": (BTC,),
            "timeframe": "1m",
        }
        return StrategySpec(**{**values, **changes})

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def running(engine: EngineDesk, **changes: object) -> tuple[str, FakeWorker]:
    """Start a strategy and wait until it runs; gives its id and its worker."""
    engine.launcher.runs_at_once = engine.launcher.runs_at_once or DESCRIBED
    key = await engine.host.start(engine.spec(**changes))
    await until(lambda: engine.host.managed[key].state is StrategyState.RUNNING, what="the strategy to run")
    return key, engine.launcher.workers[-1]


async def state(engine: EngineDesk, key: str, wanted: StrategyState) -> str:
    """Wait for a strategy's state and give the reason of it."""
    await until(lambda: engine.host.managed[key].state is wanted, what=f"state {wanted}")
    return engine.host.managed[key].reason
