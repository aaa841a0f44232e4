"""Render the icon of the program `python resources/render_icon.py FOLDER` writes koc-16.png and more."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtGui import QGuiApplication, QImage, QPainter
from PySide6.QtSvg import QSvgRenderer

SIZES = (16, 24, 32, 48, 64, 128, 256, 512)


def render(folder: Path) -> list[Path]:
    """Write one picture a size. Raises OSError where that is not possible."""
    renderer = QSvgRenderer(str(Path(__file__).with_name("koc.svg")))
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for size in SIZES:
        image = QImage(size, size, QImage.Format.Format_ARGB32_Premultiplied)
        image.fill(0)
        painter = QPainter(image)
        renderer.render(painter)
        painter.end()
        path = folder / f"koc-{size}.png"
        if not image.save(str(path)):
            raise OSError(f"{path} cannot be written")
        written.append(path)
    return written


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    app = QGuiApplication([])
    render(Path(sys.argv[1]))
