"""Optuna's samplers: they learn from the trials that were made which combinations to try next.

For one objective the tree-structured Parzen estimator (Bergstra et al., 2011), for several NSGA-II (Deb et al., 2002).
Optuna keeps nothing: trials are in the study's own store, and told again when it is resumed. It runs no strategy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalChoiceType,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState as OptunaState
from optuna.trial import create_trial

from koc_qt.domain.errors import StrategyError
from koc_qt.domain.optimisation import Fulfils, ParameterRange, Parameters, StudySpec, Trial
from koc_qt.sdk.sweep_messages import TrialAsked

AT_ONCE = 4  # combinations that are asked for together, knowing nothing of each other
_PROPOSALS = 1_000  # in a row that the constraints refuse
_STARTUP = 10  # random trials, before anything can be learnt


class OptunaSampler:
    """Implements ports/studies.py Sampler."""

    learns = True

    def __init__(self, spec: StudySpec) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._spec = spec
        self._fulfils = Fulfils(spec.constraints, spec.base.parameters)
        self._space = {each.name: _distribution(each) for each in spec.ranges}
        self._ranges = {each.name: each for each in spec.ranges}
        self._asked: dict[int, int] = {}  # Optuna's numbers, by ours
        self._told: set[int] = set()
        self._next = 0
        sampler: optuna.samplers.BaseSampler
        if len(spec.objectives) == 1:
            sampler = optuna.samplers.TPESampler(seed=spec.seed, n_startup_trials=_STARTUP, constant_liar=True)
        else:
            sampler = optuna.samplers.NSGAIISampler(seed=spec.seed)
        self._study = optuna.create_study(
            sampler=sampler,
            directions=["maximize" if objective.maximise else "minimize" for objective in spec.objectives],
        )

    def total(self) -> int | None:
        """Give how many trials the study makes."""
        return self._spec.trials

    def ask(self, count: int) -> list[TrialAsked]:
        """Propose the next combinations."""
        left = (self._spec.trials or 0) - self._next - sum(1 for number in self._told if number >= self._next)
        return [self._propose() for _ in range(min(count, AT_ONCE, max(left, 0)))]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn from trials; those without a value for every objective count as having failed."""
        for trial in trials:
            found = [trial.value(objective) for objective in self._spec.objectives]
            values = None if None in found else [value for value in found if value is not None]
            number = self._asked.pop(trial.number, None)
            state = OptunaState.FAIL if values is None else OptunaState.COMPLETE
            if number is not None:
                self._study.tell(number, values, state=state)
                continue
            self._told.add(trial.number)
            known = {name: self._place(name, trial.parameters[name]) for name in self._space}
            self._study.add_trial(
                create_trial(state=state, values=values, params=known, distributions=dict(self._space))
            )

    def _propose(self) -> TrialAsked:
        """Ask Optuna until the constraints are fulfilled; what is refused is told as failed, and so learnt from."""
        while self._next in self._told:
            self._next += 1
        for _ in range(_PROPOSALS):
            trial = self._study.ask(self._space)
            parameters = {name: self._value(name, trial.params[name]) for name in self._space}
            if self._fulfils(parameters):
                return self._note(trial.number, parameters)
            self._study.tell(trial.number, state=OptunaState.FAIL)
        raise StrategyError(f"of {_PROPOSALS} combinations in a row none fulfils the constraints: loosen them")

    def _note(self, asked: int, parameters: Parameters) -> TrialAsked:
        number, self._next = self._next, self._next + 1
        self._asked[number] = asked
        return TrialAsked(number, parameters)

    def _value(self, name: str, proposed: CategoricalChoiceType) -> Any:
        """Give the parameter's value: for ranges with steps Optuna is asked for the place in them."""
        each = self._ranges[name]
        return float(proposed or 0.0) if each.count is None else each.value(int(proposed or 0))

    def _place(self, name: str, value: Any) -> Any:
        each = self._ranges[name]
        if each.count is None:
            return float(value)
        if each.choices:
            return each.choices.index(value)
        return round((value - (each.low or 0.0)) / (each.step or 1.0))


def _distribution(each: ParameterRange) -> BaseDistribution:
    if each.count is None:
        low, high = each.ends()
        return FloatDistribution(low, high)
    if each.choices:
        return CategoricalDistribution(list(range(len(each.choices))))
    return IntDistribution(0, each.count - 1)
