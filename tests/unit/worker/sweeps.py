"""Strategies, bars and workers for tests of sweeps."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from textwrap import dedent
from typing import Any

from koc_qt.sdk.channel import ReplayBars, ReplayEnd, StartReplay, StartSweep, SweepLoaded
from koc_qt.sdk.sweep_messages import EvaluateTrials, SweepReady, TrialAsked, TrialFound, TrialsEvaluated
from koc_qt.worker import sweep  # noqa: F401 - loaded before a strategy's world has it hidden, as wiring has it
from koc_qt.worker.sweep_compiler import compile_kernel
from tests.conditions import PATIENCE
from tests.unit.worker.host import Host, in_thread
from tests.unit.worker.replays import start_replay

CROSS = """
import numpy as np
from koc_qt.sdk import Signals, Strategy, StrategyError, param
from koc_qt.sdk.indicators import EMA, SMA

class Cross(Strategy):
    '''Long while the fast average is above the slow one, and short below where asked.'''
    fast: int = param(3, low=1, high=500)
    slow: int = param(9, low=2, high=500)
    size: float = param(1.0, low=0.0001)
    kind: str = param("sma", choices=("sma", "ema"))
    short: bool = param(False)
    varying: bool = param(False)
    def on_start(self):
        if self.fast >= self.slow:
            raise StrategyError(f"fast ({self.fast}) must be below slow ({self.slow})")
        self.warmup_bars = self.slow
    def signals(self, bars):
        make = SMA if self.kind == "sma" else EMA
        above = bars.column(make(self.fast)) > bars.column(make(self.slow))
        below = bars.column(make(self.fast)) < bars.column(make(self.slow))
        up = np.r_[False, above[1:] & ~above[:-1]]
        down = np.r_[False, below[1:] & ~below[:-1]]
        size = self.size * (1 + np.arange(len(bars)) % 3) if self.varying else self.size
        return Signals(up, down, size, down if self.short else None, up if self.short else None)
"""

STEPWISE = """
from koc_qt.sdk import Strategy, StrategyError, param

class Steps(Strategy):
    '''Buy, and sell again some bars later.'''
    wait: int = param(3, low=1, high=100)
    size: float = param(1.0)
    trouble: str = param("", )
    def on_start(self):
        if self.wait == 13:
            raise StrategyError("13 is unlucky")
        self.seen = 0
    def on_bar(self, bar):
        print("a line that nobody keeps")
        self.seen += 1
        if self.trouble == "raise" and self.seen == 5:
            raise ValueError("in the middle")
        if self.seen % self.wait == 0:
            self.close_position() or self.buy(self.size)
"""


@functools.cache
def kernel() -> bytes:
    """Compile once for all tests of a process."""
    return compile_kernel()


def start_sweep(
    source: str, *, compiled: bool = True, wanted: Sequence[str] = ("sharpe",), **changes: Any
) -> StartSweep:
    replay: StartReplay = start_replay(dedent(source), **{"cash": Decimal(100_000), "fee": Decimal("0.001")} | changes)
    return StartSweep(replay, [{}], tuple(wanted), kernel() if compiled else b"", 1 << 20)


@contextmanager
def sweeping(start: StartSweep, messages: Sequence[ReplayBars]) -> Iterator[Sweep]:
    """Have a worker in a thread load a sweep and take its bars."""
    with in_thread() as host:
        host.send(start)
        loaded = host.wait_for(SweepLoaded)
        feeding = threading.Thread(target=lambda: host.send(*messages, ReplayEnd()))
        feeding.start()
        ready = host.wait_for(SweepReady)
        feeding.join(10 * PATIENCE)
        yield Sweep(host, loaded, ready)


class Sweep:
    """A worker that is ready for combinations."""

    def __init__(self, host: Host, loaded: SweepLoaded, ready: SweepReady) -> None:
        self.host, self.loaded, self.ready = host, loaded, ready

    def evaluate(self, *parameters: dict[str, Any], floors: Sequence[float] = ()) -> list[TrialFound]:
        """Have combinations evaluated."""
        before = len(self._found())
        asked = [TrialAsked(number, each) for number, each in enumerate(parameters)]
        self.host.send(EvaluateTrials(asked, list(floors)))
        self.host.wait_for(TrialsEvaluated, lambda _: len(self._found()) == before + len(asked), 30)
        return self._found()[before:]

    def _found(self) -> list[TrialFound]:
        return [trial for message in self.host.of(TrialsEvaluated) for trial in message.trials]
