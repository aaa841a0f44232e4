"""Which panels there are. Each is imported when it is made, after the window has been painted."""

from __future__ import annotations

import contextlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from PySide6.QtWidgets import QWidget

from koc_qt.ui.bench import Bench, Panel
from koc_qt.ui.frame_monitor import FrameMonitor
from koc_qt.ui.workspace import PanelKind

_OTHER_ROOMS = {"orders": ("tables",), "strategies": ("start_form",), "mascot": ("mascot",)}  # that a panel needs first
_LAST = ("form", "view", "widget")  # of a room: they ask for all others of it


def panel_kinds(
    bench: Bench,
    monitor: FrameMonitor,
    own_strategies: Path,
    doctor: Sequence[str],
    folders: Mapping[str, Path],
) -> tuple[PanelKind, ...]:
    """List the panels that there is one of; `doctor` is the command whose report the deploy panel shows."""

    def kind(name: str, title: str, icon: str, maker: str, *arguments: Any) -> PanelKind:
        return PanelKind(
            name, title, icon, lambda parent: _make(maker, bench, *arguments, parent), lambda: _loading(name)
        )

    return (
        kind("orders", "Orders & positions", "orders", "orders:OrdersPanel"),
        kind("telemetry", "Telemetry", "telemetry", "telemetry:TelemetryPanel", monitor),
        kind("backtest", "Back-test", "backtest", "backtest:BacktestPanel"),
        kind("log", "Log", "log", "log:LogPanel"),
        kind("strategies", "Strategies", "strategy", "strategies:StrategiesPanel", own_strategies),
        kind("accounts", "Accounts", "account", "accounts:AccountsPanel"),
        kind("ticket", "Order ticket", "ticket", "ticket:TicketPanel"),
        kind("data", "Data", "data", "data:DataPanel"),
        kind("deploy", "Deploy", "deploy", "deploy:DeployPanel", doctor, folders),
        kind("mascot", "Mascot", "mascot", "mascot:MascotPanel"),
    )


def preload() -> None:
    """Load what charts need and the mascot's pictures, from a thread: the window goes on being painted meanwhile.

    Makes no Qt widget. Whatever fails is said by whoever needs it, in its place.
    """
    for module in ("numpy", "numpy.ma", "pyqtgraph", "koc_qt.ui.panels.chart"):
        with contextlib.suppress(ImportError):
            import_module(module)
    with contextlib.suppress(ImportError):
        import_module("koc_qt.ui.mascot.sprite").load_sprite()


def _loading(panel: str) -> Iterator[None]:
    """Load a panel's modules, its parts first: one at a time, as a panel takes up to 70 ms when it asks for them all.

    On the loop, and not in a thread: what is done meanwhile would wait for that one again and again.
    """
    for room in _OTHER_ROOMS.get(panel, ()):
        package = import_module(f"koc_qt.ui.{room}")
        yield
        modules = [module.name for module in pkgutil.iter_modules(package.__path__)]
        for module in sorted(modules, key=lambda name: name in _LAST):
            import_module(f"{package.__name__}.{module}")
            yield
    package = import_module("koc_qt.ui.panels")
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    for name in (*(name for name in names if name.startswith(f"{panel}_")), panel):
        import_module(f"{package.__name__}.{name}")
        yield


def chart_maker(bench: Bench, parent: QWidget) -> Panel:
    """Make a chart."""
    return _make("chart:ChartPanel", bench, parent)


def _make(maker: str, *arguments: Any) -> Panel:
    module, _, name = maker.partition(":")
    panel: Panel = getattr(import_module(f"koc_qt.ui.panels.{module}"), name)(*arguments)
    return panel
