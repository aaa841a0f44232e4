"""Meets orders with the market: what they take, when they are taken, and when stops go off.

Takers walk the ladder (book levels, with a newer quote as their top). Where no ladder is known they wait for the next
print, a trade or a bar, and take at its price. Resting limit orders are makers, at their own price; the account's own
orders never trade with each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from koc_qt.domain.errors import InvalidOrder
from koc_qt.domain.exact import EXACT
from koc_qt.domain.market import Side, Trade
from koc_qt.domain.matching.blotter import Blotter
from koc_qt.domain.matching.market import Level, Market
from koc_qt.domain.matching.model import FillModel, QueueModel
from koc_qt.domain.matching.rules import broken_rule, would_take
from koc_qt.domain.matching.working import WorkingOrder
from koc_qt.domain.orders import Liquidity

_ZERO = Decimal(0)

Step = tuple[Decimal, Decimal, Decimal]  # the level's price, our price, quantity

NOTHING_LEFT = "no liquidity left at a price it allows"
NOT_WHOLE = "it could not be filled whole"
REDUCED = "reduce-only: nothing is left to reduce"


class Matcher:
    """Executes open orders; synchronous, every method takes the time of what happens in UTC nanoseconds."""

    def __init__(self, blotter: Blotter, model: FillModel) -> None:
        self._blotter = blotter
        self._model = model
        self._ledger = blotter.ledger
        self._moves_in_queue = model.queue == QueueModel.POSITION
        self.fills_at_touch = model.queue == QueueModel.TOUCH

    # ---- new orders -----------------------------------------------------------------------------------------------

    def arrive(self, work: WorkingOrder, time_ns: int) -> None:
        """Refuse a new order, or accept it and let it meet the market for the first time."""
        reason = broken_rule(work) or self._refusal(work)
        if reason:
            self._blotter.reject(work.order, reason, time_ns)
            return
        self._blotter.accept(work, time_ns)
        if work.stop is None:
            self.execute(work, time_ns)
        elif work.market.reaches(work.is_buy, work.stop):
            self.trigger(work, time_ns)
            self.execute(work, time_ns)
        else:
            work.market.orders.arm(work, work.stop)

    def _refusal(self, work: WorkingOrder) -> str:
        request = work.order.request
        if request.post_only and work.limit is not None and would_take(work.market, work.is_buy, work.limit):
            return f"post-only: at {work.limit} it would take"
        return self._unaffordable(work)

    def _unaffordable(self, work: WorkingOrder) -> str:
        if work.order.request.reduce_only and not self._ledger.reducible(work):
            return "reduce-only: there is nothing to reduce"
        return self._unpayable(work)

    def _unpayable(self, work: WorkingOrder) -> str:
        """Say that the account cannot pay a new order; empty when it can."""
        wanted, _ = self._wanted(work)
        levels = [(work.lock_price, wanted)]
        if work.limit is None and work.stop is None and work.market.has_ladder:
            shown = work.market.available(work.is_buy)
            # what a market order does not find now it takes later: reckon with the worst price shown
            levels = shown if work.is_immediate else [*shown, (shown[-1][0] if shown else work.lock_price, wanted)]
        capacity, rate = self._ledger.capacity(work), self._ledger.lock_rate(work)
        for level, size in levels:
            quantity = wanted if size >= wanted else work.instrument.round_quantity(size)
            price = self._model.taker_price(work.instrument, work.is_buy, level, work.limit)
            if capacity.grant(work.instrument, price, quantity, rate) < quantity:
                return self._ledger.describe(work)
            wanted = EXACT.subtract(wanted, quantity)
        return ""

    def amend(self, work: WorkingOrder, quantity: Decimal, price: Decimal | None, sequence: int, time_ns: int) -> None:
        """Change an open order's total quantity and limit, or say why not.

        It keeps its place in the queue where only less is asked; else it comes last with its `sequence`. With a better
        price it meets the market anew.
        """
        keeps_place = quantity <= work.order.request.quantity and price == work.limit
        try:
            changed = work.changed(quantity, price, work.sequence if keeps_place else sequence)
        except InvalidOrder as error:
            self._blotter.refuse_amend(work.client_order_id, time_ns, str(error))
            return
        reason = self._unchangeable(work, changed, keeps_place=keeps_place)
        if reason:
            self._blotter.refuse_amend(work.client_order_id, time_ns, reason)
        elif keeps_place:
            self._blotter.amend(work, changed, time_ns)
        else:
            self._move(work, changed, time_ns)

    def _unchangeable(self, work: WorkingOrder, changed: WorkingOrder, *, keeps_place: bool) -> str:
        if changed.remaining < 0:
            return f"{work.filled.normalize():f} of it is filled already"
        if keeps_place:
            return broken_rule(changed)
        is_moved = changed.limit != work.limit
        return broken_rule(changed) or (self._refusal(changed) if is_moved else self._unaffordable(changed))

    def _move(self, work: WorkingOrder, changed: WorkingOrder, time_ns: int) -> None:
        """Change an order and put it last in the queue where it belongs now, if it does not take at once."""
        orders = work.market.orders
        is_armed = work.queue is orders.stop_buys or work.queue is orders.stop_sells
        was_waiting = work.queue is orders.waiting
        is_better = work.limit is not None and changed.limit is not None and not work.accepts(changed.limit)
        orders.remove(work)
        self._blotter.amend(work, changed, time_ns)
        work.ahead = None
        if not work.is_open:
            return
        if is_armed and work.stop is not None:
            orders.arm(work, work.stop)
        elif was_waiting or is_better or work.limit is None:
            self.execute(work, time_ns)
        else:
            self.rest(work, work.limit)

    def trigger(self, work: WorkingOrder, time_ns: int) -> None:
        """Let a stop go off; what it does then is up to the caller."""
        work.market.orders.remove(work)
        self._blotter.trigger(work, time_ns)

    def execute(self, work: WorkingOrder, time_ns: int) -> None:
        """Let an order that is in no queue take what the market shows; what is left rests, waits or expires."""
        market = work.market
        if market.has_ladder:
            for price, quantity in self.take(work, market.available(work.is_buy), time_ns):
                market.consume(work.is_buy, price, quantity)
            if work.is_open:
                self.settle(work, time_ns)
        elif work.order.request.post_only and work.limit is not None:
            self.rest(work, work.limit)
        else:
            market.orders.wait(work)

    def settle(self, work: WorkingOrder, time_ns: int) -> None:
        """Decide on what is left after taking: IOC and FOK expire, limit orders rest, market orders wait for more."""
        if work.is_immediate:
            self._blotter.expire(work, NOTHING_LEFT, time_ns)
        elif work.limit is not None:
            self.rest(work, work.limit)
        else:
            work.market.orders.wait(work)

    def rest(self, work: WorkingOrder, limit: Decimal) -> None:
        """Put a limit order into its queue, behind what the market displays there."""
        if self.fills_at_touch:
            work.ahead = _ZERO
        elif self._moves_in_queue:
            work.market.move_up((work,), work.is_buy)
        work.market.orders.rest(work, limit)

    # ---- taking ---------------------------------------------------------------------------------------------------

    def take(self, work: WorkingOrder, levels: Iterable[Level], time_ns: int) -> Sequence[Level]:
        """Fill an order from `levels`, best first, and give what it took of each.

        What the account cannot pay, or what would not reduce, is cancelled; FOK is filled whole or expires. The order
        may be left open with a remainder: `settle` decides on that.
        """
        steps, short = self._plan(work, levels)
        if work.fill_or_kill:
            planned = _ZERO
            for _, _, quantity in steps:
                planned = EXACT.add(planned, quantity)
            if planned < work.remaining:
                self._blotter.expire(work, short or NOT_WHOLE, time_ns)
                return ()
        for _, price, quantity in steps:
            self._blotter.fill(work, price, quantity, Liquidity.TAKER, time_ns)
        if short and work.is_open:
            self._blotter.cancel(work, short, time_ns)
        return [(level, quantity) for level, _, quantity in steps]

    def _plan(self, work: WorkingOrder, levels: Iterable[Level]) -> tuple[list[Step], str]:
        """Give the fills that an order would have now, and why they stop short when it is not for want of liquidity."""
        instrument = work.instrument
        rate = self._model.fee_rate(instrument, Liquidity.TAKER)
        wanted, short = self._wanted(work)
        capacity = self._ledger.capacity(work)
        steps: list[Step] = []
        for level, size in levels:
            if not wanted or not work.accepts(level):
                break
            quantity = wanted if size >= wanted else instrument.round_quantity(size)
            if not quantity:
                continue
            price = self._model.taker_price(instrument, work.is_buy, level, work.limit)
            granted = capacity.grant(instrument, price, quantity, rate)
            if granted:
                steps.append((level, price, granted))
                wanted = EXACT.subtract(wanted, granted)
            if granted < quantity:
                return steps, self._ledger.describe(work)
        return steps, "" if wanted else short

    def _wanted(self, work: WorkingOrder) -> tuple[Decimal, str]:
        """Give how much of an order may be executed, and why that is not all of it."""
        if not work.order.request.reduce_only:
            return work.remaining, ""
        reducible = work.instrument.round_quantity(self._ledger.reducible(work))
        return (reducible, REDUCED) if reducible < work.remaining else (work.remaining, "")

    # ---- being taken ----------------------------------------------------------------------------------------------

    def make(self, work: WorkingOrder, limit: Decimal, available: Decimal, time_ns: int) -> Decimal:
        """Fill an order that rests at `limit` with up to `available`, and give how much was filled."""
        instrument = work.instrument
        allowed, short = self._wanted(work)
        quantity = allowed if available >= allowed else instrument.round_quantity(available)
        if allowed and not quantity:
            return _ZERO
        rate = self._model.fee_rate(instrument, Liquidity.MAKER)
        granted = self._ledger.capacity(work).grant(instrument, limit, quantity, rate)
        if granted < quantity:
            short = self._ledger.describe(work)
        elif quantity < allowed:
            short = ""
        if granted:
            self._blotter.fill(work, limit, granted, Liquidity.MAKER, time_ns)
        if short and work.is_open:
            self._blotter.cancel(work, short, time_ns)
        return granted

    # ---- market data ----------------------------------------------------------------------------------------------

    def meet_trade(self, market: Market, trade: Trade, time_ns: int) -> None:
        """Let a trade fill who waits for a print and who rests at or better than its price, then trigger stops."""
        left = trade.quantity
        if not market.has_ladder:
            left = self.meet_print(market, trade.price, left, time_ns)
        left = self._fill_resting(market.orders.buys, trade, left, time_ns)
        self._fill_resting(market.orders.sells, trade, left, time_ns)
        self._trigger_stops(market, time_ns)

    def meet_ladder(self, market: Market, time_ns: int) -> None:
        """Let a quote or book move queues on and fill who waits and whom it crosses.

        Stops heed it only while no trade is known.
        """
        if self._moves_in_queue:
            market.move_up(market.orders.buys, is_buy=True)
            market.move_up(market.orders.sells, is_buy=False)
        for work in tuple(market.orders.waiting):
            market.orders.remove(work)
            self.execute(work, time_ns)
        self._cross(market, market.orders.buys, time_ns, is_buy=True)
        self._cross(market, market.orders.sells, time_ns, is_buy=False)
        if market.trade is None:
            self._trigger_stops(market, time_ns)

    def meet_print(self, market: Market, price: Decimal, left: Decimal, time_ns: int) -> Decimal:
        """Let waiting takers take up to `left` at the price of a trade or of a bar's open; give what is left then."""
        for work in tuple(market.orders.waiting):
            market.orders.remove(work)
            for _, quantity in self.take(work, [(price, left)], time_ns):
                left = EXACT.subtract(left, quantity)
            if work.is_open:
                self.settle(work, time_ns)
        return left

    def _fill_resting(self, queue: Sequence[WorkingOrder], trade: Trade, left: Decimal, time_ns: int) -> Decimal:
        """Share a trade's quantity among resting orders, best price first, then who came first; give what is left.

        At the trade's own price the market's orders ahead of ours are served before ours.
        """
        price = trade.price
        served = _ZERO  # of the market's own queue at this price
        for work in tuple(queue):
            limit = work.limit
            if limit is None or not work.accepts(price):
                break
            if price != limit:
                if self._moves_in_queue:
                    work.ahead = _ZERO
            elif work.ahead is None or (trade.side is Side.BUY) is work.is_buy:
                continue
            else:
                passing = min(max(EXACT.subtract(work.ahead, served), _ZERO), left)
                served = EXACT.add(served, passing)
                left = EXACT.subtract(left, passing)
                work.ahead = max(EXACT.subtract(work.ahead, served), _ZERO)
            if left:
                left = EXACT.subtract(left, self.make(work, limit, left, time_ns))
        return left

    def _cross(self, market: Market, queue: list[WorkingOrder], time_ns: int, *, is_buy: bool) -> None:
        """Fill resting orders that the other side's ladder has come to: who is displayed there would have hit them."""
        while queue:
            work = queue[0]
            if work.limit is None or market.is_beyond(is_buy, work.limit):
                return
            best = next(iter(market.available(is_buy)), None)
            if best is None or not work.accepts(best[0]):
                return
            price, size = best
            filled = self.make(work, work.limit, size, time_ns)
            if work.is_open and not filled:  # less than a lot is displayed: nobody can trade it
                filled = size
            market.consume(is_buy, price, filled)

    def _trigger_stops(self, market: Market, time_ns: int) -> None:
        for queue in (market.orders.stop_sells, market.orders.stop_buys):
            while queue:
                work = queue[0]
                if work.stop is None or not market.reaches(work.is_buy, work.stop):
                    break
                self.trigger(work, time_ns)
                self.execute(work, time_ns)
