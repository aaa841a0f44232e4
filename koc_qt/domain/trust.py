"""How far a strategy's results can be believed: what its decisions are, and what verdicts there are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import msgspec

from koc_qt.domain.timeframes import SECOND_NS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DECISIONS_KEPT = 100_000  # of a run, the first ones


class Verdict(StrEnum):
    """What came of a check. GREEN: nothing speaks against it. AMBER: read the sentence. RED: do not believe the result.

    NONE: it could not be made; the sentence says why.
    """

    GREEN = "green"
    AMBER = "amber"
    RED = "red"
    NONE = "none"


class Placement(msgspec.Struct, frozen=True, gc=False):
    """A decision: what a strategy asked for at `time_ns` (UTC nanoseconds), in words.

    `line` is that of its file which led to it, counted from 1; None where it came from no line of the file.
    """

    time_ns: int
    line: int | None
    text: str


def utc_text(time_ns: int) -> str:
    """Give a time as people read it: whole seconds, UTC; one outside the calendar as a plain number."""
    try:
        return f"{_EPOCH + timedelta(seconds=time_ns // SECOND_NS):%Y-%m-%d %H:%M:%S} UTC"
    except OverflowError:
        return f"{time_ns} ns"


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Give the most alarming of some verdicts; NONE only where nothing could be checked."""
    for verdict in (Verdict.RED, Verdict.AMBER, Verdict.GREEN):
        if verdict in verdicts:
            return verdict
    return Verdict.NONE
