"""What a running strategy needs of the engine, handed over in one piece."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.domain.risk import RiskLimits
from koc_qt.engine.backtest_files import OpenFiles
from koc_qt.engine.bus import Bus
from koc_qt.engine.history import HistoryService
from koc_qt.engine.ledger import Ledger
from koc_qt.engine.market_data import MarketData
from koc_qt.engine.orders import OrderService
from koc_qt.engine.store import Store
from koc_qt.engine.told_files import PieceHead
from koc_qt.engine.told_tape import ToldTape
from koc_qt.ports.clock import Clock
from koc_qt.ports.workers import WorkerLauncher
from koc_qt.sdk.channel import Heartbeat

BeginTape = Callable[[Callable[[int], PieceHead], Sequence[str], Sequence[InstrumentId]], ToldTape | None]


@dataclass(frozen=True)
class Services:
    """The engine's services, and the settings of strategies.

    `heartbeat` is told of every heartbeat: strategy id, beat, the run's pulse before it, monotonic nanoseconds now.
    `spawn` keeps a task that has to outlive whoever starts it. `clock_speed` gives how many seconds of a venue pass in
    one of the world's: 1 but for simulated markets. `risk` is what each strategy, and a person, may do. `open_files`
    reads the bars of files for back-tests. `saw_bar` is told of every bar that a strategy is sent: its id, a name for
    its run, the bar, and whether that is warm-up. `begin_tape` records what another run is told, see told_tape.py.
    """

    store: Store
    bus: Bus
    clock: Clock
    ledger: Ledger
    orders: OrderService
    market_data: MarketData
    history: HistoryService
    launcher: WorkerLauncher
    heartbeat: Callable[[str, Heartbeat, Any, int], None]
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    clock_speed: Callable[[str], float]
    seed: int
    heartbeat_s: float
    risk: RiskLimits
    open_files: OpenFiles
    saw_bar: Callable[[str, str, Bar, bool], None] = lambda *_: None
    begin_tape: BeginTape = lambda *_: None
