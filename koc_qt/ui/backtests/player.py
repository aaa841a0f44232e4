"""A run bar by bar: candles up to the moment, the fills as they came, the trade that is open, and equity so far."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from time import perf_counter_ns
from typing import Any

from PySide6.QtCore import QSignalBlocker, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QHideEvent, QKeySequence, QResizeEvent, QShortcut
from PySide6.QtWidgets import QBoxLayout, QComboBox, QHBoxLayout, QLabel, QSlider, QToolButton, QVBoxLayout, QWidget

from koc_qt.domain.backtests import BacktestResult
from koc_qt.domain.errors import KocError
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.orders import Fill
from koc_qt.link.messages import FetchBars
from koc_qt.reports.words import money_decimals
from koc_qt.ui import formats
from koc_qt.ui.backtests.curve_chart import CurveChart, Pane
from koc_qt.ui.backtests.curves import Curve
from koc_qt.ui.backtests.playback import DEFAULT_SPEED, SPEEDS, Playback
from koc_qt.ui.backtests.small import Elided
from koc_qt.ui.bench import Bench
from koc_qt.ui.charts.chart import CandleChart
from koc_qt.ui.charts.colors import dark_colors, light_colors
from koc_qt.ui.charts.markers import Marker
from koc_qt.ui.charts.ticks import price_text
from koc_qt.ui.errands import Errand
from koc_qt.ui.icons import icon
from koc_qt.ui.panels.backtest_fields import WheelGuard
from koc_qt.ui.theme import number_font, style_as
from koc_qt.ui.turns import Patience

TICK_MS = 33
PAGE_BARS = 2_000  # a request: decoded within a frame
AHEAD_BARS = 10_000  # that are fetched before they are due
FETCH_TIMEOUT_S = 60.0
_STEPS = 1_000  # of the slider over the whole run
_EQUITY_PX = 84
_EQUITY_NS = 200_000_000  # between two drawings of the curve while it plays
_MOST_MARKS = 2_000  # fills in sight of a moment, the newest
_WIDE_PX = 660  # from which the words stand beside the buttons
_SHORT_PX = 230  # below this height there is no room for the equity curve


class PlayerPage(QWidget):
    """Plays one run. `closed` says that the person has seen enough.

    Space plays and pauses, S shows one bar more, N goes to the next trade, plus and minus change the speed.
    """

    closed = Signal()

    def __init__(self, bench: Bench, parent: QWidget, *, clock_ns: Callable[[], int] = perf_counter_ns) -> None:
        super().__init__(parent)
        self._bench, self._desk = bench, bench.desk
        self._clock_ns = clock_ns
        self.playback: Playback | None = None
        self._result: BacktestResult | None = None
        self._begun_ns: int | None = None
        self._rules: Instrument | None = None
        self._wanted_ns: int | None = None  # where to go once its bars are there
        self._is_whole = False  # whether all bars are there
        self._last_ns = 0
        self._drawn, self._drawn_ns = 0, 0  # up to which bar the equity curve is drawn, and when that was
        self._patience = Patience()
        self._fetching = Errand(self._desk, self)
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self.tick)
        self._parts = self.parts()
        if not bench.in_steps:
            for _ in self._parts:
                pass

    def parts(self) -> Iterator[None]:
        """Make the widgets; where the bench does so in steps, whoever has it calls `make_part` before anything else."""
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addLayout(self._make_transport())
        yield
        self.chart = CandleChart(self)
        self.chart.setAccessibleName("Bars up to the moment")
        self.chart.no_older()
        column.addWidget(self.chart, 1)
        yield
        self.equity = CurveChart(self)
        self.equity.setAccessibleName("Equity so far")
        self.equity.setFixedHeight(_EQUITY_PX)
        self.equity.follow(self._bench.theme)
        column.addWidget(self.equity)
        self._bench.theme.changed.connect(self._wear_theme)
        self._wear_theme()
        self._bind_keys()

    def make_part(self) -> bool:
        """Make one more part; False once there are no more."""
        return next(self._parts, self) is None

    def _make_transport(self) -> QBoxLayout:
        """Make the buttons, and beside or below them where it is and what it came to."""
        self._transport = whole = QBoxLayout(QBoxLayout.Direction.LeftToRight)
        whole.setContentsMargins(6, 2, 8, 4)
        whole.setSpacing(4)
        row, words = QHBoxLayout(), QHBoxLayout()
        row.setSpacing(2)
        words.setSpacing(8)
        whole.addLayout(row, 3)
        whole.addLayout(words, 2)
        theme = self._bench.theme
        self.back = self._button("left", "Back to the result", self.closed.emit)
        self.restart = self._button("refresh", "From the beginning (Home)", lambda: self.seek(None))
        self.play = self._button("play", "Play or pause (Space)", self.toggle)
        self._icons = icon("play", theme), icon("pause", theme)
        self.step = self._button("right", "One bar more (S)", self.step_on)
        self.next_trade = self._button("play-all", "To the next trade (N)", self.to_next_trade)
        self.place = QSlider(Qt.Orientation.Horizontal, self)
        self.place.setRange(0, _STEPS)
        self.place.setAccessibleName("Place in the run")
        self.place.setMinimumWidth(40)
        self.speed = QComboBox(self)
        self.speed.addItems([f"{speed} bar{'' if speed == 1 else 's'}/s" for speed in SPEEDS])
        self.speed.setCurrentIndex(SPEEDS.index(DEFAULT_SPEED))
        self.speed.setToolTip("Speed (plus and minus)")
        self.speed.setAccessibleName("Speed")
        WheelGuard(self).watch(self.speed)
        self.symbols = QComboBox(self)
        self.symbols.setAccessibleName("Symbol")
        self.symbols.hide()
        self.moment = Elided("", self)
        self.worth = QLabel(self)
        for label in (self.moment, self.worth):
            label.setFont(number_font())
        self.worth.setTextFormat(Qt.TextFormat.PlainText)
        for widget in (self.back, self.restart, self.play, self.step, self.next_trade):
            row.addWidget(widget)
        row.addSpacing(4)
        row.addWidget(self.place, 3)
        row.addSpacing(4)
        row.addWidget(self.speed)
        row.addWidget(self.symbols)
        words.addWidget(self.moment, 1)
        words.addWidget(self.worth)
        self.place.sliderMoved.connect(self._dragged)
        self.place.actionTriggered.connect(lambda _action: self._dragged(self.place.sliderPosition()))
        self.speed.currentIndexChanged.connect(self._speed_chosen)
        self.symbols.activated.connect(self._symbol_chosen)
        return whole

    def _button(self, name: str, tip: str, call: Callable[[], None]) -> QToolButton:
        button = QToolButton(self)
        button.setIcon(icon(name, self._bench.theme))
        button.setToolTip(tip)
        button.setAccessibleName(tip.split(" (")[0])
        button.clicked.connect(lambda _checked: call())
        return button

    def _bind_keys(self) -> None:
        calls: dict[str, Callable[[], None]] = {
            "Space": self.toggle,
            "S": self.step_on,
            "N": self.to_next_trade,
            "+": lambda: self.speed.setCurrentIndex(min(self.speed.currentIndex() + 1, len(SPEEDS) - 1)),
            "-": lambda: self.speed.setCurrentIndex(max(self.speed.currentIndex() - 1, 0)),
        }
        for keys, call in calls.items():
            shortcut = QShortcut(QKeySequence(keys), self)
            shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            shortcut.activated.connect(call)

    # ---- for the panel ----------------------------------------------------------------------------------------------

    def show_run(self, result: BacktestResult, begun_ns: int | None = None) -> None:
        """Begin with this run, `fills` and all; it stands at its first bar.

        `begun_ns` is when it was made: a file of bars that was changed since is refused.
        """
        self._result, self._begun_ns = result, begun_ns
        self.symbols.clear()
        for instrument in result.spec.instruments:
            self.symbols.addItem(instrument.symbol, str(instrument))
        self.symbols.setVisible(len(result.spec.instruments) > 1)
        self._begin(result.spec.instruments[0])

    def _begin(self, instrument: InstrumentId) -> None:
        assert self._result is not None  # noqa: S101 - as `show_run` has seen to
        self.pause()
        self.playback = Playback(self._result, instrument)
        self.playback.speed = SPEEDS[max(self.speed.currentIndex(), 0)]
        self._is_whole, self._wanted_ns = False, None
        self._rules = self._desk.replica.instruments.get(instrument)
        self.chart.set_decimals(formats.decimals_of(self._rules.tick_size) if self._rules is not None else 2)
        self.chart.set_empty_text(f"Fetching the bars of {instrument}…")
        self.chart.set_fault("")
        self._show_from(0)
        self._fetch()

    def stop(self) -> None:
        """Play no more, and fetch no more."""
        self.pause()
        self._fetching.cancel()

    @property
    def is_playing(self) -> bool:
        """Whether it goes on by itself."""
        return self._timer.isActive()

    # ---- bars -------------------------------------------------------------------------------------------------------

    def _fetch(self) -> None:
        """Fetch bars ahead of what is shown, up to what is wanted."""
        playback = self.playback
        if playback is None or self._is_whole or self._fetching.is_running:
            return
        is_far = self._wanted_ns is not None
        if is_far or len(playback.bars) - playback.shown < AHEAD_BARS:
            self._fetching.start(self._fetch_ahead(playback), self._not_fetched)

    async def _fetch_ahead(self, playback: Playback) -> None:
        while playback is self.playback and not self._is_whole:
            known = len(playback.bars)
            if self._wanted_ns is None and known - playback.shown >= AHEAD_BARS:
                return
            since_ns = int(playback.bars.open_time_ns[-1]) + 1 if known else playback.since_ns
            await self._fetch_page(playback, since_ns)

    async def _fetch_page(self, playback: Playback, since_ns: int) -> None:
        """Fetch the next bars; where a stretch has none, such as a weekend, the one after it."""
        while True:
            until_ns = min(since_ns + PAGE_BARS * playback.bar_ns, playback.until_ns)
            command = FetchBars(playback.instrument, self._timeframe, PAGE_BARS, until_ns, *self._file())
            rows: list[Any] = await self._desk.request(command, timeout_s=FETCH_TIMEOUT_S)
            added = playback.add(rows)
            if playback is not self.playback:
                return
            self._is_whole = until_ns >= playback.until_ns
            if added or self._is_whole:
                break
            since_ns = until_ns
            await asyncio.sleep(0)
        self._bars_came()

    def _file(self) -> tuple[str, int | None, bool]:
        """Give the file of the bars, until when it may have been written, and how it is read; no file is a market."""
        if self.playback is None or self._result is None or not self._result.spec.files:
            return "", None, False
        spec = self._result.spec
        return spec.files[spec.instruments.index(self.playback.instrument)], self._begun_ns, spec.skip_bad

    @property
    def _timeframe(self) -> str:
        return self._result.timeframe if self._result is not None else ""

    def _bars_came(self) -> None:
        playback = self.playback
        if playback is None:
            return
        if not len(playback.bars):
            self.chart.set_empty_text(f"There are no bars of {playback.instrument} any more")
            return
        if self._rules is None and not playback.shown:  # of what comes from a file: prices have the digits they have
            self.chart.set_decimals(playback.decimals())
        if self._wanted_ns is not None:
            is_there = self._is_whole or int(playback.bars.open_time_ns[-1]) > self._wanted_ns
            self._say_moment()
            if is_there:
                wanted_ns, self._wanted_ns = self._wanted_ns, None
                self._show_from(max(playback.place_of(wanted_ns), 1))
        elif not playback.shown:
            self._show_from(1)
        self._enable()

    def _not_fetched(self, error: KocError) -> None:
        self._wanted_ns = None
        self.pause()
        self.chart.set_empty_text(f"The bars did not come: {error}")
        self.chart.set_fault(f"No more bars came: {error}" if self.chart.bar_count else "")

    # ---- moving -----------------------------------------------------------------------------------------------------

    def toggle(self) -> None:
        """Play, or pause."""
        if self.is_playing:
            self.pause()
        elif self.playback is not None and len(self.playback.bars):
            if self.playback.is_at_end and self._is_whole:
                self._show_from(1)
            self._last_ns = self._clock_ns()
            self._timer.start()
            self.play.setIcon(self._icons[1])

    def pause(self) -> None:
        """Stand still."""
        was_playing = self.is_playing
        self._timer.stop()
        self.play.setIcon(self._icons[0])
        if was_playing:
            self._show_moment()  # with the curve up to it

    def tick(self) -> None:
        """Show the bars that have become due, or equity up to here: never both in one turn of the loop."""
        playback, now_ns = self.playback, self._clock_ns()
        if self._patience.waits():
            return
        if playback is not None and self._is_equity_due(playback, now_ns):
            self._draw_equity(playback.equity_so_far())
            return
        elapsed_ns, self._last_ns = now_ns - self._last_ns, now_ns
        if playback is None:
            return
        count = playback.due(min(elapsed_ns, 250_000_000))  # a window that was held up does not leap
        if count:
            self._show_more(count)
        if playback.is_at_end and self._is_whole:
            self.pause()

    def step_on(self) -> None:
        """Show one bar more."""
        self.pause()
        if self.playback is not None and not self.playback.is_at_end:
            self._show_more(1)

    def to_next_trade(self) -> None:
        """Go on to the bar in which the next trade begins."""
        next_ns = self.playback.next_entry_ns() if self.playback is not None else None
        if next_ns is not None:
            self.seek(next_ns)

    def seek(self, time_ns: int | None) -> None:
        """Go to the bar of a UTC time, or to the first; bars that are not there yet are fetched."""
        playback = self.playback
        if playback is None:
            return
        if time_ns is None:
            self._show_from(min(len(playback.bars), 1))
        elif self._is_whole or (len(playback.bars) and time_ns < int(playback.bars.open_time_ns[-1])):
            self._wanted_ns = None
            self._show_from(max(playback.place_of(time_ns), 1))
        else:
            self._wanted_ns = time_ns
            self._say_moment()
            self._fetch()

    def _dragged(self, step: int) -> None:
        if self.playback is not None:
            span_ns = self.playback.until_ns - self.playback.since_ns
            self.seek(self.playback.since_ns + span_ns * step // _STEPS)

    def _speed_chosen(self, row: int) -> None:
        if self.playback is not None:
            self.playback.speed = SPEEDS[row]

    def _symbol_chosen(self, row: int) -> None:
        self._begin(InstrumentId.parse(str(self.symbols.itemData(row))))

    # ---- showing ----------------------------------------------------------------------------------------------------

    def _show_from(self, count: int) -> None:
        """Show so many bars alone, wherever it stood before."""
        playback = self.playback
        if playback is None:
            return
        playback.shown = min(count, len(playback.bars))
        self.chart.set_bars(playback.bars.rows(0, playback.shown))
        self.chart.no_older()
        fills = playback.fills_between(playback.since_ns, playback.now_ns)[-_MOST_MARKS:]
        self.chart.set_markers([_marker(fill) for fill in fills])
        self._show_moment()

    def _show_more(self, count: int) -> None:
        """Show so many bars more, and what was done in them."""
        playback = self.playback
        if playback is None:
            return
        before_ns = playback.now_ns
        self.chart.merge(playback.bars.rows(playback.shown, playback.shown + count))
        playback.shown += count
        fills = playback.fills_between(before_ns, playback.now_ns)
        if fills:
            self.chart.add_markers([_marker(fill) for fill in fills])
        self._show_moment()
        self._fetch()

    def _show_moment(self) -> None:
        """Show the open trade, equity so far and where in the run this is."""
        playback, result = self.playback, self._result
        if playback is None or result is None:
            return
        self.chart.set_trips((), playback.trip_now())
        decimals = money_decimals(result.spec.cash)
        curve = playback.equity_so_far()
        worth = float(curve.values[-1]) if len(curve) else float(result.spec.cash)
        share = worth / float(result.spec.cash) - 1.0
        self.worth.setText(f"{formats.money(worth, decimals)}  {formats.percent(share, signed=True)}")
        style_as(self.worth, tone="profit" if share > 0 else "loss" if share < 0 else None)
        if not self.is_playing:
            self._draw_equity(curve)
        self._say_moment()
        self._enable()
        if not self.place.isSliderDown():
            span_ns = playback.until_ns - playback.since_ns
            with QSignalBlocker(self.place):
                self.place.setValue((playback.now_ns - playback.since_ns) * _STEPS // span_ns)

    def _is_equity_due(self, playback: Playback, now_ns: int) -> bool:
        is_old = playback.shown != self._drawn and now_ns - self._drawn_ns >= _EQUITY_NS
        return is_old and self.equity.isVisibleTo(self)

    def _draw_equity(self, curve: Curve) -> None:
        if self._result is not None and self.playback is not None and self.equity.isVisibleTo(self):
            self._drawn, self._drawn_ns = self.playback.shown, self._clock_ns()
            decimals = money_decimals(self._result.spec.cash)
            self.equity.set_panes([Pane((curve,), lambda value: price_text(value, decimals))])

    def _say_moment(self) -> None:
        playback = self.playback
        if playback is None:
            return
        if self._wanted_ns is not None:
            self.moment.show_text(f"Fetching bars up to {formats.date(self._wanted_ns)}…")
            return
        number = f"bar {playback.shown:,}" + (f" of {len(playback.bars):,}" if self._is_whole else "")
        self.moment.show_text(f"{formats.date(playback.now_ns)} · {number}", formats.utc(playback.now_ns))

    def _enable(self) -> None:
        playback = self.playback
        has_bars = playback is not None and len(playback.bars) > 0
        for widget in (self.play, self.restart, self.place):
            widget.setEnabled(has_bars)
        self.step.setEnabled(playback is not None and not playback.is_at_end)
        self.next_trade.setEnabled(playback is not None and has_bars and playback.next_entry_ns() is not None)

    def _wear_theme(self) -> None:
        self.chart.set_palette(dark_colors() if self._bench.theme.is_dark else light_colors())

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Give all the room to the bars where there is little."""
        super().resizeEvent(event)
        self.equity.setVisible(self.height() >= _SHORT_PX)
        ways = QBoxLayout.Direction
        self._transport.setDirection(ways.LeftToRight if self.width() >= _WIDE_PX else ways.TopToBottom)
        self._show_moment()

    def hideEvent(self, event: QHideEvent) -> None:  # noqa: N802 - Qt's name
        """Do not go on behind the person's back."""
        super().hideEvent(event)
        self.pause()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for little."""
        return QSize(400, 240)


def _marker(fill: Fill) -> Marker:
    return Marker(fill.time_ns, fill.side, fill.price, fill.quantity, "back-test")
