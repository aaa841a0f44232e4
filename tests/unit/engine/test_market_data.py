"""Streams by who holds them, prices, bars on the clock, and venues that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import TypeVar

import pytest

from koc_qt.domain.errors import BadTimeframe, ConfigError, InvalidOrder, VenueRejected, VenueTimeout, VenueUnavailable
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar, Book, BookLevel, Quote, StreamState, StreamStatus, Trade
from koc_qt.domain.state import VenueState
from koc_qt.domain.timeframes import bar_open_ns
from koc_qt.engine import live_bars, store
from koc_qt.engine import market_data as module
from koc_qt.engine.bus import Bus
from koc_qt.engine.history import HistoryService
from koc_qt.engine.market_data import MarketData
from koc_qt.engine.store import Store
from koc_qt.link.messages import BarChanged, BookChanged, QuoteChanged, StreamChanged, TradePrinted, VenueChanged
from tests.conditions import until
from tests.fakes.clock import FakeClock
from tests.fakes.market import MINUTE_NS, SECOND_NS, FakeDataVenue, MemoryBarStore, bars, trade
from tests.fakes.trading import BTC, BTC_RULES, ETH, ETH_RULES, quote

START_NS = bar_open_ns(FakeClock().time_ns(), "1m") + MINUTE_NS


K = TypeVar("K")


class Desk:
    """Market data on one venue with two symbols."""

    def __init__(self) -> None:
        self.clock = FakeClock(START_NS + 20 * SECOND_NS)
        self.venue = FakeDataVenue(self.clock, instruments=(BTC_RULES, ETH_RULES))
        self.store, self.bus = Store(), Bus()
        venues = {"sim": self.venue}
        history = HistoryService(MemoryBarStore(), venues, self.clock)
        self.market = MarketData(self.store, self.bus, self.clock, venues, history)
        self.facts: list[object] = []
        for kind in (QuoteChanged, TradePrinted, BookChanged, BarChanged, VenueChanged, StreamStatus, StreamChanged):
            self.bus.subscribe(kind, self.facts.append)

    def got(self, kind: type[K]) -> list[K]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def at(self, minute: int, second: int = 0) -> int:
        time_ns = START_NS + minute * MINUTE_NS + second * SECOND_NS
        self.clock.advance(ns=time_ns - self.clock.time_ns())
        return time_ns

    @property
    def closed(self) -> list[int]:
        bars = [fact.bar for fact in self.facts if isinstance(fact, BarChanged) and fact.closed]
        return [(bar.open_time_ns - START_NS) // MINUTE_NS for bar in bars if bar.timeframe == "1m"]


@pytest.fixture
async def desk(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setattr(module, "TICK_S", 0.001)
    monkeypatch.setattr(live_bars, "MEND_PAUSE_S", 0.0)
    desk = Desk()
    await desk.market.start()
    await desk.market.wait_ready("sim")
    yield desk
    await desk.market.close()
    assert desk.venue.closed


# ---- who holds what


async def test_one_stream_for_all_who_want_it(desk: Desk) -> None:
    assert await desk.market.hold(BTC, "a") is BTC_RULES
    await desk.market.hold(BTC, "a")
    await desk.market.hold(BTC, "b")
    assert desk.venue.subscribed == ["BTC/USDT"]
    await desk.market.release(BTC, "a")
    await desk.market.release(BTC, "a")
    await desk.market.release(ETH, "a")
    assert (desk.venue.unsubscribed, desk.market.held) == ([], {BTC: {"b"}})
    await desk.market.release(BTC, "b")
    assert (desk.venue.unsubscribed, desk.market.held) == (["BTC/USDT"], {})


async def test_two_who_want_it_at_once_ask_once(desk: Desk) -> None:
    desk.venue.subscribing = asyncio.Event()
    both = [asyncio.create_task(desk.market.hold(BTC, owner)) for owner in "ab"]
    await until(lambda: desk.market.held.get(BTC) == {"a", "b"}, what="both to wait")
    desk.venue.subscribing.set()
    await asyncio.gather(*both)
    assert desk.venue.subscribed == ["BTC/USDT"]


async def test_who_is_refused_holds_nothing(desk: Desk) -> None:
    desk.venue.refuse_subscribe = VenueRejected("halted")
    outcomes = await asyncio.gather(*(desk.market.hold(BTC, owner) for owner in "ab"), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["halted", "halted"]
    await until(lambda: desk.market.held == {}, what="the stream to be forgotten")
    desk.venue.publish(quote())
    assert desk.store.quotes == {}
    desk.venue.refuse_subscribe = RuntimeError("a bug")
    with pytest.raises(RuntimeError):
        await desk.market.hold(BTC, "c")
    desk.venue.refuse_subscribe = None
    await desk.market.hold(BTC, "d")
    assert desk.market.held == {BTC: {"d"}}


async def test_a_venue_that_does_not_answer_a_subscription(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STREAM_TIMEOUT_S", 0.001)
    desk.venue.subscribing = asyncio.Event()
    with pytest.raises(VenueTimeout, match=r"not streamed within 0\.001 s"):
        await desk.market.hold(BTC, "a")
    await until(lambda: desk.market.held == {}, what="the stream to be forgotten")


async def test_who_gives_up_while_it_is_opened_holds_nothing(desk: Desk) -> None:
    desk.venue.subscribing = asyncio.Event()
    first, second = (asyncio.create_task(desk.market.hold(BTC, owner)) for owner in "ab")
    await until(lambda: desk.market.held.get(BTC) == {"a", "b"}, what="both to wait")
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    desk.venue.subscribing.set()
    await second
    assert (desk.venue.subscribed, desk.market.held) == (["BTC/USDT"], {BTC: {"b"}})
    desk.venue.subscribing.clear()
    third = asyncio.create_task(desk.market.hold(ETH, "a"))
    await until(lambda: ETH in desk.market.held, what="it to wait")
    third.cancel()
    await until(lambda: ETH not in desk.market.held, what="it to be forgotten")
    assert third.cancelled()
    assert desk.venue.unsubscribed == ["ETH/USDT"]  # nobody knows how far the subscription had come


@pytest.mark.expected_warnings("no longer streamed")
async def test_a_second_hold_that_is_refused_takes_nothing_from_the_first(desk: Desk) -> None:
    await desk.market.hold(BTC, "a")
    desk.venue.status(StreamState.ENDED, "halted")
    desk.venue.refuse_subscribe = VenueRejected("halted")
    with pytest.raises(VenueRejected):
        await desk.market.hold(BTC, "a")
    assert desk.market.held == {BTC: {"a"}}


@pytest.mark.expected_warnings("no longer streamed: halted")
async def test_a_stream_that_ended_is_asked_for_again(desk: Desk) -> None:
    await desk.market.hold(BTC, "a")
    desk.venue.status(StreamState.ENDED, "halted")
    desk.venue.publish(quote())
    assert desk.store.quotes == {}
    assert desk.store.venues["sim"].state is VenueState.CONNECTED
    await desk.market.hold(BTC, "b")
    desk.venue.publish(quote())
    assert desk.venue.subscribed == ["BTC/USDT", "BTC/USDT"]
    assert desk.store.quotes == {BTC: quote()}


async def test_who_comes_while_a_stream_is_ended_gets_a_new_one(desk: Desk) -> None:
    await desk.market.hold(BTC, "a")
    desk.venue.unsubscribing = asyncio.Event()
    leaving = asyncio.create_task(desk.market.release(BTC, "a"))
    await until(lambda: desk.market.held == {BTC: frozenset()}, what="the last to leave")
    coming = asyncio.create_task(desk.market.hold(BTC, "b"))
    await until(lambda: desk.market.held == {BTC: {"b"}}, what="the next to wait")
    assert desk.venue.subscribed == ["BTC/USDT"]
    desk.venue.publish(quote())
    assert desk.store.quotes == {}  # the last words of the stream that ends
    desk.venue.unsubscribing.set()
    await asyncio.gather(leaving, coming)
    assert desk.venue.subscribed == ["BTC/USDT", "BTC/USDT"]
    desk.venue.publish(quote())
    assert desk.store.quotes == {BTC: quote()}


async def test_a_release_overtaken_by_a_hold_ends_nothing(desk: Desk) -> None:
    await desk.market.hold(BTC, "a")
    stream = desk.market._streams[BTC]
    async with stream.changing:
        leaving = asyncio.create_task(desk.market.release(BTC, "a"))
        await until(lambda: desk.market.held == {BTC: frozenset()}, what="the last to leave")
        coming = asyncio.create_task(desk.market.hold(BTC, "b"))
        await until(lambda: desk.market.held == {BTC: {"b"}}, what="the next to come")
    await asyncio.gather(leaving, coming)
    assert (desk.venue.subscribed, desk.venue.unsubscribed) == (["BTC/USDT"], [])


@pytest.mark.expected_warnings("could not be unsubscribed: no answer")
async def test_a_venue_that_does_not_let_go(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STREAM_TIMEOUT_S", 0.001)
    await desk.market.hold(BTC, "a")
    desk.venue.unsubscribing = asyncio.Event()
    await desk.market.release(BTC, "a")
    assert desk.market.held == {}


async def test_prices_of_a_stream_that_ended_are_forgotten(desk: Desk) -> None:
    await desk.market.hold(BTC, "a")
    book = Book(BTC, START_NS, (BookLevel(Decimal(1), Decimal(1)),), (BookLevel(Decimal(2), Decimal(1)),))
    desk.venue.publish(quote(), trade(START_NS), book)
    assert desk.store.mark(BTC) == 100
    assert [type(fact) for fact in desk.facts[-3:]] == [QuoteChanged, TradePrinted, BookChanged]
    assert desk.market.ticks == 4
    await desk.market.release(BTC, "a")
    assert (desk.store.mark(BTC), desk.store.books) == (None, {})
    assert desk.got(StreamStatus)[-1].state is StreamState.ENDED  # paper accounts forget them too


async def test_what_is_not_there_is_said(desk: Desk) -> None:
    with pytest.raises(InvalidOrder, match=r"sim has no symbol 'btcusdt'; it has, for example, BTC/USDT$"):
        await desk.market.hold(InstrumentId("sim", "btcusdt"), "a")
    with pytest.raises(InvalidOrder, match="for example, BTC/USDT, ETH/USDT"):
        await desk.market.hold(InstrumentId("sim", "DOGE"), "a")
    with pytest.raises(VenueUnavailable, match="no venue 'nope'; there are: sim"):
        await desk.market.hold(InstrumentId("nope", "BTC/USDT"), "a")
    with pytest.raises(BadTimeframe):
        await desk.market.hold_bars(BTC, "soon", "a")
    assert desk.market.held == {}


async def test_after_the_end_nothing_is_streamed(desk: Desk) -> None:
    await desk.market.hold(BTC, "a")
    await desk.market.close()
    await desk.market.release(BTC, "a")
    with pytest.raises(VenueUnavailable, match="the engine is stopping"):
        await desk.market.hold(BTC, "a")
    assert desk.venue.subscribed == ["BTC/USDT"]


# ---- prices and listeners


async def test_listeners_hear_their_instrument_alone_and_until_they_leave(
    desk: Desk, expected_warnings: list[str]
) -> None:
    await desk.market.hold(BTC, "a")
    await desk.market.hold(ETH, "a")
    heard: list[object] = []

    def broken(_: object) -> None:
        raise ValueError("a bug in a listener")

    ends = [
        desk.market.listen(Quote, BTC, broken),
        desk.market.listen(Quote, BTC, heard.append),
        desk.market.listen(Trade, ETH, heard.append),
    ]
    desk.venue.publish(quote(), quote(instrument=ETH), trade(START_NS), trade(START_NS, instrument=ETH))
    assert heard == [quote(), trade(START_NS, instrument=ETH)]
    assert any("a listener to sim:BTC/USDT failed" in line for line in expected_warnings)
    for end in ends:
        end()
        end()
    desk.venue.publish(quote(), trade(START_NS, instrument=ETH))
    assert len(heard) == 2
    assert desk.market._listeners == {}


async def test_waiting_for_a_price(desk: Desk) -> None:
    await desk.market.hold(BTC, "a")
    await desk.market.wait_priced(BTC, timeout_s=0.001)
    waiting = asyncio.create_task(desk.market.wait_priced(BTC))
    await until(lambda: desk.market._listeners, what="it to listen")
    desk.venue.publish(trade(START_NS))
    await waiting
    await desk.market.wait_priced(BTC, timeout_s=0)
    assert desk.market._listeners == {}


def test_a_price_of_nothing() -> None:
    assert store.Store().mark(BTC) is None


# ---- bars


async def test_bars_for_whoever_wants_them(desk: Desk) -> None:
    desk.venue.history = bars(START_NS, 30)
    heard: list[Bar] = []
    desk.market.listen(Bar, BTC, heard.append)
    await desk.market.hold_bars(BTC, "1m", "a")
    await desk.market.hold_bars(BTC, "1m", "b")
    await desk.market.hold_bars(BTC, "1s", "a")
    desk.venue.publish(trade(desk.at(1, 10)))
    desk.venue.publish(trade(desk.at(2, 10)))
    await until(lambda: desk.closed == [0, 1], what="the bars")
    await until(lambda: {bar.timeframe for bar in heard} == {"1m", "1s"}, what="those of seconds too")
    assert desk.store.bars[BTC, "1m"].open_time_ns == START_NS + MINUTE_NS
    desk.market.release_bars(BTC, "1m", "a")
    desk.market.release_bars(BTC, "1h", "a")
    desk.market.release_bars(ETH, "1m", "a")
    assert sorted(desk.market._streams[BTC].series) == ["1m", "1s"]
    await desk.market.release(BTC, "b")
    assert sorted(desk.market._streams[BTC].series) == ["1s"]
    assert (BTC, "1m") not in desk.store.bars
    assert desk.market.held == {BTC: {"a"}}


async def test_a_forming_bar_is_published_when_it_changed(desk: Desk) -> None:
    await desk.market.hold_bars(BTC, "1m", "a")

    def forming() -> list[BarChanged]:
        return [fact for fact in desk.facts if isinstance(fact, BarChanged) and not fact.closed]

    ticks: list[None] = []
    await desk.market.hold(ETH, "a")
    tick = desk.market._tick
    desk.market._tick = lambda *args: (ticks.append(None), tick(*args))[1]  # type: ignore[method-assign]
    desk.venue.publish(trade(desk.at(0, 30)))
    await until(forming, what="a forming bar")
    count = len(ticks)
    await until(lambda: len(ticks) > count + 6, what="a few ticks")
    assert len(forming()) == 1
    desk.venue.publish(trade(desk.at(0, 31), "101"))
    await until(lambda: len(forming()) == 2, what="its change")


async def test_the_clock_closes_what_no_trade_closes(desk: Desk) -> None:
    desk.venue.history = bars(START_NS, 1)
    await desk.market.hold_bars(BTC, "1m", "a")
    desk.at(1, 1)
    await until(lambda: desk.closed == [0], what="the first bar, from history")
    desk.venue.publish(trade(desk.at(1, 30)))
    desk.at(2)
    desk.clock.advance(0.1)  # trades of the last moments may still be on their way
    assert desk.closed == [0]
    desk.clock.advance(0.1)
    await until(lambda: desk.closed == [0, 1], what="the second")


async def test_bars_wait_for_a_stream_that_is_slow_to_come_up(desk: Desk) -> None:
    desk.venue.connects_streams = False
    desk.venue.history = bars(START_NS, 30)
    await desk.market.hold_bars(BTC, "1m", "a")
    desk.at(2, 30)
    await until(lambda: desk.clock.time_ns() > START_NS and desk.closed == [], what="nothing")
    desk.venue.status(StreamState.CONNECTED)
    desk.at(3, 1)
    await until(lambda: desk.closed == [0, 1, 2], what="all of them")


async def test_an_interruption_is_shown_and_mended(desk: Desk) -> None:
    desk.venue.history = bars(START_NS, 30)
    await desk.market.hold_bars(BTC, "1m", "a")
    await desk.market.hold(ETH, "a")
    desk.at(1, 1)
    await until(lambda: desk.closed == [0], what="the first")
    desk.venue.status(StreamState.INTERRUPTED, "reset by peer")
    assert desk.store.venues["sim"].state is VenueState.INTERRUPTED
    assert desk.store.venues["sim"].reason == "sim:BTC/USDT: reset by peer"
    desk.venue.status(StreamState.CONNECTED, symbol="ETH/USDT")  # another stream being well changes nothing
    assert desk.store.venues["sim"].state is VenueState.INTERRUPTED
    desk.at(3, 10)
    desk.venue.status(StreamState.CONNECTED)
    assert desk.store.venues["sim"].state is VenueState.CONNECTED
    desk.at(4, 1)
    await until(lambda: desk.closed == [0, 1, 2, 3], what="the rest")


@pytest.mark.expected_warnings("is no longer streamed: delisted")
async def test_the_last_bar_of_a_symbol_that_ends(desk: Desk) -> None:
    desk.venue.history = bars(START_NS, 30)
    await desk.market.hold_bars(BTC, "1m", "a")
    desk.at(0, 50)
    desk.venue.status(StreamState.ENDED, "delisted")
    desk.at(1, 1)
    await until(lambda: desk.closed == [0], what="the last bar")


async def test_bars_that_are_released_while_they_are_opened(desk: Desk) -> None:
    desk.venue.subscribing = asyncio.Event()
    opening = asyncio.create_task(desk.market.hold_bars(BTC, "1m", "a"))
    await until(lambda: desk.market.held == {BTC: {"a"}}, what="it to wait")
    leaving = asyncio.create_task(desk.market.release(BTC, "a"))
    await until(lambda: desk.market.held == {BTC: frozenset()}, what="it to leave")
    desk.venue.subscribing.set()
    await asyncio.gather(opening, leaving)
    assert desk.market.held == {}


async def test_closing_ends_what_is_being_mended(desk: Desk) -> None:
    desk.venue.answer = asyncio.Event()
    await desk.market.hold_bars(BTC, "1m", "a")
    desk.at(1, 1)
    await until(lambda: desk.venue.fetched, what="the question")
    mending = desk.market._streams[BTC].series["1m"].live._mending
    assert mending is not None
    await desk.market.close()
    await asyncio.gather(mending, return_exceptions=True)
    assert mending.cancelled()


async def test_a_fault_in_one_stream_stops_no_other(desk: Desk, expected_warnings: list[str]) -> None:
    await desk.market.hold_bars(BTC, "1m", "a")
    await desk.market.hold_bars(ETH, "1m", "a")

    def broken(_: int) -> None:
        raise RuntimeError("a bug")

    desk.market._streams[BTC].series["1m"].live.passed = broken  # type: ignore[method-assign]
    desk.venue.publish(trade(desk.at(0, 30), instrument=ETH))
    await until(lambda: desk.got(BarChanged), what="the other's bar")
    assert any("the bars of sim:BTC/USDT cannot be closed" in line for line in expected_warnings)


# ---- venues


async def connected(venue: FakeDataVenue, clock: FakeClock) -> tuple[Store, MarketData]:
    own = Store()
    market = MarketData(own, Bus(), clock, {"sim": venue}, HistoryService(MemoryBarStore(), {"sim": venue}, clock))
    await market.start()
    await market.wait_ready("sim")
    return own, market


async def test_a_venue_out_of_reach_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, expected_warnings: list[str]
) -> None:
    monkeypatch.setattr(module, "RECONNECT_DELAYS_S", (0.0,))
    clock = FakeClock()
    venue = FakeDataVenue(clock)
    venue.refuse_connect = [VenueUnavailable("no route"), TimeoutError(), ConfigError("bad CA file"), OSError("odd")]
    own, market = await connected(venue, clock)
    assert (own.venues["sim"].state, own.venues["sim"].reason) == (VenueState.CONNECTED, "")
    for reason in ("no route", "no answer within 30 s", "bad CA file", "OSError: odd", "nobody foresaw"):
        assert any(reason in line for line in expected_warnings), reason
    await market.close()


class Nameless(FakeDataVenue):
    """Connects, but does not name its instruments the first time; and connects only after it was closed."""

    connected = False
    names = False

    async def connect(self, sink: object) -> None:
        if self.connected:
            raise VenueUnavailable("connected already")
        self.connected = True
        await super().connect(sink)  # type: ignore[arg-type]

    async def close(self) -> None:
        self.connected, self.names = False, True
        await super().close()

    async def instruments(self) -> tuple[Instrument, ...]:
        if not self.names:
            raise VenueUnavailable("no instruments")
        return (BTC_RULES,)


@pytest.mark.expected_warnings("next try in 0 s: no instruments")
async def test_a_venue_that_names_no_instruments_is_closed_before_the_next_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECONNECT_DELAYS_S", (0.0,))
    own, market = await connected(Nameless(clock := FakeClock()), clock)
    assert own.instrument(BTC) is BTC_RULES
    await market.close()


class Stubborn(FakeDataVenue):
    async def close(self) -> None:
        raise OSError("will not")


@pytest.mark.expected_warnings("sim did not close in order")
async def test_a_venue_that_fails_to_close() -> None:
    _, market = await connected(Stubborn(clock := FakeClock()), clock)
    await market.close()


async def test_waiting_for_a_venue_that_does_not_come(expected_warnings: list[str]) -> None:
    clock = FakeClock()
    venue = FakeDataVenue(clock)
    market = MarketData(Store(), Bus(), clock, {"sim": venue}, HistoryService(MemoryBarStore(), {}, clock))
    with pytest.raises(VenueUnavailable, match=r"sim is not connected after 0\.001 s: no answer"):
        await market.wait_ready("sim", 0.001)
    venue.refuse_connect = [VenueUnavailable("no route")]
    await market.start()
    await until(lambda: expected_warnings, what="the first try")
    with pytest.raises(VenueUnavailable, match="no route"):
        await market.wait_ready("sim", 0.001)
    await market.close()


async def test_venues_are_shown_when_something_changed(desk: Desk) -> None:
    before = len(desk.got(VenueChanged))
    desk.market.refresh_venues()
    assert len(desk.got(VenueChanged)) == before
    desk.venue.breaker_state = "open"
    await desk.market.hold(BTC, "a")
    desk.market.refresh_venues()
    assert (desk.store.venues["sim"].breaker, desk.store.venues["sim"].streams) == ("open", 1)
    await desk.market.release(BTC, "a")
    desk.market.refresh_venues()
    assert desk.store.venues["sim"].streams == 0


async def test_a_venue_that_is_not_connected_yet_is_shown_so() -> None:
    clock = FakeClock()
    own = Store()
    market = MarketData(own, Bus(), clock, {"sim": FakeDataVenue(clock)}, HistoryService(MemoryBarStore(), {}, clock))
    market._show_venue("sim", VenueState.DISCONNECTED, "no route")
    market.refresh_venues()
    assert (own.venues["sim"].state, own.venues["sim"].reason) == (VenueState.DISCONNECTED, "no route")
    assert market.time_ns("sim") == market.time_ns("nope") == clock.time_ns()


@pytest.mark.expected_warnings("settle-sim:BTC/USDT failed")
async def test_a_task_that_fails_is_told(desk: Desk) -> None:
    async def broken(symbol: str) -> None:
        raise RuntimeError("a bug")

    desk.venue.unsubscribe = broken  # type: ignore[method-assign]
    desk.venue.refuse_subscribe = VenueRejected("halted")
    with pytest.raises(VenueRejected):
        await desk.market.hold(BTC, "a")
    await until(lambda: not [t for t in desk.market._tasks if "settle" in t.get_name()], what="it to end")


@pytest.mark.expected_warnings("BTC/USDT is delayed by 15 minutes")
async def test_a_stream_that_is_delayed_is_told_to_the_person_once(desk: Desk) -> None:
    await desk.market.hold(BTC, "a")
    for _ in range(2):
        desk.venue.status(StreamState.CONNECTED, "delayed by 15 minutes")
    assert desk.store.streams[BTC].reason == "delayed by 15 minutes"
    assert desk.store.notices == ["sim:BTC/USDT is delayed by 15 minutes: its prices are not those of now"]
    assert desk.store.venues["sim"].state is VenueState.CONNECTED, "all is well with it"


@pytest.mark.expected_warnings("BTC/USDT is no longer streamed: delisted")
async def test_clients_hear_what_a_stream_does_and_those_that_come_later_can_look_it_up(desk: Desk) -> None:
    assert desk.store.streams == {}
    await desk.market.hold(BTC, "a")
    desk.venue.status(StreamState.INTERRUPTED, "the line was cut")
    assert desk.store.streams[BTC].reason == "the line was cut"
    desk.venue.status(StreamState.CONNECTED)
    desk.venue.status(StreamState.ENDED, "delisted")
    told = [(fact.stream.state, fact.stream.reason) for fact in desk.got(StreamChanged)]
    assert told == [
        (StreamState.CONNECTED, ""),
        (StreamState.INTERRUPTED, "the line was cut"),
        (StreamState.CONNECTED, ""),
        (StreamState.ENDED, "delisted"),
    ]
    assert desk.store.streams[BTC].state is StreamState.ENDED
    await desk.market.release(BTC, "a")
    assert desk.store.streams == {}
    assert len(desk.got(StreamChanged)) == 4  # that nobody follows it is no news to those who do not
    await desk.market.hold(BTC, "b")
    assert desk.store.streams[BTC].state is StreamState.CONNECTED
    assert desk.market.venues == ("sim",)
