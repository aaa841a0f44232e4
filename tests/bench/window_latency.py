"""Whether a window delays orders: python -m tests.bench.window_latency [--seconds 12] [--rounds 3]

The engine with probe_strategy.py as in tests.bench.latency (paper account without simulated latency), in each round
    none    without a window
    idle    with a window on it: two live charts and every panel
    busy    with a window that paints its docks for 30 of every 50 ms
    polite  the same, the window and all its threads at `nice 10`
Milliseconds, medians over the rounds, with a fresh strategy for each measurement:
    engine  signal received -> venue's acceptance
    order   the strategy's buy() -> its on_order with status accepted
and their ratios to `none`. On a machine with fewer free cores than busy processes (engine, worker, window, display) the
ratios contain the wait for a core, which is not the window's doing but is what a person gets.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import os
import statistics
import time
from decimal import Decimal

import msgspec

from koc_qt.config import Config
from koc_qt.domain.market import Side, Trade
from koc_qt.domain.state import StrategySpec, StrategyState
from koc_qt.link.messages import StartStrategy, StopStrategy
from koc_qt.logger import setup_logger
from koc_qt.paths import profile_paths
from koc_qt.wiring.engine import Engine, EngineOptions, main
from tests.bench.latency import BTC, PROBE, wait_for
from tests.bench.window_common import Child, add_display_options, display, load, profile

WINDOWS = {"idle": ("idle",), "busy": ("busy",), "polite": ("busy", "--nice", "10")}
PHASES = ("none", *WINDOWS)
SETTLE_S = 3.0
FIGURES = ("engine p50", "engine p99", "order p50", "order p99")
Found = dict[str, list[dict[str, float]]]


async def one(engine: Engine, name: str, rate_hz: float, seconds: float) -> dict[str, float]:
    """Run a fresh probe on marked trades, and give what it and the engine measured."""
    await engine.commands.execute(StartStrategy(StrategySpec(name, str(PROBE), "sim", (BTC,), "")), "bench")
    await wait_for(lambda: engine.host.managed[name].state is StrategyState.RUNNING)
    await engine.market_data.wait_priced(BTC)
    price = engine.store.mark(BTC)
    assert price is not None
    price = engine.store.instruments[BTC].round_price(price)
    due, end = time.monotonic(), time.monotonic() + seconds
    while time.monotonic() < end:
        stamp = f"bench-{time.monotonic_ns()}"
        now_ns = engine.market_data.time_ns("sim")
        engine.market_data.receive(Trade(BTC, now_ns, price, Decimal("0.001"), Side.BUY, stamp))
        due += 1 / rate_hz
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    await asyncio.sleep(1.0)
    engine.telemetry.show(engine.host)
    shown = engine.store.strategies[name]
    await engine.commands.execute(StopStrategy(name), "bench")
    assert shown.order_latency_p50_ms is not None
    assert shown.order_latency_p99_ms is not None
    return {
        "engine p50": shown.order_latency_p50_ms,
        "engine p99": shown.order_latency_p99_ms,
        "order p50": shown.metrics["order_p50_us"] / 1e3,
        "order p99": shown.metrics["order_p99_us"] / 1e3,
        "count": shown.metrics["order_count"],
    }


async def with_window(
    engine: Engine, phase: str, name: str, args: argparse.Namespace, environment: dict[str, str]
) -> dict[str, float]:
    """Measure beside the window of this phase."""
    if phase == "none":
        return await one(engine, name, args.rate, args.seconds)
    loop = asyncio.get_running_loop()
    with Child("tests.bench.window_runner", *WINDOWS[phase], environment=environment) as child:
        await loop.run_in_executor(None, child.hear, "ready")
        await asyncio.sleep(SETTLE_S)
        measured = await one(engine, name, args.rate, args.seconds)
        child.process.terminate()
        painted = await loop.run_in_executor(None, child.hear, "painted")
        await loop.run_in_executor(None, child.end)
    return {**measured, "share": painted["share"]}


async def measure(engine: Engine, args: argparse.Namespace, environment: dict[str, str], found: Found) -> None:
    """Take turns between the phases, so that what else the machine does hits all."""
    await one(engine, "warm-up", args.rate, 3.0)
    for number in range(args.rounds):
        for phase in PHASES:
            found[phase].append(await with_window(engine, phase, f"{phase}-{number}", args, environment))
    engine.ask_to_stop("measured")


def report(found: Found) -> None:
    """Print medians and ratios."""
    print(f"{'':8}" + "".join(f"{name:>28}" for name in FIGURES))
    floor = {name: statistics.median(run[name] for run in found["none"]) for name in FIGURES}
    for phase in PHASES:
        cells = []
        for name in FIGURES:
            values = [run[name] for run in found[phase]]
            middle = statistics.median(values)
            cells.append(f"{middle:.2f} [{min(values):.2f}-{max(values):.2f}] {middle / floor[name]:.2f} x")
        shares = [run["share"] for run in found[phase] if "share" in run]
        share = f"   painting {statistics.median(shares):.0%}" if shares else ""
        print(f"{phase:8}" + "".join(f"{cell:>28}" for cell in cells) + share)
    print(
        f"milliseconds, median of {len(found['none'])} rounds [least-most], ratio to no window; "
        f"{min(run['count'] for runs in found.values() for run in runs):.0f} orders or more a round"
    )


def run() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=300.0, help="marked trades a second; every tenth brings an order")
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--rounds", type=int, default=3)
    add_display_options(parser)
    args = parser.parse_args()
    print(load())
    config = Config()
    accounts = tuple(msgspec.structs.replace(account, latency_ms=0.0) for account in config.accounts)
    risk = msgspec.structs.replace(config.risk, max_orders_per_minute=1_000_000, price_collar=Decimal(1))
    config = msgspec.structs.replace(config, accounts=accounts, risk=risk)
    found: Found = {phase: [] for phase in PHASES}
    with display(args) as environment, profile() as home:
        paths = profile_paths(home)
        paths.ensure()
        environment = {**environment, "KOC_HOME": str(home)}
        measured = functools.partial(measure, args=args, environment=environment, found=found)
        with contextlib.closing(setup_logger(None, level="WARNING")):
            main(paths, config, EngineOptions(), measured)
    report(found)
    print(f"load after: {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    run()
