"""Which line of a strategy's file asked for what, and when: so that a decision can be named."""

from __future__ import annotations

import sys
from decimal import Decimal
from types import FrameType

from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.orders import OrderRequest
from koc_qt.domain.trust import DECISIONS_KEPT, Placement
from koc_qt.sdk.context import Context
from koc_qt.sdk.strategy import Strategy


class Placements:
    """What a strategy asked for, the first DECISIONS_KEPT of it."""

    def __init__(self) -> None:
        self.kept: list[Placement] = []

    def watch(self, strategy: Strategy, filename: str) -> None:
        """Note from now on what a strategy that has a session asks for."""
        session = strategy._session
        session.context = _Watched(session.context, self, filename)

    def note(self, time_ns: int, text: str, filename: str) -> None:
        """Keep a decision, with the innermost line of the file that led to it."""
        if len(self.kept) < DECISIONS_KEPT:
            self.kept.append(Placement(time_ns, _line_in(filename), text))


class _Watched:
    """Implements sdk.context.Context: notes what changes orders, and passes everything on."""

    def __init__(self, context: Context, placements: Placements, filename: str) -> None:
        self._context = context
        self._note = placements.note
        self._filename = filename

    @property
    def time_ns(self) -> int:
        return self._context.time_ns

    def submit(self, request_id: int, request: OrderRequest) -> None:
        self._note(self.time_ns, _words(request), self._filename)
        self._context.submit(request_id, request)

    def cancel(self, client_order_id: str) -> None:
        self._note(self.time_ns, f"cancel {client_order_id}", self._filename)
        self._context.cancel(client_order_id)

    def amend(self, client_order_id: str, quantity: Decimal, price: Decimal | None) -> None:
        limit = "" if price is None else f" at {price:f}"
        self._note(self.time_ns, f"change {client_order_id} to {quantity:f}{limit}", self._filename)
        self._context.amend(client_order_id, quantity, price)

    def request_history(self, request_id: int, instrument: InstrumentId, timeframe: str, count: int) -> None:
        self._context.request_history(request_id, instrument, timeframe, count)

    def log(self, level: str, text: str) -> None:
        self._context.log(level, text)

    def metric(self, name: str, value: float) -> None:
        self._context.metric(name, value)


def _words(request: OrderRequest) -> str:
    """Say what an order asks for."""
    limit = "" if request.price is None else f" at {request.price:f}"
    stop = "" if request.stop_price is None else f" from {request.stop_price:f}"
    only = ", to reduce" if request.reduce_only else ""
    return f"{request.side} {request.quantity:f} {request.instrument.symbol}{limit}{stop}{only}"


def _line_in(filename: str) -> int | None:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename == filename:
            return frame.f_lineno
        frame = frame.f_back
    return None
