"""How far a back-test is: a bar on a terminal, else a line now and then; on stderr, away from the results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from koc_qt.cli.lines import span
from koc_qt.domain.backtests import BacktestSnapshot
from koc_qt.domain.trust import utc_text

if TYPE_CHECKING:
    from rich.progress import Progress

Changed = Callable[[BacktestSnapshot], None]
Show = Callable[[str], AbstractContextManager[Changed]]

_STEP = 0.1  # without a terminal, a line for each tenth
_STAGES = {"history": "history", "run": "run", "": "starting"}


@contextmanager
def shown_progress(title: str) -> Iterator[Show]:
    """Give what shows the progress of one run after the other, each by the name of its engine."""
    if not sys.stderr.isatty():
        yield lambda engine: _lines(f"{title} on {engine}")
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[words]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield lambda engine: _bar(progress, f"{title} on {engine}")


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
def _bar(progress: Progress, title: str) -> Iterator[Changed]:
    task = progress.add_task(title, total=1.0, words="starting")
    try:
        yield lambda run: progress.update(task, completed=run.progress, words=words(run))
    finally:
        progress.remove_task(task)


@contextmanager
def _lines(title: str) -> Iterator[Changed]:
    stage, shown, reason = "", 0.0, ""

    def line(run: BacktestSnapshot) -> None:
        nonlocal stage, shown, reason
        if run.stage != stage:
            stage, shown = run.stage, 0.0
        if (stage and run.progress >= shown + _STEP) or run.reason != reason:
            shown, reason = run.progress, run.reason
            print(f"{title}: {run.progress:.0%}, {words(run)}", file=sys.stderr, flush=True)

    yield line
