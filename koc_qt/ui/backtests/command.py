"""The command that makes a run again, for a terminal."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import Any

from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.timeframes import SECOND_NS

_OPTIONS = (
    ("engine", "--engine"),
    ("tick", "--tick"),
    ("lot", "--lot"),
    ("cash", "--cash"),
    ("fee", "--fee"),
    ("slippage", "--slippage"),
    ("spread", "--spread"),
    ("slippage_ticks", "--slippage-ticks"),
    ("latency_ns", "--latency-ms"),
    ("volume_fraction", "--volume-share"),
    ("seed", "--seed"),
)


def command_of(spec: BacktestSpec) -> str:
    """Give `koc backtest` with every option that differs from what it would take anyway."""
    words = ["koc", "backtest", spec.path]
    for file in spec.files:
        words += ["--data", file]
    words += ["--skip-bad"] if spec.skip_bad else []
    for instrument in spec.instruments:
        words += ["--symbol", str(instrument)]
    if spec.timeframe:
        words += ["--timeframe", spec.timeframe]
    words += ["--from", moment(spec.since_ns), "--to", moment(spec.until_ns)]
    usual = BacktestSpec(spec.path, spec.instruments, spec.timeframe, spec.since_ns, spec.until_ns)
    for field, option in _OPTIONS:
        value = getattr(spec, field)
        if value != getattr(usual, field):
            words += [option, _text(field, value)]
    if not spec.allow_short:
        words.append("--no-short")
    for name, value in spec.parameters.items():
        words += ["--set", f"{name}={value}"]
    return shlex.join(words)


def moment(time_ns: int) -> str:
    """Give a UTC time as the shortest form of ISO 8601 that is exact to a second."""
    when = datetime.fromtimestamp(time_ns // SECOND_NS, UTC)
    if not (when.hour or when.minute or when.second):
        return f"{when:%Y-%m-%d}"
    return f"{when:%Y-%m-%dT%H:%M:%S}" if when.second else f"{when:%Y-%m-%dT%H:%M}"


def _text(field: str, value: Any) -> str:
    if value is None:
        return "none"
    return f"{value / 1e6:.15g}" if field == "latency_ns" else str(value)
