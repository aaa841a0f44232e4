"""How fast an engine is there and what it costs to keep; run by hand: python -m tests.bench.startup

Starts `koc engine` with sma_cross.py on the simulated market in fresh profiles and prints: process start to the engine
announcing itself, to the first tick and to a running strategy; then CPU and memory of each process, trading and idle;
then every import of the engine that takes more than 50 ms with what it brings along.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from koc_qt.domain.errors import LinkError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.state import StrategyState
from koc_qt.link.client import LinkClient, local_engine
from koc_qt.link.keys import load_pair
from koc_qt.link.messages import Fact, QuoteChanged, Subscribe
from koc_qt.link.rendezvous import running_engine
from koc_qt.link.replica import Replica
from koc_qt.paths import profile_paths

ROOT = Path(__file__).parents[2]
BTC = InstrumentId("sim", "BTC/USDT")
STRATEGY = ("--strategy", str(ROOT / "strategies" / "sma_cross.py"))
TIMEOUT_S = 60.0


def spawn(home: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start an engine."""
    environment = {**os.environ, "KOC_HOME": str(home), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "koc_qt", "engine", "--no-live", *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def until(condition: Callable[[], bool]) -> None:
    """Poll every millisecond."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.001)


def is_there(run_folder: Path) -> bool:
    """Tell whether an engine has announced itself."""
    try:
        running_engine(run_folder)
    except LinkError:
        return False
    return True


async def first_tick_and_strategy(home: Path, began: float) -> tuple[float, float]:
    """Give the seconds to the first quote and to a running strategy."""
    paths = profile_paths(home)
    ticked = asyncio.Event()
    replica = Replica()

    def take(fact: Fact) -> None:
        replica.apply(fact)
        if isinstance(fact, QuoteChanged):
            ticked.set()

    client = LinkClient(local_engine(paths.run), load_pair(paths.keys), on_fact=take)
    await client.connect(TIMEOUT_S)
    try:
        await client.request(Subscribe(BTC))
        await asyncio.wait_for(ticked.wait(), TIMEOUT_S)
        tick_s = time.perf_counter() - began
        while not any(s.state is StrategyState.RUNNING for s in replica.strategies.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        return tick_s, time.perf_counter() - began
    finally:
        await client.close()


def use_of(engine: subprocess.Popen[bytes], seconds: float) -> list[str]:
    """Give a line for the engine and for each of its workers."""
    processes = [psutil.Process(engine.pid), *psutil.Process(engine.pid).children()]
    for process in processes:
        process.cpu_percent()
    time.sleep(seconds)
    return [
        f"{'engine' if p.pid == engine.pid else 'worker':7} CPU {p.cpu_percent():5.1f} %   "
        f"memory {p.memory_info().rss / 2**20:6.1f} MiB"
        for p in processes
    ]


def slow_imports() -> list[str]:
    """Give the imports of the engine that take more than 50 ms with what they bring along."""
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import koc_qt.wiring.engine"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    rows = re.findall(r"import time:\s+(\d+) \|\s+(\d+) \|\s+(\S+)", result.stderr)
    slow = sorted(((int(total), name) for _, total, name in rows if int(total) > 50_000), reverse=True)
    return [f"{total / 1e3:7.0f} ms  {name}" for total, name in slow]


def run() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long CPU is measured")
    args = parser.parse_args()
    for number in range(args.runs):
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            began = time.perf_counter()
            engine = spawn(home, *STRATEGY)
            until(lambda run=home / "run": is_there(run))  # type: ignore[misc]
            there_s = time.perf_counter() - began
            tick_s, running_s = asyncio.run(first_tick_and_strategy(home, began))
            print(f"run {number + 1}: engine {there_s:.2f} s   first tick {tick_s:.2f} s   strategy {running_s:.2f} s")
            if number == args.runs - 1:
                print("\n".join(["trading:", *use_of(engine, args.seconds)]))
            engine.terminate()
            engine.wait(TIMEOUT_S)
    with tempfile.TemporaryDirectory() as folder:
        engine = spawn(Path(folder))
        until(lambda: is_there(Path(folder) / "run"))
        print("\n".join(["idle:", *use_of(engine, args.seconds)]))
        engine.terminate()
        engine.wait(TIMEOUT_S)
    print("\n".join(["imports above 50 ms:", *slow_imports()]))


if __name__ == "__main__":
    run()
