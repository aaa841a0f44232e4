"""Bars a second through the back-test's replay, with a strategy's Python callback at every bar.

    python -m tests.bench.replay [--bars 100000] [--python PATH] [--json]

`idle` does nothing in its callback and shows what replay itself costs; `lean` crosses declared averages of 10 and 50
bars at 0.1 % fees, as short as it can be written; `sma_cross` is the sample of strategies/ with the same averages.
`last tenth` is the pace of the run's last tenth against its first. The ratio is to a bare loop in the same run that
makes the same bars and hands them to a method that does nothing: compare ratios, because machines differ.
`statistics` are all figures and the thinned curve of the sample's run, with the hashes of its record.

All times are of the processors, so that other programs count less. `--python` names an interpreter that has
backtesting.py or backtrader: both cross the same averages there, between our own runs, and `x` is how many times as
many bars a second the lean strategy makes.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import time
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.sdk.channel import ReplayBars, StartReplay
from koc_qt.sdk.parameters import set_parameters
from koc_qt.worker.loader import load_strategy
from koc_qt.worker.record import Outcome, Record
from koc_qt.worker.replay import Replay
from tests.bench.replay_rivals import FAST, SLOW, make_rows

SMA_CROSS = Path(__file__).parents[2] / "strategies" / "sma_cross.py"
RIVALS = Path(__file__).with_name("replay_rivals.py")
IDLE = b"from koc_qt.sdk import Strategy\n\nclass Idle(Strategy):\n    def on_bar(self, bar):\n        pass\n"
LEAN = b"""
from koc_qt.sdk import Strategy
from koc_qt.sdk.indicators import SMA

class Lean(Strategy):
    def on_start(self):
        self.fast, self.slow = self.indicator(SMA(10)), self.indicator(SMA(50))

    def on_bar(self, bar):
        slow = self.slow.value
        if slow is None:
            return
        if self.fast.value > slow:
            if not self.holding():
                self.buy("0.01")
        elif self.holding():
            self.close_position()
"""
BTC = InstrumentId("sim", "BTC/USDT")
MINUTE_NS = 60_000_000_000
CHUNK = 4_096
RIVAL_BARS = 100_000  # at most: their pace does not depend on the length, and backtrader takes a minute for so many
REPEATS = 3  # the fastest counts: what else the machine does only ever slows it down


def make_bars(count: int) -> list[ReplayBars]:
    """Give a random walk around 60,000, in messages as the engine sends them."""
    rows = [(0, number * MINUTE_NS, *row, 1_000.0) for number, row in enumerate(make_rows(count))]
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


def start_of(source: bytes, parameters: dict[str, Any]) -> StartReplay:
    """Give what a run begins with."""
    rules = Instrument(BTC, "BTC", "USDT", Decimal("0.01"), Decimal("0.00001"))
    cash, fee = Decimal(1_000_000), Decimal("0.001")
    return StartReplay(source, "s.py", parameters, (rules,), "1m", 0, cash, fee, Decimal(0), 0, True)


def replay(messages: list[ReplayBars], source: bytes, parameters: dict[str, Any]) -> tuple[Replay, list[float]]:
    """Run a strategy; give the run and when each message was done."""
    start = start_of(source, parameters)
    strategy = load_strategy(source, "s.py")()
    set_parameters(strategy, parameters)
    run = Replay(strategy, start, lambda *_: None)
    run.start()
    moments = [time.process_time()]
    for part in messages:
        run.play(part, lambda: 64)  # as the worker, which looks at the clock then
        moments.append(time.process_time())
    run.finish()
    return run, moments


def fastest(action: Callable[[], object]) -> float:
    """Give the seconds of the fastest of some runs."""
    best = float("inf")
    for _ in range(REPEATS):
        gc.collect()
        began = time.process_time()
        action()
        best = min(best, time.process_time() - began)
    return best


def pace(moments: list[float]) -> float:
    """Give the pace of the last tenth of a run in terms of its first."""
    tenth = max(1, (len(moments) - 2) // 10)  # the last message may be short
    return (moments[tenth] - moments[0]) / (moments[-2] - moments[-2 - tenth])


def of_rivals(python: str, bars: int) -> dict[str, Any]:
    """Run what `python` has of other engines; gives what replay_rivals.py prints."""
    command = [python, str(RIVALS), str(bars)]
    printed = subprocess.run(command, check=True, capture_output=True, timeout=1_800).stdout
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def results(run: Replay, messages: list[ReplayBars], start: StartReplay) -> None:
    """Make all results of a run."""
    record = Record(start, "1m")
    for part in messages:
        record.take(part)
    trips = run.trips.trips(run.marks)
    found = (run.times_ns, run.equity, trips, run.fills, run.fill_count, run.traded, run.prices)
    record.done(Outcome(*found), {})


def measure(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Measure all, our own runs before and after those of others."""
    messages = make_bars(options.bars)
    gc.freeze()
    bare_s = fastest(lambda: bare_loop(messages))
    figures: dict[str, dict[str, Any]] = {"bare": {"bars_per_s": options.bars / bare_s, "ratio": 1.0}}
    cross = {"fast": FAST, "slow": SLOW}
    kinds = {"idle": (IDLE, {}), "lean": (LEAN, {}), "sma_cross": (SMA_CROSS.read_bytes(), cross)}
    fast_s = dict.fromkeys(kinds, float("inf"))
    rivals: dict[str, Any] = {}
    for turn in range(2):
        for name, (source, parameters) in kinds.items():
            seconds = fastest(partial(replay, messages, source, parameters))
            fast_s[name] = min(fast_s[name], seconds)
        if options.python and not turn:
            rivals = of_rivals(options.python, min(options.bars, RIVAL_BARS))
    for name, (source, parameters) in kinds.items():
        run, moments = replay(messages, source, parameters)
        figures[name] = {
            "bars_per_s": options.bars / fast_s[name],
            "ratio": fast_s[name] / bare_s,
            "fills": run.fill_count,
            "last_tenth": pace(moments),
        }
    start = start_of(SMA_CROSS.read_bytes(), cross)
    figures["statistics"] = {"seconds": fastest(lambda: results(run, messages, start))}
    for name in rivals.pop("missing", ["backtesting", "backtrader"]):
        figures[name] = {"absent": f"no {name} here: install it somewhere and name that Python with --python"}
    for name, found in rivals.items():
        pace_there = min(options.bars, RIVAL_BARS) / found["seconds"]
        x = figures["lean"]["bars_per_s"] / pace_there
        figures[name] = {"bars_per_s": pace_there, "x": x, "fills": found["fills"], "version": found["version"]}
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=int, default=100_000)
    parser.add_argument("--python", default="", help="an interpreter that has backtesting.py, backtrader or both")
    parser.add_argument("--json", action="store_true")
    figures = measure(options := parser.parse_args())
    if options.json:
        print(json.dumps(figures))
        return
    for name, values in figures.items():
        shown = (
            f"{key} {value:,.2f}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items()
        )
        print(f"{name:12}" + "  ".join(shown))


if __name__ == "__main__":
    main()
