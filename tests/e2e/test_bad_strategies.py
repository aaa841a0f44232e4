"""Strategy files that are none: each is refused in words, and everything else goes on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.books import check_books
from tests.e2e.processes import STRATEGIES, Profile, strategy, trades

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

HEAD = b"from koc_qt.sdk import Strategy\n\n"
ONE = b"class One(Strategy):\n    def on_start(self):\n        pass\n\n"
MEGABYTE = 1 << 20

# file name: what is in it, what is said of it
FILES: dict[str, tuple[bytes, str]] = {
    "empty.py": (b"", "is empty"),
    "blank.py": (b" \n\n", "is empty"),
    "syntax.py": (HEAD + b"class One(Strategy:\n    pass\n", "syntax error in syntax.py, line 3"),
    "none.py": (b"x = 1\n", "defines no strategy: write a class that derives from koc_qt.sdk.Strategy"),
    "two.py": (HEAD + ONE + ONE.replace(b"One", b"Two"), "defines 2 strategies, One (line 3) and Two (line 7)"),
    "raises.py": (HEAD + b"1 / 0\n" + ONE, "ZeroDivisionError: division by zero (line 3)"),
    "quits.py": (HEAD + b"import sys\nsys.exit('done')\n" + ONE, "the strategy called sys.exit(done) (line 4)"),
    "missing module.py": (HEAD + b"import nowhere_to_be_found\n" + ONE, "No module named 'nowhere_to_be_found'"),
    "binary.py": (bytes(range(256)) * 64, "is not a text file"),
    "latin.py": (
        "# Größe\n".encode("latin-1") + HEAD + ONE,
        "latin.py, line 1: invalid or missing encoding declaration: save it as UTF-8",
    ),
    "large.py": (b"#" * (50 * MEGABYTE), "is too large: a strategy file may have 524,288 bytes"),
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "my strätegies"
    folder.mkdir()
    for name, (content, _) in FILES.items():
        (folder / name).write_bytes(content)
    (folder / "a folder.py").mkdir()
    return folder


@pytest.mark.parametrize("name", ["a folder.py", "absent.py"])
def test_what_is_no_file_starts_no_engine(home: Profile, files: Path, name: str) -> None:
    result = home.koc("engine", "--strategy", str(files / name))
    assert result.returncode == 1
    assert f"there is no strategy file {files / name}: name a .py file that is there" in result.stderr


def test_files_that_are_no_strategies(home: Profile, files: Path) -> None:
    said = {name: reason for name, (_, reason) in FILES.items()}
    names = [option for name in said for option in ("--strategy", str(files / name))]
    good = ("--strategy", str(STRATEGIES / "busy.py"), "--symbol", "BTC/USDT", "--speed", "20")
    with home.engine(*names, *good) as engine:
        for reason in said.values():
            engine.wait_for_output(reason)
        status = engine.wait_for_status(trades("busy", 3), "the good strategy to trade")
        assert status["engine"]["state"] == "running"
        failed = {each["path"]: each for each in status["strategies"] if each["id"] != "busy"}
        for name, reason in said.items():
            bad = failed.pop(str(files / name))
            assert (bad["state"], bad["restarts"], bad["pid"]) == ("failed", 0, None), bad
            assert reason in bad["reason"]
            assert not re.search(r"(\(line \d+\)).*\1", bad["reason"]), "a line is named once"
        assert failed == {}
        assert strategy(status, "busy")["restarts"] == 0
        assert engine.stop() == 0
    for line in engine.output.splitlines():
        assert line.count("ERROR") <= 1
    check_books(home)
