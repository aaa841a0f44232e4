"""What a strategy asks of orders that it has placed: it can cancel and change its own, and no others."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs

from koc_qt.domain.errors import KocError
from koc_qt.domain.orders import Order
from koc_qt.engine.services import Services
from koc_qt.engine.strategy_words import LONGEST_NAME, clip
from koc_qt.sdk.channel import Amend, Cancel


class StrategyOrders:
    """`log` writes a line of the strategy's, `tell` says to it how an order of its own is."""

    def __init__(
        self, strategy_id: str, services: Services, log: Callable[[str, str], None], tell: Callable[[Order], None]
    ) -> None:
        self._strategy_id = strategy_id
        self._services = services
        self._log = log
        self._tell = tell

    async def cancel(self, message: Cancel) -> None:
        """Cancel an order; why that cannot be is logged."""
        if self._own(message.client_order_id, "cancel") is not None:
            try:
                await self._services.orders.cancel(message.client_order_id)
            except KocError as error:
                self._log("WARNING", f"order {message.client_order_id} could not be cancelled: {error}")

    async def amend(self, message: Amend) -> None:
        """Change an order; why that cannot be is logged, and told as the order's reason."""
        order = self._own(message.client_order_id, "change")
        if order is not None:
            try:
                await self._services.orders.amend(order.client_order_id, message.quantity, message.price)
            except KocError as error:
                self._log("WARNING", f"order {order.client_order_id} could not be changed: {error}")
                self._tell(
                    structs.replace(self._services.store.order(order.client_order_id) or order, reason=str(error))
                )

    def _own(self, client_order_id: str, what: str) -> Order | None:
        order = self._services.store.order(client_order_id)
        if order is None or order.strategy_id != self._strategy_id:
            shown = clip(client_order_id, LONGEST_NAME)
            self._log("WARNING", f"asked to {what} {shown!r}, which is not an order of this strategy")
            return None
        return order
