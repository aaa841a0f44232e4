"""Bars on disk: one parquet file a venue, symbol, timeframe and month, such as sim/BTC%2FUSDT/1m/2026-11.parquet.

Files are only ever replaced whole, by rename, so that readers need no lock. Writers of a series, in this or another
process, take its lock file. What a file holds is described in bar_file.py.
"""

from __future__ import annotations

import contextlib
import errno
import os
import string
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import numpy as np
from filelock import FileLock, Timeout
from loguru import logger

from koc_qt.domain.bars import validate_bars
from koc_qt.domain.errors import BadBars, BadTimeframe, StorageError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.domain.state import StoredSeries
from koc_qt.domain.timeframes import duration_ns
from koc_qt.paths import is_device_name
from koc_qt.ports.bars import BarSeries, Columns, Span

if TYPE_CHECKING:
    from koc_qt.adapters.bar_file import BarColumns

_SUFFIX = ".parquet"
_LOCK_TIMEOUT_S = 30.0
_SHARING_RETRIES = 40  # Windows lets nobody replace a file that somebody reads; reads take milliseconds
_SHARING_PAUSE_S = 0.05


class ParquetBarStore:
    """Implements ports/bars.py's BarStore under the folder `root`, which is made when needed. Safe in any thread.

    `editions` names the edition of a venue whose past may change, such as the seed of a simulated one: bars of one
    edition are never given for another.
    """

    def __init__(
        self, root: Path, editions: Mapping[str, str] | None = None, *, lock_timeout_s: float = _LOCK_TIMEOUT_S
    ) -> None:
        self._root = root
        self._editions = dict(editions or {})
        self._lock_timeout_s = lock_timeout_s
        self._complained: set[Path] = set()

    def read(self, series: BarSeries, span: Span) -> Sequence[Bar]:
        """Give the bars of the span, oldest first. Raises StorageError, BadTimeframe."""
        return [bar for part in self._parts(series, span) for bar in part.bars(series)]

    def columns(self, series: BarSeries, span: Span) -> Columns:
        """Give what `read` gives, in columns. Raises StorageError, BadTimeframe."""
        from koc_qt.adapters import bar_file

        parts = list(self._parts(series, span)) or [bar_file.empty_columns()]
        times_ns = np.concatenate([part.open_time_ns for part in parts])
        opens, highs, lows, closes = np.concatenate([part.prices for part in parts], axis=1)
        return Columns(times_ns, opens, highs, lows, closes, np.concatenate([part.volume for part in parts]))

    def _parts(self, series: BarSeries, span: Span) -> Iterator[BarColumns]:
        """Give the bars of the span, file by file."""
        from koc_qt.adapters import bar_file

        for path in self._files(series, span):
            data = self._bytes(path)
            if data is not None:
                with self._setting_aside(series, path, data):
                    part = bar_file.read(data, series, span)[0]
                yield part

    def covered(self, series: BarSeries, span: Span) -> Sequence[Span]:
        """Give the covered parts of the span, merged, in order. Raises StorageError, BadTimeframe."""
        from koc_qt.adapters import bar_file

        spans: list[Span] = []
        for path in self._files(series, span):
            data = self._bytes(path)
            if data is not None:
                with self._setting_aside(series, path, data):
                    spans += bar_file.read_coverage(data, series)
        clipped = (Span(max(one.since_ns, span.since_ns), min(one.until_ns, span.until_ns)) for one in spans)
        return _merged([one for one in clipped if one.since_ns < one.until_ns])

    def write(self, series: BarSeries, bars: Sequence[Bar], covered: Span) -> None:
        """Put valid bars in the place of what the span had, and mark it covered; atomically a month.

        Raises BadBars (also for a bar outside the span), BadTimeframe, StorageError.
        """
        from koc_qt.adapters import bar_file

        validate_bars(bars, series.timeframe)
        if bars and bars[0].instrument != series.instrument:
            raise BadBars(f"row 0 is a bar of {bars[0].instrument}, not of {series.instrument}")
        for row in (0, len(bars) - 1) if bars else ():
            if not covered.since_ns <= bars[row].open_time_ns < covered.until_ns:
                raise BadBars(
                    f"row {row} of {series.instrument} {series.timeframe} lies outside the span it was given for"
                )
        if covered.since_ns >= covered.until_ns:
            return
        columns = bar_file.BarColumns.of(bars) if bars else bar_file.empty_columns()
        folder = self._folder(series)
        with _said(f"bars of {series.instrument}", folder):
            folder.mkdir(parents=True, exist_ok=True)
        with self._locked(series):
            _remove_leftovers(folder)
            for month in range(_month(covered.since_ns), _month(covered.until_ns - 1) + 1):
                whole = _month_span(month)
                part = Span(max(covered.since_ns, whole.since_ns), min(covered.until_ns, whole.until_ns))
                self._write_month(series, folder / _file_name(month), columns.between(part), part)
            with _said("bars", folder):
                _sync_folder(folder)

    def series(self, limit: int) -> Sequence[StoredSeries]:
        """List what is kept, at most `limit` series, by venue, symbol and length of bars.

        Editions other than the present ones are left out; damaged files count for nothing, and are said once.
        Raises StorageError.
        """
        found: list[StoredSeries] = []
        with _said("the list of bars", self._root):
            for series in self._present():
                if len(found) >= limit:
                    break
                summary = self._summary(series)
                if summary is not None:
                    found.append(summary)
        return found

    def _present(self) -> Iterator[BarSeries]:
        """Give the series that have a folder."""
        for venue in _folders(self._root):
            for symbol in _folders(venue):
                instrument = InstrumentId(unquote(venue.name.partition("@")[0]), unquote(symbol.name))
                timeframes = [folder.name for folder in _folders(symbol) if _is_timeframe(folder.name)]
                for timeframe in sorted(timeframes, key=duration_ns):
                    series = BarSeries(instrument, timeframe)
                    if self._folder(series) == symbol / timeframe:  # else of another edition, or none of ours
                        yield series

    def _summary(self, series: BarSeries) -> StoredSeries | None:
        from koc_qt.adapters import bar_file

        spans: list[Span] = []
        bars = size_bytes = 0
        for path in self._folder(series).glob(f"*{_SUFFIX}"):
            if _month_of(path.name) is None:
                continue
            try:
                with path.open("rb") as file:
                    rows, covered = bar_file.read_summary(file, series)
                    size_bytes += os.fstat(file.fileno()).st_size
            except FileNotFoundError:  # set aside since it was listed
                continue
            except bar_file.DamagedError as damage:
                if path not in self._complained:
                    self._complained.add(path)
                    logger.warning("the bars in {} are damaged and not listed: {}", path, damage)
                continue
            bars += rows
            spans += covered
        if not spans:
            return None
        since_ns, until_ns = min(span.since_ns for span in spans), max(span.until_ns for span in spans)
        return StoredSeries(series.instrument, series.timeframe, since_ns, until_ns, bars, size_bytes)

    def _write_month(self, series: BarSeries, path: Path, newer: BarColumns, span: Span) -> None:
        from koc_qt.adapters import bar_file

        columns, covered = bar_file.empty_columns(), list[Span]()
        data = self._bytes(path)
        if data is not None:
            everything = Span(-(2**63), 2**63 - 1)
            with self._setting_aside(series, path, data, locked=True):
                columns, covered = bar_file.read(data, series, everything)
        columns = columns.replaced(span, newer)
        with _said("bars", path), _replacing(path) as temporary, temporary.open("wb") as file:
            bar_file.write(file, series, columns, _merged([*covered, span]))
            if len(columns.open_time_ns):  # a month without bars costs nothing to ask for again after a power cut
                file.flush()
                os.fsync(file.fileno())

    def _folder(self, series: BarSeries) -> Path:
        duration_ns(series.timeframe)  # a folder name comes of it
        venue = _safe(series.instrument.venue, string.ascii_lowercase)
        edition = self._editions.get(series.instrument.venue)
        if edition is not None:
            venue = f"{venue}@{_safe(edition, string.ascii_lowercase)}"
        return self._root / venue / _safe(series.instrument.symbol, string.ascii_uppercase) / series.timeframe

    def _files(self, series: BarSeries, span: Span) -> list[Path]:
        """Give the files that may have something of the span, oldest first."""
        if span.since_ns >= span.until_ns:
            return []
        folder = self._folder(series)
        with _said("bars", folder):
            there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        first, last = _month(span.since_ns), _month(span.until_ns - 1)
        months = sorted(month for name in there if (month := _month_of(name)) is not None)
        return [folder / _file_name(month) for month in months if first <= month <= last]

    def _bytes(self, path: Path) -> bytes | None:
        with _said("bars", path):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    @contextlib.contextmanager
    def _setting_aside(self, series: BarSeries, path: Path, data: bytes, *, locked: bool = False) -> Iterator[None]:
        """Rename the file when what was read of it proves damaged, and say so; `locked` says who has the lock."""
        from koc_qt.adapters.bar_file import DamagedError

        try:
            yield
        except DamagedError as damage:
            lock = contextlib.nullcontext() if locked else self._locked(series)
            with lock, _said("damaged bars", path):
                aside = _aside(path)
                if self._bytes(path) == data:  # else another process has replaced it meanwhile
                    path.rename(aside)
            raise StorageError(
                f"the bars in {path} are damaged ({damage}); the file was set aside as {aside.name}. "
                "Ask again, and what it held is fetched anew"
            ) from damage

    @contextlib.contextmanager
    def _locked(self, series: BarSeries) -> Iterator[None]:
        path = self._folder(series) / ".lock"
        lock = FileLock(path, timeout=self._lock_timeout_s)
        try:
            with _said("the lock of bars", path):
                lock.acquire()
        except Timeout:
            raise StorageError(
                f"another process has been writing the bars of {series.instrument} {series.timeframe} for more than "
                f"{self._lock_timeout_s:g} s (it holds {path}). Let it finish or end it, then try again"
            ) from None
        try:
            yield
        finally:
            lock.release()


@contextlib.contextmanager
def _said(what: str, path: Path) -> Iterator[None]:
    """Turn the operating system's errors into a sentence for a person."""
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full. Free some space; nothing was lost of what was there"
        elif isinstance(error, PermissionError) or error.errno == errno.EROFS:
            reason = "this user has no permission there. Correct the folder's owner or permissions"
        else:
            reason = error.strerror or str(error)
        raise StorageError(f"{what} cannot be read or written at {path}: {reason}") from error


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file beside `path` that takes its place at the end, or vanishes on an error."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".tmp")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        _replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _replace(source: Path, target: Path) -> None:
    for attempt in range(_SHARING_RETRIES):
        try:
            source.replace(target)
        except PermissionError:
            if os.name != "nt" or attempt == _SHARING_RETRIES - 1:
                raise
            time.sleep(_SHARING_PAUSE_S)
        else:
            return


def _folders(parent: Path) -> list[Path]:
    """Give the folders in a folder that need not exist, by name."""
    return sorted(path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []


def _is_timeframe(name: str) -> bool:
    try:
        duration_ns(name)
    except BadTimeframe:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    """Make renames in it durable; Windows does that by itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_leftovers(folder: Path) -> None:
    """Remove what a writer left that was killed; the series' lock is held, so that no other is at work."""
    with _said("bars", folder):
        for path in folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)


def _aside(path: Path) -> Path:
    count, aside = 0, path.with_name(f"{path.name}.corrupt")
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.{count}.corrupt")
    return aside


def _merged(spans: Sequence[Span]) -> list[Span]:
    merged: list[Span] = []
    for span in sorted(spans):
        if merged and span.since_ns <= merged[-1].until_ns:
            merged[-1] = Span(merged[-1].since_ns, max(merged[-1].until_ns, span.until_ns))
        else:
            merged.append(span)
    return merged


def _safe(name: str, letters: str) -> str:
    """Give a file name that `urllib.parse.unquote` turns back into `name`.

    Letters of one case alone stay as they are, so that names that differ by case alone differ on every file system.
    """
    kept = letters + string.digits + "-_"
    safe = "".join(char if char in kept else "".join(f"%{byte:02X}" for byte in char.encode()) for char in name)
    if is_device_name(safe):
        safe = f"%{ord(safe[0]):02X}{safe[1:]}"
    return safe


def _month(time_ns: int) -> int:
    """Give the number of the UTC month, 0 for January 1970."""
    return int(np.datetime64(time_ns, "ns").astype("datetime64[M]").astype(np.int64))


def _month_span(month: int) -> Span:
    since, until = (np.datetime64(one, "M").astype("datetime64[ns]").astype(np.int64) for one in (month, month + 1))
    return Span(int(since), int(until))


def _file_name(month: int) -> str:
    return f"{np.datetime64(month, 'M')}{_SUFFIX}"


def _month_of(name: str) -> int | None:
    """Give the month of a file's name, None for other files."""
    if not name.endswith(_SUFFIX):
        return None
    try:
        return int(np.datetime64(name.removesuffix(_SUFFIX), "M").astype(np.int64))
    except ValueError:
        return None
