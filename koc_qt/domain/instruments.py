"""What can be traded, and the venue's rules for it."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from functools import lru_cache

import msgspec

from koc_qt.domain.errors import InvalidOrder
from koc_qt.domain.exact import EXACT


class InstrumentId(msgspec.Struct, frozen=True, order=True, cache_hash=True, gc=False):
    """A symbol at a venue, written ``venue:symbol``, such as ``sim:BTC/USDT``."""

    venue: str
    symbol: str

    def __str__(self) -> str:
        return f"{self.venue}:{self.symbol}"

    @classmethod
    def parse(cls, text: str, *, default_venue: str | None = None) -> InstrumentId:
        """Read ``venue:symbol``; a bare symbol gets `default_venue`. Raises InvalidOrder on anything else."""
        venue, colon, symbol = text.strip().partition(":")
        if not colon and default_venue:
            venue, symbol = default_venue, venue
        if not venue or not symbol or venue != venue.strip() or symbol != symbol.strip():
            raise InvalidOrder(f"{text!r} is not an instrument: write VENUE:SYMBOL, such as sim:BTC/USDT")
        return cls(venue, symbol)


class Instrument(msgspec.Struct, frozen=True):
    """A venue's rules for one symbol.

    `tick_size` is the price increment and `lot_size` the quantity increment, in quote and base units;
    fees are fractions of the notional (0.001 is 10 basis points).
    """

    id: InstrumentId
    base: str
    quote: str
    tick_size: Decimal
    lot_size: Decimal
    min_quantity: Decimal = Decimal(0)
    max_quantity: Decimal | None = None
    min_notional: Decimal = Decimal(0)
    maker_fee: Decimal = Decimal(0)
    taker_fee: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        for name in ("tick_size", "lot_size"):
            step = getattr(self, name)
            if not (step.is_finite() and step > 0):
                raise InvalidOrder(f"{self.id}: {name} must be a number above zero, not {step}")
        for name in ("min_quantity", "max_quantity", "min_notional"):
            bound = getattr(self, name)
            if bound is not None and not (bound.is_finite() and bound >= 0):
                raise InvalidOrder(f"{self.id}: {name} must be a number, zero or more, not {bound}")
        if not (self.maker_fee.is_finite() and self.taker_fee.is_finite()):
            raise InvalidOrder(f"{self.id}: fees must be numbers, not {self.maker_fee} and {self.taker_fee}")

    def round_price(self, price: Decimal, rounding: str = ROUND_HALF_EVEN) -> Decimal:
        """Give `price` on the tick grid; ROUND_FLOOR and ROUND_CEILING choose a side."""
        return _on_grid(price, self.tick_size, rounding)

    def floor_price(self, price: Decimal) -> Decimal:
        """Give the highest tick at or below `price`."""
        return _on_grid(price, self.tick_size, ROUND_FLOOR)

    def ceil_price(self, price: Decimal) -> Decimal:
        """Give the lowest tick at or above `price`."""
        return _on_grid(price, self.tick_size, ROUND_CEILING)

    def round_quantity(self, quantity: Decimal) -> Decimal:
        """Give the largest whole number of lots in `quantity`, never more than asked for."""
        return _on_grid(quantity, self.lot_size, ROUND_DOWN)

    def ceil_quantity(self, quantity: Decimal) -> Decimal:
        """Give the least whole number of lots that is not below `quantity`."""
        return _on_grid(quantity, self.lot_size, ROUND_CEILING)


_ONE = Decimal(1)


@lru_cache(maxsize=4096)
def _shortest(step: Decimal) -> Decimal:
    """Give `step` without trailing zeros (venues send 0.01000000), yet 10 as 10 and not as 1E+1."""
    shortest = EXACT.normalize(step)
    return shortest.quantize(_ONE) if shortest == shortest.to_integral_value() else shortest


def _on_grid(value: Decimal, step: Decimal, rounding: str) -> Decimal:
    shortest = _shortest(step)
    if value.same_quantum(shortest) and not EXACT.remainder(value, shortest):
        return value  # most are on the grid already, and written as it is
    steps = EXACT.divide(value, step).quantize(_ONE, rounding, EXACT)
    return EXACT.multiply(steps, shortest)
