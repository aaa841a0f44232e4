"""The data panel: the history that is stored, downloads of more, and how the venues do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from PySide6.QtCore import QSize, Qt, QTimer
from PySide6.QtGui import QAction, QShowEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QScrollArea, QSplitter, QToolButton, QVBoxLayout, QWidget

from koc_qt.domain.errors import KocError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.state import JobState, StoredSeries
from koc_qt.domain.timeframes import duration_ns
from koc_qt.link.messages import ListSeries, StartDownload, StopDownload
from koc_qt.ui.bench import Bench, Panel
from koc_qt.ui.desk import Frame
from koc_qt.ui.errands import Errand
from koc_qt.ui.formats import date, size, utc
from koc_qt.ui.icons import icon
from koc_qt.ui.panels.data_form import DownloadForm
from koc_qt.ui.panels.data_parts import DownloadLine, VenueLine
from koc_qt.ui.tables.columns import Column
from koc_qt.ui.tables.model import RecordModel
from koc_qt.ui.tables.view import RecordTable
from koc_qt.ui.theme import number_font, style_as

LINES_SHOWN = 8  # downloads
LIST_PAUSE_MS = 500  # after a download's end, in which others may end too
START_TIMEOUT_S = 30.0  # a venue's symbols may have to be fetched first

COLUMNS: tuple[Column[StoredSeries], ...] = (
    Column("symbol", "Symbol", lambda s: s.instrument.symbol, width=12, tip=lambda s: str(s.instrument)),
    Column("timeframe", "Bars of", lambda s: s.timeframe, lambda s: duration_ns(s.timeframe), width=5),
    Column("since", "From", lambda s: _day(s.since_ns), lambda s: s.since_ns, width=13, tip=lambda s: utc(s.since_ns)),
    Column("until", "To", lambda s: _day(s.until_ns), lambda s: s.until_ns, width=13, tip=lambda s: utc(s.until_ns)),
    Column("bars", "Bars", lambda s: f"{s.bars:,}", lambda s: s.bars, right=True, width=10),
    Column("size", "Size", lambda s: size(s.size_bytes), lambda s: s.size_bytes, right=True, width=9),
    Column("venue", "Venue", lambda s: s.instrument.venue, width=8),
)


def _day(time_ns: int) -> str:
    """Give a moment's local day; the tooltip has it in full."""
    return date(time_ns).partition(" ")[0]


class DataPanel(Panel):
    """Stored series above; downloads, their form and the venues below."""

    NAME = "data"
    TITLE = "Data"
    ICON = "data"

    def __init__(
        self, bench: Bench, parent: QWidget | None = None, *, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        super().__init__(bench, parent)
        self._clock_ns = clock_ns
        self._listing = Errand(self.desk, self)
        self._starting = Errand(self.desk, self)
        self._is_stale = True  # whether the list is to be read before it is shown
        self._lines: dict[str, DownloadLine] = {}
        self._venue_lines: dict[str, VenueLine] = {}
        self._dismissed: set[str] = set()
        self._relist = QTimer(self)
        self._relist.setSingleShot(True)
        self._relist.setInterval(LIST_PAUSE_MS)
        self._relist.timeout.connect(self._list)
        self.make()

    # ---- making -----------------------------------------------------------------------------------------------------

    def parts(self) -> Iterator[None]:
        """Make the list of what is stored, then what is below it."""
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        splitter = QSplitter(Qt.Orientation.Vertical, self)
        splitter.setChildrenCollapsible(False)
        column.addWidget(splitter)
        yield from self._make_store(QWidget(splitter))
        yield
        yield from self._make_below(QScrollArea(splitter))
        yield
        splitter.setStretchFactor(0, 2)
        splitter.setStretchFactor(1, 3)
        splitter.setSizes([200, 300])
        self._connect()
        yield
        self._picked()
        self._show_store()
        self._show_all()

    def _connect(self) -> None:
        self.table.opened.connect(self._open)
        self.table.picked.connect(self._picked)
        self.form.wanted.connect(self._start)
        self.desk.framed.connect(self._on_frame)
        self.desk.linked.connect(self._linked)
        self.bench.requests.instrument_chosen.connect(self._looked_at)

    def _make_store(self, upper: QWidget) -> Iterator[None]:
        column = QVBoxLayout(upper)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        bar = QHBoxLayout()
        column.addLayout(bar)
        bar.setContentsMargins(10, 4, 6, 4)
        self.totals = QLabel(upper)
        self.totals.setFont(number_font())
        self.totals.setTextFormat(Qt.TextFormat.PlainText)
        self.totals.setWordWrap(True)
        style_as(self.totals, tone="muted")
        self.refresh = QToolButton(upper)
        self.refresh.setIcon(icon("refresh", self.bench.theme))
        self.refresh.setIconSize(QSize(16, 16))
        self.refresh.setToolTip("Read what is stored again")
        self.refresh.setAccessibleName("Refresh")
        self.refresh.clicked.connect(self._list)
        bar.addWidget(self.totals, 1)
        bar.addWidget(self.refresh)
        yield
        theme = self.bench.theme
        self.model: RecordModel[StoredSeries] = RecordModel(COLUMNS, theme, self, sort_by="symbol")
        self.table: RecordTable[StoredSeries] = RecordTable(self.model, theme, upper)
        self.table.setAccessibleName("Stored history")
        column.addWidget(self.table, 1)
        self._chart = self._action("chart", "Show its &chart", self._open_current)
        self._more = self._action("download", "&Download more of it", self._propose_current)

    def _make_below(self, area: QScrollArea) -> Iterator[None]:
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setMinimumHeight(120)
        self._content = content = QWidget(area.viewport())
        area.setWidget(content)
        column = QVBoxLayout(content)
        column.setContentsMargins(10, 8, 10, 8)
        column.setSpacing(8)
        column.addWidget(_caption("Download history", content))
        self.form = DownloadForm(self.desk, self.bench.theme, self._clock_ns, content)
        column.addWidget(self.form)
        yield from self.form.parts()
        yield
        self._downloads = QVBoxLayout()
        self._downloads.setSpacing(4)
        column.addLayout(self._downloads)
        self.more = QLabel(content)
        style_as(self.more, tone="muted", face="small")
        self.more.hide()
        column.addWidget(self.more)
        self._venue_caption = _caption("Venues", content)
        column.addWidget(self._venue_caption)
        self._venues = QVBoxLayout()
        self._venues.setSpacing(4)
        column.addLayout(self._venues)
        column.addStretch(1)

    def _action(self, name: str, text: str, run: Callable[[], None]) -> QAction:
        action = QAction(icon(name, self.bench.theme), text, self.table)
        action.triggered.connect(lambda _checked=False: run())
        self.table.addAction(action)
        return action

    # ---- what comes in ----------------------------------------------------------------------------------------------

    def _on_frame(self, frame: Frame) -> None:
        if frame.snapshot:
            self._is_stale = True
            self._dismissed.clear()  # another engine may give these names again
        if any(self.desk.replica.downloads[key].state is not JobState.RUNNING for key in frame.downloads):
            self._is_stale = True
        if self.isVisible():
            if frame.snapshot or frame.downloads:
                self._show_downloads()
            if frame.snapshot or frame.venues or frame.streams:
                self._show_venues()
            self._catch_up()
        if frame.snapshot or frame.instruments:
            self._propose_first()

    def _linked(self) -> None:
        if not self.desk.is_connected:
            self._show_store()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Catch up."""
        super().showEvent(event)
        self._show_all()
        self._catch_up()

    def _show_all(self) -> None:
        self._show_downloads()
        self._show_venues()
        self._propose_first()

    def _catch_up(self) -> None:
        """Read the list soon where it may be another now."""
        if self._is_stale and self.desk.is_connected and not self._relist.isActive():
            self._is_stale = False
            if self.model.total:
                self._relist.start()
            else:
                self._list()

    # ---- what is stored ---------------------------------------------------------------------------------------------

    def _list(self) -> None:
        """Read what is stored."""
        self.refresh.setEnabled(False)
        self._listing.start(self._read_list(), self._not_listed)

    async def _read_list(self) -> None:
        answer = await self.desk.request(ListSeries(), timeout_s=START_TIMEOUT_S)
        try:
            series = msgspec.convert(answer, list[StoredSeries])
        except msgspec.ValidationError as error:
            raise KocError(f"the engine's answer cannot be read: {error}") from error
        self.refresh.setEnabled(True)
        self.model.reset(((each.instrument, each.timeframe), each) for each in series)
        self._show_store()

    def _not_listed(self, error: KocError) -> None:
        self.refresh.setEnabled(True)
        self.totals.setText(f"What is stored cannot be read: {error}")
        style_as(self.totals, tone="danger")

    def _show_store(self) -> None:
        series = self.model.records
        if not self.desk.is_connected:
            self.table.set_empty_text("What is stored is shown when the engine is connected.")
        else:
            self.table.set_empty_text("Nothing is stored yet. What charts and back-tests fetch is kept here too.")
        bars, bytes_ = sum(each.bars for each in series), sum(each.size_bytes for each in series)
        self.totals.setText(
            f"{len(series)} series  ·  {bars:,} bars  ·  {size(bytes_)}" if series else "Stored history"
        )
        style_as(self.totals, tone="muted")

    def _picked(self) -> None:
        chosen = len(self.table.selected()) == 1
        self._chart.setEnabled(chosen)
        self._more.setEnabled(chosen)

    def _open(self, series: StoredSeries) -> None:
        self.bench.requests.open_chart(series.instrument, series.timeframe)

    def _open_current(self) -> None:
        for series in self.table.selected()[:1]:
            self._open(series)

    def _propose_current(self) -> None:
        for series in self.table.selected()[:1]:
            self.form.timeframe.setEditText(series.timeframe)
            self.form.propose(series.instrument)

    # ---- downloads --------------------------------------------------------------------------------------------------

    def _start(self, command: StartDownload) -> None:
        self._starting.start(self._ask_for(command), lambda error: self.form.refuse(str(error)))

    async def _ask_for(self, command: StartDownload) -> None:
        await self.desk.request(command, timeout_s=START_TIMEOUT_S)

    def _show_downloads(self) -> None:
        """Show those under way, and the newest that ended, until they are dismissed."""
        known = self.desk.replica.downloads
        wanted = [download for key, download in reversed(known.items()) if key not in self._dismissed]
        wanted.sort(key=lambda download: download.state is not JobState.RUNNING)
        shown = {download.download_id: download for download in wanted[:LINES_SHOWN]}
        for key in [key for key in self._lines if key not in shown]:
            line = self._lines.pop(key)
            line.hide()
            line.deleteLater()
        for key, download in shown.items():
            line = self._lines.get(key) or self._add_line(key)
            if line.download is not download:
                line.show_download(download)
        for place, key in enumerate(shown):
            if self._downloads.indexOf(self._lines[key]) != place:
                self._downloads.insertWidget(place, self._lines[key])
        left = len(wanted) - len(shown)
        self.more.setText(f"and {left} more")
        self.more.setVisible(left > 0)

    def _add_line(self, key: str) -> DownloadLine:
        line = self._lines[key] = DownloadLine(self.desk.replica.downloads[key], self.bench.theme, self._content)
        line.stop_wanted.connect(lambda download_id: self.desk.send(StopDownload(download_id), timeout_s=30.0))
        line.dismissed.connect(self._dismiss)
        return line

    def _dismiss(self, download_id: str) -> None:
        self._dismissed.add(download_id)
        self._show_downloads()

    def _propose_first(self) -> None:
        """Give the form a symbol to begin with."""
        instruments = self.desk.replica.instruments
        if instruments and not self.form.symbol.currentText():
            self.form.propose(next(iter(instruments)))

    def _looked_at(self, instrument: InstrumentId) -> None:
        """Follow what the person looks at elsewhere."""
        self.form.propose(instrument)

    # ---- venues -----------------------------------------------------------------------------------------------------

    def _show_venues(self) -> None:
        replica = self.desk.replica
        for name in [name for name in self._venue_lines if name not in replica.venues]:
            gone = self._venue_lines.pop(name)
            gone.hide()
            gone.deleteLater()
        for name, venue in replica.venues.items():
            if name not in self._venue_lines:
                line = self._venue_lines[name] = VenueLine(self._content)
                self._venues.addWidget(line)
            streams = [status for instrument, status in replica.streams.items() if instrument.venue == name]
            self._venue_lines[name].show_venue(venue, streams)
        self._venue_caption.setVisible(bool(replica.venues))

    # ---- memory -----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Give the columns, and what was last asked for."""
        return {"columns": self.table.column_state(), "form": self.form.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take them over."""
        columns, form = state.get("columns"), state.get("form")
        if isinstance(columns, dict):
            self.table.restore_columns(columns)
        if isinstance(form, dict):
            self.form.restore(form)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for the width of a side dock."""
        return QSize(340, 500)


def _caption(text: str, parent: QWidget) -> QLabel:
    label = QLabel(text, parent)
    style_as(label, face="title")
    return label
