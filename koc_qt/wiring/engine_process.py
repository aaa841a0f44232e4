"""Starts an engine of its own life: a window that ends, or is killed, takes no engine with it. Loads no Qt.

One that is started before the window is there waits for a word on its input: whatever ends this process until then, Qt
that finds no screen and aborts it among others, ends the engine too, before it has touched anything.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from koc_qt.domain.errors import KocError, LinkError
from koc_qt.link.rendezvous import EngineInfo, NoEngineError, ProfileLock, remove_engine_info, running_engine
from koc_qt.paths import Paths
from koc_qt.scrub import scrub

HELD = "--held"  # the option of ``koc engine``
_LAST_WORDS = 4_096  # bytes that are read of what it said
_WORD = b"go"
Process = subprocess.Popen[bytes]


def program() -> list[str]:
    """Give the program that runs ``koc``, in a bundle as from sources."""
    frozen = getattr(sys, "frozen", False)
    return [sys.executable] if frozen else [sys.executable, "-P", "-m", "koc_qt"]


def engine_program() -> list[str]:
    """Give the program that runs an engine, which may outlive this process.

    What an AppImage has inside is there only as long as the process that mounted it: an engine mounts it for itself.
    """
    image, inside = os.environ.get("APPIMAGE", ""), os.environ.get("APPDIR", "")
    is_inside = bool(image and inside) and Path(sys.executable).is_relative_to(inside)
    return [image] if getattr(sys, "frozen", False) and is_inside else program()


def engine_output(paths: Paths) -> Path:
    """Give the file that has what the engine wrote to its terminal, which it has not."""
    return paths.logs / "engine-output.txt"


def spawn_engine(paths: Paths, *, held: bool = False) -> Process:
    """Start ``koc engine`` on this profile, detached from this process. Raises KocError.

    A held one loads what it needs, and does nothing until `say_go`.
    """
    output = engine_output(paths)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("QT_", "QML"))}
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            return subprocess.Popen(
                [*engine_program(), "engine", "--no-live", *([HELD] if held else [])],
                stdin=subprocess.PIPE if held else subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=paths.data,
                env=environment,
                start_new_session=True,
                creationflags=flags,
            )
    except OSError as error:
        raise KocError(f"the engine cannot be started: {error.strerror or error}") from error


def last_words(paths: Paths) -> str:
    """Give the last line that an engine wrote before it ended, for a person."""
    with contextlib.suppress(OSError), engine_output(paths).open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_WORDS))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        if lines:
            return scrub(lines[-1].removeprefix("koc: "))
    return ""


def engine_that_runs(paths: Paths) -> EngineInfo | None:
    """Give the engine of this profile, None where none runs. Raises LinkError for a damaged rendezvous."""
    try:
        return running_engine(paths.run)
    except NoEngineError:
        return None


def clear_damaged(paths: Paths) -> None:
    """Remove a damaged rendezvous that no engine stands behind.

    Raises ProfileLocked where one does: the lock is the engine's for as long as it lives, so there are never two.
    """
    with ProfileLock(paths.engine_lock):
        remove_engine_info(paths.run)


def spawn_where_none_runs(paths: Paths) -> Process | None:
    """Start a held engine as early as a window can, while it has not even loaded Qt; what goes wrong is said later."""
    try:
        return spawn_engine(paths, held=True) if engine_that_runs(paths) is None else None
    except (KocError, LinkError):
        return None


def say_go(process: Process) -> None:
    """Let a held engine begin. One that has ended meanwhile is for the keeper to notice."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.write(_WORD)
            process.stdin.flush()
        _close_input(process)


def wait_for_go() -> bool:
    """Wait until whoever started this process says go; False where it ends before. For the held engine itself."""
    return os.read(sys.stdin.fileno(), len(_WORD)) == _WORD


def let_go(process: Process) -> None:
    """Leave an engine to itself, and nobody here will wait for its end: it goes on, unless it is still held."""
    _close_input(process)
    if process.poll() is None:
        process.returncode = 0


def _close_input(process: Process) -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):  # what was not written can be written to nobody
            process.stdin.close()
