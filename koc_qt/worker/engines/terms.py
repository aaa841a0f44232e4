"""What other people's engines are asked for, in their numbers, and what they cannot do."""

from __future__ import annotations

from koc_qt.domain.errors import StrategyError
from koc_qt.domain.exact import EXACT
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.market import Side
from koc_qt.domain.matching.market import exact_price
from koc_qt.domain.orders import Fill, Liquidity
from koc_qt.sdk.channel import StartReplay
from koc_qt.sdk.orders import to_decimal
from koc_qt.worker.replay_desk import ACCOUNT

_NEAR = 1e-9  # how far a fee may be from price times quantity times rate, as a share of it: an engine counts in floats


class Terms:
    """The settings of a run on one instrument. Raises StrategyError for what `name`, the engine, cannot do."""

    def __init__(self, name: str, start: StartReplay) -> None:
        if len(start.instruments) != 1:
            raise StrategyError(f"{name} runs one symbol here, not {len(start.instruments)}: {_OURS}")
        if start.latency_ns:
            raise StrategyError(f"{name} knows no latency, and {start.latency_ns / 1e6:g} ms are asked for: {_OURS}")
        if start.slippage_ticks:
            raise StrategyError(f"{name} knows no slippage in ticks, and {start.slippage_ticks} are asked for: {_OURS}")
        self.name = name
        self.instrument: Instrument = start.instruments[0]
        self.fee = self.instrument.taker_fee if start.fee is None else start.fee
        self.slippage = start.slippage + start.spread / 2
        self.cash = start.cash
        self.allow_short = start.allow_short
        self.volume_fraction = start.volume_fraction
        self._above_share = 0

    def fill(self, number: int, side: Side, price: float, quantity: float, fee: float, time_ns: int) -> Fill:
        """Put what an engine did into exact numbers. Raises StrategyError when it charged another fee than agreed."""
        exact, lots = exact_price(price), self.instrument.round_quantity(to_decimal(quantity))
        due = EXACT.multiply(EXACT.multiply(exact, lots), self.fee)
        if not abs(float(due) - fee) <= _NEAR * abs(float(due)):
            raise StrategyError(f"{self.name} charged {fee} where {due:f} is due: its result cannot be trusted")
        return Fill(
            fill_id=f"bt{number}-1",
            client_order_id=f"bt{number}",
            strategy_id=ACCOUNT,
            account_id=ACCOUNT,
            instrument=self.instrument.id,
            side=side,
            price=exact,
            quantity=lots,
            fee=due,
            fee_currency=self.instrument.quote,
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
                f"{self._above_share:,} fills were more than {float(self.volume_fraction):.0%} of their bar's volume: "
                f"{self.name} fills every order whole"
            )
        if self.slippage:
            found.append(f"{self.name} rounds no price to the tick: with slippage and spread it differs by up to one")
        return found


_OURS = "use the replay engine for that"
