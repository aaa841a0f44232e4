"""Windows of a walk-forward analysis, combinations of a grid, and what the windows tell."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.domain.errors import ConfigError
from koc_qt.domain.trust import Verdict
from koc_qt.domain.walk_forward import WalkForward, Window, WindowResult, combinations, judge, windows

BAR_NS = 60_000_000_000


def test_rolling_windows_are_of_one_length_and_anchored_ones_grow() -> None:
    rolling = windows(0, 100 * BAR_NS, BAR_NS, count=3, ratio=2.0, anchored=False)
    assert [(each.since_ns // BAR_NS, each.test_ns // BAR_NS, each.until_ns // BAR_NS) for each in rolling] == [
        (0, 40, 60),
        (20, 60, 80),
        (40, 80, 100),
    ]
    anchored = windows(0, 100 * BAR_NS, BAR_NS, count=3, ratio=2.0, anchored=True)
    assert [each.since_ns for each in anchored] == [0, 0, 0]
    assert [each.test_ns for each in anchored] == [each.test_ns for each in rolling]


@given(
    st.integers(0, 10**6), st.integers(30, 5_000), st.integers(1, 10), st.sampled_from([0.5, 1.0, 3.0]), st.booleans()
)
def test_what_is_tested_lies_side_by_side_and_nothing_is_tested_that_was_chosen_on(
    since: int, bars: int, count: int, ratio: float, anchored: bool
) -> None:
    since_ns = since * BAR_NS
    until_ns = since_ns + bars * BAR_NS
    found = windows(since_ns, until_ns, BAR_NS, count=count, ratio=ratio, anchored=anchored)
    assert len(found) == count
    assert found[-1].until_ns == until_ns
    for each in found:
        assert since_ns <= each.since_ns < each.test_ns < each.until_ns
        assert (each.test_ns - since_ns) % BAR_NS == 0
    assert all(one.until_ns == two.test_ns for one, two in pairwise(found))
    assert len({each.until_ns - each.test_ns for each in found}) == 1


def test_what_makes_no_windows() -> None:
    with pytest.raises(ConfigError, match="5 bars are too few for 10 windows"):
        windows(0, 5 * BAR_NS, BAR_NS, count=10, ratio=1.0, anchored=False)
    with pytest.raises(ConfigError, match="0 bars"):
        windows(5, 0, BAR_NS, count=1, ratio=1.0, anchored=False)
    with pytest.raises(ConfigError, match="1 to 50 windows"):
        windows(0, 100 * BAR_NS, BAR_NS, count=0, ratio=1.0, anchored=False)
    with pytest.raises(ConfigError, match=r"0\.1 to 100 times"):
        windows(0, 100 * BAR_NS, BAR_NS, count=1, ratio=float("nan"), anchored=False)


def test_combinations_of_a_grid() -> None:
    assert combinations({"fast": [5, 10], "slow": [20, 50]}, 4) == [
        {"fast": 5, "slow": 20},
        {"fast": 5, "slow": 50},
        {"fast": 10, "slow": 20},
        {"fast": 10, "slow": 50},
    ]
    with pytest.raises(ConfigError, match="4 combinations, above the limit of 3"):
        combinations({"fast": [5, 10], "slow": [20, 50]}, 3)
    with pytest.raises(ConfigError, match="needs parameters"):
        combinations({}, 3)
    with pytest.raises(ConfigError, match="needs parameters"):
        combinations({"fast": []}, 3)


WINDOW = Window(0, 2 * BAR_NS, 3 * BAR_NS)


def result(return_in: float, return_out: float, trades: int = 5) -> WindowResult:
    return WindowResult(WINDOW, {"fast": 5}, return_in, return_out, trades, 4)


def test_efficiency_is_what_is_earned_a_time_out_of_sample_over_in_sample() -> None:
    found = judge([result(0.10, 0.03), result(0.10, 0.02)], anchored=False)
    assert found.efficiency == pytest.approx(0.05 / (0.2 / 2))
    assert (found.verdict, found.winners) == (Verdict.GREEN, 2)
    assert found.sentence == (
        "Out of sample it made +5.00 % in 2 windows, 2 of them above zero: 50 % of what it earned in sample in the "
        "same time."
    )
    assert msgspec.json.decode(msgspec.json.encode(found), type=WalkForward) == found


def test_what_does_not_last() -> None:
    assert judge([result(0.10, 0.01)], anchored=True).verdict is Verdict.AMBER
    assert judge([result(0.10, -0.01), result(0.1, 0.01)], anchored=True).verdict is Verdict.RED
    lucky = judge([result(-0.10, 0.01)], anchored=True)
    assert (lucky.verdict, lucky.efficiency) == (Verdict.AMBER, None)
    assert lucky.sentence.endswith(": not comparable with the -10.00 % in sample, so that may be luck.")


@pytest.mark.parametrize(("return_in", "return_out"), [(0.00005, 0.00004), (0.0002, 0.03), (0.0, 0.03)])
def test_next_to_nothing_in_sample_is_nothing_to_compare_with(return_in: float, return_out: float) -> None:
    found = judge([result(return_in, return_out)], anchored=False)
    assert (found.verdict, found.efficiency) == (Verdict.AMBER, None)
    assert "not comparable with the +0.0" in found.sentence


def test_nothing_to_judge() -> None:
    assert judge([], anchored=True) == WalkForward(Verdict.NONE, "No window was run to its end.", True)
    idle = judge([result(0.0, 0.0, trades=0)], anchored=True)
    assert (idle.verdict, idle.sentence) == (Verdict.NONE, "Out of sample it made no trade.")
