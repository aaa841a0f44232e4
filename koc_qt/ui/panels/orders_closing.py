"""Closing positions: what may be closed by hand, what is on its way already, and the order that does it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from koc_qt.domain.errors import KocError
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Order, OrderRequest, OrderType
from koc_qt.domain.state import PositionSnapshot, StrategySnapshot, StrategyState
from koc_qt.link.messages import MANUAL, SubmitOrder
from koc_qt.link.replica import PositionKey, position_key
from koc_qt.ui.desk import Desk, Level
from koc_qt.ui.formats import quantity

SUBMIT_TIMEOUT_S = 30.0  # the engine may have to wait for the market's price, and for the venue
MOST_NAMES = 3  # of strategies in a question
_GOES_ON = (StrategyState.STARTING, StrategyState.RUNNING, StrategyState.BACKING_OFF)


@dataclass(frozen=True)
class Closing:
    """A position as it was when the person was asked, and the order that takes it to zero."""

    position: PositionSnapshot
    rules: Instrument | None = None

    @property
    def key(self) -> PositionKey:
        """Whose position it is."""
        return position_key(self.position)

    @property
    def request(self) -> OrderRequest:
        """A market order that can do no more than close."""
        side = Side.SELL if self.position.quantity > 0 else Side.BUY
        whole = _whole_lots(self.position, self.rules)
        return OrderRequest(self.position.instrument, side, OrderType.MARKET, whole, reduce_only=True)

    @property
    def words(self) -> str:
        """Say what will be sent."""
        request, position = self.request, self.position
        owner = "" if position.strategy_id == MANUAL else f" of {position.strategy_id}"
        return (
            f"{request.side.value.capitalize()} {quantity(request.quantity)} {request.instrument.symbol}{owner} "
            f"at the market on {position.account_id}"
        )


class Closer:
    """Sends closing orders, at most one at a time for each position."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._sending: set[PositionKey] = set()

    def never(self, position: PositionSnapshot) -> str:
        """Say why there is nothing to close; empty where there is."""
        symbol, rules = position.instrument.symbol, self._desk.replica.instruments.get(position.instrument)
        if not position.quantity:
            return f"{symbol} is flat: there is nothing to close"
        return "" if _whole_lots(position, rules) else f"What is left of {symbol} is less than can be traded"

    def closing(self, position: PositionSnapshot) -> Closing:
        """Give the order that closes a position."""
        return Closing(position, self._desk.replica.instruments.get(position.instrument))

    def warning(self, closings: Iterable[Closing]) -> str:
        """Say which of the strategies that hold them go on and may open them again; empty where none does."""
        strategies = self._desk.replica.strategies
        owners = {closing.position.strategy_id for closing in closings}
        names = [owner for owner in sorted(owners) if _goes_on(strategies.get(owner))]
        if len(names) <= 1:
            return f"{names[0]} goes on and may open it again; stop it first if you do not want that." if names else ""
        if len(names) > MOST_NAMES:
            names[MOST_NAMES - 1 :] = [f"{len(names) - MOST_NAMES + 1} more"]
        listed = f"{', '.join(names[:-1])} and {names[-1]}"
        return f"{listed} go on and may open theirs again; stop them first if you do not want that."

    def obstacle(self, position: PositionSnapshot) -> str:
        """Say why a position cannot be closed now; empty where it can."""
        if never := self.never(position):
            return never
        key = position_key(position)
        if key in self._sending or any(_closes(order, key) for order in self._desk.replica.open_orders.values()):
            return f"A close of {position.instrument.symbol} on {position.account_id} is on its way already"
        return ""

    def close(self, closing: Closing) -> None:
        """Send the order, unless things have changed since the person was asked."""
        position = self._desk.replica.positions.get(closing.key)
        symbol = closing.position.instrument.symbol
        if not self._desk.is_connected:
            self._desk.notify(f"{symbol} was not closed: there is no connection to the engine", Level.WARNING)
        elif position is None or position.quantity != closing.position.quantity:
            before, now = closing.position.quantity, position.quantity if position is not None else None
            text = f"{symbol} was not closed: it was {quantity(before)} when you were asked, and is {quantity(now)} now"
            self._desk.notify(text, Level.WARNING)
        elif obstacle := self.obstacle(position):
            self._desk.notify(obstacle, Level.WARNING)
        else:
            self._sending.add(closing.key)
            self._desk.start(self._send(closing), failed=lambda error: self._failed(symbol, error))

    def _failed(self, symbol: str, error: KocError) -> None:
        self._desk.notify(f"Closing {symbol}: {error}", Level.ERROR)  # whether anything happened, the error says

    async def _send(self, closing: Closing) -> None:
        try:
            position = closing.position
            command = SubmitOrder(position.account_id, closing.request, position.strategy_id)
            await self._desk.request(command, timeout_s=SUBMIT_TIMEOUT_S)
        finally:
            self._sending.discard(closing.key)


def _whole_lots(position: PositionSnapshot, rules: Instrument | None) -> Decimal:
    """Give what of a position can be traded: a fee that was taken off what was bought leaves a part of a lot."""
    held = abs(position.quantity)
    return held if rules is None else rules.round_quantity(held)


def _goes_on(strategy: StrategySnapshot | None) -> bool:
    return strategy is not None and strategy.state in _GOES_ON


def _closes(order: Order, key: PositionKey) -> bool:
    """Say whether an open order closes a position."""
    request = order.request
    return (
        request.reduce_only
        and request.type is OrderType.MARKET
        and (order.strategy_id, order.account_id, request.instrument) == key
    )
