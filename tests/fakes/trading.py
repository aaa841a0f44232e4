"""A trading venue that does what a test says, and instruments, orders and fills to use with it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Quote, Side
from koc_qt.domain.orders import (
    Fill,
    Liquidity,
    Order,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderFilled,
    OrderReport,
    OrderRequest,
    OrderStatus,
    OrderType,
)
from koc_qt.domain.state import Balance
from koc_qt.domain.venues import ConnectionReport, Quota, VenueOrder, VenuePosition, VenueTrade
from koc_qt.ports.venue import OrderSink, StateSink, depart

BTC = InstrumentId("sim", "BTC/USDT")
BTC_RULES = Instrument(
    BTC,
    "BTC",
    "USDT",
    tick_size=Decimal("0.01"),
    lot_size=Decimal("0.0001"),
    min_notional=Decimal(5),
    maker_fee=Decimal("0.0002"),
    taker_fee=Decimal("0.0005"),
)
ETH = InstrumentId("sim", "ETH/USDT")
ETH_RULES = Instrument(ETH, "ETH", "USDT", tick_size=Decimal("0.01"), lot_size=Decimal("0.001"))
NOW_NS = 1_700_000_000_000_000_000


def market_buy(quantity: str = "0.1", instrument: InstrumentId = BTC) -> OrderRequest:
    """Ask for a market buy."""
    return OrderRequest(instrument, Side.BUY, OrderType.MARKET, Decimal(quantity))


def limit_buy(quantity: str = "0.1", price: str = "99", instrument: InstrumentId = BTC) -> OrderRequest:
    """Ask for a limit buy."""
    return OrderRequest(instrument, Side.BUY, OrderType.LIMIT, Decimal(quantity), Decimal(price))


def quote(bid: str = "99.99", ask: str = "100.01", instrument: InstrumentId = BTC, time_ns: int = NOW_NS) -> Quote:
    """Give a quote of one unit on each side."""
    return Quote(instrument, time_ns, Decimal(bid), Decimal(1), Decimal(ask), Decimal(1))


def fill_of(
    order: Order,
    quantity: str | None = None,
    price: str = "100",
    fill_id: str = "",
    fee: str = "0",
    time_ns: int = NOW_NS,
) -> Fill:
    """Fill an order, whole unless told otherwise."""
    size = Decimal(quantity) if quantity is not None else order.remaining
    return Fill(
        fill_id=fill_id or f"{order.client_order_id}-{len(order.fill_ids) + 1}",
        client_order_id=order.client_order_id,
        strategy_id=order.strategy_id,
        account_id=order.account_id,
        instrument=order.request.instrument,
        side=order.request.side,
        price=Decimal(price),
        quantity=size,
        fee=Decimal(fee),
        fee_currency="USDT",
        liquidity=Liquidity.TAKER,
        time_ns=time_ns,
    )


class FakeTradingVenue:
    """Implements ports/venue.py TradingVenue.

    It accepts what is submitted, fills market orders at once at 100, and cancels and changes what it is asked to.
    `refuse_submit`, `refuse_cancel` and `refuse_amend` are raised instead; `lose_answer` takes an order or a change and
    then raises, as a time-out does; `hold` keeps them waiting until it is set.
    """

    def __init__(self, account_id: str = "sim") -> None:
        self.account_id = account_id
        self.venue = BTC.venue
        self.submitted: list[Order] = []
        self.canceled: list[str] = []
        self.looked_up: list[str] = []
        self.reports: dict[str, OrderReport] = {}
        self.refuse_submit: Exception | None = None
        self.refuse_cancel: Exception | None = None
        self.amended: list[tuple[str, Decimal, Decimal | None]] = []
        self.refuse_amend: Exception | None = None
        self.refuse_lookup: list[Exception] = []
        self.lose_answer: Exception | None = None
        self.hold: asyncio.Event | None = None
        self.closed = False
        self.money = [Balance("USDT", Decimal(100_000))]
        self.holdings: list[VenuePosition] = []
        self.listed: list[VenueOrder] = []
        self.found = ConnectionReport(can_read=True, can_trade=True)
        self.held_s = self.late_s = 0.0
        self.holds_at_door = False
        self.quotas: Sequence[Quota] = ()
        self.on_state: StateSink | None = None
        self._sink: OrderSink | None = None

    def time_ns(self) -> int:
        """Give the time at which everything happens here."""
        return NOW_NS

    async def connect(self, sink: OrderSink, on_state: StateSink | None = None) -> None:
        """Remember where events go."""
        self._sink = sink
        self.on_state = on_state

    async def close(self) -> None:
        """Note that it was closed."""
        self.closed = True

    async def submit(self, order: Order) -> None:
        """Take an order, as told."""
        if self.hold is not None:
            await self.hold.wait()
        if self.refuse_submit is not None:
            raise self.refuse_submit
        await depart()
        self.submitted.append(order)
        key = order.client_order_id
        market = order.request.type is OrderType.MARKET
        fills = (fill_of(order),) if market else ()
        status = OrderStatus.FILLED if market else OrderStatus.ACCEPTED
        self.reports[key] = OrderReport(key, f"v-{key}", status, fills, NOW_NS)
        if self.lose_answer is not None:
            raise self.lose_answer
        self.say(OrderAccepted(key, NOW_NS, f"v-{key}"))
        for fill in fills:
            self.say(OrderFilled(key, NOW_NS, fill))

    async def cancel(self, order: Order) -> None:
        """Cancel an order, as told."""
        if self.refuse_cancel is not None:
            raise self.refuse_cancel
        self.canceled.append(order.client_order_id)
        self.say(OrderCanceled(order.client_order_id, NOW_NS))

    async def find_order(self, order: Order) -> OrderReport | None:
        """Say what became of an order."""
        self.looked_up.append(order.client_order_id)
        if self.refuse_lookup:
            raise self.refuse_lookup.pop(0)
        return self.reports.get(order.client_order_id)

    async def balances(self) -> Sequence[Balance]:
        """Give what is in the account."""
        return list(self.money)

    async def amend(self, order: Order, quantity: Decimal, price: Decimal | None) -> None:
        """Change an order, as told; what was found of it before is changed as well."""
        key = order.client_order_id
        self.amended.append((key, quantity, price))
        if self.hold is not None:
            await self.hold.wait()
        if self.refuse_amend is not None:
            raise self.refuse_amend
        if key in self.reports:
            self.reports[key] = msgspec.structs.replace(self.reports[key], quantity=quantity, price=price)
        if self.lose_answer is not None:
            raise self.lose_answer
        self.say(OrderAmended(key, NOW_NS, quantity, price))

    async def positions(self) -> Sequence[VenuePosition]:
        """Give what the venue calls positions."""
        return list(self.holdings)

    async def open_orders(self) -> Sequence[VenueOrder]:
        """Give every order that works on the account."""
        return list(self.listed)

    async def trades(self, since_ns: int) -> Sequence[VenueTrade]:
        """Give nothing: fills are told by themselves here."""
        return ()

    async def check(self) -> ConnectionReport:
        """Give what a test of the keys is to find."""
        return self.found

    def say(self, event: object) -> None:
        """Send an event to the engine."""
        assert self._sink is not None
        self._sink(event)  # type: ignore[arg-type]
