"""Trades made of fills: from flat, or from the other side, until flat or reversed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from koc_qt.domain.backtests import RoundTrip
from koc_qt.domain.exact import add, multiply, quotient, subtract
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Fill

_ZERO = Decimal(0)
_BUY = Side.BUY


def round_trips(fills: Iterable[Fill], marks: Mapping[InstrumentId, float] | None = None) -> list[RoundTrip]:
    """Give the trades that fills make, in the order in which they ended; those still open last.

    A trade lasts from flat until flat; a fill that reverses a holding ends one and begins another, and its fee is
    shared by quantity. Sums are exact and rounded once, to float. Fees are taken to be in quote currency. What is open
    is valued at its instrument's price in `marks`, or at its entry where there is none.
    """
    book = TripBook()
    for fill in fills:
        book.add(fill)
    return book.trips(marks or {})


class TripBook:
    """Makes trades of fills as they come; see `round_trips`."""

    def __init__(self) -> None:
        self._closed: list[RoundTrip] = []
        self._open: dict[InstrumentId, _Trip] = {}

    def add(self, fill: Fill) -> None:
        """Take the next fill."""
        trip = self._open.get(fill.instrument)
        left, fee = fill.quantity, fill.fee
        if trip is not None and trip.is_long is not (fill.side is _BUY):
            closing = min(left, trip.held)
            share = fee if closing == left else quotient(multiply(fee, closing), left)
            trip.exit(fill.price, closing, share)
            if not trip.held:
                self._closed.append(trip.closed(fill.time_ns))
                del self._open[fill.instrument]
                trip = None
            if closing == left:
                return
            left, fee = subtract(left, closing), subtract(fee, share)
        if trip is None:
            trip = self._open[fill.instrument] = _Trip(fill)
        trip.enter(fill.price, left, fee)

    def trips(self, marks: Mapping[InstrumentId, float]) -> list[RoundTrip]:
        """Give the closed trades, then the open ones, valued at `marks`."""
        return [*self._closed, *(trip.marked(marks.get(key)) for key, trip in self._open.items())]


class _Trip:
    """A trade that is open. Amounts are exact."""

    __slots__ = ("_entered", "_entry_ns", "_exited", "_fees", "_instrument", "_paid", "_received", "held", "is_long")

    def __init__(self, fill: Fill) -> None:
        self.is_long = fill.side is _BUY
        self.held = self._entered = self._paid = self._exited = self._received = self._fees = _ZERO
        self._instrument = fill.instrument
        self._entry_ns = fill.time_ns

    def enter(self, price: Decimal, quantity: Decimal, fee: Decimal) -> None:
        self._entered = add(self._entered, quantity)
        self._paid = add(self._paid, multiply(price, quantity))
        self.held = add(self.held, quantity)
        self._fees = add(self._fees, fee)

    def exit(self, price: Decimal, quantity: Decimal, fee: Decimal) -> None:
        self._exited = add(self._exited, quantity)
        self._received = add(self._received, multiply(price, quantity))
        self.held = subtract(self.held, quantity)
        self._fees = add(self._fees, fee)

    def closed(self, time_ns: int) -> RoundTrip:
        return self._trip(time_ns, float(quotient(self._received, self._exited)), _ZERO)

    def marked(self, mark: float | None) -> RoundTrip:
        price = quotient(self._paid, self._entered) if mark is None else Decimal(repr(mark))
        return self._trip(None, None, multiply(price, self.held))

    def _trip(self, exit_ns: int | None, exit_price: float | None, worth: Decimal) -> RoundTrip:
        gain = subtract(add(self._received, worth), self._paid)
        if not self.is_long:
            gain = gain.copy_negate()
        quantity = float(self._entered)
        return RoundTrip(
            self._instrument,
            quantity if self.is_long else -quantity,
            self._entry_ns,
            float(quotient(self._paid, self._entered)),
            exit_ns,
            exit_price,
            float(self._fees),
            float(subtract(gain, self._fees)),
        )
