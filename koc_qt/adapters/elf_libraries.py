"""Which system libraries a folder of Linux programs and libraries asks for, read from the files themselves.

The linker's own tool (ldd) need not be there, and runs what it looks at. Source: the ELF-64 object file format, program
headers and dynamic section, as in elf(5).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Callable
from pathlib import Path

_LOAD, _DYNAMIC = 1, 2
_NEEDED, _STRING_TABLE = 1, 5


def needed_libraries(file: Path) -> list[str]:
    """Give the names of the libraries that a file was linked to; none where it is no 64-bit ELF file, or damaged."""
    try:
        with file.open("rb") as stream:
            if stream.read(6) != b"\x7fELF\x02\x01":
                return []
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _needed(data)
    except (OSError, ValueError, struct.error, IndexError):
        return []


def missing_of_folder(folder: Path, load: Callable[[str], object] = ctypes.CDLL) -> dict[str, str]:
    """Give what files below `folder` ask for, and neither it nor the system has, with a file that asks for it.

    `load` raises OSError for a library that the system does not have.
    """
    files = [Path(root) / name for root, _, names in os.walk(folder) for name in names if _may_be_library(name)]
    inside = {file.name for file in files}
    wanted: dict[str, str] = {}
    for file in files:
        for soname in needed_libraries(file):
            if soname not in inside:
                wanted.setdefault(soname, file.name)
    missing: dict[str, str] = {}
    for soname, asker in wanted.items():
        culprit = _culprit(soname, load)
        if culprit:
            missing.setdefault(culprit, asker if culprit == soname else soname)
    return missing


def _may_be_library(name: str) -> bool:
    return ".so" in name or "." not in name


def _culprit(soname: str, load: Callable[[str], object]) -> str:
    """Give what keeps a library from being loaded: itself, or one that it needs in turn; empty where nothing does."""
    try:
        load(soname)
    except OSError as error:
        said = str(error.__cause__ or error)  # in an installed copy, the dynamic linker's words are the cause of others
        named = Path(said.partition(":")[0].strip()).name
        return named if ".so" in named else soname
    return ""


def _needed(data: mmap.mmap) -> list[str]:
    offset, size, count = *struct.unpack_from("<Q", data, 32), *struct.unpack_from("<HH", data, 54)
    loads: list[tuple[int, int, int]] = []
    dynamic: tuple[int, int] | None = None
    for number in range(count):
        kind, _, at, address, _, length, _, _ = struct.unpack_from("<IIQQQQQQ", data, offset + number * size)
        if kind == _LOAD:
            loads.append((address, length, at))
        elif kind == _DYNAMIC:
            dynamic = at, length
    if dynamic is None:
        return []
    names: list[int] = []
    strings = 0
    for at in range(dynamic[0], dynamic[0] + dynamic[1], 16):
        tag, value = struct.unpack_from("<QQ", data, at)
        if tag == _NEEDED:
            names.append(value)
        elif tag == _STRING_TABLE:
            strings = value
        elif tag == 0:
            break
    start = next(strings - address + at for address, length, at in loads if address <= strings < address + length)
    return [data[start + name : data.find(b"\0", start + name)].decode("ascii", "replace") for name in names]
