"""Fills and price lines on a chart: what was bought and sold where, open orders, the position's average price."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QLineF, QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QPainter, QPen, QPixmap, QPolygonF
from PySide6.QtWidgets import QGraphicsItem

from koc_qt.domain.market import Side
from koc_qt.ui.charts.candles import Picture, PixelItem
from koc_qt.ui.charts.colors import text_on
from koc_qt.ui.charts.frame import Frame
from koc_qt.ui.charts.rects import RectBuffer, to_physical
from koc_qt.ui.charts.series import Floats, Ints
from koc_qt.ui.charts.texts import TextCache
from koc_qt.ui.charts.ticks import local_time, price_text

_SLOT_PX = 14.0
_GLYPH_PX = 11
_GAP_PX = 3
_HIT_PX = 8.0
_LISTED = 6  # fills named in one tooltip
_MIN_WIDTH_FOR_TEXT = 240
_MOST_CHIPS = 30  # in sight, each with its own
_CHIP_SLOT_PX = 20


class Marker(msgspec.Struct, frozen=True):  # made by the thousand: five times as fast as a dataclass
    """A fill: an upward triangle below its bar for a buy, a downward one above for a sell. `time_ns` is UTC."""

    time_ns: int
    side: Side
    price: Decimal
    quantity: Decimal
    strategy: str = ""


class PriceLine(msgspec.Struct, frozen=True):
    """A level across the chart: an open order of a side (dashed), or without a side a position's average (solid)."""

    price: Decimal
    text: str
    side: Side | None = None


Markers = NDArray[np.object_]


class _Fills:
    """The fills of one side in order of time, with the index of each one's bar; -1 before the first bar."""

    def __init__(self) -> None:
        self.markers: Markers = np.empty(0, np.object_)
        self.times: Ints = np.empty(0, np.int64)
        self.bars: Ints = np.empty(0, np.int64)

    def add(self, markers: Sequence[Marker], bar_times: Ints) -> None:
        """Take in more, of whatever time; those of one time stay in the order in which they came."""
        if not markers:
            return
        added = np.empty(len(markers), np.object_)
        added[:] = sorted(markers, key=lambda each: each.time_ns)
        times = np.array([each.time_ns for each in added], np.int64)
        at = np.searchsorted(self.times, times, side="right")
        self.markers = np.insert(self.markers, at, added)
        self.times = np.insert(self.times, at, times)
        self.bars = np.insert(self.bars, at, np.searchsorted(bar_times, times, side="right") - 1)

    def locate(self, bar_times: Ints) -> None:
        """Find every fill's bar."""
        self.bars = np.searchsorted(bar_times, self.times, side="right") - 1

    def bar_opened(self, bar_times: Ints) -> None:
        """Find the bars of fills that came before the first data of their bar."""
        first = int(np.searchsorted(self.times, bar_times[-1], side="left"))
        self.bars[first:] = len(bar_times) - 1


@dataclass(frozen=True, slots=True)
class _Spot:
    """Fills of one side that are shown as one triangle, whose tip is at (x, y) in logical pixels."""

    x: float
    y: float
    side: Side
    markers: Markers


class MarkerItem(PixelItem):
    """Triangles at fills. Where bars are narrow, those of neighbouring bars become one with a number."""

    def __init__(self, picture: Picture, parent: QGraphicsItem, font: QFont) -> None:
        super().__init__(picture, parent, 10)
        self._fills = {Side.BUY: _Fills(), Side.SELL: _Fills()}
        self._glyphs: dict[tuple[Side, float, int, int], QPixmap] = {}
        self.texts = TextCache(font)

    def set_markers(self, markers: Sequence[Marker]) -> None:
        """Show these fills alone."""
        self._fills = {Side.BUY: _Fills(), Side.SELL: _Fills()}
        self.add_markers(markers)

    @property
    def shown(self) -> tuple[Marker, ...]:
        """Every fill, in order of time."""
        every = [marker for fills in self._fills.values() for marker in fills.markers]
        return tuple(sorted(every, key=lambda each: each.time_ns))

    def add_markers(self, markers: Sequence[Marker]) -> None:
        """Show these fills too."""
        for side, fills in self._fills.items():
            fills.add([each for each in markers if each.side is side], self.picture.bars.open_time_ns)

    def locate(self) -> None:
        """Bars were replaced or added at the left: find every fill's bar again."""
        for fills in self._fills.values():
            fills.locate(self.picture.bars.open_time_ns)

    def bar_opened(self) -> None:
        """A bar was added at the right."""
        for fills in self._fills.values():
            fills.bar_opened(self.picture.bars.open_time_ns)

    def tooltip_at(self, at: QPointF, zone: tzinfo | None) -> str:
        """Rich text about the fills below the mouse (logical pixels); empty where there are none."""
        best: _Spot | None = None
        nearest = _HIT_PX * 1.5
        for spot in self._spots(at.x() - _HIT_PX, at.x() + _HIT_PX):
            middle = spot.y + spot.side.sign * _GLYPH_PX / 2
            distance = max(abs(spot.x - at.x()), abs(middle - at.y()))
            if distance < nearest:
                best, nearest = spot, distance
        return _tooltip(best, self.picture.decimals, zone) if best else ""

    def draw(self, painter: QPainter, exposed: QRectF) -> None:
        """Draw the triangles of what is exposed."""
        colors, numbered = self.picture.colors, None
        for spot in self._spots(exposed.left() - _SLOT_PX, exposed.right() + _SLOT_PX):
            glyph = self._glyph(spot.side)
            top = spot.y if spot.side is Side.BUY else spot.y - _GLYPH_PX
            painter.drawPixmap(QPointF(spot.x - _GLYPH_PX / 2, top), glyph)
            if len(spot.markers) > 1:
                text = str(len(spot.markers)) if len(spot.markers) < 1000 else "999+"
                if spot.side is not numbered:  # they come side by side
                    numbered = spot.side
                    painter.setPen(colors.buy if numbered is Side.BUY else colors.sell)
                    painter.setFont(self.texts.font)
                static, size = self.texts.prepared(text)
                beside = top + _GLYPH_PX - 1 if spot.side is Side.BUY else top - size.height() + 1
                painter.drawStaticText(QPointF(spot.x - size.width() / 2, beside), static)

    def _spots(self, x0: float, x1: float) -> Iterator[_Spot]:
        if not any(len(fills.markers) for fills in self._fills.values()):
            return
        frame, pyramid = self.picture.frame, self.picture.pyramid
        level = pyramid.level_for(frame.spacing, _SLOT_PX)
        first = max(int(frame.index_at(x0)) >> level, 0)
        last = max(int(frame.index_at(x1)) >> level, 0)
        nodes = pyramid.nodes(level, first, last + 1)
        if not len(nodes):
            return
        for side, fills in self._fills.items():
            begin, end = np.searchsorted(fills.bars, (nodes.start << level, (nodes.start + len(nodes)) << level))
            bars = fills.bars[begin:end]
            starts = np.flatnonzero(np.diff(bars >> level, prepend=-1))
            if not len(starts):
                continue
            edges = (nodes.low if side is Side.BUY else nodes.high)[(bars[starts] >> level) - nodes.start].tolist()
            sums = np.add.reduceat(bars, starts).tolist()
            for (start, stop), edge, total in zip(pairwise([*starts.tolist(), len(bars)]), edges, sums, strict=True):
                y = min(max(frame.y_of(edge) + side.sign * _GAP_PX, _GLYPH_PX), frame.height - _GLYPH_PX)
                x = frame.x_of(total / (stop - start))
                yield _Spot(x, y, side, fills.markers[begin + start : begin + stop])

    def _glyph(self, side: Side) -> QPixmap:
        colors, dpr = self.picture.colors, self.picture.frame.dpr
        color = colors.buy if side is Side.BUY else colors.sell
        key = (side, dpr, color.rgb(), colors.outline.rgb())
        if key not in self._glyphs:
            self._glyphs[key] = _triangle(side, dpr, color, colors.outline)
        return self._glyphs[key]


def _triangle(side: Side, dpr: float, color: QColor, outline: QColor) -> QPixmap:
    pixmap = QPixmap(round(_GLYPH_PX * dpr), round(_GLYPH_PX * dpr))
    pixmap.setDevicePixelRatio(dpr)
    pixmap.fill(Qt.GlobalColor.transparent)
    tip, base = (0.8, _GLYPH_PX - 1.2) if side is Side.BUY else (_GLYPH_PX - 0.8, 1.2)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(outline, 1.0))
    painter.setBrush(color)
    painter.drawPolygon(QPolygonF([QPointF(_GLYPH_PX / 2, tip), QPointF(_GLYPH_PX - 0.6, base), QPointF(0.6, base)]))
    painter.end()
    return pixmap


def _tooltip(spot: _Spot, decimals: int, zone: tzinfo | None) -> str:
    """Strategy names come from files of others, so everything is escaped."""
    lines = []
    markers: list[Marker] = spot.markers.tolist()
    for marker in markers[:_LISTED]:
        verb = "Bought" if marker.side is Side.BUY else "Sold"
        when = local_time(marker.time_ns, zone)
        name = f" · {marker.strategy}" if marker.strategy else ""
        price = f"{marker.price:,f}"
        lines.append(f"{verb} {marker.quantity:,f} at {price}{name} · {when:%H:%M:%S}")
    rest = markers[_LISTED:]
    if rest:
        lines.append(f"and {len(rest)} more")
    if len(markers) > 1:
        quantity = sum((each.quantity for each in markers), Decimal(0))
        average = sum((each.quantity * each.price for each in markers), Decimal(0)) / quantity if quantity else 0
        lines.insert(0, f"{len(markers)} fills: {quantity:,f} at {price_text(float(average), decimals)} on average")
    return "<qt>" + "<br>".join(html.escape(each).replace(" ", "&nbsp;") for each in lines) + "</qt>"


class _Chip(NamedTuple):
    """A text at the right end of one level, or of several in the same place; `line` is there where it is one's own."""

    y: int
    text: str
    color: QColor
    line: PriceLine | None


class LinesItem(PixelItem):
    """Levels across the chart, each with a chip of text at its right; chips that would cover each other step aside.

    Where many are in sight those of one place share a chip, which tells how many they are.
    """

    def __init__(self, picture: Picture, parent: QGraphicsItem, font: QFont) -> None:
        super().__init__(picture, parent, 8)
        self._given: Sequence[PriceLine] | None = None  # and not put in order yet
        self._lines: tuple[PriceLine, ...] = ()
        self._prices: Floats = np.empty(0)  # those of the lines, negative so that they rise
        self._sides: Ints = np.empty(0, np.int64)  # 1 buys, -1 sells, 0 is a position
        self._rects = RectBuffer()
        self._named: list[PriceLine] = []
        self._named_of: tuple[Frame, tuple[PriceLine, ...]] = picture.frame, ()
        self.texts = TextCache(font)

    def set_lines(self, lines: Sequence[PriceLine]) -> None:
        """Show these levels alone."""
        self._given = lines

    @property
    def lines(self) -> tuple[PriceLine, ...]:
        """The levels, highest first: put in order when somebody looks, since they may change often."""
        if self._given is not None:
            given, self._given = self._given, None
            prices = -np.array([float(each.price) for each in given])
            order = np.argsort(prices, kind="stable")
            self._lines, self._prices = tuple(given[at] for at in order.tolist()), prices[order]
            sides = [0 if each.side is None else each.side.sign for each in self._lines]
            self._sides = np.array(sides, np.int64)
        return self._lines

    def color(self, line: PriceLine) -> QColor:
        """The colour of a level, for its tag on the axis too."""
        return self._color(0 if line.side is None else line.side.sign)

    def _color(self, sign: int) -> QColor:
        colors = self.picture.colors
        return colors.line if sign == 0 else colors.buy if sign > 0 else colors.sell

    def named(self) -> list[PriceLine]:
        """Those in sight that have a chip of their own, and so a tag on the axis. Asked for at each live tick."""
        frame, lines = self.picture.frame, self.lines
        if self._named_of[0] is not frame or self._named_of[1] is not lines:
            self._named_of = frame, lines
            self._named = [chip.line for chip in self._chips(*self._in_sight()) if chip.line is not None]
        return self._named

    def _in_sight(self) -> tuple[int, Ints]:
        """The number of the first level between the upper and the lower edge, and the pixels of them all."""
        frame, lines = self.picture.frame, self.lines
        first, last = np.searchsorted(self._prices, (-frame.high, -frame.low)) if lines else (0, 0)
        ys = (frame.high + self._prices[first:last]) * frame.height / (frame.high - frame.low)
        return int(first), ys.astype(np.int64)

    def _chips(self, first: int, ys: Ints) -> list[_Chip]:
        """Give each level a chip; where there are many, only those that are alone in their place."""
        slots = ys // _CHIP_SLOT_PX if len(ys) > _MOST_CHIPS else np.arange(len(ys))
        chips = []
        for start, stop in pairwise([*np.flatnonzero(np.diff(slots, prepend=-1)).tolist(), len(ys)]):
            line, signs = self._lines[first + start], self._sides[first + start : first + stop]
            is_alone, is_alike = stop - start == 1, bool((signs == signs[0]).all())
            text = line.text if is_alone else f"{stop - start} lines"
            color = self._color(int(signs[0])) if is_alike else self.picture.colors.tag
            chips.append(_Chip(int(ys[start:stop].mean()), text, color, line if is_alone else None))
        return chips

    def draw(self, painter: QPainter, exposed: QRectF) -> None:
        """Draw lines, each row of pixels once, then chips over them."""
        frame, (first, ys) = self.picture.frame, self._in_sight()
        signs = self._sides[first : first + len(ys)]
        for sign in (1, -1, 0):
            levels = np.unique(ys[signs == sign])
            if sign != 0 and len(ys) <= _MOST_CHIPS:  # dashes take ten times as long
                painter.setPen(QPen(self._color(sign), 1, Qt.PenStyle.DashLine))
                painter.drawLines([QLineF(0, y, frame.width, y) for y in levels.tolist()])
            else:
                self._draw_solid(painter, levels, self._color(sign))
        if frame.width < _MIN_WIDTH_FOR_TEXT:
            return
        placed: list[QRectF] = []
        head = self.texts.height + 8  # the bar's values are written there, over everything
        for each in self._chips(first, ys):
            size = self.texts.size(each.text)
            chip = QRectF(0, 0, size.width() + 10, size.height() + 2)
            lowest = max(frame.height - chip.height(), head)
            chip.moveTo(frame.width - chip.width() - 6, round(min(max(each.y - chip.height() / 2, head), lowest)))
            for other in placed:
                if chip.intersects(other):
                    chip.moveRight(other.left() - 3)
            placed.append(chip)
            painter.fillRect(chip, each.color)
            painter.setPen(text_on(each.color))
            self.texts.draw(painter, chip.left() + 5, chip.top() + 1, each.text)

    def _draw_solid(self, painter: QPainter, levels: Ints, color: QColor) -> None:
        """Draw hundreds of lines in one call, and without an object for each."""
        frame, rows = self.picture.frame, self._rects.rows(len(levels))
        rows[:, 0], rows[:, 2] = 0, int(frame.width * frame.dpr)
        rows[:, 1] = levels * frame.dpr
        rows[:, 3] = rows[:, 1] + max(1, round(frame.dpr)) - 1
        painter.save()
        to_physical(painter, frame.dpr)
        self._rects.draw(painter, 0, len(levels), color)
        painter.restore()
