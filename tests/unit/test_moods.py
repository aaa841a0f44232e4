"""How the mascot's mood follows what happens, on a clock of the test's own."""

from __future__ import annotations

from decimal import Decimal

import pytest

from koc_qt.ui.mascot.moods import Mood, MoodInputs, MoodKeeper, MoodSettings, Shown, choose_mood


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keeper(clock: Clock) -> MoodKeeper:
    return MoodKeeper(clock, MoodSettings(window_s=60, amount=Decimal(10), reaction_s=8, rest_s=15))


def earned(pnl: str, *, equity: str | None = None, running: int = 1) -> MoodInputs:
    return MoodInputs(running=running, pnl=Decimal(pnl), equity=None if equity is None else Decimal(equity))


def test_sleeps_while_nothing_runs(keeper: MoodKeeper) -> None:
    assert keeper.shown() == Shown(Mood.ASLEEP, "Asleep: nothing is running")
    assert keeper.observe(MoodInputs(running=0)).mood is Mood.ASLEEP


@pytest.mark.parametrize(("running", "caption"), [(1, "1 strategy running"), (3, "3 strategies running")])
def test_is_on_guard_while_something_runs(keeper: MoodKeeper, running: int, caption: str) -> None:
    assert keeper.observe(MoodInputs(running=running)) == Shown(Mood.IDLE, f"On guard: {caption}")


@pytest.mark.parametrize(
    ("inputs", "caption"),
    [(MoodInputs(halted=True, running=2), "kill switch engaged"), (MoodInputs(lost=True, running=2), "engine lost")],
)
def test_an_alarm_comes_before_all_else(keeper: MoodKeeper, inputs: MoodInputs, caption: str) -> None:
    keeper.dance()
    assert keeper.observe(inputs) == Shown(Mood.ALARMED, f"Alarmed: {caption}")
    assert keeper.is_dancing
    assert keeper.observe(MoodInputs(running=2)).mood is Mood.DANCE


def test_the_kill_switch_is_named_before_a_lost_engine() -> None:
    shown = choose_mood(MoodInputs(halted=True, lost=True), dancing=False, reaction=None)
    assert shown.caption == "Alarmed: kill switch engaged"


def test_dances_on_profit_for_a_while(keeper: MoodKeeper, clock: Clock) -> None:
    assert keeper.observe(earned("0")).mood is Mood.IDLE
    clock.pass_s(5)
    assert keeper.observe(earned("9.99")).mood is Mood.IDLE
    clock.pass_s(5)
    assert keeper.observe(earned("1234.5")) == Shown(Mood.DANCE, "Dancing: profit rose by 1,234.50")
    assert keeper.due_s() == 8
    clock.pass_s(7.9)
    assert keeper.shown().mood is Mood.DANCE
    assert keeper.due_s() == pytest.approx(0.1)
    clock.pass_s(0.1)
    assert keeper.due_s() == 0
    assert keeper.shown().mood is Mood.IDLE
    assert keeper.due_s() is None


def test_is_sad_on_a_loss(keeper: MoodKeeper, clock: Clock) -> None:
    keeper.observe(earned("100"))
    clock.pass_s(1)
    assert keeper.observe(earned("90")) == Shown(Mood.SAD, "Sad: profit fell by 10.00")


def test_a_slow_change_moves_nothing(keeper: MoodKeeper, clock: Clock) -> None:
    for step in range(100):
        assert keeper.observe(earned(str(step))).mood is Mood.IDLE
        clock.pass_s(7)


def test_the_same_profit_is_celebrated_once(keeper: MoodKeeper, clock: Clock) -> None:
    keeper.observe(earned("0"))
    clock.pass_s(1)
    keeper.observe(earned("20"))
    clock.pass_s(24)
    assert keeper.observe(earned("20")).mood is Mood.IDLE
    clock.pass_s(1)
    assert keeper.observe(earned("31")).mood is Mood.DANCE


def test_rests_between_reactions(keeper: MoodKeeper, clock: Clock) -> None:
    keeper.observe(earned("0"))
    clock.pass_s(1)
    keeper.observe(earned("20"))
    clock.pass_s(9)
    assert keeper.observe(earned("60")).mood is Mood.IDLE
    clock.pass_s(14)
    assert keeper.observe(earned("60")).mood is Mood.DANCE


def test_equity_sets_what_counts(clock: Clock) -> None:
    keeper = MoodKeeper(clock, MoodSettings(share=Decimal("0.001")))
    keeper.observe(earned("0", equity="1000000"))
    clock.pass_s(1)
    assert keeper.observe(earned("999", equity="1000000")).mood is Mood.IDLE
    clock.pass_s(1)
    assert keeper.observe(earned("1000", equity="1000000")).mood is Mood.DANCE


@pytest.mark.parametrize("equity", ["0", "-5", "NaN", "Infinity"])
def test_an_equity_that_says_nothing_leaves_the_amount(keeper: MoodKeeper, clock: Clock, equity: str) -> None:
    keeper.observe(earned("0", equity=equity))
    clock.pass_s(1)
    assert keeper.observe(earned("9", equity=equity)).mood is Mood.IDLE
    assert keeper.observe(earned("10", equity=equity)).mood is Mood.DANCE


@pytest.mark.parametrize(
    "gap", [MoodInputs(running=1), MoodInputs(running=1, pnl=Decimal("NaN")), MoodInputs(lost=True)]
)
def test_profit_is_not_compared_across_a_gap(keeper: MoodKeeper, clock: Clock, gap: MoodInputs) -> None:
    keeper.observe(earned("0"))
    clock.pass_s(1)
    keeper.observe(gap)
    clock.pass_s(1)
    assert keeper.observe(earned("5000")).mood is Mood.IDLE


def test_an_alarm_ends_a_reaction(keeper: MoodKeeper, clock: Clock) -> None:
    keeper.observe(earned("0"))
    clock.pass_s(1)
    keeper.observe(earned("50"))
    keeper.observe(MoodInputs(halted=True, running=1, pnl=Decimal(50)))
    assert keeper.observe(earned("50")).mood is Mood.IDLE


def test_a_loss_under_the_kill_switch_is_not_mourned_twice(keeper: MoodKeeper, clock: Clock) -> None:
    keeper.observe(earned("0"))
    clock.pass_s(1)
    assert keeper.observe(MoodInputs(halted=True, pnl=Decimal(-50))).mood is Mood.ALARMED
    assert keeper.due_s() is None


def test_a_dance_that_was_asked_for_lasts_until_stopped(keeper: MoodKeeper, clock: Clock) -> None:
    assert keeper.dance().mood is Mood.DANCE
    clock.pass_s(100_000)
    assert keeper.observe(MoodInputs()).mood is Mood.DANCE
    assert keeper.stop().mood is Mood.ASLEEP
    assert not keeper.is_dancing


def test_a_dance_of_profit_can_be_stopped_too(keeper: MoodKeeper, clock: Clock) -> None:
    keeper.observe(earned("0"))
    clock.pass_s(1)
    assert keeper.observe(earned("50")).mood is Mood.DANCE
    assert keeper.stop().mood is Mood.IDLE


def test_cheers_when_a_backtest_is_done_but_not_for_old_ones(keeper: MoodKeeper, clock: Clock) -> None:
    assert keeper.observe(MoodInputs(backtests_done=4)).mood is Mood.ASLEEP
    assert keeper.observe(MoodInputs(backtests_done=5)) == Shown(Mood.CHEER, "Cheering: a back-test is done")
    clock.pass_s(8)
    assert keeper.observe(MoodInputs(backtests_done=5)).mood is Mood.ASLEEP
    assert keeper.observe(MoodInputs(backtests_done=0)).mood is Mood.ASLEEP


def test_what_is_kept_is_bounded(keeper: MoodKeeper, clock: Clock) -> None:
    for _ in range(5000):
        keeper.observe(earned("1"))
        clock.pass_s(0.016)
    assert len(keeper._profits) <= 60 / 0.5 + 3


def test_works_whatever_runs_but_not_over_an_alarm_or_a_dance(keeper: MoodKeeper) -> None:
    at_work = MoodInputs(running=2, work="Building for Ubuntu")
    assert keeper.observe(at_work) == Shown(Mood.WORKING, "Working: building for Ubuntu")
    assert keeper.dance().mood is Mood.DANCE
    keeper.stop()
    assert keeper.observe(MoodInputs(halted=True, work="Building for Ubuntu")).mood is Mood.ALARMED


def test_cheers_when_work_came_to_a_good_end(keeper: MoodKeeper, clock: Clock) -> None:
    keeper.observe(MoodInputs(work="Building for Ubuntu"))
    assert keeper.observe(MoodInputs(work_done=1)).mood is Mood.CHEER
    clock.pass_s(9)
    assert keeper.shown().mood is Mood.ASLEEP
