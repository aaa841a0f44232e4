"""Make koc.ico of resources/koc.svg: `python installer/windows/make_icon.py`, with a Python that has PySide6."""

from __future__ import annotations

import importlib
import struct
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ICON = Path(__file__).with_name("koc.ico")
SIZES = (16, 24, 32, 48, 64, 128, 256)
_DIRECTORY = struct.Struct("<HHH")  # reserved, kind (1: icons), how many
_ENTRY = struct.Struct("<BBBBHHII")  # width, height, colours, reserved, planes, bits a pixel, bytes, offset


def icon(pictures: Sequence[tuple[int, bytes]]) -> bytes:
    """Give an icon of PNG pictures with their sizes in pixels, 256 at most, as Windows Vista and newer read them."""
    offset = _DIRECTORY.size + _ENTRY.size * len(pictures)
    head = _DIRECTORY.pack(0, 1, len(pictures))
    for size, picture in pictures:
        head += _ENTRY.pack(size % 256, size % 256, 0, 0, 1, 32, len(picture), offset)  # 0 stands for 256
        offset += len(picture)
    return head + b"".join(picture for _, picture in pictures)


def main() -> int:
    """Render the pictures and write the icon; gives the exit code."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "resources"))
    from PySide6.QtGui import QGuiApplication

    app = QGuiApplication([])
    with tempfile.TemporaryDirectory() as name:
        importlib.import_module("render_icon").render(Path(name))
        ICON.write_bytes(icon([(size, Path(name, f"koc-{size}.png").read_bytes()) for size in SIZES]))
    del app
    return 0


if __name__ == "__main__":
    sys.exit(main())
