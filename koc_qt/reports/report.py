"""What a report is about: the results of one strategy by one engine or several, and what was checked."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import Any, Protocol

import msgspec

from koc_qt.domain.backtests import BacktestResult
from koc_qt.domain.errors import StorageError
from koc_qt.domain.parity import Certificate
from koc_qt.domain.trust import Verdict

_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])", re.ASCII)
_LIMIT_NS = 1 << 63


class Outcome(Protocol):
    """What a check came to: a struct of the domain with a verdict and the sentence that explains it."""

    @property
    def verdict(self) -> Verdict:
        """What came of it."""
        ...

    @property
    def sentence(self) -> str:
        """Why."""
        ...


class Check(msgspec.Struct, frozen=True):
    """A check of how far a result can be believed. `details` are plain values, and all that it found."""

    title: str
    verdict: Verdict
    sentence: str
    details: dict[str, Any] = {}


class Report(msgspec.Struct, frozen=True):
    """What is to be handed out. `results` has one at least, the first is the one that is shown in full.

    `command` makes it again, `currency` is that of all amounts; both may be empty. `notes` are what a reader must know
    of the data. `made_ns` is when the report was made (UTC nanoseconds), for HTML alone.
    """

    results: tuple[BacktestResult, ...]
    command: str = ""
    currency: str = ""
    certificate: Certificate | None = None
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()
    made_ns: int | None = None

    def __post_init__(self) -> None:
        if not self.results:
            raise ValueError("a report is about one result at least")

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each result: its engine, with a number from the second one of that engine on."""
        seen: Counter[str] = Counter()
        labels = []
        for result in self.results:
            engine = result.spec.engine.value
            seen[engine] += 1
            labels.append(engine if seen[engine] == 1 else f"{engine} {seen[engine]}")
        return tuple(labels)


def check_of(title: str, outcome: Outcome) -> Check:
    """Give what a check came to as a report shows it."""
    details = msgspec.to_builtins(outcome, str_keys=True)
    rest = {name: value for name, value in details.items() if name not in ("verdict", "sentence")}
    return Check(title, outcome.verdict, outcome.sentence, rest)


def check_sound(result: BacktestResult) -> None:
    """See that a result makes sense at all: a strategy's process has sent it. Raises StorageError, which says why not.

    Its numbers may be any, NaN as well.
    """
    times_ns = result.equity_ns
    moments_ns = [result.spec.since_ns, result.spec.until_ns, *times_ns, *(fill.time_ns for fill in result.fills)]
    for trip in result.trades:
        moments_ns += [trip.entry_ns, trip.entry_ns if trip.exit_ns is None else trip.exit_ns]
    trouble = ""
    if len(times_ns) != len(result.equity) or len(result.benchmark) not in (0, len(times_ns)):
        trouble = "its equity curve has columns of several lengths"
    elif any(later < earlier for earlier, later in pairwise(times_ns)):
        trouble = "its equity curve goes back in time"
    elif not all(-_LIMIT_NS <= moment_ns < _LIMIT_NS for moment_ns in moments_ns):
        trouble = "it has times that are in no calendar"
    elif not all(_MONTH.fullmatch(month) for month in result.months):
        trouble = "it has months that are none"
    if trouble:
        raise StorageError(f"the result of {result.spec.engine.value} makes no sense: {trouble}")
