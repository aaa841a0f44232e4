"""Crash reports: what ended K.O.C., or was not handled in it, written down on this machine. They are never sent.

A report has the version, the platform, where in the program it happened, and the last lines of the log; no values of
variables and nothing of the environment, and secrets are taken out of all of it. Errors come from the log: whatever is
logged there with an exception that is not K.O.C.'s own is something that nobody foresaw, uncaught ones among them.

A crash in a library ends the process at once. Python's faulthandler then writes where each thread was into a file that
was opened for it, which is locked by the process that it belongs to. Whoever looks next makes a report of it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import platform
import re
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

from loguru import logger

from koc_qt.domain.errors import KocError
from koc_qt.logger import LogEntry, listen
from koc_qt.paths import Paths
from koc_qt.ports.crash_reports import CrashReport
from koc_qt.scrub import scrub
from koc_qt.version import __version__

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from loguru import Message, Record

MOST_REPORTS = 20  # the oldest make way
MOST_BYTES = 128 * 1024  # of a report
MOST_OF_A_PROCESS = 5  # of errors that did not end it; each place once
LOG_LINES = 50
_LINE_CHARACTERS = 500
_DUMP_BYTES = 64 * 1024
_LOG_TAIL_BYTES = 256 * 1024
_FRAMES = 40  # the innermost, of each exception in a chain
_SHOWN = "shown.txt"
_NAME = re.compile(r"crash-(\d{8}T\d{6})(\d{6})Z-([a-z]+)-(ended|error)-\d+(?:-\d+)?\.txt")
_DUMP = re.compile(r"running-([a-z]+)-(\d+)-\d+\.dump(?:\.taken)?")
_FROM_LIBRARIES = ("asyncio", "qasync")  # what they log as errors is ours: exceptions that nobody awaited

_last_lines: deque[LogEntry] = deque(maxlen=LOG_LINES)


class CrashReports:
    """The reports of one profile; fulfils ports/crash_reports.py."""

    def __init__(self, paths: Paths) -> None:
        self.folder = paths.crashes
        self._log_file = paths.log_file

    # ---- reading ----------------------------------------------------------------------------------------------------

    def reports(self) -> list[CrashReport]:
        """Give all there are, the newest first; none where the folder cannot be read."""
        try:
            names = [path.name for path in self.folder.iterdir()]
        except OSError:
            return []
        found = [report for name in names if (report := _parsed(name)) is not None]
        return sorted(found, key=lambda report: (report.time_ns, report.name), reverse=True)

    def read(self, name: str) -> str:
        """Give a report's text. Raises KocError."""
        try:
            with self._file(name).open("rb") as file:
                return file.read(MOST_BYTES).decode("utf-8", "replace")
        except OSError as error:
            raise KocError(f"the crash report {name} cannot be read: {error.strerror}") from error

    def delete(self, name: str) -> None:
        """Remove a report; nothing happens where it is gone. Raises KocError."""
        try:
            self._file(name).unlink(missing_ok=True)
        except OSError as error:
            raise KocError(f"the crash report {name} cannot be deleted: {error.strerror}") from error

    def take_new(self) -> list[CrashReport]:
        """Give those that were not given before, the newest first, also of processes that have just ended hard."""
        self.collect()
        seen = self._seen()
        new = [report for report in self.reports() if report.name not in seen]
        if new:
            names = "\n".join(report.name for report in self.reports())
            with contextlib.suppress(OSError):  # then they are shown once more, the next time
                (self.folder / _SHOWN).write_text(names, encoding="utf-8")
        return new

    def _seen(self) -> set[str]:
        try:
            return set((self.folder / _SHOWN).read_text(encoding="utf-8").splitlines())
        except (OSError, UnicodeDecodeError):
            return set()

    def _file(self, name: str) -> Path:
        if _parsed(name) is None:
            raise KocError(f"{name!r} is no crash report")
        return self.folder / name

    # ---- writing ----------------------------------------------------------------------------------------------------

    def write(self, part: str, error: BaseException, *, has_ended: bool, arguments: Sequence[str] = ()) -> Path:
        """Write a report on an exception; gives its file. Raises OSError."""
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__, limit=-_FRAMES))
        lines = [_line(entry) for entry in list(_last_lines)]
        return self._write(part, os.getpid(), trace, lines, has_ended=has_ended, arguments=arguments)

    def collect(self) -> None:
        """Make reports of what processes that ended hard have left, and clear away what others left."""
        try:
            dumps = [path for path in self.folder.iterdir() if _DUMP.fullmatch(path.name)]
        except OSError:
            return
        for path in dumps:
            with contextlib.suppress(OSError):  # it is looked at again the next time
                self._collect(path)

    def _collect(self, path: Path) -> None:
        match = _DUMP.fullmatch(path.name)
        assert match is not None  # noqa: S101 - chosen by it
        if os.name == "nt":
            # refused while anybody has it open, its process above all
            path = path.replace(path.with_name(f"{path.name.removesuffix('.taken')}.taken"))
        with path.open("r+b") as file:
            if not _is_left_alone(file):
                return
            text = file.read(_DUMP_BYTES).decode("utf-8", "replace").strip()
            if text and path.exists():
                part, pid = match[1], int(match[2])
                self._write(part, pid, text, self._tail_of_log(pid), has_ended=True)
            if os.name != "nt":
                path.unlink(missing_ok=True)  # while it is locked: of two that look at once, one has it
                return
        path.unlink(missing_ok=True)

    def _tail_of_log(self, pid: int) -> list[str]:
        """Give the last lines of a process in the log's file."""
        try:
            with self._log_file.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
                tail = file.read(_LOG_TAIL_BYTES).decode("utf-8", "replace").splitlines()
        except OSError:
            return []
        lines = deque[str](maxlen=LOG_LINES)
        for each in tail:
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a line that was cut
                record = json.loads(each)
                if record["pid"] == pid:
                    lines.append(f"{record['time']} {record['level']} {record['source']}: {record['text']}")
        return list(lines)

    def _write(
        self, part: str, pid: int, trace: str, lines: Sequence[str], *, has_ended: bool, arguments: Sequence[str] = ()
    ) -> Path:
        now = datetime.now(UTC)
        built = "bundle" if getattr(sys, "frozen", False) else "source"
        head = [
            f"koc {__version__}, Python {platform.python_version()} ({built}), {platform.platform()}",
            f"{now:%Y-%m-%d %H:%M:%S} UTC, {part}, process {pid}",
            *([f"arguments: {' '.join(arguments)}"] if arguments else []),
            "It ended K.O.C." if has_ended else "K.O.C. went on.",
        ]
        tail = [scrub(line)[:_LINE_CHARACTERS] for line in lines[-LOG_LINES:]]
        end = ["", "Last lines of the log:", *(tail or ["(none)"]), ""]
        text = "\n".join([*map(scrub, head), "", scrub(trace).rstrip(), *end])
        data = _without_home(text).encode("utf-8", "backslashreplace")[:MOST_BYTES]
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        stem = f"crash-{now:%Y%m%dT%H%M%S%f}Z-{part}-{'ended' if has_ended else 'error'}-{pid}"
        file = _write_new(self.folder, stem, data)
        for old in self.reports()[MOST_REPORTS:]:
            (self.folder / old.name).unlink(missing_ok=True)
        return file


@contextlib.contextmanager
def crashes_reported(
    paths: Paths, part: str, told: Callable[[], None] = lambda: None
) -> Iterator[None]:  # fmt: skip
    """Write reports on what goes wrong in this process meanwhile; `told` is called after each, in any thread."""
    reports = CrashReports(paths)
    watch = _Watch(reports, part, told)
    reports.collect()
    _last_lines.clear()
    end_listening = listen(_last_lines.append)
    sink = logger.add(
        watch.hear, level="ERROR", format=lambda _: "{message}", filter=_is_unforeseen, backtrace=False, diagnose=False
    )
    with _dump_of_hard_crashes(reports.folder, part):
        try:
            yield
        finally:
            logger.remove(sink)
            end_listening()


class _Watch:
    """Writes a report on each error that is logged: one for a place, and a few for a process."""

    def __init__(self, reports: CrashReports, part: str, told: Callable[[], None]) -> None:
        self._reports = reports
        self._part = part
        self._told = told
        self._places: set[tuple[str, str, int]] = set()
        self._lock = threading.Lock()

    def hear(self, message: Message) -> None:
        """Take a line of the log."""
        found = message.record["exception"]
        error = found.value if found is not None else None
        if error is None or not self._is_new(error):
            return
        try:
            self._reports.write(self._part, error, has_ended=False)
        except OSError:  # the error itself is in the log; a full disk takes no report, and no line about it either
            return
        self._told()

    def _is_new(self, error: BaseException) -> bool:
        last = traceback.extract_tb(error.__traceback__, limit=-1)
        place = (type(error).__name__, last[0].filename, last[0].lineno or 0) if last else (type(error).__name__, "", 0)
        with self._lock:
            if place in self._places or len(self._places) >= MOST_OF_A_PROCESS:
                return False
            self._places.add(place)
            return True


def _is_unforeseen(record: Record) -> bool:
    found = record["exception"]
    if found is None or not isinstance(found.value, Exception) or isinstance(found.value, KocError):
        return False
    name = (record["name"] or "").partition(".")[0]
    if name in _FROM_LIBRARIES:
        return not isinstance(found.value, OSError)  # a connection that a library lost, and tells nobody of
    return name == "koc_qt"


@contextlib.contextmanager
def _dump_of_hard_crashes(folder: Path, part: str) -> Iterator[None]:
    """Have faulthandler write to a file of the folder, unless somebody uses it otherwise, or the disk has no room."""
    if faulthandler.is_enabled():
        yield
        return
    stamp = int(datetime.now(UTC).timestamp() * 1000)
    path = folder / f"running-{part}-{os.getpid()}-{stamp}.dump"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "r+b", buffering=0)
    except OSError:
        yield
        return
    try:
        _is_left_alone(file)  # and so it is taken
        faulthandler.enable(file, all_threads=True)
        yield
    finally:
        faulthandler.disable()
        file.close()
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _is_left_alone(file: IO[bytes]) -> bool:
    """Take a dump for this process; False where another has it. On Windows its name tells."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _parsed(name: str) -> CrashReport | None:
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        time = datetime.strptime(match[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    time_ns = int(time.timestamp()) * 1_000_000_000 + int(match[2]) * 1_000
    return CrashReport(name, time_ns, match[3], match[4] == "ended")


def _write_new(folder: Path, stem: str, data: bytes) -> Path:
    """Write a file that was not there. Raises OSError."""
    for number in range(1, 1_000):
        file = folder / (f"{stem}.txt" if number == 1 else f"{stem}-{number}.txt")
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        except FileExistsError:
            continue
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        return file
    raise FileExistsError(17, "too many crash reports of one second", str(folder / stem))


def _line(entry: LogEntry) -> str:
    time = datetime.fromtimestamp(entry.time_ns // 1_000_000_000, UTC)
    return f"{time:%Y-%m-%dT%H:%M:%S}Z {entry.level} {entry.source}: {entry.text}"


def _without_home(text: str) -> str:
    """Leave out of paths whose they are."""
    try:
        home = str(Path.home())
    except RuntimeError:
        return text
    return text.replace(home, "~") if len(home) > 3 else text
