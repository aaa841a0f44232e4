"""Which orders at Alpaca are which of ours: one that is changed ends there, and another one takes its place."""

from __future__ import annotations

from collections import OrderedDict
from decimal import Decimal

import msgspec

from koc_qt.adapters.venues.alpaca import facts
from koc_qt.adapters.venues.alpaca.facts import Row
from koc_qt.domain.exact import EXACT

REMEMBERED = 5_000  # orders at Alpaca; the oldest are forgotten
_ZERO = Decimal(0)


class Chain(msgspec.Struct, frozen=True):
    """An order's row and those of the orders that replaced it, oldest first; the last is what it is now."""

    rows: tuple[Row, ...]

    @property
    def last(self) -> Row:
        """The order as it is now."""
        return self.rows[-1]

    @property
    def filled_before(self) -> Decimal:
        """What was executed of those that were replaced. Raises MalformedError."""
        total = _ZERO
        for row in self.rows[:-1]:
            total = EXACT.add(total, facts.filled_of(row))
        return total


class Family:
    """Remembers whose an order is, what was executed of those that it replaced, and at which price its fills make."""

    def __init__(self) -> None:
        self._keys: OrderedDict[str, str] = OrderedDict()
        self._before: dict[str, Decimal] = {}
        self._makes_at: dict[str, Decimal | None] = {}

    def note(self, row: Row, key: str) -> None:
        """Remember an order of ours. Raises MalformedError."""
        order_id = facts.venue_id(row)
        self._makes_at[order_id] = facts.maker_price(row)
        self._remember(order_id, key)

    def follows(self, old: Row, new_id: str, key: str) -> None:
        """Remember that an order took the place of one that has executed what its row says. Raises MalformedError."""
        self._before[new_id] = EXACT.add(self.before(facts.venue_id(old)), facts.filled_of(old))
        self._remember(new_id, key)

    def note_chain(self, chain: Chain, key: str) -> None:
        """Remember an order and all that replaced it. Raises MalformedError."""
        for at, row in enumerate(chain.rows):
            if at:
                self.follows(chain.rows[at - 1], facts.venue_id(row), key)
            self.note(row, key)

    def _remember(self, order_id: str, key: str) -> None:
        self._keys[order_id] = key
        if len(self._keys) > REMEMBERED:
            oldest, _ = self._keys.popitem(last=False)
            self._before.pop(oldest, None)
            self._makes_at.pop(oldest, None)

    def key(self, order_id: str) -> str:
        """Give our id of an order at Alpaca; empty where it is none of ours."""
        return self._keys.get(order_id, "")

    def before(self, order_id: str) -> Decimal:
        """Give what was executed of those that the order replaced."""
        return self._before.get(order_id, _ZERO)

    def is_traced(self, row: Row) -> bool:
        """Tell whether what was executed before an order is known: nothing, where it replaced none."""
        return not row.get("replaces") or str(row.get("id")) in self._before

    def makes_at(self, order_id: str) -> Decimal | None:
        """Give the price at which an order's fills count as made."""
        return self._makes_at.get(order_id)
