"""The columns of a file of bars, parquet or CSV, as numbers; nothing is judged here but whether they can be read.

pyarrow takes a tenth of a second to import: import this module when needed.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from koc_qt.domain.errors import BadBars
from koc_qt.domain.timeframes import SECOND_NS

if TYPE_CHECKING:
    from koc_qt.ports.bars import Floats, Times

# Arrow would take over the handling of Ctrl-C while it reads text, and keep a pipe for it.
pa.enable_signal_handlers(False)

ROWS_LIMIT = 5_000_000
_VALUES = ("open", "high", "low", "close", "volume")
_TIMES = ("timestamp", "datetime", "open_time", "time", "date", "__index_level_0__")
_SEPARATORS = ",;\t|"
_HEADER_BYTES = 1 << 16
_NAMES_SHOWN = 12
_WRITTEN = r"^(?P<wall>.*[0-9])\s*(?P<zone>Z|z|UTC|[+-][0-9]{2}:?[0-9]{2})$"
_NUMBER = r"^-?[0-9]{9,19}$"
_NS = pa.timestamp("ns")
# The largest number of each unit, the smallest first: later ones would be beyond the year 5000.
_UNITS = ((10**11, "seconds", SECOND_NS), (10**14, "milliseconds", 10**6), (10**17, "microseconds", 10**3))


@dataclass
class Table:
    """Columns of one length: UTC nanoseconds, the same as the clock of the file's zone shows them, values by name.

    `values` lacks what the file lacks, which can only be the volume; what is missing in a column is NaN. `notes` says
    how times were taken.
    """

    time_ns: Times
    written_ns: Times
    values: dict[str, Floats]
    notes: list[str]


def read_table(path: Path) -> Table:
    """Read the columns that bars need. Raises BadBars, OSError, and what pyarrow raises."""
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq"):
        table, names = _parquet(path)
    elif suffix == ".csv":
        table, names = _csv(path)
    else:
        raise BadBars(
            f"{path}: bars are read from .parquet and .csv files, not from {suffix or 'one without a suffix'}"
        )
    if not table.num_rows:
        raise BadBars(f"{path} holds no bars: it has no rows")
    notes: list[str] = []
    time_ns, written_ns = _times(path, names["time"], table.column(names["time"]), notes)
    values = {name: _floats(path, names[name], table.column(names[name])) for name in _VALUES if name in names}
    return Table(time_ns, written_ns, values, notes)


def _parquet(path: Path) -> tuple[pa.Table, dict[str, str]]:
    with pa.parquet.ParquetFile(path) as file:
        _check_count(path, file.metadata.num_rows)
        names = _names(path, file.schema_arrow.names)
        return file.read(columns=list(names.values()), use_threads=False), names


def _csv(path: Path) -> tuple[pa.Table, dict[str, str]]:
    separator, header = _header(path)
    names = _names(path, header)
    kinds = {name: pa.string() if role == "time" else pa.float64() for role, name in names.items()}
    table = pa.csv.read_csv(
        path,
        read_options=pa.csv.ReadOptions(use_threads=False),
        parse_options=pa.csv.ParseOptions(delimiter=separator),
        convert_options=pa.csv.ConvertOptions(column_types=kinds, include_columns=list(names.values())),
    )
    _check_count(path, table.num_rows)
    return table, names


def _header(path: Path) -> tuple[str, list[str]]:
    """Give the separator and the names of a CSV file's columns."""
    with path.open("rb") as file:
        line = next(iter(file.read(_HEADER_BYTES).splitlines()), b"")
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadBars(f"{path} is no CSV file in UTF-8: its first line cannot be read") from error
    separator = max(_SEPARATORS, key=text.count)
    return separator, next(csv.reader([text], delimiter=separator), [])


def _check_count(path: Path, count: int) -> None:
    if count > ROWS_LIMIT:
        raise BadBars(f"{path} has {count:,} rows; a back-test takes {ROWS_LIMIT:,} bars: bring a part of them")


def _names(path: Path, found: Sequence[str]) -> dict[str, str]:
    """Find the columns: the file's own names by `time`, `open` and so on."""
    shown = ", ".join(map(repr, found[:_NAMES_SHOWN])) + (", ..." if len(found) > _NAMES_SHOWN else "")
    plain = [name.strip().casefold() for name in found]
    wanted = [name for name, count in Counter(plain).items() if count > 1 and name in (*_VALUES, *_TIMES)]
    if wanted:
        raise BadBars(f"{path} has several columns named {wanted[0]!r}: leave one of them")
    own = dict(zip(plain, found, strict=True))
    if {"date", "time"} <= own.keys() and not own.keys() & {"timestamp", "datetime", "open_time"}:
        raise BadBars(f"{path} has its times in two columns, date and time: put them into one, named timestamp")
    time = next((name for name in _TIMES if name in own), None)
    missing = [] if time else ["timestamp"]
    missing += [name for name in _VALUES[:4] if name not in own]
    if missing or time is None:
        raise BadBars(f"{path} has no column {' and no column '.join(missing)}; it has {shown or 'none'}")
    return {"time": own[time], **{name: own[name] for name in _VALUES if name in own}}


def _floats(path: Path, name: str, column: pa.ChunkedArray) -> Floats:
    kind = column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
        if pa.types.is_null(kind):
            return np.full(len(column), np.nan)
        raise BadBars(f"{path}: its column {name!r} holds {kind}, not numbers")
    column = column.cast(pa.float64(), safe=False)
    if not column.null_count:
        return _numpy(column)
    values = np.full(len(column), np.nan)
    values[_numpy(column.is_valid().cast(pa.uint8())) == 1] = _numpy(column.drop_null())
    return values


# ---- times ----------------------------------------------------------------------------------------------------------


def _times(path: Path, name: str, column: pa.ChunkedArray, notes: list[str]) -> tuple[Times, Times]:
    kind = column.type
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py() + 1
        raise BadBars(f"{path}, row {row:,}: it has no time in column {name!r}")
    if pa.types.is_timestamp(kind):
        return _from_timestamps(column, notes)
    if pa.types.is_date(kind):
        utc = _whole(column.cast(_NS))
        return utc, utc
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _from_text(path, column, notes)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _from_numbers(column, notes)
    raise BadBars(f"{path}: its column {name!r} holds {kind}, not times")


def _from_timestamps(column: pa.ChunkedArray, notes: list[str]) -> tuple[Times, Times]:
    zone = column.type.tz
    utc = _whole(column.cast(pa.timestamp("ns", zone)))
    if zone is None:
        notes.append("its times name no zone: taken as UTC")
        return utc, utc
    written = utc if zone in ("UTC", "Etc/UTC", "+00:00") else _whole(pc.local_timestamp(column).cast(_NS))
    return utc, written


def _from_numbers(column: pa.ChunkedArray, notes: list[str]) -> tuple[Times, Times]:
    values = _numpy(column.cast(pa.int64()))
    largest = int(max(abs(int(values.max())), abs(int(values.min()))))
    unit, factor = next(((name, ns) for limit, name, ns in _UNITS if largest < limit), ("nanoseconds", 1))
    notes.append(f"its times are whole numbers: taken as {unit} since 1970, UTC")
    utc = values * factor
    return utc, utc


def _from_text(path: Path, column: pa.ChunkedArray, notes: list[str]) -> tuple[Times, Times]:
    text = pc.utf8_trim_whitespace(column)
    if pc.all(pc.match_substring_regex(text, _NUMBER)).as_py():
        return _from_numbers(text.cast(pa.int64()), notes)
    parts = pc.extract_regex(text, _WRITTEN)
    has_zone = parts.is_valid()
    written = _parsed(path, pc.if_else(has_zone, pc.struct_field(parts, "wall"), text))
    if not pc.any(has_zone).as_py():
        notes.append("its times name no zone: taken as UTC")
        return written, written
    zones = pc.struct_field(parts, "zone").combine_chunks().dictionary_encode(null_encoding="encode")
    offsets = np.array([_offset_ns(zone) for zone in zones.dictionary.to_pylist()], dtype=np.int64)
    return written - offsets[_numpy(zones.indices)], written


def _parsed(path: Path, text: pa.ChunkedArray) -> Times:
    try:
        return _whole(text.cast(_NS))
    except pa.ArrowInvalid as error:
        row = next((row for row, one in enumerate(text, start=1) if not _is_time(one)), 0)
        raise BadBars(
            f"{path}, row {row:,}: {str(text[row - 1])[:40]!r} is no time such as 2024-01-31 or 2024-01-31T12:00Z"
        ) from error


def _is_time(text: pa.Scalar) -> bool:
    try:
        text.cast(_NS)
    except pa.ArrowInvalid:
        return False
    return True


def _offset_ns(zone: str | None) -> int:
    """Give what a zone such as +02:00 is ahead of UTC."""
    if zone is None or not zone.startswith(("+", "-")):
        return 0
    minutes = int(zone[1:3]) * 60 + int(zone[-2:])
    return (-minutes if zone.startswith("-") else minutes) * 60 * SECOND_NS


def _whole(column: pa.ChunkedArray) -> Times:
    return _numpy(column.cast(pa.int64()))


def _numpy(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[Any]:
    """Give a column without gaps. Arrow's own ways import pandas where it is there, for 200 ms and 50 MB."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    filled = [np.from_dlpack(chunk) for chunk in chunks if len(chunk)]
    return np.concatenate(filled) if filled else np.zeros(0)
