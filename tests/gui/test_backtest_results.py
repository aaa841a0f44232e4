"""Back-tests in their panel: runs and their progress, faults, results and how they are shown."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from koc_qt.domain.backtests import BacktestSpec, Provenance, RoundTrip
from koc_qt.domain.errors import KocError
from koc_qt.domain.performance import STATISTICS
from koc_qt.domain.state import JobState
from koc_qt.domain.timeframes import DAY_NS, SECOND_NS
from koc_qt.link.messages import Command, FetchBacktest, StartBacktest, StopBacktest
from koc_qt.reports.words import money_decimals
from koc_qt.ui.backtests.provenance import ProvenancePage
from koc_qt.ui.backtests.trades import KINDS, TripRow
from koc_qt.ui.backtests.words import groups, statistic_text, statistic_tip
from koc_qt.ui.bench import MarkedTrips
from koc_qt.ui.panels.backtest import BacktestPanel
from koc_qt.ui.theme import ThemeChoice
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC, START_NS
from tests.gui.backtest_stage import (
    FILE,
    field,
    finish,
    panel_fixture,  # noqa: F401
    ready_fixture,  # noqa: F401
    result,
    start_fixture,  # noqa: F401
)

# ---- runs -----------------------------------------------------------------------------------------------------------


def test_a_run_shows_how_far_it_is_and_stops(
    ready: BacktestPanel, start: Callable[[], str], fake: FakeBench, qtbot: QtBot
) -> None:
    key = start()
    assert ready.pages.currentWidget() is ready.progress
    assert ready.progress.stage.text() == "Getting the history"
    fake.engine.backtest(
        key, stage="run", progress=0.43, bars=18_500, position_ns=START_NS, equity=10_123.4, remaining_s=4.2
    )
    qtbot.waitUntil(lambda: ready.progress.bars.text() == "18,500")
    shown = ready.progress
    assert shown.stage.text() == "Running"
    assert shown.bar.value() == 430
    assert shown.equity.text() == "10,123.40  (+1.23 %)"
    assert shown.remaining.text() == "4.2 s"
    assert shown.until.toolTip() == "2023-11-14 22:13:20.000 UTC"
    assert "43 %" in ready.bar.runs.currentText()
    shown.stop.click()
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.message)
    assert fake.sent(StopBacktest) == [StopBacktest(key)]
    assert ready.message.title.text() == "The run was stopped"


def test_a_run_that_waits_says_so(
    ready: BacktestPanel, start: Callable[[], str], fake: FakeBench, qtbot: QtBot
) -> None:
    key = start()
    fake.engine.backtest(key, stage="", reason="waits for its turn: 2 back-tests run at once")
    qtbot.waitUntil(lambda: ready.progress.stage.text().startswith("Waits for its turn"))
    assert ready.progress.bar.value() == 0


def test_several_runs_and_another_is_looked_at(
    ready: BacktestPanel, start: Callable[[], str], fake: FakeBench, qtbot: QtBot
) -> None:
    first = start()
    second = start()
    assert [ready.bar.runs.itemData(row) for row in range(2)] == [second, first]
    finish(fake, first)
    qtbot.waitUntil(lambda: " %" in ready.bar.runs.itemText(1))
    assert ready.pages.currentWidget() is ready.progress  # of the second, which goes on
    assert not fake.sent(FetchBacktest)
    ready.bar.runs.setCurrentIndex(1)
    ready.bar.runs.activated.emit(1)
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.result)
    assert fake.sent(FetchBacktest) == [FetchBacktest(first)]
    fake.engine.backtest(second, stage="run", progress=0.5)
    qtbot.waitUntil(lambda: "50 %" in ready.bar.runs.itemText(0))
    assert ready.pages.currentWidget() is ready.result
    assert len(fake.sent(FetchBacktest)) == 1
    ready.look_at(second)
    assert ready.pages.currentWidget() is ready.progress


def test_a_failure_is_said_in_place_and_nothing_typed_is_lost(
    ready: BacktestPanel, start: Callable[[], str], fake: FakeBench, qtbot: QtBot
) -> None:
    field(ready, "fast").setText("9")
    key = start()
    fake.engine.backtest(key, state=JobState.FAILED, reason="sma_cross.py, line 41: division by zero")
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.message)
    assert "line 41: division by zero" in ready.message.text.text()
    assert ready.bar.pill.text() == "failed"
    assert field(ready, "fast").text() == "9"


def test_what_the_engine_refuses_is_said_above_the_button(
    ready: BacktestPanel, fake: FakeBench, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = fake.engine.execute

    async def refuse(command: Command, client_id: str) -> object:
        if isinstance(command, StartBacktest):
            raise KocError("8 back-tests wait for their turn already")
        return await execute(command, client_id)

    monkeypatch.setattr(fake.engine, "execute", refuse)
    ready.run()
    qtbot.waitUntil(lambda: "wait for their turn already" in ready.setup.hint.text())
    assert ready.setup.run.isEnabled()
    assert not fake.texts


def test_without_an_engine_nothing_runs(ready: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    fake.client.lose("it was killed")
    assert not ready.setup.run.isEnabled()
    assert ready.setup.run.toolTip() == "Not connected: it was killed"
    ready.run()
    ready.offer("/strategies/late.py")
    fake.client.connect()
    qtbot.waitUntil(lambda: ready.setup.described is not None)
    assert ready.setup.run.isEnabled()
    assert not fake.sent(StartBacktest)


def test_a_panel_made_late_shows_the_newest_run(fake: FakeBench, qtbot: QtBot) -> None:
    spec = BacktestSpec(FILE, (BTC,), "5m", START_NS - DAY_NS, START_NS)
    fake.desk.send(StartBacktest(spec))
    qtbot.waitUntil(lambda: bool(fake.desk.replica.backtests))
    finish(fake, "backtest-1")
    panel = BacktestPanel(fake.bench, fake.window, clock_ns=lambda: START_NS)
    qtbot.waitUntil(lambda: panel.pages.currentWidget() is panel.result)


def test_another_engine_has_other_runs(
    ready: BacktestPanel, start: Callable[[], str], fake: FakeBench, qtbot: QtBot
) -> None:
    key = start()
    finish(fake, key)
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.result)
    fake.client.lose()
    assert ready.pages.currentWidget() is ready.result
    fake.engine.backtests.clear()
    fake.client.connect()
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.message)
    assert ready.bar.runs.count() == 0
    assert start() == key  # the same id, and not the same run
    assert ready.pages.currentWidget() is ready.progress


# ---- results --------------------------------------------------------------------------------------------------------


def test_a_result_is_shown_whole(ready: BacktestPanel, start: Callable[[], str], fake: FakeBench, qtbot: QtBot) -> None:
    key = start()
    made = finish(fake, key)
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.result)
    shown = ready.result
    final = f"{made.equity[-1]:,.2f}"
    assert shown.overview.chart.value_text.startswith(f"Equity {final} · Drawdown ")
    values = shown.overview.statistics.values
    assert values["trades"].text() == "2"
    assert values["final_equity"].text() == f"{final} USDT"
    assert values["buy_and_hold"].text() == "+10.00 %"
    assert values["buy_and_hold"].property("tone") == "profit"
    assert shown.overview.tiles["buy_and_hold"].value.text() == "+10.00 %"
    titles = [shown.tabs.tabText(tab) for tab in range(shown.tabs.count())]
    assert titles == ["Overview", "Trust", "Months", "Trades (3)", "Log (1)", "Settings"]
    assert shown.log.toPlainText() == "2023-11-14 22:13:20 INFO warmed up"
    assert shown.assumptions.whole.startswith("Filled at the next bar's open · the venue's fees · no slippage")
    assert "Not modelled" in shown.assumptions.toolTip()
    assert shown.trades.cut.isHidden()
    trades = shown.trades.model
    texts = dict(
        zip(
            [column.name for column in trades.columns],
            (trades.index(0, place).data() for place in range(trades.columnCount())),
            strict=True,
        )
    )
    assert texts["number"] == "1"
    assert texts["side"] == "Short"
    assert texts["entry_price"] == "100.00"
    assert texts["exit_price"] == "101.00"
    assert (texts["quantity"], texts["pnl"], texts["share"], texts["fees"]) == ("0.5", "+1.00", "+2.00 %", "0.25")
    assert (texts["mae"], texts["mfe"], texts["held"]) == ("—", "—", "30 m 0 s")
    assert trades.index(2, 5).data() == "Open"
    assert trades.index(2, 6).data() == "—"
    assert shown.trades.table.isColumnHidden(1)  # one symbol alone


def test_a_statistic_that_there_is_not_says_why(
    ready: BacktestPanel, start: Callable[[], str], fake: FakeBench, qtbot: QtBot
) -> None:
    finish(fake, start(), count=0, log=[], statistics=dict.fromkeys(STATISTICS))
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.result)
    assert ready.result.overview.statistics.values["win_rate"].text() == "—"
    assert "No trade was closed" in ready.result.overview.statistics.values["win_rate"].toolTip()
    assert ready.result.tabs.tabText(3) == "Trades"
    assert ready.result.overview.tiles["trades"].value.text() == "—"


def test_every_statistic_has_its_place_and_words() -> None:
    placed = [name for names in groups().values() for name in names]
    assert sorted(placed) == sorted(STATISTICS)
    for name in STATISTICS:
        assert statistic_text(name, 1.5, "USDT", 2)
        assert statistic_text(name, None, "USDT", 2) == statistic_text(name, float("nan"), "USDT", 2) == "—"
        assert len(statistic_tip(name, None)) > len(statistic_tip(name, 1.0))


def test_a_click_or_enter_shows_the_trade_on_a_chart(
    ready: BacktestPanel, start: Callable[[], str], fake: FakeBench, qtbot: QtBot
) -> None:
    made = finish(fake, start())
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.result)
    asked: list[tuple[object, ...]] = []
    fake.requests.chart_wanted.connect(lambda *what: asked.append(what))
    fake.requests.trips_marked.connect(
        lambda: asked.append((fake.requests.marked.chosen, fake.requests.marked.timeframe))
    )
    page = ready.result.trades
    page.table.clicked.emit(page.model.index(1, 0))
    assert asked == [(made.trades[1], "5m"), (BTC, "5m")]
    page.table.setCurrentIndex(page.model.index(0, 0))
    QTest.keyClick(page.table, Qt.Key.Key_Return)
    assert asked[2:] == [(made.trades[0], "5m"), (BTC, "5m")]


def test_the_trades_of_a_run_are_marked_on_charts_and_removed(
    ready: BacktestPanel, start: Callable[[], str], fake: FakeBench, qtbot: QtBot
) -> None:
    made = finish(fake, start())
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.result)
    page, requests = ready.result.trades, fake.requests
    page.table.clicked.emit(page.model.index(1, 0))
    assert requests.marked == MarkedTrips("SMA cross", "5m", (), made.trades[1])
    page.mark.click()
    assert requests.marked == MarkedTrips("SMA cross", "5m", tuple(made.trades), None)
    page.table.clicked.emit(page.model.index(0, 0))
    assert requests.marked == MarkedTrips("SMA cross", "5m", tuple(made.trades), made.trades[0])
    requests.mark(MarkedTrips())  # as from the menu of a chart
    assert not page.mark.isChecked()
    assert not requests.marked
    page.mark.click()
    other = finish(fake, start(), 5)
    qtbot.waitUntil(lambda: len(requests.marked.trips) == 5)
    assert requests.marked.trips == tuple(other.trades)
    page.mark.click()
    assert not requests.marked


def test_trades_are_filtered_by_how_they_ended(
    ready: BacktestPanel, start: Callable[[], str], fake: FakeBench, qtbot: QtBot
) -> None:
    made = finish(fake, start(), 7)
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.result)
    page = ready.result.trades
    counts = {}
    for place, kind in enumerate(KINDS):
        page.kind.setCurrentIndex(place)
        page.kind.activated.emit(place)
        counts[kind.text] = page.model.rowCount()
    assert counts == {"All trades": 7, "Winners": 3, "Losers": 3, "Long": 3, "Short": 4, "Open at the end": 1}
    gains = sum(trip.pnl for trip in made.trades[:-1] if trip.pnl > 0)
    assert page.summary.whole.startswith(f"3 won +{gains:.2f} · 3 lost -")


def test_where_trades_were_left_out_it_says_so(
    ready: BacktestPanel, start: Callable[[], str], fake: FakeBench, qtbot: QtBot
) -> None:
    finish(fake, start(), 3, statistics=dict.fromkeys(STATISTICS) | {"trades": 12_000.0, "open_trades": 1.0})
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.result)
    assert ready.result.trades.cut.text().startswith("These are the first 3 of 12,001 trades")
    assert not ready.result.trades.cut.isHidden()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Keep the garbage collector, whose time is that of all the objects of this test run, out of a measurement."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_ten_thousand_trades_do_not_stall_the_loop(panel: BacktestPanel) -> None:
    spec = BacktestSpec(FILE, (BTC,), "5m", START_NS - DAY_NS, START_NS)
    times = [START_NS + number * SECOND_NS for number in range(4_000)]
    made = result(spec, 10_000, equity_ns=times, equity=[10_000.0 + number for number in range(4_000)])
    took: list[float] = []
    showing = panel.result.show_result(made)
    is_done = False
    while not is_done:
        began = time.thread_time()
        try:
            showing.send(None)
        except StopIteration:
            is_done = True
        took.append(time.thread_time() - began)
    assert panel.result.trades.model.rowCount() == 10_000
    assert len(took) >= 8  # a part each, and the settings in groups
    assert max(took) < 0.05  # some 10 ms on a quiet machine; a frame has 16


def test_a_result_that_does_not_come_is_asked_for_once_and_again_on_demand(
    ready: BacktestPanel, start: Callable[[], str], fake: FakeBench, qtbot: QtBot
) -> None:
    first = start()
    second = start()
    ready.look_at(first)
    fake.engine.backtest(first, state=JobState.DONE, progress=1.0)
    qtbot.waitUntil(lambda: ready.message.title.text() == "The result did not come")
    assert "no result" in ready.message.text.text()
    fake.engine.backtest(second, stage="run", progress=0.5)
    qtbot.waitUntil(lambda: "50 %" in ready.bar.runs.itemText(0))
    assert len(fake.sent(FetchBacktest)) == 1
    finish(fake, first)
    ready.message.retry.click()
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.result)


def test_a_curve_that_cannot_be_drawn_says_so(
    ready: BacktestPanel, start: Callable[[], str], fake: FakeBench, qtbot: QtBot
) -> None:
    finish(fake, start(), equity_ns=[2, 1], equity=[1.0, 1.0])
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.result)
    assert ready.result.overview.chart.value_text == ""
    assert "cannot be drawn" in ready.result.overview.chart.accessibleDescription()


def test_the_theme_is_followed(ready: BacktestPanel, start: Callable[[], str], fake: FakeBench, qtbot: QtBot) -> None:
    finish(fake, start(), months={"2023-11": 0.05})
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.result)
    cell = ready.result.months.model.index(0, 10)
    dark = ready.result.overview.chart.grab().toImage().pixel(1, 20), cell.data(Qt.ItemDataRole.BackgroundRole)
    fake.theme.set_choice(ThemeChoice.LIGHT)
    light = ready.result.overview.chart.grab().toImage().pixel(1, 20), cell.data(Qt.ItemDataRole.BackgroundRole)
    assert dark[0] != light[0]
    assert dark[1] != light[1]


def test_amounts_have_the_decimals_that_they_need() -> None:
    assert [money_decimals(Decimal(text)) for text in ("10000", "100", "1", "0.0001")] == [2, 3, 5, 8]


def test_a_trade_of_nothing_has_no_return() -> None:
    assert TripRow(1, RoundTrip(BTC, 0.0, 1, 1.0, 2, 1.0, 0.0, 0.0)).share is None


def test_the_settings_of_run_after_run_take_the_same_rows(ready: BacktestPanel, fake: FakeBench) -> None:
    page = ProvenancePage(fake.theme, ready)
    spec = BacktestSpec("/my/sma.py", (BTC,), "1h", 0, 10 * DAY_NS, {"fast": 3})
    made = Provenance("d", "s", "t", "r", {"koc": "1", "python": "3"})
    rows = set()
    for provenance in (made, None, made):
        for _ in page.show_result(result(spec, provenance=provenance)):
            pass
        rows.add(page._grid.rowCount())
    assert len(rows) == 1
    assert (page.texts["Data"], page.texts["fast"], page.texts["python"]) == ("d", "3", "3")
