"""Arbitrage: one symbol on two venues, bought where it is cheap and sold short where it is dear.

The idea: two venues trade the same thing, so a gap between their prices closes. When the gap is larger than the four
fees of going in and out again, both legs are opened at once, at limits and immediate-or-cancel; when it has closed,
both are unwound. The direction of the market does not matter.

It loses when the gap stays open or widens (after `patience_s` it is unwound as it is), when quotes are older than they
look, and when one leg is filled and the other not: then the filled one is taken back at the market, at the price of a
spread and two fees. Selling short needs an account that allows it.
"""

from decimal import Decimal

from koc_qt.sdk import Instrument, OrderHandle, OrderStatus, Quote, Strategy, StrategyError, param

SECOND_NS = 1_000_000_000
RETRY_NS = 5 * SECOND_NS  # between attempts to unwind or to take back, where orders are rejected
BP = Decimal("0.0001")


class Arbitrage(Strategy):
    """Buy the cheap venue and sell the dear one while their gap exceeds fees and margin; unwind when it closes."""

    instruments_wanted = 2

    notional: float = param(1_000.0, low=1.0, help="size of each leg in quote currency")
    margin_bp: float = param(1.0, low=0.0, help="profit wanted after all fees, basis points")
    exit_bp: float = param(1.0, help="gap at which a pair is unwound, basis points")
    max_age_s: float = param(2.0, low=0.1, help="how far apart in time two quotes may be, seconds")
    patience_s: float = param(900.0, low=1.0, help="how long to wait for the gap to close, seconds")
    rest_s: float = param(30.0, low=0.0, help="pause after a leg that failed, seconds")

    def on_start(self) -> None:
        """Check the pair, and begin without orders of an earlier run."""
        first, second = self.instruments
        if (first.base, first.quote) != (second.base, second.quote) or first.id == second.id:
            raise StrategyError(f"{first.id} and {second.id} are not one symbol on two venues")
        self.cancel_all()
        self._now_ns = self._opened_ns = 0
        self._rest_until_ns = self._retry_ns = 0

    def on_quote(self, quote: Quote) -> None:
        """Do what the holdings and the two newest quotes call for; one thing at a time."""
        self._now_ns = quote.time_ns
        self._opened_ns = self._opened_ns or quote.time_ns
        first, second = self.instruments
        quotes = self._fresh_quotes(first, second)
        if self.open_orders or quotes is None:
            return
        held, excess = self.position(first).quantity, self._excess(first, second)
        smallest = max(self.smallest_quantity(quote.bid, instrument=leg) for leg in (first, second))
        if abs(excess) >= smallest:
            self._take_back(first, second, excess)
        elif held >= smallest:
            self._unwind_when_closed(first, second, *quotes)
        elif held <= -smallest:
            self._unwind_when_closed(second, first, *quotes[::-1])
        elif quote.time_ns >= self._rest_until_ns:
            self._open_when_wide(first, second, *quotes, smallest)
            if not self.open_orders:
                self._open_when_wide(second, first, *quotes[::-1], smallest)

    def on_order(self, order: OrderHandle) -> None:
        """Rest after a rejected order: the next one would be rejected as well."""
        if order.status is OrderStatus.REJECTED:
            self.log.warning(f"{order.side} on {order.instrument} rejected: {order.reason}")
            self._rest()

    def _fresh_quotes(self, first: Instrument, second: Instrument) -> tuple[Quote, Quote] | None:
        ours, theirs = self.last_quote(first), self.last_quote(second)
        if ours is None or theirs is None:
            return None
        return (ours, theirs) if abs(ours.time_ns - theirs.time_ns) <= self.max_age_s * SECOND_NS else None

    def _excess(self, first: Instrument, second: Instrument) -> Decimal:
        """Give what one leg has more than the other, above zero when it was bought."""
        return self.position(first).quantity + self.position(second).quantity

    def _take_back(self, first: Instrument, second: Instrument, excess: Decimal) -> None:
        """Reduce the larger leg to the size of the other, at the market."""
        if self._now_ns < self._retry_ns:
            return
        self.log.warning(f"the legs differ by {excess} {first.base}: taking it back")
        larger = max((first, second), key=lambda leg: abs(self.position(leg).quantity))
        take_back = self.sell if excess > 0 else self.buy
        take_back(min(abs(excess), abs(self.position(larger).quantity)), instrument=larger, reduce_only=True)
        self._retry_ns = self._now_ns + RETRY_NS
        self._rest()

    def _open_when_wide(
        self, cheap: Instrument, dear: Instrument, cheap_quote: Quote, dear_quote: Quote, smallest: Decimal
    ) -> None:
        gap = dear_quote.bid - cheap_quote.ask
        fees = 2 * (cheap.taker_fee + dear.taker_fee)
        if gap <= cheap_quote.ask * (fees + (Decimal(str(self.margin_bp)) + Decimal(str(self.exit_bp))) * BP):
            return
        quantity = min(Decimal(str(self.notional)) / cheap_quote.ask, cheap_quote.ask_size, dear_quote.bid_size)
        quantity = min(cheap.round_quantity(quantity), dear.round_quantity(quantity))
        if quantity < smallest:
            return
        self.log.info(f"gap of {gap}: buying {quantity} on {cheap.id}, selling on {dear.id}")
        self.buy(quantity, instrument=cheap, price=cheap_quote.ask, time_in_force="ioc")
        self.sell(quantity, instrument=dear, price=dear_quote.bid, time_in_force="ioc")
        self._opened_ns = self._now_ns

    def _unwind_when_closed(self, bought: Instrument, sold: Instrument, bought_quote: Quote, sold_quote: Quote) -> None:
        gap = sold_quote.ask - bought_quote.bid
        waited = self._now_ns - self._opened_ns > self.patience_s * SECOND_NS
        closed = gap <= bought_quote.bid * Decimal(str(self.exit_bp)) * BP
        if self._now_ns < self._retry_ns or not (closed or waited):
            return
        self.log.info(f"gap of {gap}{' after a long wait' if waited else ''}: unwinding")
        for leg in (bought, sold):
            self.close_position(leg)
        self._retry_ns = self._now_ns + RETRY_NS

    def _rest(self) -> None:
        self._rest_until_ns = self._now_ns + round(self.rest_s * SECOND_NS)
