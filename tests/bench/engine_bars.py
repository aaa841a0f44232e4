"""Bars, strategy and runs for the benchmarks of engines."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from koc_qt.domain.backtests import Engine
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.sdk.channel import ReplayBars, StartReplay
from koc_qt.sdk.parameters import set_parameters
from koc_qt.worker.engines import run_class
from koc_qt.worker.loader import load_strategy
from koc_qt.worker.replay import Replay

SMA_SIGNALS = Path(__file__).parents[2] / "strategies" / "sma_signals.py"
PARAMETERS = {"fast": 10, "slow": 50, "quantity": 1.0}
FEE = Decimal("0.001")
CASH = Decimal(1_000_000)
MINUTE_NS = 60_000_000_000
RULES = Instrument(InstrumentId("sim", "BTC/USDT"), "BTC", "USDT", Decimal("0.01"), Decimal("0.00001"))
CHUNK = 4_096


def make_columns(count: int, seed: int = 1) -> dict[str, Any]:
    """Give a random walk around 100 on a grid of cents that opens a little off the last close; averages tie often."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0.0, 0.02, count)
    close = np.empty(count)
    price = 100.0
    for row, step in enumerate(steps.tolist()):
        price += step + (100.0 - price) * 1e-4
        close[row] = price
    close = np.round(close, 2)
    opening = np.round(np.concatenate(([100.0], close[:-1])) + rng.integers(-2, 3, count) / 100, 2)
    return {
        "open_time_ns": np.arange(count, dtype=np.int64) * MINUTE_NS,
        "open": opening,
        "high": np.maximum(opening, close) + 0.05,
        "low": np.minimum(opening, close) - 0.05,
        "close": close,
        "volume": np.full(count, 1_000.0),
    }


def messages(columns: dict[str, Any]) -> list[ReplayBars]:
    """Give columns as the engine sends them."""
    count = len(columns["close"])
    parts = []
    for begin in range(0, count, CHUNK):
        part = {name: column[begin : begin + CHUNK].tolist() for name, column in columns.items()}
        parts.append(ReplayBars(warmup=False, row=[0] * len(part["close"]), **part))
    return parts


def start_of(engine: Engine, source: bytes, parameters: dict[str, Any]) -> StartReplay:
    """Give the settings that all engines share: next open, whole fills, 0.1 % fees."""
    return StartReplay(
        source=source,
        filename="s.py",
        parameters=parameters,
        instruments=(RULES,),
        timeframe="1m",
        since_ns=0,
        cash=CASH,
        fee=FEE,
        slippage=Decimal(0),
        seed=0,
        allow_short=True,
        engine=engine,
        volume_fraction=None,
    )


def ready(engine: Engine, source: bytes, parameters: dict[str, Any]) -> Replay:
    """Make a run in this process, with the engine's library loaded."""
    if engine is not Engine.REPLAY:
        importlib.import_module(f"koc_qt.worker.engines.{engine.value}")
    strategy = load_strategy(source, "s.py")()
    set_parameters(strategy, parameters)
    run = run_class(engine, type(strategy))(strategy, start_of(engine, source, parameters), lambda *_: None)
    run.start()
    return run


def play(run: Replay, parts: list[ReplayBars], pause: Callable[[], int] = lambda: 64) -> None:
    """Play a run from its first bar to its end."""
    for part in parts:
        run.play(part, pause)
    run.play_kept(pause)
    run.finish()
