"""How far a result can be believed: each check with its verdict, the sentence that explains it, and what it found."""

from __future__ import annotations

from collections.abc import Iterator

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import (
    QBoxLayout,
    QCheckBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from koc_qt.domain.lookahead import DecisionCheck
from koc_qt.domain.monte_carlo import Distribution, MonteCarlo, TradeDraws
from koc_qt.domain.parity import Certificate
from koc_qt.domain.state import JobState
from koc_qt.domain.timeframes import DAY_NS
from koc_qt.domain.trust import Check, TrustSnapshot, Verdict
from koc_qt.domain.trust_report import SharpeCheck, TrustReport
from koc_qt.domain.walk_forward import WalkForward
from koc_qt.ui import formats
from koc_qt.ui.backtests.curve_chart import CurveChart, Pane
from koc_qt.ui.backtests.curves import Curve, Look
from koc_qt.ui.backtests.percentiles import Range, RangeChart
from koc_qt.ui.backtests.run_bar import TRUST_PILLS
from koc_qt.ui.backtests.small import heading
from koc_qt.ui.backtests.text_table import Cell, Head, TextTable
from koc_qt.ui.icons import icon
from koc_qt.ui.theme import Theme, style_as

_WORDS = {Verdict.GREEN: "passed", Verdict.AMBER: "read this", Verdict.RED: "failed", Verdict.NONE: "not made"}
_OVERALL = {
    Verdict.GREEN: "Nothing speaks against this result",
    Verdict.AMBER: "Believe this result with care",
    Verdict.RED: "Do not believe this result",
    Verdict.NONE: "Nothing could be checked",
}
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
_WIDE_PX = 480  # from which the buttons stand beside the words
_SHORT_PX = 150  # height below which there is room for one row alone
_CURVE_PX = 110


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
        self.pill = QLabel(_WORDS[verdict], self)
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
        self.setAccessibleName(f"{TITLES[check]}: {_WORDS[verdict]}")


class TrustPage(QWidget):
    """Whether to believe a run. Its widgets are made by `parts`.

    `check_wanted` asks for the checks, `stop_wanted` that they end, and `line_wanted` brings the number of a line of
    the strategy's file and the sentence about it. `every` says whether each new run shall be checked by itself.
    """

    check_wanted = Signal()
    stop_wanted = Signal()
    line_wanted = Signal(int, str)
    judged = Signal(object)  # the worst Verdict of the run, or None

    def __init__(self, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self._theme = theme
        self.cards: dict[Check, Card] = {}
        self._shown: TrustReport | None = None

    def parts(self) -> Iterator[None]:
        """Make the line above, then the room for the checks."""
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        self._above = above = QBoxLayout(QBoxLayout.Direction.LeftToRight)
        above.setContentsMargins(8, 5, 8, 5)
        above.setSpacing(6)
        words, row = QHBoxLayout(), QHBoxLayout()
        words.setSpacing(8)
        row.setSpacing(8)
        above.addLayout(words, 1)
        above.addLayout(row)
        column.addLayout(above)
        self.badge = QLabel(self)
        style_as(self.badge, pill="neutral")
        self.summary = QLabel(self)
        self.summary.setTextFormat(Qt.TextFormat.PlainText)
        self.summary.setWordWrap(True)
        self.progress = QProgressBar(self)
        self.progress.setRange(0, 1_000)
        self.progress.setAccessibleName("Progress of the checks")
        self.progress.setMaximumWidth(160)
        self.every = QCheckBox("Automatic", self)
        self.every.setToolTip("Check each run of this window as soon as it is done")
        self.every.setChecked(True)
        self.check = QPushButton("Check", self)
        self.check.setIcon(icon("shield", self._theme))
        words.addWidget(self.badge)
        words.addWidget(self.summary, 1)
        row.addWidget(self.progress)
        row.addWidget(self.every)
        row.addStretch(1)
        row.addWidget(self.check)
        yield
        self._scroll = scroll = QScrollArea(self)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        column.addWidget(scroll, 1)
        self._inside = QWidget(scroll.viewport())
        scroll.setWidget(self._inside)
        self._cards = QVBoxLayout(self._inside)
        self._cards.setContentsMargins(10, 4, 10, 8)
        self._cards.setSpacing(8)
        self._cards.addStretch(1)
        self._is_running = False
        self.check.clicked.connect(
            lambda _checked: (self.stop_wanted if self._is_running else self.check_wanted).emit()
        )
        self.show_none("")

    # ---- how it stands ----------------------------------------------------------------------------------------------

    def show_none(self, text: str) -> None:
        """Say that nothing was checked, and why."""
        self._stand(None, text or "Not checked yet: lookahead, warm-up, parity, luck, Monte Carlo, walk-forward")
        self._clear()

    def show_state(self, trust: TrustSnapshot) -> None:
        """Show how far the checks are."""
        if trust.state is JobState.RUNNING:
            stage = TITLES[Check(trust.stage)] if trust.stage in list(Check) else "Waiting"
            self._stand(None, f"{stage}… {trust.runs:,} runs so far", progress=trust.progress)
        else:
            failed = "" if trust.state is JobState.DONE else f" ({trust.reason or trust.state.value})"
            self._stand(trust.verdict, _OVERALL[trust.verdict] + failed)

    def _stand(self, verdict: Verdict | None, text: str, *, progress: float | None = None) -> None:
        self._is_running = progress is not None
        self.judged.emit(verdict)
        self.badge.setVisible(verdict is not None)
        if verdict is not None:
            self.badge.setText(_WORDS[verdict])
            style_as(self.badge, pill=TRUST_PILLS[verdict])
        self.summary.setText(text)
        style_as(self.summary, tone=None if verdict is not None else "muted")
        self.progress.setVisible(progress is not None)
        self.progress.setValue(round(1_000 * (progress or 0.0)))
        self.check.setText("Stop" if self._is_running else "Check again" if verdict is not None else "Check")

    def set_enabled(self, is_possible: bool) -> None:
        """Say whether checks can be asked for now."""
        self.check.setEnabled(is_possible)

    # ---- what was found ---------------------------------------------------------------------------------------------

    def _clear(self) -> None:
        self._shown = None
        for card in self.cards.values():
            card.hide()
            card.deleteLater()
        self.cards.clear()

    def show_report(self, report: TrustReport) -> Iterator[None]:
        """Show what the checks found, a check a step."""
        self._clear()
        self._shown = report
        yield
        makers = {
            Check.LOOKAHEAD: (report.lookahead, self._show_changes),
            Check.WARMUP: (report.warmup, self._show_changes),
            Check.PARITY: (report.certificate, self._show_certificate),
            Check.SHARPE: (report.sharpe, self._show_sharpe),
            Check.MONTE_CARLO: (report.monte_carlo, self._show_monte_carlo),
            Check.WALK_FORWARD: (report.walk_forward, self._show_walk_forward),
        }
        for check, (found, show) in makers.items():
            if found is not None:
                card = self._add(check, found.verdict, found.sentence)
                show(card, found)  # type: ignore[operator]  # each with what belongs to it
            elif (reason := report.failed.get(str(check))) is not None:
                self._add(check, Verdict.NONE, f"It could not be made: {reason}")
            else:
                continue
            yield

    def _add(self, check: Check, verdict: Verdict, sentence: str) -> Card:
        card = self.cards[check] = Card(check, verdict, sentence, self._inside)
        self._cards.insertWidget(self._cards.count() - 1, card)
        return card

    @property
    def report(self) -> TrustReport | None:
        """What is shown."""
        return self._shown

    def _show_changes(self, card: Card, found: DecisionCheck) -> None:
        """List the decisions that changed: a click shows the line that made one."""
        if not found.changes:
            return
        heads = (Head("Bar closed"), Head("Line", right=True), Head("Decided", grows=True), Head("Then", grows=True))
        table = TextTable((*heads, Head("With")), self._theme, card, name="Decisions that changed")
        table.show_rows(
            [
                (
                    Cell(formats.date(each.time_ns), tip=formats.utc(each.time_ns)),
                    Cell(formats.DASH if each.line is None else str(each.line), "accent", "Show this line"),
                    Cell(each.before or "nothing"),
                    Cell(each.after or "nothing"),
                    Cell(str(each.variation), "muted"),
                )
                for each in found.changes
            ]
        )
        table.opened.connect(lambda row: self._open_line(found, row))
        card.body.addWidget(table)
        if found.change_count > len(found.changes):
            self._note(card, f"These are the first {len(found.changes):,} of {found.change_count:,}.")

    def _open_line(self, found: DecisionCheck, row: int) -> None:
        change = found.changes[row]
        if change.line is not None:
            self.line_wanted.emit(change.line, change.sentence)

    def _show_certificate(self, card: Card, found: Certificate) -> None:
        if found.comparisons:
            heads = (
                Head("Engine"),
                Head("Against"),
                Head("Fills equal", right=True),
                Head("Trades equal", right=True),
                Head("Largest difference", right=True),
                Head("", grows=True),
            )
            table = TextTable(heads, self._theme, card, name="Engines held against each other")
            table.show_rows(
                [
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
            )
            card.body.addWidget(table)
        for absence in found.absent:
            self._note(card, f"{absence.source} took no part: {absence.reason}")

    def _show_sharpe(self, card: Card, found: SharpeCheck) -> None:
        facts = [
            ("Probability that it is above zero", formats.percent(found.probabilistic, 1)),
            ("Deflated for the trials", formats.percent(found.deflated, 1)),
            ("Trials made", f"{found.trials:,}"),
            ("Skewness", formats.money(found.skewness)),
            ("Excess kurtosis", formats.money(found.kurtosis)),
        ]
        self._note(card, " · ".join(f"{name} {value}" for name, value in facts if value != formats.DASH))

    def _show_monte_carlo(self, card: Card, found: MonteCarlo) -> None:
        ranges = [
            *_ranges("in another order", found.shuffled, None),
            *_ranges("drawn again", found.bootstrapped, self._cash()),
        ]
        if found.candles is not None:
            ranges.append(Range("Return, other candles", found.candles))
        if found.jitter is not None:
            ranges.append(Range("Return, parameters nearby", found.jitter))
        if ranges:
            chart = RangeChart(self._theme, card)
            chart.show_ranges(ranges)
            card.body.addWidget(chart)
            self._note(
                card, "Box: half of the draws · whiskers: nine in ten · line: the median · diamond: the run itself"
            )

    def _cash(self) -> float | None:
        return None if self._shown is None else float(self._shown.spec.backtest.cash)

    def _show_walk_forward(self, card: Card, found: WalkForward) -> None:
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
        table = TextTable(heads, self._theme, card, name="Windows of the walk-forward analysis")
        table.show_rows(
            [
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
        )
        card.body.addWidget(table)
        chart = CurveChart(card)
        chart.setAccessibleName("Return out of sample")
        chart.setFixedHeight(_CURVE_PX)
        chart.follow(self._theme)
        chart.set_panes(walk_panes(found))
        card.body.addWidget(chart)

    def _note(self, card: Card, text: str) -> None:
        note = QLabel(text, card)
        note.setTextFormat(Qt.TextFormat.PlainText)
        note.setWordWrap(True)
        style_as(note, face="small", tone="muted")
        card.body.addWidget(note)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Put the buttons below the words where there is little room."""
        super().resizeEvent(event)
        ways, is_short = QBoxLayout.Direction, self.height() < _SHORT_PX
        is_row = self.width() >= _WIDE_PX or is_short
        self._above.setDirection(ways.LeftToRight if is_row else ways.TopToBottom)
        self.every.setVisible(self.width() >= _WIDE_PX or not is_short)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for little: it scrolls."""
        return QSize(180, 60)


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


def _span(since_ns: int, until_ns: int) -> str:
    show = formats.date if until_ns - since_ns < 3 * DAY_NS else _day
    return f"{show(since_ns)} – {show(until_ns)}"


def _day(time_ns: int) -> str:
    return formats.utc(time_ns)[:10]


def _sign(value: float) -> str:
    return "profit" if value > 0 else "loss" if value < 0 else ""


def _tone(verdict: Verdict) -> str:
    return {Verdict.RED: "danger", Verdict.AMBER: "warning"}.get(verdict, "muted")
