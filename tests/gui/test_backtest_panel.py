"""The back-test panel on a fake engine: the form, runs and their progress, results, faults, what is remembered."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from PySide6.QtCore import QDateTime, QPoint, QPointF, Qt, QTimeZone
from PySide6.QtGui import QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QCheckBox, QComboBox, QFileDialog, QLineEdit
from pytestqt.qtbot import QtBot

from koc_qt.domain.backtests import BacktestResult, BacktestSpec, RoundTrip
from koc_qt.domain.errors import KocError, LinkError
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.performance import STATISTICS, statistics
from koc_qt.domain.state import JobState
from koc_qt.domain.timeframes import DAY_NS, SECOND_NS
from koc_qt.link.messages import (
    Command,
    DescribeStrategy,
    FetchBacktest,
    QuoteChanged,
    StartBacktest,
    StopBacktest,
    StoreStrategy,
)
from koc_qt.sdk.channel import Described, ParameterInfo
from koc_qt.ui.panels.backtest import COMMAND, BacktestPanel
from koc_qt.ui.panels.backtest_fields import Cells, read_number
from koc_qt.ui.panels.backtest_file import SOURCE_LIMIT, read_file
from koc_qt.ui.panels.backtest_result import read_result
from koc_qt.ui.panels.backtest_rows import CAPTIONS, GROUPS, TripRow, money_decimals, statistic_text, statistic_tip
from koc_qt.ui.panels.backtest_span import OWN, QUICK_NS, quick_for
from koc_qt.ui.theme import ThemeChoice
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC, BTC_RULES, START_NS

FILE = "/strategies/sma_cross.py"
HOUR_NS = 3_600 * SECOND_NS
ETH = InstrumentId("sim", "ETH/USDT")
ETH_RULES = Instrument(ETH, "ETH", "USDT", Decimal("0.01"), Decimal("0.001"))
ETH_BTC_RULES = Instrument(InstrumentId("sim", "ETH/BTC"), "ETH", "BTC", Decimal("0.00001"), Decimal("0.001"))
PARAMETERS = (
    ParameterInfo("fast", "int", 5, 1.0, 500.0, help="bars of the fast average"),
    ParameterInfo("notional", "float", 1000.0, 1.0),
    ParameterInfo("hedge", "bool", False),
    ParameterInfo("side", "choice", "both", choices=("both", "long")),
    ParameterInfo("label", "str", "x"),
)


def described(wanted: int = 1, **changes: object) -> Described:
    fields: dict[str, object] = {
        "name": "SMA cross",
        "doc": "Long while the fast average is above.\n\nAnd more.",
        "parameters": PARAMETERS,
        "timeframe": "5m",
        "subscriptions": ("bars",),
        "instruments_wanted": wanted,
        "warmup_bars": 20,
    }
    return Described(**(fields | changes))  # type: ignore[arg-type]


def trips(count: int, since_ns: int = START_NS) -> list[RoundTrip]:
    return [
        RoundTrip(
            BTC,
            0.5 if number % 2 else -0.5,
            since_ns + number * HOUR_NS,
            100.0,
            None if number == count - 1 else since_ns + number * HOUR_NS + HOUR_NS // 2,
            None if number == count - 1 else 101.0,
            0.25,
            (-1) ** number * (number + 1.0),
        )
        for number in range(count)
    ]


def result(spec: BacktestSpec, count: int = 3, **changes: object) -> BacktestResult:
    times = [spec.since_ns + number * HOUR_NS for number in range(50)]
    draw = random.Random(7)
    equity = [10_000.0]
    for _ in times[1:]:
        equity.append(equity[-1] + draw.gauss(1.0, 20.0))
    made = trips(count, spec.since_ns)
    figures = statistics(times, equity, made, fills=2 * count, traded=1_000.0, prices=(100.0, 110.0))
    fields: dict[str, object] = {
        "spec": spec,
        "name": "SMA cross",
        "timeframe": "5m",
        "bars": 600,
        "equity_ns": times,
        "equity": equity,
        "trades": made,
        "fills": [],
        "statistics": figures,
        "log": ["2023-11-14 22:13:20 INFO warmed up"],
    }
    return BacktestResult(**(fields | changes))  # type: ignore[arg-type]


@pytest.fixture
def panel(fake: FakeBench) -> BacktestPanel:
    """Give a panel that is shown, whose engine can read a strategy."""
    fake.engine.described = described()
    fake.engine.instruments = [BTC_RULES, ETH_BTC_RULES, ETH_RULES]
    fake.client.connect()
    panel = BacktestPanel(fake.bench, fake.window, clock_ns=lambda: START_NS)
    fake.window.resize(900, 260)
    panel.resize(900, 260)
    fake.window.show()
    return panel


@pytest.fixture
def ready(panel: BacktestPanel, qtbot: QtBot) -> BacktestPanel:
    """Give one whose strategy has been read."""
    panel.offer(FILE)
    qtbot.waitUntil(lambda: panel.setup.described is not None)
    return panel


@pytest.fixture
def start(ready: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> Callable[[], str]:
    """Give a function that starts a run and waits until it is looked at."""

    def begin() -> str:
        key = f"backtest-{len(fake.engine.backtests) + 1}"
        ready.run()
        qtbot.waitUntil(lambda: ready._run_id == key)
        return key

    return begin


def finish(fake: FakeBench, key: str, count: int = 3, **changes: object) -> BacktestResult:
    """End a run with a result."""
    made = result(fake.engine.backtests[key].spec, count, **changes)
    fake.engine.results[key] = made
    fake.engine.backtest(key, state=JobState.DONE, stage="", progress=1.0, equity=made.equity[-1])
    return made


def field(panel: BacktestPanel, name: str) -> QLineEdit:
    editor = panel.setup.parameters.fields[name].editor
    assert isinstance(editor, QLineEdit)
    return editor


# ---- the form -------------------------------------------------------------------------------------------------------


def test_an_offered_file_brings_the_panel_and_what_it_declares(
    panel: BacktestPanel, fake: FakeBench, qtbot: QtBot
) -> None:
    wanted: list[str] = []
    fake.requests.panel_wanted.connect(wanted.append)
    fake.requests.backtest_offered.emit(FILE)
    assert wanted == ["backtest"]
    qtbot.waitUntil(lambda: panel.setup.described is not None)
    assert fake.sent(DescribeStrategy) == [DescribeStrategy(FILE)]
    assert panel.setup.file.box.currentText() == "sma_cross.py"
    assert panel.setup.about.text() == "SMA cross: Long while the fast average is above."
    assert list(panel.setup.parameters.fields) == [info.name for info in PARAMETERS]
    assert panel.setup.timeframe.currentText() == "5m"
    assert panel.setup.span.quick.currentText() == "Last 90 days"


def test_a_run_is_what_the_form_says(ready: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    setup = ready.setup
    setup.timeframe.setEditText("1m")
    setup.span.choose("6 hours")
    setup.cash.setText("25,000")
    setup.fee.setText("0.075 %")
    setup.slippage.setText("0.02")
    setup.short.setChecked(False)
    field(ready, "fast").setText("9")
    field(ready, "notional").setText("1000")  # the default, written otherwise
    hedge = setup.parameters.fields["hedge"].editor
    assert isinstance(hedge, QCheckBox)
    hedge.setChecked(True)
    setup.run.click()
    qtbot.waitUntil(lambda: bool(fake.sent(StartBacktest)))
    until_ns = START_NS // (60 * SECOND_NS) * 60 * SECOND_NS
    assert fake.sent(StartBacktest)[0].spec == BacktestSpec(
        FILE,
        (BTC,),
        "1m",
        until_ns - 6 * HOUR_NS,
        until_ns,
        {"fast": 9, "hedge": True},
        Decimal(25_000),
        Decimal("0.00075"),
        Decimal("0.0002"),
        allow_short=False,
    )


def test_no_fee_means_the_venues(ready: BacktestPanel) -> None:
    spec = ready.setup.spec()
    assert spec is not None
    assert spec.fee is None
    assert spec.slippage == 0
    assert spec.parameters == {}


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("cash", "", "above zero"),
        ("cash", "0,5", "above zero"),
        ("cash", "-1", "above zero"),
        ("cash", "1e20", "above zero"),
        ("fee", "a lot", "percentage"),
        ("fee", "0,1", "percentage"),
        ("fee", "100", "percentage"),
        ("slippage", "-0.1", "percentage"),
        ("slippage", "nan", "percentage"),
    ],
)
def test_wrong_numbers_are_said_at_their_field(
    ready: BacktestPanel, fake: FakeBench, name: str, text: str, problem: str
) -> None:
    editor = {"cash": ready.setup.cash, "fee": ready.setup.fee, "slippage": ready.setup.slippage}[name]
    wrong = {"cash": ready.setup.cash_field, "fee": ready.setup.fee_field, "slippage": ready.setup.slippage_field}[name]
    editor.setText(text)
    assert problem in wrong.problem
    ready.run()
    assert not fake.sent(StartBacktest)
    assert "Nothing was started" in ready.setup.hint.text()
    assert editor.text() == text
    editor.setText("1")
    assert wrong.problem == ""
    assert "bars to run on" in ready.setup.hint.text()


def test_a_wrong_parameter_is_said_at_its_field(ready: BacktestPanel, fake: FakeBench) -> None:
    field(ready, "fast").setText("900")
    assert ready.setup.parameters.fields["fast"].problem == "fast must be at most 500, not 900"
    field(ready, "notional").setText("many")
    assert "notional must be a number" in ready.setup.parameters.fields["notional"].problem
    ready.run()
    assert not fake.sent(StartBacktest)
    field(ready, "fast").setText("")  # the default
    field(ready, "notional").setText("20")
    spec = ready.setup.spec()
    assert spec is not None
    assert spec.parameters == {"notional": 20.0}


def test_a_timeframe_that_is_none(ready: BacktestPanel, fake: FakeBench) -> None:
    ready.setup.timeframe.setEditText("soon")
    assert "'soon' is not a timeframe" in ready.setup.timeframe_field.problem
    ready.run()
    assert not fake.sent(StartBacktest)


def test_a_range_of_ones_own_is_utc_and_must_not_be_turned_round(ready: BacktestPanel) -> None:
    span = ready.setup.span
    span.choose(OWN)
    assert span.own.isVisibleTo(ready)
    span.since.setDateTime(QDateTime.fromSecsSinceEpoch(1_600_000_020, QTimeZone.utc()))
    span.until.setDateTime(QDateTime.fromSecsSinceEpoch(1_600_003_620, QTimeZone.utc()))
    spec = ready.setup.spec()
    assert spec is not None
    assert (spec.since_ns, spec.until_ns) == (1_600_000_020 * SECOND_NS, 1_600_003_620 * SECOND_NS)
    span.until.setDateTime(span.since.dateTime())
    assert ready.setup.span_field.problem == "It must end after it begins"
    assert ready.setup.spec() is None


@pytest.mark.parametrize(
    ("timeframe", "quick"),
    [("1s", "6 hours"), ("5s", "1 day"), ("1m", "30 days"), ("5m", "90 days"), ("1h", "1 year"), ("1w", "1 year")],
)
def test_a_first_run_takes_seconds(timeframe: str, quick: str) -> None:
    assert quick_for(timeframe) == quick


def test_the_range_follows_the_timeframe_until_somebody_chooses(ready: BacktestPanel) -> None:
    setup = ready.setup
    setup.timeframe.setEditText("1s")
    assert setup.span.quick.currentText() == "Last 6 hours"
    setup.span.choose("7 days")
    setup.timeframe.setEditText("1h")
    assert setup.span.quick.currentText() == "Last 7 days"
    assert setup.hint.text() == "168 bars to run on"


def test_a_market_ahead_of_the_clock_ends_the_range(ready: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    quote = fake.engine.quote(1)
    ahead_ns = START_NS + 2 * DAY_NS
    fake.engine.publish(QuoteChanged(type(quote)(BTC, ahead_ns, quote.bid, quote.bid_size, quote.ask, quote.ask_size)))
    qtbot.waitUntil(lambda: fake.desk.replica.quotes[BTC].time_ns == ahead_ns)
    spec = ready.setup.spec()
    assert spec is not None
    assert 0 <= ahead_ns - spec.until_ns < 300 * SECOND_NS


def test_a_strategy_of_two_symbols_gets_two_of_one_currency(
    panel: BacktestPanel, fake: FakeBench, qtbot: QtBot
) -> None:
    fake.engine.described = described(2, subscriptions=("bars", "quotes"))
    panel.offer(FILE)
    qtbot.waitUntil(lambda: panel.setup.described is not None)
    assert [picker.instrument() for picker in panel.setup.symbols.pickers] == [BTC, ETH]
    assert "it hears no quotes" in panel.setup.about.text()
    panel.setup.symbols.pickers[1].set_instrument(BTC)
    assert panel.setup.spec() is None
    assert panel.setup.symbols.fields[1].problem == "sim:BTC/USDT is there twice"
    panel.setup.symbols.pickers[1].set_instrument(None)
    assert panel.setup.spec() is None
    assert panel.setup.symbols.fields[1].problem == "Choose a symbol"
    panel.setup.symbols.pickers[1].set_instrument(ETH)
    spec = panel.setup.spec()
    assert spec is not None
    assert spec.instruments == (BTC, ETH)


def test_a_strategy_without_bars_is_warned_of(panel: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.described = described(subscriptions=("quotes", "trades"))
    panel.offer(FILE)
    qtbot.waitUntil(lambda: panel.setup.described is not None)
    assert "It listens to quotes and trades alone" in panel.setup.about.text()
    assert panel.setup.about.property("tone") == "warning"


def test_a_symbol_just_typed_is_looked_up_before_the_run(ready: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    picker = ready.setup.symbols.pickers[0]
    picker.setEditText("eth/usdt")
    picker._edited("eth/usdt")
    ready.run()
    qtbot.waitUntil(lambda: bool(fake.sent(StartBacktest)))
    assert fake.sent(StartBacktest)[0].spec.instruments == (ETH,)


def test_a_symbol_that_is_none_starts_nothing(ready: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    picker = ready.setup.symbols.pickers[0]
    picker.setEditText("NO/PE")
    picker._edited("NO/PE")
    ready.run()
    qtbot.waitUntil(lambda: "NO/PE" in ready.setup.symbols.fields[0].problem)
    qtbot.waitUntil(lambda: "Nothing was started" in ready.setup.hint.text())
    assert not fake.sent(StartBacktest)
    picker.set_instrument(BTC)  # a field that is left with a text looks it up


def test_a_broken_file_says_its_line_and_loses_nothing(ready: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    field(ready, "fast").setText("9")
    fake.engine.described = None
    ready.setup.file.again.click()
    qtbot.waitUntil(lambda: "cannot be read" in ready.setup.file_field.problem)
    ready.run()
    assert not fake.sent(StartBacktest)
    assert field(ready, "fast").text() == "9"
    fake.engine.described = described()
    ready.setup.file.again.click()
    qtbot.waitUntil(lambda: ready.setup.described is not None)
    assert ready.setup.file_field.problem == ""
    assert field(ready, "fast").text() == "9"


def test_what_was_typed_belongs_to_its_file(ready: BacktestPanel, qtbot: QtBot) -> None:
    field(ready, "fast").setText("9")
    ready.offer("/strategies/other.py")
    assert not ready.setup.parameters.fields
    qtbot.waitUntil(lambda: ready.setup.described is not None)
    assert field(ready, "fast").text() == "5"
    ready.offer(FILE)
    qtbot.waitUntil(lambda: ready.setup.described is not None)
    assert field(ready, "fast").text() == "9"
    recent = [ready.setup.file.box.itemData(row) for row in range(2)]
    assert recent == [FILE, "/strategies/other.py"]


def test_the_library_is_listed(panel: BacktestPanel) -> None:
    box = panel.setup.file.box
    names = [box.itemText(row) for row in range(box.count())]
    assert "sma_cross.py" in names
    assert panel.setup.file.path == ""
    panel.run()
    assert panel.setup.file_field.problem == "Choose a strategy file first"


def test_browse_does_not_block(panel: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    panel.setup.file.browse.click()
    dialog = fake.window.findChild(QFileDialog)
    assert isinstance(dialog, QFileDialog)
    dialog.fileSelected.emit(FILE)
    assert panel.setup.file.path == FILE
    dialog.done(0)
    qtbot.waitUntil(lambda: fake.window.findChild(QFileDialog) is None)


def test_a_file_goes_to_an_engine_elsewhere(
    panel: BacktestPanel, fake: FakeBench, qtbot: QtBot, tmp_path: Path
) -> None:
    fake.desk.is_remote = True
    path = tmp_path / "mine.py"
    path.write_bytes(b"# a strategy")
    panel.offer(str(path))
    qtbot.waitUntil(lambda: panel.setup.described is not None)
    assert fake.sent(DescribeStrategy)[0].source == b"# a strategy"
    panel.run()
    qtbot.waitUntil(lambda: bool(fake.sent(StartBacktest)))
    assert fake.sent(StoreStrategy) == [StoreStrategy("mine_backtest.py", b"# a strategy", replace=True)]
    assert fake.sent(StartBacktest)[0].spec.path == "/engine/strategies/mine_backtest.py"


async def test_only_files_of_this_machine_are_read(tmp_path: Path) -> None:
    assert await read_file(str(tmp_path / "none.py")) is None
    assert await read_file(str(tmp_path)) is None
    large = tmp_path / "large.py"
    large.write_bytes(b"#" * (SOURCE_LIMIT + 1))
    with pytest.raises(KocError, match="larger than a strategy may be"):
        await read_file(str(large))


def test_the_keys_run_and_the_command_runs(ready: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    wanted: list[str] = []
    fake.requests.panel_wanted.connect(wanted.append)
    ready.window().activateWindow()
    ready.setup.cash.setFocus()
    qtbot.waitUntil(ready.setup.cash.hasFocus)
    QTest.keyClick(ready.setup.cash, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: len(fake.sent(StartBacktest)) == 1 and not ready._starting.is_running)
    fake.bench.actions.run(COMMAND)
    assert wanted == ["backtest"]
    qtbot.waitUntil(lambda: len(fake.sent(StartBacktest)) == 2)
    assert fake.bench.actions.commands[COMMAND].menu == "&Trade"


def test_the_wheel_scrolls_and_changes_nothing(ready: BacktestPanel) -> None:
    quick = ready.setup.span.quick
    before = quick.currentIndex()
    for delta in (120, -120):
        event = QWheelEvent(
            QPointF(5, 5),
            QPointF(quick.mapToGlobal(QPoint(5, 5))),
            QPoint(),
            QPoint(0, delta),
            Qt.MouseButton.NoButton,
            Qt.KeyboardModifier.NoModifier,
            Qt.ScrollPhase.NoScrollPhase,
            False,
        )
        QApplication.sendEvent(quick, event)
        assert quick.currentIndex() == before


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
    assert "43%" in ready.runs.currentText()
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
    assert [ready.runs.itemData(row) for row in range(2)] == [second, first]
    finish(fake, first)
    qtbot.waitUntil(lambda: " %" in ready.runs.itemText(1))
    assert ready.pages.currentWidget() is ready.progress  # of the second, which goes on
    assert not fake.sent(FetchBacktest)
    ready.runs.setCurrentIndex(1)
    ready.runs.activated.emit(1)
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.result)
    assert fake.sent(FetchBacktest) == [FetchBacktest(first)]
    fake.engine.backtest(second, stage="run", progress=0.5)
    qtbot.waitUntil(lambda: "50%" in ready.runs.itemText(0))
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
    assert ready.pill.text() == "failed"
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
    assert not ready.bar.isVisibleTo(ready)
    assert start() == key  # the same id, and not the same run
    assert ready.pages.currentWidget() is ready.progress


# ---- results --------------------------------------------------------------------------------------------------------


def test_a_result_is_shown_whole(ready: BacktestPanel, start: Callable[[], str], fake: FakeBench, qtbot: QtBot) -> None:
    key = start()
    made = finish(fake, key)
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.result)
    shown = ready.result
    assert shown.chart.value_text.startswith(f"{made.equity[-1]:,.2f}")
    assert shown.values["trades"].text() == "2"
    assert shown.values["final_equity"].text() == f"{made.equity[-1]:,.2f} USDT"
    assert shown.values["buy_and_hold"].text() == "+10.00 %"
    assert shown.values["buy_and_hold"].property("tone") == "profit"
    assert [shown.tabs.tabText(tab) for tab in range(4)] == ["Equity", "Statistics", "Trades (3)", "Log (1)"]
    assert shown.log.toPlainText() == "2023-11-14 22:13:20 INFO warmed up"
    assert "Filled at the next bar's open · the venue's fees · no slippage" in shown.assumptions.text()
    assert "Not modelled" in shown.assumptions.toolTip()
    assert "Net&nbsp;profit" in shown.headline.text()
    assert not shown.cut.isVisibleTo(ready)
    texts = [shown.trades.index(0, place).data() for place in range(shown.trades.columnCount())]
    assert texts[0] == "1"
    assert texts[2] == "Short"
    assert texts[4] == "100.00"
    assert texts[6:] == ["101.00", "0.5", "+1.00", "+2.00 %", "0.25"]
    assert shown.trades.index(2, 5).data() == "Open"
    assert shown.trades.index(2, 6).data() == "—"
    assert shown.table.isColumnHidden(1)  # one symbol alone


def test_a_statistic_that_there_is_not_says_why(
    ready: BacktestPanel, start: Callable[[], str], fake: FakeBench, qtbot: QtBot
) -> None:
    finish(fake, start(), count=0, log=[], statistics=dict.fromkeys(STATISTICS))
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.result)
    assert ready.result.values["win_rate"].text() == "—"
    assert "No trade was closed" in ready.result.values["win_rate"].toolTip()
    assert ready.result.tabs.tabText(2) == "Trades"
    assert ready.result.headline.text() == ""


def test_every_statistic_has_its_place() -> None:
    placed = [name for names in GROUPS.values() for name in names]
    assert sorted(placed) == sorted(STATISTICS) == sorted(CAPTIONS)
    for name in STATISTICS:
        assert statistic_text(name, 1.5, "USDT", 2)
        assert statistic_text(name, None, "USDT", 2) == statistic_text(name, float("nan"), "USDT", 2) == "—"
        assert len(statistic_tip(name, None)) > len(statistic_tip(name, 1.0))


def test_a_double_click_shows_the_trade_on_a_chart(
    ready: BacktestPanel, start: Callable[[], str], fake: FakeBench, qtbot: QtBot
) -> None:
    made = finish(fake, start())
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.result)
    asked: list[tuple[object, ...]] = []
    fake.requests.chart_wanted.connect(lambda *what: asked.append(what))
    fake.requests.time_wanted.connect(lambda *what: asked.append(what))
    ready.result.table.doubleClicked.emit(ready.result.trades.index(1, 0))
    assert asked == [(BTC, "5m"), (BTC, made.trades[1].entry_ns)]


def test_where_trades_were_left_out_it_says_so(
    ready: BacktestPanel, start: Callable[[], str], fake: FakeBench, qtbot: QtBot
) -> None:
    finish(fake, start(), 3, statistics=dict.fromkeys(STATISTICS) | {"trades": 12_000.0, "open_trades": 1.0})
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.result)
    assert ready.result.cut.text().startswith("These are the first 3 of 12,001 trades")
    assert not ready.result.cut.isHidden()


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
    answer = msgspec.to_builtins(made)
    took: list[float] = []
    began = time.thread_time()
    read = read_result(answer)
    took.append(time.thread_time() - began)
    showing = panel.result.show_result(read)
    is_done = False
    while not is_done:
        began = time.thread_time()
        try:
            showing.send(None)
        except StopIteration:
            is_done = True
        took.append(time.thread_time() - began)
    assert panel.result.trades.rowCount() == 10_000
    assert len(took) == 4
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
    qtbot.waitUntil(lambda: "50%" in ready.runs.itemText(0))
    assert len(fake.sent(FetchBacktest)) == 1
    finish(fake, first)
    ready.message.retry.click()
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.result)


@pytest.mark.parametrize("value", [None, [], {"trades": 7}, {"trades": []}])
def test_an_answer_that_is_no_result_is_refused(value: object) -> None:
    with pytest.raises(LinkError, match="cannot be read"):
        read_result(value)


def test_a_curve_that_cannot_be_drawn_says_so(
    ready: BacktestPanel, start: Callable[[], str], fake: FakeBench, qtbot: QtBot
) -> None:
    finish(fake, start(), equity_ns=[2, 1], equity=[1.0, 1.0])
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.result)
    assert ready.result.chart.value_text == ""
    assert "cannot be drawn" in ready.result.chart._empty_text


def test_the_theme_is_followed(ready: BacktestPanel, start: Callable[[], str], fake: FakeBench, qtbot: QtBot) -> None:
    finish(fake, start())
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.result)
    dark = ready.result.headline.text()
    fake.theme.set_choice(ThemeChoice.LIGHT)
    assert ready.result.headline.text() != dark
    assert fake.theme.colors.muted in ready.result.headline.text()


# ---- room and memory ------------------------------------------------------------------------------------------------


def test_the_shape_decides_how_it_lies(ready: BacktestPanel, qtbot: QtBot) -> None:
    splitter = ready.splitter
    qtbot.waitUntil(lambda: splitter.width() == 900)
    assert splitter.orientation() is Qt.Orientation.Horizontal
    assert splitter.sizes()[0] == pytest.approx(330, abs=4)
    ready.resize(340, 640)
    assert splitter.orientation() is Qt.Orientation.Vertical
    assert splitter.sizes()[0] == pytest.approx(288, abs=8)
    splitter.setSizes([400, 235])
    splitter.splitterMoved.emit(400, 1)
    ready.resize(900, 260)
    assert splitter.sizes()[0] == pytest.approx(330, abs=4)
    ready.resize(340, 640)
    assert splitter.sizes()[0] == pytest.approx(400, abs=8)


def test_everything_is_there_after_a_restart(ready: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    setup = ready.setup
    setup.timeframe.setEditText("15m")
    setup._own_timeframe()
    setup.span.choose("7 days")
    setup.cash.setText("500")
    setup.fee.setText("0.1")
    setup.short.setChecked(False)
    setup.symbols.pickers[0].set_instrument(ETH)
    field(ready, "fast").setText("900")  # wrong, and still what was typed
    ready.splitter.setSizes([400, 495])
    ready.splitter.splitterMoved.emit(400, 1)
    state = ready.state()
    ready.retire()
    ready.deleteLater()
    other = BacktestPanel(fake.bench, fake.window, clock_ns=lambda: START_NS)
    other.resize(900, 260)
    other.restore(state)
    other.show()
    qtbot.waitUntil(lambda: other.setup.described is not None)
    assert other.state() == state
    assert field(other, "fast").text() == "900"
    assert other.setup.timeframe.currentText() == "15m"
    assert other.setup.symbols.pickers[0].instrument() == ETH
    assert other.splitter.sizes()[0] == pytest.approx(400, abs=8)


@pytest.mark.parametrize(
    "state",
    [
        {"setup": 7, "sizes": [1], "columns": "wide"},
        {"setup": {"path": 5, "symbols": ["", 8, None], "timeframe": 3, "span": [], "cash": 1, "parameters": []}},
        {"setup": {"span": {"quick": OWN}, "symbols": "BTC", "short": "yes"}, "sizes": {"wide": [0, 1]}},
        {"setup": {"span": {"quick": "1 day", "since_s": 5, "until_s": -3}}, "sizes": {"tall": ["a", "b"]}},
    ],
)
def test_what_is_remembered_may_be_anything(panel: BacktestPanel, state: dict[str, object]) -> None:
    panel.restore(state)
    assert panel.setup.cash.text() == "10,000"
    assert panel.setup.symbols.pickers[0].instrument() == BTC
    assert panel.splitter.moved_to == {}


def test_a_range_of_ones_own_is_remembered(ready: BacktestPanel) -> None:
    span = ready.setup.span
    span.choose(OWN)
    state = span.state()
    span.choose("1 day")
    span.restore(state)
    assert span.is_own
    assert span.state() == state
    assert set(QUICK_NS) < {span.quick.itemText(row).removeprefix("Last ") for row in range(span.quick.count())}


def test_a_retired_panel_leaves_its_command(ready: BacktestPanel, fake: FakeBench) -> None:
    ready.run()
    ready.retire()
    assert COMMAND not in fake.bench.actions


# ---- pieces ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("10,000", Decimal(10_000)),
        (" 1 000.5 ", Decimal("1000.5")),
        ("1,000,000.25", Decimal("1000000.25")),
        ("0,05", None),
        ("1,00", None),
        ("inf", None),
        ("", None),
        ("9" * 41, None),
    ],
)
def test_numbers_as_people_type_them(text: str, number: Decimal | None) -> None:
    assert read_number(text) == number


def test_amounts_have_the_decimals_that_they_need() -> None:
    assert [money_decimals(Decimal(text)) for text in ("10000", "100", "1", "0.0001")] == [2, 3, 5, 8]


def test_a_trade_of_nothing_has_no_return() -> None:
    assert TripRow(1, RoundTrip(BTC, 0.0, 1, 1.0, 2, 1.0, 0.0, 0.0)).share is None


def test_cells_take_the_columns_that_fit(fake: FakeBench) -> None:
    cells = Cells(100, fake.window, most=3)
    boxes = [QComboBox() for _ in range(4)]
    for box in boxes:
        cells.add(box)
    for width, columns in ((90, 1), (215, 2), (1_000, 3)):
        cells.resize(width, 200)
        cells.arrange()
        assert cells.columns == columns
    for box in boxes[1:]:
        box.hide()
    cells.arrange()
    assert cells.columns == 1
