"""The bars of one series as they close: without gap or double, whatever stream and history do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.domain.bars import BarBuilder
from koc_qt.domain.errors import VenueUnavailable
from koc_qt.domain.market import Bar, Trade
from koc_qt.domain.timeframes import bar_open_ns
from koc_qt.engine import live_bars as module
from koc_qt.engine.history import HistoryService
from koc_qt.engine.live_bars import LiveBars
from tests.conditions import until
from tests.fakes.clock import FakeClock
from tests.fakes.market import MINUTE_NS, SECOND_NS, FakeDataVenue, MemoryBarStore, bars, trade
from tests.fakes.trading import BTC

START_NS = bar_open_ns(FakeClock().time_ns(), "1m") + MINUTE_NS


class Desk:
    """A series that begins 20 s into the minute START_NS; its venue remembers 30 bars from there, closes 100.5 up."""

    def __init__(self) -> None:
        self.clock = FakeClock(START_NS + 20 * SECOND_NS)
        self.venue = FakeDataVenue(self.clock)
        self.venue.history = bars(START_NS, 30)
        self.closed: list[Bar] = []
        history = HistoryService(MemoryBarStore(), {"sim": self.venue}, self.clock)
        self.live = LiveBars(BTC, "1m", history, self.closed.append, self.clock.time_ns())

    def at(self, minute: int, second: int = 0) -> int:
        """Let the clock be there; gives its time."""
        time_ns = START_NS + minute * MINUTE_NS + second * SECOND_NS
        self.clock.advance(ns=time_ns - self.clock.time_ns())
        return time_ns

    def trade(self, minute: int, second: int, price: str = "7") -> None:
        """Trade then: live bars are told from those of history by their price."""
        self.live.trade(trade(self.at(minute, second), price))

    def passed(self, minute: int, second: int = 1) -> None:
        """Let the clock pass."""
        self.live.passed(self.at(minute, second))

    @property
    def told(self) -> list[tuple[int, bool]]:
        """Which minutes were handed on, and whether they came from history."""
        return [((bar.open_time_ns - START_NS) // MINUTE_NS, bar.close != 7.0) for bar in self.closed]

    async def mended(self) -> None:
        """Wait until history has answered."""
        await until(lambda: self.live._mending is None, what="the mending")


@pytest.fixture
async def desk(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setattr(module, "MEND_PAUSE_S", 0.0)
    desk = Desk()
    yield desk
    desk.live.close()
    if desk.live._mending is not None:
        await asyncio.gather(desk.live._mending, return_exceptions=True)


async def test_the_first_bar_comes_from_history_and_the_next_from_the_stream(desk: Desk) -> None:
    desk.live.connected(desk.at(0, 20))
    desk.trade(0, 30)
    assert desk.live.forming is not None
    desk.trade(1, 10)
    desk.trade(2, 10)
    assert desk.told == []  # both wait for the first
    desk.passed(2, 11)
    await desk.mended()
    assert desk.told == [(0, True), (1, False)]
    desk.passed(3)
    assert desk.told[2:] == [(2, False)]


async def test_nothing_is_whole_before_the_stream_is_up(desk: Desk) -> None:
    desk.trade(1, 10)
    desk.passed(2)
    desk.passed(3)
    assert (desk.told, desk.venue.fetched) == ([], [])
    desk.live.connected(desk.at(3, 30))  # the subscription took three minutes
    desk.trade(4, 1)
    desk.passed(4, 5)
    await desk.mended()
    desk.passed(5)
    assert desk.told == [(0, True), (1, True), (2, True), (3, True), (4, False)]


async def test_an_interruption_longer_than_a_bar(desk: Desk) -> None:
    desk.live.connected(desk.at(0, 20))
    desk.passed(1)
    await desk.mended()
    desk.trade(1, 10)
    desk.live.interrupted(desk.at(1, 30))
    desk.live.interrupted(desk.at(2, 30))  # said twice
    desk.passed(4)
    assert desk.told == [(0, True)]
    desk.live.connected(desk.at(6, 10))
    desk.trade(6, 20)
    desk.trade(7, 20)
    desk.passed(7, 30)
    await desk.mended()
    desk.passed(8)
    assert desk.told == [*((minute, True) for minute in range(7)), (7, False)]


async def test_a_stream_that_died_in_silence_is_mended_from_its_last_trade(desk: Desk) -> None:
    desk.live.connected(desk.at(0, 20))
    desk.passed(1)
    await desk.mended()
    desk.trade(1, 10)
    desk.trade(2, 10)
    # nothing is heard from 2:10 on; the adapter finds out at 3:40, when no bar of 2 has closed yet
    desk.live.interrupted(desk.at(3, 40))
    desk.live.connected(desk.at(3, 45))
    desk.passed(4)
    await desk.mended()
    assert desk.told == [(0, True), (1, False), (2, True), (3, True)]


async def test_a_quiet_market_is_not_asked_for_hours(desk: Desk) -> None:
    desk.live.connected(desk.at(0, 20))
    desk.passed(1)
    await desk.mended()
    desk.trade(1, 10)
    desk.passed(2)
    desk.live.interrupted(desk.at(20, 10))
    desk.live.connected(desk.at(20, 20))
    desk.passed(21)
    await desk.mended()
    assert desk.told == [(0, True), (1, False), (18, True), (19, True), (20, True)]


async def test_connected_said_twice_mends_what_may_be_missing_between(desk: Desk) -> None:
    desk.live.connected(desk.at(0, 20))
    desk.live.connected(desk.at(0, 40))
    desk.passed(1)
    await desk.mended()
    desk.live.connected(desk.at(2, 10))
    desk.trade(2, 20)
    desk.passed(3)
    await desk.mended()
    assert desk.told == [(0, True), (2, True)]


async def test_an_interruption_while_history_is_asked(desk: Desk) -> None:
    desk.venue.answer = asyncio.Event()
    desk.live.connected(desk.at(0, 20))
    desk.trade(1, 10)
    desk.passed(1, 20)
    await until(lambda: desk.venue.fetched, what="the question")
    desk.live.interrupted(desk.at(1, 40))
    desk.venue.answer.set()
    await desk.mended()
    assert desk.told == [(0, True)]
    desk.live.connected(desk.at(3, 40))
    desk.trade(4, 10)
    desk.passed(4, 20)
    await desk.mended()
    desk.passed(5)
    assert desk.told == [(0, True), (1, True), (2, True), (3, True), (4, False)]


@pytest.mark.expected_warnings("could not be completed from history .no answer")
async def test_an_interruption_while_history_fails_loses_nothing(desk: Desk) -> None:
    desk.venue.answer = asyncio.Event()
    desk.venue.refuse_fetch = VenueUnavailable("no answer")
    desk.live.connected(desk.at(0, 20))
    desk.trade(0, 30)
    desk.passed(1, 20)
    await until(lambda: desk.venue.fetched, what="the question")
    desk.live.interrupted(desk.at(1, 40))
    desk.venue.answer.set()
    await desk.mended()
    assert desk.told == [(0, False)]  # as the stream saw it
    desk.venue.refuse_fetch = None
    desk.live.connected(desk.at(3, 40))
    desk.passed(4)
    await desk.mended()
    assert desk.told == [(0, False), (1, True), (2, True), (3, True)]


@pytest.mark.expected_warnings("could not be completed from history .history did not answer within 0")
async def test_history_that_never_answers(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEND_TIMEOUT_S", 0.001)
    desk.venue.answer = asyncio.Event()
    desk.live.connected(desk.at(0, 20))
    desk.trade(0, 30)
    desk.trade(1, 10)
    desk.passed(1, 20)
    await desk.mended()
    desk.passed(2)
    assert desk.told == [(0, False), (1, False)]


@pytest.mark.expected_warnings("could not be completed from history .RuntimeError", "nobody foresaw")
async def test_history_that_breaks(desk: Desk) -> None:
    desk.venue.refuse_fetch = RuntimeError("a bug")
    desk.live.connected(desk.at(0, 20))
    desk.trade(0, 30)
    desk.passed(1)
    await desk.mended()
    assert desk.told == [(0, False)]


async def test_a_bar_that_the_venue_publishes_late_is_asked_for_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MEND_TRIES", 10_000)
    first = desk.venue.history.pop(0)
    desk.live.connected(desk.at(0, 20))
    desk.trade(0, 30)
    desk.passed(1)
    await until(lambda: len(desk.venue.fetched) >= 2, what="a second question")
    desk.venue.history.insert(0, first)
    await desk.mended()
    assert desk.told == [(0, True)]


@pytest.mark.expected_warnings("it lacks 1 of them")
async def test_a_bar_that_history_never_has_is_as_the_stream_saw_it(desk: Desk) -> None:
    del desk.venue.history[1]
    desk.live.connected(desk.at(0, 20))
    desk.trade(0, 30)
    desk.trade(1, 30)
    desk.live.interrupted(desk.at(1, 40))
    desk.live.connected(desk.at(1, 50))
    desk.passed(2)
    await desk.mended()
    assert desk.told == [(0, True), (1, False)]
    assert len(desk.venue.fetched) == module.MEND_TRIES


async def test_the_last_bars_of_a_symbol_that_ends(desk: Desk) -> None:
    desk.live.connected(desk.at(0, 20))
    desk.passed(1)
    await desk.mended()
    desk.trade(1, 10)
    desk.trade(2, 10)
    desk.live.ended(desk.at(2, 20))
    desk.passed(3)
    await desk.mended()
    assert desk.told == [(0, True), (1, False), (2, True)]
    desk.live.connected(desk.at(5, 20))  # somebody asked for it again
    desk.trade(5, 30)
    desk.passed(6)
    await desk.mended()
    assert desk.told[3:] == [(3, True), (4, True), (5, True)]


async def test_an_end_while_the_stream_is_down(desk: Desk) -> None:
    desk.live.connected(desk.at(0, 20))
    desk.live.interrupted(desk.at(1, 10))
    desk.live.ended(desk.at(2, 20))
    desk.passed(3)
    await desk.mended()
    assert desk.told == [(0, True), (1, True), (2, True)]


async def test_a_venue_whose_clock_is_behind_its_trades(desk: Desk) -> None:
    desk.live.connected(desk.at(0, 20))
    desk.passed(1)
    await desk.mended()
    desk.trade(1, 50)
    desk.trade(2, 0)  # closes minute 1
    desk.live.interrupted(START_NS + MINUTE_NS + 59 * SECOND_NS)
    desk.live.connected(START_NS + MINUTE_NS + 59 * SECOND_NS)
    desk.passed(3)
    await desk.mended()
    assert desk.told == [(0, True), (1, False), (2, True)]


@pytest.mark.expected_warnings("1 bars of sim:BTC/USDT 1m wait for history")
async def test_what_waits_is_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_LIMIT", 1)
    desk.venue.answer = asyncio.Event()
    desk.live.connected(desk.at(0, 20))
    desk.trade(0, 30)
    desk.passed(1)
    await until(lambda: desk.venue.fetched, what="the question")
    desk.trade(1, 10)
    desk.passed(2)
    assert desk.told == [(0, False)]
    desk.venue.answer.set()
    await desk.mended()
    assert desk.told == [(0, False), (1, False)]


async def test_closing_while_history_is_asked(desk: Desk) -> None:
    desk.venue.answer = asyncio.Event()
    desk.live.connected(desk.at(0, 20))
    desk.passed(1)
    await until(lambda: desk.venue.fetched, what="the question")
    mending = desk.live._mending
    assert mending is not None
    desk.live.close()
    await asyncio.gather(mending, return_exceptions=True)
    assert mending.cancelled()
    assert desk.told == []


SECONDS = st.lists(st.integers(1, 14 * 60), min_size=1, max_size=60, unique=True).map(sorted)
OUTAGES = st.lists(st.tuples(st.integers(1, 12 * 60), st.integers(1, 200)), max_size=4)


@given(seconds=SECONDS, outages=OUTAGES, slow=st.booleans())
def test_live_and_mended_are_what_the_venue_traded(
    seconds: list[int], outages: list[tuple[int, int]], slow: bool
) -> None:
    """Whenever the stream is down, and however slow history is: each bar with trades comes once, in order, whole."""
    down = {second for since, length in outages for second in range(since, since + length)}
    trades: dict[int, Trade] = {
        second: trade(START_NS + second * SECOND_NS, str(100 + second), str(Decimal(second))) for second in seconds
    }
    builder = BarBuilder(BTC, "1m")
    true = [bar for one in trades.values() for bar in builder.add(one)]
    true += builder.close_until(START_NS + 60 * MINUTE_NS)

    async def run() -> list[Bar]:
        clock = FakeClock(START_NS)
        venue = FakeDataVenue(clock)
        venue.history = true
        told: list[Bar] = []
        live = LiveBars(
            BTC, "1m", HistoryService(MemoryBarStore(), {"sim": venue}, clock), told.append, clock.time_ns()
        )
        is_up = False
        for second in range(20 * 60):
            clock.advance(ns=START_NS + second * SECOND_NS - clock.time_ns())
            if is_up != (second not in down):
                is_up = second not in down
                (live.connected if is_up else live.interrupted)(clock.time_ns())
            if is_up and second in trades:
                live.trade(trades[second])
            live.passed(clock.time_ns())
            while live._mending is not None and not (slow and second % 60 < 30):
                await asyncio.wait([live._mending])
        return told

    assert asyncio.run(run()) == true
