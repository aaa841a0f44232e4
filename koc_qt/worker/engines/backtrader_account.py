"""One venue's account whose orders backtrader executes: what an order may cost, and what became of it, in our words.

backtrader decides whether, when and at what price an order trades. It knows no reservations, no limit to short sales,
no reduce-only and no lots: what an account can pay for, of which there is one rule (domain/matching/ledger.py), is
asked before an order is taken, and by backtrader's own volume filler before it is filled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any

from koc_qt.domain.errors import EngineLacks
from koc_qt.domain.exact import EXACT
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.domain.matching import MatchingEngine
from koc_qt.domain.matching.ledger import Ledger
from koc_qt.domain.matching.market import Market, exact_price
from koc_qt.domain.matching.matcher import NOT_WHOLE, NOTHING_LEFT, REDUCED
from koc_qt.domain.matching.rules import broken_rule, would_take
from koc_qt.domain.matching.working import WorkingOrder
from koc_qt.domain.orders import (
    CancelRejected,
    Liquidity,
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderTriggered,
    OrderType,
)
from koc_qt.worker.engines.terms import exact_fill

_ZERO = Decimal(0)
_ENDLESS = Decimal(10) ** 30  # beyond any order's quantity
_NO_MONEY = "insufficient funds: backtrader refused it"


class Kind(Enum):
    """The order types of backtrader's that are used."""

    MARKET = "Market"
    LIMIT = "Limit"
    STOP = "Stop"


class Work:
    """An order at work: ours, and theirs. `over` says why its rest ends.

    It `takes` at a bar's open: at the market, or as a limit that has met none yet, or as a stop that has gone off.
    """

    __slots__ = ("is_maker", "order", "over", "takes", "theirs")

    def __init__(self, order: WorkingOrder, theirs: Any, *, takes: bool) -> None:
        self.order = order
        self.theirs = theirs
        self.takes = takes
        self.is_maker = False
        self.over = ""


Place = Callable[[InstrumentId, Kind, bool, float, float | None], Any]
"""Hands an order on, of an instrument: its kind, whether it buys, size and price; gives backtrader's."""


class BacktraderVenue:
    """Implements replay_desk.Venue. `place` and `withdraw` reach backtrader once it runs."""

    place: Place
    withdraw: Callable[[Any], None]

    def __init__(self, engine: MatchingEngine, instruments: Iterable[Instrument], *, allow_short: bool) -> None:
        self._model = engine.model
        self._markets = {rules.id: Market(rules) for rules in instruments}
        pairs = {(market.instrument.base, market.instrument.quote): market for market in self._markets.values()}
        self._ledger = Ledger(engine.balances, engine.model, pairs, allow_short=allow_short)
        self._works: dict[int, Work] = {}  # by backtrader's number
        self._events: dict[InstrumentId, list[OrderEvent]] = {key: [] for key in self._markets}
        self._ended: dict[str, str] = {}  # since the last moment: what became of them
        self._left = _ENDLESS  # of the bar's volume
        self._now_ns = 0
        self._sequence = 0

    @property
    def free(self) -> dict[str, Decimal]:
        """What of the account's balances no order reserves, by currency."""
        return self._ledger.free()

    # ---- orders -----------------------------------------------------------------------------------------------------

    def submit(self, order: Order, now_ns: int) -> Sequence[OrderEvent]:
        """Hand on an order. Raises EngineLacks for one that backtrader would treat in its own way."""
        request, key, now_ns = order.request, order.client_order_id, self._moment(now_ns)
        if request.type is OrderType.STOP_LIMIT:
            raise EngineLacks(
                "backtrader fills stop-limit orders by rules of its own: run this strategy on the replay engine"
            )
        market = self._markets[request.instrument]
        price = request.price or request.stop_price or market.last
        if market.bar is None or price is None:
            return (OrderRejected(key, now_ns, f"no market yet: nothing was heard of {request.instrument.symbol}"),)
        self._sequence += 1
        working = WorkingOrder(order, market, self._sequence, price)
        if reason := broken_rule(working) or self._refusal(working):
            return (OrderRejected(key, now_ns, reason),)
        self._ledger.reserve(working)
        kind, events = Kind.MARKET, []
        if working.stop is not None and market.reaches(working.is_buy, working.stop):
            events.append(OrderTriggered(key, now_ns))
            price = None
        elif working.stop is not None:
            kind = Kind.STOP
        elif working.limit is not None:
            kind = Kind.LIMIT
        at = None if kind is Kind.MARKET else float(price or 0)
        theirs = self.place(request.instrument, kind, working.is_buy, float(request.quantity), at)
        self._works[theirs.ref] = Work(working, theirs, takes=kind is not Kind.STOP and not request.post_only)
        return (OrderAccepted(key, now_ns, f"backtrader-{theirs.ref}"), *events)

    def cancel(self, client_order_id: str, now_ns: int) -> Sequence[OrderEvent]:
        """Withdraw an order."""
        now_ns = self._moment(now_ns)
        for work in self._works.values():
            if work.order.client_order_id == client_order_id:
                self.withdraw(work.theirs)
                self._end(work, "canceled")
                return (OrderCanceled(client_order_id, now_ns, "requested"),)
        became = self._ended.get(client_order_id)
        reason = "unknown order" if became is None else f"the order is already {became}"
        return (CancelRejected(client_order_id, now_ns, reason),)

    def amend(
        self, client_order_id: str, quantity: Decimal, price: Decimal | None, now_ns: int
    ) -> Sequence[OrderEvent]:
        """Raise EngineLacks: backtrader changes no order."""
        raise EngineLacks("backtrader changes no order that it has: run this strategy on the replay engine")

    def on_bar(self, bar: Bar) -> Sequence[OrderEvent]:
        """Give what came of the orders within the bar; backtrader has told it already."""
        self._markets[bar.instrument].bar = bar
        events, self._events[bar.instrument] = self._events[bar.instrument], []
        return events

    def _refusal(self, working: WorkingOrder) -> str:
        """Say what the account cannot do, as our own accounts say it; empty when it can."""
        request, rules = working.order.request, working.instrument
        limit = working.limit if request.post_only else None
        if limit is not None and would_take(working.market, working.is_buy, limit):
            return f"post-only: at {limit} it would take"
        if request.reduce_only and not self._ledger.reducible(working):
            return "reduce-only: there is nothing to reduce"
        wanted, _ = self._allowed(working)
        price = self._model.taker_price(rules, working.is_buy, working.lock_price, working.limit)
        granted = self._ledger.capacity(working).grant(rules, price, wanted, self._ledger.lock_rate(working))
        return self._ledger.describe(working) if granted < wanted else ""

    def _allowed(self, working: WorkingOrder) -> tuple[Decimal, str]:
        """Give how much of an order may be executed, and why that is not all of it."""
        if not working.order.request.reduce_only:
            return working.remaining, ""
        reducible = working.instrument.round_quantity(self._ledger.reducible(working))
        return (reducible, REDUCED) if reducible < working.remaining else (working.remaining, "")

    # ---- what backtrader asks and tells while a bar is met -----------------------------------------------------------

    def begin(self, bar: Bar, orders: Sequence[Any]) -> list[Any]:
        """Begin with a bar: give its instrument's orders in the order in which the bar's path comes to them."""
        self._moment(bar.open_time_ns)
        self._ended.clear()
        share = self._model.bar_volume_fraction
        self._left = _ENDLESS if share is None else EXACT.multiply(exact_price(bar.volume), share)
        is_short = self._ledger.total(self._markets[bar.instrument].instrument.base) < 0
        return sorted(orders, key=lambda theirs: _place_in_path(self._works[theirs.ref], bar, is_short=is_short))

    def end(self, bar: Bar) -> None:
        """End with a bar: from now on the account is valued at its close."""
        self._markets[bar.instrument].bar = bar

    def work(self, theirs: Any) -> Work:
        """Give what is known of an order of backtrader's."""
        return self._works[theirs.ref]

    def slipped(self, work: Work, price: float) -> float:
        """Give what an order pays where it takes at `price`: slippage and half the spread, on the tick."""
        working = work.order
        return float(self._model.taker_price(working.instrument, working.is_buy, exact_price(price), working.limit))

    def rate(self, work: Work) -> float:
        """Give the fee of the next fill of an order, as a fraction of the notional."""
        return float(self._model.fee_rate(work.order.instrument, _liquidity(work)))

    def grant(self, theirs: Any, price: float) -> float:
        """Give how much of an order may trade at a price: of the volume what is left, and what the account can pay."""
        work = self._works[theirs.ref]
        working, rules = work.order, work.order.instrument
        if working.stop is not None and not work.takes:
            work.takes = True
            self._note(work, OrderTriggered(working.client_order_id, self._now_ns))
        allowed, short = self._allowed(working)
        quantity = allowed if self._left >= allowed else rules.round_quantity(self._left)
        if allowed and not quantity:
            return 0.0
        rate = self._model.fee_rate(rules, _liquidity(work))
        granted = self._ledger.capacity(working).grant(rules, exact_price(price), quantity, rate)
        if granted < quantity:
            short = self._ledger.describe(working)
        elif quantity < allowed:
            short = ""
        if working.fill_or_kill and granted < working.remaining:
            work.over = short or NOT_WHOLE
            return 0.0
        work.over = short
        return abs(float(theirs.executed.remsize)) if granted == working.remaining else float(granted)

    def hear(self, theirs: Any, statuses: Any) -> None:
        """Take what backtrader tells of an order."""
        work = self._works.get(theirs.ref)
        if work is None:
            return
        if theirs.status in (statuses.Partial, statuses.Completed):
            for bit in theirs.executed.iterpending():
                self._fill(work, bit)
        elif theirs.status in (statuses.Margin, statuses.Rejected):
            self._note(work, OrderCanceled(work.order.client_order_id, self._now_ns, _NO_MONEY))
            self._end(work, "canceled")

    def settle(self, theirs: Any) -> bool:
        """Whether what is left of an order that has met a bar ends here; then that is told."""
        work = self._works.get(theirs.ref)
        if work is None:
            return bool(theirs.alive())  # filled but for the dust of floats
        key = work.order.client_order_id
        if work.over and not work.order.fill_or_kill:
            self._note(work, OrderCanceled(key, self._now_ns, work.over))
            self._end(work, "canceled")
        elif work.order.is_immediate:
            why = NOT_WHOLE if work.order.fill_or_kill else NOTHING_LEFT
            self._note(work, OrderExpired(key, self._now_ns, work.over or why))
            self._end(work, "expired")
        else:
            return False
        return True

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _fill(self, work: Work, bit: Any) -> None:
        working = work.order
        fill = exact_fill(
            "backtrader",
            working.client_order_id,
            len(working.fills) + 1,
            working.instrument,
            working.order.request.side,
            price=bit.price,
            quantity=abs(bit.size),
            fee=bit.comm,
            rate=self._model.fee_rate(working.instrument, _liquidity(work)),
            liquidity=_liquidity(work),
            time_ns=self._now_ns,
        )
        working.fills.append(fill)
        working.remaining = EXACT.subtract(working.remaining, fill.quantity)
        self._left = EXACT.subtract(self._left, fill.quantity)
        self._ledger.book(fill, working.instrument.base, working.instrument.quote)
        self._note(work, OrderFilled(working.client_order_id, self._now_ns, fill))
        if working.remaining > _ZERO:
            self._ledger.reserve(working)
        else:
            self._end(work, "filled")

    def _note(self, work: Work, event: OrderEvent) -> None:
        self._events[work.order.instrument.id].append(event)

    def _end(self, work: Work, became: str) -> None:
        del self._works[work.theirs.ref]
        self._ledger.release(work.order)
        self._ended[work.order.client_order_id] = became

    def _moment(self, time_ns: int) -> int:
        """Give the time of what happens now: never before what happened already."""
        self._now_ns = max(self._now_ns, time_ns)
        return self._now_ns


def _liquidity(work: Work) -> Liquidity:
    return Liquidity.MAKER if work.is_maker else Liquidity.TAKER


def _place_in_path(work: Work, bar: Bar, *, is_short: bool) -> tuple[int, float, bool, int]:
    """Say when the path through a bar comes to an order, see domain/matching/bars.py: to be sorted by.

    What takes at the open comes first, then what the bar opens beyond, then what lies on the way to the extreme that
    hurts, then the rest; on a way the nearest first, at one price stops before limits.
    """
    working = work.order
    limit = working.limit
    price = working.stop if limit is None else limit
    if price is None or (work.takes and (working.is_immediate or working.accepts(exact_price(bar.open)))):
        return 0, 0.0, False, working.sequence
    at, is_limit = float(price), limit is not None
    falls = working.is_buy is is_limit  # a falling price comes to it
    is_beyond = at > bar.open if falls else at < bar.open
    if at == bar.open and not is_limit:
        is_beyond = True
    beyond, inside = (1, 3 + is_short) if falls else (2, 4 - is_short)
    return beyond if is_beyond else inside, -at if falls else at, is_limit, working.sequence
