"""All that is drawn inside the plot, put together."""

from __future__ import annotations

from datetime import tzinfo

from PySide6.QtCore import QPointF
from PySide6.QtGui import QFont

from koc_qt.ui.charts.axes import PriceTag
from koc_qt.ui.charts.candles import CandleItem, CrosshairItem, GridItem, LastPriceItem, Picture, PixelItem, VolumeItem
from koc_qt.ui.charts.markers import LinesItem, MarkerItem
from koc_qt.ui.charts.texts import axis_font
from koc_qt.ui.charts.trips import TripItem
from koc_qt.ui.charts.view import PlotArea


class PlotScene:
    """The items of one plot, from the grid at the back to the crosshair in front."""

    def __init__(self, picture: Picture, plot: PlotArea, font: QFont) -> None:
        self._picture = picture
        self.markers = MarkerItem(picture, plot, axis_font(font))
        self.lines = LinesItem(picture, plot, axis_font(font))
        self.trips = TripItem(picture, plot, axis_font(font))
        self.crosshair = CrosshairItem(picture, plot)
        self._items: tuple[PixelItem, ...] = (
            GridItem(picture, plot),
            VolumeItem(picture, plot),
            CandleItem(picture, plot),
            LastPriceItem(picture, plot),
            self.lines,
            self.trips,
            self.markers,
            self.crosshair,
        )

    def set_size(self, width: int, height: int) -> None:
        """Fill a plot of so many logical pixels."""
        for item in self._items:
            item.set_size(width, height)

    def set_font(self, font: QFont) -> None:
        """Follow the window's font."""
        self.markers.texts.set_font(axis_font(font))
        self.lines.texts.set_font(axis_font(font))
        self.trips.texts.set_font(axis_font(font))

    def locate(self) -> None:
        """Bars were replaced or added at the left: find everything's bars again."""
        self.markers.locate()
        self.trips.locate()

    def bar_opened(self) -> None:
        """A bar was added at the right."""
        self.markers.bar_opened()
        self.trips.locate()

    def tooltip_at(self, at: QPointF, zone: tzinfo | None) -> str:
        """Rich text about what is below the mouse (logical pixels); empty where there is nothing."""
        return self.markers.tooltip_at(at, zone) or self.trips.tooltip_at(at, zone)

    def price_tags(self, countdown: str) -> list[PriceTag]:
        """What the price axis points out: the last price with the time its bar has left, then the lines in sight."""
        tags = []
        bars, colors = self._picture.bars, self._picture.colors
        if len(bars):
            opened, _, _, close, _ = bars.bar(len(bars) - 1)
            tags.append(PriceTag(close, colors.up if close >= opened else colors.down, countdown))
        return tags + [PriceTag(float(line.price), self.lines.color(line)) for line in self.lines.named()]
