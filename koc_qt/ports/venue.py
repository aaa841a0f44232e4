"""What the engine asks of a venue: market data, and the execution of orders.

Both speak in domain facts through a sink that the engine gives on connect; a sink never blocks and never raises.
Errors are VenueRejected (it said no), VenueUnavailable (certainly not sent) and VenueTimeout (not known).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextvars import ContextVar
from decimal import Decimal
from typing import Protocol, runtime_checkable

from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar, MarketEvent
from koc_qt.domain.orders import Order, OrderEvent, OrderReport
from koc_qt.domain.state import Balance, VenueState
from koc_qt.domain.venues import ConnectionReport, Quota, VenueOrder, VenuePosition, VenueTrade

MarketSink = Callable[[MarketEvent], None]
OrderSink = Callable[[OrderEvent], None]
StateSink = Callable[[VenueState, str], None]  # and the reason, a sentence; empty where all is well


class Departure(Protocol):
    """What an order's request waits for at the door: right before its first byte is written."""

    @property
    def has_left(self) -> bool:
        """Whether the request may be at the venue, or on its way."""
        ...

    async def leave(self) -> None:
        """Wait until the request may go, and count it as gone; once it has left, at once.

        Raises HeldBack, which is to reach whoever submits as it is: the request must not go. Await it on the engine's
        loop.
        """
        ...


# Set around a submit by whoever has to let its request go. Tasks inherit it: an adapter sets it to None around every
# request that is not the order's own.
DEPARTURE: ContextVar[Departure | None] = ContextVar("DEPARTURE", default=None)


async def depart() -> None:
    """Wait until the request that is about to be written may go. Raises HeldBack: it must not."""
    if (departure := DEPARTURE.get()) is not None:
        await departure.leave()


class MarketDataVenue(Protocol):
    """A source of market data. One object a venue; every method is called on the engine's loop."""

    @property
    def name(self) -> str:
        """The venue part of its instruments' ids, such as ``sim`` or ``binance``."""
        ...

    @property
    def breaker_state(self) -> str:
        """The circuit breaker's state: closed, open or half-open."""
        ...

    def time_ns(self) -> int:
        """The venue's own clock, UTC nanoseconds, as well as it is known."""
        ...

    async def connect(self, sink: MarketSink) -> None:
        """Make ready to be used. Raises VenueUnavailable."""
        ...

    async def close(self) -> None:
        """End every stream and connection. Safe to call twice."""
        ...

    async def instruments(self) -> Sequence[Instrument]:
        """All instruments with their rules. Raises VenueError."""
        ...

    async def subscribe(self, symbol: str) -> None:
        """Start streaming trades, quotes and book of `symbol` into the sink. Raises VenueRejected for an unknown one.

        Lost connections are mended by the adapter, which says so with StreamStatus facts.
        """
        ...

    async def unsubscribe(self, symbol: str) -> None:
        """Stop streaming `symbol`; unknown ones are ignored."""
        ...

    def fetch_bars(self, symbol: str, timeframe: str, since_ns: int, until_ns: int) -> AsyncIterator[Sequence[Bar]]:
        """Give the venue's closed bars with since <= open time < until, oldest first, a page at a time.

        Raises VenueRejected for a symbol or timeframe that the venue does not have.
        """
        ...

    @property
    def timeframes(self) -> Sequence[str]:
        """The timeframes that fetch_bars takes, shortest first."""
        ...


@runtime_checkable
class OpenCatalogue(MarketDataVenue, Protocol):
    """A source of market data that has more symbols than it lists."""

    async def find(self, symbol: str) -> Instrument:
        """Give the rules of any symbol that it has, from now on among its `instruments`. Raises VenueError."""
        ...


class TradingVenue(Protocol):
    """The execution side of one account. Order events reach the sink in the order in which the venue made them.

    What the venue did while the connection to it was lost is not told by itself: whoever hears CONNECTED again asks
    with `find_order` for each open order.
    """

    @property
    def account_id(self) -> str:
        """The account it trades for."""
        ...

    @property
    def venue(self) -> str:
        """The venue whose instruments it trades."""
        ...

    @property
    def held_s(self) -> float:
        """Seconds for which nothing is asked because the venue wanted to be left alone; 0 when it has not."""
        ...

    @property
    def quotas(self) -> Sequence[Quota]:
        """What the venue takes of orders and requests, and how much of that is used up now; empty without limits."""
        ...

    @property
    def holds_at_door(self) -> bool:
        """Whether `submit` lets nothing of an order reach the venue before its DEPARTURE has been awaited.

        Where it does not, an order's intent is durable before `submit` is called, which takes longer.
        """
        ...

    @property
    def late_s(self) -> float:
        """Seconds for which an order that was sent, and is not there, may still arrive; 0 where none is on its way."""
        ...

    def time_ns(self) -> int:
        """The venue's own clock, UTC nanoseconds, as well as it is known; its events are stamped with it."""
        ...

    async def connect(self, sink: OrderSink, on_state: StateSink | None = None) -> None:
        """Make ready to be used; `on_state` hears of connections that are lost and made again, never from inside.

        Raises VenueUnavailable, and VenueRejected where the keys are not accepted. What failed, or was closed, may be
        connected again.
        """
        ...

    async def close(self) -> None:
        """End connections; orders stay as they are. Safe to call twice."""
        ...

    async def submit(self, order: Order) -> None:
        """Send a new order, identified by its client order id; acceptance, fills and rejection come through the sink.

        Raises VenueUnavailable when it was certainly not sent (HeldBack where its departure kept it) and VenueTimeout
        when that is not known.
        """
        ...

    async def cancel(self, order: Order) -> None:
        """Ask for a cancel; the outcome comes through the sink as OrderCanceled or CancelRejected.

        Raises VenueError.
        """
        ...

    async def amend(self, order: Order, quantity: Decimal, price: Decimal | None) -> None:
        """Ask for another total quantity and limit price; the outcome comes through the sink as OrderAmended or
        AmendRejected.

        Raises VenueError; VenueRejected where the venue cannot.
        """
        ...

    async def find_order(self, order: Order) -> OrderReport | None:
        """Look one order up by its client order id; None when the venue has never seen it. Raises VenueError."""
        ...

    async def balances(self) -> Sequence[Balance]:
        """What is in the account. Raises VenueError."""
        ...

    async def positions(self) -> Sequence[VenuePosition]:
        """What the venue calls positions; empty where there are balances alone. Raises VenueError."""
        ...

    async def open_orders(self) -> Sequence[VenueOrder]:
        """Every order that works on the account, also those that are not ours. Raises VenueError."""
        ...

    async def trades(self, since_ns: int) -> Sequence[VenueTrade]:
        """The account's executions since then, oldest first, also those that are not ours. Raises VenueError."""
        ...

    async def check(self) -> ConnectionReport:
        """Try the account's keys: permissions, clock, latency, fees. Needs no `connect`. Raises nothing but bugs."""
        ...


class InstrumentDirectory(Protocol):
    """Where services look instruments up."""

    def instrument(self, instrument_id: InstrumentId) -> Instrument | None:
        """The instrument's rules, or None when no connected venue has it."""
        ...
