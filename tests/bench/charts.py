"""Frames of our candle chart beside an empty pyqtgraph view, pyqtgraph's candlestick technique, and finplot.

    python -m tests.bench.charts [--bars 100000 1000000] [--only ours] [--json]

Each contender runs alone in a process, 1000x600, offscreen unless QT_QPA_PLATFORM says otherwise. Milliseconds a frame,
from the change until it is painted, medians:
    pan     a window of 500 bars moves by 5
    live    the last bar changed within the prices in sight
Ours has crosshair, grid, volume, legend and both axes. Ratios are to the empty view of the same run, because machines
differ. finplot is no dependency; to have it: pip install --no-deps --target FOLDER finplot, and PYTHONPATH=FOLDER.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
import psutil

SIZE = (1000, 600)
WINDOW = 500
STEP = 5
BUDGET_S = 8.0  # a measurement ends after this, but not before one frame
FRAMES = 60
MINUTE_NS = 60_000_000_000


class Contender(Protocol):
    """Something that draws bars. Columns are rows of open, high, low, close, volume."""

    def build(self, times: Any, values: Any) -> Any:
        """Make the widget, showing the last WINDOW bars."""

    def pan(self, right: int) -> None:
        """Show the WINDOW bars that end at an index."""

    def live(self, close: float) -> None:
        """Change the last bar's close."""


class Ours:
    """The chart of this project."""

    first_ns = 0

    def build(self, times: Any, values: Any) -> Any:
        from PySide6.QtCore import QPoint
        from PySide6.QtTest import QTest

        from koc_qt.ui.charts.chart import CandleChart
        from koc_qt.ui.charts.series import BarColumns
        from koc_qt.ui.charts.view import ChartView

        self.chart = CandleChart()
        self.chart.resize(*SIZE)
        self.chart.show()
        self.chart.set_bars(BarColumns.of(times, *values))
        self.first_ns = int(times[0])
        self.last = (int(times[-1]), *(float(each) for each in values[:, -1]))
        self.pan(len(times) - 1)
        view = self.chart.findChild(ChartView)
        assert view is not None
        QTest.mouseMove(view.viewport(), QPoint(400, 200))
        return self.chart

    def pan(self, right: int) -> None:
        self.chart.show_range(right - WINDOW + 1, right)

    def live(self, close: float) -> None:
        at, opened, high, low, _, volume = self.last
        self.chart.update_bar(at, opened, high, low, close, volume, False)

    def more(self, frame: Callable[[], None]) -> dict[str, float]:
        """Measure what only we have: the crosshair, a tick that rescales, all bars in sight, 5,000 older bars."""
        from PySide6.QtCore import QPoint
        from PySide6.QtTest import QTest

        from koc_qt.ui.charts.series import BarColumns
        from koc_qt.ui.charts.view import ChartView

        chart = self.chart
        view = chart.findChild(ChartView)
        assert view is not None
        found: dict[str, float] = {}

        def move(number: int) -> None:
            QTest.mouseMove(view.viewport(), QPoint(100 + number * 7, 100 + number * 3))

        found["crosshair moves"] = measured(move, frame)
        at, opened, high, low, _, volume = self.last
        found["live tick that rescales"] = measured(
            lambda number: chart.update_bar(at, opened, high * (1.1 + number / 100), low, opened, volume, False), frame
        )
        count = chart.bar_count
        found["all bars in sight, pan"] = measured(
            lambda number: chart.show_range(-number * count // 200, count), frame
        )
        rows = np.ones((5, 5000))

        def older(number: int) -> None:
            times = self.first_ns - (np.arange(5000, 0, -1) + 5000 * number) * MINUTE_NS
            chart.prepend(BarColumns.of(times, *rows))

        found["prepend 5,000 bars"] = measured(older, frame, frames=10)
        return found


class Empty:
    """A pyqtgraph plot without data: what its view and its own axes cost."""

    def build(self, times: Any, values: Any) -> Any:
        import pyqtgraph as pg

        self.plot = pg.PlotWidget()
        self.plot.resize(*SIZE)
        self.plot.show()
        self.plot.setYRange(float(values[2].min()), float(values[1].max()), padding=0)
        self.pan(len(times) - 1)
        return self.plot

    def pan(self, right: int) -> None:
        self.plot.setXRange(right - WINDOW, right, padding=0)

    def live(self, close: float) -> None:
        self.plot.viewport().update()


class Recorded(Empty):
    """The technique of pyqtgraph's candlestick example: every bar drawn into one QPicture, anew at each change."""

    def build(self, times: Any, values: Any) -> Any:
        import pyqtgraph as pg
        from PySide6.QtCore import QPointF, QRectF
        from PySide6.QtGui import QPainter, QPicture

        class Candles(pg.GraphicsObject):  # type: ignore[misc]  # pyqtgraph is untyped
            def __init__(self) -> None:
                super().__init__()
                self.record()

            def record(self) -> None:
                self.picture = QPicture()
                painter = QPainter(self.picture)
                painter.setPen(pg.mkPen("w"))
                for index, (opened, high, low, close) in enumerate(values[:4].T.tolist()):
                    painter.drawLine(QPointF(index, low), QPointF(index, high))
                    painter.setBrush(pg.mkBrush("r" if opened > close else "g"))
                    painter.drawRect(QRectF(index - 0.3, opened, 0.6, close - opened))
                painter.end()
                self.bounds = QRectF(self.picture.boundingRect())
                self.update()

            def paint(self, painter: QPainter, *_: object) -> None:
                painter.drawPicture(0, 0, self.picture)

            def boundingRect(self) -> QRectF:  # noqa: N802
                return self.bounds

        self.values = values
        super().build(times, values)
        self.candles = Candles()
        self.plot.addItem(self.candles)
        self.pan(len(times) - 1)
        return self.plot

    def live(self, close: float) -> None:
        self.values[3, -1] = close
        self.candles.record()


class Finplot:
    """finplot's candlesticks on its own window."""

    def build(self, times: Any, values: Any) -> Any:
        import finplot
        import pandas as pd

        self.frame = pd.DataFrame(values[[0, 3, 1, 2]].T, columns=["open", "close", "high", "low"])
        self.frame.index = pd.to_datetime(times)
        self.axis = finplot.create_plot("bench", init_zoom_periods=WINDOW)
        self.candles = finplot.candlestick_ochl(self.frame)
        window = finplot.windows[0]
        window.resize(*SIZE)
        finplot.show(qt_exec=False)
        self.pan(len(times) - 1)
        return window

    def pan(self, right: int) -> None:
        self.axis.vb.update_y_zoom(right - WINDOW, right)

    def live(self, close: float) -> None:
        self.frame.iloc[-1, 1] = close
        self.candles.update_data(self.frame)


CONTENDERS: dict[str, Callable[[], Contender]] = {
    "empty": Empty,
    "ours": Ours,
    "example": Recorded,
    "finplot": Finplot,
}


def measured(change: Callable[[int], object], frame: Callable[[], None], frames: int = FRAMES) -> float:
    """Median milliseconds from a change until it is painted."""
    took: list[float] = []
    began = time.perf_counter()
    for number in range(frames):
        start = time.perf_counter()
        change(number)
        frame()
        took.append((time.perf_counter() - start) * 1000)
        if time.perf_counter() - began > BUDGET_S:
            break
    return statistics.median(took)


def paint_counter(widget: Any) -> Callable[[], int]:
    """Count paints of the plots in a widget, so that a contender that paints nothing does not pass for a fast one."""
    from PySide6.QtCore import QEvent, QObject
    from PySide6.QtWidgets import QGraphicsView

    class Counter(QObject):
        count = 0

        def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
            self.count += event.type() == QEvent.Type.Paint
            return False

    counter = Counter(widget)
    for view in [*widget.findChildren(QGraphicsView), *([widget] if isinstance(widget, QGraphicsView) else [])]:
        view.viewport().installEventFilter(counter)

    def since_last() -> int:
        count, counter.count = counter.count, 0
        return count

    return since_last


def walk(count: int) -> tuple[Any, Any]:
    """Give opening times and a seeded walk as rows of open, high, low, close, volume."""
    chance = np.random.default_rng(3)
    close = 60_000 * np.exp(np.cumsum(chance.normal(0, 5e-4, count)))
    opened = np.concatenate(([60_000.0], close))[:count]
    spread = 1 + np.abs(chance.normal(0, 3e-4, (2, count)))
    high, low = np.maximum(opened, close) * spread[0], np.minimum(opened, close) / spread[1]
    times = 1_600_000_000_000_000_000 + np.arange(count) * MINUTE_NS
    return times, np.stack((opened, high, low, close, chance.gamma(2, 10, count)))


def run_alone(name: str, count: int) -> dict[str, Any]:
    """Measure one contender in this process."""
    times, values = walk(count)
    from PySide6.QtWidgets import QApplication

    app = QApplication.instance() or QApplication([])
    import pyqtgraph as pg  # imported before the clock starts: every contender needs it

    pg.setConfigOptions(antialias=False)
    frame = app.processEvents
    me = psutil.Process()
    held = me.memory_info().rss
    contender = CONTENDERS[name]()
    start = time.perf_counter()
    widget = contender.build(times, values)
    frame()
    found: dict[str, Any] = {
        "first paint ms": (time.perf_counter() - start) * 1000,
        "memory MB": (me.memory_info().rss - held) / 1e6,
    }
    last, low, high = count - 1, float(values[2, -1]), float(values[1, -1])
    painted = paint_counter(widget)
    found["pan"] = measured(lambda number: contender.pan(count // 2 + number * STEP), frame)
    found["paints a pan"] = painted() / FRAMES
    contender.pan(last)
    frame()
    painted()
    found["live"] = measured(lambda number: contender.live(low + (high - low) * (number % 10) / 10), frame)
    found["paints a live tick"] = painted() / FRAMES
    if isinstance(contender, Ours):
        found["more"] = contender.more(frame)
    widget.close()
    return found


def run_all(names: list[str], counts: list[int]) -> dict[int, dict[str, dict[str, Any]]]:
    """Measure each in a process of its own, one after the other."""
    found: dict[int, dict[str, dict[str, Any]]] = {}
    for count in counts:
        for name in names:
            command = [sys.executable, "-m", "tests.bench.charts", "--alone", name, "--bars", str(count)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
            if done.returncode != 0:
                raise SystemExit(f"{name} with {count:,} bars failed:\n{done.stderr[-2000:]}")
            found.setdefault(count, {})[name] = json.loads(done.stdout.splitlines()[-1])
    return found


def report(found: dict[int, dict[str, dict[str, Any]]]) -> None:
    """Print a table a count, and what only ours has."""
    for count, contenders in found.items():
        empty = contenders.get("empty")
        print(f"\n{count:,} bars, ms a frame (x the empty view)")
        print(f"{'':10}{'pan':>26}{'live tick':>26}{'first paint ms':>16}{'memory MB':>12}")
        for name, each in contenders.items():
            cells = [
                f"{each[what]:,.2f}" + (f" ({each[what] / empty[what]:,.2f} x)" if empty else "")
                for what in ("pan", "live")
            ]
            if min(each["paints a pan"], each["paints a live tick"]) * FRAMES < 1:
                cells = [f"{cells[0]} ?", f"{cells[1]} ?"]
            print(f"{name:10}{cells[0]:>26}{cells[1]:>26}{each['first paint ms']:>16,.0f}{each['memory MB']:>12,.0f}")
        for what, ms in contenders.get("ours", {}).get("more", {}).items():
            print(f"  ours, {what}: {ms:.2f} ms")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--alone", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.alone:
        print(json.dumps(run_alone(asked.alone, asked.bars[0])))
        return
    names = list(asked.only)
    if "finplot" in names and importlib.util.find_spec("finplot") is None:
        names.remove("finplot")
        print("finplot is not installed; for this bench: pip install --no-deps --target FOLDER finplot, and PYTHONPATH")
    found = run_all(names, asked.bars)
    if asked.json:
        print(json.dumps(found))
    else:
        report(found)


if __name__ == "__main__":
    main()
