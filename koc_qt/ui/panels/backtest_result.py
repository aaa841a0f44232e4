"""What came of a back-test: equity curve, statistics, trades, and what the strategy wrote."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QFrame,
    QGridLayout,
    QLabel,
    QPlainTextEdit,
    QScrollArea,
    QSizePolicy,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from koc_qt.domain.backtests import BacktestResult
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.timeframes import SECOND_NS, duration_ns
from koc_qt.ui import formats
from koc_qt.ui.bench import Bench
from koc_qt.ui.charts.colors import dark_colors, light_colors
from koc_qt.ui.charts.line_chart import LineChart
from koc_qt.ui.panels.backtest_fields import Cells
from koc_qt.ui.panels.backtest_rows import (
    CAPTIONS,
    GROUPS,
    TripRow,
    assumptions,
    money_decimals,
    statistic_text,
    statistic_tip,
    statistic_tone,
    trip_columns,
)
from koc_qt.ui.tables.model import RecordModel
from koc_qt.ui.tables.view import RecordTable
from koc_qt.ui.theme import code_font, number_font, style_as

TRADES_MOST = 20_000
MINUTE_NS = 60 * SECOND_NS
HEADLINE = ("net_profit", "return", "buy_and_hold", "max_drawdown", "sharpe", "win_rate", "trades")


class ResultView(QWidget):
    """Shows one result. `trade_opened` brings the RoundTrip that the person wants to see on a chart.

    Its widgets are made by `parts`, which whoever has it goes through before anything else.
    """

    trade_opened = Signal(object)

    def __init__(self, bench: Bench, parent: QWidget) -> None:
        super().__init__(parent)
        self._bench = bench
        self.result: BacktestResult | None = None
        self.values: dict[str, QLabel] = {}
        self.captions: dict[str, QLabel] = {}

    def parts(self) -> Iterator[None]:
        """Make the widgets, tab by tab."""
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        self.tabs = QTabWidget(self)
        self.tabs.setDocumentMode(True)
        whole.addWidget(self.tabs, 1)
        line = QFrame(self)
        line.setFrameShape(QFrame.Shape.HLine)
        whole.addWidget(line)
        self.assumptions = QLabel(self)
        self.assumptions.setTextFormat(Qt.TextFormat.PlainText)
        self.assumptions.setWordWrap(True)
        self.assumptions.setContentsMargins(8, 3, 8, 4)
        style_as(self.assumptions, face="small", tone="muted")
        whole.addWidget(self.assumptions)
        yield
        self._make_equity(self._page("Equity"))
        yield
        yield from self._make_statistics()
        self._make_trades(self._page("Trades"))
        yield
        self.log = QPlainTextEdit(self)
        self.tabs.addTab(self.log, "Log")
        self.log.setReadOnly(True)
        self.log.setFont(code_font())
        self.log.setPlaceholderText("The strategy wrote nothing")
        self.log.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.log.setAccessibleName("Log of the strategy")
        style_as(self.log, role="bare")
        self._bench.theme.changed.connect(self._wear_theme)
        self._wear_theme()

    def _page(self, title: str) -> QVBoxLayout:
        page = QWidget(self)
        page.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Ignored)
        self.tabs.addTab(page, title)
        column = QVBoxLayout(page)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        return column

    def _make_equity(self, column: QVBoxLayout) -> None:
        self.headline = QLabel(column.parentWidget())
        self.headline.setTextFormat(Qt.TextFormat.RichText)
        self.headline.setWordWrap(True)
        self.headline.setContentsMargins(8, 4, 8, 2)
        self.headline.setFont(number_font())
        column.addWidget(self.headline)
        self.chart = LineChart(column.parentWidget())
        self.chart.setAccessibleName("Equity")
        self.chart.set_empty_text("There is no equity curve")
        column.addWidget(self.chart, 1)

    def _make_statistics(self) -> Iterator[None]:
        scroll = QScrollArea(self)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.tabs.addTab(scroll, "Statistics")
        inside = QWidget(scroll.viewport())
        scroll.setWidget(inside)
        column = QVBoxLayout(inside)
        column.setContentsMargins(10, 6, 10, 8)
        cells = Cells(165, inside, most=3)
        cells.setContentsMargins(0, 0, 0, 0)
        column.addWidget(cells)
        column.addStretch(1)
        for title, names in GROUPS.items():
            yield from self._make_group(cells, title, names)

    def _make_group(self, cells: Cells, title: str, names: tuple[str, ...]) -> Iterator[None]:
        group = QWidget(cells)
        grid = QGridLayout(group)
        grid.setContentsMargins(0, 0, 4, 0)
        grid.setHorizontalSpacing(10)
        grid.setVerticalSpacing(2)
        grid.setColumnStretch(1, 1)
        heading = QLabel(title, group)
        font = heading.font()
        font.setBold(True)
        heading.setFont(font)
        grid.addWidget(heading, 0, 0, 1, 2)
        for row, name in enumerate(names, 1):
            caption, value = QLabel(CAPTIONS[name].text, group), QLabel(group)
            style_as(caption, tone="muted")
            value.setFont(number_font())
            value.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            value.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            value.setAccessibleName(CAPTIONS[name].text)
            grid.addWidget(caption, row, 0)
            grid.addWidget(value, row, 1)
            self.captions[name], self.values[name] = caption, value
        grid.setRowStretch(len(names) + 1, 1)
        cells.add(group)
        yield

    def _make_trades(self, column: QVBoxLayout) -> None:
        self.cut = QLabel(column.parentWidget())
        self.cut.setContentsMargins(8, 3, 8, 3)
        style_as(self.cut, face="small", tone="warning")
        self.cut.hide()
        column.addWidget(self.cut)
        theme = self._bench.theme
        self.trades: RecordModel[TripRow] = RecordModel(
            trip_columns(self._rules, self._moment), theme, self, limit=TRADES_MOST
        )
        self.table: RecordTable[TripRow] = RecordTable(
            self.trades, theme, column.parentWidget(), empty="It traded nothing"
        )
        self.table.setAccessibleName("Trades")
        self.table.opened.connect(lambda row: self.trade_opened.emit(row.trip))
        column.addWidget(self.table, 1)

    # ---- showing a result -------------------------------------------------------------------------------------------

    async def show_result(self, result: BacktestResult) -> None:
        """Show a result, a part at a time so that the loop breathes: each takes a few milliseconds at most."""
        self.result = result
        self._show_numbers()
        self._show_words(result)
        await asyncio.sleep(0)
        self._show_curve(result)
        await asyncio.sleep(0)
        self.trades.reset((number, TripRow(number, trip)) for number, trip in enumerate(result.trades, 1))
        self.table.scrollToTop()

    def _show_words(self, result: BacktestResult) -> None:
        self.log.setPlainText("\n".join(result.log))
        line, full = assumptions(result)
        self.assumptions.setText(line)
        self.assumptions.setToolTip(full)
        count = len(result.trades)
        self.tabs.setTabText(2, f"Trades ({count:,})" if count else "Trades")
        self.tabs.setTabText(3, f"Log ({len(result.log):,})" if result.log else "Log")
        self.table.setColumnHidden(1, len(result.spec.instruments) == 1)
        self._show_cut(result)

    def _show_cut(self, result: BacktestResult) -> None:
        """Say so where the engine keeps the first trades alone."""
        closed, still_open = (result.statistics.get(name) or 0 for name in ("trades", "open_trades"))
        total, shown = int(closed + still_open), len(result.trades)
        self.cut.setText(f"These are the first {shown:,} of {total:,} trades; the statistics count all of them.")
        self.cut.setVisible(total > shown)

    def _show_numbers(self) -> None:
        result = self.result
        if result is None:
            return
        currency, decimals = self._currency(result), money_decimals(result.spec.cash)
        for name, label in self.values.items():
            value = result.statistics.get(name)
            label.setText(statistic_text(name, value, currency, decimals))
            style_as(label, tone=statistic_tone(name, value))
            for each in (label, self.captions[name]):
                each.setToolTip(statistic_tip(name, value))
        colors = self._bench.theme.colors
        parts = []
        for name in HEADLINE:
            value = result.statistics.get(name)
            if value is None:
                continue
            tone = statistic_tone(name, value)
            text = statistic_text(name, value, currency, decimals).replace(" ", "&nbsp;")
            caption = CAPTIONS[name].text.replace(" ", "&nbsp;")
            parts.append(
                f'<span style="color:{colors.muted}">{caption}&nbsp;</span>'
                f'<span style="color:{getattr(colors, tone) if tone else colors.text}; font-weight:600">{text}</span>'
            )
        self.headline.setText(" &nbsp; ".join(parts))

    def _show_curve(self, result: BacktestResult) -> None:
        try:
            self.chart.set_decimals(money_decimals(result.spec.cash))
            self.chart.set_values(result.equity_ns, result.equity)
        except ValueError as error:
            self.chart.set_values([], [])
            self.chart.set_empty_text(f"The equity curve cannot be drawn: {error}")

    def _rules(self, instrument: InstrumentId) -> Instrument | None:
        return self._bench.desk.replica.instruments.get(instrument)

    def _moment(self, time_ns: int) -> str:
        """Write a time, with seconds where bars are that short."""
        is_short = self.result is not None and duration_ns(self.result.timeframe) % MINUTE_NS
        return formats.clock(time_ns) if is_short else formats.date(time_ns)

    def _currency(self, result: BacktestResult) -> str:
        rules = self._rules(result.spec.instruments[0])
        return rules.quote if rules is not None else ""

    def _wear_theme(self) -> None:
        self.chart.set_palette(dark_colors() if self._bench.theme.is_dark else light_colors())
        self._show_numbers()
