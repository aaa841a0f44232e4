"""Retries, back-off and circuit breakers."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from koc_qt.domain.errors import HeldBack, RiskRefused, VenueRejected, VenueTimeout, VenueUnavailable
from koc_qt.resilience import SAFE_TO_REREAD, Backoff, Breaker, BreakerChange, Breakers, transient_retry
from tests.conditions import until
from tests.fakes.clock import FakeClock


class Naps:
    """A sleep that only remembers how long it was asked to sleep."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)
        await asyncio.sleep(0)


class Venue:
    """Answers with the given outcomes in turn, the last one for ever."""

    def __init__(self, *outcomes: Exception | str) -> None:
        self._outcomes = iter(outcomes)
        self._last: Exception | str = "nothing"
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        self._last = next(self._outcomes, self._last)
        if isinstance(self._last, Exception):
            raise self._last
        return self._last


async def test_retries_what_was_certainly_not_sent() -> None:
    venue, naps = Venue(VenueUnavailable("down"), ConnectionRefusedError(), "ok"), Naps()
    assert await transient_retry(sleep=naps)(venue)() == "ok"
    assert venue.calls == 3
    assert len(naps.taken) == 2


async def test_jitter_grows_and_is_bounded() -> None:
    naps = Naps()
    with pytest.raises(VenueUnavailable):
        await transient_retry(attempts=60, total_s=1e6, first_wait_s=1, max_wait_s=4, sleep=naps)(
            Venue(VenueUnavailable("down"))
        )()
    assert all(0 <= nap <= ceiling for nap, ceiling in zip(naps.taken, [1, 2, *[4] * 57], strict=True))
    assert len(set(naps.taken)) > 50, "random, so that clients do not come back all at once"


@pytest.mark.parametrize(
    "error", [VenueRejected("no"), VenueTimeout("?"), TimeoutError(), RiskRefused("kill switch"), KeyError("bug")]
)
async def test_never_repeats_what_may_have_happened_or_was_refused(error: Exception) -> None:
    venue = Venue(error, "ok")
    with pytest.raises(type(error)):
        await transient_retry(sleep=Naps())(venue)()
    assert venue.calls == 1


async def test_reads_may_be_repeated_after_a_timeout() -> None:
    assert (
        await transient_retry(on=SAFE_TO_REREAD, sleep=Naps())(Venue(VenueTimeout("?"), TimeoutError(), "ok"))() == "ok"
    )


async def test_gives_up_after_the_attempts_with_the_last_error_as_it_was() -> None:
    first, last = VenueUnavailable("first"), VenueUnavailable("last")
    venue = Venue(first, last)
    with pytest.raises(VenueUnavailable) as caught:
        await transient_retry(attempts=2, sleep=Naps())(venue)()
    assert caught.value is last
    assert venue.calls == 2


async def test_a_venue_that_asks_for_patience_beyond_the_total_is_not_asked_again() -> None:
    error = VenueUnavailable("banned")
    error.retry_after_s = 120.0
    venue, naps = Venue(error), Naps()
    with pytest.raises(VenueUnavailable):
        await transient_retry(total_s=30, sleep=naps)(venue)()
    assert venue.calls == 1
    assert naps.taken == []


async def test_waits_at_least_as_long_as_the_venue_asks() -> None:
    error = VenueUnavailable("busy")
    error.retry_after_s = 20.0
    naps = Naps()
    assert await transient_retry(total_s=30, sleep=naps)(Venue(error, "ok"))() == "ok"
    assert naps.taken == [20.0]


async def test_a_hung_attempt_is_cut_off() -> None:
    cancelled = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(VenueTimeout, match="hang did not finish within"):
        await transient_retry(total_s=0.02)(hang)()
    assert cancelled.is_set()


async def test_a_breaker_needs_no_listener() -> None:
    breaker = Breaker("kraken", FakeClock(), fail_max=1)
    await fail(breaker, 1)
    assert breaker.state == "open"


async def test_its_sleep_can_be_cancelled() -> None:
    venue = Venue(VenueUnavailable("down"))
    task = asyncio.create_task(_retry_for_long(venue))
    await until(lambda: venue.calls == 1, what="the first attempt")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert venue.calls == 1


async def _retry_for_long(venue: Venue) -> str:
    error_waits = transient_retry(total_s=7200, first_wait_s=3600, max_wait_s=3600)
    return await error_waits(venue)()


async def test_arguments_and_name_pass_through() -> None:
    @transient_retry()
    async def fetch(symbol: str, *, limit: int) -> tuple[str, int]:
        return symbol, limit

    assert await fetch("BTC/USDT", limit=5) == ("BTC/USDT", 5)
    assert fetch.__name__ == "fetch"


def test_backoff_grows_to_its_ceiling_and_begins_anew() -> None:
    backoff = Backoff(first_s=1, max_s=8)
    for _ in range(50):
        backoff.reset()
        waits = [backoff.next_s() for _ in range(6)]
        assert all(0 <= wait <= ceiling for wait, ceiling in zip(waits, [1, 2, 4, 8, 8, 8], strict=True))


def breaker_with_log(clock: FakeClock) -> tuple[Breaker, list[BreakerChange]]:
    changes: list[BreakerChange] = []
    return Breakers(clock, changes.append).breaker("binance"), changes


async def fail(breaker: Breaker, times: int, error: Exception | None = None) -> None:
    for _ in range(times):
        with pytest.raises((VenueUnavailable, VenueTimeout)):
            await breaker.call(Venue(error or VenueUnavailable("down")))


async def test_opens_after_five_failures_and_says_until_when() -> None:
    clock = FakeClock()  # 22:13:20 UTC
    breaker, changes = breaker_with_log(clock)
    await fail(breaker, 4)
    assert (breaker.state, breaker.failures) == ("closed", 4)
    await fail(breaker, 1, VenueTimeout("no answer"))
    assert breaker.state == "open"
    assert changes == [BreakerChange("binance", "closed", "open", clock.time_ns())]
    venue = Venue("ok")
    clock.advance(10)
    says = r"binance failed 5 times .* until 22:13:50 UTC and then tried again by itself \(no answer\)"
    with pytest.raises(VenueUnavailable, match=says) as caught:
        await breaker.call(venue)
    assert caught.value.retry_after_s == pytest.approx(20)
    assert venue.calls == 0


async def test_closes_after_a_good_trial() -> None:
    clock = FakeClock()
    breaker, changes = breaker_with_log(clock)
    await fail(breaker, 5)
    clock.advance(30)
    assert await breaker.call(Venue("ok")) == "ok"
    assert (breaker.state, breaker.failures) == ("closed", 0)
    assert [(c.old, c.new) for c in changes] == [("closed", "open"), ("open", "half-open"), ("half-open", "closed")]


async def test_a_failed_trial_opens_it_for_another_full_term() -> None:
    clock = FakeClock()
    breaker, changes = breaker_with_log(clock)
    await fail(breaker, 5)
    clock.advance(31)
    await fail(breaker, 1)
    assert breaker.state == "open"
    assert [c.new for c in changes] == ["open", "half-open", "open"]
    clock.advance(29)
    with pytest.raises(VenueUnavailable, match="left alone"):
        await breaker.call(Venue("ok"))
    clock.advance(1)
    assert await breaker.call(Venue("ok")) == "ok"


async def test_setting_the_wall_clock_changes_nothing() -> None:
    clock = FakeClock()
    breaker, _ = breaker_with_log(clock)
    await fail(breaker, 5)
    clock.set_wall(clock.time_ns() + 3_600_000_000_000)
    with pytest.raises(VenueUnavailable, match="left alone"):
        await breaker.call(Venue("ok"))


async def test_the_callers_own_faults_and_our_bugs_do_not_count() -> None:
    breaker, changes = breaker_with_log(FakeClock())
    await fail(breaker, 4)
    for error in itertools.repeat(KeyError("bug"), 10):
        with pytest.raises(KeyError):
            await breaker.call(Venue(error))
    assert breaker.failures == 4, "a bug of ours is neither an answer nor a failure of the venue"
    with pytest.raises(VenueRejected):
        await breaker.call(Venue(VenueRejected("unknown symbol")))
    assert breaker.failures == 0, "an answer, even no, shows that the venue is there"
    assert changes == []


async def test_what_we_held_back_says_nothing_of_the_venue() -> None:
    clock = FakeClock()
    breaker, changes = breaker_with_log(clock)
    await fail(breaker, 4)
    await fail(breaker, 10, HeldBack("the kill switch is engaged"))
    assert (breaker.failures, changes) == (4, [])
    await fail(breaker, 1)
    clock.advance(30)
    await fail(breaker, 1, HeldBack("the kill switch is engaged"))
    assert breaker.state == "half-open", "the trial is still to be made"
    assert await breaker.call(Venue("ok")) == "ok"
    assert breaker.state == "closed"


async def test_success_forgets_earlier_failures() -> None:
    breaker, _ = breaker_with_log(FakeClock())
    await fail(breaker, 4)
    await breaker.call(Venue("ok"))
    await fail(breaker, 4)
    assert breaker.state == "closed"


async def test_half_open_lets_one_call_through_at_a_time() -> None:
    clock = FakeClock()
    breaker, _ = breaker_with_log(clock)
    await fail(breaker, 5)
    clock.advance(30)
    answer = asyncio.Event()

    async def slow() -> str:
        await answer.wait()
        return "ok"

    trial = asyncio.create_task(breaker.call(slow))
    await until(lambda: breaker.state == "half-open", what="the trial")
    other = Venue("ok")
    with pytest.raises(VenueUnavailable, match="being tried"):
        await breaker.call(other)
    assert other.calls == 0
    answer.set()
    assert await trial == "ok"
    assert await breaker.call(other) == "ok"


async def test_a_cancelled_trial_makes_room_for_another() -> None:
    clock = FakeClock()
    breaker, _ = breaker_with_log(clock)
    await fail(breaker, 5)
    clock.advance(30)
    trial = asyncio.create_task(breaker.call(lambda: asyncio.sleep(3600)))
    await until(lambda: breaker.state == "half-open", what="the trial")
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial
    assert breaker.state == "half-open"
    assert await breaker.call(Venue("ok")) == "ok"
    assert breaker.state == "closed"


async def test_late_results_of_calls_begun_before_it_opened_are_ignored() -> None:
    clock = FakeClock()
    breaker, changes = breaker_with_log(clock)
    answer = asyncio.Event()

    async def slow() -> str:
        await answer.wait()
        return "ok"

    call = asyncio.create_task(breaker.call(slow))
    await asyncio.sleep(0)
    await fail(breaker, 5)
    answer.set()
    assert await call == "ok"
    assert breaker.state == "open"
    assert len(changes) == 1


def test_one_breaker_a_venue() -> None:
    breakers = Breakers(FakeClock(), fail_max=1)
    assert breakers.breaker("binance") is breakers.breaker("binance")
    assert breakers.breaker("binance") is not breakers.breaker("kraken")
    assert breakers.states() == {"binance": "closed", "kraken": "closed"}


async def test_what_cannot_wait_passes_an_open_breaker_and_its_answer_closes_it() -> None:
    clock = FakeClock()
    breaker, changes = breaker_with_log(clock)
    await fail(breaker, 5)
    for _ in range(3):
        with pytest.raises(VenueTimeout):
            await breaker.call(Venue(VenueTimeout("still down")), insist=True)
    assert breaker.state == "open"
    clock.advance(29)
    with pytest.raises(VenueUnavailable, match="left alone"):
        await breaker.call(Venue("ok"))
    assert await breaker.call(Venue("ok"), insist=True) == "ok"
    assert (breaker.state, breaker.failures) == ("closed", 0)
    assert [change.new for change in changes] == ["open", "closed"]
    await fail(breaker, 5)
    with pytest.raises(VenueRejected):
        await breaker.call(Venue(VenueRejected("unknown order")), insist=True)
    assert breaker.state == "closed", "no is an answer too"


async def test_what_cannot_wait_counts_like_any_other_call_while_closed_and_is_no_trial() -> None:
    clock = FakeClock()
    breaker, _ = breaker_with_log(clock)
    for _ in range(5):
        with pytest.raises(VenueUnavailable):
            await breaker.call(Venue(VenueUnavailable("down")), insist=True)
    assert breaker.state == "open"
    clock.advance(30)
    answer = asyncio.Event()

    async def slow() -> str:
        await answer.wait()
        return "ok"

    trial = asyncio.create_task(breaker.call(slow))
    await until(lambda: breaker.state == "half-open", what="the trial")
    assert await breaker.call(Venue("ok"), insist=True) == "ok"
    assert breaker.state == "closed"
    answer.set()
    assert await trial == "ok"
