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
_SLOWER = {Engine.REPLAY: 1.0, Engine.VECTORBT: 1.0, Engine.BACKTRADER: 40.0}  # a bar, beside the replay engine's
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
    began_ns = services.clock.monotonic_ns()

    def heard(run: BacktestSnapshot) -> None:
        nonlocal began_ns
        if run.stage != "run" or not run.bars:  # history is fetched once, however often it is run on
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
    a_bar_s = bar_s * sum(map(_runs_of(spec, probe.described), {*spec.checks})) / RUNS_AT_ONCE
    needed_s = a_bar_s * bars_in_all
    if needed_s <= spec.budget_s and bars_in_all <= BARS_LIMIT:
        return whole, None
    kept = int(min(max(spec.budget_s / max(a_bar_s, 1e-12), LEAST_BARS), BARS_LIMIT * 0.9, bars_in_all))
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


def _runs_of(spec: TrustSpec, described: Described) -> Callable[[Check], float]:
    """Give what tells how many runs over all bars a check is worth."""

    def count(check: Check) -> float:
        match check:
            case Check.LOOKAHEAD:
                return 2.0 + spec.cuts  # the first run; unchanged; and two for each cut, which end half-way in the mean
            case Check.WARMUP:
                return 2.0
            case Check.PARITY:
                return sum(_SLOWER[engine] for engine in Engine if engine in described.engines)
            case Check.SHARPE:
                return 0.0
            case Check.MONTE_CARLO:
                return float(spec.markets + spec.neighbours)
            case Check.WALK_FORWARD:
                combinations = prod(map(len, spec.grid.values())) if spec.grid else _GRID
                return spec.windows * (combinations * spec.ratio + 1.0) / (spec.ratio + spec.windows)
            case _:
                assert_never(check)

    return count


def _time(seconds: float) -> str:
    """Give a time as people say it."""
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7_200 else f"{seconds / 3_600:.0f} hours"
