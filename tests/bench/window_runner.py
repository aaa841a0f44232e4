"""The real window in a process of its own, watched from inside; the benches of the window start it.

    python -m tests.bench.window_runner startup
    python -m tests.bench.window_runner turns [--trace]
    python -m tests.bench.window_runner stream --seconds 60 [--trace] [--types] [--tracemalloc]
    python -m tests.bench.window_runner reconnect --orders 10000 [--trace]
    python -m tests.bench.window_runner theme [--trace]
    python -m tests.bench.window_runner dialogs [--trace]
    python -m tests.bench.window_runner idle | busy

`startup` says when the window was painted first, and a chart with bars, then closes. `turns` measures each turn of the
loop from the first paint until the window has rested for a while with everything there. `stream` opens four charts,
waits until they have bars, lets everything settle, and measures. `reconnect` does so too, with all orders in sight,
until it has lost the engine and has it back with so many orders, which are shown. `theme` puts the light theme and the
dark one on, twice, every panel there and four charts. `dialogs` opens each dialog and closes it, twice,
then resets the layout twice. `idle` and `busy` only stay, `busy`
painting one dock after the other for 30 of every 50 ms, until SIGTERM; then they say how large a share of the time they
painted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koc_qt.wiring import window as wiring
from tests.bench.window_common import INSTRUMENTS, say

if TYPE_CHECKING:
    from PySide6.QtWidgets import QDockWidget

    from koc_qt.ui.window import MainWindow

SMA_CROSS = Path(__file__).parents[2] / "strategies" / "sma_cross.py"
RESET = "view.reset"
COMMANDS_WITH_DIALOGS = ("accounts.add", "help.shortcuts", "help.about", "engine.stop")
TIMEFRAMES = ("1s", "1m", "5s", "1m")
SETTLE_S = 5.0
NOTED_MS = 8.0
BUSY_MS, PERIOD_MS = 30, 50
READY_TIMEOUT_S = 40.0
_TASKS: set[asyncio.Task[None]] = set()


def observe_startup(window: MainWindow) -> None:
    """Say when it was painted first, when its first candles were, and when every panel was there; then close it."""
    from PySide6.QtCore import QCoreApplication, QEvent, QObject, Qt

    class Instants(QObject):
        def __init__(self) -> None:
            super().__init__(window)
            self.left = {"window", "candle", "filled"}
            self.asked: set[str] = set()
            self.kinds = {QEvent.Type(QEvent.registerEventType()): name for name in ("window", "candle")}
            self.views: list[tuple[Any, Any]] = []
            window.installEventFilter(self)
            window.workspace.chart_made.connect(self.watch)
            window.workspace.filled.connect(lambda: self.reached("filled"))

        def watch(self, panel: Any) -> None:
            from koc_qt.ui.charts.view import ChartView

            viewport = panel.chart.findChild(ChartView).viewport()
            viewport.installEventFilter(self)
            self.views.append((viewport, panel.chart))

        def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
            if event.type() == QEvent.Type.Paint:
                charts = [chart for viewport, chart in self.views if viewport is watched]
                if watched is window:
                    self.after_this("window")
                elif charts and charts[0].bar_count:
                    self.after_this("candle")
            return False

        def after_this(self, name: str) -> None:
            """Note the time once the paint that now begins, the whole window's, has been handed to the screen."""
            if name not in self.asked:
                self.asked.add(name)
                kind = next(kind for kind, known in self.kinds.items() if known == name)
                QCoreApplication.postEvent(self, QEvent(kind), Qt.EventPriority.HighEventPriority.value)

        def event(self, event: QEvent) -> bool:
            if (name := self.kinds.get(event.type())) is not None:
                self.reached(name)
                return True
            return super().event(event)

        def reached(self, name: str) -> None:
            if name in self.left:
                say(name)
                self.left.discard(name)
                if not self.left:
                    window.close_now()

    Instants()


def observe_turns(window: MainWindow, options: argparse.Namespace) -> None:
    """Say how long each turn of the loop took, from the first until everything has been there for a while."""
    from tests.bench.window_watch import Turns

    turns = Turns(kept_ms=NOTED_MS)
    turns.start(options.trace)

    async def drive() -> None:
        await until_filled(window)
        await asyncio.sleep(SETTLE_S)
        turns.stop()
        say("turns", **turns.figures())
        window.close_now()

    keep(drive())


def observe_stream(window: MainWindow, options: argparse.Namespace) -> None:
    """Open four charts and measure."""
    from tests.bench.window_watch import measure

    async def drive() -> None:
        await until_filled(window)
        await open_charts(window)
        say("ready")
        await asyncio.sleep(SETTLE_S)
        await measure(window, options)
        window.close_now()

    keep(drive())


def observe_reconnect(window: MainWindow, options: argparse.Namespace) -> None:
    """Say how long each turn of the loop took while a lost engine came back, with all that it remembers."""
    from tests.bench.window_watch import Turns

    desk = window.bench.desk
    turns = Turns(kept_ms=NOTED_MS)

    def is_shown() -> bool:
        table = window.workspace.panel("orders").all  # type: ignore[union-attr]
        panels = window.workspace.chart_panels()
        is_busy = table.records.is_busy or any(panel.is_busy for panel in panels)  # type: ignore[attr-defined]
        return desk.is_connected and table.records.total >= options.orders and not is_busy

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while not condition():  # noqa: ASYNC110 - a bench may poll
                await asyncio.sleep(0.05)

    async def drive() -> None:
        await until_filled(window)
        await open_charts(window)
        orders = window.workspace.panel("orders")
        orders.tabs.setCurrentWidget(orders.all)  # type: ignore[union-attr]
        await until(is_shown)
        await asyncio.sleep(SETTLE_S)
        say("ready")
        await until(lambda: not desk.is_connected)
        turns.start(options.trace)
        say("lost")
        await until(is_shown)
        await asyncio.sleep(1.0)
        turns.stop()
        say("turns", **turns.figures())
        window.close_now()

    keep(drive())


def observe_theme(window: MainWindow, options: argparse.Namespace) -> None:
    """Say how long each turn of the loop took while themes were put on."""
    from tests.bench.window_watch import Turns

    theme = window.bench.theme
    turns = Turns(kept_ms=NOTED_MS)

    async def drive() -> None:
        await until_filled(window)
        await open_charts(window)
        await asyncio.sleep(SETTLE_S)
        turns.start(options.trace)
        for choice in ("light", "dark") * 2:
            theme.set_choice(choice)
            async with asyncio.timeout(READY_TIMEOUT_S):
                while theme.is_changing:  # noqa: ASYNC110 - a bench may poll
                    await asyncio.sleep(0.05)
            await asyncio.sleep(1.0)
        turns.stop()
        say("turns", **turns.figures())
        window.close_now()

    keep(drive())


def observe_dialogs(window: MainWindow, options: argparse.Namespace) -> None:
    """Say how long each turn of the loop took while each dialog opened, lay there for a moment, and was closed."""
    from PySide6.QtWidgets import QApplication, QDialog

    from tests.bench.window_watch import Turns

    def shown() -> list[QDialog]:
        return [each for each in QApplication.topLevelWidgets() if isinstance(each, QDialog) and each.isVisible()]

    async def drive() -> None:
        await until_filled(window)
        workspace = window.workspace
        openers: dict[str, Callable[[], object]] = {
            "start form": lambda: workspace.panel("strategies").offer(str(SMA_CROSS)),  # type: ignore[union-attr]
            "file dialog": lambda: workspace.panel("strategies").browse(),  # type: ignore[union-attr]
        }
        for command in (*COMMANDS_WITH_DIALOGS, RESET):
            openers[command] = partial(window.actions_.run, command)
        await asyncio.sleep(SETTLE_S)
        for name, opener in openers.items():
            for number in (1, 2):
                turns = Turns(kept_ms=NOTED_MS)
                turns.start(options.trace)
                asyncio.get_running_loop().call_soon(opener)
                async with asyncio.timeout(READY_TIMEOUT_S):
                    while name != RESET and not shown():  # noqa: ASYNC110 - a bench may poll
                        await asyncio.sleep(0.05)
                await asyncio.sleep(1.5)
                for dialog in shown():
                    asyncio.get_running_loop().call_soon(dialog.reject)
                await asyncio.sleep(1.0)
                turns.stop()
                say("turns", what=f"{name}, {number}.", **turns.figures())
        say("over")
        window.close_now()

    keep(drive())


def observe_presence(window: MainWindow, busy: bool) -> None:
    """Stay; with `busy`, paint."""
    from PySide6.QtCore import Qt, QTimer
    from PySide6.QtWidgets import QDockWidget

    painted_s = began_s = 0.0

    def paint() -> None:
        nonlocal painted_s
        painted_s += paint_for(docks, BUSY_MS / 1e3)

    async def drive() -> None:
        nonlocal began_s
        await until_filled(window)
        docks.extend(dock for dock in window.findChildren(QDockWidget) if not dock.visibleRegion().isEmpty())
        began_s = time.perf_counter()
        if busy:
            timer = QTimer(window)
            timer.setTimerType(Qt.TimerType.PreciseTimer)
            timer.timeout.connect(paint)
            timer.start(PERIOD_MS)
        say("ready")

    docks: list[QDockWidget] = []
    window.closed.connect(lambda: say("painted", share=painted_s / (time.perf_counter() - began_s)))
    keep(drive())


def paint_for(docks: list[QDockWidget], seconds: float) -> float:
    """Paint one dock after the other until the time is over; give the seconds that it took."""
    began_s = time.perf_counter()
    while (took_s := time.perf_counter() - began_s) < seconds:
        docks.append(docks.pop(0))
        docks[-1].repaint()
    return took_s


def keep(work: Any) -> None:
    """Run it on the window's loop; what fails ends the process."""

    async def guarded() -> None:
        try:
            await work
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            asyncio.get_running_loop().stop()
            raise

    task = asyncio.get_running_loop().create_task(guarded())
    _TASKS.add(task)
    task.add_done_callback(_TASKS.discard)


async def until_filled(window: MainWindow) -> None:
    """Wait for every panel."""
    filled = asyncio.Event()
    window.workspace.filled.connect(filled.set)
    async with asyncio.timeout(READY_TIMEOUT_S):
        await filled.wait()


async def open_charts(window: MainWindow) -> None:
    """Have four charts side by side, and wait until each has bars."""
    from koc_qt.domain.instruments import InstrumentId

    def with_bars() -> int:
        return sum(panel.chart.bar_count > 0 for panel in window.workspace.chart_panels())  # type: ignore[attr-defined]

    for text, timeframe in zip(INSTRUMENTS, TIMEFRAMES, strict=True):
        window.open_chart(InstrumentId.parse(text), timeframe)
    async with asyncio.timeout(READY_TIMEOUT_S):
        while with_bars() < len(INSTRUMENTS):  # noqa: ASYNC110 - a bench may poll
            await asyncio.sleep(0.05)


def main() -> None:
    """Run the window as `koc` does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("startup", "turns", "stream", "reconnect", "theme", "dialogs", "idle", "busy"))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--trace", action="store_true", help="sample the stack of turns that are too long")
    parser.add_argument("--types", action="store_true", help="count the objects of each type at both ends")
    parser.add_argument("--tracemalloc", action="store_true", help="compare what was allocated where")
    parser.add_argument("--orders", type=int, default=10_000)
    parser.add_argument("--nice", type=int, default=0, help="a lower priority (POSIX)")
    options = parser.parse_args()
    if options.nice:
        os.nice(options.nice)
    observe = {
        "startup": observe_startup,
        "turns": lambda window: observe_turns(window, options),
        "stream": lambda window: observe_stream(window, options),
        "reconnect": lambda window: observe_reconnect(window, options),
        "theme": lambda window: observe_theme(window, options),
        "dialogs": lambda window: observe_dialogs(window, options),
        "idle": lambda window: observe_presence(window, False),
        "busy": lambda window: observe_presence(window, True),
    }[options.mode]
    real = wiring.main
    wiring.main = lambda asked: real(asked, observe=observe)  # type: ignore[assignment,misc]
    from koc_qt.__main__ import main as koc

    sys.exit(koc(["window"]))


if __name__ == "__main__":
    main()
