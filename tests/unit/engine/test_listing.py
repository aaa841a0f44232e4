"""Every client knows the rules of what it is told about, also of a venue that joins later; over the real link."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import StreamState, StreamStatus
from koc_qt.domain.orders import Order
from koc_qt.domain.state import PositionSnapshot, StrategySpec, VenueSnapshot, VenueState
from koc_qt.engine.bus import Bus
from koc_qt.engine.listing import PAGE, Listing
from koc_qt.engine.store import Store
from koc_qt.link.auth import Gatekeeper
from koc_qt.link.client import LinkClient
from koc_qt.link.codec import decode_fact, encode_fact, number_fact
from koc_qt.link.connection import EngineAddress
from koc_qt.link.keys import load_or_create_keys
from koc_qt.link.messages import (
    InstrumentsAdded,
    OrderChanged,
    PositionChanged,
    Snapshot,
    StrategyChanged,
    StreamChanged,
    VenueChanged,
)
from koc_qt.link.server import LinkServer
from tests.conditions import until
from tests.fakes.link import strategy_snapshot
from tests.fakes.market import FakeDataVenue
from tests.fakes.trading import BTC_RULES, ETH_RULES, NOW_NS, limit_buy
from tests.unit.engine.desk import EngineDesk
from tests.unit.link.clients import Seen


def rules(symbol: str, venue: str = "there") -> Instrument:
    return Instrument(InstrumentId(venue, symbol), symbol.partition("/")[0], "USDT", Decimal("0.5"), Decimal("0.01"))


def order_of(instrument: InstrumentId, key: str = "k1") -> Order:
    return Order(key, "manual", "sim", limit_buy(instrument=instrument), NOW_NS, NOW_NS)


TRADED, PLANNED, FOLLOWED, OTHER = (rules(f"{name}/USDT") for name in ("TRADED", "PLANNED", "FOLLOWED", "OTHER"))


@asynccontextmanager
async def served(engine: EngineDesk, folder: Path) -> AsyncIterator[tuple[LinkServer, LinkClient, Seen]]:
    """Give a client of the engine, as windows are, which connects again where it is lost."""
    keys = load_or_create_keys(folder / "keys")
    gatekeeper = Gatekeeper(engine.context, keys)
    server = LinkServer(engine.context, "tcp://127.0.0.1:*", keys, engine.commands)
    kind: type[Any]
    for kind in (VenueChanged, OrderChanged, PositionChanged, StrategyChanged, StreamChanged, InstrumentsAdded):
        engine.bus.subscribe(kind, server.publish)
    gatekeeper.start()
    seen = Seen()
    try:
        server.start()
        address = EngineAddress(server.endpoint, keys.engine.public.decode())
        async with LinkClient(lambda: address, keys.client, on_fact=seen, longest_backoff_s=0.01) as client:
            yield server, client, seen
    finally:
        await server.close()
        gatekeeper.close()


async def test_a_venue_that_joins_after_the_window_has_its_rules_known_at_once(
    engine: EngineDesk, tmp_path: Path
) -> None:
    place = FakeDataVenue(engine.clock, "there", [TRADED, PLANNED, FOLLOWED, OTHER])
    engine.store.put_order(order_of(TRADED.id))  # as the journal remembers it
    async with served(engine, tmp_path) as (server, client, seen):
        known = seen.replica.instruments
        assert set(known.values()) == {BTC_RULES, ETH_RULES}  # our own market's, all of them
        engine.market._venues["there"] = place  # type: ignore[index]
        engine.bus.publish(StrategyChanged(strategy_snapshot(spec=StrategySpec("s", "/s.py", "a", (PLANNED.id,), ""))))
        engine.market.connect("there")
        await until(lambda: {TRADED.id, PLANNED.id} <= known.keys())
        assert "there" in seen.replica.venues
        await engine.market.hold(FOLLOWED.id, "chart")
        await until(lambda: FOLLOWED.id in seen.replica.instruments)
        assert OTHER.id not in seen.replica.instruments  # nobody has cause to know it

        [session] = server._sessions.values()
        server._drop(session)  # the connection is lost
        await until(lambda: client.connections == 2 and len(seen.of(Snapshot)) == 2)
        assert known is not seen.replica.instruments
        assert set(seen.replica.instruments) == {*known, TRADED.id, PLANNED.id, FOLLOWED.id}
        engine.bus.publish(OrderChanged(order_of(OTHER.id, "k2")))
        await until(lambda: seen.replica.instruments.get(OTHER.id) == OTHER)
        assert client.gaps == 0


async def test_our_own_market_is_told_whole_in_pages_that_hold_nobody_up() -> None:
    store, bus = Store(), Bus()
    listing, told = Listing(store, bus), list[InstrumentsAdded]()
    bus.subscribe(InstrumentsAdded, told.append)
    ours = [rules(f"S{number}/USDT", "sim") for number in range(2 * PAGE + 1)]
    desk = FakeMarket(store, bus)
    desk.join("sim", ours)
    assert [len(each.instruments) for each in told] == [PAGE]  # the others have their turn later
    await until(lambda: len(told) == 3)
    assert [each for fact in told for each in fact.instruments] == ours
    assert listing.known() == tuple(ours)
    began_s = time.perf_counter()
    encoded = encode_fact(told[0])
    written_s = time.perf_counter() - began_s
    decode_fact(number_fact(1, encoded))
    read_s = time.perf_counter() - began_s - written_s
    assert max(written_s, read_s) < 0.05  # 4 ms; much more where others have the machine

    desk.join("sim", ours)
    assert len(told) == 3, "a pulse of a venue is no reason to tell anything"
    desk.leave("sim")
    desk.join("sim", ours)
    listing.close()
    listing.close()
    assert len(told) == 4


@pytest.mark.parametrize("is_there", [True, False])
def test_rules_are_told_with_what_is_about_them(is_there: bool) -> None:
    store, bus = Store(), Bus()
    listing, told = Listing(store, bus), list[Instrument]()
    bus.subscribe(InstrumentsAdded, lambda fact: told.extend(fact.instruments))
    desk = FakeMarket(store, bus)
    if is_there:
        desk.join("there", [TRADED, PLANNED, FOLLOWED, OTHER])
    amount = Decimal(1)
    position = PositionSnapshot("s", "a", PLANNED.id, amount, amount, amount, amount, amount, NOW_NS)
    for _ in range(2):
        bus.publish(OrderChanged(order_of(TRADED.id)))
        bus.publish(PositionChanged(position))
    if not is_there:
        assert told == []
        desk.join("there", [TRADED, PLANNED, FOLLOWED, OTHER])
    assert told == [TRADED, PLANNED]
    for state in (StreamState.CONNECTED, StreamState.INTERRUPTED):
        status = StreamStatus(FOLLOWED.id, NOW_NS, state, "")
        store.streams[FOLLOWED.id] = status
        bus.publish(StreamChanged(status))
    assert told == [TRADED, PLANNED, FOLLOWED]
    assert listing.known() == (TRADED, PLANNED, FOLLOWED)
    del store.streams[FOLLOWED.id]  # its stream ends: who comes later does not begin with it
    assert listing.known() == (TRADED, PLANNED)


class FakeMarket:
    """What market data does when a venue joins, and when it is lost."""

    def __init__(self, store: Store, bus: Bus) -> None:
        self._store, self._bus = store, bus

    def join(self, name: str, listed: list[Instrument]) -> None:
        self._store.instruments.update({each.id: each for each in listed})
        self._show(name, VenueState.CONNECTED)

    def leave(self, name: str) -> None:
        self._show(name, VenueState.DISCONNECTED)

    def _show(self, name: str, state: VenueState) -> None:
        self._store.venues[name] = VenueSnapshot(name, state, "", 0, "closed", NOW_NS)
        self._bus.publish(VenueChanged(self._store.venues[name]))
