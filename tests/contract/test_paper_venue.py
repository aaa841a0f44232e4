"""The paper venue keeps the trading contract, and what is particular to it: time, order of delivery, restarts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from koc_qt.adapters.venues.paper import PaperVenue
from koc_qt.domain.errors import ConfigError
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Book, BookLevel, Quote, Side, StreamState, StreamStatus, Trade
from koc_qt.domain.matching import FillModel, MatchingEngine
from koc_qt.domain.order_state import apply
from koc_qt.domain.orders import (
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderRequest,
    OrderStatus,
    OrderSubmitted,
    OrderType,
    TimeInForce,
)
from koc_qt.domain.state import Balance
from tests.conditions import until
from tests.contract.trading_venue import TradingDesk, TradingVenueContract
from tests.fakes.clock import FakeClock

BTC = InstrumentId("sim", "BTC/USDT")
BITCOIN = Instrument(
    BTC, "BTC", "USDT", Decimal("0.01"), Decimal("0.001"), maker_fee=Decimal("0.001"), taker_fee=Decimal("0.002")
)
MS = 1_000_000


def make_venue(clock: FakeClock, *, speed: float = 1.0, **model: Any) -> PaperVenue:
    balances = [Balance("USDT", Decimal(100_000)), Balance("BTC", Decimal(100))]
    engine = MatchingEngine([BITCOIN], balances, FillModel(**model), "paper-1", random.Random(1))
    return PaperVenue("sim", engine, clock.time_ns, speed=speed)


def quote(bid: int, ask: int, time_ns: int = 0, size: int = 5) -> Quote:
    return Quote(BTC, time_ns, Decimal(bid), Decimal(size), Decimal(ask), Decimal(size))


def order(key: str, side: Side = Side.BUY, price: int | None = None, quantity: int = 1, **options: Any) -> Order:
    kind = OrderType.MARKET if price is None else OrderType.LIMIT
    limit = None if price is None else Decimal(price)
    request = OrderRequest(BTC, side, kind, Decimal(quantity), limit, **options)
    return Order(key, "strategy-1", "paper-1", request, created_ns=0, updated_ns=0)


def kinds(events: list[OrderEvent]) -> list[type[OrderEvent]]:
    return [type(event) for event in events]


@pytest.mark.parametrize("latency_ns", [0, 2 * MS])
@pytest.mark.parametrize("depth", ["quotes", "books"])
class TestPaperVenue(TradingVenueContract):
    @pytest_asyncio.fixture
    async def desk(self, latency_ns: int, depth: str) -> AsyncIterator[TradingDesk]:
        venue = make_venue(FakeClock(), latency_ns=latency_ns)

        async def show(bid: Decimal, ask: Decimal, size: Decimal) -> None:
            if depth == "quotes":
                venue.on_market(Quote(BTC, 0, bid, size, ask, size))
            else:
                venue.on_market(Book(BTC, 0, (BookLevel(bid, size),), (BookLevel(ask, size),)))

        yield TradingDesk(venue, BITCOIN, Decimal(1), show)
        await venue.close()


async def test_a_quiet_market_still_answers_after_the_latency() -> None:
    clock, events = FakeClock(), list[OrderEvent]()
    venue = make_venue(clock, latency_ns=20 * MS)
    await venue.connect(events.append)
    venue.on_market(quote(100, 101))
    started = asyncio.get_running_loop().time()
    await venue.submit(order("a"))
    await venue.cancel(order("a"))
    report = await venue.find_order(order("a"))
    assert report is not None
    assert report.status is OrderStatus.SUBMITTED
    await until(lambda: len(events) == 3, what="acceptance, fill and refusal of the cancel")
    assert asyncio.get_running_loop().time() - started >= 0.019
    # the clock stood, and yet the order took effect 20 ms later in the market's time
    assert {event.time_ns for event in events} == {clock.time_ns() + 20 * MS}
    await venue.close()


async def test_the_market_moves_time_before_the_timer_does() -> None:
    clock, events = FakeClock(), list[OrderEvent]()
    venue = make_venue(clock, latency_ns=3_600_000 * MS)
    await venue.connect(events.append)
    venue.on_market(quote(100, 101, clock.time_ns()))
    await venue.submit(order("a"))
    venue.on_market(quote(200, 201, clock.time_ns() + MS))
    assert events == []
    clock.advance(3_600)
    venue.on_market(StreamStatus(BTC, clock.time_ns(), StreamState.CONNECTED))
    assert kinds(events) == [OrderAccepted, OrderFilled]
    await venue.submit(order("b"))
    venue.on_market(quote(300, 301, clock.time_ns() + 3_600_000 * MS))
    assert kinds(events)[2:] == [OrderAccepted, OrderFilled]
    await venue.close()


async def test_speed_shortens_the_wait_and_a_clock_set_back_does_not_lengthen_it() -> None:
    clock, events = FakeClock(), list[OrderEvent]()
    venue = make_venue(clock, latency_ns=60_000 * MS, speed=6_000)
    await venue.connect(events.append)
    venue.on_market(quote(100, 101))
    await venue.submit(order("a"))
    clock.advance(0.001)
    await venue.submit(order("b"))
    clock.set_wall(0)
    await until(lambda: len(events) == 4, what="both orders to be filled")
    await venue.close()
    with pytest.raises(ConfigError, match="speed"):
        make_venue(clock, speed=0)


async def test_the_sink_is_called_in_order_and_never_from_inside_itself() -> None:
    clock, events = FakeClock(), list[OrderEvent]()
    venue = make_venue(clock)
    depth = 0

    def sink(event: OrderEvent) -> None:
        nonlocal depth
        assert depth == 0
        depth += 1
        events.append(event)
        if isinstance(event, OrderAccepted):
            venue.on_market(quote(80, 81))  # a market fact that comes of handling the event
        depth -= 1

    await venue.connect(sink)
    venue.on_market(quote(100, 101))
    await venue.submit(order("a", price=90))
    await venue.submit(order("b", price=85))
    assert events == []
    await until(lambda: len(events) == 4, what="both orders to be filled")
    assert [(type(event), event.client_order_id) for event in events] == [
        (OrderAccepted, "a"),
        (OrderAccepted, "b"),
        (OrderFilled, "a"),
        (OrderFilled, "b"),
    ]
    await venue.close()


async def test_a_market_fact_hands_over_what_a_submit_caused_first() -> None:
    clock, events = FakeClock(), list[OrderEvent]()
    venue = make_venue(clock)
    await venue.connect(events.append)
    venue.on_market(quote(100, 101))
    await venue.submit(order("a", price=90))
    venue.on_market(Trade(BTC, 1, Decimal(89), Decimal(1), Side.SELL, "t"))
    assert kinds(events) == [OrderAccepted, OrderFilled]
    await venue.close()


async def test_a_sink_that_raises_loses_no_other_event() -> None:
    clock, events = FakeClock(), list[OrderEvent]()
    venue = make_venue(clock)

    def sink(event: OrderEvent) -> None:
        events.append(event)
        if len(events) == 1:
            raise RuntimeError("a sink never raises")

    await venue.connect(sink)
    venue.on_market(quote(100, 101))
    await venue.submit(order("a", price=90))
    with pytest.raises(RuntimeError):
        venue.on_market(quote(80, 81))
    venue.on_market(quote(80, 81))
    assert kinds(events) == [OrderAccepted, OrderFilled]
    await venue.close()


async def test_an_interrupted_stream_makes_its_market_unknown() -> None:
    clock, events = FakeClock(), list[OrderEvent]()
    venue = make_venue(clock)
    await venue.connect(events.append)
    for state in (StreamState.INTERRUPTED, StreamState.ENDED):
        venue.on_market(quote(100, 101))
        venue.on_market(StreamStatus(BTC, 1, state))
        await venue.submit(order(state))
    await until(lambda: len(events) == 2, what="the rejections")
    assert kinds(events) == [OrderRejected, OrderRejected]
    await venue.close()


async def test_what_has_happened_is_handed_over_on_close_and_the_market_is_ignored_after_it() -> None:
    clock, events = FakeClock(), list[OrderEvent]()
    venue = make_venue(clock)
    venue.on_market(quote(100, 101))  # not connected yet: nobody could be told of a fill
    await venue.connect(events.append)
    await venue.submit(order("early"))
    venue.on_market(quote(100, 101))
    await venue.submit(order("a", price=90))
    await venue.close()
    assert kinds(events) == [OrderRejected, OrderAccepted]
    venue.on_market(quote(80, 81))
    await venue.connect(events.append)
    assert kinds(events) == [OrderRejected, OrderAccepted]
    venue.on_market(quote(80, 81))
    assert kinds(events)[2:] == [OrderFilled]
    await venue.close()


async def test_close_leaves_what_is_on_its_way_to_the_next_connection() -> None:
    clock, events = FakeClock(), list[OrderEvent]()
    venue = make_venue(clock, latency_ns=5 * MS)
    await venue.connect(events.append)
    venue.on_market(quote(100, 101))
    await venue.submit(order("a", price=90))
    await venue.close()
    await venue.connect(events.append)
    await until(lambda: events, what="an answer")
    assert kinds(events) == [OrderRejected]  # its market is not known any more
    await venue.close()


async def test_the_journal_is_all_that_a_new_process_needs() -> None:
    clock = FakeClock()
    known: dict[str, Order] = {}
    events: list[OrderEvent] = []

    def sink(event: OrderEvent) -> None:
        events.append(event)
        known[event.client_order_id] = apply(known[event.client_order_id], event)

    venue = make_venue(clock)
    await venue.connect(sink)
    venue.on_market(quote(100, 101))
    for sent in (
        order("filled"),
        order("part", price=101, quantity=6),
        order("resting", Side.SELL, 110),
        order("waiting", quantity=2),
        order("lost", price=50),
    ):
        known[sent.client_order_id] = apply(sent, OrderSubmitted(sent.client_order_id, 1))
        if sent.client_order_id != "lost":
            await venue.submit(sent)
    await until(lambda: known["waiting"].status is OrderStatus.ACCEPTED, what="acceptance")
    balances = {balance.currency: balance.total for balance in await venue.balances()}
    await venue.close()
    fills = [event.fill for event in events if isinstance(event, OrderFilled)]
    assert known["part"].filled_quantity == 4

    again = make_venue(clock)
    again.restore(list(known.values()), fills)
    del events[:]
    await again.connect(sink)
    assert [(type(event), event.client_order_id) for event in events] == [(OrderExpired, "waiting")]
    assert {balance.currency: balance.total for balance in await again.balances()} == balances
    assert await again.find_order(known["lost"]) is None
    for key in ("filled", "part", "resting", "waiting"):
        report = await again.find_order(known[key])
        assert report is not None
        assert report.status is known[key].status
        assert tuple(fill.fill_id for fill in report.fills) == known[key].fill_ids
    again.on_market(quote(111, 112))
    again.on_market(quote(90, 91))
    fills += [event.fill for event in events if isinstance(event, OrderFilled)]
    assert len({fill.fill_id for fill in fills}) == len(fills)
    assert known["part"].status is known["resting"].status is OrderStatus.FILLED
    await again.cancel(known["resting"])
    await again.submit(order("new", quantity=200, price=1, time_in_force=TimeInForce.GTC))
    known["new"] = order("new")
    await until(lambda: known["new"].status is OrderStatus.ACCEPTED, what="acceptance")
    await again.cancel(known["new"])
    await until(lambda: isinstance(events[-1], OrderCanceled), what="the cancel")
    await again.close()


async def test_a_check_tells_the_fees_where_all_instruments_have_the_same() -> None:
    report = await make_venue(FakeClock()).check()
    assert (report.maker_fee, report.taker_fee) == (Decimal("0.001"), Decimal("0.002"))
    assert (report.can_trade, report.can_withdraw) == (True, None)
    dearer = Instrument(InstrumentId("sim", "ETH/USDT"), "ETH", "USDT", Decimal("0.01"), Decimal("0.001"))
    engine = MatchingEngine([BITCOIN, dearer], [], FillModel(maker_fee=Decimal(0)), "paper-1", random.Random(1))
    report = await PaperVenue("sim", engine, FakeClock().time_ns).check()
    assert (report.maker_fee, report.taker_fee) == (Decimal(0), None)


async def test_a_paper_account_has_balances_and_no_positions() -> None:
    assert await make_venue(FakeClock()).positions() == ()


async def test_a_changed_order_survives_a_restart() -> None:
    clock, events = FakeClock(), list[OrderEvent]()
    venue = make_venue(clock)
    await venue.connect(events.append)
    venue.on_market(quote(100, 101))
    resting = order("a", price=90, quantity=2)
    await venue.submit(resting)
    await venue.amend(resting, Decimal(3), Decimal(91))
    await until(lambda: len(events) == 2, what="acceptance and the change")
    await venue.close()
    for event in events:
        resting = apply(resting, event)
    again = make_venue(clock)
    again.restore([resting], [])
    report = await again.find_order(resting)
    assert report is not None
    assert (report.quantity, report.price) == (Decimal(3), Decimal(91))
