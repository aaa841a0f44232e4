"""What came of back-tests as JSON: the same command on the same bars writes the same bytes.

Times are UTC, as nanoseconds and as ISO 8601; amounts are in the quote currency; what is not known is null.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from koc_qt.cli.remote_view import plain
from koc_qt.domain.backtests import BacktestResult, RoundTrip
from koc_qt.version import __version__

if TYPE_CHECKING:
    from koc_qt.cli.backtest_job import Report

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def json_text(report: Report) -> str:
    """Give everything of a command as one object."""
    first = next(iter(report.results.values()))
    spec = first.spec
    told = {
        "version": __version__,
        "command": report.command,
        "strategy": {"name": first.name, "path": spec.path, "parameters": plain(spec.parameters)},
        "symbols": [str(instrument) for instrument in spec.instruments],
        "timeframe": first.timeframe,
        "since": iso(spec.since_ns),
        "until": iso(spec.until_ns),
        "currency": report.currency,
        "settings": {
            name: plain(getattr(spec, name))
            for name in spec.__struct_fields__
            if name not in ("path", "instruments", "timeframe", "since_ns", "until_ns", "parameters", "engine")
        },
        "notes": list(report.notes),
        "engines": {name: _engine(result) for name, result in report.results.items()},
        "absent": {absence.source: absence.reason for absence in report.absences},
        "certificate": plain(report.certificate),
    }
    return json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def iso(time_ns: int) -> str:
    """Write UTC nanoseconds as ISO 8601, to the second."""
    return f"{_EPOCH + timedelta(seconds=time_ns // 1_000_000_000):%Y-%m-%dT%H:%M:%S}Z"


def _engine(result: BacktestResult) -> dict[str, Any]:
    return {
        "bars": result.bars,
        "statistics": plain(result.statistics),
        "trades": [_trade(trade) for trade in result.trades],
        "equity": {
            "time": [iso(time_ns) for time_ns in result.equity_ns],
            "time_ns": result.equity_ns,
            "value": plain(result.equity),
            "benchmark": plain(result.benchmark),
        },
        "months": plain(result.months),
        "provenance": plain(result.provenance),
        "log": result.log,
    }


def _trade(trade: RoundTrip) -> dict[str, Any]:
    exit_ns = trade.exit_ns
    return {
        "symbol": str(trade.instrument),
        "side": "long" if trade.quantity > 0 else "short",
        "quantity": abs(trade.quantity),
        "entry_time": iso(trade.entry_ns),
        "entry_ns": trade.entry_ns,
        "entry_price": plain(trade.entry_price),
        "exit_time": None if exit_ns is None else iso(exit_ns),
        "exit_ns": exit_ns,
        "exit_price": plain(trade.exit_price),
        "fees": plain(trade.fees),
        "pnl": plain(trade.pnl),
        "mae": plain(trade.mae),
        "mfe": plain(trade.mfe),
    }
