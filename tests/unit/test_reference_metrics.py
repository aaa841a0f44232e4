"""Statistics held against an independent library's (tests/reference_metrics.py) on recorded and on made markets."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet
import pytest

from koc_qt.domain.backtests import RoundTrip
from koc_qt.domain.curves import benchmark, months
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.performance import statistics
from koc_qt.domain.timeframes import DAY_NS, SECOND_NS, YEAR_NS
from tests.conditions import PATIENCE

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "../shared/market_data"
MARKETS = {
    "GOOG": ("us_GOOG_1d_2004-2013.parquet", DAY_NS),
    "SPY": ("us_SPY_1m_2013-10.parquet", 60 * SECOND_NS),
    "EUR-USD": ("fx_EUR-USD_1h_2017-2018.parquet", 3_600 * SECOND_NS),
    "BTC-USD": ("coinbase_BTC-USD_1m_2018-04.parquet", 60 * SECOND_NS),
}
CASH, FEE = 10_000.0, 0.001
SYMBOL = InstrumentId("sim", "X/Y")
TOLERANCE = 1e-9


class Run(NamedTuple):
    """A run of moving averages that cross, 10 over 50 bars, with 0.1 % fees, at the next open."""

    times_ns: list[int]
    equity: list[float]
    benchmark: list[float]
    trips: list[RoundTrip]


def run(opens_ns: list[int], opens: list[float], closes: list[float], bar_ns: int) -> Run:
    """Play it bar by bar; what is held at the end stays open."""
    fast, slow = (np.convolve(closes, np.ones(length) / length, "valid")[50 - length :] for length in (10, 50))
    wants = [False] * 50 + (fast > slow).tolist()  # at each bar's open, by the close before
    cash, held, size, paid, entered_ns = CASH, 0.0, 0.5 * CASH / opens[0], 0.0, 0
    equity, trips = [CASH], []
    for time_ns, opening, close, wanted in zip(opens_ns, opens, closes, wants, strict=False):
        if wanted and not held:
            held, paid, entered_ns = size, opening, time_ns
            cash -= held * opening * (1 + FEE)
        elif held and not wanted:
            fees = held * (paid + opening) * FEE
            trips.append(
                RoundTrip(SYMBOL, held, entered_ns, paid, time_ns, opening, fees, held * (opening - paid) - fees)
            )
            cash += held * opening * (1 - FEE)
            held = 0.0
        equity.append(cash + held * close)
    times_ns = [opens_ns[0], *(time_ns + bar_ns for time_ns in opens_ns)]
    return Run(times_ns, equity, benchmark(CASH, opens[0], [math.nan, *closes]).tolist(), trips)


def recorded(name: str) -> Run:
    file, bar_ns = MARKETS[name]
    table = pyarrow.parquet.read_table(RECORDED / file)
    opens_ns = [round(time.timestamp()) * SECOND_NS for time in table.column("timestamp").to_pylist()]
    return run(opens_ns, table.column("open").to_pylist(), table.column("close").to_pylist(), bar_ns)


def made(seed: int) -> Run:
    """Give a run of three years of made days, with some that are missing."""
    rng = np.random.default_rng(seed)
    closes = 100.0 * np.exp(np.cumsum(rng.standard_t(4, 1_200) * 0.01))
    opens = np.concatenate(([100.0], closes[:-1])) * np.exp(rng.normal(0, 0.001, 1_200))
    days = np.sort(rng.choice(1_500, 1_200, replace=False)) * DAY_NS + 1_600_000_000 * SECOND_NS // DAY_NS * DAY_NS
    return run(days.tolist(), opens.tolist(), closes.tolist(), DAY_NS)


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    here = {name: recorded(name) for name, (file, _) in MARKETS.items() if (RECORDED / file).exists()}
    return here | {f"made {seed}": made(seed) for seed in (1, 2)}


@pytest.fixture(scope="module")
def theirs(runs: dict[str, Run]) -> dict[str, dict[str, Any]]:
    asked = {
        name: {
            "times_ns": each.times_ns,
            "equity": each.equity,
            "benchmark": each.benchmark,
            "periods": periods(each),
            "pnls": [trip.pnl for trip in each.trips],
        }
        for name, each in runs.items()
    }
    answer = subprocess.run(
        [sys.executable, "-m", "tests.reference_metrics"],
        input=json.dumps(asked), cwd=ROOT, capture_output=True, text=True, timeout=100 * PATIENCE, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    found: dict[str, dict[str, Any]] = json.loads(answer.stdout)
    return found


def periods(each: Run) -> float:
    return (len(each.equity) - 1) * YEAR_NS / (each.times_ns[-1] - each.times_ns[0])


@pytest.mark.parametrize("name", [*MARKETS, "made 1", "made 2"])
def test_as_an_independent_library_has_it(name: str, runs: dict[str, Run], theirs: dict[str, dict[str, Any]]) -> None:
    if name not in runs:
        pytest.skip(f"there is no recording of {name} here")
    each, expected = runs[name], theirs[name]
    assert len(each.trips) >= 10, "a run that hardly trades shows little"

    def figures(risk_free: float) -> dict[str, float | None]:
        return statistics(
            each.times_ns, each.equity, each.trips, fills=0, traded=0.0, benchmark=each.benchmark, risk_free=risk_free
        )

    ours: dict[str, Any] = figures(0.0)
    dear = figures(0.03)
    ours |= {f"{ratio} at 3 %": dear[ratio] for ratio in ("sharpe", "sortino")}
    found_months, expected_months = months(each.times_ns, each.equity), expected.pop("months")
    assert {name: value for name, value in found_months.items() if value} == pytest.approx(
        expected_months, rel=TOLERANCE, abs=TOLERANCE
    )
    assert len(expected) == 29
    for figure, value in expected.items():
        assert ours[figure] == pytest.approx(value, rel=TOLERANCE, abs=1e-12), figure
