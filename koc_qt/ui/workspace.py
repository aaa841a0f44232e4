"""The docks: which panels there are, where they lie at first, charts that come and go, and all of it remembered."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import shiboken6
from loguru import logger
from PySide6.QtCore import QByteArray, QObject, Qt, QTimer, Signal
from PySide6.QtGui import QCloseEvent
from PySide6.QtWidgets import QDockWidget, QLabel, QMainWindow, QWidget

from koc_qt.domain.instruments import InstrumentId
from koc_qt.ui.bench import Panel
from koc_qt.ui.enclosure import Enclosure
from koc_qt.ui.focus import go_on
from koc_qt.ui.memory import ChartMemory, Memory
from koc_qt.ui.theme import style_as
from koc_qt.ui.turns import Patience

# All docks lie in one of Qt's dock areas, split as people wish. With several and nothing in the middle, Qt gives one of
# them the width of a separator more at each change of anything, until the others are as small as they can be.
AREA = Qt.DockWidgetArea.LeftDockWidgetArea
MOST_CHARTS = 16
_LEAST_CHART_WIDTH, _LEAST_CHART_HEIGHT = 300, 200  # pixels, with its title and tools
DEFAULT_CHARTS = (("sim:BTC/USDT", "1s"), ("sim:ETH/USDT", "1m"))
FILL_MS = 4  # of making panels at a time: paints and what the engine says come in the same turn
FILL_GAP_MS = 1  # between two times: for paints, and for the link, whose answers take several turns of the loop
Make = Callable[[QWidget], Panel]  # of its parent
_FORM = 2  # of Qt's own state; raised when the default docks change so much that an old layout would not do


@dataclass(frozen=True)
class PanelKind:
    """A panel that there is one of. `make` imports it only then: the first paint does not wait for it."""

    name: str
    title: str
    icon: str
    make: Make
    load: Callable[[], Iterable[None]] = tuple  # what `make` needs, a module at a time


@dataclass(frozen=True)
class _Filling:
    """What is to be done for a dock that waits for its panel; `restore` comes once the panel is whole."""

    dock: Dock
    load: Callable[[], Iterable[None]]
    make: Make
    restore: Callable[[Panel], None]


class Dock(QDockWidget):
    """A dock; `closed` is emitted when the person closes it."""

    closed = Signal()

    def __init__(self, name: str, title: str, window: QMainWindow) -> None:
        super().__init__(title.replace("&", "&&"), window)
        self.setObjectName(name)
        self.setAllowedAreas(AREA)
        self.setAcceptDrops(True)  # see ui/drops.py
        waiting = QLabel("Loading…")
        waiting.setAlignment(Qt.AlignmentFlag.AlignCenter)
        style_as(waiting, tone="muted")
        self.setWidget(waiting)

    @property
    def panel(self) -> Panel | None:
        """What it holds, once that is made."""
        place = self.widget()
        return place.held if isinstance(place, Enclosure) and isinstance(place.held, Panel) else None

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 - Qt's name
        """Say so."""
        super().closeEvent(event)
        if event.isAccepted():
            self.closed.emit()

    def focusNextPrevChild(self, is_forward: bool) -> bool:  # noqa: N802 - Qt's name
        """Go to the next control; a dock that floats is a window of its own."""
        return go_on(self, is_forward=is_forward) if self.isWindow() else super().focusNextPrevChild(is_forward)

    def fill(self, place: Enclosure) -> None:
        """Put what holds the panel in the place of what says that it is loading."""
        waiting = self.widget()
        self.setWidget(place)
        if waiting is not None:
            waiting.deleteLater()


class Workspace(QObject):
    """Makes and arranges the docks of a main window. `filled` is emitted once every panel is there.

    `charts_changed` says that a chart has come or gone.
    """

    filled = Signal()
    charts_changed = Signal()
    chart_made = Signal(object)  # the chart's Panel

    def __init__(self, window: QMainWindow, kinds: tuple[PanelKind, ...], make_chart: Make) -> None:
        super().__init__(window)
        self._window = window
        self.kinds = {kind.name: kind for kind in kinds}
        self._make_chart = make_chart
        self._waiting: list[_Filling] = []
        self._present: tuple[Dock, Generator[None, None, None]] | None = None  # the one that is being filled
        self._remembered = Memory()
        self._is_default = False  # nobody has moved anything yet
        self._is_filled = False
        self.docks = {kind.name: Dock(kind.name, kind.title, window) for kind in kinds}
        self.charts: dict[str, Dock] = {}
        self._chart_states: dict[str, dict[str, Any]] = {}  # as they were opened with
        self._patience = Patience()
        self._fill_timer = QTimer(self)
        self._fill_timer.setSingleShot(True)
        self._fill_timer.setInterval(FILL_GAP_MS)
        self._fill_timer.timeout.connect(self._fill_some)
        window.setDockNestingEnabled(True)
        window.setDockOptions(
            QMainWindow.DockOption.AllowNestedDocks
            | QMainWindow.DockOption.AllowTabbedDocks
            | QMainWindow.DockOption.GroupedDragging
        )

    # ---- arranging ---------------------------------------------------------------------------------------------------

    def open(self, memory: Memory) -> None:
        """Arrange everything as it was, or as it is at first; the panels themselves follow once the loop runs."""
        self._remembered = memory
        charts = memory.charts[:MOST_CHARTS]
        self._is_default = not self._restore(memory, charts)
        if self._is_default:
            self._arrange_default()
        visible = [name for name, dock in self.docks.items() if not dock.isHidden()]
        for name in [*visible, *(name for name in self.docks if name not in visible)]:
            kind = self.kinds[name]
            self._waiting.append(_Filling(self.docks[name], kind.load, kind.make, partial(self._restore_panel, name)))

    def start_filling(self) -> None:
        """Make the panels, charts first, one at a time, a few milliseconds at a time."""
        self._waiting.sort(key=lambda each: each.dock.objectName() not in self.charts)
        self._fill_timer.start(0)

    def _restore(self, memory: Memory, charts: list[ChartMemory]) -> bool:
        if not memory.docks:
            return False
        try:
            state = QByteArray(base64.b64decode(memory.docks, validate=True))
        except (binascii.Error, ValueError):
            return False
        for chart in charts:
            self._new_chart(chart.dock, dict(chart.state))
        for dock in (*self.docks.values(), *self.charts.values()):
            self._window.addDockWidget(AREA, dock)
        if self._window.restoreState(state, _FORM):
            return True
        for name in list(self.charts):
            self._drop_chart(name)
        return False

    def reset(self) -> None:
        """Put everything where it is at first; charts beyond the first two are closed."""
        for name in list(self.charts)[len(DEFAULT_CHARTS) :]:
            self._drop_chart(name)
        for dock in (*self.docks.values(), *self.charts.values()):
            dock.setFloating(False)
            self._window.removeDockWidget(dock)
        self._arrange_default()
        self.charts_changed.emit()
        if not self._fill_timer.isActive():
            self._fill_timer.start()

    def _arrange_default(self) -> None:
        window = self._window
        for text, timeframe in DEFAULT_CHARTS[len(self.charts) :]:
            self._new_chart("", {"instrument": text, "timeframe": timeframe})
        charts, below, right, lower, mascot = self._groups()
        across, down = Qt.Orientation.Horizontal, Qt.Orientation.Vertical
        # Columns, then rows, then the rest; tabs last: Qt puts what is split off a tab among the tabs.
        rows = [group[0] for group in (charts, below, [mascot] if mascot is not None else []) if group]
        columns = [group[0] for group in (rows, right or lower) if group]
        for first in columns[:1]:
            window.addDockWidget(AREA, first)
        for dock in columns[1:]:
            window.splitDockWidget(columns[0], dock, across)
        for dock in rows[1:2]:
            window.splitDockWidget(rows[0], dock, down)
        for dock, before in zip(charts[1:], charts, strict=False):
            window.splitDockWidget(before, dock, across)
        if below and mascot is not None:
            window.splitDockWidget(below[0], mascot, across)
        if right and lower:
            window.splitDockWidget(right[0], lower[0], down)
        for group in (below, right):
            for dock in group[1:]:
                window.tabifyDockWidget(group[0], dock)
        for dock in (*charts, *below, *right, *lower, *([mascot] if mascot is not None else [])):
            dock.show()
        for front in (*below[:1], *right[:1]):
            front.raise_()
        self._size_default()

    def _groups(self) -> tuple[list[Dock], list[Dock], list[Dock], list[Dock], Dock | None]:
        """Give the docks by where they lie at first: charts, below them, at the right, under that, the mascot's."""

        def named(*names: str) -> list[Dock]:
            return [self.docks[name] for name in names if name in self.docks]

        return (
            list(self.charts.values()),
            named("orders", "telemetry", "backtest", "log"),
            named("strategies", "accounts", "data", "deploy"),
            named("ticket"),
            self.docks.get("mascot"),
        )

    def _size_default(self) -> None:
        charts, below, right, lower, mascot = self._groups()
        width, height = self._window.width(), self._window.height()
        side = max(290, min(360, width // 4))
        mascot_px = max(140, min(200, width // 8))
        floor = max(180, height * 30 // 100)
        across, down = Qt.Orientation.Horizontal, Qt.Orientation.Vertical
        for docks, sizes, way in (
            ([*charts[:1], *right[:1]], [width - side, side], across),
            (charts, [(width - side) // max(1, len(charts))] * len(charts), across),
            ([*charts[:1], *below[:1]], [height - floor, floor], down),
            ([*right[:1], *lower], [height * 45 // 100, height * 55 // 100], down),
            ([*below[:1], *([mascot] if mascot is not None else [])], [width - side - mascot_px, mascot_px], across),
        ):
            if len(docks) == len(sizes) > 1:
                self._window.resizeDocks(docks, [max(1, size) for size in sizes], way)

    # ---- charts ------------------------------------------------------------------------------------------------------

    def add_chart(self, instrument: InstrumentId, timeframe: str) -> Dock | None:
        """Open one more chart beside the last; None when there are as many as there can be."""
        if len(self.charts) >= MOST_CHARTS:
            return None
        neighbours = [dock for dock in self.charts.values() if not dock.isHidden() and not dock.isFloating()]
        dock = self._new_chart("", {"instrument": str(instrument), "timeframe": timeframe})
        if neighbours:
            self._place_beside(neighbours[-1], dock, is_last=len(neighbours) >= 4)
        else:
            self._window.addDockWidget(AREA, dock)
        dock.show()
        dock.raise_()
        self._fill_timer.start()
        self.charts_changed.emit()
        return dock

    def _place_beside(self, neighbour: Dock, dock: Dock, *, is_last: bool) -> None:
        """Give a chart half of another's room, or a tab over it where half would be too little, or it `is_last`."""
        wide = neighbour.width() > neighbour.height() * 1.2
        half = (neighbour.width() if wide else neighbour.height()) // 2
        if is_last or half < (_LEAST_CHART_WIDTH if wide else _LEAST_CHART_HEIGHT):
            self._window.tabifyDockWidget(neighbour, dock)
        else:
            way = Qt.Orientation.Horizontal if wide else Qt.Orientation.Vertical
            self._window.splitDockWidget(neighbour, dock, way)
            self._window.resizeDocks([neighbour, dock], [half, half], way)

    def _new_chart(self, name: str, state: dict[str, Any]) -> Dock:
        number = 1
        while not name or name in self.charts or name in self.docks:
            name, number = f"chart-{number}", number + 1
        dock = Dock(name, "Chart", self._window)
        self.charts[name] = dock
        self._chart_states[name] = state
        dock.closed.connect(lambda: self._drop_chart(name))

        def restore(panel: Panel) -> None:
            panel.restore(dict(state))
            panel.windowTitleChanged.connect(dock.setWindowTitle)
            dock.setWindowTitle(panel.windowTitle() or "Chart")
            self.chart_made.emit(panel)

        self._waiting.append(_Filling(dock, tuple, self._make_chart, restore))
        return dock

    def _drop_chart(self, name: str) -> None:
        dock = self.charts.pop(name, None)
        if dock is None:
            return
        del self._chart_states[name]
        if dock.panel is not None:
            dock.panel.retire()
        self._waiting = [each for each in self._waiting if each.dock is not dock]
        if self._present is not None and self._present[0] is dock:
            self._present[1].close()
            self._present = None
        self._window.removeDockWidget(dock)
        dock.deleteLater()
        self.charts_changed.emit()

    def chart_panels(self) -> Iterator[Panel]:
        """Give the charts that are made."""
        for dock in self.charts.values():
            if dock.panel is not None:
                yield dock.panel

    # ---- panels ------------------------------------------------------------------------------------------------------

    def panel(self, name: str) -> Panel | None:
        """Give a panel, once it is made."""
        dock = self.docks.get(name)
        return dock.panel if dock is not None else None

    def show_panel(self, name: str) -> None:
        """Bring a panel to the front."""
        dock = self.docks.get(name) or self.charts.get(name)
        if dock is not None:
            dock.show()
            dock.raise_()

    def _fill_some(self) -> None:
        """Go on with the panel that is being made, or the next, for a few milliseconds."""
        if self._present is None and not self._waiting:
            QTimer.singleShot(0, self, self._finish)  # after Qt has laid out what the last panel wants
            return
        if self._patience.waits():
            self._fill_timer.start(0)
            return
        if self._present is None:
            filling = self._waiting.pop(0)
            self._present = filling.dock, self._fill(filling)
        until_s = time.perf_counter() + FILL_MS / 1e3
        while self._take_step() and time.perf_counter() < until_s:
            pass
        self._fill_timer.start(FILL_GAP_MS)

    def _take_step(self) -> bool:
        """Go one step on with the panel that is being made; whether it wants another."""
        if self._present is None:
            return False
        dock, steps = self._present
        try:
            next(steps)
        except StopIteration:
            self._present = None
        except Exception as error:  # one panel that fails must not take the others with it
            self._present = None
            logger.exception("the panel {} cannot be shown", dock.objectName())
            waiting = dock.widget()
            if isinstance(waiting, QLabel):
                waiting.setWordWrap(True)
                waiting.setText(f"This panel cannot be shown: {error}. The log has more.")
        return self._present is not None

    def _fill(self, filling: _Filling) -> Generator[None, None, None]:
        """Make a panel in steps, each of a few milliseconds, and put it into its dock."""
        for _ in filling.load():
            yield
        place = Enclosure(filling.dock)
        place.hide()  # also where the dock is shown meanwhile: putting it there shows it
        panel = filling.make(place)
        is_whole = False
        try:
            while panel.make_part():
                yield
            is_whole = True
            filling.restore(panel)
            yield
            for widget in panel.findChildren(QWidget):  # styled now, and not all at once when the panel is shown first
                yield
                if shiboken6.isValid(widget):
                    widget.ensurePolished()
            yield
            place.resize(filling.dock.widget().size())
            place.hold(panel)
            if (layout := panel.layout()) is not None:
                layout.activate()
            yield
        except BaseException:  # also when the chart is closed meanwhile
            if shiboken6.isValid(panel):  # the window may have ended first
                if is_whole:
                    panel.retire()
                place.deleteLater()
            raise
        filling.dock.fill(place)

    def _finish(self) -> None:
        if self._is_filled:
            return  # a chart came later: people have moved and chosen things since
        self._is_filled = True
        if self._is_default:
            self._size_default()  # what the panels want has moved the docks since
        self._window.setAnimated(True)  # not before: an animation that runs undoes what is sized meanwhile
        self.filled.emit()

    def _restore_panel(self, name: str, panel: Panel) -> None:
        state = self._remembered.panels.get(name)
        if state is None:
            return
        try:
            panel.restore(state)
        except Exception:  # what was remembered may be of another version, or anything
            logger.exception("the remembered state of the panel {} is of no use", name)

    # ---- remembering -------------------------------------------------------------------------------------------------

    def remember(self, memory: Memory) -> None:
        """Note down how everything lies."""
        memory.docks = base64.b64encode(self._window.saveState(_FORM).data()).decode()
        memory.charts = [
            ChartMemory(name, dock.panel.state() if dock.panel is not None else self._chart_states[name])
            for name, dock in self.charts.items()
        ]
        panels = dict(self._remembered.panels)
        panels.update({name: dock.panel.state() for name, dock in self.docks.items() if dock.panel is not None})
        memory.panels = {name: state for name, state in panels.items() if state}
