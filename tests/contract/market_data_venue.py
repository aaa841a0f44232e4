"""What every MarketDataVenue must do, whatever is behind it.

A test module joins by a subclass that defines the `market` fixture:

    class TestMyVenue(MarketDataVenueContract):
        @pytest_asyncio.fixture
        async def market(self): ...  yield Market(venue=..., ...)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

import pytest

from koc_qt.domain.errors import VenueRejected
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar, Book, MarketEvent, Quote, StreamState, StreamStatus, Trade
from koc_qt.domain.timeframes import bar_open_ns, duration_ns
from koc_qt.domain.venues import DataStream, VenueAbilities
from koc_qt.ports.venue import MarketDataVenue
from tests.conditions import until

E = TypeVar("E")


@dataclass
class Market:
    """A venue under test, not yet connected.

    `symbol` is one that streams, `history` a span (since, until) in which it has bars of `timeframe`, at least 50.
    `flow` lets some market time pass; what becomes due reaches the sink then or soon after. Where `abilities` are
    given, only what they stream is waited for.
    """

    venue: MarketDataVenue
    symbol: str
    timeframe: str
    history: tuple[int, int]
    flow: Callable[[], Awaitable[None]]
    abilities: VenueAbilities | None = None
    events: list[MarketEvent] = field(default_factory=list)

    def of(self, kind: type[E]) -> list[E]:
        """Give the events of one kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    async def flow_until(self, condition: Callable[[], bool], what: str) -> None:
        """Let market time pass until the condition holds."""

        async def flowed() -> bool:
            await self.flow()
            return condition()

        waiting: Awaitable[bool] = until(flowed, what=what)
        await waiting

    async def bars(self, timeframe: str, since_ns: int, until_ns: int) -> list[Bar]:
        """Fetch all pages; none may be empty."""
        bars: list[Bar] = []
        async for page in self.venue.fetch_bars(self.symbol, timeframe, since_ns, until_ns):
            assert len(page) > 0
            bars.extend(page)
        return bars


class MarketDataVenueContract:
    """Tests of what a subclass's `market` fixture yields."""

    async def test_its_instruments_carry_its_name_and_usable_rules(self, market: Market) -> None:
        await market.venue.connect(market.events.append)
        instruments = await market.venue.instruments()
        assert market.symbol in [instrument.id.symbol for instrument in instruments]
        assert len({instrument.id for instrument in instruments}) == len(instruments)
        for instrument in instruments:
            assert instrument.id.venue == market.venue.name
            assert instrument.tick_size > 0
            assert instrument.lot_size > 0
            assert Decimal(0) <= instrument.maker_fee <= instrument.taker_fee < 1

    async def test_its_timeframes_are_listed_shortest_first(self, market: Market) -> None:
        lengths = [duration_ns(timeframe) for timeframe in market.venue.timeframes]
        assert lengths == sorted(set(lengths))
        assert market.timeframe in market.venue.timeframes

    async def test_a_healthy_venue_has_a_closed_breaker(self, market: Market) -> None:
        await market.venue.connect(market.events.append)
        await market.venue.instruments()
        assert market.venue.breaker_state == "closed"

    async def test_a_subscription_streams_trades_quotes_and_books(self, market: Market) -> None:
        await self._stream(market, trades=10, quotes=20, books=5)
        expected = InstrumentId(market.venue.name, market.symbol)
        assert {event.instrument for event in market.events} == {expected}
        assert market.of(StreamStatus)[0].state is StreamState.CONNECTED

    async def test_each_stream_is_in_the_order_of_its_times(self, market: Market) -> None:
        await self._stream(market, trades=10, quotes=20, books=5)
        for times in (
            [trade.time_ns for trade in market.of(Trade)],
            [quote.time_ns for quote in market.of(Quote)],
            [book.time_ns for book in market.of(Book)],
        ):
            assert times == sorted(times)

    async def test_trades_are_on_the_grid_and_come_once(self, market: Market) -> None:
        await self._stream(market, trades=20, quotes=1, books=0)
        rules = {instrument.id: instrument for instrument in await market.venue.instruments()}
        trades = market.of(Trade)
        assert len({trade.trade_id for trade in trades}) == len(trades)
        for trade in trades:
            instrument = rules[trade.instrument]
            assert trade.price > 0
            assert trade.quantity > 0
            assert trade.price % instrument.tick_size == 0
            assert trade.quantity % instrument.lot_size == 0

    async def test_quotes_and_books_are_not_crossed(self, market: Market) -> None:
        await self._stream(market, trades=0, quotes=20, books=5)
        for quote in market.of(Quote):
            assert 0 < quote.bid < quote.ask
            assert quote.bid_size > 0
            assert quote.ask_size > 0
        for book in market.of(Book):
            bids, asks = [level.price for level in book.bids], [level.price for level in book.asks]
            assert bids == sorted(set(bids), reverse=True)
            assert asks == sorted(set(asks))
            assert bids[0] < asks[0]
            assert min(level.quantity for level in book.bids + book.asks) > 0

    async def test_nothing_streams_after_unsubscribe(self, market: Market) -> None:
        await self._stream(market, trades=0, quotes=2, books=0)
        await market.venue.unsubscribe(market.symbol)
        count = len(market.of(Quote))
        for _ in range(3):
            await market.flow()
        assert len(market.of(Quote)) == count

    async def test_a_second_subscription_doubles_nothing(self, market: Market) -> None:
        await market.venue.connect(market.events.append)
        await market.venue.subscribe(market.symbol)
        await market.venue.subscribe(market.symbol)
        await market.flow_until(lambda: len(market.of(Trade)) >= 20, "twenty trades")
        trades = market.of(Trade)
        assert len({trade.trade_id for trade in trades}) == len(trades)

    async def test_an_unknown_symbol_is_rejected(self, market: Market) -> None:
        await market.venue.connect(market.events.append)
        with pytest.raises(VenueRejected, match="NO/SUCH"):
            await market.venue.subscribe("NO/SUCH")
        await market.venue.unsubscribe("NO/SUCH")

    async def test_bars_lie_in_the_span_in_order_aligned_and_consistent(self, market: Market) -> None:
        await market.venue.connect(market.events.append)
        since_ns, until_ns = market.history
        bars = await market.bars(market.timeframe, since_ns, until_ns)
        assert len(bars) >= 50
        opens = [bar.open_time_ns for bar in bars]
        assert opens == sorted(set(opens))
        assert since_ns <= opens[0]
        assert opens[-1] < until_ns
        for bar in bars:
            assert bar.instrument == InstrumentId(market.venue.name, market.symbol)
            assert bar.timeframe == market.timeframe
            assert bar_open_ns(bar.open_time_ns, market.timeframe) == bar.open_time_ns
            assert 0 < bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
            assert bar.volume >= 0

    async def test_the_spans_start_is_in_and_its_end_is_out(self, market: Market) -> None:
        await market.venue.connect(market.events.append)
        bars = await market.bars(market.timeframe, *market.history)
        some = await market.bars(market.timeframe, bars[10].open_time_ns, bars[20].open_time_ns)
        assert some == bars[10:20]

    async def test_an_empty_span_has_no_bars(self, market: Market) -> None:
        await market.venue.connect(market.events.append)
        assert await market.bars(market.timeframe, market.history[0], market.history[0]) == []

    async def test_only_closed_bars_are_given(self, market: Market) -> None:
        await market.venue.connect(market.events.append)
        length_ns = duration_ns(market.timeframe)
        now_ns = market.venue.time_ns()
        bars = await market.bars(market.timeframe, now_ns - 60 * length_ns, now_ns + 60 * length_ns)
        assert all(bar.open_time_ns + length_ns <= market.venue.time_ns() for bar in bars)

    async def test_unknown_symbols_and_timeframes_have_no_bars(self, market: Market) -> None:
        await market.venue.connect(market.events.append)
        with pytest.raises(VenueRejected, match="NO/SUCH"):
            await _first_page(market.venue, "NO/SUCH", market.timeframe, market.history)
        with pytest.raises(VenueRejected, match="7s"):
            await _first_page(market.venue, market.symbol, "7s", market.history)

    async def test_it_closes_twice_and_is_silent_then(self, market: Market) -> None:
        await self._stream(market, trades=0, quotes=2, books=0)
        await market.venue.close()
        await market.venue.close()
        count = len(market.of(Quote))
        await market.flow()
        assert len(market.of(Quote)) == count

    @staticmethod
    async def _stream(market: Market, *, trades: int, quotes: int, books: int) -> None:
        await market.venue.connect(market.events.append)
        await market.venue.subscribe(market.symbol)
        if market.abilities is not None and DataStream.BOOK not in market.abilities.streams:
            books = 0

        def enough() -> bool:
            wanted = ((Trade, trades), (Quote, quotes), (Book, books))
            return all(len(market.of(kind)) >= count for kind, count in wanted)

        await market.flow_until(enough, f"{trades} trades, {quotes} quotes and {books} books")


async def _first_page(
    venue: MarketDataVenue, symbol: str, timeframe: str, history: tuple[int, int]
) -> Sequence[Bar] | None:
    async for page in venue.fetch_bars(symbol, timeframe, *history):
        return page
    return None
