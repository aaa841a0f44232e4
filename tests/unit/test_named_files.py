"""Files that the command line names: what cannot be is said before anything is run, and one failure keeps to itself."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from koc_qt.cli import backtest_job
from koc_qt.cli.named_files import output_file, output_folder, strategy_file
from koc_qt.domain.errors import ConfigError, StorageError
from tests.unit.reports.examples import report

LONG = "x" * 300


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not look such names up, it says that there are none")
@pytest.mark.parametrize(
    "look", [strategy_file, lambda name: output_file("json", name), lambda name: output_folder("csv", name)]
)
def test_a_name_that_is_too_long_is_refused(look: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match=f"{LONG}: {os.strerror(errno.ENAMETOOLONG)}"):
        look(LONG)


def test_what_can_be_written_is_given(tmp_path: Path) -> None:
    assert output_file("report", str(tmp_path / "a.HTM"), (".html", ".htm")) == tmp_path / "a.HTM"
    assert output_folder("csv", str(tmp_path)) == tmp_path
    with pytest.raises(ConfigError, match="--json -: that is no file; name a file"):
        output_file("json", "-")


def test_a_file_that_cannot_be_written_keeps_no_other_from_being_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the place of a folder")
    bad, good = [tmp_path / "file" / name for name in ("a.json", "b.html")], tmp_path / "c.json"
    with pytest.raises(StorageError, match=r"file cannot be made: "):
        backtest_job._write(report(), [*bad, good])
    assert good.stat().st_size
    assert f"Written: {good}" in capsys.readouterr().err
