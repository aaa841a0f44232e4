"""The simulated venues keep the market data contract, and what is particular to their adapter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.venues.simulator import SimulatorVenue
from koc_qt.domain.bars import BarBuilder
from koc_qt.domain.errors import ConfigError, VenueUnavailable
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar, Book, MarketEvent, Quote, StreamState, StreamStatus, Trade
from koc_qt.domain.timeframes import DAY_NS, SECOND_NS, bar_open_ns
from tests.conditions import until
from tests.contract.market_data_venue import Market, MarketDataVenueContract
from tests.fakes.clock import FakeClock

SYMBOL = "BTC/USDT"
START_NS = 1_704_110_400_000_000_000 + 123_456_789  # 2024-01-01T12:00Z and a little
MINUTE_NS = 60 * SECOND_NS


@pytest.mark.parametrize("name", ["sim", "sim2"])
class TestSimulatorVenue(MarketDataVenueContract):
    @pytest_asyncio.fixture
    async def market(self, name: str) -> AsyncIterator[Market]:
        clock = FakeClock(START_NS)
        venue = SimulatorVenue(name, clock)

        async def flow() -> None:
            clock.advance(1.0)
            venue.emit_due()
            await asyncio.sleep(0)

        yield Market(venue, SYMBOL, "1m", (START_NS - 2 * DAY_NS, START_NS - DAY_NS), flow)
        await venue.close()


@pytest_asyncio.fixture
async def still() -> AsyncIterator[tuple[SimulatorVenue, FakeClock, list[MarketEvent]]]:
    """Give a connected venue whose clock stands, and its events."""
    clock = FakeClock(START_NS)
    venue = SimulatorVenue("sim", clock)
    events: list[MarketEvent] = []
    await venue.connect(events.append)
    yield venue, clock, events
    await venue.close()


Still = tuple[SimulatorVenue, FakeClock, list[MarketEvent]]


async def test_subscribing_before_connecting_is_refused() -> None:
    with pytest.raises(VenueUnavailable, match="not connected"):
        await SimulatorVenue("sim", FakeClock(START_NS)).subscribe(SYMBOL)


@pytest.mark.parametrize("speed", [0.0, -1.0, float("inf"), float("nan"), 1e9])
def test_an_impossible_speed_is_refused(speed: float) -> None:
    with pytest.raises(ConfigError, match="speed"):
        SimulatorVenue("sim", FakeClock(START_NS), speed=speed)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ConfigError, match="seed"):
        SimulatorVenue("sim", FakeClock(START_NS), seed=-1)


async def test_the_standing_quote_comes_at_once(still: Still) -> None:
    venue, _, events = still
    await venue.subscribe(SYMBOL)
    venue.emit_due()
    quotes = [event for event in events if isinstance(event, Quote)]
    assert len(quotes) == 1
    assert START_NS - SECOND_NS // 4 < quotes[0].time_ns <= START_NS


async def test_trades_print_at_the_touch_of_the_quote_before_them(still: Still) -> None:
    venue, _, events = still
    await venue.subscribe(SYMBOL)
    venue.emit_due(START_NS + 5 * MINUTE_NS)
    quote: Quote | None = None
    trades = 0
    for event in events:
        if isinstance(event, Quote):
            quote = event
        elif isinstance(event, Trade):
            assert quote is not None
            assert event.price == (quote.ask if event.side.sign > 0 else quote.bid)
            trades += 1
    assert trades > 300


async def test_the_book_is_ten_levels_and_begins_with_the_quote(still: Still) -> None:
    venue, _, events = still
    await venue.subscribe("XRP/USDT")
    venue.emit_due(START_NS + MINUTE_NS)
    quotes = {event.time_ns: event for event in events if isinstance(event, Quote)}
    books = [event for event in events if isinstance(event, Book)]
    assert len(books) >= 2 * 60
    for book in books:
        quote = quotes[book.time_ns]
        assert (len(book.bids), len(book.asks)) == (10, 10)
        assert (book.bids[0].price, book.bids[0].quantity) == (quote.bid, quote.bid_size)
        assert (book.asks[0].price, book.asks[0].quantity) == (quote.ask, quote.ask_size)


async def test_symbols_are_merged_in_the_order_of_time(still: Still) -> None:
    venue, _, events = still
    for symbol in (SYMBOL, "ETH/USDT", "DOGE/USDT"):
        await venue.subscribe(symbol)
    venue.emit_due(START_NS + MINUTE_NS)
    times = [event.time_ns for event in events if event.time_ns > START_NS]
    assert times == sorted(times)
    assert len({event.instrument.symbol for event in events}) == 3


async def test_subscribing_again_repeats_no_trade(still: Still) -> None:
    venue, clock, events = still
    for _ in range(40):
        await venue.subscribe(SYMBOL)
        clock.advance(0.11)
        venue.emit_due()
        await venue.unsubscribe(SYMBOL)
    trades = [event.trade_id for event in events if isinstance(event, Trade)]
    assert len(trades) > 5
    assert len(set(trades)) == len(trades)


async def test_small_batches_give_what_one_call_gives(still: Still) -> None:
    venue, _, events = still
    await venue.subscribe(SYMBOL)
    until_ns = START_NS + 20 * SECOND_NS
    while venue.emit_due(until_ns, limit=3):
        pass
    assert venue.emit_due(until_ns) == 0
    other, whole = SimulatorVenue("sim", FakeClock(START_NS)), list[MarketEvent]()
    await other.connect(whole.append)
    await other.subscribe(SYMBOL)
    other.emit_due(until_ns)
    await other.close()
    assert events == whole


async def test_a_venue_that_starts_later_continues_the_same_market(still: Still) -> None:
    venue, clock, events = still
    await venue.subscribe(SYMBOL)
    venue.emit_due(START_NS + 2 * MINUTE_NS)
    clock.advance(60)
    restarted, later = SimulatorVenue("sim", clock), list[MarketEvent]()
    await restarted.connect(later.append)
    await restarted.subscribe(SYMBOL)
    restarted.emit_due(START_NS + 2 * MINUTE_NS)
    await restarted.close()
    seen = [event for event in later if not isinstance(event, StreamStatus)]
    assert len(seen) > 300
    assert seen == [event for event in events if not isinstance(event, StreamStatus)][-len(seen) :]


async def test_the_stream_goes_over_midnight_without_gap_or_double(still: Still) -> None:
    venue, clock, events = still
    midnight_ns = (START_NS // DAY_NS + 1) * DAY_NS
    clock.advance(ns=midnight_ns - START_NS - 30 * SECOND_NS)
    await venue.subscribe(SYMBOL)
    clock.advance(60)
    venue.emit_due()
    quotes = [event.time_ns for event in events if isinstance(event, Quote)]
    assert quotes == list(range(midnight_ns - 30 * SECOND_NS, midnight_ns + 30 * SECOND_NS + 1, SECOND_NS // 4))
    trades = [event for event in events if isinstance(event, Trade)]
    assert [trade.time_ns for trade in trades] == sorted(trade.time_ns for trade in trades)
    assert len({trade.trade_id for trade in trades}) == len(trades)


@pytest.mark.parametrize(("timeframe", "minutes"), [("1s", 4), ("15s", 10), ("1m", 40), ("5m", 60)])
async def test_history_is_exactly_the_aggregation_of_the_stream(still: Still, timeframe: str, minutes: int) -> None:
    venue, clock, events = still
    await venue.subscribe(SYMBOL)
    clock.advance((minutes + 6) * 60)
    venue.emit_due()
    since_ns = bar_open_ns(START_NS, "5m") + 5 * MINUTE_NS
    until_ns = since_ns + minutes * MINUTE_NS
    builder = BarBuilder(InstrumentId("sim", SYMBOL), timeframe)
    built: list[Bar] = []
    for event in events:
        if isinstance(event, Trade) and since_ns <= event.time_ns < until_ns:
            built += builder.add(event)
    built += builder.close_until(until_ns)
    assert len(built) >= 12
    assert await _bars(venue, timeframe, since_ns, until_ns) == built


async def test_a_page_never_exceeds_ten_thousand_bars(still: Still) -> None:
    venue, _, _ = still
    sizes = [len(page) async for page in venue.fetch_bars(SYMBOL, "5s", START_NS - DAY_NS, START_NS)]
    assert max(sizes) == 10_000
    assert sum(sizes) == len(await _bars(venue, "5s", START_NS - DAY_NS, START_NS))


async def test_history_begins_with_the_venue_itself(still: Still) -> None:
    venue, _, _ = still
    bars = await _bars(venue, "1h", 0, 1_577_836_800_000_000_000 + 5 * 3600 * SECOND_NS)
    assert [bar.open_time_ns for bar in bars][:2] == [1_577_836_800_000_000_000, 1_577_840_400_000_000_000]
    assert len(bars) == 5


async def test_a_fetch_can_be_cancelled(still: Still) -> None:
    venue, _, _ = still
    task = asyncio.create_task(_bars(venue, "1m", START_NS - 365 * DAY_NS, START_NS))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_live_task_streams_by_the_clock_and_catches_up() -> None:
    wall = SystemClock()
    venue, events = SimulatorVenue("sim", wall, speed=30.0), list[MarketEvent]()
    await venue.connect(events.append)
    for symbol in (SYMBOL, "ETH/USDT"):
        await venue.subscribe(symbol)
    await until(lambda: sum(isinstance(event, Trade) for event in events) > 50, what="fifty trades")
    assert all(event.time_ns <= venue.time_ns() for event in events)
    await venue.close()


async def test_a_stream_that_is_far_behind_is_cut_and_says_so(still: Still) -> None:
    venue, clock, events = still
    await venue.subscribe(SYMBOL)
    await until(lambda: any(isinstance(event, Quote) for event in events), what="the first quote")
    clock.advance(3600)  # the machine slept

    def statuses() -> list[StreamStatus]:
        return [event for event in events if isinstance(event, StreamStatus)]

    await until(lambda: len(statuses()) == 3, what="interrupted and connected again")
    assert [status.state for status in statuses()[1:]] == [StreamState.INTERRUPTED, StreamState.CONNECTED]
    assert "3600 s late" in statuses()[1].reason
    await until(lambda: isinstance(events[-1], Book | Quote), what="a quote after the cut")
    assert len(events) < 20
    assert events[-1].time_ns > START_NS + 3599 * SECOND_NS


async def test_the_next_day_is_computed_before_midnight(still: Still) -> None:
    venue, clock, _ = still
    clock.advance(ns=(START_NS // DAY_NS + 1) * DAY_NS - START_NS - 50 * SECOND_NS)
    await venue.subscribe(SYMBOL)
    market = venue._markets[SYMBOL]
    await until(lambda: len(market._tapes) == 2, what="tomorrow's tape")


@pytest.mark.expected_warnings("the simulated market sim has stopped")
async def test_a_failure_of_the_live_task_is_told_and_logged() -> None:
    clock = FakeClock(START_NS)
    venue, events = SimulatorVenue("sim", clock), list[MarketEvent]()

    def sink(event: MarketEvent) -> None:
        if isinstance(event, Trade):
            raise RuntimeError("the sink is broken")  # noqa: TRY004
        events.append(event)

    await venue.connect(sink)
    await venue.subscribe(SYMBOL)
    clock.advance(5)
    await until(lambda: isinstance(events[-1], StreamStatus) and len(events) > 1, what="the last status")
    last = events[-1]
    assert isinstance(last, StreamStatus)
    assert last.state is StreamState.ENDED
    assert "the sink is broken" in last.reason
    await venue.close()


async def _bars(venue: SimulatorVenue, timeframe: str, since_ns: int, until_ns: int) -> list[Bar]:
    return [bar async for page in venue.fetch_bars(SYMBOL, timeframe, since_ns, until_ns) for bar in page]
