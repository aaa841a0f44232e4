"""What is known of a build: its stages, how far it is, what it lacked and made. Pure, on a clock that is handed in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from koc_qt.ui.panels.deploy_build_events import (
    MOST_ROWS,
    End,
    Event,
    Failed,
    Need,
    Plan,
    Progress,
    Result,
    StageChanged,
    clipped,
)

WAITING, RUNNING, DONE, SKIPPED, FAILED = "waiting", "running", "done", "skipped", "failed"
_OVER = (DONE, SKIPPED)
_STATES = (WAITING, RUNNING, DONE, SKIPPED, FAILED)
_LEAST_S = 1.0  # a stage counts as this long at least, so that each moves the bar


@dataclass
class Stage:
    """A stage of the build. `planned_s` is how long it is thought to take, `took_s` how long it took."""

    name: str
    title: str
    planned_s: float
    state: str = WAITING
    took_s: float | None = None
    fraction: float = 0.0  # as it was said; 0 where nothing was
    began_s: float = 0.0

    @property
    def weight(self) -> float:
        """Its share of the bar."""
        return max(_LEAST_S, self.planned_s)


@dataclass
class Book:
    """Takes in the events of one run of the build. `clock_s` gives seconds that never go back."""

    clock_s: Callable[[], float]
    stages: list[Stage] = field(default_factory=list)
    needs: list[Need] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    failure: Failed | None = None
    is_ok: bool | None = None  # once it has said its last word
    is_cancelled: bool = False
    _remaining: tuple[float, float] | None = None  # seconds, and when that was said
    _said: float | None = None  # how far it said it is

    def take(self, event: Event) -> None:
        """Note an event; what makes no sense changes nothing."""
        match event:
            case Plan():
                self._plan(event)
            case StageChanged():
                self._stage(event)
            case Progress():
                self._progress(event)
            case Need():
                need = msgspec.structs.replace(event, text=clipped(event.text), advice=clipped(event.advice))
                if len(self.needs) < MOST_ROWS and need not in self.needs:
                    self.needs.append(need)
            case Result():
                if len(self.results) < MOST_ROWS:
                    self.results.append(event)
            case Failed():
                said = msgspec.structs.replace(event, text=clipped(event.text), advice=clipped(event.advice))
                self.failure = self.failure or said  # the first is why, what follows is because of it
            case End():
                self.is_ok = event.ok
            case _:
                pass

    def fraction(self) -> float:
        """Give how far it is, 0 to 1: as it said, or as its plan says."""
        if self._said is not None:
            return self._said
        whole = sum(stage.weight for stage in self.stages)
        if not whole:
            return 0.0
        done = sum(
            stage.weight * (1.0 if stage.state in _OVER else self._part(stage) if stage.state == RUNNING else 0.0)
            for stage in self.stages
        )
        return min(1.0, done / whole)

    def remaining_s(self) -> float | None:
        """Give how long it still takes, as the build said it; without that, as its plan says; None where unknown."""
        if self._remaining is not None:
            seconds, said_s = self._remaining
            return max(0.0, seconds - (self.clock_s() - said_s))
        planned = [
            stage.planned_s * (1 - self._part(stage)) for stage in self.stages if stage.state in (WAITING, RUNNING)
        ]
        return sum(planned) if any(planned) else None

    def seconds_of(self, stage: Stage) -> float | None:
        """Give how long a stage took, or has been at work until now; None before that."""
        return self.clock_s() - stage.began_s if stage.state == RUNNING else stage.took_s

    def running(self) -> Stage | None:
        """Give the stage that is at work."""
        return next((stage for stage in self.stages if stage.state == RUNNING), None)

    def fetchable(self) -> list[Need]:
        """Give what the build can fetch by itself."""
        return [need for need in self.needs if need.can_fetch]

    def stop(self, *, is_cancelled: bool = False) -> None:
        """Note that nothing runs any more: a stage at work did not end, perhaps because the person had it cancelled."""
        self.is_cancelled = is_cancelled
        for stage in self.stages:
            if stage.state == RUNNING:
                stage.took_s = self.clock_s() - stage.began_s
                stage.state = FAILED

    def _part(self, stage: Stage) -> float:
        """Give how much of a stage is done: as it said, or by the time it was planned to take."""
        if stage.state != RUNNING or stage.fraction > 0:
            return stage.fraction
        by_time = (self.clock_s() - stage.began_s) / stage.weight
        return min(0.95, by_time)

    def _plan(self, event: Plan) -> None:
        known = {stage.name: stage for stage in self.stages}
        for planned in event.stages[: MOST_ROWS - len(self.stages)]:
            if planned.name not in known:
                seconds = _finite(planned.seconds) or 0.0
                self.stages.append(Stage(planned.name, clipped(planned.title or planned.name), seconds))

    def _stage(self, event: StageChanged) -> None:
        stage = self._named(event.name)
        if stage is None and len(self.stages) < MOST_ROWS:
            stage = Stage(event.name, clipped(event.name), 0.0)
            self.stages.append(stage)
        if stage is None or event.state not in _STATES:
            return
        seconds = _finite(event.seconds)
        if event.state == RUNNING:
            stage.began_s, stage.fraction = self.clock_s() - (seconds or 0.0), 0.0
        elif stage.state == RUNNING and seconds is None:
            stage.took_s = self.clock_s() - stage.began_s
        else:
            stage.took_s = seconds
        stage.state = event.state

    def _progress(self, event: Progress) -> None:
        stage = self._named(event.name) or self.running()
        part, whole = _finite(event.stage_fraction), _finite(event.fraction)
        if stage is not None and stage.state == RUNNING and part is not None:
            stage.fraction = min(1.0, part)
        if whole is not None:
            self._said = min(1.0, max(whole, self._said or 0.0))  # a bar that goes back says nothing
        remaining = _finite(event.remaining_s)
        if remaining is not None:
            self._remaining = (remaining, self.clock_s())

    def _named(self, name: str) -> Stage | None:
        return next((stage for stage in self.stages if stage.name == name), None)


def _finite(value: float | None) -> float | None:
    """Give a number of seconds, or a part, that can be one."""
    return value if value is not None and math.isfinite(value) and value >= 0 else None
