"""Downloads: how far they are, a few at a time, and what is left of one that is stopped or fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from koc_qt.domain.errors import BadTimeframe, InvalidOrder, KocError, VenueRejected, VenueTimeout, VenueUnavailable
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.state import DownloadSnapshot, JobState
from koc_qt.domain.timeframes import bar_open_ns
from koc_qt.engine import downloads as module
from koc_qt.engine import history as history_module
from koc_qt.engine.bus import Bus
from koc_qt.engine.downloads import AT_ONCE, FINISHED_KEPT, UNDER_WAY_LIMIT, Downloads
from koc_qt.engine.history import HistoryService
from koc_qt.engine.market_data import MarketData
from koc_qt.engine.store import Store
from koc_qt.link.messages import DownloadChanged
from tests.conditions import until
from tests.fakes.bar_venue import BarVenue
from tests.fakes.clock import FakeClock
from tests.fakes.market import MINUTE_NS, MemoryBarStore, bars
from tests.fakes.trading import BTC, BTC_RULES, ETH_RULES

NOW_NS = bar_open_ns(FakeClock().time_ns(), "1m")
SINCE_NS = NOW_NS - 100 * MINUTE_NS


class Desk:
    """Downloads from a venue that has a hundred bars, in pages of ten, each when a test lets it come."""

    def __init__(self) -> None:
        self.clock, self.store, self.bus = FakeClock(), Store(), Bus()
        self.venue = BarVenue("sim", self.clock, (BTC_RULES, ETH_RULES), ("1m",))
        self.venue.bars["BTC/USDT", "1m"] = bars(SINCE_NS, 100)
        self.venue.gate = asyncio.Semaphore(0)
        venues = {"sim": self.venue}
        self.bars = MemoryBarStore()
        self.history = HistoryService(self.bars, venues, self.clock)
        self.market = MarketData(self.store, self.bus, self.clock, venues, self.history)
        self.downloads = Downloads(self.store, self.bus, self.clock, self.market, self.history)
        self.told: list[DownloadSnapshot] = []
        self.bus.subscribe(DownloadChanged, lambda fact: self.told.append(fact.download))

    def let(self, pages: int) -> None:
        assert self.venue.gate is not None
        for _ in range(pages):
            self.venue.gate.release()

    async def start(self, since_ns: int = SINCE_NS, until_ns: int = NOW_NS) -> str:
        return await self.downloads.start(BTC, "1m", since_ns, until_ns)

    def now(self, key: str) -> DownloadSnapshot:
        return next(one for one in self.downloads.all if one.download_id == key)

    async def ended(self, key: str) -> DownloadSnapshot:
        await until(lambda: self.now(key).state is not JobState.RUNNING, what=f"{key} to end")
        return self.now(key)


@pytest.fixture
async def desk(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setattr(history_module, "_TURN_BARS", 10)  # progress with every page
    desk = Desk()
    await desk.market.start()
    yield desk
    await desk.downloads.close()
    await desk.market.close()


async def test_one_from_beginning_to_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHOWN_EVERY_S", 0.0)
    key = await desk.start()
    assert desk.told == [desk.now(key)]
    first = desk.told[0]
    assert (first.instrument, first.timeframe, first.since_ns, first.until_ns) == (BTC, "1m", SINCE_NS, NOW_NS)
    assert (first.state, first.progress, first.bars, first.reason) == (JobState.RUNNING, 0.0, 0, "")
    desk.let(3)
    await until(lambda: desk.told[-1].bars == 30, what="three pages")
    assert desk.told[-1].progress == pytest.approx(0.3)
    desk.let(20)
    done = await desk.ended(key)
    assert (done.state, done.progress, done.bars, done.reason) == (JobState.DONE, 1.0, 100, "")
    assert desk.told[-1] == done
    assert [one.progress for one in desk.told] == sorted(one.progress for one in desk.told)
    again = await desk.ended(await desk.start())  # all is there
    assert (again.state, again.progress, again.bars) == (JobState.DONE, 1.0, 0)


async def test_it_is_shown_at_most_so_often_and_its_end_always(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHOWN_EVERY_S", 600.0)  # no machine is that slow
    desk.let(100)
    key = await desk.start()
    done = await desk.ended(key)
    assert len(desk.told) <= 3  # the beginning, the end, and one between
    assert desk.told[-1] == done
    assert desk.downloads._pauses == {}


async def test_what_was_held_back_is_shown_later(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHOWN_EVERY_S", 0.02)
    key = await desk.start()
    desk.let(5)
    await until(lambda: desk.told[-1].bars == 50, what="the fifth page to be shown, though nothing follows it")
    assert desk.now(key).state is JobState.RUNNING


async def test_one_that_is_stopped_keeps_what_it_fetched(desk: Desk) -> None:
    key = await desk.start()
    desk.let(4)
    await until(lambda: desk.now(key).bars == 40, what="four pages")
    await desk.downloads.stop(key)
    stopped = desk.now(key)
    assert (stopped.state, stopped.bars, stopped.reason) == (JobState.STOPPED, 40, "")
    assert desk.told[-1] == stopped
    assert desk.bars.series(5)[0].bars == 40
    await desk.downloads.stop(key)  # once more does no harm
    assert desk.now(key) == stopped
    desk.let(100)
    rest = await desk.ended(await desk.start())
    assert (rest.state, rest.bars) == (JobState.DONE, 60)
    with pytest.raises(InvalidOrder, match="there is no download 'nope'"):
        await desk.downloads.stop("nope")


async def test_one_that_is_stopped_before_it_began(desk: Desk) -> None:
    key = await desk.start()
    await desk.downloads.stop(key)
    assert desk.now(key).state is JobState.STOPPED


async def test_errors_are_said(desk: Desk, expected_warnings: list[str]) -> None:
    desk.let(100)
    desk.venue.failures = {2: VenueTimeout("sim does not answer"), 3: RuntimeError("a bug")}
    failed = await desk.ended(await desk.start())
    assert (failed.state, failed.reason, failed.bars) == (JobState.FAILED, "sim does not answer", 20)
    odd = await desk.ended(await desk.start())
    assert (odd.state, odd.reason) == (
        JobState.FAILED,
        "an error in K.O.C. itself, the log says more: RuntimeError",
    )
    assert "download-2 failed in a way nobody foresaw: a bug" in expected_warnings[0]
    assert (await desk.ended(await desk.start())).state is JobState.DONE


async def test_a_few_at_a_time_and_not_too_many_in_all(desk: Desk) -> None:
    keys = [await desk.start(SINCE_NS + number * MINUTE_NS) for number in range(UNDER_WAY_LIMIT)]
    await until(lambda: len(desk.downloads._tasks) == UNDER_WAY_LIMIT)
    assert desk.now(keys[0]).reason == ""
    await until(
        lambda: [desk.now(key).reason for key in keys[AT_ONCE:]] == [module.WAITING] * (UNDER_WAY_LIMIT - AT_ONCE)
    )
    with pytest.raises(InvalidOrder, match="32 downloads are under way already"):
        await desk.start()
    await desk.downloads.stop(keys[-1])  # one that waits
    assert desk.now(keys[-1]).state is JobState.STOPPED
    await desk.downloads.stop(keys[0])
    await until(lambda: desk.now(keys[AT_ONCE]).reason == "", what="the next to begin")
    desk.let(1_000)
    for key in keys:
        await desk.ended(key)
    assert {desk.now(key).state for key in keys[1:-1]} == {JobState.DONE}
    assert sum(desk.now(key).bars for key in keys) == 99  # the first bar was wanted by the first alone; none came twice


async def test_the_newest_that_ended_are_kept(desk: Desk) -> None:
    desk.let(1_000)
    running = await desk.start()
    await desk.ended(running)
    keys = [await desk.start() for _ in range(UNDER_WAY_LIMIT)]
    for key in keys:
        await desk.ended(key)
    more = [await desk.start() for _ in range(UNDER_WAY_LIMIT)]
    for key in more:
        await desk.ended(key)
    kept = [one.download_id for one in desk.downloads.all]
    assert len(kept) == FINISHED_KEPT
    assert kept[-1] == more[-1]
    assert running not in kept


@pytest.mark.parametrize(
    ("instrument", "timeframe", "span", "error", "match"),
    [
        (BTC, "1m", (NOW_NS, NOW_NS), InvalidOrder, "must end after it begins"),
        (BTC, "1m", (NOW_NS, SINCE_NS), InvalidOrder, "must end after it begins"),
        (BTC, "soon", (SINCE_NS, NOW_NS), BadTimeframe, "soon"),
        (BTC, "1s", (SINCE_NS, NOW_NS), VenueRejected, "has no '1s' bars"),
        (BTC, "1m", (-(10**30), 10**30), InvalidOrder, "more than one download may have"),
        (InstrumentId("sim", "../x"), "1m", (SINCE_NS, NOW_NS), InvalidOrder, "no symbol '../x'"),
        (InstrumentId("nowhere", "BTC/USDT"), "1m", (SINCE_NS, NOW_NS), VenueUnavailable, "no venue"),
    ],
)
async def test_what_cannot_be_downloaded(
    desk: Desk,
    instrument: InstrumentId,
    timeframe: str,
    span: tuple[int, int],
    error: type[KocError],
    match: str,
) -> None:
    with pytest.raises(error, match=match):
        await desk.downloads.start(instrument, timeframe, *span)
    assert desk.downloads.all == ()


async def test_longer_bars_are_made_of_shorter_ones(desk: Desk) -> None:
    desk.let(100)
    done = await desk.ended(await desk.downloads.start(BTC, "5m", SINCE_NS, NOW_NS))
    assert done.state is JobState.DONE
    assert desk.bars.series(5)[0].timeframe == "1m"


async def test_a_span_in_the_future_has_nothing(desk: Desk) -> None:
    done = await desk.ended(await desk.start(NOW_NS + MINUTE_NS, NOW_NS + 9 * MINUTE_NS))
    assert (done.state, done.bars) == (JobState.DONE, 0)


async def test_the_end_of_the_engine_stops_all_and_keeps_what_came(desk: Desk) -> None:
    keys = [await desk.start(), await desk.start()]
    desk.let(2)
    await until(lambda: sum(desk.now(key).bars for key in keys) == 20, what="two pages")
    await desk.downloads.close()
    assert {desk.now(key).state for key in keys} == {JobState.STOPPED}
    assert desk.bars.series(5)[0].bars == 20
    with pytest.raises(InvalidOrder, match="the engine is stopping"):
        await desk.start()
