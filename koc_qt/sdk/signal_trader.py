"""Does what signals() says, bar by bar: the on_bar of a strategy that has none of its own."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING

from koc_qt.domain.errors import InvalidOrder
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar, Side
from koc_qt.domain.orders import OrderStatus
from koc_qt.sdk.signals import Bars, Signals, checked

if TYPE_CHECKING:
    from koc_qt.sdk.orders import OrderHandle
    from koc_qt.sdk.session import Session
    from koc_qt.sdk.strategy import Strategy

BARS_SEEN = 5_000  # the newest, over which signals are computed where the future is not known
_ENTRY, _EXIT, _SHORT_ENTRY, _SHORT_EXIT = 1, 2, 4, 8


class SignalTrader:
    """Acts at each bar's close on its signals, by market orders.

    Live, signals are computed at every close, over the newest BARS_SEEN bars. Where all bars are known ahead, `know`
    computes them once. An exit that comes while the entry still works cancels the rest of that and closes what is held.
    """

    def __init__(self, strategy: Strategy) -> None:
        import numpy as np  # noqa: F401 (what takes long to load shall not be loaded at the first close)

        self._strategy = strategy
        self._known: dict[InstrumentId, _Known] = {}
        self._leaving: set[InstrumentId] = set()
        self._floors: dict[InstrumentId, tuple[Decimal, float]] = {}  # by holding

    def know(self, bars: Bars) -> Signals:
        """Compute the signals of all bars of an instrument. Raises StrategyError, and what signals() raises."""
        signals = checked(self._strategy.signals(bars), bars)
        self._known[bars.instrument] = _Known(bars, signals)
        return signals

    def on_bar(self, bar: Bar) -> None:
        """Act on the bar's signals."""
        strategy, key = self._strategy, bar.instrument
        session = strategy._session
        if session.warming_up:
            return
        known = self._known.get(key)
        row = None if known is None else known.row_of(bar.open_time_ns)
        if known is None or row is None:
            bars = Bars.of(strategy.history(BARS_SEEN, instrument=key))
            known, row = _Known(bars, checked(strategy.signals(bars), bars)), len(bars) - 1
        code = known.codes[row]
        if (code and self._matters(session, bar, code)) or key in self._leaving:
            self._act(bar, code, known.sizes[row])

    def on_order(self, order: OrderHandle) -> None:
        """Say why an order was rejected."""
        if order.status is OrderStatus.REJECTED:
            self._strategy.log.warning(f"rejected: {order.reason}")

    def _matters(self, session: Session, bar: Bar, code: int) -> bool:
        """Whether anything may have to be done: most signals say again what is so already."""
        key = bar.instrument
        held = session.holding(key).quantity
        if not held:
            wanted = _ENTRY | _SHORT_ENTRY
        else:
            floor = self._floors.get(key)
            if floor is None or floor[0] is not held:
                floor = self._floors[key] = held, self._floor(key, held)
            if bar.close <= floor[1]:
                return True
            wanted = _EXIT if held > 0 else _SHORT_EXIT
        return bool(code & wanted or session.open_orders())

    def _floor(self, key: InstrumentId, held: Decimal) -> float:
        """Give a price above which a holding is certainly worth selling."""
        rules, quantity = self._strategy._session.resolve(key), abs(held)
        if quantity < max(rules.lot_size, rules.min_quantity):
            return math.inf
        return float(rules.min_notional / quantity) * 1.001

    def _act(self, bar: Bar, code: int, size: float) -> None:
        strategy, key = self._strategy, bar.instrument
        working = [order for order in strategy.open_orders if order.instrument == key]
        if working:
            exits = {Side.BUY: _EXIT, Side.SELL: _SHORT_EXIT}
            for order in working:
                if not order.request.reduce_only and code & exits[order.side]:
                    self._leaving.add(key)
                    strategy.cancel(order)
            return
        is_leaving = key in self._leaving
        self._leaving.discard(key)
        held = strategy.holding(key)
        if held and abs(held) >= strategy.smallest_quantity(bar.close, instrument=key):
            if is_leaving or code & (_EXIT if held > 0 else _SHORT_EXIT):
                strategy.close_position(key)
        elif code & (_ENTRY | _SHORT_ENTRY):
            enter = strategy.buy if code & _ENTRY else strategy.sell
            try:
                enter(size, instrument=key)
            except InvalidOrder as error:  # less than one lot
                strategy.log.warning(f"rejected: {error}")


class _Known:
    """Signals by row, as Python reads them fastest."""

    def __init__(self, bars: Bars, signals: Signals) -> None:
        import numpy as np

        columns = (signals.entries, signals.exits, signals.short_entries, signals.short_exits)
        bits = (_ENTRY, _EXIT, _SHORT_ENTRY, _SHORT_EXIT)
        codes = sum(column * np.uint8(bit) for column, bit in zip(columns, bits, strict=True))
        self.codes = np.asarray(codes, np.uint8).data
        self.sizes = signals.sizes.data
        self._times = bars.time_ns.data
        self._sorted = bars.time_ns
        self._next = 0

    def row_of(self, time_ns: int) -> int | None:
        """Find the bar that opened then; the one after that which was asked for last is found at once."""
        row = self._next
        if row == len(self._times) or self._times[row] != time_ns:
            row = int(self._sorted.searchsorted(time_ns))
            if row == len(self._times) or self._times[row] != time_ns:
                return None
        self._next = row + 1
        return row
