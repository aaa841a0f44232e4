"""Whether the result of ``koc backtest`` can be believed: the checks that the window makes, without an engine."""

from __future__ import annotations

import asyncio

import msgspec

from koc_qt.cli.backtest_progress import Tell
from koc_qt.cli.lines import counted
from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.trust import Check as Kind
from koc_qt.domain.trust import TrustSpec, Verdict
from koc_qt.domain.trust_report import TrustReport
from koc_qt.engine.strategy_file import read_source
from koc_qt.engine.trust import TrustJob
from koc_qt.reports.report import Check, check_of
from koc_qt.wiring.backtest import Bench

_TITLES = {
    Kind.LOOKAHEAD: ("Lookahead", "lookahead"),
    Kind.WARMUP: ("Warm-up", "warmup"),
    Kind.SHARPE: ("Sharpe ratio", "sharpe"),
    Kind.MONTE_CARLO: ("Monte Carlo", "monte_carlo"),
    Kind.WALK_FORWARD: ("Walk-forward", "walk_forward"),
}


async def check(
    bench: Bench, spec: BacktestSpec, has_certificate: bool, tell: Tell
) -> tuple[TrustReport, tuple[Check, ...]]:
    """Make the checks; gives their report, and what each says. `has_certificate` leaves the engines' comparison out.

    Raises KocError where the first run fails.
    """
    wanted = tuple(kind for kind in Kind if not (has_certificate and kind is Kind.PARITY))
    source = await asyncio.to_thread(read_source, spec.path)

    def changed(job: TrustJob, _must: bool) -> None:
        told = job.snapshot()
        tell(told.progress, f"{told.stage or 'starting'}, {counted(told.runs, 'run')}")

    job = TrustJob("trust-1", TrustSpec(spec, checks=wanted), source, bench.instruments, bench, changed)
    await job.play()
    return job.report, tuple(checks_of(job.report))


def checks_of(report: TrustReport) -> list[Check]:
    """Give what each check says, those that could not be made too; without the comparison of engines."""
    found = []
    for kind, (title, field) in _TITLES.items():
        outcome: msgspec.Struct | None = getattr(report, field)
        if outcome is not None:
            found.append(check_of(title, outcome))  # type: ignore[arg-type]  # all of them have verdict and sentence
        elif str(kind) in report.failed:
            found.append(Check(title, Verdict.NONE, report.failed[str(kind)]))
    return found
