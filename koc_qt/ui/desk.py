"""The window's one door to the engine: keeps the replica, batches what changed to the screen's rate, sends commands."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from loguru import logger
from PySide6.QtCore import QObject, Qt, QTimer, Signal

from koc_qt.domain.errors import KocError, NotSent
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Trade
from koc_qt.domain.orders import Fill
from koc_qt.link.account_messages import AccountLimitsChanged
from koc_qt.link.backtest_messages import BacktestDeleted
from koc_qt.link.client import LinkState
from koc_qt.link.messages import (
    AccountChanged,
    AccountRemoved,
    BacktestChanged,
    BarChanged,
    BookChanged,
    Command,
    DownloadChanged,
    EngineChanged,
    EngineStopped,
    Fact,
    FillRecorded,
    HistoryPage,
    InstrumentsAdded,
    LatencyChanged,
    LogRecorded,
    NoticeGiven,
    OrderChanged,
    PositionChanged,
    QuoteChanged,
    Snapshot,
    StrategyChanged,
    StreamChanged,
    TradePrinted,
    VenueChanged,
)
from koc_qt.link.optimiser_messages import StudyChanged, StudyDeleted
from koc_qt.link.replica import PositionKey, Replica, position_key
from koc_qt.link.trust_messages import DriftMeasured, TrustChanged
from koc_qt.link.wording import errand
from koc_qt.ui.turns import Patience
from koc_qt.ui.venues import VenueBook

FRAME_MS = 16
LOG_KEPT = 5_000
BARS_A_FRAME = 2_000  # a series; a view that sees `overflow` fetches its bars anew
BarKey = tuple[InstrumentId, str]


class Level(StrEnum):
    """How serious a notice is."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Notice:
    """A sentence for the person; `detail` is for whoever wants more."""

    level: Level
    text: str
    detail: str = ""


@dataclass
class Frame:
    """What changed since the last frame; what it is now is in the replica.

    After `snapshot`, everything may have changed, and what follows in the other fields is only what came after it.
    Older orders and fills come among the others, some each frame, for a while after a snapshot: `older` says so.
    """

    snapshot: bool = False
    older: bool = False
    engine: bool = False
    latency: bool = False
    venues: set[str] = field(default_factory=set)
    accounts: set[str] = field(default_factory=set)
    limits: set[str] = field(default_factory=set)  # of accounts
    strategies: set[str] = field(default_factory=set)
    positions: set[PositionKey] = field(default_factory=set)
    orders: set[str] = field(default_factory=set)
    fills: list[Fill] = field(default_factory=list)
    quotes: set[InstrumentId] = field(default_factory=set)
    books: set[InstrumentId] = field(default_factory=set)
    trades: dict[InstrumentId, Trade] = field(default_factory=dict)
    streams: set[InstrumentId] = field(default_factory=set)
    instruments: set[InstrumentId] = field(default_factory=set)  # whose rules are new
    bars: dict[BarKey, list[BarChanged]] = field(default_factory=dict)
    overflow: set[BarKey] = field(default_factory=set)
    logs: list[LogRecorded] = field(default_factory=list)
    downloads: set[str] = field(default_factory=set)
    backtests: set[str] = field(default_factory=set)
    trust: set[str] = field(default_factory=set)  # checks of strategies
    drift: set[str] = field(default_factory=set)  # of strategies
    studies: set[str] = field(default_factory=set)  # searches of parameters


class EngineClient(Protocol):
    """What the desk needs of a LinkClient."""

    async def request(self, command: Command, *, timeout_s: float = 10.0) -> Any:
        """Have a command carried out. Raises KocError, and LinkError where it is not known whether it was done."""
        ...


class Desk(QObject):
    """Everything that panels know of the engine. For the window's thread; `start` needs the running loop.

    `framed` brings a Frame, at most once a screen refresh and only when something changed; `linked` a change of the
    connection, which `link_state` and `link_reason` then describe; `noticed` a Notice for the person.
    `venues` knows what each venue can do.
    """

    framed = Signal(object)
    linked = Signal()
    noticed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.replica = Replica()
        self.logs: deque[LogRecorded] = deque(maxlen=LOG_KEPT)
        self.link_state = LinkState.CONNECTING
        self.link_reason = "looking for the engine"
        self.last_words = ""  # of an engine that ended in order; empty while one is connected
        self.is_remote = False
        self._client: EngineClient | None = None
        self._frame = Frame()
        self._passed_on: set[str] = set()  # notices of the engine
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self.venues = VenueBook(self, self)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._emit_soon)
        self._patience = Patience()  # or what is painted for one frame shares a turn with the next frame

    # ---- the connection ---------------------------------------------------------------------------------------------

    def use(self, client: EngineClient, *, is_remote: bool = False) -> None:
        """Send commands through this client from now on; whoever calls it feeds `take` and `take_state`."""
        self._client = client
        self.is_remote = is_remote

    @property
    def is_connected(self) -> bool:
        """Whether the replica is alive."""
        return self.link_state is LinkState.CONNECTED and not self._closed

    def take_state(self, state: LinkState, reason: str) -> None:
        """Note how the connection stands; the client's `on_state`."""
        self.link_state, self.link_reason = state, reason
        if state is LinkState.CONNECTED:
            self.last_words = ""
            self.venues.renew()
        self.linked.emit()

    def take(self, fact: Fact) -> None:
        """Take a fact over and plan a frame; the client's `on_fact`."""
        frame = self._frame
        if isinstance(fact, InstrumentsAdded):
            before = self.replica.instruments
            frame.instruments.update(rules.id for rules in fact.instruments if before.get(rules.id) != rules)
        self.replica.apply(fact)
        match fact:
            case Snapshot() | AccountRemoved():  # what is there no more concerns every panel
                self._frame = Frame(snapshot=True, logs=frame.logs)
                self._pass_on_notices()
            case NoticeGiven():
                self._pass_on_notices()
                return
            case EngineChanged():
                frame.engine = True
            case LatencyChanged():
                frame.latency = True
            case VenueChanged(venue):
                frame.venues.add(venue.venue)
            case AccountChanged(account):
                frame.accounts.add(account.account_id)
            case AccountLimitsChanged(limits):
                frame.limits.add(limits.account_id)
            case StrategyChanged(strategy):
                frame.strategies.add(strategy.spec.strategy_id)
            case PositionChanged(position):
                frame.positions.add(position_key(position))
            case OrderChanged(order):
                frame.orders.add(order.client_order_id)
            case HistoryPage(orders, fills):
                frame.older = True
                known, marked = self.replica.orders, self.replica.fills
                frame.orders.update(key for order in orders if known.get(key := order.client_order_id) is order)
                frame.fills += (fill for fill in fills if marked.get((fill.account_id, fill.fill_id)) is fill)
            case FillRecorded(fill):
                frame.fills.append(fill)
            case QuoteChanged(quote):
                frame.quotes.add(quote.instrument)
            case BookChanged(book):
                frame.books.add(book.instrument)
            case TradePrinted(trade):
                frame.trades[trade.instrument] = trade
            case StreamChanged(stream):
                frame.streams.add(stream.instrument)
            case BarChanged():
                self._take_bar(fact)
            case InstrumentsAdded():
                if not frame.instruments:
                    return
            case LogRecorded():
                frame.logs.append(fact)
                self.logs.append(fact)
            case DownloadChanged(download):
                frame.downloads.add(download.download_id)
            case BacktestChanged(backtest):
                frame.backtests.add(backtest.backtest_id)
            case BacktestDeleted(backtest_id):
                frame.backtests.add(backtest_id)
            case TrustChanged(trust):
                frame.trust.add(trust.trust_id)
            case DriftMeasured(drift):
                frame.drift.add(drift.strategy_id)
            case StudyChanged(study):
                frame.studies.add(study.study_id)
            case StudyDeleted(study_id):
                frame.studies.add(study_id)
            case EngineStopped(reason):
                self.last_words = reason
                return
            case _:
                return
        if not self._timer.isActive() and not self._closed:
            self._timer.start(FRAME_MS)

    def _pass_on_notices(self) -> None:
        """Say what the engine wants the person to know, each sentence once in the life of this window."""
        for text in self.replica.notices:
            if text not in self._passed_on:
                self._passed_on.add(text)
                self.notify(text, Level.WARNING)

    def _take_bar(self, fact: BarChanged) -> None:
        """Keep every closed bar of the frame, and of a forming one the newest."""
        key = (fact.bar.instrument, fact.bar.timeframe)
        bars = self._frame.bars.setdefault(key, [])
        if bars and not bars[-1].closed and bars[-1].bar.open_time_ns == fact.bar.open_time_ns:
            bars[-1] = fact
        elif len(bars) < BARS_A_FRAME:
            bars.append(fact)
        else:
            self._frame.overflow.add(key)

    def _emit_soon(self) -> None:
        if self._patience.waits():
            self._timer.start(0)
        else:
            self._emit_frame()

    def _emit_frame(self) -> None:
        frame, self._frame = self._frame, Frame()
        self.framed.emit(frame)

    # ---- commands ---------------------------------------------------------------------------------------------------

    async def request(self, command: Command, *, timeout_s: float = 10.0) -> Any:
        """Have the engine carry out a command, and give its answer. Raises KocError with a sentence for a person."""
        if self._client is None:
            raise NotSent(f"The engine was not asked to {errand(command)}: there is none yet")
        return await self._client.request(command, timeout_s=timeout_s)

    def send(self, command: Command, done: str = "", *, timeout_s: float = 10.0) -> asyncio.Task[Any]:
        """Have a command carried out in the background; says `done`, or what went wrong."""

        async def run() -> None:
            await self.request(command, timeout_s=timeout_s)
            if done:
                self.notify(done)

        return self.start(run())

    def start(
        self, work: Coroutine[Any, Any, Any], *, failed: Callable[[KocError], None] | None = None
    ) -> asyncio.Task[Any]:
        """Run a coroutine in the background until it ends or the desk is closed.

        A KocError of it goes to `failed`, or else to the person; any other exception is logged, and said.
        """
        task = asyncio.get_running_loop().create_task(self._guard(work, failed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _task: work.close())  # of one that was ended before it began
        return task

    async def _guard(self, work: Coroutine[Any, Any, Any], failed: Callable[[KocError], None] | None) -> None:
        try:
            await work
        except KocError as error:
            if failed is not None:
                failed(error)
            else:
                self.notify(str(error), Level.ERROR)
        except Exception as error:
            logger.exception("the window failed at something")
            self.notify(
                f"An error in the window itself, {type(error).__name__}: {error}. The log has more.", Level.ERROR
            )

    def notify(self, text: str, level: Level = Level.INFO, detail: str = "") -> None:
        """Say something to the person."""
        if level is not Level.INFO:
            logger.info("shown to the person: {}", text)
        self.noticed.emit(Notice(level, text, detail))

    async def close(self) -> None:
        """End what runs in the background; safe to call twice."""
        self._closed = True
        self._timer.stop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
