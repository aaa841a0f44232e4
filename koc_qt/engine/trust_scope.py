"""On how much of a run checks are made whose time is limited: on so many of its newest bars that they fit.

A strategy's checks are some dozens of runs of it. How long a bar takes is measured on the newest PROBE_BARS of the run,
traced as the first run of the checks is. Every check then looks at the same newest bars, with all of its cut points,
engines and windows. What was left out is said in the report (TrustReport.scope), and a check that takes far longer than
was reckoned is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from math import prod
from typing import assert_never

import msgspec

from koc_qt.domain.backtests import BacktestSnapshot, BacktestSpec, Engine
from koc_qt.domain.errors import KocError, StrategyError
from koc_qt.domain.timeframes import duration_ns
from koc_qt.domain.trust import Check, TrustSpec, utc_text
from koc_qt.domain.trust_report import Scope
from koc_qt.engine.backtest_feed import RunServices
from koc_qt.engine.trust_history import BARS_LIMIT, SharedHistory
from koc_qt.engine.trust_runs import RUNS_AT_ONCE, TrustRuns
from koc_qt.ports.bars import Span
from koc_qt.sdk.channel import Described

PROBE_BARS = 20_000  # of all symbols: a run of no more is never cut
LEAST_BARS = 2_000
PATIENCE = 3.0  # times the budget, after which a check that was reckoned to fit is ended
_PROBE_SHARE = 50  # of the run, where the length of its bars is the strategy's own
_BACKTRADER_BAR_S = 80e-6  # that it takes for a bar besides what the strategy does, however little that is
_LEAST_SHARE = 0.25  # of the budget that is for bars, however long processes take to start
_GRID = 9  # combinations of a walk-forward analysis that is given none


async def scope_of(
    spec: TrustSpec,
    whole: BacktestSpec,
    runs: TrustRuns,
    services: RunServices,
    told: Callable[[BacktestSnapshot], None],
) -> tuple[BacktestSpec, Scope | None]:
    """Give what is to be checked, and what is left out; None where all is.

    Raises as a run does where not even the newest bars can be run.
    """
    span_ns = whole.until_ns - whole.since_ns
    probe_ns = span_ns // _PROBE_SHARE
    if whole.timeframe:
        probe_ns = PROBE_BARS // len(whole.instruments) * duration_ns(whole.timeframe)
    if spec.budget_s is None or probe_ns >= span_ns:
        return whole, None
    asked_ns = began_ns = services.clock.monotonic_ns()

    def heard(run: BacktestSnapshot) -> None:
        nonlocal asked_ns, began_ns
        if run.stage != "run":  # history is fetched once, however often it is run on
            asked_ns = services.clock.monotonic_ns()
        if run.stage != "run" or not run.bars:
            began_ns = services.clock.monotonic_ns()
        told(run)

    newest = msgspec.structs.replace(whole, since_ns=whole.until_ns - probe_ns)
    history = SharedHistory(services.history, Span(newest.since_ns, newest.until_ns))
    try:
        probe = await runs.run(newest, history, trace=True, records=False, told=heard)
    except StrategyError:
        return whole, None  # such as a market that was closed: the first run of all says what is wrong, if anything is
    bars = max(probe.result.bars, 1) * len(whole.instruments)
    bar_s = (services.clock.monotonic_ns() - began_ns) / 1e9 / bars
    bars_in_all = int(bars * span_ns / probe_ns)
    wanted = {*spec.checks}
    a_bar_s = sum(_bar_s(check, spec, probe.described, bar_s) for check in wanted) / RUNS_AT_ONCE
    starts = 1 + sum(runs_of(check, spec, _combinations(spec)) for check in wanted)
    starts_s = starts * (began_ns - asked_ns) / 1e9 / RUNS_AT_ONCE
    needed_s = starts_s + a_bar_s * bars_in_all
    if needed_s <= spec.budget_s and bars_in_all <= BARS_LIMIT:
        return whole, None
    left_s = max(spec.budget_s - starts_s, _LEAST_SHARE * spec.budget_s)
    kept = int(min(max(left_s / max(a_bar_s, 1e-12), LEAST_BARS), BARS_LIMIT * 0.9, bars_in_all))
    if kept == bars_in_all:
        return whole, None  # it is the processes that take so long
    since_ns = whole.until_ns - span_ns * kept // bars_in_all
    sentence = (
        f"Checked on about the newest {kept:,} of {bars_in_all:,} bars, from {utc_text(since_ns)} on: all of them "
        f"would take about {_time(needed_s)}, and {_time(spec.budget_s)} were given."
    )
    scope = Scope(kept, bars_in_all, since_ns, needed_s, sentence)
    return msgspec.structs.replace(whole, since_ns=since_ns), scope


@contextlib.asynccontextmanager
async def bounded(spec: TrustSpec, elapsed_s: float) -> AsyncIterator[None]:
    """End a check that takes far longer than all of them may. Raises KocError then."""
    left_s = None if spec.budget_s is None else max(PATIENCE * spec.budget_s - elapsed_s, 0.0)
    try:
        async with asyncio.timeout(left_s):
            yield
    except TimeoutError:
        raise KocError(
            f"It was ended: the checks have taken longer than {_time(PATIENCE * (spec.budget_s or 0.0))}. "
            "Check again without a limit of time."
        ) from None


def runs_of(check: Check, spec: TrustSpec, combinations: int) -> int:
    """Give how many runs a check is, of which a walk-forward analysis chooses among so many combinations."""
    match check:
        case Check.LOOKAHEAD:
            return 1 + 2 * spec.cuts
        case Check.WARMUP:
            return 2
        case Check.PARITY:
            return len(Engine)
        case Check.SHARPE:
            return 0
        case Check.MONTE_CARLO:
            return spec.markets + spec.neighbours
        case Check.WALK_FORWARD:
            return spec.windows * (combinations + 1)
        case _:
            assert_never(check)


def _bar_s(check: Check, spec: TrustSpec, described: Described, bar_s: float) -> float:
    """Give what a check takes for each bar there is, where a run takes `bar_s` for it."""
    match check:
        case Check.LOOKAHEAD:
            return bar_s * (
                2.0 + spec.cuts
            )  # the first run; unchanged; two for each cut, which end half-way on average
        case Check.PARITY:
            others = _BACKTRADER_BAR_S if Engine.BACKTRADER in described.engines else 0.0
            return bar_s * len(described.engines) + others
        case Check.WALK_FORWARD:
            chosen = spec.ratio * _combinations(spec) + 1.0
            return bar_s * spec.windows * chosen / (spec.ratio + spec.windows)
        case _:
            return bar_s * runs_of(check, spec, 0)


def _combinations(spec: TrustSpec) -> int:
    return prod(map(len, spec.grid.values())) if spec.grid else _GRID


def _time(seconds: float) -> str:
    """Give a time as people say it."""
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7_200 else f"{seconds / 3_600:.0f} hours"
