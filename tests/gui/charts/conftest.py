"""Charts and their bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC

import numpy as np
import pytest
from PySide6.QtCore import QCoreApplication, QEvent
from PySide6.QtWidgets import QApplication, QWidget

from koc_qt.ui.charts.chart import CandleChart
from koc_qt.ui.charts.series import BarColumns

MINUTE_NS = 60_000_000_000
START_NS = 1_723_111_200_000_000_000  # 2024-08-08 10:00 UTC


def walk(count: int, first: int = 0) -> BarColumns:
    """A seeded walk around 100, a bar a minute, `first` minutes after START_NS."""
    chance = np.random.default_rng(5)
    close = 100 + np.cumsum(chance.normal(0, 0.05, count))
    opened = np.concatenate(([100.0], close))[:count]
    high, low = np.maximum(opened, close) + 0.03, np.minimum(opened, close) - 0.03
    times = START_NS + (first + np.arange(count)) * MINUTE_NS
    return BarColumns.of(times, opened, high, low, close, chance.gamma(2, 10, count))


@pytest.fixture
def shown(qapp: QApplication) -> Iterator[Callable[[QWidget], None]]:
    """Show widgets at their size, painted; delete them at the end of the test."""
    widgets: list[QWidget] = []

    def show(widget: QWidget) -> None:
        widgets.append(widget)
        widget.show()
        qapp.processEvents()

    yield show
    for widget in widgets:
        widget.close()
        widget.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    qapp.processEvents()


@pytest.fixture
def chart(shown: Callable[[QWidget], None]) -> CandleChart:
    """Give an empty chart of 600x400."""
    made = CandleChart(zone=UTC)
    made.resize(600, 400)
    shown(made)
    return made
