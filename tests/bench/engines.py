"""Bars a second on the replay engine, vectorbt and backtrader, and how long a person waits for the first result.

    python -m tests.bench.engines [--bars 100000] [--slow-bars 20000] [--cold-bars 10000] [--repeats 3] [--json]

`pace` is in one process that has everything loaded: strategies/sma_cross.py (the class itself, called at every bar) on
the replay engine and on backtrader, strategies/sma_signals.py on all three; backtrader gets `slow-bars`. `plain` is
vectorbt by hand, from averages to the equity curve. `cold` is what passes from the launch of a locked-down worker
process to the last word of its result, with `cold-bars`; vectorbt's library is loaded in that time, and `vectorbt,
plain` is a bare process that imports vectorbt and does the same without any of ours. The target: ours takes at most
0.3 of vectorbt's. What is measured takes turns, and the fastest of `repeats` counts; compare ratios, because machines
differ.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from koc_qt.adapters.worker_process import worker_command, worker_environment
from koc_qt.domain.backtests import Engine
from koc_qt.engine.backtest_run import NEEDS
from koc_qt.sdk.channel import (
    Failed,
    FrameReader,
    LoadFailed,
    Ready,
    ReplayBars,
    ReplayDone,
    ReplayEnd,
    ReplayProgress,
    Running,
    WorkerMessage,
    decode_worker,
    frame,
)
from tests.bench.engine_bars import PARAMETERS, SMA_SIGNALS, make_columns, messages, play, ready, start_of

SMA_CROSS = SMA_SIGNALS.with_name("sma_cross.py")
CROSS_PARAMETERS = {"fast": 10, "slow": 50, "notional": 100.0}
PLAIN = """
import numpy as np, pandas as pd, sys
import vectorbt as vbt
columns = np.load(sys.argv[1])
close = pd.Series(columns["close"])
fast, slow = close.rolling(10).mean(), close.rolling(50).mean()
portfolio = vbt.Portfolio.from_signals(
    close, (fast > slow).shift(1, fill_value=False), (fast <= slow).shift(1, fill_value=False),
    price=columns["open"], size=1.0, fees=0.001, init_cash=1e6, engine="rust",
)
print(len(portfolio.order_records), portfolio.value().iloc[-1])
"""

Figures = dict[str, float]


def pace(count: int, slow_count: int, repeats: int) -> dict[str, Figures]:
    """Give bars a second of each engine."""
    jobs: dict[str, tuple[int, Callable[[], object]]] = {}
    for name, engine, source, parameters, bars in (
        ("replay, on_bar", Engine.REPLAY, SMA_CROSS, CROSS_PARAMETERS, count),
        ("replay, signals", Engine.REPLAY, SMA_SIGNALS, PARAMETERS, count),
        ("vectorbt, signals", Engine.VECTORBT, SMA_SIGNALS, PARAMETERS, count),
        ("backtrader, on_bar", Engine.BACKTRADER, SMA_CROSS, CROSS_PARAMETERS, slow_count),
        ("backtrader, signals", Engine.BACKTRADER, SMA_SIGNALS, PARAMETERS, slow_count),
    ):
        jobs[name] = bars, partial(one_run, engine, source.read_bytes(), parameters, messages(make_columns(bars)))
    jobs["vectorbt, plain"] = count, plain_job(make_columns(count))
    # The processor's seconds: all of these have one thread, and what else the machine does is no matter of theirs.
    seconds = in_turns({name: job for name, (_, job) in jobs.items()}, repeats, time.process_time)
    slowest = jobs["backtrader, on_bar"][0] / seconds["backtrader, on_bar"]
    return {
        name: {"bars_per_s": bars / seconds[name], "times_backtrader": bars / seconds[name] / slowest}
        for name, (bars, _) in jobs.items()
    }


def one_run(engine: Engine, source: bytes, parameters: dict[str, Any], parts: list[ReplayBars]) -> None:
    """Run in this process."""
    play(ready(engine, source, parameters), parts)


def plain_job(columns: dict[str, Any]) -> Callable[[], object]:
    """Give what a user of vectorbt would do by hand."""
    import pandas as pd

    from koc_qt.worker.engines.vectorbt_library import library

    def job() -> object:
        close = pd.Series(columns["close"])
        fast, slow = close.rolling(10).mean(), close.rolling(50).mean()
        entries, exits = ((side).shift(1, fill_value=False) for side in (fast > slow, fast <= slow))
        portfolio = library.Portfolio.from_signals(
            close, entries, exits, price=columns["open"], size=1.0, fees=0.001, init_cash=1e6, engine="rust"
        )
        return portfolio.order_records, portfolio.value()

    return job


def in_turns(
    jobs: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Give the seconds of the fastest of some runs of each; they take turns, so that a slow moment hits all."""
    best = dict.fromkeys(jobs, float("inf"))
    for _ in range(repeats):
        for name, job in jobs.items():
            gc.collect()
            began_s = clock()
            job()
            best[name] = min(best[name], clock() - began_s)
    return best


def cold(count: int, repeats: int, folder: Path) -> dict[str, Figures]:
    """Give the seconds from nothing to a result, and their ratio to vectorbt's."""
    columns = make_columns(count)
    parts = messages(columns)
    path = folder / "bars.npz"
    np.savez(path, **columns)
    jobs: dict[str, Callable[[], object]] = {}
    for name, engine, source, parameters in (
        ("replay, on_bar", Engine.REPLAY, SMA_CROSS, CROSS_PARAMETERS),
        ("replay, signals", Engine.REPLAY, SMA_SIGNALS, PARAMETERS),
        ("vectorbt, signals", Engine.VECTORBT, SMA_SIGNALS, PARAMETERS),
        ("backtrader, on_bar", Engine.BACKTRADER, SMA_CROSS, CROSS_PARAMETERS),
    ):
        jobs[name] = partial(from_process, engine, source.read_bytes(), parameters, parts)
    jobs["vectorbt, plain"] = partial(
        subprocess.run, [sys.executable, "-c", PLAIN, str(path)], check=True, capture_output=True
    )
    seconds = in_turns(jobs, repeats)
    return {
        name: {
            "seconds": value,
            "of_vectorbt": value / seconds["vectorbt, signals"],
            "of_plain_vectorbt": value / seconds["vectorbt, plain"],
        }
        for name, value in seconds.items()
    }


def from_process(engine: Engine, source: bytes, parameters: dict[str, Any], parts: list[ReplayBars]) -> ReplayDone:
    """Start a worker, locked down as the engine starts it, and have it run a back-test."""
    needs = NEEDS.get(engine)
    settings = {} if needs is None else {"preimport": needs.modules, "address_space_bytes": needs.memory_bytes}
    ours, theirs = socket.socketpair()
    options = ["--channel", str(theirs.fileno()), "--parent", str(os.getpid()), "--settings", json.dumps(settings)]
    with ours:
        with theirs:
            process = subprocess.Popen(
                [*worker_command(), *options], pass_fds=[theirs.fileno()], env=worker_environment()
            )
        try:
            listener = Listener(ours)
            listener.until(Ready)
            ours.sendall(frame(start_of(engine, source, parameters)))
            listener.until(Running)
            for number, part in enumerate(parts):
                listener.until(ReplayProgress, number - 3)  # as the engine: four on their way
                ours.sendall(frame(part))
            ours.sendall(frame(ReplayEnd()))
            return listener.until(ReplayDone)
        finally:
            process.kill()
            process.wait()


class Listener:
    """Reads what a worker says."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._channel.settimeout(300)
        self._reader = FrameReader()
        self._said: list[WorkerMessage] = []

    def until(self, kind: type[Any], count: int = 1) -> Any:
        """Read until `count` messages of a kind have come, and give the last. Raises RuntimeError when that fails."""
        while True:
            found = [message for message in self._said if isinstance(message, kind)]
            if len(found) >= count:
                return found[-1] if found else None
            data = self._channel.recv(1 << 18)
            self._said += map(decode_worker, self._reader.feed(data))
            reasons = [message.reason for message in self._said if isinstance(message, Failed | LoadFailed)]
            if reasons:
                raise RuntimeError(reasons[0])
            if not data:
                raise RuntimeError(f"the worker ended without a {kind.__name__}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=int, default=100_000)
    parser.add_argument("--slow-bars", type=int, default=20_000)
    parser.add_argument("--cold-bars", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = {
            "cold": cold(options.cold_bars, options.repeats, Path(folder)),
            "pace": pace(options.bars, options.slow_bars, options.repeats),
        }
    if options.json:
        print(json.dumps(figures))
        return
    for what, rows in figures.items():
        print(what)
        for name, values in rows.items():
            print(f"  {name:>20}: " + ", ".join(f"{key} {value:,.4g}" for key, value in values.items()))


if __name__ == "__main__":
    main()
