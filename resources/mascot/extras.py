"""What floats about the mascot: notes, sleep, tears, a lamp, confetti. Each is a painter on the same grid."""

from __future__ import annotations

import math
from collections.abc import Callable

from boxer import GLOVE, GOLD, OUTLINE, TEAR, TEAR_LINE, WHITE, WOOD, ink, oval, patch, path, shape, stroke
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPainterPath, QPen

Extra = Callable[[QPainter], None]

_NOTE_COLORS = (QColor("#3fcf90"), QColor("#4f9dff"), QColor("#f8c849"))
_CONFETTI = (QColor("#3fcf90"), QColor("#4f9dff"), QColor("#f8c849"), QColor("#ff757b"), QColor("#b59bff"))
_CLOUD = QColor("#b8c4d4")
_CLOUD_SHADE = QColor("#97a6ba")
_SLEEP = QColor("#7fa8e8")
_GLOW = QColor(255, 70, 80, 60)
_BEAM = QColor(255, 90, 90, 46)
_WOOD_SHADE = QColor("#a86c33")
_BUBBLE = QColor(150, 215, 255, 150)


def _faded(color: QColor, strength: float) -> QColor:
    result = QColor(color)
    result.setAlphaF(color.alphaF() * max(0.0, min(1.0, strength)))
    return result


def note(x: float, y: float, kind: int, strength: float, turn: float) -> Extra:
    """Make a music note; `strength` from 0, unseen, to 1."""

    def paint(painter: QPainter) -> None:
        color, edge = _faded(_NOTE_COLORS[kind % 3], strength), _faded(OUTLINE, strength)
        painter.save()
        painter.translate(x, y)
        painter.rotate(turn)
        glyph = oval(-4, 6, 3.8, 3)
        stem = QPainterPath()
        stem.addRect(QRectF(-2.2, -7, 2.4, 13))
        glyph = glyph.united(stem)
        if kind % 2:
            glyph = glyph.united(path((-2.2, -8), (2, -6, 7, -5, 6, 2), (5, -1, 2, -2, -2, -3)))
        else:
            beam = QPainterPath()
            beam.addPolygon([QPointF(-2.2, -8), QPointF(8, -10), QPointF(8, -6), QPointF(-2.2, -4)])
            beam.addRect(QRectF(5.6, -9, 2.4, 13))
            glyph = glyph.united(beam).united(oval(4.2, 4, 3.8, 3))
        shape(painter, glyph, color, line=ink(edge, 3.4))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(color)
        painter.drawPath(glyph)
        painter.restore()

    return paint


def snore(phase: float) -> Extra:
    """Make three letters z that rise and fade; `phase` from 0 to 1."""

    def paint(painter: QPainter) -> None:
        for index in range(3):
            part = (phase + index / 3) % 1
            size = 3.2 + 5 * part
            x, y = 94 + 20 * part + 2.5 * math.sin(part * 9), 50 - 42 * part
            strength = min(1.0, part * 5) * min(1.0, (1 - part) * 3)
            letter = QPainterPath(QPointF(x - size / 2, y - size / 2))
            for px, py in ((size / 2, -size / 2), (-size / 2, size / 2), (size / 2, size / 2)):
                letter.lineTo(x + px, y + py)
            stroke(painter, letter, _faded(OUTLINE, strength), 4.4)
            stroke(painter, letter, _faded(_SLEEP, strength), 2.4)

    return paint


def bubble(x: float, y: float, radius: float) -> Extra:
    """Make the bubble of a sleeper's nose."""

    def paint(painter: QPainter) -> None:
        shape(painter, oval(x + radius * 0.7, y + radius * 0.7, radius, radius), _BUBBLE, line=ink(TEAR_LINE, 1.4))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(WHITE)
        painter.drawEllipse(QPointF(x + radius * 0.35, y + radius * 0.35), radius * 0.24, radius * 0.24)

    return paint


def drop(x: float, y: float, size: float, strength: float = 1.0) -> Extra:
    """Make a drop: a tear, rain or sweat."""

    def paint(painter: QPainter) -> None:
        painter.save()
        painter.translate(x, y)
        painter.scale(size, size)
        outline = path((0, -5), (1, -2, 3.2, 0, 3.2, 2.2), (3.2, 5.6, -3.2, 5.6, -3.2, 2.2), (-3.2, 0, -1, -2, 0, -5))
        shape(painter, outline, _faded(TEAR, strength), line=ink(_faded(TEAR_LINE, strength), 1.5 / size))
        painter.restore()

    return paint


def cloud(x: float, y: float, phase: float) -> Extra:
    """Make a small cloud that rains; `phase` from 0 to 1."""

    def paint(painter: QPainter) -> None:
        for index, px in enumerate((-12, 0, 12)):
            part = (phase + index * 0.37) % 1
            drop(x + px, y + 9 + 15 * part, 0.75, min(1.0, (1 - part) * 2.5))(painter)
        puff = oval(x - 11, y + 1, 9, 7).united(oval(x + 11, y + 1, 9, 7)).united(oval(x, y - 3, 11, 9.5))
        flat = QPainterPath()
        flat.addRoundedRect(QRectF(x - 18, y, 36, 8), 4, 4)
        puff = puff.united(flat)
        shape(painter, puff, _CLOUD)
        patch(painter, puff, puff.subtracted(puff.translated(-2.5, -4)), _CLOUD_SHADE)
        stroke(painter, puff)

    return paint


def lamp(x: float, y: float, angle: float) -> Extra:
    """Make a red warning lamp that stands at a point, its beam turned by an angle."""

    def paint(painter: QPainter) -> None:
        painter.setPen(Qt.PenStyle.NoPen)
        wide = 38 * abs(math.cos(math.radians(angle))) + 8
        high = wide * 0.3
        for side in (-1, 1):
            end = x + side * wide
            beam = path(
                (x, y - 7),
                (x, y - 7, end, y - 7 - high, end, y - 7 - high),
                (end + side * 8, y - 7 - high * 0.5, end + side * 8, y - 7 + high * 0.5, end, y - 7 + high),
            )
            painter.setBrush(_BEAM)
            painter.drawPath(beam)
        painter.setBrush(_GLOW)
        painter.drawEllipse(QPointF(x, y - 7), 15, 14)
        dome = path((x - 8, y), (x - 8, y - 18, x + 8, y - 18, x + 8, y))
        shape(painter, dome, GLOVE)
        shine = x + 5 * math.sin(math.radians(angle))
        patch(painter, dome, oval(shine, y - 7, 3.2, 5.5), QColor("#ffd0c8"))
        stroke(painter, dome)
        foot = QPainterPath()
        foot.addRoundedRect(QRectF(x - 10.5, y - 1.5, 21, 5), 2, 2)
        shape(painter, foot, QColor("#566271"))

    return paint


def alarm(x: float, y: float, turn: float, size: float) -> Extra:
    """Make an exclamation mark."""

    def paint(painter: QPainter) -> None:
        painter.save()
        painter.translate(x, y)
        painter.rotate(turn)
        painter.scale(size, size)
        mark = path((-3.6, -11), (-3.6, -13.5, 3.6, -13.5, 3.6, -11), (3, -6, 2.4, -1, 2, 2), (1, 3, -1, 3, -2, 2))
        shape(painter, mark, GOLD, line=ink(width=2.2))
        shape(painter, oval(0, 7.5, 2.7, 2.7), GOLD, line=ink(width=2.2))
        painter.restore()

    return paint


def crate(x: float, y: float, hit: float) -> Extra:
    """Make a wooden box whose top's middle is at a point; `hit` from 0 to 1 makes sparks fly from there."""

    def paint(painter: QPainter) -> None:
        box = QPainterPath()
        box.addRoundedRect(QRectF(x - 15, y, 30, 121.5 - y), 2, 2)
        shape(painter, box, WOOD)
        shade = QPainterPath()
        shade.addRect(QRectF(x + 8, y, 8, 30))
        patch(painter, box, shade, _WOOD_SHADE)
        for part in (0.34, 0.68):
            across = QPainterPath(QPointF(x - 14, y + (121.5 - y) * part))
            across.lineTo(x + 14, y + (121.5 - y) * part)
            stroke(painter, across, _WOOD_SHADE, 1.6)
        stroke(painter, box)
        for index in range(5):
            angle = math.radians(-155 + index * 32.5)
            near, far = 6 + 5 * hit, 8 + 9 * hit
            spark = QPainterPath(QPointF(x + near * math.cos(angle), y - 2 + near * math.sin(angle)))
            spark.lineTo(x + far * math.cos(angle), y - 2 + far * math.sin(angle))
            if hit > 0:
                stroke(painter, spark, _faded(OUTLINE, 1.4 - hit), 3.8)
                stroke(painter, spark, _faded(GOLD, 1.4 - hit), 2.2)

    return paint


def confetti(phase: float) -> Extra:
    """Make a shower of paper; `phase` from 0 to 1."""

    def paint(painter: QPainter) -> None:
        painter.setPen(QPen(Qt.PenStyle.NoPen))
        for index in range(16):
            part = (phase + index * 0.381966) % 1
            x = -1 + (index * 47) % 131 + 4 * math.sin(part * 7 + index)
            painter.save()
            painter.translate(x, -16 + 130 * part)
            painter.rotate(index * 40 + part * 360)
            painter.setBrush(_faded(_CONFETTI[index % 5], min(1.0, (1 - part) * 4)))
            painter.drawRoundedRect(QRectF(-2.6, -1.7, 5.2, 3.4), 0.8, 0.8)
            painter.restore()

    return paint
