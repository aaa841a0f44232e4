"""The engine's own folder of strategy files, for clients whose files are on another machine."""

from __future__ import annotations

import asyncio
import stat
import unicodedata
from pathlib import Path

from koc_qt.domain.errors import StrategyError
from koc_qt.engine.strategy_file import check_source
from koc_qt.engine.strategy_words import clip
from koc_qt.link.private_files import make_private_folder, write_private
from koc_qt.paths import is_device_name

LONGEST_NAME_BYTES = 200  # file systems take 255; a temporary file beside it has a longer name
FILES_LIMIT = 2_000
_FORBIDDEN = frozenset('/\\:*?"<>|')  # separators, and what Windows forbids
_SUFFIX = ".py"


class StrategyLibrary:
    """Writes strategy files below `folder`, one at a time and each whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writing = asyncio.Lock()

    async def store(self, filename: str, source: bytes, *, replace: bool = False) -> str:
        """Keep a file, and give its absolute path.

        One of that name and the same content is left as it is; one of other content is replaced only with `replace`.
        Raises StrategyError on a name that is none, on a source that is empty or too large, and where another file has
        the name; LinkError when the disk does not take it.
        """
        name = checked_name(filename)
        check_source(name, source)
        async with self._writing:
            return await asyncio.to_thread(self._store, name, source, replace)

    def _store(self, name: str, source: bytes, replace: bool) -> str:
        make_private_folder(self._folder)
        path = self._folder / name
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            if sum(1 for _ in self._folder.iterdir()) >= FILES_LIMIT:
                raise StrategyError(f"{self._folder} holds {FILES_LIMIT:,} files: remove some") from None
        except OSError as error:
            raise StrategyError(f"{path} cannot be looked at: {error.strerror or error}") from error
        else:
            if stat.S_ISDIR(mode):
                raise StrategyError(f"{path} is a folder: choose another name")
            if _holds(path, mode, source):
                return str(path)
            if not replace:
                raise StrategyError(f"the engine has another {name} already: replace it, or choose another name")
        write_private(path, source)
        return str(path)


def checked_name(filename: str) -> str:
    """Give the name in Unicode's composed form. Raises StrategyError on one that is no plain .py name everywhere."""
    shown = clip(filename, 80)
    name = unicodedata.normalize("NFC", filename)
    if not name.lower().endswith(_SUFFIX) or len(name) == len(_SUFFIX):
        raise StrategyError(f"{shown!r} is no name of a strategy file: it must end in .py")
    if _FORBIDDEN & set(name) or not name.isprintable():
        raise StrategyError(f'{shown!r} cannot name a strategy file: use a plain name without / \\ : * ? " < > |')
    if name.startswith((".", " ")) or len(name.encode()) > LONGEST_NAME_BYTES:
        raise StrategyError(
            f"{shown!r} cannot name a strategy file: it must not begin with a dot or a space, and have "
            f"{LONGEST_NAME_BYTES} bytes at most"
        )
    if is_device_name(name):
        raise StrategyError(f"{shown!r} cannot name a strategy file: Windows has a device of that name")
    return name


def _holds(path: Path, mode: int, source: bytes) -> bool:
    """Whether a plain file has that content; what cannot be read has another."""
    if not stat.S_ISREG(mode):
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(source) + 1) == source
    except OSError as error:
        raise StrategyError(f"{path} cannot be read: {error.strerror or error}") from error
