"""What came of a run at a glance: the figures that matter most, equity and drawdown, and every statistic in groups."""

from __future__ import annotations

from collections.abc import Iterator

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QLabel, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from koc_qt.domain.backtests import BacktestResult
from koc_qt.reports.words import money_decimals
from koc_qt.ui import formats
from koc_qt.ui.backtests.curve_chart import CurveChart, Pane
from koc_qt.ui.backtests.curves import Curve, Look
from koc_qt.ui.backtests.small import Elided, heading
from koc_qt.ui.backtests.splitter import ShapedSplitter
from koc_qt.ui.backtests.words import caption, groups, statistic_text, statistic_tip, statistic_tone
from koc_qt.ui.charts.ticks import price_text
from koc_qt.ui.panels.backtest_fields import Cells
from koc_qt.ui.theme import Theme, number_font, style_as

HEADLINE = ("net_profit", "return", "buy_and_hold", "max_drawdown", "sharpe", "win_rate", "trades")
_UNDER_SHARE = 0.32  # of the equity pane
_GROUP_PX = 215
_WIDE_PX = 520  # from which the statistics stand beside the chart
_CHART_PX, _ALL_PX = 100, 230  # heights from which there is room for a chart, and statistics below


class Tile(QWidget):
    """A figure below its caption."""

    def __init__(self, text: str, parent: QWidget) -> None:
        super().__init__(parent)
        self.caption, self.value = QLabel(text, self), QLabel(self)
        style_as(self.caption, face="small", tone="muted")
        font = number_font()
        font.setBold(True)
        self.value.setFont(font)
        self.value.setTextFormat(Qt.TextFormat.PlainText)
        self.value.setAccessibleName(text)
        self.value.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.caption)
        column.addWidget(self.value)

    def show_value(self, text: str, tone: str | None, tip: str) -> None:
        """Show this."""
        self.value.setText(text)
        style_as(self.value, tone=tone)
        for each in (self.caption, self.value):
            each.setToolTip(tip)


class TileRow(QWidget):
    """Tiles in one row: as many as there is room for, the first before the others."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._tiles: list[Tile] = []
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(8, 5, 8, 5)
        self._row.setSpacing(8)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def add(self, text: str) -> Tile:
        """Add one with this caption."""
        tile = Tile(text, self)
        self._tiles.append(tile)
        self._row.addWidget(tile, 1)
        return tile

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Show those that fit."""
        super().resizeEvent(event)
        self.fit()

    def fit(self) -> None:
        """Show as many as there is room for, after a text has changed too."""
        room = self.width() - 8
        for place, tile in enumerate(self._tiles):
            room -= tile.sizeHint().width() + 8
            tile.setVisible(place == 0 or room >= 0)


class StatisticsView(QScrollArea):
    """Every statistic, in groups that lie beside each other where there is room. Its widgets are made by `parts`."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.values: dict[str, QLabel] = {}
        self.captions: dict[str, Elided] = {}
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setAccessibleName("Statistics")

    def parts(self) -> Iterator[None]:
        """Make a group a step."""
        inside = QWidget(self.viewport())
        self.setWidget(inside)
        column = QVBoxLayout(inside)
        column.setContentsMargins(10, 6, 10, 8)
        cells = Cells(_GROUP_PX, inside, most=4)
        column.addWidget(cells)
        column.addStretch(1)
        for title, names in groups().items():
            self._make_group(cells, title, names)
            yield

    def _make_group(self, cells: Cells, title: str, names: tuple[str, ...]) -> None:
        group = QWidget(cells)
        grid = QGridLayout(group)
        grid.setContentsMargins(0, 0, 4, 4)
        grid.setHorizontalSpacing(10)
        grid.setVerticalSpacing(2)
        grid.setColumnStretch(0, 1)
        grid.addWidget(heading(title, group), 0, 0, 1, 2)
        for row, name in enumerate(names, 1):
            text, value = Elided(caption(name).text, group), QLabel(group)
            style_as(text, tone="muted")
            value.setFont(number_font())
            value.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            value.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            value.setAccessibleName(caption(name).text)
            grid.addWidget(text, row, 0)
            grid.addWidget(value, row, 1)
            self.captions[name], self.values[name] = text, value
        grid.setRowStretch(len(names) + 1, 1)
        cells.add(group)

    def show_result(self, result: BacktestResult, currency: str) -> None:
        """Show the statistics of this run; amounts are in `currency`."""
        decimals = money_decimals(result.spec.cash)
        for name, label in self.values.items():
            value = result.statistics.get(name)
            label.setText(statistic_text(name, value, currency, decimals))
            style_as(label, tone=statistic_tone(name, value))
            label.setToolTip(statistic_tip(name, value))
            self.captions[name].show_text(caption(name).text, statistic_tip(name, value))

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for little: it scrolls."""
        return QSize(150, 40)


class OverviewPage(QWidget):
    """Figures above, equity and statistics below. Its widgets are made by `parts`."""

    def __init__(self, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self._theme = theme
        self._result: BacktestResult | None = None
        self._currency = ""
        self.tiles: dict[str, Tile] = {}

    def parts(self) -> Iterator[None]:
        """Make the figures, the chart, then the statistics."""
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        self.headline = TileRow(self)
        for name in HEADLINE:
            self.tiles[name] = self.headline.add(caption(name).text)
        column.addWidget(self.headline)
        yield
        self.splitter = ShapedSplitter(self, wide_px=_WIDE_PX, kept_px=254, tall_share=0.42)
        column.addWidget(self.splitter, 1)
        self.chart = CurveChart(self.splitter)
        self.chart.setAccessibleName("Equity")
        self.chart.set_empty_text("There is no equity curve")
        self.statistics = StatisticsView(self.splitter)
        self.splitter.keep(1)
        self.chart.follow(self._theme)
        yield
        yield from self.statistics.parts()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Leave out what there is no room for: the statistics first, then the chart."""
        super().resizeEvent(event)
        is_wide = self.width() >= _WIDE_PX
        self.splitter.setVisible(self.height() >= _CHART_PX)
        self.statistics.setVisible(is_wide or self.height() >= _ALL_PX)

    def show_numbers(self, result: BacktestResult, currency: str) -> None:
        """Show figures and statistics of this run."""
        self._result, self._currency = result, currency
        decimals = money_decimals(result.spec.cash)
        for name, tile in self.tiles.items():
            value = result.statistics.get(name)
            text = statistic_text(name, value, currency, decimals)
            tile.show_value(text, statistic_tone(name, value), statistic_tip(name, value))
        self.headline.fit()
        self.statistics.show_result(result, currency)

    def show_curves(self, result: BacktestResult) -> None:
        """Show equity, what it is held against, and how far it was below its best."""
        decimals = money_decimals(result.spec.cash)
        try:
            self.chart.set_panes(panes_of(result, decimals))
            self.chart.set_empty_text("There is no equity curve")
        except ValueError as error:
            self.chart.set_empty_text(f"The equity curve cannot be drawn: {error}")
            self.chart.set_panes([])


def panes_of(result: BacktestResult, decimals: int) -> list[Pane]:
    """Give equity with its benchmark, and the drawdown below. Raises ValueError for curves that are none."""
    equity = Curve.of("Equity", result.equity_ns, result.equity)
    curves = [equity]
    if result.benchmark:
        curves.append(Curve.of("Buy and hold", result.equity_ns, result.benchmark, Look.QUIET))
    return [
        Pane(tuple(curves), lambda value: price_text(value, decimals)),
        Pane((drawdown_of(equity),), formats.percent, _UNDER_SHARE, is_under=True),
    ]


def drawdown_of(equity: Curve) -> Curve:
    """Give the drawdown under that name."""
    fallen = equity.drawdown()
    return Curve("Drawdown", fallen.times_ns, fallen.values, Look.GAIN)
