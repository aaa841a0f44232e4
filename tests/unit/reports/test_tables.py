"""CSV and parquet: the same columns in both, every digit, and nothing that a spreadsheet runs."""

from __future__ import annotations

import csv
import io
import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import pyarrow.parquet
import pytest

from koc_qt.domain.instruments import InstrumentId
from koc_qt.reports.csv_tables import harmless, to_csv
from koc_qt.reports.parquet_tables import to_parquet
from koc_qt.reports.report import Report
from koc_qt.reports.tables import Kind, share_of, tables
from tests.unit.reports.examples import report, result


def read(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def test_csv_has_everything_with_every_digit() -> None:
    whole = report()
    trades, fills, equity = (read(to_csv(table)) for table in tables(whole))
    first = whole.results[0]
    assert len(trades) == 2 * len(first.trades)
    assert trades[0] == {
        "engine": "replay", "number": "1", "symbol": "sim:BTC/USDT", "side": "short", "quantity": "1.5",
        "entry_time": "2024-01-01T00:00:00Z", "entry_price": "100.0", "exit_time": "2024-01-05T00:00:00.000000123Z",
        "exit_price": "101.0", "fees": "0.3", "pnl": "-7.25", "return": repr(-7.25 / 150), "mae": "-9.0", "mfe": "14.5",
    }  # fmt: skip
    still_open = trades[len(first.trades) - 1]
    assert [still_open[name] for name in ("exit_time", "exit_price", "mae", "mfe")] == ["", "", "", ""]
    assert trades[-1]["engine"] == "vectorbt"
    assert (fills[0]["price"], fills[0]["fee"]) == ("100.10", "0.00012345678901234567")
    assert [float(row["equity"]) for row in equity[: len(first.equity)]] == first.equity
    assert [float(row["benchmark"]) for row in equity[: len(first.equity)]] == first.benchmark
    assert min(float(row["drawdown"]) for row in equity) == -first.statistics["max_drawdown"]  # type: ignore[operator]


def test_without_a_benchmark_its_column_is_empty() -> None:
    [_, _, equity] = (read(to_csv(table)) for table in tables(Report((result(6, benchmark=[]),))))
    assert {row["benchmark"] for row in equity} == {""}


def test_numbers_that_are_none_are_empty() -> None:
    [_, _, equity] = (read(to_csv(table)) for table in tables(Report((result(6, equity=[math.nan, *[0.0] * 6]),))))
    assert (equity[0]["equity"], equity[1]["drawdown"]) == ("", "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("=1+1", "'=1+1"), ("+1", "'+1"), ("-1", "'-1"), ("@x", "'@x"), ("  =x", "'  =x"), ("\t=x", "'\t=x"),
        ("\r=x", "'\r=x"), ("\n=x", "'\n=x"), ("\0=x", "'=x"), ("|x", "'|x"), ("%x", "'%x"), ("\ufeff=x", "'\ufeff=x"),
        ("\u00a0=x", "'\u00a0=x"), ("\uff1dx", "'\uff1dx"), ("BTC/USDT", "BTC/USDT"), ("", ""), ("1-2", "1-2"),
    ],
)  # fmt: skip
def test_nothing_is_a_formula(text: str, shown: str) -> None:
    assert harmless(text) == shown


def test_a_symbol_that_is_a_formula_is_harmless_and_one_cell() -> None:
    evil = InstrumentId("=cmd|' /C calc'!A0", 'x"\r\n=1,2')
    made = result(12)
    [trades, _, _] = tables(Report((result(12, trades=[_with(trip, evil) for trip in made.trades]),)))
    rows = read(to_csv(trades))
    assert len(rows) == len(made.trades)
    assert {row["symbol"] for row in rows} == {f"'{evil}"}


def _with(trip: Any, instrument: InstrumentId) -> Any:
    return msgspec.structs.replace(trip, instrument=instrument)


def test_parquet_has_what_csv_has() -> None:
    for table, same in zip(tables(report()), tables(report()), strict=True):
        stored = pyarrow.parquet.read_table(io.BytesIO(to_parquet(table)))
        rows = read(to_csv(same))
        assert stored.column_names == list(table.columns)
        assert stored.num_rows == len(rows)
        for name, kind in table.columns.items():
            column = [row[name] for row in rows]
            match kind:
                case Kind.TEXT:
                    assert stored.column(name).to_pylist() == column
                case Kind.COUNT:
                    assert stored.column(name).to_pylist() == [int(text) for text in column]
                case Kind.NUMBER:
                    assert stored.column(name).to_pylist() == [float(text) if text else None for text in column]
                case Kind.TIME:
                    assert str(stored.schema.field(name).type) == "timestamp[ns, tz=UTC]"
                    found = stored.column(name).cast("int64").to_pylist()
                    assert [time_ns and time_ns // 10**9 for time_ns in found] == [seconds(text) for text in column]


def seconds(text: str) -> int | None:
    return int(datetime.fromisoformat(text[:19]).replace(tzinfo=UTC).timestamp()) if text else None


def test_a_report_of_nothing_has_its_columns() -> None:
    for table in tables(Report((result(0, fills=[], trades=[], equity=[], equity_ns=[], benchmark=[]),))):
        assert pyarrow.parquet.read_table(io.BytesIO(to_parquet(table))).column_names == list(table.columns)
        assert read(to_csv(table)) == []


def test_a_share_of_nothing_is_none() -> None:
    trip = result(12).trades[0]
    assert share_of(trip, None) is None
    assert share_of(_with_price(trip, 0.0), 1.0) is None
    assert share_of(trip, 15.0) == pytest.approx(0.1)


def _with_price(trip: Any, price: float) -> Any:
    return msgspec.structs.replace(trip, entry_price=price)
