"""What to fetch into the store: an instrument, a length of bars, a range of time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from koc_qt.domain.errors import BadTimeframe, InvalidOrder
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.timeframes import duration_ns
from koc_qt.link.messages import StartDownload
from koc_qt.ui.desk import Desk
from koc_qt.ui.icons import icon
from koc_qt.ui.panels.backtest_fields import Cells, Field, TimeframeField
from koc_qt.ui.panels.backtest_span import SpanPicker
from koc_qt.ui.symbols import SymbolPicker
from koc_qt.ui.theme import Theme, style_as


class DownloadForm(QWidget):
    """`wanted` brings a StartDownload that makes sense as far as the window can tell.

    Its widgets are made by `parts`, which whoever has it goes through before anything else.
    """

    wanted = Signal(object)

    def __init__(self, desk: Desk, theme: Theme, clock_ns: Callable[[], int], parent: QWidget) -> None:
        super().__init__(parent)
        self._desk = desk
        self._theme = theme
        self._clock_ns = clock_ns
        self._refusal = ""

    def parts(self) -> Iterator[None]:
        """Make the widgets in the order in which they are seen, and connect them at the end."""
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        self.symbol_field = Field("Symbol", self)
        self.symbol = self.symbol_field.hold(SymbolPicker(self._desk, self.symbol_field))
        column.addWidget(self.symbol_field)
        yield
        short = Cells(86, self, most=3)
        column.addWidget(short)
        self.timeframe_field = TimeframeField(short)
        self.timeframe = self.timeframe_field.box
        short.add(self.timeframe_field)
        yield
        self.span_field = Field("Range", short)
        self.span = self.span_field.hold(SpanPicker(self.span_field))
        yield from self.span.parts()
        yield
        self.span.propose(self._clock_ns())
        self.span.follow(self.timeframe_field.text)
        short.add(self.span_field, 2)
        yield
        foot = QHBoxLayout()
        column.addLayout(foot)
        self.hint = QLabel(self)
        self.hint.setTextFormat(Qt.TextFormat.PlainText)
        self.hint.setWordWrap(True)
        style_as(self.hint, face="small", tone="muted")
        self.start = QPushButton("Download", self)
        self.start.setIcon(icon("download", self._theme, "on_fill"))
        style_as(self.start, role="primary")
        foot.addWidget(self.hint, 1)
        foot.addWidget(self.start, 0, Qt.AlignmentFlag.AlignTop)
        yield
        self.symbol.changed.connect(self._edited)
        self.timeframe.editTextChanged.connect(self._timeframe_edited)
        self.span.changed.connect(self._edited)
        self.start.clicked.connect(self._ask)
        self._desk.linked.connect(self.judge)
        self.judge()

    # ---- for the panel ----------------------------------------------------------------------------------------------

    def propose(self, instrument: InstrumentId) -> None:
        """Show an instrument, unless the person is typing one."""
        if not self.symbol.hasFocus():
            self.symbol.set_instrument(instrument)
            self._edited()

    def refuse(self, reason: str) -> None:
        """Say why the engine did not begin."""
        self._refusal = reason
        self.judge()

    def state(self) -> dict[str, Any]:
        """Give what the person chose."""
        instrument = self.symbol.instrument()
        return {
            "symbol": "" if instrument is None else str(instrument),
            "timeframe": self.timeframe.currentText(),
            "span": self.span.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take that over, as far as it makes sense."""
        symbol, timeframe, span = state.get("symbol"), state.get("timeframe"), state.get("span")
        if isinstance(symbol, str):
            with suppress(InvalidOrder):
                self.symbol.set_instrument(InstrumentId.parse(symbol))
        if isinstance(timeframe, str) and _is_timeframe(timeframe):
            self.timeframe.setEditText(timeframe)
        if isinstance(span, dict):
            self.span.restore(span)
        self.judge()

    # ---- inside -----------------------------------------------------------------------------------------------------

    def command(self) -> StartDownload | None:
        """Give what is asked for; None while something is missing or wrong, which `judge` says."""
        instrument, timeframe = self.symbol.instrument(), self.timeframe_field.text
        if instrument is None or not _is_timeframe(timeframe):
            return None
        since_ns, until_ns = self.span.span(self._clock_ns(), timeframe)
        until_ns = min(until_ns, self._clock_ns())
        return StartDownload(instrument, timeframe, since_ns, until_ns) if since_ns < until_ns else None

    def _timeframe_edited(self, text: str) -> None:
        self.span.follow(text.strip())
        self._edited()

    def _edited(self) -> None:
        self._refusal = ""
        self.judge()

    def judge(self) -> None:
        """Say what would be fetched, or what is missing."""
        timeframe = self.timeframe_field.text
        is_timeframe = _is_timeframe(timeframe)
        command = self.command()
        self.symbol_field.set_problem(self.symbol.problem())
        self.timeframe_field.set_problem("" if is_timeframe else "Write a number and s, m, h, d or w, such as 5m")
        wrong_span = is_timeframe and self.symbol.instrument() is not None and command is None
        self.span_field.set_problem("It must end after it begins, and begin in the past" if wrong_span else "")
        words, tone = "", "muted"
        if self._refusal:
            words, tone = self._refusal, "danger"
        elif not self._desk.is_connected:
            words = "There is no connection to the engine."
        elif command is not None:
            bars = (command.until_ns - command.since_ns) // duration_ns(timeframe)
            words = f"Up to {bars:,} bars; what is stored already is not fetched again."
        elif self.symbol.instrument() is None and not self.symbol.problem():
            words = "Choose a symbol."
        self.hint.setText(words)
        style_as(self.hint, tone=tone)
        self.start.setEnabled(command is not None and self._desk.is_connected)

    def _ask(self) -> None:
        self._refusal = ""
        command = self.command()
        if command is not None:
            self.wanted.emit(command)
        self.judge()


def _is_timeframe(text: str) -> bool:
    try:
        duration_ns(text.strip())
    except BadTimeframe:
        return False
    return True
