"""The log: what it holds, what it must never hold, and what happens when it cannot be written."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import stat
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from koc_qt import scrub as scrubbing
from koc_qt.domain.errors import ConfigError
from koc_qt.logger import (
    KEPT_FILES,
    Console,
    JsonFile,
    LogEntry,
    _Intercept,
    listen,
    register_secret,
    scrub,
    setup_logger,
)
from koc_qt.paths import Paths
from tests.conditions import PATIENCE, wait_until


def lines(paths: Paths) -> list[dict[str, Any]]:
    return [json.loads(line) for line in paths.log_file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def forget_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubbing, "_known", None)
    monkeypatch.setattr(scrubbing, "_known_forms", set())


@pytest.mark.expected_warnings("it is {late} late")
def test_one_line_three_ways(profile: Paths) -> None:
    entries: list[LogEntry] = []
    stream = io.StringIO()
    log = setup_logger(profile, "INFO", sink=entries.append, stream=stream)
    logger.debug("not shown")
    logger.info("started {}", "höhle")
    logger.bind(source="strategy cross", symbol="BTC/USDT").warning("it is {{late}} {}", "late")
    log.close()
    first, second = lines(profile)
    assert (first["level"], first["text"], first["source"]) == ("INFO", "started höhle", __name__)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", first["time"])
    assert first["pid"] == os.getpid()
    assert "extra" not in first
    assert (second["source"], second["extra"]) == ("strategy cross", {"symbol": "BTC/USDT"})
    assert [entry.text for entry in entries] == ["started höhle", "it is {late} late"]
    assert abs(entries[0].time_ns - time.time_ns()) < 60e9
    assert re.fullmatch(r"\d\d:\d\d:\d\dZ INFO     \S+: started höhle", stream.getvalue().splitlines()[0])


def test_braces_in_a_message_are_left_alone(profile: Paths) -> None:
    log = setup_logger(profile, console=False)
    logger.info("{'a': {}}")
    log.close()
    assert lines(profile)[0]["text"] == "{'a': {}}"


SECRETS = [
    ("api_key=abcdef123456", "abcdef123456"),
    ("apiKey: 'abc def 123456'", "abc def 123456"),
    ('{"secret": "s3cr\\"et-value"}', "et-value"),
    ('{\\"apiSecret\\": \\"s3cretvalue\\"}', "s3cretvalue"),
    ("{'X-MBX-APIKEY': 'madeUpMadeUpMadeUpMadeUpMadeUp12'}", "madeUpMadeUp"),
    ("BINANCE_SECRET_KEY=inventedInventedInventedInvented", "inventedInv"),
    ("password = hunter22", "hunter22"),
    ("passphrase:correct-horse", "correct-horse"),
    ("token: eyJhbGciOiJIUzI1NiJ9.e30.abc", "eyJhbGciOiJIUzI1NiJ9"),
    ("Authorization: Bearer abcdefghijkl", "abcdefghijkl"),
    ("sent Bearer abcdefghijkl to it", "abcdefghijkl"),
    ("GET /api/v3/order?symbol=BTCUSDT&timestamp=1&signature=c8db56825ae71d6d", "c8db56825ae71d6d"),
    ("key=madeUpMadeUpMadeUpMadeUpMadeUp12", "madeUpMadeUp"),
    ("https://me:hunter22@example.org/x", "hunter22"),
    ("socks5://user:p%40ss@host:1", "p%40ss"),
    ("-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIA\n-----END EC PRIVATE KEY-----", "MHcCAQEEIA"),
    ("b'-----BEGIN PRIVATE KEY-----\\nMHcCAQEEIA and cut off", "MHcCAQEEIA"),
]


@pytest.mark.expected_warnings("ERROR library")
@pytest.mark.parametrize(("text", "secret"), SECRETS, ids=[text[:30] for text, _ in SECRETS])
def test_what_looks_like_a_secret_is_taken_out(text: str, secret: str, profile: Paths) -> None:
    stream, entries = io.StringIO(), []
    log = setup_logger(profile, stream=stream, sink=entries.append)
    logger.bind(detail={"text": text}).info(text)
    logging.getLogger("library").error(text)
    try:
        raise ValueError(text)
    except ValueError:
        logger.opt(exception=True).info("it failed")
    log.close()
    everything = profile.log_file.read_text(encoding="utf-8") + stream.getvalue() + repr(entries)
    assert secret not in everything
    assert "***" in everything
    assert "ValueError" in everything


@pytest.mark.parametrize(
    "text",
    [
        "bought 0.1 BTC/USDT at 50000 (order 12345678-abcd)",
        "unknown key 'sybmol' under strategies[0]",
        "tick: 5, keys: 3",
        "see https://example.org/a:b@c",
        "the secret of success",
    ],
)
def test_other_text_is_left_alone(text: str) -> None:
    assert scrub(text) == text


@pytest.mark.usefixtures("forget_secrets")
def test_a_known_secret_is_taken_out_in_every_form(profile: Paths) -> None:
    secret = "p/ss w'ö\"rd+1"
    register_secret(secret)
    register_secret("abc")
    stream = io.StringIO()
    log = setup_logger(profile, stream=stream)
    logger.info(
        "plain {} quoted p%2Fss%20w%27%C3%B6%22rd%2B1 repr {!r} json {}", secret, secret, json.dumps({"a": secret})
    )
    logger.bind(note=secret, deep=[{"x": secret}], password="x y z").info("abcd stays, abc goes")
    log.close()
    everything = profile.log_file.read_text(encoding="utf-8") + stream.getvalue()
    assert "rd+1" not in everything
    assert "x y z" not in everything
    assert "abcd stays, *** goes" in everything, "a short one is taken out as a word of its own alone"
    assert lines(profile)[0]["text"] == 'plain *** quoted *** repr \'***\' json {"a": "***"}'


@pytest.mark.usefixtures("forget_secrets")
def test_a_known_pem_block_hides_no_other_from_being_known_by_its_frame() -> None:
    begin, end = "-----BEGIN EC PRIVATE KEY-----", "-----END EC PRIVATE KEY-----"
    register_secret(f"{begin}\nMHcCAQEEIBbbbbbbbbbb\n{end}\n")
    assert "AQEEIA" not in scrub(f"{begin}\nMHcCAQEEIA\n{end}")
    assert "bbbb" not in scrub("of it a line alone: MHcCAQEEIBbbbbbbbbbb")


@pytest.mark.usefixtures("forget_secrets")
def test_a_secret_within_a_secret_leaves_nothing() -> None:
    register_secret("abcdef")
    register_secret("abcdefghij")
    assert scrub("x abcdefghij y abcdef") == "x *** y ***"


@pytest.mark.usefixtures("forget_secrets")
def test_a_secret_of_several_lines_is_taken_out_line_by_line() -> None:
    register_secret(" \n")
    register_secret("BEGIN\n0123456789abcdefXYZ\nfedcba9876543210XYZ\nEND\n")
    assert scrub("BEGIN | 0123456789abcdefXYZ | fedcba9876543210XYZ | END") == "BEGIN | *** | *** | END"
    assert scrub("BEGIN\n0123456789abcdefXYZ\nfedcba9876543210XYZ\nEND") == "***"


def test_tracebacks_show_no_values_of_variables(profile: Paths) -> None:
    def fail(hidden: str) -> None:
        raise RuntimeError("deep down")

    log = setup_logger(profile, console=False)
    try:
        fail("s3cr3t-v4lue")
    except RuntimeError:
        logger.opt(exception=True).info("caught")
    log.close()
    (line,) = lines(profile)
    assert "deep down" in line["exception"]
    assert "in fail" in line["exception"]
    assert "s3cr3t" not in line["exception"].replace('fail("s3cr3t-v4lue")', "")


def test_long_and_nasty_texts_take_no_time() -> None:
    nasty = [
        "a-" * 200_000,
        "token" * 80_000,
        "-----BEGIN A-----" * 20_000,
        "x://" * 100_000,
        "secret='" * 50_000,
        '"\\' * 200_000,
    ]
    started = time.process_time()
    assert all(len(scrub(text)) < 70_000 for text in nasty)
    assert time.process_time() - started < 5


def test_control_characters_do_not_steer_the_terminal(profile: Paths) -> None:
    stream = io.StringIO()
    log = setup_logger(None, stream=stream)
    logger.info("\x1b[2J\x07red\r\x9b31m\ttab")
    log.close()
    assert stream.getvalue().endswith(": \\x1b[2J\\x07red\\x0d\\x9b31m\ttab\n")


@pytest.mark.expected_warnings("ERROR")
def test_the_standard_library_and_uncaught_errors_come_here(profile: Paths) -> None:
    hooks = sys.excepthook, threading.excepthook
    log = setup_logger(profile, console=False)
    logging.getLogger("apscheduler.x").error("job %s failed", 5)
    logging.getLogger("quiet").info("not shown")
    _Intercept().emit(logging.LogRecord("odd", logging.INFO, "", 1, "too few %s %s", (1,), None))

    def fail() -> None:
        raise RuntimeError("in a thread")

    thread = threading.Thread(target=fail, name="worker-thread")
    thread.start()
    thread.join()
    error = KeyError("at the top")
    sys.excepthook(KeyError, error, None)
    log.close()
    log.close()
    assert [(line["source"], line["text"]) for line in lines(profile)[:1]] == [("apscheduler.x", "job 5 failed")]
    texts = [line["text"] for line in lines(profile)]
    assert texts[1].startswith("too few %s %s (")
    assert texts[2:] == [
        "an error was not handled in worker-thread: in a thread",
        "an error was not handled: 'at the top'",
    ]
    assert "RuntimeError: in a thread" in lines(profile)[2]["exception"]
    assert (sys.excepthook, threading.excepthook) == hooks


def test_a_second_set_up_replaces_the_first(profile: Paths, tmp_path: Path) -> None:
    first = setup_logger(profile, stream=io.StringIO())
    entries: list[LogEntry] = []
    second = setup_logger(None, console=False, sink=entries.append)
    logger.info("once")
    second.close()
    first.close()
    logger.info("nobody listens")
    assert [entry.text for entry in entries] == ["once"]
    assert not profile.log_file.exists()


def test_an_unknown_level_is_refused(profile: Paths) -> None:
    with pytest.raises(ConfigError, match="'LOUD' is no log level: use TRACE"):
        setup_logger(profile, "LOUD")
    setup_logger(profile, "debug", console=False).close()


# ---- the file -------------------------------------------------------------------------------------------------------


def test_the_file_is_rotated_and_ten_are_kept(tmp_path: Path) -> None:
    complaints: list[str] = []
    file = JsonFile(tmp_path / "koc.json", complaints.append, rotate_bytes=100)
    for number in range(200):
        file.write(f"{number:020}")
    file.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(["koc.json", *(f"koc.json.{n}" for n in range(1, KEPT_FILES + 1))])
    assert all(path.stat().st_size <= 100 for path in tmp_path.iterdir())
    kept = [line for n in range(KEPT_FILES, 0, -1) for line in (tmp_path / f"koc.json.{n}").read_text().split()]
    kept += (tmp_path / "koc.json").read_text().split()
    assert [int(line) for line in kept] == list(range(200 - len(kept), 200)), "nothing in between is lost"
    assert complaints == []
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "koc.json").stat().st_mode) == 0o600


def test_two_processes_of_a_profile_rotate_once(tmp_path: Path) -> None:
    one, two = (JsonFile(tmp_path / "koc.json", pytest.fail, rotate_bytes=100) for _ in range(2))
    for number in range(40):
        (one if number % 2 else two).write(f"{number:020}")
    one.close()
    two.close()
    written = [int(line) for path in tmp_path.iterdir() for line in path.read_text().split()]
    assert sorted(written) == list(range(40))


def test_a_single_line_above_the_limit_is_written(tmp_path: Path) -> None:
    file = JsonFile(tmp_path / "koc.json", pytest.fail, rotate_bytes=10)
    file.write("x" * 50)
    file.write("y")
    file.close()
    assert (tmp_path / "koc.json.1").read_text() == "x" * 50 + "\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told_once_and_stops_nothing(profile: Paths) -> None:
    profile.log_file.symlink_to("/dev/full")
    stream, entries = io.StringIO(), []
    log = setup_logger(profile, stream=stream, sink=entries.append)
    for number in range(3):
        logger.info("line {}", number)
    log.close()
    shown = stream.getvalue()
    assert shown.count("cannot be written: No space left on device; K.O.C. goes on without it") == 1
    assert all(f"line {number}" in shown for number in range(3))
    assert [entry.level for entry in entries].count("ERROR") == 1


def test_a_failure_after_a_recovery_is_told_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    complaints: list[str] = []
    file = JsonFile(tmp_path / "koc.json", complaints.append)
    real = os.write
    file.write('{"a": 1}')
    for _ in range(2):
        monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
        file.write('{"torn": 1}')
        monkeypatch.setattr(os, "write", real)
        file.write('{"b": 2}')
    file.close()
    assert len(complaints) == 2
    assert (tmp_path / "koc.json").read_text().splitlines() == ['{"a": 1}', '{"t', '{"b": 2}', '{"t', '{"b": 2}']


def test_a_folder_in_its_place_stops_nothing(profile: Paths) -> None:
    profile.log_file.mkdir()
    stream = io.StringIO()
    log = setup_logger(profile, stream=stream)
    logger.info("goes on")
    log.close()
    assert "cannot be written" in stream.getvalue()
    assert "goes on" in stream.getvalue()


# ---- the console ----------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A terminal that somebody pauses: writes block until it goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.going = threading.Event()
        self.blocked = threading.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.blocked.set()
        assert self.going.wait(20 * PATIENCE)
        return super().write(text)


def test_a_paused_terminal_delays_nobody() -> None:
    terminal = Terminal()
    console = Console(terminal)
    console.write("first")
    assert terminal.blocked.wait(5 * PATIENCE)
    started = time.monotonic()
    for number in range(5000):
        console.write(f"line {number}")
    assert time.monotonic() - started < 2 * PATIENCE
    terminal.going.set()
    console.close()
    shown = terminal.getvalue().splitlines()
    assert shown[:3] == ["first", "... 3000 lines were not shown; they are in the log file", "line 3000"]
    assert shown[-1] == "line 4999"


def test_a_terminal_that_goes_away_stops_nothing() -> None:
    stream = io.StringIO()
    console = Console(stream)
    stream.close()
    console.write("nobody sees this")
    wait_until(lambda: not console._thread.is_alive(), what="the console's thread")
    console.write("nor this")
    console.close()


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colours_are_for_terminals(
    no_color: str, coloured: bool, monkeypatch: pytest.MonkeyPatch, expected_warnings: list[str]
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    terminal = Terminal()
    terminal.going.set()
    log = setup_logger(None, stream=terminal)
    logger.warning("careful")
    log.close()
    assert ("\x1b[33mWARNING " in terminal.getvalue()) is coloured
    assert len(expected_warnings) == 1


def test_listeners_hear_every_line_however_the_log_is_set_up() -> None:
    heard: list[LogEntry] = []
    end = listen(heard.append)
    first = setup_logger(None, console=False)
    logger.info("one, password=hunter22")
    second = setup_logger(None, console=False)
    logger.info("two")
    end()
    logger.info("three")
    first.close()
    second.close()
    assert [entry.text for entry in heard] == ["one, password=***", "two"]
