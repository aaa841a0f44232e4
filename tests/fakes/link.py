"""A fake engine behind the real link: for windows, commands and clients to talk to, in this process or in its own.

async with serve(tmp_path) as link:                    in a test, on its loop
    link.engine.place("BTC/USDT")
python -m tests.fakes.link FOLDER [--qasync]           a process to be stopped or killed
"""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import zmq

from koc_qt.domain.backtests import BacktestResult, BacktestSnapshot
from koc_qt.domain.errors import KocError
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar, Quote, Side, StreamState, StreamStatus
from koc_qt.domain.orders import Fill, Liquidity, Order, OrderRequest, OrderStatus, OrderType
from koc_qt.domain.state import (
    Badge,
    DownloadSnapshot,
    EngineSnapshot,
    EngineState,
    JobState,
    PositionSnapshot,
    StoredSeries,
    StrategySnapshot,
    StrategySpec,
    StrategyState,
    VenueSnapshot,
    VenueState,
)
from koc_qt.domain.trust import DriftReport, Verdict
from koc_qt.link.account_messages import AccountCommand
from koc_qt.link.auth import Context, Gatekeeper
from koc_qt.link.backtest_messages import BacktestDeleted, DeleteBacktest, NoteBacktest
from koc_qt.link.client import LinkClient, local_engine
from koc_qt.link.keys import ProfileKeys, load_or_create_keys
from koc_qt.link.messages import (
    MANUAL,
    PROTOCOL,
    AmendOrder,
    BacktestChanged,
    BacktestHead,
    CancelAllOrders,
    CancelOrder,
    Command,
    DescribeStrategy,
    DownloadChanged,
    EngageKillSwitch,
    EngineChanged,
    Fact,
    FetchBacktest,
    FetchBacktestPage,
    FetchBars,
    FillRecorded,
    ListInstruments,
    ListSeries,
    LogRecorded,
    OrderChanged,
    QuoteChanged,
    ReadLog,
    ReleaseKillSwitch,
    Shutdown,
    Snapshot,
    StartBacktest,
    StartDownload,
    StartStrategy,
    StopBacktest,
    StopDownload,
    StopStrategy,
    StoreStrategy,
    StrategyChanged,
    StreamChanged,
    SubmitOrder,
    Subscribe,
    Unsubscribe,
)
from koc_qt.link.optimiser_messages import StudyCommand
from koc_qt.link.rendezvous import EngineInfo, ProfileLock, remove_engine_info, write_engine_info
from koc_qt.link.server import LinkServer
from koc_qt.link.telemetry import TelemetryPublisher
from koc_qt.link.trust_messages import TrustCommand
from koc_qt.sdk.channel import Described
from koc_qt.version import __version__
from tests.fakes.accounts import START_NS as FIRST_NS
from tests.fakes.accounts import FakeAccounts
from tests.fakes.research import FakeResearch

START_NS = FIRST_NS
BTC = InstrumentId("sim", "BTC/USDT")
BTC_RULES = Instrument(BTC, "BTC", "USDT", Decimal("0.01"), Decimal("0.0001"))
RESULT_PAGE = 100  # trades or fills of a back-test in one answer
LOOPBACK = "tcp://127.0.0.1:*"


def engine_snapshot(**changes: Any) -> EngineSnapshot:
    """Give an engine's pulse."""
    plain = EngineSnapshot(
        state=EngineState.RUNNING,
        reason="",
        version=__version__,
        pid=os.getpid(),
        started_ns=START_NS,
        uptime_s=12.5,
        kill_switch=False,
        kill_reason="",
        pnl=Decimal("-1.50"),
        trades=2,
        trades_per_hour=4.0,
        orders=3,
        open_orders=1,
        cpu_percent=1.5,
        memory_bytes=50_000_000,
        loop_lag_ms=0.2,
        order_latency_p50_ms=1.25,
        order_latency_p99_ms=None,
        journal_ok=True,
        time_ns=START_NS + 12_500_000_000,
    )
    return msgspec.structs.replace(plain, **changes)


def strategy_snapshot(strategy_id: str = "sma-1", **changes: Any) -> StrategySnapshot:
    """Give a strategy's pulse."""
    plain = StrategySnapshot(
        spec=StrategySpec(strategy_id, "/strategies/sma_cross.py", "paper", (BTC,), "1m", {"fast": 10}),
        name="SMA cross",
        state=StrategyState.RUNNING,
        reason="",
        pid=4242,
        badge=Badge.PARTIAL,
        badge_reason="runs as root",
        restarts=0,
        started_ns=START_NS,
        heartbeat_age_s=0.1,
        rate_hz=9.5,
        ticks=100,
        anomalies=0,
        pnl=Decimal("-1.50"),
        realised_pnl=Decimal(-1),
        unrealised_pnl=Decimal(0),
        fees=Decimal("0.50"),
        trades=2,
        trades_per_hour=4.0,
        orders=3,
        open_orders=1,
        cpu_percent=0.5,
        memory_bytes=45_000_000,
        order_latency_p50_ms=1.25,
        order_latency_p99_ms=2.5,
        metrics={"signal": 1.0},
        time_ns=START_NS,
    )
    return msgspec.structs.replace(plain, **changes)


def market_buy(quantity: str = "0.1") -> OrderRequest:
    """Ask for a market buy of BTC/USDT."""
    return OrderRequest(BTC, Side.BUY, OrderType.MARKET, Decimal(quantity))


@dataclass
class FakeEngine:
    """Implements LinkHandler on state in memory; orders work until they are filled or cancelled by a test.

    What clients ask for is answered from the fields, which a test sets: `bars` of any series, what a strategy file
    declares (`described`; None refuses), `results` of back-tests by their id. With `recent` the snapshot has so many
    closed orders and fills, and clients are told the others as history. Downloads and back-tests run until the
    test says otherwise with `download` and `backtest`; `stored` has the strategy files that were handed over, and
    `accounts` does what is asked of accounts.
    """

    publish: Callable[[Fact], None] = lambda fact: None
    engine: EngineSnapshot = field(default_factory=engine_snapshot)
    strategies: dict[str, StrategySnapshot] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    fills: dict[str, Fill] = field(default_factory=dict)
    commands: list[tuple[Command, str]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    hold: asyncio.Event | None = None  # while set and not released, FetchBars does not end
    instruments: list[Instrument] = field(default_factory=lambda: [BTC_RULES])
    bars: list[Bar] = field(default_factory=list)
    described: Described | None = None
    series: list[StoredSeries] = field(default_factory=list)
    lines: list[LogRecorded] = field(default_factory=list)
    streams: dict[InstrumentId, StreamStatus] = field(default_factory=dict)
    downloads: dict[str, DownloadSnapshot] = field(default_factory=dict)
    backtests: dict[str, BacktestSnapshot] = field(default_factory=dict)
    results: dict[str, BacktestResult] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    recent: int | None = None

    def __post_init__(self) -> None:
        self.accounts = FakeAccounts(lambda fact: self.publish(fact))
        self.research = FakeResearch(lambda fact: self.publish(fact), self._running)

    def snapshot(self) -> Snapshot:
        """Give the state of everything."""
        orders, fills = self.history()
        old = {order.client_order_id for order in orders}
        return Snapshot(
            engine=self.engine,
            venues=(VenueSnapshot("sim", VenueState.CONNECTED, "", 1, "closed", START_NS),),
            accounts=tuple(self.accounts.snapshots.values()),
            instruments=tuple(self.instruments),
            strategies=tuple(self.strategies.values()),
            positions=(
                PositionSnapshot(
                    "sma-1",
                    "paper",
                    BTC,
                    Decimal("0.1"),
                    Decimal(100),
                    Decimal(-1),
                    Decimal(0),
                    Decimal("0.50"),
                    START_NS,
                ),
            ),
            orders=tuple(order for key, order in self.orders.items() if key not in old),
            fills=tuple(self.fills.values())[len(fills) :],
            downloads=tuple(self.downloads.values()),
            backtests=tuple(self.backtests.values()),
            streams=tuple(self.streams.values()),
            trust=tuple(self.research.trust.values()),
            studies=tuple(self.research.studies.values()),
            drift=tuple(self.research.drift.values()),
        )

    def _running(self) -> list[str]:
        return [key for key, each in self.strategies.items() if each.state is StrategyState.RUNNING]

    def history(self) -> tuple[Sequence[Order], Sequence[Fill]]:
        """Give the closed orders and fills that the snapshot leaves out."""
        if self.recent is None:
            return (), ()
        closed = [order for order in self.orders.values() if not order.is_open]
        fills = list(self.fills.values())
        return closed[: max(len(closed) - self.recent, 0)], fills[: max(len(fills) - self.recent, 0)]

    async def execute(self, command: Command, client_id: str) -> Any:
        """Do what a client asks."""
        self.commands.append((command, client_id))
        match command:
            case SubmitOrder(account_id, request, strategy_id):
                return self.place(request, account_id, strategy_id).client_order_id
            case CancelOrder(client_order_id):
                self.cancel(client_order_id)
            case AmendOrder(client_order_id, quantity, price):
                self.amend(client_order_id, quantity, price)
            case CancelAllOrders():
                for order in [order for order in self.orders.values() if order.is_open]:
                    self.cancel(order.client_order_id)
            case StartStrategy(spec):
                self.show(strategy_snapshot(spec.strategy_id, spec=spec))
                return spec.strategy_id
            case StopStrategy(strategy_id):
                if strategy_id not in self.strategies:
                    raise KocError(f"there is no strategy {strategy_id!r}")
                self.show(msgspec.structs.replace(self.strategies[strategy_id], state=StrategyState.STOPPED))
            case EngageKillSwitch(reason):
                self.pulse(kill_switch=True, kill_reason=reason, state=EngineState.HALTED)
            case ReleaseKillSwitch():
                self.pulse(kill_switch=False, kill_reason="", state=EngineState.RUNNING)
            case FetchBars():
                if self.hold is not None:
                    await self.hold.wait()
                return self._bars_of(command)
            case Shutdown():
                self.stopping.set()
            case Subscribe(instrument) | Unsubscribe(instrument):
                if instrument not in [known.id for known in self.instruments]:
                    raise KocError(f"there is no instrument {instrument}")
            case _:
                if isinstance(command, AccountCommand):
                    return await self.accounts.execute(command)
                if isinstance(command, TrustCommand | StudyCommand):
                    return self.research.execute(command)
                return self._answer(command)
        return None

    def _answer(self, command: Command) -> Any:
        """Answer what asks for something, or begins something long."""
        match command:
            case DescribeStrategy(path):
                if self.described is None:
                    raise KocError(f"{path} cannot be read: No such file or directory")
                return msgspec.to_builtins(self.described)
            case StoreStrategy(filename, source, replace):
                if not replace and self.stored.get(filename, source) != source:
                    raise KocError(f"there is another {filename} already: replace it, or choose another name")
                self.stored[filename] = source
                return f"/engine/strategies/{filename}"
            case ListInstruments(venue, text, limit):
                found = [i for i in self.instruments if venue in ("", i.id.venue) and text.upper() in i.id.symbol]
                return msgspec.to_builtins(found[:limit])
            case ListSeries():
                return msgspec.to_builtins(self.series)
            case ReadLog(count):
                return [(line.time_ns, line.level, line.source, line.text) for line in self.lines[-count:]]
            case StartDownload(instrument, timeframe, since_ns, until_ns):
                key = f"download-{len(self.downloads) + 1}"
                self.downloads[key] = DownloadSnapshot(
                    key, instrument, timeframe, since_ns, until_ns, JobState.RUNNING, "", 0.0, 0, START_NS
                )
                self.download(key)
                return key
            case StopDownload(key):
                self.download(key, state=JobState.STOPPED)
            case StartBacktest(spec):
                key = f"backtest-{len(self.backtests) + 1}"
                self.backtests[key] = BacktestSnapshot(
                    key, spec, JobState.RUNNING, "", "history", 0.0, 0, None, None, None, START_NS, START_NS
                )
                self.backtest(key)
                return key
            case StopBacktest(key):
                self.backtest(key, state=JobState.STOPPED)
            case NoteBacktest(key, note):
                self.backtest(key, note=note)
            case DeleteBacktest(key):
                self._result(key)
                del self.backtests[key], self.results[key]
                self.publish(BacktestDeleted(key))
            case FetchBacktest(key):
                result = self._result(key)
                pages = (math.ceil(len(records) / RESULT_PAGE) for records in (result.trades, result.fills))
                return msgspec.to_builtins(BacktestHead(msgspec.structs.replace(result, trades=[], fills=[]), *pages))
            case FetchBacktestPage(key, name, page):
                records = getattr(self._result(key), name)[page * RESULT_PAGE : (page + 1) * RESULT_PAGE]
                return msgspec.to_builtins(records)
            case _:
                raise RuntimeError(f"the fake engine has no {type(command).__name__}")
        return None

    def _result(self, backtest_id: str) -> BacktestResult:
        if backtest_id not in self.results:
            raise KocError(f"there is no result of a back-test {backtest_id!r}")
        return self.results[backtest_id]

    def _bars_of(self, command: FetchBars) -> list[Any]:
        wanted = [
            (bar.open_time_ns, bar.open, bar.high, bar.low, bar.close, bar.volume)
            for bar in self.bars
            if (bar.instrument, bar.timeframe) == (command.instrument, command.timeframe)
            and (command.until_ns is None or bar.open_time_ns < command.until_ns)
        ]
        return wanted[-command.count :]

    def download(self, download_id: str, **changes: Any) -> None:
        """Change how far a download is."""
        if download_id not in self.downloads:
            raise KocError(f"there is no download {download_id!r}")
        self.downloads[download_id] = msgspec.structs.replace(self.downloads[download_id], **changes)
        self.publish(DownloadChanged(self.downloads[download_id]))

    def backtest(self, backtest_id: str, **changes: Any) -> None:
        """Change how far a back-test is."""
        if backtest_id not in self.backtests:
            raise KocError(f"there is no back-test {backtest_id!r}")
        self.backtests[backtest_id] = msgspec.structs.replace(self.backtests[backtest_id], **changes)
        self.publish(BacktestChanged(self.backtests[backtest_id]))

    def stream(self, state: StreamState, reason: str = "", instrument: InstrumentId = BTC) -> None:
        """Say what a stream does."""
        self.streams[instrument] = StreamStatus(instrument, START_NS, state, reason)
        self.publish(StreamChanged(self.streams[instrument]))

    def log(self, text: str, level: str = "INFO", source: str = "engine") -> None:
        """Write a line of the log."""
        line = LogRecorded(START_NS + len(self.lines), level, source, text)
        self.lines.append(line)
        self.publish(line)

    def disconnected(self, client_id: str) -> None:
        """Note who has gone."""
        self.gone.append(client_id)

    def pulse(self, **changes: Any) -> None:
        """Change the engine's state."""
        self.engine = msgspec.structs.replace(self.engine, **changes)
        self.publish(EngineChanged(self.engine))

    def show(self, strategy: StrategySnapshot) -> None:
        """Add or change a strategy."""
        self.strategies[strategy.spec.strategy_id] = strategy
        self.publish(StrategyChanged(strategy))

    def place(self, request: OrderRequest | None = None, account_id: str = "paper", strategy_id: str = MANUAL) -> Order:
        """Put an order to work."""
        number = len(self.orders) + 1
        order = Order(
            f"K{number:05}",
            strategy_id,
            account_id,
            request or market_buy(),
            START_NS + number,
            START_NS + number,
            OrderStatus.ACCEPTED,
        )
        return self._put(order)

    def fill(self, client_order_id: str, price: str = "100") -> Fill:
        """Fill the whole of an order."""
        order = self.orders[client_order_id]
        fill = Fill(
            f"T{len(self.fills) + 1:05}",
            client_order_id,
            order.strategy_id,
            order.account_id,
            order.request.instrument,
            order.request.side,
            Decimal(price),
            order.request.quantity,
            Decimal("0.01"),
            "USDT",
            Liquidity.TAKER,
            order.updated_ns + 1,
        )
        self.fills[fill.fill_id] = fill
        self._put(
            msgspec.structs.replace(
                order,
                status=OrderStatus.FILLED,
                filled_quantity=fill.quantity,
                average_price=fill.price,
                fill_ids=(fill.fill_id,),
                updated_ns=fill.time_ns,
            )
        )
        self.publish(FillRecorded(fill))
        return fill

    def cancel(self, client_order_id: str) -> None:
        """Cancel an order."""
        order = self.orders.get(client_order_id)
        if order is None or not order.is_open:
            raise KocError(f"there is no open order {client_order_id!r}")
        self._put(msgspec.structs.replace(order, status=OrderStatus.CANCELED))

    def amend(self, client_order_id: str, quantity: Decimal | None, price: Decimal | None) -> None:
        """Change a working order at once."""
        order = self.orders[client_order_id]
        asked = {"quantity": quantity, "price": price}
        changes = {name: value for name, value in asked.items() if value is not None}
        self._put(msgspec.structs.replace(order, request=msgspec.structs.replace(order.request, **changes)))

    def quote(self, number: int, instrument: InstrumentId = BTC) -> Quote:
        """Publish a quote that `number` tells from others."""
        quote = Quote(instrument, START_NS + number, Decimal(number), Decimal(1), Decimal(number + 1), Decimal(1))
        self.publish(QuoteChanged(quote))
        return quote

    def _put(self, order: Order) -> Order:
        self.orders[order.client_order_id] = order
        self.publish(OrderChanged(order))
        return order


@dataclass
class FakeLink:
    """A running fake engine."""

    engine: FakeEngine
    server: LinkServer
    telemetry: TelemetryPublisher
    gatekeeper: Gatekeeper
    context: Context
    keys: ProfileKeys
    run_folder: Path

    def client(self, **options: Any) -> LinkClient:
        """Make a client of this profile."""
        return LinkClient(local_engine(self.run_folder), self.keys.client, **options)


@asynccontextmanager
async def serve(
    folder: Path, engine: FakeEngine | None = None, *, endpoint: str = LOOPBACK, **options: Any
) -> AsyncIterator[FakeLink]:
    """Run a fake engine on the profile in `folder`, on this loop."""
    engine = engine or FakeEngine()
    run_folder = folder / "run"
    run_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = load_or_create_keys(folder / "keys")
    context: Context = zmq.Context()
    gatekeeper = Gatekeeper(context, keys)
    server = LinkServer(context, endpoint, keys, engine, **options)
    try:
        gatekeeper.start()
        telemetry = TelemetryPublisher(context, LOOPBACK, keys)
        try:
            server.start()
            engine.publish = server.publish
            info = EngineInfo(
                os.getpid(),
                __version__,
                PROTOCOL,
                server.endpoint,
                telemetry.endpoint,
                keys.engine.public.decode(),
                time.time_ns(),  # real: it is held against the process's start
            )
            write_engine_info(run_folder, info)
            yield FakeLink(engine, server, telemetry, gatekeeper, context, keys, run_folder)
        finally:
            remove_engine_info(run_folder)
            await server.close("the fake engine was stopped")
            telemetry.close()
    finally:
        gatekeeper.close()
        context.term()


@contextmanager
def engine_process(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Run a fake engine on the profile in `folder`, in a process of its own; it is killed in the end."""
    command = [sys.executable, "-W", "error", "-m", "tests.fakes.link", str(folder), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


async def _until_stopped(folder: Path) -> None:
    engine = FakeEngine()
    engine.show(strategy_snapshot())
    if "--drift" in sys.argv:
        parts = {"slippage": -3.0, "fees": 1.0, "data": 0.0}
        report = DriftReport(
            "sma-1", "paper", Verdict.AMBER, "Two worse.", START_NS, START_NS, START_NS, 1, 3, -2, parts
        )
        engine.research.measure(report)
        engine.research.at_once["sma-1"] = msgspec.structs.replace(report, measured_ns=START_NS + 1)
    (folder / "run").mkdir(mode=0o700, parents=True, exist_ok=True)
    with ProfileLock(folder / "run" / "engine.lock"):
        async with serve(folder, engine):
            print("ready", flush=True)
            await engine.stopping.wait()
            if "--linger" in sys.argv:
                await asyncio.Event().wait()


def _main() -> None:
    folder = Path(sys.argv[1])
    if "--qasync" not in sys.argv:
        asyncio.run(_until_stopped(folder))
        return
    from PySide6.QtCore import QCoreApplication

    from koc_qt.wiring.qt_loop import qt_loop

    with qt_loop(QCoreApplication(sys.argv)) as loop:
        loop.run_until_complete(_until_stopped(folder))


if __name__ == "__main__":
    _main()
