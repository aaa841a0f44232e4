"""What other people's engines are asked for, in their numbers, and what they cannot do."""

from __future__ import annotations

from decimal import Decimal

from koc_qt.domain.errors import EngineLacks, StrategyError
from koc_qt.domain.exact import EXACT
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.market import Side
from koc_qt.domain.matching.market import exact_price
from koc_qt.domain.orders import Fill, Liquidity
from koc_qt.domain.percentages import percentage
from koc_qt.sdk.channel import StartReplay
from koc_qt.sdk.orders import to_decimal
from koc_qt.worker.replay_desk import ACCOUNT

_NEAR = 1e-9  # how far a fee may be from price times quantity times rate, as a share of it: an engine counts in floats
_OURS = "use the replay engine for that"


def refuse_latency(name: str, start: StartReplay) -> None:
    """Raise EngineLacks for a run with latency: `name`, the engine, knows none."""
    if start.latency_ns:
        raise EngineLacks(f"{name} knows no latency, and {start.latency_ns / 1e6:g} ms are asked for: {_OURS}")


def exact_fill(
    name: str,
    key: str,
    nth: int,
    instrument: Instrument,
    side: Side,
    *,
    price: float,
    quantity: float,
    fee: float,
    rate: Decimal,
    liquidity: Liquidity,
    time_ns: int,
) -> Fill:
    """Put what `name`, an engine, did into exact numbers: the `nth` fill of the order `key`.

    Raises StrategyError when it charged another fee than `rate` of the notional.
    """
    exact = exact_price(price)
    # the nearest lot: what is left of an order that was filled in parts has the dust of floats, far below the fee's
    lots = instrument.round_quantity(EXACT.add(to_decimal(quantity), EXACT.divide(instrument.lot_size, Decimal(2))))
    due = EXACT.multiply(EXACT.multiply(exact, lots), rate)
    if not abs(float(due) - fee) <= _NEAR * abs(float(due)):
        raise StrategyError(f"{name} charged {fee} where {due:f} is due: its result cannot be trusted")
    return Fill(
        fill_id=f"{key}-{nth}",
        client_order_id=key,
        strategy_id=ACCOUNT,
        account_id=ACCOUNT,
        instrument=instrument.id,
        side=side,
        price=exact,
        quantity=lots,
        fee=due,
        fee_currency=instrument.quote,
        liquidity=liquidity,
        time_ns=time_ns,
    )


class Terms:
    """The settings of a run on one instrument, at the market. Raises EngineLacks for what `name` cannot do."""

    def __init__(self, name: str, start: StartReplay) -> None:
        if len(start.instruments) != 1:
            raise EngineLacks(f"{name} runs one symbol here, not {len(start.instruments)}: {_OURS}")
        refuse_latency(name, start)
        if start.slippage_ticks:
            raise EngineLacks(f"{name} knows no slippage in ticks, and {start.slippage_ticks} are asked for: {_OURS}")
        self.name = name
        self.instrument: Instrument = start.instruments[0]
        self.fee = self.instrument.taker_fee if start.fee is None else start.fee
        self.slippage = start.slippage + start.spread / 2
        self.cash = start.cash
        self.volume_fraction = start.volume_fraction
        self._above_share = 0

    def fill(self, number: int, side: Side, price: float, quantity: float, fee: float, time_ns: int) -> Fill:
        """Put an engine's order into exact numbers. Raises StrategyError when it charged another fee than agreed."""
        return exact_fill(
            self.name,
            f"bt{number}",
            1,
            self.instrument,
            side,
            price=price,
            quantity=quantity,
            fee=fee,
            rate=self.fee,
            liquidity=Liquidity.TAKER,
            time_ns=time_ns,
        )

    def note_volume(self, quantity: float, volume: float) -> None:
        """Count a fill that was more than our share of its bar's volume."""
        if self.volume_fraction is not None and quantity > volume * float(self.volume_fraction):
            self._above_share += 1

    def reservations(self, *, has_volume: bool) -> list[str]:
        """Say where the run was kinder than the replay engine would have been, once it is over."""
        found = []
        if self._above_share and has_volume and self.volume_fraction is not None:
            found.append(
                f"{self._above_share:,} fills were more than {percentage(float(self.volume_fraction))} of their bar's "
                f"volume: {self.name} fills every order whole"
            )
        if self.slippage:
            found.append(f"{self.name} rounds no price to the tick: with slippage and spread it differs by up to one")
        return found
