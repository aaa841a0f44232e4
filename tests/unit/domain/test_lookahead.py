"""Which decisions count as made with knowledge of the future, and which as a matter of too little history."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from koc_qt.domain import lookahead
from koc_qt.domain.lookahead import DecisionCheck, Repeat, Variation, changes, check_lookahead, check_warmup, cuts
from koc_qt.domain.trust import Placement, Verdict
from tests.unit.domain.examples import MINUTE_NS, START_NS

LAST_NS = START_NS + 1000 * MINUTE_NS


def at(minute: int) -> int:
    return START_NS + minute * MINUTE_NS


def decided(*made: tuple[int, str], line: int | None = 7) -> tuple[Placement, ...]:
    return tuple(Placement(at(minute), line, text) for minute, text in made)


def repeat(variation: Variation, minute: int, *made: tuple[int, str], line: int | None = 7) -> Repeat:
    return Repeat(variation, at(minute), decided(*made, line=line))


TWO = ((1, "buy 1"), (5, "sell 1"))
FIRST = decided(*TWO)
AGAIN = repeat(Variation.NOTHING, 1000, *TWO)


def test_a_strategy_that_decides_the_same_is_not_accused() -> None:
    honest = [
        AGAIN,
        repeat(Variation.TRUNCATED, 3, TWO[0]),
        repeat(Variation.PERTURBED, 5, *TWO, (6, "buy 9")),  # what is after the cut may be anything
    ]
    assert check_lookahead(FIRST, honest) == DecisionCheck(
        Verdict.GREEN, "With 2 other futures every decision before them stayed as it was.", 3, 2
    )


def test_a_decision_that_needs_the_future_is_named_with_bar_and_line() -> None:
    found = check_lookahead(FIRST, [AGAIN, repeat(Variation.TRUNCATED, 5, TWO[0])])
    assert found.verdict is Verdict.RED
    assert found.sentence == (
        "It looks into the future. At 2019-10-11 00:05:00 UTC line 7 decided “sell 1”, and with the future cut off "
        "after 2019-10-11 00:05:00 UTC “nothing”."
    )
    assert (found.runs, found.decisions, found.change_count) == (2, 2, 1)
    [change] = found.changes
    assert (change.time_ns, change.line, change.before, change.after) == (at(5), 7, "sell 1", "")
    assert msgspec.json.decode(msgspec.json.encode(found), type=DecisionCheck) == found


def test_what_appears_and_what_becomes_another_order() -> None:
    found = changes(FIRST, repeat(Variation.PERTURBED, 5, (1, "buy 2"), (4, "buy 1"), (4, "buy 3"), TWO[1], line=9))
    assert [(each.time_ns, each.line, each.before, each.after) for each in found] == [
        (at(1), 7, "buy 1", "buy 2"),
        (at(4), 9, "", "buy 1, buy 3"),
    ]
    assert check_lookahead(FIRST, [repeat(Variation.PERTURBED, 5)]).sentence.endswith("2 decisions changed in all.")
    [nowhere] = changes((), repeat(Variation.PERTURBED, 5, (4, "buy 1"), line=None))
    assert "UTC decided “nothing”" in nowhere.sentence


def test_of_many_changes_the_first_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookahead, "CHANGES_KEPT", 1)
    found = check_lookahead(FIRST, [repeat(Variation.PERTURBED, 5)])
    assert (found.change_count, len(found.changes)) == (2, 1)


def test_one_that_differs_by_itself_says_nothing_about_the_future() -> None:
    found = check_lookahead(FIRST, [repeat(Variation.NOTHING, 1000, TWO[0]), repeat(Variation.TRUNCATED, 1)])
    assert found.verdict is Verdict.RED
    assert found.sentence.startswith("The same run again decided otherwise: At 2019-10-11 00:05:00 UTC line 7")


def test_nothing_to_cut_and_nothing_decided() -> None:
    assert check_lookahead(FIRST, [AGAIN]).verdict is Verdict.NONE
    nothing = check_lookahead((), [repeat(Variation.TRUNCATED, 3)])
    assert (nothing.verdict, nothing.sentence) == (
        Verdict.NONE,
        "With 1 other futures it decided nothing either: there was nothing to change.",
    )
    assert check_lookahead((), [repeat(Variation.TRUNCATED, 3, (2, "buy 1"))]).verdict is Verdict.RED


def test_half_of_the_cuts_are_where_something_was_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    closes = [at(minute) for minute in range(1, 101)]
    first = decided(*((minute, "buy") for minute in (10, 20, 30, 40, 100)))
    chosen = cuts(first, closes, 6, Random(1))
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 6
    assert len({at(minute) for minute in (10, 20, 30, 40)}.intersection(chosen)) >= 3
    assert closes[-1] not in chosen
    assert chosen == cuts(first, closes, 6, Random(1))
    assert cuts(first, closes[:3], 6, Random(1)) == closes[:2]
    assert cuts(first, closes[:1], 6, Random(1)) == []
    assert len(cuts((), closes, 6, Random(1))) == 6
    monkeypatch.setattr(lookahead, "DECISIONS_KEPT", 5)
    assert max(cuts(first[:4] + decided((50, "buy")), closes, 40, Random(1))) <= at(50)


# ---- warm-up

MANY = tuple((minute, f"buy {minute}") for minute in range(1, 101))


def test_enough_warm_up() -> None:
    same = [repeat(kind, 1000, *MANY) for kind in (Variation.MORE_WARMUP, Variation.LESS_WARMUP)]
    assert check_warmup(decided(*MANY), same) == DecisionCheck(
        Verdict.GREEN, "With more or less history before the run every decision stayed as it was.", 2, 100
    )
    assert check_warmup(FIRST, []).verdict is Verdict.NONE


def test_too_short_a_warm_up_shows_at_the_beginning_or_often() -> None:
    early = check_warmup(decided(*MANY), [repeat(Variation.MORE_WARMUP, 1000, *MANY[1:])])
    assert (early.verdict, early.change_count) == (Verdict.AMBER, 1)
    assert early.sentence == (
        "Its warm-up is too short. At 2019-10-11 00:01:00 UTC line 7 decided “buy 1”, and with more warm-up history "
        "“nothing”."
    )
    often = check_warmup(decided(*MANY), [repeat(Variation.MORE_WARMUP, 1000, *MANY[:94])])
    assert often.verdict is Verdict.AMBER
    appears = check_warmup((), [repeat(Variation.MORE_WARMUP, 1000, *TWO)])
    assert appears.verdict is Verdict.AMBER


def test_a_few_late_changes_are_put_down_to_rounding() -> None:
    late = check_warmup(decided(*MANY), [repeat(Variation.MORE_WARMUP, 1000, *MANY[:97])])
    assert (late.verdict, late.change_count) == (Verdict.GREEN, 3)
    assert late.sentence == "With more warm-up 3 late decisions changed, as rounding does where prices tie."


def test_with_less_warm_up_decisions_may_begin_later() -> None:
    begins = check_warmup(decided(*MANY), [repeat(Variation.LESS_WARMUP, 1000, *MANY[5:])])
    assert (begins.verdict, begins.change_count) == (Verdict.GREEN, 5)
    assert begins.sentence == "With less warm-up its decisions are the same after 2019-10-11 00:05:00 UTC."
    never = check_warmup(FIRST, [repeat(Variation.LESS_WARMUP, 1000)])
    assert (never.verdict, never.sentence) == (Verdict.GREEN, "With less warm-up its decisions differ to the end.")
