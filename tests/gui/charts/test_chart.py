"""The candle chart as a person and a live market use it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC
from decimal import Decimal

import numpy as np
import pytest
from PySide6.QtCore import QEvent, QPoint, QPointF, QRect, Qt
from PySide6.QtGui import QColor, QHelpEvent, QImage, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QToolTip, QWidget
from pytestqt.qtbot import QtBot

from koc_qt.domain.market import Side
from koc_qt.ui.charts.candles import CandleItem
from koc_qt.ui.charts.chart import CandleChart
from koc_qt.ui.charts.colors import dark_colors, light_colors
from koc_qt.ui.charts.markers import Marker, PriceLine
from koc_qt.ui.charts.overlays import NewestButton
from koc_qt.ui.charts.view import ChartView
from tests.conditions import PATIENCE
from tests.gui.charts.conftest import MINUTE_NS, START_NS, walk


def viewport(chart: CandleChart) -> QWidget:
    view = chart.findChild(ChartView)
    assert view is not None
    return view.viewport()


def settle() -> None:
    QApplication.processEvents()


def picture(chart: CandleChart) -> QImage:
    settle()
    return chart.grab().toImage()


def count_of(image: QImage, color: QColor, area: QRect | None = None) -> int:
    seen = image.copy(area or image.rect()).convertToFormat(QImage.Format.Format_RGB32)
    return int(np.count_nonzero(np.frombuffer(seen.constBits(), np.uint32) == color.rgb()))


def tick(chart: CandleChart, minute: int, price: float, volume: float = 5.0, *, closed: bool = False) -> None:
    chart.update_bar(START_NS + minute * MINUTE_NS, price, price, price, price, volume, closed)


def hover(chart: CandleChart, x: int, y: int) -> None:
    QTest.mouseMove(viewport(chart), QPoint(x, y))
    settle()


def wheel(
    chart: CandleChart, turned: int, at: QPoint, keys: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier
) -> None:
    target = viewport(chart)
    event = QWheelEvent(
        QPointF(at), QPointF(target.mapToGlobal(at)), QPoint(), QPoint(0, turned), Qt.MouseButton.NoButton, keys,
        Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(target, event)
    settle()


def drag(chart: CandleChart, start: QPoint, to: QPoint) -> None:
    target = viewport(chart)
    QTest.mousePress(target, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, start)
    QTest.mouseMove(target, (start + to) / 2)
    QTest.mouseMove(target, to)
    QTest.mouseRelease(target, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, to)
    settle()


def test_an_empty_chart_says_what_it_waits_for(chart: CandleChart) -> None:
    chart.set_empty_text("Waiting for bars of BTC/USDT…")
    assert count_of(picture(chart), dark_colors().muted) > 20
    assert chart.visible_times_ns is None
    assert chart.following
    chart.set_bars(walk(10))
    assert count_of(picture(chart), dark_colors().up) > 20


def test_bars_are_drawn_where_their_prices_are(chart: CandleChart) -> None:
    chart.set_bars(walk(300))
    image = picture(chart)
    colors = dark_colors()
    plot = viewport(chart).rect()
    volumes = QRect(plot.left(), plot.bottom() - 60, plot.width(), 60)
    assert count_of(image, colors.up, plot) > 200
    assert count_of(image, colors.down, plot) > 200
    assert count_of(image, colors.up, volumes) == 0
    assert count_of(image, colors.volume_up, volumes) > 200
    low, high = chart.price_range
    start, stop = chart.visible_range
    bars = walk(300)
    assert low < bars.values[2, start:stop].min()
    assert high > bars.values[1, start:stop].max()


def test_a_live_tick_repaints_only_the_strip_at_the_right(chart: CandleChart, monkeypatch: pytest.MonkeyPatch) -> None:
    chart.set_bars(walk(300))
    settle()
    exposed: list[float] = []
    original = CandleItem.draw

    def counting(self: CandleItem, painter: object, area: object) -> None:
        exposed.append(area.width())  # type: ignore[attr-defined]
        original(self, painter, area)  # type: ignore[arg-type]

    monkeypatch.setattr(CandleItem, "draw", counting)
    low, high = chart.price_range
    tick(chart, 299, (low + high) / 2)
    settle()  # the first live values may make the legend wider
    exposed.clear()
    for step in range(1, 20):
        tick(chart, 299, (low + high) / 2 + step * 0.001, volume=step * 0.731)
        settle()
    assert len(exposed) == 19
    assert max(exposed) < 80
    tick(chart, 299, high * 1.01)  # rescales
    settle()
    assert exposed[-1] >= viewport(chart).width()
    assert chart.price_range[1] > high * 1.01
    tick(chart, 300, high)  # a bar opens
    settle()
    assert exposed[-1] >= viewport(chart).width()


def test_a_strip_leaves_the_same_picture_as_a_whole_repaint(chart: CandleChart) -> None:
    bars = walk(300)
    chart.set_bars(bars)
    chart.set_markers([fill(299, Side.BUY), fill(298, Side.SELL)])
    settle()
    opened, high, low, _, volume = (float(each) for each in bars.values[:, -1])
    seen = set()
    for close in (low, high, (low + high) / 2):
        chart.update_bar(int(bars.open_time_ns[-1]), opened, high, low, close, volume, False)
        settle()
        strips = chart.screen().grabWindow(chart.winId()).toImage().convertToFormat(QImage.Format.Format_RGB32)
        whole = chart.grab().toImage().convertToFormat(QImage.Format.Format_RGB32)
        assert bytes(strips.constBits()) == bytes(whole.constBits())
        seen.add(bytes(strips.constBits()))
    assert len(seen) == 3


def test_the_newest_bar_is_followed_until_one_moves_away(chart: CandleChart, qtbot: QtBot) -> None:
    chart.set_bars(walk(500))
    for minute in range(500, 520):
        tick(chart, minute, 101.0)
    assert chart.following
    assert chart.visible_range[1] == 520
    with qtbot.waitSignal(chart.following_changed) as told:
        drag(chart, QPoint(100, 150), QPoint(500, 150))
    assert told.args == [False]
    before = chart.visible_times_ns
    tick(chart, 520, 101.0)
    assert chart.visible_times_ns == before
    button = chart.findChild(NewestButton)
    assert button is not None
    assert button.isVisible()
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    assert chart.following
    assert not button.isVisible()
    assert chart.visible_range[1] == 521


def test_older_bars_are_asked_for_once_until_they_come(chart: CandleChart) -> None:
    asked: list[bool] = []
    chart.older_wanted.connect(lambda: asked.append(True))
    chart.set_bars(walk(1000, first=1000))
    assert asked == []
    chart.go_to_oldest()
    chart.go_to_newest()
    chart.go_to_oldest()
    assert len(asked) == 1
    seen = chart.visible_times_ns
    assert chart.prepend(walk(1000)) == 1000
    assert chart.visible_times_ns == seen
    assert len(asked) == 1
    chart.go_to_oldest()
    assert len(asked) == 2
    assert chart.prepend(walk(5)) == 0  # nothing new: there are no older ones
    chart.go_to_oldest()
    assert len(asked) == 2
    chart.set_bars(walk(10))
    assert len(asked) == 3
    chart.no_older()
    chart.retry_older()
    chart.go_to_oldest()
    assert len(asked) == 3


def test_a_request_that_failed_can_be_made_again(chart: CandleChart) -> None:
    asked: list[bool] = []
    chart.older_wanted.connect(lambda: asked.append(True))
    chart.set_bars(walk(10))
    chart.retry_older()
    chart.go_to_oldest()
    assert len(asked) == 2


def test_the_legend_tells_the_bar_below_the_mouse_else_the_newest(chart: CandleChart) -> None:
    bars = walk(50)
    chart.set_bars(bars)
    assert f"C {bars.values[3, -1]:.2f}" in chart.legend_text
    hover(chart, 300, 150)
    start, stop = chart.visible_range
    told = chart.legend_text
    assert any(
        f"C {bars.values[3, i]:.2f}" in told and f"O {bars.values[0, i]:.2f}" in told for i in range(start, stop)
    )
    assert count_of(picture(chart), dark_colors().crosshair) > 100
    QApplication.sendEvent(viewport(chart), QEvent(QEvent.Type.Leave))
    assert f"C {bars.values[3, -1]:.2f}" in chart.legend_text
    assert count_of(picture(chart), dark_colors().crosshair) == 0
    assert "%" in chart.legend_text


def test_the_wheel_zooms_around_the_mouse_and_ctrl_stretches_prices(chart: CandleChart) -> None:
    chart.set_bars(walk(2000))
    wide = chart.visible_range[1] - chart.visible_range[0]
    wheel(chart, 360, QPoint(300, 100))
    assert chart.visible_range[1] - chart.visible_range[0] < wide
    for _ in range(30):
        wheel(chart, -1200, QPoint(300, 100))
    assert chart.visible_range == (0, 2000)
    low, high = chart.price_range
    wheel(chart, 360, QPoint(300, 100), Qt.KeyboardModifier.ControlModifier)
    assert chart.price_range[1] - chart.price_range[0] < high - low
    QTest.mouseDClick(viewport(chart), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, QPoint(300, 100))
    assert chart.price_range == pytest.approx((low, high))


def test_the_keyboard_moves_and_zooms(chart: CandleChart) -> None:
    chart.set_bars(walk(2000))
    newest = chart.visible_range
    QTest.keyClick(chart, Qt.Key.Key_Left)
    assert chart.visible_range[0] < newest[0]
    QTest.keyClick(chart, Qt.Key.Key_Right)
    assert chart.visible_range == newest
    QTest.keyClick(chart, Qt.Key.Key_Plus)
    assert chart.visible_range[1] - chart.visible_range[0] < newest[1] - newest[0]
    QTest.keyClick(chart, Qt.Key.Key_Minus)
    QTest.keyClick(chart, Qt.Key.Key_Home)
    assert chart.visible_range[0] == 0
    QTest.keyClick(chart, Qt.Key.Key_End)
    assert chart.following


def test_one_can_go_to_a_time(chart: CandleChart) -> None:
    chart.set_bars(walk(2000))
    assert chart.go_to(START_NS + 700 * MINUTE_NS)
    times = chart.visible_times_ns
    assert times is not None
    assert abs(sum(times) / 2 - (START_NS + 700 * MINUTE_NS)) < 2 * MINUTE_NS
    assert not chart.go_to(START_NS - 1)
    assert chart.visible_range[0] == 0


def test_one_can_go_to_a_time_before_the_chart_has_its_size(shown: Callable[[QWidget], None]) -> None:
    chart = CandleChart(zone=UTC)
    chart.set_bars(walk(2000))
    chart.go_to(START_NS + 700 * MINUTE_NS)
    chart.merge(walk(2000))
    chart.resize(600, 400)
    shown(chart)
    times = chart.visible_times_ns
    assert times is not None
    assert times[1] - times[0] > 20 * MINUTE_NS
    assert abs(sum(times) / 2 - (START_NS + 700 * MINUTE_NS)) < 2 * MINUTE_NS


def test_bars_of_an_outage_are_merged_where_they_belong(chart: CandleChart) -> None:
    chart.set_bars(walk(100))
    tick(chart, 150, 100.0)
    with pytest.raises(ValueError, match="merge it"):
        tick(chart, 120, 100.0)
    chart.merge(walk(40, first=105))
    assert chart.bar_count == 141
    assert chart.following
    picture(chart)


def test_new_bars_can_keep_the_times_in_sight(chart: CandleChart) -> None:
    chart.set_bars(walk(1000))
    chart.go_to(START_NS + 400 * MINUTE_NS)
    before = chart.visible_times_ns
    chart.set_bars(walk(1200, first=-100), keep_view=True)
    after = chart.visible_times_ns
    assert before is not None
    assert after is not None
    assert abs(before[1] - after[1]) <= MINUTE_NS


def fill(minute: int, side: Side, quantity: str = "0.5") -> Marker:
    return Marker(START_NS + minute * MINUTE_NS + 1, side, Decimal("100.25"), Decimal(quantity), "<b>cross</b>")


def tooltip_near(chart: CandleChart, color: QColor) -> str:
    """Hover over the first pixel of a colour in the plot and give the tooltip's text."""
    image = picture(chart)
    area = viewport(chart).rect()
    spot = next(
        QPoint(x, y) for x in range(area.width()) for y in range(30, area.height()) if image.pixel(x, y) == color.rgb()
    )
    target = viewport(chart)
    QApplication.sendEvent(target, QHelpEvent(QEvent.Type.ToolTip, spot, target.mapToGlobal(spot)))
    text = QToolTip.text()
    QToolTip.hideText()
    settle()
    return text


def test_fills_are_marked_and_told(chart: CandleChart) -> None:
    chart.set_bars(walk(60))
    chart.set_markers([fill(30, Side.BUY)])
    text = tooltip_near(chart, dark_colors().buy)
    assert "Bought&nbsp;0.5&nbsp;at&nbsp;100.25" in text
    assert "10:30:00" in text
    assert "&lt;b&gt;cross&lt;/b&gt;" in text
    assert count_of(picture(chart), dark_colors().sell) == 0
    chart.add_markers([fill(40, Side.SELL), fill(20, Side.SELL)])
    assert count_of(picture(chart), dark_colors().sell) > 20
    chart.set_markers([])
    assert count_of(picture(chart), dark_colors().buy) == 0


def test_many_fills_become_one_marker_with_their_number(chart: CandleChart) -> None:
    chart.set_bars(walk(5000))
    chart.set_markers([fill(minute, Side.BUY, "2") for minute in range(5000)])
    chart.show_range(0, 4999)
    text = tooltip_near(chart, dark_colors().buy)
    assert "fills:" in text.replace("&nbsp;", " ")
    assert "more" in text


def test_a_fill_before_its_bar_moves_to_it_when_it_comes(chart: CandleChart) -> None:
    def below_the_legend() -> QImage:
        return picture(chart).copy(0, 40, 600, 360)

    chart.set_bars(walk(60))
    chart.add_markers([fill(60, Side.BUY)])
    tick(chart, 60, 105.0)
    came_first = below_the_legend()
    chart.set_markers([])
    without = below_the_legend()
    chart.set_markers([fill(60, Side.BUY)])
    assert below_the_legend() == came_first
    assert without != came_first


def test_orders_and_position_are_lines_with_tags(chart: CandleChart) -> None:
    chart.set_bars(walk(60))
    low, high = chart.price_range
    price = Decimal(f"{(low + high) / 2:.2f}")
    chart.set_lines([PriceLine(price, "Buy 0.5 limit", Side.BUY), PriceLine(price, "Position 1.5")])
    image = picture(chart)
    assert count_of(image, dark_colors().buy) > 300
    assert count_of(image, dark_colors().line) > 300
    chart.set_lines([])
    assert count_of(picture(chart), dark_colors().line) == 0


def test_a_fault_is_told_over_the_bars(chart: CandleChart) -> None:
    chart.set_bars(walk(60))
    chart.set_fault("BTC/USDT has ended")
    assert count_of(picture(chart), dark_colors().fault) > 100
    chart.set_fault("")
    assert count_of(picture(chart), dark_colors().fault) == 0


def test_colours_change_at_once(chart: CandleChart) -> None:
    chart.set_bars(walk(60))
    chart.set_palette(light_colors())
    image = picture(chart)
    assert count_of(image, light_colors().up) > 50
    assert count_of(image, dark_colors().background) == 0


def test_decimals_are_those_of_the_tick(chart: CandleChart) -> None:
    chart.set_bars(walk(60))
    chart.set_decimals(5)
    assert f"C {walk(60).values[3, -1]:.5f}" in chart.legend_text
    with pytest.raises(ValueError, match="0 to 18"):
        chart.set_decimals(-1)


@pytest.mark.parametrize(("width", "height"), [(160, 120), (80, 60), (139, 99), (2600, 1400), (300, 60)])
@pytest.mark.parametrize("count", [0, 1, 2, 70, 3000])
def test_every_size_is_painted(shown: Callable[[QWidget], None], width: int, height: int, count: int) -> None:
    chart = CandleChart()
    chart.resize(width, height)
    chart.set_bars(walk(count))
    chart.set_fault("ended")
    shown(chart)
    chart.set_markers([fill(0, Side.BUY), fill(1, Side.SELL)])
    chart.set_lines([PriceLine(Decimal(100), "Position 1")])
    hover(chart, width // 3, height // 3)
    assert not picture(chart).isNull()
    chart.resize(height * 2, width)
    assert not picture(chart).isNull()


def test_flat_and_extreme_prices_are_painted(chart: CandleChart) -> None:
    for price in (0.0, 1e-9, 1e12, -5.0):
        chart.set_bars(walk(0))
        for minute in range(30):
            tick(chart, minute, price, volume=0.0)
        low, high = chart.price_range
        assert low < price < high
        picture(chart)


def test_a_bad_bar_is_refused_and_the_chart_goes_on(chart: CandleChart) -> None:
    chart.set_bars(walk(60))
    with pytest.raises(ValueError, match="not a number"):
        tick(chart, 60, float("nan"))
    tick(chart, 60, 100.0, closed=True)
    assert chart.bar_count == 61
    picture(chart)


def test_an_error_in_painting_is_reported_and_ends_nothing(
    chart: CandleChart, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    chart.set_bars(walk(60))

    def failing(self: CandleItem, painter: object, exposed: object) -> None:
        raise RuntimeError("a mistake in drawing")

    with monkeypatch.context() as patched, qtbot.captureExceptions() as caught:
        patched.setattr(CandleItem, "draw", failing)
        picture(chart)
    assert {str(each[1]) for each in caught} == {"a mistake in drawing"}
    assert count_of(picture(chart), dark_colors().up) > 50


def test_dragged_files_pass_through_to_the_window(chart: CandleChart) -> None:
    assert not viewport(chart).acceptDrops()
    assert not chart.acceptDrops()


def test_charts_come_and_go_without_a_trace(qapp: QApplication, shown: Callable[[QWidget], None]) -> None:
    parent = QWidget()
    shown(parent)
    for _ in range(15):
        chart = CandleChart(parent)
        chart.set_bars(walk(50))
        chart.resize(200, 150)
        chart.show()
        settle()
        chart.deleteLater()
        del chart
        qapp.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        gc.collect()
    assert parent.findChildren(ChartView) == []


@pytest.mark.parametrize("ending", ["app.quit()", "chart.close()", "chart.deleteLater()", "del chart", "pass"])
def test_a_process_with_a_chart_ends_cleanly(ending: str) -> None:
    program = f"""
from PySide6.QtWidgets import QApplication
app = QApplication([])
from koc_qt.ui.charts.chart import CandleChart
from tests.gui.charts.conftest import walk
chart = CandleChart(); chart.set_bars(walk(100)); chart.show(); app.processEvents()
{ending}
app.processEvents()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60 * PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("scaling", ["1.25", "1.5", "2", "3"])
def test_any_scaling_is_crisp(scaling: str) -> None:
    program = """
import os
import numpy as np
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication
app = QApplication([])
from koc_qt.ui.charts.chart import CandleChart
from koc_qt.ui.charts.colors import dark_colors
from tests.gui.charts.conftest import walk
chart = CandleChart(); chart.resize(400, 300); chart.set_bars(walk(100)); chart.show(); app.processEvents()
image = chart.grab().toImage()
ratio = float(os.environ["QT_SCALE_FACTOR"])
assert image.width() == 400 * ratio, image.width()
colors = dark_colors()
plain = {colors.up.rgb(), colors.down.rgb(), colors.background.rgb(), colors.grid.rgb(), colors.grid_major.rgb(),
         colors.volume_up.rgb(), colors.volume_down.rgb()}
top, bottom = int(30 * ratio), int(260 * ratio)
seen = image.copy(0, top, int(280 * ratio), bottom - top).convertToFormat(QImage.Format.Format_RGB32)
found = {int(each) for each in np.unique(np.frombuffer(seen.constBits(), np.uint32))}
assert found <= plain, [hex(each) for each in found - plain]
assert colors.up.rgb() in found and colors.down.rgb() in found
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60 * PATIENCE,
        check=False,
        env={**os.environ, "QT_SCALE_FACTOR": scaling, "QT_QPA_PLATFORM": "offscreen"},
    )
    assert (done.returncode, done.stderr) == (0, "")
