"""The same strategy on the replay engine, vectorbt and backtrader: how far their trades and curves are apart.

    python -m tests.bench.parity [--bars 1000000] [--without backtrader] [--json]

strategies/sma_signals.py at 10/50 bars, one unit, 0.1 % fees, decided at a close and done at the next open. Prices are
on a grid of cents, so that the averages tie exactly again and again (`ties`). Each engine's trades are held against the
replay engine's: `bars` and `prices` count trades that began or ended elsewhere or at another price, `pnl` is the
largest difference of one trade's profit, `equity` the largest difference of the curves in terms of the curve. `plain`
is vectorbt called by hand as its users would, without anything of ours: its own records, in its own floats. backtrader
takes some minutes for a million bars. The exit code is 1 where anything differs: a price at all, a curve by more than
1e-12.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np

from koc_qt.domain.backtests import Engine, RoundTrip
from koc_qt.sdk import Bars
from koc_qt.sdk.indicators import SMA
from koc_qt.worker.replay import Replay
from tests.bench.engine_bars import CASH, FEE, PARAMETERS, RULES, SMA_SIGNALS, make_columns, messages, play, ready

_EQUITY_AT_MOST = 1e-12


def trades_of(run: Replay) -> list[RoundTrip]:
    """Give all trades, with those that are open at the end."""
    return run.trips.trips(run.marks)


def held_against(ours: Replay, theirs: Replay) -> dict[str, float]:
    """Give how far another run is from ours."""
    mine, others = trades_of(ours), trades_of(theirs)
    pairs = list(zip(mine, others, strict=False))
    equity = np.abs(np.asarray(ours.equity) - np.asarray(theirs.equity)) / np.abs(np.asarray(ours.equity))
    return {
        "trades": len(others),
        "trades_more": len(others) - len(mine),
        "bars": sum((a.entry_ns, a.exit_ns) != (b.entry_ns, b.exit_ns) for a, b in pairs),
        "prices": sum((a.entry_price, a.exit_price) != (b.entry_price, b.exit_price) for a, b in pairs),
        "pnl": max((abs(a.pnl - b.pnl) for a, b in pairs), default=0.0),
        "equity": float(equity.max()),
    }


def plain_vectorbt(columns: dict[str, Any], ours: Replay) -> dict[str, float]:
    """Call vectorbt by hand and hold its own records against our trades."""
    from koc_qt.worker.engines.vectorbt_library import library

    bars = Bars(RULES.id, "1m", *columns.values())
    fast, slow = bars.column(SMA(PARAMETERS["fast"])), bars.column(SMA(PARAMETERS["slow"]))
    later = [np.concatenate(([False], column[:-1])) for column in (fast > slow, fast <= slow)]
    portfolio = library.Portfolio.from_signals(
        bars.close, later[0], later[1], price=bars.open, size=1.0, fees=float(FEE), init_cash=float(CASH)
    )
    records, mine = portfolio.trades.records, trades_of(ours)
    opened = [columns["open_time_ns"][row] for row in records["entry_idx"]]
    closed = [trip for trip in mine if trip.exit_ns is not None]
    equity = np.abs(np.asarray(ours.equity)[1:] - portfolio.value().to_numpy()) / np.asarray(ours.equity)[1:]
    return {
        "trades": len(records),
        "trades_more": len(records) - len(mine),
        "bars": sum(a.entry_ns != b for a, b in zip(mine, opened, strict=False)),
        "prices": sum(
            (a.entry_price, a.exit_price) != b
            for a, b in zip(closed, zip(records["entry_price"], records["exit_price"], strict=True), strict=False)
        ),
        "pnl": max(abs(a.pnl - b) for a, b in zip(closed, records["pnl"], strict=False)),
        "equity": float(equity.max()),
    }


def ties(columns: dict[str, Any]) -> int:
    """Count the bars where both averages are exactly the same."""
    bars = Bars(RULES.id, "1m", *columns.values())
    return int((bars.column(SMA(PARAMETERS["fast"])) == bars.column(SMA(PARAMETERS["slow"]))).sum())


def is_same(found: dict[str, float]) -> bool:
    """Whether nothing differs."""
    return (
        not any(found[name] for name in ("trades_more", "bars", "prices", "pnl")) and found["equity"] <= _EQUITY_AT_MOST
    )


def main() -> int:
    """Run all engines, print, and say whether they agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=int, default=1_000_000)
    parser.add_argument("--without", action="append", choices=[engine.value for engine in Engine][1:], default=[])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    columns = make_columns(options.bars)
    parts, source = messages(columns), SMA_SIGNALS.read_bytes()
    ours = ready(Engine.REPLAY, source, PARAMETERS)
    play(ours, parts)
    results: dict[str, dict[str, float]] = {}
    for engine in [engine for engine in Engine if engine is not Engine.REPLAY and engine.value not in options.without]:
        run = ready(engine, source, PARAMETERS)
        began_s = time.perf_counter()
        play(run, parts)
        results[engine.value] = held_against(ours, run) | {"seconds": time.perf_counter() - began_s}
    if "vectorbt" not in options.without:
        results["vectorbt, plain"] = plain_vectorbt(columns, ours)
    if options.json:
        print(json.dumps({"bars": options.bars, "ties": ties(columns), "replay": len(trades_of(ours)), **results}))
    else:
        print(f"{options.bars:,} bars, {ties(columns):,} exact ties; replay: {len(trades_of(ours)):,} trades")
        for name, found in results.items():
            print(f"{name:>16}: " + ", ".join(f"{what} {value:g}" for what, value in found.items()))
    exact = {name: found for name, found in results.items() if name != "vectorbt, plain"}
    agree = all(is_same(found) for found in exact.values())
    print("the same trades, profits and curves" if agree else "THEY DIFFER", file=sys.stderr)
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
