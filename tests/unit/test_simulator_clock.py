"""Market time of the simulated venues."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.adapters.venues.simulator.clock import SimulatedClock, week_start_ns
from koc_qt.domain.errors import ConfigError
from koc_qt.domain.timeframes import DAY_NS, SECOND_NS
from tests.fakes.clock import FakeClock

WALL_NS = 1_704_110_400_000_000_000  # Monday 2024-01-01T12:00Z


def test_at_speed_one_market_time_is_wall_time() -> None:
    wall = FakeClock(WALL_NS + 987_654_321)
    assert SimulatedClock(wall, WALL_NS - DAY_NS, WALL_NS - DAY_NS).time_ns() == wall.time_ns()


def test_a_minute_passes_in_a_second_at_speed_sixty() -> None:
    wall = FakeClock(WALL_NS)
    clock = SimulatedClock(wall, WALL_NS, 5 * DAY_NS, 60.0)
    assert clock.time_ns() == 5 * DAY_NS
    start_ns = clock.monotonic_ns()
    wall.advance(1.0)
    assert clock.time_ns() == 5 * DAY_NS + 60 * SECOND_NS
    assert clock.monotonic_ns() - start_ns == 60 * SECOND_NS


@given(st.integers(0, 10**18), st.integers(0, 10**12), st.floats(0.001, 3600))
def test_market_time_never_runs_backwards(elapsed_ns: int, step_ns: int, speed: float) -> None:
    wall = FakeClock(WALL_NS + elapsed_ns)
    clock = SimulatedClock(wall, WALL_NS, WALL_NS, speed)
    before_ns = clock.time_ns()
    wall.advance(ns=step_ns)
    passed_ns = clock.time_ns() - before_ns
    assert passed_ns >= 0
    assert passed_ns == pytest.approx(step_ns * speed, rel=1e-3, abs=2)


@pytest.mark.parametrize("speed", [0.0, -5.0, float("nan"), 3600.5])
def test_a_speed_outside_its_bounds_is_refused(speed: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and at most 3600"):
        SimulatedClock(FakeClock(), 0, 0, speed)


def test_the_week_starts_on_monday() -> None:
    monday_ns = WALL_NS - DAY_NS // 2
    assert week_start_ns(monday_ns) == monday_ns
    assert week_start_ns(monday_ns + 7 * DAY_NS - 1) == monday_ns
    assert week_start_ns(monday_ns - 1) == monday_ns - 7 * DAY_NS
