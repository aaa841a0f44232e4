"""Reports as JSON, and read back: the same report gives the same bytes.

docs/backtests.md describes the form; VERSION changes with its meaning. Times are UTC: nanoseconds, which are what is
read, and beside them ISO 8601, for people.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from koc_qt.domain.backtests import BacktestResult, BacktestSpec, Provenance, RoundTrip
from koc_qt.domain.errors import StorageError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Fill, Liquidity
from koc_qt.domain.parity import Certificate
from koc_qt.reports.report import Check, Report, check_sound
from koc_qt.reports.tables import side_of
from koc_qt.reports.words import iso
from koc_qt.version import __version__

FORMAT, VERSION = "koc-backtest", 1


class TradeRecord(msgspec.Struct, frozen=True, gc=False):
    """A RoundTrip: `quantity` without a sign, which is in `side` (long or short); a number that is none is null."""

    symbol: str
    side: str
    quantity: float | None
    entry_time: str
    entry_ns: int
    entry_price: float | None
    exit_time: str | None
    exit_ns: int | None
    exit_price: float | None
    fees: float | None
    pnl: float | None
    mae: float | None
    mfe: float | None


class FillRecord(msgspec.Struct, frozen=True, gc=False):
    """A Fill; amounts are decimals, in quotes, to the last digit."""

    time: str
    time_ns: int
    symbol: str
    side: Side
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_currency: str
    liquidity: Liquidity
    order: str
    fill: str
    strategy: str
    account: str


class CurveRecord(msgspec.Struct, frozen=True):
    """The equity curve in columns, and what buying and holding had made of the cash by then; empty where unknown."""

    time: list[str]
    time_ns: list[int]
    value: list[float | None]
    benchmark: list[float | None]


class EngineRecord(msgspec.Struct, frozen=True):
    """What one engine made of the strategy."""

    name: str
    timeframe: str
    bars: int
    settings: BacktestSpec
    statistics: dict[str, float | None]
    months: dict[str, float | None]
    trades: list[TradeRecord]
    fills: list[FillRecord]
    equity: CurveRecord
    log: list[str]
    provenance: Provenance | None


class Document(msgspec.Struct, frozen=True):
    """The whole: `engines` by their labels, in the order of the report; `koc` is the program's version."""

    format: str
    version: int
    koc: str
    command: str
    currency: str
    notes: list[str]
    engines: dict[str, EngineRecord]
    certificate: Certificate | None
    checks: list[Check]


def to_json(report: Report) -> bytes:
    """Give a report as JSON, a trade and a fill a line; NaN and infinities, which JSON has not, become null."""
    document = Document(
        FORMAT, VERSION, __version__, report.command, report.currency, list(report.notes), {}, report.certificate,
        list(report.checks),
    )  # fmt: skip
    engines = {label: _in_lines(_record(result)) for label, result in zip(report.labels, report.results, strict=True)}
    return msgspec.json.encode(msgspec.structs.asdict(document) | {"engines": engines}) + b"\n"


def load_json(data: bytes) -> Report:
    """Read what `to_json` wrote. Raises StorageError, which says what is wrong with it."""
    try:
        head = msgspec.json.decode(data, type=_Head)
        if head.format != FORMAT or head.version != VERSION:
            raise StorageError(
                f"this is a {head.format} of version {head.version}, not a {FORMAT} of version {VERSION}: "
                "another version of K.O.C. has written it"
            )
        document = msgspec.json.decode(data, type=Document)
        results = tuple(_result(record) for record in document.engines.values())
        for result in results:
            check_sound(result)
        return Report(
            results,
            command=document.command,
            currency=document.currency,
            certificate=document.certificate,
            checks=tuple(document.checks),
            notes=tuple(document.notes),
        )
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise StorageError(f"this is no report of a back-test: {error}") from error


class _Head(msgspec.Struct):
    format: str
    version: int


def _record(result: BacktestResult) -> EngineRecord:
    return EngineRecord(
        name=result.name,
        timeframe=result.timeframe,
        bars=result.bars,
        settings=result.spec,
        statistics=result.statistics,
        months=dict(result.months),
        trades=[_trade_record(trip) for trip in result.trades],
        fills=[_fill_record(fill) for fill in result.fills],
        equity=CurveRecord(
            [iso(time_ns) for time_ns in result.equity_ns],
            result.equity_ns,
            list(result.equity),
            list(result.benchmark),
        ),
        log=result.log,
        provenance=result.provenance,
    )


def _in_lines(record: EngineRecord) -> dict[str, Any]:
    """Give a record with trades and fills encoded one by one: one call for ten thousand would hold up all threads."""
    lines = {name: _lines(records) for name, records in (("trades", record.trades), ("fills", record.fills))}
    return msgspec.structs.asdict(record) | lines


def _lines(records: Sequence[TradeRecord | FillRecord]) -> msgspec.Raw:
    return msgspec.Raw(b"[\n" + b",\n".join(map(msgspec.json.encode, records)) + b"\n]")


def _result(record: EngineRecord) -> BacktestResult:
    curve = record.equity
    return BacktestResult(
        spec=record.settings,
        name=record.name,
        timeframe=record.timeframe,
        bars=record.bars,
        equity_ns=curve.time_ns,
        equity=[_number(value) for value in curve.value],
        trades=[_trip(trade) for trade in record.trades],
        fills=[_fill(fill) for fill in record.fills],
        statistics=record.statistics,
        log=record.log,
        benchmark=[_number(value) for value in curve.benchmark],
        months={month: _number(value) for month, value in record.months.items()},
        provenance=record.provenance,
    )


def _trade_record(trip: RoundTrip) -> TradeRecord:
    return TradeRecord(
        symbol=str(trip.instrument),
        side=side_of(trip),
        quantity=abs(trip.quantity),
        entry_time=iso(trip.entry_ns),
        entry_ns=trip.entry_ns,
        entry_price=trip.entry_price,
        exit_time=None if trip.exit_ns is None else iso(trip.exit_ns),
        exit_ns=trip.exit_ns,
        exit_price=trip.exit_price,
        fees=trip.fees,
        pnl=trip.pnl,
        mae=trip.mae,
        mfe=trip.mfe,
    )


def _trip(trade: TradeRecord) -> RoundTrip:
    return RoundTrip(
        instrument=_instrument(trade.symbol),
        quantity=_number(trade.quantity) * (1.0 if trade.side == "long" else -1.0),
        entry_ns=trade.entry_ns,
        entry_price=_number(trade.entry_price),
        exit_ns=trade.exit_ns,
        exit_price=trade.exit_price,
        fees=_number(trade.fees),
        pnl=_number(trade.pnl),
        mae=trade.mae,
        mfe=trade.mfe,
    )


def _fill_record(fill: Fill) -> FillRecord:
    return FillRecord(
        time=iso(fill.time_ns),
        time_ns=fill.time_ns,
        symbol=str(fill.instrument),
        side=fill.side,
        price=fill.price,
        quantity=fill.quantity,
        fee=fill.fee,
        fee_currency=fill.fee_currency,
        liquidity=fill.liquidity,
        order=fill.client_order_id,
        fill=fill.fill_id,
        strategy=fill.strategy_id,
        account=fill.account_id,
    )


def _fill(record: FillRecord) -> Fill:
    return Fill(
        record.fill, record.order, record.strategy, record.account, _instrument(record.symbol), record.side,
        record.price, record.quantity, record.fee, record.fee_currency, record.liquidity,
        record.time_ns,
    )  # fmt: skip


def _instrument(text: str) -> InstrumentId:
    venue, _, symbol = text.partition(":")
    return InstrumentId(venue, symbol)


def _number(value: float | None) -> float:
    return math.nan if value is None else value
