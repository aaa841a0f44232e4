"""Reports as files: the ending says which, and a file is written whole or not at all."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from koc_qt.domain.errors import ConfigError, StorageError
from koc_qt.reports.documents import load_json
from koc_qt.reports.export import KINDS, export, trouble_of
from tests.unit.reports.examples import report


@pytest.mark.parametrize("ending", KINDS)
def test_the_ending_says_what_is_written(tmp_path: Path, ending: str) -> None:
    files = export(report(), tmp_path / f"new folder/run{ending.upper()}")
    names = ["run-trades", "run-fills", "run-equity"] if ending in (".csv", ".parquet") else ["run"]
    assert [file.name for file in files] == [f"{name}{ending.upper()}" for name in names]
    assert sorted(files) == sorted((tmp_path / "new folder").iterdir())
    assert all(file.stat().st_size > 100 for file in files)


def test_a_file_that_is_there_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("old")
    [file] = export(report(), tmp_path / "run.json")
    assert load_json(file.read_bytes()).labels == ("replay", "vectorbt")


@pytest.mark.parametrize("name", ["run.xlsx", "run", ".html"])
def test_another_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"let its name end in \.html, \.htm, \.json, \.csv, \.parquet"):
        export(report(), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let no file grow over a kilobyte, as on a disk that is full."""
    if sys.platform == "win32":
        pytest.skip("files on Windows have no such limit")
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path, small_files: None) -> None:
    (tmp_path / "run.html").write_text("old")
    with pytest.raises(StorageError, match=r"run\.html cannot be written: it is larger than a file may be there"):
        export(report(), tmp_path / "run.html")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("run.html", "old")]


def test_the_reason_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(StorageError, match="cannot be written: "):
        export(report(), tmp_path / "file/run.json")
    with pytest.raises(StorageError, match=r"folder\.json cannot be written: "):
        export(report(), tmp_path / "folder.json")
    with pytest.raises(StorageError, match="null"):
        export(report(), tmp_path / "a\0b.json")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder.json"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_that_one_may_not_write_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StorageError, match="you may not write there"):
            export(report(), tmp_path / "run.json")
    finally:
        tmp_path.chmod(0o700)


def test_troubles_are_in_plain_words() -> None:
    assert trouble_of(OSError(errno.ENOSPC, "No space left on device")) == "the disk is full"
    assert trouble_of(OSError(errno.EACCES, "Permission denied")) == "you may not write there"
    assert trouble_of(OSError(errno.EIO, "Input/output error")) == "Input/output error"
    assert trouble_of(OSError("odd")) == "odd"
