"""Everything that the parts of a chart must agree on to draw the same moment; made anew when scale or size change."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import tzinfo

from koc_qt.ui.charts.pyramid import Nodes, Pyramid
from koc_qt.ui.charts.scales import PriceScale, TimeScale
from koc_qt.ui.charts.series import BarSeries
from koc_qt.ui.charts.ticks import TimeTick, price_ticks, time_ticks

_VOLUME_SHARE = 0.18  # of the height
_MIN_HEIGHT_FOR_VOLUME = 90
_MARKER_ROOM_PX = 14  # above and below the candles


@dataclass(slots=True)
class Frame:
    """One state of the picture; pixels are logical and count from the plot's top left corner."""

    width: int = 1
    height: int = 1
    dpr: float = 1.0
    left: float = 0.0
    spacing: float = 7.0
    low: float = 0.0
    high: float = 1.0
    fitted_low: float = 0.0  # the prices that the bars in sight reach; a live bar beyond them asks for a new frame
    fitted_high: float = 0.0
    level: int = 0
    start: int = 0  # nodes of `level` in sight: [start, stop)
    stop: int = 0
    volume_top: float = 1.0
    volume_max: float = 0.0
    price_marks: list[float] = field(default_factory=list)
    time_marks: list[TimeTick] = field(default_factory=list)

    def x_of(self, index: float) -> float:
        """Where a bar's middle is."""
        return (index - self.left) * self.spacing

    def index_at(self, x: float) -> float:
        """The bar index at a pixel, with its fraction."""
        return self.left + x / self.spacing

    def y_of(self, price: float) -> float:
        """Where a price is."""
        return (self.high - price) * self.height / (self.high - self.low)

    def price_at(self, y: float) -> float:
        """The price at a pixel."""
        return self.high - y * (self.high - self.low) / self.height

    @property
    def node_px(self) -> float:
        """Logical pixels a node."""
        return self.spacing * (1 << self.level)

    def node_x(self, node: int) -> float:
        """Where the left edge of a node is."""
        return self.x_of((node << self.level) - 0.5)

    def nodes_between(self, x0: float, x1: float) -> tuple[int, int]:
        """The nodes [start, stop) that have a pixel between two edges."""
        size = 1 << self.level
        first = math.floor((self.index_at(x0) + 0.5) / size)
        last = math.floor((self.index_at(x1) + 0.5) / size)
        return max(first, self.start), min(last + 1, self.stop)


def visible_nodes(bars: BarSeries, pyramid: Pyramid, scale: TimeScale) -> tuple[int, Nodes]:
    """Choose the level of detail and give the nodes in sight."""
    level = pyramid.level_for(scale.spacing)
    size = 1 << level
    start = math.floor((scale.left + 0.5) / size)
    stop = math.floor((scale.right + 0.5) / size) + 1
    return level, pyramid.nodes(level, start, min(stop, pyramid.count(level)))


def make_frame(
    bars: BarSeries,
    pyramid: Pyramid,
    time: TimeScale,
    price: PriceScale,
    *,
    height: int,
    dpr: float,
    decimals: int,
    header_px: float,
    zone: tzinfo | None,
) -> Frame:
    """Fit the price scale (where automatic) below a header of so many pixels, and work out what is seen."""
    level, nodes = visible_nodes(bars, pyramid, time)
    volume_max = float(nodes.volume.max()) if len(nodes) else 0.0
    with_volume = volume_max > 0 and height >= _MIN_HEIGHT_FOR_VOLUME
    volume_top = height * (1 - _VOLUME_SHARE) if with_volume else float(height)
    fitted_low, fitted_high = (float(nodes.low.min()), float(nodes.high.max())) if len(nodes) else (0.0, 0.0)
    if price.auto and len(nodes):
        room = min(_MARKER_ROOM_PX, height * 0.08)
        price.fit(fitted_low, fitted_high, height, header_px + room, volume_top - room)
    return Frame(
        width=time.width,
        height=height,
        dpr=dpr,
        left=time.left,
        spacing=time.spacing,
        low=price.low,
        high=price.high,
        fitted_low=fitted_low,
        fitted_high=fitted_high,
        level=level,
        start=nodes.start,
        stop=nodes.start + len(nodes),
        volume_top=volume_top,
        volume_max=volume_max,
        price_marks=price_ticks(price.low, price.high, height, decimals) if len(bars) else [],
        time_marks=time_ticks(bars, time.left, time.right, time.width, zone),
    )
