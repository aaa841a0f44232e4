"""Engine and client losing each other, over real sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from koc_qt.domain.errors import KocError, LinkError, NotSent
from koc_qt.domain.state import EngineState
from koc_qt.link.client import LinkClient, LinkState, local_engine
from koc_qt.link.codec import PING
from koc_qt.link.connection import EngineAddress
from koc_qt.link.messages import (
    EngageKillSwitch,
    EngineStopped,
    OrderChanged,
    Refused,
)
from tests.conditions import until
from tests.fakes.link import FakeEngine, FakeLink, serve
from tests.unit.link.clients import FETCH, Seen, raw


async def test_reconnects_to_a_restarted_engine_with_a_fresh_snapshot(tmp_path: Path) -> None:
    seen, states = Seen(), []
    async with serve(tmp_path) as link:
        client = link.client(on_fact=seen, on_state=lambda *state: states.append(state))
        await client.connect()
        link.engine.place()
        await until(lambda: seen.of(OrderChanged))
    await until(lambda: client.state is LinkState.LOST)
    assert [fact.reason for fact in seen.of(EngineStopped)] == ["the fake engine was stopped"]
    assert states[1] == (LinkState.LOST, "the engine has stopped: the fake engine was stopped")
    with pytest.raises(NotSent, match="The engine was not asked to engage the kill switch: there is no connection"):
        await client.request(EngageKillSwitch("now"))
    await until(lambda: "no engine runs on this profile" in client.reason)
    engine = FakeEngine()
    engine.place()
    engine.place()
    async with serve(tmp_path, engine):
        await until(lambda: client.state is LinkState.CONNECTED)
        assert client.connections == 2
        assert list(seen.replica.orders) == ["K00001", "K00002"]
        await client.request(EngageKillSwitch("now"))
        assert seen.replica.engine is not None
        assert seen.replica.engine.state is EngineState.HALTED
        await client.close()


async def test_the_engine_waits_until_its_last_word_was_heard(link: FakeLink) -> None:
    with raw(link) as slow:
        await slow.hello()
        closing = asyncio.create_task(link.server.close("the fake engine was stopped", grace_s=30.0))
        while not isinstance((await slow.fact())[1], EngineStopped):
            pass
        assert not closing.done()
        slow.socket.send(PING)
        await until(closing.done, timeout_s=10.0)


async def test_the_engine_waits_for_nobody_for_ever(link: FakeLink) -> None:
    with raw(link) as deaf:
        await deaf.hello()
        await asyncio.wait_for(link.server.close("the fake engine was stopped", grace_s=0.05), 10.0)


async def test_a_silent_engine_is_noticed(link: FakeLink) -> None:
    client = link.client(silence_s=0.3)
    await client.connect()
    link.server._watch.close()  # the engine hangs: its sockets are open, but nobody reads
    link.server._tick_timer.cancel()  # type: ignore[union-attr]
    await until(lambda: client.state is LinkState.LOST)
    assert client.reason == "the engine has been silent for 0.3 s"
    await client.close()


async def test_an_engine_that_never_answers_hello(link: FakeLink) -> None:
    link.server._watch.close()
    with pytest.raises(LinkError, match=r"did not answer within 0\.2 s"):
        await link.client().connect(timeout_s=0.2)


async def test_an_engine_that_sends_no_snapshot(link: FakeLink) -> None:
    link.server._watch.close()
    client = link.client(snapshot_timeout_s=0.1, silence_s=60)
    with pytest.raises(LinkError, match=r"sent no snapshot within 0\.1 s"):
        await client.connect()


async def test_nobody_there(tmp_path: Path) -> None:
    async with serve(tmp_path) as link:
        address = EngineAddress(link.server.endpoint, link.keys.engine.public.decode())
        keys = link.keys
    with pytest.raises(LinkError, match="nothing listens at"):
        await LinkClient(lambda: address, keys.client).connect()
    with pytest.raises(LinkError, match="no engine runs on this profile"):
        await LinkClient(local_engine(tmp_path / "run"), keys.client).connect()
    with pytest.raises(LinkError, match="'nonsense' is of no use"):
        await LinkClient(lambda: EngineAddress("nonsense", address.server_key), keys.client).connect()
    with pytest.raises(LinkError, match="is of no use"):
        await LinkClient(lambda: EngineAddress(address.endpoint, "short"), keys.client).connect()


async def test_a_silent_client_expires(tmp_path: Path) -> None:
    async with serve(tmp_path, expiry_s=0.2) as link:
        with raw(link) as client:
            await client.hello()
            await until(lambda: link.engine.gone == ["raw-1"])
            assert not link.server.clients
            client.socket.send(b"")
            while not isinstance(fact := (await client.fact())[1], Refused):
                pass
            assert "does not know this connection any more" in fact.reason


async def test_a_client_that_expired_comes_back_by_itself(tmp_path: Path) -> None:
    async with serve(tmp_path) as link, link.client() as client:
        (session,) = link.server._sessions.values()
        link.server._drop(session)
        await until(lambda: client.connections == 2 and client.state is LinkState.CONNECTED)
        assert link.server.clients == ["koc-2"]


async def test_closing_waits_for_commands_and_gives_up_on_slow_ones(tmp_path: Path) -> None:
    engine = FakeEngine(hold=asyncio.Event())
    async with serve(tmp_path, engine) as link:
        client = link.client()
        await client.connect()
        request = asyncio.create_task(client.request(FETCH))
        await until(lambda: engine.commands)
        await link.server.close(grace_s=0.05)
        await link.server.close()
        with pytest.raises(KocError, match="the engine stopped before this was done"):
            await request
        await client.close()


async def test_the_port_is_taken(link: FakeLink, tmp_path: Path) -> None:
    with pytest.raises(LinkError, match=r"cannot listen at tcp://127\.0\.0\.1:\d+: .*choose another endpoint"):
        async with serve(tmp_path / "other", endpoint=link.server.endpoint):
            pass
