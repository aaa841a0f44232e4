"""How far a back-test is: a bar on a terminal, else a line now and then; on stderr, away from the results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from koc_qt.cli.lines import span
from koc_qt.domain.backtests import BacktestSnapshot
from koc_qt.domain.percentages import percentage
from koc_qt.domain.trust import utc_text

if TYPE_CHECKING:
    from rich.progress import Progress

Tell = Callable[[float, str], None]  # the fraction done, and how far that is in words
Show = Callable[[str], AbstractContextManager[Tell]]  # given what it does, such as the engine that runs

_STAGES = {"history": "history", "run": "run", "": "starting"}


@contextmanager
def shown_progress(title: str) -> Iterator[Show]:
    """Give what shows the progress of one piece of work after the other."""
    if not sys.stderr.isatty():
        yield lambda work: _lines(f"{title} {work}")
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[words]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield lambda work: _bar(progress, f"{title} {work}")


def words(run: BacktestSnapshot) -> str:
    """Say how far a run is: bars, the date that was reached, the equity there, and the time that remains."""
    said = [run.reason or _STAGES.get(run.stage, run.stage)]
    if run.position_ns is not None and run.bars:
        said += [f"{run.bars:,} bars", utc_text(run.position_ns)]
    if run.equity is not None and run.bars:
        said.append(f"equity {run.equity:,.2f}")
    if run.remaining_s is not None:
        said.append(f"{span(run.remaining_s)} left")
    return ", ".join(said)


@contextmanager
def _bar(progress: Progress, title: str) -> Iterator[Tell]:
    task = progress.add_task(title, total=1.0, words="starting")
    try:
        yield lambda fraction, text: progress.update(task, completed=fraction, words=text)
    finally:
        progress.remove_task(task)


@contextmanager
def _lines(title: str) -> Iterator[Tell]:
    """Print a line for each tenth of a stage, which the text begins with, and for what is no usual stage."""
    stage, shown = "", 0

    def line(fraction: float, text: str) -> None:
        nonlocal stage, shown
        begins = (first := text.partition(",")[0]) != stage
        if begins:
            stage, shown = first, 0
        if (tenths := int(fraction * 10)) > shown or (begins and stage not in _STAGES.values()):
            shown = tenths
            print(f"{title}: {percentage(fraction)}, {text}", file=sys.stderr, flush=True)

    yield line
