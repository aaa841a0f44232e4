"""What happens by the clock: daily start and stop times of strategies, and the daily refresh of history."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial

import msgspec
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger
from loguru import logger

from koc_qt.domain.errors import KocError
from koc_qt.domain.state import StrategySpec

MISFIRE_GRACE_S = 300  # a job that a suspended machine missed still runs when it wakes within this time

Job = Callable[[], Awaitable[object]]


class DailyTimes(msgspec.Struct, frozen=True):
    """When a strategy starts and stops every day, "HH:MM" UTC; None leaves that to its owner."""

    spec: StrategySpec
    start: str | None
    stop: str | None

    def includes(self, time_ns: int) -> bool:
        """Whether the strategy is to run at this time; also over midnight. False when either time is missing."""
        if self.start is None or self.stop is None:
            return False
        now, start, stop = f"{datetime.fromtimestamp(time_ns / 1e9, UTC):%H:%M}", self.start, self.stop
        return start <= now < stop if start < stop else now >= start or now < stop


class Scheduler:
    """Runs jobs at times of the day, UTC. A job that fails is logged and runs again the next day."""

    def __init__(self) -> None:
        self._scheduler = AsyncIOScheduler(timezone="UTC")
        self._running = False

    def start(
        self,
        times: Sequence[DailyTimes],
        start_strategy: Callable[[StrategySpec], Awaitable[object]],
        stop_strategy: Callable[[str], Awaitable[object]],
        refresh_at: str | None,
        refresh: Job,
    ) -> None:
        """Plan all jobs and begin."""
        for entry in times:
            name = entry.spec.strategy_id
            if entry.start is not None:
                self.daily(entry.start, f"start {name}", partial(start_strategy, entry.spec))
            if entry.stop is not None:
                self.daily(entry.stop, f"stop {name}", partial(stop_strategy, name))
        if refresh_at is not None:
            self.daily(refresh_at, "refresh history", refresh)
        self._scheduler.start()
        self._running = True

    @property
    def jobs(self) -> list[str]:
        """The names of the planned jobs, with their next time."""
        return [f"{job.name} at {job.next_run_time:%Y-%m-%d %H:%M} UTC" for job in self._scheduler.get_jobs()]

    def close(self) -> None:
        """Forget all jobs."""
        if self._running:
            self._running = False  # its own flag falls only on the loop's next turn
            self._scheduler.shutdown(wait=False)

    def daily(self, at: str, name: str, job: Job) -> None:
        """Plan a job for a time of every day, "HH:MM" UTC."""
        hour, minute = at.split(":")

        async def run() -> None:
            try:
                await job()
            except KocError as error:
                logger.error("the daily job “{}” failed: {}", name, error)
            except Exception:
                logger.exception("the daily job “{}” failed", name)

        trigger = CronTrigger(hour=int(hour), minute=int(minute), timezone="UTC")
        self._scheduler.add_job(run, trigger, name=name, misfire_grace_time=MISFIRE_GRACE_S, coalesce=True)
