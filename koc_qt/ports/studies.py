"""What an optimisation needs from outside: where trials are kept, how combinations are proposed, who evaluates them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from koc_qt.domain.optimisation import StudySnapshot, Trial
from koc_qt.sdk.channel import StartSweep
from koc_qt.sdk.sweep_messages import TrialAsked, TrialFound


class StudyStore(Protocol):
    """Keeps studies and their trials. Its methods block: call them in threads. They raise StorageError."""

    def begin(self, study: StudySnapshot) -> bool:
        """Keep a new study; tells whether its id was free, and changes nothing where another process took it."""
        ...

    def put(self, study: StudySnapshot) -> None:
        """Keep a study as it is now, in the place of what was known of it."""
        ...

    def studies(self) -> list[StudySnapshot]:
        """Give all studies, oldest first."""
        ...

    def add(self, study_id: str, trials: Iterable[Trial]) -> None:
        """Keep trials; one with a number that is known already takes its place."""
        ...

    def page(self, study_id: str, after: int, limit: int) -> list[Trial]:
        """Give the trials whose numbers are above `after`, at most `limit`, in the order of their numbers."""
        ...

    def delete(self, study_id: str) -> None:
        """Forget a study and its trials."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...


class Sampler(Protocol):
    """Proposes combinations, each with its number; the same again after the trials of an earlier run were told.

    Its methods may take long: call them in threads, one at a time.
    """

    @property
    def learns(self) -> bool:
        """Whether what it proposes depends on what came of others."""
        ...

    def total(self) -> int | None:
        """Give how many combinations there will be; None where that is not known."""
        ...

    def ask(self, count: int) -> list[TrialAsked]:
        """Give the next combinations, at most `count`; none once all were given."""
        ...

    def tell(self, trials: Sequence[Trial]) -> None:
        """Hear what came of combinations, or of those of an earlier run."""
        ...


Told = Callable[[Sequence[TrialFound]], None]


class RunnerLost(Exception):
    """A process that evaluates combinations is gone; the text says how it ended."""


class TrialRunner(Protocol):
    """One process that evaluates combinations, with the file loaded and the bars in memory."""

    @property
    def batch_s(self) -> float:
        """How much work it is best given at once, in seconds."""
        ...

    async def evaluate(self, trials: Sequence[TrialAsked], floors: Sequence[float], told: Told) -> None:
        """Evaluate them in their order; `told` hears of them as they come.

        Raises RunnerLost where the process ends, says nothing for too long, or says what it was not asked, before all
        are done, and StrategyError for a file that cannot be used.
        """
        ...

    async def close(self) -> None:
        """End the process."""
        ...


class Crew(Protocol):
    """Processes elsewhere that evaluate combinations, such as those of a cluster."""

    async def muster(self, start: StartSweep, bars: bytes) -> int:
        """Bring what all need to where they are, and give how many can be hired; `bars` are frames of the channel.

        Raises StrategyError where there is none.
        """
        ...

    async def hire(self) -> TrialRunner | None:
        """Give one that is free; None where none is left."""
        ...

    async def close(self) -> None:
        """End them all."""
        ...
