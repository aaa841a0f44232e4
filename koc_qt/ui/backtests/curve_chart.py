"""Curves over time, one pane above the other, with a crosshair that tells every value. Needs no pyqtgraph.

What stands still is painted once, into a picture; the mouse costs a copy of it and two lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo

import numpy as np
from PySide6.QtCore import QEvent, QPointF, QRectF, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QKeyEvent,
    QLinearGradient,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QPolygonF,
    QResizeEvent,
)
from PySide6.QtWidgets import QWidget

from koc_qt.domain.timeframes import DAY_NS
from koc_qt.ui.backtests.curves import Curve, DateMark, Look, date_marks, thinned
from koc_qt.ui.charts.colors import dark_colors, light_colors, text_on
from koc_qt.ui.charts.lines import polyline
from koc_qt.ui.charts.series import Floats
from koc_qt.ui.charts.texts import TextCache, axis_font
from koc_qt.ui.charts.ticks import moment_text, price_ticks
from koc_qt.ui.theme import Theme

_PAD_PX = 6
_LEGEND_GAP_PX = 14
_MIN_WIDTH_FOR_AXIS = 220
_MIN_HEIGHT_FOR_ALL = 120  # below it the first pane has all the room
_LONG_NS = 60 * DAY_NS  # from which the crosshair's time of day says nothing
_AXIS_DECIMALS = 8
_BAND_ALPHA, _EDGE_ALPHA = 0.16, 0.35
_CROWD = 6  # curves, from which they are drawn quicker
_OWN_DARK = ("#66a6ff", "#ffb13d", "#3fcf90", "#ff757b", "#b79cff", "#3cc5cf", "#f28fd0", "#b4c957")
_OWN_LIGHT = ("#1a5ccb", "#b85c00", "#08703f", "#bf2030", "#6440c8", "#0a6b74", "#a82a80", "#5b6b00")
Text = Callable[[float], str]


def own_color(number: int, is_dark: bool) -> QColor:
    """Give the colour of the nth of several curves; after eight they begin anew."""
    colors = _OWN_DARK if is_dark else _OWN_LIGHT
    return QColor(colors[number % len(colors)])


@dataclass(frozen=True)
class Pane:
    """Curves that share a scale. `text` writes a value, `share` is of the height; `is_under` fills from zero down.

    What lies `between` two of the curves is filled, the first pair below the others.
    """

    curves: tuple[Curve, ...]
    text: Text
    share: float = 1.0
    is_under: bool = False
    from_zero: bool = False  # whether zero is a level of its own
    between: tuple[tuple[Curve, Curve], ...] = ()


@dataclass
class _Placed:
    """A pane as it is drawn: where, from which value to which, its labels, its lines, and the areas between some."""

    pane: Pane
    room: QRectF
    low: float
    high: float
    marks: list[float]
    lines: list[QPolygonF]
    areas: list[QPolygonF] = field(default_factory=list)

    def y_of(self, value: float) -> float:
        return self.room.top() + (self.high - value) * self.room.height() / (self.high - self.low)


class CurveChart(QWidget):
    """Panes of curves on one time axis, all of them in sight. Arrow keys move the crosshair, Escape takes it away.

    `hovered` brings the time below the crosshair in UTC nanoseconds, or None.
    """

    hovered = Signal(object)

    def __init__(self, parent: QWidget | None = None, *, zone: tzinfo | None = None) -> None:
        super().__init__(parent)
        self._theme: Theme | None = None
        self._colors = dark_colors()
        self._zone = zone
        self._panes: tuple[Pane, ...] = ()
        self._places: list[_Placed] | None = None  # until it is worked out for the present size
        self._dates: list[DateMark] = []
        self._since_ns = self._until_ns = 0
        self._width = 1.0  # of the plot
        self._empty_text = "No result yet"
        self._time_ns: int | None = None  # below the crosshair
        self._y: float | None = None
        self._picture: QPixmap | None = None
        self._texts = TextCache(axis_font(self.font()))
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setMinimumSize(80, 60)

    # ---- for whoever has it -----------------------------------------------------------------------------------------

    def set_panes(self, panes: Sequence[Pane]) -> None:
        """Show these; panes without a curve of two points or more are left out."""
        kept = [tuple(curve for curve in pane.curves if len(curve) > 1) for pane in panes]
        self._panes = tuple(replace(pane, curves=curves) for pane, curves in zip(panes, kept, strict=True) if curves)
        self._time_ns = None
        curves = [curve for pane in self._panes for curve in pane.curves]
        self._since_ns = min((int(curve.times_ns[0]) for curve in curves), default=0)
        self._until_ns = max((int(curve.times_ns[-1]) for curve in curves), default=0)
        self.setAccessibleDescription(self.value_text or self._empty_text)
        self._forget_places()

    def follow(self, theme: Theme) -> None:
        """Wear the theme's colours from now on."""
        self._theme = theme
        theme.changed.connect(self._wear_theme)
        self._wear_theme()

    def _wear_theme(self) -> None:
        if self._theme is not None:
            self._colors = dark_colors() if self._theme.is_dark else light_colors()
            self._repaint()

    def set_empty_text(self, text: str) -> None:
        """Say why there is nothing to see."""
        self._empty_text = text
        self._repaint()

    @property
    def panes(self) -> tuple[Pane, ...]:
        """What is shown."""
        return self._panes

    @property
    def value_text(self) -> str:
        """What is told of the moment below the crosshair, or of the last one."""
        if not self._panes:
            return ""
        values = [f"{name} {text}".strip() for pane in self._panes for name, text, _ in self._values(pane)]
        return " · ".join([*values, self._moment()])

    def point_at(self, time_ns: int | None) -> None:
        """Put the crosshair at a UTC time, such as that of another chart; None takes it away."""
        self._time_ns = None if time_ns is None else min(max(time_ns, self._since_ns), self._until_ns)
        self._y = None
        self.update()

    # ---- working out ------------------------------------------------------------------------------------------------

    def _repaint(self) -> None:
        self._picture = None
        self.update()

    def _forget_places(self) -> None:
        self._places = None
        self._repaint()

    @property
    def _placed(self) -> list[_Placed]:
        """The panes as they are drawn: worked out when it is looked at, which nobody does where it is not seen."""
        if self._places is None:
            self._places = self._work_out() if self._panes else []
        return self._places

    def _work_out(self) -> list[_Placed]:
        """Fit scales, thin the lines: once a change of data or size, not once a paint."""
        places: list[_Placed] = []
        foot = round(self._texts.height) + 6
        panes = self._panes if self.height() >= _MIN_HEIGHT_FOR_ALL else self._panes[:1]
        height, top = max(self.height() - foot, 1), 0.0
        rooms = []
        for pane in panes:
            share = height * pane.share / sum(each.share for each in panes)
            rooms.append(QRectF(0, round(top), 1, max(round(top + share) - round(top), 1)))
            top += share
        fitted = [self._fit(pane, room) for pane, room in zip(panes, rooms, strict=True)]
        axis = 0
        if self.width() >= _MIN_WIDTH_FOR_AXIS:
            labels = [
                _axis_text(pane, each) for pane, (_, _, marks) in zip(panes, fitted, strict=True) for each in marks
            ]
            labels += [pane.text(float(curve.values[-1])) for pane in panes for curve in pane.curves]
            axis = round(max(self._texts.size(label).width() for label in labels)) + 2 * _PAD_PX
        self._width = float(max(self.width() - axis, 1))
        self._dates = date_marks(self._since_ns, self._until_ns, self._width, self._zone)
        for pane, room, (low, high, marks) in zip(panes, rooms, fitted, strict=True):
            room.setWidth(self._width)
            placed = _Placed(pane, room, low, high, marks, [])
            for curve in pane.curves:
                per_ns = self._width / (self._until_ns - self._since_ns)
                xs: Floats = (curve.times_ns - self._since_ns).astype(np.float64) * per_ns
                # where there are many, each is drawn in half as many columns, for all of them in the time of a few
                every = 2.0 if self._is_crowded else 1.0
                xs, ys = thinned(xs / every, curve.values)
                xs = xs * every
                placed.lines.append(polyline(xs, room.top() + (high - ys) * (room.height() / (high - low))))
            for one, other in pane.between:
                lines = [placed.lines[pane.curves.index(curve)] for curve in (one, other)]
                placed.areas.append(QPolygonF([*lines[0].toList(), *reversed(lines[1].toList())]))
            places.append(placed)
        return places

    def _fit(self, pane: Pane, room: QRectF) -> tuple[float, float, list[float]]:
        """Give the lowest and highest value of a pane, with room for its legend, and what to label."""
        low = min(float(curve.values.min()) for curve in pane.curves)
        high = max(float(curve.values.max()) for curve in pane.curves)
        if pane.is_under or pane.from_zero:
            low, high = min(low, 0.0), max(high, 0.0)
        pad = (high - low) * 0.06 or abs(high) * 1e-3 or 1e-3
        legend = self._texts.height + 6
        per_px = (high - low + 2 * pad) / max(room.height() - legend, 1)
        low, high = low - pad, high + (0.0 if pane.is_under else pad) + legend * per_px
        return low, high, price_ticks(low, high - legend * per_px / 2, room.height(), _AXIS_DECIMALS)

    @property
    def _is_crowded(self) -> bool:
        return sum(len(pane.curves) for pane in self._panes) > _CROWD

    @property
    def _is_dark(self) -> bool:
        return self._colors.background.lightness() < 128

    def _x_of(self, time_ns: int) -> float:
        return (time_ns - self._since_ns) * self._width / (self._until_ns - self._since_ns)

    def _color(self, curve: Curve, number: int) -> QColor:
        match curve.look:
            case Look.GAIN | Look.LINE:
                return self._colors.up if curve.values[-1] >= curve.values[0] else self._colors.down
            case Look.QUIET:
                return self._colors.muted
            case Look.OWN:
                return own_color(number, self._is_dark)
            case Look.EDGE:
                return own_color(0, self._is_dark)

    def _moment(self) -> str:
        time_ns = self._until_ns if self._time_ns is None else self._time_ns
        is_long = self._until_ns - self._since_ns >= _LONG_NS
        return moment_text(time_ns, DAY_NS, UTC) if is_long else moment_text(time_ns, 1, self._zone)

    def _values(self, pane: Pane) -> list[tuple[str, str, QColor]]:
        """Give name, value and colour of each curve at the crosshair, or at the end."""
        time_ns = self._until_ns if self._time_ns is None else self._time_ns
        told = []
        for number, curve in enumerate(pane.curves):
            value = curve.at(time_ns)
            color = self._colors.down if pane.is_under and len(pane.curves) == 1 else self._color(curve, number)
            told.append((curve.name, "—" if value is None else pane.text(value), color))
        return told

    # ---- painting ---------------------------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Copy what stands still, and draw crosshair and values."""
        ratio = self.devicePixelRatioF()
        if self._picture is None or self._picture.devicePixelRatio() != ratio:
            self._picture = QPixmap(self.size() * ratio)
            self._picture.setDevicePixelRatio(ratio)
            self._picture.fill(self._colors.background)
            with QPainter(self._picture) as still:
                self._paint_still(still)
        with QPainter(self) as painter:
            painter.drawPixmap(0, 0, self._picture)
            if self._placed:
                self._paint_crosshair(painter)
                for number, placed in enumerate(self._placed):
                    self._paint_legend(painter, placed, is_first=number == 0)
            if self.hasFocus():
                painter.setPen(QPen(self._colors.crosshair, 1, Qt.PenStyle.DotLine))
                painter.drawRect(self.rect().adjusted(0, 0, -1, -1))

    def _paint_still(self, painter: QPainter) -> None:
        colors = self._colors
        if not self._placed:
            painter.setPen(colors.muted)
            flags = int(Qt.AlignmentFlag.AlignCenter) | int(Qt.TextFlag.TextWordWrap)
            painter.drawText(self.rect().adjusted(8, 4, -8, -4), flags, self._empty_text)
            return
        bottom = self._placed[-1].room.bottom()
        for mark in self._dates:
            x = round(self._x_of(mark.time_ns))
            painter.fillRect(QRectF(x, 0, 1, bottom), colors.grid_major if mark.major else colors.grid)
            width = self._texts.size(mark.text, bold=mark.major).width()
            left = round(x - width / 2)
            if left >= 2 and left + width <= self.width() - 2:
                painter.setPen(colors.text if mark.major else colors.muted)
                self._texts.draw(painter, left, bottom + 4, mark.text, bold=mark.major)
        for placed in self._placed:
            self._paint_pane(painter, placed)
        painter.fillRect(QRectF(0, bottom, self.width(), 1), colors.border)
        if self._width < self.width():
            painter.fillRect(QRectF(self._width, 0, 1, bottom), colors.border)

    def _paint_pane(self, painter: QPainter, placed: _Placed) -> None:
        colors, room = self._colors, placed.room
        if room.top() > 0:
            painter.fillRect(QRectF(0, room.top(), self.width(), 1), colors.border)
        for value in placed.marks:
            y = round(placed.y_of(value))
            painter.fillRect(QRectF(0, y, room.width(), 1), colors.grid_major if value == 0 else colors.grid)
            top = round(y - self._texts.height / 2)
            if self._width < self.width() and top >= room.top() and top + self._texts.height <= room.bottom():
                painter.setPen(colors.muted)
                self._texts.draw(painter, self._width + _PAD_PX, top, _axis_text(placed.pane, value))
        painter.save()
        painter.setClipRect(room)
        shade = own_color(0, self._is_dark)
        shade.setAlphaF(_BAND_ALPHA)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(shade)
        for area in placed.areas:
            painter.drawPolygon(area)
        for number in reversed(range(len(placed.lines))):  # the first lies on top
            self._paint_curve(painter, placed, number)
        painter.restore()
        if self._width < self.width() and not placed.pane.is_under:
            self._paint_last(painter, placed)

    def _paint_curve(self, painter: QPainter, placed: _Placed, number: int) -> None:
        curve, line, room = placed.pane.curves[number], placed.lines[number], placed.room
        color = self._color(curve, number)
        is_filled = placed.pane.is_under and len(placed.lines) == 1
        if is_filled:
            color = self._colors.down
        if is_filled or (curve.look is Look.GAIN and not placed.pane.is_under):
            base = placed.y_of(0.0) if is_filled else room.bottom()
            area = QPolygonF(line)
            area.append(QPointF(line.last().x(), base))
            area.append(QPointF(line.first().x(), base))
            gradient = QLinearGradient(0, room.top(), 0, room.bottom())
            strong, weak = QColor(color), QColor(color)
            strong.setAlphaF(0.34 if is_filled else 0.28)
            weak.setAlphaF(0.20 if is_filled else 0.02)
            gradient.setColorAt(0, strong)
            gradient.setColorAt(1, weak)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(gradient)
            painter.drawPolygon(area)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, on=not self._is_crowded)
        if curve.look is Look.EDGE:
            color.setAlphaF(_EDGE_ALPHA)
        is_thin = self._is_crowded or is_filled or curve.look in (Look.QUIET, Look.EDGE)
        painter.setPen(QPen(color, 1.0 if is_thin else 1.5))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPolyline(line)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, on=False)

    def _paint_last(self, painter: QPainter, placed: _Placed) -> None:
        """Tag the last value of the first curve on the axis."""
        curve, room = placed.pane.curves[0], placed.room
        value, color = float(curve.values[-1]), self._color(curve, 0)
        self._paint_tag(painter, placed.y_of(value), room, placed.pane.text(value), color)

    def _paint_tag(self, painter: QPainter, y: float, room: QRectF, text: str, color: QColor) -> None:
        height = self._texts.height
        top = round(min(max(y - height / 2 - 1, room.top()), room.bottom() - height - 2))
        painter.fillRect(QRectF(self._width + 1, top, self.width() - self._width, height + 2), color)
        painter.setPen(text_on(color))
        self._texts.draw(painter, self._width + _PAD_PX, top + 1, text)

    def _paint_crosshair(self, painter: QPainter) -> None:
        if self._time_ns is None:
            return
        colors = self._colors
        x = round(self._x_of(self._time_ns))
        pen = QPen(colors.crosshair, 1)
        pen.setDashPattern([4, 4])
        painter.setPen(pen)
        painter.drawLine(x, 0, x, round(self._placed[-1].room.bottom()))
        for placed in self._placed:
            if self._y is not None and placed.room.contains(QPointF(1, self._y)):
                painter.setPen(pen)
                painter.drawLine(0, round(self._y), round(self._width), round(self._y))
                if self._width < self.width():
                    value = placed.high - (self._y - placed.room.top()) * (placed.high - placed.low) / max(
                        placed.room.height(), 1
                    )
                    self._paint_tag(painter, self._y, placed.room, placed.pane.text(value), colors.tag)
            for number, curve in enumerate(placed.pane.curves):
                value_at = curve.at(self._time_ns)
                if value_at is not None:
                    painter.setPen(QPen(colors.background, 1))
                    painter.setBrush(self._color(curve, number) if len(placed.lines) > 1 else colors.text)
                    painter.drawEllipse(QPointF(x, placed.y_of(value_at)), 3, 3)

    def _paint_legend(self, painter: QPainter, placed: _Placed, *, is_first: bool) -> None:
        """Tell the values, one behind the other for as long as there is room."""
        colors, x, y = self._colors, float(_PAD_PX), placed.room.top() + 3
        told = [(name, value, color) for name, value, color in self._values(placed.pane)]
        if is_first:
            told.insert(1 if len(placed.pane.curves) == 1 else len(told), ("", self._moment(), colors.muted))
        for name, value, color in told:
            name_px = self._texts.size(name).width() + 4 if name else 0.0
            value_px = self._texts.size(value).width()
            dot = 11 if name else 0
            if x + dot + name_px + value_px > self._width - _PAD_PX and x > _PAD_PX:
                break
            height = self._texts.height
            painter.fillRect(QRectF(x - 2, y - 1, dot + name_px + value_px + 4, height + 2), colors.background)
            if name:
                painter.fillRect(QRectF(x, y + height / 2 - 3, 7, 7), color)
                painter.setPen(colors.muted)
                self._texts.draw(painter, x + dot, y, name)
            painter.setPen(colors.text if name else colors.muted)
            self._texts.draw(painter, x + dot + name_px, y, value)
            x += dot + name_px + value_px + _LEGEND_GAP_PX

    # ---- the mouse and the keys -------------------------------------------------------------------------------------

    def _point(self, time_ns: int | None, y: float | None) -> None:
        self._time_ns, self._y = time_ns, y
        self.setAccessibleDescription(self.value_text)
        self.hovered.emit(time_ns)
        self.update()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Tell the values below."""
        at = event.position()
        if not self._placed or not 0 <= at.x() <= self._width or at.y() > self._placed[-1].room.bottom():
            self._point(None, None)
            return
        self._point(
            self._nearest(self._since_ns + round(at.x() / self._width * (self._until_ns - self._since_ns))), at.y()
        )

    def _nearest(self, time_ns: int) -> int:
        """Give the time of the point of the first curve that is nearest."""
        times = self._placed[0].pane.curves[0].times_ns
        after = int(np.searchsorted(times, time_ns))
        around = times[max(after - 1, 0) : after + 1]
        return int(around[np.abs(around - time_ns).argmin()])

    def leaveEvent(self, event: QEvent) -> None:  # noqa: N802
        """Tell the last values."""
        self._point(None, None)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Move the crosshair: by a hundredth, with Control by a tenth, to either end."""
        span = self._until_ns - self._since_ns
        step = span // (10 if event.modifiers() & Qt.KeyboardModifier.ControlModifier else 100)
        now = self._until_ns if self._time_ns is None else self._time_ns
        places = {
            Qt.Key.Key_Left: now - step,
            Qt.Key.Key_Right: now + step,
            Qt.Key.Key_Home: self._since_ns,
            Qt.Key.Key_End: self._until_ns,
        }
        to = places.get(Qt.Key(event.key()))
        if self._placed and to is not None:
            self._point(self._nearest(min(max(to, self._since_ns), self._until_ns)), None)
        elif event.key() == Qt.Key.Key_Escape and self._time_ns is not None:
            self._point(None, None)
        else:
            super().keyPressEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """Fit the lines when they are painted next."""
        super().resizeEvent(event)
        self._forget_places()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        """Follow the font."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self._texts.set_font(axis_font(self.font()))
            self._forget_places()


def _axis_text(pane: Pane, value: float) -> str:
    """Write a round value: without decimals that are zeros in all of them."""
    text = pane.text(value)
    number, unit = (text[:-2], " %") if text.endswith(" %") else (text, "")
    return (number.rstrip("0").rstrip(".") if "." in number else number) + unit
