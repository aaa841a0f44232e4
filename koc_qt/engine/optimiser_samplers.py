"""Which combinations are tried: all of a grid, or some at random. Both are the same again from the same study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random

from koc_qt.domain.optimisation import Fulfils, Method, Parameters, StudySpec, Trial, grid, grid_size
from koc_qt.sdk.sweep_messages import TrialAsked

_MISSES_IN_A_ROW = 5_000  # combinations that are refused or known before the search is taken to have tried all


class ListedSampler:
    """Implements ports/studies.py Sampler for combinations that do not depend on what came of others."""

    learns = False

    def __init__(self, spec: StudySpec) -> None:
        self._spec = spec
        self._fulfils = Fulfils(spec.constraints, spec.base.parameters)
        self._done: set[int] = set()
        self._rest = self._numbered()

    def total(self) -> int | None:
        """Count the combinations, up to the limit that the study has."""
        if self._spec.method is not Method.GRID:
            size = grid_size(self._spec.ranges)
            return self._spec.trials if size is None else min(size, self._spec.trials or size)
        limit = self._spec.trials
        return sum(1 for _ in islice(filter(self._fulfils, grid(self._spec.ranges)), limit))

    def ask(self, count: int) -> list[TrialAsked]:
        """Give the next ones."""
        return list(islice(self._rest, count))

    def tell(self, trials: Sequence[Trial]) -> None:
        """Leave out what an earlier run has done."""
        self._done.update(trial.number for trial in trials)

    def _numbered(self) -> Iterator[TrialAsked]:
        listed = self._drawn() if self._spec.method is Method.RANDOM else filter(self._fulfils, grid(self._spec.ranges))
        for number, parameters in enumerate(islice(listed, self._spec.trials)):
            if number not in self._done:
                yield TrialAsked(number, parameters)

    def _drawn(self) -> Iterator[Parameters]:
        rng, seen, misses = Random(self._spec.seed), set[tuple[object, ...]](), 0  # noqa: S311 (repeatable on purpose)
        while misses < _MISSES_IN_A_ROW:
            parameters = {each.name: each.at(rng.random()) for each in self._spec.ranges}
            key = tuple(parameters.values())
            if key in seen or not self._fulfils(parameters):
                misses += 1
                continue
            misses = 0
            seen.add(key)
            yield parameters
