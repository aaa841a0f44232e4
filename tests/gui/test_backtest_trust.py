"""The Trust tab: when checks begin, how far they are, what they found, and the line that a finding is about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PySide6.QtCore import QEvent, QPoint
from PySide6.QtGui import QGuiApplication, QHelpEvent
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.errors import KocError
from koc_qt.domain.fan import Fan
from koc_qt.domain.lookahead import Change, DecisionCheck, Variation
from koc_qt.domain.monte_carlo import Distribution, MonteCarlo, TradeDraws
from koc_qt.domain.optimisation import ParameterRange, StudySpec
from koc_qt.domain.parity import Absence, Cause, Certificate, Comparison, Difference
from koc_qt.domain.state import JobState
from koc_qt.domain.trust import AUTOMATIC_BUDGET_S, Check, TrustSpec, Verdict
from koc_qt.domain.trust_report import Scope, SharpeCheck, TrustReport
from koc_qt.domain.walk_forward import WalkForward, Window, WindowResult
from koc_qt.link.messages import Command
from koc_qt.link.optimiser_messages import StartStudy
from koc_qt.link.trust_messages import FetchTrust, StartTrust, StopTrust
from koc_qt.ui.backtests.curve_chart import CurveChart
from koc_qt.ui.backtests.export import Shown
from koc_qt.ui.backtests.findings import walk_panes
from koc_qt.ui.backtests.percentiles import Range, RangeChart
from koc_qt.ui.backtests.text_table import TextTable
from koc_qt.ui.backtests.trust_keeper import trials_made
from koc_qt.ui.panels.backtest import BacktestPanel
from koc_qt.ui.theme import ThemeChoice
from tests.conditions import PATIENCE
from tests.fakes.desk import FakeBench
from tests.fakes.link import START_NS
from tests.gui.backtest_stage import (
    HOUR_NS,
    field,
    finish,
    panel_fixture,  # noqa: F401
    ready_fixture,  # noqa: F401
    start_fixture,  # noqa: F401
)

Start = Callable[[], str]
DRAWN = Distribution(1_000, 0.02, -0.3, 0.4, (-0.12, -0.03, 0.02, 0.08, 0.2))


def fan(count: int = 1_000, observed: tuple[float, ...] = (10_000.0, 10_100.0, 11_000.0)) -> Fan:
    """Give one over two hours."""
    ends = (8_800.0, 9_700.0, 10_200.0, 10_800.0, 12_000.0)
    bands = tuple((10_000.0, (10_000.0 + end) / 2, end) for end in ends)
    return Fan(count, (START_NS, START_NS + HOUR_NS, START_NS + 2 * HOUR_NS), bands, observed)


def report(spec: BacktestSpec, verdict: Verdict = Verdict.GREEN, **changes: object) -> TrustReport:
    """Give one with a finding of every kind."""
    change = Change(Variation.TRUNCATED, START_NS, START_NS, 3, "buy 0.5", "", "At that bar line 3 decided “buy 0.5”.")
    difference = Difference("fills", 4, START_NS, "price", "100", "101", Cause.PRICE, "Fill 4: its price differs.")
    same = Comparison("vectorbt", "replay", Verdict.GREEN, "The same 12 fills.", 12, 12, 12, 6, 6, 6, 0.0)
    other = Comparison("backtrader", "replay", Verdict.AMBER, "They differ.", 12, 12, 11, 6, 6, 5, 1e-3, difference)
    finals = Distribution(1_000, 10_200.0, 7_000.0, 14_000.0, (8_800.0, 9_700.0, 10_200.0, 10_800.0, 12_000.0))
    falls = Distribution(1_000, 0.1, 0.02, 0.5, (0.04, 0.07, 0.1, 0.15, 0.3))
    draws = TradeDraws(1_000, 200, finals, falls, 11_000.0, 0.08, 0.6, 0.2, 0.0, fan())
    windows = tuple(
        WindowResult(
            Window(START_NS + n * HOUR_NS, START_NS + (n + 3) * HOUR_NS, START_NS + (n + 4) * HOUR_NS),
            {"fast": 5 + n},
            0.06,
            0.01 - 0.005 * n,
            4,
            9,
        )
        for n in range(4)
    )
    fields: dict[str, object] = {
        "lookahead": DecisionCheck(Verdict.RED, "It looks into the future.", 12, 40, 25, (change, change)),
        "warmup": DecisionCheck(Verdict.GREEN, "Every decision stayed as it was.", 2, 40),
        "certificate": Certificate(
            Verdict.AMBER, "They differ.", ("replay",), (Absence("paper", "there is none"),), (same, other), {}
        ),
        "sharpe": SharpeCheck(
            Verdict.AMBER, "With 81.0 % probability it is better.", 9, 200, 0.1, 0.2, 1.0, 0.97, 0.81
        ),
        "monte_carlo": MonteCarlo(
            verdict, "Drawn again its trades lose in 20 %.", draws, draws, DRAWN, DRAWN, fan(4, ()), fan(6)
        ),
        "walk_forward": WalkForward(Verdict.GREEN, "Out of sample it made +1.00 %.", False, windows, 0.5, 0.01, 3),
    }
    return TrustReport(TrustSpec(spec), **(fields | changes))  # type: ignore[arg-type]


@pytest.fixture
def checked(ready: BacktestPanel, start: Start, fake: FakeBench, qtbot: QtBot) -> BacktestPanel:
    """Give a panel whose run is done and whose checks have just begun."""
    finish(fake, start())
    qtbot.waitUntil(lambda: bool(fake.sent(StartTrust)))
    qtbot.waitUntil(lambda: ready.result.trust.check.text() == "Stop")
    return ready


def test_a_new_run_is_checked_by_itself_and_another_is_not(
    ready: BacktestPanel, start: Start, fake: FakeBench, qtbot: QtBot
) -> None:
    first = start()
    assert not fake.sent(StartTrust)
    finish(fake, first)
    qtbot.waitUntil(lambda: bool(fake.sent(StartTrust)))
    spec = fake.sent(StartTrust)[0].spec
    assert spec.backtest_id == first
    assert spec.checks == tuple(Check)
    assert spec.budget_s == AUTOMATIC_BUDGET_S
    ready.result.trust.every.setChecked(False)
    second = start()
    finish(fake, second)
    qtbot.waitUntil(lambda: ready.pages.currentWidget() is ready.result and ready.result.trust.check.text() == "Check")
    assert len(fake.sent(StartTrust)) == 1
    assert "Not checked yet" in ready.result.trust.summary.text()
    ready.result.trust.check.click()
    qtbot.waitUntil(lambda: len(fake.sent(StartTrust)) == 2)
    assert fake.sent(StartTrust)[1].spec.backtest_id == second
    assert fake.sent(StartTrust)[1].spec.budget_s is None  # whoever asks has all of it checked
    assert ready.state()["check"] is False


def test_checks_say_how_far_they_are_and_stop(checked: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    page = checked.result.trust
    fake.engine.research.check("trust-1", stage="walk-forward", progress=0.4, runs=31)
    qtbot.waitUntil(lambda: page.summary.text() == "Walk-forward… 31 runs so far")
    assert page.progress.value() == 400
    page.check.click()
    qtbot.waitUntil(lambda: fake.sent(StopTrust) == [StopTrust("trust-1")])
    qtbot.waitUntil(lambda: page.check.text() == "Check again")
    assert "stopped by its owner" in page.summary.text()


def test_what_there_was_no_time_for_is_said(checked: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    page = checked.result.trust
    scope = Scope(400_000, 1_000_000, 0, 300.0, "Checked on about the newest 400,000 of 1,000,000 bars.")
    run = next(iter(fake.engine.backtests.values()))
    fake.engine.research.check("trust-1", report(run.spec, scope=scope))
    qtbot.waitUntil(lambda: page.summary.text().endswith(f". {scope.sentence}"))
    assert page.check.text() == "Check again"


def test_checks_that_began_by_themselves_make_way_for_the_next_run(
    checked: BacktestPanel, start: Start, fake: FakeBench, qtbot: QtBot
) -> None:
    second = start()
    qtbot.waitUntil(lambda: fake.sent(StopTrust) == [StopTrust("trust-1")])
    finish(fake, second)
    qtbot.waitUntil(lambda: len(fake.sent(StartTrust)) == 2)
    fake.engine.research.check("trust-2", report(fake.engine.backtests[second].spec))
    qtbot.waitUntil(lambda: checked.result.trust.check.text() == "Check again")
    checked.result.trust.check.click()  # these are the person's own
    qtbot.waitUntil(lambda: "trust-3" in fake.desk.replica.trust)
    start()
    assert len(fake.sent(StopTrust)) == 1


def test_a_run_without_a_trade_is_not_called_believable(checked: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    page, research = checked.result.trust, fake.engine.research
    spec = TrustSpec(fake.engine.backtests["backtest-1"].spec)
    research.check("trust-1", TrustReport(spec, lookahead=DecisionCheck(Verdict.GREEN, "The same."), fills=0))
    qtbot.waitUntil(lambda: page.summary.text() == "It made no trade: there is nothing to believe")


def test_findings_are_shown_as_they_come(checked: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    page, research = checked.result.trust, fake.engine.research
    whole = report(fake.engine.backtests["backtest-1"].spec)
    research.reports["trust-1"] = msgspec.structs.replace(
        whole, certificate=None, sharpe=None, monte_carlo=None, walk_forward=None
    )
    research.check("trust-1", verdicts={"lookahead": Verdict.RED, "warm-up": Verdict.GREEN})
    qtbot.waitUntil(lambda: set(page.cards) == {Check.LOOKAHEAD, Check.WARMUP})
    research.check("trust-1", whole)
    qtbot.waitUntil(lambda: set(page.cards) == set(Check))
    assert page.summary.text() == "Do not believe this result"
    assert page.badge.text() == "failed"
    assert not checked.result.tabs.tabIcon(checked.result.tabs.indexOf(page)).isNull()
    assert checked.bar.parity.isVisibleTo(checked)
    assert checked.bar.parity.property("pill") == "warning"
    assert page.report == whole
    assert page.cards[Check.WARMUP].pill.property("pill") == "profit"
    assert page.cards[Check.LOOKAHEAD].sentence == "It looks into the future."
    tables = page.cards[Check.PARITY].findChildren(TextTable)
    assert [cell.text for cell in tables[0].texts.rows[0]] == ["vectorbt", "replay", "12 of 12", "6 of 6", "0", ""]
    assert tables[0].texts.rows[1][5].text == "Fill 4: its price differs."
    tables[0].copy()
    assert QGuiApplication.clipboard().text().startswith("Engine\tAgainst\t")
    ranges = page.cards[Check.MONTE_CARLO].findChild(RangeChart)
    assert isinstance(ranges, RangeChart)
    assert [each.caption for each in ranges.ranges] == [
        "Drawdown, in another order",
        "Return, drawn again",
        "Drawdown, drawn again",
        "Return, other candles",
        "Return, parameters nearby",
    ]
    assert ranges.ranges[1].observed == pytest.approx(0.1)
    asked = len(fake.sent(FetchTrust))
    research.check("trust-1", time_ns=START_NS)
    checked.look_at("backtest-1")
    assert len(fake.sent(FetchTrust)) == asked


def test_draws_and_runs_are_shown_as_bands_over_time(checked: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    page, research = checked.result.trust, fake.engine.research
    research.check("trust-1", report(fake.engine.backtests["backtest-1"].spec))
    qtbot.waitUntil(lambda: set(page.cards) == set(Check))
    charts = page.cards[Check.MONTE_CARLO].findChildren(CurveChart)
    assert [chart.accessibleName() for chart in charts] == [
        "Equity, Trades in another order, 1,000 times",
        "Equity, Trades drawn again, 1,000 times",
        "Equity, Other candles, 4 markets",
        "Equity, Parameters nearby, 6 sets",
    ]
    assert charts[0].value_text.startswith("Run 11,000.00 · Median 10,200.00 · 5 % 8,800.00 · 95 % 12,000.00 · 25 %")
    assert charts[2].value_text.startswith("Median 10,200.00 · 5 %")  # of which no run is known
    chart, high = charts[1], charts[1].panes[0].between[0][1]
    assert high.name == "95 %"
    chart.resize(400, 132)
    picture = chart.grab().toImage()
    [placed] = chart._placed
    x = chart._x_of(START_NS + 2 * HOUR_NS) - 3
    inside, outside = (picture.pixelColor(int(x), int(placed.y_of(value))) for value in (11_700.0, 12_500.0))
    assert outside == chart._colors.background
    assert inside != outside
    without = msgspec.structs.replace(
        report(fake.engine.backtests["backtest-1"].spec), monte_carlo=MonteCarlo(Verdict.NONE, "Too few.")
    )
    research.check("trust-1", without, runs=1, verdicts={"monte carlo": Verdict.NONE})
    qtbot.waitUntil(lambda: page.report == without)
    qtbot.waitUntil(lambda: set(page.cards) == set(Check))
    assert not page.cards[Check.MONTE_CARLO].findChildren(CurveChart)


def test_a_check_that_could_not_be_made_says_why(checked: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    spec = fake.engine.backtests["backtest-1"].spec
    nothing: dict[str, Any] = dict.fromkeys(("lookahead", "warmup", "certificate", "sharpe", "monte_carlo"))
    found = WalkForward(Verdict.NONE, "No window was run to its end.", False)
    failed = {"lookahead": "the file is gone"}
    fake.engine.research.check("trust-1", report(spec, **nothing, walk_forward=found, failed=failed))
    page = checked.result.trust
    qtbot.waitUntil(lambda: Check.WALK_FORWARD in page.cards)
    assert page.cards[Check.LOOKAHEAD].sentence == "It could not be made: the file is gone"
    assert page.summary.text() == "Nothing could be checked"


def test_checks_that_cannot_be_started_say_why(
    ready: BacktestPanel, start: Start, fake: FakeBench, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = fake.engine.execute

    async def refuse(command: Command, client_id: str) -> object:
        if isinstance(command, StartTrust):
            raise KocError("too many checks wait already")
        return await execute(command, client_id)

    monkeypatch.setattr(fake.engine, "execute", refuse)
    finish(fake, start())
    page = ready.result.trust
    qtbot.waitUntil(lambda: "too many checks wait already" in page.summary.text())
    assert page.check.isEnabled()
    assert page.check.text() == "Check"


def test_a_click_shows_the_line_that_decided(
    checked: BacktestPanel, fake: FakeBench, qtbot: QtBot, tmp_path: Path
) -> None:
    file = tmp_path / "peeks.py"
    file.write_text("import koc\n\nif bars[1] > 0:\n    pass\n")
    spec = msgspec.structs.replace(fake.engine.backtests["backtest-1"].spec, path=str(file))
    fake.engine.backtest("backtest-1", spec=spec)
    fake.engine.research.check("trust-1", report(spec))
    page = checked.result.trust
    qtbot.waitUntil(lambda: Check.LOOKAHEAD in page.cards)
    table = page.cards[Check.LOOKAHEAD].findChildren(TextTable)[0]
    table.clicked.emit(table.texts.index(0, 1))
    qtbot.waitUntil(lambda: checked.trust.dialog is not None)
    dialog = checked.trust.dialog
    assert dialog is not None
    assert dialog.text.textCursor().block().text() == "3  if bars[1] > 0:"
    assert dialog.windowTitle() == "peeks.py, line 3"
    fake.theme.set_choice(ThemeChoice.LIGHT)
    dialog.close()
    qtbot.waitUntil(lambda: checked.trust.dialog is None)
    file.unlink()
    table.clicked.emit(table.texts.index(0, 1))
    qtbot.waitUntil(lambda: any("is not on this machine" in text for text in fake.texts))


def test_what_was_found_before_is_there_after_a_new_connection(
    checked: BacktestPanel, fake: FakeBench, qtbot: QtBot
) -> None:
    fake.engine.research.check("trust-1", report(fake.engine.backtests["backtest-1"].spec), state=JobState.DONE)
    page = checked.result.trust
    qtbot.waitUntil(lambda: bool(page.cards))
    fake.client.connect()
    qtbot.waitUntil(lambda: checked.pages.currentWidget() is checked.result)
    assert page.cards
    assert len(fake.sent(StartTrust)) == 1


def test_ranges_are_told_in_words_and_painted(fake: FakeBench) -> None:
    each = Range("Return", DRAWN, 0.05)
    assert each.text == (
        "Return: +2.00 % at the median of 1,000, half of them from -3.00 % to +8.00 %, "
        "nine in ten from -12.00 % to +20.00 %; the run itself 5.00 %"
    )
    chart = RangeChart(fake.theme, fake.window)
    chart.resize(400, 100)
    fake.window.show()
    assert not chart.grab().isNull()
    chart.show_ranges([each, Range("Drawdown", DRAWN, is_loss=True)])
    assert not chart.grab().isNull()
    at = QPoint(50, 10)
    QApplication.sendEvent(chart, QHelpEvent(QEvent.Type.ToolTip, at, chart.mapToGlobal(at)))
    assert "nine in ten" in chart.accessibleDescription()


def test_the_walk_is_added_up_window_by_window() -> None:
    window = Window(0, 3 * HOUR_NS, 4 * HOUR_NS)
    after = Window(HOUR_NS, 4 * HOUR_NS, 5 * HOUR_NS)
    results = (WindowResult(window, {}, 0.3, 0.05, 2, 4), WindowResult(after, {}, 0.6, -0.02, 2, 4))
    [pane] = walk_panes(WalkForward(Verdict.GREEN, "", False, results))
    assert pane.curves[0].values.tolist() == pytest.approx([0.0, 0.05, 0.03])
    assert pane.curves[1].values.tolist() == pytest.approx([0.0, 0.1, 0.3])


def test_every_set_of_parameters_that_was_tried_counts(
    checked: BacktestPanel, start: Start, fake: FakeBench, qtbot: QtBot
) -> None:
    run = fake.engine.backtests["backtest-1"]
    assert fake.sent(StartTrust)[0].spec.trials == 1
    fake.engine.research.execute(StartStudy(StudySpec(run.spec, (ParameterRange("fast", 1, 9, 1, whole=True),))))
    fake.engine.research.search("study-1", counts={"done": 40, "failed": 2})
    field(checked, "fast").setText("9")
    finish(fake, start())
    qtbot.waitUntil(lambda: len(fake.sent(StartTrust)) == 2)
    assert fake.sent(StartTrust)[1].spec.trials == 44  # two runs, and the search
    other = msgspec.structs.replace(run.spec, path="/other.py")
    assert trials_made(other, fake.engine.backtests.values(), fake.engine.research.studies.values()) == 1


def test_a_run_is_written_with_what_was_checked(
    checked: BacktestPanel, fake: FakeBench, qtbot: QtBot, tmp_path: Path
) -> None:
    fake.engine.research.check("trust-1", report(fake.engine.backtests["backtest-1"].spec))
    qtbot.waitUntil(lambda: set(checked.result.trust.cards) == set(Check))
    shown = checked.result.result
    assert shown is not None
    file = tmp_path / "run.html"
    checked.exporter.write(file, Shown("backtest-1", shown, "USDT", checked.trust.report))
    qtbot.waitUntil(lambda: bool(fake.notices) and not checked.exporter.is_busy, timeout=round(20_000 * PATIENCE))
    text = file.read_text(encoding="utf-8")
    assert "It looks into the future." in text
    assert "Walk-forward" in text
    assert "backtrader" in text
