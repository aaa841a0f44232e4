"""Fees that a venue takes off what was bought: positions, balances and profit are what the account really has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
import pytest_asyncio

from koc_qt.domain.market import Side
from koc_qt.domain.orders import Fill, Order, OrderRequest, OrderStatus, OrderType
from tests.conditions import until
from tests.wire.test_doubtful_orders import CASES, Case, EngineSide
from tests.wire.trading_bench import BUY, SELL, TradingBench, open_bench

QUANTITY = Decimal("0.51237")


@pytest.fixture(params=["binance", "bitfinex"])
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest_asyncio.fixture
async def engine(case: Case, tmp_path: Path) -> AsyncIterator[EngineSide]:
    async with open_bench(case.trading, case.module, tmp_path, case.symbol) as bench:
        engine = EngineSide(bench)
        await engine.start()
        yield engine
        await engine.close()


async def trade(engine: EngineSide, side: Side, quantity: Decimal) -> Order:
    """Trade at the market, and wait until it is done and counted."""
    request = OrderRequest(engine.instrument, side, OrderType.MARKET, quantity)
    order = await engine.orders.submit(request, "sma", "account-1")
    filled = await engine.reaches(order, OrderStatus.FILLED)
    await until(lambda: sum(fill.quantity for fill in fills_of(engine, filled)) == quantity, what="its fills")
    return filled


def fills_of(engine: EngineSide, order: Order) -> list[Fill]:
    return [fill for fill in engine.store.fills if fill.client_order_id == order.client_order_id]


async def held(bench: TradingBench) -> dict[str, Decimal]:
    return {balance.currency: balance.total for balance in await bench.venue.balances()}


async def test_what_was_bought_less_the_fee_can_be_sold_again_whole(engine: EngineSide) -> None:
    rules = engine.store.instruments[engine.instrument]
    before = await held(engine.bench)
    bought = await trade(engine, BUY, QUANTITY)
    fees = [(fill.fee, fill.fee_currency) for fill in engine.store.fills]
    assert fees == [(QUANTITY * rules.taker_fee, rules.base)]
    position = engine.store.positions["sma", "account-1", engine.instrument]
    assert position.quantity == QUANTITY - fees[0][0] < bought.filled_quantity
    now = await held(engine.bench)
    assert now[rules.base] - before[rules.base] == position.quantity
    assert now[rules.quote] - before[rules.quote] == -QUANTITY * 101

    await trade(engine, SELL, rules.round_quantity(position.quantity))
    assert 0 <= position.quantity < rules.lot_size
    after, mark = await held(engine.bench), Decimal(100)
    assert after[rules.base] - before[rules.base] == position.quantity
    worth = after[rules.quote] - before[rules.quote] + position.quantity * mark
    assert position.realised_pnl + position.unrealised_pnl(mark) - position.fees == worth, "no fee twice, and none not"


@pytest.mark.usefixtures("expected_warnings")
async def test_more_than_is_left_is_refused_by_the_venue(engine: EngineSide) -> None:
    await trade(engine, BUY, QUANTITY)
    rules = engine.store.instruments[engine.instrument]
    have = (await held(engine.bench))[rules.base]
    request = OrderRequest(engine.instrument, SELL, OrderType.MARKET, rules.round_quantity(have) + rules.lot_size)
    order = await engine.orders.submit(request, "sma", "account-1")
    assert (await engine.reaches(order, OrderStatus.REJECTED)).status is OrderStatus.REJECTED
