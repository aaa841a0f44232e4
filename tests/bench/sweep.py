"""An optimisation of 10,000 combinations on 100,000 bars: against vectorbt, a bare numba kernel, and on a Dask cluster.

    python -m tests.bench.sweep [--bars 100000] [--side 100] [--repeats 2] [--no-dask] [--json]

`ours` is a study as the engine and the command line run it: a moving-average cross as a strategy file that declares
signals, in sandboxed processes, every trial kept in SQLite; the milliseconds a combination are from the first trial to
the last, `start_s` is what passes before. `bare` is a numba loop with prange over the same combinations whose averages
are there already, with equity, drawdown, Sharpe ratio and trades; its compilation does not count. `vectorbt` gets the
signals of some combinations side by side, as many as fit, and gives the same four figures. `dask` is the same study on
a local cluster of one worker a core. All run at the priority of a sandboxed process. Memory is the sum of all processes
of the study, each page that they share counted once (PSS); the sum of their resident sizes, which counts such pages for
each, is beside it. What is measured takes turns; the fastest of `repeats` counts; compare ratios, because machines
differ.

Targets: a combination at least 80 times as fast as vectorbt's, at most 1.3 times the bare kernel's time, in less than
300 MB, and on a Dask cluster at least 0.7 times as fast as without one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from koc_qt.adapters.sandbox import SandboxSettings

SOURCE = """
import numpy as np
from koc_qt.sdk import Signals, Strategy, param
from koc_qt.sdk.indicators import SMA

class Cross(Strategy):
    fast: int = param(10, low=1, high=1000)
    slow: int = param(50, low=2, high=1000)

    def signals(self, bars):
        above = bars.column(SMA(self.fast)) > bars.column(SMA(self.slow))
        entries, exits = np.zeros(len(bars), bool), np.zeros(len(bars), bool)
        np.greater(above[1:], above[:-1], out=entries[1:])
        np.less(above[1:], above[:-1], out=exits[1:])
        return Signals(entries, exits, 1.0)
"""
VECTORBT_AT_ONCE = 20  # combinations: some 60 bytes a bar and combination
BARE_COMBINATIONS = 1_000
MINUTE_NS = 60_000_000_000
SINCE_NS = 1_700_000_040_000_000_000 // MINUTE_NS * MINUTE_NS


def make_columns(count: int) -> dict[str, Any]:
    """Give a random walk on a grid of cents; the same one every time."""
    rng = np.random.default_rng(7)
    close = np.round(np.maximum(1.0, 1_000 + np.cumsum(rng.normal(0, 0.5, count))), 2)
    opening = np.concatenate((close[:1], close[:-1]))
    return {
        "time": SINCE_NS + np.arange(count, dtype=np.int64) * MINUTE_NS,
        "open": opening,
        "high": np.round(np.maximum(opening, close) + 0.1, 2),
        "low": np.round(np.minimum(opening, close) - 0.1, 2),
        "close": close,
        "volume": np.full(count, 1e6),
    }


def average(values: Any, period: int) -> Any:
    """Give a moving average, nan until there is one."""
    sums = np.concatenate(([0.0], np.cumsum(values)))
    means = np.full(len(values), np.nan)
    means[period - 1 :] = (sums[period:] - sums[:-period]) / period
    return means


def pairs(side: int) -> list[tuple[int, int]]:
    """List the combinations."""
    return [(fast, slow) for fast in range(5, 5 + side) for slow in range(5 + side, 5 + 2 * side)]


# ---- the rivals, each in a process of its own -----------------------------------------------------------------------


def bare(count: int, side: int, repeats: int) -> float:
    """Give milliseconds a combination of a bare numba kernel."""
    import numba

    columns = make_columns(count)
    periods = sorted({period for pair in pairs(side) for period in pair})
    step = max(len(pairs(side)) // BARE_COMBINATIONS, 1)
    chosen = pairs(side)[::step]
    needed = {period: place for place, period in enumerate(periods)}
    means = np.array([average(columns["close"], period) for period in periods])
    places = np.array([(needed[fast], needed[slow]) for fast, slow in chosen])

    @numba.njit(parallel=True, error_model="numpy")
    def sweep(opens: Any, closes: Any, means: Any, places: Any, fee: float, cash: float) -> Any:
        found = np.zeros((len(places), 4))
        for number in numba.prange(len(places)):
            fast, slow = means[places[number, 0]], means[places[number, 1]]
            money, held, peak, depth, last = cash, 0.0, cash, 0.0, cash
            total = squares = 0.0
            trades, entering, leaving = 0, False, False
            for row in range(len(opens)):
                if entering:
                    money -= opens[row] * (1 + fee)
                    held = 1.0
                elif leaving:
                    money += opens[row] * (1 - fee)
                    held = 0.0
                    trades += 1
                equity = money + held * closes[row]
                peak = max(peak, equity)
                depth = max(depth, (peak - equity) / peak)
                change = equity / last - 1.0
                total += change
                squares += change * change
                last = equity
                above = fast[row] > slow[row]
                before = row > 0 and fast[row - 1] > slow[row - 1]
                entering = held == 0.0 and above and not before
                leaving = held != 0.0 and before and not above
            found[number, 0], found[number, 1] = last, depth
            found[number, 2], found[number, 3] = total / np.sqrt(squares), float(trades)
        return found

    arguments = (columns["open"], columns["close"], means, places, 0.001, 1e5)
    sweep(*arguments)
    return 1e3 * min(timed(lambda: sweep(*arguments)) for _ in range(repeats)) / len(chosen)


def vectorbt(count: int, side: int, repeats: int) -> float:
    """Give milliseconds a combination of vectorbt, from signals to four figures."""
    from koc_qt.worker.engines.vectorbt_library import library

    columns = make_columns(count)
    chosen = pairs(side)[:: max(len(pairs(side)) // VECTORBT_AT_ONCE, 1)][:VECTORBT_AT_ONCE]
    entries, exits = np.zeros((count, len(chosen)), bool), np.zeros((count, len(chosen)), bool)
    for number, (fast, slow) in enumerate(chosen):
        above = average(columns["close"], fast) > average(columns["close"], slow)
        entries[2:, number], exits[2:, number] = above[1:-1] & ~above[:-2], ~above[1:-1] & above[:-2]

    def job() -> Any:
        portfolio = library.Portfolio.from_signals(
            columns["close"][:, None], entries, exits, price=columns["open"][:, None], size=1.0, fees=0.001,
            init_cash=1e5, freq="1min",
        )  # fmt: skip
        return portfolio.total_return(), portfolio.max_drawdown(), portfolio.sharpe_ratio(), portfolio.trades.count()

    job()
    return 1e3 * min(timed(job) for _ in range(repeats)) / len(chosen)


def timed(job: Any) -> float:
    """Give the seconds that a job takes."""
    began_s = time.perf_counter()
    job()
    return time.perf_counter() - began_s


# ---- ours -----------------------------------------------------------------------------------------------------------


@dataclass
class Stand:
    """What a study needs besides its optimiser: RunServices on columns in memory."""

    columns: dict[str, Any]
    clock: Any = field(init=False)
    launcher: Any = field(init=False)

    def __post_init__(self) -> None:
        from koc_qt.adapters.clock import SystemClock
        from koc_qt.adapters.worker_process import QProcessWorkerLauncher

        self.clock, self.launcher = SystemClock(), QProcessWorkerLauncher(warm=0)

    @property
    def history(self) -> Stand:
        """Give the bars."""
        return self

    def closed(self, _series: Any, span: Any) -> Any:
        """Give the span: all bars have closed."""
        return span

    async def fill(self, _series: Any, _span: Any, _progress: Any = None) -> int:
        """Have nothing fetched."""
        return 0

    async def columns_of(self, span: Any) -> Any:
        """Give the bars of a span."""
        from koc_qt.ports.bars import Columns

        first, last = np.searchsorted(self.columns["time"], [span.since_ns, span.until_ns])
        return Columns(*(column[first:last] for column in self.columns.values()))


class History:
    """Implements engine/backtest_feed.py BarHistory."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self.closed, self.fill = stand.closed, stand.fill

    async def columns(self, _series: Any, span: Any) -> Any:
        """Give the bars of a span."""
        return await self._stand.columns_of(span)


async def study(count: int, side: int, cluster: str) -> dict[str, float]:
    """Run a study to its end; gives milliseconds a combination and the seconds before the first."""
    from koc_qt.adapters.study_store import open_study_store
    from koc_qt.adapters.sweep_kernel_file import KernelFile
    from koc_qt.domain.backtests import BacktestSpec
    from koc_qt.domain.instruments import Instrument, InstrumentId
    from koc_qt.domain.optimisation import ParameterRange, StudySpec
    from koc_qt.domain.state import JobState
    from koc_qt.engine.backtest_feed import Prepared
    from koc_qt.engine.optimiser import Optimiser
    from koc_qt.wiring.optimiser import cores, make_crew, make_sampler

    stand = Stand(make_columns(count))
    services: Any = type("Services", (), {"clock": stand.clock, "launcher": stand.launcher, "history": History(stand)})
    rules = Instrument(InstrumentId("file", "WALK"), "WALK", "USD", Decimal("0.01"), Decimal("1e-8"))
    moments: dict[str, float] = {"begin": time.perf_counter()}
    over: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def publish(fact: Any) -> None:
        snapshot = fact.study
        if snapshot.stage == "trials":
            moments.setdefault("trials", time.perf_counter())
        if snapshot.state is not JobState.RUNNING and not over.done():
            moments["end"] = time.perf_counter()
            over.set_result(snapshot)

    async def prepare(base: Any) -> Prepared:
        return Prepared(base, SOURCE.encode(), (rules,), services)

    folder = Path(tempfile.gettempdir()) / "koc-bench-sweep"
    with tempfile.TemporaryDirectory() as fresh:
        optimiser = Optimiser(
            services,
            prepare,
            lambda: open_study_store(Path(fresh) / "studies.sqlite"),
            make_sampler,
            KernelFile(folder).code,
            publish,
            processes=cores(),
            make_crew=make_crew,
        )
        base = BacktestSpec(
            "cross.py", (rules.id,), "1m", SINCE_NS, SINCE_NS + count * MINUTE_NS,
            cash=Decimal(100_000), fee=Decimal("0.001"),
        )  # fmt: skip
        ranges = (ParameterRange("fast", 5, 4 + side, 1), ParameterRange("slow", 5 + side, 4 + 2 * side, 1))
        try:
            await optimiser.start(StudySpec(base, ranges, cluster=cluster))
            snapshot = await over
        finally:
            await optimiser.close()
            await stand.launcher.close()
    if snapshot.state is not JobState.DONE or snapshot.counts != {"done": side * side}:
        raise RuntimeError(f"{snapshot.state}: {snapshot.reason} {snapshot.counts}")
    return {
        "ms": 1e3 * (moments["end"] - moments["trials"]) / (side * side),
        "start_s": moments["trials"] - moments["begin"],
    }


def ours(count: int, side: int, cluster: str) -> dict[str, float]:
    """Run a study in this process, which has no loop yet."""
    from koc_qt.wiring.backtest import on_qt

    return on_qt(lambda: study(count, side, cluster))


# ---- one run of all -------------------------------------------------------------------------------------------------


def alone(job: str, args: argparse.Namespace, cluster: str = "") -> dict[str, float]:
    """Run a job in a process of its own; gives its figures and the most memory that it and its children had."""
    words = ["--only", job, "--bars", str(args.bars), "--side", str(args.side), "--cluster", cluster]
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.sweep", *words], stdout=subprocess.PIPE, text=True)
    peak = {"pss_mb": 0.0, "rss_mb": 0.0}
    while process.poll() is None:
        held = memory(process.pid)
        peak = {name: max(value, held[name]) for name, value in peak.items()}
        time.sleep(0.05)
    assert process.stdout is not None
    with process.stdout:
        said = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{job} failed")
    return {**json.loads(said), **peak}


def memory(pid: int) -> dict[str, float]:
    """Give what a process and its children hold in memory, in MB."""
    sizes = {"pss_mb": 0.0, "rss_mb": 0.0}
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return sizes
    for each in family:
        try:
            held = each.memory_full_info()
        except psutil.Error:
            continue
        sizes["pss_mb"] += held.pss / 1e6
        sizes["rss_mb"] += held.rss / 1e6
    return sizes


def measure(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Let all take turns, and give the fastest of each."""
    best: dict[str, dict[str, float]] = {}
    cluster: Any = None
    try:
        if not args.no_dask:
            import distributed

            from koc_qt.wiring.optimiser import cores

            local: Any = distributed.LocalCluster
            cluster = local(n_workers=cores(), threads_per_worker=1, dashboard_address=None, silence_logs=40)
        for _ in range(args.repeats):
            for job in ("bare", "vectorbt", "ours", *(["dask"] if cluster else [])):
                address = cluster.scheduler_address if cluster and job == "dask" else ""
                found = alone(job, args, address)
                if job not in best or found["ms"] < best[job]["ms"]:
                    best[job] = found
    finally:
        if cluster is not None:
            cluster.close()
    ms = best["ours"]["ms"]
    best["ours"]["times_vectorbt"] = best["vectorbt"]["ms"] / ms
    best["ours"]["of_bare_kernel"] = ms / best["bare"]["ms"]
    if "dask" in best:
        best["dask"]["of_ours"] = ms / best["dask"]["ms"]
    return best


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=100, help="values of each of the two parameters")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--no-dask", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=("bare", "vectorbt", "ours", "dask"), help=argparse.SUPPRESS)
    parser.add_argument("--cluster", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only in ("bare", "vectorbt"):
        os.nice(SandboxSettings().nice)  # as ours: on a busy machine it would not be the code that is compared
        rival = bare if args.only == "bare" else vectorbt
        print(json.dumps({"ms": rival(args.bars, args.side, 3)}))
        return
    if args.only:
        from loguru import logger

        logger.remove()
        print(json.dumps(ours(args.bars, args.side, args.cluster)))
        return
    found = measure(args)
    if args.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{args.side * args.side:,} combinations x {args.bars:,} bars")
    for job, figures in found.items():
        print(f"{job:10}", "  ".join(f"{name} {value:,.3f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
