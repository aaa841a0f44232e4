"""Files that only their owner may read: written whole or not at all, refused when others can read them."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
from pathlib import Path

from koc_qt.domain.errors import LinkError

_FILE_MODE = 0o600
_FOLDER_MODE = 0o700
_ANY_ACCESS = 0o077
# What a platform does not have does nothing.
_BINARY = getattr(os, "O_BINARY", 0)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
WRITE_ACCESS = 0o022


def make_private_folder(folder: Path) -> None:
    """Make `folder` for its owner alone, and its parents. Raises LinkError where that is not possible or not so."""
    try:
        folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise LinkError(f"the folder {folder} cannot be made: {error.strerror}") from error
    _check_owner(folder, status, _ANY_ACCESS)


def write_private(path: Path, data: bytes) -> None:
    """Replace `path` by `data` atomically, mode 0600, durable when it returns. Raises LinkError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, _FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise LinkError(f"{path} cannot be written: {error.strerror}") from error


def read_private(path: Path, *, limit: int = 65_536, forbidden: int = _ANY_ACCESS) -> bytes:
    """Read a file of at most `limit` bytes that gives nobody but its owner the `forbidden` mode bits.

    Raises LinkError when others have them, when it belongs to somebody else, is no plain file or too long, and
    FileNotFoundError when there is none.
    """
    try:
        # Checked on the open descriptor, so that nobody can swap the file in between; no link is followed.
        descriptor = os.open(path, os.O_RDONLY | _BINARY | _NO_FOLLOW | _NO_WAIT)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise LinkError(f"{path} is not a plain file")
            _check_owner(path, status, forbidden)
            data = file.read(limit + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise LinkError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > limit:
        raise LinkError(f"{path} is longer than {limit} bytes and so not what it should be")
    return data


def _check_owner(path: Path, status: os.stat_result, forbidden: int) -> None:
    if sys.platform != "win32":  # there the user's profile folder is closed to others by its access list
        if status.st_uid != os.geteuid():
            raise LinkError(f"{path} belongs to user {status.st_uid}, not to you: run K.O.C. as the profile's owner")
        if status.st_mode & forbidden:
            mode = _FOLDER_MODE if stat.S_ISDIR(status.st_mode) else _FILE_MODE
            raise LinkError(
                f"{path} can be reached by other users (mode {stat.S_IMODE(status.st_mode):04o}): "
                f"run `chmod {mode:o} {path}`, and make new keys if others use this machine"
            )
