"""What balances are worth, at the prices that the window has heard of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from koc_qt.domain.instruments import Instrument
from koc_qt.domain.market import Quote
from koc_qt.domain.state import Balance
from koc_qt.link.replica import Replica
from koc_qt.ui.formats import DASH, price
from koc_qt.ui.panels.orders_columns import amount

_MONEY = ("USDT", "USDC", "USD", "EUR")  # the quote currencies that people reckon in, the likeliest first


@dataclass(frozen=True)
class Worth:
    """An amount of a currency."""

    value: Decimal
    currency: str


@dataclass(frozen=True)
class Holding:
    """A balance and what it is worth, None while no price is known; `why` says how that was found.

    `unit` is the currency that all the account's worths are in; empty where they differ.
    """

    balance: Balance
    worth: Worth | None
    why: str
    unit: str = ""

    @property
    def free(self) -> Decimal:
        """What open orders have not reserved."""
        return self.balance.total - self.balance.locked

    @property
    def value_key(self) -> tuple[str, Decimal] | None:
        """Order by currency first: amounts of two currencies cannot be compared."""
        return (self.worth.currency, self.worth.value) if self.worth is not None else None

    @property
    def words(self) -> str:
        """Write the worth, with its currency where that is not the same for all."""
        if self.worth is None:
            return DASH
        text = amount(self.worth.value, self.worth.currency)
        return text if self.unit else f"{text} {self.worth.currency}"


def worths(venue: str, balances: Sequence[Balance], replica: Replica) -> tuple[list[Holding], Worth | None]:
    """Value each balance at the middle of its market's quote, and all together where one currency will do for all."""
    markets = _markets(venue, replica)
    quotes = {rules.quote for rules in replica.instruments.values() if rules.id.venue == venue}
    held = {balance.currency for balance in balances}
    quotes = quotes or {next((money for money in _MONEY if money in held), "")}  # of a venue whose markets nobody told
    holdings = [_value(balance, markets, quotes) for balance in balances]
    known = [holding.worth for holding in holdings if holding.worth is not None]
    currencies = {worth.currency for worth in known}
    if len(currencies) != 1:
        return holdings, None
    unit = currencies.pop()
    holdings = [replace(holding, unit=unit) for holding in holdings]
    total = Worth(sum((worth.value for worth in known), Decimal(0)), unit)
    return holdings, total if len(known) == len(holdings) else None


def _markets(venue: str, replica: Replica) -> dict[str, tuple[Instrument, Quote]]:
    """Give the market that values each base currency, among those with a quote."""
    found: dict[str, tuple[Instrument, Quote]] = {}
    for instrument, quote in replica.quotes.items():
        rules = replica.instruments.get(instrument)
        if rules is None or instrument.venue != venue or quote.bid <= 0 or quote.ask <= 0:
            continue
        best = found.get(rules.base)
        if best is None or _rank(rules) < _rank(best[0]):
            found[rules.base] = rules, quote
    return found


def _rank(rules: Instrument) -> tuple[int, str]:
    """Order markets of one base currency, the best for its value first; always the same one, so that none flickers."""
    return (_MONEY.index(rules.quote) if rules.quote in _MONEY else len(_MONEY), str(rules.id))


def _value(balance: Balance, markets: dict[str, tuple[Instrument, Quote]], quotes: set[str]) -> Holding:
    currency = balance.currency
    if currency in markets and currency not in _MONEY:
        rules, quote = markets[currency]
        why = f"At {price(quote.mid, rules.tick_size)}, the middle of {rules.id}"
        return Holding(balance, Worth(balance.total * quote.mid, rules.quote), why)
    if currency in quotes:
        return Holding(balance, Worth(balance.total, currency), "Prices are in this currency")
    return Holding(balance, None, f"No price of {currency} is known: open a chart of it to see its worth")
