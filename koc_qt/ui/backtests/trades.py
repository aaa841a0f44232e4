"""The trades of a run in a table: sorted, filtered, and each a click away from its place on a chart."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

import msgspec
from PySide6.QtCore import QModelIndex, Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QLabel, QToolButton, QVBoxLayout, QWidget

from koc_qt.domain.backtests import BacktestResult, RoundTrip
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.timeframes import SECOND_NS, duration_ns
from koc_qt.ui import formats
from koc_qt.ui.backtests.small import Elided
from koc_qt.ui.bench import Bench
from koc_qt.ui.icons import icon
from koc_qt.ui.panels.backtest_fields import WheelGuard
from koc_qt.ui.tables.columns import Column, tone_of_sign
from koc_qt.ui.tables.model import RecordModel
from koc_qt.ui.tables.view import RecordTable
from koc_qt.ui.theme import style_as

TRADES_MOST = 20_000
Rules = Callable[[InstrumentId], Instrument | None]
_MINUTE_NS = 60 * SECOND_NS
_WIDE_PX = 420  # from which there is room for texts
_SYMBOL = 1  # the column
_TOO_SMALL = Decimal("1e-8")


class TripRow(msgspec.Struct, frozen=True, gc=False):
    """A trade and its number, from 1. The garbage collector, which 10,000 of them would call, looks at none."""

    number: int
    trip: RoundTrip

    @property
    def share(self) -> float | None:
        """What was made of what was put in, as a fraction."""
        stake = self.trip.entry_price * abs(self.trip.quantity)
        return self.trip.pnl / stake if stake > 0 else None

    @property
    def held_s(self) -> float | None:
        """How long it lasted, in seconds; None while it was open at the end."""
        return None if self.trip.exit_ns is None else (self.trip.exit_ns - self.trip.entry_ns) / SECOND_NS


def trip_columns(rules: Rules, moment: Callable[[int], str]) -> tuple[Column[TripRow], ...]:
    """Give the columns of the list of trades; `rules` knows how many decimals a market has, `moment` writes times."""

    def price(instrument: InstrumentId, value: float | None) -> str:
        known = rules(instrument)
        return formats.DASH if value is None else formats.price(exact(value), known.tick_size if known else None)

    return (
        Column("number", "#", lambda row: str(row.number), lambda row: row.number, right=True, width=4),
        Column("symbol", "Symbol", lambda row: str(row.trip.instrument), width=14),
        Column(
            "side",
            "Side",
            lambda row: "Long" if row.trip.quantity > 0 else "Short",
            tone=lambda row: "profit" if row.trip.quantity > 0 else "loss",
            width=6,
        ),
        Column(
            "entry",
            "Entry",
            lambda row: moment(row.trip.entry_ns),
            lambda row: row.trip.entry_ns,
            tip=lambda row: formats.utc(row.trip.entry_ns),
            width=20,
        ),
        Column(
            "entry_price",
            "At",
            lambda row: price(row.trip.instrument, row.trip.entry_price),
            lambda row: row.trip.entry_price,
            right=True,
            width=14,
            title_tip="Mean price of what was bought or sold to enter",
        ),
        Column(
            "exit",
            "Exit",
            lambda row: "Open" if row.trip.exit_ns is None else moment(row.trip.exit_ns),
            lambda row: row.trip.exit_ns,
            tip=lambda row: (
                "Open at the end, valued at the last close"
                if row.trip.exit_ns is None
                else formats.utc(row.trip.exit_ns)
            ),
            tone=lambda row: "muted" if row.trip.exit_ns is None else None,
            width=20,
        ),
        Column(
            "exit_price",
            "At",
            lambda row: price(row.trip.instrument, row.trip.exit_price),
            lambda row: row.trip.exit_price,
            right=True,
            width=14,
            title_tip="Mean price of what was sold or bought to leave",
        ),
        Column(
            "quantity",
            "Quantity",
            lambda row: formats.quantity(exact(abs(row.trip.quantity))),
            lambda row: abs(row.trip.quantity),
            right=True,
            width=11,
        ),
        _made("pnl", "PnL", lambda trip: trip.pnl, "After fees, in quote currency"),
        Column(
            "share",
            "Return",
            lambda row: formats.percent(row.share, signed=True),
            lambda row: row.share,
            right=True,
            tone=lambda row: tone_of_sign(row.trip.pnl),
            width=9,
            title_tip="PnL over what was put in",
        ),
        _made(
            "mae",
            "Worst",
            lambda trip: trip.mae,
            "The most that it was behind while it lasted, before fees (MAE)",
        ),
        _made(
            "mfe",
            "Best",
            lambda trip: trip.mfe,
            "The most that it was ahead while it lasted, before fees (MFE)",
        ),
        Column(
            "held",
            "Held",
            lambda row: formats.duration(row.held_s),
            lambda row: row.held_s,
            right=True,
            width=9,
            title_tip="From entry to exit",
        ),
        Column(
            "fees", "Fees", lambda row: formats.money(row.trip.fees), lambda row: row.trip.fees, right=True, width=8
        ),
    )


def _made(name: str, title: str, value: Callable[[RoundTrip], float | None], tip: str) -> Column[TripRow]:
    """Give the column of an amount that was gained or lost."""
    return Column(
        name,
        title,
        lambda row: formats.signed_money(value(row.trip)),
        lambda row: value(row.trip),
        right=True,
        tone=lambda row: tone_of_sign(value(row.trip)),
        width=10,
        title_tip=tip,
    )


def exact(value: float) -> Decimal:
    """Give a float as the shortest decimal that is it, without the dust of its last bits."""
    number = Decimal(repr(value))
    return number.quantize(_TOO_SMALL).normalize() if number.is_finite() and abs(number) < 10**15 else number


class Kind(NamedTuple):
    """Some of the trades: what people call them, and which they are."""

    text: str
    accept: Callable[[TripRow], bool] | None


KINDS = (
    Kind("All trades", None),
    Kind("Winners", lambda row: row.trip.exit_ns is not None and row.trip.pnl > 0),
    Kind("Losers", lambda row: row.trip.exit_ns is not None and row.trip.pnl <= 0),
    Kind("Long", lambda row: row.trip.quantity > 0),
    Kind("Short", lambda row: row.trip.quantity < 0),
    Kind("Open at the end", lambda row: row.trip.exit_ns is None),
)


class TradesPage(QWidget):
    """The table below a filter. `trade_opened` brings the RoundTrip that the person wants to see on a chart.

    `marks_toggled` says whether all trades shall be marked on charts of their market.
    """

    trade_opened = Signal(object)
    marks_toggled = Signal(bool)

    def __init__(self, bench: Bench, parent: QWidget) -> None:
        super().__init__(parent)
        self._bench = bench
        self._timeframe_ns = _MINUTE_NS
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        row = QHBoxLayout()
        row.setContentsMargins(8, 4, 8, 4)
        row.setSpacing(8)
        column.addLayout(row)
        self.kind = QComboBox(self)
        self.kind.setAccessibleName("Which trades")
        self.kind.addItems([kind.text for kind in KINDS])
        self.kind.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        WheelGuard(self).watch(self.kind)
        self.summary = Elided("", self)
        style_as(self.summary, face="small", tone="muted")
        self.mark = QToolButton(self)
        self.mark.setCheckable(True)
        self.mark.setText("Mark on chart")
        self.mark.setIcon(icon("chart", bench.theme))
        self.mark.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.mark.setToolTip(
            "Mark every trade of this run on the charts of its market; press again to remove the marks"
        )
        row.addWidget(self.kind)
        row.addWidget(self.summary, 1)
        row.addWidget(self.mark)
        self.cut = QLabel(self)
        self.cut.setWordWrap(True)
        self.cut.setContentsMargins(8, 0, 8, 3)
        style_as(self.cut, face="small", tone="warning")
        self.cut.hide()
        column.addWidget(self.cut)
        self.model: RecordModel[TripRow] = RecordModel(
            trip_columns(self._rules, self._moment), bench.theme, self, limit=TRADES_MOST
        )
        self.table: RecordTable[TripRow] = RecordTable(self.model, bench.theme, self, empty="It traded nothing")
        self.table.setAccessibleName("Trades")
        column.addWidget(self.table, 1)
        self.table.opened.connect(lambda row: self.trade_opened.emit(row.trip))
        self.table.clicked.connect(self._clicked)
        self.kind.activated.connect(self._filter)
        self.mark.toggled.connect(self.marks_toggled)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Leave the button's text out where there is little room."""
        super().resizeEvent(event)
        styles = Qt.ToolButtonStyle
        is_wide = self.width() >= _WIDE_PX
        self.mark.setToolButtonStyle(styles.ToolButtonTextBesideIcon if is_wide else styles.ToolButtonIconOnly)

    def show_result(self, result: BacktestResult) -> None:
        """Show the trades of this run; the filter stays."""
        self._timeframe_ns = duration_ns(result.timeframe)
        self.table.setColumnHidden(_SYMBOL, len(result.spec.instruments) == 1)
        self._show_summary(result.trades)
        self._show_cut(result)
        self.model.reset((number, TripRow(number, trip)) for number, trip in enumerate(result.trades, 1))
        self.table.scrollToTop()

    def _filter(self, place: int) -> None:
        kind = KINDS[place]
        self.table.set_empty_text("It traded nothing" if kind.accept is None else "None of its trades is of that kind")
        self.model.set_filter(kind.accept)

    def _clicked(self, index: QModelIndex) -> None:
        row = self.model.record_at(index.row())
        if row is not None:
            self.trade_opened.emit(row.trip)

    def _show_summary(self, trades: list[RoundTrip]) -> None:
        """Say what winners and losers came to, and how many of each kind there are."""
        closed = [trip.pnl for trip in trades if trip.exit_ns is not None]
        gains, losses = [pnl for pnl in closed if pnl > 0], [pnl for pnl in closed if pnl <= 0]
        text = (
            f"{len(gains):,} won {formats.signed_money(math.fsum(gains))} · {len(losses):,} lost "
            f"{formats.signed_money(math.fsum(losses))}"
        )
        self.summary.show_text(text if closed else "", "Closed trades, after fees, in quote currency" if closed else "")
        self.mark.setEnabled(bool(trades))

    def _show_cut(self, result: BacktestResult) -> None:
        """Say so where the engine keeps the first trades alone."""
        closed, still_open = (result.statistics.get(name) or 0 for name in ("trades", "open_trades"))
        total, shown = int(closed + still_open), len(result.trades)
        self.cut.setText(f"These are the first {shown:,} of {total:,} trades; the statistics count all of them.")
        self.cut.setVisible(total > shown)

    def _rules(self, instrument: InstrumentId) -> Instrument | None:
        return self._bench.desk.replica.instruments.get(instrument)

    def _moment(self, time_ns: int) -> str:
        """Write a time, with seconds where bars are that short."""
        return formats.clock(time_ns) if self._timeframe_ns % _MINUTE_NS else formats.date(time_ns)
