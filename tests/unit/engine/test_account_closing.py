"""What the services beneath accounts do for one that is closed, and for one that comes back in another mode."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import msgspec
import pytest

from koc_qt.domain.errors import InvalidOrder, VenueUnavailable
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Order, OrderStatus
from tests.conditions import until
from tests.fakes.market import FakeDataVenue
from tests.fakes.trading import BTC, NOW_NS, fill_of, limit_buy, market_buy, quote
from tests.unit.engine.desk import EngineDesk


async def working(engine: EngineDesk) -> str:
    """Have an order work, and give its id."""
    engine.store.quotes[BTC] = quote()
    order = await engine.orders.submit(limit_buy(), "sma", "sim")
    await engine.orders.settle()
    return order.client_order_id


# ---- orders


async def test_an_account_that_is_held_takes_no_orders_but_cancels(engine: EngineDesk) -> None:
    key = await working(engine)
    engine.orders.hold("sim", "it is being closed")
    with pytest.raises(InvalidOrder, match="it is being closed"):
        await engine.orders.submit(market_buy(), "sma", "sim")
    with pytest.raises(InvalidOrder, match="it is being closed"):
        await engine.orders.amend(key, Decimal("0.05"))
    assert [order.client_order_id for order in engine.orders.pending("sim")] == [key]
    await engine.orders.cancel(key)
    await engine.orders.settle()
    assert engine.orders.pending("sim") == []
    engine.orders.release("sim")
    engine.orders.release("sim")
    engine.store.quotes[BTC] = quote()
    await engine.orders.submit(market_buy(), "sma", "sim")
    await engine.orders.settle()


async def test_an_order_that_is_being_written_when_its_account_is_held_is_not_sent(engine: EngineDesk) -> None:
    engine.store.quotes[BTC] = quote()
    engine.journal.gate = asyncio.Event()
    submitting = asyncio.create_task(engine.orders.submit(market_buy(), "sma", "sim"))
    await until(lambda: engine.journal.waiting, what="the intent is being written")
    (pending,) = engine.orders.pending("sim")
    assert pending.status is OrderStatus.SUBMITTED
    assert engine.orders.pending("other") == []
    engine.orders.hold("sim", "it is being closed")
    engine.journal.gate.set()
    engine.journal.gate = None
    order = await submitting
    await engine.orders.settle()
    assert (order.status, order.reason) == (OrderStatus.REJECTED, "it is being closed")
    assert engine.trading.submitted == []


@pytest.mark.expected_warnings("could not be looked up: away")
async def test_nobody_asks_the_venue_of_an_account_that_was_let_go(engine: EngineDesk) -> None:
    key = await working(engine)
    engine.trading.refuse_lookup = [VenueUnavailable("away")] * 1_000
    asking = asyncio.create_task(engine.orders.reconcile("sim"))
    await until(lambda: len(engine.trading.looked_up) > 2, what="it is being asked")
    await engine.orders.let_go("sim")
    asked = len(engine.trading.looked_up)
    await asking
    await asyncio.sleep(0.01)
    assert len(engine.trading.looked_up) == asked
    engine.trading.refuse_lookup = []
    await engine.orders.reconcile("sim")
    assert engine.trading.looked_up[-1] == key, "the next venue is asked again"


# ---- positions


async def test_positions_of_another_mode_take_the_place_of_those_there_were(engine: EngineDesk) -> None:
    engine.store.quotes[BTC] = quote()
    await engine.orders.submit(market_buy("0.5"), "sma", "sim")
    await engine.orders.settle()
    before = engine.ledger.position("sma", "sim", BTC)
    assert before.quantity == Decimal("0.5")
    order = next(iter(engine.store.recent_orders(10)))
    other = msgspec.structs.replace(order, strategy_id="rsi", client_order_id="older")
    fill = fill_of(other, "0.2", "90", "f-older", time_ns=NOW_NS - 1)
    told = engine.ledger.replay_account("sim", [fill])
    assert {(p.strategy_id, p.quantity) for p in told} == {("sma", Decimal(0)), ("rsi", Decimal("0.2"))}
    assert engine.ledger.replay_account("elsewhere", []) == []


@pytest.mark.parametrize(("sold_at", "counts"), [("50", "-50"), ("150", "0")])
async def test_losses_of_today_go_on_counting_and_profits_do_not(engine: EngineDesk, sold_at: str, counts: str) -> None:
    order = Order("k1", "sma", "sim", limit_buy("1"), NOW_NS, NOW_NS)
    engine.ledger.record(fill_of(order, "1", "100", "f1"))
    engine.ledger.record(msgspec.structs.replace(fill_of(order, "1", sold_at, "f2"), side=Side.SELL))
    engine.ledger.replay_account("sim", [])
    assert engine.ledger.daily_pnl("sma") == Decimal(counts)


# ---- market data


async def test_a_venue_can_come_later(engine: EngineDesk) -> None:
    venues = engine.market._venues
    late = FakeDataVenue(engine.clock, "late", instruments=())
    assert not engine.market.is_ready("late")
    venues["late"] = late  # type: ignore[index]
    engine.market.connect("late")
    await until(lambda: engine.market.is_ready("late"), what="it is connected")
    engine.market.connect("late")
    await engine.market.drop("late")
    assert engine.market.is_ready("late"), "what is connected stays"
    await engine.market.drop("unknown")


@pytest.mark.expected_warnings("late is out of reach")
async def test_a_venue_that_never_got_connected_makes_way_for_another(engine: EngineDesk) -> None:
    venues = engine.market._venues
    first, second = (FakeDataVenue(engine.clock, "late", instruments=()) for _ in range(2))
    first.refuse_connect = [VenueUnavailable("keys are missing")] * 10
    venues["late"] = first  # type: ignore[index]
    engine.market.connect("late")
    await until(lambda: "late" in engine.store.venues and engine.store.venues["late"].reason, what="it is tried")
    await engine.market.drop("late")
    assert first.closed
    venues["late"] = second  # type: ignore[index]
    engine.market.connect("late")
    await until(lambda: engine.market.is_ready("late"), what="the other one is connected")
