"""The money of one account: what it has, what its open orders reserve, and what it can still pay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from koc_qt.domain.exact import EXACT, add, multiply, quotient, subtract
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.market import Side
from koc_qt.domain.matching.market import Market
from koc_qt.domain.matching.model import FillModel
from koc_qt.domain.matching.working import WorkingOrder
from koc_qt.domain.orders import Fill, Liquidity
from koc_qt.domain.state import Balance

_ZERO = Decimal(0)
_ONE = Decimal(1)
_BUY = Side.BUY

Pairs = Mapping[tuple[str, str], Market]
"""Markets by base and quote currency."""


class Capacity:
    """How much an order may execute: `cover`, in base units, costs nothing; the rest is paid from `power`, in quote."""

    __slots__ = ("cover", "power")

    def __init__(self, cover: Decimal, power: Decimal) -> None:
        self.cover = _ZERO if cover < _ZERO else cover
        self.power = _ZERO if power < _ZERO else power

    def grant(self, instrument: Instrument, price: Decimal, quantity: Decimal, fee_rate: Decimal) -> Decimal:
        """Give how much of `quantity` can be paid at `price`, in whole lots, and take it off the capacity."""
        opening = EXACT.subtract(quantity, self.cover)
        if opening <= 0:
            self.cover = EXACT.subtract(self.cover, quantity)
            return quantity
        unit = unit_cost(price, fee_rate)
        cost = EXACT.multiply(unit, opening)
        if cost <= self.power:
            self.cover = max(EXACT.subtract(self.cover, quantity), _ZERO)
            self.power = EXACT.subtract(self.power, cost)
        else:
            opening = quotient(self.power, unit)
            quantity = instrument.round_quantity(EXACT.add(self.cover, opening))
            opening = max(EXACT.subtract(quantity, self.cover), _ZERO)
            if EXACT.multiply(unit, opening) > self.power:  # the quotient was rounded up to a whole lot
                quantity = EXACT.subtract(quantity, instrument.lot_size)
                opening = max(EXACT.subtract(quantity, self.cover), _ZERO)
            self.cover = max(EXACT.subtract(self.cover, quantity), _ZERO)
            self.power = EXACT.subtract(self.power, EXACT.multiply(unit, opening))
        return max(quantity, _ZERO)


def unit_cost(price: Decimal, fee_rate: Decimal) -> Decimal:
    """Give what one unit takes from the account at most; a rebate is not counted on."""
    return multiply(price, add(_ONE, fee_rate if fee_rate > _ZERO else _ZERO))


class Ledger:
    """Balances, changed by fills and their fees alone, and the part of them that open orders lock.

    In a cash account a buy locks its limit (or stop, or reference) price times quantity and the fee, in quote currency;
    a sell locks the quantity, in base currency.

    With `allow_short` a base balance may become negative. What an order adds to exposure, long or short, must be paid
    from cash - 2 * shorts - locked, in its quote currency and with shorts at the market's price: this keeps longs and
    shorts together within the account's equity, 1x (L + S <= cash + L - S is the same as cash - 2S >= 0). What reduces
    a holding needs nothing; of several orders that would reduce the same one, the oldest count first, and the later
    ones as adding exposure. Reduce-only orders lock nothing there. A short that runs away is not liquidated: it only
    stops new exposure.
    """

    def __init__(
        self, balances: Iterable[Balance], model: FillModel, pairs: Pairs, *, allow_short: bool = False
    ) -> None:
        self._totals = {balance.currency: balance.total for balance in balances}
        self._locked: dict[str, Decimal] = {}
        self._model = model
        self._pairs = pairs
        self._allow_short = allow_short
        self._works: dict[str, dict[str, WorkingOrder]] = {}  # by base currency and order id; margin accounts only

    def total(self, currency: str) -> Decimal:
        """Give what the account has."""
        return self._totals.get(currency, _ZERO)

    def locked(self, currency: str) -> Decimal:
        """Give what open orders reserve of it."""
        return self._locked.get(currency, _ZERO)

    def balances(self) -> tuple[Balance, ...]:
        """Give all balances, by currency."""
        currencies = sorted(self._totals.keys() | self._locked.keys())
        return tuple(Balance(name, self.total(name), self.locked(name)) for name in currencies)

    def free(self) -> dict[str, Decimal]:
        """Give what no open order reserves, by currency."""
        locked = self._locked
        if not locked:
            return {name: total - _ZERO for name, total in self._totals.items()}
        return {name: total - locked.get(name, _ZERO) for name, total in self._totals.items()}

    def book(self, fill: Fill, base: str, quote: str) -> None:
        """Change the balances of the pair by a fill and its fee, exactly."""
        totals, notional = self._totals, multiply(fill.price, fill.quantity)
        gain, lose = (add, subtract) if fill.side is _BUY else (subtract, add)
        totals[base] = gain(totals.get(base, _ZERO), fill.quantity)
        totals[quote] = lose(totals.get(quote, _ZERO), notional)
        totals[fill.fee_currency] = subtract(totals.get(fill.fee_currency, _ZERO), fill.fee)

    def reducible(self, work: WorkingOrder) -> Decimal:
        """Give how much of its quantity would reduce what the account holds."""
        holding = self.total(work.instrument.base)
        if work.is_buy:
            holding = holding.copy_negate()
        return _ZERO if holding < _ZERO else holding

    # ---- what an order may execute --------------------------------------------------------------------------------

    def capacity(self, work: WorkingOrder) -> Capacity:
        """Give how much of the order the account can pay, counting what the order itself has locked."""
        instrument = work.instrument
        if self._allow_short and work.order.request.reduce_only:
            return Capacity(self.reducible(work), _ZERO)
        if self._allow_short:
            cover = self.reducible(work)
            if works := self._works.get(instrument.base):
                cover = EXACT.subtract(cover, EXACT.subtract(_covered(works, work.is_buy), work.cover))
            quote = instrument.quote
            return Capacity(cover, EXACT.subtract(self._free(quote, work), self._collateral(quote)))
        if work.is_buy:
            return Capacity(_ZERO, self._free(instrument.quote, work))
        return Capacity(self._unlocked(work), _ZERO)

    def covers_alone(self, instrument: Instrument, quantity: Decimal, *, is_buy: bool) -> bool:
        """Whether all of an order would reduce what the account holds while no other order reserves anything."""
        holding = self._totals.get(instrument.base, _ZERO)
        return quantity <= (holding.copy_negate() if is_buy else holding)

    def pays_alone(
        self, instrument: Instrument, price: Decimal, quantity: Decimal, fee_rate: Decimal, *, is_buy: bool
    ) -> bool:
        """Whether an order could be executed whole at `price` while no other order reserves anything.

        The same as `capacity` and `grant` say then, for an order that `covers_alone` does not find to reduce only.
        """
        totals = self._totals
        power = totals.get(instrument.quote, _ZERO)
        if self._allow_short:
            holding = totals.get(instrument.base, _ZERO)
            if holding < _ZERO if is_buy else holding > _ZERO:
                quantity = subtract(quantity, holding.copy_abs())
            if min(totals.values()) < _ZERO:
                power = subtract(power, self._collateral(instrument.quote))
        elif not is_buy:
            return False
        return multiply(unit_cost(price, fee_rate), quantity) <= power

    def lock_rate(self, work: WorkingOrder) -> Decimal:
        """Give the highest fee rate that the order may have to pay."""
        taker = self._model.fee_rate(work.instrument, Liquidity.TAKER)
        if work.limit is None:
            return taker
        return max(taker, self._model.fee_rate(work.instrument, Liquidity.MAKER))

    def describe(self, work: WorkingOrder) -> str:
        """Say what the account has for this order, for a refusal."""
        instrument = work.instrument
        if self._allow_short:
            return f"insufficient margin: long and short together may be worth 1x the equity in {instrument.quote}"
        if work.is_buy:
            return f"insufficient funds: {self._free(instrument.quote, work).normalize():f} {instrument.quote} free"
        return f"insufficient funds: {self._unlocked(work).normalize():f} {instrument.base} free"

    def _free(self, currency: str, work: WorkingOrder) -> Decimal:
        unlocked = EXACT.subtract(self._totals.get(currency, _ZERO), self._locked.get(currency, _ZERO))
        return EXACT.add(unlocked, work.locked_quote) if work.locked_quote else unlocked

    def _unlocked(self, work: WorkingOrder) -> Decimal:
        """Give the base currency that this sell may use."""
        currency = work.instrument.base
        return EXACT.add(EXACT.subtract(self.total(currency), self.locked(currency)), work.cover)

    def _collateral(self, quote: str) -> Decimal:
        """Give twice the value of all shorts that trade in `quote`; endless while one cannot be valued."""
        value = _ZERO
        for currency, held in self._totals.items():
            market = self._pairs.get((currency, quote)) if held < 0 else None
            if market is not None:
                price = market.mark
                if price is None:
                    return Decimal("Infinity")
                value = EXACT.subtract(value, EXACT.multiply(held, price))
        return EXACT.add(value, value)

    # ---- reservation ----------------------------------------------------------------------------------------------

    def reserve(self, work: WorkingOrder) -> None:
        """Lock what the rest of an open order needs; call it again after each of its fills."""
        if self._allow_short:
            base = work.instrument.base
            works = self._works.setdefault(base, {})
            if not work.order.request.reduce_only:
                works[work.client_order_id] = work
            self._allocate(works, base)
        elif work.is_buy:
            self._set(work, _ZERO, self._cost(work, work.remaining))
        else:
            self._set(work, max(min(work.remaining, self._unlocked(work)), _ZERO), _ZERO)

    def release(self, work: WorkingOrder) -> None:
        """Unlock everything that an order had reserved."""
        self._set(work, _ZERO, _ZERO)
        if self._allow_short:
            base = work.instrument.base
            if works := self._works.get(base):
                works.pop(work.client_order_id, None)
                self._allocate(works, base)

    def _allocate(self, works: Mapping[str, WorkingOrder], base: str) -> None:
        """Share the holding among the orders that would reduce it, oldest first."""
        if not works:
            return
        holding = self.total(base)
        owed, held = max(holding.copy_negate(), _ZERO), max(holding, _ZERO)
        for work in works.values():  # in the order of their arrival
            cover = min(owed if work.is_buy else held, work.remaining)
            if work.is_buy:
                owed = EXACT.subtract(owed, cover)
            else:
                held = EXACT.subtract(held, cover)
            self._set(work, cover, self._cost(work, EXACT.subtract(work.remaining, cover)))

    def _cost(self, work: WorkingOrder, quantity: Decimal) -> Decimal:
        return EXACT.multiply(unit_cost(work.lock_price, self.lock_rate(work)), quantity)

    def _set(self, work: WorkingOrder, cover: Decimal, locked_quote: Decimal) -> None:
        instrument = work.instrument
        if not work.is_buy and cover is not work.cover:
            self._shift(instrument.base, EXACT.subtract(cover, work.cover))
        if locked_quote is not work.locked_quote:
            self._shift(instrument.quote, EXACT.subtract(locked_quote, work.locked_quote))
        work.cover, work.locked_quote = cover, locked_quote

    def _shift(self, currency: str, change: Decimal) -> None:
        if change:
            self._locked[currency] = EXACT.add(self.locked(currency), change)


def _covered(works: Mapping[str, WorkingOrder], is_buy: bool) -> Decimal:
    """Give what orders of a side reduce."""
    covered = _ZERO
    for work in works.values():
        if work.is_buy is is_buy:
            covered = EXACT.add(covered, work.cover)
    return covered
