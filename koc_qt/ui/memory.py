"""What the window remembers between its runs: one JSON file, replaced whole; a damaged one is set aside, not obeyed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from koc_qt.ui.theme import ThemeChoice

VERSION = 1
_LARGEST = 4 << 20  # bytes


class ChartMemory(msgspec.Struct, frozen=True):
    """A chart: its dock's name, and the chart panel's own state."""

    dock: str
    state: dict[str, Any] = {}


class Memory(msgspec.Struct, kw_only=True):
    """What is there again after a restart. `geometry` and `docks` are Qt's own forms, Base64."""

    version: int = VERSION
    geometry: str = ""
    docks: str = ""
    charts: list[ChartMemory] = []
    panels: dict[str, dict[str, Any]] = {}
    theme: ThemeChoice = ThemeChoice.SYSTEM
    on_close: str = "ask"  # or "keep", "stop"


class MemoryFile:
    """Reads and writes the memory at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[Memory, str]:
        """Give what was remembered, and a sentence where that cannot be used and was set aside. Never raises."""
        try:
            with self.path.open("rb") as file:
                data = file.read(_LARGEST + 1)
        except FileNotFoundError:
            return Memory(), ""
        except OSError as error:
            return Memory(), f"The layout in {self.path} cannot be read ({error.strerror}): the default one is shown."
        try:
            if len(data) > _LARGEST:
                raise ValueError(f"it is larger than {_LARGEST >> 20} MB")
            memory = msgspec.json.decode(data, type=Memory)
            if memory.version > VERSION:
                raise ValueError(f"it is of a newer version ({memory.version}) of K.O.C.")
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            return Memory(), self._set_aside(str(error))
        return memory, ""

    def _set_aside(self, why: str) -> str:
        aside = self.path.with_suffix(".damaged.json")
        try:
            self.path.replace(aside)
        except OSError as error:
            return f"The layout in {self.path} cannot be used: {why}. It cannot be set aside either: {error.strerror}."
        return f"The layout could not be used ({why}) and the default one is shown. The old file is {aside.name}."

    def write(self, memory: Memory) -> None:
        """Replace the file whole. Raises OSError, and then the old file is as it was."""
        body = msgspec.json.format(msgspec.json.encode(memory), indent=1)
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=self.path.stem, suffix=".tmp")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(body)
            Path(name).replace(self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
