"""What an optimiser and a worker that evaluates many combinations for it say to each other: see sdk/channel.py.

StartSweep -> SweepLoaded, then ReplayBars and ReplayEnd -> SweepReady, then EvaluateTrials -> TrialsEvaluated ...
"""

from __future__ import annotations

from typing import Any

import msgspec


class TrialAsked(msgspec.Struct, frozen=True, array_like=True):
    """A combination: the values of the parameters that are searched."""

    number: int
    parameters: dict[str, Any]


class TrialFound(msgspec.Struct, frozen=True, array_like=True):
    """What came of a combination. `state` is one of domain/optimisation.py's TrialState.

    `statistics` map names of domain/performance.py to values; `equity` is what there was at each tenth of the run that
    it came to, the last left out; empty where the compiled kernel did it all.
    """

    number: int
    state: str
    statistics: dict[str, float | None]
    reason: str
    seconds: float
    equity: list[float]


class EvaluateTrials(msgspec.Struct, frozen=True, tag=True):
    """Evaluate these, in their order. One whose equity is below `floors` at a tenth of its way is given up there."""

    trials: list[TrialAsked]
    floors: list[float] = []


class TrialsEvaluated(msgspec.Struct, frozen=True, tag=True):
    """Some trials, in the order in which they were asked for; none where a long one is only under way."""

    trials: list[TrialFound]


class SweepReady(msgspec.Struct, frozen=True, tag=True):
    """All bars are there; `is_compiled` says that signals go through the compiled kernel."""

    bars: int
    is_compiled: bool
