"""The mascot's pictures: one sheet of cells, and which of them a mood shows for how long."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import msgspec
from PySide6.QtGui import QImage

from koc_qt.domain.errors import ConfigError, KocError
from koc_qt.ui.mascot.moods import Mood
from koc_qt.ui.resources import resource

_MOST_BYTES = 4_000_000
_Index = Annotated[int, msgspec.Meta(ge=0, le=1000)]
_Milliseconds = Annotated[int, msgspec.Meta(ge=20, le=10_000)]
_Side = Annotated[int, msgspec.Meta(ge=16, le=1024)]


class _Move(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    frames: Annotated[tuple[tuple[_Index, _Milliseconds], ...], msgspec.Meta(min_length=1, max_length=1000)]
    still: _Index


class _Sheet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cell: _Side
    columns: Annotated[int, msgspec.Meta(ge=1, le=100)]
    cells: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    moods: dict[str, _Move]


@dataclass(frozen=True)
class Frame:
    """A cell, and how long it is shown."""

    cell: int
    duration_ms: int


class Sprite:
    """Gives the cells of moods. Without a sheet it has none: `problem` then says why, in a sentence for a person."""

    def __init__(self, sheet: QImage | None, plan: _Sheet | None, problem: str = "") -> None:
        self._sheet = sheet
        self._plan = plan
        self.problem = problem

    def frames(self, mood: Mood) -> tuple[Frame, ...]:
        """Give what a mood shows, in a loop; empty without a sheet."""
        if self._plan is None:
            return ()
        return tuple(Frame(cell, duration_ms) for cell, duration_ms in self._plan.moods[mood].frames)

    def still(self, mood: Mood) -> Frame | None:
        """Give the one cell that stands for a mood where nothing shall move; None without a sheet."""
        return None if self._plan is None else Frame(self._plan.moods[mood].still, 0)

    def image(self, cell: int) -> QImage:
        """Give a cell's picture; a null image without a sheet. Raises IndexError when there is no such cell."""
        if self._sheet is None or self._plan is None:
            return QImage()
        if not 0 <= cell < self._plan.cells:
            raise IndexError(f"the mascot's sheet has no cell {cell}")
        side, columns = self._plan.cell, self._plan.columns
        return self._sheet.copy(cell % columns * side, cell // columns * side, side, side)


@cache
def load_sprite(folder: Path | None = None) -> Sprite:
    """Load the sheet from a folder, or the program's own; where it is missing or bad, give a sprite that says so.

    May be called from any thread, and takes some 20 ms the first time.
    """
    try:
        return _loaded(folder or resource("mascot"))
    except KocError as error:
        return Sprite(None, None, str(error))


def _loaded(folder: Path) -> Sprite:
    plan_path, sheet_path = folder / "sheet.json", folder / "sheet.png"
    plan = _plan(plan_path)
    try:
        size = sheet_path.stat().st_size
    except OSError as error:
        raise ConfigError(f"the mascot's sheet {sheet_path} cannot be read: {error.strerror}") from error
    sheet = QImage(str(sheet_path)) if size <= _MOST_BYTES else QImage()
    if sheet.isNull():
        raise ConfigError(f"the mascot's sheet {sheet_path} is not a picture that can be shown. Install K.O.C. again")
    rows = -(-plan.cells // plan.columns)
    if sheet.width() < plan.columns * plan.cell or sheet.height() < rows * plan.cell:
        raise ConfigError(f"the mascot's sheet {sheet_path} is smaller than {plan_path.name} says")
    return Sprite(sheet, plan)


def _plan(path: Path) -> _Sheet:
    try:
        with path.open("rb") as file:
            plan = msgspec.json.decode(file.read(_MOST_BYTES), type=_Sheet)
    except OSError as error:
        raise ConfigError(f"the mascot's plan {path} cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"the mascot's plan {path} is wrong: {error}") from error
    missing = [mood for mood in Mood if mood not in plan.moods]
    if missing:
        raise ConfigError(f"the mascot's plan {path} lacks the moods {', '.join(missing)}")
    shown = [cell for move in plan.moods.values() for cell in (move.still, *(cell for cell, _ in move.frames))]
    if max(shown) >= plan.cells:
        raise ConfigError(f"the mascot's plan {path} shows cell {max(shown)}, but there are only {plan.cells}")
    return plan
