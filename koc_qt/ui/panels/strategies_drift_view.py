"""How far a strategy is from its back-test: the verdict, what was compared, and where the gap comes from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLayout,
    QScrollArea,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from koc_qt.domain.drift import shares
from koc_qt.domain.trust import DriftReport, GapCause
from koc_qt.link.replica import Replica
from koc_qt.ui import formats
from koc_qt.ui.backtests.text_table import Cell, Head, TextTable
from koc_qt.ui.panels.backtest_fields import WheelGuard
from koc_qt.ui.panels.strategies_drift import MEASURING, NEVER, DriftKeeper, drift_look, drift_text
from koc_qt.ui.tables.columns import tone_of_sign
from koc_qt.ui.theme import Theme, style_as

_SIZE_PX = (560, 520)
_NONE_KNOWN = "There is no strategy yet: start one, and see here whether it does live what it does in a back-test"
_NOTE = "Amounts are in the quote currency. Shares are of all that moved the profit, up or down."
CAUSES: dict[str, tuple[str, str]] = {
    GapCause.DATA: ("Data", "history has other bars than it saw"),
    GapCause.LATENCY: ("Latency", "the price had moved when its orders came"),
    GapCause.SLIPPAGE: ("Slippage", "filled at other prices than the bar's opening"),
    GapCause.SIZE: ("Size", "other quantities were filled"),
    GapCause.FEES: ("Fees", "other fees were paid"),
    GapCause.MISSED: ("Missed signals", "orders that it did not make live"),
    GapCause.ADDITIONAL: ("Additional trades", "orders that the back-test does not make"),
}


class DriftDialog(QDialog):
    """Shows one strategy at a time, of all that the engine knows or has measured. Its widgets are made by `parts`.

    `again_wanted` brings the id of a strategy that shall be measured; `chosen` says that another one is shown.
    """

    again_wanted = Signal(str)
    chosen = Signal()
    FACTS: ClassVar[tuple[str, ...]] = ("Measured", "Compared", "Bars", "Orders", "Live", "Back-test", "Gap")

    def __init__(self, replica: Replica, keeper: DriftKeeper, theme: Theme, measure: QAction, parent: QWidget) -> None:
        super().__init__(parent)
        self._replica, self._keeper, self._theme, self._measure = replica, keeper, theme, measure
        self._known: list[str] = []
        self.setWindowTitle("Drift")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.resize(*_SIZE_PX)

    def parts(self) -> Iterator[None]:
        """Make what is above, then what scrolls, and dress all of it: what is dressed when it is shown takes longer."""
        column = QVBoxLayout(self)
        row = QHBoxLayout()
        self.box = QComboBox(self)
        self.box.setAccessibleName("Strategy")
        self.box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.box.setMinimumContentsLength(10)
        WheelGuard(self).watch(self.box)
        self.again = QToolButton(self)
        self.again.setText("Measure now")
        self.again.setIcon(self._measure.icon())
        self.again.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        row.addWidget(self.box, 1)
        row.addWidget(self.again)
        column.addLayout(row)
        yield
        scroll = QScrollArea(self)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        column.addWidget(scroll, 1)
        inside = QWidget(scroll.viewport())
        scroll.setWidget(inside)
        yield from self._fill(inside)
        self.box.activated.connect(self._chosen)
        self.again.clicked.connect(lambda _checked: self.again_wanted.emit(self.shown))
        for widget in self.findChildren(QWidget):
            yield
            widget.ensurePolished()

    def _fill(self, inside: QWidget) -> Iterator[None]:
        column = QVBoxLayout(inside)
        column.setContentsMargins(10, 8, 10, 8)
        column.setSpacing(8)
        row = QHBoxLayout()
        self.pill = QLabel(inside)
        self.sentence = self._words(inside)
        row.addWidget(self.pill, 0, Qt.AlignmentFlag.AlignTop)
        row.addWidget(self.sentence, 1)
        column.addLayout(row)
        self.trouble = self._words(inside)
        style_as(self.trouble, tone="danger")
        column.addWidget(self.trouble)
        yield
        self._details = QWidget(inside)
        grid = QGridLayout(self._details)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setColumnStretch(1, 1)
        self.facts: dict[str, QLabel] = {}
        for number, name in enumerate(self.FACTS):
            title = QLabel(name, self._details)
            style_as(title, tone="muted")
            self.facts[name] = self._words(self._details)
            grid.addWidget(title, number, 0, Qt.AlignmentFlag.AlignTop)
            grid.addWidget(self.facts[name], number, 1)
        column.addWidget(self._details)
        yield
        heads = (Head("Part"), Head("Amount", right=True), Head("Share", right=True), Head("It is", grows=True))
        self.table = TextTable(heads, self._theme, inside, name="What the gap is made of")
        column.addWidget(self.table)
        self._note = self._words(inside)
        self._note.setText(_NOTE)
        style_as(self._note, face="small", tone="muted")
        column.addWidget(self._note)
        column.addStretch(1)

    def _words(self, parent: QWidget) -> QLabel:
        label = QLabel(parent)
        label.setTextFormat(Qt.TextFormat.PlainText)
        label.setWordWrap(True)
        label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        return label

    # ---- what is shown ----------------------------------------------------------------------------------------------

    @property
    def shown(self) -> str:
        """The id of the strategy that is shown; empty where there is none."""
        return str(self.box.currentData() or "")

    def show_strategy(self, strategy_id: str = "") -> None:
        """Show this one, or the one that was shown before."""
        self._list()
        row = self.box.findData(strategy_id)
        if row >= 0:
            self.box.setCurrentIndex(row)
        self._show()

    def renew(self) -> None:
        """Show what is known by now."""
        self.show_strategy()

    def allow(self, is_connected: bool) -> None:
        """Say whether anything can be measured: there is an engine, and it knows the strategy still."""
        reason = ""
        if not is_connected:
            reason = "There is no connection to the engine"
        elif self.shown not in self._replica.strategies:
            reason = "The engine does not know this strategy any more" if self.shown else "There is no strategy yet"
        elif self._keeper.is_busy:
            reason = "Strategies are being measured"
        self.again.setEnabled(not reason)
        self.again.setToolTip(reason or "Run it once more as a back-test, on the bars that it saw, and compare")

    def adjust(self) -> None:
        """Divide the room now, not when it is shown."""
        for layout in self.findChildren(QLayout):
            layout.activate()

    def _list(self) -> None:
        """List what the engine knows, and after it those that ended long ago and were measured once."""
        strategies = self._replica.strategies
        ended = sorted(set(self._replica.drift) - set(strategies))
        known = [*sorted(strategies), *ended]
        if known == self._known:
            return
        self._known, before = known, self.shown
        self.box.clear()
        for key in known:
            self.box.addItem(key if key in strategies else f"{key} (ended)", key)
            self.box.setItemData(self.box.count() - 1, key, Qt.ItemDataRole.ToolTipRole)
        self.box.setCurrentIndex(max(self.box.findData(before), 0) if known else -1)

    def _chosen(self, _row: int) -> None:
        self._show()
        self.chosen.emit()

    def _show(self) -> None:
        key = self.shown
        report, is_measured = self._replica.drift.get(key), self._keeper.is_measured(key)
        self.box.setEnabled(bool(key))
        self.box.setToolTip(key)
        self.pill.setText(drift_text(report, is_measured))
        self.pill.setVisible(bool(self.pill.text()))
        style_as(self.pill, pill=drift_look(report, is_measured))
        told = _NONE_KNOWN if not key else NEVER if report is None else report.sentence
        self.sentence.setText(MEASURING if is_measured else told)
        style_as(self.sentence, tone="muted" if report is None or is_measured else None)
        self.trouble.setText(self._keeper.trouble)
        self.trouble.setVisible(bool(self._keeper.trouble))
        has_parts = report is not None and bool(report.parts)
        self._details.setVisible(report is not None)
        self.table.setVisible(has_parts)
        self._note.setVisible(has_parts)
        if report is not None:
            self._show_report(report)

    def _show_report(self, report: DriftReport) -> None:
        texts = dict(zip(self.FACTS, facts_of(report), strict=True))
        grid = self._details.layout()
        assert isinstance(grid, QGridLayout)  # noqa: S101 (for the type checker)
        for number, (name, label) in enumerate(self.facts.items()):
            label.setText(texts[name])
            title = grid.itemAtPosition(number, 0)
            for widget in (label, title.widget() if title is not None else None):
                if widget is not None:
                    widget.setVisible(bool(texts[name]))
        self.facts["Measured"].setToolTip(formats.utc(report.measured_ns))
        style_as(self.facts["Gap"], tone=tone_of_sign(round(report.gap, 2)))
        parts = shares(report.parts)
        rows = [_row(name, report.parts[name], share) for name, share in parts.items()]
        together = Cell(formats.signed_money(report.gap), tone_of_sign(round(report.gap, 2)) or "")
        self.table.show_rows([*rows, (Cell("Together"), together, Cell(""), Cell("the gap"))])


def facts_of(report: DriftReport) -> tuple[str, ...]:
    """Give when it was measured, and what was compared; of one that could not be measured the first alone."""
    measured = formats.date(report.measured_ns)
    if not report.parts:
        return (measured, *[""] * 6)
    changed = f", of which {report.bars_changed:,} are others in history by now" if report.bars_changed else ""
    return (
        measured,
        f"{formats.date(report.since_ns)} – {formats.date(report.until_ns)}, on {report.account_id}",
        f"{report.bars:,} that it saw{changed}",
        f"{report.executions:,} live, {report.executions_expected:,} in the back-test, {report.matched:,} in both",
        formats.signed_money(report.live_pnl),
        formats.signed_money(report.test_pnl),
        formats.signed_money(report.gap),
    )


def _row(name: str, value: float, share: float) -> tuple[Cell, ...]:
    title, meaning = CAUSES.get(name, (name.capitalize(), ""))
    tone = tone_of_sign(round(value, 2)) or "muted"
    shown = formats.percent(share, 0) if value else formats.DASH
    return Cell(title), Cell(formats.signed_money(value), tone), Cell(shown, "" if value else "muted"), Cell(meaning)
