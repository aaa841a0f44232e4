"""``koc doctor``: each look at a machine that is well, and at one that is not."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from koc_qt.adapters.elf_libraries import missing_of_folder, needed_libraries
from koc_qt.adapters.qt_libraries import ENGINE_LIBRARIES, WINDOW_LIBRARIES, missing_libraries
from koc_qt.cli import doctor, doctor_check, doctor_clock, doctor_machine, doctor_profile, doctor_program
from koc_qt.cli.display import find_display
from koc_qt.cli.doctor_check import FAIL, OK, WARN, Check
from koc_qt.domain.state import TradingMode
from koc_qt.link import client
from koc_qt.paths import Paths


def options(**set_: bool) -> argparse.Namespace:
    return argparse.Namespace(**{"json": False, "imports": False, "probe": None, **set_})


@pytest.mark.usefixtures("profile")
def test_the_whole_report(capsys: pytest.CaptureFixture[str]) -> None:
    code = doctor.run(options(json=True))
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
    assert doctor.run(options()) == 1
    assert capsys.readouterr().out.splitlines() == [
        " ok   one          fine",
        "warn  two          hm",
        "                   do this",
        "FAIL  three        bad",
        "                   do that",
    ]
    monkeypatch.setattr(doctor, "_looks", lambda: [lambda: found[:2]])
    assert doctor.run(options()) == 0


# ---- the program ----------------------------------------------------------------------------------------------------


def test_libraries_are_held_against_their_pins(tmp_path: Path) -> None:
    from importlib.metadata import version

    lock = tmp_path / "requirements.txt"
    lock.write_text(
        f"# made by a tool\nmsgspec=={version('msgspec')} \\\n    --hash=sha256:00\n"
        f"numpy==0.1 ; python_full_version < '3'\nnumpy=={version('numpy')} ; python_full_version >= '3'\n"
        "no-such-thing==1.0 ; sys_platform == 'other'\n"
    )
    assert doctor_program.look_at_libraries(lock) == Check("libraries", OK, "2 packages, all as pinned")
    lock.write_text(lock.read_text() + "pytest==0.0.1\n")
    check = doctor_program.look_at_libraries(lock)
    assert check.status == WARN
    assert f"pytest {version('pytest')} instead of 0.0.1" in check.text
    lock.write_text(lock.read_text() + "no-such-thing==1.0\n")
    check = doctor_program.look_at_libraries(lock)
    assert check.status == FAIL
    assert "no-such-thing" in check.text
    assert "bootstrap.py" in check.advice
    assert doctor_program.look_at_libraries(tmp_path / "none").status == OK
    assert doctor_program.look_at_libraries(tmp_path).status == WARN


def test_missing_libraries_are_named_with_their_packages() -> None:
    def load(soname: str) -> None:
        if soname in ("libglib-2.0.so.0", "libEGL.so.1"):
            raise OSError(soname)

    assert missing_libraries(ENGINE_LIBRARIES, load, "linux") == {"libglib-2.0.so.0": "libglib2.0-0"}
    assert missing_libraries(WINDOW_LIBRARIES, load, "linux") == {"libEGL.so.1": "libegl1"}
    assert missing_libraries(WINDOW_LIBRARIES, load, "win32") == {}


def test_qt_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_program, "ask_elsewhere", lambda name: (1, "ImportError: libglib-2.0.so.0"))
    (check,) = doctor_program.look_at_qt()
    assert check.status == FAIL
    assert "libglib-2.0.so.0" in check.text
    assert check.advice


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="newer Pythons bear Qt 6.12")
def test_qt_that_aborts_on_this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_program, "ask_elsewhere", lambda name: (0, "6.12.0 6.12.0"))
    assert doctor_program.look_at_qt()[0].status == FAIL


@pytest.mark.usefixtures("profile")
def test_what_may_hang_or_abort_is_asked_in_a_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = doctor_check.ask_elsewhere("keyring")
    assert code == 0
    assert text.count("|") == 2
    monkeypatch.setattr(doctor_check, "PROBE_TIMEOUT_S", 0.01)
    assert doctor_check.ask_elsewhere("qt") == (1, "no answer within 0.01 s")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert doctor_check.ask_elsewhere("qt")[0] == 1

    def fail() -> str:
        raise OSError("no way")

    monkeypatch.setitem(doctor_check._PROBES, "qt", fail)
    assert doctor.run(argparse.Namespace(probe="qt")) == 1
    assert capsys.readouterr().out == "OSError: no way\n"
    monkeypatch.setitem(doctor_check._PROBES, "qt", lambda: "here")
    assert doctor.run(argparse.Namespace(probe="qt")) == 0
    assert capsys.readouterr().out == "here\n"


def test_an_installed_copy_is_not_told_of_the_source_tree(
    monkeypatch: pytest.MonkeyPatch, profile: Paths, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(doctor_program, "ask_elsewhere", lambda name: (1, "ImportError: x"))
    assert "bootstrap" not in doctor_program.look_at_qt()[0].advice
    assert "Install K.O.C. again" in doctor_program.look_at_qt()[0].advice
    (tmp_path / "lock").write_text("no-such-thing==1.0\n")
    assert doctor_program.look_at_libraries(tmp_path / "lock").status == OK
    assert "installed copy" in doctor_program.look_at_python().text
    if sys.platform == "linux":
        monkeypatch.setattr(sys, "executable", "/bin/true")
        check = doctor_machine.look_at_sandbox()
        assert check.status == FAIL
        assert "bootstrap" not in check.advice


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux programs")
def test_every_library_that_a_bundle_lacks_is_named(tmp_path: Path) -> None:
    import _ssl
    import shutil

    library = Path(_ssl.__file__ if hasattr(_ssl, "__file__") else sys.executable)
    assert any(name.startswith("libc.so") for name in needed_libraries(library))
    shutil.copy(library, tmp_path / "part.so")
    (tmp_path / "broken.so").write_bytes(b"\x7fELF\x02\x01" + b"\xff" * 40)
    (tmp_path / "text.so").write_text("hello")
    wanted = set(needed_libraries(library))

    def none(soname: str) -> None:
        raise OSError(soname)

    assert set(missing_of_folder(tmp_path, none)) == wanted

    def without_expat(soname: str) -> None:
        if soname.startswith("libc.so"):
            raise OSError("libexpat.so.1: cannot open shared object file: No such file or directory")

    (libc,) = [soname for soname in wanted if soname.startswith("libc.so")]
    assert missing_of_folder(tmp_path, without_expat) == {"libexpat.so.1": libc}, "what is missed in turn is named"
    for soname in wanted:
        (tmp_path / soname).write_bytes(b"")
    assert missing_of_folder(tmp_path, none) == {}
    for soname in wanted:
        (tmp_path / soname).unlink()
    assert missing_of_folder(tmp_path, lambda soname: None) == {}
    assert doctor_program.look_at_system_libraries(None) == []


def test_a_missing_library_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from koc_qt.adapters import elf_libraries

    monkeypatch.setattr(sys, "platform", "linux")
    lacks = {"libEGL.so.1": "libqxcb.so", "libodd.so.3": "libarrow.so"}
    monkeypatch.setattr(elf_libraries, "missing_of_folder", lambda folder: lacks)
    (check,) = doctor_program.look_at_system_libraries(tmp_path)
    assert check.status == WARN
    assert "libEGL.so.1 (for libqxcb.so)" in check.text
    assert "apt-get install libegl1" in check.advice
    assert "libodd.so.3" in check.advice


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
        (
            (0, "keyring.backends.SecretService|5.0|SecretService Keyring"),
            OK,
            "SecretService Keyring (keyring.backends.SecretService)",
        ),
        ((0, "keyring.backends.fail|0.0|fail Keyring"), WARN, "none on this machine"),
        ((1, "no answer within 30 s"), WARN, "cannot be asked: no answer within 30 s"),
    ],
)
def test_keyrings(answer: tuple[int, str], status: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine, "ask_elsewhere", lambda name: answer)
    check = doctor_machine.look_at_keyring({})
    assert (check.status, check.text) == (status, text)


@pytest.mark.parametrize("answer", [(0, "keyring.backends.fail|0.0|fail Keyring"), (1, "no answer within 30 s")])
def test_keys_of_a_container_are_files(
    answer: tuple[int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_machine, "ask_elsewhere", lambda name: answer)
    folder = tmp_path / "secrets"
    environment = {"KOC_DOCKER": "1", "KOC_SECRETS_FOLDER": str(folder)}
    check = doctor_machine.look_at_keyring(environment)
    assert (check.status, str(folder) in check.advice) == (WARN, True)
    folder.mkdir()
    check = doctor_machine.look_at_keyring(environment)
    assert (check.status, str(folder) in check.text) == (OK, True)
    assert "/run/secrets" in doctor_machine.look_at_keyring({"KOC_DOCKER": "1"}).text


@pytest.mark.parametrize(
    ("environment", "platform", "words"),
    [
        ({"XDG_CURRENT_DESKTOP": "ubuntu:GNOME", "DBUS_SESSION_BUS_ADDRESS": "x"}, "linux", "install gnome-keyring"),
        ({"XDG_CURRENT_DESKTOP": "KDE", "DBUS_SESSION_BUS_ADDRESS": "x"}, "linux", "install kwalletmanager"),
        ({"XDG_CURRENT_DESKTOP": "LXQt", "DBUS_SESSION_BUS_ADDRESS": "x"}, "linux", "libpam-gnome-keyring"),
        ({}, "win32", "log in as"),
    ],
)
def test_each_desktop_has_its_keyring(environment: dict[str, str], platform: str, words: str) -> None:
    assert words in doctor_machine.keyring_advice(environment, platform)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux says so")
def test_graphics(tmp_path: Path) -> None:
    look = doctor_machine.look_at_graphics
    assert look({}, tmp_path) == []
    (check,) = look({"DISPLAY": ":0"}, tmp_path)
    assert check.status == OK
    assert "x11; no graphics card" in check.text
    (tmp_path / "renderD128").write_text("")
    (check,) = look({"WAYLAND_DISPLAY": "wayland-0", "SSH_CONNECTION": "x"}, tmp_path)
    assert check.text.startswith("wayland; a graphics card is there; over SSH")
    (check,) = look({"DISPLAY": ":0", "LIBGL_ALWAYS_SOFTWARE": "1", "QT_QPA_PLATFORM": "xcb"}, tmp_path)
    assert "QT_QPA_PLATFORM=xcb; no graphics card" in check.text


@pytest.mark.skipif(sys.platform != "linux", reason="the badge is proven on Linux")
def test_a_worker_proves_its_badge() -> None:
    check = doctor_machine.look_at_sandbox()
    assert check.status in (OK, WARN)
    assert check.text.split()[0] in ("isolated+", "isolated", "partial", "unprotected")
    assert "seccomp" in check.text or "no Landlock" in check.text


@pytest.mark.skipif(sys.platform != "linux", reason="the badge is proven on Linux")
def test_a_worker_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    assert "could not be started" in doctor_machine.look_at_sandbox().text
    monkeypatch.setattr(sys, "executable", "/bin/true")
    check = doctor_machine.look_at_sandbox()
    assert (check.status, check.text) == (FAIL, "a worker ended or was silent before it was locked down")


# ---- the profile ----------------------------------------------------------------------------------------------------


def test_a_profile_that_cannot_be_made(profile: Paths) -> None:
    profile.keys.rmdir()
    profile.keys.write_text("in the way")
    (check,) = doctor_profile.look_at_profile(profile)
    assert check.status == FAIL
    assert "cannot be made" in check.text


@pytest.mark.parametrize(("free", "status"), [(10**8, FAIL), (10**9, WARN), (10**10, OK)])
def test_room_on_the_disk(free: int, status: str, profile: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**11, 10**11 - free, free))
    profile_check, disk = doctor_profile.look_at_profile(profile)
    assert profile_check.status == OK
    assert disk.status == status


def test_a_disk_without_room_for_files() -> None:
    assert doctor_profile.look_at_disk(10**10, 5).status == FAIL
    assert doctor_profile.look_at_disk(10**10, None).status == OK


def test_a_wrong_configuration_is_shown_with_its_line(profile: Paths) -> None:
    assert doctor_profile.look_at_config(profile).status == OK
    profile.config_file.write_text("enigne: {}\n")
    check = doctor_profile.look_at_config(profile)
    assert check.status == FAIL
    assert "line 1: unknown key 'enigne'" in check.text


def steps(*values: float) -> Iterator[float]:
    yield from values


def test_clocks() -> None:
    now = 1_800_000_000.0
    assert doctor_clock.look_at_clock(lambda: now, lambda: 5.0, 0).status in (OK, WARN)
    assert doctor_clock.look_at_clock(lambda: 1000.0, lambda: 5.0, 0).status == FAIL
    wall = steps(now, now + 1, now + 1, now + 1)
    check = doctor_clock.look_at_clock(lambda: next(wall), lambda: 5.0, 0)
    assert check.status == WARN
    assert "moved by +1000 ms" in check.text


@pytest.mark.parametrize(("synchronised", "status"), [(True, OK), (None, OK), (False, WARN)])
def test_ntp(synchronised: bool | None, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_clock, "is_synchronised", lambda: synchronised)
    check = doctor_clock.look_at_clock(lambda: 1_800_000_000.0, lambda: 5.0, 0)
    assert check.status == status
    assert ("synchronised" in check.text) == (synchronised is not None)


@pytest.mark.skipif(sys.platform != "linux", reason="adjtimex is Linux's")
def test_the_kernel_is_asked() -> None:
    assert doctor_clock.is_synchronised() in (True, False, None)


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ({"NTP": "no", "CanNTP": "yes"}, "set-ntp true"),
        ({"NTP": "yes", "CanNTP": "yes"}, "can its servers be reached"),
        ({"NTP": "no", "CanNTP": "no"}, "systemd-timesyncd"),
        ({}, "set-ntp true"),
    ],
)
def test_what_mends_a_clock_that_nothing_keeps(
    service: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_clock, "is_synchronised", lambda: False)
    monkeypatch.setattr(doctor_clock, "time_service", lambda: service)
    assert words in doctor_clock.look_at_clock(lambda: 1_800_000_000.0, lambda: 5.0, 0).advice


def test_the_time_service_is_read_where_there_is_one() -> None:
    def none(command: list[str]) -> str:
        raise FileNotFoundError(command[0])

    assert doctor_clock.time_service(none) == {}
    assert doctor_clock.time_service(lambda _: "NTP=yes\nTimezone=Etc/UTC\n\n")["NTP"] == "yes"


def test_a_clock_behind_a_venues(profile: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor_clock.look_at_venue_times(profile) == [], "no engine runs"

    class Client:
        snapshot = SimpleNamespace(
            accounts=[SimpleNamespace(account_id="real", mode=TradingMode.LIVE),
                      SimpleNamespace(account_id="sim", mode=TradingMode.SIMULATED)],
            fills=[SimpleNamespace(account_id="real", time_ns=1_800_000_000 * 10**9),
                   SimpleNamespace(account_id="sim", time_ns=1_900_000_000 * 10**9)],
        )  # fmt: skip

    monkeypatch.setattr(client, "connect", lambda *_, **__: contextlib.nullcontext(Client()))
    (check,) = doctor_clock.look_at_venue_times(profile, lambda: 1_800_000_001.0)
    assert check.status == OK
    (check,) = doctor_clock.look_at_venue_times(profile, lambda: 1_799_999_990.0)
    assert check.status == WARN
    assert "10.0 s behind" in check.text


def test_an_engine_that_does_not_run(profile: Paths) -> None:
    engine, ports = doctor_profile.look_at_engine(profile)
    assert engine == Check("engine", OK, "not running")
    assert ports.status == OK


def test_a_port_that_is_taken(profile: Paths) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        profile.config_file.write_text(f"engine:\n  link: {{endpoint: '{endpoint}'}}\n")
        _, check = doctor_profile.look_at_engine(profile)
    assert check.status == FAIL
    assert f"{endpoint}: Address already in use" in check.text or os.name == "nt"
    assert "koc.yaml" in check.advice
