"""The work of ``koc optimize``: have a study made, show how far it is, and hand out what came of it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from koc_qt.cli.backtest_asked import Asked, bench_for, read_asked
from koc_qt.cli.lines import span
from koc_qt.cli.named_files import output_file
from koc_qt.cli.optimize_report import OptimizeReport
from koc_qt.cli.optimize_resume import resume
from koc_qt.config import Config, load_config
from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.errors import ConfigError, InvalidOrder, StorageError, StrategyError
from koc_qt.domain.optimisation import Method, Objective, ParameterRange, StudySnapshot, StudySpec
from koc_qt.domain.percentages import percentage
from koc_qt.domain.state import JobState
from koc_qt.engine.backtest_feed import Prepared
from koc_qt.engine.optimiser import PAGE_LIMIT, Optimiser
from koc_qt.engine.strategy_file import read_source
from koc_qt.link.optimiser_messages import StudyChanged, StudyFact
from koc_qt.logger import setup_logger
from koc_qt.paths import Paths, profile_paths
from koc_qt.wiring.backtest import Bench, on_qt
from koc_qt.wiring.optimiser import make_optimiser

INTERRUPTED = 130
FRUITLESS = 1  # it is done, and nothing was found: what reads the best of it must know
_LINE_S = 2.0  # without a terminal, a line so often at most

Show = Callable[[StudySnapshot], None]


@dataclass
class _Found:
    """What is known of the study; what an interrupt can still report of."""

    study: StudySnapshot | None = None
    report: OptimizeReport | None = None
    trouble: StorageError | None = None  # results that could not be written, and are shown all the same


def run(args: argparse.Namespace) -> int:
    """Search, show progress and results, and give the exit code. Raises KocError with a sentence for the person."""
    asked = read_asked(args)
    ranges = tuple(map(read_range, args.ranges))
    objectives = tuple(map(Objective.parse, args.objective)) or (Objective("sharpe"),)
    for each in ranges:
        if each.name in asked.rules["parameters"]:
            raise ConfigError(f"{each.name} has a --range and is --set: one of them says what it may be")
    for option in ("json", "csv"):
        if name := getattr(args, option):
            output_file(option, name)
    paths = profile_paths()
    paths.ensure()
    config = load_config(paths)
    found = _Found()

    def study_spec(bench: Bench) -> StudySpec:
        return StudySpec(
            base=asked.spec(bench),
            ranges=ranges,
            constraints=tuple(args.where),
            objectives=objectives,
            method=Method(args.method),
            trials=args.trials,
            seed=args.search_seed,
            prune=args.prune,
            floor=args.floor,
            processes=args.processes,
            cluster=args.dask,
        )

    going_on = partial(resume, args=args, asked=asked, ranges=ranges, objectives=objectives)
    code = 0
    with closing(setup_logger(paths, level="ERROR")):
        try:
            with _progress(Path(asked.path).name) as show:
                on_qt(lambda: _work(asked, study_spec, going_on, args, config, paths, show, found))
        except KeyboardInterrupt:
            if found.report is None:
                raise
            code = INTERRUPTED
    if found.study is None or found.report is None:
        return code
    found.report.show(found.study)
    if found.trouble is not None:
        raise found.trouble
    if code:
        print(f"Stopped. All {found.study.finished:,} trials are kept: --resume {found.study.study_id} goes on.")
    return code or (0 if found.report.has_best else FRUITLESS)


def read_range(text: str) -> ParameterRange:
    """Read NAME=LOW:HIGH, NAME=LOW:HIGH:STEP or NAME=A,B,C. Raises ConfigError."""
    name, equals, values = text.partition("=")
    name, parts = name.strip(), values.split(":")
    if not equals or not name or not values.strip():
        raise ConfigError(f"--range {text}: write NAME=LOW:HIGH:STEP, such as fast=5:50:5, or NAME=A,B,C")
    if len(parts) == 1:
        return ParameterRange(name, choices=tuple(value.strip() for value in values.split(",")))
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 3):
        raise ConfigError(f"--range {text}: write numbers, such as {name}=5:50:5")
    return ParameterRange(name, numbers[0], numbers[1], numbers[2] if len(numbers) == 3 else None)


async def _work(
    asked: Asked,
    study_spec: Callable[[Bench], StudySpec],
    going_on: Callable[[Optimiser], Awaitable[None]],
    args: argparse.Namespace,
    config: Config,
    paths: Paths,
    show: Show,
    found: _Found,
) -> None:
    async with bench_for(asked, config, paths) as bench:
        ended = asyncio.Event()
        wanted = ""

        def publish(fact: StudyFact) -> None:
            if isinstance(fact, StudyChanged) and fact.study.study_id == wanted:
                found.study = fact.study
                show(fact.study)
                if fact.study.state is not JobState.RUNNING:
                    ended.set()

        optimiser = make_optimiser(
            bench,
            partial(_prepared, bench, asked.path),
            paths,
            args.store or config.engine.studies,
            publish,
            "koc optimize",
        )
        try:
            if args.resume:
                await going_on(optimiser)
                wanted = args.resume  # not before: that it had stopped is told as well
                publish(StudyChanged(optimiser.study(wanted)))
                print(f"{wanted} goes on as it began: with its own ranges, rules and dates", file=sys.stderr)
            else:
                spec = study_spec(bench)
                await optimiser.load()
                wanted = await optimiser.start(spec)
            await ended.wait()
            await _read(found, optimiser, wanted, args)
        except asyncio.CancelledError:
            if found.study is not None:  # else it had not begun
                await optimiser.stop(wanted)
                await _read(found, optimiser, wanted, args)
            raise
        finally:
            await optimiser.close()
    if found.study is not None and found.study.state is JobState.FAILED:
        raise StrategyError(f"{found.study.study_id} failed: {found.study.reason}")
    if found.study is not None and found.study.state is JobState.STOPPED:  # and not by Ctrl-C, which does not come here
        raise StrategyError(f"stopped: {found.study.reason}")


async def _prepared(bench: Bench, path: str, spec: BacktestSpec) -> Prepared:
    """Give what a run needs, of the bench's instruments. Raises StrategyError, InvalidOrder."""
    if Path(spec.path) != Path(path):
        raise StrategyError(f"the study is of {spec.path}: name that file")
    if set(spec.instruments) != {each.id for each in bench.instruments}:
        asked = ", ".join(map(str, spec.instruments))
        raise InvalidOrder(f"the study is on {asked}: name its symbols and files as they were when it began")
    return Prepared(spec, await asyncio.to_thread(read_source, spec.path), bench.instruments, bench)


async def _read(found: _Found, optimiser: Optimiser, study_id: str, args: argparse.Namespace) -> None:
    """Take the study's trials and write them to the files asked for; where that fails, they can be shown at least."""
    try:
        await _take(found, optimiser, study_id, OptimizeReport(args.top, args.json, args.csv))
    except StorageError as error:
        found.trouble = error
        await _take(found, optimiser, study_id, OptimizeReport(args.top, None, None))


async def _take(found: _Found, optimiser: Optimiser, study_id: str, report: OptimizeReport) -> None:
    """Take the study's trials page by page, so that few are in memory."""
    after = -1
    with report.writing():
        while found.study is not None and (page := await optimiser.trials(study_id, after, PAGE_LIMIT)):
            report.add(found.study, page)
            after = page[-1].number
    found.report = report


# ---- what is shown --------------------------------------------------------------------------------------------------


def progress_words(study: StudySnapshot) -> str:
    """Say how far a study is."""
    said = [study.reason or study.stage or ("starting" if study.state is JobState.RUNNING else str(study.state))]
    if study.stage == "trials":
        total = "" if study.total is None else f" of {study.total:,}"
        said = [*([study.reason] if study.reason else []), f"{study.finished:,}{total} trials"]
    objective = study.spec.objectives[0]
    if study.best is not None and (value := study.best.value(objective)) is not None:
        said.append(f"best {objective.statistic} {value:,.4g}")
    if study.remaining_s is not None:
        said.append(f"{span(study.remaining_s)} left")
    return ", ".join(said)


@contextmanager
def _progress(title: str) -> Iterator[Show]:
    """Give what shows progress, on stderr: a bar on a terminal, else a line now and then."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
        with Progress(
            *columns, TextColumn("{task.fields[words]}"), console=Console(stderr=True), transient=True
        ) as bar:
            task = bar.add_task(title, total=1.0, words="starting")
            yield lambda study: bar.update(task, completed=_share(study), words=progress_words(study))
        return
    loop_s, stage = -_LINE_S, ""

    def line(study: StudySnapshot) -> None:
        nonlocal loop_s, stage
        now_s = study.time_ns / 1e9
        if study.stage != stage or now_s >= loop_s + _LINE_S:
            loop_s, stage = now_s, study.stage
            print(f"{title}: {percentage(_share(study))}, {progress_words(study)}", file=sys.stderr, flush=True)

    yield line


def _share(study: StudySnapshot) -> float:
    return study.finished / study.total if study.total else 0.0
