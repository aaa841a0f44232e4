"""Bands of how equity went: in draws of trades at the times of the real ones, and in runs over one stretch."""

from __future__ import annotations

import math
from itertools import pairwise
from random import Random

import pytest

from koc_qt.domain.fan import PERCENTILES, POINTS, Fan, fan_of_runs, places_of
from koc_qt.domain.monte_carlo import TradeDraws, draw_trades
from tests.unit.domain.examples import MINUTE_NS, START_NS

PNLS = [10.0, -5.0, 20.0, -15.0, 7.0, 3.0, -8.0, 12.0, -4.0, 6.0]
CLOSED_NS = [START_NS + (number + 1) * MINUTE_NS for number in range(len(PNLS))]


def draw(pnls: list[float] = PNLS, closed_ns: list[int] = CLOSED_NS, *, replace: bool = False) -> TradeDraws:
    found = draw_trades(
        pnls, 100.0, 400, Random(3), replace=replace, closed_ns=closed_ns, since_ns=START_NS
    )  # fmt: skip
    assert found is not None
    return found


def fan_of(found: TradeDraws) -> Fan:
    assert found.fan is not None
    return found.fan


def test_trades_in_another_order_spread_out_and_meet_at_the_end() -> None:
    fan = fan_of(draw())
    assert fan.count == 400
    assert fan.times_ns == (START_NS, *CLOSED_NS)
    assert fan.observed == (100.0, 110.0, 105.0, 125.0, 110.0, 117.0, 120.0, 112.0, 124.0, 120.0, 126.0)
    assert len(fan.bands) == len(PERCENTILES)
    assert [band[0] for band in fan.bands] == [100.0] * 5
    assert [band[-1] for band in fan.bands] == pytest.approx([126.0] * 5)
    widths = [high - low for low, high in zip(fan.bands[0], fan.bands[-1], strict=True)]
    assert max(widths) == max(widths[3:8]) > 20
    assert all(list(column) == sorted(column) for column in zip(*fan.bands, strict=True))


def test_trades_drawn_again_end_as_their_distribution_says() -> None:
    found = draw(replace=True)
    assert [band[-1] for band in fan_of(found).bands] == pytest.approx(found.final.percentiles)


def test_without_times_there_is_no_fan_and_everything_else_is_the_same() -> None:
    plain = draw_trades(PNLS, 100.0, 400, Random(3), replace=False)
    assert plain is not None
    assert plain.fan is None
    found = draw()
    assert (plain.final, plain.drawdown, plain.worse) == (found.final, found.drawdown, found.worse)


def test_of_trades_closed_at_one_time_the_last_counts() -> None:
    one_ns, two_ns = START_NS + MINUTE_NS, START_NS + 2 * MINUTE_NS
    times, places = places_of([one_ns, one_ns, two_ns], START_NS)
    assert (times, places.tolist()) == ([START_NS, one_ns, two_ns], [0, 2, 3])
    times, places = places_of([START_NS, one_ns], START_NS)  # closed in the moment in which all begins
    assert (times, places.tolist()) == ([START_NS, one_ns], [1, 2])
    times, places = places_of([START_NS], START_NS + 1)
    assert (times, places.tolist()) == ([START_NS], [1])


def test_there_are_as_many_moments_as_can_be_told_apart() -> None:
    count = 5_000
    closed_ns = [START_NS + number * MINUTE_NS for number in range(1, count + 1)]
    times, places = places_of(closed_ns, START_NS)
    assert len(times) == len(places) == POINTS
    assert (places[0], places[-1], times[-1]) == (0, count, closed_ns[-1])
    assert all(later > earlier for earlier, later in pairwise(times))
    assert len(fan_of(draw([1.0, -2.0] * 2_500, closed_ns)).times_ns) == POINTS


def test_runs_are_looked_at_in_the_same_moments() -> None:
    end_ns = START_NS + 159 * MINUTE_NS
    low = ([START_NS, START_NS + MINUTE_NS, end_ns], [100.0, 90.0, 80.0])
    high = ([START_NS, START_NS + 80 * MINUTE_NS], [100.0, 140.0])  # it ends earlier, and stays where it was
    fan = fan_of_runs([low, high], low)
    assert fan is not None
    assert (fan.count, len(fan.times_ns), fan.times_ns[0], fan.times_ns[-1]) == (2, POINTS, START_NS, end_ns)
    assert [band[0] for band in fan.bands] == [100.0] * 5
    assert [band[1] for band in fan.bands] == pytest.approx([90.5, 92.5, 95.0, 97.5, 99.5])
    assert [band[-1] for band in fan.bands] == pytest.approx([83.0, 95.0, 110.0, 125.0, 137.0])
    assert fan.observed[:2] == (100.0, 90.0)
    assert fan.observed[-1] == 80.0


def test_what_was_may_have_begun_before() -> None:
    runs = [([START_NS, START_NS + 10], [100.0, value]) for value in (90.0, 120.0)]
    fan = fan_of_runs(runs, ([START_NS - MINUTE_NS, START_NS, START_NS + 10], [100.0, 150.0, 155.0]))
    assert fan is not None
    assert len(fan.times_ns) == 11
    assert fan.observed == (*[100.0] * 10, 105.0)
    for unknown in (None, ([], []), ([START_NS + 1], [100.0]), ([START_NS], [math.nan])):
        without = fan_of_runs(runs, unknown)
        assert without is not None
        assert without.observed == ()


def test_of_too_few_runs_or_no_time_there_is_no_fan() -> None:
    one = ([START_NS, START_NS + 10], [100.0, 90.0])
    assert fan_of_runs([one]) is None
    assert fan_of_runs([one, ([], []), ([START_NS, START_NS + 5], [100.0, math.inf])]) is None
    moment = ([START_NS], [100.0])
    assert fan_of_runs([moment, moment]) is None
