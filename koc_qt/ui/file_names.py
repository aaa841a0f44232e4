"""Names of files in lists: short, and with their folder where two have the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePath


def told_apart(paths: Iterable[str]) -> dict[str, str]:
    """Give each file's name; where several have the same, with as much of their folders as tells them apart."""
    names = {path: PurePath(path).name for path in paths}
    by_name: defaultdict[str, list[str]] = defaultdict(list)
    for path, name in names.items():
        by_name[name].append(path)
    for name, same in by_name.items():
        names |= _labels(name, same)
    return names


def _labels(name: str, paths: list[str]) -> dict[str, str]:
    if len(paths) == 1:
        return {paths[0]: name}
    folders = [PurePath(path).parent.parts for path in paths]
    deepest = max(map(len, folders))
    depth = next((n for n in range(1, deepest) if len({parts[-n:] for parts in folders}) == len(paths)), deepest)
    return {path: f"{name}  ·  {PurePath(*parts[-depth:])}" for path, parts in zip(paths, folders, strict=True)}
