"""What the engine knows, in memory: written by the service that owns each part, read by all.

Everything durable in here can be built again from the journal; the rest from the market.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from decimal import Decimal

from koc_qt.domain.accounts import AccountLimits
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar, Book, Quote, StreamStatus, Trade
from koc_qt.domain.orders import Fill, Order
from koc_qt.domain.positions import Position
from koc_qt.domain.state import AccountSnapshot, EngineSnapshot, StrategySnapshot, VenueSnapshot

CLOSED_ORDERS_KEPT = 20_000  # newest closed orders in memory; the journal has them all
FILLS_KEPT = 20_000

PositionKey = tuple[str, str, InstrumentId]  # strategy, account, instrument


class Store:
    """The state of the engine."""

    def __init__(self) -> None:
        self.instruments: dict[InstrumentId, Instrument] = {}
        self.venues: dict[str, VenueSnapshot] = {}
        self.accounts: dict[str, AccountSnapshot] = {}
        self.limits: dict[str, AccountLimits] = {}  # what venues let accounts do
        self.strategies: dict[str, StrategySnapshot] = {}
        self.engine: EngineSnapshot | None = None
        self.quotes: dict[InstrumentId, Quote] = {}
        self.books: dict[InstrumentId, Book] = {}
        self.trades: dict[InstrumentId, Trade] = {}
        self.streams: dict[InstrumentId, StreamStatus] = {}  # of instruments that somebody follows
        self.bars: dict[tuple[InstrumentId, str], Bar] = {}
        self.fills: deque[Fill] = deque(maxlen=FILLS_KEPT)
        self.positions: dict[PositionKey, Position] = {}
        self.notices: list[str] = []  # what the person has to be told, also who comes later
        self.order_counts: dict[str, int] = {}
        self._open: dict[str, Order] = {}
        self._closed: dict[str, Order] = {}

    def instrument(self, instrument_id: InstrumentId) -> Instrument | None:
        """The rules of an instrument, or None when no connected venue has it."""
        return self.instruments.get(instrument_id)

    def put_order(self, order: Order) -> None:
        """Remember an order's newest state."""
        key = order.client_order_id
        if key not in self._open and key not in self._closed:
            self.order_counts[order.strategy_id] = self.order_counts.get(order.strategy_id, 0) + 1
        if order.is_open:
            self._closed.pop(key, None)
            self._open[key] = order
            return
        self._open.pop(key, None)
        self._closed[key] = order
        while len(self._closed) > CLOSED_ORDERS_KEPT:
            del self._closed[next(iter(self._closed))]

    def order(self, client_order_id: str) -> Order | None:
        """An order by its client order id."""
        return self._open.get(client_order_id) or self._closed.get(client_order_id)

    def open_orders(self, strategy_id: str | None = None) -> list[Order]:
        """Orders that may still trade, of one strategy or all."""
        if strategy_id is None:
            return list(self._open.values())
        return [order for order in self._open.values() if order.strategy_id == strategy_id]

    def recent_orders(self, closed: int) -> Iterator[Order]:
        """The newest `closed` closed orders, oldest first, then all open ones."""
        ended = list(self._closed.values())
        yield from ended[max(0, len(ended) - closed) :]
        yield from self._open.values()

    def position(self, strategy_id: str, account_id: str, instrument: Instrument) -> Position:
        """The position of a strategy, made when it is not there yet."""
        key = (strategy_id, account_id, instrument.id)
        position = self.positions.get(key)
        if position is None:
            position = self.positions[key] = Position(strategy_id, account_id, instrument)
        return position

    def positions_of(self, strategy_id: str) -> list[Position]:
        """All positions that a strategy has or had."""
        return [position for (owner, _, _), position in self.positions.items() if owner == strategy_id]

    def mark(self, instrument_id: InstrumentId) -> Decimal | None:
        """The price at which a holding is valued: the middle of the quote, else the last trade, else unknown."""
        quote = self.quotes.get(instrument_id)
        if quote is not None:
            return quote.mid
        trade = self.trades.get(instrument_id)
        return trade.price if trade else None

    def forget_market(self, instrument_id: InstrumentId) -> None:
        """Drop the prices of an instrument that is streamed no more: an old price is worse than none."""
        self.quotes.pop(instrument_id, None)
        self.books.pop(instrument_id, None)
        self.trades.pop(instrument_id, None)

    def pnl(self, positions: Iterable[Position]) -> tuple[Decimal, Decimal, Decimal]:
        """Realised and unrealised profit before fees, and the fees, of some positions."""
        realised = unrealised = fees = Decimal(0)
        for position in positions:
            realised += position.realised_pnl
            unrealised += position.unrealised_pnl(self.mark(position.instrument.id))
            fees += position.fees
        return realised, unrealised, fees
