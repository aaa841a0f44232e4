from __future__ import annotations

from datetime import UTC, datetime

import pytest

from koc_qt.domain.errors import StrategyError
from koc_qt.domain.state import StrategySpec
from koc_qt.engine.scheduler import DailyTimes, Scheduler
from tests.conditions import until
from tests.fakes.trading import BTC

SPEC = StrategySpec("sma", "/f/sma.py", "sim", (BTC,), "1m")


class Calls:
    def __init__(self) -> None:
        self.made: list[str] = []

    async def start(self, spec: StrategySpec) -> None:
        self.made.append(f"start {spec.strategy_id}")

    async def stop(self, strategy_id: str) -> None:
        self.made.append(f"stop {strategy_id}")
        raise StrategyError("it was not running")

    async def refresh(self) -> None:
        self.made.append("refresh")
        raise ZeroDivisionError


@pytest.mark.expected_warnings("the daily job “stop sma” failed: it was not running", "“refresh history” failed")
async def test_jobs_run_at_their_times_and_a_failing_one_harms_nobody() -> None:
    scheduler, calls = Scheduler(), Calls()
    scheduler.start([DailyTimes(SPEC, "08:00", "17:30")], calls.start, calls.stop, "00:05", calls.refresh)
    assert [job[:13] for job in sorted(scheduler.jobs)] == ["refresh histo", "start sma at ", "stop sma at 2"]
    assert any("08:00 UTC" in job for job in scheduler.jobs)
    assert any("17:30 UTC" in job for job in scheduler.jobs)
    for job in scheduler._scheduler.get_jobs():
        job.modify(next_run_time=datetime.now(UTC))
    await until(lambda: len(calls.made) == 3, what="all jobs to have run")
    assert sorted(calls.made) == ["refresh", "start sma", "stop sma"]
    assert len(scheduler.jobs) == 3
    scheduler.close()
    scheduler.close()


@pytest.mark.parametrize(
    ("start", "stop", "now", "runs"),
    [
        ("08:00", "17:30", "07:59", False),
        ("08:00", "17:30", "08:00", True),
        ("08:00", "17:30", "17:29", True),
        ("08:00", "17:30", "17:30", False),
        ("22:00", "02:00", "23:30", True),
        ("22:00", "02:00", "01:59", True),
        ("22:00", "02:00", "12:00", False),
        (None, None, "12:00", False),
    ],
)
def test_an_engine_that_starts_late_knows_what_should_run_already(
    start: str | None, stop: str | None, now: str, runs: bool
) -> None:
    time_ns = int(datetime.fromisoformat(f"2026-03-04T{now}:30+00:00").timestamp()) * 10**9
    assert DailyTimes(SPEC, start, stop).includes(time_ns) is runs


async def test_without_times_there_are_no_jobs() -> None:
    scheduler, calls = Scheduler(), Calls()
    scheduler.start([DailyTimes(SPEC, None, None)], calls.start, calls.stop, None, calls.refresh)
    assert scheduler.jobs == []
    scheduler.close()
