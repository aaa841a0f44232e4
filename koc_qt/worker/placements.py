"""Which line of a strategy's file asked for what, and when: so that a decision can be named.

What a strategy decides by its signals is in their columns, whether or not orders come of it: those are noted, with the
line at which signals() begins.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from decimal import Decimal
from types import FrameType

from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.orders import OrderRequest
from koc_qt.domain.timeframes import duration_ns
from koc_qt.domain.trust import DECISIONS_KEPT, Placement
from koc_qt.sdk.context import Context
from koc_qt.sdk.signals import Bars, Signals
from koc_qt.sdk.strategy import Strategy

_COLUMNS = {"entries": "enter", "exits": "leave", "short_entries": "enter short", "short_exits": "leave short"}


class Placements:
    """What a strategy asked for, the first DECISIONS_KEPT of it."""

    def __init__(self) -> None:
        self.kept: list[Placement] = []

    def watch(self, strategy: Strategy, filename: str, since_ns: int) -> None:
        """Note what a strategy that has a session decides from now on, on bars that open at `since_ns` or later."""
        session = strategy._session
        if session.signal_trader is None:
            session.context = _Watched(session.context, self, filename)
            return
        signals = strategy.signals

        def watched(bars: Bars) -> Signals:
            found = signals(bars)
            self._note_signals(bars, found, _first_line(signals, filename), since_ns)
            return found

        strategy.signals = watched  # type: ignore[method-assign]

    def note(self, time_ns: int, text: str, filename: str) -> None:
        """Keep a decision, with the innermost line of the file that led to it."""
        if len(self.kept) < DECISIONS_KEPT:
            self.kept.append(Placement(time_ns, _line_in(filename), text))

    def _note_signals(self, bars: Bars, signals: object, line: int | None, since_ns: int) -> None:
        if not isinstance(signals, Signals) or len(signals) != len(bars):
            return  # whoever asked for them says what is wrong with them
        bar_ns = duration_ns(bars.timeframe)
        columns = {name: getattr(signals, name) for name in _COLUMNS}
        decided = sum(columns.values()).nonzero()[0]
        for row in decided[bars.time_ns[decided] >= since_ns][: DECISIONS_KEPT - len(self.kept)].tolist():
            sides = [words for name, words in _COLUMNS.items() if columns[name][row]]
            size = f" {float(signals.sizes[row])!r}" if any("enter" in words for words in sides) else ""
            text = f"{' and '.join(sides)}{size} {bars.instrument.symbol}"
            self.kept.append(Placement(int(bars.time_ns[row]) + bar_ns, line, text))
        self.kept.sort(key=lambda each: each.time_ns)  # of several instruments


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


def _first_line(signals: Callable[..., object], filename: str) -> int | None:
    code = getattr(signals, "__code__", None)
    return code.co_firstlineno if code is not None and code.co_filename == filename else None


def _line_in(filename: str) -> int | None:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename == filename:
            return frame.f_lineno
        frame = frame.f_back
    return None
