"""What to fetch into the store: an instrument, a length of bars, a range of time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from koc_qt.domain.errors import BadTimeframe, InvalidOrder
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.timeframes import duration_ns
from koc_qt.link.messages import StartDownload
from koc_qt.ui.desk import Desk
from koc_qt.ui.icons import icon
from koc_qt.ui.panels.backtest_fields import Cells, Field, WheelGuard
from koc_qt.ui.panels.backtest_span import SpanPicker
from koc_qt.ui.symbols import SymbolPicker
from koc_qt.ui.theme import Theme, style_as
from koc_qt.ui.timeframe_choices import TIMEFRAMES


class DownloadForm(QWidget):
    """`wanted` brings a StartDownload that makes sense as far as the window can tell."""

    wanted = Signal(object)

    def __init__(self, desk: Desk, theme: Theme, clock_ns: Callable[[], int]) -> None:
        super().__init__()
        self._desk = desk
        self._clock_ns = clock_ns
        self._refusal = ""
        guard = WheelGuard(self)
        self.symbol = SymbolPicker(desk)
        self.symbol_field = Field("Symbol", self.symbol)
        self.timeframe = QComboBox()
        self.timeframe.setEditable(True)
        self.timeframe.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.timeframe.addItems(list(TIMEFRAMES))
        self.timeframe.setEditText("1m")
        self.timeframe.setMinimumContentsLength(4)
        self.timeframe.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        guard.watch(self.timeframe)
        self.timeframe_field = Field(
            "Timeframe", self.timeframe, tip="Length of a bar: a whole number and s, m, h, d or w"
        )
        self.span = SpanPicker()
        self.span.propose(clock_ns())
        self.span.follow("1m")
        self.span_field = Field("Range", self.span)
        self.start = QPushButton("Download")
        self.start.setIcon(icon("download", theme, "on_fill"))
        style_as(self.start, role="primary")
        self.hint = QLabel()
        self.hint.setTextFormat(Qt.TextFormat.PlainText)
        self.hint.setWordWrap(True)
        style_as(self.hint, face="small", tone="muted")
        short = Cells(86, most=3)
        short.add(self.timeframe_field)
        short.add(self.span_field, 2)
        foot = QHBoxLayout()
        foot.addWidget(self.hint, 1)
        foot.addWidget(self.start, 0, Qt.AlignmentFlag.AlignTop)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        column.addWidget(self.symbol_field)
        column.addWidget(short)
        column.addLayout(foot)
        self.symbol.changed.connect(self._edited)
        self.timeframe.editTextChanged.connect(self._timeframe_edited)
        self.span.changed.connect(self._edited)
        self.start.clicked.connect(self._ask)
        desk.linked.connect(self.judge)
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
        instrument, timeframe = self.symbol.instrument(), self.timeframe.currentText().strip()
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
        timeframe = self.timeframe.currentText().strip()
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
