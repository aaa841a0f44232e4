"""Whether a strategy knows what it cannot know, or depends on how much history it was given.

A run is repeated with the future cut off, or replaced by another one, at some moment. An honest strategy decides the
same up to that moment: what changes was decided with knowledge of the future. Moments at which something was decided
are the best ones, for a strategy that peeks one bar ahead changes nothing but its last decision. Before that the run is
repeated unchanged: one that comes out differently by itself says nothing about the future.

A run with more history before it must decide the same too. With less, decisions may differ until enough was seen.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from enum import StrEnum
from random import Random

import msgspec

from koc_qt.domain.trust import DECISIONS_KEPT, Placement, Verdict, utc_text

CHANGES_KEPT = 20  # of a check; the others are counted
EARLY = 10  # decisions: where too short a warm-up shows
FEW = 0.05  # of the decisions


class Variation(StrEnum):
    """What is different about a repeated run."""

    NOTHING = "nothing"
    TRUNCATED = "the future cut off"
    PERTURBED = "another future"
    MORE_WARMUP = "more warm-up history"
    LESS_WARMUP = "less warm-up history"


class Repeat(msgspec.Struct, frozen=True):
    """A repeated run and its decisions. Up to `until_ns` (UTC) it was given the same bars as the first one."""

    variation: Variation
    until_ns: int
    decisions: tuple[Placement, ...]


class Change(msgspec.Struct, frozen=True):
    """A decision that changed: at the close of the bar `time_ns` (UTC), placed by `line` of the strategy's file.

    `before` is what was decided in the first run, `after` what in the repeated one; empty for nothing. `cut_ns` is the
    moment from which on the future was another one.
    """

    variation: Variation
    cut_ns: int
    time_ns: int
    line: int | None
    before: str
    after: str
    sentence: str


class DecisionCheck(msgspec.Struct, frozen=True):
    """What repeated runs say: `runs` were compared, `decisions` looked at in each, `changes` found, the first ones."""

    verdict: Verdict
    sentence: str
    runs: int = 0
    decisions: int = 0
    change_count: int = 0
    changes: tuple[Change, ...] = ()


def cuts(decisions: Sequence[Placement], closes_ns: Sequence[int], count: int, rng: Random) -> list[int]:
    """Choose `count` closes at which to cut the future off, in order: half of them closes with a decision.

    `closes_ns` are those of the run, ascending; the last one cuts off nothing and is not chosen. Fewer are given where
    there are not so many.
    """
    inner = closes_ns[:-1]
    if not inner:
        return []
    last_ns = decisions[-1].time_ns if len(decisions) >= DECISIONS_KEPT else inner[-1]
    eligible = inner[: bisect_right(inner, last_ns)]
    decided = sorted({each.time_ns for each in decisions}.intersection(eligible))
    chosen = set(rng.sample(decided, min(len(decided), (count + 1) // 2)))
    others = rng.sample(range(len(eligible)), min(len(eligible), count))  # some of them chosen already, but never all
    for number in others:
        if len(chosen) < count:
            chosen.add(eligible[number])
    return sorted(chosen)


def changes(first: Sequence[Placement], repeat: Repeat) -> list[Change]:
    """Give the decisions that changed up to the repeat's `until_ns`, in the order of time."""
    left, right = (_by_time(each, repeat.until_ns) for each in (first, repeat.decisions))
    found: list[Change] = []
    for time_ns in sorted(left.keys() | right.keys()):
        before, after = left.get(time_ns, []), right.get(time_ns, [])
        if [each.text for each in before] != [each.text for each in after]:
            found.append(_change(repeat, time_ns, before, after))
    return found


def check_lookahead(first: Sequence[Placement], repeats: Sequence[Repeat]) -> DecisionCheck:
    """Judge runs of another future, and unchanged ones."""
    found: list[Change] = []
    for repeat in repeats:
        changed = changes(first, repeat)
        if changed and repeat.variation is Variation.NOTHING:
            text = f"The same run again decided otherwise: {changed[0].sentence} Nothing can be said about the future."
            return _check(Verdict.RED, text, first, repeats, changed)
        found += changed
    if found:
        more = "" if len(found) == 1 else f" {len(found):,} decisions changed in all."
        return _check(Verdict.RED, f"It looks into the future. {found[0].sentence}{more}", first, repeats, found)
    futures = sum(repeat.variation is not Variation.NOTHING for repeat in repeats)
    if not futures:
        return _check(Verdict.NONE, "No other future could be tried: the run is too short.", first, repeats, [])
    if not first:
        text = f"With {futures} other futures it decided nothing either: there was nothing to change."
        return _check(Verdict.NONE, text, first, repeats, [])
    text = f"With {futures} other futures every decision before them stayed as it was."
    return _check(Verdict.GREEN, text, first, repeats, [])


def check_warmup(first: Sequence[Placement], repeats: Sequence[Repeat]) -> DecisionCheck:
    """Judge runs with more and less history before them.

    Too short a warm-up shows among the first decisions, or in many of them. One here and there is what rounding does
    where two averages tie.
    """
    if not repeats:
        return _check(Verdict.NONE, "It was not given other histories: there are none.", first, repeats, [])
    found: list[Change] = []
    notes: list[str] = []
    verdict = Verdict.GREEN
    for repeat in repeats:
        changed = changes(first, repeat)
        found += changed
        if not changed:
            continue
        is_late = changed[0].time_ns > first[min(EARLY, len(first)) - 1].time_ns if first else False
        if repeat.variation is Variation.MORE_WARMUP and is_late and len(changed) <= FEW * len(first):
            notes.append(f"With more warm-up {len(changed)} late decisions changed, as rounding does where prices tie.")
        elif repeat.variation is Variation.MORE_WARMUP:
            verdict = Verdict.AMBER
            notes.append(f"Its warm-up is too short. {changed[0].sentence}")
        elif any(each.time_ns > changed[-1].time_ns for each in first):
            notes.append(f"With less warm-up its decisions are the same after {utc_text(changed[-1].time_ns)}.")
        else:
            notes.append("With less warm-up its decisions differ to the end.")
    text = " ".join(notes) or "With more or less history before the run every decision stayed as it was."
    return _check(verdict, text, first, repeats, found)


# ---- inside ---------------------------------------------------------------------------------------------------------


def _by_time(decisions: Sequence[Placement], until_ns: int) -> dict[int, list[Placement]]:
    found: dict[int, list[Placement]] = {}
    for each in decisions:
        if each.time_ns <= until_ns:
            found.setdefault(each.time_ns, []).append(each)
    return found


def _change(repeat: Repeat, time_ns: int, before: Sequence[Placement], after: Sequence[Placement]) -> Change:
    line = next((each.line for each in (*before, *after) if each.line is not None), None)
    was, now = (", ".join(each.text for each in some) for some in (before, after))
    where = "" if line is None else f" line {line}"
    sentence = (
        f"At {utc_text(time_ns)}{where} decided “{was or 'nothing'}”, and with {repeat.variation}"
        f"{_since(repeat)} “{now or 'nothing'}”."
    )
    return Change(repeat.variation, repeat.until_ns, time_ns, line, was, now, sentence)


def _since(repeat: Repeat) -> str:
    cut = repeat.variation in (Variation.TRUNCATED, Variation.PERTURBED)
    return f" after {utc_text(repeat.until_ns)}" if cut else ""


def _check(
    verdict: Verdict, sentence: str, first: Sequence[Placement], repeats: Sequence[Repeat], found: Sequence[Change]
) -> DecisionCheck:
    return DecisionCheck(verdict, sentence, len(repeats), len(first), len(found), tuple(found[:CHANGES_KEPT]))
