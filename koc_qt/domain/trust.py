"""How far a strategy's results can be believed: what is checked, what verdicts there are, what decisions are.

Times are UTC nanoseconds. What the checks found is in domain/trust_report.py, which windows load when they need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.errors import ConfigError
from koc_qt.domain.state import JobState
from koc_qt.domain.timeframes import SECOND_NS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DECISIONS_KEPT = 20_000  # of a run, the first ones
LONGEST_DECISION = 400  # characters
WINDOWS_LIMIT = 50  # of a walk-forward analysis
RUNS_LIMIT = 200  # of the cuts, markets and neighbours
GRID_LIMIT = 100  # combinations a window
GRID_VALUES_LIMIT = 1_000  # of all parameters
DRAWS_LIMIT = 10_000
TRIALS_LIMIT = 10**9
AUTOMATIC_BUDGET_S = 60.0  # that checks may take which nobody asked for
BUDGET_LIMIT_S = 86_400


class Verdict(StrEnum):
    """What came of a check. GREEN: nothing speaks against it. AMBER: read the sentence. RED: do not believe the result.

    NONE: it could not be made; the sentence says why.
    """

    GREEN = "green"
    AMBER = "amber"
    RED = "red"
    NONE = "none"


class Placement(msgspec.Struct, frozen=True, gc=False):
    """A decision: what a strategy asked for at `time_ns` (UTC nanoseconds), in words.

    `line` is that of its file which led to it, counted from 1; None where it came from no line of the file.
    """

    time_ns: int
    line: int | None
    text: str


class Check(StrEnum):
    """The checks, in the order in which they are made."""

    LOOKAHEAD = "lookahead"
    WARMUP = "warm-up"
    PARITY = "parity"
    SHARPE = "sharpe"
    MONTE_CARLO = "monte carlo"
    WALK_FORWARD = "walk-forward"


class TrustSpec(msgspec.Struct, frozen=True):
    """Which checks to make of which back-test; the same spec on the same bars gives the same report.

    `backtest_id` is the run that is checked, empty where there is none. `session` is the strategy id of a recorded
    paper session to compare with, empty for none. The future is cut off, and replaced, at `cuts` moments each. Its
    trades are drawn `draws` times; `markets` are made of candles in blocks of `block` bars, and `neighbours` sets of
    parameters are within `jitter` (a fraction) of the present ones. A walk-forward analysis has so many `windows`, of
    which what is chosen on is `ratio` times as long as what is tested; it chooses among the combinations of `grid`,
    values by parameter, or of values around the present ones where that is empty. `trials` is how many sets of
    parameters were tried before this one was chosen, `trial_variance` the variance of their Sharpe ratios a period
    where that is known. With `budget_s` the checks are made on as many of the newest bars as they take about so many
    seconds for, and the report says on which; without, on all. Raises ConfigError on values that make no sense.
    """

    backtest: BacktestSpec
    checks: tuple[Check, ...] = tuple(Check)
    backtest_id: str = ""
    session: str = ""
    seed: int = 0
    cuts: int = 6
    draws: int = 1_000
    markets: int = 4
    block: int = 50
    neighbours: int = 6
    jitter: float = 0.2
    windows: int = 4
    ratio: float = 3.0
    anchored: bool = False
    grid: dict[str, list[Any]] = {}
    trials: int = 1
    trial_variance: float | None = None
    budget_s: float | None = None

    def __post_init__(self) -> None:
        for name, low, high in _BOUNDS:
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} is from {low:g} to {high:,}, not {value}")
        if (values := sum(map(len, self.grid.values()))) > GRID_VALUES_LIMIT:
            raise ConfigError(f"a grid has at most {GRID_VALUES_LIMIT:,} values, not {values:,}")
        if self.trial_variance is not None and not 0 <= self.trial_variance < 1e6:
            raise ConfigError(f"the variance of Sharpe ratios cannot be {self.trial_variance}")
        if self.budget_s is not None and not 1 <= self.budget_s <= BUDGET_LIMIT_S:
            raise ConfigError(f"checks may take 1 to {BUDGET_LIMIT_S:,} seconds, or as long as they do")


_BOUNDS: tuple[tuple[str, float, float], ...] = (
    ("cuts", 1, RUNS_LIMIT),
    ("draws", 1, DRAWS_LIMIT),
    ("markets", 0, RUNS_LIMIT),
    ("block", 1, 1_000_000),
    ("neighbours", 0, RUNS_LIMIT),
    ("jitter", 0.0, 1.0),
    ("windows", 1, WINDOWS_LIMIT),
    ("ratio", 0.1, 100),
    ("trials", 1, TRIALS_LIMIT),
)


class TrustSnapshot(msgspec.Struct, frozen=True, tag="trust"):
    """How far the checks are: `progress` from 0 to 1 of all runs; `stage` names the present check.

    `verdicts` are those of the checks that are done, by name, and `verdict` the worst of them.
    """

    trust_id: str
    spec: TrustSpec
    state: JobState
    reason: str
    stage: str
    progress: float
    runs: int
    verdict: Verdict
    verdicts: dict[str, Verdict]
    started_ns: int
    time_ns: int


class GapCause(StrEnum):
    """Where a part of the gap comes from."""

    DATA = "data"
    LATENCY = "latency"
    SLIPPAGE = "slippage"
    SIZE = "size"
    FEES = "fees"
    MISSED = "missed signals"
    ADDITIONAL = "additional trades"


class DriftReport(msgspec.Struct, frozen=True):
    """How far a strategy is from its back-test on since_ns <= t < until_ns (UTC); money is in quote currency.

    `gap` is the profit live less that of the back-test on the bars of history, and the sum of `parts`. Of `bars` that
    the strategy saw `bars_changed` are others in history, or absent there. `matched` executions have a partner.
    """

    strategy_id: str
    account_id: str
    verdict: Verdict
    sentence: str
    since_ns: int
    until_ns: int
    measured_ns: int
    live_pnl: float = 0.0
    test_pnl: float = 0.0
    gap: float = 0.0
    parts: dict[str, float] = {}
    executions: int = 0
    executions_expected: int = 0
    matched: int = 0
    bars: int = 0
    bars_changed: int = 0


def utc_text(time_ns: int) -> str:
    """Give a time as people read it: whole seconds, UTC; one outside the calendar as a plain number."""
    try:
        return f"{_EPOCH + timedelta(seconds=time_ns // SECOND_NS):%Y-%m-%d %H:%M:%S} UTC"
    except OverflowError:
        return f"{time_ns} ns"


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Give the most alarming of some verdicts; NONE only where nothing could be checked."""
    for verdict in (Verdict.RED, Verdict.AMBER, Verdict.GREEN):
        if verdict in verdicts:
            return verdict
    return Verdict.NONE
