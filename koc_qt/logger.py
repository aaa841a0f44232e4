"""Logging: loguru to the console and to JSON lines in logs/koc.json, with secrets taken out of both.

One line of the file is {"time", "level", "source", "line", "pid", "text"} and, where there are any, "extra" and
"exception"; times are UTC. The file is rotated at 10 MB and ten old ones are kept.

Lines are written to the file at once, not from a queue: the last lines before a crash are the ones that matter, and a
write to the page cache takes microseconds. The console is another matter, since a terminal that somebody has paused
(Ctrl-S) blocks its writer: a thread of its own writes there, and drops the oldest lines when it cannot keep up.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from loguru import logger

from koc_qt.domain.errors import ConfigError
from koc_qt.paths import Paths
from koc_qt.scrub import register_secret, scrub, scrub_value

if TYPE_CHECKING:
    from loguru import Message, Record

__all__ = ["LogEntry", "Logging", "listen", "register_secret", "scrub", "setup_logger"]

ROTATE_BYTES = 10_000_000
KEPT_FILES = 10
_CONSOLE_LINES = 2000
_FLUSH_S = 2.0
_COLOURS = {"TRACE": "2", "DEBUG": "2", "SUCCESS": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}


class LogEntry(msgspec.Struct, frozen=True):
    """A line as windows and the live terminal get it: scrubbed, `time_ns` in UTC nanoseconds."""

    time_ns: int
    level: str
    source: str
    text: str


class Stream(Protocol):
    """What the console writes to."""

    def write(self, text: str, /) -> object:
        """Write text."""
        ...

    def flush(self) -> None:
        """Pass it on."""
        ...

    def isatty(self) -> bool:
        """Whether a person looks at it."""
        ...


class JsonFile:
    """A file of lines, rotated by size; a failure to write is told to `complain` once, until a write succeeds again."""

    def __init__(self, path: Path, complain: Callable[[str], None], rotate_bytes: int = ROTATE_BYTES) -> None:
        self._path = path
        self._complain = complain
        self._rotate_bytes = rotate_bytes
        self._descriptor: int | None = None
        self._failing = False
        self._torn = False

    def write(self, line: str) -> None:
        """Append a line; never raises for what the disk does."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        try:
            self._append(data)
            self._failing = False
        except OSError as error:
            if not self._failing:
                self._failing = True
                self._complain(f"the log {self._path} cannot be written: {error.strerror}; K.O.C. goes on without it")

    def close(self) -> None:
        """Let go of the file. Safe to call twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _append(self, data: bytes) -> None:
        descriptor = self._open()
        size = os.fstat(descriptor).st_size
        if size and size + len(data) > self._rotate_bytes:
            self._rotate(descriptor)
            descriptor = self._open()
        if self._torn:
            data = b"\n" + data  # what a full disk cut off stays a line of its own
        written = os.write(descriptor, data)
        self._torn = written < len(data)
        if self._torn:
            raise OSError(28, "No space left on device")

    def _open(self) -> int:
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
            self._descriptor = os.open(self._path, flags, 0o600)
        return self._descriptor

    def _rotate(self, descriptor: int) -> None:
        """Shift the old files up by one, unless another process of this profile has just done so."""
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), self._path.stat()):
                if os.name == "nt":
                    self.close()  # an open file has no other name there
                try:
                    self._shift()
                except PermissionError:  # Windows, while somebody reads it: grow on and try again with the next line
                    return
        self.close()

    def _shift(self) -> None:
        for number in range(KEPT_FILES - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._numbered(number).replace(self._numbered(number + 1))
        self._path.replace(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


class Console:
    """Writes lines to a terminal from a thread of its own; the oldest make way when the terminal does not take them."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.colours = stream.isatty() and not os.environ.get("NO_COLOR")
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="koc-console-log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Queue a line; never blocks."""
        with self._changed:
            if len(self._lines) >= _CONSOLE_LINES:
                self._lines.popleft()
                self._dropped += 1
            self._lines.append(line)
            self._changed.notify()

    def close(self) -> None:
        """Write what is queued, and end; a terminal that takes nothing is given up after two seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(_FLUSH_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._closing)
                if not self._lines:
                    return
                lines, dropped = list(self._lines), self._dropped
                self._lines.clear()
                self._dropped = 0
            if dropped:
                lines.insert(0, f"... {dropped} lines were not shown; they are in the log file")
            try:
                self._stream.write("\n".join(lines) + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # the terminal is gone, or was closed: the file has the lines
                return


class Logging:
    """What setup_logger has set up; `close` undoes it all."""

    def __init__(
        self, paths: Paths | None, level: str, console: Stream | None, sink: Callable[[LogEntry], None] | None
    ) -> None:
        self._sink = sink
        self._console = Console(console) if console else None
        self._file = JsonFile(paths.log_file, self._complain) if paths else None
        with contextlib.suppress(ValueError):
            logger.remove(0)  # loguru's own handler shows the values of variables in tracebacks
        self._handler: int | None = logger.add(
            self._write, level=level, format=_message_alone, backtrace=False, diagnose=False
        )
        self._intercept = _Intercept()
        self._root_level = logging.getLogger().level
        logging.getLogger().addHandler(self._intercept)
        logging.getLogger().setLevel(logging.DEBUG if level == "TRACE" else logging.WARNING)
        self._hooks = sys.excepthook, threading.excepthook
        sys.excepthook, threading.excepthook = _log_uncaught, _log_uncaught_in_thread

    def close(self) -> None:
        """Flush and let go of file, thread and hooks. Safe to call twice."""
        if self._handler is None:
            return
        logger.remove(self._handler)
        self._handler = None
        logging.getLogger().removeHandler(self._intercept)
        logging.getLogger().setLevel(self._root_level)
        sys.excepthook, threading.excepthook = self._hooks
        if self._console:
            self._console.close()
        if self._file:
            self._file.close()

    def _write(self, message: Message) -> None:
        record = message.record
        text, exception = scrub(record["message"]), _exception_text(record)
        source = str(record["extra"].get("source") or record["name"] or "")
        if self._file:
            self._file.write(_json_line(record, source, text, exception))
        shown = f"{text}\n{exception}" if exception else text
        self._show(record["time"].astimezone(UTC), record["level"].name, source, shown)

    def _show(self, time: datetime, level: str, source: str, text: str) -> None:
        if self._console:
            self._console.write(_console_line(time, level, source, text, self._console.colours))
        entry = LogEntry(_nanoseconds(time), level, source, text)
        if self._sink:
            self._sink(entry)
        for listener in _listeners:
            listener(entry)

    def _complain(self, text: str) -> None:
        """Tell of a failure of the log file where people look; the log itself is no place for it."""
        self._show(datetime.now(UTC), "ERROR", __name__, text)


_active: Logging | None = None
_listeners: tuple[Callable[[LogEntry], None], ...] = ()


def listen(listener: Callable[[LogEntry], None]) -> Callable[[], None]:
    """Give `listener` every line as well, whichever way the log is set up; the result ends it. Both on one thread.

    It is called in the thread that logs; it must not block, raise or log.
    """
    global _listeners
    _listeners = (*_listeners, listener)

    def end() -> None:
        global _listeners
        _listeners = tuple(other for other in _listeners if other is not listener)

    return end


def setup_logger(
    paths: Paths | None,
    level: str = "INFO",
    console: bool = True,
    sink: Callable[[LogEntry], None] | None = None,
    *,
    stream: Stream | None = None,
) -> Logging:
    """Start logging to the profile's file (none without `paths`), to stderr (or `stream`), and to `sink`.

    `sink` is called in the thread that logs; it must not block, raise or log. The standard library's logging and
    uncaught exceptions come here too. A second call replaces the first. Raises ConfigError for an unknown level.
    """
    global _active
    try:
        level = logger.level(level.upper()).name
    except ValueError:
        raise ConfigError(f"{level!r} is no log level: use TRACE, DEBUG, INFO, WARNING or ERROR") from None
    if _active is not None:
        _active.close()
    _active = Logging(paths, level, (stream or sys.stderr) if console else None, sink)
    return _active


class _Intercept(logging.Handler):
    """Hands what libraries log through the standard library over to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        level: str | int = record.levelno
        with contextlib.suppress(ValueError):
            level = logger.level(record.levelname).name
        try:
            text = record.getMessage()
        except (TypeError, ValueError) as error:  # the library's arguments do not fit its own message
            text = f"{record.msg} ({error})"

        def name(into: Record) -> None:
            into["name"], into["line"] = record.name, record.lineno

        logger.patch(name).opt(exception=record.exc_info).log(level, text)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logger.opt(exception=(kind, error, trace)).error("an error was not handled: {}", error)


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        name = args.thread.name if args.thread else "a thread"
        _log = logger.opt(exception=(args.exc_type, args.exc_value, args.exc_traceback))
        _log.error("an error was not handled in {}: {}", name, args.exc_value)


def _message_alone(_: Record) -> str:
    return "{message}"


def _exception_text(record: Record) -> str:
    error = record["exception"]
    if error is None or error.value is None:
        return ""
    return scrub("".join(traceback.format_exception(error.type, error.value, error.traceback)).rstrip())


def _json_line(record: Record, source: str, text: str, exception: str) -> str:
    time = record["time"].astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    line: dict[str, Any] = {"time": time, "level": record["level"].name, "source": source, "line": record["line"]}
    line |= {"pid": record["process"].id, "text": text}
    if extra := {key: value for key, value in record["extra"].items() if key != "source"}:
        line["extra"] = scrub_value(extra)
    if exception:
        line["exception"] = exception
    return json.dumps(line, ensure_ascii=False)


def _console_line(time: datetime, level: str, source: str, text: str, colours: bool) -> str:
    """Write a line for people. Control characters are shown as such: a message must not steer the terminal."""
    shown = f"{level:<8}"
    if colours and level in _COLOURS:
        shown = f"\x1b[{_COLOURS[level]}m{shown}\x1b[0m"
    return f"{time:%H:%M:%S}Z {shown} {source.removeprefix('koc_qt.').translate(_CONTROL)}: {text.translate(_CONTROL)}"


def _nanoseconds(time: datetime) -> int:
    return int(time.timestamp()) * 1_000_000_000 + time.microsecond * 1000
