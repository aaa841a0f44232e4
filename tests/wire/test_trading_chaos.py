"""Everything at once, from a seed: in the end the engine's orders are the venue's, whatever went wrong on the way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from koc_qt.adapters import ccxt_lookups
from koc_qt.adapters.venues.binance import BinanceTrading
from koc_qt.domain.errors import VenueError, VenueTimeout, VenueUnavailable
from koc_qt.domain.order_state import apply
from koc_qt.domain.orders import Order, OrderRejected, OrderStatus, TimeInForce
from tests.conditions import until
from tests.wire.core.orders import RefusedError, WireOrder
from tests.wire.trading_bench import BUY, QUICK, SELL, TradingBench, open_bench
from tests.wire.venues import binance

ORDERS = 60


async def submit(bench: TradingBench, order: Order) -> None:
    """Send an order as the engine does: one that was certainly not sent is over."""
    try:
        await bench.venue.submit(order)
    except VenueTimeout:
        return  # looked up in the end
    except VenueUnavailable as error:
        key = order.client_order_id
        bench.orders[key] = apply(bench.now(order), OrderRejected(key, 1, str(error)))


async def cancel(bench: TradingBench, order: Order) -> None:
    try:
        await bench.venue.cancel(bench.now(order))
    except VenueError:
        return  # asked again in the end


def go_wrong(bench: TradingBench, rng: random.Random) -> None:
    """Let something happen to the market, the connections or the answers."""
    site, price = bench.site, 95 + rng.randrange(10)
    wrongs: list[Callable[[], object]] = [
        lambda: bench.show(price, price + 1, rng.randint(1, 3)),
        lambda: bench.show(price, price + 1, rng.randint(1, 3)),
        lambda: bench.show(price, price + 1, rng.randint(1, 3)),
        lambda: site.fault_drop("private", mid_frame=rng.random() < 0.5),
        lambda: site.fault_duplicate(rng.randint(1, 5)),
        lambda: site.fault_reorder(rng.randint(2, 4)),
        lambda: site.fault_lose_answer(rng.choice(["place", "cancel"]), how="drop"),
        lambda: site.fault_server_error("/api/v3/order", times=1),
        lambda: site.fault_garbage(),
        lambda: site.fault_expire_tokens(),
    ]
    rng.choice(wrongs)()


def at_the_venue(bench: TradingBench, order: Order) -> WireOrder | None:
    try:
        return bench.exchange.find(bench.user, order.client_order_id)
    except RefusedError:
        return None


def agrees(bench: TradingBench, key: str) -> bool:
    """Tell whether an order here is as it is there."""
    ours = bench.orders[key]
    theirs = at_the_venue(bench, ours)
    if theirs is None:
        return ours.status is OrderStatus.REJECTED
    statuses = {theirs.status, OrderStatus.EXPIRED if theirs.status is OrderStatus.CANCELED else theirs.status}
    return ours.status in statuses and ours.filled_quantity == theirs.filled


@pytest.mark.parametrize("seed", range(4))
async def test_in_the_end_all_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(ccxt_lookups, "AUDIT_S", 0.5)
    rng, calls = random.Random(seed), list[asyncio.Task[None]]()
    async with open_bench(
        BinanceTrading, binance, tmp_path, timeouts=QUICK, balances={"USDT": "10000000", "BTC": "1000"}
    ) as bench:
        await bench.connect()
        for _ in range(ORDERS):
            side, kind = rng.choice([BUY, SELL]), rng.choice(["market", "limit", "ioc"])
            price = None if kind == "market" else 93 + rng.randrange(14)
            force = TimeInForce.IOC if kind == "ioc" else TimeInForce.GTC
            order = bench.new(side, f"{rng.randint(1, 30) / 10}", price, time_in_force=force)
            calls.append(asyncio.create_task(submit(bench, order)))
            if rng.random() < 0.6:
                go_wrong(bench, rng)
            if rng.random() < 0.4:
                calls.append(asyncio.create_task(cancel(bench, rng.choice(list(bench.orders.values())))))
            await asyncio.sleep(rng.random() * 0.01)
        await asyncio.gather(*calls)
        bench.site.fault_clear()

        for key, order in list(bench.orders.items()):  # as the engine does with what it never had an answer to
            if order.status is OrderStatus.SUBMITTED and await bench.look_up(order) is None:
                bench.orders[key] = apply(bench.now(order), OrderRejected(key, 1, "never received"))
        await until(lambda: all(agrees(bench, key) for key in bench.orders), what="all to agree", timeout_s=20)

        sent = [order.client_id for order in bench.there]
        assert len(sent) == len(set(sent)), "no order was sent twice"
        told = [fill.fill_id for order in bench.orders.values() for fill in bench.fills(order)]
        assert len(told) == len(set(told)), "no fill was told twice"
        total = sum((fill.quantity for _, fill in bench.exchange.fills(bench.user)), Decimal(0))
        assert sum((order.filled_quantity for order in bench.orders.values()), Decimal(0)) == total
        assert len(sent) > ORDERS / 2, "most of them did arrive"
