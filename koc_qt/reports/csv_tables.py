"""Tables as CSV (RFC 4180, UTF-8): times in ISO 8601, numbers with every digit, and nothing that a spreadsheet runs."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from koc_qt.reports.tables import Kind, Table
from koc_qt.reports.words import iso

_FORMULA = frozenset("=+-@|%")  # a cell that begins so may be run when it is opened
_BLANK = " \t\r\n\v\f\u00a0\u2003\u3000\u200b\ufeff"  # what may be skipped before it


def to_csv(table: Table) -> bytes:
    """Give a table with a line of names above it."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(table.columns)
    write = [_WRITERS[kind] for kind in table.columns.values()]
    writer.writerows([each(value) for each, value in zip(write, row, strict=True)] for row in table.rows)
    return text.getvalue().encode("utf-8", "replace")


def harmless(text: str) -> str:
    """Give a text that no spreadsheet takes for a formula: with an apostrophe before what might be one."""
    kept = text.replace("\0", "")
    first = unicodedata.normalize("NFKC", kept.lstrip(_BLANK)[:1])  # wide signs count as well
    return f"'{kept}" if first in _FORMULA or kept.startswith(("\t", "\r", "\n")) else kept


def _number(value: float | Decimal | None) -> str:
    if value is None or value != value:
        return ""
    return f"{value:f}" if isinstance(value, Decimal) else repr(float(value))


def _time(time_ns: int | None) -> str:
    return "" if time_ns is None else iso(time_ns)


_WRITERS: dict[Kind, Callable[[Any], str]] = {
    Kind.TEXT: harmless,
    Kind.TIME: _time,
    Kind.NUMBER: _number,
    Kind.COUNT: str,
}
