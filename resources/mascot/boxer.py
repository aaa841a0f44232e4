"""The mascot itself: a hamster that boxes, drawn with QPainter on a grid of 128 by 128, in any pose.

Flat colours, one darker tone for shade and one outline, so that it reads on dark and on light and packs well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QBrush, QColor, QPainter, QPainterPath, QPen

Point = tuple[float, float]

OUTLINE = QColor("#4b2a1f")
FUR = QColor("#f2a65a")
FUR_SHADE = QColor("#dc8640")
CREAM = QColor("#fff3e0")
CREAM_SHADE = QColor("#f6dcbd")
PINK = QColor("#f7a8a0")
BLUSH = QColor(244, 110, 100, 105)
EYE = QColor("#2c1812")
WHITE = QColor("#ffffff")
GLOVE = QColor("#e5404a")
GLOVE_SHADE = QColor("#b9263a")
GLOVE_LIGHT = QColor("#ff8a86")
CLOTH = QColor("#2f7df0")
CLOTH_SHADE = QColor("#1f5cc0")
GOLD = QColor("#f8c849")
GOLD_SHADE = QColor("#d99a26")
WOOD = QColor("#c98a4b")
STEEL = QColor("#8d9aab")
STEEL_LIGHT = QColor("#c3ccd8")
MOUTH = QColor("#8c2f35")
TONGUE = QColor("#f47f7c")
TEAR = QColor("#74c7f7")
TEAR_LINE = QColor("#3b8fd0")
SHADOW = QColor(10, 14, 20, 60)

GROUND = 121.0
LINE = 2.6


@dataclass(frozen=True)
class Pose:
    """Everything that moves. Lengths are on the grid, angles in degrees clockwise."""

    x: float = 0.0
    jump: float = 0.0  # above the ground
    squash: float = 0.0  # over 0 flatter and wider, under 0 taller and narrower
    lean: float = 0.0  # of the whole body, about the feet
    head: Point = (0.0, 0.0)
    tilt: float = 0.0  # of the head
    left: Point = (37.0, 88.0)  # gloves; left and right as seen
    right: Point = (91.0, 88.0)
    behind: bool = False  # whether the gloves are drawn before the head
    feet: Point = (0.0, 0.0)  # how far each foot is lifted
    eyes: str = "open"  # open, closed, happy, sad, wide, tight
    look: Point = (0.0, 0.0)
    mouth: str = "smile"  # smile, open, frown, shout, doze, grit
    ears: float = 0.0  # how far they droop
    tail: float = 0.0  # swing of the headband's ends
    sits: bool = False
    hat: bool = False  # a hard one
    hammer: float | None = None  # in the right glove, its angle; 0 is upright
    extras: tuple[Callable[[QPainter], None], ...] = field(default=())  # drawn over all, on the same grid


def draw(painter: QPainter, pose: Pose) -> None:
    """Draw the mascot in a pose on the grid."""
    _shadow(painter, pose)
    painter.save()
    painter.translate(64 + pose.x, GROUND - pose.jump)
    painter.rotate(pose.lean)
    painter.scale(1 + pose.squash * 0.75, 1 - pose.squash)
    painter.translate(-64, -GROUND)
    _feet(painter, pose)
    _body(painter, pose)
    _arms(painter, pose)
    if pose.behind:
        _gloves(painter, pose)
    painter.save()
    painter.translate(64 + pose.head[0], 86 + pose.head[1])
    painter.rotate(pose.tilt)
    painter.translate(-64, -86)
    _head(painter, pose)
    painter.restore()
    if not pose.behind:
        _gloves(painter, pose)
    painter.restore()
    for extra in pose.extras:
        extra(painter)


def path(start: Point, *curves: tuple[float, float, float, float, float, float], closed: bool = True) -> QPainterPath:
    """Make a path of cubic curves, each two control points and an end."""
    result = QPainterPath(QPointF(*start))
    for curve in curves:
        result.cubicTo(*curve)
    if closed:
        result.closeSubpath()
    return result


def ink(color: QColor = OUTLINE, width: float = LINE) -> QPen:
    """Make the pen of outlines."""
    return QPen(QBrush(color), width, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin)


def shape(painter: QPainter, outline: QPainterPath, fill: QColor, *, line: QPen | None = None) -> None:
    """Fill a path, and draw its outline."""
    painter.setBrush(fill)
    painter.setPen(ink() if line is None else line)
    painter.drawPath(outline)


def stroke(painter: QPainter, line: QPainterPath, color: QColor = OUTLINE, width: float = LINE) -> None:
    """Draw a line."""
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.setPen(ink(color, width))
    painter.drawPath(line)


def oval(x: float, y: float, rx: float, ry: float) -> QPainterPath:
    """Make an ellipse about a point."""
    result = QPainterPath()
    result.addEllipse(QPointF(x, y), rx, ry)
    return result


def patch(painter: QPainter, inside: QPainterPath, area: QPainterPath, color: QColor) -> None:
    """Colour the part of an area that is inside a path: shade, light, markings."""
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(color)
    painter.drawPath(inside.intersected(area))


def _shadow(painter: QPainter, pose: Pose) -> None:
    width = (34 if pose.sits else 29) * (1 - min(pose.jump, 30) / 60) * (1 + pose.squash)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(SHADOW)
    painter.drawEllipse(QPointF(64 + pose.x, GROUND + 1.5), width, 3.6)


def _feet(painter: QPainter, pose: Pose) -> None:
    spread = 19.0 if pose.sits else 12.5
    for side, lift in ((-1, pose.feet[0]), (1, pose.feet[1])):
        x, y = 64 + side * spread, GROUND - lift
        shoe = path(
            (x - 10, y),
            (x - 11, y - 9, x - 5, y - 12, x, y - 12),
            (x + 5, y - 12, x + 11, y - 9, x + 10, y),
        )
        shape(painter, shoe, WHITE)
        patch(painter, shoe, oval(x, y + 1, 12, 4.5), CLOTH)
        stroke(painter, shoe)


def _body(painter: QPainter, pose: Pose) -> None:
    body = path(
        (64, 72),
        (84, 72, 91, 88, 90, 100),
        (89, 113, 78, 117, 64, 117),
        (50, 117, 39, 113, 38, 100),
        (37, 88, 44, 72, 64, 72),
    )
    shape(painter, body, FUR)
    patch(painter, body, oval(64, 92, 17, 20), CREAM)
    patch(painter, body, body.subtracted(oval(59, 92, 28, 29)), FUR_SHADE)
    shorts = QPainterPath()
    shorts.addRect(QRectF(30, 103, 68, 20))
    patch(painter, body, shorts, CLOTH)
    patch(painter, body, shorts.subtracted(oval(58, 100, 30, 24)), CLOTH_SHADE)
    belt = QPainterPath()
    belt.addRect(QRectF(30, 99.5, 68, 6))
    patch(painter, body, belt, GOLD)
    shade = QPainterPath()
    shade.addRect(QRectF(30, 104, 68, 1.8))
    patch(painter, body, shade, GOLD_SHADE)
    stroke(painter, body)
    shape(painter, oval(64, 102.5, 6.2, 5.4), GOLD, line=ink(width=2))
    _candle(painter, 64, 102.5)


def _candle(painter: QPainter, x: float, y: float) -> None:
    """Draw the sign on the belt: one candle of a chart."""
    stroke(painter, path((x, y - 3.4), (x, y, x, y, x, y + 3.4), closed=False), OUTLINE, 1.1)
    painter.fillRect(QRectF(x - 1.5, y - 1.8, 3, 3.6), OUTLINE)


def _arms(painter: QPainter, pose: Pose) -> None:
    for shoulder, glove in (((43.0, 88.0), pose.left), ((85.0, 88.0), pose.right)):
        line = QPainterPath(QPointF(*shoulder))
        line.lineTo(*glove)
        stroke(painter, line, OUTLINE, 12.5)
        stroke(painter, line, FUR, 8)


def _gloves(painter: QPainter, pose: Pose) -> None:
    for shoulder, glove, side in (((43.0, 88.0), pose.left, -1), ((85.0, 88.0), pose.right, 1)):
        if side > 0 and pose.hammer is not None:
            _hammer(painter, glove, pose.hammer)
        dx, dy = glove[0] - shoulder[0], glove[1] - shoulder[1]
        far = math.hypot(dx, dy)
        # A glove near the shoulder points up, as in a guard.
        angle = math.degrees(math.atan2(dy, dx)) + 90 if far > 9 else 0.0
        painter.save()
        painter.translate(*glove)
        painter.rotate(angle)
        painter.scale(-side, 1)
        _glove(painter)
        painter.restore()


def _hammer(painter: QPainter, at: Point, angle: float) -> None:
    """Draw a hammer that is held at a point."""
    painter.save()
    painter.translate(*at)
    painter.rotate(angle)
    handle = QPainterPath()
    handle.addRoundedRect(QRectF(-2.4, -27, 4.8, 42), 2, 2)
    shape(painter, handle, WOOD, line=ink(width=2.2))
    head = QPainterPath()
    head.addRoundedRect(QRectF(-10.5, -34, 21, 10.5), 2.5, 2.5)
    shape(painter, head, STEEL)
    shine = QPainterPath()
    shine.addRect(QRectF(-10.5, -34, 21, 3.6))
    patch(painter, head, shine, STEEL_LIGHT)
    stroke(painter, head)
    painter.restore()


def _hat(painter: QPainter) -> None:
    """Draw a hard hat, on the head."""
    dome = path((37, 37), (36, 14, 49, 3, 64, 3), (79, 3, 92, 14, 91, 37), (74, 31, 54, 31, 37, 37))
    shape(painter, dome, GOLD)
    patch(painter, dome, dome.subtracted(oval(58, 24, 27, 27)), GOLD_SHADE)
    stroke(painter, dome)
    ridge = path(
        (59, 31),
        (58, 18, 58, 8, 60, 1.5),
        (62, 0, 66, 0, 68, 1.5),
        (70, 8, 70, 18, 69, 31),
        (66, 30.6, 62, 30.6, 59, 31),
    )
    shape(painter, ridge, GOLD, line=ink(width=2.2))
    brim = path(
        (31, 40),
        (40, 28.5, 88, 28.5, 97, 40),
        (98, 44, 94, 44, 91, 42),
        (78, 36, 50, 36, 37, 42),
        (34, 44, 30, 44, 31, 40),
    )
    shape(painter, brim, GOLD)


def _glove(painter: QPainter) -> None:
    """Draw a glove that points up, its thumb to the right."""
    cuff = QPainterPath()
    cuff.addRoundedRect(QRectF(-7.5, 6.5, 15, 7), 2.5, 2.5)
    shape(painter, cuff, WHITE)
    hand = path(
        (-8, 8),
        (-14, 3, -14, -9, -7, -12.5),
        (-1, -15.5, 8, -14, 10.5, -8),
        (12, -3, 10, 4, 8, 8),
        (3, 10, -3, 10, -8, 8),
    )
    shape(painter, hand, GLOVE)
    patch(painter, hand, hand.subtracted(oval(-1.5, -4, 11, 12)), GLOVE_SHADE)
    patch(painter, hand, oval(-5, -7.5, 3.4, 2.6), GLOVE_LIGHT)
    thumb = path((10, -5), (14.5, -4, 14, 3, 9, 4), (5.5, 4.5, 4, 1, 5, -1.5), closed=False)
    shape(painter, thumb, GLOVE)
    stroke(painter, hand)
    shape(painter, thumb, GLOVE, line=ink(width=2.2))


def _head(painter: QPainter, pose: Pose) -> None:
    _band_ends(painter, pose.tail)
    for side in (-1, 1):
        painter.save()
        painter.translate(64 + side * 27, 35)
        painter.rotate(side * pose.ears)
        shape(painter, oval(0, -6, 11.5, 12), FUR)
        patch(painter, oval(0, -6, 11.5, 12), oval(0, -4.5, 6.5, 7.5), PINK)
        painter.restore()
    head = path(
        (64, 22),
        (84, 22, 98, 33, 101, 50),
        (108, 58, 108, 74, 97, 80),
        (87, 87, 76, 89, 64, 89),
        (52, 89, 41, 87, 31, 80),
        (20, 74, 20, 58, 27, 50),
        (30, 33, 44, 22, 64, 22),
    )
    shape(painter, head, FUR)
    muzzle = oval(47, 73, 23, 19).united(oval(81, 73, 23, 19)).united(oval(64, 64, 9, 17))
    patch(painter, head, muzzle, CREAM)
    patch(painter, head, head.subtracted(oval(61, 51, 45, 36)), FUR_SHADE)
    patch(painter, head.intersected(muzzle), head.subtracted(oval(61, 51, 45, 36)), CREAM_SHADE)
    band = oval(64, 66, 48, 37).subtracted(oval(64, 76, 52, 37.5))
    patch(painter, head, band, CLOTH)
    patch(painter, head, band.subtracted(oval(58, 60, 36, 40)), CLOTH_SHADE)
    stroke(painter, head)
    if pose.hat:
        _hat(painter)
    _face(painter, pose)


def _band_ends(painter: QPainter, swing: float) -> None:
    painter.save()
    painter.translate(97, 43)
    for angle, length in ((18 + swing, 17.0), (52 + swing * 1.4, 14.0)):
        painter.save()
        painter.rotate(angle)
        end = path((0, -3), (length * 0.4, -6, length * 0.7, -2, length, -4), (length, 0, length, 1, length - 1, 4))
        end.cubicTo(length * 0.6, 5, length * 0.3, 3, 0, 3)
        shape(painter, end, CLOTH, line=ink(width=2.2))
        painter.restore()
    painter.restore()


def _face(painter: QPainter, pose: Pose) -> None:
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(BLUSH)
    for side in (-1, 1):
        painter.drawEllipse(QPointF(64 + side * 28, 71), 6.5, 4.2)
    for side in (-1, 1):
        _eye(painter, 64 + side * 15.5, 60, side, pose)
    nose = path((60.4, 67.2), (61, 65.2, 67, 65.2, 67.6, 67.2), (67.6, 69.6, 65, 71.2, 64, 71.2))
    nose.cubicTo(63, 71.2, 60.4, 69.6, 60.4, 67.2)
    shape(painter, nose, MOUTH, line=ink(width=1.6))
    _mouth(painter, pose.mouth)


def _eye(painter: QPainter, x: float, y: float, side: int, pose: Pose) -> None:
    lines = {
        "closed": path((x - 6, y), (x - 3, y + 4, x + 3, y + 4, x + 6, y), closed=False),
        "happy": path((x - 6, y + 3), (x - 4, y - 5, x + 4, y - 5, x + 6, y + 3), closed=False),
        "tight": path((x - 5 * side, y - 5), (x + 4 * side, y, x + 4 * side, y, x - 5 * side, y + 5), closed=False),
    }
    if pose.eyes in lines:
        stroke(painter, lines[pose.eyes], EYE, 2.8)
        return
    if pose.eyes == "wide":
        shape(painter, oval(x, y - 1, 8, 9.2), WHITE, line=ink(width=2.2))
        shape(painter, oval(x + pose.look[0], y - 1 + pose.look[1], 3.2, 3.8), EYE, line=QPen(Qt.PenStyle.NoPen))
        return
    x, y = x + pose.look[0], y + pose.look[1]
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(EYE)
    painter.drawEllipse(QPointF(x, y), 6, 7.4)
    painter.setBrush(WHITE)
    painter.drawEllipse(QPointF(x - 1.8, y - 2.8), 2.5, 2.8)
    painter.drawEllipse(QPointF(x + 2.2, y + 3), 1.2, 1.3)
    if pose.eyes == "sad":
        brow = path(
            (x - 5.5, y - 10 - 2.5 * side), (x, y - 11.5, x, y - 11.5, x + 5.5, y - 10 + 2.5 * side), closed=False
        )
        stroke(painter, brow)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(TEAR)
        painter.drawEllipse(QPointF(x, y + 5.4), 4.4, 2.2)


def _mouth(painter: QPainter, kind: str) -> None:
    if kind in ("open", "shout"):
        deep = 84.5 if kind == "open" else 86.0
        wide = 7.0 if kind == "open" else 5.5
        mouth = path(
            (64 - wide, 74), (64 - wide, deep, 64 + wide, deep, 64 + wide, 74), (66, 75.5, 62, 75.5, 64 - wide, 74)
        )
        shape(painter, mouth, MOUTH, line=ink(width=2))
        patch(painter, mouth, oval(64, 82, 4.2, 3.6), TONGUE)
        stroke(painter, mouth, OUTLINE, 2)
        if kind == "open":
            teeth = QPainterPath()
            teeth.addRoundedRect(QRectF(61.4, 73.8, 5.2, 3.6), 1, 1)
            shape(painter, teeth, WHITE, line=ink(width=1.2))
        return
    lines = {
        "smile": path((57, 73.5), (58, 77.5, 63, 77.5, 64, 73.5), (65, 77.5, 70, 77.5, 71, 73.5), closed=False),
        "frown": path((58, 79), (60, 74.5, 68, 74.5, 70, 79), closed=False),
        "doze": path((61, 75.5), (61, 73, 67, 73, 67, 75.5), (67, 78.5, 61, 78.5, 61, 75.5), closed=False),
        "grit": path((58.5, 76), (61, 73.5, 62, 78.5, 64, 76), (66, 73.5, 67, 78.5, 69.5, 76), closed=False),
    }
    stroke(painter, lines[kind], OUTLINE, 2.2)
