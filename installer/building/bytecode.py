"""Makes Python's bytecode the same whoever compiled it, and whatever else the compiler had in memory then."""

from __future__ import annotations

import importlib.util
import marshal
from pathlib import Path

_HEADER = 16  # bytes: magic number, flags, and a hash or a time and a size
# The last format that says nothing of which objects were shared or interned when it was written: what Python writes by
# itself does, and that depends on what the compiling process had done before. It reads either, equally fast.
_FORMAT = 2


def make_alike(folder: Path) -> int:
    """Write every file of bytecode below a folder anew; gives how many could not be, being another Python's."""
    left = 0
    for path in folder.rglob("*.pyc"):
        raw = path.read_bytes()
        if raw[:4] == importlib.util.MAGIC_NUMBER:
            path.write_bytes(alike(raw))
        else:
            left += 1
    return left


def alike(raw: bytes) -> bytes:
    """Give the content of a file of this Python's bytecode in the form that all files get."""
    return raw[:_HEADER] + marshal.dumps(marshal.loads(raw[_HEADER:]), _FORMAT)
