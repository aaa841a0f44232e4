"""What a machine lacks, in words that mend it; downloads that are whole or not used; where a system comes from."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from building import chroot, downloads, tools
from building.downloads import Pinned
from building.trouble import BuildError

from tests.unit.installer.conftest import Bench


def test_missing_programs_are_named_by_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None if name in ("import", "identify", "Xvfb") else f"/bin/{name}")
    needs = tools.programs(("Xvfb", "import", "identify", "strip"), "shows the window")
    assert [(need.name, list(need.packages)) for need in needs] == [
        ("xvfb", ["xvfb"]),
        ("imagemagick", ["imagemagick"]),
    ]
    assert needs[1].text == "import and identify, which shows the window"
    assert needs[1].advice.endswith("apt-get install imagemagick")


def test_too_little_space_is_a_need_also_for_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert tools.space(tmp_path / "a" / "b", 1) == []
    (need,) = tools.space(tmp_path / "a" / "b", 10**18)
    assert str(tmp_path) in need.text
    assert not need.can_fetch


def test_a_place_that_is_a_file_cannot_be_written(tmp_path: Path) -> None:
    assert tools.writable(tmp_path / "new" / "folder") == []
    (tmp_path / "file").touch()
    (need,) = tools.writable(tmp_path / "file")
    assert f"{tmp_path / 'file'} is a file" in need.text


@pytest.mark.skipif(os.name != "posix", reason="asks for root")
def test_who_is_not_root_is_told_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["installer/build.py", "ubuntu", "--test"])
    (need,) = tools.root("chroot needs")
    assert need.advice == f"Run it as root: sudo {sys.executable} installer/build.py ubuntu --test"
    assert not tools.can_install()


# ---- downloads ------------------------------------------------------------------------------------------------------

CONTENT = b"what was expected"
WANTED = Pinned("thing==1", "thing-1.whl", hashlib.sha256(CONTENT).hexdigest())


def bringing(build: Bench, content: bytes, name: str = WANTED.file) -> list[list[str]]:
    """Have a build's pip bring this; gives the commands that it is run with."""
    ran: list[list[str]] = []

    def run(command: list[str], **_options: Any) -> list[str]:
        ran.append(command)
        (Path(command[command.index("--dest") + 1]) / name).write_bytes(content)
        return []

    build.run = run  # type: ignore[method-assign,assignment]
    return ran


def test_a_download_is_kept_and_fetched_once(build: Bench) -> None:
    ran = bringing(build, CONTENT)
    for _ in range(2):
        assert downloads.fetched(build, WANTED).read_bytes() == CONTENT
    assert len(ran) == 1
    assert [path.name for path in downloads.cache_folder(build).iterdir()] == [WANTED.file]


def test_a_damaged_download_is_fetched_anew(build: Bench) -> None:
    bringing(build, CONTENT)
    downloads.fetched(build, WANTED).write_bytes(b"half")
    assert downloads.fetched(build, WANTED).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [(b"another", WANTED.file, "is not what was expected"), (CONTENT, "thing-2.whl", "brought thing-2.whl")],
)
def test_what_is_not_as_pinned_is_never_used(build: Bench, content: bytes, name: str, said: str) -> None:
    bringing(build, content, name)
    with pytest.raises(BuildError, match=said):
        downloads.fetched(build, WANTED)
    assert list(downloads.cache_folder(build).iterdir()) == []


def test_nothing_of_a_source_is_run_that_is_not_as_pinned(build: Bench, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    script = f"import pathlib\npathlib.Path({str(ran)!r}).touch()\n".encode()
    with tarfile.open(tmp_path / "thing-1.tar.gz", "w:gz") as archive:
        for name, content in {"thing-1/setup.py": script, "thing-1/PKG-INFO": b"Name: thing\nVersion: 1\n"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    local = ("--no-index", "--find-links", str(tmp_path), "--no-build-isolation")
    with pytest.raises(BuildError, match=r"thing-1\.tar\.gz is not what was expected"):
        downloads.fetched(build, Pinned("thing==1", "thing-1.tar.gz", hashlib.sha256(CONTENT).hexdigest(), local))
    assert not ran.exists()
    assert list(downloads.cache_folder(build).iterdir()) == []


# ---- a system of its own --------------------------------------------------------------------------------------------


def test_a_system_comes_from_the_mirror_of_this_machine(build: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["http://other/ stable main", "http://mirror/debian/ own-updates main", "http://mirror/debian/ own main"]
    build.run = lambda *_words, **_options: lines  # type: ignore[method-assign,assignment]
    monkeypatch.setattr(chroot, "codename", lambda: "own")
    assert chroot.mirror(build) == "http://mirror/debian/"
    monkeypatch.setattr(chroot, "codename", lambda: "unheard-of")
    with pytest.raises(BuildError, match="apt knows no source of unheard-of main"):
        chroot.mirror(build)
