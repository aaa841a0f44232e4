"""What a simulated venue assumes about fills: stated once, used by simulator, paper trading and back-tests alike."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec

from koc_qt.domain.errors import ConfigError
from koc_qt.domain.exact import EXACT
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.orders import Liquidity

_MAKER = Liquidity.MAKER


class QueueModel(StrEnum):
    """When a resting limit order is reached by trades (or bars) at exactly its price.

    Trades through the price fill in every model. THROUGH: nothing else does, the most careful assumption. POSITION: the
    order joins behind the size displayed at its price, and moves up as trades at that price are printed and as the
    displayed size shrinks below what is thought to be ahead; cancels ahead are never guessed. Where no size is
    displayed (bars, trades alone, below the visible levels) it equals THROUGH. TOUCH: it stands first in line, the
    hopeful bound.
    """

    THROUGH = "through"
    POSITION = "position"
    TOUCH = "touch"


class FillModel(msgspec.Struct, frozen=True, kw_only=True):
    """Assumptions of the matching engine; raises ConfigError on values that make no sense.

    `latency_ns` passes from submit or cancel to its effect, plus up to `latency_jitter_ns` drawn at random; order is
    kept. Takers pay `slippage_fraction` of the price and `slippage_ticks` on top, never beyond their limit; makers
    none. Of a bar's volume at most `bar_volume_fraction` is ours, None for all that is asked (series without volume).
    `maker_fee` and `taker_fee` override the instrument's, as fractions of the notional; a negative one is a rebate.
    """

    latency_ns: int = 0
    latency_jitter_ns: int = 0
    slippage_fraction: Decimal = Decimal(0)
    slippage_ticks: int = 0
    queue: QueueModel = QueueModel.POSITION
    bar_volume_fraction: Decimal | None = Decimal("0.1")
    maker_fee: Decimal | None = None
    taker_fee: Decimal | None = None

    def __post_init__(self) -> None:
        for name in ("latency_ns", "latency_jitter_ns", "slippage_ticks"):
            if getattr(self, name) < 0:
                raise ConfigError(f"fill model: {name} must not be negative, it is {getattr(self, name)}")
        if not 0 <= self.slippage_fraction < 1:
            raise ConfigError(f"fill model: slippage_fraction must be from 0 to below 1, not {self.slippage_fraction}")
        if self.bar_volume_fraction is not None and not 0 < self.bar_volume_fraction <= 1:
            share = self.bar_volume_fraction
            raise ConfigError(f"fill model: bar_volume_fraction must be above 0 and at most 1, or None, not {share}")
        for name in ("maker_fee", "taker_fee"):
            fee = getattr(self, name)
            if fee is not None and not -1 < fee < 1:
                raise ConfigError(f"fill model: {name} is a fraction of the notional, it cannot be {fee}")

    def fee_rate(self, instrument: Instrument, liquidity: Liquidity) -> Decimal:
        """Give the fee as a fraction of the notional."""
        if liquidity is _MAKER:
            return instrument.maker_fee if self.maker_fee is None else self.maker_fee
        return instrument.taker_fee if self.taker_fee is None else self.taker_fee

    def taker_price(self, instrument: Instrument, is_buy: bool, price: Decimal, limit: Decimal | None) -> Decimal:
        """Give what a taker pays where the market shows `price`: slipped against it, on the tick, within its limit."""
        if self.slippage_fraction or self.slippage_ticks:
            ticks = EXACT.multiply(instrument.tick_size, Decimal(self.slippage_ticks))
            slip = EXACT.add(EXACT.multiply(price, self.slippage_fraction), ticks)
            if is_buy:
                price = instrument.ceil_price(EXACT.add(price, slip))
            else:
                price = max(instrument.floor_price(EXACT.subtract(price, slip)), min(price, instrument.tick_size))
        if limit is None:
            return price
        return min(price, limit) if is_buy else max(price, limit)
