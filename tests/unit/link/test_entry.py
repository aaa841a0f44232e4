"""Who may enter, and what comes of bad frames, over real sockets."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path
from typing import Any

import pytest

from koc_qt.domain.errors import LinkError
from koc_qt.domain.state import StrategySpec
from koc_qt.link.auth import Gatekeeper
from koc_qt.link.client import LinkClient, LinkState, local_engine
from koc_qt.link.codec import encode_command
from koc_qt.link.connection import EngineAddress
from koc_qt.link.keys import KeyPair, export_public, import_authorized
from koc_qt.link.messages import (
    PROTOCOL,
    OrderChanged,
    Refused,
    Reply,
    SubmitOrder,
)
from koc_qt.link.server import MAX_CLIENTS
from tests.conditions import until
from tests.fakes.link import BTC, FakeLink, market_buy, serve, strategy_snapshot
from tests.unit.link.clients import FETCH, Seen, raw


@pytest.mark.expected_warnings("its key is not among those")
async def test_an_unknown_key_is_refused_until_it_is_imported(link: FakeLink, tmp_path: Path) -> None:
    stranger = KeyPair.generate()
    with pytest.raises(LinkError, match=r"does not let this key in: carry it there .*koc keys export"):
        await LinkClient(local_engine(link.run_folder), stranger).connect()
    assert link.gatekeeper.refused == 1
    assert not link.server.clients
    export_public(stranger, tmp_path / "mine.key")
    import_authorized(link.keys.folder, "laptop", tmp_path / "mine.key")
    async with LinkClient(local_engine(link.run_folder), stranger) as client:
        assert client.state is LinkState.CONNECTED


async def test_a_wrong_engine_key_is_noticed(link: FakeLink) -> None:
    address = EngineAddress(link.server.endpoint, KeyPair.generate().public.decode())
    with pytest.raises(LinkError, match="is not the engine whose key we have"):
        await LinkClient(lambda: address, link.keys.client).connect()


async def test_one_gatekeeper_a_context(link: FakeLink) -> None:
    with pytest.raises(LinkError, match="cannot listen at inproc"):
        Gatekeeper(link.context, link.keys).start()


async def test_keys_that_go_bad_while_the_engine_runs(link: FakeLink, expected_warnings: list[str]) -> None:
    (link.keys.authorized_folder / "broken.key").write_text("nonsense")
    async with link.client() as client:
        assert client.state is LinkState.CONNECTED
    assert any("those known before still count" in line for line in expected_warnings)
    with pytest.raises(LinkError, match=r"broken\.key"):
        Gatekeeper(link.context, link.keys).start()


async def test_without_a_gatekeeper_nobody_enters(link: FakeLink) -> None:
    link.gatekeeper.close()
    with pytest.raises(LinkError):
        await link.client().connect(timeout_s=2)
    assert not link.server.clients


@pytest.mark.parametrize(("protocol", "older"), [(PROTOCOL + 1, "engine"), (PROTOCOL - 1, "client")])
async def test_another_version_is_refused(link: FakeLink, protocol: int, older: str) -> None:
    with pytest.raises(LinkError) as caught:
        await link.client(protocol=protocol, version="9.9.9").connect()
    text = str(caught.value)
    assert f"speaks link protocol {PROTOCOL}" in text
    assert f"K.O.C. 9.9.9 and speaks {protocol}" in text
    assert text.endswith(f"update the {older}")
    assert not link.server.clients


async def test_a_refused_client_goes_on_trying_slowly(link: FakeLink) -> None:
    states: list[tuple[LinkState, str]] = []
    client = link.client(
        protocol=99, on_state=lambda *state: states.append(state), longest_backoff_s=0.01, rng=random.Random(1)
    )
    client.start()
    await until(lambda: states)
    assert states[0][0] is LinkState.REFUSED
    with pytest.raises(LinkError, match=r"there is no connection to it \(the engine is K"):
        await client.request(FETCH)
    with pytest.raises(LinkError, match="started before"):
        client.start()
    await client.close()


async def test_an_attempt_that_is_waited_for_can_be_made_at_once(link: FakeLink) -> None:
    attempts: list[int] = []
    locate = local_engine(link.run_folder)

    def counting() -> EngineAddress:
        attempts.append(1)
        return locate()

    refused: list[str] = []
    client = LinkClient(
        counting,
        link.keys.client,
        protocol=99,
        on_state=lambda _state, reason: refused.append(reason),
        longest_backoff_s=3_600.0,
    )
    client.hurry()  # nothing is waited for yet, so that this means nothing
    client.start()
    await until(lambda: refused)
    assert len(attempts) == 1
    client.hurry()
    await until(lambda: len(attempts) == 2)
    await client.close()


async def test_clients_are_bounded(link: FakeLink) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(MAX_CLIENTS):
            await stack.enter_async_context(link.client(context=link.context))
        with pytest.raises(LinkError, match="already has 32 clients"):
            await link.client().connect()


async def test_an_engine_that_cannot_describe_itself(link: FakeLink, expected_warnings: list[str]) -> None:
    link.engine.snapshot = lambda: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(LinkError, match="cannot describe its state"):
        await link.client().connect()
    assert any("snapshot cannot be made" in line for line in expected_warnings)


async def test_garbage_is_ignored_and_counted(link: FakeLink) -> None:
    frames = [b"\xc1", b"hello", b"\x93\x01\x02\x03", b"\x92\x01\x80", b"\x91" * 5_000, b"\x92\x01" + b"\x91" * 100_000]
    with raw(link) as client:
        for frame in frames:
            client.socket.send(frame)
        client.socket.send_multipart([b"a", b"b"])
        await until(lambda: link.server.garbage == len(frames) + 1)
        await client.hello()
        for frame in frames:
            client.socket.send(frame)
        await until(lambda: link.server.garbage == 2 * len(frames) + 1)
        # Commands whose number could be read are answered.
        error = (await client.fact())[1]
        assert isinstance(error, Reply)
        assert error.number == 1
        assert "cannot read this command" in error.error
        assert link.server.clients == ["raw-1"]


async def test_an_order_that_makes_no_sense_is_answered(link: FakeLink) -> None:
    body = encode_command(7, SubmitOrder("paper", market_buy("0.25"))).replace(b"0.25", b"-0.5")
    with raw(link) as client:
        await client.hello()
        client.socket.send(body)
        reply = (await client.fact())[1]
    assert isinstance(reply, Reply)
    assert reply.number == 7
    assert "quantity must be a number above zero" in reply.error
    assert not link.engine.commands


async def test_a_huge_frame_ends_the_connection_and_nothing_else(link: FakeLink) -> None:
    seen = Seen()
    async with link.client(on_fact=seen):
        with raw(link) as client:
            await client.hello()
            client.socket.send(bytes(2 << 20))
            await until(lambda: link.engine.gone == ["raw-2"], what="the engine to drop it")
        link.engine.place()
        await until(lambda: seen.of(OrderChanged))


async def test_who_never_said_hello_is_told_so(link: FakeLink) -> None:
    with raw(link) as client:
        client.send(FETCH)
        first = (await client.fact())[1]
        client.socket.send(b"")
        second = (await client.fact())[1]
    assert isinstance(first, Refused)
    assert "say hello first" in first.reason
    assert isinstance(second, Refused)
    assert not link.engine.commands


async def test_the_client_counts_garbage_and_goes_on(link: FakeLink) -> None:
    seen = Seen()
    async with link.client(on_fact=seen) as client:
        (session,) = link.server._sessions.values()
        link.server._send_to(session.identity, b"\xc1")
        link.server._socket.send_multipart([session.identity, b"a", b"b"])  # type: ignore[union-attr]
        link.engine.place()
        await until(lambda: seen.of(OrderChanged))
        assert client.garbage == 2


async def test_handlers_that_raise_are_isolated(link: FakeLink, expected_warnings: list[str]) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a bug in a window")

    async with link.client(on_fact=fail, on_state=fail) as client:
        assert await client.request(SubmitOrder("paper", market_buy())) == "K00001"
        link.engine.disconnected = fail  # type: ignore[method-assign]
    await until(lambda: not link.server.clients)
    assert len([line for line in expected_warnings if "failed on" in line or "could not take leave" in line]) >= 3


async def test_a_fact_that_cannot_be_encoded_is_logged(link: FakeLink, expected_warnings: list[str]) -> None:
    seen = Seen()
    async with link.client(on_fact=seen):
        spec = StrategySpec("odd", "/s.py", "paper", (BTC,), "1m", {"p": object()})
        link.engine.show(strategy_snapshot(spec=spec))
        link.engine.place()
        await until(lambda: seen.of(OrderChanged))
    assert any("StrategyChanged cannot be sent" in line for line in expected_warnings)


async def test_an_engine_on_ipv6(tmp_path: Path) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    async with serve(tmp_path, endpoint="tcp://[::1]:*") as link:
        assert link.server.endpoint.startswith("tcp://[::1]:")
        async with link.client() as client:
            assert client.state is LinkState.CONNECTED
