"""The installer for Windows: what may be in it, how it is packed, and what its script promises."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from building import bundle, windows, windows_proof, windows_python, windows_wine
from building.stages import Stage
from building.trouble import BuildError

ROOT = Path(__file__).parents[3]
SCRIPT = (ROOT / "installer" / "windows" / "koc.nsi").read_text(encoding="utf-8")


def make_icon() -> Any:
    spec = importlib.util.spec_from_file_location("make_icon", ROOT / "installer" / "windows" / "make_icon.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def frozen(tmp_path: Path) -> Path:
    folder = tmp_path / "koc"
    (folder / "_internal" / "PySide6").mkdir(parents=True)
    for name in ("koc.exe", "_internal/LICENSE", "_internal/PySide6/MSVCP140.dll", "_internal/vcruntime140.dll"):
        (folder / name).write_bytes(b"old")
    return folder


# ---- the bundle -----------------------------------------------------------------------------------------------------


def test_the_c_runtime_is_of_one_version(frozen: Path) -> None:
    own = frozen / "_internal" / "msvcp140-0123.dll"  # a package's own, under a name that nobody else asks for
    own.write_bytes(b"its own")
    windows.unify_runtime(frozen, {"msvcp140.dll": b"new", "vcruntime140.dll": b"new", "vcomp140.dll": b"new"})
    assert (frozen / "_internal/PySide6/MSVCP140.dll").read_bytes() == b"new"
    assert (frozen / "_internal/vcruntime140.dll").read_bytes() == b"new"
    assert own.read_bytes() == b"its own"
    assert not list(frozen.rglob("vcomp140.dll"))


@pytest.mark.parametrize("name", ["ucrtbase.dll", "api-ms-win-core-file-l1-1-0.dll", "ICUUC.dll"])
def test_no_stand_in_is_packed(frozen: Path, name: str) -> None:
    windows.check_files(frozen)
    (frozen / "_internal" / name).touch()
    with pytest.raises(BuildError, match=name):
        windows.check_files(frozen)


def test_paths_that_windows_cannot_have_are_refused(frozen: Path) -> None:
    deep = frozen / "_internal" / "a" / ("b" * (windows.LONGEST - len("_internal/a/")))
    deep.parent.mkdir()
    deep.touch()
    windows.check_files(frozen)
    deep.rename(f"{deep}b")
    with pytest.raises(BuildError, match="too long"):
        windows.check_files(frozen)


def test_names_that_are_one_on_windows_are_refused(frozen: Path) -> None:
    (frozen / "KOC.exe").touch()
    with pytest.raises(BuildError, match="the same file on Windows"):
        windows.check_files(frozen)


# ---- the stages -----------------------------------------------------------------------------------------------------


def named(stages: list[Stage]) -> list[str]:
    return [stage.name for stage in stages]


def test_a_build_on_linux_freezes_under_wine(make_build: Callable[..., Any]) -> None:
    build = make_build("windows")
    assert named(windows.stages(build, False)) == [
        *("system-trixie-wine", "prefix", "python", "packages", "environment", "freeze", "pack")
    ]
    proof = ["older", "install", "use", "upgrade", "remove"]
    assert named(windows.stages(build, True))[-5:] == proof
    build.given_bundle = build.root / "elsewhere"  # one for Linux: it is not this target's
    assert "freeze" in named(windows.stages(build, False))


def test_a_bundle_for_windows_that_is_given_is_packed_as_it_is(make_build: Callable[..., Any], frozen: Path) -> None:
    build = make_build("windows")
    build.given_bundle = frozen
    assert windows.frozen(build) == frozen
    assert named(windows.stages(build, False)) == ["system-trixie-wine", "prefix", "python", "pack"]


def test_windows_itself_needs_no_wine(make_build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    build = make_build("windows")
    monkeypatch.setattr(sys, "platform", "win32")
    assert named(windows.stages(build, False)) == [*named(bundle.stages(build)), "pack"]
    assert windows.frozen(build) == build.bundle
    monkeypatch.setattr("building.tools.shutil.which", lambda _name: None)
    assert {need.name for need in windows.needs(build, True)} >= {"nsis", "wine"}


def test_downloads_are_pinned() -> None:
    for each in (windows_python.PYTHON, windows_python.UV, windows_python.RUNTIME, windows_wine.C_LIBRARY):
        assert re.fullmatch("[0-9a-f]{64}", each.sha256)
        assert "==" in each.requirement


@pytest.mark.skipif(not shutil.which("makensis"), reason="NSIS is not installed")
def test_an_installer_is_packed(make_build: Callable[..., Any], frozen: Path) -> None:
    build = make_build("windows")
    build.given_bundle = frozen
    (frozen / "licences").mkdir()
    build.work.mkdir(parents=True)
    path = build.work / "setup.exe"
    windows.pack(build, path, "1.2.3", is_quick=True)
    assert path.read_bytes()[:2] == b"MZ"
    assert "1.2.3".encode("utf-16-le") in path.read_bytes()


# ---- the script -----------------------------------------------------------------------------------------------------


def test_the_installer_asks_for_no_administrator_and_kills_nothing() -> None:
    assert "RequestExecutionLevel user" in SCRIPT
    assert not re.search(r"HKLM|HKCR|\$PROGRAMFILES", SCRIPT)
    assert "taskkill" in SCRIPT
    assert not re.search(r"taskkill[^'\n]*/F", SCRIPT)


def test_what_is_deleted_whole_is_the_programs_own() -> None:
    deleted = set(re.findall(r'RMDir /r "([^"]+)"', SCRIPT))
    own = {rf"$INSTDIR\{name}" for name in ("koc-new", "koc-old", "_internal", "licences")}
    assert deleted == own | {r"$LOCALAPPDATA\koc"}
    asked = SCRIPT[: SCRIPT.index(r'RMDir /r "$LOCALAPPDATA\koc"')]
    assert asked.rstrip().splitlines()[-1].strip() == "${If} $DeleteData == 1"


def test_python_files_are_opened_by_what_opened_them() -> None:
    written = re.findall(r'WriteReg\w+ HKCU "([^"]+)" "([^"]*)"', SCRIPT)
    assert [value for key, value in written if key.startswith(r"${CLASSES}\.py")] == ["${PROGID}"]


def test_what_is_written_to_the_registry_is_removed() -> None:
    removed = re.findall(r'DeleteReg(?:Key|Value) HKCU "([^"]+)"', SCRIPT)
    for key in re.findall(r'WriteReg\w+ HKCU "([^"]+)"', SCRIPT):
        assert any(key == each or key.startswith(rf"{each}\\") for each in removed) or key.startswith(
            tuple(rf"{each}" for each in removed)
        )


def test_every_switch_is_documented() -> None:
    head = SCRIPT[: SCRIPT.index("Unicode true")]
    for switch in re.findall(r'GetOptions\} \$R0 "(/[A-Z]+)="', SCRIPT):
        assert f"{switch}=" in head


def test_the_icon_is_what_windows_reads() -> None:
    made = make_icon().icon([(16, b"first"), (256, b"second!")])
    assert struct.unpack_from("<HHH", made) == (0, 1, 2)
    *_, size, offset = struct.unpack_from("<BBBBHHII", made, 6 + 16)
    assert struct.unpack_from("<B", made, 6 + 16) == (0,)  # stands for 256
    assert made[offset : offset + size] == b"second!"


def test_the_icon_that_is_packed_is_whole() -> None:
    content = (ROOT / "installer" / "windows" / "koc.ico").read_bytes()
    _, kind, number = struct.unpack_from("<HHH", content)
    assert (kind, number) == (1, len(make_icon().SIZES))
    for index in range(number):
        *_, size, offset = struct.unpack_from("<BBBBHHII", content, 6 + 16 * index)
        assert content[offset : offset + 8] == b"\x89PNG\r\n\x1a\n"
        assert offset + size <= len(content)


# ---- Wine -----------------------------------------------------------------------------------------------------------


class Recorded:
    """Counts what is run inside."""

    def __init__(self) -> None:
        self.commands: list[tuple[list[str], str, dict[str, str]]] = []

    def run(self, command: list[str], *, user: str = "root", env: dict[str, str] | None = None, **_: Any) -> list[str]:
        self.commands.append((list(command), user, dict(env or {})))
        return []


def test_every_windows_is_ended_in_order_so_that_none_begins_without_its_screen(
    make_build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A window that is opened in a Windows begun without a screen shows nothing, and says that it did."""
    inside = Recorded()

    @contextmanager
    def held(*_: Any) -> Iterator[Recorded]:
        yield inside

    monkeypatch.setattr("building.chroot.inside", held)
    build = make_build("windows")
    with contextlib.suppress(BuildError), windows_wine.windows(build, tmp_path, None, "person", ":7") as wine:
        wine.run(["koc.exe", "status"])
        raise BuildError("of no use")
    chown, status, *ending = inside.commands
    assert chown[0] == ["chown", "-R", "person:person", "/prefix"]
    assert status[:2] == (["wine", "koc.exe", "status"], "person")
    assert status[2]["DISPLAY"] == ":7"
    assert [command for command, _, _ in ending] == [["wineserver", "-k"], ["wineserver", "-w"]]


def test_paths_are_named_as_windows_does() -> None:
    assert windows_wine.on_z("/new/koc.exe") == r"Z:\new\koc.exe"
    assert windows_wine.on_c("users/a/koc.exe") == r"C:\users\a\koc.exe"
    assert windows_proof.PROGRAM.endswith("/Programs/KOC")
