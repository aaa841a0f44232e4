"""The work of ``koc backtest``: run it on one engine or on all that can, check it, and hand out what came of it."""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from koc_qt.cli.backtest import ALL
from koc_qt.cli.backtest_asked import Asked, bench_for, data_words, read_asked
from koc_qt.cli.backtest_keeping import Kept
from koc_qt.cli.backtest_progress import Show, shown_progress, words
from koc_qt.cli.named_files import output_file, output_folder
from koc_qt.config import Config, load_config
from koc_qt.domain.backtests import BacktestResult, BacktestSpec, Engine
from koc_qt.domain.errors import EngineLacks, KocError, StorageError
from koc_qt.domain.parity import Absence, Certificate, certify, engine_run
from koc_qt.domain.state import JobState
from koc_qt.domain.timeframes import duration_ns
from koc_qt.domain.trust import Verdict
from koc_qt.engine.backtest_run import BacktestRun
from koc_qt.logger import setup_logger
from koc_qt.paths import Paths, profile_paths
from koc_qt.reports.report import Check, Report
from koc_qt.ui.backtests.command import command_of
from koc_qt.wiring.backtest import Bench, Outcome, on_qt
from koc_qt.wiring.backtest import run as run_one

STDOUT = "-"
UNPROVEN = 3  # all is printed and written, but the certificate of --engine all is not green
_FILES = {"report": (".html", ".htm"), "json": (".json",)}  # options that name a file, and how such names end
_FOLDERS = {"csv": ".csv", "parquet": ".parquet"}  # options that name a folder, and the kind of what goes there
_CANNOT = {
    Engine.VECTORBT: "it runs one symbol, and strategies that declare signals() alone",
    Engine.BACKTRADER: "it runs strategies that hear bars or quotes",
}


@dataclass
class _Found:
    """What is known so far: a result for each engine that took part, in order; `kept` goes to the history of runs."""

    results: list[BacktestResult] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)
    certificate: Certificate | None = None
    checks: tuple[Check, ...] = ()
    kept: Kept = field(default_factory=Kept)


def run(args: argparse.Namespace) -> int:
    """Run it, show progress and results, and give the exit code. Raises KocError with a sentence for the person."""
    asked = read_asked(args)
    outputs = list(_outputs(args, Path(asked.path).stem))
    paths = profile_paths()
    paths.ensure()
    config = load_config(paths)
    found = _Found(kept=Kept(asked.reading))
    with closing(setup_logger(paths, level="WARNING")):
        try:
            with shown_progress(Path(asked.path).name) as show:
                report = on_qt(lambda: _work(found, asked, args.engine, args.trust, config, paths, show))
        finally:  # a run that failed or was stopped is one too
            if args.keep:
                found.kept.write(paths.backtests)
        try:
            _print(report, args.json)
        finally:  # the files do not depend on who reads what is printed, such as head
            _write(report, outputs)
    if args.engine == ALL and (report.certificate is None or report.certificate.verdict is not Verdict.GREEN):
        return UNPROVEN  # scripts that ask for a comparison need not read sentences
    return 0


async def _work(
    found: _Found, asked: Asked, engine: str, trust: bool, config: Config, paths: Paths, show: Show
) -> Report:
    async with bench_for(asked, config, paths) as bench:
        spec = asked.spec(bench)
        if engine == ALL:
            await _run_all(found, bench, spec, show)
        else:
            spec = msgspec.structs.replace(spec, engine=Engine(engine))
            await _run(found, bench, spec, show)
        if trust:
            await _check(found, bench, found.results[0].spec, show)
        more = data_words(asked) + (["--engine", ALL] if engine == ALL else []) + (["--trust"] if trust else [])
        return Report(
            tuple(found.results),
            command=" ".join([command_of(spec), *([shlex.join(more)] if more else [])]),
            currency=bench.instruments[0].quote,
            certificate=found.certificate,
            checks=found.checks,
            notes=bench.notes,
            made_ns=bench.clock.time_ns(),
        )


async def _run_all(found: _Found, bench: Bench, spec: BacktestSpec, show: Show) -> None:
    """Run it on every engine that can, the replay engine first, and hold the others against that."""
    first = await _run(found, bench, spec, show)

    async def attempt(other: Engine) -> Outcome | Absence:
        if other not in first.described.engines:
            return Absence(other.value, _CANNOT[other])
        try:
            return await _play(found, bench, msgspec.structs.replace(spec, engine=other), show)
        except EngineLacks as error:
            return Absence(other.value, str(error))
        except KocError as error:
            return Absence(other.value, str(error), is_failure=True)

    async with asyncio.TaskGroup() as group:  # each loads its libraries for seconds
        tasks = [group.create_task(attempt(other)) for other in _CANNOT]
    for task in tasks:
        match task.result():
            case Absence() as absence:
                found.absences.append(absence)
            case outcome:
                found.results.append(outcome.result)
    runs = [engine_run(result.spec.engine.value, result) for result in found.results]
    found.certificate = certify(runs, found.absences, bar_ns=duration_ns(first.result.timeframe), spec=spec)


async def _run(found: _Found, bench: Bench, spec: BacktestSpec, show: Show) -> Outcome:
    outcome = await _play(found, bench, spec, show)
    found.results.append(outcome.result)
    return outcome


async def _play(found: _Found, bench: Bench, spec: BacktestSpec, show: Show) -> Outcome:
    with show(f"on {spec.engine.value}") as tell:

        def changed(run: BacktestRun, _must: bool) -> None:
            snapshot = run.snapshot()
            if snapshot.state is JobState.RUNNING:
                tell(snapshot.progress, words(snapshot))

        return await run_one(bench, spec, changed, found.kept.take)


async def _check(found: _Found, bench: Bench, spec: BacktestSpec, show: Show) -> None:
    """Check whether the result can be believed; the engines are not held against each other a second time."""
    from koc_qt.cli.backtest_trust import check

    with show("checks") as tell:
        report, found.checks = await check(bench, spec, found.certificate is not None, tell)
    found.certificate = found.certificate or report.certificate


def _print(report: Report, json: str | None) -> None:
    if json == STDOUT:
        from koc_qt.reports.documents import to_json

        sys.stdout.write(to_json(report).decode())
    else:
        from koc_qt.cli.backtest_view import print_report

        print_report(report)
    sys.stdout.flush()


def _outputs(args: argparse.Namespace, name: str) -> Iterator[Path]:
    """Give the files to write; refuse, before anything is run, what could not be written. Raises ConfigError."""
    for option, endings in _FILES.items():
        text = getattr(args, option)
        if text and not (text == STDOUT and option == "json"):
            yield output_file(option, text, endings)
    for option, ending in _FOLDERS.items():
        if text := getattr(args, option):
            yield output_folder(option, text) / f"{name}{ending}"


def _write(report: Report, files: list[Path]) -> None:
    """Write the files that were asked for, and say where they are; one that fails keeps no other from being written.

    Raises the first StorageError once all were tried.
    """
    from koc_qt.reports.export import export

    troubles: list[StorageError] = []
    for file in files:
        try:
            _make_folder(file.parent)
            written = export(report, file)
        except StorageError as error:
            troubles.append(error)
        else:
            for each in written:
                print(f"Written: {each}", file=sys.stderr)
    for other in troubles[1:]:
        print(other, file=sys.stderr)
    if troubles:
        raise troubles[0]


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise StorageError(f"the folder {folder} cannot be made: {error.strerror or error}") from error
