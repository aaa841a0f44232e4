"""Trades of a back-test on charts: drawn, told below the mouse, brought out, looked for in the past, and removed."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from PySide6.QtCore import QPointF
from pytestqt.qtbot import QtBot

from koc_qt.domain.backtests import RoundTrip
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.domain.timeframes import SECOND_NS
from koc_qt.link.messages import FetchBars
from koc_qt.ui.bench import MarkedTrips
from koc_qt.ui.charts.chart import CandleChart
from koc_qt.ui.charts.series import BarColumns
from koc_qt.ui.panels.chart import ChartPanel
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC, START_NS

MINUTE_NS = 60 * SECOND_NS
OTHER = InstrumentId("sim", "ETH/USDT")


def trip(first: int, last: int | None, pnl: float = 1.0, quantity: float = 0.5) -> RoundTrip:
    exit_ns, exit_price = (None, None) if last is None else (START_NS + last * MINUTE_NS, 101.0)
    return RoundTrip(BTC, quantity, START_NS + first * MINUTE_NS, 100.0, exit_ns, exit_price, 0.1, pnl)


def columns(count: int) -> BarColumns:
    times = START_NS + np.arange(count) * MINUTE_NS
    closes = 100.0 + np.sin(np.arange(count) / 9)
    return BarColumns.of(times, closes, closes + 1, closes - 1, closes, np.ones(count))


@pytest.fixture
def chart(fake: FakeBench) -> CandleChart:
    """Give a chart of 100 bars that is shown."""
    chart = CandleChart(fake.window)
    fake.window.resize(600, 400)
    chart.resize(600, 400)
    fake.window.show()
    chart.set_bars(columns(100))
    return chart


def pixels(chart: CandleChart) -> bytes:
    image = chart.grab().toImage()
    return bytes(image.constBits())


def test_trades_are_drawn_and_taken_away(chart: CandleChart) -> None:
    before = pixels(chart)
    chart.set_trips([trip(50, 60), trip(70, 90, -1.0, -0.5), trip(95, None)])
    drawn = pixels(chart)
    assert drawn != before
    chart.set_trips([trip(50, 60), trip(70, 90, -1.0, -0.5), trip(95, None)], trip(70, 90))
    assert pixels(chart) not in (before, drawn)
    chart.set_trips([])
    assert pixels(chart) == before


def test_a_trade_tells_of_itself_below_the_mouse(chart: CandleChart) -> None:
    made = trip(70, 90, 12.5)
    chart.set_trips([made])
    chart.grab()
    item = chart._scene.trips
    start, end = item._ends(made)
    for at in (start, end):
        text = chart._scene.tooltip_at(at, None).replace("&nbsp;", " ")
        assert "Back-test: Long 0.5" in text
        assert "PnL +12.50 after fees of 0.10" in text
    assert chart._scene.tooltip_at(start + QPointF(0, 120), None) == ""
    chart.set_bars(columns(0))
    assert chart._scene.tooltip_at(start, None) == ""
    assert not chart.grab().isNull()


def test_trades_before_and_behind_the_bars_are_no_trouble(chart: CandleChart) -> None:
    chart.set_trips([trip(-50, -40), trip(-5, 5), trip(150, 160), trip(99, None)], trip(-500, -400))
    for width, height in ((80, 60), (200, 150), (900, 500)):
        chart.resize(width, height)
        assert not chart.grab().isNull()


def test_thousands_of_trades_are_drawn_as_lines_alone(chart: CandleChart) -> None:
    chart.set_bars(columns(5_000))
    chart.set_trips([trip(number, number + 1, (-1) ** number) for number in range(4_990)])
    chart.show_range(0, 4_999)
    assert not chart.grab().isNull()
    assert len(chart._scene.trips._in_sight(0, 600)) > 4_000


def test_every_chart_of_the_market_shows_them_and_those_that_come_later(fake: FakeBench, qtbot: QtBot) -> None:
    early = ChartPanel(fake.bench, fake.window)
    early.restore({"instrument": "sim:BTC/USDT", "timeframe": "1m"})
    made = [trip(1, 2), trip(3, 4), msgspec.structs.replace(trip(5, 6), instrument=OTHER)]
    fake.requests.mark(MarkedTrips("sma_cross", "5m", tuple(made), made[1]))
    assert early.chart._scene.trips.trips == tuple(made[:2])
    assert early.chart._scene.trips.chosen is made[1]
    late = ChartPanel(fake.bench, fake.window)
    late.restore({"instrument": "sim:ETH/USDT", "timeframe": "1m"})
    assert late.chart._scene.trips.trips == (made[2],)
    assert late.chart._scene.trips.chosen is None
    fake.requests.mark(MarkedTrips())
    assert not [*early.chart._scene.trips.trips, *late.chart._scene.trips.trips]
    for panel in (early, late):
        panel.retire()


def test_charts_of_the_same_timeframe_go_to_the_chosen_trade(fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.bars = [
        Bar(BTC, timeframe, START_NS + number * MINUTE_NS, 100.0, 101.0, 99.0, 100.0, 1.0)
        for number in range(900)
        for timeframe in ("1m", "5m")
    ]
    charts = {}
    for timeframe in ("1m", "5m"):
        charts[timeframe] = panel = ChartPanel(fake.bench, fake.window)
        panel.resize(400, 300)
        panel.restore({"instrument": "sim:BTC/USDT", "timeframe": timeframe})
    fake.window.show()
    qtbot.waitUntil(lambda: all(panel.chart.bar_count == 900 for panel in charts.values()))
    wanted = trip(100, 110)
    fake.requests.mark(MarkedTrips("sma_cross", "1m", (), wanted))
    seen, other = (charts[timeframe].chart.visible_times_ns for timeframe in ("1m", "5m"))
    assert seen is not None
    assert other is not None
    assert seen[0] <= wanted.entry_ns <= seen[1]
    assert other[1] == START_NS + 899 * MINUTE_NS
    for panel in charts.values():
        panel.retire()


def test_a_trade_long_ago_is_gone_to_through_older_bars(fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.bars = [
        Bar(BTC, "1m", START_NS + number * MINUTE_NS, 100.0, 101.0, 99.0, 100.0, 1.0) for number in range(6_000)
    ]
    panel = ChartPanel(fake.bench, fake.window)
    panel.resize(500, 300)
    fake.window.show()
    panel.restore({"instrument": "sim:BTC/USDT", "timeframe": "1m"})
    qtbot.waitUntil(lambda: panel.chart.bar_count == 1_000)
    wanted_ns = START_NS + 300 * MINUTE_NS
    panel.go_to(wanted_ns)
    qtbot.waitUntil(lambda: panel._wanted_ns is None and panel.chart.bar_count > 5_000)
    seen = panel.chart.visible_times_ns
    assert seen is not None
    assert seen[0] <= wanted_ns <= seen[1]
    asked = len(fake.sent(FetchBars))
    panel.go_to(START_NS - 300_000 * MINUTE_NS)  # too long ago to look for
    assert panel._wanted_ns is None
    panel.go_to(START_NS - MINUTE_NS)  # before all bars: once it is known that there are none, it is no longer wanted
    qtbot.waitUntil(lambda: panel._wanted_ns is None)
    assert len(fake.sent(FetchBars)) <= asked + 2
    panel.retire()
