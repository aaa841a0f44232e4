"""A back-test panel on a fake engine, the strategy that it runs, and results to show."""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal

import pytest
from PySide6.QtWidgets import QLineEdit
from pytestqt.qtbot import QtBot

from koc_qt.domain.backtests import BacktestResult, BacktestSpec, RoundTrip
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.performance import statistics
from koc_qt.domain.state import JobState
from koc_qt.domain.timeframes import SECOND_NS
from koc_qt.sdk.channel import Described, ParameterInfo
from koc_qt.ui.panels.backtest import BacktestPanel
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


@pytest.fixture(name="panel")
def panel_fixture(fake: FakeBench) -> BacktestPanel:
    """Give a panel that is shown, whose engine can read a strategy."""
    fake.engine.described = described()
    fake.engine.instruments = [BTC_RULES, ETH_BTC_RULES, ETH_RULES]
    fake.client.connect()
    panel = BacktestPanel(fake.bench, fake.window, clock_ns=lambda: START_NS)
    fake.window.resize(900, 260)
    panel.resize(900, 260)
    fake.window.show()
    return panel


@pytest.fixture(name="ready")
def ready_fixture(panel: BacktestPanel, qtbot: QtBot) -> BacktestPanel:
    """Give one whose strategy has been read."""
    panel.offer(FILE)
    qtbot.waitUntil(lambda: panel.setup.described is not None)
    return panel


@pytest.fixture(name="start")
def start_fixture(ready: BacktestPanel, fake: FakeBench, qtbot: QtBot) -> Callable[[], str]:
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
