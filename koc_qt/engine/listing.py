"""The instruments whose rules every client is told: with its snapshot, and at once when there are more of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import StreamState, StreamStatus
from koc_qt.domain.state import VenueSnapshot, VenueState
from koc_qt.engine.bus import Bus
from koc_qt.engine.store import Store
from koc_qt.link.messages import (
    InstrumentsAdded,
    OrderChanged,
    PositionChanged,
    StrategyChanged,
    StreamChanged,
    VenueChanged,
)

PAGE = 200  # instruments a fact: less than 1 ms to encode, and to decode
PAGE_S = 0.02  # between two pages: many hold up nobody's loop
ORDERS = 10_000  # closed ones that clients are told of
_AWAY = (VenueState.CONNECTING, VenueState.DISCONNECTED)


class Listing:
    """Tells clients the rules of what is traded or followed, and of all that our own markets have.

    A real venue has thousands of instruments more, which are asked for (`Catalogue`). For the loop's thread.
    """

    def __init__(self, store: Store, bus: Bus) -> None:
        self._store = store
        self._bus = bus
        self._kept: set[InstrumentId] = set()  # what orders, positions and strategies of this run are about
        self._joined: set[str] = set()  # venues that have named their instruments
        self._waiting: dict[InstrumentId, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        bus.subscribe(OrderChanged, lambda fact: self._keep(fact.order.request.instrument))
        bus.subscribe(PositionChanged, lambda fact: self._keep(fact.position.instrument))
        bus.subscribe(StrategyChanged, lambda fact: self._keep(*fact.strategy.spec.instruments))
        bus.subscribe(StreamChanged, lambda fact: self._on_stream(fact.stream))
        bus.subscribe(VenueChanged, lambda fact: self._on_venue(fact.venue))

    def known(self) -> tuple[Instrument, ...]:
        """Give the rules that a client begins with; facts tell it the others."""
        store, wanted = self._store, self._wanted()
        ours = {name for name in store.venues if _is_ours(name)}
        return tuple(each for key, each in store.instruments.items() if key in wanted or key.venue in ours)

    def close(self) -> None:
        """Tell nothing any more. Safe to call twice."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._waiting.clear()

    def _wanted(self) -> set[InstrumentId]:
        """Give what is traded or followed, whether or not its rules are known yet."""
        store = self._store
        wanted = {instrument for each in store.strategies.values() for instrument in each.spec.instruments}
        wanted |= {order.request.instrument for order in store.recent_orders(ORDERS)}
        wanted |= {instrument for _, _, instrument in store.positions}  # of all fills, however old
        return wanted | self._kept | store.quotes.keys() | store.streams.keys()

    def _keep(self, *instruments: InstrumentId) -> None:
        new = [each for each in instruments if each not in self._kept]
        if new:
            self._kept.update(new)
            self._tell(new)

    def _on_stream(self, stream: StreamStatus) -> None:
        if stream.state is StreamState.CONNECTED and stream.instrument not in self._kept:
            self._tell([stream.instrument])

    def _on_venue(self, venue: VenueSnapshot) -> None:
        name = venue.venue
        if venue.state in _AWAY:
            self._joined.discard(name)
        elif name not in self._joined:
            self._joined.add(name)
            listed = [each for each in self._store.instruments if each.venue == name]
            wanted = set(listed) if _is_ours(name) else self._wanted()
            self._tell(each for each in listed if each in wanted)

    def _tell(self, instruments: Iterable[InstrumentId]) -> None:
        """Tell those whose rules are known; the others follow when their venue joins."""
        self._waiting.update((each, None) for each in instruments if each in self._store.instruments)
        if self._waiting and self._timer is None:
            self._tell_page()

    def _tell_page(self) -> None:
        self._timer = None
        page = [*self._waiting][:PAGE]
        for each in page:
            del self._waiting[each]
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(PAGE_S, self._tell_page)
        rules = self._store.instruments
        self._bus.publish(InstrumentsAdded(tuple(rules[each] for each in page)))


def _is_ours(venue: str) -> bool:
    return venue.startswith("sim")
