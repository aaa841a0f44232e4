"""Markets stream for as long as anything depends on them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from koc_qt.domain.errors import VenueUnavailable
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Order, OrderRequest, OrderType
from koc_qt.engine import exposure as module
from tests.conditions import until
from tests.fakes.trading import BTC, NOW_NS, fill_of, limit_buy, market_buy, quote
from tests.unit.engine.desk import EngineDesk

GONE = InstrumentId("sim", "GONE/USDT")


async def priced(engine: EngineDesk) -> None:
    await engine.market.hold(BTC, "test")
    engine.venue.publish(quote())


async def test_an_open_order_and_then_a_position_keep_it_streaming(engine: EngineDesk) -> None:
    await priced(engine)
    order = await engine.orders.submit(limit_buy(), "sma", "sim")
    await until(lambda: engine.market.held == {BTC: {"test", "exposure"}}, what="the order's hold")
    await engine.orders.submit(market_buy(), "sma", "sim")
    await engine.orders.cancel(order.client_order_id)
    await engine.orders.settle()
    assert engine.market.held == {BTC: {"test", "exposure"}}  # there is a position
    sell = OrderRequest(BTC, Side.SELL, OrderType.MARKET, market_buy().quantity)
    await engine.orders.submit(sell, "sma", "sim")
    await until(lambda: engine.market.held == {BTC: {"test"}}, what="its end")
    await engine.market.release(BTC, "test")


async def remembering(folder: Path, instrument: InstrumentId) -> EngineDesk:
    """Give an engine whose journal has an open order and a position, not started yet."""
    engine = EngineDesk(folder)
    order = Order("koc1", "sma", "sim", limit_buy(instrument=instrument), created_ns=NOW_NS, updated_ns=NOW_NS)
    engine.orders.restore([order])
    engine.ledger.restore((fill_of(order, "0.05"),))
    return engine


async def test_what_the_journal_remembers_streams_from_the_start(tmp_path: Path) -> None:
    engine = await remembering(tmp_path, BTC)
    await engine.start()
    assert engine.market.held == {BTC: {"exposure"}}
    await engine.close()


@pytest.mark.expected_warnings("sim:GONE/USDT has open orders or a position, but cannot be streamed")
async def test_what_cannot_be_streamed_holds_up_nothing_and_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warning_lines: list[str]
) -> None:
    monkeypatch.setattr(module, "START_TIMEOUT_S", 0.01)
    monkeypatch.setattr(module, "RETRY_PAUSES_S", (0.0, 0.001))
    engine = await remembering(tmp_path, GONE)
    tries: list[str] = []
    hold = engine.market.hold

    async def counted(instrument: InstrumentId, owner: str) -> object:
        tries.append(owner)
        return await hold(instrument, owner)

    engine.market.hold = counted  # type: ignore[method-assign, assignment]
    await engine.start()
    await until(lambda: len(tries) > 5, what="a few tries")
    for _ in range(3):
        engine.telemetry.show(engine.host)  # tells of the position again
    assert len(warning_lines) == 1
    assert len(engine._tasks) == 1
    position = engine.ledger.position("sma", "sim", GONE)
    engine.store.positions.clear()
    engine.store._open.clear()
    engine.exposure._look(GONE)
    await until(lambda: not engine._tasks, what="the tries to end")
    assert position.quantity
    await engine.close()


@pytest.mark.expected_warnings("cannot be streamed: no route")
async def test_a_venue_that_comes_back_is_streamed_again(engine: EngineDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_PAUSES_S", (0.001,))
    await priced(engine)
    hold, away = engine.market.hold, [VenueUnavailable("no route")]

    async def once(instrument: InstrumentId, owner: str) -> object:
        if away:
            raise away.pop()
        return await hold(instrument, owner)

    engine.market.hold = once  # type: ignore[method-assign, assignment]
    order = await engine.orders.submit(limit_buy(), "sma", "sim")
    await until(lambda: "exposure" in engine.market.held[BTC], what="the second try")
    await engine.orders.cancel(order.client_order_id)
    await engine.market.release(BTC, "test")
    await until(lambda: engine.market.held == {}, what="its end")


async def test_an_order_that_ends_while_its_stream_is_opened(engine: EngineDesk) -> None:
    await priced(engine)
    gate = asyncio.Event()
    hold = engine.market.hold

    async def slow(instrument: InstrumentId, owner: str) -> object:
        await gate.wait()
        return await hold(instrument, owner)

    engine.market.hold = slow  # type: ignore[method-assign, assignment]
    order = await engine.orders.submit(limit_buy(), "sma", "sim")
    await engine.orders.cancel(order.client_order_id)
    await engine.orders.settle()
    gate.set()
    await until(lambda: not engine._tasks, what="everything to end")
    assert engine.market.held == {BTC: {"test"}}
    await engine.market.release(BTC, "test")
