"""Back-tests on disk, a file each, so that earlier runs can be looked at after a restart.

A file holds a mark, the length of the record in four bytes, the record as msgpack (BacktestSnapshot, size) and, for a
run that has a result, that result as msgpack, compressed. Files are written whole or not at all. At most RUNS_KEPT runs
and BYTES_KEPT bytes are kept. Runs without a note make way first, of these the command line's, of these the oldest:
so a script that runs hundreds does not take a person's own from the list.

Engine and command line write to one folder: a lock makes each change one that nobody changes anything beside, and
`look` tells what others did. All methods block, and none is safe in two threads at once.
"""

from __future__ import annotations

import contextlib
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
from filelock import FileLock, Timeout
from loguru import logger

from koc_qt.domain.backtests import BY_COMMAND, BacktestSnapshot
from koc_qt.domain.errors import KocError, StorageError
from koc_qt.engine.backtest_run import StoredResult
from koc_qt.files import TEMPORARY, write_durably

RUNS_KEPT = 100
BYTES_KEPT = 256_000_000
LOCK_TIMEOUT_S = 10.0
_LOCK, _LAST = ".lock", ".last"  # the second holds the highest number that was given
_MARK = b"KOCBT\x01"
_SUFFIX = ".run"
_ID = re.compile(r"bt-([1-9][0-9]{0,8})", re.ASCII)
_RECORD_LIMIT = 1 << 20
_RESULT_LIMIT = 1 << 27  # bytes, unpacked: more is no file of ours


class _Record(msgspec.Struct, frozen=True):
    snapshot: BacktestSnapshot
    has_result: bool


class _Mark(NamedTuple):
    """What tells one version of a file from another."""

    time_ns: int
    size: int
    number: int  # of the file system


class _Known(NamedTuple):
    """A file as it was seen last; `is_one` is False for what cannot be read."""

    mark: _Mark
    is_one: bool
    worth: int = 0  # to a person: the least makes way first


class Look(NamedTuple):
    """What others did: runs that are new or were noted, oldest first, and the ids of those that are gone."""

    changed: list[BacktestSnapshot]
    gone: list[str]


class BacktestArchive:
    """The runs in a folder, which is made when needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, _Known] = {}
        self._news: dict[str, BacktestSnapshot] = {}  # of others, which nobody was told
        self._gone: list[str] = []

    def load(self) -> list[BacktestSnapshot]:
        """Give the runs that are there, oldest first, and clear away what a crash left half written.

        A file that cannot be read is left alone, and said.
        """
        if self._folder.is_dir():
            try:
                with self._alone(patience_s=0.0):  # whoever writes clears nothing away either
                    for file in self._folder.glob(f"{TEMPORARY}*"):
                        file.unlink(missing_ok=True)
            except (StorageError, OSError) as error:
                logger.debug("what is half written in {} stays: {}", self._folder, error)
        try:
            return self.look().changed
        except StorageError as error:
            logger.warning("earlier back-tests are not listed: {}", error)
            return []

    def look(self) -> Look:
        """Give what changed since the last look, of which what this archive did itself is no part. Raises StorageError.

        A file that cannot be read is said once.
        """
        self._refresh()
        news, self._news = self._news, {}
        gone, self._gone = self._gone, []
        return Look([news[key] for key in sorted(news, key=number_of)], gone)

    def claim(self, above: int = 0) -> str:
        """Give the id of the next run, which nobody else is given; its number is higher. Raises StorageError."""
        with self._alone():
            highest = max((above, self._last(), *map(number_of, self._marks())))
            file = self._folder / _LAST
            with _said(file):
                write_durably(file, str(highest + 1).encode())
            return f"bt-{highest + 1}"

    def keep(self, snapshot: BacktestSnapshot, result: StoredResult | None) -> list[str]:
        """Write a run down; gives the ids of older ones that made way for it. Raises StorageError."""
        packed = b"" if result is None else zlib.compress(msgspec.msgpack.encode(result), 1)
        with self._alone():
            if snapshot.backtest_id not in self._known and self._file(snapshot.backtest_id).exists():
                raise StorageError(f"another process has kept a run as {snapshot.backtest_id} in {self._folder}")
            self._write(snapshot, packed, has_result=result is not None)
            return self._make_way(snapshot.backtest_id)

    def change(self, snapshot: BacktestSnapshot) -> None:
        """Write another note to a run. Raises StorageError."""
        file = self._file(snapshot.backtest_id)
        with self._alone():
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
        with self._alone():
            self._remove(backtest_id)

    # ---- inside

    def _file(self, backtest_id: str) -> Path:
        return self._folder / f"{backtest_id}{_SUFFIX}"

    @contextlib.contextmanager
    def _alone(self, patience_s: float | None = None) -> Iterator[None]:
        """Keep other processes from changing anything meanwhile. Raises StorageError."""
        patience_s = LOCK_TIMEOUT_S if patience_s is None else patience_s
        file = self._folder / _LOCK
        with _said(self._folder):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = FileLock(file, timeout=patience_s, mode=0o600)
            try:
                lock.acquire()
            except Timeout as error:
                raise StorageError(
                    f"another process has been writing to {self._folder} for {patience_s:g} s: try again"
                ) from error
        try:
            yield
        finally:
            lock.release()

    def _marks(self) -> dict[str, _Mark]:
        """Give what tells one version of a file from another, for all runs there are. Raises StorageError."""
        found = {}
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    key, dot, suffix = entry.name.rpartition(".")
                    if dot + suffix == _SUFFIX and _ID.fullmatch(key):
                        with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                            found[key] = _mark(Path(entry.path).stat())  # Windows' own listing has no numbers
        except (FileNotFoundError, NotADirectoryError):  # whoever writes is told
            return {}
        except OSError as error:
            raise StorageError(
                f"the back-tests in {self._folder} cannot be listed: {error.strerror or error}"
            ) from error
        return found

    def _refresh(self) -> None:
        """Read what others wrote since. Raises StorageError."""
        marks = self._marks()
        for key in self._known.keys() - marks.keys():
            if self._known.pop(key).is_one and self._news.pop(key, None) is None:
                self._gone.append(key)
        for key, mark in marks.items():
            if key in self._known and self._known[key].mark == mark:
                continue
            try:
                snapshot = _record(self._file(key)).snapshot
            except StorageError as error:
                if self._file(key).exists():  # else another process has deleted it meanwhile
                    logger.warning("{}", error)
                    self._known[key] = _Known(mark, is_one=False)
                continue
            self._note(snapshot, mark)
            self._news[key] = snapshot

    def _last(self) -> int:
        """Give the highest number that was given, as far as that is known."""
        try:
            return max(0, int((self._folder / _LAST).read_bytes()[:20]))
        except (OSError, ValueError):  # the files themselves have numbers too
            return 0

    def _write(self, snapshot: BacktestSnapshot, packed: bytes, *, has_result: bool) -> None:
        file = self._file(snapshot.backtest_id)
        with _said(file):
            record = msgspec.msgpack.encode(_Record(snapshot, has_result))
            write_durably(file, b"".join((_MARK, len(record).to_bytes(4, "big"), record, packed)))
            mark = _mark(file.stat())
        self._note(snapshot, mark)

    def _note(self, snapshot: BacktestSnapshot, mark: _Mark) -> None:
        worth = 2 if snapshot.note else int(snapshot.made_by != BY_COMMAND)
        self._known[snapshot.backtest_id] = _Known(mark, is_one=True, worth=worth)

    def _remove(self, backtest_id: str) -> None:
        file = self._file(backtest_id)
        with _said(file):
            file.unlink(missing_ok=True)
        self._known.pop(backtest_id, None)

    def _make_way(self, newest: str) -> list[str]:
        """Remove what is too much, that of other processes too. What cannot be read counts for nothing, and stays."""
        self._refresh()
        kept = {key: known for key, known in self._known.items() if known.is_one}
        sizes = {key: known.mark.size for key, known in kept.items()}
        in_turn = sorted(kept, key=lambda key: (kept[key].worth, number_of(key)))
        forgotten = []
        for key in in_turn:
            if len(sizes) <= RUNS_KEPT and sum(sizes.values()) <= BYTES_KEPT:
                break
            if key != newest:
                self._remove(key)
                self._news.pop(key, None)
                del sizes[key]
                forgotten.append(key)
        return forgotten


def number_of(backtest_id: str) -> int:
    """Give the number in an id, by which runs are in order; 0 for what is no id."""
    found = _ID.fullmatch(backtest_id)
    return int(found[1]) if found else 0


def _mark(about: os.stat_result) -> _Mark:
    return _Mark(about.st_mtime_ns, about.st_size, about.st_ino)


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
    except (msgspec.MsgspecError, ValueError, KocError) as error:  # the last where a rule of today forbids its settings
        raise StorageError(f"{file} is damaged: {error}") from error
    if found.snapshot.backtest_id != file.stem:
        raise StorageError(f"{file} is damaged: it holds {found.snapshot.backtest_id!r}")
    return found, data[begin + length :]


@contextlib.contextmanager
def _said(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeError) as error:  # the second for a path whose bytes are no text
        why = getattr(error, "strerror", None) or error
        raise StorageError(f"back-tests cannot be read or written: {file}: {why}") from error
