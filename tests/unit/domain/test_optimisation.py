"""What an optimisation searches, and which of its trials lead."""

from __future__ import annotations

from typing import Any

import pytest

from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.constraints import Constraint
from koc_qt.domain.errors import ConfigError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.optimisation import (
    CHECKPOINTS,
    Fulfils,
    Leaders,
    MedianFloor,
    Method,
    Objective,
    ParameterRange,
    StudyOrigin,
    StudySnapshot,
    StudySpec,
    Trial,
    TrialState,
    corners,
    grid,
    grid_size,
)
from koc_qt.domain.state import JobState

BASE = BacktestSpec("sma.py", (InstrumentId("sim", "BTC/USDT"),), "1m", 0, 10, parameters={"size": 2})
FAST = ParameterRange("fast", 5, 20, 5, whole=True)
SLOW = ParameterRange("slow", 10, 30, 10, whole=True)
RATIO = ParameterRange("ratio", 0.1, 1.1)


def trial(number: int, *values: float | None, state: TrialState = TrialState.DONE) -> Trial:
    return Trial(number, {"fast": number}, state, dict(zip(("sharpe", "max_drawdown"), values, strict=False)))


# ---- ranges


def test_a_range_has_whole_steps() -> None:
    assert [FAST.value(place) for place in range(FAST.count or 0)] == [5, 10, 15, 20]
    assert all(type(FAST.value(place)) is int for place in range(4))
    tenths = ParameterRange("ratio", 0.1, 1.1, 0.1)
    assert tenths.count == 11
    assert [tenths.value(place) for place in (0, 2, 10)] == [0.1, 0.3, 1.1]
    assert ParameterRange("fast", 1, 3, whole=True).count == 3
    assert ParameterRange("fast", 1, 9.5, 5).ends() == (1.0, 6.0)


def test_a_range_has_choices_or_no_steps() -> None:
    modes = ParameterRange("mode", choices=("a", "b", "c"))
    assert (modes.count, modes.value(1), modes.at(0.99), modes.ends()) == (3, "b", "c", ("a", "c"))
    assert ParameterRange("mode", choices=(True,)).ends() == (True,)
    assert RATIO.count is None
    assert (RATIO.at(0.0), RATIO.at(0.5), RATIO.ends(), RATIO.value(0)) == (0.1, 0.6, (0.1, 1.1), 0.1)
    assert [FAST.at(share) for share in (0.0, 0.26, 0.999)] == [5, 10, 20]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"low": 1.0}, "lowest and a highest"),
        ({"low": 1, "high": 2, "choices": ("a",)}, "choices and numbers"),
        ({"low": 3, "high": 2}, "nothing lies there"),
        ({"low": 0, "high": float("inf")}, "nothing lies there"),
        ({"low": 0, "high": 2, "step": 0}, "above zero"),
        ({"low": 0, "high": 2.5, "whole": True}, "whole ends"),
        ({"low": 0, "high": 2, "step": 0.5, "whole": True}, "whole ends"),
        ({"low": 0, "high": 1, "step": 1e-9}, "longer steps"),
    ],
)
def test_a_range_without_values_is_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        ParameterRange("fast", **fields)


# ---- combinations


def test_a_grid_has_every_combination_once_and_neighbours_together() -> None:
    ranges = [ParameterRange("fast", 1, 16, whole=True), ParameterRange("slow", 1, 16, whole=True)]
    found = list(grid(ranges))
    assert len(found) == grid_size(ranges) == 256
    assert len({(each["fast"], each["slow"]) for each in found}) == 256
    first = found[:64]
    assert {each["fast"] for each in first} == {each["slow"] for each in first} == set(range(1, 9))
    assert list(grid([])) == [{}]


def test_a_grid_needs_steps() -> None:
    assert grid_size([FAST, RATIO]) is None
    with pytest.raises(ConfigError, match="steps"):
        list(grid([RATIO]))


def test_corners_are_the_outermost_combinations() -> None:
    assert corners([FAST, SLOW]) == [{"fast": f, "slow": s} for f in (5, 20) for s in (10, 30)]
    assert corners([]) == [{}]
    assert len(corners([ParameterRange(f"p{number}", 0, 1, 1) for number in range(20)], 10)) == 10


def test_combinations_fulfil_all_constraints() -> None:
    fulfils = Fulfils(("fast < slow", "fast * size <= 20"), {"size": 2})
    assert [each for each in grid([FAST, SLOW]) if fulfils(each)] == [
        {"fast": 5, "slow": 10},
        {"fast": 5, "slow": 20},
        {"fast": 5, "slow": 30},
        {"fast": 10, "slow": 20},
        {"fast": 10, "slow": 30},
    ]


# ---- constraints


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("fast < slow", True),
        ("fast < slow < 30", True),
        ("fast <= 5 and slow >= 20", True),
        ("fast > 5 or slow == 21", False),
        ("not fast != 5", True),
        ("-fast + slow - 1 == 14", True),
        ("slow / fast == 4 and slow // 3 == 6 and slow % 3 == 2", True),
        ("mode == 'ema' and on", True),
        ("fast * 2.5 < 12", False),
    ],
)
def test_a_constraint_is_worked_out(text: str, holds: bool) -> None:
    assert Constraint(text).holds({"fast": 5, "slow": 20, "mode": "ema", "on": True}) is holds


@pytest.mark.parametrize(
    "text",
    [
        "fast <",
        "",
        "fast ** 9 ** 9",
        "__import__('os')",
        "fast.real > 1",
        "fast[0]",
        "[fast]",
        "fast in (1, 2)",
        "(lambda: 1)()",
        "+fast > 1",
        "1 < 2j",
        "x" * 501,
        "(" * 300 + "1" + ")" * 300,
        " or ".join(["a<b"] * 70),
        "fast < slow\0",
    ],
)
def test_what_is_no_constraint_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="constraint"):
        Constraint(text)


@pytest.mark.parametrize("text", ["fast / 0 > 1", "mode < 3", "mode * 3 == 'aaa'", "3 * mode == 'aaa'", "gone > 1"])
def test_a_constraint_that_cannot_be_worked_out_says_for_what(text: str) -> None:
    with pytest.raises(ConfigError, match="cannot be worked out"):
        Constraint(text).holds({"fast": 5, "mode": "a"})


# ---- objectives, trials and their leaders


def test_an_objective_knows_its_direction() -> None:
    assert Objective.parse("sharpe") == Objective("sharpe", True)
    assert Objective.parse(" max_drawdown ") == Objective("max_drawdown", False)
    assert Objective.parse("max:fees") == Objective("fees", True)
    assert str(Objective.parse("min:trades")) == "min:trades"
    assert str(Objective("sharpe")) == "max:sharpe"
    assert Objective("fees", False).is_better(1, 2)
    for text, why in (("sharp", "no statistic"), ("best:sharpe", "no objective")):
        with pytest.raises(ConfigError, match=why):
            Objective.parse(text)


def test_the_best_trial_and_the_front_do_not_depend_on_the_order() -> None:
    objectives = (Objective("sharpe"), Objective("max_drawdown", False))
    trials = [
        trial(0, 1.0, 0.5),
        trial(1, 2.0, 0.9),
        trial(2, 0.5, 0.1),
        trial(3, 0.9, 0.6),  # worse than 0 in both
        trial(4, 2.0, 0.9),  # equal to 1
        trial(5, None, 0.0),
        trial(6, float("nan"), 0.0),
        trial(7, 9.0, 0.0, state=TrialState.FAILED),
    ]
    for order in (trials, trials[::-1]):
        leaders = Leaders(objectives)
        for each in order:
            leaders.add(each)
        assert leaders.best is not None
        assert leaders.best.number == 1
        assert leaders.front == [0, 1, 2, 4]


def test_a_front_has_a_limit() -> None:
    leaders = Leaders((Objective("sharpe"), Objective("max_drawdown", False)), 3)
    for number in range(10):
        leaders.add(trial(number, float(number), float(number)))
    assert leaders.front == [0, 1, 2]
    assert leaders.best is not None
    assert leaders.best.number == 9


def test_floors_are_the_median_once_enough_were_seen() -> None:
    floors = MedianFloor(1_000.0, 0.5, median=True, least=3)
    assert floors.floors() == [500.0] * CHECKPOINTS
    for equity in ([900.0, 100.0], [800.0, 200.0], [1_000.0]):
        floors.add(equity)
    assert floors.floors()[:3] == [900.0, 500.0, 500.0]
    never = MedianFloor(1_000.0, None, median=False)
    never.add([5.0] * CHECKPOINTS)
    assert never.floors() == [0.0] * CHECKPOINTS


def test_a_snapshot_counts_what_is_over() -> None:
    spec = StudySpec(BASE, (FAST,))
    snapshot = StudySnapshot(
        "s", spec, JobState.RUNNING, "", "trials", 4, {"done": 2, "failed": 1}, None, [], 1, None, 0, 0
    )
    assert snapshot.finished == 3


def test_what_a_study_was_made_from_is_compared_in_words() -> None:
    was = StudyOrigin("a", "b", "c", "d", "e", {"koc": "1", "numpy": "2.1"})
    assert was.differences(was) == []
    now = StudyOrigin("x", "b", "c", "x", "e", {"koc": "1", "numpy": "2.2", "numba": "0.6"})
    assert was.differences(now) == [
        "the bars",
        "dates, cash, costs or other rules of a run",
        "the version of numba (none then, 0.6 now)",
        "the version of numpy (2.1 then, 2.2 now)",
    ]


# ---- studies


def test_a_study_is_checked() -> None:
    StudySpec(BASE, (FAST, SLOW), ("fast < slow * size",))
    StudySpec(BASE, (RATIO,), method=Method.RANDOM, trials=10).check_size()
    StudySpec(BASE, (FAST,)).check_size()
    StudySpec(BASE)  # its ranges are filled in from what the file declares


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"ranges": (FAST, FAST)}, "two ranges"),
        ({"ranges": tuple(ParameterRange(f"p{n}", 0, 1, 1) for n in range(33))}, "are searched"),
        ({"objectives": ()}, "1 to 4 objectives"),
        ({"objectives": (Objective("fees"), Objective("fees", False))}, "once only"),
        ({"trials": 0}, "trials"),
        ({"floor": 1.5}, "floor"),
        ({"processes": -1}, "processes"),
        ({"constraints": ("fast <",)}, "cannot be read"),
        ({"method": Method.BAYESIAN}, "how many trials"),
    ],
)
def test_a_study_that_makes_no_sense_is_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        StudySpec(**{"base": BASE, "ranges": (FAST,), **fields})


def test_a_grid_has_an_end() -> None:
    for ranges, why in (
        ((FAST, RATIO), "give ratio one"),
        (tuple(ParameterRange(f"p{number}", 0, 9, 1) for number in range(7)), "10,000,000 combinations"),
    ):
        with pytest.raises(ConfigError, match=why):
            StudySpec(BASE, ranges).check_size()
