"""What a strategy asks in a back-test waits here until its callback has returned."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from decimal import Decimal

from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.domain.orders import OrderRequest
from koc_qt.sdk.channel import Amend, Cancel, RequestHistory, Submit
from koc_qt.sdk.session import Slot

Message = Submit | Cancel | Amend | RequestHistory


class ReplayContext:
    """Implements sdk.context.Context; `outbox` holds what was asked, in order."""

    def __init__(self, since_ns: int, bar_ns: int, write: Callable[[int, str, str], None]) -> None:
        self.bar: Bar | None = None  # the one that has closed now; None where it is the newest that was told
        self.slot: Slot | None = None
        self.moment_ns: int | None = None  # within a bar
        self._since_ns = since_ns
        self._bar_ns = bar_ns
        self.outbox: deque[Message] = deque()
        self._write = write

    @property
    def time_ns(self) -> int:
        """The close of the present bar, or a moment within it; before the first one, where the run begins."""
        if self.moment_ns is not None:
            return self.moment_ns
        bar = self.bar
        if bar is None and self.slot is not None and isinstance(self.slot.newest, Bar):
            bar = self.slot.newest
        return self._since_ns if bar is None else bar.open_time_ns + self._bar_ns

    def submit(self, request_id: int, request: OrderRequest) -> None:
        """Place an order."""
        self.outbox.append(Submit(request_id, request))

    def cancel(self, client_order_id: str) -> None:
        """Cancel an order."""
        self.outbox.append(Cancel(client_order_id))

    def amend(self, client_order_id: str, quantity: Decimal, price: Decimal | None) -> None:
        """Change an order."""
        self.outbox.append(Amend(client_order_id, quantity, price))

    def request_history(self, request_id: int, instrument: InstrumentId, timeframe: str, count: int) -> None:
        """Ask for bars."""
        self.outbox.append(RequestHistory(request_id, instrument, timeframe, count))

    def log(self, level: str, text: str) -> None:
        """Write a line, with the time of the run."""
        self._write(self.time_ns, level, text)

    def metric(self, name: str, value: float) -> None:
        """Metrics are for people who watch a strategy live."""
