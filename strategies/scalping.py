"""Scalping: buy a little below fair value with resting orders, and sell back at fair value.

The idea: within a minute prices swing about a slow average more than they move. A post-only bid below that average is
hit by somebody in a hurry; when the price comes back, a post-only offer lets the holding go. It never pays the spread
and pays the lower maker fee twice, which the distance of the bid covers.

It loses when the price does not come back: in a fall it is filled on the way down and holds until the stop, which sells
at the market. In a quiet market it does nothing, for a swing smaller than the fees is not worth having.
"""

import math
from decimal import Decimal

from koc_qt.sdk import OrderHandle, OrderStatus, Quote, Side, Strategy, param

SECOND_NS = 1_000_000_000
FRACTION_OF_BP = 1e-4


class Scalping(Strategy):
    """Buy below a slow average with post-only orders, sell back at it; inventory is limited."""

    timeframe = "1s"

    notional: float = param(1_000.0, low=1.0, help="size of one order in quote currency")
    max_orders_held: int = param(3, low=1, high=100, help="inventory limit, in orders of that size")
    average_s: float = param(20.0, low=1.0, high=86_400.0, help="memory of the slow average, seconds")
    margin_bp: float = param(2.0, low=0.0, help="profit wanted of a round trip after fees, basis points")
    stop_bp: float = param(60.0, low=1.0, help="loss at which the inventory is sold at the market, basis points")
    pace_s: float = param(1.0, low=0.1, help="shortest time between two orders of one side, seconds")

    def on_start(self) -> None:
        """Begin without orders of an earlier run."""
        self.cancel_all()
        self._fair = 0.0
        self._began_ns = self._quoted_ns = 0
        self._orders: dict[Side, OrderHandle] = {}
        self._placed_ns = {Side.BUY: 0, Side.SELL: 0}

    def on_quote(self, quote: Quote) -> None:
        """Follow fair value, and keep one order a side where it should be."""
        self._follow(quote)
        if quote.time_ns - self._began_ns < self.average_s * SECOND_NS:
            return  # the average is not one yet
        self.metric("fair", self._fair)
        if self._must_stop(quote):
            self._sell_at_market(quote.time_ns)
            return
        self._keep(Side.BUY, quote.time_ns, *self._bid(quote))
        self._keep(Side.SELL, quote.time_ns, *self._offer(quote))

    def on_order(self, order: OrderHandle) -> None:
        """Say why an order was rejected; a post-only order that would have traded is nothing unusual."""
        if order.status is OrderStatus.REJECTED:
            self.log.info(f"{order.side} rejected: {order.reason}")

    def _sell_at_market(self, now_ns: int) -> None:
        self.cancel_all()
        if not self.open_orders and self._may_place(Side.SELL, now_ns):
            self.log.warning("the price did not come back: selling at the market")
            self.close_position()

    def _follow(self, quote: Quote) -> None:
        """Move the average towards the middle of the market, by the time that has passed and not by quotes."""
        mid = float(quote.mid)
        if not self._began_ns:
            self._fair, self._began_ns = mid, quote.time_ns
        else:
            elapsed_s = max(quote.time_ns - self._quoted_ns, 0) / SECOND_NS
            self._fair += (mid - self._fair) * -math.expm1(-elapsed_s / self.average_s)
        self._quoted_ns = quote.time_ns

    def _must_stop(self, quote: Quote) -> bool:
        position = self.position()
        if position.average_price is None or position.quantity < self.smallest_quantity(quote.bid):
            return False
        return float(quote.bid) < float(position.average_price) * (1 - self.stop_bp * FRACTION_OF_BP)

    def _bid(self, quote: Quote) -> tuple[float, float]:
        """Give price and quantity of the bid; no quantity once inventory is full."""
        distance = 2 * float(self.instrument.maker_fee) + self.margin_bp * FRACTION_OF_BP
        price = min(float(quote.bid), self._fair * (1 - distance))
        room = self.notional * self.max_orders_held - float(self.position().quantity) * price
        return price, self.notional / price if room >= self.notional else 0.0

    def _offer(self, quote: Quote) -> tuple[float, Decimal]:
        """Give price and quantity of the offer: all that is held, at fair value or the best offer."""
        return max(float(quote.ask), self._fair), max(self.position().quantity, Decimal(0))

    def _keep(self, side: Side, now_ns: int, price: float, quantity: float | Decimal) -> None:
        """Have one order of this side at this price; a working one that is good enough is left in its queue."""
        order = self._orders.get(side)
        wanted = quantity >= self.smallest_quantity(price)
        if order is not None and order.is_open:
            at = float(order.price or 0)
            if not wanted or abs(at - price) > price * FRACTION_OF_BP:
                self.cancel(order)
        elif wanted and self._may_place(side, now_ns):
            place = self.buy if side is Side.BUY else self.sell
            self._orders[side] = place(quantity, price=price, post_only=True, reduce_only=side is Side.SELL)

    def _may_place(self, side: Side, now_ns: int) -> bool:
        """Keep the pace: whether it is time for another order of this side, which is then taken as placed."""
        if now_ns - self._placed_ns[side] < self.pace_s * SECOND_NS:
            return False
        self._placed_ns[side] = now_ns
        return True
