"""What ``koc status|drift|orders|fills`` print: JSON objects, and tables for people.

In JSON, exact numbers are strings, instruments are ``venue:symbol``, and each UTC nanosecond field ``*_ns`` has an ISO
8601 twin without the suffix.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from koc_qt.domain.drift import shares
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.orders import Fill, Order
from koc_qt.domain.percentages import percentage
from koc_qt.domain.state import PositionSnapshot, StrategySnapshot
from koc_qt.domain.trust import DriftReport, utc_text
from koc_qt.link.messages import Snapshot

_SMALLEST = 0.005  # amounts below are shown as none
_WIDE = 240  # columns of output that is no terminal: nothing is cut for a program that reads it


# ---- JSON -----------------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Turn a domain value into what JSON has."""
    match value:
        case InstrumentId():
            return str(value)
        case Decimal():
            return format(value, "f") if value.is_finite() else None
        case Enum():
            return value.value
        case float():
            return value if math.isfinite(value) else None
        case msgspec.Struct():
            return _fields(value)
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case _:
            return value


def _fields(struct: msgspec.Struct) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        if name.endswith("_ns"):
            found[name.removesuffix("_ns")] = None if value is None else iso(value)
        found[name] = plain(value)
    return found


def iso(time_ns: int) -> str:
    """Write UTC nanoseconds as ISO 8601 with microseconds."""
    moment = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ns % 1_000_000_000 // 1_000:06}Z"


def status_object(snapshot: Snapshot) -> dict[str, Any]:
    """Give everything about a running engine as one object."""
    engine = plain(snapshot.engine)
    drift = {report.strategy_id: report for report in snapshot.drift}
    latency = {f"order_{name}_ms": engine.pop(f"order_latency_{name}_ms") for name in ("p50", "p99")}
    return {
        "engine": engine,
        "latency": latency,
        "venues": [{"name": venue.venue, **_without(plain(venue), "venue")} for venue in snapshot.venues],
        "accounts": [
            {"id": account.account_id, **_without(plain(account), "account_id")} for account in snapshot.accounts
        ],
        "strategies": [
            {**_strategy_object(each, snapshot.positions), "drift": _drift_of(drift.get(each.spec.strategy_id))}
            for each in snapshot.strategies
        ],
        "positions": [_position_object(position) for position in snapshot.positions],
    }


def stopped_object(reason: str) -> dict[str, Any]:
    """Give the same object for no engine."""
    engine = {"state": "stopped", "reason": reason, "pid": None, "uptime_s": None}
    return {"engine": engine, "latency": {}, "venues": [], "accounts": [], "strategies": [], "positions": []}


def order_object(order: Order) -> dict[str, Any]:
    """Give an order with what was asked for on one level."""
    fields = plain(order)
    request = fields.pop("request")
    return {**fields, **request, "remaining": plain(order.remaining)}


def drift_object(report: DriftReport) -> dict[str, Any]:
    """Give what was measured, with the share of each part in all that moved the profit (0 to 1)."""
    return {**plain(report), "shares": plain(shares(report.parts))}


def _drift_of(report: DriftReport | None) -> dict[str, Any] | None:
    return None if report is None else drift_object(report)


def _strategy_object(strategy: StrategySnapshot, positions: Sequence[PositionSnapshot]) -> dict[str, Any]:
    fields = plain(strategy)
    spec = fields.pop("spec")
    strategy_id = spec.pop("strategy_id")
    mine = [_position_object(position) for position in positions if position.strategy_id == strategy_id]
    return {"id": strategy_id, **fields, "positions": mine, **spec}


def _position_object(position: PositionSnapshot) -> dict[str, Any]:
    return {**plain(position), "pnl": plain(position.pnl)}


def _without(fields: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != key}


# ---- tables ---------------------------------------------------------------------------------------------------------


def print_status(snapshot: Snapshot) -> None:
    """Print what a person wants to know about a running engine."""
    engine = snapshot.engine
    lines = [
        f"Engine {engine.state}, up {_span(engine.uptime_s)}, version {engine.version}, pid {engine.pid}",
        f"PnL {_number(engine.pnl)}, {engine.trades} trades, {engine.open_orders} of {engine.orders} orders open, "
        f"order latency p50 {_milliseconds(engine.order_latency_p50_ms)}, "
        f"p99 {_milliseconds(engine.order_latency_p99_ms)}",
    ]
    if engine.kill_switch:
        lines.append(f"KILL SWITCH ENGAGED: {engine.kill_reason} (release it with `koc kill --release`)")
    if not engine.journal_ok:
        lines.append("THE JOURNAL CANNOT BE WRITTEN: no orders are sent until it can")
    drift = {report.strategy_id: report.verdict for report in snapshot.drift}
    console = _console()
    for line in lines:
        console.print(_text(line))
    _print_table(
        console,
        ("VENUE", "STATE", "STREAMS", "BREAKER", "REASON"),
        ([venue.venue, venue.state, venue.streams, venue.breaker, venue.reason] for venue in snapshot.venues),
    )
    _print_table(
        console,
        ("ACCOUNT", "VENUE", "MODE", "STATE", "BALANCES"),
        (
            [
                account.account_id,
                account.venue,
                account.mode,
                account.state,
                ", ".join(f"{_number(each.total)} {each.currency}" for each in account.balances),
            ]
            for account in snapshot.accounts
        ),
    )
    _print_table(
        console,
        ("STRATEGY", "NAME", "STATE", "DRIFT", "PID", "BADGE", "PNL", "TRADES", "ORDERS", "OPEN", "REASON"),
        (
            [
                each.spec.strategy_id,
                each.name,
                each.state,
                drift.get(each.spec.strategy_id, ""),
                each.pid or "",
                each.badge,
                _number(each.pnl),
                each.trades,
                each.orders,
                each.open_orders,
                each.reason,
            ]
            for each in snapshot.strategies
        ),
    )
    _print_table(
        console,
        ("POSITION", "STRATEGY", "ACCOUNT", "QUANTITY", "AVERAGE", "PNL"),
        (
            [
                str(each.instrument),
                each.strategy_id,
                each.account_id,
                _number(each.quantity),
                _number(each.average_price),
                _number(each.pnl),
            ]
            for each in snapshot.positions
            if each.quantity
        ),
    )


def print_drift(reports: Sequence[DriftReport]) -> None:
    """Print how far strategies are from their back-tests, in words and in numbers."""
    console = _console()
    for report in reports:
        console.print(_text(f"{report.strategy_id}: {report.verdict}. {report.sentence}"))
    _print_table(
        console,
        ("STRATEGY", "DRIFT", "LIVE", "BACK-TEST", "GAP", "ORDERS", "SAME", "SINCE", "UNTIL", "MEASURED"),
        (
            [
                report.strategy_id,
                report.verdict,
                *(f"{value:+,.2f}" for value in (report.live_pnl, report.test_pnl, report.gap)),
                f"{report.executions:,} of {report.executions_expected:,}",
                f"{report.matched:,}",
                *(utc_text(time_ns) for time_ns in (report.since_ns, report.until_ns, report.measured_ns)),
            ]
            for report in reports
            if report.parts
        ),
    )
    _print_table(
        console,
        ("STRATEGY", "PART", "AMOUNT", "SHARE"),
        (
            [report.strategy_id, name, f"{report.parts[name]:+,.2f}", percentage(share)]
            for report in reports
            for name, share in shares(report.parts).items()
            if abs(report.parts[name]) >= _SMALLEST
        ),
    )


def print_orders(orders: Sequence[Order]) -> None:
    """Print orders as a table."""
    if not orders:
        print("No orders.")
        return
    _print_table(
        _console(),
        ("TIME", "ORDER", "STRATEGY", "INSTRUMENT", "SIDE", "TYPE", "QUANTITY", "FILLED", "PRICE", "STATUS", "REASON"),
        (
            [
                iso(order.created_ns),
                order.client_order_id,
                order.strategy_id,
                str(order.request.instrument),
                order.request.side,
                order.request.type,
                _number(order.request.quantity),
                _number(order.filled_quantity),
                _number(order.average_price or order.request.price or order.request.stop_price),
                order.status,
                order.reason,
            ]
            for order in orders
        ),
    )


def print_fills(fills: Sequence[Fill]) -> None:
    """Print fills as a table."""
    if not fills:
        print("No fills.")
        return
    _print_table(
        _console(),
        ("TIME", "FILL", "ORDER", "STRATEGY", "INSTRUMENT", "SIDE", "QUANTITY", "PRICE", "FEE", "LIQUIDITY"),
        (
            [
                iso(fill.time_ns),
                fill.fill_id,
                fill.client_order_id,
                fill.strategy_id,
                str(fill.instrument),
                fill.side,
                _number(fill.quantity),
                _number(fill.price),
                f"{_number(fill.fee)} {fill.fee_currency}",
                fill.liquidity,
            ]
            for fill in fills
        ),
    )


def _console() -> Console:
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDE, highlight=False)


def _print_table(console: Console, titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows under their titles, or nothing where there are none."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(_text(str(cell)) for cell in row))
    if table.row_count:
        console.print()
        console.print(table)


def _text(text: str) -> Text:
    # Names and reasons come from strategies and venues: none may steer the terminal.
    return Text("".join(char if char.isprintable() else "?" for char in text))


def _number(value: Decimal | None) -> str:
    if value is None:
        return ""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"


def _span(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"
