"""Which panels there are. Each is imported when it is made, after the window has been painted."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from PySide6.QtWidgets import QWidget

from koc_qt.ui.bench import Bench, Panel
from koc_qt.ui.frame_monitor import FrameMonitor
from koc_qt.ui.loading import load_in_steps
from koc_qt.ui.workspace import PanelKind


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
            name,
            title,
            icon,
            lambda parent: _make(maker, bench, *arguments, parent),
            lambda: load_in_steps(f"koc_qt.ui.panels.{name}"),
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


def chart_maker(bench: Bench, parent: QWidget) -> Panel:
    """Make a chart."""
    return _make("chart:ChartPanel", bench, parent)


def _make(maker: str, *arguments: Any) -> Panel:
    module, _, name = maker.partition(":")
    panel: Panel = getattr(import_module(f"koc_qt.ui.panels.{module}"), name)(*arguments)
    return panel
