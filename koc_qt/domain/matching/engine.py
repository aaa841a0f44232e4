"""The matching engine: one account's orders against a market that it only watches.

One engine serves the simulator's accounts, paper trading on real market data and back-tests, so that they agree. It is
synchronous and deterministic: time comes with each call, randomness from the generator that it is given.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec

from koc_qt.domain.exact import multiply, remainder
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar, Book, Quote, Side, Trade
from koc_qt.domain.matching.bars import meet_bar
from koc_qt.domain.matching.blotter import Blotter, whole_fill
from koc_qt.domain.matching.ledger import Ledger
from koc_qt.domain.matching.market import Market, exact_price
from koc_qt.domain.matching.matcher import Matcher
from koc_qt.domain.matching.model import FillModel
from koc_qt.domain.matching.working import WorkingOrder
from koc_qt.domain.orders import (
    Fill,
    Liquidity,
    Order,
    OrderEvent,
    OrderReport,
    OrderRequest,
    OrderStatus,
    OrderType,
    TimeInForce,
)
from koc_qt.domain.state import Balance
from koc_qt.domain.venues import VenueOrder, VenueTrade

NO_EVENTS: Sequence[OrderEvent] = ()
_NEVER_NS = 1 << 63
_BUY, _MARKET, _GTC, _TAKER = Side.BUY, OrderType.MARKET, TimeInForce.GTC, Liquidity.TAKER
_UNHEARD = frozenset({OrderStatus.NEW, OrderStatus.SUBMITTED, OrderStatus.UNKNOWN})


class _Amendment(msgspec.Struct, frozen=True):
    """A change on its way to an order."""

    client_order_id: str
    quantity: Decimal
    price: Decimal | None


_Message = Order | _Amendment | str  # the last is the id of an order to cancel


class MatchingEngine:
    """Executes one account's orders against the quotes, books, trades or bars that it is fed.

    Orders, cancels and amendments take effect `FillModel.latency_ns` after they were sent, in their order, before the
    first market event of that time or when `advance` is called; times are UTC nanoseconds. Market data may come for any
    instrument; feed an instrument either quotes, books and trades, or bars: bars are ignored once something finer is
    known.

    - Takers walk the book, with a newer quote as its top. What they took is not there again until the market shows
      new size. A market order that is good till cancelled goes on with the next size shown; IOC and FOK expire.
    - With trades or bars alone, takers wait for the next print and take at its price (a bar's open), so that nothing
      trades at a price that was known before.
    - Resting limit orders are filled at their price, as makers: by trades as the queue model says, and by a quote or
      book whose other side comes to their price, up to the size displayed.
    - Stops go off on the last trade, or on the quote while no trade is known; one that is through already, at once.
    - An order that the account can no longer pay in full when it trades is filled as far as it can, the rest cancelled.

    Every method that can change an order gives the events that it caused, in order.
    """

    def __init__(
        self,
        instruments: Iterable[Instrument],
        balances: Iterable[Balance],
        model: FillModel,
        account_id: str,
        rng: random.Random,
        *,
        allow_short: bool = False,
    ) -> None:
        self._markets = {instrument.id: Market(instrument) for instrument in instruments}
        self._model = model
        self._share = float(model.bar_volume_fraction or 0)
        self._is_prompt = not (model.latency_ns or model.latency_jitter_ns)
        self._taker_rates = {key: model.fee_rate(market.instrument, _TAKER) for key, market in self._markets.items()}
        self._rng = rng
        pairs = {(market.instrument.base, market.instrument.quote): market for market in self._markets.values()}
        ledger = Ledger(balances, model, pairs, allow_short=allow_short)
        self._ledger = ledger
        self._blotter = Blotter(account_id, ledger, model)
        self._events = self._blotter.events
        self._matcher = Matcher(self._blotter, model)
        self._pending: deque[tuple[int, _Message]] = deque()
        self._due_ns = _NEVER_NS
        self._now_ns = 0
        self._sequence = 0

    # ---- what can be asked ----------------------------------------------------------------------------------------

    @property
    def account_id(self) -> str:
        """The account that it keeps."""
        return self._blotter.account_id

    @property
    def model(self) -> FillModel:
        """What it assumes about fills."""
        return self._model

    @property
    def next_due_ns(self) -> int | None:
        """When the next order, cancel or amendment on its way takes effect; None without one."""
        return self._pending[0][0] if self._pending else None

    @property
    def is_idle(self) -> bool:
        """Whether no order works and nothing is on its way: market data changes nothing then but what is known."""
        return not (self._pending or self._blotter.has_open)

    @property
    def open_orders(self) -> tuple[OrderReport, ...]:
        """The orders that may still be filled, oldest first; those on their way are not among them yet."""
        return tuple(work.report() for work in self._blotter.open_orders)

    @property
    def balances(self) -> tuple[Balance, ...]:
        """What is in the account, by currency."""
        return self._ledger.balances()

    @property
    def free(self) -> dict[str, Decimal]:
        """What of the balances no open order reserves, by currency."""
        return self._ledger.free()

    def report(self, client_order_id: str) -> OrderReport | None:
        """Say what is known of an order: open, on its way (SUBMITTED), or among the newest 10,000 that ended.

        None when it was never seen or was forgotten.
        """
        known = self._blotter.report(client_order_id)
        if known is not None:
            return known
        for _, sent in self._pending:
            if isinstance(sent, Order) and sent.client_order_id == client_order_id:
                request = sent.request
                return OrderReport(
                    client_order_id,
                    "",
                    OrderStatus.SUBMITTED,
                    (),
                    sent.updated_ns,
                    quantity=request.quantity,
                    price=request.price,
                )
        return None

    @property
    def listings(self) -> tuple[VenueOrder, ...]:
        """The orders that may still be filled, as a venue lists them, oldest first."""
        return tuple(work.listing() for work in self._blotter.open_orders)

    def trades(self, since_ns: int) -> tuple[VenueTrade, ...]:
        """Give the executions since then of all orders that `report` knows, oldest first."""
        return tuple(
            VenueTrade(
                fill_id=fill.fill_id,
                venue_order_id=venue_order_id,
                client_order_id=fill.client_order_id,
                symbol=fill.instrument.symbol,
                side=fill.side,
                price=fill.price,
                quantity=fill.quantity,
                fee=fill.fee,
                fee_currency=fill.fee_currency,
                liquidity=fill.liquidity,
                time_ns=fill.time_ns,
            )
            for venue_order_id, fill in self._blotter.executions(since_ns)
        )

    def common_fee(self, liquidity: Liquidity) -> Decimal | None:
        """Give the fee as a fraction of the notional, None where it differs from one instrument to another."""
        rates = {self._model.fee_rate(market.instrument, liquidity) for market in self._markets.values()}
        return rates.pop() if len(rates) == 1 else None

    # ---- orders ---------------------------------------------------------------------------------------------------

    def submit(self, order: Order, now_ns: int) -> Sequence[OrderEvent]:
        """Send an order; without latency it takes effect at once."""
        return self._send(order, now_ns)

    def cancel(self, client_order_id: str, now_ns: int) -> Sequence[OrderEvent]:
        """Ask for a cancel; it ends in OrderCanceled or CancelRejected."""
        return self._send(client_order_id, now_ns)

    def amend(
        self, client_order_id: str, quantity: Decimal, price: Decimal | None, now_ns: int
    ) -> Sequence[OrderEvent]:
        """Ask for another total quantity and limit, None for no limit; it ends in OrderAmended or AmendRejected.

        Less quantity keeps the order's place in the queue; more, or another price, loses it.
        """
        return self._send(_Amendment(client_order_id, quantity, price), now_ns)

    def advance(self, now_ns: int) -> Sequence[OrderEvent]:
        """Let everything take effect that is due by `now_ns`, on the market as it is known."""
        if now_ns >= self._due_ns:
            self._run_due(now_ns)
        return self._take_events()

    def _send(self, message: _Message, now_ns: int) -> Sequence[OrderEvent]:
        delay_ns = self._model.latency_ns
        if self._model.latency_jitter_ns:
            delay_ns += self._rng.randint(0, self._model.latency_jitter_ns)
        if not delay_ns and not self._pending:
            self._act(message, self._moment(now_ns))
            return self._take_events()
        self._pending.append((now_ns + delay_ns, message))
        self._due_ns = self._pending[0][0]
        return self.advance(now_ns)

    def _run_due(self, now_ns: int) -> None:
        # a connection keeps its order: what was drawn a shorter delay waits for what was sent before it
        while self._pending and self._pending[0][0] <= now_ns:
            due_ns, message = self._pending.popleft()
            self._act(message, self._moment(due_ns))
        self._due_ns = self._pending[0][0] if self._pending else _NEVER_NS

    def _act(self, message: _Message, time_ns: int) -> None:
        if isinstance(message, Order):
            self._arrive(message, time_ns)
        elif isinstance(message, _Amendment):
            self._amend(message, time_ns)
        else:
            self._cancel(message, time_ns)

    def _arrive(self, order: Order, time_ns: int) -> None:
        market = self._markets.get(order.request.instrument)
        price = None if market is None else self._reference_price(order, market)
        if order.account_id != self._blotter.account_id:
            reason = f"account {order.account_id} does not trade here; this is {self.account_id}"
        elif self._blotter.knows(order.client_order_id):
            reason = f"duplicate client order id {order.client_order_id}"
        elif market is None:
            reason = f"unknown symbol {order.request.instrument.symbol}"
        elif not market.is_known:
            reason = f"no market yet: nothing was heard of {order.request.instrument.symbol}"
        elif price is None:
            reason = f"no market: nobody offers {order.request.instrument.symbol} on this side"
        else:
            self._matcher.arrive(self._working(order, market, price), time_ns)
            return
        self._blotter.reject(order, reason, time_ns)

    def _reference_price(self, order: Order, market: Market) -> Decimal | None:
        """Give the price at which an order's funds are reserved."""
        request = order.request
        own = request.price or request.stop_price
        return own or market.best(request.side is Side.BUY) or market.mark

    def _working(self, order: Order, market: Market, lock_price: Decimal) -> WorkingOrder:
        self._sequence += 1
        return WorkingOrder(order, market, self._sequence, lock_price)

    def _cancel(self, client_order_id: str, time_ns: int) -> None:
        work = self._blotter.find(client_order_id)
        if work is None:
            self._blotter.refuse_cancel(client_order_id, time_ns)
        else:
            self._blotter.cancel(work, "requested", time_ns)

    def _amend(self, asked: _Amendment, time_ns: int) -> None:
        work = self._blotter.find(asked.client_order_id)
        if work is None:
            self._blotter.refuse_amend(asked.client_order_id, time_ns)
        else:
            self._sequence += 1
            self._matcher.amend(work, asked.quantity, asked.price, self._sequence, time_ns)

    # ---- a market order alone --------------------------------------------------------------------------------------

    def waits_alone(self, request: OrderRequest, now_ns: int) -> bool:
        """Whether a market order would be accepted now and then wait, as the only order, for its instrument's next bar.

        Nearly all orders of most back-tests are such. Nothing is kept of it: `fill_alone` executes it at that bar, and
        whoever asks hands it to `submit` as soon as anything else is asked for or that cannot be. The outcome is the
        same as if it had been submitted at once, in a fraction of the steps. False where it is not that simple.
        """
        market = self._markets.get(request.instrument)
        if market is None or market.bar is None or market.has_ticks or not self.is_idle or not self._is_prompt:
            return False
        if request.type is not _MARKET or request.time_in_force is not _GTC:
            return False
        rules, quantity = market.instrument, request.quantity
        if remainder(quantity, rules.lot_size) or quantity < rules.min_quantity:
            return False
        if rules.max_quantity is not None and quantity > rules.max_quantity:
            return False
        covered = self._ledger.covers_alone(rules, quantity, is_buy=request.side is _BUY)
        if rules.min_notional or not covered:  # else any price will do
            last = market.last
            if last is None or multiply(last, quantity) < rules.min_notional:
                return False
            if self._price_alone(market, request, last) is None:
                return False
        self._moment(now_ns)
        return True

    def fill_alone(self, order: Order, bar: Bar) -> Fill | None:
        """Execute an order of `waits_alone` whole at the bar's open; None where the bar or the money has too little."""
        request = order.request
        market, quantity = self._markets[request.instrument], request.quantity
        share = self._model.bar_volume_fraction
        if (
            share is not None
            and bar.volume * self._share < 1.001 * float(quantity)  # near it the exact figures decide
            and multiply(exact_price(bar.volume), share) < quantity
        ):
            return None
        price = self._price_alone(market, request, exact_price(bar.open))
        if price is None:
            return None
        rules = market.instrument
        fill = whole_fill(order, rules, price, self._taker_rates[rules.id], self._moment(bar.open_time_ns))
        self._ledger.book(fill, rules.base, rules.quote)
        market.bar = bar
        return fill

    def _price_alone(self, market: Market, request: OrderRequest, price: Decimal) -> Decimal | None:
        """Give what a market order pays where the market shows `price`; None where the account cannot pay all of it."""
        rules, ledger, is_buy = market.instrument, self._ledger, request.side is _BUY
        price = self._model.taker_price(rules, is_buy, price, None)
        if ledger.covers_alone(rules, request.quantity, is_buy=is_buy):
            return price
        rate = self._taker_rates[rules.id]
        can = not request.reduce_only and ledger.pays_alone(rules, price, request.quantity, rate, is_buy=is_buy)
        return price if can else None

    # ---- market data ----------------------------------------------------------------------------------------------

    def on_quote(self, quote: Quote) -> Sequence[OrderEvent]:
        """Take a best bid and offer."""
        if quote.time_ns >= self._due_ns:
            self._run_due(quote.time_ns)
        market = self._markets.get(quote.instrument)
        if market is not None:
            market.quote = quote
            market.has_ladder = True
            market.sweep = None
            if market.worn:
                market.refresh()
            orders = market.orders
            if not orders.idle and (quote.bid <= orders.lower or quote.ask >= orders.upper):
                self._matcher.meet_ladder(market, self._moment(quote.time_ns))
        return self._take_events() if self._events else NO_EVENTS

    def on_book(self, book: Book) -> Sequence[OrderEvent]:
        """Take the top levels of the order book; they replace what quotes and books said before."""
        if book.time_ns >= self._due_ns:
            self._run_due(book.time_ns)
        market = self._markets.get(book.instrument)
        if market is not None:
            market.book = book
            market.has_ladder = True
            market.quote = market.sweep = None
            if market.worn:
                market.refresh()
            orders = market.orders
            if not orders.idle and _book_reaches(book, orders.lower, orders.upper):
                self._matcher.meet_ladder(market, self._moment(book.time_ns))
        return self._take_events() if self._events else NO_EVENTS

    def on_trade(self, trade: Trade) -> Sequence[OrderEvent]:
        """Take a trade between others."""
        if trade.time_ns >= self._due_ns:
            self._run_due(trade.time_ns)
        market = self._markets.get(trade.instrument)
        if market is not None:
            market.trade = market.sweep = trade
            orders = market.orders
            if not orders.idle and not orders.lower < trade.price < orders.upper:
                self._matcher.meet_trade(market, trade, self._moment(trade.time_ns))
        return self._take_events() if self._events else NO_EVENTS

    def on_bar(self, bar: Bar) -> Sequence[OrderEvent]:
        """Take a closed bar. Orders that take effect by its opening time meet it; with latency, later ones the next."""
        if bar.open_time_ns >= self._due_ns:
            self._run_due(bar.open_time_ns)
        market = self._markets.get(bar.instrument)
        if market is not None:
            orders = market.orders
            if (
                not orders.idle
                and (bar.low <= orders.lower_float or bar.high >= orders.upper_float)
                and not market.has_ticks
            ):
                meet_bar(
                    self._matcher,
                    market,
                    bar,
                    volume_fraction=self._model.bar_volume_fraction,
                    is_short=self._ledger.total(market.instrument.base) < 0,
                    time_ns=self._moment(bar.open_time_ns),
                )
            market.bar = bar
        return self._take_events() if self._events else NO_EVENTS

    def forget_market(self, instrument: InstrumentId | None = None) -> None:
        """Forget quotes, book, trades and bars of an instrument whose data was interrupted, of all where None is given.

        Open orders stay. Until data comes again, new orders are rejected and stops keep still.
        """
        for known, market in self._markets.items():
            if instrument is None or known == instrument:
                market.forget()

    # ---- after a restart ------------------------------------------------------------------------------------------

    def restore(self, orders: Iterable[Order], fills: Iterable[Fill]) -> Sequence[OrderEvent]:
        """Rebuild balances and open orders from the journal of earlier runs, before any market data.

        `fills` are all fills since the balances that the engine was made with, in order; `orders` all orders; those of
        other accounts are ignored. An order that was sent but never acknowledged is unknown here. What should have
        been executed at once (market, IOC, FOK) expires, so that nothing trades long after it was meant to; stops that
        had gone off, being protection, trade on the next market data. Limit orders stand last in their queue again.
        """
        by_order: dict[str, list[Fill]] = {}
        for fill in fills:
            if fill.account_id == self.account_id:
                by_order.setdefault(fill.client_order_id, []).append(fill)
                self._book_earlier(fill)
        for order in orders:
            if order.account_id != self.account_id or order.status in _UNHEARD:
                continue
            earlier = by_order.get(order.client_order_id, ())
            if order.is_open:
                self._restore_open(order, earlier)
            else:
                self._blotter.remember(order, earlier)
        return self._take_events()

    def _book_earlier(self, fill: Fill) -> None:
        market = self._markets.get(fill.instrument)
        if market is not None:
            self._ledger.book(fill, market.instrument.base, market.instrument.quote)
        else:  # no longer listed; its fee was in quote currency
            self._ledger.book(fill, fill.instrument.symbol.partition("/")[0], fill.fee_currency)

    def _restore_open(self, order: Order, fills: Sequence[Fill]) -> None:
        request, time_ns = order.request, self._moment(order.updated_ns)
        market = self._markets.get(request.instrument)
        if market is None:
            self._blotter.drop(order, fills, f"{request.instrument.symbol} is no longer listed", time_ns)
            return
        work = self._working(order, market, request.price or request.stop_price or Decimal(0))
        self._blotter.restore(work, fills)
        if work.stop is not None and order.status is OrderStatus.ACCEPTED:
            market.orders.arm(work, work.stop)
        elif work.limit is not None and not work.is_immediate:
            self._matcher.rest(work, work.limit)
        elif work.stop is not None:
            market.orders.wait(work)
        else:
            self._blotter.expire(work, "the venue restarted before it was executed in full", time_ns)

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _moment(self, time_ns: int) -> int:
        """Give the time of what happens now: never before what happened already."""
        if time_ns > self._now_ns:
            self._now_ns = time_ns
        return self._now_ns

    def _take_events(self) -> Sequence[OrderEvent]:
        if not self._events:
            return NO_EVENTS
        events = self._events.copy()
        self._events.clear()
        return events


def _book_reaches(book: Book, lower: Decimal, upper: Decimal) -> bool:
    """Whether an order with these bounds is hit by the book or stands within its levels."""
    return not book.bids or not book.asks or book.bids[-1].price <= lower or book.asks[-1].price >= upper
