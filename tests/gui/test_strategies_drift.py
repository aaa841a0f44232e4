"""Drift in the strategies panel: the pill, the dialog, and measuring it now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from koc_qt.domain.errors import StrategyError
from koc_qt.domain.state import StrategySpec, StrategyState
from koc_qt.domain.trust import DriftReport, GapCause, Verdict
from koc_qt.link.messages import Command
from koc_qt.link.trust_messages import CheckDrift
from koc_qt.ui.panels.strategies import StrategiesPanel
from koc_qt.ui.panels.strategies_drift import MEASURING, NEVER, drift_look, drift_text
from koc_qt.ui.panels.strategies_drift_actions import MEASURE_DRIFT, SHOW_DRIFT
from koc_qt.ui.panels.strategies_drift_view import CAUSES, DriftDialog, facts_of
from koc_qt.ui.panels.strategies_rows import STRATEGY_COLUMNS
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC, START_NS, strategy_snapshot

HOUR_NS = 3_600_000_000_000
PARTS = {"data": 0.0, "latency": -6.0, "slippage": -12.5, "size": 0.0, "fees": -0.5, "missed signals": 1.0}
DRIFT = next(column for column in STRATEGY_COLUMNS if column.name == "drift")


def report(key: str = "sma-1", verdict: Verdict = Verdict.AMBER, **changes: Any) -> DriftReport:
    plain = DriftReport(
        strategy_id=key,
        account_id="paper",
        verdict=verdict,
        sentence="Live made -18.00 compared to the back-test (slippage -12.50, latency -6.00).",
        since_ns=START_NS,
        until_ns=START_NS + 24 * HOUR_NS,
        measured_ns=START_NS + 25 * HOUR_NS,
        live_pnl=82.0,
        test_pnl=100.0,
        gap=-18.0,
        parts=dict(PARTS),
        executions=14,
        executions_expected=15,
        matched=14,
        bars=1_440,
        bars_changed=2,
    )
    return msgspec.structs.replace(plain, **changes)


def unmeasured(key: str = "sma-1") -> DriftReport:
    text = f"{key} has seen no bar since the engine was started: there is no session"
    return DriftReport(key, "paper", Verdict.NONE, text, START_NS, START_NS, START_NS)


def known(fake: FakeBench, *keys: str, state: StrategyState = StrategyState.RUNNING) -> None:
    for key in keys:
        spec = StrategySpec(key, f"/strategies/{key}.py", "paper", (BTC,), "5m", {})
        fake.engine.show(strategy_snapshot(key, spec=spec, state=state))


@pytest.fixture
def panel(fake: FakeBench, qtbot: QtBot, tmp_path: Path) -> StrategiesPanel:
    panel = StrategiesPanel(fake.bench, tmp_path, fake.window)
    fake.window.resize(360, 420)
    panel.resize(360, 420)
    fake.window.show()
    qtbot.waitUntil(lambda: bool(panel.files.records))
    return panel


def choose(panel: StrategiesPanel, qtbot: QtBot, *keys: str) -> None:
    qtbot.waitUntil(lambda: all(panel.model.row_of(key) is not None for key in keys))
    panel.table.clearSelection()
    for key in keys:
        row = panel.model.row_of(key)
        assert row is not None
        panel.table.selectionModel().select(
            panel.model.index(row, 0),
            panel.table.selectionModel().SelectionFlag.Select | panel.table.selectionModel().SelectionFlag.Rows,
        )


def pill(panel: StrategiesPanel, key: str) -> tuple[str, str | None]:
    row = panel.model.row_of(key)
    assert row is not None
    record = panel.model.record_at(row)
    assert record is not None
    assert DRIFT.pill is not None
    return DRIFT.text(record), DRIFT.pill(record)


def tip(panel: StrategiesPanel, key: str) -> str:
    row = panel.model.row_of(key)
    assert row is not None
    place = [column.name for column in panel.model.columns].index("drift")
    return str(panel.model.index(row, place).data(Qt.ItemDataRole.ToolTipRole))


def opened(panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot) -> DriftDialog:
    fake.bench.actions.run(SHOW_DRIFT)
    qtbot.waitUntil(lambda: panel.drift_actions.dialog is not None)
    dialog = panel.drift_actions.dialog
    assert dialog is not None
    assert dialog.isVisible()
    return dialog


def refuse(fake: FakeBench, monkeypatch: pytest.MonkeyPatch, sentence: str) -> None:
    execute = fake.engine.execute

    async def answer(command: Command, client_id: str) -> object:
        if isinstance(command, CheckDrift):
            raise StrategyError(sentence)
        return await execute(command, client_id)

    monkeypatch.setattr(fake.engine, "execute", answer)


# ---- the pill -------------------------------------------------------------------------------------------------------


def test_the_newest_verdict_is_shown_with_its_sentence(panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot) -> None:
    known(fake, "sma-1", "sma-2")
    qtbot.waitUntil(lambda: panel.model.row_of("sma-2") is not None)
    assert pill(panel, "sma-1") == ("—", None)
    assert tip(panel, "sma-1") == NEVER
    looks = {Verdict.RED: "danger", Verdict.AMBER: "warning", Verdict.GREEN: "profit", Verdict.NONE: "neutral"}
    for verdict, look in looks.items():
        fake.engine.research.measure(report(verdict=verdict))
        qtbot.waitUntil(lambda: pill(panel, "sma-1") == (verdict.capitalize(), look))  # noqa: B023
    assert tip(panel, "sma-1").startswith("Live made -18.00 compared to the back-test (slippage -12.50")
    assert pill(panel, "sma-2") == ("—", None)


def test_it_is_there_after_a_new_connection_and_for_what_has_ended(
    panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot
) -> None:
    known(fake, "old", state=StrategyState.STOPPED)
    fake.engine.research.measure(report("old", Verdict.RED))
    fake.client.lose()
    fake.client.connect()
    qtbot.waitUntil(lambda: panel.model.row_of("old") is not None and pill(panel, "old") == ("Red", "danger"))


def test_red_comes_first_when_sorted_and_what_was_never_measured_last(
    panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot
) -> None:
    known(fake, "a", "b", "c")
    fake.engine.research.measure(report("c", Verdict.RED))
    fake.engine.research.measure(report("a", Verdict.GREEN))
    qtbot.waitUntil(lambda: len(panel.model.records) == 3 and pill(panel, "a")[0] == "Green")
    place = [column.name for column in panel.model.columns].index("drift")
    panel.model.sort(place, Qt.SortOrder.DescendingOrder)
    assert [each.spec.strategy_id for each in panel.model.records] == ["c", "a", "b"]


# ---- measuring ------------------------------------------------------------------------------------------------------


def test_one_strategy_is_measured_and_said_in_place(panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot) -> None:
    actions = fake.bench.actions
    assert not actions[MEASURE_DRIFT].isEnabled()
    assert {actions[MEASURE_DRIFT], actions[SHOW_DRIFT]} <= set(panel.table.actions())
    known(fake, "sma-1", "sma-2")
    choose(panel, qtbot, "sma-1")
    actions.run(MEASURE_DRIFT)
    qtbot.waitUntil(lambda: pill(panel, "sma-1") == ("Measuring", "info"))
    assert tip(panel, "sma-1") == MEASURING
    assert not actions[MEASURE_DRIFT].isEnabled()
    qtbot.waitUntil(lambda: fake.sent(CheckDrift) == [CheckDrift("sma-1")])
    fake.engine.research.measure(report("sma-2", Verdict.GREEN))  # which somebody else has asked for
    qtbot.waitUntil(lambda: pill(panel, "sma-2") == ("Green", "profit"))
    assert pill(panel, "sma-1")[0] == "Measuring"
    assert fake.texts == []
    fake.engine.research.measure(report("sma-1"))
    qtbot.waitUntil(lambda: pill(panel, "sma-1") == ("Amber", "warning"))
    assert fake.texts == [f"Drift of sma-1: amber. {report().sentence}"]
    assert actions[MEASURE_DRIFT].isEnabled()


def test_an_equal_report_ends_the_wait_and_one_that_came_before_the_answer(
    panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot
) -> None:
    known(fake, "sma-1")
    fake.engine.research.at_once["sma-1"] = report()
    choose(panel, qtbot, "sma-1")
    for count in (1, 2):
        fake.bench.actions.run(MEASURE_DRIFT)
        qtbot.waitUntil(lambda: len(fake.texts) == count)  # noqa: B023
        assert not panel.drift.is_busy
    panel.table.clearSelection()
    fake.bench.actions.run(MEASURE_DRIFT)
    qtbot.waitUntil(lambda: len(fake.texts) == 3)
    assert fake.sent(CheckDrift)[-1] == CheckDrift("")


def test_several_are_measured_one_after_the_other(panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot) -> None:
    known(fake, "a", "b", "c")
    choose(panel, qtbot, "a", "c")
    fake.bench.actions.run(MEASURE_DRIFT)
    qtbot.waitUntil(lambda: fake.sent(CheckDrift) == [CheckDrift("a")])
    qtbot.waitUntil(lambda: pill(panel, "c")[0] == "Measuring")
    fake.engine.research.measure(report("a", Verdict.GREEN))
    qtbot.waitUntil(lambda: fake.sent(CheckDrift) == [CheckDrift("a"), CheckDrift("c")])
    assert panel.drift.is_measured("c")
    fake.engine.research.measure(report("c", Verdict.RED))
    qtbot.waitUntil(lambda: fake.texts == ["The drift of 2 strategies was measured: 1 green, 1 red"])
    assert not panel.drift.is_busy


def test_all_that_run_where_none_is_chosen(panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot) -> None:
    known(fake, "a", "b")
    known(fake, "off", state=StrategyState.STOPPED)
    qtbot.waitUntil(fake.bench.actions[MEASURE_DRIFT].isEnabled)
    fake.bench.actions.run(MEASURE_DRIFT)
    qtbot.waitUntil(lambda: pill(panel, "a")[0] == pill(panel, "b")[0] == "Measuring")
    assert pill(panel, "off")[0] == "—"
    fake.engine.research.measure(report("b"))
    qtbot.waitUntil(lambda: pill(panel, "b")[0] == "Amber")
    assert panel.drift.is_measured("a")
    fake.engine.research.measure(report("a"))
    qtbot.waitUntil(lambda: not panel.drift.is_busy)


def test_what_is_refused_is_said_in_place(
    panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(fake, monkeypatch, "strategies are being measured already, or the engine stops: ask again later")
    known(fake, "sma-1")
    choose(panel, qtbot, "sma-1")
    dialog = opened(panel, fake, qtbot)
    dialog.again.click()
    sentence = (
        "The drift of sma-1 was not measured: strategies are being measured already, or the engine stops: "
        "ask again later"
    )
    qtbot.waitUntil(lambda: fake.texts == [sentence])
    assert panel.detail.words.text() == sentence
    assert panel.detail.words.property("tone") == "danger"
    assert dialog.trouble.text() == sentence
    assert dialog.trouble.isVisible()
    qtbot.waitUntil(lambda: pill(panel, "sma-1") == ("—", None))
    panel.table.clearSelection()
    assert not panel.detail.isVisible()


def test_nothing_runs_any_more(panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot) -> None:
    panel.drift.measure()
    qtbot.waitUntil(lambda: not panel.drift.is_busy)
    assert panel.detail.words.text() == "No strategy runs: there is nothing to measure"


def test_a_lost_engine_is_not_waited_for(panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot) -> None:
    known(fake, "sma-1")
    choose(panel, qtbot, "sma-1")
    fake.bench.actions.run(MEASURE_DRIFT)
    qtbot.waitUntil(lambda: bool(fake.sent(CheckDrift)))
    fake.client.lose()
    assert not panel.drift.is_busy
    assert "connection to the engine was lost" in panel.drift.trouble
    assert not fake.bench.actions[MEASURE_DRIFT].isEnabled()
    fake.engine.research.drift["sma-1"] = report()
    fake.client.connect()
    qtbot.waitUntil(lambda: pill(panel, "sma-1") == ("Amber", "warning"))
    assert fake.bench.actions[MEASURE_DRIFT].isEnabled()
    assert not panel.detail.isVisible()


def test_an_engine_that_says_nothing_is_not_waited_for_for_ever(
    panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot
) -> None:
    known(fake, "sma-1")
    choose(panel, qtbot, "sma-1")
    fake.bench.actions.run(MEASURE_DRIFT)
    qtbot.waitUntil(lambda: bool(fake.sent(CheckDrift)))
    panel.drift._patience.start(0)
    qtbot.waitUntil(lambda: not panel.drift.is_busy)
    assert panel.drift.trouble.endswith("measure it again")


# ---- the dialog -----------------------------------------------------------------------------------------------------


def test_the_dialog_says_where_the_gap_comes_from(panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot) -> None:
    known(fake, "sma-1")
    fake.engine.research.measure(report())
    choose(panel, qtbot, "sma-1")
    dialog = opened(panel, fake, qtbot)
    assert dialog.shown == "sma-1"
    assert (dialog.pill.text(), dialog.pill.property("pill")) == ("Amber", "warning")
    assert dialog.sentence.text() == report().sentence
    rows = {row[0].text: (row[1].text, row[2].text) for row in dialog.table.texts.rows}
    assert rows == {
        "Data": ("0.00", "—"),
        "Latency": ("-6.00", "30 %"),
        "Slippage": ("-12.50", "62 %"),
        "Size": ("0.00", "—"),
        "Fees": ("-0.50", "2 %"),
        "Missed signals": ("+1.00", "5 %"),
        "Together": ("-18.00", ""),
    }
    texts = {name: label.text() for name, label in dialog.facts.items()}
    assert texts["Orders"] == "14 live, 15 in the back-test, 14 in both"
    assert texts["Bars"] == "1,440 that it saw, of which 2 are others in history by now"
    assert texts["Compared"].endswith(", on paper")
    assert (texts["Live"], texts["Back-test"], texts["Gap"]) == ("+82.00", "+100.00", "-18.00")
    fake.engine.research.measure(report(verdict=Verdict.GREEN, parts=dict.fromkeys(PARTS, 0.0), gap=0.0))
    qtbot.waitUntil(lambda: dialog.pill.text() == "Green")
    assert dialog.table.texts.rows[-1][1].text == "0.00"
    QTest.keyClick(dialog, Qt.Key.Key_Escape)
    assert panel.drift_actions.dialog is None
    assert opened(panel, fake, qtbot) is not dialog


def test_a_strategy_without_a_measurement_and_one_that_could_not_be(
    panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot
) -> None:
    dialog = opened(panel, fake, qtbot)
    assert dialog.sentence.text().startswith("There is no strategy yet")
    assert not dialog.again.isEnabled()
    known(fake, "sma-1", "sma-2")
    choose(panel, qtbot, "sma-2")
    assert opened(panel, fake, qtbot) is dialog
    assert dialog.shown == "sma-2"
    assert dialog.sentence.text() == NEVER
    assert not dialog.table.isVisible()
    dialog.again.click()
    qtbot.waitUntil(lambda: dialog.pill.text() == "Measuring")
    assert not dialog.again.isEnabled()
    qtbot.waitUntil(lambda: bool(fake.sent(CheckDrift)))
    fake.engine.research.measure(unmeasured("sma-2"))
    qtbot.waitUntil(lambda: dialog.pill.text() == "None")
    assert "there is no session" in dialog.sentence.text()
    assert not dialog.table.isVisible()
    assert dialog.facts["Measured"].isVisible()
    assert not dialog.facts["Gap"].isVisible()
    assert dialog.again.isEnabled()


def test_what_ended_is_listed_as_long_as_the_engine_knows_of_it(
    panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot
) -> None:
    known(fake, "runs")
    fake.engine.research.measure(report("gone", Verdict.RED))
    qtbot.waitUntil(lambda: panel.model.row_of("runs") is not None)
    dialog = opened(panel, fake, qtbot)
    assert [dialog.box.itemText(row) for row in range(dialog.box.count())] == ["runs", "gone (ended)"]
    dialog.box.setCurrentIndex(1)
    dialog.box.activated.emit(1)
    assert dialog.shown == "gone"
    assert dialog.pill.text() == "Red"
    assert not dialog.again.isEnabled()
    fake.engine.research.drift.clear()
    fake.client.lose()
    fake.client.connect()
    qtbot.waitUntil(lambda: dialog.box.count() == 1)
    assert dialog.shown == "runs"


def test_long_names_and_parts_of_a_newer_engine(panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot) -> None:
    name = "a-very-long-name-" * 6
    known(fake, name)
    fake.engine.research.measure(report(name, parts={"weather": 3.0, "fees": float("inf")}))
    choose(panel, qtbot, name)
    dialog = opened(panel, fake, qtbot)
    assert [row[0].text for row in dialog.table.texts.rows] == ["Weather", "Fees", "Together"]
    dialog.resize(200, 300)
    assert dialog.width() < 420
    assert dialog.box.toolTip() == name


def test_a_retired_panel_leaves_nothing_behind(panel: StrategiesPanel, fake: FakeBench, qtbot: QtBot) -> None:
    known(fake, "sma-1")
    choose(panel, qtbot, "sma-1")
    opened(panel, fake, qtbot)
    fake.bench.actions.run(MEASURE_DRIFT)
    panel.retire()
    assert not any(name in fake.bench.actions for name in (MEASURE_DRIFT, SHOW_DRIFT))
    assert panel.drift_actions.dialog is None
    panel.deleteLater()
    qtbot.waitUntil(lambda: fake.window.findChild(StrategiesPanel) is None)
    assert fake.texts == []


def test_words() -> None:
    assert set(CAUSES) == {str(cause) for cause in GapCause}
    assert [drift_text(report(verdict=verdict), False) for verdict in Verdict] == [v.capitalize() for v in Verdict]
    assert drift_text(None, True) == "Measuring"
    assert drift_look(None, False) is None
    assert facts_of(unmeasured())[1:] == ("",) * 6
