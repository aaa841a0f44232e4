"""Fetches what a build needs from package registries: pinned by SHA-256, kept, and never used half."""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from building.stages import Build, file_sha256
from building.trouble import BuildError

_TIMEOUT_S = 1800.0
_MISMATCH = "DO NOT MATCH THE HASHES"  # what pip says
_DISTRUST = "It was not used. Start again; where it stays so, do not trust the source."


@dataclass(frozen=True)
class Pinned:
    """A file of a package registry: a distribution on PyPI by its requirement, such as `name==1.2`.

    `file` is its name, `sha256` what it must be. `pip` are further options for `pip download`.
    """

    requirement: str
    file: str
    sha256: str
    pip: tuple[str, ...] = ()


def cache_folder(build: Build) -> Path:
    """Give the folder of what was downloaded, shared by all targets."""
    return build.builds / "downloads"


def fetched(build: Build, wanted: Pinned) -> Path:
    """Give the file, downloaded with the pip of this Python as it is configured unless it is there already.

    Raises BuildError where it cannot be fetched or is not what was expected, and Cancelled.
    """
    folder = cache_folder(build)
    final = folder / wanted.file
    if is_there(build, wanted):
        return final
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".fetch-*"):  # of one that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as name:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--no-deps"]
        brought = Path(name) / "brought"
        brought.mkdir()
        listed = Path(name) / "requirements.txt"  # with its sum, which pip looks at before it runs any of a source
        listed.write_text(f"{wanted.requirement} --hash=sha256:{wanted.sha256}\n", encoding="utf-8")
        words = [*pip, "--dest", str(brought), *wanted.pip, "--require-hashes", "--requirement", str(listed)]
        try:
            build.run(words, timeout_s=_TIMEOUT_S, name=f"pip download {wanted.requirement}")
        except BuildError as error:
            if _MISMATCH in error.text.upper():
                raise BuildError(f"{wanted.file} is not what was expected", _DISTRUST) from error
            raise
        partial = brought / wanted.file
        if not partial.is_file():
            there = ", ".join(path.name for path in brought.iterdir()) or "nothing"
            raise BuildError(f"{wanted.requirement} should bring {wanted.file}, and brought {there}")
        checked(partial, wanted.sha256)
        partial.replace(final)
    return final


def is_there(build: Build, wanted: Pinned) -> bool:
    """Whether the file is in the cache, and what it must be; another one is removed."""
    final = cache_folder(build) / wanted.file
    if not final.is_file():
        return False
    if file_sha256(final, build.check) == wanted.sha256:
        return True
    build.say(f"{final} is damaged, and is fetched anew")
    final.unlink()
    return False


def checked(path: Path, sha256: str) -> Path:
    """Give a file that is what it must be. Raises BuildError for another one."""
    found = file_sha256(path)
    if found != sha256:
        raise BuildError(f"{path.name} is not what was expected: its SHA-256 is {found}, not {sha256}", _DISTRUST)
    return path
