"""History over real sockets: in pages, between everything else, to whoever reads it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from koc_qt.domain.backtests import BacktestResult, BacktestSpec, RoundTrip
from koc_qt.domain.errors import LinkError
from koc_qt.domain.orders import Fill
from koc_qt.link.history import PAGE
from koc_qt.link.messages import (
    Command,
    HistoryPage,
    OrderChanged,
    RequestSnapshot,
    Resync,
    Snapshot,
)
from koc_qt.link.results import fetch_result
from tests.conditions import until
from tests.fakes.link import BTC, RESULT_PAGE, START_NS, FakeEngine, FakeLink, serve
from tests.unit.link.clients import RawClient, Seen, raw

COUNT = 3 * PAGE + 17


def experienced(recent: int = 10) -> FakeEngine:
    """Give an engine that has traded before, and has an open order."""
    engine = FakeEngine(recent=recent)
    engine.place()
    for _ in range(COUNT):
        engine.fill(engine.place().client_order_id)
    return engine


def is_whole(seen: Seen, engine: FakeEngine) -> bool:
    """Whether a client knows what the engine does."""
    return seen.replica.has_history and seen.replica.orders == engine.orders


async def test_history_follows_in_pages_while_life_goes_on(tmp_path: Path) -> None:
    seen = Seen()
    async with serve(tmp_path, experienced()) as link, link.client(on_fact=seen) as client:
        [snapshot] = seen.of(Snapshot)
        assert snapshot.older == 2 * (COUNT - 10)
        assert [order.is_open for order in snapshot.orders].count(True) == len(seen.replica.open_orders) == 1
        assert len(snapshot.fills) == 10
        while not seen.replica.has_history:
            pages = len(seen.of(HistoryPage))
            link.engine.fill(link.engine.place().client_order_id)
            await until(lambda pages=pages: len(seen.of(HistoryPage)) > pages)  # type: ignore[misc]
        await until(lambda: is_whole(seen, link.engine))
        kinds = [type(fact) for fact in seen]
        first, last = kinds.index(HistoryPage), len(kinds) - kinds[::-1].index(HistoryPage)
        assert OrderChanged in kinds[first:last]
        assert [page.is_last for page in seen.of(HistoryPage)] == [False, False, False, True]
        assert list(seen.replica.fills.values()) == list(link.engine.fills.values())
        assert client.gaps == 0
        assert not link.server._readers


async def test_several_clients_are_told_in_turn(tmp_path: Path) -> None:
    async with serve(tmp_path, experienced()) as link, contextlib.AsyncExitStack() as stack:
        several = [Seen() for _ in range(3)]
        for seen in several:
            await stack.enter_async_context(link.client(on_fact=seen, context=link.context))
        gone = link.client(context=link.context)
        await gone.connect()
        await gone.close()
        for seen in several:
            await until(lambda seen=seen: is_whole(seen, link.engine))  # type: ignore[misc]


async def test_a_new_snapshot_begins_history_anew(tmp_path: Path) -> None:
    seen = Seen()
    async with serve(tmp_path, experienced()) as link, link.client(on_fact=seen) as client:
        await until(lambda: seen.of(HistoryPage))
        link.engine.cancel("K00001")
        await client.request(RequestSnapshot())
        assert not seen.replica.has_history
        await until(lambda: is_whole(seen, link.engine))
        assert list(seen.replica.fills.values()) == list(link.engine.fills.values())
        assert client.gaps == 0


async def next_of(client: RawClient, kind: type[Any]) -> Any:
    """Read until a fact of a kind comes."""
    while True:
        _, fact = await client.fact()
        if isinstance(fact, kind):
            return fact


async def test_a_reader_that_is_too_slow_is_told_history_no_more_before_it_asks(tmp_path: Path) -> None:
    async with serve(tmp_path, experienced(), queue_limit=1_000) as link:
        with raw(link) as client:
            await client.hello()
            await next_of(client, HistoryPage)
            for _ in range(10_000):
                link.engine.place()
            assert link.server.resyncs == 1
            await next_of(client, Resync)
            await until(lambda: not link.server._readers)
            client.send(RequestSnapshot())
            assert (await next_of(client, Snapshot)).older == 2 * (COUNT - 10)
            while not (await next_of(client, HistoryPage)).is_last:
                pass


async def test_who_does_not_read_costs_no_pages(tmp_path: Path) -> None:
    """Of history nothing is encoded while something else waits."""
    async with serve(tmp_path, experienced()) as link:
        with raw(link) as client:
            await client.hello()
            for _ in range(9_000):
                link.engine.place()
            await until(lambda: link.server._retry_timer is not None, what="the client's pipe to be full")
            [session] = [each for each in link.server._sessions.values() if each.client_id.startswith("raw")]
            left = session._history.left
            other = Seen()
            async with link.client(on_fact=other):
                await until(lambda: other.replica.has_history)  # they take turns
            assert session._history.left == left > 0
            while not (await next_of(client, HistoryPage)).is_last:
                pass


# ---- results of back-tests


def long_result() -> BacktestResult:
    """Give a result whose trades and fills are several pages."""
    engine = experienced()
    fills: list[Fill] = list(engine.fills.values())
    trips = [RoundTrip(BTC, 1.0, START_NS + number, 1.0, None, None, 0.0, 1.0) for number in range(RESULT_PAGE + 1)]
    asked = BacktestSpec("/a.py", (BTC,), "1m", 0, 1)
    return BacktestResult(asked, "A", "1m", 9, [1, 2], [1.0, 2.0], trips, fills, {"return": None}, ["a line"])


async def test_a_result_is_fetched_in_pages(link: FakeLink) -> None:
    link.engine.results["b"] = made = long_result()
    async with link.client() as client:
        assert await fetch_result(client, "b", with_fills=True) == made
        assert await fetch_result(client, "b") == msgspec.structs.replace(made, fills=[])


@pytest.mark.parametrize("value", [None, [], {"trades": 7}, {"result": {}, "trade_pages": 1, "fill_pages": 1}])
async def test_an_answer_that_is_no_result_is_refused(link: FakeLink, value: object) -> None:
    class Odd(FakeEngine):
        async def execute(self, command: Command, client_id: str) -> Any:
            return value

    link.server._handler = Odd()
    async with link.client() as client:
        with pytest.raises(LinkError, match="cannot be read"):
            await fetch_result(client, "b")
