"""What a check found, on a card: the verdict, the sentence that explains it, tables, ranges and curves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from koc_qt.domain.fan import PERCENTILES, Fan
from koc_qt.domain.lookahead import DecisionCheck
from koc_qt.domain.monte_carlo import Distribution, MonteCarlo, TradeDraws
from koc_qt.domain.parity import Certificate
from koc_qt.domain.timeframes import DAY_NS
from koc_qt.domain.trust import Check, Verdict
from koc_qt.domain.trust_report import SharpeCheck, TrustReport
from koc_qt.domain.walk_forward import WalkForward
from koc_qt.reports.words import money_decimals
from koc_qt.ui import formats
from koc_qt.ui.backtests.curve_chart import CurveChart, Pane
from koc_qt.ui.backtests.curves import Curve, Look
from koc_qt.ui.backtests.percentiles import Range, RangeChart
from koc_qt.ui.backtests.run_bar import TRUST_PILLS
from koc_qt.ui.backtests.small import heading
from koc_qt.ui.backtests.text_table import Cell, Head, TextTable
from koc_qt.ui.charts.ticks import price_text
from koc_qt.ui.panels.backtest_fields import Cells
from koc_qt.ui.theme import Theme, style_as

WORDS = {Verdict.GREEN: "passed", Verdict.AMBER: "read this", Verdict.RED: "failed", Verdict.NONE: "not made"}
TITLES = {
    Check.LOOKAHEAD: "Lookahead",
    Check.WARMUP: "Warm-up",
    Check.PARITY: "Parity of engines",
    Check.SHARPE: "Luck",
    Check.MONTE_CARLO: "Monte Carlo",
    Check.WALK_FORWARD: "Walk-forward",
}
_ABOUT = {
    Check.LOOKAHEAD: "The run again with the future cut off or replaced: what it decided before must stay the same",
    Check.WARMUP: "The run again with more and with less history before it",
    Check.PARITY: "The same strategy on every engine that supports it, fill by fill",
    Check.SHARPE: "The Sharpe ratio against what chance alone would give, deflated for the number of trials",
    Check.MONTE_CARLO: "Its trades in other orders, other candles, and parameters nearby",
    Check.WALK_FORWARD: "Parameters chosen on one stretch and tested on the next",
}
_CURVE_PX = 110
_FAN_PX = 132
_FAN_CELL_PX = 300

OpenLine = Callable[[int, str], None]  # a line of the strategy's file, and the sentence about it


class Card(QFrame):
    """One check: its verdict, what it is, why it came out so; `body` is for what it found."""

    def __init__(self, check: Check, verdict: Verdict, sentence: str, parent: QWidget) -> None:
        super().__init__(parent)
        self.verdict, self.sentence = verdict, sentence
        self.body = QVBoxLayout(self)
        self.body.setContentsMargins(0, 0, 0, 6)
        self.body.setSpacing(4)
        row = QHBoxLayout()
        row.setSpacing(8)
        title = heading(TITLES[check], self)
        title.setToolTip(_ABOUT[check])
        self.pill = QLabel(WORDS[verdict], self)
        style_as(self.pill, pill=TRUST_PILLS[verdict])
        row.addWidget(self.pill)
        row.addWidget(title)
        row.addStretch(1)
        self.body.addLayout(row)
        text = QLabel(sentence, self)
        text.setTextFormat(Qt.TextFormat.PlainText)
        text.setWordWrap(True)
        text.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self.body.addWidget(text)
        self.setAccessibleName(f"{TITLES[check]}: {WORDS[verdict]}")

    def note(self, text: str) -> None:
        """Say something small below what is there."""
        self.body.addWidget(_small(text, self))


def show_findings(card: Card, check: Check, report: TrustReport, theme: Theme, open_line: OpenLine) -> Iterator[None]:
    """Put what a check of the report found on its card, a part a step."""
    match check:
        case Check.LOOKAHEAD if report.lookahead is not None:
            _show_changes(card, report.lookahead, theme, open_line)
        case Check.WARMUP if report.warmup is not None:
            _show_changes(card, report.warmup, theme, open_line)
        case Check.PARITY if report.certificate is not None:
            _show_certificate(card, report.certificate, theme)
        case Check.SHARPE if report.sharpe is not None:
            _show_sharpe(card, report.sharpe)
        case Check.MONTE_CARLO if report.monte_carlo is not None:
            yield from _show_monte_carlo(card, report.monte_carlo, theme, report)
        case Check.WALK_FORWARD if report.walk_forward is not None:
            yield from _show_walk_forward(card, report.walk_forward, theme)
    yield


def _show_changes(card: Card, found: DecisionCheck, theme: Theme, open_line: OpenLine) -> None:
    """List the decisions that changed: a click shows the line that made one."""
    if not found.changes:
        return
    heads = (Head("Bar closed"), Head("Line", right=True), Head("Decided", grows=True), Head("Then", grows=True))
    rows = [
        (
            Cell(formats.date(each.time_ns), tip=formats.utc(each.time_ns)),
            Cell(formats.DASH if each.line is None else str(each.line), "accent", "Show this line"),
            Cell(each.before or "nothing"),
            Cell(each.after or "nothing"),
            Cell(str(each.variation), "muted"),
        )
        for each in found.changes
    ]
    table = _table(card, theme, "Decisions that changed", (*heads, Head("With")), rows)

    def opened(row: int) -> None:
        change = found.changes[row]
        if change.line is not None:
            open_line(change.line, change.sentence)

    table.opened.connect(opened)
    if found.change_count > len(found.changes):
        card.note(f"These are the first {len(found.changes):,} of {found.change_count:,}.")


def _show_certificate(card: Card, found: Certificate, theme: Theme) -> None:
    if found.comparisons:
        heads = (
            Head("Engine"),
            Head("Against"),
            Head("Fills equal", right=True),
            Head("Trades equal", right=True),
            Head("Largest difference", right=True),
            Head("", grows=True),
        )
        rows = [
            (
                Cell(each.source),
                Cell(each.against),
                Cell(f"{each.fills_equal:,} of {max(each.fills, each.fills_expected):,}"),
                Cell(f"{each.trades_equal:,} of {max(each.trades, each.trades_expected):,}"),
                Cell("0" if each.largest == 0 else f"{each.largest:.1e}"),
                Cell(each.first.sentence if each.first else "", _tone(each.verdict), each.sentence),
            )
            for each in found.comparisons
        ]
        _table(card, theme, "Engines held against each other", heads, rows)
    for absence in found.absent:
        card.note(absence.sentence)


def _show_sharpe(card: Card, found: SharpeCheck) -> None:
    facts = [
        ("Probability that it is above zero", formats.percent(found.probabilistic, 1)),
        ("Deflated for the trials", formats.percent(found.deflated, 1)),
        ("Trials made", f"{found.trials:,}"),
        ("Skewness", formats.money(found.skewness)),
        ("Excess kurtosis", formats.money(found.kurtosis)),
    ]
    card.note(" · ".join(f"{name} {value}" for name, value in facts if value != formats.DASH))


# ---- Monte Carlo ----------------------------------------------------------------------------------------------------


def _show_monte_carlo(card: Card, found: MonteCarlo, theme: Theme, report: TrustReport) -> Iterator[None]:
    """Show how far draws and runs lie apart, then how they went."""
    cash = report.spec.backtest.cash
    ranges = [
        *_ranges("in another order", found.shuffled, None),
        *_ranges("drawn again", found.bootstrapped, float(cash)),
    ]
    if found.candles is not None:
        ranges.append(Range("Return, other candles", found.candles))
    if found.jitter is not None:
        ranges.append(Range("Return, parameters nearby", found.jitter))
    if ranges:
        chart = RangeChart(theme, card)
        chart.show_ranges(ranges)
        card.body.addWidget(chart)
        card.note("Box: half of the draws · whiskers: nine in ten · line: the median · diamond: the run itself")
        yield
    fans = [(caption, fan) for caption, fan in _fans(found) if fan is not None and len(fan.times_ns) > 1]
    if not fans:
        return
    cells = Cells(_FAN_CELL_PX, card, most=2)
    card.body.addWidget(cells)
    decimals = money_decimals(cash)
    for caption, fan in fans:
        cell = QWidget(cells)
        column = QVBoxLayout(cell)
        column.setContentsMargins(0, 4, 0, 0)
        column.setSpacing(2)
        column.addWidget(_small(caption, cell))
        _add_chart(cell, column, f"Equity, {caption}", theme, [fan_pane(fan, decimals)], _FAN_PX)
        cells.add(cell)
        yield
    card.note("Light: nine in ten of them · dark: half of them · grey line: the median · coloured line: the run itself")
    if found.shuffled is not None:
        card.note("A trade that is drawn counts when the run's own trade in its place was closed")


def _fans(found: MonteCarlo) -> Iterator[tuple[str, Fan | None]]:
    for what, draws in (("Trades in another order", found.shuffled), ("Trades drawn again", found.bootstrapped)):
        if draws is not None:
            yield f"{what}, {draws.draws:,} times", draws.fan
    for what, unit, fan in (
        ("Other candles", "markets", found.candles_fan),
        ("Parameters nearby", "sets", found.jitter_fan),
    ):
        if fan is not None:
            yield f"{what}, {fan.count:,} {unit}", fan


def fan_pane(fan: Fan, decimals: int) -> Pane:
    """Give bands of equity, with the run itself on top where that is known."""
    bands = {
        percent: Curve.of(f"{percent} %", fan.times_ns, values, Look.EDGE)
        for percent, values in zip(PERCENTILES, fan.bands, strict=True)
    }
    low, lower, middle, upper, high = bands.values()
    median = Curve("Median", middle.times_ns, middle.values, Look.QUIET)
    seen = (Curve.of("Run", fan.times_ns, fan.observed, Look.LINE),) if fan.observed else ()
    curves = (*seen, median, low, high, lower, upper)
    return Pane(curves, lambda value: price_text(value, decimals), between=((low, high), (lower, upper)))


def _ranges(text: str, draws: TradeDraws | None, cash: float | None) -> list[Range]:
    """Give the drawdown of trades that were drawn, and with `cash` their return: in any order it is the same."""
    if draws is None:
        return []
    found = [Range(f"Drawdown, {text}", draws.drawdown, draws.observed_drawdown, is_loss=True)]
    if cash is not None:
        values = draws.final
        shares = tuple(each / cash - 1.0 for each in values.percentiles)
        scaled = Distribution(
            values.count, values.mean / cash - 1.0, values.lowest / cash - 1.0, values.highest / cash - 1.0, shares
        )
        found.insert(0, Range(f"Return, {text}", scaled, draws.observed_final / cash - 1.0))
    return found


# ---- walk-forward ---------------------------------------------------------------------------------------------------


def _show_walk_forward(card: Card, found: WalkForward, theme: Theme) -> Iterator[None]:
    if not found.windows:
        return
    heads = (
        Head("Chosen on"),
        Head("Tested on"),
        Head("In sample", right=True),
        Head("Out of sample", right=True),
        Head("Trades", right=True),
        Head("Parameters", grows=True),
    )
    rows = [
        (
            Cell(_span(each.window.since_ns, each.window.test_ns)),
            Cell(_span(each.window.test_ns, each.window.until_ns)),
            Cell(formats.percent(each.return_in, signed=True), _sign(each.return_in)),
            Cell(formats.percent(each.return_out, signed=True), _sign(each.return_out)),
            Cell(f"{each.trades_out:,}"),
            Cell(", ".join(f"{name} {value}" for name, value in each.parameters.items())),
        )
        for each in found.windows
    ]
    _table(card, theme, "Windows of the walk-forward analysis", heads, rows)
    yield
    _add_chart(card, card.body, "Return out of sample", theme, walk_panes(found), _CURVE_PX)


def walk_panes(found: WalkForward) -> list[Pane]:
    """Give what was earned out of sample, window after window, beside what was earned in sample; both added up."""
    first = found.windows[0].window.test_ns
    times = [first, *(each.window.until_ns for each in found.windows)]
    out, inside = [0.0], [0.0]
    for each in found.windows:
        length = (each.window.until_ns - each.window.test_ns) / max(each.window.test_ns - each.window.since_ns, 1)
        out.append(out[-1] + each.return_out)
        inside.append(inside[-1] + each.return_in * length)
    curves = (
        Curve.of("Out of sample", times, out),
        Curve.of("In sample, for the same time", times, inside, Look.QUIET),
    )
    return [Pane(curves, lambda value: formats.percent(value, signed=True), from_zero=True)]


# ---- pieces ---------------------------------------------------------------------------------------------------------


def _table(card: Card, theme: Theme, name: str, heads: Sequence[Head], rows: Sequence[tuple[Cell, ...]]) -> TextTable:
    table = TextTable(heads, theme, card, name=name)
    table.show_rows(rows)
    card.body.addWidget(table)
    return table


def _add_chart(
    parent: QWidget, column: QVBoxLayout, name: str, theme: Theme, panes: Sequence[Pane], height_px: int
) -> None:
    chart = CurveChart(parent)
    chart.setAccessibleName(name)
    chart.setFixedHeight(height_px)
    chart.follow(theme)
    chart.set_panes(panes)
    column.addWidget(chart)


def _small(text: str, parent: QWidget) -> QLabel:
    label = QLabel(text, parent)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setWordWrap(True)
    style_as(label, face="small", tone="muted")
    return label


def _span(since_ns: int, until_ns: int) -> str:
    show = formats.date if until_ns - since_ns < 3 * DAY_NS else _day
    return f"{show(since_ns)} – {show(until_ns)}"


def _day(time_ns: int) -> str:
    return formats.utc(time_ns)[:10]


def _sign(value: float) -> str:
    return "profit" if value > 0 else "loss" if value < 0 else ""


def _tone(verdict: Verdict) -> str:
    return {Verdict.RED: "danger", Verdict.AMBER: "warning"}.get(verdict, "muted")
