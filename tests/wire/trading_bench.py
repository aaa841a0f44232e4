"""A trading venue on a simulated exchange, and the engine's side of it, for tests of what goes wrong.

    async with open_bench(BinanceTrading, binance, tmp_path) as bench:      # binance: tests.wire.venues.binance
        await bench.connect()
        order = await bench.submit(BUY, "0.5", 95)
        await bench.reaches(order, OrderStatus.ACCEPTED)

Every event is played through the engine's own state machine: one that contradicts another fails the test.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from koc_qt.adapters.ccxt_client import Timeouts
from koc_qt.adapters.clock import SystemClock
from koc_qt.domain.errors import VenueError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Side
from koc_qt.domain.order_state import apply, events_from_report
from koc_qt.domain.orders import (
    CancelRejected,
    Fill,
    Order,
    OrderEvent,
    OrderFilled,
    OrderReport,
    OrderRequest,
    OrderStatus,
    OrderSubmitted,
    OrderType,
)
from koc_qt.domain.state import TradingMode, VenueState
from koc_qt.ports.clock import Clock
from koc_qt.ports.secrets import Credentials
from tests.conditions import PATIENCE, until
from tests.wire.core.accounts import ApiKey, User
from tests.wire.core.orders import WireOrder
from tests.wire.exchange import Exchange
from tests.wire.loopback import LoopbackServer

QUICK = Timeouts(first_backoff_s=0.02, max_backoff_s=0.1, request_s=1.5, dial_s=2.0, connect_s=30 * PATIENCE)
BUY, SELL = Side.BUY, Side.SELL


class TradingBench:
    """A loopback exchange, an account there, and the adapter under test. `make` makes the adapter."""

    def __init__(
        self, server: LoopbackServer, exchange: Exchange, owned: ApiKey, make: Callable[..., Any], symbol: str
    ) -> None:
        self.server = server
        self.site: Any = server.site
        self.exchange = exchange
        self.owned = owned
        self._make = make
        self.symbol = symbol
        self.venue: Any = self.make()
        self.orders: dict[str, Order] = {}
        self.events: list[OrderEvent] = []
        self.states: list[tuple[VenueState, str]] = []
        self._count = 0

    def make(self, mode: TradingMode = TradingMode.LIVE, **credentials: str) -> Any:
        """Make another adapter for the account, with other credentials where they are named."""
        keys = {"key": self.owned.key, "secret": self.owned.secret, "passphrase": self.owned.passphrase}
        return self._make(Credentials({**keys, **credentials}), mode, self.server.endpoint)

    @property
    def user(self) -> User:
        """The account at the exchange."""
        found = self.exchange.directory.find(self.owned.key)
        assert found is not None
        return found[0]

    @property
    def there(self) -> list[WireOrder]:
        """The account's orders at the exchange."""
        return self.exchange.orders(self.user)

    async def connect(self) -> None:
        """Connect, with the market at 100 and 101, ten on either side."""
        self.show(100, 101)
        await self.venue.connect(self.sink, lambda state, reason: self.states.append((state, reason)))

    def show(self, bid: float, ask: float, size: int = 10) -> None:
        """Let this be the market."""
        self.exchange.show(self.symbol, Decimal(str(bid)), Decimal(str(ask)), Decimal(size))

    def sink(self, event: OrderEvent) -> None:
        """Take what the venue says."""
        self.events.append(event)
        self.orders[event.client_order_id] = apply(self.orders[event.client_order_id], event)

    def new(self, side: Side, quantity: str, price: float | None = None, **options: Any) -> Order:
        """Make an order that the engine is about to send."""
        self._count += 1
        key = f"koc{self._count}x{id(self) % 10**6}"
        stop = "stop_price" in options
        kind = (
            (OrderType.STOP if stop else OrderType.MARKET)
            if price is None
            else (OrderType.STOP_LIMIT if stop else OrderType.LIMIT)
        )
        limit = None if price is None else Decimal(str(price))
        instrument = InstrumentId(self.exchange.venue, self.symbol)
        request = OrderRequest(instrument, side, kind, Decimal(quantity), limit, **options)
        order = Order(key, "strategy", self.venue.account_id, request, created_ns=1, updated_ns=1)
        self.orders[key] = apply(order, OrderSubmitted(key, 1))
        return self.orders[key]

    async def submit(self, side: Side, quantity: str, price: float | None = None, **options: Any) -> Order:
        """Send a new order. Raises what the adapter raises."""
        order = self.new(side, quantity, price, **options)
        await self.venue.submit(order)
        return order

    async def rests(self, price: float = 90, quantity: str = "0.5") -> Order:
        """Send a buy that waits at the venue, and wait until it does."""
        order = await self.submit(BUY, quantity, price)
        return await self.reaches(order, OrderStatus.ACCEPTED)

    def now(self, order: Order) -> Order:
        """Give the order as the engine knows it now."""
        return self.orders[order.client_order_id]

    async def reaches(self, order: Order, status: OrderStatus, timeout_s: float = 10.0) -> Order:
        """Wait until an order has a status."""
        await until(
            lambda: self.now(order).status is status, what=f"{order.client_order_id} {status}", timeout_s=timeout_s
        )
        return self.now(order)

    async def look_up(self, order: Order) -> OrderReport | None:
        """Ask for an order as the engine does, and take the report."""
        report: OrderReport | None = await self.venue.find_order(self.now(order))
        if report is not None:
            for event in events_from_report(self.now(order), report, time_ns=2):
                self.orders[order.client_order_id] = apply(self.now(order), event)
        return report

    def fills(self, order: Order) -> list[Fill]:
        """Give the fills that the sink was told of."""
        key = order.client_order_id
        return [event.fill for event in self.events if isinstance(event, OrderFilled) and event.client_order_id == key]

    def refusals(self, order: Order) -> list[str]:
        """Give why cancels were refused."""
        key = order.client_order_id
        return [
            event.reason for event in self.events if isinstance(event, CancelRejected) and event.client_order_id == key
        ]

    async def until_state(self, state: VenueState) -> str:
        """Wait until the newest state is this one; gives its reason."""
        await until(lambda: self.states and self.states[-1][0] is state, what=f"the state {state}")
        return self.states[-1][1]

    def asked(self, path: str) -> int:
        """Count the requests that contain this."""
        return sum(path in request for request in self.server.requests)


async def failure_of(call: Any) -> VenueError:
    """Give the error of ours that awaiting this raises."""
    try:
        await call
    except VenueError as error:
        return error
    raise AssertionError("it went well")


@asynccontextmanager
async def open_bench(
    trading: Any,
    module: Any,
    folder: Path,
    symbol: str = "BTC/USDT",
    *,
    timeouts: Timeouts = QUICK,
    clock: Clock | None = None,
    **person: Any,
) -> AsyncIterator[TradingBench]:
    """Serve a venue's dialect (`module` of tests.wire.venues) and make `trading`, a CcxtTrading class, for a person.

    `clock` is the adapter's; the venue has the system's.
    """
    exchange = module.make_exchange(SystemClock())
    owned = module.add_person(exchange, **person)
    made: list[Any] = []

    def make(credentials: Credentials, mode: TradingMode, endpoint: Any) -> Any:
        made.append(trading("account-1", credentials, mode, clock or SystemClock(), endpoint, timeouts=timeouts))
        return made[-1]

    async with LoopbackServer(module.make_site(exchange), folder) as server:
        try:
            yield TradingBench(server, exchange, owned, make, symbol)
        finally:
            for venue in made:
                await venue.close()
