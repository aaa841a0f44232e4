"""What an optimisation is asked to search, and what it found. Times are UTC nanoseconds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec

from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.constraints import Constraint
from koc_qt.domain.errors import ConfigError
from koc_qt.domain.performance import STATISTICS
from koc_qt.domain.state import JobState

TRIALS_LIMIT = 1_000_000  # of one study
RANGES_LIMIT = 32
OBJECTIVES_LIMIT = 4
CHECKPOINTS = 9  # a run's tenths at which it may be given up

Parameters = dict[str, Any]

_ORIGIN = {
    "data": "the bars",
    "strategy": "the strategy's file",
    "search": "what is searched (ranges, conditions, objectives, method)",
    "rules": "dates, cash, costs or other rules of a run",
    "instruments": "what the venue says of the symbols (ticks, lots, fees)",
}
_MINIMISED = frozenset({"volatility", "max_drawdown", "max_drawdown_s", "turnover", "fees", "open_trades"})


class Method(StrEnum):
    """How combinations are chosen. BAYESIAN learns from those that were tried; GRID tries all there are."""

    GRID = "grid"
    RANDOM = "random"
    BAYESIAN = "bayesian"


class TrialState(StrEnum):
    """What came of a combination. INFEASIBLE was refused by the strategy itself; PRUNED was given up half-way."""

    DONE = "done"
    INFEASIBLE = "infeasible"
    FAILED = "failed"
    PRUNED = "pruned"


class ParameterRange(msgspec.Struct, frozen=True):
    """What one parameter may be: one of `choices`, or a number from `low` to `high`, both included.

    With `step` only whole steps from `low` are meant; without, every number between, of which a grid is impossible.
    `whole` makes the values ints. Raises ConfigError where there is nothing to choose from.
    """

    name: str
    low: float | None = None
    high: float | None = None
    step: float | None = None
    choices: tuple[Any, ...] = ()
    whole: bool = False

    def __post_init__(self) -> None:
        if self.choices:
            if (self.low, self.high, self.step) != (None, None, None):
                raise ConfigError(f"the range of {self.name} has choices and numbers: give one of them")
            return
        if self.low is None or self.high is None:
            raise ConfigError(f"the range of {self.name} needs a lowest and a highest value, or choices")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ConfigError(f"the range of {self.name} goes from {self.low:g} to {self.high:g}: nothing lies there")
        if self.step is not None and not (math.isfinite(self.step) and self.step > 0):
            raise ConfigError(f"the step of {self.name} must be above zero, not {self.step:g}")
        if self.whole and any(edge is not None and edge != int(edge) for edge in (self.low, self.high, self.step)):
            raise ConfigError(f"{self.name} is a whole number: its range must have whole ends and steps")
        if self.count is not None and self.count > TRIALS_LIMIT:
            raise ConfigError(
                f"{self.name} has {self.count:,} values: {TRIALS_LIMIT:,} are the most, take longer steps"
            )

    @property
    def count(self) -> int | None:
        """How many values there are; None for all numbers between two."""
        if self.choices:
            return len(self.choices)
        low, high, step = self._numbers()
        return None if step is None else int((high - low) / step) + 1

    def value(self, place: int) -> Any:
        """Give a value by its place, from 0 to `count` - 1."""
        if self.choices:
            return self.choices[place]
        low, _, step = self._numbers()
        exact = low if step is None else low + place * step  # 0.1 in ten steps ends at 1.1, not beside it
        return int(exact) if self.whole else float(exact)

    def at(self, share: float) -> Any:
        """Give the value at a share of the way through, from 0 to below 1."""
        count = self.count
        if count is not None:
            return self.value(min(int(share * count), count - 1))
        low, high, _ = self._numbers()
        return float(low) + share * float(high - low)

    def ends(self) -> tuple[Any, ...]:
        """Give the first and the last value, once where they are the same."""
        count = self.count
        if count is None:
            return (float(self.low or 0.0), float(self.high or 0.0))
        return tuple(dict.fromkeys((self.value(0), self.value(count - 1))))

    def _numbers(self) -> tuple[Decimal, Decimal, Decimal | None]:
        step = 1.0 if self.whole and self.step is None else self.step
        low, high = Decimal(repr(self.low)), Decimal(repr(self.high))
        return low, high, None if step is None else Decimal(repr(step))


class Objective(msgspec.Struct, frozen=True):
    """A statistic of domain/performance.py that is to be as large as possible, or as small. Raises ConfigError."""

    statistic: str
    maximise: bool = True

    def __post_init__(self) -> None:
        if self.statistic not in STATISTICS:
            raise ConfigError(f"there is no statistic {self.statistic!r}; there are: {', '.join(STATISTICS)}")

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read ``sharpe``, ``max:trades`` or ``min:fees``; without a direction that which people mean is taken."""
        direction, colon, name = text.strip().partition(":")
        if not colon:
            return cls(direction, direction not in _MINIMISED)
        if direction not in ("max", "min"):
            raise ConfigError(f"{text!r} is no objective: write a statistic, or max: or min: before one")
        return cls(name, direction == "max")

    def is_better(self, one: float, other: float) -> bool:
        """Whether one value is better than another."""
        return one > other if self.maximise else one < other

    def __str__(self) -> str:
        return f"{'max' if self.maximise else 'min'}:{self.statistic}"


class StudySpec(msgspec.Struct, frozen=True):
    """What to search: `base` says what is run, and has the values of the parameters that stay as they are.

    `constraints` are expressions such as ``fast < slow`` that combinations must fulfil to be tried. `trials` bounds how
    many are, and is needed for all methods but the grid. A trial whose equity falls below `floor`, a share of the cash,
    or, with `prune`, below the median of those before it at a tenth of its way, is given up; both are for strategies
    without signals. `processes` is how many run at once, 0 for one a core; `cluster` the address of a Dask scheduler
    that runs them instead. Without `ranges` all parameters that the file declares bounds of are searched. Raises
    ConfigError.
    """

    base: BacktestSpec
    ranges: tuple[ParameterRange, ...] = ()
    constraints: tuple[str, ...] = ()
    objectives: tuple[Objective, ...] = (Objective("sharpe"),)
    method: Method = Method.GRID
    trials: int | None = None
    seed: int = 0
    prune: bool = False
    floor: float | None = None
    processes: int = 0
    cluster: str = ""

    def __post_init__(self) -> None:
        names = [each.name for each in self.ranges]
        if len(set(names)) < len(names):
            raise ConfigError(f"a parameter is given two ranges: {', '.join(names)}")
        if len(names) > RANGES_LIMIT:
            raise ConfigError(f"{RANGES_LIMIT} parameters are the most that are searched, not {len(names)}")
        if not 1 <= len(self.objectives) <= OBJECTIVES_LIMIT:
            raise ConfigError(f"a study has 1 to {OBJECTIVES_LIMIT} objectives, not {len(self.objectives)}")
        if len({each.statistic for each in self.objectives}) < len(self.objectives):
            raise ConfigError("a statistic can be an objective once only")
        if self.trials is not None and not 1 <= self.trials <= TRIALS_LIMIT:
            raise ConfigError(f"a study makes 1 to {TRIALS_LIMIT:,} trials, not {self.trials:,}")
        if self.floor is not None and not 0 < self.floor < 1:
            raise ConfigError(f"the floor is a share of the cash, above 0 and below 1, not {self.floor:g}")
        if not 0 <= self.processes <= 256:
            raise ConfigError(f"a study runs in 0 (one a core) to 256 processes, not {self.processes}")
        for text in self.constraints:
            Constraint(text)
        if self.method is not Method.GRID and self.trials is None:
            raise ConfigError(f"say how many trials a {self.method} search may make")

    def check_size(self) -> None:
        """Raise ConfigError for a grid that has no end, or too many combinations."""
        size = grid_size(self.ranges)
        if self.method is not Method.GRID:
            return
        if size is None:
            endless = next(each.name for each in self.ranges if each.count is None)
            raise ConfigError(f"a grid needs steps: give {endless} one, or choose another method")
        if size > TRIALS_LIMIT:
            raise ConfigError(
                f"the grid has {size:,} combinations and {TRIALS_LIMIT:,} are the most: "
                "take longer steps, or choose another method"
            )


class Trial(msgspec.Struct, frozen=True):
    """One combination and what came of it. `statistics` has those that were worked out; `reason` says what went wrong.

    `number` is its place in the order in which the method proposes combinations, from 0. Statistics are those of the
    whole run, none where it was not finished.
    """

    number: int
    parameters: Parameters
    state: TrialState
    statistics: dict[str, float | None] = {}
    reason: str = ""
    seconds: float = 0.0

    def value(self, objective: Objective) -> float | None:
        """Give an objective's value; None where there is none."""
        value = self.statistics.get(objective.statistic) if self.state is TrialState.DONE else None
        return value if value is not None and math.isfinite(value) else None


class StudyOrigin(msgspec.Struct, frozen=True):
    """What a study's trials are made from: SHA-256 in hexadecimal, and versions by name.

    `data` is over all bars that go in, warm-up included, and the same as that of a back-test's Provenance with as many
    of them; `strategy` over the file; `search` over ranges, conditions, objectives and method; `rules` over dates,
    cash, costs and the other rules of a run; `instruments` over what venues say of the symbols: ticks, lots, fees.
    """

    data: str
    strategy: str
    search: str
    rules: str
    instruments: str
    versions: dict[str, str]

    def differences(self, now: StudyOrigin) -> list[str]:
        """Name, for a person, what is another today."""
        found = [phrase for name, phrase in _ORIGIN.items() if getattr(self, name) != getattr(now, name)]
        for name in sorted(self.versions.keys() | now.versions.keys()):
            was, is_now = self.versions.get(name, "none"), now.versions.get(name, "none")
            if was != is_now:
                found.append(f"the version of {name} ({was} then, {is_now} now)")
        return found


class StudySnapshot(msgspec.Struct, frozen=True):
    """How far a study is. `total` is how many trials there will be, None while that is not known.

    `counts` maps trial states to how many ended so; `best` is the best trial by the first objective, and `front` are
    the numbers of those that no other beats in every objective, at most 100. `strategy` is the SHA-256 of the file.
    `owner` says in words which process runs it, such as "koc optimize, process 7 on host"; empty where none does.
    `origin` is None until the bars were read, and for studies of versions that did not keep it.
    """

    study_id: str
    spec: StudySpec
    state: JobState
    reason: str
    stage: str  # "history", "trials" or empty
    total: int | None
    counts: dict[str, int]
    best: Trial | None
    front: list[int]
    processes: int
    remaining_s: float | None
    started_ns: int
    time_ns: int
    strategy: str = ""
    owner: str = ""
    origin: StudyOrigin | None = None

    @property
    def finished(self) -> int:
        """How many trials are over, whatever came of them."""
        return sum(self.counts.values())


# ---- which combinations ---------------------------------------------------------------------------------------------


def grid_size(ranges: Iterable[ParameterRange]) -> int | None:
    """Give how many combinations a grid has, before constraints; None where a range has no steps."""
    size = 1
    for each in ranges:
        if (count := each.count) is None:
            return None
        size *= count
    return size


def grid(ranges: Sequence[ParameterRange]) -> Iterator[Parameters]:
    """Give every combination, neighbours close together: what one needs the next has mostly worked out already.

    The grid is halved along its longest side until single combinations are left. Raises ConfigError without steps.
    """
    counts = [each.count for each in ranges]
    if None in counts:
        raise ConfigError("a grid needs steps")
    boxes = [tuple((0, count or 0) for count in counts)]
    while boxes:
        box = boxes.pop()
        side = max(range(len(box)), key=lambda place: box[place][1] - box[place][0], default=None)
        if side is None or box[side][1] - box[side][0] == 1:
            yield {each.name: each.value(begin) for each, (begin, _) in zip(ranges, box, strict=True)}
            continue
        begin, end = box[side]
        middle = (begin + end) // 2
        boxes.append((*box[:side], (middle, end), *box[side + 1 :]))
        boxes.append((*box[:side], (begin, middle), *box[side + 1 :]))


def corners(ranges: Sequence[ParameterRange], limit: int = 64) -> list[Parameters]:
    """Give the combinations of first and last values, the first `limit` of them."""
    found: list[Parameters] = [{}]
    for each in ranges:
        found = [{**known, each.name: value} for known in found for value in each.ends()][:limit]
    return found


class Fulfils:
    """Tells whether combinations fulfil all constraints, `fixed` being the parameters that stay as they are."""

    def __init__(self, constraints: Iterable[str], fixed: Mapping[str, Any]) -> None:
        self._constraints = [Constraint(text) for text in constraints]
        self._fixed = fixed

    def __call__(self, parameters: Mapping[str, Any]) -> bool:
        """Whether they do. Raises ConfigError where that cannot be said, as of a text that is less than a number."""
        values = {**self._fixed, **parameters}
        return all(each.holds(values) for each in self._constraints)


# ---- which are best -------------------------------------------------------------------------------------------------


def dominates(one: Sequence[float], other: Sequence[float], objectives: Sequence[Objective]) -> bool:
    """Whether one is at least as good in every objective, and better in one."""
    better = False
    for mine, theirs, objective in zip(one, other, objectives, strict=True):
        if objective.is_better(theirs, mine):
            return False
        better = better or mine != theirs
    return better


class Leaders:
    """The best trial by the first objective, and the front of those that no other dominates; of equals the first."""

    def __init__(self, objectives: Sequence[Objective], limit: int = 100) -> None:
        self._objectives = objectives
        self._limit = limit
        self._front: list[tuple[list[float], int]] = []
        self.best: Trial | None = None

    @property
    def front(self) -> list[int]:
        """The numbers of the trials of the front, ascending."""
        return sorted(number for _, number in self._front)

    def add(self, trial: Trial) -> None:
        """Take a trial; one without a value for every objective leads nothing."""
        found = [trial.value(objective) for objective in self._objectives]
        values = [value for value in found if value is not None]
        if len(values) < len(found):
            return
        if self.best is None or self._leads(trial, values[0], self.best):
            self.best = trial
        if any(dominates(other, values, self._objectives) for other, _ in self._front):
            return
        kept = [each for each in self._front if not dominates(values, each[0], self._objectives)]
        self._front = sorted([*kept, (values, trial.number)], key=lambda each: each[1])[: self._limit]

    def _leads(self, trial: Trial, value: float, best: Trial) -> bool:
        first = self._objectives[0]
        held = best.value(first)
        return held is None or first.is_better(value, held) or (value == held and trial.number < best.number)


class MedianFloor:
    """What equity a trial must have at each tenth of its way: the median of the others there, once enough were seen."""

    def __init__(self, cash: float, floor: float | None, *, median: bool, least: int = 5) -> None:
        self._lowest = 0.0 if floor is None else floor * cash
        self._median = median
        self._least = least
        self._seen: list[list[float]] = [[] for _ in range(CHECKPOINTS)]

    def add(self, equity: Sequence[float]) -> None:
        """Take the equity that a trial had at the tenths that it came to."""
        if self._median:
            for seen, value in zip(self._seen, equity, strict=False):
                seen.append(value)

    def floors(self) -> list[float]:
        """Give the least equity at each tenth; 0 where nothing is asked."""
        return [max(self._lowest, self._middle(seen)) for seen in self._seen]

    def _middle(self, seen: list[float]) -> float:
        if len(seen) < self._least:
            return 0.0
        seen.sort()
        return seen[(len(seen) - 1) // 2]
