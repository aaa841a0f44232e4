"""Trades all the time: a market order every few quotes, and limit orders that rest, are filled, or are cancelled."""

from decimal import Decimal

from koc_qt.sdk import Fill, OrderHandle, OrderStatus, Quote, Strategy, param

QUANTITY = "0.001"


class Busy(Strategy):
    """Never without an order open and hardly ever without one on its way."""

    name = "Busy"

    every: int = param(5, low=1, help="quotes between two market orders")
    resting: int = param(4, low=0, help="limit orders that are kept open")

    def on_start(self) -> None:
        """Count from zero; what is held and open comes from the engine."""
        self._quotes = 0
        self._refusal = ""

    def on_quote(self, quote: Quote) -> None:
        """Trade, and look after the orders that rest."""
        self._quotes += 1
        self.metric("quotes", self._quotes)
        if self._quotes % self.every == 0:
            self._take()
            self._rest(quote)

    def on_order(self, order: OrderHandle) -> None:
        """Say why an order was refused, once a reason."""
        if order.status is OrderStatus.REJECTED and order.reason != self._refusal:
            self._refusal = order.reason
            self.log.warning(f"refused: {order.reason}")

    def on_fill(self, fill: Fill) -> None:
        """Show what it believes to hold."""
        self.metric("position", float(self.position().quantity))

    def _take(self) -> None:
        """Buy when flat, sell when not, one order at a time; fees may leave a rest that is too small to be sold."""
        if any(order.price is None for order in self.open_orders):
            return
        if self.position().quantity > Decimal(QUANTITY) / 2:
            self.close_position()
        else:
            self.buy(QUANTITY)

    def _rest(self, quote: Quote) -> None:
        """Keep limit orders from the best bid downwards; each third time the oldest makes way."""
        resting = [order for order in self.open_orders if order.price is not None]
        if len(resting) < self.resting:
            self.buy(QUANTITY, price=quote.bid * (10_000 - len(resting)) / 10_000)
        elif self._quotes % (3 * self.every) == 0 and resting[0].status is not OrderStatus.NEW:
            self.cancel(resting[0])
