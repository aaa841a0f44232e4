"""Trades, fills and equity as columns, for CSV and parquet: the same in both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple

from koc_qt.domain.backtests import BacktestResult, RoundTrip
from koc_qt.domain.orders import Fill
from koc_qt.reports.report import Report


class Kind(Enum):
    """What a column holds. A TIME is UTC nanoseconds; any value but those of TEXT may be None."""

    TEXT = "text"
    TIME = "time"
    NUMBER = "number"  # a float or a Decimal
    COUNT = "count"


class Table(NamedTuple):
    """A table: the kinds of its columns by name, and its rows, which are made as they are asked for."""

    name: str
    columns: dict[str, Kind]
    rows: Iterable[tuple[Any, ...]]


_TEXT, _TIME, _NUMBER, _COUNT = Kind
_TRADES = {
    "engine": _TEXT, "number": _COUNT, "symbol": _TEXT, "side": _TEXT, "quantity": _NUMBER, "entry_time": _TIME,
    "entry_price": _NUMBER, "exit_time": _TIME, "exit_price": _NUMBER, "fees": _NUMBER, "pnl": _NUMBER,
    "return": _NUMBER, "mae": _NUMBER, "mfe": _NUMBER,
}  # fmt: skip
_FILLS = {
    "engine": _TEXT, "time": _TIME, "symbol": _TEXT, "side": _TEXT, "price": _NUMBER, "quantity": _NUMBER,
    "fee": _NUMBER, "fee_currency": _TEXT, "liquidity": _TEXT, "order": _TEXT, "fill": _TEXT,
}  # fmt: skip
_EQUITY = {"engine": _TEXT, "time": _TIME, "equity": _NUMBER, "benchmark": _NUMBER, "drawdown": _NUMBER}


def tables(report: Report) -> tuple[Table, Table, Table]:
    """Give the trades, fills and equity of all results, each row with the engine that it is of."""
    pairs = list(zip(report.labels, report.results, strict=True))
    return (
        Table("trades", _TRADES, (row for label, result in pairs for row in _trade_rows(label, result))),
        Table("fills", _FILLS, (_fill_row(label, each) for label, result in pairs for each in result.fills)),
        Table("equity", _EQUITY, (row for label, result in pairs for row in _equity_rows(label, result))),
    )


def side_of(trip: RoundTrip) -> str:
    """Give `long` or `short`."""
    return "long" if trip.quantity > 0 else "short"


def share_of(trip: RoundTrip, amount: float | None) -> float | None:
    """Give an amount as a fraction of what a trade put in; None without either."""
    stake = trip.entry_price * abs(trip.quantity)
    return None if amount is None or not stake > 0 else amount / stake


def benchmark_of(result: BacktestResult) -> list[float] | list[None]:
    """Give the benchmark at each point of the curve; None at all of them where there is none."""
    known = len(result.benchmark) == len(result.equity)
    return result.benchmark if known else [None] * len(result.equity)


def _trade_rows(label: str, result: BacktestResult) -> Iterator[tuple[Any, ...]]:
    for row, trip in enumerate(result.trades, 1):
        yield (
            label, row, str(trip.instrument), side_of(trip), abs(trip.quantity), trip.entry_ns, trip.entry_price,
            trip.exit_ns, trip.exit_price, trip.fees, trip.pnl, share_of(trip, trip.pnl), trip.mae, trip.mfe,
        )  # fmt: skip


def _fill_row(label: str, fill: Fill) -> tuple[Any, ...]:
    amounts: tuple[Decimal, ...] = (fill.price, fill.quantity, fill.fee)
    return (
        label, fill.time_ns, str(fill.instrument), fill.side.value, *amounts, fill.fee_currency, fill.liquidity.value,
        fill.client_order_id, fill.fill_id,
    )  # fmt: skip


def _equity_rows(label: str, result: BacktestResult) -> Iterator[tuple[Any, ...]]:
    peak = 0.0
    for time_ns, equity, held in zip(result.equity_ns, result.equity, benchmark_of(result), strict=True):
        peak = max(peak, equity)
        yield label, time_ns, equity, held, (equity - peak) / peak if peak > 0 else None
