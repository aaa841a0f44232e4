"""The settings of a back-test's execution: engines, costs, what is folded, and a run's settings taken back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from koc_qt.domain.backtests import BacktestSpec, Engine
from koc_qt.domain.errors import StrategyError
from koc_qt.link.messages import StartBacktest
from koc_qt.sdk.channel import StartReplay
from koc_qt.ui.backtests.costs import ALL, NOT_WITH, CostsForm
from koc_qt.ui.panels.backtest import BacktestPanel
from koc_qt.worker.engines.terms import Terms
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC, BTC_RULES, START_NS
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

EVERY = tuple(Engine)
START = StartReplay(b"", "sma.py", {}, (BTC_RULES,), "1m", START_NS, Decimal(1), None, Decimal(0), 0, True)


def shows(panel: BacktestPanel, fast: str) -> bool:
    """Whether all parameters are there, and the first is this."""
    fields = panel.setup.parameters.fields
    return len(fields) == len(PARAMETERS) and field(panel, "fast").text() == fast


def choose(form: CostsForm, name: str) -> None:
    row = form.engine.findData(name)
    form.engine.setCurrentIndex(row)
    form.engine.activated.emit(row)


@pytest.fixture
def every(panel: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> BacktestPanel:
    """Give a panel with a file that every engine can run."""
    fake.engine.described = described(engines=EVERY)
    panel.offer(FILE)
    qtbot.waitUntil(lambda: panel.setup.described is not None)
    return panel


def test_a_file_is_offered_the_engines_that_it_supports(ready: BacktestPanel) -> None:
    form = ready.setup.costs
    enabled = [
        bool(form.engine.model().flags(form.engine.model().index(row, 0)) & Qt.ItemFlag.ItemIsEnabled)
        for row in range(3)
    ]
    assert enabled == [True, False, False]
    assert form.engine.count() == 3
    assert "declare signals" in form.engine.itemData(1, Qt.ItemDataRole.ToolTipRole)
    assert form.engines == (Engine.REPLAY,)


def test_every_engine_makes_a_run_of_its_own(every: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> None:
    form = every.setup.costs
    choose(form, "vectorbt")
    assert [spec.engine for spec in every.setup.specs()] == [Engine.VECTORBT]
    choose(form, ALL)
    assert form.engine.currentText() == "All 3"
    every.run()
    qtbot.waitUntil(lambda: len(fake.sent(StartBacktest)) == 3)
    assert {command.spec.engine for command in fake.sent(StartBacktest)} == set(Engine)
    qtbot.waitUntil(lambda: every._run_id == "backtest-3")
    assert fake.engine.backtests["backtest-3"].spec.engine is Engine.REPLAY  # the first of them is looked at


def note(form: CostsForm, name: str) -> str:
    label = form.fields[name].note
    return "" if label is None or label.isHidden() else label.text()


def test_what_an_engine_refuses_is_said_beside_the_field(every: BacktestPanel) -> None:
    form = every.setup.costs
    assert [note(form, name) for name in ("ticks", "latency", "share")] == ["", "", ""]
    form.edits["latency"].setText("20")
    choose(form, "vectorbt")
    assert form.is_open
    assert form.fields["latency"].problem == "vectorbt knows no latency: leave 0, or choose Replay"
    assert (note(form, "latency"), note(form, "ticks")) == ("", "Not with vectorbt")
    assert note(form, "share") == "vectorbt fills every order whole"
    assert not every.setup.specs()
    form.edits["latency"].setText("0.0")
    assert (form.fields["latency"].problem, note(form, "latency")) == ("", "Not with vectorbt")
    assert every.setup.specs()
    choose(form, ALL)
    assert note(form, "latency") == "Not with vectorbt and backtrader"
    form.unfold(False)
    form.edits["latency"].setText("20")
    assert form.is_open
    assert note(form, "latency") == "vectorbt and backtrader will refuse the run: no latency there"
    assert len(every.setup.specs()) == 3  # the others run
    choose(form, "replay")
    assert [note(form, name) for name in ("ticks", "latency", "share")] == ["", "", ""]
    assert [spec.latency_ns for spec in every.setup.specs()] == [20_000_000]


def test_a_file_has_no_ticks(every: BacktestPanel) -> None:
    form = every.setup.costs
    form.edits["ticks"].setText("1")
    assert every.setup.specs()
    every.setup.bars.choose(["/bars/goog.csv"])
    assert not every.setup.specs()
    assert form.fields["ticks"].problem == "A file does not tell how large a tick is"
    every.setup.bars.leave()
    assert every.setup.specs()


@pytest.mark.parametrize("changes", [{"slippage_ticks": 1}, {"latency_ns": 1}, {"volume_fraction": None}])
def test_engines_refuse_what_the_form_says_that_they_do(changes: dict[str, Any]) -> None:
    """What the form says is held against vectorbt's own terms; those of backtrader need its library."""
    start = msgspec.structs.replace(START, **changes)
    named = {"slippage_ticks": "ticks", "latency_ns": "latency"}.get(next(iter(changes)))
    if named is None:
        Terms("vectorbt", start)
        return
    assert Engine.VECTORBT in NOT_WITH[named][1]
    with pytest.raises(StrategyError, match=NOT_WITH[named][0]):
        Terms("vectorbt", start)


def test_an_engine_that_another_file_lacks_comes_back_with_the_first(
    every: BacktestPanel, fake: FakeBench, qtbot: QtBot
) -> None:
    form = every.setup.costs
    choose(form, "backtrader")
    form.offer_engines((Engine.REPLAY, Engine.VECTORBT))
    assert form.engines == (Engine.REPLAY,)
    form.offer_engines(EVERY)
    assert form.engines == (Engine.BACKTRADER,)


def test_folded_settings_are_named_and_unfold_where_they_are_wrong(ready: BacktestPanel) -> None:
    form = ready.setup.costs
    assert form.more.text() == "More settings"
    assert not form.folded.isVisibleTo(ready)
    form.edits["spread"].setText("0.02")
    form.edits["share"].setText("")
    form.edits["latency"].setText("250")
    form.short.setChecked(False)
    assert form.more.text() == "More: spread 0.02 %, latency 250 ms, any volume"
    [spec] = ready.setup.specs()
    assert (spec.spread, spec.volume_fraction, spec.latency_ns) == (Decimal("0.0002"), None, 250_000_000)
    assert not spec.allow_short
    form.edits["ticks"].setText("many")
    assert not ready.setup.specs()
    assert form.folded.isVisibleTo(ready)
    assert "Slippage, ticks: A whole number" in ready.setup.hint.text()
    form.edits["ticks"].setText("")  # none
    assert ready.setup.specs()[0].slippage_ticks == 0


def test_what_is_remembered_is_there_again(ready: BacktestPanel) -> None:
    form = ready.setup.costs
    form.edits["ticks"].setText("2")
    form.edits["seed"].setText("7")
    form.more.click()
    state = form.state()
    form.restore({"ticks": "0", "seed": "0", "more": False, "engine": "nonsense", "short": "yes", "cash": 5})
    assert form.edits["ticks"].text() == "0"
    assert not form.folded.isVisibleTo(ready)
    form.restore(state)
    assert form.state() == state
    assert form.folded.isVisibleTo(ready)


def test_the_settings_of_a_run_are_taken_back(ready: BacktestPanel, qtbot: QtBot) -> None:
    spec = BacktestSpec(
        FILE,
        (ETH,),
        "15m",
        START_NS // HOUR_NS * HOUR_NS - 48 * HOUR_NS,
        START_NS // HOUR_NS * HOUR_NS,
        {"fast": 9, "hedge": True, "notional": 2500.5},
        Decimal(500),
        Decimal("0.00075"),
        Decimal("0.0005"),
        3,
        allow_short=False,
        spread=Decimal("0.0001"),
        slippage_ticks=2,
        latency_ns=1_500_000,
        volume_fraction=Decimal("0.25"),
    )
    ready.setup.take(spec)
    qtbot.waitUntil(lambda: shows(ready, "9"))
    assert ready.setup.specs() == [spec]
    usual = BacktestSpec(FILE, (BTC,), "5m", spec.since_ns, spec.until_ns)
    ready.setup.take(msgspec.structs.replace(usual, volume_fraction=None))
    qtbot.waitUntil(lambda: shows(ready, "5"))
    assert ready.setup.specs() == [msgspec.structs.replace(usual, volume_fraction=None)]
