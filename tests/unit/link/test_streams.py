"""Market data, slow readers and gaps over real sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from koc_qt.domain.errors import KocError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.link.client import LinkState
from koc_qt.link.messages import (
    BarChanged,
    OrderChanged,
    QuoteChanged,
    Reply,
    RequestSnapshot,
    Resync,
    Snapshot,
    StopStrategy,
    Subscribe,
    Unsubscribe,
)
from koc_qt.link.replica import Replica
from tests.conditions import until
from tests.fakes.link import BTC, START_NS, FakeLink, serve
from tests.unit.link.clients import Seen, raw


async def test_market_data_goes_to_subscribers_alone(link: FakeLink) -> None:
    first, second = Seen(), Seen()
    async with link.client(on_fact=first) as one, link.client(on_fact=second) as two:
        await one.request(Subscribe(BTC, ("1m",)))
        link.engine.quote(1)
        link.engine.quote(2, InstrumentId("sim", "ETH/USDT"))
        link.engine.publish(bar(timeframe="5m"))
        link.engine.publish(bar())
        await until(lambda: first.of(BarChanged))
        assert [fact.quote.bid for fact in first.of(QuoteChanged)] == [1]
        assert [fact.bar.timeframe for fact in first.of(BarChanged)] == ["1m"]
        await one.request(Unsubscribe(BTC))
        link.engine.quote(3)
        link.engine.place()
        await until(lambda: first.of(OrderChanged) and second.of(OrderChanged))
        assert len(first.of(QuoteChanged)) == 1
        assert not second.of(QuoteChanged)
        assert not second.of(BarChanged)
        assert two.gaps == one.gaps == 0


async def test_a_refused_subscription_streams_nothing(link: FakeLink) -> None:
    seen, other = Seen(), InstrumentId("sim", "NO/PE")
    async with link.client(on_fact=seen) as client:
        with pytest.raises(KocError, match="there is no instrument sim:NO/PE"):
            await client.request(Subscribe(other))
        with pytest.raises(KocError, match="1000 streams"):
            await client.request(Subscribe(BTC, tuple(f"{i}m" for i in range(1_000))))
        link.engine.quote(1, other)
        link.engine.place()
        await until(lambda: seen.of(OrderChanged))
        assert not seen.of(QuoteChanged)


async def test_of_market_data_the_newest_is_kept_and_a_closed_bar_never_lost(link: FakeLink) -> None:
    seen = Seen()
    async with link.client(on_fact=seen) as client:
        await client.request(Subscribe(BTC, ("1m",)))
        for number in range(1, 1_001):  # without a turn of the loop: nothing can be sent meanwhile
            link.engine.quote(number)
            link.engine.publish(bar(close=number, closed=number % 100 == 0))
        await until(lambda: seen.of(QuoteChanged))
        assert [fact.quote.bid for fact in seen.of(QuoteChanged)] == [1_000]
        assert [fact.bar.close for fact in seen.of(BarChanged)] == list(range(100, 1_001, 100))
        assert client.gaps == 0


def bar(timeframe: str = "1m", close: float = 1.0, *, closed: bool = False) -> BarChanged:
    return BarChanged(Bar(BTC, timeframe, START_NS, 1.0, 1.0, 1.0, close, 1.0), closed)


async def test_orders_are_never_dropped_for_a_slow_reader_within_the_limit(link: FakeLink) -> None:
    with raw(link) as client:
        await client.hello()
        for _ in range(9_000):
            link.engine.place()
        await until(lambda: link.server._retry_timer is not None, what="the client's pipe to be full")
        got = [await client.fact() for _ in range(9_000)]
    assert [sequence for sequence, _ in got] == list(range(1, 9_001))
    assert [fact.order.client_order_id for _, fact in got if isinstance(fact, OrderChanged)] == list(link.engine.orders)
    assert link.server.resyncs == 0


async def test_a_reader_that_is_slower_still_is_told_to_resync(tmp_path: Path) -> None:
    async with serve(tmp_path, queue_limit=1_000) as link:
        with raw(link) as client:
            await client.hello()
            waiting = client.send(StopStrategy("nope"))  # its answer survives
            await until(lambda: link.engine.commands)
            for _ in range(10_000):
                link.engine.place()
            assert link.server.resyncs == 1
            replica, sequence = Replica(), 0
            replies = []
            while True:
                number, fact = await client.fact()
                if isinstance(fact, Resync):
                    break
                if isinstance(fact, Reply):
                    replies.append(fact.number)
                else:
                    assert number == sequence + 1
                    sequence = number
            assert replies == [waiting]
            assert sequence < 9_000
            client.send(RequestSnapshot())
            number, snapshot = await client.fact()
            assert number == 0
            replica.apply(snapshot)
            assert replica.orders == link.engine.orders
            assert isinstance((await client.fact())[1], Reply)
            link.engine.place()
            number, fact = await client.fact()
            assert (number, type(fact)) == (1, OrderChanged)


async def test_a_client_mends_itself_after_a_burst(tmp_path: Path) -> None:
    seen = Seen()
    async with serve(tmp_path, queue_limit=100) as link, link.client(on_fact=seen) as client:
        for _ in range(10_000):
            link.engine.place()
        await until(lambda: seen.replica.orders == link.engine.orders)
        assert link.server.resyncs >= 1
        assert client.state is LinkState.CONNECTED
        assert client.connections == 1
        link.engine.fill("K00001")
        await until(lambda: seen.replica.orders == link.engine.orders and seen.replica.fills)


async def test_a_gap_is_noticed_and_mended(link: FakeLink) -> None:
    seen = Seen()
    async with link.client(on_fact=seen) as client:
        link.engine.place()
        await until(lambda: seen.of(OrderChanged))
        (session,) = link.server._sessions.values()
        session._sequence += 1  # one fact is lost on the way
        link.engine.place()
        link.engine.place()
        await until(lambda: len(seen.of(Snapshot)) == 2)
        assert client.gaps == 1
        assert len(seen.of(OrderChanged)) == 1  # what follows a gap is not shown before the snapshot
        link.engine.place()
        await until(lambda: len(seen.of(OrderChanged)) == 2)
        assert seen.replica.orders == link.engine.orders
        assert client.gaps == 1


async def test_one_snapshot_at_a_time(link: FakeLink) -> None:
    async with link.client() as client:
        outcomes = await asyncio.gather(*(client.request(RequestSnapshot()) for _ in range(3)), return_exceptions=True)
    assert outcomes[0] is None
    assert all("already on its way" in str(outcome) for outcome in outcomes if outcome is not None)
