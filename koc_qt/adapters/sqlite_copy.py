"""A SQLite database copied as it is at one moment, by SQLite's own backup: also while others write to it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

_PAGES = 1_000  # at once: others get their turn in between


def copy_database(source: sqlite3.Connection, target: Path) -> None:
    """Copy a whole database to a file that is not there, durably; mode 0600. Raises OSError, sqlite3.Error.

    A copy that is not complete is removed; a process that is killed leaves it.
    """
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.close(descriptor)
    try:
        with contextlib.closing(sqlite3.connect(target)) as connection:
            source.backup(connection, pages=_PAGES)
        with target.open("r+b") as file:
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            target.unlink(missing_ok=True)
        raise
