"""Imports all that the program loads by name, with what a bundle leaves out kept out of reach: before one is frozen.

    python installer/building/rehearsal.py [NAME ...]     those modules, or all; exit code 1 where one fails

It runs with the packages that are to be frozen, and takes seconds where a bundle takes minutes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


class Barrier:
    """Finds none of the modules that are left out, wherever they are installed."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Refuse a module that is left out, or is below one. Raises ModuleNotFoundError."""
        if any(name == each or name.startswith(f"{each}.") for each in self._names):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


def main(names: Sequence[str]) -> int:
    """Import them; gives the exit code."""
    sys.path[:0] = [str(ROOT), str(ROOT / "installer")]
    from building.pruning import EXCLUDED_MODULES

    sys.meta_path.insert(0, Barrier(EXCLUDED_MODULES))
    from koc_qt.cli.doctor_imports import look_at_imports

    failed = [check for check in look_at_imports(names) if check.status != "ok"]
    for check in failed:
        print(check.text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
