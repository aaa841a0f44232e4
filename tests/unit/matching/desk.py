"""A matching engine on one or two instruments, with short ways to feed it and to read its events."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar, Book, BookLevel, Quote, Side, Trade
from koc_qt.domain.matching import FillModel, MatchingEngine
from koc_qt.domain.order_state import apply
from koc_qt.domain.orders import (
    AmendRejected,
    CancelRejected,
    Order,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderRequest,
    OrderSubmitted,
    OrderTriggered,
    OrderType,
    TimeInForce,
)
from koc_qt.domain.state import Balance

BTC = InstrumentId("sim", "BTC/USDT")
ETH = InstrumentId("sim", "ETH/USDT")
BUY, SELL = Side.BUY, Side.SELL
IOC, FOK = TimeInForce.IOC, TimeInForce.FOK
MARKET, LIMIT, STOP, STOP_LIMIT = OrderType.MARKET, OrderType.LIMIT, OrderType.STOP, OrderType.STOP_LIMIT
ACCOUNT = "paper-1"


def D(value: object) -> Decimal:  # noqa: N802 - as short as a literal
    return Decimal(str(value))


def instrument(instrument_id: InstrumentId = BTC, **changes: Any) -> Instrument:
    rules: dict[str, Any] = {
        "tick_size": D("0.01"),
        "lot_size": D("0.001"),
        "min_quantity": D("0.001"),
        "max_quantity": D(1000),
        "min_notional": D(1),
        "maker_fee": D("0.001"),
        "taker_fee": D("0.002"),
    }
    base, _, quote = instrument_id.symbol.partition("/")
    return Instrument(instrument_id, base, quote, **{**rules, **changes})


def order(
    key: str,
    side: Side,
    quantity: object,
    limit: object = None,
    *,
    stop: object = None,
    tif: TimeInForce = TimeInForce.GTC,
    post_only: bool = False,
    reduce_only: bool = False,
    symbol: InstrumentId = BTC,
    account: str = ACCOUNT,
    time_ns: int = 0,
) -> Order:
    kind = {(False, False): MARKET, (True, False): LIMIT, (False, True): STOP, (True, True): STOP_LIMIT}
    request = OrderRequest(
        symbol,
        side,
        kind[limit is not None, stop is not None],
        D(quantity),
        None if limit is None else D(limit),
        None if stop is None else D(stop),
        tif,
        post_only,
        reduce_only,
    )
    return Order(key, "strategy-1", account, request, created_ns=time_ns, updated_ns=time_ns)


def quote(
    bid: object, bid_size: object, ask: object, ask_size: object, time_ns: int = 0, of: InstrumentId = BTC
) -> Quote:
    return Quote(of, time_ns, D(bid), D(bid_size), D(ask), D(ask_size))


def book(bids: Iterable[tuple[Any, Any]], asks: Iterable[tuple[Any, Any]], time_ns: int = 0) -> Book:
    def side(levels: Iterable[tuple[Any, Any]]) -> tuple[BookLevel, ...]:
        return tuple(BookLevel(D(price), D(size)) for price, size in levels)

    return Book(BTC, time_ns, side(bids), side(asks))


def trade(price: object, quantity: object, side: Side = SELL, time_ns: int = 0, of: InstrumentId = BTC) -> Trade:
    return Trade(of, time_ns, D(price), D(quantity), side, "t")


def bar(o: float, h: float, low: float, c: float, volume: float = 1000.0, time_ns: int = 0) -> Bar:
    return Bar(BTC, "1m", time_ns, o, h, low, c, volume)


def said(events: Sequence[OrderEvent]) -> list[str]:
    """Write events as short lines: what happened to which order, at what price."""
    lines = []
    for event in events:
        key = event.client_order_id
        match event:
            case OrderFilled(fill=fill):
                lines.append(f"{key} {fill.liquidity} {fill.quantity.normalize():f}@{fill.price.normalize():f}")
            case OrderRejected(reason=reason) | CancelRejected(reason=reason):
                lines.append(f"{key} {'no-cancel' if isinstance(event, CancelRejected) else 'rejected'}: {reason}")
            case OrderAmended(quantity=quantity, price=price):
                lines.append(f"{key} amended: {quantity}" + ("" if price is None else f"@{price}"))
            case AmendRejected(reason=reason):
                lines.append(f"{key} no-amend: {reason}")
            case OrderAccepted():
                lines.append(f"{key} accepted")
            case OrderTriggered():
                lines.append(f"{key} triggered")
            case OrderCanceled(reason=reason):
                lines.append(f"{key} canceled: {reason}")
            case OrderExpired(reason=reason):
                lines.append(f"{key} expired: {reason}")
    return lines


class Desk:
    """An engine whose orders go through the real state machine, so that no event may contradict another."""

    def __init__(
        self,
        *,
        usdt: object = 1_000_000,
        btc: object = 1_000,
        allow_short: bool = False,
        instruments: Sequence[Instrument] | None = None,
        rng: random.Random | None = None,
        **model: Any,
    ) -> None:
        self.engine = MatchingEngine(
            instruments or [instrument(BTC), instrument(ETH)],
            [Balance("USDT", D(usdt)), Balance("BTC", D(btc))],
            FillModel(**model),
            ACCOUNT,
            rng or random.Random(1),
            allow_short=allow_short,
        )
        self.orders: dict[str, Order] = {}
        self.events: list[OrderEvent] = []

    def send(self, sent: Order, now_ns: int = 0) -> list[str]:
        self.orders.setdefault(sent.client_order_id, apply(sent, OrderSubmitted(sent.client_order_id, now_ns)))
        return self.note(self.engine.submit(sent, now_ns))

    def cancel(self, key: str, now_ns: int = 0) -> list[str]:
        return self.note(self.engine.cancel(key, now_ns))

    def amend(self, key: str, quantity: object, limit: object = None, now_ns: int = 0) -> list[str]:
        return self.note(self.engine.amend(key, D(quantity), None if limit is None else D(limit), now_ns))

    def feed(self, event: Quote | Book | Trade | Bar) -> list[str]:
        engine = self.engine
        handler: Any = {
            Quote: engine.on_quote,
            Book: engine.on_book,
            Trade: engine.on_trade,
            Bar: engine.on_bar,
        }[type(event)]
        return self.note(handler(event))

    def note(self, events: Sequence[OrderEvent]) -> list[str]:
        for event in events:
            self.events.append(event)
            if not (isinstance(event, OrderRejected) and event.reason.startswith("duplicate")):
                self.orders[event.client_order_id] = apply(self.orders[event.client_order_id], event)
        return said(events)

    def total(self, currency: str) -> Decimal:
        return self._balance(currency).total

    def locked(self, currency: str) -> Decimal:
        return self._balance(currency).locked

    def _balance(self, currency: str) -> Balance:
        return next(
            (balance for balance in self.engine.balances if balance.currency == currency), Balance(currency, D(0))
        )
