"""Tables as parquet: times as UTC timestamps in nanoseconds, numbers as float64."""

from __future__ import annotations

import io
from typing import Any

from koc_qt.reports.tables import Kind, Table


def to_parquet(table: Table) -> bytes:
    """Give a table; pyarrow is loaded for it, which takes a moment."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        Kind.TEXT: pa.string(),
        Kind.TIME: pa.timestamp("ns", tz="UTC"),
        Kind.NUMBER: pa.float64(),
        Kind.COUNT: pa.int64(),
    }
    columns: list[list[Any]] = [[] for _ in table.columns]
    for row in table.rows:
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    arrays = []
    for values, kind in zip(columns, table.columns.values(), strict=True):
        if kind is Kind.NUMBER:
            values = [None if value is None else float(value) for value in values]
        arrays.append(pa.array(values, types[kind]))
    file = io.BytesIO()
    pq.write_table(pa.table(arrays, names=list(table.columns)), file, compression="zstd")
    return file.getvalue()
