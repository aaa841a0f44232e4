"""History: only what is missing is fetched, what is fetched is checked and kept, and callers share the work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from koc_qt.adapters.parquet_bars import ParquetBarStore
from koc_qt.adapters.venues.simulator import SimulatorVenue
from koc_qt.domain.bars import resample
from koc_qt.domain.errors import BadBars, BadTimeframe, VenueRejected, VenueTimeout, VenueUnavailable
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.domain.timeframes import DAY_NS, SECOND_NS, duration_ns
from koc_qt.engine import history as history_module
from koc_qt.engine.history import HistoryService
from koc_qt.ports.bars import BarSeries, Span
from tests.conditions import until
from tests.fakes.bar_venue import BarVenue
from tests.fakes.clock import FakeClock

MINUTE_NS = 60 * SECOND_NS
START_NS = 1_709_251_200_000_000_000  # 2024-03-01T00:00Z
NOW_NS = START_NS + 600 * MINUTE_NS + 30 * SECOND_NS
X = InstrumentId("venue", "X/Y")
MINUTES = BarSeries(X, "1m")
INSTRUMENT = Instrument(X, "X", "Y", Decimal("0.01"), Decimal("0.01"))


def minute(number: int) -> int:
    return START_NS + number * MINUTE_NS


def minutes(since: int, until_: int) -> Span:
    return Span(minute(since), minute(until_))


def make_bars(numbers: Sequence[int], timeframe: str = "1m") -> list[Bar]:
    step_ns = duration_ns(timeframe)
    return [Bar(X, timeframe, START_NS + n * step_ns, 100 + n, 102 + n, 99.5 + n, 101 + n, n / 8) for n in numbers]


class Desk:
    """A venue with ten hours of minutes, a store, and the service on both."""

    def __init__(self, folder: Path, page_bars: int = 10) -> None:
        self.clock = FakeClock(NOW_NS)
        self.venue = BarVenue("venue", self.clock, [INSTRUMENT], ["1m", "1h"], page_bars)
        self.all = make_bars(range(600))
        self.venue.bars[("X/Y", "1m")] = self.all
        self.venue.bars[("X/Y", "1h")] = resample(self.all, "1h")
        self.store = ParquetBarStore(folder)
        self.history = self.restarted()

    def restarted(self) -> HistoryService:
        return HistoryService(self.store, {"venue": self.venue}, self.clock)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


# ---- only what is missing ------------------------------------------------------------------------------------------


async def test_bars_are_fetched_once(desk: Desk) -> None:
    for service in (desk.history, desk.history, desk.restarted()):
        assert await service.bars(MINUTES, minutes(100, 200)) == desk.all[100:200]
    assert desk.venue.asked == [minutes(100, 200)]


async def test_only_the_gaps_are_asked_for(desk: Desk) -> None:
    await desk.history.fill(MINUTES, minutes(100, 120))
    await desk.history.fill(MINUTES, minutes(140, 150))
    desk.venue.asked.clear()
    assert await desk.history.bars(MINUTES, minutes(90, 160)) == desk.all[90:160]
    assert desk.venue.asked == [minutes(90, 100), minutes(120, 140), minutes(150, 160)]


async def test_a_span_is_moved_to_whole_closed_bars(desk: Desk) -> None:
    span = Span(minute(590) + 1, NOW_NS + DAY_NS)
    assert await desk.history.bars(MINUTES, span) == desk.all[591:600]
    assert desk.venue.asked == [minutes(591, 600)]


@pytest.mark.parametrize(
    "span", [minutes(5, 5), minutes(9, 5), Span(NOW_NS, NOW_NS + DAY_NS), Span(1 - 2**63, -(2**62))]
)
async def test_an_empty_span_asks_nothing(desk: Desk, span: Span) -> None:
    assert await desk.history.bars(MINUTES, span) == []
    assert desk.venue.asked == []


async def test_minutes_without_trades_are_not_asked_for_again(desk: Desk) -> None:
    desk.venue.bars[("X/Y", "1m")] = [bar for bar in desk.all if not minute(120) <= bar.open_time_ns < minute(180)]
    first = await desk.history.bars(MINUTES, minutes(110, 170))
    assert first == desk.all[110:120]
    assert await desk.history.bars(MINUTES, minutes(100, 180)) == desk.all[100:120]
    assert desk.venue.asked == [minutes(110, 170), minutes(100, 110), minutes(170, 180)]


async def test_a_bar_that_comes_late_is_asked_for_again(desk: Desk) -> None:
    newest = desk.venue.bars[("X/Y", "1m")].pop()
    assert await desk.history.bars(MINUTES, minutes(590, 600)) == desk.all[590:600]
    desk.all.append(newest)
    assert await desk.history.bars(MINUTES, minutes(590, 600)) == desk.all[590:600]
    assert desk.venue.asked == [minutes(590, 600), minutes(599, 600)]


async def test_a_bar_that_never_comes_is_given_up(desk: Desk) -> None:
    desk.venue.bars[("X/Y", "1m")] = desk.all[:599]
    for _ in range(2):
        assert await desk.history.bars(MINUTES, minutes(590, 600)) == desk.all[590:599]
    desk.clock.advance(180)
    for _ in range(2):
        assert await desk.history.bars(MINUTES, minutes(590, 600)) == desk.all[590:599]
    assert len(desk.venue.asked) == 3


# ---- what comes is checked -----------------------------------------------------------------------------------------


def spoilt(bars: list[Bar], row: int, **changes: object) -> list[Bar]:
    fields = {name: getattr(bars[row], name) for name in Bar.__struct_fields__} | changes
    return [*bars[:row], Bar(**fields), *bars[row + 1 :]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"high": 1.0}, "row 3"),
        ({"close": float("nan")}, "row 3"),
        ({"volume": -1.0}, "row 3"),
        ({"open_time_ns": minute(23) + 1}, "row 3"),
        ({"open_time_ns": minute(22)}, "row 3"),
        ({"timeframe": "5m"}, "row 3"),
        ({"instrument": InstrumentId("venue", "Z")}, "row 3"),
    ],
)
async def test_a_bad_page_is_refused_with_its_row_and_those_before_are_kept(
    desk: Desk, changes: dict[str, object], words: str
) -> None:
    desk.venue.bars[("X/Y", "1m")] = spoilt(desk.all, 23, **changes)
    with pytest.raises(BadBars, match=f"venue sent bars that cannot be used: .*{words}"):
        await desk.history.bars(MINUTES, minutes(0, 40))
    assert desk.store.read(MINUTES, minutes(0, 600)) == desk.all[:20]
    desk.venue.bars[("X/Y", "1m")] = desk.all
    desk.venue.asked.clear()
    assert await desk.history.bars(MINUTES, minutes(0, 40)) == desk.all[:40]
    assert desk.venue.asked == [minutes(20, 40)]


async def test_a_page_that_goes_back_is_refused(desk: Desk) -> None:
    desk.venue.bars[("X/Y", "1m")] = desk.all[:20] + desk.all[15:40]
    with pytest.raises(BadBars, match=r"row 0 opens at .* outside the rest of the span"):
        await desk.history.bars(MINUTES, minutes(0, 40))
    assert desk.store.read(MINUTES, minutes(0, 600)) == desk.all[:20]


async def test_an_error_keeps_what_came_before_it(desk: Desk) -> None:
    desk.venue.failures[2] = VenueUnavailable("the line is down")
    with pytest.raises(VenueUnavailable, match="the line is down"):
        await desk.history.bars(MINUTES, minutes(0, 40))
    assert desk.store.covered(MINUTES, minutes(0, 600)) == [minutes(0, 20)]
    assert await desk.history.bars(MINUTES, minutes(0, 40)) == desk.all[:40]
    assert desk.venue.given == 40


async def test_a_page_that_never_comes_is_an_error(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "PAGE_TIMEOUT_S", 0.02)
    desk.venue.gate = asyncio.Semaphore(1)
    with pytest.raises(VenueTimeout, match=r"venue gave no bars of X/Y 1m within 0.02 s"):
        await desk.history.bars(MINUTES, minutes(0, 40))
    assert desk.store.covered(MINUTES, minutes(0, 600)) == [minutes(0, 10)]


@pytest.mark.expected_warnings("damaged")
async def test_a_damaged_file_is_fetched_anew(desk: Desk, tmp_path: Path) -> None:
    await desk.history.fill(MINUTES, minutes(0, 40))
    next(tmp_path.rglob("*.parquet")).write_bytes(b"PAR1 nonsense")
    assert await desk.history.bars(MINUTES, minutes(0, 40)) == desk.all[:40]
    assert len(list(tmp_path.rglob("*.corrupt"))) == 1


async def test_unknown_venues_symbols_and_timeframes_are_named(desk: Desk) -> None:
    with pytest.raises(VenueRejected, match=r"no venue 'nowhere'.*there are: venue"):
        await desk.history.bars(BarSeries(InstrumentId("nowhere", "X"), "1m"), minutes(0, 5))
    with pytest.raises(VenueRejected, match="no 1m bars of Q"):
        await desk.history.bars(BarSeries(InstrumentId("venue", "Q"), "1m"), minutes(0, 5))
    with pytest.raises(VenueRejected, match=r"no '5s' bars .* it has 1m, 1h"):
        await desk.history.bars(BarSeries(X, "5s"), minutes(0, 5))
    with pytest.raises(BadTimeframe):
        await desk.history.bars(BarSeries(X, "soon"), minutes(0, 5))


# ---- sharing, progress, cancelling ---------------------------------------------------------------------------------


async def test_callers_of_one_series_share_the_work(desk: Desk) -> None:
    spans = [minutes(0, 100), minutes(50, 150), minutes(0, 100), minutes(20, 80)]
    answers = await asyncio.gather(*(desk.history.bars(MINUTES, span) for span in spans))
    for span, bars in zip(spans, answers, strict=True):
        assert bars == [bar for bar in desk.all if span.since_ns <= bar.open_time_ns < span.until_ns]
    assert desk.venue.given == 150


async def test_a_short_request_does_not_wait_for_a_long_one(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "_TURN_BARS", 10)
    desk.venue.gate = asyncio.Semaphore(1)
    long = asyncio.create_task(desk.history.fill(MINUTES, minutes(0, 500)))
    await until(lambda: desk.venue.pages == 1, what="the first page")
    short = asyncio.create_task(desk.history.last(MINUTES, 10))

    async def released() -> bool:
        assert desk.venue.gate is not None
        if desk.venue.gate.locked():
            desk.venue.gate.release()
        await asyncio.sleep(0)
        return short.done()

    waiting: Awaitable[bool] = until(released, what="the short request")
    await waiting
    assert await short == desk.all[590:600]
    assert not long.done()
    assert desk.venue.pages < 10
    long.cancel()
    await asyncio.wait([long])


async def test_progress_rises_to_one(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "_TURN_BARS", 20)
    seen: list[tuple[float, int]] = []
    await desk.history.bars(MINUTES, minutes(0, 100), lambda fraction, bars: seen.append((fraction, bars)))
    assert seen == [(0.2, 20), (0.4, 40), (0.6, 60), (0.8, 80), (1.0, 100), (1.0, 100)]
    seen.clear()
    await desk.history.bars(MINUTES, minutes(0, 100), lambda fraction, bars: seen.append((fraction, bars)))
    assert seen == [(1.0, 0)]


@pytest.mark.parametrize("pages", [0, 1, 3])
async def test_cancelling_keeps_what_was_fetched(desk: Desk, pages: int) -> None:
    desk.venue.gate = asyncio.Semaphore(pages)
    gate = desk.venue.gate
    task = asyncio.create_task(desk.history.bars(MINUTES, minutes(0, 100)))
    await until(lambda: desk.venue.pages == pages and gate.locked() and len(desk.venue.asked) == 1, what="the pages")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert desk.store.read(MINUTES, minutes(0, 600)) == desk.all[: 10 * pages]
    desk.venue.gate = None
    assert await desk.history.bars(MINUTES, minutes(0, 100)) == desk.all[:100]
    assert desk.venue.given == 100


async def test_a_caller_goes_on_when_another_is_cancelled(desk: Desk) -> None:
    desk.venue.gate = asyncio.Semaphore(2)
    first, second = (asyncio.create_task(desk.history.bars(MINUTES, minutes(0, 50))) for _ in range(2))
    await until(lambda: desk.venue.pages == 2, what="two pages")
    first.cancel()
    desk.venue.gate.release()
    for _ in range(10):
        desk.venue.gate.release()
    assert await second == desk.all[:50]
    with pytest.raises(asyncio.CancelledError):
        await first


# ---- other timeframes, the newest bars -----------------------------------------------------------------------------


async def test_a_timeframe_that_the_venue_lacks_is_made_of_the_longest_that_fits(desk: Desk) -> None:
    five, two_hours = BarSeries(X, "5m"), BarSeries(X, "2h")
    assert desk.history.source(five) == MINUTES
    assert desk.history.source(two_hours) == BarSeries(X, "1h")
    assert await desk.history.bars(five, minutes(7, 33)) == resample(desk.all[10:35], "5m")
    assert await desk.history.bars(two_hours, minutes(0, 600)) == resample(desk.all, "2h")
    assert desk.store.covered(five, minutes(0, 600)) == []


async def test_a_longer_bar_is_not_made_before_all_of_it_is_there(desk: Desk) -> None:
    desk.venue.bars[("X/Y", "1m")] = desk.all[:599]
    five = BarSeries(X, "5m")
    assert await desk.history.bars(five, minutes(580, 600)) == resample(desk.all[580:595], "5m")
    desk.venue.bars[("X/Y", "1m")] = desk.all
    assert await desk.history.bars(five, minutes(580, 600)) == resample(desk.all[580:600], "5m")


async def test_the_last_bars_are_the_newest_closed(desk: Desk) -> None:
    assert await desk.history.last(MINUTES, 50) == desk.all[550:]
    assert await desk.history.last(MINUTES, 1) == desk.all[599:]
    assert await desk.history.last(MINUTES, 0) == []
    assert await desk.history.last(BarSeries(X, "30m"), 3) == resample(desk.all[510:], "30m")


async def test_the_last_bars_are_found_across_a_pause(desk: Desk) -> None:
    desk.venue.bars[("X/Y", "1m")] = desk.all[:200]
    assert await desk.history.last(MINUTES, 50) == desk.all[150:200]


async def test_a_young_market_gives_what_it_has(desk: Desk) -> None:
    assert await desk.history.last(MINUTES, 5000) == desk.all


async def test_a_great_count_of_long_bars_is_bounded(desk: Desk) -> None:
    assert await desk.history.last(BarSeries(X, "1w"), 5000) == []


# ---- on the simulated market ---------------------------------------------------------------------------------------


@pytest.fixture
async def simulated(tmp_path: Path) -> AsyncIterator[tuple[SimulatorVenue, Callable[[], HistoryService]]]:
    clock = FakeClock(NOW_NS)
    venue = SimulatorVenue("sim", clock)
    store = ParquetBarStore(tmp_path)
    yield venue, lambda: HistoryService(store, {"sim": venue}, clock)
    await venue.close()


async def test_history_of_the_simulated_market_is_the_same_from_the_store(
    simulated: tuple[SimulatorVenue, Callable[[], HistoryService]],
) -> None:
    venue, service = simulated
    series = BarSeries(InstrumentId("sim", "SOL/USDT"), "1m")
    span = Span(NOW_NS - 3 * DAY_NS - MINUTE_NS, NOW_NS)
    direct = [bar async for page in venue.fetch_bars("SOL/USDT", "1m", span.since_ns, span.until_ns) for bar in page]
    assert len(direct) == 3 * 1440
    assert await service().bars(series, span) == direct
    assert await service().bars(series, span) == direct
