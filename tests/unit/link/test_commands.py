"""Commands and facts over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
import zmq

from koc_qt.domain.errors import KocError, LinkError
from koc_qt.domain.orders import OrderStatus
from koc_qt.domain.state import StrategySpec
from koc_qt.link.client import LinkState
from koc_qt.link.codec import encode_command
from koc_qt.link.messages import (
    PROTOCOL,
    CancelOrder,
    Command,
    DescribeStrategy,
    FetchBars,
    FillRecorded,
    Hello,
    OrderChanged,
    StartStrategy,
    StopStrategy,
    SubmitOrder,
)
from koc_qt.link.server import MAX_COMMANDS
from tests.conditions import until
from tests.fakes.link import BTC, FakeEngine, FakeLink, market_buy
from tests.unit.link.clients import FETCH, Seen, raw


async def test_snapshot_then_facts_then_answers(link: FakeLink) -> None:
    link.engine.place()
    seen, states = Seen(), []
    client = link.client(on_fact=seen, on_state=lambda state, reason: states.append(state))
    snapshot = await client.connect()
    assert [order.client_order_id for order in snapshot.orders] == ["K00001"]
    assert client.state is LinkState.CONNECTED

    assert await client.request(SubmitOrder("paper", market_buy())) == "K00002"
    # the fact was queued before the answer, and so is here
    assert seen.replica.orders["K00002"].status is OrderStatus.ACCEPTED
    link.engine.fill("K00002")
    await until(lambda: seen.of(FillRecorded))
    assert seen.replica.orders == link.engine.orders
    assert list(seen.replica.fills.values()) == list(link.engine.fills.values())
    await client.close()
    await client.close()
    assert states == [LinkState.CONNECTED, LinkState.CLOSED]


class Broken(FakeEngine):
    """An engine with a mistake in it."""

    async def execute(self, command: Command, client_id: str) -> Any:
        raise RuntimeError(f"a mistake in {type(command).__name__}")


async def test_errors_of_commands_are_sentences(link: FakeLink, expected_warnings: list[str]) -> None:
    async with link.client() as client:
        with pytest.raises(KocError, match="there is no open order 'nope'"):
            await client.request(CancelOrder("nope"))
        link.server._handler = Broken()
        with pytest.raises(KocError, match="asked to read the strategy file, and an internal error"):
            await client.request(DescribeStrategy("x.py"))
        assert any("DescribeStrategy of client" in line for line in expected_warnings)
        with pytest.raises(KocError, match="said hello already"):
            await client.request(Hello(PROTOCOL, "1", "again"))
        with pytest.raises(LinkError, match="longer"):
            await client.request(DescribeStrategy("x" * (1 << 20)))


async def test_an_answer_that_cannot_be_encoded(link: FakeLink, expected_warnings: list[str]) -> None:
    class Odd(FakeEngine):
        async def execute(self, command: Command, client_id: str) -> Any:
            return object() if isinstance(command, FetchBars) else "x" * (65 << 20)

    link.server._handler = Odd()
    async with link.client() as client:
        with pytest.raises(KocError, match="the answer cannot be sent"):
            await client.request(FETCH)
        with pytest.raises(KocError, match="too long"):
            await client.request(CancelOrder("K1"))
    assert any("the answer to command" in line for line in expected_warnings)


async def test_a_slow_command_blocks_no_other_and_times_out(link: FakeLink) -> None:
    link.engine.hold = asyncio.Event()
    async with link.client() as client:
        slow = asyncio.create_task(client.request(FETCH))
        await until(lambda: link.engine.commands)
        assert await client.request(SubmitOrder("paper", market_buy())) == "K00001"
        assert not slow.done()
        with pytest.raises(LinkError, match=r"asked to send bars and has not answered within 0\.05 s"):
            await client.request(FETCH, timeout_s=0.05)
        link.engine.hold.set()
        assert await slow == []


async def test_commands_start_in_order(link: FakeLink) -> None:
    async with link.client() as client:
        specs = [StrategySpec(f"s{i}", "/s.py", "paper", (BTC,), "1m") for i in range(40)]
        answers = await asyncio.gather(*(client.request(StartStrategy(spec)) for spec in specs))
    assert answers == [spec.strategy_id for spec in specs]
    assert [command.spec for command, _ in link.engine.commands if isinstance(command, StartStrategy)] == specs


async def test_commands_of_one_client_are_bounded(link: FakeLink) -> None:
    link.engine.hold = asyncio.Event()
    async with link.client() as client:
        held = [asyncio.create_task(client.request(FETCH)) for _ in range(MAX_COMMANDS)]
        await until(lambda: len(link.engine.commands) == MAX_COMMANDS)
        with pytest.raises(KocError, match="64 commands are under way"):
            await client.request(FETCH)
        link.engine.hold.set()
        assert await asyncio.gather(*held) == [[]] * MAX_COMMANDS
        assert await client.request(FETCH) == []


@pytest.mark.expected_warnings("sends commands without reading the answers")
async def test_who_never_reads_answers_is_dropped(link: FakeLink) -> None:
    with raw(link) as client:
        await client.hello()
        body = encode_command(1, StopStrategy("x" * 100_000))  # its answer is as long: buffers are full soon

        def dropped() -> bool:
            with contextlib.suppress(zmq.Again):
                client.socket.send(body, zmq.NOBLOCK)
            return not link.server.clients

        while not dropped():  # noqa: ASYNC110 - sending goes on
            await asyncio.sleep(0)
        assert link.engine.gone == ["raw-1"]


async def test_a_command_runs_to_its_end_without_its_client(link: FakeLink) -> None:
    link.engine.hold = asyncio.Event()
    client = link.client()
    await client.connect()
    request = asyncio.create_task(client.request(FETCH))
    await until(lambda: link.engine.commands)
    await client.close()
    with pytest.raises(LinkError, match="may have been carried out"):
        await request
    await until(lambda: link.engine.gone == ["koc-1"], what="the engine to notice")
    assert len(link.server._tasks) == 1
    link.engine.hold.set()
    await until(lambda: not link.server._tasks)


async def test_two_clients_hear_the_same(link: FakeLink) -> None:
    first, second = Seen(), Seen()
    async with link.client(on_fact=first, name="window") as one, link.client(on_fact=second) as two:
        assert link.server.clients == ["window-1", "koc-2"]
        await asyncio.gather(
            *(client.request(SubmitOrder("paper", market_buy())) for client in (one, two) for _ in range(20))
        )
        await until(lambda: first.replica.orders == second.replica.orders == link.engine.orders)
        assert len(first.of(OrderChanged)) == len(second.of(OrderChanged)) == 40
    await until(lambda: sorted(link.engine.gone) == ["koc-2", "window-1"])
