"""What could have come of a run, as ranges: half of the draws lie in the box, nine tenths between the whiskers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QHelpEvent, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from koc_qt.domain.monte_carlo import Distribution
from koc_qt.ui import formats
from koc_qt.ui.charts.texts import TextCache, axis_font
from koc_qt.ui.charts.ticks import price_ticks
from koc_qt.ui.colors import mix
from koc_qt.ui.theme import Theme

_ROW_PX = 30
_FOOT_PX = 20
_PAD_PX = 8
_BOX_PX = 12
_CAPTION_SHARE = 0.36
_MOST_CAPTION_PX = 200
_TICK_PX = 70


@dataclass(frozen=True)
class Range:
    """A row: what was drawn, how its values came out as fractions, and what really happened, where it did."""

    caption: str
    values: Distribution
    observed: float | None = None
    is_loss: bool = False  # whether more is worse, such as of a drawdown

    @property
    def text(self) -> str:
        """All of it, in words."""
        low, lower, middle, upper, high = (formats.percent(each, signed=not self.is_loss) for each in self.percentiles)
        seen = "" if self.observed is None else f"; the run itself {formats.percent(self.observed)}"
        return (
            f"{self.caption}: {middle} at the median of {self.values.count:,}, half of them from {lower} to {upper}, "
            f"nine in ten from {low} to {high}{seen}"
        )

    @property
    def percentiles(self) -> tuple[float, float, float, float, float]:
        """The 5th, 25th, 50th, 75th and 95th."""
        low, lower, middle, upper, high = self.values.percentiles
        return low, lower, middle, upper, high


class RangeChart(QWidget):
    """Ranges below each other on one scale."""

    def __init__(self, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self._theme = theme
        self.ranges: tuple[Range, ...] = ()
        self._texts = TextCache(axis_font(self.font()))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)

    def show_ranges(self, ranges: Sequence[Range]) -> None:
        """Show these."""
        self.ranges = tuple(ranges)
        self.setAccessibleName("Ranges")
        self.setAccessibleDescription("\n".join(each.text for each in ranges))
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Be as high as the rows are."""
        return QSize(320, len(self.ranges) * _ROW_PX + _FOOT_PX)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Be as high, and narrow where there is little room."""
        return QSize(160, self.sizeHint().height())

    @property
    def _left(self) -> float:
        return min(self.width() * _CAPTION_SHARE, _MOST_CAPTION_PX)

    def _scale(self) -> tuple[float, float]:
        seen = [value for each in self.ranges for value in each.values.percentiles]
        seen += [each.observed for each in self.ranges if each.observed is not None]
        low, high = min([0.0, *seen]), max([0.0, *seen])
        pad = (high - low) * 0.05 or 0.01
        return low - pad, high + pad

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Draw the scale, then a row for each range."""
        if not self.ranges:
            return
        colors, (low, high), left = self._theme.colors, self._scale(), self._left
        width = self.width() - left - _PAD_PX
        bottom = len(self.ranges) * _ROW_PX

        def x_of(value: float) -> float:
            return left + (value - low) / (high - low) * width

        with QPainter(self) as painter:
            for mark in price_ticks(low, high, width * 42 / _TICK_PX, 4):
                x = round(x_of(mark))
                painter.fillRect(QRectF(x, 0, 1, bottom), QColor(colors.edge if abs(mark) < 1e-12 else colors.line))
                text = formats.percent(mark, 0 if high - low > 0.05 else 1)
                size = self._texts.size(text)
                painter.setPen(QColor(colors.muted))
                if left <= x - size.width() / 2 and x + size.width() / 2 <= self.width():
                    self._texts.draw(painter, x - size.width() / 2, bottom + 3, text)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            for row, each in enumerate(self.ranges):
                self._paint_row(painter, each, row * _ROW_PX + _ROW_PX / 2, [x_of(v) for v in each.percentiles])
                if each.observed is not None:
                    self._paint_observed(painter, x_of(each.observed), row * _ROW_PX + _ROW_PX / 2)

    def _paint_row(self, painter: QPainter, each: Range, y: float, xs: list[float]) -> None:
        colors = self._theme.colors
        color = QColor(colors.loss if each.is_loss or each.values.percentiles[2] < 0 else colors.profit)
        metrics = painter.fontMetrics()
        painter.setPen(QColor(colors.text))
        room = QRectF(0, y - _ROW_PX / 2, self._left - _PAD_PX, _ROW_PX)
        caption = metrics.elidedText(each.caption, Qt.TextElideMode.ElideRight, int(room.width()))
        painter.drawText(room, int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter), caption)
        painter.setPen(QPen(color, 1.2))
        painter.drawLine(QPointF(xs[0], y), QPointF(xs[4], y))
        for x in (xs[0], xs[4]):
            painter.drawLine(QPointF(x, y - 4), QPointF(x, y + 4))
        painter.setBrush(QColor(mix(color.name(), colors.panel, 0.35)))
        painter.drawRect(QRectF(xs[1], y - _BOX_PX / 2, max(xs[3] - xs[1], 1), _BOX_PX))
        painter.setPen(QPen(QColor(colors.text), 2))
        painter.drawLine(QPointF(xs[2], y - _BOX_PX / 2), QPointF(xs[2], y + _BOX_PX / 2))

    def _paint_observed(self, painter: QPainter, x: float, y: float) -> None:
        """Point at what really happened."""
        painter.setPen(QPen(QColor(self._theme.colors.panel), 1))
        painter.setBrush(QColor(self._theme.colors.accent))
        corners = ((0, -6), (6, 0), (0, 6), (-6, 0))
        painter.drawPolygon(QPolygonF([QPointF(x + dx, y + dy) for dx, dy in corners]))

    def event(self, event: QEvent) -> bool:
        """Tell a row in words."""
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            row = event.pos().y() // _ROW_PX
            text = self.ranges[row].text if 0 <= row < len(self.ranges) else ""
            QToolTip.showText(event.globalPos(), text, self)
            return True
        return super().event(event)
