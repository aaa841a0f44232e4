"""Back-tests on files of bars that somebody brings, which lie on the engine's machine.

The files are read by whoever made the engine, behind OpenFiles: what they hold, and the rules of their symbols.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.errors import BadBars, ConfigError
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.trust import utc_text
from koc_qt.engine.backtest_feed import BarHistory
from koc_qt.ports.bars import Span


@dataclass(frozen=True)
class Reading:
    """Which files are read, one for each symbol, and how: see domain/backtests.BacktestSpec."""

    files: tuple[str, ...]
    instruments: tuple[InstrumentId, ...]
    timeframe: str = ""
    tick: Decimal | None = None
    lot: Decimal | None = None
    skip_bad: bool = False


@dataclass(frozen=True)
class FileBars:
    """What files hold: their bars, the rules of their symbols, the length of a bar, and from when to when they are.

    `notes` are phrases on what was done to them that a person should know.
    """

    history: BarHistory
    instruments: tuple[Instrument, ...]
    timeframe: str
    span: Span
    notes: tuple[str, ...] = ()


OpenFiles = Callable[[Reading], Awaitable[FileBars]]
"""Reads a file for each symbol beside the loop; bars of the timeframe, unless that is empty, can be had of them.

Raises BadBars, which names the file and the row, BadTimeframe, and InvalidOrder for a tick above the prices.
"""


def check_files(spec: BacktestSpec) -> None:
    """Raise ConfigError for what cannot be asked of a file."""
    if spec.slippage_ticks and spec.tick is None:
        raise ConfigError(
            "a file does not tell how large a tick is: give the tick, or slippage as a share of the price"
        )


def on_files(spec: BacktestSpec, found: FileBars) -> BacktestSpec:
    """Give the run with the files' timeframe, where none was asked for, and the part of its range that they have.

    Raises BadBars for a range outside of them.
    """
    there = found.span
    if spec.until_ns <= there.since_ns or spec.since_ns >= there.until_ns:
        raise BadBars(
            f"the bars are from {utc_text(there.since_ns)} to {utc_text(there.until_ns)}: choose a range within that"
        )
    return msgspec.structs.replace(
        spec,
        timeframe=spec.timeframe or found.timeframe,
        since_ns=max(spec.since_ns, there.since_ns),
        until_ns=min(spec.until_ns, there.until_ns),
    )
