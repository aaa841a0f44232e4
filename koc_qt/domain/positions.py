"""What a strategy holds of one instrument, and what it has earned with it: first in, first out."""

from __future__ import annotations

from collections import deque
from decimal import Decimal

from koc_qt.domain.exact import add, minus, multiply, quotient, subtract
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Fill
from koc_qt.domain.state import PositionSnapshot

_ZERO = Decimal(0)
_BUY = Side.BUY


class Position:
    """A holding made of lots, each a signed quantity (base units) and its price (quote currency).

    Fills are applied in the order in which they are told; each id counts once. Memory: the ids, and one lot for every
    run of open fills at one price. All sums are exact.

    To be read: `quantity` is the signed holding in base units, the sum of all fills less what of it was taken for fees;
    `realised_pnl` the profit of closed lots in quote currency, before fees; `fees` the costs paid, in quote currency,
    where one in the base currency counts at its fill's price and rebates are negative; `trades` counts closed round
    trips: how often the holding came back to zero or crossed it.
    """

    def __init__(self, strategy_id: str, account_id: str, instrument: Instrument) -> None:
        self.strategy_id = strategy_id
        self.account_id = account_id
        self.instrument = instrument
        self._lots: deque[tuple[Decimal, Decimal]] = deque()
        self._fill_ids: set[str] = set()
        self.quantity = _ZERO
        self._cost = _ZERO  # of the open lots: signed quantity times price
        self.realised_pnl = _ZERO
        self.fees = _ZERO
        self._other_fees: dict[str, Decimal] = {}
        self.trades = 0

    def apply(self, fill: Fill) -> bool:
        """Count a fill; False when its id was counted before. Raises ValueError for a fill of another position.

        The oldest lots are closed first; what is left over opens a lot on the other side. A fee that was taken in the
        base currency is no longer held: it leaves at the fill's price, and counts among the fees.
        """
        rules = self.instrument
        if fill.strategy_id != self.strategy_id or fill.account_id != self.account_id or fill.instrument != rules.id:
            raise ValueError(
                f"fill {fill.fill_id} is of {fill.strategy_id} on {fill.account_id} in {fill.instrument}, "
                f"the position of {self.strategy_id} on {self.account_id} in {rules.id}"
            )
        if fill.fill_id in self._fill_ids:
            return False
        self._fill_ids.add(fill.fill_id)
        self._move(fill.quantity if fill.side is _BUY else minus(fill.quantity), fill.price)
        if fill.fee_currency == rules.quote:
            self.fees = add(self.fees, fill.fee)
        else:
            self._pay_aside(fill)
        return True

    def _move(self, quantity: Decimal, price: Decimal) -> None:
        """Hold so much more, or less where it is below zero."""
        left = self._close(quantity, price)
        if left:
            self._open(left, price)

    def _pay_aside(self, fill: Fill) -> None:
        """Pay a fee that is not in quote currency."""
        if fill.fee_currency == self.instrument.base:
            self.fees = add(self.fees, multiply(fill.fee, fill.price))
            self._move(minus(fill.fee), fill.price)
        elif fill.fee:
            paid = self._other_fees.get(fill.fee_currency, _ZERO)
            self._other_fees[fill.fee_currency] = add(paid, fill.fee)

    def _close(self, quantity: Decimal, price: Decimal) -> Decimal:
        """Close lots of the other side against a signed quantity; gives what is left of it."""
        lots = self._lots
        if not lots or (lots[0][0] > 0) == (quantity > 0):
            return quantity
        while quantity and lots:
            lot_quantity, lot_price = lots[0]
            is_part = quantity.copy_abs() < lot_quantity.copy_abs()
            closed = minus(quantity) if is_part else lot_quantity
            if closed == lot_quantity:
                lots.popleft()
            else:
                lots[0] = (subtract(lot_quantity, closed), lot_price)
            gain = multiply(subtract(price, lot_price), closed)
            self.realised_pnl = add(self.realised_pnl, gain)
            self._cost = subtract(self._cost, multiply(closed, lot_price))
            self.quantity = subtract(self.quantity, closed)
            quantity = add(quantity, closed)
        if not lots:
            self.trades += 1
        return quantity

    def _open(self, quantity: Decimal, price: Decimal) -> None:
        lots = self._lots
        if lots and lots[-1][1] == price:
            lots[-1] = (add(lots[-1][0], quantity), price)
        else:
            lots.append((quantity, price))
        self._cost = add(self._cost, multiply(quantity, price))
        self.quantity = add(self.quantity, quantity)

    @property
    def average_price(self) -> Decimal | None:
        """Quantity-weighted price of the open lots, to 28 significant digits; None when flat."""
        return quotient(self._cost, self.quantity) if self.quantity else None

    @property
    def other_fees(self) -> dict[str, Decimal]:
        """Costs paid in neither currency of the instrument, by currency; part of no other figure."""
        return dict(self._other_fees)

    @property
    def fill_count(self) -> int:
        """Number of fills counted."""
        return len(self._fill_ids)

    @property
    def paid_out(self) -> Decimal:
        """Profit after fees if the open lots were worth nothing, in quote currency, to 28 significant digits."""
        return self.realised_pnl - self._cost - self.fees

    def unrealised_pnl(self, mark: Decimal | None) -> Decimal:
        """Profit of the open lots at the price `mark`, in quote currency; zero while there is no mark."""
        if mark is None:
            return _ZERO
        return subtract(multiply(mark, self.quantity), self._cost)

    def snapshot(self, mark: Decimal | None, time_ns: int) -> PositionSnapshot:
        """Give the position as it stands, valued at `mark`."""
        return PositionSnapshot(
            strategy_id=self.strategy_id,
            account_id=self.account_id,
            instrument=self.instrument.id,
            quantity=self.quantity,
            average_price=self.average_price,
            realised_pnl=self.realised_pnl,
            unrealised_pnl=self.unrealised_pnl(mark),
            fees=self.fees,
            time_ns=time_ns,
        )
