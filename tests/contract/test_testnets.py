"""An order's life on venues' own testnets, with the product as it is: with KOC_LIVE_TESTS=1, and keys in the keyring.

The keys are those of the profile "live-tests": accounts binance and alpaca in testnet mode. The same tour runs over the
simulated testnets, so that it is known to be right before it meets a real one. Nothing is bought: the order rests far
below the market, and is cancelled.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from decimal import ROUND_CEILING, Decimal
from pathlib import Path

import pytest
import pytest_asyncio

from koc_qt.adapters.ccxt_client import LoopbackEndpoint
from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.secrets import KeyringStore
from koc_qt.adapters.venues.alpaca import AlpacaTrading, AlpacaVenue
from koc_qt.adapters.venues.binance import BinanceTrading, BinanceVenue
from koc_qt.domain.errors import SecretsUnavailable
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.market import Side
from koc_qt.domain.order_state import apply
from koc_qt.domain.orders import Order, OrderEvent, OrderRequest, OrderStatus, OrderSubmitted, OrderType
from koc_qt.domain.state import TradingMode
from koc_qt.domain.timeframes import SECOND_NS
from koc_qt.ports.secrets import Credentials
from koc_qt.ports.venue import MarketDataVenue, TradingVenue
from tests.conditions import until
from tests.wire.loopback import LoopbackServer
from tests.wire.venues import alpaca, binance

SYMBOLS = {"binance": "BTC/USDT", "alpaca": "BTC/USD"}
PROFILE = "live-tests"


class Tourist:
    """Follows one order on one account."""

    def __init__(self, data: MarketDataVenue, trading: TradingVenue, symbol: str) -> None:
        self.data, self.trading, self.symbol = data, trading, symbol
        self.order: Order | None = None

    def sink(self, event: OrderEvent) -> None:
        """Apply what the venue says of our order."""
        if self.order is not None and event.client_order_id == self.order.client_order_id:
            self.order = apply(self.order, event)

    async def is_now(self, status: OrderStatus) -> Order:
        """Wait for a status."""
        await until(lambda: self.order is not None and self.order.status is status, timeout_s=20, what=f"{status}")
        assert self.order is not None
        return self.order


def make(venue: str, keys: Credentials, endpoint: LoopbackEndpoint | None) -> tuple[MarketDataVenue, TradingVenue]:
    clock = SystemClock()
    if venue == "binance":
        return BinanceVenue(clock, endpoint), BinanceTrading("binance", keys, TradingMode.TESTNET, clock, endpoint)
    data = AlpacaVenue(clock, keys, endpoint)
    return data, AlpacaTrading("alpaca", keys, TradingMode.TESTNET, clock, endpoint)


def real_keys(venue: str) -> Credentials:
    """Give the keys of the keyring, or skip with the reason."""
    if os.environ.get("KOC_LIVE_TESTS") != "1":
        pytest.skip("real testnets are asked only with KOC_LIVE_TESTS=1")
    try:
        keys = KeyringStore(PROFILE).get(venue, TradingMode.TESTNET)
    except SecretsUnavailable as error:
        pytest.skip(f"no keys for {venue}'s testnet: {error}")
    if keys is None:
        pytest.skip(f"no keys for {venue}'s testnet in the keyring, profile {PROFILE!r}")
    return keys


@pytest_asyncio.fixture(params=["simulated", "real"])
async def tourist(request: pytest.FixtureRequest, venue: str, tmp_path: Path) -> AsyncIterator[Tourist]:
    if request.param == "real":
        data, trading = make(venue, real_keys(venue), None)
        yield Tourist(data, trading, SYMBOLS[venue])
        await trading.close()
        await data.close()
        return
    dialect = {"binance": binance, "alpaca": alpaca}[venue]
    exchange = dialect.make_exchange(SystemClock())
    owned = dialect.add_person(exchange, test_network=True)
    async with LoopbackServer(dialect.make_site(exchange), tmp_path) as server:
        keys = Credentials({"key": owned.key, "secret": owned.secret})
        data, trading = make(venue, keys, server.endpoint)
        yield Tourist(data, trading, SYMBOLS[venue])
        await trading.close()
        await data.close()


async def last_price(data: MarketDataVenue, symbol: str) -> Decimal:
    now_ns = data.time_ns()
    closes = [
        bar.close
        async for page in data.fetch_bars(symbol, "1m", now_ns - 3600 * SECOND_NS, now_ns - 60 * SECOND_NS)
        for bar in page
    ]
    return Decimal(str(closes[-1]))


def order_far_below(rules: Instrument, last: Decimal) -> OrderRequest:
    price = rules.floor_price(last * Decimal("0.9"))
    least = max(rules.min_notional * 2, Decimal(20)) / price
    quantity = max(rules.ceil_quantity(least), rules.min_quantity)
    return OrderRequest(rules.id, Side.BUY, OrderType.LIMIT, quantity.quantize(rules.lot_size, ROUND_CEILING), price)


@pytest.mark.parametrize("venue", list(SYMBOLS))
async def test_an_order_rests_on_the_testnet_and_is_cancelled(venue: str, tourist: Tourist) -> None:
    data, trading = tourist.data, tourist.trading
    report = await trading.check()
    assert report.problem == ""
    assert report.can_trade
    await data.connect(lambda _event: None)
    rules = next(each for each in await data.instruments() if each.id.symbol == tourist.symbol)
    await trading.connect(tourist.sink)
    assert any(balance.total > 0 for balance in await trading.balances())

    request = order_far_below(rules, await last_price(data, tourist.symbol))
    key = f"koctest{time.time_ns() // 1_000_000:x}"
    order = Order(key, "testnet", trading.account_id, request, created_ns=trading.time_ns(), updated_ns=0)
    tourist.order = apply(order, OrderSubmitted(key, order.created_ns))
    await trading.submit(tourist.order)
    try:
        resting = await tourist.is_now(OrderStatus.ACCEPTED)
        found = await trading.find_order(resting)
        assert found is not None
        assert (found.status, found.venue_order_id) == (OrderStatus.ACCEPTED, resting.venue_order_id)
        assert resting.venue_order_id in {each.venue_order_id for each in await trading.open_orders()}
    finally:
        await trading.cancel(tourist.order)
    gone = await tourist.is_now(OrderStatus.CANCELED)
    assert gone.filled_quantity == 0
    assert resting.venue_order_id not in {each.venue_order_id for each in await trading.open_orders()}
