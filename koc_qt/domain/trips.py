"""Trades made of fills: from flat, or from the other side, until flat or reversed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from koc_qt.domain.backtests import RoundTrip
from koc_qt.domain.exact import EXACT, quotient
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.orders import Fill

_ZERO = Decimal(0)


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
        if trip is not None and trip.is_long is not (fill.side.sign > 0):
            closing = min(left, abs(trip.held))
            share = fee if closing == left else quotient(EXACT.multiply(fee, closing), left)
            trip.exit(fill, closing, share)
            left, fee = EXACT.subtract(left, closing), EXACT.subtract(fee, share)
            if not trip.held:
                self._closed.append(trip.closed(fill.time_ns))
                del self._open[fill.instrument]
                trip = None
        if left:
            if trip is None:
                trip = self._open[fill.instrument] = _Trip(fill)
            trip.enter(fill, left, fee)

    def trips(self, marks: Mapping[InstrumentId, float]) -> list[RoundTrip]:
        """Give the closed trades, then the open ones, valued at `marks`."""
        return [*self._closed, *(trip.marked(marks.get(key)) for key, trip in self._open.items())]


class _Trip:
    """A trade that is open. Amounts are exact."""

    def __init__(self, fill: Fill) -> None:
        self.is_long = fill.side.sign > 0
        self.held = _ZERO  # signed
        self._instrument = fill.instrument
        self._entry_ns = fill.time_ns
        self._entered = self._paid = self._exited = self._received = self._fees = _ZERO

    def enter(self, fill: Fill, quantity: Decimal, fee: Decimal) -> None:
        self._entered = EXACT.add(self._entered, quantity)
        self._paid = EXACT.add(self._paid, EXACT.multiply(fill.price, quantity))
        self._move(quantity, fee, fill.side.sign)

    def exit(self, fill: Fill, quantity: Decimal, fee: Decimal) -> None:
        self._exited = EXACT.add(self._exited, quantity)
        self._received = EXACT.add(self._received, EXACT.multiply(fill.price, quantity))
        self._move(quantity, fee, fill.side.sign)

    def _move(self, quantity: Decimal, fee: Decimal, sign: int) -> None:
        self.held = EXACT.add(self.held, quantity if sign > 0 else quantity.copy_negate())
        self._fees = EXACT.add(self._fees, fee)

    def closed(self, time_ns: int) -> RoundTrip:
        return self._trip(time_ns, float(quotient(self._received, self._exited)), _ZERO)

    def marked(self, mark: float | None) -> RoundTrip:
        price = quotient(self._paid, self._entered) if mark is None else Decimal(repr(mark))
        return self._trip(None, None, EXACT.multiply(price, abs(self.held)))

    def _trip(self, exit_ns: int | None, exit_price: float | None, worth: Decimal) -> RoundTrip:
        gain = EXACT.subtract(EXACT.add(self._received, worth), self._paid)
        if not self.is_long:
            gain = gain.copy_negate()
        return RoundTrip(
            self._instrument,
            float(self._entered) if self.is_long else -float(self._entered),
            self._entry_ns,
            float(quotient(self._paid, self._entered)),
            exit_ns,
            exit_price,
            float(self._fees),
            float(EXACT.subtract(gain, self._fees)),
        )
