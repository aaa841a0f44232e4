"""A chart in a dock: which market and timeframe, its bars as they come, fills, open orders and position upon them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from functools import partial
from itertools import islice
from typing import Any, ClassVar

from PySide6.QtCore import QPoint, QSize, Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QMenu, QToolButton, QVBoxLayout, QWidget

from koc_qt.domain.errors import BadTimeframe, InvalidOrder, KocError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Side, StreamState
from koc_qt.domain.orders import Fill, Order
from koc_qt.domain.timeframes import SECOND_NS, duration_ns
from koc_qt.link.messages import BarChanged, FetchBars
from koc_qt.link.replica import FillKey
from koc_qt.ui.bench import Bench, MarkedTrips, Panel
from koc_qt.ui.charts.chart import CandleChart
from koc_qt.ui.charts.colors import ChartColors, dark_colors, light_colors
from koc_qt.ui.charts.markers import Marker, PriceLine
from koc_qt.ui.charts.series import BarColumns
from koc_qt.ui.desk import BARS_A_FRAME, Frame
from koc_qt.ui.icons import icon
from koc_qt.ui.slices import Slices, let_go
from koc_qt.ui.streams import Holding
from koc_qt.ui.symbols import SymbolPicker
from koc_qt.ui.theme import style_as
from koc_qt.ui.timeframe_choices import TIMEFRAMES

FIRST_BARS = 1_000
OLDER_BARS = 2_000  # a request: decoded within a frame
MOST_BARS = 1_500_000
MOST_LOOKED_FOR = 200_000  # bars that are fetched to come to a moment: a second or two
HISTORY_TIMEOUT_S = 60.0
AT_ONCE = 200  # orders and fills: some half a millisecond
PAINTED_AT_ONCE = 2_000  # fills, or what comes last: each time the whole chart is painted, while other panels work too
MINUTE_NS = 60 * SECOND_NS
PICKER_PX = (96, 190)  # at least and at most: there is little room in two charts on a small screen
BAR_GAP_PX = 6
LEAST_PX = 200  # of width; Buy and Sell make way where there is no more, and stay in the menu and in the ticket
DEFAULT_INSTRUMENT = InstrumentId("sim", "BTC/USDT")
DEFAULT_TIMEFRAME = "1m"


class ChartPanel(Panel):
    """One chart. Its window title says what it shows."""

    NAME: ClassVar[str] = "chart"
    TITLE: ClassVar[str] = "Chart"
    ICON: ClassVar[str] = "chart"

    def __init__(self, bench: Bench, parent: QWidget | None = None) -> None:
        super().__init__(bench, parent)
        self.instrument = DEFAULT_INSTRUMENT
        self.timeframe = DEFAULT_TIMEFRAME
        self._holding = Holding()
        self._load = 0  # counts what was asked for: an answer to an earlier question is dropped
        self._is_loading = False
        self._is_going_back = False  # whether older bars are on their way
        self._marked: dict[FillKey, Marker] = {}
        self._unpainted: list[Marker] = []  # those of them that the chart was not told of yet
        self._order_lines: dict[str, PriceLine] = {}
        self._waiting_orders: dict[str, None] = {}
        self._waiting_fills: deque[Fill] = deque()
        self._slices = Slices(self)
        self._letting_go = Slices(self)
        self._wanted_ns: int | None = None  # where to go once there are bars
        self._sides: list[QToolButton] = []
        self._pending: list[BarChanged] = []  # bars that came while the history was on its way
        self.make()

    def parts(self) -> Iterator[None]:
        """Make the bar above, then the chart."""
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        bar = QHBoxLayout()
        bar.setContentsMargins(6, 4, 6, 4)
        bar.setSpacing(BAR_GAP_PX)
        column.addLayout(bar)
        self.picker = SymbolPicker(self.desk, self)
        self.picker.setMinimumWidth(PICKER_PX[0])
        self.picker.setMaximumWidth(PICKER_PX[1])
        self.frames = QComboBox(self)
        self.frames.setEditable(True)
        self.frames.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.frames.addItems(list(TIMEFRAMES))
        self.frames.setFixedWidth(76)
        self.frames.setToolTip("Timeframe: a number and s, m, h, d or w")
        self.frames.setAccessibleName("Timeframe")
        self._sides = [self._side_button(side) for side in Side]
        yield
        bar.addWidget(self.picker, 100)
        bar.addWidget(self.frames)
        bar.addStretch(1)
        for button in self._sides:
            bar.addWidget(button)
        yield
        self.chart = CandleChart(self)
        self.chart.set_palette(self._colors())
        column.addWidget(self.chart, 1)
        yield
        self.picker.chosen.connect(lambda instrument: self.show_market(instrument, self.timeframe))
        self.frames.activated.connect(lambda _row: self._timeframe_typed())
        line = self.frames.lineEdit()
        if line is not None:
            line.editingFinished.connect(self._timeframe_typed)
        self.chart.older_wanted.connect(self._fetch_older)
        self.chart.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.chart.customContextMenuRequested.connect(self._show_menu)
        bench = self.bench
        bench.theme.changed.connect(self._theme_changed)
        bench.streams.subscribed.connect(self._subscribed)
        bench.streams.refused.connect(self._refused)
        bench.requests.time_wanted.connect(self._go_to)
        bench.requests.trips_marked.connect(self._show_trips)
        self.desk.framed.connect(self._on_frame)
        self.desk.linked.connect(self._show_trouble)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for the chart and its market: a dock with less shows neither its right edge nor the prices there."""
        return QSize(LEAST_PX, super().minimumSizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Leave Buy and Sell out where there is no room for them."""
        super().resizeEvent(event)
        wanted = LEAST_PX + sum(button.sizeHint().width() + BAR_GAP_PX for button in self._sides)
        for button in self._sides:
            button.setVisible(self.width() >= wanted)

    def _side_button(self, side: Side) -> QToolButton:
        button = QToolButton(self)
        button.setText(side.value.capitalize())
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly)
        style_as(button, tone="profit" if side is Side.BUY else "loss")
        button.setToolTip(f"Open the order ticket to {side} at the market")
        button.clicked.connect(lambda: self.bench.requests.open_ticket(self.instrument, side))
        return button

    # ---- what it shows ----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Give market and timeframe."""
        return {"instrument": str(self.instrument), "timeframe": self.timeframe}

    def restore(self, state: dict[str, Any]) -> None:
        """Show what was remembered, or the first market there is where that cannot be read."""
        try:
            instrument = InstrumentId.parse(str(state.get("instrument") or DEFAULT_INSTRUMENT))
            timeframe = str(state.get("timeframe") or DEFAULT_TIMEFRAME)
            duration_ns(timeframe)
        except (InvalidOrder, BadTimeframe):
            instrument, timeframe = DEFAULT_INSTRUMENT, DEFAULT_TIMEFRAME
        self.show_market(instrument, timeframe)

    def retire(self) -> None:
        """Stream no more, and take no answer that is still on its way."""
        self._load += 1
        self._slices.cancel()
        self._letting_go.cancel()
        self._holding.close()

    def show_market(self, instrument: InstrumentId, timeframe: str) -> None:
        """Show another market or timeframe."""
        self._holding.replace(self.bench.streams.watch(instrument, timeframe))
        self.instrument, self.timeframe = instrument, timeframe
        self.picker.set_instrument(instrument)
        self.frames.setEditText(timeframe)
        self.setWindowTitle(f"{instrument.symbol} · {timeframe}" + _venue_suffix(instrument))
        self.chart.set_empty_text(f"Waiting for bars of {instrument}…")
        self.chart.set_bars(BarColumns.of([], [], [], [], [], []))
        self._show_trading()
        self._show_trips()
        self._show_trouble()
        self.bench.requests.instrument_chosen.emit(instrument)
        if self.bench.streams.is_flowing(instrument, timeframe):
            self._fetch()

    def _timeframe_typed(self) -> None:
        text = self.frames.currentText().strip()
        if text == self.timeframe:
            return
        try:
            duration_ns(text)
        except BadTimeframe as error:
            self.frames.setEditText(self.timeframe)
            self.frames.setToolTip(str(error))
            self.desk.notify(str(error))
            return
        self.show_market(self.instrument, text)

    # ---- bars --------------------------------------------------------------------------------------------------------

    def _subscribed(self, instrument: InstrumentId) -> None:
        if instrument == self.instrument:
            self._show_trouble()
            self._fetch()

    def _fetch(self) -> None:
        """Get the newest bars: all there are to see at first, and what an outage left out later."""
        self._load += 1
        self._is_loading, self._is_going_back = True, False
        self._pending.clear()
        self.desk.start(self._fetch_newest(self._load), failed=self._fetch_failed)

    async def _fetch_newest(self, load: int) -> None:
        rows = await self.desk.request(
            FetchBars(self.instrument, self.timeframe, FIRST_BARS), timeout_s=HISTORY_TIMEOUT_S
        )
        if load != self._load:
            return
        self._is_loading = False
        columns, last_ns = _columns(rows), self.chart.last_time_ns
        if last_ns is not None and rows and rows[0][0] <= last_ns:
            self.chart.merge(columns)
        else:
            self.chart.set_bars(columns)
            if not rows:
                self.chart.no_older()
        for change in self._pending:
            self._show_bar(change)
        self._pending.clear()
        self._show_decimals()
        if self._wanted_ns is not None:
            self.go_to(self._wanted_ns)

    def _fetch_failed(self, error: KocError) -> None:
        self._is_loading = False
        self._pending.clear()
        self.chart.set_fault(f"The history of {self.instrument} did not come: {error}")

    def _fetch_older(self) -> None:
        first_ns = self.chart.first_time_ns
        if first_ns is None or not self.desk.is_connected or self.chart.bar_count >= MOST_BARS:
            self.chart.no_older()
            return
        self._is_going_back = True
        self.desk.start(self._fetch_before(self._load, first_ns), failed=self._older_failed)

    async def _fetch_before(self, load: int, until_ns: int) -> None:
        rows = await self.desk.request(
            FetchBars(self.instrument, self.timeframe, OLDER_BARS, until_ns), timeout_s=HISTORY_TIMEOUT_S
        )
        if load == self._load:
            self._is_going_back = False
            self._go_on(self.chart.prepend(_columns(rows)))

    def _older_failed(self, _error: KocError) -> None:
        self._is_going_back, self._wanted_ns = False, None
        self.chart.retry_older()

    def _show_bar(self, change: BarChanged) -> None:
        bar, last_ns = change.bar, self.chart.last_time_ns
        if last_ns is not None and bar.open_time_ns < last_ns and not change.closed:
            return  # older than what is known: of before the history came
        values = (bar.open_time_ns, bar.open, bar.high, bar.low, bar.close, bar.volume)
        try:
            self.chart.update_bar(*values, change.closed)
        except ValueError:  # between two bars that are known
            self.chart.merge(_columns([values]))

    def _on_frame(self, frame: Frame) -> None:
        key = (self.instrument, self.timeframe)
        for change in frame.bars.get(key, ()):
            if not self._is_loading:
                self._show_bar(change)
            elif len(self._pending) < BARS_A_FRAME:
                self._pending.append(change)
        if key in frame.overflow:
            self._fetch()
        if self.instrument in frame.quotes:
            self._show_countdown()
        if self.instrument in frame.instruments:
            self._show_decimals()
        if self.instrument in frame.streams:
            self._show_trouble()
        if frame.snapshot:
            self._show_decimals()
            self._slices.start(self._show_trading_anew())  # in a turn of its own: every panel has much to do now
        else:
            self._waiting_orders.update(dict.fromkeys(frame.orders))
            self._waiting_fills.extend(frame.fills)
            self._show_waiting()
            if frame.positions:
                self._show_lines()

    def _show_countdown(self) -> None:
        """Say how long the bar goes on, by the venue's clock."""
        length_ns, last_ns = duration_ns(self.timeframe), self.chart.last_time_ns
        if length_ns < MINUTE_NS or last_ns is None:
            self.chart.set_countdown("")
            return
        left_s = max(0, last_ns + length_ns - self.desk.replica.quotes[self.instrument].time_ns) // SECOND_NS
        hours, minutes, seconds = left_s // 3600, left_s // 60 % 60, left_s % 60
        self.chart.set_countdown(f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}")

    def _show_decimals(self) -> None:
        instrument = self.desk.replica.instruments.get(self.instrument)
        if instrument is not None:
            exponent = instrument.tick_size.normalize().as_tuple().exponent
            self.chart.set_decimals(max(0, -int(exponent)))

    # ---- fills, orders, positions -----------------------------------------------------------------------------------

    def _marker(self, fill: Fill) -> Marker:
        return Marker(fill.time_ns, fill.side, fill.price, fill.quantity, fill.strategy_id)

    @property
    def is_busy(self) -> bool:
        """Whether orders or fills that are known are still to be shown."""
        return self._slices.is_busy

    def _show_trading_anew(self) -> Iterator[None]:
        yield
        self._forget_trading()
        yield from self._show_in_slices()

    def _show_trading(self) -> None:
        """Show all open orders and fills that are known, newest first, and none else."""
        self._slices.cancel()
        self._forget_trading()
        self._show_waiting()

    def _forget_trading(self) -> None:
        """Show no fills and no orders, and have all that are known wait to be shown."""
        self._letting_go.start(let_go([*self._marked.values()]))
        self._marked.clear()
        self._unpainted = []
        self._order_lines.clear()
        self.chart.set_markers([])
        self._show_lines()
        replica = self.desk.replica
        self._waiting_orders = dict.fromkeys(replica.open_orders)
        self._waiting_fills = deque(reversed(replica.fills.values()))

    def _show_waiting(self) -> None:
        """Show what waits: few at once, many in slices, between which more may come."""
        waiting = len(self._waiting_orders) + len(self._waiting_fills)
        if waiting and not self.is_busy:
            self._slices.start(self._show_in_slices(), at_once=waiting <= AT_ONCE)

    def _show_in_slices(self) -> Iterator[None]:
        while self._waiting_orders or self._waiting_fills:
            if self._waiting_orders:
                for order_id in list(islice(self._waiting_orders, AT_ONCE)):
                    del self._waiting_orders[order_id]
                    self._show_order(order_id)
                if not self._waiting_orders:
                    self._show_lines()
            else:
                some = range(min(AT_ONCE, len(self._waiting_fills)))
                self._add_fills(self._waiting_fills.popleft() for _ in some)
            yield

    def _add_fills(self, fills: Iterable[Fill]) -> None:
        """Mark those of this market that are not yet: a fill may be told twice, and of any time."""
        added = {
            key: self._marker(fill)
            for fill in fills
            if fill.instrument == self.instrument and (key := (fill.account_id, fill.fill_id)) not in self._marked
        }
        self._marked |= added
        self._unpainted += added.values()
        if len(self._unpainted) >= PAINTED_AT_ONCE or (self._unpainted and not self._waiting_fills):
            self.chart.add_markers(self._unpainted)
            self._unpainted = []

    def _show_order(self, order_id: str) -> None:
        """Note the line of an order, or that it has none."""
        order = self.desk.replica.open_orders.get(order_id)
        price = None
        if order is not None and order.request.instrument == self.instrument:
            price = order.request.price or order.request.stop_price
        if order is None or price is None:
            self._order_lines.pop(order_id, None)
        else:
            self._order_lines[order_id] = PriceLine(price, _order_text(order), order.request.side)

    def _show_lines(self) -> None:
        """Show open orders and the average prices of what is held."""
        lines = list(self._order_lines.values())
        lines += [
            PriceLine(position.average_price, f"{position.strategy_id} {position.quantity:+}")
            for position in self.desk.replica.positions.values()
            if position.instrument == self.instrument and position.quantity and position.average_price is not None
        ]
        self.chart.set_lines(lines)

    def _show_trips(self) -> None:
        """Show the trades of a back-test that shall be seen, those of this market."""
        marked = self.bench.requests.marked.of(self.instrument)
        self.chart.set_trips(marked.trips, marked.chosen)
        if marked.chosen is not None and marked.timeframe == self.timeframe:
            self.go_to(marked.chosen.entry_ns)

    def _go_to(self, instrument: InstrumentId, time_ns: int) -> None:
        if instrument == self.instrument:
            self.go_to(time_ns)

    def go_to(self, time_ns: int) -> None:
        """Show the bar of a time, as soon as there are bars; older ones are fetched unless it is too long ago."""
        first_ns = self.chart.first_time_ns
        is_far = first_ns is not None and (first_ns - time_ns) // duration_ns(self.timeframe) > MOST_LOOKED_FOR
        self._wanted_ns = None if is_far else time_ns
        if self.chart.bar_count and not self._is_loading and (self.chart.go_to(time_ns) or not self._is_going_back):
            self._wanted_ns = None

    def _go_on(self, added: int) -> None:
        """Look again for what was wanted, now that there are older bars; at the first of all there is no more."""
        if self._wanted_ns is not None and (self.chart.go_to(self._wanted_ns) or not added):
            self._wanted_ns = None

    # ---- what is wrong ----------------------------------------------------------------------------------------------

    def _refused(self, instrument: InstrumentId) -> None:
        if instrument == self.instrument:
            self._show_trouble()

    def _show_trouble(self) -> None:
        """Say over the bars why they stand still."""
        trouble = self.bench.streams.troubles.get(self.instrument, "")
        stream = self.desk.replica.streams.get(self.instrument)
        if not self.desk.is_connected and self.chart.bar_count:
            trouble = "Not connected: this is how it was"
        elif not trouble and stream is not None and stream.state is not StreamState.CONNECTED:
            ended = stream.state is StreamState.ENDED
            trouble = f"{self.instrument} has ended" if ended else f"{self.instrument} is interrupted"
            trouble += f": {stream.reason}" if stream.reason else ""
        self.chart.set_fault(trouble)

    # ---- the look ---------------------------------------------------------------------------------------------------

    def _colors(self) -> ChartColors:
        return dark_colors() if self.bench.theme.is_dark else light_colors()

    def _theme_changed(self) -> None:
        self.chart.set_palette(self._colors())

    def _show_menu(self, position: QPoint) -> None:
        menu = QMenu(self)
        theme, requests = self.bench.theme, self.bench.requests
        price = self.chart.price_at(position)
        rounded = self._on_grid(price) if price is not None else None
        if rounded is not None:
            for side in Side:
                open_ticket = partial(requests.open_ticket, self.instrument, side, rounded)
                menu.addAction(f"{side.value.capitalize()} at {rounded}…", open_ticket)
            menu.addSeparator()
        menu.addAction(icon("right", theme), "Go to the newest bar", self.chart.go_to_newest)
        if requests.marked.of(self.instrument):
            menu.addAction(icon("close", theme), "Remove the back-test's trades", lambda: requests.mark(MarkedTrips()))
        menu.addAction(
            icon("plus", theme), "New chart of this", lambda: requests.open_chart(self.instrument, self.timeframe)
        )
        menu.aboutToHide.connect(menu.deleteLater)
        menu.popup(self.chart.mapToGlobal(position))

    def _on_grid(self, price: float) -> Decimal | None:
        instrument = self.desk.replica.instruments.get(self.instrument)
        return None if instrument is None or price <= 0 else instrument.round_price(Decimal(repr(price)))


def _columns(rows: Sequence[Sequence[Any]]) -> BarColumns:
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [[] for _ in range(6)]
    return BarColumns.of(*columns)


def _order_text(order: Order) -> str:
    request = order.request
    return f"{request.side} {order.remaining} {request.type.replace('_', ' ')}"


def _venue_suffix(instrument: InstrumentId) -> str:
    return "" if instrument.venue == "sim" else f" · {instrument.venue}"
