"""`installer/build.py` as a command: its events, its exit codes, and how it is stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conditions import wait_until
from tests.unit.installer.conftest import ROOT

SCRIPT = ROOT / "installer" / "build.py"
needs_posix = pytest.mark.skipif(os.name != "posix", reason="sends signals, and runs a shell")
# a target whose only stage says `ready` and then takes a minute
SLOW = f"""
import sys
sys.path.insert(0, {str(SCRIPT.parent)!r})
import build
from building.stages import Stage

class Target:
    def __init__(self, name): pass
    def needs(self, build, test): return []
    def stages(self, build, test): return [Stage("wait", "Wait", wait, 60.0)]

def wait(build):
    with build.artefact("koc.deb") as path:
        path.write_text("half")
        build.run(["sh", "-c", "echo ready; exec sleep 60"])

build.Target = Target
sys.exit(build.main(sys.argv[1:]))
"""
# a target that makes a file of few words
QUICK = SLOW.replace('path.write_text("half")', 'path.write_text("whole")').replace("sleep 60", "true")


def events_of(said: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.splitlines()]


def places(folder: Path) -> list[str]:
    return ["--work", str(folder / "wörk"), "--out", str(folder / "my dist")]


@pytest.fixture
def slow(tmp_path: Path) -> subprocess.Popen[str]:
    """Give a build that waits in its only stage."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, "ubuntu", "--json", *places(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while (line := process.stdout.readline()) and json.loads(line).get("text") != "ready":
        pass
    assert line, "it ended before it was ready"
    return process


def test_a_check_tells_what_is_missing_as_events_and_does_nothing(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "docker", "--check", "--json", "--bundle", tmp_path / "none", *places(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    *needs, end = events_of(result.stdout)
    assert result.returncode == 3, result.stderr
    assert end == {"event": "end", "ok": False}
    assert {need["event"] for need in needs} == {"need"}
    (bundle,) = (need for need in needs if need["name"] == "bundle")
    assert set(bundle) == {"event", "target", "name", "text", "advice", "can_fetch"}
    assert list(tmp_path.iterdir()) == []


@needs_posix
@pytest.mark.parametrize("way", ["interrupt", "terminate", "word"])
def test_a_build_is_stopped_in_order(slow: subprocess.Popen[str], tmp_path: Path, way: str) -> None:
    if way == "word":  # a program on Windows has no signal to send
        assert slow.stdin is not None
        slow.stdin.write("cancel\n")
        slow.stdin.flush()
    else:
        slow.send_signal(signal.SIGINT if way == "interrupt" else signal.SIGTERM)
    *_, failed, end = events_of(slow.communicate(timeout=30)[0])
    assert (failed["event"], failed["text"]) == ("failed", "The build was stopped.")
    assert end == {"event": "end", "ok": False}
    assert slow.returncode == 130
    assert list((tmp_path / "my dist").iterdir()) == []


@needs_posix
def test_a_build_that_nobody_hears_any_more_ends(slow: subprocess.Popen[str], tmp_path: Path) -> None:
    assert slow.stdout is not None
    slow.stdout.close()
    wait_until(lambda: slow.poll() is not None, what="the build to end")
    assert slow.returncode == 130
    assert slow.stdin is not None
    slow.stdin.close()
    assert list((tmp_path / "my dist").iterdir()) == []


@needs_posix
def test_a_second_build_in_the_same_place_is_refused(slow: subprocess.Popen[str], tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "koc").touch()
    command = [sys.executable, SCRIPT, "docker", "--json", "--bundle", tmp_path / "bundle", *places(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    failed, end = events_of(result.stdout)
    slow.send_signal(signal.SIGTERM)
    slow.communicate(timeout=30)
    assert result.returncode == 1
    assert failed["text"] == f"another build of this checkout runs (process {slow.pid})"
    assert end["ok"] is False


def test_a_target_that_does_not_exist_is_a_wrong_command_line() -> None:
    command = [sys.executable, SCRIPT, "amiga"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert "ubuntu" in result.stderr


@needs_posix
@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
def test_what_is_made_is_signed_where_a_key_is_named_and_is_kept_where_that_fails(tmp_path: Path) -> None:
    def build(*options: object) -> tuple[int, list[dict[str, Any]]]:
        command = [sys.executable, "-c", QUICK, "ubuntu", "--json", *places(tmp_path), *map(str, options)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, events_of(done.stdout)

    key, public = tmp_path / "private.pem", tmp_path / "public.pem"
    code, events = build("--ed25519", key)
    (failed,) = (each for each in events if each["event"] == "failed")
    assert (code, failed["stage"]) == (1, "sign")
    file = tmp_path / "my dist" / "koc.deb"
    signature = file.with_name("koc.deb.sig")
    assert sorted(file.parent.iterdir()) == [file, file.with_name("koc.deb.sha256")]

    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True)
    assert build("--ed25519", key)[0] == 0
    verify = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", public, "-sigfile", signature, "-in", file]
    assert subprocess.run(verify, capture_output=True, check=False).returncode == 0

    assert build("--fresh")[0] == 0
    assert not signature.exists()  # it was of another file
