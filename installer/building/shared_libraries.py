"""The shared libraries of a bundle on Linux: out goes what nobody needs; and which C library the others ask for."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

_AT_ONCE = 200  # files that one call of objdump is given
_TIMEOUT_S = 600.0
# Where libraries lie that are there for others alone: nobody loads one of these by its name.
_FOR_OTHERS = ("_internal/*.so*", "_internal/*.libs/*.so*", "_internal/PySide6/Qt/lib/*.so*")
# ... but for these: Python's own, and what Qt opens when it is asked for text in other scripts.
_LOADED_BY_NAME = ("libpython*", "*mypyc*", "_cffi_backend*", "libssl*", "libcrypto*", "libsqlite3*", "libffi*")
_BESIDE = "$ORIGIN"  # where the file is, to the loader


def remove_orphans(folder: Path, say: Callable[[str], None]) -> None:
    """Remove links to nothing, and libraries that no file of the bundle needs any more, however far down."""
    while True:
        gone = [path for path in folder.rglob("*") if path.is_symlink() and not path.exists()]
        needed = {name for names in needs(elf_files(folder)).values() for name in names}
        for pattern in _FOR_OTHERS:
            gone += [path for path in sorted(folder.glob(pattern)) if not _is_wanted(path, needed)]
        gone = [path for path in dict.fromkeys(gone) if path.is_symlink() or path.exists()]
        if not gone:
            return
        for path in gone:
            say(f"left out, since nothing needs it: {path.relative_to(folder)}")
            path.unlink()


def _is_wanted(path: Path, needed: set[str]) -> bool:
    by_name = any(path.match(pattern) for pattern in _LOADED_BY_NAME) or ".cpython-" in path.name
    return by_name or path.name in needed


def needs(files: Iterable[Path]) -> dict[Path, list[str]]:
    """Give the names of the libraries that each file asks for."""
    return {path: re.findall(r"^\s*NEEDED\s+(\S+)", text, re.MULTILINE) for path, text in _headers(files)}


def newest_glibc(folder: Path) -> tuple[tuple[int, ...], str]:
    """Give the newest version of the C library that any file asks for, and one that does."""
    found: list[tuple[tuple[int, ...], str]] = [((0,), "")]
    for path, text in _headers(elf_files(folder)):
        versions = re.findall(r"\bGLIBC_([0-9.]+)\b", text)
        found += [(tuple(map(int, version.split("."))), str(path.relative_to(folder))) for version in versions]
    return max(found)


def strip_all(folder: Path, say: Callable[[str], None], check: Callable[[], None]) -> None:
    """Take out what only debuggers and linkers read; a file that would not load any more is left as it was."""
    for path in elf_files(folder):
        check()
        partial = path.with_name(f".{path.name}.stripped")
        command = ["strip", "--strip-unneeded", "-p", "-o", str(partial), str(path)]
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
        if done.returncode == 0 and is_aligned(partial):
            shutil.copymode(path, partial)
            partial.replace(path)
        else:
            partial.unlink(missing_ok=True)
            say(f"not stripped: {path.relative_to(folder)}")


def forget_build_machine(folder: Path) -> None:
    """Have every file look for libraries beside itself, where it would in folders of the machine that it was built on.

    Whoever can write such a folder on another machine could put a library of theirs into the program. Raises ValueError
    for a file whose path cannot be told from other texts.
    """
    for path, text in _headers(elf_files(folder)):
        for found in re.findall(r"^\s*(?:RPATH|RUNPATH)\s+(\S+)", text, re.MULTILINE):
            kept = ":".join(part for part in found.split(":") if part.startswith("$ORIGIN")) or _BESIDE
            if kept != found:
                replace_text(path, found, kept)


def replace_text(path: Path, old: str, new: str) -> None:
    """Write a text over another one in a file's table of texts, where it ends with a zero byte."""
    raw = path.read_bytes()
    before, after = (b"\0" + text.encode() + b"\0" for text in (old, new))
    if raw.count(before) != 1 or len(after) > len(before):
        raise ValueError(f"{path} looks for libraries in {old}, which cannot be replaced")
    path.write_bytes(raw.replace(before, after.ljust(len(before), b"\0")))


def elf_files(folder: Path) -> list[Path]:
    """List the programs and libraries below a folder, without links."""
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_symlink() and path.is_file() and (path.suffix in ("", ".so") or ".so" in path.name):
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    found.append(path)
    return found


def is_aligned(path: Path) -> bool:
    """Tell whether a loader can map a 64-bit file: `strip` has been known to move what `patchelf` had put in place."""
    raw = path.read_bytes()
    if raw[:5] != b"\x7fELF\x02":
        return False
    begin, size, count = _number(raw, 32, 8), _number(raw, 54, 2), _number(raw, 56, 2)
    for at in range(begin, begin + size * count, size):
        alignment = _number(raw, at + 48, 8)
        is_loaded = _number(raw, at, 4) == 1  # PT_LOAD
        if is_loaded and alignment > 1 and (_number(raw, at + 8, 8) - _number(raw, at + 16, 8)) % alignment:
            return False
    return True


def _number(raw: bytes, at: int, size: int) -> int:
    return int.from_bytes(raw[at : at + size], "little")


def _headers(files: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Give what objdump says of each file's dynamic part."""
    waiting = list(files)
    for start in range(0, len(waiting), _AT_ONCE):
        some = waiting[start : start + _AT_ONCE]
        done = subprocess.run(
            ["objdump", "-p", *map(str, some)], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
        parts = re.split(r"^(.+):\s+file format \S+$", done.stdout, flags=re.MULTILINE)
        for name, text in zip(parts[1::2], parts[2::2], strict=True):
            yield Path(name), text
