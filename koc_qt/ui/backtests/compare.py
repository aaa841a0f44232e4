"""Several runs side by side: what they grew by in one picture, and their figures and settings in one table."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt, Signal
from PySide6.QtGui import QAction, QColor, QFont, QGuiApplication, QIcon, QKeySequence, QPixmap
from PySide6.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QTableView,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from koc_qt.domain.backtests import BacktestResult
from koc_qt.reports.words import ENGINES, asked, money_decimals
from koc_qt.ui import formats
from koc_qt.ui.backtests.curve_chart import CurveChart, Pane, own_color
from koc_qt.ui.backtests.curves import Curve, Look
from koc_qt.ui.backtests.splitter import ShapedSplitter
from koc_qt.ui.backtests.words import caption, groups, statistic_text, statistic_tip
from koc_qt.ui.colors import mix
from koc_qt.ui.icons import icon
from koc_qt.ui.theme import Theme, number_font, style_as

LESS_IS_BETTER = {
    "max_drawdown",
    "max_drawdown_s",
    "volatility",
    "fees",
    "ulcer_index",
    "value_at_risk",
    "expected_shortfall",
    "losing_run",
}
NEITHER = {  # of which nobody can say whether more of it is better
    "trades",
    "open_trades",
    "fills",
    "exposure",
    "turnover",
    "beta",
    "correlation",
    "kurtosis",
    "average_trade_s",
    "longest_trade_s",
    "kelly",
    "buy_and_hold",
}
_BEST_TINT = 0.20
_ROW_PX = 22
_SWATCH_PX = 10
_LEAST_PX, _CAPTION_PX = 86, 134
Index = QModelIndex | QPersistentModelIndex
_NONE = QModelIndex()


class Run(NamedTuple):
    """A run to compare: what people call it here, and what came of it."""

    label: str
    result: BacktestResult


def labelled(results: Sequence[BacktestResult], notes: Sequence[str]) -> list[Run]:
    """Name runs by a number and what tells them apart: note, engine, strategy, market or parameters."""
    parts: list[list[str]] = [
        [
            ENGINES[result.spec.engine],
            result.name,
            result.spec.instruments[0].symbol,
            result.timeframe,
            ", ".join(f"{name} {value}" for name, value in result.spec.parameters.items()),
        ]
        for result in results
    ]
    differing = [place for place in range(len(parts[0])) if len({each[place] for each in parts}) > 1]
    runs = []
    for number, (result, each, note) in enumerate(zip(results, parts, notes, strict=True), 1):
        said = [note, *(each[place] for place in differing)] if differing or note else [result.name]
        runs.append(Run(f"{number} {' · '.join(text for text in said if text)}".strip(), result))
    return runs


class Row(NamedTuple):
    """A line of the table: `best` are the columns with the best value; `title` has a text in its caption alone."""

    caption: str
    texts: tuple[str, ...]
    best: frozenset[int] = frozenset()
    tip: str = ""
    is_title: bool = False

    @property
    def differs(self) -> bool:
        """Whether the runs differ in it."""
        return len(set(self.texts)) > 1


def rows_of(runs: Sequence[Run]) -> list[Row]:
    """Give every setting and every statistic of these runs."""
    rows = [Row("Settings", (), is_title=True)]
    settings = [dict(asked(run.result)) for run in runs]
    rows += [Row(name, tuple(each.get(name, formats.DASH) for each in settings)) for name in settings[0]]
    names = dict.fromkeys(name for run in runs for name in run.result.spec.parameters)
    rows += [Row(name, tuple(_parameter(run, name) for run in runs)) for name in names]
    for title, figures in groups().items():
        rows.append(Row(title, (), is_title=True))
        rows += [_figures(name, runs) for name in figures]
    return rows


def _parameter(run: Run, name: str) -> str:
    parameters = run.result.spec.parameters
    return str(parameters[name]) if name in parameters else "as declared"


def _figures(name: str, runs: Sequence[Run]) -> Row:
    values = [run.result.statistics.get(name) for run in runs]
    decimals = [money_decimals(run.result.spec.cash) for run in runs]
    texts = tuple(statistic_text(name, value, "", n) for value, n in zip(values, decimals, strict=True))
    return Row(caption(name).text, texts, best_of(name, values), statistic_tip(name, 0.0))


def best_of(name: str, values: Sequence[float | None]) -> frozenset[int]:
    """Give the places of the best values; none where all are alike, or more of it is neither better nor worse."""
    known = [value for value in values if value is not None and value == value]
    if name in NEITHER or len(set(known)) < 2:
        return frozenset()
    best = min(known) if name in LESS_IS_BETTER else max(known)
    return frozenset(place for place, value in enumerate(values) if value == best)


class CompareModel(QAbstractTableModel):
    """Rows of captions and a column for each run."""

    def __init__(self, theme: Theme, parent: QObject) -> None:
        super().__init__(parent)
        self._theme = theme
        self._all: list[Row] = []
        self._labels: list[str] = []
        self.rows: list[Row] = []
        self._font = number_font()
        self._bold = QFont(self._font)
        self._bold.setBold(True)
        theme.changed.connect(self._repaint)

    def show_rows(self, rows: list[Row], labels: list[str], *, differing: bool) -> None:
        """Show these, or of them those alone in which the runs differ."""
        self.beginResetModel()
        self._all, self._labels = rows, labels
        kept = [row for row in rows if row.is_title or row.differs or not differing]
        following = [*kept[1:], Row("", (), is_title=True)]
        self.rows = [row for row, after in zip(kept, following, strict=True) if not (row.is_title and after.is_title)]
        self.endResetModel()

    def limit(self, *, differing: bool) -> None:
        """Show all rows, or those alone in which the runs differ."""
        self.show_rows(self._all, self._labels, differing=differing)

    def _repaint(self) -> None:
        if self.rows:
            self.dataChanged.emit(self.index(0, 0), self.index(len(self.rows) - 1, len(self._labels)))

    def rowCount(self, parent: Index = _NONE) -> int:  # noqa: N802 - Qt's name
        """Give the number of rows."""
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: Index = _NONE) -> int:  # noqa: N802 - Qt's name
        """Give the caption and the runs."""
        return 0 if parent.isValid() else len(self._labels) + 1

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Give text and look of a cell."""
        if not index.isValid():
            return None
        row, place = self.rows[index.row()], index.column() - 1
        text = row.caption if place < 0 else row.texts[place] if place < len(row.texts) else ""
        colors = self._theme.colors
        match Qt.ItemDataRole(role):
            case Qt.ItemDataRole.DisplayRole:
                return text
            case Qt.ItemDataRole.ToolTipRole:
                return row.tip if place < 0 and row.tip else text
            case Qt.ItemDataRole.TextAlignmentRole:
                side = Qt.AlignmentFlag.AlignLeft if place < 0 else Qt.AlignmentFlag.AlignRight
                return side | Qt.AlignmentFlag.AlignVCenter
            case Qt.ItemDataRole.FontRole:
                return self._bold if row.is_title or place in row.best else self._font
            case Qt.ItemDataRole.ForegroundRole if not row.is_title:
                is_quiet = place < 0 or not row.differs
                return QColor(colors.muted if is_quiet else colors.profit if place in row.best else colors.text)
            case Qt.ItemDataRole.BackgroundRole if place in row.best:
                return QColor(mix(colors.profit, colors.panel, _BEST_TINT))
        return None

    def headerData(  # noqa: N802 - Qt's name
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Give the runs, each with the colour of its curve."""
        if orientation is not Qt.Orientation.Horizontal or not 0 <= section <= len(self._labels):
            return None
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter  # so that the ends of long names are cut
        if section == 0:
            return None
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
            return self._labels[section - 1]
        if role == Qt.ItemDataRole.DecorationRole:
            picture = QPixmap(_SWATCH_PX, _SWATCH_PX)
            picture.fill(own_color(section - 1, self._theme.is_dark))
            return QIcon(picture)
        return None


class CompareTable(QTableView):
    """The table; Ctrl+C copies all of it."""

    def __init__(self, model: CompareModel, parent: QWidget) -> None:
        super().__init__(parent)
        self.setModel(model)
        self._compared = model
        self.setAccessibleName("Runs side by side")
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setShowGrid(False)
        self.setTabKeyNavigation(False)
        self.setWordWrap(False)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(_ROW_PX)
        header = self.horizontalHeader()
        header.setHighlightSections(False)
        header.setMinimumSectionSize(_LEAST_PX)
        copy = QAction("&Copy all", self)
        copy.setShortcut(QKeySequence(QKeySequence.StandardKey.Copy))
        copy.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)
        copy.triggered.connect(self.copy)
        self.addAction(copy)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.ActionsContextMenu)

    def fit(self) -> None:
        """Give captions what they need, and share the rest among the runs."""
        header = self.horizontalHeader()
        for section in range(header.count()):
            way = QHeaderView.ResizeMode.Interactive if section == 0 else QHeaderView.ResizeMode.Stretch
            header.setSectionResizeMode(section, way)
        header.resizeSection(0, _CAPTION_PX)

    def copy(self) -> None:
        """Put the table on the clipboard, as text that spreadsheets take."""
        model = self._compared
        heads = [str(model.headerData(n, Qt.Orientation.Horizontal) or "") for n in range(model.columnCount())]
        lines = ["\t".join(heads), *("\t".join([row.caption, *row.texts]) for row in model.rows)]
        QGuiApplication.clipboard().setText("\n".join(lines) + "\n")


class ComparePage(QWidget):
    """Curves above or at the left, the table below or at the right. `closed` says that the person has seen enough."""

    closed = Signal()

    def __init__(self, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self._theme = theme
        self.runs: tuple[Run, ...] = ()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        row = QHBoxLayout()
        row.setContentsMargins(6, 2, 8, 4)
        row.setSpacing(6)
        column.addLayout(row)
        self.back = QToolButton(self)
        self.back.setIcon(icon("left", theme))
        self.back.setToolTip("Back to the list of runs")
        self.back.setAccessibleName("Back to the list of runs")
        self.title = QLabel(self)
        self.title.setTextFormat(Qt.TextFormat.PlainText)
        style_as(self.title, tone="muted")
        self.differing = QCheckBox("Differences alone", self)
        self.differing.setChecked(True)
        row.addWidget(self.back)
        row.addWidget(self.title, 1)
        row.addWidget(self.differing)
        self.splitter = ShapedSplitter(self, wide_px=600, kept_px=400, tall_share=0.5)
        column.addWidget(self.splitter, 1)
        self.chart = CurveChart(self.splitter)
        self.chart.setAccessibleName("Growth of the runs")
        self.model = CompareModel(theme, self)
        self.table = CompareTable(self.model, self.splitter)
        self.splitter.keep(1)
        self.back.clicked.connect(lambda _checked: self.closed.emit())
        self.differing.toggled.connect(lambda on: self._limit(differing=on))
        self.chart.follow(theme)

    async def show_runs(self, runs: Sequence[Run], currency: str) -> None:
        """Show two runs or more, the curves in a turn of the loop of their own; amounts are in `currency`."""
        self.runs = tuple(runs)
        labels = [run.label for run in runs]
        self.title.setText(f"{len(runs)} runs side by side" + (f" · amounts in {currency}" if currency else ""))
        self.model.show_rows(rows_of(runs), labels, differing=self.differing.isChecked())
        self.table.fit()
        await asyncio.sleep(0)
        self.chart.set_panes(panes_of(runs))

    def _limit(self, *, differing: bool) -> None:
        self.model.limit(differing=differing)
        self.table.fit()


def panes_of(runs: Sequence[Run]) -> list[Pane]:
    """Give what each grew by, and how far each was below its best; curves that are none are left out."""
    grown, fallen = [], []
    for number, run in enumerate(runs, 1):
        try:
            curve = Curve.of(str(number), run.result.equity_ns, run.result.equity, Look.OWN)
        except ValueError:
            continue
        grown.append(curve.growth())
        fallen.append(curve.drawdown())
    return [
        Pane(tuple(grown), lambda value: formats.percent(value, signed=True), from_zero=True),
        Pane(tuple(fallen), formats.percent, 0.4, is_under=True),
    ]
