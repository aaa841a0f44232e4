"""Results to report on, made by hand and by the statistics themselves."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import msgspec

from koc_qt.domain.backtests import BacktestResult, BacktestSpec, Engine, Provenance, RoundTrip
from koc_qt.domain.curves import benchmark, months
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Fill, Liquidity
from koc_qt.domain.parity import Absence, Certificate, EngineRun, certify
from koc_qt.domain.performance import statistics
from koc_qt.domain.timeframes import DAY_NS
from koc_qt.domain.trust import Verdict
from koc_qt.reports.report import Check, Report

BTC = InstrumentId("sim", "BTC/USDT")
START_NS = 1_704_067_200_000_000_000  # 2024-01-01
HASH = "0123456789abcdef" * 4
HOSTILE = "</title><script>alert('1')</script><img src=x onerror=\"x\">\x00\u202e&amp;"


def fill(number: int, side: Side, price: str, time_ns: int) -> Fill:
    amounts = Decimal(price), Decimal("1.50"), Decimal("0.00012345678901234567")
    return Fill(f"f{number}", f"o{number}", "s", "a", BTC, side, *amounts, "USDT", Liquidity.TAKER, time_ns)


def result(days: int = 120, **changes: Any) -> BacktestResult:
    """Give a run of some days with a trade every six, won and lost in turn, and one that is open."""
    times_ns = [START_NS + row * DAY_NS for row in range(days + 1)]
    equity = [10_000.0 + 40.0 * row + 300.0 * math.sin(row / 4.0) for row in range(days + 1)]
    held = benchmark(10_000.0, 100.0, [math.nan, *(100.0 + row / 3.0 for row in range(days))]).tolist()
    trips, fills = [], []
    for number, row in enumerate(range(0, days - 6, 6)):
        pnl, long = (12.5 if number % 2 else -7.25), number % 3 != 0
        exit_ns = times_ns[row + 4] + 123
        trips.append(
            RoundTrip(BTC, 1.5 if long else -1.5, times_ns[row], 100.0, exit_ns, 101.0, 0.3, pnl, -9.0 - number, 14.5)
        )
        fills += [fill(2 * number, Side.BUY, "100.10", times_ns[row]), fill(2 * number + 1, Side.SELL, "101", exit_ns)]
    if days:
        trips.append(RoundTrip(BTC, 1.5, times_ns[-1], 100.0, None, None, 0.1, 0.5))
    made = BacktestResult(
        spec=BacktestSpec("/s/cross.py", (BTC,), "1d", START_NS, START_NS + days * DAY_NS + 1, {"fast": 3}),
        name="Cross",
        timeframe="1d",
        bars=days,
        equity_ns=times_ns,
        equity=equity,
        trades=trips,
        fills=fills,
        statistics=statistics(times_ns, equity, trips, fills=len(fills), traded=1e5, benchmark=held),
        log=["2024-01-01 00:00:00 INFO started"],
        benchmark=held,
        months=months(times_ns, equity),
        provenance=Provenance(HASH, HASH[::-1], HASH, HASH, {"koc": "0.1.0", "python": "3.11"}),
    )
    return msgspec.structs.replace(made, **changes)


def certificate(first: BacktestResult) -> Certificate:
    runs = [EngineRun(name, tuple(first.fills), tuple(first.trades)) for name in ("replay", "vectorbt")]
    return certify(runs, [Absence("backtrader", "it is <not> installed")], bar_ns=DAY_NS, spec=first.spec)


def report(**changes: Any) -> Report:
    """Give a report on two engines that agree, with all that there can be in one."""
    first = result()
    second = msgspec.structs.replace(first, spec=msgspec.structs.replace(first.spec, engine=Engine.VECTORBT))
    checks = (
        Check("Lookahead", Verdict.GREEN, "No decision changed.", {"runs": 40}),
        Check("Warm-up", Verdict.AMBER, "It needs 50 bars before the run."),
    )
    whole = Report(
        (first, second),
        "koc backtest /s/cross.py",
        "USDT",
        certificate(first),
        checks,
        ("3 bars are missing.",),
        START_NS,
    )
    return msgspec.structs.replace(whole, **changes)
