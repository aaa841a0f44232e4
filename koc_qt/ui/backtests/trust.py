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

from koc_qt.domain.state import JobState
from koc_qt.domain.trust import Check, TrustSnapshot, Verdict
from koc_qt.domain.trust_report import TrustReport
from koc_qt.ui.backtests.findings import TITLES, WORDS, Card, show_findings
from koc_qt.ui.backtests.run_bar import TRUST_PILLS
from koc_qt.ui.icons import icon
from koc_qt.ui.theme import Theme, style_as

_OVERALL = {
    Verdict.GREEN: "Nothing speaks against this result",
    Verdict.AMBER: "Believe this result with care",
    Verdict.RED: "Do not believe this result",
    Verdict.NONE: "Nothing could be checked",
}
_NO_FILL = "It made no trade: there is nothing to believe"
_WIDE_PX = 480  # from which the buttons stand beside the words
_SHORT_PX = 150  # height below which there is room for one row alone


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
        self._text = ""

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
            is_idle = trust.verdict is Verdict.NONE and Verdict.GREEN in trust.verdicts.values()
            self._stand(trust.verdict, (_NO_FILL if is_idle else _OVERALL[trust.verdict]) + failed)

    def _stand(self, verdict: Verdict | None, text: str, *, progress: float | None = None) -> None:
        self._is_running = progress is not None
        self.judged.emit(verdict)
        self.badge.setVisible(verdict is not None)
        if verdict is not None:
            self.badge.setText(WORDS[verdict])
            style_as(self.badge, pill=TRUST_PILLS[verdict])
        self._text = text
        self._say()
        style_as(self.summary, tone=None if verdict is not None else "muted")
        self.progress.setVisible(progress is not None)
        self.progress.setValue(round(1_000 * (progress or 0.0)))
        self.check.setText("Stop" if self._is_running else "Check again" if verdict is not None else "Check")

    def _say(self) -> None:
        """Say how the checks stand, and what of the run was left out for want of time: "Check again" looks at all."""
        scope = self._shown.scope if self._shown is not None and not self._is_running else None
        self.summary.setText(self._text if scope is None else f"{self._text}. {scope.sentence}")

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
        """Show what the checks found, a part a step."""
        self._clear()
        self._shown = report
        self._say()
        yield
        found = {
            Check.LOOKAHEAD: report.lookahead,
            Check.WARMUP: report.warmup,
            Check.PARITY: report.certificate,
            Check.SHARPE: report.sharpe,
            Check.MONTE_CARLO: report.monte_carlo,
            Check.WALK_FORWARD: report.walk_forward,
        }
        for check, result in found.items():
            if result is not None:
                card = self._add(check, result.verdict, result.sentence)
                yield from show_findings(card, check, report, self._theme, self.line_wanted.emit)
            elif (reason := report.failed.get(str(check))) is not None:
                self._add(check, Verdict.NONE, f"It could not be made: {reason}")
                yield

    def _add(self, check: Check, verdict: Verdict, sentence: str) -> Card:
        card = self.cards[check] = Card(check, verdict, sentence, self._inside)
        self._cards.insertWidget(self._cards.count() - 1, card)
        return card

    @property
    def report(self) -> TrustReport | None:
        """What is shown."""
        return self._shown

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
