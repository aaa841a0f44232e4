"""What the simulated venues list, and their trading rules."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from koc_qt.domain.instruments import Instrument, InstrumentId

MAKER_FEE = Decimal("0.0002")
TAKER_FEE = Decimal("0.0005")
MIN_NOTIONAL = Decimal(5)


class Listing(msgspec.Struct, frozen=True):
    """One symbol's character.

    `price` is the level that the daily process is drawn back to, in quote units; ticks and lots are powers of ten
    (10 ** -digits), so that a float of an exact price is the division of two exact floats. `volatility` scales the
    common daily volatility, `market_share` is the part of it shared with all other symbols (0..1), and
    `trade_notional` is the mean value of a trade in quote units.
    """

    base: str
    quote: str
    price: float
    price_digits: int
    lot_digits: int
    volatility: float
    market_share: float
    trade_notional: float

    @property
    def symbol(self) -> str:
        """The symbol as people write it."""
        return f"{self.base}/{self.quote}"

    @property
    def mean_trade_lots(self) -> float:
        """The mean size of a trade at the long-run price."""
        return self.trade_notional / self.price * 10.0**self.lot_digits

    def instrument(self, venue: str) -> Instrument:
        """Give the rules for this symbol at `venue`."""
        lot_size = Decimal(1).scaleb(-self.lot_digits)
        return Instrument(
            id=InstrumentId(venue, self.symbol),
            base=self.base,
            quote=self.quote,
            tick_size=Decimal(1).scaleb(-self.price_digits),
            lot_size=lot_size,
            min_quantity=lot_size,
            min_notional=MIN_NOTIONAL,
            maker_fee=MAKER_FEE,
            taker_fee=TAKER_FEE,
        )


LISTINGS = (
    Listing("BTC", "USDT", 64_000.0, 2, 5, 1.0, 0.90, 1_400.0),
    Listing("ETH", "USDT", 3_200.0, 2, 4, 1.2, 0.80, 1_000.0),
    Listing("SOL", "USDT", 150.0, 2, 3, 1.6, 0.65, 600.0),
    Listing("XRP", "USDT", 0.62, 4, 1, 1.4, 0.60, 400.0),
    Listing("DOGE", "USDT", 0.125, 5, 0, 1.7, 0.60, 300.0),
)
