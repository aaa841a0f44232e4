"""The status line: what a command does, how far the engine is from you, and how smooth the window runs."""

from __future__ import annotations

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QLabel, QStatusBar

from koc_qt.ui.bench import Bench
from koc_qt.ui.formats import duration
from koc_qt.ui.frame_monitor import FrameMonitor
from koc_qt.ui.theme import number_font, style_as

REFRESH_MS = 1_000
SMOOTH_MS = 16.0


class StatusLine(QStatusBar):
    """Figures at the right, renewed once a second."""

    def __init__(self, bench: Bench, monitor: FrameMonitor) -> None:
        super().__init__()
        self._desk = bench.desk
        self._monitor = monitor
        self.setSizeGripEnabled(False)
        self.setContentsMargins(0, 0, 10, 0)
        self.engine = self._label("The engine: how long it runs, and its share of one core")
        self.latency = self._label("From a signal in the engine to the venue's acceptance: median and 99th percentile")
        self.smoothness = self._label("The longest that the window was busy at a stretch in the last minute")
        self._timer = QTimer(self)
        self._timer.setInterval(REFRESH_MS)
        self._timer.timeout.connect(self.refresh)
        self._timer.start()
        bench.desk.linked.connect(self.refresh)
        self.refresh()

    def _label(self, tip: str) -> QLabel:
        label = QLabel()
        label.setFont(number_font())
        label.setToolTip(tip)
        style_as(label, tone="muted", face="small")
        self.addPermanentWidget(label)
        return label

    def refresh(self) -> None:
        """Show what is so now."""
        engine = self._desk.replica.engine if self._desk.is_connected else None
        if engine is None:
            self.engine.setText("Engine: not connected")
            self.latency.clear()
        else:
            self.engine.setText(f"Engine up {duration(engine.uptime_s)}, {engine.cpu_percent:,.0f} % CPU")
            p50, p99 = engine.order_latency_p50_ms, engine.order_latency_p99_ms
            figures = (
                f"Orders {p50:.1f} ms" + (f" (p99 {p99:.1f})" if p99 is not None else "") if p50 is not None else ""
            )
            self.latency.setText(figures)
        longest = self._monitor.stats().longest_minute_ms
        self.smoothness.setText(f"Window {longest:,.0f} ms")
        style_as(self.smoothness, tone="warning" if longest > SMOOTH_MS else "muted")
