"""A month of bars in one parquet file.

Columns open_time_ns, open, high, low, close, volume. Prices and volumes that have a fixed number of decimals, as those
of a venue do, are kept as whole numbers (value * 10 ** digits), which pack to a third of the size; others as float64.
The schema's metadata holds, under the key `koc`, the series, those digits, and the spans that are covered: data and
coverage are one file and change together. pyarrow takes a tenth of a second to import: import this module when needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from koc_qt.domain.market import Bar
from koc_qt.ports.bars import BarSeries, Span

_KEY = b"koc"
_FORMAT = 1
_ROWS_A_GROUP = 8192  # what the newest few thousand bars are read from
_MOST_DIGITS = 9
_EXACT_LIMIT = 2.0**53  # beyond it a float no longer holds every whole number
_PRICES = ("open", "high", "low", "close")

Floats = npt.NDArray[np.float64]


class DamagedError(Exception):
    """The bytes are not what `write` wrote; the text says how."""


class _Metadata(msgspec.Struct, frozen=True):
    format: int
    venue: str
    symbol: str
    timeframe: str
    covered: list[tuple[int, int]]
    price_digits: int | None
    volume_digits: int | None


@dataclass(frozen=True, slots=True)
class BarColumns:
    """Bars as arrays of one length, ascending; `prices` has open, high, low and close as rows."""

    open_time_ns: npt.NDArray[np.int64]
    prices: Floats
    volume: Floats

    @classmethod
    def of(cls, bars: Sequence[Bar]) -> BarColumns:
        """Take bars apart."""
        return cls(
            np.array([bar.open_time_ns for bar in bars], dtype=np.int64),
            np.array([[getattr(bar, name) for bar in bars] for name in _PRICES], dtype=np.float64),
            np.array([bar.volume for bar in bars], dtype=np.float64),
        )

    def between(self, span: Span) -> BarColumns:
        """Give those that open within the span."""
        first, last = np.searchsorted(self.open_time_ns, [span.since_ns, span.until_ns])
        return BarColumns(self.open_time_ns[first:last], self.prices[:, first:last], self.volume[first:last])

    def replaced(self, span: Span, newer: BarColumns) -> BarColumns:
        """Give these with what they had within the span replaced by `newer`."""
        first, last = np.searchsorted(self.open_time_ns, [span.since_ns, span.until_ns])
        return BarColumns(
            np.concatenate((self.open_time_ns[:first], newer.open_time_ns, self.open_time_ns[last:])),
            np.concatenate((self.prices[:, :first], newer.prices, self.prices[:, last:]), axis=1),
            np.concatenate((self.volume[:first], newer.volume, self.volume[last:])),
        )

    def bars(self, series: BarSeries) -> list[Bar]:
        """Put the bars together."""
        rows = zip(self.open_time_ns.tolist(), *self.prices.tolist(), self.volume.tolist(), strict=True)
        return [Bar(series.instrument, series.timeframe, *row) for row in rows]


def empty_columns() -> BarColumns:
    """Give no bars."""
    return BarColumns(np.zeros(0, dtype=np.int64), np.zeros((4, 0)), np.zeros(0))


def write(file: BinaryIO, series: BarSeries, columns: BarColumns, covered: Sequence[Span]) -> None:
    """Write a whole file."""
    price_digits, price_columns = _packed(columns.prices)
    volume_digits, volume_columns = _packed(columns.volume[None, :])
    metadata = _Metadata(
        format=_FORMAT,
        venue=series.instrument.venue,
        symbol=series.instrument.symbol,
        timeframe=series.timeframe,
        covered=[(span.since_ns, span.until_ns) for span in covered],
        price_digits=price_digits,
        volume_digits=volume_digits,
    )
    arrays = [columns.open_time_ns, *price_columns, *volume_columns]
    names = ["open_time_ns", *_PRICES, "volume"]
    table = pa.table([_taken_over(array) for array in arrays], names=names)
    packed = {np.dtype(np.int64): "DELTA_BINARY_PACKED", np.dtype(np.float64): "BYTE_STREAM_SPLIT"}
    pq.write_table(
        table.replace_schema_metadata({_KEY: msgspec.json.encode(metadata)}),
        file,
        row_group_size=_ROWS_A_GROUP,
        compression="zstd",
        compression_level=1,
        use_dictionary=False,
        column_encoding={name: packed[array.dtype] for name, array in zip(names, arrays, strict=True)},
        write_page_checksum=True,
    )


def read_coverage(data: bytes, series: BarSeries) -> list[Span]:
    """Give the covered spans. Raises DamagedError."""
    return [Span(*pair) for pair in _opened(data, series)[1].covered]


def read_summary(file: BinaryIO, series: BarSeries) -> tuple[int, list[Span]]:
    """Give how many bars a file holds and the covered spans, from its end alone. Raises DamagedError, OSError."""
    try:
        found = pq.read_metadata(file)
        metadata = msgspec.json.decode((found.metadata or {})[_KEY], type=_Metadata)
    except (pa.ArrowException, msgspec.MsgspecError, KeyError, ValueError) as error:
        raise DamagedError(str(error)) from error
    _check(metadata, series)
    return found.num_rows, [Span(*pair) for pair in metadata.covered]


def read(data: bytes, series: BarSeries, span: Span) -> tuple[BarColumns, list[Span]]:
    """Give the bars of the span, unpacking no more than they need, and the covered spans. Raises DamagedError."""
    file, metadata = _opened(data, series)
    try:
        groups = [index for index in range(file.num_row_groups) if _touches(file, index, span)]
        table = file.read_row_groups(groups, use_threads=False)
        prices = np.stack([_unpacked(table, name, metadata.price_digits) for name in _PRICES])
        times = _given_back(table, "open_time_ns")
        columns = BarColumns(times, prices, _unpacked(table, "volume", metadata.volume_digits))
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise DamagedError(str(error)) from error
    if times.dtype != np.int64 or np.any(np.diff(times) <= 0):
        raise DamagedError("its rows are out of order")
    return columns.between(span), [Span(*pair) for pair in metadata.covered]


def _opened(data: bytes, series: BarSeries) -> tuple[pq.ParquetFile, _Metadata]:
    try:
        # From memory, not from the path: an error now means the content, and Windows may replace the file meanwhile.
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        metadata = msgspec.json.decode((file.schema_arrow.metadata or {})[_KEY], type=_Metadata)
    except (pa.ArrowException, msgspec.MsgspecError, OSError, KeyError, ValueError) as error:
        raise DamagedError(str(error)) from error
    _check(metadata, series)
    return file, metadata


def _check(metadata: _Metadata, series: BarSeries) -> None:
    instrument = series.instrument
    if metadata.format != _FORMAT:
        raise DamagedError(f"its format is {metadata.format}, not {_FORMAT}")
    if (metadata.venue, metadata.symbol, metadata.timeframe) != (instrument.venue, instrument.symbol, series.timeframe):
        raise DamagedError(f"it holds {metadata.venue}:{metadata.symbol} {metadata.timeframe}")


def _touches(file: pq.ParquetFile, group: int, span: Span) -> bool:
    statistics = file.metadata.row_group(group).column(0).statistics
    if statistics is None or not statistics.has_min_max:
        return True
    return bool(statistics.min < span.until_ns and statistics.max >= span.since_ns)


def _packed(rows: Floats) -> tuple[int | None, list[npt.NDArray[np.int64] | Floats]]:
    """Give whole numbers and their decimals where that loses not a bit of any float, else the floats."""
    for digits in range(_MOST_DIGITS + 1):
        factor = 10.0**digits
        if _survives(rows[:, :100], factor) and _survives(rows, factor):
            return digits, list(np.rint(rows * factor).astype(np.int64))
    return None, list(rows)


def _survives(rows: Floats, factor: float) -> bool:
    scaled = np.rint(rows * factor)
    return bool(np.all(np.abs(scaled) < _EXACT_LIMIT) and np.all(scaled / factor == rows))


def _unpacked(table: pa.Table, name: str, digits: int | None) -> Floats:
    values = _given_back(table, name)
    if digits is None:
        return values.astype(np.float64, copy=False)
    return values / 10.0**digits


# Arrow's own ways to and from numpy look first whether pandas is there: by importing it, for 200 ms and 50 MB.


def _taken_over(values: npt.NDArray[Any]) -> pa.Array:
    """Give an array to Arrow as it is."""
    data = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, data])


def _given_back(table: pa.Table, name: str) -> npt.NDArray[Any]:
    """Give a column of a table. Raises ValueError for one with gaps, and Arrow's TypeError for what is no number."""
    column = table.column(name)
    if column.null_count:
        raise ValueError(f"its column {name} has gaps")
    return np.concatenate([np.zeros(0, np.int64), *map(np.from_dlpack, column.chunks)])
