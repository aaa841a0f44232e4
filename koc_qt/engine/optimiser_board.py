"""Which combinations of a study are to be evaluated next, and which of them a second time."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence

from koc_qt.domain.optimisation import Trial
from koc_qt.ports.studies import Sampler
from koc_qt.sdk.sweep_messages import TrialAsked


class Board:
    """Which combinations are to be evaluated: those that were lost first, then what the sampler proposes."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._found: list[Trial] = []  # that the sampler has not heard of
        self._asking = asyncio.Lock()
        self._again: deque[Sequence[TrialAsked]] = deque()
        self._attempts: Counter[int] = Counter()
        self._out = 0
        self._changed = asyncio.Condition()

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to be made again."""
        return not self._again

    async def take(self, count: int) -> Sequence[TrialAsked]:
        """Give the next ones; none once all are over, for which it waits: others may lose theirs."""
        while True:
            async with self._asking:
                if self._again:
                    self._out += len(self._again[0])
                    return self._again.popleft()
                heard, self._found = self._found, []
                if heard:
                    await asyncio.to_thread(self._sampler.tell, heard)
                found = await asyncio.to_thread(self._sampler.ask, count)
                self._out += len(found)
                if found:
                    return found
            async with self._changed:
                if self._out == 0 and not self._again:
                    return ()
                await self._changed.wait_for(lambda: self._out == 0 or bool(self._again))

    async def over(self, count: int) -> None:
        """Note that so many are no longer out, whatever became of them."""
        async with self._changed:
            self._out -= count
            self._changed.notify_all()

    def hear(self, trial: Trial) -> None:
        """Let the sampler know of a trial before it is asked again."""
        if self._sampler.learns:
            self._found.append(trial)

    def again(self, trials: Sequence[TrialAsked]) -> None:
        """Have these evaluated once more."""
        self._again.append(list(trials))

    def attempted(self, number: int) -> int:
        """Count an attempt at a combination that was alone in its batch, and give how many there were."""
        self._attempts[number] += 1
        return self._attempts[number]
