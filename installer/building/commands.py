"""Runs other programs so that they can be stopped: all of what they started, and in bounded time."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from building.events import LINE_LIMIT, shortened
from building.trouble import BuildError, Cancelled, advice_for

TIMEOUT_S = 3600.0
_GRACE_S = 5.0  # between asking a program to end and ending it
_POLL_S = 0.2
_REST_S = 1.0  # for what a program wrote last, once it has ended
_QUEUED = 10_000  # lines; a program that writes faster waits
_KEPT = 60
_SAID = 240  # letters of a line that an error repeats; the log has all


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
    heard: Callable[[str], None] = lambda _line: None,
    meanwhile: Callable[[], None] = lambda: None,
    is_cancelled: Callable[[], bool] = lambda: False,
    allowed: Sequence[int] = (0,),
    name: str = "",
) -> list[str]:
    """Run a program to its end; gives the last lines that it wrote, to either output. Errors call it by `name`.

    `heard` is told each line, `meanwhile` is called a few times a second. Raises BuildError where the program cannot
    be started, takes longer than `timeout_s` or ends with a code that is not `allowed`, and Cancelled; in each case
    nothing of its process group is left running.
    """
    words = [os.fspath(word) for word in command]
    name = name or _name(words)
    process = _start(words, cwd, env)
    kept: deque[str] = deque(maxlen=_KEPT)
    deadline = time.monotonic() + timeout_s
    lines = _Lines(process)
    try:
        while (line := lines.next()) is not None:
            if line:
                kept.append(line)
                heard(line)
            meanwhile()
            if is_cancelled():
                raise Cancelled
            if time.monotonic() > deadline:
                raise BuildError(f"{name} did not end within {timeout_s:.0f} s", advice_for(list(kept)))
        code = process.wait(timeout=_GRACE_S)
    finally:
        end_group(process)
        lines.close()
    if code not in allowed:
        said = [line.strip()[:_SAID] for line in kept if line.strip()][-4:]
        text = f"{name} failed with code {code}" + (": " + " | ".join(said) if said else "")
        raise BuildError(text, advice_for(list(kept)))
    return list(kept)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a program and all of its group, asking first; nothing happens where it has ended."""
    if sys.platform == "win32":
        if process.poll() is None:
            tree = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
            subprocess.run(tree, capture_output=True, timeout=30, check=False)
            process.wait(timeout=_GRACE_S)
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        if process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_GRACE_S)


def bound(words: Sequence[str]) -> list[str]:
    """Give a command that ends with this process, even where that is killed; where this system cannot, the same one."""
    has_setpriv = sys.platform == "linux" and shutil.which("setpriv") is not None and shutil.which(words[0]) is not None
    return [*(["setpriv", "--pdeathsig", "KILL", "--"] if has_setpriv else []), *words]


def _start(words: list[str], cwd: Path | None, env: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP
    try:
        return subprocess.Popen(
            bound(words),
            cwd=cwd,
            env=None if env is None else dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            creationflags=flags,
        )
    except OSError as error:
        if cwd is not None and not cwd.is_dir():
            raise BuildError(f"the folder {cwd} is not there") from error
        raise BuildError(f"{words[0]} cannot be started: {error.strerror or error}") from error


class _Lines:
    """The lines of a program's output, read in a thread: None once it has ended, empty while there is none."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self._process = process
        self._stream: IO[bytes] = process.stdout
        self._queue: queue.Queue[str] = queue.Queue(_QUEUED)
        self._is_closed = False
        self._ended_at = 0.0
        self._thread = threading.Thread(target=self._read, name="output", daemon=True)
        self._thread.start()

    def next(self) -> str | None:
        """Give the next line, within a moment."""
        with contextlib.suppress(queue.Empty):
            return self._queue.get(timeout=_POLL_S)
        if self._process.poll() is None:
            return ""
        self._ended_at = self._ended_at or time.monotonic()
        # something that it left behind may hold its output open for ever
        is_over = not self._thread.is_alive() or time.monotonic() - self._ended_at > _REST_S
        return None if is_over and self._queue.empty() else ""

    def close(self) -> None:
        """Stop reading; the program has ended."""
        self._is_closed = True
        self._thread.join()
        self._stream.close()

    def _read(self) -> None:
        rest = b""
        while (chunk := self._chunk()) and not self._is_closed:
            *whole, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
            if len(rest) > 4 * LINE_LIMIT:  # one without an end
                whole, rest = [*whole, rest], b""
            for line in whole:
                self._put(line)
        self._put(rest)

    def _chunk(self) -> bytes:
        """Give what was written next, nothing at the end."""
        while not self._is_closed:
            # on Windows one waits for the program alone, and whoever else has its output has been ended with it
            if sys.platform == "win32" or select.select([self._stream], [], [], _POLL_S)[0]:
                return os.read(self._stream.fileno(), 65_536)
        return b""

    def _put(self, line: bytes) -> None:
        text = shortened(line.decode(errors="replace"))
        while text and not self._is_closed:
            with contextlib.suppress(queue.Full):
                self._queue.put(text, timeout=_POLL_S)
                return


def _name(words: Sequence[str]) -> str:
    """Name a command for a person: shortly."""
    text = shlex.join(words)
    return text if len(text) <= 160 else text[:159] + "…"
