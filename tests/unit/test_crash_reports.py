"""Crash reports: what they have, what they must never have, how many there are, and what a hard crash leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from koc_qt.adapters.crash_reports import (
    LOG_LINES,
    MOST_BYTES,
    MOST_OF_A_PROCESS,
    MOST_REPORTS,
    CrashReports,
    crashes_reported,
)
from koc_qt.domain.errors import ConfigError, KocError
from koc_qt.logger import register_secret, setup_logger
from koc_qt.paths import Paths
from koc_qt.version import __version__

CANARY = "canary-0123456789-secret"


def line_of(module: str) -> Any:
    """Give a logger whose lines come from a module."""

    def name(record: Any) -> None:
        record["name"] = module

    return logger.patch(name)


ours = line_of("koc_qt.engine.orders")


def raised(text: str, kind: type[Exception] = RuntimeError) -> Exception:
    hidden = CANARY + text  # the value of a variable
    try:
        raise kind(text)
    except Exception as error:
        assert hidden
        return error


def texts(profile: Paths) -> list[str]:
    reports = CrashReports(profile)
    return [reports.read(report.name) for report in reports.reports()]


def test_a_report_says_where_and_with_what_version_and_no_secret(profile: Paths) -> None:
    register_secret(CANARY)
    reports = CrashReports(profile)
    file = reports.write("command", raised(f"boom {CANARY} password=hunter22"), has_ended=True, arguments=["x", CANARY])
    text = file.read_text()
    assert f"koc {__version__}, Python" in text
    assert "RuntimeError: boom *** password=***" in text
    assert "test_crash_reports.py" in text
    assert "arguments: x ***" in text
    assert "It ended K.O.C." in text
    assert CANARY not in text
    assert "hunter22" not in text
    assert str(Path.home()) not in text
    if os.name == "posix":
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.parent.stat().st_mode & 0o777 == 0o700
    (report,) = reports.reports()
    assert (report.name, report.part, report.has_ended) == (file.name, "command", True)


def test_nothing_of_the_environment(profile: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_WORD", CANARY)
    assert CANARY not in CrashReports(profile).write("engine", raised("boom"), has_ended=False).read_text()


def test_number_and_size_are_bounded(profile: Paths) -> None:
    reports = CrashReports(profile)
    for _ in range(MOST_REPORTS + 3):
        newest = reports.write("engine", raised("x" * 300_000), has_ended=True)
    assert len(reports.reports()) == MOST_REPORTS
    assert newest.exists()
    assert newest.stat().st_size <= MOST_BYTES


@pytest.mark.expected_warnings("went wrong")
def test_the_last_lines_of_the_log_are_in_it(profile: Paths) -> None:
    register_secret(CANARY)
    log = setup_logger(profile, console=False)
    with crashes_reported(profile, "engine"):
        for number in range(LOG_LINES + 10):
            logger.info("line {} of {}", number, CANARY)
        try:
            raise RuntimeError("boom")
        except RuntimeError:
            ours.exception("it went wrong")
    log.close()
    (text,) = texts(profile)
    lines = text.split("Last lines of the log:")[1].strip().splitlines()
    assert len(lines) >= LOG_LINES
    assert "line 59 of ***" in text
    assert "line 9 of" not in text
    assert CANARY not in text
    assert "K.O.C. went on." in text


@pytest.mark.expected_warnings("not handled", "known", "never retrieved", "of a library")
async def test_uncaught_errors_of_every_kind_become_reports_and_our_own_sentences_do_not(profile: Paths) -> None:
    log = setup_logger(profile, console=False)
    told: list[str] = []
    with crashes_reported(profile, "window", lambda: told.append("")):
        error = raised("in a slot")
        sys.excepthook(type(error), error, error.__traceback__)
        thread = threading.Thread(target=lambda: raised_again("in a thread"))
        thread.start()
        thread.join()
        asyncio.get_running_loop().call_exception_handler(
            {"message": "Task exception was never retrieved", "exception": raised("in a task", KeyError)}
        )
        ours.opt(exception=raised("known", ConfigError)).error("known")
        logger.error("known, and without an exception")
        asyncio.get_running_loop().call_exception_handler(
            {"message": "Task exception was never retrieved", "exception": raised("lost", ConnectionResetError)}
        )
        line_of("ccxt.base").opt(exception=raised("x")).error("of a library")
    log.close()
    found = "\n".join(texts(profile))
    assert len(told) == len(texts(profile)) == 3
    for words in ("in a slot", "in a thread", "in a task"):
        assert words in found


def raised_again(text: str) -> None:
    raise ValueError(text)


@pytest.mark.expected_warnings("again")
def test_what_happens_again_and_again_is_one_report_and_a_process_has_few(profile: Paths) -> None:
    with crashes_reported(profile, "window"):
        for _ in range(50):
            ours.opt(exception=raised("the same place")).error("again")
        assert len(texts(profile)) == 1
        for number in range(10):
            ours.opt(exception=raised("x", type(f"Kind{number}", (Exception,), {}))).error("again")
    assert len(texts(profile)) == MOST_OF_A_PROCESS


@pytest.mark.expected_warnings("boom")
def test_a_folder_that_cannot_be_written_costs_nothing_else(profile: Paths) -> None:
    profile.crashes.write_text("a file")
    with crashes_reported(profile, "window"):
        ours.opt(exception=raised("boom")).error("boom")
    reports = CrashReports(profile)
    assert reports.reports() == reports.take_new() == []


def test_new_ones_are_told_once(profile: Paths) -> None:
    reports = CrashReports(profile)
    assert reports.take_new() == []
    reports.write("engine", raised("one"), has_ended=True)
    assert [report.part for report in reports.take_new()] == ["engine"]
    assert reports.take_new() == []
    reports.write("window", raised("two"), has_ended=False)
    assert [report.part for report in CrashReports(profile).take_new()] == ["window"]


def test_only_reports_are_read_and_deleted(profile: Paths) -> None:
    reports = CrashReports(profile)
    reports.write("engine", raised("one"), has_ended=True)
    for name in ("../journal.sqlite", "shown.txt", "crash-.txt", "crash-99999999T999999999999Z-engine-ended-1.txt"):
        with pytest.raises(KocError, match="no crash report"):
            reports.read(name)
        with pytest.raises(KocError, match="no crash report"):
            reports.delete(name)
    (report,) = reports.reports()
    reports.delete(report.name)
    reports.delete(report.name)
    assert reports.reports() == []
    with pytest.raises(KocError, match="cannot be read"):
        reports.read(report.name)


# ---- hard crashes ---------------------------------------------------------------------------------------------------

_PROCESS = """
import os, sys
from koc_qt.adapters.crash_reports import crashes_reported
from koc_qt.logger import setup_logger
from koc_qt.paths import profile_paths
from loguru import logger
paths = profile_paths()
setup_logger(paths, console=False)
secret = "canary-" + "in-a-variable"
os.environ["SOME_KEY"] = "canary-in-the-environment"
with crashes_reported(paths, "engine"):
    logger.info("the last words, password=canary-in-the-log")
    print("ready", flush=True)
    word = sys.stdin.readline().strip()
    if word == "abort":
        os.abort()
"""


def process() -> subprocess.Popen[str]:
    started = subprocess.Popen(
        [sys.executable, "-P", "-c", _PROCESS],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    return started


@pytest.mark.skipif(os.name == "nt", reason="ends otherwise there")
def test_a_hard_crash_is_reported_by_whoever_looks_next(profile: Paths) -> None:
    with process() as crashing, process() as living:
        assert CrashReports(profile).take_new() == [], "both live"
        assert len(list(profile.crashes.glob("running-*"))) == 2
        crashing.communicate("abort\n", timeout=30)
        assert crashing.returncode == -signal.SIGABRT
        (report,) = CrashReports(profile).take_new()
        assert (report.part, report.has_ended) == ("engine", True)
        text = CrashReports(profile).read(report.name)
        assert "Fatal Python error: Aborted" in text
        assert "the last words" in text
        assert f"process {crashing.pid}" in text
        assert "canary" not in text
        assert len(list(profile.crashes.glob("running-*"))) == 1
        living.communicate("end\n", timeout=30)
        assert living.returncode == 0
    assert [path.name for path in profile.crashes.glob("running-*")] == []
    assert CrashReports(profile).take_new() == []


@pytest.mark.skipif(os.name == "nt", reason="ends otherwise there")
def test_a_process_that_is_killed_has_nothing_to_report(profile: Paths) -> None:
    with process() as killed:
        killed.kill()
        killed.communicate(timeout=30)
    assert CrashReports(profile).take_new() == []
    assert list(profile.crashes.glob("running-*")) == []
