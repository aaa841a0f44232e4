"""The work of ``koc backtest``: run it on one engine or on all that can, compare them, and hand out what came of it."""

from __future__ import annotations

import argparse
import shlex
import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from koc_qt.cli.backtest_asked import Asked, bench_for, data_words, read_asked
from koc_qt.cli.backtest_progress import Show, shown_progress
from koc_qt.config import Config, load_config
from koc_qt.domain.backtests import BacktestResult, BacktestSpec, Engine
from koc_qt.domain.errors import ConfigError, KocError, StorageError
from koc_qt.domain.parity import Absence, Certificate, EngineRun, certify
from koc_qt.domain.timeframes import duration_ns
from koc_qt.logger import setup_logger
from koc_qt.paths import Paths, profile_paths
from koc_qt.ui.backtests.command import command_of
from koc_qt.wiring.backtest import Bench, Outcome, on_qt
from koc_qt.wiring.backtest import run as run_one

_ALL = "all"
STDOUT = "-"
_CANNOT = {
    Engine.VECTORBT: "it runs one symbol, and strategies that declare signals() alone",
    Engine.BACKTRADER: "it runs one symbol",
    Engine.REPLAY: "the strategy hears no bars",
}


@dataclass
class Report:
    """What came of a command: a result for each engine that took part, in order, and what is known about them."""

    command: str
    notes: tuple[str, ...]
    currency: str
    results: dict[str, BacktestResult] = field(default_factory=dict)
    absences: list[Absence] = field(default_factory=list)
    certificate: Certificate | None = None


def run(args: argparse.Namespace) -> int:
    """Run it, show progress and results, and give the exit code. Raises KocError with a sentence for the person."""
    asked = read_asked(args)
    _check_file("--json", args.json)
    paths = profile_paths()
    paths.ensure()
    config = load_config(paths)
    with closing(setup_logger(paths, level="WARNING")):
        with shown_progress(Path(asked.path).name) as show:
            report = on_qt(lambda: _work(asked, args.engine, config, paths, show))
        hand_out(report, args)
    return 0


def hand_out(report: Report, args: argparse.Namespace) -> None:
    """Print what came of it, and write the files that were asked for. Raises StorageError."""
    if args.json:
        from koc_qt.cli.backtest_json import json_text

        text = json_text(report)
        if args.json == STDOUT:
            sys.stdout.write(text)
        else:
            _write(Path(args.json), text)
    if args.json != STDOUT:
        from koc_qt.cli.backtest_view import print_report

        print_report(report)


async def _work(asked: Asked, engine: str, config: Config, paths: Paths, show: Show) -> Report:
    async with bench_for(asked, config, paths) as bench:
        spec = asked.spec(bench)
        report = Report(_command(asked, spec, engine), bench.notes, bench.instruments[0].quote)
        if engine != _ALL:
            await _run(report, bench, msgspec.structs.replace(spec, engine=Engine(engine)), show)
            return report
        outcome = await _run(report, bench, spec, show)
        for other in (Engine.VECTORBT, Engine.BACKTRADER):
            if other not in outcome.described.engines:
                report.absences.append(Absence(other.value, _CANNOT[other]))
                continue
            try:
                await _run(report, bench, msgspec.structs.replace(spec, engine=other), show)
            except KocError as error:
                report.absences.append(Absence(other.value, str(error)))
        runs = [_engine_run(name, result) for name, result in report.results.items()]
        bar_ns = duration_ns(outcome.result.timeframe)
        report.certificate = certify(runs, report.absences, bar_ns=bar_ns, spec=spec)
        return report


async def _run(report: Report, bench: Bench, spec: BacktestSpec, show: Show) -> Outcome:
    with show(spec.engine.value) as changed:
        outcome = await run_one(bench, spec, lambda run, _must: changed(run.snapshot()))
    report.results[spec.engine.value] = outcome.result
    return outcome


def _engine_run(name: str, result: BacktestResult) -> EngineRun:
    count = result.statistics.get("fills")
    fills = len(result.fills) if count is None else int(count)
    return EngineRun(name, tuple(result.fills), tuple(result.trades), result.provenance, fills)


def _command(asked: Asked, spec: BacktestSpec, engine: str) -> str:
    """Give the command that makes this again, ages and defaults made plain."""
    single = spec if engine == _ALL else msgspec.structs.replace(spec, engine=Engine(engine))
    more = data_words(asked) + (["--engine", _ALL] if engine == _ALL else [])
    return " ".join([command_of(single), *([shlex.join(more)] if more else [])])


def _check_file(option: str, name: str | None) -> None:
    """Refuse a file that could not be written, before anything is run."""
    if not name or name == STDOUT:
        return
    file = Path(name)
    if file.is_dir():
        raise ConfigError(f"{option} {name}: that is a folder; name a file")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"{option} {name}: there is no folder {file.absolute().parent}")


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise StorageError(f"{file} cannot be written: {error.strerror or error}") from error
