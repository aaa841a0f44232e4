"""Which stretch of history a back-test runs on: the last so many days, all of a file, or between two moments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from PySide6.QtCore import QDateTime, QTimeZone, Signal
from PySide6.QtWidgets import QComboBox, QDateTimeEdit, QVBoxLayout, QWidget

from koc_qt.domain.backtests import ALL_NS
from koc_qt.domain.errors import BadTimeframe
from koc_qt.domain.timeframes import DAY_NS, SECOND_NS, bar_open_ns, duration_ns
from koc_qt.ui.panels.backtest_fields import Cells, Field, WheelGuard

HOUR_NS = 3_600 * SECOND_NS
QUICK_NS = {
    "1 hour": HOUR_NS,
    "6 hours": 6 * HOUR_NS,
    "1 day": DAY_NS,
    "7 days": 7 * DAY_NS,
    "30 days": 30 * DAY_NS,
    "90 days": 90 * DAY_NS,
    "1 year": 365 * DAY_NS,
}
OWN = "From, to"
WHOLE = "All of the file"
FIRST_RUN_BARS = 50_000  # done within seconds, its history fetched
_OLDEST_S = 0  # 1970-01-01
_NEWEST_S = 4_102_444_800  # 2100-01-01


def quick_for(timeframe: str) -> str:
    """Give the longest of the quick ranges whose bars a first run gets through in seconds. Raises BadTimeframe."""
    bar_ns = duration_ns(timeframe)
    fitting = [name for name, span_ns in QUICK_NS.items() if span_ns // bar_ns <= FIRST_RUN_BARS]
    return fitting[-1] if fitting else next(iter(QUICK_NS))


class SpanPicker(QWidget):
    """A choice of quick ranges that end now, or of all of a file, and of two moments in UTC.

    `changed` says that it may differ.

    Its widgets are made by `parts`, which whoever has it goes through before anything else.
    """

    changed = Signal()

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._is_chosen = False  # by the person: otherwise it follows the timeframe
        self._is_on_file = False
        self._guard = WheelGuard(self)

    def parts(self) -> Iterator[None]:
        """Make the choice, then the fields of the two moments."""
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        self.quick = QComboBox(self)
        self.quick.addItems(self._offered)
        self.quick.setAccessibleName("Range")
        self.quick.setMinimumContentsLength(8)
        self.quick.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._guard.watch(self.quick)
        column.addWidget(self.quick)
        self.own = Cells(142, self, most=2)
        self.own.hide()
        column.addWidget(self.own)
        yield
        self.since = self._moment("From, UTC")
        yield
        self.until = self._moment("To, UTC")
        self.quick.activated.connect(lambda _row: self._picked())
        self.quick.currentTextChanged.connect(self._show_own)
        self.since.dateTimeChanged.connect(lambda _when: self.changed.emit())
        self.until.dateTimeChanged.connect(lambda _when: self.changed.emit())

    def _moment(self, name: str) -> QDateTimeEdit:
        field = Field(name, self.own)
        edit = QDateTimeEdit(field)
        edit.setTimeZone(QTimeZone.utc())
        edit.setDisplayFormat("yyyy-MM-dd HH:mm")
        edit.setCalendarPopup(True)
        edit.setMinimumDateTime(_utc(_OLDEST_S))
        edit.setMaximumDateTime(_utc(_NEWEST_S))
        edit.setMinimumWidth(100)
        edit.setAccessibleName(name)
        self._guard.watch(edit)
        field.hold(edit)
        self.own.add(field)
        return edit

    @property
    def is_own(self) -> bool:
        """Whether it is from one moment to another."""
        return self.quick.currentText() == OWN

    @property
    def _offered(self) -> list[str]:
        return [WHOLE, OWN] if self._is_on_file else [*map(_text, QUICK_NS), OWN]

    def turn_to(self, timeframe: str, *, is_on_file: bool) -> None:
        """Offer what suits a file, all of it first, or what suits a market and a timeframe."""
        self._is_on_file, self._is_chosen = is_on_file, False
        self.quick.blockSignals(True)
        self.quick.clear()
        self.quick.addItems(self._offered)
        self.quick.blockSignals(False)
        self.follow(timeframe)
        self._show_own("")

    def follow(self, timeframe: str) -> None:
        """Choose what suits a timeframe, unless the person has chosen. One that is none changes nothing."""
        if self._is_chosen or self._is_on_file:
            return
        try:
            name = quick_for(timeframe)
        except BadTimeframe:
            return
        self.quick.setCurrentText(f"Last {name}")

    def propose(self, now_ns: int) -> None:
        """Put the last week into the two moments, for whoever turns to them."""
        day_ns = now_ns // DAY_NS * DAY_NS
        self._set_own(day_ns - 7 * DAY_NS, day_ns)

    def span(self, now_ns: int, timeframe: str) -> tuple[int, int]:
        """Give the range in UTC nanoseconds, on the timeframe's grid where it ends now. Raises BadTimeframe."""
        if self.quick.currentText() == WHOLE:
            return ALL_NS
        if self.is_own:
            return self.since.dateTime().toSecsSinceEpoch() * SECOND_NS, self.until.dateTime().toSecsSinceEpoch() * (
                SECOND_NS
            )
        until_ns = bar_open_ns(now_ns, timeframe)
        return until_ns - QUICK_NS[self.quick.currentText().removeprefix("Last ")], until_ns

    def state(self) -> dict[str, Any]:
        """Give what the person chose."""
        if not self._is_chosen:
            return {}
        since, until = (edit.dateTime().toSecsSinceEpoch() for edit in (self.since, self.until))
        return {"quick": self.quick.currentText().removeprefix("Last "), "since_s": since, "until_s": until}

    def restore(self, state: dict[str, Any]) -> None:
        """Take that over, as far as it makes sense."""
        quick, since, until = state.get("quick"), state.get("since_s"), state.get("until_s")
        if type(since) is int and type(until) is int and _OLDEST_S <= since < until <= _NEWEST_S:
            self._set_own(since * SECOND_NS, until * SECOND_NS)
        elif quick == OWN:
            return
        if isinstance(quick, str) and _text(quick) in self._offered:
            self._is_chosen = True
            self.quick.setCurrentText(_text(quick))

    def choose(self, quick: str) -> None:
        """Choose as the person does: a name of QUICK_NS, OWN, or of a file WHOLE."""
        self.quick.setCurrentText(_text(quick))
        self._picked()

    def _picked(self) -> None:
        self._is_chosen = True
        self.changed.emit()

    def _show_own(self, _text: str) -> None:
        self.own.setVisible(self.is_own)

    def _set_own(self, since_ns: int, until_ns: int) -> None:
        self.since.setDateTime(_utc(since_ns // SECOND_NS))
        self.until.setDateTime(_utc(until_ns // SECOND_NS))


def _text(quick: str) -> str:
    return quick if quick in (OWN, WHOLE) else f"Last {quick}"


def _utc(seconds: int) -> QDateTime:
    return QDateTime.fromSecsSinceEpoch(seconds, QTimeZone.utc())
