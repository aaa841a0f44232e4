"""What an exchange may list, with the rules of the larger venues; a dialect changes what is different at its own."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from koc_qt.domain.instruments import Instrument, InstrumentId

_2020_NS = 1_577_836_800_000_000_000


class Trading(StrEnum):
    """Whether a symbol can be traded now."""

    OPEN = "open"
    CLOSED = "closed"  # halted, or outside of trading hours: listed, but no order is taken
    DELISTED = "delisted"


@dataclass(frozen=True)
class Listing:
    """A symbol, its rules, and the price about which its seeded market moves; change one with dataclasses.replace.

    `symbol` is as in the product: BTC/USDT for pairs, AAPL for stocks. `max_quantity` is zero where there is no bound.
    """

    symbol: str
    price: Decimal
    tick: Decimal
    lot: Decimal
    min_quantity: Decimal = Decimal(0)
    max_quantity: Decimal = Decimal(0)
    min_notional: Decimal = Decimal(0)
    maker_fee: Decimal = Decimal("0.001")
    taker_fee: Decimal = Decimal("0.001")
    listed_ns: int = _2020_NS
    stock: bool = False

    @property
    def base(self) -> str:
        """What is bought and sold."""
        return self.symbol.partition("/")[0]

    @property
    def quote(self) -> str:
        """What it is paid in."""
        return self.symbol.partition("/")[2] or "USD"

    def instrument(self, venue: str) -> Instrument:
        """Give the rules as the product knows them."""
        return Instrument(
            id=InstrumentId(venue, self.symbol),
            base=self.base,
            quote=self.quote,
            tick_size=self.tick,
            lot_size=self.lot,
            min_quantity=self.min_quantity,
            max_quantity=self.max_quantity or None,
            min_notional=self.min_notional,
            maker_fee=self.maker_fee,
            taker_fee=self.taker_fee,
        )


def _pair(symbol: str, price: str, tick: str, lot: str, least: str = "0") -> Listing:
    return Listing(symbol, Decimal(price), Decimal(tick), Decimal(lot), Decimal(lot), min_notional=Decimal(least))


def _stock(symbol: str, price: str) -> Listing:
    cent, lot, free = Decimal("0.01"), Decimal("0.000000001"), Decimal(0)
    return Listing(symbol, Decimal(price), cent, lot, lot, maker_fee=free, taker_fee=free, stock=True)


LISTINGS = {
    listing.symbol: listing
    for listing in (
        _pair("BTC/USDT", "64000", "0.01", "0.00001", "5"),
        _pair("ETH/USDT", "3200", "0.01", "0.0001", "5"),
        _pair("SOL/USDT", "150", "0.01", "0.001", "5"),
        _pair("BTC/USD", "64000", "0.01", "0.00000001", "1"),
        _pair("ETH/USD", "3200", "0.01", "0.00000001", "1"),
        _pair("SOL/USD", "150", "0.01", "0.00000001", "1"),
        _pair("ETH/BTC", "0.05", "0.00001", "0.0001", "0.0001"),
        _stock("AAPL", "210"),
        _stock("MSFT", "430"),
        _stock("SPY", "540"),
    )
}


def listings(*symbols: str) -> tuple[Listing, ...]:
    """Give some of them."""
    return tuple(LISTINGS[symbol] for symbol in symbols)
