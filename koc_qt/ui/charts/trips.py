"""Trades of a back-test on a chart: a line from each entry to its exit, and one that is looked at brought out."""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import tzinfo

import numpy as np
from PySide6.QtCore import QLineF, QPointF, QRectF
from PySide6.QtGui import QColor, QFont, QPainter, QPen, QPolygonF
from PySide6.QtWidgets import QGraphicsItem

from koc_qt.domain.backtests import RoundTrip
from koc_qt.ui.charts.candles import Picture, PixelItem
from koc_qt.ui.charts.colors import text_on
from koc_qt.ui.charts.series import Floats, Ints
from koc_qt.ui.charts.texts import TextCache
from koc_qt.ui.charts.ticks import local_time, price_text

_MOST_GLYPHS = 160  # trades in sight, from which lines alone are drawn
_HALF_PX = 4.0
_HIT_PX = 7.0
_BAND_ALPHA = 0.10
_PAD_PX = 5


class TripItem(PixelItem):
    """Lines from entries to exits, in the colour of a profit or a loss; an open trade's goes on to the newest bar."""

    def __init__(self, picture: Picture, parent: QGraphicsItem, font: QFont) -> None:
        super().__init__(picture, parent, 9)
        self.texts = TextCache(font)
        self.trips: tuple[RoundTrip, ...] = ()
        self.chosen: RoundTrip | None = None
        self._entries_ns: Ints = np.empty(0, np.int64)
        self._exits_ns: Ints = np.empty(0, np.int64)
        self._prices: Floats = np.empty((2, 0))  # of entries and exits; nan where there is no exit
        self._bars: Ints = np.empty((2, 0), np.int64)  # of entries and exits; -1 is before the first bar

    def set_trips(self, trips: Sequence[RoundTrip], chosen: RoundTrip | None) -> None:
        """Show these alone, and `chosen`, which need not be among them, brought out."""
        self.trips, self.chosen = tuple(trips), chosen
        count, never = len(trips), np.iinfo(np.int64).max
        self._entries_ns = np.fromiter((trip.entry_ns for trip in trips), np.int64, count)
        self._exits_ns = np.fromiter((trip.exit_ns or never for trip in trips), np.int64, count)
        self._prices = np.empty((2, count))
        self._prices[0] = [trip.entry_price for trip in trips]
        self._prices[1] = [np.nan if trip.exit_price is None else trip.exit_price for trip in trips]
        self.locate()

    def locate(self) -> None:
        """Bars were replaced or added: find every trade's bars again."""
        times = self.picture.bars.open_time_ns
        self._bars = np.stack(
            [np.searchsorted(times, each, "right") - 1 for each in (self._entries_ns, self._exits_ns)]
        )

    def _in_sight(self, x0: float, x1: float) -> Ints:
        """Give the numbers of the trades that are held anywhere between two pixels."""
        frame = self.picture.frame
        entries, exits = self._bars
        held = (exits >= frame.index_at(x0) - 1) & (entries <= frame.index_at(x1) + 1) & (exits >= 0)
        return np.flatnonzero(held)

    def _ends(self, trip: RoundTrip) -> tuple[QPointF, QPointF]:
        """Give where a trade begins and ends; an open one at the newest bar's close."""
        frame, bars = self.picture.frame, self.picture.bars
        times, last = bars.open_time_ns, len(bars) - 1
        begins = int(np.searchsorted(times, trip.entry_ns, "right")) - 1
        start = QPointF(frame.x_of(begins), frame.y_of(trip.entry_price))
        if trip.exit_ns is None or trip.exit_price is None:
            return start, QPointF(frame.x_of(last), frame.y_of(bars.bar(last)[3]))
        ends = int(np.searchsorted(times, trip.exit_ns, "right")) - 1
        return start, QPointF(frame.x_of(ends), frame.y_of(trip.exit_price))

    def draw(self, painter: QPainter, exposed: QRectF) -> None:
        """Draw the lines of what is exposed, then the chosen one over them."""
        if not len(self.picture.bars):
            return
        numbers = self._in_sight(exposed.left(), exposed.right())
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if len(numbers) <= _MOST_GLYPHS:
            for number in numbers.tolist():
                self._draw_trip(painter, self.trips[number])
        else:
            self._draw_many(painter, numbers)
        if self.chosen is not None:
            self._draw_chosen(painter, self.chosen)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, on=False)

    def _color(self, trip: RoundTrip) -> QColor:
        return self.picture.colors.up if trip.pnl > 0 else self.picture.colors.down

    def _draw_many(self, painter: QPainter, numbers: Ints) -> None:
        """Draw one line a pixel column: no eye could tell more apart."""
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, on=False)
        frame = self.picture.frame
        xs = ((self._bars[0, numbers] - frame.left) * frame.spacing).astype(np.int64)
        _, firsts = np.unique(xs, return_index=True)
        for is_gain in (True, False):
            chosen = [self.trips[n] for n in numbers[firsts].tolist() if (self.trips[n].pnl > 0) is is_gain]
            if chosen:
                painter.setPen(QPen(self._color(chosen[0]), 1))
                painter.drawLines([QLineF(*self._ends(trip)) for trip in chosen])

    def _draw_trip(self, painter: QPainter, trip: RoundTrip) -> None:
        start, end = self._ends(trip)
        color = self._color(trip)
        pen = QPen(color, 1.2)
        pen.setDashPattern([3, 2])
        painter.setPen(pen)
        painter.drawLine(start, end)
        self._draw_glyphs(painter, trip, start, end)

    def _draw_glyphs(self, painter: QPainter, trip: RoundTrip, start: QPointF, end: QPointF) -> None:
        """Draw a triangle the way of the trade where it begins, a diamond where it ends."""
        colors = self.picture.colors
        is_long = trip.quantity > 0
        tip = -_HALF_PX if is_long else _HALF_PX
        painter.setPen(QPen(colors.outline, 1))
        painter.setBrush(colors.buy if is_long else colors.sell)
        painter.drawPolygon(
            QPolygonF([start + QPointF(0, tip), start + QPointF(_HALF_PX, -tip), start + QPointF(-_HALF_PX, -tip)])
        )
        if trip.exit_ns is not None:
            painter.setBrush(colors.sell if is_long else colors.buy)
            painter.drawPolygon(
                QPolygonF(
                    [end + QPointF(x, y) for x, y in ((0, -_HALF_PX), (_HALF_PX, 0), (0, _HALF_PX), (-_HALF_PX, 0))]
                )
            )

    def _draw_chosen(self, painter: QPainter, trip: RoundTrip) -> None:
        """Draw a band over the time that it was held, its line, and what was done at both ends."""
        frame, color = self.picture.frame, self._color(trip)
        start, end = self._ends(trip)
        band = QColor(color)
        band.setAlphaF(_BAND_ALPHA)
        half = max(frame.spacing / 2, 1.0)
        painter.fillRect(QRectF(start.x() - half, 0, end.x() - start.x() + 2 * half, frame.height), band)
        painter.setPen(QPen(color, 2))
        painter.drawLine(start, end)
        self._draw_glyphs(painter, trip, start, end)
        verbs = ("Bought", "Sold") if trip.quantity > 0 else ("Sold", "Bought")
        entry = f"{verbs[0]} {abs(trip.quantity):,.8g} at {price_text(trip.entry_price, self.picture.decimals)}"
        gain = f"{trip.pnl:+,.2f}"
        closed = f"{verbs[1]} at {price_text(trip.exit_price, self.picture.decimals)}" if trip.exit_price else "Open"
        is_below = end.y() > start.y()
        self._draw_chip(painter, start, entry, self.picture.colors.tag, is_left=True, is_below=not is_below)
        self._draw_chip(painter, end, f"{closed} · {gain}", color, is_left=False, is_below=is_below)

    def _draw_chip(
        self, painter: QPainter, at: QPointF, text: str, color: QColor, *, is_left: bool, is_below: bool
    ) -> None:
        """Draw a text beside a point, within the plot."""
        frame, size = self.picture.frame, self.texts.size(text)
        if not -size.width() <= at.x() <= frame.width + size.width() or frame.width < size.width() + 2 * _PAD_PX:
            return
        width, height = size.width() + 2 * _PAD_PX, size.height() + 2
        x = at.x() - width - 6 if is_left else at.x() + 6
        y = at.y() + 8 if is_below else at.y() - height - 8
        chip = QRectF(min(max(x, 2), frame.width - width - 2), min(max(y, 2), frame.height - height - 2), width, height)
        painter.fillRect(chip, color)
        painter.setPen(text_on(color))
        self.texts.draw(painter, chip.left() + _PAD_PX, chip.top() + 1, text)

    def tooltip_at(self, at: QPointF, zone: tzinfo | None) -> str:
        """Rich text about the trade whose entry or exit is below the mouse; empty where there is none."""
        if not len(self.picture.bars):
            return ""
        numbers = self._in_sight(at.x() - _HIT_PX, at.x() + _HIT_PX)
        some = [self.trips[number] for number in numbers[:_MOST_GLYPHS].tolist()]
        for trip in [*([self.chosen] if self.chosen is not None else []), *some]:
            for end in self._ends(trip):
                if max(abs(end.x() - at.x()), abs(end.y() - at.y())) <= _HIT_PX:
                    return _tooltip(trip, self.picture.decimals, zone)
        return ""


def _tooltip(trip: RoundTrip, decimals: int, zone: tzinfo | None) -> str:
    side = "Long" if trip.quantity > 0 else "Short"
    lines = [
        f"Back-test: {side} {abs(trip.quantity):,.8g}",
        f"Entry {price_text(trip.entry_price, decimals)} · {local_time(trip.entry_ns, zone):%Y-%m-%d %H:%M:%S}",
        "Open at the end"
        if trip.exit_ns is None or trip.exit_price is None
        else f"Exit {price_text(trip.exit_price, decimals)} · {local_time(trip.exit_ns, zone):%Y-%m-%d %H:%M:%S}",
        f"PnL {trip.pnl:+,.2f} after fees of {trip.fees:,.2f}",
    ]
    return "<qt>" + "<br>".join(html.escape(each).replace(" ", "&nbsp;") for each in lines) + "</qt>"
