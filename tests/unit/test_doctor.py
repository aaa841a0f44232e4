"""``koc doctor``: each look at a machine that is well, and at one that is not."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from koc_qt.adapters.qt_libraries import ENGINE_LIBRARIES, WINDOW_LIBRARIES, missing_libraries
from koc_qt.cli import doctor
from koc_qt.cli.display import find_display
from koc_qt.cli.doctor import FAIL, OK, WARN, Check
from koc_qt.paths import Paths


@pytest.mark.usefixtures("profile")
def test_the_whole_report(capsys: pytest.CaptureFixture[str]) -> None:
    code = doctor.run(argparse.Namespace(json=True))
    report = json.loads(capsys.readouterr().out)
    checks = {check["name"]: check for check in report["checks"]}
    for name in ("program", "libraries", "Qt", "display", "keyring", "sandbox", "profile", "disk", "config", "clock"):
        assert checks[name]["status"] in (OK, WARN, FAIL)
        assert checks[name]["text"]
        assert checks[name]["advice"] or checks[name]["status"] == OK, "what is not ok says what to do"
    failed = [check for check in report["checks"] if check["status"] == FAIL]
    assert report["ok"] == (not failed)
    assert code == (1 if failed else 0)
    assert checks["Qt"]["status"] == OK
    assert checks["profile"]["status"] == OK


def test_lines_for_people(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = [Check("one", OK, "fine"), Check("two", WARN, "hm", "do this"), Check("three", FAIL, "bad", "do that")]
    monkeypatch.setattr(doctor, "_looks", lambda: [lambda: found[:1], lambda: found[1:]])
    assert doctor.run(argparse.Namespace(json=False)) == 1
    assert capsys.readouterr().out.splitlines() == [
        " ok   one          fine",
        "warn  two          hm",
        "                   do this",
        "FAIL  three        bad",
        "                   do that",
    ]
    monkeypatch.setattr(doctor, "_looks", lambda: [lambda: found[:2]])
    assert doctor.run(argparse.Namespace(json=False)) == 0


# ---- the program ----------------------------------------------------------------------------------------------------


def test_libraries_are_held_against_their_pins(tmp_path: Path) -> None:
    from importlib.metadata import version

    lock = tmp_path / "requirements.txt"
    lock.write_text(
        f"# made by a tool\nmsgspec=={version('msgspec')} \\\n    --hash=sha256:00\n"
        f"numpy==0.1 ; python_full_version < '3'\nnumpy=={version('numpy')} ; python_full_version >= '3'\n"
        "no-such-thing==1.0 ; sys_platform == 'other'\n"
    )
    assert doctor.look_at_libraries(lock) == Check("libraries", OK, "2 packages, all as pinned")
    lock.write_text(lock.read_text() + "pytest==0.0.1\n")
    check = doctor.look_at_libraries(lock)
    assert check.status == WARN
    assert f"pytest {version('pytest')} instead of 0.0.1" in check.text
    lock.write_text(lock.read_text() + "no-such-thing==1.0\n")
    check = doctor.look_at_libraries(lock)
    assert check.status == FAIL
    assert "no-such-thing" in check.text
    assert "bootstrap.py" in check.advice
    assert doctor.look_at_libraries(tmp_path / "none").status == OK
    assert doctor.look_at_libraries(tmp_path).status == WARN


def test_missing_libraries_are_named_with_their_packages() -> None:
    def load(soname: str) -> None:
        if soname in ("libglib-2.0.so.0", "libEGL.so.1"):
            raise OSError(soname)

    assert missing_libraries(ENGINE_LIBRARIES, load, "linux") == {"libglib-2.0.so.0": "libglib2.0-0"}
    assert missing_libraries(WINDOW_LIBRARIES, load, "linux") == {"libEGL.so.1": "libegl1"}
    assert missing_libraries(WINDOW_LIBRARIES, load, "win32") == {}


def test_qt_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_probe", lambda code: (1, "ImportError: libglib-2.0.so.0"))
    (check,) = doctor.look_at_qt()
    assert check.status == FAIL
    assert "libglib-2.0.so.0" in check.text
    assert check.advice


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="newer Pythons bear Qt 6.12")
def test_qt_that_aborts_on_this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_probe", lambda code: (0, "6.12.0 6.12.0"))
    assert doctor.look_at_qt()[0].status == FAIL


def test_a_probe_that_fails_hangs_or_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._probe("print('first'); print('last')") == (0, "last")
    assert doctor._probe("raise OSError('no way')") == (1, "OSError: no way")
    code, text = doctor._probe("import os; os.abort()")
    assert code != 0
    assert text.startswith("ended with code")
    monkeypatch.setattr(doctor, "_PROBE_TIMEOUT_S", 0.1)
    assert doctor._probe("input") is not None
    assert doctor._probe("import threading; threading.Event().wait()") == (1, "no answer within 0.1 s")
    assert doctor._probe_here("print('here')") == (0, "here")
    assert doctor._probe_here("raise OSError('no way')") == (1, "no way")


# ---- the machine ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "platform", "found"),
    [
        ({}, "linux", ""),
        ({"DISPLAY": ":0"}, "linux", "X11 :0"),
        ({"DISPLAY": ":0", "WAYLAND_DISPLAY": "wayland-1"}, "linux", "Wayland wayland-1"),
        ({"DISPLAY": ""}, "linux", ""),
        ({}, "win32", "the desktop"),
        ({}, "darwin", "the desktop"),
    ],
)
def test_displays(environment: dict[str, str], platform: str, found: str) -> None:
    assert find_display(environment, platform) == found


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        ((0, "keyring.backends.SecretService|5.0|SecretService Keyring"), OK, "SecretService Keyring"),
        ((0, "keyring.backends.fail|0.0|fail Keyring"), WARN, "none on this machine"),
        ((1, "no answer within 30 s"), WARN, "cannot be asked: no answer within 30 s"),
    ],
)
def test_keyrings(answer: tuple[int, str], status: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_probe", lambda code: answer)
    check = doctor.look_at_keyring()
    assert (check.status, check.text) == (status, text)


@pytest.mark.skipif(sys.platform != "linux", reason="the badge is proven on Linux")
def test_a_worker_proves_its_badge() -> None:
    check = doctor.look_at_sandbox()
    assert check.status in (OK, WARN)
    assert check.text.split()[0] in ("isolated+", "isolated", "partial", "unprotected")
    assert "seccomp" in check.text or "no Landlock" in check.text


@pytest.mark.skipif(sys.platform != "linux", reason="the badge is proven on Linux")
def test_a_worker_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    assert "could not be started" in doctor.look_at_sandbox().text
    monkeypatch.setattr(sys, "executable", "/bin/true")
    check = doctor.look_at_sandbox()
    assert (check.status, check.text) == (FAIL, "a worker ended or was silent before it was locked down")


# ---- the profile ----------------------------------------------------------------------------------------------------


def test_a_profile_that_cannot_be_made(profile: Paths) -> None:
    profile.keys.rmdir()
    profile.keys.write_text("in the way")
    (check,) = doctor.look_at_profile(profile)
    assert check.status == FAIL
    assert "cannot be made" in check.text


@pytest.mark.parametrize(("free", "status"), [(10**8, FAIL), (10**9, WARN), (10**10, OK)])
def test_room_on_the_disk(free: int, status: str, profile: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**11, 10**11 - free, free))
    profile_check, disk = doctor.look_at_profile(profile)
    assert profile_check.status == OK
    assert disk.status == status


def test_a_wrong_configuration_is_shown_with_its_line(profile: Paths) -> None:
    assert doctor.look_at_config(profile).status == OK
    profile.config_file.write_text("enigne: {}\n")
    check = doctor.look_at_config(profile)
    assert check.status == FAIL
    assert "line 1: unknown key 'enigne'" in check.text


def steps(*values: float) -> Iterator[float]:
    yield from values


def test_clocks() -> None:
    now = 1_800_000_000.0
    assert doctor.look_at_clock(lambda: now, lambda: 5.0, 0).status in (OK, WARN)
    assert doctor.look_at_clock(lambda: 1000.0, lambda: 5.0, 0).status == FAIL
    wall = steps(now, now + 1, now + 1, now + 1)
    check = doctor.look_at_clock(lambda: next(wall), lambda: 5.0, 0)
    assert check.status == WARN
    assert "moved by +1000 ms" in check.text


@pytest.mark.parametrize(("synchronised", "status"), [(True, OK), (None, OK), (False, WARN)])
def test_ntp(synchronised: bool | None, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_ntp", lambda: synchronised)
    check = doctor.look_at_clock(lambda: 1_800_000_000.0, lambda: 5.0, 0)
    assert check.status == status
    assert ("synchronised" in check.text) == (synchronised is not None)


@pytest.mark.skipif(sys.platform != "linux", reason="adjtimex is Linux's")
def test_the_kernel_is_asked() -> None:
    assert doctor._ntp() in (True, False, None)


def test_an_engine_that_does_not_run(profile: Paths) -> None:
    engine, ports = doctor.look_at_engine(profile)
    assert engine == Check("engine", OK, "not running")
    assert ports.status == OK


def test_a_port_that_is_taken(profile: Paths) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        profile.config_file.write_text(f"engine:\n  link: {{endpoint: '{endpoint}'}}\n")
        _, check = doctor.look_at_engine(profile)
    assert check.status == FAIL
    assert f"{endpoint}: Address already in use" in check.text or os.name == "nt"
    assert "koc.yaml" in check.advice
