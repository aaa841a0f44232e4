"""What stands behind a running strategy: the worker process, or a back-test."""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.orders import OrderRequest


class Context(Protocol):
    """The strategy's way out. Answers come back through the Session's methods, never from within these calls."""

    @property
    def time_ns(self) -> int:
        """The time that the strategy lives in, UTC nanoseconds since 1970."""
        ...

    def submit(self, request_id: int, request: OrderRequest) -> None:
        """Place an order; `request_id` comes back with every update of it."""
        ...

    def cancel(self, client_order_id: str) -> None:
        """Cancel an order, by the engine's id."""
        ...

    def amend(self, client_order_id: str, quantity: Decimal, price: Decimal | None) -> None:
        """Give an order this total quantity and limit; None for one without a limit."""
        ...

    def request_history(self, request_id: int, instrument: InstrumentId, timeframe: str, count: int) -> None:
        """Ask for the last `count` closed bars; Session.on_history brings them."""
        ...

    def log(self, level: str, text: str) -> None:
        """Write a line to the strategy's log; `level` is one of DEBUG, INFO, WARNING, ERROR."""
        ...

    def metric(self, name: str, value: float) -> None:
        """Show a number; of one name only the newest counts."""
        ...
