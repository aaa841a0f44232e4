"""Latency through the real engine and a real, sandboxed worker; run by hand: python -m tests.bench.latency

tick      a trade enters the engine's market data service -> the strategy's on_trade begins
order     the strategy's buy() -> its on_order with status accepted: pipe, risk, journal on the disk, paper venue
          (no simulated latency), journal again, pipe
engine    the same as the engine sees it: signal received -> venue's acceptance
pipe      the floor: an echo through the same kind of socket pair between two processes, in the same run
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import msgspec

from koc_qt.config import Config
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Side, Trade
from koc_qt.domain.state import StrategySpec, StrategyState
from koc_qt.paths import profile_paths
from koc_qt.wiring.engine import Engine, EngineOptions, main

PROBE = Path(__file__).with_name("probe_strategy.py")
BTC = InstrumentId("sim", "BTC/USDT")
START_TIMEOUT_S = 30.0


def percentiles(values: list[float]) -> tuple[float, float]:
    """Give the median and the 99th percentile."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]


def echo_us(rounds: int = 2_000) -> tuple[float, float]:
    """Measure half a round trip of 200 bytes between two processes over a socket pair, blocking."""
    here, there = socket.socketpair()
    if os.fork() == 0:
        here.close()
        while data := there.recv(4096):
            there.sendall(data)
        os._exit(0)
    there.close()
    payload, times = b"x" * 200, []
    for _ in range(rounds):
        began = time.perf_counter_ns()
        here.sendall(payload)
        here.recv(4096)
        times.append((time.perf_counter_ns() - began) / 2e3)
    here.close()
    os.wait()
    return percentiles(times)


async def wait_for(condition: Callable[[], bool]) -> None:
    """Poll until a condition holds."""
    async with asyncio.timeout(START_TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 - a bench may poll
            await asyncio.sleep(0.05)


async def measure(engine: Engine, rate_hz: float, seconds: float) -> None:
    """Send marked trades at a steady rate, then print what the strategy measured."""
    await wait_for(lambda: any(e.state is StrategyState.RUNNING for e in engine.host.managed.values()))
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
    metrics = engine.store.strategies["probe_strategy"].metrics
    latency = engine.telemetry.engine()
    for name in ("tick", "order"):
        p50, p99 = metrics[f"{name}_p50_us"], metrics[f"{name}_p99_us"]
        print(f"{name:8} p50 {p50 / 1e3:8.2f} ms   p99 {p99 / 1e3:8.2f} ms   ({metrics[f'{name}_count']:.0f} measured)")
    assert latency.order_latency_p50_ms is not None
    assert latency.order_latency_p99_ms is not None
    print(f"engine   p50 {latency.order_latency_p50_ms:8.2f} ms   p99 {latency.order_latency_p99_ms:8.2f} ms")
    engine.ask_to_stop("measured")


def run() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=100.0, help="marked trades a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    args = parser.parse_args()
    p50, p99 = echo_us()
    print(f"pipe     p50 {p50 / 1e3:8.3f} ms   p99 {p99 / 1e3:8.3f} ms   (bare echo, half a round trip)")
    config = Config()
    accounts = tuple(msgspec.structs.replace(account, latency_ms=0.0) for account in config.accounts)
    risk = msgspec.structs.replace(config.risk, max_orders_per_minute=1_000_000, price_collar=Decimal(1))
    config = msgspec.structs.replace(config, accounts=accounts, risk=risk)
    spec = StrategySpec("", str(PROBE), "sim", (BTC,), "")
    with tempfile.TemporaryDirectory() as home:
        paths = profile_paths(Path(home))
        paths.ensure()
        main(paths, config, EngineOptions((spec,)), lambda engine: measure(engine, args.rate, args.seconds))


if __name__ == "__main__":
    run()
