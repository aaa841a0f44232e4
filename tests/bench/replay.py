"""Bars a second through the back-test's replay, with a strategy's Python callback at every bar.

    python -m tests.bench.replay [--bars 100000] [--json]

`idle` does nothing in its callback and shows what replay itself costs; `sma_cross` is the sample of strategies/ at
10/50 bars and 0.1 % fees. `last tenth` is the pace of the run's last tenth against its first. The ratio is to a bare
loop in the same run that makes the same bars and hands them to a method that does nothing: compare ratios, because
machines differ. `statistics` are all figures and the thinned curve of the sample's run.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.domain.performance import statistics, thin
from koc_qt.sdk.channel import ReplayBars, StartReplay
from koc_qt.sdk.parameters import set_parameters
from koc_qt.worker.loader import load_strategy
from koc_qt.worker.replay import Replay

SMA_CROSS = Path(__file__).parents[2] / "strategies" / "sma_cross.py"
IDLE = b"from koc_qt.sdk import Strategy\n\nclass Idle(Strategy):\n    def on_bar(self, bar):\n        pass\n"
BTC = InstrumentId("sim", "BTC/USDT")
MINUTE_NS = 60_000_000_000
CHUNK = 4_096
REPEATS = 3  # the fastest counts: what else the machine does only ever slows it down


def make_bars(count: int) -> list[ReplayBars]:
    """Give a random walk around 60,000, in messages as the engine sends them."""
    rng, price, rows = random.Random(1), 60_000.0, []
    for number in range(count):
        close = round(price * (1 + rng.gauss(0, 0.0005)), 2)
        rows.append((0, number * MINUTE_NS, price, max(price, close) + 1.0, min(price, close) - 1.0, close, 1_000.0))
        price = close
    parts = [rows[begin : begin + CHUNK] for begin in range(0, count, CHUNK)]
    return [ReplayBars(False, *(list(column) for column in zip(*part, strict=True))) for part in parts]


def bare_loop(messages: list[ReplayBars]) -> None:
    """Make the bars and hand them to a method that does nothing."""

    class Nothing:
        def on_bar(self, bar: Bar) -> None:
            pass

    handle = Nothing().on_bar
    for part in messages:
        columns = zip(part.open_time_ns, part.open, part.high, part.low, part.close, part.volume, strict=True)
        for time_ns, opening, high, low, close, volume in columns:
            handle(Bar(BTC, "1m", time_ns, opening, high, low, close, volume))


def replay(messages: list[ReplayBars], source: bytes, parameters: dict[str, Any]) -> tuple[Replay, list[float]]:
    """Run a strategy; give the run and when each message was done."""
    rules = Instrument(BTC, "BTC", "USDT", Decimal("0.01"), Decimal("0.00001"))
    fee = Decimal("0.001")
    start = StartReplay(source, "s.py", parameters, (rules,), "1m", 0, Decimal(10_000), fee, Decimal(0), 0, True)
    strategy = load_strategy(source, "s.py")()
    set_parameters(strategy, parameters)
    run = Replay(strategy, start, lambda *_: None)
    run.start()
    moments = [time.perf_counter()]
    for part in messages:
        run.play(part, lambda: 64)  # as the worker, which looks at the clock then
        moments.append(time.perf_counter())
    run.finish()
    return run, moments


def fastest(action: Callable[[], object]) -> float:
    """Give the seconds of the fastest of some runs."""
    best = float("inf")
    for _ in range(REPEATS):
        gc.collect()
        began = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - began)
    return best


def pace(moments: list[float]) -> float:
    """Give the pace of the last tenth of a run in terms of its first."""
    tenth = max(1, (len(moments) - 2) // 10)  # the last message may be short
    return (moments[tenth] - moments[0]) / (moments[-2] - moments[-2 - tenth])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    messages = make_bars(options.bars)
    gc.freeze()
    bare_s = fastest(lambda: bare_loop(messages))
    figures: dict[str, dict[str, float]] = {"bare": {"bars_per_s": options.bars / bare_s, "ratio": 1.0}}
    sample = SMA_CROSS.read_bytes()
    for name, source, parameters in (("idle", IDLE, {}), ("sma_cross", sample, {"fast": 10, "slow": 50})):
        seconds = fastest(lambda source=source, parameters=parameters: replay(messages, source, parameters))
        run, moments = replay(messages, source, parameters)
        figures[name] = {
            "bars_per_s": options.bars / seconds,
            "ratio": seconds / bare_s,
            "fills": run.fill_count,
            "last_tenth": pace(moments),
        }
    trips = run.trips.trips(run.marks)
    figures["statistics"] = {
        "seconds": fastest(
            lambda: (
                statistics(run.times_ns, run.equity, trips, fills=run.fill_count, traded=run.traded),
                thin(run.times_ns, run.equity, 4_000),
            )
        )
    }
    if options.json:
        print(json.dumps(figures))
        return
    for name, values in figures.items():
        print(f"{name:12}" + "  ".join(f"{key} {value:,.2f}" for key, value in values.items()))


if __name__ == "__main__":
    main()
