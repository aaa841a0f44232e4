"""Brings the tables of the orders panel up to the replica: a few records at once, thousands some a turn of the loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from PySide6.QtCore import QObject, Signal

from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.orders import Fill
from koc_qt.link.replica import Replica
from koc_qt.ui.desk import Frame
from koc_qt.ui.panels.orders_records import Record, instrument_of
from koc_qt.ui.slices import Slices
from koc_qt.ui.tables.model import RecordModel

AT_ONCE = 200  # orders and fills: some millisecond
SPARE = 500  # records that a table has more than the replica, before it lets go of what that has let go of
_SLICE = 50


class Intake(QObject):
    """Feeds four tables. `changed` says that a frame has changed some; what waits is shown as it is by then."""

    changed = Signal()

    def __init__(
        self,
        replica: Replica,
        open_orders: RecordModel[Any],
        positions: RecordModel[Any],
        fills: RecordModel[Any],
        orders: RecordModel[Any],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._replica = replica
        self._open, self._positions, self._fills, self._orders = open_orders, positions, fills, orders
        self._waiting_orders: dict[str, None] = {}
        self._waiting_fills: deque[Fill] = deque()
        self._new_rules: set[InstrumentId] = set()
        self._slices = Slices(self)

    @property
    def is_busy(self) -> bool:
        """Whether something is known that the tables have not."""
        return self._slices.is_busy

    def take_all(self) -> None:
        """Have exactly what the replica has."""
        self._slices.cancel()
        self._waiting_orders.clear()
        self._waiting_fills.clear()
        self._new_rules.clear()
        for model, records in self._tables():
            model.reset(records.items())

    def take(self, frame: Frame) -> None:
        """Take over what a frame brings."""
        for key in frame.positions:
            _put(self._positions, key, self._replica.positions.get(key))
        self._waiting_orders.update(dict.fromkeys(frame.orders))
        self._waiting_fills.extend(frame.fills)
        self._new_rules |= frame.instruments
        waiting = len(self._waiting_orders) + len(self._waiting_fills)
        if (waiting or self._new_rules) and not self.is_busy:
            self._slices.start(self._take_waiting(), at_once=waiting <= AT_ONCE and not self._new_rules)
        elif frame.positions:
            self.changed.emit()

    def _take_waiting(self) -> Iterator[None]:
        replica = self._replica
        while self._waiting_orders or self._waiting_fills or self._new_rules:
            for order_id in list(islice(self._waiting_orders, _SLICE)):
                del self._waiting_orders[order_id]
                order = replica.orders.get(order_id)
                _put(self._orders, order_id, order)
                _put(self._open, order_id, order if order is not None and order.is_open else None)
            for _ in range(min(_SLICE, len(self._waiting_fills))):
                fill = self._waiting_fills.popleft()
                self._fills.put((fill.account_id, fill.fill_id), fill)
            yield
            if self._new_rules and not (self._waiting_orders or self._waiting_fills):
                yield from self._show_anew()
        for model, records in ((self._orders, replica.orders), (self._fills, replica.fills)):
            if model.total > len(records) + SPARE:  # the replica knows which are the oldest: they come late
                model.retain(records)
        self.changed.emit()

    def _show_anew(self) -> Iterator[None]:
        """Write again what is of markets whose rules are known now, and with them the digits of their prices."""
        instruments = set(self._new_rules)
        self._new_rules.clear()
        for model, records in self._tables():
            keys = iter(list(records))
            while some := list(islice(keys, 4 * _SLICE)):
                for key in some:
                    record = records.get(key)  # it may have gone meanwhile
                    if record is not None and instrument_of(record) in instruments:
                        model.put(key, record)
                yield

    def _tables(self) -> tuple[tuple[RecordModel[Any], Mapping[Any, Record]], ...]:
        replica = self._replica
        return (
            (self._open, replica.open_orders),
            (self._orders, replica.orders),
            (self._positions, replica.positions),
            (self._fills, replica.fills),
        )


def _put(model: RecordModel[Any], key: Any, record: Record | None) -> None:
    """Show a record, or none in its place."""
    if record is None:
        model.remove(key)
    else:
        model.put(key, record)
