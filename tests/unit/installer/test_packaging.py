"""What the Linux installers are made of: the package's files, its manual page, the Dockerfile, the report."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from building import appimage, debian, docker, manual, report
from building.dockerfile import instructions
from building.smoke import Proof, need, parsed
from building.stages import Stage, run_stages
from building.trouble import BuildError

from koc_qt.adapters.qt_libraries import ENGINE_LIBRARIES, WINDOW_LIBRARIES
from koc_qt.cli.main import build_parser
from tests.unit.installer.conftest import ROOT, Bench

LINUX = ROOT / "installer" / "linux"
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="runs the package's script")


def test_the_package_depends_on_every_library_that_the_program_does_not_bring() -> None:
    named = {name for entry in debian.depends(ROOT) for name in entry.replace("|", " ").split()}
    assert {*ENGINE_LIBRARIES.values(), *WINDOW_LIBRARIES.values()} <= named
    assert "libc6 (>= 2.35)" in debian.depends(ROOT)


def test_the_container_installs_what_an_engine_needs_and_nothing_for_windows() -> None:
    packages = set(docker.packages(ROOT))
    assert set(ENGINE_LIBRARIES.values()) <= packages
    assert packages.isdisjoint({"libgl1", "libx11-6", "libxcb1"})


def test_the_menu_entry_opens_files_and_names_types_that_exist() -> None:
    entry = configparser.ConfigParser(interpolation=None)
    entry.optionxform = str  # type: ignore[assignment,method-assign]
    entry.read(LINUX / "koc.desktop", encoding="utf-8")
    desktop = entry["Desktop Entry"]
    assert (desktop["Exec"], desktop["Icon"], desktop["Terminal"]) == ("koc %F", "koc", "false")
    mime = ET.parse(LINUX / "koc.mime.xml").getroot()
    space = "{http://www.freedesktop.org/standards/shared-mime-info}"
    ours = {each.attrib["type"] for each in mime.iter(f"{space}mime-type")}
    assert ours < set(desktop["MimeType"].strip(";").split(";"))
    # every Python file would be ours by its name otherwise
    assert [each.attrib["pattern"] for each in mime.iter(f"{space}glob")] == ["*.koc.py"]


def test_the_manual_page_has_every_command_and_no_request_by_accident() -> None:
    parser, commands = build_parser()

    def ask(words: list[str]) -> str:
        return (commands[words[0]] if words else parser).format_help()

    page = manual.manual(ask, "1.2.3", "2026-01-02")
    assert page.startswith('.TH KOC 1 "2026-01-02" "K.O.C. 1.2.3"')
    for name in commands:
        assert f".SS koc {name}\n" in page
    known = (".TH", ".SH", ".SS", ".TP", ".nf", ".fi")
    assert all(line.startswith(known) for line in page.splitlines() if line.startswith((".", "'")))


def test_a_manual_page_shields_what_roff_would_read() -> None:
    asked = {"": "usage: koc\n\n.not a request\n'nor this\\\n\ncommands:\n    run   x\n", "run": "usage: koc run\n"}
    page = manual.manual(lambda words: asked[" ".join(words)], "1", "2026-01-02")
    assert "\\&.not a request\n\\&'nor this\\e\n" in page


def test_a_program_without_commands_makes_no_manual_page() -> None:
    with pytest.raises(BuildError, match="names no commands"):
        manual.manual(lambda _words: "usage: koc\n", "1", "2026-01-02")


def test_the_dockerfile_ends_as_an_ordinary_user_with_a_health_check_and_its_volume() -> None:
    found = instructions((ROOT / "installer" / "docker" / "Dockerfile").read_text())
    words = dict(found)
    assert words["USER"] == "koc"
    assert words["VOLUME"] == "/data"
    assert "KOC_DOCKER=1" in words["ENV"]
    assert "koc status" in words["HEALTHCHECK"]
    assert json.loads(words["ENTRYPOINT"]) + json.loads(words["CMD"]) == ["koc", "engine", "--no-live"]
    order = [word for word, _ in found]
    assert order.index("USER") > max(index for index, word in enumerate(order) if word in ("RUN", "COPY"))
    assert all("\\" not in rest for _, rest in found)


def test_the_size_of_a_program_is_read_from_its_own_headers() -> None:
    head = bytearray(64)
    head[:5] = b"\x7fELF\x02"
    head[0x28:0x30] = (1000).to_bytes(8, "little")
    head[0x3A:0x3E] = (64).to_bytes(2, "little") + (3).to_bytes(2, "little")
    assert appimage.elf_size(bytes(head)) == 1192
    with pytest.raises(BuildError, match="no 64-bit program"):
        appimage.elf_size(b"MZ")


# ---- before files are replaced --------------------------------------------------------------------------------------


@pytest.fixture
def prerm(tmp_path: Path) -> list[str]:
    """Give the package's script, for a program of the test's own: a copy of a shell that plays K.O.C."""
    program = tmp_path / "koc"
    program.write_bytes(Path("/bin/sh").resolve().read_bytes())
    program.chmod(0o755)
    script = tmp_path / "prerm"
    text = (LINUX / "prerm").read_text()
    assert "PROGRAM=/opt/koc/koc\n" in text
    script.write_text(text.replace("PROGRAM=/opt/koc/koc\n", f"PROGRAM='{program}'\n"))
    return ["sh", str(script)]


def played(folder: Path, traps: str) -> subprocess.Popen[bytes]:
    """Start a program whose first argument says that it is an engine, and wait until it is ready."""
    script = folder / "engine"  # a shell takes its first argument for a file
    script.write_text(f"{traps}\necho ready\nread word\n")
    process = subprocess.Popen(
        [folder / "koc", "engine"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


@needs_linux
def test_an_upgrade_asks_an_engine_to_stop_and_goes_on_when_it_has(prerm: list[str], tmp_path: Path) -> None:
    with played(tmp_path, "trap 'exit 7' TERM") as engine:
        result = subprocess.run([*prerm, "upgrade", "2.0"], capture_output=True, text=True, timeout=30, check=False)
        assert engine.wait(10) == 7
    assert result.returncode == 0, result.stderr
    assert f"asking K.O.C. to stop in order (engine, process {engine.pid})" in result.stdout
    assert "Start it again" in result.stdout


@needs_linux
def test_an_engine_that_does_not_stop_is_not_killed_and_stops_the_upgrade(prerm: list[str], tmp_path: Path) -> None:
    with played(tmp_path, "trap '' TERM") as engine:
        result = subprocess.run(
            [*prerm, "upgrade", "2.0"],
            env={**os.environ, "KOC_STOP_SECONDS": "0"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert engine.poll() is None
        assert result.returncode == 1
        assert f"still runs (process {engine.pid}). It was not killed" in result.stderr
        engine.communicate(b"\n", timeout=10)


@needs_linux
def test_a_removal_with_nothing_running_says_nothing(prerm: list[str]) -> None:
    result = subprocess.run([*prerm, "remove"], capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


# ---- the proof ------------------------------------------------------------------------------------------------------


def test_what_does_not_hold_is_named_and_noted(build: Bench) -> None:
    proof = Proof(build)
    proof.begin()
    with proof.holds("it says its version") as note:
        note("koc 1.0")
    with pytest.raises(BuildError, match="the proof fails: it is painted: 1 colour"), proof.holds("it is painted"):
        need(False, "1 colour")
    noted = json.loads(proof.file.read_text())["conditions"]
    assert [(each["name"], each["ok"], each["text"]) for each in noted] == [
        ("it says its version", True, "koc 1.0"),
        ("it is painted", False, "1 colour"),
    ]


@pytest.mark.parametrize("said", ['{"a": [1]}', 'warning: slow\n{"a": [1]}\nbye'])
def test_json_is_found_among_what_else_was_said(said: str) -> None:
    assert parsed(said) == {"a": [1]}


@pytest.mark.parametrize("said", ["", "koc: no engine runs", '{"a": '])
def test_no_json_is_said(said: str) -> None:
    with pytest.raises(BuildError, match="this is no JSON"):
        parsed(said)


def test_a_report_replaces_its_own_section_alone(build: Bench, tmp_path: Path) -> None:
    for folder in ("docs", "installer", "koc_qt"):
        (tmp_path / folder).mkdir()
    (tmp_path / "koc_qt" / "version.py").write_text('__version__ = "1.2.3"\n')
    (tmp_path / "installer" / "installers.md.in").write_text("# Installers\n")
    old = "# Old\n\n<!-- docker -->\n## Docker\nkept as it is\n<!-- end of docker -->\n"
    (tmp_path / "docs" / "installers.md").write_text(old)
    build.root = tmp_path

    def pack(given: Bench) -> None:
        with given.artefact("koc.deb") as path:
            path.write_bytes(b"x" * 1_000_000)
        with Proof(given).holds("it | installs") as note:
            note("a | b")

    stages = [Stage("pack", "Pack it", pack, 1.0)]  # type: ignore[arg-type]
    for _ in range(2):
        assert run_stages(build, stages) is None
        text = report.write(build, stages, lambda: 0.0).read_text()
    assert text.startswith(
        "# Installers\n\n<!-- ubuntu -->\n## Ubuntu and Debian (.deb)\nVersion 1.2.3, 1970-01-01, on "
    )
    assert text.count("<!-- ubuntu -->") == 1
    assert "| `koc.deb` | 1.0 MB |" in text
    assert "| it / installs | yes | a / b |" in text
    assert "kept as it is" in text
    assert "# Old" not in text
