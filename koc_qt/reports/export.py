"""Reports as files: the kind is that of the name's ending, and files are written whole or not at all."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from pathlib import Path

from koc_qt.domain.errors import ConfigError, StorageError
from koc_qt.files import write_durably
from koc_qt.reports.report import Report, check_sound

_TROUBLES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "no more room is granted to you on that disk",
    errno.EACCES: "you may not write there",
    errno.EPERM: "you may not write there",
    errno.EROFS: "that disk can only be read",
    errno.EISDIR: "there is a folder of that name",
    errno.ENOTDIR: "a part of that path is no folder",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EFBIG: "it is larger than a file may be there",
}


def export(report: Report, file: Path) -> list[Path]:
    """Write a report and give the files, of which CSV and parquet need three: NAME-trades, NAME-fills, NAME-equity.

    Files that are there already are replaced. It takes a moment: call it in a thread where something waits. Raises
    ConfigError for an ending that is not in KINDS, StorageError for a result that makes no sense, and where a file
    cannot be written.
    """
    make = KINDS.get(file.suffix.lower())
    if make is None:
        raise ConfigError(f"{file.name} is no kind of report: let its name end in {', '.join(KINDS)}")
    for result in report.results:
        check_sound(result)
    contents = {file.with_name(f"{file.stem}{part}{file.suffix}"): data for part, data in make(report).items()}
    for path, data in contents.items():
        try:
            write_durably(path, data)
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {trouble_of(error)}") from error
        except ValueError as error:  # a name that no file can have
            raise StorageError(f"{str(path)!r} cannot be written: {error}") from error
    return list(contents)


def trouble_of(error: OSError) -> str:
    """Say why a file cannot be written."""
    return _TROUBLES.get(error.errno or 0) or error.strerror or str(error)


def _html(report: Report) -> dict[str, bytes]:
    from koc_qt.reports.page import to_html

    return {"": to_html(report)}


def _json(report: Report) -> dict[str, bytes]:
    from koc_qt.reports.documents import to_json

    return {"": to_json(report)}


def _csv(report: Report) -> dict[str, bytes]:
    from koc_qt.reports.csv_tables import to_csv
    from koc_qt.reports.tables import tables

    return {f"-{table.name}": to_csv(table) for table in tables(report)}


def _parquet(report: Report) -> dict[str, bytes]:
    from koc_qt.reports.parquet_tables import to_parquet
    from koc_qt.reports.tables import tables

    return {f"-{table.name}": to_parquet(table) for table in tables(report)}


KINDS: Mapping[str, Callable[[Report], dict[str, bytes]]] = {
    ".html": _html,
    ".htm": _html,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
"""What makes a report's files, by the ending of their names: their contents by what is added to the name."""
