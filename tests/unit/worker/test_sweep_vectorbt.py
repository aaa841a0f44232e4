"""The compiled kernel held against vectorbt: the same signals, the same trades, the same money."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from koc_qt.sdk.indicators import SMA
from koc_qt.sdk.signals import Bars
from tests.unit.sdk.desk import BTC
from tests.unit.worker.replays import bars, walk
from tests.unit.worker.sweeps import CROSS, start_sweep, sweeping

COUNT = 2_000


def test_vectorbt_finds_the_same() -> None:
    from koc_qt.worker.engines.vectorbt_library import library

    candles = walk(COUNT, 11)
    pairs = [(2, 5), (3, 20), (10, 50), (40, 41)]
    source = CROSS.replace("self.warmup_bars = self.slow", "pass")
    with sweeping(start_sweep(source, volume_fraction=None, cash=Decimal(10_000)), [bars(candles)]) as sweep:
        assert sweep.ready.is_compiled
        found = sweep.evaluate(*({"fast": fast, "slow": slow} for fast, slow in pairs))
    opens, highs, lows, closes = np.array(candles).T
    columns = Bars(BTC.id, "1m", range(COUNT), opens, highs, lows, closes, opens)
    entries, exits = np.zeros((COUNT, len(pairs)), bool), np.zeros((COUNT, len(pairs)), bool)
    for place, (fast, slow) in enumerate(pairs):
        quick, calm = columns.column(SMA(fast)), columns.column(SMA(slow))
        above, below = quick > calm, quick < calm
        entries[2:, place] = above[1:-1] & ~above[:-2]
        exits[2:, place] = below[1:-1] & ~below[:-2]
    portfolio = library.Portfolio.from_signals(
        closes[:, None], entries, exits, price=opens[:, None], size=1.0, fees=0.001, init_cash=10_000.0, freq="1min"
    )
    for place, trial in enumerate(found):
        figures = trial.statistics
        assert figures["final_equity"] == pytest.approx(float(np.asarray(portfolio.final_value())[place]), rel=1e-9)
        assert figures["max_drawdown"] == pytest.approx(-float(np.asarray(portfolio.max_drawdown())[place]), rel=1e-9)
        assert figures["trades"] == int(np.asarray(portfolio.trades.closed.count())[place])
        assert figures["open_trades"] == int(np.asarray(portfolio.trades.open.count())[place])
        assert (figures["trades"] or 0) > 10
