"""Where installers can be built from: a checkout of the sources, and never an installed copy."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = Path("installer", "build.py")


@dataclass(frozen=True)
class Place:
    """The program that builds, and the folder it is run in; where there is none, `problem` says why."""

    command: tuple[str, ...]
    folder: Path
    problem: str = ""
    advice: tuple[str, ...] = ()  # lines to type elsewhere


def build_place() -> Place:
    """Find the script that builds installers, in the checkout that this program runs from."""
    root = Path(__file__).resolve().parents[3]
    if getattr(sys, "frozen", False):
        return Place((), Path(sys.executable).parent, _INSTALLED, _ELSEWHERE)
    script = root / _SCRIPT
    if script.is_file():
        return Place((sys.executable, str(script)), root)
    if (root / "pyproject.toml").is_file():
        missing = f"This checkout has no {_SCRIPT.as_posix()}: {script} is missing. Bring it back, then try again."
        return Place((), root, missing, ("git checkout -- installer",))
    return Place((), root, _INSTALLED, _ELSEWHERE)


_INSTALLED = (
    "This is an installed copy. Installers are built from a checkout of the sources: get one, open a terminal in its "
    "folder, and run the line of what you want. With the second, this panel builds them, too."
)
_ELSEWHERE = ("python3 installer/build.py ubuntu --test", "python3 installer/bootstrap.py run")
