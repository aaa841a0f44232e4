"""What clients may ask of the engine: every command of the link, and the snapshot that a client begins with."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, assert_never

import msgspec
from loguru import logger

from koc_qt.domain.errors import InvalidOrder
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.orders import OrderRequest
from koc_qt.domain.timeframes import bar_open_ns, duration_ns
from koc_qt.engine.kill_switch import KillSwitch
from koc_qt.engine.services import Services
from koc_qt.engine.strategies import StrategyHost
from koc_qt.engine.telemetry import Telemetry
from koc_qt.link.messages import (
    CancelAllOrders,
    CancelOrder,
    Command,
    DescribeStrategy,
    EngageKillSwitch,
    FetchBars,
    Hello,
    ReleaseKillSwitch,
    RequestSnapshot,
    Shutdown,
    Snapshot,
    StartStrategy,
    StopStrategy,
    SubmitOrder,
    Subscribe,
    Unsubscribe,
)
from koc_qt.ports.bars import BarSeries, Span

MANUAL = "manual"  # the strategy id of orders that a person places
SNAPSHOT_CLOSED_ORDERS = 1_000
SNAPSHOT_FILLS = 2_000
FETCH_LIMIT = 20_000  # bars a request
KILL_GRACE_S = 1.0


class Commands:
    """Implements the link's handler."""

    def __init__(
        self,
        services: Services,
        host: StrategyHost,
        kill_switch: KillSwitch,
        telemetry: Telemetry,
        shut_down: Callable[[str], None],
    ) -> None:
        self._services = services
        self._host = host
        self._kill_switch = kill_switch
        self._telemetry = telemetry
        self._shut_down = shut_down
        self._numbers = itertools.count(1)
        self._client_streams: dict[str, set[InstrumentId]] = {}

    def snapshot(self) -> Snapshot:
        """All that a client is told first."""
        store = self._services.store
        fills = list(store.fills)[-SNAPSHOT_FILLS:]
        shown = {i for strategy in store.strategies.values() for i in strategy.spec.instruments}
        shown |= set(store.quotes) | {fill.instrument for fill in fills}
        simulated = {v for v in store.venues if v.startswith("sim")}
        return Snapshot(
            engine=store.engine or self._telemetry.engine(),
            venues=tuple(store.venues.values()),
            accounts=tuple(store.accounts.values()),
            instruments=tuple(i for key, i in store.instruments.items() if key in shown or key.venue in simulated),
            strategies=tuple(store.strategies.values()),
            positions=tuple(self._services.ledger.snapshot(p) for p in store.positions.values()),
            orders=tuple(store.recent_orders(SNAPSHOT_CLOSED_ORDERS)),
            fills=tuple(fills),
        )

    async def execute(self, command: Command, client_id: str) -> Any:
        """Do what a client asks; gives the reply's value. Raises KocError with a sentence for a person."""
        match command:
            case Hello() | RequestSnapshot():
                return None  # the transport answers these itself
            case SubmitOrder(account_id, request):
                return await self._submit(account_id, request)
            case CancelOrder(client_order_id):
                return await self._services.orders.cancel(client_order_id)
            case CancelAllOrders():
                return await self._services.orders.cancel_all()
            case DescribeStrategy(path):
                return msgspec.to_builtins(await self._host.describe(path))
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
                self._client_streams.get(client_id, set()).discard(instrument)
                return await self._services.market_data.release(instrument, f"client:{client_id}")
            case FetchBars():
                return await self._fetch(command)
            case Shutdown():
                return self._shut_down("a client asked for it")
            case _:
                assert_never(command)

    async def kill(self, reason: str) -> None:
        """Latch the kill switch, cancel all orders, stop all strategies. Every step is tried whatever the others do."""
        logger.critical("kill switch: {}", reason)
        await self._kill_switch.engage(reason)
        self._telemetry.show(self._host)
        outcomes = await asyncio.gather(
            self._services.orders.cancel_all(),
            self._host.stop_all("the kill switch was engaged", KILL_GRACE_S),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                logger.error("kill switch: {}", outcome)
        # a strategy may have placed an order in the instant before the latch
        await self._services.orders.cancel_all()
        self._telemetry.show(self._host)

    def disconnected(self, client_id: str) -> None:
        """A client is gone: its streams end."""
        for instrument in self._client_streams.pop(client_id, set()):
            self._services.spawn(self._services.market_data.release(instrument, f"client:{client_id}"))

    async def _subscribe(self, instrument: InstrumentId, timeframes: tuple[str, ...], client_id: str) -> None:
        owner = f"client:{client_id}"
        self._client_streams.setdefault(client_id, set()).add(instrument)
        await self._services.market_data.hold(instrument, owner)
        for timeframe in timeframes:
            await self._services.market_data.hold_bars(instrument, timeframe, owner)

    async def _submit(self, account_id: str, request: OrderRequest) -> str:
        """Place an order by hand, on a market that streams for as long as the order is being placed at least."""
        owner = f"order:{next(self._numbers)}"
        await self._services.market_data.hold(request.instrument, owner)
        try:
            await self._services.market_data.wait_priced(request.instrument)
            order = await self._services.orders.submit(request, MANUAL, account_id)
        finally:
            await self._services.market_data.release(request.instrument, owner)
        return order.client_order_id

    async def _fetch(self, command: FetchBars) -> list[Any]:
        if not 1 <= command.count <= FETCH_LIMIT:
            raise InvalidOrder(f"ask for 1 to {FETCH_LIMIT} bars, not {command.count}")
        series = BarSeries(command.instrument, command.timeframe)
        await self._services.market_data.wait_ready(command.instrument.venue)
        if command.until_ns is None:
            bars = await self._services.history.last(series, command.count)
        else:
            until_ns = bar_open_ns(command.until_ns, command.timeframe)
            span = Span(until_ns - command.count * duration_ns(command.timeframe), until_ns)
            bars = await self._services.history.bars(series, span)
        return [(b.open_time_ns, b.open, b.high, b.low, b.close, b.volume) for b in bars]
