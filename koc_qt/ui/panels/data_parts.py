"""Lines of the data panel: a download that is under way, and a venue."""

from __future__ import annotations

from collections.abc import Iterable

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import (
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from koc_qt.domain.market import StreamState, StreamStatus
from koc_qt.domain.state import DownloadSnapshot, JobState, VenueSnapshot, VenueState
from koc_qt.ui.formats import date, percent
from koc_qt.ui.icons import icon
from koc_qt.ui.theme import Theme, number_font, style_as

_STEPS = 1_000  # of a progress bar
_VENUE_LOOKS = {
    VenueState.CONNECTED: ("Connected", "profit"),
    VenueState.CONNECTING: ("Connecting", "info"),
    VenueState.INTERRUPTED: ("Interrupted", "warning"),
    VenueState.DISCONNECTED: ("Not connected", "danger"),
}
_BREAKERS = {"open": "left alone for a while after failures", "half-open": "being tried again after failures"}
_STREAMS_NAMED = 3


class DownloadLine(QWidget):
    """How far a download is. `stop_wanted` and `dismissed` bring its id."""

    stop_wanted = Signal(str)
    dismissed = Signal(str)

    def __init__(self, download: DownloadSnapshot, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self._theme = theme
        self.download = download
        self.title = QLabel(self)
        self.title.setTextFormat(Qt.TextFormat.PlainText)
        self.title.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.figures = QLabel(self)
        self.figures.setFont(number_font())
        style_as(self.figures, tone="muted")
        self.bar = QProgressBar(self)
        self.bar.setRange(0, _STEPS)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(6)
        style_as(self.bar, face="small")
        self.reason = QLabel(self)
        self.reason.setTextFormat(Qt.TextFormat.PlainText)
        self.reason.setWordWrap(True)
        self.button = QToolButton(self)
        self.button.setIconSize(QSize(14, 14))
        self.button.clicked.connect(self._pressed)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 4)
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(3)
        grid.setColumnStretch(0, 1)
        grid.addWidget(self.title, 0, 0)
        grid.addWidget(self.figures, 0, 1)
        grid.addWidget(self.button, 0, 2)
        grid.addWidget(self.bar, 1, 0, 1, 3)
        grid.addWidget(self.reason, 2, 0, 1, 3)
        self.show_download(download)

    def show_download(self, download: DownloadSnapshot) -> None:
        """Show how far it is now."""
        self.download = download
        running = download.state is JobState.RUNNING
        self.title.setText(f"{download.instrument}  {download.timeframe}")
        self.title.setToolTip(f"{date(download.since_ns)} to {date(download.until_ns)}, local time")
        bars = f"{download.bars:,} bar{'s'[: download.bars != 1]}"
        self.figures.setText(
            f"{percent(download.progress, 0)}  ·  {bars}" if running else f"{_ENDED[download.state]}  ·  {bars}"
        )
        self.bar.setValue(round(download.progress * _STEPS))
        self.bar.setVisible(running)
        self.bar.setAccessibleName(f"{self.title.text()}: {percent(download.progress, 0)}")
        self.reason.setText(download.reason)
        self.reason.setVisible(bool(download.reason))
        style_as(self.reason, tone="danger" if download.state is JobState.FAILED else "muted", face="small")
        style_as(self.figures, tone=_TONES[download.state])
        tip = "Stop; what was fetched is kept" if running else "Dismiss"
        if self.button.toolTip() != tip:
            self.button.setIcon(icon("stop" if running else "close", self._theme))
            self.button.setToolTip(tip)
            self.button.setAccessibleName(f"{tip.partition(';')[0]} {self.title.text()}")

    def _pressed(self) -> None:
        if self.download.state is JobState.RUNNING:
            self.stop_wanted.emit(self.download.download_id)
        else:
            self.dismissed.emit(self.download.download_id)


_ENDED = {JobState.RUNNING: "", JobState.DONE: "Done", JobState.FAILED: "Failed", JobState.STOPPED: "Stopped"}
_TONES = {JobState.RUNNING: "muted", JobState.DONE: "profit", JobState.FAILED: "danger", JobState.STOPPED: "warning"}


def _said_of(stream: StreamStatus) -> str:
    """Say of a stream that it does not flow, or that it comes late."""
    if stream.state is StreamState.CONNECTED:
        return f"{stream.instrument.symbol} {stream.reason}"
    return f"{stream.instrument.symbol} {stream.state}" + (f" ({stream.reason})" if stream.reason else "")


class VenueLine(QWidget):
    """Whether a venue can be used, and which of its streams do not flow."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.pill = QLabel(self)
        self.pill.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.name = QLabel(self)
        self.name.setTextFormat(Qt.TextFormat.PlainText)
        self.count = QLabel(self)
        self.count.setFont(number_font())
        style_as(self.count, tone="muted")
        self.words = QLabel(self)
        self.words.setTextFormat(Qt.TextFormat.PlainText)
        self.words.setWordWrap(True)
        self.words.setMinimumWidth(40)
        style_as(self.words, tone="muted", face="small")
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(self.pill)
        head.addWidget(self.name)
        head.addStretch(1)
        head.addWidget(self.count)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addLayout(head)
        column.addWidget(self.words)

    def show_venue(self, venue: VenueSnapshot, streams: Iterable[StreamStatus]) -> None:
        """Show what is so now; `streams` are those of this venue."""
        words, look = _VENUE_LOOKS[venue.state]
        self.name.setText(venue.venue)
        self.pill.setText(words)
        style_as(self.pill, pill=look)
        parts = [venue.reason] if venue.reason else []
        if venue.breaker in _BREAKERS:
            parts.append(_BREAKERS[venue.breaker])
        odd = [stream for stream in streams if stream.state is not StreamState.CONNECTED or stream.reason]
        parts += [_said_of(stream) for stream in odd[:_STREAMS_NAMED]]
        if len(odd) > _STREAMS_NAMED:
            parts.append(f"{len(odd) - _STREAMS_NAMED} more")
        self.words.setText("; ".join(parts))
        self.words.setVisible(bool(parts))
        self.count.setText(f"{venue.streams} stream{'s'[: venue.streams != 1]}")
