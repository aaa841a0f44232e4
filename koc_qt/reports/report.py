"""What a report is about: the results of one strategy by one engine or several, and what was checked."""

from __future__ import annotations

from collections import Counter
from typing import Any, Protocol

import msgspec

from koc_qt.domain.backtests import BacktestResult
from koc_qt.domain.parity import Certificate
from koc_qt.domain.trust import Verdict


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
