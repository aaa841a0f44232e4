"""Curves, dates and months as the back-test panel shows them, and the command that makes a run again."""

from __future__ import annotations

import argparse
import random
import shlex
import time
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest

from koc_qt.cli.backtest import add_parser
from koc_qt.domain.backtests import BacktestSpec, Engine
from koc_qt.domain.timeframes import DAY_NS, SECOND_NS
from koc_qt.ui import formats
from koc_qt.ui.backtests.command import command_of
from koc_qt.ui.backtests.curve_chart import CurveChart, Pane
from koc_qt.ui.backtests.curves import Curve, Look, date_marks, thinned
from koc_qt.ui.backtests.months import MonthsPage, years_of
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC, START_NS
from tests.gui.backtest_stage import ETH, FILE

DAYS = [START_NS + number * DAY_NS for number in range(6)]


def at_ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND_NS


def equity(values: list[float], look: Look = Look.GAIN) -> Curve:
    return Curve.of("Equity", DAYS[: len(values)], values, look)


# ---- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "values", "problem"),
    [
        ([1, 2], [1.0], "2 times and 1 values"),
        ([2, 1], [1.0, 1.0], "not in order"),
        ([1, 1], [1.0, 1.0], "not in order"),
        ([1, 2], [1.0, float("nan")], "not a number"),
    ],
)
def test_what_is_no_curve_is_refused(times: list[int], values: list[float], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Curve.of("x", times, values)


def test_a_curve_knows_its_drawdown_and_growth() -> None:
    curve = equity([100.0, 120.0, 90.0, 120.0, 150.0])
    assert curve.drawdown().values.tolist() == [0.0, 0.0, -0.25, 0.0, 0.0]
    assert curve.growth().values.tolist() == pytest.approx([0.0, 0.2, -0.1, 0.2, 0.5])
    assert len(equity([0.0, 1.0]).growth()) == 0
    assert np.isfinite(equity([-5.0, 1.0]).drawdown().values).all()
    assert curve.at(DAYS[0] - 1) is None
    assert curve.at(DAYS[2] + 5) == 90.0


def test_thinning_keeps_what_can_be_seen() -> None:
    draw = random.Random(3)
    values = np.cumsum([draw.gauss(0, 1) for _ in range(4_000)])
    xs = np.linspace(0.0, 300.0, 4_000)
    thin_xs, thin_ys = thinned(xs, values)
    assert len(thin_xs) <= 4 * 301
    assert (np.diff(thin_xs) >= 0).all()
    assert (thin_ys.min(), thin_ys.max()) == (values.min(), values.max())
    assert (thin_ys[0], thin_ys[-1]) == (values[0], values[-1])
    assert thinned(xs[:5], values[:5])[1].tolist() == values[:5].tolist()


@pytest.mark.parametrize(
    ("since", "until", "first", "second"),
    [
        ("2024-01-01T00:00:00", "2024-01-01T00:00:20", "1 Jan", "00:00:05"),
        ("2024-01-01T09:31:00", "2024-01-01T16:00:00", "1 Jan 10:00", "11:00"),
        ("2024-01-01T00:00:00", "2024-01-04T00:00:00", "1 Jan", "12:00"),
        ("2024-01-03T12:00:00", "2024-02-20T00:00:00", "11 Jan 2024", "21 Jan"),
        ("2022-11-14T00:00:00", "2023-11-14T00:00:00", "2023", "Apr"),
        ("1993-01-01T00:00:00", "2024-01-01T00:00:00", "1995", "2000"),
    ],
)
def test_dates_are_round_and_apart(since: str, until: str, first: str, second: str) -> None:
    since_ns, until_ns = at_ns(since), at_ns(until)
    marks = date_marks(since_ns, until_ns, 600.0, UTC)
    assert [mark.text for mark in marks[:2]] == [first, second]
    assert all(since_ns <= mark.time_ns < until_ns for mark in marks)
    places = [(mark.time_ns - since_ns) / (until_ns - since_ns) * 600 for mark in marks]
    assert all(later - earlier >= 80 for earlier, later in pairwise(places))


def test_dates_of_no_span_and_where_clocks_change() -> None:
    assert date_marks(5, 5, 600.0, UTC) == []
    assert date_marks(5, 50, 10.0, UTC) == []
    since_ns = at_ns("2024-10-26T12:00:00")
    marks = date_marks(since_ns, since_ns + 2 * DAY_NS, 700.0, ZoneInfo("Europe/Berlin"))
    assert len(marks) > 4
    assert all(later.time_ns > earlier.time_ns for earlier, later in pairwise(marks))


# ---- the chart ------------------------------------------------------------------------------------------------------


@pytest.fixture
def chart(fake: FakeBench) -> CurveChart:
    """Give a chart of two panes that is shown."""
    chart = CurveChart(fake.window, zone=UTC)
    fake.window.resize(500, 300)
    chart.resize(500, 300)
    fake.window.show()
    curve = equity([100.0, 120.0, 90.0, 120.0, 150.0, 140.0])
    held = Curve.of("Held", DAYS, [100.0, 101.0, 102.0, 103.0, 104.0, 105.0], Look.QUIET)
    under = Pane((curve.drawdown(),), formats.percent, 0.3, is_under=True)
    chart.set_panes([Pane((curve, held), lambda value: f"{value:.1f}"), under])
    return chart


def test_the_crosshair_tells_every_value(chart: CurveChart) -> None:
    assert chart.value_text.startswith("Equity 140.0 · Held 105.0 · Equity -6.67 %")
    heard: list[object] = []
    chart.hovered.connect(heard.append)
    QTest.mouseMove(chart, QPoint(2, 100))
    assert chart.value_text.startswith("Equity 100.0 · Held 100.0 · Equity 0.00 %")
    assert heard[-1] == DAYS[0]
    chart.setFocus()
    QTest.keyClick(chart, Qt.Key.Key_End)
    QTest.keyClick(chart, Qt.Key.Key_Left, Qt.KeyboardModifier.ControlModifier)
    assert heard[-1] == DAYS[4] or heard[-1] == DAYS[5]
    QTest.keyClick(chart, Qt.Key.Key_Home)
    assert heard[-1] == DAYS[0]
    assert not chart.grab().isNull()
    QTest.keyClick(chart, Qt.Key.Key_Escape)
    assert heard.pop() is None
    assert "Equity 140.0" in chart.accessibleDescription()


def test_a_chart_without_curves_says_why(chart: CurveChart) -> None:
    chart.set_empty_text("There is no equity curve")
    chart.set_panes([Pane((equity([1.0]),), str)])
    assert chart.value_text == ""
    assert not chart.panes
    assert chart.accessibleDescription() == "There is no equity curve"
    QTest.keyClick(chart, Qt.Key.Key_Left)
    QTest.mouseMove(chart, QPoint(30, 30))
    assert not chart.grab().isNull()


def test_small_and_flat_charts_are_painted(chart: CurveChart) -> None:
    flat = [
        Pane((equity([5.0, 5.0, 5.0]),), formats.money),
        Pane((equity([0.0, 0.0]),), formats.percent, is_under=True),
    ]
    chart.set_panes(flat)
    for width, height in ((80, 60), (150, 90), (400, 110), (1400, 700)):
        chart.resize(width, height)
        assert not chart.grab().isNull()


def test_four_thousand_points_are_painted_within_a_frame(chart: CurveChart) -> None:
    times = [START_NS + number * DAY_NS for number in range(4_000)]
    draw = random.Random(1)
    curve = Curve.of("Equity", times, 10_000.0 + np.cumsum([draw.gauss(0, 10) for _ in times]))
    chart.resize(1_000, 400)
    chart.set_panes([Pane((curve, curve.growth()), formats.money), Pane((curve.drawdown(),), formats.percent)])
    chart.grab()  # which paints what stands still
    began = time.thread_time()
    for place in range(20):
        chart.point_at(times[100 * place])
        chart.grab()
    moved_s = (time.thread_time() - began) / 20
    assert moved_s < 0.016  # some 2 ms on a quiet machine


# ---- months ---------------------------------------------------------------------------------------------------------


def test_months_make_years_and_their_totals() -> None:
    years = years_of({"2023-12": 0.1, "2024-01": 0.5, "2024-02": -0.5, "2024-13": 9.0, "nonsense": 1.0})
    assert [year.year for year in years] == [2024, 2023]
    assert years[0].months[:3] == (0.5, -0.5, None)
    assert years[0].total == pytest.approx(-0.25)
    assert years[1].total == pytest.approx(0.1)


def test_months_are_coloured_and_copied(fake: FakeBench) -> None:
    page = MonthsPage(fake.theme, fake.window)
    page.resize(1_000, 200)
    fake.window.show()
    page.show_months({"2023-12": 0.1, "2024-01": 0.05, "2024-02": -0.1})
    model = page.model
    assert model.index(0, 0).data() == "+5.00"
    assert model.index(0, 12).data() == "-5.50"
    assert model.index(0, 12).data(Qt.ItemDataRole.ForegroundRole).name() == fake.theme.colors.loss
    gain, loss, more = (model.index(row, column) for row, column in ((0, 0), (0, 1), (1, 11)))
    colors = [index.data(Qt.ItemDataRole.BackgroundRole).name() for index in (gain, loss, more)]
    assert len(set(colors)) == 3
    assert model.index(0, 5).data(Qt.ItemDataRole.BackgroundRole) is None
    assert model.headerData(1, Qt.Orientation.Vertical) == "2023"
    assert "2 of 3 months gained" in page.summary.whole
    assert "best +10.00 % in Dec 2023 · worst -10.00 % in Feb 2024" in page.summary.whole
    page.table.selectRow(0)
    page.table.copy()
    assert QGuiApplication.clipboard().text().startswith("+5.00\t-10.00\t")
    page.resize(400, 200)
    QTest.qWait(0)
    assert model.index(0, 0).data() == "5.0"
    page.show_months({})
    assert "Run it again" in page.summary.whole
    assert page.table.isHidden()


# ---- the command ----------------------------------------------------------------------------------------------------


def test_the_command_has_what_differs() -> None:
    spec = BacktestSpec(FILE, (BTC,), "5m", at_ns("2024-01-01T00:00:00"), at_ns("2024-02-01T10:30:00"))
    plain = f"koc backtest {FILE} --symbol sim:BTC/USDT --timeframe 5m --from 2024-01-01 --to 2024-02-01T10:30"
    assert command_of(spec) == plain
    full = BacktestSpec(
        "/my files/it's.py",
        (BTC, ETH),
        "1s",
        at_ns("2024-01-01T00:00:01"),
        at_ns("2024-02-01T00:00:00"),
        {"fast": 9, "label": "a b"},
        Decimal(500),
        Decimal("0.001"),
        Decimal("0.0005"),
        3,
        allow_short=False,
        engine=Engine.VECTORBT,
        latency_ns=250_000_000,
        volume_fraction=None,
    )
    text = command_of(full)
    assert text.startswith("koc backtest '/my files/it'\"'\"'s.py' --symbol sim:BTC/USDT --symbol sim:ETH/USDT")
    assert "--from 2024-01-01T00:00:01 --to 2024-02-01 --engine vectorbt --cash 500 --fee 0.001" in text
    assert "--latency-ms 250 --volume-share none --seed 3 --no-short --set fast=9 --set 'label=a b'" in text


def test_the_command_is_one_that_the_command_line_takes() -> None:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    spec = BacktestSpec(
        FILE,
        (BTC, ETH),
        "1h",
        at_ns("2024-01-01T00:00:00"),
        at_ns("2024-02-01T10:30:00"),
        {"fast": 9},
        Decimal(500),
        Decimal("0.001"),
        Decimal("0.0005"),
        3,
        allow_short=False,
        engine=Engine.BACKTRADER,
        spread=Decimal("0.0002"),
        slippage_ticks=2,
        latency_ns=1_500_000,
        volume_fraction=None,
    )
    taken = parser.parse_args(shlex.split(command_of(spec))[1:])
    assert (taken.file, taken.symbol, taken.timeframe) == (FILE, ["sim:BTC/USDT", "sim:ETH/USDT"], "1h")
    assert (taken.since, taken.until) == ("2024-01-01", "2024-02-01T10:30")
    assert (taken.cash, taken.fee, taken.spread, taken.slippage) == (spec.cash, spec.fee, spec.spread, spec.slippage)
    assert (taken.slippage_ticks, taken.latency_ms, taken.volume_share) == (2, Decimal("1.5"), None)
    assert (taken.no_short, taken.seed, taken.parameters, taken.engine) == (True, 3, ["fast=9"], "backtrader")
