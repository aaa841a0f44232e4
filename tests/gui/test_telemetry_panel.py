"""The telemetry panel on a fake engine: ages that count on, states in words, trends, what can be done with a row."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from PySide6.QtCore import QEventLoop, QRect, Qt, QTimer
from PySide6.QtGui import QColor, QImage, QPainter
from pytestqt.qtbot import QtBot

from koc_qt.domain.errors import KocError
from koc_qt.domain.latency import LatencySnapshot, Stage, StageLatency
from koc_qt.domain.state import Badge, StrategySnapshot, StrategyState
from koc_qt.link.messages import LatencyChanged, StartStrategy, StopStrategy, StrategyChanged
from koc_qt.ui.desk import Level
from koc_qt.ui.frame_monitor import FrameMonitor, FrameStats
from koc_qt.ui.panels.telemetry import TelemetryPanel
from koc_qt.ui.panels.telemetry_latency import paint_histogram
from koc_qt.ui.panels.telemetry_rows import (
    COLUMNS,
    ENGINE_KEY,
    WINDOW_KEY,
    History,
    age_tone,
    engine_pulse,
    latency_text,
    strategy_pulse,
    trend_text,
    window_pulse,
)
from koc_qt.ui.sparkline import paint_sparkline
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC, engine_snapshot, strategy_snapshot


class Hands:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def monitor(fake: FakeBench) -> Iterator[FrameMonitor]:
    monitor = FrameMonitor(fake.window)
    yield monitor
    monitor.stop()


@pytest.fixture
def panel(fake: FakeBench, monitor: FrameMonitor, hands: Hands, qtbot: QtBot) -> TelemetryPanel:
    fake.engine.strategies["sma-1"] = strategy_snapshot()
    with qtbot.waitSignal(fake.desk.framed):  # its frame has come: later ones are the test's own
        fake.client.connect()
    panel = TelemetryPanel(fake.bench, monitor, fake.window, clock_s=hands)
    panel.resize(700, 220)
    fake.window.resize(700, 220)
    fake.window.show()
    panel.model.flush()
    return panel


def cell(panel: TelemetryPanel, key: tuple[str, str], name: str) -> str:
    panel.model.flush()
    row = panel.model.row_of(key)
    assert row is not None
    column = [column.name for column in COLUMNS].index(name)
    return str(panel.model.index(row, column).data())


SMA = ("strategy", "sma-1")


def choose(panel: TelemetryPanel, key: tuple[str, str]) -> None:
    panel.model.flush()
    row = panel.model.row_of(key)
    assert row is not None
    panel.table.selectRow(row)


def test_there_is_a_row_each_for_engine_window_and_strategies(panel: TelemetryPanel) -> None:
    assert [pulse.name for pulse in panel.model.records] == ["Engine", "This window", "sma-1"]
    expected = {
        "state": "Running",
        "age": "0 s",
        "pnl": "-1.50",
        "rate": "9.5",
        "ticks": "100",
        "trades_per_hour": "4",
        "trades": "2",
        "cpu": "0.5",
        "memory": "42.9 MB",
        "latency": "1.2 / 2.5",
        "badge": "Partial",
        "restarts": "0",
        "anomalies": "0",
        "metrics": "signal 1",
    }
    assert {name: cell(panel, SMA, name) for name in expected} == expected
    assert cell(panel, ENGINE_KEY, "latency") == "1.2 / —"
    assert cell(panel, WINDOW_KEY, "ticks") == "—"
    assert cell(panel, WINDOW_KEY, "memory").endswith(("MB", "GB"))


def test_a_heartbeat_ages_between_snapshots(panel: TelemetryPanel, fake: FakeBench, hands: Hands, qtbot: QtBot) -> None:
    for silence_s, words, tone in ((2.5, "2 s", None), (4.0, "4 s", "warning"), (11.0, "11 s", "danger")):
        hands.now_s = 100.0 + silence_s
        panel._beat()
        assert cell(panel, SMA, "age") == words
        assert age_tone(panel.model.records[2]) == tone
    fake.engine.show(strategy_snapshot(heartbeat_age_s=0.4))
    qtbot.waitUntil(lambda: cell(panel, SMA, "age") == "0 s")
    fake.engine.show(strategy_snapshot(state=StrategyState.STOPPED, pid=None))
    qtbot.waitUntil(lambda: cell(panel, SMA, "age") == "—")
    hands.now_s += 90
    panel._beat()
    assert cell(panel, SMA, "age") == "—"
    assert cell(panel, ENGINE_KEY, "age") == "1 m 41 s"


def test_a_lost_engine_is_said_in_its_row(panel: TelemetryPanel, fake: FakeBench) -> None:
    fake.client.lose("the engine was killed")
    assert cell(panel, ENGINE_KEY, "state") == "No engine"
    choose(panel, ENGINE_KEY)
    assert panel.detail.words.text().startswith("Engine: the engine was killed")
    fake.client.connect()
    panel.model.flush()
    assert cell(panel, ENGINE_KEY, "state") == "Running"


def test_the_engine_says_why_it_is_halted_and_that_its_journal_fails(panel: TelemetryPanel, fake: FakeBench) -> None:
    halted = engine_pulse(engine_snapshot(state="halted", kill_switch=True, kill_reason="panic"), 0.0, (), "")
    assert (halted.state, halted.look, halted.reason) == ("Halted", "danger", "panic")
    failing = engine_pulse(engine_snapshot(journal_ok=False), 0.0, (), "")
    assert failing.look == "danger"
    assert "journal" in failing.reason


def test_the_window_says_how_smooth_it_is(fake: FakeBench) -> None:
    calm = window_pulse(FrameStats(turns=100), 1.0, 1)
    assert (calm.state, calm.look) == ("Smooth", "profit")
    slow = window_pulse(FrameStats(longest_minute_ms=48.2, longest_ms=48.2, stalls=2, turns=100), 1.0, 1)
    assert (slow.state, slow.look) == ("48 ms", "warning")
    assert "2 of 100 above 16 ms" in slow.reason
    trend = window_pulse(FrameStats(maxima_ms=(1.0, 7.4)), 1.0, 1)
    assert trend_text(trend) == "7 ms"


@pytest.mark.parametrize("state", list(StrategyState))
@pytest.mark.parametrize("badge", list(Badge))
def test_every_state_and_badge_has_words(state: StrategyState, badge: Badge) -> None:
    pulse = strategy_pulse(strategy_snapshot(state=state, badge=badge), 0.0, ())
    assert pulse.state
    assert pulse.look
    assert pulse.badge_look
    for column in COLUMNS:
        column.text(pulse)
        column.sort_key(pulse)


def test_what_is_not_known_is_a_dash() -> None:
    pulse = strategy_pulse(
        strategy_snapshot(order_latency_p50_ms=None, order_latency_p99_ms=None, heartbeat_age_s=None), 0.0, ()
    )
    assert latency_text(pulse) == "—"
    assert pulse.age_s is None


def test_trends_are_taken_down_every_few_seconds_and_are_bounded() -> None:
    history = History()
    assert history.take(1.0, 0.0)
    assert not history.take(2.0, 1.0)
    for second in range(4, 4_000, 4):
        history.take(float(second), float(second))
    assert len(history.values) == 75
    assert history.values[-1] == 3996.0


def test_a_trend_grows_with_what_the_engine_says(
    panel: TelemetryPanel, fake: FakeBench, hands: Hands, qtbot: QtBot
) -> None:
    for step in range(5):
        hands.now_s += 5
        fake.engine.show(strategy_snapshot(pnl=Decimal(step)))
        qtbot.waitUntil(lambda step=step: cell(panel, SMA, "pnl") == (f"+{step}.00" if step else "0.00"))
    assert cell(panel, SMA, "trend") == "+5.50"
    assert panel.model.records[2].history == (-1.5, 0.0, 1.0, 2.0, 3.0, 4.0)


def test_what_is_gone_after_a_lost_connection_goes(panel: TelemetryPanel, fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.show(strategy_snapshot("grid-2", spec=_spec("grid-2")))
    qtbot.waitUntil(lambda: panel.model.rowCount() == 4)
    fake.client.lose()
    del fake.engine.strategies["grid-2"]
    fake.client.connect()
    qtbot.waitUntil(lambda: panel.model.rowCount() == 3)
    assert ("strategy", "grid-2") not in panel._histories


def _spec(strategy_id: str) -> Any:
    return msgspec.structs.replace(strategy_snapshot().spec, strategy_id=strategy_id)


def test_the_chosen_row_is_said_in_words(panel: TelemetryPanel, fake: FakeBench, qtbot: QtBot) -> None:
    assert panel.detail.isHidden()
    fake.engine.show(strategy_snapshot(state=StrategyState.FAILED, reason="given up after 5 restarts", pid=None))
    qtbot.waitUntil(lambda: cell(panel, SMA, "state") == "Failed")
    choose(panel, SMA)
    words = "sma-1: given up after 5 restarts  ·  Sandbox partial: runs as root  ·  signal 1"
    assert panel.detail.words.text() == words
    assert not panel.detail.isHidden()
    panel.table.clearSelection()
    assert panel.detail.isHidden()


def test_a_strategy_is_stopped_and_started_from_its_row(panel: TelemetryPanel, fake: FakeBench, qtbot: QtBot) -> None:
    assert not panel.stop.isEnabled()
    choose(panel, ENGINE_KEY)
    assert not any(action.isEnabled() for action in (panel.stop, panel.restart, panel.chart))
    choose(panel, SMA)
    panel.stop.trigger()
    qtbot.waitUntil(lambda: fake.texts == ["sma-1 was stopped"])
    assert fake.sent(StopStrategy) == [StopStrategy("sma-1")]
    qtbot.waitUntil(lambda: not panel.stop.isEnabled())
    assert panel.restart.text() == "&Start again"
    panel.restart.trigger()
    qtbot.waitUntil(lambda: len(fake.texts) == 2)
    assert fake.sent(StopStrategy) == [StopStrategy("sma-1")]
    assert [command.spec.strategy_id for command in fake.sent(StartStrategy)] == ["sma-1"]
    qtbot.waitUntil(lambda: panel.restart.text() == "&Restart")
    panel.restart.trigger()
    qtbot.waitUntil(lambda: len(fake.texts) == 3)
    assert len(fake.sent(StopStrategy)) == 2


def test_a_restart_that_fails_half_way_says_so(
    panel: TelemetryPanel, fake: FakeBench, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = fake.engine.execute

    async def refuse(command: Any, client_id: str) -> Any:
        if isinstance(command, StartStrategy):
            raise KocError("the kill switch is engaged")
        return await execute(command, client_id)

    monkeypatch.setattr(fake.engine, "execute", refuse)
    choose(panel, SMA)
    panel.restart.trigger()
    qtbot.waitUntil(lambda: bool(fake.notices))
    assert fake.notices[0].level is Level.ERROR
    assert fake.texts == ["sma-1 was stopped and not started again: the kill switch is engaged"]


def test_a_double_click_shows_the_chart(panel: TelemetryPanel, fake: FakeBench) -> None:
    wanted: list[Any] = []
    fake.requests.chart_wanted.connect(lambda *what: wanted.append(what))
    choose(panel, SMA)
    panel.table.opened.emit(panel.model.records[2])
    assert wanted == [(BTC, "1m")]


def test_nothing_runs_while_nobody_looks(panel: TelemetryPanel, fake: FakeBench) -> None:
    assert panel._timer.isActive()
    fake.window.hide()
    assert not panel._timer.isActive()
    fake.desk.take(StrategyChanged(strategy_snapshot(pnl=Decimal(7))))
    fake.desk._emit_frame()
    assert not panel.model._timer.isActive()
    fake.window.show()
    assert cell(panel, SMA, "pnl") == "+7.00"


def test_columns_are_remembered(panel: TelemetryPanel, fake: FakeBench, monitor: FrameMonitor) -> None:
    panel.table.setColumnWidth(1, 123)
    panel.latency.setColumnWidth(0, 77)
    state = panel.state()
    panel.retire()
    other = TelemetryPanel(fake.bench, monitor, fake.window)
    other.restore(state)
    assert other.table.columnWidth(1) == 123
    assert other.latency.columnWidth(0) == 77
    other.restore({"columns": "nonsense", "latency_columns": 1, "latency": "yes"})
    assert other.state() == state


def test_a_sparkline_stays_in_its_area(fake: FakeBench) -> None:
    image = QImage(100, 40, QImage.Format.Format_RGB32)
    for values in ((), (1.0,), (0.0, 0.0), (-3.0, 5.0, 2.0), (1e12, -1e12)):
        image.fill(Qt.GlobalColor.white)
        painter = QPainter(image)
        paint_sparkline(painter, QRect(20, 10, 60, 20), values, "#000000", "#ff0000")
        painter.end()
        painted = [
            (x, y) for x in range(100) for y in range(40) if image.pixelColor(x, y) != QColor(Qt.GlobalColor.white)
        ]
        assert bool(painted) == (len(values) > 1)
        assert all(20 <= x < 80 and 10 <= y < 30 for x, y in painted)


def test_a_hundred_strategies_stay_smooth(fake: FakeBench, monitor: FrameMonitor, qtbot: QtBot) -> None:
    """Two snapshots a second each, sorted by what changes; a quiet machine spends 8 % of a core."""
    snapshots = [strategy_snapshot(f"s-{number}", spec=_spec(f"s-{number}")) for number in range(100)]
    fake.engine.strategies |= {each.spec.strategy_id: each for each in snapshots}
    fake.client.connect()
    panel = TelemetryPanel(fake.bench, monitor, fake.window)
    panel.resize(700, 220)
    fake.window.resize(700, 220)
    fake.window.show()
    panel.table.sortByColumn([column.name for column in COLUMNS].index("pnl"), Qt.SortOrder.DescendingOrder)
    sent = [0]

    def feed() -> None:
        for _ in range(4):
            snapshot: StrategySnapshot = snapshots[sent[0] % 100]
            fake.desk.take(StrategyChanged(msgspec.structs.replace(snapshot, pnl=Decimal(sent[0] * 37 % 1000))))
            sent[0] += 1

    timer, loop = QTimer(panel), QEventLoop()
    timer.timeout.connect(feed)
    qtbot.waitUntil(lambda: panel.model.rowCount() == 102)
    timer.start(20)
    began, cpu = time.perf_counter(), time.process_time()
    QTimer.singleShot(1_500, loop.quit)
    loop.exec()
    timer.stop()
    share = (time.process_time() - cpu) / (time.perf_counter() - began)
    assert sent[0] >= 50
    assert share < 0.9
    values = [pulse.pnl for pulse in panel.model.records if pulse.pnl is not None]
    assert values == sorted(values, reverse=True)


def latency_of(*stages: tuple[Stage, float]) -> LatencySnapshot:
    buckets = (0, 0, 0, 3, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0)
    return LatencySnapshot(tuple(StageLatency(stage, 5, p50, p50 * 2, 620.0, buckets) for stage, p50 in stages), 1, 0)


def test_order_latency_is_shown_stage_by_stage(panel: TelemetryPanel, fake: FakeBench, qtbot: QtBot) -> None:
    fake.window.resize(1_200, 400)
    panel.resize(1_000, 300)
    fake.window.show()
    panel.show()
    fake.engine.publish(LatencyChanged(latency_of((Stage.TOTAL, 1.23), (Stage.JOURNAL, 12.34), (Stage.SENT, 1234.0))))
    records = panel.latency.records
    qtbot.waitUntil(lambda: records.rowCount() == 3)
    shown = [[records.index(row, column).data() for column in range(4)] for row in range(3)]
    assert shown == [
        ["Journal", "12.3", "24.7", "620"],
        ["Sending", "1,234", "2,468", "620"],
        ["Signal to answer", "1.23", "2.46", "620"],
    ]
    tip = str(records.index(0, 4).data(Qt.ItemDataRole.ToolTipRole))
    assert tip == "up to 1 ms: 3\nup to 2 ms: 1\nup to 1000 ms: 1"
    fake.client.connect()  # a new engine: nothing was measured yet
    qtbot.waitUntil(lambda: records.rowCount() == 0)


def test_latency_stands_beside_where_there_is_room_and_it_is_wanted(
    panel: TelemetryPanel, fake: FakeBench, qtbot: QtBot
) -> None:
    fake.window.resize(1_200, 400)
    panel.resize(1_000, 300)
    fake.window.show()
    panel.show()
    qtbot.waitUntil(panel.latency.isVisible)
    assert panel.table.width() > panel.latency.width() > 300
    panel.resize(600, 300)
    qtbot.waitUntil(lambda: not panel.latency.isVisible())
    panel.resize(1_000, 300)
    qtbot.waitUntil(panel.latency.isVisible)
    fake.bench.actions.run("telemetry.latency")
    assert not panel.latency.isVisible()
    assert panel.state()["latency"] is False
    panel.restore({"latency": True})
    assert panel.latency.isVisible()


def test_the_bars_of_slow_orders_are_red(fake: FakeBench) -> None:
    image = QImage(160, 24, QImage.Format.Format_RGB32)
    image.fill(QColor("#000000"))
    painter = QPainter(image)
    buckets = latency_of((Stage.TOTAL, 1.0)).stages[0].buckets
    paint_histogram(painter, QRect(0, 0, 160, 24), buckets, "#0000ff", "#ff0000", "#00ff00")
    painter.end()
    step = 152 / 15
    colors = [image.pixelColor(int(4 + (place + 0.4) * step), 18).name() for place in range(15)]
    assert {place: color for place, color in enumerate(colors) if color not in ("#000000", "#00ff00")} == {
        3: "#0000ff", 4: "#0000ff", 12: "#ff0000",
    }  # fmt: skip
