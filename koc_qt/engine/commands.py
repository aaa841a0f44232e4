"""What clients may ask of the engine: every command of the link, and the snapshot that a client begins with."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, assert_never

import msgspec
from loguru import logger

from koc_qt.domain.errors import InvalidOrder, LinkError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.orders import Fill, Order, OrderRequest, OrderType
from koc_qt.domain.timeframes import bar_open_ns, duration_ns
from koc_qt.engine.backtests import Backtests
from koc_qt.engine.catalogue import Catalogue
from koc_qt.engine.downloads import Downloads
from koc_qt.engine.file_bars import FileBarPages
from koc_qt.engine.kill_switch import KillSwitch
from koc_qt.engine.listing import Listing
from koc_qt.engine.log_book import LogBook
from koc_qt.engine.optimiser import Optimiser
from koc_qt.engine.services import Services
from koc_qt.engine.strategies import StrategyHost
from koc_qt.engine.strategy_library import StrategyLibrary
from koc_qt.engine.strategy_words import LONGEST_NAME, LONGEST_REASON, clip
from koc_qt.engine.telemetry import Telemetry
from koc_qt.engine.trust import TrustService
from koc_qt.link.account_messages import AccountCommand
from koc_qt.link.backtest_messages import BacktestCommand
from koc_qt.link.messages import (
    MANUAL,
    AmendOrder,
    CancelAllOrders,
    CancelOrder,
    Command,
    DescribeStrategy,
    EngageKillSwitch,
    FetchBars,
    Hello,
    ListInstruments,
    ListSeries,
    ReadLog,
    ReleaseKillSwitch,
    RequestSnapshot,
    Shutdown,
    Snapshot,
    StartDownload,
    StartStrategy,
    StopDownload,
    StopStrategy,
    StoreStrategy,
    SubmitOrder,
    Subscribe,
    Unsubscribe,
)
from koc_qt.link.optimiser_messages import StudyCommand
from koc_qt.link.trust_messages import TrustCommand
from koc_qt.ports.bars import BarSeries, Span

SNAPSHOT_RECORDS = 100  # closed orders, and as many fills: the newest, which a person wants to see first
HISTORY_RECORDS = 10_000  # closed orders, and as many fills, that clients are told in all
FETCH_LIMIT = 20_000  # bars a request
KILL_GRACE_S = 1.0
TIMEFRAMES_LIMIT = 20  # series of bars that a client may have built of one instrument
GONE_KEPT = 1_000  # ids of clients that have gone: a command of theirs may still be under way


class Commands:
    """Implements the link's handler."""

    def __init__(
        self,
        services: Services,
        host: StrategyHost,
        kill_switch: KillSwitch,
        telemetry: Telemetry,
        shut_down: Callable[[str], None],
        *,
        catalogue: Catalogue,
        listing: Listing,
        downloads: Downloads,
        backtests: Backtests,
        trust: TrustService,
        optimiser: Optimiser,
        library: StrategyLibrary,
        log_book: LogBook,
        account_commands: Callable[[AccountCommand], Coroutine[Any, Any, Any]] | None = None,
    ) -> None:
        self._services = services
        self._host = host
        self._kill_switch = kill_switch
        self._telemetry = telemetry
        self._shut_down = shut_down
        self._catalogue = catalogue
        self._listing = listing
        self._downloads = downloads
        self._backtests = backtests
        self._trust = trust
        self._optimiser = optimiser
        self._library = library
        self._log_book = log_book
        self._account_commands = account_commands
        self._file_bars = FileBarPages(services.open_files)
        self._numbers = itertools.count(1)
        self._wanted: dict[str, dict[InstrumentId, tuple[str, ...]]] = {}  # by client: what it streams, and which bars
        self._gone: deque[str] = deque(maxlen=GONE_KEPT)

    def snapshot(self) -> Snapshot:
        """All that a client is told first: small enough to hold up nobody's loop."""
        store = self._services.store
        return Snapshot(
            engine=store.engine or self._telemetry.engine(),
            venues=tuple(store.venues.values()),
            accounts=tuple(store.accounts.values()),
            instruments=self._listing.known(),
            strategies=tuple(store.strategies.values()),
            positions=tuple(self._services.ledger.snapshot(p) for p in store.positions.values()),
            orders=tuple(store.recent_orders(SNAPSHOT_RECORDS)),
            fills=tuple(store.fills)[-SNAPSHOT_RECORDS:],
            downloads=self._downloads.all,
            backtests=self._backtests.all,
            streams=tuple(store.streams.values()),
            notices=tuple(store.notices),
            latency=self._telemetry.latency,
            limits=tuple(store.limits.values()),
            risk=self._services.risk,
            trust=self._trust.all,
            drift=self._trust.drift.all,
            studies=self._optimiser.all,
        )

    def history(self) -> tuple[Sequence[Order], Sequence[Fill]]:
        """Give the closed orders and the fills that are too old for the snapshot, each oldest first."""
        store = self._services.store
        orders = tuple(store.recent_orders(HISTORY_RECORDS))
        first_told = len(orders) - len(store.open_orders()) - SNAPSHOT_RECORDS
        fills = tuple(store.fills)[-HISTORY_RECORDS:]
        return orders[: max(first_told, 0)], fills[:-SNAPSHOT_RECORDS]

    async def execute(self, command: Command, client_id: str) -> Any:
        """Do what a client asks; gives the reply's value. Raises KocError with a sentence for a person."""
        if isinstance(command, AccountCommand):
            if self._account_commands is None:
                raise LinkError("this engine's accounts cannot be changed")
            return await self._account_commands(command)
        if isinstance(command, BacktestCommand):
            return await self._backtests.execute(command)
        if isinstance(command, TrustCommand):
            return await self._trust.execute(command)
        if isinstance(command, StudyCommand):
            return await self._optimiser.execute(command)
        match command:
            case Hello() | RequestSnapshot():
                return None  # the transport answers these itself
            case SubmitOrder(account_id, request, strategy_id):
                return await self._submit(account_id, request, strategy_id)
            case CancelOrder(client_order_id):
                return await self._services.orders.cancel(client_order_id)
            case AmendOrder():
                return await self._amend(command)
            case CancelAllOrders():
                return await self._services.orders.cancel_all()
            case DescribeStrategy(path, source):
                return msgspec.to_builtins(await self._host.describe(path, source))
            case StartStrategy(spec):
                return await self._host.start(spec)
            case StopStrategy(strategy_id):
                return await self._host.stop(strategy_id)
            case EngageKillSwitch(reason):
                return await self.kill(reason)
            case ReleaseKillSwitch():
                await self._kill_switch.release()
                logger.warning("the kill switch was released")
                return self._telemetry.show(self._host)
            case Subscribe(instrument, timeframes):
                return await self._subscribe(instrument, timeframes, client_id)
            case Unsubscribe(instrument):
                self._wanted.get(client_id, {}).pop(instrument, None)
                return await self._services.market_data.release(instrument, _owner(client_id))
            case FetchBars():
                return await self._fetch(command, client_id)
            case StoreStrategy(filename, source, replace):
                return await self._library.store(filename, source, replace=replace)
            case ListInstruments(venue, text, limit):
                return msgspec.to_builtins(await self._catalogue.find(venue, text, limit))
            case ListSeries():
                return msgspec.to_builtins(await self._services.history.stored())
            case ReadLog(count):
                return self._log_book.newest(count)
            case StartDownload(instrument, timeframe, since_ns, until_ns):
                return await self._downloads.start(instrument, timeframe, since_ns, until_ns)
            case StopDownload(download_id):
                return await self._downloads.stop(download_id)
            case Shutdown():
                return self._shut_down("a client asked for it")
            case _:
                assert_never(command)

    async def kill(self, reason: str) -> None:
        """Latch the kill switch, cancel all orders, stop all strategies. Every step is tried whatever the others do."""
        reason = clip(reason, LONGEST_REASON)
        logger.critical("kill switch: {}", reason)
        # the latch falls before the others begin; its way into the journal holds nobody up
        await self._try_all(
            self._kill_switch.engage(reason),
            self._show(),
            self._services.orders.cancel_all(),
            self._host.stop_all("the kill switch was engaged", KILL_GRACE_S),
        )
        # a strategy may have placed an order in the instant before the latch
        await self._try_all(self._services.orders.cancel_all(), self._show())

    async def _show(self) -> None:
        self._telemetry.show(self._host)

    async def _try_all(self, *steps: Coroutine[Any, Any, Any]) -> None:
        for outcome in await asyncio.gather(*steps, return_exceptions=True):
            if isinstance(outcome, BaseException):
                logger.opt(exception=outcome).error("kill switch: {}", outcome)

    def disconnected(self, client_id: str) -> None:
        """A client is gone: its streams end."""
        self._gone.append(client_id)
        self._file_bars.leave(client_id)
        for instrument in self._wanted.pop(client_id, {}):
            self._services.spawn(self._services.market_data.release(instrument, _owner(client_id)))

    async def _subscribe(self, instrument: InstrumentId, timeframes: tuple[str, ...], client_id: str) -> None:
        """Stream an instrument to a client, and bars of these timeframes in the place of those it had."""
        if len(timeframes) > TIMEFRAMES_LIMIT:
            raise InvalidOrder(f"{TIMEFRAMES_LIMIT} timeframes an instrument are the most, not {len(timeframes)}")
        if client_id in self._gone:
            raise LinkError("the client is gone")
        market, owner = self._services.market_data, _owner(client_id)
        wanted = self._wanted.setdefault(client_id, {})
        before = wanted.get(instrument, ())
        wanted[instrument] = timeframes
        try:
            await market.hold(instrument, owner)
            for timeframe in timeframes:
                await market.hold_bars(instrument, timeframe, owner)
        except BaseException:
            wanted.pop(instrument, None)
            raise
        finally:
            if instrument not in self._wanted.get(client_id, {}):  # refused, unsubscribed meanwhile, or gone
                await market.release(instrument, owner)
        for timeframe in set(before).difference(wanted.get(instrument, ())):
            market.release_bars(instrument, timeframe, owner)

    async def _submit(self, account_id: str, request: OrderRequest, strategy_id: str) -> str:
        """Place an order by hand, on a market that streams for as long as the order is being placed at least."""
        account = self._services.store.accounts.get(account_id)
        if account is None:
            known = ", ".join(sorted(self._services.store.accounts)) or "none"
            raise InvalidOrder(f"there is no account {account_id!r}; there are: {known}")
        if account.venue != request.instrument.venue:
            raise InvalidOrder(
                f"{request.instrument} cannot be traded with {account_id!r}, which is on {account.venue}"
            )
        if strategy_id != MANUAL:
            self._check_closes(account_id, request, strategy_id)
        async with self._live_market(request.instrument):
            order = await self._services.orders.submit(request, strategy_id, account_id)
        return order.client_order_id

    async def _amend(self, command: AmendOrder) -> None:
        order = self._services.store.order(command.client_order_id)
        if order is None:
            raise InvalidOrder(f"there is no order {command.client_order_id!r}")
        async with self._live_market(order.request.instrument):
            await self._services.orders.amend(command.client_order_id, command.quantity, command.price)

    @contextlib.asynccontextmanager
    async def _live_market(self, instrument: InstrumentId) -> AsyncIterator[None]:
        """Stream a market for a while, and go on once its price is known."""
        owner = f"order:{next(self._numbers)}"
        await self._services.market_data.hold(instrument, owner)
        try:
            await self._services.market_data.wait_priced(instrument)
            yield
        finally:
            await self._services.market_data.release(instrument, owner)

    def _check_closes(self, account_id: str, request: OrderRequest, strategy_id: str) -> None:
        """Raise InvalidOrder for an order for a strategy that can be anything but a close of what it holds.

        That the order is on the other side of the holding, and no larger, the gate of all reduce-only orders sees to in
        the instant of sending.
        """
        name = clip(strategy_id, LONGEST_NAME)
        position = self._services.store.positions.get((strategy_id, account_id, request.instrument))
        if position is None and strategy_id not in self._host.managed:
            raise InvalidOrder(f"there is no strategy {name!r}: an order by hand is booked to {MANUAL!r}")
        if position is None or not position.quantity:
            raise InvalidOrder(f"{name} holds no {request.instrument} on {account_id}: there is nothing to close")
        if not request.reduce_only or request.type is not OrderType.MARKET:  # one that rests might open one later
            raise InvalidOrder(
                f"an order by hand for {name} may only close what it holds: send a reduce-only market order, "
                f"or book it to {MANUAL!r}"
            )

    async def _fetch(self, command: FetchBars, client_id: str) -> list[Any]:
        if not 1 <= command.count <= FETCH_LIMIT:
            raise InvalidOrder(f"ask for 1 to {FETCH_LIMIT} bars, not {command.count}")
        if command.file:
            rows = await self._file_bars.page(command, client_id)
            if client_id in self._gone:
                self._file_bars.leave(client_id)
            return rows
        series = BarSeries(command.instrument, command.timeframe)
        duration_ns(command.timeframe)
        await self._services.market_data.wait_ready(command.instrument.venue)
        if self._services.store.instrument(command.instrument) is None:
            raise InvalidOrder(f"{command.instrument.venue} has no symbol {command.instrument.symbol!r}")
        if command.until_ns is None:
            bars = await self._services.history.last(series, command.count)
        else:
            until_ns = bar_open_ns(command.until_ns, command.timeframe)
            span = Span(until_ns - command.count * duration_ns(command.timeframe), until_ns)
            bars = await self._services.history.bars(series, span)
        return [(b.open_time_ns, b.open, b.high, b.low, b.close, b.volume) for b in bars]


def _owner(client_id: str) -> str:
    return f"client:{client_id}"
