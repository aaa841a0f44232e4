"""What came of ``koc optimize``: the best trials as a table, and all of them as JSON and CSV."""

from __future__ import annotations

import contextlib
import csv
import heapq
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from koc_qt.cli.lines import counted
from koc_qt.domain.errors import StorageError
from koc_qt.domain.optimisation import StudySnapshot, Trial, TrialState
from koc_qt.domain.performance import STATISTICS
from koc_qt.files import durable_stream
from koc_qt.reports.export import trouble_of

_SHOWN = ("return", "sharpe", "max_drawdown", "trades")  # beside the objectives


@contextlib.contextmanager
def _text(file: Path) -> Iterator[IO[str]]:
    with durable_stream(file) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
        try:
            yield text
        finally:
            text.detach()  # the stream has yet to be made durable


class OptimizeReport:
    """Takes the trials of a study in pages, within `writing`; `json` and `csv` are names of files, or None."""

    def __init__(self, top: int, json: str | None, csv: str | None) -> None:
        self._top, self._json_name, self._csv_name = top, json, csv
        self._json: IO[str] | None = None
        self._csv: IO[str] | None = None
        self._best: list[tuple[float, int, Trial]] = []  # a heap; the worst first
        self._counts: Counter[TrialState] = Counter()
        self._reasons: dict[TrialState, str] = {}

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Open the files and complete them: they are there when the block has ended well. Raises StorageError."""
        try:
            with contextlib.ExitStack() as stack:
                if self._json_name:
                    self._json = stack.enter_context(_text(Path(self._json_name)))
                if self._csv_name:
                    self._csv = stack.enter_context(_text(Path(self._csv_name)))
                yield
                if self._json is not None:
                    self._json.write("\n]}\n" if self._counts else '{"trials": []}\n')
        except OSError as error:
            raise StorageError(f"the results cannot be written: {trouble_of(error)}") from error

    def add(self, study: StudySnapshot, trials: Sequence[Trial]) -> None:
        """Take some more, in the order of their numbers."""
        is_first = not self._counts
        if self._json is not None:
            begin = f'{{"study": {msgspec.json.encode(study).decode()},\n"trials": [\n' if is_first else ",\n"
            self._json.write(begin + ",\n".join(msgspec.json.encode(trial).decode() for trial in trials))
        if self._csv is not None:
            self._write_rows(csv.writer(self._csv), study, trials, is_first=is_first)
        first = study.spec.objectives[0]
        for trial in trials:
            self._counts[trial.state] += 1
            if trial.reason:
                self._reasons.setdefault(trial.state, trial.reason)
            if (value := trial.value(first)) is not None:
                heapq.heappush(self._best, (value if first.maximise else -value, -trial.number, trial))
                if len(self._best) > self._top:
                    heapq.heappop(self._best)

    @staticmethod
    def _write_rows(writer: Any, study: StudySnapshot, trials: Sequence[Trial], *, is_first: bool) -> None:
        names = [each.name for each in study.spec.ranges]
        if is_first:
            writer.writerow(["trial", "state", *names, *STATISTICS, "reason"])
        for trial in trials:
            values = [trial.parameters.get(name) for name in names]
            figures = [trial.statistics.get(name) for name in STATISTICS]
            writer.writerow([trial.number, trial.state.value, *values, *figures, trial.reason])

    @property
    def has_best(self) -> bool:
        """Whether any trial has a value of the first objective."""
        return bool(self._best)

    def show(self, study: StudySnapshot) -> None:
        """Print the best trials, and how many were of no use and why."""
        from rich.console import Console
        from rich.table import Table

        objectives, console = study.spec.objectives, Console()
        names = [each.name for each in study.spec.ranges]
        shown = list(dict.fromkeys([*(each.statistic for each in objectives), *_SHOWN]))
        tried = counted(self._counts.total(), "trial")
        table = Table(title=f"{study.study_id}: the best of {tried} by {objectives[0]}")
        for name in ["trial", *names, *shown]:
            table.add_column(name, justify="right")
        for _, _, trial in sorted(self._best, reverse=True, key=lambda each: each[:2]):
            figures = [trial.statistics.get(name) for name in shown]
            table.add_row(
                str(trial.number),
                *(f"{trial.parameters.get(name)}" for name in names),
                *("-" if value is None else f"{value:,.6g}" for value in figures),
            )
        if self._best:
            console.print(table)
        else:
            console.print(f"{study.study_id}: none of {tried} has a {objectives[0].statistic}.")
        if len(objectives) > 1 and study.front:
            console.print(f"No other trial beats these in every objective: {', '.join(map(str, study.front))}")
        for state in (TrialState.INFEASIBLE, TrialState.FAILED, TrialState.PRUNED):
            if count := self._counts[state]:
                why = f", such as: {self._reasons[state]}" if state in self._reasons else ""
                console.print(f"{count:,} {state}{why}", markup=False)
