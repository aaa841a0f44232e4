"""Records of the orders panel, whatever their kind: what they are about, which are selected, which a filter means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.orders import Fill, Order
from koc_qt.domain.state import PositionSnapshot
from koc_qt.ui.tables.view import RecordTable

Record = Order | PositionSnapshot | Fill


def instrument_of(record: Record) -> InstrumentId:
    """Give what a record is about."""
    return record.request.instrument if isinstance(record, Order) else record.instrument


def selected(table: RecordTable[Any]) -> Iterator[Any]:
    """Give the selected records one by one: most questions about ten thousand are answered by the first."""
    selection = table.selectionModel().selection()
    ranges = sorted((each.top(), each.bottom()) for each in map(selection.at, range(selection.size())))
    for top, bottom in ranges:
        for row in range(top, bottom + 1):
            if (record := table.records.record_at(row)) is not None:
                yield record


def matcher(text: str) -> Callable[[Record], bool]:
    """Tell records that have every word of a text in what they are known by."""
    words = text.split()

    @cache  # ten thousand fills are of a handful of strategies and symbols
    def is_meant(strategy_id: str, instrument: InstrumentId, account_id: str) -> bool:
        known_by = f"{strategy_id} {instrument} {account_id}".casefold()
        return all(word in known_by for word in words)

    return lambda record: is_meant(record.strategy_id, instrument_of(record), record.account_id)
