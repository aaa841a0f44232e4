"""The budget of requests: limits are kept, what is urgent goes first, and whoever cannot be served is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.rate_budget import WAITING_LIMIT, Priority, RateBudget, Span
from koc_qt.domain.errors import VenueUnavailable
from koc_qt.domain.venues import Quota
from tests.fakes.clock import FakeClock, leap

CANCEL, ORDER, QUERY, DATA = Priority


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


Elapse = Callable[[float], Awaitable[None]]


@pytest.fixture
def elapse(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Elapse:
    """Give a function that lets so many seconds pass for the clock and the event loop, and what was due then happen."""

    async def pass_(seconds: float) -> None:
        clock.advance(seconds)
        leap(monkeypatch, seconds)
        await asyncio.sleep(0.001)

    return pass_


def budget(clock: FakeClock | SystemClock, *spans: Span) -> RateBudget:
    return RateBudget("kraken", clock, spans or (Span("weight", 10, 60.0),))


async def let_through(limits: RateBudget, priority: Priority, weight: int = 1) -> int:
    """Count how many requests go out at once."""
    count = 0
    while True:
        try:
            await limits.acquire(priority, weight, within_s=0.0)
        except VenueUnavailable:
            return count
        count += 1


async def test_data_leaves_room_for_queries_and_these_for_orders_and_these_for_cancels(clock: FakeClock) -> None:
    limits = budget(clock, Span("weight", 100, 60.0))
    assert [await let_through(limits, priority) for priority in (DATA, QUERY, ORDER, CANCEL)] == [60, 20, 15, 5]
    clock.advance(59.9)
    assert await let_through(limits, CANCEL) == 0
    clock.advance(0.2)
    assert await let_through(limits, CANCEL) == 100


async def test_any_span_as_long_as_the_limit_s_holds_no_more_than_the_limit(clock: FakeClock) -> None:
    limits = budget(clock, Span("weight", 10, 1.0), Span("day", 100, 3600.0))
    sent: list[int] = []
    for tick in range(2_000):
        for weight in (1, 3):
            try:
                await limits.acquire(CANCEL, weight, within_s=0.0)
            except VenueUnavailable:
                continue
            sent += [tick] * weight
        clock.advance(0.01)
    assert len(sent) == 100
    assert all(sum(first <= each < first + 100 for each in sent) <= 10 for first in sent)


async def test_a_span_counts_only_its_kinds_and_requests_where_it_says_so(clock: FakeClock) -> None:
    orders = Span("orders", 4, 10.0, by_weight=False, kinds=(ORDER,))
    limits = budget(clock, Span("weight", 1_000, 60.0), orders)
    assert await let_through(limits, ORDER, 20) == 3  # of four, 95 %
    assert limits.used("weight") == 60
    await limits.acquire(CANCEL)
    await limits.acquire(DATA, 5)
    assert limits.used("orders") == 3


async def test_a_request_heavier_than_its_share_waits_for_an_empty_span_and_goes(clock: FakeClock) -> None:
    limits = budget(clock)
    await limits.acquire(DATA, 50, within_s=0.0)
    assert limits.used("weight") == 50
    assert await let_through(limits, CANCEL) == 0


async def test_who_waits_goes_by_urgency_then_by_age(clock: FakeClock, elapse: Elapse) -> None:
    limits = budget(clock, Span("weight", 4, 60.0))
    for _ in range(4):
        await limits.acquire(CANCEL)
    gone: list[str] = []

    async def request(name: str, priority: Priority) -> None:
        await limits.acquire(priority, within_s=3_600.0)
        gone.append(name)

    names = (("data", DATA), ("query", QUERY), ("order 1", ORDER), ("order 2", ORDER), ("cancel", CANCEL))
    requests = asyncio.gather(*(request(*each) for each in names))
    await asyncio.sleep(0)
    for _ in names:
        await elapse(60.0)
    await requests
    assert gone == ["cancel", "order 1", "order 2", "query", "data"]


async def test_a_late_comer_does_not_overtake_its_equals(clock: FakeClock, elapse: Elapse) -> None:
    limits = budget(clock, Span("weight", 1, 60.0))
    await limits.acquire(CANCEL)
    waiting = asyncio.create_task(limits.acquire(CANCEL, within_s=3_600.0))
    await asyncio.sleep(0)
    with pytest.raises(VenueUnavailable, match="no room within 0 s"):
        await limits.acquire(CANCEL, within_s=0.0)
    await elapse(60.0)
    await waiting


async def test_what_is_urgent_goes_at_once_while_data_waits_and_the_data_still_gets_its_turn(
    clock: FakeClock, elapse: Elapse
) -> None:
    limits = budget(clock, Span("weight", 10, 60.0))
    assert await let_through(limits, DATA) == 6
    waiting = asyncio.create_task(limits.acquire(DATA, within_s=3_600.0))
    await asyncio.sleep(0)
    order = limits.acquire(ORDER, within_s=0.0)
    with pytest.raises(StopIteration):
        order.send(None)  # it is over without a turn of the loop
    assert limits.used("weight") == 7
    await elapse(60.0)
    await waiting
    assert limits.used("weight") == 1


async def test_one_that_gives_up_leaves_the_others_their_turn(clock: FakeClock, elapse: Elapse) -> None:
    limits = budget(clock, Span("weight", 1, 60.0))
    await limits.acquire(CANCEL)
    first = asyncio.create_task(limits.acquire(CANCEL, within_s=3_600.0))
    second = asyncio.create_task(limits.acquire(ORDER, within_s=3_600.0))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await elapse(60.0)
    await second
    assert limits.used("weight") == 1


async def test_a_venue_that_asks_for_it_is_left_alone_by_all(clock: FakeClock) -> None:
    limits = budget(clock)
    changes: list[float] = []
    limits.on_change = lambda: changes.append(limits.held_s)
    limits.hold(30.0)
    limits.hold(10.0)  # what it asked for first still holds
    assert changes == [30.0]
    with pytest.raises(VenueUnavailable, match="kraken asked to be left alone; it is asked again in 30 s") as caught:
        await limits.acquire(CANCEL)
    assert caught.value.retry_after_s == 30.0
    clock.advance(30)
    await limits.acquire(CANCEL)
    assert limits.held_s == 0


async def test_a_short_pause_is_waited_for() -> None:
    limits = budget(SystemClock())
    limits.hold(0.03)
    await limits.acquire(DATA)
    assert limits.held_s == 0


async def test_what_the_venue_counts_is_believed_where_it_is_more(clock: FakeClock) -> None:
    limits = budget(clock)
    await limits.acquire(ORDER)
    limits.told("weight", 9)
    limits.told("weight", 2)
    limits.told("of another program", 1_000)
    assert limits.used("weight") == 9
    assert await let_through(limits, ORDER) == 0
    assert await let_through(limits, CANCEL) == 1


@pytest.fixture
async def crowded() -> AsyncIterator[RateBudget]:
    limits = budget(SystemClock(), Span("weight", 1, 3600.0))
    await limits.acquire(CANCEL)
    tasks = [asyncio.create_task(limits.acquire(DATA, within_s=60.0)) for _ in range(WAITING_LIMIT)]
    await asyncio.sleep(0)
    yield limits
    limits.close()
    limits.close()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all("was closed" in str(outcome) for outcome in outcomes)


async def test_more_than_can_wait_are_refused_and_closing_tells_them_all(crowded: RateBudget) -> None:
    with pytest.raises(VenueUnavailable, match="1000 requests wait"):
        await crowded.acquire(CANCEL)


async def test_how_much_is_used_up_can_be_told(clock: FakeClock) -> None:
    """Also what others used, as the venue says; and no more once the span has passed."""
    limits = budget(
        clock, Span("weight", 6_000, 60.0), Span("orders", 100, 10.0, by_weight=False, kinds=(CANCEL, ORDER))
    )
    await limits.acquire(QUERY, 20)
    await limits.acquire(ORDER, 2)
    assert limits.quotas == (Quota("requests", 22, 6_000, 60.0), Quota("orders", 1, 100, 10.0))
    limits.told("weight", 340)
    clock.advance(10)
    assert limits.quotas == (Quota("requests", 340, 6_000, 60.0), Quota("orders", 0, 100, 10.0))
    clock.advance(60)
    assert [each.used for each in limits.quotas] == [0, 0]
