"""Back-tests on disk, a file each, so that earlier runs can be looked at after a restart.

A file holds a mark, the length of the record in four bytes, the record as msgpack (format, BacktestSnapshot, size) and,
for a run that has a result, that result as msgpack, compressed. Files are written whole or not at all. At most
RUNS_KEPT runs and BYTES_KEPT bytes are kept: the oldest make way, whatever is noted on them.

All methods block, and none is safe in two threads at once.
"""

from __future__ import annotations

import contextlib
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
from loguru import logger

from koc_qt.domain.backtests import BacktestSnapshot
from koc_qt.domain.errors import StorageError
from koc_qt.engine.backtest_run import StoredResult
from koc_qt.files import TEMPORARY, write_durably

RUNS_KEPT = 100
BYTES_KEPT = 256_000_000
_MARK = b"KOCBT\x01"
_SUFFIX = ".run"
_ID = re.compile(r"bt-([1-9][0-9]{0,8})", re.ASCII)
_RECORD_LIMIT = 1 << 20
_RESULT_LIMIT = 1 << 27  # bytes, unpacked: more is no file of ours


class _Record(msgspec.Struct, frozen=True):
    snapshot: BacktestSnapshot
    has_result: bool


class BacktestArchive:
    """The runs in a folder, which is made when needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sizes: dict[str, int] = {}  # of files in bytes, by id, oldest first

    def load(self) -> list[BacktestSnapshot]:
        """Give the runs that are there, oldest first; a file that cannot be read is left alone, and said."""
        found: dict[int, BacktestSnapshot] = {}
        try:
            files = sorted(self._folder.iterdir()) if self._folder.is_dir() else []
        except OSError as error:
            logger.warning("earlier back-tests in {} cannot be listed: {}", self._folder, error.strerror or error)
            return []
        for file in files:
            if file.name.startswith(TEMPORARY):
                with contextlib.suppress(OSError):
                    file.unlink()  # a write that a crash cut short
            elif (number := _ID.fullmatch(file.stem)) and file.suffix == _SUFFIX:
                try:
                    found[int(number[1])] = _record(file).snapshot
                except StorageError as error:
                    logger.warning("{}", error)
                else:
                    self._sizes[file.stem] = file.stat().st_size
        self._sizes = {key: self._sizes[key] for key in sorted(self._sizes, key=number_of)}
        return [found[number] for number in sorted(found)]

    def keep(self, snapshot: BacktestSnapshot, result: StoredResult | None) -> list[str]:
        """Write a run down; gives the ids of older ones that made way for it. Raises StorageError."""
        packed = b"" if result is None else zlib.compress(msgspec.msgpack.encode(result), 1)
        self._write(snapshot, packed, has_result=result is not None)
        return self._make_way(snapshot.backtest_id)

    def change(self, snapshot: BacktestSnapshot) -> None:
        """Write another note to a run. Raises StorageError."""
        file = self._file(snapshot.backtest_id)
        with _said(file):
            record, packed = _split(file, file.read_bytes())
        self._write(snapshot, packed, has_result=record.has_result)

    def result(self, backtest_id: str) -> StoredResult | None:
        """Give a run's result; None where it has none. Raises StorageError."""
        file = self._file(backtest_id)
        with _said(file):
            record, packed = _split(file, file.read_bytes())
        if not record.has_result:
            return None
        try:
            unpacker = zlib.decompressobj()
            data = unpacker.decompress(packed, _RESULT_LIMIT)
            if not unpacker.eof:
                raise StorageError(f"{file} is damaged: its result has no end")
            return msgspec.msgpack.decode(data, type=StoredResult)
        except (zlib.error, msgspec.MsgspecError) as error:
            raise StorageError(f"{file} is damaged: {error}") from error

    def delete(self, backtest_id: str) -> None:
        """Remove a run; one that is not there is fine. Raises StorageError."""
        file = self._file(backtest_id)
        with _said(file):
            file.unlink(missing_ok=True)
        self._sizes.pop(backtest_id, None)

    # ---- inside

    def _file(self, backtest_id: str) -> Path:
        return self._folder / f"{backtest_id}{_SUFFIX}"

    def _write(self, snapshot: BacktestSnapshot, packed: bytes, *, has_result: bool) -> None:
        record = msgspec.msgpack.encode(_Record(snapshot, has_result))
        data = b"".join((_MARK, len(record).to_bytes(4, "big"), record, packed))
        file = self._file(snapshot.backtest_id)
        with _said(file):
            write_durably(file, data)
        self._sizes[snapshot.backtest_id] = len(data)

    def _make_way(self, newest: str) -> list[str]:
        forgotten = []
        for key in list(self._sizes):
            if len(self._sizes) <= RUNS_KEPT and sum(self._sizes.values()) <= BYTES_KEPT:
                break
            if key != newest:
                self.delete(key)
                forgotten.append(key)
        return forgotten


def number_of(backtest_id: str) -> int:
    """Give the number in an id, by which runs are in order; 0 for what is no id."""
    found = _ID.fullmatch(backtest_id)
    return int(found[1]) if found else 0


def _record(file: Path) -> _Record:
    """Read a file's record alone, which is small where the result is large. Raises StorageError."""
    with _said(file), file.open("rb") as opened:
        head = opened.read(len(_MARK) + 4)
        return _split(file, head + opened.read(min(int.from_bytes(head[len(_MARK) :], "big"), _RECORD_LIMIT)))[0]


def _split(file: Path, data: bytes) -> tuple[_Record, bytes]:
    """Take a file apart. Raises StorageError."""
    begin = len(_MARK) + 4
    length = int.from_bytes(data[len(_MARK) : begin], "big")
    record = data[begin : begin + length]
    if not data.startswith(_MARK) or not 0 < length == len(record) <= _RECORD_LIMIT:
        raise StorageError(f"{file} is no back-test of this version, or damaged")
    try:
        found = msgspec.msgpack.decode(record, type=_Record)
    except (msgspec.MsgspecError, ValueError) as error:
        raise StorageError(f"{file} is damaged: {error}") from error
    if found.snapshot.backtest_id != file.stem:
        raise StorageError(f"{file} is damaged: it holds {found.snapshot.backtest_id!r}")
    return found, data[begin + length :]


@contextlib.contextmanager
def _said(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"the back-test {file} cannot be read or written: {error.strerror or error}") from error
