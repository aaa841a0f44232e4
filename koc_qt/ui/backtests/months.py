"""The months of a run in a table: a year a row, the returns coloured, and what the year came to."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt
from PySide6.QtGui import QAction, QColor, QFont, QGuiApplication, QKeySequence, QResizeEvent
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QVBoxLayout, QWidget

from koc_qt.ui import formats
from koc_qt.ui.backtests.curves import MONTH_NAMES
from koc_qt.ui.backtests.small import Elided
from koc_qt.ui.colors import mix
from koc_qt.ui.theme import Theme, number_font, style_as

_MONTH = re.compile(r"(\d{4})-(\d{2})", re.ASCII)
_ROW_PX = 25
_LEAST_PX, _MOST_PX = 48, 110  # of a column
_EXACT_PX = 62  # from which there is room for two decimals
_STRONGEST = 0.46  # share of the colour in the cell that is furthest from zero
_FAINTEST = 0.07
_YEAR = 12  # the column with the year's total
Index = QModelIndex | QPersistentModelIndex
_NONE = QModelIndex()


class Year(NamedTuple):
    """A year's months, January first; None for those that the run did not touch."""

    year: int
    months: tuple[float | None, ...]

    @property
    def total(self) -> float:
        """What the months come to, one after the other."""
        return math.prod(1.0 + each for each in self.months if each is not None) - 1.0


def years_of(months: Mapping[str, float]) -> list[Year]:
    """Give the years of returns by "YYYY-MM", the newest first; what is no month is left out."""
    rows: dict[int, list[float | None]] = {}
    for key, value in months.items():
        found = _MONTH.fullmatch(key)
        if found and 1 <= (month := int(found[2])) <= 12 and math.isfinite(value):
            rows.setdefault(int(found[1]), [None] * 12)[month - 1] = value
    return [Year(year, tuple(rows[year])) for year in sorted(rows, reverse=True)]


class MonthModel(QAbstractTableModel):
    """Years as rows, the twelve months and the total as columns."""

    def __init__(self, theme: Theme, parent: QObject) -> None:
        super().__init__(parent)
        self._theme = theme
        self.years: list[Year] = []
        self.decimals = 2
        self._most = 0.0  # the furthest from zero of all months
        self._font = number_font()
        self._bold = QFont(self._font)
        self._bold.setBold(True)
        theme.changed.connect(self._repaint)

    def show_months(self, months: Mapping[str, float]) -> None:
        """Show these returns, by "YYYY-MM"."""
        self.beginResetModel()
        self.years = years_of(months)
        self._most = max((abs(each) for year in self.years for each in year.months if each is not None), default=0.0)
        self.endResetModel()

    def value(self, row: int, column: int) -> float | None:
        """Give a month's return, or in the last column a year's."""
        year = self.years[row]
        return year.total if column == _YEAR else year.months[column]

    def _text(self, value: float) -> str:
        return formats.percent(value, self.decimals if abs(value) < 1 else 0, signed=self.decimals > 1)[:-2]

    def _repaint(self) -> None:
        if self.years:
            self.dataChanged.emit(self.index(0, 0), self.index(len(self.years) - 1, _YEAR))

    def rowCount(self, parent: Index = _NONE) -> int:  # noqa: N802 - Qt's name
        """Give the number of years."""
        return 0 if parent.isValid() else len(self.years)

    def columnCount(self, parent: Index = _NONE) -> int:  # noqa: N802 - Qt's name
        """Give the months and the total."""
        return 0 if parent.isValid() else _YEAR + 1

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Give text and colours of a cell."""
        if not index.isValid():
            return None
        column, value = index.column(), self.value(index.row(), index.column())
        colors = self._theme.colors
        match Qt.ItemDataRole(role):
            case Qt.ItemDataRole.DisplayRole:
                return "" if value is None else self._text(value)
            case Qt.ItemDataRole.ToolTipRole:
                name = "The whole year" if column == _YEAR else MONTH_NAMES[column]
                return f"{name} {self.years[index.row()].year}: {formats.percent(value, signed=True)}"
            case Qt.ItemDataRole.TextAlignmentRole:
                return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            case Qt.ItemDataRole.FontRole:
                return self._bold if column == _YEAR else self._font
            case Qt.ItemDataRole.ForegroundRole if column == _YEAR and value:
                return QColor(colors.profit if value > 0 else colors.loss)
            case Qt.ItemDataRole.BackgroundRole if column < _YEAR and value and self._most > 0:
                share = _FAINTEST + (_STRONGEST - _FAINTEST) * abs(value) / self._most
                return QColor(mix(colors.profit if value > 0 else colors.loss, colors.panel, share))
        return None

    def headerData(  # noqa: N802 - Qt's name
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Give months across, years down."""
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        if role != Qt.ItemDataRole.DisplayRole:
            return None
        if orientation is Qt.Orientation.Horizontal:
            return "Year" if section == _YEAR else MONTH_NAMES[section]
        return str(self.years[section].year) if section < len(self.years) else None


class MonthTable(QTableView):
    """The table; its columns share the room, and Ctrl+C copies what is selected."""

    def __init__(self, model: MonthModel, parent: QWidget) -> None:
        super().__init__(parent)
        self.setModel(model)
        self._months = model
        self.setAccessibleName("Monthly returns")
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ContiguousSelection)
        self.setCornerButtonEnabled(False)
        self.setTabKeyNavigation(False)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        for header in (self.horizontalHeader(), self.verticalHeader()):
            header.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
            header.setHighlightSections(False)
            header.setSectionsClickable(False)
        self.horizontalHeader().setMinimumSectionSize(_LEAST_PX)
        self.verticalHeader().setDefaultSectionSize(_ROW_PX)
        copy = QAction("&Copy", self)
        copy.setShortcut(QKeySequence(QKeySequence.StandardKey.Copy))
        copy.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)
        copy.triggered.connect(self.copy)
        self.addAction(copy)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.ActionsContextMenu)

    def copy(self) -> None:
        """Put the selected cells on the clipboard, as text that spreadsheets take."""
        rows: dict[int, list[str]] = {}
        for index in sorted(self.selectedIndexes(), key=lambda each: (each.row(), each.column())):
            rows.setdefault(index.row(), []).append(str(index.data()))
        if rows:
            QGuiApplication.clipboard().setText("\n".join("\t".join(cells) for cells in rows.values()) + "\n")

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Share the room among the columns."""
        super().resizeEvent(event)
        wide = self.viewport().width() // (_YEAR + 1)
        self._months.decimals = 2 if wide >= _EXACT_PX else 1
        self.horizontalHeader().setDefaultSectionSize(min(max(wide, _LEAST_PX), _MOST_PX))


class MonthsPage(QWidget):
    """The table with a line above: the best, the worst, and how many gained."""

    def __init__(self, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self.model = MonthModel(theme, self)
        self.summary = Elided("", self)
        self.summary.setContentsMargins(8, 5, 8, 5)
        style_as(self.summary, face="small", tone="muted")
        self.table = MonthTable(self.model, self)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.summary)
        column.addWidget(self.table, 1)

    def show_months(self, months: Mapping[str, float]) -> None:
        """Show these returns, by "YYYY-MM"."""
        self.model.show_months(months)
        self.summary.show_text(summary_of(self.model.years))
        self.table.setVisible(bool(self.model.years))


def summary_of(years: list[Year]) -> str:
    """Say in a line what the months were like."""
    known = [
        (value, f"{MONTH_NAMES[place]} {year.year}")
        for year in years
        for place, value in enumerate(year.months)
        if value is not None
    ]
    if not known:
        return "This run says nothing about its months. Run it again to have them."
    best, worst = max(known), min(known)
    gained = sum(value > 0 for value, _ in known)
    mean = math.fsum(value for value, _ in known) / len(known)
    return (
        f"{gained} of {len(known)} months gained · mean {formats.percent(mean, signed=True)} · best "
        f"{formats.percent(best[0], signed=True)} in {best[1]} · worst {formats.percent(worst[0], signed=True)} in "
        f"{worst[1]} · in %, by UTC"
    )
