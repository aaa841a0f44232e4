"""Orders of which the engine has heard nothing, or the wrong thing: it goes on asking, and none works unowned."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from koc_qt.adapters import trading_base
from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.venues.alpaca import AlpacaTrading
from koc_qt.adapters.venues.binance import BinanceTrading
from koc_qt.adapters.venues.bitfinex import BitfinexTrading, order_cid
from koc_qt.adapters.venues.coinbase import CoinbaseTrading
from koc_qt.adapters.venues.kraken import KrakenTrading, kraken_id
from koc_qt.adapters.venues.kucoin import KucoinTrading
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Quote
from koc_qt.domain.orders import Order, OrderRequest, OrderStatus, OrderType, TimeInForce
from koc_qt.domain.risk import RiskLimits
from koc_qt.domain.state import TradingMode
from koc_qt.engine.accounts import AccountInfo, Accounts
from koc_qt.engine.bus import Bus
from koc_qt.engine.kill_switch import KillSwitch
from koc_qt.engine.latency import LatencyBook
from koc_qt.engine.ledger import Ledger
from koc_qt.engine.orders import OrderService
from koc_qt.engine.store import Store
from tests.conditions import until
from tests.fakes.journal import MemoryJournal
from tests.wire.trading_bench import BUY, TradingBench, failure_of, open_bench
from tests.wire.venues import alpaca, binance, bitfinex, coinbase, kraken, kucoin

ACCEPTED, CANCELED, REJECTED = OrderStatus.ACCEPTED, OrderStatus.CANCELED, OrderStatus.REJECTED
UNKNOWN = OrderStatus.UNKNOWN
BROKERAGE = "/api/v3/brokerage/orders"


class Case(NamedTuple):
    """A venue, and the paths of placing and of looking up."""

    trading: Any
    module: Any
    symbol: str
    place: str
    look_up: str

    def theirs(self, order: Order) -> str:
        """Give the id by which the venue knows an order."""
        if self.module is kraken:
            return kraken_id(order.client_order_id)
        return str(order_cid(order.client_order_id)) if self.module is bitfinex else order.client_order_id


CASES = {
    "binance": Case(BinanceTrading, binance, "BTC/USDT", "/api/v3/order", "/api/v3/order"),
    "kraken": Case(KrakenTrading, kraken, "BTC/USD", "/0/private/AddOrder", "/0/private/QueryOrders"),
    "coinbase": Case(
        CoinbaseTrading, coinbase, "BTC/USD", "/api/v3/brokerage/orders", "/api/v3/brokerage/orders/historical"
    ),
    "kucoin": Case(KucoinTrading, kucoin, "BTC/USDT", "/api/v1/hf/orders", "/api/v1/hf/orders/client-order"),
    "bitfinex": Case(BitfinexTrading, bitfinex, "BTC/USD", "/v2/auth/w/order/submit", "/v2/auth/r"),
    "alpaca": Case(AlpacaTrading, alpaca, "BTC/USD", "/v2/orders", "/v2/orders:by_client_order_id"),
}

# The others know an order by a form of our id that does not lead back to it, and refuse what comes after a later nonce.
with_plain_ids = pytest.mark.parametrize("case", [CASES[name] for name in ("binance", "coinbase", "kucoin", "alpaca")])


class EngineSide:
    """The engine's order service and accounts on a bench's adapter."""

    def __init__(self, bench: TradingBench) -> None:
        self.bench, self.store, self.bus, clock = bench, Store(), Bus(), SystemClock()
        self.instrument = InstrumentId(bench.exchange.venue, bench.symbol)
        self.venues = {"account-1": bench.venue}
        self.journal, self.switch = MemoryJournal(), KillSwitch(MemoryJournal(), clock)
        self.orders = OrderService(
            self.store,
            self.bus,
            self.journal,
            clock,
            Ledger(self.store, clock),
            self.venues,
            self.switch,
            RiskLimits(),
            LatencyBook(clock),
            random.Random(1),
            lookup_delays_s=(0.02, 0.1),
        )
        info = AccountInfo("account-1", bench.exchange.venue, TradingMode.LIVE)
        self.accounts = Accounts(self.store, self.bus, clock, {"account-1": info}, self.venues, self.orders.reconcile)
        rules = bench.exchange.market(bench.symbol).listing.instrument(bench.exchange.venue)
        self.store.instruments[self.instrument] = rules
        price, one = Decimal(100), Decimal(1)
        self.store.quotes[self.instrument] = Quote(self.instrument, clock.time_ns(), price, one, price + 1, one)

    async def start(self) -> None:
        """Connect the account, with the market at 100 and 101."""
        self.bench.show(100, 101)
        self.orders.start()
        self.accounts.start()
        await self.accounts.connect("account-1", self.orders.receive)

    async def close(self) -> None:
        """Let go of it."""
        await self.accounts.close()
        await self.orders.close()

    async def submit(self) -> Order:
        """Send a buy that waits at the venue, if it gets there."""
        request = OrderRequest(self.instrument, BUY, OrderType.LIMIT, Decimal("0.5"), Decimal(95))
        return await self.orders.submit(request, "sma", "account-1")

    async def reaches(self, order: Order, status: OrderStatus) -> Order:
        """Wait until an order has a status."""
        key = order.client_order_id
        await until(lambda: (now := self.store.order(key)) and now.status is status, what=f"the order to be {status}")
        now = self.store.order(key)
        assert now is not None
        return now


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest_asyncio.fixture
async def bench(case: Case, tmp_path: Path) -> AsyncIterator[TradingBench]:
    async with open_bench(case.trading, case.module, tmp_path, case.symbol) as bench:
        yield bench


@pytest_asyncio.fixture
async def engine(bench: TradingBench) -> AsyncIterator[EngineSide]:
    engine = EngineSide(bench)
    await engine.start()
    yield engine
    await engine.close()


@pytest.mark.usefixtures("expected_warnings")
async def test_an_order_whose_fate_is_not_known_is_asked_about_while_the_venue_is_left_alone(
    case: Case, bench: TradingBench, engine: EngineSide
) -> None:
    bench.site.fault_server_error("/", times=1_000)
    while bench.venue.breaker_states["queries"] != "open":
        await failure_of(bench.venue.balances())
    bench.site.fault_clear()

    bench.site.fault_silence()
    bench.site.fault_lose_answer("place", how="drop")
    if case.look_up != case.place:
        bench.site.fault_server_error(case.look_up, times=3)
    order = await engine.submit()
    assert (order.status, bench.venue.breaker_states["queries"]) == (UNKNOWN, "open")
    await engine.reaches(order, ACCEPTED)
    assert bench.venue.breaker_states["queries"] == "closed", "an answer is an answer"
    assert [each.client_id for each in bench.there] == [case.theirs(order)]


@with_plain_ids
@pytest.mark.usefixtures("expected_warnings")
async def test_an_order_that_arrives_after_it_was_given_up_is_cancelled_and_said(
    case: Case, bench: TradingBench, engine: EngineSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trading_base, "LATE_S", 0.0)
    bench.site.fault_late(case.place)
    order = await engine.submit()
    assert "never received" in (await engine.reaches(order, REJECTED)).reason
    await bench.site.let_arrive()
    assert len(bench.there) == 1
    await engine.reaches(order, CANCELED)
    assert [each.is_open for each in bench.there] == [False]
    [notice] = engine.store.notices
    assert notice.startswith(f"order {order.client_order_id} (buy 0.5 ")
    assert "works at its venue and is being cancelled, though it had been called rejected" in notice


@pytest.mark.usefixtures("expected_warnings")
async def test_an_order_that_works_though_it_was_refused_is_cancelled_and_said(
    case: Case, bench: TradingBench, engine: EngineSide
) -> None:
    bench.site.fault_key(bench.owned.key, permissions=["read"])
    order = await engine.submit()
    await engine.reaches(order, REJECTED)
    bench.site.fault_key(bench.owned.key, permissions=["read", "trade"])
    place(bench, case, order)
    await engine.reaches(order, CANCELED)
    assert [each.is_open for each in bench.there] == [False]
    assert "though it had been called rejected" in engine.store.notices[0]


@with_plain_ids
@pytest.mark.usefixtures("expected_warnings")
async def test_an_order_that_works_though_it_was_called_over_before_a_restart_is_cancelled_and_said(
    case: Case, bench: TradingBench
) -> None:
    engine = EngineSide(bench)
    request = OrderRequest(engine.instrument, BUY, OrderType.LIMIT, Decimal("0.5"), Decimal(95))
    earlier_ns = SystemClock().time_ns() - 30_000_000_000
    order = Order(
        "koc18bcfe56800e41jrq1", "sma", "account-1", request, earlier_ns, earlier_ns, REJECTED, reason="never came"
    )
    engine.orders.restore([order])
    place(bench, case, order)
    await engine.start()
    await engine.reaches(order, CANCELED)
    assert [each.is_open for each in bench.there] == [False]
    assert engine.store.accounts["account-1"].foreign_orders == 0
    assert engine.store.notices[0].endswith("though it had been called rejected: never came")
    await engine.close()


def place(bench: TradingBench, case: Case, order: Order) -> None:
    """Let the venue have an order under our id."""
    bench.exchange.place(
        bench.user,
        bench.symbol,
        BUY,
        OrderType.LIMIT,
        Decimal("0.5"),
        price=Decimal(95),
        client_id=case.theirs(order),
        extra={"cid": int(case.theirs(order))} if case.module is bitfinex else {"type": "LIMIT"},
        time_in_force=TimeInForce.GTC,
    )
