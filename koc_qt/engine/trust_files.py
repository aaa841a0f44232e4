"""Certificates and trust reports on disk, a JSON file each, so that they survive a restart.

Files are written whole or not at all. At most KEPT are there: the oldest make way. All methods block.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
from loguru import logger

from koc_qt.domain.errors import StorageError
from koc_qt.domain.trust import TrustSnapshot
from koc_qt.domain.trust_report import TrustReport
from koc_qt.files import TEMPORARY, write_durably

KEPT = 100
FORMAT = 1
_SIZE_LIMIT = 16 << 20  # bytes: more is no file of ours

T = TypeVar("T", bound=msgspec.Struct)


class StoredTrust(msgspec.Struct, frozen=True):
    """Checks that are over, and what they found."""

    snapshot: TrustSnapshot
    report: TrustReport


class _File(msgspec.Struct, Generic[T], frozen=True):
    format: int
    content: T


class JsonFolder(Generic[T]):
    """Records of one kind in a folder, which is made when needed; `pattern` is what their names are like."""

    def __init__(self, folder: Path, kind: type[T], pattern: str, kept: int = KEPT) -> None:
        self._folder = folder
        self._decoder = msgspec.json.Decoder(_File[kind])  # type: ignore[valid-type]
        self._pattern = re.compile(pattern, re.ASCII)
        self._kept = kept

    def load(self) -> dict[str, T]:
        """Give what is there by name, the oldest first; a file that cannot be read is left alone, and said."""
        found: dict[str, T] = {}
        try:
            files = self._files()
        except OSError as error:
            logger.warning("earlier reports in {} cannot be listed: {}", self._folder, error.strerror or error)
            return found
        for file in files:
            try:
                found[file.stem] = self._read(file)
            except (OSError, msgspec.MsgspecError, ValueError) as error:
                logger.warning("the report {} cannot be read: {}", file, error)
        return found

    def names(self) -> list[str]:
        """Give the names of all files, readable or not, the oldest first; none where they cannot be listed."""
        with contextlib.suppress(OSError):
            return [file.stem for file in self._files()]
        return []

    def keep(self, name: str, content: T) -> list[str]:
        """Write a record down; gives the names of older ones that made way for it. Raises StorageError."""
        file = self._folder / f"{name}.json"
        try:
            write_durably(file, msgspec.json.format(msgspec.json.encode(_File(FORMAT, content))))
            old = [other for other in self._files() if other != file]
            gone = old[: max(len(old) + 1 - self._kept, 0)]
            for other in gone:
                other.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"the report {file} cannot be written: {error.strerror or error}") from error
        return [other.stem for other in gone]

    def _files(self) -> list[Path]:
        """Give our files, the oldest first; what a crash left half-written goes."""
        files = list(self._folder.iterdir()) if self._folder.is_dir() else []
        for file in files:
            if file.name.startswith(TEMPORARY):
                with contextlib.suppress(OSError):
                    file.unlink()
        ours = [file for file in files if file.suffix == ".json" and self._pattern.fullmatch(file.stem)]
        return sorted(ours, key=lambda file: (file.stat().st_mtime_ns, file.name))

    def _read(self, file: Path) -> T:
        with file.open("rb") as opened:
            data = opened.read(_SIZE_LIMIT + 1)
        if len(data) > _SIZE_LIMIT:
            raise ValueError("it is too large")
        stored = self._decoder.decode(data)
        if stored.format != FORMAT:
            raise ValueError(f"it is of format {stored.format}, this version knows {FORMAT}")
        content: T = stored.content
        return content
