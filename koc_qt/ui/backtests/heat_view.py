"""A map of two parameters: each cell in the colour of what came of it. A click takes the cell's best trial."""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import QEvent, QPoint, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QHelpEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QToolTip, QWidget

from koc_qt.ui.backtests.trial_data import HeatMap, objective_name, objective_text
from koc_qt.ui.charts.texts import TextCache, axis_font
from koc_qt.ui.colors import mix
from koc_qt.ui.theme import Theme

_PAD_PX = 8
_NAME_PX = 18
_LEAST_TEXT_PX = (40, 15)  # a cell with room for its value
_MOST_TEXTS = 240  # cells that are written into: more are colours alone
_FAINTEST, _STRONGEST = 0.10, 0.72


class HeatView(QWidget):
    """Shows a HeatMap. `taken` brings the number of the trial that was clicked; arrow keys and Enter do the same."""

    taken = Signal(int)

    def __init__(self, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self._theme = theme
        self._map: HeatMap | None = None
        self._at: tuple[int, int] | None = None  # cell below the mouse or the keys: x, y
        self._plot: QRectF | None = None  # as long as size and labels stay
        self._empty = "The map appears with the first trials"
        self._texts = TextCache(axis_font(self.font()))
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Map of two parameters")
        self.setMinimumSize(120, 80)
        theme.changed.connect(self.update)

    def show_map(self, shown: HeatMap | None) -> None:
        """Show another map; None where there is none yet."""
        is_same = shown is not None and self._map is not None and shown.values.shape == self._map.values.shape
        self._map = shown if shown is not None and shown.values.size else None
        self._at = self._at if is_same else None
        self._plot = None
        best = self._map.best if self._map is not None else None
        self.setAccessibleDescription(self.text_at(best) if best is not None else self._empty)
        self.update()

    # ---- where what is ----------------------------------------------------------------------------------------------

    def _room(self) -> QRectF:
        """Give the plot: beside the labels of y, above those of x."""
        if self._map is None:
            return QRectF()
        if self._plot is not None:
            return self._plot
        widest = max((self._texts.size(label).width() for label in self._map.y.labels), default=0.0)
        left = widest + 2 * _PAD_PX + (_NAME_PX if self._map.y.name else 0)
        bottom = self._texts.height * 2 + _PAD_PX
        height = max(self.height() - bottom - _PAD_PX, 1)
        self._plot = QRectF(left, _PAD_PX, max(self.width() - left - _PAD_PX, 1), height)
        return self._plot

    def _cell(self, x: int, y: int) -> QRectF:
        room, (rows, columns) = self._room(), self._values.shape
        left, right = (round(room.left() + room.width() * place / columns) for place in (x, x + 1))
        top, bottom = (round(room.bottom() - room.height() * place / rows) for place in (y + 1, y))
        return QRectF(left, top, right - left - 1, bottom - top - 1)

    @property
    def _values(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return self._map.values if self._map is not None else np.empty((0, 0))

    def _place(self, at: QPoint) -> tuple[int, int] | None:
        room = self._room()
        if self._map is None or not room.contains(at.toPointF()):
            return None
        rows, columns = self._values.shape
        x = int((at.x() - room.left()) / room.width() * columns)
        y = int((room.bottom() - at.y()) / room.height() * rows)
        return min(x, columns - 1), min(max(y, 0), rows - 1)

    def text_at(self, place: tuple[int, int]) -> str:
        """Say what came of a cell."""
        if self._map is None:
            return ""
        x, y = place
        names = [f"{self._map.x.name} {self._map.x.labels[x]}"]
        names += [f"{self._map.y.name} {self._map.y.labels[y]}"] if self._map.y.name else []
        count, value = int(self._map.counts[y, x]), float(self._values[y, x])
        if not count:
            return f"{', '.join(names)}: not tried"
        of = f", the best of {count:,}" if count > 1 else ""
        objective = self._map.objective
        return f"{', '.join(names)}: {objective_name(objective)} {objective_text(objective, value)}{of}"

    # ---- painting ---------------------------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Draw the cells, their labels, and the best one outlined."""
        colors = self._theme.colors
        with QPainter(self) as painter:
            painter.fillRect(self.rect(), QColor(colors.panel))
            if self._map is None:
                painter.setPen(QColor(colors.muted))
                flags = int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap)
                painter.drawText(self.rect().adjusted(8, 4, -8, -4), flags, self._empty)
                return
            self._paint_cells(painter, self._map)
            self._paint_labels(painter, self._map)
            best = self._map.best
            if best is not None:
                painter.setPen(QPen(QColor(colors.text), 2))
                painter.setBrush(Qt.BrushStyle.NoBrush)
                painter.drawRect(self._cell(*best).adjusted(1, 1, -1, -1))
            if self._at is not None:
                painter.setPen(QPen(QColor(colors.accent), 2))
                painter.setBrush(Qt.BrushStyle.NoBrush)
                painter.drawRect(self._cell(*self._at))

    def _paint_cells(self, painter: QPainter, shown: HeatMap) -> None:
        colors = self._theme.colors
        low, high = (float(np.nanmin(shown.values)), float(np.nanmax(shown.values))) if shown.best else (0.0, 0.0)
        rows, columns = shown.values.shape
        is_roomy = rows * columns <= _MOST_TEXTS
        with_texts = (
            is_roomy
            and self._cell(0, 0).width() >= _LEAST_TEXT_PX[0]
            and self._cell(0, 0).height() >= _LEAST_TEXT_PX[1]
        )
        painter.setFont(self._texts.font)
        for y in range(rows):
            for x in range(columns):
                value, cell = float(shown.values[y, x]), self._cell(x, y)
                if value != value:
                    painter.fillRect(cell, QColor(colors.raised))
                    continue
                painter.fillRect(cell, QColor(self._color(value, low, high, maximise=shown.objective.maximise)))
                if with_texts:
                    painter.setPen(QColor(colors.text))
                    text = objective_text(shown.objective, value)
                    if self._texts.size(text).width() <= cell.width() - 2:
                        painter.drawText(cell, int(Qt.AlignmentFlag.AlignCenter), text)

    def _color(self, value: float, low: float, high: float, *, maximise: bool) -> str:
        """Give green for gains and red for losses where there are both, else more of the accent the better it is."""
        colors = self._theme.colors
        if low < 0 < high and maximise:
            share = abs(value) / max(-low, high)
            return mix(colors.profit if value > 0 else colors.loss, colors.panel, _shade(share))
        share = (value - low) / (high - low) if high > low else 1.0
        return mix(colors.accent, colors.panel, _shade(share if maximise else 1.0 - share))

    def _paint_labels(self, painter: QPainter, shown: HeatMap) -> None:
        """Name the axes, and their places for as long as there is room."""
        colors, room = self._theme.colors, self._room()
        painter.setPen(QColor(colors.muted))
        free = -1.0
        for place, label in enumerate(shown.x.labels):
            cell, width = self._cell(place, 0), self._texts.size(label).width()
            left = cell.center().x() - width / 2
            if left > free:
                self._texts.draw(painter, left, room.bottom() + 2, label)
                free = left + width + 8
        free = self.height() + 1.0
        for place, label in enumerate(shown.y.labels):
            cell, size = self._cell(0, place), self._texts.size(label)
            top = cell.center().y() - size.height() / 2
            if top + size.height() < free:
                self._texts.draw(painter, room.left() - _PAD_PX / 2 - size.width(), top, label)
                free = top
        painter.setPen(QColor(colors.text))
        name = self._texts.size(shown.x.name)
        self._texts.draw(
            painter, room.center().x() - name.width() / 2, room.bottom() + self._texts.height + 2, shown.x.name
        )
        if shown.y.name:
            painter.save()
            painter.translate(2, room.center().y() + self._texts.size(shown.y.name).width() / 2)
            painter.rotate(-90)
            self._texts.draw(painter, 0, 0, shown.y.name)
            painter.restore()

    # ---- the mouse and the keys -------------------------------------------------------------------------------------

    def _point(self, place: tuple[int, int] | None) -> None:
        if place != self._at:
            self._at = place
            self.update()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802 - Qt's name
        """Bring out the cell below."""
        self._point(self._place(event.position().toPoint()))

    def leaveEvent(self, event: QEvent) -> None:  # noqa: N802 - Qt's name
        """Bring out none."""
        self._point(None)

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802 - Qt's name
        """Take the cell below."""
        if event.button() is Qt.MouseButton.LeftButton:
            self._take(self._place(event.position().toPoint()))

    def _take(self, place: tuple[int, int] | None) -> None:
        if self._map is not None and place is not None:
            number = int(self._map.numbers[place[1], place[0]])
            if number >= 0:
                self.taken.emit(number)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """Go from cell to cell, beginning with the best; Enter takes one."""
        steps = {
            Qt.Key.Key_Left: (-1, 0),
            Qt.Key.Key_Right: (1, 0),
            Qt.Key.Key_Up: (0, 1),
            Qt.Key.Key_Down: (0, -1),
        }
        key = Qt.Key(event.key())
        if self._map is None:
            super().keyPressEvent(event)
        elif key in steps:
            rows, columns = self._values.shape
            x, y = self._at or self._map.best or (0, 0)
            dx, dy = steps[key] if self._at is not None else (0, 0)
            self._point((min(max(x + dx, 0), columns - 1), min(max(y + dy, 0), rows - 1)))
            if self._at is not None:
                self.setAccessibleDescription(self.text_at(self._at))
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self._take(self._at)
        else:
            super().keyPressEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Find the plot anew."""
        super().resizeEvent(event)
        self._plot = None

    def event(self, event: QEvent) -> bool:
        """Tell a cell in words."""
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            place = self._place(event.pos())
            QToolTip.showText(event.globalPos(), self.text_at(place) if place is not None else "", self)
            return True
        return super().event(event)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for little."""
        return QSize(320, 220)


def _shade(share: float) -> float:
    return _FAINTEST + (_STRONGEST - _FAINTEST) * min(max(share, 0.0), 1.0)
