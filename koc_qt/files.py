"""Files written whole or not at all, durably, for their owner alone; and files whose content is to be gone."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

TEMPORARY = ".koc-"  # what names of files begin with that are being written


def write_durably(file: Path, data: bytes) -> None:
    """Replace a file: the old one or the new one survives a crash, never a part; mode 0600. Raises OSError.

    A symbolic link stays one. When it raises, the file is as it was before.
    """
    with durable_stream(file) as stream:
        stream.write(data)


@contextlib.contextmanager
def durable_stream(file: Path) -> Iterator[IO[bytes]]:
    """Give what a file is to become: it is replaced as by `write_durably` when the block ends well. Raises OSError."""
    temporary = ""
    try:
        target = file.resolve()  # a link stays a link
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY, suffix=".tmp", dir=target.parent)  # mode 0600
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(target)
        sync_folder(target.parent)
    except BaseException:
        if temporary:
            with contextlib.suppress(OSError):
                Path(temporary).unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Make durable which files there are in a folder. Raises OSError."""
    if os.name != "posix":
        return  # Windows has no such call, and makes renames durable itself
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def shred(file: Path) -> None:
    """Overwrite a file with zeros, as far as the disk does that in place, and delete it. Raises OSError.

    Nothing happens where there is none. A symbolic link is deleted, not followed.
    """
    try:
        if stat.S_ISREG(file.lstat().st_mode):
            with file.open("r+b", buffering=0) as stream:
                overwrite(stream.fileno())
        file.unlink()
    except FileNotFoundError:
        return
    sync_folder(file.parent)


def overwrite(descriptor: int) -> None:
    """Overwrite an open file with zeros, durably, as far as the disk does that in place. Raises OSError."""
    left = os.fstat(descriptor).st_size
    os.lseek(descriptor, 0, os.SEEK_SET)
    while left > 0:
        left -= os.write(descriptor, bytes(min(left, 1 << 16)))
    os.fsync(descriptor)
