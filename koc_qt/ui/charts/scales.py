"""What part of the bars and of the prices a chart shows; plain numbers, no Qt."""

from __future__ import annotations

from dataclasses import dataclass

_DEFAULT_SPACING_PX = 7.0
_MAX_SPACING_PX = 60.0
_MIN_WINDOW_BARS = 200  # one can always zoom out to this many, however few there are
_KEPT_SHARE = 0.1  # of the width that always shows bars, so that nobody gets lost beside them
_MIN_RELATIVE_SPAN = 1e-9


@dataclass(slots=True)
class TimeScale:
    """The horizontal scale: `right` is the bar index at the right edge, `spacing` the logical pixels a bar.

    A bar with index i is centred at i and reaches half an index to either side. `width` is in logical pixels.
    """

    count: int = 0
    width: int = 1
    spacing: float = _DEFAULT_SPACING_PX
    right: float = 0.0

    @property
    def window(self) -> float:
        """How many bars fit."""
        return self.width / self.spacing

    @property
    def left(self) -> float:
        """The bar index at the left edge."""
        return self.right - self.window

    @property
    def newest_visible(self) -> bool:
        """Whether the newest bar is within the edges."""
        return self.left <= self.count - 1 <= self.right

    def x_of(self, index: float) -> float:
        """Logical pixels from the left edge."""
        return (index - self.left) * self.spacing

    def index_at(self, x: float) -> float:
        """The index below a pixel."""
        return self.left + x / self.spacing

    def to_newest(self) -> None:
        """Put the newest bar near the right edge, with a margin to grow into."""
        self.right = self.count - 0.5 + self._margin_px / self.spacing
        self.clamp()

    def to_oldest(self) -> None:
        """Put the oldest bar at the left edge."""
        self.right = self.window - 0.5
        self.clamp()

    def centre(self, index: float) -> None:
        """Put a bar into the middle."""
        self.right = index + self.window / 2
        self.clamp()

    def pan_px(self, dx: float) -> None:
        """Move the bars by so many pixels to the right."""
        self.right -= dx / self.spacing
        self.clamp()

    def zoom(self, factor: float, x: float) -> None:
        """Make bars wider by a factor; what is below pixel `x` stays there, but no emptiness grows at the right."""
        anchor = self.index_at(x)
        empty_px = max((self.right - self.count + 0.5) * self.spacing, self._margin_px)
        self.spacing *= factor
        self._clamp_spacing()
        self.right = min(anchor + (self.width - x) / self.spacing, self.count - 0.5 + empty_px / self.spacing)
        self.clamp()

    def show(self, first: float, last: float) -> None:
        """Show the bars of two indices and all between."""
        self.spacing = self.width / max(last - first + 1, 1.0)
        self._clamp_spacing()
        self.right = last + 0.5
        self.clamp()

    def resize(self, width: int) -> None:
        """Keep right edge and spacing in a new width."""
        self.width = max(width, 1)
        self.clamp()

    def clamp(self) -> None:
        """Keep spacing and edges within sense."""
        self._clamp_spacing()
        kept = self.window * _KEPT_SHARE
        self.right = min(max(self.right, min(kept, self.count) - 0.5), max(self.count - 1, 0) + self.window - kept)

    @property
    def _margin_px(self) -> float:
        return max(12.0, 0.05 * self.width)

    def _clamp_spacing(self) -> None:
        most = max(1.1 * self.count, _MIN_WINDOW_BARS)
        self.spacing = min(max(self.spacing, self.width / most), max(_MAX_SPACING_PX, self.width / most))


@dataclass(slots=True)
class PriceScale:
    """The vertical scale: `high` is the price at the top edge, `low` at the bottom; `auto` fits it to what is seen."""

    low: float = 0.0
    high: float = 1.0
    auto: bool = True

    def fit(self, lowest: float, highest: float, height: float, top: float, bottom: float) -> None:
        """Put `highest` at pixel `top` and `lowest` at pixel `bottom` of `height` (from above).

        A flat range is opened to a thousandth of the price to either side.
        """
        if highest - lowest <= abs(highest) * _MIN_RELATIVE_SPAN:
            pad = abs(highest) * 1e-3 or 1.0
            lowest, highest = lowest - pad, highest + pad
        per_px = (highest - lowest) / max(bottom - top, 1.0)
        self.high = highest + top * per_px
        self.low = highest - (height - top) * per_px

    def pan_px(self, dy: float, height: float) -> None:
        """Move prices down by so many pixels, by hand from now on."""
        self.auto = False
        shift = dy * (self.high - self.low) / max(height, 1.0)
        self.low, self.high = self.low + shift, self.high + shift

    def zoom(self, factor: float, y: float, height: float) -> None:
        """Stretch prices by a factor around a pixel, by hand from now on."""
        self.auto = False
        span = self.high - self.low
        anchor = self.high - span * y / max(height, 1.0)
        smallest = max(abs(anchor) * _MIN_RELATIVE_SPAN, 1e-12)
        if not smallest < span / factor < smallest * 1e15:
            return
        self.high = anchor + (self.high - anchor) / factor
        self.low = self.high - span / factor
