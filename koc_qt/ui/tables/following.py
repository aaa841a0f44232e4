"""A list of lines that follows its end until one scrolls up."""

from __future__ import annotations

from PySide6.QtCore import QAbstractItemModel, Qt, Signal
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QWidget


class FollowingTable(QTableView):
    """Follows the newest line while `follows`; scrolling up pauses it, scrolling to the end goes on.

    `following_changed` says that `follows` is another now. Whoever has the model calls `keep_place` when lines have
    made way at the top.
    """

    following_changed = Signal()

    def __init__(self, model: QAbstractItemModel, row_px: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._by_itself = False
        self.follows = True
        self.setModel(model)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerItem)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setTabKeyNavigation(False)
        self.horizontalHeader().hide()
        self.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        rows = self.verticalHeader()
        rows.hide()
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        rows.setMinimumSectionSize(row_px)
        rows.setDefaultSectionSize(row_px)
        self.verticalScrollBar().valueChanged.connect(self._scrolled)
        self.verticalScrollBar().rangeChanged.connect(self._range_changed)

    def set_follows(self, follows: bool) -> None:
        """Follow the newest line, or stay where one is."""
        changed = follows != self.follows
        self.follows = follows  # before it moves: what was not laid out yet is then, and makes it longer
        if follows:
            self._to_end()
        if changed:
            self.following_changed.emit()

    def show_row(self, row: int) -> None:
        """Bring a row into sight and choose it, without taking that for a wish to follow or not."""
        self._by_itself = True
        self.setCurrentIndex(self.model().index(row, 0))
        self.scrollTo(self.model().index(row, 0), QAbstractItemView.ScrollHint.PositionAtCenter)
        self._by_itself = False

    def keep_place(self, rows: int) -> None:
        """Keep what is read in its place, as so many older lines made way."""
        if not self.follows:
            self._by_itself = True
            bar = self.verticalScrollBar()
            bar.setValue(max(bar.value() - rows, 0))
            self._by_itself = False

    def _to_end(self) -> None:
        before, self._by_itself = self._by_itself, True  # what is laid out on the way there calls this again
        self.verticalScrollBar().setValue(self.verticalScrollBar().maximum())
        self._by_itself = before

    def _scrolled(self, value: int) -> None:
        if not self._by_itself:
            self.set_follows(value >= self.verticalScrollBar().maximum())

    def _range_changed(self) -> None:
        if self.follows:
            self._to_end()
