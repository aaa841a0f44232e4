"""What the window hands to each panel: the desk, the streams, the look, the commands, and word to each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QWidget

from koc_qt.domain.backtests import RoundTrip
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Side
from koc_qt.ui.actions import Actions
from koc_qt.ui.desk import Desk
from koc_qt.ui.streams import Streams
from koc_qt.ui.theme import Theme
from koc_qt.ui.work import Work


@dataclass(frozen=True)
class MarkedTrips:
    """Trades of a back-test that charts of their markets show, `chosen` brought out; `run` is its name for people.

    Charts of that market and `timeframe` go to the chosen one.
    """

    run: str = ""
    timeframe: str = ""
    trips: tuple[RoundTrip, ...] = ()
    chosen: RoundTrip | None = None

    def of(self, instrument: InstrumentId) -> MarkedTrips:
        """Give those of one market."""
        chosen = self.chosen if self.chosen is not None and self.chosen.instrument == instrument else None
        return MarkedTrips(
            self.run, self.timeframe, tuple(trip for trip in self.trips if trip.instrument == instrument), chosen
        )

    def __bool__(self) -> bool:
        return bool(self.trips) or self.chosen is not None


class Requests(QObject):
    """What one panel asks of another, or of the window. `marked` is for charts that are made later."""

    chart_wanted = Signal(object, str)  # InstrumentId, timeframe: a chart of it, a new one where none shows it
    time_wanted = Signal(object, object)  # InstrumentId, int UTC nanoseconds: charts of it go there
    strategy_offered = Signal(str)  # path of a strategy file: show the form that starts it
    backtest_offered = Signal(str)  # path of a strategy file: put it into the back-test panel
    bars_offered = Signal(list)  # paths of files of bars on this machine: run the back-test panel's next run on them
    ticket_wanted = Signal(object, object, object)  # InstrumentId, Side or None, Decimal price or None
    panel_wanted = Signal(str)  # name of a panel: show it, and bring it to the front
    panel_unwanted = Signal(str)  # name of a panel: close its dock
    trips_marked = Signal()  # charts show what `marked` is now
    instrument_chosen = Signal(object)  # InstrumentId that the person is looking at: the ticket follows

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.marked = MarkedTrips()

    def mark(self, trips: MarkedTrips) -> None:
        """Have charts show these trades of a back-test and no others."""
        self.marked = trips
        self.trips_marked.emit()

    def open_chart(self, instrument: InstrumentId, timeframe: str = "") -> None:
        """Ask for a chart of an instrument; an empty timeframe leaves the choice."""
        self.chart_wanted.emit(instrument, timeframe)

    def open_ticket(self, instrument: InstrumentId, side: Side | None = None, price: Decimal | None = None) -> None:
        """Ask for the order ticket, filled in."""
        self.ticket_wanted.emit(instrument, side, price)


@dataclass(frozen=True)
class Bench:
    """Handed to every panel's constructor; `in_steps`: it leaves the panel's parts to be made when asked for."""

    desk: Desk
    streams: Streams
    theme: Theme
    actions: Actions
    requests: Requests
    in_steps: bool = False
    work: Work = field(default_factory=Work)


class Panel(QWidget):
    """What a dock holds. `NAME` is its stable name in layouts, `TITLE` what people read, `ICON` a name of ui/icons.py.

    A panel gets its state back through `restore` before it is shown, in any version's form: what it cannot read, it
    ignores. It connects to `bench.desk.framed` and shows what is in the replica also when it is made late.

    A panel whose widgets take more than some milliseconds to make does so in `parts`, and ends its constructor with
    `self.make()`: in the window other things get their turn between two parts. Give each widget its parent when it is
    made, outermost first: one that is put into another later is styled anew with all that it holds.
    """

    NAME: ClassVar[str]
    TITLE: ClassVar[str]
    ICON: ClassVar[str]

    def __init__(self, bench: Bench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAutoFillBackground(True)  # all docks lie on one surface, also where a panel paints none of its own
        self.bench = bench
        self.desk = bench.desk
        self._parts: Iterator[None] = iter(())

    def parts(self) -> Iterator[None]:
        """Make the widgets, and connect them at the end; a `yield` every few milliseconds."""
        yield from ()

    def make(self) -> None:
        """Begin to make the parts; where the bench does not say that it is done in steps, make them all."""
        self._parts = self.parts()
        if self.bench.in_steps:
            self.hide()  # also where what it is in is shown meanwhile: whoever has it whole shows it
            return
        for _ in self._parts:
            pass

    def make_part(self) -> bool:
        """Make one more part; False once there are no more."""
        return next(self._parts, self) is None

    def state(self) -> dict[str, Any]:
        """Give what shall be there again after a restart, of JSON's types."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave once."""

    def retire(self) -> None:
        """Let go of what the engine does for this panel alone: it is about to be deleted."""
