"""What an optimisation needs from outside: where trials are kept, how combinations are proposed, who evaluates them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from koc_qt.domain.errors import StorageError
from koc_qt.domain.optimisation import StudySnapshot, Trial
from koc_qt.sdk.channel import StartSweep
from koc_qt.sdk.sweep_messages import TrialAsked, TrialFound


class LeaseLost(StorageError):
    """Another process runs the study now, or somebody deleted it: nothing is to be written of it any more."""


class Holder(Protocol):
    """The process that runs a study."""

    @property
    def name(self) -> str:
        """Which one, in words."""
        ...

    def is_gone(self) -> bool:
        """Whether it has certainly ended; False also where that cannot be told, as of one on another machine."""
        ...


class KeptStudy(NamedTuple):
    """A study as it is kept, and who runs it; None where nobody does.

    `revision` grows with everything that is written of it, signs of life too: whoever sees it stand still for long
    knows that its holder has fallen silent, whatever the clocks of the two machines say. `lease` is of one holding.
    """

    study: StudySnapshot
    revision: int
    lease: str
    holder: Holder | None


class KeptStudies(NamedTuple):
    """Studies that changed, oldest first, and the revisions of all there are, by id."""

    changed: list[KeptStudy]
    revisions: dict[str, int]


class StudyStore(Protocol):
    """Keeps studies and their trials. Its methods block: call them in threads. They raise StorageError.

    Whoever runs a study holds a lease of it; what is written without the present one raises LeaseLost, and is not
    written. So two processes never run one study, even where one of them was thought to be gone.
    """

    @property
    def owner(self) -> str:
        """This process, in words."""
        ...

    def begin(self, study: StudySnapshot) -> str:
        """Keep a new study and give its lease; empty, and nothing changed, where another process took its id."""
        ...

    def take(self, kept: KeptStudy) -> str:
        """Take a study over as it was seen, and give its lease; empty where it has changed since."""
        ...

    def put(self, study: StudySnapshot, lease: str) -> None:
        """Keep a study as it is now, and show a sign of life."""
        ...

    def end(self, study: StudySnapshot, lease: str) -> None:
        """Keep a study as it is now, and let it go."""
        ...

    def studies(self, known: Mapping[str, int] | None = None) -> KeptStudies:
        """Give the studies whose revisions are others than those that are known; one that cannot be read is said."""
        ...

    def add(self, study_id: str, lease: str, trials: Iterable[Trial]) -> None:
        """Keep trials; one with a number that is known already takes its place."""
        ...

    def page(self, study_id: str, after: int, limit: int) -> list[Trial]:
        """Give the trials whose numbers are above `after`, at most `limit`, in the order of their numbers."""
        ...

    def delete(self, study_id: str, lease: str) -> None:
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


class PlaceLost(RunnerLost):
    """The machine where it ran is gone, or cannot be reached: what was evaluated there is not to blame."""


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

    async def muster(self, start: StartSweep, bars: Callable[[], Awaitable[bytes]]) -> int:
        """Bring what all need to where they are, and give how many can be hired.

        `bars` reads all bars, as frames of the channel: anew for those that come later, so that nobody need hold them.
        Raises StrategyError where there is none.
        """
        ...

    async def joined(self) -> int:
        """Wait until there are more than were there, and give how many more can be hired."""
        ...

    async def hire(self) -> TrialRunner | None:
        """Give one that is free; None where none is left."""
        ...

    async def close(self) -> None:
        """End them all."""
        ...
