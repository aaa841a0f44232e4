"""The files of the Debian package: the program, and what makes a desktop know it."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import bootstrap

from building import manual
from building.stages import Build
from building.trouble import BuildError

FOLDER = "opt/koc"
MAINTAINER = "K.O.C. <koc@localhost>"
# What the frozen program needs and does not bring, beside what koc_qt/adapters/qt_libraries.py names.
_ALWAYS = (
    "libc6 (>= 2.35)",
    "libgcc-s1",
    "libexpat1",
    "libopengl0",
    "libwayland-egl1",
    "xdg-utils",
)
_WITH_VERSION = {"libstdc++6": "libstdc++6 (>= 12)", "libglib2.0-0": "libglib2.0-0 | libglib2.0-0t64"}
_SCRIPTS = ("prerm",)


def depends(root: Path) -> list[str]:
    """Give what the package depends on."""
    of_qt = {*engine_packages(root), *_libraries(root).WINDOW_LIBRARIES.values()}
    return sorted({*_ALWAYS, *(_WITH_VERSION.get(name, name) for name in of_qt)})


def engine_packages(root: Path) -> set[str]:
    """Name the packages that an engine needs, which has no window."""
    return set(_libraries(root).ENGINE_LIBRARIES.values())


def _libraries(root: Path) -> ModuleType:
    sys.path.insert(0, str(root))
    try:
        return importlib.import_module("koc_qt.adapters.qt_libraries")
    finally:
        sys.path.remove(str(root))


def source_day(build: Build) -> datetime:
    """Give the moment of the checkout's last commit, which all files of a package are given: SOURCE_DATE_EPOCH."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given.isdecimal():
        return datetime.fromtimestamp(int(given), UTC)
    git = ["git", "-c", f"safe.directory={build.root}", "log", "-1", "--format=%ct"]
    said = subprocess.run(git, cwd=build.root, capture_output=True, text=True, timeout=30, check=False).stdout.strip()
    # a source archive has no history: the day of its version
    moment = int(said) if said.isdecimal() else int((build.root / "koc_qt" / "version.py").stat().st_mtime)
    return datetime.fromtimestamp(moment, UTC)


def make_tree(build: Build, tree: Path, icons: Path) -> None:
    """Lay out all files of the package below a folder. Raises BuildError, OSError."""
    if tree.exists():
        shutil.rmtree(tree)
    program = tree / FOLDER
    program.parent.mkdir(parents=True)
    build.run(["cp", "--archive", "--reflink=auto", build.bundle, program])
    build.step(0.5)
    link = tree / "usr" / "bin" / "koc"
    link.parent.mkdir(parents=True)
    link.symlink_to(f"../../{FOLDER}/koc")
    _desktop(build, tree / "usr" / "share", icons)
    _documents(build, tree / "usr" / "share")
    build.run(["chmod", "--recursive", "u=rwX,go=rX", tree])


def _desktop(build: Build, share: Path, icons: Path) -> None:
    """Menu entry, type of files, metadata, and the icon in all sizes."""
    linux, day = build.root / "installer" / "linux", source_day(build)
    _copy(linux / "koc.desktop", share / "applications" / "koc.desktop")
    _copy(linux / "koc.mime.xml", share / "mime" / "packages" / "koc.xml")
    metadata = (linux / "koc.metainfo.xml").read_text(encoding="utf-8")
    metadata = metadata.replace("@VERSION@", build.version).replace("@DATE@", f"{day:%Y-%m-%d}")
    _write(share / "metainfo" / "koc.metainfo.xml", metadata.encode())
    for picture in icons.glob("koc-*.png"):
        size = picture.stem.removeprefix("koc-")
        _copy(picture, share / "icons" / "hicolor" / f"{size}x{size}" / "apps" / "koc.png")
    _copy(build.root / "resources" / "koc.svg", share / "icons" / "hicolor" / "scalable" / "apps" / "koc.svg")


def _documents(build: Build, share: Path) -> None:
    """The manual page, the changelog and the licence."""
    day = source_day(build)
    page = manual.manual(manual.help_of(build.bundle / "koc"), build.version, f"{day:%Y-%m-%d}")
    _write(share / "man" / "man1" / "koc.1.gz", gzip.compress(page.encode(), 9, mtime=0))
    changes = (build.root / "CHANGELOG.md").read_bytes()
    _write(share / "doc" / "koc" / "changelog.gz", gzip.compress(changes, 9, mtime=0))
    _copy(build.root / "installer" / "linux" / "copyright", share / "doc" / "koc" / "copyright")


def control(build: Build, tree: Path, version: str) -> None:
    """Write the package's own description and scripts into its tree."""
    folder = tree / "DEBIAN"
    folder.mkdir(mode=0o755, exist_ok=True)
    size = sum(path.lstat().st_size for path in tree.rglob("*") if path.is_file()) // 1024
    fields: Mapping[str, str] = {
        "Package": "koc",
        "Version": version,
        "Architecture": "amd64",
        "Maintainer": MAINTAINER,
        "Installed-Size": str(size),
        "Depends": ", ".join(depends(build.root)),
        "Recommends": "gnome-keyring | kwalletmanager",
        "Section": "misc",
        "Priority": "optional",
        "Description": "trading desktop with sandboxed strategies\n"
        " K.O.C., the Killer Operations Core, runs strategies in processes of their own,\n"
        " which can reach neither files nor network. An engine without a window owns\n"
        " accounts, orders and the journal, and goes on when the window is closed.",
    }
    _write(folder / "md5sums", _sums(build, tree).encode())
    _write(folder / "control", "".join(f"{name}: {text}\n" for name, text in fields.items()).encode())
    for name in _SCRIPTS:
        _copy(build.root / "installer" / "linux" / name, folder / name)
        (folder / name).chmod(0o755)


def _sums(build: Build, tree: Path) -> str:
    """Give the sum of every file, by which `dpkg --verify` finds a damaged one."""
    lines = []
    for path in sorted(tree.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.relative_to(tree).parts[0] != "DEBIAN":
            build.check()
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            lines.append(f"{digest}  {path.relative_to(tree).as_posix()}\n")
    return "".join(lines)


def pack(build: Build, tree: Path, file: Path, *compression: str) -> None:
    """Make a package of its tree: owned by root, every file of the same moment at the latest. Raises BuildError."""
    moment = str(int(source_day(build).timestamp()))
    environment = {**os.environ, "SOURCE_DATE_EPOCH": moment, "LC_ALL": "C.UTF-8"}
    build.run(["dpkg-deb", "--root-owner-group", *compression, "--build", tree, file], env=environment)


def render_icons(build: Build, folder: Path) -> None:
    """Draw the icon in all sizes, with a Python that has Qt. Raises BuildError."""
    python = python_with_qt(build)
    if python is None:
        raise BuildError(
            "no Python here has Qt, which draws the icons",
            "Make the project's environment first: python3 installer/bootstrap.py venv",
        )
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    build.run([python, "-B", build.root / "resources" / "render_icon.py", folder], env=environment)


def python_with_qt(build: Build) -> Path | None:
    """Give a Python that has Qt: that of the bundle's environment, of the project's, or this one."""
    places = [build.builds / "bundle" / "env", bootstrap.environment_folder()]
    for python in [*(bootstrap.in_environment(place, "python") for place in places), Path(sys.executable)]:
        if python.exists():
            asked = [str(python), "-c", "import PySide6.QtSvg"]
            with_qt = subprocess.run(asked, capture_output=True, timeout=60, check=False)
            if with_qt.returncode == 0:
                return python
    return None


def _copy(source: Path, to: Path) -> None:
    _write(to, source.read_bytes())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
