"""The one deterministic exchange behind every venue's dialect. How to write a dialect:

    class KrakenSite(Dialect):                       # tests/wire/venues/kraken.py; Dialect is a loopback `Site`
        venue = "kraken"                             # the venue part of instrument ids
        hosts: Sequence[str] = ("api.kraken.com", "ws.kraken.com", "ws-auth.kraken.com")

        async def rest(self, call: Call) -> web.StreamResponse: ...      # call.path .query .form() .json() .headers .ip
        async def heard(self, channel: Channel, text: str) -> None: ...  # a frame from a client
        async def opened(self, channel: Channel) -> None: ...            # optional: a client has connected
        def limited(self, call, retry_after_s, banned) -> web.Response: ...  # the venue's own 429
        def maintenance(self, call) -> web.Response: ...
        def on_order(self, update: OrderUpdate) -> None: ...             # send frames to update.order.user's channels
        def on_fill(self, order: WireOrder, fill: WireFill) -> None: ... # after on_order with Happened.FILL
        def on_balance(self, user: User, currencies: set[str]) -> None: ...
        def on_market(self, event: Trade | Quote | Book) -> None: ...

    def make_site(exchange: Exchange) -> KrakenSite  # every module in tests/wire/venues has these three
    def make_exchange(clock: Clock, seed: int = 1) -> Exchange  # the venue's symbols, fees, kinds of ids
    def add_person(exchange: Exchange, name: str = "trader", **options: Any) -> ApiKey  # keys as the venue makes them;
                                                                                        # options go to add_user

A venue with a test network takes `test_network: bool = False` in add_person, and refuses such keys on its live hosts.
Parts of a dialect that outgrow one module go to modules with an underscore in their name (binance_rows.py).

`on_*` are called at once, within `place` for instance: so before the request is answered. Frames go out through
`send` (public), `send_private` (faults: silence, duplicates, reorder) and `reply` (answers, which may be lost).
`on_market` comes for every symbol: look first whether anybody listens. Raise nothing from `on_*`.

In a request: `exchange.directory.check(key, call.ip, now, TRADE)`, compare the signature, count it in RateCounters,
then `exchange.place/cancel/amend`, which raise RefusedError with a `Why`; ask `exchange.order/find/orders/fills` and
`position`, `user.balances()`, `exchange.market(symbol)` (`.listing .quote() .book() .tape .last .candles()`).
A market order goes on with what the market shows next; give it TimeInForce.IOC where the venue ends it at once.
All times are the venue's, UTC nanoseconds, from `exchange.time_ns()`. What is in `Faults` works by itself as long as
the dialect answers through these; see FaultMethods for what tests may call.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from decimal import ROUND_DOWN, Decimal
from typing import Any, Protocol

import msgspec

from koc_qt.domain.errors import InvalidOrder
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.market import Book, Quote, Side, Trade
from koc_qt.domain.matching import FillModel, MatchingEngine
from koc_qt.domain.orders import (
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderRequest,
    OrderStatus,
    OrderTriggered,
    OrderType,
    TimeInForce,
)
from koc_qt.domain.state import Balance
from koc_qt.ports.clock import Clock
from tests.wire.core.accounts import ApiKey, Directory, User
from tests.wire.core.faults import Faults
from tests.wire.core.listings import Listing, Trading
from tests.wire.core.market import LiveMarket, MarketFact
from tests.wire.core.orders import Happened, OrderUpdate, RefusedError, Why, WireFill, WireOrder

_PUMP_S = 0.01
_KEPT = 20_000  # orders; the oldest that ended are forgotten

# The bounds are for whole orders and are checked here; the engine may be given the rest of an amended one.
_NO_BOUNDS: dict[str, Any] = {"min_quantity": Decimal(0), "max_quantity": None, "min_notional": Decimal(0)}

# What was done in the request (or frame) that is being answered; a dialect's base looks whether its answer gets lost.
DONE: ContextVar[set[str] | None] = ContextVar("DONE", default=None)


class Listener(Protocol):
    """Hears what happens; called at once and must not raise."""

    def on_order(self, update: OrderUpdate) -> None:
        """Something happened to an order."""
        ...

    def on_fill(self, order: WireOrder, fill: WireFill) -> None:
        """An order was executed in part or whole; on_order was called before."""
        ...

    def on_balance(self, user: User, currencies: set[str]) -> None:
        """Balances have changed, or what is locked of them."""
        ...

    def on_market(self, event: MarketFact) -> None:
        """The market moved."""
        ...


class Exchange:
    """Accounts that trade on seeded markets; everything follows from the seed, the clock and what is asked.

    `order_id` and `trade_id` make the venue's ids from a number that is never used twice, also after a restart.
    With `client_ids_for_ever` an id is refused as duplicate even when its order has ended; with `buyers_pay_in_base`
    the fee of a buy is taken off what was bought.
    """

    def __init__(
        self,
        venue: str,
        listings: Iterable[Listing],
        clock: Clock,
        *,
        seed: int = 1,
        rate: float = 4.0,
        order_id: Callable[[int], str] = str,
        trade_id: Callable[[int], str] = str,
        client_ids_for_ever: bool = False,
        buyers_pay_in_base: bool = False,
        model: FillModel | None = None,
    ) -> None:
        self.venue = venue
        self.faults = Faults()
        self.directory = Directory()
        self.listeners: list[Listener] = []
        self._clock = clock
        self._skew_ns = 0
        now_ns = clock.time_ns()
        self.markets = {each.symbol: LiveMarket(each, venue, seed, now_ns, rate) for each in listings}
        self._instruments: dict[str, Instrument] = {s: m.listing.instrument(venue) for s, m in self.markets.items()}
        self._model = model or FillModel()
        self._seed = seed
        self._make_order_id, self._make_trade_id = order_id, trade_id
        self._for_ever = client_ids_for_ever
        self._buyers_pay_in_base = buyers_pay_in_base
        self._number = now_ns // 1_000_000
        self._orders: dict[str, WireOrder] = {}
        self._open: dict[str, WireOrder] = {}
        self._by_engine: dict[str, WireOrder] = {}
        self._by_client: dict[tuple[str, str], WireOrder] = {}  # the newest of each person's client ids
        self._fills: list[tuple[WireOrder, WireFill]] = []
        self._pump: asyncio.Task[None] | None = None

    # ---- time -----------------------------------------------------------------------------------------------------

    def time_ns(self) -> int:
        """The venue's clock, UTC nanoseconds."""
        return self._clock.time_ns() + self._skew_ns

    def set_skew(self, skew_ns: int) -> None:
        """Set the venue's clock so far ahead of ours."""
        self._skew_ns = skew_ns
        for market in self.markets.values():
            market.skew_ns = skew_ns

    def run(self) -> None:
        """Let the market move from now on, in a task; `stop` ends it. Calling it again does nothing."""
        if self._pump is None:
            self._pump = asyncio.create_task(self._run(), name=f"{self.venue} market")

    async def _run(self) -> None:
        while True:
            self.advance()
            await asyncio.sleep(_PUMP_S)

    async def stop(self) -> None:
        """End what runs. Raises what a listener raised on the way."""
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.cancel()
            await asyncio.wait([pump])
            if not pump.cancelled():
                pump.result()

    def advance(self) -> None:
        """Let everything happen that is due by the clock; for tests whose clock is moved by hand."""
        now_ns = self._clock.time_ns()
        for market in self.markets.values():
            for event in market.advance(now_ns):
                self._meet(event)

    # ---- markets --------------------------------------------------------------------------------------------------

    def market(self, symbol: str) -> LiveMarket:
        """Give a symbol's market. Raises RefusedError for one that is not listed or no longer."""
        market = self.markets.get(symbol)
        if market is None or market.trading is Trading.DELISTED:
            raise RefusedError(Why.UNKNOWN_SYMBOL, f"unknown symbol {symbol}")
        return market

    def listed(self) -> Iterator[LiveMarket]:
        """Give every market that is not delisted."""
        return (market for market in self.markets.values() if market.trading is not Trading.DELISTED)

    def show(self, symbol: str, bid: Decimal, ask: Decimal, size: Decimal) -> None:
        """Let this be the market, one price a side, until it is shown another one or released; orders meet it."""
        self.market(symbol).show(bid, ask, size)
        self._forget_and_meet(symbol)

    def set_thin(self, symbol: str, size: Decimal | None) -> None:
        """Show at most `size` at any price; None for all there is."""
        self.market(symbol).thin = size
        self._forget_and_meet(symbol)

    def set_trading(self, symbol: str, trading: Trading) -> None:
        """Open, close or delist a symbol; a delisted one's orders are cancelled."""
        self.markets[symbol].trading = trading
        if trading is Trading.DELISTED:
            for order in [order for order in self._open.values() if order.symbol == symbol]:
                self._pass_on(order.user, order.user.engine.cancel(order.engine_key, self.time_ns()))

    def _forget_and_meet(self, symbol: str) -> None:
        market, now_ns = self.market(symbol), self.time_ns()
        market.sequence += 1
        for user in self.directory.users:
            user.engine.forget_market(market.id)  # stops must not go off on an older trade
        self._meet(market.book(now_ns))
        self._tell_market(market.quote(now_ns))

    def _meet(self, event: MarketFact) -> None:
        self._tell_market(event)
        for user in self.directory.users:
            self._pass_on(user, _feed(user.engine, event))

    def _tell_market(self, event: MarketFact) -> None:
        for listener in self.listeners:
            listener.on_market(event)

    # ---- people ---------------------------------------------------------------------------------------------------

    def add_user(
        self,
        name: str,
        balances: dict[str, str],
        *keys: ApiKey,
        allow_short: bool = False,
        **extra: Any,
    ) -> User:
        """Open an account; `balances` are amounts as text by currency, `extra` is for the dialect."""
        funds = [Balance(currency, Decimal(amount)) for currency, amount in balances.items()]
        rng = random.Random(f"{self._seed}/{name}")
        unbounded = [msgspec.structs.replace(each, **_NO_BOUNDS) for each in self._instruments.values()]
        engine = MatchingEngine(unbounded, funds, self._model, name, rng, allow_short=allow_short)
        user = User(name, engine, list(keys), extra)
        self.directory.users.append(user)
        for market in self.markets.values():
            engine.on_book(market.book(market.now_ns))
        return user

    def position(self, user: User, symbol: str) -> tuple[Decimal, Decimal | None]:
        """Give the quantity held by fills (signed) and its mean entry price."""
        held, average = Decimal(0), Decimal(0)
        for order, fill in self.fills(user, symbol):
            change = fill.quantity * order.side.sign
            if held * change < 0:
                if abs(change) > abs(held):
                    average = fill.price
            else:
                average = (average * abs(held) + fill.notional) / (abs(held) + fill.quantity)
            held += change
        return held, average if held else None

    # ---- orders ---------------------------------------------------------------------------------------------------

    def place(
        self,
        user: User,
        symbol: str,
        side: Side,
        type: OrderType,
        quantity: Decimal | None = None,
        price: Decimal | None = None,
        stop_price: Decimal | None = None,
        *,
        cost: Decimal | None = None,
        time_in_force: TimeInForce = TimeInForce.GTC,
        post_only: bool = False,
        reduce_only: bool = False,
        client_id: str = "",
        reject_later: bool = False,
        test_only: bool = False,
        extra: dict[str, Any] | None = None,
    ) -> WireOrder:
        """Take an order and let it meet the market; the order that comes back may be filled already.

        `cost`, in quote currency, instead of `quantity` for a market order. Raises RefusedError; with `reject_later`
        what only the matching finds (funds, post-only) is told by Happened.REJECTED instead. With `test_only` the rules
        are checked and nothing happens.
        """
        market = self.market(symbol)
        if market.trading is not Trading.OPEN:
            raise RefusedError(Why.CLOSED, f"{symbol} is not traded now")
        self._check_client_id(user, client_id)
        if cost is not None:
            quantity = self._affordable(market, side, cost)
        if quantity is None:
            raise RefusedError(Why.INVALID, "an order needs a quantity")
        try:
            request = OrderRequest(
                market.id, side, type, quantity, price, stop_price, time_in_force, post_only, reduce_only
            )
        except InvalidOrder as error:
            raise RefusedError(Why.INVALID, str(error)) from error
        self._check_rules(market, request)
        now_ns = self.time_ns()
        order = WireOrder(
            id="" if test_only else self._make_order_id(self._next_number()),
            client_id=client_id,
            user=user,
            symbol=symbol,
            side=side,
            type=type,
            quantity=quantity,
            price=price,
            stop_price=stop_price,
            time_in_force=time_in_force,
            post_only=post_only,
            created_ns=now_ns,
            updated_ns=now_ns,
            cost=cost,
            extra=extra or {},
        )
        if test_only:
            return order
        self._note("place")
        events = self._submit(order, request, now_ns)
        if isinstance(events[0], OrderRejected):
            self._reject(order, events[0].reason, now_ns, later=reject_later)
            return order
        self._keep(order)
        self._pass_on(user, events)
        return order

    def cancel(self, user: User, order_id: str) -> WireOrder:
        """Cancel an order. Raises RefusedError where it is unknown or ended."""
        order = self.order(user, order_id)
        if not order.is_open:
            raise RefusedError(Why.NOT_OPEN, f"the order is {order.status.value}")
        self._note("cancel")
        self._pass_on(user, user.engine.cancel(order.engine_key, self.time_ns()))
        return order

    def amend(
        self, user: User, order_id: str, quantity: Decimal | None = None, price: Decimal | None = None
    ) -> WireOrder:
        """Change an open order's total quantity or prices under the same id. Raises RefusedError: nothing changed."""
        order = self.order(user, order_id)
        if not order.is_open:
            raise RefusedError(Why.NOT_OPEN, f"the order is {order.status.value}")
        if price is not None and order.price is None:
            raise RefusedError(Why.BAD_AMEND, "the order has no price")
        total, price = quantity or order.quantity, order.price if price is None else price
        if total <= order.filled:
            raise RefusedError(Why.BAD_AMEND, f"{order.filled} are executed already")
        stop = None if order.status is OrderStatus.TRIGGERED else order.stop_price
        kind = order.type if stop else _without_stop(order.type)
        market = self.market(order.symbol)
        asked = OrderRequest(market.id, order.side, kind, total, price, stop, order.time_in_force, order.post_only)
        self._check_rules(market, asked)
        request = msgspec.structs.replace(asked, quantity=total - order.filled)
        self._note("amend")
        self._replace(order, request, total, price)
        return order

    def order(self, user: User, order_id: str) -> WireOrder:
        """Give the user's order of that venue id. Raises RefusedError."""
        order = self._orders.get(order_id)
        if order is None or order.user is not user:
            raise RefusedError(Why.UNKNOWN_ORDER, f"unknown order {order_id}")
        return order

    def find(self, user: User, client_id: str) -> WireOrder:
        """Give the user's newest order of that client id. Raises RefusedError."""
        order = self._by_client.get((user.name, client_id))
        if order is not None:
            return order
        raise RefusedError(Why.UNKNOWN_ORDER, f"unknown client order id {client_id}")

    def rename(self, order: WireOrder, client_id: str) -> None:
        """Give an order another client id. Raises RefusedError where that is in use."""
        if client_id != order.client_id:
            self._check_client_id(order.user, client_id)
            self._by_client.pop((order.user.name, order.client_id), None)
            order.client_id = client_id
            self._by_client[order.user.name, client_id] = order

    def orders(self, user: User, symbol: str | None = None, *, is_open: bool | None = None) -> list[WireOrder]:
        """Give the user's orders, oldest first."""
        return [
            order
            for order in (self._open if is_open else self._orders).values()
            if order.user is user and symbol in (None, order.symbol) and is_open in (None, order.is_open)
        ]

    def fills(self, user: User, symbol: str | None = None) -> list[tuple[WireOrder, WireFill]]:
        """Give the user's executions with their orders, oldest first."""
        return [(order, fill) for order, fill in self._fills if order.user is user and symbol in (None, order.symbol)]

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _note(self, what: str) -> None:
        done = DONE.get()
        if done is not None:
            done.add(what)

    def _check_client_id(self, user: User, client_id: str) -> None:
        known = self._by_client.get((user.name, client_id))
        if known is not None and (known.is_open or self._for_ever):
            raise RefusedError(Why.DUPLICATE, f"client order id {client_id} is in use")

    def _check_rules(self, market: LiveMarket, request: OrderRequest) -> None:
        rules, listing, quantity = self._instruments[market.listing.symbol], market.listing, request.quantity
        if any(p is not None and rules.round_price(p) != p for p in (request.price, request.stop_price)):
            raise RefusedError(Why.TICK, f"prices move by {listing.tick:f}")
        if rules.round_quantity(quantity) != quantity:
            raise RefusedError(Why.LOT, f"quantities move by {listing.lot:f}")
        if quantity < listing.min_quantity:
            raise RefusedError(Why.TOO_SMALL, f"at least {listing.min_quantity:f}")
        if listing.max_quantity and quantity > listing.max_quantity:
            raise RefusedError(Why.TOO_LARGE, f"at most {listing.max_quantity:f}")
        if quantity * (request.price or request.stop_price or market.last) < listing.min_notional:
            raise RefusedError(Why.NOTIONAL, f"worth at least {listing.min_notional:f} {listing.quote}")

    def _affordable(self, market: LiveMarket, side: Side, cost: Decimal) -> Decimal:
        """Give how much can be had (or must be sold) for `cost` in the book as it is, in whole lots."""
        book, quantity = market.book(self.time_ns()), Decimal(0)
        for level in book.asks if side is Side.BUY else book.bids:
            part = min(level.quantity, cost / level.price)
            quantity, cost = quantity + part, cost - part * level.price
            if cost <= 0:
                break
        lots = (quantity / market.listing.lot).quantize(Decimal(1), ROUND_DOWN)
        if not lots:
            raise RefusedError(Why.NOTIONAL, "less than the smallest quantity")
        return lots * market.listing.lot

    def _submit(self, order: WireOrder, request: OrderRequest, now_ns: int) -> Sequence[OrderEvent]:
        key = order.engine_key = f"{order.id or 'x'}.{self._next_number()}"
        self._by_engine[key] = order
        sent = Order(key, "", order.user.name, request, created_ns=now_ns, updated_ns=now_ns)
        return order.user.engine.submit(sent, now_ns)

    def _reject(self, order: WireOrder, reason: str, now_ns: int, *, later: bool) -> None:
        del self._by_engine[order.engine_key]
        if not later:
            raise RefusedError(_why(reason), reason)
        order.status, order.reason = OrderStatus.REJECTED, reason
        self._keep(order)
        self._tell(OrderUpdate(Happened.REJECTED, order, now_ns, reason=reason))

    def _replace(self, order: WireOrder, request: OrderRequest, total: Decimal, price: Decimal | None) -> None:
        now_ns, engine, before = self.time_ns(), order.user.engine, order.engine_key
        earlier = msgspec.structs.replace(request, quantity=order.remaining, price=order.price, post_only=False)
        engine.cancel(before, now_ns)
        events = self._submit(order, request, now_ns)
        del self._by_engine[before]
        if isinstance(events[0], OrderRejected):
            refused = self._by_engine.pop(order.engine_key, None)
            assert refused is order
            self._pass_on(order.user, [e for e in self._submit(order, earlier, now_ns) if _is_news(e)])
            raise RefusedError(_why(events[0].reason), events[0].reason)
        order.quantity, order.price, order.updated_ns = total, price, now_ns
        self._tell(OrderUpdate(Happened.AMENDED, order, now_ns))
        self._tell_balances(order)
        self._pass_on(order.user, [event for event in events if _is_news(event)])

    def _keep(self, order: WireOrder) -> None:
        self._orders[order.id] = order
        if order.is_open:
            self._open[order.id] = order
        if order.client_id:
            self._by_client[order.user.name, order.client_id] = order
        if len(self._orders) > _KEPT:
            oldest = next((key for key, each in self._orders.items() if not each.is_open), None)
            if oldest is not None:
                self._forget(self._orders.pop(oldest))
        if len(self._fills) > 5 * _KEPT:
            del self._fills[:_KEPT]

    def _forget(self, order: WireOrder) -> None:
        self._by_engine.pop(order.engine_key, None)
        if self._by_client.get((order.user.name, order.client_id)) is order:
            del self._by_client[order.user.name, order.client_id]

    def _pass_on(self, user: User, events: Iterable[OrderEvent]) -> None:
        for event in events:
            order = self._by_engine.get(event.client_order_id)
            update = None if order is None else self._apply(order, event)
            if order is not None and not order.is_open:
                self._open.pop(order.id, None)
            if update is not None:
                self._tell(update)
                self._tell_balances(update.order)

    def _apply(self, order: WireOrder, event: OrderEvent) -> OrderUpdate | None:
        order.updated_ns = event.time_ns
        match event:
            case OrderAccepted():
                return OrderUpdate(Happened.NEW, order, event.time_ns)
            case OrderTriggered():
                order.status = OrderStatus.TRIGGERED
                return OrderUpdate(Happened.TRIGGERED, order, event.time_ns)
            case OrderFilled():
                return self._filled(order, event)
            case OrderCanceled() | OrderExpired():
                expired = isinstance(event, OrderExpired)
                order.status = OrderStatus.EXPIRED if expired else OrderStatus.CANCELED
                order.reason = event.reason
                what = Happened.EXPIRED if expired else Happened.CANCELED
                return OrderUpdate(what, order, event.time_ns, reason=event.reason)
        return None

    def _filled(self, order: WireOrder, event: OrderFilled) -> OrderUpdate:
        said = event.fill
        number = self._make_trade_id(self._next_number())
        fee, currency = said.fee, said.fee_currency
        if self._buyers_pay_in_base and order.side is Side.BUY:
            instrument = self._instruments[order.symbol]
            fee, currency = said.quantity * self._model.fee_rate(instrument, said.liquidity), instrument.base
            totals = order.user.engine._ledger._totals  # which has taken it in the quote currency
            totals[said.fee_currency] += said.fee
            totals[currency] -= fee
        fill = WireFill(number, said.price, said.quantity, fee, currency, said.liquidity, said.time_ns)
        order.fills.append(fill)
        self._fills.append((order, fill))
        order.status = OrderStatus.PARTIALLY_FILLED if order.remaining else OrderStatus.FILLED
        return OrderUpdate(Happened.FILL, order, event.time_ns, fill)

    def _tell(self, update: OrderUpdate) -> None:
        for listener in self.listeners:
            listener.on_order(update)
            if update.fill is not None:
                listener.on_fill(update.order, update.fill)

    def _tell_balances(self, order: WireOrder) -> None:
        listing = self.markets[order.symbol].listing
        for listener in self.listeners:
            listener.on_balance(order.user, {listing.base, listing.quote})


def _feed(engine: MatchingEngine, event: MarketFact) -> Sequence[OrderEvent]:
    match event:
        case Quote():
            return engine.on_quote(event)
        case Book():
            return engine.on_book(event)
        case Trade():
            return engine.on_trade(event)


def _is_news(event: OrderEvent) -> bool:
    """Whether an event says more than that an amended order works again."""
    return not isinstance(event, OrderAccepted)


def _without_stop(kind: OrderType) -> OrderType:
    return {OrderType.STOP: OrderType.MARKET, OrderType.STOP_LIMIT: OrderType.LIMIT}.get(kind, kind)


def _why(reason: str) -> Why:
    begins = {
        "insufficient": Why.FUNDS,
        "post-only": Why.WOULD_TAKE,
        "no market": Why.NO_MARKET,
        "reduce-only": Why.REDUCE_ONLY,
        "minimum notional": Why.NOTIONAL,
        "duplicate": Why.DUPLICATE,
    }
    return next((why for begin, why in begins.items() if reason.startswith(begin)), Why.INVALID)
