"""Searches of parameters: the form, how far one is, and its trials on a map, as lines and in a table."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
from PySide6.QtCore import QEvent, QPoint, QPointF, Qt
from PySide6.QtGui import QHelpEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QMessageBox
from pytestqt.qtbot import QtBot

from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.errors import KocError
from koc_qt.domain.optimisation import Method, Objective, ParameterRange, StudySpec, Trial, TrialState
from koc_qt.domain.state import JobState
from koc_qt.link.messages import Command
from koc_qt.link.optimiser_messages import ENGINE_ROLE, DeleteStudy, FetchTrials, ResumeStudy, StartStudy, StopStudy
from koc_qt.sdk.channel import ParameterInfo
from koc_qt.ui.backtests.heat_view import HeatView
from koc_qt.ui.backtests.optimise import OptimisePage
from koc_qt.ui.backtests.parallel_view import ParallelView
from koc_qt.ui.backtests.search_form import proposed, round_step
from koc_qt.ui.backtests.trial_data import MOST_CELLS, MOST_LINES, heat_map, lines_of
from koc_qt.ui.panels.backtest import BacktestPanel
from koc_qt.ui.theme import ThemeChoice
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC
from tests.gui.backtest_stage import (
    FILE,
    field,
    panel_fixture,  # noqa: F401
    ready_fixture,  # noqa: F401
)

BASE = BacktestSpec(FILE, (BTC,), "5m", 0, 10**15)
RANGES = (ParameterRange("fast", 5, 9, 1, whole=True), ParameterRange("slow", 20, 40, 10, whole=True))
SPEC = StudySpec(BASE, RANGES)


def trial(number: int, fast: float, slow: float, sharpe: float | None, **more: float) -> Trial:
    state = TrialState.DONE if sharpe is not None else TrialState.INFEASIBLE
    statistics: dict[str, float | None] = {} if sharpe is None else {"sharpe": sharpe, "return": sharpe / 10, **more}
    return Trial(number, {"fast": fast, "slow": slow}, state, statistics, "" if sharpe is not None else "fast < slow")


def some() -> list[Trial]:
    return [trial(n, 5 + n % 5, 20 + 10 * (n // 5), n / 10 - 0.5 if n != 3 else None) for n in range(15)]


# ---- numbers --------------------------------------------------------------------------------------------------------


def test_a_map_has_the_best_of_each_pair() -> None:
    made = heat_map([*some(), trial(90, 9, 40, 5.0), trial(91, 9, 40, 4.0)], "fast", "slow", Objective("sharpe"))
    assert made.x.labels == ("5", "6", "7", "8", "9")
    assert made.y.labels == ("20", "30", "40")
    assert made.values[0, 0] == -0.5
    assert np.isnan(made.values[0, 3])
    assert made.counts[2, 4] == 3
    assert made.best == (4, 2)
    assert made.numbers[2, 4] == 90
    least = heat_map(some(), "fast", "slow", Objective("sharpe", maximise=False))
    assert least.best == (0, 0)


def test_a_map_of_one_parameter_is_a_row_and_many_values_are_put_together() -> None:
    draw = random.Random(2)
    many = [trial(n, draw.uniform(0, 1), 20, draw.gauss(0, 1)) for n in range(500)]
    made = heat_map(many, "fast", "", Objective("sharpe"))
    assert made.values.shape == (1, MOST_CELLS)
    assert made.counts.sum() == 500
    assert np.nanmax(made.values) == max(each.statistics["sharpe"] or 0 for each in many)
    words = [Trial(n, {"side": side}, TrialState.DONE, {"sharpe": 1.0}) for n, side in enumerate(("both", "long"))]
    assert heat_map(words, "side", "", Objective("sharpe")).x.labels == ("both", "long")
    assert heat_map([], "fast", "slow", Objective("sharpe")).best is None


def test_lines_have_the_best_on_top() -> None:
    made = lines_of(some(), SPEC)
    assert [scale.name for scale in made.scales] == ["fast", "slow", "Sharpe ratio"]
    assert (made.scales[0].low, made.scales[0].high) == ("5", "9")
    assert made.numbers[-1] == 14
    assert made.places[-1].tolist() == [1.0, 1.0, 1.0]
    assert len(made.numbers) == 14
    draw = random.Random(1)
    many = [trial(n, draw.randint(1, 50), draw.randint(1, 50), draw.gauss(0, 1)) for n in range(5_000)]
    thinned = lines_of(many, SPEC)
    assert len(thinned.numbers) == MOST_LINES
    assert thinned.numbers[-1] == max(many, key=lambda each: each.statistics["sharpe"] or 0).number
    assert len(lines_of([], SPEC).numbers) == 0


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (ParameterInfo("n", "int", 10, 1, 500), (5.0, 20.0, 2.0)),
        (ParameterInfo("n", "int", 2), (1.0, 4.0, 1.0)),
        (ParameterInfo("x", "float", 0.1, 0.0, 0.15), (0.05, 0.15, 0.01)),
        (ParameterInfo("x", "float", 0.0), (0.0, 1.0, 0.1)),
        (ParameterInfo("x", "float", 4.0, 4.0, 4.0), (4.0, 4.0, None)),
        (ParameterInfo("x", "float", 1.0, 0.0, 5.0, 0.25), (0.5, 2.0, 0.25)),
    ],
)
def test_a_range_is_proposed_around_the_default(info: ParameterInfo, expected: tuple[float, float, float]) -> None:
    assert proposed(info) == pytest.approx(expected)


def test_round_steps() -> None:
    assert [round_step(raw) for raw in (0.011, 0.3, 1.0, 2.1, 70.0)] == pytest.approx([0.02, 0.5, 1.0, 5.0, 100.0])
    assert round_step(0.0) == 0.0


# ---- the form -------------------------------------------------------------------------------------------------------


@pytest.fixture
def page(ready: BacktestPanel, qtbot: QtBot) -> OptimisePage:
    """Give the page of a panel that shows it, with the parameters of a file."""
    ready.bar.views["optimise"].click()
    assert ready.pages.currentWidget() is ready.optimise
    qtbot.waitUntil(lambda: len(ready.optimise.form.rows) == 4 and not ready.optimise.form.is_busy)
    return ready.optimise


def test_declared_parameters_have_ranges(page: OptimisePage) -> None:
    rows = {row.info.name: row for row in page.form.rows}
    assert list(rows) == ["fast", "notional", "hedge", "side"]  # but no text
    assert rows["fast"].wanted.isChecked()
    assert not rows["notional"].wanted.isChecked()
    assert not rows["side"].wanted.isChecked()
    assert rows["hedge"].range() == ParameterRange("hedge", choices=(False, True))
    assert "combinations" in page.words.text()
    rows["fast"].edits["step"].setText("")
    rows["fast"].edits["low"].setText("2")
    rows["fast"].edits["high"].setText("12")
    assert page.form.size_text() == "11 combinations"
    rows["side"].wanted.setChecked(True)
    assert page.form.size_text() == "22 combinations"


def test_a_search_is_what_the_form_says(
    page: OptimisePage, ready: BacktestPanel, fake: FakeBench, qtbot: QtBot
) -> None:
    field(ready, "fast").setText("9")
    field(ready, "notional").setText("500")
    form = page.form
    form.method.setCurrentIndex(form.method.findData("bayesian"))
    form.trials.setText("1,000")
    form.second.setCurrentIndex(form.second.findData("max_drawdown"))
    form.constraint.setText("fast < 8, notional > 1")
    form.processes.setText("2")
    form.prune.setChecked(True)
    page.start.click()
    qtbot.waitUntil(lambda: bool(fake.sent(StartStudy)))
    spec = fake.sent(StartStudy)[0].spec
    assert spec.method is Method.BAYESIAN
    assert spec.trials == 1_000
    assert spec.objectives == (Objective("sharpe"), Objective("max_drawdown", maximise=False))
    assert spec.constraints == ("fast < 8", "notional > 1")
    assert (spec.processes, spec.prune) == (2, True)
    assert [each.name for each in spec.ranges] == ["fast"]
    assert spec.base.parameters == {"notional": 500.0}
    qtbot.waitUntil(lambda: page.study is not None and page.start.text() == "Stop")
    assert page.tabs.currentIndex() == 1


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [("low", "a", "'a' is no number"), ("low", "", "from where to where"), ("high", "1", "nothing lies there")],
)
def test_a_range_that_is_none_is_said(page: OptimisePage, fake: FakeBench, name: str, text: str, problem: str) -> None:
    row = page.form.rows[0]
    row.edits[name].setText(text)
    page.begin()
    assert problem in page.words.text()
    assert not fake.sent(StartStudy)


def test_other_faults_of_the_form_are_said(page: OptimisePage, ready: BacktestPanel, fake: FakeBench) -> None:
    form = page.form
    form.method.setCurrentIndex(form.method.findData("random"))
    form.trials.setText("many")
    page.begin()
    assert "Trials: a whole number" in page.words.text()
    form.trials.setText("10")
    form.rows[0].wanted.setChecked(False)
    page.begin()
    assert "at least one parameter" in page.words.text()
    form.rows[0].wanted.setChecked(True)
    ready.setup.costs.edits["cash"].setText("none")
    page.begin()
    assert "form beside" in page.words.text()
    assert not fake.sent(StartStudy)


def test_what_the_engine_refuses_is_said(
    page: OptimisePage, fake: FakeBench, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = fake.engine.execute

    async def refuse(command: Command, client_id: str) -> object:
        if isinstance(command, StartStudy):
            raise KocError("8 studies wait for their turn already")
        return await execute(command, client_id)

    monkeypatch.setattr(fake.engine, "execute", refuse)
    page.begin()
    qtbot.waitUntil(lambda: "wait for their turn" in page.words.text())
    assert page.start.isEnabled()


def test_the_form_is_remembered(page: OptimisePage, ready: BacktestPanel) -> None:
    page.form.objective.setCurrentIndex(page.form.objective.findData("calmar"))
    page.form.constraint.setText("fast < 8")
    state = ready.state()["search"]
    page.form.objective.setCurrentIndex(0)
    page.form.constraint.setText("")
    page.restore({"objective": 5, "method": "none", "trials": None, "prune": "x"})
    page.restore(state)
    assert page.state() == state


# ---- a search -------------------------------------------------------------------------------------------------------


@pytest.fixture
def found(page: OptimisePage, fake: FakeBench, qtbot: QtBot) -> OptimisePage:
    """Give a page with a search that runs and has trials."""
    fake.engine.research.execute(StartStudy(SPEC))
    trials = some()
    best = max(trials, key=lambda each: each.statistics.get("sharpe") or -9.0)
    fake.engine.research.add_trials("study-1", trials, total=30, best=best, remaining_s=12.0)
    page.tabs.setCurrentIndex(1)
    qtbot.waitUntil(lambda: len(page._trials) == 15 and page.heat._map is not None)
    return page


def test_it_says_how_far_it_is_and_what_leads(found: OptimisePage, fake: FakeBench, qtbot: QtBot) -> None:
    assert found.words.text().startswith("15 of 30 trials · 1 infeasible · 12 s left · 2 processes")
    assert found.words.text().endswith("best Sharpe ratio 0.90 with fast 9, slow 40")
    assert found.progress.value() == 500
    fake.engine.research.search("study-1", owner=f"{ENGINE_ROLE}, process 4 on here")
    fake.engine.research.search("study-1", owner="koc optimize, process 5 on there")
    qtbot.waitUntil(lambda: " · run by koc optimize, process 5 on there · best" in found.words.text())
    found.start.click()
    qtbot.waitUntil(lambda: fake.sent(StopStudy) == [StopStudy("study-1")])
    qtbot.waitUntil(lambda: found.resume.isVisibleTo(found))
    found.resume.click()
    qtbot.waitUntil(lambda: fake.sent(ResumeStudy) == [ResumeStudy("study-1")])
    qtbot.waitUntil(lambda: found.start.text() == "Stop")
    fake.engine.research.search("study-1", state=JobState.FAILED, reason="the file is gone")
    qtbot.waitUntil(lambda: found.words.text() == "the file is gone")
    found.delete.click()
    box = found.question.box
    assert box is not None
    assert "15 trials" in box.informativeText()
    next(b for b in box.buttons() if box.buttonRole(b) is QMessageBox.ButtonRole.DestructiveRole).click()
    qtbot.waitUntil(lambda: fake.sent(DeleteStudy) == [DeleteStudy("study-1")])
    qtbot.waitUntil(lambda: found.studies.count() == 0)
    qtbot.waitUntil(lambda: found.heat._map is None)


def test_more_trials_come_in_and_late_ones_are_not_lost(found: OptimisePage, fake: FakeBench, qtbot: QtBot) -> None:
    research = fake.engine.research
    research.add_trials("study-1", [trial(17, 5, 20, 0.1)])  # before 15 and 16, which are still under way
    qtbot.waitUntil(lambda: 17 in found._trials)
    research.add_trials("study-1", [trial(15, 5, 30, 0.2), trial(16, 5, 40, 0.3)], state=JobState.DONE)
    qtbot.waitUntil(lambda: len(found._trials) == 18)
    qtbot.waitUntil(lambda: found.tabs.tabText(3) == "Trials (18)")
    assert found.trials.model is not None
    found.tabs.setCurrentIndex(3)
    qtbot.waitUntil(lambda: found.trials.model is not None and found.trials.model.rowCount() == 18)
    asked = len(fake.sent(FetchTrials))
    research.search("study-1", reason="done")
    qtbot.waitUntil(lambda: fake.desk.replica.studies["study-1"].reason == "done")
    assert len(fake.sent(FetchTrials)) == asked


def test_a_click_takes_a_trial_to_the_form(found: OptimisePage, ready: BacktestPanel, qtbot: QtBot) -> None:
    heard: list[int] = []
    found.heat.taken.connect(heard.append)
    QTest.mouseClick(found.heat, Qt.MouseButton.LeftButton, pos=found.heat._cell(4, 2).center().toPoint())
    assert heard == [14]
    qtbot.waitUntil(lambda: "fast" in ready.setup.parameters.fields and field(ready, "fast").text() == "9")
    assert found.words.text() == "Trial 14 is in the form: fast 9, slow 40"
    QTest.mouseClick(found.heat, Qt.MouseButton.LeftButton, pos=found.heat._cell(3, 0).center().toPoint())
    assert heard == [14]  # nothing was tried there
    found.tabs.setCurrentIndex(3)
    qtbot.waitUntil(lambda: found.trials.model is not None and found.trials.model.rowCount() == 15)
    table, model = found.trials.table, found.trials.model
    assert table is not None
    assert model is not None
    assert model.index(0, 0).data() == "14"  # the best first
    table.selectRow(1)
    table.clicked.emit(model.index(1, 0))
    qtbot.waitUntil(lambda: "Trial 13 is in the form" in found.words.text())


def test_keys_go_from_cell_to_cell(found: OptimisePage, qtbot: QtBot) -> None:
    heard: list[int] = []
    found.heat.taken.connect(heard.append)
    for key in (Qt.Key.Key_Right, Qt.Key.Key_Left, Qt.Key.Key_Down, Qt.Key.Key_Return):
        QTest.keyClick(found.heat, key)
    assert heard == [8]
    assert found.heat.accessibleDescription() == "fast 8, slow 30: Sharpe ratio 0.30"
    at = found.heat._cell(0, 0).center().toPoint()
    QApplication.sendEvent(found.heat, QHelpEvent(QEvent.Type.ToolTip, at, found.heat.mapToGlobal(at)))
    assert found.heat.text_at((3, 0)) == "fast 8, slow 20: not tried"


def test_axes_of_the_map_are_chosen(found: OptimisePage, qtbot: QtBot) -> None:
    found.across.setCurrentIndex(1)
    found.up.setCurrentIndex(1)
    found.across.activated.emit(1)
    qtbot.waitUntil(lambda: found.heat._map is not None and found.heat._map.x.name == "slow")
    assert found.heat._map is not None
    assert found.heat._map.y.name == ""


def test_the_nearest_line_is_taken(found: OptimisePage, qtbot: QtBot) -> None:
    found.tabs.setCurrentIndex(2)
    heard: list[int] = []
    view = found.lines
    view.taken.connect(heard.append)
    qtbot.waitUntil(lambda: view._lines is not None)
    lines = view._lines
    assert lines is not None
    xs, ys = view._xs(lines), view._ys(lines)
    at = QPointF(float(xs[-1]), float(ys[-1, -1]))
    assert view.nearest(at) == len(lines.numbers) - 1
    QTest.mouseMove(view, at.toPoint())
    QTest.mouseClick(view, Qt.MouseButton.LeftButton, pos=at.toPoint())
    assert heard == [14]
    assert view.nearest(QPointF(5.0, -400.0)) is None


def test_searches_are_chosen_among(found: OptimisePage, fake: FakeBench, qtbot: QtBot) -> None:
    spec = StudySpec(BASE, (ParameterRange("fast", 5, 9, 1, whole=True),), objectives=(Objective("return"),))
    fake.engine.research.execute(StartStudy(spec))
    qtbot.waitUntil(lambda: found.studies.count() == 2)
    found.look_at("study-2")
    assert not found._trials
    fake.engine.research.add_trials("study-2", [trial(0, 5, 20, 1.0)], state=JobState.DONE)
    qtbot.waitUntil(lambda: len(found._trials) == 1)
    qtbot.waitUntil(lambda: found.up.currentData() == "")
    assert "study-1" in [found.studies.itemData(row) for row in range(2)]
    found.look_at("study-1")
    qtbot.waitUntil(lambda: len(found._trials) == 15)


# ---- pictures -------------------------------------------------------------------------------------------------------


def test_pictures_in_every_size_and_theme_within_a_frame(fake: FakeBench) -> None:
    draw = random.Random(1)
    many = [trial(n, draw.randint(1, 24), draw.randint(1, 24), draw.gauss(0, 1)) for n in range(3_000)]
    heat, lines = HeatView(fake.theme, fake.window), ParallelView(fake.theme, fake.window)
    fake.window.show()
    heat.show_map(heat_map(many, "fast", "slow", Objective("sharpe")))
    lines.show_lines(lines_of(many, SPEC))
    took = []
    for width, height in ((120, 80), (300, 200), (900, 500)):
        for view in (heat, lines):
            view.resize(width, height)
            began = time.thread_time()
            assert not view.grab().isNull()
            took.append(time.thread_time() - began)
    assert max(took) < 0.05  # some 8 ms on a quiet machine; a frame has 16
    fake.theme.set_choice(ThemeChoice.LIGHT)
    heat.show_map(heat_map(some(), "fast", "", Objective("max_drawdown", maximise=False)))
    for view in (heat, lines):
        assert not view.grab().isNull()
    heat.show_map(None)
    lines.show_lines(None)
    for view in (heat, lines):
        assert not view.grab().isNull()
    assert "first trials" in heat.accessibleDescription()
    assert heat._place(QPoint(5, 5)) is None
