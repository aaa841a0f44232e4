"""Runs the strategy class itself on backtrader: called at each close, its market orders executed at the next open.

backtrader has the data, the broker and the loop; a bridge strategy of its kind tells our session what happens, in the
words of the replay engine, and hands on what is ordered. The equity is backtrader's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from koc_qt.domain.errors import StrategyError
from koc_qt.domain.exact import EXACT
from koc_qt.domain.market import Bar, Side
from koc_qt.domain.matching.ledger import unit_cost
from koc_qt.domain.matching.market import exact_price
from koc_qt.domain.orders import (
    CancelRejected,
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderEvent,
    OrderFilled,
    OrderRejected,
    OrderType,
)
from koc_qt.sdk.channel import StartReplay
from koc_qt.sdk.strategy import Strategy
from koc_qt.worker.ahead import BarsAhead
from koc_qt.worker.engines import backtrader_library
from koc_qt.worker.engines.terms import Terms
from koc_qt.worker.replay import Pause, Replay
from koc_qt.worker.replay_desk import ReplayDesk

if TYPE_CHECKING:
    from koc_qt.sdk.signals import Bars

_DAY_S = 86_400
_EPOCH_DAYS = 719_163  # backtrader counts days from the year 1, as datetime's ordinals do
_LOADED_AT_ONCE = 10_000  # bars
_ZERO = Decimal(0)
_NO_MONEY = "insufficient funds: backtrader refused it"


class _Work(msgspec.Struct, frozen=True):
    """An order at work: ours, theirs, and what it may cost."""

    order: Order
    theirs: Any
    cost: Decimal

    @property
    def signed(self) -> Decimal:
        """Its quantity, below zero for a sale."""
        quantity = self.order.request.quantity
        return quantity if self.order.request.side is Side.BUY else quantity.copy_negate()


class BacktraderVenue:
    """Implements replay_desk.Venue: backtrader's broker, in our words. `place` and `withdraw` reach it once it runs."""

    def __init__(self, terms: Terms) -> None:
        self.place: Callable[[bool, float], Any] | None = None
        self.withdraw: Callable[[Any], None] | None = None
        self._terms = terms
        self._works: dict[int, _Work] = {}  # by backtrader's number
        self._events: list[OrderEvent] = []
        self._held = _ZERO
        self._cash = terms.cash
        self._mark = _ZERO

    @property
    def is_idle(self) -> bool:
        """Whether no order works."""
        return not self._works

    @property
    def free(self) -> dict[str, Decimal]:
        """What is in the account, exactly; orders reserve nothing."""
        rules = self._terms.instrument
        return {rules.base: self._held, rules.quote: self._cash}

    def submit(self, order: Order, now_ns: int) -> Sequence[OrderEvent]:
        """Hand on an order. Raises StrategyError for one that backtrader would treat in its own way."""
        request = order.request
        if request.type is not OrderType.MARKET:
            raise StrategyError(
                f"backtrader fills {request.type.value.replace('_', '-')} orders by rules of its own, so only market "
                "orders are handed on: run this strategy on the replay engine"
            )
        if self.place is None:
            raise StrategyError("backtrader takes no order before the first bar has closed: order later than on_start")
        # Orders that only reduce have been held against the position already, by the desk.
        key, opening = (
            order.client_order_id,
            max(EXACT.subtract(request.quantity, self._reducible(request.side)), _ZERO),
        )
        cost = EXACT.multiply(unit_cost(self._mark, self._terms.fee), opening)
        if refusal := self._refusal(request.side, cost):
            return (OrderRejected(key, now_ns, refusal),)
        work = self.place(request.side is Side.BUY, float(request.quantity))
        self._works[work.ref] = _Work(order, work, cost)
        return (OrderAccepted(key, now_ns, f"backtrader-{work.ref}"),)

    def cancel(self, client_order_id: str, now_ns: int) -> Sequence[OrderEvent]:
        """Withdraw an order."""
        for number, work in self._works.items():
            if work.order.client_order_id == client_order_id and self.withdraw is not None:
                self.withdraw(self._works.pop(number).theirs)
                return (OrderCanceled(client_order_id, now_ns, "requested"),)
        return (CancelRejected(client_order_id, now_ns, "the order is already filled"),)

    def amend(
        self, client_order_id: str, quantity: Decimal, price: Decimal | None, now_ns: int
    ) -> Sequence[OrderEvent]:
        """Raise StrategyError: backtrader changes no order."""
        raise StrategyError("backtrader changes no order that it has: run this strategy on the replay engine")

    def on_bar(self, bar: Bar) -> Sequence[OrderEvent]:
        """Give what came of the orders at the bar's open; backtrader has told it already."""
        self._mark = exact_price(bar.close)
        events, self._events = self._events, []
        for event in events:
            if isinstance(event, OrderFilled):
                self._terms.note_volume(float(event.fill.quantity), bar.volume)
        return events

    def hear(self, work: Any, statuses: Any, time_ns: int) -> None:
        """Take what backtrader tells of an order, at the open of a bar."""
        known = self._works.get(work.ref)
        if known is None:
            return
        order, key = known.order, known.order.client_order_id
        if work.status == statuses.Completed:
            del self._works[work.ref]
            for bit in work.executed.iterpending():
                number, side = int(key.removeprefix("bt")), order.request.side
                fill = self._terms.fill(number, side, bit.price, abs(bit.size), bit.comm, time_ns)
                self._count(fill.side, fill.quantity, EXACT.multiply(fill.price, fill.quantity), fill.fee)
                self._events.append(OrderFilled(key, time_ns, fill))
        elif work.status in (statuses.Margin, statuses.Rejected):
            del self._works[work.ref]
            self._events.append(OrderCanceled(key, time_ns, _NO_MONEY))

    def _count(self, side: Side, quantity: Decimal, worth: Decimal, fee: Decimal) -> None:
        signed = quantity if side is Side.BUY else quantity.copy_negate()
        self._held = EXACT.add(self._held, signed)
        received = worth.copy_negate() if side is Side.BUY else worth
        self._cash = EXACT.subtract(EXACT.add(self._cash, received), fee)

    def _reducible(self, side: Side) -> Decimal:
        """Give how much an order of this side could close, once those before it are done."""
        held = self._held
        for work in self._works.values():
            held = EXACT.add(held, work.signed)
        return max(held.copy_negate() if side is Side.BUY else held, _ZERO)

    def _refusal(self, side: Side, cost: Decimal) -> str:
        """Say why the account cannot pay `cost` for what an order adds to its holding: backtrader sells short freely.

        The rule is that of our own accounts, see domain/matching/ledger.py.
        """
        if not cost:
            return ""
        if side is Side.SELL and not self._terms.allow_short:
            return f"insufficient funds: {self._held:f} {self._terms.instrument.base} free"
        shorts = EXACT.multiply(max(self._held.copy_negate(), _ZERO), self._mark)
        free = EXACT.subtract(self._cash, EXACT.add(shorts, shorts))
        for work in self._works.values():
            free = EXACT.subtract(free, work.cost)
        return "" if cost <= free else f"insufficient margin: {free:f} {self._terms.instrument.quote} free"


class BacktraderDesk(ReplayDesk):
    """A desk whose only venue is backtrader's."""

    def use(self, venue: BacktraderVenue) -> None:
        """Have it execute all orders."""
        self._venues = {rules.id.venue: venue for rules in self._start.instruments}
        self._by_row = [venue]


class BacktraderRun(Replay):
    """One run of one instrument."""

    def __init__(self, strategy: Strategy, start: StartReplay, write: Callable[[int, str, str], None]) -> None:
        self._terms = Terms("backtrader", start)
        self._library = _library()
        super().__init__(strategy, start, write)
        self._venue = BacktraderVenue(self._terms)
        self._desk = BacktraderDesk(start, self._session, self._context, self._note_before)
        self._desk.use(self._venue)
        self._ahead = self._kept = BarsAhead()

    @property
    def versions(self) -> Mapping[str, str]:
        """The version of backtrader."""
        return {"backtrader": self._library.__version__}

    def play_kept(self, pause: Pause) -> None:
        """Run on all bars, those of the warm-up aside, which the strategy has seen."""
        self._ahead = None
        self._desk.answer_all()  # what on_start asked for; an order is refused
        columns = self._kept.columns(self._start.instruments, self.timeframe)
        bars = [bar for message in self._kept.messages() for bar in self._bars_of(message)]
        if not bars:
            return
        if self._session.signal_trader is not None:
            self._session.signal_trader.know(columns[0])
        self._first_open = bars[0].open
        self._run(columns[0], bars, pause)
        for line in self._terms.reservations(has_volume=any(bar.volume for bar in bars)):
            self._context.log("WARNING", line)

    def _run(self, columns: Bars, bars: Sequence[Bar], pause: Pause) -> None:
        library, terms = self._library, self._terms
        cerebro = library.Cerebro(stdstats=False, runonce=True, preload=True)
        cerebro.broker.setcash(float(terms.cash))
        cerebro.broker.setcommission(commission=float(terms.fee))
        if terms.slippage:
            cerebro.broker.set_slippage_perc(float(terms.slippage), slip_open=True, slip_match=True, slip_out=True)
        cerebro.adddata(_feed(library, columns, len(columns) - len(bars), pause))
        cerebro.addstrategy(_bridge(library), venue=self._venue, bars=bars, close=self._closing(bars, pause))
        cerebro.run()

    def _closing(self, bars: Sequence[Bar], pause: Pause) -> Callable[[Bar, float], None]:
        """Give what is called at each close, with the worth of the account then."""
        key = self._start.instruments[0].id
        advances = [self._session.advances(key, bars, [bar.close for bar in bars])]
        tellers = [self._session.teller(key)]
        left = 1

        def close(bar: Bar, worth: float) -> None:
            nonlocal left
            self._pass([(0, bar)], advances, tellers)
            self.equity[-1] = worth
            left -= 1
            if not left:
                left = pause()

        return close


def _feed(library: Any, columns: Bars, begin: int, pause: Pause) -> Any:
    """Give backtrader the columns from a row on, which it loads before it begins."""
    days = columns.time_ns[begin:] / 10**9 / _DAY_S + _EPOCH_DAYS
    prices = (columns.open, columns.high, columns.low, columns.close, columns.volume)
    parts = [days.data, *(column[begin:].data for column in prices)]

    class Feed(library.feed.DataBase):  # type: ignore[misc]
        """Bars as columns."""

        def start(self) -> None:
            super().start()
            self._rows = zip(*parts, strict=True)

        def _load(self) -> bool:
            row = next(self._rows, None)
            if row is None:
                return False
            if not len(self) % _LOADED_AT_ONCE:
                pause()
            lines = self.lines
            lines.datetime[0], lines.open[0], lines.high[0], lines.low[0], lines.close[0], lines.volume[0] = row
            lines.openinterest[0] = 0.0
            return True

    return Feed()


def _bridge(library: Any) -> Any:
    """Give a strategy of backtrader's that stands for ours."""

    class Bridge(library.Strategy):  # type: ignore[misc]
        """Tells of closes and of what becomes of orders."""

        params = (("venue", None), ("bars", None), ("close", None))

        def start(self) -> None:
            self.p.venue.place = self._place
            self.p.venue.withdraw = self._withdraw

        def next(self) -> None:
            self.p.close(self.p.bars[len(self.data) - 1], self.broker.getvalue())

        def notify_order(self, order: Any) -> None:
            self.p.venue.hear(order, library.Order, self.p.bars[len(self.data) - 1].open_time_ns)

        def _place(self, is_buy: bool, size: float) -> Any:
            return (self.buy if is_buy else self.sell)(size=size)

        def _withdraw(self, order: Any) -> None:
            if not self.broker.cancel(order):  # it looks at orders of the same bar's close with the next bar only
                self.broker.submitted.remove(order)

    return Bridge


def _library() -> Any:
    """Give backtrader. Raises StrategyError, with how to get it, where it is not there."""
    if backtrader_library.missing:
        raise StrategyError(backtrader_library.missing)
    return backtrader_library.library


RUN = BacktraderRun
