"""The back-test panel on a fake engine: the form, room, what is remembered, and pieces of these."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
import shiboken6
from PySide6.QtCore import QDateTime, QPoint, QPointF, Qt, QTimeZone
from PySide6.QtGui import QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QCheckBox, QComboBox, QFileDialog, QLineEdit
from pytestqt.qtbot import QtBot

from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.errors import KocError
from koc_qt.domain.timeframes import DAY_NS, SECOND_NS
from koc_qt.link.messages import DescribeStrategy, QuoteChanged, StartBacktest, StoreStrategy
from koc_qt.ui.panels.backtest import COMMAND, BacktestPanel
from koc_qt.ui.panels.backtest_fields import Cells, read_number
from koc_qt.ui.panels.backtest_file import SOURCE_LIMIT, read_file
from koc_qt.ui.panels.backtest_parameters import ParameterForm
from koc_qt.ui.panels.backtest_span import OWN, QUICK_NS, quick_for
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC, START_NS
from tests.gui.backtest_stage import (
    ETH,
    FILE,
    HOUR_NS,
    PARAMETERS,
    described,
    field,
    panel_fixture,  # noqa: F401
    ready_fixture,  # noqa: F401
)

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
    assert panel.setup.file.box.currentText() == "sma_cross.py  ·  /strategies"  # the library has one, too
    assert panel.setup.about.text() == "SMA cross: Long while the fast average is above."
    assert list(panel.setup.parameters.fields) == [info.name for info in PARAMETERS]
    assert panel.setup.timeframe.currentText() == "5m"
    assert panel.setup.span.quick.currentText() == "Last 90 days"


def test_a_run_is_what_the_form_says(ready: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    setup = ready.setup
    setup.timeframe.setEditText("1m")
    setup.span.choose("6 hours")
    setup.costs.edits["cash"].setText("25,000")
    setup.costs.edits["fee"].setText("0.075 %")
    setup.costs.edits["slippage"].setText("0.02")
    setup.costs.short.setChecked(False)
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
    [spec] = ready.setup.specs()
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
        ("spread", "100", "percentage"),
        ("ticks", "1.5", "whole number"),
        ("ticks", "-1", "whole number"),
        ("latency", "90000000", "to a day"),
        ("share", "0", "up to 100"),
        ("share", "101", "up to 100"),
        ("seed", "x", "whole number"),
    ],
)
def test_wrong_numbers_are_said_at_their_field(
    ready: BacktestPanel, fake: FakeBench, name: str, text: str, problem: str
) -> None:
    editor, wrong = ready.setup.costs.edits[name], ready.setup.costs.fields[name]
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
    [spec] = ready.setup.specs()
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
    [spec] = ready.setup.specs()
    assert (spec.since_ns, spec.until_ns) == (1_600_000_020 * SECOND_NS, 1_600_003_620 * SECOND_NS)
    span.until.setDateTime(span.since.dateTime())
    assert ready.setup.span_field.problem == "It must end after it begins"
    assert not ready.setup.specs()


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
    [spec] = ready.setup.specs()
    assert 0 <= ahead_ns - spec.until_ns < 300 * SECOND_NS


def test_a_strategy_of_two_symbols_gets_two_of_one_currency(
    panel: BacktestPanel, fake: FakeBench, qtbot: QtBot
) -> None:
    fake.engine.described = described(2, subscriptions=("bars", "quotes"))
    panel.offer(FILE)
    qtbot.waitUntil(lambda: panel.setup.described is not None)
    assert [picker.instrument() for picker in panel.setup.symbols.pickers] == [BTC, ETH]
    assert "Of quotes it has the open and the close" in panel.setup.about.text()
    panel.setup.symbols.pickers[1].set_instrument(BTC)
    assert not panel.setup.specs()
    assert panel.setup.symbols.fields[1].problem == "sim:BTC/USDT is there twice"
    panel.setup.symbols.pickers[1].set_instrument(None)
    assert not panel.setup.specs()
    assert panel.setup.symbols.fields[1].problem == "Choose a symbol"
    panel.setup.symbols.pickers[1].set_instrument(ETH)
    [spec] = panel.setup.specs()
    assert spec.instruments == (BTC, ETH)


def test_a_strategy_without_bars_is_warned_of(panel: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.described = described(subscriptions=("trades",))
    panel.offer(FILE)
    qtbot.waitUntil(lambda: panel.setup.described is not None)
    assert "It listens to trades alone" in panel.setup.about.text()
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


def test_fields_stay_where_the_same_is_declared_again(ready: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    before = dict(ready.setup.parameters.fields)
    ready.setup.file.again.click()
    qtbot.waitUntil(lambda: len(fake.sent(DescribeStrategy)) == 2 and not ready.setup.is_settling)
    assert ready.setup.parameters.fields == before
    fake.engine.described = described(parameters=PARAMETERS[:2])
    ready.setup.file.again.click()
    qtbot.waitUntil(lambda: list(ready.setup.parameters.fields) == ["fast", "notional"])
    assert ready.setup.parameters.fields["fast"] is not before["fast"]


def test_what_was_typed_is_not_lost_while_fields_are_made(fake: FakeBench) -> None:
    form = ParameterForm(fake.window)
    making = form.build(PARAMETERS, {"fast": "9", "label": "y", "gone": "1"})
    next(making)
    assert list(form.fields) == ["fast"]
    edit = form.fields["fast"].editor
    assert isinstance(edit, QLineEdit)
    edit.setText("7")
    assert form.typed() == {"fast": "7", "label": "y", "gone": "1"}
    assert form.values() == {"fast": 7}
    del making  # such as for another answer about the same file
    for _ in form.build(PARAMETERS, form.typed()):
        pass
    assert list(form.fields) == [info.name for info in PARAMETERS]
    assert form.typed() == {"fast": "7", "label": "y"}


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
    ready.setup.costs.edits["cash"].setFocus()
    qtbot.waitUntil(ready.setup.costs.edits["cash"].hasFocus)
    QTest.keyClick(ready.setup.costs.edits["cash"], Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
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
    setup.costs.edits["cash"].setText("500")
    setup.costs.edits["fee"].setText("0.1")
    setup.costs.short.setChecked(False)
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
    assert panel.setup.costs.edits["cash"].text() == "10,000"
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


# ---- made in steps --------------------------------------------------------------------------------------------------


def stir(fake: FakeBench, qtbot: QtBot) -> None:
    """Have all happen that a panel listens to."""
    fake.requests.backtest_offered.emit(FILE)
    with qtbot.waitSignal(fake.desk.framed):
        fake.client.lose()
        fake.client.connect()


def test_nothing_reaches_a_panel_that_is_half_made(fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.described = described()
    panel = BacktestPanel(replace(fake.bench, in_steps=True), fake.window, clock_ns=lambda: START_NS)
    assert COMMAND not in fake.bench.actions
    steps = 0
    while panel.make_part():
        steps += 1
        assert COMMAND not in fake.bench.actions
        stir(fake, qtbot)
    assert steps > 10
    assert COMMAND in fake.bench.actions
    assert panel.setup.file.path == ""
    assert panel.setup.symbols.pickers[0].instrument() == BTC
    stir(fake, qtbot)
    qtbot.waitUntil(lambda: panel.setup.described is not None)
    panel.retire()


def test_a_panel_is_given_up_at_any_step(fake: FakeBench, qtbot: QtBot) -> None:
    bench, steps, is_whole = replace(fake.bench, in_steps=True), 0, False
    while not is_whole:
        panel = BacktestPanel(bench, fake.window)
        for _ in range(steps):
            is_whole = not panel.make_part()
        if is_whole:
            panel.retire()
        panel.deleteLater()
        qtbot.waitUntil(partial(lambda gone: not shiboken6.isValid(gone), panel))
        steps += 1
    stir(fake, qtbot)
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
