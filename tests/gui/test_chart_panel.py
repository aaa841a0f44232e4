"""A chart in a dock: its history, live bars, what an outage left out, fills, orders, faults."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec
import pytest
from PySide6.QtWidgets import QToolButton
from pytestqt.qtbot import QtBot

from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar, Side, StreamState, StreamStatus
from koc_qt.domain.orders import Fill, Liquidity, OrderRequest, OrderType
from koc_qt.domain.timeframes import SECOND_NS, duration_ns
from koc_qt.link.messages import BarChanged, FetchBars, FillRecorded, StreamChanged, Subscribe, Unsubscribe
from koc_qt.ui.panels.chart import ChartPanel
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC, START_NS

MINUTE_NS = 60 * SECOND_NS
FIRST_NS = START_NS // MINUTE_NS * MINUTE_NS


def bars(count: int, timeframe: str = "1m") -> list[Bar]:
    length_ns = duration_ns(timeframe)
    return [
        Bar(BTC, timeframe, FIRST_NS + n * length_ns, 100.0 + n, 101.0 + n, 99.0 + n, 100.5 + n, 1.0)
        for n in range(count)
    ]


def live(number: int, close: float, *, closed: bool = False) -> BarChanged:
    return BarChanged(
        Bar(BTC, "1m", FIRST_NS + number * MINUTE_NS, 100.0, max(close, 100.0), 50.0, close, 1.0), closed=closed
    )


@pytest.fixture
def panel(fake: FakeBench, qtbot: QtBot) -> ChartPanel:
    """Give a chart of BTC/USDT 1m that has its ten bars."""
    fake.engine.bars = bars(10)
    fake.window.resize(700, 500)
    panel = ChartPanel(fake.bench, fake.window)
    panel.resize(600, 400)
    fake.window.show()
    panel.restore({"instrument": str(BTC), "timeframe": "1m"})
    qtbot.waitUntil(lambda: panel.chart.bar_count == 10)
    return panel


def test_history_then_live_bars(panel: ChartPanel, fake: FakeBench, qtbot: QtBot) -> None:
    assert panel.windowTitle() == "BTC/USDT · 1m"
    assert panel.state() == {"instrument": "sim:BTC/USDT", "timeframe": "1m"}
    fake.engine.publish(live(10, 123.0))
    qtbot.waitUntil(lambda: panel.chart.bar_count == 11)
    fake.engine.publish(live(10, 124.0, closed=True))
    fake.engine.publish(live(11, 125.0))
    qtbot.waitUntil(lambda: panel.chart.bar_count == 12)
    assert "125" in panel.chart.legend_text


def test_an_outage_is_filled_and_the_view_stays(panel: ChartPanel, fake: FakeBench, qtbot: QtBot) -> None:
    fake.client.lose()
    fake.engine.bars = bars(14)
    fake.client.connect()
    qtbot.waitUntil(lambda: panel.chart.bar_count == 14)
    assert panel.chart.first_time_ns == FIRST_NS


def test_where_it_is_narrow_prices_stay_and_buttons_make_way(panel: ChartPanel) -> None:
    sides = [each for each in panel.findChildren(QToolButton) if each.text() in ("Buy", "Sell")]
    assert len(sides) == 2
    for width, seen in ((400, True), (240, False), (panel.minimumSizeHint().width(), False), (400, True)):
        panel.resize(width, 300)
        assert [each.isVisible() for each in sides] == [seen, seen]
        assert panel.width() == width  # nothing in it insists on more
        assert panel.chart.width() == width
        assert panel.frames.geometry().right() < width


def test_another_market_or_timeframe(panel: ChartPanel, fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.bars = bars(3, "5m")
    panel.show_market(BTC, "5m")
    qtbot.waitUntil(lambda: panel.chart.bar_count == 3)
    assert fake.sent(FetchBars)[-1].timeframe == "5m"
    assert fake.sent(Subscribe)[-1] == Subscribe(BTC, ("5m",))
    assert not fake.sent(Unsubscribe)
    assert panel.windowTitle() == "BTC/USDT · 5m"


def test_what_is_remembered_may_be_anything(fake: FakeBench) -> None:
    panel = ChartPanel(fake.bench, fake.window)
    for state in ({}, {"instrument": 7}, {"instrument": "", "timeframe": "soon"}, {"timeframe": None}):
        panel.restore(state)
        assert panel.state() == {"instrument": "sim:BTC/USDT", "timeframe": "1m"}


def test_a_timeframe_that_is_none_is_refused(panel: ChartPanel, fake: FakeBench) -> None:
    panel.frames.setEditText("soon")
    panel._timeframe_typed()
    assert panel.timeframe == "1m"
    assert panel.frames.currentText() == "1m"
    assert "soon" in fake.texts[-1]


def test_fills_orders_and_positions_are_upon_the_bars(panel: ChartPanel, fake: FakeBench, qtbot: QtBot) -> None:
    limit = fake.engine.place(OrderRequest(BTC, Side.BUY, OrderType.LIMIT, Decimal(1), Decimal("99.5")))
    chart = panel.chart
    qtbot.waitUntil(lambda: any(line.price == Decimal("99.5") for line in chart.lines))
    assert any(line.text == "sma-1 +0.1" for line in chart.lines)
    fake.engine.fill(limit.client_order_id, "99.5")
    qtbot.waitUntil(lambda: [marker.price for marker in chart.markers] == [Decimal("99.5")])
    assert not any(line.price == Decimal("99.5") for line in chart.lines)


def test_a_fill_that_comes_while_history_does_is_marked_once(panel: ChartPanel, fake: FakeBench, qtbot: QtBot) -> None:
    order = fake.engine.place()
    fake.engine.fill(order.client_order_id)  # in the replica; its frame is still to come
    assert len(fake.desk.replica.fills) == 1
    panel._show_trading()  # as when another market was chosen meanwhile
    assert len(panel.chart.markers) == 1
    framed: list[object] = []
    fake.desk.framed.connect(framed.append)
    qtbot.waitUntil(lambda: bool(framed))
    assert len(panel.chart.markers) == 1


def fill(number: int, *, minute: int, instrument: InstrumentId = BTC) -> Fill:
    key = (f"fill-{number}", f"order-{number}", "grid", "paper")
    amounts = (Decimal(100), Decimal(1), Decimal(0), "USDT")
    return Fill(*key, instrument, Side.BUY, *amounts, Liquidity.TAKER, FIRST_NS + minute * MINUTE_NS)


def after_frame(panel: ChartPanel, fake: FakeBench, qtbot: QtBot, act: Callable[[], None]) -> bool:
    """Act right after the panel took the next frame; give whether it had something left to do."""
    busy: list[bool] = []

    def framed(_frame: object) -> None:
        busy.append(panel.is_busy)
        act()

    fake.desk.framed.connect(framed)
    qtbot.waitUntil(lambda: bool(busy))
    fake.desk.framed.disconnect(framed)
    return busy[0]


def test_thousands_of_fills_in_any_order_are_marked_once_each(panel: ChartPanel, fake: FakeBench, qtbot: QtBot) -> None:
    fills = [fill(n, minute=n * 7 % 1_000) for n in range(1_000)]
    other = fill(9_999, minute=1, instrument=InstrumentId("sim", "ETH/USDT"))
    fake.desk.take(msgspec.structs.replace(fake.engine.snapshot(), fills=(*fills[500:], other)))
    was_busy = after_frame(panel, fake, qtbot, lambda: None)
    assert was_busy
    for each in (*fills[:600], fill(5_000, minute=3)):  # some are told a second time, a live one is among them
        fake.desk.take(FillRecorded(each))
    qtbot.waitUntil(lambda: len(panel.chart.markers) == 1_001 and not panel.is_busy)
    times = [marker.time_ns for marker in panel.chart.markers]
    assert times == sorted([*(each.time_ns for each in fills), FIRST_NS + 3 * MINUTE_NS])
    panel.show_market(BTC, "1m")
    qtbot.waitUntil(lambda: len(panel.chart.markers) == 1_001 and not panel.is_busy)


def test_a_market_left_while_its_fills_come_leaves_none(panel: ChartPanel, fake: FakeBench, qtbot: QtBot) -> None:
    fake.desk.take(msgspec.structs.replace(fake.engine.snapshot(), fills=tuple(fill(n, minute=n) for n in range(900))))
    was_busy = after_frame(panel, fake, qtbot, lambda: panel.show_market(InstrumentId("sim", "ETH/USDT"), "1m"))
    assert was_busy
    qtbot.waitUntil(lambda: not panel.is_busy)
    assert panel.chart.markers == ()


def test_many_open_orders_are_lines_until_they_are_not(panel: ChartPanel, fake: FakeBench, qtbot: QtBot) -> None:
    request = OrderRequest(BTC, Side.SELL, OrderType.LIMIT, Decimal(1), Decimal("104.5"))
    orders = [fake.engine.place(request) for _ in range(450)]
    chart = panel.chart
    qtbot.waitUntil(lambda: sum(line.side is Side.SELL for line in chart.lines) == 450)
    assert not chart.grab().isNull()
    for order in orders[1:]:
        fake.engine.fill(order.client_order_id, "104.5")
    qtbot.waitUntil(lambda: [line.text for line in chart.lines if line.side] == ["sell 1 limit"])


def test_a_symbol_that_ends_says_so(panel: ChartPanel, fake: FakeBench, qtbot: QtBot) -> None:
    assert panel.chart.fault == ""
    fake.engine.publish(StreamChanged(StreamStatus(BTC, START_NS, StreamState.ENDED, "delisted")))
    qtbot.waitUntil(lambda: panel.chart.fault == "sim:BTC/USDT has ended: delisted")


def test_a_market_that_is_not_there_says_why(fake: FakeBench, qtbot: QtBot) -> None:
    panel = ChartPanel(fake.bench, fake.window)
    panel.show_market(InstrumentId("sim", "NO/PE"), "1m")
    qtbot.waitUntil(lambda: "NO/PE" in panel.chart.fault)


def test_a_lost_engine_leaves_the_bars_and_says_so(panel: ChartPanel, fake: FakeBench) -> None:
    fake.client.lose()
    assert panel.chart.bar_count == 10
    assert "Not connected" in panel.chart.fault


def test_a_closed_chart_leaves_its_market(panel: ChartPanel, fake: FakeBench, qtbot: QtBot) -> None:
    panel.retire()
    panel.deleteLater()
    qtbot.waitUntil(lambda: bool(fake.sent(Unsubscribe)))


def test_a_time_that_was_asked_for_before_the_bars_came_is_shown(fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.bars = bars(900)
    fake.window.resize(700, 500)
    panel = ChartPanel(fake.bench, fake.window)
    panel.resize(600, 400)
    fake.window.show()
    panel.show_market(BTC, "1m")
    fake.requests.time_wanted.emit(BTC, FIRST_NS + 450 * MINUTE_NS)
    qtbot.waitUntil(lambda: panel.chart.bar_count == 900)
    first, last = panel.chart.visible_range
    assert first < 450 < last < 890


def test_the_ticket_is_offered(panel: ChartPanel, fake: FakeBench) -> None:
    wanted: list[tuple[InstrumentId, Side | None, Decimal | None]] = []
    fake.requests.ticket_wanted.connect(lambda *what: wanted.append(what))
    panel._side_button(Side.SELL).click()
    assert wanted == [(BTC, Side.SELL, None)]
