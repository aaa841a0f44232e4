"""Candles, volumes, grid and crosshair as items of a pyqtgraph view that paint in pixels of the screen."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QLineF, QRectF, Qt
from PySide6.QtGui import QPainter, QPen
from PySide6.QtWidgets import QGraphicsItem, QStyleOptionGraphicsItem, QWidget

from koc_qt.ui.charts.colors import ChartColors
from koc_qt.ui.charts.frame import Frame
from koc_qt.ui.charts.pyramid import Nodes, Pyramid
from koc_qt.ui.charts.rects import Pixels, RectBuffer, to_physical
from koc_qt.ui.charts.series import BarSeries, Floats

_BODY_SHARE = 0.8
_FAR_PX = 1_000_000.0  # beyond every screen, and well within int32


class Picture:
    """What items and axes share: the bars, the frame of the moment, and the colours. The chart writes, they read.

    Whoever paints first calls `freshen`, so that none shows an older frame than another.
    """

    def __init__(self, colors: ChartColors, freshen: Callable[[], None]) -> None:
        self.freshen = freshen
        self.bars = BarSeries()
        self.pyramid = Pyramid(self.bars)
        self.frame = Frame()
        self.colors = colors
        self.decimals = 2


class PixelItem(pg.GraphicsObject):  # type: ignore[misc]  # pyqtgraph is untyped
    """An item that fills the plot and is drawn in pixels: its parent is the view box itself, not its scaled content.

    Whoever changes one updates the view: each scene passes on what its items ask for in an event of its own, so that
    the window would be painted once for each of several charts.
    """

    def __init__(self, picture: Picture, parent: QGraphicsItem, z: float) -> None:
        super().__init__(parent)
        self.picture = picture
        self._bounds = QRectF(0, 0, 1, 1)
        self.setZValue(z)
        # Without this flag Qt would call everything exposed, always.
        self.setFlag(QGraphicsItem.GraphicsItemFlag.ItemUsesExtendedStyleOption)
        self.setAcceptedMouseButtons(Qt.MouseButton.NoButton)

    def set_size(self, width: int, height: int) -> None:
        """Fill a plot of so many logical pixels."""
        self.prepareGeometryChange()
        self._bounds = QRectF(0, 0, width, height)

    def boundingRect(self) -> QRectF:  # noqa: N802
        """All of the plot."""
        return self._bounds

    def paint(self, painter: QPainter, option: QStyleOptionGraphicsItem, widget: QWidget | None = None) -> None:
        """Draw what is exposed; errors go to the excepthook, for one that crosses Qt's painting ends the process."""
        try:
            self.draw(painter, option.exposedRect)
        except Exception:
            sys.excepthook(*sys.exc_info())

    def draw(self, painter: QPainter, exposed: QRectF) -> None:
        """Draw the part of the plot within a rectangle of logical pixels."""
        raise NotImplementedError


class GridItem(PixelItem):
    """Lines at the labels of both axes."""

    def __init__(self, picture: Picture, parent: QGraphicsItem) -> None:
        super().__init__(picture, parent, -10)
        self._rects = RectBuffer()

    def draw(self, painter: QPainter, exposed: QRectF) -> None:
        """Draw minor lines, then major ones over them."""
        frame, colors = self.picture.frame, self.picture.colors
        to_physical(painter, frame.dpr)
        minor = [tick for tick in frame.time_marks if not tick.major]
        major = [tick for tick in frame.time_marks if tick.major]
        count = len(frame.price_marks)
        rows = self._rects.rows(count + len(frame.time_marks))
        right, bottom = int(frame.width * frame.dpr), int(frame.height * frame.dpr)
        for row, price in enumerate(frame.price_marks):
            y = int(frame.y_of(price) * frame.dpr)
            rows[row] = 0, y, right, y
        for row, tick in enumerate((*minor, *major), count):
            x = int(frame.x_of(tick.index) * frame.dpr)
            rows[row] = x, 0, x, bottom
        self._rects.draw(painter, 0, count + len(minor), colors.grid)
        self._rects.draw(painter, count + len(minor), len(rows), colors.grid_major)


def _exposed_nodes(picture: Picture, exposed: QRectF) -> Nodes:
    start, stop = picture.frame.nodes_between(exposed.left() - 1, exposed.right() + 1)
    return picture.pyramid.nodes(picture.frame.level, start, stop)


def _columns(frame: Frame, nodes: Nodes, gap_px: int) -> tuple[Pixels, int, int]:
    """Physical pixels of each node's wick, and the widths of wick and body; bodies have the wick in their middle."""
    node_px = frame.node_px * frame.dpr
    wick = max(1, round(frame.dpr))
    body = max(min(int(node_px * _BODY_SHARE), int(node_px) - gap_px), wick)
    body -= (body - wick) % 2
    middles = (np.arange(nodes.start, nodes.start + len(nodes)) + 0.5) * (1 << frame.level) - 0.5
    lefts = np.floor((middles - frame.left) * (frame.spacing * frame.dpr) - (wick - 1) / 2)
    return lefts.astype(np.int32), wick, body


class CandleItem(PixelItem):
    """Candles of about two pixels or more, whatever the zoom: each is a node of the pyramid."""

    def __init__(self, picture: Picture, parent: QGraphicsItem) -> None:
        super().__init__(picture, parent, 0)
        self._rects = RectBuffer()

    def draw(self, painter: QPainter, exposed: QRectF) -> None:
        """Draw wicks and bodies of what is exposed, one call a colour."""
        frame, colors = self.picture.frame, self.picture.colors
        nodes = _exposed_nodes(self.picture, exposed)
        if not len(nodes):
            return
        to_physical(painter, frame.dpr)
        lefts, wick, body = _columns(frame, nodes, 1)
        scale = frame.height * frame.dpr / (frame.high - frame.low)

        def rows_of(prices: Floats) -> Pixels:
            offsets = (frame.high - prices) * scale
            return np.floor(np.clip(offsets, -_FAR_PX, _FAR_PX, out=offsets)).astype(np.int32)

        opens, highs, lows, closes = (rows_of(each) for each in (nodes.open, nodes.high, nodes.low, nodes.close))
        parts = 2 if body > wick else 1
        rects = self._rects.rows(parts * len(nodes))
        rising = nodes.close >= nodes.open
        written = 0
        for mask, color in ((rising, colors.up), (~rising, colors.down)):
            count = int(np.count_nonzero(mask))
            wicks = rects[written : written + count]
            wicks[:, 0] = lefts[mask]
            wicks[:, 1] = highs[mask]
            wicks[:, 2] = wicks[:, 0] + (wick - 1)
            wicks[:, 3] = np.maximum(lows[mask], wicks[:, 1] + (wick - 1))
            if parts == 2:
                bodies = rects[written + count : written + 2 * count]
                bodies[:, 0] = wicks[:, 0] - (body - wick) // 2
                bodies[:, 1] = np.minimum(opens[mask], closes[mask])
                bodies[:, 2] = bodies[:, 0] + (body - 1)
                bodies[:, 3] = np.maximum(np.maximum(opens[mask], closes[mask]), bodies[:, 1] + (wick - 1))
            self._rects.draw(painter, written, written + parts * count, color)
            written += parts * count


class VolumeItem(PixelItem):
    """Bars of volume in the lower part of the plot, the greatest in sight as high as that part."""

    def __init__(self, picture: Picture, parent: QGraphicsItem) -> None:
        super().__init__(picture, parent, -5)
        self._rects = RectBuffer()

    def draw(self, painter: QPainter, exposed: QRectF) -> None:
        """Draw what is exposed, one call a colour."""
        frame, colors = self.picture.frame, self.picture.colors
        nodes = _exposed_nodes(self.picture, exposed)
        if not len(nodes) or frame.volume_top >= frame.height:
            return
        to_physical(painter, frame.dpr)
        lefts, wick, body = _columns(frame, nodes, 1)
        bottom = round(frame.height * frame.dpr)
        scale = (frame.height - frame.volume_top) * frame.dpr / frame.volume_max
        heights = np.ceil(nodes.volume * scale).astype(np.int32)
        rects = self._rects.rows(len(nodes))
        rising = nodes.close >= nodes.open
        written = 0
        for mask, color in ((rising, colors.volume_up), (~rising, colors.volume_down)):
            count = int(np.count_nonzero(mask))
            part = rects[written : written + count]
            part[:, 0] = lefts[mask] - (body - wick) // 2
            part[:, 1] = bottom - heights[mask]
            part[:, 2] = part[:, 0] + (body - 1)
            part[:, 3] = bottom - 1
            self._rects.draw(painter, written, written + count, color)
            written += count


class LastPriceItem(PixelItem):
    """A dotted line from the newest bar to the price axis, where its price is tagged."""

    def __init__(self, picture: Picture, parent: QGraphicsItem) -> None:
        super().__init__(picture, parent, 2)

    def draw(self, painter: QPainter, exposed: QRectF) -> None:
        """Draw the line; it lies within the strip that a live tick repaints."""
        frame, colors, bars = self.picture.frame, self.picture.colors, self.picture.bars
        if not len(bars):
            return
        start = frame.x_of(len(bars) - 1) + frame.node_px / 2
        if start >= frame.width:
            return
        to_physical(painter, frame.dpr)
        opened, _, _, close, _ = bars.bar(len(bars) - 1)
        y = int(frame.y_of(close) * frame.dpr)
        if not 0 <= y <= frame.height * frame.dpr:
            return
        pen = QPen(colors.up if close >= opened else colors.down, max(1, round(frame.dpr)))
        pen.setDashPattern([1, 2])
        painter.setPen(pen)
        painter.drawLine(QLineF(max(start, 0) * frame.dpr, y, frame.width * frame.dpr, y))


class CrosshairItem(PixelItem):
    """Dashed lines through the bar and the price below the mouse."""

    def __init__(self, picture: Picture, parent: QGraphicsItem) -> None:
        super().__init__(picture, parent, 20)
        self._at: tuple[float, float] | None = None

    def set_position(self, at: tuple[float, float] | None) -> None:
        """Move to logical pixels, or hide; only the old and the new lines are repainted."""
        if at == self._at:
            return
        for x, y in (each for each in (self._at, at) if each is not None):
            self.update(QRectF(x - 2, 0, 4, self._bounds.height()))
            self.update(QRectF(0, y - 2, self._bounds.width(), 4))
        self._at = at

    def draw(self, painter: QPainter, exposed: QRectF) -> None:
        """Draw both lines."""
        if self._at is None:
            return
        frame = self.picture.frame
        to_physical(painter, frame.dpr)
        pen = QPen(self.picture.colors.crosshair, max(1, round(frame.dpr)))
        pen.setDashPattern([4, 4])
        painter.setPen(pen)
        x, y = int(self._at[0] * frame.dpr), int(self._at[1] * frame.dpr)
        painter.drawLine(x, 0, x, int(frame.height * frame.dpr))
        painter.drawLine(0, y, int(frame.width * frame.dpr), y)
