"""Trials of a study as columns of numbers, for pictures: a map of two parameters, and lines through all. No widgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from koc_qt.domain.optimisation import Objective, StudySpec, Trial
from koc_qt.ui.backtests.words import caption, statistic_text
from koc_qt.ui.charts.series import Floats, Ints

MOST_CELLS = 24  # of a side: more values are put together
MOST_LINES = 500
Places = NDArray[np.int64]


class Axis(NamedTuple):
    """A parameter's values on a map: what each place is called."""

    name: str
    labels: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class HeatMap:
    """Two parameters: the best value of each pair, nan where none was tried; shape (y, x).

    `numbers` are those of the trials with these values, -1 for none; `counts` how many trials a cell stands for.
    """

    x: Axis
    y: Axis
    values: Floats
    numbers: Ints
    counts: Ints
    objective: Objective

    @property
    def best(self) -> tuple[int, int] | None:
        """The place (x, y) of the best cell; None where nothing was tried."""
        if np.isnan(self.values).all():
            return None
        flat = np.nanargmax(self.values) if self.objective.maximise else np.nanargmin(self.values)
        y, x = np.unravel_index(int(flat), self.values.shape)
        return int(x), int(y)


def value_text(value: Any) -> str:
    """Write a parameter's value."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def objective_text(objective: Objective, value: float | None) -> str:
    """Write an objective's value."""
    return statistic_text(objective.statistic, value, "", 2)


def objective_name(objective: Objective) -> str:
    """Name an objective."""
    return caption(objective.statistic).text


def done(trials: Sequence[Trial], objective: Objective) -> list[tuple[Trial, float]]:
    """Give the trials that have a value, with it."""
    return [(trial, value) for trial in trials if (value := trial.value(objective)) is not None]


def heat_map(trials: Sequence[Trial], x: str, y: str, objective: Objective) -> HeatMap:
    """Put trials on a map of two parameters; `y` empty is a map of one row."""
    known = done(trials, objective)
    x_axis, columns = _axis(x, [trial.parameters.get(x) for trial, _ in known])
    y_axis, rows = _axis(y, [trial.parameters.get(y) for trial, _ in known]) if y else (Axis("", ("",)), columns * 0)
    shape = len(y_axis.labels), len(x_axis.labels)
    values, numbers, counts = np.full(shape, np.nan), np.full(shape, -1, np.int64), np.zeros(shape, np.int64)
    for (trial, value), column, row in zip(known, columns.tolist(), rows.tolist(), strict=True):
        counts[row, column] += 1
        held = float(values[row, column])
        if held != held or objective.is_better(value, held):
            values[row, column], numbers[row, column] = value, trial.number
    return HeatMap(x_axis, y_axis, values, numbers, counts, objective)


def _axis(name: str, values: list[Any]) -> tuple[Axis, Places]:
    """Give the places of values on an axis, each value one of its own where they are few, else stretches of numbers."""
    is_number = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    distinct = sorted(set(values)) if is_number else sorted({str(value) for value in values})
    if not is_number:
        place_of = {text: place for place, text in enumerate(distinct)}
        places = np.array([place_of[str(value)] for value in values], np.int64)
        return Axis(name, tuple(map(str, distinct))), places
    numbers = np.array(values, np.float64)
    if len(distinct) <= MOST_CELLS:
        labels = tuple(value_text(value) for value in distinct)
        return Axis(name, labels), np.searchsorted(np.array(distinct, np.float64), numbers)
    edges = np.linspace(numbers.min(), numbers.max(), MOST_CELLS + 1)
    labels = tuple(f"{(low + high) / 2:.4g}" for low, high in pairwise(edges.tolist()))
    return Axis(name, labels), np.clip(np.searchsorted(edges, numbers, "right") - 1, 0, MOST_CELLS - 1)


class Scale(NamedTuple):
    """An axis of parallel coordinates: its name, and what stands at its foot and its head."""

    name: str
    low: str
    high: str


@dataclass(frozen=True, eq=False)
class Lines:
    """Trials as lines through all axes: `places` from 0 (foot) to 1 (head), shape (trials, axes), the worst first."""

    scales: tuple[Scale, ...]
    places: Floats
    ranks: Floats  # of the first objective, 0 for the worst to 1 for the best
    numbers: Ints


def lines_of(trials: Sequence[Trial], spec: StudySpec) -> Lines:
    """Give the trials that have a value as lines; of very many the best, and some of the others evenly."""
    objective = spec.objectives[0]
    known = sorted(done(trials, objective), key=lambda pair: pair[1], reverse=not objective.maximise)
    known = _some(known)
    names = parameter_names(trials, spec)
    columns: list[Floats] = []
    scales: list[Scale] = []
    for name in names:
        scale, places = _scale(name, [trial.parameters.get(name) for trial, _ in known])
        scales.append(scale)
        columns.append(places)
    for each in spec.objectives:
        found = np.array([_or_nan(trial.value(each)) for trial, _ in known], np.float64)
        low, high = (float(np.nanmin(found)), float(np.nanmax(found))) if len(found) else (0.0, 0.0)
        scales.append(Scale(objective_name(each), objective_text(each, low), objective_text(each, high)))
        columns.append(_shares(np.nan_to_num(found, nan=low)))
    count = len(known)
    return Lines(
        tuple(scales),
        np.stack(columns, axis=1) if columns else np.empty((count, 0)),
        np.linspace(0.0, 1.0, count) if count > 1 else np.ones(count),
        np.array([trial.number for trial, _ in known], np.int64),
    )


def parameter_names(trials: Sequence[Trial], spec: StudySpec) -> list[str]:
    """Give what is searched: the ranges, or before they are known what trials have."""
    return [each.name for each in spec.ranges] or (list(trials[0].parameters) if trials else [])


def _some(known: list[tuple[Trial, float]]) -> list[tuple[Trial, float]]:
    if len(known) <= MOST_LINES:
        return known
    best, rest = known[-MOST_LINES // 2 :], known[: -MOST_LINES // 2]
    return [rest[place] for place in np.linspace(0, len(rest) - 1, MOST_LINES // 2).astype(int).tolist()] + best


def _scale(name: str, values: list[Any]) -> tuple[Scale, Floats]:
    if values and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        numbers = np.array(values, np.float64)
        return Scale(name, value_text(min(values)), value_text(max(values))), _shares(numbers)
    distinct = sorted({str(value) for value in values})
    places = np.array([distinct.index(str(value)) for value in values], np.float64)
    low, high = (distinct[0], distinct[-1]) if distinct else ("", "")
    return Scale(name, low, high), _shares(places)


def _shares(numbers: Floats) -> Floats:
    if not len(numbers):
        return numbers
    low, span = numbers.min(), numbers.max() - numbers.min()
    shares: Floats = (numbers - low) / span if span > 0 else np.full(len(numbers), 0.5)
    return shares


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
