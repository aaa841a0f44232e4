"""What a strategy holds of one instrument, and what it has earned with it: first in, first out."""

from __future__ import annotations

from collections import deque
from decimal import Decimal

from koc_qt.domain.exact import EXACT, quotient
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Fill
from koc_qt.domain.state import PositionSnapshot

_ZERO = Decimal(0)


class Position:
    """A holding made of lots, each a signed quantity (base units) and its price (quote currency).

    Fills are applied in the order in which they are told; each id counts once. Memory: the ids, and one lot for every
    run of open fills at one price. All sums are exact.
    """

    def __init__(self, strategy_id: str, account_id: str, instrument: Instrument) -> None:
        self.strategy_id = strategy_id
        self.account_id = account_id
        self.instrument = instrument
        self._lots: deque[tuple[Decimal, Decimal]] = deque()
        self._fill_ids: set[str] = set()
        self._quantity = _ZERO
        self._cost = _ZERO  # of the open lots: signed quantity times price
        self._realised = _ZERO
        self._fees = _ZERO
        self._other_fees: dict[str, Decimal] = {}
        self._trades = 0

    def apply(self, fill: Fill) -> bool:
        """Count a fill; False when its id was counted before. Raises ValueError for a fill of another position.

        The oldest lots are closed first; what is left over opens a lot on the other side. A fee that was taken in the
        base currency is no longer held: it leaves at the fill's price, and counts among the fees.
        """
        ours = (self.strategy_id, self.account_id, self.instrument.id)
        if (fill.strategy_id, fill.account_id, fill.instrument) != ours:
            raise ValueError(
                f"fill {fill.fill_id} is of {fill.strategy_id} on {fill.account_id} in {fill.instrument}, "
                f"the position of {ours[0]} on {ours[1]} in {ours[2]}"
            )
        if fill.fill_id in self._fill_ids:
            return False
        self._fill_ids.add(fill.fill_id)
        self._pay(fill)
        self._move(fill.quantity if fill.side is Side.BUY else EXACT.minus(fill.quantity), fill.price)
        if fill.fee_currency == self.instrument.base:
            self._move(EXACT.minus(fill.fee), fill.price)
        return True

    def _move(self, quantity: Decimal, price: Decimal) -> None:
        """Hold so much more, or less where it is below zero."""
        left = self._close(quantity, price)
        if left:
            self._open(left, price)

    def _pay(self, fill: Fill) -> None:
        if fill.fee_currency == self.instrument.quote:
            self._fees = EXACT.add(self._fees, fill.fee)
        elif fill.fee_currency == self.instrument.base:
            self._fees = EXACT.add(self._fees, EXACT.multiply(fill.fee, fill.price))
        elif fill.fee:
            paid = self._other_fees.get(fill.fee_currency, _ZERO)
            self._other_fees[fill.fee_currency] = EXACT.add(paid, fill.fee)

    def _close(self, quantity: Decimal, price: Decimal) -> Decimal:
        """Close lots of the other side against a signed quantity; gives what is left of it."""
        lots = self._lots
        if not lots or (lots[0][0] > 0) == (quantity > 0):
            return quantity
        while quantity and lots:
            lot_quantity, lot_price = lots[0]
            is_part = quantity.copy_abs() < lot_quantity.copy_abs()
            closed = EXACT.minus(quantity) if is_part else lot_quantity
            if closed == lot_quantity:
                lots.popleft()
            else:
                lots[0] = (EXACT.subtract(lot_quantity, closed), lot_price)
            gain = EXACT.multiply(EXACT.subtract(price, lot_price), closed)
            self._realised = EXACT.add(self._realised, gain)
            self._cost = EXACT.subtract(self._cost, EXACT.multiply(closed, lot_price))
            self._quantity = EXACT.subtract(self._quantity, closed)
            quantity = EXACT.add(quantity, closed)
        if not lots:
            self._trades += 1
        return quantity

    def _open(self, quantity: Decimal, price: Decimal) -> None:
        lots = self._lots
        if lots and lots[-1][1] == price:
            lots[-1] = (EXACT.add(lots[-1][0], quantity), price)
        else:
            lots.append((quantity, price))
        self._cost = EXACT.add(self._cost, EXACT.multiply(quantity, price))
        self._quantity = EXACT.add(self._quantity, quantity)

    @property
    def quantity(self) -> Decimal:
        """Signed holding in base units: the sum of all fills less what of it was taken for fees."""
        return self._quantity

    @property
    def average_price(self) -> Decimal | None:
        """Quantity-weighted price of the open lots, to 28 significant digits; None when flat."""
        return quotient(self._cost, self._quantity) if self._quantity else None

    @property
    def realised_pnl(self) -> Decimal:
        """Profit of closed lots in quote currency, before fees."""
        return self._realised

    @property
    def fees(self) -> Decimal:
        """Costs paid, in quote currency; one in the base currency counts at its fill's price. Rebates are negative."""
        return self._fees

    @property
    def other_fees(self) -> dict[str, Decimal]:
        """Costs paid in neither currency of the instrument, by currency; part of no other figure."""
        return dict(self._other_fees)

    @property
    def trades(self) -> int:
        """Closed round trips: how often the holding came back to zero or crossed it."""
        return self._trades

    @property
    def fill_count(self) -> int:
        """Number of fills counted."""
        return len(self._fill_ids)

    @property
    def paid_out(self) -> Decimal:
        """Profit after fees if the open lots were worth nothing, in quote currency, to 28 significant digits."""
        return self._realised - self._cost - self._fees

    def unrealised_pnl(self, mark: Decimal | None) -> Decimal:
        """Profit of the open lots at the price `mark`, in quote currency; zero while there is no mark."""
        if mark is None:
            return _ZERO
        return EXACT.subtract(EXACT.multiply(mark, self._quantity), self._cost)

    def snapshot(self, mark: Decimal | None, time_ns: int) -> PositionSnapshot:
        """Give the position as it stands, valued at `mark`."""
        return PositionSnapshot(
            strategy_id=self.strategy_id,
            account_id=self.account_id,
            instrument=self.instrument.id,
            quantity=self._quantity,
            average_price=self.average_price,
            realised_pnl=self._realised,
            unrealised_pnl=self.unrealised_pnl(mark),
            fees=self._fees,
            time_ns=time_ns,
        )
