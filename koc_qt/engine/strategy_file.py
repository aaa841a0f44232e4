"""Reads the file of a strategy, which may be anything at all."""

from __future__ import annotations

import stat
from pathlib import Path

from koc_qt.domain.errors import StrategyError

SOURCE_LIMIT = 512 * 1024  # bytes; a frame to the worker holds 1 MiB


def read_source(path: str, limit_bytes: int = SOURCE_LIMIT) -> bytes:
    """Read a strategy file.

    Raises StrategyError, naming it, when it is absent, a folder, a device or pipe, unreadable, empty or too large.
    """
    file = Path(path)
    try:
        mode = file.stat().st_mode
        if stat.S_ISDIR(mode):
            raise StrategyError(f"{file} is a folder: choose a strategy file (.py)")
        if not stat.S_ISREG(mode):
            raise StrategyError(f"{file} is a device or a pipe: choose a strategy file (.py)")
        with file.open("rb") as opened:
            source = opened.read(limit_bytes + 1)
    except OSError as error:
        raise StrategyError(f"{file} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a null byte in the path
        raise StrategyError(f"{path!r} cannot be read: {error}") from error
    check_source(str(file), source, limit_bytes)
    return source


def check_source(name: str, source: bytes, limit_bytes: int = SOURCE_LIMIT) -> None:
    """Refuse what is too large or empty. Raises StrategyError, naming it."""
    if len(source) > limit_bytes:
        raise StrategyError(f"{name} is too large: a strategy file may have {limit_bytes:,} bytes")
    if not source.strip():
        raise StrategyError(f"{name} is empty")
