"""The command line: what it takes, what it says, and the codes that it ends with."""
# ruff: noqa: E501 - one refusal a line

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from loguru import logger

from koc_qt import __main__ as entry
from koc_qt.cli import doctor
from koc_qt.cli import main as cli
from koc_qt.domain.errors import ConfigError
from koc_qt.paths import Paths
from koc_qt.version import __version__
from tests.conditions import PATIENCE

COMMANDS = (
    "window",
    "engine",
    "backtest",
    "status",
    "drift",
    "orders",
    "fills",
    "stop",
    "kill",
    "fetch",
    "keys",
    "doctor",
)


def ends(*arguments: str) -> int:
    """Give the code that the command line ends with, whichever way it does."""
    try:
        return entry.main(arguments)
    except SystemExit as end:
        return int(end.code or 0)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends("--version") == 0
    assert capsys.readouterr().out == f"koc {__version__}\n"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends("--help") == 0
    text = capsys.readouterr().out
    assert all(f"\n    {command} " in text for command in COMMANDS)
    assert "KOC_HOME" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(command, "--help") == 0
    assert f"usage: koc {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["egnine"], "koc: there is no command 'egnine'; did you mean 'engine'?\nTry 'koc --help'.\n"),
        (["xyz"], "koc: there is no command 'xyz'\nTry 'koc --help'.\n"),
        (["--versoin"], "koc: there is no option '--versoin'; did you mean '--version'?\nTry 'koc --help'.\n"),
        (["tcp://192.0.2.7:5555"], "koc: 'tcp://192.0.2.7:5555' is an address; did you mean '--connect tcp://192.0.2.7:5555'?\n"),
        (["--conect", "tcp://192.0.2.7:5555"], "koc: there is no option '--conect'; did you mean '--connect'?\n"),
        (["--reset-layout", "--conect", "x"], "koc window: there is no option '--conect'; did you mean '--connect'?\n"),
        (["keys", "exprot", "x"], "koc keys: argument ACTION: invalid choice: 'exprot'"),
        (["doctor", "--jsn"], "koc doctor: there is no option '--jsn'; did you mean '--json'?\nTry 'koc doctor --help'.\n"),
        (["engine", "--symbl=BTC/USDT"], "koc engine: there is no option '--symbl'; did you mean '--symbol'?\n"),
        (["engine", "--dur", "5"], "koc engine: there is no option '--dur'"),
        (["engine", "a.py"], "koc engine: 'a.py' is one word too many; did you mean '--strategy a.py'?\n"),
        (["doctor", "now"], "koc doctor: 'now' is one word too many\n"),
        (["engine", "--speed", "fast"], "koc engine: argument --speed: invalid float value: 'fast'\n"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_gets_a_suggestion(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends(*arguments) == cli.USAGE
    output = capsys.readouterr()
    assert output.err.startswith(said)
    assert output.out == ""


def test_the_code_of_a_command_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "run", lambda args: 7)
    assert ends("doctor") == 7


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run(_: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(doctor, "run", run)


def test_our_own_errors_are_sentences(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    raising(monkeypatch, ConfigError("koc.yaml, line 3: password=hunter22 is wrong"))
    assert ends("doctor") == cli.FAILED
    assert capsys.readouterr().err == "koc: koc.yaml, line 3: password=*** is wrong\n"


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    raising(monkeypatch, KeyboardInterrupt())
    assert ends("doctor") == cli.INTERRUPTED
    assert capsys.readouterr().err == "koc: stopped.\n"


def test_other_errors_leave_a_report_and_no_traceback(
    profile: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, RuntimeError("boom with token=abcdef123456"))
    for _ in range(2):
        assert ends("doctor") == cli.CRASHED
    said = capsys.readouterr().err.splitlines()
    reports = sorted(profile.crashes.glob("crash-*.txt"))
    assert said == [
        f"koc: an error in K.O.C. itself, RuntimeError, has ended this command. A report is in {report}."
        for report in reports
    ]
    report = reports[-1]
    text = report.read_text()
    assert "RuntimeError: boom with token=***" in text
    assert "in raising" not in text.split("Traceback")[0]
    assert "Traceback (most recent call last)" in text
    assert "abcdef123456" not in text
    assert f"koc {__version__}, Python" in text
    assert "arguments: doctor" in text
    if os.name == "posix":
        assert report.stat().st_mode & 0o777 == 0o600


def test_a_library_that_does_not_load_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, ImportError("libglib-2.0.so.0: cannot open shared object file: No such file or directory"))
    assert ends("doctor") == cli.FAILED
    assert capsys.readouterr().err == (
        "koc: a part of K.O.C. does not load: libglib-2.0.so.0: cannot open shared object file: No such file or "
        "directory. 'koc doctor' says what this machine lacks.\n"
    )


@pytest.mark.expected_warnings("something to know")
def test_commands_let_nothing_below_a_warning_through(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_: argparse.Namespace) -> int:
        logger.debug("a detail")
        logger.info("a fact")
        logging.getLogger("library").info("a fact of a library")
        logger.warning("something to know, password=hunter22")
        return 0

    monkeypatch.setattr(doctor, "run", run)
    assert ends("doctor") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("something to know, password=***")


def test_old_reports_make_way(profile: Paths) -> None:
    profile.crashes.mkdir()
    for number in range(30):
        (profile.crashes / f"crash-20200101T0000{number:02}000000Z-command-ended-1.txt").write_text("old")
    newest = Path(cli.write_crash_report(RuntimeError("boom"), []))
    reports = sorted(profile.crashes.glob("crash-*.txt"))
    assert len(reports) == 20
    assert reports[-1] == newest


def test_a_report_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KOC_HOME", str(tmp_path / "file"))
    raising(monkeypatch, RuntimeError("boom"))
    assert ends("doctor") == cli.CRASHED
    assert "A report could not be written" in capsys.readouterr().err


def koc(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start the real program."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "koc_qt", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])} | environment,
    )


def test_a_reader_that_has_seen_enough_is_no_error(profile: Paths) -> None:
    with koc("doctor", "--json") as process:
        assert process.stdout
        process.stdout.close()
        _, err = process.communicate(timeout=60 * PATIENCE)
    assert err == ""
    assert process.returncode == cli.FAILED


def test_a_profile_that_is_a_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for command in ("engine", "status", "doctor"):
        with koc(command, KOC_HOME=str(tmp_path / "file")) as process:
            _, err = process.communicate(timeout=60 * PATIENCE)
        assert process.returncode == cli.FAILED
        assert err == f"koc: {tmp_path / 'file'} is a file, not a folder: point KOC_HOME at a folder\n"
