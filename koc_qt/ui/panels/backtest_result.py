"""What came of a back-test, in tabs: overview, months, trades, what the strategy wrote, and what it was made from."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TypeVar

from PySide6.QtCore import Signal
from PySide6.QtGui import QIcon, QResizeEvent
from PySide6.QtWidgets import QFrame, QPlainTextEdit, QSizePolicy, QTabWidget, QVBoxLayout, QWidget

from koc_qt.domain.backtests import BacktestResult
from koc_qt.domain.trust import Verdict
from koc_qt.ui.backtests.months import MonthsPage
from koc_qt.ui.backtests.overview import OverviewPage
from koc_qt.ui.backtests.provenance import ProvenancePage
from koc_qt.ui.backtests.run_bar import TRUST_PILLS
from koc_qt.ui.backtests.small import Elided
from koc_qt.ui.backtests.trades import TradesPage
from koc_qt.ui.backtests.trust import TrustPage
from koc_qt.ui.backtests.words import assumptions
from koc_qt.ui.bench import Bench
from koc_qt.ui.icons import icon
from koc_qt.ui.theme import code_font, style_as

_ROOM_PX = 170  # height from which there is room for a line of assumptions
P = TypeVar("P", bound=QWidget)


class ResultView(QWidget):
    """Shows one result. `trade_opened` brings the RoundTrip that the person wants to see on a chart.

    `marks_toggled` says whether all its trades shall be marked there. Its widgets are made by `parts`, which whoever
    has it goes through before anything else.
    """

    trade_opened = Signal(object)
    marks_toggled = Signal(bool)

    def __init__(self, bench: Bench, parent: QWidget) -> None:
        super().__init__(parent)
        self._bench = bench
        self.result: BacktestResult | None = None

    def parts(self) -> Iterator[None]:
        """Make the widgets, tab by tab."""
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        self.tabs = QTabWidget(self)
        self.tabs.setDocumentMode(True)
        self.tabs.setUsesScrollButtons(True)
        whole.addWidget(self.tabs, 1)
        self.line = QFrame(self)
        self.line.setFrameShape(QFrame.Shape.HLine)
        whole.addWidget(self.line)
        self.assumptions = Elided("", self)
        self.assumptions.setContentsMargins(8, 3, 8, 4)
        style_as(self.assumptions, face="small", tone="muted")
        whole.addWidget(self.assumptions)
        yield
        theme = self._bench.theme
        self.overview = self._add(OverviewPage(theme, self), "Overview")
        yield from self.overview.parts()
        yield
        self.trust = self._add(TrustPage(theme, self), "Trust")
        self.trust.judged.connect(self._show_verdict)
        yield from self.trust.parts()
        yield
        self.months = self._add(MonthsPage(theme, self), "Months")
        yield
        self.trades = self._add(TradesPage(self._bench, self), "Trades")
        yield
        self.log = self._add(QPlainTextEdit(self), "Log")
        self.log.setReadOnly(True)
        self.log.setFont(code_font())
        self.log.setPlaceholderText("The strategy wrote nothing")
        self.log.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.log.setAccessibleName("Log of the strategy")
        style_as(self.log, role="bare")
        yield
        self.provenance = self._add(ProvenancePage(theme, self), "Settings")
        self.trades.trade_opened.connect(self.trade_opened)
        self.trades.marks_toggled.connect(self.marks_toggled)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Leave the assumptions to the tooltip of the tabs where there is little room."""
        super().resizeEvent(event)
        for widget in (self.line, self.assumptions):
            widget.setVisible(self.height() >= _ROOM_PX)

    def _add(self, page: P, title: str) -> P:
        page.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Ignored)
        self.tabs.addTab(page, title)
        return page

    async def show_result(self, result: BacktestResult) -> None:
        """Show a result, a part at a time so that the loop breathes: each takes a few milliseconds at most."""
        self.result = result
        self.overview.show_numbers(result, self.currency)
        await asyncio.sleep(0)
        self.overview.show_curves(result)
        await asyncio.sleep(0)
        self.trades.show_result(result)
        await asyncio.sleep(0)
        self._show_words(result)
        self.months.show_months(result.months)
        await asyncio.sleep(0)
        for _ in self.provenance.show_result(result):
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # whoever shows all of it does so in another turn

    def _show_verdict(self, verdict: Verdict | None) -> None:
        """Wear on the tab what the checks came to."""
        role = TRUST_PILLS[verdict] if verdict not in (None, Verdict.NONE) else ""
        place = self.tabs.indexOf(self.trust)
        self.tabs.setTabIcon(place, icon("shield", self._bench.theme, role) if role else QIcon())

    def _show_words(self, result: BacktestResult) -> None:
        self.log.setPlainText("\n".join(result.log))
        line, full = assumptions(result)
        self.assumptions.show_text(line, full)
        self.tabs.tabBar().setToolTip(full)
        self._name(self.trades, "Trades", len(result.trades))
        self._name(self.log, "Log", len(result.log))

    def _name(self, page: QWidget, title: str, count: int) -> None:
        """Say in a tab how much there is in it."""
        self.tabs.setTabText(self.tabs.indexOf(page), f"{title} ({count:,})" if count else title)

    @property
    def currency(self) -> str:
        """What the amounts of the result are in; empty where that is not known."""
        return "" if self.result is None else self.currency_of(self.result)

    def currency_of(self, result: BacktestResult) -> str:
        """Give what the amounts of a result are in; empty where that is not known."""
        rules = self._bench.desk.replica.instruments.get(result.spec.instruments[0])
        return rules.quote if rules is not None else ""
