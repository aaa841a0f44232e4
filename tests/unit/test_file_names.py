"""Names of files in lists."""

from __future__ import annotations

from pathlib import Path, PurePath

import pytest

from koc_qt.ui.file_names import told_apart
from koc_qt.ui.panels.strategies_library import FILE_COLUMNS, read_folders


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        ([], []),
        (["/a/x.py", "/a/y.py"], ["x.py", "y.py"]),
        (["/a/x.py", "/b/x.py", "/b/y.py"], ["x.py  ·  a", "x.py  ·  b", "y.py"]),
        (["/a/x.py", "/b/y.py", "/b/x.py"], ["x.py  ·  a", "y.py", "x.py  ·  b"]),
        (["/a/strategies/x.py", "/b/strategies/x.py"], ["x.py  ·  a/strategies", "x.py  ·  b/strategies"]),
        (["/x.py", "/b/x.py"], ["x.py  ·  /", "x.py  ·  b"]),
        (["/b/x.py", "/a/b/x.py"], ["x.py  ·  /b", "x.py  ·  a/b"]),
        (["x.py", "a/x.py"], ["x.py  ·  .", "x.py  ·  a"]),
        (["/a/x.py", "/a/x.py"], ["x.py"]),
    ],
)
def test_names_are_short_and_told_apart(paths: list[str], names: list[str]) -> None:
    found = told_apart(paths)
    assert list(found) == list(dict.fromkeys(paths))
    assert [name.replace(str(PurePath("/")), "/") for name in found.values()] == names


def test_a_copy_in_ones_own_folder_is_told_from_the_sample(tmp_path: Path) -> None:
    for folder, names in (("samples", ("cross.py", "other.py")), ("mine", ("cross.py",))):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_text('"""Crosses."""')
    files = read_folders([(tmp_path / "samples", True), (tmp_path / "mine", False)])
    assert [FILE_COLUMNS[0].text(file) for file in files] == ["cross.py  ·  samples", "other.py", "cross.py  ·  mine"]
