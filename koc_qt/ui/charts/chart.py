"""The candle chart: bars, volume, fills and price levels, smooth with a million bars.

Bars are placed by index, not by time, so that nights, weekends and outages take no room; the date axis looks times up.
Times are UTC nanoseconds everywhere and shown on the person's clock (bars of a day and longer by UTC).

Changes of scale only mark the picture stale: it is worked out once, before the next paint. A live tick that neither
rescales nor opens a bar repaints only the strip from the newest bar to the right edge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import tzinfo

from PySide6.QtCore import QEvent, QPoint, QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QKeyEvent, QResizeEvent
from PySide6.QtWidgets import QWidget

from koc_qt.domain.backtests import RoundTrip
from koc_qt.ui.charts.axes import DateAxis, PriceAxis
from koc_qt.ui.charts.candles import Picture
from koc_qt.ui.charts.colors import ChartColors, dark_colors
from koc_qt.ui.charts.frame import make_frame
from koc_qt.ui.charts.markers import Marker, PriceLine
from koc_qt.ui.charts.overlays import Legend, Message, NewestButton
from koc_qt.ui.charts.scales import PriceScale, TimeScale
from koc_qt.ui.charts.scene import PlotScene
from koc_qt.ui.charts.series import BarColumns
from koc_qt.ui.charts.ticks import moment_text
from koc_qt.ui.charts.view import ChartView

_MIN_HEIGHT_FOR_LEGEND = 100
_MIN_WIDTH_FOR_AXIS = 140
_OLDER_BARS = 50  # ask for older bars when fewer than this are left of the view, or half a view
_KEY_PAN = 0.1
_KEY_ZOOM = 1.2


class CandleChart(QWidget):
    """Candles of one symbol and timeframe. Give it bars with `set_bars`, then `update_bar` each live change.

    `older_wanted` asks once for bars before the first; it asks again after `prepend` (or `retry_older`), and no more
    after `no_older`. `following_changed` says whether the newest bar is kept in sight. `zone` None is the system's.
    The colours are those of the dark theme until `set_palette`.
    """

    older_wanted = Signal()
    following_changed = Signal(bool)

    def __init__(self, parent: QWidget | None = None, *, zone: tzinfo | None = None) -> None:
        super().__init__(parent)
        self._picture = Picture(dark_colors(), self._freshen)
        self._time = TimeScale()
        self._price = PriceScale()
        self._zone = zone
        self._stale = True
        self._placed = False  # whether the view was ever put somewhere in a real size
        self._following = True
        self._older_asked = self._older_none = False
        self._hover: QPointF | None = None
        self._countdown = ""
        self._empty_text = "Waiting for bars…"
        self._fault = ""

        self._view = ChartView(self, self._freshen, lambda at: self._scene.tooltip_at(at, self._zone))
        self._scene = PlotScene(self._picture, self._view.plot, self.font())
        self._price_axis = PriceAxis(self._picture, self)
        self._date_axis = DateAxis(self._picture, self)
        self._legend = Legend(self._picture, self)
        self._empty = Message(self._picture, self, fault=False)
        self._notice = Message(self._picture, self, fault=True)
        self._newest = NewestButton(self._picture, self)

        self._view.panned.connect(self._pan)
        self._view.zoomed.connect(self._zoom)
        self._view.stretched.connect(self._stretch)
        self._view.hovered.connect(self._hover_at)
        self._view.reset_wanted.connect(self.reset_price_scale)
        self._price_axis.stretched.connect(self._stretch)
        self._price_axis.reset_wanted.connect(self.reset_price_scale)
        self._date_axis.zoomed.connect(self._zoom)
        self._newest.clicked.connect(self.go_to_newest)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Candle chart")
        self.setMinimumSize(80, 60)
        self.set_palette(self._picture.colors)

    # What is shown

    def set_bars(self, columns: BarColumns, *, keep_view: bool = False) -> None:
        """Show these bars instead, the newest in sight; or with `keep_view` the same times as before."""
        kept_ns = None if self._following or not keep_view else self._picture.bars.time_ns(round(self._time.right))
        self._picture.bars.set(columns)
        self._picture.pyramid.refresh(0)
        self._older_asked = self._older_none = False
        if not keep_view:
            self._price.auto = True
            self._time = TimeScale(width=self._time.width)
        self._bars_changed(kept_ns)

    def prepend(self, columns: BarColumns) -> int:
        """Add older bars at the left without moving the view; give how many were new. None new means no older ones."""
        added = self._picture.bars.prepend(columns)
        self._older_asked = False
        if not added:
            self._older_none = True
            return 0
        self._picture.pyramid.refresh(0)
        self._scene.locate()
        self._time.count += added
        self._time.right += added
        self._changed()
        return added

    def merge(self, columns: BarColumns) -> None:
        """Let these be all the bars from their first to their last time, such as those of an outage."""
        kept_ns = None if self._following else self._picture.bars.time_ns(round(self._time.right))
        self._picture.pyramid.refresh(self._picture.bars.merge(columns))
        self._bars_changed(kept_ns)

    def update_bar(
        self, open_time_ns: int, open: float, high: float, low: float, close: float, volume: float, closed: bool
    ) -> None:
        """Change the bar that opens at a time, or append it. `closed` ends the countdown of a forming bar.

        Raise ValueError for a price that is not a number, or a time between two bars: `merge` is for those.
        """
        bars, before = self._picture.bars, len(self._picture.bars)
        index = bars.upsert(open_time_ns, (open, high, low, close, volume))
        self._picture.pyramid.touch(index)
        if closed:
            self._countdown = ""
        if len(bars) > before:
            self._bar_opened()
        elif self._needs_new_frame(index):
            self._changed()
        else:
            self._repaint_from(index)

    def set_markers(self, markers: Sequence[Marker]) -> None:
        """Show these fills alone."""
        self._scene.markers.set_markers(markers)
        self._view.viewport().update()

    def add_markers(self, markers: Sequence[Marker]) -> None:
        """Show these fills too."""
        self._scene.markers.add_markers(markers)
        self._view.viewport().update()

    def set_trips(self, trips: Sequence[RoundTrip], chosen: RoundTrip | None = None) -> None:
        """Show these trades of a back-test alone, and one of them, or another, brought out."""
        self._scene.trips.set_trips(trips, chosen)
        self._view.viewport().update()

    def set_lines(self, lines: Sequence[PriceLine]) -> None:
        """Show these open orders and average prices alone."""
        self._scene.lines.set_lines(lines)
        self._changed()

    def set_countdown(self, text: str) -> None:
        """Say below the last price how long the bar goes on, such as 0:42; the owner of a clock calls this."""
        if text != self._countdown:
            self._countdown = text
            self._tag_prices()

    def set_empty_text(self, text: str) -> None:
        """Say why there are no bars yet, such as 'Waiting for bars of BTC/USDT…'."""
        self._empty_text = text
        self._place_texts()

    def set_fault(self, text: str) -> None:
        """Say over the bars what is wrong with them, such as 'BTC/USDT has ended'; an empty text takes it away."""
        self._fault = text
        self._place_texts()

    def set_palette(self, colors: ChartColors) -> None:
        """Change all colours."""
        self._picture.colors = colors
        self._view.setBackground(colors.background)
        self._tag_prices()
        self._repaint_all()

    def set_decimals(self, price_decimals: int) -> None:
        """Show prices with so many decimals, those of the instrument's tick. Raise ValueError unless 0 to 18."""
        if not 0 <= price_decimals <= 18:
            raise ValueError(f"a price is shown with 0 to 18 decimals, not {price_decimals}")
        if price_decimals != self._picture.decimals:
            self._picture.decimals = price_decimals
            self._changed()

    # What is in sight

    @property
    def bar_count(self) -> int:
        """How many bars there are."""
        return len(self._picture.bars)

    @property
    def visible_range(self) -> tuple[int, int]:
        """Indices [start, stop) of the bars in sight, counted from the oldest."""
        start = min(max(round(self._time.left), 0), self.bar_count)
        return start, max(min(round(self._time.right) + 1, self.bar_count), start)

    @property
    def visible_times_ns(self) -> tuple[int, int] | None:
        """Opening times of the first and last bar in sight; None while there are none."""
        start, stop = self.visible_range
        return (self._picture.bars.time_ns(start), self._picture.bars.time_ns(stop - 1)) if stop > start else None

    @property
    def first_time_ns(self) -> int | None:
        """Opening time of the oldest bar; None while there is none."""
        return self._picture.bars.time_ns(0) if self.bar_count else None

    @property
    def last_time_ns(self) -> int | None:
        """Opening time of the newest bar; None while there is none."""
        return self._picture.bars.time_ns(self.bar_count - 1) if self.bar_count else None

    def price_at(self, at: QPoint) -> float | None:
        """Give the price at a point of this widget; None beside the plot, or while there are no bars."""
        if not self.bar_count or not self._view.geometry().contains(at):
            return None
        low, high = self.price_range
        return float(high - (high - low) * (at.y() + 0.5) / max(self._view.height(), 1))

    @property
    def price_range(self) -> tuple[float, float]:
        """The prices at the lower and the upper edge."""
        self._freshen()
        return self._price.low, self._price.high

    @property
    def following(self) -> bool:
        """Whether the newest bar is in sight, and so is kept there when bars open."""
        return self._following

    @property
    def legend_text(self) -> str:
        """What the legend says now."""
        self._freshen()
        return self._legend.text

    @property
    def fault(self) -> str:
        """What is said over the bars; empty while nothing is wrong with them."""
        return self._fault

    @property
    def markers(self) -> tuple[Marker, ...]:
        """The fills that are shown, in order of time."""
        return self._scene.markers.shown

    @property
    def lines(self) -> tuple[PriceLine, ...]:
        """The open orders and average prices that are shown, highest first."""
        return self._scene.lines.lines

    def go_to_newest(self) -> None:
        """Show the newest bar and follow it."""
        self._time.to_newest()
        self._changed()

    def go_to_oldest(self) -> None:
        """Show the oldest bar there is; older ones are asked for."""
        self._time.to_oldest()
        self._changed()

    def go_to(self, time_ns: int) -> bool:
        """Put the bar of a time into the middle; False (and the oldest shown) when it is before all bars."""
        index = self._picture.bars.index_at(time_ns)
        if index < 0:
            self.go_to_oldest()
            return False
        self._time.centre(index)
        self._changed()
        return True

    def show_range(self, first: int, last: int) -> None:
        """Show the bars of two indices and all between."""
        self._time.show(first, last)
        self._changed()

    def reset_price_scale(self) -> None:
        """Fit prices to the bars in sight again."""
        self._price.auto = True
        self._changed()

    def no_older(self) -> None:
        """There are no bars before the first: ask no more."""
        self._older_none = True

    def retry_older(self) -> None:
        """The last request came to nothing: ask again at the next occasion."""
        self._older_asked = False

    # Gestures

    def _pan(self, dx: float, dy: float) -> None:
        self._time.pan_px(dx)
        if not self._price.auto:
            self._price.pan_px(dy, self._view.height())
        self._changed()

    def _zoom(self, factor: float, x: float) -> None:
        self._time.zoom(factor, x)
        self._changed()

    def _stretch(self, factor: float, y: float) -> None:
        self._freshen()
        self._price.zoom(factor, y, self._view.height())
        self._changed()

    def _hover_at(self, at: QPointF | None) -> None:
        self._hover = at
        self._place_crosshair()

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Arrows move, plus and minus zoom, Home and End go to the ends."""
        times = 9 if event.modifiers() & Qt.KeyboardModifier.ControlModifier else 1
        step, middle = self._time.width * _KEY_PAN * times, self._time.width / 2
        gestures: dict[int, Callable[[], None]] = {
            Qt.Key.Key_Left: lambda: self._pan(step, 0),
            Qt.Key.Key_Right: lambda: self._pan(-step, 0),
            Qt.Key.Key_Plus: lambda: self._zoom(_KEY_ZOOM, middle),
            Qt.Key.Key_Equal: lambda: self._zoom(_KEY_ZOOM, middle),
            Qt.Key.Key_Minus: lambda: self._zoom(1 / _KEY_ZOOM, middle),
            Qt.Key.Key_Home: self.go_to_oldest,
            Qt.Key.Key_End: self.go_to_newest,
        }
        gestures.get(event.key(), lambda: super(CandleChart, self).keyPressEvent(event))()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """Lay out plot and axes; the right edge and the width of bars stay."""
        super().resizeEvent(event)
        self._lay_out()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        """Follow the font."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self._scene.set_font(self.font())
            self._lay_out()

    # How it comes together

    def _bars_changed(self, kept_ns: int | None) -> None:
        """Put the view where it was by time, or at the newest bar."""
        self._time.count = len(self._picture.bars)
        self._scene.locate()
        if kept_ns is None:
            self._time.to_newest()
        else:
            self._time.right = self._picture.bars.index_at(kept_ns)
            self._time.clamp()
        self._changed()

    def _bar_opened(self) -> None:
        followed = self._following
        self._time.count += 1
        self._scene.bar_opened()
        if self._time.count == 1:
            self._time.to_newest()
        elif followed:
            self._time.right += 1
            if not self._time.newest_visible:
                self._time.to_newest()
        self._changed()

    def _changed(self) -> None:
        """Something about the whole picture changed: paint it anew, ask for older bars, offer the way back."""
        if self._placed and self._price_axis.isVisibleTo(self) and self._price_axis.width() != self._axis_width():
            self._lay_out()  # and comes back here
            return
        self._stale = True
        self._repaint_all()
        following = self._time.newest_visible or self.bar_count == 0
        if following != self._following:
            self._following = following
            self.following_changed.emit(following)
        self._newest.setVisible(not following)
        self._place_texts()
        askable = self._placed and self.bar_count and not self._older_none and not self._older_asked
        if askable and self._time.left < max(_OLDER_BARS, self._time.window / 2):
            self._older_asked = True
            self.older_wanted.emit()

    def _lay_out(self) -> None:
        wide = self.width() >= _MIN_WIDTH_FOR_AXIS
        axis = self._axis_width() if wide else 0
        foot = self._date_axis.wanted_height()
        width, height = max(self.width() - axis, 1), max(self.height() - foot, 1)
        self._view.setGeometry(0, 0, width, height)
        self._price_axis.setGeometry(width, 0, axis, height)
        self._price_axis.setVisible(wide)
        self._date_axis.setGeometry(0, height, self.width(), foot)
        self._newest.move(width - NewestButton.SIZE_PX - 8, height - NewestButton.SIZE_PX - 8)
        self._scene.set_size(width, height)
        self._time.resize(width)
        if not self._placed:
            self._placed = True
            if self._following:
                self._time.to_newest()
            else:
                self._time.centre(self._time.right)  # where it was sent before it had a width
        self._changed()

    def _axis_width(self) -> int:
        """Room for the longest price there is, in sight or not: panning shall not move the axis."""
        return self._price_axis.wanted_width(self._picture.pyramid.extremes())

    def _freshen(self) -> None:
        """Work out the frame, if anything changed since it was."""
        dpr = self._view.devicePixelRatioF()
        if not self._stale and dpr == self._picture.frame.dpr:
            return
        self._stale = False
        height = max(self._view.height(), 1)
        with_legend = height >= _MIN_HEIGHT_FOR_LEGEND
        self._picture.frame = make_frame(
            self._picture.bars,
            self._picture.pyramid,
            self._time,
            self._price,
            height=height,
            dpr=dpr,
            decimals=self._picture.decimals,
            header_px=self._legend.height_px() if with_legend else 0.0,
            zone=self._zone,
        )
        frame = self._picture.frame
        seen, prices = (self._time.left, self._time.right), (frame.low, frame.high)
        self._view.plot.setRange(xRange=seen, yRange=prices, padding=0, disableAutoRange=False)
        self._tag_prices()
        self._place_crosshair()

    def _needs_new_frame(self, index: int) -> bool:
        """Whether a changed bar moves the scales, or is one that a strip would not cover."""
        frame, pyramid = self._picture.frame, self._picture.pyramid
        node = index >> frame.level
        if self._stale or index < len(self._picture.bars) - 1:
            return True
        if not frame.start <= node < frame.stop:
            return False
        changed = pyramid.nodes(frame.level, node, node + 1)
        if float(changed.volume[0]) > frame.volume_max:
            return True
        return self._price.auto and not (
            frame.fitted_low <= float(changed.low[0]) and float(changed.high[0]) <= frame.fitted_high
        )

    def _repaint_from(self, index: int) -> None:
        """Repaint what a live tick changed: from the newest candle to the right edge, its tag and its values."""
        frame = self._picture.frame
        left = max(frame.node_x(index >> frame.level) - 2, 0.0)
        if left < frame.width:
            strip = QRectF(left, 0, frame.width - left, frame.height)
            self._view.viewport().update(strip.toAlignedRect())
        self._tag_prices()
        self._show_values()

    def _repaint_all(self) -> None:
        self._view.viewport().update()
        for widget in (self._price_axis, self._date_axis, self._legend, self._newest, self._empty, self._notice):
            widget.update()

    def _tag_prices(self) -> None:
        if (tags := self._scene.price_tags(self._countdown)) != self._price_axis.tags:
            self._price_axis.tags = tags
            self._price_axis.update()

    def _place_crosshair(self) -> None:
        """Snap to the bar below the mouse; the price is free."""
        at, frame = self._hover, self._picture.frame
        if at is None or not self.bar_count or not self._view.viewport().rect().contains(at.toPoint()):
            self._scene.crosshair.set_position(None)
            self._price_axis.set_crosshair(None)
            self._date_axis.set_crosshair(None)
        else:
            index = round(frame.index_at(at.x()))
            x = frame.x_of(index)
            self._scene.crosshair.set_position((x, at.y()))
            self._price_axis.set_crosshair(at.y())
            time_ns, interval_ns = self._picture.bars.time_ns(index), self._picture.bars.interval_ns
            self._date_axis.set_crosshair((x, moment_text(time_ns, interval_ns, self._zone)))
        self._show_values()

    def _show_values(self) -> None:
        """Tell the values of the bar below the mouse, or of the newest."""
        index = self.bar_count - 1
        if self._hover is not None:
            index = min(max(round(self._picture.frame.index_at(self._hover.x())), 0), index)
        height = self._view.height()
        self._legend.show_bar(index if height >= _MIN_HEIGHT_FOR_LEGEND else -1, self._view.width() - 12)

    def _place_texts(self) -> None:
        plot = self._view.geometry()
        self._empty.place("" if self.bar_count else self._empty_text, plot)
        top = self._legend.height_px() if plot.height() >= _MIN_HEIGHT_FOR_LEGEND and self.bar_count else 0
        self._notice.place(self._fault, plot, top)
