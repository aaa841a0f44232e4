"""What a client is told after its snapshot: closed orders and fills, in pages that hold up nobody's loop."""

from __future__ import annotations

from collections.abc import Sequence

from koc_qt.domain.orders import Fill, Order
from koc_qt.link.messages import HistoryPage

PAGE = 100  # orders, and as many fills: some 2 ms to decode and apply


class History:
    """The closed orders and fills that one client has yet to be told. Holds references alone, until they are told."""

    def __init__(self, orders: Sequence[Order] = (), fills: Sequence[Fill] = (), page: int = PAGE) -> None:
        """Take orders and fills, each oldest first; nobody may change these later. `page` of each make a page."""
        self._page = page
        self._orders = orders
        self._fills = fills
        self._orders_left = len(orders)
        self._fills_left = len(fills)

    @property
    def left(self) -> int:
        """How many orders and fills are still to be told."""
        return self._orders_left + self._fills_left

    def next_page(self) -> HistoryPage:
        """Give the newest of what is left."""
        orders_until, fills_until = self._orders_left, self._fills_left
        self._orders_left = max(orders_until - self._page, 0)
        self._fills_left = max(fills_until - self._page, 0)
        return HistoryPage(
            orders=tuple(self._orders[self._orders_left : orders_until]),
            fills=tuple(self._fills[self._fills_left : fills_until]),
            is_last=self.left == 0,
        )
