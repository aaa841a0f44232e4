"""What a target needs of the machine, and the command that mends what is missing."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import bootstrap

from building.stages import Build
from building.trouble import BuildError

OLDEST = (3, 11)
PACKAGES = {  # program: the Debian package that brings it
    "debootstrap": "debootstrap",
    "dpkg-deb": "dpkg",
    "mksquashfs": "squashfs-tools",
    "unsquashfs": "squashfs-tools",
    "makensis": "nsis",
    "Xvfb": "xvfb",
    "import": "imagemagick",
    "identify": "imagemagick",
    "convert": "imagemagick",
    "strip": "binutils",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "zstd": "zstd",
    "xdotool": "xdotool",
    "desktop-file-validate": "desktop-file-utils",
    "appstreamcli": "appstream",
}
_FETCH_TIMEOUT_S = 1200.0


@dataclass(frozen=True)
class Need:
    """Something that is missing: `text` says what and what for, `advice` the command that mends it.

    `packages` are Debian packages that bring it; `fetch` brings it in another way.
    """

    name: str
    text: str
    advice: str
    packages: Sequence[str] = ()
    fetch: Callable[[Build], None] | None = field(default=None, compare=False)

    @property
    def can_fetch(self) -> bool:
        """Whether --fetch can bring it, here and by this user."""
        return self.fetch is not None or (bool(self.packages) and can_install())


def can_install() -> bool:
    """Whether Debian packages can be installed by this process, without asking anybody."""
    return shutil.which("apt-get") is not None and is_root()


def is_root() -> bool:
    """Whether this process may do what only root may."""
    return sys.platform != "win32" and os.geteuid() == 0


def programs(wanted: Iterable[str], purpose: str) -> list[Need]:
    """Give the programs that are missing, one need a package."""
    missing = [name for name in wanted if not shutil.which(name)]
    by_package: dict[str, list[str]] = {}
    for name in missing:
        by_package.setdefault(PACKAGES[name], []).append(name)
    return [
        Need(
            package,
            f"{' and '.join(names)}, which {purpose}",
            f"On Debian or Ubuntu: sudo apt-get install {package}",
            [package],
        )
        for package, names in by_package.items()
    ]


def linux(purpose: str) -> list[Need]:
    """Give a need where this is another system than 64-bit Linux on Intel or AMD."""
    machine = os.uname().machine if sys.platform != "win32" else "Windows"
    if sys.platform == "linux" and machine == "x86_64":
        return []
    return [
        Need("linux", f"Linux on x86-64, on which {purpose}; this is {sys.platform} on {machine}", "Build it there.")
    ]


def root(purpose: str) -> list[Need]:
    """Give a need where this is not root."""
    if is_root():
        return []
    line = f"sudo {sys.executable} {' '.join(sys.argv)}"
    return [Need("root", f"the right of root, which {purpose}", f"Run it as root: {line}")]


def space(folder: Path, needed: int) -> list[Need]:
    """Give a need where less than this many bytes are free for a folder, which need not exist yet."""
    there = folder
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if free >= needed:
        return []
    text = f"{needed / 1e9:.1f} GB of disk space at {there}; {free / 1e9:.1f} GB are free"
    return [Need("space", text, "Free some space, or choose other folders with --work and --out.")]


def writable(folder: Path) -> list[Need]:
    """Give a need where a folder cannot be written, or made."""
    there = folder
    while not there.exists():
        there = there.parent
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK) and not _is_read_only(there):
        return []
    text = f"the right to write to {there}" if there.is_dir() else f"a folder: {there} is a file"
    return [Need("folder", text, "Mend its rights, or choose another folder with --out.")]


def _is_read_only(folder: Path) -> bool:
    return sys.platform != "win32" and bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def fetch(build: Build, needs: Sequence[Need]) -> None:
    """Install or fetch what can be. Raises BuildError where that fails, Cancelled."""
    packages = sorted({package for need in needs if need.can_fetch for package in need.packages})
    if packages:
        install_packages(build, packages)
    for need in needs:
        if need.fetch is not None:
            build.say(f"fetching {need.name}")
            need.fetch(build)


def install_packages(build: Build, packages: Sequence[str]) -> None:
    """Install Debian packages as root. Raises BuildError, Cancelled."""
    prefix = bootstrap.as_root()
    if prefix is None:
        raise BuildError(
            f"installing {', '.join(packages)} needs root",
            f"sudo apt-get install {' '.join(packages)}, then start again.",
        )
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=120"]
    # A list that cannot be renewed may still do; what cannot be installed says so itself.
    build.run([*prefix, *quiet, "update"], timeout_s=_FETCH_TIMEOUT_S, allowed=range(256))
    build.run([*prefix, *quiet, "install", "-y", "--no-install-recommends", *packages], timeout_s=_FETCH_TIMEOUT_S)
