"""Draw the mascot's sheet anew: `python resources/mascot/draw.py` writes sheet.png and sheet.json beside this file.

The same drawing gives the same bytes. The cells are large enough for sharp screens, and share few
colours, which keeps the file small.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
from boxer import draw
from moves import moves
from numpy.typing import NDArray
from PySide6.QtGui import QGuiApplication, QImage, QPainter

CELL = 320  # pixels, square
WINDOW = (-10.0, -22.0, 148.0)  # the part of the grid that a cell shows: left, top, side; room for jumps and gloves
COLUMNS = 12
COLORS = 112
SAMPLES = 40_000
ROUNDS = 14


def sheet() -> tuple[QImage, dict[str, object]]:
    """Draw every cell, and describe which mood shows which of them for how long."""
    drawn = [(mood, move, cell) for mood, move in moves().items() for cell in move.cells]
    left, top, window = WINDOW
    rows = -(-len(drawn) // COLUMNS)
    image = QImage(COLUMNS * CELL, rows * CELL, QImage.Format.Format_RGBA8888_Premultiplied)
    image.fill(0)
    painter = QPainter(image)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    for index, (_, _, pose) in enumerate(drawn):
        painter.save()
        painter.translate(index % COLUMNS * CELL, index // COLUMNS * CELL)
        painter.setClipRect(0, 0, CELL, CELL)
        painter.scale(CELL / window, CELL / window)
        painter.translate(-left, -top)
        draw(painter, pose)
        painter.restore()
    painter.end()
    described: dict[str, object] = {}
    first = 0
    for mood, move in moves().items():
        frames = [[first + cell, duration_ms] for cell, duration_ms in move.frames]
        described[mood] = {"frames": frames, "still": first + move.still}
        first += len(move.cells)
    return image, {"cell": CELL, "columns": COLUMNS, "cells": len(drawn), "moods": described}


def reduced(image: QImage) -> QImage:
    """Give the image with a palette: k-means over premultiplied pixels, begun at the most frequent colours."""
    pixels = np.frombuffer(image.constBits(), np.uint8).reshape(-1, 4)
    packed = pixels.view(np.uint32).ravel()
    values, places, counts = np.unique(packed, return_inverse=True, return_counts=True)
    colors = values.view(np.uint8).reshape(-1, 4).astype(np.float32)
    centers = _centers(colors, np.sqrt(counts).astype(np.float32))
    nearest = _nearest(colors, centers).astype(np.uint8)
    table = np.vstack([centers.round(), np.zeros((1, 4), np.float32)]).astype(np.uint8)
    nearest[colors[:, 3] == 0] = COLORS
    indices = np.ascontiguousarray(nearest[places].reshape(image.height(), image.width()))
    result = QImage(indices.data, image.width(), image.height(), image.width(), QImage.Format.Format_Indexed8).copy()
    result.setColorTable([_argb(row) for row in table])
    return result


def _centers(colors: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    order = np.argsort(-weights, kind="stable")[:SAMPLES]
    colors, weights = colors[order], weights[order]
    centers = colors[:COLORS].copy()
    for _ in range(ROUNDS):
        nearest = _nearest(colors, centers)
        total = np.bincount(nearest, weights, COLORS)
        sums = np.stack([np.bincount(nearest, weights * colors[:, band], COLORS) for band in range(4)], axis=1)
        used = total > 0
        centers[used] = (sums[used] / total[used, None]).astype(np.float32)
    return centers


def _nearest(colors: NDArray[np.float32], centers: NDArray[np.float32]) -> NDArray[np.intp]:
    own = (centers**2).sum(axis=1)
    parts = [own - 2 * (chunk @ centers.T) for chunk in np.array_split(colors, max(1, len(colors) // 20_000))]
    return np.concatenate([part.argmin(axis=1) for part in parts])


def _argb(color: NDArray[np.uint8]) -> int:
    """Give a colour without premultiplication, as QImage's colour tables want it."""
    red, green, blue, alpha = (int(band) for band in color)
    if alpha == 0:
        return 0
    red, green, blue = (min(255, round(band * 255 / alpha)) for band in (red, green, blue))
    if alpha > 240:
        alpha = 255  # nearly opaque is a mean of surfaces and some edges: surfaces must not let the background through
    return alpha << 24 | red << 16 | green << 8 | blue


def main() -> None:
    """Write both files."""
    app = QGuiApplication([])
    folder = Path(__file__).parent
    image, described = sheet()
    reduced(image).save(str(folder / "sheet.png"), "PNG", 0)
    (folder / "sheet.json").write_text(json.dumps(described) + "\n", encoding="utf-8")
    app.quit()


if __name__ == "__main__":
    main()
