"""What can be traded, and the venue's rules for it."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from functools import lru_cache

import msgspec

from koc_qt.domain.errors import InvalidOrder


class InstrumentId(msgspec.Struct, frozen=True, order=True, cache_hash=True):
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
        if self.tick_size <= 0 or self.lot_size <= 0:
            raise InvalidOrder(f"{self.id}: tick size and lot size must be above zero")

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


@lru_cache(maxsize=4096)
def _exponent(step: Decimal) -> Decimal:
    return step.normalize()


def _on_grid(value: Decimal, step: Decimal, rounding: str) -> Decimal:
    return (value / step).to_integral_value(rounding=rounding) * _exponent(step)
